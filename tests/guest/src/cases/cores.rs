//! Several cores at once.

use core::sync::atomic::Ordering;

use anos::abi::object::ThreadState;
use anos::abi::syscall::{FOREVER, POLL};
use anos::capability::{Capability, Endpoint, Notification};
use anos::{Error, Kind, Message, Rights, env, sys};

use super::cases;
use super::ipc::{at, number, server};
use super::threads::count_for_ever;
use crate::case::{Case, PATIENCE_MS, TABLE, count, counters, in_ms, look, shared, shared_value, spin};
use crate::check::{Outcome, check, equal};
use crate::helper::{HIGH, LOW, NORMAL};

cases![
    every_core_runs_threads,
    all_cores_run_at_once on 2,
    a_call_to_every_core_is_answered,
    a_thousand_calls_between_two_other_cores on 3,
    a_signal_wakes_an_idle_core on 2,
    a_kick_is_counted on 2,
    no_signal_is_lost_among_cores on 2,
    cores_make_and_delete_at_once on 2,
    callers_on_all_cores_are_served on 2,
    callers_on_all_cores_learn_of_the_end on 2,
    a_thread_is_stopped_from_two_cores_at_once on 2,
    threads_on_all_cores_are_taken_back on 2,
];

fn every_core_runs_threads(case: &mut Case) -> Outcome {
    for on in 0..env::cores().min(16) {
        let helper = case.helper(on, LOW, |_| count(0), 0)?;
        case.join(helper)?;
        equal!((shared_value(0), u64::from(helper.thread.info()?.core)), (on + 1, on));
    }
    Ok(())
}

fn all_cores_run_at_once(case: &mut Case) -> Outcome {
    /// Waits, without a system call, until all have come.
    fn meet(all: u64) {
        count(0);
        if spin(|| shared_value(0) == all) {
            count(1);
        }
    }
    let all = env::cores().min(16);
    let mut helpers = [None; 16];
    for (on, helper) in (0..all).zip(&mut helpers) {
        *helper = Some(case.helper(on, LOW, meet, all)?);
    }
    case.join_all(helpers.into_iter().flatten())?;
    equal!(shared_value(1), all);
    Ok(())
}

fn a_call_to_every_core_is_answered(case: &mut Case) -> Outcome {
    for on in 0..env::cores().min(16) {
        let (endpoint, ..) = server(case, on)?;
        for n in 0..100 {
            let answer = sys::call(endpoint.slot(), &Message::new(n, &[n; 8]), None, None, in_ms(PATIENCE_MS))?;
            check!(answer.message.words == [n + 1; 8], "core {on}, call {n}: {:x?}", answer.message.words);
        }
    }
    Ok(())
}

/// A helper: makes so many calls to the server in word 20; word 0 counts right answers.
fn call_often(times: u64) {
    let endpoint: Endpoint = at(shared_value(20));
    for n in 0..times {
        match sys::call(endpoint.slot(), &Message::new(n, &[n; 8]), None, None, FOREVER) {
            Ok(answer) if answer.message.words == [n + 1; 8] => count(0),
            _ => count(1),
        }
    }
}

fn a_thousand_calls_between_two_other_cores(case: &mut Case) -> Outcome {
    let (endpoint, ..) = server(case, 1)?;
    shared(20).store(number(endpoint), Ordering::SeqCst);
    let caller = case.helper(2, LOW, call_often, 1000)?;
    case.join(caller)?;
    equal!((shared_value(0), shared_value(1)), (1000, 0));
    Ok(())
}

/// A helper: counts in word 0 the signals that come, until word 1 is set.
fn count_signals(notification: u64) {
    while shared_value(1) == 0 {
        if at::<Notification>(notification).wait(FOREVER).is_ok() {
            count(0);
        }
    }
}

fn a_signal_wakes_an_idle_core(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 1)?;
    let helper = case.helper(env::cores() - 1, LOW, count_signals, number(original))?;
    for n in 0..50 {
        let waits = || helper.thread.info().is_ok_and(|info| info.state == ThreadState::Receiving);
        check!(spin(waits), "it does not wait (signal {n})");
        bit.signal()?;
        check!(spin(|| shared_value(0) == n + 1), "signal {n} did not wake it");
    }
    Ok(())
}

fn a_kick_is_counted(case: &mut Case) -> Outcome {
    let before = counters()?.kicks;
    for _ in 0..5 {
        case.sleep(2)?;
        let helper = case.helper(1, LOW, |_| count(0), 0)?;
        case.join(helper)?;
    }
    let kicks = counters()?.kicks - before;
    check!(kicks >= 1, "{kicks} kicks");
    Ok(())
}

fn no_signal_is_lost_among_cores(case: &mut Case) -> Outcome {
    /// Signals, waits until it was seen, and so on.
    fn signal_often(bit: u64) {
        for n in 0..300 {
            let _ = at::<Notification>(bit).signal();
            if !spin(|| shared_value(0) > n) {
                count(2);
                return;
            }
        }
    }
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 1)?;
    let waiter = case.helper(0, HIGH, count_signals, number(original))?;
    let signaller = case.helper(1, LOW, signal_often, number(bit))?;
    case.join(signaller)?;
    equal!((shared_value(2), shared_value(0)), (0, 300));
    shared(1).store(1, Ordering::SeqCst);
    bit.signal()?;
    case.join(waiter)?;
    Ok(())
}

