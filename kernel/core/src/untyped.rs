//! Untyped: memory into objects.
//!
//! An Untyped hands its memory out from the front; a watermark (`badge`) says how far. When nothing is left that was
//! made from it, it starts over. What it hands out is clear: a few pages per call are cleared and get their kind, and
//! `root` and `space` remember where that began and how far it got; the last call makes all the objects. Small objects of
//! one kind share a page: the page's record says which kind.

use anos_abi::{Error, Kind, PAGE_SIZE, Rights};
use anos_machine::{CoreId, CoreSet, Machine, Ref, SchedContext, Slot, SlotRef};

use crate::bounds::{CLEAR_PAGES, MAX_TABLE_SLOTS, RETYPE_COUNT, RETYPE_FEW, RETYPE_PAGES, RETYPE_SPACES};
use crate::call::Request;
use crate::context::core_numbered;
use crate::family::may_derive;
use crate::{Outcome, Visit};

/// 512 pages: what one large page maps.
const LARGE: u64 = 512 * PAGE_SIZE;

/// What a retype makes.
#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: Kind,
    /// Bytes of one object.
    bytes: u64,
    /// How many.
    count: u64,
    /// What the capability's `extent` says.
    extent: u64,
    /// Bytes from the start of the Untyped.
    start: u64,
    end: u64,
    /// Where the objects are at home.
    core: CoreId,
}

/// Bytes of an object of this kind and size, and the `extent` of its capability.
fn measure(kind: Kind, size: u64, available: u64) -> Result<(u64, u64), Error> {
    let sized = |limit: u64| if (1..=limit).contains(&size) { Ok(size) } else { Err(Error::InvalidArgument) };
    let (bytes, extent) = match kind {
        Kind::Untyped => (sized(available)? * PAGE_SIZE, size),
        Kind::Frame => (sized(RETYPE_PAGES)? * PAGE_SIZE, size),
        Kind::CapTable if size.is_multiple_of(64) => (sized(MAX_TABLE_SLOTS)? * size_of::<Slot>() as u64, size),
        Kind::PageTable | Kind::AddressSpace => (PAGE_SIZE, 0),
        Kind::Thread => (size_of::<anos_machine::Thread>() as u64, 0),
        Kind::Endpoint | Kind::Notification | Kind::Reply => (64, 0),
        Kind::SchedContext => (size_of::<SchedContext>() as u64, 0),
        _ => return Err(Error::InvalidArgument),
    };
    if extent == 0 && size != 0 { Err(Error::InvalidArgument) } else { Ok((bytes, extent)) }
}

