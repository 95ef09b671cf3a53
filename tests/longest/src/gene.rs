//! A step of a trial as numbers: whatever they are, they mean something, so that any of them can be changed.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::random::Random;

/// Numbers of a step.
pub const NUMBERS: usize = 6;
/// The most steps of a trial.
pub const LONGEST_TRIAL: usize = 14;

/// What a step does; what its numbers mean, `trial` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Objects are made.
    Make = 0,
    /// Capabilities are copied.
    Copy = 1,
    /// Frames are mapped.
    Map = 2,
    /// A Frame or a PageTable is unmapped.
    Unmap = 3,
    /// Threads are made, and each makes a system call, has a fault or runs.
    Threads = 4,
    /// Threads are made that call each other, each on the time of the first.
    Chain = 5,
    /// A thread gets another part.
    Part = 6,
    /// A thread is stopped, started, looked at.
    Control = 7,
    /// CPU time is limited.
    Limit = 8,
    /// A capability is deleted, revoked, looked at, called off.
    Slot = 9,
    /// Capabilities go into another table.
    Store = 10,
    /// A capability in another table is deleted, revoked, copied, looked at.
    Inside = 11,
    /// A message is sent, or waited for a moment.
    Message = 12,
    /// Any method.
    Any = 13,
    /// Time passes.
    Pass = 14,
    /// Interrupts are bound.
    Lines = 15,
    /// A device interrupts.
    Raise = 16,
    /// The trial's own thread gets another priority.
    Priority = 17,
}

/// How often each is chosen.
const WEIGHTS: [(Kind, usize); 18] = [
    (Kind::Make, 14),
    (Kind::Copy, 8),
    (Kind::Map, 10),
    (Kind::Unmap, 3),
    (Kind::Threads, 16),
    (Kind::Chain, 3),
    (Kind::Part, 6),
    (Kind::Control, 5),
    (Kind::Limit, 3),
    (Kind::Slot, 12),
    (Kind::Store, 4),
    (Kind::Inside, 3),
    (Kind::Message, 8),
    (Kind::Any, 10),
    (Kind::Pass, 4),
    (Kind::Lines, 2),
    (Kind::Raise, 2),
    (Kind::Priority, 2),
];

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gene {
    /// What it does.
    pub kind: Kind,
    /// To what, and how much of it.
    pub numbers: [u8; NUMBERS],
}

impl Gene {
    /// Any step.
    pub fn random(random: &mut Random) -> Gene {
        let all: usize = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = random.below(all);
        let mut kind = Kind::Make;
        for (candidate, weight) in WEIGHTS {
            kind = candidate;
            if left < weight {
                break;
            }
            left -= weight;
        }
        Gene { kind, numbers: core::array::from_fn(|_| random.next().to_le_bytes()[3]) }
    }

    /// Changes one number: to any, or by a little.
    fn change(&mut self, random: &mut Random) {
        let at = random.below(NUMBERS);
        let [any, step, ..] = random.next().to_le_bytes();
        if let Some(number) = self.numbers.get_mut(at) {
            *number = match step % 4 {
                0 => number.wrapping_add(1),
                1 => number.wrapping_sub(1),
                _ => any,
            };
        }
    }
}

/// A few random steps.
pub fn random(random: &mut Random) -> Vec<Gene> {
    (0..3 + random.below(8)).map(|_| Gene::random(random)).collect()
}

/// Another trial, made from one and, sometimes, a part of a second.
pub fn changed(random: &mut Random, one: &[Gene], other: &[Gene]) -> Vec<Gene> {
    let mut genes = one.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(genes.len().max(1));
        match random.below(10) {
            0..=4 => {
                if let Some(gene) = genes.get_mut(at) {
                    gene.change(random);
                }
            }
            5..=6 => genes.insert(at, Gene::random(random)),
            7 if genes.len() > 1 => {
                genes.remove(at);
            }
            8 => {
                if let Some(&gene) = genes.get(at) {
                    genes.insert(at, gene);
                }
            }
            _ if !other.is_empty() => {
                let from = random.below(other.len());
                genes.extend(other.iter().skip(from));
            }
            _ => {}
        }
    }
    genes.truncate(LONGEST_TRIAL);
    genes
}

/// A trial as text.
pub fn text(genes: &[Gene]) -> String {
    let one = |gene: &Gene| {
        let numbers: String = gene.numbers.iter().map(|number| format!("{number:02x}")).collect();
        format!("{:02x}{numbers}", gene.kind as u8)
    };
    genes.iter().map(one).collect::<Vec<_>>().join(":")
}

/// A trial from text, if it is one.
pub fn parse(text: &str) -> Option<Vec<Gene>> {
    text.split(':').map(parse_one).collect()
}

fn parse_one(text: &str) -> Option<Gene> {
    let byte = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let number = byte(0)?;
    let (kind, _) = WEIGHTS.into_iter().find(|(kind, _)| *kind as u8 == number)?;
    let mut numbers = [0; NUMBERS];
    for (at, place) in numbers.iter_mut().enumerate() {
        *place = byte(at + 1)?;
    }
    (text.len() == 2 * (NUMBERS + 1)).then_some(Gene { kind, numbers })
}
