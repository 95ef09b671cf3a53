//! Output and keys for programs.
//!
//! Input goes to the foreground program. The [`CONTROLLER`] (the shell) says which one that is, and is told when
//! somebody presses the interrupt key (Ctrl-C) while another program is in the foreground; when it is itself, the key
//! is a key like any other.

use anos_abi::Error;

use crate::{Bytes, Message};

/// The role (see [`Badge`](crate::Badge)) of the client that says who is in the foreground.
pub const CONTROLLER: u32 = 1;
/// The interrupt key: Ctrl-C.
pub const INTERRUPT_KEY: u8 = 3;

/// Writes text. Words: [`Bytes`]; in word 0, bit 8 says that more of the same message follows. The console shows a
/// message as a whole (one of more than some hundred bytes at line ends), and makes CR LF of LF.
pub const WRITE: u64 = 2 << 16 | 1;
/// Asks for keys, as the line delivers them. Answered when there are any and the client is in the foreground. Words
/// out: [`Bytes`].
pub const READ: u64 = 2 << 16 | 2;
/// Puts a process into the foreground. Words: its number. For the controller.
pub const FOREGROUND: u64 = 2 << 16 | 3;
/// Answered when the interrupt key is pressed while a program other than the controller is in the foreground. Words
/// out: that program's number. For the controller.
pub const INTERRUPTED: u64 = 2 << 16 | 4;

const MORE: u64 = 1 << 8;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// [`WRITE`].
    Write {
        /// The text.
        bytes: Bytes,
        /// Whether more of the same message follows.
        more: bool,
    },
    /// [`READ`].
    Read,
    /// [`FOREGROUND`].
    Foreground {
        /// The process.
        pid: u32,
    },
    /// [`INTERRUPTED`].
    Interrupted,
}

impl Request {
    /// As a message.
    pub fn message(&self) -> Message {
        match self {
            Request::Write { bytes, more } => {
                let mut message = Message { label: WRITE, words: bytes.words() };
                message.words[0] |= if *more { MORE } else { 0 };
                message
            }
            Request::Read => Message::new(READ, &[]),
            Request::Foreground { pid } => Message::new(FOREGROUND, &[u64::from(*pid)]),
            Request::Interrupted => Message::new(INTERRUPTED, &[]),
        }
    }
}

impl TryFrom<&Message> for Request {
    type Error = Error;

    fn try_from(message: &Message) -> Result<Self, Error> {
        match message.label {
            WRITE => {
                Ok(Request::Write { bytes: Bytes::from_words(&message.words), more: message.words[0] & MORE != 0 })
            }
            READ => Ok(Request::Read),
            FOREGROUND => {
                let pid = u32::try_from(message.words[0]).map_err(|_| Error::InvalidArgument)?;
                Ok(Request::Foreground { pid })
            }
            INTERRUPTED => Ok(Request::Interrupted),
            _ => Err(Error::InvalidMethod),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_way_through_a_message() {
        let bytes = Bytes::take(b"hello").0;
        for request in [
            Request::Write { bytes, more: false },
            Request::Write { bytes, more: true },
            Request::Read,
            Request::Foreground { pid: 7 },
            Request::Interrupted,
        ] {
            assert_eq!(Request::try_from(&request.message()), Ok(request));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Request::try_from(&Message::new(9, &[])), Err(Error::InvalidMethod));
        assert_eq!(Request::try_from(&Message::new(FOREGROUND, &[1 << 32])), Err(Error::InvalidArgument));
    }
}
