//! The functions on memory that the compiler calls by name, on x86-64, where no library brings them. (On RISC-V,
//! Rust's own compiler library does.)
//!
//! `rep` keeps them short, and the compiler can't turn them into calls of themselves.

use core::arch::asm;

/// Copies memory that does not overlap.
///
/// # Safety
/// As C's `memcpy`: both runs are `bytes` long and don't overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller promises the runs; the direction flag is clear at every call (System V ABI, section 3.2.1).
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, rdx",
            "rep movsb",
            inout("rcx") bytes / 8 => _,
            in("rdx") bytes % 8,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// Copies memory that may overlap.
///
/// # Safety
/// As C's `memmove`: both runs are `bytes` long.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= bytes {
        // SAFETY: the target does not begin inside the source, so copying upwards never writes what is yet to be read.
        return unsafe { memcpy(to, from, bytes) };
    }
    // SAFETY: the caller promises the runs; copying downwards from the last byte never writes what is yet to be read,
    // as the target begins inside the source; the direction flag is cleared again.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rcx") bytes => _,
            inout("rdi") to.wrapping_add(bytes).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(bytes).wrapping_sub(1) => _,
            options(nostack),
        );
    }
    to
}

/// Fills memory.
///
/// # Safety
/// As C's `memset`: the run is `bytes` long.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, bytes: usize) -> *mut u8 {
    let [low, ..] = byte.to_le_bytes();
    // SAFETY: the caller promises the run; the direction flag is clear at every call.
    unsafe {
        asm!(
            "rep stosq",
            "mov rcx, rdx",
            "rep stosb",
            inout("rcx") bytes / 8 => _,
            in("rdx") bytes % 8,
            inout("rdi") to => _,
            in("rax") u64::from_le_bytes([low; 8]),
            options(nostack, preserves_flags),
        );
    }
    to
}

/// Compares memory.
///
/// # Safety
/// As C's `memcmp`: both runs are `bytes` long.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    for index in 0..bytes {
        // SAFETY: the index is below the length that the caller promises.
        let a = unsafe { left.wrapping_add(index).read() };
        // SAFETY: the same.
        let b = unsafe { right.wrapping_add(index).read() };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// Compares memory for equality.
///
/// # Safety
/// As for [`memcmp`].
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    // SAFETY: the caller's contract is the same.
    unsafe { memcmp(left, right, bytes) }
}

/// Length of a string that ends with a zero.
///
/// # Safety
/// As C's `strlen`: the string ends.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: no zero was found yet, so the string goes on at least up to here.
    while unsafe { string.wrapping_add(length).read() } != 0 {
        length += 1;
    }
    length
}
