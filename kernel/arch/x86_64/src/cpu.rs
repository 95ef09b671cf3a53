//! Single instructions as functions: ports, control registers, model-specific registers, CPUID.
//!
//! What can't break Rust's view of memory is safe to call; the rest is `unsafe` with its condition.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};

/// Reads a byte from an I/O port. Ports are devices' registers, never memory.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: reads a device register; memory is not involved.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads two bytes from an I/O port.
pub fn in16(port: u16) -> u16 {
    let value;
    // SAFETY: as `in8`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads four bytes from an I/O port.
pub fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: as `in8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte to an I/O port. What a device does then (DMA, say) is the business of whoever may use the port.
pub fn out8(port: u16, value: u8) {
    // SAFETY: writes a device register; memory is not involved.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes two bytes to an I/O port.
pub fn out16(port: u16, value: u16) {
    // SAFETY: as `out8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes four bytes to an I/O port.
pub fn out32(port: u16, value: u32) {
    // SAFETY: as `out8`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) };
}

/// What CPUID says about `leaf`; zeros if the processor has no such leaf. Not inlined: it is only for booting, and long.
#[inline(never)]
pub fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    let highest = __cpuid_count(leaf & 0xc000_0000, 0).eax;
    if leaf > highest {
        return CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    }
    __cpuid_count(leaf, subleaf)
}

/// The time-stamp counter. Not ordered with other loads: fine for a clock.
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// A model-specific register that every processor with the feature at hand has (SDM volume 4).
#[derive(Clone, Copy)]
pub struct Msr(u32);

impl Msr {
    /// IA32_APIC_BASE.
    pub const APIC_BASE: Msr = Msr(0x1b);
    /// IA32_TSC_DEADLINE.
    pub const TSC_DEADLINE: Msr = Msr(0x6e0);
    /// IA32_STAR: selectors for `syscall` and `sysret`.
    pub const STAR: Msr = Msr(0xc000_0081);
    /// IA32_LSTAR: where `syscall` goes.
    pub const LSTAR: Msr = Msr(0xc000_0082);
    /// IA32_CSTAR: where `syscall` goes from 32-bit code, on AMD's processors.
    pub const CSTAR: Msr = Msr(0xc000_0083);
    /// IA32_FMASK: flags that `syscall` clears.
    pub const FMASK: Msr = Msr(0xc000_0084);
    /// IA32_FS_BASE.
    pub const FS_BASE: Msr = Msr(0xc000_0100);
    /// IA32_KERNEL_GS_BASE: what `swapgs` swaps in.
    pub const KERNEL_GS_BASE: Msr = Msr(0xc000_0102);

    /// The x2APIC register at this offset of the xAPIC's page (SDM 3A, 11.12.1.2).
    pub const fn x2apic(offset: u32) -> Msr {
        Msr(0x800 + (offset >> 4))
    }
}

/// Reads a model-specific register. One that the processor doesn't have is a kernel fault.
pub fn read_msr(msr: Msr) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing.
    unsafe {
        asm!("rdmsr", in("ecx") msr.0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The value keeps the processor in the mode that the kernel is compiled for.
pub unsafe fn write_msr(msr: Msr, value: u64) {
    let [low, high] = halves(value);
    // SAFETY: the caller's promise.
    unsafe { asm!("wrmsr", in("ecx") msr.0, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}

/// The low and the high half of a word.
pub const fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// The low half of a word.
pub const fn low(value: u64) -> u32 {
    let [low, _] = halves(value);
    low
}

/// The address of the last page fault.
pub fn cr2() -> u64 {
    let value;
    // SAFETY: reading changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The root page table that is loaded (with PCID: and its tag).
pub fn root() -> u64 {
    let value;
    // SAFETY: reading changes nothing.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Loads a root page table (with PCID: and its tag, and bit 63), and with it forgets all translations that aren't global
/// (with PCID: those of this tag, unless bit 63 is set).
///
/// # Safety
/// The table maps the kernel as the current one does. Without PCID there is no tag, and bit 63 is clear.
pub unsafe fn load_root(root: u64) {
    // SAFETY: the caller's promise: what the kernel uses stays mapped.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
}

/// Control register 0.
pub fn cr0() -> u64 {
    let value;
    // SAFETY: reading changes nothing.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets control register 0.
///
/// # Safety
/// Protection and paging stay on.
pub unsafe fn set_cr0(value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("mov cr0, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Sets control register 4.
///
/// # Safety
/// The processor has every feature that is switched on, and PAE stays on.
pub unsafe fn set_cr4(value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Says which states `xsave64` and `xrstor64` handle, and which instructions work.
///
/// # Safety
/// The processor has all of them, x87 is among them, SSE if AVX is, and AVX-512 not without AVX; OSXSAVE is on in CR4.
pub unsafe fn set_xcr0(value: u32) {
    // SAFETY: the caller's promise.
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") value, in("edx") 0, options(nomem, nostack, preserves_flags)) };
}

/// Orders what was written to memory, and to devices, before a write to a model-specific register that doesn't wait for it
/// by itself: those of the x2APIC and of the deadline timer (SDM 3A, 11.12.3 and 11.5.4.1).
pub fn fence_before_msr() {
    // SAFETY: orders memory accesses, and changes nothing.
    unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
}

/// The stack pointer of the function that this is inlined into.
#[inline(always)]
pub fn stack_pointer() -> u64 {
    let value;
    // SAFETY: reading changes nothing.
    unsafe { asm!("mov {}, rsp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The limit of a table of so many bytes, as descriptor-table registers want it.
pub const fn table_limit(bytes: usize) -> u16 {
    let [low, high, ..] = (bytes - 1).to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Waits for one interrupt, with interrupts enabled just for that. The handler leaves them off (`traps`).
pub fn wait_for_interrupt() {
    // SAFETY: `sti` takes effect after the next instruction, so no interrupt is lost between the two; what the
    // handler changes is in memory that the compiler must assume changed.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// This core does nothing more.
pub fn halt() -> ! {
    loop {
        // SAFETY: stops the core until an interrupt that can only be an NMI.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
