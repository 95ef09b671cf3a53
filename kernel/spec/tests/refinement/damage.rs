//! That a difference is noticed, and said in words.
//!
//! The kernel and its specification do the same; then one of them is told something else, or the kernel's memory is
//! changed behind its back, as a wrong rule would. Each of these must be reported.

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Kind, PAGE_SIZE, SystemCall};
use anos_machine::{AddressSpace, CoreId, CoreSet, Endpoint, Event, Notification, Ref, Reply, Slot, Thread};
use anos_sim::{Access, Message, Program, Sim};
use anos_spec::{Spec, invariants};

use crate::abstraction::{abstraction, registers};
use crate::pair::Pair;

const CORE: CoreId = CoreId::BOOT;
/// Where a Frame is mapped: the root server's data lies in the same table.
const AT: u64 = 0x5f_0000;

/// A small system, and where its things lie.
struct Stage {
    pair: Pair,
    endpoint: u32,
    badged: u32,
    notification: u32,
    reply: u32,
    frame: u32,
    memory: u32,
    empty: u32,
    other: Program,
}

impl Stage {
    fn new() -> Stage {
        let mut sim = Sim::boot(1);
        sim.ok(slot::THREAD, Method::ThreadSetPriority, &[100, 255], 0);
        let endpoint = sim.make(Kind::Endpoint, 0);
        let badged = sim.mint(endpoint, 5);
        let notification = sim.make(Kind::Notification, 0);
        let reply = sim.make(Kind::Reply, 0);
        let frame = sim.make(Kind::Frame, 1);
        let memory = sim.make(Kind::Untyped, 4);
        let empty = sim.slots(4);
        let other = sim.new_thread(0, 100);
        sim.ok(other.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
        Stage { pair: Pair::new(sim), endpoint, badged, notification, reply, frame, memory, empty, other }
    }

    fn call(&mut self, target: u32, method: Method, words: &[u64], pass: u32) {
        let message = Message::new(method.label()).words(words).pass(pass);
        self.pair.call(CORE, SystemCall::Call, target, &message).expect("they agree");
    }

    fn exchange(&mut self, call: SystemCall, target: u32, message: Message) {
        self.pair.call(CORE, call, target, &message).expect("they agree");
    }

    fn object(&self, at: u32) -> u64 {
        self.pair.sim.look(at).object
    }

    /// What is found different now.
    fn difference(&self) -> Option<String> {
        self.pair.compare(&abstraction(&self.pair.sim)).err()
    }

    /// Changes a slot of the root server's table behind the kernel's back.
    fn change_slot(&mut self, at: u32, change: impl FnOnce(&mut Slot)) {
        let place = Ref::at(self.pair.sim.root_table() + u64::from(at) * 64);
        self.pair.sim.with_store(|store| change(store.get::<Slot>(place).expect("a slot")));
    }
}

/// The report must say this.
#[track_caller]
fn reports(stage: &Stage, words: &[&str]) {
    let report = stage.difference().expect("something differs");
    for word in words {
        assert!(report.contains(word), "{report:?} does not say {word:?}");
    }
}

#[test]
fn nothing_is_reported_where_nothing_differs() {
    let mut stage = Stage::new();
    stage.call(slot::CAP_TABLE, Method::CapTableCopy, &[stage.empty.into(), 3], stage.endpoint);
    assert_eq!(stage.difference(), None);
}

#[test]
fn a_right_too_many_is_reported() {
    let mut stage = Stage::new();
    stage.call(slot::CAP_TABLE, Method::CapTableCopy, &[stage.empty.into(), 1], stage.endpoint);
    stage.change_slot(stage.empty, |slot| slot.rights = 3);
    reports(&stage, &["capability in Table", "rights", "0x1", "0x3"]);
}

#[test]
fn a_capability_that_is_adopted_is_reported() {
    let mut stage = Stage::new();
    let first = stage.empty;
    stage.call(slot::CAP_TABLE, Method::CapTableCopy, &[first.into(), 15], stage.endpoint);
    stage.call(slot::CAP_TABLE, Method::CapTableCopy, &[u64::from(first) + 1, 15], stage.endpoint);
    // The older copy stands behind the newer one, and would stem from it if it were one deeper.
    stage.change_slot(first, |slot| slot.depth += 1);
    reports(&stage, &["capability in Table", "parent"]);
}

#[test]
fn a_capability_that_was_not_deleted_is_reported() {
    let mut stage = Stage::new();
    stage.call(slot::CAP_TABLE, Method::CapTableCopy, &[stage.empty.into(), 15], stage.endpoint);
    let (machine, before) = (stage.pair.sim.snapshot(), stage.pair.spec.clone());
    stage.call(slot::CAP_TABLE, Method::CapTableRevoke, &[stage.endpoint.into()], 0);
    let after = stage.pair.spec.clone();
    stage.pair.sim.restore(&machine);
    reports(&stage, &["capability in Table", "should not exist"]);
    stage.pair.spec = before;
    assert_eq!(stage.difference(), None);
    stage.call(slot::CAP_TABLE, Method::CapTableRevoke, &[stage.endpoint.into()], 0);
    assert_eq!(anos_spec::difference::difference(&after, &stage.pair.spec), None);
}

#[test]
fn another_watermark_is_reported() {
    let mut stage = Stage::new();
    let message = Message::new(Method::UntypedRetype.label()).words(&[Kind::Endpoint as u64, 0, 1]);
    stage.exchange(SystemCall::Call, stage.memory, message.receive(stage.empty));
    stage.change_slot(stage.memory, |slot| slot.badge += 64);
    reports(&stage, &["capability in Table", "used", "0x40", "0x80"]);
}

#[test]
fn a_wrong_answer_is_reported() {
    let mut stage = Stage::new();
    stage.call(stage.frame, Method::FrameInfo, &[], 0);
    stage.pair.sim.board.processors[0].registers.words[1] = 2;
    reports(&stage, &["thread", "registers", "words", "0x1", "0x2"]);
}

#[test]
fn a_register_that_was_not_cleared_is_reported() {
    let mut stage = Stage::new();
    stage.exchange(SystemCall::Yield, 0, Message::new(0));
    stage.exchange(SystemCall::Yield, 0, Message::new(0));
    stage.pair.sim.board.processors[0].registers.other[3] = 0x5eed;
    reports(&stage, &["thread", "others", "0x5eed"]);
}

#[test]
fn a_mapping_that_should_be_gone_is_reported() {
    let mut stage = Stage::new();
    stage.call(stage.frame, Method::FrameMap, &[AT, 3], slot::ADDRESS_SPACE);
    let machine = stage.pair.sim.snapshot();
    stage.call(stage.frame, Method::FrameUnmap, &[], 0);
    let spec = stage.pair.spec.clone();
    stage.pair.sim.restore(&machine);
    // Only the mapping itself is as it was.
    let page = stage.pair.sim.look(stage.frame);
    stage.change_slot(stage.frame, |slot| (slot.space, slot.root, slot.badge) = (0, 0, 0));
    stage.pair.spec = spec;
    let found = abstraction(&stage.pair.sim);
    let (said, found) = (&stage.pair.spec.spaces[&page.root], &found.spaces[&page.root]);
    assert!(!said.pages.contains_key(&AT) && found.pages.contains_key(&AT));
    assert!(stage.difference().is_some());
}

#[test]
fn a_stale_translation_is_reported() {
    let mut stage = Stage::new();
    stage.call(stage.frame, Method::FrameMap, &[AT, 3], slot::ADDRESS_SPACE);
    assert_eq!(stage.pair.access(CORE, Access::Load, AT, 7), Ok(None));
    // Both forget the mapping; the processor isn't told.
    let frame = stage.pair.sim.look(stage.frame);
    stage.pair.spec.spaces.get_mut(&frame.root).expect("the space").pages.remove(&AT);
    let report = stage.pair.access(CORE, Access::Load, AT, 7).expect_err("it remembers");
    assert!(report.contains("should find None"), "{report}");
}

#[test]
fn a_page_with_other_rights_is_reported() {
    let mut stage = Stage::new();
    stage.call(stage.frame, Method::FrameMap, &[AT, 1], slot::ADDRESS_SPACE);
    let root = stage.pair.sim.look(stage.frame).root;
    let spec = stage.pair.spec.spaces[&root].clone();
    let table = spec.tables[&(1, AT & !(512 * PAGE_SIZE - 1))];
    stage.pair.sim.with_store(|store| {
        let entries = store.get::<AddressSpace>(Ref::at(table)).expect("a table");
        let index = usize::try_from(AT / PAGE_SIZE % 512).expect("small");
        entries[index] |= 1 << 3;
    });
    reports(&stage, &["address space", "rights"]);
}

#[test]
fn who_waits_in_the_wrong_order_is_reported() {
    let mut stage = Stage::new();
    stage.exchange(SystemCall::Call, stage.badged, Message::new(1));
    let endpoint = stage.object(stage.endpoint);
    let message = Message::new(2);
    stage.exchange(SystemCall::Call, stage.endpoint, message);
    stage.pair.spec.endpoints.get_mut(&endpoint).expect("it exists").senders.swap(0, 1);
    reports(&stage, &["endpoint", "senders"]);
}

#[test]
fn a_queue_that_forgot_somebody_is_reported() {
    let mut stage = Stage::new();
    stage.exchange(SystemCall::Recv, stage.endpoint, Message::new(0));
    let endpoint = stage.object(stage.endpoint);
    stage.pair.sim.with_store(|store| *store.get(Ref::at(endpoint)).expect("an endpoint") = Endpoint::default());
    reports(&stage, &["endpoint", "receivers"]);
}

#[test]
fn a_lost_signal_is_reported() {
    let mut stage = Stage::new();
    stage.call(slot::CAP_TABLE, Method::CapTableMint, &[stage.empty.into(), 15, 8], stage.notification);
    stage.exchange(SystemCall::Send, stage.empty, Message::new(0));
    let notification = stage.object(stage.notification);
    stage.pair.sim.with_store(|store| {
        store.get::<Notification>(Ref::at(notification)).expect("a notification").bits = 0;
    });
    reports(&stage, &["notification", "bits", "0x8", "0x0"]);
}

#[test]
fn a_caller_that_was_forgotten_is_reported() {
    let mut stage = Stage::new();
    stage.exchange(SystemCall::Recv, stage.endpoint, Message::new(0).reply(stage.reply));
    stage.exchange(SystemCall::Call, stage.badged, Message::new(1));
    let reply = stage.object(stage.reply);
    stage.pair.sim.with_store(|store| store.get::<Reply>(Ref::at(reply)).expect("a reply").caller = Ref::NONE);
    reports(&stage, &["reply"]);
}

/// The report must say this of another thread's record that was changed.
#[track_caller]
fn reports_change(change: impl FnOnce(&mut Thread), name: &str) {
    let stage = Stage::new();
    let thread = stage.other.thread;
    stage.pair.sim.with_store(|store| change(store.get(thread).expect("a thread")));
    reports(&stage, &["thread", name]);
}

#[test]
fn another_priority_state_or_time_is_reported() {
    reports_change(|thread| thread.priority = 7, "priority");
    reports_change(|thread| thread.ceiling = 7, "ceiling");
    reports_change(|thread| thread.state = 0, "state");
    reports_change(|thread| thread.cpu_time += 1, "cpu_time");
    reports_change(|thread| thread.turn_left = 1, "turn_left");
}

#[test]
fn another_turn_is_reported() {
    let mut stage = Stage::new();
    stage.pair.sim.board.clock += 5_000_000;
    stage.pair.event(CORE, Event::Kick).expect("they agree");
    let mut held = stage.pair.sim.kernel.hold(CORE, CoreSet::ALL, || unreachable!("one thread plays all cores"));
    held.core(CORE).expect("all locks are held").turn_end += 1;
    drop(held);
    reports(&stage, &["core 0", "turn_end"]);
}

#[test]
fn a_line_left_unmasked_is_reported() {
    let mut stage = Stage::new();
    stage.pair.event(CORE, Event::Interrupt(3)).expect("they agree");
    stage.pair.sim.board.lines[3].unmasked = true;
    reports(&stage, &["line 3"]);
}

/// The kernel is asked for one thing, and the specification for another: as if one of them had the rule wrong.
fn asked_differently(kernel: Message, specification: Message, target: u32, stage: &mut Stage) -> String {
    let (sim, spec) = (&mut stage.pair.sim, &mut stage.pair.spec);
    let thread = sim.trap_system_call(CORE, SystemCall::Call, target, &kernel);
    let mut asked = sim.board.ram.restore(thread);
    specification.load(SystemCall::Call, target, &mut asked);
    spec.threads.get_mut(&thread.address()).expect("it exists").registers = registers(&asked);
    spec.trap(0, anos_spec::Event::SystemCall);
    stage.pair.go_on(CORE).expect_err("a difference")
}

#[test]
fn wrong_rules_are_reported() {
    let copy = |to: u32, rights: u64, from: u32| {
        Message::new(Method::CapTableCopy.label()).words(&[to.into(), rights]).pass(from)
    };
    let mut stage = Stage::new();
    let (empty, endpoint, badged) = (stage.empty, stage.endpoint, stage.badged);
    let report = asked_differently(copy(empty, 15, endpoint), copy(empty, 7, endpoint), slot::CAP_TABLE, &mut stage);
    assert!(report.contains("rights"), "{report}");

    let mut stage = Stage::new();
    let report =
        asked_differently(copy(empty, 15, endpoint), copy(empty + 1, 15, endpoint), slot::CAP_TABLE, &mut stage);
    assert!(report.contains("there is none"), "{report}");

    let mut stage = Stage::new();
    let on = |method: Method, at: u32| Message::new(method.label()).words(&[at.into()]);
    let (revoked, deleted) = (on(Method::CapTableRevoke, badged), on(Method::CapTableDelete, badged));
    let report = asked_differently(revoked, deleted, slot::CAP_TABLE, &mut stage);
    assert!(report.contains("should not exist"), "{report}");

    let mut stage = Stage::new();
    let retype = |kind: Kind| Message::new(Method::UntypedRetype.label()).words(&[kind as u64, 0, 1]).receive(empty);
    let report = asked_differently(retype(Kind::Reply), retype(Kind::Endpoint), stage.memory, &mut stage);
    assert!(report.contains("should be Endpoint, and is Reply"), "{report}");

    let mut stage = Stage::new();
    let other = stage.other.slot;
    let info = |method: Method| Message::new(method.label()).words(&[101, 101]);
    let (kernel, specification) = (info(Method::ThreadInfo), info(Method::ThreadSetPriority));
    let report = asked_differently(kernel, specification, other, &mut stage);
    assert!(report.contains("thread"), "{report}");

    let mut stage = Stage::new();
    let later = |deadline: u64| Message::new(4).deadline(deadline);
    let soon = stage.pair.sim.board.clock + 1000;
    let report = asked_differently(later(soon), later(soon + 1), badged, &mut stage);
    assert!(report.contains("deadline"), "{report}");
}

#[test]
fn the_invariants_notice_authority_out_of_nothing() {
    let mut stage = Stage::new();
    stage.call(slot::CAP_TABLE, Method::CapTableCopy, &[stage.empty.into(), 1], stage.endpoint);
    let read_only = |capability: &anos_spec::Capability| capability.kind == Kind::Endpoint && capability.rights.0 == 1;
    let mut spec = stage.pair.spec.clone();
    let copy = spec.capabilities.values_mut().find(|capability| read_only(capability)).expect("the copy");
    copy.badge = 9;
    let parent = copy.parent.expect("it is a copy");
    assert_eq!(invariants::check(&spec), Ok(()), "a badge may be added");
    spec.capabilities.get_mut(&parent).expect("it is there").rights = anos_abi::Rights(2);
    let broken = invariants::check(&spec).expect_err("more than the parent has");
    assert!(broken.contains("more authority"), "{broken}");
}

#[test]
fn the_invariants_notice_a_kernel_object_that_is_mapped() {
    let mut stage = Stage::new();
    stage.call(stage.frame, Method::FrameMap, &[AT, 3], slot::ADDRESS_SPACE);
    let mut spec = stage.pair.spec.clone();
    let root = stage.pair.sim.look(stage.frame).root;
    let thread = stage.other.thread.address();
    spec.spaces.get_mut(&root).expect("the space").pages.get_mut(&AT).expect("the page").physical = thread;
    let broken = invariants::check(&spec).expect_err("a thread is mapped");
    assert!(broken.contains("where there is an object"), "{broken}");
}

#[test]
fn time_comes_back_in_order_and_what_comes_at_once_in_any() {
    let mut spec = Stage::new().pair.spec;
    let broken = |spec: &mut Spec, refills: [(u64, u64); 2]| {
        let context = spec.contexts.values_mut().next().expect("the root server's");
        let left = 100 - i64::try_from(refills[0].1 + refills[1].1).expect("small");
        (context.budget, context.period, context.left, context.refills) = (100, 1000, left, refills.into());
        invariants::check(spec).err()
    };
    assert!(broken(&mut spec, [(500, 5), (500, 3)]).is_none());
    let out_of_order = broken(&mut spec, [(501, 3), (500, 5)]).expect("the later is first");
    assert!(out_of_order.to_string().contains("out of order"));
}
