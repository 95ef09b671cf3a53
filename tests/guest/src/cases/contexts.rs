//! Scheduling contexts: whose CPU time it is, of which core, and how much.

use core::sync::atomic::Ordering;

use anos::abi::PAGE_SIZE;
use anos::abi::object::{Method, ThreadState};
use anos::capability::{Capability, SchedContext, Thread, Untyped, invoke};
use anos::{Error, Kind, Rights, env};

use super::cases;
use crate::case::{Case, TABLE, core, count, now, shared, shared_value, spin_until};
use crate::check::{Outcome, check, equal};
use crate::helper::{HIGH, Helper, LOW};
use crate::supervisor::{DEBUG, WORKER_CONTEXT};

cases![
    a_thread_needs_a_context_to_start,
    a_context_belongs_to_one_thread,
    a_context_given_back_can_be_another_s,
    a_context_is_of_one_core_for_ever,
    contexts_of_one_core_share_a_page,
    contexts_of_two_cores_do_not_share_a_page on 2,
    a_thread_keeps_its_context_without_a_capability_to_it,
    a_context_ends_with_its_memory,
    a_limit_has_to_make_sense,
    a_limit_takes_the_control_of_the_core on 2,
    limiting_takes_write_and_looking_takes_read,
    a_context_tells_its_limit_and_use,
    a_context_s_use_is_its_thread_s,
    a_new_limit_begins_with_a_full_budget,
];

pub const MS: u64 = 1_000_000;
/// The longest period: what is used in it doesn't come back while a case runs.
pub const LONGEST: u64 = 1 << 40;
/// The smallest budget.
pub const SMALLEST: u64 = 10_000;

/// A helper: counts in word 0 until word 1 is set.
pub fn count_until_told(_: u64) {
    while shared_value(1) == 0 {
        count(0);
    }
}

/// A helper on core 0 that counts, with so much time in every period.
pub fn limited(case: &mut Case, priority: u8, budget: u64, period: u64, faults: bool) -> Outcome<Helper> {
    let helper = case.prepare(0, priority, count_until_told, 0)?;
    core(0).limit(helper.context, budget, period, faults)?;
    Ok(helper)
}

pub fn state(thread: Thread) -> Result<ThreadState, Error> {
    Ok(thread.info()?.state)
}

fn a_thread_needs_a_context_to_start(case: &mut Case) -> Outcome {
    let helper = case.prepare(0, HIGH, |_| count(0), 0)?;
    helper.thread.set_context(None)?;
    equal!(case.start(helper), Err(Error::NotRunnable));
    equal!((helper.thread.resume(), state(helper.thread)?), (Err(Error::NotRunnable), ThreadState::Stopped));
    helper.thread.set_context(Some(helper.context))?;
    case.start(helper)?;
    equal!(shared_value(0), 1);
    Ok(())
}

fn a_context_belongs_to_one_thread(case: &mut Case) -> Outcome {
    let helper = case.prepare(0, LOW, |_| count(0), 0)?;
    let other: Thread = case.make()?;
    let copy = case.copy(helper.context, Rights::ALL)?;
    for context in [helper.context, copy] {
        equal!(other.set_context(Some(context)), Err(Error::Busy));
        // To give a thread what it has changes nothing.
        equal!(helper.thread.set_context(Some(context)), Ok(()));
    }
    equal!((helper.context.info()?.bound, copy.info()?.bound), (true, true));
    case.start(helper)?;
    case.join(helper)?;
    equal!(shared_value(0), 1);
    Ok(())
}

fn a_context_given_back_can_be_another_s(case: &mut Case) -> Outcome {
    let context = case.context(0)?;
    equal!(context.info()?.bound, false);
    for n in 1..=5 {
        let helper = case.prepare(0, HIGH, |_| count(0), 0)?;
        helper.thread.set_context(Some(context))?;
        equal!(context.info()?.bound, true);
        case.start(helper)?;
        equal!(shared_value(0), n);
        if n % 2 == 0 {
            helper.thread.set_context(None)?;
        } else {
            TABLE.delete(helper.thread.slot())?;
        }
        equal!(context.info()?.bound, false);
    }
    Ok(())
}

fn a_context_is_of_one_core_for_ever(case: &mut Case) -> Outcome {
    for on in 0..env::cores().min(8) {
        let helper = case.prepare(on, LOW, |_| count(0), 0)?;
        equal!((helper.context.info()?.core, u64::from(helper.thread.info()?.core)), (on, on));
        core(on).limit(helper.context, MS, LONGEST, false)?;
        helper.thread.set_context(None)?;
        helper.thread.set_context(Some(helper.context))?;
        equal!((helper.context.info()?.core, u64::from(helper.thread.info()?.core)), (on, on));
    }
    Ok(())
}

fn contexts_of_one_core_share_a_page(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(2)?;
    let first = case.slots(64);
    let last = env::cores() - 1;
    core(last).make_contexts(memory, 32, first)?;
    equal!(memory.info()?.pages_used, 1);
    let page = DEBUG.page(memory.info()?.address)?;
    equal!((page.kind, page.homes), (Kind::SchedContext, 1 << last));
    core(last).make_contexts(memory, 1, first.offset(32))?;
    equal!(memory.info()?.pages_used, 2);
    Ok(())
}

fn contexts_of_two_cores_do_not_share_a_page(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(8)?;
    let start = memory.info()?.address;
    for (page, on) in (0..).zip([0, 1, 0, 1, 0]) {
        core(on).make_context(memory, case.slot())?;
        equal!(memory.info()?.pages_used, page + 1);
        let found = DEBUG.page(start + page * PAGE_SIZE)?;
        equal!((found.kind, found.homes), (Kind::SchedContext, 1 << on));
    }
    Ok(())
}

