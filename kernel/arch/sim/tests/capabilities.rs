//! Capability tables and families: copy, mint, move, delete, revoke.

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Error, Kind, Rights, SystemCall};
use anos_machine::{CoreId, Ref, Slot};
use anos_sim::{Message, Sim, core_id};

const BOOT: CoreId = CoreId::BOOT;
const TABLE: u32 = slot::CAP_TABLE;

fn call(sim: &mut Sim, method: Method, words: &[u64], pass: u32) -> Result<[u64; 8], Error> {
    let result = sim.call(BOOT, TABLE, method, words, pass, 0).result();
    sim.check();
    result
}

fn copy(sim: &mut Sim, from: u32, to: u64, rights: u64) -> Result<(), Error> {
    call(sim, Method::CapTableCopy, &[to, rights], from).map(|_| ())
}

#[test]
fn a_copy_has_the_rights_that_both_allow() {
    let mut sim = Sim::boot(1);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let read_grant = sim.copy(endpoint, 1 | 4);
    let read_write = sim.copy(read_grant, 1 | 2);
    assert_eq!(sim.look(read_grant).rights(), Rights(1 | 4));
    assert_eq!(sim.look(read_write).rights(), Rights(1), "no copy has more than its origin");
    let look = call(&mut sim, Method::CapTableLook, &[read_write.into()], 0).expect("a slot");
    assert_eq!(look[..5], [Kind::Endpoint as u64, 1, 0, 0, 0]);
    for rights in [16, 255, 256, u64::MAX] {
        let to = sim.slot();
        assert_eq!(copy(&mut sim, endpoint, to.into(), rights), Err(Error::InvalidArgument));
    }
}

#[test]
fn slots_outside_the_table_empty_ones_and_slot_zero_are_refused() {
    let mut sim = Sim::boot(1);
    let free = u64::from(sim.slot());
    for wrong in [0, 4096, u64::from(u32::MAX), u64::MAX, u64::MAX / 64 + 2] {
        assert_eq!(copy(&mut sim, TABLE, wrong, 15), Err(Error::InvalidSlot), "{wrong:#x}");
        for method in [Method::CapTableDelete, Method::CapTableRevoke, Method::CapTableLook] {
            assert_eq!(call(&mut sim, method, &[wrong], 0), Err(Error::InvalidSlot), "{method:?} {wrong:#x}");
        }
    }
    assert_eq!(copy(&mut sim, TABLE, slot::DEBUG.into(), 15), Err(Error::SlotOccupied));
    assert_eq!(copy(&mut sim, 900, free, 15), Err(Error::EmptySlot));
    assert_eq!(copy(&mut sim, 0, free, 15), Err(Error::InvalidSlot));
    assert_eq!(copy(&mut sim, 4096, free, 15), Err(Error::InvalidSlot));
    assert_eq!(copy(&mut sim, slot::UNTYPED, free, 15), Err(Error::NotCopyable));
    let reply = sim.make(Kind::Reply, 0);
    assert_eq!(copy(&mut sim, reply, free, 15), Err(Error::NotCopyable));
    let result = sim.call(BOOT, 900, Method::CapTableInfo, &[], 0, 0);
    assert_eq!(result.status.result(), Err(Error::EmptySlot));
    let label = sim.call(BOOT, TABLE, Method::UntypedInfo, &[], 0, 0);
    assert_eq!(label.result(), Err(Error::InvalidMethod), "a method of another kind");
}

#[test]
fn a_table_without_the_right_refuses() {
    let mut sim = Sim::boot(1);
    let weak = sim.copy(TABLE, Rights::READ.0);
    let free = u64::from(sim.slot());
    for method in [Method::CapTableCopy, Method::CapTableMint, Method::CapTableMove, Method::CapTableDelete] {
        let answer = sim.call(BOOT, weak, method, &[free, 15, 0], slot::DEBUG, 0);
        assert_eq!(answer.result(), Err(Error::MissingRights), "{method:?}");
    }
    assert!(sim.call(BOOT, weak, Method::CapTableLook, &[free], 0, 0).result().is_ok());
    let strong = sim.copy(TABLE, Rights::WRITE.0);
    assert_eq!(sim.call(BOOT, strong, Method::CapTableLook, &[free], 0, 0).result(), Err(Error::MissingRights));
}

