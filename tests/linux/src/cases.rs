//! What is measured. Processes have next to nothing in them, which makes everything about them as cheap as it gets.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::{INSTRUCTIONS_PER_TICK, SPIN_INSTRUCTIONS, spin};
use crate::figures::{BATCHES, Figure, instructions_of, measure};
use crate::linux::{self, File, Fork, Name, Outcome, Policy, Region, Sharing};
use crate::say;

/// Rounds of a batch of what is cheap: enough that a tick of the counter is little beside them.
const MANY: u64 = 200;
/// Rounds of a batch of what is dear.
const SOME: u64 = 10;

/// What goes through pipes and sockets: a word.
type Word = [u8; 8];

/// Measures everything, and says what came of it.
pub fn measure_all() {
    let mut report = Report { measured: 0, failed: 0 };
    match prepare() {
        Ok(overhead) => {
            report.add("linux/null_call", null_call(overhead));
            report.add("linux/eventfd_write", eventfd_write(overhead));
            report.add("linux/sched_yield", sched_yield(overhead));
            report.add("linux/pipe_round_trip", pipe_round_trip(overhead));
            report.add("linux/socket_round_trip", socket_round_trip(overhead));
            report.add("linux/page_fault", page_fault());
            report.add("linux/fork_exit_wait", fork_exit_wait());
            report.add("linux/fork_exec_exit_wait", fork_exec_exit_wait());
        }
        Err(failure) => report.add("linux/null_call", Err(failure)),
    }
    say::line(format_args!("{} measured, {} failed", report.measured, report.failed));
}

/// How many figures there are, and how many there should be too.
struct Report {
    measured: u32,
    failed: u32,
}

impl Report {
    fn add(&mut self, name: &str, figure: Outcome<Figure>) {
        match figure {
            Ok(Figure { min, median, max }) => {
                self.measured += 1;
                say::line(format_args!("figure {name} instructions {min} {median} {max} {BATCHES}"));
            }
            Err(failure) => {
                self.failed += 1;
                say::line(format_args!("FAILED {name}: {failure}"));
            }
        }
    }
}

/// Says which Linux this is, and answers what a round costs that makes no system call.
fn prepare() -> Outcome<u64> {
    say::line(format_args!("kernel {}", Name::of_this()?.release()));
    counter_counts_instructions()?;
    Ok(measure(MANY, 0, || linux::like_getppid().map(drop), nothing)?.median)
}

/// Panics if the counter counts something else than instructions: then nothing that follows would be true.
fn counter_counts_instructions() -> Outcome {
    const ROUNDS: u64 = 50_000;
    const TRIES: u64 = 10;
    let expected = ROUNDS * SPIN_INSTRUCTIONS;
    let mut least = u64::MAX;
    // An interrupt can only make it more.
    for _ in 0..TRIES {
        let counted = instructions_of(|| {
            spin(ROUNDS);
            Ok(())
        })?;
        least = least.min(counted);
    }
    let slack = INSTRUCTIONS_PER_TICK + 10;
    assert!(least.abs_diff(expected) <= slack, "the counter says {least} after {expected} instructions");
    Ok(())
}

fn nothing() -> Outcome {
    Ok(())
}

fn null_call(overhead: u64) -> Outcome<Figure> {
    measure(MANY, overhead, || linux::getppid().map(drop), nothing)
}

/// Adds to a counter that nobody waits for.
fn eventfd_write(overhead: u64) -> Outcome<Figure> {
    let event = linux::eventfd()?;
    let one = 1_u64.to_ne_bytes();
    measure(MANY, overhead, || linux::write(event, &one).map(drop), nothing)
}

/// One switch from one process to the other, of two that yield in turn.
fn sched_yield(overhead: u64) -> Outcome<Figure> {
    linux::sched_setscheduler(Policy::InTurn)?;
    let turns = Region::new(1, Sharing::Shared)?.into_number();
    let peer = Peer::start(|| take_turns(turns))?;
    let mut before = turns.load(Ordering::Relaxed);
    // Here and back are two switches.
    let round_trip = measure(MANY, 2 * overhead, linux::sched_yield, || {
        let now = turns.load(Ordering::Relaxed);
        assert!(now - before >= MANY, "there were {} switches in {MANY} rounds", now - before);
        before = now;
        Ok(())
    });
    peer.end()?;
    linux::sched_setscheduler(Policy::Shares)?;
    let Figure { min, median, max } = round_trip?;
    Ok(Figure { min: min / 2, median: median / 2, max: max / 2 })
}

/// Counts its turns.
fn take_turns(turns: &AtomicU64) -> Outcome {
    loop {
        turns.fetch_add(1, Ordering::Relaxed);
        linux::sched_yield()?;
    }
}

/// A word to another process and back, through two pipes.
fn pipe_round_trip(overhead: u64) -> Outcome<Figure> {
    let [there_from, there_to] = linux::pipe()?;
    let [back_from, back_to] = linux::pipe()?;
    let peer = Peer::start(|| echo(there_from, back_to))?;
    let figure = measure(SOME, overhead, || round_trip(there_to, back_from), nothing);
    peer.end()?;
    figure
}

/// A word to another process and back, through two sockets.
fn socket_round_trip(overhead: u64) -> Outcome<Figure> {
    let [ours, its] = linux::socketpair()?;
    let peer = Peer::start(|| echo(its, its))?;
    let figure = measure(SOME, overhead, || round_trip(ours, ours), nothing);
    peer.end()?;
    figure
}

#[inline(always)]
fn round_trip(to: File, from: File) -> Outcome {
    let mut word = Word::default();
    linux::write(to, &word)?;
    linux::read(from, &mut word)?;
    Ok(())
}

/// Sends back what comes.
fn echo(from: File, to: File) -> Outcome {
    let mut word = Word::default();
    loop {
        linux::read(from, &mut word)?;
        linux::write(to, &word)?;
    }
}

/// The first write to an anonymous page, where the page table exists.
fn page_fault() -> Outcome<Figure> {
    // Few enough that they are not made into a large page.
    const PAGES: usize = 16;
    let region = Region::new(PAGES, Sharing::Private)?;
    let touch_all = || {
        region.touch();
        Ok(())
    };
    let Figure { min, median, max } = measure(1, 0, touch_all, || region.forget())?;
    let each = |all: u64| all / PAGES as u64;
    Ok(Figure { min: each(min), median: each(median), max: each(max) })
}

/// A process that ends at once, and is waited for.
fn fork_exit_wait() -> Outcome<Figure> {
    measure(1, 0, || process(|| linux::exit(0)), nothing)
}

/// The same, but it first becomes another program: this one, which sees that and ends.
fn fork_exec_exit_wait() -> Outcome<Figure> {
    measure(1, 0, || process(|| panic!("{}", linux::execve(c"/init", [c"/init", c"end"]))), nothing)
}

#[inline(always)]
fn process(child: impl FnOnce() -> Outcome) -> Outcome {
    match linux::fork()? {
        Fork::Child => child(),
        Fork::Parent(child) => linux::wait(child),
    }
}

/// A second process.
struct Peer(usize);

impl Peer {
    /// It does this until it is ended.
    fn start(work: impl FnOnce() -> Outcome) -> Outcome<Peer> {
        match linux::fork()? {
            Fork::Child => panic!("the second process ended: {:?}", work()),
            Fork::Parent(child) => Ok(Peer(child)),
        }
    }

    fn end(self) -> Outcome {
        linux::kill(self.0)?;
        linux::wait(self.0)
    }
}
