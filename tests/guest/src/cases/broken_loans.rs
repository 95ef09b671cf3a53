//! Calls to passive servers that end early: by a deadline, a suspension, a death. The time goes back to whose it is, and the
//! server is left without, or helped out.

use core::sync::atomic::Ordering;

use anos::abi::fault::FaultKind;
use anos::abi::object::ThreadState;
use anos::abi::syscall::FOREVER;
use anos::capability::{Capability, SchedContext, Untyped};
use anos::sys::Received;
use anos::{Error, Message, Rights, env};

use super::cases;
use super::ipc::{at, number};
use super::lending::{FAULT, call, call_once, compute, own, passive};
use crate::case::{Case, PATIENCE_MS, TABLE, core, in_ms, now, shared, shared_value, spin_until};
use crate::check::{Outcome, check, equal};
use crate::helper::LOW;

cases![
    a_deadline_gives_the_caller_its_time_back,
    a_server_without_time_is_helped_out,
    a_suspended_caller_takes_its_time_along,
    a_server_that_dies_gives_the_time_back,
    a_reply_that_goes_gives_the_time_back,
    a_chain_can_break_in_the_middle,
    a_revoked_context_stops_who_runs_on_it,
    a_server_with_time_of_its_own_gives_the_borrowed_back,
];

/// What `call_once` says of an error.
fn ended_with(error: Error) -> u64 {
    error as u64 + 1
}

fn a_deadline_gives_the_caller_its_time_back(case: &mut Case) -> Outcome {
    let server = passive(case, LOW, compute)?;
    let deadline = in_ms(10);
    equal!(call(server.endpoint, deadline), Err(Error::TimedOut));
    check!(now() >= deadline);
    equal!(shared_value(0), 1);
    let seen = shared_value(1);
    spin_until(10, || shared_value(1) != seen);
    equal!(shared_value(1), seen);
    server.is_told()
}

fn a_server_without_time_is_helped_out(case: &mut Case) -> Outcome {
    let server = passive(case, LOW, compute)?;
    for round in 1..=3 {
        shared(2).store(0, Ordering::SeqCst);
        equal!(call(server.endpoint, in_ms(5)), Err(Error::TimedOut));
        server.is_told()?;
        let seen = shared_value(1);
        server.help_out()?;
        server.helper.thread.set_priority(LOW, LOW)?;
        case.eventually(|| shared_value(1) > seen)?;
        shared(2).store(1, Ordering::SeqCst);
        case.eventually(|| server.state() == Ok(ThreadState::Receiving))?;
        server.helper.thread.set_context(None)?;
        // It is a passive server like before.
        equal!(call(server.endpoint, in_ms(PATIENCE_MS))?[0], 99);
        equal!(shared_value(0), 2 * round);
    }
    Ok(())
}

fn a_suspended_caller_takes_its_time_along(case: &mut Case) -> Outcome {
    for on in [0, env::cores() - 1] {
        let server = passive(case, LOW, compute)?;
        let begun = shared_value(0);
        let caller = case.helper(on, LOW, call_once, number(server.endpoint))?;
        case.eventually(|| shared_value(0) > begun)?;
        caller.thread.suspend()?;
        let seen = shared_value(1);
        server.is_told()?;
        equal!(shared_value(1), seen);
        // It goes on with its own time, and is told that its call was called off.
        caller.thread.resume()?;
        case.join(caller)?;
        equal!(shared_value(8), ended_with(Error::Cancelled));
    }
    Ok(())
}

fn a_server_that_dies_gives_the_time_back(case: &mut Case) -> Outcome {
    for on in [0, env::cores() - 1] {
        let server = passive(case, LOW, compute)?;
        let begun = shared_value(0);
        let caller = case.helper(on, LOW, call_once, number(server.endpoint))?;
        case.eventually(|| shared_value(0) > begun)?;
        TABLE.delete(server.helper.thread.slot())?;
        let seen = shared_value(1);
        // The Reply is still there: somebody else could answer.
        spin_until(3, || shared_value(1) != seen);
        equal!((shared_value(1), caller.thread.info()?.state), (seen, ThreadState::Calling));
        let answered = case.is_done(caller);
        check!(!answered, "answered by nobody");
        server.reply.send(&Message::new(0, &[44]), None)?;
        case.join(caller)?;
        equal!((shared_value(8), shared_value(9)), (1, 44));
        equal!(caller.context.info()?.bound, true);
        shared(8).store(0, Ordering::SeqCst);
    }
    Ok(())
}

