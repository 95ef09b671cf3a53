//! The short way of what isn't a message: methods of kernel objects, calls on empty slots, and plain sends. What goes it,
//! what doesn't, and that it makes no difference. (The machine compares all memory with what the general way leaves.)

use anos_abi::boot::slot;
use anos_abi::object::{Method, ThreadState};
use anos_abi::{Error, Kind, Rights, SystemCall};
use anos_machine::CoreId;
use anos_sim::{Access, Message, Program, Sim, core_id};

const BOOT: CoreId = CoreId::BOOT;
const SHORT: u64 = 1;
const GENERAL: u64 = 0;

/// A machine that compares every visit. The root server runs on the boot core, where all that it has is at home.
fn boot(cores: u64) -> Sim {
    let mut sim = Sim::boot(cores);
    sim.compare_every = 1;
    sim
}

/// How many visits of something go the short way; all of those are compared.
fn short<T>(sim: &mut Sim, what: impl FnOnce(&mut Sim) -> T) -> u64 {
    let before = sim.compared;
    let _answer = what(sim);
    sim.check();
    sim.compared - before
}

/// The root server calls a method: which way it goes, and what it answers.
#[track_caller]
fn call(sim: &mut Sim, at: u32, method: Method, words: &[u64], slots: [u32; 2]) -> (u64, Result<[u64; 8], Error>) {
    let mut result = Err(Error::Again);
    let went = short(sim, |sim| result = sim.call(BOOT, at, method, words, slots[0], slots[1]).result());
    sim.settle();
    (went, result)
}

/// A method that must succeed, and go this way.
#[track_caller]
fn ok(sim: &mut Sim, way: u64, at: u32, method: Method, words: &[u64], slots: [u32; 2]) -> [u64; 8] {
    let (went, result) = call(sim, at, method, words, slots);
    assert_eq!(went, way, "{method:?}");
    result.unwrap_or_else(|error| panic!("{method:?}: {error}"))
}

/// A method that must be refused, the short way.
#[track_caller]
fn refused(sim: &mut Sim, at: u32, method: Method, words: &[u64], slots: [u32; 2], error: Error) {
    assert_eq!(call(sim, at, method, words, slots), (SHORT, Err(error)), "{method:?}");
}

#[test]
fn memory_is_made_and_mapped_the_short_way() {
    const PLACE: u64 = 0x7000_0000;
    for cores in [1, 3] {
        let mut sim = boot(cores);
        ok(&mut sim, SHORT, slot::UNTYPED, Method::UntypedInfo, &[], [0, 0]);
        let at = sim.slots(4);
        let [space, upper, lower, frame] = [at, at + 1, at + 2, at + 3];
        let kinds = [Kind::AddressSpace, Kind::PageTable, Kind::PageTable, Kind::Frame];
        for (kind, to) in kinds.into_iter().zip(at..) {
            let size = u64::from(kind == Kind::Frame);
            ok(&mut sim, SHORT, slot::UNTYPED, Method::UntypedRetype, &[kind as u64, size, 1, 0], [0, to]);
        }
        ok(&mut sim, SHORT, space, Method::AddressSpaceInfo, &[], [0, 0]);
        let map = [PLACE, 1, 0];
        refused(&mut sim, frame, Method::FrameMap, &map, [space, 0], Error::MissingTable);
        ok(&mut sim, SHORT, upper, Method::PageTableMap, &[PLACE, 2], [space, 0]);
        ok(&mut sim, SHORT, lower, Method::PageTableMap, &[PLACE, 1], [space, 0]);
        ok(&mut sim, SHORT, frame, Method::FrameMap, &map, [space, 0]);
        assert_eq!(ok(&mut sim, SHORT, frame, Method::FrameInfo, &[], [0, 0])[2], PLACE);
        refused(&mut sim, frame, Method::FrameMap, &map, [space, 0], Error::AlreadyMapped);
        ok(&mut sim, SHORT, frame, Method::FrameUnmap, &[], [0, 0]);
        ok(&mut sim, SHORT, lower, Method::PageTableUnmap, &[], [0, 0]);
        // None of these has a state of its own that ends with the last capability.
        for last in [frame, lower, upper] {
            ok(&mut sim, SHORT, slot::CAP_TABLE, Method::CapTableDelete, &[last.into()], [0, 0]);
        }
        ok(&mut sim, GENERAL, slot::CAP_TABLE, Method::CapTableDelete, &[space.into()], [0, 0]);
    }
}

