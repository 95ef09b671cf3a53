//! The test suite that runs inside Anos.
//!
//! It is the root server of the image that `cargo xtask test` boots, so it holds all authority, and tries every kernel
//! object by itself. Each case says on the kernel's console how it ended:
//!
//! ```text
//! run ipc/a_call_carries_eight_words_both_ways
//! ok ipc/a_call_carries_eight_words_both_ways
//! FAILED reply/an_answer_goes_out_once: reply.rs:31: Ok(()), expected Err(PeerDied)
//! anos-test: 180 passed, 1 failed
//! ```
//!
//! - [`supervisor`]: runs the cases, watches them, cleans up after them;
//! - [`case`]: what a case works with; [`helper`], [`hands`] and [`confined`]: threads it can have;
//! - [`check`]: how it says that something is wrong;
//! - [`cases`]: the cases, a file for each category;
//! - [`arch`]: the few instructions that differ.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
mod arch;
#[cfg(anos_guest)]
mod case;
#[cfg(anos_guest)]
mod cases;
#[cfg(anos_guest)]
mod check;
#[cfg(anos_guest)]
mod confined;
#[cfg(anos_guest)]
mod hands;
#[cfg(anos_guest)]
mod helper;
#[cfg(anos_guest)]
mod supervisor;

#[cfg(anos_guest)]
anos::entry!(supervisor::main);

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this suite runs on Anos: cargo xtask test");
}
