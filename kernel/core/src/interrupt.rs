//! Interrupt lines, I/O ports, and the control capabilities.
//!
//! An interrupt becomes a signal: slot n of the kernel's own table holds a copy of the Notification capability that
//! line n signals, so it goes when that is revoked. A level-triggered line stays masked until its driver acknowledges.

use anos_abi::{CONSOLE_BYTES, Error, Kind, PAGE_SIZE, Rights};
use anos_machine::{CoreId, Machine, PageRecord, Ref, Reset, Slot, SlotRef, Thread};

use crate::bounds::MAX_INTERRUPTS;
use crate::call::Request;
use crate::context::core_numbered;
use crate::family::{make_copy, may_derive, table_slot};
use crate::{Global, Outcome, Visit};

/// A set of interrupt lines.
type Lines = [u64; MAX_INTERRUPTS / 64];

/// Where a line stands in a set: which word, which bit.
fn line_bit(line: u64) -> Option<(usize, u64)> {
    Some((usize::try_from(line / 64).ok()?, 1 << (line % 64)))
}

fn has_line(lines: &Lines, line: u64) -> bool {
    line_bit(line).is_some_and(|(word, bit)| lines.get(word).is_some_and(|word| word & bit != 0))
}

fn put_line(lines: &mut Lines, line: u64, on: bool) {
    if let Some((word, bit)) = line_bit(line)
        && let Some(word) = lines.get_mut(word)
    {
        *word = if on { *word | bit } else { *word & !bit };
    }
}

/// The line of an Interrupt capability, as the machine counts.
fn line_of(object: u64) -> Result<u32, Error> {
    u32::try_from(object).map_err(|_| Error::InvalidArgument)
}

impl Global {
    /// Where the Notification of a line lies.
    fn line_slot(&self, line: u64) -> SlotRef {
        table_slot(&Slot { object: self.interrupt_table, ..Slot::default() }, line)
    }

    /// The same of a line that the tables know, and whether it is level-triggered.
    pub(crate) fn line(&self, line: u32) -> Option<(SlotRef, bool)> {
        let number = u64::from(line);
        let known = number < MAX_INTERRUPTS as u64;
        known.then(|| (self.line_slot(number), has_line(&self.interrupts_level, number)))
    }
}

