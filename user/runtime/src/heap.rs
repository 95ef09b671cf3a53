//! The heap: `talc` keeps the books, Frames out of the program's memory make it grow.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use anos_abi::PAGE_SIZE;
use anos_interfaces::start::{HEAP_END, HEAP_START};
use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use crate::memory;
use crate::sync::Mutex;

/// The least that the heap grows by.
const STEP: u64 = 8 * PAGE_SIZE;

/// The books, and how far the heap reaches.
struct State {
    talc: Talc<Manual, DefaultBinning>,
    /// Where talc's own end is, once there is a heap.
    claimed: Option<NonNull<u8>>,
    /// The first address that is not mapped yet.
    end: u64,
}

// SAFETY: the pointers in it are to the heap, which every thread of the program sees alike, and are followed only with
// the lock held that the state lies in.
unsafe impl Send for State {}

/// The allocator.
pub struct Heap(Mutex<State>);

/// The program's heap.
#[cfg(anos_guest)]
#[global_allocator]
static HEAP: Heap = Heap::new();

impl Heap {
    /// An empty heap; it grows when it is first used.
    #[cfg_attr(not(anos_guest), expect(dead_code, reason = "the host has a heap of its own"))]
    const fn new() -> Self {
        Heap(Mutex::new(State { talc: Talc::new(Manual), claimed: None, end: HEAP_START }))
    }
}

impl State {
    /// Adds memory for at least one allocation like this. False if there is not enough; what could be had of it is added
    /// all the same, for smaller ones.
    fn grow(&mut self, layout: Layout) -> bool {
        let needed = (layout.size() as u64).saturating_add(layout.align() as u64).saturating_add(PAGE_SIZE);
        let needed = needed.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE);
        let grown = (self.end - HEAP_START) / 4;
        let available = memory::available_bytes();
        if needed > available {
            return false;
        }
        // With little memory left, the ample step may be too much, but just what is needed not.
        let ample = needed.max(grown).max(STEP);
        self.grow_by(if ample <= available { ample } else { needed }) || self.grow_by(needed)
    }

    fn grow_by(&mut self, bytes: u64) -> bool {
        if self.end.saturating_add(bytes) > HEAP_END {
            return false;
        }
        let Ok(added) = memory::populate(self.end, bytes / PAGE_SIZE * PAGE_SIZE) else { return false };
        let base = ptr::with_exposed_provenance_mut::<u8>(memory::address(self.end));
        self.end += added;
        self.claimed = match self.claimed {
            // SAFETY: this memory was just mapped, writable, behind all that was claimed before, and is nobody else's.
            None => unsafe { self.talc.claim(base, memory::address(added)) },
            // SAFETY: `end` is where talc's heap ended, and what follows was just mapped and is nobody else's.
            Some(end) => Some(unsafe { self.talc.extend(end, base.wrapping_add(memory::address(added))) }),
        };
        added == bytes
    }
}

// SAFETY: talc hands out memory that is aligned, large enough and not in use; the lock makes it one at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut state = self.0.lock();
        loop {
            // SAFETY: the caller promises a size that is not zero.
            if let Some(memory) = unsafe { state.talc.allocate(layout) } {
                return memory.as_ptr();
            }
            if !state.grow(layout) {
                return ptr::null_mut();
            }
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that the memory came from here with this layout.
        unsafe { self.0.lock().talc.deallocate(memory, layout) }
    }
}
