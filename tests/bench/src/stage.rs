//! The stage of a figure: two address spaces with a capability table each, and threads that measure.
//!
//! This program's own thread has the highest priority, so nothing runs until it waits for the end. What a figure needs is
//! made from memory that is taken back afterwards; the address spaces and what all of them see stay.

use alloc::format;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

use anos::abi::boot::slot;
use anos::abi::object::{Method, ThreadFlags};
use anos::abi::{PAGE_SIZE, SystemCall};
use anos::capability::{
    AddressSpace, CapTable, Capability, Frame, Notification, SchedControl, Slot, StartState, Thread, Untyped,
};
use anos::time::Instant;
use anos::{Error, Kind, Rights, env, memory};

use crate::arch::{self, Entry};
use crate::figures::Failure;
use crate::record::{Record, Request, Sample};

/// Runs that count.
pub const RUNS: u64 = 1000;
/// Runs before them.
pub const WARM_UP: u64 = 24;

/// Where the code lies in every address space.
pub const CODE: u64 = 0x8_0000_0000;
/// Its pages.
const CODE_PAGES: u64 = 2;
/// Where the first record lies in every address space.
pub const RECORDS: u64 = CODE + 0x20_0000;
/// From one record to the next.
pub const RECORD_STRIDE: u64 = 0x1_0000;
/// A page for the record, and those for its samples.
const RECORD_PAGES: u64 = 8;
/// Threads that a figure can have.
const MOST_WORKERS: u64 = 4;
/// Where an address space is free for a figure.
pub const FREE: u64 = 0x10_0000_0000;

/// Memory of the heap, and of what stays.
const LASTING_PAGES: u64 = 1024;
/// Memory of a figure.
const MEMORY_PAGES: u64 = 4096;
/// What stays.
pub const LASTING: Untyped = Untyped::at(Slot::new(2040));
/// What a figure is made from.
pub const MEMORY: Untyped = Untyped::at(Slot::new(2041));
/// The slots of a figure.
const FIRST_SLOT: u32 = 2048;

/// Slots of an address space's capability table.
const TABLE_SLOTS: u32 = 64;
/// Its own slot in it.
pub const OWN_TABLE: u32 = 1;
/// Its address space's slot in it.
pub const OWN_SPACE: u32 = 2;
/// The Notification that ends a figure.
const DONE: u32 = 3;
/// The first slot that is free.
const FREE_SLOT: u32 = 8;

/// How long a figure may take, ns of the machine's clock.
pub const PATIENCE_NS: u64 = 10_000_000_000;

/// A number as an index or address: they have the same size.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits on both architectures")]
const fn to_usize(number: u64) -> usize {
    number as usize
}

/// One of the two address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where clients run.
    Here,
    /// Where servers run.
    There,
}

/// An address space with its capability table.
struct Process {
    space: AddressSpace,
    table: CapTable,
    next_slot: u32,
}

/// A thread that measures.
#[derive(Clone, Copy)]
pub struct Worker {
    /// The thread.
    pub thread: Thread,
    /// Where its record is.
    pub address: u64,
    /// What it runs.
    pub entry: Entry,
}

impl Worker {
    fn place(self) -> *mut Record {
        core::ptr::with_exposed_provenance_mut(to_usize(self.address))
    }

    /// What it has been told, and what it has measured.
    pub fn record(self) -> Record {
        // SAFETY: the stage has mapped the memory of all records, for them alone; the thread that writes there does not
        // run while this one does, which has the highest priority (and one core, or waits until the thread is done).
        unsafe { self.place().read_volatile() }
    }

    /// Tells it what to do.
    pub fn set_record(self, record: Record) {
        // SAFETY: as in `record`; the thread has not been started.
        unsafe { self.place().write_volatile(record) }
    }

    /// How many rounds are left, also while it runs on another core.
    pub fn rounds<'a>(self) -> &'a AtomicU64 {
        let place = to_usize(self.address) + offset_of!(Record, rounds);
        // SAFETY: a field of a record, whose memory stays mapped as long as the thread is there. While that runs, this side
        // reaches the field through this reference alone, and the thread reads and writes it as a whole.
        unsafe { AtomicU64::from_ptr(core::ptr::with_exposed_provenance_mut(place)) }
    }

