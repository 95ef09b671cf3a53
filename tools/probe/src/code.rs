//! What instructions mean, from their bytes.

/// The instruction sets that Anos runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// x86-64.
    X86,
    /// RISC-V.
    RiscV,
}

/// The displacement of a mark with number 0 on x86-64.
const X86_MARK: u32 = 0x414e_0000;

impl Target {
    /// By QEMU's name.
    pub fn named(name: &str) -> Option<Target> {
        match name {
            "x86_64" => Some(Target::X86),
            "riscv64" => Some(Target::RiscV),
            _ => None,
        }
    }

    /// The number of a mark, if this is one.
    pub fn mark(self, instruction: &[u8]) -> Option<u64> {
        match (self, instruction) {
            (Target::X86, [0x0f, 0x1f, 0x80, displacement @ ..]) => {
                let displacement = u32::from_le_bytes(displacement.try_into().ok()?);
                (displacement & 0xffff_0000 == X86_MARK).then_some(u64::from(displacement & 0xffff))
            }
            (Target::RiscV, _) => {
                let word = u32::from_le_bytes(instruction.try_into().ok()?);
                // slti with both registers x0; the sign bit stays clear.
                (word & 0x800f_ffff == 0x2013).then_some(u64::from(word >> 20))
            }
            _ => None,
        }
    }

    /// Whether a core waits for an interrupt here.
    pub fn waits(self, instruction: &[u8]) -> bool {
        match self {
            Target::X86 => instruction == [0xf4],
            Target::RiscV => instruction == 0x1050_0073_u32.to_le_bytes(),
        }
    }

    /// Whether it writes to a device through an I/O port, which only x86-64 has.
    pub fn writes_port(self, instruction: &[u8]) -> bool {
        let mut rest = instruction.iter().skip_while(|byte| is_prefix(byte));
        // out with a port in the instruction, out with one in dx, outs
        self == Target::X86 && matches!(rest.next(), Some(0xe6 | 0xe7 | 0xee | 0xef | 0x6e | 0x6f))
    }

    /// Whether it returns from an exception or a system call.
    pub fn returns(self, instruction: &[u8]) -> bool {
        match self {
            // iretq, sysretq
            Target::X86 => matches!(instruction, [0x48, 0xcf] | [0x48, 0x0f, 0x07]),
            // sret
            Target::RiscV => instruction == 0x1020_0073_u32.to_le_bytes(),
        }
    }

    /// Whether this is what comes next when the kernel itself was interrupted, which it only is while it waits: on x86-64,
    /// `cli`.
    pub fn goes_on(self, instruction: &[u8]) -> bool {
        self == Target::X86 && instruction == [0xfa]
    }

    /// Whether a write of this instruction is atomic.
    pub fn is_atomic(self, instruction: &[u8]) -> bool {
        match self {
            Target::X86 => x86_is_atomic(instruction),
            Target::RiscV => instruction.len() == 4 && instruction[0] & 0x7f == 0x2f,
        }
    }
}

/// A `lock` prefix; or `xchg` (it is only asked about instructions that write to memory, and needs no prefix then).
fn x86_is_atomic(instruction: &[u8]) -> bool {
    let mut rest = instruction.iter().skip_while(|byte| is_prefix(byte));
    match rest.next() {
        Some(0xf0) => true,
        Some(0x40..=0x4f) => matches!(rest.next(), Some(0x86 | 0x87)),
        Some(0x86 | 0x87) => true,
        _ => false,
    }
}

/// Whether this may stand before an instruction on x86-64.
fn is_prefix(byte: &u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_from_other_nops() {
        assert_eq!(Target::X86.mark(&[0x0f, 0x1f, 0x80, 0x39, 0x05, 0x4e, 0x41]), Some(0x539));
        assert_eq!(Target::X86.mark(&[0x0f, 0x1f, 0x80, 0, 0, 0, 0]), None);
        assert_eq!(Target::X86.mark(&[0x0f, 0x1f, 0x40, 0]), None);
        assert_eq!(Target::RiscV.mark(&0x7ff0_2013_u32.to_le_bytes()), Some(2047));
        assert_eq!(Target::RiscV.mark(&0x8000_2013_u32.to_le_bytes()), None);
        assert_eq!(Target::RiscV.mark(&0x0000_0013_u32.to_le_bytes()), None);
        assert_eq!(Target::RiscV.mark(&[0x01, 0x00]), None);
    }

    #[test]
    fn waiting_writing_and_atomic_instructions_are_known() {
        assert!(Target::X86.waits(&[0xf4]) && !Target::X86.waits(&[0xf3, 0x90]));
        assert!(Target::X86.returns(&[0x48, 0xcf]) && Target::X86.returns(&[0x48, 0x0f, 0x07]));
        assert!(Target::RiscV.returns(&[0x73, 0, 0x20, 0x10]) && !Target::RiscV.returns(&[0x73, 0, 0x50, 0x10]));
        assert!(Target::X86.goes_on(&[0xfa]) && !Target::RiscV.goes_on(&[0xfa]));
        assert!(Target::RiscV.waits(&[0x73, 0, 0x50, 0x10]) && !Target::RiscV.waits(&[0x73, 0, 0, 0]));
        // out dx, al; out 0x80, ax; rep outsb; in al, dx
        assert!(Target::X86.writes_port(&[0xee]) && Target::X86.writes_port(&[0x66, 0xe7, 0x80]));
        assert!(Target::X86.writes_port(&[0xf3, 0x6e]) && !Target::X86.writes_port(&[0xec]));
        assert!(!Target::RiscV.writes_port(&[0xee, 0, 0, 0]));
        // lock xadd, xchg with a 64-bit register, xchg with a byte; mov.
        for atomic in [&[0xf0_u8, 0x0f, 0xc1, 0x07][..], &[0x48, 0x87, 0x07], &[0x86, 0x07], &[0x66, 0xf0, 0xff, 0]] {
            assert!(Target::X86.is_atomic(atomic), "{atomic:x?}");
        }
        assert!(!Target::X86.is_atomic(&[0x48, 0x89, 0x07]));
        // amoswap.w, sw
        assert!(Target::RiscV.is_atomic(&0x08a5_a52f_u32.to_le_bytes()));
        assert!(!Target::RiscV.is_atomic(&0x00a5_a023_u32.to_le_bytes()));
    }
}
