//! Two cores, each with a thread, that do something to each other: with the whole core of the kernel.

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Error, Kind, SystemCall};
use anos_machine::CoreId;
use anos_sim::board::Config;
use anos_sim::kit::sched_control;
use anos_sim::payload::Payload;
use anos_sim::{Message, Sim, core_id};

use crate::explorer::explore;
use crate::machine::{Flaw, Play, Step, play, start_of};

/// Where the programs have memory.
pub const PLACE: u64 = 0x40_0000;
/// Where a frame is mapped at first.
const MAPPED: u64 = PLACE + 0x2000;
/// The priority of all.
const PRIORITY: u64 = 100;
/// loom comes to an end only with so few interruptions where a thread need not wait: one call of the whole core is some
/// hundred accesses.
const PREEMPTIONS: Option<usize> = Some(2);
/// Flags: memory is gone; a thread is stopped.
const GONE: usize = 0;
const STOPPED: usize = 1;

/// What two programs have: slots of the table that they share.
#[derive(Clone, Copy, Debug)]
struct Slots {
    thread: u32,
    other_context: u32,
    notification: u32,
    endpoint: u32,
    reply: u32,
    frame: u32,
}

pub fn method(target: u32, method: Method, words: &[u64], pass: u32) -> Step {
    Step::Call(SystemCall::Call, target, Message::new(method.label()).words(words).pass(pass))
}

/// A machine that is being set up: the root server makes what the programs need.
pub struct Stage {
    pub sim: Sim,
    /// The slot that was filled last.
    pub next: u32,
}

impl Stage {
    pub fn call(&mut self, target: u32, method: Method, words: &[u64], pass: u32, receive: u32) {
        for _ in 0..1000 {
            let answer = self.sim.call(CoreId::BOOT, target, method, words, pass, receive);
            self.sim.settle();
            match answer.result() {
                Ok(_) => return,
                Err(Error::Again) => {}
                Err(error) => panic!("{method:?}: {error}"),
            }
        }
        panic!("{method:?} never ends");
    }

    pub fn make(&mut self, kind: Kind, size: u64, pass: u32) -> u32 {
        self.next += 1;
        self.call(slot::UNTYPED, Method::UntypedRetype, &[kind as u64, size, 1, 0], pass, self.next);
        self.next
    }

    pub fn mint(&mut self, from: u32, badge: u64) -> u32 {
        self.next += 1;
        self.call(slot::CAP_TABLE, Method::CapTableMint, &[self.next.into(), 15, badge], from, 0);
        self.next
    }

    /// A thread in the root server's table and space, on the core of a context.
    pub fn start(&mut self, thread: u32, context: u32, program: u64) {
        self.call(thread, Method::ThreadSetTable, &[], slot::CAP_TABLE, 0);
        self.call(thread, Method::ThreadSetSpace, &[], slot::ADDRESS_SPACE, 0);
        self.call(thread, Method::ThreadSetPriority, &[PRIORITY, 255], 0, 0);
        self.call(thread, Method::ThreadSetContext, &[], context, 0);
        self.call(thread, Method::ThreadStart, &[start_of(program), 0x1000], 0, 0);
    }

    /// The root server's own thread becomes program 0, and all have the same priority.
    pub fn finish(mut self) -> Sim {
        self.call(slot::THREAD, Method::ThreadSetPriority, &[PRIORITY, 255], 0, 0);
        self.sim.board.processors[0].registers.pc = start_of(0);
        self.sim
    }
}

/// A machine with little memory, so that it is quickly set up.
pub fn small_machine(cores: u64) -> Sim {
    let config = Config { pages: 200, ..Config::cores(cores) };
    Sim::boot_with(config, &Payload::default().bytes(), 0).expect("the machine boots")
}

/// Two cores; program 0 is the root server's thread on core 0, program 1 a thread on core 1 that is about to begin.
fn stage() -> (Stage, Slots) {
    let mut stage = Stage { sim: small_machine(2), next: 1000 };
    let [endpoint, reply, fresh] = [Kind::Endpoint, Kind::Reply, Kind::Notification].map(|kind| stage.make(kind, 0, 0));
    let notification = stage.mint(fresh, 5);
    let frame = stage.make(Kind::Frame, 1, 0);
    let context = stage.make(Kind::SchedContext, 0, sched_control(1));
    let other_context = stage.make(Kind::SchedContext, 0, sched_control(0));
    let thread = stage.make(Kind::Thread, 0, 0);
    stage.call(frame, Method::FrameMap, &[MAPPED, 1], slot::ADDRESS_SPACE, 0);
    stage.start(thread, context, 1);
    (stage, Slots { thread, other_context, notification, endpoint, reply, frame })
}

