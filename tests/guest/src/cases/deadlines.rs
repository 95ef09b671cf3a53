//! Deadlines: never early, soon after, in order, and gone when the wait is.

use core::sync::atomic::Ordering;

use anos::abi::object::ThreadState;
use anos::abi::syscall::FOREVER;
use anos::capability::{Endpoint, Notification};
use anos::{Error, Message, Rights};

use super::cases;
use super::ipc::{at, number};
use crate::case::{Case, PATIENCE_MS, ROUNDS, count, in_ms, now, shared, shared_value, spin_until, ticket};
use crate::check::{Failure, Outcome, check, equal};
use crate::helper::{HIGH, LOW};

cases![
    a_deadline_is_never_early_and_soon_met,
    a_deadline_in_the_past_is_met_at_once,
    short_waits_are_short,
    long_waits_are_long,
    waits_end_in_the_order_of_their_deadlines,
    many_waits_end_together,
    many_waits_end_each_at_its_time,
    for_ever_does_not_end,
    a_send_waits_until_its_deadline,
    a_signal_in_time_ends_the_wait,
    a_met_wait_leaves_no_deadline_behind,
    suspending_a_waiting_thread_ends_its_deadline,
    deadlines_are_met_on_every_core on 2,
    a_deadline_moves_with_its_thread on 2,
];

const MS: u64 = 1_000_000;

/// Waits in vain until a deadline; how much later than it that ended, ns.
fn lateness(never: Notification, deadline: u64) -> Outcome<u64> {
    equal!(never.wait(deadline), Err(Error::TimedOut));
    let end = now();
    check!(end >= deadline, "{} ns early", deadline - end);
    Ok(end - deadline)
}

/// How late the best of these waits was, ns: the machine that runs this one may have been busy meanwhile.
fn best(case: &mut Case, waits: impl Iterator<Item = u64>) -> Outcome<u64> {
    let never: Notification = case.make()?;
    let mut best = u64::MAX;
    for wait in waits {
        best = best.min(lateness(never, now() + wait)?);
    }
    Ok(best)
}

fn a_deadline_is_never_early_and_soon_met(case: &mut Case) -> Outcome {
    let late = best(case, (0..12).map(|n| (3 + n) * MS))?;
    check!(late < 3 * MS, "late by {late} ns at best");
    Ok(())
}

fn a_deadline_in_the_past_is_met_at_once(case: &mut Case) -> Outcome {
    let never: Notification = case.make()?;
    let mut quickest = u64::MAX;
    for _ in 0..10 {
        for past in [1, 1000, now() / 2, now() - 1] {
            let start = now();
            equal!(never.wait(past), Err(Error::TimedOut));
            quickest = quickest.min(now() - start);
        }
    }
    check!(quickest < 5 * MS, "it took {quickest} ns at best");
    Ok(())
}

fn short_waits_are_short(case: &mut Case) -> Outcome {
    let late = best(case, (0..50).map(|n| 1000 * (n + 1)))?;
    check!(late < 2 * MS, "late by {late} ns at best");
    Ok(())
}

fn long_waits_are_long(case: &mut Case) -> Outcome {
    let late = best(case, [300 * MS, 210 * MS].into_iter())?;
    check!(late < 100 * MS, "late by {late} ns at best");
    Ok(())
}

/// A helper: waits until the time in word 40 + index; then writes its index plus 1 into the next of words 1...
fn wait_and_note(index: u64) {
    let never: Notification = at(shared_value(0));
    let deadline = shared_value(40 + index);
    if never.wait(deadline) == Err(Error::TimedOut) && now() >= deadline {
        let place = ticket(39) + 1;
        shared(place).store(index + 1, Ordering::SeqCst);
    }
}

/// Helpers that wait until these times, in ms from now.
fn waiters<const N: usize>(case: &mut Case, on: u64, times: [u64; N]) -> Outcome {
    let never: Notification = case.make()?;
    shared(0).store(number(never), Ordering::SeqCst);
    let start = now();
    let mut helpers = [None; N];
    for ((index, helper), time) in (0..).zip(&mut helpers).zip(times) {
        shared(40 + index).store(start + time * MS, Ordering::SeqCst);
        *helper = Some(case.helper(on, HIGH, wait_and_note, index)?);
    }
    case.join_all(helpers.into_iter().flatten())?;
    Ok(())
}

fn waits_end_in_the_order_of_their_deadlines(case: &mut Case) -> Outcome {
    // If the machine under this one is busy, several may be due at once; then their order doesn't matter, and they try
    // again farther apart. (A case has no helpers for more than six rounds.)
    let mut order = [0; 5];
    for apart in [1, 1, 2, 4, 8, 16] {
        shared(39).store(0, Ordering::SeqCst);
        waiters(case, 0, [90, 60, 120, 75, 105].map(|time| time * apart))?;
        equal!(shared_value(39), 5);
        order = core::array::from_fn(|n| shared_value(n as u64 + 1));
        if order == [2, 4, 1, 5, 3] {
            break;
        }
    }
    equal!(order, [2, 4, 1, 5, 3]);
    Ok(())
}

