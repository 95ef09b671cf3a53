//! How many locks a visit takes: one, while all that it needs is at home on its core.

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Kind, SystemCall};
use anos_sim::{Message, Program, Sim, core_id};

/// Visits and locks of a core so far.
fn effort(sim: &mut Sim, core: u64) -> (u64, u64) {
    let mut held = sim.kernel.hold(core_id(core), anos_machine::CoreSet::NONE, || unreachable!("nobody else runs"));
    let counters = held.core(core_id(core)).expect("held").counters.whole();
    (counters.calls + counters.interrupts + counters.faults, counters.locks)
}

/// A client and a server on one core, which exchange messages for a while, so that what they use is at home there.
struct Pair {
    sim: Sim,
    client: Program,
    server: Program,
    endpoint: u32,
    reply: u32,
}

impl Pair {
    fn new(client: u64, server: u64) -> Pair {
        let mut sim = Sim::boot(4);
        let (endpoint, reply) = (sim.make(Kind::Endpoint, 0), sim.make(Kind::Reply, 0));
        let (client, server) = (sim.spawn(client, 5), sim.spawn(server, 7));
        let mut pair = Pair { sim, client, server, endpoint, reply };
        let message = Message::new(0).reply(reply);
        pair.sim.run(server, SystemCall::Recv, endpoint, &message);
        pair.round_trip();
        pair
    }

    fn round_trip(&mut self) {
        self.sim.run(self.client, SystemCall::Call, self.endpoint, &Message::new(1));
        self.sim.run(self.server, SystemCall::ReplyRecv, self.endpoint, &Message::new(2).reply(self.reply));
    }
}

#[test]
fn a_local_round_trip_takes_one_lock_a_call() {
    // (On core 0 the root server's thread is more urgent than these.)
    for core in 1..4 {
        let mut pair = Pair::new(core, core);
        let before = effort(&mut pair.sim, core);
        for _ in 0..100 {
            pair.round_trip();
        }
        let after = effort(&mut pair.sim, core);
        assert_eq!((after.0 - before.0, after.1 - before.1), (200, 200), "core {core}");
    }
}

#[test]
fn a_round_trip_between_two_cores_takes_the_locks_of_both() {
    let mut pair = Pair::new(1, 2);
    let (client, server) = (effort(&mut pair.sim, 1), effort(&mut pair.sim, 2));
    for _ in 0..100 {
        pair.round_trip();
    }
    let (client, server) = (effort(&mut pair.sim, 1).1 - client.1, effort(&mut pair.sim, 2).1 - server.1);
    // Kicks are visits too, and not counted as calls: one for each side and message.
    assert!(client <= 400 && server <= 400, "the client's core took {client} locks, the server's {server}");
}

#[test]
fn local_signals_mappings_and_copies_take_one_lock() {
    let mut sim = Sim::boot(4);
    let (notification, frame) = (sim.make(Kind::Notification, 0), sim.make(Kind::Frame, 1));
    let bit = sim.mint(notification, 1);
    let program = sim.spawn(2, 5);
    // A table, a space and page tables of its own.
    let (table, space) = (sim.make(Kind::CapTable, 128), sim.make(Kind::AddressSpace, 0));
    for level in [2, 1] {
        let tables = sim.make(Kind::PageTable, 0);
        sim.ok(tables, Method::PageTableMap, &[0x40_0000, level], space);
    }
    for (to, from) in [(1, table), (2, space), (3, notification), (4, bit)] {
        sim.ok(table, Method::CapTableCopy, &[to, 15], from);
    }
    sim.ok(table, Method::CapTableMove, &[5], frame);
    // Its own copy of the Endpoint, whose family lies in its table alone.
    sim.ok(program.slot, Method::ThreadSuspend, &[], 0);
    sim.ok(program.slot, Method::ThreadSetTable, &[], table);
    sim.ok(program.slot, Method::ThreadSetSpace, &[], space);
    sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    sim.settle();
    let round = |sim: &mut Sim| {
        sim.run(program, SystemCall::Send, 4, &Message::new(0));
        sim.run(program, SystemCall::Recv, 3, &Message::new(0));
        for (target, method, words, pass) in [
            (5, Method::FrameMap, vec![0x40_0000, 1], 2),
            (5, Method::FrameUnmap, vec![], 0),
            (1, Method::CapTableCopy, vec![20, 15], 5),
            (1, Method::CapTableDelete, vec![20], 0),
        ] {
            let answer = sim.call(program.core, target, method, &words, pass, 0);
            answer.result().unwrap_or_else(|error| panic!("{method:?}: {error}"));
        }
    };
    round(&mut sim);
    let before = effort(&mut sim, 2);
    for _ in 0..10 {
        round(&mut sim);
    }
    let after = effort(&mut sim, 2);
    // The Frame stems from an Untyped in the root server's table, which a copy and its deletion don't touch: only the
    // Frame's own slot, and the copy's, change.
    assert_eq!((after.0 - before.0, after.1 - before.1), (60, 60));
}

#[test]
fn a_retype_into_two_pages_of_a_table_happens_once() {
    let mut sim = Sim::boot(2);
    let memory = sim.make(Kind::Untyped, 8);
    sim.make_from(memory, Kind::Frame, 1, 1);
    let program = sim.spawn(1, 5);
    // Slots 1086 and 1087 lie in one page, which the other core changes and both use; the next slots in another page.
    let copy = Message::new(Method::CapTableCopy.label()).words(&[1086, 15]).pass(slot::CAP_TABLE);
    sim.run(program, SystemCall::Call, slot::CAP_TABLE, &copy);
    sim.answer_of(program).result().expect("room");
    sim.ok(1086, Method::CapTableInfo, &[], 0);
    sim.next_slot = 1087;
    sim.make_from(memory, Kind::Frame, 1, 2);
    assert_eq!(sim.ok(memory, Method::UntypedInfo, &[], 0)[2], 3, "pages of the Untyped that are used");
}
