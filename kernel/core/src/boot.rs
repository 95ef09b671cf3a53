//! From a machine that has just come up to the root server's first instruction.
//!
//! [`start`] checks the payload, takes a few pages of free memory for the root server's objects, maps the payload in
//! place, and fills the root server's table with every capability there is. It runs once, alone, before any other
//! core; its loops are as long as the payload and the table are big.

use anos_abi::boot::{
    ARCHIVE_ADDRESS, BOOT_INFO_ADDRESS, BOOT_INFO_MAGIC, BootInfo, DEVICETREE_ADDRESS, MAX_UNTYPED, PayloadHeader,
    ROOT_TABLE_SLOTS, STACK_SIZE, STACK_TOP, UntypedRun, slot,
};
use anos_abi::syscall::FOREVER;
use anos_abi::{Kind, PAGE_SIZE, Rights};
use anos_machine::{AddressSpace, CoreId, CoreSet, Entry, Machine, Mapping, Ref, Slot, SlotRef, Stop, Thread};

use crate::bounds::MAX_INTERRUPTS;
use crate::call::Answer;
use crate::thread::Part;
use crate::{Kernel, Visit};

mod payload;

/// A run of physical memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Physical address, page-aligned.
    pub address: u64,
    /// Bytes, a multiple of the page size.
    pub bytes: u64,
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
    /// The payload's bytes: at least its first page, at most up to the end of memory.
    pub payload_bytes: &'a [u8],
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
            BootError::NoPayload => "no payload behind the kernel: boot the whole image, not the bare kernel",
            BootError::PayloadVersion => "the payload was built for another kernel version",
            BootError::PayloadSize => "the payload's header is damaged: its size is no number of pages",
            BootError::TruncatedPayload => "the payload is truncated: the image was not loaded completely",
            BootError::SegmentCount => "the root server has no segments, or too many",
            BootError::SegmentAlignment => "a segment of the root server is not made of whole pages",
            BootError::SegmentPlace => "a segment of the root server lies outside the payload or over another one",
            BootError::SegmentRights => "a segment of the root server is writable and executable, or nothing at all",
            BootError::SegmentAddress => "a segment of the root server lies at an address it can't have",
            BootError::PayloadEntry => "the root server's entry point is not in an executable segment",
            BootError::PayloadArchive => "the boot archive lies outside the payload or over the root server",
            BootError::Devicetree => "the devicetree is misplaced or too large",
            BootError::TooLittleMemory => "too little memory to boot",
            BootError::TooManyRuns => "memory and devices lie in more separate places than BootInfo can list",
        }
    }
}

impl From<Stop> for BootError {
    fn from(_: Stop) -> Self {
        // All locks are held, so this is a page without a record: less memory than was said.
        BootError::TooLittleMemory
    }
}

/// Builds the root server: its table, address space, thread and all capabilities. The boot core then enters the
/// kernel with [`Event::Start`](anos_machine::Event::Start), which runs it; the other cores enter likewise.
pub fn start<M: Machine>(kernel: &Kernel, machine: &mut M, found: &Found<'_>) -> Result<(), BootError> {
    let header = payload::check(found.payload_bytes)?;
    check_devicetree(&found.devicetree)?;
    let chosen = choose(found, &header, machine.levels())?;
    let held = kernel.hold(CoreId::BOOT, CoreSet::ALL, || machine.relax());
    let visit = Visit { held, machine, kernel, me: CoreId::BOOT, answer: Answer::NONE };
    let mut builder = Builder { visit, found, next: chosen.address, end: chosen.address + chosen.bytes };
    let objects = builder.objects()?;
    builder.map_all(&objects, &header)?;
    builder.control_capabilities(objects.table)?;
    // The last of it: what is left of free memory is known now.
    let info = builder.untyped_capabilities(&objects, &chosen, &header)?;
    builder.write_info(objects.info, &info)?;
    builder.run(&objects, &header)
}

