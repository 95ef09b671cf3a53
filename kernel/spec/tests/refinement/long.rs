//! Long work, which the kernel does in steps: both do the same in each step, and agree in between.
//!
//! Random programs rarely have so much of anything.

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Error, Kind, Rights, SystemCall};
use anos_machine::CoreId;
use anos_sim::{Config, Message, Payload, Sim};

use crate::pair::Pair;

/// A machine, and the specification in the same state.
struct Desk(Pair);

impl Desk {
    fn new(prepare: impl FnOnce(&mut Sim)) -> Desk {
        Desk::of(1, prepare)
    }

    fn of(cores: u64, prepare: impl FnOnce(&mut Sim)) -> Desk {
        let mut sim = Sim::boot_with(Config::cores(cores), &Payload::default().bytes(), 0).expect("boots");
        sim.next_slot = 1000;
        prepare(&mut sim);
        Desk(Pair::new(sim))
    }

    /// The root server calls a method; both must answer the same.
    #[track_caller]
    fn call(&mut self, target: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> Result<(), Error> {
        let message = Message::new(method.label()).words(words).pass(pass).receive(receive);
        let thread = self.0.sim.thread(CoreId::BOOT).expect("the root server runs");
        if let Err(difference) = self.0.call(CoreId::BOOT, SystemCall::Call, target, &message) {
            panic!("{difference}");
        }
        self.0.sim.answer(thread).result().map(|_| ())
    }

    /// The same until it no longer answers `Again`; how often it did.
    #[track_caller]
    fn repeat(&mut self, target: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> u32 {
        for again in 0..1000 {
            match self.call(target, method, words, pass, receive) {
                Err(Error::Again) => {}
                result => {
                    result.expect("it works in the end");
                    return again;
                }
            }
        }
        panic!("{method:?} never ends");
    }

    #[track_caller]
    fn delete(&mut self, at: u32) -> Result<(), Error> {
        self.call(slot::CAP_TABLE, Method::CapTableDelete, &[at.into()], 0, 0)
    }
}

#[test]
fn who_waits_on_what_ends_is_told_a_few_at_a_time() {
    let ways = [
        (SystemCall::Recv, Kind::Endpoint),
        (SystemCall::Call, Kind::Endpoint),
        (SystemCall::Recv, Kind::Notification),
    ];
    for (call, kind) in ways {
        let mut object = 0;
        let mut desk = Desk::new(|sim| {
            object = sim.make(kind, 0);
            for _ in 0..40 {
                let program = sim.new_thread(0, 1);
                sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
            }
            sim.ok(slot::THREAD, Method::ThreadSetPriority, &[0, 255], 0);
        });
        // The root server is the least urgent: it runs once all others wait.
        for number in 0..40 {
            desk.0.call(CoreId::BOOT, call, object, &Message::new(number)).expect("they agree");
        }
        desk.call(slot::THREAD, Method::ThreadSetPriority, &[200, 255], 0, 0).expect("within its ceiling");
        assert_eq!(desk.repeat(slot::CAP_TABLE, Method::CapTableDelete, &[object.into()], 0, 0), 6);
    }
}

#[test]
fn waits_with_one_badge_are_called_off_a_few_at_a_time() {
    let (mut endpoint, mut badged) = (0, [0; 2]);
    let mut desk = Desk::new(|sim| {
        endpoint = sim.make(Kind::Endpoint, 0);
        badged = [sim.mint(endpoint, 7), sim.mint(endpoint, 8)];
        for _ in 0..40 {
            let program = sim.new_thread(0, 1);
            sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
        }
        sim.ok(slot::THREAD, Method::ThreadSetPriority, &[0, 255], 0);
    });
    for number in 0..40 {
        let at = badged[if number % 3 == 0 { 0 } else { 1 }];
        desk.0.call(CoreId::BOOT, SystemCall::Call, at, &Message::new(number)).expect("they agree");
    }
    desk.call(slot::THREAD, Method::ThreadSetPriority, &[200, 255], 0, 0).expect("within its ceiling");
    assert_eq!(desk.call(slot::CAP_TABLE, Method::CapTableCancel, &[badged[0].into()], 0, 0), Err(Error::Again));
    assert_eq!(desk.repeat(slot::CAP_TABLE, Method::CapTableCancel, &[badged[1].into()], 0, 0), 6);
    assert_eq!(desk.repeat(slot::CAP_TABLE, Method::CapTableCancel, &[badged[0].into()], 0, 0), 1);
    let waiting: usize = desk.0.spec.endpoints.values().map(|endpoint| endpoint.senders.len()).sum();
    assert_eq!(waiting, 0, "all were called off");
}

#[test]
fn who_may_not_receive_calls_nothing_off() {
    let (mut both, mut sends) = (0, 0);
    let mut desk = Desk::new(|sim| {
        let endpoint = sim.make(Kind::Endpoint, 0);
        both = sim.mint(endpoint, 7);
        sends = sim.copy(both, Rights::WRITE.0);
    });
    let cancel = |desk: &mut Desk, at: u32| desk.call(slot::CAP_TABLE, Method::CapTableCancel, &[at.into()], 0, 0);
    assert_eq!(cancel(&mut desk, sends), Err(Error::MissingRights));
    assert_eq!(cancel(&mut desk, both), Ok(()));
}

#[test]
fn what_has_many_heirs_is_not_deleted_before_a_newer_sibling() {
    let (mut origin, mut older) = (0, 0);
    let mut desk = Desk::new(|sim| {
        origin = sim.make(Kind::Endpoint, 0);
        older = sim.copy(origin, 15);
        for _ in 0..33 {
            sim.copy(older, 15);
        }
    });
    let first = older + 1;
    desk.call(slot::CAP_TABLE, Method::CapTableCopy, &[3000, 15], origin, 0).expect("a newer sibling");
    assert_eq!(desk.delete(older), Err(Error::Busy));
    desk.delete(first + 20).expect("one heir less");
    desk.delete(older).expect("32 may rise");
    // And the newest may go however many stem from it.
    for n in 0..70 {
        desk.call(slot::CAP_TABLE, Method::CapTableCopy, &[3100 + n, 15], 3000, 0).expect("room");
    }
    desk.delete(3000).expect("its parent stands right in front");
}

#[test]
fn in_a_table_that_ends_many_heirs_go_to_the_newer_sibling() {
    let (mut origin, mut table, mut older) = (0, 0, 0);
    let mut desk = Desk::new(|sim| {
        origin = sim.make(Kind::Endpoint, 0);
        table = sim.make(Kind::CapTable, 64);
        older = sim.copy(origin, 15);
        for _ in 0..34 {
            sim.copy(older, 15);
        }
    });
    desk.call(slot::CAP_TABLE, Method::CapTableCopy, &[3000, 15], origin, 0).expect("a newer sibling");
    desk.call(table, Method::CapTableMove, &[5], older, 0).expect("room");
    assert_eq!(desk.repeat(slot::CAP_TABLE, Method::CapTableDelete, &[table.into()], 0, 0), 1);
    desk.repeat(slot::CAP_TABLE, Method::CapTableRevoke, &[3000], 0, 0);
    let left = desk.0.spec.capabilities.values().filter(|capability| capability.kind == Kind::Endpoint).count();
    assert_eq!(left, 2, "the origin and the newer sibling");
}

#[test]
fn a_table_ends_slot_by_slot_and_takes_nothing_meanwhile() {
    let (mut origin, mut table) = (0, 0);
    let mut desk = Desk::new(|sim| {
        origin = sim.make(Kind::Endpoint, 0);
        table = sim.make(Kind::CapTable, 192);
    });
    for n in (1..30).chain(180..192) {
        desk.call(table, Method::CapTableCopy, &[n, 15], origin, 0).expect("room");
    }
    assert_eq!(desk.delete(table), Err(Error::Again));
    assert_eq!(desk.call(table, Method::CapTableCopy, &[100, 15], origin, 0), Err(Error::Busy));
    assert_eq!(desk.call(slot::CAP_TABLE, Method::CapTableMove, &[3000], table, 0), Err(Error::Busy));
    assert_eq!(desk.call(slot::CAP_TABLE, Method::CapTableCopy, &[3000, 15], table, 0), Err(Error::Busy));
    assert!(desk.repeat(slot::CAP_TABLE, Method::CapTableDelete, &[table.into()], 0, 0) > 2);
    assert_eq!(desk.call(table, Method::CapTableInfo, &[], 0, 0), Err(Error::EmptySlot));
}

#[test]
fn tables_that_hold_one_another_end_with_their_memory() {
    let (mut memory, mut tables, mut threads) = (0, 0, 0);
    let mut desk = Desk::new(|sim| {
        memory = sim.make(Kind::Untyped, 40);
        tables = sim.make_from(memory, Kind::CapTable, 64, 3);
        threads = sim.make_from(memory, Kind::Thread, 0, 2);
    });
    desk.call(threads, Method::ThreadSetTable, &[], tables, 0).expect("set");
    desk.call(threads + 1, Method::ThreadSetTable, &[], tables + 1, 0).expect("set");
    // A table in a table in itself; one that only a thread has; a thread in a table.
    desk.call(tables + 1, Method::CapTableMove, &[1], tables + 2, 0).expect("room");
    desk.call(tables, Method::CapTableMove, &[7], tables + 1, 0).expect("room");
    desk.call(tables, Method::CapTableMove, &[8], threads, 0).expect("room");
    desk.call(tables, Method::CapTableCopy, &[9, 15], tables, 0).expect("room");
    desk.delete(tables).expect("not the last one");
    desk.delete(threads + 1).expect("a thread ends, and leaves its table");
    desk.repeat(slot::CAP_TABLE, Method::CapTableRevoke, &[memory.into()], 0, 0);
    desk.call(memory, Method::UntypedInfo, &[], 0, 0).expect("all of it is free");
    assert_eq!(desk.0.spec.tables.len(), 1, "only the root server's");
}

#[test]
fn a_family_is_revoked_a_few_at_a_time() {
    let mut origin = 0;
    let mut desk = Desk::new(|sim| {
        origin = sim.make(Kind::Notification, 0);
        for n in 0..30 {
            let from = if n % 3 == 0 { origin } else { sim.next_slot - 1 };
            sim.copy(from, 15);
        }
    });
    assert_eq!(desk.repeat(slot::CAP_TABLE, Method::CapTableRevoke, &[origin.into()], 0, 0), 7);
}

#[test]
fn memory_is_cleared_a_few_pages_at_a_time() {
    let (mut memory, mut at) = (0, 0);
    let mut desk = Desk::new(|sim| {
        memory = sim.make(Kind::Untyped, 64);
        at = sim.slots(4);
    });
    let words = |pages: u64| [Kind::Frame as u64, pages, 1];
    assert_eq!(desk.call(memory, Method::UntypedRetype, &words(20), 0, at), Err(Error::Again));
    // Something else goes in front: what is clear stays clear.
    desk.call(memory, Method::UntypedRetype, &words(1), 0, at + 1).expect("cleared already");
    assert!(desk.repeat(memory, Method::UntypedRetype, &words(20), 0, at) >= 3);
}

#[test]
fn who_lacks_a_lock_puts_aside_more_threads_without_time_than_one_visit_does() {
    let (mut endpoint, mut empty) = (0, 0);
    let mut desk = Desk::of(2, |sim| {
        (endpoint, empty) = (sim.make(Kind::Endpoint, 0), sim.make(Kind::Notification, 0));
        let handler = sim.spawn(1, 5);
        sim.run(handler, SystemCall::Recv, endpoint, &Message::new(0));
        let fault_endpoint = sim.mint(endpoint, 7);
        for told in [false, true, false] {
            let program = sim.new_thread(0, 5);
            if told {
                sim.ok(program.slot, Method::ThreadSetFaultEndpoint, &[], fault_endpoint);
            }
            sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
            sim.ok(program.slot, Method::ThreadSetContext, &[], 0);
        }
    });
    // The first is put aside; for the second, its handler's core is needed; from there on it is a new visit.
    desk.0.call(CoreId::BOOT, SystemCall::Recv, empty, &Message::new(0)).expect("they agree");
    assert!(desk.0.spec.cores[0].ready.is_empty(), "all three are put aside");
}
