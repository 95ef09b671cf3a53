//! The driver against a device that behaves like the data sheet.

use super::*;

/// A 16550 on a line that is as fast as the test wants.
#[derive(Default)]
struct Fake {
    enable: u8,
    line_control: u8,
    incoming: VecDeque<u8>,
    fifo: Vec<u8>,
    sent: Vec<u8>,
    /// The transmitter became empty, and nobody was told.
    empty_pending: bool,
    /// An interrupt is pending that nothing takes away.
    stuck: bool,
    /// How often the interrupt was switched off.
    switched_off: u32,
}

impl Fake {
    /// The line takes what is in the FIFO.
    fn drain(&mut self) {
        if !self.fifo.is_empty() {
            self.sent.append(&mut self.fifo);
            self.empty_pending = true;
        }
    }

    fn interrupting(&self) -> bool {
        self.stuck
            || (self.enable & ENABLE_RECEIVED != 0 && !self.incoming.is_empty())
            || (self.enable & ENABLE_TRANSMITTER != 0 && self.empty_pending)
    }
}

impl Registers for Fake {
    fn read(&mut self, register: Register) -> u8 {
        match register {
            Register::Data => self.incoming.pop_front().unwrap_or(0),
            Register::InterruptIdentification => {
                if !self.interrupting() {
                    return NO_INTERRUPT;
                }
                if self.incoming.is_empty() {
                    self.empty_pending = false;
                }
                0
            }
            Register::LineStatus => {
                let received = if self.incoming.is_empty() { 0 } else { STATUS_RECEIVED };
                received | if self.fifo.is_empty() { STATUS_TRANSMITTER_EMPTY } else { 0 }
            }
            _ => 0,
        }
    }

    fn write(&mut self, register: Register, value: u8) {
        let divisor = self.line_control & LINE_DIVISOR != 0;
        match register {
            Register::Data if !divisor => {
                assert!(self.fifo.len() < FIFO_BYTES, "the transmitter's FIFO overran");
                self.fifo.push(value);
                self.empty_pending = false;
            }
            Register::InterruptEnable if !divisor => {
                // Enabling the transmitter's interrupt while it is empty interrupts at once.
                if value & !self.enable & ENABLE_TRANSMITTER != 0 && self.fifo.is_empty() {
                    self.empty_pending = true;
                }
                self.switched_off += u32::from(value == 0);
                self.enable = value;
            }
            Register::LineControl => self.line_control = value,
            _ => {}
        }
    }
}

fn driver() -> Driver<Fake, u32> {
    Driver::new(Fake::default())
}

fn write(driver: &mut Driver<Fake, u32>, bytes: &[u8], token: u32) {
    driver.request(&Request::Write(Bytes::take(bytes).0).message(), token);
}

/// Lets the line and the interrupts run until nothing more happens.
fn run(driver: &mut Driver<Fake, u32>) {
    while !driver.registers.fifo.is_empty() || driver.registers.interrupting() {
        driver.registers.drain();
        if driver.registers.interrupting() {
            assert!(driver.interrupt());
        }
    }
}

#[test]
fn a_short_write_goes_out_and_is_answered_without_an_interrupt() {
    let mut driver = driver();
    write(&mut driver, b"hello", 1);
    assert_eq!(driver.take_answers(), [(1, Message::OK)]);
    assert_eq!(driver.registers.enable, ENABLE_RECEIVED);
    run(&mut driver);
    assert_eq!(driver.registers.sent, b"hello");
}

#[test]
fn a_long_write_goes_out_in_fifo_loads_by_interrupt() {
    let mut driver = driver();
    let text: Vec<u8> = (0..50).collect();
    write(&mut driver, &text, 1);
    assert_eq!(driver.registers.fifo.len(), FIFO_BYTES);
    assert_ne!(driver.registers.enable & ENABLE_TRANSMITTER, 0);
    run(&mut driver);
    assert_eq!(driver.registers.sent, text);
    assert_eq!(driver.registers.enable, ENABLE_RECEIVED, "a transmitter with nothing to do does not interrupt");
}

#[test]
fn writers_wait_for_room_and_their_bytes_stay_in_order() {
    let mut driver = driver();
    let mut expected = Vec::new();
    let count = u8::try_from(QUEUE_BYTES / INLINE_BYTES + 3).expect("fits");
    for token in 0..count {
        let text = [token; INLINE_BYTES];
        expected.extend_from_slice(&text);
        write(&mut driver, &text, token.into());
    }
    let at_once = driver.take_answers().len();
    assert!(at_once < usize::from(count), "somebody has to wait");
    run(&mut driver);
    assert_eq!(driver.take_answers().len(), usize::from(count) - at_once);
    assert_eq!(driver.registers.sent, expected);
}

#[test]
fn a_reader_waits_until_bytes_come() {
    let mut driver = driver();
    driver.request(&Request::Read.message(), 7);
    assert_eq!(driver.take_answers(), []);
    driver.registers.incoming.extend(b"ls\r");
    assert!(driver.interrupt());
    assert_eq!(driver.take_answers(), [(7, Message { label: 0, words: Bytes::take(b"ls\r").0.words() })]);
    assert!(!driver.interrupt(), "the device wants nothing more");
}

#[test]
fn bytes_that_came_before_anybody_asked_are_kept() {
    let mut driver = driver();
    driver.registers.incoming.extend([b'x'; 100]);
    driver.interrupt();
    for expected in [56, 44] {
        driver.request(&Request::Read.message(), 1);
        let answers = driver.take_answers();
        assert_eq!(Bytes::from_words(&answers[0].1.words).as_slice().len(), expected);
    }
}

#[test]
fn a_new_reader_takes_the_place_of_one_that_may_be_dead() {
    let mut driver = driver();
    driver.request(&Request::Read.message(), 1);
    driver.request(&Request::Read.message(), 2);
    assert_eq!(driver.take_answers(), [(1, Message::refusal(Refusal::AlreadyReading))]);
    driver.registers.incoming.extend(b"a");
    driver.interrupt();
    assert_eq!(driver.take_answers(), [(2, Message { label: 0, words: Bytes::take(b"a").0.words() })]);
}

#[test]
fn a_flood_is_cut_off_and_does_no_harm() {
    let mut driver = driver();
    driver.registers.incoming.extend(vec![b'x'; 3 * QUEUE_BYTES]);
    while driver.registers.interrupting() {
        driver.interrupt();
    }
    assert_eq!(driver.receive.len(), QUEUE_BYTES);
}

#[test]
fn a_device_that_is_never_content_is_left_alone_and_raises_its_line_again() {
    let mut driver = driver();
    let before = driver.registers.switched_off;
    driver.registers.stuck = true;
    assert!(driver.interrupt());
    assert_eq!((driver.registers.switched_off - before, driver.registers.enable), (1, ENABLE_RECEIVED));
}

#[test]
fn nonsense_is_refused() {
    let mut driver = driver();
    driver.request(&Message::new(99, &[]), 1);
    assert_eq!(driver.take_answers(), [(1, Message::refusal(anos_abi::Error::InvalidMethod))]);
}
