//! Interrupt lines (82093AA I/O APIC), and messages (SDM 3A, 11.11). A line's number is what a driver names: 0 to 15 are
//! the ISA interrupts, wherever the machine has wired them; from 16 up, global system interrupts; from [`WIRED`] up,
//! messages, each of which any one device can be told to send.
//!
//! A level-triggered line that has interrupted is masked until its driver acknowledges. An edge-triggered one is not: the
//! controller forgets edges of masked lines. A message is like an edge, and no controller can mask it, only the device
//! that sends it: so one that comes unbidden is dropped by the kernel's core, as signals of lines are that nobody is
//! bound to.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::acpi::{IoApic, IsaLine, MAX_IOAPICS};
use crate::cpu;
use crate::once::SetOnce;

/// The vector of line 0; the others follow.
pub const FIRST_VECTOR: u8 = 0x30;
/// The last one's. Those behind are the kernel's own (`apic`).
pub const LAST_VECTOR: u8 = 0xdf;
/// Lines with wires that the kernel can tell apart.
const WIRED: u32 = 48;
/// Lines, messages included.
const LINES: u32 = (LAST_VECTOR - FIRST_VECTOR) as u32 + 1;

const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

/// A controller: its registers' virtual address (0: none), its first line and how many it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Controller {
    registers: u64,
    first: u32,
    lines: u32,
}

/// What the machine has.
#[derive(Clone, Copy, Debug)]
struct Wiring {
    controllers: [Controller; MAX_IOAPICS],
    isa: [IsaLine; 16],
    /// Controller id of the boot core, which takes all interrupts.
    target: u32,
}

/// All zeros at first, so that the image holds none of it.
static WIRING: SetOnce<Wiring> = SetOnce::new(Wiring {
    controllers: [Controller { registers: 0, first: 0, lines: 0 }; MAX_IOAPICS],
    isa: [IsaLine { line: 0, level: Some(false), active_low: Some(false) }; 16],
    target: 0,
});

/// The right to use the controllers' registers: index, then data, in two steps.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Runs `action` alone. Short, and interrupts are off: no core waits long.
fn alone(action: impl FnOnce()) {
    while TAKEN.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    action();
    TAKEN.store(false, Ordering::Release);
}

/// Keeps the two old interrupt controllers (8259A) quiet, and what they may still send away from the exceptions.
pub fn silence_old_controllers() {
    silence(0x20, 0x20, 4);
    silence(0xa0, 0x28, 2);
}

/// One of them, by its first port.
#[inline(never)]
fn silence(command: u16, vector: u8, wiring: u8) {
    let data = command + 1;
    cpu::out8(command, 0x11); // begin set-up, in four steps
    cpu::out8(data, vector);
    cpu::out8(data, wiring);
    cpu::out8(data, 1);
    cpu::out8(data, 0xff); // all lines masked
}

/// Says what there is: controllers by the virtual addresses of their registers, and where ISA interrupts arrive. All lines
/// are masked.
///
/// # Safety
/// As [`SetOnce::set`]; and each address is that of a controller's registers, mapped uncached.
pub unsafe fn set_wiring(found: &[IoApic], isa: [IsaLine; 16], target: u32) {
    let mut wiring = Wiring { controllers: [Controller::default(); MAX_IOAPICS], isa, target };
    for (place, ioapic) in wiring.controllers.iter_mut().zip(found) {
        let mut controller = Controller { registers: ioapic.address, first: ioapic.first, lines: 0 };
        controller.lines = (controller.read(VERSION) >> 16 & 0xff) + 1;
        for line in 0..controller.lines {
            controller.write(REDIRECTION + 2 * line, MASKED);
        }
        *place = controller;
    }
    // SAFETY: the caller's promise.
    unsafe { WIRING.set(wiring) };
}

impl Controller {
    fn read(&self, register: u32) -> u32 {
        // SAFETY: the index register, at offset 0 of a page that is mapped uncached (`set_wiring`).
        unsafe { (self.registers as *mut u32).write_volatile(register) };
        // SAFETY: the data register, at offset 16.
        unsafe { ((self.registers + 16) as *const u32).read_volatile() }
    }

    fn write(&self, register: u32, value: u32) {
        // SAFETY: as in `read`.
        unsafe { (self.registers as *mut u32).write_volatile(register) };
        // SAFETY: as in `read`.
        unsafe { ((self.registers + 16) as *mut u32).write_volatile(value) };
    }

    fn set_masked(&self, register: u32, masked: bool) {
        let value = self.read(register);
        self.write(register, if masked { value | MASKED } else { value & !MASKED });
    }
}

/// The controller of a line, and the number of its (first) register there.
fn find(line: u32) -> Option<(&'static Controller, u32)> {
    if line >= WIRED {
        return None;
    }
    let wiring = WIRING.get();
    let wired = wiring.isa.get(line as usize).map_or(line, |isa| isa.line);
    let controllers = wiring.controllers.iter().filter(|controller| controller.registers != 0);
    for controller in controllers {
        match wired.checked_sub(controller.first) {
            Some(pin) if pin < controller.lines => return Some((controller, REDIRECTION + 2 * pin)),
            _ => {}
        }
    }
    None
}

/// Whether a driver can own this line.
pub fn exists(line: u32) -> bool {
    find(line).is_some() || message(line).is_some()
}

/// The address and the value that a device writes to raise a line that is a message.
pub fn message(line: u32) -> Option<(u64, u64)> {
    const TO_CORES: u64 = 0xfee0_0000;
    let target = u64::from(WIRING.get().target) << 12;
    (WIRED..LINES).contains(&line).then_some((TO_CORES | target, u64::from(u32::from(FIRST_VECTOR) + line)))
}

/// Sets a line up, masked.
pub fn configure(line: u32, level: bool, active_low: bool) {
    let Some((controller, register)) = find(line) else { return };
    let wiring = WIRING.get();
    let isa = wiring.isa.get(line as usize).copied().unwrap_or_default();
    let level = isa.level.unwrap_or(level);
    let active_low = isa.active_low.unwrap_or(active_low);
    let trigger = if level { LEVEL } else { 0 } | if active_low { ACTIVE_LOW } else { 0 };
    alone(|| {
        controller.write(register, MASKED | trigger | (u32::from(FIRST_VECTOR) + line));
        controller.write(register + 1, wiring.target << 24);
    });
}

/// Keeps a line from interrupting.
pub fn mask(line: u32) {
    if let Some((controller, register)) = find(line) {
        alone(|| controller.set_masked(register, true));
    }
}

/// Lets a line interrupt.
pub fn unmask(line: u32) {
    if let Some((controller, register)) = find(line) {
        alone(|| controller.set_masked(register, false));
    }
}

/// A line has interrupted. If it is level-triggered it is masked, or it would interrupt again at once.
pub fn arrived(line: u32) {
    if let Some((controller, register)) = find(line) {
        alone(|| {
            let value = controller.read(register);
            if value & LEVEL != 0 {
                controller.write(register, value | MASKED);
            }
        });
    }
}
