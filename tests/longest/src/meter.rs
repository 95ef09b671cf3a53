//! How long each visit was. On one core it goes from when a thread entered the kernel last to when one is back, whichever.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use anos::abi::{MESSAGE_WORDS, Operation, Slots, Status, SystemCall};
use anos::{Error, abi::syscall::FOREVER};

use crate::arch::{self, LAST_ENTRY, Passage};
use crate::marks::Mark;

/// The longest visit of each mark since [`reset`].
static LONGEST: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
/// Whose the visit is that goes on.
static CURRENT: AtomicU8 = AtomicU8::new(0);

/// A system call.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What it is for.
    pub mark: Mark,
    /// [`Operation`].
    pub operation: u64,
    /// The label.
    pub label: u64,
    /// [`Slots`].
    pub slots: u64,
    /// Slot of a Reply.
    pub reply: u64,
    /// When to give up.
    pub deadline: u64,
    /// The message's words.
    pub words: [u64; MESSAGE_WORDS],
}

impl Request {
    /// A call on the capability in a slot.
    pub fn new(mark: Mark, call: SystemCall, target: u32, words: &[u64]) -> Request {
        let mut all = [0; MESSAGE_WORDS];
        all.iter_mut().zip(words).for_each(|(to, from)| *to = *from);
        let operation = Operation::new(call, target).0;
        Request { mark, operation, label: 0, slots: 0, reply: 0, deadline: FOREVER, words: all }
    }

    /// The same, with a slot to pass from and one to receive into.
    pub fn with_slots(self, pass: u32, receive: u32) -> Request {
        Request { slots: Slots::new(pass, receive).0, ..self }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// How it went.
    pub status: Status,
    /// The label that came.
    pub label: u64,
    /// The words that came.
    pub words: [u64; MESSAGE_WORDS],
}

impl Answer {
    /// What a method says.
    pub fn result(&self) -> Result<[u64; MESSAGE_WORDS], Error> {
        self.status.result()?;
        Error::check(self.label)?;
        Ok(self.words)
    }
}

/// Makes a system call, and notes how long the visit was with which it came back.
pub fn call(request: &Request) -> Answer {
    let Request { mark, operation, label, slots, reply, deadline, words } = *request;
    let mut passage = Passage::default();
    let head = [operation, label, slots, reply, deadline];
    passage.iter_mut().zip(head.into_iter().chain(words)).for_each(|(to, from)| *to = from);
    enter(mark);
    // SAFETY: no request of this program changes its own memory, but that which trials map, and nobody uses.
    unsafe { arch::call(&mut passage) };
    let [status, label, _, _, _, words @ .., back, entered] = passage;
    note(back.wrapping_sub(entered));
    Answer { status: Status(status), label, words }
}

/// What comes is for this.
pub fn enter(mark: Mark) {
    CURRENT.store(mark.0, Ordering::Relaxed);
    arch::mark(mark.0.into());
}

/// A visit has ended.
fn note(instructions: u64) {
    let mark = usize::from(CURRENT.load(Ordering::Relaxed));
    if let Some(longest) = LONGEST.get(mark) {
        longest.fetch_max(instructions, Ordering::Relaxed);
    }
}

/// Runs for so many rounds; whenever the core was elsewhere in between, that was a visit.
pub fn run(rounds: u64) {
    for _ in 0..rounds {
        round();
    }
}

/// One of them. An interrupt can come between any two instructions: then others may have entered the kernel since, and
/// their stamp stays.
fn round() {
    let now = arch::counter();
    let before = LAST_ENTRY.load(Ordering::Relaxed);
    if before < now {
        note(now - before);
        enter(Mark::RUNS);
        let _ = LAST_ENTRY.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Has a fault.
pub fn fault() {
    enter(Mark::FAULT);
    LAST_ENTRY.store(arch::counter(), Ordering::Relaxed);
    arch::fault();
}

/// Forgets all visits.
pub fn reset() {
    for longest in &LONGEST {
        longest.store(0, Ordering::Relaxed);
    }
}

/// The longest visit of a mark.
pub fn longest(mark: Mark) -> u64 {
    LONGEST.get(usize::from(mark.0)).map_or(0, |longest| longest.load(Ordering::Relaxed))
}
