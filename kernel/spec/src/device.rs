//! What little the kernel does with devices itself: I/O ports, its console, the power switch; and its counters.

use anos_abi::{Error, Kind, Rights};

use crate::call::{Answer, Request};
use crate::state::{Capability, Counters};
use crate::{Outcome, Spec};

/// Bytes that one message to the console carries.
const CONSOLE_BYTES: usize = 16;

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

    /// What a core has done; the call itself isn't counted yet.
    pub(crate) fn debug_counters(&self, request: &Request) -> Outcome<Answer> {
        let core = usize::try_from(request.words[0]).ok().and_then(|core| self.cores.get(core));
        let core = core.ok_or(Error::InvalidArgument)?;
        let [kicks, shootdowns, locks, waits] = self.choices.effort;
        let Counters { calls, interrupts, faults } = core.counters;
        Ok(Answer::words([calls, interrupts, faults, core.switches, kicks, shootdowns, locks, waits]))
    }

    pub(crate) fn debug_name(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(self.passed_kind(request, Kind::Thread, Rights::WRITE)?).object;
        let [a, b, c, d, ..] = request.words;
        self.thread_mut(thread).name = [a, b, c, d];
        Ok(Answer::OK)
    }

    /// A page, or the thread in it, by its physical address.
    pub(crate) fn debug_show(&self) -> Outcome<Answer> {
        self.choices.shown.map(Answer::words).ok_or(Error::InvalidArgument)
    }
}