impl<M: Machine> Visit<'_, M> {
    /// Where the Notification of a line lies.
    fn line_slot(&mut self, line: u64) -> Outcome<SlotRef> {
        Ok(self.held.global()?.line_slot(line))
    }

    /// An interrupt has come.
    pub(crate) fn interrupt(&mut self, line: u32) -> Outcome {
        let (target, level) = match self.held.global()?.line(line) {
            Some((at, level)) => {
                // Whoever bound a line last made its page at home there: only looking needs no other lock from now on.
                self.held.store.join(at.address())?;
                (self.slot(at)?.copy(), level)
            }
            None => (Slot::default(), false),
        };
        if level || target.is_empty() {
            self.machine.interrupt_mask(line);
        }
        if target.kind() == Kind::Notification {
            self.signal(Ref::at(target.object), target.badge)?;
        }
        Ok(())
    }

    pub(crate) fn interrupt_control_get(&mut self, request: &Request) -> Outcome {
        let [line, level, active_low, ..] = *request.words;
        let number = line_of(line)?;
        if line >= MAX_INTERRUPTS as u64 || level > 1 || active_low > 1 || !self.machine.interrupt_exists(number) {
            return Err(Error::InvalidArgument.into());
        }
        may_derive(request.target)?;
        let to = request.receive(self, 1)?;
        self.need_all()?;
        let global = self.held.global()?;
        if has_line(&global.interrupts_taken, line) {
            return Err(Error::Busy.into());
        }
        put_line(&mut global.interrupts_taken, line, true);
        put_line(&mut global.interrupts_level, line, level == 1);
        self.machine.interrupt_configure(number, level == 1, active_low == 1);
        let slot =
            Slot { kind: Kind::Interrupt as u8, rights: Rights::ALL.0, object: line, extent: 1, ..Slot::default() };
        self.derive(request.at, to, &slot)?;
        self.tell_capability()
    }

    pub(crate) fn interrupt_bind(&mut self, request: &Request) -> Outcome {
        let line = request.target.object;
        let from = request.passed_kind(self, Kind::Notification, Rights::WRITE)?;
        let mut copy = self.slot(from)?.copy();
        // No bits would signal nothing.
        if copy.badge == 0 {
            return Err(Error::InvalidArgument.into());
        }
        self.need_all()?;
        let to = self.line_slot(line)?;
        if !self.held.store.see(to)?.is_empty() {
            return Err(Error::Busy.into());
        }
        make_copy(&mut copy, Rights::ALL)?;
        self.derive(from, to, &copy)?;
        self.machine.interrupt_unmask(line_of(line)?);
        Ok(())
    }

    pub(crate) fn interrupt_ack(&mut self, request: &Request) -> Outcome {
        let line = request.target.object;
        let at = self.line_slot(line)?;
        if self.held.store.see(at)?.is_empty() {
            return Err(Error::NotMapped.into());
        }
        self.machine.interrupt_unmask(line_of(line)?);
        Ok(())
    }

    pub(crate) fn interrupt_unbind(&mut self, request: &Request) -> Outcome {
        self.need_all()?;
        self.unbind(request.target.object)
    }

    pub(crate) fn interrupt_message(&mut self, request: &Request) -> Outcome {
        let (address, value) = self.machine.interrupt_message(line_of(request.target.object)?)?;
        self.answer.tell([address, value])
    }

    /// The line signals nobody any more. Not `delete`, which may have led here.
    fn unbind(&mut self, line: u64) -> Outcome {
        self.machine.interrupt_mask(line_of(line)?);
        let at = self.line_slot(line)?;
        let slot = self.slot(at)?.copy();
        if slot.is_empty() {
            return Ok(());
        }
        if self.is_last(&slot)? {
            self.end_notification(slot.object)?;
        }
        self.unlink(at)?;
        Ok(())
    }

    /// The last capability to a line goes.
    pub(crate) fn end_interrupt(&mut self, line: u64) -> Outcome {
        self.unbind(line)?;
        put_line(&mut self.held.global()?.interrupts_taken, line, false);
        Ok(())
    }

    pub(crate) fn io_port_control_get(&mut self, request: &Request) -> Outcome {
        let [first, last, ..] = *request.words;
        if first > last || last > u64::from(u16::MAX) {
            return Err(Error::InvalidArgument.into());
        }
        may_derive(request.target)?;
        let to = request.receive(self, 1)?;
        let slot =
            Slot { kind: Kind::IoPort as u8, rights: Rights::ALL.0, object: first, extent: last, ..Slot::default() };
        self.derive(request.at, to, &slot)?;
        self.tell_capability()
    }

    /// The port and size that a port access names, within the capability's range.
    fn port(&mut self, request: &Request) -> Outcome<(u16, u8)> {
        let [port, size, ..] = *request.words;
        let last = port.checked_add(size.wrapping_sub(1)).ok_or(Error::InvalidArgument)?;
        if !matches!(size, 1 | 2 | 4) || port < request.target.object || last > request.target.extent {
            return Err(Error::InvalidArgument.into());
        }
        let size = if size == 1 {
            1
        } else if size == 2 {
            2
        } else {
            4
        };
        Ok((u16::try_from(port).map_err(|_| Error::InvalidArgument)?, size))
    }

    pub(crate) fn io_port_in(&mut self, request: &Request) -> Outcome {
        let (port, size) = self.port(request)?;
        let value = self.machine.port_in(port, size)?;
        self.answer.tell([value.into()])
    }

    pub(crate) fn io_port_out(&mut self, request: &Request) -> Outcome {
        let (port, size) = self.port(request)?;
        let value = u32::try_from(request.words[2]).map_err(|_| Error::InvalidArgument)?;
        self.machine.port_out(port, size, value)?;
        Ok(())
    }

    pub(crate) fn sched_control_info(&mut self, request: &Request) -> Outcome {
        let core = core_numbered(request.target.object)?;
        self.charge(core)?;
        let state = self.held.core(core)?;
        let (idle, ready, switches) = (state.idle_time, state.ready_count, state.counters.whole().switches);
        self.answer.tell([request.target.object, idle, ready, switches])
    }

    pub(crate) fn debug_write(&mut self, request: &Request) -> Outcome {
        let [length, first, second, ..] = *request.words;
        let text: [u8; CONSOLE_BYTES] = (u128::from(second) << 64 | u128::from(first)).to_le_bytes();
        let text = usize::try_from(length).ok().and_then(|length| text.get(..length)).ok_or(Error::InvalidArgument)?;
        self.machine.console_write(text);
        Ok(())
    }

    pub(crate) fn debug_reset(&mut self, request: &Request) -> Outcome {
        match request.words[0] {
            0 => self.machine.reset(Reset::PowerOff),
            1 => self.machine.reset(Reset::Reboot),
            _ => return Err(Error::InvalidArgument.into()),
        }
        Err(Error::Unsupported.into())
    }

    pub(crate) fn debug_counters(&mut self, request: &Request) -> Outcome {
        let core = CoreId::new(request.words[0]).filter(|core| (core.index() as u64) < self.machine.cores());
        let counters = self.held.core(core.ok_or(Error::InvalidArgument)?)?.counters.whole();
        self.answer.tell([
            counters.calls,
            counters.interrupts,
            counters.faults,
            counters.switches,
            counters.kicks,
            counters.shootdowns,
            counters.locks,
            counters.waits,
        ])
    }

    pub(crate) fn debug_name(&mut self, request: &Request) -> Outcome {
        let thread = request.passed_object(self, Kind::Thread, Rights::WRITE)?;
        let [a, b, c, d, ..] = *request.words;
        self.held.store.get(Ref::<Thread>::at(thread))?.name = [a, b, c, d];
        Ok(())
    }

    /// The record of a page that a program names by its physical address.
    fn page(&self, request: &Request) -> Outcome<&PageRecord> {
        let address = request.words[0];
        if !self.held.store.is_memory(address) {
            return Err(Error::InvalidArgument.into());
        }
        self.held.store.record(address)
    }

    pub(crate) fn debug_page(&mut self, request: &Request) -> Outcome {
        let record = self.page(request)?;
        let (kind, homes) = (record.kind().into(), record.homes().0);
        let loaded = self.loaded(request.words[0] & !(PAGE_SIZE - 1))?;
        self.answer.tell([kind, homes, loaded.0])
    }

    pub(crate) fn debug_thread(&mut self, request: &Request) -> Outcome {
        if self.page(request)?.kind() != Kind::Thread as u8 {
            return Err(Error::InvalidArgument.into());
        }
        let page = request.words[0] & !(PAGE_SIZE - 1);
        let thread = self.held.store.see(Ref::<Thread>::at(page))?;
        let [a, b, c, d] = thread.name;
        let state = u64::from_le_bytes([thread.state, thread.priority, thread.core, 0, 0, 0, 0, 0]);
        self.answer.tell([a, b, c, d, state, thread.waits_on, thread.registers.pc, thread.cpu_time])
    }
}