#[test]
fn a_badge_is_given_once_and_stays() {
    let mut sim = Sim::boot(1);
    for kind in [Kind::Endpoint, Kind::Notification] {
        let origin = sim.make(kind, 0);
        let seven = sim.mint(origin, 7);
        assert_eq!(sim.look(seven).badge, 7);
        let copy = sim.copy(seven, 15);
        assert_eq!(sim.look(copy).badge, 7);
        let free = u64::from(sim.slot());
        assert_eq!(call(&mut sim, Method::CapTableMint, &[free, 15, 8], seven), Err(Error::InvalidArgument));
    }
    let frame = sim.make(Kind::Frame, 1);
    let free = u64::from(sim.slot());
    assert_eq!(call(&mut sim, Method::CapTableMint, &[free, 15, 8], frame), Err(Error::InvalidArgument));
}

#[test]
fn revoking_takes_all_descendants_and_nothing_else() {
    let mut sim = Sim::boot(1);
    let origin = sim.make(Kind::Endpoint, 0);
    let left = sim.mint(origin, 1);
    let right = sim.mint(origin, 2);
    let under: Vec<u32> = (0..30).map(|_| sim.copy(left, 15)).collect();
    let deep = (0..30).fold(left, |above, _| sim.copy(above, 15));
    sim.revoke(left);
    assert!(under.iter().chain([&deep]).all(|&slot| sim.look(slot).is_empty()));
    assert!(!sim.look(left).is_empty() && !sim.look(right).is_empty());
    sim.revoke(origin);
    assert!(sim.look(left).is_empty() && sim.look(right).is_empty() && !sim.look(origin).is_empty());
}

#[test]
fn what_a_deleted_capability_derived_belongs_to_the_next_one_up() {
    let mut sim = Sim::boot(1);
    let origin = sim.make(Kind::Endpoint, 0);
    let middle = sim.copy(origin, 15);
    let leaf = sim.copy(middle, 15);
    sim.delete(middle);
    assert!(!sim.look(leaf).is_empty());
    sim.revoke(origin);
    assert!(sim.look(leaf).is_empty());
}

#[test]
fn a_new_child_does_not_adopt_what_a_deleted_sibling_left() {
    // Delete A from X 0, A 1, B 2; then give X a new child C. C must not be able to revoke B.
    let mut sim = Sim::boot(1);
    let x = sim.make(Kind::Endpoint, 0);
    let a = sim.copy(x, 15);
    let b = sim.copy(a, 15);
    sim.delete(a);
    let c = sim.copy(x, 15);
    sim.revoke(c);
    assert!(!sim.look(b).is_empty(), "C took B for its own");
    // And C's own children are still C's.
    let d = sim.copy(c, 15);
    sim.revoke(c);
    assert!(sim.look(d).is_empty() && !sim.look(b).is_empty());
    sim.revoke(x);
    assert!(sim.look(b).is_empty() && sim.look(c).is_empty());
}

#[test]
fn what_a_deleted_capability_derived_is_not_left_to_a_newer_sibling() {
    // X 0, S 1, A 1, B 2, C 3, D 2: S is newer than A, and stands in front. Delete A: none of its heirs is S's.
    let mut sim = Sim::boot(1);
    let x = sim.make(Kind::Endpoint, 0);
    let a = sim.copy(x, 15);
    let d = sim.copy(a, 15);
    let b = sim.copy(a, 15);
    let c = sim.copy(b, 15);
    let s = sim.copy(x, 15);
    sim.delete(a);
    sim.revoke(s);
    assert!([b, c, d].iter().all(|&heir| !sim.look(heir).is_empty()), "S took what A had derived");
    sim.revoke(b);
    assert!(sim.look(c).is_empty() && !sim.look(d).is_empty(), "what stems from B still does");
    sim.revoke(x);
    assert!([b, d, s].iter().all(|&slot| sim.look(slot).is_empty()));
}

