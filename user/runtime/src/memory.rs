//! The program's memory: where it comes from, and how it gets into the address space.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anos_abi::{Error, PAGE_SIZE, Rights};
use anos_interfaces::start::{MAPPINGS_START, slot};

use crate::capability::{AddressSpace, Capability, Frame, PageTable, Slot, Untyped};
use crate::{env, slots};

/// The slot of the Untyped that everything is made from; 0: the one every program starts with.
static QUOTA: AtomicU32 = AtomicU32::new(0);
/// Where the next mapping of a given Frame goes.
static NEXT_MAPPING: AtomicU64 = AtomicU64::new(MAPPINGS_START);

/// Levels that a page table can have at most: one below the root of a five-level tree.
const HIGHEST_LEVEL: u64 = 4;
/// Pages that one page table holds; a Frame never reaches from one table into the next.
const TABLE_PAGES: u64 = 512;
/// The most pages in one Frame: fewer than a table holds, so that none needs the alignment of a large page.
pub(crate) const FRAME_PAGES: u64 = 256;

/// A machine word as an address: both architectures have 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "a pointer has 64 bits on both architectures")]
pub(crate) const fn address(word: u64) -> usize {
    word as usize
}

/// Says which memory heap, stacks and objects are made from. The root server must, before it uses the heap; other
/// programs have theirs from the start.
pub fn set_quota(memory: Untyped) {
    QUOTA.store(memory.slot().number(), Ordering::Release);
}

/// The memory that heap, stacks and objects are made from.
pub fn quota() -> Result<Untyped, Error> {
    match QUOTA.load(Ordering::Acquire) {
        0 if env::start_info().is_some() => Ok(Untyped::at(Slot::new(slot::MEMORY))),
        0 => Err(Error::NotEnoughMemory),
        number => Ok(Untyped::at(Slot::new(number))),
    }
}

/// Bytes that are left of the program's memory.
pub fn available_bytes() -> u64 {
    let left = quota().and_then(Untyped::info).map(|info| info.pages.saturating_sub(info.pages_used));
    left.unwrap_or(0) * PAGE_SIZE
}

/// Makes a kernel object out of the program's memory, in a free slot. `size`: pages for Untyped and Frame, slots for
/// CapTable, else 0.
pub fn make<T: Capability>(size: u64) -> Result<T, Error> {
    let slot = slots::allocate()?;
    quota().and_then(|memory| memory.make(size, slot)).inspect_err(|_| slots::free(slot))
}

/// Maps a Frame into this program's address space, and makes the page tables that it takes.
pub fn map(frame: Frame, address: u64, rights: Rights, uncached: bool) -> Result<(), Error> {
    map_into(env::OWN_SPACE, frame, address, rights, uncached)
}

/// Maps a Frame into an address space, and makes the page tables that it takes out of this program's memory.
pub fn map_into(space: AddressSpace, frame: Frame, address: u64, rights: Rights, uncached: bool) -> Result<(), Error> {
    loop {
        match frame.map(space, address, rights, uncached) {
            Err(Error::MissingTable) => add_table(space, address)?,
            done => return done,
        }
    }
}

/// Makes the highest page table that is missing for this address.
fn add_table(space: AddressSpace, address: u64) -> Result<(), Error> {
    let table: PageTable = make(0)?;
    let mut levels = (1..=HIGHEST_LEVEL).map(|level| table.map(space, address, level));
    let mapped = levels.find(|mapped| *mapped != Err(Error::MissingTable)).unwrap_or(Err(Error::MissingTable));
    if mapped.is_err() {
        slots::delete(table.slot())?;
    }
    // If another thread was faster, the table is there, and ours was spare.
    if mapped == Err(Error::AlreadyMapped) { Ok(()) } else { mapped }
}

/// Makes memory appear at an address: readable, writable, all zeros. Says how many bytes it became, which is less than
/// asked for if memory runs out; if it became none, it is the error.
pub fn populate(address: u64, bytes: u64) -> Result<u64, Error> {
    let mut done = 0;
    while done < bytes {
        let in_table = TABLE_PAGES - (address + done) / PAGE_SIZE % TABLE_PAGES;
        let pages = (bytes - done).div_ceil(PAGE_SIZE).min(FRAME_PAGES).min(in_table);
        let added = make::<Frame>(pages).and_then(|frame| {
            map(frame, address + done, Rights::READ.union(Rights::WRITE), false).inspect_err(|_| {
                let _ = slots::delete(frame.slot());
            })
        });
        match added {
            Ok(()) => done += pages * PAGE_SIZE,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Maps a Frame that the program was given (a device's registers, say, uncached), and says where it is.
pub fn map_given(frame: Frame, rights: Rights, uncached: bool) -> Result<*mut u8, Error> {
    let bytes = frame.info()?.pages * PAGE_SIZE;
    // Each starts with a page table of its own, and leaves a page free behind it.
    let room = (bytes + PAGE_SIZE).next_multiple_of(TABLE_PAGES * PAGE_SIZE);
    let address = NEXT_MAPPING.fetch_add(room, Ordering::Relaxed);
    map(frame, address, rights, uncached)?;
    Ok(core::ptr::with_exposed_provenance_mut(self::address(address)))
}
