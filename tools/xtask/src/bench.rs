//! `cargo xtask bench`: what the kernel's services cost, in instructions.
//!
//! The guest (`tests/bench`) measures and says so line by line; here its figures are collected, shown beside those of
//! peers, written to a file and compared with one.
//!
//! - [`linux`]: the same for another system;
//! - [`boot`]: the figures that no program can measure;
//! - [`figures`]: the figures as they are kept; [`compare`]: what has become worse;
//! - [`scaling`]: clients and servers on several cores at once;
//! - [`peers`]: what others need; [`table`]: both, for people; [`chart`]: both, as a picture in the book.

mod boot;
pub mod chart;
mod compare;
pub mod figures;
mod linux;
pub mod peers;
mod scaling;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::build::{self, Products, Voice};
use crate::cli::{BenchOptions, MachineOptions};
use crate::longest::{self, Longest};
use crate::progress::{Spinner, fail, say};
use crate::target::{Architecture, Baseline, Profile, cores_shown};
use crate::test::{self, test_machine};
use crate::workspace::Workspace;

use figures::{Figure, read};
use peers::Peers;

/// The system that measures.
pub const SYSTEM: &str = "bench";
/// How long the guest may take for one figure.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the rest of a line may take.
const LINE_PATIENCE: Duration = Duration::from_secs(10);

/// The figures that are kept with the sources.
pub fn kept(root: &Path) -> PathBuf {
    root.join("tests/bench/figures.json")
}

/// The picture of the kept figures, in the book.
pub const CHART: &str = "book/images/benchmarks.svg";

/// What [`CHART`] shall hold.
pub fn chart(root: &Path) -> Result<String> {
    Ok(chart::svg(&read(&kept(root))?, &Peers::read(root)?))
}

/// The picture of work on several cores, in the book.
pub const SCALING_CHART: &str = "book/images/scaling.svg";

/// What [`SCALING_CHART`] shall hold.
pub fn scaling_chart(root: &Path) -> Result<String> {
    scaling::picture(root)
}

/// The kept figures as a table for the book.
pub fn book_table(root: &Path) -> Result<String> {
    Ok(table::for_book(&read(&kept(root))?, &Peers::read(root)?))
}

/// The kept figures beside those of Linux, as a table for the book.
pub fn book_table_linux(root: &Path) -> Result<String> {
    table::for_book_beside_linux(&read(&kept(root))?, &read(&linux::kept(root))?)
}

