//! The first instructions: from the loader's 32-bit mode (PVH) or a starting core's real mode to 64-bit code in the
//! top of the address space.
//!
//! The tables that this builds map the first 4 GiB at 0, at the window and (1 GiB) at the image, with every right:
//! they serve until `tables` has built the real ones, and once more for each core on its way up.

use core::arch::global_asm;

use crate::paging::IMAGE;

/// Physical address that a starting core begins at, in real mode: a page of low memory that nobody else uses.
pub const TRAMPOLINE: u64 = 0x8000;

unsafe extern "C" {
    /// Start of the real-mode code to be copied to [`TRAMPOLINE`].
    pub static trampoline_start: u8;
    /// Its end.
    pub static trampoline_end: u8;
    static early_stack: u8;
    static early_stack_top: u8;
}

/// The bounds of the stack that the boot core boots on, if `address` lies within.
pub fn early_stack_bounds(address: u64) -> Option<(u64, u64)> {
    let (bottom, top) = (&raw const early_stack as u64, &raw const early_stack_top as u64);
    if (bottom..top).contains(&address) { Some((bottom, top)) } else { None }
}

global_asm!(
    // Tells a PVH loader where to jump to, in physical addresses: type 18, XEN_ELFNOTE_PHYS32_ENTRY.
    ".section .note.Xen, \"a\", @note",
    ".balign 4",
    ".long 4, 8, 18",
    ".asciz \"Xen\"",
    ".quad pvh_start - {image}",
    ".section .text.boot, \"ax\"",
    // The loader jumps here with paging off, flat segments and the address of its start info in ebx.
    ".code32",
    ".global pvh_start",
    "pvh_start:",
    "cld",
    "cli",
    "movl $(early_stack_top - {image}), %esp",
    "movl %ebx, %ebp",
    // 64-bit mode (bit 29) and no-execute (bit 20) are what the kernel can't do without.
    "movl $0x80000001, %eax",
    "cpuid",
    "andl $0x20100000, %edx",
    "cmpl $0x20100000, %edx",
    "jne no_long_mode",
    // Level 2: 2048 pages of 2 MiB, present, writable, large.
    "movl $(early_level2 - {image}), %edi",
    "movl $0x83, %eax",
    "movl $2048, %ecx",
    "2: movl %eax, (%edi)",
    "addl $0x200000, %eax",
    "addl $8, %edi",
    "loop 2b",
    // Level 3: its four tables from 0 up, and the first of them again for the image.
    "movl $(early_level2 - {image} + 3), %eax",
    "movl %eax, early_level3_high - {image} + 510 * 8",
    "movl $(early_level3 - {image}), %edi",
    "movl $4, %ecx",
    "3: movl %eax, (%edi)",
    "addl $0x1000, %eax",
    "addl $8, %edi",
    "loop 3b",
    // Level 4: at 0, at the window and at the top.
    "movl $(early_level3 - {image} + 3), %eax",
    "movl %eax, early_root - {image}",
    "movl %eax, early_root - {image} + 256 * 8",
    "movl $(early_level3_high - {image} + 3), %eax",
    "movl %eax, early_root - {image} + 511 * 8",
    "xorl %ebx, %ebx",
    "jmp long_mode",
    // A starting core comes here from the trampoline.
    "core_entry32:",
    "movw $0x10, %ax",
    "movw %ax, %ds",
    "movl $1, %ebx",
    // ebx: 0 for the boot core, 1 for another. ebp: start info.
    "long_mode:",
    "lgdtl early_gdt_pointer - {image}",
    "movl $0x20, %eax", // CR4: PAE
    "movl %eax, %cr4",
    "movl $(early_root - {image}), %eax",
    "movl %eax, %cr3",
    "movl $0xc0000080, %ecx", // EFER: syscall, long mode, no-execute
    "rdmsr",
    "orl $0x901, %eax",
    "wrmsr",
    "movl $0x80010033, %eax", // CR0: PE, MP, ET, NE, WP, PG
    "movl %eax, %cr0",
    "ljmpl $0x08, $(long_mode64 - {image})",
    "no_long_mode:",
    "movl $(no_long_mode_text - {image}), %esi",
    "movw $0x3f8, %dx",
    "4: lodsb",
    "testb %al, %al",
    "jz 5f",
    "outb %al, %dx",
    "jmp 4b",
    "5: hlt",
    "jmp 5b",
    ".code64",
    "long_mode64:",
    "movabsq $long_mode_high, %rax",
    "jmpq *%rax",
    "long_mode_high:",
    // By its virtual address, since the low half will be gone: every exception reads a descriptor from it.
    "lgdt early_gdt_pointer_high(%rip)",
    "xorl %eax, %eax",
    "movl %eax, %ds",
    "movl %eax, %es",
    "movl %eax, %fs",
    "movl %eax, %gs",
    "movl $0x10, %eax",
    "movl %eax, %ss",
    "testl %ebx, %ebx",
    "jnz 6f",
    "movq $early_stack_top, %rsp",
    "movl %ebp, %edi",
    "callq {boot}",
    "ud2",
    // Another core: it takes the real tables and the stack that the boot core has laid out for it. If another was
    // faster, it stays out.
    "6: movq {kernel_root}(%rip), %rax",
    "movq %rax, %cr3",
    "xorl %eax, %eax",
    "xchgq %rax, {next_core}(%rip)",
    "testq %rax, %rax",
    "jz 7f",
    "movq %rax, %rsp",
    "movq %rax, %rdi",
    "callq {core_main}",
    "7: cli",
    "hlt",
    "jmp 7b",
    // Real mode, at TRAMPOLINE: straight to 32-bit mode.
    ".section .rodata.trampoline, \"a\"",
    ".code16",
    ".global trampoline_start",
    ".global trampoline_end",
    "trampoline_start:",
    "cli",
    "cld",
    "xorw %ax, %ax",
    "movw %ax, %ds",
    "lgdtl {trampoline} + (trampoline_gdt_pointer - trampoline_start)",
    "movl %cr0, %eax",
    "orl $1, %eax",
    "movl %eax, %cr0",
    "ljmpl $0x18, $(core_entry32 - {image})",
    ".balign 4",
    "trampoline_gdt_pointer:",
    ".word 31",
    ".long early_gdt - {image}",
    "trampoline_end:",
    ".code64",
    ".section .rodata.boot, \"a\"",
    ".balign 8",
    "early_gdt:",
    ".quad 0",
    ".quad 0x00af9b000000ffff", // 0x08: 64-bit code
    ".quad 0x00cf93000000ffff", // 0x10: data
    ".quad 0x00cf9b000000ffff", // 0x18: 32-bit code
    "early_gdt_pointer:",
    ".word 31",
    ".long early_gdt - {image}",
    "early_gdt_pointer_high:",
    ".word 31",
    ".quad early_gdt",
    "no_long_mode_text:",
    ".asciz \"anos: this processor has no 64-bit mode, or can't protect memory from execution\\r\\n\"",
    ".section .bss.boot, \"aw\", @nobits",
    ".balign 4096",
    ".global early_root",
    "early_root: .skip 4096",
    "early_level3: .skip 4096",
    "early_level3_high: .skip 4096",
    "early_level2: .skip 4 * 4096",
    // The boot core's stack until the root server runs; the page below it is not mapped in the final tables.
    ".global early_stack_guard",
    ".global early_stack",
    ".global early_stack_top",
    "early_stack_guard: .skip 4096",
    "early_stack: .skip 32768",
    "early_stack_top:",
    ".text",
    image = const IMAGE,
    trampoline = const TRAMPOLINE,
    boot = sym crate::boot::main,
    core_main = sym crate::smp::core_main,
    kernel_root = sym crate::tables::KERNEL_ROOT,
    next_core = sym crate::smp::NEXT_CORE,
    options(att_syntax)
);
