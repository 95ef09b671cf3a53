//! Who lies where in the root server's capability table.
//!
//! The kernel fills the first slots (see [`anos_abi::boot::slot`]); those behind its Untypeds, up to [`OWN`], belong
//! to the runtime (the root server's heap).

use anos_abi::boot::ROOT_TABLE_SLOTS;
use anos_manifest::{MAX_CLAIMS, MAX_SERVICES, MAX_USES};

/// Processes at the same time.
pub const MAX_PROCESSES: usize = 48;
/// Page tables of a process that the root server supplies.
pub const MAX_TABLES: usize = 16;
/// Frames of a process that the root server supplies.
pub const MAX_FRAMES: usize = 16;
/// Threads of a process that the root server knows, besides the first.
pub const MAX_THREADS: usize = 12;
/// Requests that can wait for their answer at the same time.
pub const MAX_WAITERS: usize = 64;
/// Device capabilities: registers and interrupts.
pub const MAX_DEVICE_SLOTS: usize = 2 * MAX_CLAIMS;
/// Scheduling contexts: threads of all processes at the same time, roughly (see [`crate::contexts`]).
pub const MAX_CONTEXTS: usize = 192;
/// Pairs of blocks that the buddy allocator can tell apart.
pub const MAX_PAIRS: usize = 512;

/// The first slot of the root server's own.
pub const OWN: u32 = 320;
/// Its endpoint: requests and faults.
pub const ENDPOINT: u32 = OWN;
/// Where capabilities arrive that come with requests.
pub const RECEIVED: u32 = OWN + 1;
/// For a capability that is made just to be passed on.
pub const SCRATCH: u32 = OWN + 2;
/// The page tables of the window through which pages are filled, one per level, lowest first.
pub const WINDOW_TABLES: u32 = OWN + 4;
/// The services' endpoints.
pub const SERVICES: u32 = OWN + 16;
/// Replies: one to receive with, and one for each request that waits.
pub const REPLIES: u32 = SERVICES + number(MAX_SERVICES);
/// The Reply for those who wait at an endpoint that nobody serves any more.
pub const DRAIN_REPLY: u32 = REPLIES + number(MAX_WAITERS) + 1;
/// Devices' capabilities.
pub const DEVICES: u32 = DRAIN_REPLY + 1;
/// The first process's window of slots; the others' follow.
pub const PROCESSES: u32 = DEVICES + number(MAX_DEVICE_SLOTS);
/// The buddy allocator's blocks, two slots for each pair.
pub const BLOCKS: u32 = PROCESSES + number(MAX_PROCESSES) * window::SLOTS;
/// The scheduling contexts.
pub const CONTEXTS: u32 = BLOCKS + 2 * number(MAX_PAIRS);
const END: u32 = CONTEXTS + number(MAX_CONTEXTS);

const _: () = assert!(END as u64 <= ROOT_TABLE_SLOTS, "all fits into the table that the kernel gives");
const _: () = assert!(MAX_USES < 16, "a process's named capabilities fit into its start page");

/// Where in its window a process's capabilities lie.
pub mod window {
    use super::{MAX_FRAMES, MAX_TABLES, MAX_THREADS, number};

    /// Its CapTable.
    pub const TABLE: u32 = 0;
    /// Its AddressSpace.
    pub const SPACE: u32 = 1;
    /// Its first Thread.
    pub const THREAD: u32 = 2;
    /// Its own memory, on the way into its table.
    pub const MEMORY: u32 = 3;
    /// Its page tables.
    pub const TABLES: u32 = 4;
    /// Its Frames.
    pub const FRAMES: u32 = TABLES + number(MAX_TABLES);
    /// Its other threads.
    pub const THREADS: u32 = FRAMES + number(MAX_FRAMES);
    /// Slots in a window.
    pub const SLOTS: u32 = THREADS + number(MAX_THREADS);
}

/// Where pages are mapped that are being filled: nothing else is near.
pub const WINDOW_ADDRESS: u64 = 0x38_0000_0000;

/// A small count as a slot number.
#[expect(clippy::cast_possible_truncation, reason = "for the constants above, checked by `END`")]
pub const fn number(count: usize) -> u32 {
    count as u32
}

/// The first slot of a process's window.
pub const fn process(index: usize) -> u32 {
    PROCESSES + number(index) * window::SLOTS
}
