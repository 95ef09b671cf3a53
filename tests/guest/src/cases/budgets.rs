//! Budgets: how much time a thread gets, who is told when it is used up, and that without a limit no timer comes.

use core::sync::atomic::Ordering;

use anos::abi::fault::{self, FaultKind};
use anos::abi::object::ThreadState;
use anos::capability::{Capability, Endpoint, Notification, Reply};
use anos::sys::Received;
use anos::{Error, Message, Rights, env};

use super::cases;
use super::contexts::{LONGEST, MS, SMALLEST, count_until_told, limited, state};
use super::ipc::{at, number};
use crate::case::{Case, PATIENCE_MS, ROUNDS, TABLE, core, count, in_ms, now, shared, shared_value, spin, spin_until};
use crate::check::{Failure, Outcome, check, equal};
use crate::helper::{HIGH, Helper, LOW};
use crate::supervisor::{DEBUG, WORKER_CONTEXT};

cases![
    a_limited_thread_gets_its_share,
    no_window_sees_more_than_the_budget,
    no_window_sees_more_than_the_budget_with_pauses,
    who_is_out_of_time_lets_others_run,
    raising_the_limit_wakes_who_waits_for_time,
    who_is_out_of_time_is_ready,
    who_is_out_of_time_can_be_suspended,
    a_deadline_passes_without_time_to_see_it,
    the_end_of_a_budget_is_told_if_asked_for,
    the_end_of_a_budget_is_told_once,
    the_end_of_a_budget_is_told_in_every_period,
    the_end_of_a_budget_can_stop_the_thread,
    the_end_of_a_budget_is_no_fault_without_a_handler,
    who_loses_its_context_is_told,
    who_loses_its_context_after_its_budget_is_told_again,
    who_loses_its_context_goes_on_with_another,
    a_thread_can_limit_itself,
    an_unlimited_thread_alone_sees_no_tick,
    an_unlimited_thread_on_another_core_sees_no_interrupt on 2,
];

/// An Endpoint for a helper's faults, and what answers them.
fn handler(case: &mut Case, helper: Helper, badge: u64) -> Outcome<(Endpoint, Reply)> {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let badged = case.mint(endpoint, Rights::ALL, badge)?;
    helper.thread.set_fault_endpoint(Some(badged))?;
    Ok((endpoint, reply))
}

/// The fault that comes: its kind and cause.
fn fault_from(endpoint: Endpoint, reply: Reply, badge: u64) -> Outcome<(FaultKind, u64)> {
    let Received { badge: from, message, .. } = endpoint.recv(Some(reply), None, in_ms(PATIENCE_MS))?;
    equal!((from, message.label), (badge, fault::LABEL));
    let [kind, _, _, cause, ..] = message.words;
    Ok((FaultKind::from_number(kind), cause))
}

fn a_limited_thread_gets_its_share(case: &mut Case) -> Outcome {
    fn count_beside(_: u64) {
        while shared_value(1) == 0 {
            count(2);
        }
    }
    // The timer of the machine under this one may be some ms late, each time.
    let helper = limited(case, HIGH, 30 * MS, 150 * MS, false)?;
    let beside = case.helper(0, LOW, count_beside, 0)?;
    case.start(helper)?;
    let mut share = 0;
    // Where the machine under this one stands still while one of the two runs, that one seems to run long.
    for _ in 0..ROUNDS {
        let before = (shared_value(0), shared_value(2));
        case.sleep(300)?;
        let (own, other) = (shared_value(0) - before.0, shared_value(2) - before.1);
        share = own * 100 / (own + other).max(1);
        if (10..=32).contains(&share) {
            shared(1).store(1, Ordering::SeqCst);
            return Ok(case.join_all([helper, beside])?);
        }
    }
    Err(Failure::new(format_args!("{share} % instead of 20")))
}

/// Budget and period of who watches its own windows.
const WATCHED: (u64, u64) = (5 * MS, 25 * MS);
/// A gap in the time that a thread sees, while it computes: another thread ran, or the machine under this one did.
const GAP: u64 = 50_000;

/// A helper: computes, until the time in word 3, and finds the most that it has computed in any period (word 4) and at all
/// (word 5). Its argument is how long it computes before it sleeps a little; 0: for ever.
fn watch_windows(pause_after: u64) {
    let never: Notification = at(shared_value(6));
    let mut pieces = [(0, 0); 64];
    let mut next = 0;
    let mut awake = now();
    let (mut start, mut last) = (now(), now());
    while last < shared_value(3) {
        let time = now();
        if time - last > GAP {
            pieces[next % 64] = (start, last);
            next += 1;
            let begin = last.saturating_sub(WATCHED.1);
            let inside = pieces.iter().map(|(from, to)| to.saturating_sub(begin.max(*from)).min(to - from));
            shared(4).fetch_max(inside.sum(), Ordering::SeqCst);
            shared(5).fetch_add(last - start, Ordering::SeqCst);
            start = now();
            last = start;
            continue;
        }
        last = time;
        if pause_after != 0 && time - awake > pause_after {
            let _ = never.wait(now() + 3 * MS);
            awake = now();
        }
    }
}

