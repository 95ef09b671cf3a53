//! Ways to go wrong.

use anos::{env, println};

use crate::arch;

/// Name, what it does, and the deed.
const WAYS: &[(&str, &str, fn())] = &[
    ("null", "reads from address 0", || arch::load(0)),
    ("illegal", "executes an illegal instruction", arch::illegal),
    ("stack", "overflows its stack", || {
        descend(0);
    }),
    ("kernel", "jumps into kernel space", || arch::jump(KERNEL)),
    ("kernel-read", "reads from kernel space", || arch::load(KERNEL)),
    ("text", "writes to its own code", || arch::store(anos::interfaces::start::PROGRAM_ADDRESS)),
    ("data", "executes its own data", || arch::jump(&raw const DATA as u64)),
    ("privileged", "executes a privileged instruction", arch::privileged),
    ("divide", "divides by zero (no fault on RISC-V, where the result is defined)", arch::divide),
    ("panic", "panics (an orderly end, with code 101)", || panic!("as you wished")),
];

/// The lowest address that is the kernel's on both architectures, whatever the number of page-table levels.
const KERNEL: u64 = 0xffff_ffff_8000_0000;

/// Something in the data segment.
static DATA: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Goes wrong, or lists the ways to.
pub fn main() -> u64 {
    let Some(wanted) = env::args().next() else {
        println!("Ways to crash:");
        for (name, meaning, _) in WAYS {
            println!("  run crash {name:12}{meaning}");
        }
        return 0;
    };
    match WAYS.iter().find(|(name, ..)| *name == wanted) {
        Some((_, _, deed)) => {
            deed();
            println!("crash: '{wanted}' did not fault");
            1
        }
        None => {
            println!("crash: no way to crash is called '{wanted}'; without an argument, all are listed");
            2
        }
    }
}

/// Uses more stack with every call. The value comes back, so that no call can be the last thing that a call does.
#[inline(never)]
#[expect(unconditional_recursion, reason = "overflowing the stack is the point")]
fn descend(depth: u64) -> u64 {
    let page = core::hint::black_box([depth; 128]);
    descend(depth + 1) + page.iter().sum::<u64>()
}
