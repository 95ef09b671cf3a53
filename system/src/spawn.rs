//! How a process is made: everything out of one block of memory, so that revoking that block unmakes it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use anos_abi::boot::slot as boot_slot;
use anos_abi::object::Method;
use anos_abi::{Error, Kind, PAGE_SIZE, Rights};
use anos_interfaces::process::MANAGER;
use anos_interfaces::start::{self, MAX_CAPABILITIES, STACK_TOP, StartInfo, name, slot};
use anos_interfaces::{Badge, Failure, Name, Refusal};
use anos_manifest::{Program, Registers, Start, Use};

use crate::contexts::{Context, Contexts, NoTime};
use crate::end::GONE;
use crate::kernel::{Kernel, copy, delete, map, mint, move_to, retype, unmap};
use crate::layout::{
    self, ENDPOINT, MAX_FRAMES, MAX_TABLES, MAX_THREADS, SCRATCH, SERVICES, WINDOW_ADDRESS, number, window,
};
use crate::process::{Arguments, Given, Process};
use crate::program::{BadProgram, Machine, Plan, Segment};
use crate::report;
use crate::root::{DeviceSlots, Facts, Halves, Root, Service};

/// Pages of the largest Frame that the root server makes: half of what one page table maps, so that no Frame needs
/// the alignment of a large page.
const FRAME_PAGES: u64 = 256;
/// Bytes that one page table maps.
const TABLE_BYTES: u64 = 512 * PAGE_SIZE;

/// Why a process could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnFailure {
    /// The archive has no such file.
    Missing,
    /// The file can't be run.
    Bad(BadProgram),
    /// As many processes run as can, or as many threads.
    TooMany,
    /// The arguments are too long.
    Arguments,
    /// The program does not fit into its quota, or no memory is free.
    Memory,
    /// Its segments take more Frames or page tables than a process's window of slots has room for.
    TooSpread,
    /// The kernel refused.
    Kernel(Error),
}

impl From<Error> for SpawnFailure {
    fn from(error: Error) -> Self {
        if error == Error::NotEnoughMemory { SpawnFailure::Memory } else { SpawnFailure::Kernel(error) }
    }
}

impl From<NoTime> for SpawnFailure {
    fn from(failure: NoTime) -> Self {
        match failure {
            NoTime::AllTaken => SpawnFailure::TooMany,
            NoTime::Kernel(error) => error.into(),
        }
    }
}

impl From<SpawnFailure> for Failure {
    fn from(failure: SpawnFailure) -> Self {
        match failure {
            SpawnFailure::Missing => Refusal::NoSuchProgram.into(),
            SpawnFailure::Bad(_) | SpawnFailure::TooSpread => Refusal::BadProgram.into(),
            SpawnFailure::TooMany => Refusal::TooMany.into(),
            SpawnFailure::Arguments => Refusal::ArgumentsTooLong.into(),
            SpawnFailure::Memory => Error::NotEnoughMemory.into(),
            SpawnFailure::Kernel(error) => error.into(),
        }
    }
}

