//! What a confined program tries to learn of others, or to break for them. Nobody but itself notices.

use core::sync::atomic::Ordering;

use anos::abi::SystemCall;
use anos::abi::fault;
use anos::abi::object::{Method, ThreadState};
use anos::abi::syscall::POLL;
use anos::capability::{CapTable, Capability, Endpoint, Frame, Notification, PageTable, Reply, Slot, Thread, Untyped};
use anos::{Error, Kind, Message, Rights};

use super::attacks::FREE;
use super::cases;
use super::random::{Random, slots};
use super::threads::count_for_ever;
use crate::arch;
use crate::case::{Case, MEMORY, PATIENCE_MS, SPACE, TABLE, core, in_ms, now, shared, shared_value};
use crate::check::{Failure, Outcome, check, equal};
use crate::confined::{Ask, Confined, OWN_SPACE, OWN_TABLE, TABLE_SLOTS, Told};
use crate::hands::{ENDPOINT_SLOT, Event, Order};
use crate::helper::{HIGH, LOW, NORMAL};
use crate::supervisor::WORKER;

cases![
    registers_hold_nothing_of_others,
    fresh_memory_holds_nothing_of_others,
    a_new_thread_holds_nothing_of_others,
    the_kernel_can_not_be_read_from_anywhere,
    a_thread_that_handles_its_own_fault_stops_alone,
    threads_that_handle_each_other_s_faults_stop_alone,
    every_label_to_every_object_harms_nobody,
    garbage_in_every_register_harms_nobody,
    addresses_written_from_outside_are_only_the_thread_s_fault,
    flags_written_from_outside_stay_a_program_s,
    a_cancelled_badge_is_its_own,
    what_a_program_deletes_of_its_own_harms_nobody,
];

fn registers_hold_nothing_of_others(case: &mut Case) -> Outcome {
    const SECRET: u64 = 0x5ec2_e75e_c2e7_0000;
    /// Holds the secret in all registers, for ever.
    fn hold(_: u64) {
        loop {
            arch::hold_integers(SECRET, 20_000);
            core::hint::black_box(arch::hold_floats(SECRET, 20_000));
        }
    }
    let confined = case.confined(0)?;
    let (endpoint, notification): (Endpoint, Notification) = (case.make()?, case.make()?);
    confined.give(endpoint, FREE, Rights::ALL)?;
    confined.give(notification, FREE + 1, Rights::ALL)?;
    case.helper(0, LOW, hold, 0)?;
    let asks = |n: u64| {
        let soon = now() + 100_000;
        match n % 8 {
            0 => Ask::poll(SystemCall::Yield, 0),
            1 => Ask { deadline: soon, ..Ask::poll(SystemCall::Recv, FREE) },
            2 => Ask { deadline: soon, ..Ask::poll(SystemCall::Recv, FREE + 1) },
            3 => Ask { deadline: soon, ..Ask::poll(SystemCall::Send, FREE) },
            4 => Ask { deadline: soon, ..Ask::poll(SystemCall::Call, FREE) },
            5 => Ask::method(OWN_TABLE, Method::CapTableInfo, &[]),
            6 => Ask::poll(SystemCall::ReplyRecv, FREE),
            _ => Ask { call: 77, ..Ask::default() },
        }
    };
    for n in 0..400 {
        let Told { registers, .. } = confined.ask(&asks(n))?;
        for (position, register) in registers.iter().enumerate() {
            check!(register & !0xffff != SECRET, "call {n}: register {position} is {register:#x}");
            check!(position < 13 || confined.is_clean(position, *register), "call {n}: {position}: {register:#x}");
        }
    }
    Ok(())
}

