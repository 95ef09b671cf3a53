//! Page tables and mappings.
//!
//! User space supplies every table and names every position; the kernel walks down to it, checks, and writes one
//! entry (or the run of entries of one Frame). A Frame or PageTable capability remembers where it is mapped: the
//! space's root table and its id, which is never used twice, so a memory of a space that has ended is harmless.

use anos_abi::{Error, Kind, PAGE_SIZE, Rights};
use anos_machine::{AddressSpace, CoreId, CoreSet, Entry, Machine, Mapping, Place, Reason, Ref, Slot, SlotRef};

use crate::bounds::{MAX_LEVELS, TAGS};
use crate::call::Request;
use crate::state::{CoreState, Tag};
use crate::table::rights_of;
use crate::{Outcome, Visit};

/// Bytes that a table of level 1 maps, and a large page.
const LARGE: u64 = 512 * PAGE_SIZE;

/// A run of entries in one table.
#[derive(Clone, Copy, Debug)]
struct Position {
    table: Ref<AddressSpace>,
    index: usize,
    count: usize,
    level: u8,
}

fn index_at(address: u64, level: u8) -> usize {
    let [low, high, ..] = (address >> (12 + 9 * (level - 1)) & 511).to_le_bytes();
    usize::from(low) | usize::from(high) << 8
}

/// Where a Frame goes at this address: as one large page if it fills one, else page by page, within one table.
fn shape(frame: &Slot, address: u64) -> Result<(u8, usize), Error> {
    let bytes = frame.extent * PAGE_SIZE;
    if bytes == LARGE && frame.object.is_multiple_of(LARGE) && address.is_multiple_of(LARGE) {
        return Ok((2, 1));
    }
    if !address.is_multiple_of(PAGE_SIZE) || address / LARGE != (address + bytes - 1) / LARGE {
        return Err(Error::InvalidArgument);
    }
    let [low, high, ..] = frame.extent.to_le_bytes();
    Ok((1, usize::from(low) | usize::from(high) << 8))
}

/// What a core knows of under a space's tag.
pub(crate) fn tag_of(core: &mut CoreState, space: u64) -> Option<&mut Tag> {
    let [number, ..] = space.to_le_bytes();
    core.tags.get_mut(usize::from(number) % TAGS)
}

/// What lies at a place that was mapped once. A table on the way may be gone, or replaced: then so is the mapping.
fn still<T>(found: Outcome<T>) -> Outcome<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(stop) => match stop.reason() {
            Reason::Refused(_) => Ok(None),
            Reason::Elsewhere(_) | Reason::Everywhere => Err(stop),
        },
    }
}

