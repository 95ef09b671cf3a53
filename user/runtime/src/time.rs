//! Time since the kernel started, read without a system call; and waiting for it to pass.

use core::fmt;
use core::ops::{Add, Sub};
use core::sync::atomic::{AtomicU64, Ordering};
pub use core::time::Duration;

use anos_abi::Error;

use crate::capability::Notification;
use crate::sync::Mutex;
use crate::{arch, env, memory};

/// A moment on the kernel's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// Now.
    pub fn now() -> Self {
        let (frequency, start) = env::counter();
        Instant(nanoseconds(arch::counter().wrapping_sub(start), factor(frequency)))
    }

    /// Nanoseconds since the kernel started: what deadlines are given in.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// How long ago that was.
    pub fn elapsed(self) -> Duration {
        Instant::now() - self
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Instant {
    /// Seconds and milliseconds.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:03}", self.0 / 1_000_000_000, self.0 / 1_000_000 % 1000)
    }
}

/// The time since the kernel started.
pub fn uptime() -> Duration {
    Duration::from_nanos(Instant::now().0)
}

/// Waits until the time has passed.
pub fn sleep(duration: Duration) -> Result<(), Error> {
    let until = Instant::now() + duration;
    match sleeper()?.wait(until.0) {
        Err(Error::TimedOut) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// A Notification that nobody signals: what sleeping threads wait on.
fn sleeper() -> Result<Notification, Error> {
    static SLEEPER: Mutex<Option<Notification>> = Mutex::new(None);
    let mut sleeper = SLEEPER.lock();
    match *sleeper {
        Some(notification) => Ok(notification),
        None => memory::make(0).inspect(|&made| *sleeper = Some(made)),
    }
}

/// Nanoseconds per tick, times 2^32; worked out once.
fn factor(frequency: u64) -> u64 {
    static FACTOR: AtomicU64 = AtomicU64::new(0);
    match FACTOR.load(Ordering::Relaxed) {
        0 => {
            let factor = (1_000_000_000 << 32) / frequency.max(1);
            FACTOR.store(factor, Ordering::Relaxed);
            factor
        }
        factor => factor,
    }
}

/// Ticks as nanoseconds.
#[expect(clippy::cast_possible_truncation, reason = "64 bits of nanoseconds last for five hundred years")]
fn nanoseconds(ticks: u64, factor: u64) -> u64 {
    ((u128::from(ticks) * u128::from(factor)) >> 32) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_also_after_years() {
        let factor = (1_000_000_000 << 32) / 10_000_000;
        assert_eq!(nanoseconds(1, factor), 100);
        assert_eq!(nanoseconds(10_000_000 * 86_400 * 365, factor), 1_000_000_000 * 86_400 * 365);
        let factor = (1_000_000_000 << 32) / 2_600_000_000;
        let day = nanoseconds(2_600_000_000 * 86_400, factor);
        assert!(day.abs_diff(1_000_000_000 * 86_400) < 100_000, "a day is right to 0.1 ms: {day}");
    }

    #[test]
    fn moments_and_durations_add_up() {
        let start = Instant(5);
        assert_eq!((start + Duration::from_micros(1)).nanoseconds(), 1005);
        assert_eq!((start + Duration::MAX).nanoseconds(), u64::MAX);
        assert_eq!(Instant(1005) - start, Duration::from_micros(1));
        assert_eq!(start - Instant(1005), Duration::ZERO);
    }
}
