//! Traps, in assembly: a thread's registers go straight into its record, and come back from there.
//!
//! In user mode `sscratch` is the address of the hart's block, in the kernel it is 0: so the first instruction tells
//! where the trap came from. The kernel never expects one of its own: interrupts are off in it.
//!
//! `Registers::other` is s0, ra, gp, s1 to s11, t5, t6. A system call leaves zeros there: its caller expects nothing
//! of those registers, and gets nothing. Nor of the floating-point registers and `fcsr`: see `fpu.rs`. A foreign thread's
//! call is another system's business, whose callers may expect all registers: they are saved as for any trap.

use core::arch::global_asm;
use core::mem::offset_of;

use anos_machine::{Registers, Thread};

use crate::hart::{Hart, STACK_BYTES};
use crate::report::{CRASH_OWNER, fault_in_report, kernel_fault};
use crate::traps::user_trap;

const _: () = assert!(offset_of!(Thread, registers) == 0);
const _: () = assert!(offset_of!(Thread, foreign) >= 2048 && offset_of!(Thread, foreign) < 4096 + 2048);
const _: () = assert!(offset_of!(Registers, words) == 0 && offset_of!(Registers, other) == 128);

global_asm!(
    // For each of `other`: the instruction, the register, its place.
    ".macro __others instruction",
    "\\instruction s0, 128(t0)",
    "\\instruction ra, 136(t0)",
    "\\instruction gp, 144(t0)",
    "\\instruction s1, 152(t0)",
    "\\instruction s2, 160(t0)",
    "\\instruction s3, 168(t0)",
    "\\instruction s4, 176(t0)",
    "\\instruction s5, 184(t0)",
    "\\instruction s6, 192(t0)",
    "\\instruction s7, 200(t0)",
    "\\instruction s8, 208(t0)",
    "\\instruction s9, 216(t0)",
    "\\instruction s10, 224(t0)",
    "\\instruction s11, 232(t0)",
    "\\instruction t5, 240(t0)",
    "\\instruction t6, 248(t0)",
    ".endm",
    ".macro __words instruction",
    "\\instruction a0, 0(t0)",
    "\\instruction a1, 8(t0)",
    "\\instruction a2, 16(t0)",
    "\\instruction a3, 24(t0)",
    "\\instruction a4, 32(t0)",
    "\\instruction a5, 40(t0)",
    "\\instruction a6, 48(t0)",
    "\\instruction a7, 56(t0)",
    ".endm",

    ".section .text",
    ".balign 4",
    ".globl trap_entry",
    "trap_entry:",
    "csrrw sp, sscratch, sp",
    "beqz sp, kernel_trap",
    "sd t0, {scratch}(sp)",
    "ld t0, {thread}(sp)",
    "__words sd",
    "sd t1, {label}(t0)",
    "sd t2, {slots}(t0)",
    "sd t3, {reply}(t0)",
    "sd t4, {deadline}(t0)",
    "sd tp, {tp}(t0)",
    "ld t1, {scratch}(sp)",
    "sd t1, {operation}(t0)",
    "csrrw t1, sscratch, zero",
    "sd t1, {sp}(t0)",
    "mv tp, sp",
    "csrr t2, sepc",
    "csrr a1, scause",
    "csrr a2, stval",
    "li t3, 8",
    "bne a1, t3, 1f",
    // A system call: go on behind `ecall` (4 bytes, never compressed).
    "addi t2, t2, 4",
    // The flag lies too far behind t0 for one instruction.
    "lui t3, 1",
    "add t3, t3, t0",
    "lbu t3, {foreign} - 4096(t3)",
    "bnez t3, 1f",
    ".irp place, 128,136,144,152,160,168,176,184,192,200,208,216,224,232,240,248",
    "sd zero, \\place(t0)",
    ".endr",
    "j 2f",
    "1:",
    "__others sd",
    "2: sd t2, {pc}(t0)",
    "ld sp, {stack_top}(tp)",
    "mv a0, tp",
    "call {user_trap}",

    // The thread in the hart's block goes on, with every register as in its record.
    ".globl run_thread",
    "run_thread:",
    "ld t0, {thread}(tp)",
    "ld t1, {user_status}(tp)",
    "csrw sstatus, t1",
    "ld t1, {pc}(t0)",
    // A reservation must not outlive a switch: the next thread's `sc` would succeed without an `lr` of its own. Only
    // another `sc` ends it (unprivileged architecture, "Load-Reserved/Store-Conditional Instructions"). This one stores
    // what is there already.
    ".option push",
    ".option arch, +a",
    "addi t2, t0, {pc}",
    "sc.d zero, t1, (t2)",
    ".option pop",
    "csrw sepc, t1",
    "csrw sscratch, tp",
    "__others ld",
    "__words ld",
    "ld t1, {label}(t0)",
    "ld t2, {slots}(t0)",
    "ld t3, {reply}(t0)",
    "ld t4, {deadline}(t0)",
    "ld tp, {tp}(t0)",
    "ld sp, {sp}(t0)",
    "ld t0, {operation}(t0)",
    "sret",

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
    user_status = const offset_of!(Hart, user_status),
    operation = const offset_of!(Registers, operation),
    label = const offset_of!(Registers, label),
    slots = const offset_of!(Registers, slots),
    reply = const offset_of!(Registers, reply),
    deadline = const offset_of!(Registers, deadline),
    pc = const offset_of!(Registers, pc),
    sp = const offset_of!(Registers, sp),
    tp = const offset_of!(Registers, tp),
    foreign = const offset_of!(Thread, foreign),
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
