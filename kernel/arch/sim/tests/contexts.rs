//! CPU time: budgets, passive threads, and what is lent along calls.

use anos_abi::fault::{self, FaultKind};
use anos_abi::object::{Method, ThreadState};
use anos_abi::{Error, Kind, SystemCall};
use anos_machine::CoreId;
use anos_sim::{Message, Program, Sim, core_id};

const BOOT: CoreId = CoreId::BOOT;
/// A budget and its period, ns.
const BUDGET: u64 = 30_000;
const PERIOD: u64 = 100_000;

fn message() -> Message {
    Message::new(0)
}

fn runs(sim: &Sim, program: Program) -> bool {
    (0..sim.board.config.cores).any(|core| sim.thread(core_id(core)) == Some(program.thread))
}

/// What is left of a context's budget.
fn left(sim: &mut Sim, context: u32) -> u64 {
    sim.ok(context, Method::SchedContextInfo, &[], 0)[3]
}

/// The program computes for so long, or until its time is over.
fn compute(sim: &mut Sim, program: Program, nanoseconds: u64) -> u64 {
    let mut done = 0;
    while done < nanoseconds && runs(sim, program) {
        done += 1000;
        sim.pass(1000);
        sim.check();
    }
    done
}

/// A passive server that waits on an Endpoint, and a client; all on core 1.
struct Passive {
    sim: Sim,
    server: Program,
    client: Program,
    endpoint: u32,
    reply: u32,
}

impl Passive {
    fn new(client_core: u64) -> Passive {
        let mut sim = Sim::boot(3);
        let endpoint = sim.make(Kind::Endpoint, 0);
        let reply = sim.make(Kind::Reply, 0);
        let server = sim.spawn(1, 5);
        sim.run(server, SystemCall::Recv, endpoint, &message().reply(reply));
        sim.ok(server.slot, Method::ThreadSetContext, &[], 0);
        let client = sim.spawn(client_core, 9);
        Passive { sim, server, client, endpoint, reply }
    }

    /// The server, as it runs on the client's core.
    fn there(&self) -> Program {
        Program { core: self.client.core, ..self.server }
    }
}

#[test]
fn a_thread_without_a_context_can_t_be_started() {
    let mut sim = Sim::boot(2);
    let program = sim.new_thread(1, 5);
    sim.ok(program.slot, Method::ThreadSetContext, &[], 0);
    let start = [0x40_0000, 0x3f_0000_0000];
    let answer = sim.call(BOOT, program.slot, Method::ThreadStart, &start, 0, 0);
    assert_eq!(answer.result(), Err(Error::NotRunnable));
    sim.ok(program.slot, Method::ThreadSetContext, &[], program.context);
    sim.ok(program.slot, Method::ThreadStart, &start, 0);
    sim.settle();
    assert!(runs(&sim, program));
}

#[test]
fn a_context_belongs_to_one_thread_and_one_core() {
    let mut sim = Sim::boot(3);
    let (one, other) = (sim.spawn(1, 5), sim.spawn(2, 5));
    let answer = sim.call(BOOT, other.slot, Method::ThreadSetContext, &[], one.context, 0);
    assert_eq!(answer.result(), Err(Error::Busy));
    let info = sim.ok(one.context, Method::SchedContextInfo, &[], 0);
    assert_eq!((info[0], info[1], info[2], info[5]), (1, 0, 0, 1));
    // Only who controls the core limits it, and the numbers must make sense.
    let mut limit = |core: u64, words: &[u64], context: u32| {
        let control = anos_sim::kit::sched_control(core);
        sim.call(BOOT, control, Method::SchedControlLimit, words, context, 0).result().err()
    };
    assert_eq!(limit(2, &[BUDGET, PERIOD], one.context), Some(Error::InvalidArgument));
    assert_eq!(limit(1, &[PERIOD, BUDGET], one.context), Some(Error::InvalidArgument));
    assert_eq!(limit(1, &[9_999, PERIOD], one.context), Some(Error::InvalidArgument));
    assert_eq!(limit(1, &[BUDGET, (1 << 40) + 1], one.context), Some(Error::InvalidArgument));
    assert_eq!(limit(1, &[BUDGET, PERIOD, 2], one.context), Some(Error::InvalidArgument));
    assert_eq!(limit(1, &[BUDGET, PERIOD, 1], one.slot), Some(Error::WrongKind));
    assert_eq!(limit(1, &[BUDGET, PERIOD, 1], one.context), None);
    assert_eq!(limit(1, &[0, 0, 0], one.context), None);
}

