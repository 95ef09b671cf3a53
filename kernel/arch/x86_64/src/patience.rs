//! What a core does while it waits for another one.
//!
//! At first it spins: the other will be done in some microseconds. But where cores are virtual, and there are more of
//! them than the host has processors, the one that is waited for may not be running at all, and spinning takes the very
//! time that it needs. So a core that has waited for long sleeps for a moment between two looks.

use crate::percore::CoreData;
use crate::{apic, cpu, time};

/// Rounds of spinning before the first sleep.
const ROUNDS: u32 = 100;
/// How long a sleep lasts.
const SLEEP_NS: u64 = 50_000;

/// One round of waiting, with interrupts off.
pub fn wait(core: &CoreData) {
    let rounds = core.rounds.get();
    if rounds < ROUNDS {
        core.rounds.set(rounds + 1);
        core::hint::spin_loop();
        return;
    }
    // Only the end of the sleep gets through. What else comes is kept by the interrupt controller for later, and the
    // timer is set again to what it was: so it is as if nothing had happened.
    apic::set_alarm(true);
    time::arm(time::now().saturating_add(SLEEP_NS));
    core.waits.set(true);
    cpu::wait_for_interrupt();
    core.waits.set(false);
    apic::set_alarm(false);
    time::arm(core.timer.get());
}
