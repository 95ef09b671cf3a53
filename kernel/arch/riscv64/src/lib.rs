//! The RISC-V port: RV64 with Sv39, Sv48 or Sv57, behind SBI firmware.
//!
//! | file | what it is for |
//! |---|---|
//! | `entry` | the first instructions of every hart |
//! | `boot` | from there to the first thread |
//! | [`devicetree`], [`description`] | reads the blob; what the kernel wants to know from it |
//! | [`controller`] | which interrupt controller serves the boot hart |
//! | `harts`, `hart` | starts the other cores; what each keeps for itself |
//! | `patience` | what a core does while it waits for another |
//! | `trap_entry`, `traps` | into the kernel and out of it |
//! | [`paging`] | page-table entries, the kernel's own tables |
//! | `bytes` | memory copied and filled, for the compiler |
//! | `interrupts`: `plic` or `aplic`; `time`, `fpu`, `console`, `sbi`, `csr` | the hardware and the firmware, by the piece |
//! | `machine` | all of it behind the core's `Machine` trait |
//! | `report` | panics and kernel faults |
//!
//! Only what doesn't touch the hardware is built on the host, for its unit tests.
#![no_std]

pub mod controller;
pub mod description;
pub mod devicetree;
pub mod paging;
pub mod time;

#[cfg(target_os = "none")]
mod aplic;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod bytes;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod csr;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod fpu;
#[cfg(target_os = "none")]
mod hart;
#[cfg(target_os = "none")]
mod harts;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod once;
#[cfg(target_os = "none")]
mod patience;
#[cfg(target_os = "none")]
mod plic;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod sbi;
#[cfg(target_os = "none")]
mod trap_entry;
#[cfg(target_os = "none")]
mod traps;

#[cfg(target_os = "none")]
pub use report::panicked;

const _: () = assert!(usize::BITS == 64, "addresses are 64 bits wide");

/// An address as the language wants it.
#[cfg(target_os = "none")]
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, as asserted above")]
const fn to_usize(number: u64) -> usize {
    number as usize
}
