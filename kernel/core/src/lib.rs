//! The kernel's decisions: capabilities, messages, scheduling, memory.
//!
//! The core is a function: a core (processor) comes in with an [`Event`], the state changes, and it leaves with a
//! [`Next`]. A visit begins with the lock of its own core. A transition asks for all that it will change (`need`, or the
//! functions whose names begin so) before it changes the first: if a lock is missing, it begins anew with more. What ends
//! an object takes all locks. No unsafe code, no allocation, no function pointers, no recursion; every loop has a constant
//! bound, which [`bounds`] lists.
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
//! | `quick` | the short way of what is most usual: messages, signals, yields, methods, faults, interrupts |
//! | `thread`, `fault` | threads' methods; what happens when one faults |
//! | `schedule`, `deadline` | who runs; until when a wait lasts |
//! | `context` | CPU time: budgets, and what callers lend |
//! | `interrupt` | interrupt lines, ports, and the control capabilities |
//! | `boot` | the root server's first state |
#![no_std]
#![forbid(unsafe_code)]

use anos_machine::store::Object;
use anos_machine::{CoreId, CoreSet, Event, Held, Machine, Next, Place, Reason, Ref, Shared, Stop};

pub mod boot;
pub mod bounds;
mod call;
mod context;
mod deadline;
mod family;
mod fault;
mod interrupt;
mod invoke;
mod ipc;
mod memory;
mod notification;
mod quick;
mod schedule;
mod state;
mod table;
mod thread;
mod untyped;

use call::Answer;
pub use fault::hexadecimal;
pub use quick::{quick, quick_event};
pub use state::{CoreState, Counters, Global, Tag, Timers};

/// Everything the kernel knows, but for what lies in memory.
pub type Kernel = Shared<CoreState, Global>;

/// What a step of a transition answers. Long work that isn't finished is refused with `Again`: what was done stays done,
/// and the caller asks again.
pub(crate) type Outcome<T = ()> = Result<T, Stop>;

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
    /// It goes the short way: what that can't do needs more locks.
    pub short: bool,
    /// What a kernel object answers to the call at hand.
    pub answer: Answer,
    /// Threads that were told that what they waited for ends.
    pub woken: usize,
}

/// A core enters the kernel, and learns what to do next. The thread that ran on it, if any, has its registers in its
/// record by now.
pub fn enter<M: Machine>(kernel: &Kernel, machine: &mut M, event: Event) -> Next {
    let mut entry = Entry::new(kernel, machine, event);
    // bound: MAX_CORES
    loop {
        if let Some(next) = entry.attempt(kernel, machine) {
            return next;
        }
    }
}

/// A core's way through the kernel: attempts, each with the locks of more cores, until one has all that it needs.
#[derive(Debug)]
pub struct Entry {
    /// What is still to be done, apart from leaving.
    event: Option<Event>,
    cores: CoreSet,
}

impl Entry {
    /// A core comes in, and has no lock yet.
    pub fn new<M: Machine>(kernel: &Kernel, machine: &M, event: Event) -> Entry {
        let place = if event == Event::SystemCall { Place::KernelWithCall } else { Place::Kernel };
        kernel.presence.set(machine.core(), place);
        Entry { event: Some(event), cores: CoreSet::NONE }
    }

    /// Whether the event has not been dealt with yet.
    pub fn is_pending(&self) -> bool {
        self.event.is_some()
    }

    /// Tries with the locks known to be needed. `None`: it took more, and nothing has happened; the next attempt knows
    /// which. (Of an event that stands for many steps, some may have been done: they are then behind it.)
    #[inline(never)]
    pub fn attempt<M: Machine>(&mut self, kernel: &Kernel, machine: &mut M) -> Option<Next> {
        let me = machine.core();
        let held = kernel.hold(me, self.cores, || wait(kernel, machine, me));
        let mut visit = Visit { held, machine, kernel, me, short: false, answer: Answer::none(), woken: 0 };
        match visit.handle(&mut self.event) {
            Ok(next) => return Some(next),
            Err(stop) => match stop.reason() {
                Reason::Elsewhere(core) => self.cores.insert(core),
                Reason::Everywhere => self.cores = every_core(visit.machine),
                // Only a damaged queue of this very core leads here: rest rather than run something wrong.
                Reason::Refused(_) => return Some(visit.give_up()),
            },
        }
        if self.event.is_none() {
            // It has been looked at, and must not be made again.
            kernel.presence.set(me, Place::Kernel);
        }
        None
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

/// All cores that run.
fn every_core<M: Machine>(machine: &M) -> CoreSet {
    let cores = machine.cores();
    CoreId::new(cores).map_or(CoreSet::ALL, |end| CoreSet((1 << end.index()) - 1))
}

impl<M: Machine> Visit<'_, M> {
    /// Does what is to be done, and decides who runs. Either may need more locks; what is done is done once.
    fn handle(&mut self, event: &mut Option<Event>) -> Outcome<Next> {
        let (locks, waits) = self.held.effort();
        if let Some(what) = *event {
            match what {
                Event::SystemCall => self.system_call()?,
                Event::Fault(fault) => self.fault(fault)?,
                Event::Interrupt(line) => self.interrupt(line)?,
                Event::Timer => self.timer()?,
                Event::Start => self.start_timer()?,
                Event::Kick => {}
            }
            *event = None;
            let counters = &mut self.mine()?.counters;
            let counter = match what {
                Event::SystemCall => Some(&mut counters.calls),
                Event::Fault(_) => Some(&mut counters.faults),
                Event::Interrupt(_) | Event::Timer => Some(&mut counters.interrupts),
                Event::Kick | Event::Start => None,
            };
            if let Some(counter) = counter {
                *counter += 1;
            }
        }
        let next = self.leave()?;
        let counters = &mut self.mine()?.counters;
        counters.locks += locks;
        counters.waits += waits;
        Ok(next)
    }

    /// This core's state. (Not inlined: the kernel is smaller so.)
    #[inline(never)]
    pub fn mine(&mut self) -> Outcome<&mut CoreState> {
        self.held.core(self.me)
    }

    /// Goes on only with the locks of all cores: something is about to end, or to be set up, that any core may use.
    pub fn need_all(&self) -> Outcome {
        let all = !self.short && every_core(self.machine).is_within(self.held.cores());
        if all { Ok(()) } else { Err(Stop::EVERYWHERE) }
    }

    /// Goes on only if this object can be changed, with the locks that are held.
    pub fn need<T: Object>(&self, object: Ref<T>) -> Outcome {
        match object.some() {
            Some(object) => self.held.store.own(object.address()).map(|_| ()),
            None => Ok(()),
        }
    }
}
