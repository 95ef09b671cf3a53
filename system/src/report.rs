//! What the root server prints: lines through the kernel's console, which works whatever has happened to the servers,
//! and never makes it wait for one.

use core::fmt::{self, Write};

use anos_abi::CONSOLE_BYTES;
use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_interfaces::text::Bytes;

use crate::kernel::Kernel;

/// Prints one line, `anos: ...`.
pub fn line<K: Kernel>(kernel: &mut K, text: fmt::Arguments<'_>) {
    let mut writer = Writer { kernel, bytes: [0; CONSOLE_BYTES], length: 0 };
    // The writer takes everything, so this can't fail.
    let _ = writeln!(writer, "anos: {text}");
    writer.flush();
}

/// Gathers text into messages of the kernel's console.
struct Writer<'k, K: Kernel> {
    kernel: &'k mut K,
    bytes: [u8; CONSOLE_BYTES],
    length: usize,
}

impl<K: Kernel> Writer<'_, K> {
    fn flush(&mut self) {
        let (bytes, _) = Bytes::take(self.bytes.get(..self.length).unwrap_or_default());
        // Without a console there is nobody to tell.
        let _ = self.kernel.invoke(slot::DEBUG, Method::DebugWrite, &bytes.words(), 0, 0);
        self.length = 0;
    }
}

impl<K: Kernel> Write for Writer<'_, K> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
            if self.length == self.bytes.len() {
                self.flush();
            }
        }
        Ok(())
    }
}

/// A number as people read addresses.
#[derive(Clone, Copy, Debug)]
pub struct Address(pub u64);

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.0)
    }
}
