//! Signals.

use anos::abi::{Status, SystemCall};
use anos::capability::Notification;

use super::ipc::{CLIENT, SERVER};
use super::{ROUNDS, measurements, repeated};
use crate::arch::Entry;
use crate::figures::{Outcome, one_way};
use crate::record::{Record, Request};
use crate::stage::{Place, Stage, signal_done};

measurements![
    "notify/signal_waiter": signal_waiter,
    "notify/signal_idle": signal_idle,
];

/// To a thread of higher priority in the other address space that waits for it.
fn signal_waiter(stage: &mut Stage) -> Outcome {
    let notification: Notification = stage.make(0)?;
    let bit = stage.give_badged(Place::Here, notification, 1)?;
    let waited = stage.give(Place::There, notification)?;
    let waiter = stage.worker(
        Place::There,
        SERVER,
        Entry::Call,
        Record {
            rounds: u64::MAX,
            status: Status::SIGNAL,
            measured: Request::new(SystemCall::Recv, waited, &[]),
            ..Record::default()
        },
    )?;
    waiter.start()?;
    let signaller = stage.worker(
        Place::Here,
        CLIENT,
        Entry::Call,
        Record {
            rounds: ROUNDS,
            measured: Request::new(SystemCall::Send, bit, &[]),
            last: signal_done(),
            ..Record::default()
        },
    )?;
    signaller.start()?;
    stage.run()?;
    Ok(one_way(&signaller.samples(), &waiter.samples(), stage.overhead))
}

/// Nobody waits: there and back.
fn signal_idle(stage: &mut Stage) -> Outcome {
    let notification: Notification = stage.make(0)?;
    let bit = stage.give_badged(Place::Here, notification, 1)?;
    repeated(stage, Request::new(SystemCall::Send, bit, &[]), Request::default())
}
