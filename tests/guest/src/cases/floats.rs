//! Floating-point registers: kept for whom they belong to, and nobody else's business.

use core::sync::atomic::Ordering;

use anos::abi::fault::{self, FaultKind};
use anos::abi::object::ThreadFlags;
use anos::capability::{Endpoint, Frame, Notification, Reply};
use anos::{Message, Rights, env};

use super::cases;
use super::ipc::{at, number};
use crate::arch;
use crate::case::{self, Case, SPACE, count, in_ms, shared, shared_value};
use crate::check::{Outcome, check, equal};
use crate::hands::{Event, Order};
use crate::helper::{HIGH, LOW, NORMAL};

cases![
    registers_survive_other_threads_turns,
    registers_survive_interrupts_by_urgent_threads,
    registers_survive_a_fault,
    registers_survive_a_move_to_another_core on 2,
    registers_survive_on_all_cores_at_once on 2,
    a_new_thread_finds_no_one_s_registers,
    a_thread_started_again_finds_nothing_of_its_old_self,
    a_thread_that_was_stopped_and_started_again_finds_nothing_of_its_old_self,
    the_control_register_is_the_thread_s_own,
    a_system_call_brings_no_older_registers_back,
    a_system_call_brings_no_one_else_s_registers,
    a_foreign_system_call_keeps_the_registers,
    a_thread_without_floats_faults_at_them,
];

/// Rounds of computing that take long enough for several turns.
const ROUNDS: u64 = 2_000_000;

/// A helper: holds its own pattern in all registers, several times; word 0 counts changed registers, word 1 threads.
fn hold(seed: u64) {
    for round in 0..20 {
        let pattern = seed.wrapping_mul(0x0123_4567_89ab_cdef) + round;
        shared(0).fetch_add(arch::hold_floats(pattern, ROUNDS), Ordering::SeqCst);
    }
    count(1);
}

fn registers_survive_other_threads_turns(case: &mut Case) -> Outcome {
    let mut helpers = [None; 3];
    for (seed, helper) in (1..).zip(&mut helpers) {
        *helper = Some(case.helper(0, LOW, hold, seed)?);
    }
    case.join_all(helpers.into_iter().flatten())?;
    equal!((shared_value(0), shared_value(1)), (0, 3));
    Ok(())
}

/// A helper: wakes every millisecond and uses all registers, until word 2 is set.
fn disturb(never: u64) {
    let mut pattern = 7;
    while shared_value(2) == 0 {
        let _ = at::<Notification>(never).wait(in_ms(1));
        pattern += arch::hold_floats(pattern, 100) + 1;
        count(3);
    }
}

fn registers_survive_interrupts_by_urgent_threads(case: &mut Case) -> Outcome {
    let never: Notification = case.make()?;
    let urgent = case.helper(0, HIGH, disturb, number(never))?;
    let calm = case.helper(0, LOW, hold, 5)?;
    case.join(calm)?;
    shared(2).store(1, Ordering::SeqCst);
    case.join(urgent)?;
    equal!((shared_value(0), shared_value(1)), (0, 1));
    check!(shared_value(3) > 2, "only {} interruptions", shared_value(3));
    Ok(())
}

fn registers_survive_a_fault(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let frame: Frame = case.make_small()?;
    let address = case.free_address();
    let window = {
        let copy = case.copy(frame, Rights::ALL)?;
        case.window_of(copy)?
    };
    window.write(0, 1000);
    let Event::Fault(fault) = hands.go(Order::Float, address, 0x1234)? else {
        return Err(crate::check::Failure::new(format_args!("no fault")));
    };
    equal!((fault.kind, fault.address), (FaultKind::Read, address));
    // The handler uses the registers, too.
    equal!(arch::hold_floats(0xdead, 1), 0);
    case.map(frame, SPACE, address, Rights::READ)?;
    hands.retry()?;
    equal!(hands.event()?, Event::Done(1000 + 0x1234));
    Ok(())
}

fn registers_survive_a_move_to_another_core(case: &mut Case) -> Outcome {
    let mut moves = 0;
    // Where the machine under this one is busy, the helpers may be done before one has moved much.
    for round in 1..=case::ROUNDS {
        let helper = case.helper(1, LOW, hold, 9)?;
        let other = case.helper(1, LOW, hold, 10)?;
        let contexts = case.contexts()?;
        while shared_value(1) < 2 * round && moves < 10_000 {
            helper.thread.set_context(Some(contexts.of(moves)))?;
            case.sleep(1)?;
            moves += 1;
        }
        case.join_all([helper, other])?;
        equal!((shared_value(0), shared_value(1)), (0, 2 * round));
        if moves > 2 {
            return Ok(());
        }
    }
    check!(false, "only {moves} moves");
    Ok(())
}

