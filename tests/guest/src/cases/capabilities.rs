//! Capabilities and their families: copy, mint, move, delete, revoke.

use anos::abi::object::Method;
use anos::abi::syscall::POLL;
use anos::capability::{
    CapTable, Capability, Endpoint, Frame, Notification, PageTable, Reply, Slot, Thread, Untyped, invoke,
};
use anos::{Error, Kind, Message, Rights};

use super::cases;
use crate::case::{Case, MEMORY, TABLE, look};
use crate::check::{Outcome, check, equal};

cases![
    a_copy_names_the_same_object,
    copies_never_have_more_rights_than_their_source,
    mint_gives_the_badge_that_is_signalled,
    a_badge_is_given_once,
    a_copy_keeps_the_badge,
    only_endpoints_and_notifications_take_a_badge,
    move_empties_the_source_and_keeps_rights_and_badge,
    untyped_and_reply_can_be_moved_but_not_copied,
    page_tables_can_not_be_copied,
    delete_leaves_what_was_derived,
    delete_of_an_empty_slot_does_nothing,
    revoke_takes_descendants_and_spares_the_rest,
    a_child_made_after_a_gap_does_not_own_its_nephews,
    a_moved_capability_keeps_its_place_in_the_family,
    a_slot_is_stale_after_revoke,
    slot_0_is_never_used,
    slots_beyond_the_table_are_refused,
    an_occupied_slot_stays_as_it_is,
    an_empty_slot_has_nothing_to_copy_or_move,
    a_table_takes_write_to_change_and_read_to_look,
    unknown_rights_are_refused,
    capabilities_go_from_table_to_table,
    revoke_of_many_comes_in_steps_and_ends,
    delete_of_a_full_table_comes_in_steps_and_ends,
    a_table_that_holds_itself_ends_with_its_memory,
    two_tables_that_hold_each_other_end_with_their_memory,
];

fn a_copy_names_the_same_object(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let signaller = case.mint(original, Rights::ALL, 1)?;
    let copy = case.copy(original, Rights::ALL)?;
    signaller.signal()?;
    equal!(copy.wait(POLL), Ok(1));
    equal!(original.wait(POLL), Err(Error::TimedOut));
    Ok(())
}

fn copies_never_have_more_rights_than_their_source(case: &mut Case) -> Outcome {
    let original: Endpoint = case.make()?;
    for bits in 0..=15 {
        let some = case.copy(original, Rights(bits))?;
        equal!(look(some.slot())?.rights, Rights(bits));
        let again = case.copy(some, Rights::ALL)?;
        equal!(look(again.slot())?.rights, Rights(bits));
        let minted = case.mint(some, Rights::ALL, 7)?;
        equal!(look(minted.slot())?.rights, Rights(bits));
        let fewer = case.copy(some, Rights(5))?;
        equal!(look(fewer.slot())?.rights, Rights(bits & 5));
    }
    Ok(())
}

fn mint_gives_the_badge_that_is_signalled(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let badge = 0x8000_0000_0000_0001;
    let minted = case.mint(original, Rights::WRITE, badge)?;
    equal!(look(minted.slot())?.badge, badge);
    minted.signal()?;
    equal!(original.wait(POLL), Ok(badge));
    Ok(())
}

fn a_badge_is_given_once(case: &mut Case) -> Outcome {
    let original: Endpoint = case.make()?;
    let minted = case.mint(original, Rights::ALL, 5)?;
    equal!(case.mint(minted, Rights::ALL, 6), Err(Error::InvalidArgument));
    equal!(case.mint(minted, Rights::ALL, 0), Err(Error::InvalidArgument));
    equal!(look(minted.slot())?.badge, 5);
    Ok(())
}

fn a_copy_keeps_the_badge(case: &mut Case) -> Outcome {
    let original: Endpoint = case.make()?;
    let minted = case.mint(original, Rights::ALL, 5)?;
    let copy = case.copy(minted, Rights::WRITE)?;
    equal!(look(copy.slot())?.badge, 5);
    Ok(())
}

fn only_endpoints_and_notifications_take_a_badge(case: &mut Case) -> Outcome {
    let (frame, table): (Frame, CapTable) = (case.make_small()?, case.make_small()?);
    let thread: Thread = case.make()?;
    equal!(case.mint(frame, Rights::ALL, 1), Err(Error::InvalidArgument));
    equal!(case.mint(table, Rights::ALL, 1), Err(Error::InvalidArgument));
    equal!(case.mint(thread, Rights::ALL, 1), Err(Error::InvalidArgument));
    Ok(())
}

