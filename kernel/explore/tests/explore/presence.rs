//! Presence: a core takes a thread off another, or has it forget translations, with the real locks and the real
//! [`Presence`]. The two loops that wait (`bring_in` and `shoot_core` in `anos-core`) are repeated here, so that loom
//! gets to the end of all orders; `scenes.rs` has the originals.

use std::rc::Rc;

use anos_explore::atomic::{AtomicU8, Ordering};
use anos_machine::{CoreId, CoreSet, Fresh, Place, Shared};
use loom::cell::UnsafeCell;

use crate::explorer::{explore_all, thread};
use crate::locks::Nothing;

/// A core's state here.
#[derive(Debug)]
struct State {
    /// Its thread may not run.
    stopped: bool,
    /// Its thread's system calls that have been looked at.
    calls: u64,
}

impl Fresh for State {
    const FRESH: Self = State { stopped: false, calls: 0 };
}

/// What is wrong, to see that the exploration notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// The core does not say that it is in the kernel.
    NoKernel,
    /// It says so before its thread's registers are saved.
    LateSave,
    /// It says that it is in user mode when it has given its lock back.
    LateUser,
    /// It does not flush while it waits.
    NoFlush,
}

struct Stage {
    shared: Shared<State, Nothing>,
    flaw: Flaw,
    kicked: AtomicU8,
    over: AtomicU8,
    /// The thread's registers in memory: how many system calls it has made.
    registers: UnsafeCell<u64>,
    /// A page-table entry, and what core 1 knows of it (0: nothing).
    entry: AtomicU8,
    known: UnsafeCell<u8>,
    gone: AtomicU8,
}

const NEW: u8 = 1;
const OLD: u8 = 2;

fn one() -> CoreId {
    CoreId::new(1).expect("a core that could exist")
}

impl Stage {
    fn new(place: Place, flaw: Flaw) -> Rc<Stage> {
        let stage = Stage {
            shared: Shared::new(),
            flaw,
            kicked: AtomicU8::new(0),
            over: AtomicU8::new(0),
            registers: UnsafeCell::new(0),
            entry: AtomicU8::new(OLD),
            known: UnsafeCell::new(OLD),
            gone: AtomicU8::new(0),
        };
        for number in [&stage.kicked, &stage.over, &stage.entry, &stage.gone] {
            number.load(Ordering::SeqCst);
        }
        stage.shared.presence.set(one(), place);
        stage.shared.presence.must_flush(one());
        drop(stage.shared.hold(CoreId::BOOT, CoreSet(3), || unreachable!("nobody else is there")));
        Rc::new(stage)
    }

    /// Core 1: one system call, and whatever interrupts come, until the play is over.
    fn runs(&self, mut place: Place) {
        let mut made = false;
        loop {
            if place == Place::User {
                self.uses();
                let event = if self.kicked.load(Ordering::SeqCst) != 0 {
                    self.kicked.store(0, Ordering::SeqCst);
                    Place::Kernel
                } else if !made {
                    made = true;
                    Place::KernelWithCall
                } else if self.over.load(Ordering::SeqCst) != 0 {
                    return;
                } else {
                    thread::yield_now();
                    continue;
                };
                self.traps(event);
                place = self.visits(event);
            } else if place == Place::KernelWithCall {
                // Its thread was stopped.
                return;
            } else {
                place = self.visits(Place::Kernel);
            }
        }
    }

    fn traps(&self, event: Place) {
        let save = || {
            // SAFETY: loom sees to it that nobody else is there, or fails.
            self.registers.with_mut(|calls| unsafe { *calls += u64::from(event == Place::KernelWithCall) });
        };
        if self.flaw != Flaw::LateSave {
            save();
        }
        if self.flaw != Flaw::NoKernel {
            self.shared.presence.set(one(), event);
        }
        if self.flaw == Flaw::LateSave {
            save();
        }
    }

    /// Core 1 in the kernel. Answers `KernelWithCall` if its thread must not go on.
    fn visits(&self, event: Place) -> Place {
        let mut held = self.shared.hold(one(), CoreSet::NONE, || self.waits());
        let state = held.core(one()).expect("held");
        if state.stopped {
            self.shared.presence.set(one(), Place::Kernel);
            return Place::KernelWithCall;
        }
        state.calls += u64::from(event == Place::KernelWithCall);
        if self.flaw == Flaw::LateUser {
            drop(held);
        }
        self.shared.presence.set(one(), Place::User);
        Place::User
    }

