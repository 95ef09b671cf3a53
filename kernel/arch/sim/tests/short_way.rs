//! The short way of messages: what goes it, what doesn't, and that it makes no difference. (The machine compares all
//! memory with what the general way leaves.)

use anos_abi::object::{Method, ThreadState};
use anos_abi::{Error, Kind, Rights, SystemCall, boot::slot};
use anos_sim::{Message, Program, Sim, core_id};

/// Messages of core 1 that went the short way.
fn short(sim: &mut Sim) -> u64 {
    let core = core_id(1);
    let mut held = sim.kernel.hold(core, anos_machine::CoreSet::NONE, || unreachable!("nobody else runs"));
    held.core(core).expect("held").counters.quick
}

/// A client and a server on core 1, of which the server waits. Each message is compared.
struct Pair {
    sim: Sim,
    client: Program,
    server: Program,
    endpoint: u32,
    reply: u32,
}

/// A slot that is never filled.
const EMPTY: u32 = 1023;
const CLIENT: u8 = 5;
const SERVER: u8 = 7;

impl Pair {
    fn new() -> Pair {
        Pair::on(Sim::boot(2))
    }

    fn on(mut sim: Sim) -> Pair {
        sim.compare_every = 1;
        let (endpoint, reply) = (sim.make(Kind::Endpoint, 0), sim.make(Kind::Reply, 0));
        let (client, server) = (sim.spawn(1, CLIENT), sim.spawn(1, SERVER));
        let mut pair = Pair { sim, client, server, endpoint, reply };
        let message = Message::new(0).reply(reply);
        pair.sim.run(server, SystemCall::Recv, endpoint, &message);
        // Now everything is at home where it is used.
        pair.round_trip();
        pair
    }

    /// The server has no context any more: it runs on the client's.
    fn passive() -> Pair {
        let mut pair = Pair::new();
        pair.sim.ok(pair.server.slot, Method::ThreadSetContext, &[], 0);
        pair.round_trip();
        pair
    }

