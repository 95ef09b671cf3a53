//! The clock (TSC) and the timer (TSC-deadline, or the local APIC's countdown).
//!
//! How fast they tick comes from CPUID where it says so, else is measured against the 8254 timer, in about 8 ms.

use crate::apic;
use crate::cpu;
use crate::once::SetOnce;
use crate::percore::CoreData;

/// Ticks per second of the 8254's input.
const PIT_FREQUENCY: u64 = 1_193_182;
const PIT_COMMAND: u16 = 0x43;
const PIT_CHANNEL_2: u16 = 0x42;
/// How long the measurement takes, in the 8254's ticks: 8 ms.
const PIT_WINDOW: u64 = PIT_FREQUENCY * 8 / 1000;
/// How long the countdown is measured, in ns.
const COUNTDOWN_WINDOW_NS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

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

/// Finds out how fast things tick, with this core's local APIC running. False: the machine gives nothing to go by.
///
/// # Safety
/// As [`SetOnce::set`].
pub unsafe fn start() -> bool {
    let Some(frequency) = told_frequency().or_else(measure) else { return false };
    let mut clock = Clock {
        frequency,
        start: cpu::tsc(),
        ns_per_tick: scale(NS_PER_S, frequency),
        ticks_per_ns: scale(frequency, NS_PER_S),
        countdown_per_ns: 0,
    };
    if !apic::tsc_deadline() {
        clock.countdown_per_ns = measure_countdown(&clock);
    }
    // SAFETY: the caller's promise.
    unsafe { CLOCK.set(clock) };
    true
}

/// Nanoseconds since [`start`].
pub fn now() -> u64 {
    let clock = CLOCK.get();
    multiply(cpu::tsc().wrapping_sub(clock.start), clock.ns_per_tick)
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
        _ => multiply(deadline.saturating_sub(now()), per_ns).saturating_add(1),
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
fn multiply(value: u64, factor: u64) -> u64 {
    let product = (u128::from(value) * u128::from(factor)) >> 32;
    u64::try_from(product).unwrap_or(u64::MAX)
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

/// Measures the TSC against channel 2 of the 8254. Again, if the count ran out meanwhile: a virtual machine may be
/// stopped for longer than the 55 ms that it lasts, and then the count says nothing.
fn measure() -> Option<u64> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        let (ticks, passed) = measure_once()?;
        if !pit_ran_out() {
            return ticks.checked_mul(PIT_FREQUENCY)?.checked_div(passed).filter(|&frequency| frequency != 0);
        }
    }
    None
}

/// Ticks of the TSC, and those of the 8254 (modulo 2^16) at the same time. `None`: there is no 8254.
fn measure_once() -> Option<(u64, u64)> {
    /// Samples until the timer counts as absent: each takes microseconds.
    const PATIENCE: u32 = 100_000;
    const GATE: u16 = 0x61;
    // Gate of channel 2 on, loudspeaker off; then mode 0, both bytes, from the top.
    cpu::out8(GATE, cpu::in8(GATE) & !2 | 1);
    cpu::out8(PIT_COMMAND, 0b1011_0000);
    cpu::out8(PIT_CHANNEL_2, 0xff);
    cpu::out8(PIT_CHANNEL_2, 0xff);
    let (first_tsc, first) = best_sample(Counter::Pit);
    for _ in 0..PATIENCE {
        let (tsc, count) = best_sample(Counter::Pit);
        let passed = first.wrapping_sub(count) & 0xffff;
        if passed >= PIT_WINDOW {
            return Some((tsc.wrapping_sub(first_tsc), passed));
        }
    }
    None
}

/// The count of the 8254's channel 2, latched.
fn pit_count() -> u16 {
    cpu::out8(PIT_COMMAND, 0b1000_0000);
    let low = cpu::in8(PIT_CHANNEL_2);
    u16::from_le_bytes([low, cpu::in8(PIT_CHANNEL_2)])
}

/// Whether the count of the 8254's channel 2 has come to 0 since it was set: in mode 0 its output is high from then on.
fn pit_ran_out() -> bool {
    const LATCH_STATUS: u8 = 0b1110_1000;
    const OUTPUT: u8 = 1 << 7;
    cpu::out8(PIT_COMMAND, LATCH_STATUS);
    cpu::in8(PIT_CHANNEL_2) & OUTPUT != 0
}

/// Measures the local APIC's countdown against the TSC: its ticks per nanosecond, times 2^32.
fn measure_countdown(clock: &Clock) -> u64 {
    let window = multiply(COUNTDOWN_WINDOW_NS, clock.ticks_per_ns);
    // It won't get to 0 and interrupt: no countdown is that fast.
    apic::set_countdown(u32::MAX);
    let (first_tsc, first) = best_sample(Counter::Countdown);
    loop {
        let (tsc, count) = best_sample(Counter::Countdown);
        let passed = tsc.wrapping_sub(first_tsc);
        if passed >= window {
            apic::set_countdown(0);
            return scale(first.wrapping_sub(count), multiply(passed, clock.ns_per_tick));
        }
    }
}

/// What the TSC is compared with.
#[derive(Clone, Copy)]
enum Counter {
    Pit,
    Countdown,
}

/// Reads another counter together with the TSC: of a few tries, the one during which the least time passed, since a
/// virtual machine may be interrupted between the two.
#[inline(never)]
fn best_sample(counter: Counter) -> (u64, u64) {
    let (mut best, mut sample) = (u64::MAX, (0, 0));
    for _ in 0..4 {
        let before = cpu::tsc();
        let value = match counter {
            Counter::Pit => u64::from(pit_count()),
            Counter::Countdown => u64::from(apic::countdown()),
        };
        let gap = cpu::tsc().wrapping_sub(before);
        if gap < best {
            best = gap;
            sample = (before + gap / 2, value);
        }
    }
    sample
}
