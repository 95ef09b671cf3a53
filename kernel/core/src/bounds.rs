//! Every bound on the kernel's work, in one place. No loop in the core runs longer than one of these.

/// Scheduling priorities; 255 is the most urgent.
pub const PRIORITIES: usize = 256;
/// Interrupt lines that programs can own.
pub const MAX_INTERRUPTS: usize = 256;
/// Buckets of the deadlines: one for each bit of a time in ns below 2^63, and one for what is due.
pub const TIMER_BUCKETS: usize = 64;
/// Deadlines looked at in one go.
pub const TIMER_STEPS: usize = 4;
/// Deadlines of a bucket compared to find the very first.
pub const TIMER_SCAN: usize = 4;
/// Objects made by one retype: their capabilities lie in two pages at most.
pub const RETYPE_COUNT: u64 = 64;
/// AddressSpaces made by one retype: half of each root table is the kernel's, and has to be written.
pub const RETYPE_SPACES: u64 = 4;
/// Objects made by one retype that clears pages in the same call.
pub const RETYPE_FEW: u64 = 8;
/// Pages that one retype makes into objects (Untyped apart: that touches none).
pub const RETYPE_PAGES: u64 = 512;
/// Pages cleared, and given a kind, by one call.
pub const CLEAR_PAGES: u64 = 4;
/// Capabilities deleted by one call.
pub const DELETE_STEPS: usize = 4;
/// Pages of a mapped Frame that goes with others; one of more is the last that a call deletes.
pub const DELETE_PAGES: u64 = 32;
/// Capabilities that may stem from one that is deleted alone, unless its parent stands right in front.
pub const HEIRS: usize = 32;
/// Slots of an ending table looked at by one call.
pub const TABLE_SLOTS: u64 = 32;
/// Threads woken by one call when objects end.
pub const WAKE_STEPS: usize = 6;
/// Slots that a table can have at most: as many as fit into what one retype makes.
pub const MAX_TABLE_SLOTS: u64 = RETYPE_PAGES * 64;
/// Levels of page tables, at most (Sv57).
pub const MAX_LEVELS: u8 = 5;
/// Threads through whose hands a scheduling context can go, one calling the next.
pub const LENDINGS: usize = 16;
/// Ready threads without CPU time that a core puts aside in one visit.
pub const TIME_STEPS: usize = 2;
/// The smallest budget, ns: much less would go into switching.
pub const SHORTEST_BUDGET_NS: u64 = 10_000;
/// The longest period, ns: 18 minutes.
pub const LONGEST_PERIOD_NS: u64 = 1 << 40;
/// Address spaces that a core tells apart in its translations, where the processor can: a power of two.
pub const TAGS: usize = 8;
/// A thread's turn among others of its priority, ns.
pub const TURN_NS: u64 = 10_000_000;
/// Cores.
pub use anos_abi::MAX_CORES;
/// Elements of an array of a fixed size: neighbours, parts of a thread, refills, digits.
pub const ARRAY: usize = 32;
/// Rounds of waiting for another core to come into the kernel, or to flush. It comes soon, since nothing that it does
/// meanwhile takes long or needs a lock that is held here; but the rounds are not counted.
pub const WAITING: &str = "until that core has come";
/// The exception: loops of the boot are as long as the payload and the list of memory. They run once, before there is
/// any program.
pub const BOOT: &str = "what boots";
