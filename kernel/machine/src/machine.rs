//! The checklist for a port.

use anos_abi::{Error, MAX_CORES, Rights, fault::FaultKind};

use crate::records::{Ref, Registers, Thread};

/// A core's number: 0 to [`MAX_CORES`] - 1, dense, in the order in which the machine lists them. (As wide as a register:
/// so functions answer it in one, also beside what may stop a step.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CoreId(u64);

impl CoreId {
    /// The boot core.
    pub const BOOT: CoreId = CoreId(0);

    /// The core with this number, if the data structures know it.
    pub fn new(number: u64) -> Option<CoreId> {
        if number < MAX_CORES as u64 { Some(CoreId(number)) } else { None }
    }

    /// Its number, below [`MAX_CORES`].
    pub const fn index(self) -> usize {
        self.number() as usize % MAX_CORES
    }

    /// Its number, as records keep it.
    pub const fn number(self) -> u8 {
        let [number, ..] = self.0.to_le_bytes();
        number
    }

    /// Its bit in a set of cores.
    pub fn bit(self) -> u64 {
        1 << self.index()
    }
}

/// A set of cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct CoreSet(pub u64);

impl CoreSet {
    /// No core.
    pub const NONE: CoreSet = CoreSet(0);
    /// Every core that could exist.
    pub const ALL: CoreSet = CoreSet(u64::MAX);

    /// Just this core.
    pub const fn only(core: CoreId) -> Self {
        CoreSet(1 << core.index())
    }

    /// Whether the core is in the set.
    pub fn contains(self, core: CoreId) -> bool {
        self.0 & 1 << core.index() != 0
    }

    /// Whether every core of the set is in `other`.
    pub fn is_within(self, other: CoreSet) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether a core is in both sets.
    pub fn meets(self, other: CoreSet) -> bool {
        self.0 & other.0 != 0
    }

    /// What is in either.
    pub fn union(self, other: CoreSet) -> CoreSet {
        CoreSet(self.0 | other.0)
    }

    /// Adds a core.
    pub fn insert(&mut self, core: CoreId) {
        self.0 |= 1 << core.index();
    }

    /// The lowest core of the set, taken out of it.
    pub fn pop(&mut self) -> Option<CoreId> {
        let core = CoreId::new(u64::from(self.0.trailing_zeros()))?;
        self.0 &= !(1 << core.index());
        Some(core)
    }
}

/// Why a core enters the kernel. A system call's registers, like every other thread's state, are in its
/// [`Thread`] record by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The running thread made a system call; `pc` already points behind the instruction.
    SystemCall,
    /// The running thread faulted; `pc` points at the instruction.
    Fault(Fault),
    /// An interrupt line that a driver may own.
    Interrupt(u32),
    /// The time asked for by [`Machine::set_timer`] has come.
    Timer,
    /// Another core wants this one to look again ([`Machine::kick`]).
    Kick,
    /// The core has just come up and has nothing to run.
    Start,
}

/// What a processor says about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the thread did.
    pub kind: FaultKind,
    /// The address it used, or 0.
    pub address: u64,
    /// The architecture's own cause, for people.
    pub cause: u64,
}

/// What the core does when it leaves the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run this thread, whose registers are in its record. Its address space is loaded already.
    Run(Ref<Thread>),
    /// Nothing to do: wait for an interrupt. The kernel's own root table is loaded already.
    Idle,
}

/// A mapping to be made, for [`Machine::leaf`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Physical address, aligned to the size of the page.
    pub address: u64,
    /// Read, write, execute.
    pub rights: Rights,
    /// Device memory: not cached, in order.
    pub uncached: bool,
    /// 1: a page; 2: a large page (2 MiB).
    pub level: u8,
}

/// What a page-table entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is mapped here.
    Empty,
    /// The physical address of the next table.
    Table(u64),
    /// The physical address of a page.
    Leaf(u64),
}

/// How the machine is to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Switch it off.
    PowerOff,
    /// Start again.
    Reboot,
}

/// What the core needs of a machine, as seen from the core (processor) that runs. All of it is short, and none of
/// it waits, but for `relax`, which is there for waiting, and `console_write`, which may wait for the line.
pub trait Machine {
    /// Whether the processor may remember that an address was *not* mapped, so that new mappings need a flush too.
    const CACHES_INVALID: bool;
    /// Bytes of the instruction that makes a system call. In the kernel, a thread's program counter is behind it.
    const SYSTEM_CALL_BYTES: u64;