#[test]
fn no_window_as_long_as_the_period_sees_more_than_the_budget() {
    // Whatever the thread does: it computes, or sleeps a little in between.
    for pause in [0, 3_000, 20_000, 45_000, 90_000] {
        let mut sim = Sim::boot(2);
        let notification = sim.make(Kind::Notification, 0);
        let program = sim.spawn(1, 5);
        sim.limit(1, program.context, BUDGET, PERIOD, false);
        let mut history = Vec::new();
        let mut awake = 0;
        for _ in 0..600 {
            if runs(&sim, program) && pause > 0 && awake >= 11_000 {
                awake = 0;
                let until = sim.board.clock + pause;
                sim.run(program, SystemCall::Recv, notification, &message().deadline(until));
            }
            let ran = runs(&sim, program);
            history.push(ran);
            awake += 1000 * u64::from(ran);
            sim.pass(1000);
            sim.check();
        }
        let most = history.windows(100).map(|window| window.iter().filter(|ran| **ran).count()).max();
        assert!(most <= Some(30), "pausing {pause} ns, it ran {most:?} of 100 µs");
        let all = history.iter().filter(|ran| **ran).count();
        if pause == 0 {
            assert_eq!(all, 180, "who computes gets all that it may have");
        }
    }
}

#[test]
fn who_ran_too_long_because_the_timer_was_late_gets_less_in_the_next_period() {
    let mut sim = Sim::boot(2);
    let program = sim.spawn(1, 5);
    sim.limit(1, program.context, BUDGET, PERIOD, false);
    // The timer comes when twice the budget has been used.
    sim.pass(2 * BUDGET);
    sim.check();
    assert!(!runs(&sim, program));
    sim.pass(PERIOD - 2 * BUDGET);
    assert!(!runs(&sim, program), "the next budget has been used already");
    sim.pass(PERIOD);
    assert!(runs(&sim, program));
    assert_eq!(compute(&mut sim, program, PERIOD), BUDGET);
    sim.check();
}

#[test]
fn a_thread_that_is_out_of_time_lets_less_urgent_ones_run() {
    let mut sim = Sim::boot(2);
    let urgent = sim.spawn(1, 50);
    let other = sim.spawn(1, 5);
    sim.limit(1, urgent.context, BUDGET, PERIOD, false);
    assert!(runs(&sim, urgent));
    assert_eq!(compute(&mut sim, urgent, PERIOD), BUDGET);
    assert!(runs(&sim, other));
    assert_eq!(left(&mut sim, urgent.context), 0);
    assert_eq!(compute(&mut sim, other, 2 * PERIOD), PERIOD - BUDGET);
    assert!(runs(&sim, urgent));
}

#[test]
fn raising_a_limit_wakes_who_waits_for_time() {
    let mut sim = Sim::boot(2);
    let program = sim.spawn(1, 50);
    sim.limit(1, program.context, BUDGET, PERIOD, false);
    compute(&mut sim, program, PERIOD);
    assert!(!runs(&sim, program));
    sim.limit(1, program.context, 0, 0, false);
    sim.settle();
    assert!(runs(&sim, program));
    assert_eq!(compute(&mut sim, program, 3 * PERIOD), 3 * PERIOD);
}

