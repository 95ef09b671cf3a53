//! The kernel's locks and its core in every order, or in many. See `book/testing.md`.
#![cfg(any(loom, shuttle))]

#[cfg(shuttle)]
mod crowd;
mod explorer;
#[cfg(loom)]
mod homes;
#[cfg(loom)]
mod locks;
mod machine;
#[cfg(loom)]
mod presence;
mod scenes;
