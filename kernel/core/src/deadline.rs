//! Until when a wait lasts.
//!
//! Each core keeps its waiting threads in 64 buckets: a deadline lies in the bucket of the highest bit in which it
//! differs from `last`, a time in the past, so all of a lower bucket comes before all of a higher one. Inserting and
//! removing take no search. When the lowest bucket's time begins, `last` moves there and the bucket is spread over
//! lower ones, a few threads at a time (a radix heap: Ahuja, Mehlhorn, Orlin, Tarjan, 1990; bounded, and in place).

use anos_abi::object::ThreadState;
use anos_abi::syscall::FOREVER;
use anos_abi::{Error, Status};
use anos_machine::{Links, Machine, Ref, Thread};

use crate::bounds::{TIMER_SCAN, TIMER_STEPS};
use crate::{Outcome, Timers, Visit};

impl Timers {
    fn bucket(&self, deadline: u64) -> u8 {
        if deadline <= self.last {
            return 0;
        }
        // Below 2^63, so at most 63.
        u8::try_from(u64::BITS - (deadline ^ self.last).leading_zeros()).unwrap_or(u8::MAX).min(63)
    }

    /// The earliest time that a deadline in this bucket can have.
    fn begin(&self, bucket: u8) -> u64 {
        if bucket == 0 {
            return self.last;
        }
        (self.last >> bucket << bucket) | 1 << (bucket - 1)
    }

    fn lowest(&self) -> Option<u8> {
        if self.draining != 0 && self.bits & 1 << self.draining != 0 {
            return Some(self.draining);
        }
        u8::try_from(self.bits.trailing_zeros()).ok().filter(|bucket| *bucket < 64)
    }

    fn head(&self, bucket: u8) -> Ref<Thread> {
        self.heads.get(usize::from(bucket)).copied().unwrap_or_default()
    }

    fn set_head(&mut self, bucket: u8, head: Ref<Thread>) {
        if let Some(slot) = self.heads.get_mut(usize::from(bucket)) {
            *slot = head;
        }
        let bit = 1 << (bucket % 64);
        self.bits = if head.is_none() { self.bits & !bit } else { self.bits | bit };
    }
}

impl<M: Machine> Visit<'_, M> {
    /// Puts a waiting thread among its core's deadlines, unless it waits for ever.
    pub(crate) fn start_deadline(&mut self, thread: Ref<Thread>) -> Outcome {
        let deadline = self.held.store.get(thread)?.deadline;
        // 292 years: for ever.
        if deadline >= FOREVER >> 1 {
            return Ok(());
        }
        let core = self.core_of(thread)?;
        let timers = &self.held.core(core)?.timers;
        let bucket = timers.bucket(deadline);
        let head = timers.head(bucket);
        let record = self.held.store.get(thread)?;
        record.timer = Links { next: head, previous: Ref::NONE };
        record.bucket = bucket + 1;
        if let Some(head) = head.some() {
            self.held.store.get(head)?.timer.previous = thread;
        }
        self.held.core(core)?.timers.set_head(bucket, thread);
        Ok(())
    }

    /// Takes a thread out of its core's deadlines, if it is there.
    pub(crate) fn cancel_deadline(&mut self, thread: Ref<Thread>) -> Outcome {
        let core = self.core_of(thread)?;
        let record = self.held.store.get(thread)?;
        let Some(bucket) = record.bucket.checked_sub(1) else { return Ok(()) };
        record.bucket = 0;
        let links = core::mem::take(&mut record.timer);
        if let Some(next) = links.next.some() {
            self.held.store.get(next)?.timer.previous = links.previous;
        }
        match links.previous.some() {
            Some(previous) => self.held.store.get(previous)?.timer.next = links.next,
            None => self.held.core(core)?.timers.set_head(bucket, links.next),
        }
        Ok(())
    }

    /// Ends the waits whose time has come, a few at a time: the timer comes again at once for the rest.
    pub(crate) fn expire_deadlines(&mut self, now: u64) -> Outcome {
        // bound: TIMER_STEPS
        for _ in 0..TIMER_STEPS {
            let timers = &mut self.mine()?.timers;
            let Some(bucket) = timers.lowest() else { return Ok(()) };
            let begin = timers.begin(bucket);
            if begin > now {
                return Ok(());
            }
            if bucket != timers.draining {
                timers.last = begin;
                timers.draining = bucket;
            }
            let thread = timers.head(bucket);
            let due = self.held.store.see(thread)?.deadline <= now;
            if due {
                self.time_out(thread)?;
            } else {
                self.cancel_deadline(thread)?;
                self.start_deadline(thread)?;
            }
        }
        Ok(())
    }

    /// A thread has waited long enough: for others, or, if it is ready, for CPU time.
    fn time_out(&mut self, thread: Ref<Thread>) -> Outcome {
        if self.state_of(thread)? == ThreadState::Ready {
            self.cancel_deadline(thread)?;
            return self.make_ready(thread);
        }
        self.leave_wait(thread)?;
        self.finish(thread, Status::error(Error::TimedOut), 0)?;
        self.make_ready(thread)
    }

    /// When this core's timer must come for a deadline: exact if few threads share the first bucket.
    pub(crate) fn first_deadline(&mut self) -> Outcome<u64> {
        let timers = &self.mine()?.timers;
        let Some(bucket) = timers.lowest() else { return Ok(u64::MAX) };
        let begin = timers.begin(bucket);
        if bucket == timers.draining && bucket != 0 {
            return Ok(begin);
        }
        let mut thread = timers.head(bucket);
        let mut first = u64::MAX;
        // bound: TIMER_SCAN
        for _ in 0..TIMER_SCAN {
            let Some(here) = thread.some() else { return Ok(first) };
            let record = self.held.store.get(here)?;
            first = first.min(record.deadline);
            thread = record.timer.next;
        }
        Ok(if thread.is_none() { first } else { begin })
    }
}