fn fresh_memory_holds_nothing_of_others(case: &mut Case) -> Outcome {
    let (confined, memory): (Confined, Untyped) = (case.confined(0)?, case.make_sized(8)?);
    let slot = case.slot();
    // Secrets in a Frame, a table, and a thread.
    for round in 0..3 {
        memory.retype(Kind::Frame, 8, 1, slot)?;
        let window = case.window_of(Frame::at(slot))?;
        (0..8 * 512).for_each(|word| window.write(word, 0x5ec2_e700 + word));
        TABLE.revoke(memory.slot())?;
        let thread: Thread = memory.make(0, slot)?;
        thread.write_registers(0, &[0x5ec2_e70d; 13])?;
        TABLE.revoke(memory.slot())?;
        confined.hand_over(memory, FREE)?;
        match round {
            0 => {
                confined
                    .invoke(Ask::method(FREE, Method::UntypedRetype, &[Kind::Frame as u64, 8, 1]).receive_into(20))??;
                confined.invoke(Ask::method(20, Method::FrameMap, &[0x71_0000, 1]).with(OWN_SPACE))??;
                for word in (0..8 * 512).step_by(7) {
                    let found = confined.hands.read(0x71_0000 + 8 * word)?;
                    check!(found == Event::Done(0), "word {word}: {found:x?}");
                }
            }
            1 => {
                let retype =
                    Ask::method(FREE, Method::UntypedRetype, &[Kind::CapTable as u64, 512, 1]).receive_into(20);
                confined.invoke(retype)??;
                for place in 1..512 {
                    let found = confined.invoke(Ask::method(20, Method::CapTableLook, &[place]))??;
                    check!(found == [0; 8], "slot {place}: {found:x?}");
                }
            }
            _ => {
                confined.invoke(
                    Ask::method(FREE, Method::UntypedRetype, &[Kind::Thread as u64, 0, 1]).receive_into(20),
                )??;
                for first in (0..40).step_by(8) {
                    let found = confined.invoke(Ask::method(20, Method::ThreadReadRegisters, &[first]))??;
                    check!(found == [0; 8], "from register {first}: {found:x?}");
                }
            }
        }
        // Back for the next round.
        confined.invoke(Ask::method(OWN_TABLE, Method::CapTableRevoke, &[FREE.into()]))??;
        let back: Endpoint = case.make()?;
        confined.give(back, 40, Rights::ALL)?;
        let ask = Ask { call: SystemCall::Send as u8, target: 40, pass: FREE, deadline: u64::MAX, ..Ask::default() };
        confined.begin(&ask.registers())?;
        check!(back.recv(None, Some(memory.slot()), in_ms(PATIENCE_MS))?.status.has_capability());
        equal!(confined.hands.event()?, Event::Done(0));
        confined.hands.table.delete(Slot::new(40))?;
    }
    Ok(())
}

fn a_new_thread_holds_nothing_of_others(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(2)?;
    let slot = case.slot();
    for _ in 0..3 {
        let thread: Thread = memory.make(0, slot)?;
        thread.write_registers(0, &[0x5ec2_e70d; 13])?;
        thread.set_priority(200, 200)?;
        thread.set_table(TABLE)?;
        TABLE.revoke(memory.slot())?;
        let fresh: Thread = memory.make(0, slot)?;
        let info = fresh.info()?;
        equal!((info.state, info.priority, info.ceiling, info.cpu_time_ns), (ThreadState::Stopped, 0, 0, 0));
        equal!((fresh.read_registers(0)?, fresh.read_registers(8)?), ([0; 8], [0; 8]));
        equal!(fresh.resume(), Err(Error::NotRunnable));
        TABLE.revoke(memory.slot())?;
    }
    Ok(())
}

fn the_kernel_can_not_be_read_from_anywhere(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let mut random = Random::new(3);
    for _ in 0..100 {
        // In the upper half: where main memory, devices and the kernel are seen from.
        let address = match random.below(3) {
            0 => 0xffff_ffff_8000_0000 + random.below(1 << 30),
            1 => (0xffff_8000_0000_0000 + random.below(1 << 32)) & !7,
            _ => (0xffff_ffc0_0000_0000 + random.below(1 << 32)) & !7,
        };
        for order in [Order::Read, Order::Write, Order::Jump] {
            confined.hands.fault(order, address & !7)?;
            confined.hands.again()?;
        }
    }
    Ok(())
}

fn a_thread_that_handles_its_own_fault_stops_alone(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let (endpoint, reply): (Endpoint, Reply) = (case.make()?, case.make()?);
    confined.give(endpoint, FREE, Rights::ALL)?;
    confined.give(confined.hands.thread, FREE + 1, Rights::ALL)?;
    // Its own handler, by its own doing.
    confined.invoke(Ask::method(FREE + 1, Method::ThreadSetFaultEndpoint, &[]).with(FREE))??;
    confined.hands.order(Order::Read, 0, 0)?;
    let thread = confined.hands.thread;
    case.eventually(|| thread.info().is_ok_and(|info| info.state == ThreadState::Sending))?;
    // Whoever else has the Endpoint can handle it; then it tries again, and waits again.
    equal!(endpoint.recv(Some(reply), None, POLL)?.message.label, fault::LABEL);
    reply.send(&Message::OK, None)?;
    case.eventually(|| thread.info().is_ok_and(|info| info.state == ThreadState::Sending))?;
    thread.suspend()?;
    equal!(thread.info()?.state, ThreadState::Stopped);
    equal!(endpoint.recv(None, None, POLL).map(|_| ()), Err(Error::TimedOut));
    Ok(())
}