fn check_devicetree(devicetree: &Run) -> Result<(), BootError> {
    let whole = devicetree.address.is_multiple_of(PAGE_SIZE) && devicetree.bytes.is_multiple_of(PAGE_SIZE);
    let room = STACK_TOP - STACK_SIZE - PAGE_SIZE - DEVICETREE_ADDRESS;
    if whole && devicetree.bytes <= room { Ok(()) } else { Err(BootError::Devicetree) }
}

/// Pages of the root server's capability table.
const TABLE_PAGES: u64 = ROOT_TABLE_SLOTS * size_of::<Slot>() as u64 / PAGE_SIZE;
/// Pages of the kernel's own table of interrupts.
const INTERRUPT_PAGES: u64 = (MAX_INTERRUPTS * size_of::<Slot>()) as u64 / PAGE_SIZE;
/// Pages of its stack.
const STACK_PAGES: u64 = STACK_SIZE / PAGE_SIZE;

/// The first free run with room for all that the root server needs.
fn choose(found: &Found<'_>, header: &PayloadHeader, levels: u8) -> Result<Run, BootError> {
    let ranges = header.segments.iter().map(|segment| segment.bytes);
    let ranges = ranges.chain([header.archive_bytes, found.devicetree.bytes, PAGE_SIZE, STACK_SIZE]);
    // A range of n pages needs at most n / 512 + 2 last tables, and two tables in each level above (a range is
    // shorter than what one of those covers); every level but the root's.
    let above = 2 * u64::from(levels.saturating_sub(2));
    let tables: u64 = ranges.map(|bytes| bytes / (PAGE_SIZE << 9) + 2 + above).sum();
    // And one page each for the root table, the Thread, its SchedContext, and BootInfo.
    let pages = TABLE_PAGES + INTERRUPT_PAGES + STACK_PAGES + 4 + tables;
    let large = found.free.iter().find(|run| run.bytes / PAGE_SIZE >= pages);
    large.copied().ok_or(BootError::TooLittleMemory)
}

/// Physical addresses of the root server's objects.
struct Objects {
    table: u64,
    space: u64,
    thread: u64,
    context: u64,
    info: u64,
    stack: u64,
}

struct Builder<'a, M> {
    visit: Visit<'a, M>,
    found: &'a Found<'a>,
    /// The next free page of the chosen run.
    next: u64,
    /// The run's end.
    end: u64,
}

