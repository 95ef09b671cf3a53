//! Runs of physical memory: what is main memory, what of it is free, and where devices can be. Pure.

use anos_abi::PAGE_SIZE;
use anos_core::boot::Run;

/// A few runs of physical addresses.
#[derive(Clone, Copy, Debug)]
pub struct Runs<const N: usize> {
    runs: [Run; N],
    count: usize,
}

impl<const N: usize> Default for Runs<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Runs<N> {
    /// None.
    pub const fn new() -> Self {
        Runs { runs: [Run { address: 0, bytes: 0 }; N], count: 0 }
    }

    /// The runs.
    pub fn as_slice(&self) -> &[Run] {
        self.runs.get(..self.count).unwrap_or(&[])
    }

    /// Adds a run at the end, unless it is empty or wraps; false if there is no room.
    pub fn push(&mut self, run: Run) -> bool {
        if run.bytes == 0 || run.address.checked_add(run.bytes).is_none() {
            return true;
        }
        let Some(place) = self.runs.get_mut(self.count) else { return false };
        *place = run;
        self.count += 1;
        true
    }

    /// The same runs shrunk to whole pages, ascending, with touching and overlapping ones made one.
    pub fn to_pages(&self) -> Self {
        self.aligned(|run| {
            let start = run.address.checked_next_multiple_of(PAGE_SIZE)?;
            Some((start, end(run) & !(PAGE_SIZE - 1)))
        })
    }

    /// The same, grown to whole pages.
    pub fn to_pages_outward(&self) -> Self {
        self.aligned(|run| Some((run.address & !(PAGE_SIZE - 1), end(run).checked_next_multiple_of(PAGE_SIZE)?)))
    }

    fn aligned(&self, bounds: impl Fn(Run) -> Option<(u64, u64)>) -> Self {
        let mut sorted = *self;
        sort(sorted.runs.get_mut(..self.count).unwrap_or(&mut []));
        let mut result = Runs::new();
        for &run in sorted.as_slice() {
            let Some((start, end_of)) = bounds(run) else { continue };
            let last = result.count.checked_sub(1).and_then(|last| result.runs.get_mut(last));
            match last {
                Some(last) if end(*last) >= start => last.bytes = last.bytes.max(end_of.saturating_sub(last.address)),
                _ if end_of > start => {
                    // There are at most as many as before.
                    let _ = result.push(Run { address: start, bytes: end_of - start });
                }
                _ => {}
            }
        }
        result
    }

    /// Takes a range out. A run that it splits may find no room for its second part: that is dropped.
    pub fn remove(&mut self, address: u64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let cut = address.saturating_add(bytes);
        let mut rest = Runs::<N>::new();
        for &run in self.as_slice() {
            let before = Run { address: run.address, bytes: address.min(end(run)).saturating_sub(run.address) };
            let start = cut.max(run.address);
            let after = Run { address: start, bytes: end(run).saturating_sub(start) };
            let _ = rest.push(before);
            let _ = rest.push(after);
        }
        *self = rest;
    }

    /// Takes `bytes` (a multiple of the page size) from the front of the first run that has them and lies below
    /// `limit`.
    pub fn take(&mut self, bytes: u64, limit: u64) -> Option<u64> {
        let run = self
            .runs
            .iter_mut()
            .take(self.count)
            .find(|run| run.bytes >= bytes && run.address.checked_add(bytes).is_some_and(|end| end <= limit))?;
        let address = run.address;
        run.address += bytes;
        run.bytes -= bytes;
        Some(address)
    }

    /// What lies between the runs (ascending, as [`Runs::to_pages`] makes them) and below `limit`.
    pub fn holes(&self, limit: u64) -> Self {
        let mut holes = Runs::new();
        let mut start = 0;
        for &run in self.as_slice() {
            let _ = holes.push(Run { address: start, bytes: run.address.min(limit).saturating_sub(start) });
            start = end(run);
        }
        let _ = holes.push(Run { address: start, bytes: limit.saturating_sub(start) });
        holes
    }

    /// The run that an address lies in, from that address on.
    pub fn from(&self, address: u64) -> Option<Run> {
        let run = self.as_slice().iter().find(|run| (run.address..end(**run)).contains(&address))?;
        Some(Run { address, bytes: end(*run) - address })
    }

