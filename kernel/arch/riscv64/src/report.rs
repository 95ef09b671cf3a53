//! The kernel's last words: panics and faults of its own, with registers and a backtrace.

use core::fmt::Write as _;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::hart::{self, Hart};
use crate::{console, csr, entry, sbi, to_usize};

/// The block of the hart that reports; 0: all is well. The trap entry takes it too.
pub static CRASH_OWNER: AtomicU64 = AtomicU64::new(0);

/// Return addresses that are printed.
const MAX_CALLS: usize = 32;
/// Words of a stack that are looked at: all of them.
const MAX_WORDS: u64 = hart::STACK_BYTES / 8;

/// Names of the registers x1 to x31, four letters each.
const NAMES: &[u8; 31 * 4] = b"ra  sp  gp  tp  t0  t1  t2  s0  s1  a0  a1  a2  a3  a4  a5  a6  a7  s2  s3  \
s4  s5  s6  s7  s8  s9  s10 s11 t3  t4  t5  t6  ";

/// Powers off; waits for ever if the machine can't.
pub fn stop() -> ! {
    sbi::power_off();
    loop {
        csr::wait();
    }
}

/// Says why the machine can't boot, in one line, and powers off.
pub fn boot_error(message: &str) -> ! {
    console::text("anos: ");
    console::text(message);
    console::text("\n");
    stop()
}

/// A panic: something in the kernel isn't as it must be.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    let hart = hart::this();
    let owner = CRASH_OWNER.compare_exchange(0, hart as u64, Ordering::AcqRel, Ordering::Acquire);
    match owner {
        Ok(_) => {}
        Err(owner) if owner == hart as u64 => stop(),
        Err(_) => loop {
            csr::wait();
        },
    }
    // SAFETY: this hart's own block, whole whatever happened; who used it never goes on.
    let hart = unsafe { &*hart };
    console::text("\nanos: kernel panic on ");
    name(hart);
    let _ = writeln!(console::Formatted, ": {}", info.message());
    if let Some(place) = info.location() {
        let _ = writeln!(console::Formatted, "  in {}:{}", place.file(), place.line());
    }
    let stack_pointer;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mv {}, sp", out(reg) stack_pointer, options(nomem, nostack, preserves_flags)) };
    backtrace(hart, 0, stack_pointer);
    stop()
}

/// The kernel faulted.
///
/// # Safety
/// Called by the trap entry alone, on the crash stack, with registers x0 to x31 as they were.
pub unsafe extern "C" fn kernel_fault(registers: *const [u64; 32], cause: u64, value: u64, pc: u64) -> ! {
    // SAFETY: saved by the trap entry; this hart owns the crash.
    let registers = unsafe { &*registers };
    // SAFETY: this hart's own block, whole whatever happened; who used it never goes on.
    let hart = unsafe { &*hart::this() };
    console::text("\nanos: kernel fault on ");
    name(hart);
    console::text(": ");
    console::text(match cause {
        1 | 12 => "jump to an address that is not executable",
        2 => "illegal instruction",
        5 | 7 | 13 | 15 if hart.guards(value) => "kernel stack overflow",
        5 | 13 => "read of an unmapped address",
        7 | 15 => "write to an unmapped or read-only address",
        _ => "unexpected trap",
    });
    for (name, value) in [("\n  scause ", cause), ("  stval ", value), ("  sepc ", pc)] {
        console::text(name);
        console::hexadecimal(value);
    }
    for (place, (name, &value)) in NAMES.as_chunks::<4>().0.iter().zip(registers.iter().skip(1)).enumerate() {
        console::text(if place % 4 == 0 { "\n  " } else { "  " });
        console::write(name);
        console::hexadecimal(value);
    }
    console::text("\n");
    address("  at ", pc);
    let [_, ra, sp, ..] = *registers;
    backtrace(hart, ra, sp);
    stop()
}

/// The report itself faulted: no more words.
///
/// # Safety
/// Called by the trap entry alone.
pub unsafe extern "C" fn fault_in_report() -> ! {
    stop()
}

fn name(hart: &Hart) {
    console::text("core ");
    console::decimal(hart.core.index() as u64);
    console::text(" (hart ");
    console::decimal(hart.hart_id);
    console::text(")");
}

/// `cargo xtask` puts names to these lines: of the instruction `at` the address, of the call before `from`.
fn address(preposition: &str, address: u64) {
    console::text(preposition);
    console::hexadecimal(address);
    console::text("\n");
}

/// Shows what seem to be return addresses: `ra`, and words on the hart's stack, from its pointer upwards, that point
/// behind a call in the kernel's code. Some may be left over from calls that have returned long ago: `ra` if the function
/// has called others since, and words where a function didn't write to all of its part of the stack.
fn backtrace(hart: &Hart, ra: u64, stack_pointer: u64) {
    // A stack that overflowed ends below its bottom.
    let mut place = stack_pointer.max(hart.stack_bottom) & !7;
    let mut word = ra;
    let mut shown = 0;
    for _ in 0..MAX_WORDS {
        if entry::is_behind_call(word) {
            address("  from ", word);
            shown += 1;
        }
        if place >= hart.stack_top || shown == MAX_CALLS {
            return;
        }
        // SAFETY: aligned, and within the hart's stack, which is mapped.
        word = unsafe { *(to_usize(place) as *const u64) };
        place += 8;
    }
}
