//! Threads: start, stop, priorities, turns, cores, deadlines, interrupts, counters.

use anos_abi::boot::slot;
use anos_abi::fault::FaultKind;
use anos_abi::object::{Method, ThreadState};
use anos_abi::syscall::POLL;
use anos_abi::{Error, Kind, SystemCall};
use anos_machine::{CoreId, Event, Next, Reset};
use anos_sim::{Config, Message, Payload, Program, Sim, core_id};

const BOOT: CoreId = CoreId::BOOT;
const TURN: u64 = anos_core::bounds::TURN_NS;

fn message() -> Message {
    Message::new(0)
}

fn runs(sim: &Sim, core: u64, program: Program) -> bool {
    sim.thread(core_id(core)) == Some(program.thread)
}

#[test]
fn a_thread_starts_with_its_arguments_and_nothing_else() {
    let mut sim = Sim::boot(2);
    let program = sim.new_thread(1, 7);
    sim.ok(program.slot, Method::ThreadStart, &[0x40_0010, 0x3f_0000_0000, 0x1234, 5, 6], 0);
    sim.settle();
    let registers = sim.board.processors[1].registers;
    assert_eq!((registers.pc, registers.sp, registers.tp), (0x40_0010, 0x3f_0000_0000, 0x1234));
    assert_eq!(registers.words, [5, 6, 0, 0, 0, 0, 0, 0]);
    let roles = [registers.operation, registers.label, registers.slots, registers.reply, registers.deadline];
    assert_eq!((roles, registers.other), ([0; 5], [0; 24]));
    let info = sim.ok(program.slot, Method::ThreadInfo, &[], 0);
    assert_eq!((info[0], info[1], info[2], info[7]), (ThreadState::Ready as u64, 7, 1, 7));
}

#[test]
fn starting_refuses_addresses_in_the_kernels_half_and_threads_that_lack_something() {
    let mut sim = Sim::boot(1);
    let program = sim.new_thread(0, 1);
    let end = 1 << 38;
    for words in [[end, 0, 0], [u64::MAX, 0, 0], [0x40_0000, end + 1, 0], [0x40_0000, 0, end], [1 << 63, 1 << 63, 0]] {
        let answer = sim.call(BOOT, program.slot, Method::ThreadStart, &words, 0, 0);
        assert_eq!(answer.result(), Err(Error::InvalidArgument), "{words:x?}");
    }
    sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, end, 0], 0);
    for method in [Method::ThreadStart, Method::ThreadResume] {
        assert_eq!(sim.call(BOOT, program.slot, method, &[], 0, 0).result(), Err(Error::Busy));
    }
    let space = sim.call(BOOT, program.slot, Method::ThreadSetSpace, &[], slot::ADDRESS_SPACE, 0);
    assert_eq!(space.result(), Err(Error::Busy), "not while it runs");
    let bare = sim.make(Kind::Thread, 0);
    for method in [Method::ThreadStart, Method::ThreadResume] {
        assert_eq!(sim.call(BOOT, bare, method, &[], 0, 0).result(), Err(Error::NotRunnable));
    }
    sim.ok(bare, Method::ThreadSetTable, &[], slot::CAP_TABLE);
    assert_eq!(sim.call(BOOT, bare, Method::ThreadStart, &[], 0, 0).result(), Err(Error::NotRunnable));
    sim.ok(bare, Method::ThreadSetSpace, &[], slot::ADDRESS_SPACE);
    assert_eq!(sim.call(BOOT, bare, Method::ThreadStart, &[], 0, 0).result(), Err(Error::NotRunnable));
    let context = sim.make_context(0);
    sim.ok(bare, Method::ThreadSetContext, &[], context);
    sim.ok(bare, Method::ThreadStart, &[], 0);
}

