//! Address spaces: what is mapped where, with which rights, and that it is gone when it is.

use anos::abi::PAGE_SIZE;
use anos::abi::fault::FaultKind;
use anos::abi::object::Method;
use anos::capability::{AddressSpace, Capability, Endpoint, Frame, PageTable, Untyped, invoke};
use anos::{Error, Rights, env};

use super::cases;
use crate::case::{Case, READ_EXECUTE, READ_WRITE, SPACE, TABLE, counters};
use crate::check::{Outcome, check, equal};
use crate::hands::{Event, Fault, Hands, Order};

cases![
    a_mapped_frame_holds_what_is_written,
    an_uncached_frame_holds_what_is_written,
    an_unmapped_frame_faults,
    a_frame_keeps_its_content_when_it_moves,
    a_frame_of_many_pages_maps_as_one,
    a_missing_table_is_told,
    a_frame_is_mapped_once,
    a_place_is_taken_once,
    writable_and_executable_is_refused,
    a_mapping_has_no_more_rights_than_its_frame,
    addresses_outside_user_space_are_refused,
    a_frame_fits_into_one_table,
    mapping_takes_a_space_to_write_to,
    unmapping_what_is_not_mapped_is_refused,
    deleting_a_frame_unmaps_it,
    a_copy_is_mapped_by_itself,
    a_large_frame_maps_as_one_page,
    a_large_page_does_not_hide_a_table,
    a_table_has_a_level_and_a_place,
    a_table_takes_what_it_maps_with_it,
    a_frame_survives_its_table,
    two_spaces_hold_different_memory,
    two_spaces_share_a_frame,
    a_new_space_is_empty,
    a_frame_survives_its_space,
    unmapping_reaches_other_cores on 2,
    a_shootdown_is_counted on 2,
    deleting_a_table_reaches_other_cores on 2,
    mapping_less_reaches_other_cores on 2,
];

/// The fault of reading what is not mapped.
fn is_unmapped(hands: Hands, address: u64) -> Outcome {
    let fault = hands.fault(Order::Read, address)?;
    equal!((fault.kind, fault.address), (FaultKind::Read, address));
    hands.again()
}

fn a_mapped_frame_holds_what_is_written(case: &mut Case) -> Outcome {
    let window = case.window(2)?;
    for word in [0, 1, 511, 512, 1023] {
        window.write(word, word * 0x1_0001);
        equal!(window.read(word), word * 0x1_0001);
    }
    equal!(window.frame.info()?.address, window.address);
    equal!(crate::case::look(window.frame.slot())?.in_use, true);
    Ok(())
}

fn an_uncached_frame_holds_what_is_written(case: &mut Case) -> Outcome {
    let window = case.window(1)?;
    window.frame.unmap()?;
    window.frame.map(SPACE, window.address, READ_WRITE, true)?;
    window.write(7, 0x77);
    equal!(window.read(7), 0x77);
    Ok(())
}

fn an_unmapped_frame_faults(case: &mut Case) -> Outcome {
    let window = case.window(1)?;
    let hands = case.hands(0)?;
    window.write(0, 7);
    equal!(hands.read(window.address)?, Event::Done(7));
    window.frame.unmap()?;
    is_unmapped(hands, window.address)?;
    equal!(window.frame.info()?.address, 0);
    Ok(())
}

fn a_frame_keeps_its_content_when_it_moves(case: &mut Case) -> Outcome {
    let window = case.window(3)?;
    (0..3).for_each(|page| window.write(page * 512 + 5, 100 + page));
    window.frame.unmap()?;
    let moved = case.window_of(window.frame)?;
    check!(moved.address != window.address);
    for page in 0..3 {
        equal!(moved.read(page * 512 + 5), 100 + page);
    }
    Ok(())
}

fn a_frame_of_many_pages_maps_as_one(case: &mut Case) -> Outcome {
    let window = case.window(64)?;
    (0..64).for_each(|page| window.write(page * 512, page + 1));
    check!((0..64).all(|page| window.read(page * 512) == page + 1));
    let hands = case.hands(0)?;
    is_unmapped(hands, window.address + 64 * PAGE_SIZE)?;
    is_unmapped(hands, window.address - 8)?;
    window.frame.unmap()?;
    is_unmapped(hands, window.address)?;
    is_unmapped(hands, window.address + 63 * PAGE_SIZE)
}

