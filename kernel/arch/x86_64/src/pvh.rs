//! What a PVH loader passes: `hvm_start_info` (Xen's `public/arch-x86/hvm/start_info.h`, version 1 and up).
//!
//! Neighbours: [`memory`](crate::memory) for the runs that come out.

use anos_core::boot::Run;

use crate::memory::Runs;

/// Reads physical memory. `None` for what can't be read.
pub trait Reader {
    /// The bytes at a physical address.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;

    /// A little-endian number of `N` bytes as an array.
    fn array<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        self.bytes(address, N)?.try_into().ok()
    }

    /// A 32-bit number.
    fn word32(&self, address: u64) -> Option<u32> {
        self.array(address).map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    fn word64(&self, address: u64) -> Option<u64> {
        self.array(address).map(u64::from_le_bytes)
    }
}

/// Memory runs that are taken note of; a firmware lists a dozen at most.
pub const MAX_RUNS: usize = 32;
/// Entries of the memory map that are looked at.
const MAX_ENTRIES: u64 = 128;
const MAGIC: u32 = 0x336e_c578;
const ENTRY_BYTES: u64 = 24;
const TYPE_RAM: u32 = 1;

/// The loader's message.
#[derive(Clone, Copy, Debug)]
pub struct StartInfo {
    /// Main memory as listed: unsorted, not page-aligned.
    pub ram: Runs<MAX_RUNS>,
    /// Physical address of the ACPI root pointer, or 0.
    pub rsdp: u64,
    /// Physical address of the command line, or 0.
    pub command_line: u64,
}

impl StartInfo {
    /// Reads it at `address`; `None` if it isn't one, or has no memory map.
    pub fn read(reader: &impl Reader, address: u64) -> Option<StartInfo> {
        if reader.word32(address)? != MAGIC || reader.word32(address + 4)? < 1 {
            return None;
        }
        let map = reader.word64(address + 40)?;
        let entries = u64::from(reader.word32(address + 48)?).min(MAX_ENTRIES);
        let mut ram = Runs::new();
        // Main memory first: what other entries say of the same addresses counts more.
        for wanted in [true, false] {
            for index in 0..entries {
                let entry = map.checked_add(index * ENTRY_BYTES)?;
                let kind = entry.checked_add(16)?;
                let run = Run { address: reader.word64(entry)?, bytes: reader.word64(kind - 8)? };
                match (reader.word32(kind)? == TYPE_RAM, wanted) {
                    // More runs than there is room for: the rest of the memory stays unused.
                    (true, true) => _ = ram.push(run),
                    (false, false) => ram.remove(run.address, run.bytes),
                    _ => {}
                }
            }
        }
        Some(StartInfo { ram, rsdp: reader.word64(address + 32)?, command_line: reader.word64(address + 24)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes([u8; 128]);

    impl Reader for Bytes {
        fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
            let start = usize::try_from(address).ok()?;
            self.0.get(start..start.checked_add(length)?)
        }
    }

    fn message() -> Bytes {
        let mut bytes = [0; 128];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = 1;
        bytes[24] = 7;
        bytes[32] = 9;
        bytes[40] = 64;
        bytes[48] = 2;
        bytes[64 + 8..64 + 16].copy_from_slice(&0x9fc00_u64.to_le_bytes());
        bytes[64 + 16] = 1;
        bytes[88] = 1;
        bytes[88 + 16] = 2;
        Bytes(bytes)
    }

    #[test]
    fn memory_map_keeps_only_main_memory() {
        let info = StartInfo::read(&message(), 0).unwrap();
        assert_eq!(info.ram.as_slice(), [Run { address: 0, bytes: 0x9fc00 }]);
        assert_eq!((info.command_line, info.rsdp), (7, 9));
    }

    #[test]
    fn main_memory_that_another_entry_claims_is_none() {
        let mut bytes = message();
        bytes.0[88..96].copy_from_slice(&0x2000_u64.to_le_bytes());
        bytes.0[96..104].copy_from_slice(&0x1000_u64.to_le_bytes());
        let info = StartInfo::read(&bytes, 0).unwrap();
        let after = Run { address: 0x3000, bytes: 0x9fc00 - 0x3000 };
        assert_eq!(info.ram.as_slice(), [Run { address: 0, bytes: 0x2000 }, after]);
    }

    #[test]
    fn a_map_that_wraps_around_is_refused() {
        let mut bytes = message();
        bytes.0[40..48].copy_from_slice(&(u64::MAX - 10).to_le_bytes());
        assert!(StartInfo::read(&bytes, 0).is_none());
    }

    #[test]
    fn bad_magic_old_version_and_truncated_map_are_refused() {
        let mut bytes = message();
        bytes.0[0] ^= 1;
        assert!(StartInfo::read(&bytes, 0).is_none());
        let mut bytes = message();
        bytes.0[4] = 0;
        assert!(StartInfo::read(&bytes, 0).is_none());
        let mut bytes = message();
        bytes.0[48] = 100;
        assert!(StartInfo::read(&bytes, 0).is_none());
    }
}
