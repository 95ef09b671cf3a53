//! The interrupt controller, whichever the machine has. Every line goes to the boot hart's supervisor mode.

use anos_abi::Error;

use crate::aplic::Aplic;
use crate::controller::{Controller, Kind};
use crate::plic::Plic;
use crate::to_usize;

/// A controller's registers.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    base: u64,
}

impl Registers {
    /// Reads the register at this offset.
    pub fn read(self, offset: u32) -> u32 {
        let register = to_usize(self.base.wrapping_add(offset.into())) as *const u32;
        // SAFETY: a register of the controller: mapped (`Interrupts::new`), aligned, and reading one touches no memory.
        unsafe { register.read_volatile() }
    }

    /// Writes the register at this offset.
    pub fn write(self, offset: u32, value: u32) {
        let register = to_usize(self.base.wrapping_add(offset.into())) as *mut u32;
        // SAFETY: a register of the controller: mapped (`Interrupts::new`), aligned, and writing one touches no memory.
        unsafe { register.write_volatile(value) };
    }
}

/// The controller, as seen by the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Interrupts {
    controller: Controller,
    registers: Registers,
}

impl Interrupts {
    /// No controller: no lines.
    pub const NONE: Interrupts = Interrupts { controller: Controller::NONE, registers: Registers { base: 0 } };

    /// The controller.
    ///
    /// # Safety
    /// `controller.registers` are mapped at `window + physical address` before anything else is asked of it, and for ever.
    pub unsafe fn new(controller: Controller, window: u64) -> Self {
        let base = window.wrapping_add(controller.registers.address);
        Interrupts { controller, registers: Registers { base } }
    }

    fn plic(&self) -> Plic {
        Plic { registers: self.registers, lines: self.controller.lines, context: self.controller.context }
    }

    fn aplic(&self) -> Aplic {
        let Controller { wires, context, messages, .. } = self.controller;
        Aplic { registers: self.registers, wires, hart: context, sends_messages: messages != 0 }
    }

    /// Masks every line, and lets the controller interrupt. On the boot hart, once.
    pub fn set_up(&self) {
        match self.controller.kind {
            Kind::None => {}
            Kind::Plic => self.plic().set_up(),
            Kind::Aplic => self.aplic().set_up(),
        }
    }

    /// Whether there is such a line.
    pub fn exists(&self, line: u32) -> bool {
        (1..=self.controller.lines).contains(&line)
    }

    /// Where a device writes what to raise a line that is a message.
    pub fn message(&self, line: u32) -> Result<(u64, u64), Error> {
        if self.exists(line) && line > self.controller.wires {
            Ok((self.controller.messages, line.into()))
        } else {
            Err(Error::Unsupported)
        }
    }

    /// Says how a line is triggered; masks it.
    pub fn configure(&self, line: u32, level: bool, active_low: bool) {
        match self.controller.kind {
            Kind::None => {}
            Kind::Plic => self.plic().configure(line, level),
            Kind::Aplic => self.aplic().configure(line, level, active_low),
        }
    }

    /// Keeps a line from interrupting.
    pub fn mask(&self, line: u32) {
        match self.controller.kind {
            Kind::None => {}
            Kind::Plic => self.plic().mask(line),
            Kind::Aplic => self.aplic().mask(line),
        }
    }

    /// Lets a line interrupt; the last time that it did is dealt with.
    pub fn unmask(&self, line: u32) {
        match self.controller.kind {
            Kind::None => {}
            Kind::Plic => self.plic().unmask(line),
            Kind::Aplic => self.aplic().unmask(line),
        }
    }

    /// The line that interrupts, if one does. On the boot hart only.
    pub fn claim(&self) -> Option<u32> {
        let line = match self.controller.kind {
            Kind::None => 0,
            Kind::Plic => self.plic().claim(),
            Kind::Aplic => self.aplic().claim(),
        };
        self.exists(line).then_some(line)
    }
}
