//! What differs between the architectures: the system call, a thread's first instructions, the counter.

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "riscv64")]
pub use riscv64::{counter, system_call, thread_entry};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{counter, system_call, thread_entry};