fn windows(case: &mut Case, pause_after: u64) -> Outcome {
    let never: Notification = case.make()?;
    let mut most = 0;
    // The timer of the machine under this one may come late once; what is late is taken off later.
    for _ in 0..2 * ROUNDS {
        for (word, value) in [(3, in_ms(150)), (4, 0), (5, 0), (6, number(never))] {
            shared(word).store(value, Ordering::SeqCst);
        }
        let helper = case.prepare(0, HIGH, watch_windows, pause_after)?;
        core(0).limit(helper.context, WATCHED.0, WATCHED.1, false)?;
        case.start(helper)?;
        case.join(helper)?;
        most = shared_value(4);
        let all = shared_value(5);
        if most <= WATCHED.0 * 13 / 10 && all >= WATCHED.0 {
            return Ok(());
        }
    }
    Err(Failure::new(format_args!("{most} ns in {} instead of {}; {} in all", WATCHED.1, WATCHED.0, shared_value(5))))
}

fn no_window_sees_more_than_the_budget(case: &mut Case) -> Outcome {
    windows(case, 0)
}

fn no_window_sees_more_than_the_budget_with_pauses(case: &mut Case) -> Outcome {
    windows(case, 2 * MS)
}

fn who_is_out_of_time_lets_others_run(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, 10 * MS, LONGEST, false)?;
    // It never waits: that this thread comes back at all is the proof.
    case.start(helper)?;
    // If the machine under this one stood still meanwhile, the time has gone without it.
    for _ in 0..ROUNDS {
        if shared_value(0) == 0 {
            core(0).limit(helper.context, 10 * MS, LONGEST, false)?;
        }
    }
    let seen = shared_value(0);
    check!(seen > 0, "it never ran");
    spin_until(10, || shared_value(0) != seen);
    equal!((shared_value(0), helper.context.info()?.left_ns), (seen, 0));
    Ok(())
}

fn raising_the_limit_wakes_who_waits_for_time(case: &mut Case) -> Outcome {
    let helper = limited(case, LOW, SMALLEST, LONGEST, false)?;
    case.start(helper)?;
    for lift in [(2 * MS, LONGEST), (MS, 10 * MS), (2 * MS, LONGEST), (0, 0)] {
        case.eventually(|| helper.context.info().is_ok_and(|info| info.left_ns == 0))?;
        let seen = shared_value(0);
        core(0).limit(helper.context, lift.0, lift.1, false)?;
        case.eventually(|| shared_value(0) > seen)?;
        if lift == (MS, 10 * MS) {
            // Period after period.
            case.eventually(|| helper.context.info().is_ok_and(|info| info.used_ns > 4 * MS))?;
            core(0).limit(helper.context, SMALLEST, LONGEST, false)?;
        }
    }
    shared(1).store(1, Ordering::SeqCst);
    case.join(helper)?;
    Ok(())
}

fn who_is_out_of_time_is_ready(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, SMALLEST, LONGEST, false)?;
    case.start(helper)?;
    equal!(state(helper.thread)?, ThreadState::Ready);
    equal!(helper.thread.resume(), Err(Error::Busy));
    equal!(core(0).info()?.ready, 0);
    // Another priority makes no time.
    let seen = shared_value(0);
    helper.thread.set_priority(255, 255)?;
    equal!(shared_value(0), seen);
    Ok(())
}

fn who_is_out_of_time_can_be_suspended(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, SMALLEST, LONGEST, false)?;
    case.start(helper)?;
    helper.thread.suspend()?;
    equal!(state(helper.thread)?, ThreadState::Stopped);
    let seen = shared_value(0);
    core(0).limit(helper.context, 0, 0, false)?;
    equal!(shared_value(0), seen);
    helper.thread.set_priority(LOW, LOW)?;
    helper.thread.resume()?;
    case.eventually(|| shared_value(0) > seen)?;
    // And deleted.
    core(0).limit(helper.context, SMALLEST, LONGEST, false)?;
    case.eventually(|| helper.context.info().is_ok_and(|info| info.left_ns == 0))?;
    TABLE.delete(helper.thread.slot())?;
    equal!(helper.context.info()?.bound, false);
    Ok(())
}

