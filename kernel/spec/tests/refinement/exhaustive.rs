//! All short sequences over a small set of steps, in a small prepared system.
//!
//! Every sequence begins in the same state, and the machine goes back to where it was after each step, so that sequences
//! with the same beginning share it. `ANOS_DEPTH=n` sets how long they are.

use anos_abi::boot::slot;
use anos_abi::fault::FaultKind;
use anos_abi::object::Method;
use anos_abi::syscall::{FOREVER, POLL};
use anos_abi::{Kind, PAGE_SIZE, SystemCall};
use anos_machine::{CoreId, Event, Fault};
use anos_sim::memory::index;
use anos_sim::{Access, Config, Message, Payload, Program, Sim, core_id};

use crate::pair::Pair;

/// Where Frames are mapped.
const AT: u64 = 0x20_0000_0000;

/// One step.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Whoever runs on this core makes a system call.
    Call(u64, SystemCall, u32, Message),
    /// The same, but the core waits for the kernel's lock until it is to go on.
    Trap(u64, SystemCall, u32, Message),
    /// A core that waits for the kernel's lock gets it.
    GoOn(u64),
    /// Whoever runs on this core uses memory.
    Use(u64, Access, u64),
    /// Whoever runs on this core does something illegal.
    Fault(u64),
    /// A line interrupts.
    Interrupt(u32),
    /// Time passes until the next thing is due.
    Wait,
    /// So many nanoseconds pass.
    Pass(u64),
}