#[test]
fn what_is_unmapped_can_not_be_read_any_more() {
    const PLACE: u64 = 0x10_0000_0000;
    for (cores, tags, way) in [(1, 0, SHORT), (1, 8, SHORT), (2, 0, GENERAL), (2, 8, GENERAL)] {
        let config = anos_sim::Config { tags, ..anos_sim::Config::cores(cores) };
        let mut sim = Sim::boot_with(config, &anos_sim::Payload::default().bytes(), 1).expect("the machine boots");
        sim.compare_every = 1;
        // With another core in it, the space is at home there, too.
        let last = core_id(cores - 1);
        if cores > 1 {
            sim.spawn(1, 5);
        }
        for level in [2, 1] {
            let table = sim.make(Kind::PageTable, 0);
            sim.ok(table, Method::PageTableMap, &[PLACE, level], slot::ADDRESS_SPACE);
        }
        let frame = sim.make(Kind::Frame, 1);
        for _ in 0..3 {
            ok(&mut sim, way, frame, Method::FrameMap, &[PLACE, 1, 0], [slot::ADDRESS_SPACE, 0]);
            let look = |sim: &mut Sim, core| sim.access(core, Access::Load, PLACE, 0).ok();
            assert_eq!((look(&mut sim, BOOT), look(&mut sim, last)), (Some(0), Some(0)));
            ok(&mut sim, way, frame, Method::FrameUnmap, &[], [0, 0]);
            assert_eq!((look(&mut sim, BOOT), look(&mut sim, last)), (None, None));
        }
    }
}

#[test]
fn capabilities_are_copied_moved_and_deleted_the_short_way() {
    const TABLE: u32 = slot::CAP_TABLE;
    for cores in [1, 2] {
        let mut sim = boot(cores);
        let (endpoint, first) = (sim.make(Kind::Endpoint, 0), sim.slots(3));
        let [copy, minted, moved] = [first, first + 1, first + 2];
        ok(&mut sim, SHORT, TABLE, Method::CapTableInfo, &[], [0, 0]);
        ok(&mut sim, SHORT, TABLE, Method::CapTableCopy, &[copy.into(), 15], [endpoint, 0]);
        refused(&mut sim, TABLE, Method::CapTableCopy, &[copy.into(), 15], [endpoint, 0], Error::SlotOccupied);
        ok(&mut sim, SHORT, TABLE, Method::CapTableMint, &[minted.into(), 15, 7], [endpoint, 0]);
        ok(&mut sim, SHORT, TABLE, Method::CapTableMove, &[moved.into()], [minted, 0]);
        assert_eq!(ok(&mut sim, SHORT, TABLE, Method::CapTableLook, &[moved.into()], [0, 0])[2], 7);
        refused(&mut sim, TABLE, Method::CapTableLook, &[0], [0, 0], Error::InvalidSlot);
        ok(&mut sim, GENERAL, TABLE, Method::CapTableCancel, &[moved.into()], [0, 0]);
        // Leaves go the short way; what has children, or is the last of its object, ends more than itself.
        ok(&mut sim, SHORT, TABLE, Method::CapTableDelete, &[moved.into()], [0, 0]);
        ok(&mut sim, GENERAL, TABLE, Method::CapTableRevoke, &[endpoint.into()], [0, 0]);
        assert!(sim.look(copy).is_empty());
        ok(&mut sim, SHORT, TABLE, Method::CapTableRevoke, &[endpoint.into()], [0, 0]);
        ok(&mut sim, SHORT, TABLE, Method::CapTableCopy, &[copy.into(), 15], [endpoint, 0]);
        ok(&mut sim, GENERAL, TABLE, Method::CapTableDelete, &[endpoint.into()], [0, 0]);
        ok(&mut sim, GENERAL, TABLE, Method::CapTableDelete, &[copy.into()], [0, 0]);
        assert!(sim.look(copy).is_empty());
        ok(&mut sim, SHORT, TABLE, Method::CapTableDelete, &[copy.into()], [0, 0]);
    }
}