    /// As `wait` in `anos-core`.
    fn waits(&self) {
        if self.shared.presence.must_flush(one()) && self.flaw != Flaw::NoFlush {
            // SAFETY: as above.
            self.known.with_mut(|known| unsafe { *known = 0 });
            self.shared.presence.flushed(one());
        }
        thread::yield_now();
    }

    /// Core 1's program uses its memory.
    fn uses(&self) {
        let gone = self.gone.load(Ordering::Acquire) != 0;
        // SAFETY: as above.
        let known = self.known.with(|known| unsafe { *known });
        let known = if known == 0 { self.entry.load(Ordering::Relaxed) } else { known };
        // SAFETY: as above.
        self.known.with_mut(|place| unsafe { *place = known });
        assert!(!gone || known == NEW, "memory is used that has been unmapped");
    }

    /// Core 0 takes the thread off core 1.
    fn stops(&self) {
        let mut held = self.shared.hold(CoreId::BOOT, CoreSet::only(one()), thread::yield_now);
        let presence = &self.shared.presence;
        if presence.get(one()) == Place::User {
            self.kicked.store(1, Ordering::SeqCst);
            while presence.get(one()) == Place::User {
                thread::yield_now();
            }
        }
        let place = presence.get(one());
        let state = held.core(one()).expect("held");
        state.stopped = true;
        let looked_at = state.calls;
        // SAFETY: as above.
        let made = self.registers.with(|calls| unsafe { *calls });
        let waits = u64::from(place == Place::KernelWithCall);
        assert_eq!(made, looked_at + waits, "a call was made, and nobody knows of it: {place:?}");
        drop(held);
        self.over.store(1, Ordering::SeqCst);
    }

    /// Core 0 changes the entry, and has core 1 forget the old one.
    fn shoots(&self) {
        let held = self.shared.hold(CoreId::BOOT, CoreSet::only(one()), thread::yield_now);
        self.entry.store(NEW, Ordering::Relaxed);
        let presence = &self.shared.presence;
        presence.ask_flush(one());
        if presence.get(one()) == Place::User {
            self.kicked.store(1, Ordering::SeqCst);
        }
        while presence.must_flush(one()) {
            thread::yield_now();
        }
        self.gone.store(1, Ordering::Release);
        drop(held);
        self.over.store(1, Ordering::SeqCst);
    }
}

fn both(place: Place, flaw: Flaw, act: fn(&Stage)) {
    let stage = Stage::new(place, flaw);
    let other = stage.clone();
    let thread = thread::spawn(move || other.runs(place));
    act(&stage);
    thread.join().expect("the other core ends");
}

#[test]
fn a_thread_that_was_taken_off_has_its_registers_in_memory() {
    for place in [Place::User, Place::Kernel] {
        explore_all("taking off", move || both(place, Flaw::None, Stage::stops));
    }
}

#[test]
fn a_translation_that_was_shot_down_is_used_no_more() {
    for place in [Place::User, Place::Kernel] {
        explore_all("shooting down", move || both(place, Flaw::None, Stage::shoots));
    }
}

#[test]
#[should_panic(expected = "maximum number of branches")]
fn a_core_that_does_not_say_that_it_is_in_the_kernel_is_found_out() {
    explore_all("no kernel", || both(Place::User, Flaw::NoKernel, Stage::stops));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn registers_that_are_saved_late_are_found_out() {
    explore_all("late save", || both(Place::User, Flaw::LateSave, Stage::stops));
}

#[test]
#[should_panic(expected = "nobody knows of it")]
fn a_core_that_says_late_that_it_is_in_user_mode_is_found_out() {
    explore_all("late user", || both(Place::Kernel, Flaw::LateUser, Stage::stops));
}

#[test]
#[should_panic(expected = "maximum number of branches")]
fn a_core_that_does_not_flush_while_it_waits_is_found_out() {
    explore_all("no flush", || both(Place::User, Flaw::NoFlush, Stage::shoots));
}
