//! Messages between threads: who gets what, in which order, and who is told what when it can't be.

use anos::abi::syscall::{FOREVER, POLL};
use anos::capability::{Capability, Endpoint, Notification, Reply, Slot, Untyped};
use anos::{Error, Message, Rights, sys};

use super::cases;
use crate::case::{Case, PATIENCE_MS, TABLE, count, in_ms, shared, shared_value};
use crate::check::{Outcome, check, equal};
use crate::helper::{HIGH, Helper, LOW};

cases![
    a_send_carries_label_badge_and_eight_words,
    a_call_carries_eight_words_both_ways,
    a_message_waits_for_its_receiver,
    reply_recv_answers_and_takes_the_next,
    a_thousand_calls_get_their_own_answers,
    senders_are_served_in_the_order_they_came,
    receivers_are_served_in_the_order_they_came,
    badges_tell_senders_apart,
    sending_takes_write_and_receiving_takes_read,
    a_poll_to_send_needs_a_waiting_receiver,
    a_poll_to_receive_needs_a_waiting_sender,
    a_call_to_a_receiver_without_reply_fails,
    a_receive_needs_a_reply_that_is_free,
    a_receive_names_a_reply_or_nothing,
    only_endpoints_and_notifications_can_be_received_from,
    senders_learn_that_the_endpoint_is_gone,
    receivers_learn_that_the_endpoint_is_gone,
    callers_learn_that_the_server_s_memory_is_gone,
    a_thread_that_calls_itself_waits_until_its_deadline,
];

