//! The shell, without the system around it: editing a line, and reading a command from it.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod command;
pub mod editor;
pub mod units;
