//! Waits that end otherwise than planned: called off by badge, or because what many wait on ends.

use anos::abi::object::{Method, ThreadState};
use anos::abi::syscall::{FOREVER, POLL};
use anos::abi::{Operation, Status, SystemCall};
use anos::capability::{
    CapTable, Capability, Endpoint, Notification, Reply, SchedContext, Slot, StartState, Thread, Untyped, invoke,
    invoke_step,
};
use anos::{Error, Message, Rights, env};

use super::cases;
use crate::arch;
use crate::case::{Case, MEMORY, PATIENCE_MS, SPACE, TABLE, Window, core, in_ms};
use crate::check::{Outcome, check, equal};
use crate::hands::Order;
use crate::helper::HIGH;

cases![
    waits_to_send_are_called_off_by_badge,
    many_waits_are_called_off_in_steps,
    who_comes_meanwhile_is_called_off_too,
    who_comes_with_another_badge_meanwhile_stays,
    two_badges_are_called_off_by_turns,
    what_is_taken_already_is_not_called_off,
    receivers_are_not_called_off,
    nothing_to_call_off_is_no_error,
    only_endpoints_have_waits_to_call_off,
    a_called_off_sender_can_send_again,
];

/// The slot of what a waiter's system call names.
pub const TARGET: u32 = 8;

/// Threads that make one system call each, and then stop. They have neither stack nor handler.
pub struct Crowd {
    pub statuses: Window,
    pub first: Slot,
    pub count: u64,
}

impl Crowd {
    /// So many threads that are still to be told what to call.
    pub fn new(case: &mut Case, memory: Untyped, count: u64, on: u64) -> Outcome<Crowd> {
        let number = u32::try_from(count).unwrap_or(u32::MAX);
        let (first, contexts) = (case.slots(number), case.slots(number));
        let statuses = case.window(count.div_ceil(512))?;
        let crowd = Crowd { statuses, first, count };
        for start in (0..number).step_by(32) {
            let some = u64::from((number - start).min(32));
            memory.retype(anos::Kind::Thread, 0, some, first.offset(start))?;
            core(on).make_contexts(memory, some, contexts.offset(start))?;
        }
        for (place, thread) in (0..).zip(crowd.threads()) {
            thread.set_space(SPACE)?;
            thread.set_context(Some(SchedContext::at(contexts.offset(place))))?;
            thread.set_priority(HIGH, HIGH)?;
        }
        Ok(crowd)
    }

    /// Its threads.
    pub fn threads(&self) -> impl Iterator<Item = Thread> + use<> {
        let first = self.first;
        (0..u32::try_from(self.count).unwrap_or(0)).map(move |number| Thread::at(first.offset(number)))
    }

    /// One of its threads.
    pub fn thread(&self, number: u64) -> Result<Thread, Error> {
        let number = u32::try_from(number).map_err(|_| Error::InvalidArgument)?;
        Ok(Thread::at(self.first.offset(number)))
    }

    /// Has a thread make a system call on what lies in [`TARGET`] of a table.
    pub fn start(&self, place: u64, table: CapTable, call: SystemCall, deadline: u64) -> Result<(), Error> {
        let thread = self.thread(place)?;
        thread.set_table(table)?;
        self.statuses.write(place, 0);
        thread.start(&StartState {
            program_counter: arch::wait_once as *const () as u64,
            stack_pointer: self.statuses.address + 8 * place,
            thread_pointer: 0,
            arguments: [Operation::new(call, TARGET).0, deadline],
        })
    }

    /// How a thread's call ended, if it has.
    pub fn result(&self, place: u64) -> Option<Result<(), Error>> {
        match self.statuses.read(place) {
            0 => None,
            word => Some(Status(!word).result()),
        }
    }

    /// Checks that the calls of these threads have ended so.
    pub fn all_ended(&self, case: &mut Case, which: impl Fn(u64) -> bool, expected: Result<(), Error>) -> Outcome {
        for place in (0..self.count).filter(|place| which(*place)) {
            case.eventually(|| self.result(place).is_some())?;
            let result = self.result(place);
            check!(result == Some(expected), "thread {place}: {result:?}, expected {expected:?}");
        }
        Ok(())
    }

    /// Checks that these threads still wait to send.
    pub fn all_wait(&self, which: impl Fn(u64) -> bool) -> Outcome {
        for (place, thread) in (0..).zip(self.threads()).filter(|(place, _)| which(*place)) {
            let state = thread.info()?.state;
            check!(state == ThreadState::Sending && self.result(place).is_none(), "thread {place}: {state:?}");
        }
        Ok(())
    }
}

/// A table with a badged Endpoint in [`TARGET`], and that Endpoint in this program's table.
pub type Badged = (CapTable, Endpoint);

/// A table with a copy of an Endpoint with this badge, and that copy in this program's table.
pub fn table_with(case: &mut Case, endpoint: Endpoint, badge: u64) -> Result<Badged, Error> {
    let table: CapTable = case.make_small()?;
    let badged = case.mint(endpoint, Rights::ALL, badge)?;
    table.copy(badged.slot(), Slot::new(TARGET), Rights::ALL)?;
    Ok((table, badged))
}

