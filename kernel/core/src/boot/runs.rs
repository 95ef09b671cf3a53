//! Lists of physical memory: what there is, less what is taken; and the pages that a port takes for itself before there
//! is anybody to ask. Whole pages alone: what is added shrinks to them, what is subtracted grows to them.

use anos_abi::PAGE_SIZE;

use super::Run;

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
    pub const EMPTY: RunList = RunList { runs: [Run { address: 0, bytes: 0 }; CAPACITY], length: 0 };

    /// The runs, in ascending order. Not inlined: the kernel is smaller so.
    #[inline(never)]
    pub fn as_slice(&self) -> &[Run] {
        self.runs.get(..self.length).unwrap_or(&[])
    }

    /// Bytes in all runs together.
    pub fn bytes(&self) -> u64 {
        self.as_slice().iter().fold(0, |sum, run| sum.saturating_add(run.bytes))
    }

    /// The end of the last run, or 0.
    pub fn end(&self) -> u64 {
        self.as_slice().last().map_or(0, |run| run.end())
    }

    /// The run that an address lies in, from that address on.
    pub fn from(&self, address: u64) -> Option<Run> {
        let run = self.as_slice().iter().find(|run| address >= run.address && address < run.end())?;
        Some(Run { address, bytes: run.end() - address })
    }

    /// Adds memory: the whole pages in it that the list doesn't have yet. If the list is full, its end is lost.
    pub fn add(&mut self, run: Run) -> Result<(), Full> {
        self.replace(up(run.address), down(run.end()), true)
    }

    /// Adds every page that the run touches.
    pub fn cover(&mut self, run: Run) -> Result<(), Full> {
        self.replace(down(run.address), up(run.end()), true)
    }

    /// Takes memory away: every page that the run touches. If the list is full, its end is lost too.
    pub fn subtract(&mut self, run: Run) -> Result<(), Full> {
        if run.bytes == 0 { Ok(()) } else { self.replace(down(run.address), up(run.end()), false) }
    }

    /// Makes the list anew, with all or nothing of what lies between two addresses.
    fn replace(&mut self, start: u64, end: u64, mut add: bool) -> Result<(), Full> {
        if start >= end {
            return Ok(());
        }
        let old = *self;
        self.length = 0;
        // bound: BOOT
        for run in old.as_slice() {
            self.push(run.address, run.end().min(start))?;
            if add && run.end() > start {
                self.push(start, end)?;
                add = false;
            }
            self.push(run.address.max(end), run.end())?;
        }
        if add { self.push(start, end) } else { Ok(()) }
    }

    /// Appends what lies between two addresses, if anything does.
    fn push(&mut self, start: u64, end: u64) -> Result<(), Full> {
        if start >= end {
            return Ok(());
        }
        let bytes = end - start;
        if let Some(last) = self.runs.get_mut(self.length.wrapping_sub(1))
            && last.end() == start
        {
            last.bytes += bytes;
            return Ok(());
        }
        *self.runs.get_mut(self.length).ok_or(Full)? = Run { address: start, bytes };
        self.length += 1;
        Ok(())
    }

    /// Takes `bytes` (rounded up to pages) from the top of the largest run and says where they are. The top, so that
    /// what is left starts where it started, mostly on a large boundary.
    pub fn take_from_top(&mut self, bytes: u64) -> Option<u64> {
        let runs = self.runs.get_mut(..self.length)?;
        let largest = runs.iter_mut().max_by_key(|run| run.bytes)?;
        largest.bytes = largest.bytes.checked_sub(up(bytes))?;
        Some(largest.end())
    }

    /// Takes `bytes` (a multiple of the page size) from the front of the first run that has them and lies below
    /// `limit`.
    pub fn take_below(&mut self, bytes: u64, limit: u64) -> Option<u64> {
        let mut runs = self.runs.get_mut(..self.length)?.iter_mut();
        let run = runs.find(|run| run.bytes >= bytes && run.address + bytes <= limit)?;
        let address = run.address;
        run.address += bytes;
        run.bytes -= bytes;
        Some(address)
    }
}

/// The next page boundary. In the last page of all it is the one before: no list gets that far.
fn up(address: u64) -> u64 {
    down(address.saturating_add(PAGE_SIZE - 1))
}

