//! Threads of a trial: each makes a few system calls and is done.
//!
//! Being done is a fault: with nobody to tell it stops, whatever has become of its capabilities.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use anos::abi::MESSAGE_WORDS;

use crate::marks::Mark;
use crate::meter::{self, Request};

/// The most threads of a trial.
pub const MOST: usize = 128;
/// System calls of one.
pub const CALLS: usize = 2;
/// Bytes of a stack.
const STACK: usize = 4096;
/// Words of a request.
const WORDS: usize = 5 + MESSAGE_WORDS;

/// What a thread does.
struct Job {
    marks: [AtomicU8; CALLS],
    requests: [[AtomicU64; WORDS]; CALLS],
    /// Rounds that it runs before that.
    rounds: AtomicU64,
}

#[expect(clippy::declare_interior_mutable_const, reason = "it is what the array is filled with")]
const NOTHING: Job = Job {
    marks: [const { AtomicU8::new(0) }; CALLS],
    requests: [const { [const { AtomicU64::new(0) }; WORDS] }; CALLS],
    rounds: AtomicU64::new(0),
};

static JOBS: [Job; MOST] = [NOTHING; MOST];

/// Stacks.
#[repr(align(4096))]
struct Stacks(UnsafeCell<[[u8; STACK]; MOST]>);

// SAFETY: each thread has one of them, and nobody else looks.
unsafe impl Sync for Stacks {}

static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK]; MOST]));

/// The top of a thread's stack.
pub fn stack_top(number: usize) -> u64 {
    (STACKS.0.get() as usize + (number + 1) * STACK) as u64
}

/// Says what a thread is to do when it starts.
pub fn instruct(number: usize, rounds: u64, requests: &[Request]) {
    let Some(job) = JOBS.get(number) else { return };
    job.rounds.store(rounds, Ordering::Relaxed);
    for (at, (mark, words)) in job.marks.iter().zip(&job.requests).enumerate() {
        let Some(request) = requests.get(at) else {
            mark.store(0, Ordering::Relaxed);
            continue;
        };
        mark.store(request.mark.0, Ordering::Relaxed);
        let head = [request.operation, request.label, request.slots, request.reply, request.deadline];
        words
            .iter()
            .zip(head.into_iter().chain(request.words))
            .for_each(|(to, from)| to.store(from, Ordering::Relaxed));
    }
}

/// A thread's life. `crate::arch` calls it.
pub extern "C" fn run(number: usize) -> ! {
    if let Some(job) = JOBS.get(number) {
        meter::run(job.rounds.load(Ordering::Relaxed));
        for (mark, words) in job.marks.iter().zip(&job.requests) {
            let mark = Mark(mark.load(Ordering::Relaxed));
            if mark != Mark::NONE {
                let [operation, label, slots, reply, deadline, words @ ..] =
                    words.each_ref().map(|word| word.load(Ordering::Relaxed));
                meter::call(&Request { mark, operation, label, slots, reply, deadline, words });
            }
        }
    }
    loop {
        meter::fault();
    }
}
