//! Faults: what a thread did wrong becomes a message, and the answer decides what becomes of the thread.

use anos::abi::PAGE_SIZE;
use anos::abi::fault::FaultKind;
use anos::abi::object::ThreadState;
use anos::abi::syscall::POLL;
use anos::capability::{AddressSpace, Endpoint, Frame, StartState};
use anos::{Error, Rights};

use super::cases;
use crate::arch;
use crate::case::{Case, READ_EXECUTE, READ_WRITE, SPACE, TABLE, counters};
use crate::check::{Failure, Outcome, check, equal};
use crate::hands::{CODE, Event, Fault, Hands, Order, page};

cases![
    reading_null_faults,
    writing_null_faults,
    jumping_to_null_faults,
    writing_read_only_memory_faults,
    writing_code_faults,
    executing_data_faults,
    the_kernel_s_memory_can_not_be_read,
    the_kernel_s_memory_can_not_be_written,
    the_kernel_s_memory_can_not_be_jumped_to,
    impossible_addresses_fault,
    an_illegal_instruction_faults,
    a_privileged_instruction_faults,
    the_machine_is_out_of_a_program_s_reach,
    exact_counters_are_closed,
    no_code_segment_leads_out_of_64_bit_mode,
    a_breakpoint_faults,
    dividing_by_zero_is_what_the_processor_says,
    a_stack_overflow_hits_the_guard,
    a_fault_tells_where_and_with_which_stack,
    the_handler_can_map_the_page_and_resume,
    the_handler_can_refuse,
    a_stopped_thread_can_start_again,
    resuming_a_faulted_thread_tries_again,
    a_thread_without_handler_stops,
    a_handler_that_ends_stops_the_thread,
    a_deleted_fault_endpoint_stops_the_thread,
    a_fault_waits_for_its_handler,
    faults_of_many_threads_come_one_by_one,
    faults_are_counted,
    a_faulting_thread_leaves_others_alone on 2,
];

/// Waits until the hands are in this state.
fn becomes(case: &mut Case, hands: Hands, state: ThreadState) -> Outcome {
    case.eventually(|| hands.thread.info().is_ok_and(|info| info.state == state))
}

fn fault_of(hands: Hands, order: Order, address: u64, kind: FaultKind) -> Outcome<Fault> {
    let fault = hands.fault(order, address)?;
    check!(fault.kind == kind, "{:?} of {address:#x}: {:?} at {:#x}", order, fault.kind, fault.address);
    Ok(fault)
}

fn reading_null_faults(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    equal!(fault_of(hands, Order::Read, 0, FaultKind::Read)?.address, 0);
    hands.again()?;
    equal!(fault_of(hands, Order::Read, 0xff8, FaultKind::Read)?.address, 0xff8);
    Ok(())
}

fn writing_null_faults(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    equal!(fault_of(hands, Order::Write, 8, FaultKind::Write)?.address, 8);
    Ok(())
}

fn jumping_to_null_faults(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let fault = fault_of(hands, Order::Jump, 0, FaultKind::Execute)?;
    equal!((fault.address, fault.program_counter), (0, 0));
    Ok(())
}

fn writing_read_only_memory_faults(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let address = anos::abi::boot::BOOT_INFO_ADDRESS + 16;
    equal!(fault_of(hands, Order::Write, address, FaultKind::Write)?.address, address);
    Ok(())
}

fn writing_code_faults(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    equal!(fault_of(hands, Order::Write, hands.code, FaultKind::Write)?.address, hands.code);
    Ok(())
}

fn executing_data_faults(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let window = case.window(1)?;
    let fault = fault_of(hands, Order::Jump, window.address + 16, FaultKind::Execute)?;
    equal!((fault.address, fault.program_counter), (window.address + 16, window.address + 16));
    hands.again()?;
    // Read-only data is no code either.
    fault_of(hands, Order::Jump, anos::abi::boot::BOOT_INFO_ADDRESS, FaultKind::Execute)?;
    Ok(())
}

/// Addresses in the kernel's half: where main memory is seen from, and where the kernel is linked.
fn kernel_addresses() -> [u64; 5] {
    // The upper half begins as far below the end as user space ends above 0, on RISC-V. On x86-64 both have 47 bits.
    let window = SPACE.info().map_or(0, |(_, end)| end.next_power_of_two().wrapping_neg());
    let image: u64 = 0xffff_ffff_8000_0000;
    [window + 0x8020_0000, window + 0x10_0000, image + 0x20_0000, image + 0x8020_0000 % 0x4000_0000, u64::MAX - 7]
}

