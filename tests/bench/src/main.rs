//! Measures the kernel from inside, in instructions.
//!
//! It is the root server of the image that `cargo xtask bench` boots under `-icount shift=0`, where the processor's
//! counter goes up by one with each instruction. A figure is measured user to user: from just before the instruction
//! that enters the kernel on one side to just behind it on the other, less the cost of reading the counter. Each is said
//! on the kernel's console:
//!
//! ```text
//! overhead 6
//! figure ipc/call/inter/w0 instructions 212 212 215 1000
//! FAILED cap/mint: the answer's label is 0x7
//! anos-bench: 31 measured, 1 failed
//! ```
//!
//! - [`record`]: what a measuring thread does and what it has measured, in memory that all sides see;
//! - [`arch`]: the code that such a thread runs, all assembly, so that nothing stands between the stamps;
//! - [`stage`]: the threads, address spaces and objects of a figure;
//! - [`figures`]: samples from stamps, the figure from samples;
//! - [`cases`]: the figures, a file for each category;
//! - [`calls`]: the root server's calls, a file of `system/`, for the figure in which its code makes a process;
//! - [`scaling`]: clients and servers on all cores at once, when the command line asks for them.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
extern crate alloc;

#[cfg(anos_guest)]
mod arch;
#[cfg(anos_guest)]
#[path = "../../../system/src/calls.rs"]
mod calls;
#[cfg(anos_guest)]
mod cases;
#[cfg(anos_guest)]
mod figures;
#[cfg(anos_guest)]
mod record;
#[cfg(anos_guest)]
mod scaling;
#[cfg(anos_guest)]
mod stage;

#[cfg(anos_guest)]
anos::entry!(cases::main);

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this measures Anos from inside: cargo xtask bench");
}
