//! Where capabilities come from, and where they go.
//!
//! Capabilities are a tree: each was derived from its parent. A new one becomes its parent's first child, so the newest
//! comes first. One that is deleted leaves its children to its parent, in its own place among the children there.

use anos_abi::{Error, Kind, Rights};

use crate::state::{Address, CapId, Capability, Part, Place};
use crate::{Outcome, Spec};

/// So many capabilities may stem from one that is deleted alone, unless it is its parent's newest child.
pub const HEIRS: usize = 32;

impl Capability {
    /// A capability with all rights to an object, in no place yet.
    pub fn new(kind: Kind, object: Address, size: u64) -> Capability {
        Capability {
            kind,
            rights: Rights::ALL,
            object,
            size,
            device: false,
            badge: 0,
            mapped: None,
            used: 0,
            open: (Kind::Empty, 0),
            emptied: 0,
            place: Place::Origin(0),
            parent: None,
            children: Default::default(),
        }
    }

    /// Whether it is to a table that ends.
    pub fn ends(&self) -> bool {
        self.emptied != 0
    }

    /// Untyped: how many bytes from the start are in use. All is free again when nothing is left of what was made.
    pub fn watermark(&self) -> u64 {
        if self.children.is_empty() { 0 } else { self.used }
    }
}

impl Spec {
    /// The capability in a place, if there is one.
    pub fn at(&self, place: Place) -> Option<CapId> {
        match place {
            Place::Table(table, index) => self.tables.get(&table)?.slots.get(&index).copied(),
            Place::Thread(thread, part) => self.threads.get(&thread)?.parts[part as usize],
            Place::Line(line) => self.lines.get(&line)?.signals,
            Place::Origin(_) => None,
        }
    }

    fn put(&mut self, place: Place, capability: Option<CapId>) {
        match place {
            Place::Table(table, index) => {
                // (A table that has ended may have held the last capability to itself.)
                let Some(table) = self.tables.get_mut(&table) else { return };
                match capability {
                    Some(id) => table.slots.insert(index, id),
                    None => table.slots.remove(&index),
                };
            }
            Place::Thread(thread, part) => {
                if let Some(thread) = self.threads.get_mut(&thread) {
                    thread.parts[part as usize] = capability;
                }
            }
            Place::Line(line) => self.lines.get_mut(&line).expect("a line").signals = capability,
            Place::Origin(_) => {}
        }
    }

    /// A capability that is known to exist.
    pub(crate) fn cap(&self, id: CapId) -> &Capability {
        &self.capabilities[&id]
    }

    pub(crate) fn cap_mut(&mut self, id: CapId) -> &mut Capability {
        self.capabilities.get_mut(&id).expect("the capability exists")
    }

    /// The slot with this index in a table that a capability names. Slot 0 is never used.
    pub(crate) fn slot_of(&self, table: &Capability, index: u64) -> Outcome<Place> {
        if index == 0 || index >= table.size {
            return Err(Error::InvalidSlot);
        }
        Ok(Place::Table(table.object, index))
    }

    /// The slot with this index in the table of a thread.
    pub(crate) fn slot_of_thread(&self, thread: Address, index: u64) -> Outcome<Place> {
        let table = self.at(Place::Thread(thread, Part::Table)).ok_or(Error::InvalidSlot)?;
        self.slot_of(self.cap(table), index)
    }

    /// The capability with this index in the table of a thread.
    pub(crate) fn held_by(&self, thread: Address, index: u64) -> Outcome<CapId> {
        self.at(self.slot_of_thread(thread, index)?).ok_or(Error::EmptySlot)
    }

    /// Derives a capability into an empty place: it becomes its parent's first child.
    pub(crate) fn derive(&mut self, parent: CapId, place: Place, content: Capability) {
        assert!(self.at(place).is_none(), "{place:x?} is taken");
        self.last_id += 1;
        let id = CapId(self.last_id);
        self.capabilities.insert(id, Capability { place, parent: Some(parent), ..content });
        self.cap_mut(parent).children.push_front(id);
        self.put(place, Some(id));
    }

    /// What a copy of a capability is, with no more than these rights. It remembers no mapping.
    ///
    /// An Untyped, a Reply and a PageTable can be moved but not copied. A table that ends can't be copied: the copy
    /// would keep it, half emptied.
    pub(crate) fn copy_of(&self, source: CapId, rights: Rights) -> Outcome<Capability> {
        let source = self.cap(source);
        match source.kind {
            Kind::Untyped | Kind::Reply | Kind::PageTable => return Err(Error::NotCopyable),
            Kind::CapTable if source.ends() => return Err(Error::Busy),
            _ => {}
        }
        Ok(Capability {
            rights: source.rights.intersection(rights),
            device: source.device,
            badge: source.badge,
            ..Capability::new(source.kind, source.object, source.size)
        })
    }

    /// Moves a capability to an empty place; it keeps parent and children.
    pub(crate) fn relocate(&mut self, id: CapId, to: Place) {
        let from = self.cap(id).place;
        self.put(from, None);
        self.put(to, Some(id));
        self.cap_mut(id).place = to;
    }

    /// Takes a capability out of the tree. Its children go to its parent, into its place.
    ///
    /// That takes time, and so a call that deletes it alone is refused where it would take too much. In a table that ends,
    /// nobody could be told: there, they go to the next newer sibling, as its oldest children.
    pub(crate) fn remove(&mut self, id: CapId) {
        let can_leave = self.can_leave(id);
        let gone = self.capabilities.remove(&id).expect("the capability exists");
        self.put(gone.place, None);
        let parent = gone.parent.expect("only origins have no parent");
        let siblings = &mut self.cap_mut(parent).children;
        let position = siblings.iter().position(|&sibling| sibling == id).expect("a child of its parent");
        siblings.remove(position);
        let (heir, position) = if can_leave {
            (parent, position)
        } else {
            let newer = siblings[position - 1];
            (newer, self.cap(newer).children.len())
        };
        for &child in gone.children.iter().rev() {
            self.cap_mut(child).parent = Some(heir);
            self.cap_mut(heir).children.insert(position, child);
        }
    }

    /// How many capabilities stem from one, through how many ever others.
    fn descendants(&self, id: CapId) -> usize {
        self.cap(id).children.iter().map(|&child| 1 + self.descendants(child)).sum()
    }

    /// Whether a capability can be deleted alone: at most 64 stem from it, or it is its parent's newest child.
    pub(crate) fn can_leave(&self, id: CapId) -> bool {
        let parent = self.cap(id).parent.expect("only origins have no parent");
        self.cap(parent).children.front() == Some(&id) || self.descendants(id) <= HEIRS
    }

    /// Whether this is the only capability to its object.
    pub(crate) fn is_last(&self, id: CapId) -> bool {
        let capability = self.cap(id);
        let same = |other: &Capability| other.kind == capability.kind && other.object == capability.object;
        self.capabilities.values().filter(|other| same(other)).count() == 1
    }
}
