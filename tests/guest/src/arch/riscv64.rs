//! RISC-V.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use anos::env;

use super::Registers;
use crate::case::to_usize;
use crate::{helper, supervisor};

mod programs;

pub use programs::*;

/// The architecture's number in BootInfo.
pub const NUMBER: u64 = 2;
/// Whether the machine is a PC, with I/O ports, code segments, and a timer (HPET) that sends messages.
pub const IS_PC: bool = false;
/// The serial port's interrupt line, and whether it is level-triggered.
pub const UART_LINE: (u64, bool) = (10, true);
/// Whether dividing by zero is a fault.
pub const DIVISION_FAULTS: bool = false;

/// The roles, and `ra`, `gp`, `t5`, `t6`, `s0` to `s11`.
pub const REGISTERS: usize = 29;

/// Whether a register that is no part of an answer holds nothing.
pub fn is_clean(_position: usize, value: u64, _code: u64) -> bool {
    value == 0
}

/// Where helpers start: word 1 is what to do.
///
/// # Safety
/// For the kernel to jump to, on a stack, with a [`helper::Task`] in word 1.
#[unsafe(naked)]
pub unsafe extern "C" fn helper_entry() -> ! {
    naked_asm!("li s0, 0", "li ra, 0", "andi sp, sp, -16", "mv a0, a1", "call {run}", "unimp", run = sym helper::run)
}

/// Where the worker starts: word 1 is the case.
///
/// # Safety
/// For the kernel to jump to, on a stack, with a [`crate::cases::TestCase`] in word 1.
#[unsafe(naked)]
pub unsafe extern "C" fn worker_entry() -> ! {
    naked_asm!("li s0, 0", "li ra, 0", "andi sp, sp, -16", "mv a0, a1", "call {work}", "unimp", work = sym supervisor::work)
}

/// Stores all registers but `a0`, `t0` and `a1`..; `a0` says where.
macro_rules! store_registers {
    () => {
        "
        sd t0, 0(a0)
        sd t1, 8(a0)
        sd t2, 16(a0)
        sd t3, 24(a0)
        sd t4, 32(a0)
        sd a1, 48(a0)
        sd a2, 56(a0)
        sd a3, 64(a0)
        sd a4, 72(a0)
        sd a5, 80(a0)
        sd a6, 88(a0)
        sd a7, 96(a0)
        sd ra, 104(a0)
        sd gp, 112(a0)
        sd t5, 120(a0)
        sd t6, 128(a0)
        sd s0, 136(a0)
        sd s1, 144(a0)
        sd s2, 152(a0)
        sd s3, 160(a0)
        sd s4, 168(a0)
        sd s5, 176(a0)
        sd s6, 184(a0)
        sd s7, 192(a0)
        sd s8, 200(a0)
        sd s9, 208(a0)
        sd s10, 216(a0)
        sd s11, 224(a0)
        "
    };
}

/// Where a helper starts that stores the registers it was started with: word 0 is where to.
///
/// # Safety
/// For the kernel to jump to, on a stack, with a [`Registers`] in word 0 and a [`helper::Task`] in word 1.
#[unsafe(naked)]
pub unsafe extern "C" fn start_probe() -> ! {
    naked_asm!(store_registers!(), "sd a0, 40(a0)", "j {entry}", entry = sym helper_entry)
}

