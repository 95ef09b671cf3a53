//! Copying and filling memory, which the compiler calls by these names. Its own library has both too, in six times the
//! code; where it is fast so are these, on whole words.

use core::arch::global_asm;

global_asm!(
    // Copies a2 bytes from a1 to a0, which do not overlap; answers a0.
    ".section .text",
    ".globl memcpy",
    ".type memcpy, @function",
    "memcpy:",
    "mv a4, a0",
    "add a2, a2, a0",
    "or a3, a0, a1",
    "andi a3, a3, 7",
    "bnez a3, 2f",
    "andi a5, a2, -8",
    "beq a4, a5, 2f",
    "1: ld a3, 0(a1)",
    "sd a3, 0(a4)",
    "addi a1, a1, 8",
    "addi a4, a4, 8",
    "bne a4, a5, 1b",
    "2: beq a4, a2, 3f",
    "lbu a3, 0(a1)",
    "sb a3, 0(a4)",
    "addi a1, a1, 1",
    "addi a4, a4, 1",
    "j 2b",
    "3: ret",
    ".size memcpy, . - memcpy",
    // Sets a2 bytes from a0 on to the lowest byte of a1; answers a0.
    ".globl memset",
    ".type memset, @function",
    "memset:",
    "mv a4, a0",
    "add a2, a2, a0",
    // Words of zeros only: that is what much is filled with.
    "andi a3, a0, 7",
    "or a3, a3, a1",
    "bnez a3, 2f",
    "andi a5, a2, -8",
    "beq a4, a5, 2f",
    "1: sd zero, 0(a4)",
    "addi a4, a4, 8",
    "bne a4, a5, 1b",
    "2: beq a4, a2, 3f",
    "sb a1, 0(a4)",
    "addi a4, a4, 1",
    "j 2b",
    "3: ret",
    ".size memset, . - memset",
);