fn a_missing_table_is_told(case: &mut Case) -> Outcome {
    let (space, frame): (AddressSpace, Frame) = (case.make()?, case.make_small()?);
    equal!(frame.map(space, 0x40_0000, READ_WRITE, false), Err(Error::MissingTable));
    let levels = SPACE.info()?.0;
    for _ in 1..levels {
        equal!(frame.map(space, 0x40_0000, READ_WRITE, false), Err(Error::MissingTable));
        case.add_table(space, 0x40_0000)?;
    }
    equal!(frame.map(space, 0x40_0000, READ_WRITE, false), Ok(()));
    Ok(())
}

fn a_frame_is_mapped_once(case: &mut Case) -> Outcome {
    let window = case.window(1)?;
    let other = window.address + PAGE_SIZE;
    equal!(window.frame.map(SPACE, other, READ_WRITE, false), Err(Error::AlreadyMapped));
    let hands = case.hands(0)?;
    is_unmapped(hands, other)
}

fn a_place_is_taken_once(case: &mut Case) -> Outcome {
    let window = case.window(4)?;
    window.write(2 * 512, 9);
    let (small, large): (Frame, Frame) = (case.make_sized(1)?, case.make_sized(4)?);
    let third = window.address + 2 * PAGE_SIZE;
    equal!(small.map(SPACE, third, READ_WRITE, false), Err(Error::AlreadyMapped));
    // Half of it would fit.
    equal!(large.map(SPACE, third, READ_WRITE, false), Err(Error::AlreadyMapped));
    equal!(window.read(2 * 512), 9);
    let hands = case.hands(0)?;
    is_unmapped(hands, window.address + 4 * PAGE_SIZE)
}

fn writable_and_executable_is_refused(case: &mut Case) -> Outcome {
    let frame: Frame = case.make_small()?;
    let address = case.free_address();
    case.add_table(SPACE, address)?;
    for wrong in [0, 2, 4, 8, 10, 14, 15, 5, 7, 13] {
        let answer = frame.map(SPACE, address, Rights(wrong), false);
        check!(answer == Err(Error::InvalidArgument), "rights {wrong}: {answer:?}");
    }
    let words = [address, 1, 2];
    let answer = invoke(frame.slot(), Method::FrameMap, &words, Some(SPACE.slot()), None);
    equal!(answer, Err(Error::InvalidArgument));
    Ok(())
}

fn a_mapping_has_no_more_rights_than_its_frame(case: &mut Case) -> Outcome {
    let frame: Frame = case.make_small()?;
    let address = case.free_address();
    let reader = case.copy(frame, Rights::READ)?;
    for wrong in [READ_WRITE, READ_EXECUTE] {
        equal!(reader.map(SPACE, address, wrong, false), Err(Error::MissingRights));
    }
    let writer = case.copy(frame, READ_WRITE)?;
    equal!(writer.map(SPACE, address, READ_EXECUTE, false), Err(Error::MissingRights));
    case.map(reader, SPACE, address, Rights::READ)?;
    let hands = case.hands(0)?;
    equal!(hands.read(address)?, Event::Done(0));
    let fault = hands.fault(Order::Write, address)?;
    equal!((fault.kind, fault.address), (FaultKind::Write, address));
    Ok(())
}

fn addresses_outside_user_space_are_refused(case: &mut Case) -> Outcome {
    let frame: Frame = case.make_sized(2)?;
    let table: PageTable = case.make()?;
    let end = SPACE.info()?.1;
    for wrong in [end, 1 << 63, 0xffff_8000_0000_0000, 0xffff_ffff_8000_0000, 0u64.wrapping_sub(PAGE_SIZE)] {
        equal!(frame.map(SPACE, wrong, READ_WRITE, false), Err(Error::InvalidArgument));
        equal!(table.map(SPACE, wrong, 1), Err(Error::InvalidArgument));
    }
    // The second page would lie past the end.
    equal!(frame.map(SPACE, end - PAGE_SIZE, READ_WRITE, false), Err(Error::InvalidArgument));
    Ok(())
}

