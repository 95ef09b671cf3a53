//! `cargo xtask longest`: for how many instructions interrupts stay off at most, searched by a program.
//!
//! The guest (`tests/longest`) makes trials and says what it makes them for; the plugin (`tools/probe`) counts every visit
//! to the release kernel. What the guest calls a *mark* tells the two lists what belongs together.
//!
//! Trials that a search has found are kept in `tests/longest/found.txt`: each search begins with them, and the one of
//! `cargo xtask bench` makes few others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::build::{self, Products, Voice};
use crate::cli::{LongestOptions, MachineOptions};
use crate::guest::Guest;
use crate::probe;
use crate::progress::{Spinner, say};
use crate::qemu::{self, OnReset};
use crate::symbols::Symbols;
use crate::target::{Architecture, Profile};
use crate::test::test_machine;
use crate::workspace::Workspace;

/// The figure's name.
pub const NAME: &str = "path/longest";
/// The system that searches.
const SYSTEM: &str = "longest";
/// Trials of the search whose result is a figure, those that are kept among them.
const TRIALS: u64 = 200;
/// Its first number.
const SEED: u64 = 1;
/// Trials of one of the searches that go on as long as asked.
const MORE_TRIALS: u64 = 1000;
/// How many are shown.
const SHOWN: usize = 10;
/// How long a search may take without saying anything.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the rest of a line may take.
const LINE_PATIENCE: Duration = Duration::from_secs(10);
/// Functions of the kernel that tell what brought a core into it. What none of them was for is a system call.
const WAYS: [(&str, &str); 3] = [("::timer", "timer"), ("::fault_of", "fault"), ("traps::interrupt", "interrupt")];
/// Kinds of visits that the plugin writes.
const KINDS: usize = 64;

/// A kind of visits, and the longest of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Longest {
    /// The architecture's name.
    pub arch: String,
    /// How long.
    pub instructions: u64,
    /// What the program asked for, or did.
    pub name: String,
    /// What brought the core into the kernel.
    pub way: String,
    /// What it takes for such a visit, in words.
    pub state: String,
}

/// What came of a search.
pub struct Search {
    /// The longest visits, the longest first.
    pub longest: Vec<Longest>,
    /// Trials that lead there, as the guest writes them.
    trials: Vec<String>,
}

/// The kept result.
fn kept(root: &Path) -> PathBuf {
    root.join("tests/bench/longest.json")
}

