//! What a core does while it waits for another one.
//!
//! At first it spins: the other will be done in some microseconds. But where harts are virtual, and there are more of
//! them than the host has processors, the one that is waited for may not be running at all, and spinning takes the very
//! time that it needs. So a core that has waited for long sleeps for a moment between two looks.

use crate::csr;
use crate::hart::Hart;
use crate::machine::Platform;

/// Rounds of spinning before the first sleep.
const ROUNDS: u32 = 100;
/// How long a sleep lasts: this part of a second.
const SLEEPS_PER_SECOND: u64 = 20_000;

/// One round of waiting, with interrupts off.
pub fn wait(hart: &Hart, platform: &Platform) {
    let rounds = hart.rounds.get();
    if rounds < ROUNDS || !platform.sstc {
        hart.rounds.set(rounds.saturating_add(1));
        csr::pause();
        return;
    }
    // Only the timer ends the sleep: a kick that waits already must not cut it short. Both are put back as they were,
    // so whatever came in the meantime waits as if nothing had happened.
    let (enabled, deadline) = (csr::enabled(), csr::time_compare());
    csr::set_time_compare(csr::time().saturating_add(platform.frequency.get() / SLEEPS_PER_SECOND));
    csr::set_enabled(csr::TIMER);
    csr::wait();
    csr::set_time_compare(deadline);
    csr::set_enabled(enabled);
}
