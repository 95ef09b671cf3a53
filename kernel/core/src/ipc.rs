//! Messages: send, call, receive, reply.
//!
//! A message goes straight from the sender's registers to the receiver's. Whoever comes first waits in the endpoint's
//! queue. Who calls waits for the answer on the Reply object that the receiver named; an answer goes through it, once.

use anos_abi::fault::FaultKind;
use anos_abi::object::ThreadState;
use anos_abi::syscall::{FOREVER, POLL};
use anos_abi::{Error, Kind, Rights, Slots, Status, fault};
use anos_machine::{Endpoint, Machine, Notification, Ref, Reply, Slot, SlotRef, Thread};

use crate::bounds::WAKE_STEPS;
use crate::family::make_copy;
use crate::schedule::{push_back, remove};
use crate::thread::Part;
use crate::{Outcome, Visit};

/// `Thread::sending` of a thread that waits to send, without waiting for an answer afterwards.
pub(crate) const SEND: u8 = 0;
/// The same, of one that will wait for an answer.
pub(crate) const CALL: u8 = 1;
/// The same, of one that faulted: its message tells how.
pub(crate) const FAULT: u8 = 2;

/// `Endpoint::waiting`: senders wait.
const SENDERS: u64 = 1;
/// `Endpoint::waiting`: receivers wait.
pub(crate) const RECEIVERS: u64 = 2;

