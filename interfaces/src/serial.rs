//! What a serial driver does: bytes out, bytes in. Its one client is the console server.

use anos_abi::Error;

use crate::{Bytes, Message};

/// Sends up to 56 bytes down the line. Words: [`Bytes`]. Answered when the driver has room for them all.
pub const WRITE: u64 = 1 << 16 | 1;
/// Asks for bytes from the line. Answered as soon as there are any. Words out: [`Bytes`]. One reader at a time:
/// a new one takes the place of the one before (which may be dead), and that is refused with
/// [`AlreadyReading`](crate::Refusal::AlreadyReading).
pub const READ: u64 = 1 << 16 | 2;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// [`WRITE`].
    Write(Bytes),
    /// [`READ`].
    Read,
}

impl Request {
    /// As a message.
    pub fn message(&self) -> Message {
        match self {
            Request::Write(bytes) => Message { label: WRITE, words: bytes.words() },
            Request::Read => Message::new(READ, &[]),
        }
    }
}

impl TryFrom<&Message> for Request {
    type Error = Error;

    fn try_from(message: &Message) -> Result<Self, Error> {
        match message.label {
            WRITE => Ok(Request::Write(Bytes::from_words(&message.words))),
            READ => Ok(Request::Read),
            _ => Err(Error::InvalidMethod),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_way_through_a_message() {
        for request in [Request::Write(Bytes::take(b"hello").0), Request::Read] {
            assert_eq!(Request::try_from(&request.message()), Ok(request));
        }
        assert_eq!(Request::try_from(&Message::new(3, &[])), Err(Error::InvalidMethod));
    }
}
