//! From the kernel's first instruction to the root server's: counted by a debugger, since nobody else is there so early.
//!
//! It stops the guest at both, and each time has it read its counter by an instruction put in the way.

use anyhow::{Context, Result, ensure};

use super::figures::Figure;
use crate::build::Products;
use crate::cli::MachineOptions;
use crate::elf::{Executable, Segment};
use crate::gdb::Debugger;
use crate::guest::Guest;
use crate::qemu::{self, OnReset};
use crate::target::Architecture;

/// The figure's name.
pub const NAME: &str = "boot/root";

/// What the debugger must know of an architecture.
struct Way {
    /// The instruction that reads the counter.
    read: &'static [u8],
    /// GDB's numbers of the registers that it changes, that with the low bits first.
    results: &'static [u32],
    /// Bits in each of these.
    bits: u32,
    /// GDB's number of the program counter.
    program_counter: u32,
}

const fn way(architecture: Architecture) -> Way {
    match architecture {
        // rdtsc
        Architecture::X86_64 => Way { read: &[0x0f, 0x31], results: &[0, 3], bits: 32, program_counter: 16 },
        // rdcycle t0
        Architecture::Riscv64 => Way { read: &[0xf3, 0x22, 0x00, 0xc0], results: &[5], bits: 64, program_counter: 32 },
    }
}

/// How often to boot. It is nearly the same each time: waits for other clocks than the counter end when they end.
const BOOTS: usize = 3;

/// Boots a few times.
pub fn measure(products: &Products, architecture: Architecture, machine: &MachineOptions) -> Result<Figure> {
    let boots = (0..BOOTS).map(|_| boot(products, architecture, machine)).collect::<Result<Vec<u64>>>()?;
    Figure::of_few(NAME, architecture, machine.cores, boots)
}

/// Boots with a debugger.
fn boot(products: &Products, architecture: Architecture, machine: &MachineOptions) -> Result<u64> {
    let mut command = qemu::command(architecture, machine, &products.image, OnReset::Exit)?;
    command.args(["-serial", "stdio", "-monitor", "none"]);
    let mut debugger = Debugger::attach(&mut command)?;
    let _guest = Guest::start(command, None, "")?;
    let way = way(architecture);
    let start = counter_at(&mut debugger, &way, physical_entry(&Executable::read(&products.kernel)?)?)?;
    let root = products.kernel.with_file_name("programs").join("anos-bench.elf");
    let end = counter_at(&mut debugger, &way, Executable::read(&root)?.entry)?;
    ensure!(end > start, "the counter stands still");
    // The second reading counts itself.
    Ok(end - start - 1)
}

/// Where an executable starts, as a physical address.
fn physical_entry(executable: &Executable) -> Result<u64> {
    let inside =
        |segment: &&Segment| (segment.address..segment.address + segment.memory_bytes).contains(&executable.entry);
    let first = executable.loaded().find(inside).context("the kernel starts outside its segments")?;
    Ok(executable.entry - first.address + first.physical)
}

/// Lets the guest run to an address, and says what its counter is there.
fn counter_at(debugger: &mut Debugger, way: &Way, address: u64) -> Result<u64> {
    debugger.run_to(address)?;
    let saved = way.results.iter().map(|&number| debugger.register(number)).collect::<Result<Vec<_>>>()?;
    let instruction = debugger.read_memory(address, way.read.len())?;
    debugger.write_memory(address, way.read)?;
    debugger.step()?;
    let mut counter = 0;
    for (&number, half) in way.results.iter().zip(0..) {
        counter |= debugger.register(number)? << (half * way.bits);
    }
    debugger.write_memory(address, &instruction)?;
    for (&number, value) in way.results.iter().zip(saved) {
        debugger.set_register(number, value)?;
    }
    debugger.set_register(way.program_counter, address)?;
    Ok(counter)
}
