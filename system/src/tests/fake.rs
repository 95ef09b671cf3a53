//! A kernel that stands in for the real one: capability tables, families, and memory that is counted.
//!
//! It is strict where the real one is: a slot must be empty to be filled, an Untyped hands out no more than it has,
//! a Frame must be mapped to be filled. What it doesn't do is run anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::string::String;
use std::vec;
use std::vec::Vec;

use anos_abi::boot::{ROOT_TABLE_SLOTS, UntypedRun, slot};
use anos_abi::object::{Method, ThreadState};
use anos_abi::{Error, Kind, PAGE_SIZE, Rights};
use anos_interfaces::start::StartInfo;
use anos_interfaces::{Message, Name};

use crate::kernel::{Kernel, Received, Words};
use crate::layout::ENDPOINT;

/// The object that is the root server's table.
const ROOT_TABLE: usize = 0;

#[derive(Clone, Copy, Debug)]
pub struct Cap {
    pub kind: Kind,
    pub object: usize,
    pub rights: Rights,
    pub badge: u64,
    pub size: u64,
    /// The capability it was made from.
    parent: usize,
    id: usize,
    mapped: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Fake {
    /// By table object and slot.
    pub slots: BTreeMap<(usize, u32), Cap>,
    sizes: BTreeMap<usize, u64>,
    /// Bytes handed out of each Untyped, by object.
    used: BTreeMap<usize, u64>,
    next: usize,
    /// What waits at the root server's endpoint.
    pub inbox: VecDeque<Received>,
    /// What waits at other endpoints, by slot: what was sent before its capability went.
    pub elsewhere: BTreeMap<u32, VecDeque<Received>>,
    pub answers: Vec<(u32, Message)>,
    /// Replies that somebody waits on: callers here outlive whatever happens to the process that their badge names.
    pub occupied: BTreeSet<u32>,
    /// Threads by object: the context that each has, by object.
    pub contexts: BTreeMap<usize, usize>,
    /// Contexts by object: the SchedControl of their core, by object, and the limit.
    pub limits: BTreeMap<usize, (usize, u64, u64)>,
    /// What threads are called, by object.
    pub names: BTreeMap<usize, Name>,
    /// The slots of threads that have stopped; all others wait for a message.
    pub stopped: BTreeSet<u32>,
    pub printed: Vec<u8>,
    pub starts: Vec<StartInfo>,
    pub resets: Vec<u64>,
    pub now: u64,
    /// Refuse the retype after this many more.
    pub fail_after: Option<u64>,
}

impl Fake {
    pub fn new(runs: &[UntypedRun]) -> Self {
        let mut fake = Fake { next: 1, ..Fake::default() };
        fake.sizes.insert(ROOT_TABLE, ROOT_TABLE_SLOTS);
        for (at, kind) in [
            (slot::CAP_TABLE, Kind::CapTable),
            (slot::ADDRESS_SPACE, Kind::AddressSpace),
            (slot::THREAD, Kind::Thread),
            (slot::INTERRUPT_CONTROL, Kind::InterruptControl),
            (slot::IO_PORT_CONTROL, Kind::IoPortControl),
            (slot::DEBUG, Kind::Debug),
            (slot::SCHED_CONTROL, Kind::SchedControl),
            (slot::SCHED_CONTROL + 1, Kind::SchedControl),
        ] {
            let object = if at == slot::CAP_TABLE { ROOT_TABLE } else { fake.fresh() };
            fake.insert((ROOT_TABLE, at), kind, object, 0, 0).expect("empty");
        }
        for (run, at) in runs.iter().zip(slot::UNTYPED..) {
            let object = fake.fresh();
            fake.insert((ROOT_TABLE, at), Kind::Untyped, object, run.pages, 0).expect("empty");
        }
        fake
    }

    fn fresh(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    pub fn text(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut self.printed)).expect("text")
    }

    /// The table behind a capability in the root server's table.
    pub fn table_at(&self, at: u32) -> usize {
        self.at(at, Kind::CapTable).expect("a table").object
    }

