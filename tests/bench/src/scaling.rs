//! Clients and servers on all cores at once: what cores that work beside each other cost each other.
//!
//! Each thread has an address space and a capability table of its own, all made from memory of its core, so whatever cores
//! share is shared by the [`Layout`] or by the kernel, and not by this program. Whenever its *gate* is signalled, a client
//! waits for the moment at which all start, calls its server so many times, and waits at the gate again. This program has
//! the highest priority on core 0.
//!
//! What is counted (`scaling=count`) is said like this, for each layout:
//!
//! ```text
//! scaling local counted 4000 4000 0       messages, locks taken, locks waited for
//! scaling local window 1234               messages between two marks, while all clients work
//! ```
//!
//! and what is timed (`scaling=time`), several times over:
//!
//! ```text
//! scaling local timed 40000 123456789     messages, nanoseconds
//! ```

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use anos::abi::boot::slot;
use anos::abi::{Status, SystemCall};
use anos::capability::{
    AddressSpace, CapTable, Capability, Endpoint, Frame, Notification, Reply, SchedControl, Slot, Thread, Untyped,
};
use anos::time::Instant;
use anos::{Error, Rights, env, memory, println, slots};

use crate::arch::{self, Entry};
use crate::cases::ipc::{CLIENT, SERVER};
use crate::cases::{DEBUG, is_wanted};
use crate::figures::{Failure, Outcome};
use crate::record::{Record, Request};
use crate::stage::{
    CODE, LASTING, MEMORY, PATIENCE_NS, READ_EXECUTE, READ_WRITE, RECORD_STRIDE, RECORDS, Worker, check, load_code,
    make_heap, map_copy,
};

/// Who calls whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// A client and its server on each core.
    Local,
    /// A client on each core, its server on the next.
    Cross,
    /// A client on each core, and one server for all of them on core 0.
    OneServer,
}

impl Layout {
    const ALL: [Layout; 3] = [Layout::Local, Layout::Cross, Layout::OneServer];

    fn name(self) -> &'static str {
        match self {
            Layout::Local => "local",
            Layout::Cross => "cross",
            Layout::OneServer => "one_server",
        }
    }
}

/// Calls of each client before anything counts, and then.
const WARM_UP: u64 = 100;
const CALLS: u64 = 500;
/// Calls of each client, where time is measured; and how often.
const TIMED_CALLS: u64 = 20_000;
const TIMED_RUNS: u64 = 7;
/// From the first gate to the start, and from the end to the count, for each core: long enough for all cores to come to
/// rest.
const REST_NS: u64 = 50_000;
/// How long the window of the marks stays open, for each core: some hundred messages. Where cores wait for each other, time
/// passes without any.
const WINDOW_NS: u64 = 400_000;
const LONG_WINDOW_NS: u64 = 2_000_000;
/// The marks.
const WINDOW_OPENS: u16 = 1;
const WINDOW_CLOSES: u16 = 2;
/// Messages of a call: the call and its answer.
const MESSAGES: u64 = 2;

/// Memory of a core's threads, pages.
const CORE_PAGES: u64 = 64;
/// Slots of a thread's table, and what is where.
const TABLE_SLOTS: u64 = 64;
const MEETING: u32 = 1;
const REPLY: u32 = 2;
const GATE: u32 = 3;
const DONE: u32 = 4;

/// Counts (`count`) or times (`time`) all layouts. Answers how many went well, and how many didn't.
pub fn main(how: &str) -> (u64, u64) {
    let measure = match how {
        "count" => Hall::count,
        _ => Hall::time,
    };
    let (mut measured, mut failed) = (0, 0);
    match make_heap().map_err(Failure::from).and_then(|()| Ok(Hall::new()?)) {
        Ok(mut hall) => {
            for layout in Layout::ALL.into_iter().filter(|layout| is_wanted(&format!("scaling/{}", layout.name()))) {
                let outcome = hall.fill(layout).and_then(|()| measure(&hall, layout));
                let cleared = hall.clear().map_err(Failure::from);
                match outcome.and(cleared) {
                    Ok(()) => measured += 1,
                    Err(failure) => {
                        println!("FAILED scaling/{}: {failure}", layout.name());
                        failed += 1;
                    }
                }
            }
        }
        Err(failure) => {
            println!("FAILED set up: {failure}");
            failed += 1;
        }
    }
    (measured, failed)
}

/// A thread with its table.
struct Member {
    worker: Worker,
    table: CapTable,
}

/// A client, and what lets it go on.
struct Client {
    worker: Worker,
    gate: Notification,
}

/// All that takes part.
struct Hall {
    code: Frame,
    done: Notification,
    cores: u64,
    /// Memory of each core's threads.
    memories: Vec<Untyped>,
    clients: Vec<Client>,
    /// Whose clients say when they are done: a bit for each core.
    speakers: u64,
    /// Records so far.
    records: u64,
}

/// What a run took.
struct Effort {
    nanoseconds: u128,
    /// Locks taken.
    taken: u64,
    /// Locks waited for.
    waited: u64,
}

