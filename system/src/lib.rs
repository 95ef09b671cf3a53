//! The root server: takes everything at boot, starts the rest from the manifest, and supervises it.
//!
//! It is the one program that can't be restarted, so it never trusts what comes from outside: archive, manifest,
//! programs and messages are checked, every refusal is an answer, and nothing it does waits for a program it started.
//! All of it is safe Rust over one trait, [`Kernel`](kernel::Kernel), so that all of it runs in tests on the host.
//!
//! - [`root`]: the server's state, its start, and its loop; [`service`]: what it answers to requests;
//! - [`spawn`], [`end`]: how a process is made and how it goes; [`process`]: what is known of it;
//! - [`buddy`]: memory, as power-of-two blocks of Untyped; [`contexts`]: CPU time, for one thread each;
//! - [`layout`]: who lies where in the root's table;
//! - [`archive`], [`program`]: the boot archive, and the ELF files in it;
//! - [`kernel`]: the calls the root server makes; [`report`]: what it prints.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod archive;
pub mod buddy;
pub mod contexts;
pub mod end;
pub mod kernel;
pub mod layout;
pub mod process;
pub mod program;
pub mod report;
pub mod root;
pub mod service;
pub mod spawn;

#[cfg(test)]
mod tests;