fn kernel_is_closed(case: &mut Case, order: Order, kind: FaultKind) -> Outcome {
    let hands = case.hands(0)?;
    for address in kernel_addresses() {
        let fault = fault_of(hands, order, address, kind)?;
        equal!(fault.address, address);
        hands.again()?;
    }
    Ok(())
}

fn the_kernel_s_memory_can_not_be_read(case: &mut Case) -> Outcome {
    kernel_is_closed(case, Order::Read, FaultKind::Read)
}

fn the_kernel_s_memory_can_not_be_written(case: &mut Case) -> Outcome {
    kernel_is_closed(case, Order::Write, FaultKind::Write)
}

fn the_kernel_s_memory_can_not_be_jumped_to(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    for address in kernel_addresses() {
        let fault = fault_of(hands, Order::Jump, page(address), FaultKind::Execute)?;
        equal!(fault.program_counter, page(address));
        hands.again()?;
    }
    Ok(())
}

fn impossible_addresses_fault(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    for address in [SPACE.info()?.1, 0x8000_0000_0000_0000, 0x7fff_ffff_ffff_fff8, 0x0123_4567_89ab_cdef & !7] {
        for order in [Order::Read, Order::Write, Order::Jump] {
            // Which kind of fault is the processor's choice.
            hands.fault(order, address)?;
            hands.again()?;
        }
    }
    Ok(())
}

fn an_illegal_instruction_faults(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let fault = fault_of(hands, Order::Illegal, 0, FaultKind::IllegalInstruction)?;
    let length = arch::hands_code().len() as u64;
    check!((hands.code..hands.code + length).contains(&fault.program_counter));
    Ok(())
}

fn a_privileged_instruction_faults(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let fault = hands.fault(Order::Privileged, 0)?;
    // x86-64 calls it a general protection fault, which can be other things, too.
    check!(matches!(fault.kind, FaultKind::IllegalInstruction | FaultKind::Other), "{:?}", fault.kind);
    Ok(())
}

/// They would tell a program how long others took, to the instruction: only a system that measures opens them.
fn exact_counters_are_closed(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let fault = hands.fault(Order::Counter, 0)?;
    check!(matches!(fault.kind, FaultKind::IllegalInstruction | FaultKind::Other), "{:?}", fault.kind);
    Ok(())
}

fn the_machine_is_out_of_a_program_s_reach(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    // The serial port's scratch register, of which this program could get a capability.
    let fault = hands.fault(Order::Machine, 0x3ff)?;
    check!(matches!(fault.kind, FaultKind::IllegalInstruction | FaultKind::Other), "{:?}", fault.kind);
    Ok(())
}

/// x86-64 code: jumps to the selector in word 2, and makes a system call behind that.
/// `lea rax, [rip + 9]; push rax; mov [rsp + 4], r12d; jmp fword ptr [rsp]; 2: syscall; jmp 2b`
const FAR_JUMP: [u64; 3] = [0x5000_0000_0905_8d48, 0x242c_ff04_2464_8944, 0x0000_0000_fceb_050f];
/// Offset of its far jump.
const FAR_JUMP_OFFSET: u64 = 13;
/// Descriptor of a user's code segment of 32 bits.
const CODE_32_BITS: u64 = 0x00cf_fb00_0000_ffff;
/// Every selector of the kernel's table but that of 64-bit code, one past its end, and some of a local table (bit 2).
const OTHER_SELECTORS: [u64; 16] =
    [0, 3, 0x08, 0x0b, 0x10, 0x13, 0x18, 0x1b, 0x20, 0x23, 0x33, 0x3b, 0x43, 0x07, 0x0f, 0xffff];

