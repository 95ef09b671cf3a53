//! Physical memory as typed records: the one place that turns a number into `&mut T`.
//!
//! Every page of main memory has a [`PageRecord`] that says which kind of object it holds, and which cores are at home
//! there. A reference is followed only if the page holds that kind and the address is a multiple of the record's size;
//! to read ([`Store::see`]), the lock of one home must be held, to change ([`Store::get`]), those of all. So safe code
//! can't see one piece of memory as two things, nor change what another core looks at, whatever numbers it holds.
//!
//! Homes follow use, much as cache lines do. Tables (of capabilities or pages) are at home where they were changed last,
//! and where they have been used since; see [`Store::own`], [`Store::join`], [`Store::settle`].

use core::num::NonZeroU64;

use anos_abi::{Error, Kind, PAGE_SIZE};

use crate::machine::{CoreId, CoreSet};
use crate::records::{AddressSpace, Endpoint, Notification, PageRecord, Ref, Reply, SchedContext, Slot, Thread};

/// Why a step of a transition did not happen. Nothing has changed by then.
///
/// One word, never 0, so that a result travels in registers: an [`Error`]'s number, or a core's with a bit above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop(NonZeroU64);

/// What a [`Stop`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The object is at home on another core, whose lock isn't held: take it too, and start again.
    Elsewhere(CoreId),
    /// Something ends: take the locks of all cores, and start again.
    Everywhere,
    /// The caller asked for something it can't have, or a reference leads nowhere (`EmptySlot`: no capability leads
    /// there, but a call answers an error all the same).
    Refused(Error),
}

impl Stop {
    const ELSEWHERE: u64 = 1 << 32;

    /// All locks are needed.
    pub const EVERYWHERE: Stop = Stop(NonZeroU64::MIN.saturating_add(Self::ELSEWHERE | 0xff << 8));

    /// There is no such object.
    pub const STALE: Stop = Stop::refused(Error::EmptySlot);

    /// The caller can't have this.
    pub const fn refused(error: Error) -> Self {
        match NonZeroU64::new(error as u64) {
            Some(word) => Stop(word),
            None => Stop(NonZeroU64::MAX),
        }
    }

    /// Another core's lock is needed.
    pub fn elsewhere(core: CoreId) -> Self {
        Stop(NonZeroU64::MIN | Self::ELSEWHERE | u64::from(core.number()) << 8)
    }

    /// What it says.
    pub fn reason(self) -> Reason {
        let word = self.0.get();
        let [low, core, ..] = word.to_le_bytes();
        match CoreId::new(u64::from(core)) {
            _ if word & Self::ELSEWHERE == 0 => {
                Reason::Refused(Error::try_from(u16::from(low)).unwrap_or(Error::EmptySlot))
            }
            Some(core) => Reason::Elsewhere(core),
            None => Reason::Everywhere,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::refused(error)
    }
}

const _: () = assert!(size_of::<Result<(), Stop>>() == 8 && size_of::<Result<&mut Slot, Stop>>() == 16);

/// A kind of record that can be followed to.
///
/// # Safety
/// Every bit pattern is a valid `Self` without padding that matters, `size_of::<Self>()` divides the page size and is
/// a multiple of its alignment, and pages that [`Object::fits`] accepts hold nothing but such records at `offset`s
/// that `fits` accepts, none of which overlap.
pub unsafe trait Object: Sized {
    /// Whether a page of this kind holds such a record at this offset.
    fn fits(kind: u8, offset: u64) -> bool;
}

const _: () = assert!(usize::BITS == 64, "addresses are 64 bits wide");

#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, as asserted above")]
const fn to_usize(number: u64) -> usize {
    number as usize
}

fn on_stride(offset: u64, stride: u64) -> bool {
    offset & (stride - 1) == 0
}

// SAFETY: integers only, 128 bytes; a SchedContext page holds nothing else.
unsafe impl Object for SchedContext {
    fn fits(kind: u8, offset: u64) -> bool {
        kind == Kind::SchedContext as u8 && on_stride(offset, 128)
    }
}
// SAFETY: integers only, a whole page.
unsafe impl Object for Thread {
    fn fits(kind: u8, offset: u64) -> bool {
        kind == Kind::Thread as u8 && offset == 0
    }
}
// SAFETY: integers only, 64 bytes; an Endpoint page holds nothing else.
unsafe impl Object for Endpoint {
    fn fits(kind: u8, offset: u64) -> bool {
        kind == Kind::Endpoint as u8 && on_stride(offset, 64)
    }
}
// SAFETY: integers only, 64 bytes; a Notification page holds nothing else.
unsafe impl Object for Notification {
    fn fits(kind: u8, offset: u64) -> bool {
        kind == Kind::Notification as u8 && on_stride(offset, 64)
    }
}
// SAFETY: integers only, 64 bytes; a Reply page holds nothing else.
unsafe impl Object for Reply {
    fn fits(kind: u8, offset: u64) -> bool {
        kind == Kind::Reply as u8 && on_stride(offset, 64)
    }
}
// SAFETY: 512 integers, a whole page, whether root table or not.
unsafe impl Object for AddressSpace {
    fn fits(kind: u8, offset: u64) -> bool {
        (kind == Kind::AddressSpace as u8 || kind == Kind::PageTable as u8) && offset == 0
    }
}
// SAFETY: integers only, 64 bytes. A CapTable page holds nothing else. A Thread's slots overlap the Thread, of which
// they are a part; `Store` gives out one reference at a time (each borrows the store), so never both.
unsafe impl Object for Slot {
    fn fits(kind: u8, offset: u64) -> bool {
        if !on_stride(offset, 64) {
            return false;
        }
        let in_thread = offset & (size_of::<Thread>() as u64 - 1);
        let first = core::mem::offset_of!(Thread, slots) as u64;
        kind == Kind::CapTable as u8
            || kind == Kind::Thread as u8 && in_thread >= first && in_thread < first + size_of_slots()
    }
}

const fn size_of_slots() -> u64 {
    (size_of::<Slot>() * crate::records::THREAD_SLOTS) as u64
}

const _: () = assert!(size_of::<Thread>() == 4096 && size_of::<Slot>() == 64);
#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<PageRecord>() == 32);
const _: () = assert!(core::mem::offset_of!(Thread, slots) % 64 == 0 && core::mem::offset_of!(Thread, fpu) % 64 == 0);
const _: () = assert!(size_of::<SchedContext>() == 128);
const _: () = assert!(size_of::<Endpoint>() <= 64 && size_of::<Notification>() <= 64 && size_of::<Reply>() <= 64);

/// Where the machine's main memory is, and its page records. One for the whole machine; [`Store`] is a core's view
/// of it while it holds locks.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Virtual address at which physical address 0 would be mapped (the direct map), modulo 2^64.
    window: u64,
    /// Physical address of the first page with a record.
    start: u64,
    /// Pages with a record.
    pages: u64,
    /// The records.
    records: *mut PageRecord,
}

