//! The x86-64 port: everything that touches the processor and its platform.
//!
//! In the order in which a booting core meets them:
//!
//! - `entry`: from the loader's 32-bit mode (PVH) or a core's real mode to 64-bit code;
//! - `boot`: finds out what the machine has ([`acpi`], [`pvh`]), builds the kernel's address space
//!   ([`paging`]), starts the other cores (`smp`), and hands over to the kernel's core (`anos-core`);
//! - `percore`: what each core has of its own: stack, GDT, TSS, the running thread;
//! - `traps`: how a core enters the kernel and leaves it; `fpu`: floating point, on first use;
//! - `machine`: what the kernel's core asks for, with `time`, `patience`, `apic`, `ioapic`, `console`, `power`;
//! - `report`: what is printed when the kernel itself fails;
//! - `cpu`: single instructions as functions.
//!
//! The pure parts build on the host too, for their tests; the rest only for the bare machine.
#![no_std]

pub mod acpi;
pub mod paging;
pub mod pvh;

#[cfg(target_os = "none")]
mod apic;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod fpu;
#[cfg(target_os = "none")]
mod ioapic;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod once;
#[cfg(target_os = "none")]
mod patience;
#[cfg(target_os = "none")]
mod percore;
#[cfg(target_os = "none")]
mod power;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod tables;
#[cfg(target_os = "none")]
mod time;
#[cfg(target_os = "none")]
mod traps;

#[cfg(target_os = "none")]
pub use report::panicked;
