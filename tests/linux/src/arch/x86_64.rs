//! x86-64: `syscall`, with the registers of System V's ABI for the AMD64 processor (appendix A.2.1), and `rdtsc`.

use core::arch::{asm, naked_asm};

/// Instructions between two values of the counter, under `-icount shift=0`.
pub const INSTRUCTIONS_PER_TICK: u64 = 1;

/// Numbers of the system calls.
pub mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const MMAP: usize = 9;
    pub const SCHED_YIELD: usize = 24;
    pub const MADVISE: usize = 28;
    pub const SOCKETPAIR: usize = 53;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const UNAME: usize = 63;
    pub const GETPPID: usize = 110;
    pub const SCHED_SETSCHEDULER: usize = 144;
    pub const REBOOT: usize = 169;
    pub const EXIT_GROUP: usize = 231;
    pub const EVENTFD2: usize = 290;
    pub const PIPE2: usize = 293;
}

/// Enters Linux.
///
/// # Safety
/// What Linux is told to do with this process's memory must be right for it.
#[inline(always)]
pub unsafe fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let answer;
    // SAFETY: Linux changes rax, rcx and r11 alone of the registers (the ABI, as above); memory is the caller's contract.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
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
            inlateout("rax") number => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// The time-stamp counter.
#[inline(always)]
pub fn counter() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: `rdtsc` only reads a counter, which Linux leaves open to programs (CR4.TSD).
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Counts down to 0, from more than that.
#[inline(always)]
pub fn spin(rounds: u64) {
    // SAFETY: counts in a register.
    unsafe { asm!("2:", "dec {0}", "jnz 2b", inout(reg) rounds => _, options(nomem, nostack)) };
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
        "xor ebp, ebp", // The end of the chain of frames, for a debugger.
        "mov rdi, [rsp]",
        "and rsp, -16",
        "call {start}",
        "ud2",
        start = sym crate::start,
    )
}