/// Makes a system call with all these registers, and stores them as they are afterwards.
///
/// # Safety
/// The call must not take away memory that the program uses.
#[unsafe(naked)]
pub unsafe extern "C" fn raw_system_call(registers: *mut Registers) {
    naked_asm!(
        "addi sp, sp, -128",
        "sd ra, 0(sp)",
        "sd s0, 8(sp)",
        "sd s1, 16(sp)",
        "sd s2, 24(sp)",
        "sd s3, 32(sp)",
        "sd s4, 40(sp)",
        "sd s5, 48(sp)",
        "sd s6, 56(sp)",
        "sd s7, 64(sp)",
        "sd s8, 72(sp)",
        "sd s9, 80(sp)",
        "sd s10, 88(sp)",
        "sd s11, 96(sp)",
        "sd gp, 104(sp)",
        "sd a0, 112(sp)",
        "ld t0, 0(a0)",
        "ld t1, 8(a0)",
        "ld t2, 16(a0)",
        "ld t3, 24(a0)",
        "ld t4, 32(a0)",
        "ld a1, 48(a0)",
        "ld a2, 56(a0)",
        "ld a3, 64(a0)",
        "ld a4, 72(a0)",
        "ld a5, 80(a0)",
        "ld a6, 88(a0)",
        "ld a7, 96(a0)",
        "ld ra, 104(a0)",
        "ld gp, 112(a0)",
        "ld t5, 120(a0)",
        "ld t6, 128(a0)",
        "ld s0, 136(a0)",
        "ld s1, 144(a0)",
        "ld s2, 152(a0)",
        "ld s3, 160(a0)",
        "ld s4, 168(a0)",
        "ld s5, 176(a0)",
        "ld s6, 184(a0)",
        "ld s7, 192(a0)",
        "ld s8, 200(a0)",
        "ld s9, 208(a0)",
        "ld s10, 216(a0)",
        "ld s11, 224(a0)",
        "ld a0, 40(a0)",
        "ecall",
        // The answer's a0 goes onto the stack while a0 points to where the answer goes.
        "sd a0, 120(sp)",
        "ld a0, 112(sp)",
        store_registers!(),
        "ld t0, 120(sp)",
        "sd t0, 40(a0)",
        "ld ra, 0(sp)",
        "ld s0, 8(sp)",
        "ld s1, 16(sp)",
        "ld s2, 24(sp)",
        "ld s3, 32(sp)",
        "ld s4, 40(sp)",
        "ld s5, 48(sp)",
        "ld s6, 56(sp)",
        "ld s7, 64(sp)",
        "ld s8, 72(sp)",
        "ld s9, 80(sp)",
        "ld s10, 88(sp)",
        "ld s11, 96(sp)",
        "ld gp, 104(sp)",
        "addi sp, sp, 128",
        "ret",
    )
}

/// Makes a system call as [`raw_system_call`] does: this architecture has no flags to set.
///
/// # Safety
/// As for [`raw_system_call`].
#[unsafe(naked)]
pub unsafe extern "C" fn raw_system_call_with_flags(registers: *mut Registers) {
    naked_asm!("j {raw}", raw = sym raw_system_call)
}

