//! Who runs.
//!
//! 256 fixed priorities; each core has a queue per priority, round robin within one. The thread that runs stands in no
//! queue. The timer is set only if something will happen: another thread of the same priority waits for its turn, or
//! a deadline comes.

use anos_abi::object::ThreadState;
use anos_machine::{CoreId, Links, Machine, Next, Place, Queue, Ref, Stop, Store, Thread};

use crate::bounds::{TIME_STEPS, TURN_NS};
use crate::thread::Part;
use crate::{CoreState, Outcome, Visit};

/// Puts a thread at the end of a queue.
pub(crate) fn push_back(store: &mut Store, queue: &mut Queue, thread: Ref<Thread>) -> Outcome {
    store.get(thread)?.links = Links { next: Ref::NONE, previous: queue.tail };
    match queue.tail.some() {
        Some(tail) => store.get(tail)?.links.next = thread,
        None => queue.head = thread,
    }
    queue.tail = thread;
    Ok(())
}

/// Puts a thread at the head of a queue.
fn push_front(store: &mut Store, queue: &mut Queue, thread: Ref<Thread>) -> Outcome {
    store.get(thread)?.links = Links { next: queue.head, previous: Ref::NONE };
    match queue.head.some() {
        Some(head) => store.get(head)?.links.previous = thread,
        None => queue.tail = thread,
    }
    queue.head = thread;
    Ok(())
}

/// Takes a thread out of the queue it stands in.
pub(crate) fn remove(store: &mut Store, queue: &mut Queue, thread: Ref<Thread>) -> Outcome {
    let links = core::mem::take(&mut store.get(thread)?.links);
    match links.next.some() {
        Some(next) => store.get(next)?.links.previous = links.previous,
        None => queue.tail = links.previous,
    }
    match links.previous.some() {
        Some(previous) => store.get(previous)?.links.next = links.next,
        None => queue.head = links.next,
    }
    Ok(())
}

impl CoreState {
    /// The highest priority at which a thread is ready.
    pub(crate) fn best(&self) -> Option<u8> {
        if self.ready_count == 0 {
            return None;
        }
        let (index, word) = self.ready_bits.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        u8::try_from(index * 64 + word.ilog2() as usize).ok()
    }

    fn mark(&mut self, priority: u8) {
        let empty = self.ready.get(usize::from(priority)).is_none_or(|queue| queue.head.is_none());
        if let Some(word) = self.ready_bits.get_mut(usize::from(priority) / 64) {
            let bit = 1 << (priority % 64);
            *word = if empty { *word & !bit } else { *word | bit };
        }
    }
}