#[test]
fn devices_are_driven_the_short_way_and_set_up_the_general_way() {
    for cores in [1, 2] {
        let mut sim = boot(cores);
        let (line, message, ports, notification) =
            (sim.slot(), sim.slot(), sim.slot(), sim.make(Kind::Notification, 0));
        let bit = sim.mint(notification, 4);
        let control = slot::INTERRUPT_CONTROL;
        ok(&mut sim, GENERAL, control, Method::InterruptControlGet, &[3, 1, 0], [0, line]);
        ok(&mut sim, GENERAL, control, Method::InterruptControlGet, &[15, 0, 0], [0, message]);
        refused(&mut sim, line, Method::InterruptAck, &[], [0, 0], Error::NotMapped);
        ok(&mut sim, GENERAL, line, Method::InterruptBind, &[], [bit, 0]);
        sim.board.lines[3].unmasked = false;
        ok(&mut sim, SHORT, line, Method::InterruptAck, &[], [0, 0]);
        assert!(sim.board.lines[3].unmasked);
        ok(&mut sim, SHORT, message, Method::InterruptMessage, &[], [0, 0]);
        refused(&mut sim, line, Method::InterruptMessage, &[], [0, 0], Error::Unsupported);
        ok(&mut sim, GENERAL, line, Method::InterruptUnbind, &[], [0, 0]);
        ok(&mut sim, GENERAL, slot::IO_PORT_CONTROL, Method::IoPortControlGet, &[8, 15], [0, ports]);
        ok(&mut sim, SHORT, ports, Method::IoPortOut, &[9, 1, 77], [0, 0]);
        assert_eq!(ok(&mut sim, SHORT, ports, Method::IoPortIn, &[9, 1], [0, 0])[0], 77);
        refused(&mut sim, ports, Method::IoPortIn, &[16, 1], [0, 0], Error::InvalidArgument);
    }
}

#[test]
fn what_has_to_do_with_who_runs_goes_the_general_way() {
    for cores in [1, 2] {
        let mut sim = boot(cores);
        let thread = sim.new_thread(0, 1);
        let start = [0x40_0000, 0x3f_0000_0000];
        ok(&mut sim, GENERAL, thread.slot, Method::ThreadInfo, &[], [0, 0]);
        ok(&mut sim, GENERAL, thread.slot, Method::ThreadSetPriority, &[2, 2], [0, 0]);
        ok(&mut sim, GENERAL, thread.slot, Method::ThreadStart, &start, [0, 0]);
        ok(&mut sim, GENERAL, thread.slot, Method::ThreadSuspend, &[], [0, 0]);
        ok(&mut sim, GENERAL, thread.slot, Method::ThreadResume, &[], [0, 0]);
        ok(&mut sim, GENERAL, thread.context, Method::SchedContextInfo, &[], [0, 0]);
        ok(&mut sim, GENERAL, slot::SCHED_CONTROL, Method::SchedControlInfo, &[], [0, 0]);
        ok(&mut sim, GENERAL, slot::SCHED_CONTROL, Method::SchedControlLimit, &[0, 0, 0], [thread.context, 0]);
        ok(&mut sim, GENERAL, slot::DEBUG, Method::DebugCounters, &[0], [0, 0]);
    }
}