#[test]
fn the_most_urgent_thread_runs() {
    let mut sim = Sim::boot(1);
    let low = sim.spawn(0, 10);
    let high = sim.spawn(0, 20);
    assert!(!runs(&sim, 0, low) && !runs(&sim, 0, high), "the root server is more urgent than both");
    let notification = sim.make(Kind::Notification, 0);
    let badged = sim.mint(notification, 1);
    sim.system_call(BOOT, SystemCall::Recv, notification, &message());
    assert!(runs(&sim, 0, high));
    sim.system_call(BOOT, SystemCall::Recv, notification, &message());
    assert!(runs(&sim, 0, low));
    // A signal goes to who waited first; being more urgent, it runs at once.
    sim.system_call(BOOT, SystemCall::Send, badged, &message());
    assert_eq!(sim.thread(BOOT), Some(sim.root().thread));
    sim.check();
}

#[test]
fn raising_and_lowering_priorities_takes_effect_at_once_on_every_core() {
    let mut sim = Sim::boot(2);
    let one = sim.spawn(1, 10);
    let two = sim.spawn(1, 20);
    assert!(runs(&sim, 1, two));
    sim.ok(one.slot, Method::ThreadSetPriority, &[30, 30], 0);
    assert!(runs(&sim, 1, one));
    sim.ok(one.slot, Method::ThreadSetPriority, &[5, 30], 0);
    assert!(runs(&sim, 1, two));
    // Nobody gives more than its own ceiling.
    let answer = sim.call(two.core, one.slot, Method::ThreadSetPriority, &[21, 20], 0, 0);
    assert_eq!(answer.result(), Err(Error::MissingRights));
    let answer = sim.call(two.core, one.slot, Method::ThreadSetPriority, &[20, 21], 0, 0);
    assert_eq!(answer.result(), Err(Error::MissingRights));
    for words in [[256, 0], [0, 256], [u64::MAX, 0]] {
        let answer = sim.call(BOOT, one.slot, Method::ThreadSetPriority, &words, 0, 0);
        assert_eq!(answer.result(), Err(Error::InvalidArgument));
    }
    // A thread may lower itself below another that is ready.
    sim.run(two, SystemCall::Call, two.slot, &Message::new(Method::ThreadSetPriority.label()).words(&[1, 1]));
    assert!(runs(&sim, 1, one));
}

#[test]
fn threads_of_one_priority_take_turns() {
    let mut sim = Sim::boot(2);
    let programs = [sim.spawn(1, 10), sim.spawn(1, 10), sim.spawn(1, 10)];
    let mut order = Vec::new();
    for _ in 0..6 {
        order.push(programs.iter().position(|&program| runs(&sim, 1, program)).expect("one runs"));
        sim.pass(TURN);
        sim.check();
    }
    assert_eq!(order[..3], order[3..]);
    let mut sorted = order[..3].to_vec();
    sorted.sort();
    assert_eq!(sorted, [0, 1, 2], "{order:?}");
    // A thread whose turn isn't over goes on after a more urgent one.
    let running = programs.into_iter().find(|&program| runs(&sim, 1, program)).expect("one runs");
    let urgent = sim.spawn(1, 50);
    assert!(runs(&sim, 1, urgent));
    sim.ok(urgent.slot, Method::ThreadSuspend, &[], 0);
    assert!(runs(&sim, 1, running));
}

#[test]
fn yield_lets_the_next_of_the_same_priority_run() {
    let mut sim = Sim::boot(2);
    let one = sim.spawn(1, 10);
    let two = sim.spawn(1, 10);
    sim.spawn(1, 9);
    assert!(runs(&sim, 1, one));
    for program in [one, two, one, two] {
        assert!(runs(&sim, 1, program));
        sim.run(program, SystemCall::Yield, 0, &message());
        assert_eq!(sim.answer_of(program).status.result(), Ok(()));
    }
    sim.ok(two.slot, Method::ThreadSuspend, &[], 0);
    sim.run(one, SystemCall::Yield, 0, &message());
    assert!(runs(&sim, 1, one), "nobody else is as urgent");
}

