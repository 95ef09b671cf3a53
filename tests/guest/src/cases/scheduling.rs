//! Who runs: priorities, turns, ceilings, and moves from core to core.

use core::sync::atomic::Ordering;

use anos::abi::object::{Method, ThreadState};
use anos::abi::syscall::FOREVER;
use anos::capability::{Capability, Notification, SchedContext, SchedControl, Thread, invoke};
use anos::{Error, Rights, env, sys};

use super::cases;
use super::ipc::{at, number};
use super::threads::count_for_ever;
use crate::case::{Case, MEMORY, ROUNDS, core, count, in_ms, now, shared, shared_value, spin, spin_until, ticket};
use crate::check::{Outcome, check, equal};
use crate::helper::{HIGH, LOW, NORMAL};
use crate::supervisor::WORKER;

cases![
    a_more_urgent_thread_runs_at_once,
    a_less_urgent_thread_waits,
    a_signal_to_a_more_urgent_thread_preempts,
    a_signal_to_an_equal_thread_does_not_preempt,
    the_timer_preempts_for_a_more_urgent_thread,
    yield_goes_round_among_equals,
    yield_alone_comes_back,
    yield_does_not_reach_the_less_urgent,
    equals_take_turns_by_the_timer,
    raising_a_ready_thread_preempts,
    lowering_oneself_lets_another_run,
    priorities_end_at_255,
    nobody_gives_more_than_its_ceiling,
    a_thread_s_core_needs_a_context_of_it,
    a_core_without_work_idles,
    a_more_urgent_thread_preempts_on_another_core on 2,
    raising_a_thread_preempts_on_another_core on 2,
    a_running_thread_moves_to_another_core on 2,
    a_waiting_thread_wakes_on_its_new_core on 2,
    a_thread_that_runs_elsewhere_is_suspended on 2,
    a_thread_that_runs_elsewhere_is_deleted on 2,
    a_thread_moves_a_hundred_times on 2,
];

fn a_more_urgent_thread_runs_at_once(case: &mut Case) -> Outcome {
    let helper = case.helper(0, HIGH, |_| count(0), 0)?;
    equal!((shared_value(0), helper.thread.info()?.state), (1, ThreadState::Stopped));
    Ok(())
}

fn a_less_urgent_thread_waits(case: &mut Case) -> Outcome {
    let helper = case.helper(0, LOW, |_| count(0), 0)?;
    spin_until(30, || shared_value(0) != 0);
    equal!((shared_value(0), helper.thread.info()?.state), (0, ThreadState::Ready));
    case.join(helper)?;
    equal!(shared_value(0), 1);
    Ok(())
}

/// A helper: waits for a signal, then counts in word 0.
fn wait_then_count(notification: u64) {
    if at::<Notification>(notification).wait(FOREVER).is_ok() {
        count(0);
    }
}

fn a_signal_to_a_more_urgent_thread_preempts(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 1)?;
    case.helper(0, HIGH, wait_then_count, number(original))?;
    bit.signal()?;
    equal!(shared_value(0), 1);
    Ok(())
}

fn a_signal_to_an_equal_thread_does_not_preempt(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 1)?;
    for n in 0..10 {
        let helper = case.helper(0, NORMAL, wait_then_count, number(original))?;
        sys::yield_now();
        // A fresh turn, so that the timer doesn't end it in between.
        case.sleep(1)?;
        let start = now();
        bit.signal()?;
        let seen = shared_value(0);
        let spent = now() - start;
        case.join(helper)?;
        if seen == n {
            return Ok(());
        }
        check!(spent > 5_000_000, "preempted after {spent} ns");
    }
    // The machine under this one is so busy that every turn ended by the timer.
    check!(false, "every one of ten turns lasted too long");
    Ok(())
}

fn the_timer_preempts_for_a_more_urgent_thread(case: &mut Case) -> Outcome {
    fn sleep_then_count(notification: u64) {
        let _ = at::<Notification>(notification).wait(shared_value(1));
        count(0);
    }
    let never: Notification = case.make()?;
    let deadline = in_ms(5);
    shared(1).store(deadline, Ordering::SeqCst);
    let helper = case.helper(0, HIGH, sleep_then_count, number(never))?;
    check!(spin(|| shared_value(0) == 1), "the timer did not come");
    check!(now() >= deadline, "{} ns early", deadline - now());
    case.join(helper)?;
    Ok(())
}

/// A helper: writes its number into the next of words 1.., and yields, four times.
fn write_and_yield(number: u64) {
    for _ in 0..4 {
        let place = ticket(0) + 1;
        shared(place).store(number, Ordering::SeqCst);
        sys::yield_now();
    }
}

