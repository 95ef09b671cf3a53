//! The locks: who holds a core's lock is alone with its state, whatever sets two cores take.

use std::rc::Rc;

use anos_explore::atomic;
use anos_machine::{CoreId, CoreSet, Fresh, Shared};
use loom::cell::UnsafeCell;

use crate::explorer::{explore_all, thread};

/// What lies behind the locks here: nothing, as loom's cells can't be made in constants. They lie beside.
#[derive(Debug)]
pub struct Nothing;

impl Fresh for Nothing {
    const FRESH: Self = Nothing;
}

const CORES: usize = 3;

struct Stage {
    shared: Shared<Nothing, Nothing>,
    cores: [UnsafeCell<u32>; CORES],
    global: UnsafeCell<u32>,
}

fn core(number: u64) -> CoreId {
    CoreId::new(number).expect("a core that could exist")
}

impl Stage {
    fn new() -> Rc<Stage> {
        let stage = Stage {
            shared: Shared::new(),
            cores: std::array::from_fn(|_| UnsafeCell::new(0)),
            global: UnsafeCell::new(0),
        };
        drop(stage.shared.hold(CoreId::BOOT, CoreSet((1 << CORES) - 1), || unreachable!("nobody else is there")));
        Rc::new(stage)
    }

    /// Takes its own lock, if that is free, and changes what it guards; else it waits for it.
    fn visit_at_once(&self, me: u64) {
        let Some(own) = self.shared.try_own(core(me)) else { return self.visit(me, CoreSet::NONE) };
        // SAFETY: loom sees to it that nobody else is there, or fails.
        self.cores[core(me).index()].with_mut(|count| unsafe { *count += 1 });
        drop(own);
    }

    /// Takes locks, and changes what they guard.
    fn visit(&self, me: u64, cores: CoreSet) {
        let mut held = self.shared.hold(core(me), cores, thread::yield_now);
        let all = held.cores();
        assert!(all.contains(core(me)) && cores.is_within(all));
        for (number, cell) in (0..).zip(&self.cores) {
            assert_eq!(held.core(core(number)).is_ok(), all.contains(core(number)));
            if all.contains(core(number)) {
                // SAFETY: loom sees to it that nobody else is there, or fails.
                cell.with_mut(|count| unsafe { *count += 1 });
            }
        }
        assert_eq!(held.global().is_ok(), all.contains(CoreId::BOOT));
        if all.contains(CoreId::BOOT) {
            // SAFETY: as above.
            self.global.with_mut(|count| unsafe { *count += 1 });
        }
    }
}

/// Two cores, 0 and 1, take these sets, one after the other.
fn both(first: &'static [u64], second: &'static [u64]) {
    let stage = Stage::new();
    let other = stage.clone();
    let thread = thread::spawn(move || second.iter().for_each(|set| other.visit(1, CoreSet(*set))));
    first.iter().for_each(|set| stage.visit(0, CoreSet(*set)));
    thread.join().expect("the other core ends");
    let sets = first.iter().map(|set| set | 1).chain(second.iter().map(|set| set | 2));
    let sets: Vec<u64> = sets.collect();
    for (number, cell) in stage.cores.iter().enumerate() {
        let count = sets.iter().filter(|set| **set & 1 << number != 0).count();
        // SAFETY: as above.
        assert_eq!(cell.with(|count| unsafe { *count }) as usize, count);
    }
}

#[test]
fn who_holds_a_lock_is_alone_with_what_it_guards() {
    for first in [&[1][..], &[3], &[5], &[3, 1], &[1, 3]] {
        for second in [&[2][..], &[3], &[6], &[7], &[2, 3], &[3, 2]] {
            explore_all("locks", move || both(first, second));
        }
    }
}

#[test]
fn a_lock_that_is_taken_at_once_is_as_good() {
    for set in [1, 3, 7] {
        explore_all("a lock taken at once", move || {
            let stage = Stage::new();
            let other = stage.clone();
            let thread = thread::spawn(move || (0..2).for_each(|_| other.visit_at_once(1)));
            stage.visit(0, CoreSet(set | 2));
            thread.join().expect("the other core ends");
            // SAFETY: as above.
            assert_eq!(stage.cores[1].with(|count| unsafe { *count }), 3);
        });
    }
}

#[test]
#[should_panic(expected = "Causality violation")]
fn locks_without_acquire_and_release_are_found_out() {
    explore_all("locks without acquire and release", || {
        atomic::weaken();
        both(&[3], &[3]);
    });
}
