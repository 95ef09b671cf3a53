//! Floating point and vectors, on first use: a thread starts with the FPU off, its first instruction traps, and from then
//! on its state is in the FPU until another thread runs. The kernel itself uses none.
//!
//! With XSAVE that includes AVX, and AVX-512 where there is room for it (SDM 1, chapter 13); without, x87 and SSE.

use core::arch::asm;

use anos_machine::Thread;
use anos_machine::records::FPU_BYTES;

use crate::cpu;
use crate::percore::{self, CoreData, OSXSAVE};

/// CR0: monitor coprocessor, task switched, numeric error.
const MONITOR: u64 = 1 << 1;
const TASK_SWITCHED: u64 = 1 << 3;
const NUMERIC_ERROR: u64 = 1 << 5;
const EMULATION: u64 = 1 << 2;

/// XCR0: x87, SSE, AVX; and the three parts of AVX-512 (with AVX, or not at all).
const UP_TO_AVX: u32 = 0x07;
const AVX512: u32 = 0xe0;

/// In [`Thread::machine`]'s first word: the record holds the thread's state, as a trap saved it, and what the FPU may hold
/// is no older. Else the thread starts from the defaults, once the FPU has been another's.
const SAVED: u64 = 1;

/// Switches on all that this core has and a [`Thread`] has room for; turned off, for now.
pub fn start() {
    if percore::enabled(OSXSAVE) {
        let states = cpu::cpuid(0xd, 0).eax;
        let all = UP_TO_AVX | AVX512;
        // SAFETY: the processor has these states.
        unsafe { cpu::set_xcr0(if states & all == all { all } else { states & UP_TO_AVX }) };
        // What the states that are on take: at most 832 bytes without AVX-512.
        if cpu::cpuid(0xd, 0).ebx as usize > FPU_BYTES {
            // SAFETY: as above.
            unsafe { cpu::set_xcr0(states & UP_TO_AVX) };
        }
    }
    turn_off();
}

/// Floating-point instructions trap from now on.
fn turn_off() {
    let cr0 = (cpu::cr0() | MONITOR | NUMERIC_ERROR | TASK_SWITCHED) & !EMULATION;
    // SAFETY: changes only what floating-point instructions do.
    unsafe { cpu::set_cr0(cr0) };
}

/// The FPU no longer belongs to the running thread.
pub fn release(core: &CoreData) {
    if core.fpu.get() {
        core.fpu.set(false);
        turn_off();
    }
}

/// Saves the running thread's state, if it is in the FPU, and leaves it there.
pub fn save(core: &CoreData) {
    if core.fpu.get() {
        let thread = core.thread.get();
        let area = area(thread);
        if percore::enabled(OSXSAVE) {
            // SAFETY: the record of the running thread, which only this core writes until it says that it is in the
            // kernel; the area is 64-byte aligned and large enough (`start`).
            unsafe {
                asm!("xsave64 [{}]", in(reg) area, in("eax") !0, in("edx") !0, options(nostack, preserves_flags))
            };
        } else {
            // SAFETY: as above; 512 bytes are used.
            unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
        }
        // SAFETY: as above.
        unsafe { (*thread).machine[0] = SAVED };
    }
}

/// The running thread, whose state is in the FPU, makes a system call. Across it, floating-point registers need not
/// survive, so nothing is saved; but what an earlier trap saved must not come back in place of what is in the FPU now.
/// Another system's call is no different from any other trap.
#[cold]
#[inline(never)]
pub fn system_call(core: &CoreData) {
    let thread = core.thread.get();
    // SAFETY: the record of the running thread, as in `save`; nobody changes this while it runs.
    if unsafe { (*thread).foreign } != 0 {
        save(core);
    } else {
        // SAFETY: as in `save`.
        unsafe { (*thread).machine[0] = 0 };
    }
}

/// The running thread used the FPU while it was off: loads its state. False if it must not use it.
pub fn load(core: &CoreData) -> bool {
    let thread = core.thread.get();
    // SAFETY: as in `system_call`.
    if unsafe { (*thread).no_fpu } != 0 {
        return false;
    }
    // SAFETY: the running thread's record; see `save`.
    if unsafe { (*thread).machine[0] } & SAVED == 0 {
        // SAFETY: as above.
        let area = unsafe { &mut (*thread).fpu };
        // The legacy part: all zeros but for two fields (SDM 1, 10.5.1). Then XSAVE's header: zeros say that every state
        // is the initial one, so that `xrstor64` clears what another thread has left (13.8.1). Something old may lie
        // here: see `system_call`.
        area[..576].fill(0);
        const CONTROL: [u8; 2] = 0x037f_u16.to_le_bytes();
        const MXCSR: [u8; 4] = 0x1f80_u32.to_le_bytes();
        [area[0], area[1]] = CONTROL;
        [area[24], area[25], area[26], area[27]] = MXCSR;
    }
    let area = area(thread);
    // SAFETY: makes floating-point instructions work; the user can't tell that it was otherwise. AMD's processors restore
    // no pointers to the last x87 instruction and its operand: so `fninit` clears those of another thread.
    unsafe { asm!("clts", "fninit", options(nomem, nostack, preserves_flags)) };
    if percore::enabled(OSXSAVE) {
        // SAFETY: an image that `xsave64` made (it leaves all but the header's first word alone, so the rest is 0), or the
        // default one above: no reserved bit is set.
        unsafe { asm!("xrstor64 [{}]", in(reg) area, in("eax") !0, in("edx") !0, options(nostack, preserves_flags)) };
    } else {
        // SAFETY: an image that `fxsave64` made, or the default one above: no reserved bit is set.
        unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
    }
    core.fpu.set(true);
    true
}

fn area(thread: *mut Thread) -> *mut u8 {
    const OFFSET: usize = core::mem::offset_of!(Thread, fpu);
    const _: () = assert!(OFFSET.is_multiple_of(64));
    thread.cast::<u8>().wrapping_add(OFFSET)
}
