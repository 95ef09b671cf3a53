//! Untyped memory, Frames, page tables, address spaces.

use anos_abi::boot::slot;
use anos_abi::object::{Method, ThreadState};
use anos_abi::{Error, Kind, PAGE_SIZE, Rights, SystemCall};
use anos_machine::CoreId;
use anos_sim::{Access, Config, Message, Payload, Sim, core_id};

const BOOT: CoreId = CoreId::BOOT;
const READ: u64 = Rights::READ.0 as u64;
const READ_WRITE: u64 = Rights::READ.0 as u64 | Rights::WRITE.0 as u64;
const READ_EXECUTE: u64 = Rights::READ.0 as u64 | Rights::EXECUTE.0 as u64;
/// A place where nothing is mapped, in a part of the root server's space without tables.
const PLACE: u64 = 0x20_0000_0000;

fn retype(sim: &mut Sim, words: &[u64], receive: u32) -> Result<[u64; 8], Error> {
    sim.until_done(slot::UNTYPED, Method::UntypedRetype, words, 0, receive).result()
}

fn used(sim: &mut Sim, untyped: u32) -> u64 {
    sim.ok(untyped, Method::UntypedInfo, &[], 0)[2]
}

/// Puts tables in place so that pages can be mapped at `address`; the slots of the tables, last level first.
fn tables(sim: &mut Sim, space: u32, address: u64) -> Vec<u32> {
    let levels = u64::from(sim.board.config.levels);
    let mut slots = Vec::new();
    for level in (1..levels).rev() {
        let table = sim.make(Kind::PageTable, 0);
        match sim.call(BOOT, table, Method::PageTableMap, &[address, level], space, 0).result() {
            Ok(_) => slots.insert(0, table),
            Err(error) => assert_eq!(error, Error::AlreadyMapped, "the root server has a table there"),
        }
    }
    slots
}

#[test]
fn new_memory_is_clear_whatever_lay_there_and_however_many_calls_it_takes() {
    let mut sim = Sim::boot(1);
    let frame = sim.make(Kind::Frame, 37);
    assert!(sim.frame(frame).iter().all(|&word| word == 0));
    // Used, given back, and made anew: clear again.
    let at = sim.look(frame).object;
    sim.board.ram.write(at + 36 * PAGE_SIZE, 0x5ec3e7);
    sim.revoke(slot::UNTYPED);
    assert_eq!(used(&mut sim, slot::UNTYPED), 0);
    let frame = sim.make(Kind::Frame, 37);
    assert_eq!(sim.look(frame).object, at);
    assert!(sim.frame(frame).iter().all(|&word| word == 0));
}

#[test]
fn memory_skipped_for_a_large_frame_that_was_never_made_is_not_taken_for_clear() {
    let config = Config { pages: 2048, ..Config::cores(1) };
    let mut sim = Sim::boot_with(config, &Payload::default().bytes(), 0).expect("boots");
    let receive = sim.slots(4);
    let first = sim.make(Kind::Endpoint, 0);
    // The Frame would lie at the next 2 MiB; a few of its pages are cleared, and then the program asks for others.
    let words = [Kind::Frame as u64, 512, 1];
    let answer = sim.call(BOOT, slot::UNTYPED, Method::UntypedRetype, &words, 0, receive);
    assert_eq!(answer.result(), Err(Error::Again));
    let second = sim.make(Kind::Endpoint, 0);
    assert_eq!(sim.look(second).object, sim.look(first).object + 64, "it shares the page of the first");
    let small = sim.make(Kind::Frame, 8);
    assert!(sim.frame(small).iter().all(|&word| word == 0));
    let thread = sim.new_thread(0, 1);
    assert_eq!(sim.state(thread), ThreadState::Stopped);
    assert_eq!(retype(&mut sim, &words, receive).map(|_| ()), Ok(()));
    assert!(sim.frame(receive).iter().all(|&word| word == 0));
    sim.check();
}

