//! A fault becomes a message to the thread's fault endpoint. The answer decides whether the thread goes on.

use crate::state::{Address, Capability, Part, Place, Sending, State, Then};
use crate::{Fault, Spec};

impl Spec {
    /// The current thread faulted. With nobody to tell, it stops; if that was the root server, the console says so.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.counters.faults += 1;
        let me = self.me;
        let Some(thread) = self.cores[me].current else { return };
        if let Some(handler) = self.at(Place::Thread(thread, Part::FaultEndpoint)) {
            let Capability { object: endpoint, badge, .. } = *self.cap(handler);
            self.thread_mut(thread).deadline = None;
            self.offer(thread, endpoint, Sending { badge, then: Then::Faults(fault) });
            return;
        }
        self.thread_mut(thread).state = State::Stopped;
        self.cores[me].current = None;
        if thread == self.machine.root_thread {
            let pc = self.threads[&thread].registers.pc;
            let (what, address) = (fault.kind.text(), fault.address);
            let line =
                format!("anos: the root server faulted: {what} at {address:#018x}, program counter {pc:#018x}\n");
            self.machine.console.extend(line.bytes());
        }
    }

    /// What a thread's fault endpoint is told.
    pub(crate) fn fault_message(&self, thread: Address, fault: Fault) -> [u64; 8] {
        let registers = &self.threads[&thread].registers;
        let frame_pointer = registers.frame_pointer();
        [fault.kind as u64, registers.pc, fault.address, fault.cause, registers.sp, frame_pointer, 0, 0]
    }
}
