//! The advanced platform-level interrupt controller, and the boot hart's incoming-message controller (RISC-V AIA 1.0,
//! chapters "Advanced Platform-Level Interrupt Controller" and "Incoming MSI Controller").
//!
//! The APLIC has the wires. On a machine with IMSICs it makes messages of them, which the boot hart's IMSIC receives beside
//! those that devices send by themselves: identity n is line n. Else it interrupts the hart itself.
//!
//! Wires are masked in the APLIC. A message can't be masked but on the hart that receives it, so none is: an unwanted one
//! is taken and forgotten.
//!
//! The core masks a level-triggered line when it comes. A message tells of the beginning of a level only; so when the
//! line is unmasked, at the driver's acknowledgement, and is still (or again) at that level, it is made pending anew.

use crate::csr;
use crate::interrupts::Registers;

const DOMAIN_CONFIGURATION: u32 = 0;
/// A word for each source, as of the target.
const SOURCE_CONFIGURATION: u32 = 0;
const SET_PENDING: u32 = 0x1cdc;
/// Reads as the sources' inputs, one bit each.
const INPUTS: u32 = 0x1d00;
const SET_ENABLED: u32 = 0x1edc;
const CLEAR_ENABLED: u32 = 0x1fdc;
const TARGET: u32 = 0x3000;
/// What belongs to a hart, if the APLIC interrupts by itself.
const DELIVERY: u32 = 0x4000;
const DELIVERY_STRIDE: u32 = 32;
const DELIVERY_ENABLE: u32 = 0;
const DELIVERY_THRESHOLD: u32 = 8;
const DELIVERY_CLAIM: u32 = 0x1c;

/// [`DOMAIN_CONFIGURATION`]: interrupts are on; as messages.
const INTERRUPTS_ON: u32 = 1 << 8;
const AS_MESSAGES: u32 = 1 << 2;
/// [`SOURCE_CONFIGURATION`]: an edge; add 2 for a level, 1 for the falling edge or low level.
const EDGE: u32 = 4;
const LEVEL: u32 = 6;

/// Registers of the IMSIC, behind `siselect`.
const IMSIC_DELIVERY: u64 = 0x70;
const IMSIC_THRESHOLD: u64 = 0x72;
/// Which identities interrupt, 64 in each second register.
const IMSIC_ENABLED: [u64; 4] = [0xc0, 0xc2, 0xc4, 0xc6];

/// The controllers.
#[derive(Clone, Copy, Debug)]
pub struct Aplic {
    /// The APLIC's registers.
    pub registers: Registers,
    /// Its last source.
    pub wires: u32,
    /// Its number for the boot hart.
    pub hart: u32,
    /// Whether the hart has an IMSIC.
    pub sends_messages: bool,
}

impl Aplic {
    /// Masks every wire, and turns interrupts on.
    pub fn set_up(self) {
        for line in 1..=self.wires {
            // Inactive; then it is masked, too.
            self.registers.write(SOURCE_CONFIGURATION + 4 * line, 0);
        }
        if self.sends_messages {
            csr::set_selected(IMSIC_DELIVERY, 1);
            csr::set_selected(IMSIC_THRESHOLD, 0);
            for register in IMSIC_ENABLED {
                csr::set_selected(register, u64::MAX);
            }
            self.registers.write(DOMAIN_CONFIGURATION, INTERRUPTS_ON | AS_MESSAGES);
        } else {
            self.registers.write(self.delivery(DELIVERY_ENABLE), 1);
            self.registers.write(self.delivery(DELIVERY_THRESHOLD), 0);
            self.registers.write(DOMAIN_CONFIGURATION, INTERRUPTS_ON);
        }
    }

    fn delivery(self, register: u32) -> u32 {
        DELIVERY + DELIVERY_STRIDE * self.hart + register
    }

    /// Says how a line is triggered, and where it goes; masks it. There is nothing to say for a message, and the APLIC
    /// ignores it.
    pub fn configure(self, line: u32, level: bool, active_low: bool) {
        let trigger = EDGE | u32::from(level) << 1 | u32::from(active_low);
        self.registers.write(SOURCE_CONFIGURATION + 4 * line, trigger);
        self.mask(line);
        // As a message, the identity; else the priority, of which there is one.
        let what = if self.sends_messages { line } else { 1 };
        self.registers.write(TARGET + 4 * line, self.hart << 18 | what);
    }

    /// Keeps a wire from interrupting.
    pub fn mask(self, line: u32) {
        self.registers.write(CLEAR_ENABLED, line);
    }

    /// Lets a wire interrupt.
    pub fn unmask(self, line: u32) {
        // What the driver did to the device comes before the controller looks at the line again.
        csr::fence_devices();
        self.registers.write(SET_ENABLED, line);
        // The manual (section "Special consideration for level-sensitive interrupt sources") has the controller see for
        // itself that the level has gone; not every one does.
        if self.level(line) == Some(true) {
            self.registers.write(SET_PENDING, line);
        }
    }

    /// For a level-triggered line: whether it is at that level now.
    fn level(self, line: u32) -> Option<bool> {
        let is_level = self.registers.read(SOURCE_CONFIGURATION + 4 * line) >= LEVEL;
        is_level.then(|| self.registers.read(INPUTS + line / 32 * 4) >> (line % 32) & 1 != 0)
    }

    /// The line that interrupts, or 0.
    pub fn claim(self) -> u32 {
        // Below the line is its priority.
        let line = if self.sends_messages {
            csr::claim_message() >> 16
        } else {
            let line = self.registers.read(self.delivery(DELIVERY_CLAIM)) >> 16;
            // The manual has a level that goes take its interrupt away; not every controller does.
            if self.level(line) == Some(false) { 0 } else { line }
        };
        // What the device did before it interrupted comes before what its driver does now.
        csr::fence_devices();
        line
    }
}
