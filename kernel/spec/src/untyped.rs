//! Untyped: memory into objects.
//!
//! An Untyped hands its memory out from the front, up to its watermark. When nothing is left of what was made, it starts
//! over. Small objects of one kind share a page; a page never holds two kinds.

use anos_abi::{Error, Kind, PAGE_SIZE, Rights};

use crate::call::{Answer, Request};
use crate::state::{Address, Capability, State, Thread};
use crate::{Outcome, Spec};

/// Objects that one call makes.
const MOST_OBJECTS: u64 = 64;
/// Objects made by a call that also clears memory.
const FEW_OBJECTS: u64 = 8;
/// Objects that one call makes, of AddressSpaces.
const MOST_SPACES: u64 = 4;
/// Pages that one call makes into objects. (An Untyped isn't touched: it may be larger.)
const MOST_PAGES: u64 = 512;
/// Pages that the kernel clears in one go.
const CLEAR_PAGES: u64 = 4;
/// Bytes of a small object, and of a table's slot.
const SMALL: u64 = 64;

/// Bytes of an object of this kind and size.
fn bytes_of(kind: Kind, size: u64, available: u64) -> Outcome<u64> {
    let sized = |most: u64, unit: u64| if (1..=most).contains(&size) { Some(size * unit) } else { None };
    let fixed = |bytes: u64| if size == 0 { Some(bytes) } else { None };
    let bytes = match kind {
        Kind::Untyped => sized(available, PAGE_SIZE),
        Kind::Frame => sized(MOST_PAGES, PAGE_SIZE),
        Kind::CapTable if size.is_multiple_of(64) => sized(MOST_PAGES * 64, SMALL),
        Kind::PageTable | Kind::AddressSpace | Kind::Thread => fixed(PAGE_SIZE),
        Kind::Endpoint | Kind::Notification | Kind::Reply => fixed(SMALL),
        Kind::SchedContext => fixed(2 * SMALL),
        _ => None,
    };
    bytes.ok_or(Error::InvalidArgument)
}

/// Where in an Untyped the next object goes, in bytes from its start: at the watermark, in the same page if that holds
/// the same kind (and SchedContexts of the same core), else at the next page. What can be one large page is aligned so that it can.
fn place_of(untyped: &Capability, kind: Kind, core: u64, bytes: u64) -> u64 {
    let used = untyped.watermark();
    if bytes < PAGE_SIZE && !used.is_multiple_of(PAGE_SIZE) && untyped.open == (kind, core) {
        return used;
    }
    let large = MOST_PAGES * PAGE_SIZE;
    let align = if kind == Kind::Frame && bytes == large { large } else { PAGE_SIZE };
    (untyped.object + used).next_multiple_of(align) - untyped.object
}

impl Spec {
    pub(crate) fn untyped_info(&self, request: &Request) -> Answer {
        let untyped = self.cap(request.target);
        let pages_used = untyped.watermark().div_ceil(PAGE_SIZE);
        Answer::words([untyped.object, untyped.size, pages_used, untyped.device.into()])
    }

    pub(crate) fn untyped_retype(&mut self, request: &Request) -> Outcome<Answer> {
        let untyped = self.cap(request.target).clone();
        let [kind, size, count, position, ..] = request.words;
        let kind = Kind::try_from(kind)?;
        if untyped.device && !matches!(kind, Kind::Untyped | Kind::Frame) || !untyped.device && position != 0 {
            return Err(Error::InvalidArgument);
        }
        let bytes = bytes_of(kind, size, untyped.size)?;
        let most = if kind == Kind::AddressSpace { MOST_SPACES } else { MOST_OBJECTS };
        if !(1..=most).contains(&count) || kind != Kind::Untyped && bytes * count > MOST_PAGES * PAGE_SIZE {
            return Err(Error::InvalidArgument);
        }
        // SchedContexts are of the core whose SchedControl is passed.
        let core = match kind {
            Kind::SchedContext => self.cap(self.passed_kind(request, Kind::SchedControl, Rights::WRITE)?).object,
            _ => 0,
        };
        // In device memory the caller says where: anywhere behind what was made before.
        let start = if untyped.device {
            position.checked_mul(PAGE_SIZE).ok_or(Error::InvalidArgument)?
        } else {
            place_of(&untyped, kind, core, bytes)
        };
        if start < untyped.watermark() {
            return Err(Error::NotEnoughMemory);
        }
        let end = bytes.checked_mul(count).and_then(|all| start.checked_add(all)).ok_or(Error::InvalidArgument)?;
        if end > untyped.size * PAGE_SIZE {
            return Err(Error::NotEnoughMemory);
        }
        // (That there are so many slots comes before whether they are empty.)
        self.slot_of_thread(request.caller, u64::from(request.slots.receive()) + count - 1)?;
        let places = (0..count).map(|n| self.receive_slot(request, n)).collect::<Outcome<Vec<_>>>()?;
        // New memory is clear, but for what is still to be made into objects, and for devices.
        let to_clear = if untyped.device || kind == Kind::Untyped {
            0
        } else {
            end.div_ceil(PAGE_SIZE) - start.div_ceil(PAGE_SIZE)
        };
        let at_once = to_clear == 0 || to_clear <= CLEAR_PAGES && count <= FEW_OBJECTS;
        if !at_once && self.choices.still_clearing {
            return Err(Error::Again);
        }
        let from = self.cap_mut(request.target);
        (from.used, from.open) = (end, (kind, core));
        for (n, place) in (0..).zip(places) {
            let object = untyped.object + start + n * bytes;
            self.make(kind, object, core);
            let capability = Capability { device: untyped.device, ..Capability::new(kind, object, size) };
            self.derive(request.target, place, capability);
        }
        Ok(Answer::CAPABILITY)
    }

    /// What a new object starts with.
    fn make(&mut self, kind: Kind, object: Address, core: u64) {
        match kind {
            Kind::CapTable => drop(self.tables.insert(object, Default::default())),
            Kind::AddressSpace => {
                self.last_space += 1;
                let space = crate::Space { id: self.last_space, ..Default::default() };
                self.spaces.insert(object, space);
            }
            Kind::Thread => drop(self.threads.insert(object, Thread::new(self.me))),
            Kind::Endpoint => drop(self.endpoints.insert(object, Default::default())),
            Kind::Notification => drop(self.notifications.insert(object, Default::default())),
            Kind::SchedContext => {
                let core = usize::try_from(core).expect("a core's number");
                self.contexts.insert(object, crate::Context { core, ..Default::default() });
            }
            Kind::Reply => drop(self.replies.insert(object, None)),
            _ => {}
        }
    }
}

impl Thread {
    /// A thread that was just made, by a call on this core.
    fn new(core: usize) -> Thread {
        Thread {
            registers: Default::default(),
            parts: [None; 5],
            state: State::Stopped,
            deadline: None,
            fault: [0; 3],
            foreign: false,
            no_fpu: false,
            name: [0; 4],
            context: None,
            lender: None,
            borrower: None,
            priority: 0,
            own_priority: 0,
            ceiling: 0,
            core,
            cpu_time: 0,
            turn_left: 0,
        }
    }
}
