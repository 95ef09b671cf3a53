//! Rules for threads: each stands in exactly the queue that its state says, and the right one runs.

use std::collections::{BTreeMap, BTreeSet};

use anos_abi::Kind;
use anos_abi::object::ThreadState;
use anos_abi::syscall::FOREVER;
use anos_core::CoreState;
use anos_machine::{CoreId, CoreSet, Queue, Ref};

use super::{Broken, ThreadView, World, rule};
use crate::sim::{Sim, core_id};

/// Checks all of them.
pub fn check(sim: &Sim, world: &World) -> Result<(), Broken> {
    let mut standing = BTreeSet::new();
    for core in 0..sim.board.config.cores {
        let mut held = sim.kernel.hold(CoreId::BOOT, CoreSet::ALL, || unreachable!("one thread plays all cores"));
        let state = held.core(core_id(core)).expect("all locks are held");
        ready(world, core, state, &mut standing)?;
        timers(world, core, state, &mut standing_of(world, core))?;
        runs(sim, world, core, state)?;
    }
    waits(world)?;
    for (&at, thread) in &world.threads {
        alive(sim, world, at, thread, &standing)?;
    }
    Ok(())
}

/// The threads of a queue, in order; its links must be symmetrical.
fn members(world: &World, queue: &Queue, what: &str) -> Result<Vec<u64>, Broken> {
    let mut all = Vec::new();
    let mut before = Ref::NONE;
    let mut at = queue.head;
    while let Some(here) = at.some() {
        let thread = world.threads.get(&here.address());
        rule!(thread.is_some(), "{what} holds {here:?}, which is no thread");
        let Some(thread) = thread else { break };
        rule!(thread.links.previous == before, "{what}: {here:?} follows {before:?}, and doesn't know");
        rule!(all.len() <= world.threads.len(), "{what} runs in a circle");
        all.push(here.address());
        before = here;
        at = thread.links.next;
    }
    rule!(queue.tail == before, "{what} ends with {:?}, not {before:?}", queue.tail);
    Ok(all)
}

/// Ready queues, and the bits that say which aren't empty.
fn ready(world: &World, core: u64, state: &CoreState, standing: &mut BTreeSet<u64>) -> Result<(), Broken> {
    for (priority, queue) in state.ready.iter().enumerate() {
        let bit = state.ready_bits[priority / 64] >> (priority % 64) & 1;
        rule!((bit == 1) != queue.head.is_none(), "core {core}: the bit of priority {priority} is wrong");
        for thread in members(world, queue, "a ready queue")? {
            let record = &world.threads[&thread];
            let fits = record.state == ThreadState::Ready
                && u64::from(record.core) == core
                && usize::from(record.priority) == priority
                && record.queued == 1;
            rule!(fits, "{thread:#x} stands in core {core}'s ready queue {priority}: {record:x?}");
            rule!(state.current.address() != thread, "{thread:#x} runs and stands in a ready queue");
            standing.insert(thread);
        }
    }
    let stand = standing.iter().filter(|at| u64::from(world.threads[at].core) == core).count();
    rule!(state.ready_count == stand as u64, "core {core} counts {} ready threads of {stand}", state.ready_count);
    if let Some(current) = state.current.some() {
        let record = world.threads.get(&current.address());
        rule!(
            record.is_some_and(|thread| thread.queued == 0),
            "core {core} runs {current:?}, which is none: {record:x?}"
        );
        standing.insert(current.address());
    }
    Ok(())
}

/// The threads of a core that wait with a deadline.
fn standing_of(world: &World, core: u64) -> BTreeMap<u64, u64> {
    // A ready thread among them waits for CPU time.
    let waits = |thread: &ThreadView| match thread.state {
        ThreadState::Stopped => false,
        ThreadState::Ready => thread.bucket != 0,
        _ => true,
    };
    let mine = world.threads.iter().filter(|(_, thread)| u64::from(thread.core) == core && waits(thread));
    mine.filter(|(_, thread)| thread.deadline < FOREVER >> 1).map(|(&at, thread)| (at, thread.deadline)).collect()
}

