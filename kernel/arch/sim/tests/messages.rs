//! Messages between threads: send, call, receive, reply, passed capabilities, signals, faults.

use anos_abi::boot::slot;
use anos_abi::fault::{self, FaultKind};
use anos_abi::object::{Method, ThreadState};
use anos_abi::syscall::POLL;
use anos_abi::{Error, Kind, SystemCall};
use anos_machine::CoreId;
use anos_sim::{Message, Program, Sim};

const BOOT: CoreId = CoreId::BOOT;

/// A machine with a server and a client, each on a core of its own, an Endpoint, and a Reply for the server.
struct Pair {
    sim: Sim,
    server: Program,
    client: Program,
    endpoint: u32,
    reply: u32,
}

impl Pair {
    fn new() -> Pair {
        let mut sim = Sim::boot(3);
        let server = sim.spawn(1, 5);
        let client = sim.spawn(2, 5);
        let endpoint = sim.make(Kind::Endpoint, 0);
        let reply = sim.make(Kind::Reply, 0);
        Pair { sim, server, client, endpoint, reply }
    }

    fn server(&mut self, call: SystemCall, target: u32, message: Message) {
        self.sim.run(self.server, call, target, &message);
    }

    fn client(&mut self, call: SystemCall, target: u32, message: Message) {
        self.sim.run(self.client, call, target, &message);
    }

    fn states(&self) -> (ThreadState, ThreadState) {
        (self.sim.state(self.server), self.sim.state(self.client))
    }
}

fn message() -> Message {
    Message::new(0)
}

#[test]
fn a_call_is_answered_whoever_comes_first() {
    for server_first in [true, false] {
        let mut pair = Pair::new();
        let (endpoint, reply) = (pair.endpoint, pair.reply);
        let client = pair.sim.mint(endpoint, 0xbad9e);
        let words = [1, 2, 3, 4, 5, 6, 7, 8];
        if server_first {
            pair.server(SystemCall::Recv, endpoint, message().reply(reply));
            assert_eq!(pair.states().0, ThreadState::Receiving);
        }
        pair.client(SystemCall::Call, client, Message::new(42).words(&words));
        if !server_first {
            assert_eq!(pair.states().1, ThreadState::Sending);
            pair.server(SystemCall::Recv, endpoint, message().reply(reply));
        }
        assert_eq!(pair.states(), (ThreadState::Ready, ThreadState::Calling));
        let got = pair.sim.answer_of(pair.server);
        assert!(got.status.is_answerable() && !got.status.is_signal() && !got.status.has_capability());
        assert_eq!((got.status.result(), got.label, got.badge, got.words), (Ok(()), 42, 0xbad9e, words));
        pair.server(SystemCall::ReplyRecv, endpoint, Message::new(0).words(&[9, 8, 7]).reply(reply));
        assert_eq!(pair.states(), (ThreadState::Receiving, ThreadState::Ready));
        let answer = pair.sim.answer_of(pair.client);
        assert_eq!((answer.result(), answer.badge), (Ok([9, 8, 7, 0, 0, 0, 0, 0]), 0));
    }
}

#[test]
fn a_send_goes_on_as_soon_as_it_is_taken_and_can_not_be_answered() {
    let mut pair = Pair::new();
    let (endpoint, reply) = (pair.endpoint, pair.reply);
    pair.client(SystemCall::Send, endpoint, Message::new(7));
    assert_eq!(pair.states().1, ThreadState::Sending);
    pair.server(SystemCall::Recv, endpoint, message().reply(reply));
    assert_eq!(pair.states(), (ThreadState::Ready, ThreadState::Ready));
    let got = pair.sim.answer_of(pair.server);
    assert_eq!((got.label, got.status.is_answerable()), (7, false));
    let answer = pair.sim.answer_of(pair.client);
    assert_eq!((answer.result(), answer.words), (Ok([0; 8]), [0; 8]), "the message does not stay in its registers");
    pair.server(SystemCall::Send, reply, message());
    assert_eq!(pair.sim.answer_of(pair.server).status.result(), Err(Error::PeerDied), "nobody to answer");
}

#[test]
fn an_answer_can_be_sent_once_through_the_reply() {
    let mut pair = Pair::new();
    let (endpoint, reply) = (pair.endpoint, pair.reply);
    pair.client(SystemCall::Call, endpoint, Message::new(1));
    pair.server(SystemCall::Recv, endpoint, message().reply(reply));
    pair.server(SystemCall::Recv, endpoint, message().reply(reply));
    assert_eq!(pair.sim.answer_of(pair.server).status.result(), Err(Error::Busy), "the Reply owes an answer");
    pair.server(SystemCall::Send, reply, Message::new(5));
    assert_eq!((pair.states().1, pair.sim.answer_of(pair.client).label), (ThreadState::Ready, 5));
    pair.server(SystemCall::Send, reply, Message::new(6));
    assert_eq!(pair.sim.answer_of(pair.server).status.result(), Err(Error::PeerDied));
    assert_eq!(pair.sim.answer_of(pair.client).label, 5);
}