    /// The server goes on in another address space.
    fn in_space(&mut self, space: u32) {
        self.sim.ok(self.server.slot, Method::ThreadSuspend, &[], 0);
        self.sim.ok(self.server.slot, Method::ThreadSetSpace, &[], space);
        self.sim.ok(self.server.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
        self.sim.settle();
        let message = Message::new(0).reply(self.reply);
        self.sim.run(self.server, SystemCall::Recv, self.endpoint, &message);
        self.round_trip();
    }

    fn call(&mut self, message: Message) {
        self.sim.run(self.client, SystemCall::Call, self.endpoint, &message);
    }

    fn answer(&mut self, message: Message) {
        self.sim.run(self.server, SystemCall::ReplyRecv, self.endpoint, &message.reply(self.reply));
    }

    fn round_trip(&mut self) {
        self.call(Message::new(1).words(&[1, 2, 3, 4, 5, 6, 7, 8]));
        let got = self.sim.answer_of(self.server);
        assert_eq!((got.label, got.words), (1, [1, 2, 3, 4, 5, 6, 7, 8]));
        self.answer(Message::new(2).words(&[8, 7, 6, 5, 4, 3, 2, 1]));
        let got = self.sim.answer_of(self.client);
        assert_eq!((got.label, got.words), (2, [8, 7, 6, 5, 4, 3, 2, 1]));
    }

    /// How many messages of something go the short way; all of those are compared.
    fn short(&mut self, what: impl FnOnce(&mut Pair)) -> u64 {
        // What the root server has just changed in the table is looked at on core 1 again: nothing but what is unusual
        // may be in the way. (All slots of these tests lie in one page, of which this one is empty.)
        self.sim.system_call(core_id(1), SystemCall::Send, EMPTY, &Message::new(0));
        self.sim.settle();
        let before = (short(&mut self.sim), self.sim.compared);
        what(self);
        let went = short(&mut self.sim) - before.0;
        // A message that was compared ended with the general way, which counts it as a call.
        assert_eq!(went, 0, "all are compared");
        self.sim.compared - before.1
    }
}

/// Sends a message from the client, and says whether it went the short way; it must get there.
fn call_is_short(mut pair: Pair, message: Message) -> bool {
    let went = pair.short(|pair| pair.call(message));
    assert_eq!(pair.sim.answer_of(pair.server).label, 1, "the server has it");
    went == 1
}

/// Answers a call that was made already, and says whether that went the short way; it must get there.
fn answer_is_short(mut pair: Pair, message: Message) -> bool {
    let went = pair.short(|pair| pair.answer(message));
    assert_eq!(pair.sim.answer_of(pair.client).label, 2, "the client has it");
    assert_eq!(pair.sim.state(pair.client), ThreadState::Ready);
    went == 1
}

#[test]
fn a_round_trip_goes_the_short_way() {
    let mut pair = Pair::new();
    let went = pair.short(|pair| (0..100).for_each(|_| pair.round_trip()));
    assert_eq!(went, 200);
}

#[test]
fn a_round_trip_with_a_passive_server_goes_the_short_way() {
    let mut pair = Pair::passive();
    let went = pair.short(|pair| (0..100).for_each(|_| pair.round_trip()));
    assert_eq!(went, 200);
    // Time passes in between, and each gets its share.
    pair.call(Message::new(1));
    pair.sim.pass(1000);
    pair.answer(Message::new(2));
    let [.., used, _, _, _] = pair.sim.ok(pair.client.context, Method::SchedContextInfo, &[], 0);
    assert_eq!(used, 1000, "the client's context pays for the server");
}

#[test]
fn a_passive_server_on_limited_time_goes_the_short_way() {
    let mut pair = Pair::passive();
    pair.sim.limit(1, pair.client.context, 100_000, 1_000_000, false);
    let went = pair.short(|pair| {
        for _ in 0..20 {
            pair.call(Message::new(1));
            pair.sim.pass(100);
            pair.answer(Message::new(2));
            pair.sim.pass(100);
        }
    });
    assert_eq!(went, 40);
}

#[test]
fn messages_between_two_address_spaces_go_the_short_way() {
    for tags in [0, 8] {
        let config = anos_sim::Config { tags, ..anos_sim::Config::cores(2) };
        let sim = Sim::boot_with(config, &anos_sim::Payload::default().bytes(), 1).expect("the machine boots");
        let mut pair = Pair::on(sim);
        let space = pair.sim.make(Kind::AddressSpace, 0);
        pair.in_space(space);
        let went = pair.short(|pair| (0..10).for_each(|_| pair.round_trip()));
        assert_eq!(went, 20, "with {tags} tags");
    }
}

#[test]
fn a_call_goes_the_general_way_if_it_is_unusual() {
    let plain = Message::new(1);
    assert!(call_is_short(Pair::new(), plain));
    assert!(call_is_short(Pair::passive(), plain));

    let mut pair = Pair::new();
    let passed = pair.sim.mint(pair.endpoint, 7);
    assert!(!call_is_short(pair, plain.pass(passed)), "it passes a capability");
    assert!(!call_is_short(Pair::new(), plain.deadline(1_000_000)), "it has a deadline");

    let mut pair = Pair::new();
    let other = pair.sim.new_thread(1, CLIENT);
    pair.sim.ok(other.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    pair.sim.settle();
    assert!(call_is_short(pair, plain), "the timer is set for the end of the client's turn, and may come early");

    let mut pair = Pair::new();
    pair.sim.limit(1, pair.server.context, 100_000, 1_000_000, false);
    assert!(!call_is_short(pair, plain), "the timer must be set for the end of the server's budget");

    let mut pair = Pair::new();
    pair.sim.ok(pair.server.slot, Method::ThreadSetPriority, &[1, 1], 0);
    let urgent = pair.sim.new_thread(1, 3);
    pair.sim.ok(urgent.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    pair.sim.settle();
    let went = pair.short(|pair| pair.call(plain));
    assert_eq!((went, pair.sim.thread(core_id(1))), (0, Some(urgent.thread)), "somebody else is more urgent");
}

#[test]
fn an_answer_goes_the_general_way_if_it_is_unusual() {
    fn called(mut pair: Pair) -> Pair {
        pair.call(Message::new(1));
        pair
    }
    let plain = Message::new(2);
    assert!(answer_is_short(called(Pair::new()), plain));
    assert!(answer_is_short(called(Pair::passive()), plain));

    let mut pair = called(Pair::new());
    let passed = pair.sim.mint(pair.endpoint, 7);
    assert!(!answer_is_short(pair, plain.pass(passed)), "it passes a capability");
    assert!(!answer_is_short(called(Pair::new()), plain.deadline(1_000_000)), "it has a deadline");

    let mut pair = Pair::new();
    pair.call(Message::new(1).deadline(1_000_000));
    assert!(!answer_is_short(pair, plain), "the call has a deadline");

    let bound = || {
        let mut pair = Pair::new();
        let notification = pair.sim.make(Kind::Notification, 0);
        pair.sim.ok(pair.server.slot, Method::ThreadBind, &[], notification);
        let bit = pair.sim.mint(notification, 1);
        // The notification comes to the core on which its thread waits.
        pair.round_trip();
        (called(pair), bit)
    };
    assert!(answer_is_short(bound().0, plain), "there is no signal");
    let (mut pair, bit) = bound();
    let root = pair.sim.root();
    pair.sim.run(root, SystemCall::Send, bit, &Message::new(0));
    assert!(!answer_is_short(pair, plain), "the server takes a signal next");

    let mut pair = called(Pair::new());
    let second = pair.sim.spawn(1, SERVER + 1);
    pair.sim.run(second, SystemCall::Call, pair.endpoint, &Message::new(1));
    assert!(!answer_is_short(pair, plain), "somebody else calls already");
}

#[test]
fn a_client_that_waits_for_nobody_goes_the_general_way() {
    let mut pair = Pair::new();
    pair.call(Message::new(1));
    // The server waits again, on another endpoint: the call has nobody to go to.
    let elsewhere = pair.sim.make(Kind::Endpoint, 0);
    let message = Message::new(2).reply(pair.reply);
    pair.sim.run(pair.server, SystemCall::ReplyRecv, elsewhere, &message);
    let went = pair.short(|pair| pair.call(Message::new(1)));
    assert_eq!((went, pair.sim.state(pair.client)), (0, ThreadState::Sending));
}

#[test]
fn a_program_with_threads_on_several_cores_goes_the_short_way() {
    // The root server's thread on core 0 uses the same table all the time.
    let mut pair = Pair::new();
    let went = pair.short(|pair| {
        for _ in 0..10 {
            pair.sim.call(core_id(0), slot::CAP_TABLE, Method::CapTableInfo, &[], 0, 0).result().expect("it answers");
            pair.round_trip();
        }
    });
    assert_eq!(went, 30, "and so do the calls on the table");
}

#[test]
fn a_server_that_waits_with_a_deadline_is_called_the_general_way() {
    let mut pair = Pair::new();
    pair.call(Message::new(1));
    pair.answer(Message::new(2).deadline(1_000_000));
    assert!(!call_is_short(pair, Message::new(1)));
}

#[test]
fn the_short_way_asks_for_rights() {
    let mut pair = Pair::new();
    let to_receive = pair.sim.copy(pair.endpoint, Rights::READ.0);
    let went = pair.short(|pair| pair.sim.run(pair.client, SystemCall::Call, to_receive, &Message::new(1)));
    assert_eq!((went, pair.sim.answer_of(pair.client).result()), (0, Err(Error::MissingRights)));
    assert!(call_is_short(pair, Message::new(1)));

    let mut pair = Pair::new();
    let to_send = pair.sim.copy(pair.endpoint, Rights::WRITE.0);
    pair.call(Message::new(1));
    let message = Message::new(2).reply(pair.reply);
    let went = pair.short(|pair| pair.sim.run(pair.server, SystemCall::ReplyRecv, to_send, &message));
    assert_eq!((went, pair.sim.answer_of(pair.server).result()), (0, Err(Error::MissingRights)));
}

#[test]
fn what_another_core_uses_is_left_to_the_general_way() {
    let mut pair = Pair::new();
    let root = pair.sim.root();
    // A look from core 0, at which nobody waits to send.
    pair.sim.run(root, SystemCall::Recv, pair.endpoint, &Message::new(0).deadline(0));
    assert!(!call_is_short(pair, Message::new(1)));
}

#[test]
fn the_short_way_forgets_translations_of_what_was_unmapped() {
    const PLACE: u64 = 0x40_0000;
    let mut pair = Pair::new();
    let space = pair.sim.make(Kind::AddressSpace, 0);
    for level in [2, 1] {
        let table = pair.sim.make(Kind::PageTable, 0);
        pair.sim.ok(table, Method::PageTableMap, &[PLACE, level], space);
    }
    let frame = pair.sim.make(Kind::Frame, 1);
    pair.sim.ok(frame, Method::FrameMap, &[PLACE, 1, 0], space);
    pair.in_space(space);
    pair.call(Message::new(1));
    assert_eq!(pair.sim.load(core_id(1), PLACE), Some(0));
    pair.answer(Message::new(2));
    // The client unmaps it: the server's space isn't loaded, so nobody is asked to forget anything now.
    pair.sim.call(core_id(1), frame, Method::FrameUnmap, &[], 0, 0).result().expect("it was mapped");
    assert!(call_is_short(pair, Message::new(1)));
}