    /// Whoever was given a copy of the root server's capability makes one more of it, somewhere.
    pub fn pass_on(&mut self, from: u32, to: (usize, u32)) {
        let given = self.slots.get(&(ROOT_TABLE, from)).expect("filled").id;
        let copy = *self.slots.values().find(|cap| cap.parent == given).expect("somebody was given one");
        self.insert(to, copy.kind, copy.object, copy.size, copy.id).expect("empty");
    }

    fn insert(&mut self, at: (usize, u32), kind: Kind, object: usize, size: u64, parent: usize) -> Result<(), Error> {
        if at.1 == 0 || u64::from(at.1) >= self.sizes.get(&at.0).copied().unwrap_or(0) {
            return Err(Error::InvalidSlot);
        }
        if self.slots.contains_key(&at) {
            return Err(Error::SlotOccupied);
        }
        let id = self.fresh();
        let cap = Cap { kind, object, rights: Rights::ALL, badge: 0, size, parent, id, mapped: None };
        self.slots.insert(at, cap);
        Ok(())
    }

    fn at(&self, at: u32, kind: Kind) -> Result<Cap, Error> {
        let cap = *self.slots.get(&(ROOT_TABLE, at)).ok_or(Error::EmptySlot)?;
        if cap.kind == kind { Ok(cap) } else { Err(Error::WrongKind) }
    }

    fn delete(&mut self, at: (usize, u32)) {
        let Some(cap) = self.slots.remove(&at) else { return };
        if self.slots.values().any(|other| other.kind == cap.kind && other.object == cap.object) {
            return;
        }
        if cap.kind == Kind::Thread {
            self.contexts.remove(&cap.object);
        }
        // The last capability: a table ends with all that lies in it.
        if cap.kind == Kind::CapTable {
            let inside: Vec<_> = self.slots.keys().filter(|key| key.0 == cap.object).copied().collect();
            inside.into_iter().for_each(|key| self.delete(key));
        }
    }

    fn revoke(&mut self, id: usize) {
        while let Some((key, child)) = self.slots.iter().find(|(_, cap)| cap.parent == id).map(|(k, c)| (*k, *c)) {
            self.revoke(child.id);
            self.delete(key);
        }
    }

    fn retype(&mut self, untyped: Cap, words: &[u64], pass: u32, receive: u32) -> Result<(), Error> {
        if let Some(left) = self.fail_after.as_mut() {
            *left = left.checked_sub(1).ok_or(Error::NotEnoughMemory)?;
        }
        let [kind, size, count, _] = *words else { return Err(Error::InvalidArgument) };
        let kind = Kind::try_from(kind)?;
        let bytes = match kind {
            Kind::Untyped | Kind::Frame => size * PAGE_SIZE,
            Kind::CapTable => size * 64,
            Kind::Thread | Kind::PageTable | Kind::AddressSpace => PAGE_SIZE,
            Kind::SchedContext => 128,
            _ => 64,
        };
        let control = if kind == Kind::SchedContext { self.at(pass, Kind::SchedControl)?.object } else { 0 };
        if !self.slots.values().any(|cap| cap.parent == untyped.id) {
            self.used.insert(untyped.object, 0);
        }
        let used = self.used.get(&untyped.object).copied().unwrap_or(0);
        let end = used + (bytes * count).next_multiple_of(PAGE_SIZE);
        if end > untyped.size * PAGE_SIZE {
            return Err(Error::NotEnoughMemory);
        }
        for (at, _) in (receive..).zip(0..count) {
            let object = self.fresh();
            self.insert((ROOT_TABLE, at), kind, object, size, untyped.id)?;
            self.sizes.insert(object, size);
            if kind == Kind::SchedContext {
                self.limits.insert(object, (control, 0, 0));
            }
        }
        self.used.insert(untyped.object, end);
        Ok(())
    }

    fn copy(&mut self, table: usize, words: &[u64], pass: u32, badge: u64) -> Result<(), Error> {
        let source = *self.slots.get(&(ROOT_TABLE, pass)).ok_or(Error::EmptySlot)?;
        if source.kind == Kind::Untyped {
            return Err(Error::NotCopyable);
        }
        let to = (table, u32::try_from(words[0]).map_err(|_| Error::InvalidSlot)?);
        self.insert(to, source.kind, source.object, source.size, source.id)?;
        let copy = self.slots.get_mut(&to).expect("just put there");
        copy.rights = Rights(u8::try_from(words[1]).map_err(|_| Error::InvalidArgument)?);
        copy.badge = badge;
        Ok(())
    }

