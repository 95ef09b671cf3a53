//! Floating point and vectors for user programs: off until a thread uses one of them, saved only when changed.
//!
//! The kernel has no such code, so the registers stay a thread's own while the kernel runs. `sstatus.FS` and
//! `sstatus.VS` say what they are: off, as in memory (clean), or changed (dirty). Both units go on together, and stay on
//! for the thread that used them last, for as long as no other thread (or none) runs on the core in between. A thread
//! that has no use for vectors pays a few instructions that clear those registers.
//!
//! Across a system call the registers are dead, the control registers with the rounding mode included, as all others
//! are: what was saved of a thread that has the units is void from then on, and one that loses them before it changes them
//! anew starts from zeros. A foreign thread keeps them: its system calls are not ours.
//!
//! In the kernel `sstatus` says what it said in user mode. So it is set for the way back only where a thread has the units,
//! or gets or loses them: [`switch`], [`turn_on`].
//!
//! In `Thread::machine`, word [`MARK`] is the number of the load whose state is the thread's, 0 at first; word
//! [`SAVED`] has a bit for each unit whose part of the area holds what the thread left.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use anos_machine::records::FPU_BYTES;
use anos_machine::{CoreId, Thread};

use crate::csr::{self, STATUS_DIRTY, STATUS_FS, STATUS_FS_CLEAN, STATUS_VS, STATUS_VS_CLEAN};
use crate::hart::Hart;

/// Bytes of floating-point state: 32 registers and `fcsr`.
const FLOAT_BYTES: usize = 264;
/// Where the vector registers lie in a thread's area, behind `vstart`, `vcsr`, `vl` and `vtype`.
const VECTORS: usize = 320;
/// The largest vector register that can be saved.
const MAX_VECTOR_BYTES: u64 = ((FPU_BYTES - VECTORS) / 32) as u64;

/// Bytes of a vector register, the same on every hart; 0: there is no vector unit, or none that could be used.
static VECTOR_BYTES: AtomicU64 = AtomicU64::new(0);

// a0: the thread's area. The kernel's target has neither floating point nor vectors, so they are switched on for these
// instructions alone.
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
    "fpu_load:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "fld f\\n, 8 * \\n(a0)",
    ".endr",
    "ld t0, 256(a0)",
    "fscsr t0",
    "ret",
    // Whole registers are moved eight at a time, whatever `vl` and `vtype` say, but from element `vstart` on.
    ".option arch, +v",
    "vector_save:",
    "csrr t0, vstart",
    "csrr t1, vcsr",
    "csrr t2, vl",
    "csrr t3, vtype",
    "sd t0, 264(a0)",
    "sd t1, 272(a0)",
    "sd t2, 280(a0)",
    "sd t3, 288(a0)",
    "csrw vstart, zero",
    "csrr t1, vlenb",
    "slli t1, t1, 3",
    "addi a0, a0, {vectors}",
    ".irp n, 0,8,16,24",
    "vs8r.v v\\n, (a0)",
    "add a0, a0, t1",
    ".endr",
    // The thread may go on with what is in the unit.
    "csrw vstart, t0",
    "ret",
    "vector_load:",
    "csrw vstart, zero",
    "csrr t0, vlenb",
    "slli t0, t0, 3",
    "addi a1, a0, {vectors}",
    ".irp n, 0,8,16,24",
    "vl8re8.v v\\n, (a1)",
    "add a1, a1, t0",
    ".endr",
    "ld t0, 264(a0)",
    "ld t1, 272(a0)",
    "ld t2, 280(a0)",
    "ld t3, 288(a0)",
    "vsetvl zero, t2, t3",
    "csrw vcsr, t1",
    "csrw vstart, t0",
    "ret",
    "vector_clear:",
    "vsetvli t0, zero, e8, m8, tu, mu",
    ".irp n, 0,8,16,24",
    "vmv.v.i v\\n, 0",
    ".endr",
    "vsetivli zero, 0, e8, m1, tu, mu",
    "csrw vcsr, zero",
    "ret",
    ".option pop",
    vectors = const VECTORS,
);

unsafe extern "C" {
    fn fpu_save(area: *mut u8);
    fn fpu_load(area: *const u8);
    fn vector_save(area: *mut u8);
    fn vector_load(area: *const u8);
    fn vector_clear();
}

const MARK: usize = 0;
const SAVED: usize = 1;
/// [`SAVED`]: floating point.
const FLOATS_SAVED: u64 = 1;
/// [`SAVED`]: vectors.
const VECTORS_SAVED: u64 = 2;

/// Looks how large this hart's vector registers are, if every hart has some. Harts come here one after the other.
pub fn set_up(has_vectors: bool, core: CoreId) {
    if !has_vectors {
        return;
    }
    csr::turn_on(STATUS_VS_CLEAN);
    let bytes = csr::vector_bytes();
    csr::turn_off(STATUS_VS);
    let known = if core == CoreId::BOOT { bytes } else { VECTOR_BYTES.load(Ordering::Relaxed) };
    // A thread goes from one hart to another, so they must be of one size, and there must be room for them.
    let usable = bytes == known && bytes <= MAX_VECTOR_BYTES;
    VECTOR_BYTES.store(if usable { bytes } else { 0 }, Ordering::Relaxed);
}