#[test]
fn memory_cleared_for_one_kind_is_made_into_another() {
    let mut sim = Sim::boot(2);
    let receive = sim.slots(8);
    for kind in [Kind::Frame, Kind::CapTable] {
        // It stops half way, and asks for something else.
        let words = [kind as u64, if kind == Kind::Frame { 8 } else { 512 }, 1];
        let answer = sim.call(BOOT, slot::UNTYPED, Method::UntypedRetype, &words, 0, receive);
        assert_eq!(answer.result(), Err(Error::Again));
        let thread = sim.new_thread(1, 1);
        assert_eq!(sim.state(thread), ThreadState::Stopped);
        sim.check();
    }
}

#[test]
fn memory_cleared_by_one_core_is_made_into_objects_by_another() {
    for kind in [Kind::Thread, Kind::CapTable, Kind::PageTable] {
        let mut sim = Sim::boot(2);
        let other = sim.spawn(1, 5);
        let row = sim.slots(16);
        let before = used(&mut sim, slot::UNTYPED);
        let words = [kind as u64, if kind == Kind::CapTable { 64 } else { 0 }, 16];
        for _ in 0..2 {
            let answer = sim.call(BOOT, slot::UNTYPED, Method::UntypedRetype, &words, 0, row);
            assert_eq!(answer.result(), Err(Error::Again));
        }
        let message = Message::new(Method::UntypedRetype.label()).words(&words).receive(row);
        let mut calls = 0;
        while sim.look(row).is_empty() && calls < 20 {
            sim.run(other, SystemCall::Call, slot::UNTYPED, &message);
            calls += 1;
        }
        assert!((row..row + 16).all(|slot| sim.look(slot).kind() == kind));
        assert_eq!(used(&mut sim, slot::UNTYPED), before + 16, "no page is lost");
        sim.revoke(slot::UNTYPED);
        sim.check();
    }
}

#[test]
fn many_objects_are_made_at_once_or_not_at_all() {
    let mut sim = Sim::boot(1);
    for (kind, size) in [(Kind::Thread, 0), (Kind::CapTable, 64), (Kind::Endpoint, 0), (Kind::Untyped, 1)] {
        let first = sim.slots(64);
        let words = [kind as u64, size, 64];
        loop {
            let answer = sim.call(BOOT, slot::UNTYPED, Method::UntypedRetype, &words, 0, first).result();
            let made = (first..first + 64).filter(|&slot| !sim.look(slot).is_empty()).count();
            if answer.is_ok() {
                assert_eq!(made, 64);
                break;
            }
            assert_eq!((answer, made), (Err(Error::Again), 0));
            sim.check();
        }
        let bytes = sim.look(first + 1).object - sim.look(first).object;
        for slot in first..first + 64 {
            let capability = sim.look(slot);
            assert_eq!(
                (capability.kind(), capability.object),
                (kind, sim.look(first).object + u64::from(slot - first) * bytes)
            );
        }
        sim.check();
    }
    sim.revoke(slot::UNTYPED);
    assert_eq!(used(&mut sim, slot::UNTYPED), 0);
}

#[test]
fn the_watermark_resets_when_the_last_child_goes() {
    let mut sim = Sim::boot(1);
    assert_eq!(used(&mut sim, slot::UNTYPED), 0);
    let frame = sim.make(Kind::Frame, 3);
    let endpoint = sim.make(Kind::Endpoint, 0);
    assert_eq!(used(&mut sim, slot::UNTYPED), 4);
    sim.delete(frame);
    assert_eq!(used(&mut sim, slot::UNTYPED), 4);
    let copy = sim.mint(endpoint, 5);
    sim.delete(endpoint);
    assert_eq!(used(&mut sim, slot::UNTYPED), 4, "a copy keeps the object, and its memory");
    sim.delete(copy);
    assert_eq!(used(&mut sim, slot::UNTYPED), 0);
}

#[test]
fn small_objects_of_one_kind_share_a_page_and_others_get_their_own() {
    let mut sim = Sim::boot(1);
    let endpoints = sim.make_from(slot::UNTYPED, Kind::Endpoint, 0, 64);
    let next = sim.make(Kind::Endpoint, 0);
    let notification = sim.make(Kind::Notification, 0);
    let base = sim.look(endpoints).object;
    assert_eq!(sim.look(endpoints + 63).object, base + 63 * 64);
    assert_eq!(sim.look(next).object, base + PAGE_SIZE);
    assert_eq!(sim.look(notification).object, base + 2 * PAGE_SIZE);
    let threads = sim.make_from(slot::UNTYPED, Kind::Thread, 0, 2);
    assert_eq!(sim.look(threads + 1).object, base + 4 * PAGE_SIZE);
    sim.check();
}