#[test]
fn a_method_sent_without_a_call_and_one_with_a_deadline_go_the_short_way() {
    let mut sim = boot(1);
    let info = Message::new(Method::UntypedInfo.label());
    for message in [info, info.deadline(1)] {
        for call in [SystemCall::Send, SystemCall::Call] {
            assert_eq!(short(&mut sim, |sim| sim.system_call(BOOT, call, slot::UNTYPED, &message)), SHORT);
            sim.answer_of(sim.root()).result().expect("it answers all the same");
        }
        let receive = |sim: &mut Sim| sim.system_call(BOOT, SystemCall::Recv, slot::UNTYPED, &message);
        assert_eq!(short(&mut sim, receive), GENERAL);
        assert_eq!(sim.answer_of(sim.root()).result(), Err(Error::WrongKind));
    }
}

#[test]
fn a_method_without_its_right_or_of_another_kind_is_refused_the_short_way() {
    let mut sim = boot(2);
    let frame = sim.make(Kind::Frame, 1);
    let nothing = sim.copy(frame, Rights::NONE.0);
    refused(&mut sim, nothing, Method::FrameInfo, &[], [0, 0], Error::MissingRights);
    refused(&mut sim, frame, Method::UntypedInfo, &[], [0, 0], Error::InvalidMethod);
    refused(&mut sim, slot::CAP_TABLE, Method::ThreadInfo, &[], [0, 0], Error::InvalidMethod);
}

/// The root server calls `what` while another thread of its core is ready.
fn beside(priority: u8, what: impl Fn(&mut Sim) -> u64) -> (u64, Sim) {
    let mut sim = boot(1);
    let own = sim.ok(slot::THREAD, Method::ThreadInfo, &[], 0)[1];
    let own = u8::try_from(own).expect("a priority");
    sim.ok(slot::THREAD, Method::ThreadSetPriority, &[10, own.into()], 0);
    let other = sim.new_thread(0, priority);
    // Not settled: the timer's event is still to come, and a more urgent one runs at once.
    sim.call(BOOT, other.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0, 0);
    (what(&mut sim), sim)
}

fn info(sim: &mut Sim) -> u64 {
    let thread = sim.thread(BOOT).expect("somebody runs");
    let message = Message::new(Method::CapTableInfo.label());
    let went = short(sim, |sim| sim.system_call(BOOT, SystemCall::Call, slot::CAP_TABLE, &message));
    sim.answer(thread).result().expect("it answers");
    went
}

#[test]
fn a_method_goes_the_short_way_whoever_waits_for_its_turn() {
    let (went, sim) = beside(9, info);
    assert_eq!((went, sim.thread(BOOT)), (SHORT, Some(sim.root().thread)));
    let (went, sim) = beside(10, info);
    assert_eq!((went, sim.thread(BOOT)), (SHORT, Some(sim.root().thread)), "the timer is set for the end of its turn");
    // The more urgent one runs, and the root server is ready.
    let (went, sim) = beside(11, info);
    assert_eq!(went, SHORT);
    assert_ne!(sim.thread(BOOT), Some(sim.root().thread));
}

#[test]
fn a_thread_on_limited_time_calls_methods_the_general_way() {
    let mut sim = boot(1);
    sim.limit(0, slot::SCHED_CONTEXT, 100_000, 1_000_000, false);
    assert_eq!(info(&mut sim), GENERAL);
    sim.limit(0, slot::SCHED_CONTEXT, 0, 0, false);
    assert_eq!(info(&mut sim), SHORT);
}

#[test]
fn an_object_that_another_core_uses_is_left_to_the_general_way() {
    let mut sim = boot(2);
    let other = sim.spawn(1, 5);
    let to = sim.slot();
    let endpoint = sim.make(Kind::Endpoint, 0);
    let copy = |sim: &mut Sim| sim.call(BOOT, slot::CAP_TABLE, Method::CapTableCopy, &[to.into(), 15], endpoint, 0);
    // Core 1 uses the page of the table with these slots: now it is at home there, too.
    sim.run(other, SystemCall::Call, endpoint, &Message::new(0).deadline(0));
    let went = short(&mut sim, |sim| copy(sim).result().expect("it is copied"));
    assert_eq!(went, GENERAL, "what is written needs all locks of its homes");
    let look = |sim: &mut Sim| sim.call(BOOT, slot::CAP_TABLE, Method::CapTableLook, &[to.into()], 0, 0);
    let went = short(&mut sim, |sim| look(sim).result().expect("it is there"));
    assert_eq!(went, SHORT, "what is only read doesn't");
    // An interrupt line is the boot core's.
    let line = sim.slot();
    sim.call(BOOT, slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &[3, 0, 0], 0, line).result().expect("a line");
    let ack = Message::new(Method::InterruptAck.label());
    assert_eq!(short(&mut sim, |sim| sim.run(other, SystemCall::Call, line, &ack)), GENERAL);
    assert_eq!(sim.answer_of(other).result(), Err(Error::NotMapped));
}

