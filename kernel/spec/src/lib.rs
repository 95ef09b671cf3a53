//! What the Anos kernel does: its whole behaviour as maps, sets and queues, with no cleverness.
//!
//! The real kernel (`kernel/core`) keeps its state in flat records in memory and takes care of locks, bounds and bytes.
//! This one says the same without any of that: capabilities are a tree, tables are maps, waiting threads are queues.
//! It shares no code with the kernel but the ABI. Tests run both side by side and compare all that can be observed
//! after every step (`tests/refinement`); where they differ, one of them is wrong.
//!
//! Read it as the definition. Each rule stands once, and a rule's checks stand in the order in which the kernel makes
//! them, so that it is defined which of two errors a doubly wrong call answers. A call that is refused has changed
//! nothing, but for `Again`, which says that part of the work is done.
//!
//! | file | what it defines |
//! |---|---|
//! | `state` | what there is |
//! | `capability` | where capabilities come from, and what becomes of them |
//! | `ending` | what ends with the last capability to it |
//! | `call` | the five system calls |
//! | `method` | which method of which object a call asks for, and which right that takes |
//! | `table` | methods of a CapTable |
//! | `untyped` | memory into objects |
//! | `memory` | address spaces |
//! | `ipc`, `notification` | who gets a message or a signal, who waits |
//! | `thread`, `fault` | threads' methods; what happens when one faults |
//! | `schedule`, `deadline` | who runs; until when a wait lasts |
//! | `context` | CPU time: budgets, and who lends whom |
//! | `interrupt`, `device` | interrupt lines; ports, console, power |
//! | `invariants` | what is true of every state |
//! | `difference` | in what two states differ, in words |
//!
//! Some things are left to the kernel: see [`Choices`]. And one rule is beyond what any machine here can reach: a
//! capability that stems from another through 2^32 - 1 others can have no children (`TooDeep`).
#![forbid(unsafe_code)]

mod call;
mod capability;
mod context;
mod deadline;
mod device;
pub mod difference;
mod ending;
mod fault;
mod interrupt;
pub mod invariants;
mod ipc;
mod memory;
mod method;
mod notification;
mod schedule;
pub mod state;
mod table;
mod thread;
mod untyped;

use anos_abi::Error;
use anos_abi::fault::FaultKind;

pub use schedule::TIME_STEPS;
pub use state::{
    Address, CapId, Capability, Context, Core, Endpoint, Line, Machine, Mapped, Notification, Page, Part, Place,
    Registers, Sending, Space, Spec, State, Table, Thread,
};

/// What a rule answers. An error is a refusal, and has changed nothing; but `Again` has done part of the work.
pub type Outcome<T = ()> = Result<T, Error>;

/// Why a core enters the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The running thread makes the system call that its registers ask for.
    SystemCall,
    /// The running thread faulted.
    Fault(Fault),
    /// An interrupt line asks for service.
    Interrupt(u64),
    /// The core's timer went off.
    Timer,
    /// Another core wants this one to look whom it should run. May come at any time.
    Kick,
}

/// What a processor says about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the thread did.
    pub kind: FaultKind,
    /// The address that it used, or 0.
    pub address: Address,
    /// The processor's own cause.
    pub cause: u64,
}

/// What this specification leaves to the kernel: it takes over what the kernel chose, and checks that it might.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// A retype that needs more pages cleared than the kernel clears in one go answers `Again`. How often depends on
    /// what is clear already.
    pub still_clearing: bool,
    /// Whose deadlines a timer interrupt ends, in this order. All must be due; some that are due may wait for the next
    /// interrupt, which then comes at once.
    pub timed_out: Vec<Address>,
    /// A core that had put its thread back and then lacked a lock begins anew, and has forgotten whom it ran: if that is
    /// whom it runs next, it counts a switch all the same.
    pub forgot: bool,
    /// How many threads without time it had put aside by then: those stay so, and beginning anew it puts aside as many as
    /// in any visit.
    pub put_aside: usize,
    /// What the counters say of its effort: inter-core interrupts, shootdowns, locks taken, locks waited for.
    pub effort: [u64; 4],
    /// What Debug shows of a page or a thread that is named by its physical address, which is for people; `None` if it
    /// refuses.
    pub shown: Option<[u64; 8]>,
}

impl Spec {
    /// A core is in user mode or idle, and leaves that for an event. What it does about the event is decided when it
    /// has the kernel to itself, in [`Spec::enter`]; until then others may go first.
    pub fn trap(&mut self, core: usize, event: Event) {
        assert!(self.cores[core].trapped.is_none(), "core {core} is in the kernel already");
        self.cores[core].trapped = Some(event);
    }

    /// A core that has trapped handles its event, and then runs the thread that it should run.
    pub fn enter(&mut self, core: usize, now: u64, choices: &Choices) {
        let event = self.cores[core].trapped.expect("the core has trapped");
        self.me = core;
        self.choices = choices.clone();
        self.woken = 0;
        self.now = now;
        match event {
            Event::SystemCall => self.system_call(),
            Event::Fault(fault) => self.fault(fault),
            Event::Interrupt(line) => self.interrupt(line),
            Event::Timer => self.timer(),
            Event::Kick => {}
        }
        let counters = &mut self.cores[core].counters;
        match event {
            Event::SystemCall => counters.calls += 1,
            Event::Fault(_) => counters.faults += 1,
            Event::Interrupt(_) | Event::Timer => counters.interrupts += 1,
            Event::Kick => {}
        }
        self.leave();
    }

    /// Both at once.
    pub fn step(&mut self, core: usize, event: Event, now: u64, choices: &Choices) {
        self.trap(core, event);
        self.enter(core, now, choices);
    }
}
