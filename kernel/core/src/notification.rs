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
        let record = self.held.store.get(at)?;
        record.bits |= bits;
        let (bits, waiter, bound) = (record.bits, record.queue.head, record.bound);
        if bits == 0 {
            return Ok(());
        }
        if let Some(thread) = waiter.some() {
            return self.hand_over(at, thread, bits);
        }
        if let Some(thread) = bound.some() {
            let record = self.held.store.get(thread)?;
            let (receives, on) = (record.state == ThreadState::Receiving as u8, record.waits_on);
            if receives && self.held.store.record(on)?.kind() == Kind::Endpoint as u8 {
                return self.hand_over(at, thread, bits);
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, at: Ref<Notification>, thread: Ref<Thread>, bits: u64) -> Outcome {
        self.held.store.get(at)?.bits = 0;
        self.leave_wait(thread)?;
        self.finish(thread, Status(Status::SIGNAL), 0, bits, [0; 8])?;
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
        push_back(&mut self.held.store, &mut queue, thread)?;
        self.held.store.get(at)?.queue = queue;
        self.start_deadline(thread)
    }

    /// Takes the bits that are there, if any.
    fn take_signal(&mut self, thread: Ref<Thread>, at: Ref<Notification>) -> Outcome<bool> {
        let bits = core::mem::take(&mut self.held.store.get(at)?.bits);
        if bits != 0 {
            self.finish(thread, Status(Status::SIGNAL), 0, bits, [0; 8])?;
        }
        Ok(bits != 0)
    }

    /// Takes the bits of the notification bound to a thread, if any.
    pub(crate) fn take_bound_signal(&mut self, thread: Ref<Thread>) -> Outcome<bool> {
        let slot = self.slot(Part::Bound.of(thread))?;
        if slot.is_empty() {
            return Ok(false);
        }
        self.take_signal(thread, Ref::at(slot.object))
    }
}
