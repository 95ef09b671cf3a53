//! The console: `/dev/console`, which Linux opens for `/init`.

use core::fmt::{self, Write};

use crate::linux::{self, File};

/// The longest line.
const LONGEST: usize = 200;

/// A line as it is put together, so that it is written at once.
struct Line {
    text: [u8; LONGEST],
    length: usize,
}

impl Write for Line {
    /// What is too long is cut off.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.text[self.length..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}

/// Says a line.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = Line { text: [0; LONGEST], length: 0 };
    // Nothing is left to say it with if this fails, and the host waits for the last line.
    let _ = write!(line, "baseline: {text}");
    let end = line.length.min(LONGEST - 1);
    line.text[end] = b'\n';
    let _ = linux::write(File::OUTPUT, &line.text[..=end]);
}
