//! The 16550 driver as a process: one thread that takes requests and, by a Notification bound to it, interrupts.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
mod machine;

#[cfg(anos_guest)]
anos::entry!(machine::main);

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this program runs on Anos: cargo xtask run");
}
