//! Threads: start, stop, go on, and what one is told about them.

use core::sync::atomic::Ordering;

use anos::abi::object::{Method, ThreadState};
use anos::abi::syscall::FOREVER;
use anos::capability::{
    AddressSpace, CapTable, Capability, Endpoint, Notification, Slot, StartState, Thread, Untyped, invoke,
};
use anos::{Error, Rights};

use super::cases;
use super::ipc::{at, number};
use crate::arch;
use crate::case::{Case, SPACE, TABLE, count, now, shared, shared_value, spin_until};
use crate::check::{Outcome, check, equal};
use crate::hands::{Event, Order};
use crate::helper::{HIGH, LOW, NORMAL};

cases![
    a_fresh_thread_is_stopped_and_not_runnable,
    a_helper_runs_and_stops,
    a_thread_starts_once,
    a_thread_starts_in_user_space_only,
    a_stopped_thread_starts_afresh,
    info_tells_what_a_thread_does,
    a_suspended_thread_goes_on_where_it_stopped,
    a_suspended_wait_is_cancelled,
    a_thread_can_suspend_itself,
    cpu_time_grows_for_who_runs,
    the_thread_pointer_is_the_thread_s_own,
    setting_takes_write_and_info_takes_read,
    parts_must_be_of_their_kind_and_writable,
    a_running_thread_keeps_its_space,
    a_thread_uses_its_own_table,
    a_thread_without_its_space_stops,
    a_thread_without_its_table_can_name_nothing,
    a_deleted_thread_is_gone,
];

/// A helper: counts in word 0 for ever.
pub fn count_for_ever(_: u64) {
    loop {
        count(0);
    }
}

fn a_fresh_thread_is_stopped_and_not_runnable(case: &mut Case) -> Outcome {
    let thread: Thread = case.make()?;
    let info = thread.info()?;
    equal!((info.state, info.priority, info.cpu_time_ns), (ThreadState::Stopped, 0, 0));
    let start = StartState { program_counter: 0x1000, ..StartState::default() };
    equal!(thread.start(&start), Err(Error::NotRunnable));
    equal!(thread.resume(), Err(Error::NotRunnable));
    thread.set_table(TABLE)?;
    equal!(thread.start(&start), Err(Error::NotRunnable));
    equal!(thread.suspend(), Ok(()));
    Ok(())
}

fn a_helper_runs_and_stops(case: &mut Case) -> Outcome {
    let helper = case.helper(0, LOW, count, 3)?;
    case.join(helper)?;
    equal!(shared_value(3), 1);
    case.eventually(|| helper.thread.info().is_ok_and(|info| info.state == ThreadState::Stopped))
}

fn a_thread_starts_once(case: &mut Case) -> Outcome {
    let helper = case.helper(0, LOW, count_for_ever, 0)?;
    equal!(case.start(helper), Err(Error::Busy));
    equal!(helper.thread.resume(), Err(Error::Busy));
    Ok(())
}

fn a_thread_starts_in_user_space_only(case: &mut Case) -> Outcome {
    let helper = case.prepare(0, LOW, count_for_ever, 0)?;
    let end = SPACE.info()?.1;
    let with = |program_counter, stack_pointer, thread_pointer| {
        helper.thread.start(&StartState { program_counter, stack_pointer, thread_pointer, arguments: [0; 2] })
    };
    for wrong in [end, end + 8, 1 << 63, u64::MAX] {
        equal!(with(wrong, 0, 0), Err(Error::InvalidArgument));
        equal!(with(0, 0, wrong), Err(Error::InvalidArgument));
    }
    equal!(with(0, u64::MAX, 0), Err(Error::InvalidArgument));
    equal!(helper.thread.info()?.state, ThreadState::Stopped);
    Ok(())
}

fn a_stopped_thread_starts_afresh(case: &mut Case) -> Outcome {
    let helper = case.helper(0, HIGH, |_| count(0), 0)?;
    for times in 1..=3 {
        equal!(shared_value(0), times);
        equal!(helper.thread.info()?.state, ThreadState::Stopped);
        case.start(helper)?;
    }
    equal!(shared_value(0), 4);
    Ok(())
}