#[test]
fn the_end_of_a_budget_is_a_fault_if_the_context_says_so() {
    let mut sim = Sim::boot(3);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let reply = sim.make(Kind::Reply, 0);
    let handler = sim.spawn(2, 5);
    let program = sim.spawn(1, 50);
    let badged = sim.mint(endpoint, 77);
    sim.ok(program.slot, Method::ThreadSetFaultEndpoint, &[], badged);
    sim.limit(1, program.context, BUDGET, PERIOD, true);
    sim.run(handler, SystemCall::Recv, endpoint, &message().reply(reply));
    assert_eq!(compute(&mut sim, program, PERIOD), BUDGET);
    let answer = sim.answer_of(handler);
    assert_eq!((answer.label, answer.badge, answer.words[0]), (fault::LABEL, 77, FaultKind::NoTime as u64));
    assert_eq!(answer.words[3], 0, "its budget is used up");
    assert_eq!(sim.state(program), ThreadState::Faulted);
    // The handler lets it go on: it is told once, and then waits like anybody.
    sim.run(handler, SystemCall::Send, reply, &message());
    assert!(!runs(&sim, program));
    sim.pass(PERIOD - BUDGET);
    sim.check();
    assert!(runs(&sim, program));
    // In the next period again.
    sim.run(handler, SystemCall::Recv, endpoint, &message().reply(reply));
    assert_eq!(compute(&mut sim, program, PERIOD), BUDGET);
    assert_eq!(sim.answer_of(handler).words[0], FaultKind::NoTime as u64);
}

#[test]
fn who_was_told_of_its_budget_is_told_of_its_context_too() {
    let mut sim = Sim::boot(3);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let reply = sim.make(Kind::Reply, 0);
    let handler = sim.spawn(2, 5);
    let program = sim.spawn(1, 50);
    sim.ok(program.slot, Method::ThreadSetFaultEndpoint, &[], endpoint);
    sim.limit(1, program.context, BUDGET, PERIOD, true);
    sim.run(handler, SystemCall::Recv, endpoint, &message().reply(reply));
    compute(&mut sim, program, PERIOD);
    assert_eq!(sim.answer_of(handler).words[3], 0);
    sim.run(handler, SystemCall::Send, reply, &message());
    sim.limit(1, program.context, 0, 0, false);
    sim.settle();
    assert!(runs(&sim, program));
    sim.run(handler, SystemCall::Recv, endpoint, &message().reply(reply));
    sim.ok(program.slot, Method::ThreadSetContext, &[], 0);
    sim.settle();
    let told = sim.answer_of(handler);
    assert_eq!((told.words[0], told.words[3]), (FaultKind::NoTime as u64, 1));
}

#[test]
fn a_passive_server_runs_on_its_callers_time_at_its_callers_priority() {
    for core in [1, 2] {
        let mut passive = Passive::new(core);
        let (client, endpoint) = (passive.client, passive.endpoint);
        let server = passive.there();
        passive.sim.run(client, SystemCall::Call, endpoint, &Message::new(3).words(&[4]));
        assert!(runs(&passive.sim, server), "from core {core}");
        assert_eq!(passive.sim.answer_of(server).words[0], 4);
        let info = passive.sim.ok(server.slot, Method::ThreadInfo, &[], 0);
        assert_eq!((info[1], info[2]), (9, core), "priority and core are the caller's");
        // What it uses, the caller pays for.
        let used = passive.sim.ok(client.context, Method::SchedContextInfo, &[], 0)[4];
        passive.sim.pass(5000);
        let after = passive.sim.ok(client.context, Method::SchedContextInfo, &[], 0)[4];
        assert_eq!(after - used, 5000);
        let reply = passive.reply;
        passive.sim.run(server, SystemCall::ReplyRecv, endpoint, &Message::new(5).reply(reply));
        assert!(runs(&passive.sim, client));
        assert_eq!(passive.sim.answer_of(client).label, 5);
        assert_eq!(passive.sim.state(server), ThreadState::Receiving);
    }
}

