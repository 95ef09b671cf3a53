//! x86-64.

use core::arch::x86_64::__cpuid;
use core::arch::{asm, naked_asm};

use super::Registers;
use crate::{helper, supervisor};

mod programs;

pub use programs::*;

/// The architecture's number in BootInfo.
pub const NUMBER: u64 = 1;
/// Whether the machine is a PC, with I/O ports, code segments, and a timer (HPET) that sends messages.
pub const IS_PC: bool = true;
/// The serial port's interrupt line, and whether it is level-triggered.
pub const UART_LINE: (u64, bool) = (4, false);
/// Whether dividing by zero is a fault.
pub const DIVISION_FAULTS: bool = true;

/// The roles, and `rcx`, `r11`.
pub const REGISTERS: usize = 15;

/// Whether a register that is no part of an answer holds nothing that it shouldn't. `sysret` leaves the thread's own
/// program counter in `rcx` (somewhere behind `code`), and its own flags in `r11`.
pub fn is_clean(position: usize, value: u64, code: u64) -> bool {
    const FLAGS: u64 = 0xcd7;
    match position {
        13 => value == 0 || value.wrapping_sub(code) < 1024,
        14 => value == 0 || value & !FLAGS == 0x200,
        _ => value == 0,
    }
}

/// Where helpers start: word 1 is what to do.
///
/// # Safety
/// For the kernel to jump to, on a stack, with a [`helper::Task`] in word 1.
#[unsafe(naked)]
pub unsafe extern "C" fn helper_entry() -> ! {
    naked_asm!("xor ebp, ebp", "and rsp, -16", "mov rdi, r9", "call {run}", "ud2", run = sym helper::run)
}

/// Where the worker starts: word 1 is the case.
///
/// # Safety
/// For the kernel to jump to, on a stack, with a [`crate::cases::TestCase`] in word 1.
#[unsafe(naked)]
pub unsafe extern "C" fn worker_entry() -> ! {
    naked_asm!("xor ebp, ebp", "and rsp, -16", "mov rdi, r9", "call {work}", "ud2", work = sym supervisor::work)
}

/// Where a helper starts that stores the registers it was started with: word 0 is where to.
///
/// # Safety
/// For the kernel to jump to, on a stack, with a [`Registers`] in word 0 and a [`helper::Task`] in word 1.
#[unsafe(naked)]
pub unsafe extern "C" fn start_probe() -> ! {
    naked_asm!(
        "mov [r8], rax",
        "mov [r8 + 8], rdi",
        "mov [r8 + 16], rsi",
        "mov [r8 + 24], rdx",
        "mov [r8 + 32], r10",
        "mov [r8 + 40], r8",
        "mov [r8 + 48], r9",
        "mov [r8 + 56], r12",
        "mov [r8 + 64], r13",
        "mov [r8 + 72], r14",
        "mov [r8 + 80], r15",
        "mov [r8 + 88], rbx",
        "mov [r8 + 96], rbp",
        "mov [r8 + 104], rcx",
        "mov [r8 + 112], r11",
        "jmp {entry}",
        entry = sym helper_entry,
    )
}

/// Makes a system call with all these registers, and stores them as they are afterwards.
///
/// # Safety
/// The call must not take away memory that the program uses.
#[unsafe(naked)]
pub unsafe extern "C" fn raw_system_call(registers: *mut Registers) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "mov rax, [rdi]",
        "mov rsi, [rdi + 16]",
        "mov rdx, [rdi + 24]",
        "mov r10, [rdi + 32]",
        "mov r8, [rdi + 40]",
        "mov r9, [rdi + 48]",
        "mov r12, [rdi + 56]",
        "mov r13, [rdi + 64]",
        "mov r14, [rdi + 72]",
        "mov r15, [rdi + 80]",
        "mov rbx, [rdi + 88]",
        "mov rbp, [rdi + 96]",
        "mov rdi, [rdi + 8]",
        "syscall",
        // The answer's rdi goes onto the stack while rdi points to where the answer goes.
        "push rdi",
        "mov rdi, [rsp + 8]",
        "mov [rdi], rax",
        "mov [rdi + 16], rsi",
        "mov [rdi + 24], rdx",
        "mov [rdi + 32], r10",
        "mov [rdi + 40], r8",
        "mov [rdi + 48], r9",
        "mov [rdi + 56], r12",
        "mov [rdi + 64], r13",
        "mov [rdi + 72], r14",
        "mov [rdi + 80], r15",
        "mov [rdi + 88], rbx",
        "mov [rdi + 96], rbp",
        "mov [rdi + 104], rcx",
        "mov [rdi + 112], r11",
        "pop rax",
        "mov [rdi + 8], rax",
        "pop rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// Makes a system call as [`raw_system_call`] does, with every flag set that a program can set without harm to itself:
