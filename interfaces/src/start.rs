//! The page that tells a program who it is, what it holds and where it may grow.
//!
//! The root server fills it, maps it read-only at [`ADDRESS`], and starts the program. The root server itself finds
//! the kernel's BootInfo at the same address; the first word tells which of the two it is.

use anos_abi::Kind;

use crate::text::{NAME_BYTES, Name};

/// Where the page is mapped in every program.
pub const ADDRESS: u64 = anos_abi::boot::BOOT_INFO_ADDRESS;
/// Where programs are linked.
pub const PROGRAM_ADDRESS: u64 = 0x40_0000;
/// Where the heap starts to grow.
pub const HEAP_START: u64 = 0x10_0000_0000;
/// The first address past the heap's range.
pub const HEAP_END: u64 = 0x18_0000_0000;
/// Where the runtime maps device registers and other Frames it was given.
pub const MAPPINGS_START: u64 = 0x20_0000_0000;
/// Where the runtime puts the stacks of further threads.
pub const STACKS_START: u64 = 0x30_0000_0000;
/// The first address above the first thread's stack; an unmapped page lies below the stack.
pub const STACK_TOP: u64 = anos_abi::boot::STACK_TOP;

/// Slots that every program finds filled. The manifest's capabilities follow from [`slot::FIRST_NAMED`].
pub mod slot {
    /// The program's own CapTable.
    pub const CAP_TABLE: u32 = 1;
    /// Its AddressSpace.
    pub const ADDRESS_SPACE: u32 = 2;
    /// Its first Thread.
    pub const THREAD: u32 = 3;
    /// Its memory: for heap, threads, endpoints.
    pub const MEMORY: u32 = 4;
    /// The root server, as this program's supervisor: see [`process`](crate::process). Faults go there, too.
    pub const SUPERVISOR: u32 = 5;
    /// The first capability that the manifest gives.
    pub const FIRST_NAMED: u32 = 16;
}

/// Names that the manifest's capabilities go by, where programs expect them.
pub mod name {
    /// A server's own Endpoint: all rights, no badge.
    pub const SERVICE: &str = "service";
    /// The console server: see [`console`](crate::console).
    pub const CONSOLE: &str = "console";
    /// The serial driver: see [`serial`](crate::serial).
    pub const SERIAL: &str = "serial";
    /// The root server, for programs that manage others: see [`process`](crate::process).
    pub const PROCESSES: &str = "processes";
    /// A device's I/O ports.
    pub const PORTS: &str = "ports";
    /// A device's registers: a Frame.
    pub const REGISTERS: &str = "registers";
    /// A device's interrupt.
    pub const INTERRUPT: &str = "interrupt";
    /// The kernel's console.
    pub const DEBUG: &str = "debug";
    /// SchedControl of a core: this, and the core's number.
    pub const CORE: &str = "core-";

    /// Whether a name means what stands here, whatever the manifest says: no service can have it.
    pub fn is_reserved(name: &str) -> bool {
        let number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        [SERVICE, PROCESSES, PORTS, REGISTERS, INTERRUPT, DEBUG].contains(&name)
            || name.strip_prefix(CORE).is_some_and(number)
    }
}

/// "AnosProg", little-endian: the first word of [`StartInfo`].
pub const MAGIC: u64 = u64::from_le_bytes(*b"AnosProg");
/// The layout's version.
pub const VERSION: u64 = 1;
/// Capabilities with names that fit.
pub const MAX_CAPABILITIES: usize = 32;
/// Bytes of arguments that fit.
pub const MAX_ARGUMENT_BYTES: usize = 1024;

/// A capability by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NamedCapability {
    /// What the manifest calls it.
    pub name: Name,
    /// The slot it lies in.
    pub slot: u32,
    /// Its [`Kind`] as a number.
    pub kind: u32,
}

/// The page. Plain words and bytes: the same layout on both architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u64,
    /// The program's process number.
    pub pid: u64,
    /// 1 for x86-64, 2 for RISC-V, as in BootInfo.
    pub architecture: u64,
    /// Cores that run.
    pub cores: u64,
    /// Ticks per second of the counter that programs read.
    pub counter_frequency: u64,
    /// That counter when the kernel's clock was 0.
    pub counter_start: u64,
    /// Slots in the program's capability table.
    pub table_slots: u64,
    /// The first of them that is free; all behind it are free, too.
    pub first_free_slot: u64,
    /// Where the heap may grow: first address.
    pub heap_start: u64,
    /// First address past it.
    pub heap_end: u64,
    /// The name it was started by.
    pub name: Name,
    /// Bytes of `arguments` in use.
    pub argument_bytes: u64,
    /// Entries of `capabilities` in use.
    pub capability_count: u64,
    /// The manifest's capabilities.
    pub capabilities: [NamedCapability; MAX_CAPABILITIES],
    /// The arguments, each ended by a zero byte.
    pub arguments: [u8; MAX_ARGUMENT_BYTES],
}