#[test]
fn a_call_on_an_empty_slot_is_refused_the_short_way() {
    for cores in [1, 2] {
        let mut sim = boot(cores);
        let empty = sim.slot();
        for call in [SystemCall::Send, SystemCall::Call, SystemCall::ReplyRecv] {
            for message in [Message::new(1), Message::new(1).deadline(1), Message::new(1).reply(empty).pass(empty)] {
                let went = short(&mut sim, |sim| sim.system_call(BOOT, call, empty, &message));
                assert_eq!((went, sim.answer_of(sim.root()).result()), (SHORT, Err(Error::EmptySlot)), "{call:?}");
            }
        }
        let went = short(&mut sim, |sim| sim.system_call(BOOT, SystemCall::Recv, empty, &Message::new(1)));
        assert_eq!((went, sim.answer_of(sim.root()).result()), (GENERAL, Err(Error::EmptySlot)));
        let went = short(&mut sim, |sim| sim.system_call(BOOT, SystemCall::Call, 0, &Message::new(1)));
        assert_eq!(
            (went, sim.answer_of(sim.root()).result()),
            (GENERAL, Err(Error::InvalidSlot)),
            "there is no slot 0"
        );
    }
}

/// On core 1, a receiver waits on an Endpoint, and a sender of another priority runs.
struct Pair {
    sim: Sim,
    sender: Program,
    receiver: Program,
    endpoint: u32,
}

/// A slot that is never filled.
const EMPTY: u32 = 1023;
const MIDDLE: u8 = 5;

impl Pair {
    fn new(receiver: u8) -> Pair {
        let mut sim = boot(2);
        let endpoint = sim.make(Kind::Endpoint, 0);
        // It is lowered, or raised, once it waits: nobody else must run by then.
        let (receiver, priority) = (sim.spawn(1, MIDDLE), receiver);
        sim.run(receiver, SystemCall::Recv, endpoint, &Message::new(0));
        sim.ok(receiver.slot, Method::ThreadSetPriority, &[priority.into(), priority.into()], 0);
        let sender = sim.spawn(1, MIDDLE);
        let mut pair = Pair { sim, sender, receiver, endpoint };
        // Everything comes home to core 1.
        pair.send(pair.endpoint, Message::new(0));
        pair.wait();
        pair
    }

    /// The receiver waits again, whoever is in the way.
    fn wait(&mut self) {
        self.sim.ok(self.sender.slot, Method::ThreadSuspend, &[], 0);
        self.sim.settle();
        self.sim.run(self.receiver, SystemCall::Recv, self.endpoint, &Message::new(0));
        self.sim.ok(self.sender.slot, Method::ThreadResume, &[], 0);
        self.sim.settle();
    }

    /// The sender sends: which way that goes.
    fn send(&mut self, to: u32, message: Message) -> u64 {
        // What the root server has changed in the table is looked at on core 1 again.
        self.sim.system_call(core_id(1), SystemCall::Send, EMPTY, &Message::new(0));
        self.sim.settle();
        let sender = self.sender;
        short(&mut self.sim, |sim| sim.run(sender, SystemCall::Send, to, &message))
    }

    fn runs(&self) -> Option<anos_machine::Ref<anos_machine::Thread>> {
        self.sim.thread(core_id(1))
    }
}