/// Words that differ from one another and from one seed to the next.
pub fn words(seed: u64) -> [u64; 8] {
    core::array::from_fn(|n| seed.wrapping_add(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The Endpoint, and so on, in the slot with this number.
pub fn at<T: Capability>(number: u64) -> T {
    let [a, b, c, d, ..] = number.to_le_bytes();
    T::from_slot(Slot::new(u32::from_le_bytes([a, b, c, d])))
}

/// A slot as a number to tell a helper.
pub fn number<T: Capability>(capability: T) -> u64 {
    capability.slot().number().into()
}

/// A helper: sends seed 1 with label 77; word 0 counts who is through.
fn send_once(endpoint: u64) {
    let message = Message { label: 77, words: words(1) };
    if at::<Endpoint>(endpoint).send(&message, None, FOREVER).is_ok() {
        count(0);
    }
}

/// A helper: answers calls for ever, with the label and words plus one.
pub fn serve(arguments: u64) {
    let (endpoint, reply) = (at::<Endpoint>(arguments & 0xffff_ffff), at::<Reply>(arguments >> 32));
    let mut next = endpoint.recv(Some(reply), None, FOREVER);
    while let Ok(received) = next {
        let mut answer = received.message;
        answer.label = 0;
        answer.words.iter_mut().for_each(|word| *word = word.wrapping_add(1));
        next = endpoint.reply_recv(reply, &answer, None, None);
    }
    count(9);
}

/// A server on an Endpoint, waiting for calls.
pub fn server(case: &mut Case, core: u64) -> Outcome<(Endpoint, Reply, Helper)> {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let helper = case.helper(core, HIGH, serve, number(endpoint) | number(reply) << 32)?;
    Ok((endpoint, reply, helper))
}

fn a_send_carries_label_badge_and_eight_words(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let badged = case.mint(endpoint, Rights::WRITE, 0xb00)?;
    let helper = case.helper(0, LOW, send_once, number(badged))?;
    let received = endpoint.recv(None, None, in_ms(PATIENCE_MS))?;
    equal!((received.badge, received.message.label), (0xb00, 77));
    equal!(received.message.words, words(1));
    check!(!received.status.has_capability() && !received.status.is_signal() && !received.status.is_answerable());
    case.join(helper)?;
    equal!(shared_value(0), 1);
    Ok(())
}

fn a_call_carries_eight_words_both_ways(case: &mut Case) -> Outcome {
    fn answer(endpoint: u64) {
        let reply: Reply = at(shared_value(1));
        let received = at::<Endpoint>(endpoint).recv(Some(reply), None, FOREVER);
        if let Ok(received) = received
            && received.status.is_answerable()
            && received.message == (Message { label: 5, words: words(2) })
        {
            let _ = reply.send(&Message { label: 0xffff_0000_ffff_0001, words: words(3) }, None);
        }
    }
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    shared(1).store(number(reply), core::sync::atomic::Ordering::SeqCst);
    case.helper(0, HIGH, answer, number(endpoint))?;
    let message = Message { label: 5, words: words(2) };
    let answer = sys::call(endpoint.slot(), &message, None, None, in_ms(PATIENCE_MS))?;
    equal!((answer.message.label, answer.badge), (0xffff_0000_ffff_0001, 0));
    equal!(answer.message.words, words(3));
    Ok(())
}

fn a_message_waits_for_its_receiver(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let helper = case.helper(0, HIGH, send_once, number(endpoint))?;
    check!(!case.is_done(helper) && shared_value(0) == 0);
    equal!(endpoint.recv(None, None, POLL)?.message.words, words(1));
    equal!(shared_value(0), 1);
    case.join(helper)?;
    Ok(())
}

fn reply_recv_answers_and_takes_the_next(case: &mut Case) -> Outcome {
    let (endpoint, ..) = server(case, 0)?;
    for seed in 1..=3 {
        let answer = endpoint.call(&Message { label: 9, words: words(seed) })?;
        equal!(answer, words(seed).map(|word| word.wrapping_add(1)));
    }
    Ok(())
}

fn a_thousand_calls_get_their_own_answers(case: &mut Case) -> Outcome {
    let (endpoint, ..) = server(case, 0)?;
    for seed in 0..1000 {
        equal!(endpoint.call(&Message { label: seed, words: [seed; 8] })?, [seed + 1; 8]);
    }
    Ok(())
}

fn senders_are_served_in_the_order_they_came(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let mut helpers = [None; 5];
    for (badge, helper) in (1..).zip(&mut helpers) {
        let badged = case.mint(endpoint, Rights::WRITE, badge)?;
        *helper = Some(case.helper(0, HIGH, send_once, number(badged))?);
    }
    for badge in 1..=5 {
        equal!(endpoint.recv(None, None, POLL)?.badge, badge);
        equal!(shared_value(0), badge);
    }
    case.join_all(helpers.into_iter().flatten())?;
    Ok(())
}

fn receivers_are_served_in_the_order_they_came(case: &mut Case) -> Outcome {
    fn receive(index: u64) {
        if let Ok(received) = at::<Endpoint>(shared_value(1)).recv(None, None, FOREVER) {
            shared(2 + index).store(received.message.label, core::sync::atomic::Ordering::SeqCst);
        }
    }
    let endpoint: Endpoint = case.make()?;
    shared(1).store(number(endpoint), core::sync::atomic::Ordering::SeqCst);
    let mut helpers = [None; 4];
    for (index, helper) in (0..).zip(&mut helpers) {
        *helper = Some(case.helper(0, HIGH, receive, index)?);
    }
    for label in 0..4 {
        endpoint.send(&Message::new(100 + label, &[]), None, POLL)?;
        equal!(shared_value(2 + label), 100 + label);
    }
    case.join_all(helpers.into_iter().flatten())?;
    Ok(())
}

fn badges_tell_senders_apart(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    for badge in [0, 1, u64::MAX] {
        let sender = if badge == 0 { endpoint } else { case.mint(endpoint, Rights::WRITE, badge)? };
        let helper = case.helper(0, HIGH, send_once, number(sender))?;
        equal!(endpoint.recv(None, None, POLL)?.badge, badge);
        case.join(helper)?;
    }
    Ok(())
}

fn sending_takes_write_and_receiving_takes_read(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let reader = case.copy(endpoint, Rights::READ.union(Rights::GRANT))?;
    let writer = case.copy(endpoint, Rights::WRITE.union(Rights::GRANT))?;
    equal!(reader.send(&Message::OK, None, POLL), Err(Error::MissingRights));
    equal!(reader.call(&Message::OK), Err(Error::MissingRights.into()));
    equal!(writer.recv(None, None, POLL), Err(Error::MissingRights));
    // With the right, it is only that nobody is there.
    equal!(writer.send(&Message::OK, None, POLL), Err(Error::TimedOut));
    equal!(reader.recv(None, None, POLL), Err(Error::TimedOut));
    Ok(())
}

fn a_poll_to_send_needs_a_waiting_receiver(case: &mut Case) -> Outcome {
    fn receive(endpoint: u64) {
        if at::<Endpoint>(endpoint).recv(None, None, FOREVER).is_ok() {
            count(0);
        }
    }
    let endpoint: Endpoint = case.make()?;
    equal!(endpoint.send(&Message::OK, None, POLL), Err(Error::TimedOut));
    let helper = case.helper(0, HIGH, receive, number(endpoint))?;
    equal!(endpoint.send(&Message::OK, None, POLL), Ok(()));
    case.join(helper)?;
    equal!(shared_value(0), 1);
    equal!(endpoint.send(&Message::OK, None, POLL), Err(Error::TimedOut));
    Ok(())
}

fn a_poll_to_receive_needs_a_waiting_sender(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    equal!(endpoint.recv(None, None, POLL), Err(Error::TimedOut));
    let helper = case.helper(0, HIGH, send_once, number(endpoint))?;
    equal!(endpoint.recv(None, None, POLL)?.message.label, 77);
    equal!(endpoint.recv(None, None, POLL), Err(Error::TimedOut));
    case.join(helper)?;
    Ok(())
}

/// A helper: calls; word 1 becomes the error plus 1000, or the answer's label.
fn call_once(endpoint: u64) {
    let answer = sys::call(at::<Endpoint>(endpoint).slot(), &Message::new(3, &[4]), None, None, FOREVER);
    let code = answer.map_or_else(|error| 1000 + error as u64, |received| received.message.label);
    shared(1).store(code, core::sync::atomic::Ordering::SeqCst);
}

fn a_call_to_a_receiver_without_reply_fails(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let helper = case.helper(0, HIGH, call_once, number(endpoint))?;
    let received = endpoint.recv(None, None, POLL)?;
    check!(!received.status.is_answerable() && received.message.label == 3);
    case.join(helper)?;
    equal!(shared_value(1), 1000 + Error::NoReply as u64);
    Ok(())
}

fn a_receive_needs_a_reply_that_is_free(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let helper = case.helper(0, HIGH, call_once, number(endpoint))?;
    check!(endpoint.recv(Some(reply), None, POLL)?.status.is_answerable());
    equal!(endpoint.recv(Some(reply), None, POLL), Err(Error::Busy));
    reply.send(&Message::new(6, &[]), None)?;
    case.join(helper)?;
    equal!(shared_value(1), 6);
    equal!(endpoint.recv(Some(reply), None, POLL), Err(Error::TimedOut));
    Ok(())
}

fn a_receive_names_a_reply_or_nothing(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let empty = case.slot();
    let poll = |reply: Slot| sys::recv(endpoint.slot(), Some(reply), None, POLL);
    equal!(poll(endpoint.slot()), Err(Error::WrongKind));
    equal!(poll(empty), Err(Error::EmptySlot));
    equal!(poll(Slot::new(4096)), Err(Error::InvalidSlot));
    equal!(poll(Slot::new(u32::MAX)), Err(Error::InvalidSlot));
    Ok(())
}

fn only_endpoints_and_notifications_can_be_received_from(case: &mut Case) -> Outcome {
    let (reply, memory): (Reply, Untyped) = (case.make()?, case.make_small()?);
    let empty = case.slot();
    equal!(sys::recv(reply.slot(), None, None, POLL), Err(Error::WrongKind));
    equal!(sys::recv(memory.slot(), None, None, POLL), Err(Error::WrongKind));
    equal!(sys::recv(TABLE.slot(), None, None, POLL), Err(Error::WrongKind));
    equal!(sys::recv(empty, None, None, POLL), Err(Error::EmptySlot));
    let notification: Notification = case.make()?;
    equal!(sys::recv(notification.slot(), None, None, POLL), Err(Error::TimedOut));
    Ok(())
}

fn senders_learn_that_the_endpoint_is_gone(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let sender = case.helper(0, HIGH, send_once, number(endpoint))?;
    let caller = case.helper(0, HIGH, call_once, number(endpoint))?;
    TABLE.delete(endpoint.slot())?;
    case.join_all([sender, caller])?;
    equal!((shared_value(0), shared_value(1)), (0, 1000 + Error::PeerDied as u64));
    Ok(())
}

fn receivers_learn_that_the_endpoint_is_gone(case: &mut Case) -> Outcome {
    fn receive(endpoint: u64) {
        if at::<Endpoint>(endpoint).recv(None, None, FOREVER) == Err(Error::Cancelled) {
            count(0);
        }
    }
    let endpoint: Endpoint = case.make()?;
    let mut helpers = [None; 20];
    for helper in &mut helpers {
        *helper = Some(case.helper(0, HIGH, receive, number(endpoint))?);
    }
    TABLE.delete(endpoint.slot())?;
    case.join_all(helpers.into_iter().flatten())?;
    equal!(shared_value(0), 20);
    Ok(())
}

fn callers_learn_that_the_server_s_memory_is_gone(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(4)?;
    let (endpoint, reply) = (Endpoint::at(case.slot()), Reply::at(case.slot()));
    memory.make::<Endpoint>(0, endpoint.slot())?;
    memory.make::<Reply>(0, reply.slot())?;
    let taken = case.helper(0, HIGH, call_once, number(endpoint))?;
    check!(endpoint.recv(Some(reply), None, POLL)?.status.is_answerable());
    TABLE.revoke(memory.slot())?;
    case.join(taken)?;
    equal!(shared_value(1), 1000 + Error::PeerDied as u64);
    Ok(())
}

fn a_thread_that_calls_itself_waits_until_its_deadline(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let end = in_ms(20);
    let answer = sys::call(endpoint.slot(), &Message::OK, None, None, end);
    equal!(answer, Err(Error::TimedOut));
    check!(crate::case::now() >= end);
    Ok(())
}