fn no_code_segment_leads_out_of_64_bit_mode(case: &mut Case) -> Outcome {
    /// Low addresses, as 32-bit code can use them. Where a local table is if nobody says otherwise: at 0.
    const FAR: u64 = 0x40_0000;
    const STACK: u64 = 0x50_0000;
    if !arch::IS_PC {
        return Ok(());
    }
    let space: AddressSpace = case.make()?;
    case.hands_in(space, 0)?;
    for (address, rights, content) in
        [(FAR, READ_EXECUTE, FAR_JUMP), (STACK, READ_WRITE, [0; 3]), (0, READ_WRITE, [CODE_32_BITS; 3])]
    {
        let window = case.window(1)?;
        (0..512).zip(content.into_iter().cycle()).for_each(|(place, word)| window.write(place, word));
        let copy = case.copy(window.frame, Rights::ALL)?;
        case.map(copy, space, address, rights)?;
    }
    let hands = case.hands_at(space, CODE, 0, STACK + PAGE_SIZE)?;
    for selector in OTHER_SELECTORS {
        let Event::Fault(fault) = hands.go(Order::Jump, FAR, selector)? else {
            return Err(Failure::new(format_args!("selector {selector:#x} is one of code")));
        };
        let told = (fault.kind, fault.address, fault.program_counter);
        check!(told == (FaultKind::IllegalInstruction, 0, FAR + FAR_JUMP_OFFSET), "{selector:#x}: {fault:x?}");
        hands.leave()?;
        hands.start(STACK + PAGE_SIZE)?;
    }
    Ok(())
}

fn a_breakpoint_faults(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    fault_of(hands, Order::Breakpoint, 0, FaultKind::Breakpoint)?;
    Ok(())
}

fn dividing_by_zero_is_what_the_processor_says(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    equal!(hands.go(Order::Divide, 91, 7)?, Event::Done(13));
    match hands.go(Order::Divide, 91, 0)? {
        Event::Fault(fault) => {
            check!(arch::DIVISION_FAULTS, "RISC-V divides by zero without a fault");
            equal!(fault.kind, FaultKind::Arithmetic);
        }
        Event::Done(value) => {
            check!(!arch::DIVISION_FAULTS, "x86-64 faults on dividing by zero");
            equal!(value, u64::MAX);
        }
    }
    Ok(())
}

fn a_stack_overflow_hits_the_guard(case: &mut Case) -> Outcome {
    let stack = case.window(2)?;
    let code = &raw const arch::hands_start as u64;
    let hands = case.hands_at(SPACE, code, 0, stack.address + 2 * PAGE_SIZE)?;
    let fault = fault_of(hands, Order::Push, 0, FaultKind::Write)?;
    equal!(fault.address, stack.address - 8);
    check!(stack.address - fault.stack_pointer <= 8);
    Ok(())
}

fn a_fault_tells_where_and_with_which_stack(case: &mut Case) -> Outcome {
    let code = &raw const arch::hands_start as u64;
    let hands = case.hands_at(SPACE, code, 0, 0x12_3450)?;
    let fault = fault_of(hands, Order::Read, 0x1_0000, FaultKind::Read)?;
    let length = arch::hands_code().len() as u64;
    check!((code..code + length).contains(&fault.program_counter), "at {:#x}", fault.program_counter);
    equal!((fault.address, fault.stack_pointer), (0x1_0000, 0x12_3450));
    let info = hands.thread.info()?;
    equal!((info.program_counter, info.stack_pointer), (fault.program_counter, 0x12_3450));
    equal!(info.state, ThreadState::Faulted);
    Ok(())
}

fn the_handler_can_map_the_page_and_resume(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let frame: Frame = case.make_small()?;
    let window = case.window_of(frame)?;
    window.write(3, 0xcafe);
    let copy = case.copy(frame, Rights::ALL)?;
    let address = case.free_address();
    fault_of(hands, Order::Read, address + 24, FaultKind::Read)?;
    case.map(copy, SPACE, address, Rights::READ)?;
    hands.retry()?;
    equal!(hands.event()?, Event::Done(0xcafe));
    // And from read-only to writable.
    fault_of(hands, Order::Write, address + 24, FaultKind::Write)?;
    copy.unmap()?;
    case.map(copy, SPACE, address, READ_WRITE)?;
    hands.retry()?;
    equal!((hands.event()?, window.read(3)), (Event::Done(0), 0));
    Ok(())
}

fn the_handler_can_refuse(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    fault_of(hands, Order::Read, 0, FaultKind::Read)?;
    hands.leave()?;
    equal!(hands.thread.info()?.state, ThreadState::Stopped);
    equal!(hands.leave(), Err(Error::PeerDied));
    Ok(())
}

