//! What the kernel says when it fails itself. Since it has no known mistake, a debugger makes one: it stops the guest
//! at its first system call and takes away a pointer that the kernel relies on, or jumps to where a failed check leads.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::build::Products;
use crate::cli::TestOptions;
use crate::gdb::Debugger;
use crate::guest::Guest;
use crate::qemu::{self, OnReset};
use crate::symbols::Symbols;
use crate::tally::Tally;
use crate::target::{Architecture, Machine, Profile};
use crate::test;
use crate::workspace::Workspace;

/// How long the kernel may take to say it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where a sum that doesn't fit leads, in a kernel that checks.
const FAILED_CHECK: &str = "core::panicking::panic_const::panic_const_add_overflow";

/// What the debugger must know of an architecture.
struct Way {
    /// The function that takes system calls; its first argument is a pointer.
    system_call: &'static str,
    /// The assembly that calls it.
    entry: &'static str,
    /// GDB's numbers of the first argument's register and of the program counter.
    first_argument: u32,
    program_counter: u32,
    /// What a read from address 0 is called.
    fault: &'static str,
    /// The start of some memory that is zero.
    zeros: &'static str,
}

const fn way(architecture: Architecture) -> Way {
    match architecture {
        Architecture::X86_64 => Way {
            system_call: "anos_x86_64::traps::system_call",
            entry: "system_call_entry",
            first_argument: 5,
            program_counter: 16,
            fault: "page fault",
            zeros: "early_stack",
        },
        Architecture::Riscv64 => Way {
            system_call: "anos_riscv64::traps::system_call",
            entry: "trap_entry",
            first_argument: 10,
            program_counter: 32,
            fault: "read of an unmapped address",
            zeros: "crash_registers",
        },
    }
}

/// A fault and a panic of the kernel: each must be told with the functions' names, and the machine must go off.
pub fn tests(workspace: &Workspace, options: &TestOptions, architecture: Architecture, tally: &mut Tally) {
    let Some(products) = test::build_for(workspace, architecture, options.profile, "default", tally) else { return };
    let way = way(architecture);
    for &machine in architecture.machines() {
        let name = format!("a fault of the kernel is told with names on {} {}", architecture.name(), machine.name());
        test::timed(tally, &name, || {
            let (mut guest, mut debugger) = stopped_at_system_call(&products, architecture, machine)?;
            debugger.set_register(way.first_argument, 0)?;
            debugger.let_go()?;
            let words = [
                "kernel fault on core ",
                way.fault,
                "  at 0xffffffff8",
                way.system_call,
                "  from 0xffffffff8",
                way.entry,
            ];
            says_and_ends(&mut guest, &words)
        });
    }
    // Only this profile's kernel has checks that can fail.
    if options.profile == Profile::Test {
        let name = format!("a panic of the kernel is told with names on {}", architecture.name());
        test::timed(tally, &name, || {
            let (mut guest, mut debugger) =
                stopped_at_system_call(&products, architecture, architecture.machines()[0])?;
            // The argument says where in the source the check is: here, in a file without a name.
            debugger.set_register(way.first_argument, address_of(&products, way.zeros)?)?;
            debugger.set_register(way.program_counter, address_of(&products, FAILED_CHECK)?)?;
            debugger.let_go()?;
            let words = [
                "kernel panic on core ",
                "attempt to add with overflow",
                "  from 0xffffffff8",
                FAILED_CHECK,
                way.entry,
            ];
            says_and_ends(&mut guest, &words)
        });
    }
}

/// A guest that has come to its first system call.
fn stopped_at_system_call(
    products: &Products,
    architecture: Architecture,
    machine: Machine,
) -> Result<(Guest, Debugger)> {
    let mut command = qemu::command(architecture, &test::test_machine(machine, 2), &products.image, OnReset::Exit)?;
    command.args(["-serial", "stdio", "-monitor", "none"]);
    let mut debugger = Debugger::attach(&mut command)?;
    let guest = Guest::start(command, Symbols::read(&products.kernel).ok(), "")?;
    debugger.run_to(address_of(products, way(architecture).system_call)?)?;
    Ok((guest, debugger))
}

fn address_of(products: &Products, name: &str) -> Result<u64> {
    Symbols::read(&products.kernel)?.address(name).with_context(|| format!("the kernel has no function {name}"))
}

fn says_and_ends(guest: &mut Guest, words: &[&str]) -> Result<()> {
    for word in words {
        guest.expect(word, PATIENCE)?;
    }
    guest.expect_end()
}
