//! From a machine that has just come up to the root server's first instruction.
//!
//! [`start`] checks the payload, takes a few pages of free memory for the root server's objects, maps the payload in
//! place, and fills the root server's table with every capability there is. It runs once, alone, before any other
//! core; its loops are as long as the payload and the table are big.

use anos_abi::boot::{
    ARCHIVE_ADDRESS, BOOT_INFO_ADDRESS, BOOT_INFO_MAGIC, COMMAND_LINE_WORD, DEVICETREE_ADDRESS, MAX_COMMAND_LINE,
    MAX_SEGMENTS, MAX_UNTYPED, ROOT_TABLE_SLOTS, STACK_SIZE, STACK_TOP, UNTYPED_WORD, slot,
};
use anos_abi::syscall::FOREVER;
use anos_abi::{Kind, PAGE_SIZE, Rights};
use anos_machine::{AddressSpace, CoreId, CoreSet, Entry, Machine, Mapping, Ref, Slot, SlotRef, Stop, Thread};

use crate::bounds::MAX_INTERRUPTS;
use crate::call::Answer;
use crate::thread::Part;
use crate::{Kernel, Outcome, Visit};

mod payload;
pub mod runs;

use payload::Payload;

/// A run of physical memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Physical address, page-aligned.
    pub address: u64,
    /// Bytes, a multiple of the page size.
    pub bytes: u64,
}

impl Run {
    /// The first address past it.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes)
    }
}

/// What a port finds out while it boots.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// As in BootInfo: 1 for x86-64, 2 for RISC-V, 3 for the simulated machine.
    pub architecture: u64,
    /// Ticks per second of the counter that user programs read.
    pub counter_frequency: u64,
    /// That counter when the kernel's clock was 0.
    pub counter_start: u64,
    /// Bytes of main memory.
    pub ram_bytes: u64,
    /// Free main memory: neither kernel, page records, payload, devicetree nor firmware. Every page has a record.
    pub free: &'a [Run],
    /// Physical address ranges of devices that programs may own: no memory, none of the kernel's own devices.
    pub devices: &'a [Run],
    /// Physical address of the payload.
    pub payload: u64,
    /// The payload's words: at least its first page, at most up to the end of memory.
    pub payload_words: &'a [u64],
    /// The devicetree, or an empty run.
    pub devicetree: Run,
    /// Physical address of the ACPI root pointer, or 0.
    pub acpi_rsdp: u64,
    /// The command line.
    pub command_line: &'a [u8],
    /// Whether the machine has I/O ports.
    pub io_ports: bool,
}

/// Why the machine can't boot; to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// No payload where one should be.
    NoPayload,
    /// The payload has another layout version.
    PayloadVersion,
    /// The payload's size is no number of whole pages.
    PayloadSize,
    /// The payload ends early.
    TruncatedPayload,
    /// No segments, or too many.
    SegmentCount,
    /// A segment isn't made of whole pages.
    SegmentAlignment,
    /// A segment lies outside the payload, or shares pages of it with another one.
    SegmentPlace,
    /// A segment's rights are none, or allow writing and executing.
    SegmentRights,
    /// A segment lies where the kernel maps something, outside user space, or over another one.
    SegmentAddress,
    /// The entry point isn't in an executable segment.
    PayloadEntry,
    /// The archive lies outside the payload, or shares pages with a segment.
    PayloadArchive,
    /// The devicetree isn't whole pages, or is too large.
    Devicetree,
    /// The machine has too little memory.
    TooLittleMemory,
    /// Memory and devices lie in more runs than BootInfo can list.
    TooManyRuns,
}

