//! Values that the boot core finds out once, before anybody else looks.

use core::cell::UnsafeCell;

/// A value that is set while the boot core is alone, and only read from then on.
pub struct SetOnce<T>(UnsafeCell<T>);

// SAFETY: written only while no other core runs and no reference is out (`set`); shared reads need `T: Sync`.
unsafe impl<T: Sync> Sync for SetOnce<T> {}

impl<T> SetOnce<T> {
    /// Holds `value` until it is set.
    pub const fn new(value: T) -> Self {
        SetOnce(UnsafeCell::new(value))
    }

    /// Sets the value.
    ///
    /// # Safety
    /// Only the boot core runs, and no reference from [`SetOnce::get`] is in use.
    pub unsafe fn set(&self, value: T) {
        // SAFETY: the caller is alone, so nothing else refers to the value.
        unsafe { *self.0.get() = value };
    }

    /// The value.
    pub fn get(&self) -> &T {
        // SAFETY: it is written only when no such reference is in use (`set`).
        unsafe { &*self.0.get() }
    }
}
