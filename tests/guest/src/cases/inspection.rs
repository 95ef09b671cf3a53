//! What one is told of threads and pages, and threads' registers from outside.

use core::sync::atomic::Ordering;

use anos::abi::PAGE_SIZE;
use anos::abi::object::{Method, ThreadState};
use anos::abi::syscall::FOREVER;
use anos::capability::{
    AddressSpace, CapTable, Capability, Debug, Endpoint, Frame, PageTable, Reply, StartState, Thread, Untyped, invoke,
};
use anos::{Error, Kind, Message, Rights, env};

use super::cases;
use super::ipc::{at, number, words};
use super::threads::count_for_ever;
use crate::arch;
use crate::case::{Case, SPACE, TABLE, count, shared, shared_value, spin, to_usize};
use crate::check::{Outcome, check, equal};
use crate::helper::{HIGH, LOW};
use crate::supervisor::DEBUG;

cases![
    a_page_tells_the_kind_of_its_objects,
    a_page_tells_where_it_is_loaded on 2,
    a_page_forgets_what_was_in_it,
    addresses_that_are_no_memory_are_refused,
    a_thread_s_page_tells_its_name_and_state,
    a_name_can_be_given_again_and_taken_away,
    a_waiting_thread_s_page_tells_what_it_waits_on,
    only_a_thread_s_page_tells_of_a_thread,
    names_take_write_and_pages_take_read,
    a_stopped_thread_s_registers_are_what_was_written,
    registers_past_the_last_are_refused_or_zero,
    a_ready_thread_s_registers_are_its_own,
    a_waiting_thread_s_registers_can_be_read_but_not_written,
    a_thread_goes_on_with_the_registers_it_was_given,
    registers_that_a_system_call_left_are_zero_until_they_are_written,
    registers_take_read_and_write,
];

/// Memory of a case's own, and its first page.
fn memory(case: &mut Case, pages: u64) -> Result<(Untyped, u64), Error> {
    let memory: Untyped = case.make_sized(pages)?;
    Ok((memory, memory.info()?.address))
}

fn a_page_tells_the_kind_of_its_objects(case: &mut Case) -> Outcome {
    let (memory, start) = memory(case, 16)?;
    let kinds = [
        (Kind::Thread, 0),
        (Kind::Endpoint, 0),
        (Kind::CapTable, 64),
        (Kind::Reply, 0),
        (Kind::PageTable, 0),
        (Kind::Notification, 0),
        (Kind::AddressSpace, 0),
        (Kind::Frame, 1),
    ];
    for (page, (kind, size)) in (0..).zip(kinds) {
        memory.retype(kind, size, 1, case.slot())?;
        for offset in [0, 64, PAGE_SIZE - 1] {
            let found = DEBUG.page(start + page * PAGE_SIZE + offset)?;
            // This core made it.
            equal!((found.kind, found.homes, found.loaded), (kind, 1, 0));
        }
    }
    Ok(())
}

fn a_page_tells_where_it_is_loaded(case: &mut Case) -> Outcome {
    let (memory, start) = memory(case, 1)?;
    let space: AddressSpace = memory.make(0, case.slot())?;
    equal!(DEBUG.page(start)?.loaded, 0);
    let hands = case.hands_in(space, 1)?;
    let window = case.window(1)?;
    let frame = case.copy(window.frame, Rights::ALL)?;
    case.map(frame, space, 0x40_0000, crate::case::READ_WRITE)?;
    hands.order(crate::hands::Order::Count, 0x40_0000, 0)?;
    check!(spin(|| window.read(0) > 0), "it does not run");
    let found = DEBUG.page(start)?;
    equal!((found.loaded, found.homes & 2), (2, 2));
    hands.thread.suspend()?;
    check!(spin(|| DEBUG.page(start).is_ok_and(|page| page.loaded == 0)), "an idle core has it loaded");
    Ok(())
}

fn a_page_forgets_what_was_in_it(case: &mut Case) -> Outcome {
    let (memory, start) = memory(case, 2)?;
    let slot = case.slot();
    for kind in [Kind::Thread, Kind::Endpoint, Kind::AddressSpace, Kind::PageTable, Kind::Thread] {
        memory.retype(kind, 0, 1, slot)?;
        equal!(DEBUG.page(start)?.kind, kind);
        TABLE.revoke(memory.slot())?;
    }
    Ok(())
}

