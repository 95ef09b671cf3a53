//! What the kernel knows outside of memory: a little per core, and a little for all.

use anos_machine::{Fresh, Queue, Ref, Thread};

use crate::bounds::{MAX_INTERRUPTS, PRIORITIES, TAGS, TIMER_BUCKETS};

/// One core's state, guarded by its lock.
#[derive(Debug)]
pub struct CoreState {
    /// The thread that runs; none while idle.
    pub current: Ref<Thread>,
    /// The root table loaded, or 0 for the kernel's own.
    pub loaded: u64,
    /// Whose translations the processor may still know under each tag but the kernel's own, 0.
    pub tags: [Tag; TAGS],
    /// Threads that could run, by priority.
    pub ready: [Queue; PRIORITIES],
    /// One bit for each queue that isn't empty.
    pub ready_bits: [u64; PRIORITIES / 64],
    /// How many threads stand in these queues.
    pub ready_count: u64,
    /// Threads that wait with a deadline: see `deadline.rs`.
    pub timers: Timers,
    /// When the current thread's turn ends, ns.
    pub turn_end: u64,
    /// The current thread has had its turn: others of its priority come first.
    pub turn_over: bool,
    /// Since when the current thread (or idleness) has not been accounted for, ns.
    pub since: u64,
    /// What the timer is set to.
    pub timer: u64,
    /// Time spent idle, ns.
    pub idle_time: u64,
    /// Counters, for people.
    pub counters: Counters,
}

/// Translations that a core may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The id of the address space.
    pub space: u64,
    /// Its version: none of a later one is known.
    pub version: u32,
}

/// What a core has done so far.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// System calls.
    pub calls: u64,
    /// Interrupts, timers included.
    pub interrupts: u64,
    /// Faults of user programs.
    pub faults: u64,
    /// Switches from one thread to another.
    pub switches: u64,
    /// Inter-core interrupts sent.
    pub kicks: u64,
    /// TLB shootdowns asked of other cores.
    pub shootdowns: u64,
    /// Locks taken, by visits that went through.
    pub locks: u64,
    /// How many of them had to be waited for.
    pub waits: u64,
    /// Switches on the short way (`quick`): each also a switch, and a lock taken.
    pub quick: u64,
}

impl Counters {
    /// With what went the short way counted as what it is.
    pub fn whole(self) -> Counters {
        let Counters { switches, locks, quick, .. } = self;
        Counters { switches: switches + quick, locks: locks + quick, ..self }
    }
}

/// Deadlines of one core, in buckets: see `deadline.rs`.
#[derive(Debug)]
pub struct Timers {
    /// The time that the buckets refer to.
    pub last: u64,
    /// The first thread of each bucket.
    pub heads: [Ref<Thread>; TIMER_BUCKETS],
    /// One bit for each bucket that isn't empty.
    pub bits: u64,
    /// The bucket that is being spread over the lower ones; 0: none.
    pub draining: u8,
}

impl Fresh for CoreState {
    const FRESH: Self = CoreState {
        current: Ref::NONE,
        loaded: 0,
        tags: [Tag { space: 0, version: 0 }; TAGS],
        ready: [Queue { head: Ref::NONE, tail: Ref::NONE }; PRIORITIES],
        ready_bits: [0; PRIORITIES / 64],
        ready_count: 0,
        timers: Timers { last: 0, heads: [Ref::NONE; TIMER_BUCKETS], bits: 0, draining: 0 },
        turn_end: 0,
        turn_over: false,
        since: 0,
        // Until the core starts it. All of this is zeros: it takes no space in the image.
        timer: 0,
        idle_time: 0,
        counters: Counters {
            calls: 0,
            interrupts: 0,
            faults: 0,
            switches: 0,
            kicks: 0,
            shootdowns: 0,
            locks: 0,
            waits: 0,
            quick: 0,
        },
    };
}

/// What all cores share, guarded by the boot core's lock.
#[derive(Debug)]
pub struct Global {
    /// The id of the last address space made.
    pub last_space: u64,
    /// The root server's first thread.
    pub root_thread: Ref<Thread>,
    /// Physical address of the kernel's own capability table: slot n holds the Notification that line n signals.
    pub interrupt_table: u64,
    /// One bit for each line with an Interrupt capability.
    pub interrupts_taken: [u64; MAX_INTERRUPTS / 64],
    /// One bit for each level-triggered line.
    pub interrupts_level: [u64; MAX_INTERRUPTS / 64],
}

impl Fresh for Global {
    const FRESH: Self = Global {
        last_space: 0,
        root_thread: Ref::NONE,
        interrupt_table: 0,
        interrupts_taken: [0; MAX_INTERRUPTS / 64],
        interrupts_level: [0; MAX_INTERRUPTS / 64],
    };
}
