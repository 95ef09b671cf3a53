//! The clock (TSC) and the timer (TSC-deadline, or the local APIC's countdown).
//!
//! How fast they tick comes from CPUID where it says so, else both are measured against the 8254 timer: from [`begin`] to
//! [`start`], between which there is other work to do; `start` waits for what is missing.
//!
//! The 8254 is caught as it ticks ([`sample`]). What is not known of that moment, as a share of what has passed between two
//! of them, is how wrong the result can be: so where its count is read fast, little time is enough.

use crate::apic;
use crate::cpu;
use crate::once::SetOnce;
use crate::percore::CoreData;

/// Ticks per second of the 8254's input.
const PIT_FREQUENCY: u64 = 1_193_182;
const PIT_COMMAND: u16 = 0x43;
const PIT_CHANNEL_2: u16 = 0x42;
/// A measurement is good if what is unsure is this small a part of it, as a power of 2: half of that is the most by which
/// it can be wrong.
const FINE: u32 = 12;
/// And this small a part will do after [`ENOUGH`]: the error then is mostly far smaller, since what delays one reading
/// delays the other as much.
const COARSE: u32 = 7;
/// In the 8254's ticks: 8 ms.
const ENOUGH: u64 = PIT_FREQUENCY * 8 / 1000;
const NS_PER_S: u64 = 1_000_000_000;
/// The timer's vector comes before all of devices. If it is set for at once again and again, each device that waits has its
/// turn meanwhile: it comes so much later.
const SOON_NS: u64 = 1_000;

/// How the machine's clock runs.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// TSC ticks per second.
    pub frequency: u64,
    /// The TSC when the clock was 0.
    pub start: u64,
    /// Nanoseconds per TSC tick, times 2^32.
    ns_per_tick: u64,
    /// TSC ticks per nanosecond, times 2^32.
    ticks_per_ns: u64,
    /// Ticks of the countdown per nanosecond, times 2^32.
    countdown_per_ns: u64,
}

static CLOCK: SetOnce<Clock> =
    SetOnce::new(Clock { frequency: 0, start: 0, ns_per_tick: 0, ticks_per_ns: 0, countdown_per_ns: 0 });

/// The clock.
pub fn clock() -> &'static Clock {
    CLOCK.get()
}

/// Finds out how fast things tick. False: the machine gives nothing to go by.
///
/// # Safety
/// As [`SetOnce::set`].
pub unsafe fn start(first: Option<Sample>) -> bool {
    let pace = first.and_then(measure).unwrap_or(Pace { tsc: 0, pit: 0, countdown: 0 });
    let from_pit = || (pace.tsc * PIT_FREQUENCY).checked_div(pace.pit).filter(|&frequency| frequency != 0);
    let Some(frequency) = told_frequency().or_else(from_pit) else { return false };
    let ns_per_tick = scale(NS_PER_S, frequency);
    let clock = Clock {
        frequency,
        start: cpu::tsc(),
        ns_per_tick,
        ticks_per_ns: scale(frequency, NS_PER_S),
        countdown_per_ns: scale(pace.countdown, multiply(pace.tsc, ns_per_tick)),
    };
    // SAFETY: the caller's promise.
    unsafe { CLOCK.set(clock) };
    true
}

/// Nanoseconds since [`start`], for 584 years.
#[inline(never)]
pub fn now() -> u64 {
    let clock = CLOCK.get();
    let ns = product(cpu::tsc().wrapping_sub(clock.start), clock.ns_per_tick);
    u64::try_from(ns & u128::from(u64::MAX)).unwrap_or(0)
}

/// Waits; only while booting.
pub fn delay(ns: u64) {
    let end = now().saturating_add(ns);
    while now() < end {
        core::hint::spin_loop();
    }
}

/// Has the timer interrupt once the clock reaches `deadline`; `u64::MAX`: never. It may come early if that is far off.
pub fn set_timer(core: &CoreData, deadline: u64) {
    if core.timer.replace(deadline) != deadline {
        arm(deadline);
    }
}

/// Sets the timer itself, in passing (see [`set_timer`]).
pub fn arm(deadline: u64) {
    let clock = CLOCK.get();
    let per_ns = if apic::tsc_deadline() { clock.ticks_per_ns } else { clock.countdown_per_ns };
    // From now on, not since the start: what the factor's last bit is worth grows with the time it is applied to.
    let ticks = match deadline {
        u64::MAX => 0,
        _ => multiply(deadline.saturating_sub(now()).max(SOON_NS), per_ns).saturating_add(1),
    };
    if !apic::tsc_deadline() {
        apic::set_countdown(u32::try_from(ticks).unwrap_or(u32::MAX));
    } else if ticks == 0 {
        apic::set_tsc_deadline(0);
    } else {
        apic::set_tsc_deadline(cpu::tsc().saturating_add(ticks));
    }
}

/// The timer has interrupted: it is no longer set.
pub fn timer_done(core: &CoreData) {
    core.timer.set(u64::MAX);
}

/// `numerator / denominator` times 2^32, if one of them is below 2^32, and so is the quotient. 0 for a denominator of 0.
/// Not inlined: the kernel is smaller so.
#[inline(never)]
fn scale(numerator: u64, denominator: u64) -> u64 {
    let whole = numerator.checked_div(denominator).unwrap_or(0);
    let rest = numerator - whole * denominator;
    whole << 32 | (rest << 32).checked_div(denominator).unwrap_or(0)
}

