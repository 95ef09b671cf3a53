//! The calls that the root server makes: a trait, so that tests can stand in for the kernel, and its use by name.
//!
//! Slots are those of the root server's own table. 0 stands for "none".

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Error, Kind, MESSAGE_WORDS, Rights};
use anos_interfaces::Message;
use anos_interfaces::start::StartInfo;

/// Words of a message.
pub type Words = [u64; MESSAGE_WORDS];

/// A request as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who sent it.
    pub badge: u64,
    /// What it says.
    pub message: Message,
    /// Whether the sender waits for an answer.
    pub answerable: bool,
    /// Whether a capability came along.
    pub capability: bool,
}

/// The kernel, as the root server sees it.
pub trait Kernel {
    /// Calls a kernel object's method, as often as it answers `Again`.
    ///
    /// # Errors
    /// What the object answers; nothing has changed then.
    fn invoke(&mut self, target: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> Result<Words, Error>;

    /// Waits for a message on an endpoint, or just looks for one. `reply` will answer it.
    ///
    /// # Errors
    /// `TimedOut` if there is none and `wait` is false.
    fn receive(&mut self, endpoint: u32, reply: u32, receive: u32, wait: bool) -> Result<Received, Error>;

    /// Answers through a Reply. False if nobody waits for it any more.
    fn answer(&mut self, reply: u32, message: &Message) -> bool;

    /// Copies bytes to memory of the root server's own that the caller has mapped, writable, for that and nothing else.
    fn fill(&mut self, address: u64, bytes: &[u8]);

    /// The same, with a start page.
    fn fill_start(&mut self, address: u64, info: &StartInfo);

    /// Time since the kernel's clock started, ns.
    fn now_ns(&self) -> u64;
}

/// Makes `count` objects of a kind out of an Untyped, into consecutive slots from `into`. `size` is in pages (Untyped,
/// Frame) or slots (CapTable), else 0.
pub fn retype<K: Kernel>(
    kernel: &mut K,
    untyped: u32,
    kind: Kind,
    size: u64,
    count: u64,
    into: u32,
) -> Result<(), Error> {
    kernel.invoke(untyped, Method::UntypedRetype, &[kind as u64, size, count, 0], 0, into).map(drop)
}

/// Copies a capability of the root server into a slot of some table.
pub fn copy<K: Kernel>(kernel: &mut K, from: u32, table: u32, to: u32, rights: Rights) -> Result<(), Error> {
    kernel.invoke(table, Method::CapTableCopy, &[to.into(), rights.0.into()], from, 0).map(drop)
}

/// Copies a capability and gives it a badge.
pub fn mint<K: Kernel>(
    kernel: &mut K,
    from: u32,
    table: u32,
    to: u32,
    rights: Rights,
    badge: u64,
) -> Result<(), Error> {
    kernel.invoke(table, Method::CapTableMint, &[to.into(), rights.0.into(), badge], from, 0).map(drop)
}

/// Moves a capability of the root server into a slot of some table.
pub fn move_to<K: Kernel>(kernel: &mut K, from: u32, table: u32, to: u32) -> Result<(), Error> {
    kernel.invoke(table, Method::CapTableMove, &[to.into()], from, 0).map(drop)
}

/// Deletes a capability of the root server.
pub fn delete<K: Kernel>(kernel: &mut K, slot: u32) -> Result<(), Error> {
    kernel.invoke(slot::CAP_TABLE, Method::CapTableDelete, &[slot.into()], 0, 0).map(drop)
}

/// Deletes all that was derived from a capability of the root server.
pub fn revoke<K: Kernel>(kernel: &mut K, slot: u32) -> Result<(), Error> {
    kernel.invoke(slot::CAP_TABLE, Method::CapTableRevoke, &[slot.into()], 0, 0).map(drop)
}

/// Empties a slot of the root server's that holds a capability from outside. Revoked first: one from which much was
/// derived can't be deleted as it is.
pub fn discard<K: Kernel>(kernel: &mut K, slot: u32) {
    // An empty slot is as good.
    let _ = revoke(kernel, slot);
    let _ = delete(kernel, slot);
}

/// The kind of capability in a slot of some table.
pub fn kind_in<K: Kernel>(kernel: &mut K, table: u32, slot: u32) -> Result<Kind, Error> {
    let [kind, ..] = kernel.invoke(table, Method::CapTableLook, &[slot.into()], 0, 0)?;
    Kind::try_from(kind)
}

/// Maps a Frame.
pub fn map<K: Kernel>(kernel: &mut K, frame: u32, space: u32, address: u64, rights: Rights) -> Result<(), Error> {
    kernel.invoke(frame, Method::FrameMap, &[address, rights.0.into(), 0], space, 0).map(drop)
}

/// Takes a Frame's mapping away.
pub fn unmap<K: Kernel>(kernel: &mut K, frame: u32) -> Result<(), Error> {
    kernel.invoke(frame, Method::FrameUnmap, &[], 0, 0).map(drop)
}
