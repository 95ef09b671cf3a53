//! Capabilities by their kind, with a method for each that the kernel answers to.
//!
//! A handle is a slot number, and copies freely; it owns nothing. Whether the slot holds what the type says is the
//! kernel's to check: if not, a method answers [`Error::WrongKind`] or [`Error::EmptySlot`] and nothing happens.
//! Methods that the kernel does in steps are repeated here until they are done; the few that end with `_step` are for
//! callers with something better to do in between.
//!
//! Whoever unmaps, deletes, revokes or maps over memory answers for nothing in the program still using it.
//!
//! - [`ipc`]: Endpoint, Reply, Notification;
//! - [`memory`](self::memory): Untyped, Frame, PageTable, AddressSpace, CapTable;
//! - [`execution`]: Thread, SchedContext, SchedControl;
//! - [`device`]: Interrupt, IoPort, and what makes them; Debug.

use anos_abi::object::Method;
use anos_abi::syscall::FOREVER;
use anos_abi::{Error, Kind, MESSAGE_WORDS};
use anos_interfaces::Message;

use crate::sys;

pub mod device;
pub mod execution;
pub mod ipc;
pub mod memory;

pub use device::{
    CounterValues, Debug, Interrupt, InterruptControl, InterruptMessage, IoPort, IoPortControl, PageInfo, ThreadRecord,
};
pub use execution::{CoreInfo, SchedContext, SchedContextInfo, SchedControl, StartState, Thread, ThreadInfo};
pub use ipc::{Endpoint, Notification, Reply};
pub use memory::{AddressSpace, CapTable, Frame, FrameInfo, Look, PageTable, Untyped, UntypedInfo};

/// A slot of this program's capability table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// The slot with this number.
    pub const fn new(number: u32) -> Self {
        Slot(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The slot that lies `by` slots further on.
    pub const fn offset(self, by: u32) -> Self {
        Slot(self.0 + by)
    }
}

/// A handle to a capability of one kind.
pub trait Capability: Copy {
    /// The kind of object it names.
    const KIND: Kind;

    /// The handle to what lies in this slot.
    fn from_slot(slot: Slot) -> Self;

    /// The slot.
    fn slot(self) -> Slot;
}

/// Declares the handle types.
macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            pub struct $name(pub(super) $crate::capability::Slot);

            impl $name {
                /// The handle to what lies in this slot.
                pub const fn at(slot: $crate::capability::Slot) -> Self {
                    $name(slot)
                }
            }

            impl $crate::capability::Capability for $name {
                const KIND: anos_abi::Kind = anos_abi::Kind::$name;

                fn from_slot(slot: $crate::capability::Slot) -> Self {
                    $name(slot)
                }

                fn slot(self) -> $crate::capability::Slot {
                    self.0
                }
            }
        )*
    };
}
pub(crate) use capabilities;

/// Calls a kernel object's method once. `pass` goes along, `receive` takes what comes back.
pub fn invoke_step(
    slot: Slot,
    method: Method,
    words: &[u64],
    pass: Option<Slot>,
    receive: Option<Slot>,
) -> Result<[u64; MESSAGE_WORDS], Error> {
    let received = sys::call(slot, &Message::new(method.label(), words), pass, receive, FOREVER)?;
    Error::check(received.message.label)?;
    Ok(received.message.words)
}

/// Calls a kernel object's method until it is done.
pub fn invoke(
    slot: Slot,
    method: Method,
    words: &[u64],
    pass: Option<Slot>,
    receive: Option<Slot>,
) -> Result<[u64; MESSAGE_WORDS], Error> {
    loop {
        match invoke_step(slot, method, words, pass, receive) {
            Err(Error::Again) => {}
            done => return done,
        }
    }
}