fn move_empties_the_source_and_keeps_rights_and_badge(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let minted = case.mint(original, Rights::WRITE, 9)?;
    let before = look(minted.slot())?;
    let to = case.slot();
    TABLE.take(minted.slot(), to)?;
    equal!(look(minted.slot())?.kind, Kind::Empty);
    equal!(look(to)?, before);
    Notification::at(to).signal()?;
    equal!(original.wait(POLL), Ok(9));
    equal!(minted.signal(), Err(Error::EmptySlot));
    Ok(())
}

fn untyped_and_reply_can_be_moved_but_not_copied(case: &mut Case) -> Outcome {
    let (untyped, reply): (Untyped, Reply) = (case.make_small()?, case.make()?);
    equal!(case.copy(untyped, Rights::ALL), Err(Error::NotCopyable));
    equal!(case.copy(reply, Rights::ALL), Err(Error::NotCopyable));
    let (first, second) = (case.slot(), case.slot());
    TABLE.take(untyped.slot(), first)?;
    TABLE.take(reply.slot(), second)?;
    equal!((look(first)?.kind, look(second)?.kind), (Kind::Untyped, Kind::Reply));
    equal!(Untyped::at(first).info()?.pages, 1);
    Ok(())
}

fn page_tables_can_not_be_copied(case: &mut Case) -> Outcome {
    let table: PageTable = case.make()?;
    equal!(case.copy(table, Rights::ALL), Err(Error::NotCopyable));
    Ok(())
}

fn delete_leaves_what_was_derived(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let child = case.copy(original, Rights::ALL)?;
    let grandchild = case.mint(child, Rights::ALL, 2)?;
    TABLE.delete(child.slot())?;
    equal!(look(child.slot())?.kind, Kind::Empty);
    grandchild.signal()?;
    equal!(original.wait(POLL), Ok(2));
    // It belongs to the original now.
    TABLE.revoke(original.slot())?;
    equal!(look(grandchild.slot())?.kind, Kind::Empty);
    equal!(look(original.slot())?.kind, Kind::Notification);
    Ok(())
}

fn delete_of_an_empty_slot_does_nothing(case: &mut Case) -> Outcome {
    let slot = case.slot();
    equal!(TABLE.delete(slot), Ok(()));
    equal!(TABLE.revoke(slot), Ok(()));
    Ok(())
}

fn revoke_takes_descendants_and_spares_the_rest(case: &mut Case) -> Outcome {
    let original: Endpoint = case.make()?;
    let older = case.copy(original, Rights::ALL)?;
    let middle = case.copy(original, Rights::ALL)?;
    let younger = case.copy(original, Rights::ALL)?;
    let child = case.copy(middle, Rights::ALL)?;
    let grandchild = case.mint(child, Rights::READ, 3)?;
    let nephew = case.copy(older, Rights::ALL)?;
    TABLE.revoke(middle.slot())?;
    for gone in [child, grandchild] {
        equal!(look(gone.slot())?.kind, Kind::Empty);
    }
    for kept in [original, older, middle, younger, nephew] {
        equal!(look(kept.slot())?.kind, Kind::Endpoint);
    }
    Ok(())
}

fn a_child_made_after_a_gap_does_not_own_its_nephews(case: &mut Case) -> Outcome {
    let original: Endpoint = case.make()?;
    let first = case.copy(original, Rights::ALL)?;
    let below = case.copy(first, Rights::ALL)?;
    // What was derived from `first` is now two deeper than `original`, and right behind it.
    TABLE.delete(first.slot())?;
    let second = case.copy(original, Rights::ALL)?;
    TABLE.revoke(second.slot())?;
    equal!(look(below.slot())?.kind, Kind::Endpoint);
    let own = case.copy(second, Rights::ALL)?;
    TABLE.revoke(second.slot())?;
    equal!(look(own.slot())?.kind, Kind::Empty);
    equal!(look(below.slot())?.kind, Kind::Endpoint);
    TABLE.revoke(original.slot())?;
    equal!((look(below.slot())?.kind, look(second.slot())?.kind), (Kind::Empty, Kind::Empty));
    Ok(())
}

fn a_moved_capability_keeps_its_place_in_the_family(case: &mut Case) -> Outcome {
    let original: Endpoint = case.make()?;
    let parent = case.copy(original, Rights::ALL)?;
    let child = case.copy(parent, Rights::ALL)?;
    let to = case.slot();
    TABLE.take(parent.slot(), to)?;
    TABLE.revoke(to)?;
    equal!(look(child.slot())?.kind, Kind::Empty);
    let child = case.copy(Endpoint::at(to), Rights::ALL)?;
    TABLE.revoke(original.slot())?;
    equal!((look(child.slot())?.kind, look(to)?.kind), (Kind::Empty, Kind::Empty));
    Ok(())
}