pub fn send_or_call(place: u64) -> SystemCall {
    if place.is_multiple_of(3) { SystemCall::Call } else { SystemCall::Send }
}

/// One step of calling off.
pub fn step(slot: Slot) -> Result<(), Error> {
    invoke_step(TABLE.slot(), Method::CapTableCancel, &[slot.number().into()], None, None).map(|_| ())
}

/// An Endpoint at which threads wait with two badges by turns, by the parity of their numbers.
pub fn waiting(case: &mut Case, count: u64) -> Outcome<(Crowd, Endpoint, [Badged; 2])> {
    let endpoint: Endpoint = case.make()?;
    let badges = [table_with(case, endpoint, 1)?, table_with(case, endpoint, 2)?];
    let crowd = Crowd::new(case, MEMORY, count, 0)?;
    for place in 0..count {
        let [even, odd] = badges;
        let (table, _) = if place % 2 == 0 { even } else { odd };
        crowd.start(place, table, send_or_call(place), FOREVER)?;
    }
    crowd.all_wait(|_| true)?;
    Ok((crowd, endpoint, badges))
}

pub fn even(place: u64) -> bool {
    place.is_multiple_of(2)
}

fn odd(place: u64) -> bool {
    place % 2 == 1
}

fn waits_to_send_are_called_off_by_badge(case: &mut Case) -> Outcome {
    let (crowd, endpoint, [(_, first), (_, second)]) = waiting(case, 40)?;
    // Faults wait among them.
    let hands = [case.hands(0)?, case.hands(0)?];
    for (hands, faults) in hands.iter().zip([first, second]) {
        hands.thread.set_fault_endpoint(Some(faults))?;
        hands.order(Order::Read, 0, 0)?;
        case.eventually(|| hands.thread.info().is_ok_and(|info| info.state == ThreadState::Sending))?;
    }
    TABLE.cancel(first.slot())?;
    crowd.all_ended(case, even, Err(Error::Cancelled))?;
    crowd.all_wait(odd)?;
    let states = [hands[0].thread.info()?.state, hands[1].thread.info()?.state];
    equal!(states, [ThreadState::Stopped, ThreadState::Sending]);
    // The others are served as if nothing had been.
    let reply: Reply = case.make()?;
    for place in (0..40).filter(|place| odd(*place)) {
        equal!(endpoint.recv(Some(reply), None, POLL)?.badge, 2);
        if send_or_call(place) == SystemCall::Call {
            reply.send(&Message::OK, None)?;
        }
    }
    crowd.all_ended(case, odd, Ok(()))?;
    equal!(endpoint.recv(Some(reply), None, POLL)?.message.label, anos::abi::fault::LABEL);
    equal!(endpoint.recv(None, None, POLL).map(|_| ()), Err(Error::TimedOut));
    Ok(())
}

fn many_waits_are_called_off_in_steps(case: &mut Case) -> Outcome {
    let (crowd, _, [(_, first), _]) = waiting(case, 100)?;
    let mut steps = 1;
    while step(first.slot()) == Err(Error::Again) {
        steps += 1;
        check!(steps < 100, "it does not end");
    }
    check!(steps >= 100 / 16, "only {steps} steps for 100 threads");
    crowd.all_ended(case, even, Err(Error::Cancelled))?;
    crowd.all_wait(odd)
}

fn who_comes_meanwhile_is_called_off_too(case: &mut Case) -> Outcome {
    let (crowd, _, [(table, first), _]) = waiting(case, 60)?;
    let late = Crowd::new(case, MEMORY, 4, 0)?;
    for place in 0..3 {
        equal!(step(first.slot()), Err(Error::Again));
        late.start(place, table, send_or_call(place), FOREVER)?;
    }
    TABLE.cancel(first.slot())?;
    crowd.all_ended(case, even, Err(Error::Cancelled))?;
    late.all_ended(case, |place| place < 3, Err(Error::Cancelled))?;
    crowd.all_wait(odd)?;
    // Who comes afterwards waits.
    late.start(3, table, SystemCall::Send, FOREVER)?;
    late.all_wait(|place| place == 3)
}

fn who_comes_with_another_badge_meanwhile_stays(case: &mut Case) -> Outcome {
    let (crowd, endpoint, [(_, first), (other, _)]) = waiting(case, 60)?;
    let (third, _) = table_with(case, endpoint, 3)?;
    let late = Crowd::new(case, MEMORY, 6, 0)?;
    for place in 0..3 {
        equal!(step(first.slot()), Err(Error::Again));
        late.start(2 * place, other, SystemCall::Send, FOREVER)?;
        late.start(2 * place + 1, third, SystemCall::Call, FOREVER)?;
    }
    TABLE.cancel(first.slot())?;
    crowd.all_ended(case, even, Err(Error::Cancelled))?;
    crowd.all_wait(odd)?;
    late.all_wait(|_| true)
}