#[test]
fn a_plain_send_to_who_waits_goes_the_short_way() {
    let message = Message::new(9).words(&[1, 2, 3, 4, 5, 6, 7, 8]);
    for (priority, runs) in [(MIDDLE - 1, false), (MIDDLE + 1, true)] {
        let mut pair = Pair::new(priority);
        let badged = pair.sim.mint(pair.endpoint, 77);
        assert_eq!(pair.send(badged, message), SHORT);
        let next = if runs { pair.receiver } else { pair.sender };
        assert_eq!(pair.runs(), Some(next.thread), "the more urgent one of the two");
        let got = pair.sim.answer_of(pair.receiver);
        assert_eq!((got.label, got.badge, got.words), (9, 77, message.words));
        assert!(!got.status.is_answerable(), "there is nobody to answer");
        pair.sim.answer_of(pair.sender).result().expect("it was sent");
        let states = (pair.sim.state(pair.sender), pair.sim.state(pair.receiver));
        assert_eq!(states, (ThreadState::Ready, ThreadState::Ready));
    }
}

#[test]
fn a_receiver_with_a_reply_keeps_it_for_a_call() {
    let mut pair = Pair::new(MIDDLE + 1);
    let reply = pair.sim.make(Kind::Reply, 0);
    pair.send(pair.endpoint, Message::new(1));
    pair.sim.run(pair.receiver, SystemCall::Recv, pair.endpoint, &Message::new(0).reply(reply));
    assert_eq!(pair.send(pair.endpoint, Message::new(2)), SHORT);
    pair.sim.run(pair.receiver, SystemCall::Recv, pair.endpoint, &Message::new(0).reply(reply));
    pair.sim.run(pair.sender, SystemCall::Call, pair.endpoint, &Message::new(3));
    assert!(pair.sim.answer_of(pair.receiver).status.is_answerable());
}

#[test]
fn a_send_goes_the_general_way_if_it_is_unusual() {
    let plain = Message::new(1);
    let got = |pair: &Pair| pair.sim.answer_of(pair.receiver).label;

    let mut pair = Pair::new(MIDDLE);
    assert_eq!(
        (pair.send(pair.endpoint, plain), got(&pair)),
        (GENERAL, 1),
        "the timer must be set for the end of a turn"
    );

    let mut pair = Pair::new(MIDDLE + 1);
    let passed = pair.sim.mint(pair.endpoint, 7);
    assert_eq!((pair.send(pair.endpoint, plain.pass(passed)), got(&pair)), (GENERAL, 1), "it passes a capability");

    let mut pair = Pair::new(MIDDLE + 1);
    assert_eq!((pair.send(pair.endpoint, plain.deadline(1 << 40)), got(&pair)), (GENERAL, 1), "it has a deadline");

    let mut pair = Pair::new(MIDDLE + 1);
    let to_receive = pair.sim.copy(pair.endpoint, Rights::READ.0);
    assert_eq!(pair.send(to_receive, plain), GENERAL);
    assert_eq!(pair.sim.answer_of(pair.sender).result(), Err(Error::MissingRights));

    let mut pair = Pair::new(MIDDLE + 1);
    pair.sim.limit(1, pair.receiver.context, 100_000, 1_000_000, false);
    assert_eq!((pair.send(pair.endpoint, plain), got(&pair)), (GENERAL, 1), "the receiver's time is limited");

    let mut pair = Pair::new(MIDDLE + 1);
    pair.sim.limit(1, pair.sender.context, 100_000, 1_000_000, false);
    assert_eq!((pair.send(pair.endpoint, plain), got(&pair)), (GENERAL, 1), "the sender's is");

    // It brings no time, and whoever has none can't take it.
    for priority in [MIDDLE - 1, MIDDLE + 1] {
        let mut pair = Pair::new(priority);
        pair.sim.ok(pair.receiver.slot, Method::ThreadSetContext, &[], 0);
        assert_eq!(pair.send(pair.endpoint, plain), GENERAL);
        assert_eq!(pair.sim.answer_of(pair.sender).result(), Err(Error::NotRunnable));
        assert_eq!(pair.sim.state(pair.receiver), ThreadState::Receiving);
    }
}