#[test]
fn time_passes_through_a_chain_of_passive_servers_and_back() {
    let mut passive = Passive::new(1);
    let second = passive.sim.make(Kind::Endpoint, 0);
    let second_reply = passive.sim.make(Kind::Reply, 0);
    let last = passive.sim.spawn(2, 5);
    passive.sim.run(last, SystemCall::Recv, second, &message().reply(second_reply));
    passive.sim.ok(last.slot, Method::ThreadSetContext, &[], 0);
    let last = Program { core: passive.client.core, ..last };
    let (client, server, endpoint, reply) = (passive.client, passive.server, passive.endpoint, passive.reply);
    passive.sim.run(client, SystemCall::Call, endpoint, &message());
    passive.sim.run(server, SystemCall::Call, second, &message());
    assert!(runs(&passive.sim, last));
    passive.sim.run(last, SystemCall::ReplyRecv, second, &Message::new(1).reply(second_reply));
    assert!(runs(&passive.sim, server));
    passive.sim.run(server, SystemCall::ReplyRecv, endpoint, &Message::new(2).reply(reply));
    assert!(runs(&passive.sim, client));
    assert_eq!(passive.sim.answer_of(client).label, 2);
}

#[test]
fn a_caller_that_gives_up_has_its_time_back_and_the_server_is_told() {
    let mut passive = Passive::new(1);
    let faults = passive.sim.make(Kind::Endpoint, 0);
    let fault_reply = passive.sim.make(Kind::Reply, 0);
    let handler = passive.sim.spawn(2, 5);
    passive.sim.ok(passive.server.slot, Method::ThreadSetFaultEndpoint, &[], faults);
    passive.sim.run(handler, SystemCall::Recv, faults, &message().reply(fault_reply));
    let (client, server, endpoint, reply) = (passive.client, passive.server, passive.endpoint, passive.reply);
    let until = passive.sim.board.clock + 7000;
    passive.sim.run(client, SystemCall::Call, endpoint, &message().deadline(until));
    assert!(runs(&passive.sim, server));
    passive.sim.pass(7000);
    passive.sim.check();
    assert!(runs(&passive.sim, client));
    assert_eq!(passive.sim.answer_of(client).status.result(), Err(Error::TimedOut));
    let told = passive.sim.answer_of(handler);
    assert_eq!((told.words[0], told.words[3]), (FaultKind::NoTime as u64, 1), "it has no context");
    // The handler helps it out, and it goes on where it was.
    passive.sim.move_to(server, 2);
    passive.sim.run(handler, SystemCall::Send, fault_reply, &message());
    passive.sim.ok(handler.slot, Method::ThreadSuspend, &[], 0);
    passive.sim.settle();
    let server = Program { core: core_id(2), ..server };
    passive.sim.run(server, SystemCall::ReplyRecv, endpoint, &message().reply(reply));
    assert_eq!(passive.sim.state(server), ThreadState::Receiving);
}

#[test]
fn the_middle_of_a_chain_can_give_up_or_die() {
    for dies in [false, true] {
        let mut passive = Passive::new(1);
        let second = passive.sim.make(Kind::Endpoint, 0);
        let second_reply = passive.sim.make(Kind::Reply, 0);
        let last = passive.sim.spawn(2, 5);
        passive.sim.run(last, SystemCall::Recv, second, &message().reply(second_reply));
        passive.sim.ok(last.slot, Method::ThreadSetContext, &[], 0);
        let last = Program { core: passive.client.core, ..last };
        let (client, server, endpoint) = (passive.client, passive.server, passive.endpoint);
        passive.sim.run(client, SystemCall::Call, endpoint, &message());
        let until = passive.sim.board.clock + 5000;
        passive.sim.run(server, SystemCall::Call, second, &message().deadline(until));
        assert!(runs(&passive.sim, last));
        if dies {
            passive.sim.delete(server.slot);
            passive.sim.settle();
            passive.sim.check();
            // Its Reply is still there, so the client waits on; the time is the client's, who can't use it now.
            assert_eq!(passive.sim.state(client), ThreadState::Calling);
            passive.sim.delete(passive.reply);
            passive.sim.settle();
            assert!(runs(&passive.sim, client));
            assert_eq!(passive.sim.answer_of(client).status.result(), Err(Error::PeerDied));
        } else {
            passive.sim.pass(5000);
            assert!(runs(&passive.sim, server), "it has the time back that it passed on");
            assert_eq!(passive.sim.answer_of(server).status.result(), Err(Error::TimedOut));
        }
        passive.sim.check();
        assert!(!runs(&passive.sim, last));
    }
}

