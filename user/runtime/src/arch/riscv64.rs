//! RISC-V: `ecall`, `rdtime`, and a stack that is always 16-byte aligned (RISC-V calling convention).
//!
//! `gp` is never used: the linker does no global-pointer relaxation unless asked, so it needs no value and no care.

use core::arch::{asm, naked_asm};

use crate::sys::{Answer, Request};

/// Enters the kernel. Which register has which role: `anos_abi::syscall`.
///
/// # Safety
/// As for [`crate::sys::system_call`].
#[inline]
pub unsafe fn system_call(request: &Request) -> Answer {
    let [mut w0, mut w1, mut w2, mut w3, mut w4, mut w5, mut w6, mut w7] = request.words;
    let (status, label, badge): (u64, u64, u64);
    // SAFETY: every register but sp and tp may change, and is named here, the floating-point ones included: s0 and s1,
    // which can't be operands, are saved on the stack; gp is not used (see above); `clobber_abi` names the rest of
    // what a call may change. Memory: the kernel touches none of this program's; what a request makes it map or unmap
    // is its caller's contract.
    unsafe {
        asm!(
            "addi sp, sp, -16",
            "sd s0, 0(sp)",
            "sd s1, 8(sp)",
            "ecall",
            "ld s1, 8(sp)",
            "ld s0, 0(sp)",
            "addi sp, sp, 16",
            inlateout("t0") request.operation => status,
            inlateout("t1") request.label => label,
            inlateout("t2") request.slots => badge,
            inlateout("t3") request.reply => _,
            inlateout("t4") request.deadline => _,
            inlateout("a0") w0,
            inlateout("a1") w1,
            inlateout("a2") w2,
            inlateout("a3") w3,
            inlateout("a4") w4,
            inlateout("a5") w5,
            inlateout("a6") w6,
            inlateout("a7") w7,
            lateout("s2") _, lateout("s3") _, lateout("s4") _, lateout("s5") _, lateout("s6") _,
            lateout("s7") _, lateout("s8") _, lateout("s9") _, lateout("s10") _, lateout("s11") _,
            lateout("fs0") _, lateout("fs1") _, lateout("fs2") _, lateout("fs3") _, lateout("fs4") _,
            lateout("fs5") _, lateout("fs6") _, lateout("fs7") _, lateout("fs8") _, lateout("fs9") _,
            lateout("fs10") _, lateout("fs11") _,
            clobber_abi("C"),
        );
    }
    Answer { status, label, badge, words: [w0, w1, w2, w3, w4, w5, w6, w7] }
}

/// Where a program starts: the kernel sets the stack pointer and clears everything else.
///
/// # Safety
/// For the kernel to jump to, once.
#[cfg(anos_guest)]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "li s0, 0", // The end of the chain of frames, for a debugger.
        "li ra, 0",
        "andi sp, sp, -16",
        "call {start}",
        "unimp",
        start = sym crate::start::start,
    )
}

/// Where a further thread starts, with its argument in word 0 (`a0`).
///
/// # Safety
/// For the kernel to jump to, on a stack of its own, with what [`crate::thread::run`] wants in word 0.
#[unsafe(naked)]
pub unsafe extern "C" fn thread_entry() -> ! {
    naked_asm!(
        "li s0, 0",
        "li ra, 0",
        "andi sp, sp, -16",
        "call {run}",
        "unimp",
        run = sym crate::thread::run,
    )
}

/// The `time` counter.
#[inline]
pub fn counter() -> u64 {
    let time;
    // SAFETY: `rdtime` only reads a counter, which the kernel leaves open to programs (`scounteren.TM`).
    unsafe { asm!("rdtime {}", out(reg) time, options(nomem, nostack, preserves_flags)) };
    time
}
