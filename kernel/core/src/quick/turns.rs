//! The short way: who steps back, and who comes next.

use anos_machine::{Known, Links, Ref, SchedContext, Thread};

use super::Message;
use crate::bounds::TURN_NS;

/// The first of the threads that are ready.
pub(super) struct First<'id> {
    pub thread: Known<'id, Thread>,
    at: Ref<Thread>,
    /// Who stands behind it in its queue.
    behind: Option<Known<'id, Thread>>,
}

impl<'id> Message<'id, '_> {
    /// What a thread can run on, if that has no limit.
    pub(super) fn time_of(&self, thread: Known<'id, Thread>) -> Option<Known<'id, SchedContext>> {
        let record = self.memory.see(thread);
        let context = self.memory.know(record.context)?;
        if record.borrower.is_none() && self.memory.see(context).period == 0 { Some(context) } else { None }
    }

    /// A thread, if it is at home here. (Not inlined, here as below: the kernel is smaller so.)
    pub(super) fn thread(&self, at: Ref<Thread>) -> Option<Known<'id, Thread>> {
        self.memory.know(at)
    }

    /// The thread at an end of a queue; none, if that is empty.
    fn end(&self, at: Ref<Thread>) -> Option<Option<Known<'id, Thread>>> {
        if at.is_none() { Some(None) } else { Some(Some(self.thread(at)?)) }
    }

    /// The running thread was on the core until now, and another one is to be. This is the last to ask.
    pub(super) fn change(
        &mut self,
        from: Known<'id, Thread>,
        context: Known<'id, SchedContext>,
        to: Known<'id, Thread>,
    ) -> Option<u64> {
        let space = self.enter_space(to)?;
        self.charge(from, context);
        Some(space)
    }

    /// Whether the running thread goes on running, whatever else is ready: to the end of its turn, for which the timer is
    /// set, if others of its priority are.
    pub(super) fn stays(&self, thread: Known<'id, Thread>) -> Option<Known<'id, SchedContext>> {
        if let Some(best) = self.core.best() {
            let priority = self.memory.see(thread).priority;
            if best > priority || best == priority && self.core.timer > self.core.turn_end {
                return None;
            }
        }
        self.time_of(thread)
    }

    /// A call has been dealt with, after which its thread runs on.
    pub(super) fn goes_on(&mut self) -> Option<u64> {
        self.core.counters.locks += 1;
        Some(0)
    }

    /// The first thread that is ready, if it can run without the timer being set.
    pub(super) fn first(&self, others: bool) -> Option<First<'id>> {
        let at = self.core.ready[usize::from(self.core.best()?)].head;
        let thread = self.thread(at)?;
        self.time_of(thread)?;
        let record = self.memory.see(thread);
        let behind = self.end(record.links.next)?;
        if (others || behind.is_some()) && self.core.timer > turn_end(self.now.max(self.core.since), record.turn_left) {
            return None;
        }
        Some(First { thread, at, behind })
    }

    /// The first of those who are ready leaves its queue and runs.
    pub(super) fn take(&mut self, first: First<'id>) {
        let record = self.memory.get(first.thread);
        let next = core::mem::take(&mut record.links).next;
        record.queued = 0;
        let queue = &mut self.core.ready[usize::from(record.priority)];
        queue.head = next;
        if next.is_none() {
            queue.tail = Ref::NONE;
            self.core.ready_bits[usize::from(record.priority / 64)] &= !(1 << (record.priority % 64));
        }
        self.core.ready_count = self.core.ready_count.wrapping_sub(1);
        if let Some(behind) = first.behind {
            self.memory.get(behind).links.previous = Ref::NONE;
        }
        self.run(first.thread, first.at);
    }

    /// A thread runs from now on: for the rest of its turn, or a whole one.
    fn run(&mut self, thread: Known<'id, Thread>, at: Ref<Thread>) {
        let left = core::mem::take(&mut self.memory.get(thread).turn_left);
        self.core.turn_end = turn_end(self.core.since, left);
        self.core.current = at;
        self.core.counters.quick += 1;
    }

    /// A thread stands at the front or at the end of its queue from now on, beside who stood there.
    fn enqueue(
        &mut self,
        thread: Known<'id, Thread>,
        at: Ref<Thread>,
        front: bool,
        beside: Option<Known<'id, Thread>>,
    ) {
        let record = self.memory.get(thread);
        let queue = &mut self.core.ready[usize::from(record.priority)];
        let (head, tail) = (queue.head, queue.tail);
        if front || head.is_none() {
            queue.head = at;
        }
        if !front || tail.is_none() {
            queue.tail = at;
        }
        self.core.ready_bits[usize::from(record.priority / 64)] |= 1 << (record.priority % 64);
        self.core.ready_count = self.core.ready_count.wrapping_add(1);
        record.links =
            if front { Links { next: head, previous: Ref::NONE } } else { Links { next: Ref::NONE, previous: tail } };
        record.queued = 1;
        if let Some(beside) = beside {
            let links = &mut self.memory.get(beside).links;
            if front {
                links.previous = at;
            } else {
                links.next = at;
            }
        }
    }

    /// The running thread lets others of its priority go first.
    pub(super) fn yield_turn(&mut self, thread: Known<'id, Thread>) -> Option<u64> {
        let context = self.stays(thread)?;
        let priority = self.memory.see(thread).priority;
        if self.core.best() != Some(priority) {
            self.answer(thread, 0, 0);
            return self.goes_on();
        }
        let first = self.first(true)?;
        // Behind the last, unless that is the one that goes now.
        let last = self.core.ready[usize::from(priority)].tail;
        let beside = if last == first.at { None } else { self.end(last)? };
        let space = self.change(thread, context, first.thread)?;
        let at = self.core.current;
        self.take(first);
        self.enqueue(thread, at, false, beside);
        self.memory.get(thread).turn_left = 0;
        self.answer(thread, 0, 0);
        Some(space)
    }

    /// A thread can run from now on: at once if it is more urgent than the one that runs, else in its turn. If that can't be
    /// decided here, nothing has happened: so this is the last to ask.
    pub(super) fn wake(&mut self, runs: Known<'id, Thread>, woken: Known<'id, Thread>, at: Ref<Thread>) -> Option<u64> {
        let context = self.stays(runs)?;
        let (urgent, priority) = (self.memory.see(woken).priority, self.memory.see(runs).priority);
        if urgent <= priority {
            if urgent == priority && self.core.timer > self.core.turn_end {
                return None;
            }
            let beside = self.end(self.core.ready[usize::from(urgent)].tail)?;
            self.enqueue(woken, at, false, beside);
            return self.goes_on();
        }
        self.time_of(woken)?;
        let left = self.core.turn_end.saturating_sub(self.now.max(self.core.since));
        let queue = self.core.ready[usize::from(priority)];
        let beside = self.end(if left != 0 { queue.head } else { queue.tail })?;
        let space = self.change(runs, context, woken)?;
        self.memory.get(runs).turn_left = left;
        self.enqueue(runs, self.core.current, left != 0, beside);
        self.run(woken, at);
        Some(space)
    }
}

/// When a turn ends that begins now.
fn turn_end(now: u64, left: u64) -> u64 {
    now.saturating_add(if left == 0 { TURN_NS } else { left })
}
