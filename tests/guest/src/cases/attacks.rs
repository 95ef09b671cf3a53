//! What a confined program tries to get at what is not its own. Each case gives one as much as it could have, and looks
//! whether it gets more.

use anos::abi::SystemCall;
use anos::abi::fault::FaultKind;
use anos::abi::object::Method;
use anos::abi::syscall::POLL;
use anos::capability::{Capability, Endpoint, Frame, Notification, PageTable, SchedContext, Slot, Thread, Untyped};
use anos::{Error, Kind, Rights};

use super::cases;
use super::random::Random;
use crate::case::{
    Case, MEMORY, PATIENCE_MS, READ_EXECUTE, READ_WRITE, ROUNDS, SPACE, TABLE, core, in_ms, now, spin_until,
};
use crate::check::{Failure, Outcome, check, equal};
use crate::confined::{Ask, Confined, HELD, OWN_SPACE, OWN_TABLE, REGISTERS, TABLE_SLOTS};
use crate::hands::{CODE, Event, Order};
use crate::helper::{HIGH, LOW, NORMAL};
use crate::supervisor::WORKER_CONTEXT;

cases![
    guessed_slots_hold_nothing,
    badges_can_not_be_forged,
    rights_are_never_raised,
    rights_are_not_raised_by_a_message_to_oneself,
    another_s_memory_can_not_be_mapped,
    memory_is_never_writable_and_executable,
    nothing_can_be_mapped_into_the_kernel_s_half,
    capabilities_are_dead_after_a_revoke,
    a_moved_capability_is_revoked_all_the_same,
    memory_that_runs_out_is_its_own,
    time_can_not_be_made,
    priorities_can_not_be_raised,
    the_highest_priority_gets_no_more_than_its_budget,
    starting_again_and_again_makes_no_time,
];

/// The first slot of a confined program's table that is free.
pub const FREE: u32 = 16;

/// Checks that a method answers this.
pub fn answers(confined: Confined, ask: Ask, expected: Error) -> Outcome {
    let answer = confined.invoke(ask)?;
    check!(answer == Err(expected), "{:#x} of slot {}: {answer:x?}, expected {expected:?}", ask.label, ask.target);
    Ok(())
}

pub fn copy(to: u32, from: u32, rights: Rights) -> Ask {
    Ask::method(OWN_TABLE, Method::CapTableCopy, &[to.into(), rights.0.into()]).with(from)
}

pub fn look_at(confined: Confined, slot: u32) -> Outcome<[u64; 8]> {
    Ok(confined.invoke(Ask::method(OWN_TABLE, Method::CapTableLook, &[slot.into()]))??)
}

pub fn kind_at(confined: Confined, slot: u32) -> Outcome<Kind> {
    let [kind, ..] = look_at(confined, slot)?;
    Ok(Kind::try_from(kind)?)
}

fn guessed_slots_hold_nothing(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let mut random = Random::new(1);
    let own = (0..TABLE_SLOTS).filter(|slot| !HELD.contains(slot));
    // Slots of this program's table among them, which hold much there.
    let others = (TABLE_SLOTS..200).chain(510..530).chain((0..32).map(|bit| 1 << bit | TABLE_SLOTS)).chain([u32::MAX]);
    let sampled = (0..500).map(|_| random.slot() | TABLE_SLOTS);
    for slot in own.chain(others).chain(sampled) {
        let expected = if slot == 0 || slot >= TABLE_SLOTS { Error::InvalidSlot } else { Error::EmptySlot };
        for call in [SystemCall::Send, SystemCall::Call, SystemCall::Recv, SystemCall::ReplyRecv] {
            let told = confined.ask(&Ask::poll(call, slot))?;
            check!(told.status.result() == Err(expected), "{call:?} of slot {slot}: {:?}", told.status);
        }
        let passed = confined.invoke(copy(FREE, slot, Rights::ALL))?;
        check!(passed == Err(expected), "a copy of slot {slot}: {passed:x?}");
    }
    Ok(())
}

