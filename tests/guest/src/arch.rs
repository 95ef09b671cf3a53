//! What the suite can't say in Rust: all registers at once, a thread in a foreign address space, floating point.
//!
//! Both architectures offer the same: [`helper_entry`], [`start_probe`], [`raw_system_call`] with [`REGISTERS`],
//! the [`hands`] code, the floating-point functions, and what else a case must know of the machine.

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "riscv64")]
pub use riscv64::*;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

/// Registers that a system call can change, and that a thread starts with: all but the stack pointer and the thread
/// pointer. First the roles (operation, label, slots, reply, deadline, eight words), then the rest.
pub type Registers = [u64; REGISTERS];

/// The code that [`crate::hands::Hands`] runs, as bytes that work at any address.
pub fn hands_code() -> &'static [u8] {
    let start = &raw const hands_start;
    let length = (&raw const hands_end as usize).wrapping_sub(start as usize);
    // SAFETY: the assembler put the code between these two symbols, into read-only memory that stays.
    unsafe { core::slice::from_raw_parts(start, length) }
}

unsafe extern "C" {
    /// First byte of the hands' code.
    pub static hands_start: u8;
    static hands_end: u8;
}