/// A system call of core 1 waits for the kernel's lock while the root server starts a more urgent thread there, which so
/// needs no kick: which way the call goes, and who runs then.
fn overtaken(mut pair: Pair, call: SystemCall, to: u32, message: Message) -> (u64, bool) {
    let urgent = pair.sim.new_thread(1, MIDDLE + 5);
    pair.send(EMPTY, Message::new(0));
    let sender = pair.sim.trap_system_call(core_id(1), call, to, &message);
    pair.sim
        .call(BOOT, urgent.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0, 0)
        .result()
        .expect("started");
    let went = short(&mut pair.sim, |sim| sim.go_on(core_id(1)));
    assert_eq!(sender, pair.sender.thread);
    assert_eq!(pair.sim.state(pair.sender), ThreadState::Ready);
    (went, pair.runs() == Some(urgent.thread))
}

#[test]
fn a_more_urgent_thread_that_became_ready_meanwhile_is_not_kept_waiting() {
    let info = Message::new(Method::CapTableInfo.label());
    assert_eq!(overtaken(Pair::new(MIDDLE - 1), SystemCall::Call, slot::CAP_TABLE, info), (GENERAL, true));
    assert_eq!(overtaken(Pair::new(MIDDLE - 1), SystemCall::Call, EMPTY, info), (GENERAL, true));
    assert_eq!(overtaken(Pair::new(MIDDLE - 1), SystemCall::Yield, 0, info), (GENERAL, true));
    for receiver in [MIDDLE - 1, MIDDLE + 1] {
        let pair = Pair::new(receiver);
        let endpoint = pair.endpoint;
        assert_eq!(overtaken(pair, SystemCall::Send, endpoint, info), (GENERAL, true), "sent to {receiver}");
    }
    let mut pair = Pair::new(MIDDLE);
    let notification = pair.sim.make(Kind::Notification, 0);
    let bit = pair.sim.mint(notification, 1);
    pair.sim.run(pair.sender, SystemCall::Send, bit, &Message::new(0));
    assert_eq!(overtaken(pair, SystemCall::Send, bit, info), (GENERAL, true));
}

#[test]
fn a_send_to_several_who_wait_or_to_nobody_goes_the_general_way() {
    let mut pair = Pair::new(MIDDLE + 1);
    let second = pair.sim.spawn(1, MIDDLE + 2);
    pair.sim.run(second, SystemCall::Recv, pair.endpoint, &Message::new(0));
    assert_eq!((pair.send(pair.endpoint, Message::new(1)), pair.runs()), (GENERAL, Some(pair.receiver.thread)));
    assert_eq!(pair.sim.state(second), ThreadState::Receiving, "it came later");

    let mut pair = Pair::new(MIDDLE - 1);
    assert_eq!(pair.send(pair.endpoint, Message::new(1)), SHORT);
    assert_eq!(pair.send(pair.endpoint, Message::new(2)), GENERAL, "it waits to send");
    assert_eq!(pair.sim.state(pair.sender), ThreadState::Sending);

    // Who waits with a deadline is in a bucket of the core's.
    let mut pair = Pair::new(MIDDLE + 1);
    pair.send(pair.endpoint, Message::new(1));
    let deadline = Message::new(0).deadline(1 << 40);
    pair.sim.run(pair.receiver, SystemCall::Recv, pair.endpoint, &deadline);
    assert_eq!((pair.send(pair.endpoint, Message::new(2)), pair.runs()), (GENERAL, Some(pair.receiver.thread)));
}

#[test]
fn a_send_to_another_core_goes_the_general_way() {
    let mut pair = Pair::new(MIDDLE + 1);
    let went = short(&mut pair.sim, |sim| sim.run(sim.root(), SystemCall::Send, pair.endpoint, &Message::new(1)));
    assert_eq!((went, pair.runs()), (GENERAL, Some(pair.receiver.thread)));
}
