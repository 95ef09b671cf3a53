//! The short way of faults, of the answers to them, and of interrupts: what goes it, what doesn't, and that it makes no
//! difference. (The machine compares all memory with what the general way leaves.)

use anos_abi::boot::slot;
use anos_abi::fault::{self, FaultKind};
use anos_abi::object::{Method, ThreadState};
use anos_abi::{Kind, SystemCall};
use anos_machine::{CoreId, Event, Ref, Thread};
use anos_sim::{Message, Program, Sim, core_id};

const BOOT: CoreId = CoreId::BOOT;
const SHORT: u64 = 1;
const GENERAL: u64 = 0;
/// A slot that is never filled.
const EMPTY: u32 = 1023;
const LOW: u8 = 5;
const HIGH: u8 = 7;
const START: [u64; 2] = [0x40_0000, 0x3f_0000_0000];
/// Nothing is mapped there.
const NOWHERE: u64 = 0x1234_5678;

/// A program and the handler of its faults, which waits; both on core 1. Each visit is compared.
struct Stage {
    sim: Sim,
    program: Program,
    handler: Program,
    endpoint: u32,
    reply: u32,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(HIGH, 0, true)
    }

    /// With a handler of this priority, these flags of the program, and its handler set or not.
    fn with(handler: u8, flags: u64, is_handled: bool) -> Stage {
        let mut sim = Sim::boot(2);
        sim.compare_every = 1;
        let (endpoint, reply) = (sim.make(Kind::Endpoint, 0), sim.make(Kind::Reply, 0));
        let (handler, program) = (sim.spawn(1, handler), sim.new_thread(1, LOW));
        if is_handled {
            let badged = sim.mint(endpoint, 77);
            sim.ok(program.slot, Method::ThreadSetFaultEndpoint, &[], badged);
        }
        sim.ok(program.slot, Method::ThreadSetFlags, &[flags], 0);
        let mut stage = Stage { sim, program, handler, endpoint, reply };
        stage.sim.run(handler, SystemCall::Recv, endpoint, &Message::new(0).reply(reply));
        stage.sim.ok(program.slot, Method::ThreadStart, &START, 0);
        stage.sim.settle();
        if is_handled {
            // Everything comes home to core 1.
            stage.fault();
            stage.answer(0);
        }
        stage
    }

    /// The handler's time is that of who faults.
    fn passive() -> Stage {
        let mut stage = Stage::new();
        stage.sim.ok(stage.handler.slot, Method::ThreadSetContext, &[], 0);
        stage.fault();
        stage.answer(0);
        stage
    }

    /// How many visits of something go the short way; all of those are compared.
    fn short<T>(&mut self, what: impl FnOnce(&mut Stage) -> T) -> u64 {
        let before = self.sim.compared;
        let _answer = what(self);
        self.sim.check();
        self.sim.compared - before
    }

    /// Who runs on core 1 looks at the table that the root server has changed.
    fn look(&mut self) {
        if self.runs().is_some() {
            self.sim.system_call(core_id(1), SystemCall::Send, EMPTY, &Message::new(0));
            self.sim.settle();
        }
    }

    /// The program reads where nothing is: which way that goes.
    fn fault(&mut self) -> u64 {
        assert_eq!(self.runs(), Some(self.program.thread));
        if !self.is_foreign() {
            self.look();
        }
        self.short(|stage| {
            assert_eq!(stage.sim.load(core_id(1), NOWHERE), None);
            stage.sim.settle();
        })
    }

    fn is_foreign(&self) -> bool {
        self.sim.with_store(|store| store.see(self.program.thread).expect("a thread").foreign != 0)
    }

    /// The handler answers, and waits for the next fault: which way that goes.
    fn answer(&mut self, label: u64) -> u64 {
        let message = Message::new(label).words(&[1, 2, 3]).reply(self.reply);
        self.short(|stage| stage.sim.run(stage.handler, SystemCall::ReplyRecv, stage.endpoint, &message))
    }

    fn runs(&self) -> Option<Ref<Thread>> {
        self.sim.thread(core_id(1))
    }

    /// All registers of who runs on core 1.
    fn registers(&self) -> String {
        format!("{:?}", self.sim.board.processors[1].registers)
    }

    fn states(&self) -> (ThreadState, ThreadState) {
        (self.sim.state(self.program), self.sim.state(self.handler))
    }
}