impl BootError {
    /// One line for people.
    pub const fn text(self) -> &'static str {
        match self {
            BootError::NoPayload => "no payload: boot the whole image, not the bare kernel",
            BootError::PayloadVersion => "the payload is for another kernel version",
            BootError::PayloadSize => "the payload is damaged: its size is no number of pages",
            BootError::TruncatedPayload => "the payload is truncated: not all of the image was loaded",
            BootError::SegmentCount => "the root server has no segments, or too many",
            BootError::SegmentAlignment => "a segment of the root server is not whole pages",
            BootError::SegmentPlace => "a segment of the root server is outside the payload or over another",
            BootError::SegmentRights => "a segment of the root server has no rights, or to write and execute",
            BootError::SegmentAddress => "a segment of the root server is at a wrong address",
            BootError::PayloadEntry => "the root server's entry is in no executable segment",
            BootError::PayloadArchive => "the boot archive is outside the payload or over a segment",
            BootError::Devicetree => "the devicetree is misplaced or too large",
            BootError::TooLittleMemory => "too little memory to boot",
            BootError::TooManyRuns => "more runs of memory and devices than BootInfo can list",
        }
    }
}

/// Builds the root server: its table, address space, thread and all capabilities. The boot core then enters the
/// kernel with [`Event::Start`](anos_machine::Event::Start), which runs it; the other cores enter likewise.
///
/// Not inlined: the kernel is smaller so.
#[inline(never)]
pub fn start<M: Machine>(kernel: &Kernel, machine: &mut M, found: &Found<'_>) -> Result<(), BootError> {
    let payload = payload::check(found.payload_words)?;
    check_devicetree(&found.devicetree)?;
    let chosen = choose(found, &payload, machine.levels())?;
    let held = kernel.hold(CoreId::BOOT, CoreSet::ALL, || machine.relax());
    let visit = Visit { held, machine, kernel, me: CoreId::BOOT, short: false, answer: Answer::none(), woken: 0 };
    let (next, end) = (chosen.address, chosen.address + chosen.bytes);
    let mut builder = Builder { visit, found, payload, base: next, next, end, untyped: 0 };
    match builder.build() {
        // All locks are held, so this is a page without a record: less memory than was said.
        Err(_) => Err(BootError::TooLittleMemory),
        Ok(()) if builder.untyped as usize > MAX_UNTYPED => Err(BootError::TooManyRuns),
        Ok(()) => Ok(()),
    }
}

fn check_devicetree(devicetree: &Run) -> Result<(), BootError> {
    let whole = (devicetree.address | devicetree.bytes).is_multiple_of(PAGE_SIZE);
    let room = STACK_TOP - STACK_SIZE - PAGE_SIZE - DEVICETREE_ADDRESS;
    if whole && devicetree.bytes <= room { Ok(()) } else { Err(BootError::Devicetree) }
}

/// Pages of the root server's capability table.
const TABLE_PAGES: u64 = ROOT_TABLE_SLOTS * size_of::<Slot>() as u64 / PAGE_SIZE;
/// Pages of the kernel's own table of interrupts.
const INTERRUPT_PAGES: u64 = (MAX_INTERRUPTS * size_of::<Slot>()) as u64 / PAGE_SIZE;
/// Pages of its stack.
const STACK_PAGES: u64 = STACK_SIZE / PAGE_SIZE;

/// The root server's objects, one behind the other from the start of the chosen run: pages and kind of each.
/// BootInfo's page is one of words until it is written.
const OBJECTS: [(u64, Kind); 7] = [
    (INTERRUPT_PAGES, Kind::CapTable),
    (TABLE_PAGES, Kind::CapTable),
    (1, Kind::AddressSpace),
    (1, Kind::Thread),
    (1, Kind::SchedContext),
    (1, Kind::PageTable),
    (STACK_PAGES, Kind::Frame),
];
// Where each lies, in bytes from that start.
const TABLE: u64 = INTERRUPT_PAGES * PAGE_SIZE;
const SPACE: u64 = TABLE + TABLE_PAGES * PAGE_SIZE;
const THREAD: u64 = SPACE + PAGE_SIZE;
const CONTEXT: u64 = THREAD + PAGE_SIZE;
const INFO: u64 = CONTEXT + PAGE_SIZE;
const STACK: u64 = INFO + PAGE_SIZE;

