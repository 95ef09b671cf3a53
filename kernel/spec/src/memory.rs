//! Address spaces: page tables, and the Frames that are mapped through them.
//!
//! User space supplies every table and names every position. A table of level 1 covers 2 MiB with pages; one of level n
//! covers 512 tables of level n - 1. Something can be mapped only where all tables above are there, and nothing is.

use anos_abi::{Error, Kind, PAGE_SIZE, Rights};

use crate::call::{Answer, Request};
use crate::state::{Address, CapId, Capability, Mapped, Page, Place, Space};
use crate::table::rights_of;
use crate::{Outcome, Part, Spec};

/// What a table of this level covers.
fn span(level: u8) -> u64 {
    PAGE_SIZE << (9 * level)
}

/// Where what covers an address begins, for a table of this level.
fn base(address: Address, level: u8) -> Address {
    address & !(span(level) - 1)
}

/// How a Frame is mapped at an address: as one large page, or as pages within what one table covers.
fn is_large(frame: &Capability, address: Address) -> Outcome<bool> {
    let bytes = frame.size * PAGE_SIZE;
    if bytes == span(1) && frame.object.is_multiple_of(bytes) && address.is_multiple_of(bytes) {
        return Ok(true);
    }
    if !address.is_multiple_of(PAGE_SIZE) || base(address, 1) != base(address + bytes - 1, 1) {
        return Err(Error::InvalidArgument);
    }
    Ok(false)
}

/// The pages of a Frame that is mapped at an address.
fn pages_of(frame: &Capability, address: Address, large: bool) -> impl Iterator<Item = (Address, Address)> {
    let object = frame.object;
    let count = if large { 1 } else { frame.size };
    (0..count).map(move |n| (address + n * PAGE_SIZE, object + n * PAGE_SIZE))
}

impl Space {
    /// Whether the table of this level that covers an address can be reached.
    fn reach(&self, levels: u8, address: Address, level: u8) -> Outcome {
        for level in (level..levels).rev() {
            if level == 1 && self.has_large_page(address) {
                return Err(Error::AlreadyMapped);
            }
            if !self.tables.contains_key(&(level, base(address, level))) {
                return Err(Error::MissingTable);
            }
        }
        Ok(())
    }

    fn has_large_page(&self, address: Address) -> bool {
        self.pages.get(&base(address, 1)).is_some_and(|page| page.large)
    }

    /// Takes out all that is mapped through a table of this level.
    fn clear(&mut self, level: u8, from: Address) {
        let covered = from..from + span(level);
        self.pages.retain(|address, _| !covered.contains(address));
        self.tables.retain(|(lower, address), _| *lower > level || !covered.contains(address));
    }

    /// What a program finds at an address.
    pub fn translate(&self, address: Address) -> Option<(Address, Rights)> {
        let small = self.pages.get(&base(address, 0)).filter(|page| !page.large).map(|page| (page, 0));
        let large = self.pages.get(&base(address, 1)).filter(|page| page.large).map(|page| (page, 1));
        let (page, level) = small.or(large)?;
        Some((page.physical + (address - base(address, level)), page.rights))
    }
}

impl Spec {
    /// The first address past user space: half of what the page tables cover.
    pub fn user_end(&self) -> Address {
        span(self.machine.levels) / 2
    }

    pub(crate) fn space_info(&self) -> Answer {
        Answer::words([self.machine.levels.into(), self.user_end()])
    }

    pub(crate) fn frame_info(&self, request: &Request) -> Answer {
        let frame = self.cap(request.target);
        Answer::words([frame.object, frame.size, frame.mapped.map_or(0, |mapped| mapped.address)])
    }

    /// The address space that a request passes.
    fn passed_space(&self, request: &Request) -> Outcome<Address> {
        let id = self.passed_kind(request, Kind::AddressSpace, Rights::WRITE)?;
        Ok(self.cap(id).object)
    }