impl<K: Kernel> Root<'_, K> {
    /// Starts a process. On failure nothing is left of it.
    ///
    /// # Errors
    /// Why it can't be.
    pub fn spawn(&mut self, program: usize, parent: u32, arguments: &[u8]) -> Result<u32, SpawnFailure> {
        let entry = self.system.programs.get(program).ok_or(SpawnFailure::Missing)?;
        let running = self.processes.iter().filter(|(_, process)| process.program == program).count();
        let place = self.processes.free_place().ok_or(SpawnFailure::TooMany)?;
        if running >= usize::from(entry.instances) {
            return Err(SpawnFailure::TooMany);
        }
        let file = self.archive.find(&entry.file).ok_or(SpawnFailure::Missing)?;
        let plan = Plan::read(file, Machine::from_number(self.facts.architecture)).map_err(SpawnFailure::Bad)?;
        let pid = self.last_pid.checked_add(1).ok_or(SpawnFailure::TooMany)?;
        let core = core_for(entry, self.facts.cores, &mut self.last_core);
        let block = self.buddy.allocate(&mut Halves(&mut self.kernel), entry.memory)?;
        let mut builder = Builder {
            facts: &self.facts,
            names: &self.system.services,
            services: &self.services,
            devices: &self.devices,
            program,
            entry,
            pid,
            block: block.slot(),
            window: layout::process(place),
            tables: Vec::new(),
            frames: 0,
            kernel: &mut self.kernel,
            contexts: &mut self.contexts,
        };
        match builder.build(&plan, arguments, u32::try_from(core).unwrap_or(0)) {
            Ok((given, context)) => {
                self.last_pid = pid;
                let (threads, arguments) = ([None; MAX_THREADS], Arguments::EMPTY);
                let process = Process { pid, program, parent, block, context, threads, given, arguments };
                self.processes.put(place, process);
                self.note_start(program);
                Ok(pid)
            }
            Err(failure) => {
                self.release(block);
                Err(failure)
            }
        }
    }

    fn note_start(&mut self, program: usize) {
        let now = self.kernel.now_ns();
        if let Some(failures) = self.failures.get_mut(program) {
            failures.started_ns = now;
        }
        self.regain_services(program);
    }

    /// Says why a program could not be started.
    pub(crate) fn report_failure(&mut self, program: usize, failure: SpawnFailure) {
        let Some(entry) = self.system.programs.get(program) else { return };
        let (kernel, name, file) = (&mut self.kernel, &entry.name, &entry.file);
        match failure {
            SpawnFailure::Missing => {
                report::line(kernel, format_args!("{name}: {file} is missing from the boot archive"))
            }
            SpawnFailure::Bad(bad) => report::line(kernel, format_args!("{name}: {file} can't be run: {}", bad.text())),
            SpawnFailure::Memory => {
                let (needs, largest) = (entry.memory / 1024, self.buddy.largest_free() / 1024);
                report::line(
                    kernel,
                    format_args!(
                        "{name}: too little memory: its quota is {needs} KiB, the largest free block {largest} KiB"
                    ),
                );
            }
            SpawnFailure::TooSpread => report::line(
                kernel,
                format_args!(
                    "{name}: {file} can't be run: it takes more than {MAX_FRAMES} Frames or {MAX_TABLES} page tables"
                ),
            ),
            _ => report::line(kernel, format_args!("{name}: can't be started: {}", Failure::from(failure))),
        }
    }
}

/// The core for a process's first thread: boot programs on the first they may use, others in turn.
fn core_for(entry: &Program, cores: u64, last: &mut u64) -> u64 {
    let allowed = |core: &u64| entry.cores == 0 || entry.cores >> core & 1 == 1;
    if entry.start == Start::Boot {
        return (0..cores).find(allowed).unwrap_or(0);
    }
    let turn = (1..=cores).map(|step| (*last + step) % cores).find(allowed).unwrap_or(0);
    *last = turn;
    turn
}

/// Bytes of a process's first stack: an eighth of its memory, within reason.
fn stack_bytes(memory: u64) -> u64 {
    (memory / 8).clamp(4 * PAGE_SIZE, 16 * PAGE_SIZE)
}

/// A process in the making.
struct Builder<'b, K> {
    kernel: &'b mut K,
    contexts: &'b mut Contexts,
    facts: &'b Facts,
    /// The services' names.
    names: &'b [String],
    services: &'b [Service],
    devices: &'b [DeviceSlots],
    program: usize,
    entry: &'b Program,
    pid: u32,
    /// The slot of its block.
    block: u32,
    /// Its window of slots.
    window: u32,
    /// The page tables it has: level, and the address in units of what such a table maps.
    tables: Vec<(u8, u64)>,
    frames: u32,
}

