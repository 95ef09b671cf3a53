//! What many wait on, or all cores use, ends: everybody is told, and nothing is left.

use anos::abi::SystemCall;
use anos::abi::object::ThreadState;
use anos::abi::syscall::{FOREVER, POLL};
use anos::capability::{AddressSpace, CapTable, Capability, Endpoint, Frame, Notification, Reply, Slot, Untyped};
use anos::{Error, Message, Rights, env};

use super::cancellation::{Crowd, TARGET, even, send_or_call, step, table_with, waiting};
use super::cases;
use super::ipc::{at, number};
use crate::case::{Case, MEMORY, READ_WRITE, TABLE, count, in_ms, shared_value};
use crate::check::{Outcome, check, equal};
use crate::hands::{CODE, Order};
use crate::helper::LOW;

cases![
    a_thousand_senders_learn_that_their_endpoint_is_gone,
    hundreds_of_waiters_learn_that_their_notification_is_gone,
    hundreds_of_deadlines_at_once_are_all_met,
    hundreds_of_waiting_threads_end_with_their_memory,
    waiting_threads_end_one_by_one,
    a_space_ends_while_all_cores_use_it on 2,
    a_table_ends_while_all_cores_use_it on 2,
    an_endpoint_ends_while_all_cores_use_it on 2,
    everything_ends_while_all_cores_use_it on 2,
];

fn a_thousand_senders_learn_that_their_endpoint_is_gone(case: &mut Case) -> Outcome {
    let (crowd, endpoint, _) = waiting(case, 1000)?;
    TABLE.revoke(endpoint.slot())?;
    TABLE.delete(endpoint.slot())?;
    crowd.all_ended(case, |_| true, Err(Error::PeerDied))
}

fn hundreds_of_waiters_learn_that_their_notification_is_gone(case: &mut Case) -> Outcome {
    let notification: Notification = case.make()?;
    let table: CapTable = case.make_small()?;
    table.copy(notification.slot(), Slot::new(TARGET), Rights::ALL)?;
    let crowd = Crowd::new(case, MEMORY, 300, 0)?;
    for place in 0..300 {
        crowd.start(place, table, SystemCall::Recv, if even(place) { FOREVER } else { in_ms(1_000_000) })?;
    }
    TABLE.revoke(notification.slot())?;
    TABLE.delete(notification.slot())?;
    crowd.all_ended(case, |_| true, Err(Error::Cancelled))
}

fn hundreds_of_deadlines_at_once_are_all_met(case: &mut Case) -> Outcome {
    let notification: Notification = case.make()?;
    let table: CapTable = case.make_small()?;
    table.copy(notification.slot(), Slot::new(TARGET), Rights::ALL)?;
    for on in [0, env::cores() - 1] {
        let crowd = Crowd::new(case, MEMORY, 300, on)?;
        let deadline = in_ms(20);
        for place in 0..300 {
            crowd.start(place, table, SystemCall::Recv, deadline)?;
        }
        // This thread's own deadline is among them.
        case.sleep(20)?;
        crowd.all_ended(case, |_| true, Err(Error::TimedOut))?;
        check!(crate::case::now() >= deadline);
    }
    Ok(())
}

fn hundreds_of_waiting_threads_end_with_their_memory(case: &mut Case) -> Outcome {
    let (endpoint, memory): (Endpoint, Untyped) = (case.make()?, case.make_sized(400)?);
    let (table, badged) = table_with(case, endpoint, 3)?;
    let crowd = Crowd::new(case, memory, 300, 0)?;
    for place in 0..300 {
        crowd.start(place, table, send_or_call(place), in_ms(1_000_000))?;
    }
    TABLE.revoke(memory.slot())?;
    equal!(memory.info()?.pages_used, 0);
    // Nobody waits any more.
    equal!(endpoint.recv(None, None, POLL).map(|_| ()), Err(Error::TimedOut));
    equal!(step(badged.slot()), Ok(()));
    Ok(())
}

fn waiting_threads_end_one_by_one(case: &mut Case) -> Outcome {
    let (crowd, endpoint, _) = waiting(case, 60)?;
    // From the middle, the front and the back of the queue.
    for place in (20..40).chain(0..10).chain((50..60).rev()) {
        TABLE.delete(crowd.thread(place)?.slot())?;
    }
    for place in (10..20).chain(40..50) {
        equal!(endpoint.recv(None, None, POLL)?.badge, 1 + place % 2);
    }
    equal!(endpoint.recv(None, None, POLL).map(|_| ()), Err(Error::TimedOut));
    Ok(())
}

fn a_space_ends_while_all_cores_use_it(case: &mut Case) -> Outcome {
    for _ in 0..3 {
        let memory: Untyped = case.make_sized(1)?;
        let space: AddressSpace = memory.make(0, case.slot())?;
        let frame: Frame = case.make_small()?;
        case.map(frame, space, 0x40_0000, READ_WRITE)?;
        let copy = case.copy(frame, Rights::ALL)?;
        let window = case.window_of(copy)?;
        let mut all = [None; 4];
        let mut first = None;
        for (on, place) in (0..env::cores()).zip(&mut all) {
            let hands = match first {
                None => case.hands_in(space, on)?,
                Some(_) => case.hands_at(space, CODE, on, 0)?,
            };
            first = Some(hands);
            hands.order(Order::Count, 0x40_0000 + 64 * on, 0)?;
            *place = Some(hands);
        }
        for on in 0..env::cores().min(4) {
            case.eventually(|| window.read(8 * on) > 0)?;
        }
        TABLE.revoke(memory.slot())?;
        let seen: [u64; 4] = core::array::from_fn(|on| window.read(8 * on as u64));
        case.sleep(2)?;
        equal!(core::array::from_fn(|on| window.read(8 * on as u64)), seen);
        for hands in all.into_iter().flatten() {
            equal!(
                (hands.thread.info()?.state, hands.thread.resume()),
                (ThreadState::Stopped, Err(Error::NotRunnable))
            );
        }
        equal!(memory.info()?.pages_used, 0);
        frame.unmap()?;
    }
    Ok(())
}

