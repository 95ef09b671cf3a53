//! The 16550 serial port: what the driver does, without the machine it does it on.
//!
//! - [`Registers`]: how registers are reached, by I/O ports or in memory; a fake one in the tests;
//! - [`Driver`]: the two queues between the line and the driver's client, and the register logic. Requests come in with
//!   a token, and answers go out with it: so an answer can wait until there are bytes, or room.
//!
//! Registers as in the PC16550D data sheet (National Semiconductor, 1995), section 8.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use anos_interfaces::serial::Request;
use anos_interfaces::text::INLINE_BYTES;
use anos_interfaces::{Bytes, Message, Refusal};

/// A register by its offset. Which of two at the same offset is meant, depends on reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Register {
    /// Receiver buffer (read), transmitter holding (write), divisor low (while [`LINE_DIVISOR`] is set).
    Data = 0,
    /// Interrupt enable; divisor high.
    InterruptEnable = 1,
    /// Interrupt identification (read), FIFO control (write).
    InterruptIdentification = 2,
    /// Line control.
    LineControl = 3,
    /// Modem control.
    ModemControl = 4,
    /// Line status.
    LineStatus = 5,
    /// Modem status.
    ModemStatus = 6,
}

/// Interrupt enable: bytes have come.
pub const ENABLE_RECEIVED: u8 = 1 << 0;
/// Interrupt enable: the transmitter is empty.
pub const ENABLE_TRANSMITTER: u8 = 1 << 1;
/// FIFO control: use the FIFOs, interrupt at 8 bytes (or when the line falls silent before). What is in them stays: it
/// may be what a driver that died has left.
const FIFO_ON: u8 = 0b1000_0001;
/// Line control: 8 data bits, no parity, one stop bit.
const LINE_8N1: u8 = 0b11;
/// Line control: the divisor is at offsets 0 and 1.
pub const LINE_DIVISOR: u8 = 1 << 7;
/// Modem control: terminal ready, request to send, and OUT2, which lets the interrupt out on a PC.
const MODEM_READY: u8 = 0b1011;
/// Line status: a byte has come.
pub const STATUS_RECEIVED: u8 = 1 << 0;
/// Line status: the transmitter's FIFO is empty.
pub const STATUS_TRANSMITTER_EMPTY: u8 = 1 << 5;
/// Interrupt identification: no interrupt is pending.
pub const NO_INTERRUPT: u8 = 1 << 0;
/// Bytes in the transmitter's FIFO.
pub const FIFO_BYTES: usize = 16;

/// Bytes that wait in each direction before somebody else has to.
const QUEUE_BYTES: usize = 4096;
/// Interrupt causes handled in a row. A device that still has one more waits for its next interrupt, so that others
/// get their turn.
const MOST_CAUSES: usize = 1024;

/// The way to the registers.
pub trait Registers {
    /// Reads one.
    fn read(&mut self, register: Register) -> u8;
    /// Writes one.
    fn write(&mut self, register: Register, value: u8);
}

/// An answer, and the token of the request it is for.
pub type Answer<T> = (T, Message);

/// The driver.
pub struct Driver<R, T> {
    registers: R,
    /// Bytes on their way out.
    transmit: VecDeque<u8>,
    /// Whether the transmitter will interrupt when it is empty.
    transmitting: bool,
    /// Bytes that came in.
    receive: VecDeque<u8>,
    /// Who waits for bytes.
    reader: Option<T>,
    /// Who waits for room, first come first served.
    writers: VecDeque<(T, Bytes)>,
    answers: Vec<Answer<T>>,
}

impl<R: Registers, T> Driver<R, T> {
    /// Sets the device up: 115200 baud, 8N1, FIFOs on, interrupt when bytes come.
    pub fn new(mut registers: R) -> Self {
        registers.write(Register::InterruptEnable, 0);
        registers.write(Register::LineControl, LINE_DIVISOR);
        registers.write(Register::Data, 1);
        registers.write(Register::InterruptEnable, 0);
        registers.write(Register::LineControl, LINE_8N1);
        registers.write(Register::InterruptIdentification, FIFO_ON);
        registers.write(Register::ModemControl, MODEM_READY);
        registers.write(Register::InterruptEnable, ENABLE_RECEIVED);
        Driver {
            registers,
            transmit: VecDeque::with_capacity(QUEUE_BYTES),
            transmitting: false,
            receive: VecDeque::with_capacity(QUEUE_BYTES),
            reader: None,
            writers: VecDeque::new(),
            answers: Vec::new(),
        }
    }