fn info_tells_what_a_thread_does(case: &mut Case) -> Outcome {
    fn receive(endpoint: u64) {
        let _ = at::<Endpoint>(endpoint).recv(None, None, FOREVER);
    }
    fn send(endpoint: u64) {
        let _ = at::<Endpoint>(endpoint).send(&anos::Message::OK, None, FOREVER);
    }
    fn call(endpoint: u64) {
        let _ = at::<Endpoint>(endpoint).call(&anos::Message::OK);
    }
    let (first, second, third): (Endpoint, Endpoint, Endpoint) = (case.make()?, case.make()?, case.make()?);
    let receiver = case.helper(0, HIGH, receive, number(first))?;
    let sender = case.helper(0, HIGH, send, number(second))?;
    let caller = case.helper(0, HIGH, call, number(third))?;
    let ready = case.helper(0, LOW, count_for_ever, 0)?;
    equal!(receiver.thread.info()?.state, ThreadState::Receiving);
    equal!(sender.thread.info()?.state, ThreadState::Sending);
    equal!(caller.thread.info()?.state, ThreadState::Sending);
    let reply = case.make()?;
    third.recv(Some(reply), None, anos::abi::syscall::POLL)?;
    equal!(caller.thread.info()?.state, ThreadState::Calling);
    let info = ready.thread.info()?;
    equal!((info.state, info.priority, info.core, info.ceiling), (ThreadState::Ready, LOW, 0, u8::MAX));
    Ok(())
}

fn a_suspended_thread_goes_on_where_it_stopped(case: &mut Case) -> Outcome {
    let helper = case.helper(0, LOW, count_for_ever, 0)?;
    case.eventually(|| shared_value(0) != 0)?;
    helper.thread.suspend()?;
    equal!(helper.thread.info()?.state, ThreadState::Stopped);
    let stopped = shared_value(0);
    case.sleep(5)?;
    equal!(shared_value(0), stopped);
    let before = helper.thread.info()?;
    helper.thread.resume()?;
    case.eventually(|| shared_value(0) > stopped)?;
    check!(helper.thread.info()?.stack_pointer.abs_diff(before.stack_pointer) < 4096);
    Ok(())
}

fn a_suspended_wait_is_cancelled(case: &mut Case) -> Outcome {
    fn wait(notification: u64) {
        let bits = at::<Notification>(notification).wait(FOREVER);
        shared(1).store(bits.map_or_else(|error| error as u64, |_| 1000), Ordering::SeqCst);
    }
    let original: Notification = case.make()?;
    let helper = case.helper(0, HIGH, wait, number(original))?;
    helper.thread.suspend()?;
    case.mint(original, Rights::ALL, 1)?.signal()?;
    equal!(shared_value(1), 0);
    helper.thread.resume()?;
    case.join(helper)?;
    equal!(shared_value(1), Error::Cancelled as u64);
    // The bit stayed: the suspended thread did not take it.
    equal!(original.wait(anos::abi::syscall::POLL), Ok(1));
    Ok(())
}

fn a_thread_can_suspend_itself(case: &mut Case) -> Outcome {
    fn stop(own: u64) {
        count(0);
        let _ = at::<Thread>(own).suspend();
        count(0);
    }
    let helper = case.prepare(0, HIGH, stop, 0)?;
    case.set_argument(helper, helper.number())?;
    case.start(helper)?;
    equal!((shared_value(0), helper.thread.info()?.state), (1, ThreadState::Stopped));
    helper.thread.resume()?;
    case.join(helper)?;
    equal!(shared_value(0), 2);
    Ok(())
}

fn cpu_time_grows_for_who_runs(case: &mut Case) -> Outcome {
    let busy = case.helper(0, LOW, count_for_ever, 0)?;
    let idle = case.prepare(0, LOW, count_for_ever, 0)?;
    case.eventually(|| busy.thread.info().is_ok_and(|info| info.cpu_time_ns >= 5_000_000))?;
    let used = busy.thread.info()?.cpu_time_ns;
    equal!(idle.thread.info()?.cpu_time_ns, 0);
    let start = now();
    spin_until(10, || false);
    let waited = busy.thread.info()?.cpu_time_ns - used;
    check!(waited < (now() - start) / 2, "{waited} ns while another ran");
    Ok(())
}

fn the_thread_pointer_is_the_thread_s_own(case: &mut Case) -> Outcome {
    fn compare(expected: u64) {
        for _ in 0..100 {
            if arch::thread_pointer_word() == expected {
                count(0);
            }
            anos::sys::yield_now();
        }
    }
    let window = case.window(1)?;
    let mut helpers = [None; 2];
    for (n, place) in (0..).zip(&mut helpers) {
        let helper = case.prepare(0, LOW, compare, 0x1111 * (n + 1))?;
        window.write(n, 0x1111 * (n + 1));
        case.start_with_pointer(helper, window.address + 8 * n)?;
        *place = Some(helper);
    }
    case.join_all(helpers.into_iter().flatten())?;
    equal!(shared_value(0), 200);
    Ok(())
}

fn setting_takes_write_and_info_takes_read(case: &mut Case) -> Outcome {
    let thread: Thread = case.make()?;
    let (reader, writer) = (case.copy(thread, Rights::READ)?, case.copy(thread, Rights::WRITE)?);
    equal!(writer.info(), Err(Error::MissingRights));
    equal!(reader.set_table(TABLE), Err(Error::MissingRights));
    equal!(reader.set_priority(1, 1), Err(Error::MissingRights));
    equal!(reader.suspend(), Err(Error::MissingRights));
    equal!(reader.bind(None), Err(Error::MissingRights));
    equal!(writer.set_priority(7, 9), Ok(()));
    equal!((reader.info()?.priority, reader.info()?.ceiling), (7, 9));
    Ok(())
}

