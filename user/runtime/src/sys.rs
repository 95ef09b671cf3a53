//! The system call: five operations, registers only. What they mean is defined in [`anos_abi::syscall`].
//!
//! Programs seldom need this: [`capability`](crate::capability) has the typed side.

use anos_abi::syscall::{FOREVER, Operation, Slots, Status, SystemCall};
use anos_abi::{Error, MESSAGE_WORDS};
use anos_interfaces::Message;

use crate::arch;
use crate::capability::Slot;

/// The registers on the way in.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// [`Operation`].
    pub operation: u64,
    /// The message's label.
    pub label: u64,
    /// [`Slots`].
    pub slots: u64,
    /// Slot of a Reply, 0 for none.
    pub reply: u64,
    /// When to give up, ns of the kernel's clock.
    pub deadline: u64,
    /// The message's words.
    pub words: [u64; MESSAGE_WORDS],
}

/// The registers on the way out.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// [`Status`].
    pub status: u64,
    /// The label that came.
    pub label: u64,
    /// The badge that came, or a Notification's bits.
    pub badge: u64,
    /// The words that came.
    pub words: [u64; MESSAGE_WORDS],
}

/// What came in: a message, or a Notification's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// What else the kernel says of it.
    pub status: Status,
    /// Who sent it; or the bits, if [`Status::is_signal`].
    pub badge: u64,
    /// The message; empty if it was a signal.
    pub message: Message,
}

/// Enters the kernel.
///
/// # Safety
/// The call itself touches no memory. But a request that maps, unmaps or ends things changes what this program's
/// pointers mean: whoever makes such a request answers for what is then still used.
#[inline]
pub unsafe fn system_call(request: &Request) -> Answer {
    // SAFETY: the caller's contract is the same.
    unsafe { arch::system_call(request) }
}

/// Makes the request and sorts the answer.
#[inline]
fn exchange(request: &Request) -> Result<Received, Error> {
    // SAFETY: a request on a capability is this program's own doing through its typed interface: those methods there
    // that could pull memory away from under running code (unmapping, deleting, revoking, retyping) are for memory
    // that their callers no longer use, as `capability` documents.
    let answer = unsafe { system_call(request) };
    let status = Status(answer.status);
    status.result()?;
    Ok(Received { status, badge: answer.badge, message: Message { label: answer.label, words: answer.words } })
}

/// Sends a message and waits until it is taken.
#[inline]
pub fn send(target: Slot, message: &Message, pass: Option<Slot>, deadline: u64) -> Result<(), Error> {
    exchange(&Request {
        operation: Operation::new(SystemCall::Send, target.number()).0,
        label: message.label,
        slots: Slots::new(number(pass), 0).0,
        reply: 0,
        deadline,
        words: message.words,
    })
    .map(|_| ())
}

/// Sends a message and waits for the answer.
#[inline]
pub fn call(
    target: Slot,
    message: &Message,
    pass: Option<Slot>,
    receive: Option<Slot>,
    deadline: u64,
) -> Result<Received, Error> {
    exchange(&Request {
        operation: Operation::new(SystemCall::Call, target.number()).0,
        label: message.label,
        slots: Slots::new(number(pass), number(receive)).0,
        reply: 0,
        deadline,
        words: message.words,
    })
}

/// Waits for a message or signals. `reply` names the Reply that shall answer it, `receive` an empty slot for a
/// capability that may come along.
#[inline]
pub fn recv(target: Slot, reply: Option<Slot>, receive: Option<Slot>, deadline: u64) -> Result<Received, Error> {
    exchange(&Request {
        operation: Operation::new(SystemCall::Recv, target.number()).0,
        label: 0,
        slots: Slots::new(0, number(receive)).0,
        reply: number(reply).into(),
        deadline,
        words: [0; MESSAGE_WORDS],
    })
}

/// Answers through the Reply, then waits as [`recv`] does, with the same Reply for the next caller.
#[inline]
pub fn reply_recv(
    target: Slot,
    reply: Slot,
    answer: &Message,
    pass: Option<Slot>,
    receive: Option<Slot>,
) -> Result<Received, Error> {
    exchange(&Request {
        operation: Operation::new(SystemCall::ReplyRecv, target.number()).0,
        label: answer.label,
        slots: Slots::new(number(pass), number(receive)).0,
        reply: reply.number().into(),
        deadline: FOREVER,
        words: answer.words,
    })
}

/// Lets threads of the same priority run.
#[inline]
pub fn yield_now() {
    let request = Request {
        operation: Operation::new(SystemCall::Yield, 0).0,
        label: 0,
        slots: 0,
        reply: 0,
        deadline: 0,
        words: [0; MESSAGE_WORDS],
    };
    // The call has no way to fail, and nothing to say.
    let _ = exchange(&request);
}

/// The slot's number, 0 for none.
fn number(slot: Option<Slot>) -> u32 {
    slot.map_or(0, Slot::number)
}
