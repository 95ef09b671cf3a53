//! Text for people: over the console if the program has one, else over the kernel's own, else nowhere.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use anos_abi::boot;
use anos_interfaces::Bytes;
use anos_interfaces::console::Request;
use anos_interfaces::start::name;
use anos_interfaces::text::INLINE_BYTES;

use crate::capability::{Debug, Endpoint, Slot};
use crate::env;
use crate::sync::Turn;

/// Keeps the pieces of one message together when several threads print.
static TURN: Turn = Turn::new();

/// Where text goes.
#[derive(Clone, Copy)]
enum Sink {
    Console(Endpoint),
    Kernel(Debug),
    Nowhere,
}

impl Sink {
    fn find() -> Self {
        if let Some(console) = env::capability(name::CONSOLE) {
            return Sink::Console(console);
        }
        if env::boot_info().is_some() {
            return Sink::Kernel(Debug::at(Slot::new(boot::slot::DEBUG)));
        }
        env::capability(name::DEBUG).map_or(Sink::Nowhere, Sink::Kernel)
    }

    /// Sends a piece. That somebody can't be told is not worth failing for.
    fn write(self, bytes: &[u8], more: bool) {
        match self {
            Sink::Console(console) => {
                let (bytes, _) = Bytes::take(bytes);
                let _ = console.call(&Request::Write { bytes, more }.message());
            }
            Sink::Kernel(debug) => drop(debug.write(bytes)),
            Sink::Nowhere => {}
        }
    }
}

/// Collects pieces that fill a message.
struct Pieces<F: FnMut(&[u8], bool)> {
    bytes: [u8; INLINE_BYTES],
    filled: usize,
    send: F,
}

impl<F: FnMut(&[u8], bool)> Pieces<F> {
    fn new(send: F) -> Self {
        Pieces { bytes: [0; INLINE_BYTES], filled: 0, send }
    }

    fn add(&mut self, text: &[u8]) {
        for &byte in text {
            if self.filled == INLINE_BYTES {
                (self.send)(&self.bytes, true);
                self.filled = 0;
            }
            if let Some(place) = self.bytes.get_mut(self.filled) {
                *place = byte;
                self.filled += 1;
            }
        }
    }

    fn finish(mut self) {
        if let Some(rest) = self.bytes.get(..self.filled)
            && !rest.is_empty()
        {
            (self.send)(rest, false);
        }
    }
}

impl<F: FnMut(&[u8], bool)> Write for Pieces<F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

/// Text as it is formatted. Unlike a `String`, it says so if there is no memory for it.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    lacks_memory: bool,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.lacks_memory |= self.bytes.try_reserve(text.len()).is_err();
        if self.lacks_memory {
            return Err(fmt::Error);
        }
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// What [`print!`](crate::print!) calls.
pub fn print(arguments: fmt::Arguments<'_>) {
    if let Some(text) = arguments.as_str() {
        return print_whole(text.as_bytes());
    }
    // Formatted before it is this thread's turn: a `Display` may print something itself, or wait for another thread.
    let mut text = Text::default();
    // But for memory, only a `Display` of the program's own can fail here; what came before it is printed.
    let _ = text.write_fmt(arguments);
    if text.lacks_memory {
        // Piece by piece it takes none, though other threads' text may come in between.
        write_pieces(arguments);
    } else {
        print_whole(&text.bytes);
    }
}

fn print_whole(text: &[u8]) {
    let _turn = TURN.take();
    let sink = Sink::find();
    let mut pieces = Pieces::new(|bytes: &[u8], more| sink.write(bytes, more));
    pieces.add(text);
    pieces.finish();
}

/// Prints from a panic, which may have happened while this very thread was printing.
#[cfg_attr(not(anos_guest), expect(dead_code, reason = "the host has a panic handler of its own"))]
pub(crate) fn print_in_panic(arguments: fmt::Arguments<'_>) {
    let _turn = TURN.try_take();
    write_pieces(arguments);
}

fn write_pieces(arguments: fmt::Arguments<'_>) {
    let sink = Sink::find();
    let mut pieces = Pieces::new(|bytes: &[u8], more| sink.write(bytes, more));
    // Only a `Display` of the program's own can fail here; what came before it is printed.
    let _ = pieces.write_fmt(arguments);
    pieces.finish();
}

/// Prints text.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::print::print(::core::format_args!($($argument)*)) };
}

/// Prints text and ends the line.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::print::print(::core::format_args!("{}\n", ::core::format_args!($($argument)*))) };
}

/// Prints text about what went wrong, and ends the line. It goes where all other text goes.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => { $crate::println!($($argument)*) };
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn pieces(text: &str) -> Vec<(String, bool)> {
        let mut sent = Vec::new();
        let mut pieces = Pieces::new(|bytes: &[u8], more| {
            sent.push((String::from_utf8_lossy(bytes).into_owned(), more));
        });
        pieces.write_str(text).expect("never fails");
        pieces.finish();
        sent
    }

    #[test]
    fn a_display_that_prints_does_not_wait_for_itself() {
        struct Loud;
        impl fmt::Display for Loud {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                crate::println!("{} {}", 1, "while another text is formatted");
                formatter.write_str("loud")
            }
        }
        crate::println!("{Loud}");
        assert!(TURN.try_take().is_some(), "the turn came back");
    }

    #[test]
    fn only_the_last_piece_says_that_nothing_follows() {
        assert_eq!(pieces(""), []);
        assert_eq!(pieces("hello\n"), [(String::from("hello\n"), false)]);
        let text = "x".repeat(INLINE_BYTES);
        assert_eq!(pieces(&text), [(text.clone(), false)]);
        let long = std::format!("{text}y");
        assert_eq!(pieces(&long), [(text, true), (String::from("y"), false)]);
    }
}
