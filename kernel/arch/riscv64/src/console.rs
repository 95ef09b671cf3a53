//! The kernel's own console: the firmware's, byte by byte. For boot errors, panics, kernel faults and
//! `Debug.DebugWrite`; the serial line itself belongs to a driver.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::sbi;

static DEBUG_CONSOLE: AtomicBool = AtomicBool::new(false);

/// Finds out which console the firmware has.
pub fn initialise() {
    DEBUG_CONSOLE.store(sbi::has_debug_console(), Ordering::Relaxed);
}

/// Writes bytes; line ends get their carriage return.
pub fn write(bytes: &[u8]) {
    let debug_console = DEBUG_CONSOLE.load(Ordering::Relaxed);
    // Two calls rather than one through a pointer: the kernel has no indirect calls.
    let put = |byte| if debug_console { sbi::debug_console_write(byte) } else { sbi::legacy_write(byte) };
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

/// Writes a number as `0x` and 16 digits.
pub fn hexadecimal(number: u64) {
    write(&anos_core::hexadecimal(number));
}

/// Writes a number.
pub fn decimal(number: u64) {
    let mut digits = [b'0'; 20];
    let mut rest = number;
    let mut length = 1;
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        if rest > 0 {
            length = place + 1;
        }
        *digit = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
    write(digits.get(digits.len() - length..).unwrap_or(&digits));
}

/// For panics, which come with formatted text.
#[derive(Debug)]
pub struct Formatted;

impl fmt::Write for Formatted {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self::text(text);
        Ok(())
    }
}
