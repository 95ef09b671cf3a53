//! What a visit to the kernel was for, as a number that tools/probe sees too.

use alloc::format;
use alloc::string::{String, ToString};

use anos::abi::SystemCall;
use anos::abi::object::Method;

/// A mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u8);

impl Mark {
    /// What comes is of no interest: the search's own doing.
    pub const NONE: Mark = Mark(0);
    /// A program runs: timers and interrupts come.
    pub const RUNS: Mark = Mark(1);
    /// A program has a fault.
    pub const FAULT: Mark = Mark(2);
    /// System calls that go to no kernel object, from here on, each with whom it goes to.
    const MESSAGES: u8 = 8;
    /// Methods, from here on.
    const METHODS: u8 = 64;

    /// A method of a kernel object.
    pub fn method(method: Method) -> Mark {
        Mark(Mark::METHODS + method as u8)
    }

    /// A message, or the wait for one.
    pub fn message(call: SystemCall, to: Party) -> Mark {
        Mark(Mark::MESSAGES + call as u8 * 4 + to as u8)
    }

    /// All that can be.
    pub fn all() -> impl Iterator<Item = Mark> {
        (0..=u8::MAX).map(Mark).filter(|mark| mark.name().is_some())
    }

    /// What it is for.
    pub fn name(self) -> Option<String> {
        match self.0 {
            1 => Some("a program runs".to_string()),
            2 => Some("a program has a fault".to_string()),
            Mark::MESSAGES..28 => {
                let (call, to) = ((self.0 - Mark::MESSAGES) / 4, (self.0 - Mark::MESSAGES) % 4);
                let to = Party::ALL.get(usize::from(to))?;
                let call = SystemCall::try_from(call).ok()?;
                Some(if call == SystemCall::Yield { "Yield".to_string() } else { format!("{call:?} on {}", to.name()) })
            }
            Mark::METHODS.. => Method::ALL.get(usize::from(self.0 - Mark::METHODS)).map(|method| format!("{method:?}")),
            _ => None,
        }
    }
}

/// Whom a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// An Endpoint.
    Endpoint = 0,
    /// A Notification.
    Notification = 1,
    /// A Reply.
    Reply = 2,
    /// Something else.
    Other = 3,
}

impl Party {
    const ALL: [Party; 4] = [Party::Endpoint, Party::Notification, Party::Reply, Party::Other];

    fn name(self) -> &'static str {
        match self {
            Party::Endpoint => "an Endpoint",
            Party::Notification => "a Notification",
            Party::Reply => "a Reply",
            Party::Other => "something else",
        }
    }
}
