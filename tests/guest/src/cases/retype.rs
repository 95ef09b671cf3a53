//! Untyped: memory into objects.

use anos::abi::object::Method;
use anos::abi::syscall::POLL;
use anos::capability::{Capability, Endpoint, Frame, Notification, Untyped, invoke};
use anos::{Error, Kind};

use super::cases;
use crate::case::{Case, MEMORY, MEMORY_PAGES, TABLE, look};
use crate::check::{Failure, Outcome, check, equal};
use crate::supervisor::devices;

cases![
    every_kind_that_has_memory_can_be_made,
    kinds_without_memory_can_not_be_made,
    sizes_outside_their_range_are_refused,
    counts_outside_their_range_are_refused,
    the_watermark_rises_by_what_was_made,
    objects_do_not_overlap,
    small_objects_share_a_page,
    several_objects_land_in_neighbouring_slots,
    an_exhausted_untyped_makes_nothing,
    a_refused_retype_takes_no_memory,
    memory_comes_back_after_revoke,
    memory_comes_back_after_the_last_delete,
    fresh_memory_is_clear,
    fresh_objects_remember_nothing,
    a_large_page_is_aligned,
    an_untyped_pays_for_its_children,
    main_memory_has_no_positions,
    device_memory_becomes_frames_only,
    device_memory_is_taken_in_order,
];

/// Kinds that can be made, with a size and the pages that one takes.
const MADE: [(Kind, u64, u64); 9] = [
    (Kind::Untyped, 3, 3),
    (Kind::Frame, 2, 2),
    (Kind::PageTable, 0, 1),
    (Kind::AddressSpace, 0, 1),
    (Kind::CapTable, 128, 2),
    (Kind::Thread, 0, 1),
    (Kind::Endpoint, 0, 1),
    (Kind::Reply, 0, 1),
    (Kind::Notification, 0, 1),
];

fn every_kind_that_has_memory_can_be_made(case: &mut Case) -> Outcome {
    for (kind, size, _) in MADE {
        let slot = case.slot();
        MEMORY.retype(kind, size, 1, slot)?;
        let made = look(slot)?;
        equal!((made.kind, made.size, made.badge, made.in_use), (kind, size, 0, false));
        equal!(made.rights, anos::Rights::ALL);
    }
    Ok(())
}

fn kinds_without_memory_can_not_be_made(case: &mut Case) -> Outcome {
    let slot = case.slot();
    for kind in (0..64).chain([1 << 32 | 7, u64::MAX]) {
        if MADE.iter().any(|(made, ..)| *made as u64 == kind) || kind == Kind::SchedContext as u64 {
            continue;
        }
        let answer = invoke(MEMORY.slot(), Method::UntypedRetype, &[kind, 0, 1], None, Some(slot));
        check!(matches!(answer, Err(Error::InvalidArgument | Error::WrongKind)), "kind {kind}: {answer:x?}");
    }
    equal!(look(slot)?.kind, Kind::Empty);
    Ok(())
}

fn sizes_outside_their_range_are_refused(case: &mut Case) -> Outcome {
    let slot = case.slot();
    let wrong = [
        (Kind::Untyped, 0),
        (Kind::Untyped, MEMORY_PAGES + 1),
        (Kind::Untyped, u64::MAX),
        (Kind::Untyped, 1 << 52),
        (Kind::Frame, 0),
        (Kind::Frame, 513),
        (Kind::Frame, u64::MAX),
        (Kind::CapTable, 0),
        (Kind::CapTable, 63),
        (Kind::CapTable, 65),
        (Kind::CapTable, (1 << 16) + 64),
        (Kind::CapTable, 1 << 58),
        (Kind::PageTable, 1),
        (Kind::AddressSpace, 1),
        (Kind::Thread, 1),
        (Kind::Endpoint, 1),
        (Kind::Reply, 1),
        (Kind::Notification, 64),
        (Kind::SchedContext, 1),
    ];
    for (kind, size) in wrong {
        let answer = MEMORY.retype(kind, size, 1, slot);
        check!(answer == Err(Error::InvalidArgument), "{kind:?} of size {size:#x}: {answer:?}");
    }
    equal!(MEMORY.info()?.pages_used, 0);
    Ok(())
}

fn counts_outside_their_range_are_refused(case: &mut Case) -> Outcome {
    let slots = case.slots(80);
    for count in [0, 65, 1 << 32, u64::MAX] {
        equal!(MEMORY.retype(Kind::Endpoint, 0, count, slots), Err(Error::InvalidArgument));
    }
    // More than one retype may touch.
    equal!(MEMORY.retype(Kind::Frame, 512, 2, slots), Err(Error::InvalidArgument));
    equal!(MEMORY.retype(Kind::Untyped, 1 << 40, 64, slots), Err(Error::InvalidArgument));
    equal!(look(slots)?.kind, Kind::Empty);
    Ok(())
}

