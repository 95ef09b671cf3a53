//! Passive servers: threads without CPU time, that run on their callers'.

use core::sync::atomic::Ordering;

use anos::abi::fault::{self, FaultKind};
use anos::abi::object::ThreadState;
use anos::abi::syscall::{FOREVER, POLL};
use anos::capability::{Capability, Endpoint, Notification, Reply, Thread};
use anos::sys::Received;
use anos::{Error, Message, Rights, env, sys};

use super::cases;
use super::ipc::{at, number, serve, words};
use crate::case::{Case, PATIENCE_MS, ROUNDS, core, count, in_ms, shared, shared_value, spin, spin_until};
use crate::check::{Outcome, check, equal};
use crate::hands::Order;
use crate::helper::{Function, HIGH, Helper, LOW};
use crate::supervisor::WORKER_CONTEXT;

cases![
    a_passive_server_answers_its_callers,
    it_runs_on_its_caller_s_time,
    it_runs_at_its_caller_s_priority,
    a_less_urgent_caller_s_server_does_not_preempt,
    it_runs_on_its_caller_s_core on 2,
    it_runs_only_as_long_as_its_caller_s_budget,
    time_goes_through_a_chain_of_servers_and_back,
    time_goes_through_sixteen_hands_and_no_more,
    who_only_sends_is_turned_away,
    who_waits_to_send_is_turned_away,
    a_signal_waits_until_there_is_time_for_it,
    a_passive_fault_handler_runs_on_the_faulting_thread_s_time,
    a_server_can_be_passive_or_not_by_turns,
    a_thousand_calls_to_a_passive_server,
    callers_on_all_cores_take_a_passive_server_to_theirs on 2,
];

/// Badge of a server's faults.
pub const FAULT: u64 = 7;

/// A passive server, and who is told of its faults.
#[derive(Clone, Copy)]
pub struct Passive {
    pub helper: Helper,
    pub endpoint: Endpoint,
    pub reply: Reply,
    pub faults: Endpoint,
    pub fault_reply: Reply,
}

