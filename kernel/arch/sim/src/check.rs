//! What must hold after every step, whatever programs did: the invariants of the kernel's state.
//!
//! [`World::look`] reads all records that have a kind; the checks are in [`families`], [`threads`] and [`spaces`].
//! Each states one rule, and names what breaks it.

pub mod contexts;
pub mod families;
pub mod spaces;
pub mod threads;

use std::collections::{BTreeMap, HashMap};

use anos_abi::fault::FaultKind;
use anos_abi::object::ThreadState;
use anos_abi::{Kind, PAGE_SIZE};
use anos_machine::records::THREAD_SLOTS;
use anos_machine::{CoreSet, Endpoint, Links, Notification, Ref, Reply, SchedContext, Slot, Store, Thread};

use crate::memory::RAM_BASE;
use crate::sim::Sim;

/// Bytes from one small object or capability slot to the next.
const SMALL: usize = 64;

/// A rule that is broken, in words.
pub type Broken = String;

/// Breaks a rule unless the condition holds.
macro_rules! rule {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
pub(crate) use rule;

/// What the rules say something about, of a Thread.
#[derive(Clone, Copy, Debug)]
pub struct ThreadView {
    /// Its capabilities.
    pub slots: [Slot; THREAD_SLOTS],
    /// Its place in a queue.
    pub links: Links,
    /// What it waits on.
    pub waits_on: u64,
    /// Its place among the deadlines.
    pub timer: Links,
    /// In which bucket, plus one.
    pub bucket: u8,
    /// When its wait ends.
    pub deadline: u64,
    /// Its state.
    pub state: ThreadState,
    /// Its priority.
    pub priority: u8,
    /// Its core.
    pub core: u8,
    /// Whether it stands in a ready queue.
    pub queued: u8,
    /// The scheduling context that it has, or has lent.
    pub context: Ref<SchedContext>,
    /// Who lent it.
    pub lender: Ref<Thread>,
    /// To whom it was lent.
    pub borrower: Ref<Thread>,
    /// Whether its system calls are another system's.
    pub foreign: bool,
    /// Whether its last fault was that it had no CPU time.
    pub no_time: bool,
}

impl ThreadView {
    fn of(thread: &Thread) -> ThreadView {
        ThreadView {
            slots: thread.slots,
            links: thread.links,
            waits_on: thread.waits_on,
            timer: thread.timer,
            bucket: thread.bucket,
            deadline: thread.deadline,
            state: ThreadState::from_number(thread.state.into()),
            priority: thread.priority,
            core: thread.core,
            queued: thread.queued,
            context: thread.context,
            lender: thread.lender,
            borrower: thread.borrower,
            foreign: thread.foreign != 0,
            no_time: thread.fault[0] == FaultKind::NoTime as u64,
        }
    }
}

/// Everything in the kernel's memory, at one moment.
#[derive(Debug, Default)]
pub struct World {
    /// All capabilities, by where they lie.
    pub slots: BTreeMap<u64, Slot>,
    /// For each capability, the one it belongs to: the nearest in front that is less deep.
    pub parents: HashMap<u64, u64>,
    /// All Thread records.
    pub threads: BTreeMap<u64, ThreadView>,
    /// All Endpoint records that differ from a fresh one.
    pub endpoints: BTreeMap<u64, Endpoint>,
    /// All Notification records that differ from a fresh one.
    pub notifications: BTreeMap<u64, Notification>,
    /// All Reply records that differ from a fresh one.
    pub replies: BTreeMap<u64, Reply>,
    /// All SchedContext records that differ from a fresh one.
    pub contexts: BTreeMap<u64, SchedContext>,
    /// The kind of every page.
    pub kinds: Vec<u8>,
    /// The cores at home in every page.
    pub homes: Vec<CoreSet>,
    /// The cores on which every page is loaded as an address space.
    pub loaded: Vec<CoreSet>,
}

impl World {
    /// Reads it all.
    pub fn look(sim: &Sim) -> Result<World, Broken> {
        let mut world = World::default();
        sim.with_store(|store| {
            for page in (0..sim.board.ram.pages()).map(|page| RAM_BASE + page * PAGE_SIZE) {
                let record = store.record(page).expect("a page of memory");
                let kind = record.kind();
                world.homes.push(record.homes());
                world.loaded.push(record.loaded());
                world.kinds.push(kind);
                world.look_at_page(store, page, Kind::try_from(u64::from(kind)).unwrap_or(Kind::Empty));
            }
        });
        world.find_parents()?;
        Ok(world)
    }

    fn look_at_page(&mut self, store: &mut Store, page: u64, kind: Kind) {
        let places = |stride: usize| (page..page + PAGE_SIZE).step_by(stride);
        match kind {
            Kind::CapTable => {
                for at in places(SMALL) {
                    let slot = store.see::<Slot>(Ref::at(at)).expect("a slot");
                    if *slot != Slot::default() {
                        self.slots.insert(at, *slot);
                    }
                }
            }
            Kind::Thread => {
                for at in places(size_of::<Thread>()) {
                    let thread = ThreadView::of(store.see::<Thread>(Ref::at(at)).expect("a thread"));
                    for (slot, number) in thread.slots.iter().zip(0u64..) {
                        if *slot != Slot::default() {
                            let first = std::mem::offset_of!(Thread, slots) as u64;
                            self.slots.insert(at + first + number * size_of::<Slot>() as u64, *slot);
                        }
                    }
                    self.threads.insert(at, thread);
                }
            }
            Kind::Endpoint => {
                for at in places(SMALL) {
                    let endpoint = *store.see::<Endpoint>(Ref::at(at)).expect("an endpoint");
                    if endpoint.waiting != 0 || endpoint.queue != Default::default() {
                        self.endpoints.insert(at, endpoint);
                    }
                }
            }
            Kind::Notification => {
                for at in places(SMALL) {
                    let notification = *store.see::<Notification>(Ref::at(at)).expect("a notification");
                    let empty = notification.bits == 0 && notification.bound.is_none();
                    if !empty || notification.queue != Default::default() {
                        self.notifications.insert(at, notification);
                    }
                }
            }
            Kind::Reply => {
                for at in places(SMALL) {
                    let reply = *store.see::<Reply>(Ref::at(at)).expect("a reply");
                    if !reply.caller.is_none() {
                        self.replies.insert(at, reply);
                    }
                }
            }
            Kind::SchedContext => {
                for at in places(size_of::<SchedContext>()) {
                    let context = *store.see::<SchedContext>(Ref::at(at)).expect("a context");
                    if context.period != 0 || !context.owner.is_none() || !context.user.is_none() {
                        self.contexts.insert(at, context);
                    }
                }
            }
            _ => {}
        }
    }

    /// Walks each family from its head, checks its links, and finds every capability's parent.
    fn find_parents(&mut self) -> Result<(), Broken> {
        let mut seen = 0;
        let heads = self.slots.iter().filter(|(_, slot)| slot.previous.is_none()).map(|(&at, _)| at);
        for head in heads.collect::<Vec<_>>() {
            let mut path: Vec<(u64, u32)> = Vec::new();
            let mut at = head;
            loop {
                let slot = &self.slots[&at];
                seen += 1;
                rule!(seen <= self.slots.len(), "the family of {head:#x} runs in a circle");
                while path.last().is_some_and(|&(_, depth)| depth >= slot.depth) {
                    path.pop();
                }
                if let Some(&(parent, _)) = path.last() {
                    self.parents.insert(at, parent);
                }
                path.push((at, slot.depth));
                let Some(next) = slot.next.some() else { break };
                let behind = self.slots.get(&next.address());
                rule!(behind.is_some(), "{at:#x} {slot:x?} is followed by nothing");
                let back = behind.map_or(0, |behind| behind.previous.address());
                rule!(back == at, "{at:#x} is followed by {next:?}, which follows {back:#x}");
                at = next.address();
            }
        }
        rule!(seen == self.slots.len(), "{} capabilities stand in no family", self.slots.len() - seen);
        Ok(())
    }

    /// The kind of the page at a physical address; `None` outside main memory.
    pub fn kind_of(&self, address: u64) -> Option<Kind> {
        let page = address.checked_sub(RAM_BASE)? / PAGE_SIZE;
        let kind = self.kinds.get(crate::memory::index(page))?;
        Some(Kind::try_from(u64::from(*kind)).unwrap_or(Kind::Empty))
    }

    /// Whether there is a capability to this object.
    pub fn has_capability(&self, kind: Kind, object: u64) -> bool {
        self.slots.values().any(|slot| slot.kind() == kind && slot.object == object)
    }
}

/// Checks everything.
pub fn check(sim: &Sim) -> Result<World, Broken> {
    let world = World::look(sim)?;
    families::check(sim, &world)?;
    threads::check(sim, &world)?;
    contexts::check(sim, &world)?;
    spaces::check(sim, &world)?;
    Ok(world)
}
