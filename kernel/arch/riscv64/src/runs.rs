//! Lists of physical memory runs: what is RAM, less what is taken; and the pages that the kernel takes for itself
//! before there is anybody to ask.

use anos_abi::PAGE_SIZE;
use anos_core::boot::Run;

/// Runs that a list can hold.
pub const CAPACITY: usize = 48;

/// The list has no room for another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Runs of physical memory: sorted, apart, whole pages.
#[derive(Clone, Copy, Debug)]
pub struct RunList {
    runs: [Run; CAPACITY],
    length: usize,
}

impl RunList {
    /// No memory at all.
    pub const fn new() -> Self {
        RunList { runs: [Run { address: 0, bytes: 0 }; CAPACITY], length: 0 }
    }

    /// The runs, in ascending order.
    pub fn as_slice(&self) -> &[Run] {
        self.runs.get(..self.length).unwrap_or(&[])
    }

    /// Bytes in all runs together.
    pub fn bytes(&self) -> u64 {
        self.as_slice().iter().fold(0, |sum, run| sum.saturating_add(run.bytes))
    }

    /// Adds memory: the whole pages in it that the list doesn't have yet.
    pub fn add(&mut self, run: Run) -> Result<(), Full> {
        let start = run.address.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX);
        let end = end_of(run) & !(PAGE_SIZE - 1);
        if start >= end {
            return Ok(());
        }
        let run = Run { address: start, bytes: end - start };
        self.subtract(run)?;
        let place = self.as_slice().iter().take_while(|other| other.address < start).count();
        self.insert(place, run)
    }

    /// Takes memory away: every page that the run touches.
    pub fn subtract(&mut self, run: Run) -> Result<(), Full> {
        if run.bytes == 0 {
            return Ok(());
        }
        let start = run.address & !(PAGE_SIZE - 1);
        let end = end_of(run).checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX);
        let mut place = 0;
        while let Some(&other) = self.as_slice().get(place) {
            let other_end = end_of(other);
            if other_end <= start || other.address >= end {
                place += 1;
                continue;
            }
            self.remove(place);
            if other.address < start {
                self.insert(place, Run { address: other.address, bytes: start - other.address })?;
                place += 1;
            }
            if other_end > end {
                self.insert(place, Run { address: end, bytes: other_end - end })?;
                place += 1;
            }
        }
        Ok(())
    }

    /// Takes `bytes` (rounded up to pages) from the top of the largest run and says where they are. The top, so that
    /// what is left starts where it started, mostly on a large boundary.
    pub fn take(&mut self, bytes: u64) -> Option<u64> {
        let bytes = bytes.checked_next_multiple_of(PAGE_SIZE)?;
        let runs = self.runs.get_mut(..self.length)?;
        let largest = runs.iter_mut().max_by_key(|run| run.bytes)?;
        largest.bytes = largest.bytes.checked_sub(bytes)?;
        Some(largest.address + largest.bytes)
    }

    fn insert(&mut self, place: usize, run: Run) -> Result<(), Full> {
        let tail = self.runs.get_mut(place..=self.length).ok_or(Full)?;
        // Every run moves one up; a plain loop is smaller than the library's rotation.
        let mut carried = run;
        for slot in tail {
            carried = core::mem::replace(slot, carried);
        }
        self.length += 1;
        Ok(())
    }

    fn remove(&mut self, place: usize) {
        if let Some(tail) = self.runs.get_mut(place..self.length) {
            let mut carried = Run { address: 0, bytes: 0 };
            for slot in tail.iter_mut().rev() {
                carried = core::mem::replace(slot, carried);
            }
            self.length -= 1;
        }
    }
}

impl Default for RunList {
    fn default() -> Self {
        Self::new()
    }
}

/// The first address past a run.
pub fn end_of(run: Run) -> u64 {
    run.address.saturating_add(run.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(address: u64, bytes: u64) -> Run {
        Run { address, bytes }
    }

    fn list(runs: &[Run]) -> RunList {
        let mut list = RunList::new();
        for &run in runs {
            list.add(run).unwrap();
        }
        list
    }

    #[test]
    fn added_memory_is_sorted_whole_pages_and_counted_once() {
        let list = list(&[run(0x9000, 0x2000), run(0x1001, 0x2fff), run(0xa000, 0x3000), run(0x7fff, 1)]);
        assert_eq!(list.as_slice(), &[run(0x2000, 0x2000), run(0x9000, 0x1000), run(0xa000, 0x3000)]);
        assert_eq!(list.bytes(), 0x6000);
    }

    #[test]
    fn subtracting_splits_trims_and_removes() {
        let mut list = list(&[run(0x1000, 0x3000), run(0x8000, 0x4000)]);
        list.subtract(run(0x9800, 0x100)).unwrap();
        assert_eq!(list.as_slice(), &[run(0x1000, 0x3000), run(0x8000, 0x1000), run(0xa000, 0x2000)]);
        list.subtract(run(0x3fff, 0x6002)).unwrap();
        assert_eq!(list.as_slice(), &[run(0x1000, 0x2000), run(0xb000, 0x1000)]);
        list.subtract(run(0, u64::MAX)).unwrap();
        assert_eq!(list.as_slice(), &[]);
    }

    #[test]
    fn pages_are_taken_from_the_top_of_the_largest_run() {
        let mut list = list(&[run(0x1000, 0x1000), run(0x8000, 0x4000)]);
        assert_eq!(list.take(0x1001), Some(0xa000));
        assert_eq!(list.take(0x3000), None);
        assert_eq!(list.bytes(), 0x3000);
    }

    #[test]
    fn a_full_list_says_so() {
        let mut list = list(&[run(0, 0x1000_0000)]);
        let full = (1..200).try_for_each(|hole: u64| list.subtract(run(hole * 0x4000, 0x1000)));
        assert_eq!(full, Err(Full));
    }

    #[test]
    fn the_end_of_the_address_space_is_no_trap() {
        let list = list(&[run(u64::MAX - 0x2fff, u64::MAX), run(u64::MAX, u64::MAX)]);
        assert_eq!(list.bytes(), 0x2000);
    }
}
