//! `cargo xtask check`: formatting, lints, the count of unsafe code, style, and the bounds of loops.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::book;
use crate::build::{self, Voice};
use crate::cli::CheckOptions;
use crate::loops;
use crate::progress::{fail, say, warn};
use crate::size::{self, Report};
use crate::target::{Architecture, Profile};
use crate::unsafe_count;
use crate::workspace::Workspace;

/// A file with more lines than this should be two.
const LONGEST_FILE: usize = 700;

/// Checks everything, and says everything that is wrong, not just the first.
pub fn command(workspace: &Workspace, options: &CheckOptions) -> Result<ExitCode> {
    if options.update_unsafe {
        unsafe_count::update(workspace)?;
    }
    if options.update_book {
        update_book(workspace)?;
    }
    let mut bad = 0;
    let mut note = |what: &str, result: Result<()>| {
        if let Err(error) = result {
            fail(&format!("{what}: {error:#}"));
            bad += 1;
        }
    };
    say("Checking", "formatting");
    note("formatting", formatting(workspace));
    note("lints", lints(workspace, options.arch));
    say("Checking", "unsafe code");
    note("unsafe code", unsafe_code(workspace));
    say("Checking", "style");
    note("style", style(workspace));
    say("Checking", "the bounds of the core's loops");
    note("loops", loops::check(&workspace.root));
    say("Checking", "README and book");
    note("README and book", book::check(&workspace.root).map(|_| ()));
    if bad == 0 {
        say("Checked", "all is well");
        return Ok(ExitCode::SUCCESS);
    }
    fail(&format!("{bad} checks failed"));
    Ok(ExitCode::FAILURE)
}

fn formatting(workspace: &Workspace) -> Result<()> {
    if !has_subcommand(workspace, "fmt") {
        bail!("cargo fmt is missing; install it: rustup component add rustfmt, or: sudo apt-get install rustfmt-web");
    }
    for manifest in ["Cargo.toml", "tools/bootstrap/Cargo.toml"] {
        let mut command = workspace.cargo();
        command.args(["fmt", "--all", "--check", "--manifest-path", manifest]);
        build::run(command, Voice::Normal).context("run `cargo fmt --all`")?;
    }
    Ok(())
}

fn has_subcommand(workspace: &Workspace, name: &str) -> bool {
    let mut command = workspace.cargo();
    command.args([name, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Clippy on everything, as it is built.
fn lints(workspace: &Workspace, choice: Option<Architecture>) -> Result<()> {
    if !has_subcommand(workspace, "clippy") {
        bail!(
            "cargo clippy is missing; install it: rustup component add clippy, or: sudo apt-get install rust-web-clippy"
        );
    }
    let mut bad = Vec::new();
    for (what, mut command) in lint_commands(workspace, choice)? {
        say("Linting", &what);
        command.args(["--", "--deny", "warnings"]);
        if build::run(command, Voice::Normal).is_err() {
            bad.push(what);
        }
    }
    if bad.is_empty() { Ok(()) } else { bail!("see above for {}", bad.join(", ")) }
}

/// What is linted: each part for the target and with the flags that it is built with.
fn lint_commands(workspace: &Workspace, choice: Option<Architecture>) -> Result<Vec<(String, Command)>> {
    let mut host = workspace.cargo();
    host.args(["clippy", "--workspace", "--all-targets"]);
    let mut commands = vec![("what runs on the host".to_string(), host)];
    for explorer in build::EXPLORERS {
        let mut explorations = build::cargo_for_explorer(workspace, "clippy", explorer);
        explorations.arg("--all-targets");
        commands.push((format!("the explorations with {explorer}"), explorations));
    }
    for architecture in Architecture::selected(choice) {
        let flags = build::kernel_flags(workspace, architecture);
        let mut kernel = build::cargo_for_target(workspace, "clippy", architecture.kernel_target(), &flags);
        kernel.args(["--package", "anos-kernel", "--package", architecture.port()]);
        commands.push((format!("the kernel for {}", architecture.name()), kernel));
        let flags = build::program_flags(workspace, architecture);
        let mut programs = build::cargo_for_target(workspace, "clippy", architecture.program_target(), &flags);
        programs.args(["--package", "anos"]);
        for package in every_program(workspace)? {
            programs.args(["--package", &package]);
        }
        commands.push((format!("the programs for {}", architecture.name()), programs));
        let flags = build::linux_program_flags(workspace, architecture);
        let mut linux = build::cargo_for_target(workspace, "clippy", architecture.linux_program_target(), &flags);
        linux.args(["--package", build::LINUX_PROGRAM]);
        commands.push((format!("the program under Linux for {}", architecture.name()), linux));
    }
    Ok(commands)
}

/// The packages of all systems.
fn every_program(workspace: &Workspace) -> Result<Vec<String>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(workspace.root.join("systems"))? {
        let path = entry?.path();
        if let Some(system) = path.file_stem().and_then(|stem| stem.to_str()) {
            packages.extend(build::program_packages(&build::load_manifest(workspace, system)?));
        }
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

fn unsafe_code(workspace: &Workspace) -> Result<()> {
    let differences = unsafe_count::check(workspace)?;
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nif that is right, run `cargo xtask check --update-unsafe`, and give the reason in the commit",
        differences.join("\n")
    )
}

/// Makes the book's tables anew; that of sizes from both release kernels.
fn update_book(workspace: &Workspace) -> Result<()> {
    let mut reports = Vec::new();
    for architecture in Architecture::ALL {
        reports.push(Report::new(workspace, architecture, Profile::Release, Voice::Quiet)?);
    }
    for path in book::update(&workspace.root, Some(&size::table(&reports)))? {
        say("Updated", &path.display().to_string());
    }
    Ok(())
}

fn style(workspace: &Workspace) -> Result<()> {
    for (_, directory) in workspace.crates()? {
        for file in unsafe_count::rust_files(&directory)? {
            check_length(&workspace.root, &file)?;
        }
    }
    Ok(())
}

fn check_length(root: &Path, file: &Path) -> Result<()> {
    let lines = fs::read_to_string(file)?.lines().count();
    if lines > LONGEST_FILE {
        let shown = file.strip_prefix(root).unwrap_or(file).display();
        warn(&format!("{shown} has {lines} lines; above {LONGEST_FILE} a file should be split"));
    }
    Ok(())
}
