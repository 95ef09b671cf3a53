//! The kernel's own console: the first serial port, by polling. For boot errors, kernel faults and `Debug.DebugWrite`;
//! everything else goes through the serial driver, which owns the port.

use crate::cpu;

/// COM1.
const PORT: u16 = 0x3f8;
/// Line status register; bit 5: the transmitter takes a byte.
const LINE_STATUS: u16 = PORT + 5;
const TRANSMIT_READY: u8 = 1 << 5;
/// Polls before a byte is written regardless: a machine without the port must not hang.
const PATIENCE: u32 = 1 << 16;

/// Writes bytes; a line feed becomes carriage return and line feed.
pub fn write(bytes: &[u8]) {
    for &byte in bytes {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}

/// Writes text.
pub fn text(text: &str) {
    write(text.as_bytes());
}

/// Writes a number as 0x and 16 hexadecimal digits.
pub fn hex(value: u64) {
    write(&anos_core::hexadecimal(value));
}

/// Writes a decimal number.
pub fn decimal(value: u64) {
    let mut digits = [0; 20];
    let (mut rest, mut used) = (value, 0);
    for place in digits.iter_mut().rev() {
        let [digit, ..] = (rest % 10).to_le_bytes();
        *place = b'0' + digit;
        used += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    write(digits.get(digits.len() - used..).unwrap_or(&[]));
}

fn put(byte: u8) {
    for _ in 0..PATIENCE {
        if cpu::in8(LINE_STATUS) & TRANSMIT_READY != 0 {
            break;
        }
    }
    cpu::out8(PORT, byte);
}
