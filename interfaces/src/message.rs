//! A message without capabilities: a label and words. And the badge that tells who sent it.

use anos_abi::MESSAGE_WORDS;

use crate::Failure;

/// Label and words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The method, or in an answer 0 or the code of a [`Failure`].
    pub label: u64,
    /// Arguments or results.
    pub words: [u64; MESSAGE_WORDS],
}

impl Message {
    /// The answer of a method that has nothing to say but that it worked.
    pub const OK: Message = Message { label: 0, words: [0; MESSAGE_WORDS] };

    /// A message with the first words given and the rest 0. More than eight words are cut off.
    pub fn new(label: u64, first: &[u64]) -> Self {
        let mut words = [0; MESSAGE_WORDS];
        for (to, from) in words.iter_mut().zip(first) {
            *to = *from;
        }
        Message { label, words }
    }

    /// An answer: success, with the first words given.
    pub fn answer(first: &[u64]) -> Self {
        Message::new(0, first)
    }

    /// An answer: why it did not work.
    pub fn refusal(failure: impl Into<Failure>) -> Self {
        Message::new(failure.into().code(), &[])
    }

    /// As an answer: its words, or why the server refused.
    pub fn check(self) -> Result<[u64; MESSAGE_WORDS], Failure> {
        match Failure::from_code(self.label) {
            None => Ok(self.words),
            Some(failure) => Err(failure),
        }
    }
}

/// Who sent a request: the root server gives every program its own badge on every capability to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Badge {
    /// The sender's process.
    pub pid: u32,
    /// What it may do: 0 for what anybody may, else what the protocol says ([`console::CONTROLLER`], say). The
    /// manifest sets it.
    ///
    /// [`console::CONTROLLER`]: crate::console::CONTROLLER
    pub role: u32,
}

impl Badge {
    /// Packs the badge: the process in the lower half, the role in the upper.
    pub const fn word(self) -> u64 {
        self.pid as u64 | (self.role as u64) << 32
    }

    /// Reads a badge as it came with a message.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is asked for")]
    pub const fn from_word(word: u64) -> Self {
        Badge { pid: word as u32, role: (word >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use anos_abi::Error;

    use super::*;
    use crate::Refusal;

    #[test]
    fn a_badge_keeps_its_halves_apart() {
        let badge = Badge { pid: u32::MAX, role: 1 };
        assert_eq!(Badge::from_word(badge.word()), badge);
        assert_eq!(badge.word() >> 32, 1);
    }

    #[test]
    fn an_answer_is_success_or_its_failure() {
        assert_eq!(Message::answer(&[7]).check(), Ok([7, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(Message::refusal(Error::Busy).check(), Err(Failure::Kernel(Error::Busy)));
        assert_eq!(Message::refusal(Refusal::NoSuchProcess).check(), Err(Failure::Server(Refusal::NoSuchProcess)));
    }

    #[test]
    fn more_words_than_fit_are_cut_off() {
        assert_eq!(Message::answer(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).words, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