fn a_frame_fits_into_one_table(case: &mut Case) -> Outcome {
    let frame: Frame = case.make_sized(2)?;
    let address = case.free_address();
    equal!(frame.map(SPACE, address + 1, READ_WRITE, false), Err(Error::InvalidArgument));
    equal!(frame.map(SPACE, address + 2048, READ_WRITE, false), Err(Error::InvalidArgument));
    // Across the end of what one table maps.
    equal!(frame.map(SPACE, address + 511 * PAGE_SIZE, READ_WRITE, false), Err(Error::InvalidArgument));
    case.map(frame, SPACE, address + 510 * PAGE_SIZE, READ_WRITE)?;
    Ok(())
}

fn mapping_takes_a_space_to_write_to(case: &mut Case) -> Outcome {
    let (frame, space, endpoint): (Frame, AddressSpace, Endpoint) = (case.make_small()?, case.make()?, case.make()?);
    let reader = case.copy(space, Rights::READ)?;
    let empty = case.slot();
    equal!(frame.map(reader, 0x1000, READ_WRITE, false), Err(Error::MissingRights));
    equal!(frame.map(AddressSpace::at(endpoint.slot()), 0x1000, READ_WRITE, false), Err(Error::WrongKind));
    equal!(frame.map(AddressSpace::at(empty), 0x1000, READ_WRITE, false), Err(Error::EmptySlot));
    let table: PageTable = case.make()?;
    equal!(table.map(reader, 0x1000, 1), Err(Error::MissingRights));
    Ok(())
}

fn unmapping_what_is_not_mapped_is_refused(case: &mut Case) -> Outcome {
    let (frame, table): (Frame, PageTable) = (case.make_small()?, case.make()?);
    equal!(frame.unmap(), Err(Error::NotMapped));
    equal!(table.unmap(), Err(Error::NotMapped));
    let window = case.window_of(frame)?;
    window.frame.unmap()?;
    equal!(window.frame.unmap(), Err(Error::NotMapped));
    Ok(())
}

fn deleting_a_frame_unmaps_it(case: &mut Case) -> Outcome {
    let window = case.window(3)?;
    let hands = case.hands(0)?;
    equal!(hands.read(window.address)?, Event::Done(0));
    TABLE.delete(window.frame.slot())?;
    is_unmapped(hands, window.address)?;
    is_unmapped(hands, window.address + 2 * PAGE_SIZE)
}

fn a_copy_is_mapped_by_itself(case: &mut Case) -> Outcome {
    let first = case.window(1)?;
    let copy = case.copy(first.frame, Rights::ALL)?;
    equal!(copy.info()?.address, 0);
    let second = case.window_of(copy)?;
    first.write(0, 3);
    equal!(second.read(0), 3);
    first.frame.unmap()?;
    second.write(0, 4);
    equal!(second.read(0), 4);
    Ok(())
}

fn a_large_frame_maps_as_one_page(case: &mut Case) -> Outcome {
    let frame: Frame = case.make_sized(512)?;
    let address = case.free_address();
    // A table of level 1 is not needed: those above it are there once another page near by is mapped.
    let near = address + (2 << 20);
    case.add_table(SPACE, near)?;
    while let Err(Error::MissingTable) = frame.map(SPACE, address, READ_WRITE, false) {
        case.add_table(SPACE, near)?;
    }
    equal!(frame.info()?.address, address);
    let hands = case.hands(0)?;
    let last = address + (2 << 20) - 8;
    equal!(hands.write(last, 77)?, Event::Done(0));
    equal!(hands.read(last)?, Event::Done(77));
    equal!(hands.read(address)?, Event::Done(0));
    frame.unmap()?;
    is_unmapped(hands, address)?;
    is_unmapped(hands, last)?;
    // Where it doesn't fit as one, it goes page by page.
    equal!(frame.map(SPACE, address + PAGE_SIZE, READ_WRITE, false), Err(Error::InvalidArgument));
    Ok(())
}