#[test]
fn a_capability_with_too_many_heirs_and_a_newer_sibling_must_be_revoked_first() {
    let mut sim = Sim::boot(1);
    let x = sim.make(Kind::Endpoint, 0);
    let a = sim.copy(x, 15);
    for _ in 0..32 {
        sim.copy(a, 15);
    }
    let s = sim.copy(x, 15);
    let last = sim.copy(a, 15);
    assert_eq!(call(&mut sim, Method::CapTableDelete, &[a.into()], 0), Err(Error::Busy));
    sim.delete(last);
    sim.delete(a);
    sim.revoke(s);
    sim.revoke(x);
    // With nothing in front of it but its parent, any number will do.
    let a = sim.copy(x, 15);
    for _ in 0..33 {
        sim.copy(a, 15);
    }
    sim.delete(a);
}

#[test]
fn the_gap_is_kept_over_several_generations_of_deletions() {
    let mut sim = Sim::boot(1);
    let x = sim.make(Kind::Endpoint, 0);
    let chain: Vec<u32> = (0..6)
        .scan(x, |above, _| {
            *above = sim.copy(*above, 15);
            Some(*above)
        })
        .collect();
    for &deleted in &chain[..5] {
        sim.delete(deleted);
        let fresh = sim.copy(x, 15);
        sim.revoke(fresh);
        assert!(!sim.look(chain[5]).is_empty());
    }
}

#[test]
fn a_moved_capability_keeps_its_place_in_the_family() {
    let mut sim = Sim::boot(1);
    let origin = sim.make(Kind::Endpoint, 0);
    let middle = sim.mint(origin, 3);
    let leaf = sim.copy(middle, 15);
    let to = sim.slot();
    call(&mut sim, Method::CapTableMove, &[to.into()], middle).expect("moved");
    assert!(sim.look(middle).is_empty());
    sim.revoke(to);
    assert!(sim.look(leaf).is_empty());
    sim.revoke(origin);
    assert!(sim.look(to).is_empty());
    assert_eq!(call(&mut sim, Method::CapTableMove, &[slot::DEBUG.into()], origin), Err(Error::SlotOccupied));
    // Even the Untyped that everything comes from, and the table itself, can be moved.
    let endpoint = sim.make(Kind::Endpoint, 0);
    let untyped = sim.slot();
    call(&mut sim, Method::CapTableMove, &[untyped.into()], slot::UNTYPED).expect("moved");
    sim.revoke(untyped);
    assert!(sim.look(endpoint).is_empty());
}

#[test]
fn revoke_works_in_bounded_steps() {
    let mut sim = Sim::boot(1);
    let endpoint = sim.make(Kind::Endpoint, 0);
    for _ in 0..100 {
        sim.copy(endpoint, 15);
    }
    let mut steps = 0;
    while call(&mut sim, Method::CapTableRevoke, &[endpoint.into()], 0) == Err(Error::Again) {
        steps += 1;
        assert!(steps < 200);
    }
    // Each of them takes as many as it may, and no more; the rest goes with the last call.
    assert_eq!(steps, 100 / anos_core::bounds::DELETE_STEPS);
}

#[test]
fn a_table_that_ends_takes_its_capabilities_along() {
    let mut sim = Sim::boot(1);
    let table = sim.make(Kind::CapTable, 256);
    let endpoint = sim.make(Kind::Endpoint, 0);
    for place in 1..=200 {
        sim.ok(table, Method::CapTableCopy, &[place, 15], endpoint);
    }
    // Its own capability, too: as a table that its process uses.
    sim.ok(table, Method::CapTableCopy, &[255, 15], table);
    sim.revoke(table);
    sim.delete(table);
    sim.delete(endpoint);
    let used = sim.ok(slot::UNTYPED, Method::UntypedInfo, &[], 0)[2];
    assert_eq!(used, 0, "the last copies went with the table");
}

