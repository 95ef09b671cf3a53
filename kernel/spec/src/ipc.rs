//! Messages: send, call, receive, reply.
//!
//! A message goes straight from the sender's registers to the receiver's. Whoever comes first waits at the Endpoint.
//! Who calls waits for the answer on the Reply that the receiver named; an answer goes through it, once.

use anos_abi::fault::FaultKind;
use anos_abi::syscall::POLL;
use anos_abi::{Error, Kind, Rights, Slots, Status, fault};

use crate::deadline::waits_until;
use crate::ending::WAKE_STEPS;
use crate::state::{Address, CapId, Capability, Sending, State, Then};
use crate::{Outcome, Spec};

impl Spec {
    /// The current thread sends to an Endpoint, or calls it.
    pub(crate) fn send(&mut self, thread: Address, target: CapId, call: bool, deadline: u64) -> Outcome {
        let Capability { rights, object: endpoint, badge, .. } = *self.cap(target);
        if !rights.contains(Rights::WRITE) {
            return Err(Error::MissingRights);
        }
        let pass = Slots(self.threads[&thread].registers.slots).pass();
        if pass != 0 {
            if !rights.contains(Rights::GRANT) {
                return Err(Error::MissingRights);
            }
            self.held_by(thread, pass.into())?;
        }
        let then = if call { Then::Calls } else { Then::GoesOn };
        // Who is passive takes only what brings the time to answer it.
        if self.passive_waits(endpoint) && !self.brings_time(thread, then) {
            return Err(Error::NotRunnable);
        }
        if deadline == POLL && self.endpoints[&endpoint].receivers.is_empty() {
            return Err(Error::TimedOut);
        }
        self.thread_mut(thread).deadline = waits_until(deadline);
        self.offer(thread, endpoint, Sending { badge, then });
        Ok(())
    }

    /// A thread's message goes to the first that waits to receive, or the thread waits for one.
    pub(crate) fn offer(&mut self, thread: Address, endpoint: Address, sending: Sending) {
        match self.endpoints[&endpoint].receivers.front().copied() {
            Some(receiver) => {
                self.leave_wait(receiver);
                self.deliver(thread, sending, receiver);
            }
            None => {
                self.thread_mut(thread).state = State::Sending(endpoint, sending);
                self.endpoints.get_mut(&endpoint).expect("it exists").senders.push_back(thread);
            }
        }
    }

    /// A sender's message goes to a receiver; neither waits any more. The sender goes on, or waits for its answer.
    fn deliver(&mut self, sender: Address, sending: Sending, receiver: Address) {
        let reply = self.free_reply(receiver);
        let (label, words, pass) = self.message_of(sender, sending.then);
        if sending.then != Then::GoesOn && reply.is_some() {
            self.lend(sender, receiver, sending.then);
        }
        let mut status = self.pass(sender, pass, receiver);
        if sending.then != Then::GoesOn && reply.is_some() {
            status |= Status::ANSWERABLE;
        }
        self.answer(receiver, Status(status), label, sending.badge, words);
        self.make_ready(receiver);
        match (sending.then, reply) {
            (Then::GoesOn, _) => {
                self.answer(sender, Status::OK, 0, 0, [0; 8]);
                self.make_ready(sender);
            }
            (Then::Calls, Some(reply)) => self.wait_for_answer(sender, reply, State::Calling(reply)),
            (Then::Faults, Some(reply)) => self.wait_for_answer(sender, reply, State::Faulted(reply)),
            (Then::Calls, None) => {
                self.answer(sender, Status::error(Error::NoReply), 0, 0, [0; 8]);
                self.make_ready(sender);
            }
            (Then::Faults, None) => self.thread_mut(sender).state = State::Stopped,
        }
    }

    /// A deadline that bounds a call goes on bounding the wait for the answer.
    fn wait_for_answer(&mut self, caller: Address, reply: Address, state: State) {
        self.thread_mut(caller).state = state;
        self.replies.insert(reply, Some(caller));
    }

    /// The Reply that a receiver named, if it is one, and free.
    fn free_reply(&self, receiver: Address) -> Option<Address> {
        let id = self.held_by(receiver, self.threads[&receiver].registers.reply).ok()?;
        let Capability { kind, object, .. } = *self.cap(id);
        (kind == Kind::Reply && self.replies[&object].is_none()).then_some(object)
    }