impl<M: Machine> Visit<'_, M> {
    /// The running thread sends to an endpoint, or calls it.
    pub(crate) fn send(&mut self, thread: Ref<Thread>, target: &Slot, call: bool, deadline: u64) -> Outcome {
        if !target.rights().contains(Rights::WRITE) {
            return Err(Error::MissingRights.into());
        }
        let pass = Slots(self.held.store.get(thread)?.registers.slots).pass();
        if pass != 0 {
            if !target.rights().contains(Rights::GRANT) {
                return Err(Error::MissingRights.into());
            }
            let at = self.find(thread, pass.into())?;
            if self.held.store.see(at)?.is_empty() {
                return Err(Error::EmptySlot.into());
            }
        }
        let endpoint = Ref::<Endpoint>::at(target.object);
        self.held.store.get(thread)?.sending = if call { CALL } else { SEND };
        if self.passive_waits(endpoint)? && !self.brings_time(thread)? {
            return Err(Error::NotRunnable.into());
        }
        if deadline == POLL && self.held.store.see(endpoint)?.waiting != RECEIVERS {
            return Err(Error::TimedOut.into());
        }
        let record = self.held.store.get(thread)?;
        record.badge = target.badge;
        record.deadline = deadline;
        if !self.offer(thread, endpoint)? {
            self.start_deadline(thread)?;
        }
        Ok(())
    }

    /// Whether a passive thread waits for a message: it takes only what brings the time to answer it.
    pub(crate) fn passive_waits(&self, endpoint: Ref<Endpoint>) -> Outcome<bool> {
        let Endpoint { queue, waiting, .. } = *self.held.store.see(endpoint)?;
        match queue.head.some() {
            Some(receiver) if waiting == RECEIVERS => Ok(self.held.store.see(receiver)?.context.is_none()),
            _ => Ok(false),
        }
    }

    /// A thread that runs on borrowed time, or has lost it, is about to answer and take the next message: those who bring
    /// no time are turned away, a few at a time. `Again` if there are more.
    pub(crate) fn turn_away(&mut self, thread: Ref<Thread>, target: &Slot) -> Outcome {
        let Thread { lender, context, .. } = *self.held.store.see(thread)?;
        if target.kind() != Kind::Endpoint || lender.is_none() && !context.is_none() {
            return Ok(());
        }
        // bound: WAKE_STEPS
        for _ in 0..WAKE_STEPS {
            let Endpoint { queue, waiting, .. } = *self.held.store.see(Ref::<Endpoint>::at(target.object))?;
            let Some(sender) = queue.head.some().filter(|_| waiting == SENDERS) else { return Ok(()) };
            if self.brings_time(sender)? {
                return Ok(());
            }
            self.wake_with(sender, Error::NotRunnable)?;
        }
        Err(Error::Again.into())
    }

    /// The message of a thread goes to a receiver that waits, or the thread waits for one. Answers whether one did.
    pub(crate) fn offer(&mut self, thread: Ref<Thread>, endpoint: Ref<Endpoint>) -> Outcome<bool> {
        self.need_offer(thread, endpoint)?;
        let record = *self.held.store.see(endpoint)?;
        if record.waiting == RECEIVERS
            && let Some(receiver) = record.queue.head.some()
        {
            self.leave_wait(receiver)?;
            self.deliver(thread, receiver)?;
            return Ok(true);
        }
        self.wait_on(thread, endpoint, ThreadState::Sending, SENDERS)?;
        Ok(false)
    }

    fn wait_on(&mut self, thread: Ref<Thread>, endpoint: Ref<Endpoint>, state: ThreadState, waiting: u64) -> Outcome {
        self.block(thread, state, endpoint.address())?;
        let mut queue = self.held.store.get(endpoint)?.queue;
        push_back(self.held.store, &mut queue, thread)?;
        let record = self.held.store.get(endpoint)?;
        (record.queue, record.waiting) = (queue, waiting);
        Ok(())
    }

    /// A thread is about to send: to who waits for a message, or into the queue.
    pub(crate) fn need_offer(&mut self, thread: Ref<Thread>, endpoint: Ref<Endpoint>) -> Outcome {
        self.need(endpoint)?;
        let Endpoint { queue, waiting, .. } = *self.held.store.see(endpoint)?;
        match queue.head.some() {
            Some(receiver) if waiting == RECEIVERS => {
                self.need_wait(receiver)?;
                self.need_delivery(thread, receiver)
            }
            _ => self.need(queue.tail),
        }
    }

    /// A thread stops running, to wait on an object.
    pub(crate) fn block(&mut self, thread: Ref<Thread>, state: ThreadState, on: u64) -> Outcome {
        let record = self.held.store.get(thread)?;
        record.state = state as u8;
        record.waits_on = on;
        Ok(())
    }

    /// A thread is about to leave what it waits on: the object, and the queue on both sides.
    fn need_wait(&self, thread: Ref<Thread>) -> Outcome {
        self.need(thread)?;
        let Thread { waits_on, links, .. } = self.held.store.see(thread)?;
        self.held.store.own(*waits_on)?;
        self.need(links.next)?;
        self.need(links.previous)
    }

    /// A message is about to go from one thread to another: with what it passes, and the right to answer.
    fn need_delivery(&mut self, sender: Ref<Thread>, receiver: Ref<Thread>) -> Outcome {
        self.need(sender)?;
        self.need(receiver)?;
        self.need_pass(sender, receiver)?;
        if let Some(reply) = self.free_reply(sender, receiver)? { self.need(reply) } else { Ok(()) }
    }

    fn need_pass(&mut self, sender: Ref<Thread>, receiver: Ref<Thread>) -> Outcome {
        let Some((from, to)) = self.route(sender, receiver)? else { return Ok(()) };
        self.need_slot(from)?;
        self.need(to)
    }

    /// The running thread is about to receive.
    pub(crate) fn need_receive(&mut self, thread: Ref<Thread>, target: &Slot) -> Outcome {
        let bound = self.part(thread, Part::Bound)?;
        self.need(Ref::<Notification>::at(bound.object))?;
        self.held.store.own(target.object)?;
        if target.kind() == Kind::Notification {
            return self.need(self.held.store.see(Ref::<Notification>::at(target.object))?.queue.tail);
        }
        let Endpoint { queue, waiting, .. } = *self.held.store.see(Ref::<Endpoint>::at(target.object))?;
        match queue.head.some() {
            Some(sender) if waiting == SENDERS => {
                self.need_wait(sender)?;
                self.need_delivery(sender, thread)
            }
            _ => self.need(queue.tail),
        }
    }

    /// Takes a waiting thread away from what it waits on; it then stands nowhere, its state still unchanged.
    pub(crate) fn leave_wait(&mut self, thread: Ref<Thread>) -> Outcome {
        self.need_wait(thread)?;
        self.cancel_deadline(thread)?;
        self.take_back(thread)?;
        let on = core::mem::take(&mut self.held.store.get(thread)?.waits_on);
        let kind = self.held.store.record(on)?.kind();
        if kind == Kind::Endpoint as u8 {
            let endpoint = Ref::<Endpoint>::at(on);
            let mut record = *self.held.store.get(endpoint)?;
            if record.cursor == thread {
                record.cursor = self.held.store.see(thread)?.links.next;
            }
            remove(self.held.store, &mut record.queue, thread)?;
            if record.queue.head.is_none() {
                record.waiting = 0;
            }
            *self.held.store.get(endpoint)? = record;
        } else if kind == Kind::Notification as u8 {
            let notification = Ref::<Notification>::at(on);
            let mut queue = self.held.store.get(notification)?.queue;
            remove(self.held.store, &mut queue, thread)?;
            self.held.store.get(notification)?.queue = queue;
        } else if kind == Kind::Reply as u8 {
            self.held.store.get(Ref::<Reply>::at(on))?.caller = Ref::NONE;
        }
        Ok(())
    }

    /// Gives a sender's message to a receiver; neither stands in a queue. The sender goes on, or waits for its answer.
    fn deliver(&mut self, sender: Ref<Thread>, receiver: Ref<Thread>) -> Outcome {
        let reply = self.free_reply(sender, receiver)?;
        let (label, words) = self.message_of(sender)?;
        let from = self.held.store.get(sender)?;
        let (sending, badge) = (from.sending, from.badge);
        if reply.is_some() {
            self.lend(sender, receiver)?;
        }
        let mut status = self.pass(sender, receiver)?;
        if reply.is_some() {
            status |= Status::ANSWERABLE;
        }
        self.held.store.get(receiver)?.registers.answer(status, label, badge, &words);
        self.make_ready(receiver)?;
        match (sending, reply) {
            (SEND, _) => {
                self.finish(sender, Status::OK, 0)?;
                self.make_ready(sender)
            }
            (FAULT, None) => {
                self.held.store.get(sender)?.state = ThreadState::Stopped as u8;
                Ok(())
            }
            (_, None) => {
                self.finish(sender, Status::error(Error::NoReply), 0)?;
                self.make_ready(sender)
            }
            (sending, Some(reply)) => {
                let state = if sending == FAULT { ThreadState::Faulted } else { ThreadState::Calling };
                self.block(sender, state, reply.address())?;
                self.held.store.get(reply)?.caller = sender;
                // A deadline goes on bounding the wait for the answer.
                self.start_deadline(sender)
            }
        }
    }

    /// What a thread that waits to send has to say: its message, or how it faulted.
    fn message_of(&self, sender: Ref<Thread>) -> Outcome<(u64, [u64; 8])> {
        let from = self.held.store.see(sender)?;
        let registers = &from.registers;
        if from.sending != FAULT {
            return Ok((registers.label, registers.words));
        }
        let [kind, address, cause] = from.fault;
        if kind == fault::SYSTEM_CALL_LABEL {
            let [number, a, b, c, d, e, f] = self.machine.foreign_call(registers);
            return Ok((kind, [number, a, b, c, d, e, f, registers.pc]));
        }
        let frame_pointer = self.machine.frame_pointer(registers);
        Ok((fault::LABEL, [kind, registers.pc, address, cause, registers.sp, frame_pointer, 0, 0]))
    }

    /// The Reply object that a receiver named, if it is free and the sender wants an answer.
    fn free_reply(&mut self, sender: Ref<Thread>, receiver: Ref<Thread>) -> Outcome<Option<Ref<Reply>>> {
        if self.held.store.see(sender)?.sending == SEND {
            return Ok(None);
        }
        let index = self.held.store.get(receiver)?.registers.reply;
        let Ok(at) = self.slot_of_thread(receiver, index) else { return Ok(None) };
        let slot = self.held.store.see(at)?;
        if slot.kind() != Kind::Reply {
            return Ok(None);
        }
        let reply = Ref::<Reply>::at(slot.object);
        Ok(if self.held.store.see(reply)?.caller.is_none() { Some(reply) } else { None })
    }

    /// From which slot to which a capability goes with a message, if the sender passes one and the receiver takes one.
    fn route(&mut self, sender: Ref<Thread>, receiver: Ref<Thread>) -> Outcome<Option<(SlotRef, SlotRef)>> {
        let from = &self.held.store.see(sender)?;
        let index = Slots(from.registers.slots).pass();
        if index == 0 || from.sending == FAULT {
            return Ok(None);
        }
        let into = Slots(self.held.store.see(receiver)?.registers.slots).receive();
        let (Ok(from), Ok(to)) =
            (self.slot_of_thread(sender, index.into()), self.slot_of_thread(receiver, into.into()))
        else {
            return Ok(None);
        };
        Ok(Some((from, to)))
    }

    /// Passes a capability along: a copy, or the capability itself if it can't be copied. Answers the status bit. A
    /// receiver with no empty receive slot gets the message without it, and so does everybody if it can go nowhere: if
    /// it is to a table that ends, or at the greatest depth.
    fn pass(&mut self, sender: Ref<Thread>, receiver: Ref<Thread>) -> Outcome<u64> {
        let Some((from, to)) = self.route(sender, receiver)? else { return Ok(0) };
        let mut copy = self.slot(from)?.copy();
        if !self.held.store.see(to)?.is_empty() {
            return Ok(0);
        }
        match make_copy(&mut copy, Rights::ALL) {
            Ok(()) => self.derive(from, to, &copy)?,
            Err(Error::NotCopyable) => self.move_slot(from, to)?,
            Err(_) => return Ok(0),
        }
        Ok(Status::CAPABILITY)
    }

    /// Checks what a receive names: the object to receive on and the slot of the Reply, which must be free unless it is
    /// about to be used for an answer. Answers where the Reply lies, if one is named.
    pub(crate) fn check_receive(
        &mut self,
        thread: Ref<Thread>,
        target: &Slot,
        reply: u64,
        answers: bool,
    ) -> Outcome<SlotRef> {
        match target.kind() {
            Kind::Endpoint | Kind::Notification => {}
            Kind::Empty => return Err(Error::EmptySlot.into()),
            _ => return Err(Error::WrongKind.into()),
        }
        if !target.rights().contains(Rights::READ) {
            return Err(Error::MissingRights.into());
        }
        if reply == 0 && !answers {
            return Ok(SlotRef::NONE);
        }
        let at = self.find(thread, reply)?;
        let slot = self.held.store.see(at)?;
        if slot.kind() != Kind::Reply {
            return Err(if slot.is_empty() { Error::EmptySlot } else { Error::WrongKind }.into());
        }
        if !answers && !self.held.store.see(Ref::<Reply>::at(slot.object))?.caller.is_none() {
            return Err(Error::Busy.into());
        }
        Ok(at)
    }

    /// The running thread receives on an endpoint or a notification.
    pub(crate) fn receive_from(&mut self, thread: Ref<Thread>, target: &Slot, deadline: u64, reply: u64) -> Outcome {
        let reply_at = self.check_receive(thread, target, reply, false)?;
        self.need_receive(thread, target)?;
        // What threads meet at is at home where they wait for it.
        let me = self.me;
        let bound = self.part(thread, Part::Bound)?.object;
        let reply_object = if reply_at.is_none() { 0 } else { self.held.store.see(reply_at)?.object };
        // bound: ARRAY
        for object in [target.object, reply_object, bound] {
            if object != 0 {
                self.held.store.settle(object, me)?;
            }
        }
        self.held.store.get(thread)?.deadline = deadline;
        if target.kind() == Kind::Notification {
            return self.wait_for_signal(thread, Ref::at(target.object), deadline);
        }
        // A signal brings no time to a passive thread.
        if !self.held.store.see(thread)?.context.is_none() && self.take_bound_signal(thread)? {
            return Ok(());
        }
        let endpoint = Ref::<Endpoint>::at(target.object);
        let record = *self.held.store.see(endpoint)?;
        if record.waiting == SENDERS
            && let Some(sender) = record.queue.head.some()
        {
            self.leave_wait(sender)?;
            return self.deliver(sender, thread);
        }
        if deadline == POLL {
            return Err(Error::TimedOut.into());
        }
        self.wait_on(thread, endpoint, ThreadState::Receiving, RECEIVERS)?;
        self.start_deadline(thread)
    }

    /// The message in a thread's registers answers the caller of a Reply, if there is still one.
    pub(crate) fn reply(&mut self, thread: Ref<Thread>, at: SlotRef) -> Outcome {
        let reply = Ref::<Reply>::at(self.held.store.see(at)?.object);
        let Some(caller) = self.held.store.see(reply)?.caller.some() else { return Ok(()) };
        self.need(caller)?;
        let registers = &self.held.store.see(thread)?.registers;
        let (label, words) = (registers.label, registers.words);
        let faulted = self.state_of(caller)? == ThreadState::Faulted;
        if !faulted {
            self.need_pass(thread, caller)?;
        }
        self.leave_wait(caller)?;
        if faulted {
            if label == 0 {
                let record = self.held.store.get(caller)?;
                if record.fault[0] == fault::SYSTEM_CALL_LABEL {
                    self.machine.set_foreign_result(&mut record.registers, words[0]);
                }
                // Who had no context and has one now is told anew when it loses that.
                let [kind, _, cause] = record.fault;
                if kind == FaultKind::NoTime as u64 && cause == 1 && !record.context.is_none() {
                    record.fault[0] = 0;
                }
                return self.make_ready(caller);
            }
            self.held.store.get(caller)?.state = ThreadState::Stopped as u8;
            return Ok(());
        }
        let status = self.pass(thread, caller)?;
        self.held.store.get(caller)?.registers.answer(status, label, 0, &words);
        self.make_ready(caller)
    }

    /// Ends a thread's wait with an error.
    fn wake_with(&mut self, thread: Ref<Thread>, error: Error) -> Outcome {
        let sends_fault = self.held.store.get(thread)?.sending == FAULT;
        let faulted = match self.state_of(thread)? {
            ThreadState::Faulted => true,
            ThreadState::Sending => sends_fault,
            _ => false,
        };
        self.leave_wait(thread)?;
        self.woken += 1;
        if faulted {
            // Nobody is left to tell it what to do.
            self.held.store.get(thread)?.state = ThreadState::Stopped as u8;
            return Ok(());
        }
        self.finish(thread, Status::error(error), 0)?;
        self.make_ready(thread)
    }

    /// An endpoint ends: who waits on it is told, a few at a time.
    pub(crate) fn end_endpoint(&mut self, address: u64) -> Outcome {
        // bound: WAKE_STEPS
        while self.woken < WAKE_STEPS {
            let record = *self.held.store.see(Ref::<Endpoint>::at(address))?;
            let Some(thread) = record.queue.head.some() else { return Ok(()) };
            let error = if record.waiting == SENDERS { Error::PeerDied } else { Error::Cancelled };
            self.wake_with(thread, error)?;
        }
        Err(Error::Again.into())
    }

    /// A notification ends: who waits on it is told, a few at a time.
    pub(crate) fn end_notification(&mut self, address: u64) -> Outcome {
        // bound: WAKE_STEPS
        while self.woken < WAKE_STEPS {
            let head = self.held.store.see(Ref::<Notification>::at(address))?.queue.head;
            let Some(thread) = head.some() else { return Ok(()) };
            self.wake_with(thread, Error::Cancelled)?;
        }
        Err(Error::Again.into())
    }

    /// A Reply ends: its caller gets no answer.
    pub(crate) fn end_reply(&mut self, address: u64) -> Outcome {
        if let Some(caller) = self.held.store.see(Ref::<Reply>::at(address))?.caller.some() {
            self.wake_with(caller, Error::PeerDied)?;
        }
        Ok(())
    }

    /// Every wait to send with this badge is called off, a few at a time.
    pub(crate) fn cancel_badge(&mut self, endpoint: Ref<Endpoint>, badge: u64) -> Outcome {
        let record = self.held.store.get(endpoint)?;
        if record.cursor_badge != badge || record.waiting != SENDERS {
            (record.cursor, record.cursor_badge) = (Ref::NONE, badge);
        }
        // bound: WAKE_STEPS
        for _ in 0..WAKE_STEPS {
            let Endpoint { queue, waiting, cursor, .. } = *self.held.store.see(endpoint)?;
            let Some(thread) = cursor.some().or(queue.head.some()).filter(|_| waiting == SENDERS) else {
                return Ok(());
            };
            let record = self.held.store.see(thread)?;
            let (next, matches) = (record.links.next, record.badge == badge);
            if matches {
                self.wake_with(thread, Error::Cancelled)?;
            }
            self.held.store.get(endpoint)?.cursor = next;
            if next.is_none() {
                return Ok(());
            }
        }
        Err(Error::Again.into())
    }

    /// A thread sends its fault to its handler. (It says by now that what it sends is a fault.)
    pub(crate) fn send_fault(&mut self, thread: Ref<Thread>, handler: &Slot) -> Outcome {
        let record = self.held.store.get(thread)?;
        record.badge = handler.badge;
        record.deadline = FOREVER;
        self.offer(thread, Ref::at(handler.object))?;
        Ok(())
    }
}
