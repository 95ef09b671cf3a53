//! Programs of another system: their system calls come as messages, and what they may use is up to their keeper.

use core::sync::atomic::Ordering;

use anos::abi::fault::{self, FaultKind};
use anos::abi::object::{Method, ThreadFlags, ThreadState};
use anos::abi::syscall::POLL;
use anos::abi::{Operation, SystemCall};
use anos::capability::{Capability, Endpoint, Notification, Reply, StartState, Thread, invoke};
use anos::sys::Received;
use anos::{Error, Message, Rights, env};

use super::cases;
use crate::arch::{self, Registers};
use crate::case::{Case, PATIENCE_MS, SPACE, TABLE, Window, count, counters, in_ms, shared, shared_value, to_usize};
use crate::check::{Failure, Outcome, check, equal};
use crate::hands::{Event, Order};
use crate::helper::{HIGH, LOW};

cases![
    a_foreign_system_call_is_a_message,
    a_foreign_system_call_changes_the_result_alone,
    a_foreign_thread_can_call_nobody,
    a_thousand_foreign_calls_on_another_core,
    another_label_stops_the_caller,
    a_foreign_call_without_a_handler_stops_the_caller,
    a_foreign_call_waits_for_its_handler,
    a_suspended_foreign_call_is_made_again,
    a_foreign_thread_s_faults_are_faults,
    the_keeper_changes_registers_in_a_foreign_call,
    unknown_flags_are_refused,
    flags_are_for_stopped_threads,
    flags_take_the_right_to_write,
    a_foreign_thread_can_become_native,
    without_floating_point_its_instructions_are_illegal,
    floating_point_can_be_allowed_later,
];

/// Badge of the program's messages.
const BADGE: u64 = 0x1234;

/// A program of another system, and its keeper's side.
#[derive(Clone, Copy)]
struct Foreign {
    thread: Thread,
    endpoint: Endpoint,
    reply: Reply,
    registers: Window,
}

/// A foreign system call, as its message tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ForeignCall {
    number: u64,
    arguments: [u64; 6],
    program_counter: u64,
}

/// A program that is to be started, with something else in each register.
fn foreign(case: &mut Case, on: u64) -> Outcome<Foreign> {
    let (endpoint, reply, thread): (Endpoint, Reply, Thread) = (case.make()?, case.make()?, case.make()?);
    let registers = case.window(1)?;
    (0..).zip(pattern()).for_each(|(word, value)| registers.write(word, value));
    thread.set_table(TABLE)?;
    thread.set_space(SPACE)?;
    let badged = case.mint(endpoint, Rights::ALL, BADGE)?;
    thread.set_fault_endpoint(Some(badged))?;
    case.move_to(thread, on)?;
    thread.set_priority(HIGH, HIGH)?;
    thread.set_flags(ThreadFlags(ThreadFlags::FOREIGN))?;
    Ok(Foreign { thread, endpoint, reply, registers })
}

/// What the program's registers hold at first.
fn pattern() -> Registers {
    core::array::from_fn(|n| 0xf0e1_d2c3_0000_0000 + (n as u64 + 1) * 0x101)
}

impl Foreign {
    fn start(self) -> Result<(), Error> {
        self.thread.start(&StartState {
            program_counter: arch::foreign_program as *const () as u64,
            stack_pointer: self.registers.address,
            ..StartState::default()
        })
    }

    /// The message that comes.
    fn message(self) -> Outcome<Message> {
        let Received { badge, message, status } = self.endpoint.recv(Some(self.reply), None, in_ms(PATIENCE_MS))?;
        check!(status.is_answerable() && badge == BADGE, "{status:?} with badge {badge:#x}");
        Ok(message)
    }

    /// The system call that comes.
    #[track_caller]
    fn call(self) -> Outcome<ForeignCall> {
        let message = self.message()?;
        if message.label != fault::SYSTEM_CALL_LABEL {
            return Err(Failure::new(format_args!("label {:#x}: {:x?}", message.label, message.words)));
        }
        let [number, arguments @ .., program_counter] = message.words;
        Ok(ForeignCall { number, arguments, program_counter })
    }

