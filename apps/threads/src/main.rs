//! Counts primes with several threads, one on each core unless its argument says how many.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
mod count;

#[cfg(anos_guest)]
anos::entry!(count::main);

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this program runs on Anos: cargo xtask run");
}
