//! Methods of a CapTable: copy, mint, move, delete, revoke, look.

use anos_abi::{Error, Kind, Rights};
use anos_machine::{Machine, Ref, Slot, SlotRef, Thread};

use crate::call::Request;
use crate::family::{ends, make_copy, table_slot};
use crate::thread::Part;
use crate::{Outcome, Visit};

impl<M: Machine> Visit<'_, M> {
    /// The slot with this number of the table that a thread uses.
    pub fn slot_of_thread(&self, thread: Ref<Thread>, index: u64) -> Outcome<SlotRef> {
        let table = self.part(thread, Part::Table)?;
        if table.kind() != Kind::CapTable {
            return Err(Error::InvalidSlot.into());
        }
        slot_of(table, index)
    }

    /// The slot with this number of the running thread's table. The table is at home on this core from
    /// now on, so that looking needs no other lock.
    pub fn find(&mut self, thread: Ref<Thread>, index: u64) -> Outcome<SlotRef> {
        let at = self.slot_of_thread(thread, index)?;
        self.held.store.join(at.address())?;
        Ok(at)
    }

    /// The empty slot with this number of a table that isn't ending.
    fn take_in(&mut self, table: &Slot, index: u64) -> Outcome<SlotRef> {
        if ends(table) {
            return Err(Error::Busy.into());
        }
        let at = slot_of(table, index)?;
        if self.held.store.see(at)?.is_empty() { Ok(at) } else { Err(Error::SlotOccupied.into()) }
    }

    pub(crate) fn table_copy(&mut self, request: &Request, badge: Option<u64>) -> Outcome {
        let to = self.take_in(request.target, request.words[0])?;
        let from = request.passed(self)?;
        let mut copy = self.slot(from)?.copy();
        make_copy(&mut copy, rights_of(request.words[1])?)?;
        if let Some(badge) = badge {
            if !matches!(copy.kind(), Kind::Endpoint | Kind::Notification) || copy.badge != 0 {
                return Err(Error::InvalidArgument.into());
            }
            copy.badge = badge;
        }
        self.derive(from, to, &copy)
    }

    pub(crate) fn table_move(&mut self, request: &Request) -> Outcome {
        let to = self.take_in(request.target, request.words[0])?;
        let from = request.passed(self)?;
        if ends(self.held.store.see(from)?) {
            return Err(Error::Busy.into());
        }
        self.move_slot(from, to)?;
        Ok(())
    }

    pub(crate) fn table_delete(&mut self, request: &Request) -> Outcome {
        let at = slot_of(request.target, request.words[0])?;
        if !self.can_leave(at)? {
            return Err(Error::Busy.into());
        }
        self.delete(at)
    }

    pub(crate) fn table_revoke(&mut self, request: &Request) -> Outcome {
        let at = slot_of(request.target, request.words[0])?;
        self.revoke(at)
    }

    pub(crate) fn table_cancel(&mut self, request: &Request) -> Outcome {
        let at = slot_of(request.target, request.words[0])?;
        let slot = self.slot(at)?.copy();
        if slot.kind() != Kind::Endpoint {
            return Err(if slot.is_empty() { Error::EmptySlot } else { Error::WrongKind }.into());
        }
        if !slot.rights().contains(Rights::READ) {
            return Err(Error::MissingRights.into());
        }
        self.need_all()?;
        self.cancel_badge(Ref::at(slot.object), slot.badge)
    }

    pub(crate) fn table_info(&mut self, request: &Request) -> Outcome {
        self.answer.words[0] = request.target.extent;
        Ok(())
    }

    pub(crate) fn table_look(&mut self, request: &Request) -> Outcome {
        let at = slot_of(request.target, request.words[0])?;
        let slot = self.slot(at)?.copy();
        let size = match slot.kind() {
            Kind::Untyped | Kind::Frame | Kind::CapTable => slot.extent,
            _ => 0,
        };
        let badge = match slot.kind() {
            Kind::Endpoint | Kind::Notification => slot.badge,
            Kind::Interrupt | Kind::IoPort | Kind::SchedControl => slot.object,
            _ => 0,
        };
        let used = u64::from(matches!(slot.kind(), Kind::Frame | Kind::PageTable) && slot.space != 0);
        self.answer.tell([slot.kind.into(), slot.rights.into(), badge, size, used])
    }
}

/// The slot with this number of a table. Slot 0 is never used.
pub(crate) fn slot_of(table: &Slot, index: u64) -> Outcome<SlotRef> {
    if index == 0 || index >= table.extent {
        return Err(Error::InvalidSlot.into());
    }
    Ok(table_slot(table, index))
}

/// Rights from a message word.
pub(crate) fn rights_of(word: u64) -> Result<Rights, Error> {
    let rights = Rights(u8::try_from(word).map_err(|_| Error::InvalidArgument)?);
    if Rights::ALL.contains(rights) { Ok(rights) } else { Err(Error::InvalidArgument) }
}
