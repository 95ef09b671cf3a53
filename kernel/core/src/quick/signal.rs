//! The short way: signals, and waiting for them.

use anos_abi::object::ThreadState;
use anos_abi::{Operation, Rights, Status, SystemCall};
use anos_machine::{Endpoint, Known, Links, Notification, Queue, Ref, Thread};

use super::Message;
use crate::ipc::SEND;
use crate::thread::Part;

/// Who takes a signal.
struct Taker<'id> {
    thread: Known<'id, Thread>,
    at: Ref<Thread>,
    /// Where it waits, if not for this signal.
    endpoint: Option<Known<'id, Endpoint>>,
}

impl<'id> Message<'id, '_> {
    /// Writes what a system call answers, with no words, into a thread's registers.
    pub(super) fn answer(&mut self, thread: Known<'id, Thread>, status: u64, badge: u64) {
        let record = self.memory.get(thread);
        record.sending = SEND;
        record.registers.answer_plainly(status, badge);
    }

    /// The running thread sends to a Notification, or receives on it.
    pub(super) fn send_or_wait(
        &mut self,
        thread: Known<'id, Thread>,
        rights: Rights,
        object: u64,
        badge: u64,
    ) -> Option<u64> {
        const A_SIGNAL: u32 = SystemCall::Send as u32;
        const A_WAIT: u32 = SystemCall::Recv as u32;
        let notification = self.memory.know(Ref::at(object))?;
        match Operation(self.memory.see(thread).registers.operation).number() {
            A_SIGNAL if rights.contains(Rights::WRITE) => self.signal(thread, notification, badge),
            A_WAIT if rights.contains(Rights::READ) => self.wait(thread, notification, object),
            _ => None,
        }
    }

    fn signal(
        &mut self,
        thread: Known<'id, Thread>,
        notification: Known<'id, Notification>,
        badge: u64,
    ) -> Option<u64> {
        let space = self.raise(thread, notification, badge)?;
        self.answer(thread, Status::OK.0, 0);
        Some(space)
    }

    /// Bits are signalled while this thread runs: to who waits for them, or they stay.
    pub(super) fn raise(
        &mut self,
        runs: Known<'id, Thread>,
        notification: Known<'id, Notification>,
        badge: u64,
    ) -> Option<u64> {
        let Notification { bits, queue, bound } = *self.memory.see(notification);
        let bits = bits | badge;
        if bits == 0 || queue.head != queue.tail {
            return None;
        }
        let Some(taker) = self.taker(queue.head, bound)? else {
            self.stays(runs)?;
            self.memory.get(notification).bits = bits;
            return self.goes_on();
        };
        let space = self.wake(runs, taker.thread, taker.at)?;
        let record = self.memory.get(notification);
        (record.bits, record.queue) = (0, Queue::default());
        if let Some(endpoint) = taker.endpoint {
            let record = self.memory.get(endpoint);
            (record.queue, record.waiting) = (Queue::default(), 0);
        }
        let record = self.memory.get(taker.thread);
        (record.state, record.waits_on) = (ThreadState::Ready as u8, 0);
        record.registers.answer_plainly(Status::SIGNAL, bits);
        Some(space)
    }

    /// Who takes a signal, if anybody does: who waits for it, or the bound thread, if that waits for a message.
    fn taker(&self, waiter: Ref<Thread>, bound: Ref<Thread>) -> Option<Option<Taker<'id>>> {
        let at = if waiter.is_none() { bound } else { waiter };
        if at.is_none() {
            return Some(None);
        }
        let thread = self.thread(at)?;
        let record = self.memory.see(thread);
        if record.bucket != 0 {
            return None;
        }
        if !waiter.is_none() {
            return Some(Some(Taker { thread, at, endpoint: None }));
        }
        if record.state != ThreadState::Receiving as u8 || record.context.is_none() {
            return Some(None);
        }
        let endpoint = self.memory.know(Ref::<Endpoint>::at(record.waits_on))?;
        let Endpoint { queue, cursor, .. } = self.memory.see(endpoint);
        if queue.head != queue.tail || !cursor.is_none() {
            return None;
        }
        Some(Some(Taker { thread, at, endpoint: Some(endpoint) }))
    }

    /// The running thread sends to an endpoint, without waiting for an answer.
    pub(super) fn give(&mut self, sender: Known<'id, Thread>, object: u64, badge: u64) -> Option<u64> {
        let (endpoint, receiver, at) = self.receiver(object)?;
        // It brings no time: a passive thread takes none such.
        if self.memory.see(receiver).context.is_none() {
            return None;
        }
        let space = self.wake(sender, receiver, at)?;
        self.hand(sender, receiver, Status::OK.0, badge);
        let record = self.memory.get(receiver);
        (record.state, record.waits_on) = (ThreadState::Ready as u8, 0);
        let record = self.memory.get(endpoint);
        (record.queue, record.waiting) = (Queue::default(), 0);
        let record = self.memory.get(sender);
        (record.badge, record.deadline) = (badge, record.registers.deadline);
        self.answer(sender, Status::OK.0, 0);
        Some(space)
    }

    /// The running thread takes the bits that are there, or waits for some.
    fn wait(&mut self, thread: Known<'id, Thread>, notification: Known<'id, Notification>, object: u64) -> Option<u64> {
        let Notification { bits, queue, .. } = *self.memory.see(notification);
        let record = self.memory.see(thread);
        let deadline = record.registers.deadline;
        let bound = record.slots[Part::Bound as usize].object;
        if record.registers.reply != 0 || bound != 0 || !queue.head.is_none() {
            return None;
        }
        let context = self.stays(thread)?;
        if bits != 0 {
            self.memory.get(notification).bits = 0;
            self.memory.get(thread).deadline = deadline;
            self.answer(thread, Status::SIGNAL, bits);
            return self.goes_on();
        }
        let first = self.first(false)?;
        let space = self.change(thread, context, first.thread)?;
        let at = self.core.current;
        self.take(first);
        self.memory.get(notification).queue = Queue { head: at, tail: at };
        let record = self.memory.get(thread);
        (record.sending, record.deadline, record.links) = (SEND, deadline, Links::default());
        (record.state, record.waits_on) = (ThreadState::Receiving as u8, object);
        Some(space)
    }
}
