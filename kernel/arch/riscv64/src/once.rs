//! Facts that the boot hart finds out before anybody else runs, and that never change again.

use core::cell::UnsafeCell;

/// A value that is replaced at most while one hart runs, and read by all.
#[derive(Debug)]
pub struct SetOnce<T>(UnsafeCell<T>);

// SAFETY: shared references only, but for `set`, whose caller is alone.
unsafe impl<T: Sync> Sync for SetOnce<T> {}

impl<T> SetOnce<T> {
    /// What is read until [`SetOnce::set`].
    pub const fn new(value: T) -> Self {
        SetOnce(UnsafeCell::new(value))
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> &T {
        // SAFETY: `set` is called only while no reference lives.
        unsafe { &*self.0.get() }
    }

    /// The value, to be made where it stays.
    ///
    /// # Safety
    /// As for [`SetOnce::set`], and it is not called again while the reference lives.
    #[expect(clippy::mut_from_ref, reason = "the caller is alone")]
    pub unsafe fn make(&self) -> &mut T {
        // SAFETY: the caller is alone, so nothing else refers to the value.
        unsafe { &mut *self.0.get() }
    }

    /// Replaces the value.
    ///
    /// # Safety
    /// The boot hart only, before it starts another one, and while no reference from [`SetOnce::get`] lives.
    pub unsafe fn set(&self, value: T) {
        // SAFETY: the caller is alone.
        unsafe { *self.0.get() = value };
    }
}
