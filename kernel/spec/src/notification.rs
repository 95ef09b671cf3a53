//! Notifications: a word of bits that signals are OR-ed into.

use anos_abi::syscall::POLL;
use anos_abi::{Error, Status};

use crate::deadline::waits_until;
use crate::state::{Address, CapId, Part, Place, State};
use crate::{Outcome, Spec};

impl Spec {
    /// Signals these bits. The first thread that waits takes all there are; so does the thread that the Notification is
    /// bound to, if it waits at an Endpoint and is not passive (a signal brings no time); else they stay. No bits are no
    /// signal, whoever waits.
    pub(crate) fn signal(&mut self, notification: Address, bits: u64) {
        let record = self.notifications.get_mut(&notification).expect("it exists");
        record.bits |= bits;
        let (waiter, bound) = (record.waiters.front().copied(), record.bound);
        if record.bits == 0 {
            return;
        }
        let at_endpoint = |thread: &Address| {
            let thread = &self.threads[thread];
            matches!(thread.state, State::Receiving(_)) && thread.context.is_some()
        };
        if let Some(thread) = waiter.or(bound.filter(at_endpoint)) {
            self.leave_wait(thread);
            self.take_signal(thread, notification);
            self.make_ready(thread);
        }
    }

    /// The current thread waits for signals.
    pub(crate) fn wait_for_signal(&mut self, thread: Address, notification: Address, deadline: u64) -> Outcome {
        if self.take_signal(thread, notification) {
            return Ok(());
        }
        if deadline == POLL {
            return Err(Error::TimedOut);
        }
        let record = self.thread_mut(thread);
        (record.state, record.deadline) = (State::Waiting(notification), waits_until(deadline));
        self.notifications.get_mut(&notification).expect("it exists").waiters.push_back(thread);
        Ok(())
    }

    /// A thread takes all bits that are there, if any.
    pub(crate) fn take_signal(&mut self, thread: Address, notification: Address) -> bool {
        let record = self.notifications.get_mut(&notification).expect("it exists");
        let bits = std::mem::take(&mut record.bits);
        if bits != 0 {
            self.answer(thread, Status(Status::SIGNAL), 0, bits, [0; 8]);
        }
        bits != 0
    }

    /// The Notification that is bound to a thread.
    pub(crate) fn bound_to(&self, thread: Address) -> Option<Address> {
        self.at(Place::Thread(thread, Part::Bound)).map(|id| self.cap(id).object)
    }

    /// A capability is about to go. If it binds a Notification to a thread, it does no longer.
    pub(crate) fn unbind_thread(&mut self, id: CapId) {
        let capability = self.cap(id);
        if let Place::Thread(_, Part::Bound) = capability.place {
            let notification = capability.object;
            if let Some(record) = self.notifications.get_mut(&notification) {
                record.bound = None;
            }
        }
    }
}