#[test]
fn an_idle_machine_sets_no_timer_and_a_lone_thread_neither() {
    let mut sim = Sim::boot(2);
    assert!(sim.board.processors.iter().all(|processor| processor.timer == u64::MAX));
    sim.spawn(1, 10);
    assert!(sim.board.processors.iter().all(|processor| processor.timer == u64::MAX));
    sim.spawn(1, 10);
    assert_ne!(sim.board.processors[1].timer, u64::MAX, "now there is somebody to take turns with");
}

#[test]
fn a_suspended_thread_goes_on_where_it_was() {
    let mut sim = Sim::boot(2);
    let program = sim.spawn(1, 10);
    sim.board.processors[1].registers.other[7] = 77;
    let before = sim.board.processors[1].registers;
    sim.ok(program.slot, Method::ThreadSuspend, &[], 0);
    assert_eq!((sim.thread(program.core), sim.state(program)), (None, ThreadState::Stopped));
    sim.ok(program.slot, Method::ThreadSuspend, &[], 0);
    sim.ok(program.slot, Method::ThreadResume, &[], 0);
    let after = sim.board.processors[1].registers;
    assert_eq!((after.pc, after.other, after.words), (before.pc, before.other, before.words));
}

#[test]
fn a_call_that_a_stop_or_a_move_came_before_is_made_afterwards() {
    for moves in [false, true] {
        let mut sim = Sim::boot(3);
        let program = sim.spawn(1, 10);
        let context = sim.make_context(2);
        let before = sim.board.processors[1].registers.pc;
        let write = Message::new(Method::DebugWrite.label()).words(&[2, 0x6b6f]);
        sim.trap_system_call(program.core, SystemCall::Call, slot::DEBUG, &write);
        let called = sim.board.processors[1].registers;
        let (method, pass) = if moves { (Method::ThreadSetContext, context) } else { (Method::ThreadSuspend, 0) };
        sim.call(BOOT, program.slot, method, &[], pass, 0).result().expect("stopped or moved");
        sim.check();
        sim.settle();
        if !moves {
            sim.ok(program.slot, Method::ThreadResume, &[], 0);
        }
        assert!(sim.board.console.is_empty(), "the call has not happened");
        let core = if moves { 2 } else { 1 };
        let after = sim.board.processors[core].registers;
        assert_eq!((after.pc, after.words, after.operation), (before, called.words, called.operation));
        sim.system_call(core_id(core as u64), SystemCall::Call, slot::DEBUG, &write);
        assert_eq!(sim.board.console, b"ok");
    }
}

#[test]
fn a_thread_can_stop_and_end_itself() {
    let mut sim = Sim::boot(2);
    let program = sim.spawn(1, 10);
    sim.run(program, SystemCall::Call, program.slot, &Message::new(Method::ThreadSuspend.label()));
    assert_eq!((sim.state(program), sim.thread(program.core)), (ThreadState::Stopped, None));
    sim.ok(program.slot, Method::ThreadResume, &[], 0);
    assert_eq!(sim.answer_of(program).result(), Ok([0; 8]));
    let delete = Message::new(Method::CapTableDelete.label()).words(&[program.slot.into()]);
    sim.run(program, SystemCall::Call, slot::CAP_TABLE, &delete);
    assert_eq!(sim.thread(program.core), None);
    assert!(sim.look(program.slot).is_empty());
}