#[test]
fn a_fault_and_its_answer_go_the_short_way() {
    // A handler that is less urgent runs all the same: nobody else is ready.
    for mut stage in [Stage::new(), Stage::with(LOW, 0, true), Stage::with(LOW - 1, 0, true), Stage::passive()] {
        for _ in 0..5 {
            let before = stage.sim.board.processors[1].registers;
            assert_eq!(stage.fault(), SHORT);
            assert_eq!(stage.states(), (ThreadState::Faulted, ThreadState::Ready));
            assert_eq!(stage.runs(), Some(stage.handler.thread));
            let got = stage.sim.answer_of(stage.handler);
            assert_eq!((got.label, got.badge, got.status.is_answerable()), (fault::LABEL, 77, true));
            assert_eq!(got.words[0], FaultKind::Read as u64);
            assert_eq!(got.words[2..5], [NOWHERE, 1, before.sp]);
            stage.sim.pass(1000);
            assert_eq!(stage.answer(0), SHORT);
            assert_eq!((stage.runs(), stage.states().1), (Some(stage.program.thread), ThreadState::Receiving));
        }
    }
}

#[test]
fn an_answer_to_a_fault_changes_no_register() {
    let mut stage = Stage::new();
    stage.look();
    let before = stage.registers();
    let went = stage.short(|stage| stage.sim.load(core_id(1), NOWHERE));
    assert_eq!((went, stage.answer(0)), (SHORT, SHORT));
    assert_eq!(stage.registers(), before);
}

#[test]
fn an_answer_that_stops_the_thread_goes_the_general_way() {
    for mut stage in [Stage::new(), Stage::passive()] {
        stage.fault();
        assert_eq!(stage.answer(1), GENERAL);
        assert_eq!(stage.states(), (ThreadState::Stopped, ThreadState::Receiving));
    }
}

#[test]
fn a_fault_that_nobody_can_be_told_of_stops_the_thread_the_general_way() {
    let mut stage = Stage::with(HIGH, 0, false);
    assert_eq!(stage.fault(), GENERAL, "it has no handler");
    assert_eq!(stage.states(), (ThreadState::Stopped, ThreadState::Receiving));

    let mut stage = Stage::new();
    stage.fault();
    stage.sim.run(stage.handler, SystemCall::Send, stage.reply, &Message::new(0));
    stage.sim.run(stage.handler, SystemCall::Recv, stage.endpoint, &Message::new(0));
    assert_eq!(stage.fault(), GENERAL, "its handler has no Reply");
    assert_eq!(stage.states(), (ThreadState::Stopped, ThreadState::Ready));
}

#[test]
fn a_fault_whose_handler_is_busy_waits_the_general_way() {
    let mut stage = Stage::new();
    stage.fault();
    stage.sim.run(stage.handler, SystemCall::Send, stage.reply, &Message::new(0));
    // The handler has answered, and does something else; it waits for a signal.
    let notification = stage.sim.make(Kind::Notification, 0);
    stage.sim.run(stage.handler, SystemCall::Recv, notification, &Message::new(0));
    assert_eq!(stage.fault(), GENERAL);
    assert_eq!(stage.states().0, ThreadState::Sending);
}

#[test]
fn an_answer_to_a_fault_while_another_waits_goes_the_general_way() {
    let mut stage = Stage::new();
    let second = stage.sim.new_thread(1, LOW);
    stage.sim.ok(second.slot, Method::ThreadSetFaultEndpoint, &[], stage.endpoint);
    stage.fault();
    stage.sim.ok(stage.handler.slot, Method::ThreadSetPriority, &[1, 1], 0);
    stage.sim.ok(second.slot, Method::ThreadStart, &START, 0);
    stage.sim.settle();
    assert_eq!(stage.runs(), Some(second.thread));
    assert_eq!(stage.short(|stage| stage.sim.load(core_id(1), NOWHERE)), GENERAL, "its handler is busy");
    assert_eq!(stage.answer(0), GENERAL, "the handler goes on with the next fault");
    assert_eq!(
        (stage.sim.state(second), stage.states()),
        (ThreadState::Faulted, (ThreadState::Ready, ThreadState::Ready))
    );
}

#[test]
fn a_fault_beside_a_more_urgent_thread_or_on_limited_time_goes_the_general_way() {
    let mut stage = Stage::with(LOW - 1, 0, true);
    let other = stage.sim.new_thread(1, LOW);
    stage.sim.ok(other.slot, Method::ThreadStart, &START, 0);
    stage.sim.settle();
    assert_eq!((stage.fault(), stage.runs()), (GENERAL, Some(other.thread)), "it is more urgent than the handler");

    let mut stage = Stage::new();
    stage.sim.limit(1, stage.handler.context, 100_000, 1_000_000, false);
    assert_eq!(stage.fault(), GENERAL, "the timer must be set for the end of the handler's budget");

    let mut stage = Stage::new();
    stage.sim.limit(1, stage.program.context, 100_000, 1_000_000, false);
    assert_eq!((stage.fault(), stage.answer(0)), (GENERAL, GENERAL), "or of the program's");

    let mut stage = Stage::passive();
    stage.sim.limit(1, stage.program.context, 100_000, 1_000_000, false);
    assert_eq!((stage.fault(), stage.answer(0)), (SHORT, SHORT), "a passive handler goes on with the same budget");
}