/// Fills the integer registers with `pattern`, `pattern + 1` and so on, computes for a while, and says which bits have
/// changed.
#[unsafe(naked)]
pub extern "C" fn hold_integers(pattern: u64, rounds: u64) -> u64 {
    naked_asm!(
        "addi sp, sp, -128",
        "sd ra, 0(sp)",
        "sd gp, 8(sp)",
        "sd s0, 16(sp)",
        "sd s1, 24(sp)",
        "sd s2, 32(sp)",
        "sd s3, 40(sp)",
        "sd s4, 48(sp)",
        "sd s5, 56(sp)",
        "sd s6, 64(sp)",
        "sd s7, 72(sp)",
        "sd s8, 80(sp)",
        "sd s9, 88(sp)",
        "sd s10, 96(sp)",
        "sd s11, 104(sp)",
        "sd a0, 112(sp)",
        "addi ra, a0, 1",
        "addi gp, a0, 2",
        "addi t0, a0, 3",
        "addi t1, a0, 4",
        "addi t2, a0, 5",
        "addi t3, a0, 6",
        "addi t4, a0, 7",
        "addi t5, a0, 8",
        "addi t6, a0, 9",
        "addi s0, a0, 10",
        "addi s1, a0, 11",
        "addi s2, a0, 12",
        "addi s3, a0, 13",
        "addi s4, a0, 14",
        "addi s5, a0, 15",
        "addi s6, a0, 16",
        "addi s7, a0, 17",
        "addi s8, a0, 18",
        "addi s9, a0, 19",
        "addi s10, a0, 20",
        "addi s11, a0, 21",
        "addi a2, a0, 22",
        "addi a3, a0, 23",
        "addi a4, a0, 24",
        "addi a5, a0, 25",
        "addi a6, a0, 26",
        "addi a7, a0, 27",
        "2: addi a1, a1, -1",
        "bnez a1, 2b",
        "addi ra, ra, -1",
        "sub ra, ra, a0",
        "or a1, a1, ra",
        "addi gp, gp, -2",
        "sub gp, gp, a0",
        "or a1, a1, gp",
        "addi t0, t0, -3",
        "sub t0, t0, a0",
        "or a1, a1, t0",
        "addi t1, t1, -4",
        "sub t1, t1, a0",
        "or a1, a1, t1",
        "addi t2, t2, -5",
        "sub t2, t2, a0",
        "or a1, a1, t2",
        "addi t3, t3, -6",
        "sub t3, t3, a0",
        "or a1, a1, t3",
        "addi t4, t4, -7",
        "sub t4, t4, a0",
        "or a1, a1, t4",
        "addi t5, t5, -8",
        "sub t5, t5, a0",
        "or a1, a1, t5",
        "addi t6, t6, -9",
        "sub t6, t6, a0",
        "or a1, a1, t6",
        "addi s0, s0, -10",
        "sub s0, s0, a0",
        "or a1, a1, s0",
        "addi s1, s1, -11",
        "sub s1, s1, a0",
        "or a1, a1, s1",
        "addi s2, s2, -12",
        "sub s2, s2, a0",
        "or a1, a1, s2",
        "addi s3, s3, -13",
        "sub s3, s3, a0",
        "or a1, a1, s3",
        "addi s4, s4, -14",
        "sub s4, s4, a0",
        "or a1, a1, s4",
        "addi s5, s5, -15",
        "sub s5, s5, a0",
        "or a1, a1, s5",
        "addi s6, s6, -16",
        "sub s6, s6, a0",
        "or a1, a1, s6",
        "addi s7, s7, -17",
        "sub s7, s7, a0",
        "or a1, a1, s7",
        "addi s8, s8, -18",
        "sub s8, s8, a0",
        "or a1, a1, s8",
        "addi s9, s9, -19",
        "sub s9, s9, a0",
        "or a1, a1, s9",
        "addi s10, s10, -20",
        "sub s10, s10, a0",
        "or a1, a1, s10",
        "addi s11, s11, -21",
        "sub s11, s11, a0",
        "or a1, a1, s11",
        "addi a2, a2, -22",
        "sub a2, a2, a0",
        "or a1, a1, a2",
        "addi a3, a3, -23",
        "sub a3, a3, a0",
        "or a1, a1, a3",
        "addi a4, a4, -24",
        "sub a4, a4, a0",
        "or a1, a1, a4",
        "addi a5, a5, -25",
        "sub a5, a5, a0",
        "or a1, a1, a5",
        "addi a6, a6, -26",
        "sub a6, a6, a0",
        "or a1, a1, a6",
        "addi a7, a7, -27",
        "sub a7, a7, a0",
        "or a1, a1, a7",
        "ld t0, 112(sp)",
        "sub a0, a0, t0",
        "or a0, a0, a1",
        "ld ra, 0(sp)",
        "ld gp, 8(sp)",
        "ld s0, 16(sp)",
        "ld s1, 24(sp)",
        "ld s2, 32(sp)",
        "ld s3, 40(sp)",
        "ld s4, 48(sp)",
        "ld s5, 56(sp)",
        "ld s6, 64(sp)",
        "ld s7, 72(sp)",
        "ld s8, 80(sp)",
        "ld s9, 88(sp)",
        "ld s10, 96(sp)",
        "ld s11, 104(sp)",
        "addi sp, sp, 128",
        "ret",
    )
}

/// The word at the thread pointer.
pub fn thread_pointer_word() -> u64 {
    let word;
    // SAFETY: the caller's thread was started with a thread pointer to memory that stays mapped.
    unsafe { asm!("ld {}, 0(tp)", out(reg) word, options(nostack, readonly)) };
    word
}

/// What the floating-point control register holds in a fresh thread.
pub const FLOAT_CONTROL: u32 = 0;
/// Another valid content: rounding towards zero.
pub const FLOAT_CONTROL_OTHER: u32 = 0x20;

/// Whether the processor has vectors, by the word of the devicetree: 0: not known yet, 1: no, 2: yes.
static VECTORS: AtomicU64 = AtomicU64::new(0);

/// Whether there must be vector registers: the devicetree's extensions have the letter. (The tests' machines have harts
/// that are all the same, and registers of a size that the kernel can save.)
fn has_vectors() -> bool {
    if VECTORS.load(Ordering::Relaxed) == 0 {
        let isa = devicetree().windows(5).position(|bytes| bytes == b"rv64i");
        let isa = isa.and_then(|at| devicetree().get(at + 5..)).unwrap_or_default();
        let has = isa.iter().take_while(|byte| byte.is_ascii_lowercase()).any(|byte| *byte == b'v');
        VECTORS.store(if has { 2 } else { 1 }, Ordering::Relaxed);
    }
    VECTORS.load(Ordering::Relaxed) == 2
}

/// Whether the devicetree has these bytes somewhere.
pub fn devicetree_names(name: &[u8]) -> bool {
    devicetree().windows(name.len()).any(|bytes| bytes == name)
}

