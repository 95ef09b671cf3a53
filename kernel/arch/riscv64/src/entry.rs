//! The first instructions of every hart, up to the first line of Rust.
//!
//! The firmware jumps to the start of the image in supervisor mode, without translation, with the hart's id in `a0` and
//! the devicetree's physical address in `a1`. The image may lie on any 2 MiB boundary. For the boot hart a Sv39
//! translation is made from two static tables: the image where it is linked (4 large pages), and the first 254 GiB of
//! physical memory where Sv39's direct map is. Every hart with paging has Sv39. It serves until
//! [`boot_early`](crate::boot::boot_early) has built the real tables; only then is each page just readable, writable
//! or executable.
//!
//! Another hart that the boot hart has started finds its block in [`TURN`], wherever the firmware lets it in.
//!
//! A hart goes from physical to virtual addresses by a fault: `stvec` holds the virtual address of the next
//! instruction, `satp` is written, and as nothing is mapped where the program counter then points, the hart traps to
//! where it shall go on. So no identity mapping is ever needed.

use core::arch::global_asm;
use core::mem::offset_of;

use crate::boot::{boot_early, boot_late};
use crate::hart::{HARTS, Hart};
use crate::harts::{TURN, started};
use crate::to_usize;

/// Bytes of the stack that [`boot_early`] runs on: more than twice what it needs with every check built in. The early
/// translation has large pages alone, so nothing guards it.
pub const BOOT_STACK_BYTES: usize = 64 * 1024;

global_asm!(
    // The header of a Linux image (Documentation/arch/riscv/boot-image-header), for QEMU's `-kernel` and for U-Boot.
    ".section .text.header, \"ax\"",
    ".globl _start",
    "_start:",
    ".option push",
    ".option norvc",
    "j 1f",
    ".word 0",
    ".option pop",
    ".dword 0x200000",                // where to load it, from the start of memory
    ".dword __kernel_end - _start",   // bytes in memory (`cargo xtask` puts in those with the payload)
    ".dword 0",                       // little-endian
    ".word 2, 0",                     // version 0.2
    ".dword 0",
    ".ascii \"RISCV\\0\\0\\0\"",
    ".ascii \"RSC\\x05\"",
    ".word 0",
    "link_address: .dword _start",
    "1:",
    "csrw sie, zero",
    "csrw sscratch, zero",
    "li t0, {status_bits}",
    "csrc sstatus, t0",
    // The first hart to come here boots.
    "la t0, {turn}",
    "li t1, 1",
    ".option push",
    ".option arch, +a",
    "amoor.d.aqrl t1, t1, (t0)",
    ".option pop",
    "bnez t1, start_other",
    // Variables start as zeros. `memset` needs no stack, and leaves `tp` and `s1` alone.
    "mv tp, a0",
    "mv s1, a1",
    "la a0, __bss_start",
    "la a2, __bss_end",
    "sub a2, a2, a0",
    "li a1, 0",
    "call memset",
    "mv a0, tp",
    "mv a1, s1",
    // The image: entries 1 to 4 of the table for its GiB, readable, writable, executable.
    "la t0, early_image",
    "la t1, _start",
    "srli t2, t1, 2",
    "ori t2, t2, 0xef",
    "li t3, 0x80000",
    "sd t2, 8(t0)",
    "add t2, t2, t3",
    "sd t2, 16(t0)",
    "add t2, t2, t3",
    "sd t2, 24(t0)",
    "add t2, t2, t3",
    "sd t2, 32(t0)",
    // The root: entry 510 is that table, entries 256 to 509 are the direct map, readable and writable.
    "la t4, early_root",
    "srli t0, t0, 2",
    "ori t0, t0, 1",
    "li t5, 510 * 8",
    "add t5, t5, t4",
    "sd t0, 0(t5)",
    "li t5, 256 * 8",
    "add t5, t5, t4",
    "li t2, 0xe7",
    "li t3, 0x10000000",
    "li t6, 254",
    "3: sd t2, 0(t5)",
    "add t2, t2, t3",
    "addi t5, t5, 8",
    "addi t6, t6, -1",
    "bnez t6, 3b",
    "srli t4, t4, 12",
    "li t2, 8",
    "slli t2, t2, 60",
    "or t2, t2, t4",
    "mv a2, t1",
    "la t5, 4f",
    "j to_virtual",
    ".balign 4",
    "4: la t0, trap_entry",
    "csrw stvec, t0",
    "la tp, {harts}",
    "la sp, boot_stack_top",
    "call {boot_early}",

    // Another hart. It takes the block that was prepared for it: see TURN.
    ".balign 4",
    ".globl start_other",
    "start_other:",
    "csrw sie, zero",
    "csrw sscratch, zero",
    "li t0, {status_bits}",
    "csrc sstatus, t0",
    "la t0, {turn}",
    "7: ld a1, 0(t0)",
    "andi a1, a1, -2",
    "beqz a1, 7b",
    "fence r, rw",
    "ld t1, {hart_id}(a1)",
    "bne t1, a0, 7b",
    "ld t2, {translation}(a1)",
    "ld a1, {virtual_address}(a1)",
    "la t5, 5f",
    "j to_virtual",
    ".balign 4",
    "5: la t0, trap_entry",
    "csrw stvec, t0",
    "mv tp, a1",
    "mv a0, a1",
    "ld sp, {stack_top}(tp)",
    "call {started}",

    // Goes on at t5 (a physical address), where it is linked, with the translation t2.
    "to_virtual:",
    "la t3, _start",
    "ld t4, link_address",
    "sub t4, t4, t3",
    "add t5, t5, t4",
    "csrw stvec, t5",
    "sfence.vma",
    "csrw satp, t2",
    "sfence.vma",
    "6: j 6b",

    // The boot hart leaves its first stack and translation: a0 is its block.
    ".section .text",
    "adopt_stack:",
    "ld t0, {translation}(a0)",
    // The tables were written just now, and must be seen by whatever the new root has the hart look up.
    "sfence.vma",
    "csrw satp, t0",
    "sfence.vma",
    "ld sp, {stack_top}(a0)",
    "call {boot_late}",

    ".section .bss",
    // The tables lie above the stack: one that grows too far must not change the translation it stands on.
    ".balign 4096",
    ".globl boot_stack",
    "boot_stack: .skip {boot_stack_bytes}",
    "boot_stack_top:",
    ".globl early_root",
    "early_root: .skip 4096",
    "early_image: .skip 4096",
    // SIE, SPIE, the vector unit, the floating-point unit, SUM and MXR.
    status_bits = const 0xc6622,
    boot_stack_bytes = const BOOT_STACK_BYTES,
    translation = const offset_of!(Hart, translation),
    hart_id = const offset_of!(Hart, hart_id),
    virtual_address = const offset_of!(Hart, virtual_address),
    stack_top = const offset_of!(Hart, stack_top),
    harts = sym HARTS,
    turn = sym TURN,
    boot_early = sym boot_early,
    boot_late = sym boot_late,
    started = sym started,
);