fn addresses_that_are_no_memory_are_refused(_: &mut Case) -> Outcome {
    for address in [1 << 40, u64::MAX, u64::MAX - PAGE_SIZE, 1 << 63] {
        equal!(DEBUG.page(address), Err(Error::InvalidArgument));
        equal!(DEBUG.thread(address).map(|_| ()), Err(Error::InvalidArgument));
    }
    Ok(())
}

fn a_thread_s_page_tells_its_name_and_state(case: &mut Case) -> Outcome {
    let (memory, start) = memory(case, 1)?;
    let thread: Thread = memory.make(0, case.slot())?;
    let fresh = DEBUG.thread(start)?;
    equal!((fresh.name.as_str(), fresh.state, fresh.priority), ("", ThreadState::Stopped, 0));
    DEBUG.name(thread, "a thread with a name of 32 bytes")?;
    thread.set_priority(123, 200)?;
    case.move_to(thread, env::cores() - 1)?;
    // Any address in the page will do.
    let found = DEBUG.thread(start + 4000)?;
    equal!((found.name.as_str(), found.priority), ("a thread with a name of 32 bytes", 123));
    equal!((u64::from(found.core), found.waits_on, found.cpu_time_ns), (env::cores() - 1, 0, 0));
    Ok(())
}

fn a_name_can_be_given_again_and_taken_away(case: &mut Case) -> Outcome {
    let (memory, start) = memory(case, 1)?;
    let thread: Thread = memory.make(0, case.slot())?;
    for name in ["first", "the second is longer", "3", "", "μ-kernel"] {
        DEBUG.name(thread, name)?;
        equal!(DEBUG.thread(start)?.name.as_str(), name);
    }
    // A name belongs to the thread, not to the page.
    TABLE.revoke(memory.slot())?;
    let _: Thread = memory.make(0, case.slot())?;
    equal!(DEBUG.thread(start)?.name.as_str(), "");
    Ok(())
}

fn a_waiting_thread_s_page_tells_what_it_waits_on(case: &mut Case) -> Outcome {
    let (own, start) = memory(case, 1)?;
    let endpoint: Endpoint = own.make(0, case.slot())?;
    let (threads, page) = memory(case, 1)?;
    let thread: Thread = threads.make(0, case.slot())?;
    let window = case.window(1)?;
    thread.set_table(TABLE)?;
    thread.set_space(SPACE)?;
    case.move_to(thread, 0)?;
    thread.set_priority(HIGH, HIGH)?;
    let receive = anos::abi::Operation::new(anos::abi::SystemCall::Recv, endpoint.slot().number()).0;
    thread.start(&StartState {
        program_counter: arch::wait_once as *const () as u64,
        stack_pointer: window.address,
        thread_pointer: 0,
        arguments: [receive, FOREVER],
    })?;
    let found = DEBUG.thread(page)?;
    equal!((found.state, found.waits_on), (ThreadState::Receiving, start));
    equal!(found.program_counter, thread.info()?.program_counter);
    endpoint.send(&Message::OK, None, FOREVER)?;
    equal!((DEBUG.thread(page)?.state, DEBUG.thread(page)?.waits_on), (ThreadState::Stopped, 0));
    Ok(())
}

fn only_a_thread_s_page_tells_of_a_thread(case: &mut Case) -> Outcome {
    let (memory, start) = memory(case, 8)?;
    let _: Endpoint = memory.make(0, case.slot())?;
    let _: CapTable = memory.make(64, case.slot())?;
    let _: PageTable = memory.make(0, case.slot())?;
    let _: Frame = memory.make(1, case.slot())?;
    let _: Reply = memory.make(0, case.slot())?;
    for page in 0..5 {
        equal!(DEBUG.thread(start + page * PAGE_SIZE).map(|_| ()), Err(Error::InvalidArgument));
    }
    Ok(())
}