fn perform(flaw: Flaw, ends: u32, programs: fn(Slots) -> [Vec<Step>; 2]) {
    let (stage, slots) = stage();
    let programs = programs(slots).to_vec();
    let mut sim = play(stage.finish(), Play { programs, ends, again: false, flaw, tick: 0 });
    sim.check();
    sim.settle();
    sim.check();
}

/// Explores two programs, of which so many come to their ends.
fn scene(name: &str, flaw: Flaw, ends: u32, programs: fn(Slots) -> [Vec<Step>; 2]) {
    explore(name, PREEMPTIONS, move || perform(flaw, ends, programs));
}

fn null_call() -> Step {
    Step::Call(SystemCall::Yield, 0, Message::new(0))
}

fn receive(from: u32, reply: u32) -> Step {
    Step::Call(SystemCall::Recv, from, Message::new(0).reply(reply))
}

/// Program 0 unmaps; program 1 uses the memory, makes a call, and uses it again.
fn unmapping(slots: Slots) -> [Vec<Step>; 2] {
    let unmap = method(slots.frame, Method::FrameUnmap, &[], 0);
    let used = Step::Use(MAPPED, GONE);
    [vec![unmap, Step::Flag(GONE, true)], vec![used, null_call(), used]]
}

#[test]
fn memory_that_was_unmapped_is_used_no_more() {
    scene("unmapping", Flaw::None, 2, unmapping);
}

/// The same, of two cores at once: each unmaps what both use.
#[test]
fn cores_that_shoot_at_each_other_do_not_hang() {
    scene("unmapping on both", Flaw::None, 2, |slots| {
        let unmap = method(slots.frame, Method::FrameUnmap, &[], 0);
        let map = method(slots.frame, Method::FrameMap, &[MAPPED, 1], slot::ADDRESS_SPACE);
        [vec![unmap, map], vec![unmap]]
    });
}

/// Program 0 suspends program 1, which signals; looks, has it go on, and waits for the signal.
fn suspending(slots: Slots) -> [Vec<Step>; 2] {
    let suspend = method(slots.thread, Method::ThreadSuspend, &[], 0);
    let resume = method(slots.thread, Method::ThreadResume, &[], 0);
    let signal = Step::Call(SystemCall::Send, slots.notification, Message::new(0));
    let got_it = Step::Expect(|answer| assert_eq!(answer.badge, 5, "the signal"));
    let stopped = [Step::Flag(STOPPED, true), null_call(), Step::Flag(STOPPED, false)];
    let [up, meanwhile, down] = stopped;
    [
        vec![suspend, up, meanwhile, down, resume, receive(slots.notification, 0), got_it],
        vec![Step::NotWhile(STOPPED), signal, Step::NotWhile(STOPPED)],
    ]
}

#[test]
fn a_thread_that_was_suspended_does_not_run_and_loses_no_signal() {
    scene("suspending", Flaw::None, 2, suspending);
}

#[test]
fn a_thread_that_is_moved_loses_no_signal() {
    // Both end up on one core: who has signalled must wait, or the other never runs.
    scene("moving", Flaw::None, 1, |slots| {
        let go = method(slots.thread, Method::ThreadSetContext, &[], slots.other_context);
        let signal = Step::Call(SystemCall::Send, slots.notification, Message::new(0));
        let got_it = Step::Expect(|answer| assert_eq!(answer.badge, 5, "the signal"));
        [vec![go, receive(slots.notification, 0), got_it], vec![signal, receive(slots.endpoint, 0)]]
    });
}

/// Program 0 signals program 1, which waits for that, or is about to: its core goes idle.
fn waking(slots: Slots) -> [Vec<Step>; 2] {
    let signal = Step::Call(SystemCall::Send, slots.notification, Message::new(0));
    let got_it = Step::Expect(|answer| assert_eq!(answer.badge, 5, "the signal"));
    [vec![signal], vec![receive(slots.notification, 0), got_it]]
}

#[test]
fn a_signal_wakes_a_core_that_goes_idle() {
    scene("waking", Flaw::None, 2, waking);
}