impl<K: Kernel> Builder<'_, K> {
    /// Makes it all, and starts it: what it was given.
    fn build(&mut self, plan: &Plan<'_>, arguments: &[u8], core: u32) -> Result<(Vec<Given>, Context), SpawnFailure> {
        self.make(Kind::CapTable, self.entry.slots.into(), window::TABLE)?;
        self.make(Kind::AddressSpace, 0, window::SPACE)?;
        self.make(Kind::Thread, 0, window::THREAD)?;
        for segment in plan.segments() {
            self.load(segment)?;
        }
        let stack = stack_bytes(self.entry.memory);
        self.add_frame(STACK_TOP - stack, stack / PAGE_SIZE, Rights::READ.union(Rights::WRITE), |_, _| {})?;
        let mut info = self.start_info();
        if !info.set_arguments(arguments) {
            return Err(SpawnFailure::Arguments);
        }
        let given = self.give_all(&mut info)?;
        self.add_start_page(&info)?;
        self.give_own()?;
        self.set_up_thread()?;
        Ok((given, self.start(plan.entry, core)?))
    }

    /// Makes one object for the process, at a place in its window.
    fn make(&mut self, kind: Kind, size: u64, place: u32) -> Result<(), Error> {
        retype(self.kernel, self.block, kind, size, 1, self.window + place)
    }

    // Memory.

    /// Maps a segment, Frame by Frame.
    fn load(&mut self, segment: &Segment<'_>) -> Result<(), SpawnFailure> {
        // A segment larger than the quota would only fail after the effort.
        if segment.pages > self.entry.memory / PAGE_SIZE {
            return Err(SpawnFailure::Memory);
        }
        // What lies before the bytes in the first page is zeros, like what follows them.
        let (mut address, mut rest, mut offset) = (segment.address, segment.bytes, segment.offset);
        while address < segment.end() {
            let table_end = (address / TABLE_BYTES + 1) * TABLE_BYTES;
            let pages = ((segment.end().min(table_end) - address) / PAGE_SIZE).min(FRAME_PAGES);
            let room = usize::try_from(pages * PAGE_SIZE - offset).unwrap_or(0);
            let (bytes, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            self.add_frame(address, pages, segment.rights, |kernel, at| kernel.fill(at + offset, bytes))?;
            (address, rest, offset) = (address + pages * PAGE_SIZE, later, 0);
        }
        Ok(())
    }

    /// One more Frame: `fill` is told where the root server sees it for the moment.
    fn add_frame(
        &mut self,
        address: u64,
        pages: u64,
        rights: Rights,
        fill: impl FnOnce(&mut K, u64),
    ) -> Result<(), SpawnFailure> {
        if self.frames >= number(MAX_FRAMES) {
            return Err(SpawnFailure::TooSpread);
        }
        let frame = self.window + window::FRAMES + self.frames;
        self.make(Kind::Frame, pages, window::FRAMES + self.frames)?;
        self.frames += 1;
        map(self.kernel, frame, boot_slot::ADDRESS_SPACE, WINDOW_ADDRESS, Rights::READ.union(Rights::WRITE))?;
        fill(self.kernel, WINDOW_ADDRESS);
        unmap(self.kernel, frame)?;
        self.add_tables(address)?;
        Ok(map(self.kernel, frame, self.window + window::SPACE, address, rights)?)
    }

    fn add_start_page(&mut self, info: &StartInfo) -> Result<(), SpawnFailure> {
        self.add_frame(start::ADDRESS, 1, Rights::READ, |kernel, at| kernel.fill_start(at, info))
    }

    /// The page tables on the way to an address, where they are missing.
    fn add_tables(&mut self, address: u64) -> Result<(), SpawnFailure> {
        for level in (1..self.facts.levels).rev() {
            let key = (level, address >> (12 + 9 * u32::from(level)));
            if self.tables.contains(&key) {
                continue;
            }
            let place = window::TABLES + number(self.tables.len());
            if self.tables.len() >= MAX_TABLES {
                return Err(SpawnFailure::TooSpread);
            }
            self.make(Kind::PageTable, 0, place)?;
            let words = [address, level.into()];
            let space = self.window + window::SPACE;
            self.kernel.invoke(self.window + place, Method::PageTableMap, &words, space, 0)?;
            self.tables.push(key);
        }
        Ok(())
    }

    // Capabilities.

    fn start_info(&self) -> StartInfo {
        StartInfo {
            pid: self.pid.into(),
            architecture: self.facts.architecture,
            cores: self.facts.cores,
            counter_frequency: self.facts.counter_frequency,
            counter_start: self.facts.counter_start,
            table_slots: self.entry.slots.into(),
            name: Name::new(&self.entry.name).unwrap_or_default(),
            ..StartInfo::EMPTY
        }
    }

    /// The manifest's capabilities, in the order of the start page.
    fn give_all(&mut self, info: &mut StartInfo) -> Result<Vec<Given>, SpawnFailure> {
        let mut giver = Giver { table: self.window + window::TABLE, info, given: Vec::new() };
        for &service in &self.entry.provides {
            giver.add(name::SERVICE, Kind::Endpoint, None, |table, to| {
                copy(self.kernel, SERVICES + u32::from(service), table, to, Rights::ALL)
            })?;
        }
        for used in &self.entry.uses {
            let name = self.names.get(usize::from(used.service)).map_or("", String::as_str);
            let alive = self.services.get(usize::from(used.service)).is_some_and(|service| service.alive);
            giver.add(name, Kind::Endpoint, Some(used.service), |table, to| {
                give_service(self.kernel, used, alive, self.pid, table, to)
            })?;
        }
        if self.entry.process != 0 {
            let badge = Badge { pid: self.pid, role: MANAGER }.word();
            giver.add(name::PROCESSES, Kind::Endpoint, None, |table, to| {
                mint(self.kernel, ENDPOINT, table, to, Rights::WRITE.union(Rights::GRANT), badge)
            })?;
        }
        for slots in self.devices.iter().filter(|slots| slots.owner.0 == self.program) {
            give_device(self.kernel, &mut giver, self.entry, slots)?;
        }
        if self.entry.debug {
            giver.add(name::DEBUG, Kind::Debug, None, |table, to| {
                copy(self.kernel, boot_slot::DEBUG, table, to, Rights::ALL)
            })?;
        }
        if self.entry.sched {
            give_cores(self.kernel, &mut giver, self.entry, self.facts.cores)?;
        }
        let given = giver.given;
        info.first_free_slot = u64::from(slot::FIRST_NAMED) + given.len() as u64;
        Ok(given)
    }

    /// What every process has: itself, its memory, its supervisor. Last of all, because its memory is what is left.
    fn give_own(&mut self) -> Result<(), SpawnFailure> {
        let (window, table) = (self.window, self.window + window::TABLE);
        copy(self.kernel, window + window::TABLE, table, slot::CAP_TABLE, Rights::ALL)?;
        copy(self.kernel, window + window::SPACE, table, slot::ADDRESS_SPACE, Rights::ALL)?;
        copy(self.kernel, window + window::THREAD, table, slot::THREAD, Rights::ALL)?;
        let badge = Badge { pid: self.pid, role: 0 }.word();
        let rights = Rights::WRITE.union(Rights::GRANT);
        mint(self.kernel, ENDPOINT, table, slot::SUPERVISOR, rights, badge)?;
        let [_, pages, used, ..] = self.kernel.invoke(self.block, Method::UntypedInfo, &[], 0, 0)?;
        let rest = pages.checked_sub(used).filter(|&rest| rest > 0).ok_or(SpawnFailure::Memory)?;
        self.make(Kind::Untyped, rest, window::MEMORY)?;
        Ok(move_to(self.kernel, window + window::MEMORY, table, slot::MEMORY)?)
    }

    /// The first thread gets what it needs to run but the CPU time.
    fn set_up_thread(&mut self) -> Result<(), SpawnFailure> {
        let (window, thread) = (self.window, self.window + window::THREAD);
        let kernel = &mut *self.kernel;
        kernel.invoke(thread, Method::ThreadSetTable, &[], window + window::TABLE, 0)?;
        kernel.invoke(thread, Method::ThreadSetSpace, &[], window + window::SPACE, 0)?;
        let badge = Badge { pid: self.pid, role: 0 }.word();
        mint(kernel, ENDPOINT, boot_slot::CAP_TABLE, SCRATCH, Rights::WRITE.union(Rights::GRANT), badge)?;
        let set = kernel.invoke(thread, Method::ThreadSetFaultEndpoint, &[], SCRATCH, 0);
        delete(kernel, SCRATCH)?;
        set?;
        let words = [self.entry.priority.into(), self.entry.ceiling.into()];
        kernel.invoke(thread, Method::ThreadSetPriority, &words, 0, 0)?;
        let name = Name::new(&self.entry.name).unwrap_or_default();
        // It is for people only.
        let _ = kernel.invoke(boot_slot::DEBUG, Method::DebugName, &name.words(), thread, 0);
        Ok(())
    }

    /// The first thread runs: on whose time.
    fn start(&mut self, entry: u64, core: u32) -> Result<Context, SpawnFailure> {
        let thread = self.window + window::THREAD;
        let context = self.contexts.give(self.kernel, thread, core, self.entry.cpu)?;
        let words = [entry, STACK_TOP, 0, start::ADDRESS, 0];
        match self.kernel.invoke(thread, Method::ThreadStart, &words, 0, 0) {
            Ok(_) => Ok(context),
            Err(error) => {
                self.contexts.take_back(self.kernel, context);
                Err(error.into())
            }
        }
    }
}

