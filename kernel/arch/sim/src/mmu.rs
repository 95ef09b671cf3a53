//! The simulated memory management unit: its page-table entries, the walk, and a translation buffer that forgets
//! nothing until it is told to.
//!
//! An entry: bit 0 present, bit 1 a page (else a table), bits 2 to 4 read, write, execute, bit 5 uncached, bits 12 to
//! 52 the address. It is no architecture's format, so that nothing relies on one.

use std::collections::BTreeMap;

use anos_abi::fault::FaultKind;
use anos_abi::{PAGE_SIZE, Rights};
use anos_machine::{Entry, Mapping};

use crate::memory::Ram;

const PRESENT: u64 = 1;
const LEAF: u64 = 2;
const UNCACHED: u64 = 1 << 5;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// What the kernel's half of every root table holds: present, and for nobody in user mode.
pub const KERNEL_ENTRY: u64 = PRESENT | 1 << 63;

/// What a program does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads data.
    Load,
    /// Writes data.
    Store,
    /// Fetches instructions.
    Fetch,
}

impl Access {
    /// Every way to use memory.
    pub const ALL: [Access; 3] = [Access::Load, Access::Store, Access::Fetch];

    /// The right that this needs.
    pub fn right(self) -> Rights {
        match self {
            Access::Load => Rights::READ,
            Access::Store => Rights::WRITE,
            Access::Fetch => Rights::EXECUTE,
        }
    }

    /// What the processor reports if it isn't allowed.
    pub fn fault(self) -> FaultKind {
        match self {
            Access::Load => FaultKind::Read,
            Access::Store => FaultKind::Write,
            Access::Fetch => FaultKind::Execute,
        }
    }
}

/// Packs a leaf.
pub fn leaf(mapping: Mapping) -> u64 {
    assert_eq!(mapping.address & !ADDRESS, 0, "a page's address is aligned");
    let large = mapping.address.is_multiple_of(PAGE_SIZE << 9);
    assert!(mapping.level == 1 || mapping.level == 2 && large, "{mapping:x?}: no such page");
    let rights = mapping.rights;
    assert!(!rights.contains(Rights::WRITE.union(Rights::EXECUTE)), "a page writable and executable");
    let mut entry = PRESENT | LEAF | mapping.address;
    for (bit, right) in [(2, Rights::READ), (3, Rights::WRITE), (4, Rights::EXECUTE)] {
        entry |= u64::from(rights.contains(right)) << bit;
    }
    if mapping.uncached { entry | UNCACHED } else { entry }
}

/// Packs a reference to the next table.
pub fn table(address: u64) -> u64 {
    assert_eq!(address & !ADDRESS, 0, "a table's address is aligned");
    PRESENT | address
}

/// Unpacks an entry.
pub fn entry(entry: u64, level: u8) -> Entry {
    if entry & PRESENT == 0 {
        Entry::Empty
    } else if entry & LEAF != 0 {
        assert!(level <= 2, "a leaf at level {level}");
        Entry::Leaf(entry & ADDRESS)
    } else {
        Entry::Table(entry & ADDRESS)
    }
}

/// The rights in a leaf.
pub fn rights(entry: u64) -> Rights {
    let bits = [(2, Rights::READ), (3, Rights::WRITE), (4, Rights::EXECUTE)];
    bits.iter().filter(|(bit, _)| entry & 1 << bit != 0).fold(Rights(0), |all, &(_, right)| all.union(right))
}

/// Whether accesses through a leaf go past the caches.
pub fn is_uncached(entry: u64) -> bool {
    entry & UNCACHED != 0
}

/// The position of an address in its table of this level.
pub fn position(address: u64, level: u8) -> u64 {
    address >> (12 + 9 * (u32::from(level) - 1)) & 511
}

/// A translation of one page: where it lies and what may be done there; or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Physical address of the 4 KiB page.
    pub page: u64,
    /// What may be done there.
    pub rights: Rights,
}

/// Walks the tables from `root`; `None` if nothing is mapped there for programs.
pub fn walk(ram: &Ram, root: u64, levels: u8, address: u64) -> Option<Translation> {
    if address >= user_end(levels) {
        return None;
    }
    let mut table = root;
    for level in (1..=levels).rev() {
        let found = ram.entry(table, position(address, level));
        match entry(found, level) {
            Entry::Empty => return None,
            Entry::Table(next) => {
                assert!(level > 1, "a table where only pages can be");
                table = next;
            }
            Entry::Leaf(page) => {
                let inside = address & ((PAGE_SIZE << (9 * (u32::from(level) - 1))) - 1) & !(PAGE_SIZE - 1);
                return Some(Translation { page: page + inside, rights: rights(found) });
            }
        }
    }
    None
}

/// The first address past user space.
pub fn user_end(levels: u8) -> u64 {
    1 << (11 + 9 * u32::from(levels))
}

/// A core's translation buffer: all it ever used since the last flush, however stale.
#[derive(Clone, Debug, Default)]
pub struct Tlb {
    pages: BTreeMap<u64, Option<Translation>>,
}

impl Tlb {
    /// Forgets everything.
    pub fn flush(&mut self) {
        self.pages.clear();
    }

    /// Translates through the buffer. With `caches_invalid` it also remembers that there was nothing.
    pub fn translate(
        &mut self,
        ram: &Ram,
        root: u64,
        levels: u8,
        address: u64,
        caches_invalid: bool,
    ) -> Option<Translation> {
        let page = address & !(PAGE_SIZE - 1);
        if let Some(&known) = self.pages.get(&page) {
            return known;
        }
        let found = walk(ram, root, levels, address);
        if found.is_some() || caches_invalid {
            self.pages.insert(page, found);
        }
        found
    }

    /// What it remembers: pages and their translations.
    pub fn entries(&self) -> impl Iterator<Item = (u64, Option<Translation>)> {
        self.pages.iter().map(|(&page, &translation)| (page, translation))
    }
}
