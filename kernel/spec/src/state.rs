//! What there is: the kernel's state.

use std::collections::{BTreeMap, VecDeque};

use anos_abi::{Kind, MESSAGE_WORDS, Rights};

use crate::{Choices, Event};

/// A physical or virtual address. A kernel object is known by the physical address at which it begins.
pub type Address = u64;

/// Names a capability, wherever it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapId(pub u64);

/// Where a capability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a capability table, which begins at this address, at this index.
    Table(Address, u64),
    /// In a thread.
    Thread(Address, Part),
    /// With an interrupt line, which signals it.
    Line(u64),
    /// Nowhere: the origin that the capabilities of one family have had since the machine booted. Nobody holds it.
    Origin(u64),
}

/// The capabilities that a thread has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Its capability table.
    Table,
    /// Its address space.
    Space,
    /// Where its faults go.
    FaultEndpoint,
    /// The notification bound to it.
    Bound,
    /// Its scheduling context.
    Context,
}

impl Part {
    /// All of them, in the order in which a thread that ends loses them.
    pub const ALL: [Part; 5] = [Part::Table, Part::Space, Part::FaultEndpoint, Part::Bound, Part::Context];
}

/// A capability: what its holder may do to which object, and what was derived from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The kind of object; `Empty` only for an origin.
    pub kind: Kind,
    /// What may be done.
    pub rights: Rights,
    /// The object: where it begins in physical memory; or the number of a line, a core, a first port.
    pub object: Address,
    /// Pages of an Untyped or Frame; slots of a CapTable; the last port of an IoPort; else 0.
    pub size: u64,
    /// Untyped, Frame: device memory.
    pub device: bool,
    /// Endpoint, Notification: tells its holders apart.
    pub badge: u64,
    /// Frame, PageTable: where it was mapped. Remembered until it is unmapped, even if the mapping has gone meanwhile,
    /// with the address space or with a table on the way.
    pub mapped: Option<Mapped>,
    /// Untyped: the watermark. So many bytes from its start have been handed out, if anything made of it is left.
    pub used: u64,
    /// Untyped: the kind of the objects in the page that the watermark cuts in two; and their core, of SchedContexts.
    pub open: (Kind, u64),
    /// CapTable: so many of its slots have been emptied, while it ends; else 0.
    pub emptied: u64,
    /// Where it is.
    pub place: Place,
    /// What it was derived from.
    pub parent: Option<CapId>,
    /// What was derived from it, the newest first.
    pub children: VecDeque<CapId>,
}

/// Where a Frame or PageTable was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The id of the address space, which is never used twice.
    pub space: u64,
    /// The address space's own address.
    pub root: Address,
    /// The virtual address.
    pub address: Address,
    /// PageTable: its level; Frame: 0.
    pub level: u8,
}

/// A capability table. Slot 0 can't be named; the last capability to the table itself may end up there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its slots that aren't empty.
    pub slots: BTreeMap<u64, CapId>,
}

/// An address space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Its id.
    pub id: u64,
    /// The page tables in it, by level and first address covered.
    pub tables: BTreeMap<(u8, Address), Address>,
    /// What is mapped, by virtual address.
    pub pages: BTreeMap<Address, Page>,
}

/// A mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it lies in physical memory.
    pub physical: Address,
    /// What programs may do there.
    pub rights: Rights,
    /// Accesses go past the caches.
    pub uncached: bool,
    /// A page of 2 MiB rather than 4 KiB.
    pub large: bool,
}

/// A thread's registers, by the roles that they have in a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Operation in, status out.
    pub operation: u64,
    /// Label.
    pub label: u64,
    /// Slots in, badge out.
    pub slots: u64,
    /// Reply slot.
    pub reply: u64,
    /// Deadline.
    pub deadline: u64,
    /// Message words.
    pub words: [u64; MESSAGE_WORDS],
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Thread pointer.
    pub tp: u64,
    /// All others.
    pub others: [u64; 24],
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not started, or suspended.
    Stopped,
    /// Runs, or could.
    Ready,
    /// Waits at this Endpoint for somebody to take its message.
    Sending(Address, Sending),
    /// Waits for the answer through this Reply.
    Calling(Address),
    /// Waits at this Endpoint for a message, or for the signals of the Notification bound to it.
    Receiving(Address),
    /// Waits for signals of this Notification.
    Waiting(Address),
    /// Waits for its fault handler to answer through this Reply.
    Faulted(Address),
}

/// What it is that a thread sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The badge that the receiver will see.
    pub badge: u64,
    /// What becomes of the sender afterwards.
    pub then: Then,
}

/// What becomes of a sender once its message has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    GoesOn,
    /// It waits for the answer.
    Calls,
    /// It faulted, and waits to hear what to do.
    Faults,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its registers. While it waits, its message is in them.
    pub registers: Registers,
    /// Its own capabilities.
    pub parts: [Option<CapId>; 5],
    /// What it is doing.
    pub state: State,
    /// When its wait ends, if it waits and not for ever. Ready, it waits for CPU time.
    pub deadline: Option<u64>,
    /// What it told its handler last, or would have: kind, address, cause. Kind 0 when that is over.
    pub fault: [u64; 3],
    /// Its system calls are another system's: its handler is told of each.
    pub foreign: bool,
    /// Floating-point instructions are illegal for it.
    pub no_fpu: bool,
    /// What people call it.
    pub name: [u64; 4],
    /// The scheduling context that it has, or has lent: its own, or a borrowed one.
    pub context: Option<Address>,
    /// Who has lent it that.
    pub lender: Option<Address>,
    /// To whom it has lent that.
    pub borrower: Option<Address>,
    /// Its priority; 255 is the most urgent.
    pub priority: u8,
    /// Its own priority, to which it goes back with CPU time of its own.
    pub own_priority: u8,
    /// The highest priority that it may give.
    pub ceiling: u8,
    /// The core that it runs on.
    pub core: usize,
    /// CPU time used, ns.
    pub cpu_time: u64,
    /// What is left of its turn, ns, if it was interrupted in it by a more urgent thread; else 0.
    pub turn_left: u64,
}

