//! Searches for the longest visit to the kernel: so long interrupts stay off.
//!
//! It is the root server of the image that `cargo xtask longest` boots under `-icount shift=0`, with tools/probe looking
//! on. A *trial* is a list of steps with numbers: objects are made, copied, mapped, threads set to wait for each other, and
//! all of it is called, changed and taken away again, in whatever state it is. What each visit takes is measured here, and
//! what a visit was for has a number, its *mark*. For every mark the trial with the longest visit is kept; new trials are
//! kept ones, changed a little, or random ones. So the longest get longer: a hill is climbed, from many places at once.
//! In the end each is made shorter as long as its visit stays as long: what is left is what it takes.
//!
//! The search's own measure only guides it. What counts is what tools/probe has counted.
//!
//! ```text
//! name 66 FrameMap
//! better 17 FrameMap 10234
//! longest 66 10234 2 | a Frame of 512 pages is mapped
//! trial 66 0101000000:0300000000
//! anos-longest: 400 trials, 34 marks
//! ```
//!
//! - [`arch`]: entering the kernel between two stamps, and marks;
//! - [`meter`]: how long each visit was; [`marks`]: what it was for;
//! - [`gene`](mod@gene): a step, as numbers; [`trial`] and [`puppet`]: what it does;
//! - [`search`]: which trials are made.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
extern crate alloc;

#[cfg(anos_guest)]
mod arch;
#[cfg(anos_guest)]
mod gene;
#[cfg(anos_guest)]
mod marks;
#[cfg(anos_guest)]
mod meter;
#[cfg(anos_guest)]
mod puppet;
#[cfg(anos_guest)]
mod random;
#[cfg(anos_guest)]
mod search;
#[cfg(anos_guest)]
mod trial;

#[cfg(anos_guest)]
anos::entry!(search::main);

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this searches in Anos itself: cargo xtask longest");
}