#[test]
fn who_only_sends_to_a_passive_server_is_turned_away() {
    let mut passive = Passive::new(1);
    let (client, server, endpoint, reply) = (passive.client, passive.server, passive.endpoint, passive.reply);
    passive.sim.run(client, SystemCall::Send, endpoint, &message());
    assert_eq!(passive.sim.answer_of(client).status.result(), Err(Error::NotRunnable));
    // Also those who come while it works: more than one visit turns away.
    passive.sim.run(client, SystemCall::Call, endpoint, &message());
    let mut senders = Vec::new();
    for _ in 0..anos_core::bounds::WAKE_STEPS + 2 {
        let sender = passive.sim.spawn(2, 5);
        passive.sim.run(sender, SystemCall::Send, endpoint, &message());
        assert_eq!(passive.sim.state(sender), ThreadState::Sending);
        senders.push(sender);
    }
    let before = passive.sim.board.processors[1].registers.pc;
    passive.sim.trap_system_call(core_id(1), SystemCall::ReplyRecv, endpoint, &Message::new(6).reply(reply));
    passive.sim.go_on(core_id(1));
    assert!(runs(&passive.sim, server), "it makes its call again");
    assert_eq!(passive.sim.board.processors[1].registers.pc, before);
    passive.sim.settle();
    passive.sim.run(server, SystemCall::ReplyRecv, endpoint, &Message::new(6).reply(reply));
    assert_eq!(passive.sim.answer_of(client).label, 6);
    assert_eq!(passive.sim.state(server), ThreadState::Receiving);
    for sender in senders {
        assert_eq!(passive.sim.answer_of(sender).status.result(), Err(Error::NotRunnable));
    }
}

#[test]
fn a_signal_to_a_passive_server_waits_until_it_has_time() {
    let mut passive = Passive::new(1);
    let notification = passive.sim.make(Kind::Notification, 0);
    let bit = passive.sim.mint(notification, 4);
    passive.sim.ok(passive.server.slot, Method::ThreadBind, &[], notification);
    passive.sim.system_call(BOOT, SystemCall::Send, bit, &message());
    passive.sim.settle();
    passive.sim.check();
    assert_eq!(passive.sim.state(passive.server), ThreadState::Receiving);
    let (client, server, endpoint, reply) = (passive.client, passive.server, passive.endpoint, passive.reply);
    passive.sim.run(client, SystemCall::Call, endpoint, &message());
    passive.sim.run(server, SystemCall::Recv, endpoint, &message());
    let answer = passive.sim.answer_of(server);
    assert!(answer.status.is_signal() && answer.badge == 4);
    passive.sim.run(server, SystemCall::ReplyRecv, endpoint, &Message::new(9).reply(reply));
    assert_eq!(passive.sim.answer_of(client).label, 9);
}

#[test]
fn a_context_that_is_revoked_stops_whoever_runs_on_it() {
    let mut passive = Passive::new(2);
    let home = passive.sim.make(Kind::Untyped, 2);
    let (client, server, endpoint) = (passive.client, passive.there(), passive.endpoint);
    let context = passive.sim.slot();
    let words = [Kind::SchedContext as u64, 0, 1, 0];
    let control = anos_sim::kit::sched_control(2);
    passive.sim.until_done(home, Method::UntypedRetype, &words, control, context).result().expect("a context");
    passive.sim.ok(client.slot, Method::ThreadSetContext, &[], context);
    passive.sim.settle();
    passive.sim.run(client, SystemCall::Call, endpoint, &message());
    assert!(runs(&passive.sim, server));
    passive.sim.revoke(home);
    passive.sim.settle();
    passive.sim.check();
    assert!(!runs(&passive.sim, server));
    // With time of its own, it goes on.
    passive.sim.move_to(server, 1);
    passive.sim.settle();
    assert!(runs(&passive.sim, server));
}

