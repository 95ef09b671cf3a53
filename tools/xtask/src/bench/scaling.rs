//! Clients and servers on several cores at once: locks taken and waited for, lines of memory that more than one core
//! writes, and throughput.
//!
//! What is counted, is counted under `-icount shift=0`, where the emulator runs one core after the other. The plugin in
//! `tools/probe` sees writes, and sees to it that turns are short and fair: left to itself, the emulator ends one when a timer
//! comes, and may then give the next core nothing at all. While all cores wait, the clock jumps to the next deadline
//! (`sleep=off`) rather than as far as the host happens to be late: so a run is the same each time, on whatever host.
//! Throughput is what this host has to offer.

mod picture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::compare::compare;
use super::figures::{self, Figure};
use super::{LINE_PATIENCE, SYSTEM, table};
use crate::build::{self, Products, Voice};
use crate::cli::{BenchOptions, MachineOptions};
use crate::guest::Guest;
use crate::probe;
use crate::progress::{Spinner, fail, say};
use crate::qemu::{self, OnReset};
use crate::target::{Architecture, Profile, cores_shown};
use crate::test::test_machine;
use crate::workspace::Workspace;

/// Cores of the machines on which things are counted.
const CORES: [u32; 4] = [2, 4, 8, 16];
/// Instructions of a core until it is another one's turn. A prime, so as not to fall in step with a loop of calls.
const TURN: u64 = 1999;
/// How long the guest may take for one layout.
const PATIENCE: Duration = Duration::from_secs(60);
/// The layout whose figures are guarded: the others' depend on when cores happen to meet, which each change moves.
const LOCAL: &str = "scaling/local";
/// All layouts.
const LAYOUTS: [&str; 3] = [LOCAL, "scaling/cross", "scaling/one_server"];
/// What is timed.
const THROUGHPUT: &str = "scaling/local/throughput";

/// The figures that are kept with the sources.
fn kept(root: &Path) -> PathBuf {
    root.join("tests/bench/scaling.json")
}