fn registers_survive_on_all_cores_at_once(case: &mut Case) -> Outcome {
    let mut helpers = [None; 16];
    for (seed, helper) in (0..2 * env::cores()).zip(&mut helpers) {
        *helper = Some(case.helper(seed % env::cores(), LOW, hold, seed + 1)?);
    }
    case.join_all(helpers.into_iter().flatten())?;
    equal!((shared_value(0), shared_value(1)), (0, (2 * env::cores()).min(16)));
    Ok(())
}

/// A helper: looks at the registers before anything else, then leaves a pattern in them.
fn look_then_fill(_: u64) {
    shared(0).fetch_or(arch::any_float(), Ordering::SeqCst);
    if arch::float_control() != arch::FLOAT_CONTROL {
        count(1);
    }
    count(2);
    arch::hold_floats(0x5555_5555_5555_5555, 1);
    arch::set_float_control(arch::FLOAT_CONTROL_OTHER);
}

fn a_new_thread_finds_no_one_s_registers(case: &mut Case) -> Outcome {
    arch::hold_floats(0xaaaa_aaaa_aaaa_aaaa, 1);
    for _ in 0..4 {
        // In turn: each new one runs right after one that has filled the registers.
        let first = case.helper(0, NORMAL, look_then_fill, 0)?;
        let second = case.helper(0, HIGH, look_then_fill, 0)?;
        case.join_all([first, second])?;
    }
    equal!((shared_value(0), shared_value(1), shared_value(2)), (0, 0, 8));
    Ok(())
}

fn a_thread_started_again_finds_nothing_of_its_old_self(case: &mut Case) -> Outcome {
    let helper = case.helper(0, HIGH, look_then_fill, 0)?;
    for _ in 0..3 {
        case.start(helper)?;
    }
    equal!((shared_value(0), shared_value(1), shared_value(2)), (0, 0, 4));
    Ok(())
}

fn a_thread_that_was_stopped_and_started_again_finds_nothing_of_its_old_self(case: &mut Case) -> Outcome {
    /// Looks at the registers before anything else, then fills and holds them for ever.
    fn look_then_hold(_: u64) {
        shared(0).fetch_or(arch::any_float(), Ordering::SeqCst);
        count(1);
        loop {
            arch::hold_floats(0x5555_5555_5555_5555, ROUNDS);
        }
    }
    let helper = case.prepare(0, LOW, look_then_hold, 0)?;
    for round in 1..=3 {
        case.start(helper)?;
        // Each time this wakes up, it interrupts the helper.
        case.eventually(|| shared_value(1) == round)?;
        case.sleep(1)?;
        helper.thread.suspend()?;
    }
    equal!(shared_value(0), 0);
    Ok(())
}

fn the_control_register_is_the_thread_s_own(case: &mut Case) -> Outcome {
    /// Sets the rounding mode, computes for some turns, and looks whether it is still set.
    fn keep(control: u64) {
        let [a, b, c, d, ..] = control.to_le_bytes();
        let control = u32::from_le_bytes([a, b, c, d]);
        for _ in 0..10 {
            arch::set_float_control(control);
            arch::hold_floats(1, ROUNDS);
            if arch::float_control() != control {
                count(0);
            }
        }
        arch::set_float_control(arch::FLOAT_CONTROL);
        count(1);
    }
    let usual = case.helper(0, LOW, keep, arch::FLOAT_CONTROL.into())?;
    let other = case.helper(0, LOW, keep, arch::FLOAT_CONTROL_OTHER.into())?;
    case.join_all([usual, other])?;
    equal!((shared_value(0), shared_value(1)), (0, 2));
    Ok(())
}

