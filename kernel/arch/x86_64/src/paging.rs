//! Page-table entries and the layout of the kernel's half of every address space (SDM 3A, chapter 4). Pure; `tables`
//! builds the kernel's own tables.

use anos_abi::Rights;
use anos_machine::{Entry, Mapping};

/// The entry is in use.
pub const PRESENT: u64 = 1;
/// Writes are allowed.
pub const WRITE: u64 = 1 << 1;
/// User mode may use it.
pub const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
/// Not cached, in order: with the page-attribute table as it is at reset.
pub const UNCACHED: u64 = WRITE_THROUGH | CACHE_DISABLE;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// A page, not a table, at the levels above the lowest.
pub const LARGE: u64 = 1 << 7;
/// Stays in the TLB when another root table is loaded.
pub const GLOBAL: u64 = 1 << 8;
/// Fetches are not allowed.
pub const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Levels of page tables.
pub const LEVELS: u8 = 4;
/// The first address past user space. The last page below the hole of non-canonical addresses stays out: so the
/// address behind the last instruction is canonical, and `sysret` can't fault in the kernel.
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
/// Where physical address 0 is seen: main memory, writable, never executable; without the kernel's image.
pub const WINDOW: u64 = 0xffff_8000_0000_0000;
/// What is added to a physical address of the kernel's image to get its virtual one.
pub const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// Where the kernel's own devices are mapped, a page each.
pub const DEVICES: u64 = 0xffff_ffff_c000_0000;
/// Where the cores' stacks and data are mapped.
pub const CORES: u64 = 0xffff_ffff_d000_0000;

/// The entry for a page of user space.
pub fn leaf(mapping: Mapping) -> u64 {
    let mut entry = mapping.address & ADDRESS | PRESENT | USER | ACCESSED;
    if mapping.rights.0 & Rights::WRITE.0 != 0 {
        // Set in advance, so that the processor never writes to a table.
        entry |= WRITE | DIRTY;
    }
    if mapping.rights.0 & Rights::EXECUTE.0 == 0 {
        entry |= NO_EXECUTE;
    }
    if mapping.uncached {
        entry |= UNCACHED;
    }
    if mapping.level > 1 {
        entry |= LARGE;
    }
    entry
}

/// The entry for a table of user space. What its pages allow is said by their own entries.
pub fn table(address: u64) -> u64 {
    address & ADDRESS | PRESENT | WRITE | USER | ACCESSED
}

/// What an entry at this level says.
pub fn entry(entry: u64, level: u8) -> Entry {
    if entry & PRESENT == 0 {
        Entry::Empty
    } else if level == 1 || entry & LARGE != 0 {
        Entry::Leaf(entry & ADDRESS)
    } else {
        Entry::Table(entry & ADDRESS)
    }
}

/// Bytes that an entry at this level maps.
pub const fn span(level: u8) -> u64 {
    1 << (12 + 9 * (level as u32 - 1))
}

/// Which entry of a table at this level an address uses.
pub const fn index(address: u64, level: u8) -> u64 {
    address / span(level) % 512
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(rights: u8, level: u8) -> Mapping {
        Mapping { address: 0x1234_5600_0000, rights: Rights(rights), uncached: false, level }
    }

    #[test]
    fn entries_say_what_was_mapped() {
        for level in [1, 2] {
            assert_eq!(entry(leaf(mapping(Rights::READ.0, level)), level), Entry::Leaf(0x1234_5600_0000));
        }
        for level in [2, 3, 4] {
            assert_eq!(entry(table(0x5000), level), Entry::Table(0x5000));
        }
        assert_eq!(entry(0, 1), Entry::Empty);
        assert_eq!(entry(!PRESENT, 3), Entry::Empty);
    }

    #[test]
    fn a_page_is_writable_or_executable_only_with_the_right_to_it() {
        let read = leaf(mapping(Rights::READ.0, 1));
        assert_eq!(read & (PRESENT | USER | WRITE | NO_EXECUTE | UNCACHED), PRESENT | USER | NO_EXECUTE);
        let write = leaf(mapping(Rights::READ.0 | Rights::WRITE.0, 1));
        assert_eq!(write & (WRITE | NO_EXECUTE), WRITE | NO_EXECUTE);
        let execute = leaf(mapping(Rights::READ.0 | Rights::EXECUTE.0, 1));
        assert_eq!(execute & (WRITE | NO_EXECUTE), 0);
        assert_eq!(leaf(Mapping { uncached: true, ..mapping(1, 1) }) & UNCACHED, UNCACHED);
    }

    #[test]
    fn no_entry_of_user_space_is_global_or_has_stray_bits() {
        let entry = leaf(Mapping { address: u64::MAX, rights: Rights(u8::MAX), uncached: false, level: 1 });
        assert_eq!(entry & GLOBAL, 0);
        assert_eq!(entry >> 52, 0);
        assert_eq!(table(u64::MAX) >> 52, 0);
    }

    #[test]
    fn indexes_split_an_address() {
        assert_eq!(index(WINDOW, 4), 256);
        assert_eq!((index(IMAGE, 4), index(IMAGE, 3), index(IMAGE, 2)), (511, 510, 0));
        assert_eq!(span(2), 2 << 20);
        assert_eq!(index(0x7fff_ffff_f000, 1), 511);
    }
}