/// direction, nested task, alignment check, identification, and the arithmetic ones.
///
/// # Safety
/// As for [`raw_system_call`].
#[unsafe(naked)]
pub unsafe extern "C" fn raw_system_call_with_flags(registers: *mut Registers) {
    naked_asm!(
        "push 0x244cd7",
        "popfq",
        "call {raw}",
        "push 0x2",
        "popfq",
        "ret",
        raw = sym raw_system_call,
    )
}

/// Fills the integer registers with `pattern`, `pattern + 1` and so on, computes for a while, and says which bits have
/// changed.
#[unsafe(naked)]
pub extern "C" fn hold_integers(pattern: u64, rounds: u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "mov rcx, rsi",
        "mov rax, rdi",
        "lea rbx, [rdi + 1]",
        "lea rdx, [rdi + 2]",
        "lea rsi, [rdi + 3]",
        "lea rbp, [rdi + 4]",
        "lea r8, [rdi + 5]",
        "lea r9, [rdi + 6]",
        "lea r10, [rdi + 7]",
        "lea r11, [rdi + 8]",
        "lea r12, [rdi + 9]",
        "lea r13, [rdi + 10]",
        "lea r14, [rdi + 11]",
        "lea r15, [rdi + 12]",
        "2: dec rcx",
        "jnz 2b",
        "sub rax, rdi",
        "or rcx, rax",
        "lea rax, [rdi + 1]",
        "sub rbx, rax",
        "or rcx, rbx",
        "lea rax, [rdi + 2]",
        "sub rdx, rax",
        "or rcx, rdx",
        "lea rax, [rdi + 3]",
        "sub rsi, rax",
        "or rcx, rsi",
        "lea rax, [rdi + 4]",
        "sub rbp, rax",
        "or rcx, rbp",
        "lea rax, [rdi + 5]",
        "sub r8, rax",
        "or rcx, r8",
        "lea rax, [rdi + 6]",
        "sub r9, rax",
        "or rcx, r9",
        "lea rax, [rdi + 7]",
        "sub r10, rax",
        "or rcx, r10",
        "lea rax, [rdi + 8]",
        "sub r11, rax",
        "or rcx, r11",
        "lea rax, [rdi + 9]",
        "sub r12, rax",
        "or rcx, r12",
        "lea rax, [rdi + 10]",
        "sub r13, rax",
        "or rcx, r13",
        "lea rax, [rdi + 11]",
        "sub r14, rax",
        "or rcx, r14",
        "lea rax, [rdi + 12]",
        "sub r15, rax",
        "or rcx, r15",
        "pop rax",
        "sub rdi, rax",
        "or rcx, rdi",
        "mov rax, rcx",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// The word at the thread pointer.
pub fn thread_pointer_word() -> u64 {
    let word;
    // SAFETY: the caller's thread was started with a thread pointer to memory that stays mapped.
    unsafe { asm!("mov {}, fs:[0]", out(reg) word, options(nostack, readonly)) };
    word
}

/// What the floating-point control register holds in a fresh thread.
pub const FLOAT_CONTROL: u32 = 0x1f80;
/// Another valid content: rounding towards zero.
pub const FLOAT_CONTROL_OTHER: u32 = 0x7f80;

/// Whether the registers have 256 bits. Then the kernel has to have switched them on.
fn has_avx() -> bool {
    __cpuid(1).ecx >> 28 & 1 != 0
}

/// Adds to rcx how many words of all registers (with 128 bits; with 256) differ from `pattern` (in rdi), `pattern + 1` and
/// so on. Uses up rax, rdx, and the first register.
macro_rules! count_differing {
    (128) => {
        concat!(
            "mov rax, rdi\n",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n",
            count_differing!("movq rdx, xmm\\n\n"),
            count_differing!("punpckhqdq xmm\\n, xmm\\n\n movq rdx, xmm\\n\n"),
            "inc rax\n",
            ".endr"
        )
    };
    (256) => {
        concat!(
            "mov rax, rdi\n",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n",
            count_differing!("vmovq rdx, xmm\\n\n"),
            count_differing!("vpextrq rdx, xmm\\n, 1\n"),
            "vextractf128 xmm0, ymm\\n, 1\n",
            count_differing!("vmovq rdx, xmm0\n"),
            count_differing!("vpextrq rdx, xmm0, 1\n"),
            "inc rax\n",
            ".endr"
        )
    };
    ($read:expr) => {
        concat!($read, "cmp rdx, rax\n setne dl\n movzx edx, dl\n add rcx, rdx\n")
    };
}

/// Fills all floating-point registers with `pattern`, `pattern + 1` and so on, computes for a while with the others,
/// and says how many words of them have changed.
pub fn hold_floats(pattern: u64, rounds: u64) -> u64 {
    let changed;
    if has_avx() {
        // SAFETY: only registers that are named change, and the upper halves that nobody else uses.
        unsafe {
            asm!(
                "mov rax, rdi",
                ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                "vmovq xmm\\n, rax",
                "vpunpcklqdq xmm\\n, xmm\\n, xmm\\n",
                "vinsertf128 ymm\\n, ymm\\n, xmm\\n, 1",
                "inc rax",
                ".endr",
                "2: dec rsi",
                "jnz 2b",
                count_differing!(256),
                in("rdi") pattern, inout("rsi") rounds => _,
                out("rax") _, out("rdx") _, inout("rcx") 0_u64 => changed,
                clobber_abi("C"),
                options(nomem, nostack),
            );
        }
        return changed;
    }
    // SAFETY: only registers that are named change.
    unsafe {
        asm!(
            "mov rax, rdi",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movq xmm\\n, rax",
            "punpcklqdq xmm\\n, xmm\\n",
            "inc rax",
            ".endr",
            "2: dec rsi",
            "jnz 2b",
            count_differing!(128),
            inout("rdi") pattern => _, inout("rsi") rounds => _,
            out("rax") _, out("rdx") _, inout("rcx") 0_u64 => changed,
            clobber_abi("C"),
            options(nomem, nostack),
        );
    }
    changed
}

/// How many words of the floating-point registers hold what [`hold_floats`] leaves there.
pub fn matching_floats(pattern: u64) -> u64 {
    let differing: u64;
    if has_avx() {
        // SAFETY: as in `hold_floats`.
        unsafe {
            asm!(
                count_differing!(256),
                in("rdi") pattern,
                out("rax") _, out("rdx") _, inout("rcx") 0_u64 => differing,
                clobber_abi("C"),
                options(nomem, nostack),
            );
        }
        return 16 * 4 - differing;
    }
    // SAFETY: only registers that are named change.
    unsafe {
        asm!(
            count_differing!(128),
            in("rdi") pattern,
            out("rax") _, out("rdx") _, inout("rcx") 0_u64 => differing,
            clobber_abi("C"),
            options(nomem, nostack),
        );
    }
    16 * 2 - differing
}

/// What a foreign thread that holds floats asks for, and what it shall get.
pub const FOREIGN_CALL: (u64, u64) = (0x1234, 0x5678);

/// As [`hold_floats`] (for the lower halves), but instead of computing it makes a system call of another system, and also
/// counts an unexpected result of that.
pub fn hold_floats_over_foreign_call(pattern: u64) -> u64 {
    let (changed, result): (u64, u64);
    // SAFETY: only registers that are named change; the call is told to the case, which changes its result.
    unsafe {
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movq xmm\\n, rdi",
            "inc rdi",
            ".endr",
            "syscall",
            "sub rdi, 16",
            "xor esi, esi",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movq rdx, xmm\\n",
            "cmp rdx, rdi",
            "setne dl",
            "movzx edx, dl",
            "add rsi, rdx",
            "inc rdi",
            ".endr",
            inout("rdi") pattern => _, out("rsi") changed, inout("rax") FOREIGN_CALL.0 => result, out("rdx") _,
            clobber_abi("C"),
            options(nostack),
        );
    }
    changed + u64::from(result != FOREIGN_CALL.1)
}