fn a_large_page_does_not_hide_a_table(case: &mut Case) -> Outcome {
    let large: Frame = case.make_sized(512)?;
    let window = case.window(1)?;
    window.write(0, 6);
    equal!(large.map(SPACE, window.address, READ_WRITE, false), Err(Error::AlreadyMapped));
    equal!(window.read(0), 6);
    // And the other way round.
    let address = window.address + (2 << 20);
    large.map(SPACE, address, READ_WRITE, false)?;
    let (table, small): (PageTable, Frame) = (case.make()?, case.make_small()?);
    equal!(table.map(SPACE, address, 1), Err(Error::AlreadyMapped));
    equal!(small.map(SPACE, address + PAGE_SIZE, READ_WRITE, false), Err(Error::AlreadyMapped));
    Ok(())
}

fn a_table_has_a_level_and_a_place(case: &mut Case) -> Outcome {
    let (table, other): (PageTable, PageTable) = (case.make()?, case.make()?);
    let space: AddressSpace = case.make()?;
    let levels = space.info()?.0;
    for wrong in [0, levels, levels + 1, 255, 256, u64::MAX] {
        equal!(table.map(space, 0x40_0000, wrong), Err(Error::InvalidArgument));
    }
    equal!(table.map(space, 0x40_0000, levels - 2), Err(Error::MissingTable));
    equal!(table.map(space, 0x40_0000, levels - 1), Ok(()));
    equal!(table.map(space, 0x40_0000, levels - 1), Err(Error::AlreadyMapped));
    equal!(other.map(space, 0x80_0000, levels - 1), Err(Error::AlreadyMapped));
    equal!(other.map(space, 0x80_0000, levels - 2), Ok(()));
    Ok(())
}

/// A page mapped through a table of its own.
fn through_table(case: &mut Case) -> Outcome<(PageTable, Frame, u64)> {
    let (table, frame): (PageTable, Frame) = (case.make()?, case.make_small()?);
    let address = case.free_address();
    while let Err(Error::MissingTable) = table.map(SPACE, address, 1) {
        case.add_table(SPACE, address)?;
    }
    frame.map(SPACE, address, READ_WRITE, false)?;
    Ok((table, frame, address))
}

fn a_table_takes_what_it_maps_with_it(case: &mut Case) -> Outcome {
    let (table, _, address) = through_table(case)?;
    let hands = case.hands(0)?;
    equal!(hands.read(address)?, Event::Done(0));
    table.unmap()?;
    is_unmapped(hands, address)?;
    // It comes back empty.
    table.map(SPACE, address, 1)?;
    is_unmapped(hands, address)
}

fn a_frame_survives_its_table(case: &mut Case) -> Outcome {
    let (table, frame, address) = through_table(case)?;
    let hands = case.hands(0)?;
    equal!(hands.write(address, 5)?, Event::Done(0));
    TABLE.delete(table.slot())?;
    is_unmapped(hands, address)?;
    equal!(frame.unmap(), Ok(()));
    case.map(frame, SPACE, address, READ_WRITE)?;
    equal!(hands.read(address)?, Event::Done(5));
    Ok(())
}

fn two_spaces_hold_different_memory(case: &mut Case) -> Outcome {
    let (first, second): (AddressSpace, AddressSpace) = (case.make()?, case.make()?);
    let hands = [case.hands_in(first, 0)?, case.hands_in(second, 0)?];
    let address = 0x1_2345_6000;
    for space in [first, second] {
        let frame = case.make_small()?;
        case.map(frame, space, address, READ_WRITE)?;
    }
    for round in 0..3 {
        equal!(hands[0].write(address, 10 + round)?, Event::Done(0));
        equal!(hands[1].write(address, 20 + round)?, Event::Done(0));
        equal!(hands[0].read(address)?, Event::Done(10 + round));
        equal!(hands[1].read(address)?, Event::Done(20 + round));
    }
    Ok(())
}

