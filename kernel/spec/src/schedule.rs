//! Who runs.
//!
//! Each core runs the most urgent of its threads that could run. Among equals each has a turn of 10 ms. Who is
//! interrupted by a more urgent thread goes on with the rest of its turn afterwards, before the others.

use crate::Spec;
use crate::call::{Answer, Request};
use crate::state::{Address, Core, Part, Place, State};

/// A thread's turn among others of its priority, ns.
const TURN_NS: u64 = 10_000_000;
/// Ready threads without time that a core puts aside in one visit.
pub const TIME_STEPS: usize = 2;

impl Core {
    /// The highest priority at which a thread is ready.
    fn best(&self) -> Option<u8> {
        self.ready.keys().next_back().copied()
    }

    /// How many threads are ready and don't run.
    fn ready_count(&self) -> usize {
        self.ready.values().map(|queue| queue.len()).sum()
    }
}

impl Spec {
    /// A thread can run. If it is the one that its core runs anyway, or waits for its turn already, so be it; else it does
    /// so now.
    pub(crate) fn make_ready(&mut self, thread: Address) {
        let record = self.thread_mut(thread);
        record.state = State::Ready;
        record.deadline = None;
        let (core, priority) = (record.core, record.priority);
        let queued = self.cores[core].ready.get(&priority).is_some_and(|queue| queue.contains(&thread));
        if !queued && self.cores[core].current != Some(thread) {
            self.enter_queue(thread, false);
        }
    }

    fn enter_queue(&mut self, thread: Address, in_front: bool) {
        let (core, priority) = (self.threads[&thread].core, self.threads[&thread].priority);
        let queue = self.cores[core].ready.entry(priority).or_default();
        if in_front { queue.push_front(thread) } else { queue.push_back(thread) }
    }

    /// Takes a thread out of the ready queue that it stands in. Answers whether it stood in one.
    pub(crate) fn leave_queue(&mut self, thread: Address) -> bool {
        let (core, priority) = (self.threads[&thread].core, self.threads[&thread].priority);
        let ready = &mut self.cores[core].ready;
        let Some(queue) = ready.get_mut(&priority) else { return false };
        let before = queue.len();
        queue.retain(|&other| other != thread);
        let stood = queue.len() < before;
        if queue.is_empty() {
            ready.remove(&priority);
        }
        stood
    }

    /// Gives a thread another priority. If it waits for its turn, it does so behind its new equals.
    pub(crate) fn set_priority(&mut self, thread: Address, priority: u8) {
        let stood = self.leave_queue(thread);
        self.thread_mut(thread).priority = priority;
        if stood {
            self.enter_queue(thread, false);
        }
    }

    /// Puts a thread on a core. If it could run, it waits for its turn anew, behind its equals there; a system call that
    /// nobody has looked at yet it makes then.
    pub(crate) fn place(&mut self, thread: Address, core: usize) {
        let ready = self.threads[&thread].state == State::Ready;
        if ready && self.take_off(thread) {
            self.put_off_call(thread);
        }
        self.thread_mut(thread).core = core;
        if ready {
            self.make_ready(thread);
        }
    }

    /// The core's timer went off: the current thread's turn may be over, waits may end.
    pub(crate) fn timer(&mut self) {
        self.charge(self.me);
        if self.now >= self.cores[self.me].turn_end {
            self.turn_over = true;
        }
        self.expire_deadlines();
    }

    /// The core has done what it came for: it runs who is to run now.
    pub(crate) fn leave(&mut self) {
        let me = self.me;
        let over = std::mem::take(&mut self.turn_over);
        let runs_on = |thread: &Address| {
            self.threads.get(thread).is_some_and(|thread| thread.state == State::Ready && thread.core == me)
        };
        let mut running = self.cores[me].current.filter(runs_on);
        if let Some(thread) = running
            && !self.has_time(thread)
        {
            self.charge(me);
            self.out_of_time(thread);
            running = None;
        }
        let stays = running.is_some_and(|thread| {
            let priority = self.threads[&thread].priority;
            // Among equals, until its turn is over.
            self.cores[me].best().is_none_or(|best| priority > best || priority == best && !over)
        });
        if !stays {
            self.switch(running, over);
        }
        let core = &self.cores[me];
        let space = core.current.and_then(|thread| self.at(Place::Thread(thread, Part::Space)));
        let root = space.map(|space| self.cap(space).object);
        let core = &mut self.cores[me];
        core.loaded = root;
        core.trapped = None;
    }

    /// The running thread, if it could go on, waits for its turn again; the first of the most urgent that has time runs.
    /// A core puts so many aside in one visit that have none; then it comes back for the others.
    fn switch(&mut self, running: Option<Address>, over: bool) {
        let (me, now) = (self.me, self.now);
        self.charge(me);
        if let Some(thread) = running {
            let left = if over { 0 } else { self.cores[me].turn_end.saturating_sub(now) };
            self.thread_mut(thread).turn_left = left;
            self.enter_queue(thread, left != 0);
        }
        let before = self.cores[me].current.take();
        for _ in 0..TIME_STEPS + self.choices.put_aside {
            let Some(best) = self.cores[me].best() else { return };
            let thread = self.cores[me].ready[&best][0];
            if !self.has_time(thread) {
                self.out_of_time(thread);
                continue;
            }
            self.leave_queue(thread);
            let left = std::mem::take(&mut self.thread_mut(thread).turn_left);
            let counted = before != Some(thread) || self.choices.forgot;
            let core = &mut self.cores[me];
            core.current = Some(thread);
            core.turn_end = now + if left == 0 { TURN_NS } else { left };
            core.switches += u64::from(counted);
            return;
        }
    }

    pub(crate) fn sched_control_info(&mut self, request: &Request) -> Answer {
        let number = self.cap(request.target).object;
        let at = core_of(number);
        self.charge(at);
        let core = &self.cores[at];
        Answer::words([number, core.idle_time, core.ready_count() as u64, core.switches])
    }
}

/// The core with this number.
pub(crate) fn core_of(number: u64) -> usize {
    usize::try_from(number).expect("a core's number")
}
