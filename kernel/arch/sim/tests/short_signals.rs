//! The short way of signals, of waiting for them, and of `yield`: what goes it, what doesn't, and that it makes no
//! difference. (The machine compares all memory with what the general way leaves.)

use anos_abi::object::{Method, ThreadState};
use anos_abi::{Error, Kind, Rights, SystemCall};
use anos_sim::{Message, Program, Sim, core_id};

const CORE: u64 = 1;
const LOW: u8 = 5;
const HIGH: u8 = 7;

/// Two threads of core 1 and a Notification. Each system call is compared.
struct Stage {
    sim: Sim,
    low: Program,
    high: Program,
    notification: u32,
    /// The same, with a badge to signal.
    bit: u32,
}

/// A slot that is never filled.
const EMPTY: u32 = 1023;

impl Stage {
    /// Both have priorities; the more urgent one waits for a signal.
    fn new(low: u8, high: u8) -> Stage {
        let mut sim = Sim::boot(2);
        sim.compare_every = 1;
        let notification = sim.make(Kind::Notification, 0);
        let bit = sim.mint(notification, 4);
        let (high, low) = (sim.spawn(CORE, high), sim.new_thread(CORE, low));
        let mut stage = Stage { sim, low, high, notification, bit };
        stage.wait(stage.high);
        stage.sim.ok(stage.low.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
        stage.sim.settle();
        stage
    }

    fn wait(&mut self, program: Program) {
        self.sim.run(program, SystemCall::Recv, self.notification, &Message::new(0));
    }

    fn signal(&mut self, program: Program) {
        self.sim.run(program, SystemCall::Send, self.bit, &Message::new(0));
    }

    fn runs(&self) -> Option<anos_machine::Ref<anos_machine::Thread>> {
        self.sim.thread(core_id(CORE))
    }

    /// How many system calls of something go the short way; all of those are compared.
    fn short(&mut self, what: impl FnOnce(&mut Stage)) -> u64 {
        // The root server has just changed the table: whoever runs on core 1 looks at it once.
        self.sim.system_call(core_id(CORE), SystemCall::Send, EMPTY, &Message::new(0));
        self.sim.settle();
        let before = self.sim.compared;
        what(self);
        self.sim.compared - before
    }

    fn got(&self, program: Program) -> u64 {
        self.sim.answer_of(program).badge
    }
}

#[test]
fn a_signal_to_a_more_urgent_thread_and_its_next_wait_go_the_short_way() {
    let mut stage = Stage::new(LOW, HIGH);
    let went = stage.short(|stage| {
        for _ in 0..10 {
            stage.signal(stage.low);
            assert_eq!((stage.runs(), stage.got(stage.high)), (Some(stage.high.thread), 4));
            // Some of its turn is over by now, and it goes on with the rest.
            stage.sim.pass(1000);
            stage.wait(stage.high);
            assert_eq!(stage.runs(), Some(stage.low.thread));
        }
    });
    assert_eq!(went, 20);
}

#[test]
fn who_is_interrupted_goes_on_before_others_of_its_priority() {
    // One more urgent is enough.
    let mut stage = Stage::new(LOW, LOW + 1);
    let other = stage.sim.spawn(CORE, LOW);
    stage.sim.pass(1000);
    let went = stage.short(|stage| {
        stage.signal(stage.low);
        assert_eq!(stage.runs(), Some(stage.high.thread));
    });
    assert_eq!(went, 1);
    // Behind the interrupted one stands the other one; the timer is set for the end of its turn.
    stage.wait(stage.high);
    assert_eq!(stage.runs(), Some(stage.low.thread), "it has the rest of its turn");
    assert_eq!(stage.sim.state(other), ThreadState::Ready);
}

#[test]
fn between_two_address_spaces_too() {
    for tags in [0, 8] {
        let config = anos_sim::Config { tags, ..anos_sim::Config::cores(2) };
        let sim = Sim::boot_with(config, &anos_sim::Payload::default().bytes(), 1).expect("the machine boots");
        let mut stage = Stage { sim, ..Stage::new(LOW, HIGH) };
        let notification = stage.sim.make(Kind::Notification, 0);
        (stage.notification, stage.bit) = (notification, stage.sim.mint(notification, 4));
        stage.high = stage.sim.new_thread(CORE, HIGH);
        let space = stage.sim.make(Kind::AddressSpace, 0);
        stage.sim.ok(stage.high.slot, Method::ThreadSetSpace, &[], space);
        stage.sim.ok(stage.high.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
        stage.sim.settle();
        stage.sim.compare_every = 1;
        stage.wait(stage.high);
        stage.low = stage.sim.spawn(CORE, LOW);
        let went = stage.short(|stage| {
            for _ in 0..5 {
                stage.signal(stage.low);
                stage.wait(stage.high);
            }
        });
        assert_eq!(went, 10, "with {tags} tags");
    }
}

#[test]
fn a_signal_to_a_less_urgent_thread_goes_the_short_way() {
    let mut stage = Stage::new(LOW, HIGH);
    // The other way round: the low one waits, and the high one runs.
    stage.signal(stage.low);
    stage.sim.ok(stage.high.slot, Method::ThreadSetPriority, &[1, 1], 0);
    stage.sim.settle();
    stage.wait(stage.low);
    stage.sim.ok(stage.high.slot, Method::ThreadSetPriority, &[HIGH.into(), HIGH.into()], 0);
    stage.sim.settle();
    let went = stage.short(|stage| stage.signal(stage.high));
    assert_eq!((went, stage.runs(), stage.got(stage.low)), (1, Some(stage.high.thread), 4));
    assert_eq!(stage.sim.state(stage.low), ThreadState::Ready);
}

#[test]
fn a_signal_to_a_thread_of_the_same_priority_sets_the_timer_the_general_way() {
    let mut stage = Stage::new(LOW, LOW);
    let went = stage.short(|stage| stage.signal(stage.low));
    assert_eq!((went, stage.runs()), (0, Some(stage.low.thread)), "the timer must be set for the end of the turn");
    // Now it is set, and may come early.
    stage.sim.run(stage.low, SystemCall::Yield, 0, &Message::new(0));
    stage.wait(stage.high);
    let went = stage.short(|stage| stage.signal(stage.low));
    assert_eq!((went, stage.runs(), stage.got(stage.high)), (1, Some(stage.low.thread), 4));
}

#[test]
fn signals_that_nobody_waits_for_stay_and_are_taken_the_short_way() {
    let mut stage = Stage::new(LOW, HIGH);
    stage.signal(stage.low);
    let other = stage.sim.mint(stage.notification, 3);
    let went = stage.short(|stage| {
        stage.signal(stage.high);
        stage.sim.run(stage.high, SystemCall::Send, other, &Message::new(0));
        stage.wait(stage.high);
    });
    assert_eq!((went, stage.runs(), stage.got(stage.high)), (3, Some(stage.high.thread), 7));
    let went = stage.short(|stage| stage.wait(stage.high));
    assert_eq!((went, stage.runs()), (1, Some(stage.low.thread)), "they are gone");
}

#[test]
fn a_signal_reaches_a_bound_thread_that_waits_for_a_message() {
    let mut stage = Stage::new(LOW, HIGH);
    stage.signal(stage.low);
    stage.sim.ok(stage.high.slot, Method::ThreadBind, &[], stage.notification);
    let endpoint = stage.sim.make(Kind::Endpoint, 0);
    stage.sim.run(stage.high, SystemCall::Recv, endpoint, &Message::new(0));
    let went = stage.short(|stage| stage.signal(stage.low));
    assert_eq!((went, stage.runs(), stage.got(stage.high)), (1, Some(stage.high.thread), 4));
    // It is busy now: the signal stays.
    stage.sim.ok(stage.high.slot, Method::ThreadSetPriority, &[1, 1], 0);
    stage.sim.settle();
    let went = stage.short(|stage| stage.signal(stage.low));
    assert_eq!((went, stage.sim.state(stage.high)), (1, ThreadState::Ready));
    stage.sim.ok(stage.high.slot, Method::ThreadSetPriority, &[HIGH.into(), HIGH.into()], 0);
    stage.sim.settle();
    stage.sim.run(stage.high, SystemCall::Recv, endpoint, &Message::new(0));
    assert_eq!((stage.runs(), stage.got(stage.high)), (Some(stage.high.thread), 4));
}

#[test]
fn yield_goes_the_short_way() {
    let mut stage = Stage::new(LOW, HIGH);
    let went = stage.short(|stage| stage.sim.run(stage.low, SystemCall::Yield, 0, &Message::new(0)));
    assert_eq!((went, stage.runs()), (1, Some(stage.low.thread)), "there is nobody else");
    let (second, third) = (stage.sim.spawn(CORE, LOW), stage.sim.spawn(CORE, LOW));
    let went = stage.short(|stage| {
        for _ in 0..4 {
            for (program, next) in [(stage.low, second), (second, third), (third, stage.low)] {
                stage.sim.run(program, SystemCall::Yield, 0, &Message::new(0));
                assert_eq!(stage.runs(), Some(next.thread), "each in its turn");
            }
        }
    });
    assert_eq!(went, 12);
}

#[test]
fn limited_time_is_left_to_the_general_way() {
    let mut stage = Stage::new(LOW, HIGH);
    stage.sim.limit(CORE, stage.low.context, 100_000, 1_000_000, false);
    assert_eq!(stage.short(|stage| stage.signal(stage.low)), 0, "the sender's");
    let mut stage = Stage::new(LOW, HIGH);
    stage.sim.limit(CORE, stage.high.context, 100_000, 1_000_000, false);
    assert_eq!(stage.short(|stage| stage.signal(stage.low)), 0, "the receiver's");
    let mut stage = Stage::new(LOW, HIGH);
    stage.sim.limit(CORE, stage.low.context, 100_000, 1_000_000, false);
    let went = stage.short(|stage| stage.sim.run(stage.low, SystemCall::Yield, 0, &Message::new(0)));
    assert_eq!(went, 0, "that of who yields");
}

#[test]
fn what_is_unusual_goes_the_general_way() {
    let mut stage = Stage::new(LOW, HIGH);
    let second = stage.sim.spawn(CORE, HIGH);
    stage.wait(second);
    assert_eq!(stage.short(|stage| stage.signal(stage.low)), 0, "two wait");
    assert_eq!((stage.runs(), stage.got(stage.high)), (Some(stage.high.thread), 4), "the first gets it");

    let mut stage = Stage::new(LOW, HIGH);
    stage.signal(stage.low);
    let deadline = Message::new(0).deadline(1_000_000);
    let went = stage.short(|stage| stage.sim.run(stage.high, SystemCall::Recv, stage.notification, &deadline));
    assert_eq!(went, 0, "it waits with a deadline");
    assert_eq!(stage.short(|stage| stage.signal(stage.low)), 0, "somebody waits with one");

    let mut stage = Stage::new(LOW, HIGH);
    let to_receive = stage.sim.copy(stage.notification, Rights::READ.0);
    let went = stage.short(|stage| stage.sim.run(stage.low, SystemCall::Send, to_receive, &Message::new(0)));
    assert_eq!((went, stage.sim.answer_of(stage.low).result()), (0, Err(Error::MissingRights)));
    let went = stage.short(|stage| stage.sim.run(stage.low, SystemCall::Send, stage.notification, &Message::new(0)));
    assert_eq!((went, stage.runs()), (0, Some(stage.low.thread)), "no bits are no signal");
}