fn the_watermark_rises_by_what_was_made(case: &mut Case) -> Outcome {
    let mut expected = 0;
    for (kind, size, pages) in MADE {
        let slot = case.slot();
        MEMORY.retype(kind, size, 1, slot)?;
        expected += pages;
        let used = MEMORY.info()?.pages_used;
        check!(used == expected, "{used} pages used after {kind:?}, expected {expected}");
    }
    Ok(())
}

fn objects_do_not_overlap(case: &mut Case) -> Outcome {
    let start = MEMORY.info()?.address;
    let mut end = start;
    for pages in [1, 3, 1, 7, 2] {
        let frame: Frame = case.make_sized(pages)?;
        let info = frame.info()?;
        equal!((info.physical_address, info.pages, info.address), (end, pages, 0));
        end += pages * 4096;
        let between: Endpoint = case.make()?;
        check!(look(between.slot())?.kind == Kind::Endpoint);
        end += 4096;
    }
    Ok(())
}

fn small_objects_share_a_page(case: &mut Case) -> Outcome {
    for _ in 0..64 {
        case.make::<Endpoint>()?;
    }
    equal!(MEMORY.info()?.pages_used, 1);
    case.make::<Endpoint>()?;
    equal!(MEMORY.info()?.pages_used, 2);
    Ok(())
}

fn several_objects_land_in_neighbouring_slots(case: &mut Case) -> Outcome {
    let first = case.slots(64);
    MEMORY.retype(Kind::Notification, 0, 64, first)?;
    for number in 0..64 {
        equal!(look(first.offset(number))?.kind, Kind::Notification);
    }
    // They are different objects: what one has, the others haven't.
    let signaller = case.mint(Notification::at(first.offset(7)), anos::Rights::ALL, 1)?;
    signaller.signal()?;
    for number in 0..64 {
        let expected = if number == 7 { Ok(1) } else { Err(Error::TimedOut) };
        equal!(Notification::at(first.offset(number)).wait(POLL), expected);
    }
    Ok(())
}

fn an_exhausted_untyped_makes_nothing(case: &mut Case) -> Outcome {
    let small: Untyped = case.make_sized(4)?;
    let slots = case.slots(4);
    small.retype(Kind::Frame, 3, 1, slots)?;
    equal!(small.retype(Kind::Frame, 2, 1, slots.offset(1)), Err(Error::NotEnoughMemory));
    equal!(small.retype(Kind::PageTable, 0, 2, slots.offset(1)), Err(Error::NotEnoughMemory));
    equal!(small.retype(Kind::Untyped, 2, 1, slots.offset(1)), Err(Error::NotEnoughMemory));
    equal!(look(slots.offset(1))?.kind, Kind::Empty);
    small.retype(Kind::Frame, 1, 1, slots.offset(1))?;
    equal!(small.retype(Kind::Endpoint, 0, 1, slots.offset(2)), Err(Error::NotEnoughMemory));
    Ok(())
}

fn a_refused_retype_takes_no_memory(case: &mut Case) -> Outcome {
    let slots = case.slots(4);
    MEMORY.retype(Kind::Endpoint, 0, 1, slots.offset(2))?;
    let used = MEMORY.info()?.pages_used;
    // The third of these slots is taken.
    equal!(MEMORY.retype(Kind::Frame, 1, 4, slots), Err(Error::SlotOccupied));
    equal!(MEMORY.info()?.pages_used, used);
    equal!((look(slots)?.kind, look(slots.offset(1))?.kind), (Kind::Empty, Kind::Empty));
    equal!(invoke(MEMORY.slot(), Method::UntypedRetype, &[7, 0, 1], None, None), Err(Error::InvalidSlot));
    equal!(MEMORY.info()?.pages_used, used);
    Ok(())
}

fn memory_comes_back_after_revoke(case: &mut Case) -> Outcome {
    let small: Untyped = case.make_sized(4)?;
    let slots = case.slots(2);
    for _ in 0..3 {
        small.retype(Kind::Frame, 4, 1, slots)?;
        equal!(Frame::at(slots).info()?.physical_address, small.info()?.address);
        equal!(small.info()?.pages_used, 4);
        TABLE.revoke(small.slot())?;
        equal!((small.info()?.pages_used, look(slots)?.kind), (0, Kind::Empty));
    }
    Ok(())
}

fn memory_comes_back_after_the_last_delete(case: &mut Case) -> Outcome {
    let small: Untyped = case.make_sized(2)?;
    let slots = case.slots(2);
    small.retype(Kind::Frame, 1, 2, slots)?;
    TABLE.delete(slots)?;
    equal!(small.retype(Kind::Frame, 1, 1, slots), Err(Error::NotEnoughMemory));
    TABLE.delete(slots.offset(1))?;
    equal!(small.info()?.pages_used, 0);
    equal!(small.retype(Kind::Frame, 2, 1, slots), Ok(()));
    Ok(())
}

