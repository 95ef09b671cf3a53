//! Burns CPU time until it is ended: what preemption and Ctrl-C are for. With an argument: for so many seconds.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
anos::entry!(main);

#[cfg(anos_guest)]
fn main() -> u64 {
    use anos::time::Instant;
    use anos::{env, println};
    use core::time::Duration;

    let seconds = match env::args().next() {
        None => None,
        Some(argument) => match argument.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => {
                println!("spin: expected a number of seconds, found '{argument}'");
                return 2;
            }
        },
    };
    if seconds.is_none() {
        println!("Spinning. Ctrl-C ends it, or 'kill {}' if it is in the background.", env::pid());
    }
    let start = Instant::now();
    while seconds.is_none_or(|seconds| start.elapsed() < seconds) {
        core::hint::spin_loop();
    }
    0
}

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this program runs on Anos: cargo xtask run");
}
