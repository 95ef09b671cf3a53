//! Pages and their homes: nobody reads what lies in a page while somebody changes it, however the homes change
//! meanwhile. (`PageRecord` has a watch that fails if so, and each page a pair of words that always agree.)

use std::sync::Arc;

use anos_abi::Kind;
use anos_explore::atomic;
use anos_machine::{CoreId, CoreSet, Endpoint, Held, Reason, Ref, Shared, Slot, Stop};
use anos_sim::memory::{RAM_BASE, Ram};

use crate::explorer::{explore_all, thread};
use crate::locks::Nothing;

type Visit<'a> = Held<'a, Nothing, Nothing>;

/// What a core does to the one page.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Reads a table, and is at home there afterwards.
    Join,
    /// Reads.
    See,
    /// Changes a table, and is alone at home there.
    Change,
    /// Has it be at home on a core.
    Settle(u64),
    /// Loads it as an address space.
    Load,
    /// Loads another.
    Unload,
    /// Asks who has it loaded, to have them forget.
    Shoot,
}

struct Stage {
    shared: Shared<Nothing, Nothing>,
    ram: Ram,
}

fn core(number: u64) -> CoreId {
    CoreId::new(number).expect("a core that could exist")
}

impl Stage {
    /// One page of this kind, at home on core 0.
    fn new(kind: Kind) -> Arc<Stage> {
        let stage = Stage { shared: Shared::new(), ram: Ram::new(1) };
        // SAFETY: nobody holds anything yet, and memory lives as long as the locks (`Stage` has both).
        unsafe { stage.shared.set_memory(stage.ram.memory()) };
        let held = stage.shared.hold(core(0), CoreSet(3), || unreachable!("nobody else is there"));
        held.store.set_kind(RAM_BASE, kind).expect("held");
        // So that loom knows all of the record.
        held.store.record(RAM_BASE).expect("held").loaded();
        let _ = held.store.see::<Slot>(Ref::at(RAM_BASE));
        let _ = held.store.see::<Endpoint>(Ref::at(RAM_BASE));
        let _ = held.store.see::<[u64; 512]>(Ref::at(RAM_BASE));
        drop(held);
        Arc::new(stage)
    }

    /// Attempts, each with one lock more, as `anos_core::Entry` makes them.
    fn visit(&self, me: u64, deed: Deed) {
        let mut cores = CoreSet::NONE;
        loop {
            let mut held = self.shared.hold(core(me), cores, thread::yield_now);
            match self.attempt(&mut held, me, deed) {
                Ok(()) => return,
                Err(stop) => match stop.reason() {
                    Reason::Elsewhere(core) => {
                        assert!(core.index() < 2 && !held.cores().contains(core), "{core:?} is at home nowhere");
                        cores.insert(core);
                    }
                    other => panic!("{deed:?}: {other:?}"),
                },
            }
        }
    }

    fn attempt(&self, held: &mut Visit<'_>, me: u64, deed: Deed) -> Result<(), Stop> {
        match deed {
            Deed::Join => {
                held.store.join(RAM_BASE)?;
                self.look(held)?;
            }
            Deed::See => self.look(held)?,
            Deed::Change => {
                let words = held.store.get::<Slot>(Ref::at(RAM_BASE))?;
                words.badge += 1;
                thread::yield_now();
                words.extent += 1;
            }
            Deed::Settle(home) => {
                held.store.settle(RAM_BASE, core(home))?;
                held.store.get::<Endpoint>(Ref::at(RAM_BASE))?.waiting += 1;
            }
            // `Visit::load` does this.
            Deed::Load => {
                held.store.join(RAM_BASE)?;
                held.store.record(RAM_BASE)?.add_loaded(core(me));
            }
            Deed::Unload => {
                let record = held.store.own(RAM_BASE)?;
                record.set_loaded(CoreSet(record.loaded().0 & !core(me).bit()));
            }
            Deed::Shoot => {
                let record = held.store.own(RAM_BASE)?;
                assert!(record.loaded().is_within(record.homes()), "who has it loaded is at home there");
                held.store.get::<[u64; 512]>(Ref::at(RAM_BASE))?[0] += 1;
            }
        }
        let homes = held.store.record(RAM_BASE).expect("a home is held").homes();
        assert!(homes != CoreSet::NONE && homes.is_within(CoreSet(3)), "{homes:?} are no homes");
        Ok(())
    }

    fn look(&self, held: &Visit<'_>) -> Result<(), Stop> {
        let words = held.store.see::<Slot>(Ref::at(RAM_BASE))?;
        let badge = words.badge;
        thread::yield_now();
        assert_eq!(badge, words.extent, "somebody changes what this core reads");
        Ok(())
    }
}

fn both(kind: Kind, first: &[Deed], second: &'static [Deed]) {
    let stage = Stage::new(kind);
    let other = stage.clone();
    let thread = thread::spawn(move || second.iter().for_each(|deed| other.visit(1, *deed)));
    first.iter().for_each(|deed| stage.visit(0, *deed));
    thread.join().expect("the other core ends");
    let held = stage.shared.hold(core(0), CoreSet(3), || unreachable!("nobody else is there"));
    assert!(held.store.record(RAM_BASE).expect("held").loaded().is_within(CoreSet(3)));
}

#[test]
fn nobody_reads_a_table_while_somebody_changes_it() {
    for first in [&[Deed::Change][..], &[Deed::Join]] {
        for second in [&[Deed::Change][..], &[Deed::Join], &[Deed::See], &[Deed::Join, Deed::Change]] {
            explore_all("tables", move || both(Kind::CapTable, first, second));
        }
    }
}

#[test]
fn what_threads_meet_at_moves_from_core_to_core() {
    for first in [&[Deed::Settle(1)][..], &[Deed::Settle(0)]] {
        for second in [&[Deed::Settle(1)][..], &[Deed::Settle(0)], &[Deed::Settle(1), Deed::Settle(1)]] {
            explore_all("endpoints", move || both(Kind::Endpoint, first, second));
        }
    }
}

#[test]
fn who_has_an_address_space_loaded_is_at_home_there() {
    for first in [&[Deed::Shoot][..], &[Deed::Load]] {
        for second in [&[Deed::Load][..], &[Deed::Load, Deed::Unload], &[Deed::Load, Deed::Shoot]] {
            explore_all("address spaces", move || both(Kind::AddressSpace, first, second));
        }
    }
}

#[test]
#[should_panic(expected = "Causality violation")]
fn homes_without_acquire_and_release_are_found_out() {
    explore_all("homes without acquire and release", || {
        atomic::weaken();
        both(Kind::CapTable, &[Deed::Change], &[Deed::Change]);
    });
}