fn a_deadline_passes_without_time_to_see_it(case: &mut Case) -> Outcome {
    /// Computes until the time is used up, then waits; word 0 says when it went on.
    fn wait_a_little(never: u64) {
        let _ = at::<Notification>(never).wait(in_ms(2));
        count(0);
        while shared_value(1) == 0 {
            count(2);
        }
        let _ = at::<Notification>(never).wait(in_ms(2));
        count(0);
    }
    let never: Notification = case.make()?;
    let helper = case.prepare(0, HIGH, wait_a_little, number(never))?;
    let limit = || core(0).limit(helper.context, 2 * MS, LONGEST, false);
    let used_up = || helper.context.info().is_ok_and(|info| info.left_ns == 0);
    limit()?;
    case.start(helper)?;
    // Its deadline passes while it has time left, and then it has none. (The machine under this one may stand still while
    // it runs, and so take its time before it waits at all: then it gets it again.)
    case.eventually(|| {
        let waits_for_time = shared_value(0) == 0 && used_up();
        !(waits_for_time && limit().is_err()) && shared_value(0) == 1
    })?;
    case.eventually(used_up)?;
    equal!(shared_value(0), 1);
    shared(1).store(1, Ordering::SeqCst);
    let seen = shared_value(2);
    case.sleep(5)?;
    equal!((shared_value(0), shared_value(2)), (1, seen));
    core(0).limit(helper.context, 0, 0, false)?;
    case.join(helper)?;
    equal!(shared_value(0), 2);
    Ok(())
}

fn the_end_of_a_budget_is_told_if_asked_for(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, SMALLEST, LONGEST, true)?;
    let (endpoint, reply) = handler(case, helper, 77)?;
    case.start(helper)?;
    equal!(fault_from(endpoint, reply, 77)?, (FaultKind::NoTime, 0));
    equal!(state(helper.thread)?, ThreadState::Faulted);
    // The handler can give it more, and let it go on.
    helper.thread.set_priority(LOW, LOW)?;
    core(0).limit(helper.context, 0, 0, false)?;
    let seen = shared_value(0);
    reply.send(&Message::OK, None)?;
    case.eventually(|| shared_value(0) > seen)
}

fn the_end_of_a_budget_is_told_once(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, SMALLEST, LONGEST, true)?;
    let (endpoint, reply) = handler(case, helper, 78)?;
    case.start(helper)?;
    equal!(fault_from(endpoint, reply, 78)?, (FaultKind::NoTime, 0));
    reply.send(&Message::OK, None)?;
    equal!(endpoint.recv(Some(reply), None, in_ms(5)).map(|_| ()), Err(Error::TimedOut));
    equal!(state(helper.thread)?, ThreadState::Ready);
    Ok(())
}

fn the_end_of_a_budget_is_told_in_every_period(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, MS, 20 * MS, true)?;
    let (endpoint, reply) = handler(case, helper, 83)?;
    case.start(helper)?;
    for _ in 0..4 {
        equal!(fault_from(endpoint, reply, 83)?, (FaultKind::NoTime, 0));
        reply.send(&Message::OK, None)?;
    }
    Ok(())
}

fn the_end_of_a_budget_can_stop_the_thread(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, SMALLEST, LONGEST, true)?;
    let (endpoint, reply) = handler(case, helper, 79)?;
    case.start(helper)?;
    equal!(fault_from(endpoint, reply, 79)?, (FaultKind::NoTime, 0));
    reply.send(&Message::new(1, &[]), None)?;
    equal!(state(helper.thread)?, ThreadState::Stopped);
    let seen = shared_value(0);
    core(0).limit(helper.context, 0, 0, false)?;
    equal!(shared_value(0), seen);
    Ok(())
}

fn the_end_of_a_budget_is_no_fault_without_a_handler(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, SMALLEST, LONGEST, true)?;
    helper.thread.set_fault_endpoint(None)?;
    case.start(helper)?;
    equal!(state(helper.thread)?, ThreadState::Ready);
    helper.thread.set_priority(LOW, LOW)?;
    let seen = shared_value(0);
    core(0).limit(helper.context, 0, 0, false)?;
    case.eventually(|| shared_value(0) > seen)
}

/// A helper that counts loses its context: its handler is told, and it counts no more.
fn loses_its_context(case: &mut Case, helper: Helper, endpoint: Endpoint, reply: Reply, badge: u64) -> Outcome {
    case.eventually(|| shared_value(0) > 0)?;
    helper.thread.set_context(None)?;
    let seen = shared_value(0);
    equal!(fault_from(endpoint, reply, badge)?, (FaultKind::NoTime, 1));
    equal!((shared_value(0), state(helper.thread)?), (seen, ThreadState::Faulted));
    Ok(())
}