impl<M: Machine> Visit<'_, M> {
    pub(crate) fn untyped_info(&mut self, request: &Request) -> Outcome {
        let slot = &request.target;
        let used = if self.has_children(slot)? { slot.badge.div_ceil(PAGE_SIZE) } else { 0 };
        self.answer.tell([slot.object, slot.extent, used, slot.device.into()])
    }

    pub(crate) fn untyped_retype(&mut self, request: &Request) -> Outcome {
        let mut untyped = request.target.copy();
        // Nothing is left of what was made: start over. (Nothing was made yet: what has been cleared still is.)
        if untyped.badge != 0 && !self.has_children(&untyped)? {
            (untyped.badge, untyped.root, untyped.space) = (0, 0, 0);
        }
        let plan = self.plan(&untyped, request)?;
        self.need_slot(request.at)?;
        let to = request.receive(self, plan.count)?;
        if plan.kind == Kind::AddressSpace {
            self.held.global()?;
        }
        self.held.core(plan.core)?;
        if untyped.device == 0 && plan.kind != Kind::Untyped {
            self.prepare(request.at, &mut untyped, &plan)?;
        }
        let first = untyped.object + plan.start;
        let slot = Slot {
            kind: plan.kind as u8,
            rights: Rights::ALL.0,
            device: untyped.device,
            object: first,
            extent: plan.extent,
            ..Slot::default()
        };
        // The last that may lack a lock: that of the first slot.
        self.derive_row(request.at, to, &slot, plan.count, plan.bytes)?;
        untyped.badge = plan.end;
        self.save(request.at, &untyped)?;
        // bound: RETYPE_COUNT
        for n in 0..plan.count {
            self.make(&plan, first + n * plan.bytes)?;
        }
        self.tell_capability()
    }

    /// Checks a retype's arguments and finds where the objects go. Changes nothing.
    fn plan(&mut self, untyped: &Slot, request: &Request) -> Outcome<Plan> {
        may_derive(untyped)?;
        let [kind, size, count, position, ..] = *request.words;
        let kind = Kind::try_from(kind)?;
        let device = untyped.device != 0;
        if device && !matches!(kind, Kind::Untyped | Kind::Frame) || !device && position != 0 {
            return Err(Error::InvalidArgument.into());
        }
        let (bytes, extent) = measure(kind, size, untyped.extent)?;
        let most = if kind == Kind::AddressSpace { RETYPE_SPACES } else { RETYPE_COUNT };
        if !(1..=most).contains(&count) || kind != Kind::Untyped && bytes * count > RETYPE_PAGES * PAGE_SIZE {
            return Err(Error::InvalidArgument.into());
        }
        let core = match kind {
            Kind::SchedContext => core_numbered(request.passed_object(self, Kind::SchedControl, Rights::WRITE)?)?,
            _ => self.me,
        };
        let start = if device {
            let start = position.checked_mul(PAGE_SIZE).ok_or(Error::InvalidArgument)?;
            if start < untyped.badge {
                return Err(Error::NotEnoughMemory.into());
            }
            start
        } else {
            self.next_place(untyped, kind, bytes, core)?
        };
        let end = bytes.checked_mul(count).and_then(|all| start.checked_add(all)).ok_or(Error::InvalidArgument)?;
        if end > untyped.extent * PAGE_SIZE {
            return Err(Error::NotEnoughMemory.into());
        }
        Ok(Plan { kind, bytes, count, extent, start, end, core })
    }

    /// Where the next object of this kind goes: behind the last, in the same page if that holds the same kind (and
    /// scheduling contexts of the same core).
    fn next_place(&mut self, untyped: &Slot, kind: Kind, bytes: u64, core: CoreId) -> Outcome<u64> {
        let used = untyped.badge;
        if bytes < PAGE_SIZE && !used.is_multiple_of(PAGE_SIZE) {
            let record = self.held.store.record(untyped.object + used)?;
            let here = kind != Kind::SchedContext || record.homes() == CoreSet::only(core);
            if record.kind() == kind as u8 && here {
                // A power of two; said so, this needs no division, and no path for one by zero.
                return Ok((used + bytes - 1) & !(bytes - 1));
            }
        }
        let align = if kind == Kind::Frame && bytes == LARGE { LARGE } else { PAGE_SIZE };
        Ok((untyped.object + used).next_multiple_of(align) - untyped.object)
    }

    #[inline(never)]
    fn save(&mut self, at: SlotRef, untyped: &Slot) -> Outcome {
        let slot = self.held.store.get(at)?;
        slot.badge = untyped.badge;
        (slot.root, slot.space) = (untyped.root, untyped.space);
        Ok(())
    }

    /// Clears the pages that the objects come to lie in, and says what they hold, a few per call.
    fn prepare(&mut self, at: SlotRef, untyped: &mut Slot, plan: &Plan) -> Outcome {
        // (The rest of the last objects' page is clear, and holds the same kind.)
        let first = plan.start.next_multiple_of(PAGE_SIZE);
        if first >= plan.end {
            return Ok(());
        }
        // Where this went on earlier, it goes on, if that is on the way: a Frame that needs another alignment may have had
        // it begin elsewhere, and pages for another kind or core begin anew.
        let record = self.held.store.record(untyped.object + first)?;
        let fits = record.kind() == plan.kind as u8 && record.homes() == CoreSet::only(plan.core);
        if !(fits && (untyped.root..untyped.space).contains(&first)) {
            (untyped.root, untyped.space) = (first, first);
        }
        if untyped.space >= plan.end {
            return Ok(());
        }
        let from = untyped.space;
        // bound: CLEAR_PAGES
        for n in 0..CLEAR_PAGES {
            if from + n * PAGE_SIZE < plan.end {
                self.held.store.own(untyped.object + from + n * PAGE_SIZE)?;
            }
        }
        // bound: CLEAR_PAGES
        for _ in 0..CLEAR_PAGES {
            if untyped.space < plan.end {
                self.held.store.clear_page(untyped.object + untyped.space, plan.kind, plan.core)?;
                untyped.space += PAGE_SIZE;
            }
        }
        self.save(at, untyped)?;
        if untyped.space < plan.end || plan.count > RETYPE_FEW { Err(Error::Again.into()) } else { Ok(()) }
    }

    /// Gives a fresh (clear) object what it starts with.
    fn make(&mut self, plan: &Plan, object: u64) -> Outcome {
        match plan.kind {
            Kind::AddressSpace => self.init_space(object),
            Kind::Thread => self.init_thread(Ref::at(object)),
            Kind::SchedContext => {
                self.held.store.get(Ref::<SchedContext>::at(object))?.core = plan.core.number();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
