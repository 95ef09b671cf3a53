//! The five system calls.

use anos_abi::{Error, Kind, Operation, Rights, Slots, Status, SystemCall, fault};

use crate::state::{Address, CapId, Capability, Place};
use crate::{Outcome, Spec};

/// A call of a kernel object's method.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The calling thread.
    pub caller: Address,
    /// The called capability.
    pub target: CapId,
    /// The method.
    pub label: u64,
    /// The arguments.
    pub words: [u64; 8],
    /// The slots to pass from and to receive into.
    pub slots: Slots,
}

/// What a kernel object answers if all went well.
pub(crate) struct Answer {
    /// The results.
    pub words: [u64; 8],
    /// New capabilities lie in the receive slots.
    pub capability: bool,
}

impl Answer {
    pub const OK: Answer = Answer { words: [0; 8], capability: false };
    pub const CAPABILITY: Answer = Answer { words: [0; 8], capability: true };

    pub fn words<const N: usize>(results: [u64; N]) -> Answer {
        let mut words = [0; 8];
        words[..N].copy_from_slice(&results);
        Answer { words, capability: false }
    }
}

impl Spec {
    /// The current thread makes a system call. (If another core has taken the thread away meanwhile, it hasn't made it.)
    pub(crate) fn system_call(&mut self) {
        let Some(thread) = self.cores[self.me].current else { return };
        if self.threads[&thread].foreign {
            return self.tell_handler(thread, [fault::SYSTEM_CALL_LABEL, 0, 0]);
        }
        if let Err(error) = self.dispatch(thread) {
            self.answer(thread, Status::error(error), 0, 0, [0; 8]);
        }
    }

    fn dispatch(&mut self, thread: Address) -> Outcome {
        let registers = self.threads[&thread].registers;
        let operation = Operation(registers.operation);
        let call = operation.call()?;
        if call == SystemCall::Yield {
            self.turn_over = true;
            self.answer(thread, Status::OK, 0, 0, [0; 8]);
            return Ok(());
        }
        let target = self.held_by(thread, operation.target().into())?;
        match call {
            SystemCall::Send | SystemCall::Call => self.send_to(thread, target, call, registers.deadline),
            SystemCall::Recv => self.receive_from(thread, target, registers.deadline, registers.reply),
            // What can be known to fail fails first. If the second half fails all the same, the answer has been given.
            SystemCall::ReplyRecv => {
                self.check_target(target)?;
                let reply = self.reply_in(thread, registers.reply)?;
                let on = self.cap(target).clone();
                if self.turn_away(thread, &on).is_err() {
                    // It makes the call again.
                    self.put_off_call(thread);
                    return Ok(());
                }
                self.reply(thread, reply);
                self.receive_on(thread, &on, registers.deadline, registers.reply)
            }
            SystemCall::Yield => Ok(()),
        }
    }

    /// Send and call differ only at an Endpoint: all others answer at once.
    fn send_to(&mut self, thread: Address, target: CapId, call: SystemCall, deadline: u64) -> Outcome {
        let Capability { kind, rights, object, badge, .. } = *self.cap(target);
        match kind {
            Kind::Endpoint => return self.send(thread, target, call == SystemCall::Call, deadline),
            Kind::Notification => {
                if !rights.contains(Rights::WRITE) {
                    return Err(Error::MissingRights);
                }
                self.signal(object, badge);
                self.answer(thread, Status::OK, 0, 0, [0; 8]);
            }
            Kind::Reply => {
                if self.replies[&object].is_none() {
                    return Err(Error::PeerDied);
                }
                self.reply(thread, object);
                self.answer(thread, Status::OK, 0, 0, [0; 8]);
            }
            _ => {
                let registers = &self.threads[&thread].registers;
                let (label, words, slots) = (registers.label, registers.words, Slots(registers.slots));
                let request = Request { caller: thread, target, label, words, slots };
                // A refusal is an answer like any server's: a label.
                match self.invoke(&request) {
                    Ok(Answer { words, capability: true }) => {
                        self.answer(thread, Status(Status::CAPABILITY), 0, 0, words);
                    }
                    Ok(Answer { words, capability: false }) => self.answer(thread, Status::OK, 0, 0, words),
                    Err(error) => self.answer(thread, Status::OK, error as u64, 0, [0; 8]),
                }
            }
        }
        Ok(())
    }

    /// What a thread finds in its registers after a system call. Stack pointer, thread pointer and program counter stay;
    /// what is no part of the answer is cleared. (A thread that has ended by its own call finds nothing.)
    pub(crate) fn answer(&mut self, thread: Address, status: Status, label: u64, badge: u64, words: [u64; 8]) {
        let Some(thread) = self.threads.get_mut(&thread) else { return };
        let registers = &mut thread.registers;
        registers.operation = status.0;
        registers.label = label;
        registers.slots = badge;
        registers.reply = 0;
        registers.deadline = 0;
        registers.words = words;
        registers.others = [0; 24];
    }

    /// The capability that a request passes.
    pub(crate) fn passed(&self, request: &Request) -> Outcome<CapId> {
        self.held_by(request.caller, request.slots.pass().into())
    }

    /// The capability that a request passes, which must be of this kind and have these rights.
    pub(crate) fn passed_kind(&self, request: &Request, kind: Kind, rights: Rights) -> Outcome<CapId> {
        let id = self.passed(request)?;
        if self.cap(id).kind != kind {
            return Err(Error::WrongKind);
        }
        if !self.cap(id).rights.contains(rights) {
            return Err(Error::MissingRights);
        }
        Ok(id)
    }

    /// The `n`th slot to receive into, which must be empty.
    pub(crate) fn receive_slot(&self, request: &Request, n: u64) -> Outcome<Place> {
        let place = self.slot_of_thread(request.caller, u64::from(request.slots.receive()) + n)?;
        if self.at(place).is_some() { Err(Error::SlotOccupied) } else { Ok(place) }
    }
}
