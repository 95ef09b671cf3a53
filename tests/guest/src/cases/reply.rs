//! Reply objects: one answer to one call, whenever the server likes.

use core::sync::atomic::Ordering;

use anos::abi::syscall::{FOREVER, POLL};
use anos::capability::{Capability, Endpoint, Reply, Slot};
use anos::{Error, Message, sys};

use super::cases;
use super::ipc::{at, number};
use crate::case::{Case, TABLE, shared, shared_value};
use crate::check::{Outcome, check, equal};
use crate::helper::{HIGH, Helper};

cases![
    answers_can_come_in_another_order_than_calls,
    an_answer_goes_out_once,
    an_unused_reply_has_nobody_to_answer,
    deleting_a_reply_tells_its_caller,
    reply_recv_without_a_caller_just_receives,
    reply_recv_that_can_not_receive_does_not_answer,
    reply_recv_without_reply_is_refused,
    a_suspended_caller_gets_no_answer,
    an_answer_wakes_a_more_urgent_caller_at_once,
];

/// A helper: calls with its index; word `index` becomes word 0 of the answer, or 1000 and the error.
fn ask(index: u64) {
    let endpoint: Endpoint = at(shared_value(20));
    let answer = sys::call(endpoint.slot(), &Message::new(1, &[index]), None, None, FOREVER);
    let value = answer.map_or_else(|error| 1000 + error as u64, |received| received.message.words[0]);
    shared(index).store(value, Ordering::SeqCst);
}

/// A helper that calls `endpoint`, and waits for somebody to take its call.
fn asker(case: &mut Case, endpoint: Endpoint, index: u64) -> Outcome<Helper> {
    shared(20).store(number(endpoint), Ordering::SeqCst);
    Ok(case.helper(0, HIGH, ask, index)?)
}

fn answers_can_come_in_another_order_than_calls(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let (first, second): (Reply, Reply) = (case.make()?, case.make()?);
    let askers = [asker(case, endpoint, 1)?, asker(case, endpoint, 2)?];
    equal!(endpoint.recv(Some(first), None, POLL)?.message.words[0], 1);
    equal!(endpoint.recv(Some(second), None, POLL)?.message.words[0], 2);
    second.send(&Message::new(0, &[22]), None)?;
    equal!((shared_value(1), shared_value(2)), (0, 22));
    first.send(&Message::new(0, &[11]), None)?;
    case.join_all(askers)?;
    equal!((shared_value(1), shared_value(2)), (11, 22));
    Ok(())
}

fn an_answer_goes_out_once(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let asker = asker(case, endpoint, 1)?;
    endpoint.recv(Some(reply), None, POLL)?;
    equal!(reply.send(&Message::new(0, &[5]), None), Ok(()));
    equal!(reply.send(&Message::new(0, &[6]), None), Err(Error::PeerDied));
    case.join(asker)?;
    equal!(shared_value(1), 5);
    Ok(())
}

fn an_unused_reply_has_nobody_to_answer(case: &mut Case) -> Outcome {
    let reply: Reply = case.make()?;
    equal!(reply.send(&Message::OK, None), Err(Error::PeerDied));
    Ok(())
}

fn deleting_a_reply_tells_its_caller(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let asker = asker(case, endpoint, 1)?;
    endpoint.recv(Some(reply), None, POLL)?;
    TABLE.delete(reply.slot())?;
    case.join(asker)?;
    equal!(shared_value(1), 1000 + Error::PeerDied as u64);
    Ok(())
}

/// A helper: answers with nothing in particular, then receives; word 1 becomes what it then got.
fn reply_recv_first(reply: u64) {
    let endpoint: Endpoint = at(shared_value(20));
    let received = endpoint.reply_recv(at(reply), &Message::new(0, &[1]), None, None);
    let value = received.map_or_else(|error| 1000 + error as u64, |received| received.message.label);
    shared(1).store(value, Ordering::SeqCst);
}

fn reply_recv_without_a_caller_just_receives(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    shared(20).store(number(endpoint), Ordering::SeqCst);
    let server = case.helper(0, HIGH, reply_recv_first, number(reply))?;
    endpoint.send(&Message::new(44, &[]), None, POLL)?;
    case.join(server)?;
    equal!(shared_value(1), 44);
    Ok(())
}

fn reply_recv_that_can_not_receive_does_not_answer(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let asker = asker(case, endpoint, 1)?;
    endpoint.recv(Some(reply), None, POLL)?;
    let empty = case.slot();
    let answer = Message::new(0, &[9]);
    let into = |target: Slot| sys::reply_recv(target, reply.slot(), &answer, None, None);
    equal!(into(empty), Err(Error::EmptySlot));
    equal!(into(reply.slot()), Err(Error::WrongKind));
    let writer = case.copy(endpoint, anos::Rights::WRITE)?;
    equal!(into(writer.slot()), Err(Error::MissingRights));
    check!(!case.is_done(asker));
    reply.send(&Message::new(0, &[10]), None)?;
    case.join(asker)?;
    equal!(shared_value(1), 10);
    Ok(())
}

fn reply_recv_without_reply_is_refused(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let empty = case.slot();
    let with = |reply: Slot| sys::reply_recv(endpoint.slot(), reply, &Message::OK, None, None);
    equal!(with(Slot::new(0)), Err(Error::InvalidSlot));
    equal!(with(empty), Err(Error::EmptySlot));
    equal!(with(endpoint.slot()), Err(Error::WrongKind));
    Ok(())
}

fn a_suspended_caller_gets_no_answer(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let asker = asker(case, endpoint, 1)?;
    endpoint.recv(Some(reply), None, POLL)?;
    asker.thread.suspend()?;
    equal!(reply.send(&Message::new(0, &[5]), None), Err(Error::PeerDied));
    asker.thread.resume()?;
    case.join(asker)?;
    equal!(shared_value(1), 1000 + Error::Cancelled as u64);
    Ok(())
}

fn an_answer_wakes_a_more_urgent_caller_at_once(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let asker = asker(case, endpoint, 1)?;
    endpoint.recv(Some(reply), None, POLL)?;
    reply.send(&Message::new(0, &[5]), None)?;
    // No wait in between: the caller has run.
    equal!(shared_value(1), 5);
    check!(case.is_done(asker));
    Ok(())
}
