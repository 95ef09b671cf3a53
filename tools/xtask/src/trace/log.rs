//! QEMU's log of what it executes (`-d exec,nochain,in_asm` with `singlestep`): one line for each instruction, and in front of
//! the first time another one with what it is.
//!
//! A line is written before the instruction is executed. Two others say that it was not: an interrupt came first, or the
//! instruction reaches a device and is begun anew.

use anyhow::{Context, Result, ensure};

/// What a line starts with that says which instruction comes.
const COMES: &str = "Trace ";
/// What came was not executed: an interrupt came first.
const STOPPED: &str = "Stopped execution of TB chain before ";
/// What came was not executed, and comes again.
const BEGUN_ANEW: &str = "cpu_io_recompile: rewound execution of TB to ";

/// The addresses of the instructions that were executed, in their order.
pub fn executed(log: &str) -> Result<Vec<u64>> {
    let mut addresses: Vec<u64> = Vec::new();
    for line in log.lines() {
        if line.starts_with(COMES) {
            addresses.push(coming(line).with_context(|| format!("QEMU's log says {line:?}"))?);
        } else if line.starts_with(STOPPED) {
            take_back(&mut addresses, between(line, '[', ']'), line)?;
        } else if let Some(address) = line.strip_prefix(BEGUN_ANEW) {
            take_back(&mut addresses, Some(address), line)?;
        }
    }
    Ok(addresses)
}

/// The address in a line like `Trace 0: 0x7f0258000840 [0000000000000000/00000008000004c0/18c0cab3/ff020201] `.
fn coming(line: &str) -> Option<u64> {
    number(between(line, '[', ']')?.split('/').nth(1)?)
}

/// Instructions in words, with their addresses, of those that are executed for the first time.
pub fn disassembled(log: &str) -> impl Iterator<Item = (u64, String)> {
    log.lines().filter_map(disassembly)
}

/// A line like `0xffffffff80200040:  48 89 e5                 movq     %rsp, %rbp`. The bytes that a long instruction has
/// behind those in its line stand in another, without words.
fn disassembly(line: &str) -> Option<(u64, String)> {
    let (address, rest) = line.strip_prefix("0x")?.split_once(": ")?;
    let (_, text) = rest.trim_start().split_once("  ")?;
    let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some((number(address)?, text))
}

fn between(line: &str, open: char, close: char) -> Option<&str> {
    Some(line.split_once(open)?.1.split_once(close)?.0)
}

fn number(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits.trim(), 16).ok()
}

/// What came last did not happen.
fn take_back(addresses: &mut Vec<u64>, address: Option<&str>, line: &str) -> Result<()> {
    let last = addresses.pop();
    ensure!(last.is_some() && last == address.and_then(number), "QEMU's log says {line:?}, but {last:x?} came last");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_instruction_unless_the_next_takes_it_back() {
        let log = "Trace 0: 0x7f25 [0000000000000000/00000008000004be/18c0cab3/ff020201] \n\
                   Trace 0: 0x7f26 [0000000000000000/00000008000004c0/18c0cab3/ff020201] \n\
                   cpu_io_recompile: rewound execution of TB to 00000008000004c0\n\
                   Trace 0: 0x7f27 [0000000000000000/00000008000004c0/18c0cab3/ff038201] \n\
                   Trace 0: 0x7f28 [0000000000000000/00000008000004c2/18c0cab3/ff020201] bench\n\
                   Stopped execution of TB chain before 0x7f28 [00000008000004c2] bench\n\
                   Trace 0: 0x7f29 [0000000000000000/ffffffff80200040/18c0ca90/ff020201] entry\n";
        assert_eq!(executed(log).expect("well formed"), [0x8_0000_04be, 0x8_0000_04c0, 0xffff_ffff_8020_0040]);
    }

    #[test]
    fn a_repeated_instruction_counts_each_time() {
        let line = "Trace 0: 0x7f25 [0000000000000000/ffffffff80205824/18c0ca90/ff020201] \n";
        assert_eq!(executed(&line.repeat(3)).expect("well formed"), [0xffff_ffff_8020_5824; 3]);
    }

    #[test]
    fn instructions_have_words_once() {
        let log = "----------------\nIN: \n\
                   0xffffffff80201000:  48 89 e5                 movq     %rsp, %rbp\n\n\
                   Trace 0: 0x7f25 [0000000000000000/ffffffff80201000/18c0cab3/ff020201] \n\
                   IN: \nPriv: 1; Virt: 0\n\
                   0xffffffff80201004:  0d650963          beq                     a0,s6,210               # 0xffffffff802010d6\n\
                   0xffffffff80201008:  48 c7 84 24 80 00 00 00  movq     $1, 0x80(%rsp)\n\
                   0xffffffff80201010:  01 00 00 00\n";
        let words: Vec<_> = disassembled(log).collect();
        let expected = [
            (0xffff_ffff_8020_1000, "movq %rsp, %rbp"),
            (0xffff_ffff_8020_1004, "beq a0,s6,210 # 0xffffffff802010d6"),
            (0xffff_ffff_8020_1008, "movq $1, 0x80(%rsp)"),
        ];
        assert_eq!(words, expected.map(|(address, text)| (address, text.to_owned())));
        assert_eq!(executed(log).expect("well formed"), [0xffff_ffff_8020_1000]);
    }

    #[test]
    fn what_takes_back_something_else_is_an_error() {
        assert!(executed("cpu_io_recompile: rewound execution of TB to 00000008000004c0\n").is_err());
        let log = "Trace 0: 0x7f25 [0/10/0/0] \nStopped execution of TB chain before 0x7f26 [20] \n";
        assert!(executed(log).is_err());
        assert!(executed("Trace 0: no address\n").is_err());
    }
}
