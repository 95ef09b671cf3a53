//! What the kernel's core needs of a machine.
//!
//! - [`Machine`]: the checklist for a port; the compiler lists what a port lacks;
//! - [`Store`]: physical memory as typed records. The one place that turns a number into `&mut T`;
//! - [`records`]: the layout of every kernel object in memory, the same on every architecture;
//! - [`lock`]: the cores' locks, and what they guard.
//!
//! The core (`anos-core`) decides with these; the ports (`kernel/arch`) provide them.
#![no_std]

mod atomic;
pub mod lock;
pub mod machine;
pub mod records;
pub mod store;

pub use lock::{Fresh, Held, Place, Presence, Shared};
pub use machine::{CoreId, CoreSet, Entry, Event, Fault, Machine, Mapping, Next, Reset};
pub use records::{
    AddressSpace, Endpoint, Links, Notification, PageRecord, Queue, Ref, Registers, Reply, SchedContext, Slot, SlotRef,
    Thread,
};
pub use store::{Fixed, Known, Memory, Reason, Stop, Store};
