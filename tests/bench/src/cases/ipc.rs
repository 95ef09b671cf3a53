//! Messages between two threads.
//!
//! The server has the higher priority, so that each message switches to the other side at once. A round trip is the way
//! there and the way back: what the server does in between is not counted.

use anos::abi::{Status, SystemCall};
use anos::capability::{Endpoint, Reply};

use super::{ROUNDS, measurements};
use crate::arch::Entry;
use crate::figures::{Failure, Outcome, one_way, sum};
use crate::record::{Record, Request};
use crate::stage::{Place, Stage, delete, signal_done};

measurements![
    "ipc/call/inter/w0": |stage| Ok(converse(stage, Talk::words(0))?.calls),
    "ipc/reply_recv/inter/w0": |stage| Ok(converse(stage, Talk::words(0))?.replies),
    "ipc/round_trip/inter/w0": |stage| converse(stage, Talk::words(0))?.round_trips(),
    "ipc/round_trip/inter/w4": |stage| converse(stage, Talk::words(4))?.round_trips(),
    "ipc/round_trip/inter/w8": |stage| converse(stage, Talk::words(8))?.round_trips(),
    "ipc/round_trip/intra/w0": |stage| converse(stage, Talk { server: Place::Here, ..Talk::words(0) })?.round_trips(),
    "ipc/round_trip/passive/w0": |stage| converse(stage, Talk { passive: true, ..Talk::words(0) })?.round_trips(),
    "ipc/round_trip/inter/cap": |stage| converse(stage, Talk { capability: true, ..Talk::words(0) })?.round_trips(),
    "ipc/send/inter/w0": send,
];

/// Priority of clients.
pub const CLIENT: u8 = 100;
/// Priority of servers.
pub const SERVER: u8 = 150;

/// What is said, and to whom.
struct Talk {
    /// Words that are not 0, both ways.
    words: u64,
    /// Where the server runs: the client runs here.
    server: Place,
    /// The server has no CPU time of its own.
    passive: bool,
    /// A capability goes along with the call; the server deletes it before it answers.
    capability: bool,
}

impl Talk {
    fn words(words: u64) -> Talk {
        Talk { words, server: Place::There, passive: false, capability: false }
    }
}

/// What each way took.
struct Ways {
    calls: alloc::vec::Vec<u64>,
    replies: alloc::vec::Vec<u64>,
}

impl Ways {
    fn round_trips(self) -> Outcome {
        Ok(sum(&self.calls, &self.replies))
    }
}

/// So many words that are not 0.
fn some_words(count: u64, high: u64) -> [u64; 8] {
    core::array::from_fn(|n| if (n as u64) < count { high << 32 | (n as u64 + 1) } else { 0 })
}

fn converse(stage: &mut Stage, talk: Talk) -> Outcome<Ways> {
    let endpoint: Endpoint = stage.make(0)?;
    let (client_end, server_end) = (stage.give(Place::Here, endpoint)?, stage.give(talk.server, endpoint)?);
    let reply = stage.make_in::<Reply>(talk.server, 0)?;
    let (asked, answered) = (some_words(talk.words, 0xa51), some_words(talk.words, 0xa25));
    let mut call = Request::new(SystemCall::Call, client_end, &asked);
    let mut receive = 0;
    let mut between = Request::default();
    let mut status = Status::ANSWERABLE;
    if talk.capability {
        call = call.with_slots(client_end, 0);
        receive = stage.slot_in(talk.server);
        between = delete(receive);
        status |= Status::CAPABILITY;
    }
    let server = stage.worker(
        talk.server,
        SERVER,
        Entry::Call,
        Record {
            rounds: u64::MAX,
            status,
            first: Request::new(SystemCall::Recv, server_end, &[]).with_reply(reply).with_slots(0, receive),
            between: [between, Request::default()],
            measured: Request::new(SystemCall::ReplyRecv, server_end, &answered)
                .with_reply(reply)
                .with_slots(0, receive),
            ..Record::default()
        },
    )?;
    server.start()?;
    if talk.passive {
        // It waits on its own time, and then has none.
        stage.settle()?;
        server.thread.set_context(None)?;
    }
    let client = stage.worker(
        Place::Here,
        CLIENT,
        Entry::Call,
        Record { rounds: ROUNDS + 1, measured: call, last: signal_done(), ..Record::default() },
    )?;
    client.start()?;
    stage.run()?;
    if (server.record().words, client.record().words) != (asked, answered) {
        return Err(Failure("the words that came are not those that were sent".into()));
    }
    let (asking, answering) = (client.samples(), server.samples());
    // The first call is the one that the server had begun to wait for before its first measured round.
    let calls = one_way(asking.get(1..).unwrap_or_default(), &answering, stage.overhead);
    Ok(Ways { calls, replies: one_way(&answering, &asking, stage.overhead) })
}

/// A message that nobody answers, to a thread in the other address space that waits for it.
fn send(stage: &mut Stage) -> Outcome {
    let endpoint: Endpoint = stage.make(0)?;
    let (sender_end, receiver_end) = (stage.give(Place::Here, endpoint)?, stage.give(Place::There, endpoint)?);
    let receiver = stage.worker(
        Place::There,
        SERVER,
        Entry::Call,
        Record { rounds: u64::MAX, measured: Request::new(SystemCall::Recv, receiver_end, &[]), ..Record::default() },
    )?;
    receiver.start()?;
    let sender = stage.worker(
        Place::Here,
        CLIENT,
        Entry::Call,
        Record {
            rounds: ROUNDS,
            measured: Request::new(SystemCall::Send, sender_end, &[]),
            last: signal_done(),
            ..Record::default()
        },
    )?;
    sender.start()?;
    stage.run()?;
    Ok(one_way(&sender.samples(), &receiver.samples(), stage.overhead))
}