fn devicetree() -> &'static [u8] {
    let Some(info) = env::boot_info() else { return &[] };
    let start = core::ptr::with_exposed_provenance(to_usize(info.devicetree_address));
    // SAFETY: the kernel has mapped it there, read-only, for good.
    unsafe { core::slice::from_raw_parts(start, to_usize(info.devicetree_bytes)) }
}

/// Fills all vector registers with `pattern`, `pattern + 1` and so on, and leaves an unusual configuration: five elements
/// of 16 bits in pairs of registers, the next instruction to begin at the second; a rounding mode of the pattern's.
fn fill_vectors(pattern: u64) {
    // SAFETY: only registers that are named change, and those that nobody else uses.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +v",
            "vsetvli {held}, zero, e64, m1, ta, ma",
            "mv {held}, {pattern}",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "vmv.v.x v\\n, {held}",
            "addi {held}, {held}, 1",
            ".endr",
            "vsetivli zero, 5, e16, m2, ta, mu",
            "andi {held}, {pattern}, 7",
            "csrw vcsr, {held}",
            "csrwi vstart, 1",
            ".option pop",
            pattern = in(reg) pattern, held = out(reg) _,
            options(nomem, nostack),
        );
    }
}

/// How many elements of 64 bits, and how much of the configuration, differ from what [`fill_vectors`] leaves.
fn changed_vectors(pattern: u64) -> u64 {
    let (changed, start, control, length, kind): (u64, u64, u64, u64, u64);
    // SAFETY: as in `fill_vectors`.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +v",
            "csrr {start}, vstart",
            "csrr {control}, vcsr",
            "csrr {length}, vl",
            "csrr {kind}, vtype",
            "vsetvli {held}, zero, e64, m1, ta, ma",
            "li {changed}, 0",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "vmsne.vx v\\n, v\\n, {value}",
            "vcpop.m {held}, v\\n",
            "add {changed}, {changed}, {held}",
            "addi {value}, {value}, 1",
            ".endr",
            ".option pop",
            value = inout(reg) pattern => _, held = out(reg) _, changed = out(reg) changed,
            start = out(reg) start, control = out(reg) control, length = out(reg) length, kind = out(reg) kind,
            options(nomem, nostack),
        );
    }
    changed + u64::from((start, control, length, kind) != (1, pattern & 7, 5, 0x49))
}

/// Something else than zeros in the vector registers or their configuration.
fn any_vector() -> u64 {
    let all;
    // SAFETY: as in `fill_vectors`.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +v",
            "csrr {all}, vstart",
            ".irp register, vcsr, vl, vtype",
            "csrr {held}, \\register",
            "or {all}, {all}, {held}",
            ".endr",
            "vsetvli {held}, zero, e64, m1, ta, ma",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "vmsne.vi v\\n, v\\n, 0",
            "vcpop.m {held}, v\\n",
            "or {all}, {all}, {held}",
            ".endr",
            ".option pop",
            all = out(reg) all, held = out(reg) _,
            options(nomem, nostack),
        );
    }
    all
}

/// Assembly: for each floating-point register `fN`, the given lines, with `\\n` for N.
macro_rules! each_float {
    ($($line:literal),*) => {
        concat!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n",
            $($line, "\n",)*
            ".endr"
        )
    };
}

/// Assembly: `{value}`, `{value}` + 1 and so on into the floating-point registers; it ends 32 higher.
macro_rules! fill_floats {
    () => {
        each_float!("fmv.d.x f\\n, {value}", "addi {value}, {value}, 1")
    };
}

/// Assembly: how many of them differ from (`snez`), or hold (`seqz`), what [`fill_floats`] puts there, into `{count}`.
macro_rules! count_floats {
    ($set:literal) => {
        concat!(
            "li {count}, 0\n",
            each_float!(
                "fmv.x.d {held}, f\\n",
                "sub {held}, {held}, {value}",
                $set,
                "add {count}, {count}, {held}",
                "addi {value}, {value}, 1"
            )
        )
    };
}

/// Fills all floating-point registers with `pattern`, `pattern + 1` and so on, vector registers too where there are some,
/// computes for a while with the others, and says how many have changed.
pub fn hold_floats(pattern: u64, rounds: u64) -> u64 {
    if !has_vectors() {
        return hold_scalars(pattern, rounds);
    }
    fill_vectors(pattern);
    hold_scalars(pattern, rounds) + changed_vectors(pattern)
}