    /// Passes a capability along: a copy, or the capability itself if it can be moved but not copied. If the receiver
    /// names no empty slot, or the capability can go nowhere, the message travels without it. Answers the status bit.
    fn pass(&mut self, sender: Address, index: u32, receiver: Address) -> u64 {
        let into = Slots(self.threads[&receiver].registers.slots).receive();
        let (Ok(source), Ok(to)) = (self.held_by(sender, index.into()), self.slot_of_thread(receiver, into.into()))
        else {
            return 0;
        };
        if self.at(to).is_some() {
            return 0;
        }
        match self.copy_of(source, Rights::ALL) {
            Ok(copy) => self.derive(source, to, copy),
            Err(Error::NotCopyable) => self.relocate(source, to),
            Err(_) => return 0,
        }
        Status::CAPABILITY
    }

    /// What can be received on: an Endpoint or a Notification, with the right to.
    pub(crate) fn check_target(&self, target: CapId) -> Outcome {
        let Capability { kind, rights, .. } = *self.cap(target);
        if !matches!(kind, Kind::Endpoint | Kind::Notification) {
            return Err(Error::WrongKind);
        }
        if !rights.contains(Rights::READ) {
            return Err(Error::MissingRights);
        }
        Ok(())
    }

    /// The Reply in a slot.
    pub(crate) fn reply_in(&self, thread: Address, index: u64) -> Outcome<Address> {
        let id = self.held_by(thread, index)?;
        if self.cap(id).kind != Kind::Reply {
            return Err(Error::WrongKind);
        }
        Ok(self.cap(id).object)
    }

    /// The current thread receives through a capability that it holds.
    pub(crate) fn receive_from(&mut self, thread: Address, target: CapId, deadline: u64, reply: u64) -> Outcome {
        self.check_target(target)?;
        let on = self.cap(target).clone();
        self.receive_on(thread, &on, deadline, reply)
    }

    /// The same, once it is known that it can. If it names a Reply (0 is none), that must be free.
    pub(crate) fn receive_on(&mut self, thread: Address, on: &Capability, deadline: u64, reply: u64) -> Outcome {
        if reply != 0 && self.replies[&self.reply_in(thread, reply)?].is_some() {
            return Err(Error::Busy);
        }
        if on.kind == Kind::Notification {
            return self.wait_for_signal(thread, on.object, deadline);
        }
        // The signals of the Notification that is bound to it come first; but they bring no time to who is passive.
        if let Some(notification) = self.bound_to(thread)
            && !self.is_passive(thread)
            && self.take_signal(thread, notification)
        {
            return Ok(());
        }
        let endpoint = on.object;
        if let Some(sender) = self.endpoints[&endpoint].senders.front().copied() {
            let State::Sending(_, sending) = self.threads[&sender].state else {
                unreachable!("who stands among senders is sending")
            };
            let until = self.threads[&sender].deadline;
            self.leave_wait(sender);
            self.thread_mut(sender).deadline = until;
            self.deliver(sender, sending, thread);
            return Ok(());
        }
        if deadline == POLL {
            return Err(Error::TimedOut);
        }
        let record = self.thread_mut(thread);
        (record.state, record.deadline) = (State::Receiving(endpoint), waits_until(deadline));
        self.endpoints.get_mut(&endpoint).expect("it exists").receivers.push_back(thread);
        Ok(())
    }

    /// The message in a thread's registers answers whoever waits on a Reply, if somebody does. A thread that faulted
    /// goes on with its own registers if the label is 0, else it stops. If it was a foreign system call, word 0 is the result.
    pub(crate) fn reply(&mut self, thread: Address, reply: Address) {
        let Some(caller) = self.replies[&reply] else { return };
        let registers = self.threads[&thread].registers;
        let state = self.threads[&caller].state;
        self.leave_wait(caller);
        match state {
            State::Faulted(_) if registers.label == 0 => {
                let record = self.thread_mut(caller);
                if record.fault[0] == fault::SYSTEM_CALL_LABEL {
                    record.registers.words[0] = registers.words[0];
                }
                // Who had no context and has one now is told anew when it loses that.
                if record.fault == [FaultKind::NoTime as u64, 0, 1] && record.context.is_some() {
                    record.fault[0] = 0;
                }
                self.make_ready(caller);
            }
            State::Faulted(_) => self.thread_mut(caller).state = State::Stopped,
            _ => {
                let status = self.pass(thread, Slots(registers.slots).pass(), caller);
                self.answer(caller, Status(status), registers.label, 0, registers.words);
                self.make_ready(caller);
            }
        }
    }

