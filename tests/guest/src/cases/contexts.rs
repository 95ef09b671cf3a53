//! Scheduling contexts: whose CPU time it is, of which core, and how much.

use core::sync::atomic::Ordering;

use anos::abi::PAGE_SIZE;
use anos::abi::fault::{self, FaultKind};
use anos::abi::object::{Method, ThreadState};
use anos::capability::{Capability, Endpoint, Notification, Reply, SchedContext, Thread, Untyped, invoke};
use anos::sys::Received;
use anos::{Error, Kind, Message, Rights, env};

use super::cases;
use super::ipc::{at, number};
use crate::case::{Case, PATIENCE_MS, ROUNDS, TABLE, core, count, in_ms, now, shared, shared_value, spin_until};
use crate::check::{Failure, Outcome, check, equal};
use crate::helper::{HIGH, Helper, LOW};
use crate::supervisor::{DEBUG, WORKER_CONTEXT};

cases![
    a_thread_needs_a_context_to_start,
    a_context_belongs_to_one_thread,
    a_context_given_back_can_be_another_s,
    a_context_is_of_one_core_for_ever,
    contexts_of_one_core_share_a_page,
    contexts_of_two_cores_do_not_share_a_page on 2,
    a_thread_keeps_its_context_without_a_capability_to_it,
    a_context_ends_with_its_memory,
    a_limit_has_to_make_sense,
    a_limit_takes_the_control_of_the_core on 2,
    limiting_takes_write_and_looking_takes_read,
    a_context_tells_its_limit_and_use,
    a_context_s_use_is_its_thread_s,
    a_new_limit_begins_with_a_full_budget,
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

const MS: u64 = 1_000_000;
/// The longest period: what is used in it doesn't come back while a case runs.
const LONGEST: u64 = 1 << 40;
/// The smallest budget.
const SMALLEST: u64 = 10_000;

/// A helper: counts in word 0 until word 1 is set.
fn count_until_told(_: u64) {
    while shared_value(1) == 0 {
        count(0);
    }
}

/// A helper on core 0 that counts, with so much time in every period.
fn limited(case: &mut Case, priority: u8, budget: u64, period: u64, faults: bool) -> Outcome<Helper> {
    let helper = case.prepare(0, priority, count_until_told, 0)?;
    core(0).limit(helper.context, budget, period, faults)?;
    Ok(helper)
}

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

fn state(thread: Thread) -> Result<ThreadState, Error> {
    Ok(thread.info()?.state)
}

fn a_thread_needs_a_context_to_start(case: &mut Case) -> Outcome {
    let helper = case.prepare(0, HIGH, |_| count(0), 0)?;
    helper.thread.set_context(None)?;
    equal!(case.start(helper), Err(Error::NotRunnable));
    equal!((helper.thread.resume(), state(helper.thread)?), (Err(Error::NotRunnable), ThreadState::Stopped));
    helper.thread.set_context(Some(helper.context))?;
    case.start(helper)?;
    equal!(shared_value(0), 1);
    Ok(())
}

fn a_context_belongs_to_one_thread(case: &mut Case) -> Outcome {
    let helper = case.prepare(0, LOW, |_| count(0), 0)?;
    let other: Thread = case.make()?;
    let copy = case.copy(helper.context, Rights::ALL)?;
    for context in [helper.context, copy] {
        equal!(other.set_context(Some(context)), Err(Error::Busy));
        // To give a thread what it has changes nothing.
        equal!(helper.thread.set_context(Some(context)), Ok(()));
    }
    equal!((helper.context.info()?.bound, copy.info()?.bound), (true, true));
    case.start(helper)?;
    case.join(helper)?;
    equal!(shared_value(0), 1);
    Ok(())
}

fn a_context_given_back_can_be_another_s(case: &mut Case) -> Outcome {
    let context = case.context(0)?;
    equal!(context.info()?.bound, false);
    for n in 1..=5 {
        let helper = case.prepare(0, HIGH, |_| count(0), 0)?;
        helper.thread.set_context(Some(context))?;
        equal!(context.info()?.bound, true);
        case.start(helper)?;
        equal!(shared_value(0), n);
        if n % 2 == 0 {
            helper.thread.set_context(None)?;
        } else {
            TABLE.delete(helper.thread.slot())?;
        }
        equal!(context.info()?.bound, false);
    }
    Ok(())
}

fn a_context_is_of_one_core_for_ever(case: &mut Case) -> Outcome {
    for on in 0..env::cores().min(8) {
        let helper = case.prepare(on, LOW, |_| count(0), 0)?;
        equal!((helper.context.info()?.core, u64::from(helper.thread.info()?.core)), (on, on));
        core(on).limit(helper.context, MS, LONGEST, false)?;
        helper.thread.set_context(None)?;
        helper.thread.set_context(Some(helper.context))?;
        equal!((helper.context.info()?.core, u64::from(helper.thread.info()?.core)), (on, on));
    }
    Ok(())
}

fn contexts_of_one_core_share_a_page(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(2)?;
    let first = case.slots(64);
    let last = env::cores() - 1;
    core(last).make_contexts(memory, 32, first)?;
    equal!(memory.info()?.pages_used, 1);
    let page = DEBUG.page(memory.info()?.address)?;
    equal!((page.kind, page.homes), (Kind::SchedContext, 1 << last));
    core(last).make_contexts(memory, 1, first.offset(32))?;
    equal!(memory.info()?.pages_used, 2);
    Ok(())
}

fn contexts_of_two_cores_do_not_share_a_page(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(8)?;
    let start = memory.info()?.address;
    for (page, on) in (0..).zip([0, 1, 0, 1, 0]) {
        core(on).make_context(memory, case.slot())?;
        equal!(memory.info()?.pages_used, page + 1);
        let found = DEBUG.page(start + page * PAGE_SIZE)?;
        equal!((found.kind, found.homes), (Kind::SchedContext, 1 << on));
    }
    Ok(())
}

fn a_thread_keeps_its_context_without_a_capability_to_it(case: &mut Case) -> Outcome {
    let helper = case.prepare(0, LOW, count_until_told, 0)?;
    let context: SchedContext = case.context(0)?;
    helper.thread.set_context(Some(context))?;
    TABLE.delete(context.slot())?;
    case.start(helper)?;
    case.eventually(|| shared_value(0) > 0)?;
    shared(1).store(1, Ordering::SeqCst);
    case.join(helper)?;
    Ok(())
}

fn a_context_ends_with_its_memory(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(1)?;
    let context = core(0).make_context(memory, case.slot())?;
    let helper = case.prepare(0, LOW, count_until_told, 0)?;
    helper.thread.set_fault_endpoint(None)?;
    helper.thread.set_context(Some(context))?;
    case.start(helper)?;
    case.eventually(|| shared_value(0) > 0)?;
    TABLE.revoke(memory.slot())?;
    let seen = shared_value(0);
    case.sleep(5)?;
    equal!((shared_value(0), state(helper.thread)?), (seen, ThreadState::Ready));
    equal!(helper.thread.set_context(Some(context)), Err(Error::EmptySlot));
    helper.thread.set_context(Some(helper.context))?;
    case.eventually(|| shared_value(0) > seen)
}

fn a_limit_has_to_make_sense(case: &mut Case) -> Outcome {
    let context = case.context(0)?;
    let refused = [
        [SMALLEST - 1, MS, 0],
        [0, MS, 0],
        [MS, 0, 0],
        [MS + 1, MS, 0],
        [MS, LONGEST + 1, 0],
        [LONGEST + 1, LONGEST + 1, 0],
        [u64::MAX, u64::MAX, 0],
        [MS, MS, 2],
        [0, 0, 1],
    ];
    for words in refused {
        let answer = invoke(core(0).slot(), Method::SchedControlLimit, &words, Some(context.slot()), None);
        check!(answer == Err(Error::InvalidArgument), "{words:?}: {answer:?}");
        equal!((context.info()?.budget_ns, context.info()?.period_ns), (0, 0));
    }
    for (budget, period, faults) in [(SMALLEST, SMALLEST, false), (SMALLEST, LONGEST, true), (LONGEST, LONGEST, true)] {
        equal!(core(0).limit(context, budget, period, faults), Ok(()));
        equal!((context.info()?.budget_ns, context.info()?.period_ns), (budget, period));
    }
    equal!(core(0).limit(context, 0, 0, false), Ok(()));
    Ok(())
}

fn a_limit_takes_the_control_of_the_core(case: &mut Case) -> Outcome {
    for on in 0..env::cores().min(4) {
        let context = case.context(on)?;
        for control in 0..env::cores().min(4) {
            let expected = if control == on { Ok(()) } else { Err(Error::InvalidArgument) };
            equal!(core(control).limit(context, MS, 2 * MS, false), expected);
        }
    }
    Ok(())
}

fn limiting_takes_write_and_looking_takes_read(case: &mut Case) -> Outcome {
    let context = case.context(0)?;
    let (reader, writer) = (case.copy(context, Rights::READ)?, case.copy(context, Rights::WRITE)?);
    equal!(core(0).limit(reader, MS, MS, false), Err(Error::MissingRights));
    equal!(core(0).limit(writer, MS, MS, false), Ok(()));
    equal!(writer.info(), Err(Error::MissingRights));
    equal!(reader.info()?.budget_ns, MS);
    let onlooker = case.copy(core(0), Rights::READ)?;
    equal!(onlooker.limit(context, MS, MS, false), Err(Error::MissingRights));
    Ok(())
}

fn a_context_tells_its_limit_and_use(case: &mut Case) -> Outcome {
    let helper = limited(case, LOW, 5 * MS, LONGEST, false)?;
    let fresh = helper.context.info()?;
    equal!((fresh.core, fresh.budget_ns, fresh.period_ns), (0, 5 * MS, LONGEST));
    equal!((fresh.left_ns, fresh.used_ns, fresh.bound), (5 * MS, 0, true));
    case.start(helper)?;
    case.eventually(|| helper.context.info().is_ok_and(|info| info.left_ns == 0))?;
    let used = helper.context.info()?.used_ns;
    check!(used >= 5 * MS, "used {used} ns");
    Ok(())
}

fn a_context_s_use_is_its_thread_s(case: &mut Case) -> Outcome {
    let helper = case.helper(0, LOW, count_until_told, 0)?;
    case.eventually(|| helper.context.info().is_ok_and(|info| info.used_ns > 5 * MS))?;
    // It doesn't run now: this thread does.
    equal!(helper.context.info()?.used_ns, helper.thread.info()?.cpu_time_ns);
    // This thread's own, too, is up to date.
    let start = now();
    let before = WORKER_CONTEXT.info()?.used_ns;
    spin_until(5, || false);
    check!(WORKER_CONTEXT.info()?.used_ns - before <= now() - start, "more time than there was");
    check!(WORKER_CONTEXT.info()?.used_ns > before, "it runs, and uses nothing");
    Ok(())
}

fn a_new_limit_begins_with_a_full_budget(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, SMALLEST, LONGEST, false)?;
    helper.thread.set_priority(LOW, LOW)?;
    case.start(helper)?;
    for n in 1..=5 {
        case.eventually(|| helper.context.info().is_ok_and(|info| info.left_ns == 0))?;
        let used = helper.context.info()?.used_ns;
        core(0).limit(helper.context, n * SMALLEST, LONGEST, false)?;
        equal!((helper.context.info()?.left_ns, helper.context.info()?.used_ns), (n * SMALLEST, used));
    }
    Ok(())
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
        if most <= WATCHED.0 * 13 / 10 && all >= 3 * WATCHED.0 {
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
    let helper = limited(case, HIGH, MS, LONGEST, false)?;
    // It never waits: that this thread comes back at all is the proof.
    case.start(helper)?;
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
    core(0).limit(helper.context, 2 * MS, LONGEST, false)?;
    case.start(helper)?;
    // Its deadline passes while it has time left, and then it has none.
    case.eventually(|| helper.context.info().is_ok_and(|info| info.left_ns == 0))?;
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

fn an_unlimited_thread_alone_sees_no_tick(case: &mut Case) -> Outcome {
    let helper = case.helper(0, HIGH, count_interrupts, 0)?;
    case.join(helper)?;
    // A turn is 10 ms. What comes is the supervisor's deadline, a minute away, that moves from bucket to bucket.
    check!((1..8).contains(&shared_value(0)), "{} interrupts in 200 ms", shared_value(0) - 1);
    // With a limit there are.
    let helper = case.prepare(0, HIGH, count_interrupts, 0)?;
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