/// A scheduling context: CPU time of one core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The core.
    pub core: usize,
    /// CPU time in every period, ns.
    pub budget: u64,
    /// The period, ns; 0: no limit.
    pub period: u64,
    /// What is left now, ns; negative if the last run was longer than that.
    pub left: i64,
    /// What comes back when (ns, ns), the first one first.
    pub refills: VecDeque<(u64, u64)>,
    /// Running out is a fault.
    pub faults: bool,
    /// CPU time used so far, ns.
    pub used: u64,
    /// The thread that it is bound to.
    pub owner: Option<Address>,
    /// The thread that runs on it: the owner, or the last of those through whose hands it has gone.
    pub user: Option<Address>,
    /// Through how many hands it has gone.
    pub lent: u8,
}

/// An Endpoint: who waits there, the first one first. All wait to send, or all to receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Threads that wait to send.
    pub senders: VecDeque<Address>,
    /// Threads that wait to receive.
    pub receivers: VecDeque<Address>,
    /// The badge whose waits were being called off last.
    pub cancelled: u64,
    /// The sender that is looked at next, if not all have been.
    pub cursor: Option<Address>,
}

/// A Notification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notification {
    /// Bits signalled and not yet taken.
    pub bits: u64,
    /// Threads that wait, the first one first.
    pub waiters: VecDeque<Address>,
    /// The thread that it is bound to.
    pub bound: Option<Address>,
}

/// An interrupt line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// There is an Interrupt capability to it.
    pub taken: bool,
    /// It is level-triggered.
    pub level: bool,
    /// The machine lets its interrupts through.
    pub unmasked: bool,
    /// The Notification capability that it signals.
    pub signals: Option<CapId>,
}

/// A core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Core {
    /// The thread that runs, or, while the core is in the kernel, that ran.
    pub current: Option<Address>,
    /// The address space that is loaded.
    pub loaded: Option<Address>,
    /// Threads that could run and don't, by priority, the next one first.
    pub ready: BTreeMap<u8, VecDeque<Address>>,
    /// When the current thread's turn ends, ns.
    pub turn_end: u64,
    /// Time spent without a thread, ns.
    pub idle_time: u64,
    /// Until when its time has been accounted for, ns.
    pub since: u64,
    /// Switches to another thread.
    pub switches: u64,
    /// How often it was asked for what.
    pub counters: Counters,
    /// What the core entered the kernel for, while it waits for others to leave it.
    pub trapped: Option<Event>,
}

/// What is fixed about a machine, and what the kernel has done to its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Levels of page tables.
    pub levels: u8,
    /// Lines that programs can own: 1 to this.
    pub last_line: u64,
    /// Whether there are I/O ports.
    pub io_ports: bool,
    /// The first of the lines that are messages.
    pub first_message: u64,
    /// Where devices write those.
    pub message_address: Address,
    /// The root server's first thread.
    pub root_thread: Address,
    /// Bytes of the instruction that makes a system call.
    pub system_call_bytes: u64,
    /// What was written to each I/O port.
    pub ports: BTreeMap<u16, u32>,
    /// What was written to the kernel's console.
    pub console: Vec<u8>,
}

/// How often programs and devices asked a core for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// System calls.
    pub calls: u64,
    /// Interrupts, timers included.
    pub interrupts: u64,
    /// Faults.
    pub faults: u64,
}

/// The kernel's state.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// The machine.
    pub machine: Machine,
    /// The time, ns.
    pub now: u64,
    /// All capabilities, and the origins of their families.
    pub capabilities: BTreeMap<CapId, Capability>,
    /// All CapTables.
    pub tables: BTreeMap<Address, Table>,
    /// All AddressSpaces.
    pub spaces: BTreeMap<Address, Space>,
    /// The id of the last AddressSpace made.
    pub last_space: u64,
    /// All Threads.
    pub threads: BTreeMap<Address, Thread>,
    /// All Endpoints.
    pub endpoints: BTreeMap<Address, Endpoint>,
    /// All Notifications.
    pub notifications: BTreeMap<Address, Notification>,
    /// All SchedContexts.
    pub contexts: BTreeMap<Address, Context>,
    /// All Replies, each with the thread that waits for the answer.
    pub replies: BTreeMap<Address, Option<Address>>,
    /// The interrupt lines.
    pub lines: BTreeMap<u64, Line>,
    /// The cores.
    pub cores: Vec<Core>,
    // Only during a step:
    /// The core that takes it.
    pub(crate) me: usize,
    /// The running thread lets others of its priority go first.
    pub(crate) turn_over: bool,
    /// What is left to the kernel.
    pub(crate) choices: Choices,
    /// Threads whose waits were called off.
    pub(crate) woken: usize,
    // Always:
    /// What the last new capability is called.
    pub(crate) last_id: u64,
}