#[test]
fn who_waits_for_time_and_loses_its_context_is_told_at_once() {
    let mut sim = Sim::boot(3);
    let (endpoint, reply) = (sim.make(Kind::Endpoint, 0), sim.make(Kind::Reply, 0));
    let handler = sim.spawn(2, 5);
    let program = sim.spawn(1, 50);
    sim.ok(program.slot, Method::ThreadSetFaultEndpoint, &[], endpoint);
    sim.limit(1, program.context, BUDGET, PERIOD, false);
    sim.run(handler, SystemCall::Recv, endpoint, &message().reply(reply));
    assert_eq!(compute(&mut sim, program, PERIOD), BUDGET);
    assert_eq!(sim.state(handler), ThreadState::Receiving);
    sim.ok(program.slot, Method::ThreadSetContext, &[], 0);
    sim.settle();
    sim.check();
    let told = sim.answer_of(handler);
    assert_eq!((told.words[0], told.words[3]), (FaultKind::NoTime as u64, 1));
}

#[test]
fn time_is_lent_only_so_often_in_a_row() {
    let mut sim = Sim::boot(2);
    let mut servers = Vec::new();
    for _ in 0..anos_core::bounds::LENDINGS + 1 {
        let (endpoint, reply) = (sim.make(Kind::Endpoint, 0), sim.make(Kind::Reply, 0));
        let server = sim.spawn(1, 5);
        sim.run(server, SystemCall::Recv, endpoint, &message().reply(reply));
        sim.ok(server.slot, Method::ThreadSetContext, &[], 0);
        servers.push((server, endpoint, reply));
    }
    let mut caller = sim.spawn(1, 5);
    for (server, endpoint, _) in &servers[..servers.len() - 1] {
        sim.run(caller, SystemCall::Call, *endpoint, &message());
        caller = *server;
    }
    assert!(runs(&sim, caller));
    let (last, endpoint, _) = servers[servers.len() - 1];
    sim.run(caller, SystemCall::Call, endpoint, &message());
    assert_eq!(sim.answer_of(caller).status.result(), Err(Error::NotRunnable), "one too many");
    assert_eq!(sim.state(last), ThreadState::Receiving);
}

#[test]
fn what_brings_no_time_can_t_jam_a_passive_server() {
    let mut passive = Passive::new(1);
    let (client, server, endpoint) = (passive.client, passive.server, passive.endpoint);
    // A thread that faults for want of time, with the server as its handler: now, and while the server works.
    let attacker = passive.sim.spawn(1, 50);
    passive.sim.ok(attacker.slot, Method::ThreadSetFaultEndpoint, &[], endpoint);
    passive.sim.ok(attacker.slot, Method::ThreadSetContext, &[], 0);
    passive.sim.settle();
    passive.sim.check();
    assert_eq!(passive.sim.state(server), ThreadState::Receiving);
    passive.sim.run(client, SystemCall::Call, endpoint, &message());
    assert!(runs(&passive.sim, server));
    let other = passive.sim.spawn(2, 50);
    passive.sim.ok(other.slot, Method::ThreadSetFaultEndpoint, &[], endpoint);
    passive.sim.ok(other.slot, Method::ThreadSetContext, &[], 0);
    passive.sim.settle();
    assert_eq!(passive.sim.state(other), ThreadState::Sending);
    let reply = passive.reply;
    passive.sim.run(server, SystemCall::ReplyRecv, endpoint, &Message::new(3).reply(reply));
    assert_eq!(passive.sim.answer_of(client).label, 3);
    assert_eq!((passive.sim.state(server), passive.sim.state(other)), (ThreadState::Receiving, ThreadState::Stopped));
}

#[test]
fn a_server_with_time_of_its_own_again_has_its_own_priority() {
    let mut passive = Passive::new(1);
    let (client, server, endpoint) = (passive.client, passive.server, passive.endpoint);
    passive.sim.ok(client.slot, Method::ThreadSetPriority, &[200, 200], 0);
    passive.sim.run(client, SystemCall::Call, endpoint, &message());
    assert_eq!(passive.sim.ok(server.slot, Method::ThreadInfo, &[], 0)[1], 200);
    passive.sim.ok(server.slot, Method::ThreadSetContext, &[], server.context);
    passive.sim.settle();
    assert!(runs(&passive.sim, server));
    assert_eq!(passive.sim.ok(server.slot, Method::ThreadInfo, &[], 0)[1], 5);
}