fn names_take_write_and_pages_take_read(case: &mut Case) -> Outcome {
    let (memory, start) = memory(case, 1)?;
    let thread: Thread = memory.make(0, case.slot())?;
    let (reader, writer): (Debug, Debug) = (case.copy(DEBUG, Rights::READ)?, case.copy(DEBUG, Rights::WRITE)?);
    equal!(reader.name(thread, "x"), Err(Error::MissingRights));
    equal!(writer.page(start), Err(Error::MissingRights));
    equal!(writer.thread(start).map(|_| ()), Err(Error::MissingRights));
    equal!((writer.name(thread, "y"), reader.thread(start)?.name.as_str()), (Ok(()), "y"));
    let onlooker = case.copy(thread, Rights::READ)?;
    equal!(writer.name(onlooker, "z"), Err(Error::MissingRights));
    Ok(())
}

/// Registers that a thread's record holds.
const RECORD: u64 = 40;
/// Numbers of the program counter, the stack pointer and the thread pointer: those have bounds.
const BOUNDED: core::ops::Range<u64> = 13..16;

/// Those of any content: the words and the other roles.
const FREE: u64 = BOUNDED.start;

fn a_stopped_thread_s_registers_are_what_was_written(case: &mut Case) -> Outcome {
    let thread: Thread = case.make()?;
    equal!(thread.read_registers(0)?, [0; 8]);
    let values: [u64; to_usize(FREE)] = core::array::from_fn(|n| 0x1111_0000_0000_0000 + n as u64);
    thread.write_registers(0, &values)?;
    thread.write_registers(BOUNDED.start, &[0x40_0000, 0x50_0000, 0x60_0000])?;
    for first in 0..FREE {
        let expected = core::array::from_fn(|n| match first + n as u64 {
            13 => 0x40_0000,
            14 => 0x50_0000,
            15 => 0x60_0000,
            n if n < FREE => 0x1111_0000_0000_0000 + n,
            _ => 0,
        });
        check!(thread.read_registers(first)? == expected, "from {first}: {:x?}", thread.read_registers(first)?);
    }
    // One alone changes no other.
    thread.write_registers(5, &[7])?;
    let found = thread.read_registers(4)?;
    equal!((found[0], found[1], found[2]), (values[4], 7, values[6]));
    equal!((thread.info()?.program_counter, thread.info()?.stack_pointer), (0x40_0000, 0x50_0000));
    Ok(())
}

fn registers_past_the_last_are_refused_or_zero(case: &mut Case) -> Outcome {
    let thread: Thread = case.make()?;
    thread.write_registers(0, &[1, 2, 3, 4, 5, 6])?;
    for first in [RECORD, RECORD + 1, 1 << 32, u64::MAX - 7, u64::MAX] {
        equal!(thread.read_registers(first)?, [0; 8]);
    }
    let refused = [[0, 0], [0, 7], [0, u64::MAX], [RECORD, 1], [RECORD - 1, 2], [u64::MAX, 1], [u64::MAX, u64::MAX]];
    for words in refused {
        let answer = invoke(thread.slot(), Method::ThreadWriteRegisters, &words, None, None);
        check!(answer == Err(Error::InvalidArgument), "{words:x?}: {answer:?}");
    }
    equal!(thread.read_registers(0)?, [1, 2, 3, 4, 5, 6, 0, 0]);
    Ok(())
}

fn a_ready_thread_s_registers_are_its_own(case: &mut Case) -> Outcome {
    for on in [0, env::cores() - 1] {
        let helper = case.helper(on, LOW, count_for_ever, 0)?;
        equal!(helper.thread.read_registers(0), Err(Error::Busy));
        equal!(helper.thread.write_registers(0, &[0]), Err(Error::Busy));
        helper.thread.suspend()?;
        helper.thread.read_registers(0)?;
    }
    Ok(())
}

fn a_waiting_thread_s_registers_can_be_read_but_not_written(case: &mut Case) -> Outcome {
    fn send_words(endpoint: u64) {
        let _ = at::<Endpoint>(endpoint).send(&Message { label: 44, words: words(9) }, None, FOREVER);
    }
    let endpoint: Endpoint = case.make()?;
    let helper = case.helper(0, HIGH, send_words, number(endpoint))?;
    equal!(helper.thread.read_registers(0)?, words(9));
    equal!(helper.thread.read_registers(8)?[1], 44);
    equal!(helper.thread.write_registers(0, &[0]), Err(Error::Busy));
    equal!(endpoint.recv(None, None, FOREVER)?.message.words, words(9));
    case.join(helper)?;
    Ok(())
}