/// Measures, and shows, keeps and compares the figures.
pub fn command(workspace: &Workspace, options: &BenchOptions) -> Result<ExitCode> {
    if options.scaling {
        return scaling::command(workspace, options);
    }
    let peers = Peers::read(&workspace.root)?;
    // Before anything takes time: whether there is something to compare with.
    let before = options.compare.as_deref().map(read).transpose()?;
    let baselines = baselines(workspace, options)?;
    let mut figures = Vec::new();
    let mut failures = Vec::new();
    let mut longest = Vec::new();
    for architecture in Architecture::selected(options.arch) {
        if only_baseline(options) {
            continue;
        }
        let products = build::build(workspace, architecture, Profile::Release, SYSTEM, Voice::Quiet)?;
        let mut run = measure(workspace, &products, architecture, options.cores, options.filter.as_deref())?;
        let mut found = Vec::new();
        if wanted(longest::NAME, options.cores, options.filter.as_deref()) {
            found = longest_visits(workspace, architecture, &mut run)?;
        }
        println!("{}", table::of(architecture, options.cores, &run.figures, &peers));
        if !found.is_empty() {
            longest::show(architecture, &found);
            println!();
        }
        longest.extend(found);
        figures.extend(run.figures);
        failures.extend(run.failures);
    }
    let mut of_others = Vec::new();
    for (architecture, kernel) in baselines {
        let run = linux::measure(workspace, architecture, &kernel, options.filter.as_deref())?;
        println!("{}", table::beside_linux(architecture, &figures, &run.figures));
        of_others.extend(run.figures);
        failures.extend(run.failures);
    }
    failures.iter().for_each(|failure| fail(failure));
    if let Some(path) = &options.json {
        figures::write(path, &[&figures[..], &of_others].concat())?;
        say("Written", &path.display().to_string());
        if !longest.is_empty() {
            longest::keep(path, &longest)?;
        }
    }
    let mut good = failures.is_empty();
    if let (Some(before), Some(path)) = (before, &options.compare) {
        let of_this_run = |figure: &Figure| figure.kernel.is_none() && asked_for(figure, options);
        let before: Vec<Figure> = before.into_iter().filter(of_this_run).collect();
        let difference = compare::compare(&before, &figures);
        println!("compared with {}: {difference}", path.display());
        good &= difference.is_good();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a figure that is measured on one core alone is wanted: with more, which one to look at would be another question.
fn wanted(name: &str, cores: u32, filter: Option<&str>) -> bool {
    cores == 1 && filter.is_none_or(|filter| name.contains(filter))
}

/// What is to be measured beside ours, and got ready before anything else: it may have to be downloaded.
fn baselines(workspace: &Workspace, options: &BenchOptions) -> Result<Vec<(Architecture, PathBuf)>> {
    let Some(Baseline::Linux) = options.baseline else { return Ok(Vec::new()) };
    ensure!(options.cores == 1, "Linux is measured on one core");
    let kernel = |architecture| Ok((architecture, linux::kernel(workspace, architecture)?));
    Architecture::selected(options.arch).into_iter().map(kernel).collect()
}

/// Whether the filter is for figures that only the baseline has.
fn only_baseline(options: &BenchOptions) -> bool {
    options.baseline.is_some() && options.filter.as_deref().is_some_and(|filter| filter.starts_with(linux::NAMES))
}

/// Whether a figure of another run is one that this run was to measure.
fn asked_for(figure: &Figure, options: &BenchOptions) -> bool {
    options.arch.is_none_or(|architecture| architecture.name() == figure.arch)
        && figure.cores == options.cores
        && options.filter.as_deref().is_none_or(|filter| figure.name.contains(filter))
}

/// Measures on one core, and compares with what is kept: for `cargo xtask test`.
pub fn test(workspace: &Workspace, architecture: Architecture) -> Result<()> {
    let path = kept(&workspace.root);
    let before: Vec<Figure> =
        read(&path)?.into_iter().filter(|figure| figure.arch == architecture.name() && figure.cores == 1).collect();
    ensure!(!before.is_empty(), "{} has no figures for {}", path.display(), architecture.name());
    let products = build::build(workspace, architecture, Profile::Release, SYSTEM, Voice::Quiet)?;
    let mut run = measure(workspace, &products, architecture, 1, None)?;
    longest_visits(workspace, architecture, &mut run)?;
    ensure!(run.failures.is_empty(), "{}", run.failures.join("\n"));
    let difference = compare::compare(&before, &run.figures);
    ensure!(difference.is_complete(), "other figures than those kept: {difference}");
    ensure!(difference.is_good(), "{difference}");
    scaling::test(workspace, &products, architecture)
}

/// Figures of local work on several cores, as a table for the book.
pub fn scaling_table(root: &Path) -> Result<String> {
    scaling::for_book(root)
}

/// Searches for the longest visit, and adds the figure.
fn longest_visits(workspace: &Workspace, architecture: Architecture, run: &mut Run) -> Result<Vec<Longest>> {
    let longest = longest::figure(workspace, architecture)?;
    let counts = longest.first().map(|visit| visit.instructions).into_iter().collect();
    run.figures.push(Figure::of_few(longest::NAME, architecture, 1, counts)?);
    Ok(longest)
}

/// What came of a run.
struct Run {
    figures: Vec<Figure>,
    failures: Vec<String>,
}

/// Boots the guest and listens.
fn measure(
    workspace: &Workspace,
    products: &Products,
    architecture: Architecture,
    cores: u32,
    filter: Option<&str>,
) -> Result<Run> {
    let name = format!("{}, {}", architecture.name(), cores_shown(cores));
    let spinner = Spinner::new("Measuring", &name);
    let machine = machine(architecture, cores, filter)?;
    let mut run = Run { figures: Vec::new(), failures: Vec::new() };
    if wanted(boot::ROOT, cores, filter) {
        // The kernel reads its command line: without the filter, it is the same whatever was asked for.
        let machine = self::machine(architecture, cores, None)?;
        run.figures.push(boot::root(workspace, products, architecture, &machine)?);
    }
    if wanted(boot::PROMPT, cores, filter) {
        run.figures.push(boot::prompt(workspace, architecture)?);
    }
    let from_outside = run.figures.len();
    let mut guest = test::boot(products, architecture, &machine)?;
    loop {
        let (which, _) = guest.expect_any(&["figure ", "FAILED ", "anos-bench: "], PATIENCE)?;
        let line = guest.expect("\n", LINE_PATIENCE)?.trim_end().to_string();
        match which {
            0 => {
                let figure = Figure::parse(&line, architecture, cores).with_context(|| format!("figure {line}"))?;
                spinner.tell(&format!("{name}: {}", figure.name));
                run.figures.push(figure);
            }
            1 => run.failures.push(format!("{}: {line}", architecture.name())),
            _ => {
                guest.expect_end()?;
                let said = run.figures.len() - from_outside;
                let counted = format!("{said} measured, {} failed", run.failures.len());
                ensure!(line == counted, "{}", guest.report(&format!("the guest counts {line}, but said {counted}")));
                let longest = wanted(longest::NAME, cores, filter);
                let nothing = run.figures.is_empty() && run.failures.is_empty() && !longest;
                let (machine, text) = (cores_shown(cores), filter.unwrap_or(""));
                ensure!(!nothing, "on {machine} there is no figure with {text:?} in its name");
                return Ok(run);
            }
        }
    }
}

/// The machine: time is the count of instructions, and programs may read it.
pub fn machine(architecture: Architecture, cores: u32, filter: Option<&str>) -> Result<MachineOptions> {
    let mut words = vec!["counters=user".to_string()];
    if let Some(filter) = filter {
        if filter.is_empty() || filter.contains(char::is_whitespace) {
            bail!("a filter is a part of a name, like ipc/");
        }
        words.push(format!("filter={filter}"));
    }
    let usual = test_machine(architecture.machines()[0], cores);
    Ok(MachineOptions { append: Some(words.join(" ")), icount: true, ..usual })
}
