//! The protocols between programs: what a message means, for both sides. One file each.
//!
//! - [`start`]: the page that tells a program who it is and what it holds;
//! - [`serial`]: what a serial driver does for the server of its class;
//! - [`console`]: output and keys for programs;
//! - [`process`]: what the root server does for its programs, and for those that may manage others;
//! - [`message`], [`text`], [`failure`]: what all of them share.
//!
//! Everything here is pure: encode, decode, and nothing else. A method's number is its message's label; it is written
//! out, carries the protocol in its upper half, and is never used for anything else again.
//!
//! Whoever holds a capability to a server is known to it by the badge, which the root server made: see [`Badge`].
#![no_std]
#![forbid(unsafe_code)]

pub mod console;
pub mod failure;
pub mod message;
pub mod process;
pub mod serial;
pub mod start;
pub mod text;

pub use failure::{Failure, Refusal};
pub use message::{Badge, Message};
pub use text::{Bytes, Name};
