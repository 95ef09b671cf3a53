//! The driver on a machine: its registers, its interrupt, its requests.

use core::convert::Infallible;

use anos::capability::{Endpoint, Frame, Interrupt, IoPort, Notification};
use anos::interfaces::start::name;
use anos::server::{Event, Server};
use anos::{Error, Rights, env, memory};
use anos_driver_uart16550::{Driver, Register, Registers};

/// The badge with which the interrupt signals.
const INTERRUPTED: u64 = 1;

/// Registers, the way the manifest gave them.
enum Access {
    /// By I/O ports: the capability and the first port.
    Ports(IoPort, u16),
    /// In memory, a byte each.
    Memory(*mut u8),
}

impl Access {
    fn find() -> Result<Self, Error> {
        if let Some(ports) = env::capability::<IoPort>(name::PORTS) {
            return Ok(Access::Ports(ports, ports.first()?));
        }
        let frame: Frame = env::capability(name::REGISTERS).ok_or(Error::EmptySlot)?;
        Ok(Access::Memory(memory::map_given(frame, Rights::READ.union(Rights::WRITE), true)?))
    }
}

impl Registers for Access {
    fn read(&mut self, register: Register) -> u8 {
        match self {
            // A port in the range that the capability covers can be read; if it could not, all ones is what a PC
            // reads where nothing is.
            Access::Ports(ports, first) => ports.read_byte(*first + register as u16).unwrap_or(u8::MAX),
            // SAFETY: the device's registers are mapped here, uncached, and this is a byte register in their page.
            Access::Memory(base) => unsafe { base.wrapping_add(register as usize).read_volatile() },
        }
    }

    fn write(&mut self, register: Register, value: u8) {
        match self {
            Access::Ports(ports, first) => {
                // As above: it can be written.
                let _ = ports.write_byte(*first + register as u16, value);
            }
            // SAFETY: as above.
            Access::Memory(base) => unsafe { base.wrapping_add(register as usize).write_volatile(value) },
        }
    }
}

/// Binds the interrupt to this thread.
fn bind(interrupt: Interrupt) -> Result<(), Error> {
    let notification: Notification = memory::make(0)?;
    env::FIRST_THREAD.bind(Some(notification))?;
    interrupt.bind(notification.badged(INTERRUPTED)?)
}

/// Serves interrupts and requests, whichever comes.
pub fn main() -> Result<Infallible, Error> {
    let endpoint: Endpoint = env::capability(name::SERVICE).ok_or(Error::EmptySlot)?;
    let interrupt: Interrupt = env::capability(name::INTERRUPT).ok_or(Error::EmptySlot)?;
    let mut driver = Driver::new(Access::find()?);
    bind(interrupt)?;
    // What came before the interrupt was bound may have used up its edge.
    driver.interrupt();
    let mut server = Server::new(endpoint);
    loop {
        match server.receive()? {
            Event::Signal(_) => {
                driver.interrupt();
                interrupt.acknowledge()?;
            }
            Event::Request(request) => {
                if let Some(answerer) = request.answerer {
                    driver.request(&request.message, answerer);
                }
            }
        }
        for (answerer, message) in driver.take_answers() {
            server.answer(answerer, message);
        }
    }
}