fn badges_can_not_be_forged(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let (endpoint, notification): (Endpoint, Notification) = (case.make()?, case.make()?);
    let (badged, bit) = (case.mint(endpoint, Rights::ALL, 5)?, case.mint(notification, Rights::ALL, 4)?);
    confined.give(badged, FREE, Rights::ALL)?;
    confined.give(bit, FREE + 1, Rights::ALL)?;
    for from in [FREE, FREE + 1] {
        for badge in [0, 1, 4, 5, u64::MAX] {
            let mint = Ask::method(OWN_TABLE, Method::CapTableMint, &[20, 15, badge]).with(from);
            answers(confined, mint, Error::InvalidArgument)?;
        }
    }
    // A copy of a copy, moved: the badge is what the receiver sees, whatever the sender writes.
    confined.invoke(copy(20, FREE, Rights::ALL))??;
    confined.invoke(Ask::method(OWN_TABLE, Method::CapTableMove, &[21]).with(20))??;
    confined.invoke(copy(22, 21, Rights::ALL))??;
    let words = [9; 8];
    for slot in [FREE, 21, 22] {
        let ask =
            Ask { call: SystemCall::Send as u8, target: slot, label: 9, deadline: u64::MAX, words, ..Ask::default() };
        confined.begin(&ask.registers())?;
        let received = endpoint.recv(None, None, in_ms(PATIENCE_MS))?;
        equal!((received.badge, received.message.words), (5, words));
        equal!(confined.hands.event()?, Event::Done(0));
    }
    confined.ask(&Ask::poll(SystemCall::Send, FREE + 1))?;
    equal!(notification.wait(POLL), Ok(4));
    Ok(())
}

fn rights_are_never_raised(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let (endpoint, frame, thread): (Endpoint, Frame, Thread) = (case.make()?, case.make_small()?, case.make()?);
    let context = case.context(0)?;
    let slots = [endpoint.slot(), frame.slot(), thread.slot(), context.slot()];
    for rights in (0..16).map(Rights) {
        for (from, slot) in (FREE..).zip(slots) {
            confined.hands.table.copy(slot, Slot::new(from), rights)?;
            for asked in (0..16).map(Rights) {
                confined.invoke(copy(30, from, asked))??;
                let [_, found, ..] = look_at(confined, 30)?;
                check!(found == u64::from(rights.intersection(asked).0), "{asked:?} of {rights:?} is {found:#x}");
                confined.invoke(Ask::method(OWN_TABLE, Method::CapTableDelete, &[30]))??;
            }
            confined.hands.table.delete(Slot::new(from))?;
        }
    }
    // What is only to be looked at can't be changed, by any method.
    confined.give(thread, FREE, Rights::READ)?;
    for method in [Method::ThreadSuspend, Method::ThreadResume, Method::ThreadStart, Method::ThreadWriteRegisters] {
        answers(confined, Ask::method(FREE, method, &[0, 1, 1]), Error::MissingRights)?;
    }
    confined.give(frame, FREE + 1, Rights::READ)?;
    let map = |rights: Rights| Ask::method(FREE + 1, Method::FrameMap, &[0x71_0000, rights.0.into()]).with(OWN_SPACE);
    answers(confined, map(READ_WRITE), Error::MissingRights)?;
    answers(confined, map(READ_EXECUTE), Error::MissingRights)?;
    confined.invoke(map(Rights::READ))??;
    equal!(confined.hands.fault(Order::Write, 0x71_0000)?.kind, FaultKind::Write);
    Ok(())
}

fn rights_are_not_raised_by_a_message_to_oneself(case: &mut Case) -> Outcome {
    // Two programs that share an Endpoint pass a capability to and fro.
    let (first, second) = (case.confined(0)?, case.confined(0)?);
    let (endpoint, frame): (Endpoint, Frame) = (case.make()?, case.make_small()?);
    let reader = case.mint(endpoint, Rights::ALL, 3)?;
    for confined in [first, second] {
        confined.give(endpoint, FREE, Rights::ALL)?;
        confined.give(reader, FREE + 1, Rights::WRITE)?;
    }
    first.give(frame, 20, Rights::READ)?;
    let pass = |confined: Confined, target: u32, deadline: u64| {
        let ask = Ask { call: SystemCall::Send as u8, target, pass: 20, deadline, ..Ask::default() };
        confined.ask(&ask).map(|told| told.status.result())
    };
    let take = |confined: Confined, slot: u32| {
        confined.begin(
            &Ask { call: SystemCall::Recv as u8, target: FREE, receive: slot, deadline: u64::MAX, ..Ask::default() }
                .registers(),
        )
    };
    // Who may not grant passes nothing.
    take(second, 20)?;
    case.sleep(1)?;
    equal!(pass(first, FREE + 1, POLL)?, Err(Error::MissingRights));
    equal!(pass(first, FREE, u64::MAX)?, Ok(()));
    equal!(second.hands.event()?, Event::Done(0));
    let [kind, rights, ..] = look_at(second, 20)?;
    equal!((kind, rights), (Kind::Frame as u64, Rights::READ.0.into()));
    take(first, 21)?;
    case.sleep(1)?;
    equal!(pass(second, FREE, u64::MAX)?, Ok(()));
    equal!(first.hands.event()?, Event::Done(0));
    let [kind, rights, ..] = look_at(first, 21)?;
    equal!((kind, rights), (Kind::Frame as u64, Rights::READ.0.into()));
    // And all of it goes with its origin.
    TABLE.revoke(frame.slot())?;
    equal!((kind_at(first, 20)?, kind_at(first, 21)?, kind_at(second, 20)?), (Kind::Empty, Kind::Empty, Kind::Empty));
    Ok(())
}

