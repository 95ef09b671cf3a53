//! The stamp that both sides of `process/create_to_main` take.
#![no_std]

/// What the processor's counter says: under `-icount shift=0`, how many instructions came before. A program can read it on
/// RISC-V only if the kernel was told `counters=user`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn stamp() -> u64 {
    // SAFETY: `rdtsc` only reads a counter, which the kernel leaves open to programs (CR4.TSD = 0).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// What the processor's counter says: under `-icount shift=0`, how many instructions came before. A program can read it on
/// RISC-V only if the kernel was told `counters=user`.
#[cfg(target_arch = "riscv64")]
#[inline(always)]
pub fn stamp() -> u64 {
    let cycles;
    // SAFETY: `rdcycle` only reads a counter, which the kernel has left open to programs.
    unsafe { core::arch::asm!("rdcycle {}", out(reg) cycles, options(nomem, nostack, preserves_flags)) };
    cycles
}