#[test]
fn retype_refuses_what_makes_no_sense_and_changes_nothing() {
    let mut sim = Sim::boot(1);
    let receive = sim.slots(64);
    let pages = sim.look(slot::UNTYPED).extent;
    let cases = [
        (vec![Kind::Empty as u64, 0, 1], Error::InvalidArgument),
        (vec![Kind::Interrupt as u64, 0, 1], Error::InvalidArgument),
        (vec![Kind::Debug as u64, 0, 1], Error::InvalidArgument),
        (vec![99, 0, 1], Error::InvalidArgument),
        (vec![Kind::Endpoint as u64 | 1 << 32, 0, 1], Error::InvalidArgument),
        (vec![Kind::Endpoint as u64, 1, 1], Error::InvalidArgument),
        (vec![Kind::Endpoint as u64, 0, 0], Error::InvalidArgument),
        (vec![Kind::Endpoint as u64, 0, 65], Error::InvalidArgument),
        (vec![Kind::Endpoint as u64, 0, u64::MAX], Error::InvalidArgument),
        (vec![Kind::AddressSpace as u64, 0, 5], Error::InvalidArgument),
        (vec![Kind::Endpoint as u64, 0, 1, 1], Error::InvalidArgument),
        (vec![Kind::Frame as u64, 0, 1], Error::InvalidArgument),
        (vec![Kind::Frame as u64, 513, 1], Error::InvalidArgument),
        (vec![Kind::Frame as u64, u64::MAX / PAGE_SIZE + 1, 1], Error::InvalidArgument),
        (vec![Kind::CapTable as u64, 0, 1], Error::InvalidArgument),
        (vec![Kind::CapTable as u64, 63, 1], Error::InvalidArgument),
        (vec![Kind::CapTable as u64, 1 << 58, 1], Error::InvalidArgument),
        (vec![Kind::Untyped as u64, pages + 1, 1], Error::InvalidArgument),
        (vec![Kind::Untyped as u64, pages, 2], Error::NotEnoughMemory),
        (vec![Kind::Untyped as u64, 1 << 52, 1], Error::InvalidArgument),
    ];
    for (words, error) in cases {
        assert_eq!(retype(&mut sim, &words, receive), Err(error), "{words:x?}");
        assert_eq!(used(&mut sim, slot::UNTYPED), 0, "{words:x?}");
        assert!(sim.look(receive).is_empty());
    }
    let endpoint = [Kind::Endpoint as u64, 0, 1];
    assert_eq!(retype(&mut sim, &endpoint, 0), Err(Error::InvalidSlot));
    assert_eq!(retype(&mut sim, &endpoint, 4096), Err(Error::InvalidSlot));
    assert_eq!(retype(&mut sim, &endpoint, u32::MAX), Err(Error::InvalidSlot));
    assert_eq!(retype(&mut sim, &endpoint, slot::DEBUG), Err(Error::SlotOccupied));
    assert_eq!(retype(&mut sim, &[Kind::Endpoint as u64, 0, 2], 4095), Err(Error::InvalidSlot));
    // One of many slots is used: the last, too.
    let row = sim.slots(64);
    for used in [63, 0, 31] {
        sim.ok(slot::CAP_TABLE, Method::CapTableCopy, &[(row + used).into(), READ], slot::DEBUG);
        assert_eq!(retype(&mut sim, &[Kind::Thread as u64, 0, 64], row), Err(Error::SlotOccupied));
        sim.delete(row + used);
        assert!((row..row + 64).all(|slot| sim.look(slot).is_empty()));
    }
    assert_eq!(used(&mut sim, slot::UNTYPED), 0);
}

#[test]
fn an_untyped_can_be_filled_to_the_last_page_and_no_further() {
    let mut sim = Sim::boot(1);
    let part = sim.make(Kind::Untyped, 4);
    for _ in 0..4 {
        sim.make_from(part, Kind::Frame, 1, 1);
    }
    let receive = sim.slot();
    let answer = sim.until_done(part, Method::UntypedRetype, &[Kind::Endpoint as u64, 0, 1], 0, receive);
    assert_eq!(answer.result(), Err(Error::NotEnoughMemory));
    sim.check();
    sim.revoke(part);
    sim.make_from(part, Kind::Frame, 4, 1);
}

