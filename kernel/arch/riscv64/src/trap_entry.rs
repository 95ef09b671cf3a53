//! Traps, in assembly: a thread's registers go straight into its record, and come back from there.
//!
//! In user mode `sscratch` is the address of the hart's block, in the kernel it is 0: so the first instruction tells
//! where the trap came from. The kernel never expects one of its own: interrupts are off in it.
//!
//! `Registers::other` is s0, ra, gp, s1 to s11, t5, t6, and a word that says whether they are there ([`LEFT`]). A system
//! call leaves them where they are: its caller expects nothing of those registers, and gets zeros. Nor of the
//! floating-point registers and `fcsr`: see `fpu.rs`. A foreign thread's call is another system's business, whose callers
//! may expect all registers: they are saved as for any trap.

use core::arch::global_asm;
use core::mem::offset_of;

use anos_machine::{Registers, Thread};

use crate::hart::{Hart, MIDDLE, STACK_BYTES};
use crate::report::{CRASH_OWNER, fault_in_report, kernel_fault};
use crate::traps::{SYSTEM_CALL, system_call, user_trap};

const _: () = assert!(offset_of!(Thread, registers) == 0);
const _: () = assert!(offset_of!(Registers, words) == 0 && offset_of!(Registers, other) == 128);
const _: () = assert!(size_of::<Thread>() == 4096 && MIDDLE == 2048 && offset_of!(Hart, thread) == 0);

/// Registers in `other`.
const OTHERS: usize = 16;
/// The word of `other` that says whether the registers before it count for nothing: the thread made a system call, and
/// they are zeros when it goes on, whatever stands there.
const LEFT: usize = OTHERS;