#[test]
fn the_end_of_a_budget_is_told_and_answered_the_general_way() {
    let mut stage = Stage::new();
    stage.sim.limit(1, stage.program.context, 100_000, 1_000_000, true);
    let went = stage.short(|stage| stage.sim.pass(100_000));
    assert_eq!((went, stage.states()), (GENERAL, (ThreadState::Faulted, ThreadState::Ready)));
    assert_eq!(stage.sim.answer_of(stage.handler).words[0], FaultKind::NoTime as u64);
    // Its time is unlimited by now; that it was told counts all the same.
    stage.sim.limit(1, stage.program.context, 0, 0, false);
    assert_eq!((stage.answer(0), stage.runs()), (GENERAL, Some(stage.program.thread)));
}

#[test]
fn a_foreign_thread_faults_the_short_way_and_calls_the_general_way() {
    let mut stage = Stage::with(HIGH, 1, true);
    let before = stage.registers();
    assert_eq!((stage.fault(), stage.answer(0)), (SHORT, SHORT));
    assert_eq!(stage.registers(), before);
    let call = |stage: &mut Stage| stage.sim.system_call(core_id(1), SystemCall::Yield, 0, &Message::new(0));
    assert_eq!(stage.short(call), GENERAL);
    assert_eq!(stage.sim.answer_of(stage.handler).label, fault::SYSTEM_CALL_LABEL);
    assert_eq!(stage.answer(0), GENERAL, "it brings the call's result");
    assert_eq!((stage.runs(), stage.sim.board.processors[1].registers.words[0]), (Some(stage.program.thread), 1));
    assert_eq!((stage.fault(), stage.answer(0)), (SHORT, SHORT), "that is over");
}

#[test]
fn a_fault_to_a_handler_on_another_core_goes_the_general_way() {
    let mut stage = Stage::new();
    stage.fault();
    stage.sim.run(stage.handler, SystemCall::Send, stage.reply, &Message::new(0));
    let badged = stage.sim.mint(stage.endpoint, 5);
    let elsewhere = stage.sim.new_thread(0, 1);
    stage.sim.ok(elsewhere.slot, Method::ThreadSetFaultEndpoint, &[], badged);
    stage.sim.run(stage.handler, SystemCall::Recv, stage.endpoint, &Message::new(0).reply(stage.reply));
    stage.sim.ok(elsewhere.slot, Method::ThreadSetPriority, &[200, 200], 0);
    stage.sim.ok(slot::THREAD, Method::ThreadSetPriority, &[100, 200], 0);
    stage.sim.ok(elsewhere.slot, Method::ThreadStart, &START, 0);
    assert_eq!(stage.sim.thread(BOOT), Some(elsewhere.thread));
    let went = stage.short(|stage| {
        assert_eq!(stage.sim.load(BOOT, NOWHERE), None);
        stage.sim.settle();
    });
    assert_eq!((went, stage.sim.state(elsewhere)), (GENERAL, ThreadState::Faulted));
    assert_eq!(stage.sim.answer_of(stage.handler).badge, 5);
}

#[test]
fn what_goes_the_short_way_is_counted_as_what_it_is() {
    let mut stage = Stage::new();
    let count = |stage: &mut Stage| {
        let mut held =
            stage.sim.kernel.hold(core_id(1), anos_machine::CoreSet::NONE, || unreachable!("nobody else runs"));
        held.core(core_id(1)).expect("held").counters.whole()
    };
    let info = Message::new(Method::CapTableInfo.label());
    // Core 1 looks at that part of the table for the first time.
    stage.sim.system_call(core_id(1), SystemCall::Call, slot::CAP_TABLE, &info);
    let before = count(&mut stage);
    // Outside of what is compared, which ends with the general way.
    stage.sim.compare_every = 1 << 40;
    assert_eq!(stage.sim.load(core_id(1), NOWHERE), None);
    stage.answer(0);
    stage.sim.system_call(core_id(1), SystemCall::Call, EMPTY, &Message::new(0));
    stage.sim.system_call(core_id(1), SystemCall::Call, slot::CAP_TABLE, &info);
    let after = count(&mut stage);
    assert_eq!((after.faults - before.faults, after.calls - before.calls), (1, 3));
    assert_eq!((after.switches - before.switches, after.locks - before.locks), (2, 4));
}