#[test]
fn a_thread_moves_between_cores_in_every_state() {
    let mut sim = Sim::boot(3);
    let program = sim.spawn(1, 10);
    for core in [2, 0, 1] {
        sim.move_to(program, core);
        assert_eq!(sim.ok(program.slot, Method::ThreadInfo, &[], 0)[2], core);
        sim.check();
    }
    assert!(runs(&sim, 1, program));
    // Waiting with a deadline: the new core wakes it.
    let notification = sim.make(Kind::Notification, 0);
    sim.run(program, SystemCall::Recv, notification, &message().deadline(5000));
    sim.move_to(program, 2);
    sim.pass(5000);
    assert!(runs(&sim, 2, program));
    assert_eq!(sim.answer_of(program).status.result(), Err(Error::TimedOut));
    let answer = sim.call(BOOT, program.slot, Method::ThreadSetContext, &[], slot::DEBUG, 0);
    assert_eq!(answer.result(), Err(Error::WrongKind));
    // A thread moves itself.
    let context = sim.make_context(1);
    sim.run(
        Program { core: core_id(2), ..program },
        SystemCall::Call,
        program.slot,
        &Message::new(Method::ThreadSetContext.label()).pass(context),
    );
    assert!(runs(&sim, 1, program));
    assert_eq!(sim.answer_of(program).result(), Ok([0; 8]));
}

#[test]
fn a_wait_ends_at_its_deadline_and_not_before() {
    let mut sim = Sim::boot(2);
    let notification = sim.make(Kind::Notification, 0);
    for deadline in [1, 2, 3, 1000, 1 << 20, (1 << 40) + 12345] {
        let program = sim.spawn(1, 10);
        let deadline = sim.board.clock + deadline;
        sim.run(program, SystemCall::Recv, notification, &message().deadline(deadline));
        assert_eq!(sim.state(program), ThreadState::Receiving);
        let left = deadline - 1 - sim.board.clock;
        sim.pass(left);
        sim.check();
        assert_eq!(sim.state(program), ThreadState::Receiving, "{deadline}");
        sim.pass(1);
        sim.check();
        assert_eq!(sim.state(program), ThreadState::Ready, "{deadline}");
        assert_eq!(sim.answer_of(program).status.result(), Err(Error::TimedOut));
        sim.delete(program.slot);
    }
}

#[test]
fn many_deadlines_on_one_core_end_in_order_and_none_is_lost() {
    let mut sim = Sim::boot(2);
    let notification = sim.make(Kind::Notification, 0);
    let mut waits = Vec::new();
    for number in 0_u64..60 {
        let program = sim.spawn(1, 10);
        let deadline = 1000 + (number * 7919) % 1009 * 1000 / 97;
        sim.run(program, SystemCall::Recv, notification, &message().deadline(deadline));
        waits.push((deadline, program));
    }
    let end = waits.iter().map(|&(deadline, _)| deadline).max().expect("many");
    while sim.board.clock < end {
        sim.pass(37);
        sim.check();
        for &(deadline, program) in &waits {
            let due = deadline <= sim.board.clock;
            assert_eq!(sim.state(program) == ThreadState::Ready, due, "{deadline} at {}", sim.board.clock);
        }
    }
}

#[test]
fn the_deadline_of_a_call_bounds_the_wait_for_the_answer_too() {
    let mut sim = Sim::boot(3);
    let (server, client) = (sim.spawn(1, 10), sim.spawn(2, 10));
    let endpoint = sim.make(Kind::Endpoint, 0);
    let reply = sim.make(Kind::Reply, 0);
    sim.run(client, SystemCall::Call, endpoint, &message().deadline(9000));
    sim.run(server, SystemCall::Recv, endpoint, &message().reply(reply));
    assert_eq!(sim.state(client), ThreadState::Calling);
    sim.pass(9000);
    assert_eq!(sim.answer_of(client).status.result(), Err(Error::TimedOut));
    sim.run(server, SystemCall::Send, reply, &message());
    assert_eq!(sim.answer_of(server).status.result(), Err(Error::PeerDied));
}