#[test]
fn a_foreign_call_that_waits_to_be_handled_survives_a_move() {
    for queued in [true, false] {
        let mut sim = Sim::boot(3);
        let (endpoint, reply) = (sim.make(Kind::Endpoint, 0), sim.make(Kind::Reply, 0));
        let server = sim.spawn(2, 5);
        let program = sim.new_thread(1, 5);
        sim.ok(program.slot, Method::ThreadSetFaultEndpoint, &[], endpoint);
        sim.ok(program.slot, Method::ThreadSetFlags, &[1], 0);
        sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
        sim.settle();
        if !queued {
            sim.run(server, SystemCall::Recv, endpoint, &message().reply(reply));
        }
        sim.system_call(core_id(1), SystemCall::Send, endpoint, &Message::new(7));
        sim.settle();
        sim.move_to(program, 0);
        sim.settle();
        if queued {
            sim.run(server, SystemCall::Recv, endpoint, &message().reply(reply));
        }
        assert_eq!(sim.answer_of(server).label, fault::SYSTEM_CALL_LABEL);
        sim.run(server, SystemCall::ReplyRecv, endpoint, &Message::new(0).words(&[99]).reply(reply));
        sim.ok(program.slot, Method::ThreadSuspend, &[], 0);
        assert_eq!(sim.ok(program.slot, Method::ThreadReadRegisters, &[0], 0)[0], 99);
    }
}

#[test]
fn a_foreign_thread_s_system_calls_are_messages() {
    let mut sim = Sim::boot(3);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let reply = sim.make(Kind::Reply, 0);
    let server = sim.spawn(2, 5);
    let program = sim.new_thread(1, 5);
    let badged = sim.mint(endpoint, 8);
    sim.ok(program.slot, Method::ThreadSetFaultEndpoint, &[], badged);
    assert_eq!(sim.call(BOOT, program.slot, Method::ThreadSetFlags, &[4], 0, 0).result(), Err(Error::InvalidArgument));
    sim.ok(program.slot, Method::ThreadSetFlags, &[1], 0);
    sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    sim.settle();
    sim.run(server, SystemCall::Recv, endpoint, &message().reply(reply));
    // What would be a send by our convention is nobody's message here.
    sim.system_call(core_id(1), SystemCall::Send, endpoint, &Message::new(7).words(&[1, 2, 3, 4, 5, 6, 7, 64]));
    sim.settle();
    sim.check();
    let came = sim.answer_of(server);
    assert_eq!((came.label, came.badge), (fault::SYSTEM_CALL_LABEL, 8));
    assert_eq!(came.words, [64, 1, 2, 3, 4, 5, 6, 0x40_0004]);
    assert_eq!(sim.state(program), ThreadState::Faulted);
    let before = sim.ok(program.slot, Method::ThreadReadRegisters, &[1], 0);
    sim.run(server, SystemCall::ReplyRecv, endpoint, &Message::new(0).words(&[99]).reply(reply));
    assert!(runs(&sim, program));
    let registers = sim.board.processors[1].registers;
    assert_eq!(registers.words[0], 99);
    assert_eq!(registers.words[1..], before[..7], "nothing else has changed");
    assert_eq!(registers.label, 7);
    // Any other label stops it.
    sim.system_call(core_id(1), SystemCall::Yield, 0, &message());
    sim.settle();
    sim.run(server, SystemCall::Send, reply, &Message::new(1));
    assert_eq!(sim.state(program), ThreadState::Stopped);
}

