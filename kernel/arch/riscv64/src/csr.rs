//! Control and status registers (privileged architecture, chapter "Supervisor-Level ISA"), behind functions that say
//! what they are for.

use core::arch::asm;

/// `sstatus`: interrupts are on after `sret`. In user mode they are on whatever this says.
pub const STATUS_SPIE: u64 = 1 << 5;
/// `sstatus.UXL`: user mode has 64 bits.
pub const STATUS_UXL: u64 = 2 << 32;
/// `sstatus`: the field that says whether the floating-point unit is on; all of it: on, registers changed.
pub const STATUS_FS: u64 = 3 << 13;
/// `sstatus.FS`: on, registers as in memory.
pub const STATUS_FS_CLEAN: u64 = 2 << 13;
/// `sstatus`: the same for the vector unit.
pub const STATUS_VS: u64 = 3 << 9;
/// `sstatus.VS`: on, registers as in memory.
pub const STATUS_VS_CLEAN: u64 = 2 << 9;
/// `sstatus.SD`: registers of one of the units have changed.
pub const STATUS_DIRTY: u64 = 1 << 63;

/// `sie` and `sip`: an inter-core interrupt.
pub const SOFTWARE: u64 = 1 << 1;
/// `sie` and `sip`: the timer.
pub const TIMER: u64 = 1 << 5;
/// `sie` and `sip`: the interrupt controller.
pub const EXTERNAL: u64 = 1 << 9;

/// `scounteren`: user mode may read `time`.
pub const TIME_COUNTER: u64 = 1 << 1;
/// `scounteren`: user mode may read `time`, `cycle` and `instret`.
pub const ALL_COUNTERS: u64 = TIME_COUNTER | 1 << 0 | 1 << 2;

/// Defines functions that read or write one register each.
macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident($instruction:literal $(, $value:ident)?) $(-> $result:ty)?;)*) => {$(
        registers!(@one $(#[$doc])* $name, $instruction $(, $value)? $(, -> $result)?);
    )*};
    (@one $(#[$doc:meta])* $name:ident, $instruction:literal, -> $result:ty) => {
        $(#[$doc])*
        #[inline]
        pub fn $name() -> $result {
            let value;
            // SAFETY: reading this register changes nothing.
            unsafe { asm!(concat!($instruction), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    };
    (@one $(#[$doc:meta])* $name:ident, $instruction:literal, $value:ident) => {
        $(#[$doc])*
        #[inline]
        pub fn $name($value: u64) {
            // SAFETY: this register says which interrupts come and when, what user mode may read, or which units are
            // on that no kernel code uses; no memory depends on it.
            unsafe { asm!(concat!($instruction), in(reg) $value, options(nostack, preserves_flags)) };
        }
    };
}

registers! {
    /// The state that a trap saved.
    status("csrr {}, sstatus") -> u64;
    /// Bytes of a vector register (`vlenb`; the unit must be on).
    vector_bytes("csrr {}, 0xc22") -> u64;
    /// Which interrupts wait.
    pending("csrr {}, sip") -> u64;
    /// Which interrupts may come.
    enabled("csrr {}, sie") -> u64;
    /// Ticks of the machine's clock.
    time("csrr {}, time") -> u64;
    /// The translation in force.
    translation("csrr {}, satp") -> u64;
    /// When the timer interrupt comes.
    time_compare("csrr {}, 0x14d") -> u64;
    /// Turns units on that were off.
    turn_on("csrs sstatus, {}", bits);
    /// Turns units off.
    turn_off("csrc sstatus, {}", bits);
    /// Lets these interrupts come, and no others.
    set_enabled("csrw sie, {}", bits);
    /// Lets these interrupts come.
    enable("csrs sie, {}", bits);
    /// These interrupts wait no longer. (Of those, software can only clear [`SOFTWARE`].)
    clear_pending("csrc sip, {}", bits);
    /// When the timer interrupt comes (`stimecmp`, extension Sstc).
    set_time_compare("csrw 0x14d, {}", ticks);
    /// Which counters user mode may read: bit 0 `cycle`, 1 `time`, 2 `instret`.
    set_user_counters("csrw scounteren, {}", bits);
}

/// Sets what holds from the next way to user mode on, and which units are on.
///
/// # Safety
/// Of the bits, there are only [`STATUS_SPIE`], [`STATUS_UXL`], and those of the units: interrupts stay off in the kernel,
/// user memory stays out of its reach, and it leaves to user mode.
pub unsafe fn set_status(bits: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("csrw sstatus, {}", in(reg) bits, options(nostack, preserves_flags)) };
}

/// Sets a register of this hart's IMSIC (AIA, "Supervisor-level CSRs": `siselect`, `sireg`).
pub fn set_selected(register: u64, value: u64) {
    // SAFETY: these say which interrupts come; no memory depends on them.
    unsafe { asm!("csrw 0x150, {}", "csrw 0x151, {}", in(reg) register, in(reg) value, options(nostack)) };
}

/// Takes the message that waits at this hart's IMSIC (`stopei`): its identity and, below bit 16, its priority; or 0.
pub fn claim_message() -> u32 {
    let claimed: u32;
    // SAFETY: it waits no longer; no memory depends on it.
    unsafe { asm!("csrrw {}, 0x15c, zero", out(reg) claimed, options(nostack)) };
    claimed
}

/// Waits for an interrupt among those enabled in `sie`, whether or not `sstatus` would let it trap.
pub fn wait() {
    // SAFETY: a pause; nothing else changes.
    unsafe { asm!("wfi", options(nostack, preserves_flags)) };
}

/// Forgets every translation. The fence also orders all writes to page tables before later translations.
pub fn flush_translations() {
    // SAFETY: translations are looked up again when needed.
    unsafe { asm!("sfence.vma", options(nostack, preserves_flags)) };
}

/// Forgets the translations of one address space, but for those that are the same in all of them.
pub fn flush_translations_of(id: u64) {
    // SAFETY: translations are looked up again when needed.
    unsafe { asm!("sfence.vma zero, {}", in(reg) id, options(nostack, preserves_flags)) };
}

/// Translates through another root table, or with another address-space id, from now on.
///
/// # Safety
/// The new translation maps the kernel's image, this core's stack, and what live references lead to, as they are
/// mapped now; and the root table stays a root table while it is loaded. What the processor remembers of this id is true
/// of it, or will be forgotten before user mode; and earlier writes that made these tables lie behind a fence.
pub unsafe fn set_translation(satp: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("csrw satp, {}", in(reg) satp, options(nostack, preserves_flags)) };
}

/// Orders this hart's earlier writes before its later instruction fetches.
pub fn fence_instructions() {
    // SAFETY: a fence.
    unsafe { asm!("fence.i", options(nostack, preserves_flags)) };
}

/// Orders all earlier accesses to memory and devices before all later ones.
pub fn fence_devices() {
    // SAFETY: a fence.
    unsafe { asm!("fence iorw, iorw", options(nostack, preserves_flags)) };
}

/// One round of a wait loop. The encoding of `pause` (Zihintpause) is a fence that does nothing elsewhere.
pub fn pause() {
    // SAFETY: a hint.
    unsafe { asm!(".insn 0x0100000f", options(nomem, nostack, preserves_flags)) };
}