impl<M: Machine> Builder<'_, M> {
    /// Takes clear pages for objects of one kind.
    fn take(&mut self, pages: u64, kind: Kind) -> Result<u64, BootError> {
        let address = self.next;
        if (self.end - address) / PAGE_SIZE < pages {
            return Err(BootError::TooLittleMemory);
        }
        self.next += pages * PAGE_SIZE;
        for page in (0..pages).map(|page| address + page * PAGE_SIZE) {
            self.visit.held.store.clear_page(page)?;
            self.visit.held.store.set_kind(page, kind)?;
        }
        Ok(address)
    }

    fn objects(&mut self) -> Result<Objects, BootError> {
        let interrupt_table = self.take(INTERRUPT_PAGES, Kind::CapTable)?;
        let objects = Objects {
            table: self.take(TABLE_PAGES, Kind::CapTable)?,
            space: self.take(1, Kind::AddressSpace)?,
            thread: self.take(1, Kind::Thread)?,
            context: self.take(1, Kind::SchedContext)?,
            info: self.take(1, Kind::PageTable)?,
            stack: self.take(STACK_PAGES, Kind::Frame)?,
        };
        self.visit.held.store.record(objects.space)?.set_space(1);
        self.visit.machine.fill_root(self.visit.held.store.get::<AddressSpace>(Ref::at(objects.space))?);
        let global = self.visit.held.global()?;
        global.last_space = 1;
        global.interrupt_table = interrupt_table;
        Ok(objects)
    }

    fn map_all(&mut self, objects: &Objects, header: &PayloadHeader) -> Result<(), BootError> {
        let (read, read_write) = (Rights::READ, Rights::READ.union(Rights::WRITE));
        let root = objects.space;
        for segment in &header.segments {
            let rights = Rights(segment.rights.to_le_bytes()[0]);
            self.map(root, segment.address, self.found.payload + segment.offset, segment.bytes, rights)?;
        }
        let archive = self.found.payload + header.archive_offset;
        self.map(root, ARCHIVE_ADDRESS, archive, header.archive_bytes, read)?;
        let devicetree = self.found.devicetree;
        self.map(root, DEVICETREE_ADDRESS, devicetree.address, devicetree.bytes, read)?;
        self.map(root, BOOT_INFO_ADDRESS, objects.info, PAGE_SIZE, read)?;
        // Below the stack nothing is mapped: an overflow faults.
        self.map(root, STACK_TOP - STACK_SIZE, objects.stack, STACK_SIZE, read_write)
    }

    fn map(&mut self, root: u64, address: u64, physical: u64, bytes: u64, rights: Rights) -> Result<(), BootError> {
        for offset in (0..bytes.div_ceil(PAGE_SIZE)).map(|page| page * PAGE_SIZE) {
            let table = self.last_table(root, address + offset)?;
            let page = physical + offset;
            // Page by page, so that nothing later takes the payload's memory for something else.
            if self.visit.held.store.is_memory(page) {
                if self.visit.held.store.record(page)?.kind() == Kind::Empty as u8 {
                    self.visit.held.store.set_kind(page, Kind::Frame)?;
                }
            }
            let leaf = self.visit.machine.leaf(Mapping { address: page, rights, uncached: false, level: 1 });
            self.set_entry(table, address + offset, 1, leaf)?;
        }
        Ok(())
    }

    /// The last-level table for an address; makes the tables that are missing.
    fn last_table(&mut self, root: u64, address: u64) -> Result<u64, BootError> {
        let mut table = root;
        for level in (2..=self.visit.machine.levels()).rev() {
            let entries = self.visit.held.store.get::<AddressSpace>(Ref::at(table))?;
            let entry = entries.get(position(address, level)).copied().unwrap_or(0);
            table = match self.visit.machine.entry(entry, level) {
                Entry::Table(next) => next,
                Entry::Empty => {
                    let next = self.take(1, Kind::PageTable)?;
                    let entry = self.visit.machine.table(next);
                    self.set_entry(table, address, level, entry)?;
                    next
                }
                Entry::Leaf(_) => return Err(BootError::SegmentAddress),
            };
        }
        Ok(table)
    }

    fn set_entry(&mut self, table: u64, address: u64, level: u8, entry: u64) -> Result<(), BootError> {
        let entries = self.visit.held.store.get::<AddressSpace>(Ref::at(table))?;
        if let Some(place) = entries.get_mut(position(address, level)) {
            *place = entry;
        }
        Ok(())
    }

    fn set_slot(
        &mut self,
        table: u64,
        slot: u32,
        kind: Kind,
        object: u64,
        extent: u64,
    ) -> Result<&mut Slot, BootError> {
        let place = self.visit.held.store.get::<Slot>(at(table, slot))?;
        *place = Slot { kind: kind as u8, rights: Rights::ALL.0, object, extent, ..Slot::default() };
        Ok(place)
    }

    fn control_capabilities(&mut self, table: u64) -> Result<(), BootError> {
        self.set_slot(table, slot::INTERRUPT_CONTROL, Kind::InterruptControl, 0, 0)?;
        if self.found.io_ports {
            self.set_slot(table, slot::IO_PORT_CONTROL, Kind::IoPortControl, 0, 0)?;
        }
        self.set_slot(table, slot::DEBUG, Kind::Debug, 0, 0)?;
        for (slot, core) in (slot::SCHED_CONTROL..slot::UNTYPED).zip(0..self.visit.machine.cores()) {
            self.set_slot(table, slot, Kind::SchedControl, core, 0)?;
        }
        Ok(())
    }

    /// Hands all memory that is left, and every device, to the root server.
    fn untyped_capabilities(
        &mut self,
        objects: &Objects,
        chosen: &Run,
        header: &PayloadHeader,
    ) -> Result<BootInfo, BootError> {
        let mut info = self.info(header);
        let rest = Run { address: self.next, bytes: self.end - self.next };
        let memory = self.found.free.iter().map(|run| if run == chosen { rest } else { *run });
        let runs = memory.map(|run| (run, 0)).chain(self.found.devices.iter().map(|run| (*run, 1)));
        let mut runs = runs.filter(|(run, _)| run.bytes >= PAGE_SIZE);
        for ((slot, listed), (run, device)) in (slot::UNTYPED..).zip(&mut info.untyped).zip(&mut runs) {
            *listed = UntypedRun { address: run.address, pages: run.bytes / PAGE_SIZE, device };
            self.set_slot(objects.table, slot, Kind::Untyped, listed.address, listed.pages)?.device =
                u8::from(device == 1);
            info.untyped_count += 1;
        }
        if runs.next().is_some() {
            return Err(BootError::TooManyRuns);
        }
        info.first_free_slot = u64::from(slot::UNTYPED) + info.untyped_count;
        let free = self.found.free.iter().map(|run| run.bytes).sum::<u64>() + header.bytes;
        info.kernel_bytes = self.found.ram_bytes.saturating_sub(free) + INTERRUPT_PAGES * PAGE_SIZE;
        Ok(info)
    }

    /// BootInfo but for its Untypeds.
    fn info(&self, header: &PayloadHeader) -> BootInfo {
        let found = self.found;
        let mut command_line = [0; 512];
        let copied = command_line.iter_mut().zip(found.command_line).map(|(to, from)| *to = *from).count();
        BootInfo {
            magic: BOOT_INFO_MAGIC,
            architecture: found.architecture,
            cores: self.visit.machine.cores(),
            counter_frequency: found.counter_frequency,
            counter_start: found.counter_start,
            ram_bytes: found.ram_bytes,
            kernel_bytes: 0,
            paging_levels: self.visit.machine.levels().into(),
            first_free_slot: 0,
            archive_address: ARCHIVE_ADDRESS,
            archive_bytes: header.archive_bytes,
            devicetree_address: if found.devicetree.bytes == 0 { 0 } else { DEVICETREE_ADDRESS },
            devicetree_bytes: found.devicetree.bytes,
            acpi_rsdp: found.acpi_rsdp,
            untyped_count: 0,
            untyped: [UntypedRun::default(); MAX_UNTYPED],
            command_line_bytes: copied as u64,
            command_line,
        }
    }

    /// Writes BootInfo into its page, which until now is typed as a page of words; then it is a Frame's.
    fn write_info(&mut self, page: u64, info: &BootInfo) -> Result<(), BootError> {
        info.write_words(self.visit.held.store.get::<AddressSpace>(Ref::at(page))?);
        self.visit.held.store.set_kind(page, Kind::Frame)?;
        Ok(())
    }
}

