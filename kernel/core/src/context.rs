//! Scheduling contexts: CPU time as a capability.
//!
//! A thread runs on the time of a scheduling context: its own, or one that a caller has lent it. A thread with none of its
//! own is passive: who calls it lends it time and priority, and gets the time back with the answer, or whenever else its
//! wait ends. Lenders and borrowers form a chain, from the owner to the *user*, who alone can run; all are at home on the
//! context's core.
//!
//! A context can have a budget in every period. What is used at some time comes back one period later (a sporadic server:
//! B. Sprunt, L. Sha, J. Lehoczky, "Aperiodic task scheduling for hard real-time systems", Real-Time Systems 1(1), 1989),
//! so no window as long as a period sees more than the budget. `left` and what will come back always make up the budget.

use anos_abi::fault::FaultKind;
use anos_abi::object::ThreadState;
use anos_abi::{Error, Kind, Rights};
use anos_machine::records::Refill;
use anos_machine::{CoreId, Machine, Ref, SchedContext, Thread};

use crate::bounds::{LENDINGS, LONGEST_PERIOD_NS, SHORTEST_BUDGET_NS};
use crate::call::Request;
use crate::ipc::{CALL, FAULT};
use crate::thread::Part;
use crate::{Outcome, Visit};

/// The core with a number that a SchedControl or a context holds.
pub(crate) fn core_numbered(number: u64) -> Outcome<CoreId> {
    Ok(CoreId::new(number).ok_or(Error::InvalidArgument)?)
}

/// Takes up what has come back by now.
fn refill(context: &mut SchedContext, now: u64) {
    // bound: ARRAY
    for _ in 0..context.refills.len() {
        let first = context.refills[0];
        if first.amount == 0 || first.time > now {
            return;
        }
        context.left = context.left.saturating_add_unsigned(first.amount);
        let [_, b, c, d] = context.refills;
        context.refills = [b, c, d, Refill::default()];
    }
}

/// Takes off what was used from `since` on.
#[inline(always)]
pub(crate) fn spend(context: &mut SchedContext, since: u64, spent: u64) {
    context.used = context.used.wrapping_add(spent);
    if context.period == 0 || spent == 0 {
        return;
    }
    spend_limited(context, since, spent);
}

fn spend_limited(context: &mut SchedContext, since: u64, spent: u64) {
    context.left = context.left.saturating_sub_unsigned(spent);
    // What was too much, because the timer came late, comes back a period later still.
    let over = spent.min(u64::try_from(context.left.saturating_neg()).unwrap_or(0));
    let time = since.saturating_add(context.period);
    give_back(context, Refill { time, amount: spent - over });
    give_back(context, Refill { time: time.saturating_add(context.period), amount: over });
}

/// Some time will come back, not before what is noted already.
fn give_back(context: &mut SchedContext, mut coming: Refill) {
    if coming.amount == 0 {
        return;
    }
    // bound: ARRAY
    for refill in &mut context.refills {
        if refill.amount == 0 {
            *refill = coming;
            return;
        }
        coming.time = coming.time.max(refill.time);
    }
    // No room: the last waits for this one.
    let [.., last] = &mut context.refills;
    *last = Refill { time: coming.time, amount: last.amount.saturating_add(coming.amount) };
}

