//! Entering the kernel between two stamps, marks, and threads that start with an argument.

use core::sync::atomic::AtomicU64;

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "riscv64")]
pub use riscv64::counter;
#[cfg(target_arch = "x86_64")]
pub use x86_64::counter;

/// The stamp of the thread that entered the kernel last: on one core, from there the visit goes on.
pub static LAST_ENTRY: AtomicU64 = AtomicU64::new(0);

/// Words of [`Passage`] that are the registers of a system call, in the order of the roles.
pub const ROLES: usize = 13;

/// The registers on the way in and out; then when the thread was back, and the last entry's stamp at that time.
pub type Passage = [u64; ROLES + 2];

/// Marks that there are.
pub const MARKS: u64 = 256;

unsafe extern "C" {
    /// Enters the kernel with these registers, and leaves there what it answers.
    fn longest_call(passage: *mut Passage);
    /// Passes a mark below [`MARKS`].
    fn longest_mark(mark: u64);
    /// Where a thread starts that is to call [`crate::puppet::run`] with its argument.
    pub fn longest_start() -> !;
    /// An instruction that is none.
    fn longest_illegal();
}

/// Makes a system call between two stamps.
///
/// # Safety
/// As for `anos::sys::system_call`: whoever asks for a change of memory answers for what is still used.
pub unsafe fn call(passage: &mut Passage) {
    // SAFETY: the code saves what its caller may expect to be saved, and writes to the passage alone. What the call
    // itself does is the caller's business.
    unsafe { longest_call(passage) };
}

/// Tells whoever looks on what comes next.
pub fn mark(mark: u64) {
    if mark < MARKS {
        // SAFETY: it does nothing, and there are so many.
        unsafe { longest_mark(mark) };
    }
}

/// Has a fault. It comes back if somebody says that it is mended, and is not.
pub fn fault() {
    // SAFETY: nothing that the program counts on happens.
    unsafe { longest_illegal() };
}