/// Gives a process its named capabilities, slot after slot.
struct Giver<'g> {
    /// The slot of the process's table.
    table: u32,
    info: &'g mut StartInfo,
    given: Vec<Given>,
}

impl Giver<'_> {
    fn add(
        &mut self,
        name: &str,
        kind: Kind,
        service: Option<u16>,
        give: impl FnOnce(u32, u32) -> Result<(), Error>,
    ) -> Result<(), SpawnFailure> {
        let slot = slot::FIRST_NAMED + number(self.given.len());
        let name = Name::new(name).ok_or(SpawnFailure::TooMany)?;
        if !self.info.add_capability(name, slot, kind) {
            return Err(SpawnFailure::TooMany);
        }
        give(self.table, slot)?;
        self.given.push(Given { name, slot, service });
        Ok(())
    }
}

/// The capability to call a service: its endpoint, or while nobody provides it the root server's, which then answers
/// that the peer died.
pub(crate) fn give_service<K: Kernel>(
    kernel: &mut K,
    used: &Use,
    alive: bool,
    pid: u32,
    table: u32,
    to: u32,
) -> Result<(), Error> {
    let rights = if used.pass { Rights::WRITE.union(Rights::GRANT) } else { Rights::WRITE };
    let (endpoint, role) = if alive { (SERVICES + u32::from(used.service), used.role) } else { (ENDPOINT, GONE) };
    mint(kernel, endpoint, table, to, rights, Badge { pid, role }.word())
}

