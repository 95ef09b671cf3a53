//! What a case works with: objects out of its own memory, slots, mappings, time. All of it is taken back afterwards.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anos::abi::PAGE_SIZE;
use anos::abi::boot::slot;
use anos::capability::{
    AddressSpace, CapTable, Capability, CounterValues, Frame, Look, Notification, PageTable, SchedContext,
    SchedControl, Slot, Thread, Untyped,
};
use anos::time::Instant;
use anos::{Error, Rights, env};

use crate::check::{Failure, Outcome};
use crate::supervisor::DEBUG;

/// The program's own table.
pub const TABLE: CapTable = env::OWN_TABLE;
/// The program's own address space.
pub const SPACE: AddressSpace = env::OWN_SPACE;
/// The Untyped that a case makes everything from.
pub const MEMORY: Untyped = Untyped::at(Slot::new(512));
/// Its pages: room for two large pages, wherever it begins.
pub const MEMORY_PAGES: u64 = 2048;
/// The slots that a case may use.
pub const SLOTS: Range<u32> = 1024..4096;

/// Read and write.
pub const READ_WRITE: Rights = Rights::READ.union(Rights::WRITE);
/// Read and execute.
pub const READ_EXECUTE: Rights = Rights::READ.union(Rights::EXECUTE);

/// Where cases map memory into the program's own address space.
const WINDOWS: u64 = 0x8_0000_0000;
/// From one mapping to the next: each has page tables and guards of its own.
const WINDOW_STRIDE: u64 = 4 << 20;

/// Words that the threads of a case share; all 0 when a case starts.
static SHARED: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
/// The next free slot.
static NEXT_SLOT: AtomicU32 = AtomicU32::new(SLOTS.start);

/// A number as an index or address: they have the same size.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits on both architectures")]
pub const fn to_usize(number: u64) -> usize {
    number as usize
}

/// A word that the threads of a case share; 0 when the case starts.
pub fn shared(index: u64) -> &'static AtomicU64 {
    SHARED.get(to_usize(index)).unwrap_or(&SHARED[0])
}

/// Adds one to a shared word, and says what it was.
pub fn ticket(index: u64) -> u64 {
    shared(index).fetch_add(1, Ordering::SeqCst)
}

/// Adds one to a shared word.
pub fn count(index: u64) {
    ticket(index);
}

/// What a shared word holds.
pub fn shared_value(index: u64) -> u64 {
    shared(index).load(Ordering::SeqCst)
}

/// Nanoseconds since the kernel started.
pub fn now() -> u64 {
    Instant::now().nanoseconds()
}

/// The time in so many milliseconds.
pub fn in_ms(milliseconds: u64) -> u64 {
    now() + milliseconds * 1_000_000
}

/// How long a case waits for what must happen, ms. The machine under this one may be busy with something else.
pub const PATIENCE_MS: u64 = 15_000;

/// How often a case tries what must be done before a deadline. The machine under this one may stand still for seconds;
/// it does not each time.
pub const ROUNDS: u64 = 5;

/// Computes until the condition holds; false if it doesn't in [`PATIENCE_MS`].
pub fn spin(condition: impl Fn() -> bool) -> bool {
    spin_until(PATIENCE_MS, condition)
}

/// Computes until the condition holds; false if it doesn't in so many milliseconds.
pub fn spin_until(milliseconds: u64, condition: impl Fn() -> bool) -> bool {
    let end = in_ms(milliseconds);
    loop {
        if condition() {
            return true;
        }
        if now() > end {
            return false;
        }
        core::hint::spin_loop();
    }
}

/// The right to place threads on a core.
pub fn core(number: u64) -> SchedControl {
    let [low, ..] = number.to_le_bytes();
    SchedControl::at(Slot::new(slot::SCHED_CONTROL + u32::from(low)))
}

