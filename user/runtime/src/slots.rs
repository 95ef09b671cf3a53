//! Which slots of the program's capability table are free.
//!
//! The kernel never searches: who asks for a capability says where it goes. This is where programs get the numbers.

use anos_abi::Error;

use crate::capability::{CapTable, Slot};
use crate::env;
use crate::sync::Mutex;

/// The most slots that are handed out; a larger table's rest is the program's own business.
const MOST: u32 = 4096;

/// One bit per slot: set if it is taken.
struct Taken {
    bits: [u64; MOST as usize / 64],
    /// Slots in the table, once asked for.
    end: u32,
}

static TAKEN: Mutex<Taken> = Mutex::new(Taken { bits: [0; MOST as usize / 64], end: 0 });

impl Taken {
    /// Starts with slots from `first` up to `end` free.
    fn begin(&mut self, first: u32, end: u32) {
        self.end = end.min(MOST);
        for slot in 0..first.min(self.end) {
            self.set(slot, true);
        }
    }

    fn is_taken(&self, slot: u32) -> bool {
        self.bits.get(slot as usize / 64).is_none_or(|word| word >> (slot % 64) & 1 == 1)
    }

    fn set(&mut self, slot: u32, taken: bool) {
        if let Some(word) = self.bits.get_mut(slot as usize / 64) {
            let bit = 1 << (slot % 64);
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }

    /// The first run of `count` free slots, now taken.
    fn allocate(&mut self, count: u32) -> Option<u32> {
        let mut run = 0;
        for slot in 0..self.end {
            run = if self.is_taken(slot) { 0 } else { run + 1 };
            if run == count {
                let first = slot + 1 - count;
                (first..=slot).for_each(|slot| self.set(slot, true));
                return Some(first);
            }
        }
        None
    }
}

/// A free slot, now taken.
pub fn allocate() -> Result<Slot, Error> {
    allocate_run(1)
}

/// The first of `count` free slots in a row, now taken.
pub fn allocate_run(count: u32) -> Result<Slot, Error> {
    let mut taken = TAKEN.lock();
    if taken.end == 0 {
        let (first, end) = env::free_slots();
        taken.begin(first, end);
    }
    if count == 0 {
        return Err(Error::InvalidArgument);
    }
    taken.allocate(count).map(Slot::new).ok_or(Error::NotEnoughMemory)
}

/// Gives back a slot that is empty.
pub fn free(slot: Slot) {
    TAKEN.lock().set(slot.number(), false);
}

/// Deletes what lies in a slot and gives the slot back.
pub fn delete(slot: Slot) -> Result<(), Error> {
    CapTable::at(env::CAP_TABLE).delete(slot)?;
    free(slot);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_in_runs_and_come_back() {
        let mut taken = Taken { bits: [0; MOST as usize / 64], end: 0 };
        taken.begin(16, 200);
        assert_eq!(taken.allocate(1), Some(16));
        assert_eq!(taken.allocate(60), Some(17));
        assert_eq!(taken.allocate(1), Some(77));
        taken.set(20, false);
        assert_eq!(taken.allocate(2), Some(78), "one free slot is no run of two");
        assert_eq!(taken.allocate(1), Some(20));
        assert_eq!(taken.allocate(120), Some(80));
        assert_eq!(taken.allocate(1), None);
    }

    #[test]
    fn a_table_larger_than_the_bitmap_is_used_as_far_as_it_goes() {
        let mut taken = Taken { bits: [0; MOST as usize / 64], end: 0 };
        taken.begin(4095, u32::MAX);
        assert_eq!(taken.allocate(1), Some(4095));
        assert_eq!(taken.allocate(1), None);
    }
}
