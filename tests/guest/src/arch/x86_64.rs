//! x86-64.

use core::arch::x86_64::__cpuid;
use core::arch::{asm, global_asm, naked_asm};

use anos::abi::{Operation, SystemCall};

use super::Registers;
use crate::hands::ENDPOINT_SLOT;
use crate::{helper, supervisor};

/// The roles, and `rcx`, `r11`.
pub const REGISTERS: usize = 15;

/// Loads all registers from where the stack pointer points to, in the order of [`Registers`].
macro_rules! load_at_stack {
    () => {
        "
        mov rax, [rsp + 0]
        mov rdi, [rsp + 8]
        mov rsi, [rsp + 16]
        mov rdx, [rsp + 24]
        mov r10, [rsp + 32]
        mov r8, [rsp + 40]
        mov r9, [rsp + 48]
        mov r12, [rsp + 56]
        mov r13, [rsp + 64]
        mov r14, [rsp + 72]
        mov r15, [rsp + 80]
        mov rbx, [rsp + 88]
        mov rbp, [rsp + 96]
        mov rcx, [rsp + 104]
        mov r11, [rsp + 112]
        "
    };
}

/// Stores all registers where the stack pointer points to.
macro_rules! store_at_stack {
    () => {
        "
        mov [rsp + 0], rax
        mov [rsp + 8], rdi
        mov [rsp + 16], rsi
        mov [rsp + 24], rdx
        mov [rsp + 32], r10
        mov [rsp + 40], r8
        mov [rsp + 48], r9
        mov [rsp + 56], r12
        mov [rsp + 64], r13
        mov [rsp + 72], r14
        mov [rsp + 80], r15
        mov [rsp + 88], rbx
        mov [rsp + 96], rbp
        mov [rsp + 104], rcx
        mov [rsp + 112], r11
        "
    };
}

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

/// Makes the system call in word 0, with the deadline in word 1, and stores the complement of its status where the stack
/// pointer points to. Then it faults.
///
/// # Safety
/// For the kernel to jump to, in a thread without a fault handler, with a stack pointer to a word.
#[unsafe(naked)]
pub unsafe extern "C" fn wait_once() -> ! {
    naked_asm!("mov rax, r8", "mov r10, r9", "syscall", "not rax", "mov [rsp], rax", "ud2")
}

/// Where a foreign system call's number, arguments and result are in [`Registers`].
pub const FOREIGN_NUMBER: usize = 0;
/// The same for the arguments.
pub const FOREIGN_ARGUMENTS: [usize; 6] = [1, 2, 3, 4, 5, 6];
/// The same for the result.
pub const FOREIGN_RESULT: usize = 0;
/// The instruction that makes a system call.
pub const SYSTEM_CALL_CODE: &[u8] = &[0x0f, 0x05];

/// Whether a system call of another system may change a register: `syscall` itself uses these.
pub fn foreign_call_changes(position: usize) -> bool {
    position == FOREIGN_RESULT || position >= 13
}

/// A program of another system: loads its registers from where the stack pointer points to, makes a system call, stores
/// them there, and makes another, for ever.
///
/// # Safety
/// For the kernel to jump to, in a foreign thread, with a stack pointer to [`Registers`].
#[unsafe(naked)]
pub unsafe extern "C" fn foreign_program() -> ! {
    naked_asm!(load_at_stack!(), "2: syscall", store_at_stack!(), "jmp 2b")
}

// Reports word 0 and gets the next order: what to do in word 0 (`hands::Order`), where in word 1, with what in word 2.
global_asm!(
    ".section .text.hands, \"ax\"",
    ".balign 16",
    ".global hands_start",
    ".global hands_end",
    "hands_start:",
    "xor r8d, r8d",
    ".Lhands_next:",
    "movabs rax, {call}",
    "xor edi, edi",
    "xor esi, esi",
    "xor edx, edx",
    "mov r10, -1",
    "syscall",
    "cmp r8, 1",
    "je .Lhands_read",
    "cmp r8, 2",
    "je .Lhands_write",
    "cmp r8, 3",
    "je .Lhands_jump",
    "cmp r8, 4",
    "je .Lhands_await",
    "cmp r8, 5",
    "je .Lhands_push",
    "cmp r8, 6",
    "je .Lhands_count",
    "cmp r8, 7",
    "je .Lhands_illegal",
    "cmp r8, 8",
    "je .Lhands_breakpoint",
    "cmp r8, 9",
    "je .Lhands_divide",
    "cmp r8, 10",
    "je .Lhands_privileged",
    "cmp r8, 11",
    "je .Lhands_float",
    "cmp r8, 12",
    "je .Lhands_machine",
    "cmp r8, 13",
    "je .Lhands_call",
    "jmp hands_start",
    ".Lhands_read:",
    "mov r8, [r9]",
    "jmp .Lhands_next",
    ".Lhands_write:",
    "mov [r9], r12",
    "jmp hands_start",
    ".Lhands_jump:",
    "jmp r9",
    ".Lhands_await:",
    "mov r8, [r9]",
    "test r8, r8",
    "jz .Lhands_await",
    "jmp .Lhands_next",
    ".Lhands_push:",
    "push r8",
    "jmp .Lhands_push",
    ".Lhands_count:",
    "inc qword ptr [r9]",
    "jmp .Lhands_count",
    ".Lhands_illegal:",
    "ud2",
    "jmp hands_start",
    ".Lhands_breakpoint:",
    "int3",
    "jmp hands_start",
    ".Lhands_divide:",
    "xor edx, edx",
    "mov rax, r9",
    "div r12",
    "mov r8, rax",
    "jmp .Lhands_next",
    ".Lhands_privileged:",
    "cli",
    "jmp hands_start",
    // A port, which is neither here nor there: the right to it is a capability.
    ".Lhands_machine:",
    "mov rdx, r9",
    "in al, dx",
    "jmp hands_start",
    // Holds word 2 in a floating-point register while it reads; adds up what both hold.
    ".Lhands_float:",
    "movq xmm7, r12",
    "mov r8, [r9]",
    "movq r12, xmm7",
    "add r8, r12",
    "jmp .Lhands_next",
    // Makes a system call with the registers at word 1, and stores them there.
    ".Lhands_call:",
    "mov rsp, r9",
    load_at_stack!(),
    "syscall",
    store_at_stack!(),
    "jmp hands_start",
    "hands_end:",
    ".text",
    call = const Operation::new(SystemCall::Call, ENDPOINT_SLOT).0,
);

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
