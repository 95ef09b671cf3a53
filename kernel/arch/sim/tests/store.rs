//! The store: a reference leads to an object of its kind, on its place, at a home whose lock is held; or nowhere.

use anos_abi::boot::slot;
use anos_abi::{Kind, PAGE_SIZE};
use anos_machine::store::Object;
use anos_machine::{
    AddressSpace, CoreId, CoreSet, Endpoint, Notification, Reason, Ref, Reply, Slot, Stop, Store, Thread,
};
use anos_sim::{Sim, core_id};

/// Whether a reference leads to something.
fn leads<T: Object>(store: &mut Store, address: u64) -> bool {
    match store.get(Ref::<T>::at(address)) {
        Ok(_) => true,
        Err(stop) => {
            assert_eq!(stop, Stop::STALE);
            false
        }
    }
}

/// As what the memory at an address can be seen.
fn seen_as(store: &mut Store, address: u64) -> Vec<Kind> {
    let seen = [
        (Kind::Endpoint, leads::<Endpoint>(store, address)),
        (Kind::Notification, leads::<Notification>(store, address)),
        (Kind::Reply, leads::<Reply>(store, address)),
        (Kind::Thread, leads::<Thread>(store, address)),
        (Kind::AddressSpace, leads::<AddressSpace>(store, address)),
        (Kind::CapTable, leads::<Slot>(store, address)),
    ];
    seen.into_iter().filter(|(_, leads)| *leads).map(|(kind, _)| kind).collect()
}

#[test]
fn a_reference_leads_to_an_object_of_its_kind_and_to_nothing_else() {
    let mut sim = Sim::boot(1);
    for (kind, size) in [
        (Kind::Endpoint, 0),
        (Kind::Notification, 0),
        (Kind::Reply, 0),
        (Kind::Thread, 0),
        (Kind::AddressSpace, 0),
        (Kind::CapTable, 64),
    ] {
        let made = sim.make(kind, size);
        let address = sim.look(made).object;
        sim.with_store(|store| {
            assert_eq!(seen_as(store, address), [kind]);
            // Not on the place of an object.
            assert_eq!(seen_as(store, address + 8), [], "{kind:?}");
        });
    }
    let frame = sim.make(Kind::Frame, 1);
    let frame = sim.look(frame).object;
    let free = sim.look(slot::UNTYPED);
    let last = free.object + (free.extent - 1) * PAGE_SIZE;
    sim.with_store(|store| {
        assert_eq!(seen_as(store, frame), []);
        assert_eq!(seen_as(store, last), [], "memory of which nothing was made");
        assert_eq!(seen_as(store, !(PAGE_SIZE - 1)), [], "no memory");
    });
}

#[test]
fn an_object_is_reached_only_with_the_lock_of_its_home() {
    let mut sim = Sim::boot(2);
    let made = sim.make(Kind::Endpoint, 0);
    let endpoint = Ref::<Endpoint>::at(sim.look(made).object);
    let (here, there) = (core_id(0), core_id(1));
    assert_eq!(reached(&sim, endpoint, here), (Ok(()), Ok(())));
    let elsewhere = |core| (Err(Reason::Elsewhere(core)), Err(Reason::Elsewhere(core)));
    assert_eq!(reached(&sim, endpoint, there), elsewhere(here));
    // Who is at home decides, and can change.
    sim.with_store(|store| store.settle(endpoint.address(), there)).expect("all locks are held");
    assert_eq!(reached(&sim, endpoint, here), elsewhere(there));
    assert_eq!(reached(&sim, endpoint, there), (Ok(()), Ok(())));
}

/// Whether an object can be looked at, and changed, on a core that has only its own lock.
fn reached(sim: &Sim, object: Ref<Endpoint>, core: CoreId) -> (Result<(), Reason>, Result<(), Reason>) {
    let held = sim.kernel.hold(core, CoreSet::NONE, || panic!("nobody else holds a lock"));
    let seen = held.store.see(object).map(|_| ()).map_err(Stop::reason);
    (seen, held.store.get(object).map(|_| ()).map_err(Stop::reason))
}