/// The first free run with room for all that the root server needs.
fn choose(found: &Found<'_>, payload: &Payload<'_>, levels: u8) -> Result<Run, BootError> {
    /// What is mapped: segments, archive, devicetree, BootInfo, stack.
    const RANGES: u64 = MAX_SEGMENTS as u64 + 4;
    // A range of n pages needs at most n / 512 + 2 last tables, and two tables in each level above (a range is
    // shorter than what one of those covers); every level but the root's. Segments and archive are parts of the payload.
    let tables = (payload.bytes + found.devicetree.bytes + STACK_SIZE + PAGE_SIZE) / (PAGE_SIZE << 9);
    let needed = STACK + STACK_SIZE + PAGE_SIZE * (tables + RANGES * 2 * (u64::from(levels) - 1));
    let large = found.free.iter().find(|run| run.bytes >= needed);
    large.copied().ok_or(BootError::TooLittleMemory)
}

struct Builder<'a, M> {
    visit: Visit<'a, M>,
    found: &'a Found<'a>,
    payload: Payload<'a>,
    /// The start of the chosen run.
    base: u64,
    /// Its next free page.
    next: u64,
    /// Its end.
    end: u64,
    /// How many Untypeds there are, also if BootInfo can't list so many.
    untyped: u32,
}