#[test]
fn an_interrupt_signals_its_notification_and_waits_for_the_driver() {
    for level in [0, 1] {
        let mut sim = Sim::boot(2);
        let driver = sim.spawn(1, 10);
        let line = sim.slot();
        let get = [3, level, 0];
        let answer = sim.call(BOOT, slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &get, 0, line);
        assert!(answer.result().is_ok() && answer.status.has_capability());
        let notification = sim.make(Kind::Notification, 0);
        let badged = sim.mint(notification, 0x10);
        assert!(!sim.board.lines[3].unmasked, "masked until it is bound");
        sim.ok(line, Method::InterruptBind, &[], badged);
        sim.run(driver, SystemCall::Recv, notification, &message());
        for _ in 0..3 {
            sim.raise(3);
            sim.settle();
            sim.check();
            assert_eq!((sim.state(driver), sim.answer_of(driver).badge), (ThreadState::Ready, 0x10));
            assert_eq!(sim.board.lines[3].unmasked, level == 0, "a level-triggered line stays masked");
            sim.lower(3);
            sim.run(driver, SystemCall::Call, line, &Message::new(Method::InterruptAck.label()));
            assert!(sim.board.lines[3].unmasked);
            sim.run(driver, SystemCall::Recv, notification, &message());
        }
        sim.ok(line, Method::InterruptUnbind, &[], 0);
        sim.raise(3);
        sim.settle();
        assert_eq!(sim.state(driver), ThreadState::Receiving);
        let ack = sim.call(BOOT, line, Method::InterruptAck, &[], 0, 0);
        assert_eq!(ack.result(), Err(Error::NotMapped));
    }
}

#[test]
fn a_line_has_one_owner_and_the_next_owner_starts_afresh() {
    let mut sim = Sim::boot(1);
    let get = |sim: &mut Sim, line: u64, to: u32| {
        sim.call(BOOT, slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &[line, 1], 0, to).result().map(|_| ())
    };
    for line in [0, 17, 256, u64::MAX] {
        let to = sim.slot();
        assert_eq!(get(&mut sim, line, to), Err(Error::InvalidArgument), "{line}");
    }
    let first = sim.slot();
    assert_eq!(get(&mut sim, 5, first), Ok(()));
    let second = sim.slot();
    assert_eq!(get(&mut sim, 5, second), Err(Error::Busy));
    let notification = sim.make(Kind::Notification, 0);
    let old = sim.mint(notification, 1);
    sim.ok(first, Method::InterruptBind, &[], old);
    assert_eq!(sim.call(BOOT, first, Method::InterruptBind, &[], old, 0).result(), Err(Error::Busy));
    // The driver dies, its Notification does not: the next one must neither be refused nor signal the old one.
    sim.delete(first);
    assert!(!sim.board.lines[5].unmasked);
    sim.delete(old);
    sim.check();
    assert_eq!(get(&mut sim, 5, second), Ok(()));
    sim.check();
    let new = sim.mint(notification, 2);
    sim.ok(second, Method::InterruptBind, &[], new);
    sim.raise(5);
    sim.enter(BOOT, Event::Interrupt(5));
    sim.system_call(BOOT, SystemCall::Recv, notification, &message().deadline(POLL));
    assert_eq!(sim.answer(sim.root().thread).badge, 2);
}

#[test]
fn a_notification_that_is_revoked_leaves_its_line_masked_at_the_next_interrupt() {
    let mut sim = Sim::boot(1);
    let line = sim.slot();
    sim.call(BOOT, slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &[5, 0], 0, line).result().expect("a line");
    let notification = sim.make(Kind::Notification, 0);
    let unbadged = sim.call(BOOT, line, Method::InterruptBind, &[], notification, 0);
    assert_eq!(unbadged.result(), Err(Error::InvalidArgument), "it would signal nothing");
    let badged = sim.mint(notification, 1);
    sim.ok(line, Method::InterruptBind, &[], badged);
    sim.revoke(notification);
    sim.delete(notification);
    sim.raise(5);
    sim.settle();
    assert!(!sim.board.lines[5].unmasked);
    sim.check();
}

