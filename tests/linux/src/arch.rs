//! What differs between the architectures: the instruction and the numbers of system calls, the counter, the entry.

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "riscv64")]
pub use riscv64::{INSTRUCTIONS_PER_TICK, counter, like_system_call, number, spin, system_call};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{INSTRUCTIONS_PER_TICK, counter, like_system_call, number, spin, system_call};

/// Instructions of one round of `spin`.
pub const SPIN_INSTRUCTIONS: u64 = 2;
