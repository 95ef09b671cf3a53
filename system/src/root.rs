//! The root server's state, how it starts, and its loop.

use alloc::vec::Vec;

use anos_abi::boot::{BootInfo, UntypedRun, slot};
use anos_abi::object::Method;
use anos_abi::{Error, Kind, PAGE_SIZE};
use anos_interfaces::Message;
use anos_manifest::{DecodeError, Registers, Start, System, decode};

use crate::archive::Archive;
use crate::buddy::{Buddy, Untypeds};
use crate::contexts::{self, Contexts};
use crate::kernel::{self, Kernel, retype};
use crate::layout::{
    DEVICES, DRAIN_REPLY, ENDPOINT, MAX_DEVICE_SLOTS, MAX_WAITERS, RECEIVED, REPLIES, SERVICES, WINDOW_ADDRESS,
    WINDOW_TABLES, number,
};
use crate::process::{Ends, Processes, Waiter};
use crate::report;

/// Memory for the root server's own objects but the scheduling contexts: endpoints, replies, page tables.
const OWN_MEMORY: u64 = 10 * PAGE_SIZE;

/// What BootInfo says that matters later.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// As in BootInfo: 1 for x86-64, 2 for RISC-V.
    pub architecture: u64,
    /// Cores that run.
    pub cores: u64,
    /// Ticks per second of the counter that programs read.
    pub counter_frequency: u64,
    /// That counter when the kernel's clock was 0.
    pub counter_start: u64,
    /// Bytes of main memory.
    pub ram_bytes: u64,
    /// Bytes of it that the kernel keeps.
    pub kernel_bytes: u64,
    /// Levels of page tables.
    pub levels: u8,
}

impl From<&BootInfo> for Facts {
    fn from(info: &BootInfo) -> Self {
        Facts {
            architecture: info.architecture,
            cores: info.cores,
            counter_frequency: info.counter_frequency,
            counter_start: info.counter_start,
            ram_bytes: info.ram_bytes,
            kernel_bytes: info.kernel_bytes,
            levels: u8::try_from(info.paging_levels).unwrap_or(3),
        }
    }
}

/// Why the system can't start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFailure {
    /// The archive is truncated or garbled.
    BadArchive,
    /// There is no manifest in it.
    NoManifest,
    /// The manifest can't be used.
    BadManifest(DecodeError),
    /// There is too little memory for the root server's own objects.
    TooLittleMemory(Error),
    /// No program could be started.
    NothingRuns,
}

impl core::fmt::Display for BootFailure {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BootFailure::BadArchive => formatter.write_str("the boot archive is truncated or garbled"),
            BootFailure::NoManifest => formatter.write_str("the boot archive has no manifest.bin"),
            BootFailure::BadManifest(error) => write!(formatter, "manifest.bin can't be used: {error}"),
            BootFailure::TooLittleMemory(error) => write!(formatter, "too little memory to start: {error}"),
            BootFailure::NothingRuns => formatter.write_str("no program could be started"),
        }
    }
}

/// A service, as long as the system runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Service {
    /// Whether its program runs, or will again.
    pub alive: bool,
}

/// A device's capabilities in the root server's table; 0 where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceSlots {
    /// The program (by index) and the device (by index there).
    pub owner: (usize, usize),
    /// IoPort or Frame.
    pub registers: u32,
    /// Interrupt.
    pub interrupt: u32,
}

/// How often a program failed in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failures {
    /// When it was last started.
    pub started_ns: u64,
    /// How often it ended soon after that, in a row.
    pub soon: u32,
}

/// The root server.
#[derive(Debug)]
pub struct Root<'a, K> {
    /// The kernel.
    pub kernel: K,
    pub(crate) facts: Facts,
    pub(crate) system: System,
    pub(crate) archive: Archive<'a>,
    pub(crate) buddy: Buddy,
    pub(crate) contexts: Contexts,
    pub(crate) processes: Processes,
    pub(crate) ends: Ends,
    pub(crate) waiters: Vec<Waiter>,
    /// Replies that nobody waits on.
    pub(crate) replies: Vec<u32>,
    pub(crate) services: Vec<Service>,
    pub(crate) devices: Vec<DeviceSlots>,
    /// By program.
    pub(crate) failures: Vec<Failures>,
    pub(crate) last_pid: u32,
    pub(crate) last_core: u64,
}

/// The kernel as the buddy allocator sees it.
#[derive(Debug)]
pub struct Halves<'k, K>(pub &'k mut K);