    fn table(&mut self, target: u32, method: Method, words: &[u64], pass: u32) -> Result<Words, Error> {
        let table = self.at(target, Kind::CapTable)?.object;
        let at = (table, u32::try_from(words[0]).map_err(|_| Error::InvalidSlot)?);
        match method {
            Method::CapTableCopy => self.copy(table, words, pass, 0)?,
            Method::CapTableMint => self.copy(table, words, pass, words[2])?,
            Method::CapTableMove => {
                let cap = *self.slots.get(&(ROOT_TABLE, pass)).ok_or(Error::EmptySlot)?;
                self.insert(at, cap.kind, cap.object, cap.size, cap.parent)?;
                self.slots.insert(at, cap);
                self.slots.remove(&(ROOT_TABLE, pass));
            }
            Method::CapTableDelete => self.delete(at),
            Method::CapTableRevoke => {
                let cap = *self.slots.get(&at).ok_or(Error::EmptySlot)?;
                self.revoke(cap.id);
                if cap.kind == Kind::SchedContext {
                    // The thread's copy of it is gone.
                    self.contexts.retain(|_, context| *context != cap.object);
                }
            }
            _ => {
                let Some(cap) = self.slots.get(&at) else { return Ok([0; 8]) };
                return Ok([cap.kind as u64, cap.rights.0.into(), cap.badge, cap.size, 0, 0, 0, 0]);
            }
        }
        Ok([0; 8])
    }

    fn set_context(&mut self, thread: usize, pass: u32) -> Result<(), Error> {
        if pass == 0 {
            self.contexts.remove(&thread);
            return Ok(());
        }
        let context = self.at(pass, Kind::SchedContext)?.object;
        if self.contexts.iter().any(|(&owner, &other)| other == context && owner != thread) {
            return Err(Error::Busy);
        }
        self.contexts.insert(thread, context);
        Ok(())
    }

    fn limit(&mut self, control: usize, words: &[u64], pass: u32) -> Result<(), Error> {
        let context = self.at(pass, Kind::SchedContext)?.object;
        let [budget, period, _] = *words else { return Err(Error::InvalidArgument) };
        let limited = 10_000 <= budget && budget <= period && period <= 1 << 40;
        match self.limits.get_mut(&context) {
            Some(of) if of.0 == control && (limited || (budget, period) == (0, 0)) => *of = (control, budget, period),
            _ => return Err(Error::InvalidArgument),
        }
        Ok(())
    }

    /// The limit of the context that a thread has, by the thread's slot in the root server's table.
    pub fn limit_of(&self, thread: u32) -> Option<(u64, u64)> {
        let context = self.contexts.get(&self.slots.get(&(ROOT_TABLE, thread))?.object)?;
        self.limits.get(context).map(|&(_, budget, period)| (budget, period))
    }

    /// The core of the context that a thread has.
    pub fn core_of(&self, thread: u32) -> Option<u32> {
        let context = self.contexts.get(&self.slots.get(&(ROOT_TABLE, thread))?.object)?;
        let control = self.limits.get(context)?.0;
        (0..64).find(|core| {
            self.slots.get(&(ROOT_TABLE, slot::SCHED_CONTROL + core)).is_some_and(|cap| cap.object == control)
        })
    }

    fn map(&mut self, target: u32, address: Option<u64>) -> Result<(), Error> {
        let frame = self.slots.get_mut(&(ROOT_TABLE, target)).ok_or(Error::EmptySlot)?;
        if frame.mapped.is_some() && address.is_some() {
            return Err(Error::AlreadyMapped);
        }
        frame.mapped = address;
        Ok(())
    }

    fn check_fill(&self, address: u64, bytes: u64) {
        let holds = |cap: &Cap| {
            cap.mapped.is_some_and(|start| start <= address && address + bytes <= start + cap.size * PAGE_SIZE)
        };
        assert!(self.slots.values().any(holds), "fills memory that is not mapped: {address:#x}");
    }
}