fn yield_goes_round_among_equals(case: &mut Case) -> Outcome {
    let mut order = [0; 12];
    // If the machine under this one is busy, a turn may end by the timer in between.
    for _ in 0..5 {
        shared(0).store(0, Ordering::SeqCst);
        let mut helpers = [None; 3];
        for (n, helper) in (1..).zip(&mut helpers) {
            *helper = Some(case.helper(0, LOW, write_and_yield, n)?);
        }
        case.join_all(helpers.into_iter().flatten())?;
        order = core::array::from_fn(|n| shared_value(n as u64 + 1));
        if order == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3] {
            break;
        }
    }
    equal!(order, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
    Ok(())
}

fn yield_alone_comes_back(_: &mut Case) -> Outcome {
    let end = in_ms(crate::case::PATIENCE_MS);
    for _ in 0..1000 {
        sys::yield_now();
    }
    check!(now() < end);
    Ok(())
}

fn yield_does_not_reach_the_less_urgent(case: &mut Case) -> Outcome {
    case.helper(0, LOW, |_| count(0), 0)?;
    for _ in 0..100 {
        sys::yield_now();
    }
    equal!(shared_value(0), 0);
    Ok(())
}

fn equals_take_turns_by_the_timer(case: &mut Case) -> Outcome {
    fn compute(_: u64) {
        loop {
            core::hint::spin_loop();
        }
    }
    let helpers = [case.helper(0, LOW, compute, 0)?, case.helper(0, LOW, compute, 0)?];
    // Neither ever waits: without the timer the second would get nothing.
    let has_run = |thread: Thread| thread.info().is_ok_and(|info| info.cpu_time_ns >= 30_000_000);
    case.eventually(|| helpers.iter().all(|helper| has_run(helper.thread)))
}

fn raising_a_ready_thread_preempts(case: &mut Case) -> Outcome {
    let helper = case.helper(0, LOW, |_| count(0), 0)?;
    equal!(shared_value(0), 0);
    helper.thread.set_priority(HIGH, HIGH)?;
    equal!(shared_value(0), 1);
    Ok(())
}

fn lowering_oneself_lets_another_run(case: &mut Case) -> Outcome {
    let helper = case.helper(0, LOW, |_| count(0), 0)?;
    WORKER.set_priority(LOW - 1, u8::MAX)?;
    equal!(shared_value(0), 1);
    WORKER.set_priority(NORMAL, u8::MAX)?;
    case.join(helper)?;
    Ok(())
}

fn priorities_end_at_255(case: &mut Case) -> Outcome {
    let thread: Thread = case.make()?;
    for words in [[256, 1], [1, 256], [u64::MAX, 0]] {
        let answer = invoke(thread.slot(), Method::ThreadSetPriority, &words, None, None);
        equal!(answer, Err(Error::InvalidArgument));
    }
    equal!(thread.set_priority(255, 255), Ok(()));
    equal!(thread.info()?.priority, 255);
    Ok(())
}

fn nobody_gives_more_than_its_ceiling(case: &mut Case) -> Outcome {
    fn raise(thread: u64) {
        let thread: Thread = at(thread);
        let results = [
            thread.set_priority(61, 0) == Err(Error::MissingRights),
            thread.set_priority(0, 61) == Err(Error::MissingRights),
            thread.set_priority(60, 60) == Ok(()),
        ];
        results.iter().filter(|result| **result).for_each(|_| count(0));
    }
    let thread: Thread = case.make()?;
    let helper = case.prepare(0, LOW, raise, number(thread))?;
    helper.thread.set_priority(LOW, 60)?;
    case.start(helper)?;
    case.join(helper)?;
    equal!(shared_value(0), 3);
    equal!((thread.info()?.priority, thread.info()?.ceiling), (60, 60));
    Ok(())
}

fn a_thread_s_core_needs_a_context_of_it(case: &mut Case) -> Outcome {
    let (thread, other): (Thread, Notification) = (case.make()?, case.make()?);
    let empty = case.slot();
    equal!(thread.set_context(Some(SchedContext::at(other.slot()))), Err(Error::WrongKind));
    equal!(thread.set_context(Some(SchedContext::at(empty))), Err(Error::EmptySlot));
    // Who may only look at a core makes no time of it.
    let reader = case.copy(core(0), Rights::READ)?;
    equal!(reader.make_context(MEMORY, empty).map(|_| ()), Err(Error::MissingRights));
    equal!(SchedControl::at(other.slot()).make_context(MEMORY, empty).map(|_| ()), Err(Error::WrongKind));
    let context = case.context(env::cores() - 1)?;
    let powerless = case.copy(context, Rights::READ)?;
    equal!(thread.set_context(Some(powerless)), Err(Error::MissingRights));
    equal!(thread.set_context(Some(context)), Ok(()));
    equal!(u64::from(thread.info()?.core), env::cores() - 1);
    Ok(())
}

