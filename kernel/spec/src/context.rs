//! CPU time: scheduling contexts.
//!
//! A thread runs on the time of a scheduling context. One without is passive: who calls it lends it time and priority, and
//! gets the time back with the answer, or whenever else its wait ends. So a context goes from hand to hand, from its owner
//! to its user, who alone can run.
//!
//! A context with a period has so much time in each. What was used between two looks at the clock comes back one period
//! after the first; what was more than was left, one later still. So what is left and what comes back always make up the budget.

use anos_abi::fault::FaultKind;
use anos_abi::{Error, Kind, Rights};

use crate::call::{Answer, Request};
use crate::schedule::core_of;
use crate::state::{Address, CapId, Capability, Context, Part, Place, State, Then};
use crate::{Outcome, Spec};

/// Through how many hands a context can go.
const LENDINGS: u8 = 16;
/// Returns that a context can have waiting; more come back together with the last.
const REFILLS: usize = 4;
/// The smallest budget, ns.
const SHORTEST_BUDGET: u64 = 10_000;
/// The longest period, ns.
const LONGEST_PERIOD: u64 = 1 << 40;

impl Context {
    /// What has come back by now is there again.
    fn refill(&mut self, now: u64) {
        while self.refills.front().is_some_and(|&(time, _)| time <= now) {
            let (_, amount) = self.refills.pop_front().expect("there is one");
            self.left = self.left.saturating_add_unsigned(amount);
        }
    }

    /// Time was used, from `since` on.
    fn spend(&mut self, since: u64, spent: u64) {
        self.used += spent;
        if self.period == 0 || spent == 0 {
            return;
        }
        self.left = self.left.saturating_sub_unsigned(spent);
        // What was too much, because the timer came late, comes back a period later still.
        let over = spent.min(u64::try_from(-self.left).unwrap_or(0));
        let time = since + self.period;
        self.give_back(time, spent - over);
        self.give_back(time + self.period, over);
    }

    /// Some time will come back.
    fn give_back(&mut self, time: u64, amount: u64) {
        if amount == 0 {
            return;
        }
        let time = self.refills.back().map_or(time, |&(last, _)| time.max(last));
        let before =
            if self.refills.len() < REFILLS { 0 } else { self.refills.pop_back().map_or(0, |(_, amount)| amount) };
        self.refills.push_back((time, before + amount));
    }
}

impl Spec {
    fn context_mut(&mut self, context: Address) -> &mut Context {
        self.contexts.get_mut(&context).expect("the context exists")
    }

    /// The time since the last look at the clock is charged to the thread that ran on a core, and to its context.
    pub(crate) fn charge(&mut self, core: usize) {
        let (since, now) = (self.cores[core].since, self.now);
        let spent = now - since;
        self.cores[core].since = now;
        let Some(thread) = self.cores[core].current else {
            self.cores[core].idle_time += spent;
            return;
        };
        let record = self.thread_mut(thread);
        record.cpu_time += spent;
        if let Some(context) = record.context {
            self.context_mut(context).spend(since, spent);
        }
    }

    /// Whether a thread has no CPU time of its own, and none that somebody lent it.
    pub(crate) fn is_passive(&self, thread: Address) -> bool {
        self.threads[&thread].context.is_none()
    }

    /// The context that a thread can run on, if it has one and has not lent it.
    fn usable(&self, thread: Address) -> Option<Address> {
        let thread = &self.threads[&thread];
        thread.context.filter(|_| thread.borrower.is_none())
    }

    /// Whether a thread has CPU time now. If it has again, running out of it the next time is news.
    pub(crate) fn has_time(&mut self, thread: Address) -> bool {
        let Some(at) = self.usable(thread) else { return false };
        if self.contexts[&at].period == 0 {
            return true;
        }
        let now = self.now;
        let context = self.context_mut(at);
        context.refill(now);
        let (enough, faults) = (context.left > 0, context.faults);
        if enough && faults {
            self.thread_mut(thread).fault[0] = 0;
        }
        enough
    }

    /// A thread was to run, and has no time. Its handler is told, once, if it has no context at all or one that says so;
    /// else it waits until some time comes back.
    pub(crate) fn out_of_time(&mut self, thread: Address) {
        let usable = self.usable(thread);
        let context = usable.map(|context| &self.contexts[&context]);
        let back = context.and_then(|context| context.refills.front()).map(|&(time, _)| time);
        let silent = context.is_some_and(|context| !context.faults);
        let cause = usable.is_none().into();
        let [kind, _, told_cause] = self.threads[&thread].fault;
        let told = kind == FaultKind::NoTime as u64 && told_cause == cause;
        let handler = self.at(Place::Thread(thread, Part::FaultEndpoint));
        self.leave_queue(thread);
        match handler {
            // (A handler that is passive itself can't take this: it brings no time.)
            Some(handler) if !silent && !told && !self.passive_waits(self.cap(handler).object) => {
                let Capability { object: endpoint, badge, .. } = *self.cap(handler);
                self.thread_mut(thread).fault = [FaultKind::NoTime as u64, 0, cause];
                self.send_fault(thread, endpoint, badge);
            }
            _ => self.thread_mut(thread).deadline = back,
        }
    }

    /// A caller lends its time and priority to a passive thread that takes its call. (Not who calls because it has none.)
    pub(crate) fn lend(&mut self, from: Address, to: Address, then: Then) {
        if !self.brings_time(from, then) || !self.is_passive(to) {
            return;
        }
        let at = self.threads[&from].context.expect("it brings time");
        let context = self.context_mut(at);
        context.lent += 1;
        context.user = Some(to);
        let core = context.core;
        let lender = self.thread_mut(from);
        lender.borrower = Some(to);
        let priority = lender.priority;
        let borrower = self.thread_mut(to);
        (borrower.context, borrower.lender, borrower.priority) = (Some(at), Some(from), priority);
        borrower.fault[0] = 0;
        if borrower.core != core {
            self.place(to, core);
        }
    }

