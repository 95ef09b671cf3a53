//! Counting tests that passed and failed, and saying so in one place.

use anyhow::Result;

use crate::progress::fail;

/// How many tests passed and failed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
}

impl Tally {
    /// Counts one test; says how it went.
    pub fn record(&mut self, name: &str, seconds: f64, result: Result<()>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok {name} ({seconds:.1} s)");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED {name}");
                fail(&format!("{name}: {error:#}"));
            }
        }
    }

    /// Adds what others counted.
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Reads the numbers in a line such as `12 passed; 0 failed` or `12 passed, 0 failed`, wherever they stand.
pub fn read_counts(line: &str) -> Option<Tally> {
    let number_before = |word: &str| {
        let before = &line[..line.find(word)?];
        before.split_whitespace().last()?.parse().ok()
    };
    Some(Tally { passed: number_before(" passed")?, failed: number_before(" failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_cargo_and_from_the_guest() {
        let cargo = "test result: ok. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(read_counts(cargo), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(read_counts("anos-test: 7 passed, 0 failed"), Some(Tally { passed: 7, failed: 0 }));
        assert_eq!(read_counts("all passed"), None);
    }
}
