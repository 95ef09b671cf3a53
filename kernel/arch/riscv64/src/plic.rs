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

use anos_abi::PAGE_SIZE;

use crate::description::Controller;
use crate::{csr, to_usize};

const CONTEXT_ENABLE: u64 = 0x2000;
const CONTEXT_ENABLE_STRIDE: u64 = 0x80;
const CONTEXT_CONTROL: u64 = 0x20_0000;
const CONTEXT_CONTROL_STRIDE: u64 = 0x1000;
const MAX_LINES: usize = 1024;

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

/// The controller, as seen by the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Plic {
    /// Virtual address of its registers.
    base: u64,
    lines: u32,
    context: u32,
}

impl Plic {
    /// No controller: no lines.
    pub const NONE: Plic = Plic { base: 0, lines: 0, context: 0 };

    /// The controller, with every line masked.
    ///
    /// # Safety
    /// [`Plic::registers`] of `controller` are mapped at `window + physical address`, now and for ever.
    pub unsafe fn new(controller: &Controller, window: u64) -> Self {
        let base = window.wrapping_add(controller.registers.address);
        // Without what it takes to serve the boot hart, no line is of use.
        let lines = if Plic::registers(controller) == 0 { 0 } else { controller.lines };
        let plic = Plic { base, lines, context: controller.context.unwrap_or(0) };
        if lines == 0 {
            return plic;
        }
        for line in 1..=lines {
            plic.write(u64::from(line) * 4, 0);
        }
        for word in 0..=lines / 32 {
            plic.write(plic.enable() + u64::from(word) * 4, u32::MAX);
        }
        plic.write(plic.control(), 0);
        plic
    }

    /// The same controller, seen at another window.
    ///
    /// # Safety
    /// As for [`Plic::new`].
    pub unsafe fn at(self, controller: &Controller, window: u64) -> Self {
        Plic { base: window.wrapping_add(controller.registers.address), ..self }
    }

    /// Bytes of registers that the kernel needs, from the controller's start, in whole pages; 0 if the controller does
    /// not interrupt the boot hart, or ends before the registers that do.
    pub fn registers(controller: &Controller) -> u64 {
        let Some(context) = controller.context else { return 0 };
        let end = CONTEXT_CONTROL + CONTEXT_CONTROL_STRIDE * (u64::from(context) + 1);
        if controller.registers.bytes < end { 0 } else { end.next_multiple_of(PAGE_SIZE) }
    }

    fn enable(&self) -> u64 {
        CONTEXT_ENABLE + CONTEXT_ENABLE_STRIDE * u64::from(self.context)
    }

    /// The threshold register; behind it the one to claim and complete.
    fn control(&self) -> u64 {
        CONTEXT_CONTROL + CONTEXT_CONTROL_STRIDE * u64::from(self.context)
    }

    /// Whether there is such a line.
    pub fn exists(&self, line: u32) -> bool {
        line >= 1 && line <= self.lines
    }

    /// Says how a line is triggered; masks it.
    pub fn configure(&self, line: u32, level: bool) {
        self.mask(line);
        LEVEL.replace(line, level);
    }

    /// Keeps a line from interrupting.
    pub fn mask(&self, line: u32) {
        if self.exists(line) {
            self.write(u64::from(line) * 4, 0);
        }
    }

    /// Lets a line interrupt, and completes it if it was claimed.
    pub fn unmask(&self, line: u32) {
        if self.exists(line) {
            self.write(u64::from(line) * 4, 1);
            if CLAIMED.replace(line, false) {
                self.complete(line);
            }
        }
    }

    /// The line that interrupts, if one does. On the boot hart only.
    pub fn claim(&self) -> Option<u32> {
        if self.lines == 0 {
            return None;
        }
        let line = self.read(self.control() + 4);
        // What the device did before it interrupted comes before what its driver does now.
        csr::fence_devices();
        if !self.exists(line) {
            return None;
        }
        if LEVEL.get(line) {
            CLAIMED.replace(line, true);
        } else {
            self.complete(line);
        }
        Some(line)
    }

    fn complete(&self, line: u32) {
        // What the driver did to the device comes before the controller looks at the line again.
        csr::fence_devices();
        self.write(self.control() + 4, line);
    }

    fn read(&self, offset: u64) -> u32 {
        let register = to_usize(self.base.wrapping_add(offset)) as *const u32;
        // SAFETY: a register of the controller: mapped (`new`), aligned, and reading one touches no memory.
        unsafe { register.read_volatile() }
    }

    fn write(&self, offset: u64, value: u32) {
        let register = to_usize(self.base.wrapping_add(offset)) as *mut u32;
        // SAFETY: a register of the controller: mapped (`new`), aligned, and writing one touches no memory.
        unsafe { register.write_volatile(value) };
    }
}
