//! Two to four cores, whose programs make system calls drawn by lot on objects that all share: with the whole core of the
//! kernel, in orders drawn by lot too. Afterwards every rule of the simulated machine must hold.

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Kind, SystemCall};
use anos_sim::kit::sched_control;
use anos_sim::{Message, Numbers, Sim};

use crate::explorer::explore;
use crate::machine::{Flaw, Play, Step, play};
use crate::scenes::{PLACE, Stage, method, small_machine};

/// Slots: of each kind a row.
const ROW: u32 = 3;
const ENDPOINTS: u32 = 2000;
const NOTIFICATIONS: u32 = 2010;
const REPLIES: u32 = 2020;
const FRAMES: u32 = 2030;
const THREADS: u32 = 2040;
const CONTEXTS: u32 = 2050;
const ANY: u32 = 2060;
/// Steps of each program, and how many system calls they make in all.
const CALLS: u32 = 24;

/// A system call; many fail, as others were there first.
fn request(numbers: &mut Numbers) -> Step {
    let mut slot = |row: u32| row + u32::try_from(numbers.below(ROW.into())).expect("small");
    let (endpoint, notification, reply) = (slot(ENDPOINTS), slot(NOTIFICATIONS), slot(REPLIES));
    let (frame, thread, context, any) = (slot(FRAMES), slot(THREADS), slot(CONTEXTS), slot(ANY));
    let place = PLACE + 0x10_0000 + numbers.below(4) * 0x1000;
    let message = Message::new(1).words(&[numbers.next()]).reply(reply).deadline(numbers.below(50_000));
    match numbers.below(24) {
        0..=1 => Step::Call(SystemCall::Call, endpoint, message),
        2..=3 => Step::Call(SystemCall::Recv, endpoint, message),
        4 => Step::Call(SystemCall::ReplyRecv, endpoint, message),
        5 => Step::Call(SystemCall::Recv, notification, message),
        6 => Step::Call(SystemCall::Send, notification, message),
        7 => Step::Call(SystemCall::Yield, 0, message),
        8..=9 => method(frame, Method::FrameMap, &[place, 3], slot::ADDRESS_SPACE),
        10..=11 => method(frame, Method::FrameUnmap, &[], 0),
        12 => method(thread, Method::ThreadSuspend, &[], 0),
        13..=15 => method(thread, Method::ThreadResume, &[], 0),
        16 => method(thread, Method::ThreadSetContext, &[], context),
        17 => method(slot::CAP_TABLE, Method::CapTableCopy, &[any.into(), 15], numbers.pick(&[endpoint, frame])),
        18 => method(slot::CAP_TABLE, Method::CapTableDelete, &[any.into()], 0),
        19 => method(slot::CAP_TABLE, Method::CapTableRevoke, &[endpoint.into()], 0),
        20 => method(thread, Method::ThreadSetPriority, &[100 + numbers.below(2), 255], 0),
        21 => Step::Pass(numbers.below(20_000)),
        _ => Step::Use(place, 3),
    }
}

fn rows(cores: u64) -> Sim {
    let mut stage = Stage { sim: small_machine(cores), next: 0 };
    for (kind, row, size) in [
        (Kind::Endpoint, ENDPOINTS, 0),
        (Kind::Reply, REPLIES, 0),
        (Kind::Frame, FRAMES, 1),
        (Kind::Notification, ANY + 10, 0),
        (Kind::Thread, THREADS, 0),
    ] {
        stage.next = row - 1;
        (0..ROW).for_each(|_| {
            stage.make(kind, size, 0);
        });
    }
    stage.next = NOTIFICATIONS - 1;
    (0..ROW).for_each(|number| {
        stage.mint(ANY + 10 + number, 1);
    });
    stage.next = CONTEXTS - 1;
    for number in 0..u64::from(ROW) {
        stage.make(Kind::SchedContext, 0, sched_control((number + 1) % cores));
    }
    for number in 0..ROW {
        stage.start(THREADS + number, CONTEXTS + number, u64::from(number) + 1);
    }
    stage.finish()
}

/// Plays once.
fn crowd(cores: u64, seed: u64) {
    let sim = rows(cores);
    let mut numbers = Numbers(seed);
    let programs = (0..=ROW).map(|_| (0..CALLS).map(|_| request(&mut numbers)).collect()).collect();
    let mut sim = play(sim, Play { programs, ends: CALLS, again: true, flaw: Flaw::None, tick: 300 });
    sim.check();
    sim.settle();
    sim.check();
}

#[test]
fn two_cores_keep_every_rule_and_never_hang() {
    explore("crowd on 2 cores", None, || crowd(2, draw()));
}

#[test]
fn three_cores_keep_every_rule_and_never_hang() {
    explore("crowd on 3 cores", None, || crowd(3, draw()));
}

#[test]
fn four_cores_keep_every_rule_and_never_hang() {
    explore("crowd on 4 cores", None, || crowd(4, draw()));
}

/// A number that belongs to the order: with the order, it comes again.
fn draw() -> u64 {
    shuttle::rand::Rng::r#gen(&mut shuttle::rand::thread_rng())
}