/// A device's registers and interrupt. The first device's go by plain names, another's with its own in front.
fn give_device<K: Kernel>(
    kernel: &mut K,
    giver: &mut Giver<'_>,
    entry: &Program,
    slots: &DeviceSlots,
) -> Result<(), SpawnFailure> {
    let Some(device) = entry.devices.get(slots.owner.1) else { return Ok(()) };
    let named = |part: &str| {
        if slots.owner.1 == 0 { String::from(part) } else { format!("{}.{part}", device.name) }
    };
    let (part, kind) = match device.registers {
        Registers::Ports { .. } => (name::PORTS, Kind::IoPort),
        Registers::Memory { .. } => (name::REGISTERS, Kind::Frame),
    };
    if slots.registers != 0 {
        giver.add(&named(part), kind, None, |table, to| copy(kernel, slots.registers, table, to, Rights::ALL))?;
    }
    if slots.interrupt != 0 {
        giver.add(&named(name::INTERRUPT), Kind::Interrupt, None, |table, to| {
            copy(kernel, slots.interrupt, table, to, Rights::ALL)
        })?;
    }
    Ok(())
}

/// The SchedControl of every core that the program may use and that its start page has room for.
fn give_cores<K: Kernel>(
    kernel: &mut K,
    giver: &mut Giver<'_>,
    entry: &Program,
    cores: u64,
) -> Result<(), SpawnFailure> {
    for core in 0..number(usize::try_from(cores).unwrap_or(0)) {
        if giver.given.len() < MAX_CAPABILITIES && (entry.cores == 0 || entry.cores >> core & 1 == 1) {
            giver.add(&format!("{}{core}", name::CORE), Kind::SchedControl, None, |table, to| {
                copy(kernel, boot_slot::SCHED_CONTROL + core, table, to, Rights::ALL)
            })?;
        }
    }
    Ok(())
}
