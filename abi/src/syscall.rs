//! The five system calls, and what travels in which register.
//!
//! Every call is a message to a capability. Registers have roles; where a role lives is the architecture's choice:
//!
//! | role | in | out | x86-64 | RISC-V |
//! |---|---|---|---|---|
//! | `operation` | [`Operation`]: number and target slot | [`Status`] | `rax` | `t0` |
//! | `label` | label to send | label received | `rdi` | `t1` |
//! | `slots` | [`Slots`]: slot to pass, slot to receive into | badge received | `rsi` | `t2` |
//! | `reply` | slot of a Reply capability | 0 | `rdx` | `t3` |
//! | `deadline` | absolute ns, 0 polls, all ones waits for ever | 0 | `r10` | `t4` |
//! | words 0 to 7 | message | message | `r8 r9 r12 r13 r14 r15 rbx rbp` | `a0`..`a7` |
//!
//! Only the stack pointer, the thread pointer and the program counter survive a system call; every other register
//! (also `gp`, `ra` and the callee-saved ones) holds its role's answer or zero.
//! x86-64 enters with `syscall` and leaves with `sysret`, which use `rcx` and `r11`: these come back with the thread's own
//! program counter and flags. RISC-V enters with `ecall`.

use crate::Error;

/// The system calls. A kernel object answers `Send` and `Call` alike: at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SystemCall {
    /// Send a message; wait until a receiver takes it, or until the deadline.
    Send = 0,
    /// Send a message and wait for the answer. The deadline bounds the whole.
    Call = 1,
    /// Wait for a message on an Endpoint, or for signals on a Notification.
    Recv = 2,
    /// Answer through the Reply capability in `reply`, then receive on the target.
    ReplyRecv = 3,
    /// Let threads of the same priority run.
    Yield = 4,
}

impl TryFrom<u8> for SystemCall {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self, Error> {
        Ok(match number {
            0 => SystemCall::Send,
            1 => SystemCall::Call,
            2 => SystemCall::Recv,
            3 => SystemCall::ReplyRecv,
            4 => SystemCall::Yield,
            _ => return Err(Error::InvalidSystemCall),
        })
    }
}

/// The `operation` register on the way in: number in bits 0..8, target slot in bits 32..64; the rest must be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation(pub u64);

impl Operation {
    /// Packs a call on the capability in slot `target`.
    pub const fn new(call: SystemCall, target: u32) -> Self {
        Operation(call as u64 | (target as u64) << 32)
    }

    /// The system-call number, if it is one.
    pub fn call(self) -> Result<SystemCall, Error> {
        let [number, a, b, c, ..] = self.0.to_le_bytes();
        if a | b | c != 0 {
            return Err(Error::InvalidSystemCall);
        }
        SystemCall::try_from(number)
    }

    /// Bits 0..32: the system call's number if the rest is as it must be, else a larger one.
    pub const fn number(self) -> u32 {
        low(self.0)
    }

    /// The slot of the capability that is called.
    pub const fn target(self) -> u32 {
        high(self.0)
    }
}

/// The `slots` register on the way in: the slot to pass a capability from in bits 0..32, the slot to receive one (or
/// the first of several) into in bits 32..64. Slot 0 is never used and means "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots(pub u64);

impl Slots {
    /// Neither passes nor receives a capability.
    pub const NONE: Slots = Slots(0);

    /// Packs both slots; 0 is none.
    pub const fn new(pass: u32, receive: u32) -> Self {
        Slots(pass as u64 | (receive as u64) << 32)
    }

    /// The slot whose capability travels with the message.
    pub const fn pass(self) -> u32 {
        low(self.0)
    }

    /// The slot that a capability in the answer or message goes into.
    pub const fn receive(self) -> u32 {
        high(self.0)
    }
}

/// Waits for ever.
pub const FOREVER: u64 = u64::MAX;
/// Does not wait: a call that would block answers [`Error::TimedOut`].
pub const POLL: u64 = 0;

/// The `operation` register on the way out.
///
/// Bits 0..16: 0, or the [`Error`] that kept the message from being exchanged. Bit 16: a capability came along. Bit
/// 17: what came is the bits of a Notification (in the badge), not a message. Bit 18: the sender waits for an answer,
/// and the Reply capability named in the call now answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u64);

impl Status {
    /// Nothing went wrong, nothing special came.
    pub const OK: Status = Status(0);
    /// A capability came along and lies in the receive slot.
    pub const CAPABILITY: u64 = 1 << 16;
    /// Signals arrived: the badge holds their bits.
    pub const SIGNAL: u64 = 1 << 17;
    /// The sender waits for an answer.
    pub const ANSWERABLE: u64 = 1 << 18;

    /// The status of a call that failed.
    pub const fn error(error: Error) -> Self {
        Status(error as u64)
    }

    /// `Ok`, or why no message was exchanged. An unknown code reads as [`Error::InvalidArgument`].
    pub fn result(self) -> Result<(), Error> {
        Error::check(self.0 & 0xffff)
    }

    /// Whether a capability came along.
    pub const fn has_capability(self) -> bool {
        self.0 & Self::CAPABILITY != 0
    }

    /// Whether what came are a Notification's bits.
    pub const fn is_signal(self) -> bool {
        self.0 & Self::SIGNAL != 0
    }

    /// Whether the sender waits for an answer.
    pub const fn is_answerable(self) -> bool {
        self.0 & Self::ANSWERABLE != 0
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
const fn low(word: u64) -> u32 {
    word as u32
}

const fn high(word: u64) -> u32 {
    low(word >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_round_trips_and_rejects_stray_bits() {
        let operation = Operation::new(SystemCall::ReplyRecv, 0xdead_beef);
        assert_eq!(operation.call(), Ok(SystemCall::ReplyRecv));
        assert_eq!(operation.target(), 0xdead_beef);
        for bit in 8..32 {
            assert_eq!(Operation(operation.0 | 1 << bit).call(), Err(Error::InvalidSystemCall));
        }
        assert_eq!(Operation(5).call(), Err(Error::InvalidSystemCall));
    }

    #[test]
    fn slots_keep_their_halves_apart() {
        let slots = Slots::new(7, u32::MAX);
        assert_eq!((slots.pass(), slots.receive()), (7, u32::MAX));
    }

    #[test]
    fn status_carries_every_error() {
        for code in 1..=u16::MAX {
            if let Ok(error) = Error::try_from(code) {
                assert_eq!(Status::error(error).result(), Err(error));
            }
        }
        assert_eq!(Status(Status::CAPABILITY).result(), Ok(()));
    }
}
