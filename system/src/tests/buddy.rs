//! The buddy allocator: blocks never overlap, and all memory comes back.

use std::collections::BTreeMap;
use std::vec::Vec;

use anos_abi::{Error, PAGE_SIZE};
use proptest::prelude::*;

use crate::buddy::{Block, Buddy, Untypeds};

/// Memory as ranges: each slot is one, its children lie inside, in order.
#[derive(Debug, Default)]
struct Ranges {
    /// By slot: first page, pages, parent.
    slots: BTreeMap<u32, (u64, u64, u32)>,
}

impl Untypeds for Ranges {
    fn split(&mut self, parent: u32, pages: u64, count: u64, into: u32) -> Result<(), Error> {
        let (start, length, _) = self.slots[&parent];
        let used: u64 = self.slots.values().filter(|range| range.2 == parent).map(|range| range.1).sum();
        if used + pages * count > length {
            return Err(Error::NotEnoughMemory);
        }
        for (slot, index) in (into..).zip(0..count) {
            let range = (start + used + index * pages, pages, parent);
            assert!(self.slots.insert(slot, range).is_none(), "slot {slot} was not empty");
        }
        Ok(())
    }

    fn merge(&mut self, parent: u32) -> Result<(), Error> {
        assert!(!self.slots.values().any(|range| self.slots.get(&range.2).is_some_and(|above| above.2 == parent)));
        self.slots.retain(|_, range| range.2 != parent);
        Ok(())
    }
}

fn memory(pages: &[u64]) -> (Ranges, Buddy) {
    let (mut ranges, mut buddy, mut start) = (Ranges::default(), Buddy::new(), 0);
    for (run, &pages) in (1u32..).zip(pages) {
        ranges.slots.insert(run, (start, pages, 0));
        start += pages;
        buddy.add(&mut ranges, run, pages).expect("enough slots");
    }
    (ranges, buddy)
}

fn check_disjoint(ranges: &Ranges, blocks: &[Block]) {
    let mut spans: Vec<_> = blocks.iter().map(|block| (ranges.slots[&block.slot()], block.bytes())).collect();
    spans.sort();
    for span in &spans {
        assert_eq!(span.0.1 * PAGE_SIZE, span.1, "a block is as large as it says");
    }
    for pair in spans.windows(2) {
        assert!(pair[0].0.0 + pair[0].0.1 <= pair[1].0.0, "blocks overlap: {pair:?}");
    }
}

#[test]
fn a_run_is_used_but_for_less_than_the_smallest_block() {
    let (_, buddy) = memory(&[1000, 15, 16]);
    assert_eq!(buddy.free_bytes(), (1000 / 16 * 16 + 16) * PAGE_SIZE);
    assert_eq!(buddy.largest_free(), 512 * PAGE_SIZE);
}

#[test]
fn more_than_there_is_is_refused() {
    let (mut ranges, mut buddy) = memory(&[64]);
    assert_eq!(buddy.allocate(&mut ranges, 65 * PAGE_SIZE), Err(Error::NotEnoughMemory));
    assert_eq!(buddy.allocate(&mut ranges, u64::MAX), Err(Error::NotEnoughMemory));
    let all = buddy.allocate(&mut ranges, 64 * PAGE_SIZE).expect("all of it");
    assert_eq!(buddy.allocate(&mut ranges, 1), Err(Error::NotEnoughMemory));
    buddy.free(&mut ranges, all);
    assert_eq!(buddy.free_bytes(), 64 * PAGE_SIZE);
}

proptest! {
    #[test]
    fn blocks_never_overlap_and_all_merges_back(
        runs in prop::collection::vec(1u64..5000, 1..5),
        steps in prop::collection::vec((any::<bool>(), 0u32..24, any::<prop::sample::Index>()), 1..200),
    ) {
        let (mut ranges, mut buddy) = memory(&runs);
        let (free, largest, slots) = (buddy.free_bytes(), buddy.largest_free(), ranges.slots.len());
        let mut blocks: Vec<Block> = Vec::new();
        for (take, shift, which) in steps {
            if take || blocks.is_empty() {
                blocks.extend(buddy.allocate(&mut ranges, 1 << shift));
            } else {
                let block = blocks.swap_remove(which.index(blocks.len()));
                buddy.free(&mut ranges, block);
            }
            check_disjoint(&ranges, &blocks);
            let taken: u64 = blocks.iter().map(Block::bytes).sum();
            prop_assert_eq!(buddy.free_bytes() + taken, free);
        }
        for block in blocks {
            buddy.free(&mut ranges, block);
        }
        prop_assert_eq!(buddy.free_bytes(), free);
        prop_assert_eq!(buddy.largest_free(), largest);
        prop_assert_eq!(ranges.slots.len(), slots);
    }
}
