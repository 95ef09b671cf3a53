//! What a system call's registers ask for, and how it is answered.

use anos_abi::{Error, Kind, Operation, Rights, Slots, Status, SystemCall, fault};
use anos_machine::{Machine, Reason, Ref, Slot, SlotRef, Stop, Thread, records};

use crate::family::slot_behind;
use crate::ipc::SEND;
use crate::{Outcome, Visit};

/// A call on a kernel object, as the caller's registers put it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The calling thread.
    pub caller: Ref<Thread>,
    /// Where the called capability lies.
    pub at: SlotRef,
    /// The called capability.
    pub target: &'a Slot,
    /// The method's number.
    pub label: u64,
    /// The arguments.
    pub words: &'a [u64; 8],
    /// The slots to pass from and receive into.
    pub slots: Slots,
}

impl Request<'_> {
    /// Where the passed capability lies; an error if there is none.
    pub fn passed<M: Machine>(&self, visit: &mut Visit<'_, M>) -> Outcome<SlotRef> {
        let at = visit.find(self.caller, self.slots.pass().into())?;
        if visit.held.store.see(at)?.is_empty() { Err(Error::EmptySlot.into()) } else { Ok(at) }
    }

    /// Where the passed capability lies, which must be of this kind and have these rights.
    pub fn passed_kind<M: Machine>(&self, visit: &mut Visit<'_, M>, kind: Kind, rights: Rights) -> Outcome<SlotRef> {
        let at = self.passed(visit)?;
        let slot = visit.held.store.see(at)?;
        if slot.kind != kind as u8 {
            return Err(Error::WrongKind.into());
        }
        if !slot.rights().contains(rights) {
            return Err(Error::MissingRights.into());
        }
        Ok(at)
    }

    /// The same, or none if nothing is passed.
    pub fn passed_if_any<M: Machine>(&self, visit: &mut Visit<'_, M>, kind: Kind, rights: Rights) -> Outcome<SlotRef> {
        if self.slots.pass() == 0 { Ok(SlotRef::NONE) } else { self.passed_kind(visit, kind, rights) }
    }

    /// What a passed capability of this kind leads to.
    pub fn passed_object<M: Machine>(&self, visit: &mut Visit<'_, M>, kind: Kind, rights: Rights) -> Outcome<u64> {
        let at = self.passed_kind(visit, kind, rights)?;
        Ok(visit.held.store.see(at)?.object)
    }

    /// The first of so many slots in a row to receive into; all of them must be empty.
    #[inline(never)]
    pub fn receive<M: Machine>(&self, visit: &mut Visit<'_, M>, count: u64) -> Outcome<SlotRef> {
        let index = u64::from(self.slots.receive());
        let last = visit.slot_of_thread(self.caller, index + count - 1)?;
        let first = visit.slot_of_thread(self.caller, index)?;
        // They lie in two pages at most, and the first of them is the first to change.
        visit.need(last)?;
        // bound: RETYPE_COUNT
        for n in 0..count {
            if !visit.held.store.see(slot_behind(first, n))?.is_empty() {
                return Err(Error::SlotOccupied.into());
            }
        }
        Ok(first)
    }
}

/// What a kernel object answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// The results.
    pub words: [u64; 8],
    /// What came along.
    pub status: Status,
}

impl Answer {
    /// Nothing to tell.
    pub fn none() -> Answer {
        Answer { words: records::no_words(), status: Status::OK }
    }

    /// The first results; the others are 0.
    pub fn tell<const N: usize>(&mut self, words: [u64; N]) -> Outcome {
        self.tell_all(&words)
    }

    /// The same, however many. Not inlined: the kernel is smaller so.
    #[inline(never)]
    fn tell_all(&mut self, words: &[u64]) -> Outcome {
        // bound: ARRAY
        for (place, word) in self.words.iter_mut().zip(words) {
            *place = *word;
        }
        Ok(())
    }
}

