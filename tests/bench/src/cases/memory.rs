//! Bytes of memory that the kernel takes for what it manages.
//!
//! Small objects of a kind share pages, so many of each are made, and the pages counted that this takes.

use alloc::format;

use anos::abi::PAGE_SIZE;
use anos::abi::boot::slot;
use anos::capability::{SchedControl, Slot, Untyped};
use anos::{Error, Kind, env};

use crate::figures::{Failure, Outcome};
use crate::stage::Stage;

/// Counts bytes.
type Count = fn(&mut Stage) -> Outcome<u64>;

/// What is counted: its name, and how.
pub const MEASUREMENTS: &[(&str, Count)] = &[
    ("memory/idle", |_| idle()),
    ("memory/endpoint", |stage| each(stage, |stage, memory| make(stage, memory, Kind::Endpoint, 0, COUNT))),
    ("memory/thread", |stage| each(stage, threads)),
    ("memory/process", |stage| each(stage, processes)),
];

/// How many of each are made.
const COUNT: u64 = 64;
/// Pages that these have room in.
const ROOM: u64 = 1024;
/// Slots of a process's table: a page of them.
const TABLE_SLOTS: u64 = 64;

/// What the kernel keeps for itself of main memory: image, stacks, page records.
fn idle() -> Outcome<u64> {
    Ok(env::boot_info().ok_or(Failure("there is no BootInfo".into()))?.kernel_bytes)
}

/// What each of those takes that `make` makes.
fn each(stage: &mut Stage, make: fn(&mut Stage, Untyped) -> Result<(), Error>) -> Outcome<u64> {
    let memory: Untyped = stage.make(ROOM)?;
    make(stage, memory)?;
    let bytes = memory.info()?.pages_used * PAGE_SIZE;
    if bytes.is_multiple_of(COUNT) { Ok(bytes / COUNT) } else { Err(Failure(format!("{bytes} bytes for {COUNT}"))) }
}

fn make(stage: &mut Stage, memory: Untyped, kind: Kind, size: u64, count: u64) -> Result<(), Error> {
    (0..count).try_for_each(|_| memory.retype(kind, size, 1, stage.slot()))
}

/// Threads, each with CPU time of its own.
fn threads(stage: &mut Stage, memory: Untyped) -> Result<(), Error> {
    make(stage, memory, Kind::Thread, 0, COUNT)?;
    let control = SchedControl::at(Slot::new(slot::SCHED_CONTROL));
    (0..COUNT).try_for_each(|_| control.make_context(memory, stage.slot()).map(|_| ()))
}

/// Processes: an address space with the tables that it takes to map the first page, a small table of capabilities, and a
/// thread with CPU time. (Its own memory comes on top.)
fn processes(stage: &mut Stage, memory: Untyped) -> Result<(), Error> {
    let (levels, _) = env::OWN_SPACE.info()?;
    make(stage, memory, Kind::AddressSpace, 0, COUNT)?;
    make(stage, memory, Kind::PageTable, 0, COUNT * (levels - 1))?;
    make(stage, memory, Kind::CapTable, TABLE_SLOTS, COUNT)?;
    threads(stage, memory)
}