fn a_slot_is_stale_after_revoke(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(4)?;
    let (endpoint, thread) = (case.slot(), case.slot());
    memory.make::<Endpoint>(0, endpoint)?;
    memory.make::<Thread>(0, thread)?;
    TABLE.revoke(memory.slot())?;
    equal!(Endpoint::at(endpoint).send(&Message::OK, None, POLL), Err(Error::EmptySlot));
    equal!(Endpoint::at(endpoint).recv(None, None, POLL), Err(Error::EmptySlot));
    equal!(Thread::at(thread).info(), Err(Error::EmptySlot));
    Ok(())
}

fn slot_0_is_never_used(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let (zero, slot) = (Slot::new(0), endpoint.slot());
    equal!(TABLE.copy(slot, zero, Rights::ALL), Err(Error::InvalidSlot));
    equal!(TABLE.mint(slot, zero, Rights::ALL, 1), Err(Error::InvalidSlot));
    equal!(TABLE.take(slot, zero), Err(Error::InvalidSlot));
    equal!(TABLE.delete(zero), Err(Error::InvalidSlot));
    equal!(TABLE.revoke(zero), Err(Error::InvalidSlot));
    equal!(look(zero), Err(Error::InvalidSlot));
    equal!(MEMORY.make::<Endpoint>(0, zero), Err(Error::InvalidSlot));
    equal!(Endpoint::at(zero).recv(None, None, POLL), Err(Error::InvalidSlot));
    let to = case.slot();
    equal!(TABLE.copy(zero, to, Rights::ALL), Err(Error::InvalidSlot));
    Ok(())
}

fn slots_beyond_the_table_are_refused(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let small: CapTable = case.make_small()?;
    equal!(small.size(), Ok(64));
    for beyond in [64, 65, 4096, u32::MAX] {
        let beyond = Slot::new(beyond);
        equal!(small.copy(endpoint.slot(), beyond, Rights::ALL), Err(Error::InvalidSlot));
        equal!(small.look(beyond), Err(Error::InvalidSlot));
        equal!(small.delete(beyond), Err(Error::InvalidSlot));
    }
    equal!(small.copy(endpoint.slot(), Slot::new(63), Rights::ALL), Ok(()));
    for beyond in [4096, u32::MAX] {
        equal!(Endpoint::at(Slot::new(beyond)).recv(None, None, POLL), Err(Error::InvalidSlot));
    }
    let huge = invoke(TABLE.slot(), Method::CapTableLook, &[1 << 32 | 1], None, None);
    equal!(huge, Err(Error::InvalidSlot));
    Ok(())
}

fn an_occupied_slot_stays_as_it_is(case: &mut Case) -> Outcome {
    let (endpoint, other): (Endpoint, Notification) = (case.make()?, case.make()?);
    let to = other.slot();
    equal!(TABLE.copy(endpoint.slot(), to, Rights::ALL), Err(Error::SlotOccupied));
    equal!(TABLE.mint(endpoint.slot(), to, Rights::ALL, 1), Err(Error::SlotOccupied));
    equal!(TABLE.take(endpoint.slot(), to), Err(Error::SlotOccupied));
    equal!(TABLE.take(endpoint.slot(), endpoint.slot()), Err(Error::SlotOccupied));
    equal!(MEMORY.make::<Endpoint>(0, to), Err(Error::SlotOccupied));
    equal!((look(to)?.kind, look(endpoint.slot())?.kind), (Kind::Notification, Kind::Endpoint));
    Ok(())
}

fn an_empty_slot_has_nothing_to_copy_or_move(case: &mut Case) -> Outcome {
    let (from, to) = (case.slot(), case.slot());
    equal!(TABLE.copy(from, to, Rights::ALL), Err(Error::EmptySlot));
    equal!(TABLE.mint(from, to, Rights::ALL, 1), Err(Error::EmptySlot));
    equal!(TABLE.take(from, to), Err(Error::EmptySlot));
    equal!(look(to)?.kind, Kind::Empty);
    Ok(())
}

