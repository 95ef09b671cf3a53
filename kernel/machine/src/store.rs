//! Physical memory as typed records: the one place that turns a number into `&mut T`.
//!
//! Every page of main memory has a [`PageRecord`] that says which kind of object it holds, and which cores are at home
//! there. A reference is followed only if the page holds that kind and the address is a multiple of the record's size;
//! to read ([`Store::see`]), the lock of one home must be held, to change ([`Store::get`]), those of all. So safe code
//! can't see one piece of memory as two things, nor change what another core looks at, whatever numbers it holds.
//!
//! Homes follow use, much as cache lines do. Tables (of capabilities or pages) are at home where they were changed last,
//! and where they have been used since; see [`Store::own`], [`Store::join`], [`Store::settle`].

use core::marker::PhantomData;
use core::num::NonZeroU64;

use anos_abi::{Error, Kind, PAGE_SIZE};

use crate::machine::{CoreId, CoreSet};
use crate::records::{
    AddressSpace, Endpoint, Label, Notification, PageRecord, Ref, Reply, SchedContext, Slot, THREAD_SLOTS, Thread,
};

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
/// Every bit pattern is a valid `Self` without padding that matters, and pages that [`Object::SHAPE`] accepts hold nothing
/// but such records at offsets that it accepts, none of which overlap.
pub unsafe trait Object: Sized {
    /// Where such records lie.
    const SHAPE: Shape;
}

/// Where the records of a type lie: in pages of which kinds, and how far apart.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// A bit for each [`Kind`].
    kinds: u32,
    /// Bytes from one record to the next, a power of two.
    stride: u32,
}

impl Shape {
    const fn new<T>(kinds: &[Kind], stride: u32) -> Shape {
        assert!(size_of::<T>() <= stride as usize && stride.is_power_of_two() && stride as u64 <= PAGE_SIZE);
        let mut bits = 0;
        let mut place = 0;
        while place < kinds.len() {
            bits |= 1 << kinds[place] as u32;
            place += 1;
        }
        Shape { kinds: bits, stride }
    }

    /// The first of the kinds, as a number.
    #[expect(clippy::cast_possible_truncation, reason = "below 32")]
    const fn first(self) -> u8 {
        self.kinds.trailing_zeros() as u8
    }

    /// Whether a page of this kind holds such a record at this offset.
    fn fits(self, kind: u8, offset: u64) -> bool {
        const SLOTS: u64 = core::mem::offset_of!(Thread, slots) as u64;
        let Shape { kinds, stride } = self;
        if kinds >> (kind & 31) & 1 == 0 || offset & (u64::from(stride) - 1) != 0 {
            return false;
        }
        // A smaller record in a thread's page is one of its slots.
        kind != Kind::Thread as u8
            || u64::from(stride) == PAGE_SIZE
            || offset.wrapping_sub(SLOTS) < size_of::<[Slot; THREAD_SLOTS]>() as u64
    }
}

const _: () = assert!(usize::BITS == 64, "addresses are 64 bits wide");

#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, as asserted above")]
const fn to_usize(number: u64) -> usize {
    number as usize
}

// SAFETY: integers only; a SchedContext page holds nothing else.
unsafe impl Object for SchedContext {
    const SHAPE: Shape = Shape::new::<Self>(&[Kind::SchedContext], 128);
}
// SAFETY: integers only, a whole page.
unsafe impl Object for Thread {
    const SHAPE: Shape = Shape::new::<Self>(&[Kind::Thread], 4096);
}
// SAFETY: integers only; an Endpoint page holds nothing else.
unsafe impl Object for Endpoint {
    const SHAPE: Shape = Shape::new::<Self>(&[Kind::Endpoint], 64);
}
// SAFETY: integers only; a Notification page holds nothing else.
unsafe impl Object for Notification {
    const SHAPE: Shape = Shape::new::<Self>(&[Kind::Notification], 64);
}
// SAFETY: integers only; a Reply page holds nothing else.
unsafe impl Object for Reply {
    const SHAPE: Shape = Shape::new::<Self>(&[Kind::Reply], 64);
}
// SAFETY: 512 integers, a whole page, whether root table or not.
unsafe impl Object for AddressSpace {
    const SHAPE: Shape = Shape::new::<Self>(&[Kind::AddressSpace, Kind::PageTable], 4096);
}
// SAFETY: integers only. A CapTable page holds nothing else. A Thread's slots overlap the Thread, of which they are a
// part; `Store` gives out one reference at a time (each borrows the store), so never both.
unsafe impl Object for Slot {
    const SHAPE: Shape = Shape::new::<Self>(&[Kind::CapTable, Kind::Thread], 64);
}