#[test]
fn device_memory_becomes_frames_at_a_position_and_nothing_else() {
    let mut sim = Sim::boot(1);
    let device = slot::UNTYPED + 3;
    assert_eq!((sim.look(device).device, sim.look(device).extent), (1, 24));
    for kind in [Kind::Thread, Kind::CapTable, Kind::PageTable, Kind::AddressSpace, Kind::Endpoint, Kind::Reply] {
        let receive = sim.slot();
        let size = if kind == Kind::CapTable { 64 } else { 0 };
        let answer = sim.call(BOOT, device, Method::UntypedRetype, &[kind as u64, size, 1], 0, receive);
        assert_eq!(answer.result(), Err(Error::InvalidArgument), "{kind:?}");
    }
    let receive = sim.slots(2);
    let frame = [Kind::Frame as u64, 2, 1, 5];
    sim.call(BOOT, device, Method::UntypedRetype, &frame, 0, receive).result().expect("a Frame of device memory");
    assert_eq!(sim.look(receive).object, sim.look(device).object + 5 * PAGE_SIZE);
    for position in [23, 24, u64::MAX, u64::MAX / PAGE_SIZE] {
        let words = [Kind::Frame as u64, 2, 1, position];
        let result = sim.call(BOOT, device, Method::UntypedRetype, &words, 0, receive + 1).result();
        assert!(matches!(result, Err(Error::NotEnoughMemory | Error::InvalidArgument)), "{position:#x} {result:?}");
    }
    tables(&mut sim, slot::ADDRESS_SPACE, PLACE);
    sim.ok(receive, Method::FrameMap, &[PLACE, READ_WRITE], slot::ADDRESS_SPACE);
    assert!(sim.store(BOOT, PLACE + PAGE_SIZE, 0xd09));
    assert_eq!(sim.board.device.get(&(sim.look(device).object + 6 * PAGE_SIZE)), Some(&0xd09));
    sim.check();
}

#[test]
fn a_frame_is_used_as_it_is_mapped_until_it_is_unmapped() {
    for levels in [3, 4] {
        let config = Config { levels, ..Config::cores(1) };
        let mut sim = Sim::boot_with(config, &Payload::default().bytes(), 1).expect("boots");
        let frame = sim.make(Kind::Frame, 2);
        tables(&mut sim, slot::ADDRESS_SPACE, PLACE);
        assert!(sim.access(BOOT, Access::Load, PLACE, 0).is_err());
        for (rights, allowed) in
            [(READ, [true, false, false]), (READ_WRITE, [true, true, false]), (READ_EXECUTE, [true, false, true])]
        {
            sim.ok(frame, Method::FrameMap, &[PLACE, rights], slot::ADDRESS_SPACE);
            sim.check();
            for (access, allowed) in Access::ALL.into_iter().zip(allowed) {
                assert_eq!(sim.access(BOOT, access, PLACE + PAGE_SIZE, 7).is_ok(), allowed, "{rights} {access:?}");
            }
            let again = sim.call(BOOT, frame, Method::FrameMap, &[PLACE + 8 * PAGE_SIZE, READ], slot::ADDRESS_SPACE, 0);
            assert_eq!(again.result(), Err(Error::AlreadyMapped));
            sim.ok(frame, Method::FrameUnmap, &[], 0);
            sim.check();
            assert!(sim.access(BOOT, Access::Load, PLACE, 0).is_err());
        }
        let answer = sim.call(BOOT, frame, Method::FrameUnmap, &[], 0, 0);
        assert_eq!(answer.result(), Err(Error::NotMapped));
    }
}

