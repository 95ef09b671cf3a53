//! Page tables of RISC-V: Sv39, Sv48 and Sv57 (privileged architecture, the chapters of these names).
//!
//! [`Mode`] says where things lie, [`leaf`], [`table`] and [`entry`] translate entries for the core, and [`map`] builds
//! the kernel's own half at boot.

use anos_abi::{PAGE_SIZE, Rights};
use anos_machine::{Entry, Mapping};

const VALID: u64 = 1 << 0;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const EXECUTE: u64 = 1 << 3;
const USER: u64 = 1 << 4;
const GLOBAL: u64 = 1 << 5;
// Set by us, so that no processor has to: some fault instead of setting them.
const ACCESSED: u64 = 1 << 6;
const DIRTY: u64 = 1 << 7;

/// The kernel's instructions.
pub const KERNEL_TEXT: u64 = VALID | READ | EXECUTE | GLOBAL | ACCESSED;
/// The kernel's constants.
pub const KERNEL_RODATA: u64 = VALID | READ | GLOBAL | ACCESSED;
/// The kernel's variables, stacks, and the direct map.
pub const KERNEL_DATA: u64 = VALID | READ | WRITE | GLOBAL | ACCESSED | DIRTY;

/// Address bits that an entry can hold: page numbers have 44 bits.
const ADDRESS_BITS: u64 = (1 << 56) - PAGE_SIZE;

/// Where the address-space id lies in `satp`.
pub const SATP_ID_SHIFT: u32 = 44;
/// The highest address-space id that there could be.
pub const MAX_ID: u64 = 0xffff;

/// A level of 512 entries.
pub type Table = [u64; 512];

/// How addresses are translated. The first is 0, as in a [`Description`](crate::description::Description) without
/// anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Three levels: 256 GiB of user space.
    Sv39,
    /// Four levels: 128 TiB of user space.
    Sv48,
    /// Five levels: 64 PiB of user space.
    Sv57,
}

impl Mode {
    /// Levels of page tables.
    pub const fn levels(self) -> u8 {
        self as u8 + 3
    }

    /// The first address past user space.
    pub const fn user_end(self) -> u64 {
        1 << (11 + 9 * self.levels())
    }

    /// Where the direct map starts: the upper half.
    pub const fn window(self) -> u64 {
        self.user_end().wrapping_neg()
    }

    /// Physical memory that the direct map can show. The top 2 GiB of the upper half are the kernel's own.
    pub const fn window_bytes(self) -> u64 {
        self.user_end() - (2 << 30)
    }

    /// The value of `satp` that translates through this root table, with this address-space id.
    pub const fn satp(self, root: u64, id: u64) -> u64 {
        let mode = self.levels() as u64 + 5;
        mode << 60 | Mode::place(root, id)
    }

    /// The part of that which isn't the mode.
    pub const fn place(root: u64, id: u64) -> u64 {
        id << SATP_ID_SHIFT | (root / PAGE_SIZE)
    }
}

/// The entry that maps a page for user space.
pub const fn leaf(mapping: Mapping) -> u64 {
    // "Cached or not" is an attribute of the physical address here (PMA), so `uncached` changes nothing.
    let mut bits = VALID | USER | ACCESSED | DIRTY;
    if mapping.rights.contains(Rights::EXECUTE) {
        bits |= EXECUTE;
    } else if mapping.rights.contains(Rights::WRITE) {
        bits |= WRITE | READ;
    }
    // An entry without any of the three would be a table, and "write only" is reserved.
    if mapping.rights.contains(Rights::READ) || bits & (EXECUTE | WRITE) == 0 {
        bits |= READ;
    }
    (mapping.address & ADDRESS_BITS) >> 2 | bits
}

/// The entry that refers to the next table.
pub const fn table(address: u64) -> u64 {
    (address & ADDRESS_BITS) >> 2 | VALID
}

/// What an entry says. The same bits mean the same on every level.
pub const fn entry(entry: u64) -> Entry {
    let address = entry << 2 & ADDRESS_BITS;
    if entry & VALID == 0 {
        Entry::Empty
    } else if entry & (READ | EXECUTE) == 0 {
        Entry::Table(address)
    } else {
        Entry::Leaf(address)
    }
}

/// Bytes that one entry of this level covers.
const fn span(level: u8) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

/// Which entry of a table of this level translates an address.
fn index(virtual_address: u64, level: u8) -> usize {
    // A shift, not a division by `span`: the compiler doesn't see that this is never 0.
    (virtual_address >> (12 + 9 * (level - 1)) & 511) as usize
}

/// Where the tables of [`map`] come from.
pub trait Tables {
    /// A clear page for another table.
    fn allocate(&mut self) -> Option<u64>;
    /// The table at a physical address that `allocate` gave.
    fn at(&mut self, address: u64) -> &mut Table;
}

/// There is no page for another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Maps a run for the kernel, with pages as large as they can be (up to 1 GiB). `bits` is one of [`KERNEL_TEXT`],
/// [`KERNEL_RODATA`], [`KERNEL_DATA`]; all numbers are multiples of the page size.
pub fn map(
    tables: &mut impl Tables,
    mode: Mode,
    root: u64,
    virtual_address: u64,
    address: u64,
    bytes: u64,
    bits: u64,
) -> Result<(), NoMemory> {
    let mut done = 0;
    while done < bytes {
        let at = virtual_address.wrapping_add(done);
        let from = address + done;
        let mut level = 3;
        while level > 1 && ((at | from) & (span(level) - 1) != 0 || bytes - done < span(level)) {
            level -= 1;
        }
        let slot = walk(tables, mode, root, at, level)?;
        *slot = from >> 2 | bits;
        done += span(level);
    }
    Ok(())
}

