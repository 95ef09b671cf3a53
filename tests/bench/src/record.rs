//! What a measuring thread does, and what it has measured.
//!
//! A record lies at the start of a piece of memory that is mapped at the same address in this program and where the
//! thread runs. The thread's stack pointer points to it: that survives every system call. The code in [`crate::arch`]
//! knows a record by the offsets of its fields.

use anos::abi::MESSAGE_WORDS;
use anos::abi::syscall::FOREVER;
use anos::abi::{Operation, Slots, SystemCall};

/// The registers of a system call: all that has a role in one, in the order of the roles.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Request {
    /// [`Operation`]; 0 for no system call.
    pub operation: u64,
    /// The label.
    pub label: u64,
    /// [`Slots`].
    pub slots: u64,
    /// Slot of a Reply.
    pub reply: u64,
    /// When to give up.
    pub deadline: u64,
    /// The message's words.
    pub words: [u64; MESSAGE_WORDS],
}

impl Request {
    /// A system call on a capability, with these words, that waits as long as it takes.
    pub fn new(call: SystemCall, target: u32, words: &[u64]) -> Request {
        let mut request =
            Request { operation: Operation::new(call, target).0, deadline: FOREVER, ..Request::default() };
        request.words.iter_mut().zip(words).for_each(|(to, from)| *to = *from);
        request
    }

    /// A call of a kernel object's method.
    pub fn method(target: u32, method: anos::abi::object::Method, words: &[u64]) -> Request {
        Request { label: method.label(), ..Request::new(SystemCall::Call, target, words) }
    }

    /// The same, with a slot to pass from and one to receive into.
    pub fn with_slots(self, pass: u32, receive: u32) -> Request {
        Request { slots: Slots::new(pass, receive).0, ..self }
    }

    /// The same, with a Reply.
    pub fn with_reply(self, reply: u32) -> Request {
        Request { reply: reply.into(), ..self }
    }
}

/// The most system calls that are measured together.
pub const STEPS: usize = 7;

/// When the thread was just before what is measured, and when just behind it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Sample {
    /// Before.
    pub start: u64,
    /// Behind.
    pub end: u64,
}

/// What a thread does: `first`; then so many rounds of writing to a device, `between` twice, and what is measured; then
/// `last`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Record {
    /// The stamps of this round.
    pub stamps: Sample,
    /// Rounds that are left.
    pub rounds: u64,
    /// Where the next [`Sample`] goes.
    pub next_sample: u64,
    /// Bits in which a status or label was not as expected.
    pub wrong: u64,
    /// The status that each measured system call shall have.
    pub status: u64,
    /// The label that each shall bring.
    pub label: u64,
    /// What the last one brought.
    pub last_status: u64,
    /// The label of that.
    pub last_label: u64,
    /// The words of that.
    pub words: [u64; MESSAGE_WORDS],
    /// A register to write 0 to before each round, or 0.
    pub quiet: u64,
    /// Done once, at first.
    pub first: Request,
    /// Done in each round, not measured.
    pub between: [Request; 2],
    /// What is measured. If it is a store, `operation` is its address and `reply` the value.
    pub measured: Request,
    /// Done once, at the end.
    pub last: Request,
    /// What is measured where it takes several system calls.
    pub steps: [Request; STEPS],
}
