//! The console server as a process.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
mod serve;

#[cfg(anos_guest)]
anos::entry!(serve::main);

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this program runs on Anos: cargo xtask run");
}
