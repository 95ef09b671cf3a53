//! Numbers as people read them.

use core::fmt;

/// Bytes, in KiB or MiB.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1024;
        const MIB: u64 = 1024 * KIB;
        if self.0 >= 10 * MIB {
            write!(formatter, "{} MiB", self.0 / MIB)
        } else if self.0 >= KIB {
            write!(formatter, "{} KiB", self.0 / KIB)
        } else {
            write!(formatter, "{} B", self.0)
        }
    }
}

/// Nanoseconds, in seconds and ms, with minutes and so on if it takes them.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0 / 1_000_000 % 1000;
        let seconds = self.0 / 1_000_000_000;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        if days > 0 {
            write!(formatter, "{days} d ")?;
        }
        if seconds >= 3600 {
            write!(formatter, "{hours} h ")?;
        }
        if seconds >= 60 {
            write!(formatter, "{minutes} min ")?;
        }
        write!(formatter, "{}.{milliseconds:03} s", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_unit_that_fits() {
        assert_eq!(Size(0).to_string(), "0 B");
        assert_eq!(Size(4096).to_string(), "4 KiB");
        assert_eq!(Size(128 << 20).to_string(), "128 MiB");
        assert_eq!(Size(1 << 20).to_string(), "1024 KiB");
    }

    #[test]
    fn times_grow_units_as_they_need_them() {
        assert_eq!(Time(1_234_567_890).to_string(), "1.234 s");
        assert_eq!(Time(61_000_000_000).to_string(), "1 min 1.000 s");
        assert_eq!(Time(90_061_000_000_000).to_string(), "1 d 1 h 1 min 1.000 s");
        assert_eq!(Time(86_400_000_000_000).to_string(), "1 d 0 h 0 min 0.000 s");
    }
}
