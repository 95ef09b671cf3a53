//! A program that says hello, and uses a little of everything: arguments, heap, floating point, a thread.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
anos::entry!(main);

#[cfg(anos_guest)]
extern crate alloc;

#[cfg(anos_guest)]
fn main() -> Result<(), anos::Failure> {
    use alloc::vec::Vec;
    use anos::{env, println, thread};

    println!("Hello from process {} on {}!", env::pid(), env::architecture());
    let arguments: Vec<&str> = env::args().collect();
    if !arguments.is_empty() {
        println!("You said: {}", arguments.join(" "));
    }
    let helper = thread::spawn(|| (1..=100u32).map(|number| 1.0 / f64::from(number * number)).sum::<f64>())?;
    println!("A thread added up 100 terms and thinks that pi squared is about {:.3}.", helper.join()? * 6.0);
    Ok(())
}

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("this program runs on Anos: cargo xtask run");
}
