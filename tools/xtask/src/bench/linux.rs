//! The baseline: Debian's Linux for the same architecture, in the same emulator with the same flags.
//!
//! What runs there is one program of ours (`tests/linux`), in a file system in memory. It measures what Linux has that is
//! like our figures, says so line by line as `tests/bench` does, and powers off.
//!
//! - [`package`]: the kernel, from Debian's archive; [`mirror`]: where that is; [`initramfs`]: the file system in memory.

mod initramfs;
mod mirror;
mod package;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Run;
use super::figures::Figure;
use crate::build::{self, Voice};
use crate::cli::MachineOptions;
use crate::guest::Guest;
use crate::progress::Spinner;
use crate::qemu::{self, OnReset};
use crate::target::{Architecture, cores_shown};
use crate::test::test_machine;
use crate::workspace::Workspace;

pub use package::kernel;

/// What all of Linux's figures have in front of their names.
pub const NAMES: &str = "linux/";

/// Linux's figures, and which of ours is for the same purpose.
pub const LIKE_OURS: [(&str, &str); 8] = [
    ("linux/null_call", "kernel/null_call"),
    ("linux/pipe_round_trip", "ipc/round_trip/inter/w0"),
    ("linux/socket_round_trip", "ipc/round_trip/inter/w0"),
    ("linux/eventfd_write", "notify/signal_idle"),
    ("linux/sched_yield", "sched/yield_switch"),
    ("linux/page_fault", "fault/round_trip"),
    ("linux/fork_exit_wait", "process/create_to_main"),
    ("linux/fork_exec_exit_wait", "process/create_to_main"),
];

/// One core: with more, the scheduler would choose who runs where, and measure that.
const CORES: u32 = 1;
/// Linux at its fastest, and the same in every run: what it does against faults of processors and against attackers who
/// know addresses is off. After a panic it restarts at once, which ends QEMU.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=0 mitigations=off nokaslr norandmaps panic=-1 rdinit=/init";
/// How long Linux may take to boot, or the program for one figure.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the rest of a line may take.
const LINE_PATIENCE: Duration = Duration::from_secs(10);
/// What the program's lines start with.
const MARK: &str = "baseline: ";
/// What Linux says when it can't go on.
const PANIC: &str = "Kernel panic";

/// Linux's figures that are kept with the sources.
pub fn kept(root: &Path) -> PathBuf {
    root.join("tests/bench/linux.json")
}

/// Ours with the same purpose.
pub fn like_ours(name: &str) -> Option<&'static str> {
    LIKE_OURS.iter().find(|(linux, _)| *linux == name).map(|(_, ours)| *ours)
}

/// Whether a filter lets a figure of Linux through: by its own name, or that of ours.
fn wanted(figure: &Figure, filter: Option<&str>) -> bool {
    let Some(filter) = filter else { return true };
    figure.name.contains(filter) || like_ours(&figure.name).is_some_and(|ours| ours.contains(filter))
}

/// Boots Linux and listens.
pub fn measure(workspace: &Workspace, architecture: Architecture, kernel: &Path, filter: Option<&str>) -> Result<Run> {
    let name = format!("Linux for {}, {}", architecture.name(), cores_shown(CORES));
    let program = build::linux_program(workspace, architecture, Voice::Quiet)?;
    let program = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let files = kernel.with_file_name("initramfs.cpio");
    fs::write(&files, initramfs::with_init(&program)?).with_context(|| format!("cannot write {}", files.display()))?;
    let usual = test_machine(architecture.machines()[0], CORES);
    let machine = MachineOptions { append: Some(COMMAND_LINE.into()), icount: true, ..usual };
    let mut command = qemu::command(architecture, &machine, kernel, OnReset::Exit)?;
    command.arg("-initrd").arg(&files).args(["-serial", "stdio", "-monitor", "none"]);
    let spinner = Spinner::new("Measuring", &name);
    let mut run = listen(Guest::start(command, None, "")?, architecture, |figure| {
        spinner.tell(&format!("{name}: {figure}"));
    })?;
    run.figures.retain(|figure| wanted(figure, filter));
    Ok(run)
}

