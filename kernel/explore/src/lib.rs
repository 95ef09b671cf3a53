//! The kernel's locks and its core, run in every order: the atomics that make that possible.
//!
//! An explorer runs a test over and over, and each time lets its threads take turns in another way. For that, it must see
//! every access to what they share. Compiled with `--cfg loom` or `--cfg shuttle`, `anos-machine` takes its atomics from
//! here instead of from `core`; nothing else about the kernel differs. The tests themselves are in `tests`; without these
//! flags, this crate is empty.
//!
//! - [loom](https://docs.rs/loom) goes through all orders of two threads, and through what each load may see by the rules
//!   of weak memory;
//! - [shuttle](https://docs.rs/shuttle) draws orders by lot, of longer runs of more threads.
#![cfg_attr(not(any(loom, shuttle)), no_std)]

#[cfg(any(loom, shuttle))]
pub mod atomic;
