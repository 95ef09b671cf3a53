//! The platform-level interrupt controller (RISC-V PLIC 1.0.0). Every line goes to the boot hart's supervisor context.
//!
//! A line is masked by its priority alone: 0 is "never". All lines are enabled once and for all, so that no register is
//! shared between lines, and masking one needs no lock.
//!
//! A level-triggered line must not come again before its driver has acknowledged it. The controller does that by
//! itself: a claimed line is held back until it is completed, and then looked at anew. So a claimed level line is
//! completed when the core unmasks it (at the driver's acknowledgement), and none that has been served in the meantime
//! is left over. An edge is completed at once, so that the next one isn't lost.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::csr;
use crate::interrupts::Registers;

const CONTEXT_ENABLE: u32 = 0x2000;
const CONTEXT_ENABLE_STRIDE: u32 = 0x80;
const CONTEXT_CONTROL: u32 = 0x20_0000;
const CONTEXT_CONTROL_STRIDE: u32 = 0x1000;
/// Lines that the core can keep track of.
const MAX_LINES: usize = 256;

/// One bit per line.
struct Lines([AtomicU32; MAX_LINES / 32]);

impl Lines {
    const fn new() -> Self {
        Lines([const { AtomicU32::new(0) }; MAX_LINES / 32])
    }

    fn word(&self, line: u32) -> (&AtomicU32, u32) {
        (&self.0[line as usize / 32 % (MAX_LINES / 32)], 1 << (line % 32))
    }

    /// Changes a line's bit and says what it was.
    fn replace(&self, line: u32, value: bool) -> bool {
        let (word, bit) = self.word(line);
        let old = if value { word.fetch_or(bit, Ordering::AcqRel) } else { word.fetch_and(!bit, Ordering::AcqRel) };
        old & bit != 0
    }

    fn get(&self, line: u32) -> bool {
        let (word, bit) = self.word(line);
        word.load(Ordering::Acquire) & bit != 0
    }
}

/// Lines that are level-triggered.
static LEVEL: Lines = Lines::new();
/// Level lines that are claimed and not yet completed.
static CLAIMED: Lines = Lines::new();

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct Plic {
    /// Its registers.
    pub registers: Registers,
    /// The last line.
    pub lines: u32,
    /// The context that interrupts the boot hart.
    pub context: u32,
}

impl Plic {
    /// Masks every line, and enables all of them for the context.
    pub fn set_up(self) {
        for line in 1..=self.lines {
            self.mask(line);
        }
        for word in 0..=self.lines / 32 {
            self.registers.write(CONTEXT_ENABLE + CONTEXT_ENABLE_STRIDE * self.context + word * 4, u32::MAX);
        }
        self.registers.write(self.control(), 0);
    }

    /// The threshold register; behind it the one to claim and complete.
    fn control(self) -> u32 {
        CONTEXT_CONTROL + CONTEXT_CONTROL_STRIDE * self.context
    }

    /// Says how a line is triggered; masks it. The inputs have no polarity that software could set.
    pub fn configure(self, line: u32, level: bool) {
        self.mask(line);
        LEVEL.replace(line, level);
    }

    /// Keeps a line from interrupting.
    pub fn mask(self, line: u32) {
        self.registers.write(line * 4, 0);
    }

    /// Lets a line interrupt, and completes it if it was claimed.
    pub fn unmask(self, line: u32) {
        self.registers.write(line * 4, 1);
        if CLAIMED.replace(line, false) {
            self.complete(line);
        }
    }

    /// The line that interrupts, or 0.
    pub fn claim(self) -> u32 {
        let line = self.registers.read(self.control() + 4);
        // What the device did before it interrupted comes before what its driver does now.
        csr::fence_devices();
        if LEVEL.get(line) {
            CLAIMED.replace(line, true);
        } else {
            self.complete(line);
        }
        line
    }

    fn complete(self, line: u32) {
        // What the driver did to the device comes before the controller looks at the line again.
        csr::fence_devices();
        self.registers.write(self.control() + 4, line);
    }
}
