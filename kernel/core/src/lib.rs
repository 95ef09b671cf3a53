//! The kernel's decisions: capabilities, messages, scheduling, memory.
//!
//! The core is a function: a core (processor) comes in with an [`Event`], the state changes, and it leaves with a
//! [`Next`]. No unsafe code, no allocation, no function pointers, no recursion; every loop has a constant bound, which
//! [`bounds`] lists.
//!
//! | file | what it decides |
//! |---|---|
//! | `call` | what a system call's registers ask for |
//! | `invoke` | which method of which object that is |
//! | `family` | where capabilities come from: derive, move, delete, revoke |
//! | `table` | methods of a CapTable |
//! | `untyped` | memory into objects |
//! | `memory` | page tables and mappings |
//! | `ipc`, `notification` | who gets a message or a signal, who waits |
//! | `thread`, `fault` | threads' methods; what happens when one faults |
//! | `schedule`, `deadline` | who runs; until when a wait lasts |
//! | `interrupt` | interrupt lines, ports, and the control capabilities |
//! | `boot` | the root server's first state |
#![no_std]
#![forbid(unsafe_code)]

use anos_machine::{CoreId, CoreSet, Event, Held, Machine, Next, Place, Reason, Shared, Stop};

pub mod boot;
pub mod bounds;
mod call;
mod deadline;
mod family;
mod fault;
mod interrupt;
mod invoke;
mod ipc;
mod memory;
mod notification;
mod schedule;
mod state;
mod table;
mod thread;
mod untyped;

pub use fault::hexadecimal;
pub use state::{CoreState, Counters, Global, Timers};

/// Everything the kernel knows, but for what lies in memory.
pub type Kernel = Shared<CoreState, Global>;

/// What a step of a transition answers.
pub(crate) type Outcome<T = ()> = Result<T, Stop>;

/// Whether something is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Progress {
    /// Nothing is left to do.
    Done,
    /// The caller must ask again.
    Again,
}

/// One core's visit to the kernel.
pub(crate) struct Visit<'a, M> {
    /// What the locks guard.
    pub held: Held<'a, CoreState, Global>,
    /// The machine.
    pub machine: &'a mut M,
    /// The kernel, for what needs no lock.
    pub kernel: &'a Kernel,
    /// This core.
    pub me: CoreId,
}

/// A core enters the kernel, and learns what to do next. The thread that ran on it, if any, has its registers in its
/// record by now.
pub fn enter<M: Machine>(kernel: &Kernel, machine: &mut M, event: Event) -> Next {
    let me = machine.core();
    kernel.presence.set(me, if event == Event::SystemCall { Place::KernelWithCall } else { Place::Kernel });
    let mut cores = every_core(machine);
    loop {
        let held = kernel.hold(cores, || wait(kernel, machine, me));
        kernel.presence.set(me, Place::Kernel);
        let mut visit = Visit { held, machine, kernel, me };
        match visit.handle(event) {
            Ok(next) => return next,
            Err(stop) => match stop.reason() {
                Reason::Elsewhere(core) => cores.insert(core),
                // Only a damaged queue of this very core leads here: rest rather than run something wrong.
                Reason::Refused(_) => return visit.give_up(),
            },
        }
    }
}

/// One round of waiting for another core: this one flushes if asked to.
fn wait<M: Machine>(kernel: &Kernel, machine: &mut M, me: CoreId) {
    if kernel.presence.must_flush(me) {
        machine.flush();
        kernel.presence.flushed(me);
    }
    machine.relax();
}

/// The first set of locks to try: for now, all of them.
fn every_core<M: Machine>(machine: &M) -> CoreSet {
    let cores = machine.cores();
    CoreId::new(cores).map_or(CoreSet::ALL, |end| CoreSet((1 << end.index()) - 1))
}

impl<M: Machine> Visit<'_, M> {
    fn handle(&mut self, event: Event) -> Outcome<Next> {
        match event {
            Event::SystemCall => self.system_call()?,
            Event::Fault(fault) => self.fault(fault)?,
            Event::Interrupt(line) => self.interrupt(line)?,
            Event::Timer => self.timer()?,
            Event::Kick | Event::Start => {}
        }
        self.leave()
    }

    /// This core's state.
    pub fn mine(&mut self) -> Outcome<&mut CoreState> {
        self.held.core(self.me)
    }
}
