//! From the kernel's first instruction to the root server's, and to the shell's first prompt.
//!
//! No program is there early enough to measure that. The plugin in `tools/probe` counts: every instruction, of kernel,
//! programs and firmware. Nothing waits on the way (if it does, that is an error), so that the machine's time is as many
//! nanoseconds.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::figures::Figure;
use crate::build::{self, Products, Voice};
use crate::cli::MachineOptions;
use crate::elf::{Executable, Segment};
use crate::guest::Guest;
use crate::probe;
use crate::qemu::{self, OnReset};
use crate::shell::PROMPT as SHOWN_PROMPT;
use crate::target::{Architecture, Profile};
use crate::test::test_machine;
use crate::workspace::Workspace;

/// The figure that ends before the root server's first instruction.
pub const ROOT: &str = "boot/root";
/// The figure that ends with the prompt's last byte, written to the serial port.
pub const PROMPT: &str = "boot/prompt";
/// The system that has a prompt.
const SYSTEM: &str = "default";
/// How often to boot, to see that it is the same each time.
const BOOTS: usize = 3;
/// How long a boot may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The root server is the one that measures everything else.
pub fn root(
    workspace: &Workspace,
    products: &Products,
    architecture: Architecture,
    machine: &MachineOptions,
) -> Result<Figure> {
    let plugin = probe::build(workspace)?;
    let entry = Executable::read(&products.kernel.with_file_name("programs").join("anos-bench.elf"))?.entry;
    let report = workspace.target.join(format!("boot-{}.txt", architecture.name()));
    let counts = (0..BOOTS).map(|_| {
        forget(&report)?;
        let mut command = qemu::command(architecture, machine, &products.image, OnReset::Exit)?;
        probe::attach(&mut command, &plugin, &report, &arguments(products, format!("to={entry:#x}"))?)?;
        command.args(["-serial", "stdio", "-monitor", "none"]);
        count(&Guest::start(command, None, "")?, &report)
    });
    Figure::of_few(ROOT, architecture, machine.cores, counts.collect::<Result<_>>()?)
}

/// The system is the one that `cargo xtask run` boots.
pub fn prompt(workspace: &Workspace, architecture: Architecture) -> Result<Figure> {
    let products = build::build(workspace, architecture, Profile::Release, SYSTEM, Voice::Quiet)?;
    let plugin = probe::build(workspace)?;
    let machine = MachineOptions { icount: true, ..test_machine(architecture.machines()[0], 1) };
    let file = |what: &str| workspace.target.join(format!("{what}-{}.txt", architecture.name()));
    let (report, said) = (file("boot"), file("said"));
    let counts = (0..BOOTS).map(|_| {
        // QEMU adds to that file: a former run's prompt must not be in it.
        [&report, &said].into_iter().try_for_each(|file| forget(file))?;
        let mut command = qemu::command(architecture, &machine, &products.image, OnReset::Exit)?;
        let mut arguments = arguments(&products, format!("text={SHOWN_PROMPT}"))?;
        arguments.push(format!("said={}", said.display()));
        probe::attach(&mut command, &plugin, &report, &arguments)?;
        command.args(["-chardev", &format!("stdio,id=line,signal=off,logfile={}", said.display())]);
        command.args(["-serial", "chardev:line", "-monitor", "none"]);
        let mut guest = Guest::start(command, None, "")?;
        guest.expect(SHOWN_PROMPT, PATIENCE)?;
        count(&guest, &report)
    });
    Figure::of_few(PROMPT, architecture, machine.cores, counts.collect::<Result<_>>()?)
}

/// Empties a file of a former run.
fn forget(file: &Path) -> Result<()> {
    fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))
}

/// What the plugin shall count: from the kernel's first instruction to what is said here.
fn arguments(products: &Products, end: String) -> Result<Vec<String>> {
    let from = physical_entry(&Executable::read(&products.kernel)?)?;
    Ok(vec!["mode=count".into(), format!("from={from:#x}"), end])
}

/// Where an executable starts, as a physical address.
fn physical_entry(executable: &Executable) -> Result<u64> {
    let inside =
        |segment: &&Segment| (segment.address..segment.address + segment.memory_bytes).contains(&executable.entry);
    let first = executable.loaded().find(inside).context("the kernel starts outside its segments")?;
    Ok(executable.entry - first.address + first.physical)
}

/// Waits until the plugin has counted.
fn count(guest: &Guest, report: &Path) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
        if text.ends_with('\n') {
            let (instructions, waits) = read(&text)?;
            ensure!(waits == 0, "{}", guest.report(&format!("the machine waits {waits} times on the way")));
            return Ok(instructions);
        }
        ensure!(Instant::now() < deadline, "{}", guest.report("the guest did not come so far"));
        sleep(Duration::from_millis(10));
    }
}

/// Instructions, and how many of them waited, from the plugin's report.
fn read(report: &str) -> Result<(u64, u64)> {
    let numbers = report.trim_end().strip_prefix("counted ").and_then(|rest| rest.split_once(" waits "));
    let (instructions, waits) = numbers.with_context(|| format!("the plugin writes {report:?}"))?;
    Ok((instructions.parse()?, waits.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_s_report_has_two_numbers() {
        assert_eq!(read("counted 2629500 waits 3\n").expect("well formed"), (2_629_500, 3));
        for wrong in ["", "counted 1\n", "counted x waits 0\n", "visit 1 waits 0\n"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