    /// The core that this code runs on.
    fn core(&self) -> CoreId;
    /// How many cores run.
    fn cores(&self) -> u64;

    // Memory.

    /// Levels of page tables.
    fn levels(&self) -> u8;
    /// The first address past user space.
    fn user_end(&self) -> u64;
    /// The entry that maps a page.
    fn leaf(&self, mapping: Mapping) -> u64;
    /// The entry that refers to the next table, at this physical address.
    fn table(&self, address: u64) -> u64;
    /// What an entry at this level says.
    fn entry(&self, entry: u64, level: u8) -> Entry;
    /// Fills the kernel's half of a fresh (clear) root table.
    fn fill_root(&self, root: &mut [u64; 512]);
    /// How many address spaces the processor can tell apart in its translations, besides the kernel's own: tags 1 to
    /// this (PCID, ASID). Too few (see the core's bounds) are as good as none: then tag 0 is all that the core uses, and
    /// every load forgets.
    fn tags(&self) -> u64;
    /// Loads the root table at this physical address on this core, or the kernel's own for 0. What the core knows of
    /// other tags it may keep; what it knows of this one it forgets if `flush` says so, or if there are no tags. The core
    /// calls this with its lock held, so that a root table that nobody has loaded can be given other uses.
    fn load_root(&mut self, root: u64, tag: u64, flush: bool);
    /// This core forgets what it knows of the user address space that it has loaded.
    fn flush(&mut self);
    /// Makes freshly written instructions visible to this core's fetches, where the processor asks for that.
    fn synchronise_instructions(&mut self);

    // Threads.

    /// A program is about to see the registers of a thread that doesn't run, or to write to some of them: all of them
    /// stand in the record now, also those that need not for the thread to go on.
    fn shown(&self, registers: &mut Registers);
    /// A program has written to the registers of a thread that doesn't run, or has changed what it may do: whatever
    /// stands there becomes such that the processor takes it, and no core takes for granted what it knew of the thread.
    fn changed(&self, thread: &mut Thread);
    /// The frame pointer among a thread's registers, for backtraces.
    fn frame_pointer(&self, registers: &Registers) -> u64;
    /// What a foreign thread's registers ask for by its own system's convention: the call's number, six arguments.
    fn foreign_call(&self, registers: &Registers) -> [u64; 7];
    /// Puts the result of such a call where that convention expects it.
    fn set_foreign_result(&self, registers: &mut Registers, result: u64);

    // Time.

    /// Nanoseconds since the machine's clock started; the same on every core.
    fn now(&self) -> u64;
    /// Have [`Event::Timer`] happen on this core once `now` reaches this; `u64::MAX` means never.
    fn set_timer(&mut self, deadline: u64);

    // Other cores.

    /// Sends another core an inter-core interrupt: [`Event::Kick`] happens there if it runs user code or is idle.
    fn kick(&mut self, core: CoreId);
    /// One round of waiting for another core.
    fn relax(&self);

    // Interrupts and ports.

    /// Whether a driver can own this line (the kernel keeps its timers and inter-core interrupts to itself).
    fn interrupt_exists(&self, line: u32) -> bool;
    /// Sets a line up, masked, to arrive at the boot core.
    fn interrupt_configure(&mut self, line: u32, level: bool, active_low: bool);
    /// For a line that is a message: the physical address and the value that a device writes to raise it;
    /// `Unsupported` if it is none.
    fn interrupt_message(&self, line: u32) -> Result<(u64, u64), Error>;
    /// Lets the line interrupt.
    fn interrupt_unmask(&mut self, line: u32);
    /// Keeps the line from interrupting.
    fn interrupt_mask(&mut self, line: u32);
    /// Reads an I/O port. `size` is 1, 2 or 4.
    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, Error>;
    /// Writes an I/O port. `size` is 1, 2 or 4.
    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), Error>;

    // Console and power.

    /// Writes to the kernel's console.
    fn console_write(&mut self, bytes: &[u8]);
    /// Powers off or reboots; returns only if the machine can't.
    fn reset(&mut self, reset: Reset);
}
