//! RISC-V: `ecall`, with the registers of Linux's ABI (`a7` and `a0` to `a5`), and `rdtime`.
//!
//! The counter of instructions is closed to programs (since Linux 6.6, unless root opens it through a file), the clock is
//! not: QEMU's ticks at 10 MHz, so once in 100 instructions of a nanosecond each.
//!
//! `gp` is never used: the linker does no global-pointer relaxation unless asked.

use core::arch::{asm, naked_asm};

/// Instructions between two values of the counter, under `-icount shift=0`.
pub const INSTRUCTIONS_PER_TICK: u64 = 100;

/// Numbers of the system calls.
pub mod number {
    pub const EVENTFD2: usize = 19;
    pub const PIPE2: usize = 59;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const SCHED_SETSCHEDULER: usize = 119;
    pub const SCHED_YIELD: usize = 124;
    pub const KILL: usize = 129;
    pub const REBOOT: usize = 142;
    pub const UNAME: usize = 160;
    pub const GETPPID: usize = 173;
    pub const SOCKETPAIR: usize = 199;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const MMAP: usize = 222;
    pub const MADVISE: usize = 233;
    pub const WAIT4: usize = 260;
}

/// Enters Linux.
///
/// # Safety
/// What Linux is told to do with this process's memory must be right for it.
#[inline(always)]
pub unsafe fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let answer;
    // SAFETY: Linux changes a0 alone of the registers but those of vectors, which this is built without; memory is the
    // caller's contract.
    unsafe {
        asm!(
            "ecall",
            inlateout("a0") a => answer,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e, in("a5") f, in("a7") number,
            options(nostack),
        );
    }
    answer
}

/// The same without the instruction that enters Linux: what a round costs that is not Linux's.
#[inline(always)]
pub fn like_system_call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let answer;
    // SAFETY: no instruction at all.
    unsafe {
        asm!(
            "",
            inlateout("a0") a => answer,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e, in("a5") f, in("a7") number,
            options(nostack),
        );
    }
    answer
}

/// The clock.
#[inline(always)]
pub fn counter() -> u64 {
    let time;
    // SAFETY: `rdtime` only reads a counter, which Linux leaves open to programs (`scounteren.TM`).
    unsafe { asm!("rdtime {}", out(reg) time, options(nostack, preserves_flags)) };
    time
}

/// Counts down to 0, from more than that.
#[inline(always)]
pub fn spin(rounds: u64) {
    // SAFETY: counts in a register.
    unsafe { asm!("2:", "addi {0}, {0}, -1", "bnez {0}, 2b", inout(reg) rounds => _, options(nomem, nostack)) };
}

/// Where the program starts: the stack pointer leads to the number of arguments.
///
/// # Safety
/// For Linux to jump to, once.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text._start")]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "li s0, 0", // The end of the chain of frames, for a debugger.
        "li ra, 0",
        "ld a0, 0(sp)",
        "andi sp, sp, -16",
        "call {start}",
        "unimp",
        start = sym crate::start,
    )
}