    fn answer(self, result: u64) -> Result<(), Error> {
        self.reply.send(&Message::new(0, &[result]), None)
    }

    fn state(self) -> Result<ThreadState, Error> {
        Ok(self.thread.info()?.state)
    }
}

/// What is expected of a program whose registers hold this.
fn call_with(registers: &Registers, program_counter: u64) -> ForeignCall {
    ForeignCall {
        number: registers[arch::FOREIGN_NUMBER],
        arguments: arch::FOREIGN_ARGUMENTS.map(|position| registers[position]),
        program_counter,
    }
}

fn a_foreign_system_call_is_a_message(case: &mut Case) -> Outcome {
    let program = foreign(case, 0)?;
    program.start()?;
    let call = program.call()?;
    equal!(call, call_with(&pattern(), call.program_counter));
    equal!((program.state()?, program.thread.info()?.program_counter), (ThreadState::Faulted, call.program_counter));
    // The instruction is right in front of where it goes on.
    for (code, back) in arch::SYSTEM_CALL_CODE.iter().rev().zip(1..) {
        let place = core::ptr::with_exposed_provenance::<u8>(to_usize(call.program_counter - back));
        // SAFETY: code of this program, which stays.
        let byte = unsafe { place.read_volatile() };
        check!(byte == *code, "{byte:#x} is {back} in front of where it goes on");
    }
    Ok(())
}

fn a_foreign_system_call_changes_the_result_alone(case: &mut Case) -> Outcome {
    let program = foreign(case, 0)?;
    program.start()?;
    let mut expected = pattern();
    for round in 1..=5 {
        program.call()?;
        let result = 0x7777_0000_0000_0000 + round;
        program.answer(result)?;
        // It has stored its registers by the next call.
        let call = program.call()?;
        expected[arch::FOREIGN_RESULT] = result;
        for (position, expected) in expected.iter().enumerate() {
            let found = program.registers.read(position as u64);
            let free = position != arch::FOREIGN_RESULT && arch::foreign_call_changes(position);
            check!(free || found == *expected, "register {position} is {found:#x}, expected {expected:#x}");
        }
        equal!(call, call_with(&expected, call.program_counter));
        expected[arch::FOREIGN_RESULT] = result + 1;
        program.answer(result + 1)?;
    }
    Ok(())
}

fn a_foreign_thread_can_call_nobody(case: &mut Case) -> Outcome {
    let program = foreign(case, 0)?;
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::ALL, 1)?;
    // What would be a signal, or no call at all, by this system's convention.
    let operations = [
        Operation::new(SystemCall::Send, bit.slot().number()).0,
        Operation::new(SystemCall::Call, TABLE.slot().number()).0,
        Operation::new(SystemCall::Yield, 0).0,
        u64::MAX,
    ];
    for operation in operations {
        program.registers.write(0, operation);
        program.start()?;
        let call = program.call()?;
        let mut registers = pattern();
        registers[0] = operation;
        equal!(call, call_with(&registers, call.program_counter));
        program.reply.send(&Message::new(1, &[]), None)?;
    }
    equal!(original.wait(POLL), Err(Error::TimedOut));
    Ok(())
}

fn a_thousand_foreign_calls_on_another_core(case: &mut Case) -> Outcome {
    let program = foreign(case, env::cores() - 1)?;
    program.start()?;
    let before = counters()?.system_calls;
    for n in 0..1000 {
        let call = program.call()?;
        let expected = if n == 0 { pattern()[arch::FOREIGN_RESULT] } else { n - 1 };
        let found = if arch::FOREIGN_RESULT == arch::FOREIGN_NUMBER { call.number } else { call.arguments[0] };
        check!(found == expected, "call {n}: {found:#x}, expected {expected:#x}");
        program.answer(n)?;
    }
    check!(counters()?.system_calls - before >= 3000, "its calls are not counted");
    Ok(())
}

