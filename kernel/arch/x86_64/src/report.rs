//! What is printed when the kernel itself fails: a panic, a fault in kernel mode, an NMI. Then the machine stops.
//!
//! No `core::fmt`: its code would be a large part of the kernel.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::console;
use crate::cpu;
use crate::percore;
use crate::power;
use crate::tables;
use crate::traps::Frame;

/// Return addresses that are printed.
const MAX_CALLS: usize = 32;
/// Words of a stack that are looked at: all of them.
const MAX_WORDS: u64 = percore::KERNEL_STACK_BYTES / 8;

/// Words of a [`Frame`].
const FRAME_WORDS: usize = size_of::<Frame>() / 8;
/// Names of a frame's words and of the address that a page fault was at, six letters each.
const NAMES: &[u8; (FRAME_WORDS + 1) * 6] = b"r15   r14   r13   r12   r11   r10   r9    r8    rbp   rdi   rsi   \
rdx   rcx   rbx   rax   vectorerror rip   cs    rflagsrsp   ss    cr2   ";

/// Whether a core reports already.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// This core reports, unless another does or this one's report failed: then it halts.
fn begin() {
    if STOPPING.swap(true, Ordering::SeqCst) {
        cpu::halt();
    }
    crate::smp::stop_others();
}

/// The end: switches off, so that nobody waits for a machine that is dead.
fn end() -> ! {
    power::off();
    cpu::halt();
}

/// The kernel panicked.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    begin();
    console::text("\nanos: kernel panic on core ");
    console::decimal(core_number(cpu::stack_pointer()));
    if let Some(location) = info.location() {
        console::text(" at ");
        console::text(location.file());
        console::text(":");
        console::decimal(u64::from(location.line()));
    }
    if let Some(message) = info.message().as_str() {
        console::text(": ");
        console::text(message);
    }
    console::text("\n");
    backtrace(cpu::stack_pointer());
    end()
}

/// A boot error: one line.
pub fn boot_failed(message: &str) -> ! {
    boot_failed_with(message, None)
}

/// A boot error with a number behind its message, and what the number counts.
pub fn boot_failed_with(message: &str, number: Option<(u64, &str)>) -> ! {
    console::text("anos: ");
    console::text(message);
    if let Some((number, what)) = number {
        console::decimal(number);
        console::text(what);
    }
    console::text("\n");
    end()
}

/// An exception in kernel mode, or an NMI.
pub fn kernel_fault(frame: &Frame) -> ! {
    begin();
    console::text("\nanos: kernel fault on core ");
    console::decimal(core_number(core::ptr::from_ref(frame) as u64));
    console::text(": ");
    console::text(name(frame.vector));
    // SAFETY: a frame is as many integers.
    let words = unsafe { &*core::ptr::from_ref(frame).cast::<[u64; FRAME_WORDS]>() };
    for (place, name) in NAMES.as_chunks::<6>().0.iter().enumerate() {
        console::text(if place % 3 == 0 { "\n  " } else { "  " });
        console::write(name);
        console::text(" ");
        console::hex(words.get(place).copied().unwrap_or_else(cpu::cr2));
    }
    console::text("\n");
    address("  at ", frame.rip);
    backtrace(frame.rsp);
    end()
}

/// `cargo xtask` puts names to these lines: of the instruction `at` the address, of the call before `from`.
fn address(preposition: &str, address: u64) {
    console::text(preposition);
    console::hex(address);
    console::text("\n");
}

/// Shows what seem to be return addresses: words on the stack, from its pointer upwards, that point behind a call in the
/// kernel's code. Some may be left over from calls that have returned long ago, where a function didn't write to all of
/// its part of the stack.
fn backtrace(stack_pointer: u64) {
    let Some((bottom, top)) = stack_bounds(stack_pointer) else { return };
    // A stack that overflowed ends below its bottom.
    let mut place = stack_pointer.max(bottom) & !7;
    let mut shown = 0;
    for _ in 0..MAX_WORDS {
        if place >= top || shown == MAX_CALLS {
            return;
        }
        // SAFETY: aligned, and inside a mapped stack.
        let word = unsafe { *(place as *const u64) };
        if tables::is_behind_call(word) {
            address("  from ", word);
            shown += 1;
        }
        place += 8;
    }
}

/// The stack that an address belongs to, if any does: the boot core's first one, or a core's.
fn stack_bounds(address: u64) -> Option<(u64, u64)> {
    let Some(core) = percore::core_at(address) else { return crate::entry::early_stack_bounds(address) };
    let top = percore::data_address(core);
    Some((top - percore::KERNEL_STACK_BYTES, top))
}

fn core_number(stack: u64) -> u64 {
    percore::core_at(stack).map_or(0, |core| core.index() as u64)
}

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "division error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        6 => "invalid instruction",
        8 => "double fault (a stack overflow, often)",
        12 => "stack fault",
        13 => "general protection fault",
        14 => "page fault",
        18 => "machine check",
        _ => "unexpected exception or interrupt",
    }
}