impl<M: Machine> Builder<'_, M> {
    /// The root server's own capabilities, and its thread, ready to run.
    fn run(&mut self, objects: &Objects, header: &PayloadHeader) -> Result<(), BootError> {
        let table = objects.table;
        self.set_slot(table, slot::CAP_TABLE, Kind::CapTable, table, ROOT_TABLE_SLOTS)?;
        self.set_slot(table, slot::ADDRESS_SPACE, Kind::AddressSpace, objects.space, 0)?;
        self.set_slot(table, slot::THREAD, Kind::Thread, objects.thread, 0)?;
        self.set_slot(table, slot::SCHED_CONTEXT, Kind::SchedContext, objects.context, 0)?;
        let thread = Ref::<Thread>::at(objects.thread);
        for (slot, part) in
            [(slot::CAP_TABLE, Part::Table), (slot::ADDRESS_SPACE, Part::Space), (slot::SCHED_CONTEXT, Part::Context)]
        {
            let source = self.visit.slot(at(table, slot))?;
            self.visit.derive(at(table, slot), part.of(thread), source)?;
        }
        let record = self.visit.held.store.get(thread)?;
        record.registers.pc = header.entry;
        record.registers.sp = STACK_TOP;
        record.priority = u8::MAX;
        record.ceiling = u8::MAX;
        record.deadline = FOREVER;
        self.visit.bind(thread, Ref::at(objects.context))?;
        self.visit.make_ready(thread)?;
        self.visit.held.global()?.root_thread = thread;
        Ok(())
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
