//! Locks for what the threads of one program share: [`Mutex`] for short sections, [`Turn`] for long ones.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use anos_abi::Error;
use anos_abi::syscall::FOREVER;

use crate::capability::{Capability, Notification, Slot};
use crate::{memory, slots, sys};

/// A lock for short sections. Whoever finds it taken lets others of its priority run and tries again; so don't hold it
/// while waiting for something (take a [`Turn`] for that), and don't share it between threads of different priorities
/// on one core.
pub struct Mutex<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out the value to one thread at a time, so it is enough that the value may go from thread to
// thread.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock around a value.
    pub const fn new(value: T) -> Self {
        Mutex { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            while self.locked.load(Ordering::Relaxed) {
                sys::yield_now();
            }
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let free = self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then(|| Guard { mutex: self })
    }
}

/// The lock, taken; dropping it gives it back.
pub struct Guard<'a, T> {
    mutex: &'a Mutex<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard exists, so the lock is held, and by nobody else.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `&mut self` makes this the only reference out of this guard.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.mutex.locked.store(false, Ordering::Release);
    }
}

/// A lock to hold while waiting for something. Whoever finds it taken sleeps until it comes back, whatever their
/// priorities. Who has it and takes it again waits for ever.
pub struct Turn {
    state: State,
    /// What sleepers wait on, once somebody had to: see [`Bell`].
    bell: AtomicU64,
}

/// Whether the turn is taken, and whether anybody may be asleep.
struct State(AtomicU32);

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const AWAITED: u32 = 2;

impl State {
    /// Takes it if it is free.
    fn take(&self) -> bool {
        self.0.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes it if it is free; if not, whoever has it will ring, with the bell that lay ready before. Whoever takes it thus
    /// rings, too: others may sleep.
    fn take_or_await(&self) -> bool {
        self.0.swap(AWAITED, Ordering::AcqRel) == FREE
    }

    /// Gives it back. Whether to ring.
    fn give_back(&self) -> bool {
        self.0.swap(FREE, Ordering::AcqRel) == AWAITED
    }
}

/// A Notification to sleep on. A signal that comes before the sleep ends it at once, so none is missed.
#[derive(Clone, Copy)]
struct Bell {
    wait: Notification,
    /// The same with a badge: a signal without one leaves no bit for who comes to wait later.
    ring: Notification,
}

impl Bell {
    fn make() -> Result<Self, Error> {
        let wait: Notification = memory::make(0)?;
        match wait.badged(1) {
            Ok(ring) => Ok(Bell { wait, ring }),
            Err(error) => {
                slots::delete(wait.slot())?;
                Err(error)
            }
        }
    }

    /// Its slots in one word; never 0, which stands for none.
    fn word(self) -> u64 {
        u64::from(self.wait.slot().number()) << 32 | u64::from(self.ring.slot().number())
    }

    fn from_word(word: u64) -> Option<Self> {
        let half = |word: u64| u32::try_from(word & 0xffff_ffff).ok().filter(|&slot| slot != 0);
        let [wait, ring] = [half(word >> 32)?, half(word)?].map(|slot| Notification::from_slot(Slot::new(slot)));
        Some(Bell { wait, ring })
    }
}

impl Turn {
    /// Free.
    pub const fn new() -> Self {
        Turn { state: State(AtomicU32::new(FREE)), bell: AtomicU64::new(0) }
    }

    /// Takes it.
    pub fn take(&self) -> TurnGuard<'_> {
        if !self.state.take() {
            let bell = self.bell();
            while !self.state.take_or_await() {
                // Without memory for a bell, all that is left is to look again and again.
                if bell.is_none_or(|bell| bell.wait.wait(FOREVER).is_err()) {
                    sys::yield_now();
                }
            }
        }
        TurnGuard { turn: self }
    }

    /// Takes it if it is free.
    pub fn try_take(&self) -> Option<TurnGuard<'_>> {
        self.state.take().then(|| TurnGuard { turn: self })
    }

    /// What to sleep on; made when first asked for.
    fn bell(&self) -> Option<Bell> {
        if let Some(bell) = Bell::from_word(self.bell.load(Ordering::Acquire)) {
            return Some(bell);
        }
        let made = Bell::make().ok()?;
        match self.bell.compare_exchange(0, made.word(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(made),
            Err(other) => {
                // Another thread was faster. That ours can't be deleted would be nothing to fail for.
                let _ = slots::delete(made.ring.slot());
                let _ = slots::delete(made.wait.slot());
                Bell::from_word(other)
            }
        }
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}

/// The turn, taken; dropping it gives it back.
pub struct TurnGuard<'a> {
    turn: &'a Turn,
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        if self.turn.state.give_back()
            && let Some(bell) = Bell::from_word(self.turn.bell.load(Ordering::Acquire))
        {
            // If nobody sleeps, nobody is missed.
            let _ = bell.ring.signal();
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::sync::Condvar;
    use std::thread;

    use super::*;

    /// A bell of the host's.
    #[derive(Default)]
    struct HostBell(std::sync::Mutex<bool>, Condvar);

    impl HostBell {
        fn ring(&self) {
            *self.0.lock().expect("nobody panics") = true;
            self.1.notify_one();
        }

        fn wait(&self) {
            let rung = self.0.lock().expect("nobody panics");
            *self.1.wait_while(rung, |rung| !*rung).expect("nobody panics") = false;
        }
    }

    #[test]
    fn a_turn_is_one_threads_at_a_time_and_no_sleeper_is_forgotten() {
        const ROUNDS: u64 = 2000;
        const THREADS: u64 = 4;
        let (state, bell, count) = (State(AtomicU32::new(FREE)), HostBell::default(), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        if !state.take() {
                            while !state.take_or_await() {
                                bell.wait();
                            }
                        }
                        // Not one step: two threads at once would lose some.
                        let before = count.load(Ordering::Relaxed);
                        thread::yield_now();
                        count.store(before + 1, Ordering::Relaxed);
                        if state.give_back() {
                            bell.ring();
                        }
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), THREADS * ROUNDS);
    }

    #[test]
    fn a_taken_turn_is_not_taken_twice_and_comes_back() {
        let turn = Turn::new();
        let guard = turn.try_take();
        assert!(guard.is_some() && turn.try_take().is_none());
        drop(guard);
        assert!(turn.try_take().is_some());
    }

    #[test]
    fn a_taken_lock_is_not_taken_twice_and_comes_back() {
        let mutex = Mutex::new(1);
        {
            let mut guard = mutex.lock();
            *guard += 1;
            assert!(mutex.try_lock().is_none());
            assert!(mutex.try_lock().is_none(), "a vain attempt must not free the lock");
        }
        assert_eq!(*mutex.lock(), 2);
    }
}