impl<M: Machine> Visit<'_, M> {
    /// Adds the time since the last look to the thread that runs on a core and its context, or to idleness.
    pub(crate) fn charge(&mut self, core: CoreId) -> Outcome {
        let now = self.machine.now();
        let state = self.held.core(core)?;
        let since = state.since;
        let spent = now.saturating_sub(since);
        state.since = now;
        let Some(thread) = state.current.some() else {
            state.idle_time = state.idle_time.wrapping_add(spent);
            return Ok(());
        };
        let record = self.held.store.get(thread)?;
        record.cpu_time = record.cpu_time.wrapping_add(spent);
        if let Some(context) = record.context.some() {
            spend(self.held.store.get(context)?, since, spent);
        }
        Ok(())
    }

    /// The context that a thread can run on, if it has one and has not lent it.
    fn usable(&self, thread: Ref<Thread>) -> Outcome<Option<Ref<SchedContext>>> {
        let Thread { context, borrower, .. } = self.held.store.see(thread)?;
        Ok(if borrower.is_none() { context.some() } else { None })
    }

    /// Whether a thread has CPU time now.
    pub(crate) fn has_time(&mut self, thread: Ref<Thread>) -> Outcome<bool> {
        let Some(at) = self.usable(thread)? else { return Ok(false) };
        if self.held.store.see(at)?.period == 0 {
            return Ok(true);
        }
        let now = self.machine.now();
        let context = self.held.store.get(at)?;
        refill(context, now);
        let (enough, faults) = (context.left > 0, context.faults != 0);
        if enough && faults {
            self.held.store.get(thread)?.fault[0] = 0;
        }
        Ok(enough)
    }

    /// When the running thread's budget ends, ns.
    pub(crate) fn budget_end(&mut self) -> Outcome<u64> {
        let core = self.mine()?;
        let (thread, since) = (core.current, core.since);
        let Some(thread) = thread.some() else { return Ok(u64::MAX) };
        let Some(context) = self.held.store.see(thread)?.context.some() else { return Ok(u64::MAX) };
        let context = self.held.store.see(context)?;
        Ok(if context.period == 0 { u64::MAX } else { since.saturating_add_signed(context.left) })
    }

    /// A ready thread of this core was to run, and has no time. It waits until some comes back, or for its fault handler:
    /// if it has no context, or one that says so. It is told each of the two once.
    pub(crate) fn out_of_time(&mut self, thread: Ref<Thread>) -> Outcome {
        let context = self.usable(thread)?;
        let (back, told) = match context {
            Some(context) => {
                let context = self.held.store.see(context)?;
                let [first, ..] = context.refills;
                (first.time, context.faults == 0)
            }
            None => (u64::MAX, false),
        };
        let cause = context.is_none().into();
        let [kind, _, told_cause] = self.held.store.see(thread)?.fault;
        let told = told || kind == FaultKind::NoTime as u64 && told_cause == cause;
        let handler = self.part(thread, Part::FaultEndpoint)?.copy();
        // (A handler that is passive itself can't take this: it brings no time.)
        let faults = !told && handler.kind() == Kind::Endpoint && !self.passive_waits(Ref::at(handler.object))?;
        if faults {
            // What it was about to pass when it was interrupted goes nowhere.
            self.held.store.get(thread)?.sending = FAULT;
            self.need_offer(thread, Ref::at(handler.object))?;
        }
        if self.held.store.see(thread)?.queued != 0 {
            self.dequeue(thread)?;
        }
        let record = self.held.store.get(thread)?;
        if faults {
            record.fault = [FaultKind::NoTime as u64, 0, cause];
            return self.send_fault(thread, &handler);
        }
        record.deadline = back;
        self.start_deadline(thread)
    }

    /// A caller lends its time and priority to the passive thread that takes its call.
    pub(crate) fn lend(&mut self, from: Ref<Thread>, to: Ref<Thread>) -> Outcome {
        if !self.brings_time(from)? || !self.held.store.see(to)?.context.is_none() {
            return Ok(());
        }
        let lender = self.held.store.see(from)?;
        let (at, priority) = (lender.context, lender.priority);
        let context = self.held.store.get(at)?;
        context.lent = context.lent.saturating_add(1);
        context.user = to;
        let core = core_numbered(context.core.into())?;
        self.held.store.get(from)?.borrower = to;
        let record = self.held.store.get(to)?;
        (record.context, record.lender, record.priority) = (at, from, priority);
        record.fault[0] = 0;
        if record.core == core.number() { Ok(()) } else { self.place(to, core) }
    }

    /// A thread's wait ends: what it has lent comes back, through however many hands it has gone.
    pub(crate) fn take_back(&mut self, thread: Ref<Thread>) -> Outcome {
        let record = self.held.store.get(thread)?;
        let at = record.context;
        let mut next = core::mem::take(&mut record.borrower);
        if next.is_none() {
            return Ok(());
        }
        self.interrupt_user(at)?;
        // bound: LENDINGS
        for _ in 0..LENDINGS {
            let Some(borrower) = next.some() else { break };
            let record = self.held.store.get(borrower)?;
            (record.context, record.lender) = (Ref::NONE, Ref::NONE);
            next = core::mem::take(&mut record.borrower);
            let context = self.held.store.get(at)?;
            context.lent = context.lent.saturating_sub(1);
        }
        let user = core::mem::replace(&mut self.held.store.get(at)?.user, thread);
        self.look_again(user)
    }

    /// A ready thread that waits for time to come back has lost what it waits for: its core finds out when its turn comes.
    fn look_again(&mut self, thread: Ref<Thread>) -> Outcome {
        let record = self.held.store.see(thread)?;
        if record.bucket == 0 || record.state != ThreadState::Ready as u8 {
            return Ok(());
        }
        self.cancel_deadline(thread)?;
        self.make_ready(thread)
    }

    /// The core on which somebody runs on a context now, if anybody does.
    fn runs_where(&mut self, at: Ref<SchedContext>) -> Outcome<Option<CoreId>> {
        let SchedContext { user, core, .. } = *self.held.store.see(at)?;
        let core = core_numbered(core.into())?;
        Ok((self.held.core(core)?.current == user && !user.is_none()).then_some(core))
    }

    /// Who uses a context is charged up to now, and looks again before it runs on.
    fn interrupt_user(&mut self, at: Ref<SchedContext>) -> Outcome {
        let Some(core) = self.runs_where(at)? else { return Ok(()) };
        self.bring_in(core)?;
        self.charge(core)
    }

    /// A thread gets a context of its own; what it may have borrowed goes back.
    pub(crate) fn bind(&mut self, thread: Ref<Thread>, at: Ref<SchedContext>) -> Outcome {
        self.detach(thread)?;
        let context = self.held.store.get(at)?;
        (context.owner, context.user) = (thread, thread);
        let core = core_numbered(context.core.into())?;
        self.place(thread, core)?;
        let record = self.held.store.get(thread)?;
        record.context = at;
        // It may be short of time once more, and is told so; but a fault that its handler has yet to see stays.
        if record.fault[0] == FaultKind::NoTime as u64 && record.state != ThreadState::Sending as u8 {
            record.fault[0] = 0;
        }
        let own = record.own_priority;
        self.set_priority(thread, own)
    }

    /// Whether a message of this thread brings CPU time along, so that a passive thread can take it.
    pub(crate) fn brings_time(&self, sender: Ref<Thread>) -> Outcome<bool> {
        let Thread { context, sending, fault: [kind, ..], .. } = *self.held.store.see(sender)?;
        let calls = sending == CALL || sending == FAULT && kind != FaultKind::NoTime as u64;
        match context.some() {
            Some(context) if calls => Ok(usize::from(self.held.store.see(context)?.lent) < LENDINGS),
            _ => Ok(false),
        }
    }

    /// A thread has no time any more: what it borrowed goes back to the lender, what it owned to nobody.
    pub(crate) fn detach(&mut self, thread: Ref<Thread>) -> Outcome {
        self.take_back(thread)?;
        let Thread { context: at, lender, .. } = *self.held.store.see(thread)?;
        if at.is_none() {
            return Ok(());
        }
        self.interrupt_user(at)?;
        if let Some(lender) = lender.some() {
            return self.take_back(lender);
        }
        let context = self.held.store.get(at)?;
        (context.owner, context.user) = (Ref::NONE, Ref::NONE);
        self.held.store.get(thread)?.context = Ref::NONE;
        self.look_again(thread)
    }

    pub(crate) fn thread_set_context(&mut self, request: &Request) -> Outcome {
        let thread = Ref::<Thread>::at(request.target.object);
        let from = request.passed_if_any(self, Kind::SchedContext, Rights::WRITE)?;
        self.need_all()?;
        if from.is_none() {
            return self.set_part(thread, Part::Context, from);
        }
        let context = Ref::<SchedContext>::at(self.held.store.see(from)?.object);
        let owner = self.held.store.see(context)?.owner;
        if !owner.is_none() && owner != thread {
            return Err(Error::Busy.into());
        }
        self.set_part(thread, Part::Context, from)?;
        self.bind(thread, context)
    }

    pub(crate) fn sched_context_info(&mut self, request: &Request) -> Outcome {
        let at = Ref::<SchedContext>::at(request.target.object);
        self.need(at)?;
        if let Some(core) = self.runs_where(at)? {
            self.charge(core)?;
        }
        let now = self.machine.now();
        let context = self.held.store.get(at)?;
        refill(context, now);
        let left = u64::try_from(context.left).unwrap_or(0);
        let bound = u64::from(!context.owner.is_none());
        self.answer.tell([context.core.into(), context.budget, context.period, left, context.used, bound])
    }

    pub(crate) fn sched_control_limit(&mut self, request: &Request) -> Outcome {
        let [budget, period, faults, ..] = *request.words;
        let core = core_numbered(request.target.object)?;
        let at = Ref::<SchedContext>::at(request.passed_object(self, Kind::SchedContext, Rights::WRITE)?);
        let limited = SHORTEST_BUDGET_NS <= budget && budget <= period && period <= LONGEST_PERIOD_NS;
        if faults > 1 || !limited && (budget | period | faults) != 0 {
            return Err(Error::InvalidArgument.into());
        }
        if self.held.store.see(at)?.core != core.number() {
            return Err(Error::InvalidArgument.into());
        }
        self.need(at)?;
        self.interrupt_user(at)?;
        let left = i64::try_from(budget).map_err(|_| Error::InvalidArgument)?;
        let context = self.held.store.get(at)?;
        (context.budget, context.period, context.left, context.faults) = (budget, period, left, u8::from(faults == 1));
        context.refills = Default::default();
        // Who waits for time that it now has looks again.
        match context.user.some() {
            Some(user) if self.state_of(user)? == ThreadState::Ready => {
                self.place(user, core)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
