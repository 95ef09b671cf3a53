//! Atomics as the explorers want them, and as the kernel does.
//!
//! The kernel makes its atomics in constants, and the simulated machine thousands of them; loom's are made at run time,
//! and cost. So each of these is an ordinary atomic that becomes an explorer's once two threads are about to use it:
//! whatever happens before [`start`] (a whole boot) and after [`stop`] (checking all of memory) is not explored.

use std::cell::Cell;
use std::sync::OnceLock;
pub use std::sync::atomic::Ordering;

#[cfg(loom)]
use loom as explorer;
#[cfg(shuttle)]
use shuttle as explorer;

thread_local! {
    // The explorers play all threads of a test on one of the host.
    static EXPLORING: Cell<bool> = const { Cell::new(false) };
    static WEAK: Cell<bool> = const { Cell::new(false) };
}

/// From here on, what this thread of the host does to atomics is explored.
pub fn start() {
    EXPLORING.set(true);
}

/// From here on, it isn't.
pub fn stop() {
    EXPLORING.set(false);
    WEAK.set(false);
}

/// All orderings are relaxed ones from now on, whatever the kernel says: a flaw that loom must find.
pub fn weaken() {
    WEAK.set(true);
}

/// The ordering that an explorer is told.
fn told(order: Ordering) -> Ordering {
    if WEAK.get() { Ordering::Relaxed } else { order }
}

/// A type of atomics. `plain` always has the value that was stored last; shuttle, to which memory has no surprises, is
/// only told that something happens.
macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[doc = concat!("Like `core::sync::atomic::", stringify!($name), "`, as far as the kernel uses that.")]
        #[derive(Debug, Default)]
        pub struct $name {
            plain: std::sync::atomic::$name,
            explored: OnceLock<explorer::sync::atomic::$name>,
        }

        impl $name {
            /// With this value to start from.
            pub const fn new(value: $value) -> Self {
                Self { plain: std::sync::atomic::$name::new(value), explored: OnceLock::new() }
            }

            /// What loom has in its place. For shuttle, others may have a turn now.
            fn explored(&self) -> Option<&explorer::sync::atomic::$name> {
                if !EXPLORING.get() {
                    return None;
                }
                let make = || explorer::sync::atomic::$name::new(self.plain.load(Ordering::SeqCst));
                let explored = self.explored.get_or_init(make);
                if cfg!(shuttle) {
                    explored.load(Ordering::SeqCst);
                    return None;
                }
                Some(explored)
            }

            /// Its value.
            pub fn load(&self, order: Ordering) -> $value {
                match self.explored() {
                    Some(explored) => explored.load(told(order)),
                    None => self.plain.load(order),
                }
            }

            /// Gives it another value if it has this one. Answers the one that it had, as an error if that was another.
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let Some(explored) = self.explored() else {
                    return self.plain.compare_exchange(current, new, success, failure);
                };
                let before = explored.compare_exchange(current, new, told(success), told(failure));
                if before.is_ok() {
                    self.plain.store(new, Ordering::SeqCst);
                }
                before
            }
        }

        atomic!($name, $value, store, (), "Gives it another value.");
        atomic!($name, $value, swap, $value, "Gives it another value, and answers the one that it had.");
    };
    ($name:ident, $value:ty, $operation:ident, $answer:ty, $text:literal) => {
        impl $name {
            #[doc = $text]
            pub fn $operation(&self, value: $value, order: Ordering) -> $answer {
                if let Some(explored) = self.explored() {
                    explored.$operation(value, told(order));
                }
                self.plain.$operation(value, Ordering::SeqCst)
            }
        }
    };
}

/// What numbers can do besides.
macro_rules! number {
    ($name:ident, $value:ty) => {
        atomic!($name, $value);
        atomic!($name, $value, fetch_add, $value, "Adds, modulo its size.");
        atomic!($name, $value, fetch_or, $value, "Sets bits.");
        atomic!($name, $value, fetch_and, $value, "Clears all other bits.");
    };
}

atomic!(AtomicBool, bool);
number!(AtomicU8, u8);
number!(AtomicU32, u32);
number!(AtomicU64, u64);

/// Notices who reads and who changes something, if loom explores: it then fails if two do so at once, or if nothing
/// orders what they do. (It is empty otherwise: [`Watch`] in `anos-machine` says the same to nobody.)
#[derive(Debug, Default)]
pub struct Watch {
    #[cfg(loom)]
    cell: OnceLock<loom::cell::UnsafeCell<()>>,
}

#[cfg(loom)]
impl Watch {
    fn cell(&self) -> Option<&loom::cell::UnsafeCell<()>> {
        EXPLORING.get().then(|| self.cell.get_or_init(|| loom::cell::UnsafeCell::new(())))
    }

    /// Somebody reads.
    pub fn reads(&self) {
        if let Some(cell) = self.cell() {
            cell.with(|_| ());
        }
    }

    /// Somebody changes.
    pub fn changes(&self) {
        if let Some(cell) = self.cell() {
            cell.with_mut(|_| ());
        }
    }
}

#[cfg(not(loom))]
impl Watch {
    /// Somebody reads.
    pub fn reads(&self) {}

    /// Somebody changes.
    pub fn changes(&self) {}
}
