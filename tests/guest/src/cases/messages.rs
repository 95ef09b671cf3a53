//! Capabilities that travel with messages, and how long a call lasts.

use core::sync::atomic::Ordering;

use anos::abi::syscall::{FOREVER, POLL};
use anos::capability::{Capability, Endpoint, Frame, Notification, Reply, Slot, Untyped};
use anos::{Error, Kind, Message, Rights, sys};

use super::cases;
use super::ipc::{at, number};
use crate::case::{Case, PATIENCE_MS, ROUNDS, count, in_ms, look, now, shared, shared_value};
use crate::check::{Failure, Outcome, check, equal};
use crate::helper::{HIGH, Helper};

cases![
    a_passed_capability_arrives_as_a_copy,
    a_passed_capability_is_derived_from_the_sender_s,
    what_can_not_be_copied_moves,
    without_a_receive_slot_the_message_comes_alone,
    an_occupied_receive_slot_stays_as_it_is,
    passing_takes_grant,
    passing_from_an_empty_slot_is_refused,
    passing_more_rights_than_one_has_is_impossible,
    an_answer_brings_a_capability_into_the_caller_s_slot,
    no_capability_leaves_the_receive_slot_empty,
    a_reply_capability_can_be_handed_on,
    a_call_s_deadline_bounds_the_wait_for_the_answer,
    a_timed_out_call_is_not_received,
    a_timed_out_call_frees_the_reply,
];

/// A helper: sends what lies in the slot of word 1 to the endpoint; word 2 counts successes, word 3 keeps the error.
fn pass_along(endpoint: u64) {
    let pass: Notification = at(shared_value(1));
    match at::<Endpoint>(endpoint).send(&Message::new(1, &[]), Some(pass.slot()), FOREVER) {
        Ok(()) => count(2),
        Err(error) => shared(3).store(error as u64, Ordering::SeqCst),
    }
}

/// A helper that passes `what` to `endpoint`, and now waits for somebody to take it.
fn passer(case: &mut Case, endpoint: Endpoint, what: Slot) -> Outcome {
    shared(1).store(what.number().into(), Ordering::SeqCst);
    case.helper(0, HIGH, pass_along, number(endpoint))?;
    Ok(())
}

fn a_passed_capability_arrives_as_a_copy(case: &mut Case) -> Outcome {
    let (endpoint, original): (Endpoint, Notification) = (case.make()?, case.make()?);
    let badged = case.mint(original, Rights::WRITE, 0x40)?;
    passer(case, endpoint, badged.slot())?;
    let into = case.slot();
    let received = endpoint.recv(None, Some(into), POLL)?;
    check!(received.status.has_capability());
    let (sent, came) = (look(badged.slot())?, look(into)?);
    equal!((came.kind, came.rights, came.badge), (sent.kind, sent.rights, sent.badge));
    Notification::at(into).signal()?;
    equal!(original.wait(POLL), Ok(0x40));
    equal!(shared_value(2), 1);
    Ok(())
}

fn a_passed_capability_is_derived_from_the_sender_s(case: &mut Case) -> Outcome {
    let (endpoint, original): (Endpoint, Notification) = (case.make()?, case.make()?);
    let sent = case.copy(original, Rights::ALL)?;
    passer(case, endpoint, sent.slot())?;
    let into = case.slot();
    endpoint.recv(None, Some(into), POLL)?;
    crate::case::TABLE.revoke(sent.slot())?;
    equal!(look(into)?.kind, Kind::Empty);
    equal!(look(sent.slot())?.kind, Kind::Notification);
    Ok(())
}

fn what_can_not_be_copied_moves(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let (memory, reply): (Untyped, Reply) = (case.make_sized(3)?, case.make()?);
    for sent in [memory.slot(), reply.slot()] {
        let kind = look(sent)?.kind;
        passer(case, endpoint, sent)?;
        let into = case.slot();
        check!(endpoint.recv(None, Some(into), POLL)?.status.has_capability());
        equal!((look(sent)?.kind, look(into)?.kind), (Kind::Empty, kind));
    }
    equal!(shared_value(2), 2);
    Ok(())
}

