//! What travels with an answer, whatever the answering thread has been through.

use anos_abi::boot::slot;
use anos_abi::fault::FaultKind;
use anos_abi::object::Method;
use anos_abi::{Kind, SystemCall};
use anos_sim::{Message, Sim};

/// A pager answers a server's fault, the server goes on, and answers a call with a capability: the caller gets it.
#[test]
fn a_server_that_has_faulted_passes_capabilities_with_its_answers() {
    let mut sim = Sim::boot(1);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let faults = sim.make(Kind::Endpoint, 0);
    let reply = sim.make_from(slot::UNTYPED, Kind::Reply, 0, 2);
    let (passed, received) = (sim.make(Kind::Notification, 0), sim.slot());
    sim.ok(slot::THREAD, Method::ThreadSetPriority, &[50, 255], 0);
    let client = sim.new_thread(0, 60);
    let server = sim.new_thread(0, 100);
    sim.ok(server.slot, Method::ThreadSetFaultEndpoint, &[], faults);
    // The server faults, and its pager (the root server) has it go on.
    sim.ok(server.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    sim.fault(server.core, FaultKind::Breakpoint);
    let root = sim.root();
    sim.run(root, SystemCall::Recv, faults, &Message::new(0).reply(reply));
    sim.run(root, SystemCall::Send, reply, &Message::new(0));
    // It takes a call, and answers with a capability.
    sim.run(server, SystemCall::Recv, endpoint, &Message::new(0).reply(reply + 1));
    sim.ok(client.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    sim.run(client, SystemCall::Call, endpoint, &Message::new(1).receive(received));
    sim.run(server, SystemCall::ReplyRecv, endpoint, &Message::new(2).reply(reply + 1).pass(passed));
    let answer = sim.answer_of(client);
    assert_eq!(answer.label, 2);
    assert!(answer.status.has_capability(), "{answer:?}");
    assert_eq!(sim.look(received).kind(), Kind::Notification);
}
