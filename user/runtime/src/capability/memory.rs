//! Memory, and the tables that say who may use it.

use anos_abi::object::Method;
use anos_abi::{Error, Kind, Rights};

use super::{Capability, Slot, capabilities, invoke, invoke_step};

capabilities! {
    /// A run of physical memory that can be retyped.
    Untyped;
    /// Contiguous pages that can be mapped.
    Frame;
    /// One intermediate page-table level.
    PageTable;
    /// A root page table.
    AddressSpace;
    /// An array of capability slots.
    CapTable;
}

/// What an Untyped says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UntypedInfo {
    /// Physical address.
    pub address: u64,
    /// Pages.
    pub pages: u64,
    /// Pages given away, from the start.
    pub pages_used: u64,
    /// Whether it is device memory.
    pub device: bool,
}

impl Untyped {
    /// Makes `count` objects of a kind into the slots from `first` on. `size`: pages for Untyped and Frame, slots for
    /// CapTable, else 0.
    pub fn retype(self, kind: Kind, size: u64, count: u64, first: Slot) -> Result<(), Error> {
        self.retype_at(kind, size, count, 0, first)
    }

    /// Like [`retype`](Self::retype), for device memory: `position` is in pages from the start.
    pub fn retype_at(self, kind: Kind, size: u64, count: u64, position: u64, first: Slot) -> Result<(), Error> {
        invoke(self.0, Method::UntypedRetype, &[kind as u64, size, count, position], None, Some(first)).map(|_| ())
    }

    /// Makes one object of the type asked for. `size` as for [`retype`](Self::retype).
    pub fn make<T: Capability>(self, size: u64, slot: Slot) -> Result<T, Error> {
        self.retype(T::KIND, size, 1, slot)?;
        Ok(T::from_slot(slot))
    }

    /// Where it lies and how much is used.
    pub fn info(self) -> Result<UntypedInfo, Error> {
        let [address, pages, pages_used, device, ..] = invoke(self.0, Method::UntypedInfo, &[], None, None)?;
        Ok(UntypedInfo { address, pages, pages_used, device: device != 0 })
    }
}

/// What a Frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Physical address.
    pub physical_address: u64,
    /// Pages.
    pub pages: u64,
    /// Where it is mapped, or 0.
    pub address: u64,
}

impl Frame {
    /// Maps it. All page tables on the way must be there; [`crate::memory::map`] sees to them.
    pub fn map(self, space: AddressSpace, address: u64, rights: Rights, uncached: bool) -> Result<(), Error> {
        let words = [address, rights.0.into(), uncached.into()];
        invoke(self.0, Method::FrameMap, &words, Some(space.0), None).map(|_| ())
    }

    /// Takes the mapping away, on every core.
    pub fn unmap(self) -> Result<(), Error> {
        invoke(self.0, Method::FrameUnmap, &[], None, None).map(|_| ())
    }

    /// Where it lies and where it is mapped.
    pub fn info(self) -> Result<FrameInfo, Error> {
        let [physical_address, pages, address, ..] = invoke(self.0, Method::FrameInfo, &[], None, None)?;
        Ok(FrameInfo { physical_address, pages, address })
    }
}

impl PageTable {
    /// Puts it into an address space, at a level (1 holds pages, 2 holds level-1 tables, and so on).
    pub fn map(self, space: AddressSpace, address: u64, level: u64) -> Result<(), Error> {
        invoke(self.0, Method::PageTableMap, &[address, level], Some(space.0), None).map(|_| ())
    }

    /// Takes it, with all it maps, out of its address space.
    pub fn unmap(self) -> Result<(), Error> {
        invoke(self.0, Method::PageTableUnmap, &[], None, None).map(|_| ())
    }
}

impl AddressSpace {
    /// Levels of page tables, and the first address past user space.
    pub fn info(self) -> Result<(u64, u64), Error> {
        let [levels, end, ..] = invoke(self.0, Method::AddressSpaceInfo, &[], None, None)?;
        Ok((levels, end))
    }
}

/// What lies in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The kind; [`Kind::Empty`] if there is nothing.
    pub kind: Kind,
    /// What it allows.
    pub rights: Rights,
    /// Its badge.
    pub badge: u64,
    /// Pages or slots, by its kind.
    pub size: u64,
    /// Whether it is mapped or bound.
    pub in_use: bool,
}

impl CapTable {
    /// Copies a capability of the caller's table into a slot of this one.
    pub fn copy(self, from: Slot, to: Slot, rights: Rights) -> Result<(), Error> {
        let words = [to.number().into(), rights.0.into()];
        invoke(self.0, Method::CapTableCopy, &words, Some(from), None).map(|_| ())
    }

    /// Copies an Endpoint or Notification, and gives the copy a badge.
    pub fn mint(self, from: Slot, to: Slot, rights: Rights, badge: u64) -> Result<(), Error> {
        let words = [to.number().into(), rights.0.into(), badge];
        invoke(self.0, Method::CapTableMint, &words, Some(from), None).map(|_| ())
    }

    /// Moves a capability of the caller's table into a slot of this one.
    pub fn take(self, from: Slot, to: Slot) -> Result<(), Error> {
        invoke(self.0, Method::CapTableMove, &[to.number().into()], Some(from), None).map(|_| ())
    }

    /// Deletes one capability; what was derived from it stays.
    pub fn delete(self, slot: Slot) -> Result<(), Error> {
        invoke(self.0, Method::CapTableDelete, &[slot.number().into()], None, None).map(|_| ())
    }

    /// Deletes all that was derived from a capability.
    pub fn revoke(self, slot: Slot) -> Result<(), Error> {
        invoke(self.0, Method::CapTableRevoke, &[slot.number().into()], None, None).map(|_| ())
    }

    /// One step of [`revoke`](Self::revoke): [`Error::Again`] until nothing is left.
    pub fn revoke_step(self, slot: Slot) -> Result<(), Error> {
        invoke_step(self.0, Method::CapTableRevoke, &[slot.number().into()], None, None).map(|_| ())
    }

    /// Calls off every wait to send through an Endpoint with the badge of this capability to it.
    pub fn cancel(self, slot: Slot) -> Result<(), Error> {
        invoke(self.0, Method::CapTableCancel, &[slot.number().into()], None, None).map(|_| ())
    }

    /// Says what lies in a slot.
    pub fn look(self, slot: Slot) -> Result<Look, Error> {
        let [kind, rights, badge, size, in_use, ..] =
            invoke(self.0, Method::CapTableLook, &[slot.number().into()], None, None)?;
        let [rights, ..] = rights.to_le_bytes();
        Ok(Look { kind: Kind::try_from(kind)?, rights: Rights(rights), badge, size, in_use: in_use != 0 })
    }

    /// Number of slots.
    pub fn size(self) -> Result<u64, Error> {
        let [slots, ..] = invoke(self.0, Method::CapTableInfo, &[], None, None)?;
        Ok(slots)
    }
}
