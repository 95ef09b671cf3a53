//! What little the kernel does with devices itself: I/O ports, its console, the power switch; and its counters.

use anos_abi::{Error, Kind};

use crate::call::{Answer, Request};
use crate::state::Capability;
use crate::{Outcome, Spec};

/// Bytes that one message to the console carries.
const CONSOLE_BYTES: usize = 56;

impl Spec {
    pub(crate) fn io_port_control_get(&mut self, request: &Request) -> Outcome<Answer> {
        let [first, last, ..] = request.words;
        if first > last || last > u16::MAX.into() {
            return Err(Error::InvalidArgument);
        }
        let place = self.receive_slot(request, 0)?;
        self.derive(request.target, place, Capability::new(Kind::IoPort, first, last));
        Ok(Answer::CAPABILITY)
    }

    /// The port that a request names: with all bytes of the access, it must lie in the capability's range.
    fn port(&self, request: &Request) -> Outcome<u16> {
        let range = self.cap(request.target);
        let [port, size, ..] = request.words;
        let last = port.checked_add(size.wrapping_sub(1)).ok_or(Error::InvalidArgument)?;
        if !matches!(size, 1 | 2 | 4) || port < range.object || last > range.size {
            return Err(Error::InvalidArgument);
        }
        u16::try_from(port).map_err(|_| Error::InvalidArgument)
    }

    pub(crate) fn io_port_in(&mut self, request: &Request) -> Outcome<Answer> {
        let port = self.port(request)?;
        if !self.machine.io_ports {
            return Err(Error::Unsupported);
        }
        let value = self.machine.ports.get(&port).copied().unwrap_or(0);
        Ok(Answer::words([value.into()]))
    }

    pub(crate) fn io_port_out(&mut self, request: &Request) -> Outcome<Answer> {
        let port = self.port(request)?;
        let value = u32::try_from(request.words[2]).map_err(|_| Error::InvalidArgument)?;
        if !self.machine.io_ports {
            return Err(Error::Unsupported);
        }
        self.machine.ports.insert(port, value);
        Ok(Answer::OK)
    }

    pub(crate) fn debug_write(&mut self, request: &Request) -> Outcome<Answer> {
        let [length, text @ ..] = request.words;
        let length = usize::try_from(length).ok().filter(|&length| length <= CONSOLE_BYTES);
        let length = length.ok_or(Error::InvalidArgument)?;
        self.machine.console.extend(text.iter().flat_map(|word| word.to_le_bytes()).take(length));
        Ok(Answer::OK)
    }

    /// Only a machine that can't be switched off answers.
    pub(crate) fn debug_reset(&mut self, request: &Request) -> Outcome<Answer> {
        Err(if request.words[0] <= 1 { Error::Unsupported } else { Error::InvalidArgument })
    }

    pub(crate) fn debug_counters(&self) -> Answer {
        Answer::words([
            self.counters.calls,
            self.counters.interrupts,
            self.counters.faults,
            self.cores.iter().map(|core| core.switches).sum(),
            self.choices.kicks,
            self.choices.shootdowns,
            self.machine.memory_pages,
            self.machine.kernel_pages,
        ])
    }
}