#[test]
fn a_table_that_is_ending_takes_nothing_more_in() {
    let mut sim = Sim::boot(1);
    let table = sim.make(Kind::CapTable, 256);
    let endpoint = sim.make(Kind::Endpoint, 0);
    for place in 1..=200 {
        sim.ok(table, Method::CapTableCopy, &[place, 15], endpoint);
    }
    assert_eq!(call(&mut sim, Method::CapTableDelete, &[table.into()], 0), Err(Error::Again));
    for method in [Method::CapTableCopy, Method::CapTableMint, Method::CapTableMove] {
        let result = sim.call(BOOT, table, method, &[1, 15, 0], endpoint, 0).result();
        assert_eq!(result, Err(Error::Busy), "{method:?} into a slot that was emptied already");
    }
    let free = u64::from(sim.slot());
    assert_eq!(copy(&mut sim, table, free, 15), Err(Error::Busy), "nor does it get another capability");
    let program = sim.make(Kind::Thread, 0);
    let result = sim.call(BOOT, program, Method::ThreadSetTable, &[], table, 0).result();
    assert_eq!(result, Err(Error::Busy), "nor a thread");
    sim.delete(table);
    sim.check();
}

/// A thread and the table that it alone uses, both made from `home`; the thread can't be named by others for long.
fn thread_with_table_of_its_own(sim: &mut Sim, home: u32) -> (u32, u32) {
    let thread = sim.make_from(home, Kind::Thread, 0, 1);
    let table = sim.make_from(home, Kind::CapTable, 256, 1);
    sim.ok(thread, Method::ThreadSetTable, &[], table);
    sim.ok(thread, Method::ThreadSetSpace, &[], slot::ADDRESS_SPACE);
    sim.ok(thread, Method::ThreadSetPriority, &[5, 5], 0);
    let context = sim.make_context(1);
    sim.ok(thread, Method::ThreadSetContext, &[], context);
    (thread, table)
}

