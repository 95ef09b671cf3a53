//! What can only be seen over time: refused calls change nothing, new memory is clear, interrupted programs find
//! their registers as they left them, and no capability gets another above it.

use std::collections::HashMap;

use anos_abi::Kind;
use anos_abi::object::{Method, ThreadState};
use anos_machine::{CoreId, Ref, Registers, Thread};
use anos_sim::check::World;
use anos_sim::{Sim, core_id};

use crate::generate::{self, Request};

/// What is remembered from step to step.
#[derive(Debug, Default)]
pub struct Watch {
    /// Registers of threads that were interrupted, and not by a call of their own.
    interrupted: HashMap<u64, Registers>,
}

fn words(registers: &Registers) -> Vec<u64> {
    let roles = [registers.operation, registers.label, registers.slots, registers.reply, registers.deadline];
    let mut all = registers.words.to_vec();
    all.extend(roles);
    all.extend([registers.pc, registers.sp, registers.tp]);
    all.extend(registers.other);
    all
}

impl Watch {
    /// A core is about to be interrupted, or to fault.
    pub fn trapped(&mut self, sim: &Sim, core: CoreId) {
        let processor = &sim.board.processors[core.index()];
        if let Some(thread) = processor.thread.some() {
            self.interrupted.insert(thread.address(), processor.registers);
        }
    }

    /// The same for cores that another's step interrupted: those that are in the kernel now, and weren't `before`.
    pub fn interrupted(&mut self, sim: &Sim, before: &[bool]) {
        for (processor, before) in sim.board.processors.iter().zip(before) {
            if let Some(thread) = processor.thread.some()
                && processor.trapped.is_some()
                && !before
            {
                self.interrupted.insert(thread.address(), processor.registers);
            }
        }
    }

    /// A thread was started afresh, or its registers were written.
    pub fn started(&mut self, world: &World, caller: Ref<Thread>, target: u32) {
        if let Some(target) = generate::slot_of(world, caller, target) {
            self.interrupted.remove(&target.object);
        }
    }

    /// A call that failed must have changed nothing.
    pub fn unchanged(&self, before: &World, after: &World, method: Option<Method>) {
        for (at, slot) in &before.slots {
            assert_eq!(after.slots.get(at), Some(slot), "{method:?} failed, and changed {at:#x}");
        }
        assert_eq!(before.slots.len(), after.slots.len(), "{method:?} failed, and made a capability");
        // (On the way out, a thread may have been found to be out of time, and told its handler.)
        let no_time = |world: &World| world.threads.values().filter(|thread| thread.no_time).count();
        if no_time(before) != no_time(after) {
            return;
        }
        for (at, thread) in &before.threads {
            let now = after.threads.get(at).map(|thread| (thread.state, thread.waits_on, thread.core));
            assert_eq!(
                now,
                Some((thread.state, thread.waits_on, thread.core)),
                "{method:?} failed, and changed {at:#x}"
            );
        }
    }

    /// Compares two moments.
    pub fn step(&mut self, sim: &Sim, before: &World, after: &World, done: Option<Request>) {
        self.registers(sim, after);
        if done.is_some_and(|request| request.method.is_some()) {
            no_adoption(before, after);
        }
        let retyped = done.is_some_and(|request| request.method == Some(Method::UntypedRetype));
        if retyped {
            fresh(sim, before, after);
        }
    }

    fn registers(&mut self, sim: &Sim, after: &World) {
        self.interrupted.retain(|thread, _| after.has_capability(Kind::Thread, *thread));
        for core in 0..sim.board.config.cores {
            let processor = &sim.board.processors[core_id(core).index()];
            if processor.trapped.is_some() {
                continue;
            }
            let thread = processor.thread.address();
            if let Some(left) = self.interrupted.remove(&thread) {
                assert_eq!(
                    words(&processor.registers),
                    words(&left),
                    "{thread:#x} finds other registers on core {core}"
                );
            }
        }
    }
}

/// A capability that was there before stems from nothing that it did not stem from before. (Not told where some went
/// and some came: they may have moved.)
fn no_adoption(before: &World, after: &World) {
    let went = before.slots.keys().any(|at| !after.slots.contains_key(at));
    let came = after.slots.keys().any(|at| !before.slots.contains_key(at));
    if went && came {
        return;
    }
    for (at, parent) in &after.parents {
        // A thread's own slots are replaced in place.
        if before.slots.contains_key(at) && after.kind_of(*at) == Some(Kind::CapTable) {
            let mut above = before.parents.get(at);
            while above.is_some_and(|above| above != parent) {
                above = above.and_then(|above| before.parents.get(above));
            }
            assert!(above.is_some(), "{at:#x} was adopted by {parent:#x}");
        }
    }
}

/// What a retype made is as new.
fn fresh(sim: &Sim, before: &World, after: &World) {
    for (at, slot) in after.slots.iter().filter(|(at, _)| !before.slots.contains_key(at)) {
        match slot.kind() {
            Kind::Frame if slot.device == 0 => {
                let clear = sim.frame_words(slot).all(|word| word == 0);
                assert!(clear, "new memory is not clear: {at:#x} {slot:x?}");
            }
            Kind::PageTable => {
                let clear = sim.page(slot.object).iter().all(|&word| word == 0);
                assert!(clear, "a new page table is not clear: {at:#x} {slot:x?}");
            }
            Kind::Thread => {
                let thread = &after.threads[&slot.object];
                let clear = thread.state == ThreadState::Stopped && thread.slots.iter().all(|slot| slot.is_empty());
                assert!(clear, "a new thread is not: {thread:x?}");
            }
            _ => {}
        }
    }
}