    /// Bytes in all runs together.
    pub fn bytes(&self) -> u64 {
        self.as_slice().iter().map(|run| run.bytes).fold(0, u64::saturating_add)
    }

    /// The end of the last run, or 0.
    pub fn end(&self) -> u64 {
        self.as_slice().iter().map(|run| end(*run)).max().unwrap_or(0)
    }
}

/// Sorts by address. By insertion: there are few, and `core`'s sort would be a large part of the kernel.
fn sort(runs: &mut [Run]) {
    for end in 1..=runs.len() {
        let Some([rest @ .., new]) = runs.get_mut(..end) else { return };
        for run in rest.iter_mut() {
            if run.address > new.address {
                core::mem::swap(run, new);
            }
        }
    }
}

fn end(run: Run) -> u64 {
    run.address.saturating_add(run.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(list: &[(u64, u64)]) -> Runs<8> {
        let mut runs = Runs::new();
        for &(start, end) in list {
            assert!(runs.push(Run { address: start, bytes: end - start }));
        }
        runs
    }

    fn pairs(runs: &Runs<8>) -> [(u64, u64); 8] {
        let mut pairs = [(0, 0); 8];
        for (pair, run) in pairs.iter_mut().zip(runs.as_slice()) {
            *pair = (run.address, end(*run));
        }
        pairs
    }

    #[test]
    fn whole_pages_are_sorted_joined_and_never_grow() {
        let ram = runs(&[(0x10_0000, 0x7fff_f800), (0, 0x9_fc00), (0x8000_0000, 0x8000_0800)]);
        let pages = ram.to_pages();
        assert_eq!(pairs(&pages)[..3], [(0, 0x9_f000), (0x10_0000, 0x7fff_f000), (0, 0)]);
        assert_eq!(pairs(&ram.to_pages_outward())[..2], [(0, 0xa_0000), (0x10_0000, 0x8000_1000)]);
        let joined = runs(&[(0x2000, 0x5000), (0x4000, 0x6000), (0x1000, 0x2000), (0x3000, 0x4000)]).to_pages();
        assert_eq!(pairs(&joined)[..2], [(0x1000, 0x6000), (0, 0)]);
    }

    #[test]
    fn removing_cuts_splits_and_swallows() {
        let mut free = runs(&[(0x1000, 0x9000), (0xa000, 0xb000)]);
        free.remove(0x3000, 0x1000);
        assert_eq!(pairs(&free)[..3], [(0x1000, 0x3000), (0x4000, 0x9000), (0xa000, 0xb000)]);
        free.remove(0x2000, 0x8800);
        assert_eq!(pairs(&free)[..3], [(0x1000, 0x2000), (0xa800, 0xb000), (0, 0)]);
        free.remove(0, u64::MAX);
        assert!(free.as_slice().is_empty());
    }

    #[test]
    fn taking_respects_size_and_limit() {
        let mut free = runs(&[(0x1000, 0x2000), (0x10000, 0x20000)]);
        assert_eq!(free.take(0x2000, 0x1_0000), None);
        assert_eq!(free.take(0x2000, 0x2_0000), Some(0x10000));
        assert_eq!(free.take(0x1000, 0x2_0000), Some(0x1000));
        assert_eq!(free.bytes(), 0xe000);
        assert_eq!(free.take(u64::MAX, u64::MAX), None);
    }

    #[test]
    fn holes_and_runs_make_up_the_whole() {
        let ram = runs(&[(0, 0xa000), (0x1_0000, 0x2_0000), (0x10_0000, 0x20_0000)]);
        let holes = ram.holes(0x8_0000);
        assert_eq!(pairs(&holes)[..3], [(0xa000, 0x1_0000), (0x2_0000, 0x8_0000), (0, 0)]);
        assert_eq!(ram.from(0x1_8000), Some(Run { address: 0x1_8000, bytes: 0x8000 }));
        assert_eq!(ram.from(0x2_0000), None);
        assert_eq!(ram.end(), 0x20_0000);
    }

    #[test]
    fn a_run_that_wraps_is_ignored() {
        let mut wrapping = Runs::<2>::new();
        assert!(wrapping.push(Run { address: u64::MAX - 10, bytes: 100 }));
        assert!(wrapping.as_slice().is_empty());
    }
}
