//! The figures, by category, and how they are measured one after the other.

use alloc::format;

use anos::abi::boot::slot;
use anos::capability::{Debug, Slot};
use anos::{env, println};

use crate::arch::{EXACT_INSTRUCTIONS, Entry};
use crate::figures::{Failure, Figure, Outcome, there_and_back};
use crate::record::{Record, Request};
use crate::scaling;
use crate::stage::{Place, RUNS, Stage, WARM_UP, make_heap, signal_done};

mod calls;
mod faults;
mod interrupts;
pub mod ipc;
mod memory;
mod notify;
mod objects;
mod processes;
mod sched;
mod threads;

/// All runs of a figure.
const ROUNDS: u64 = RUNS + WARM_UP;

/// A figure: its name, and how it is measured.
pub struct Measurement {
    /// The name. It stays: figures of different times are compared by it.
    pub name: &'static str,
    /// Measures, and gives the instructions of each run.
    pub function: fn(&mut Stage) -> Outcome,
}

/// The list of a category's figures.
macro_rules! measurements {
    ($($name:literal: $function:expr,)*) => {
        /// The figures of this category.
        pub const MEASUREMENTS: &[$crate::cases::Measurement] =
            &[$($crate::cases::Measurement { name: $name, function: $function }),*];
    };
}
pub(crate) use measurements;

const ALL: &[&[Measurement]] = &[
    ipc::MEASUREMENTS,
    notify::MEASUREMENTS,
    calls::MEASUREMENTS,
    sched::MEASUREMENTS,
    interrupts::MEASUREMENTS,
    faults::MEASUREMENTS,
    objects::MEASUREMENTS,
    threads::MEASUREMENTS,
    processes::MEASUREMENTS,
];

/// The kernel's console and power switch.
pub const DEBUG: Debug = Debug::at(Slot::new(slot::DEBUG));

/// Measures everything, and switches the machine off. `scaling=HOW` on the command line wants [`scaling`] instead.
pub fn main() {
    let (measured, failed) = match env::command_line().find_map(|word| word.strip_prefix("scaling=")) {
        Some(how) => scaling::main(how),
        None => measure_all(),
    };
    println!("anos-bench: {measured} measured, {failed} failed");
    let error = DEBUG.reset(false);
    println!("anos-bench: power off: {error}");
}

/// Measures all figures of one core that the command line asks for. Answers how many there are, and how many failed.
fn measure_all() -> (u64, u64) {
    let (mut measured, mut failed) = (0, 0);
    let set_up = make_heap().map_err(Failure::from).and_then(|()| Ok(Stage::new()?));
    match set_up.and_then(|mut stage| calibrate(&mut stage).map(|()| stage)) {
        Ok(mut stage) => {
            for measurement in ALL.iter().copied().flatten().filter(|measurement| is_wanted(measurement.name)) {
                let good = measure(&mut stage, measurement);
                if good { measured += 1 } else { failed += 1 }
            }
            for (name, function) in memory::MEASUREMENTS.iter().filter(|(name, _)| is_wanted(name)) {
                let once = |bytes| Figure { min: bytes, median: bytes, max: bytes, runs: 1 };
                let outcome = function(&mut stage).map(once);
                let good = tell(&mut stage, name, "bytes", outcome);
                if good { measured += 1 } else { failed += 1 }
            }
        }
        Err(failure) => {
            failed += 1;
            println!("FAILED set up: {failure}");
        }
    }
    (measured, failed)
}

/// Whether the command line asks for this figure: `filter=TEXT` wants those whose names contain it.
pub fn is_wanted(name: &str) -> bool {
    let filter = env::command_line().find_map(|word| word.strip_prefix("filter="));
    filter.is_none_or(|filter| name.contains(filter))
}

fn measure(stage: &mut Stage, measurement: &Measurement) -> bool {
    let outcome = (measurement.function)(stage).and_then(|samples| Figure::of(&samples));
    tell(stage, measurement.name, "instructions", outcome)
}

/// Says what came of a measurement, and clears the stage. Answers whether all went well.
fn tell(stage: &mut Stage, name: &str, unit: &str, outcome: Outcome<Figure>) -> bool {
    let cleared = stage.clear();
    match outcome.and_then(|figure| Ok(cleared.map(|()| figure)?)) {
        Ok(Figure { min, median, max, runs }) => {
            println!("figure {name} {unit} {min} {median} {max} {runs}");
            true
        }
        Err(failure) => {
            println!("FAILED {name}: {failure}");
            false
        }
    }
}

/// Finds out what two stamps cost, and makes sure that the counter counts instructions.
fn calibrate(stage: &mut Stage) -> Outcome<()> {
    let cost = |stage: &mut Stage, entry| -> Outcome<u64> {
        let samples = alone(stage, entry, Record::default())?;
        let Figure { min, max, .. } = Figure::of(&samples)?;
        stage.clear()?;
        if min == max { Ok(min) } else { Err(Failure("two stamps are not always equally far apart".into())) }
    };
    let overhead = cost(stage, Entry::Nothing)?;
    stage.overhead = overhead;
    let exact = cost(stage, Entry::Exact)?;
    if exact != EXACT_INSTRUCTIONS {
        let what = format!("the counter counts {exact} for {EXACT_INSTRUCTIONS} instructions: not under icount?");
        return Err(Failure(what));
    }
    println!("overhead {overhead}");
    Ok(())
}

/// Measures with one thread, from each start to its own end.
fn alone(stage: &mut Stage, entry: Entry, record: Record) -> Outcome {
    let worker = stage.worker(Place::Here, 100, entry, Record { rounds: ROUNDS, last: signal_done(), ..record })?;
    worker.start()?;
    stage.run()?;
    Ok(there_and_back(&worker.samples(), stage.overhead))
}

/// Measures a system call that is made again and again, with another in between; both must succeed.
fn repeated(stage: &mut Stage, measured: Request, between: Request) -> Outcome {
    let between = [between, Request::default()];
    let record = Record { measured, between, ..Record::default() };
    alone(stage, Entry::Call, record)
}
