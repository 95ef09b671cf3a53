//! Locks: a visit to the kernel that touches only what is at home on its core takes one, and waits for nobody.

use core::sync::atomic::Ordering;

use anos::abi::syscall::{FOREVER, POLL};
use anos::capability::{CapTable, Capability, CounterValues, Endpoint, Frame, Notification, Reply, Slot, Untyped};
use anos::{Error, Message, Rights, env, sys};

use super::cases;
use super::ipc::{at, number, serve};
use crate::case::{Case, READ_WRITE, SPACE, TABLE, count, counters, shared, shared_value, spin};
use crate::check::{Outcome, check, equal};
use crate::helper::{HIGH, LOW};
use crate::supervisor::DEBUG;

cases![
    a_local_round_trip_takes_one_lock_a_visit,
    a_local_signal_takes_one_lock,
    a_call_of_a_kernel_object_takes_one_lock,
    a_refused_call_takes_one_lock,
    a_local_mapping_takes_one_lock,
    a_local_copy_takes_one_lock,
    a_local_retype_takes_one_lock,
    deleting_the_last_capability_takes_all_locks on 2,
    no_lock_is_waited_for_on_one_core,
    local_round_trips_take_one_lock_on_every_core on 2,
    a_round_trip_between_two_cores_takes_the_locks_of_both on 2,
    cores_that_work_on_their_own_do_not_wait_for_each_other on 2,
    what_threads_meet_at_moves_to_where_they_wait on 2,
];

/// Rounds that are counted.
const ROUNDS: u64 = 1000;

/// Visits of a core to the kernel so far, and locks that they took and waited for.
#[derive(Clone, Copy, Debug, Default)]
struct Effort {
    visits: u64,
    locks: u64,
    waits: u64,
}

fn effort(core: u64) -> Result<Effort, Error> {
    let CounterValues { system_calls, interrupts, faults, locks_taken, locks_waited, .. } = DEBUG.counters(core)?;
    Ok(Effort { visits: system_calls + interrupts + faults, locks: locks_taken, waits: locks_waited })
}

impl Effort {
    /// Whether each visit took one lock. With several cores a few may have taken more: a kick is a visit that isn't
    /// counted, and comes late where the machine under this one is busy.
    fn is_local(self) -> bool {
        let more = if env::cores() == 1 { 0 } else { 10 };
        self.locks >= self.visits && self.locks - self.visits <= more && self.waits <= more
    }
}

/// What a core has done since then.
fn since(core: u64, before: Effort) -> Result<Effort, Error> {
    let after = effort(core)?;
    Ok(Effort {
        visits: after.visits - before.visits,
        locks: after.locks - before.locks,
        waits: after.waits - before.waits,
    })
}

/// Does something many times on this core, and checks that each visit takes one lock. At first a few times uncounted: what
/// is used comes home then.
fn takes_one_lock(visits: u64, mut something: impl FnMut() -> Outcome) -> Outcome {
    for _ in 0..3 {
        something()?;
    }
    let before = effort(0)?;
    for _ in 0..ROUNDS {
        something()?;
    }
    let spent = since(0, before)?;
    check!(spent.visits >= visits * ROUNDS, "only {spent:?}");
    check!(spent.is_local(), "{spent:?}");
    Ok(())
}

fn a_local_round_trip_takes_one_lock_a_visit(case: &mut Case) -> Outcome {
    let (endpoint, ..) = super::ipc::server(case, 0)?;
    takes_one_lock(2, || {
        endpoint.call(&Message::OK)?;
        Ok(())
    })
}

fn a_local_signal_takes_one_lock(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 1)?;
    takes_one_lock(2, || {
        bit.signal()?;
        equal!(original.wait(POLL), Ok(1));
        Ok(())
    })
}

fn a_call_of_a_kernel_object_takes_one_lock(_: &mut Case) -> Outcome {
    takes_one_lock(3, || {
        TABLE.size()?;
        SPACE.info()?;
        sys::yield_now();
        Ok(())
    })
}

