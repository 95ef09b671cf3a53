//! Where capabilities come from.
//!
//! Every capability stands in one list with its relatives, in pre-order with a depth: what was derived from it follows
//! it, deeper. Deriving inserts right behind the parent, so all capabilities to one object stand next to each other,
//! and "the last one" is a look at two neighbours. Deleting unlinks; what was derived stays, and belongs to the next
//! one up: it rises, lest a newer sibling in front of it take it over. Revoking deletes what follows while it is deeper.

use anos_abi::{Error, Kind, Rights};
use anos_machine::{Machine, Slot, SlotRef};

use crate::{Outcome, Visit, bounds};

impl<M: Machine> Visit<'_, M> {
    /// The capability in a slot.
    pub fn slot(&self, slot: SlotRef) -> Outcome<&Slot> {
        self.held.store.see(slot)
    }

    /// A capability and its neighbours in the family are about to change.
    pub fn need_slot(&self, at: SlotRef) -> Outcome {
        let Slot { next, previous, .. } = *self.held.store.see(at)?;
        self.need(at)?;
        self.need(next)?;
        self.need(previous)
    }

    /// Puts a new capability into an empty slot, derived from `parent`.
    pub fn derive(&mut self, parent: SlotRef, to: SlotRef, content: &Slot) -> Outcome {
        self.derive_row(parent, to, content, 1, 0)
    }

    /// Puts new capabilities into a row of empty slots, each derived from `parent` after the one before. Their objects lie
    /// in a row too, so many bytes apart. Of more than one slot, it must be known that they can be changed.
    ///
    /// They go one deeper, or as deep as what follows if that is a deeper descendant: else they would take what a
    /// deleted sibling left behind for their own.
    pub(crate) fn derive_row(
        &mut self,
        parent: SlotRef,
        first: SlotRef,
        content: &Slot,
        count: u64,
        bytes: u64,
    ) -> Outcome {
        self.need_slot(parent)?;
        let &Slot { depth, next: behind, .. } = self.slot(parent)?;
        let below = match behind.some() {
            Some(next) => self.held.store.see(next)?.depth,
            None => 0,
        };
        let depth = (depth.saturating_add(1)).max(if below > depth { below } else { 0 });
        let (mut at, mut next, mut object) = (first, behind, content.object);
        // bound: RETYPE_COUNT
        for left in (0..count).rev() {
            // The newest is the first behind the parent.
            let previous = if left == 0 { parent } else { slot_behind(at, 1) };
            let place = self.held.store.get(at)?;
            place.put(content);
            (place.depth, place.object, place.next, place.previous) = (depth, object, next, previous);
            object += bytes;
            (next, at) = (at, previous);
        }
        self.held.store.get(parent)?.next = next;
        if let Some(behind) = behind.some() {
            self.held.store.get(behind)?.previous = first;
        }
        Ok(())
    }

    /// Moves a capability into an empty slot; it keeps its place in the family.
    pub fn move_slot(&mut self, from: SlotRef, to: SlotRef) -> Outcome {
        self.need_slot(from)?;
        self.need(to)?;
        let content = self.slot(from)?.copy();
        self.held.store.get(to)?.put(&content);
        if let Some(next) = content.next.some() {
            self.held.store.get(next)?.previous = to;
        }
        if let Some(previous) = content.previous.some() {
            self.held.store.get(previous)?.next = to;
        }
        self.held.store.get(from)?.clear();
        Ok(())
    }

    /// Whether anything was derived from this capability.
    pub fn has_children(&self, slot: &Slot) -> Outcome<bool> {
        match slot.next.some() {
            Some(next) => Ok(self.held.store.see(next)?.depth > slot.depth),
            None => Ok(false),
        }
    }

    /// Whether this is the only capability to its object.
    pub fn is_last(&self, slot: &Slot) -> Outcome<bool> {
        // bound: ARRAY
        for neighbour in [slot.previous, slot.next] {
            if let Some(neighbour) = neighbour.some() {
                let other = self.held.store.see(neighbour)?;
                if other.kind == slot.kind && other.object == slot.object {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether a capability can go without leaving its descendants to a sibling: at most [`bounds::HEIRS`] of them, or
    /// its parent stands right in front.
    pub fn can_leave(&mut self, at: SlotRef) -> Outcome<bool> {
        let slot = self.slot(at)?;
        Ok(!self.has_newer_sibling(slot)? || self.heirs(slot)? <= bounds::HEIRS)
    }

    /// Whether a sibling (or what stems from one) stands in front, not the parent.
    fn has_newer_sibling(&self, slot: &Slot) -> Outcome<bool> {
        match slot.previous.some() {
            Some(previous) => Ok(self.held.store.see(previous)?.depth >= slot.depth),
            None => Ok(false),
        }
    }

    /// How many capabilities stem from one; counts to one past the bound.
    fn heirs(&self, slot: &Slot) -> Outcome<usize> {
        let mut next = slot.next;
        // bound: HEIRS
        for count in 0..=bounds::HEIRS {
            let Some(at) = next.some() else { return Ok(count) };
            let heir = self.held.store.see(at)?;
            if heir.depth <= slot.depth {
                return Ok(count);
            }
            next = heir.next;
        }
        Ok(bounds::HEIRS + 1)
    }

    /// A capability is about to go. Its children rise to its own depth: else a newer sibling, which stands in front,
    /// would take them for its own, and could revoke them. (Of a table that ends with more heirs than the bound, it
    /// does: nobody is left there to be told.)
    fn raise_heirs(&mut self, at: SlotRef) -> Outcome {
        let slot = self.slot(at)?;
        if !self.has_newer_sibling(slot)? {
            return Ok(());
        }
        let (count, depth) = (self.heirs(slot)?, slot.depth);
        if count > bounds::HEIRS {
            return Ok(());
        }
        let mut next = slot.next;
        let mut child = u32::MAX;
        // bound: HEIRS
        for _ in 0..count {
            let heir = self.held.store.get(next)?;
            // Children are ever less deep in the order of the list; what is deeper than the last one stems from it.
            child = child.min(heir.depth);
            heir.depth = depth + (heir.depth - child);
            next = heir.next;
        }
        Ok(())
    }

    /// Takes a capability out of its family and its slot. Who had it as a parent rises; that takes all locks.
    pub(crate) fn unlink(&mut self, at: SlotRef) -> Outcome {
        self.raise_heirs(at)?;
        let slot = self.held.store.get(at)?;
        let (next, previous) = (slot.next, slot.previous);
        slot.clear();
        if let Some(next) = next.some() {
            self.held.store.get(next)?.previous = previous;
        }
        if let Some(previous) = previous.some() {
            self.held.store.get(previous)?.next = next;
        }
        Ok(())
    }

    /// Deletes a capability, and ends its object if it was the last one. `Again`: the object ends in steps.
    pub fn delete(&mut self, at: SlotRef) -> Outcome {
        let slot = self.slot(at)?.copy();
        if slot.is_empty() {
            return Ok(());
        }
        if self.ends_something(at, &slot)? {
            self.need_all()?;
        }
        self.need_slot(at)?;
        match slot.kind() {
            // The thread that uses it may run on for a while, and must not put anything into a table that ends.
            Kind::CapTable if self.is_last(&slot)? && self.is_in_thread(at)? => return self.orphan_table(at, &slot),
            Kind::CapTable if self.is_last(&slot)? => self.empty_table(at, &slot)?,
            Kind::Thread if self.is_last(&slot)? => self.end_thread(&slot)?,
            _ => return self.delete_leaf(at, &slot),
        }
        self.unlink(at)
    }

    /// Whether more than one capability and a mapping goes with this one: an object ends, a thread loses a part of its
    /// own, or children rise.
    fn ends_something(&self, at: SlotRef, slot: &Slot) -> Outcome<bool> {
        let stateless = matches!(slot.kind(), Kind::Untyped | Kind::Frame | Kind::PageTable | Kind::IoPort);
        Ok(self.has_children(slot)? || self.is_in_thread(at)? || !stateless && self.is_last(slot)?)
    }

    /// Deletes a capability inside a table that ends. Not `delete`: that would be recursion.
    fn delete_in_table(&mut self, at: SlotRef) -> Outcome {
        let slot = self.slot(at)?.copy();
        if slot.kind() != Kind::Thread || !self.is_last(&slot)? {
            return self.delete_in_thread(at);
        }
        self.end_thread(&slot)?;
        self.unlink(at)
    }

    /// Deletes a capability inside a thread that ends, or that isn't a thread's last inside a table that ends.
    pub(crate) fn delete_in_thread(&mut self, at: SlotRef) -> Outcome {
        let slot = self.slot(at)?.copy();
        match slot.kind() {
            Kind::Empty => Ok(()),
            Kind::CapTable if self.is_last(&slot)? => self.orphan_table(at, &slot),
            _ => self.delete_leaf(at, &slot),
        }
    }

    /// Deletes a capability to an object that holds no capabilities, or one that isn't the last.
    fn delete_leaf(&mut self, at: SlotRef, slot: &Slot) -> Outcome {
        match slot.kind() {
            Kind::Frame if slot.space != 0 => self.unmap_frame(at)?,
            Kind::PageTable if slot.space != 0 => self.unmap_table(at)?,
            Kind::AddressSpace => self.stop_owner(at)?,
            _ => {}
        }
        if self.is_last(slot)? {
            match slot.kind() {
                Kind::Endpoint => self.end_endpoint(slot.object)?,
                Kind::Notification => self.end_notification(slot.object)?,
                Kind::Reply => self.end_reply(slot.object)?,
                Kind::AddressSpace => self.end_space(slot.object)?,
                Kind::Interrupt => self.end_interrupt(slot.object)?,
                _ => {}
            }
        }
        self.before_unlink(at, slot)?;
        self.unlink(at)
    }

    /// Deletes what was derived from a capability, a few at a time.
    pub fn revoke(&mut self, at: SlotRef) -> Outcome {
        if self.has_children(self.slot(at)?)? {
            self.need_all()?;
        }
        let mut steps = 0;
        // bound: DELETE_STEPS
        while steps < bounds::DELETE_STEPS {
            let slot = self.slot(at)?;
            let Some(next) = slot.next.some() else { return Ok(()) };
            let child = self.held.store.see(next)?;
            if slot.is_empty() || child.depth <= slot.depth {
                return Ok(());
            }
            steps += steps_of(child);
            self.delete(next)?;
        }
        Err(Error::Again.into())
    }

    /// A table that ends loses its capabilities, a few at a time; `badge` counts the slots done.
    ///
    /// The table's own capability may lie in the table: it stays until the rest is gone. Meanwhile nothing more gets in:
    /// `take_in` refuses, no thread uses the table (it would hold another capability to it), and the capability itself
    /// stays where it is, so that who began goes on.
    fn empty_table(&mut self, own: SlotRef, table: &Slot) -> Outcome {
        let mut deleted = 0;
        let mut cursor = table.badge;
        let end = table.extent.min(cursor.saturating_add(bounds::TABLE_SLOTS));
        // bound: TABLE_SLOTS
        while cursor < end && deleted < bounds::DELETE_STEPS {
            let at = table_slot(table, cursor);
            let slot = self.held.store.see(at)?;
            if at != own && !slot.is_empty() {
                deleted += steps_of(slot);
                // With all locks held, this fails only if there is more to do.
                if self.delete_in_table(at).is_err() {
                    break;
                }
            }
            cursor += 1;
        }
        self.held.store.get(own)?.badge = cursor;
        if cursor < table.extent { Err(Error::Again.into()) } else { Ok(()) }
    }

    /// A thread that ends stops, and loses its capabilities.
    fn end_thread(&mut self, slot: &Slot) -> Outcome {
        let thread = anos_machine::Ref::at(slot.object);
        self.stop(thread)?;
        // bound: ARRAY
        for part in crate::thread::Part::ALL {
            self.delete_in_thread(part.of(thread))?;
        }
        self.forget(thread)?;
        Ok(())
    }

    fn is_in_thread(&self, at: SlotRef) -> Outcome<bool> {
        Ok(self.held.store.record(at.address())?.kind() == Kind::Thread as u8)
    }

    /// The last capability to a table, in a thread or in an object that ends, moves into the table's own slot 0, which
    /// nobody can name: it ends when the memory that it is made of is revoked. So tables that hold one another need no
    /// recursion.
    fn orphan_table(&mut self, at: SlotRef, slot: &Slot) -> Outcome {
        let zero = table_slot(slot, 0);
        if zero != at {
            self.move_slot(at, zero)?;
        }
        Ok(())
    }
}

/// How much of what one call may do a deletion counts for. To unmap many pages is as much as one call does, and a thread
/// has parts of its own.
fn steps_of(slot: &Slot) -> usize {
    let unmaps = slot.kind == Kind::Frame as u8 && slot.space != 0;
    match slot.kind() {
        _ if unmaps && slot.extent > bounds::DELETE_PAGES => bounds::DELETE_STEPS,
        Kind::Thread => bounds::DELETE_STEPS / 2,
        _ => 1,
    }
}

/// Turns a capability into a copy of it, with at most these rights; `NotCopyable` if it can only be moved.
pub(crate) fn make_copy(slot: &mut Slot, rights: Rights) -> Result<(), Error> {
    let kind = slot.kind();
    match kind {
        Kind::Empty => return Err(Error::EmptySlot),
        Kind::Untyped | Kind::Reply | Kind::PageTable => return Err(Error::NotCopyable),
        // A second capability would keep it, half emptied.
        Kind::CapTable if ends(slot) => return Err(Error::Busy),
        _ => {}
    }
    may_derive(slot)?;
    slot.rights = slot.rights().intersection(rights).0;
    if !matches!(kind, Kind::Endpoint | Kind::Notification) {
        slot.badge = 0;
    }
    (slot.space, slot.root) = (0, 0);
    Ok(())
}

/// Whether something more can stem from a capability: depths end somewhere.
pub(crate) fn may_derive(parent: &Slot) -> Result<(), Error> {
    if parent.depth == u32::MAX { Err(Error::TooDeep) } else { Ok(()) }
}

/// Whether a capability is to a table that ends.
pub(crate) fn ends(slot: &Slot) -> bool {
    slot.kind() == Kind::CapTable && slot.badge != 0
}

/// The slot with this index of the table that a CapTable capability names.
pub(crate) fn table_slot(table: &Slot, index: u64) -> SlotRef {
    slot_behind(SlotRef::at(table.object), index)
}

/// So many slots behind a slot.
pub(crate) fn slot_behind(slot: SlotRef, count: u64) -> SlotRef {
    SlotRef::at(slot.address().wrapping_add(count.wrapping_mul(size_of::<Slot>() as u64)))
}