#[test]
fn mapping_refuses_what_breaks_a_rule() {
    let mut sim = Sim::boot(1);
    let frame = sim.make(Kind::Frame, 4);
    let poor = sim.copy(frame, Rights::READ.0);
    let space = slot::ADDRESS_SPACE;
    let end = 1 << 38;
    let map = |sim: &mut Sim, frame, words: &[u64], space| {
        let result = sim.call(BOOT, frame, Method::FrameMap, words, space, 0).result().map(|_| ());
        sim.check();
        result
    };
    assert_eq!(map(&mut sim, frame, &[PLACE, READ], space), Err(Error::MissingTable));
    tables(&mut sim, space, PLACE);
    for rights in [0, 2, 4, 8, 1 | 2 | 8, 1 | 4, 16, 1 | 256, u64::MAX] {
        assert_eq!(map(&mut sim, frame, &[PLACE, rights], space), Err(Error::InvalidArgument), "{rights}");
    }
    for address in [PLACE + 8, end, end - PAGE_SIZE, 1 << 63, u64::MAX, !(PAGE_SIZE - 1), PLACE + 509 * PAGE_SIZE] {
        assert_eq!(map(&mut sim, frame, &[address, READ], space), Err(Error::InvalidArgument), "{address:#x}");
    }
    assert_eq!(map(&mut sim, frame, &[PLACE, READ, 2], space), Err(Error::InvalidArgument));
    assert_eq!(map(&mut sim, frame, &[PLACE, READ], 0), Err(Error::InvalidSlot));
    assert_eq!(map(&mut sim, frame, &[PLACE, READ], slot::CAP_TABLE), Err(Error::WrongKind));
    assert_eq!(map(&mut sim, poor, &[PLACE, READ_WRITE], space), Err(Error::MissingRights));
    assert_eq!(map(&mut sim, poor, &[PLACE, READ_EXECUTE], space), Err(Error::MissingRights));
    let weak = sim.copy(space, Rights::READ.0);
    assert_eq!(map(&mut sim, frame, &[PLACE, READ], weak), Err(Error::MissingRights));
    // Over the root server's own code, and partly over another Frame.
    assert_eq!(map(&mut sim, frame, &[0x40_0000, READ], space), Err(Error::AlreadyMapped));
    assert_eq!(map(&mut sim, frame, &[PLACE, READ], space), Ok(()));
    assert_eq!(map(&mut sim, poor, &[PLACE + 3 * PAGE_SIZE, READ], space), Err(Error::AlreadyMapped));
    assert_eq!(map(&mut sim, poor, &[PLACE + 4 * PAGE_SIZE, READ], space), Ok(()));
}

#[test]
fn a_full_aligned_frame_maps_as_one_large_page() {
    let config = Config { pages: 2048, ..Config::cores(1) };
    let mut sim = Sim::boot_with(config, &Payload::default().bytes(), 0).expect("boots");
    let frame = sim.make(Kind::Frame, 512);
    let table = sim.make(Kind::PageTable, 0);
    sim.ok(table, Method::PageTableMap, &[PLACE, 2], slot::ADDRESS_SPACE);
    sim.ok(frame, Method::FrameMap, &[PLACE, READ_WRITE], slot::ADDRESS_SPACE);
    sim.check();
    assert!(sim.store(BOOT, PLACE + 511 * PAGE_SIZE + 8, 9));
    assert_eq!(sim.frame(frame)[511 * 512 + 1], 9);
    // What lies under a large page can't be mapped again.
    let page = sim.make(Kind::Frame, 1);
    let answer = sim.call(BOOT, page, Method::FrameMap, &[PLACE + PAGE_SIZE, READ], slot::ADDRESS_SPACE, 0);
    assert_eq!(answer.result(), Err(Error::AlreadyMapped));
    sim.delete(frame);
    assert!(sim.access(BOOT, Access::Load, PLACE, 0).is_err());
    sim.check();
}

#[test]
fn deleting_a_frame_unmaps_it_on_every_core() {
    let mut sim = Sim::boot(3);
    sim.spawn(1, 5);
    sim.spawn(2, 5);
    let frame = sim.make(Kind::Frame, 1);
    tables(&mut sim, slot::ADDRESS_SPACE, PLACE);
    sim.ok(frame, Method::FrameMap, &[PLACE, READ_WRITE], slot::ADDRESS_SPACE);
    for core in 0..3 {
        assert!(sim.access(core_id(core), Access::Store, PLACE, core).is_ok());
    }
    sim.call(BOOT, slot::CAP_TABLE, Method::CapTableDelete, &[frame.into()], 0, 0).result().expect("deleted");
    sim.check();
    sim.settle();
    sim.check();
    for core in 0..3 {
        assert!(sim.access(core_id(core), Access::Load, PLACE, 0).is_err(), "core {core}");
    }
}

