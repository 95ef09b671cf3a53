//! The short way: faults and the answers to them, and interrupts.

use anos_abi::Kind;
use anos_abi::fault::{self, FaultKind};
use anos_abi::object::ThreadState;
use anos_machine::{Event, Fault, Known, Machine, Ref, Registers, SlotRef, Thread};

use super::{Message, load_space};
use crate::Kernel;
use crate::bounds::TAGS;
use crate::thread::Part;

/// The running thread has faulted, or an interrupt has come while it ran: if somebody waits to be told, and all is as usual,
/// it is told, and this is the thread that is to run. `None`: nothing has happened, and the event is for
/// [`enter`](crate::enter).
#[inline(never)]
pub fn quick_event<M: Machine>(kernel: &Kernel, machine: &mut M, event: Event) -> Option<Ref<Thread>> {
    let me = machine.core();
    let mut own = kernel.try_own(me)?;
    let (signalled, masked) = match event {
        Event::Fault(_) => (SlotRef::NONE, None),
        Event::Interrupt(line) => {
            let (slot, level) = own.global()?.line(line)?;
            (slot, if level { Some(line) } else { None })
        }
        _ => return None,
    };
    let (now, tags) = (machine.now(), machine.tags() >= TAGS as u64);
    let (core, store) = own.parts();
    let space = store.fixed(|memory| {
        let mut message = Message { core: &mut *core, memory, me, now, tags };
        match event {
            Event::Fault(fault) => message.fault(fault, |registers| machine.frame_pointer(registers)),
            _ => message.interrupt(signalled),
        }
    })?;
    match event {
        Event::Fault(_) => core.counters.faults += 1,
        _ => core.counters.interrupts += 1,
    }
    let next = core.current;
    if let Some(line) = masked {
        machine.interrupt_mask(line);
    }
    drop(own);
    load_space(machine, space);
    next.some()
}

impl<'id> Message<'id, '_> {
    /// The running thread has faulted: it tells its handler, as if it called.
    fn fault(&mut self, what: Fault, frame_pointer: impl FnOnce(&Registers) -> u64) -> Option<u64> {
        let thread = self.memory.know(self.core.current)?;
        let record = self.memory.see(thread);
        let handler = &record.slots[Part::FaultEndpoint as usize];
        if handler.kind != Kind::Endpoint as u8 {
            return None;
        }
        let (kind, registers) = (what.kind as u64, &record.registers);
        let words = [kind, registers.pc, what.address, what.cause, registers.sp, frame_pointer(registers), 0, 0];
        let space = self.call(thread, handler.object, handler.badge, Some(&words))?;
        self.memory.get(thread).fault = [kind, what.address, what.cause];
        Some(space)
    }

    /// Whether an answer has a thread that faulted go on where it was.
    #[inline(never)]
    pub(super) fn resumes(&self, server: Known<'id, Thread>, thread: Known<'id, Thread>) -> bool {
        let Thread { state, fault: [kind, ..], .. } = *self.memory.see(thread);
        let usual = kind != fault::SYSTEM_CALL_LABEL && kind != FaultKind::NoTime as u64;
        state == ThreadState::Faulted as u8 && usual && self.memory.see(server).registers.label == 0
    }

    /// An interrupt has come, for which this slot has a signal.
    fn interrupt(&mut self, slot: SlotRef) -> Option<u64> {
        let target = self.memory.read(slot)?;
        let (kind, object, badge) = (target.kind, target.object, target.badge);
        if kind != Kind::Notification as u8 {
            return None;
        }
        let (runs, notification) = (self.memory.know(self.core.current)?, self.memory.know(Ref::at(object))?);
        self.raise(runs, notification, badge)
    }
}
