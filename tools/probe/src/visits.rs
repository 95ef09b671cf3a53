//! The longest visits to the kernel, by their kinds.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use crate::cores::{Block, Visit};

/// What visits are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The core's last mark.
    mark: u64,
    /// Where it entered the kernel.
    entry: u64,
    /// Which parts it passed.
    passed: u64,
}

/// A kind's longest visit.
#[derive(Debug, Default)]
struct Longest {
    instructions: u64,
    core: usize,
    marks: u64,
    /// How many of the kind there were.
    count: u64,
    /// How often each block was executed, by its number.
    blocks: BTreeMap<usize, u64>,
}

/// All kinds.
#[derive(Debug, Default)]
pub struct Visits {
    kinds: BTreeMap<Kind, Longest>,
    total: u64,
}

impl Visits {
    /// A visit has ended, on this core, after so many marks in all.
    pub fn note(&mut self, visit: &Visit, core: usize, mark: u64, marks: u64, parts: &[Range<u64>]) {
        let Some(first) = visit.blocks.first() else { return };
        self.total += 1;
        let kind = Kind { mark, entry: first.address(), passed: passed(&visit.blocks, parts) };
        let longest = self.kinds.entry(kind).or_default();
        longest.count += 1;
        if visit.instructions > longest.instructions {
            (longest.instructions, longest.core, longest.marks) = (visit.instructions, core, marks);
            longest.blocks.clear();
            for block in &visit.blocks {
                *longest.blocks.entry(block.0).or_default() += 1;
            }
        }
    }

    /// The report: so many kinds, the longest first.
    pub fn report(&self, most: usize) -> String {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(kind, longest)| (std::cmp::Reverse(longest.instructions), **kind));
        let mut text = String::new();
        for (kind, longest) in kinds.into_iter().take(most) {
            let (Kind { mark, entry, passed }, Longest { instructions, core, marks, count, blocks }) = (kind, longest);
            // Writing to a string can't fail.
            let _ = writeln!(
                text,
                "visit {instructions} mark {mark} entry {entry:#x} passed {passed:#x} core {core} marks {marks} count {count}"
            );
            for (&block, executed) in blocks {
                let block = Block(block);
                let _ = writeln!(text, "at {:#x} {executed} {}", block.address(), executed * block.instructions());
            }
        }
        let _ = writeln!(text, "total {}", self.total);
        text
    }
}

/// A bit for each part that one of the blocks begins in.
fn passed(blocks: &[Block], parts: &[Range<u64>]) -> u64 {
    let mut passed = 0;
    for block in blocks {
        for (bit, part) in parts.iter().enumerate() {
            if part.contains(&block.address()) {
                passed |= 1 << bit;
            }
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_ffff_8000_0000;

    fn visit(blocks: &[(u64, usize)]) -> Visit {
        let blocks: Vec<Block> = blocks.iter().map(|&(at, count)| Block::new(BASE + at, count)).collect();
        Visit { instructions: blocks.iter().map(|block| block.instructions()).sum(), blocks }
    }

    #[test]
    fn the_longest_of_each_kind_is_kept_and_the_longest_kinds_are_written() {
        let mut visits = Visits::default();
        let parts = vec![BASE + 0x100..BASE + 0x200, 0..1];
        visits.note(&visit(&[(0, 5)]), 0, 7, 1, &parts);
        visits.note(&visit(&[(0, 5), (0x20, 2), (0x20, 2)]), 1, 7, 2, &parts);
        visits.note(&visit(&[(0, 5), (0x20, 2)]), 0, 7, 3, &parts);
        visits.note(&visit(&[(0, 5), (0x100, 1)]), 0, 7, 4, &parts);
        visits.note(&visit(&[(0, 3)]), 0, 8, 5, &parts);
        visits.note(&Visit::default(), 0, 8, 6, &parts);
        let expected = "visit 9 mark 7 entry 0xffffffff80000000 passed 0x0 core 1 marks 2 count 3\n\
                        at 0xffffffff80000000 1 5\n\
                        at 0xffffffff80000020 2 4\n\
                        visit 6 mark 7 entry 0xffffffff80000000 passed 0x1 core 0 marks 4 count 1\n\
                        at 0xffffffff80000000 1 5\n\
                        at 0xffffffff80000100 1 1\n\
                        total 5\n";
        assert_eq!(visits.report(2), expected);
    }
}