// SAFETY: `Memory` is four numbers; what they refer to is reached only through `Store`, whose maker holds locks.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// No memory at all.
    pub const NONE: Memory = Memory { window: 0, start: 0, pages: 0, records: core::ptr::null_mut() };

    /// Main memory from physical address `start`, `pages` pages, seen at `window + physical address`.
    ///
    /// # Safety
    /// For as long as any [`Store`] is made from it: `records` points to `pages` records that nothing else uses, and
    /// every page whose record is ever given a kind other than 0 is mapped, writable, and used by nothing but stores.
    pub const unsafe fn new(window: u64, start: u64, pages: u64, records: *mut PageRecord) -> Self {
        Memory { window, start, pages, records }
    }

    /// Virtual address of the memory at this physical address.
    pub const fn window(&self, address: u64) -> u64 {
        self.window.wrapping_add(address)
    }
}

/// A core's view of memory while it holds the locks of some cores, its own among them.
#[derive(Debug)]
pub struct Store {
    memory: Memory,
    held: CoreSet,
    /// This core alone.
    mine: CoreSet,
}

impl Store {
    /// A view for core `me`, which holds the locks of `held`.
    ///
    /// # Safety
    /// The locks are held while the store lives, that of `me` among them, and no other store of this memory lives whose
    /// `held` shares a core with this one.
    pub const unsafe fn new(memory: Memory, held: CoreSet, me: CoreId) -> Self {
        Store { memory, held, mine: CoreSet::only(me) }
    }

    fn index(&self, address: u64) -> Option<u64> {
        let index = address.checked_sub(self.memory.start)? / PAGE_SIZE;
        if index < self.memory.pages { Some(index) } else { None }
    }

    /// Whether this physical address has a page record: main memory.
    pub fn is_memory(&self, address: u64) -> bool {
        self.index(address).is_some()
    }

    /// The record of a page, whoever is at home there.
    fn record_of(&self, address: u64) -> Result<&PageRecord, Stop> {
        let index = self.index(address).ok_or(Stop::STALE)?;
        // SAFETY: `index` is below `pages`, so it lies within the array that `Memory::new` was promised.
        let record = unsafe { self.memory.records.add(to_usize(index)) };
        // SAFETY: in bounds as above; records are reached through shared references alone, and are atomic.
        Ok(unsafe { &*record })
    }

    /// The record of the page at this physical address, to be read.
    #[inline]
    pub fn record(&self, address: u64) -> Result<&PageRecord, Stop> {
        let record = self.record_of(address)?;
        // A home whose lock is held can't be taken away, so this stays true.
        if record.homes().meets(self.held) { Ok(record) } else { Err(self.missing(record)) }
    }

