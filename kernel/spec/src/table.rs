//! Methods of a CapTable: copy, mint, move, delete, revoke, look.

use anos_abi::{Error, Kind, Rights};

use crate::call::{Answer, Request};
use crate::state::Place;
use crate::{Outcome, Spec};

/// Rights as an argument.
pub(crate) fn rights_of(word: u64) -> Outcome<Rights> {
    let rights = Rights(u8::try_from(word).map_err(|_| Error::InvalidArgument)?);
    if Rights::ALL.contains(rights) { Ok(rights) } else { Err(Error::InvalidArgument) }
}

impl Spec {
    /// The called table's slot with this index, as somewhere to put a capability: empty, and in a table that doesn't end.
    fn empty_slot(&self, request: &Request, index: u64) -> Outcome<Place> {
        let table = self.cap(request.target);
        if table.ends() {
            return Err(Error::Busy);
        }
        let place = self.slot_of(table, index)?;
        if self.at(place).is_some() { Err(Error::SlotOccupied) } else { Ok(place) }
    }

    pub(crate) fn table_copy(&mut self, request: &Request, badge: Option<u64>) -> Outcome<Answer> {
        let to = self.empty_slot(request, request.words[0])?;
        let source = self.passed(request)?;
        let mut copy = self.copy_of(source, rights_of(request.words[1])?)?;
        if let Some(badge) = badge {
            if !matches!(copy.kind, Kind::Endpoint | Kind::Notification) || copy.badge != 0 {
                return Err(Error::InvalidArgument);
            }
            copy.badge = badge;
        }
        self.derive(source, to, copy);
        Ok(Answer::OK)
    }

    pub(crate) fn table_move(&mut self, request: &Request) -> Outcome<Answer> {
        let to = self.empty_slot(request, request.words[0])?;
        let source = self.passed(request)?;
        // Who began to delete it goes on where it is.
        if self.cap(source).ends() {
            return Err(Error::Busy);
        }
        self.relocate(source, to);
        Ok(Answer::OK)
    }

    pub(crate) fn table_delete(&mut self, request: &Request) -> Outcome<Answer> {
        let place = self.slot_of(self.cap(request.target), request.words[0])?;
        let Some(id) = self.at(place) else { return Ok(Answer::OK) };
        if !self.can_leave(id) {
            return Err(Error::Busy);
        }
        self.delete(id)?;
        Ok(Answer::OK)
    }

    pub(crate) fn table_revoke(&mut self, request: &Request) -> Outcome<Answer> {
        let place = self.slot_of(self.cap(request.target), request.words[0])?;
        if let Some(id) = self.at(place) {
            self.revoke(id)?;
        }
        Ok(Answer::OK)
    }

    /// Calls off every wait to send with the badge of a capability to an Endpoint from which one may receive.
    pub(crate) fn table_cancel(&mut self, request: &Request) -> Outcome<Answer> {
        let place = self.slot_of(self.cap(request.target), request.words[0])?;
        let id = self.at(place).ok_or(Error::EmptySlot)?;
        if self.cap(id).kind != Kind::Endpoint {
            return Err(Error::WrongKind);
        }
        if !self.cap(id).rights.contains(Rights::READ) {
            return Err(Error::MissingRights);
        }
        self.cancel_badge(self.cap(id).object, self.cap(id).badge)?;
        Ok(Answer::OK)
    }

    pub(crate) fn table_look(&mut self, request: &Request) -> Outcome<Answer> {
        let place = self.slot_of(self.cap(request.target), request.words[0])?;
        let Some(id) = self.at(place) else { return Ok(Answer::OK) };
        let capability = self.cap(id);
        let size = match capability.kind {
            Kind::Untyped | Kind::Frame | Kind::CapTable => capability.size,
            _ => 0,
        };
        // What has no badge, but a number that people know it by, shows that.
        let badge = match capability.kind {
            Kind::Interrupt | Kind::IoPort | Kind::SchedControl => capability.object,
            _ => capability.badge,
        };
        let mapped = u64::from(capability.mapped.is_some());
        Ok(Answer::words([capability.kind as u64, capability.rights.0.into(), badge, size, mapped]))
    }
}
