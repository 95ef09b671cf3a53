//! What the code alone doesn't say: where the processor enters the kernel, and on which stack.

use crate::target::Architecture;

/// How large a stack is; the kernel's symbols say it.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    /// The symbol's value.
    Value(&'static str),
    /// From one symbol to the other.
    Between(&'static str, &'static str),
}

/// A stack.
#[derive(Debug)]
pub struct Stack {
    /// What people call it.
    pub name: &'static str,
    /// How large it is.
    pub size: Size,
}

/// A function that starts on an empty stack, or that the processor puts on top of what is there.
#[derive(Debug)]
pub struct Root {
    /// When that happens.
    pub when: &'static str,
    /// The function, or label.
    pub function: &'static str,
    /// If the label stands in front of many entries: where they are, for so many bytes of code.
    pub entries: fn(u64) -> Vec<u64>,
    /// Bytes on the stack at its first instruction.
    pub pushed: i64,
    /// The stack.
    pub stack: &'static Stack,
    /// It comes on top of the deepest of the stack's other roots.
    pub on_top: bool,
}

/// A call or jump that goes through a register, in assembly.
#[derive(Debug)]
pub struct Indirect {
    /// The label.
    pub label: &'static str,
    /// Why that is right.
    pub reason: &'static str,
}

/// What is known about a port.
#[derive(Debug)]
pub struct Known {
    /// Labels of data among the code, and of code for other modes of the processor, which has no calls.
    pub skipped: &'static [&'static str],
    /// Where stacks begin.
    pub roots: &'static [Root],
    /// The only indirect calls and jumps, but for jump tables inside a function.
    pub indirect: &'static [Indirect],
}

/// What is known about an architecture's port.
pub fn known(architecture: Architecture) -> &'static Known {
    match architecture {
        Architecture::X86_64 => &X86_64,
        Architecture::Riscv64 => &RISCV64,
    }
}

const fn root(when: &'static str, function: &'static str, stack: &'static Stack) -> Root {
    Root { when, function, entries: |_| Vec::new(), pushed: 0, stack, on_top: false }
}

/// Words that a trap pushes (SDM 3A, 6.14.2): five, and for some an error code, instead of which the others' stubs push
/// a zero. The vector comes on top.
const TRAP: i64 = 5 * 8;
const ERROR_AND_VECTOR: i64 = 2 * 8;
/// A trap in kernel mode first rounds the stack pointer down to a multiple of 16 bytes.
const ROUNDED: i64 = 8;

/// Stubs of x86-64: 32 of 9 bytes for exceptions, then groups of 32 for interrupts, with 4 bytes each and 8 for all.
fn x86_stubs(bytes: u64) -> Vec<u64> {
    let interrupts = (32 * 9..bytes).step_by(32 * 4 + 8).flat_map(|group| (group..group + 32 * 4).step_by(4));
    (0..32 * 9).step_by(9).chain(interrupts).filter(|entry| *entry < bytes).collect()
}

static X86_KERNEL: Stack = Stack { name: "each core's stack", size: Size::Value("kernel_stack_bytes") };
static X86_EXCEPTION: Stack =
    Stack { name: "NMI stack, double fault stack", size: Size::Value("exception_stack_bytes") };
static X86_BOOT: Stack = Stack { name: "boot stack", size: Size::Between("early_stack", "early_stack_top") };

static X86_64: Known = Known {
    skipped: &["pvh_start", "core_entry32", "long_mode", "no_long_mode"],
    roots: &[
        root("boot", "anos_x86_64::boot::main", &X86_BOOT),
        Root {
            pushed: TRAP + ERROR_AND_VECTOR + ROUNDED,
            on_top: true,
            ..root("fault while booting", "trap_in_kernel", &X86_BOOT)
        },
        root("another core starts", "anos_x86_64::smp::core_main", &X86_KERNEL),
        root("first event", "anos_x86_64::traps::first_event", &X86_KERNEL),
        root("way to user mode", "leave_kernel", &X86_KERNEL),
        root("system call", "anos_x86_64::traps::system_call", &X86_KERNEL),
        root("system call, the general way", "anos_x86_64::traps::go_on", &X86_KERNEL),
        Root { entries: x86_stubs, pushed: TRAP, ..root("trap from user mode", "trap_stubs", &X86_KERNEL) },
        Root {
            pushed: TRAP + ERROR_AND_VECTOR + ROUNDED,
            on_top: true,
            ..root("interrupt while waiting, kernel fault", "trap_in_kernel", &X86_KERNEL)
        },
        Root { pushed: TRAP + ERROR_AND_VECTOR, ..root("NMI, double fault", "trap_in_kernel", &X86_EXCEPTION) },
    ],
    indirect: &[Indirect {
        label: "long_mode64",
        reason: "from where the image is loaded to where it is linked: farther than a direct jump reaches",
    }],
};

static RISCV_KERNEL: Stack = Stack { name: "each hart's stack", size: Size::Value("kernel_stack_bytes") };
static RISCV_BOOT: Stack = Stack { name: "boot stack", size: Size::Between("boot_stack", "boot_stack_top") };
static RISCV_CRASH: Stack = Stack { name: "crash stack", size: Size::Between("crash_stack", "crash_stack_top") };

static RISCV64: Known = Known {
    skipped: &["link_address"],
    roots: &[
        root("boot, first stack", "anos_riscv64::boot::boot_early", &RISCV_BOOT),
        root("boot", "anos_riscv64::boot::boot_late", &RISCV_KERNEL),
        root("another hart starts", "anos_riscv64::harts::started", &RISCV_KERNEL),
        root("system call", "anos_riscv64::traps::system_call", &RISCV_KERNEL),
        root("trap from user mode", "other_trap", &RISCV_KERNEL),
        root("fault in the kernel", "anos_riscv64::report::kernel_fault", &RISCV_CRASH),
        root("fault in the report of one", "anos_riscv64::report::fault_in_report", &RISCV_CRASH),
    ],
    indirect: &[],
};
