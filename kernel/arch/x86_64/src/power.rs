//! Switching the machine off and starting it again, by what ACPI says, and for a reboot by older ways too.

use crate::acpi::{Power, Register};
use crate::cpu;
use crate::once::SetOnce;

static POWER: SetOnce<Option<Power>> = SetOnce::new(None);

/// Notes how it is done. Registers in memory are given by their virtual address.
///
/// # Safety
/// As [`SetOnce::set`]; and registers in memory are mapped uncached.
pub unsafe fn set(power: Power) {
    // SAFETY: the caller's promise.
    unsafe { POWER.set(Some(power)) };
}

/// Switches the machine off; returns if it can't.
pub fn off() {
    const SLEEP_ENABLE_16: u16 = 1 << 13;
    const SLEEP_ENABLE_8: u8 = 1 << 5;
    const SCI_ENABLE: u16 = 1;
    let Some(power) = POWER.get() else { return };
    let off_type = power.off_type & 7;
    if power.sleep_control != Register::None {
        write8(power.sleep_control, off_type << 2 | SLEEP_ENABLE_8);
        settle();
    }
    let control = power.pm1a_control;
    if control == 0 {
        return;
    }
    let (port, value) = power.enable;
    if port != 0 && value != 0 && cpu::in16(control) & SCI_ENABLE == 0 {
        cpu::out8(port, value);
        for _ in 0..1_000_000 {
            if cpu::in16(control) & SCI_ENABLE != 0 {
                break;
            }
        }
    }
    let kept = cpu::in16(control) & SCI_ENABLE;
    cpu::out16(control, kept | u16::from(off_type) << 10 | SLEEP_ENABLE_16);
    settle();
}

/// Starts the machine again; returns if nothing helps.
pub fn reboot() {
    if let Some(power) = POWER.get() {
        write8(power.reset, power.reset_value);
        settle();
    }
    // The chipset's reset register: hard reset, then do it.
    cpu::out8(0xcf9, 2);
    cpu::out8(0xcf9, 6);
    settle();
    // The keyboard controller's reset line.
    cpu::out8(0x64, 0xfe);
    settle();
}

/// Time for it to take effect: about a second, on a machine where it doesn't.
fn settle() {
    for _ in 0..1_000_000 {
        // The port of power-on self-test codes: a slow nothing.
        cpu::in8(0x80);
    }
}

fn write8(register: Register, value: u8) {
    match register {
        Register::None => {}
        Register::Port(port) => cpu::out8(port, value),
        // SAFETY: a device register that `set` was promised to be mapped.
        Register::Memory(address) => unsafe { (address as *mut u8).write_volatile(value) },
    }
}