fn a_reply_that_goes_gives_the_time_back(case: &mut Case) -> Outcome {
    for on in [0, env::cores() - 1] {
        let server = passive(case, LOW, compute)?;
        let begun = shared_value(0);
        let caller = case.helper(on, LOW, call_once, number(server.endpoint))?;
        case.eventually(|| shared_value(0) > begun)?;
        TABLE.delete(server.reply.slot())?;
        case.join(caller)?;
        equal!(shared_value(8), ended_with(Error::PeerDied));
        server.is_told()?;
        shared(8).store(0, Ordering::SeqCst);
    }
    Ok(())
}

fn a_chain_can_break_in_the_middle(case: &mut Case) -> Outcome {
    /// A server: calls the next until word 3, and tells how that ended.
    fn give_up(arguments: u64) {
        let (endpoint, reply) = own(arguments);
        let mut next = endpoint.recv(Some(reply), None, FOREVER);
        while next.is_ok() {
            let error = call(at(shared_value(4)), shared_value(3)).err().map_or(0, |error| error as u64);
            next = endpoint.reply_recv(reply, &Message::new(0, &[error]), None, None);
        }
    }
    let (last, middle) = (passive(case, LOW, compute)?, passive(case, LOW, give_up)?);
    shared(4).store(number(last.endpoint), Ordering::SeqCst);
    // The middle gives up, and has the time that it passed on.
    shared(3).store(in_ms(10), Ordering::SeqCst);
    equal!(call(middle.endpoint, in_ms(PATIENCE_MS))?[0], Error::TimedOut as u64);
    last.is_told()?;
    last.help_out()?;
    shared(2).store(1, Ordering::SeqCst);
    case.eventually(|| last.state() == Ok(ThreadState::Receiving))?;
    last.helper.thread.set_context(None)?;
    // The middle is stopped; the first one gives up then, and all its time is its own.
    shared(2).store(0, Ordering::SeqCst);
    shared(3).store(FOREVER, Ordering::SeqCst);
    let caller = case.helper(0, LOW, call_once, number(middle.endpoint))?;
    case.eventually(|| shared_value(0) == 2)?;
    middle.helper.thread.suspend()?;
    last.is_told()?;
    equal!(caller.thread.info()?.state, ThreadState::Calling);
    TABLE.delete(middle.reply.slot())?;
    case.join(caller)?;
    equal!(shared_value(8), ended_with(Error::PeerDied));
    Ok(())
}

fn a_revoked_context_stops_who_runs_on_it(case: &mut Case) -> Outcome {
    for on in [0, env::cores() - 1] {
        let server = passive(case, LOW, compute)?;
        shared(2).store(0, Ordering::SeqCst);
        let memory: Untyped = case.make_sized(1)?;
        let context: SchedContext = core(on).make_context(memory, case.slot())?;
        let caller = case.prepare(0, LOW, call_once, number(server.endpoint))?;
        let badged = case.mint(server.faults, Rights::ALL, FAULT + 1)?;
        caller.thread.set_fault_endpoint(Some(badged))?;
        caller.thread.set_context(Some(context))?;
        let begun = shared_value(0);
        case.start(caller)?;
        case.eventually(|| shared_value(0) > begun)?;
        TABLE.revoke(memory.slot())?;
        let seen = shared_value(1);
        server.is_told()?;
        equal!((shared_value(1), caller.thread.info()?.state), (seen, ThreadState::Calling));
        // With other time the server goes on, and answers a caller that has none.
        server.help_out()?;
        shared(2).store(1, Ordering::SeqCst);
        let Received { badge, message, .. } = server.faults.recv(Some(server.fault_reply), None, in_ms(PATIENCE_MS))?;
        equal!((badge, message.words[0], message.words[3]), (FAULT + 1, FaultKind::NoTime as u64, 1));
        caller.thread.set_context(Some(caller.context))?;
        server.fault_reply.send(&Message::OK, None)?;
        case.join(caller)?;
        equal!((shared_value(8), shared_value(9)), (1, 99));
        shared(8).store(0, Ordering::SeqCst);
    }
    Ok(())
}

fn a_server_with_time_of_its_own_gives_the_borrowed_back(case: &mut Case) -> Outcome {
    let server = passive(case, LOW, compute)?;
    let caller = case.helper(0, LOW, call_once, number(server.endpoint))?;
    case.eventually(|| shared_value(0) == 1)?;
    server.helper.thread.set_context(Some(server.helper.context))?;
    let (used, seen) = (caller.context.info()?.used_ns, shared_value(1));
    case.eventually(|| shared_value(1) > seen)?;
    equal!(caller.context.info()?.used_ns, used);
    shared(2).store(1, Ordering::SeqCst);
    case.join(caller)?;
    equal!(shared_value(9), 99);
    Ok(())
}
