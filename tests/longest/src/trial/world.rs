//! What stays from trial to trial.

use anos::abi::PAGE_SIZE;
use anos::abi::boot::slot;
use anos::capability::{Frame, IoPortControl, SchedControl, Slot, StartState, Thread, Untyped};
use anos::{Error, Kind, Rights, env, memory};

use super::Thing;
use crate::{arch, puppet};

/// The memory of trials.
pub const ARENA: u32 = 1500;
const ARENA_PAGES: u64 = 16384;
/// The memory of the heap, and of what stays.
const LASTING: Untyped = Untyped::at(Slot::new(1501));
const LASTING_PAGES: u64 = 4096;
/// Frames that stay: to make one takes many calls. One that becomes a large page, and one that doesn't.
const FRAMES: [(u32, u64); 2] = [(1502, 512), (1503, 511)];
/// The serial port's registers, where they are behind I/O ports.
const PORTS: u32 = 1504;
/// The CPU time of the boot core.
pub const SCHED_CONTROL: u32 = slot::SCHED_CONTROL;
/// The priority of the trial's own thread.
pub const PRIORITY: u8 = 100;
/// The priority of the thread that runs when no other does.
const LOWEST: u8 = 1;

/// What stays.
pub struct World {
    /// Where the serial port's registers are in memory, if they are.
    registers: Option<*mut u8>,
}

impl World {
    /// Makes it. There is no heap before.
    pub fn new() -> Result<World, Error> {
        let runs = env::untyped().filter(|(_, run)| run.device == 0);
        let (largest, _) = runs.max_by_key(|(_, run)| run.pages).ok_or(Error::NotEnoughMemory)?;
        largest.retype(Kind::Untyped, LASTING_PAGES, 1, Slot::new(1501))?;
        largest.retype(Kind::Untyped, ARENA_PAGES, 1, Slot::new(ARENA))?;
        memory::set_quota(LASTING);
        for (slot, pages) in FRAMES {
            LASTING.retype(Kind::Frame, pages, 1, Slot::new(slot))?;
        }
        start_lowest()?;
        env::FIRST_THREAD.set_priority(PRIORITY, u8::MAX)?;
        Ok(World { registers: serial_port()? })
    }

    /// The capabilities that stay.
    pub fn things(&self) -> impl Iterator<Item = Thing> + use<> {
        let lasting = |(slot, kind)| Thing { slot, kind, lasting: true, puppet: false };
        let controls = [
            (slot::INTERRUPT_CONTROL, Kind::InterruptControl),
            (SCHED_CONTROL, Kind::SchedControl),
            (slot::DEBUG, Kind::Debug),
            (ARENA, Kind::Untyped),
        ];
        let ports =
            self.registers.is_none().then_some([(slot::IO_PORT_CONTROL, Kind::IoPortControl), (PORTS, Kind::IoPort)]);
        let frames = FRAMES.map(|(slot, _)| (slot, Kind::Frame));
        frames.into_iter().chain(controls).chain(ports.into_iter().flatten()).map(lasting)
    }

    /// Slots of all that trials make capabilities from.
    pub fn sources() -> impl Iterator<Item = u32> {
        let [(first, _), (second, _)] = FRAMES;
        let controls = [slot::INTERRUPT_CONTROL, slot::IO_PORT_CONTROL, SCHED_CONTROL, slot::DEBUG];
        [ARENA, first, second].into_iter().chain(controls)
    }

    /// Takes the right to use the serial port, if that takes one. It was taken back with all others.
    pub fn take_ports(&self) {
        if self.registers.is_none() {
            let control = IoPortControl::at(Slot::new(slot::IO_PORT_CONTROL));
            // A trial may have left it.
            let _ = control.get(0x3f8, 0x3ff, Slot::new(PORTS));
        }
    }

    /// Has the serial port interrupt: its "transmitter empty" is enabled.
    pub fn raise(&self) -> bool {
        match self.registers {
            Some(registers) => {
                store(registers, 0);
                store(registers, 2);
                true
            }
            None => false,
        }
    }

    /// Has it not interrupt any more.
    pub fn quieten(&self) {
        match self.registers {
            Some(registers) => store(registers, 0),
            None => _ = anos::capability::IoPort::at(Slot::new(PORTS)).write_byte(0x3f9, 0),
        }
    }
}

/// Writes the serial port's interrupt-enable register.
fn store(registers: *mut u8, value: u8) {
    // SAFETY: the second of the eight registers that are mapped there.
    let place = unsafe { registers.add(1) };
    // SAFETY: as above; which interrupts it sends changes no memory.
    unsafe { place.write_volatile(value) };
}

/// The serial port's registers, if they are in memory; or the right to use them, if they are behind I/O ports.
fn serial_port() -> Result<Option<*mut u8>, Error> {
    const ADDRESS: u64 = 0x1000_0000;
    if IoPortControl::at(Slot::new(slot::IO_PORT_CONTROL)).get(0x3f8, 0x3ff, Slot::new(PORTS)).is_ok() {
        return Ok(None);
    }
    for (device, run) in env::untyped().filter(|(_, run)| run.device == 1) {
        if (run.address..run.address + run.pages * PAGE_SIZE).contains(&ADDRESS) {
            let slot = Slot::new(1505);
            device.retype_at(Kind::Frame, 1, 1, (ADDRESS - run.address) / PAGE_SIZE, slot)?;
            return memory::map_given(Frame::at(slot), Rights::READ.union(Rights::WRITE), true).map(Some);
        }
    }
    Err(Error::NotEnoughMemory)
}

/// Starts the thread that runs when no other does.
fn start_lowest() -> Result<(), Error> {
    let number = puppet::MOST - 1;
    puppet::instruct(number, u64::MAX, &[]);
    let thread: Thread = memory::make(0)?;
    let context = SchedControl::at(Slot::new(SCHED_CONTROL)).make_context(LASTING, anos::slots::allocate()?)?;
    thread.set_table(env::OWN_TABLE)?;
    thread.set_space(env::OWN_SPACE)?;
    thread.set_context(Some(context))?;
    thread.set_priority(LOWEST, LOWEST)?;
    thread.start(&StartState {
        program_counter: arch::longest_start as *const () as u64,
        stack_pointer: puppet::stack_top(number),
        arguments: [number as u64, 0],
        ..StartState::default()
    })
}