fn a_refused_call_takes_one_lock(case: &mut Case) -> Outcome {
    let empty = case.slot();
    takes_one_lock(2, || {
        equal!(Endpoint::at(empty).send(&Message::OK, None, POLL), Err(Error::EmptySlot));
        equal!(TABLE.copy(empty, empty, Rights::ALL), Err(Error::EmptySlot));
        Ok(())
    })
}

fn a_local_mapping_takes_one_lock(case: &mut Case) -> Outcome {
    let window = case.window(1)?;
    takes_one_lock(2, || {
        window.frame.unmap()?;
        window.frame.map(SPACE, window.address, READ_WRITE, false)?;
        Ok(())
    })
}

fn a_local_copy_takes_one_lock(case: &mut Case) -> Outcome {
    let (frame, slot): (Frame, Slot) = (case.make_small()?, case.slot());
    let other: CapTable = case.make_small()?;
    takes_one_lock(4, || {
        TABLE.copy(frame.slot(), slot, Rights::READ)?;
        other.take(slot, Slot::new(9))?;
        other.look(Slot::new(9))?;
        other.delete(Slot::new(9))?;
        Ok(())
    })
}

fn a_local_retype_takes_one_lock(case: &mut Case) -> Outcome {
    // Making takes one; to end what was made takes all, and is not counted.
    let memory: Untyped = case.make_sized(64)?;
    let first = case.slots(64);
    memory.retype(anos::Kind::Endpoint, 0, 1, first)?;
    let before = effort(0)?;
    for n in 1..60 {
        memory.retype(anos::Kind::Endpoint, 0, 1, first.offset(n))?;
    }
    let spent = since(0, before)?;
    check!(spent.visits >= 59 && spent.is_local(), "{spent:?}");
    Ok(())
}

fn deleting_the_last_capability_takes_all_locks(case: &mut Case) -> Outcome {
    let mut most = 0;
    for _ in 0..20 {
        let endpoint: Endpoint = case.make()?;
        let before = effort(0)?;
        TABLE.delete(endpoint.slot())?;
        let spent = since(0, before)?;
        most = most.max(spent.locks - spent.visits);
    }
    check!(most >= env::cores() - 1, "only {most} more locks than visits");
    Ok(())
}

fn no_lock_is_waited_for_on_one_core(case: &mut Case) -> Outcome {
    let (endpoint, ..) = super::ipc::server(case, 0)?;
    let before = counters()?.locks_waited;
    for n in 0..ROUNDS {
        equal!(endpoint.call(&Message::new(0, &[n]))?[0], n + 1);
    }
    let waited = counters()?.locks_waited;
    // With other cores that idle: they come in for a kick at most.
    check!(env::cores() > 1 || waited == 0, "{waited} locks waited for by the only core");
    check!(waited - before <= 10, "{} locks waited for", waited - before);
    Ok(())
}

/// A helper: calls the server in word `20 + core` many times. Word `30 + core`: visits; `40 + core`: locks; `50 + core`:
/// locks waited for. It says in word 0 that it is warm, and measures when word 1 is set; then says so in word 2, and
/// stays until word 3 is set: what helpers do at their end is no part of it.
fn measure(arguments: u64) {
    let (core, server) = (arguments & 0xff, at::<Endpoint>(arguments >> 8));
    let round_trips = |times: u64| (0..times).all(|n| server.call(&Message::new(0, &[n])).is_ok_and(|w| w[0] == n + 1));
    if !round_trips(20) || effort(core).is_err() {
        return;
    }
    count(0);
    spin(|| shared_value(1) != 0);
    if let Ok(before) = effort(core)
        && round_trips(ROUNDS)
        && let Ok(spent) = since(core, before)
    {
        for (word, value) in [(20, spent.visits), (30, spent.locks), (40, spent.waits)] {
            shared(word + core).store(value, Ordering::SeqCst);
        }
        count(2);
    }
    spin(|| shared_value(3) != 0);
}

