//! Until when a wait lasts.

use anos_abi::Error;
use anos_abi::syscall::FOREVER;

use crate::{Spec, State};

/// When a wait ends that was asked for with this deadline; a time in 292 years or later is never.
pub(crate) fn waits_until(deadline: u64) -> Option<u64> {
    (deadline < FOREVER >> 1).then_some(deadline)
}

impl Spec {
    /// Waits whose time has come end. In which order, and which of them only at the next interrupt, is the kernel's choice.
    pub(crate) fn expire_deadlines(&mut self) {
        for thread in std::mem::take(&mut self.choices.timed_out) {
            let record = &self.threads[&thread];
            let due = record.core == self.me && record.deadline.is_some_and(|deadline| deadline <= self.now);
            assert!(due, "thread {thread:#x} timed out at {} on core {}: {record:x?}", self.now, self.me);
            if record.state == State::Ready {
                // It waited for CPU time.
                self.make_ready(thread);
            } else {
                self.call_off(thread, Error::TimedOut);
            }
        }
    }
}