impl<M: Machine> Builder<'_, M> {
    /// Not inlined: from another register, its fields are nearer.
    #[inline(never)]
    fn build(&mut self) -> Outcome {
        self.objects()?;
        self.map_all()?;
        self.control_capabilities()?;
        self.run()?;
        // The last of it: what is left of free memory is known now.
        self.untyped_capabilities()
    }

    /// Takes clear pages for objects of one kind.
    fn take(&mut self, pages: u64, kind: Kind) -> Outcome<u64> {
        let address = self.next;
        self.next += pages * PAGE_SIZE;
        let mut page = address;
        // bound: BOOT
        while page < self.next {
            // What lies behind the run is another's.
            if page >= self.end {
                return Err(Stop::STALE);
            }
            self.visit.held.store.clear_page(page, kind, CoreId::BOOT)?;
            page += PAGE_SIZE;
        }
        Ok(address)
    }

    fn objects(&mut self) -> Outcome {
        // bound: BOOT
        for &(pages, kind) in &OBJECTS {
            self.take(pages, kind)?;
        }
        let space = self.base + SPACE;
        self.visit.held.store.record(space)?.set_space(1);
        self.visit.machine.fill_root(self.visit.held.store.get::<AddressSpace>(Ref::at(space))?);
        let global = self.visit.held.global()?;
        global.last_space = 1;
        global.interrupt_table = self.base;
        Ok(())
    }

    fn map_all(&mut self) -> Outcome {
        let (read, read_write) = (Rights::READ, Rights::READ.union(Rights::WRITE));
        let Found { payload, devicetree, .. } = *self.found;
        // bound: BOOT
        for &[address, bytes, offset, rights] in self.payload.segments {
            self.map(address, payload + offset, bytes, Rights(rights.to_le_bytes()[0]))?;
        }
        self.map(ARCHIVE_ADDRESS, payload + self.payload.archive_offset, self.payload.archive_bytes, read)?;
        self.map(DEVICETREE_ADDRESS, devicetree.address, devicetree.bytes, read)?;
        self.map(BOOT_INFO_ADDRESS, self.base + INFO, PAGE_SIZE, read)?;
        // Below the stack nothing is mapped: an overflow faults.
        self.map(STACK_TOP - STACK_SIZE, self.base + STACK, STACK_SIZE, read_write)
    }

    fn map(&mut self, address: u64, physical: u64, bytes: u64, rights: Rights) -> Outcome {
        let mut offset = 0;
        // bound: BOOT
        while offset < bytes {
            let table = self.last_table(address + offset)?;
            let page = physical + offset;
            // Page by page, so that nothing later takes the payload's memory for something else. A devicetree may lie
            // outside of memory: then it has no record.
            if let Ok(record) = self.visit.held.store.record(page)
                && record.kind() == Kind::Empty as u8
            {
                self.visit.held.store.set_kind(page, Kind::Frame)?;
            }
            let leaf = self.visit.machine.leaf(Mapping { address: page, rights, uncached: false, level: 1 });
            self.put(table, position(address + offset, 1), leaf)?;
            offset += PAGE_SIZE;
        }
        Ok(())
    }

    /// The last-level table for an address; makes the tables that are missing. There are no leaves above: everything is
    /// mapped page by page.
    fn last_table(&mut self, address: u64) -> Outcome<u64> {
        let mut table = self.base + SPACE;
        let mut level = self.visit.machine.levels();
        // bound: BOOT
        while level > 1 {
            let place = position(address, level);
            let entry = self.words(table)?.get(place).copied().unwrap_or(0);
            table = if let Entry::Table(next) = self.visit.machine.entry(entry, level) {
                next
            } else {
                let next = self.take(1, Kind::PageTable)?;
                self.put(table, place, self.visit.machine.table(next))?;
                next
            };
            level -= 1;
        }
        Ok(table)
    }

    /// A page of words: a table, or BootInfo.
    fn words(&mut self, page: u64) -> Outcome<&mut [u64; 512]> {
        self.visit.held.store.get::<AddressSpace>(Ref::at(page))
    }

    fn put(&mut self, page: u64, position: usize, word: u64) -> Outcome {
        if let Some(place) = self.words(page)?.get_mut(position) {
            *place = word;
        }
        Ok(())
    }

    fn set_slot(&mut self, slot: u32, kind: Kind, object: u64, extent: u64) -> Outcome<&mut Slot> {
        let place = self.visit.held.store.get::<Slot>(at(self.base + TABLE, slot))?;
        *place = Slot { kind: kind as u8, rights: Rights::ALL.0, object, extent, ..Slot::default() };
        Ok(place)
    }

    fn control_capabilities(&mut self) -> Outcome {
        self.set_slot(slot::INTERRUPT_CONTROL, Kind::InterruptControl, 0, 0)?;
        if self.found.io_ports {
            self.set_slot(slot::IO_PORT_CONTROL, Kind::IoPortControl, 0, 0)?;
        }
        self.set_slot(slot::DEBUG, Kind::Debug, 0, 0)?;
        // bound: BOOT
        for (slot, core) in (slot::SCHED_CONTROL..slot::UNTYPED).zip(0..self.visit.machine.cores()) {
            self.set_slot(slot, Kind::SchedControl, core, 0)?;
        }
        Ok(())
    }

    /// Hands all memory that is left, and every device, to the root server, and says so in BootInfo.
    fn untyped_capabilities(&mut self) -> Outcome {
        let mut taken = self.found.ram_bytes.saturating_sub(self.payload.bytes);
        // bound: BOOT
        for run in self.found.free {
            taken = taken.saturating_sub(run.bytes);
            let start = if run.address == self.base { self.next } else { run.address };
            self.untyped(start, run.address + run.bytes - start, 0)?;
        }
        // bound: BOOT
        for run in self.found.devices {
            self.untyped(run.address, run.bytes, 1)?;
        }
        self.write_info(taken + INTERRUPT_PAGES * PAGE_SIZE)
    }

    fn untyped(&mut self, address: u64, bytes: u64, device: u8) -> Outcome {
        let (pages, number) = (bytes / PAGE_SIZE, self.untyped);
        if pages == 0 {
            return Ok(());
        }
        self.untyped += 1;
        if number as usize >= MAX_UNTYPED {
            return Ok(());
        }
        self.set_slot(slot::UNTYPED + number, Kind::Untyped, address, pages)?.device = device;
        let first = UNTYPED_WORD + 3 * number as usize;
        if let Some(words) = self.words(self.base + INFO)?.get_mut(first..).and_then(<[u64]>::first_chunk_mut) {
            *words = [address, pages, device.into()];
        }
        Ok(())
    }

    /// Completes BootInfo, word by word in the order of its fields; then its page is a Frame's.
    fn write_info(&mut self, kernel_bytes: u64) -> Outcome {
        let (found, payload, page) = (self.found, &self.payload, self.base + INFO);
        let count = u64::from(self.untyped);
        let words = self.visit.held.store.get::<AddressSpace>(Ref::at(page))?;
        if let Some(first) = words.first_chunk_mut::<UNTYPED_WORD>() {
            *first = [
                BOOT_INFO_MAGIC,
                found.architecture,
                self.visit.machine.cores(),
                found.counter_frequency,
                found.counter_start,
                found.ram_bytes,
                kernel_bytes,
                self.visit.machine.levels().into(),
                u64::from(slot::UNTYPED) + count,
                ARCHIVE_ADDRESS,
                payload.archive_bytes,
                if found.devicetree.bytes == 0 { 0 } else { DEVICETREE_ADDRESS },
                found.devicetree.bytes,
                found.acpi_rsdp,
                count,
            ];
        }
        let mut bytes = 0;
        if let Some([length, line @ ..]) = words.get_mut(COMMAND_LINE_WORD..) {
            // bound: BOOT
            for &byte in found.command_line.iter().take(MAX_COMMAND_LINE) {
                if let Some(word) = line.get_mut(bytes / 8) {
                    *word |= u64::from(byte) << (bytes % 8 * 8);
                }
                bytes += 1;
            }
            *length = bytes as u64;
        }
        self.visit.held.store.set_kind(page, Kind::Frame)?;
        Ok(())
    }

    /// The root server's own capabilities, and its thread, ready to run.
    fn run(&mut self) -> Outcome {
        let (table, thread) = (self.base + TABLE, Ref::<Thread>::at(self.base + THREAD));
        self.set_slot(slot::CAP_TABLE, Kind::CapTable, table, ROOT_TABLE_SLOTS)?;
        self.set_slot(slot::ADDRESS_SPACE, Kind::AddressSpace, self.base + SPACE, 0)?;
        self.set_slot(slot::THREAD, Kind::Thread, thread.address(), 0)?;
        self.set_slot(slot::SCHED_CONTEXT, Kind::SchedContext, self.base + CONTEXT, 0)?;
        // bound: BOOT
        for (slot, part) in
            [(slot::CAP_TABLE, Part::Table), (slot::ADDRESS_SPACE, Part::Space), (slot::SCHED_CONTEXT, Part::Context)]
        {
            let source = self.visit.slot(at(table, slot))?.copy();
            self.visit.derive(at(table, slot), part.of(thread), &source)?;
        }
        let record = self.visit.held.store.get(thread)?;
        record.registers.pc = self.payload.entry;
        record.registers.sp = STACK_TOP;
        record.priority = u8::MAX;
        record.own_priority = u8::MAX;
        record.ceiling = u8::MAX;
        record.deadline = FOREVER;
        self.visit.held.global()?.root_thread = thread;
        self.visit.bind(thread, Ref::at(self.base + CONTEXT))?;
        self.visit.make_ready(thread)
    }
}

/// The slot with this number of the table at this physical address.
fn at(table: u64, slot: u32) -> SlotRef {
    Ref::at(table + u64::from(slot) * size_of::<Slot>() as u64)
}

/// The position of an address in its table of this level.
fn position(address: u64, level: u8) -> usize {
    let position = address >> (12 + 9 * (u32::from(level) - 1)) & 511;
    usize::try_from(position).unwrap_or(0)
}
