//! What a case says when something isn't as it should be: where, and what.

use core::fmt::{self, Write};
use core::panic::Location;

use anos::{Error, Failure as Refusal};

/// A short text without a heap. What doesn't fit is left out.
#[derive(Clone, Copy)]
pub struct Text {
    bytes: [u8; 96],
    used: usize,
}

impl Text {
    /// No text.
    pub const EMPTY: Text = Text { bytes: [0; 96], used: 0 };

    /// The formatted text.
    pub fn of(arguments: fmt::Arguments<'_>) -> Text {
        let mut text = Text::EMPTY;
        // Writing never fails; a `Debug` that does leaves what it had written.
        let _ = text.write_fmt(arguments);
        text
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let end = self.used + character.len_utf8();
            if let Some(place) = self.bytes.get_mut(self.used..end) {
                character.encode_utf8(place);
                self.used = end;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.get(..self.used).unwrap_or_default();
        formatter.write_str(core::str::from_utf8(bytes).unwrap_or("?"))
    }
}

/// Why a case failed.
#[derive(Clone, Copy)]
pub struct Failure {
    at: &'static Location<'static>,
    text: Text,
}

impl Failure {
    /// Fails here.
    #[track_caller]
    pub fn new(arguments: fmt::Arguments<'_>) -> Failure {
        Failure { at: Location::caller(), text: Text::of(arguments) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.at.file().rsplit('/').next().unwrap_or_default();
        write!(formatter, "{file}:{}: {}", self.at.line(), self.text)
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Failure {
        Failure::new(format_args!("unexpected answer: {error}"))
    }
}

impl From<Refusal> for Failure {
    #[track_caller]
    fn from(refusal: Refusal) -> Failure {
        Failure::new(format_args!("unexpected refusal: {refusal:?}"))
    }
}

/// How a case, or a part of one, ends.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Fails the case unless the condition holds.
macro_rules! check {
    ($condition:expr) => {
        check!($condition, "{}", stringify!($condition))
    };
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err($crate::check::Failure::new(format_args!($($text)*)));
        }
    };
}

/// Fails the case unless the first is what the second says.
macro_rules! equal {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) => check!(*left == *right, "{:x?}, expected {:x?}", left, right),
        }
    };
}

pub(crate) use {check, equal};