fn without_a_receive_slot_the_message_comes_alone(case: &mut Case) -> Outcome {
    let (endpoint, memory): (Endpoint, Untyped) = (case.make()?, case.make_small()?);
    passer(case, endpoint, memory.slot())?;
    let received = endpoint.recv(None, None, POLL)?;
    check!(!received.status.has_capability() && received.message.label == 1);
    equal!(look(memory.slot())?.kind, Kind::Untyped);
    Ok(())
}

fn an_occupied_receive_slot_stays_as_it_is(case: &mut Case) -> Outcome {
    let (endpoint, memory): (Endpoint, Untyped) = (case.make()?, case.make_small()?);
    let occupied: Notification = case.make()?;
    passer(case, endpoint, memory.slot())?;
    let received = endpoint.recv(None, Some(occupied.slot()), POLL)?;
    check!(!received.status.has_capability() && received.message.label == 1);
    equal!((look(memory.slot())?.kind, look(occupied.slot())?.kind), (Kind::Untyped, Kind::Notification));
    Ok(())
}

fn passing_takes_grant(case: &mut Case) -> Outcome {
    let (endpoint, original): (Endpoint, Notification) = (case.make()?, case.make()?);
    let writer = case.copy(endpoint, Rights::WRITE.union(Rights::READ))?;
    passer(case, writer, original.slot())?;
    equal!(shared_value(3), Error::MissingRights as u64);
    equal!(endpoint.recv(None, None, POLL), Err(Error::TimedOut));
    Ok(())
}

fn passing_from_an_empty_slot_is_refused(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let empty = case.slot();
    for (slot, error) in [(empty, Error::EmptySlot), (Slot::new(4096), Error::InvalidSlot)] {
        passer(case, endpoint, slot)?;
        equal!(shared_value(3), error as u64);
        equal!(endpoint.recv(None, None, POLL), Err(Error::TimedOut));
    }
    Ok(())
}

fn passing_more_rights_than_one_has_is_impossible(case: &mut Case) -> Outcome {
    let (endpoint, frame): (Endpoint, Frame) = (case.make()?, case.make_small()?);
    let reader = case.copy(frame, Rights::READ)?;
    passer(case, endpoint, reader.slot())?;
    let into = case.slot();
    endpoint.recv(None, Some(into), POLL)?;
    equal!((look(into)?.kind, look(into)?.rights), (Kind::Frame, Rights::READ));
    Ok(())
}

/// A helper: answers one call with the capability in the slot of word 1, through the Reply in the slot of word 4.
fn answer_with(endpoint: u64) {
    let (pass, reply): (Notification, Reply) = (at(shared_value(1)), at(shared_value(4)));
    if at::<Endpoint>(endpoint).recv(Some(reply), None, FOREVER).is_ok() {
        let _ = reply.send(&Message::new(8, &[]), Some(pass.slot()));
    }
}

fn an_answer_brings_a_capability_into_the_caller_s_slot(case: &mut Case) -> Outcome {
    let (endpoint, reply, original): (Endpoint, Reply, Notification) = (case.make()?, case.make()?, case.make()?);
    let badged = case.mint(original, Rights::WRITE, 2)?;
    shared(1).store(number(badged), Ordering::SeqCst);
    shared(4).store(number(reply), Ordering::SeqCst);
    case.helper(0, HIGH, answer_with, number(endpoint))?;
    let into = case.slot();
    let answer = sys::call(endpoint.slot(), &Message::OK, None, Some(into), in_ms(PATIENCE_MS))?;
    check!(answer.status.has_capability() && answer.message.label == 8);
    equal!(look(into)?.badge, 2);
    Ok(())
}

fn no_capability_leaves_the_receive_slot_empty(case: &mut Case) -> Outcome {
    let (endpoint, ..) = super::ipc::server(case, 0)?;
    let into = case.slot();
    let answer = sys::call(endpoint.slot(), &Message::OK, None, Some(into), in_ms(PATIENCE_MS))?;
    check!(!answer.status.has_capability());
    equal!(look(into)?.kind, Kind::Empty);
    Ok(())
}

