//! Who this program is, and what it was given.

use core::ptr;

use anos_abi::boot::{self, BootInfo, UntypedRun};
use anos_interfaces::start::{self, StartInfo, slot};

use crate::capability::{AddressSpace, CapTable, Capability, Endpoint, Slot, Thread, Untyped};
use crate::memory;

/// The program's own capability table.
pub const CAP_TABLE: Slot = Slot::new(slot::CAP_TABLE);
/// Its own capability table, as such. The root server finds it in the same slot.
pub const OWN_TABLE: CapTable = CapTable::at(CAP_TABLE);
/// Its address space. The root server finds it in the same slot.
pub const OWN_SPACE: AddressSpace = AddressSpace::at(Slot::new(slot::ADDRESS_SPACE));
/// Its first thread. The root server finds it in the same slot.
pub const FIRST_THREAD: Thread = Thread::at(Slot::new(slot::THREAD));

/// The start page, or `None` in the root server.
pub fn start_info() -> Option<&'static StartInfo> {
    page(start::MAGIC)
}

/// The kernel's BootInfo, in the root server; `None` in every other program.
pub fn boot_info() -> Option<&'static BootInfo> {
    page(boot::BOOT_INFO_MAGIC)
}

/// The memory that the kernel gave the root server: each Untyped, and what it holds. Nothing in any other program.
pub fn untyped() -> impl Iterator<Item = (Untyped, UntypedRun)> {
    let runs = boot_info().into_iter().flat_map(|info| info.untyped.iter().take(memory::address(info.untyped_count)));
    (boot::slot::UNTYPED..).zip(runs).map(|(slot, run)| (Untyped::at(Slot::new(slot)), *run))
}

/// The words of the command line that the machine was started with, in the root server; nothing in any other program.
pub fn command_line() -> impl Iterator<Item = &'static str> {
    let line = |info: &'static BootInfo| info.command_line.get(..memory::address(info.command_line_bytes));
    let line = boot_info().and_then(line).unwrap_or_default();
    core::str::from_utf8(line).unwrap_or_default().split_ascii_whitespace()
}

/// The page at the start page's address as a `T`, if it begins with this word.
fn page<T>(magic: u64) -> Option<&'static T> {
    if !cfg!(anos_guest) {
        return None;
    }
    let address = ptr::with_exposed_provenance::<u64>(memory::address(start::ADDRESS));
    // SAFETY: in a guest, the kernel (for the root server) or the root server (for all others) has mapped this page
    // before the first instruction; it is page-aligned and stays.
    let found = unsafe { address.read() };
    if found != magic {
        return None;
    }
    // SAFETY: the first word says that the page holds a `T`, which is of plain integers, so that every content is
    // valid, and smaller than a page; nobody writes to it any more.
    unsafe { address.cast::<T>().as_ref() }
}

/// The name this program was started by.
pub fn name() -> &'static str {
    start_info().map_or("system", |info| info.name.as_str())
}

/// Its process number; 0 in the root server.
pub fn pid() -> u32 {
    start_info().and_then(|info| u32::try_from(info.pid).ok()).unwrap_or(0)
}

/// Its arguments, without the name.
pub fn args() -> impl Iterator<Item = &'static str> {
    start_info().into_iter().flat_map(StartInfo::arguments)
}

/// Cores that run.
pub fn cores() -> u64 {
    start_info().map(|info| info.cores).or(boot_info().map(|info| info.cores)).unwrap_or(1)
}

/// The processor architecture's name.
pub fn architecture() -> &'static str {
    match start_info().map(|info| info.architecture).or(boot_info().map(|info| info.architecture)) {
        Some(1) => "x86-64",
        Some(2) => "RISC-V",
        _ => "unknown",
    }
}

/// The capability of this kind that the manifest gave the program under this name.
pub fn capability<T: Capability>(name: &str) -> Option<T> {
    let (slot, kind) = start_info()?.find(name)?;
    (kind == T::KIND).then(|| T::from_slot(Slot::new(slot)))
}

/// The root server as this program's supervisor; `None` in the root server itself.
pub fn supervisor() -> Option<Endpoint> {
    start_info().map(|_| Endpoint::at(Slot::new(slot::SUPERVISOR)))
}

/// The counter's ticks per second, and what it was when the kernel's clock was 0.
pub(crate) fn counter() -> (u64, u64) {
    start_info()
        .map(|info| (info.counter_frequency, info.counter_start))
        .or(boot_info().map(|info| (info.counter_frequency, info.counter_start)))
        .unwrap_or((0, 0))
}

/// The first free slot, and the first past the table.
pub(crate) fn free_slots() -> (u32, u32) {
    let (first, end) = start_info()
        .map(|info| (info.first_free_slot, info.table_slots))
        .or(boot_info().map(|info| (info.first_free_slot, boot::ROOT_TABLE_SLOTS)))
        .unwrap_or((0, 0));
    (u32::try_from(first).unwrap_or(u32::MAX), u32::try_from(end).unwrap_or(u32::MAX))
}