impl<M: Machine> Visit<'_, M> {
    /// The queue of a core, changed by `change`, and its bit.
    fn with_ready(
        &mut self,
        core: CoreId,
        priority: u8,
        change: impl FnOnce(&mut Store, &mut Queue) -> Outcome,
    ) -> Outcome {
        let state = self.held.core(core)?;
        let mut queue = state.ready.get(usize::from(priority)).copied().unwrap_or_default();
        change(self.held.store, &mut queue)?;
        let state = self.held.core(core)?;
        if let Some(slot) = state.ready.get_mut(usize::from(priority)) {
            *slot = queue;
        }
        state.mark(priority);
        Ok(())
    }

    pub(crate) fn core_of(&mut self, thread: Ref<Thread>) -> Outcome<CoreId> {
        let core = self.held.store.get(thread)?.core;
        CoreId::new(u64::from(core)).ok_or(Stop::STALE)
    }

    fn enqueue(&mut self, thread: Ref<Thread>, front: bool) -> Outcome {
        let core = self.core_of(thread)?;
        let record = self.held.store.get(thread)?;
        record.queued = 1;
        let priority = record.priority;
        let state = self.held.core(core)?;
        state.ready_count = state.ready_count.wrapping_add(1);
        self.with_ready(core, priority, |store, queue| {
            if front { push_front(store, queue, thread) } else { push_back(store, queue, thread) }
        })
    }

    pub(crate) fn dequeue(&mut self, thread: Ref<Thread>) -> Outcome {
        let core = self.core_of(thread)?;
        let record = self.held.store.get(thread)?;
        record.queued = 0;
        let priority = record.priority;
        let state = self.held.core(core)?;
        state.ready_count = state.ready_count.wrapping_sub(1);
        self.with_ready(core, priority, |store, queue| remove(store, queue, thread))
    }

    /// The thread can run. Its core looks again if that changes what it should do.
    pub(crate) fn make_ready(&mut self, thread: Ref<Thread>) -> Outcome {
        let record = self.held.store.get(thread)?;
        record.state = ThreadState::Ready as u8;
        record.waits_on = 0;
        let (priority, queued) = (record.priority, record.queued != 0);
        let core = self.core_of(thread)?;
        if queued || self.held.core(core)?.current == thread {
            return Ok(());
        }
        self.enqueue(thread, false)?;
        self.nudge(core, priority)
    }

    /// A thread of this priority became ready on a core: interrupt it if that matters to it.
    fn nudge(&mut self, core: CoreId, priority: u8) -> Outcome {
        if core == self.me {
            return Ok(());
        }
        let matters = match self.held.core(core)?.current.some() {
            None => true,
            Some(current) => {
                self.held.store.get(current)?.priority <= priority && self.kernel.presence.get(core) == Place::User
            }
        };
        if matters {
            self.mine()?.counters.kicks += 1;
            self.machine.kick(core);
        }
        Ok(())
    }

    /// Sees to it that a core isn't running user code; when this returns, its thread's state is in memory.
    pub(crate) fn bring_in(&mut self, core: CoreId) -> Outcome<Place> {
        if core != self.me && self.kernel.presence.get(core) == Place::User {
            self.mine()?.counters.kicks += 1;
            self.machine.kick(core);
            // bound: WAITING
            while self.kernel.presence.get(core) == Place::User {
                self.machine.relax();
            }
        }
        Ok(self.kernel.presence.get(core))
    }

    /// Takes a ready thread off its core, whether it runs or waits for its turn; it then stands nowhere. Answers
    /// whether it was about to make a system call, which then has not happened.
    pub(crate) fn take_off(&mut self, thread: Ref<Thread>) -> Outcome<bool> {
        if self.held.store.get(thread)?.queued != 0 {
            self.dequeue(thread)?;
            return Ok(false);
        }
        let core = self.core_of(thread)?;
        if self.held.core(core)?.current != thread {
            return Ok(false);
        }
        let place = self.bring_in(core)?;
        self.charge(core)?;
        self.held.core(core)?.current = Ref::NONE;
        Ok(core != self.me && place == Place::KernelWithCall)
    }

    /// Gives a thread another priority.
    pub(crate) fn set_priority(&mut self, thread: Ref<Thread>, priority: u8) -> Outcome {
        let queued = self.held.store.get(thread)?.queued != 0;
        if queued {
            self.dequeue(thread)?;
        }
        self.held.store.get(thread)?.priority = priority;
        let core = self.core_of(thread)?;
        if queued {
            self.enqueue(thread, false)?;
            return self.nudge(core, priority);
        }
        if core != self.me && self.held.core(core)?.current == thread {
            // It may no longer be the one to run.
            self.bring_in(core)?;
        }
        Ok(())
    }

    /// Puts a thread on a core: it moves there, if it was on another; if it is ready, it queues up anew.
    pub(crate) fn place(&mut self, thread: Ref<Thread>, core: CoreId) -> Outcome {
        let record = self.held.store.get(thread)?;
        let (state, timed) = (ThreadState::from_number(record.state.into()), record.bucket != 0);
        if timed {
            self.cancel_deadline(thread)?;
        }
        let ready = state == ThreadState::Ready;
        let cut = ready && self.take_off(thread)?;
        self.held.store.get(thread)?.core = core.number();
        self.held.store.settle(thread.address(), core)?;
        if cut {
            self.put_off_call(thread)?;
        }
        if ready {
            return self.make_ready(thread);
        }
        if timed {
            self.start_deadline(thread)?;
            self.nudge(core, u8::MAX)?;
        }
        Ok(())
    }

    /// A thread was about to make a system call that nobody has looked at yet: it makes it again when it goes on, wherever
    /// that is. The message is in its registers still.
    pub(crate) fn put_off_call(&mut self, thread: Ref<Thread>) -> Outcome {
        let registers = &mut self.held.store.get(thread)?.registers;
        registers.pc = registers.pc.wrapping_sub(M::SYSTEM_CALL_BYTES);
        Ok(())
    }

    /// The running thread lets others of its priority go first.
    pub(crate) fn yield_turn(&mut self) -> Outcome {
        self.mine()?.turn_over = true;
        Ok(())
    }

    /// The core has just come up, its timer set to who knows what.
    pub(crate) fn start_timer(&mut self) -> Outcome {
        self.mine()?.timer = u64::MAX;
        self.machine.set_timer(u64::MAX);
        Ok(())
    }

    /// The timer has come. Not inlined: the kernel is smaller so.
    #[inline(never)]
    pub(crate) fn timer(&mut self) -> Outcome {
        let now = self.machine.now();
        let me = self.me;
        self.charge(me)?;
        let core = self.mine()?;
        core.timer = u64::MAX;
        if now >= core.turn_end {
            core.turn_over = true;
        }
        self.expire_deadlines(now)
    }

    /// Decides what this core does next, and sets its timer. May need more locks halfway; then it can begin anew.
    pub(crate) fn leave(&mut self) -> Outcome<Next> {
        let me = self.me;
        let core = self.mine()?;
        let (current, over) = (core.current, core.turn_over);
        let mut running = self.runs_on(current)?;
        if let Some((thread, _)) = running
            && !self.has_time(thread)?
        {
            self.charge(me)?;
            self.out_of_time(thread)?;
            running = None;
        }
        let best = self.mine()?.best();
        let stays =
            running.filter(|(_, priority)| best.is_none_or(|best| *priority > best || *priority == best && !over));
        let next = match stays {
            Some((thread, _)) => thread,
            None => self.switch(running.map(|(thread, _)| thread), over)?,
        };
        self.mine()?.turn_over = false;
        self.set_timer()?;
        match next.some() {
            Some(thread) => self.run(thread),
            None => self.idle(),
        }
    }

    /// The thread that ran on this core, and its priority, if it is one to run here still.
    fn runs_on(&mut self, current: Ref<Thread>) -> Outcome<Option<(Ref<Thread>, u8)>> {
        let Some(thread) = current.some() else { return Ok(None) };
        let record = self.held.store.see(thread)?;
        let here = record.core == self.me.number() && record.state == ThreadState::Ready as u8;
        Ok(here.then_some((thread, record.priority)))
    }

    /// Puts the running thread back into its queue, if it is still one to run here, and takes the next that has time.
    fn switch(&mut self, running: Option<Ref<Thread>>, over: bool) -> Outcome<Ref<Thread>> {
        let me = self.me;
        self.charge(me)?;
        if let Some(thread) = running {
            // Who is interrupted by a more urgent thread goes on with the rest of its turn: a whole one each time
            // would let it run for ever.
            let core = self.mine()?;
            let left = if over { 0 } else { core.turn_end.saturating_sub(core.since) };
            self.held.store.get(thread)?.turn_left = left;
            self.enqueue(thread, left != 0)?;
        }
        let previous = core::mem::take(&mut self.mine()?.current);
        // bound: TIME_STEPS
        for _ in 0..TIME_STEPS {
            let core = self.mine()?;
            let Some(priority) = core.best() else { return Ok(Ref::NONE) };
            let Some(thread) = core.ready.get(usize::from(priority)).and_then(|queue| queue.head.some()) else {
                return Err(Stop::STALE);
            };
            if !self.has_time(thread)? {
                self.out_of_time(thread)?;
                continue;
            }
            self.dequeue(thread)?;
            let left = core::mem::take(&mut self.held.store.get(thread)?.turn_left);
            let core = self.mine()?;
            core.current = thread;
            core.turn_end = core.since.saturating_add(if left == 0 { TURN_NS } else { left });
            if thread != previous {
                core.counters.switches += 1;
            }
            return Ok(thread);
        }
        Ok(Ref::NONE)
    }

    fn set_timer(&mut self) -> Outcome {
        let deadline = self.first_deadline()?;
        let budget = self.budget_end()?;
        let core = self.mine()?;
        let (current, best, turn_end) = (core.current, core.best(), core.turn_end);
        let turn = match current.some() {
            Some(thread) if Some(self.held.store.see(thread)?.priority) == best => turn_end,
            // More threads were without time than one visit puts aside: at once again.
            None if best.is_some() => 0,
            _ => u64::MAX,
        };
        let timer = deadline.min(turn).min(budget);
        let core = self.mine()?;
        // One that comes too early does no harm to a core that runs something, and saves setting it at each switch.
        if timer < core.timer || current.is_none() && timer != core.timer {
            core.timer = timer;
            self.machine.set_timer(timer);
        }
        Ok(())
    }

    fn run(&mut self, thread: Ref<Thread>) -> Outcome<Next> {
        let root = self.part(thread, Part::Space)?.object;
        self.load(root)?;
        self.kernel.presence.set(self.me, Place::User);
        Ok(Next::Run(thread))
    }

    fn idle(&mut self) -> Outcome<Next> {
        self.load(0)?;
        self.kernel.presence.set(self.me, Place::Kernel);
        Ok(Next::Idle)
    }

    /// Something that can't be has happened on this core: its thread doesn't run on, whatever it was.
    pub(crate) fn give_up(&mut self) -> Next {
        if let Ok(core) = self.mine() {
            core.current = Ref::NONE;
        }
        // The kernel's own root can always be loaded.
        let _ = self.load(0);
        Next::Idle
    }
}