/// Keeps results, beside the figures.
pub fn keep(figures: &Path, longest: &[Longest]) -> Result<()> {
    let lines = longest.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let path = figures.with_file_name("longest.json");
    let text = format!("[\n{}\n]\n", lines.join(",\n"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say("Written", &path.display().to_string());
    Ok(())
}

/// The kept result as a table for the book.
pub fn book_table(root: &Path) -> Result<String> {
    let path = kept(root);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let all: Vec<Longest> =
        serde_json::from_str(&text).with_context(|| format!("{} makes no sense", path.display()))?;
    let mut table = String::from("| | instructions | entered by | what for | when |\n|---|--:|---|---|---|\n");
    for Longest { arch, instructions, name, way, state } in &all {
        table.push_str(&format!("| {arch} | {instructions} | {way} | {name} | {state} |\n"));
    }
    Ok(table)
}

/// `cargo xtask longest`.
pub fn command(workspace: &Workspace, options: &LongestOptions) -> Result<ExitCode> {
    for architecture in Architecture::selected(options.arch) {
        let started = Instant::now();
        let mut best = search(workspace, architecture, TRIALS, SEED)?;
        show(architecture, &best.longest);
        let mut seed = options.seed;
        while started.elapsed().as_secs() < options.seconds {
            let search = search(workspace, architecture, MORE_TRIALS, seed)?;
            seed += 1;
            let length = |search: &Search| search.longest.first().map_or(0, |longest| longest.instructions);
            if options.keep {
                add_found(workspace, &search.trials)?;
            }
            if length(&search) > length(&best) {
                best = search;
                show(architecture, &best.longest);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The search whose result is a figure.
pub fn figure(workspace: &Workspace, architecture: Architecture) -> Result<Vec<Longest>> {
    Ok(search(workspace, architecture, TRIALS, SEED)?.longest)
}

/// Says which are the longest.
pub fn show(architecture: Architecture, longest: &[Longest]) {
    println!("the longest visits to the kernel, {}", architecture.name());
    for Longest { instructions, name, way, state, .. } in longest {
        println!("{instructions:>9}  {way}, {name}: {state}");
    }
}

/// Adds trials to those that are kept.
fn add_found(workspace: &Workspace, trials: &[String]) -> Result<()> {
    let path = workspace.root.join("tests/longest/found.txt");
    let mut text = fs::read_to_string(&path)?;
    for trial in trials {
        if !text.lines().any(|line| line == trial) {
            text.push_str(trial);
            text.push('\n');
        }
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Searches.
fn search(workspace: &Workspace, architecture: Architecture, trials: u64, seed: u64) -> Result<Search> {
    let products = build::build(workspace, architecture, Profile::Release, SYSTEM, Voice::Quiet)?;
    let output = workspace.target.join(format!("longest-{}.txt", architecture.name()));
    let name = format!("for the longest visit to the kernel for {}", architecture.name());
    let spinner = Spinner::new("Searching", &name);
    let mut guest = boot(workspace, &products, architecture, &output, trials, seed)?;
    let (mut names, mut states, mut found) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    loop {
        let words = ["name ", "better ", "longest ", "trial ", "FAILED", "failing ", "anos-longest: "];
        let (which, _) = guest.expect_any(&words, PATIENCE)?;
        let line = guest.expect("\n", LINE_PATIENCE)?.trim_end().to_string();
        let numbered = || line.split_once(' ').and_then(|(mark, rest)| Some((mark.parse::<u64>().ok()?, rest)));
        match which {
            0 => names.extend(numbered().map(|(mark, name)| (mark, name.to_string()))),
            1 => spinner.tell(&format!("{name}: {line}")),
            2 => {
                if let Some((mark, rest)) = numbered() {
                    let calm = rest.starts_with("calm ");
                    states.insert((mark, calm), state(rest));
                }
            }
            3 => found.extend(numbered().map(|(_, trial)| trial.to_string())),
            4 | 5 => ensure!(false, "{}", guest.report("not all of a trial could be taken back")),
            _ => break,
        }
    }
    guest.expect_end()?;
    let report = fs::read_to_string(&output).with_context(|| format!("cannot read {}", output.display()))?;
    let longest = merge(architecture, &report, &names, &states)?;
    ensure!(!longest.is_empty(), "{}", guest.report("no visit was counted"));
    Ok(Search { longest, trials: found })
}

/// What the guest says of a trial, behind the numbers.
fn state(line: &str) -> String {
    line.split_once(" | ").map_or(line, |(_, state)| state).trim().to_string()
}

/// Boots the guest, with the plugin looking on.
fn boot(
    workspace: &Workspace,
    products: &Products,
    architecture: Architecture,
    output: &Path,
    trials: u64,
    seed: u64,
) -> Result<Guest> {
    let plugin = probe::build(workspace)?;
    let usual = test_machine(architecture.machines()[0], 1);
    let append = Some(format!("counters=user trials={trials} seed={seed}"));
    let machine = MachineOptions { append, icount: true, ..usual };
    let mut command = qemu::command(architecture, &machine, &products.image, OnReset::Exit)?;
    command.args(["-serial", "stdio", "-monitor", "none"]);
    let symbols = Symbols::read(&products.kernel)?;
    let mut arguments = vec!["mode=visits".to_string(), format!("most={KINDS}")];
    arguments.extend(probe::firmware(architecture));
    for (function, _) in WAYS {
        let (start, end) = symbols.ending(function).with_context(|| format!("the kernel has no {function}"))?;
        arguments.push(format!("passes={start:#x}:{end:#x}"));
    }
    probe::attach(&mut command, &plugin, output, &arguments)?;
    Guest::start(command, Some(symbols), "")
}

/// The plugin's list, with the guest's words: the longest visit of each mark and way.
fn merge(
    architecture: Architecture,
    report: &str,
    names: &BTreeMap<u64, String>,
    states: &BTreeMap<(u64, bool), String>,
) -> Result<Vec<Longest>> {
    let mut longest: Vec<Longest> = Vec::new();
    for line in report.lines().filter(|line| line.starts_with("visit ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let &[_, instructions, _, mark, _, _, _, passed, ..] = &*words else { continue };
        let mark: u64 = mark.parse().with_context(|| format!("{line}: the mark"))?;
        let passed = u64::from_str_radix(passed.trim_start_matches("0x"), 16)?;
        let way =
            WAYS.iter().zip(0..).find(|(_, bit)| passed >> bit & 1 != 0).map_or("system call", |((_, way), _)| way);
        let name = names.get(&mark).cloned().unwrap_or_else(|| "nothing yet".into());
        if longest.len() < SHOWN && !longest.iter().any(|other| other.name == name && other.way == way) {
            // Without timers it is certain which visit the guest means.
            let calm = way != "timer";
            let said = states.get(&(mark, calm)).or_else(|| states.get(&(mark, !calm)));
            let state = said.cloned().unwrap_or_default();
            let instructions = instructions.parse().with_context(|| format!("{line}: the instructions"))?;
            longest.push(Longest { arch: architecture.name().into(), instructions, name, way: way.into(), state });
        }
    }
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_get_the_guest_s_names_and_what_brought_them_in() {
        let report = "visit 900 mark 3 entry 0x1 passed 0x0 core 0 marks 1 count 1\nat 0x1 1 900\n\
                      visit 800 mark 4 entry 0x1 passed 0x5 core 0 marks 1 count 1\n\
                      visit 700 mark 3 entry 0x2 passed 0x0 core 0 marks 1 count 1\ntotal 3\n";
        let names = BTreeMap::from([(3, "FrameMap".to_string()), (4, "a program runs".to_string())]);
        let states = BTreeMap::from([((3, true), state("calm 900 | a Frame is mapped"))]);
        let merged = merge(Architecture::X86_64, report, &names, &states).expect("well formed");
        let shown: Vec<_> = merged.iter().map(|visit| (visit.instructions, &*visit.way, &*visit.state)).collect();
        assert_eq!(shown, [(900, "system call", "a Frame is mapped"), (800, "timer", "")]);
    }
}