    pub(crate) fn frame_map(&mut self, request: &Request) -> Outcome<Answer> {
        let frame = self.cap(request.target).clone();
        let [address, rights, uncached, ..] = request.words;
        let rights = rights_of(rights)?;
        let root = self.passed_space(request)?;
        if frame.mapped.is_some() {
            return Err(Error::AlreadyMapped);
        }
        // Readable at least; never writable and executable; and granting means nothing here.
        let writable_code = rights.contains(Rights::WRITE.union(Rights::EXECUTE));
        if !rights.contains(Rights::READ) || writable_code || rights.contains(Rights::GRANT) || uncached > 1 {
            return Err(Error::InvalidArgument);
        }
        if !frame.rights.contains(rights) {
            return Err(Error::MissingRights);
        }
        if address >= self.user_end() || frame.size * PAGE_SIZE > self.user_end() - address {
            return Err(Error::InvalidArgument);
        }
        let large = is_large(&frame, address)?;
        let levels = self.machine.levels;
        let space = self.spaces.get_mut(&root).expect("the space exists");
        space.reach(levels, address, if large { 2 } else { 1 })?;
        // A large page takes the place of a table of level 1.
        let taken = if large { space.tables.contains_key(&(1, address)) } else { false };
        if taken || pages_of(&frame, address, large).any(|(at, _)| space.pages.contains_key(&at)) {
            return Err(Error::AlreadyMapped);
        }
        for (at, physical) in pages_of(&frame, address, large) {
            space.pages.insert(at, Page { physical, rights, uncached: uncached == 1 || frame.device, large });
        }
        let mapped = Mapped { space: space.id, root, address, level: 0 };
        self.cap_mut(request.target).mapped = Some(mapped);
        Ok(Answer::OK)
    }

    pub(crate) fn frame_unmap(&mut self, request: &Request) -> Outcome<Answer> {
        if self.cap(request.target).mapped.is_none() {
            return Err(Error::NotMapped);
        }
        self.unmap_frame(request.target);
        Ok(Answer::OK)
    }

    /// The space that a capability remembers, if it still is that space.
    fn remembered(&mut self, mapped: &Mapped) -> Option<&mut Space> {
        self.spaces.get_mut(&mapped.root).filter(|space| space.id == mapped.space)
    }

    /// Takes a Frame's pages out of the space that it remembers, as far as they are still there. (If a table was taken out
    /// and another one put in, there may be others.)
    pub(crate) fn unmap_frame(&mut self, id: CapId) {
        let frame = self.cap(id).clone();
        let Some(mapped) = frame.mapped else { return };
        let large = is_large(&frame, mapped.address).expect("it was mapped there");
        if let Some(space) = self.remembered(&mapped) {
            for (at, physical) in pages_of(&frame, mapped.address, large) {
                if space.pages.get(&at).is_some_and(|page| page.physical == physical && page.large == large) {
                    space.pages.remove(&at);
                }
            }
        }
        self.cap_mut(id).mapped = None;
    }

    pub(crate) fn table_map(&mut self, request: &Request) -> Outcome<Answer> {
        let table = self.cap(request.target).clone();
        let [address, level, ..] = request.words;
        let root = self.passed_space(request)?;
        if table.mapped.is_some() {
            return Err(Error::AlreadyMapped);
        }
        let level = u8::try_from(level).map_err(|_| Error::InvalidArgument)?;
        let levels = self.machine.levels;
        if level == 0 || level >= levels || address >= self.user_end() {
            return Err(Error::InvalidArgument);
        }
        let space = self.spaces.get_mut(&root).expect("the space exists");
        space.reach(levels, address, level + 1)?;
        let place = (level, base(address, level));
        if space.tables.contains_key(&place) || level == 1 && space.has_large_page(address) {
            return Err(Error::AlreadyMapped);
        }
        space.tables.insert(place, table.object);
        let mapped = Mapped { space: space.id, root, address, level };
        self.cap_mut(request.target).mapped = Some(mapped);
        Ok(Answer::OK)
    }

    pub(crate) fn table_unmap(&mut self, request: &Request) -> Outcome<Answer> {
        if self.cap(request.target).mapped.is_none() {
            return Err(Error::NotMapped);
        }
        self.unmap_table(request.target);
        Ok(Answer::OK)
    }

    /// Takes a table out of the space that it remembers, if it is still there, with all that is mapped through it.
    pub(crate) fn unmap_table(&mut self, id: CapId) {
        let Capability { object, mapped, .. } = *self.cap(id);
        let Some(mapped) = mapped else { return };
        let from = base(mapped.address, mapped.level);
        if let Some(space) = self.remembered(&mapped)
            && space.tables.get(&(mapped.level, from)) == Some(&object)
        {
            space.clear(mapped.level, from);
        }
        self.cap_mut(id).mapped = None;
    }

    /// A capability to an address space is about to go. If it is the one that a thread runs in, that stops.
    pub(crate) fn stop_who_runs_in(&mut self, id: CapId) {
        if let Place::Thread(thread, Part::Space) = self.cap(id).place {
            self.stop(thread);
        }
    }
}
