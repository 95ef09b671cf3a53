//! The code that a measuring thread runs.
//!
//! It works at any address, and is mapped at the same one in every address space. A thread starts at one of the
//! [`Entry`]s with its stack pointer at its [`Record`](crate::record::Record). All entries are the same loop around
//! another instruction, with the same instructions between it and the stamps: what these cost is what [`Entry::Nothing`]
//! measures.

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "riscv64")]
pub use riscv64::{IS_PC, mark};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{IS_PC, mark};

/// What a thread measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A system call.
    Call,
    /// A store.
    Store,
    /// No instruction at all.
    Nothing,
    /// [`EXACT_INSTRUCTIONS`] that do nothing.
    Exact,
    /// Steps, one after the other, once; what they lead to has the other stamp.
    Steps,
    /// Where a new thread arrives: only the other stamp.
    Arrive,
    /// A system call again and again, without stamps. After the last round all begins anew, with `first` and the first
    /// of `between`.
    Repeat,
}

/// Instructions that do nothing, to see that the counter counts instructions.
pub const EXACT_INSTRUCTIONS: u64 = 100;

unsafe extern "C" {
    static bench_start: u8;
    static bench_end: u8;
    static bench_call: u8;
    static bench_store: u8;
    static bench_store_behind: u8;
    static bench_nothing: u8;
    static bench_exact: u8;
    static bench_steps: u8;
    static bench_arrive: u8;
    static bench_repeat: u8;
}

/// The code's bytes.
pub fn code() -> &'static [u8] {
    let start = &raw const bench_start;
    let length = (&raw const bench_end as usize).wrapping_sub(start as usize);
    // SAFETY: the assembler put the code between these two symbols, into read-only memory that stays.
    unsafe { core::slice::from_raw_parts(start, length) }
}

fn offset(of: *const u8) -> u64 {
    (of as u64).wrapping_sub(&raw const bench_start as u64)
}

/// Where the code for this starts, from the start of all.
pub fn entry(entry: Entry) -> u64 {
    offset(match entry {
        Entry::Call => &raw const bench_call,
        Entry::Store => &raw const bench_store,
        Entry::Nothing => &raw const bench_nothing,
        Entry::Exact => &raw const bench_exact,
        Entry::Steps => &raw const bench_steps,
        Entry::Arrive => &raw const bench_arrive,
        Entry::Repeat => &raw const bench_repeat,
    })
}

/// Where the instruction behind the measured store is, from the start of all.
pub fn behind_store() -> u64 {
    offset(&raw const bench_store_behind)
}
