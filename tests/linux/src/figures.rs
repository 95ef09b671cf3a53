//! From rounds to figures.

use crate::arch::{self, INSTRUCTIONS_PER_TICK};
use crate::linux::Outcome;

/// How often a batch of rounds is measured.
pub const BATCHES: usize = 1000;
/// Batches in front of these, which don't count: caches of Linux's own fill up.
const WARM_UP: usize = 20;

/// Instructions of one round.
pub struct Figure {
    /// In the batch that took least.
    pub min: u64,
    /// In the one in the middle.
    pub median: u64,
    /// In the one that took most.
    pub max: u64,
}

/// Instructions that something takes.
#[inline(always)]
pub fn instructions_of(what: impl FnOnce() -> Outcome) -> Outcome<u64> {
    let start = arch::counter();
    what()?;
    Ok((arch::counter() - start) * INSTRUCTIONS_PER_TICK)
}

/// Measures batches of so many rounds, does `between` in between, and takes `overhead` off each round.
#[inline(always)]
pub fn measure(
    rounds: u64,
    overhead: u64,
    mut round: impl FnMut() -> Outcome,
    mut between: impl FnMut() -> Outcome,
) -> Outcome<Figure> {
    let mut samples = [0; BATCHES];
    for batch in 0..WARM_UP + BATCHES {
        let instructions = instructions_of(|| (0..rounds).try_for_each(|_| round()))?;
        if let Some(sample) = batch.checked_sub(WARM_UP).and_then(|counted| samples.get_mut(counted)) {
            *sample = (instructions / rounds).saturating_sub(overhead);
        }
        between()?;
    }
    samples.sort_unstable();
    Ok(Figure { min: samples[0], median: samples[BATCHES / 2], max: samples[BATCHES - 1] })
}