fn another_s_memory_can_not_be_mapped(case: &mut Case) -> Outcome {
    let secret = case.window(4)?;
    (0..2048).for_each(|word| secret.write(word, 0x5ec2_e700_0000_0000 + word));
    let confined = case.confined(0)?;
    let memory: Untyped = case.make_sized(8)?;
    confined.hand_over(memory, FREE)?;
    // Its own memory makes Frames, and it says where from: anything but "the next" is refused.
    let position = secret.frame.info()?.physical_address / 4096;
    for position in [1, position, position.wrapping_neg(), u64::MAX] {
        let retype = Ask::method(FREE, Method::UntypedRetype, &[Kind::Frame as u64, 1, 1, position]).receive_into(20);
        answers(confined, retype, Error::InvalidArgument)?;
    }
    for (size, expected) in [(9, Error::NotEnoughMemory), (512, Error::NotEnoughMemory), (513, Error::InvalidArgument)]
    {
        let retype = Ask::method(FREE, Method::UntypedRetype, &[Kind::Frame as u64, size, 1]).receive_into(20);
        answers(confined, retype, expected)?;
    }
    // The address at which this program has it, and what lies around.
    for address in [secret.address, secret.address + 4096, REGISTERS + 4096, CODE + 4096, 0x1000] {
        let fault = confined.hands.fault(Order::Read, address)?;
        equal!((fault.kind, fault.address), (FaultKind::Read, address));
        confined.hands.again()?;
    }
    check!((0..2048).all(|word| secret.read(word) == 0x5ec2_e700_0000_0000 + word), "the secret has changed");
    Ok(())
}

fn memory_is_never_writable_and_executable(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let frame: Frame = case.make_small()?;
    confined.give(frame, FREE, Rights::ALL)?;
    for rights in (0..=255).filter(|rights| !matches!(rights, 1 | 3 | 9)) {
        let map = Ask::method(FREE, Method::FrameMap, &[0x71_0000, rights]).with(OWN_SPACE);
        answers(confined, map, Error::InvalidArgument)?;
    }
    // Code that it has written can't be run where it was written, nor written where it is run.
    confined.invoke(Ask::method(FREE, Method::FrameMap, &[0x71_0000, 3]).with(OWN_SPACE))??;
    equal!(confined.hands.write(0x71_0000, 0)?, Event::Done(0));
    equal!(confined.hands.fault(Order::Jump, 0x71_0000)?.kind, FaultKind::Execute);
    confined.hands.again()?;
    equal!(confined.hands.fault(Order::Write, CODE)?.kind, FaultKind::Write);
    Ok(())
}

fn nothing_can_be_mapped_into_the_kernel_s_half(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let (frame, table): (Frame, PageTable) = (case.make_small()?, case.make()?);
    confined.give(frame, FREE, Rights::ALL)?;
    confined.hand_over(table, FREE + 1)?;
    let end = SPACE.info()?.1;
    let mut random = Random::new(2);
    let sampled = core::array::from_fn::<u64, 100, _>(|_| random.next() | 1 << 63);
    for address in [end, end + 4096, 1 << 63, u64::MAX << 12, 0xffff_ffff_8000_0000].into_iter().chain(sampled) {
        let map = Ask::method(FREE, Method::FrameMap, &[address & !4095, 3]).with(OWN_SPACE);
        answers(confined, map, Error::InvalidArgument)?;
        for level in 0..8 {
            let map = Ask::method(FREE + 1, Method::PageTableMap, &[address, level]).with(OWN_SPACE);
            answers(confined, map, Error::InvalidArgument)?;
        }
    }
    Ok(())
}