/// What clients on these cores do in a thousand round trips with servers on those, all at the same time.
fn measured(case: &mut Case, pairs: &[(u64, u64)]) -> Outcome<[Effort; 8]> {
    for word in 0..4 {
        shared(word).store(0, Ordering::SeqCst);
    }
    let mut helpers = [None; 8];
    for ((client, server), place) in pairs.iter().zip(&mut helpers) {
        // Each pair meets at a page of its own.
        let memory: Untyped = case.make_sized(4)?;
        let (endpoint, reply): (Endpoint, Reply) = (memory.make(0, case.slot())?, memory.make(0, case.slot())?);
        case.helper(*server, HIGH, serve, number(endpoint) | number(reply) << 32)?;
        *place = Some(case.helper(*client, LOW, measure, client | number(endpoint) << 8)?);
    }
    let all = pairs.len() as u64;
    case.eventually(|| shared_value(0) == all)?;
    shared(1).store(1, Ordering::SeqCst);
    // This thread leaves no traces meanwhile.
    check!(spin(|| shared_value(2) == all), "{} of {all} clients are through", shared_value(2));
    shared(3).store(1, Ordering::SeqCst);
    case.join_all(helpers.into_iter().flatten())?;
    Ok(core::array::from_fn(|core| {
        let word = |first: u64| shared_value(first + core as u64);
        Effort { visits: word(20), locks: word(30), waits: word(40) }
    }))
}

fn local_round_trips_take_one_lock_on_every_core(case: &mut Case) -> Outcome {
    for core in 1..env::cores().min(8) {
        let spent = measured(case, &[(core, core)])?[crate::case::to_usize(core)];
        check!(spent.visits >= 2 * ROUNDS && spent.is_local(), "core {core}: {spent:?}");
    }
    Ok(())
}

fn a_round_trip_between_two_cores_takes_the_locks_of_both(case: &mut Case) -> Outcome {
    let (client, server) = (1, 0);
    let before = effort(server)?;
    let (endpoint, ..) = super::ipc::server(case, server)?;
    let helper = case.helper(client, LOW, measure, client | number(endpoint) << 8)?;
    case.eventually(|| shared_value(0) == 1)?;
    shared(1).store(1, Ordering::SeqCst);
    case.eventually(|| shared_value(2) == 1)?;
    let spent = Effort { visits: shared_value(21), locks: shared_value(31), waits: shared_value(41) };
    // A call takes both. Kicks are visits, too, which take a lock and are not counted as calls.
    check!(spent.locks >= 2 * ROUNDS && spent.locks <= 6 * ROUNDS, "the client's core: {spent:?}");
    let other = since(server, before)?;
    check!(other.locks > other.visits, "the server's core: {other:?}");
    shared(3).store(1, Ordering::SeqCst);
    case.join(helper)?;
    Ok(())
}

fn cores_that_work_on_their_own_do_not_wait_for_each_other(case: &mut Case) -> Outcome {
    let all = env::cores().min(8);
    if all == 2 {
        // The other core is this thread's, which spins meanwhile.
        let spent = measured(case, &[(1, 1)])?[1];
        check!(spent.is_local(), "{spent:?}");
        return Ok(());
    }
    let mut pairs = [(0, 0); 7];
    (1..).zip(&mut pairs).for_each(|(core, pair)| *pair = (core, core));
    let spent = measured(case, pairs.get(..crate::case::to_usize(all - 1)).unwrap_or_default())?;
    for (core, spent) in (0..all).zip(spent).skip(1) {
        check!(spent.visits >= 2 * ROUNDS && spent.is_local(), "core {core}: {spent:?}");
    }
    Ok(())
}

fn what_threads_meet_at_moves_to_where_they_wait(case: &mut Case) -> Outcome {
    fn receive(endpoint: u64) {
        let _ = at::<Endpoint>(endpoint).recv(None, None, FOREVER);
    }
    let memory: Untyped = case.make_sized(1)?;
    let endpoint: Endpoint = memory.make(0, case.slot())?;
    let page = memory.info()?.address;
    for on in (0..env::cores().min(8)).chain([0, 1]) {
        let helper = case.helper(on, HIGH, receive, number(endpoint))?;
        let waits = || helper.thread.info().is_ok_and(|info| info.state == anos::abi::object::ThreadState::Receiving);
        check!(spin(waits), "it never waits on core {on}");
        equal!((DEBUG.page(page)?.kind, DEBUG.page(page)?.homes), (anos::Kind::Endpoint, 1 << on));
        endpoint.send(&Message::OK, None, FOREVER)?;
        case.join(helper)?;
    }
    Ok(())
}