fn a_system_call_brings_no_older_registers_back(case: &mut Case) -> Outcome {
    /// Is interrupted with another control register than it makes its system call with, and looks what it has then.
    fn look_back(never: u64) {
        for _ in 0..20 {
            arch::set_float_control(arch::FLOAT_CONTROL_OTHER);
            let interruptions = shared_value(3);
            while shared_value(3) < interruptions + 2 {
                core::hint::spin_loop();
            }
            arch::set_float_control(arch::FLOAT_CONTROL);
            // The urgent thread uses the registers meanwhile.
            let _ = at::<Notification>(never).wait(in_ms(3));
            if arch::float_control() != arch::FLOAT_CONTROL {
                count(0);
            }
        }
        shared(2).store(1, Ordering::SeqCst);
        count(1);
    }
    let (never, another): (Notification, Notification) = (case.make()?, case.make()?);
    let urgent = case.helper(0, HIGH, disturb, number(never))?;
    let calm = case.helper(0, LOW, look_back, number(another))?;
    case.join_all([calm, urgent])?;
    equal!((shared_value(0), shared_value(1)), (0, 1));
    Ok(())
}

fn a_system_call_brings_no_one_else_s_registers(case: &mut Case) -> Outcome {
    const THEIRS: u64 = 0x5a5a_5a5a_0000_0000;
    const OURS: u64 = 0x0303_0303_0000_0000;
    /// Fills the registers and makes a system call, whenever the case makes one.
    fn fill(never: u64) {
        while shared_value(2) == 0 {
            shared(0).fetch_add(arch::hold_floats(THEIRS, 1), Ordering::SeqCst);
            count(3);
            let _ = at::<Notification>(never).wait(in_ms(1));
        }
    }
    let never: Notification = case.make()?;
    let helper = case.helper(0, HIGH, fill, number(never))?;
    for _ in 0..20 {
        let fills = shared_value(3);
        equal!(arch::hold_floats(OURS, 1), 0);
        while shared_value(3) == fills {
            case.sleep(1)?;
            equal!(arch::matching_floats(THEIRS), 0);
        }
        // Nor are there any later, whoever was interrupted meanwhile.
        equal!(arch::hold_floats(OURS, ROUNDS), 0);
        equal!(arch::matching_floats(THEIRS), 0);
    }
    check!(arch::matching_floats(OURS) > 0, "this test looks at the wrong registers");
    shared(2).store(1, Ordering::SeqCst);
    case.join(helper)?;
    equal!(shared_value(0), 0);
    Ok(())
}

fn a_foreign_system_call_keeps_the_registers(case: &mut Case) -> Outcome {
    const CALLS: u64 = 20;
    fn hold_over_calls(pattern: u64) {
        for n in 0..CALLS {
            shared(0).fetch_add(arch::hold_floats_over_foreign_call(pattern + n), Ordering::SeqCst);
            count(1);
        }
        // What it says when it is done is foreign, too: the case leaves it waiting for an answer.
    }
    let (faults, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let helper = case.prepare(0, LOW, hold_over_calls, 0x1234_5678_0000)?;
    helper.thread.set_fault_endpoint(Some(faults))?;
    helper.thread.set_flags(ThreadFlags(ThreadFlags::FOREIGN))?;
    case.start(helper)?;
    for n in 0..=CALLS {
        let message = faults.recv(Some(reply), None, in_ms(case::PATIENCE_MS))?.message;
        equal!((message.label, shared_value(1)), (fault::SYSTEM_CALL_LABEL, n));
        if n < CALLS {
            equal!(message.words[0], arch::FOREIGN_CALL.0);
            // Somebody else uses the registers meanwhile.
            equal!(arch::hold_floats(0xdead, 1), 0);
            reply.send(&Message::new(0, &[arch::FOREIGN_CALL.1]), None)?;
        }
    }
    equal!(shared_value(0), 0);
    Ok(())
}

fn a_thread_without_floats_faults_at_them(case: &mut Case) -> Outcome {
    fn hold_once(_: u64) {
        arch::hold_floats(3, 1);
        count(1);
    }
    let (faults, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    let helper = case.prepare(0, LOW, hold_once, 0)?;
    helper.thread.set_fault_endpoint(Some(faults))?;
    helper.thread.set_flags(ThreadFlags(ThreadFlags::NO_FPU))?;
    case.start(helper)?;
    let message = faults.recv(Some(reply), None, in_ms(case::PATIENCE_MS))?.message;
    equal!((message.label, message.words[0]), (fault::LABEL, FaultKind::IllegalInstruction as u64));
    equal!(shared_value(1), 0);
    // With the right to them, it goes on where it was.
    helper.thread.suspend()?;
    helper.thread.set_flags(ThreadFlags(0))?;
    helper.thread.resume()?;
    case.join(helper)?;
    equal!(shared_value(1), 1);
    Ok(())
}