fn a_stopped_thread_can_start_again(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    for _ in 0..50 {
        fault_of(hands, Order::Read, 0, FaultKind::Read)?;
        hands.again()?;
    }
    Ok(())
}

fn resuming_a_faulted_thread_tries_again(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let first = fault_of(hands, Order::Read, 0x2000, FaultKind::Read)?;
    hands.thread.suspend()?;
    equal!(hands.retry(), Err(Error::PeerDied));
    hands.thread.resume()?;
    equal!(hands.event()?, Event::Fault(first));
    Ok(())
}

fn a_thread_without_handler_stops(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    hands.thread.set_fault_endpoint(None)?;
    hands.order(Order::Read, 0, 0)?;
    becomes(case, hands, ThreadState::Stopped)?;
    equal!(hands.event_until(POLL)?, Err(Error::TimedOut));
    hands.start(0)
}

fn a_handler_that_ends_stops_the_thread(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    fault_of(hands, Order::Read, 0, FaultKind::Read)?;
    TABLE.delete(anos::capability::Capability::slot(hands.reply))?;
    equal!(hands.thread.info()?.state, ThreadState::Stopped);
    Ok(())
}

fn a_deleted_fault_endpoint_stops_the_thread(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let (faults, code): (Endpoint, u64) = (case.make()?, hands.code);
    hands.thread.suspend()?;
    hands.thread.set_fault_endpoint(Some(faults))?;
    // Its fault waits at the Endpoint, then the Endpoint ends; later it has no handler at all.
    for state in [ThreadState::Sending, ThreadState::Stopped] {
        hands.thread.start(&StartState { program_counter: code, ..StartState::default() })?;
        equal!(hands.event()?, Event::Done(0));
        hands.order(Order::Read, 0, 0)?;
        becomes(case, hands, state)?;
        TABLE.revoke(anos::capability::Capability::slot(faults))?;
        TABLE.delete(anos::capability::Capability::slot(faults))?;
        equal!(hands.thread.info()?.state, ThreadState::Stopped);
    }
    Ok(())
}

fn a_fault_waits_for_its_handler(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    hands.order(Order::Read, 0, 0)?;
    becomes(case, hands, ThreadState::Sending)?;
    // A handler that can't answer leaves the thread stopped.
    equal!(hands.endpoint.recv(None, None, POLL)?.status.is_answerable(), false);
    equal!(hands.thread.info()?.state, ThreadState::Stopped);
    Ok(())
}

fn faults_of_many_threads_come_one_by_one(case: &mut Case) -> Outcome {
    let mut all = [None; 8];
    for place in &mut all {
        *place = Some(case.hands(0)?);
    }
    for (n, hands) in (1..).zip(all.into_iter().flatten()) {
        hands.order(Order::Read, n * PAGE_SIZE, 0)?;
    }
    for (n, hands) in (1..).zip(all.into_iter().flatten()) {
        match hands.event()? {
            Event::Fault(fault) => equal!((fault.kind, fault.address), (FaultKind::Read, n * PAGE_SIZE)),
            Event::Done(value) => check!(false, "hands {n} read {value:#x}"),
        }
    }
    Ok(())
}

fn faults_are_counted(case: &mut Case) -> Outcome {
    let hands = case.hands(0)?;
    let before = counters()?.faults;
    for _ in 0..10 {
        fault_of(hands, Order::Read, 0, FaultKind::Read)?;
        hands.again()?;
    }
    equal!(counters()?.faults - before, 10);
    Ok(())
}

fn a_faulting_thread_leaves_others_alone(case: &mut Case) -> Outcome {
    let space: AddressSpace = case.make()?;
    let calm = case.hands_in(space, 0)?;
    let wild = case.hands_at(space, CODE, 1, 0)?;
    let frame: Frame = case.make_small()?;
    case.map(frame, space, 0x40_0000, READ_WRITE)?;
    for n in 0..100 {
        wild.order(Order::Jump, 8 * n, 0)?;
        equal!(calm.write(0x40_0000, n)?, Event::Done(0));
        equal!(calm.read(0x40_0000)?, Event::Done(n));
        match wild.event()? {
            Event::Fault(fault) => equal!((fault.kind, fault.address), (FaultKind::Execute, 8 * n)),
            Event::Done(value) => check!(false, "done: {value:#x}"),
        }
        wild.again()?;
    }
    Ok(())
}
