//! The loop of a program that answers requests.
//!
//! ```ignore
//! let mut server = Server::new(endpoint);
//! loop {
//!     match server.receive()? {
//!         Event::Request(request) => match request.answerer {
//!             Some(answerer) => server.answer(answerer, Message::OK), // Or keep it, and answer later.
//!             None => {}
//!         },
//!         Event::Signal(bits) => {}
//!     }
//! }
//! ```
//!
//! An answer that is given right before the next `receive` travels with it in one system call.

use alloc::vec::Vec;

use anos_abi::syscall::FOREVER;
use anos_abi::{Error, Kind};
use anos_interfaces::{Badge, Message};

use crate::capability::{Capability, Endpoint, Reply, Slot};
use crate::sys::Received;
use crate::{memory, slots};

/// The right to answer one request, once. Keeping it defers the answer; the caller waits meanwhile.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "somebody waits for the answer"]
pub struct Answerer(Reply);

/// A request.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub message: Message,
    /// Who asks, as a word.
    pub badge: u64,
    /// Answers it; `None` if the sender does not wait.
    pub answerer: Option<Answerer>,
    /// The slot of a capability that came along. It belongs to the server now.
    pub capability: Option<Slot>,
}

impl Request {
    /// Who asks: process and role.
    pub fn sender(&self) -> Badge {
        Badge::from_word(self.badge)
    }
}

/// What came in.
#[derive(Debug)]
pub enum Event {
    /// A request.
    Request(Request),
    /// Signals of the Notification bound to this thread: their bits.
    Signal(u64),
}

/// Replies are made this many at a time: a page of memory holds objects of one kind.
const BATCH: u32 = 8;

/// An endpoint that requests come in at.
pub struct Server {
    endpoint: Endpoint,
    /// Reply objects that nobody waits on.
    spare: Vec<Reply>,
    /// An answer that was given, but not sent yet.
    unsent: Option<(Reply, Message)>,
    /// Where a capability that comes along goes, if the server takes any.
    receive: Option<Slot>,
    takes_capabilities: bool,
}

impl Server {
    /// Serves requests at an endpoint, and takes no capabilities along with them.
    pub fn new(endpoint: Endpoint) -> Self {
        Server { endpoint, spare: Vec::new(), unsent: None, receive: None, takes_capabilities: false }
    }

    /// Serves requests at an endpoint, and takes capabilities along with them.
    pub fn with_capabilities(endpoint: Endpoint) -> Self {
        Server { takes_capabilities: true, ..Server::new(endpoint) }
    }

    /// Answers a request. The answer is on its way when this returns or with the next [`receive`](Self::receive).
    pub fn answer(&mut self, answerer: Answerer, message: Message) {
        self.flush();
        self.unsent = Some((answerer.0, message));
    }

    /// Answers a request with a capability of the server's along.
    pub fn answer_with(&mut self, answerer: Answerer, message: &Message, pass: Slot) {
        self.deliver(answerer.0, message, Some(pass));
    }

    /// Sends the answer that is still here.
    pub fn flush(&mut self) {
        if let Some((reply, message)) = self.unsent.take() {
            self.deliver(reply, &message, None);
        }
    }

    /// Sends an answer. If the caller is gone by now, nobody misses it.
    fn deliver(&mut self, reply: Reply, message: &Message, pass: Option<Slot>) {
        let _ = reply.send(message, pass);
        self.spare.push(reply);
    }

    /// Waits for the next request or signal.
    pub fn receive(&mut self) -> Result<Event, Error> {
        let receive = self.receive_slot()?;
        if let Some((reply, message)) = self.unsent.take() {
            if let Ok(received) = self.endpoint.reply_recv(reply, &message, None, receive) {
                return Ok(self.sort(received, reply));
            }
            // The caller was gone, or waiting was called off: receiving again tells.
            self.spare.push(reply);
        }
        let reply = self.spare_reply()?;
        match self.endpoint.recv(Some(reply), receive, FOREVER) {
            Ok(received) => Ok(self.sort(received, reply)),
            Err(error) => {
                self.spare.push(reply);
                Err(error)
            }
        }
    }

    /// Makes an event of what came; the Reply is used or spare again.
    fn sort(&mut self, received: Received, reply: Reply) -> Event {
        if received.status.is_signal() {
            self.spare.push(reply);
            return Event::Signal(received.badge);
        }
        let answerer = if received.status.is_answerable() {
            Some(Answerer(reply))
        } else {
            self.spare.push(reply);
            None
        };
        let capability = if received.status.has_capability() { self.receive.take() } else { None };
        Event::Request(Request { message: received.message, badge: received.badge, answerer, capability })
    }

    fn receive_slot(&mut self) -> Result<Option<Slot>, Error> {
        if self.takes_capabilities && self.receive.is_none() {
            self.receive = Some(slots::allocate()?);
        }
        Ok(self.receive)
    }

    fn spare_reply(&mut self) -> Result<Reply, Error> {
        if let Some(reply) = self.spare.pop() {
            return Ok(reply);
        }
        let first = slots::allocate_run(BATCH)?;
        if let Err(error) = memory::quota().and_then(|memory| memory.retype(Kind::Reply, 0, BATCH.into(), first)) {
            (0..BATCH).for_each(|index| slots::free(first.offset(index)));
            return Err(error);
        }
        self.spare.extend((1..BATCH).map(|index| Reply::from_slot(first.offset(index))));
        Ok(Reply::from_slot(first))
    }
}
