//! From a trap to an [`Event`], and from the core's [`Next`] to a thread that runs or a core that waits.

use anos_abi::fault::FaultKind;
use anos_machine::{Event, Fault, Next, Ref, Thread};

use crate::hart::{Hart, MIDDLE};
use crate::machine::{KERNEL, PLATFORM, Port};
use crate::{csr, fpu, time};

/// `scause`: an interrupt.
const INTERRUPT: u64 = 1 << 63;
/// `scause`: an illegal instruction.
const ILLEGAL_INSTRUCTION: u64 = 2;
/// `scause`: a system call from user mode.
pub const SYSTEM_CALL: u64 = 8;

/// A system call, but not of a foreign thread; the thread's registers are in its record. When this returns, `trap_entry.rs`
/// runs the thread that is in the block by then.
///
/// # Safety
/// Called by the trap entry alone, with this hart's block.
pub unsafe extern "C" fn system_call(hart: *mut Hart) {
    // SAFETY: this hart's own block, and nothing else on this hart runs.
    let hart = unsafe { &mut *hart };
    if hart.fpu_thread != 0 {
        // SAFETY: the thread that ran until now.
        unsafe { fpu::forget(hart.record()) };
    }
    match anos_core::quick(&KERNEL, &mut Port { hart, platform: PLATFORM.get() }) {
        Some(thread) => resume(hart, thread),
        None => proceed(hart, Event::SystemCall),
    }
}

/// Any other trap from user mode. For the rest, as [`system_call`].
///
/// # Safety
/// Called by the trap entry alone, with this hart's block.
pub unsafe extern "C" fn user_trap(hart: *mut Hart, cause: u64, value: u64) {
    // SAFETY: this hart's own block, and nothing else on this hart runs.
    let hart = unsafe { &mut *hart };
    let thread = hart.record();
    // SAFETY: the thread that ran until now.
    unsafe { fpu::save(thread) };
    if cause == SYSTEM_CALL {
        return proceed(hart, Event::SystemCall);
    }
    // SAFETY: as above.
    if cause == ILLEGAL_INSTRUCTION && unsafe { fpu::turn_on(hart, thread) } {
        return;
    }
    let event = if cause & INTERRUPT == 0 { Event::Fault(fault(cause, value)) } else { interrupt(1 << (cause & 63)) };
    match anos_core::quick_event(&KERNEL, &mut Port { hart, platform: PLATFORM.get() }, event) {
        Some(thread) => resume(hart, thread),
        None => proceed(hart, event),
    }
}

/// Enters the core, and puts the thread that it chose into the block; waits for interrupts while there is none.
pub fn proceed(hart: &mut Hart, event: Event) {
    let platform = PLATFORM.get();
    hart.rounds.set(0);
    let mut event = event;
    loop {
        match anos_core::enter(&KERNEL, &mut Port { hart, platform }, event) {
            Next::Run(thread) => {
                return resume(hart, thread);
            }
            Next::Idle => {
                hart.thread = 0;
                // SAFETY: no thread.
                unsafe { fpu::switch(hart, core::ptr::null()) };
                event = wait();
            }
        }
    }
}

/// Puts a thread into the block.
fn resume(hart: &mut Hart, thread: Ref<Thread>) {
    hart.thread = PLATFORM.get().window.wrapping_add(thread.address()).wrapping_add(MIDDLE);
    // SAFETY: the thread that this core runs next.
    unsafe { fpu::switch(hart, hart.record()) };
}

/// Waits for an interrupt. `wfi` ends when one waits that `sie` allows; it isn't taken, because `sstatus.SIE` stays
/// off: the kernel looks for itself, and nothing can slip in between looking and waiting.
fn wait() -> Event {
    loop {
        // If one waits already, this is no wait.
        csr::wait();
        let waiting = csr::pending() & csr::enabled();
        if waiting != 0 {
            return interrupt(waiting);
        }
    }
}

/// Takes one of the interrupts that wait; the others come again. (Not inlined: `cargo xtask longest` tells by it what a
/// visit is for.)
#[inline(never)]
fn interrupt(waiting: u64) -> Event {
    let platform = PLATFORM.get();
    if waiting & csr::SOFTWARE != 0 {
        // Cleared before the core looks, so that a kick that comes while it looks isn't lost.
        csr::clear_pending(csr::SOFTWARE);
        return Event::Kick;
    }
    // Before the timer: one that has come again and again must not keep drivers waiting.
    if waiting & csr::EXTERNAL != 0
        && let Some(line) = platform.interrupts.claim()
    {
        return Event::Interrupt(line);
    }
    if waiting & csr::TIMER != 0 {
        time::set_timer(platform, u64::MAX);
        return Event::Timer;
    }
    // Nothing to claim: another cause has taken it away again. To look again does no harm.
    Event::Kick
}

/// What the processor says about a fault. Alignment faults and page faults name an address.
fn fault(cause: u64, value: u64) -> Fault {
    let (kind, address) = match cause {
        0 | 4 | 6 => (FaultKind::Alignment, value),
        1 | 12 => (FaultKind::Execute, value),
        2 => (FaultKind::IllegalInstruction, 0),
        3 => (FaultKind::Breakpoint, 0),
        5 | 13 => (FaultKind::Read, value),
        7 | 15 => (FaultKind::Write, value),
        _ => (FaultKind::Other, value),
    };
    Fault { kind, address, cause }
}