    /// Takes a waiting thread away from what it waits on. It is for the caller to say what it does now.
    pub(crate) fn leave_wait(&mut self, thread: Address) {
        self.thread_mut(thread).deadline = None;
        self.take_back(thread);
        match self.threads[&thread].state {
            State::Sending(endpoint, _) | State::Receiving(endpoint) => {
                let behind = self.behind(endpoint, thread);
                let queues = self.endpoints.get_mut(&endpoint).expect("it exists");
                if queues.cursor == Some(thread) {
                    queues.cursor = behind;
                }
                queues.senders.retain(|&other| other != thread);
                queues.receivers.retain(|&other| other != thread);
            }
            State::Waiting(notification) => {
                let record = self.notifications.get_mut(&notification).expect("it exists");
                record.waiters.retain(|&other| other != thread);
            }
            State::Calling(reply) | State::Faulted(reply) => drop(self.replies.insert(reply, None)),
            State::Stopped | State::Ready => {}
        }
    }

    /// Who stands behind a thread at an Endpoint.
    fn behind(&self, endpoint: Address, thread: Address) -> Option<Address> {
        let queues = &self.endpoints[&endpoint];
        let queue = if queues.senders.is_empty() { &queues.receivers } else { &queues.senders };
        queue.iter().skip_while(|&&other| other != thread).nth(1).copied()
    }

    /// A thread that runs on borrowed time, or has lost it, is about to answer and take the next message. Those in front
    /// who bring no time are turned away, a few at a time.
    pub(crate) fn turn_away(&mut self, thread: Address, on: &Capability) -> Outcome {
        let own_time = self.threads[&thread].lender.is_none() && !self.is_passive(thread);
        if on.kind != Kind::Endpoint || own_time {
            return Ok(());
        }
        for _ in 0..WAKE_STEPS {
            let Some(&first) = self.endpoints[&on.object].senders.front() else { return Ok(()) };
            match self.threads[&first].state {
                State::Sending(_, Sending { then, .. }) if !self.brings_time(first, then) => {
                    self.call_off(first, Error::NotRunnable);
                }
                _ => return Ok(()),
            }
        }
        Err(Error::Again)
    }

    /// Calls off every wait to send with this badge, a few threads at a time, from where it was left the last time.
    pub(crate) fn cancel_badge(&mut self, endpoint: Address, badge: u64) -> Outcome {
        let queues = self.endpoints.get_mut(&endpoint).expect("it exists");
        if queues.cancelled != badge || queues.senders.is_empty() {
            (queues.cancelled, queues.cursor) = (badge, None);
        }
        for _ in 0..WAKE_STEPS {
            let queues = &self.endpoints[&endpoint];
            let Some(&first) = queues.senders.front() else { return Ok(()) };
            let thread = queues.cursor.unwrap_or(first);
            let behind = self.behind(endpoint, thread);
            if matches!(self.threads[&thread].state, State::Sending(_, sending) if sending.badge == badge) {
                self.call_off(thread, Error::Cancelled);
            }
            self.endpoints.get_mut(&endpoint).expect("it exists").cursor = behind;
            if behind.is_none() {
                return Ok(());
            }
        }
        Err(Error::Again)
    }

    /// Ends a thread's wait with an error. If it waits because it faulted, nobody is left to tell it what to do.
    pub(crate) fn call_off(&mut self, thread: Address, error: Error) {
        let faulted = self.threads[&thread].state.is_faulted();
        self.leave_wait(thread);
        self.woken += 1;
        if faulted {
            self.thread_mut(thread).state = State::Stopped;
            return;
        }
        self.answer(thread, Status::error(error), 0, 0, [0; 8]);
        self.make_ready(thread);
    }
}

impl State {
    /// Whether a thread can't go on before somebody has dealt with its fault.
    pub(crate) fn is_faulted(self) -> bool {
        matches!(self, State::Faulted(_) | State::Sending(_, Sending { then: Then::Faults, .. }))
    }
}