fn threads_that_handle_each_other_s_faults_stop_alone(case: &mut Case) -> Outcome {
    let (first, second) = (case.confined(0)?, case.confined(0)?);
    let (one, other): (Endpoint, Endpoint) = (case.make()?, case.make()?);
    first.hands.thread.set_fault_endpoint(Some(other))?;
    second.hands.thread.set_fault_endpoint(Some(one))?;
    for confined in [first, second] {
        confined.hands.order(Order::Jump, 8, 0)?;
    }
    for confined in [first, second] {
        let thread = confined.hands.thread;
        case.eventually(|| thread.info().is_ok_and(|info| info.state == ThreadState::Sending))?;
        TABLE.delete(thread.slot())?;
    }
    equal!(one.recv(None, None, POLL).map(|_| ()), Err(Error::TimedOut));
    Ok(())
}

/// What must not change: this program's slots, memory, and thread, as one number.
fn fingerprint() -> Outcome<u64> {
    let worker = WORKER.info()?;
    let thread = u64::from(worker.priority) | u64::from(worker.ceiling) << 8;
    Ok(slots()? ^ thread ^ MEMORY.info()?.pages_used << 16)
}

/// One of each kind of object, of a confined program's own, in its table from [`FREE`] on; the end of those slots.
fn give_one_of_each(case: &mut Case, confined: Confined) -> Outcome<u32> {
    let (memory, frame, table): (Untyped, Frame, PageTable) = (case.make_sized(4)?, case.make_small()?, case.make()?);
    let (slots, thread): (CapTable, Thread) = (case.make_small()?, case.make()?);
    let (endpoint, reply, notification): (Endpoint, Reply, Notification) = (case.make()?, case.make()?, case.make()?);
    let context = case.context(0)?;
    core(0).limit(context, 1_000_000, 10_000_000, false)?;
    let bit = case.mint(notification, Rights::ALL, 2)?;
    let all = [
        memory.slot(),
        frame.slot(),
        table.slot(),
        slots.slot(),
        thread.slot(),
        endpoint.slot(),
        reply.slot(),
        notification.slot(),
        context.slot(),
        bit.slot(),
    ];
    let mut end = FREE;
    for slot in all {
        confined.hands.table.take(slot, Slot::new(end))?;
        end += 1;
    }
    Ok(end)
}

fn every_label_to_every_object_harms_nobody(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let end = give_one_of_each(case, confined)?;
    let before = fingerprint()?;
    let mut random = Random::new(4);
    let labels = (0..0x12).flat_map(|kind: u64| (0..16).map(move |number| kind << 8 | number));
    for label in labels.chain([u64::MAX, 1 << 63, 1 << 63 | 1, 0x1_0101]) {
        for target in FREE..end {
            let words = core::array::from_fn(|_| random.word());
            let (pass, receive) = (FREE + random.small(12), 40 + random.small(24));
            let ask = Ask { call: SystemCall::Call as u8, target, label, pass, receive, words, ..Ask::default() };
            // Its deadline is past: to call oneself would wait for ever.
            confined.ask(&ask)?;
        }
    }
    equal!(fingerprint()?, before);
    Ok(())
}

fn garbage_in_every_register_harms_nobody(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    give_one_of_each(case, confined)?;
    let before = fingerprint()?;
    let mut random = Random::new(5);
    for _ in 0..2000 {
        let mut registers = core::array::from_fn(|_| random.next());
        // Half of them are one of the five calls, and name a slot.
        if random.below(2) == 0 {
            registers[0] = random.below(5) | random.below(TABLE_SLOTS.into()) << 32;
        }
        // It neither gives up what it reports with, nor waits for ever.
        registers[4] = random.below(2);
        let target = registers[0] >> 32;
        if target == OWN_TABLE.into() || target == OWN_SPACE.into() || target == ENDPOINT_SLOT.into() {
            continue;
        }
        confined.exchange(&registers)?;
    }
    equal!(fingerprint()?, before);
    Ok(())
}

