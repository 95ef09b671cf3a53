//! What runs out, and what grows large: memory, tables, families.

use anos::capability::{CapTable, Capability, Endpoint, Slot, Untyped};
use anos::{Error, Kind, Rights};

use super::cases;
use crate::case::{Case, TABLE, look};
use crate::check::{Outcome, check, equal};

cases![memory_can_be_used_up_and_comes_back, a_full_table_takes_no_more, a_family_ten_thousand_deep_is_no_burden,];

fn memory_can_be_used_up_and_comes_back(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(256)?;
    for round in 0..3 {
        let mut made = 0;
        let first = case.slots(70);
        while let Ok(()) = memory.retype(Kind::Thread, 0, 8, first.offset(8 * made)) {
            made += 1;
            if made == 8 {
                break;
            }
        }
        check!(made == 8, "round {round}: {made} times 8 threads");
        let rest = memory.info()?;
        let frame = first.offset(64);
        memory.retype(Kind::Frame, rest.pages - rest.pages_used, 1, frame)?;
        equal!(memory.retype(Kind::Endpoint, 0, 1, first.offset(65)), Err(Error::NotEnoughMemory));
        TABLE.revoke(memory.slot())?;
        equal!(memory.info()?.pages_used, 0);
    }
    Ok(())
}

fn a_full_table_takes_no_more(case: &mut Case) -> Outcome {
    let table: CapTable = case.make_small()?;
    let endpoint: Endpoint = case.make()?;
    for place in 1..64 {
        table.copy(endpoint.slot(), Slot::new(place), Rights::ALL)?;
    }
    for place in 1..64 {
        equal!(table.copy(endpoint.slot(), Slot::new(place), Rights::ALL), Err(Error::SlotOccupied));
    }
    equal!(table.copy(endpoint.slot(), Slot::new(64), Rights::ALL), Err(Error::InvalidSlot));
    Ok(())
}

fn a_family_ten_thousand_deep_is_no_burden(case: &mut Case) -> Outcome {
    let table: CapTable = case.make_sized(16 * 1024)?;
    let endpoint: Endpoint = case.make()?;
    // Each is derived from the one before, by way of a slot in this table, from which it then moves.
    let mut last = endpoint.slot();
    let (a, b) = (case.slot(), case.slot());
    for place in 1..10_000 {
        let next = if place % 2 == 0 { a } else { b };
        TABLE.copy(last, next, Rights::ALL)?;
        if last != endpoint.slot() {
            table.take(last, Slot::new(place))?;
        }
        last = next;
    }
    equal!(table.look(Slot::new(9_999))?.kind, Kind::Endpoint);
    TABLE.revoke(endpoint.slot())?;
    for place in [2, 3, 5_000, 9_999] {
        equal!(table.look(Slot::new(place))?.kind, Kind::Empty);
    }
    equal!(look(last)?.kind, Kind::Empty);
    Ok(())
}