global_asm!(
    // For each of `other`: the instruction, the register, its place.
    ".macro __others instruction",
    "\\instruction s0, 128 - {middle}(t0)",
    "\\instruction ra, 136 - {middle}(t0)",
    "\\instruction gp, 144 - {middle}(t0)",
    "\\instruction s1, 152 - {middle}(t0)",
    "\\instruction s2, 160 - {middle}(t0)",
    "\\instruction s3, 168 - {middle}(t0)",
    "\\instruction s4, 176 - {middle}(t0)",
    "\\instruction s5, 184 - {middle}(t0)",
    "\\instruction s6, 192 - {middle}(t0)",
    "\\instruction s7, 200 - {middle}(t0)",
    "\\instruction s8, 208 - {middle}(t0)",
    "\\instruction s9, 216 - {middle}(t0)",
    "\\instruction s10, 224 - {middle}(t0)",
    "\\instruction s11, 232 - {middle}(t0)",
    "\\instruction t5, 240 - {middle}(t0)",
    "\\instruction t6, 248 - {middle}(t0)",
    ".endm",
    ".macro __words instruction",
    "\\instruction a0, 0 - {middle}(t0)",
    "\\instruction a1, 8 - {middle}(t0)",
    "\\instruction a2, 16 - {middle}(t0)",
    "\\instruction a3, 24 - {middle}(t0)",
    "\\instruction a4, 32 - {middle}(t0)",
    "\\instruction a5, 40 - {middle}(t0)",
    "\\instruction a6, 48 - {middle}(t0)",
    "\\instruction a7, 56 - {middle}(t0)",
    ".endm",

    ".macro __roles instruction",
    "\\instruction t1, {label} - {middle}(t0)",
    "\\instruction t2, {slots} - {middle}(t0)",
    "\\instruction t3, {reply} - {middle}(t0)",
    "\\instruction t4, {deadline} - {middle}(t0)",
    "\\instruction tp, {tp} - {middle}(t0)",
    ".endm",

    // t0 is the middle of the thread's record.
    ".section .text",
    ".balign 4",
    ".globl trap_entry",
    "trap_entry:",
    "csrrw sp, sscratch, sp",
    "beqz sp, kernel_trap",
    "sd t0, {scratch}(sp)",
    "ld t0, {thread}(sp)",
    "__words sd",
    "__roles sd",
    "ld t1, {scratch}(sp)",
    "sd t1, {operation} - {middle}(t0)",
    "csrrw t1, sscratch, zero",
    "sd t1, {sp} - {middle}(t0)",
    "mv tp, sp",
    "mv a0, sp",
    "ld sp, {stack_top}(tp)",
    "csrr t2, sepc",
    "csrr a1, scause",
    "li t3, {system_call_cause}",
    "bne a1, t3, other_trap",
    // A system call: go on behind `ecall` (4 bytes, never compressed).
    "addi t2, t2, 4",
    "lbu t1, {foreign} - {middle}(t0)",
    "bnez t1, other_trap",
    "sd t2, {pc} - {middle}(t0)",
    "sd t3, {left} - {middle}(t0)",
    "call {system_call}",

    // The thread in the hart's block goes on, with every register as in its record.
    ".globl run_thread",
    "run_thread:",
    "ld t0, {thread}(tp)",
    "ld t1, {pc} - {middle}(t0)",
    // A reservation must not outlive a switch: the next thread's `sc` would succeed without an `lr` of its own. Only
    // another `sc` ends it (unprivileged architecture, "Load-Reserved/Store-Conditional Instructions"). This one stores
    // what is there already.
    ".option push",
    ".option arch, +a",
    "sc.d zero, t0, (tp)",
    ".option pop",
    "csrw sepc, t1",
    "csrw sscratch, tp",
    "ld t1, {left} - {middle}(t0)",
    "beqz t1, 2f",
    // Nothing is left there of the kernel, nor of whoever entered it.
    ".irp register, s0,ra,gp,s1,s2,s3,s4,s5,s6,s7,s8,s9,s10,s11,t5,t6",
    "li \\register, 0",
    ".endr",
    "3:",
    "__words ld",
    "__roles ld",
    "ld sp, {sp} - {middle}(t0)",
    "ld t0, {operation} - {middle}(t0)",
    "sret",
    "2:",
    "__others ld",
    "j 3b",

    // Any other trap, or a foreign thread's call: all registers count.
    "other_trap:",
    "sd t2, {pc} - {middle}(t0)",
    "csrr a2, stval",
    "__others sd",
    "sd zero, {left} - {middle}(t0)",
    "call {user_trap}",
    "j run_thread",

    // The kernel itself faulted. Its stack may be what is broken, so go on with one of its own. The first hart that
    // comes here reports and powers off; a second one waits for that; one that comes back gives up.
    "kernel_trap:",
    "csrrw sp, sscratch, zero",
    "sd t0, {scratch}(tp)",
    "sd t1, {scratch} + 8(tp)",
    "la t0, {crash_owner}",
    ".option push",
    ".option arch, +a",
    "3: lr.d t1, (t0)",
    "bnez t1, 4f",
    "sc.d t1, tp, (t0)",
    "bnez t1, 3b",
    ".option pop",
    "la t0, crash_registers",
    ".irp n, 1,2,3,4,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "sd x\\n, 8 * \\n(t0)",
    ".endr",
    "ld t1, {scratch}(tp)",
    "sd t1, 8 * 5(t0)",
    "ld t1, {scratch} + 8(tp)",
    "sd t1, 8 * 6(t0)",
    "mv a0, t0",
    "csrr a1, scause",
    "csrr a2, stval",
    "csrr a3, sepc",
    "la sp, crash_stack_top",
    "call {kernel_fault}",
    "4: beq t1, tp, 6f",
    "5: wfi",
    "j 5b",
    "6: la sp, crash_stack_top",
    "call {fault_in_report}",

    ".section .bss",
    ".balign 16",
    "crash_registers: .skip 256",
    "crash_stack: .skip 8192",
    "crash_stack_top:",
    // For `cargo xtask depth`.
    ".set kernel_stack_bytes, {kernel_stack_bytes}",
    kernel_stack_bytes = const STACK_BYTES,
    scratch = const offset_of!(Hart, scratch),
    thread = const offset_of!(Hart, thread),
    stack_top = const offset_of!(Hart, stack_top),
    operation = const offset_of!(Registers, operation),
    label = const offset_of!(Registers, label),
    slots = const offset_of!(Registers, slots),
    reply = const offset_of!(Registers, reply),
    deadline = const offset_of!(Registers, deadline),
    pc = const offset_of!(Registers, pc),
    sp = const offset_of!(Registers, sp),
    tp = const offset_of!(Registers, tp),
    foreign = const offset_of!(Thread, foreign),
    middle = const MIDDLE,
    left = const offset_of!(Registers, other) + LEFT * 8,
    system_call_cause = const SYSTEM_CALL,
    system_call = sym system_call,
    user_trap = sym user_trap,
    crash_owner = sym CRASH_OWNER,
    kernel_fault = sym kernel_fault,
    fault_in_report = sym fault_in_report,
);

unsafe extern "C" {
    fn run_thread() -> !;
}

/// Runs the thread in this hart's block.
///
/// # Safety
/// `Hart::thread` is the virtual address of the record of the thread that the core chose, and its address space is
/// loaded.
pub unsafe fn run() -> ! {
    // SAFETY: the caller's promise.
    unsafe { run_thread() }
}

/// Whether those registers that lie in `other` are zeros in truth.
pub fn are_others_left(registers: &Registers) -> bool {
    registers.other[LEFT] != 0
}

/// From now on, what lies there is what they are.
pub fn keep_others(registers: &mut Registers) {
    if are_others_left(registers) {
        registers.other.fill(0);
    }
}
