//! Rules for CPU time and for homes: budgets are conserved, what is lent has one user, and what a core's lock guards is at
//! home there.

use anos_abi::object::ThreadState;
use anos_abi::{Kind, PAGE_SIZE};
use anos_core::bounds::LENDINGS;
use anos_machine::{CoreSet, Ref, SchedContext};

use super::{Broken, World, rule};
use crate::memory::{RAM_BASE, index};
use crate::sim::{Sim, core_id};

/// Checks all of them.
pub fn check(sim: &Sim, world: &World) -> Result<(), Broken> {
    for (&at, context) in &world.contexts {
        budget(at, context)?;
        chain(world, at, context)?;
    }
    for (&at, thread) in &world.threads {
        let known = world.contexts.contains_key(&thread.context.address());
        rule!(thread.context.is_none() || known, "thread {at:#x} runs on a context that nobody has: {thread:x?}");
        let own = thread.slots[4].object;
        let fits = own == 0 || own == thread.context.address() && thread.lender.is_none();
        rule!(fits, "thread {at:#x} has context {own:#x}, and runs on another: {thread:x?}");
        let lends = thread.borrower.is_none() || matches!(thread.state, ThreadState::Calling | ThreadState::Faulted);
        rule!(lends, "thread {at:#x} has lent its time, and does not wait for an answer: {thread:x?}");
    }
    homes(sim, world)
}

/// What is left and what comes back make up the budget; it comes back in order.
fn budget(at: u64, context: &SchedContext) -> Result<(), Broken> {
    if context.period == 0 {
        return Ok(());
    }
    let back: i128 = context.refills.iter().map(|refill| i128::from(refill.amount)).sum();
    let all = i128::from(context.left) + back;
    rule!(all == i128::from(context.budget), "context {at:#x} has {all} ns of its budget: {context:x?}");
    let pending: Vec<_> = context.refills.iter().filter(|refill| refill.amount != 0).collect();
    let ordered = pending.is_sorted_by_key(|refill| refill.time);
    let dense = context.refills.iter().take(pending.len()).all(|refill| refill.amount != 0);
    rule!(ordered && dense, "context {at:#x} gets its time back out of order: {context:x?}");
    Ok(())
}

/// From the owner to the user, every thread knows the next and the one before.
fn chain(world: &World, at: u64, context: &SchedContext) -> Result<(), Broken> {
    let (mut before, mut thread) = (Ref::NONE, context.owner);
    let mut lent = 0;
    while let Some(here) = thread.some() {
        let record = world.threads.get(&here.address());
        rule!(record.is_some(), "context {at:#x} is lent to {here:?}, which is no thread");
        let Some(record) = record else { break };
        let fits = record.context.address() == at && record.lender == before && record.core == context.core;
        rule!(fits, "{here:?} does not know that it has context {at:#x} from {before:?}: {record:x?}");
        before = here;
        thread = record.borrower;
        lent += usize::from(!thread.is_none());
        rule!(lent <= LENDINGS, "context {at:#x} is lent for ever");
    }
    rule!(before == context.user, "context {at:#x} is used by {:?}, and lent to {before:?}", context.user);
    rule!(lent == usize::from(context.lent), "context {at:#x} is lent {lent} times: {context:x?}");
    Ok(())
}

/// A thread's page and a context's are at home on their core alone; a space is at home wherever it is loaded.
fn homes(sim: &Sim, world: &World) -> Result<(), Broken> {
    let page = |address: u64| index((address - RAM_BASE) / PAGE_SIZE);
    for (&at, thread) in &world.threads {
        let (found, wanted) = (world.homes[page(at)], CoreSet::only(core_id(thread.core.into())));
        rule!(found == wanted || thread.slots[0].is_empty(), "thread {at:#x} is at home on {found:?}: {thread:x?}");
    }
    for (&at, context) in &world.contexts {
        let (found, wanted) = (world.homes[page(at)], CoreSet::only(core_id(context.core.into())));
        rule!(found == wanted, "context {at:#x} is at home on {found:?}: {context:x?}");
    }
    for (number, (loaded, homes)) in world.loaded.iter().zip(&world.homes).enumerate() {
        let space = world.kinds[number] == Kind::AddressSpace as u8;
        rule!(!space || loaded.is_within(*homes), "space in page {number} is loaded on {loaded:?}, not at home there");
        rule!(!homes.meets(CoreSet::NONE) && *homes != CoreSet::NONE, "page {number} is at home nowhere");
        let exist = (0..sim.board.config.cores).fold(0, |all, core| all | 1 << core);
        rule!(homes.0 & !exist == 0, "page {number} is at home on {homes:?}, which there isn't");
    }
    Ok(())
}
