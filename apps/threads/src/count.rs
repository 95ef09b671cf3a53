//! The counting: thread `n` of `m` takes every `m`-th number.

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;

use anos::thread::{Builder, JoinHandle};
use anos::time::Instant;
use anos::{Failure, env, println};

/// Numbers to look at.
const NUMBERS: u32 = 200_000;
/// The most threads: each needs memory of the program's quota.
const MOST: u32 = 8;

/// Counts, with one thread and then with all.
pub fn main() -> Result<u64, Failure> {
    let cores = u32::try_from(env::cores()).unwrap_or(1);
    let threads = match env::args().next() {
        None => cores.min(MOST),
        Some(argument) => match argument.parse() {
            Ok(threads @ 1..=MOST) => threads,
            _ => {
                println!("threads: expected a number of threads from 1 to {MOST}, found '{argument}'");
                return Ok(2);
            }
        },
    };
    let start = Instant::now();
    let alone = count(0, 1);
    println!("1 thread:  {alone} primes below {NUMBERS} in {} ms", start.elapsed().as_millis());
    let start = Instant::now();
    let mut workers: Vec<JoinHandle<u32>> = Vec::new();
    for index in 0..threads {
        let builder = Builder::new().name(&format!("worker {index}")).core(index % cores);
        workers.push(builder.spawn(move || count(index, threads))?);
    }
    let mut together = 0;
    for worker in workers {
        together += worker.join()?;
    }
    println!(
        "{threads} threads: {together} primes on {} cores in {} ms",
        cores.min(threads),
        start.elapsed().as_millis()
    );
    Ok(u64::from(together != alone))
}

/// Primes among the numbers that are this thread's.
fn count(index: u32, threads: u32) -> u32 {
    // Odd and even numbers shared fairly: one thread gets a stretch of both.
    (0..NUMBERS).filter(|number| number / 2 % threads == index && is_prime(*number)).fold(0, |count, _| count + 1)
}

fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}