fn down(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(address: u64, bytes: u64) -> Run {
        Run { address, bytes }
    }

    fn list(runs: &[Run]) -> RunList {
        let mut list = RunList::EMPTY;
        for &run in runs {
            list.add(run).unwrap();
        }
        list
    }

    #[test]
    fn added_memory_is_sorted_whole_pages_counted_once_and_joined() {
        let list =
            list(&[run(0x9000, 0x2000), run(0x1001, 0x2fff), run(0xa000, 0x3000), run(0x7fff, 1), run(0xf000, 0x1000)]);
        assert_eq!(list.as_slice(), &[run(0x2000, 0x2000), run(0x9000, 0x4000), run(0xf000, 0x1000)]);
        assert_eq!((list.bytes(), list.end()), (0x7000, 0x1_0000));
    }

    #[test]
    fn added_memory_fills_gaps_and_swallows() {
        let mut list = list(&[run(0x1000, 0x1000), run(0x3000, 0x1000), run(0x8000, 0x1000)]);
        list.add(run(0x2000, 0x1000)).unwrap();
        assert_eq!(list.as_slice(), &[run(0x1000, 0x3000), run(0x8000, 0x1000)]);
        list.add(run(0, 0x1_0000)).unwrap();
        assert_eq!(list.as_slice(), &[run(0, 0x1_0000)]);
    }

    #[test]
    fn covering_adds_every_page_that_is_touched() {
        let mut list = RunList::EMPTY;
        list.cover(run(0x1fff, 2)).unwrap();
        list.cover(run(u64::MAX, 1)).unwrap();
        assert_eq!(list.as_slice(), &[run(0x1000, 0x2000)]);
    }

    #[test]
    fn subtracting_splits_trims_and_removes() {
        let mut list = list(&[run(0x1000, 0x3000), run(0x8000, 0x4000)]);
        list.subtract(run(0x9800, 0x100)).unwrap();
        assert_eq!(list.as_slice(), &[run(0x1000, 0x3000), run(0x8000, 0x1000), run(0xa000, 0x2000)]);
        list.subtract(run(0x5000, 0)).unwrap();
        list.subtract(run(0x3fff, 0x6002)).unwrap();
        assert_eq!(list.as_slice(), &[run(0x1000, 0x2000), run(0xb000, 0x1000)]);
        list.subtract(run(0, u64::MAX)).unwrap();
        assert_eq!(list.as_slice(), &[]);
    }

    #[test]
    fn pages_are_taken_from_the_top_of_the_largest_run() {
        let mut list = list(&[run(0x1000, 0x1000), run(0x8000, 0x4000)]);
        assert_eq!(list.take_from_top(0x1001), Some(0xa000));
        assert_eq!(list.take_from_top(0x3000), None);
        assert_eq!(list.take_from_top(u64::MAX), None);
        assert_eq!(list.bytes(), 0x3000);
    }

    #[test]
    fn taking_below_a_limit_respects_size_and_limit() {
        let mut list = list(&[run(0x1000, 0x1000), run(0x1_0000, 0x1_0000)]);
        assert_eq!(list.take_below(0x2000, 0x1_0000), None);
        assert_eq!(list.take_below(0x2000, 0x2_0000), Some(0x1_0000));
        assert_eq!(list.take_below(0x1000, 0x2_0000), Some(0x1000));
        assert_eq!(list.bytes(), 0xe000);
        assert_eq!(list.take_below(u64::MAX, u64::MAX), None);
    }

    #[test]
    fn the_rest_of_a_run_is_found_by_an_address_in_it() {
        let list = list(&[run(0x1000, 0x1000), run(0x1_0000, 0x1_0000)]);
        assert_eq!(list.from(0x1_8000), Some(run(0x1_8000, 0x8000)));
        assert_eq!(list.from(0x2_0000), None);
    }

    #[test]
    fn a_full_list_says_so() {
        let mut list = list(&[run(0, 0x1000_0000)]);
        let full = (1..200).try_for_each(|hole: u64| list.subtract(run(hole * 0x4000, 0x1000)));
        assert_eq!(full, Err(Full));
        assert!((1..48).all(|hole| list.from(hole * 0x4000).is_none()), "what was subtracted is not there");
    }

    #[test]
    fn the_end_of_the_address_space_is_no_trap() {
        let mut list = list(&[run(u64::MAX - 0x2fff, u64::MAX), run(u64::MAX, u64::MAX)]);
        assert_eq!(list.bytes(), 0x2000);
        list.subtract(run(u64::MAX - 0x1000, u64::MAX)).unwrap();
        assert_eq!(list.bytes(), 0x1000);
    }
}