#[test]
fn stray_events_do_no_harm() {
    let mut sim = Sim::boot(3);
    sim.spawn(1, 10);
    for core in 0..3 {
        for event in [Event::Timer, Event::Kick, Event::Timer, Event::Start] {
            sim.enter(core_id(core), event);
            sim.check();
        }
    }
    for line in 1..16 {
        sim.enter(BOOT, Event::Interrupt(line));
        sim.check();
    }
    assert!(matches!(sim.last[0], Next::Run(_)) && sim.last[2] == Next::Idle);
}

#[test]
fn ports_are_used_within_the_range_of_the_capability() {
    let mut sim = Sim::boot(1);
    let range = sim.slot();
    let get = |sim: &mut Sim, words: &[u64], to| {
        sim.call(BOOT, slot::IO_PORT_CONTROL, Method::IoPortControlGet, words, 0, to).result().map(|_| ())
    };
    for words in [[5, 4], [0, 1 << 16], [u64::MAX, u64::MAX]] {
        assert_eq!(get(&mut sim, &words, range), Err(Error::InvalidArgument));
    }
    assert_eq!(get(&mut sim, &[0x3f8, 0x3ff], range), Ok(()));
    sim.ok(range, Method::IoPortOut, &[0x3f8, 4, 0xdead_beef], 0);
    assert_eq!(sim.ok(range, Method::IoPortIn, &[0x3f8, 4], 0)[0], 0xdead_beef);
    sim.ok(range, Method::IoPortIn, &[0x3ff, 1], 0);
    for words in [[0x3f7, 1], [0x400, 1], [0x3ff, 2], [0x3fd, 4], [0x3f8, 3], [0x3f8, 0], [0x3f8, 8], [u64::MAX, 1]] {
        for method in [Method::IoPortIn, Method::IoPortOut] {
            let answer = sim.call(BOOT, range, method, &words, 0, 0);
            assert_eq!(answer.result(), Err(Error::InvalidArgument), "{words:x?}");
        }
    }
    let answer = sim.call(BOOT, range, Method::IoPortOut, &[0x3f8, 4, 1 << 32], 0, 0);
    assert_eq!(answer.result(), Err(Error::InvalidArgument));
}

#[test]
fn the_console_prints_what_it_is_told_and_power_goes_as_asked() {
    let mut sim = Sim::boot(1);
    let word = |text: &[u8; 8]| u64::from_le_bytes(*text);
    sim.ok(slot::DEBUG, Method::DebugWrite, &[13, word(b"hello, w"), word(b"orld\n!!!")], 0);
    assert_eq!(sim.board.console, b"hello, world\n");
    let answer = sim.call(BOOT, slot::DEBUG, Method::DebugWrite, &[17], 0, 0);
    assert_eq!(answer.result(), Err(Error::InvalidArgument));
    for (word, reset) in [(0, Reset::PowerOff), (1, Reset::Reboot)] {
        sim.call(BOOT, slot::DEBUG, Method::DebugReset, &[word], 0, 0);
        assert_eq!(sim.board.reset, Some(reset));
    }
}

#[test]
fn cpu_time_goes_to_who_used_it() {
    let mut sim = Sim::boot(2);
    let busy = sim.spawn(1, 10);
    let other = sim.spawn(1, 9);
    sim.pass(1_000_000);
    let info = sim.ok(busy.slot, Method::ThreadInfo, &[], 0);
    assert_eq!(info[3], 1_000_000, "also while it runs");
    assert_eq!(sim.ok(other.slot, Method::ThreadInfo, &[], 0)[3], 0);
    sim.ok(busy.slot, Method::ThreadSuspend, &[], 0);
    sim.pass(500);
    assert_eq!(sim.ok(busy.slot, Method::ThreadInfo, &[], 0)[3], 1_000_000);
    assert_eq!(sim.ok(other.slot, Method::ThreadInfo, &[], 0)[3], 500);
    sim.ok(other.slot, Method::ThreadSuspend, &[], 0);
    sim.pass(70);
    let info = sim.ok(slot::SCHED_CONTROL + 1, Method::SchedControlInfo, &[], 0);
    assert_eq!((info[0], info[1], info[2]), (1, 70, 0));
}

