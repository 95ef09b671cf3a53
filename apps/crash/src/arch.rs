//! Single instructions that go wrong, in assembly: the compiler may not know what they do, or it would leave them out.

#[cfg(target_arch = "riscv64")]
pub use riscv64::{divide, illegal, jump, load, privileged, store};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{divide, illegal, jump, load, privileged, store};

/// x86-64's.
#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use core::arch::asm;

    /// Reads from an address.
    pub fn load(address: u64) {
        // SAFETY: a read that the hardware allows does no harm; one that it does not, ends this program, as wanted.
        unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack, readonly)) };
    }

    /// Writes to an address.
    pub fn store(address: u64) {
        // SAFETY: the addresses that this program stores to are not writable, so nothing is written: it ends.
        unsafe { asm!("mov [{0}], {0}", in(reg) address, options(nostack)) };
    }

    /// Jumps to an address.
    pub fn jump(address: u64) {
        // SAFETY: the addresses that this program jumps to are not executable, so it ends there.
        unsafe { asm!("call {0}", in(reg) address, clobber_abi("C")) };
    }

    /// Executes an instruction that does not exist.
    pub fn illegal() {
        // SAFETY: this instruction is defined to fault, and ends this program.
        unsafe { asm!("ud2") };
    }

    /// Executes an instruction that only the kernel may.
    pub fn privileged() {
        // SAFETY: outside the kernel this instruction faults, and ends this program.
        unsafe { asm!("cli") };
    }

    /// Divides by zero.
    pub fn divide() {
        // SAFETY: dividing by zero faults, and ends this program.
        unsafe { asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) };
    }
}

/// RISC-V's.
#[cfg(target_arch = "riscv64")]
mod riscv64 {
    use core::arch::asm;

    /// Reads from an address.
    pub fn load(address: u64) {
        // SAFETY: a read that the hardware allows does no harm; one that it does not, ends this program, as wanted.
        unsafe { asm!("ld {0}, 0({0})", inout(reg) address => _, options(nostack, readonly)) };
    }

    /// Writes to an address.
    pub fn store(address: u64) {
        // SAFETY: the addresses that this program stores to are not writable, so nothing is written: it ends.
        unsafe { asm!("sd {0}, 0({0})", in(reg) address, options(nostack)) };
    }

    /// Jumps to an address.
    pub fn jump(address: u64) {
        // SAFETY: the addresses that this program jumps to are not executable, so it ends there.
        unsafe { asm!("jalr {0}", in(reg) address, clobber_abi("C")) };
    }

    /// Executes an instruction that does not exist.
    pub fn illegal() {
        // SAFETY: this instruction is defined to fault, and ends this program.
        unsafe { asm!("unimp") };
    }

    /// Executes an instruction that only the kernel may.
    pub fn privileged() {
        // SAFETY: outside the kernel this instruction faults, and ends this program.
        unsafe { asm!("csrr {0}, sstatus", out(reg) _) };
    }

    /// Divides by zero, which RISC-V defines to be all ones.
    pub fn divide() {
        // SAFETY: the instruction only computes.
        unsafe { asm!("div {0}, {0}, zero", inout(reg) 1u64 => _) };
    }
}
