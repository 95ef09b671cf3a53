//! What a program puts into its registers for a system call, and what it finds there afterwards.

use anos_abi::syscall::FOREVER;
use anos_abi::{Error, MESSAGE_WORDS, Operation, Slots, Status, SystemCall};
use anos_machine::Registers;

/// A message to send, with all that goes along.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Its label.
    pub label: u64,
    /// Its words.
    pub words: [u64; MESSAGE_WORDS],
    /// The slot of a capability to pass, or 0.
    pub pass: u32,
    /// The slot to receive a capability into, or 0.
    pub receive: u32,
    /// The slot of a Reply, or 0.
    pub reply: u32,
    /// When to give up.
    pub deadline: u64,
}

impl Message {
    /// A message with this label and nothing else, that waits for ever.
    pub fn new(label: u64) -> Message {
        Message { label, words: [0; MESSAGE_WORDS], pass: 0, receive: 0, reply: 0, deadline: FOREVER }
    }

    /// With these words in front.
    pub fn words(mut self, words: &[u64]) -> Message {
        self.words[..words.len()].copy_from_slice(words);
        self
    }

    /// Passes the capability in this slot.
    pub fn pass(mut self, slot: u32) -> Message {
        self.pass = slot;
        self
    }

    /// Receives into this slot.
    pub fn receive(mut self, slot: u32) -> Message {
        self.receive = slot;
        self
    }

    /// Uses the Reply in this slot.
    pub fn reply(mut self, slot: u32) -> Message {
        self.reply = slot;
        self
    }

    /// Gives up at this time.
    pub fn deadline(mut self, deadline: u64) -> Message {
        self.deadline = deadline;
        self
    }

    /// Puts it into registers, and noise into those that no role uses.
    pub fn load(&self, call: SystemCall, target: u32, registers: &mut Registers) {
        registers.operation = Operation::new(call, target).0;
        registers.label = self.label;
        registers.words = self.words;
        registers.slots = Slots::new(self.pass, self.receive).0;
        registers.reply = self.reply.into();
        registers.deadline = self.deadline;
        registers.other = [0x5eed; 24];
    }
}

/// What a system call left in the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether a message came, and what came along.
    pub status: Status,
    /// Its label.
    pub label: u64,
    /// The badge.
    pub badge: u64,
    /// Its words.
    pub words: [u64; MESSAGE_WORDS],
}

impl Answer {
    /// Reads it from registers.
    pub fn read(registers: &Registers) -> Answer {
        Answer {
            status: Status(registers.operation),
            label: registers.label,
            badge: registers.slots,
            words: registers.words,
        }
    }

    /// The words, if both the exchange and the called object say that all went well.
    pub fn result(&self) -> Result<[u64; MESSAGE_WORDS], Error> {
        self.status.result()?;
        Error::check(self.label)?;
        Ok(self.words)
    }
}
