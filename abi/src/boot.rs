//! What the build hands to the kernel (the payload), and the kernel to the root server (BootInfo and its first
//! capabilities).

/// Slots of the root server's capability table that the kernel fills.
pub mod slot {
    /// The root server's own CapTable.
    pub const CAP_TABLE: u32 = 1;
    /// Its AddressSpace.
    pub const ADDRESS_SPACE: u32 = 2;
    /// Its first Thread.
    pub const THREAD: u32 = 3;
    /// InterruptControl.
    pub const INTERRUPT_CONTROL: u32 = 4;
    /// IoPortControl (x86-64; empty elsewhere).
    pub const IO_PORT_CONTROL: u32 = 5;
    /// Debug.
    pub const DEBUG: u32 = 6;
    /// SchedControl of core 0; the other cores' follow.
    pub const SCHED_CONTROL: u32 = 64;
    /// The first Untyped; the others follow, in the order of [`BootInfo::untyped`](super::BootInfo::untyped).
    pub const UNTYPED: u32 = 128;
}

/// Slots in the root server's capability table.
pub const ROOT_TABLE_SLOTS: u64 = 4096;
/// Where BootInfo is mapped, read-only, in the root server.
pub const BOOT_INFO_ADDRESS: u64 = 0x3e_0000_0000;
/// Where the boot archive is mapped, read-only, in the root server.
pub const ARCHIVE_ADDRESS: u64 = 0x3e_4000_0000;
/// Where the devicetree is mapped, read-only, in the root server.
pub const DEVICETREE_ADDRESS: u64 = 0x3e_8000_0000;
/// The first address above the root server's stack; below the stack lies an unmapped page.
pub const STACK_TOP: u64 = 0x3f_0000_0000;
/// Bytes of the root server's stack.
pub const STACK_SIZE: u64 = 128 * 1024;

/// "AnosBoot", little-endian: the first word of [`BootInfo`].
pub const BOOT_INFO_MAGIC: u64 = u64::from_le_bytes(*b"AnosBoot");
/// Untyped capabilities that fit into BootInfo.
pub const MAX_UNTYPED: usize = 64;
/// Bytes of command line that fit into BootInfo.
pub const MAX_COMMAND_LINE: usize = 512;

/// One run of physical memory that the root server holds as Untyped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UntypedRun {
    /// Physical address, page-aligned.
    pub address: u64,
    /// Pages.
    pub pages: u64,
    /// 1 if device memory, else 0.
    pub device: u64,
}

/// What the kernel tells the root server. Plain words: the same layout on both architectures; fits in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BootInfo {
    /// [`BOOT_INFO_MAGIC`].
    pub magic: u64,
    /// 1 for x86-64, 2 for RISC-V, 3 for the simulated machine.
    pub architecture: u64,
    /// Cores that run.
    pub cores: u64,
    /// Ticks per second of the counter that user programs read (TSC, `time`).
    pub counter_frequency: u64,
    /// That counter when the kernel's clock was 0.
    pub counter_start: u64,
    /// Bytes of main memory.
    pub ram_bytes: u64,
    /// Bytes of it that the kernel keeps: image, stacks, page records.
    pub kernel_bytes: u64,
    /// Levels of page tables (3 for Sv39, 4 for Sv48 and x86-64, 5 for Sv57).
    pub paging_levels: u64,
    /// First slot of the root server's table that is free.
    pub first_free_slot: u64,
    /// Virtual address and bytes of the boot archive.
    pub archive_address: u64,
    /// Bytes of the boot archive.
    pub archive_bytes: u64,
    /// Virtual address of the devicetree, or 0.
    pub devicetree_address: u64,
    /// Bytes of the devicetree.
    pub devicetree_bytes: u64,
    /// Physical address of the ACPI root pointer (RSDP), or 0.
    pub acpi_rsdp: u64,
    /// Entries of `untyped` in use.
    pub untyped_count: u64,
    /// The Untypeds, in slots [`slot::UNTYPED`] and up.
    pub untyped: [UntypedRun; MAX_UNTYPED],
    /// Bytes of `command_line` in use.
    pub command_line_bytes: u64,
    /// The kernel's command line, UTF-8.
    pub command_line: [u8; MAX_COMMAND_LINE],
}

const _: () = assert!(size_of::<BootInfo>() <= 4096, "BootInfo fits in a page");