/// The buckets of deadlines hold exactly the threads that wait with one.
fn timers(world: &World, core: u64, state: &CoreState, waiting: &mut BTreeMap<u64, u64>) -> Result<(), Broken> {
    for (bucket, head) in (0u8..).zip(&state.timers.heads) {
        let bit = state.timers.bits >> bucket & 1;
        rule!((bit == 1) != head.is_none(), "core {core}: the bit of bucket {bucket} is wrong");
        let mut before = Ref::NONE;
        let mut at = *head;
        while let Some(here) = at.some() {
            let due = waiting.remove(&here.address());
            rule!(due.is_some(), "core {core}: bucket {bucket} holds {here:?}, which waits for no time, or twice");
            let thread = &world.threads[&here.address()];
            let linked = thread.timer.previous == before && thread.bucket == bucket + 1;
            rule!(linked, "core {core}: {here:?} in bucket {bucket} is linked wrongly: {thread:x?}");
            before = here;
            at = thread.timer.next;
        }
    }
    rule!(waiting.is_empty(), "core {core}: no bucket holds {waiting:x?}");
    Ok(())
}

/// The right thread runs, and the timer comes when it must.
fn runs(sim: &Sim, world: &World, core: u64, state: &CoreState) -> Result<(), Broken> {
    let processor = &sim.board.processors[core_id(core).index()];
    if processor.trapped.is_some() {
        return Ok(());
    }
    let current = state.current;
    rule!(current == processor.thread, "core {core} runs {:?}, not {current:?}", processor.thread);
    rule!(state.loaded == processor.root, "core {core} loaded {:#x}, not {:#x}", processor.root, state.loaded);
    let first = standing_of(world, core).into_values().min().unwrap_or(u64::MAX);
    let set = processor.timer;
    rule!(set <= first || processor.kicked, "core {core}'s timer comes at {set}, a deadline at {first}");
    let best = state.ready.iter().rposition(|queue| !queue.head.is_none());
    let Some(thread) = current.some() else {
        let at_once = set <= sim.board.clock;
        rule!(
            best.is_none() || processor.kicked || at_once,
            "core {core} is idle while a thread of priority {best:?} is ready"
        );
        return Ok(());
    };
    let record = &world.threads[&thread.address()];
    let here = record.state == ThreadState::Ready && u64::from(record.core) == core;
    rule!(here || processor.kicked, "core {core} runs {thread:?}, which should not: {record:x?}");
    let priority = usize::from(record.priority);
    let urgent = best.is_none_or(|best| best <= priority) || processor.kicked;
    rule!(urgent, "core {core} runs priority {priority}, while a thread of {best:?} is ready");
    let turn = best != Some(priority) || set <= state.turn_end || processor.kicked;
    rule!(turn, "core {core}: the turn ends at {}, the timer comes at {set}", state.turn_end);
    Ok(())
}