    /// The answers that have become due.
    pub fn take_answers(&mut self) -> Vec<Answer<T>> {
        core::mem::take(&mut self.answers)
    }

    /// Takes a request.
    pub fn request(&mut self, message: &Message, token: T) {
        match Request::try_from(message) {
            Ok(Request::Write(bytes)) => {
                self.writers.push_back((token, bytes));
                self.admit_writers();
                self.transmit();
            }
            Ok(Request::Read) => {
                // The one before may have died waiting: the driver is not told.
                if let Some(earlier) = self.reader.replace(token) {
                    self.answers.push((earlier, Message::refusal(Refusal::AlreadyReading)));
                }
                self.satisfy_reader();
            }
            Err(error) => self.answers.push((token, Message::refusal(error))),
        }
    }

    /// Serves the device until it wants nothing more. True if it wanted something.
    pub fn interrupt(&mut self) -> bool {
        let mut causes = 0;
        while causes < MOST_CAUSES {
            // Reading this also clears the transmitter's interrupt.
            let identification = self.registers.read(Register::InterruptIdentification);
            if identification & NO_INTERRUPT != 0 {
                break;
            }
            causes += 1;
            // Reading the line status clears a line error, reading the modem status a modem interrupt: neither is
            // enabled, but firmware may have left one.
            let status = self.registers.read(Register::LineStatus);
            self.registers.read(Register::ModemStatus);
            if status & STATUS_RECEIVED != 0 {
                self.receive();
            }
            self.transmit();
        }
        if causes == MOST_CAUSES {
            // It raises its line again: an edge may be what counts.
            self.registers.write(Register::InterruptEnable, 0);
            self.enable();
        }
        self.satisfy_reader();
        causes > 0
    }

    /// Takes what has come. If nobody fetches it for too long, what comes later is lost.
    fn receive(&mut self) {
        for _ in 0..QUEUE_BYTES {
            let byte = self.registers.read(Register::Data);
            if self.receive.len() < QUEUE_BYTES {
                self.receive.push_back(byte);
            }
            if self.registers.read(Register::LineStatus) & STATUS_RECEIVED == 0 {
                break;
            }
        }
    }

    /// Fills the transmitter if it is empty, and has it interrupt as long as there is more to send.
    fn transmit(&mut self) {
        if !self.transmit.is_empty() && self.registers.read(Register::LineStatus) & STATUS_TRANSMITTER_EMPTY != 0 {
            for _ in 0..FIFO_BYTES {
                let Some(byte) = self.transmit.pop_front() else { break };
                self.registers.write(Register::Data, byte);
            }
            self.admit_writers();
        }
        let more = !self.transmit.is_empty();
        if more != self.transmitting {
            self.transmitting = more;
            self.enable();
        }
    }

    /// Says for what the device shall interrupt.
    fn enable(&mut self) {
        let enable = if self.transmitting { ENABLE_RECEIVED | ENABLE_TRANSMITTER } else { ENABLE_RECEIVED };
        self.registers.write(Register::InterruptEnable, enable);
    }

    /// Takes the bytes of those who write, as long as there is room, and answers them.
    fn admit_writers(&mut self) {
        while let Some((_, bytes)) = self.writers.front()
            && self.transmit.len() + bytes.as_slice().len() <= QUEUE_BYTES
        {
            if let Some((token, bytes)) = self.writers.pop_front() {
                self.transmit.extend(bytes.as_slice());
                self.answers.push((token, Message::OK));
            }
        }
    }

    /// Gives the reader what has come.
    fn satisfy_reader(&mut self) {
        if self.receive.is_empty() {
            return;
        }
        let Some(token) = self.reader.take() else { return };
        let count = self.receive.len().min(INLINE_BYTES);
        let piece: Vec<u8> = self.receive.drain(..count).collect();
        let (bytes, _) = Bytes::take(&piece);
        self.answers.push((token, Message { label: 0, words: bytes.words() }));
    }
}

#[cfg(test)]
mod tests;