fn two_badges_are_called_off_by_turns(case: &mut Case) -> Outcome {
    let (crowd, endpoint, [(_, first), (_, second)]) = waiting(case, 80)?;
    // Each begins anew when it was the other's turn, and none ends too early.
    for _ in 0..3 {
        equal!((step(first.slot()), step(second.slot())), (Err(Error::Again), Err(Error::Again)));
    }
    TABLE.cancel(first.slot())?;
    crowd.all_ended(case, even, Err(Error::Cancelled))?;
    TABLE.cancel(second.slot())?;
    crowd.all_ended(case, odd, Err(Error::Cancelled))?;
    equal!(endpoint.recv(None, None, POLL).map(|_| ()), Err(Error::TimedOut));
    Ok(())
}

fn what_is_taken_already_is_not_called_off(case: &mut Case) -> Outcome {
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let (table, badged) = table_with(case, endpoint, 5)?;
    let crowd = Crowd::new(case, MEMORY, 2, 0)?;
    crowd.start(0, table, SystemCall::Call, FOREVER)?;
    crowd.start(1, table, SystemCall::Call, FOREVER)?;
    equal!(endpoint.recv(Some(reply), None, POLL)?.badge, 5);
    TABLE.cancel(badged.slot())?;
    equal!((crowd.result(0), crowd.result(1)), (None, Some(Err(Error::Cancelled))));
    reply.send(&Message::OK, None)?;
    equal!(crowd.result(0), Some(Ok(())));
    Ok(())
}

fn receivers_are_not_called_off(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let table: CapTable = case.make_small()?;
    table.copy(endpoint.slot(), Slot::new(TARGET), Rights::ALL)?;
    let crowd = Crowd::new(case, MEMORY, 20, 0)?;
    for place in 0..20 {
        crowd.start(place, table, SystemCall::Recv, FOREVER)?;
    }
    equal!(step(endpoint.slot()), Ok(()));
    for place in 0..20 {
        equal!(crowd.result(place), None);
        endpoint.send(&Message::OK, None, POLL)?;
        equal!(crowd.result(place), Some(Ok(())));
    }
    Ok(())
}

fn nothing_to_call_off_is_no_error(case: &mut Case) -> Outcome {
    let (crowd, endpoint, [(table, _), _]) = waiting(case, 4)?;
    // Badges that nobody has; the Endpoint itself has badge 0.
    let other = case.mint(endpoint, Rights::ALL, 77)?;
    equal!((step(other.slot()), step(endpoint.slot())), (Ok(()), Ok(())));
    crowd.all_wait(|_| true)?;
    let idle: Endpoint = case.make()?;
    equal!(step(idle.slot()), Ok(()));
    // Badge 0 has waits, too.
    table.delete(Slot::new(TARGET))?;
    table.copy(endpoint.slot(), Slot::new(TARGET), Rights::ALL)?;
    let plain = Crowd::new(case, MEMORY, 1, 0)?;
    plain.start(0, table, SystemCall::Send, FOREVER)?;
    equal!(step(endpoint.slot()), Ok(()));
    equal!(plain.result(0), Some(Err(Error::Cancelled)));
    crowd.all_wait(|_| true)
}

fn only_endpoints_have_waits_to_call_off(case: &mut Case) -> Outcome {
    let (notification, reply, empty): (Notification, Reply, Slot) = (case.make()?, case.make()?, case.slot());
    for slot in [notification.slot(), reply.slot(), TABLE.slot(), MEMORY.slot()] {
        equal!(step(slot), Err(Error::WrongKind));
    }
    equal!(step(empty), Err(Error::EmptySlot));
    for number in [0, 4096, u64::MAX] {
        let answer = invoke(TABLE.slot(), Method::CapTableCancel, &[number], None, None);
        equal!(answer, Err(Error::InvalidSlot));
    }
    // It changes what others do, so looking is not enough.
    let endpoint: Endpoint = case.make()?;
    let onlooker = case.copy(TABLE, Rights::READ)?;
    equal!(onlooker.cancel(endpoint.slot()), Err(Error::MissingRights));
    Ok(())
}

fn a_called_off_sender_can_send_again(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let (table, badged) = table_with(case, endpoint, 9)?;
    let crowd = Crowd::new(case, MEMORY, 1, env::cores() - 1)?;
    for _ in 0..20 {
        crowd.start(0, table, SystemCall::Send, FOREVER)?;
        let thread = crowd.thread(0)?;
        case.eventually(|| thread.info().is_ok_and(|info| info.state == ThreadState::Sending))?;
        TABLE.cancel(badged.slot())?;
        crowd.all_ended(case, |_| true, Err(Error::Cancelled))?;
        case.eventually(|| thread.info().is_ok_and(|info| info.state == ThreadState::Stopped))?;
    }
    crowd.start(0, table, SystemCall::Send, FOREVER)?;
    equal!(endpoint.recv(None, None, in_ms(PATIENCE_MS))?.badge, 9);
    crowd.all_ended(case, |_| true, Ok(()))
}
