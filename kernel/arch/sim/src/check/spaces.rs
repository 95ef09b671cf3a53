//! Rules for address spaces: nothing is mapped that no capability allows, and no processor remembers more than is
//! mapped.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anos_abi::{Kind, PAGE_SIZE, Rights};
use anos_machine::{Entry, Slot};

use super::{Broken, World, rule};
use crate::mmu::{self, KERNEL_ENTRY};
use crate::sim::Sim;

/// Checks all of them.
pub fn check(sim: &Sim, world: &World) -> Result<(), Broken> {
    let mut walk = Walk::new(sim, world);
    let spaces = world.slots.values().filter(|slot| slot.kind() == Kind::AddressSpace).map(|slot| slot.object);
    for root in spaces.collect::<BTreeSet<_>>() {
        walk.root(root)?;
    }
    processors(sim, world)
}

struct Walk<'a> {
    sim: &'a Sim,
    world: &'a World,
    frames: HashMap<(u64, u64), Vec<&'a Slot>>,
    tables: BTreeMap<u64, &'a Slot>,
    seen: BTreeSet<u64>,
}

impl<'a> Walk<'a> {
    fn new(sim: &'a Sim, world: &'a World) -> Self {
        let mut frames: HashMap<_, Vec<_>> = HashMap::new();
        let mut tables = BTreeMap::new();
        for slot in world.slots.values().filter(|slot| slot.space != 0) {
            if slot.kind() == Kind::Frame {
                for page in 0..slot.extent {
                    frames.entry((slot.root, slot.badge + page * PAGE_SIZE)).or_default().push(slot);
                }
            } else if slot.kind() == Kind::PageTable {
                tables.insert(slot.object, slot);
            }
        }
        Walk { sim, world, frames, tables, seen: BTreeSet::new() }
    }

    /// Walks a root table, level by level.
    fn root(&mut self, root: u64) -> Result<(), Broken> {
        let space = self.sim.with_store(|store| store.record(root).map_or(0, |record| record.space()));
        rule!(space != 0, "address space {root:#x} has no id");
        let levels = self.sim.board.config.levels;
        for entry in 256..512 {
            rule!(self.sim.board.ram.entry(root, entry) == KERNEL_ENTRY, "the kernel's half of {root:#x} is damaged");
        }
        let mut tables = vec![(root, levels, 0)];
        while let Some((table, level, base)) = tables.pop() {
            let size = PAGE_SIZE << (9 * (u32::from(level) - 1));
            let entries = if table == root { 256 } else { 512 };
            for number in 0..entries {
                let entry = self.sim.board.ram.entry(table, number);
                let address = base + number * size;
                match mmu::entry(entry, level) {
                    Entry::Empty => rule!(entry == 0, "a stray entry {entry:#x} at {address:#x} of {root:#x}"),
                    Entry::Leaf(page) => self.leaf(root, space, address, page, size, mmu::rights(entry))?,
                    Entry::Table(next) => {
                        self.table(root, space, address, next, level)?;
                        tables.push((next, level - 1, address));
                    }
                }
            }
        }
        Ok(())
    }

    fn at_boot(&self, page: u64) -> bool {
        self.sim.is_boot_page(page)
    }

    fn table(&mut self, root: u64, space: u64, address: u64, table: u64, level: u8) -> Result<(), Broken> {
        let kind = self.world.kind_of(table);
        rule!(kind == Some(Kind::PageTable), "table {table:#x} at {address:#x} of {root:#x} is a page of {kind:?}");
        rule!(self.seen.insert(table), "table {table:#x} at {address:#x} of {root:#x} is used twice");
        let Some(slot) = self.tables.get(&table) else {
            rule!(self.at_boot(table), "table {table:#x} at {address:#x} of {root:#x} has no mapped capability");
            return Ok(());
        };
        let size = PAGE_SIZE << (9 * (u32::from(level) - 1));
        let place = slot.badge & !(size - 1);
        let fits = (slot.root, slot.space, place, slot.extent) == (root, space, address, u64::from(level) - 1);
        rule!(fits, "table {table:#x} lies at {address:#x} (level {level}) of {root:#x}, and thinks {slot:x?}");
        Ok(())
    }

    fn leaf(&self, root: u64, space: u64, address: u64, page: u64, size: u64, rights: Rights) -> Result<(), Broken> {
        rule!(!rights.contains(Rights::WRITE.union(Rights::EXECUTE)), "{address:#x} of {root:#x}: writable code");
        for offset in (0..size).step_by(crate::memory::index(PAGE_SIZE)) {
            let kind = self.world.kind_of(page + offset);
            let fine = matches!(kind, None | Some(Kind::Frame));
            rule!(fine, "{:#x} of {root:#x} maps {:#x}, a page of {kind:?}", address + offset, page + offset);
        }
        // A capability whose table was taken away still thinks that it is mapped: another may be in its place.
        let claims = self.frames.get(&(root, address)).map_or(&[][..], Vec::as_slice);
        rule!(
            !claims.is_empty() || self.at_boot(page),
            "{address:#x} of {root:#x} maps {page:#x} without a capability"
        );
        let fits = |slot: &&Slot| {
            let physical = slot.object + (address - slot.badge);
            let covered = address - slot.badge + size <= slot.extent * PAGE_SIZE;
            physical == page && covered && slot.space == space && slot.rights().contains(rights)
        };
        let fine = claims.is_empty() || claims.iter().any(fits);
        rule!(fine, "{address:#x} of {root:#x} maps {page:#x} with {rights:?}, but the capabilities say {claims:x?}");
        Ok(())
    }
}

/// What the processors have loaded and remember.
fn processors(sim: &Sim, world: &World) -> Result<(), Broken> {
    let levels = sim.board.config.levels;
    for (core, processor) in sim.board.processors.iter().enumerate() {
        let kind = world.kind_of(processor.root);
        let sane = processor.root == 0 || kind == Some(Kind::AddressSpace);
        rule!(sane, "core {core} has loaded {:#x}, a page of {kind:?}", processor.root);
        if processor.trapped.is_some() {
            continue;
        }
        let root = processor.root;
        if root == 0 {
            rule!(processor.tlb.borrow().entries().count() == 0, "core {core} is idle and remembers");
            continue;
        }
        let thread = &world.threads[&processor.thread.address()];
        rule!(thread.slots[1].object == root, "core {core} runs in {root:#x}, its thread's is {:x?}", thread.slots[1]);
        let loaded = sim.with_store(|store| store.record(root).map_or(0, |record| record.loaded().0));
        rule!(loaded >> core & 1 == 1, "core {core} runs in {root:#x}, whose record says {loaded:#b}");
        for (page, known) in processor.tlb.borrow().entries() {
            let found = mmu::walk(&sim.board.ram, root, levels, page);
            let fine = match (known, found) {
                (None, found) => found.is_none(),
                (Some(known), Some(found)) => known.page == found.page && found.rights.contains(known.rights),
                (Some(_), None) => false,
            };
            rule!(fine, "core {core} remembers {known:x?} for {page:#x} of {root:#x}, where there is {found:x?}");
        }
    }
    Ok(())
}