/// The entry for an address on a level; makes the tables on the way.
fn walk(
    tables: &mut impl Tables,
    mode: Mode,
    root: u64,
    virtual_address: u64,
    level: u8,
) -> Result<&mut u64, NoMemory> {
    let mut address = root;
    let mut here = mode.levels();
    while here > level {
        let place = index(virtual_address, here);
        let old = tables.at(address).get(place).copied().unwrap_or(0);
        address = match entry(old) {
            Entry::Table(next) => next,
            _ => {
                let next = tables.allocate().ok_or(NoMemory)?;
                if let Some(slot) = tables.at(address).get_mut(place) {
                    *slot = table(next);
                }
                next
            }
        };
        here -= 1;
    }
    tables.at(address).get_mut(index(virtual_address, level)).ok_or(NoMemory)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    const ROOT: u64 = 0x1000;

    struct Host {
        tables: Vec<Table>,
        limit: usize,
    }

    impl Tables for Host {
        fn allocate(&mut self) -> Option<u64> {
            if self.tables.len() == self.limit {
                return None;
            }
            self.tables.push([0; 512]);
            Some(self.tables.len() as u64 * PAGE_SIZE)
        }

        fn at(&mut self, address: u64) -> &mut Table {
            &mut self.tables[usize::try_from(address / PAGE_SIZE - 1).unwrap()]
        }
    }

    fn host() -> Host {
        Host { tables: std::vec![[0; 512]], limit: 20 }
    }

    /// The hardware's walk, written down from the manual: physical address and bits.
    fn translate(host: &mut Host, mode: Mode, virtual_address: u64) -> Option<(u64, u64)> {
        let mut table = ROOT;
        for level in (1..=mode.levels()).rev() {
            let shift = 12 + 9 * (u32::from(level) - 1);
            let found = host.at(table)[(virtual_address >> shift & 511) as usize];
            if found & 1 == 0 {
                return None;
            }
            let address = (found >> 10 & 0xfff_ffff_ffff) << 12;
            if found & 0xe != 0 {
                let offset = virtual_address & ((1 << shift) - 1);
                assert_eq!(address & ((1 << shift) - 1), 0, "misaligned superpage");
                return Some((address | offset, found & 0xff));
            }
            table = address;
        }
        None
    }

    #[test]
    fn mapped_runs_translate_and_their_neighbours_do_not() {
        for mode in [Mode::Sv39, Mode::Sv48, Mode::Sv57] {
            let mut host = host();
            let (start, bytes) = (0x8005_3000, 0x4123_5000);
            map(&mut host, mode, ROOT, mode.window() + start, start, bytes, KERNEL_DATA).unwrap();
            for offset in [0, 1, 0x1000, 0x1a_cfff, 0x1a_d000, 0x4000_0000, bytes - 1] {
                let found = translate(&mut host, mode, mode.window() + start + offset);
                assert_eq!(found, Some((start + offset, KERNEL_DATA)), "{mode:?} {offset:#x}");
            }
            assert_eq!(translate(&mut host, mode, mode.window() + start - 1), None);
            assert_eq!(translate(&mut host, mode, mode.window() + start + bytes), None);
        }
    }

    #[test]
    fn large_runs_take_few_tables() {
        let mut host = host();
        map(&mut host, Mode::Sv48, ROOT, Mode::Sv48.window(), 0, 8 << 30, KERNEL_DATA).unwrap();
        assert_eq!(host.tables.len(), 2);
    }

    #[test]
    fn running_out_of_tables_is_an_error() {
        let mut host = host();
        host.limit = 2;
        assert_eq!(map(&mut host, Mode::Sv39, ROOT, 0, 0, PAGE_SIZE, KERNEL_DATA), Err(NoMemory));
    }

    #[test]
    fn entries_say_what_was_put_in() {
        let mapping = |rights| Mapping { address: 0x8765_4000, rights, uncached: false, level: 1 };
        for rights in 0..16 {
            let bits = leaf(mapping(Rights(rights)));
            assert_eq!(entry(bits), Entry::Leaf(0x8765_4000));
            assert_ne!(bits & (WRITE | EXECUTE), WRITE | EXECUTE, "writable and executable");
            assert!(bits & WRITE == 0 || bits & READ != 0, "write-only is reserved");
            assert_ne!(bits & USER, 0);
        }
        assert_eq!(leaf(mapping(Rights::READ)) & 0xf, VALID | READ);
        assert_eq!(leaf(mapping(Rights::READ.union(Rights::EXECUTE))) & 0xf, VALID | READ | EXECUTE);
        assert_eq!(entry(table(0x12_3000)), Entry::Table(0x12_3000));
        assert_eq!(entry(0), Entry::Empty);
    }

    #[test]
    fn the_modes_lie_where_the_manual_says() {
        assert_eq!(Mode::Sv39.user_end(), 0x40_0000_0000);
        assert_eq!(Mode::Sv39.window(), 0xffff_ffc0_0000_0000);
        assert_eq!(Mode::Sv48.user_end(), 0x8000_0000_0000);
        assert_eq!(Mode::Sv48.window(), 0xffff_8000_0000_0000);
        assert_eq!(Mode::Sv57.user_end(), 0x0100_0000_0000_0000);
        assert_eq!(Mode::Sv57.window(), 0xff00_0000_0000_0000);
        let modes = [Mode::Sv39, Mode::Sv48, Mode::Sv57];
        assert_eq!(modes.map(|mode| mode.satp(0x8000_1000, 0) >> 60), [8, 9, 10]);
        assert_eq!(Mode::Sv48.satp(0x8000_1000, 0x123), 9 << 60 | 0x123 << 44 | 0x8_0001);
    }
}