#[test]
fn a_call_to_another_core_is_answered() {
    scene("calling", Flaw::None, 2, |slots| {
        let call = Step::Call(SystemCall::Call, slots.endpoint, Message::new(3).words(&[7]));
        let answered = Step::Expect(|answer| assert_eq!((answer.label, answer.words[0]), (4, 8), "the answer"));
        let asked = Step::Expect(|answer| assert_eq!((answer.label, answer.words[0]), (3, 7), "the call"));
        let answer = Step::Call(SystemCall::Send, slots.reply, Message::new(4).words(&[8]));
        [vec![call, answered], vec![receive(slots.endpoint, slots.reply), asked, answer]]
    });
}

/// Two threads of core 1 exchange messages the short way while core 0 stops the one that calls.
#[test]
fn a_caller_that_is_suspended_has_called_or_has_not() {
    let (name, body) = ("suspending a caller", || {
        let (mut stage, slots) = stage();
        let context = stage.make(Kind::SchedContext, 0, sched_control(1));
        let server = stage.make(Kind::Thread, 0, 0);
        stage.start(server, context, 2);
        stage.call(server, Method::ThreadSetPriority, &[PRIORITY + 1, 255], 0, 0);
        // The server's first step has been made when the play begins: it waits.
        let wait = Message::new(0).reply(slots.reply);
        stage.sim.system_call(core_id(1), SystemCall::Recv, slots.endpoint, &wait);
        stage.sim.settle();
        let suspend = method(slots.thread, Method::ThreadSuspend, &[], 0);
        let resume = method(slots.thread, Method::ThreadResume, &[], 0);
        let call = Step::Call(SystemCall::Call, slots.endpoint, Message::new(3).words(&[7]));
        let answered = Step::Expect(|answer| {
            let ended = (answer.status.result(), answer.label, answer.words[0]);
            assert!(matches!(ended, (Ok(()), 4, 8) | (Err(Error::Cancelled), 0, 0)), "{ended:?}");
        });
        let asked = Step::Expect(|answer| assert_eq!((answer.label, answer.words[0]), (3, 7), "the call"));
        let message = Message::new(4).words(&[8]).reply(slots.reply);
        let answer = Step::Call(SystemCall::ReplyRecv, slots.endpoint, message);
        let programs = vec![
            vec![suspend, Step::Flag(STOPPED, true), null_call(), Step::Flag(STOPPED, false), resume],
            vec![Step::NotWhile(STOPPED), call, answered, Step::NotWhile(STOPPED)],
            vec![receive(slots.endpoint, slots.reply), asked, answer],
        ];
        let mut sim = play(stage.finish(), Play { programs, ends: 2, again: false, flaw: Flaw::None, tick: 0 });
        sim.check();
        sim.settle();
        sim.check();
    });
    explore(name, PREEMPTIONS, body);
}

/// Program 1's wait ends by its deadline, or because program 0 suspends it.
#[test]
fn a_deadline_and_a_suspension_do_not_both_end_a_wait() {
    scene("deadline", Flaw::None, 2, |slots| {
        let suspend = method(slots.thread, Method::ThreadSuspend, &[], 0);
        let resume = method(slots.thread, Method::ThreadResume, &[], 0);
        let wait = Step::Call(SystemCall::Recv, slots.notification, Message::new(0).deadline(500));
        let ended = Step::Expect(|answer| {
            let why = answer.status.result();
            assert!(matches!(why, Err(Error::TimedOut | Error::Cancelled)), "{why:?}");
        });
        [vec![Step::Pass(1000), suspend, resume], vec![wait, ended]]
    });
}

#[test]
#[should_panic(expected = "memory is used that has been unmapped")]
fn a_machine_that_does_not_flush_is_found_out() {
    scene("unmapping without a flush", Flaw::NoFlush, 2, unmapping);
}

#[test]
#[cfg_attr(loom, should_panic(expected = "maximum number of branches"))]
#[cfg_attr(shuttle, should_panic(expected = "exceeded max_steps"))]
fn a_machine_that_loses_interrupts_is_found_out() {
    scene("waking without an interrupt", Flaw::LostKick, 2, waking);
}

#[cfg(loom)]
#[test]
#[should_panic(expected = "Causality violation")]
fn a_machine_that_orders_nothing_is_found_out() {
    scene("waking without order", Flaw::Weak, 2, waking);
}