const _: () = assert!(size_of::<StartInfo>() <= 4096, "StartInfo fits in a page");
const _: () = assert!(size_of::<NamedCapability>() == NAME_BYTES + 8, "no padding");

impl StartInfo {
    /// A page with nothing in it but what marks it as one.
    pub const EMPTY: StartInfo = StartInfo {
        magic: MAGIC,
        version: VERSION,
        pid: 0,
        architecture: 0,
        cores: 0,
        counter_frequency: 0,
        counter_start: 0,
        table_slots: 0,
        first_free_slot: 0,
        heap_start: HEAP_START,
        heap_end: HEAP_END,
        name: Name([0; NAME_BYTES]),
        argument_bytes: 0,
        capability_count: 0,
        capabilities: [NamedCapability { name: Name([0; NAME_BYTES]), slot: 0, kind: 0 }; MAX_CAPABILITIES],
        arguments: [0; MAX_ARGUMENT_BYTES],
    };

    /// Adds a capability. False if there is no room left.
    pub fn add_capability(&mut self, name: Name, slot: u32, kind: Kind) -> bool {
        let place = usize::try_from(self.capability_count).ok().and_then(|index| self.capabilities.get_mut(index));
        let Some(place) = place else { return false };
        *place = NamedCapability { name, slot, kind: kind as u32 };
        self.capability_count += 1;
        true
    }

    /// The capabilities in use.
    pub fn named(&self) -> &[NamedCapability] {
        let count = usize::try_from(self.capability_count).unwrap_or(MAX_CAPABILITIES);
        self.capabilities.get(..count).unwrap_or(&self.capabilities)
    }

    /// The slot and kind of the capability with this name.
    pub fn find(&self, name: &str) -> Option<(u32, Kind)> {
        let found = self.named().iter().find(|capability| capability.name.as_str() == name)?;
        Some((found.slot, Kind::try_from(u64::from(found.kind)).ok()?))
    }

    /// Puts in the arguments as [`process`](crate::process) delivers them: each ended by a zero byte. False if they
    /// are too long.
    pub fn set_arguments(&mut self, bytes: &[u8]) -> bool {
        let Some(place) = self.arguments.get_mut(..bytes.len()) else { return false };
        place.copy_from_slice(bytes);
        self.argument_bytes = bytes.len() as u64;
        true
    }

    /// The arguments, in order. What is no UTF-8 is left out.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        let length = usize::try_from(self.argument_bytes).unwrap_or(MAX_ARGUMENT_BYTES);
        let bytes = self.arguments.get(..length).unwrap_or(&self.arguments);
        bytes
            .split_inclusive(|&byte| byte == 0)
            .filter_map(|argument| core::str::from_utf8(argument.strip_suffix(&[0]).unwrap_or(argument)).ok())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn capabilities_are_found_by_name() {
        let mut info = StartInfo::EMPTY;
        let console = Name::new(name::CONSOLE).expect("fits");
        assert!(info.add_capability(console, 16, Kind::Endpoint));
        assert_eq!(info.find(name::CONSOLE), Some((16, Kind::Endpoint)));
        assert_eq!(info.find("consol"), None);
        for slot in 17..48 {
            assert!(info.add_capability(Name::default(), slot, Kind::Frame));
        }
        assert!(!info.add_capability(console, 48, Kind::Endpoint));
        assert_eq!(info.named().len(), MAX_CAPABILITIES);
    }

    #[test]
    fn names_that_programs_look_for_are_reserved_but_for_services() {
        for reserved in [name::SERVICE, name::DEBUG, name::PORTS, "core-0", "core-63"] {
            assert!(name::is_reserved(reserved), "{reserved}");
        }
        for free in [name::CONSOLE, name::SERIAL, "core", "core-", "core-dump", "debugger"] {
            assert!(!name::is_reserved(free), "{free}");
        }
    }

    #[test]
    fn arguments_come_back_in_order_also_empty_ones() {
        let mut info = StartInfo::EMPTY;
        assert_eq!(info.arguments().count(), 0);
        assert!(info.set_arguments(b"one\0\0three\0"));
        assert_eq!(info.arguments().collect::<Vec<_>>(), ["one", "", "three"]);
        assert!(!info.set_arguments(&[b'x'; MAX_ARGUMENT_BYTES + 1]));
        assert_eq!(info.arguments().count(), 3, "a refusal changes nothing");
    }

    #[test]
    fn counts_that_lie_are_cut_to_what_fits() {
        let mut info = StartInfo::EMPTY;
        info.capability_count = u64::MAX;
        info.argument_bytes = u64::MAX;
        assert_eq!(info.named().len(), MAX_CAPABILITIES);
        assert_eq!(info.arguments().count(), MAX_ARGUMENT_BYTES);
    }
}
