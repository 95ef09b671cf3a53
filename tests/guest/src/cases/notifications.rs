//! Notifications: bits that signals are OR-ed into.

use core::sync::atomic::Ordering;

use anos::abi::syscall::{FOREVER, POLL};
use anos::capability::{Capability, Endpoint, Notification};
use anos::{Error, Message, Rights};

use super::cases;
use super::ipc::{at, number};
use crate::case::{Case, PATIENCE_MS, TABLE, count, in_ms, shared, shared_value};
use crate::check::{Outcome, check, equal};
use crate::helper::HIGH;
use crate::supervisor::WORKER;

cases![
    signals_are_or_ed_together,
    a_wait_takes_all_bits,
    a_poll_finds_nothing_or_what_is_there,
    a_signal_wakes_who_waits,
    the_first_to_wait_gets_the_bits,
    every_bit_of_the_badge_arrives,
    signalling_takes_write_and_waiting_takes_read,
    a_call_signals_as_a_send_does,
    a_bound_notification_is_received_from_any_endpoint,
    bits_that_came_before_are_received_at_once,
    a_bound_notification_wakes_a_receiver,
    unbinding_ends_that,
    deleting_the_last_capability_unbinds,
    a_notification_is_bound_to_one_thread,
    binding_takes_read,
    binding_another_replaces_the_first,
    waiters_learn_that_the_notification_is_gone,
];

/// A Notification, and capabilities that signal bits 0 to 3 of it.
fn signalled(case: &mut Case) -> Outcome<(Notification, [Notification; 4])> {
    let original: Notification = case.make()?;
    let mut bits = [original; 4];
    for (n, bit) in bits.iter_mut().enumerate() {
        *bit = case.mint(original, Rights::WRITE, 1 << n)?;
    }
    Ok((original, bits))
}

fn signals_are_or_ed_together(case: &mut Case) -> Outcome {
    let (original, bits) = signalled(case)?;
    bits[0].signal()?;
    bits[2].signal()?;
    bits[2].signal()?;
    equal!(original.wait(POLL), Ok(5));
    Ok(())
}

fn a_wait_takes_all_bits(case: &mut Case) -> Outcome {
    let (original, bits) = signalled(case)?;
    bits[1].signal()?;
    equal!(original.wait(FOREVER), Ok(2));
    equal!(original.wait(POLL), Err(Error::TimedOut));
    bits[3].signal()?;
    equal!(original.wait(POLL), Ok(8));
    Ok(())
}

fn a_poll_finds_nothing_or_what_is_there(case: &mut Case) -> Outcome {
    let (original, bits) = signalled(case)?;
    equal!(original.wait(POLL), Err(Error::TimedOut));
    bits[0].signal()?;
    let received = anos::sys::recv(original.slot(), None, None, POLL)?;
    check!(received.status.is_signal() && !received.status.is_answerable());
    equal!((received.badge, received.message), (1, Message::default()));
    Ok(())
}

/// A helper: waits once; word `index` becomes the bits, or 1000 and the error. The Notification is in word 30 + index.
fn wait_once(index: u64) {
    let notification: Notification = at(shared_value(30 + index));
    let value = notification.wait(FOREVER).unwrap_or_else(|error| 1000 + error as u64);
    shared(index).store(value, Ordering::SeqCst);
}

fn a_signal_wakes_who_waits(case: &mut Case) -> Outcome {
    let (original, bits) = signalled(case)?;
    shared(31).store(number(original), Ordering::SeqCst);
    let helper = case.helper(0, HIGH, wait_once, 1)?;
    check!(!case.is_done(helper));
    bits[3].signal()?;
    case.join(helper)?;
    equal!(shared_value(1), 8);
    equal!(original.wait(POLL), Err(Error::TimedOut));
    Ok(())
}

fn the_first_to_wait_gets_the_bits(case: &mut Case) -> Outcome {
    let (original, bits) = signalled(case)?;
    let mut helpers = [None; 3];
    for (index, helper) in (1..).zip(&mut helpers) {
        shared(30 + index).store(number(original), Ordering::SeqCst);
        *helper = Some(case.helper(0, HIGH, wait_once, index)?);
    }
    bits[0].signal()?;
    equal!([shared_value(1), shared_value(2), shared_value(3)], [1, 0, 0]);
    bits[1].signal()?;
    bits[2].signal()?;
    equal!([shared_value(1), shared_value(2), shared_value(3)], [1, 2, 4]);
    case.join_all(helpers.into_iter().flatten())?;
    Ok(())
}

fn every_bit_of_the_badge_arrives(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let mut expected = 0;
    for badge in [1 << 63, 0x00ff_00ff_00ff_00ff, 1 << 32, 2] {
        case.mint(original, Rights::WRITE, badge)?.signal()?;
        expected |= badge;
    }
    equal!(original.wait(POLL), Ok(expected));
    Ok(())
}

fn signalling_takes_write_and_waiting_takes_read(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let reader = case.mint(original, Rights::READ, 1)?;
    let writer = case.mint(original, Rights::WRITE, 2)?;
    equal!(reader.signal(), Err(Error::MissingRights));
    equal!(writer.wait(POLL), Err(Error::MissingRights));
    writer.signal()?;
    equal!(reader.wait(POLL), Ok(2));
    Ok(())
}