/// A driver of line 3 on the boot core, beside the root server, which runs.
struct Device {
    sim: Sim,
    driver: Program,
    line: u32,
    notification: u32,
}

const LINE: u32 = 3;
const BIT: u64 = 16;

impl Device {
    /// Edge- or level-triggered; the driver waits on this core, more urgent than the root server or less.
    fn new(cores: u64, level: bool, core: u64, is_urgent: bool) -> Device {
        let mut sim = Sim::boot(cores);
        sim.compare_every = 1;
        sim.ok(slot::THREAD, Method::ThreadSetPriority, &[100, 255], 0);
        let (line, notification) = (sim.slot(), sim.make(Kind::Notification, 0));
        let get = [LINE.into(), level.into(), 0];
        sim.call(BOOT, slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &get, 0, line).result().expect("a line");
        let bit = sim.mint(notification, BIT);
        sim.ok(line, Method::InterruptBind, &[], bit);
        let driver = sim.new_thread(core, 200);
        sim.ok(driver.slot, Method::ThreadStart, &START, 0);
        sim.settle();
        sim.run(driver, SystemCall::Recv, notification, &Message::new(0));
        let priority = if is_urgent { 200 } else { 50 };
        sim.ok(driver.slot, Method::ThreadSetPriority, &[priority, priority], 0);
        Device { sim, driver, line, notification }
    }

    /// A thread on core 1 binds another line: the kernel's table of lines is at home there alone by then.
    fn bind_on(&mut self, other: Program, line: u32) {
        let (at, bit) = (self.sim.slot(), self.sim.mint(self.notification, BIT));
        let get = Message::new(Method::InterruptControlGet.label()).words(&[line.into()]).receive(at);
        self.sim.run(other, SystemCall::Call, slot::INTERRUPT_CONTROL, &get);
        let bind = Message::new(Method::InterruptBind.label()).pass(bit);
        self.sim.run(other, SystemCall::Call, at, &bind);
        self.sim.answer_of(other).result().expect("it is bound");
    }

    /// The device interrupts: which way that goes.
    fn interrupt(&mut self) -> u64 {
        let before = self.sim.compared;
        self.sim.raise(LINE);
        self.sim.settle();
        self.sim.check();
        self.sim.compared - before
    }

    fn unmasked(&self) -> bool {
        self.sim.board.lines[LINE as usize].unmasked
    }

    fn got(&self) -> (ThreadState, u64) {
        (self.sim.state(self.driver), self.sim.answer_of(self.driver).badge)
    }
}

#[test]
fn an_interrupt_goes_the_short_way() {
    for (cores, level) in [(1, false), (1, true), (2, false), (2, true)] {
        for is_urgent in [true, false] {
            let mut device = Device::new(cores, level, 0, is_urgent);
            assert_eq!(device.interrupt(), SHORT);
            assert_eq!(device.got(), (ThreadState::Ready, BIT));
            let next = if is_urgent { device.driver.thread } else { device.sim.root().thread };
            assert_eq!(device.sim.thread(BOOT), Some(next), "the more urgent one of the two");
            assert_eq!(device.unmasked(), !level, "a level-triggered line waits for its driver");
        }
    }
}

#[test]
fn an_interrupt_that_nobody_waits_for_stays_the_short_way() {
    for level in [false, true] {
        let mut device = Device::new(1, level, 0, true);
        assert_eq!(device.interrupt(), SHORT);
        device.sim.lower(LINE);
        // The driver is busy: a second one stays, too.
        device.sim.call(BOOT, device.line, Method::InterruptAck, &[], 0, 0).result().expect("it is acknowledged");
        assert!(device.unmasked());
        assert_eq!(device.interrupt(), SHORT);
        assert_eq!(device.unmasked(), !level);
        device.sim.run(device.driver, SystemCall::Recv, device.notification, &Message::new(0));
        assert_eq!((device.sim.thread(BOOT), device.got().1), (Some(device.driver.thread), BIT));
    }
}

#[test]
fn an_interrupt_for_nobody_is_masked_the_general_way() {
    let mut device = Device::new(1, false, 0, true);
    device.sim.revoke(device.notification);
    assert!(device.unmasked());
    assert_eq!((device.interrupt(), device.unmasked()), (GENERAL, false));
    // A line that the tables don't know.
    let before = device.sim.compared;
    device.sim.enter(BOOT, Event::Interrupt(15));
    assert_eq!(device.sim.compared - before, GENERAL);
}