/// What all cores' counters say.
#[derive(Clone, Copy, Default)]
struct Locks {
    taken: u64,
    waited: u64,
}

impl Hall {
    fn new() -> Result<Hall, Error> {
        let (code, done) = (load_code()?, memory::make(0)?);
        Ok(Hall { code, done, cores: env::cores(), memories: Vec::new(), clients: Vec::new(), speakers: 0, records: 0 })
    }

    /// Makes the threads of a layout, which then wait at their gates.
    fn fill(&mut self, layout: Layout) -> Outcome<()> {
        for _ in 0..self.cores {
            let memory: Untyped = MEMORY.make(CORE_PAGES, slots::allocate()?)?;
            self.memories.push(memory);
        }
        let mut everybodys = None;
        for core in 0..self.cores {
            let endpoint = match (layout, everybodys) {
                (Layout::Local, _) => self.server(core)?,
                (Layout::Cross, _) => self.server((core + 1) % self.cores)?,
                (Layout::OneServer, Some(endpoint)) => endpoint,
                (Layout::OneServer, None) => self.server(0)?,
            };
            everybodys = Some(endpoint);
            // To say so takes the lock of core 0. Where cores shall have nothing to do with each other, only that core does.
            let says_so = layout != Layout::Local || core == 0;
            if says_so {
                self.speakers |= 1 << core;
            }
            self.client(core, endpoint, says_so)?;
        }
        Ok(())
    }

    /// Makes things from a core's memory.
    fn on<T>(&mut self, core: u64, make: impl FnOnce(&mut Hall) -> Result<T, Error>) -> Result<T, Error> {
        let memory = usize::try_from(core).ok().and_then(|core| self.memories.get(core));
        memory::set_quota(*memory.ok_or(Error::InvalidArgument)?);
        let made = make(self);
        memory::set_quota(LASTING);
        made
    }

    /// Starts a server on this core; where it receives.
    fn server(&mut self, core: u64) -> Result<Endpoint, Error> {
        self.on(core, |hall| {
            let endpoint: Endpoint = memory::make(0)?;
            let reply: Reply = memory::make(0)?;
            let record = Record {
                rounds: u64::MAX,
                status: Status::ANSWERABLE,
                first: Request::new(SystemCall::Recv, MEETING, &[]).with_reply(REPLY),
                measured: Request::new(SystemCall::ReplyRecv, MEETING, &[]).with_reply(REPLY),
                ..Record::default()
            };
            let Member { worker, table } = hall.member(core, SERVER, record)?;
            table.copy(endpoint.slot(), Slot::new(MEETING), Rights::ALL)?;
            table.take(reply.slot(), Slot::new(REPLY))?;
            worker.start()?;
            Ok(endpoint)
        })
    }

    /// Starts a client on this core, which says when it is done, or doesn't.
    fn client(&mut self, core: u64, server: Endpoint, says_so: bool) -> Result<(), Error> {
        let client = self.on(core, |hall| {
            let original: Notification = memory::make(0)?;
            let record = Record {
                first: Request::new(SystemCall::Recv, GATE, &[]),
                measured: Request::new(SystemCall::Call, MEETING, &[]),
                last: if says_so { Request::new(SystemCall::Send, DONE, &[]) } else { Request::default() },
                ..Record::default()
            };
            let Member { worker, table } = hall.member(core, CLIENT, record)?;
            table.copy(server.slot(), Slot::new(MEETING), Rights::ALL)?;
            table.copy(original.slot(), Slot::new(GATE), Rights::ALL)?;
            table.mint(hall.done.slot(), Slot::new(DONE), Rights::WRITE, 1 << core)?;
            worker.start()?;
            Ok(Client { worker, gate: original.badged(1)? })
        })?;
        self.clients.push(client);
        Ok(())
    }

    /// A thread on this core that is still to be started.
    fn member(&mut self, core: u64, priority: u8, record: Record) -> Result<Member, Error> {
        let space: AddressSpace = memory::make(0)?;
        let table: CapTable = memory::make(TABLE_SLOTS)?;
        let thread: Thread = memory::make(0)?;
        let frame: Frame = memory::make(1)?;
        let address = RECORDS + self.records * RECORD_STRIDE;
        self.records += 1;
        map_copy(space, self.code, CODE, READ_EXECUTE)?;
        map_copy(space, frame, address, READ_WRITE)?;
        let slot = slots::allocate()?;
        let context = control(core)?.make_context(memory::quota()?, slot)?;
        memory::map(frame, address, READ_WRITE, false)?;
        thread.set_table(table)?;
        thread.set_space(space)?;
        thread.set_context(Some(context))?;
        thread.set_priority(priority, u8::MAX)?;
        let worker = Worker { thread, address, entry: Entry::Repeat };
        worker.set_record(record);
        Ok(Member { worker, table })
    }