    /// What it has measured, the first first.
    pub fn samples(self) -> Vec<Sample> {
        let first = self.address + PAGE_SIZE;
        let count = (self.record().next_sample - first) / size_of::<Sample>() as u64;
        let samples = core::ptr::with_exposed_provenance::<Sample>(to_usize(first));
        let sample = |index| {
            // SAFETY: inside the memory behind the record: the thread has written to this place.
            let place = unsafe { samples.add(index) };
            // SAFETY: as in `record`.
            unsafe { place.read_volatile() }
        };
        (0..to_usize(count)).map(sample).collect()
    }

    /// Starts it, and it waits for its turn.
    pub fn start(self) -> Result<(), Error> {
        self.thread.start(&StartState {
            program_counter: Stage::entry(self.entry),
            stack_pointer: self.address,
            ..StartState::default()
        })
    }
}

/// The stage.
pub struct Stage {
    here: Process,
    there: Process,
    done: Notification,
    next_slot: u32,
    workers: Vec<Worker>,
    /// The page of a device's registers that has been made last.
    device_page: Option<(Frame, (Untyped, u64))>,
    /// Instructions between two stamps with nothing to measure between them.
    pub overhead: u64,
}

/// The Untyped with the most memory.
fn largest_memory() -> Option<Untyped> {
    let memory = env::untyped().filter(|(_, run)| run.device == 0);
    memory.max_by_key(|(_, run)| run.pages).map(|(untyped, _)| untyped)
}

/// The Untypeds with device memory.
fn devices() -> impl Iterator<Item = Untyped> {
    env::untyped().filter(|(_, run)| run.device == 1).map(|(untyped, _)| untyped)
}

/// Makes the heap. Nothing can be measured before.
pub fn make_heap() -> Result<(), Error> {
    let largest = largest_memory().ok_or(Error::NotEnoughMemory)?;
    largest.retype(Kind::Untyped, LASTING_PAGES, 1, LASTING.slot())?;
    largest.retype(Kind::Untyped, MEMORY_PAGES, 1, MEMORY.slot())?;
    memory::set_quota(LASTING);
    Ok(())
}

/// What a record's memory allows.
pub const READ_WRITE: Rights = Rights::READ.union(Rights::WRITE);
/// What the code's memory allows.
pub const READ_EXECUTE: Rights = Rights::READ.union(Rights::EXECUTE);

/// The code in memory of its own, to be mapped where it is to run.
pub fn load_code() -> Result<Frame, Error> {
    let code: Frame = memory::make(CODE_PAGES)?;
    let writable = memory::map_given(code, READ_WRITE, false)?;
    let bytes = arch::code();
    if bytes.len() as u64 > CODE_PAGES * PAGE_SIZE {
        return Err(Error::NotEnoughMemory);
    }
    // SAFETY: memory that was mapped just now, for this alone, and is large enough.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), writable, bytes.len()) };
    Ok(code)
}

impl Stage {
    /// Makes what stays.
    pub fn new() -> Result<Stage, Error> {
        let done: Notification = memory::make(0)?;
        let code = load_code()?;
        let mut stage = Stage {
            here: Process::new(done)?,
            there: Process::new(done)?,
            done,
            next_slot: FIRST_SLOT,
            workers: Vec::new(),
            device_page: None,
            overhead: 0,
        };
        for process in [&mut stage.here, &mut stage.there] {
            map_copy(process.space, code, CODE, READ_EXECUTE)?;
        }
        for number in 0..MOST_WORKERS {
            let frame: Frame = memory::make(RECORD_PAGES)?;
            let address = RECORDS + number * RECORD_STRIDE;
            memory::map(frame, address, READ_WRITE, false)?;
            map_copy(stage.here.space, frame, address, READ_WRITE)?;
            map_copy(stage.there.space, frame, address, READ_WRITE)?;
        }
        Ok(stage)
    }

