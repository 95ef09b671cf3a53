//! x86-64: `syscall`, `rdtsc`, and a stack that is 16-byte aligned before a call (System V ABI, section 3.2.2).

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
    // SAFETY: every register but rsp may change, and is named here: rbx and rbp, which can't be operands, are saved on
    // the stack and travel through rcx and r11, which `syscall` destroys anyway; `clobber_abi` names the vector and
    // x87 registers. Memory: the kernel touches none of this program's; what a request makes it map or unmap is its
    // caller's contract.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov rbx, rcx",
            "mov rbp, r11",
            "syscall",
            "mov rcx, rbx",
            "mov r11, rbp",
            "pop rbp",
            "pop rbx",
            inlateout("rax") request.operation => status,
            inlateout("rdi") request.label => label,
            inlateout("rsi") request.slots => badge,
            inlateout("rdx") request.reply => _,
            inlateout("r10") request.deadline => _,
            inlateout("r8") w0,
            inlateout("r9") w1,
            inlateout("r12") w2,
            inlateout("r13") w3,
            inlateout("r14") w4,
            inlateout("r15") w5,
            inlateout("rcx") w6,
            inlateout("r11") w7,
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
        "xor ebp, ebp", // The end of the chain of frames, for a debugger.
        "and rsp, -16",
        "call {start}",
        "ud2",
        start = sym crate::start::start,
    )
}

/// Where a further thread starts, with its argument in word 0 (`r8`).
///
/// # Safety
/// For the kernel to jump to, on a stack of its own, with what [`crate::thread::run`] wants in word 0.
#[unsafe(naked)]
pub unsafe extern "C" fn thread_entry() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "and rsp, -16",
        "mov rdi, r8",
        "call {run}",
        "ud2",
        run = sym crate::thread::run,
    )
}

/// The time-stamp counter.
#[inline]
pub fn counter() -> u64 {
    // SAFETY: `rdtsc` only reads a counter; every CPU that Anos runs on has it, and the kernel leaves it open to
    // programs (CR4.TSD = 0).
    unsafe { core::arch::x86_64::_rdtsc() }
}
