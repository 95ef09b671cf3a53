//! Faults and system calls of another system: to a handler in the other address space, and back.
//!
//! As with messages, what the handler does before it answers is not counted.

use anos::abi::fault::{LABEL, SYSTEM_CALL_LABEL};
use anos::abi::object::Method;
use anos::abi::{Status, SystemCall};
use anos::capability::{Endpoint, Reply};

use super::ipc::{CLIENT, SERVER};
use super::{ROUNDS, measurements};
use crate::arch::Entry;
use crate::figures::{Outcome, one_way, sum};
use crate::record::{Record, Request};
use crate::stage::{FREE, Place, Stage, signal_done};

measurements![
    "fault/round_trip": fault,
    "foreign/round_trip": foreign,
];

/// The program counter among the registers that the kernel reads and writes.
const PROGRAM_COUNTER: u64 = 13;

/// A store to where nothing is mapped. The handler has the thread go on behind it (`ThreadWriteRegisters`, not counted).
fn fault(stage: &mut Stage) -> Outcome {
    let store = Request { operation: FREE, ..Request::default() };
    handled(stage, Entry::Store, store, LABEL, 0)
}

/// A system call of a foreign thread. The handler's answer is its result.
fn foreign(stage: &mut Stage) -> Outcome {
    // Where the result takes the operation's place, it is as if nothing had happened; elsewhere, it stays.
    let call = Request::new(SystemCall::Call, 1, &[]);
    handled(stage, Entry::Call, call, SYSTEM_CALL_LABEL, call.operation)
}

/// A thread that does what its handler must deal with, with this label and answer.
fn handled(stage: &mut Stage, entry: Entry, measured: Request, label: u64, answer: u64) -> Outcome {
    let endpoint: Endpoint = stage.make(0)?;
    let waiting = stage.give(Place::There, endpoint)?;
    let reply = stage.make_in::<Reply>(Place::There, 0)?;
    let record = Record { rounds: u64::MAX, status: measured.operation, measured, ..Record::default() };
    let program = stage.worker(Place::Here, CLIENT, entry, record)?;
    program.thread.set_fault_endpoint(Some(endpoint))?;
    let thread = stage.give(Place::There, program.thread)?;
    let mut between = Request::default();
    if label == LABEL {
        let words = [PROGRAM_COUNTER, 1, Stage::behind_store()];
        between = Request::method(thread, Method::ThreadWriteRegisters, &words);
    } else {
        stage.make_foreign(program)?;
    }
    let handler = Record {
        rounds: ROUNDS + 1,
        status: Status::ANSWERABLE,
        label,
        first: Request::new(SystemCall::Recv, waiting, &[]).with_reply(reply),
        between: [between, Request::default()],
        measured: Request::new(SystemCall::ReplyRecv, waiting, &[answer]).with_reply(reply),
        last: signal_done(),
        ..Record::default()
    };
    let handler = stage.worker(Place::There, SERVER, Entry::Call, handler)?;
    handler.start()?;
    program.start()?;
    stage.run()?;
    let (telling, answering) = (program.samples(), handler.samples());
    // The first is the one that the handler had begun to wait for before its first measured round.
    let told = one_way(telling.get(1..).unwrap_or_default(), &answering, stage.overhead);
    Ok(sum(&told, &one_way(&answering, &telling, stage.overhead)))
}
