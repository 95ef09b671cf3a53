//! The console, from a program's side. (Printing: [`print`](crate::print).)

use anos_interfaces::console::Request;
use anos_interfaces::start::name;
use anos_interfaces::{Bytes, Failure};

use crate::capability::Endpoint;
use crate::env;

/// The console server.
#[derive(Clone, Copy, Debug)]
pub struct Console(Endpoint);

impl Console {
    /// The one that the program was given.
    pub fn get() -> Option<Self> {
        env::capability(name::CONSOLE).map(Console)
    }

    /// Waits for keys.
    pub fn read(&self) -> Result<Bytes, Failure> {
        self.0.call(&Request::Read.message()).map(|words| Bytes::from_words(&words))
    }

    /// Writes bytes as they are.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, taken) = Bytes::take(rest);
            rest = rest.get(taken..).unwrap_or_default();
            self.0.call(&Request::Write { bytes: piece, more: !rest.is_empty() }.message())?;
        }
        Ok(())
    }

    /// Puts a process into the foreground. For the controller.
    pub fn foreground(&self, pid: u32) -> Result<(), Failure> {
        self.0.call(&Request::Foreground { pid }.message()).map(|_| ())
    }

    /// Waits until somebody presses the interrupt key while another program is in the foreground: that program. For
    /// the controller.
    pub fn interrupted(&self) -> Result<u32, Failure> {
        let [pid, ..] = self.0.call(&Request::Interrupted.message())?;
        Ok(u32::try_from(pid).unwrap_or(0))
    }
}