impl<K: Kernel> Untypeds for Halves<'_, K> {
    fn split(&mut self, parent: u32, pages: u64, count: u64, into: u32) -> Result<(), Error> {
        retype(self.0, parent, Kind::Untyped, pages, count, into)
    }

    fn merge(&mut self, parent: u32) -> Result<(), Error> {
        kernel::revoke(self.0, parent)
    }
}

/// All main memory that the root server holds, as blocks.
pub fn take_memory<K: Kernel>(kernel: &mut K, runs: &[UntypedRun]) -> Result<Buddy, Error> {
    let mut buddy = Buddy::new();
    for (run, untyped) in runs.iter().zip(slot::UNTYPED..) {
        if run.device == 0 {
            buddy.add(&mut Halves(kernel), untyped, run.pages)?;
        }
    }
    Ok(buddy)
}

impl<'a, K: Kernel> Root<'a, K> {
    /// Takes everything over. `buddy` has the memory. The lists that grow with requests take
    /// theirs here, once; starting a process takes a little heap, and ending it gives that back.
    ///
    /// # Errors
    /// Why there can be no system.
    pub fn new(
        kernel: K,
        facts: Facts,
        runs: &[UntypedRun],
        archive: &'a [u8],
        buddy: Buddy,
    ) -> Result<Self, BootFailure> {
        let archive = Archive::open(archive).ok_or(BootFailure::BadArchive)?;
        let manifest = archive.find(anos_manifest::FILE).ok_or(BootFailure::NoManifest)?;
        let system = decode(manifest).map_err(BootFailure::BadManifest)?;
        let services = system.services.iter().map(|_| Service::default()).collect();
        let failures = system.programs.iter().map(|_| Failures::default()).collect();
        let mut root = Root {
            kernel,
            facts,
            system,
            archive,
            buddy,
            contexts: Contexts::new(facts.cores),
            processes: Processes::new(),
            ends: Ends::new(),
            waiters: Vec::with_capacity(MAX_WAITERS),
            replies: (REPLIES..).take(MAX_WAITERS + 1).collect(),
            services,
            devices: Vec::new(),
            failures,
            last_pid: 0,
            last_core: 0,
        };
        root.make_objects().map_err(BootFailure::TooLittleMemory)?;
        root.take_devices(runs);
        Ok(root)
    }

    fn make_objects(&mut self) -> Result<(), Error> {
        let bytes = OWN_MEMORY + contexts::bytes(self.facts.cores);
        let own = self.buddy.allocate(&mut Halves(&mut self.kernel), bytes)?.slot();
        let kernel = &mut self.kernel;
        retype(kernel, own, Kind::Endpoint, 0, 1, ENDPOINT)?;
        let services = self.services.len() as u64;
        if services > 0 {
            retype(kernel, own, Kind::Endpoint, 0, services, SERVICES)?;
        }
        // One retype makes at most 64 objects.
        retype(kernel, own, Kind::Reply, 0, 1, DRAIN_REPLY)?;
        retype(kernel, own, Kind::Reply, 0, 1, REPLIES)?;
        retype(kernel, own, Kind::Reply, 0, MAX_WAITERS as u64, REPLIES + 1)?;
        for level in (1..self.facts.levels).rev() {
            let table = WINDOW_TABLES + u32::from(level) - 1;
            retype(kernel, own, Kind::PageTable, 0, 1, table)?;
            let words = [WINDOW_ADDRESS, level.into()];
            match kernel.invoke(table, Method::PageTableMap, &words, slot::ADDRESS_SPACE, 0) {
                // The kernel's own tables for the root server may cover this already.
                Ok(_) | Err(Error::AlreadyMapped) => {}
                Err(error) => return Err(error),
            }
        }
        self.contexts.begin(kernel, own, self.facts.cores)
    }

    /// Makes the capabilities of all devices, once. What can't be made is reported; the system goes on without.
    fn take_devices(&mut self, runs: &[UntypedRun]) {
        let mut next = DEVICES;
        let programs = self.system.programs.iter().enumerate();
        let mut all: Vec<_> = programs
            .flat_map(|(program, entry)| entry.devices.iter().enumerate().map(move |(index, _)| (program, index)))
            .collect();
        // The kernel hands out device memory in ascending order.
        all.sort_by_key(|&(program, index)| {
            self.device(program, index).map(|device| match device.registers {
                Registers::Memory { address, .. } => address,
                Registers::Ports { .. } => 0,
            })
        });
        for owner in all {
            let mut slots = DeviceSlots { owner, ..DeviceSlots::default() };
            if next + 2 > DEVICES + number(MAX_DEVICE_SLOTS) {
                report::line(&mut self.kernel, format_args!("too many devices in the manifest"));
                return;
            }
            let result = self.take_device(owner, runs, next, &mut slots);
            if let (Err(error), Some(device)) = (result, self.device(owner.0, owner.1)) {
                report::line(&mut self.kernel, format_args!("device {}: {error}", device.name));
            }
            self.devices.push(slots);
            next += 2;
        }
    }

