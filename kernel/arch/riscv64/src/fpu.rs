//! Floating point for user programs: off until a thread uses it, saved only when it was changed.
//!
//! The kernel has no floating-point code, so the registers stay a thread's own while the kernel runs. `sstatus.FS`
//! says what they are: off, as in memory (clean), or changed (dirty). The unit stays on for the thread that used it
//! last, for as long as no other thread (or none) runs on the core in between.
//!
//! Across a system call the registers are dead, `fcsr` with its rounding mode included, as all others are. What was
//! saved of those that are in the unit is void from then on: a thread that loses the unit before a trap saves them anew
//! starts from zeros.
//!
//! In `Thread::machine`, word [`MARK`] is the number of the load whose state is the thread's, 0 at first; word
//! [`SAVED`] is 1 if the area holds what the thread left, else 0.

use core::arch::{asm, global_asm};

use anos_machine::Thread;

use crate::csr::{self, STATUS_FS, STATUS_FS_CLEAN, STATUS_FS_DIRTY};
use crate::hart::Hart;

// a0: the thread's area, 32 registers and `fcsr`, 264 bytes. The kernel's target has no floating point, so it is
// switched on for these instructions alone.
global_asm!(
    ".section .text",
    ".option push",
    ".option arch, +d",
    ".balign 4",
    "fpu_save:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "fsd f\\n, 8 * \\n(a0)",
    ".endr",
    "frcsr t0",
    "sd t0, 256(a0)",
    "ret",
    ".balign 4",
    "fpu_load:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "fld f\\n, 8 * \\n(a0)",
    ".endr",
    "ld t0, 256(a0)",
    "fscsr t0",
    "ret",
    ".option pop",
);

unsafe extern "C" {
    fn fpu_save(area: *mut u8);
    fn fpu_load(area: *const u8);
}

const MARK: usize = 0;
const SAVED: usize = 1;

/// The words of a thread's record that are this port's own.
///
/// # Safety
/// `thread` runs on this core, which has not entered the core code yet: its record is mapped, and nobody else's. No other
/// reference to these words is used meanwhile.
const unsafe fn words<'a>(thread: *mut Thread) -> &'a mut [u64; 4] {
    // SAFETY: the caller's promise.
    unsafe { &mut (*thread).machine }
}

fn set_state(state: u64) {
    // SAFETY: no kernel code depends on whether the floating-point unit is on.
    unsafe { asm!("csrc sstatus, {}", in(reg) STATUS_FS, options(nostack)) };
    // SAFETY: as above.
    unsafe { asm!("csrs sstatus, {}", in(reg) state, options(nostack)) };
}

/// The running thread was interrupted or faulted: what it changed goes to its record.
///
/// # Safety
/// `thread` is the thread that runs on this core; the trap that interrupted it is being handled.
pub unsafe fn save(hart: &mut Hart, thread: *mut Thread) {
    if csr::status() & STATUS_FS == STATUS_FS_DIRTY {
        // SAFETY: the record of the running thread is mapped, and until the core is entered it is this core's own.
        let area = unsafe { &raw mut (*thread).fpu };
        // SAFETY: the unit is on, and the area is larger than the 264 bytes used.
        unsafe { fpu_save(area.cast()) };
        // SAFETY: the running thread; the reference ends here.
        let words = unsafe { words(thread) };
        words[SAVED] = 1;
        hart.user_status = hart.user_status & !STATUS_FS | STATUS_FS_CLEAN;
    }
}

/// The running thread made a system call, and expects nothing of the registers any more.
///
/// # Safety
/// As for [`save`].
pub unsafe fn forget(hart: &mut Hart, thread: *mut Thread) {
    if hart.fpu_thread != 0 {
        // SAFETY: the running thread; the reference ends here.
        let words = unsafe { words(thread) };
        words[SAVED] = 0;
        // If it goes on with them nevertheless, the next trap saves them: they are not what lies in memory.
        hart.user_status |= STATUS_FS_DIRTY;
    }
}

/// The running thread met an illegal instruction: if the unit was off, turns it on and answers `true`, so that the
/// thread tries again. Whether the instruction was a floating-point one, the second try tells.
///
/// # Safety
/// As for [`save`].
pub unsafe fn turn_on(hart: &mut Hart, thread: *mut Thread) -> bool {
    if hart.user_status & STATUS_FS != 0 {
        return false;
    }
    set_state(STATUS_FS_CLEAN);
    // SAFETY: as in `save`.
    let area = unsafe { &raw mut (*thread).fpu };
    // SAFETY: the running thread; `area` is another part of the record.
    let words = unsafe { words(thread) };
    if words[SAVED] == 0 {
        // SAFETY: as in `save`. Zeros are the state that the architecture starts with.
        unsafe { area.cast::<[u8; 264]>().write_bytes(0, 1) };
    }
    // SAFETY: the unit is on, and the area is larger than the 264 bytes used.
    unsafe { fpu_load(area.cast()) };
    // No other load, on this core or another, ever has this number: so a thread whose record carries it is the thread
    // whose state lies in this core's registers.
    hart.fpu_loads += 1;
    hart.fpu_thread = hart.fpu_loads << 8 | 1 << 7 | hart.core.index() as u64;
    words[MARK] = hart.fpu_thread;
    hart.user_status |= STATUS_FS_CLEAN;
    true
}

/// A thread is about to run (or none, if null): leaves the unit on if what lies in it is the thread's.
///
/// # Safety
/// `thread` is null, or the thread that this core runs next.
pub unsafe fn switch(hart: &mut Hart, thread: *const Thread) {
    if hart.fpu_thread == 0 {
        return;
    }
    let mark = if thread.is_null() {
        0
    } else {
        // SAFETY: a thread that this core runs next: mapped, and no other core changes this word of it.
        unsafe { (*thread).machine[MARK] }
    };
    if mark != hart.fpu_thread {
        hart.fpu_thread = 0;
        hart.user_status &= !STATUS_FS;
    }
}