/// Collects what the program says.
fn listen(mut guest: Guest, architecture: Architecture, tell: impl Fn(&str)) -> Result<Run> {
    let mut run = Run { figures: Vec::new(), failures: Vec::new() };
    let mut release = None;
    loop {
        let (which, _) = guest.expect_any(&[MARK, PANIC], PATIENCE)?;
        let line = guest.expect("\n", LINE_PATIENCE)?.trim_end().to_string();
        if which == 1 {
            bail!("{}", guest.report(&format!("Linux stopped: {PANIC}{line}")));
        }
        match Said::parse(&line, architecture).with_context(|| format!("{MARK}{line}"))? {
            Said::Kernel(name) => release = Some(format!("Linux {name}")),
            Said::Figure(figure) => {
                tell(&figure.name);
                ensure!(release.is_some(), "{}", guest.report("Linux didn't say which it is"));
                run.figures.push(Figure { kernel: release.clone(), ..figure });
            }
            Said::Failed(what) => run.failures.push(format!("Linux for {}: {what}", architecture.name())),
            Said::End { measured, failed } => {
                guest.expect_end()?;
                let counted = (run.figures.len(), run.failures.len());
                let wrong = || guest.report(&format!("Linux counts {measured} and {failed}, but said {counted:?}"));
                ensure!((measured, failed) == counted, "{}", wrong());
                return Ok(run);
            }
        }
    }
}

/// A line of the program.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Which Linux it runs on.
    Kernel(String),
    /// What something costs.
    Figure(Figure),
    /// What could not be measured, and why.
    Failed(String),
    /// All is done: so many figures, so many failures.
    End { measured: usize, failed: usize },
}

impl Said {
    /// From a line without its mark.
    fn parse(line: &str, architecture: Architecture) -> Result<Said> {
        if let Some(release) = line.strip_prefix("kernel ") {
            return Ok(Said::Kernel(release.to_string()));
        }
        if let Some(what) = line.strip_prefix("FAILED ") {
            return Ok(Said::Failed(what.to_string()));
        }
        if let Some(figure) = line.strip_prefix("figure ") {
            let figure = Figure::parse(figure, architecture, CORES)?;
            ensure!(like_ours(&figure.name).is_some(), "{} is like none of ours", figure.name);
            return Ok(Said::Figure(figure));
        }
        let counts = line.strip_suffix(" failed").and_then(|counts| counts.split_once(" measured, "));
        let (measured, failed) = counts.context("not a line of the program")?;
        Ok(Said::End { measured: measured.parse()?, failed: failed.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn said_by(script: &str) -> Result<Run> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        listen(Guest::start(command, None, "").expect("sh starts"), Architecture::X86_64, |_| {})
    }

    #[test]
    fn what_linux_says_becomes_figures_with_its_release() {
        let run = said_by(
            "echo '[ 0.1] noise'; echo 'baseline: kernel 6.1.0-9-amd64'
             echo 'baseline: figure linux/null_call instructions 1 2 3 1000'
             echo 'baseline: FAILED linux/page_fault: mmap answers error 12'; echo 'baseline: 1 measured, 1 failed'",
        );
        let run = run.expect("well said");
        let [figure] = run.figures.as_slice() else { panic!("one figure, not {}", run.figures.len()) };
        assert_eq!((figure.name.as_str(), figure.median), ("linux/null_call", 2));
        assert_eq!(figure.kernel.as_deref(), Some("Linux 6.1.0-9-amd64"));
        assert_eq!(run.failures, ["Linux for x86_64: linux/page_fault: mmap answers error 12"]);
    }

    #[test]
    fn a_linux_that_stops_or_miscounts_is_an_error_that_says_so() {
        let stops = "echo '[ 1.5] Kernel panic - not syncing: VFS: no root'; sleep 1";
        for (script, expected) in [
            (stops, "Linux stopped: Kernel panic - not syncing: VFS: no root"),
            ("echo 'baseline: 1 measured, 0 failed'", "Linux counts 1 and 0, but said (0, 0)"),
            ("echo 'baseline: figure linux/null_call instructions 1 2 3 9'", "Linux didn't say which it is"),
            ("echo 'baseline: kernel x'", "QEMU ended before the guest said"),
        ] {
            let error = said_by(script).err().expect("not a good run").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_none_of_the_program() {
        for wrong in ["", "figure", "figure linux/other instructions 1 2 3 9", "x measured, 0 failed", "1 measured"] {
            assert!(Said::parse(wrong, Architecture::Riscv64).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_filter_knows_both_names() {
        let figure = Figure::parse("linux/pipe_round_trip instructions 1 2 3 9", Architecture::Riscv64, 1);
        let figure = figure.expect("well formed");
        for (filter, through) in [(None, true), (Some("pipe"), true), (Some("ipc/"), true), (Some("irq/"), false)] {
            assert_eq!(wanted(&figure, filter), through, "{filter:?}");
        }
    }
}
