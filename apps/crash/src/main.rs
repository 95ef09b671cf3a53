//! Does something wrong, in the way that its argument names: the system must survive each.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
mod arch;
#[cfg(anos_guest)]
mod wrong;

#[cfg(anos_guest)]
anos::entry!(wrong::main);

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this program runs on Anos: cargo xtask run");
}