impl<M: Machine> Visit<'_, M> {
    /// The running thread makes a system call. Not inlined: the kernel is smaller so.
    #[inline(never)]
    pub(crate) fn system_call(&mut self) -> Outcome {
        // Somebody stopped or moved the thread while this core waited for the lock: it will make its call again.
        let Some(thread) = self.mine()?.current.some() else { return Ok(()) };
        if self.held.store.see(thread)?.foreign != 0 {
            return self.fault_of(thread, [fault::SYSTEM_CALL_LABEL, 0, 0]);
        }
        match self.dispatch(thread) {
            Ok(()) => Ok(()),
            Err(stop) => match stop.reason() {
                Reason::Refused(error) => self.finish(thread, Status::error(error), 0),
                Reason::Elsewhere(_) | Reason::Everywhere => Err(stop),
            },
        }
    }

    fn dispatch(&mut self, thread: Ref<Thread>) -> Outcome {
        let record = self.held.store.get(thread)?;
        // Whatever it sent last, it was no fault that it sends now.
        record.sending = SEND;
        let registers = &record.registers;
        let operation = Operation(registers.operation);
        let deadline = registers.deadline;
        let reply = registers.reply;
        let call = operation.call()?;
        if call == SystemCall::Yield {
            self.yield_turn()?;
            return self.finish(thread, Status::OK, 0);
        }
        let at = self.find(thread, operation.target().into())?;
        let target = self.slot(at)?.copy();
        match call {
            SystemCall::Send | SystemCall::Call => self.send_to(thread, at, &target, call, deadline),
            SystemCall::Recv => self.receive_from(thread, &target, deadline, reply),
            SystemCall::ReplyRecv => {
                let reply_at = self.check_receive(thread, &target, reply, true)?;
                if let Err(stop) = self.turn_away(thread, &target) {
                    let again = stop == Stop::refused(Error::Again);
                    return if again { self.put_off_call(thread) } else { Err(stop) };
                }
                self.need_receive(thread, &target)?;
                self.reply(thread, reply_at)?;
                self.receive_from(thread, &target, deadline, reply)
            }
            SystemCall::Yield => Ok(()),
        }
    }

    /// Send or call: a message to a thread, a signal, an answer, or a method of a kernel object.
    fn send_to(&mut self, thread: Ref<Thread>, at: SlotRef, target: &Slot, call: SystemCall, deadline: u64) -> Outcome {
        match target.kind() {
            Kind::Empty => Err(Error::EmptySlot.into()),
            Kind::Endpoint => self.send(thread, target, call == SystemCall::Call, deadline),
            Kind::Notification => {
                if !target.rights().contains(Rights::WRITE) {
                    return Err(Error::MissingRights.into());
                }
                self.signal(Ref::at(target.object), target.badge)?;
                self.finish(thread, Status::OK, 0)
            }
            Kind::Reply => {
                if self.held.store.see(Ref::<anos_machine::Reply>::at(target.object))?.caller.is_none() {
                    return Err(Error::PeerDied.into());
                }
                self.reply(thread, at)?;
                self.finish(thread, Status::OK, 0)
            }
            _ => self.method(thread, at, target),
        }
    }

    /// A method of the kernel object that a capability leads to, called by the running thread. Not inlined: the kernel is
    /// smaller so.
    #[inline(never)]
    pub(crate) fn method(&mut self, thread: Ref<Thread>, at: SlotRef, target: &Slot) -> Outcome {
        let registers = &self.held.store.get(thread)?.registers;
        let (label, words, slots) = (registers.label, records::copy(&registers.words), Slots(registers.slots));
        let request = Request { caller: thread, at, target, label, words: &words, slots };
        let mut refusal = 0;
        if let Err(stop) = self.invoke(&request) {
            match stop.reason() {
                // A refusal is an answer like any server's: a label.
                Reason::Refused(error) => refusal = error as u64,
                Reason::Elsewhere(_) | Reason::Everywhere => return Err(stop),
            }
            self.answer = Answer::none();
        }
        let Answer { words, status } = &self.answer;
        let record = self.held.store.get(thread)?;
        record.sending = SEND;
        record.registers.answer(status.0, refusal, 0, words);
        Ok(())
    }

    /// A method has put new capabilities into the receive slots.
    pub(crate) fn tell_capability(&mut self) -> Outcome {
        self.answer.status = Status(Status::CAPABILITY);
        Ok(())
    }

    /// Writes the answer of a system call that brings no message into a thread's registers.
    pub(crate) fn finish(&mut self, thread: Ref<Thread>, status: Status, badge: u64) -> Outcome {
        self.held.store.get(thread)?.registers.answer_plainly(status.0, badge);
        Ok(())
    }
}
