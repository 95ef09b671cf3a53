//! This program as a process: how it ends.

use core::fmt::Display;

use anos_interfaces::process::Request;

use crate::{env, eprintln, sys};

pub use anos_interfaces::process::PANIC_CODE;

/// Ends the program. 0 is success.
pub fn exit(code: u64) -> ! {
    if let Some(supervisor) = env::supervisor() {
        // There is no answer: the root server ends the process instead.
        let _ = supervisor.call(&Request::Exit { code }.message());
    }
    // The root server has nobody to end it; it just stops.
    loop {
        let _ = env::FIRST_THREAD.suspend();
        sys::yield_now();
    }
}

/// What `main` may return.
pub trait Termination {
    /// The exit code.
    fn code(self) -> u64;
}

impl Termination for () {
    fn code(self) -> u64 {
        0
    }
}

impl Termination for u64 {
    fn code(self) -> u64 {
        self
    }
}

impl Termination for core::convert::Infallible {
    fn code(self) -> u64 {
        match self {}
    }
}

impl<T: Termination, E: Display> Termination for Result<T, E> {
    fn code(self) -> u64 {
        match self {
            Ok(value) => value.code(),
            Err(error) => {
                eprintln!("{}: {error}", env::name());
                1
            }
        }
    }
}