/// What all cores have done.
pub fn counters() -> Result<CounterValues, Error> {
    let mut sum = CounterValues::default();
    for core in 0..env::cores() {
        let counters = DEBUG.counters(core)?;
        sum.system_calls += counters.system_calls;
        sum.interrupts += counters.interrupts;
        sum.faults += counters.faults;
        sum.switches += counters.switches;
        sum.kicks += counters.kicks;
        sum.shootdowns += counters.shootdowns;
        sum.locks_taken += counters.locks_taken;
        sum.locks_waited += counters.locks_waited;
    }
    Ok(sum)
}

/// A fresh start for the next case.
pub fn reset() {
    SHARED.iter().for_each(|word| word.store(0, Ordering::SeqCst));
    NEXT_SLOT.store(SLOTS.start, Ordering::SeqCst);
}

/// The slots that the case has used.
pub fn used_slots() -> Range<u32> {
    SLOTS.start..NEXT_SLOT.load(Ordering::SeqCst)
}

/// What lies in a slot of the program's own table.
pub fn look(slot: Slot) -> Result<Look, Error> {
    TABLE.look(slot)
}

/// A piece of a case's memory, mapped into the program's own address space.
#[derive(Clone, Copy)]
pub struct Window {
    /// The Frame.
    pub frame: Frame,
    /// Where it is mapped.
    pub address: u64,
    words: u64,
}

impl Window {
    fn place(self, word: u64) -> *mut u64 {
        let word = word.min(self.words - 1);
        core::ptr::with_exposed_provenance_mut(to_usize(self.address + word * 8))
    }

    /// Reads a word (the last one, if there are fewer).
    pub fn read(self, word: u64) -> u64 {
        // SAFETY: mapped when the window was made, and nobody else's memory: nothing in Rust's view lies here. If the
        // case has unmapped it, the read faults, and that is what the suite is told.
        unsafe { self.place(word).read_volatile() }
    }

    /// Writes a word (the last one, if there are fewer).
    pub fn write(self, word: u64, value: u64) {
        // SAFETY: as in `read`.
        unsafe { self.place(word).write_volatile(value) }
    }

    /// Its words.
    pub fn words(self) -> impl Iterator<Item = u64> {
        (0..self.words).map(move |word| self.read(word))
    }
}

/// CPU time of several cores.
#[derive(Clone, Copy)]
pub struct Contexts {
    used: u64,
    contexts: [SchedContext; 4],
}

impl Contexts {
    /// The one of a core; of another, if there are fewer.
    pub fn of(&self, core: u64) -> SchedContext {
        let [first, ..] = self.contexts;
        self.contexts.get(to_usize(core % self.used.max(1))).copied().unwrap_or(first)
    }
}

/// A case that runs.
pub struct Case {
    /// Signalled by each helper when it is done, with a bit of its own.
    pub(crate) done: Option<Notification>,
    /// The bits that came.
    pub(crate) finished: u64,
    /// Helpers so far.
    pub(crate) helpers: usize,
    /// Signalled by nobody: what a sleep waits on.
    never: Option<Notification>,
    windows: u64,
}

impl Case {
    /// Nothing made yet.
    pub const fn new() -> Case {
        Case { done: None, finished: 0, helpers: 0, never: None, windows: 0 }
    }