    /// The record of a page that is about to change: all its homes' locks are held.
    ///
    /// A table is at home only here from now on: whoever has used it elsewhere must ask. (An address space stays at home
    /// where it is loaded, too.) What threads meet at stays where they wait for it, and a thread where it runs.
    #[inline]
    pub fn own(&self, address: u64) -> Result<&PageRecord, Stop> {
        let record = self.record_of(address)?;
        if record.homes() != self.mine {
            self.take(record)?;
        }
        Ok(record)
    }

    #[inline(never)]
    fn take(&self, record: &PageRecord) -> Result<(), Stop> {
        if !record.homes().is_within(self.held) {
            return Err(self.missing(record));
        }
        let kind = record.kind();
        if kind == Kind::AddressSpace as u8 {
            record.set_homes(self.mine.union(record.loaded()));
        } else if kind == Kind::CapTable as u8 || kind == Kind::PageTable as u8 || kind == Kind::Empty as u8 {
            record.set_homes(self.mine);
        }
        Ok(())
    }

    /// A home of the page whose lock is not held.
    #[cold]
    fn missing(&self, record: &PageRecord) -> Stop {
        let mut missing = CoreSet(record.homes().0 & !self.held.0);
        missing.pop().map_or(Stop::STALE, Stop::elsewhere)
    }

    /// This core uses the page: it is among its homes from now on.
    #[inline]
    pub fn join(&self, address: u64) -> Result<&PageRecord, Stop> {
        let record = self.record_of(address)?;
        let homes = record.homes();
        if !homes.meets(self.mine) {
            if !homes.is_within(self.held) {
                return Err(self.missing(record));
            }
            record.set_homes(homes.union(self.mine));
        }
        Ok(record)
    }

    /// The page is at home on one core, whose lock is held, from now on.
    pub fn settle(&self, address: u64, core: CoreId) -> Result<(), Stop> {
        let record = self.own(address)?;
        if !self.held.contains(core) {
            return Err(Stop::elsewhere(core));
        }
        record.set_homes(CoreSet::only(core));
        Ok(())
    }

    /// Says what a page holds from now on.
    pub fn set_kind(&self, address: u64, kind: Kind) -> Result<(), Stop> {
        self.own(address)?.set_kind(kind);
        Ok(())
    }

    fn pointer<T: Object>(&self, record: &PageRecord, reference: Ref<T>) -> Result<*mut T, Stop> {
        let address = reference.address();
        if !T::fits(record.kind(), address & (PAGE_SIZE - 1)) {
            return Err(Stop::STALE);
        }
        Ok(to_usize(self.memory.window(address)) as *mut T)
    }

    /// The object at `reference`, to be read.
    #[inline(never)]
    pub fn see<T: Object>(&self, reference: Ref<T>) -> Result<&T, Stop> {
        let record = self.record(reference.address())?;
        let pointer = self.pointer(record, reference)?;
        record.watch.reads();
        // SAFETY: the page holds records of this kind and `pointer` is the start of one (`fits`), so it is mapped,
        // aligned, valid whatever its bits, and not used as anything else. The lock of one of its homes is held, so no
        // other core changes it; the borrow of `self` keeps this one from changing it. The one exception is what trap code
        // saves into the record of the thread that it interrupts (registers, floating point, the port's own words): its
        // core does so without a lock until it says that it is in the kernel. Whoever must know those waits for that
        // (`bring_in`); who only shows them, shows single words that may be old.
        Ok(unsafe { &*pointer })
    }

    /// The object at `reference`, to be changed.
    #[inline(never)]
    pub fn get<T: Object>(&mut self, reference: Ref<T>) -> Result<&mut T, Stop> {
        let record = self.own(reference.address())?;
        let pointer = self.pointer(record, reference)?;
        record.watch.changes();
        // SAFETY: as for `see`; and the locks of all its homes are held, so no other core looks at it, and the borrow of
        // `self` keeps this the only reference of this core.
        Ok(unsafe { &mut *pointer })
    }

    /// Fills a page that holds no object with zeros. The one long loop of the kernel: 512 words.
    pub fn clear_page(&mut self, address: u64) -> Result<(), Stop> {
        if self.own(address)?.kind() != Kind::Empty as u8 {
            return Err(Stop::STALE);
        }
        let pointer = to_usize(self.memory.window(address & !(PAGE_SIZE - 1))) as *mut [u64; 512];
        // SAFETY: a page of main memory (it has a record) without an object, so no reference leads into it; nobody else
        // clears it, because the locks of its homes are held.
        let page = unsafe { &mut *pointer };
        page.fill(0);
        Ok(())
    }
}