fn a_thread_goes_on_with_the_registers_it_was_given(case: &mut Case) -> Outcome {
    for on in [0, env::cores() - 1] {
        let window = case.window(1)?;
        // It doesn't run yet: this thread is more urgent.
        let helper = case.prepare(0, LOW, |_| {}, 0)?;
        case.start(helper)?;
        helper.thread.suspend()?;
        case.move_to(helper.thread, on)?;
        // Where it stores all its registers first: word 0 says where, word 1 is its task as before.
        let mut values: [u64; to_usize(FREE)] = core::array::from_fn(|n| 0x7f00 + n as u64);
        values[0] = window.address;
        values[1] = helper.thread.read_registers(1)?[0];
        helper.thread.write_registers(0, &values)?;
        helper.thread.write_registers(13, &[arch::start_probe as *const () as u64])?;
        helper.thread.resume()?;
        case.join(helper)?;
        // There the roles come first: operation, label, slots, reply, deadline, and then the words.
        for n in 0..FREE {
            let place = if n < 8 { n + 5 } else { n - 8 };
            check!(window.read(place) == values[to_usize(n)], "register {n}: {:#x}", window.read(place));
        }
    }
    Ok(())
}

fn registers_that_a_system_call_left_are_zero_until_they_are_written(case: &mut Case) -> Outcome {
    const OTHER: u64 = 16;
    /// s1, and where [`arch::start_probe`] stores it and its neighbour.
    const S1: u64 = 19;
    const STORED: u64 = 18;
    fn spin_and_send(endpoint: u64) {
        count(0);
        // The second time it has been seen.
        if shared_value(0) > 1 {
            return;
        }
        while shared_value(1) == 0 {
            count(2);
        }
        let _ = at::<Endpoint>(endpoint).send(&Message::default(), None, FOREVER);
    }
    let (window, endpoint) = (case.window(1)?, case.make()?);
    let helper = case.prepare(0, LOW, spin_and_send, number::<Endpoint>(endpoint))?;
    case.start(helper)?;
    helper.thread.suspend()?;
    let [_, task, ..] = helper.thread.read_registers(0)?;
    helper.thread.resume()?;
    // All its registers are saved when it is interrupted. Then it makes a system call, and nobody expects them any more.
    case.eventually(|| shared_value(2) > 0)?;
    case.eventually(|| shared_value(2) > 1000)?;
    shared(1).store(1, Ordering::SeqCst);
    case.eventually(|| helper.thread.info().is_ok_and(|info| info.state == ThreadState::Sending))?;
    // (On x86-64 there are no registers but those with a role, and the flags.)
    let shown = if arch::IS_PC { 1 } else { 8 };
    for first in (OTHER..RECORD).step_by(8) {
        equal!(helper.thread.read_registers(first)?[..shown], [0; 8][..shown]);
    }
    helper.thread.suspend()?;
    helper.thread.write_registers(0, &[window.address, task])?;
    helper.thread.write_registers(13, &[arch::start_probe as *const () as u64])?;
    if !arch::IS_PC {
        helper.thread.write_registers(S1, &[0x51])?;
    }
    helper.thread.resume()?;
    case.join(helper)?;
    if !arch::IS_PC {
        equal!((window.read(STORED), window.read(STORED + 1)), (0x51, 0));
    }
    Ok(())
}

fn registers_take_read_and_write(case: &mut Case) -> Outcome {
    let thread: Thread = case.make()?;
    let (reader, writer) = (case.copy(thread, Rights::READ)?, case.copy(thread, Rights::WRITE)?);
    equal!(reader.write_registers(0, &[1]), Err(Error::MissingRights));
    equal!(writer.read_registers(0), Err(Error::MissingRights));
    equal!((writer.write_registers(0, &[5]), reader.read_registers(0)?[0]), (Ok(()), 5));
    Ok(())
}
