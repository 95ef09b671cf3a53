//! Samples from stamps, and figures from samples.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use anos::Error;

use crate::record::Sample;
use crate::stage::{RUNS, WARM_UP};

/// Why there is no figure.
#[derive(Debug)]
pub struct Failure(pub String);

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a figure is made from: instructions of each run.
pub type Outcome<T = Vec<u64>> = Result<T, Failure>;

/// From each start on one side to the next end on the other, without what the stamps cost.
pub fn one_way(from: &[Sample], to: &[Sample], overhead: u64) -> Vec<u64> {
    let mut ends = to.iter().map(|sample| sample.end).peekable();
    let mut way = Vec::new();
    for start in from.iter().map(|sample| sample.start) {
        while ends.next_if(|&end| end < start).is_some() {}
        if let Some(end) = ends.next() {
            way.push((end - start).wrapping_sub(overhead));
        }
    }
    way
}

/// From each start to its own end, without what the stamps cost.
pub fn there_and_back(samples: &[Sample], overhead: u64) -> Vec<u64> {
    samples.iter().map(|sample| (sample.end - sample.start).wrapping_sub(overhead)).collect()
}

/// Adds up two ways of the same runs.
pub fn sum(one: &[u64], other: &[u64]) -> Vec<u64> {
    one.iter().zip(other).map(|(one, other)| one + other).collect()
}

/// The least, the one in the middle, and the most of all runs that count.
pub struct Figure {
    /// The least.
    pub min: u64,
    /// The one in the middle.
    pub median: u64,
    /// The most.
    pub max: u64,
    /// How many.
    pub runs: usize,
}

impl Figure {
    /// Of these; the first few don't count. Fails if there are too few.
    pub fn of(samples: &[u64]) -> Outcome<Figure> {
        let mut counted: Vec<u64> = samples.iter().copied().skip(usize::try_from(WARM_UP).unwrap_or(0)).collect();
        counted.sort_unstable();
        let middle = counted.get(counted.len() / 2);
        let (Some(&min), Some(&median), Some(&max)) = (counted.first(), middle, counted.last()) else {
            return Err(Failure("no runs".into()));
        };
        if (counted.len() as u64) < RUNS {
            return Err(Failure(format!("only {} runs", counted.len())));
        }
        Ok(Figure { min, median, max, runs: counted.len() })
    }
}