/// A server that waits for calls, and has no time of its own.
pub fn passive(case: &mut Case, priority: u8, function: Function) -> Outcome<Passive> {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let (faults, fault_reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let helper = case.prepare(0, HIGH, function, number(endpoint) | number(reply) << 32)?;
    let badged = case.mint(faults, Rights::ALL, FAULT)?;
    helper.thread.set_fault_endpoint(Some(badged))?;
    case.start(helper)?;
    equal!(helper.thread.info()?.state, ThreadState::Receiving);
    helper.thread.set_priority(priority, priority)?;
    helper.thread.set_context(None)?;
    Ok(Passive { helper, endpoint, reply, faults, fault_reply })
}

impl Passive {
    pub fn state(self) -> Result<ThreadState, Error> {
        Ok(self.helper.thread.info()?.state)
    }

    /// Waits until the server's handler is told that it has no time.
    pub fn is_told(self) -> Outcome {
        let Received { badge, message, .. } = self.faults.recv(Some(self.fault_reply), None, in_ms(PATIENCE_MS))?;
        let [kind, _, _, cause, ..] = message.words;
        equal!((badge, message.label), (FAULT, fault::LABEL));
        equal!((FaultKind::from_number(kind), cause), (FaultKind::NoTime, 1));
        equal!(self.state()?, ThreadState::Faulted);
        Ok(())
    }

    /// Gives the server time, and lets it go on.
    pub fn help_out(self) -> Result<(), Error> {
        self.helper.thread.set_context(Some(self.helper.context))?;
        self.fault_reply.send(&Message::OK, None)
    }
}

/// A server's endpoint and reply.
pub fn own(arguments: u64) -> (Endpoint, Reply) {
    (at(arguments & 0xffff_ffff), at(arguments >> 32))
}

/// A server: counts in word 1 until word 2 is set, then answers 99; word 0 counts calls.
pub fn compute(arguments: u64) {
    let (endpoint, reply) = own(arguments);
    let mut next = endpoint.recv(Some(reply), None, FOREVER);
    while next.is_ok() {
        count(0);
        while shared_value(2) == 0 {
            count(1);
        }
        next = endpoint.reply_recv(reply, &Message::new(0, &[99]), None, None);
    }
}

/// A helper: calls the server once; word 8 says how that ended, plus one, and word 9 what came.
pub fn call_once(endpoint: u64) {
    let (code, word) = match sys::call(at::<Endpoint>(endpoint).slot(), &Message::OK, None, None, FOREVER) {
        Ok(received) => (0, received.message.words[0]),
        Err(error) => (error as u64, 0),
    };
    shared(9).store(word, Ordering::SeqCst);
    shared(8).store(code + 1, Ordering::SeqCst);
}

pub fn call(endpoint: Endpoint, deadline: u64) -> Result<[u64; 8], Error> {
    Ok(sys::call(endpoint.slot(), &Message::OK, None, None, deadline)?.message.words)
}

fn a_passive_server_answers_its_callers(case: &mut Case) -> Outcome {
    let server = passive(case, LOW, serve)?;
    for seed in 0..10 {
        let answer = server.endpoint.call(&Message { label: 3, words: words(seed) })?;
        equal!(answer, words(seed).map(|word| word.wrapping_add(1)));
        equal!(server.state()?, ThreadState::Receiving);
    }
    equal!(server.helper.context.info()?.bound, false);
    Ok(())
}

fn it_runs_on_its_caller_s_time(case: &mut Case) -> Outcome {
    /// A server: computes for word 0 ns of its own CPU time.
    fn compute_for(arguments: u64) {
        let (endpoint, reply) = own(arguments);
        let mut next = endpoint.recv(Some(reply), None, FOREVER);
        while let Ok(received) = next {
            let thread: Thread = at(shared_value(10));
            let used = || thread.info().map_or(u64::MAX, |info| info.cpu_time_ns);
            let end = used().saturating_add(received.message.words[0]);
            while used() < end {
                core::hint::spin_loop();
            }
            next = endpoint.reply_recv(reply, &Message::OK, None, None);
        }
    }
    let server = passive(case, HIGH, compute_for)?;
    shared(10).store(server.helper.number(), Ordering::SeqCst);
    let own = server.helper.context.info()?.used_ns;
    let mut told = (0, 0);
    // The way out of the kernel that gives the time back is the server's work, and nobody pays for it. The machine under
    // this one may stand still just then; not each time.
    for _ in 0..ROUNDS {
        let before = (WORKER_CONTEXT.info()?.used_ns, server.helper.thread.info()?.cpu_time_ns);
        server.endpoint.call(&Message::new(0, &[10_000_000]))?;
        let paid = WORKER_CONTEXT.info()?.used_ns - before.0;
        let worked = server.helper.thread.info()?.cpu_time_ns - before.1;
        equal!(server.helper.context.info()?.used_ns, own);
        told = (worked, paid);
        if worked >= 10_000_000 && paid >= worked / 10 * 9 {
            return Ok(());
        }
    }
    check!(false, "it worked {} ns, and {} ns were paid", told.0, told.1);
    Ok(())
}

/// A server: tells its priority and core.
fn tell(arguments: u64) {
    let (endpoint, reply) = own(arguments);
    let mut next = endpoint.recv(Some(reply), None, FOREVER);
    while next.is_ok() {
        let thread: Thread = at(shared_value(10));
        let told = thread.info().map_or([u64::MAX; 2], |info| [info.priority.into(), info.core.into()]);
        next = endpoint.reply_recv(reply, &Message::new(0, &told), None, None);
    }
}

fn it_runs_at_its_caller_s_priority(case: &mut Case) -> Outcome {
    for priority in [LOW, HIGH, 255] {
        let server = passive(case, priority, tell)?;
        shared(10).store(server.helper.number(), Ordering::SeqCst);
        for caller in [LOW, HIGH, HIGH + 1] {
            let helper = case.helper(0, caller, call_once, number(server.endpoint))?;
            if caller > LOW {
                // More urgent than this thread, both of them: it is done already.
                check!(shared_value(8) == 1, "the call of a more urgent thread waits");
            }
            case.join(helper)?;
            equal!((shared_value(8), shared_value(9)), (1, caller.into()));
            shared(8).store(0, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn a_less_urgent_caller_s_server_does_not_preempt(case: &mut Case) -> Outcome {
    let server = passive(case, 255, compute)?;
    let caller = case.helper(0, LOW, call_once, number(server.endpoint))?;
    case.eventually(|| shared_value(0) == 1)?;
    let seen = shared_value(1);
    spin_until(25, || shared_value(1) != seen);
    equal!(shared_value(1), seen);
    shared(2).store(1, Ordering::SeqCst);
    case.join(caller)?;
    equal!(shared_value(9), 99);
    Ok(())
}

fn it_runs_on_its_caller_s_core(case: &mut Case) -> Outcome {
    let server = passive(case, LOW, tell)?;
    shared(10).store(server.helper.number(), Ordering::SeqCst);
    for on in (0..env::cores().min(8)).chain([0, 1, 0]) {
        let caller = case.helper(
            on,
            LOW,
            |endpoint| {
                let told = call(at(endpoint), FOREVER);
                shared(9).store(told.map_or(u64::MAX, |words| words[1]), Ordering::SeqCst);
            },
            number(server.endpoint),
        )?;
        case.join(caller)?;
        equal!(shared_value(9), on);
        equal!(call(server.endpoint, FOREVER)?[1], 0);
    }
    Ok(())
}

fn it_runs_only_as_long_as_its_caller_s_budget(case: &mut Case) -> Outcome {
    let server = passive(case, LOW, compute)?;
    let caller = case.prepare(0, HIGH, call_once, number(server.endpoint))?;
    core(0).limit(caller.context, 10_000_000, 1 << 40, false)?;
    // The server never waits: that this thread comes back is the proof.
    case.start(caller)?;
    // If the machine under this one stood still meanwhile, the time has gone without it.
    for _ in 0..ROUNDS {
        if shared_value(1) == 0 {
            core(0).limit(caller.context, 10_000_000, 1 << 40, false)?;
        }
    }
    let seen = shared_value(1);
    check!(seen > 0, "it never ran");
    spin_until(10, || shared_value(1) != seen);
    equal!((shared_value(1), caller.context.info()?.left_ns), (seen, 0));
    shared(2).store(1, Ordering::SeqCst);
    core(0).limit(caller.context, 0, 0, false)?;
    case.join(caller)?;
    equal!(shared_value(9), 99);
    Ok(())
}

/// A server: asks the next, whose Endpoint is in the word behind its own (word 11 counts who has begun), and adds one.
fn forward(arguments: u64) {
    let (endpoint, reply) = own(arguments);
    let place = 20 + crate::case::ticket(11);
    shared(place).store(number(endpoint), Ordering::SeqCst);
    let mut next = endpoint.recv(Some(reply), None, FOREVER);
    while next.is_ok() {
        count(12);
        let answer = match shared_value(place + 1) {
            0 => Ok([0; 8]),
            further => call(at(further), FOREVER),
        };
        let answer = answer.map_or(Message::refusal(Error::PeerDied), |words| Message::new(0, &[words[0] + 1]));
        next = endpoint.reply_recv(reply, &answer, None, None);
    }
}

fn time_goes_through_a_chain_of_servers_and_back(case: &mut Case) -> Outcome {
    let mut all = [None; 6];
    for place in &mut all {
        *place = Some(passive(case, LOW, forward)?);
    }
    for _ in 0..20 {
        equal!(call(at(shared_value(20)), in_ms(PATIENCE_MS))?[0], 6);
        for server in all.into_iter().flatten() {
            equal!(server.state()?, ThreadState::Receiving);
        }
    }
    // And from another core.
    let caller = case.helper(env::cores() - 1, LOW, call_once, shared_value(20))?;
    case.join(caller)?;
    equal!((shared_value(8), shared_value(9)), (1, 6));
    Ok(())
}

fn time_goes_through_sixteen_hands_and_no_more(case: &mut Case) -> Outcome {
    let mut all = [None; 17];
    for place in &mut all {
        *place = Some(passive(case, LOW, forward)?);
    }
    // The last sixteen, then all.
    equal!(call(at(shared_value(21)), in_ms(PATIENCE_MS))?[0], 16);
    let begun = shared_value(12);
    // One too many: the last one is not called, and goes on waiting.
    equal!(call(at(shared_value(20)), in_ms(PATIENCE_MS))?[0], 15);
    let last = all[16].ok_or(Error::InvalidArgument)?;
    equal!((shared_value(12), last.state()?), (begun + 16, ThreadState::Receiving));
    Ok(())
}

fn who_only_sends_is_turned_away(case: &mut Case) -> Outcome {
    let server = passive(case, LOW, serve)?;
    for deadline in [POLL, in_ms(100), FOREVER] {
        equal!(server.endpoint.send(&Message::OK, None, deadline), Err(Error::NotRunnable));
        equal!(server.state()?, ThreadState::Receiving);
    }
    equal!(server.endpoint.call(&Message::new(0, &[5]))?[0], 6);
    Ok(())
}

fn who_waits_to_send_is_turned_away(case: &mut Case) -> Outcome {
    /// Sends once; word 4 counts who was turned away, word 5 who was not.
    fn send_once(endpoint: u64) {
        let sent = at::<Endpoint>(endpoint).send(&Message::OK, None, FOREVER);
        count(if sent == Err(Error::NotRunnable) { 4 } else { 5 });
    }
    let server = passive(case, LOW, compute)?;
    let caller = case.helper(0, LOW, call_once, number(server.endpoint))?;
    case.eventually(|| shared_value(0) == 1)?;
    // More than one visit turns away.
    let mut senders = [None; 20];
    for place in &mut senders {
        let sender = case.helper(0, HIGH, send_once, number(server.endpoint))?;
        equal!(sender.thread.info()?.state, ThreadState::Sending);
        *place = Some(sender);
    }
    equal!(shared_value(4), 0);
    shared(2).store(1, Ordering::SeqCst);
    case.join(caller)?;
    case.join_all(senders.into_iter().flatten())?;
    equal!((shared_value(4), shared_value(5), shared_value(9)), (20, 0, 99));
    equal!(server.state()?, ThreadState::Receiving);
    Ok(())
}

fn a_signal_waits_until_there_is_time_for_it(case: &mut Case) -> Outcome {
    /// A server: looks for a signal while it has time, and answers with its bits.
    fn look_for_signals(arguments: u64) {
        let (endpoint, reply) = own(arguments);
        let mut next = endpoint.recv(Some(reply), None, FOREVER);
        while let Ok(received) = next {
            count(if received.status.is_signal() { 6 } else { 7 });
            let bits = match endpoint.recv(None, None, POLL) {
                Ok(received) if received.status.is_signal() => received.badge,
                _ => 0,
            };
            next = endpoint.reply_recv(reply, &Message::new(0, &[bits]), None, None);
        }
    }
    let server = passive(case, LOW, look_for_signals)?;
    let notification: Notification = case.make()?;
    server.helper.thread.bind(Some(notification))?;
    for bit in [4, 8] {
        case.mint(notification, Rights::ALL, bit)?.signal()?;
        equal!((server.state()?, shared_value(6)), (ThreadState::Receiving, 0));
    }
    equal!(call(server.endpoint, in_ms(PATIENCE_MS))?[0], 12);
    equal!(call(server.endpoint, in_ms(PATIENCE_MS))?[0], 0);
    equal!((shared_value(6), shared_value(7)), (0, 2));
    Ok(())
}

fn a_passive_fault_handler_runs_on_the_faulting_thread_s_time(case: &mut Case) -> Outcome {
    /// A handler: maps nothing, and lets nobody go on; word 6 is the address that was used.
    fn refuse(arguments: u64) {
        let (endpoint, reply) = own(arguments);
        let mut next = endpoint.recv(Some(reply), None, FOREVER);
        while let Ok(received) = next {
            shared(6).store(received.message.words[2], Ordering::SeqCst);
            next = endpoint.reply_recv(reply, &Message::new(1, &[]), None, None);
        }
    }
    let server = passive(case, LOW, refuse)?;
    for (n, on) in (1..).zip([0, env::cores() - 1, 0]) {
        let hands = case.hands(on)?;
        hands.thread.set_fault_endpoint(Some(server.endpoint))?;
        hands.order(Order::Read, n * 8, 0)?;
        case.eventually(|| hands.thread.info().is_ok_and(|info| info.state == ThreadState::Stopped))?;
        equal!((shared_value(6), server.state()?), (n * 8, ThreadState::Receiving));
        equal!(u64::from(server.helper.thread.info()?.core), on);
    }
    Ok(())
}

fn a_server_can_be_passive_or_not_by_turns(case: &mut Case) -> Outcome {
    let server = passive(case, HIGH, serve)?;
    for n in 0..20 {
        let context = if n % 2 == 0 { Some(server.helper.context) } else { None };
        server.helper.thread.set_context(context)?;
        equal!(server.endpoint.call(&Message::new(0, &[n]))?[0], n + 1);
        let sent = server.endpoint.send(&Message::OK, None, in_ms(PATIENCE_MS));
        equal!(sent, if n % 2 == 0 { Ok(()) } else { Err(Error::NotRunnable) });
        case.eventually(|| server.state() == Ok(ThreadState::Receiving))?;
    }
    Ok(())
}

/// A helper: makes so many calls to the server in word 20; word 0 counts right answers, word 1 the others.
fn call_often(times: u64) {
    let endpoint: Endpoint = at(shared_value(20));
    for n in 0..times {
        let right = endpoint.call(&Message::new(n, &[n; 8])).is_ok_and(|words| words == [n + 1; 8]);
        count(if right { 0 } else { 1 });
    }
}

fn a_thousand_calls_to_a_passive_server(case: &mut Case) -> Outcome {
    let server = passive(case, LOW, serve)?;
    shared(20).store(number(server.endpoint), Ordering::SeqCst);
    // By turns of the timer, and while one waits for the other.
    let mut callers = [None; 4];
    for (priority, place) in [LOW, LOW, LOW + 1, HIGH].into_iter().zip(&mut callers) {
        *place = Some(case.helper(0, priority, call_often, 250)?);
    }
    case.join_all(callers.into_iter().flatten())?;
    equal!((shared_value(0), shared_value(1)), (1000, 0));
    equal!(server.state()?, ThreadState::Receiving);
    Ok(())
}

fn callers_on_all_cores_take_a_passive_server_to_theirs(case: &mut Case) -> Outcome {
    let server = passive(case, LOW, serve)?;
    shared(20).store(number(server.endpoint), Ordering::SeqCst);
    let all = env::cores().min(8);
    let mut callers = [None; 16];
    for (n, place) in (0..2 * all).zip(&mut callers) {
        *place = Some(case.helper(n % all, LOW, call_often, 500 / all)?);
    }
    case.join_all(callers.into_iter().flatten())?;
    equal!((shared_value(0), shared_value(1)), (2 * all * (500 / all), 0));
    check!(spin(|| server.state() == Ok(ThreadState::Receiving)), "it still works");
    Ok(())
}
