//! What is in the registers after a system call, and when a thread starts: its answer, and nothing else.

use core::sync::atomic::Ordering;

use anos::abi::object::Method;
use anos::abi::syscall::{FOREVER, POLL};
use anos::abi::{Operation, Slots, SystemCall};
use anos::capability::{Capability, Endpoint, Notification};
use anos::{Error, Kind, Message, Rights};

use super::cases;
use super::ipc::{at, number, words};
use crate::arch::{self, REGISTERS, Registers};
use crate::case::{Case, MEMORY, ROUNDS, TABLE, count, shared, shared_value};
use crate::check::{Outcome, check, equal};
use crate::helper::{HIGH, LOW};

cases![
    only_the_answer_is_left_after_a_kernel_call,
    only_the_answer_is_left_after_a_refusal,
    only_the_error_is_left_after_a_call_that_failed,
    nothing_is_left_after_a_yield,
    nothing_is_left_after_a_send,
    only_the_message_is_left_after_a_receive,
    only_the_message_is_left_after_a_wait,
    only_the_bits_are_left_after_a_signal,
    only_the_answer_is_left_after_a_call,
    only_the_error_is_left_after_a_deadline,
    a_thread_starts_with_its_arguments_and_zeros,
    integers_survive_other_threads_turns,
    integers_survive_a_move_to_another_core on 2,
    a_call_with_every_flag_set_is_like_any_other,
    unknown_system_calls_are_refused,
    stray_bits_in_the_operation_are_refused,
];

/// Positions in [`Registers`].
const OPERATION: usize = 0;
const LABEL: usize = 1;
const SLOTS: usize = 2;
const DEADLINE: usize = 4;
const WORDS: usize = 5;
const ROLES: usize = 13;

/// Makes a system call with rubbish in every register that has no role in it.
fn exchange(operation: u64, label: u64, slots: Slots, deadline: u64, words: [u64; 8]) -> Registers {
    let mut registers: Registers = core::array::from_fn(|n| 0xbad0_0000_0000_0000 + n as u64);
    registers[OPERATION] = operation;
    registers[LABEL] = label;
    registers[SLOTS] = slots.0;
    registers[SLOTS + 1] = 0;
    registers[DEADLINE] = deadline;
    registers[WORDS..WORDS + 8].copy_from_slice(&words);
    // SAFETY: the calls made here take no memory away.
    unsafe { arch::raw_system_call(&raw mut registers) };
    registers
}

/// What is expected: status, label, badge, words, and zeros.
fn answer(status: u64, label: u64, badge: u64, words: [u64; 8]) -> Registers {
    let mut registers = [0; REGISTERS];
    registers[OPERATION] = status;
    registers[LABEL] = label;
    registers[SLOTS] = badge;
    registers[WORDS..WORDS + 8].copy_from_slice(&words);
    registers
}

fn compare(found: &Registers, expected: &Registers) -> Outcome {
    let code = arch::raw_system_call as *const () as u64;
    for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
        let right = if n < ROLES { found == expected } else { arch::is_clean(n, *found, code) };
        check!(right, "register {n} is {found:#x}, expected {expected:#x}");
    }
    Ok(())
}

fn call(target: u32) -> u64 {
    Operation::new(SystemCall::Call, target).0
}

fn only_the_answer_is_left_after_a_kernel_call(_: &mut Case) -> Outcome {
    let found = exchange(
        call(TABLE.slot().number()),
        Method::CapTableLook.label(),
        Slots::NONE,
        FOREVER,
        [TABLE.slot().number().into(), 1, 2, 3, 4, 5, 6, 7],
    );
    compare(&found, &answer(0, 0, 0, [Kind::CapTable as u64, 15, 0, 4096, 0, 0, 0, 0]))
}

fn only_the_answer_is_left_after_a_refusal(_: &mut Case) -> Outcome {
    let found = exchange(call(TABLE.slot().number()), 0xffff, Slots::NONE, FOREVER, [9; 8]);
    compare(&found, &answer(0, Error::InvalidMethod as u64, 0, [0; 8]))
}

fn only_the_error_is_left_after_a_call_that_failed(case: &mut Case) -> Outcome {
    let empty = case.slot();
    let found = exchange(call(empty.number()), 1, Slots::NONE, FOREVER, [9; 8]);
    compare(&found, &answer(Error::EmptySlot as u64, 0, 0, [0; 8]))
}

fn nothing_is_left_after_a_yield(_: &mut Case) -> Outcome {
    let found = exchange(Operation::new(SystemCall::Yield, 0).0, 1, Slots::new(2, 3), 4, [9; 8]);
    compare(&found, &answer(0, 0, 0, [0; 8]))
}

fn nothing_is_left_after_a_send(case: &mut Case) -> Outcome {
    fn receive(endpoint: u64) {
        let _ = at::<Endpoint>(endpoint).recv(None, None, FOREVER);
    }
    let endpoint: Endpoint = case.make()?;
    let send = Operation::new(SystemCall::Send, endpoint.slot().number()).0;
    // To somebody who waits, and to somebody who comes later.
    for priority in [HIGH, LOW] {
        let helper = case.helper(0, priority, receive, number(endpoint))?;
        let found = exchange(send, 1, Slots::NONE, FOREVER, words(4));
        compare(&found, &answer(0, 0, 0, [0; 8]))?;
        case.join(helper)?;
    }
    Ok(())
}

/// A helper: sends label 6 and these words.
fn send_words(endpoint: u64) {
    let _ = at::<Endpoint>(endpoint).send(&Message { label: 6, words: words(5) }, None, FOREVER);
}

fn only_the_message_is_left_after_a_receive(case: &mut Case) -> Outcome {
    received(case, HIGH)
}

