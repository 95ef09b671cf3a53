//! The core's own interrupt controller (local APIC), as xAPIC or x2APIC: its timer, and interrupts to other cores
//! (SDM 3A, chapter 11).

use core::sync::atomic::{AtomicU32, Ordering};

use anos_abi::MAX_CORES;
use anos_machine::CoreId;

use crate::cpu::{self, Msr};
use crate::once::SetOnce;

/// The timer's vector. Its priority, and that of kicks, is above all lines'.
pub const TIMER: u8 = 0xe1;
/// The vector of kicks from other cores.
pub const KICK: u8 = 0xe2;
/// The timer's vector while it ends a sleep in the kernel: the only one of its priority (the high digit).
pub const ALARM: u8 = 0xf1;
/// The vector of interrupts that went away; its low bits are all set, as old controllers have it.
pub const SPURIOUS: u8 = 0xff;

const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xb0;
const SPURIOUS_VECTOR: u32 = 0xf0;
const COMMAND_LOW: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const LOCAL_TIMER: u32 = 0x320;
const LOCAL_LINE0: u32 = 0x350;
const LOCAL_LINE1: u32 = 0x360;
const LOCAL_ERROR: u32 = 0x370;
const TIMER_START: u32 = 0x380;
const TIMER_NOW: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

const MASKED: u32 = 1 << 16;
const TSC_DEADLINE_MODE: u32 = 2 << 17;
const DELIVER_NMI: u32 = 4 << 8;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const DIVIDE_BY_1: u32 = 0b1011;

const SEND_NMI: u32 = 4 << 8;
const SEND_INIT: u32 = 5 << 8;
const SEND_START: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const ALL_BUT_SELF: u32 = 3 << 18;
const PENDING: u32 = 1 << 12;

/// How this machine's controllers are reached.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Virtual address of the registers; 0: through model-specific registers (x2APIC).
    pub registers: u64,
    /// Whether the timer compares with the TSC.
    pub tsc_deadline: bool,
}

static ACCESS: SetOnce<Access> = SetOnce::new(Access { registers: 0, tsc_deadline: false });
/// The controllers' ids, by core.
static IDS: [AtomicU32; MAX_CORES] = [const { AtomicU32::new(0) }; MAX_CORES];

/// Whether the processor has x2APIC.
pub fn has_x2apic() -> bool {
    cpu::cpuid(1, 0).ecx >> 21 & 1 != 0
}

/// Says how to reach the controllers; `registers` as in [`Access`].
///
/// # Safety
/// As [`SetOnce::set`]; and `registers` is 0, or the address of the controllers' page, mapped uncached.
pub unsafe fn set_access(registers: u64) {
    let tsc_deadline = cpu::cpuid(1, 0).ecx >> 24 & 1 != 0;
    // SAFETY: the caller's promise.
    unsafe { ACCESS.set(Access { registers, tsc_deadline }) };
}

/// Notes the controller's id of a core.
pub fn set_id(core: CoreId, id: u32) {
    if let Some(place) = IDS.get(core.index()) {
        place.store(id, Ordering::Relaxed);
    }
}

fn id_of(core: CoreId) -> u32 {
    IDS.get(core.index()).map_or(0, |id| id.load(Ordering::Relaxed))
}

/// Switches this core's controller on, with its timer set up but not running.
pub fn start() {
    const X2APIC_ENABLE: u64 = 1 << 10;
    const ENABLE: u64 = 1 << 11;
    let x2apic = if ACCESS.get().registers == 0 { X2APIC_ENABLE } else { 0 };
    let base = cpu::read_msr(Msr::APIC_BASE) | ENABLE | x2apic;
    // SAFETY: the controller stays where it is; x2APIC only where the processor has it.
    unsafe { cpu::write_msr(Msr::APIC_BASE, base) };
    write(SPURIOUS_VECTOR, SOFTWARE_ENABLE | u32::from(SPURIOUS));
    write(LOCAL_LINE0, MASKED);
    write(LOCAL_LINE1, DELIVER_NMI);
    write(LOCAL_ERROR, MASKED);
    write(TIMER_DIVIDE, DIVIDE_BY_1);
    set_alarm(false);
}