/// A helper: calls what is in slot 8 of its table, and counts in word 0, until it is told by an error (word 1).
fn use_slot_8(_: u64) {
    loop {
        match at::<Endpoint>(TARGET.into()).send(&Message::OK, None, POLL) {
            Ok(()) | Err(Error::TimedOut | Error::Cancelled | Error::PeerDied) => count(0),
            Err(Error::EmptySlot | Error::InvalidSlot) => break count(1),
            Err(_) => break count(2),
        }
    }
    // Without a table, nothing else can be done.
    loop {
        core::hint::spin_loop();
    }
}

fn a_table_ends_while_all_cores_use_it(case: &mut Case) -> Outcome {
    let all = env::cores().min(4);
    for round in 1..=3 {
        let memory: Untyped = case.make_sized(1)?;
        let table: CapTable = memory.make(64, case.slot())?;
        let endpoint: Endpoint = case.make()?;
        table.copy(endpoint.slot(), Slot::new(TARGET), Rights::ALL)?;
        // It holds itself, and so one more capability to it.
        table.copy(table.slot(), Slot::new(1), Rights::ALL)?;
        let begun = shared_value(0);
        let mut helpers = [None; 4];
        for (on, place) in (0..all).zip(&mut helpers) {
            let helper = case.prepare(on, LOW, use_slot_8, 0)?;
            helper.thread.set_table(table)?;
            case.start(helper)?;
            *place = Some(helper);
        }
        case.eventually(|| shared_value(0) > begun + 100)?;
        TABLE.revoke(memory.slot())?;
        equal!(memory.info()?.pages_used, 0);
        case.eventually(|| shared_value(1) == round * all)?;
        for helper in helpers.into_iter().flatten() {
            helper.thread.suspend()?;
        }
    }
    equal!(shared_value(2), 0);
    Ok(())
}

fn an_endpoint_ends_while_all_cores_use_it(case: &mut Case) -> Outcome {
    /// Sends, calls or receives by turns until there is nothing in the slot any more.
    fn exchange(arguments: u64) {
        let (endpoint, reply): (Endpoint, Reply) = (at(arguments & 0xffff_ffff), at(arguments >> 32));
        for n in 0.. {
            let result = match n % 3 {
                0 => endpoint.send(&Message::OK, None, in_ms(2)),
                1 => anos::sys::call(endpoint.slot(), &Message::OK, None, None, in_ms(2)).map(|_| ()),
                _ => endpoint.recv(Some(reply), None, in_ms(2)).map(|received| {
                    if received.status.is_answerable() {
                        let _ = reply.send(&Message::OK, None);
                    }
                }),
            };
            match result {
                Ok(()) => count(0),
                Err(Error::EmptySlot) => break,
                Err(Error::TimedOut | Error::PeerDied | Error::Cancelled) => count(1),
                Err(_) => count(2),
            }
        }
    }
    for _ in 0..4 {
        let endpoint: Endpoint = case.make()?;
        let mut helpers = [None; 8];
        let begun = shared_value(0);
        for (n, place) in (0..2 * env::cores()).zip(&mut helpers) {
            let reply: Reply = case.make()?;
            let arguments = number(endpoint) | number(reply) << 32;
            *place = Some(case.helper(n % env::cores(), LOW, exchange, arguments)?);
        }
        case.eventually(|| shared_value(0) > begun + 20)?;
        TABLE.delete(endpoint.slot())?;
        case.join_all(helpers.into_iter().flatten())?;
    }
    equal!(shared_value(2), 0);
    Ok(())
}

fn everything_ends_while_all_cores_use_it(case: &mut Case) -> Outcome {
    for _ in 0..4 {
        let memory: Untyped = case.make_sized(64)?;
        let (endpoint, notification): (Endpoint, Notification) =
            (memory.make(0, case.slot())?, memory.make(0, case.slot())?);
        let mut crowds = [const { None }; 4];
        let tables = [endpoint.slot(), notification.slot()].map(|slot| {
            let table: CapTable = memory.make(64, case.slot())?;
            table.copy(slot, Slot::new(TARGET), Rights::ALL)?;
            Ok::<CapTable, Error>(table)
        });
        let [messages, signals] = tables;
        let (messages, signals) = (messages?, signals?);
        for (on, place) in (0..env::cores()).zip(&mut crowds) {
            let crowd = Crowd::new(case, memory, 8, on)?;
            for n in 0..8 {
                // Some wait to send, some for a signal.
                let (table, call) = if n < 6 { (messages, send_or_call(n)) } else { (signals, SystemCall::Recv) };
                crowd.start(n, table, call, if even(n) { FOREVER } else { in_ms(1_000_000) })?;
            }
            *place = Some(crowd);
        }
        TABLE.revoke(memory.slot())?;
        equal!(memory.info()?.pages_used, 0);
        for crowd in crowds.into_iter().flatten() {
            equal!(crowd.thread(0)?.info().map(|_| ()), Err(Error::EmptySlot));
        }
    }
    Ok(())
}