#[test]
fn a_call_to_a_receiver_without_reply_fails() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    pair.server(SystemCall::Recv, endpoint, message());
    pair.client(SystemCall::Call, endpoint, Message::new(1));
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::NoReply));
    assert!(!pair.sim.answer_of(pair.server).status.is_answerable());
}

#[test]
fn senders_are_served_in_the_order_in_which_they_came() {
    let mut sim = Sim::boot(5);
    let endpoint = sim.make(Kind::Endpoint, 0);
    for core in 1..5 {
        let program = sim.spawn(core, 5);
        let badged = sim.mint(endpoint, core);
        sim.run(program, SystemCall::Send, badged, &Message::new(core));
    }
    for core in 1..5 {
        sim.system_call(BOOT, SystemCall::Recv, endpoint, &message());
        let got = sim.answer(sim.root().thread);
        assert_eq!((got.label, got.badge), (core, core));
        sim.check();
    }
}

#[test]
fn rights_decide_who_may_send_receive_and_pass() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    let read = pair.sim.copy(endpoint, 1);
    let write = pair.sim.copy(endpoint, 2);
    pair.client(SystemCall::Send, read, message());
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::MissingRights));
    pair.client(SystemCall::Recv, write, message());
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::MissingRights));
    pair.client(SystemCall::Send, write, message().pass(endpoint));
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::MissingRights), "passing takes grant");
    pair.client(SystemCall::Recv, slot::DEBUG, message());
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::WrongKind));
    pair.client(SystemCall::Recv, 900, message());
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::EmptySlot));
    pair.client(SystemCall::Recv, 0, message());
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::InvalidSlot));
    pair.client(SystemCall::ReplyRecv, endpoint, message());
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::InvalidSlot), "no Reply named");
    pair.client(SystemCall::ReplyRecv, endpoint, message().reply(endpoint));
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::WrongKind));
}

#[test]
fn a_passed_capability_is_copied_and_the_copy_is_the_senders_to_revoke() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    let frame = pair.sim.make(Kind::Frame, 1);
    let poor = pair.sim.copy(frame, 1);
    let to = pair.sim.slot();
    pair.server(SystemCall::Recv, endpoint, message().receive(to));
    pair.client(SystemCall::Send, endpoint, message().pass(poor));
    assert!(pair.sim.answer_of(pair.server).status.has_capability());
    let got = pair.sim.look(to);
    assert_eq!((got.kind(), got.rights, got.object), (Kind::Frame, 1, pair.sim.look(frame).object));
    pair.sim.revoke(poor);
    assert!(pair.sim.look(to).is_empty());
}

#[test]
fn a_capability_without_copies_moves_with_the_message() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    let part = pair.sim.make(Kind::Untyped, 2);
    let to = pair.sim.slot();
    pair.client(SystemCall::Send, endpoint, message().pass(part));
    assert!(!pair.sim.look(part).is_empty(), "not before somebody takes it");
    pair.server(SystemCall::Recv, endpoint, message().receive(to));
    assert!(pair.sim.look(part).is_empty());
    assert_eq!(pair.sim.look(to).kind(), Kind::Untyped);
}

#[test]
fn a_receiver_without_room_gets_the_message_without_the_capability() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    for receive in [0, slot::DEBUG, 4096, u32::MAX] {
        pair.server(SystemCall::Recv, endpoint, message().receive(receive));
        pair.client(SystemCall::Send, endpoint, Message::new(3).pass(slot::DEBUG));
        let got = pair.sim.answer_of(pair.server);
        assert_eq!((got.label, got.status.has_capability()), (3, false), "{receive}");
    }
}

#[test]
fn an_answer_carries_a_capability_into_the_callers_slot() {
    let mut pair = Pair::new();
    let (endpoint, reply) = (pair.endpoint, pair.reply);
    let to = pair.sim.slot();
    pair.server(SystemCall::Recv, endpoint, message().reply(reply));
    pair.client(SystemCall::Call, endpoint, message().receive(to));
    pair.server(SystemCall::ReplyRecv, endpoint, message().reply(reply).pass(slot::DEBUG));
    assert!(pair.sim.answer_of(pair.client).status.has_capability());
    assert_eq!(pair.sim.look(to).kind(), Kind::Debug);
}

