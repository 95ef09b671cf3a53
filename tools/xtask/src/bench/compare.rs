//! What has become worse since the figures that one compares with.

use std::fmt;

use super::figures::Figure;

/// A figure may be so many instructions higher, or so many percent, without being worse.
const SLACK: u64 = 2;

/// How two sets of figures differ.
#[derive(Debug, Default)]
pub struct Difference {
    worse: Vec<String>,
    better: Vec<String>,
    only_before: Vec<String>,
    only_now: Vec<String>,
    same: usize,
}

impl Difference {
    /// Whether nothing is worse.
    pub fn is_good(&self) -> bool {
        self.worse.is_empty()
    }

    /// Whether both have the same figures.
    pub fn is_complete(&self) -> bool {
        self.only_before.is_empty() && self.only_now.is_empty()
    }
}

/// The percents of the boot: on x86-64 a small change may have the kernel know its clock sooner or later.
const BOOT_SLACK: u64 = 20;

/// The percents of the longest visit: the search is the same each time, but a change of the kernel leads it elsewhere.
const PATH_SLACK: u64 = 10;
/// The most instructions that the longest visit may take, whatever it took before.
const PATH_MOST: u64 = 20_000;

/// More than 2 % (of the boot: 20 %, of the longest visit: 10 %) and more than 2
/// instructions; and a longest visit that is too long.
fn is_worse(name: &str, before: u64, now: u64) -> bool {
    if name.starts_with("path/") && now > PATH_MOST {
        return true;
    }
    let percents = match name.split('/').next() {
        Some("boot") => BOOT_SLACK,
        Some("path") => PATH_SLACK,
        _ => SLACK,
    };
    now > before + SLACK && (now - before) * 100 > before * percents
}

/// Compares figure by figure: the median and the most of all runs.
pub fn compare(before: &[Figure], now: &[Figure]) -> Difference {
    let mut difference = Difference::default();
    for new in now {
        let name = || format!("{} {}", new.arch, new.name);
        let Some(old) = before.iter().find(|old| old.key() == new.key()) else {
            difference.only_now.push(name());
            continue;
        };
        let pairs = [("", old.median, new.median), (" (at most)", old.max, new.max)];
        let worse: Vec<_> = pairs.iter().filter(|(_, before, now)| is_worse(&new.name, *before, *now)).collect();
        if let Some((which, old, new)) = worse.first() {
            difference.worse.push(format!("{}{which}: {}", name(), change(*old, *new)));
        } else if new.median < old.median {
            difference.better.push(format!("{}: {}", name(), change(old.median, new.median)));
        } else {
            difference.same += 1;
        }
    }
    let gone = before.iter().filter(|old| !now.iter().any(|new| new.key() == old.key()));
    difference.only_before = gone.map(|old| format!("{} {}", old.arch, old.name)).collect();
    difference
}

/// `300 -> 320 (+6.7 %)`
fn change(old: u64, new: u64) -> String {
    let sign = if new < old { '-' } else { '+' };
    let permille = (old.abs_diff(new) * 1000).checked_div(old).unwrap_or(0);
    format!("{old} -> {new} ({sign}{}.{} %)", permille / 10, permille % 10)
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worse, better) = (self.worse.len(), self.better.len());
        write!(formatter, "{worse} worse, {better} better, {} as they were", self.same)?;
        let groups = [
            ("worse:", &self.worse),
            ("better:", &self.better),
            ("not measured any more:", &self.only_before),
            ("measured for the first time:", &self.only_now),
        ];
        for (title, lines) in groups {
            if lines.is_empty() {
                continue;
            }
            write!(formatter, "\n  {title}")?;
            for line in lines {
                write!(formatter, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Architecture;

    fn figure(name: &str, median: u64, max: u64) -> Figure {
        let line = format!("{name} instructions {median} {median} {max} 1000");
        Figure::parse(&line, Architecture::Riscv64, 1).expect("well formed")
    }

    #[test]
    fn worse_is_more_than_two_percent_and_more_than_two_instructions() {
        assert!(!is_worse("a", 50, 52), "two instructions");
        assert!(is_worse("a", 50, 53), "three, and 6 %");
        assert!(!is_worse("a", 1000, 1020), "2 %");
        assert!(is_worse("a", 1000, 1021), "more than 2 %");
        assert!(!is_worse("a", 1000, 10), "better");
        assert!(!is_worse("boot/root", 1000, 1200) && is_worse("boot/root", 1000, 1201), "20 % of the boot");
        assert!(
            !is_worse("path/longest", 1000, 1100) && is_worse("path/longest", 1000, 1101),
            "10 % of the longest visit"
        );
        assert!(
            !is_worse("path/longest", 20_000, 20_000) && is_worse("path/longest", 30_000, 20_001),
            "20,000 at most"
        );
    }

    #[test]
    fn a_difference_says_which_and_by_how_much() {
        let before = [figure("a", 300, 300), figure("b", 100, 100), figure("c", 80, 80), figure("gone", 1, 1)];
        let now = [figure("a", 320, 320), figure("b", 90, 90), figure("c", 80, 200), figure("new", 1, 1)];
        let difference = compare(&before, &now);
        assert!(!difference.is_good() && !difference.is_complete());
        let text = difference.to_string();
        for part in [
            "2 worse, 1 better, 0 as they were",
            "riscv64 a: 300 -> 320 (+6.6 %)",
            "riscv64 c (at most): 80 -> 200 (+150.0 %)",
            "riscv64 b: 100 -> 90 (-10.0 %)",
            "not measured any more:\n    riscv64 gone",
            "measured for the first time:\n    riscv64 new",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }
}