    /// Whether a thread's message brings CPU time along, so that a passive thread can take it.
    pub(crate) fn brings_time(&self, sender: Address, then: Then) -> bool {
        let record = &self.threads[&sender];
        let calls = match then {
            Then::GoesOn => false,
            Then::Calls => true,
            Then::Faults => record.fault[0] != FaultKind::NoTime as u64,
        };
        calls && record.context.is_some_and(|context| self.contexts[&context].lent < LENDINGS)
    }

    /// Whether a passive thread waits for a message at an Endpoint.
    pub(crate) fn passive_waits(&self, endpoint: Address) -> bool {
        self.endpoints[&endpoint].receivers.front().is_some_and(|first| self.is_passive(*first))
    }

    /// What a thread has lent comes back, through however many hands it has gone.
    pub(crate) fn take_back(&mut self, thread: Address) {
        let Some(mut next) = self.thread_mut(thread).borrower.take() else { return };
        let at = self.threads[&thread].context.expect("it has lent it");
        self.charge_user(at);
        loop {
            let borrower = self.thread_mut(next);
            (borrower.context, borrower.lender) = (None, None);
            let further = borrower.borrower.take();
            self.context_mut(at).lent -= 1;
            match further {
                Some(further) => next = further,
                None => break,
            }
        }
        self.context_mut(at).user = Some(thread);
        self.look_again(next);
    }

    /// A ready thread that waits for time to come back has lost what it waits for: that shows when its turn comes.
    fn look_again(&mut self, thread: Address) {
        if self.threads[&thread].state == State::Ready && self.thread_mut(thread).deadline.take().is_some() {
            self.make_ready(thread);
        }
    }

    /// If a context is being used at this moment, the time up to now is charged to it.
    fn charge_user(&mut self, at: Address) {
        let Context { user, core, .. } = self.contexts[&at];
        if user.is_some() && self.cores[core].current == user {
            self.charge(core);
        }
    }

    /// A thread has no time any more: what it borrowed goes back to the lender, what it owned to nobody.
    pub(crate) fn detach(&mut self, thread: Address) {
        self.take_back(thread);
        let Some(at) = self.threads[&thread].context else { return };
        self.charge_user(at);
        match self.threads[&thread].lender {
            Some(lender) => self.take_back(lender),
            None => {
                let context = self.context_mut(at);
                (context.owner, context.user) = (None, None);
                self.thread_mut(thread).context = None;
                self.look_again(thread);
            }
        }
    }

    /// A capability is about to go. If it is the context that a thread has, that loses it.
    pub(crate) fn take_time_from_thread(&mut self, id: CapId) {
        if let Place::Thread(thread, Part::Context) = self.cap(id).place {
            self.detach(thread);
        }
    }

    /// A thread gets a context of its own, and moves to its core; or becomes passive. What it borrowed goes back.
    pub(crate) fn thread_set_context(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        let source = self.passed_or_none(request, Kind::SchedContext, Rights::WRITE)?;
        let context = source.map(|source| self.cap(source).object);
        if let Some(context) = context
            && self.contexts[&context].owner.is_some_and(|owner| owner != thread)
        {
            return Err(Error::Busy);
        }
        self.set_part(thread, Part::Context, source)?;
        if let Some(at) = context {
            self.detach(thread);
            let context = self.context_mut(at);
            (context.owner, context.user) = (Some(thread), Some(thread));
            let core = context.core;
            self.place(thread, core);
            let record = self.thread_mut(thread);
            record.context = Some(at);
            // A fault that its handler has yet to see stays.
            if record.fault[0] == FaultKind::NoTime as u64 && !matches!(record.state, State::Sending(..)) {
                record.fault[0] = 0;
            }
            let own = record.own_priority;
            self.set_priority(thread, own);
        }
        Ok(Answer::OK)
    }

    pub(crate) fn sched_context_info(&mut self, request: &Request) -> Answer {
        let at = self.cap(request.target).object;
        self.charge_user(at);
        let now = self.now;
        let context = self.context_mut(at);
        context.refill(now);
        let left = u64::try_from(context.left).unwrap_or(0);
        let bound = u64::from(context.owner.is_some());
        Answer::words([context.core as u64, context.budget, context.period, left, context.used, bound])
    }

    /// Limits a context of this core, or takes its limit away. It starts with the whole budget.
    pub(crate) fn sched_control_limit(&mut self, request: &Request) -> Outcome<Answer> {
        let core = core_of(self.cap(request.target).object);
        let [budget, period, faults, ..] = request.words;
        let context = self.passed_kind(request, Kind::SchedContext, Rights::WRITE)?;
        let at = self.cap(context).object;
        let limited = SHORTEST_BUDGET <= budget && budget <= period && period <= LONGEST_PERIOD;
        if faults > 1 || !limited && (budget, period, faults) != (0, 0, 0) || self.contexts[&at].core != core {
            return Err(Error::InvalidArgument);
        }
        self.charge_user(at);
        let context = self.context_mut(at);
        (context.budget, context.period, context.faults) = (budget, period, faults == 1);
        context.left = i64::try_from(budget).map_err(|_| Error::InvalidArgument)?;
        context.refills.clear();
        // Who waits for time that it now has looks again.
        if let Some(user) = context.user
            && self.threads[&user].state == State::Ready
        {
            self.place(user, core);
        }
        Ok(Answer::OK)
    }
}