const _: () = assert!(size_of::<Thread>() == 4096 && size_of::<Slot>() == 64);
#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<PageRecord>() == 32);
const _: () = assert!(core::mem::offset_of!(Thread, slots) % 64 == 0 && core::mem::offset_of!(Thread, fpu) % 64 == 0);

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
    /// Of a page of no kind that is at home on this core alone.
    label: Label,
}

impl Store {
    /// No memory.
    pub const NONE: Store =
        Store { memory: Memory::NONE, held: CoreSet::NONE, mine: CoreSet::NONE, label: Label::of(0, CoreId::BOOT) };

    /// The view of core `me`, for when it holds its own lock.
    ///
    /// # Safety
    /// It is used only while that lock is held, and by one who holds it; and it is the only one of `me`.
    pub const unsafe fn new(memory: Memory, me: CoreId) -> Self {
        let mine = CoreSet::only(me);
        Store { memory, held: mine, mine, label: Label::of(Kind::Empty as u8, me) }
    }

    /// The locks of these cores are held from now on.
    ///
    /// # Safety
    /// It is so, that of its own core is among them, and as long as the view is used, until this is called again.
    pub const unsafe fn set_held(&mut self, cores: CoreSet) {
        self.held = cores;
    }

    #[inline(always)]
    fn index(&self, address: u64) -> Option<u64> {
        // Below the start it is a large number.
        let index = address.wrapping_sub(self.memory.start) / PAGE_SIZE;
        if index < self.memory.pages { Some(index) } else { None }
    }

    /// Whether this physical address has a page record: main memory.
    pub fn is_memory(&self, address: u64) -> bool {
        self.index(address).is_some()
    }

    /// The record of a page, whoever is at home there.
    #[inline(never)]
    fn record_of(&self, address: u64) -> Result<&PageRecord, Stop> {
        self.find(address)
    }

    /// The same, where it has to be quick.
    #[inline(always)]
    fn find(&self, address: u64) -> Result<&PageRecord, Stop> {
        let index = self.index(address).ok_or(Stop::STALE)?;
        // SAFETY: `index` is below `pages`, so it lies within the array that `Memory::new` was promised.
        let record = unsafe { self.memory.records.add(to_usize(index)) };
        // SAFETY: in bounds as above; records are reached through shared references alone, and are atomic.
        Ok(unsafe { &*record })
    }

    /// The record of the page at this physical address, to be read.
    #[inline(never)]
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

    /// Where the record at `address` lies, if there is one of this shape; `record` is its page's.
    #[inline(always)]
    fn pointer(&self, record: &PageRecord, address: u64, shape: Shape) -> Result<*mut u8, Stop> {
        if !shape.fits(record.kind(), address & (PAGE_SIZE - 1)) {
            return Err(Stop::STALE);
        }
        Ok(to_usize(self.memory.window(address)) as *mut u8)
    }

    #[inline(never)]
    fn readable(&self, address: u64, shape: Shape) -> Result<*mut u8, Stop> {
        let record = self.find(address)?;
        if !record.homes().meets(self.held) {
            return Err(self.missing(record));
        }
        record.watch.reads();
        self.pointer(record, address, shape)
    }

    #[inline(never)]
    fn writable(&self, address: u64, shape: Shape) -> Result<*mut u8, Stop> {
        let record = self.find(address)?;
        if record.homes() != self.mine {
            self.take(record)?;
        }
        record.watch.changes();
        self.pointer(record, address, shape)
    }

    /// Where the record at `address` lies, if its page is of the usual kind, and at home on this core alone.
    #[inline(always)]
    fn only_mine(&self, address: u64, shape: Shape) -> Option<*mut u8> {
        let record = self.find(address).ok()?;
        if record.label() != self.label.with(shape.first()) || address & (u64::from(shape.stride) - 1) != 0 {
            return None;
        }
        record.watch.changes();
        Some(to_usize(self.memory.window(address)) as *mut u8)
    }

    /// The same, if others are at home there too.
    #[inline(never)]
    fn partly_mine(&self, address: u64, shape: Shape) -> Option<*mut u8> {
        let record = self.find(address).ok()?;
        let known = record.homes().meets(self.mine) && record.kind() == shape.first();
        if !known || address & (u64::from(shape.stride) - 1) != 0 {
            return None;
        }
        record.watch.reads();
        Some(to_usize(self.memory.window(address)) as *mut u8)
    }

