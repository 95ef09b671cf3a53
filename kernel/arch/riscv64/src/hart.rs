//! What each hart (RISC-V's word for a core) keeps for itself: a block that `tp` points to while it is in the kernel.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicU64, Ordering};

use anos_abi::MAX_CORES;
use anos_machine::{CoreId, Thread};

use crate::machine::Platform;
use crate::{csr, to_usize};

/// Bytes of each core's kernel stack.
pub const STACK_BYTES: u64 = 32 * 1024;
/// Where the stacks lie, [`STACK_STRIDE`] apart: the last GiB of the address space.
const STACKS: u64 = 0xffff_ffff_c000_0000;
/// What is left of it below each stack stays unmapped.
const STACK_STRIDE: u64 = 2 * STACK_BYTES;

/// What is added to a record's address to get its middle: one instruction reaches from there to all of its page.
pub const MIDDLE: u64 = 2048;

/// One hart's block. The assembly in `entry.rs` and `trap_entry.rs` takes its offsets from here.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Hart {
    /// Virtual address of the middle of the running thread's record ([`MIDDLE`]); 0 if none runs.
    pub thread: u64,
    /// First address above its kernel stack.
    pub stack_top: u64,
    /// Where the trap entry puts registers down.
    pub scratch: [u64; 2],
    /// `sstatus` for the way back to user mode.
    pub user_status: u64,
    /// `satp` for a hart that comes up.
    pub translation: u64,
    /// This block's virtual address, for a hart that comes up.
    pub virtual_address: u64,
    /// SBI's name for this hart.
    pub hart_id: u64,
    /// Which thread's floating-point state lies in the registers (see `fpu.rs`); 0: nobody's.
    pub fpu_thread: u64,
    /// How often a state has been loaded.
    pub fpu_loads: u64,
    /// Lowest address of its kernel stack.
    pub stack_bottom: u64,
    /// How many changes of code it has seen (see `machine.rs`).
    pub code_changes: u64,
    /// Rounds that it has waited for another core since it came into the kernel (see `patience.rs`).
    pub rounds: Cell<u32>,
    /// Its number.
    pub core: CoreId,
}

impl Hart {
    const fn new() -> Self {
        Hart {
            thread: 0,
            stack_top: 0,
            scratch: [0; 2],
            user_status: 0,
            translation: 0,
            virtual_address: 0,
            hart_id: 0,
            fpu_thread: 0,
            fpu_loads: 0,
            stack_bottom: 0,
            code_changes: 0,
            rounds: Cell::new(0),
            core: CoreId::BOOT,
        }
    }

    /// The record of the running thread.
    pub fn record(&self) -> *mut Thread {
        to_usize(self.thread.wrapping_sub(MIDDLE)) as *mut Thread
    }

    /// Prepares the block for a hart that is about to run with its own stack.
    pub fn prepare(&mut self, core: CoreId, hart_id: u64, platform: &Platform) {
        self.core = core;
        self.hart_id = hart_id;
        self.user_status = csr::STATUS_SPIE | csr::STATUS_UXL;
        self.stack_bottom = stack_bottom(core);
        self.stack_top = self.stack_bottom + STACK_BYTES;
        self.translation = platform.mode.satp(platform.root, 0);
        self.virtual_address = &raw const *self as u64;
        if let Some(id) = HART_IDS.get(core.index()) {
            id.store(hart_id, Ordering::Relaxed);
        }
    }
}

/// Lowest address of a core's kernel stack.
pub fn stack_bottom(core: CoreId) -> u64 {
    STACKS + STACK_STRIDE * core.index() as u64 + (STACK_STRIDE - STACK_BYTES)
}

impl Hart {
    /// Whether an address lies in the unmapped part below this hart's stack: what a stack that is too deep runs into.
    pub fn guards(&self, address: u64) -> bool {
        (self.stack_bottom - (STACK_STRIDE - STACK_BYTES)..self.stack_bottom).contains(&address)
    }
}

/// A block that only its own hart uses, once it runs.
#[repr(transparent)]
pub struct HartCell(pub UnsafeCell<Hart>);

// SAFETY: each block is used by one hart: the boot hart until the owner is started, its owner from then on.
unsafe impl Sync for HartCell {}

/// All blocks, by core.
pub static HARTS: [HartCell; MAX_CORES] = [const { HartCell(UnsafeCell::new(Hart::new())) }; MAX_CORES];

/// SBI's names, by core, for all to see.
static HART_IDS: [AtomicU64; MAX_CORES] = [const { AtomicU64::new(0) }; MAX_CORES];

/// SBI's name for a core.
pub fn hart_id(core: CoreId) -> u64 {
    HART_IDS.get(core.index()).map_or(0, |id| id.load(Ordering::Relaxed))
}

/// This hart's block.
pub fn this() -> *mut Hart {
    let block;
    // SAFETY: reads a register. In the kernel, `tp` is the block's address from the first Rust instruction on.
    unsafe { core::arch::asm!("mv {}, tp", out(reg) block, options(nomem, nostack, preserves_flags)) };
    block
}
