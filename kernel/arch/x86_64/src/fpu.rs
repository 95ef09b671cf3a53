//! Floating point, on first use: a thread starts with the FPU off, its first instruction traps, and from then on its
//! state is in the FPU until another thread runs. The kernel itself uses none.

use core::arch::asm;

use anos_machine::{Registers, Thread};

use crate::cpu;
use crate::percore::CoreData;

/// CR0: monitor coprocessor, task switched, numeric error.
const MONITOR: u64 = 1 << 1;
const TASK_SWITCHED: u64 = 1 << 3;
const NUMERIC_ERROR: u64 = 1 << 5;
const EMULATION: u64 = 1 << 2;

/// In [`Thread::machine`]'s first word: the record holds the thread's state, as a trap saved it, and what the FPU may hold
/// is no older. Else the thread starts from the defaults, once the FPU has been another's.
const SAVED: u64 = 1;

/// Floating-point instructions trap from now on.
pub fn turn_off() {
    let cr0 = (cpu::cr0() | MONITOR | NUMERIC_ERROR | TASK_SWITCHED) & !EMULATION;
    // SAFETY: changes only what floating-point instructions do.
    unsafe { cpu::set_cr0(cr0) };
}

/// The FPU no longer belongs to the running thread.
pub fn release(core: &CoreData) {
    if core.fpu.replace(false) {
        turn_off();
    }
}

/// Saves the running thread's state, if it is in the FPU, and leaves it there.
pub fn save(core: &CoreData) {
    if core.fpu.get() {
        let thread = core.thread.get();
        let area = area(thread);
        // SAFETY: the record of the running thread, which only this core writes until it says that it is in the
        // kernel; the area is 16-byte aligned and large enough (512 bytes are used).
        unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
        // SAFETY: as above.
        unsafe { (*thread).machine[0] = SAVED };
    }
}

/// The running thread makes a system call, across which floating-point registers need not survive: so nothing is saved.
/// But what an earlier trap saved must not come back in place of what is in the FPU now.
pub fn forget(core: &CoreData) {
    if core.fpu.get() {
        // SAFETY: as in `save`.
        unsafe { (*core.thread.get()).machine[0] = 0 };
    }
}

/// The running thread used the FPU while it was off: loads its state.
pub fn load(core: &CoreData) {
    let thread = core.thread.get();
    let area = area(thread);
    // SAFETY: the running thread's record; see `save`.
    let state = unsafe { (*thread).machine[0] };
    if state & SAVED == 0 {
        // SAFETY: as above.
        let area = unsafe { &mut (*thread).fpu };
        // All zeros but for two fields (SDM 1, 10.5.1). Something old may lie here: see `forget`.
        area[..512].fill(0);
        const CONTROL: [u8; 2] = 0x037f_u16.to_le_bytes();
        const MXCSR: [u8; 4] = 0x1f80_u32.to_le_bytes();
        [area[0], area[1]] = CONTROL;
        [area[24], area[25], area[26], area[27]] = MXCSR;
    }
    // SAFETY: makes floating-point instructions work; the user can't tell that it was otherwise.
    unsafe { asm!("clts", options(nomem, nostack, preserves_flags)) };
    // SAFETY: an image that `fxsave64` made, or the default one above: no reserved bit is set.
    unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
    core.fpu.set(true);
}

fn area(thread: *mut Thread) -> *mut u8 {
    const OFFSET: usize = core::mem::offset_of!(Thread, fpu);
    const _: () = assert!(OFFSET.is_multiple_of(16) && size_of::<Registers>() <= OFFSET);
    thread.cast::<u8>().wrapping_add(OFFSET)
}