/// A helper: copies the Endpoint in word 20 into a slot of its own, and deletes it, many times.
fn copy_and_delete(slot: u64) {
    let own: Endpoint = at(slot);
    let source: Endpoint = at(shared_value(20));
    for n in 0..300 {
        let copied = TABLE.mint(source.slot(), own.slot(), Rights::WRITE, n + 1).is_ok();
        let right = look(own.slot()).is_ok_and(|look| look.kind == Kind::Endpoint && look.badge == n + 1);
        let deleted = TABLE.delete(own.slot()).is_ok();
        let empty = look(own.slot()).is_ok_and(|look| look.kind == Kind::Empty);
        count(if copied && right && deleted && empty { 0 } else { 1 });
    }
}

fn cores_make_and_delete_at_once(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    shared(20).store(number(endpoint), Ordering::SeqCst);
    let all = env::cores().min(8);
    let mut helpers = [None; 8];
    for (on, helper) in (0..all).zip(&mut helpers) {
        let slot = case.slot();
        *helper = Some(case.helper(on, LOW, copy_and_delete, slot.number().into())?);
    }
    case.join_all(helpers.into_iter().flatten())?;
    equal!((shared_value(0), shared_value(1)), (300 * all, 0));
    // Nothing is left of what they made.
    equal!(TABLE.revoke_step(endpoint.slot()), Ok(()));
    Ok(())
}

fn callers_on_all_cores_are_served(case: &mut Case) -> Outcome {
    let (endpoint, ..) = server(case, 0)?;
    shared(20).store(number(endpoint), Ordering::SeqCst);
    let all = env::cores().min(8);
    let mut helpers = [None; 8];
    for (on, helper) in (0..all).zip(&mut helpers) {
        *helper = Some(case.helper(on, LOW, call_often, 200)?);
    }
    case.join_all(helpers.into_iter().flatten())?;
    equal!((shared_value(0), shared_value(1)), (200 * all, 0));
    Ok(())
}

fn callers_on_all_cores_learn_of_the_end(case: &mut Case) -> Outcome {
    /// Calls until that fails; word 0 counts those that failed as they should.
    fn call_until_the_end(endpoint: u64) {
        loop {
            match sys::call(at::<Endpoint>(endpoint).slot(), &Message::OK, None, None, FOREVER) {
                Ok(_) => count(1),
                Err(Error::PeerDied | Error::EmptySlot) => break count(0),
                Err(_) => break count(2),
            }
        }
    }
    let (endpoint, reply, _) = server(case, 0)?;
    let all = env::cores().min(8);
    let mut helpers = [None; 8];
    for (on, helper) in (0..all).zip(&mut helpers) {
        *helper = Some(case.helper(on, LOW, call_until_the_end, number(endpoint))?);
    }
    case.eventually(|| shared_value(1) > 0)?;
    TABLE.delete(endpoint.slot())?;
    TABLE.delete(reply.slot())?;
    case.join_all(helpers.into_iter().flatten())?;
    equal!((shared_value(0), shared_value(2)), (all, 0));
    Ok(())
}

fn a_thread_is_stopped_from_two_cores_at_once(case: &mut Case) -> Outcome {
    /// Suspends and resumes the thread, many times.
    fn pester(thread: u64) {
        let thread: anos::capability::Thread = at(thread);
        for _ in 0..300 {
            let suspended = thread.suspend();
            let resumed = thread.resume();
            // The other may have been faster.
            let right = suspended.is_ok() && matches!(resumed, Ok(()) | Err(Error::Busy));
            count(if right { 1 } else { 2 });
        }
    }
    let last = env::cores() - 1;
    let victim = case.helper(last, LOW, count_for_ever, 0)?;
    let helpers = [case.helper(0, NORMAL, pester, victim.number())?, case.helper(1, HIGH, pester, victim.number())?];
    case.join_all(helpers)?;
    equal!((shared_value(1), shared_value(2)), (600, 0));
    let _ = victim.thread.resume();
    let seen = shared_value(0);
    check!(spin(|| shared_value(0) > seen), "it does not go on");
    Ok(())
}

fn threads_on_all_cores_are_taken_back(case: &mut Case) -> Outcome {
    fn wait(endpoint: u64) {
        let _ = at::<Endpoint>(endpoint).recv(None, None, FOREVER);
    }
    let endpoint: Endpoint = case.make()?;
    for on in 0..env::cores().min(8) {
        case.helper(on, LOW, count_for_ever, 0)?;
        case.helper(on, HIGH, wait, number(endpoint))?;
        case.helper(on, NORMAL, call_often, u64::MAX)?;
    }
    // The supervisor takes them back, and sees that nothing is left. What they do until then can't be told from here,
    // but that they are there can.
    case.eventually(|| shared_value(0) > 0 || shared_value(1) > 0)?;
    equal!(endpoint.send(&Message::OK, None, POLL), Ok(()));
    Ok(())
}
