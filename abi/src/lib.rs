//! What the Anos kernel and its users agree on, defined once.
//!
//! - [`syscall`]: the five system calls and what each register carries;
//! - [`error`]: the closed set of errors;
//! - [`object`]: kinds of kernel objects, rights, and the methods each kind answers to;
//! - [`fault`]: what a fault looks like as a message;
//! - [`boot`]: what the kernel tells the root server, and the payload it starts it from.
//!
//! No dependencies, no unsafe, no allocation: the kernel, user programs and host tools all link this crate.
#![no_std]
#![forbid(unsafe_code)]

pub mod boot;
pub mod error;
pub mod fault;
pub mod object;
pub mod syscall;

pub use error::Error;
pub use object::{Kind, Rights};
pub use syscall::{Operation, Slots, Status, SystemCall};

/// Bytes in a page on both architectures.
pub const PAGE_SIZE: u64 = 4096;
/// Message words that travel in registers.
pub const MESSAGE_WORDS: usize = 8;
/// Bytes that the kernel's console takes at once: it waits for each to be sent.
pub const CONSOLE_BYTES: usize = 16;
/// The largest number of cores the data structures know.
pub const MAX_CORES: usize = 64;
