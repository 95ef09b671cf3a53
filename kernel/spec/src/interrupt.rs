//! Interrupt lines: an interrupt becomes a signal.
//!
//! A line that nobody listens to is masked when it interrupts. So is a level-triggered line, until its driver says that
//! it has seen to the device.

use anos_abi::{Error, Kind, Rights};

use crate::call::{Answer, Request};
use crate::state::{Capability, Line, Place};
use crate::{Outcome, Spec};

/// Lines that the kernel can keep account of.
const LINES: u64 = 256;

impl Spec {
    fn line(&mut self, line: u64) -> &mut Line {
        self.lines.entry(line).or_default()
    }

    /// A line interrupts.
    pub(crate) fn interrupt(&mut self, line: u64) {
        let signals = self.at(Place::Line(line));
        let record = self.line(line);
        record.unmasked &= !record.level && signals.is_some();
        if let Some(id) = signals {
            let Capability { object, badge, .. } = *self.cap(id);
            self.signal(object, badge);
        }
    }

    pub(crate) fn interrupt_control_get(&mut self, request: &Request) -> Outcome<Answer> {
        let [line, level, active_low, ..] = request.words;
        let exists = (1..=self.machine.last_line).contains(&line) && line < LINES;
        if level > 1 || active_low > 1 || !exists {
            return Err(Error::InvalidArgument);
        }
        let place = self.receive_slot(request, 0)?;
        if self.line(line).taken {
            return Err(Error::Busy);
        }
        *self.line(line) = Line { taken: true, level: level == 1, unmasked: false, signals: None };
        self.derive(request.target, place, Capability::new(Kind::Interrupt, line, 0));
        Ok(Answer::CAPABILITY)
    }

    pub(crate) fn interrupt_bind(&mut self, request: &Request) -> Outcome<Answer> {
        let line = self.cap(request.target).object;
        let source = self.passed_kind(request, Kind::Notification, Rights::WRITE)?;
        // No bits would signal nothing.
        if self.cap(source).badge == 0 {
            return Err(Error::InvalidArgument);
        }
        if self.at(Place::Line(line)).is_some() {
            return Err(Error::Busy);
        }
        let copy = self.copy_of(source, Rights::ALL)?;
        self.derive(source, Place::Line(line), copy);
        self.line(line).unmasked = true;
        Ok(Answer::OK)
    }

    pub(crate) fn interrupt_ack(&mut self, request: &Request) -> Outcome<Answer> {
        let line = self.cap(request.target).object;
        if self.at(Place::Line(line)).is_none() {
            return Err(Error::NotMapped);
        }
        self.line(line).unmasked = true;
        Ok(Answer::OK)
    }

    pub(crate) fn interrupt_unbind(&mut self, request: &Request) -> Outcome<Answer> {
        self.unbind_line(self.cap(request.target).object)?;
        Ok(Answer::OK)
    }

    pub(crate) fn interrupt_message(&self, request: &Request) -> Outcome<Answer> {
        let line = self.cap(request.target).object;
        if line < self.machine.first_message {
            return Err(Error::Unsupported);
        }
        Ok(Answer::words([self.machine.message_address, line]))
    }

    fn unbind_line(&mut self, line: u64) -> Outcome {
        self.line(line).unmasked = false;
        let Some(id) = self.at(Place::Line(line)) else { return Ok(()) };
        if self.is_last(id) {
            self.end_notification(self.cap(id).object)?;
        }
        self.remove(id);
        Ok(())
    }

    /// The last capability to a line goes: it can be had again.
    pub(crate) fn end_line(&mut self, line: u64) -> Outcome {
        self.unbind_line(line)?;
        self.line(line).taken = false;
        Ok(())
    }
}