#[test]
fn a_core_tells_how_many_threads_wait_for_it() {
    let mut sim = Sim::boot(2);
    let programs = [10, 9, 9, 9, 3].map(|priority| sim.spawn(1, priority));
    let ready = |sim: &mut Sim| sim.ok(slot::SCHED_CONTROL + 1, Method::SchedControlInfo, &[], 0)[2];
    assert_eq!(ready(&mut sim), 4, "the one that runs doesn't wait");
    sim.ok(programs[2].slot, Method::ThreadSuspend, &[], 0);
    assert_eq!(ready(&mut sim), 3);
    sim.ok(programs[0].slot, Method::ThreadSetPriority, &[1, 1], 0);
    assert_eq!(ready(&mut sim), 3);
}

#[test]
fn an_interrupt_that_is_deleted_keeps_no_notification_alive() {
    let mut sim = Sim::boot(2);
    let waiter = sim.spawn(1, 10);
    let line = sim.slot();
    sim.call(BOOT, slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &[5, 0], 0, line).result().expect("a line");
    let notification = sim.make(Kind::Notification, 0);
    let badged = sim.mint(notification, 1);
    sim.ok(line, Method::InterruptBind, &[], badged);
    sim.run(waiter, SystemCall::Recv, notification, &message());
    sim.delete(line);
    sim.delete(badged);
    sim.delete(notification);
    assert_eq!(sim.answer_of(waiter).status.result(), Err(Error::Cancelled), "nobody can signal it any more");
}

#[test]
fn a_signal_without_bits_is_none() {
    let mut sim = Sim::boot(2);
    let waiter = sim.spawn(1, 10);
    let notification = sim.make(Kind::Notification, 0);
    sim.run(waiter, SystemCall::Recv, notification, &message());
    sim.system_call(BOOT, SystemCall::Send, notification, &message());
    sim.settle();
    assert_eq!(sim.state(waiter), ThreadState::Receiving);
}

#[test]
fn a_thread_started_again_has_none_of_its_old_floating_point_registers() {
    let mut sim = Sim::boot(2);
    let program = sim.spawn(1, 10);
    sim.ok(program.slot, Method::ThreadSuspend, &[], 0);
    sim.with_store(|store| store.get(program.thread).expect("a thread").machine = [7; 4]);
    sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    assert!(sim.with_store(|store| store.get(program.thread).expect("a thread").machine == [0; 4]));
}

#[test]
fn counters_count() {
    let config = Config { pages: 500, ..Config::cores(2) };
    let mut sim = Sim::boot_with(config, &Payload::default().bytes(), 1).expect("boots");
    let before = sim.ok(slot::DEBUG, Method::DebugCounters, &[0], 0);
    let program = sim.spawn(1, 10);
    sim.fault(program.core, FaultKind::Alignment);
    sim.enter(BOOT, Event::Timer);
    let calls = sim.system_calls;
    let after = sim.ok(slot::DEBUG, Method::DebugCounters, &[0], 0);
    let other = sim.ok(slot::DEBUG, Method::DebugCounters, &[1], 0);
    assert_eq!((after[0], after[1] - before[1], after[2], other[2]), (calls, 1, 0, 1));
    assert!(other[3] > 0 && after[4] > before[4]);
    assert!(
        after[6] > after[0] && after[7] == 0 && other[6] > 0,
        "one host thread plays all cores: no lock is waited for"
    );
    let answer = sim.call(BOOT, slot::DEBUG, Method::DebugCounters, &[2], 0, 0);
    assert_eq!(answer.result(), Err(Error::InvalidArgument));
}
