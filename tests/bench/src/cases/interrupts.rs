//! An interrupt to its driver.
//!
//! The device must interrupt at a known instruction: a store of a program's own. On RISC-V that is the serial port, whose
//! "transmitter empty" interrupt comes when it is enabled. A PC's registers of that kind are behind system calls; there
//! it is QEMU's device for teaching (QEMU's documentation, "EDU device"), which sends a message when it is told to.

use anos::abi::boot::slot;
use anos::abi::object::Method;
use anos::abi::{Status, SystemCall};
use anos::capability::{Capability, Interrupt, InterruptControl, IoPort, IoPortControl, Notification, Slot, invoke};
use anos::{Error, Rights, env};

use super::ipc::{CLIENT, SERVER};
use super::{ROUNDS, measurements};
use crate::arch::{Entry, IS_PC};
use crate::figures::{Failure, Outcome, one_way};
use crate::record::{Record, Request};
use crate::stage::{FREE, Place, Stage, signal_done};

measurements![
    "irq/user_driver": user_driver,
];

const CONTROL: InterruptControl = InterruptControl::at(Slot::new(slot::INTERRUPT_CONTROL));
const PORTS: IoPortControl = IoPortControl::at(Slot::new(slot::IO_PORT_CONTROL));

/// A device that interrupts when a word is stored.
struct Device {
    line: Interrupt,
    /// Its registers' physical address.
    registers: u64,
    /// What raises it: a register, and what to store there.
    raise: (u64, u64),
    /// A register to write 0 to, so that it no longer interrupts.
    quiet: Option<u64>,
}

/// From a program's store that has a device interrupt to its driver, which waits with a higher priority in the other
/// address space.
fn user_driver(stage: &mut Stage) -> Outcome {
    let device = if IS_PC { teaching(stage)? } else { serial(stage)? };
    let original: Notification = stage.make(0)?;
    let badged = stage.slot();
    env::OWN_TABLE.mint(original.slot(), badged, Rights::WRITE, 1)?;
    device.line.bind(Notification::at(badged))?;
    let line = stage.give(Place::There, device.line)?;
    let waited = stage.give(Place::There, original)?;
    for place in [Place::Here, Place::There] {
        if !stage.map_device(place, device.registers, FREE)? {
            return Err(Failure("the device's registers are not there".into()));
        }
    }
    let wait = Request::new(SystemCall::Recv, waited, &[]);
    let driver = stage.worker(
        Place::There,
        SERVER,
        Entry::Call,
        Record {
            rounds: ROUNDS + 1,
            status: Status::SIGNAL,
            quiet: device.quiet.map_or(0, |register| FREE + register),
            first: wait,
            between: [Request::method(line, Method::InterruptAck, &[]), Request::default()],
            measured: wait,
            last: signal_done(),
            ..Record::default()
        },
    )?;
    driver.start()?;
    let (register, value) = device.raise;
    let store = Request { operation: FREE + register, reply: value, ..Request::default() };
    let record = Record { rounds: ROUNDS + 8, status: store.operation, measured: store, ..Record::default() };
    let program = stage.worker(Place::Here, CLIENT, Entry::Store, record)?;
    program.start()?;
    stage.run()?;
    // The first is the one that the driver had begun to wait for before its first measured round.
    Ok(one_way(program.samples().get(1..).unwrap_or_default(), &driver.samples(), stage.overhead))
}

/// The serial port: a 16550's interrupt-enable register, and "transmitter empty" in it.
fn serial(stage: &mut Stage) -> Outcome<Device> {
    let line = CONTROL.get(10, true, false, stage.slot())?;
    Ok(Device { line, registers: 0x1000_0000, raise: (1, 2), quiet: Some(1) })
}

/// The configuration space of a PC's PCI device 4.
struct Configuration(Slot);

impl Configuration {
    const ADDRESS: u64 = 0xcf8;
    const DATA: u64 = 0xcfc;

    fn select(&self, register: u64) -> Result<(), Error> {
        let words = [Self::ADDRESS, 4, 1 << 31 | 4 << 11 | register];
        invoke(self.0, Method::IoPortOut, &words, None, None).map(|_| ())
    }

    fn read(&self, register: u64) -> Result<u64, Error> {
        self.select(register)?;
        let [value, ..] = invoke(self.0, Method::IoPortIn, &[Self::DATA, 4], None, None)?;
        Ok(value)
    }

    fn write(&self, register: u64, value: u64) -> Result<(), Error> {
        self.select(register)?;
        invoke(self.0, Method::IoPortOut, &[Self::DATA, 4, value & 0xffff_ffff], None, None).map(|_| ())
    }
}

/// The device for teaching, told what to send. The firmware has given it an address.
fn teaching(stage: &mut Stage) -> Outcome<Device> {
    /// A line that is a message.
    const MESSAGE: u64 = 175;
    let line = CONTROL.get(MESSAGE, false, false, stage.slot())?;
    let message = line.message()?;
    let ports: IoPort = PORTS.get(0xcf8, 0xcff, stage.slot())?;
    let configuration = Configuration(ports.slot());
    if configuration.read(0)? != 0x11e8_1234 {
        return Err(Failure("there is no device for teaching".into()));
    }
    // It may answer, and send.
    configuration.write(4, 6)?;
    let mut capability = configuration.read(0x34)? & 0xff;
    while configuration.read(capability)? & 0xff != 5 {
        if capability == 0 {
            return Err(Failure("the device has no messages".into()));
        }
        capability = configuration.read(capability)? >> 8 & 0xff;
    }
    for (register, value) in [(4, message.address), (8, message.address >> 32), (12, message.value)] {
        configuration.write(capability + register, value)?;
    }
    configuration.write(capability, configuration.read(capability)? | 1 << 16)?;
    let registers = configuration.read(0x10)? & !0xf;
    Ok(Device { line, registers, raise: (0x60, 1), quiet: None })
}
