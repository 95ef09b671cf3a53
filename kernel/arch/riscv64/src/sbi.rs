//! The firmware's services (RISC-V SBI 1.0, with the debug console of 2.0): extensions by their numbers, each behind a
//! function.

use core::arch::asm;

const BASE: u64 = 0x10;
const TIME: u64 = 0x5449_4d45;
const IPI: u64 = 0x0073_5049;
const HART_STATE: u64 = 0x0048_534d;
const SYSTEM_RESET: u64 = 0x5352_5354;
const DEBUG_CONSOLE: u64 = 0x4442_434e;
const LEGACY_PUTCHAR: u64 = 0x01;
const LEGACY_SHUTDOWN: u64 = 0x08;

/// The firmware refused; its error number, negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub i64);

/// A call with up to three arguments.
fn call(extension: u64, function: u64, arguments: [u64; 3]) -> Result<u64, Refused> {
    let [first, second, third] = arguments;
    let (error, value): (i64, u64);
    // SAFETY: every call made here asks for something that leaves this program's memory and registers alone, but for
    // a0 and a1 (SBI, "Binary Encoding"). None passes an address to be written to.
    unsafe {
        asm!(
            "ecall",
            inlateout("a0") first => error,
            inlateout("a1") second => value,
            in("a2") third,
            in("a6") function,
            in("a7") extension,
            options(nostack),
        );
    }
    if error == 0 { Ok(value) } else { Err(Refused(error)) }
}

/// Whether the firmware has the debug console.
pub fn has_debug_console() -> bool {
    call(BASE, 3, [DEBUG_CONSOLE, 0, 0]).is_ok_and(|value| value != 0)
}

/// Writes a byte to the debug console.
pub fn debug_console_write(byte: u8) {
    let _ = call(DEBUG_CONSOLE, 2, [u64::from(byte), 0, 0]);
}

/// Writes a byte to the console of old firmware.
pub fn legacy_write(byte: u8) {
    let _ = call(LEGACY_PUTCHAR, 0, [u64::from(byte), 0, 0]);
}

/// Has the timer interrupt come at this time; takes away one that waits.
pub fn set_timer(ticks: u64) {
    let _ = call(TIME, 0, [ticks, 0, 0]);
}

/// Interrupts another hart.
pub fn interrupt_hart(hart_id: u64) {
    let _ = call(IPI, 0, [1, hart_id, 0]);
}

/// The hart runs already.
pub const ALREADY_STARTED: Refused = Refused(-6);

/// Starts a hart at a physical address, in supervisor mode without translation.
pub fn start_hart(hart_id: u64, address: u64) -> Result<(), Refused> {
    call(HART_STATE, 0, [hart_id, address, 0]).map(drop)
}

/// Switches the machine off; returns if the firmware can't.
pub fn power_off() {
    let _ = call(SYSTEM_RESET, 0, [0, 0, 0]);
    let _ = call(LEGACY_SHUTDOWN, 0, [0, 0, 0]);
}

/// Starts the machine again; returns if the firmware can't.
pub fn reboot() {
    let _ = call(SYSTEM_RESET, 0, [1, 0, 0]);
}