unsafe extern "C" {
    static _start: u8;
    static start_other: u8;
    static early_root: u8;
    static boot_stack: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __kernel_end: u8;
    fn adopt_stack(hart: u64) -> !;
}

/// Where the linker put things: virtual addresses.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Start of the image and of its instructions.
    pub start: u64,
    /// End of the instructions, start of the constants.
    pub text_end: u64,
    /// End of the constants, start of the variables.
    pub rodata_end: u64,
    /// End of the image, variables without initial values included.
    pub end: u64,
    /// Where the other harts start.
    pub start_other: u64,
    /// The root table that the boot hart starts with.
    pub early_root: u64,
    /// The stack that it starts with.
    pub boot_stack: u64,
}

/// Where the linker put things.
pub fn image() -> Image {
    Image {
        start: &raw const _start as u64,
        text_end: &raw const __text_end as u64,
        rodata_end: &raw const __rodata_end as u64,
        end: &raw const __kernel_end as u64,
        start_other: &raw const start_other as u64,
        early_root: &raw const early_root as u64,
        boot_stack: &raw const boot_stack as u64,
    }
}

/// Whether an address lies in the kernel's code, behind a call that leaves it in `ra`: `jal` or `jalr`, of four bytes.
pub fn is_behind_call(address: u64) -> bool {
    const CALL: u16 = 0x0e7;
    /// Opcode and destination, but for the bit in which the two differ.
    const MASK: u16 = 0xff7;
    let text = &raw const _start as u64 + 4..&raw const __text_end as u64;
    if !text.contains(&address) || !address.is_multiple_of(2) {
        return false;
    }
    // SAFETY: aligned, and it lies in the kernel's code, which is mapped, readable, and never written to.
    let instruction = unsafe { *(to_usize(address - 4) as *const u16) };
    instruction & MASK == CALL
}

/// Goes on in [`boot_late`] with the block's translation and stack.
///
/// # Safety
/// The block was prepared for this hart, its root table maps the kernel, and no reference through the early direct map
/// or into the boot stack is used any more.
pub unsafe fn adopt(hart: *mut Hart) -> ! {
    // SAFETY: the caller's promise.
    unsafe { adopt_stack(hart as u64) }
}