/// A helper: takes a Reply that comes along as a message, and answers through it.
fn answer_for_another(endpoint: u64) {
    let into = Slot::new(u32::try_from(shared_value(5)).unwrap_or(0));
    if at::<Endpoint>(endpoint).recv(None, Some(into), FOREVER).is_ok() {
        let _ = Reply::at(into).send(&Message::new(0, &[55]), None);
    }
}

/// A helper: calls; word 6 becomes word 0 of the answer.
fn ask(endpoint: u64) {
    if let Ok(words) = at::<Endpoint>(endpoint).call(&Message::OK) {
        shared(6).store(words[0], Ordering::SeqCst);
    }
}

fn a_reply_capability_can_be_handed_on(case: &mut Case) -> Outcome {
    let (front, back, reply): (Endpoint, Endpoint, Reply) = (case.make()?, case.make()?, case.make()?);
    shared(5).store(case.slot().number().into(), Ordering::SeqCst);
    let worker = case.helper(0, HIGH, answer_for_another, number(back))?;
    let caller = case.helper(0, HIGH, ask, number(front))?;
    check!(front.recv(Some(reply), None, POLL)?.status.is_answerable());
    back.send(&Message::OK, Some(reply.slot()), POLL)?;
    case.join_all([worker, caller])?;
    equal!(shared_value(6), 55);
    Ok(())
}

/// How long a helper's call may take.
const CALL_MS: u64 = 200;

/// A helper: calls with a deadline; word 7 becomes the error, word 8 when it came.
fn call_until_a_deadline(endpoint: u64) {
    let answer = sys::call(at::<Endpoint>(endpoint).slot(), &Message::OK, None, None, in_ms(CALL_MS));
    shared(7).store(answer.map_or_else(|error| error as u64, |_| 1000), Ordering::SeqCst);
    shared(8).store(now(), Ordering::SeqCst);
}

/// Whether a call that began then may have reached its deadline.
fn may_be_over(start: u64) -> bool {
    now() - start >= CALL_MS * 1_000_000
}

/// A helper's call that was received before its deadline, and when it began.
fn received_call(case: &mut Case, endpoint: Endpoint, reply: Reply) -> Outcome<(Helper, u64)> {
    for _ in 0..ROUNDS {
        let start = now();
        let helper = case.helper(0, HIGH, call_until_a_deadline, number(endpoint))?;
        let received = endpoint.recv(Some(reply), None, POLL);
        if received == Err(Error::TimedOut) && may_be_over(start) {
            case.join(helper)?;
            continue;
        }
        check!(received?.status.is_answerable());
        return Ok((helper, start));
    }
    Err(Failure::new(format_args!("no call was received in {CALL_MS} ms")))
}

fn a_call_s_deadline_bounds_the_wait_for_the_answer(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let (helper, start) = received_call(case, endpoint, reply)?;
    case.join(helper)?;
    equal!(shared_value(7), Error::TimedOut as u64);
    let spent = shared_value(8) - start;
    check!(spent >= CALL_MS * 1_000_000, "after {spent} ns");
    // The answer comes too late.
    equal!(reply.send(&Message::OK, None), Err(Error::PeerDied));
    Ok(())
}

fn a_timed_out_call_is_not_received(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let helper = case.helper(0, HIGH, call_until_a_deadline, number(endpoint))?;
    case.join(helper)?;
    equal!(shared_value(7), Error::TimedOut as u64);
    equal!(endpoint.recv(Some(reply), None, POLL), Err(Error::TimedOut));
    Ok(())
}

fn a_timed_out_call_frees_the_reply(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let mut before = Ok(());
    for _ in 0..ROUNDS {
        let (first, start) = received_call(case, endpoint, reply)?;
        before = endpoint.recv(Some(reply), None, POLL).map(|_| ());
        let in_time = !may_be_over(start);
        case.join(first)?;
        if in_time || before == Err(Error::Busy) {
            break;
        }
    }
    equal!(before, Err(Error::Busy));
    let second = case.helper(0, HIGH, ask, number(endpoint))?;
    check!(endpoint.recv(Some(reply), None, POLL)?.status.is_answerable());
    reply.send(&Message::new(0, &[66]), None)?;
    case.join(second)?;
    equal!(shared_value(6), 66);
    Ok(())
}