/// `value` times a [`scale`]d factor.
fn product(value: u64, factor: u64) -> u128 {
    (u128::from(value) * u128::from(factor)) >> 32
}

/// The same, or the most there can be.
fn multiply(value: u64, factor: u64) -> u64 {
    u64::try_from(product(value, factor)).unwrap_or(u64::MAX)
}

/// What CPUID says: leaf 0x15 (TSC and crystal), or a hypervisor's leaf 0x40000010 (kHz).
fn told_frequency() -> Option<u64> {
    let tsc = cpu::cpuid(0x15, 0);
    if tsc.eax != 0 && tsc.ebx != 0 && tsc.ecx != 0 {
        return Some(u64::from(tsc.ecx) * u64::from(tsc.ebx) / u64::from(tsc.eax));
    }
    let hypervisor = cpu::cpuid(1, 0).ecx >> 31 != 0;
    let timing = if hypervisor { cpu::cpuid(0x4000_0010, 0).eax } else { 0 };
    if timing == 0 { None } else { Some(u64::from(timing) * 1000) }
}

/// How far three counters came in the same time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    tsc: u64,
    pit: u64,
    countdown: u64,
}

/// A moment at which the 8254 came to a count.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The TSC, in the middle of what is possible.
    tsc: u64,
    /// How long the possible is, in ticks of the TSC.
    unsure: u64,
    /// The count.
    pit: u16,
    /// That of the local APIC, just after.
    countdown: u32,
}

/// Begins to measure, with this core's local APIC running, if there is something that CPUID doesn't tell. `None`: there
/// is nothing to measure, or no 8254.
#[inline(never)]
pub fn begin() -> Option<Sample> {
    const GATE: u16 = 0x61;
    if apic::tsc_deadline() && told_frequency().is_some() {
        return None;
    }
    // Nothing if the timer compares with the TSC. It lasts longer than the 8254, so it won't get to 0 and interrupt.
    apic::set_countdown(u32::MAX);
    // Gate of channel 2 on, loudspeaker off; then mode 0, both bytes, from the top.
    cpu::out8(GATE, cpu::in8(GATE) & !2 | 1);
    cpu::out8(PIT_COMMAND, 0b1011_0000);
    cpu::out8(PIT_CHANNEL_2, 0xff);
    cpu::out8(PIT_CHANNEL_2, 0xff);
    sample()
}

/// What has passed since the first sample, once that is known well enough. Begins again if the 8254 ran out meanwhile: a
/// virtual machine may be stopped for longer than the 55 ms that it lasts, and then it says nothing.
fn measure(mut first: Sample) -> Option<Pace> {
    /// Samples until there is no point in going on: each takes microseconds.
    const PATIENCE: u32 = 100_000;
    for _ in 0..PATIENCE {
        let now = sample()?;
        let pit = u64::from(first.pit.wrapping_sub(now.pit));
        let tsc = now.tsc.wrapping_sub(first.tsc);
        let share = if pit < ENOUGH { FINE } else { COARSE };
        if first.unsure.wrapping_add(now.unsure) <= tsc >> share {
            if !pit_ran_out() {
                apic::set_countdown(0);
                return Some(Pace { tsc, pit, countdown: first.countdown.wrapping_sub(now.countdown).into() });
            }
            first = begin()?;
        }
    }
    None
}

/// Whether the count of the 8254's channel 2 has come to 0 since it was set: in mode 0 its output is high from then on.
fn pit_ran_out() -> bool {
    const LATCH_STATUS: u8 = 0b1110_1000;
    const OUTPUT: u8 = 1 << 7;
    cpu::out8(PIT_COMMAND, LATCH_STATUS);
    cpu::in8(PIT_CHANNEL_2) & OUTPUT != 0
}

/// Catches the 8254 as it ticks. Of a few ticks that whose time is known best: a virtual machine may be interrupted at any
/// moment. `None`: it does not tick.
#[inline(never)]
fn sample() -> Option<Sample> {
    /// Readings until the 8254 counts as absent: each takes microseconds.
    const PATIENCE: u32 = 100_000;
    /// Ticks that are seen. What was before the first is not known, so it is never the best.
    const TICKS: u32 = 5;
    let mut best = Sample { tsc: 0, unsure: 0, pit: 0, countdown: 0 };
    let (mut last, mut last_pit, mut seen, mut shortest) = (0, 0_u16, 0, u64::MAX);
    for _ in 0..PATIENCE {
        let before = cpu::tsc();
        // The latch holds what the count is now; how long it takes to fetch it doesn't matter.
        cpu::out8(PIT_COMMAND, 0b1000_0000);
        let late = cpu::tsc();
        let low = cpu::in8(PIT_CHANNEL_2);
        let pit = u16::from_le_bytes([low, cpu::in8(PIT_CHANNEL_2)]);
        // If it ticked once since the last reading, that was then or later; if more often, about one tick ago or later.
        if let Some(tick) = before.wrapping_sub(last).checked_div(last_pit.wrapping_sub(pit).into()) {
            let countdown = apic::countdown();
            let unsure = late.wrapping_sub(before).wrapping_add(tick);
            // With what it took to read the countdown: the machine may have been interrupted just before that, too.
            let whole = cpu::tsc().wrapping_sub(before).wrapping_add(tick);
            if whole < shortest {
                shortest = whole;
                best = Sample { tsc: late.wrapping_sub(unsure / 2), unsure, pit, countdown };
            }
            seen += 1;
            if seen == TICKS {
                return Some(best);
            }
        }
        (last, last_pit) = (before, pit);
    }
    None
}