fn another_label_stops_the_caller(case: &mut Case) -> Outcome {
    let program = foreign(case, 0)?;
    program.start()?;
    for label in [1, Error::InvalidSystemCall as u64, u64::MAX] {
        program.call()?;
        program.reply.send(&Message::new(label, &[5]), None)?;
        equal!(program.state()?, ThreadState::Stopped);
        equal!(program.endpoint.recv(None, None, POLL).map(|_| ()), Err(Error::TimedOut));
        // It stands behind its call.
        program.thread.resume()?;
    }
    Ok(())
}

fn a_foreign_call_without_a_handler_stops_the_caller(case: &mut Case) -> Outcome {
    let program = foreign(case, 0)?;
    program.thread.set_fault_endpoint(None)?;
    program.start()?;
    equal!(program.state()?, ThreadState::Stopped);
    let program_counter = program.thread.info()?.program_counter;
    // Without its flag it would have been a call like any other. With a handler it goes on, with the next call.
    program.thread.set_fault_endpoint(Some(program.endpoint))?;
    program.thread.resume()?;
    let Received { message, .. } = program.endpoint.recv(Some(program.reply), None, in_ms(PATIENCE_MS))?;
    equal!((message.label, message.words[7]), (fault::SYSTEM_CALL_LABEL, program_counter));
    Ok(())
}

fn a_foreign_call_waits_for_its_handler(case: &mut Case) -> Outcome {
    let program = foreign(case, 0)?;
    program.start()?;
    equal!(program.state()?, ThreadState::Sending);
    let call = program.call()?;
    equal!(call, call_with(&pattern(), call.program_counter));
    program.answer(1)?;
    // A handler that can't answer leaves it stopped.
    equal!(program.endpoint.recv(None, None, in_ms(PATIENCE_MS))?.status.is_answerable(), false);
    equal!(program.state()?, ThreadState::Stopped);
    Ok(())
}

fn a_suspended_foreign_call_is_made_again(case: &mut Case) -> Outcome {
    let program = foreign(case, 0)?;
    program.start()?;
    let first = program.call()?;
    program.thread.suspend()?;
    equal!(program.answer(9), Err(Error::PeerDied));
    // The call has been made: who suspended it knows its registers, and where it would go on.
    equal!(program.thread.info()?.program_counter, first.program_counter);
    program.thread.resume()?;
    let next = program.call()?;
    equal!((next.program_counter, next.number), (first.program_counter, first.number));
    Ok(())
}

fn a_foreign_thread_s_faults_are_faults(case: &mut Case) -> Outcome {
    let program = foreign(case, 0)?;
    for address in [0, 0x1000] {
        program.thread.start(&StartState { program_counter: address, ..StartState::default() })?;
        let message = program.message()?;
        equal!((message.label, FaultKind::from_number(message.words[0])), (fault::LABEL, FaultKind::Execute));
        equal!(message.words[2], address);
        program.reply.send(&Message::new(1, &[]), None)?;
    }
    Ok(())
}

fn the_keeper_changes_registers_in_a_foreign_call(case: &mut Case) -> Outcome {
    /// Message word 6: of no use to a foreign call on either architecture.
    const WORD: u64 = 6;
    let program = foreign(case, 0)?;
    program.start()?;
    program.call()?;
    let found = program.thread.read_registers(0)?;
    equal!(found[to_usize(WORD)], pattern()[to_usize(WORD) + 5]);
    program.thread.write_registers(WORD, &[0xabcd])?;
    program.answer(3)?;
    program.call()?;
    equal!(program.registers.read(WORD + 5), 0xabcd);
    equal!(program.registers.read(arch::FOREIGN_RESULT as u64), 3);
    Ok(())
}

fn set_flags(thread: Thread, flags: u64) -> Result<(), Error> {
    invoke(thread.slot(), Method::ThreadSetFlags, &[flags], None, None).map(|_| ())
}

