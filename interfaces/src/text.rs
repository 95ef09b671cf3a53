//! Names and short runs of bytes, as message words carry them.

use core::fmt;

/// Bytes that travel in one message behind a length word: seven words.
pub const INLINE_BYTES: usize = 56;
/// Bytes in a [`Name`]: four words.
pub const NAME_BYTES: usize = 32;

/// A short name: up to 32 bytes of UTF-8, padded with zeros. Plain bytes, so that it can lie in a shared page.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Name(pub [u8; NAME_BYTES]);

impl Name {
    /// The name with this text, if it is not too long and holds no zero byte.
    pub fn new(text: &str) -> Option<Self> {
        if text.contains('\0') {
            return None;
        }
        let mut bytes = [0; NAME_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Name(bytes))
    }

    /// Its text: up to the first zero byte or what is no UTF-8.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
        let bytes = self.0.get(..length).unwrap_or_default();
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                bytes.get(..error.valid_up_to()).and_then(|valid| core::str::from_utf8(valid).ok()).unwrap_or_default()
            }
        }
    }

    /// Whether it has no text.
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }

    /// As message words.
    pub fn words(&self) -> [u64; 4] {
        let mut words = [0; 4];
        pack(&self.0, &mut words);
        words
    }

    /// From message words. Words that are missing are zeros, words that are too many don't count.
    pub fn from_words(words: &[u64]) -> Self {
        let mut bytes = [0; NAME_BYTES];
        unpack(words, &mut bytes);
        Name(bytes)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

/// Up to 56 bytes out of a message: a length (and flags above it) in word 0, the bytes in words 1 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    length: usize,
    bytes: [u8; INLINE_BYTES],
}

impl Bytes {
    /// Takes as many of the bytes as fit, and says how many that were.
    pub fn take(from: &[u8]) -> (Self, usize) {
        let length = from.len().min(INLINE_BYTES);
        let mut bytes = [0; INLINE_BYTES];
        for (to, from) in bytes.iter_mut().zip(from) {
            *to = *from;
        }
        (Bytes { length, bytes }, length)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }

    /// As the eight words of a message: bits 0 to 7 of the first are the length, the bits above are the caller's.
    pub fn words(&self) -> [u64; 8] {
        let mut words = [0; 8];
        if let Some((first, rest)) = words.split_first_mut() {
            *first = self.length as u64;
            pack(&self.bytes, rest);
        }
        words
    }

    /// From the words of a message. A length that can't be is taken as the most that fits.
    pub fn from_words(words: &[u64; 8]) -> Self {
        let [first, rest @ ..] = words;
        let length = usize::from(first.to_le_bytes()[0]).min(INLINE_BYTES);
        let mut bytes = [0; INLINE_BYTES];
        unpack(rest, &mut bytes);
        Bytes { length, bytes }
    }
}

/// Bytes into words, the first byte lowest.
fn pack(bytes: &[u8], words: &mut [u64]) {
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    }
}

/// Words into bytes.
fn unpack(words: &[u64], bytes: &mut [u8]) {
    for (bytes, word) in bytes.chunks_mut(8).zip(words) {
        for (to, from) in bytes.iter_mut().zip(word.to_le_bytes()) {
            *to = from;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_name_survives_the_way_through_words() {
        for text in ["", "a", "shell", "exactly-thirty-two-bytes-long-ok", "grüße"] {
            let name = Name::new(text).expect("fits");
            assert_eq!(Name::from_words(&name.words()), name);
            assert_eq!(name.as_str(), text);
        }
    }

    #[test]
    fn a_name_too_long_or_with_a_zero_is_refused() {
        assert_eq!(Name::new("this-name-has-thirty-three-bytes!"), None);
        assert_eq!(Name::new("a\0b"), None);
    }

    #[test]
    fn a_name_from_hostile_words_is_still_text() {
        assert_eq!(Name::from_words(&[u64::MAX; 4]).as_str(), "");
        assert_eq!(Name::from_words(&[0xff_6261, 0, 0, 0]).as_str(), "ab");
        assert_eq!(Name::from_words(&[0x61]).as_str(), "a");
    }

    #[test]
    fn bytes_of_every_length_survive() {
        let all: Vec<u8> = (1..=60).collect();
        for length in 0..=60 {
            let (bytes, taken) = Bytes::take(&all[..length]);
            assert_eq!(taken, length.min(INLINE_BYTES));
            assert_eq!(Bytes::from_words(&bytes.words()).as_slice(), &all[..taken]);
        }
    }

    #[test]
    fn a_length_that_lies_is_cut_to_what_fits() {
        let mut words = [u64::MAX; 8];
        assert_eq!(Bytes::from_words(&words).as_slice().len(), INLINE_BYTES);
        words[0] = 1 << 8;
        assert_eq!(Bytes::from_words(&words).as_slice().len(), 0);
    }

    #[test]
    fn names_print_padded() {
        let name = Name::new("ab").expect("fits");
        assert_eq!(std::format!("{name:4}|"), String::from("ab  |"));
    }
}