/// Endpoints, notifications and replies agree with the threads that wait on them.
fn waits(world: &World) -> Result<(), Broken> {
    let mut waiting: BTreeMap<u64, u64> = BTreeMap::new();
    for (&at, endpoint) in &world.endpoints {
        rule!(world.has_capability(Kind::Endpoint, at), "endpoint {at:#x} has no capability: {endpoint:x?}");
        let all = members(world, &endpoint.queue, "an endpoint's queue")?;
        rule!(all.is_empty() == (endpoint.waiting == 0), "endpoint {at:#x}: {endpoint:x?} with {all:x?}");
        let state = if endpoint.waiting == 1 { ThreadState::Sending } else { ThreadState::Receiving };
        for thread in all {
            let record = &world.threads[&thread];
            rule!(record.state == state, "{thread:#x} stands in the queue of endpoint {at:#x}: {record:x?}");
            waiting.insert(thread, at);
        }
    }
    for (&at, notification) in &world.notifications {
        let known = world.has_capability(Kind::Notification, at);
        let all = members(world, &notification.queue, "a notification's queue")?;
        let bound = notification.bound;
        rule!(known || all.is_empty() && bound.is_none(), "notification {at:#x} has no capability: {notification:x?}");
        rule!(all.is_empty() || notification.bits == 0, "notification {at:#x} has bits and waiters: {notification:x?}");
        for thread in all {
            let record = &world.threads[&thread];
            rule!(record.state == ThreadState::Receiving, "{thread:#x} waits on {at:#x}: {record:x?}");
            waiting.insert(thread, at);
        }
        if let Some(bound) = bound.some() {
            let waits = world.threads.get(&bound.address()).filter(|thread| thread.state == ThreadState::Receiving);
            let on_endpoint = waits.is_some_and(|thread| world.kind_of(thread.waits_on) == Some(Kind::Endpoint));
            // To a passive thread a signal brings no time: it stays.
            let on_endpoint = on_endpoint && waits.is_some_and(|thread| !thread.context.is_none());
            rule!(
                !on_endpoint || notification.bits == 0,
                "{bound:?} waits, with signals at {at:#x}: {notification:x?}"
            );
            let other = world.threads.get(&bound.address()).map(|thread| thread.slots[3].object);
            rule!(other == Some(at), "notification {at:#x} is bound to {bound:?}, which is bound to {other:x?}");
        }
    }
    for (&at, reply) in &world.replies {
        rule!(world.has_capability(Kind::Reply, at), "reply {at:#x} has no capability: {reply:x?}");
        let caller = world.threads.get(&reply.caller.address());
        let state = caller.map(|caller| caller.state);
        let waits = matches!(state, Some(ThreadState::Calling | ThreadState::Faulted));
        rule!(waits, "reply {at:#x} answers {:?}, which is {state:?}", reply.caller);
        let other = waiting.insert(reply.caller.address(), at);
        rule!(other.is_none(), "{:?} waits on {at:#x} and on {other:x?}", reply.caller);
    }
    for (&at, thread) in &world.threads {
        let known = waiting.get(&at).copied().unwrap_or(0);
        rule!(known == thread.waits_on, "{at:#x} stands at {known:#x}, and thinks otherwise: {thread:x?}");
        let waits = !matches!(thread.state, ThreadState::Stopped | ThreadState::Ready);
        rule!(waits == (known != 0), "{at:#x} is {:?} and waits on {known:#x}", thread.state);
    }
    Ok(())
}

/// A thread by itself.
fn alive(sim: &Sim, world: &World, at: u64, thread: &ThreadView, standing: &BTreeSet<u64>) -> Result<(), Broken> {
    let state = thread.state;
    let known = world.has_capability(Kind::Thread, at);
    let idle = state == ThreadState::Stopped && thread.slots.iter().all(|slot| slot.is_empty());
    rule!(known || idle, "thread {at:#x} lives without a capability: {thread:x?}");
    let stands = standing.contains(&at);
    rule!(
        !stands || state != ThreadState::Stopped || trapped(sim, at),
        "{at:#x} stopped, and stands in line: {thread:x?}"
    );
    let timeless = thread.bucket != 0 || thread.context.is_none();
    rule!(state != ThreadState::Ready || stands || timeless, "{at:#x} is ready, and stands nowhere: {thread:x?}");
    rule!(thread.queued == 0 || stands, "{at:#x} thinks it stands in a ready queue: {thread:x?}");
    let kinds = [Kind::CapTable, Kind::AddressSpace, Kind::Endpoint, Kind::Notification, Kind::SchedContext];
    for (slot, kind) in thread.slots.iter().zip(kinds) {
        rule!(slot.is_empty() || slot.kind() == kind, "thread {at:#x} holds {slot:x?} for its {kind:?}");
    }
    let runnable = !thread.slots[1].is_empty();
    rule!(state != ThreadState::Ready || runnable, "thread {at:#x} is ready without an address space");
    let bound = &thread.slots[3];
    if !bound.is_empty() {
        let back = world.notifications.get(&bound.object).map(|notification| notification.bound.address());
        rule!(back == Some(at), "thread {at:#x} is bound to a notification that is bound to {back:x?}");
    }
    Ok(())
}

fn trapped(sim: &Sim, thread: u64) -> bool {
    sim.board.processors.iter().any(|processor| processor.thread.address() == thread && processor.trapped.is_some())
}