fn addresses_written_from_outside_are_only_the_thread_s_fault(case: &mut Case) -> Outcome {
    // A thread that was interrupted between two instructions, and one that made a system call: the ways back differ.
    let window = case.window(1)?;
    let end = SPACE.info()?.1;
    for interrupted in [false, true] {
        let hands = case.hands(0)?;
        for number in 13..16 {
            for value in [end - 2, end, 1 << 63, u64::MAX - 1, 0xffff_8000_0010_0000, 0xffff_ffff_8020_0000] {
                window.write(0, 0);
                if interrupted {
                    hands.order(Order::Count, window.address, 0)?;
                    case.eventually(|| window.read(0) > 0)?;
                }
                hands.thread.suspend()?;
                hands.thread.write_registers(number, &[value])?;
                let [kept, ..] = hands.thread.read_registers(number)?;
                if arch::IS_PC && number != 14 {
                    // Not every processor minds at once, least of all an emulated one.
                    check!(kept == value.min(end), "register {number} takes {value:#x} as {kept:#x}");
                } else {
                    equal!(kept, value);
                }
                let seen = window.read(0);
                hands.thread.resume()?;
                if number == 13 {
                    // Nothing is there to be run.
                    let Event::Fault(_) = hands.event()? else {
                        return Err(Failure::new(format_args!("it goes on at {value:#x}")));
                    };
                    hands.again()?;
                    continue;
                }
                // It goes on, as long as it doesn't use it.
                if interrupted {
                    case.eventually(|| window.read(0) > seen)?;
                } else {
                    equal!(hands.event()?, Event::Done(0));
                }
                hands.thread.suspend()?;
                hands.start(0)?;
            }
        }
    }
    Ok(())
}

fn flags_written_from_outside_stay_a_program_s(case: &mut Case) -> Outcome {
    // On x86-64 the first of the other registers is the flags: interrupts off, all ports allowed, virtual 8086 mode, if
    // they were taken as they are. On RISC-V it is a register like any other.
    const OTHER: u64 = 16;
    const FLAGS: u64 = 0x2_7002;
    let window = case.window(1)?;
    let hands = case.hands(0)?;
    hands.order(Order::Count, window.address, 0)?;
    case.eventually(|| window.read(0) > 0)?;
    hands.thread.suspend()?;
    hands.thread.write_registers(OTHER, &[FLAGS])?;
    let seen = window.read(0);
    hands.thread.resume()?;
    // That the timer still comes, and this thread with it, shows that interrupts are on.
    case.eventually(|| window.read(0) > seen)?;
    hands.thread.suspend()?;
    let [kept, ..] = hands.thread.read_registers(OTHER)?;
    if arch::IS_PC {
        check!(kept & 0x2_3200 == 0x200, "it runs with flags {kept:#x}");
    } else {
        equal!(kept, FLAGS);
    }
    Ok(())
}

fn a_cancelled_badge_is_its_own(case: &mut Case) -> Outcome {
    /// Sends, and counts in word 0 that it got through.
    fn send_once(endpoint: u64) {
        let sent = super::ipc::at::<Endpoint>(endpoint).send(&Message::OK, None, anos::abi::syscall::FOREVER);
        shared(0).store(if sent.is_ok() { 1 } else { 2 }, Ordering::SeqCst);
    }
    let confined = case.confined(0)?;
    let endpoint: Endpoint = case.make()?;
    let (victim, own) = (case.mint(endpoint, Rights::ALL, 1)?, case.mint(endpoint, Rights::ALL, 2)?);
    confined.give(own, FREE, Rights::ALL)?;
    let helper = case.helper(0, HIGH, send_once, super::ipc::number(victim))?;
    for _ in 0..3 {
        confined.invoke(Ask::method(OWN_TABLE, Method::CapTableCancel, &[FREE.into()]))??;
        equal!(helper.thread.info()?.state, ThreadState::Sending);
    }
    // Nor does deleting all it has.
    confined.invoke(Ask::method(OWN_TABLE, Method::CapTableRevoke, &[FREE.into()]))??;
    confined.invoke(Ask::method(OWN_TABLE, Method::CapTableDelete, &[FREE.into()]))??;
    equal!(endpoint.recv(None, None, POLL)?.badge, 1);
    case.join(helper)?;
    equal!(shared_value(0), 1);
    Ok(())
}

fn what_a_program_deletes_of_its_own_harms_nobody(case: &mut Case) -> Outcome {
    for target in [OWN_TABLE, OWN_SPACE, ENDPOINT_SLOT] {
        let confined = case.confined(0)?;
        confined.give(confined.hands.thread, FREE, Rights::ALL)?;
        let bystander = case.helper(0, NORMAL, count_for_ever, 0)?;
        let before = fingerprint()?;
        for number in [target, FREE, OWN_TABLE, OWN_SPACE] {
            let ask = Ask::method(OWN_TABLE, Method::CapTableDelete, &[number.into()]);
            confined.begin(&ask.registers())?;
            // If it still can, it says so; else it faults, or is silent.
            if !matches!(confined.hands.event_until(in_ms(20))?, Ok(Event::Done(_))) {
                break;
            }
        }
        equal!(fingerprint()?, before);
        let seen = shared_value(0);
        case.eventually(|| shared_value(0) > seen)?;
        bystander.thread.suspend()?;
        TABLE.delete(confined.hands.thread.slot())?;
    }
    Ok(())
}
