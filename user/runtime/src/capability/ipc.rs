//! Where messages and signals meet.

use anos_abi::syscall::FOREVER;
use anos_abi::{Error, MESSAGE_WORDS, Rights};
use anos_interfaces::{Failure, Message};

use super::{Slot, capabilities};
use crate::sys::{self, Received};
use crate::{env, slots};

capabilities! {
    /// Where messages meet.
    Endpoint;
    /// The right to answer one call, once at a time.
    Reply;
    /// A word of signal bits.
    Notification;
}

impl Endpoint {
    /// Sends a message and waits until somebody takes it, or the deadline passes.
    pub fn send(self, message: &Message, pass: Option<Slot>, deadline: u64) -> Result<(), Error> {
        sys::send(self.0, message, pass, deadline)
    }

    /// Asks, and waits for the answer; its words, or why the server refused.
    pub fn call(self, message: &Message) -> Result<[u64; MESSAGE_WORDS], Failure> {
        sys::call(self.0, message, None, None, FOREVER)?.message.check()
    }

    /// Like [`call`](Self::call), with a capability that goes along.
    pub fn call_with(self, message: &Message, pass: Slot) -> Result<[u64; MESSAGE_WORDS], Failure> {
        sys::call(self.0, message, Some(pass), None, FOREVER)?.message.check()
    }

    /// Waits for a message. `reply` shall answer it, `receive` takes a capability that may come along.
    pub fn recv(self, reply: Option<Reply>, receive: Option<Slot>, deadline: u64) -> Result<Received, Error> {
        sys::recv(self.0, reply.map(|reply| reply.0), receive, deadline)
    }

    /// Answers, and waits for the next message with the same Reply.
    pub fn reply_recv(
        self,
        reply: Reply,
        answer: &Message,
        pass: Option<Slot>,
        receive: Option<Slot>,
    ) -> Result<Received, Error> {
        sys::reply_recv(self.0, reply.0, answer, pass, receive)
    }
}

impl Reply {
    /// Answers the call that it was received with.
    pub fn send(self, answer: &Message, pass: Option<Slot>) -> Result<(), Error> {
        sys::send(self.0, answer, pass, FOREVER)
    }
}

impl Notification {
    /// A copy with a badge, in a new slot, that can only signal.
    pub fn badged(self, badge: u64) -> Result<Notification, Error> {
        let slot = slots::allocate()?;
        let minted = env::OWN_TABLE.mint(self.0, slot, Rights::WRITE, badge);
        minted.map(|()| Notification(slot)).inspect_err(|_| slots::free(slot))
    }

    /// Signals the capability's badge: its bits are added to those that wait to be taken. Without a badge, that adds
    /// nothing.
    pub fn signal(self) -> Result<(), Error> {
        sys::send(self.0, &Message::default(), None, FOREVER)
    }

    /// Waits for signals and takes them all: their bits.
    pub fn wait(self, deadline: u64) -> Result<u64, Error> {
        sys::recv(self.0, None, None, deadline).map(|received| received.badge)
    }
}