#[test]
fn polling_does_not_wait() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    for call in [SystemCall::Send, SystemCall::Call, SystemCall::Recv] {
        pair.client(call, endpoint, message().deadline(POLL));
        assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::TimedOut), "{call:?}");
    }
    pair.server(SystemCall::Recv, endpoint, message());
    pair.client(SystemCall::Send, endpoint, Message::new(4).deadline(POLL));
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Ok(()));
    assert_eq!(pair.sim.answer_of(pair.server).label, 4);
}

#[test]
fn an_endpoint_that_ends_tells_all_who_wait_on_it() {
    for (call, error) in
        [(SystemCall::Send, Error::PeerDied), (SystemCall::Call, Error::PeerDied), (SystemCall::Recv, Error::Cancelled)]
    {
        let mut pair = Pair::new();
        let endpoint = pair.endpoint;
        pair.client(call, endpoint, message());
        pair.server(call, endpoint, message());
        pair.sim.delete(endpoint);
        for program in [pair.client, pair.server] {
            assert_eq!(pair.sim.answer_of(program).status.result(), Err(error), "{call:?}");
            assert_eq!(pair.sim.state(program), ThreadState::Ready);
        }
    }
}

#[test]
fn a_reply_that_ends_tells_the_caller() {
    let mut pair = Pair::new();
    let (endpoint, reply) = (pair.endpoint, pair.reply);
    pair.client(SystemCall::Call, endpoint, message());
    pair.server(SystemCall::Recv, endpoint, message().reply(reply));
    pair.sim.delete(reply);
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::PeerDied));
}

#[test]
fn a_thread_that_ends_leaves_every_queue() {
    for call in [SystemCall::Send, SystemCall::Call, SystemCall::Recv] {
        let mut pair = Pair::new();
        let (endpoint, reply) = (pair.endpoint, pair.reply);
        pair.client(call, endpoint, message());
        pair.sim.delete(pair.client.slot);
        assert_eq!(pair.sim.thread(pair.client.core), None);
        let polled = if call == SystemCall::Recv { SystemCall::Send } else { SystemCall::Recv };
        pair.server(polled, endpoint, message().deadline(POLL));
        assert_eq!(pair.sim.answer_of(pair.server).status.result(), Err(Error::TimedOut), "{call:?}");
        // And as a caller, whose Reply becomes free.
        let mut pair = Pair::new();
        pair.client(SystemCall::Call, endpoint, message());
        pair.server(SystemCall::Recv, endpoint, message().reply(reply));
        pair.sim.delete(pair.client.slot);
        pair.server(SystemCall::Send, reply, message());
        assert_eq!(pair.sim.answer_of(pair.server).status.result(), Err(Error::PeerDied));
    }
}

#[test]
fn a_suspended_wait_answers_cancelled_when_resumed() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    pair.client(SystemCall::Recv, endpoint, message());
    pair.sim.ok(pair.client.slot, Method::ThreadSuspend, &[], 0);
    assert_eq!(pair.states().1, ThreadState::Stopped);
    pair.sim.ok(pair.client.slot, Method::ThreadResume, &[], 0);
    assert_eq!(pair.states().1, ThreadState::Ready);
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::Cancelled));
}

#[test]
fn signals_add_up_until_they_are_taken() {
    let mut pair = Pair::new();
    let notification = pair.sim.make(Kind::Notification, 0);
    let one = pair.sim.mint(notification, 0b01);
    let two = pair.sim.mint(notification, 0b10);
    pair.client(SystemCall::Send, one, message());
    pair.client(SystemCall::Send, two, message());
    pair.client(SystemCall::Send, two, message());
    pair.server(SystemCall::Recv, notification, message());
    let got = pair.sim.answer_of(pair.server);
    assert_eq!((got.badge, got.status.is_signal()), (0b11, true));
    pair.server(SystemCall::Recv, notification, message().deadline(POLL));
    assert_eq!(pair.sim.answer_of(pair.server).status.result(), Err(Error::TimedOut));
    pair.server(SystemCall::Recv, notification, message());
    assert_eq!(pair.states().0, ThreadState::Receiving);
    pair.client(SystemCall::Send, two, message());
    assert_eq!(pair.sim.answer_of(pair.server).badge, 0b10);
    let weak = pair.sim.copy(one, 1);
    pair.client(SystemCall::Send, weak, message());
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::MissingRights));
}

