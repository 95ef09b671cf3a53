//! A new thread.

use alloc::vec::Vec;

use anos::Kind;
use anos::abi::boot::slot;
use anos::abi::object::Method;
use anos::capability::{SchedControl, Slot, Untyped};

use super::ipc::{CLIENT, SERVER};
use super::{ROUNDS, measurements};
use crate::arch::Entry;
use crate::figures::Outcome;
use crate::record::{Record, Request};
use crate::stage::{OWN_SPACE, OWN_TABLE, Place, Stage, signal_done};

measurements![
    "thread/create_to_first_instruction": create,
];

/// From nothing to a running thread of higher priority in the same address space: its objects (Thread and SchedContext,
/// and the page that each lies in is cleared), their connections, and the start. With the creator's own instructions,
/// about 20 for each of the seven calls.
fn create(stage: &mut Stage) -> Outcome {
    (0..ROUNDS).map(|_| create_once(stage)).collect::<Outcome<Vec<u64>>>()
}

fn create_once(stage: &mut Stage) -> Outcome<u64> {
    let memory = stage.make_in::<Untyped>(Place::Here, 8)?;
    let time = stage.give(Place::Here, SchedControl::at(Slot::new(slot::SCHED_CONTROL)))?;
    let (thread, context) = (stage.slot_in(Place::Here), stage.slot_in(Place::Here));
    let arrived = Record { last: signal_done(), ..Record::default() };
    // Its thread is never started: its record is the new one's.
    let new = stage.worker(Place::Here, SERVER, Entry::Arrive, arrived)?;
    let retype = |kind, to| Request::method(memory, Method::UntypedRetype, &[kind as u64, 0, 1, 0]).with_slots(0, to);
    let set = |method, words: &[u64], pass| Request::method(thread, method, words).with_slots(pass, 0);
    let steps = [
        retype(Kind::Thread, thread),
        retype(Kind::SchedContext, context).with_slots(time, context),
        set(Method::ThreadSetTable, &[], OWN_TABLE),
        set(Method::ThreadSetSpace, &[], OWN_SPACE),
        set(Method::ThreadSetContext, &[], context),
        set(Method::ThreadSetPriority, &[SERVER.into(), SERVER.into()], 0),
        set(Method::ThreadStart, &[Stage::entry(Entry::Arrive), new.address], 0),
    ];
    let creator = stage.worker(Place::Here, CLIENT, Entry::Steps, Record { steps, ..Record::default() })?;
    creator.start()?;
    stage.run()?;
    let taken = new.record().stamps.end - creator.record().stamps.start;
    stage.clear()?;
    Ok(taken.wrapping_sub(stage.overhead))
}