    fn process(&mut self, place: Place) -> &mut Process {
        match place {
            Place::Here => &mut self.here,
            Place::There => &mut self.there,
        }
    }

    /// A free slot of this program's own table.
    pub fn slot(&mut self) -> Slot {
        self.next_slot += 1;
        Slot::new(self.next_slot - 1)
    }

    /// A new object. `size`: pages for Untyped and Frame, slots for CapTable, else 0.
    pub fn make<T: Capability>(&mut self, size: u64) -> Result<T, Error> {
        let slot = self.slot();
        MEMORY.make(size, slot)
    }

    /// A free slot there.
    pub fn slot_in(&mut self, place: Place) -> u32 {
        let process = self.process(place);
        process.next_slot += 1;
        process.next_slot - 1
    }

    /// A copy of a capability, there; in which slot.
    pub fn give<T: Capability>(&mut self, place: Place, capability: T) -> Result<u32, Error> {
        let slot = self.slot_in(place);
        self.process(place).table.copy(capability.slot(), Slot::new(slot), Rights::ALL)?;
        Ok(slot)
    }

    /// The same with a badge.
    pub fn give_badged<T: Capability>(&mut self, place: Place, capability: T, badge: u64) -> Result<u32, Error> {
        let slot = self.slot_in(place);
        self.process(place).table.mint(capability.slot(), Slot::new(slot), Rights::ALL, badge)?;
        Ok(slot)
    }

    /// A new object, there; in which slot.
    pub fn make_in<T: Capability>(&mut self, place: Place, size: u64) -> Result<u32, Error> {
        let made: T = self.make(size)?;
        let slot = self.slot_in(place);
        self.process(place).table.take(made.slot(), Slot::new(slot))?;
        Ok(slot)
    }

    /// Page tables there for an address, so that a page can be mapped.
    pub fn prepare(&mut self, place: Place, address: u64) -> Result<(), Error> {
        let frame: Frame = self.make(1)?;
        memory::map_into(self.process(place).space, frame, address, READ_WRITE, false)?;
        frame.unmap()
    }

    /// A thread there that is still to be started.
    pub fn worker(&mut self, place: Place, priority: u8, entry: Entry, record: Record) -> Result<Worker, Error> {
        let thread: Thread = self.make(0)?;
        let process = self.process(place);
        thread.set_table(process.table)?;
        thread.set_space(process.space)?;
        let slot = self.slot();
        let context = SchedControl::at(Slot::new(slot::SCHED_CONTROL)).make_context(MEMORY, slot)?;
        thread.set_context(Some(context))?;
        thread.set_priority(priority, u8::MAX)?;
        let number = self.workers.len() as u64;
        if number == MOST_WORKERS {
            return Err(Error::NotEnoughMemory);
        }
        let worker = Worker { thread, address: RECORDS + number * RECORD_STRIDE, entry };
        worker.set_record(Record { next_sample: worker.address + PAGE_SIZE, ..record });
        self.workers.push(worker);
        Ok(worker)
    }

    /// Has the thread's system calls go to a handler.
    pub fn make_foreign(&mut self, worker: Worker) -> Result<(), Error> {
        worker.thread.set_flags(ThreadFlags(ThreadFlags::FOREIGN))
    }