fn a_thread_keeps_its_context_without_a_capability_to_it(case: &mut Case) -> Outcome {
    let helper = case.prepare(0, LOW, count_until_told, 0)?;
    let context: SchedContext = case.context(0)?;
    helper.thread.set_context(Some(context))?;
    TABLE.delete(context.slot())?;
    case.start(helper)?;
    case.eventually(|| shared_value(0) > 0)?;
    shared(1).store(1, Ordering::SeqCst);
    case.join(helper)?;
    Ok(())
}

fn a_context_ends_with_its_memory(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(1)?;
    let context = core(0).make_context(memory, case.slot())?;
    let helper = case.prepare(0, LOW, count_until_told, 0)?;
    helper.thread.set_fault_endpoint(None)?;
    helper.thread.set_context(Some(context))?;
    case.start(helper)?;
    case.eventually(|| shared_value(0) > 0)?;
    TABLE.revoke(memory.slot())?;
    let seen = shared_value(0);
    case.sleep(5)?;
    equal!((shared_value(0), state(helper.thread)?), (seen, ThreadState::Ready));
    equal!(helper.thread.set_context(Some(context)), Err(Error::EmptySlot));
    helper.thread.set_context(Some(helper.context))?;
    case.eventually(|| shared_value(0) > seen)
}

fn a_limit_has_to_make_sense(case: &mut Case) -> Outcome {
    let context = case.context(0)?;
    let refused = [
        [SMALLEST - 1, MS, 0],
        [0, MS, 0],
        [MS, 0, 0],
        [MS + 1, MS, 0],
        [MS, LONGEST + 1, 0],
        [LONGEST + 1, LONGEST + 1, 0],
        [u64::MAX, u64::MAX, 0],
        [MS, MS, 2],
        [0, 0, 1],
    ];
    for words in refused {
        let answer = invoke(core(0).slot(), Method::SchedControlLimit, &words, Some(context.slot()), None);
        check!(answer == Err(Error::InvalidArgument), "{words:?}: {answer:?}");
        equal!((context.info()?.budget_ns, context.info()?.period_ns), (0, 0));
    }
    for (budget, period, faults) in [(SMALLEST, SMALLEST, false), (SMALLEST, LONGEST, true), (LONGEST, LONGEST, true)] {
        equal!(core(0).limit(context, budget, period, faults), Ok(()));
        equal!((context.info()?.budget_ns, context.info()?.period_ns), (budget, period));
    }
    equal!(core(0).limit(context, 0, 0, false), Ok(()));
    Ok(())
}

fn a_limit_takes_the_control_of_the_core(case: &mut Case) -> Outcome {
    for on in 0..env::cores().min(4) {
        let context = case.context(on)?;
        for control in 0..env::cores().min(4) {
            let expected = if control == on { Ok(()) } else { Err(Error::InvalidArgument) };
            equal!(core(control).limit(context, MS, 2 * MS, false), expected);
        }
    }
    Ok(())
}

fn limiting_takes_write_and_looking_takes_read(case: &mut Case) -> Outcome {
    let context = case.context(0)?;
    let (reader, writer) = (case.copy(context, Rights::READ)?, case.copy(context, Rights::WRITE)?);
    equal!(core(0).limit(reader, MS, MS, false), Err(Error::MissingRights));
    equal!(core(0).limit(writer, MS, MS, false), Ok(()));
    equal!(writer.info(), Err(Error::MissingRights));
    equal!(reader.info()?.budget_ns, MS);
    let onlooker = case.copy(core(0), Rights::READ)?;
    equal!(onlooker.limit(context, MS, MS, false), Err(Error::MissingRights));
    Ok(())
}

fn a_context_tells_its_limit_and_use(case: &mut Case) -> Outcome {
    let helper = limited(case, LOW, 5 * MS, LONGEST, false)?;
    let fresh = helper.context.info()?;
    equal!((fresh.core, fresh.budget_ns, fresh.period_ns), (0, 5 * MS, LONGEST));
    equal!((fresh.left_ns, fresh.used_ns, fresh.bound), (5 * MS, 0, true));
    case.start(helper)?;
    case.eventually(|| helper.context.info().is_ok_and(|info| info.left_ns == 0))?;
    let used = helper.context.info()?.used_ns;
    check!(used >= 5 * MS, "used {used} ns");
    Ok(())
}

fn a_context_s_use_is_its_thread_s(case: &mut Case) -> Outcome {
    let helper = case.helper(0, LOW, count_until_told, 0)?;
    case.eventually(|| helper.context.info().is_ok_and(|info| info.used_ns > 5 * MS))?;
    // It doesn't run now: this thread does.
    equal!(helper.context.info()?.used_ns, helper.thread.info()?.cpu_time_ns);
    // This thread's own, too, is up to date.
    let start = now();
    let before = WORKER_CONTEXT.info()?.used_ns;
    spin_until(5, || false);
    check!(WORKER_CONTEXT.info()?.used_ns - before <= now() - start, "more time than there was");
    check!(WORKER_CONTEXT.info()?.used_ns > before, "it runs, and uses nothing");
    Ok(())
}

fn a_new_limit_begins_with_a_full_budget(case: &mut Case) -> Outcome {
    let helper = limited(case, HIGH, SMALLEST, LONGEST, false)?;
    helper.thread.set_priority(LOW, LOW)?;
    case.start(helper)?;
    for n in 1..=5 {
        case.eventually(|| helper.context.info().is_ok_and(|info| info.left_ns == 0))?;
        let used = helper.context.info()?.used_ns;
        core(0).limit(helper.context, n * SMALLEST, LONGEST, false)?;
        equal!((helper.context.info()?.left_ns, helper.context.info()?.used_ns), (n * SMALLEST, used));
    }
    Ok(())
}