#[test]
fn a_bound_notification_ends_a_receive_on_any_endpoint() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    let notification = pair.sim.make(Kind::Notification, 0);
    let badged = pair.sim.mint(notification, 4);
    pair.sim.ok(pair.server.slot, Method::ThreadBind, &[], notification);
    let busy = pair.sim.call(BOOT, pair.client.slot, Method::ThreadBind, &[], notification, 0);
    assert_eq!(busy.result(), Err(Error::Busy), "bound to another thread");
    pair.server(SystemCall::Recv, endpoint, message());
    pair.client(SystemCall::Send, badged, message());
    let got = pair.sim.answer_of(pair.server);
    assert_eq!((pair.states().0, got.badge, got.status.is_signal()), (ThreadState::Ready, 4, true));
    // Signals that came before are taken first.
    pair.client(SystemCall::Send, badged, message());
    pair.server(SystemCall::Recv, endpoint, message());
    assert_eq!(pair.sim.answer_of(pair.server).badge, 4);
    // Unbound, it no longer does; and it can be bound elsewhere.
    pair.sim.ok(pair.server.slot, Method::ThreadBind, &[], 0);
    pair.server(SystemCall::Recv, endpoint, message());
    pair.client(SystemCall::Send, badged, message());
    assert_eq!(pair.states().0, ThreadState::Receiving);
    pair.sim.ok(pair.client.slot, Method::ThreadBind, &[], notification);
    pair.sim.delete(pair.client.slot);
    pair.sim.ok(pair.server.slot, Method::ThreadBind, &[], notification);
}

#[test]
fn signals_that_came_before_the_binding_reach_a_thread_that_waits_already() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    let notification = pair.sim.make(Kind::Notification, 0);
    let badged = pair.sim.mint(notification, 8);
    pair.client(SystemCall::Send, badged, message());
    pair.server(SystemCall::Recv, endpoint, message());
    pair.sim.ok(pair.server.slot, Method::ThreadBind, &[], notification);
    assert_eq!((pair.states().0, pair.sim.answer_of(pair.server).badge), (ThreadState::Ready, 8));
}

fn with_handler(pair: &mut Pair) -> u32 {
    let badged = pair.sim.mint(pair.endpoint, 0xfa);
    pair.sim.ok(pair.client.slot, Method::ThreadSetFaultEndpoint, &[], badged);
    badged
}

#[test]
fn a_fault_is_a_message_and_the_answer_resumes_or_stops() {
    for (label, state) in [(0, ThreadState::Ready), (1, ThreadState::Stopped)] {
        let mut pair = Pair::new();
        let (endpoint, reply) = (pair.endpoint, pair.reply);
        with_handler(&mut pair);
        pair.server(SystemCall::Recv, endpoint, message().reply(reply));
        let before = pair.sim.board.processors[2].registers;
        assert_eq!(pair.sim.load(pair.client.core, 0x1234_5678), None);
        pair.sim.settle();
        pair.sim.check();
        assert_eq!(pair.states(), (ThreadState::Ready, ThreadState::Faulted));
        let got = pair.sim.answer_of(pair.server);
        assert_eq!((got.label, got.badge, got.status.is_answerable()), (fault::LABEL, 0xfa, true));
        assert_eq!(got.words[..5], [FaultKind::Read as u64, before.pc, 0x1234_5678, 1, before.sp]);
        pair.server(SystemCall::ReplyRecv, endpoint, Message::new(label).words(&[1, 2, 3]).reply(reply));
        assert_eq!(pair.states().1, state);
        if state == ThreadState::Ready {
            let after = pair.sim.board.processors[2].registers;
            assert_eq!((after.words, after.pc), (before.words, before.pc), "a fault's answer changes no register");
        }
    }
}

#[test]
fn a_fault_without_handler_stops_the_thread_and_only_the_root_servers_is_told_on_the_console() {
    let mut pair = Pair::new();
    assert!(!pair.sim.store(pair.client.core, 0x40_0000, 1));
    pair.sim.check();
    assert_eq!(pair.states().1, ThreadState::Stopped);
    assert!(pair.sim.board.console.is_empty(), "a program can't make the kernel write, which takes long");
    assert!(!pair.sim.store(CoreId::BOOT, 0x40_0000, 1));
    pair.sim.check();
    assert_eq!(pair.sim.state(pair.sim.root()), ThreadState::Stopped);
    let console = String::from_utf8(pair.sim.board.console.clone()).expect("text");
    assert!(console.starts_with("anos: ") && console.contains("0x0000000000400000"), "{console}");
    assert!(console.contains(FaultKind::Write.text()));
}

