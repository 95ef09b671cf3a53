//! A fault becomes a message to the thread's fault endpoint; the answer resumes or stops it.

use anos_abi::Kind;
use anos_abi::object::ThreadState;
use anos_machine::{Fault, Machine, Ref, Thread};

use crate::ipc::FAULT;
use crate::thread::Part;
use crate::{Outcome, Visit};

impl<M: Machine> Visit<'_, M> {
    /// The running thread faulted.
    pub(crate) fn fault(&mut self, fault: Fault) -> Outcome {
        let Some(thread) = self.mine()?.current.some() else { return Ok(()) };
        // Of any other thread, its creator can tell. Writing takes long, and holds locks: nobody else may cause it.
        let handled = !self.part(thread, Part::FaultEndpoint)?.is_empty();
        let reported = !handled && self.held.global()?.root_thread == thread;
        self.fault_of(thread, [fault.kind as u64, fault.address, fault.cause])?;
        let pc = self.held.store.see(thread)?.registers.pc;
        if reported { self.report(fault, pc) } else { Ok(()) }
    }

    /// The running thread is to tell its handler of this; without one it stops.
    pub(crate) fn fault_of(&mut self, thread: Ref<Thread>, what: [u64; 3]) -> Outcome {
        let handler = self.part(thread, Part::FaultEndpoint)?.copy();
        let record = self.held.store.get(thread)?;
        record.fault = what;
        record.sending = FAULT;
        // A passive handler can't take what brings no time.
        let takes = handler.kind() == Kind::Endpoint
            && (self.brings_time(thread)? || !self.passive_waits(Ref::at(handler.object))?);
        if takes {
            return self.send_fault(thread, &handler);
        }
        let record = self.held.store.get(thread)?;
        record.state = ThreadState::Stopped as u8;
        let me = self.me;
        self.charge(me)?;
        self.mine()?.current = Ref::NONE;
        Ok(())
    }

    fn report(&mut self, fault: Fault, pc: u64) -> Outcome {
        self.machine.console_write(b"anos: the root server faulted: ");
        self.machine.console_write(fault.kind.text().as_bytes());
        self.machine.console_write(b" at ");
        self.write_hex(fault.address);
        self.machine.console_write(b", program counter ");
        self.write_hex(pc);
        self.machine.console_write(b"\n");
        Ok(())
    }

    fn write_hex(&mut self, number: u64) {
        self.machine.console_write(&hexadecimal(number));
    }
}

/// A number as `0x` and 16 digits.
#[inline(never)]
pub fn hexadecimal(number: u64) -> [u8; 18] {
    let mut text = *b"0x0000000000000000";
    // bound: ARRAY
    for (place, digit) in text.iter_mut().rev().take(16).enumerate() {
        let nibble = (number >> (4 * place)).to_le_bytes()[0] & 15;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    text
}