/// Whether the timer is an alarm, and nothing else gets through.
pub fn set_alarm(on: bool) {
    const BELOW_ALARM: u32 = 0xe0;
    let mode = if tsc_deadline() { TSC_DEADLINE_MODE } else { 0 };
    write(TASK_PRIORITY, if on { BELOW_ALARM } else { 0 });
    write(LOCAL_TIMER, mode | u32::from(if on { ALARM } else { TIMER }));
    // The timer takes no deadline before it knows its mode.
    cpu::fence_before_msr();
}

/// This core's controller id.
pub fn id() -> u32 {
    if ACCESS.get().registers == 0 { read(ID) } else { read(ID) >> 24 }
}

/// Whether the timer compares with the TSC.
pub fn tsc_deadline() -> bool {
    ACCESS.get().tsc_deadline
}

/// Lets the timer interrupt once the TSC reaches this; 0: never.
pub fn set_tsc_deadline(ticks: u64) {
    // SAFETY: sets a timer.
    unsafe { cpu::write_msr(Msr::TSC_DEADLINE, ticks) };
}

/// Lets the timer interrupt after so many of its own ticks; 0: never.
pub fn set_countdown(ticks: u32) {
    write(TIMER_START, ticks);
}

/// Ticks left to count down.
pub fn countdown() -> u32 {
    read(TIMER_NOW)
}

/// The interrupt has been taken.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Sends a vector to another core, or to this one.
pub fn send(core: CoreId, vector: u8) {
    command(id_of(core), u32::from(vector) | ASSERT);
}

/// Resets every other core: each waits for [`send_start`] then.
pub fn send_init_to_others() {
    command(0, SEND_INIT | ASSERT | ALL_BUT_SELF);
}

/// Starts a core that waits, in real mode at `address` (a page below 1 MiB).
pub fn send_start(id: u32, address: u64) {
    command(id, SEND_START | ASSERT | cpu::low(address >> 12) & 0xff);
}

/// Stops every other core, whatever it does (the NMI handler halts it).
pub fn stop_others() {
    command(0, SEND_NMI | ASSERT | ALL_BUT_SELF);
}

fn command(destination: u32, command: u32) {
    /// Rounds of waiting until the last command has left: it takes some cycles.
    const PATIENCE: u32 = 1 << 20;
    if ACCESS.get().registers == 0 {
        // What was written before is visible when the other core gets the interrupt.
        cpu::fence_before_msr();
        // SAFETY: the interrupt-command register in one piece; what it sends is up to this module's functions.
        unsafe { cpu::write_msr(Msr::x2apic(COMMAND_LOW), u64::from(destination) << 32 | u64::from(command)) };
        return;
    }
    for _ in 0..PATIENCE {
        if read(COMMAND_LOW) & PENDING == 0 {
            break;
        }
        core::hint::spin_loop();
    }
    write(COMMAND_HIGH, destination << 24);
    write(COMMAND_LOW, command);
}

fn read(register: u32) -> u32 {
    match ACCESS.get().registers {
        0 => cpu::low(cpu::read_msr(Msr::x2apic(register))),
        // SAFETY: a register of this core's controller, mapped uncached (`set_access`).
        base => unsafe { ((base + u64::from(register)) as *const u32).read_volatile() },
    }
}

/// Not inlined: the kernel is smaller so.
#[inline(never)]
fn write(register: u32, value: u32) {
    match ACCESS.get().registers {
        // SAFETY: the controller's registers don't touch memory.
        0 => unsafe { cpu::write_msr(Msr::x2apic(register), u64::from(value)) },
        // SAFETY: as in `read`.
        base => unsafe { ((base + u64::from(register)) as *mut u32).write_volatile(value) },
    }
}
