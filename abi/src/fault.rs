//! A fault as a message to the thread's fault endpoint.
//!
//! Label: [`LABEL`]. Words: the [`FaultKind`]; program counter; address (of the access, 0 where there is none); the
//! architecture's cause (exception vector and error code on x86-64: code in bits 8.., vector in 0..8; `scause` on
//! RISC-V); stack pointer; frame pointer. Answering with label 0 lets the thread try again; any other label stops it.
//!
//! A system call of a foreign thread has the label [`SYSTEM_CALL_LABEL`]. Words: its number; six arguments; the program
//! counter behind the instruction (the registers are those of Linux's convention on the architecture). Answering with
//! label 0 lets the thread go on, with word 0 as the call's result; any other label stops it.

/// The label of every fault message but a foreign system call: no method and no error.
pub const LABEL: u64 = 1 << 63;
/// The label of a foreign thread's system call.
pub const SYSTEM_CALL_LABEL: u64 = LABEL | 1;

/// What a thread did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum FaultKind {
    /// Read from an address that is not mapped readable.
    Read = 1,
    /// Wrote to an address that is not mapped writable.
    Write = 2,
    /// Jumped to an address that is not mapped executable.
    Execute = 3,
    /// Executed an illegal or privileged instruction.
    IllegalInstruction = 4,
    /// Divided by zero or overflowed (x86-64), or a floating-point exception.
    Arithmetic = 5,
    /// Misaligned access.
    Alignment = 6,
    /// Breakpoint or single step.
    Breakpoint = 7,
    /// Anything else the processor reports; the cause tells.
    Other = 8,
    /// It was to run, and had no CPU time. Cause 0: its budget is used up; 1: it has no scheduling context.
    NoTime = 9,
}

impl FaultKind {
    /// The kind with this number; an unknown one reads as [`FaultKind::Other`].
    pub const fn from_number(number: u64) -> Self {
        match number {
            1 => FaultKind::Read,
            2 => FaultKind::Write,
            3 => FaultKind::Execute,
            4 => FaultKind::IllegalInstruction,
            5 => FaultKind::Arithmetic,
            6 => FaultKind::Alignment,
            7 => FaultKind::Breakpoint,
            9 => FaultKind::NoTime,
            _ => FaultKind::Other,
        }
    }

    /// What people read in a crash report.
    pub const fn text(self) -> &'static str {
        match self {
            FaultKind::Read => "read of an unmapped address",
            FaultKind::Write => "write to an unmapped or read-only address",
            FaultKind::Execute => "jump to an address that is not executable",
            FaultKind::IllegalInstruction => "illegal instruction",
            FaultKind::Arithmetic => "arithmetic error",
            FaultKind::Alignment => "misaligned access",
            FaultKind::Breakpoint => "breakpoint",
            FaultKind::Other => "processor exception",
            FaultKind::NoTime => "out of CPU time",
        }
    }
}