/// Where the Untypeds start in a [`BootInfo`], in words.
pub const UNTYPED_WORD: usize = core::mem::offset_of!(BootInfo, untyped) / 8;
/// Where the command line's length stands, in words; the line follows.
pub const COMMAND_LINE_WORD: usize = core::mem::offset_of!(BootInfo, command_line_bytes) / 8;
/// Words of a [`BootInfo`].
const BOOT_INFO_WORDS: usize = size_of::<BootInfo>() / 8;

impl BootInfo {
    /// Reads it from a page of words.
    pub fn from_words(page: &[u64; 512]) -> Self {
        let mut words = page.iter().copied();
        let mut next = || words.next().unwrap_or(0);
        let [magic, architecture, cores, counter_frequency, counter_start] = core::array::from_fn(|_| next());
        let [ram_bytes, kernel_bytes, paging_levels, first_free_slot] = core::array::from_fn(|_| next());
        let [archive_address, archive_bytes, devicetree_address, devicetree_bytes] = core::array::from_fn(|_| next());
        let [acpi_rsdp, untyped_count] = core::array::from_fn(|_| next());
        let untyped = core::array::from_fn(|_| UntypedRun { address: next(), pages: next(), device: next() });
        let command_line_bytes = next();
        let mut command_line = [0; MAX_COMMAND_LINE];
        for chunk in command_line.as_chunks_mut::<8>().0 {
            *chunk = next().to_le_bytes();
        }
        BootInfo {
            magic,
            architecture,
            cores,
            counter_frequency,
            counter_start,
            ram_bytes,
            kernel_bytes,
            paging_levels,
            first_free_slot,
            archive_address,
            archive_bytes,
            devicetree_address,
            devicetree_bytes,
            acpi_rsdp,
            untyped_count,
            untyped,
            command_line_bytes,
            command_line,
        }
    }
}

const _: () = assert!(UNTYPED_WORD == 15 && COMMAND_LINE_WORD == UNTYPED_WORD + 3 * MAX_UNTYPED);
const _: () = assert!(BOOT_INFO_WORDS == COMMAND_LINE_WORD + 1 + MAX_COMMAND_LINE / 8);

/// "AnosLoad", little-endian: the first word of a payload.
pub const PAYLOAD_MAGIC: u64 = u64::from_le_bytes(*b"AnosLoad");
/// "AnosEnds", little-endian: the last word of a payload, so that a truncated one is told.
pub const PAYLOAD_END: u64 = u64::from_le_bytes(*b"AnosEnds");
/// The payload's layout version.
pub const PAYLOAD_VERSION: u64 = 1;
/// Segments a root server can have.
pub const MAX_SEGMENTS: usize = 6;
/// The payload starts at the first multiple of this past the kernel's image, bss included, in physical memory.
pub const PAYLOAD_ALIGN: u64 = 2 * 1024 * 1024;

/// One loadable segment of the root server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Virtual address, page-aligned.
    pub address: u64,
    /// Bytes in memory, a multiple of the page size. All of them lie in the payload (bss as zeros).
    pub bytes: u64,
    /// Offset from the start of the payload, page-aligned.
    pub offset: u64,
    /// Rights, as [`Rights`](crate::Rights).
    pub rights: u64,
}

/// The payload's first page. The build makes it: the kernel parses no ELF. The archive behind it is for the root
/// server alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PayloadHeader {
    /// [`PAYLOAD_MAGIC`].
    pub magic: u64,
    /// [`PAYLOAD_VERSION`].
    pub version: u64,
    /// Bytes of the whole payload, a multiple of the page size. Its last 8 bytes are [`PAYLOAD_END`].
    pub bytes: u64,
    /// The root server's entry point.
    pub entry: u64,
    /// Segments in use.
    pub segment_count: u64,
    /// The root server's segments.
    pub segments: [Segment; MAX_SEGMENTS],
    /// Offset of the archive (a tar file), page-aligned.
    pub archive_offset: u64,
    /// Bytes of the archive.
    pub archive_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_info_is_read_word_by_word() {
        let words: [u64; 512] = core::array::from_fn(|word| if word < BOOT_INFO_WORDS { word as u64 + 1 } else { 0 });
        let info = BootInfo::from_words(&words);
        assert_eq!((info.magic, info.untyped_count), (1, 15));
        assert_eq!(info.untyped[1], UntypedRun { address: 19, pages: 20, device: 21 });
        assert_eq!(info.command_line_bytes, 15 + 3 * MAX_UNTYPED as u64 + 1);
        assert_eq!(info.command_line[..8], words[COMMAND_LINE_WORD + 1].to_le_bytes());
    }
}
