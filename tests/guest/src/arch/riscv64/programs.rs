//! Programs that are all assembly, for RISC-V: the hands, a waiter, and a program of another system.

use core::arch::{global_asm, naked_asm};

use anos::abi::{Operation, SystemCall};

use crate::hands::ENDPOINT_SLOT;

/// Loads all registers from where the stack pointer points to, in the order of [`super::super::Registers`].
macro_rules! load_at_stack {
    () => {
        "
        ld t0, 0(sp)
        ld t1, 8(sp)
        ld t2, 16(sp)
        ld t3, 24(sp)
        ld t4, 32(sp)
        ld a0, 40(sp)
        ld a1, 48(sp)
        ld a2, 56(sp)
        ld a3, 64(sp)
        ld a4, 72(sp)
        ld a5, 80(sp)
        ld a6, 88(sp)
        ld a7, 96(sp)
        ld ra, 104(sp)
        ld gp, 112(sp)
        ld t5, 120(sp)
        ld t6, 128(sp)
        ld s0, 136(sp)
        ld s1, 144(sp)
        ld s2, 152(sp)
        ld s3, 160(sp)
        ld s4, 168(sp)
        ld s5, 176(sp)
        ld s6, 184(sp)
        ld s7, 192(sp)
        ld s8, 200(sp)
        ld s9, 208(sp)
        ld s10, 216(sp)
        ld s11, 224(sp)
        "
    };
}

/// Stores all registers where the stack pointer points to.
macro_rules! store_at_stack {
    () => {
        "
        sd t0, 0(sp)
        sd t1, 8(sp)
        sd t2, 16(sp)
        sd t3, 24(sp)
        sd t4, 32(sp)
        sd a0, 40(sp)
        sd a1, 48(sp)
        sd a2, 56(sp)
        sd a3, 64(sp)
        sd a4, 72(sp)
        sd a5, 80(sp)
        sd a6, 88(sp)
        sd a7, 96(sp)
        sd ra, 104(sp)
        sd gp, 112(sp)
        sd t5, 120(sp)
        sd t6, 128(sp)
        sd s0, 136(sp)
        sd s1, 144(sp)
        sd s2, 152(sp)
        sd s3, 160(sp)
        sd s4, 168(sp)
        sd s5, 176(sp)
        sd s6, 184(sp)
        sd s7, 192(sp)
        sd s8, 200(sp)
        sd s9, 208(sp)
        sd s10, 216(sp)
        sd s11, 224(sp)
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
    naked_asm!("mv t0, a0", "mv t4, a1", "ecall", "not t0, t0", "sd t0, 0(sp)", "unimp")
}

/// Where a foreign system call's number, arguments and result are in [`super::super::Registers`].
pub const FOREIGN_NUMBER: usize = 12;
/// The same for the arguments.
pub const FOREIGN_ARGUMENTS: [usize; 6] = [5, 6, 7, 8, 9, 10];
/// The same for the result.
pub const FOREIGN_RESULT: usize = 5;
/// The instruction that makes a system call.
pub const SYSTEM_CALL_CODE: &[u8] = &[0x73, 0, 0, 0];

/// Whether a system call of another system may change a register.
pub fn foreign_call_changes(position: usize) -> bool {
    position == FOREIGN_RESULT
}

/// A program of another system: loads its registers from where the stack pointer points to, makes a system call, stores
/// them there, and makes another, for ever.
///
/// # Safety
/// For the kernel to jump to, in a foreign thread, with a stack pointer to [`super::super::Registers`].
#[unsafe(naked)]
pub unsafe extern "C" fn foreign_program() -> ! {
    naked_asm!(load_at_stack!(), "2: ecall", store_at_stack!(), "j 2b")
}

// Reports word 0 and gets the next order: what to do in word 0 (`hands::Order`), where in word 1, with what in word 2.
global_asm!(
    ".section .text.hands, \"ax\"",
    ".balign 16",
    ".option push",
    ".option norelax",
    // With link-time optimisation the compiler assembles this without its target's extensions.
    ".option arch, +m, +d",
    ".global hands_start",
    ".global hands_end",
    "hands_start:",
    "li a0, 0",
    ".Lhands_next:",
    "li t0, {call}",
    "li t1, 0",
    "li t2, 0",
    "li t3, 0",
    "li t4, -1",
    "ecall",
    "li t0, 1",
    "beq a0, t0, .Lhands_read",
    "li t0, 2",
    "beq a0, t0, .Lhands_write",
    "li t0, 3",
    "beq a0, t0, .Lhands_jump",
    "li t0, 4",
    "beq a0, t0, .Lhands_await",
    "li t0, 5",
    "beq a0, t0, .Lhands_push",
    "li t0, 6",
    "beq a0, t0, .Lhands_count",
    "li t0, 7",
    "beq a0, t0, .Lhands_illegal",
    "li t0, 8",
    "beq a0, t0, .Lhands_breakpoint",
    "li t0, 9",
    "beq a0, t0, .Lhands_divide",
    "li t0, 10",
    "beq a0, t0, .Lhands_privileged",
    "li t0, 11",
    "beq a0, t0, .Lhands_float",
    "li t0, 12",
    "beq a0, t0, .Lhands_machine",
    "li t0, 13",
    "beq a0, t0, .Lhands_call",
    "li t0, 14",
    "beq a0, t0, .Lhands_counter",
    "j hands_start",
    ".Lhands_read:",
    "ld a0, 0(a1)",
    "j .Lhands_next",
    ".Lhands_write:",
    "sd a2, 0(a1)",
    "j hands_start",
    ".Lhands_jump:",
    "jr a1",
    ".Lhands_await:",
    "ld a0, 0(a1)",
    "beqz a0, .Lhands_await",
    "j .Lhands_next",
    ".Lhands_push:",
    "addi sp, sp, -8",
    "sd a0, 0(sp)",
    "j .Lhands_push",
    ".Lhands_count:",
    "ld a0, 0(a1)",
    "addi a0, a0, 1",
    "sd a0, 0(a1)",
    "j .Lhands_count",
    ".Lhands_illegal:",
    "unimp",
    "j hands_start",
    ".Lhands_breakpoint:",
    "ebreak",
    "j hands_start",
    ".Lhands_divide:",
    "divu a0, a1, a2",
    "j .Lhands_next",
    ".Lhands_privileged:",
    "csrw sstatus, zero",
    "j hands_start",
    // Which interrupts are on: the kernel's own business.
    ".Lhands_machine:",
    "csrr a0, sie",
    "j .Lhands_next",
    ".Lhands_counter:",
    "rdcycle a0",
    "j .Lhands_next",
    // Holds word 2 in a floating-point register while it reads; adds up what both hold.
    ".Lhands_float:",
    "fmv.d.x fs7, a2",
    "ld a0, 0(a1)",
    "fmv.x.d a2, fs7",
    "add a0, a0, a2",
    "j .Lhands_next",
    // Makes a system call with the registers at word 1, and stores them there.
    ".Lhands_call:",
    "mv sp, a1",
    load_at_stack!(),
    "ecall",
    store_at_stack!(),
    "j hands_start",
    "hands_end:",
    ".option pop",
    ".text",
    call = const Operation::new(SystemCall::Call, ENDPOINT_SLOT).0,
);
