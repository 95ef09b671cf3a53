//! The program of `process/create_to_main`: as soon as its `main` is reached, it ends, and its exit code is when that was.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
anos::entry!(main);

#[cfg(anos_guest)]
fn main() -> u64 {
    anos_bench_program::stamp()
}

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this program is measured on Anos: cargo xtask bench");
}