/// What may be done, each with a name.
type Steps = Vec<(&'static str, Step)>;

/// A call of a method, by whoever runs on the boot core.
fn method(target: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> Step {
    let message = Message::new(method.label()).words(words).pass(pass).receive(receive);
    Step::Call(0, SystemCall::Call, target, message)
}

/// A message or the wait for one, by whoever runs on the boot core.
fn call(call: SystemCall, target: u32, message: Message) -> Step {
    Step::Call(0, call, target, message)
}

/// A search through all sequences.
struct Search {
    pair: Pair,
    steps: Steps,
    /// Cores that wait for the kernel's lock until told to go on.
    held_back: Vec<bool>,
    path: Vec<&'static str>,
    sequences: u64,
}

impl Search {
    /// Tries all sequences of this length from here.
    fn explore(&mut self, length: u64) {
        if length == 0 {
            return;
        }
        let (machine, spec) = (self.pair.sim.snapshot(), self.pair.spec.clone());
        let held_back = self.held_back.clone();
        for number in 0..self.steps.len() {
            let (name, step) = self.steps[number];
            self.path.push(name);
            match self.perform(step) {
                Ok(false) => {
                    self.path.pop();
                    continue;
                }
                Ok(true) => self.sequences += 1,
                Err(difference) => panic!("{difference}\nafter {:#?}", self.path),
            }
            self.explore(length - 1);
            self.path.pop();
            self.pair.sim.restore(&machine);
            self.pair.spec.clone_from(&spec);
            self.held_back.clone_from(&held_back);
        }
    }

    /// Takes a step, if it can be taken here, and lets all that follows from it happen.
    fn perform(&mut self, step: Step) -> Result<bool, String> {
        let pair = &mut self.pair;
        let runs = |core: u64| {
            let processor = &pair.sim.board.processors[index(core)];
            !processor.thread.is_none() && processor.trapped.is_none()
        };
        match step {
            Step::Call(core, ..) | Step::Trap(core, ..) | Step::Use(core, ..) | Step::Fault(core) if !runs(core) => {
                return Ok(false);
            }
            Step::GoOn(core) if !self.held_back[index(core)] => return Ok(false),
            Step::Call(core, call, target, message) => pair.call(core_id(core), call, target, &message)?,
            Step::Trap(core, call, target, message) => {
                pair.trap_call(core_id(core), call, target, &message);
                self.held_back[index(core)] = true;
            }
            Step::GoOn(core) => {
                self.held_back[index(core)] = false;
                pair.go_on(core_id(core))?;
            }
            Step::Use(core, access, address) => {
                if let Some(fault) = pair.access(core_id(core), access, address, 7)? {
                    pair.event(core_id(core), fault)?;
                }
            }
            Step::Fault(core) => {
                let fault = Fault { kind: FaultKind::IllegalInstruction, address: 0, cause: 2 };
                pair.event(core_id(core), Event::Fault(fault))?;
            }
            Step::Interrupt(line) => {
                if !pair.sim.board.lines[line as usize].unmasked || self.held_back[0] {
                    return Ok(false);
                }
                pair.event(CoreId::BOOT, Event::Interrupt(line))?;
            }
            Step::Pass(nanoseconds) => pair.sim.board.clock += nanoseconds,
            Step::Wait => {
                let due = pair.sim.board.processors.iter().map(|processor| processor.timer).min().unwrap_or(u64::MAX);
                if due >= FOREVER >> 1 {
                    return Ok(false);
                }
                pair.sim.board.clock = pair.sim.board.clock.max(due);
            }
        }
        pair.settle(&self.held_back)?;
        Ok(true)
    }
}

/// Tries all sequences of `length` steps in a system.
fn search(name: &str, sim: Sim, steps: Steps, length: u64) {
    let length = std::env::var("ANOS_DEPTH").map_or(length, |text| text.parse().expect("ANOS_DEPTH is a number"));
    let held_back = vec![false; index(sim.board.config.cores)];
    let choices = steps.len();
    let mut search = Search { pair: Pair::new(sim), steps, held_back, path: Vec::new(), sequences: 0 };
    search.explore(length);
    println!("{name}: {} sequences of up to {length} of {choices} steps", search.sequences);
    assert!(search.sequences > choices as u64 * length, "hardly anything could be done");
}

/// A small machine whose root server runs at priority 100, so that its threads take turns with it.
fn machine(cores: u64) -> Sim {
    machine_with(cores, 180)
}

/// The same, with so many pages of memory.
fn machine_with(cores: u64, pages: u64) -> Sim {
    let config = Config { pages, lines: 2, ..Config::cores(cores) };
    let mut sim = Sim::boot_with(config, &Payload::default().bytes(), 0).expect("boots");
    sim.next_slot = 200;
    sim.ok(slot::THREAD, Method::ThreadSetPriority, &[100, 255], 0);
    sim
}

/// A thread of the same program, which runs or is about to.
fn thread(sim: &mut Sim, core: u64) -> Program {
    let program = sim.new_thread(core, 100);
    sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    program
}

/// Two threads on one core, and, if there are two, one on the other; an endpoint, a notification, replies.
fn messages(cores: u64) -> (Sim, Steps) {
    use SystemCall::{Call, Recv, ReplyRecv, Send, Yield};
    let mut sim = machine(cores);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let badged = sim.mint(endpoint, 5);
    let notification = sim.make(Kind::Notification, 0);
    let signal = sim.mint(notification, 6);
    let reply = sim.make_from(slot::UNTYPED, Kind::Reply, 0, 2);
    let memory = sim.make(Kind::Untyped, 1);
    let empty = sim.slots(2);
    let other = thread(&mut sim, 0);
    sim.ok(other.slot, Method::ThreadSetFaultEndpoint, &[], badged);
    let message = |label: u64| Message::new(label).words(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let soon = sim.board.clock + 1000;
    let delete = |at: u32| method(slot::CAP_TABLE, Method::CapTableDelete, &[at.into()], 0, 0);
    let revoke = |at: u32| method(slot::CAP_TABLE, Method::CapTableRevoke, &[at.into()], 0, 0);
    let mut steps = vec![
        ("yield", call(Yield, 0, message(0))),
        ("send", call(Send, endpoint, message(1))),
        ("send, passing an endpoint", call(Send, badged, message(2).pass(badged))),
        ("send, or not at all", call(Send, badged, message(3).deadline(POLL))),
        ("call", call(Call, badged, message(4).receive(empty))),
        ("call, passing memory, for a while", call(Call, badged, message(5).pass(memory).deadline(soon))),
        ("receive with a reply", call(Recv, endpoint, message(0).reply(reply).receive(empty))),
        ("receive without one", call(Recv, endpoint, message(0).receive(empty + 1))),
        ("receive for a while", call(Recv, endpoint, message(0).reply(reply + 1).deadline(soon))),
        ("answer and receive", call(ReplyRecv, endpoint, message(0).reply(reply).receive(empty))),
        ("answer, passing the reply, and receive", call(ReplyRecv, endpoint, message(7).reply(reply).pass(reply))),
        ("answer", call(Send, reply, message(8).pass(signal))),
        ("signal", call(Send, signal, message(0))),
        ("wait for a signal", call(Recv, notification, message(0))),
        ("wait for a signal for a while", call(Recv, signal, message(0).deadline(soon))),
        ("fault", Step::Fault(0)),
        ("suspend the other", method(other.slot, Method::ThreadSuspend, &[], 0, 0)),
        ("resume the other", method(other.slot, Method::ThreadResume, &[], 0, 0)),
        ("bind the other", method(other.slot, Method::ThreadBind, &[], notification, 0)),
        ("delete the badged endpoint", delete(badged)),
        ("delete the endpoint", delete(endpoint)),
        ("revoke the endpoint", revoke(endpoint)),
        ("delete the reply", delete(reply)),
        ("delete the other thread", delete(other.slot)),
        ("wait", Step::Wait),
    ];
    if cores > 1 {
        let far = thread(&mut sim, 1);
        let (here, there) = (sim.make_context(0), sim.make_context(1));
        steps.extend([
            ("there: call", Step::Call(1, Call, badged, message(9))),
            ("there: receive", Step::Call(1, Recv, endpoint, message(0).reply(reply + 1))),
            ("there: begin to signal", Step::Trap(1, Send, signal, message(0))),
            ("there: begin to receive", Step::Trap(1, Recv, badged, message(0).reply(reply))),
            ("there: go on", Step::GoOn(1)),
            ("move that thread here", method(far.slot, Method::ThreadSetContext, &[], here, 0)),
            ("move the other there", method(other.slot, Method::ThreadSetContext, &[], there, 0)),
            ("suspend that thread", method(far.slot, Method::ThreadSuspend, &[], 0, 0)),
            ("resume that thread", method(far.slot, Method::ThreadResume, &[], 0, 0)),
        ]);
    }
    sim.settle();
    (sim, steps)
}

/// A few capabilities, a little memory, a table.
fn capabilities() -> (Sim, Steps) {
    let mut sim = machine(1);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let memory = sim.make(Kind::Untyped, 3);
    let table = sim.make(Kind::CapTable, 64);
    let other = thread(&mut sim, 0);
    let empty = sim.slots(6);
    let own = |name: Method, words: &[u64], pass: u32| method(slot::CAP_TABLE, name, words, pass, 0);
    let to = |n: u32| u64::from(empty + n);
    let retype = |kind: Kind, size: u64, count: u64, from: u32, n: u32| {
        method(from, Method::UntypedRetype, &[kind as u64, size, count], 0, empty + n)
    };
    let steps = vec![
        ("copy to 0", own(Method::CapTableCopy, &[to(0), 15], endpoint)),
        ("copy to 1", own(Method::CapTableCopy, &[to(1), 15], endpoint)),
        ("copy 0 to 2, to read", own(Method::CapTableCopy, &[to(2), 1], empty)),
        ("mint to 1", own(Method::CapTableMint, &[to(1), 15, 7], endpoint)),
        ("mint 1 to 3", own(Method::CapTableMint, &[to(3), 15, 8], empty + 1)),
        ("move 0 to 3", own(Method::CapTableMove, &[to(3)], empty)),
        ("move the endpoint to 0", own(Method::CapTableMove, &[to(0)], endpoint)),
        ("delete 0", own(Method::CapTableDelete, &[to(0)], 0)),
        ("delete 1", own(Method::CapTableDelete, &[to(1)], 0)),
        ("delete the endpoint", own(Method::CapTableDelete, &[endpoint.into()], 0)),
        ("revoke the endpoint", own(Method::CapTableRevoke, &[endpoint.into()], 0)),
        ("revoke 0", own(Method::CapTableRevoke, &[to(0)], 0)),
        ("look at 0", own(Method::CapTableLook, &[to(0)], 0)),
        ("two endpoints to 0", retype(Kind::Endpoint, 0, 2, memory, 0)),
        ("a reply to 2", retype(Kind::Reply, 0, 1, memory, 2)),
        ("a table to 4", retype(Kind::CapTable, 64, 1, memory, 4)),
        ("memory to 1", retype(Kind::Untyped, 1, 1, memory, 1)),
        ("a thread of that to 5", retype(Kind::Thread, 0, 1, empty + 1, 5)),
        ("too much", retype(Kind::Frame, 4, 1, memory, 0)),
        ("revoke the memory", own(Method::CapTableRevoke, &[memory.into()], 0)),
        ("delete the memory", own(Method::CapTableDelete, &[memory.into()], 0)),
        ("how much is used", method(memory, Method::UntypedInfo, &[], 0, 0)),
        ("the table into itself", method(table, Method::CapTableMove, &[1], table, 0)),
        ("a copy of the table into it", method(table, Method::CapTableCopy, &[2, 15], table, 0)),
        ("0 into the table", method(table, Method::CapTableMove, &[3], empty, 0)),
        ("the memory into the table", method(table, Method::CapTableMove, &[4], memory, 0)),
        ("delete the table", own(Method::CapTableDelete, &[table.into()], 0)),
        ("the table for the other thread", method(other.slot, Method::ThreadSetTable, &[], table, 0)),
        ("delete the other thread", own(Method::CapTableDelete, &[other.slot.into()], 0)),
        ("the next thread", call(SystemCall::Yield, 0, Message::new(0))),
    ];
    (sim, steps)
}

/// Frames, tables, and a second space, in which one of two threads on another core runs.
fn memory() -> (Sim, Steps) {
    let mut sim = machine(2);
    let above = sim.make(Kind::PageTable, 0);
    sim.ok(above, Method::PageTableMap, &[AT, 2], slot::ADDRESS_SPACE);
    let tables = sim.make_from(slot::UNTYPED, Kind::PageTable, 0, 2);
    sim.ok(tables, Method::PageTableMap, &[AT, 1], slot::ADDRESS_SPACE);
    let frame = sim.make(Kind::Frame, 2);
    sim.ok(frame, Method::FrameMap, &[AT, 3], slot::ADDRESS_SPACE);
    let copy = sim.copy(frame, 15);
    let another = sim.make(Kind::Frame, 1);
    let memory = sim.make(Kind::Untyped, 2);
    let space = sim.make_from(memory, Kind::AddressSpace, 0, 1);
    thread(&mut sim, 1);
    let third = sim.new_thread(1, 100);
    sim.ok(third.slot, Method::ThreadSetSpace, &[], space);
    sim.ok(third.slot, Method::ThreadStart, &[0x40_0000, AT], 0);
    let own = |name: Method, at: u32| method(slot::CAP_TABLE, name, &[at.into()], 0, 0);
    let map = |frame: u32, at: u64, rights: u64| method(frame, Method::FrameMap, &[at, rights], slot::ADDRESS_SPACE, 0);
    let table = |at: u32| method(at, Method::PageTableMap, &[AT, 1], slot::ADDRESS_SPACE, 0);
    let steps = vec![
        ("put the table in", table(tables)),
        ("another table", table(tables + 1)),
        ("take the table out", method(tables, Method::PageTableUnmap, &[], 0, 0)),
        ("take the table above out", method(above, Method::PageTableUnmap, &[], 0, 0)),
        ("delete the table", own(Method::CapTableDelete, tables)),
        ("map", map(frame, AT, 3)),
        ("map the copy one page further", map(copy, AT + PAGE_SIZE, 1)),
        ("map another", map(another, AT, 3)),
        ("unmap", method(frame, Method::FrameUnmap, &[], 0, 0)),
        ("revoke the frame", own(Method::CapTableRevoke, frame)),
        ("store", Step::Use(0, Access::Store, AT + PAGE_SIZE)),
        ("there: store", Step::Use(1, Access::Store, AT)),
        ("there: the next thread", Step::Call(1, SystemCall::Yield, 0, Message::new(0))),
        ("there: load", Step::Use(1, Access::Load, AT + PAGE_SIZE)),
        ("end the other space", own(Method::CapTableRevoke, memory)),
        ("make it again", method(memory, Method::UntypedRetype, &[Kind::AddressSpace as u64, 0, 1], 0, space)),
    ];
    sim.settle();
    (sim, steps)
}

/// A Frame that can be one large page, and what can be in its way.
fn large_pages() -> (Sim, Steps) {
    let mut sim = machine_with(1, 1030);
    let above = sim.make(Kind::PageTable, 0);
    sim.ok(above, Method::PageTableMap, &[AT, 2], slot::ADDRESS_SPACE);
    let table = sim.make(Kind::PageTable, 0);
    let small = sim.make(Kind::Frame, 1);
    let large = sim.make(Kind::Frame, 512);
    let copy = sim.copy(large, 11);
    let delete = |at: u32| method(slot::CAP_TABLE, Method::CapTableDelete, &[at.into()], 0, 0);
    let map = |frame: u32, at: u64| method(frame, Method::FrameMap, &[at, 3], slot::ADDRESS_SPACE, 0);
    let further = AT + 512 * PAGE_SIZE;
    let steps = vec![
        ("map", map(large, AT)),
        ("map the copy there", map(copy, AT)),
        ("map the copy behind", map(copy, further)),
        ("map the copy across", map(copy, AT + PAGE_SIZE)),
        ("map a small one there", map(small, AT)),
        ("map a small one inside", map(small, AT + 5 * PAGE_SIZE)),
        ("a table there", method(table, Method::PageTableMap, &[AT, 1], slot::ADDRESS_SPACE, 0)),
        ("a table behind", method(table, Method::PageTableMap, &[further, 1], slot::ADDRESS_SPACE, 0)),
        ("take the table out", method(table, Method::PageTableUnmap, &[], 0, 0)),
        ("take the table above out", method(above, Method::PageTableUnmap, &[], 0, 0)),
        ("unmap", method(large, Method::FrameUnmap, &[], 0, 0)),
        ("delete the copy", delete(copy)),
        ("store", Step::Use(0, Access::Store, AT + 5 * PAGE_SIZE)),
        ("load behind", Step::Use(0, Access::Load, further + 511 * PAGE_SIZE)),
    ];
    (sim, steps)
}

/// An interrupt line, and threads with priorities and turns.
fn time() -> (Sim, Steps) {
    use SystemCall::{Recv, Yield};
    let mut sim = machine(1);
    let notification = sim.make(Kind::Notification, 0);
    let badged = sim.mint(notification, 1);
    let line = sim.slot();
    let got = sim.call(CoreId::BOOT, slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &[1, 1, 0], 0, line);
    got.result().expect("a line");
    let edge = sim.slot();
    let first = thread(&mut sim, 0);
    let second = thread(&mut sim, 0);
    let control = slot::INTERRUPT_CONTROL;
    let priority =
        |program: Program, value: u64| method(program.slot, Method::ThreadSetPriority, &[value, value], 0, 0);
    let until = |nanoseconds: u64| Message::new(0).deadline(sim.board.clock + nanoseconds);
    let delete = |at: u32| method(slot::CAP_TABLE, Method::CapTableDelete, &[at.into()], 0, 0);
    let steps = vec![
        ("bind the line", method(line, Method::InterruptBind, &[], badged, 0)),
        ("acknowledge", method(line, Method::InterruptAck, &[], 0, 0)),
        ("unbind the line", method(line, Method::InterruptUnbind, &[], 0, 0)),
        ("another line", method(control, Method::InterruptControlGet, &[2, 0, 1], 0, edge)),
        ("bind the other line", method(edge, Method::InterruptBind, &[], badged, 0)),
        ("delete the line", delete(line)),
        ("delete the notification", delete(badged)),
        ("the line interrupts", Step::Interrupt(1)),
        ("the other line interrupts", Step::Interrupt(2)),
        ("wait for the line", call(Recv, badged, Message::new(0))),
        ("wait for 3 ms", call(Recv, notification, until(3_000_000))),
        ("wait for 15 ms", call(Recv, notification, until(15_000_000))),
        ("yield", call(Yield, 0, Message::new(0))),
        ("the first more urgent", priority(first, 101)),
        ("the first less urgent", priority(first, 99)),
        ("the second more urgent", priority(second, 102)),
        ("the root server less urgent", method(slot::THREAD, Method::ThreadSetPriority, &[99, 200], 0, 0)),
        ("suspend the first", method(first.slot, Method::ThreadSuspend, &[], 0, 0)),
        ("resume the first", method(first.slot, Method::ThreadResume, &[], 0, 0)),
        ("how is the second", method(second.slot, Method::ThreadInfo, &[], 0, 0)),
        ("how is the core", method(slot::SCHED_CONTROL, Method::SchedControlInfo, &[], 0, 0)),
        ("wait", Step::Wait),
    ];
    sim.settle();
    (sim, steps)
}

#[test]
fn every_four_messages_are_as_specified() {
    let (sim, steps) = messages(1);
    search("messages on one core", sim, steps, 4);
}

#[test]
fn every_three_messages_between_two_cores_are_as_specified() {
    let (sim, steps) = messages(2);
    search("messages on two cores", sim, steps, 3);
}

#[test]
fn every_three_calls_on_capabilities_are_as_specified() {
    let (sim, steps) = capabilities();
    search("capabilities", sim, steps, 3);
}

#[test]
fn every_four_calls_on_memory_are_as_specified() {
    let (sim, steps) = memory();
    search("memory", sim, steps, 4);
}

#[test]
fn every_three_calls_on_large_pages_are_as_specified() {
    let (sim, steps) = large_pages();
    search("large pages", sim, steps, 3);
}

/// A server without CPU time of its own, another one behind it, and a context with a small budget.
fn lending() -> (Sim, Steps) {
    use SystemCall::{Call, Recv, ReplyRecv, Send};
    let mut sim = machine(2);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let badged = sim.mint(endpoint, 5);
    let behind = sim.make(Kind::Endpoint, 0);
    let reply = sim.make_from(slot::UNTYPED, Kind::Reply, 0, 2);
    let faults = sim.make(Kind::Endpoint, 0);
    let spare = sim.make_context(1);
    let far = thread(&mut sim, 1);
    let server = sim.new_thread(0, 110);
    let second = sim.new_thread(1, 110);
    sim.ok(server.slot, Method::ThreadSetFaultEndpoint, &[], faults);
    sim.limit(1, far.context, 20_000, 100_000, true);
    sim.settle();
    // Both servers wait for calls, and then have no time.
    for (program, at, reply) in [(server, endpoint, reply), (second, behind, reply + 1)] {
        sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
        sim.settle();
        sim.run(program, Recv, at, &Message::new(0).reply(reply));
        sim.ok(program.slot, Method::ThreadSetContext, &[], 0);
    }
    let message = |label: u64| Message::new(label);
    let set = |program: Program, context: u32| method(program.slot, Method::ThreadSetContext, &[], context, 0);
    let limit = |budget: u64, context: u32| {
        method(slot::SCHED_CONTROL + 1, Method::SchedControlLimit, &[budget, 5 * budget, 0], context, 0)
    };
    let own = |name: Method, at: u32| method(slot::CAP_TABLE, name, &[at.into()], 0, 0);
    let steps = vec![
        ("call the server", call(Call, badged, message(1))),
        ("send to the server", call(Send, endpoint, message(2))),
        ("call the one behind", call(Call, behind, message(3))),
        ("answer and receive", call(ReplyRecv, endpoint, message(0).reply(reply))),
        ("there: call the server", Step::Call(1, Call, badged, message(4))),
        ("there: call the one behind", Step::Call(1, Call, behind, message(5))),
        ("there: answer and receive", Step::Call(1, ReplyRecv, endpoint, message(0).reply(reply))),
        ("there: answer and receive behind", Step::Call(1, ReplyRecv, behind, message(0).reply(reply + 1))),
        ("the server gets time", set(server, spare)),
        ("the server loses it", set(server, 0)),
        ("the far one gets other time", set(far, spare)),
        ("limit the far one", limit(10_000, far.context)),
        ("no limit for the far one", limit(0, far.context)),
        ("limit the spare", limit(20_000, spare)),
        ("how is the far one's time", method(far.context, Method::SchedContextInfo, &[], 0, 0)),
        ("delete the far one's time", own(Method::CapTableRevoke, far.context)),
        ("suspend the far one", method(far.slot, Method::ThreadSuspend, &[], 0, 0)),
        ("resume the far one", method(far.slot, Method::ThreadResume, &[], 0, 0)),
        ("delete the server", own(Method::CapTableDelete, server.slot)),
        ("call off that badge", own(Method::CapTableCancel, badged)),
        ("who ran out of time", call(Recv, faults, message(0).deadline(POLL))),
        ("15 us pass", Step::Pass(15_000)),
        ("wait", Step::Wait),
    ];
    (sim, steps)
}

#[test]
fn every_three_calls_on_borrowed_time_are_as_specified() {
    let (sim, steps) = lending();
    search("borrowed time", sim, steps, 3);
}

#[test]
fn every_three_turns_and_interrupts_are_as_specified() {
    let (sim, steps) = time();
    search("time", sim, steps, 3);
}
