//! A plugin for QEMU (its TCG plugin interface, version 1) that watches the release kernel, which knows nothing of it:
//!
//! ```text
//! qemu-system-ARCH ... -plugin target/release/libanos_probe.so,mode=visits,output=FILE
//! ```
//!
//! A *visit* goes from the first instruction that a core executes in the kernel to the last before it executes one of a
//! program, or waits (`hlt`, `wfi`): so long its interrupts stay off. Where it returns to a program, but is interrupted
//! before any of the program's instructions, one visit ends and another begins. The kernel is the upper half of the addresses, and
//! the firmware where it says so. Iterations of one instruction (`rep`) count one each, as they do under `-icount`.
//!
//! A program tells the plugin something by a *mark*: an instruction that does nothing else, and has a number.
//!
//! | | instruction | numbers |
//! |---|---|---|
//! | x86-64 | `nop dword ptr [rax + 0x414e0000 + NUMBER]` (seven bytes: `0f 1f 80` and the displacement) | 0 to 65535 |
//! | RISC-V | `slti x0, x0, NUMBER` (not compressed) | 0 to 2047 |
//!
//! # Arguments
//!
//! | argument | mode | meaning |
//! |---|---|---|
//! | `mode=visits`, `mode=lines` or `mode=count` | | see below |
//! | `output=FILE` | all | where to write; emptied first |
//! | `firmware=START:END` | visits, lines | addresses that count as kernel while a visit goes on (as `0x...`) |
//! | `passes=START:END` | visits | a part of the kernel to be told apart; up to 64 times, the first is bit 0 |
//! | `most=N` | visits | how many kinds of visits to write, the longest; 10 if nothing is said |
//! | `start=N`, `stop=N` | lines | the marks between which to watch; 1 and 2 if nothing is said |
//! | `turn=N` | lines | see below |
//! | `from=ADDRESS` | count | the first instruction that counts (as `0x...`) |
//! | `to=ADDRESS` | count | the first one that counts no more |
//! | `text=TEXT` | count | the text up to which to count; without a comma |
//! | `said=FILE` | count | the file to which QEMU writes what the machine says, byte by byte |
//!
//! # Visits
//!
//! Counts from the first mark on. Visits are of one *kind* if the core's last mark, the address at which they entered
//! the kernel, and the parts that they passed are the same. When the emulator ends, the longest of each of the longest
//! kinds is written, the longest first:
//!
//! ```text
//! visit 1234 mark 17 entry 0xffffffff80001000 passed 0x5 core 0 marks 9001 count 12
//! at 0xffffffff80001000 1 23
//! at 0xffffffff80001044 512 4096
//! total 123456
//! ```
//!
//! `visit` says instructions; `marks` how many marks all cores had passed; `count` how many visits of the kind there
//! were. Each `at` is a block of code of that visit: its address, how often it was executed, instructions in all. `total`
//! says how many visits were counted.
//!
//! # Lines
//!
//! From each `start` to the next `stop` it notes which lines of 64 bytes the kernel writes, in physical memory, and
//! writes for each such window:
//!
//! ```text
//! window 1 visits 1000 1000 writes 40000 40000
//! line 0x1fe0040 virtual 0xffff8000001fe040 writes 1000 1000 atomics 500 500 at 0xffffffff80001000 0xffffffff80001044
//! end
//! ```
//!
//! Numbers of one kind stand in the order of the cores. `visits` are those that began in the window. A `line` is written
//! by more than one core; `atomics` are those of its writes that are atomic instructions (a `lock` prefix, `xchg`, `amo*`,
//! `lr` and `sc`), and each `at` is the address of an instruction that wrote (eight of them at most). Devices are no
//! memory.
//!
//! # Turns
//!
//! Under `-icount` one thread of the host runs all cores in turn. With `turn=N` a turn ends after that many instructions.
//! Otherwise it lasts until the next timer of the machine, even if that is very soon all the time: then QEMU 7.2 now and
//! then leaves the next core no instructions at all, for ever, whatever interrupt waits there (QEMU 8.1 shares them out).
//!
//! # Count
//!
//! Counts instructions, of kernel, programs and firmware, from the one at an address: to the next one at another address, or
//! to the one that writes the last byte of a text to a serial port. QEMU carries out such a write, down to the file that
//! keeps what was said (`-chardev ...,logfile=FILE`), before the next instruction, so the plugin looks into that file behind
//! each write to a device. For one core. Then it writes how many instructions it took, and how many of them waited for an
//! interrupt (where none did, the machine's time under `-icount shift=0` is as many nanoseconds):
//!
//! ```text
//! counted 3456789 waits 0
//! ```
//!
//! - [`arguments`]: what the command line says; [`code`]: what instructions mean; [`turns`]: whose turn ends;
//! - [`visits`], [`lines`] and [`count`]: the three modes; [`cores`]: what each core is doing;
//! - `interface` and `plugin`: QEMU's side, left out of the unit tests, where nobody defines its functions.
#![cfg_attr(test, expect(dead_code, reason = "what QEMU calls is left out"))]

mod arguments;
mod code;
mod cores;
mod count;
#[cfg(not(test))]
mod interface;
mod lines;
#[cfg(not(test))]
mod plugin;
mod turns;
mod visits;