fn unknown_flags_are_refused(case: &mut Case) -> Outcome {
    let thread: Thread = case.make()?;
    for bit in 0..64 {
        let known = 1 << bit & ThreadFlags::ALL != 0;
        let expected = if known { Ok(()) } else { Err(Error::InvalidArgument) };
        check!(set_flags(thread, 1 << bit) == expected, "bit {bit}");
        check!(set_flags(thread, 1 << bit | ThreadFlags::ALL) == expected, "bit {bit} and all that are known");
    }
    Ok(())
}

fn flags_are_for_stopped_threads(case: &mut Case) -> Outcome {
    let program = foreign(case, 0)?;
    program.start()?;
    equal!(set_flags(program.thread, 0), Err(Error::Busy));
    program.call()?;
    equal!(set_flags(program.thread, 0), Err(Error::Busy));
    let helper = case.helper(0, LOW, |_| count(0), 0)?;
    equal!(set_flags(helper.thread, ThreadFlags::FOREIGN), Err(Error::Busy));
    case.join(helper)?;
    equal!(shared_value(0), 1);
    equal!(set_flags(crate::supervisor::WORKER, ThreadFlags::FOREIGN), Err(Error::Busy));
    Ok(())
}

fn flags_take_the_right_to_write(case: &mut Case) -> Outcome {
    let thread: Thread = case.make()?;
    let reader = case.copy(thread, Rights::READ)?;
    equal!(set_flags(reader, 0), Err(Error::MissingRights));
    equal!(set_flags(thread, ThreadFlags::FOREIGN), Ok(()));
    Ok(())
}

fn a_foreign_thread_can_become_native(case: &mut Case) -> Outcome {
    let helper = case.prepare(0, HIGH, |word| shared(word).store(7, Ordering::SeqCst), 3)?;
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    helper.thread.set_fault_endpoint(Some(endpoint))?;
    for flags in [ThreadFlags::FOREIGN, 0, ThreadFlags::FOREIGN, 0] {
        set_flags(helper.thread, flags)?;
        shared(3).store(0, Ordering::SeqCst);
        case.start(helper)?;
        equal!(shared_value(3), 7);
        if flags == 0 {
            equal!(helper.thread.info()?.state, ThreadState::Stopped);
            continue;
        }
        // Its signal that it is done is a message here, and nothing else.
        let received = endpoint.recv(Some(reply), None, POLL)?;
        equal!(received.message.label, fault::SYSTEM_CALL_LABEL);
        helper.thread.suspend()?;
    }
    check!(case.is_done(helper), "as a native it never said that it was done");
    Ok(())
}

fn without_floating_point_its_instructions_are_illegal(case: &mut Case) -> Outcome {
    let window = case.window(1)?;
    window.write(0, 1000);
    let hands = case.hands(0)?;
    equal!(hands.go(Order::Float, window.address, 5)?, Event::Done(1005));
    hands.thread.suspend()?;
    hands.thread.set_flags(ThreadFlags(ThreadFlags::NO_FPU))?;
    hands.start(0)?;
    // Whoever used the registers last.
    for _ in 0..3 {
        equal!(arch::hold_floats(0x1111, 1), 0);
        let fault = hands.fault(Order::Float, window.address)?;
        equal!(fault.kind, FaultKind::IllegalInstruction);
        hands.leave()?;
        hands.start(0)?;
        equal!(hands.read(window.address)?, Event::Done(1000));
    }
    Ok(())
}

fn floating_point_can_be_allowed_later(case: &mut Case) -> Outcome {
    let window = case.window(1)?;
    window.write(0, 1000);
    let hands = case.hands(env::cores() - 1)?;
    for _ in 0..3 {
        hands.thread.suspend()?;
        hands.thread.set_flags(ThreadFlags(ThreadFlags::NO_FPU))?;
        hands.start(0)?;
        equal!(hands.fault(Order::Float, window.address)?.kind, FaultKind::IllegalInstruction);
        hands.leave()?;
        hands.thread.set_flags(ThreadFlags(0))?;
        hands.start(0)?;
        equal!(hands.go(Order::Float, window.address, 6)?, Event::Done(1006));
    }
    Ok(())
}