fn capabilities_are_dead_after_a_revoke(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let window = case.window(1)?;
    window.write(0, 77);
    let frame = case.copy(window.frame, Rights::ALL)?;
    confined.give(frame, FREE, Rights::ALL)?;
    // Copies of copies, one of them mapped.
    for (from, to) in [(FREE, 20), (20, 21), (21, 22), (20, 23), (FREE, 24)] {
        confined.invoke(copy(to, from, Rights::ALL))??;
    }
    confined.invoke(Ask::method(22, Method::FrameMap, &[0x71_0000, 3]).with(OWN_SPACE))??;
    equal!(confined.hands.read(0x71_0000)?, Event::Done(77));
    TABLE.revoke(frame.slot())?;
    for slot in [FREE, 20, 21, 22, 23, 24] {
        equal!(kind_at(confined, slot)?, Kind::Empty);
        let told = confined.ask(&Ask::method(slot, Method::FrameInfo, &[]))?;
        equal!(told.status.result(), Err(Error::EmptySlot));
    }
    equal!(confined.hands.fault(Order::Read, 0x71_0000)?.kind, FaultKind::Read);
    equal!(window.read(0), 77);
    Ok(())
}

fn a_moved_capability_is_revoked_all_the_same(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let (endpoint, memory): (Endpoint, Untyped) = (case.make()?, case.make_sized(4)?);
    confined.give(endpoint, FREE, Rights::ALL)?;
    confined.hand_over(memory, FREE + 1)?;
    // Into a table of its own making, which then hides in itself.
    let retype = Ask::method(FREE + 1, Method::UntypedRetype, &[Kind::CapTable as u64, 64, 1]).receive_into(20);
    confined.invoke(retype)??;
    confined.invoke(Ask::method(20, Method::CapTableMove, &[5]).with(FREE))??;
    confined.invoke(Ask::method(20, Method::CapTableCopy, &[6, 15]).with(20))??;
    let [kind, ..] = confined.invoke(Ask::method(20, Method::CapTableLook, &[5]))??;
    equal!(kind, Kind::Endpoint as u64);
    TABLE.revoke(endpoint.slot())?;
    let [kind, ..] = confined.invoke(Ask::method(20, Method::CapTableLook, &[5]))??;
    equal!(kind, Kind::Empty as u64);
    Ok(())
}

fn memory_that_runs_out_is_its_own(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let memory: Untyped = case.make_sized(16)?;
    let before = MEMORY.info()?.pages_used;
    confined.hand_over(memory, FREE)?;
    for kind in [Kind::Thread, Kind::PageTable, Kind::AddressSpace] {
        let mut made = 0;
        for slot in FREE + 1..TABLE_SLOTS {
            match confined.invoke(Ask::method(FREE, Method::UntypedRetype, &[kind as u64, 0, 1]).receive_into(slot))? {
                Ok(_) => made += 1,
                Err(error) => {
                    equal!(error, Error::NotEnoughMemory);
                    break;
                }
            }
        }
        equal!(made, 16);
        confined.invoke(Ask::method(OWN_TABLE, Method::CapTableRevoke, &[FREE.into()]))??;
    }
    // Slots run out, too.
    for slot in FREE + 1..TABLE_SLOTS {
        confined
            .invoke(Ask::method(FREE, Method::UntypedRetype, &[Kind::Endpoint as u64, 0, 1]).receive_into(slot))??;
    }
    let more = Ask::method(FREE, Method::UntypedRetype, &[Kind::Endpoint as u64, 0, 1]);
    answers(confined, more.receive_into(TABLE_SLOTS - 1), Error::SlotOccupied)?;
    answers(confined, more.receive_into(TABLE_SLOTS), Error::InvalidSlot)?;
    equal!(MEMORY.info()?.pages_used, before);
    let _: Frame = case.make_sized(16)?;
    Ok(())
}