#[test]
fn an_interrupt_to_a_driver_on_another_core_goes_the_general_way() {
    for level in [false, true] {
        let mut device = Device::new(2, level, 1, true);
        assert_eq!((device.interrupt(), device.unmasked()), (GENERAL, !level));
        assert_eq!(device.got(), (ThreadState::Ready, BIT));
    }
}

#[test]
fn an_interrupt_that_comes_on_another_core_goes_the_general_way() {
    // All of it is at home there, but who may look at the lines is who has the boot core's lock.
    let mut device = Device::new(2, true, 1, true);
    let other = device.sim.spawn(1, LOW);
    device.bind_on(other, LINE + 1);
    let before = device.sim.compared;
    device.sim.enter(core_id(1), Event::Interrupt(LINE));
    device.sim.settle();
    device.sim.check();
    assert_eq!((device.sim.compared - before, device.unmasked()), (GENERAL, false));
    assert_eq!((device.got(), device.sim.thread(core_id(1))), ((ThreadState::Ready, BIT), Some(device.driver.thread)));
}

#[test]
fn who_binds_a_line_on_another_core_keeps_interrupts_off_the_short_way_once() {
    let mut device = Device::new(2, false, 0, true);
    let other = device.sim.spawn(1, LOW);
    device.bind_on(other, LINE + 1);
    assert_eq!((device.interrupt(), device.interrupt(), device.interrupt()), (GENERAL, SHORT, SHORT));
}

#[test]
fn an_interrupt_of_an_idle_core_goes_the_general_way() {
    let mut device = Device::new(1, false, 0, true);
    let elsewhere = device.sim.make(Kind::Notification, 0);
    device.sim.system_call(BOOT, SystemCall::Recv, elsewhere, &Message::new(0));
    assert_eq!(device.sim.thread(BOOT), None);
    assert_eq!((device.interrupt(), device.got()), (GENERAL, (ThreadState::Ready, BIT)));
    assert_eq!(device.sim.thread(BOOT), Some(device.driver.thread));
}

#[test]
fn an_interrupt_goes_the_general_way_if_it_is_unusual() {
    let mut device = Device::new(1, false, 0, true);
    device.sim.limit(0, slot::SCHED_CONTEXT, 100_000, 1_000_000, false);
    assert_eq!((device.interrupt(), device.got().1), (GENERAL, BIT), "who runs has limited time");

    let mut device = Device::new(1, false, 0, true);
    device.sim.limit(0, device.driver.context, 100_000, 1_000_000, false);
    assert_eq!((device.interrupt(), device.got().1), (GENERAL, BIT), "the driver has");

    let mut device = Device::new(1, true, 0, true);
    assert_eq!(device.interrupt(), SHORT);
    device.sim.lower(LINE);
    let (driver, line, notification) = (device.driver, device.line, device.notification);
    device.sim.run(driver, SystemCall::Call, line, &Message::new(Method::InterruptAck.label()));
    device.sim.run(driver, SystemCall::Recv, notification, &Message::new(0).deadline(1 << 40));
    assert_eq!((device.interrupt(), device.unmasked()), (GENERAL, false), "the driver waits with a deadline");

    // Somebody of the same priority as who runs, and no timer yet that ends a turn.
    let mut device = Device::new(1, true, 0, false);
    device.sim.ok(device.driver.slot, Method::ThreadSetPriority, &[100, 100], 0);
    assert_eq!((device.interrupt(), device.unmasked()), (GENERAL, false), "the timer must be set");
    assert_eq!((device.got().1, device.sim.thread(BOOT)), (BIT, Some(device.sim.root().thread)));
}

#[test]
fn a_more_urgent_thread_that_became_ready_meanwhile_is_not_kept_waiting() {
    let mut device = Device::new(2, true, 0, false);
    let other = device.sim.spawn(1, LOW);
    let urgent = device.sim.new_thread(0, 150);
    // The boot core waits for its lock when core 1 starts that thread, which so needs no kick.
    device.sim.raise(LINE);
    device.sim.trap(BOOT, Event::Interrupt(LINE));
    let words = [START[0], START[1]];
    device.sim.call(other.core, urgent.slot, Method::ThreadStart, &words, 0, 0).result().expect("it is started");
    let before = device.sim.compared;
    device.sim.go_on(BOOT);
    assert_eq!((device.sim.compared - before, device.unmasked()), (GENERAL, false));
    assert_eq!((device.got(), device.sim.thread(BOOT)), ((ThreadState::Ready, BIT), Some(urgent.thread)));
}