fn two_spaces_share_a_frame(case: &mut Case) -> Outcome {
    let (first, second): (AddressSpace, AddressSpace) = (case.make()?, case.make()?);
    let hands = [case.hands_in(first, 0)?, case.hands_in(second, env::cores() - 1)?];
    let frame: Frame = case.make_small()?;
    let reader = case.copy(frame, Rights::READ)?;
    case.map(frame, first, 0x100_0000, READ_WRITE)?;
    case.map(reader, second, 0x7_0000_0000, Rights::READ)?;
    equal!(hands[0].write(0x100_0018, 0xfeed)?, Event::Done(0));
    equal!(hands[1].read(0x7_0000_0018)?, Event::Done(0xfeed));
    equal!(hands[1].fault(Order::Write, 0x7_0000_0018)?.kind, FaultKind::Write);
    Ok(())
}

fn a_new_space_is_empty(case: &mut Case) -> Outcome {
    let space: AddressSpace = case.make()?;
    let hands = case.hands_in(space, 0)?;
    // What this program has, another space has not.
    for address in [0x40_0000, anos::abi::boot::BOOT_INFO_ADDRESS, anos::abi::boot::STACK_TOP - 8, hands.code + 4096] {
        is_unmapped(hands, address)?;
    }
    Ok(())
}

fn a_frame_survives_its_space(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(1)?;
    let space = AddressSpace::at(case.slot());
    memory.make::<AddressSpace>(0, space.slot())?;
    let frame: Frame = case.make_small()?;
    case.map(frame, space, 0x40_0000, READ_WRITE)?;
    TABLE.revoke(memory.slot())?;
    // Another space on the same page: the old mapping is not one of it.
    memory.make::<AddressSpace>(0, space.slot())?;
    equal!(frame.unmap(), Ok(()));
    case.map(frame, space, 0x40_0000, READ_WRITE)?;
    equal!(frame.info()?.address, 0x40_0000);
    Ok(())
}

/// Hands on every other core that wait for a word at `address` to change, and so have it in their TLB.
fn watchers(case: &mut Case, address: u64, reach: impl Fn() -> Result<(), Error>) -> Outcome {
    let mut watchers = [None; 7];
    for (on, watcher) in (1..env::cores()).zip(&mut watchers) {
        let hands = case.hands(on)?;
        hands.order(Order::Await, address, 0)?;
        *watcher = Some(hands);
    }
    case.sleep(5)?;
    reach()?;
    for hands in watchers.into_iter().flatten() {
        match hands.event()? {
            Event::Fault(fault) => equal!((fault.kind, fault.address), (FaultKind::Read, address)),
            Event::Done(value) => check!(false, "still there: {value}"),
        }
    }
    Ok(())
}

fn unmapping_reaches_other_cores(case: &mut Case) -> Outcome {
    let window = case.window(1)?;
    watchers(case, window.address + 64, || window.frame.unmap())
}

fn a_shootdown_is_counted(case: &mut Case) -> Outcome {
    let before = counters()?.shootdowns;
    for _ in 0..3 {
        let window = case.window(1)?;
        watchers(case, window.address, || window.frame.unmap())?;
    }
    let counted = counters()?.shootdowns - before;
    check!(counted >= 1, "{counted} shootdowns");
    Ok(())
}

fn deleting_a_table_reaches_other_cores(case: &mut Case) -> Outcome {
    let (table, _, address) = through_table(case)?;
    watchers(case, address, || TABLE.delete(table.slot()))
}

fn mapping_less_reaches_other_cores(case: &mut Case) -> Outcome {
    let window = case.window(1)?;
    let hands = case.hands(1)?;
    hands.order(Order::Count, window.address, 0)?;
    check!(crate::case::spin(|| window.read(0) != 0), "it never wrote");
    let second = case.copy(window.frame, Rights::ALL)?;
    let second = case.window_of(second)?;
    window.frame.unmap()?;
    window.frame.map(SPACE, window.address, Rights::READ, false)?;
    let stopped = second.read(0);
    let mut event = hands.event()?;
    if let Event::Fault(Fault { kind: FaultKind::Read, .. }) = event {
        // It came while nothing was mapped.
        hands.retry()?;
        event = hands.event()?;
    }
    match event {
        Event::Fault(fault) => equal!((fault.kind, fault.address), (FaultKind::Write, window.address)),
        Event::Done(value) => check!(false, "done: {value}"),
    }
    equal!(second.read(0), stopped);
    Ok(())
}