fn time_can_not_be_made(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    let (memory, context): (Untyped, SchedContext) = (case.make_sized(8)?, case.context(0)?);
    core(0).limit(context, 1_000_000, 100_000_000, false)?;
    confined.give(confined.hands.context, 20, Rights::ALL)?;
    confined.give(context, 21, Rights::READ)?;
    confined.hand_over(memory, FREE)?;
    let retype = Ask::method(FREE, Method::UntypedRetype, &[Kind::SchedContext as u64, 0, 1]).receive_into(30);
    answers(confined, retype, Error::InvalidSlot)?;
    for (pass, expected) in [(OWN_TABLE, Error::WrongKind), (20, Error::WrongKind), (40, Error::EmptySlot)] {
        answers(confined, retype.with(pass), expected)?;
    }
    // A thread of its own has no time, and its context is taken.
    confined.invoke(Ask::method(FREE, Method::UntypedRetype, &[Kind::Thread as u64, 0, 1]).receive_into(31))??;
    confined.invoke(Ask::method(31, Method::ThreadSetTable, &[]).with(OWN_TABLE))??;
    confined.invoke(Ask::method(31, Method::ThreadSetSpace, &[]).with(OWN_SPACE))??;
    answers(confined, Ask::method(31, Method::ThreadStart, &[CODE]), Error::NotRunnable)?;
    answers(confined, Ask::method(31, Method::ThreadSetContext, &[]).with(20), Error::Busy)?;
    answers(confined, Ask::method(31, Method::ThreadSetContext, &[]).with(21), Error::MissingRights)?;
    // Nothing that it has lifts a limit.
    for target in [20, 21, OWN_TABLE, 31] {
        answers(confined, Ask::method(target, Method::SchedControlLimit, &[0; 3]).with(20), Error::InvalidMethod)?;
    }
    equal!(context.info()?.budget_ns, 1_000_000);
    Ok(())
}

fn priorities_can_not_be_raised(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    confined.hands.thread.set_priority(LOW, LOW + 10)?;
    confined.give(confined.hands.thread, FREE, Rights::ALL)?;
    for words in [[255, 0], [0, 255], [u64::from(LOW) + 11, 0], [0, u64::from(NORMAL)]] {
        answers(confined, Ask::method(FREE, Method::ThreadSetPriority, &words), Error::MissingRights)?;
    }
    confined.invoke(Ask::method(FREE, Method::ThreadSetPriority, &[u64::from(LOW) + 10, 0]))??;
    // Having given its ceiling away, it gets it back from nobody.
    answers(confined, Ask::method(FREE, Method::ThreadSetPriority, &[1, 1]), Error::MissingRights)?;
    let info = confined.hands.thread.info()?;
    equal!((info.priority, info.ceiling), (LOW + 10, 0));
    Ok(())
}

/// Checks that this thread has at least half of core 0 now and then: what it computes in the time that passes.
fn has_half_of_the_core(limit: SchedContext) -> Outcome {
    let mut share = 0;
    for _ in 0..ROUNDS {
        let used = || WORKER_CONTEXT.info().map(|info| info.used_ns);
        let (start, before) = (now(), used()?);
        spin_until(200, || false);
        share = (used()? - before) * 100 / (now() - start);
        if share >= 50 {
            return Ok(());
        }
    }
    Err(Failure::new(format_args!("{share} % are left; it used {} ns", limit.info()?.used_ns)))
}

fn the_highest_priority_gets_no_more_than_its_budget(case: &mut Case) -> Outcome {
    let confined = case.confined(0)?;
    core(0).limit(confined.hands.context, 20_000_000, 100_000_000, false)?;
    confined.hands.thread.set_priority(HIGH, 255)?;
    confined.give(confined.hands.thread, FREE, Rights::ALL)?;
    confined.give(confined.hands.context, FREE + 1, Rights::READ)?;
    confined.invoke(Ask::method(FREE, Method::ThreadSetPriority, &[255, 255]))??;
    confined.hands.order(Order::Count, REGISTERS, 0)?;
    has_half_of_the_core(confined.hands.context)?;
    check!(confined.hands.context.info()?.used_ns > 1_000_000, "it never ran");
    Ok(())
}

fn starting_again_and_again_makes_no_time(case: &mut Case) -> Outcome {
    // Whoever starts a thread again, and gives it its context again: the budget is the context's.
    let confined = case.confined(0)?;
    core(0).limit(confined.hands.context, 20_000_000, 100_000_000, false)?;
    confined.hands.thread.set_priority(255, 255)?;
    confined.hands.order(Order::Count, REGISTERS, 0)?;
    let context = confined.hands.context;
    for _ in 0..1000 {
        confined.hands.thread.set_context(None)?;
        confined.hands.thread.suspend()?;
        confined.hands.thread.set_context(Some(context))?;
        confined.hands.thread.resume()?;
    }
    has_half_of_the_core(context)
}
