//! The cores' locks, what they guard, and which cores run user code.
//!
//! A visit to the kernel holds the locks of the cores where its objects are at home, taken in ascending order: first its
//! own core's, and then, from the start, as many more as it turns out to need.

use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;

use anos_abi::MAX_CORES;

use crate::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use crate::machine::{CoreId, CoreSet};
use crate::store::{Memory, Stop, Store};

/// State that has a value to start from.
pub trait Fresh {
    /// That value.
    const FRESH: Self;
}

/// A value on cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Line<T>(T);

/// A core's lock: who comes first is served first, so nobody waits for ever.
#[derive(Debug)]
struct Ticket {
    next: AtomicU32,
    serving: AtomicU32,
}

impl Ticket {
    const fn new() -> Self {
        Ticket { next: AtomicU32::new(0), serving: AtomicU32::new(0) }
    }

    /// Answers whether it had to wait.
    fn take(&self, wait: &mut impl FnMut()) -> bool {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waited = false;
        while self.serving.load(Ordering::Acquire) != ticket {
            waited = true;
            wait();
        }
        waited
    }

    /// Takes it if nobody has it or waits for it.
    #[inline(always)]
    fn try_take(&self) -> Option<()> {
        // It is this load that sees what whoever had the lock last has done: `give` stores nothing in `next`.
        let ticket = self.serving.load(Ordering::Acquire);
        self.next.compare_exchange(ticket, ticket.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(())
    }

    /// Only for who has taken it.
    #[inline(always)]
    fn give(&self) {
        self.serving.store(self.serving.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }
}

/// What the kernel shares between cores: memory, a `C` per core guarded by that core's lock, and one `G` guarded by
/// the boot core's.
#[derive(Debug)]
pub struct Shared<C, G> {
    locks: [Line<Ticket>; MAX_CORES],
    cores: [Line<UnsafeCell<C>>; MAX_CORES],
    /// Each core's view of memory, guarded by its lock too.
    stores: [Line<UnsafeCell<Store>>; MAX_CORES],
    global: UnsafeCell<G>,
    /// Which cores run user code, and which must flush before they do again.
    pub presence: Presence,
}

// SAFETY: the cells are reached only through `Held`, which has the locks that guard them.
unsafe impl<C: Send, G: Send> Sync for Shared<C, G> {}

impl<C: Fresh, G: Fresh> Shared<C, G> {
    /// Nobody holds anything; no memory yet.
    pub const fn new() -> Self {
        Shared {
            locks: [const { Line(Ticket::new()) }; MAX_CORES],
            cores: [const { Line(UnsafeCell::new(C::FRESH)) }; MAX_CORES],
            stores: [const { Line(UnsafeCell::new(Store::NONE)) }; MAX_CORES],
            global: UnsafeCell::new(G::FRESH),
            presence: Presence::new(),
        }
    }
}

impl<C: Fresh, G: Fresh> Default for Shared<C, G> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C, G> Shared<C, G> {
    /// Says where memory is. Once, before anybody holds anything.
    ///
    /// # Safety
    /// No [`Held`] exists, and no other core uses `self` yet.
    pub unsafe fn set_memory(&self, memory: Memory) {
        let mut cores = CoreSet::ALL;
        while let Some(core) = cores.pop() {
            // SAFETY: each is reached only through a `Held` of its core, which has that core's lock.
            let store = unsafe { Store::new(memory, core) };
            // SAFETY: the caller is alone.
            unsafe { *self.stores[core.index()].0.get() = store };
        }
    }

    /// Core `me` takes the locks of `cores` and its own, in ascending order; `wait` runs in every round of a wait.
    pub fn hold(&self, me: CoreId, cores: CoreSet, mut wait: impl FnMut()) -> Held<'_, C, G> {
        let cores = cores.union(CoreSet::only(me));
        let mut rest = cores;
        let (mut locks, mut waits) = (0, 0);
        while let Some(core) = rest.pop() {
            locks += 1;
            waits += u64::from(self.locks[core.index()].0.take(&mut wait));
        }
        // SAFETY: the lock of `me` guards it.
        let store = unsafe { &mut *self.stores[me.index()].0.get() };
        // SAFETY: these locks are held until `Held` is dropped, and nobody else can hold one of them.
        unsafe { store.set_held(cores) };
        Held { shared: self, me, cores, locks, waits, store }
    }

    #[inline(never)]
    fn give_all(&self, mut cores: CoreSet) {
        while let Some(core) = cores.pop() {
            self.locks[core.index()].0.give();
        }
    }

    /// Core `me` takes its own lock, if that is free.
    #[inline(always)]
    pub fn try_own(&self, me: CoreId) -> Option<Own<'_, C, G>> {
        self.locks[me.index()].0.try_take()?;
        Some(Own { shared: self, me })
    }
}

/// What a core can reach while it holds locks; gives them back when dropped.
#[derive(Debug)]
pub struct Held<'a, C, G> {
    shared: &'a Shared<C, G>,
    me: CoreId,
    cores: CoreSet,
    locks: u64,
    waits: u64,
    /// Memory.
    pub store: &'a mut Store,
}