    /// The object at `reference`, to be read. (Not inlined, here as below: one jump, instead of the shape at every call.)
    #[inline(never)]
    pub fn see<T: Object>(&self, reference: Ref<T>) -> Result<&T, Stop> {
        let pointer = match self.only_mine(reference.address(), T::SHAPE) {
            Some(usual) => usual.cast(),
            None => self.readable(reference.address(), T::SHAPE)?.cast(),
        };
        // SAFETY: the page holds records of this type and `pointer` is the start of one (`Shape::fits`), so it is mapped,
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
        let pointer = match self.only_mine(reference.address(), T::SHAPE) {
            Some(usual) => usual.cast(),
            None => self.writable(reference.address(), T::SHAPE)?.cast(),
        };
        // SAFETY: as for `see`; and the locks of all its homes are held, so no other core looks at it, and the borrow of
        // `self` keeps this the only reference of this core.
        Ok(unsafe { &mut *pointer })
    }

    /// Fills a page with zeros, and says what it holds and where it is at home from now on. The one long loop of the
    /// kernel: 512 words.
    pub fn clear_page(&mut self, address: u64, kind: Kind, core: CoreId) -> Result<(), Stop> {
        let record = self.own(address)?;
        if !self.held.contains(core) {
            return Err(Stop::elsewhere(core));
        }
        record.set_kind(kind);
        record.set_homes(CoreSet::only(core));
        let pointer = to_usize(self.memory.window(address & !(PAGE_SIZE - 1))) as *mut [u64; 512];
        // SAFETY: a page of main memory (it has a record), and zeros are valid whatever it holds. The locks of its homes are
        // held, so no other core looks at it, and the borrow of `self` keeps this core from having a reference into it.
        let page = unsafe { &mut *pointer };
        page.fill(0);
        Ok(())
    }
}

/// Memory at home on this core alone, for a visit that changes no page's kind or homes: so a reference has to be checked
/// once, and is *known* from then on.
///
/// `'id` is a lifetime that no other `Fixed` has (see [`Store::fixed`]), so that what one knows is of no use with another.
#[derive(Debug)]
pub struct Fixed<'id, 's> {
    store: &'s mut Store,
    brand: PhantomData<fn(&'id ()) -> &'id ()>,
}

/// A reference that has been checked.
#[derive(Debug)]
pub struct Known<'id, T> {
    pointer: *mut T,
    brand: PhantomData<fn(&'id ()) -> &'id ()>,
}

impl<T> Clone for Known<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Known<'_, T> {}

impl Store {
    /// Memory as long as `look` looks, in which no page changes its kind or its homes.
    #[inline(always)]
    pub fn fixed<R>(&mut self, look: impl for<'id> FnOnce(Fixed<'id, '_>) -> R) -> R {
        look(Fixed { store: self, brand: PhantomData })
    }
}

impl<'id> Fixed<'id, '_> {
    /// Checks a reference: the object is at home on this core alone. (If not, or if there is none: `None`.)
    #[inline(always)]
    pub fn know<T: Object>(&self, reference: Ref<T>) -> Option<Known<'id, T>> {
        let pointer = self.store.only_mine(reference.address(), T::SHAPE)?;
        Some(Known { pointer: pointer.cast(), brand: PhantomData })
    }

    /// A known object, to be read.
    #[inline(always)]
    pub fn see<T>(&self, known: Known<'id, T>) -> &T {
        // SAFETY: `know` checked it as `Store::see` does, and nothing that it looked at has changed: that takes the store,
        // which `self` borrows as long as `'id` lasts. The borrow of `self` keeps this core from changing the object.
        unsafe { &*known.pointer }
    }

    /// A known object, to be changed.
    #[inline(always)]
    pub fn get<T>(&mut self, known: Known<'id, T>) -> &mut T {
        // SAFETY: as above; its page is at home on this core alone, whose lock is held, and the borrow of `self` keeps this
        // the only reference.
        unsafe { &mut *known.pointer }
    }

    /// An object that others may read too: this core is among its homes. To be read.
    #[inline(always)]
    pub fn read<T: Object>(&self, reference: Ref<T>) -> Option<&T> {
        let address = reference.address();
        let pointer = match self.store.only_mine(address, T::SHAPE) {
            Some(usual) => usual,
            None => self.store.partly_mine(address, T::SHAPE)?,
        };
        // SAFETY: as in `see`: it was checked just now.
        Some(unsafe { &*pointer.cast::<T>() })
    }

    /// The record of the page at this physical address, if this core is among its homes.
    #[inline(always)]
    pub fn page(&self, address: u64) -> Option<&PageRecord> {
        let record = self.store.find(address).ok()?;
        if record.homes().meets(self.store.mine) { Some(record) } else { None }
    }
}
