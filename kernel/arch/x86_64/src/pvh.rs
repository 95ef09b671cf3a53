//! What a PVH loader passes: `hvm_start_info` (Xen's `public/arch-x86/hvm/start_info.h`, version 1 and up).
//!
use anos_core::boot::Run;
use anos_core::boot::runs::RunList;

/// Reads physical memory. `None` for what can't be read.
pub trait Reader {
    /// The bytes at a physical address.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// The little-endian number of 64 bits at an offset; 0 if the bytes end before. Inlined, since where the length is known
/// that is one instruction.
#[inline(always)]
pub fn word64(bytes: &[u8], offset: usize) -> u64 {
    chunk(bytes, offset).map_or(0, u64::from_le_bytes)
}

/// Of 32 bits: see [`word64`].
#[inline(always)]
pub fn word32(bytes: &[u8], offset: usize) -> u32 {
    chunk(bytes, offset).map_or(0, u32::from_le_bytes)
}

#[inline(always)]
fn chunk<const BYTES: usize>(bytes: &[u8], offset: usize) -> Option<[u8; BYTES]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Entries of the memory map that are looked at.
const MAX_ENTRIES: usize = 128;
const MAGIC: u32 = 0x336e_c578;
/// Bytes of the message that are of use.
const BYTES: usize = 56;
const ENTRY_BYTES: usize = 24;
const TYPE_RAM: u32 = 1;
/// Where devices end that the firmware has placed; above all memory there is room for more.
pub const DEVICES_END: u64 = 1 << 32;

/// The loader's message.
#[derive(Clone, Copy, Debug)]
pub struct StartInfo {
    /// Main memory. A firmware lists a dozen runs at most; what there is no room for stays unused.
    pub ram: RunList,
    /// What lies below [`DEVICES_END`] and is no main memory, not even in part.
    pub devices: RunList,
    /// Physical address of the ACPI root pointer, or 0.
    pub rsdp: u64,
    /// Physical address of the command line, or 0.
    pub command_line: u64,
}

impl StartInfo {
    /// One that says nothing. (Filled by [`StartInfo::read`] where it lies: it is large.)
    pub const EMPTY: StartInfo = StartInfo { ram: RunList::EMPTY, devices: RunList::EMPTY, rsdp: 0, command_line: 0 };

    /// Reads it at `address`; `None` if it isn't one, or has no memory map.
    pub fn read(&mut self, reader: &impl Reader, address: u64) -> Option<()> {
        let info = reader.bytes(address, BYTES)?.first_chunk::<BYTES>()?;
        if word32(info, 0) != MAGIC || word32(info, 4) == 0 {
            return None;
        }
        let entries = (word32(info, 48) as usize).min(MAX_ENTRIES);
        let map = reader.bytes(word64(info, 40), entries * ENTRY_BYTES)?;
        let StartInfo { ram, devices, .. } = self;
        let _ = devices.add(Run { address: 0, bytes: DEVICES_END });
        // Main memory first: what other entries say of the same addresses counts more.
        for wanted in [true, false] {
            for entry in map.as_chunks::<ENTRY_BYTES>().0 {
                let run = Run { address: word64(entry, 0), bytes: word64(entry, 8) };
                if (word32(entry, 16) == TYPE_RAM) != wanted {
                    continue;
                }
                if wanted {
                    let _ = (ram.add(run), devices.subtract(run));
                } else {
                    let _ = ram.subtract(run);
                }
            }
        }
        self.rsdp = word64(info, 32);
        self.command_line = word64(info, 24);
        Some(())
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

    fn read(bytes: &Bytes, address: u64) -> Option<StartInfo> {
        let mut info = StartInfo::EMPTY;
        info.read(bytes, address).map(|()| info)
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
        let info = read(&message(), 0).unwrap();
        assert_eq!(info.ram.as_slice(), [Run { address: 0, bytes: 0x9_f000 }], "whole pages");
        let devices = [Run { address: 0xa_0000, bytes: DEVICES_END - 0xa_0000 }];
        assert_eq!(info.devices.as_slice(), devices, "no page that is memory in part");
        assert_eq!((info.command_line, info.rsdp), (7, 9));
    }

    #[test]
    fn main_memory_that_another_entry_claims_is_none() {
        let mut bytes = message();
        bytes.0[88..96].copy_from_slice(&0x2000_u64.to_le_bytes());
        bytes.0[96..104].copy_from_slice(&0x1000_u64.to_le_bytes());
        let info = read(&bytes, 0).unwrap();
        let after = Run { address: 0x3000, bytes: 0x9_f000 - 0x3000 };
        assert_eq!(info.ram.as_slice(), [Run { address: 0, bytes: 0x2000 }, after]);
    }

    #[test]
    fn a_map_that_wraps_around_is_refused() {
        let mut bytes = message();
        bytes.0[40..48].copy_from_slice(&(u64::MAX - 10).to_le_bytes());
        assert!(read(&bytes, 0).is_none());
    }

    #[test]
    fn bad_magic_old_version_and_truncated_map_are_refused() {
        let mut bytes = message();
        bytes.0[0] ^= 1;
        assert!(read(&bytes, 0).is_none());
        let mut bytes = message();
        bytes.0[4] = 0;
        assert!(read(&bytes, 0).is_none());
        let mut bytes = message();
        bytes.0[48] = 100;
        assert!(read(&bytes, 0).is_none());
    }
}