fn a_table_takes_write_to_change_and_read_to_look(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let table: CapTable = case.make_small()?;
    let (reader, writer) = (case.copy(table, Rights::READ)?, case.copy(table, Rights::WRITE)?);
    let place = Slot::new(9);
    equal!(reader.copy(endpoint.slot(), place, Rights::ALL), Err(Error::MissingRights));
    equal!(reader.take(endpoint.slot(), place), Err(Error::MissingRights));
    equal!(reader.delete(place), Err(Error::MissingRights));
    equal!(reader.revoke(place), Err(Error::MissingRights));
    equal!(writer.look(place), Err(Error::MissingRights));
    equal!(writer.size(), Err(Error::MissingRights));
    equal!(writer.copy(endpoint.slot(), place, Rights::ALL), Ok(()));
    equal!(reader.look(place)?.kind, Kind::Endpoint);
    Ok(())
}

fn unknown_rights_are_refused(case: &mut Case) -> Outcome {
    let endpoint: Endpoint = case.make()?;
    let to = case.slot();
    for rights in [16, 255, 256, u64::MAX] {
        let words = [to.number().into(), rights];
        let answer = invoke(TABLE.slot(), Method::CapTableCopy, &words, Some(endpoint.slot()), None);
        equal!(answer, Err(Error::InvalidArgument));
    }
    equal!(look(to)?.kind, Kind::Empty);
    Ok(())
}

fn capabilities_go_from_table_to_table(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let table: CapTable = case.make_small()?;
    let place = Slot::new(20);
    table.mint(original.slot(), place, Rights::WRITE, 4)?;
    equal!(table.look(place)?.badge, 4);
    let moved = case.mint(original, Rights::WRITE, 8)?;
    table.take(moved.slot(), Slot::new(21))?;
    equal!(look(moved.slot())?.kind, Kind::Empty);
    equal!(table.look(Slot::new(21))?.badge, 8);
    TABLE.revoke(original.slot())?;
    equal!((table.look(place)?.kind, table.look(Slot::new(21))?.kind), (Kind::Empty, Kind::Empty));
    Ok(())
}

fn revoke_of_many_comes_in_steps_and_ends(case: &mut Case) -> Outcome {
    let original: Endpoint = case.make()?;
    for _ in 0..200 {
        case.copy(original, Rights::ALL)?;
    }
    let mut steps = 1;
    while let Err(error) = TABLE.revoke_step(original.slot()) {
        equal!(error, Error::Again);
        steps += 1;
        check!(steps < 1000, "revoke does not end");
    }
    check!(steps > 5, "200 capabilities went in {steps} steps");
    for number in 1..=200 {
        equal!(look(original.slot().offset(number))?.kind, Kind::Empty);
    }
    Ok(())
}

fn delete_of_a_full_table_comes_in_steps_and_ends(case: &mut Case) -> Outcome {
    let original: Endpoint = case.make()?;
    let table: CapTable = case.make_sized(256)?;
    for place in 1..256 {
        table.copy(original.slot(), Slot::new(place), Rights::ALL)?;
    }
    let words = [table.slot().number().into()];
    let mut steps = 1;
    while let Err(error) = anos::capability::invoke_step(TABLE.slot(), Method::CapTableDelete, &words, None, None) {
        equal!(error, Error::Again);
        steps += 1;
        check!(steps < 1000, "delete does not end");
    }
    check!(steps > 5, "255 capabilities went in {steps} steps");
    equal!((look(table.slot())?.kind, look(original.slot())?.kind), (Kind::Empty, Kind::Endpoint));
    Ok(())
}

fn a_table_that_holds_itself_ends_with_its_memory(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(8)?;
    let (table, endpoint) = (case.slot(), case.slot());
    memory.make::<CapTable>(64, table)?;
    memory.make::<Endpoint>(0, endpoint)?;
    CapTable::at(table).take(endpoint, Slot::new(5))?;
    CapTable::at(table).take(table, Slot::new(6))?;
    equal!(look(table)?.kind, Kind::Empty);
    TABLE.revoke(memory.slot())?;
    equal!(memory.info()?.pages_used, 0);
    Ok(())
}

fn two_tables_that_hold_each_other_end_with_their_memory(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(8)?;
    let (first, second) = (case.slot(), case.slot());
    let spare = case.slot();
    memory.make::<CapTable>(64, first)?;
    memory.make::<CapTable>(64, second)?;
    TABLE.copy(first, spare, Rights::ALL)?;
    CapTable::at(first).take(second, Slot::new(5))?;
    // The last outside capability to the first goes into the second, which only the first holds.
    let inner = case.slot();
    equal!(CapTable::at(spare).look(Slot::new(5))?.kind, Kind::CapTable);
    TABLE.delete(first)?;
    equal!(look(inner)?.kind, Kind::Empty);
    TABLE.delete(spare)?;
    TABLE.revoke(memory.slot())?;
    equal!(memory.info()?.pages_used, 0);
    Ok(())
}