impl Kernel for Fake {
    fn invoke(&mut self, target: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> Result<Words, Error> {
        let cap = *self.slots.get(&(ROOT_TABLE, target)).ok_or(Error::EmptySlot)?;
        if cap.kind != method.kind() {
            return Err(Error::WrongKind);
        }
        match method {
            Method::UntypedRetype => self.retype(cap, words, pass, receive)?,
            Method::UntypedInfo => {
                let used = self.used.get(&cap.object).copied().unwrap_or(0) / PAGE_SIZE;
                return Ok([0, cap.size, used, 0, 0, 0, 0, 0]);
            }
            Method::FrameMap => self.map(target, Some(words[0]))?,
            Method::FrameUnmap => self.map(target, None)?,
            Method::InterruptControlGet => {
                let object = self.fresh();
                self.insert((ROOT_TABLE, receive), Kind::Interrupt, object, 0, 0)?;
            }
            Method::IoPortControlGet => {
                let object = self.fresh();
                self.insert((ROOT_TABLE, receive), Kind::IoPort, object, 0, 0)?;
            }
            Method::ThreadInfo => {
                let state = if self.stopped.contains(&target) { ThreadState::Stopped } else { ThreadState::Receiving };
                return Ok([state as u64, 7, 1, 1000, 0x40_0000, 0x3f_0000_0000, 0, 7]);
            }
            Method::ThreadSetContext => self.set_context(cap.object, pass)?,
            Method::ThreadStart if !self.contexts.contains_key(&cap.object) => return Err(Error::NotRunnable),
            Method::SchedControlLimit => self.limit(cap.object, words, pass)?,
            Method::DebugName => {
                let thread = self.at(pass, Kind::Thread)?.object;
                self.names.insert(thread, Name::from_words(words));
            }
            Method::DebugCounters => return Ok([words[0] + 1; 8]),
            Method::DebugWrite => {
                let bytes = words[1..].iter().flat_map(|word| word.to_le_bytes());
                self.printed.extend(bytes.take(usize::try_from(words[0]).unwrap_or(0)));
            }
            Method::DebugReset => self.resets.push(words[0]),
            _ if method.kind() == Kind::CapTable => return self.table(target, method, words, pass),
            _ => {}
        }
        Ok([0; 8])
    }

    fn receive(&mut self, endpoint: u32, reply: u32, receive: u32, _: bool) -> Result<Received, Error> {
        self.at(endpoint, Kind::Endpoint)?;
        self.at(reply, Kind::Reply)?;
        assert!(!self.slots.contains_key(&(ROOT_TABLE, receive)), "a capability was left where the next one arrives");
        if self.occupied.contains(&reply) {
            return Err(Error::Busy);
        }
        let queue = if endpoint == ENDPOINT { Some(&mut self.inbox) } else { self.elsewhere.get_mut(&endpoint) };
        let received = queue.and_then(VecDeque::pop_front).ok_or(Error::TimedOut)?;
        if received.answerable {
            self.occupied.insert(reply);
        }
        if received.capability && receive != 0 {
            let object = self.fresh();
            self.insert((ROOT_TABLE, receive), Kind::Thread, object, 0, 0)?;
        }
        Ok(received)
    }

    fn answer(&mut self, reply: u32, message: &Message) -> bool {
        if !self.occupied.remove(&reply) {
            return false;
        }
        self.answers.push((reply, *message));
        true
    }

    fn fill(&mut self, address: u64, bytes: &[u8]) {
        self.check_fill(address, bytes.len() as u64);
    }

    fn fill_start(&mut self, address: u64, info: &StartInfo) {
        self.check_fill(address, PAGE_SIZE);
        self.starts.push(*info);
    }

    fn now_ns(&self) -> u64 {
        self.now
    }
}

/// Main memory of these many pages each.
pub fn runs(pages: &[u64]) -> Vec<UntypedRun> {
    let mut runs = vec![];
    let mut address = 0x8000_0000;
    for &pages in pages {
        runs.push(UntypedRun { address, pages, device: 0 });
        address += pages * PAGE_SIZE;
    }
    runs
}
