//! What cores share without a lock: the processor's atomics. An exploration (`kernel/explore`) puts its own in their
//! place, to see each access.

#[cfg(any(loom, shuttle))]
pub use anos_explore::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, Watch};
#[cfg(not(any(loom, shuttle)))]
pub use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Tells an exploration who reads and who changes a page.
#[cfg(not(any(loom, shuttle)))]
#[derive(Debug, Default)]
pub struct Watch;

#[cfg(not(any(loom, shuttle)))]
impl Watch {
    /// Somebody reads.
    #[inline(always)]
    pub fn reads(&self) {}

    /// Somebody changes.
    #[inline(always)]
    pub fn changes(&self) {}
}