    fn device(&self, program: usize, index: usize) -> Option<anos_manifest::Device> {
        self.system.programs.get(program)?.devices.get(index).cloned()
    }

    fn take_device(
        &mut self,
        owner: (usize, usize),
        runs: &[UntypedRun],
        next: u32,
        slots: &mut DeviceSlots,
    ) -> Result<(), Error> {
        let device = self.device(owner.0, owner.1).ok_or(Error::InvalidArgument)?;
        match device.registers {
            Registers::Ports { first, last } => {
                let words = [first.into(), last.into()];
                self.kernel.invoke(slot::IO_PORT_CONTROL, Method::IoPortControlGet, &words, 0, next)?;
            }
            Registers::Memory { address, size } => self.take_registers(runs, address, size, next)?,
        }
        slots.registers = next;
        if let Some(interrupt) = device.interrupt {
            let words = [interrupt.line.into(), interrupt.level.into(), interrupt.active_low.into()];
            let into = next + 1;
            self.kernel.invoke(slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &words, 0, into)?;
            slots.interrupt = into;
        }
        Ok(())
    }

    fn take_registers(&mut self, runs: &[UntypedRun], address: u64, size: u64, into: u32) -> Result<(), Error> {
        let first = address / PAGE_SIZE;
        let pages = address.checked_add(size).ok_or(Error::InvalidArgument)?.div_ceil(PAGE_SIZE) - first;
        let holds = |run: &UntypedRun| {
            let start = run.address / PAGE_SIZE;
            run.device != 0 && start <= first && first + pages <= start + run.pages
        };
        let (run, untyped) = runs.iter().zip(slot::UNTYPED..).find(|(run, _)| holds(run)).ok_or(Error::Unsupported)?;
        let position = first - run.address / PAGE_SIZE;
        let words = [Kind::Frame as u64, pages, 1, position];
        self.kernel.invoke(untyped, Method::UntypedRetype, &words, 0, into).map(drop)
    }

    /// Starts the boot programs, in the order of the manifest. One that can't start is reported; the others do.
    pub fn start_programs(&mut self) {
        for program in 0..self.system.programs.len() {
            if self.system.programs.get(program).is_some_and(|entry| entry.start == Start::Boot) {
                self.start_program(program);
            }
        }
    }

    /// Whether any process runs.
    pub fn has_processes(&self) -> bool {
        self.processes.iter().next().is_some()
    }

    /// Starts a program for the root server itself.
    pub(crate) fn start_program(&mut self, program: usize) {
        if let Err(failure) = self.spawn(program, 0, &[]) {
            self.report_failure(program, failure);
            self.lose_services(program);
        }
    }

    /// Serves requests and faults, for ever. Returns only if the kernel no longer lets it receive, which does not
    /// happen: the one thing that could be in the way, a Reply that somebody still waits on, is put right.
    pub fn run(&mut self) -> Error {
        loop {
            match self.step(true) {
                Ok(()) => {}
                Err(Error::Busy) if self.free_reply() => {}
                Err(error) => return error,
            }
        }
    }

    /// The Reply that the next request comes with.
    fn next_reply(&self) -> u32 {
        // One more Reply than waiters: there is always one left.
        self.replies.last().copied().unwrap_or(REPLIES)
    }

    /// Sends away who waits on the next request's Reply. False if nobody does.
    fn free_reply(&mut self) -> bool {
        let reply = self.next_reply();
        self.kernel.answer(reply, &Message::refusal(Error::Cancelled))
    }

    /// Serves one request.
    ///
    /// # Errors
    /// The kernel's for the receive; `TimedOut` if there is nothing and `wait` is false.
    pub fn step(&mut self, wait: bool) -> Result<(), Error> {
        let reply = self.next_reply();
        let received = self.kernel.receive(ENDPOINT, reply, RECEIVED, wait)?;
        let answer = self.serve(&received, reply);
        if received.capability {
            // Nothing that came along and was not taken stays here.
            kernel::discard(&mut self.kernel, RECEIVED);
        }
        // Whoever isn't kept waiting gets an answer, due or not. The badge says in whose name a thread called, not
        // whose it is: it may outlive the process that just ended, and with it the Reply would stay occupied. (For a
        // thread that faulted, this label means that it stays stopped.)
        if received.answerable && self.replies.contains(&reply) {
            self.kernel.answer(reply, &answer.unwrap_or(Message::refusal(Error::Cancelled)));
        }
        Ok(())
    }
}