#[test]
fn a_thread_puts_nothing_into_its_table_while_that_ends() {
    let mut sim = Sim::boot(2);
    let home = sim.make(Kind::Untyped, 16);
    let memory = sim.make(Kind::Untyped, 4);
    let (thread, table) = thread_with_table_of_its_own(&mut sim, home);
    let endpoint = sim.make(Kind::Endpoint, 0);
    for place in 1..100 {
        sim.ok(table, Method::CapTableCopy, &[place, 15], endpoint);
    }
    sim.ok(table, Method::CapTableMove, &[200], memory);
    sim.ok(thread, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    sim.settle();
    // The table's capability goes, and the thread's own, the last one to the table, is next; the thread lives.
    assert_eq!(call(&mut sim, Method::CapTableRevoke, &[home.into()], 0), Err(Error::Again));
    let words = [Kind::Frame as u64, 1, 1, 0];
    let answer = sim.call(core_id(1), 200, Method::UntypedRetype, &words, 0, 1);
    assert_eq!(answer.status.result(), Err(Error::InvalidSlot), "the thread has no table any more");
    sim.check();
    sim.revoke(home);
    sim.make_from(home, Kind::Endpoint, 0, 64);
    sim.make_from(home, Kind::CapTable, 256, 1);
    sim.check();
}

#[test]
fn a_table_that_holds_the_only_capability_to_its_thread_ends_with_it() {
    let mut sim = Sim::boot(2);
    let home = sim.make(Kind::Untyped, 16);
    let (thread, table) = thread_with_table_of_its_own(&mut sim, home);
    sim.ok(thread, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
    sim.ok(table, Method::CapTableMove, &[7], thread);
    sim.ok(table, Method::CapTableMove, &[8], table);
    sim.settle();
    sim.check();
    sim.revoke(home);
    assert_eq!(sim.ok(home, Method::UntypedInfo, &[], 0)[2], 0);
    assert_eq!(sim.thread(core_id(1)), None);
}

#[test]
fn a_table_that_is_ending_stays_where_it_is() {
    let mut sim = Sim::boot(2);
    let table = sim.make(Kind::CapTable, 256);
    let endpoint = sim.make(Kind::Endpoint, 0);
    for place in 1..=200 {
        sim.ok(table, Method::CapTableCopy, &[place, 15], endpoint);
    }
    let receiver = sim.spawn(1, 5);
    let free = sim.slot();
    sim.run(receiver, SystemCall::Recv, endpoint, &Message::new(0).receive(free));
    assert_eq!(call(&mut sim, Method::CapTableDelete, &[table.into()], 0), Err(Error::Again));
    assert_eq!(call(&mut sim, Method::CapTableMove, &[free.into()], table), Err(Error::Busy));
    sim.system_call(BOOT, SystemCall::Send, endpoint, &Message::new(9).pass(table));
    sim.settle();
    let answer = sim.answer_of(receiver);
    assert_eq!((answer.label, answer.status.has_capability()), (9, false), "a message doesn't take it along either");
    assert!(sim.look(free).is_empty());
    sim.delete(table);
    assert!(sim.look(table).is_empty());
    sim.check();
}

#[test]
fn nothing_stems_from_a_capability_at_the_greatest_depth() {
    let mut sim = Sim::boot(1);
    let untyped = sim.make(Kind::Untyped, 8);
    let endpoint = sim.make(Kind::Endpoint, 0);
    let table = sim.root_table();
    for at in [untyped, endpoint, slot::INTERRUPT_CONTROL, slot::IO_PORT_CONTROL] {
        sim.with_store(|store| {
            store.get::<Slot>(Ref::at(table + u64::from(at) * 64)).expect("a slot").depth = u32::MAX
        });
    }
    let free = sim.slot();
    let mut refused = |at, method, words: &[u64], pass| {
        let result = sim.call(BOOT, at, method, words, pass, free).result();
        assert_eq!(result, Err(Error::TooDeep), "{method:?}");
        assert!(sim.look(free).is_empty());
    };
    refused(untyped, Method::UntypedRetype, &[Kind::Frame as u64, 1, 1, 0], 0);
    refused(TABLE, Method::CapTableCopy, &[free.into(), 15], endpoint);
    refused(TABLE, Method::CapTableMint, &[free.into(), 15, 3], endpoint);
    refused(slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &[3, 0, 0], 0);
    refused(slot::IO_PORT_CONTROL, Method::IoPortControlGet, &[3, 3], 0);
    sim.ok(TABLE, Method::CapTableMove, &[free.into()], endpoint);
}

#[test]
fn tables_that_hold_each_other_end_with_their_memory() {
    let mut sim = Sim::boot(1);
    let part = sim.make(Kind::Untyped, 8);
    let tables = sim.make_from(part, Kind::CapTable, 64, 3);
    // Each table's only capability moves into the next one: nobody can name them any more.
    for number in 0..3 {
        let from = tables + number;
        if number < 2 {
            let into = tables + number + 1;
            sim.ok(into, Method::CapTableMove, &[5], from);
        } else {
            sim.ok(from, Method::CapTableMove, &[6], from);
        }
    }
    sim.revoke(part);
    assert_eq!(sim.ok(part, Method::UntypedInfo, &[], 0)[2], 0);
    sim.make_from(part, Kind::Frame, 8, 1);
}

#[test]
fn the_root_server_can_revoke_the_table_of_its_own_thread_and_only_hurts_itself() {
    let mut sim = Sim::boot(2);
    let program = sim.spawn(1, 5);
    let answer = sim.call(BOOT, TABLE, Method::CapTableRevoke, &[TABLE.into()], 0, 0);
    assert_eq!(answer.status.result(), Ok(()));
    sim.check();
    sim.settle();
    // Both threads are left without a table, and can name nothing.
    let answer = sim.call(program.core, slot::DEBUG, Method::DebugCounters, &[], 0, 0);
    assert_eq!(answer.status.result(), Err(Error::InvalidSlot));
    sim.check();
}
