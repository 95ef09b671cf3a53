//! Steps that make, copy, map and end objects.

use alloc::format;
use alloc::string::String;

use anos::abi::PAGE_SIZE;
use anos::abi::object::Method;
use anos::{Error, Kind, Rights, env};

use super::{PLACE, Thing, Trial, be, number, of, one, several, world};
use crate::gene::NUMBERS;

/// Pages that one page table maps.
const TABLE_PAGES: u64 = 512;
/// Levels of page tables below the root, at most.
const LEVELS: u64 = 4;
/// How many of something.
const COUNTS: [u32; 8] = [1, 1, 2, 4, 8, 16, 32, 64];

/// So many copies, in words.
fn copies(count: u32) -> String {
    if count == 1 { "a copy".into() } else { format!("{count} copies") }
}

impl Trial<'_> {
    /// Numbers: kind; size; how many; from which memory.
    pub fn make_objects(&mut self, [kind, size, count, from, ..]: [u8; NUMBERS]) {
        const KINDS: [Kind; 12] = [
            Kind::Untyped,
            Kind::Frame,
            Kind::Frame,
            Kind::PageTable,
            Kind::AddressSpace,
            Kind::CapTable,
            Kind::CapTable,
            Kind::Thread,
            Kind::Endpoint,
            Kind::Reply,
            Kind::Notification,
            Kind::SchedContext,
        ];
        let kind = of(&KINDS, kind);
        let size = match kind {
            Kind::Frame => of(&[1, 1, 2, 16, 128, 256, 511, 512], size),
            Kind::Untyped => of(&[1, 8, 64, 512, 2048], size),
            Kind::CapTable => of(&[64, 64, 128, 1024, 4096, 16384, 32768], size),
            _ => 0,
        };
        let count = of(&COUNTS, count);
        let memory = if from.is_multiple_of(4) { self.slot_of(Kind::Untyped, from / 4) } else { world::ARENA };
        let Some(first) = self.slots(count) else { return };
        self.tell(|| match size {
            0 | 1 => format!("{} {} made", several(count.into(), kind), be(count)),
            _ => format!("{} of size {size} {} made", several(count.into(), kind), be(count)),
        });
        let pass = if kind == Kind::SchedContext { world::SCHED_CONTROL } else { 0 };
        let words = [kind as u64, size, count.into(), 0];
        if self.try_method(memory, Method::UntypedRetype, &words, pass, first) {
            // A few are enough to be chosen from.
            (first..first + count.min(4)).for_each(|slot| _ = self.add(slot, kind));
        }
    }

    /// Numbers: kind of what is copied, and which; how many; how.
    pub fn copy(&mut self, [kind, which, count, how, badge, _]: [u8; NUMBERS]) {
        let Some(thing) = self.pick_any(kind, which) else { return };
        let count = of(&[1, 1, 2, 8, 16, 63, 64, 65, 200], count);
        let Some(first) = self.slots(count) else { return };
        let (chain, minted) = (how.is_multiple_of(2), how % 4 >= 2);
        self.tell(|| {
            let of = if chain { "each of the one before" } else { "all of it" };
            format!("{} of {} {} made, {of}", copies(count), one(thing.kind), be(count))
        });
        let mut from = thing.slot;
        for slot in first..first + count {
            let words = [slot.into(), Rights::ALL.0.into(), u64::from(badge)];
            let method = if minted { Method::CapTableMint } else { Method::CapTableCopy };
            if !self.try_method(number(env::OWN_TABLE), method, &words, from, 0) {
                return;
            }
            if slot == first || slot == first + count - 1 {
                self.things.push(Thing { slot, puppet: thing.puppet, ..self.thing(slot, thing.kind) });
            }
            if chain {
                from = slot;
            }
        }
    }

    fn thing(&self, slot: u32, kind: Kind) -> Thing {
        Thing { slot, kind, lasting: false, puppet: false }
    }

    /// Numbers: which Frame; in which space; where; rights; how many copies of it.
    pub fn map(&mut self, [frame, space, place, rights, count, page]: [u8; NUMBERS]) {
        let Some(frame) = self.pick(Kind::Frame, frame) else { return };
        let Ok([_, pages, ..]) = self.method(frame.slot, Method::FrameInfo, &[], 0, 0) else { return };
        let space = match self.pick(Kind::AddressSpace, space / 2) {
            Some(thing) if space.is_multiple_of(2) => thing.slot,
            _ => number(env::OWN_SPACE),
        };
        let count = of(&[1, 1, 1, 2, 4, 8, 16], count);
        let rights =
            of(&[Rights::READ.union(Rights::WRITE), Rights::READ, Rights::READ.union(Rights::EXECUTE)], rights);
        let Some(first) = self.slots(count) else { return };
        self.tell(|| format!("{} of a Frame of {pages} pages {} mapped", copies(count), be(count)));
        let stride = if pages > TABLE_PAGES / 2 { TABLE_PAGES } else { pages.next_power_of_two() };
        let mut at = PLACE + u64::from(place % 32) * TABLE_PAGES * PAGE_SIZE + of(&[0, 0, 1, 256], page) * PAGE_SIZE;
        for slot in first..first + count {
            let copy = [slot.into(), Rights::ALL.0.into()];
            if !self.try_method(number(env::OWN_TABLE), Method::CapTableCopy, &copy, frame.slot, 0) {
                return;
            }
            let copied = self.thing(slot, Kind::Frame);
            self.things.push(copied);
            if !self.map_one(slot, space, at, rights) {
                return;
            }
            at += stride * PAGE_SIZE;
        }
    }

    /// Maps a Frame, and the page tables that it takes.
    fn map_one(&mut self, frame: u32, space: u32, at: u64, rights: Rights) -> bool {
        for _ in 0..=LEVELS {
            match self.method(frame, Method::FrameMap, &[at, rights.0.into(), 0], space, 0) {
                Err(Error::MissingTable) if self.add_table(space, at) => {}
                done => return done.is_ok(),
            }
        }
        false
    }

    /// Makes the highest page table that is missing.
    fn add_table(&mut self, space: u32, at: u64) -> bool {
        let Some(table) = self.retype(Kind::PageTable, 0, 1) else { return false };
        for level in 1..=LEVELS {
            match self.method(table, Method::PageTableMap, &[at, level], space, 0) {
                Err(Error::MissingTable) => {}
                done => return done.is_ok(),
            }
        }
        false
    }

    /// Numbers: Frame or table; which.
    pub fn unmap(&mut self, [kind, which, ..]: [u8; NUMBERS]) {
        let (kind, method) = of(&[(Kind::Frame, Method::FrameUnmap), (Kind::PageTable, Method::PageTableUnmap)], kind);
        let Some(thing) = self.pick(kind, which) else { return };
        self.tell(|| format!("{} is unmapped", one(kind)));
        self.try_method(thing.slot, method, &[], 0, 0);
    }

    /// Numbers: kind, and which; what is done to it.
    pub fn slot(&mut self, [kind, which, what, ..]: [u8; NUMBERS]) {
        let Some(thing) = self.pick_any(kind, which) else { return };
        let methods = [
            Method::CapTableDelete,
            Method::CapTableDelete,
            Method::CapTableRevoke,
            Method::CapTableRevoke,
            Method::CapTableLook,
            Method::CapTableCancel,
            Method::CapTableMove,
        ];
        let method = of(&methods, what);
        let own = number(env::OWN_TABLE);
        self.tell(|| format!("{method:?} of {}", one(thing.kind)));
        match method {
            Method::CapTableMove | Method::CapTableDelete if thing.lasting => {}
            Method::CapTableMove => {
                let Some(to) = self.slots(1) else { return };
                if self.try_method(own, method, &[to.into()], thing.slot, 0) {
                    self.things.retain(|other| *other != thing);
                    self.things.push(Thing { slot: to, ..thing });
                }
            }
            _ => {
                let done = self.try_method(own, method, &[thing.slot.into()], 0, 0);
                if method == Method::CapTableDelete && done {
                    self.things.retain(|other| *other != thing);
                }
            }
        }
    }

    /// Numbers: which table; the first of what goes there, by its number; how many; whether they are moved.
    pub fn store(&mut self, [table, kind, which, count, moved, _]: [u8; NUMBERS]) {
        let Some(table) = self.pick_or_make(Kind::CapTable, table) else { return };
        let count = usize::from(of(&[1u8, 1, 4, 16, 62], count));
        let Some(thing) = self.pick_any(kind, which) else { return };
        let moved = moved.is_multiple_of(2) && !thing.lasting;
        self.tell(|| format!("up to {count} capabilities to {}s go into another CapTable", thing.kind.name()));
        if !moved {
            for _ in 0..count {
                self.put(table, thing, false);
            }
            return;
        }
        let same = |other: &&Thing| other.kind == thing.kind && !other.lasting && other.slot != table;
        let all: alloc::vec::Vec<Thing> = self.things.iter().rev().filter(same).take(count).copied().collect();
        for thing in all {
            if self.put(table, thing, true) {
                self.things.retain(|other| *other != thing);
            }
        }
    }

    fn put(&mut self, table: u32, thing: Thing, moved: bool) -> bool {
        let to = self.next_inside;
        self.next_inside += 1;
        let words = [to, Rights::ALL.0.into()];
        let method = if moved { Method::CapTableMove } else { Method::CapTableCopy };
        self.try_method(table, method, &words, thing.slot, 0)
    }

    /// Numbers: which table; what is done; which slot of it.
    pub fn inside(&mut self, [table, what, slot, ..]: [u8; NUMBERS]) {
        let Some(table) = self.pick(Kind::CapTable, table) else { return };
        let methods = [Method::CapTableDelete, Method::CapTableRevoke, Method::CapTableLook, Method::CapTableCancel];
        let method = of(&methods, what);
        let slot = u64::from(slot) % self.next_inside.max(2);
        self.tell(|| format!("{method:?} in another CapTable"));
        self.try_method(table.slot, method, &[slot], 0, 0);
    }
}
