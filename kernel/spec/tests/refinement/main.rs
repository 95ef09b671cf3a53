//! Refinement: whatever programs and devices do, the kernel and its specification stay in the same state, and answer
//! the same.
//!
//! - [`random`]: several programs on one to three cores make plausible and absurd system calls, use memory, fault;
//!   interrupts come, time passes;
//! - [`exhaustive`]: all short sequences over a small set of calls, in a small prepared system;
//! - [`long`]: work that takes many steps;
//! - [`damage`]: that a difference, if there were one, would be reported.
//!
//! A failing random run prints its seed: `ANOS_SEED=n cargo test -p anos-spec` plays exactly that one again;
//! `ANOS_STEPS=n` sets how many steps each test takes in all.

mod abstraction;
mod damage;
mod exhaustive;
mod long;
mod pair;
mod random;

/// The generator of the kernel's own random test: what it learns to ask for, the specification must learn to answer.
#[path = "../../../arch/sim/tests/random/generate.rs"]
mod generate;