fn a_call_signals_as_a_send_does(case: &mut Case) -> Outcome {
    let (original, bits) = signalled(case)?;
    let answer = anos::sys::call(bits[1].slot(), &Message::new(7, &[7]), None, None, in_ms(PATIENCE_MS))?;
    equal!((answer.message, answer.badge), (Message::default(), 0));
    equal!(original.wait(POLL), Ok(2));
    Ok(())
}

fn a_bound_notification_is_received_from_any_endpoint(case: &mut Case) -> Outcome {
    let (original, bits) = signalled(case)?;
    let (first, second): (Endpoint, Endpoint) = (case.make()?, case.make()?);
    WORKER.bind(Some(original))?;
    for endpoint in [first, second] {
        bits[2].signal()?;
        let received = endpoint.recv(None, None, POLL)?;
        check!(received.status.is_signal());
        equal!((received.badge, received.message), (4, Message::default()));
        equal!(endpoint.recv(None, None, POLL), Err(Error::TimedOut));
    }
    Ok(())
}

fn bits_that_came_before_are_received_at_once(case: &mut Case) -> Outcome {
    let (original, bits) = signalled(case)?;
    let endpoint: Endpoint = case.make()?;
    bits[0].signal()?;
    WORKER.bind(Some(original))?;
    equal!(endpoint.recv(None, None, POLL)?.badge, 1);
    Ok(())
}

fn a_bound_notification_wakes_a_receiver(case: &mut Case) -> Outcome {
    fn receive(endpoint: u64) {
        match at::<Endpoint>(endpoint).recv(None, None, FOREVER) {
            Ok(received) if received.status.is_signal() => shared(1).store(received.badge, Ordering::SeqCst),
            _ => shared(1).store(1000, Ordering::SeqCst),
        }
    }
    let (original, bits) = signalled(case)?;
    let endpoint: Endpoint = case.make()?;
    let helper = case.prepare(0, HIGH, receive, number(endpoint))?;
    helper.thread.bind(Some(original))?;
    case.start(helper)?;
    bits[3].signal()?;
    case.join(helper)?;
    equal!(shared_value(1), 8);
    // Nobody receives any more: the endpoint's queue is empty.
    equal!(endpoint.send(&Message::OK, None, POLL), Err(Error::TimedOut));
    Ok(())
}

fn unbinding_ends_that(case: &mut Case) -> Outcome {
    let (original, bits) = signalled(case)?;
    let endpoint: Endpoint = case.make()?;
    WORKER.bind(Some(original))?;
    WORKER.bind(None)?;
    bits[0].signal()?;
    equal!(endpoint.recv(None, None, POLL), Err(Error::TimedOut));
    equal!(original.wait(POLL), Ok(1));
    Ok(())
}

fn deleting_the_last_capability_unbinds(case: &mut Case) -> Outcome {
    let first: Notification = case.make()?;
    let copy = case.copy(first, Rights::ALL)?;
    let endpoint: Endpoint = case.make()?;
    WORKER.bind(Some(copy))?;
    TABLE.revoke(first.slot())?;
    equal!(endpoint.recv(None, None, POLL), Err(Error::TimedOut));
    // Free for another thread, or this one again.
    equal!(WORKER.bind(Some(first)), Ok(()));
    Ok(())
}

fn a_notification_is_bound_to_one_thread(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let helper = case.prepare(0, HIGH, |_| {}, 0)?;
    WORKER.bind(Some(original))?;
    equal!(helper.thread.bind(Some(original)), Err(Error::Busy));
    equal!(WORKER.bind(Some(original)), Ok(()));
    WORKER.bind(None)?;
    equal!(helper.thread.bind(Some(original)), Ok(()));
    Ok(())
}

fn binding_takes_read(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let writer = case.copy(original, Rights::WRITE)?;
    equal!(WORKER.bind(Some(writer)), Err(Error::MissingRights));
    let endpoint: Endpoint = case.make()?;
    equal!(WORKER.bind(Some(Notification::at(endpoint.slot()))), Err(Error::WrongKind));
    let empty = case.slot();
    equal!(WORKER.bind(Some(Notification::at(empty))), Err(Error::EmptySlot));
    Ok(())
}

fn binding_another_replaces_the_first(case: &mut Case) -> Outcome {
    let (first, second): (Notification, Notification) = (case.make()?, case.make()?);
    let bit = case.mint(second, Rights::WRITE, 1)?;
    let old = case.mint(first, Rights::WRITE, 2)?;
    let endpoint: Endpoint = case.make()?;
    WORKER.bind(Some(first))?;
    WORKER.bind(Some(second))?;
    old.signal()?;
    equal!(endpoint.recv(None, None, POLL), Err(Error::TimedOut));
    bit.signal()?;
    equal!(endpoint.recv(None, None, POLL)?.badge, 1);
    Ok(())
}

fn waiters_learn_that_the_notification_is_gone(case: &mut Case) -> Outcome {
    fn wait(notification: u64) {
        if at::<Notification>(notification).wait(FOREVER) == Err(Error::Cancelled) {
            count(0);
        }
    }
    let original: Notification = case.make()?;
    let mut helpers = [None; 20];
    for helper in &mut helpers {
        *helper = Some(case.helper(0, HIGH, wait, number(original))?);
    }
    TABLE.delete(original.slot())?;
    case.join_all(helpers.into_iter().flatten())?;
    equal!(shared_value(0), 20);
    Ok(())
}