fn who_loses_its_context_is_told(case: &mut Case) -> Outcome {
    let helper = case.prepare(env::cores() - 1, LOW, count_until_told, 0)?;
    let (endpoint, reply) = handler(case, helper, 80)?;
    case.start(helper)?;
    loses_its_context(case, helper, endpoint, reply, 80)
}

fn who_loses_its_context_after_its_budget_is_told_again(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, SMALLEST, LONGEST, true)?;
    let (endpoint, reply) = handler(case, helper, 81)?;
    case.start(helper)?;
    equal!(fault_from(endpoint, reply, 81)?, (FaultKind::NoTime, 0));
    helper.thread.set_priority(LOW, LOW)?;
    reply.send(&Message::OK, None)?;
    core(0).limit(helper.context, 0, 0, false)?;
    let seen = shared_value(0);
    case.eventually(|| shared_value(0) > seen)?;
    loses_its_context(case, helper, endpoint, reply, 81)
}

fn who_loses_its_context_goes_on_with_another(case: &mut Case) -> Outcome {
    let helper = case.prepare(env::cores() - 1, LOW, count_until_told, 0)?;
    let (endpoint, reply) = handler(case, helper, 82)?;
    case.start(helper)?;
    for on in [0, env::cores() - 1, 0] {
        loses_its_context(case, helper, endpoint, reply, 82)?;
        case.move_to(helper.thread, on)?;
        let seen = shared_value(0);
        reply.send(&Message::OK, None)?;
        case.eventually(|| shared_value(0) > seen)?;
        equal!(u64::from(helper.thread.info()?.core), on);
    }
    Ok(())
}

fn a_thread_can_limit_itself(case: &mut Case) -> Outcome {
    case.helper(0, LOW, count_until_told, 0)?;
    core(0).limit(WORKER_CONTEXT, MS, 10 * MS, false)?;
    // This thread never waits: whenever it is out of time, the other runs.
    let end = in_ms(PATIENCE_MS);
    let mut times = 0;
    let mut seen = 0;
    while times < 5 && now() < end {
        if shared_value(0) > seen {
            seen = shared_value(0);
            times += 1;
        }
    }
    core(0).limit(WORKER_CONTEXT, 0, 0, false)?;
    equal!(times, 5);
    Ok(())
}

/// A helper: computes for 200 ms, and puts what interrupts its core has seen meanwhile into word 0, plus one.
fn count_interrupts(on: u64) {
    let interrupts = || DEBUG.counters(on).map(|counters| counters.interrupts);
    let before = interrupts();
    spin_until(200, || false);
    if let (Ok(before), Ok(after)) = (before, interrupts()) {
        shared(0).store(after - before + 1, Ordering::SeqCst);
    }
}

/// Computes until this core has taken more than ten interrupts.
fn see_interrupts(on: u64) {
    let interrupts = || DEBUG.counters(on).map_or(0, |counters| counters.interrupts);
    let before = interrupts();
    spin(|| interrupts() > before + 10);
    shared(0).store(interrupts() - before + 1, Ordering::SeqCst);
}

fn an_unlimited_thread_alone_sees_no_tick(case: &mut Case) -> Outcome {
    // A turn is 10 ms. What comes is the supervisor's deadline, a minute away, that moves from bucket to bucket. (When the
    // machine under this one stands still, 200 ms may be longer, or other deadlines come due; ticks would come each time.)
    let mut undisturbed = false;
    for _ in 0..ROUNDS {
        let helper = case.helper(0, HIGH, count_interrupts, 0)?;
        case.join(helper)?;
        undisturbed = (1..8).contains(&shared_value(0));
        if undisturbed {
            break;
        }
    }
    check!(undisturbed, "{} interrupts in 200 ms", shared_value(0) - 1);
    // With a limit there are.
    let helper = case.prepare(0, HIGH, see_interrupts, 0)?;
    core(0).limit(helper.context, MS, 10 * MS, false)?;
    case.start(helper)?;
    case.join(helper)?;
    check!(shared_value(0) > 10, "only {} interrupts", shared_value(0) - 1);
    Ok(())
}

fn an_unlimited_thread_on_another_core_sees_no_interrupt(case: &mut Case) -> Outcome {
    for on in 1..env::cores() {
        let helper = case.helper(on, LOW, count_interrupts, on)?;
        case.join(helper)?;
        equal!(shared_value(0), 1);
    }
    Ok(())
}