fn only_the_message_is_left_after_a_wait(case: &mut Case) -> Outcome {
    received(case, LOW)
}

/// What is left after a receive from a sender that waits (if it is urgent), or comes later.
fn received(case: &mut Case, priority: u8) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let badged = case.mint(endpoint, Rights::WRITE, 0x77)?;
    let helper = case.helper(0, priority, send_words, number(badged))?;
    let receive = Operation::new(SystemCall::Recv, endpoint.slot().number()).0;
    let found = exchange(receive, 3, Slots::NONE, FOREVER, [9; 8]);
    case.join(helper)?;
    compare(&found, &answer(0, 6, 0x77, words(5)))
}

fn only_the_bits_are_left_after_a_signal(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    case.mint(original, Rights::WRITE, 0x55)?.signal()?;
    let receive = Operation::new(SystemCall::Recv, original.slot().number()).0;
    let found = exchange(receive, 3, Slots::NONE, POLL, [9; 8]);
    compare(&found, &answer(1 << 17, 0, 0x55, [0; 8]))
}

fn only_the_answer_is_left_after_a_call(case: &mut Case) -> Outcome {
    let (endpoint, ..) = super::ipc::server(case, 0)?;
    let found = exchange(call(endpoint.slot().number()), 3, Slots::NONE, FOREVER, words(6));
    compare(&found, &answer(0, 0, 0, words(6).map(|word| word.wrapping_add(1))))
}

fn only_the_error_is_left_after_a_deadline(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    for deadline in [POLL, crate::case::in_ms(5)] {
        let found = exchange(call(endpoint.slot().number()), 3, Slots::NONE, deadline, [9; 8]);
        compare(&found, &answer(Error::TimedOut as u64, 0, 0, [0; 8]))?;
    }
    Ok(())
}

fn a_thread_starts_with_its_arguments_and_zeros(case: &mut Case) -> Outcome {
    let mut found: Registers = [0xbad; REGISTERS];
    let helper = case.prepare(0, HIGH, |_| {}, 0)?;
    let place = core::ptr::from_mut(&mut found).expose_provenance() as u64;
    case.start_at(helper, arch::start_probe as *const () as u64, place)?;
    case.join(helper)?;
    // SAFETY: the helper has written it, and is done.
    let found = unsafe { core::ptr::read_volatile(&raw const found) };
    equal!(found[WORDS], place);
    check!(found[WORDS + 1] != 0);
    let code = arch::start_probe as *const () as u64;
    for (n, register) in found.iter().enumerate().filter(|(n, _)| *n != WORDS && *n != WORDS + 1) {
        check!(arch::is_clean(n, *register, code), "register {n} is {register:#x}");
    }
    Ok(())
}

/// A helper: holds its own pattern in all registers, several times; word 0 collects changed bits, word 1 counts threads.
fn hold(seed: u64) {
    for round in 0..20 {
        let pattern = seed.wrapping_mul(0x0123_4567_89ab_cdef) + round;
        shared(0).fetch_or(arch::hold_integers(pattern, 2_000_000), Ordering::SeqCst);
    }
    count(1);
}

fn integers_survive_other_threads_turns(case: &mut Case) -> Outcome {
    let mut helpers = [None; 3];
    for (seed, helper) in (1..).zip(&mut helpers) {
        *helper = Some(case.helper(0, LOW, hold, seed)?);
    }
    case.join_all(helpers.into_iter().flatten())?;
    equal!((shared_value(0), shared_value(1)), (0, 3));
    Ok(())
}

fn integers_survive_a_move_to_another_core(case: &mut Case) -> Outcome {
    let mut moves = 0;
    // Where the machine under this one is busy, the helper may be done before it has moved much.
    for round in 1..=ROUNDS {
        let helper = case.helper(1, LOW, hold, 9)?;
        let contexts = case.contexts()?;
        while shared_value(1) < round && moves < 10_000 {
            helper.thread.set_context(Some(contexts.of(moves)))?;
            case.sleep(1)?;
            moves += 1;
        }
        case.join(helper)?;
        equal!((shared_value(0), shared_value(1)), (0, round));
        if moves > 2 {
            return Ok(());
        }
    }
    check!(false, "only {moves} moves");
    Ok(())
}

fn a_call_with_every_flag_set_is_like_any_other(_: &mut Case) -> Outcome {
    for _ in 0..100 {
        let mut registers: Registers = [0; REGISTERS];
        registers[OPERATION] = call(TABLE.slot().number());
        registers[LABEL] = Method::CapTableInfo.label();
        // SAFETY: the call takes no memory away.
        unsafe { arch::raw_system_call_with_flags(&raw mut registers) };
        compare(&registers, &answer(0, 0, 0, [4096, 0, 0, 0, 0, 0, 0, 0]))?;
    }
    Ok(())
}

fn unknown_system_calls_are_refused(_: &mut Case) -> Outcome {
    for number in 5..=255 {
        let operation = number | u64::from(MEMORY.slot().number()) << 32;
        let found = exchange(operation, 1, Slots::NONE, FOREVER, [9; 8]);
        compare(&found, &answer(Error::InvalidSystemCall as u64, 0, 0, [0; 8]))?;
    }
    Ok(())
}

fn stray_bits_in_the_operation_are_refused(_: &mut Case) -> Outcome {
    for bit in 8..32 {
        let operation = call(TABLE.slot().number()) | 1 << bit;
        let found = exchange(operation, Method::CapTableInfo.label(), Slots::NONE, FOREVER, [9; 8]);
        compare(&found, &answer(Error::InvalidSystemCall as u64, 0, 0, [0; 8]))?;
    }
    Ok(())
}