fn hold_scalars(pattern: u64, rounds: u64) -> u64 {
    let changed;
    // SAFETY: only registers that are named change.
    unsafe {
        asm!(
            "mv {value}, {pattern}",
            fill_floats!(),
            "2: addi {rounds}, {rounds}, -1",
            "bnez {rounds}, 2b",
            "mv {value}, {pattern}",
            count_floats!("snez {held}, {held}"),
            pattern = in(reg) pattern,
            rounds = inout(reg) rounds => _,
            value = out(reg) _, held = out(reg) _, count = out(reg) changed,
            out("fs0") _, out("fs1") _, out("fs2") _, out("fs3") _, out("fs4") _, out("fs5") _, out("fs6") _,
            out("fs7") _, out("fs8") _, out("fs9") _, out("fs10") _, out("fs11") _,
            out("ft0") _, out("ft1") _, out("ft2") _, out("ft3") _, out("ft4") _, out("ft5") _, out("ft6") _,
            out("ft7") _, out("ft8") _, out("ft9") _, out("ft10") _, out("ft11") _,
            out("fa0") _, out("fa1") _, out("fa2") _, out("fa3") _, out("fa4") _, out("fa5") _, out("fa6") _,
            out("fa7") _,
            options(nomem, nostack),
        );
    }
    changed
}

/// How many floating-point registers hold what [`hold_floats`] leaves there.
pub fn matching_floats(pattern: u64) -> u64 {
    let matching;
    // SAFETY: only registers that are named change.
    unsafe {
        asm!(
            count_floats!("seqz {held}, {held}"),
            value = inout(reg) pattern => _, held = out(reg) _, count = out(reg) matching,
            options(nomem, nostack),
        );
    }
    matching
}

/// What a foreign thread that holds floats asks for, and what it shall get.
pub const FOREIGN_CALL: (u64, u64) = (0x1234, 0x5678);

/// As [`hold_floats`], but instead of computing it makes a system call of another system, and also counts an unexpected
/// result of that.
pub fn hold_floats_over_foreign_call(pattern: u64) -> u64 {
    let (changed, result): (u64, u64);
    if has_vectors() {
        fill_vectors(pattern);
    }
    // SAFETY: only registers that are named change; the call is told to the case, which changes its result.
    unsafe {
        asm!(
            fill_floats!(),
            "ecall",
            "addi {value}, {value}, -32",
            count_floats!("snez {held}, {held}"),
            value = inout(reg) pattern => _, held = out(reg) _, count = out(reg) changed,
            in("a7") FOREIGN_CALL.0, out("a0") result,
            out("fs0") _, out("fs1") _, out("fs2") _, out("fs3") _, out("fs4") _, out("fs5") _, out("fs6") _,
            out("fs7") _, out("fs8") _, out("fs9") _, out("fs10") _, out("fs11") _,
            out("ft0") _, out("ft1") _, out("ft2") _, out("ft3") _, out("ft4") _, out("ft5") _, out("ft6") _,
            out("ft7") _, out("ft8") _, out("ft9") _, out("ft10") _, out("ft11") _,
            out("fa0") _, out("fa1") _, out("fa2") _, out("fa3") _, out("fa4") _, out("fa5") _, out("fa6") _,
            out("fa7") _,
            options(nostack),
        );
    }
    let vectors = if has_vectors() { changed_vectors(pattern) } else { 0 };
    changed + vectors + u64::from(result != FOREIGN_CALL.1)
}

/// All floating-point registers, OR-ed together; and whether there is anything in the vector registers.
pub fn any_float() -> u64 {
    let vectors = if has_vectors() { any_vector() } else { 0 };
    let all: u64;
    // SAFETY: only registers that are named change.
    unsafe {
        asm!(
            "li {all}, 0",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "fmv.x.d {held}, f\\n",
            "or {all}, {all}, {held}",
            ".endr",
            all = out(reg) all, held = out(reg) _,
            options(nomem, nostack),
        );
    }
    all | vectors
}

/// The floating-point control register.
pub fn float_control() -> u32 {
    let control;
    // SAFETY: only reads it.
    unsafe { asm!("frcsr {}", out(reg) control, options(nomem, nostack)) };
    control
}

/// Sets the floating-point control register, and computes with nothing until it is set back.
pub fn set_float_control(control: u32) {
    // SAFETY: a valid content; the caller sets it back before Rust computes with floats.
    unsafe { asm!("fscsr {}", in(reg) control, options(nomem, nostack)) };
}
