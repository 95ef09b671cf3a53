//! The machine's clock and each core's timer: `stimecmp` where every hart has it, else the firmware's.

use core::num::NonZeroU64;

#[cfg(target_os = "none")]
use crate::{csr, machine::Platform, sbi};

const BILLION: u64 = 1_000_000_000;

/// How fast the clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    ticks_per_second: NonZeroU64,
    /// Nanoseconds per tick, if that is a whole number; else 0. It is on most machines, and saves two divisions.
    whole: u64,
}

impl Frequency {
    /// QEMU's, until the devicetree has been read.
    pub const USUAL: Frequency = Frequency::of(NonZeroU64::new(10_000_000).unwrap());

    const fn of(ticks_per_second: NonZeroU64) -> Self {
        let whole = if BILLION.is_multiple_of(ticks_per_second.get()) { BILLION / ticks_per_second.get() } else { 0 };
        Frequency { ticks_per_second, whole }
    }

    /// Ticks per second, if that makes sense: the arithmetic below stays within 64 bits up to 16 GHz.
    pub fn new(ticks_per_second: u64) -> Option<Self> {
        NonZeroU64::new(ticks_per_second).filter(|&frequency| frequency.get() <= 16 * BILLION).map(Frequency::of)
    }

    /// Ticks per second.
    pub const fn get(self) -> u64 {
        self.ticks_per_second.get()
    }

    /// Nanoseconds in so many ticks, rounded down.
    #[inline]
    pub fn nanoseconds(self, ticks: u64) -> u64 {
        if self.whole != 0 {
            return ticks.wrapping_mul(self.whole);
        }
        let (seconds, rest) = (ticks / self.ticks_per_second, ticks % self.ticks_per_second);
        seconds.wrapping_mul(BILLION).wrapping_add(rest.wrapping_mul(BILLION) / self.ticks_per_second)
    }

    /// The first tick at which so many nanoseconds have passed.
    #[inline]
    pub fn ticks(self, nanoseconds: u64) -> u64 {
        let (seconds, rest) = (nanoseconds / BILLION, nanoseconds % BILLION);
        let part = rest.wrapping_mul(self.get()).wrapping_add(BILLION - 1) / BILLION;
        seconds.saturating_mul(self.get()).saturating_add(part)
    }
}

/// Nanoseconds since the kernel's clock started.
#[cfg(target_os = "none")]
pub fn now(platform: &Platform) -> u64 {
    platform.frequency.nanoseconds(csr::time().wrapping_sub(platform.counter_start))
}

/// Has this core's timer interrupt come at a time of the kernel's clock; `u64::MAX`: never. One that waits goes away
/// if its time has not come.
#[cfg(target_os = "none")]
pub fn set_timer(platform: &Platform, deadline: u64) {
    let ticks = match deadline {
        u64::MAX => u64::MAX,
        deadline => platform.frequency.ticks(deadline).saturating_add(platform.counter_start),
    };
    if platform.sstc {
        csr::set_time_compare(ticks);
    } else {
        sbi::set_timer(ticks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_at_its_tick_and_not_one_before() {
        for frequency in [1, 32_768, 10_000_000, 24_999_999, BILLION, 3_999_999_999] {
            let frequency = Frequency::new(frequency).unwrap();
            for deadline in [1, 99, 100, 101, 999_999_999, BILLION, 123_456_789_012_345, 1 << 60] {
                let ticks = frequency.ticks(deadline);
                assert!(frequency.nanoseconds(ticks) >= deadline, "{frequency:?} {deadline}");
                assert!(frequency.nanoseconds(ticks - 1) < deadline, "{frequency:?} {deadline}");
            }
        }
    }

    #[test]
    fn far_deadlines_saturate() {
        assert_eq!(Frequency::new(16 * BILLION).unwrap().ticks(u64::MAX - 1), u64::MAX);
        assert_eq!(Frequency::new(0), None);
        assert_eq!(Frequency::new(17 * BILLION), None);
    }
}
