//! The crate that programs link against.
//!
//! It reads like a small `std`: [`println!`], [`thread`], [`time`], [`env`], [`process`], a heap (with `alloc`). Under
//! that lie the system's own terms: [`capability`] has a type for each kind of kernel object, [`server`] the loop of a
//! program that answers requests, and [`sys`] the system call itself.
//!
//! A program is a `main` function and one line:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! anos::entry!(main);
//!
//! fn main() {
//!     anos::println!("Hello!");
//! }
//! ```
//!
//! The root server links it, too. What sets it apart is what it finds at the start page's address: the kernel's
//! BootInfo (see [`env::boot_info`]) instead of a [`StartInfo`](anos_interfaces::start::StartInfo), and that it must
//! say itself which memory the heap may use ([`memory::set_quota`]).
//!
//! On the host everything compiles, for lints and unit tests, but for what only a guest has: entry, panic handler and
//! global allocator (`cfg(anos_guest)`).
#![no_std]

extern crate alloc;

pub use anos_abi as abi;
pub use anos_abi::{Error, Kind, Rights};
pub use anos_interfaces as interfaces;
pub use anos_interfaces::{Badge, Failure, Message, Name, Refusal};

mod arch;
pub mod capability;
pub mod client;
pub mod console;
pub mod env;
mod heap;
pub mod memory;
#[cfg(all(anos_guest, target_arch = "x86_64"))]
mod memory_functions;
pub mod print;
pub mod process;
pub mod server;
pub mod slots;
#[cfg(anos_guest)]
mod start;
pub mod sync;
pub mod sys;
pub mod thread;
pub mod time;

/// Makes `main` the program's entry: a function without arguments that returns nothing, or an exit code (`u64`), or a
/// `Result` of these whose error can be shown.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// What the runtime calls once it is set up.
        #[unsafe(no_mangle)]
        extern "Rust" fn anos_main() -> u64 {
            $crate::process::Termination::code($main())
        }
    };
}
