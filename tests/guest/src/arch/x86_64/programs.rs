//! Programs that are all assembly, for x86-64: the hands, a waiter, and a program of another system.

use core::arch::{global_asm, naked_asm};

use anos::abi::{Operation, SystemCall};

use crate::hands::ENDPOINT_SLOT;

/// Loads all registers from where the stack pointer points to, in the order of [`super::super::Registers`].
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

/// Makes the system call in word 0, with the deadline in word 1, and stores the complement of its status where the stack
/// pointer points to. Then it faults.
///
/// # Safety
/// For the kernel to jump to, in a thread without a fault handler, with a stack pointer to a word.
#[unsafe(naked)]
pub unsafe extern "C" fn wait_once() -> ! {
    naked_asm!("mov rax, r8", "mov r10, r9", "syscall", "not rax", "mov [rsp], rax", "ud2")
}

/// Where a foreign system call's number, arguments and result are in [`super::super::Registers`].
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
/// For the kernel to jump to, in a foreign thread, with a stack pointer to [`super::super::Registers`].
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
    "cmp r8, 14",
    "je .Lhands_counter",
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
    ".Lhands_counter:",
    "xor ecx, ecx",
    "rdpmc",
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