#[test]
fn a_fault_whose_handler_can_not_answer_stops_the_thread() {
    let mut pair = Pair::new();
    let endpoint = pair.endpoint;
    with_handler(&mut pair);
    pair.server(SystemCall::Recv, endpoint, message());
    pair.sim.fault(pair.client.core, FaultKind::IllegalInstruction);
    pair.sim.settle();
    pair.sim.check();
    assert_eq!(pair.states(), (ThreadState::Ready, ThreadState::Stopped));
}

#[test]
fn a_faulted_thread_stops_when_its_handler_goes() {
    for received in [false, true] {
        let mut pair = Pair::new();
        let (endpoint, reply) = (pair.endpoint, pair.reply);
        let badged = with_handler(&mut pair);
        pair.sim.fault(pair.client.core, FaultKind::Arithmetic);
        if received {
            pair.server(SystemCall::Recv, endpoint, message().reply(reply));
            assert_eq!(pair.states().1, ThreadState::Faulted);
            pair.sim.delete(reply);
        } else {
            assert_eq!(pair.states().1, ThreadState::Sending);
            pair.sim.delete(badged);
            pair.sim.revoke(endpoint);
            pair.sim.delete(endpoint);
        }
        assert_eq!(pair.states().1, ThreadState::Stopped, "received: {received}");
    }
}

#[test]
fn a_thread_that_once_faulted_waits_like_any_other() {
    let mut pair = Pair::new();
    let (endpoint, reply) = (pair.endpoint, pair.reply);
    with_handler(&mut pair);
    pair.server(SystemCall::Recv, endpoint, message().reply(reply));
    pair.sim.fault(pair.client.core, FaultKind::Breakpoint);
    pair.sim.settle();
    pair.server(SystemCall::Send, reply, Message::new(0));
    assert_eq!(pair.states().1, ThreadState::Ready);
    // It receives; what it receives on ends: it is told, and does not stop for a fault long past.
    let other = pair.sim.make(Kind::Endpoint, 0);
    pair.client(SystemCall::Recv, other, message());
    pair.sim.delete(other);
    assert_eq!(pair.states().1, ThreadState::Ready);
    assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::Cancelled));
}

#[test]
fn system_calls_that_are_none_are_refused() {
    let mut pair = Pair::new();
    for operation in [5, 255, 1 << 8, 1 << 16, 1 << 31, u64::MAX] {
        let registers = &mut pair.sim.board.processors[2].registers;
        registers.operation = operation;
        pair.sim.enter(pair.client.core, anos_machine::Event::SystemCall);
        assert_eq!(pair.sim.answer_of(pair.client).status.result(), Err(Error::InvalidSystemCall), "{operation:#x}");
    }
}

#[test]
fn no_word_of_a_message_reaches_anybody_it_was_not_for() {
    let mut pair = Pair::new();
    let (endpoint, reply) = (pair.endpoint, pair.reply);
    let secret = [0x5ec3e7; 8];
    pair.server(SystemCall::Recv, endpoint, Message::new(0x5ec3e7).words(&secret).reply(reply));
    pair.client(SystemCall::Call, endpoint, Message::new(1).words(&[1]));
    let got = pair.sim.answer_of(pair.server);
    assert_eq!((got.label, got.words), (1, [1, 0, 0, 0, 0, 0, 0, 0]));
    pair.server(SystemCall::Send, reply, Message::new(2).words(&[2]));
    assert_eq!(pair.sim.answer_of(pair.client).words, [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(pair.sim.answer_of(pair.server).words, [0; 8]);
}

#[test]
fn what_ends_in_one_call_wakes_so_many_in_all() {
    const MOST: usize = anos_core::bounds::WAKE_STEPS;
    let mut sim = Sim::boot(2);
    let part = sim.make(Kind::Untyped, 4);
    let endpoints = sim.make_from(part, Kind::Endpoint, 0, 2);
    let mut senders = Vec::new();
    for number in 0..2 * (MOST - 1) {
        let sender = sim.spawn(1, 5);
        sim.run(sender, SystemCall::Send, endpoints + u32::from(number % 2 == 0), &Message::new(1));
        senders.push(sender);
    }
    let waiting = |sim: &Sim| senders.iter().filter(|&&sender| sim.state(sender) == ThreadState::Sending).count();
    assert_eq!(waiting(&sim), senders.len());
    let revoke = [part.into()];
    let answer = sim.call(BOOT, slot::CAP_TABLE, Method::CapTableRevoke, &revoke, 0, 0);
    assert_eq!((answer.result(), waiting(&sim)), (Err(Error::Again), senders.len() - MOST));
    sim.revoke(part);
    assert_eq!(waiting(&sim), 0);
}