fn many_waits_end_together(case: &mut Case) -> Outcome {
    waiters(case, 0, [40; 22])?;
    equal!(shared_value(39), 22);
    Ok(())
}

fn many_waits_end_each_at_its_time(case: &mut Case) -> Outcome {
    waiters(case, 0, core::array::from_fn::<u64, 22, _>(|n| 30 + (n as u64 * 37) % 61))?;
    equal!(shared_value(39), 22);
    Ok(())
}

fn for_ever_does_not_end(case: &mut Case) -> Outcome {
    fn wait(notification: u64) {
        for deadline in [FOREVER, FOREVER - 1, i64::MAX as u64] {
            let _ = at::<Notification>(notification).wait(deadline);
            count(0);
        }
    }
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 1)?;
    let helper = case.helper(0, HIGH, wait, number(original))?;
    for signalled in 1..=3 {
        case.sleep(15)?;
        equal!((shared_value(0), helper.thread.info()?.state), (signalled - 1, ThreadState::Receiving));
        bit.signal()?;
        equal!(shared_value(0), signalled);
    }
    Ok(())
}

fn a_send_waits_until_its_deadline(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let deadline = in_ms(10);
    equal!(endpoint.send(&Message::OK, None, deadline), Err(Error::TimedOut));
    check!(now() >= deadline);
    equal!(endpoint.recv(None, None, anos::abi::syscall::POLL), Err(Error::TimedOut));
    Ok(())
}

/// A helper: signals after 10 ms.
fn signal_later(bit: u64) {
    spin_until(10, || false);
    let _ = at::<Notification>(bit).signal();
}

fn a_signal_in_time_ends_the_wait(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 4)?;
    case.helper(0, LOW, signal_later, number(bit))?;
    let start = now();
    equal!(original.wait(start + 20_000 * MS), Ok(4));
    check!(now() - start < 10_000 * MS);
    Ok(())
}

/// Waits with a deadline, and is signalled before it; the deadline, which is still to come.
fn met_wait(case: &mut Case, original: Notification, bit: Notification) -> Outcome<u64> {
    for _ in 0..ROUNDS {
        case.helper(0, LOW, signal_later, number(bit))?;
        let deadline = in_ms(400);
        let ended = original.wait(deadline);
        if ended == Err(Error::TimedOut) && now() >= deadline {
            equal!(original.wait(in_ms(PATIENCE_MS)), Ok(4));
            continue;
        }
        equal!(ended, Ok(4));
        return Ok(deadline);
    }
    Err(Failure::new(format_args!("no signal came before the deadline")))
}

fn a_met_wait_leaves_no_deadline_behind(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 4)?;
    let old = met_wait(case, original, bit)?;
    // The old deadline comes and goes while this wait goes on.
    let new = old + 30 * MS;
    equal!(original.wait(new), Err(Error::TimedOut));
    check!(now() >= new);
    Ok(())
}

fn suspending_a_waiting_thread_ends_its_deadline(case: &mut Case) -> Outcome {
    fn wait(notification: u64) {
        let ended = at::<Notification>(notification).wait(in_ms(300));
        shared(1).store(ended.map_or_else(|error| error as u64, |_| 1000), Ordering::SeqCst);
        count(0);
    }
    let never: Notification = case.make()?;
    for _ in 0..ROUNDS {
        shared(0).store(0, Ordering::SeqCst);
        let start = now();
        let helper = case.helper(0, HIGH, wait, number(never))?;
        helper.thread.suspend()?;
        if shared_value(0) == 1 && now() - start >= 300 * MS {
            // The deadline came first.
            continue;
        }
        case.sleep(350)?;
        equal!((shared_value(0), helper.thread.info()?.state), (0, ThreadState::Stopped));
        helper.thread.resume()?;
        case.join(helper)?;
        equal!((shared_value(0), shared_value(1)), (1, Error::Cancelled as u64));
        return Ok(());
    }
    Err(Failure::new(format_args!("no thread was suspended before its deadline")))
}

fn deadlines_are_met_on_every_core(case: &mut Case) -> Outcome {
    for on in 0..anos::env::cores().min(8) {
        shared(39).store(0, Ordering::SeqCst);
        waiters(case, on, [15, 10, 20])?;
        check!(shared_value(39) == 3, "{} of 3 on core {on}", shared_value(39));
    }
    Ok(())
}

fn a_deadline_moves_with_its_thread(case: &mut Case) -> Outcome {
    let never: Notification = case.make()?;
    shared(0).store(number(never), Ordering::SeqCst);
    shared(40).store(in_ms(50), Ordering::SeqCst);
    let helper = case.helper(0, HIGH, wait_and_note, 0)?;
    case.move_to(helper.thread, 1)?;
    case.join(helper)?;
    equal!((shared_value(39), helper.thread.info()?.core), (1, 1));
    Ok(())
}