fn a_core_without_work_idles(case: &mut Case) -> Outcome {
    let last = core(env::cores() - 1);
    let mut most = 0;
    // If the machine under this one stands still when the sleep begins, the deadline may have passed by then.
    for _ in 0..ROUNDS {
        let (start, before) = (now(), last.info()?.idle_ns);
        case.sleep(30)?;
        let idle = last.info()?.idle_ns - before;
        let spent = now() - start;
        check!(idle <= spent, "{idle} ns of {spent}");
        most = most.max(idle);
        if most >= 15_000_000 {
            return Ok(());
        }
    }
    check!(false, "{most} ns of 30 ms at most");
    Ok(())
}

fn a_more_urgent_thread_preempts_on_another_core(case: &mut Case) -> Outcome {
    case.helper(1, LOW, count_for_ever, 0)?;
    check!(spin(|| shared_value(0) != 0), "the first never ran");
    case.helper(1, HIGH, |_| count(1), 0)?;
    check!(spin(|| shared_value(1) != 0), "the second never ran");
    let seen = shared_value(0);
    check!(spin(|| shared_value(0) > seen), "the first does not go on");
    Ok(())
}

fn raising_a_thread_preempts_on_another_core(case: &mut Case) -> Outcome {
    case.helper(1, NORMAL, count_for_ever, 0)?;
    check!(spin(|| shared_value(0) != 0), "the first never ran");
    let second = case.helper(1, LOW, |_| count(1), 0)?;
    spin_until(20, || shared_value(1) != 0);
    equal!(shared_value(1), 0);
    second.thread.set_priority(HIGH, HIGH)?;
    check!(spin(|| shared_value(1) != 0), "the second never ran");
    Ok(())
}

fn a_running_thread_moves_to_another_core(case: &mut Case) -> Outcome {
    let helper = case.helper(1, LOW, count_for_ever, 0)?;
    check!(spin(|| shared_value(0) != 0), "it never ran");
    // To this core, on which it is not urgent enough to run now.
    case.move_to(helper.thread, 0)?;
    let seen = shared_value(0);
    spin_until(20, || shared_value(0) != seen);
    equal!((shared_value(0), helper.thread.info()?.core), (seen, 0));
    case.eventually(|| shared_value(0) > seen)?;
    case.move_to(helper.thread, 1)?;
    let seen = shared_value(0);
    check!(spin(|| shared_value(0) > seen), "it does not go on there");
    Ok(())
}

fn a_waiting_thread_wakes_on_its_new_core(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 1)?;
    let helper = case.helper(0, HIGH, wait_then_count, number(original))?;
    case.move_to(helper.thread, 1)?;
    bit.signal()?;
    check!(spin(|| shared_value(0) == 1), "it never woke");
    equal!(helper.thread.info()?.core, 1);
    case.join(helper)?;
    Ok(())
}

fn a_thread_that_runs_elsewhere_is_suspended(case: &mut Case) -> Outcome {
    for on in 1..env::cores() {
        let helper = case.helper(on, LOW, count_for_ever, 0)?;
        for _ in 0..20 {
            let seen = shared_value(0);
            check!(spin(|| shared_value(0) > seen), "it does not run on core {on}");
            helper.thread.suspend()?;
            let stopped = shared_value(0);
            spin_until(1, || shared_value(0) != stopped);
            equal!(shared_value(0), stopped);
            helper.thread.resume()?;
        }
        helper.thread.suspend()?;
    }
    Ok(())
}

fn a_thread_that_runs_elsewhere_is_deleted(case: &mut Case) -> Outcome {
    for _ in 0..4 {
        let helper = case.helper(env::cores() - 1, LOW, count_for_ever, 0)?;
        let seen = shared_value(0);
        check!(spin(|| shared_value(0) > seen), "it does not run");
        crate::case::TABLE.delete(helper.thread.slot())?;
        let stopped = shared_value(0);
        spin_until(2, || shared_value(0) != stopped);
        equal!(shared_value(0), stopped);
    }
    Ok(())
}

fn a_thread_moves_a_hundred_times(case: &mut Case) -> Outcome {
    fn work(_: u64) {
        loop {
            count(0);
            sys::yield_now();
        }
    }
    let helper = case.helper(1, HIGH, work, 0)?;
    let contexts = case.contexts()?;
    let others = env::cores().min(4) - 1;
    for n in 0..100 {
        // Never to this core, where it would keep this thread from running.
        let on = 1 + n % others;
        helper.thread.set_context(Some(contexts.of(on)))?;
        let seen = shared_value(0);
        check!(spin(|| shared_value(0) > seen), "it does not run on core {on} (move {n})");
        equal!(u64::from(helper.thread.info()?.core), on);
    }
    Ok(())
}