    /// Opens all gates: each client makes so many calls, from the same moment on. (None of them needs another core to wake
    /// it then.)
    fn open(&self, calls: u64) -> Outcome<()> {
        let start = Instant::now().nanoseconds() + 2 * REST_NS * self.cores;
        for client in &self.clients {
            let record = client.worker.record();
            check(record)?;
            let mut wait = record.first;
            wait.deadline = start;
            client.worker.set_record(Record { rounds: calls, between: [wait, Request::default()], ..record });
        }
        Ok(self.clients.iter().try_for_each(|client| client.gate.signal())?)
    }

    /// Has each client make so many calls. Answers how long that took, and which locks.
    fn run(&self, calls: u64) -> Outcome<Effort> {
        self.open(calls)?;
        self.pause(REST_NS)?;
        let before = self.locks()?;
        let start = Instant::now();
        let deadline = start.nanoseconds() + PATIENCE_NS * self.cores;
        let mut done = 0;
        while done != self.speakers {
            done |= self.done.wait(deadline)?;
        }
        // Core 0 is done. To wait for the others in the kernel would take locks, and how many, would depend on them.
        while self.clients.iter().any(|client| client.worker.rounds().load(Ordering::Acquire) != 0) {
            core::hint::spin_loop();
        }
        let nanoseconds = start.elapsed().as_nanos();
        self.pause(REST_NS)?;
        let after = self.locks()?;
        self.clients.iter().try_for_each(|client| check(client.worker.record()))?;
        Ok(Effort { nanoseconds, taken: after.taken - before.taken, waited: after.waited - before.waited })
    }

    /// Counts locks in two runs, the second twice as long: what one call takes is the difference, without what starts and
    /// ends a run. Then opens a window in which all clients work.
    fn count(&self, layout: Layout) -> Outcome<()> {
        self.run(WARM_UP)?;
        let once = self.run(CALLS)?;
        let twice = self.run(2 * CALLS)?;
        let (taken, waited) = (twice.taken.saturating_sub(once.taken), twice.waited.saturating_sub(once.waited));
        let messages = MESSAGES * CALLS * self.cores;
        println!("scaling {} counted {messages} {taken} {waited}", layout.name());
        println!("scaling {} window {}", layout.name(), self.window(layout)?);
        Ok(())
    }

    /// Messages between two marks, while all clients work: they never end.
    fn window(&self, layout: Layout) -> Outcome<u64> {
        let length = if layout == Layout::Local { WINDOW_NS } else { LONG_WINDOW_NS };
        self.open(u64::MAX)?;
        self.pause(length)?;
        let left = || self.clients.iter().map(|client| client.worker.rounds().load(Ordering::Relaxed));
        let before: Vec<u64> = left().collect();
        arch::mark::<WINDOW_OPENS>();
        self.pause(length)?;
        arch::mark::<WINDOW_CLOSES>();
        let calls: Vec<u64> = before.into_iter().zip(left()).map(|(before, after)| before - after).collect();
        // One server may be too busy for the client on its own core.
        let enough =
            if layout == Layout::OneServer { calls.iter().any(|&calls| calls != 0) } else { !calls.contains(&0) };
        if !enough {
            return Err(Failure(format!("some core did no work: {calls:?}")));
        }
        Ok(calls.iter().sum::<u64>() * MESSAGES)
    }

    /// Lets the clients work for so long, for each core.
    fn pause(&self, nanoseconds: u64) -> Outcome<()> {
        match self.done.wait(Instant::now().nanoseconds() + nanoseconds * self.cores) {
            Err(Error::TimedOut) => Ok(()),
            other => Err(Failure(format!("somebody is done: {other:?}"))),
        }
    }

    fn time(&self, layout: Layout) -> Outcome<()> {
        self.run(TIMED_CALLS)?;
        for _ in 0..TIMED_RUNS {
            let took = self.run(TIMED_CALLS)?.nanoseconds;
            println!("scaling {} timed {} {took}", layout.name(), MESSAGES * TIMED_CALLS * self.cores);
        }
        Ok(())
    }

    /// What all cores have taken and waited for so far.
    fn locks(&self) -> Result<Locks, Error> {
        let mut sum = Locks::default();
        for core in 0..self.cores {
            let counters = DEBUG.counters(core)?;
            sum.taken += counters.locks_taken;
            sum.waited += counters.locks_waited;
        }
        Ok(sum)
    }

    /// Takes back all that a layout has made.
    fn clear(&mut self) -> Result<(), Error> {
        env::OWN_TABLE.revoke(MEMORY.slot())?;
        env::OWN_TABLE.revoke(self.code.slot())?;
        env::OWN_TABLE.revoke(self.done.slot())?;
        for core in 0..self.cores {
            env::OWN_TABLE.revoke(control(core)?.slot())?;
        }
        self.memories.clear();
        self.clients.clear();
        (self.speakers, self.records) = (0, 0);
        Ok(())
    }
}

/// The right to a core's time.
fn control(core: u64) -> Result<SchedControl, Error> {
    let core = u32::try_from(core).map_err(|_| Error::InvalidArgument)?;
    Ok(SchedControl::at(Slot::new(slot::SCHED_CONTROL + core)))
}