#[test]
fn one_call_takes_one_large_mapping_away() {
    let mut sim = Sim::boot(1);
    tables(&mut sim, slot::ADDRESS_SPACE, PLACE);
    for (pages, calls) in [(32, 1), (33, 4)] {
        let frame = sim.make(Kind::Frame, pages);
        for place in 0..3 {
            let copy = sim.copy(frame, 15);
            sim.ok(copy, Method::FrameMap, &[PLACE + place * pages * PAGE_SIZE, READ_WRITE], slot::ADDRESS_SPACE);
        }
        let mut made = 1;
        while sim.call(BOOT, slot::CAP_TABLE, Method::CapTableRevoke, &[frame.into()], 0, 0).result().is_err() {
            made += 1;
            sim.check();
        }
        assert_eq!(made, calls, "{pages} pages");
        assert!(sim.access(BOOT, Access::Load, PLACE, 0).is_err());
    }
}

#[test]
fn a_core_that_waits_for_a_lock_flushes_too() {
    let mut sim = Sim::boot(2);
    sim.spawn(1, 5);
    let frame = sim.make(Kind::Frame, 1);
    tables(&mut sim, slot::ADDRESS_SPACE, PLACE);
    sim.ok(frame, Method::FrameMap, &[PLACE, READ_WRITE], slot::ADDRESS_SPACE);
    let other = core_id(1);
    assert!(sim.access(other, Access::Store, PLACE, 3).is_ok());
    sim.trap(other, anos_machine::Event::Kick);
    sim.call(BOOT, frame, Method::FrameUnmap, &[], 0, 0).result().expect("unmapped");
    sim.check();
    sim.settle();
    sim.check();
    assert!(sim.access(other, Access::Load, PLACE, 0).is_err());
}

#[test]
fn a_page_table_taken_out_takes_its_mappings_along_and_comes_back_empty() {
    let mut sim = Sim::boot(1);
    let space = slot::ADDRESS_SPACE;
    let frame = sim.make(Kind::Frame, 1);
    let [last, upper] = tables(&mut sim, space, PLACE)[..] else { panic!("two tables") };
    sim.ok(frame, Method::FrameMap, &[PLACE, READ], space);
    assert_eq!(sim.load(BOOT, PLACE), Some(0));
    sim.ok(upper, Method::PageTableUnmap, &[], 0);
    sim.check();
    assert!(sim.access(BOOT, Access::Load, PLACE, 0).is_err());
    sim.ok(upper, Method::PageTableMap, &[PLACE, 2], space);
    let answer = sim.call(BOOT, last, Method::PageTableMap, &[PLACE, 1], space, 0);
    assert_eq!(answer.result(), Err(Error::AlreadyMapped), "it must be taken out first, which clears it");
    sim.ok(last, Method::PageTableUnmap, &[], 0);
    sim.ok(last, Method::PageTableMap, &[PLACE, 1], space);
    sim.check();
    assert!(sim.access(BOOT, Access::Load, PLACE, 0).is_err());
    // The Frame still thinks it is mapped; unmapping it there must not touch who is there now.
    let other = sim.make(Kind::Frame, 1);
    sim.ok(other, Method::FrameMap, &[PLACE, READ], space);
    sim.ok(frame, Method::FrameUnmap, &[], 0);
    sim.check();
    assert!(sim.access(BOOT, Access::Load, PLACE, 0).is_ok());
}

#[test]
fn page_tables_refuse_wrong_places() {
    let mut sim = Sim::boot(1);
    let space = slot::ADDRESS_SPACE;
    let table = sim.make(Kind::PageTable, 0);
    let map = |sim: &mut Sim, words: &[u64]| sim.call(BOOT, table, Method::PageTableMap, words, space, 0).result();
    assert_eq!(map(&mut sim, &[PLACE, 1]), Err(Error::MissingTable));
    for (address, level) in [(PLACE, 0), (PLACE, 3), (PLACE, 4), (PLACE, 257), (1 << 38, 2), (u64::MAX, 2)] {
        assert_eq!(map(&mut sim, &[address, level]), Err(Error::InvalidArgument), "{address:#x} {level}");
    }
    assert_eq!(map(&mut sim, &[0x40_0000, 2]), Err(Error::AlreadyMapped));
    assert_eq!(map(&mut sim, &[0x40_0000, 1]), Err(Error::AlreadyMapped));
    sim.check();
}

