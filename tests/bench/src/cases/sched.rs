//! Giving way to threads of the same priority.

use anos::abi::{Operation, SystemCall};

use super::ipc::CLIENT;
use super::{ROUNDS, measurements, repeated};
use crate::arch::Entry;
use crate::figures::{Outcome, one_way};
use crate::record::{Record, Request};
use crate::stage::{Place, Stage, signal_done};

measurements![
    "sched/yield_switch": yield_switch,
    "sched/yield_same": yield_same,
];

/// The operation's number, and 0 for a target. It is not the number 0, so it is a request.
fn yield_now() -> Request {
    Request { operation: Operation::new(SystemCall::Yield, 0).0, ..Request::default() }
}

/// To a thread in the other address space that has given way before.
fn yield_switch(stage: &mut Stage) -> Outcome {
    let record = |rounds| Record { rounds, measured: yield_now(), last: signal_done(), ..Record::default() };
    let there = stage.worker(Place::There, CLIENT, Entry::Call, record(u64::MAX))?;
    let here = stage.worker(Place::Here, CLIENT, Entry::Call, record(ROUNDS + 1))?;
    here.start()?;
    there.start()?;
    stage.run()?;
    Ok(one_way(here.samples().get(1..).unwrap_or_default(), &there.samples(), stage.overhead))
}

/// Nobody else is there.
fn yield_same(stage: &mut Stage) -> Outcome {
    repeated(stage, yield_now(), Request::default())
}
