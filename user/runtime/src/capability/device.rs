//! What drivers need, and the kernel's own console.

use anos_abi::Error;
use anos_abi::object::Method;
use anos_interfaces::Bytes;

use super::{Notification, Slot, capabilities, invoke};

capabilities! {
    /// The right to one interrupt line.
    Interrupt;
    /// The right to a range of I/O ports (x86-64).
    IoPort;
    /// The right to make Interrupt capabilities.
    InterruptControl;
    /// The right to make IoPort capabilities.
    IoPortControl;
    /// The kernel's console, counters, and power switch.
    Debug;
}

impl Interrupt {
    /// Connects it to a Notification, whose badge will be signalled, and unmasks the line.
    pub fn bind(self, notification: Notification) -> Result<(), Error> {
        invoke(self.0, Method::InterruptBind, &[], Some(notification.0), None).map(|_| ())
    }

    /// The driver is done: the line may interrupt again.
    pub fn acknowledge(self) -> Result<(), Error> {
        invoke(self.0, Method::InterruptAck, &[], None, None).map(|_| ())
    }

    /// Disconnects and masks the line.
    pub fn unbind(self) -> Result<(), Error> {
        invoke(self.0, Method::InterruptUnbind, &[], None, None).map(|_| ())
    }
}

impl IoPort {
    /// The first port of the range.
    pub fn first(self) -> Result<u16, Error> {
        let first = crate::env::OWN_TABLE.look(self.0)?.badge;
        u16::try_from(first).map_err(|_| Error::InvalidArgument)
    }

    /// Reads a byte.
    pub fn read_byte(self, port: u16) -> Result<u8, Error> {
        let [value, ..] = invoke(self.0, Method::IoPortIn, &[port.into(), 1], None, None)?;
        let [byte, ..] = value.to_le_bytes();
        Ok(byte)
    }

    /// Writes a byte.
    pub fn write_byte(self, port: u16, value: u8) -> Result<(), Error> {
        invoke(self.0, Method::IoPortOut, &[port.into(), 1, value.into()], None, None).map(|_| ())
    }
}

impl InterruptControl {
    /// Makes the capability for a line, into an empty slot.
    pub fn get(self, line: u64, level_triggered: bool, active_low: bool, slot: Slot) -> Result<Interrupt, Error> {
        let words = [line, level_triggered.into(), active_low.into()];
        invoke(self.0, Method::InterruptControlGet, &words, None, Some(slot))?;
        Ok(Interrupt(slot))
    }
}

impl IoPortControl {
    /// Makes the capability for a range of ports, into an empty slot.
    pub fn get(self, first: u16, last: u16, slot: Slot) -> Result<IoPort, Error> {
        invoke(self.0, Method::IoPortControlGet, &[first.into(), last.into()], None, Some(slot))?;
        Ok(IoPort(slot))
    }
}

/// The kernel's counters since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValues {
    /// System calls.
    pub system_calls: u64,
    /// Interrupts.
    pub interrupts: u64,
    /// Faults.
    pub faults: u64,
    /// Context switches.
    pub switches: u64,
    /// Kicks from core to core.
    pub kicks: u64,
    /// TLB shootdowns.
    pub shootdowns: u64,
    /// Pages of main memory.
    pub memory_pages: u64,
    /// Pages of it that the kernel keeps for itself.
    pub kernel_pages: u64,
}

impl CounterValues {
    /// From the words of the answer.
    pub fn from_words(words: &[u64; 8]) -> Self {
        let [system_calls, interrupts, faults, switches, kicks, shootdowns, memory_pages, kernel_pages] = *words;
        CounterValues { system_calls, interrupts, faults, switches, kicks, shootdowns, memory_pages, kernel_pages }
    }
}

impl Debug {
    /// Writes to the kernel's console.
    pub fn write(self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, taken) = Bytes::take(rest);
            invoke(self.0, Method::DebugWrite, &piece.words(), None, None)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Powers the machine off, or starts it again. Comes back only if the machine can't.
    pub fn reset(self, reboot: bool) -> Error {
        match invoke(self.0, Method::DebugReset, &[reboot.into()], None, None) {
            Ok(_) => Error::Unsupported,
            Err(error) => error,
        }
    }

    /// The kernel's counters.
    pub fn counters(self) -> Result<CounterValues, Error> {
        invoke(self.0, Method::DebugCounters, &[], None, None).map(|words| CounterValues::from_words(&words))
    }
}