impl<C, G> Held<'_, C, G> {
    /// Whose locks these are.
    pub fn cores(&self) -> CoreSet {
        self.cores
    }

    /// How many locks these are, and how many of them had to be waited for.
    pub fn effort(&self) -> (u64, u64) {
        (self.locks, self.waits)
    }

    /// The state of a core.
    #[inline]
    pub fn core(&mut self, core: CoreId) -> Result<&mut C, Stop> {
        if !self.cores.contains(core) {
            return Err(Stop::elsewhere(core));
        }
        // SAFETY: the core's lock is held, and the borrow of `self` keeps this the only reference.
        Ok(unsafe { &mut *self.shared.cores[core.index()].0.get() })
    }

    /// The state that all cores share.
    #[inline]
    pub fn global(&mut self) -> Result<&mut G, Stop> {
        if !self.cores.contains(CoreId::BOOT) {
            return Err(Stop::elsewhere(CoreId::BOOT));
        }
        // SAFETY: the boot core's lock is held, and the borrow of `self` keeps this the only reference.
        Ok(unsafe { &mut *self.shared.global.get() })
    }
}

impl<C, G> Drop for Held<'_, C, G> {
    fn drop(&mut self) {
        if self.locks == 1 {
            return self.shared.locks[self.me.index()].0.give();
        }
        // SAFETY: whoever uses it next has this core's lock.
        unsafe { self.store.set_held(CoreSet::only(self.me)) };
        self.shared.give_all(self.cores);
    }
}

/// A core's own lock; gives it back when dropped.
#[derive(Debug)]
pub struct Own<'a, C, G> {
    shared: &'a Shared<C, G>,
    me: CoreId,
}

impl<'a, C, G> Own<'a, C, G> {
    /// What it guards: the core's state, and its view of memory.
    #[inline(always)]
    pub fn parts(&mut self) -> (&mut C, &mut Store) {
        // SAFETY: the lock is held, and the borrow of `self` keeps this the only reference.
        let state = unsafe { &mut *self.shared.cores[self.me.index()].0.get() };
        // SAFETY: as above.
        (state, unsafe { &mut *self.shared.stores[self.me.index()].0.get() })
    }

    /// The state that all cores share, if this is the lock that guards it.
    #[inline(always)]
    pub fn global(&mut self) -> Option<&mut G> {
        if self.me != CoreId::BOOT {
            return None;
        }
        // SAFETY: the boot core's lock is held, and the borrow of `self` keeps this the only reference.
        Some(unsafe { &mut *self.shared.global.get() })
    }

    /// The same lock, for who may hold more of them.
    pub fn held(self) -> Held<'a, C, G> {
        let Own { shared, me } = *ManuallyDrop::new(self);
        // SAFETY: the lock of `me` guards it, and the only other way to it is gone.
        let store = unsafe { &mut *shared.stores[me.index()].0.get() };
        Held { shared, me, cores: CoreSet::only(me), locks: 1, waits: 0, store }
    }
}

impl<C, G> Drop for Own<'_, C, G> {
    #[inline(always)]
    fn drop(&mut self) {
        self.shared.locks[self.me.index()].0.give();
    }
}

/// Where a core is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the kernel, or waiting to get in.
    Kernel,
    /// In the kernel with a system call that has not been looked at: it waits for a lock.
    KernelWithCall,
    /// Running user code.
    User,
}

/// Which cores run user code, and which must flush their TLB before they do so again.
///
/// A core says that it is in the kernel once its thread's registers are saved, before it waits for any lock, and that
/// it is in user mode while it still holds its lock. So whoever holds that lock knows: a core that isn't in user mode
/// will look at its queues before it is again; one that is gets an interrupt, and can be waited for, because it needs
/// no lock to say that it came. A core that waits for a lock flushes when asked, so that can be waited for too.
#[derive(Debug)]
pub struct Presence {
    place: [Line<AtomicU8>; MAX_CORES],
    flush: [Line<AtomicBool>; MAX_CORES],
}

impl Presence {
    const fn new() -> Self {
        Presence {
            place: [const { Line(AtomicU8::new(Place::Kernel as u8)) }; MAX_CORES],
            flush: [const { Line(AtomicBool::new(false)) }; MAX_CORES],
        }
    }

    /// Says where this core is. To say `User` takes the core's lock, and nothing left to flush.
    pub fn set(&self, core: CoreId, place: Place) {
        if let Some(line) = self.place.get(core.index()) {
            line.0.store(place as u8, Ordering::SeqCst);
        }
    }

    /// Where a core is.
    pub fn get(&self, core: CoreId) -> Place {
        match self.place.get(core.index()).map(|line| line.0.load(Ordering::SeqCst)) {
            Some(place) if place == Place::User as u8 => Place::User,
            Some(place) if place == Place::KernelWithCall as u8 => Place::KernelWithCall,
            _ => Place::Kernel,
        }
    }

    /// The core must flush: at the latest before it runs user code again. With its lock held.
    pub fn ask_flush(&self, core: CoreId) {
        if let Some(flush) = self.flush.get(core.index()) {
            flush.0.store(true, Ordering::SeqCst);
        }
    }

    /// Whether the core has been asked to flush and has not yet done so.
    pub fn must_flush(&self, core: CoreId) -> bool {
        self.flush.get(core.index()).is_some_and(|flush| flush.0.load(Ordering::SeqCst))
    }

    /// This core has flushed.
    pub fn flushed(&self, core: CoreId) {
        if let Some(flush) = self.flush.get(core.index()) {
            flush.0.store(false, Ordering::SeqCst);
        }
    }
}