#[test]
fn registers_are_read_and_written_while_a_thread_stands_still() {
    let mut sim = Sim::boot(2);
    let program = sim.spawn(1, 5);
    let read = |sim: &mut Sim, first: u64| sim.call(BOOT, program.slot, Method::ThreadReadRegisters, &[first], 0, 0);
    let write = |sim: &mut Sim, words: &[u64]| sim.call(BOOT, program.slot, Method::ThreadWriteRegisters, words, 0, 0);
    assert_eq!(read(&mut sim, 0).result(), Err(Error::Busy));
    assert_eq!(write(&mut sim, &[0, 1, 5]).result(), Err(Error::Busy));
    sim.ok(program.slot, Method::ThreadSuspend, &[], 0);
    for first in 0..40 {
        write(&mut sim, &[first, 1, 1000 + first]).result().expect("a register");
    }
    for first in [0, 1, 7, 8, 15, 16, 32, 39, 40, u64::MAX] {
        let expected = std::array::from_fn(|n| {
            let number = first.saturating_add(n as u64);
            if number < 40 { 1000 + number } else { 0 }
        });
        assert_eq!(read(&mut sim, first).result(), Ok(expected), "from {first}");
    }
    for words in [[40, 1], [39, 2], [0, 0], [0, 7], [u64::MAX, 1], [u64::MAX, 2]] {
        assert_eq!(write(&mut sim, &words).result(), Err(Error::InvalidArgument), "{words:?}");
    }
    sim.ok(program.slot, Method::ThreadWriteRegisters, &[13, 2, 0x50_0000, 0x60_0000], 0);
    sim.ok(program.slot, Method::ThreadResume, &[], 0);
    sim.settle();
    let registers = sim.board.processors[1].registers;
    assert_eq!((registers.pc, registers.sp, registers.words[3]), (0x50_0000, 0x60_0000, 1003));
}

#[test]
fn a_machine_is_asked_what_it_takes_of_the_registers_that_are_written() {
    let mut sim = Sim::boot(1);
    let program = sim.spawn(0, 5);
    let end = sim.ok(anos_abi::boot::slot::ADDRESS_SPACE, Method::AddressSpaceInfo, &[], 0)[1];
    sim.ok(program.slot, Method::ThreadSuspend, &[], 0);
    for (written, taken) in [(end - 1, end - 1), (end, end), (end + 1, end), (1 << 63, end), (u64::MAX, end)] {
        sim.ok(program.slot, Method::ThreadWriteRegisters, &[13, 1, written], 0);
        assert_eq!(sim.ok(program.slot, Method::ThreadReadRegisters, &[13], 0)[0], taken, "{written:#x}");
    }
}

#[test]
fn waits_to_send_are_called_off_by_badge() {
    let mut sim = Sim::boot(2);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let badges = [sim.mint(endpoint, 1), sim.mint(endpoint, 2)];
    let mut senders = Vec::new();
    for number in 0..50 {
        let sender = sim.spawn(1, 5);
        let call = if number % 3 == 0 { SystemCall::Call } else { SystemCall::Send };
        sim.run(sender, call, badges[number % 2], &message());
        senders.push(sender);
    }
    let faulty = sim.spawn(1, 5);
    sim.ok(faulty.slot, Method::ThreadSetFaultEndpoint, &[], badges[0]);
    sim.fault(core_id(1), FaultKind::Alignment);
    let answer = sim.call(BOOT, anos_abi::boot::slot::CAP_TABLE, Method::CapTableCancel, &[badges[0].into()], 0, 0);
    assert_eq!(answer.result(), Err(Error::Again));
    sim.ok(anos_abi::boot::slot::CAP_TABLE, Method::CapTableCancel, &[badges[0].into()], 0);
    sim.settle();
    sim.check();
    for (number, sender) in senders.iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!(sim.answer_of(*sender).status.result(), Err(Error::Cancelled), "sender {number}");
        } else {
            assert_eq!(sim.state(*sender), ThreadState::Sending, "sender {number}");
        }
    }
    assert_eq!(sim.state(faulty), ThreadState::Stopped);
    let table = anos_abi::boot::slot::CAP_TABLE;
    let powerless = sim.copy(badges[1], 2);
    let refused = sim.call(BOOT, table, Method::CapTableCancel, &[powerless.into()], 0, 0);
    assert_eq!(refused.result(), Err(Error::MissingRights), "only who may receive");
    let wrong = sim.call(BOOT, table, Method::CapTableCancel, &[faulty.slot.into()], 0, 0);
    assert_eq!(wrong.result(), Err(Error::WrongKind));
}