    /// Waits for so many milliseconds: long enough for what should not happen to happen.
    pub fn sleep(&mut self, milliseconds: u64) -> Result<(), Error> {
        let never = match self.never {
            Some(never) => never,
            None => self.make()?,
        };
        self.never = Some(never);
        match never.wait(in_ms(milliseconds)) {
            Err(Error::TimedOut) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Lets others run until the condition holds; fails if it doesn't in [`PATIENCE_MS`].
    #[track_caller]
    pub fn eventually(&mut self, condition: impl Fn() -> bool) -> Outcome {
        let end = in_ms(PATIENCE_MS);
        while !condition() {
            if now() > end {
                return Err(Failure::new(format_args!("waited {PATIENCE_MS} ms in vain")));
            }
            self.sleep(1).map_err(|error| Failure::new(format_args!("sleep: {error}")))?;
        }
        Ok(())
    }

    /// A free slot.
    pub fn slot(&mut self) -> Slot {
        self.slots(1)
    }

    /// The first of so many free slots in a row.
    pub fn slots(&mut self, count: u32) -> Slot {
        Slot::new(NEXT_SLOT.fetch_add(count, Ordering::SeqCst))
    }

    /// The slots from this one on are free again: the case has emptied them.
    pub fn give_back(&mut self, from: Slot) {
        NEXT_SLOT.store(from.number(), Ordering::SeqCst);
    }

    /// A new object that has no size.
    pub fn make<T: Capability>(&mut self) -> Result<T, Error> {
        self.make_sized(0)
    }

    /// A new object. `size`: pages for Untyped and Frame, slots for CapTable, else 0.
    pub fn make_sized<T: Capability>(&mut self, size: u64) -> Result<T, Error> {
        MEMORY.make(size, self.slot())
    }

    /// A new Untyped, Frame or CapTable of the least size.
    pub fn make_small<T: Capability>(&mut self) -> Result<T, Error> {
        self.make_sized(if T::KIND == anos::Kind::CapTable { 64 } else { 1 })
    }

    /// CPU time of a core, without a limit.
    pub fn context(&mut self, on: u64) -> Result<SchedContext, Error> {
        core(on).make_context(MEMORY, self.slot())
    }

    /// Moves a thread to a core: gives it CPU time of that core.
    pub fn move_to(&mut self, thread: Thread, on: u64) -> Result<SchedContext, Error> {
        let context = self.context(on)?;
        thread.set_context(Some(context))?;
        Ok(context)
    }

    /// CPU time of the first cores, at most four, for a thread that moves around.
    pub fn contexts(&mut self) -> Result<Contexts, Error> {
        let mut all = Contexts { used: 0, contexts: [SchedContext::at(Slot::new(0)); 4] };
        for (on, place) in (0..env::cores()).zip(&mut all.contexts) {
            *place = self.context(on)?;
            all.used += 1;
        }
        Ok(all)
    }

    /// A copy of a capability with at most these rights.
    pub fn copy<T: Capability>(&mut self, of: T, rights: Rights) -> Result<T, Error> {
        let slot = self.slot();
        TABLE.copy(of.slot(), slot, rights)?;
        Ok(T::from_slot(slot))
    }

    /// A copy of a capability with a badge.
    pub fn mint<T: Capability>(&mut self, of: T, rights: Rights, badge: u64) -> Result<T, Error> {
        let slot = self.slot();
        TABLE.mint(of.slot(), slot, rights, badge)?;
        Ok(T::from_slot(slot))
    }

    /// Maps a Frame, with all tables that it takes.
    pub fn map(&mut self, frame: Frame, space: AddressSpace, address: u64, rights: Rights) -> Result<(), Error> {
        loop {
            match frame.map(space, address, rights, false) {
                Err(Error::MissingTable) => self.add_table(space, address)?,
                done => return done,
            }
        }
    }

    /// Makes the highest table that is missing for an address.
    pub fn add_table(&mut self, space: AddressSpace, address: u64) -> Result<(), Error> {
        let table: PageTable = self.make()?;
        for level in 1..env::boot_info().map_or(4, |info| info.paging_levels) {
            match table.map(space, address, level) {
                Err(Error::MissingTable) => {}
                done => return done,
            }
        }
        Err(Error::MissingTable)
    }

    /// An address of the program's own space at which nothing is mapped, nor anywhere near: a multiple of 2 MiB.
    pub fn free_address(&mut self) -> u64 {
        self.windows += 1;
        WINDOWS + self.windows * WINDOW_STRIDE
    }

    /// Fresh memory, readable and writable.
    pub fn window(&mut self, pages: u64) -> Result<Window, Error> {
        let frame = self.make_sized(pages)?;
        self.window_of(frame)
    }

    /// A Frame, mapped readable and writable.
    pub fn window_of(&mut self, frame: Frame) -> Result<Window, Error> {
        let address = self.free_address();
        self.map(frame, SPACE, address, READ_WRITE)?;
        Ok(Window { frame, address, words: frame.info()?.pages * PAGE_SIZE / 8 })
    }
}
