//! A fault becomes a message to the thread's fault endpoint. The answer decides whether the thread goes on.
//!
//! So does each system call of a foreign thread.

use anos_abi::{Slots, fault};

use crate::state::{Address, Capability, Part, Place, Registers, Sending, State, Then};
use crate::{Fault, Spec};

impl Spec {
    /// The current thread faulted. If the root server did, and nobody is there to tell, the console says so.
    pub(crate) fn fault(&mut self, fault: Fault) {
        let Some(thread) = self.cores[self.me].current else { return };
        let handled = self.at(Place::Thread(thread, Part::FaultEndpoint)).is_some();
        self.tell_handler(thread, [fault.kind as u64, fault.address, fault.cause]);
        if !handled && thread == self.machine.root_thread {
            let pc = self.threads[&thread].registers.pc;
            let (what, address) = (fault.kind.text(), fault.address);
            let line =
                format!("anos: the root server faulted: {what} at {address:#018x}, program counter {pc:#018x}\n");
            self.machine.console.extend(line.bytes());
        }
    }

    /// The current thread tells its handler what happened. With nobody to tell, it stops.
    pub(crate) fn tell_handler(&mut self, thread: Address, what: [u64; 3]) {
        self.thread_mut(thread).fault = what;
        if let Some(handler) = self.at(Place::Thread(thread, Part::FaultEndpoint)) {
            let Capability { object: endpoint, badge, .. } = *self.cap(handler);
            // A passive handler can't take what brings no time.
            if self.brings_time(thread, Then::Faults) || !self.passive_waits(endpoint) {
                return self.send_fault(thread, endpoint, badge);
            }
        }
        self.thread_mut(thread).state = State::Stopped;
        self.charge(self.me);
        self.cores[self.me].current = None;
    }

    /// A thread's fault goes to its handler, or waits for it.
    pub(crate) fn send_fault(&mut self, thread: Address, endpoint: Address, badge: u64) {
        self.thread_mut(thread).deadline = None;
        self.offer(thread, endpoint, Sending { badge, then: Then::Faults });
    }

    /// What a sender says: label, words, and the slot to pass from. A thread that faulted passes nothing.
    pub(crate) fn message_of(&self, thread: Address, then: Then) -> (u64, [u64; 8], u32) {
        let Registers { label, words, slots, pc, sp, .. } = self.threads[&thread].registers;
        if then != Then::Faults {
            return (label, words, Slots(slots).pass());
        }
        let [kind, address, cause] = self.threads[&thread].fault;
        if kind == fault::SYSTEM_CALL_LABEL {
            // The simulated machine's foreign programs have their arguments in words 0 to 5, the number in word 7.
            let [a, b, c, d, e, f, _, number] = words;
            return (kind, [number, a, b, c, d, e, f, pc], 0);
        }
        let frame_pointer = self.threads[&thread].registers.frame_pointer();
        (fault::LABEL, [kind, pc, address, cause, sp, frame_pointer, 0, 0], 0)
    }
}