/// All floating-point registers, OR-ed together.
pub fn any_float() -> u64 {
    let mut all: u64;
    // SAFETY: only registers that are named change.
    unsafe {
        asm!(
            "xor eax, eax",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movq rdx, xmm\\n",
            "or rax, rdx",
            "punpckhqdq xmm\\n, xmm\\n",
            "movq rdx, xmm\\n",
            "or rax, rdx",
            ".endr",
            out("rax") all, out("rdx") _,
            clobber_abi("C"),
            options(nomem, nostack),
        );
    }
    if has_avx() {
        // What has been used up above are the lower halves, so these are the upper ones.
        // SAFETY: as above.
        unsafe {
            asm!(
                ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                "vextractf128 xmm\\n, ymm\\n, 1",
                "vmovq rdx, xmm\\n",
                "or rax, rdx",
                "vpextrq rdx, xmm\\n, 1",
                "or rax, rdx",
                ".endr",
                inout("rax") all, out("rdx") _,
                clobber_abi("C"),
                options(nomem, nostack),
            );
        }
    }
    all
}

/// The floating-point control register.
pub fn float_control() -> u32 {
    let mut control = 0_u32;
    // SAFETY: writes into `control`.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack)) };
    control
}

/// Sets the floating-point control register, and computes with nothing until it is set back.
pub fn set_float_control(control: u32) {
    // SAFETY: a valid content (no reserved bit); the caller sets it back before Rust computes with floats.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, readonly)) };
}

/// There is no devicetree.
pub fn devicetree_names(_name: &[u8]) -> bool {
    false
}