    /// Maps a page of a device's registers there. False if there are none at this physical address.
    pub fn map_device(&mut self, place: Place, registers: u64, address: u64) -> Result<bool, Error> {
        for device in devices() {
            let info = device.info()?;
            if (info.address..info.address + info.pages * PAGE_SIZE).contains(&registers) {
                let frame = self.device_frame(device, (registers - info.address) / PAGE_SIZE)?;
                memory::map_into(self.process(place).space, frame, address, READ_WRITE, true)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The Frame of a device's page; once made, it stays, and others get copies.
    fn device_frame(&mut self, device: Untyped, position: u64) -> Result<Frame, Error> {
        let slot = self.slot();
        match self.device_page {
            Some((frame, of)) if of == (device, position) => {
                env::OWN_TABLE.copy(frame.slot(), slot, Rights::ALL)?;
            }
            _ => {
                device.retype_at(Kind::Frame, 1, 1, position, slot)?;
                self.device_page = Some((Frame::at(slot), (device, position)));
            }
        }
        Ok(Frame::at(slot))
    }

    /// The address of a measuring thread's instruction behind its store.
    pub fn behind_store() -> u64 {
        CODE + arch::behind_store()
    }

    /// Where a thread starts for this.
    pub fn entry(entry: Entry) -> u64 {
        CODE + arch::entry(entry)
    }

    /// Waits until a thread's `last` has said that it is done.
    pub fn run(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now().nanoseconds() + PATIENCE_NS;
        if let Err(error) = self.done.wait(deadline) {
            let state = |worker: &Worker| {
                let info = worker.thread.info();
                info.map(|info| format!("{:?} at {:#x}", info.state, info.program_counter))
            };
            let states: Vec<_> = self.workers.iter().map(state).collect();
            return Err(Failure(format!("it does not end: {error}; threads: {states:?}")));
        }
        for worker in &self.workers {
            worker.thread.suspend()?;
        }
        self.workers.iter().try_for_each(|worker| check(worker.record()))
    }

    /// Lets all that was started go on until it waits.
    pub fn settle(&mut self) -> Result<(), Failure> {
        let worker = self.worker(Place::Here, 1, Entry::Arrive, Record { last: signal_done(), ..Record::default() })?;
        worker.start()?;
        self.done.wait(Instant::now().nanoseconds() + PATIENCE_NS)?;
        Ok(worker.thread.suspend()?)
    }

    /// Takes back all that a figure has made.
    pub fn clear(&mut self) -> Result<(), Error> {
        env::OWN_TABLE.revoke(MEMORY.slot())?;
        for slot in [slot::INTERRUPT_CONTROL, slot::IO_PORT_CONTROL, slot::SCHED_CONTROL] {
            env::OWN_TABLE.revoke(Slot::new(slot))?;
        }
        for device in devices() {
            env::OWN_TABLE.revoke(device.slot())?;
        }
        for process in [&mut self.here, &mut self.there] {
            for slot in FREE_SLOT..process.next_slot {
                process.table.delete(Slot::new(slot))?;
            }
            process.next_slot = FREE_SLOT;
        }
        self.next_slot = FIRST_SLOT;
        self.workers.clear();
        self.device_page = None;
        Ok(())
    }
}

impl Process {
    fn new(done: Notification) -> Result<Process, Error> {
        let process =
            Process { space: memory::make(0)?, table: memory::make(TABLE_SLOTS.into())?, next_slot: FREE_SLOT };
        process.table.copy(process.table.slot(), Slot::new(OWN_TABLE), Rights::ALL)?;
        process.table.copy(process.space.slot(), Slot::new(OWN_SPACE), Rights::ALL)?;
        process.table.mint(done.slot(), Slot::new(DONE), Rights::WRITE, 1)?;
        Ok(process)
    }
}

/// Maps a Frame that is mapped elsewhere already.
pub fn map_copy(space: AddressSpace, frame: Frame, address: u64, rights: Rights) -> Result<(), Error> {
    let slot = anos::slots::allocate()?;
    env::OWN_TABLE.copy(frame.slot(), slot, Rights::ALL)?;
    memory::map_into(space, Frame::at(slot), address, rights, false)
}

/// What a thread does last: the figure is complete.
pub fn signal_done() -> Request {
    Request::new(SystemCall::Send, DONE, &[])
}

/// Empties a slot of the thread's own table.
pub fn delete(slot: u32) -> Request {
    Request::method(OWN_TABLE, Method::CapTableDelete, &[slot.into()])
}

/// Every answer must have been what was expected: else what was measured is something else.
pub fn check(record: Record) -> Result<(), Failure> {
    if record.wrong == 0 {
        return Ok(());
    }
    let Record { wrong, last_status, last_label, .. } = record;
    Err(Failure(format!("an unexpected answer ({wrong:#x}); the last: status {last_status:#x}, label {last_label:#x}")))
}