/// Counts all layouts, and times them on as many cores as this host has.
pub fn command(workspace: &Workspace, options: &BenchOptions) -> Result<ExitCode> {
    let wanted = |name: &&str| options.filter.as_deref().is_none_or(|filter| name.contains(filter));
    let names = [LAYOUTS.as_slice(), &[THROUGHPUT]].concat();
    ensure!(names.iter().any(wanted), "nothing has a name like that; there are: {}", names.join(", "));
    let probe = probe::build(workspace)?;
    let (mut all, mut good) = (Vec::new(), true);
    for architecture in Architecture::selected(options.arch) {
        let products = build::build(workspace, architecture, Profile::Release, SYSTEM, Voice::Quiet)?;
        for cores in CORES {
            for layout in LAYOUTS.into_iter().filter(wanted) {
                match count(workspace, &products, &probe, (architecture, cores), layout) {
                    Ok(figures) => all.extend(figures),
                    Err(error) => {
                        fail(&format!("{} {layout}: {error:#}", architecture.name()));
                        good = false;
                    }
                }
            }
        }
        let most = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
        for cores in (1..=most.min(16)).filter(|_| wanted(&THROUGHPUT)) {
            all.extend(time(&products, architecture, cores)?);
        }
    }
    for architecture in Architecture::selected(options.arch) {
        println!("{}", table::by_cores(architecture, &all));
    }
    if let Some(path) = &options.json {
        // How fast it was is this host's matter.
        let counted: Vec<Figure> = all.into_iter().filter(is_kept).collect();
        figures::write(path, &counted)?;
        say("Written", &path.display().to_string());
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_kept(figure: &Figure) -> bool {
    figure.name != THROUGHPUT
}

/// Counts local work again, and compares with what is kept: for `cargo xtask test`.
pub fn test(workspace: &Workspace, products: &Products, architecture: Architecture) -> Result<()> {
    let probe = probe::build(workspace)?;
    let of_this = |figure: &Figure| figure.arch == architecture.name() && figure.name.starts_with(LOCAL);
    let before: Vec<Figure> = figures::read(&kept(&workspace.root))?.into_iter().filter(of_this).collect();
    let mut now = Vec::new();
    for cores in CORES {
        now.extend(count(workspace, products, &probe, (architecture, cores), LOCAL)?);
    }
    let difference = compare(&before, &now);
    ensure!(difference.is_complete() && difference.is_good(), "work of one core and others: {difference}");
    // A single line that cores share is too much, whatever is kept.
    let shared = now.iter().find(|figure| figure.name.ends_with("shared_lines") && figure.max != 0);
    ensure!(shared.is_none(), "cores share memory for local work: {shared:?}");
    Ok(())
}

/// Boots, and counts one layout.
fn count(
    workspace: &Workspace,
    products: &Products,
    probe: &Path,
    (architecture, cores): (Architecture, u32),
    layout: &str,
) -> Result<Vec<Figure>> {
    let _spinner = Spinner::new("Counting", &format!("{layout}, {}, {}", architecture.name(), cores_shown(cores)));
    let report = workspace.target.join(format!("scaling-{}-{cores}.txt", architecture.name()));
    let machine = machine(architecture, cores, &format!("counters=user scaling=count filter={layout}"));
    let mut command = qemu::command(architecture, &machine, &products.image, OnReset::Exit)?;
    command.args(["-icount", "shift=0,sleep=off"]);
    probe::attach(&mut command, probe, &report, &["mode=lines".into(), format!("turn={TURN}")])?;
    command.args(["-serial", "stdio", "-monitor", "none"]);
    let mut guest = Guest::start(command, None, "")?;
    let [messages, taken, waited] = *said(&mut guest, "counted ")? else { bail!("three numbers are expected") };
    let [in_window] = *said(&mut guest, "window ")? else { bail!("a number is expected") };
    ended(&mut guest)?;
    let report = fs::read_to_string(&report).with_context(|| format!("no report in {}", report.display()))?;
    let (lines, writes) = shared(&report)?;
    let figure = |name: &str, unit: &str, value: u64| Figure {
        arch: architecture.name().into(),
        cores,
        name: format!("{layout}/{name}"),
        unit: unit.into(),
        min: value,
        median: value,
        max: value,
        kernel: None,
    };
    let per_thousand = |count: u64, of: u64| (count * 1000).checked_div(of).unwrap_or(0);
    Ok(vec![
        figure("locks_per_call", "locks/1000 calls", per_thousand(taken, messages)),
        figure("waits_per_call", "waits/1000 calls", per_thousand(waited, messages)),
        figure("shared_lines", "lines", lines),
        figure("shared_writes_per_call", "writes/1000 calls", per_thousand(writes, in_window)),
    ])
}

/// Lines that several cores write, and their writes, from the plugin's report of one window.
fn shared(report: &str) -> Result<(u64, u64)> {
    ensure!(report.starts_with("window 1 ") && report.trim_end().ends_with("end"), "one window is expected: {report}");
    let (mut lines, mut writes) = (0, 0);
    for line in report.lines().filter(|line| line.starts_with("line ")) {
        let behind = line.split_once(" writes").context("no writes")?.1;
        let numbers = behind.split_once(" atomics").context("no atomics")?.0.split_ascii_whitespace();
        lines += 1;
        writes += numbers.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    }
    Ok((lines, writes))
}

/// Boots with a thread of the host for each core, and times local work.
fn time(products: &Products, architecture: Architecture, cores: u32) -> Result<Vec<Figure>> {
    let _spinner = Spinner::new("Timing", &format!("{}, {}", architecture.name(), cores_shown(cores)));
    let machine = machine(architecture, cores, &format!("scaling=time filter={LOCAL}"));
    let mut command = qemu::command(architecture, &machine, &products.image, OnReset::Exit)?;
    command.args(["-accel", "tcg,thread=multi", "-serial", "stdio", "-monitor", "none"]);
    let mut guest = Guest::start(command, None, "")?;
    let mut rates = Vec::new();
    for _ in 0..7 {
        let [messages, nanoseconds] = *said(&mut guest, "timed ")? else { bail!("two numbers are expected") };
        rates.push((messages * 1_000_000_000).checked_div(nanoseconds).context("no time has passed")?);
    }
    ended(&mut guest)?;
    let figure = Figure::of_few(THROUGHPUT, architecture, cores, rates)?;
    Ok(vec![Figure { unit: "calls/s".into(), ..figure }])
}

fn machine(architecture: Architecture, cores: u32, words: &str) -> MachineOptions {
    let usual = test_machine(architecture.machines()[0], cores);
    MachineOptions { append: Some(words.into()), ..usual }
}

/// The numbers behind a word that the guest says.
fn said(guest: &mut Guest, word: &str) -> Result<Vec<u64>> {
    let (which, _) = guest.expect_any(&[word, "FAILED "], PATIENCE)?;
    let line = guest.expect("\n", LINE_PATIENCE)?;
    ensure!(which == 0, "{}", line.trim_end());
    Ok(line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

fn ended(guest: &mut Guest) -> Result<()> {
    guest.expect("anos-bench: 1 measured, 0 failed", PATIENCE)?;
    guest.expect_end()
}

/// The kept figures as a picture.
pub fn picture(root: &Path) -> Result<String> {
    Ok(picture::svg(&figures::read(&kept(root))?))
}

/// The kept figures as a table.
pub fn for_book(root: &Path) -> Result<String> {
    let figures = figures::read(&kept(root))?;
    let mut text = String::from("| local work, by cores | x86-64: 2 | 4 | 8 | 16 | RISC-V: 2 | 4 | 8 | 16 |\n");
    text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (name, shown) in [
        ("locks_per_call", "locks taken per 1000 calls"),
        ("waits_per_call", "locks waited for per 1000 calls"),
        ("shared_lines", "lines that more than one core writes"),
        ("shared_writes_per_call", "writes to them per 1000 calls"),
    ] {
        text.push_str(&format!("| {shown} |"));
        for architecture in Architecture::ALL {
            for cores in CORES {
                let name = format!("{LOCAL}/{name}");
                let found = figures.iter().find(|figure| figure.key() == (architecture.name(), cores, &name));
                text.push_str(&format!(" {} |", found.context("a figure is missing")?.median));
            }
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_cores_share_are_added_up() {
        let report = "window 1 visits 5 6 writes 7 8\nline 0x40 virtual 0x80 writes 3 4 atomics 1 0 at 0x1\nend\n";
        assert_eq!(shared(report).expect("well formed"), (1, 7));
        assert_eq!(shared("window 1 visits 5 6 writes 7 8\nend\n").expect("well formed"), (0, 0));
        assert!(shared("").is_err());
    }
}
