//! The shell: what somebody at the console talks to.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
mod shell;
#[cfg(anos_guest)]
mod show;

#[cfg(anos_guest)]
anos::entry!(shell::main);

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this program runs on Anos: cargo xtask run");
}