impl<M: Machine> Visit<'_, M> {
    /// Gives a fresh (clear) root table the kernel's half and an id.
    pub(crate) fn init_space(&mut self, root: u64) -> Outcome {
        let global = self.held.global()?;
        global.last_space += 1;
        let id = global.last_space;
        self.held.store.own(root)?.set_space(id);
        self.machine.fill_root(self.held.store.get(Ref::<AddressSpace>::at(root))?);
        Ok(())
    }

    /// The last capability to a space goes: what is mapped in it is no longer. `Again` until no core has it loaded (those
    /// that do have lost their thread, and are on their way): its root table may then be given other uses.
    pub(crate) fn end_space(&mut self, root: u64) -> Outcome {
        if self.mine()?.loaded == root {
            self.load(0)?;
        }
        if self.own_space(root)? != CoreSet::NONE {
            return Err(Error::Again.into());
        }
        self.held.store.own(root)?.set_space(0);
        self.held.store.set_kind(root, Kind::Empty)?;
        Ok(())
    }

    pub(crate) fn space_info(&mut self) -> Outcome {
        self.answer.tell([self.machine.levels().into(), self.machine.user_end()])
    }

    /// Walks from a root table to the table of `level` that covers an address.
    fn walk(&mut self, root: u64, address: u64, level: u8) -> Outcome<Ref<AddressSpace>> {
        let mut table = Ref::<AddressSpace>::at(root);
        let mut at = self.machine.levels().min(MAX_LEVELS);
        // bound: MAX_LEVELS
        while at > level {
            self.held.store.join(table.address())?;
            let entry = self.held.store.see(table)?.get(index_at(address, at)).copied().unwrap_or(0);
            table = match self.machine.entry(entry, at) {
                Entry::Table(next) => Ref::at(next),
                Entry::Empty => return Err(Error::MissingTable.into()),
                Entry::Leaf(_) => return Err(Error::AlreadyMapped.into()),
            };
            at -= 1;
        }
        Ok(table)
    }

    /// The entries at a position, and the machine, which knows what they say.
    fn entries(&mut self, position: Position) -> Outcome<(&mut [u64], &M)> {
        let table = self.held.store.get(position.table)?;
        let end = position.index + position.count;
        Ok((table.get_mut(position.index..end).ok_or(Error::InvalidArgument)?, self.machine))
    }

    /// Loads an address space on this core, or none, unless it is already.
    pub(crate) fn load(&mut self, root: u64) -> Outcome {
        let me = self.me;
        if self.mine()?.loaded == root {
            return Ok(());
        }
        let (tag, flush) = if root == 0 { (0, false) } else { self.tag(root)? };
        if root != 0 {
            let record = self.held.store.record(root)?;
            if !record.loaded().contains(me) {
                record.add_loaded(me);
            }
        }
        self.mine()?.loaded = root;
        self.machine.load_root(root, tag, flush);
        Ok(())
    }

    /// An address space is about to change: says on which cores it is loaded. Its record remembers each core that has
    /// loaded it, and is told here which ones have gone on to others: so going to and fro between two costs nothing.
    fn own_space(&mut self, root: u64) -> Outcome<CoreSet> {
        self.need(Ref::<AddressSpace>::at(root))?;
        let loaded = self.loaded(root)?;
        self.held.store.record(root)?.set_loaded(loaded);
        // Those that have gone on are at home here no longer.
        self.held.store.own(root)?;
        Ok(loaded)
    }

    /// The cores on which an address space is loaded now.
    pub(crate) fn loaded(&mut self, root: u64) -> Outcome<CoreSet> {
        let mut rest = self.held.store.record(root)?.loaded();
        let mut loaded = CoreSet::NONE;
        // bound: MAX_CORES
        while let Some(core) = rest.pop() {
            if self.held.core(core)?.loaded == root {
                loaded.insert(core);
            }
        }
        Ok(loaded)
    }

    /// Under which tag this core knows a space, and whether it must forget what it knows there: another space's, or of a
    /// time before something was unmapped.
    fn tag(&mut self, root: u64) -> Outcome<(u64, bool)> {
        let record = self.held.store.join(root)?;
        let now = Tag { space: record.space(), version: record.version() };
        if self.machine.tags() < TAGS as u64 {
            return Ok((0, true));
        }
        let number = now.space % TAGS as u64;
        let Some(known) = tag_of(self.mine()?, now.space) else { return Ok((0, true)) };
        // Versions end somewhere: the last one is never known.
        let flush = *known != now || now.version == u32::MAX;
        *known = now;
        Ok((number + 1, flush))
    }

    /// Makes the cores on which a space is loaded forget its old translations: when this returns, they have. The others
    /// will, when they load it.
    fn shoot(&mut self, root: u64) -> Outcome {
        // Whoever may load it at this moment would miss this: none may, with all its homes' locks held.
        let mut cores = self.own_space(root)?;
        let record = self.held.store.own(root)?;
        let (space, version) = (record.space(), record.version().saturating_add(1));
        record.set_version(version);
        // bound: MAX_CORES
        while let Some(core) = cores.pop() {
            if core == self.me {
                self.machine.flush();
            } else {
                self.shoot_core(core)?;
            }
            if let Some(tag) = tag_of(self.held.core(core)?, space) {
                tag.version = version;
            }
        }
        Ok(())
    }

    /// Another core flushes: one that runs user code is interrupted, and a core that waits for a lock looks.
    fn shoot_core(&mut self, core: CoreId) -> Outcome {
        self.mine()?.counters.shootdowns += 1;
        self.kernel.presence.ask_flush(core);
        if self.kernel.presence.get(core) == Place::User {
            self.mine()?.counters.kicks += 1;
            self.machine.kick(core);
        }
        // bound: WAITING
        while self.kernel.presence.must_flush(core) {
            self.machine.relax();
        }
        Ok(())
    }

    /// The root table that a passed AddressSpace names.
    fn passed_space(&mut self, request: &Request) -> Outcome<u64> {
        request.passed_object(self, Kind::AddressSpace, Rights::WRITE)
    }

    /// Something is about to be mapped: the capability will say where, and other cores may have to forget.
    fn need_mapping(&self, at: SlotRef, root: u64) -> Outcome {
        self.need(at)?;
        if M::CACHES_INVALID { self.held.store.own(root).map(|_| ()) } else { Ok(()) }
    }

    pub(crate) fn frame_info(&mut self, request: &Request) -> Outcome {
        let frame = &request.target;
        let mapped = if frame.space == 0 { 0 } else { frame.badge };
        self.answer.tell([frame.object, frame.extent, mapped])
    }

    pub(crate) fn frame_map(&mut self, request: &Request) -> Outcome {
        let frame = request.target;
        let [address, rights, uncached, ..] = *request.words;
        let rights = rights_of(rights)?;
        let root = self.passed_space(request)?;
        self.need_mapping(request.at, root)?;
        if frame.space != 0 {
            return Err(Error::AlreadyMapped.into());
        }
        let both = Rights::WRITE.union(Rights::EXECUTE);
        if !rights.contains(Rights::READ) || rights.contains(both) || rights.contains(Rights::GRANT) || uncached > 1 {
            return Err(Error::InvalidArgument.into());
        }
        if !frame.rights().contains(rights) {
            return Err(Error::MissingRights.into());
        }
        let end = self.machine.user_end();
        if address >= end || frame.extent * PAGE_SIZE > end - address {
            return Err(Error::InvalidArgument.into());
        }
        let (level, count) = shape(frame, address)?;
        let table = self.walk(root, address, level)?;
        let position = Position { table, index: index_at(address, level), count, level };
        let mut mapping =
            Mapping { address: frame.object, rights, uncached: uncached == 1 || frame.device != 0, level };
        let (entries, machine) = self.entries(position)?;
        if entries.iter().any(|entry| *entry != 0) {
            return Err(Error::AlreadyMapped.into());
        }
        // The entries of pages in a row are as far apart as the first two.
        let mut next = machine.leaf(mapping);
        mapping.address += if level == 1 { PAGE_SIZE } else { LARGE };
        let step = machine.leaf(mapping).wrapping_sub(next);
        // bound: RETYPE_PAGES
        for entry in entries {
            *entry = next;
            next = next.wrapping_add(step);
        }
        let space = self.held.store.record(root)?.space();
        let slot = self.held.store.get(request.at)?;
        (slot.space, slot.root, slot.badge) = (space, root, address);
        if rights.contains(Rights::EXECUTE) {
            self.machine.synchronise_instructions();
        }
        if M::CACHES_INVALID {
            self.shoot(root)?;
        }
        Ok(())
    }

    pub(crate) fn frame_unmap(&mut self, request: &Request) -> Outcome {
        if request.target.space == 0 {
            return Err(Error::NotMapped.into());
        }
        self.unmap_frame(request.at)?;
        Ok(())
    }

    /// Whether the space that a capability remembers is still that space.
    fn is_alive(&mut self, slot: &Slot) -> Outcome<bool> {
        let record = self.held.store.record(slot.root)?;
        Ok(record.kind() == Kind::AddressSpace as u8 && record.space() == slot.space)
    }

    /// Takes a Frame's mapping away, if it is still there.
    pub(crate) fn unmap_frame(&mut self, at: SlotRef) -> Outcome {
        let frame = self.slot(at)?.copy();
        self.need(at)?;
        if self.is_alive(&frame)? {
            self.held.store.own(frame.root)?;
            let (level, count) = shape(&frame, frame.badge)?;
            if let Some(table) = still(self.walk(frame.root, frame.badge, level))? {
                let position = Position { table, index: index_at(frame.badge, level), count, level };
                self.clear_leaves(position, frame.object)?;
                self.shoot(frame.root)?;
            }
        }
        let slot = self.held.store.get(at)?;
        (slot.space, slot.root, slot.badge) = (0, 0, 0);
        Ok(())
    }

    fn clear_leaves(&mut self, position: Position, mut page: u64) -> Outcome {
        let (entries, machine) = self.entries(position)?;
        // bound: RETYPE_PAGES
        for entry in entries {
            if machine.entry(*entry, position.level) == Entry::Leaf(page) {
                *entry = 0;
            }
            page += PAGE_SIZE;
        }
        Ok(())
    }

    pub(crate) fn table_map(&mut self, request: &Request) -> Outcome {
        let table = request.target;
        let [address, level, ..] = *request.words;
        let root = self.passed_space(request)?;
        self.need_mapping(request.at, root)?;
        if table.space != 0 {
            return Err(Error::AlreadyMapped.into());
        }
        let level = u8::try_from(level).map_err(|_| Error::InvalidArgument)?;
        if level == 0 || level >= self.machine.levels() || address >= self.machine.user_end() {
            return Err(Error::InvalidArgument.into());
        }
        let position = self.table_position(root, address, level)?;
        let entry = self.machine.table(table.object);
        match self.entries(position)?.0 {
            [place @ 0] => *place = entry,
            _ => return Err(Error::AlreadyMapped.into()),
        }
        let space = self.held.store.record(root)?.space();
        let slot = self.held.store.get(request.at)?;
        (slot.space, slot.root, slot.badge, slot.extent) = (space, root, address, level.into());
        if M::CACHES_INVALID {
            self.shoot(root)?;
        }
        Ok(())
    }

    /// The entry that refers, or would refer, to a table of this level.
    fn table_position(&mut self, root: u64, address: u64, level: u8) -> Outcome<Position> {
        let above = level + 1;
        let table = self.walk(root, address, above)?;
        Ok(Position { table, index: index_at(address, above), count: 1, level: above })
    }

    pub(crate) fn table_unmap(&mut self, request: &Request) -> Outcome {
        if request.target.space == 0 {
            return Err(Error::NotMapped.into());
        }
        self.unmap_table(request.at)?;
        Ok(())
    }

    /// Takes a table out of its space, if it is still there, and clears it: what was mapped through it is mapped
    /// nowhere, wherever the table goes next.
    pub(crate) fn unmap_table(&mut self, at: SlotRef) -> Outcome {
        let slot = self.slot(at)?.copy();
        self.need(at)?;
        self.need(Ref::<AddressSpace>::at(slot.object))?;
        if self.is_alive(&slot)? {
            self.held.store.own(slot.root)?;
            let level = u8::try_from(slot.extent).map_err(|_| Error::InvalidArgument)?;
            if let Some(position) = still(self.table_position(slot.root, slot.badge, level))? {
                let (entries, machine) = self.entries(position)?;
                let entry = entries.first().copied().unwrap_or(0);
                if machine.entry(entry, position.level) == Entry::Table(slot.object) {
                    entries.fill(0);
                    self.shoot(slot.root)?;
                }
            }
        }
        self.held.store.get(Ref::<AddressSpace>::at(slot.object))?.fill(0);
        let slot = self.held.store.get(at)?;
        (slot.space, slot.root, slot.badge, slot.extent) = (0, 0, 0, 0);
        Ok(())
    }
}
