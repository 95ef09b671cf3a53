//! The cores' locks, what they guard, and which cores run user code.
//!
//! A visit to the kernel holds the locks of the cores where its objects are at home, taken in ascending order: first its
//! own core's, and then, from the start, as many more as it turns out to need.

use core::cell::UnsafeCell;

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

    /// Takes it if nobody has it or waits for it. Answers the number to give it back with.
    #[inline(always)]
    fn try_take(&self) -> Option<u32> {
        let ticket = self.serving.load(Ordering::Relaxed);
        let next = ticket.wrapping_add(1);
        self.next.compare_exchange(ticket, next, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(next)
    }

    /// Only for who has taken it.
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
    global: UnsafeCell<G>,
    memory: UnsafeCell<Memory>,
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
            global: UnsafeCell::new(G::FRESH),
            memory: UnsafeCell::new(Memory::NONE),
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
        // SAFETY: the caller is alone.
        unsafe { *self.memory.get() = memory };
    }

    /// Core `me` takes the locks of `cores` and its own, in ascending order; `wait` runs in every round of a wait.
    pub fn hold(&self, me: CoreId, cores: CoreSet, mut wait: impl FnMut()) -> Held<'_, C, G> {
        let cores = cores.union(CoreSet::only(me));
        let mut rest = cores;
        let (mut locks, mut waits) = (0, 0);
        while let Some(core) = rest.pop() {
            if let Some(lock) = self.locks.get(core.index()) {
                locks += 1;
                waits += u64::from(lock.0.take(&mut wait));
            }
        }
        // SAFETY: written only before anybody held anything (`set_memory`).
        let memory = unsafe { *self.memory.get() };
        // SAFETY: the locks of `cores` are held until `Held` is dropped, and nobody else can hold one of them.
        let store = unsafe { Store::new(memory, cores, me) };
        Held { shared: self, cores, locks, waits, store }
    }
}

impl<C, G> Shared<C, G> {
    /// Core `me` looks at its own state and at memory, if its lock is free; else, or if `look` does, answers `None`.
    #[inline(always)]
    pub fn try_own<R>(&self, me: CoreId, look: impl FnOnce(&mut C, Store) -> Option<R>) -> Option<R> {
        let lock = &self.locks.get(me.index())?.0;
        let cell = &self.cores.get(me.index())?.0;
        let next = lock.try_take()?;
        // SAFETY: written only before anybody held anything (`set_memory`).
        let memory = unsafe { *self.memory.get() };
        // SAFETY: the lock of `me` is held until `look` is done with the store, and nobody else can hold it.
        let store = unsafe { Store::new(memory, CoreSet::only(me), me) };
        // SAFETY: the lock guards it, and nobody else refers to it as long as it is held.
        let found = look(unsafe { &mut *cell.get() }, store);
        lock.serving.store(next, Ordering::Release);
        found
    }
}

/// What a core can reach while it holds locks; gives them back when dropped.
#[derive(Debug)]
pub struct Held<'a, C, G> {
    shared: &'a Shared<C, G>,
    cores: CoreSet,
    locks: u64,
    waits: u64,
    /// Memory.
    pub store: Store,
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
        let cell = self.shared.cores.get(core.index()).ok_or(Stop::STALE)?;
        // SAFETY: the core's lock is held, and the borrow of `self` keeps this the only reference.
        Ok(unsafe { &mut *cell.0.get() })
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
        let mut rest = self.cores;
        while let Some(core) = rest.pop() {
            if let Some(lock) = self.shared.locks.get(core.index()) {
                lock.0.give();
            }
        }
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
