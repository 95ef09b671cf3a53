//! Notifications: a word of bits that signals are OR-ed into.

use anos_abi::object::ThreadState;
use anos_abi::syscall::POLL;
use anos_abi::{Error, Kind, Status};
use anos_machine::{Machine, Notification, Ref, Thread};

use crate::schedule::push_back;
use crate::thread::Part;
use crate::{Outcome, Visit};

impl<M: Machine> Visit<'_, M> {
    /// Signals these bits: a thread that waits gets them, else they stay. No bits are no signal, whoever waits.
    pub(crate) fn signal(&mut self, at: Ref<Notification>, bits: u64) -> Outcome {
        self.need(at)?;
        let record = self.held.store.see(at)?;
        let bits = record.bits | bits;
        let taker = self.taker(record.queue.head, record.bound)?;
        match taker.some() {
            Some(thread) if bits != 0 => self.hand_over(at, thread, bits),
            _ => {
                self.held.store.get(at)?.bits = bits;
                Ok(())
            }
        }
    }

    /// Who takes a signal: the first of those who wait for it, or the bound thread, if that receives on an endpoint.
    fn taker(&self, waiter: Ref<Thread>, bound: Ref<Thread>) -> Outcome<Ref<Thread>> {
        if !waiter.is_none() || bound.is_none() {
            return Ok(waiter);
        }
        let Thread { state, waits_on, context, .. } = *self.held.store.see(bound)?;
        // A signal brings no time to a passive thread: it stays until that runs on somebody's.
        let receives = state == ThreadState::Receiving as u8
            && !context.is_none()
            && self.held.store.record(waits_on)?.kind() == Kind::Endpoint as u8;
        Ok(if receives { bound } else { Ref::NONE })
    }

    fn hand_over(&mut self, at: Ref<Notification>, thread: Ref<Thread>, bits: u64) -> Outcome {
        self.leave_wait(thread)?;
        self.held.store.get(at)?.bits = 0;
        self.finish(thread, Status(Status::SIGNAL), bits)?;
        self.make_ready(thread)
    }

    /// The running thread waits for signals.
    pub(crate) fn wait_for_signal(&mut self, thread: Ref<Thread>, at: Ref<Notification>, deadline: u64) -> Outcome {
        if self.take_signal(thread, at)? {
            return Ok(());
        }
        if deadline == POLL {
            return Err(Error::TimedOut.into());
        }
        self.block(thread, ThreadState::Receiving, at.address())?;
        let mut queue = self.held.store.get(at)?.queue;
        push_back(self.held.store, &mut queue, thread)?;
        self.held.store.get(at)?.queue = queue;
        self.start_deadline(thread)
    }

    /// Takes the bits that are there, if any.
    fn take_signal(&mut self, thread: Ref<Thread>, at: Ref<Notification>) -> Outcome<bool> {
        let bits = core::mem::take(&mut self.held.store.get(at)?.bits);
        if bits != 0 {
            self.finish(thread, Status(Status::SIGNAL), bits)?;
        }
        Ok(bits != 0)
    }

    /// Takes the bits of the notification bound to a thread, if any.
    pub(crate) fn take_bound_signal(&mut self, thread: Ref<Thread>) -> Outcome<bool> {
        let bound = Ref::at(self.part(thread, Part::Bound)?.object);
        if bound.is_none() { Ok(false) } else { self.take_signal(thread, bound) }
    }
}