#[test]
fn a_space_that_ends_frees_its_frames_and_its_tables() {
    let mut sim = Sim::boot(1);
    let space = sim.make(Kind::AddressSpace, 0);
    let frame = sim.make(Kind::Frame, 1);
    let tables = tables(&mut sim, space, PLACE);
    sim.ok(frame, Method::FrameMap, &[PLACE, READ_WRITE], space);
    sim.delete(space);
    sim.check();
    let again = sim.make(Kind::AddressSpace, 0);
    sim.ok(frame, Method::FrameUnmap, &[], 0);
    for table in tables.iter().rev() {
        sim.ok(*table, Method::PageTableUnmap, &[], 0);
    }
    for (level, table) in [(2, &tables[1]), (1, &tables[0])] {
        sim.ok(*table, Method::PageTableMap, &[PLACE, level], again);
    }
    sim.ok(frame, Method::FrameMap, &[PLACE, READ_WRITE], again);
    sim.check();
}

#[test]
fn a_space_can_not_end_while_a_core_has_it_loaded() {
    let mut sim = Sim::boot(2);
    let part = sim.make(Kind::Untyped, 8);
    let space = sim.make_from(part, Kind::AddressSpace, 0, 1);
    let program = sim.new_thread(1, 5);
    sim.ok(program.slot, Method::ThreadSetSpace, &[], space);
    sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x1000], 0);
    sim.settle();
    assert_eq!(sim.thread(program.core), Some(program.thread));
    // The other core is on its way into the kernel, its root table still loaded.
    sim.trap(program.core, anos_machine::Event::Kick);
    let revoke = |sim: &mut Sim| sim.call(BOOT, slot::CAP_TABLE, Method::CapTableRevoke, &[part.into()], 0, 0).result();
    for _ in 0..5 {
        assert_eq!(revoke(&mut sim), Err(Error::Again));
        sim.check();
    }
    assert_eq!(sim.state(program), ThreadState::Stopped, "a thread without address space stops");
    sim.settle();
    assert_eq!(revoke(&mut sim).map(|_| ()), Ok(()));
    sim.check();
    assert_eq!(used(&mut sim, part), 0);
}

#[test]
fn two_hundred_processes_come_and_go_in_the_same_memory() {
    let mut sim = Sim::boot(2);
    let part = sim.make(Kind::Untyped, 40);
    let contexts = [sim.make_context(0), sim.make_context(1)];
    for round in 0..200_u64 {
        let space = sim.make_from(part, Kind::AddressSpace, 0, 1);
        let table = sim.make_from(part, Kind::CapTable, 64, 1);
        let thread = sim.make_from(part, Kind::Thread, 0, 1);
        let frame = sim.make_from(part, Kind::Frame, 4, 1);
        for level in [2, 1] {
            let table = sim.make_from(part, Kind::PageTable, 0, 1);
            sim.ok(table, Method::PageTableMap, &[0x40_0000, level], space);
        }
        sim.ok(frame, Method::FrameMap, &[0x40_0000, READ_EXECUTE], space);
        sim.ok(table, Method::CapTableCopy, &[1, 15], table);
        sim.ok(thread, Method::ThreadSetTable, &[], table);
        sim.ok(thread, Method::ThreadSetSpace, &[], space);
        let core = round % 2;
        let context = contexts[anos_sim::memory::index(core)];
        sim.ok(thread, Method::ThreadSetContext, &[], context);
        sim.ok(thread, Method::ThreadStart, &[0x40_0000, 0x1000], 0);
        sim.settle();
        if core == 1 {
            assert!(sim.access(core_id(1), Access::Fetch, 0x40_0000, 0).is_ok());
        }
        sim.revoke(part);
        sim.settle();
        sim.check();
        assert_eq!(used(&mut sim, part), 0);
        sim.next_slot = 1100;
    }
}