fn fresh_memory_is_clear(case: &mut Case) -> Outcome {
    let small: Untyped = case.make_sized(16)?;
    let slot = case.slot();
    for pages in [16, 5] {
        small.retype(Kind::Frame, pages, 1, slot)?;
        let window = case.window_of(Frame::at(slot))?;
        equal!(window.words().find(|word| *word != 0), None);
        (0..pages * 512).for_each(|word| window.write(word, 0xdead_beef_0000_0000 + word));
        equal!(window.read(pages * 512 - 1), 0xdead_beef_0000_0000 + pages * 512 - 1);
        TABLE.revoke(small.slot())?;
    }
    small.retype(Kind::Frame, 16, 1, slot)?;
    let window = case.window_of(Frame::at(slot))?;
    equal!(window.words().find(|word| *word != 0), None);
    Ok(())
}

fn fresh_objects_remember_nothing(case: &mut Case) -> Outcome {
    let small: Untyped = case.make_sized(1)?;
    let (slot, badged) = (case.slot(), case.slot());
    small.make::<Notification>(0, slot)?;
    TABLE.mint(slot, badged, anos::Rights::ALL, 0xff)?;
    Notification::at(badged).signal()?;
    TABLE.revoke(small.slot())?;
    small.make::<Notification>(0, slot)?;
    equal!(Notification::at(slot).wait(POLL), Err(Error::TimedOut));
    Ok(())
}

fn a_large_page_is_aligned(case: &mut Case) -> Outcome {
    case.make_sized::<Frame>(1)?;
    let large: Frame = case.make_sized(512)?;
    let info = large.info()?;
    equal!((info.physical_address % (2 << 20), info.pages), (0, 512));
    Ok(())
}

fn an_untyped_pays_for_its_children(case: &mut Case) -> Outcome {
    let child: Untyped = case.make_sized(8)?;
    let used = MEMORY.info()?.pages_used;
    let (grandchild, frame) = (case.slot(), case.slot());
    child.make::<Untyped>(4, grandchild)?;
    Untyped::at(grandchild).make::<Frame>(4, frame)?;
    equal!((MEMORY.info()?.pages_used, child.info()?.pages_used), (used, 4));
    TABLE.revoke(child.slot())?;
    equal!((look(grandchild)?.kind, look(frame)?.kind), (Kind::Empty, Kind::Empty));
    Ok(())
}

fn main_memory_has_no_positions(case: &mut Case) -> Outcome {
    let slot = case.slot();
    equal!(MEMORY.retype_at(Kind::Frame, 1, 1, 1, slot), Err(Error::InvalidArgument));
    equal!(MEMORY.retype_at(Kind::Frame, 1, 1, u64::MAX, slot), Err(Error::InvalidArgument));
    Ok(())
}

fn a_device() -> Outcome<Untyped> {
    let large = devices().find(|device| device.info().is_ok_and(|info| info.pages >= 4));
    large.ok_or(Failure::new(format_args!("there is no device memory")))
}

fn device_memory_becomes_frames_only(case: &mut Case) -> Outcome {
    let device = a_device()?;
    check!(device.info()?.device);
    let slot = case.slot();
    for (kind, size, _) in MADE {
        if !matches!(kind, Kind::Untyped | Kind::Frame) {
            equal!(device.retype(kind, size, 1, slot), Err(Error::InvalidArgument));
        }
    }
    device.retype_at(Kind::Frame, 1, 1, 2, slot)?;
    equal!(Frame::at(slot).info()?.physical_address, device.info()?.address + 2 * 4096);
    Ok(())
}

fn device_memory_is_taken_in_order(case: &mut Case) -> Outcome {
    let device = a_device()?;
    let slots = case.slots(3);
    device.retype_at(Kind::Frame, 1, 1, 1, slots)?;
    equal!(device.retype_at(Kind::Frame, 1, 1, 1, slots.offset(1)), Err(Error::NotEnoughMemory));
    equal!(device.retype_at(Kind::Frame, 1, 1, 0, slots.offset(1)), Err(Error::NotEnoughMemory));
    let pages = device.info()?.pages;
    equal!(device.retype_at(Kind::Frame, 1, 1, pages, slots.offset(1)), Err(Error::NotEnoughMemory));
    equal!(device.retype_at(Kind::Frame, 1, 1, u64::MAX, slots.offset(1)), Err(Error::InvalidArgument));
    equal!(device.retype_at(Kind::Frame, 1, 1, 2, slots.offset(1)), Ok(()));
    Ok(())
}
