//! Cores take turns, so many instructions each.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Whose turn it is. Of one thread: where several run cores, there are no turns.
#[derive(Debug)]
pub struct Turns {
    core: AtomicUsize,
    /// Instructions of the turn so far.
    instructions: AtomicU64,
}

impl Turns {
    /// Nobody has executed anything yet.
    pub const fn new() -> Turns {
        Turns { core: AtomicUsize::new(0), instructions: AtomicU64::new(0) }
    }

    /// A core executes so many instructions. Answers whether its turn, of so many, ends with them.
    pub fn ends(&self, core: usize, instructions: u64, turn: u64) -> bool {
        let begins = self.core.swap(core, Ordering::Relaxed) != core;
        let before = if begins { 0 } else { self.instructions.load(Ordering::Relaxed) };
        let ends = before + instructions >= turn;
        self.instructions.store(if ends { 0 } else { before + instructions }, Ordering::Relaxed);
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_with_its_last_instruction_and_a_core_that_rests_in_between_begins_anew() {
        let turns = Turns::new();
        let ends: Vec<bool> = [4, 4, 2, 9, 1].iter().map(|&count| turns.ends(0, count, 10)).collect();
        assert_eq!(ends, [false, false, true, false, true]);
        assert!(!turns.ends(0, 9, 10) && !turns.ends(1, 9, 10) && !turns.ends(0, 9, 10));
        assert!(turns.ends(0, 100, 10) && !turns.ends(0, 9, 10));
    }
}
