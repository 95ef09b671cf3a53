//! Deleting and revoking, and what ends with the last capability to it.
//!
//! Long work is done in steps: a step that leaves something to do answers `Again`, and what it did stays done.

use anos_abi::{Error, Kind};

use crate::state::{Address, CapId, Part, Place};
use crate::{Outcome, Spec};

/// Capabilities that one call deletes.
const DELETE_STEPS: usize = 4;
/// Pages of a mapped Frame up to which it is one step; more are all that one call does.
const DELETE_PAGES: u64 = 32;
/// Slots of a table that one call empties.
const TABLE_SLOTS: u64 = 32;
/// Threads that one call wakes, whatever ends.
pub(crate) const WAKE_STEPS: usize = 6;

impl Spec {
    /// Deletes what was derived from a capability, the newest first, and what was derived from that.
    pub(crate) fn revoke(&mut self, id: CapId) -> Outcome {
        let mut steps = 0;
        while steps < DELETE_STEPS {
            // (It may itself have been in what ended.)
            let newest = self.capabilities.get(&id).and_then(|capability| capability.children.front().copied());
            let Some(newest) = newest else { return Ok(()) };
            steps += self.steps_of(newest);
            self.delete(newest)?;
        }
        Err(Error::Again)
    }

    /// How many steps a deletion counts for.
    fn steps_of(&self, id: CapId) -> usize {
        let capability = self.cap(id);
        let unmaps = capability.kind == Kind::Frame && capability.mapped.is_some();
        match capability.kind {
            _ if unmaps && capability.size > DELETE_PAGES => DELETE_STEPS,
            Kind::Thread => DELETE_STEPS / 2,
            _ => 1,
        }
    }

    /// Deletes a capability. If it was the last one to its object, the object ends.
    pub(crate) fn delete(&mut self, id: CapId) -> Outcome {
        let in_thread = matches!(self.cap(id).place, Place::Thread(..));
        self.delete_inside(id, in_thread)
    }

    /// The same, of one that is inside a thread, or `inside` something that ends. There, the last capability to a table
    /// isn't deleted: the table would have to be taken apart meanwhile, and tables may hold one another. It goes into the
    /// table's own slot 0, and ends with the memory that the table is made of.
    pub(crate) fn delete_inside(&mut self, id: CapId, inside: bool) -> Outcome {
        let capability = self.cap(id);
        let (kind, object) = (capability.kind, capability.object);
        let last = self.is_last(id);
        match kind {
            Kind::CapTable if last && inside => {
                self.relocate(id, Place::Table(object, 0));
                return Ok(());
            }
            Kind::Frame => self.unmap_frame(id),
            Kind::PageTable => self.unmap_table(id),
            Kind::AddressSpace => self.stop_who_runs_in(id),
            Kind::SchedContext => self.take_time_from_thread(id),
            _ => {}
        }
        if last {
            self.end(kind, object, id)?;
        }
        self.unbind_thread(id);
        self.remove(id);
        Ok(())
    }

    /// The last capability to an object goes.
    fn end(&mut self, kind: Kind, object: Address, id: CapId) -> Outcome {
        match kind {
            Kind::CapTable => self.end_table(object, id),
            Kind::Thread => self.end_thread(object),
            Kind::AddressSpace => self.end_space(object),
            Kind::Endpoint => self.end_endpoint(object),
            Kind::Notification => self.end_notification(object),
            Kind::Reply => self.end_reply(object),
            Kind::Interrupt => self.end_line(object),
            // (No thread has it any more: that would be a capability.)
            Kind::SchedContext => {
                self.contexts.remove(&object);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A table loses its capabilities, slot by slot, but for its own, if that lies in it.
    fn end_table(&mut self, table: Address, own: CapId) -> Outcome {
        let (mut next, size) = (self.cap(own).emptied, self.cap(own).size);
        let end = size.min(next + TABLE_SLOTS);
        let mut deleted = 0;
        while next < end && deleted < DELETE_STEPS {
            if let Some(id) = self.at(Place::Table(table, next)).filter(|&id| id != own) {
                deleted += self.steps_of(id);
                if self.delete_inside(id, true).is_err() {
                    break;
                }
            }
            next += 1;
        }
        self.cap_mut(own).emptied = next;
        if next < size {
            return Err(Error::Again);
        }
        self.tables.remove(&table);
        Ok(())
    }

    /// A thread stops, and loses its capabilities.
    fn end_thread(&mut self, thread: Address) -> Outcome {
        self.stop(thread);
        for part in Part::ALL {
            if let Some(id) = self.at(Place::Thread(thread, part)) {
                self.delete_inside(id, true)?;
            }
        }
        // What it borrowed goes back.
        self.detach(thread);
        self.threads.remove(&thread);
        Ok(())
    }

    /// An address space ends once no core has it loaded. (A core that still does has lost its thread, and is on its way.)
    fn end_space(&mut self, space: Address) -> Outcome {
        let me = self.me;
        if self.cores[me].loaded == Some(space) {
            self.cores[me].loaded = None;
        }
        if self.cores.iter().any(|core| core.loaded == Some(space)) {
            return Err(Error::Again);
        }
        self.spaces.remove(&space);
        Ok(())
    }

    /// Who waits to send at an endpoint learns that nobody will ever receive; who waits to receive gives up.
    fn end_endpoint(&mut self, endpoint: Address) -> Outcome {
        while self.woken < WAKE_STEPS {
            let queues = &self.endpoints[&endpoint];
            match (queues.senders.front().copied(), queues.receivers.front().copied()) {
                (Some(sender), _) => self.call_off(sender, Error::PeerDied),
                (None, Some(receiver)) => self.call_off(receiver, Error::Cancelled),
                (None, None) => {
                    self.endpoints.remove(&endpoint);
                    return Ok(());
                }
            }
        }
        Err(Error::Again)
    }

    /// Who waits for a notification's signals gives up.
    pub(crate) fn end_notification(&mut self, notification: Address) -> Outcome {
        while self.woken < WAKE_STEPS {
            match self.notifications[&notification].waiters.front().copied() {
                Some(waiter) => self.call_off(waiter, Error::Cancelled),
                None => {
                    // (A binding to a thread is a capability, and goes with that.)
                    self.notifications.remove(&notification);
                    return Ok(());
                }
            }
        }
        Err(Error::Again)
    }

    /// Who waits for an answer learns that none will come.
    fn end_reply(&mut self, reply: Address) -> Outcome {
        if let Some(caller) = self.replies[&reply] {
            self.call_off(caller, Error::PeerDied);
        }
        self.replies.remove(&reply);
        Ok(())
    }
}