fn parts_must_be_of_their_kind_and_writable(case: &mut Case) -> Outcome {
    let (thread, endpoint): (Thread, Endpoint) = (case.make()?, case.make()?);
    let table: CapTable = case.make_small()?;
    let reader = case.copy(table, Rights::READ)?;
    equal!(thread.set_table(reader), Err(Error::MissingRights));
    equal!(thread.set_table(CapTable::at(endpoint.slot())), Err(Error::WrongKind));
    equal!(thread.set_space(AddressSpace::at(endpoint.slot())), Err(Error::WrongKind));
    let empty = case.slot();
    equal!(thread.set_space(AddressSpace::at(empty)), Err(Error::EmptySlot));
    let some = Rights::WRITE.union(Rights::READ);
    let no_grant = case.copy(endpoint, some)?;
    equal!(thread.set_fault_endpoint(Some(no_grant)), Err(Error::MissingRights));
    equal!(thread.set_fault_endpoint(Some(endpoint)), Ok(()));
    equal!(thread.set_fault_endpoint(None), Ok(()));
    equal!(invoke(thread.slot(), Method::ThreadSetTable, &[], None, None), Err(Error::InvalidSlot));
    Ok(())
}

fn a_running_thread_keeps_its_space(case: &mut Case) -> Outcome {
    let helper = case.helper(0, LOW, count_for_ever, 0)?;
    let space: AddressSpace = case.make()?;
    equal!(helper.thread.set_space(space), Err(Error::Busy));
    helper.thread.suspend()?;
    equal!(helper.thread.set_space(space), Ok(()));
    Ok(())
}

fn a_thread_uses_its_own_table(case: &mut Case) -> Outcome {
    // The hands' table holds one Endpoint, in slot 8; whatever else they name there is empty or no slot.
    let hands = case.hands(0)?;
    let window = case.window(1)?;
    window.write(0, 5);
    equal!(hands.read(window.address)?, Event::Done(5));
    let table: CapTable = case.make_small()?;
    hands.thread.set_table(table)?;
    // Now the slot is empty: the report fails, and the loop goes on without an order.
    hands.order(Order::Read, window.address, 0)?;
    equal!(hands.event_until(crate::case::in_ms(5))?, Err(Error::TimedOut));
    Ok(())
}

fn a_thread_without_its_space_stops(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(2)?;
    let space = AddressSpace::at(case.slot());
    memory.make::<AddressSpace>(0, space.slot())?;
    let hands = case.hands_in(space, 0)?;
    let counter = case.window(1)?;
    let shared_frame = case.copy(counter.frame, Rights::ALL)?;
    case.map(shared_frame, space, 0x80_0000, crate::case::READ_WRITE)?;
    hands.order(Order::Count, 0x80_0000, 0)?;
    case.eventually(|| counter.read(0) != 0)?;
    TABLE.revoke(memory.slot())?;
    equal!(memory.info()?.pages_used, 0);
    let stopped = counter.read(0);
    case.sleep(5)?;
    equal!((counter.read(0), hands.thread.info()?.state), (stopped, ThreadState::Stopped));
    equal!(hands.thread.resume(), Err(Error::NotRunnable));
    Ok(())
}

fn a_thread_without_its_table_can_name_nothing(case: &mut Case) -> Outcome {
    fn try_all(_: u64) {
        // Runs without a table: every call is refused, and counted. The stop at the end needs the table, too.
        for slot in 1..100 {
            if Thread::at(Slot::new(slot)).info() == Err(Error::InvalidSlot) {
                count(0);
            }
        }
        loop {
            count(1);
        }
    }
    let memory: Untyped = case.make_sized(2)?;
    let table = CapTable::at(case.slot());
    memory.make::<CapTable>(64, table.slot())?;
    let helper = case.prepare(0, LOW, try_all, 0)?;
    helper.thread.set_table(table)?;
    case.start(helper)?;
    TABLE.revoke(memory.slot())?;
    let stopped = || helper.thread.info().is_ok_and(|info| info.state == ThreadState::Stopped);
    case.eventually(|| shared_value(1) != 0 || stopped())?;
    check!(shared_value(1) == 0 || shared_value(0) == 99, "{} of 99 calls refused", shared_value(0));
    Ok(())
}

fn a_deleted_thread_is_gone(case: &mut Case) -> Outcome {
    let helper = case.helper(0, NORMAL, count_for_ever, 0)?;
    case.sleep(5)?;
    TABLE.delete(helper.thread.slot())?;
    let stopped = shared_value(0);
    case.sleep(15)?;
    equal!((shared_value(0), helper.thread.info()), (stopped, Err(Error::EmptySlot)));
    Ok(())
}