/// The words of a thread's record that are this port's own.
///
/// # Safety
/// `thread` runs on this core, which has not entered the core code yet: its record is mapped, and nobody else's. No other
/// reference to these words is used meanwhile.
const unsafe fn words<'a>(thread: *mut Thread) -> &'a mut [u64; 4] {
    // SAFETY: the caller's promise.
    unsafe { &mut (*thread).machine }
}

/// The running thread was interrupted or faulted: what it changed goes to its record.
///
/// # Safety
/// `thread` is the thread that runs on this core; the trap that interrupted it is being handled.
pub unsafe fn save(thread: *mut Thread) {
    let status = csr::status();
    if status & STATUS_DIRTY == 0 {
        return;
    }
    // SAFETY: the record of the running thread is mapped, and until the core is entered it is this core's own.
    let area: *mut u8 = unsafe { &raw mut (*thread).fpu }.cast();
    // SAFETY: the running thread; `area` is another part of the record.
    let words = unsafe { words(thread) };
    // SAFETY: one of the units is on, so both are; the area is larger than the 264 bytes used.
    unsafe { fpu_save(area) };
    words[SAVED] |= FLOATS_SAVED;
    if status & STATUS_VS == STATUS_VS {
        // SAFETY: the unit is on, so its registers fit into the area: see `set_up`.
        unsafe { vector_save(area) };
        words[SAVED] |= VECTORS_SAVED;
    }
}

/// The running thread, which has the units, made a system call, and expects nothing of the registers any more: what was
/// saved of them before must not come back in their place.
///
/// # Safety
/// As for [`save`].
pub unsafe fn forget(thread: *mut Thread) {
    // SAFETY: the running thread; the reference ends here.
    let words = unsafe { words(thread) };
    words[SAVED] = 0;
}

/// The running thread met an illegal instruction: if the units were off, and it may use them, turns them on and answers
/// `true`, so that the thread tries again. Whether the instruction was one of theirs, the second try tells.
///
/// # Safety
/// As for [`save`].
pub unsafe fn turn_on(hart: &mut Hart, thread: *mut Thread) -> bool {
    // SAFETY: as in `save`.
    if hart.fpu_thread != 0 || unsafe { (*thread).no_fpu } != 0 {
        return false;
    }
    let has_vectors = VECTOR_BYTES.load(Ordering::Relaxed) != 0;
    let on = STATUS_FS_CLEAN | if has_vectors { STATUS_VS_CLEAN } else { 0 };
    csr::turn_on(on);
    // SAFETY: as in `save`.
    let area: *mut u8 = unsafe { &raw mut (*thread).fpu }.cast();
    // SAFETY: the running thread; `area` is another part of the record.
    let words = unsafe { words(thread) };
    if words[SAVED] == 0 {
        // SAFETY: as in `save`. Zeros are the state that the architecture starts with.
        unsafe { area.write_bytes(0, FLOAT_BYTES) };
    }
    // SAFETY: the unit is on, and the area is larger than the 264 bytes used.
    unsafe { fpu_load(area) };
    if words[SAVED] & VECTORS_SAVED != 0 {
        // SAFETY: the area holds what `vector_save` left there, so there is a unit; and it is on.
        unsafe { vector_load(area) };
    } else if has_vectors {
        // SAFETY: the unit is on.
        unsafe { vector_clear() };
    }
    // No other load, on this core or another, ever has this number: so a thread whose record carries it is the thread
    // whose state lies in this core's registers.
    hart.fpu_loads += 1;
    hart.fpu_thread = hart.fpu_loads << 8 | 1 << 7 | hart.core.index() as u64;
    words[MARK] = hart.fpu_thread;
    hart.user_status |= on;
    // What was loaded counts as unchanged.
    // SAFETY: nothing else is ever put there.
    unsafe { csr::set_status(hart.user_status) };
    true
}

/// Whether the load with this number is the thread's last, and it may use the units.
///
/// # Safety
/// The record is mapped, and nobody changes its mark or `no_fpu`.
unsafe fn owns(thread: *const Thread, load: u64) -> bool {
    // SAFETY: the caller's promise.
    let mark = unsafe { (*thread).machine[MARK] };
    // SAFETY: as above.
    mark == load && unsafe { (*thread).no_fpu } == 0
}

/// A thread is about to run (or none, if null): leaves the units on if what lies in them is the thread's.
///
/// # Safety
/// `thread` is null, or the thread that this core runs next.
pub unsafe fn switch(hart: &mut Hart, thread: *const Thread) {
    if hart.fpu_thread == 0 {
        return;
    }
    // SAFETY: a thread that this core runs next: mapped, and no other core changes these of its fields.
    let is_its_own = !thread.is_null() && unsafe { owns(thread, hart.fpu_thread) };
    if !is_its_own {
        hart.fpu_thread = 0;
        hart.user_status &= !(STATUS_FS | STATUS_VS);
    }
    // What is the thread's own and was changed has been saved, or is dead.
    // SAFETY: nothing else is ever put there.
    unsafe { csr::set_status(hart.user_status) };
}
