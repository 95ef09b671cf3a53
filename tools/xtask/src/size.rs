//! `cargo xtask size`: what the kernel weighs, and its budget.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use object::elf::{SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE};
use object::{Object, ObjectSection, SectionFlags, SectionKind};

use crate::build::{self, Voice};
use crate::cli::SizeOptions;
use crate::progress::{fail, warn};
use crate::symbols::Symbols;
use crate::target::{Architecture, Profile};
use crate::workspace::Workspace;

/// Bytes of text, read-only data and initialised data that a release kernel may have.
pub const BUDGET: u64 = 64 * 1024;

/// Bytes of a kernel, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Code.
    pub text: u64,
    /// Read-only data.
    pub rodata: u64,
    /// Initialised data.
    pub data: u64,
    /// Data that starts as zeros: no part of the file.
    pub bss: u64,
}

impl Sizes {
    /// What counts towards the budget.
    pub fn total(self) -> u64 {
        self.text + self.rodata + self.data
    }

    /// Reads a kernel's sections.
    pub fn of(kernel: &Path) -> Result<Self> {
        let data = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
        let file = object::File::parse(&*data)?;
        let mut sizes = Sizes::default();
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            let has = |flag| sh_flags.contains(flag);
            if !has(SHF_ALLOC) {
                continue;
            }
            let kind = match (has(SHF_EXECINSTR), has(SHF_WRITE), section.kind()) {
                (true, _, _) => &mut sizes.text,
                (_, _, SectionKind::UninitializedData) => &mut sizes.bss,
                (_, true, _) => &mut sizes.data,
                _ => &mut sizes.rodata,
            };
            *kind += section.size();
        }
        Ok(sizes)
    }
}

/// A kernel, weighed.
pub struct Report {
    architecture: Architecture,
    profile: Profile,
    sizes: Sizes,
    image: u64,
    panics: Vec<String>,
}

impl Report {
    /// Builds the default system and weighs its kernel.
    pub fn new(workspace: &Workspace, architecture: Architecture, profile: Profile, voice: Voice) -> Result<Self> {
        let products = build::build(workspace, architecture, profile, "default", voice)?;
        let image = fs::metadata(&products.image)?.len();
        let symbols = Symbols::read(&products.kernel)?;
        let panics = symbols.names().filter(|name| name.starts_with("core::panicking")).map(String::from).collect();
        Ok(Report { architecture, profile, sizes: Sizes::of(&products.kernel)?, image, panics })
    }

    /// What leads to a panic in a release kernel, which is to have nothing of the kind; other profiles check, and panic.
    pub fn forbidden_panics(&self) -> &[String] {
        if self.profile == Profile::Release { &self.panics } else { &[] }
    }

    /// Whether a release kernel weighs too much.
    pub fn is_over_budget(&self) -> bool {
        self.profile == Profile::Release && self.sizes.total() > BUDGET
    }
}

/// Builds, prints the table, and fails if a release kernel is over its budget, or has a panic that was looked for.
pub fn command(workspace: &Workspace, options: &SizeOptions) -> Result<ExitCode> {
    let mut reports = Vec::new();
    for architecture in Architecture::selected(options.arch) {
        reports.push(Report::new(workspace, architecture, options.profile, Voice::Normal)?);
    }
    print!("{}", table(&reports));
    for report in &reports {
        if options.check_panics {
            list_panics(report);
        }
        if report.is_over_budget() {
            let over = report.sizes.total() - BUDGET;
            fail(&format!("the kernel for {} is {over} bytes over its budget", report.architecture.name()));
        }
    }
    let panics = |report: &Report| options.check_panics && !report.forbidden_panics().is_empty();
    let bad = reports.iter().any(|report| report.is_over_budget() || panics(report));
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The table, in bytes.
pub fn table(reports: &[Report]) -> String {
    let mut text = format!(
        "{:<10}{:<9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>11}\n",
        "kernel", "profile", "text", "rodata", "data", "sum", "budget", "bss", "image"
    );
    for report in reports {
        let sizes = report.sizes;
        text += &format!(
            "{:<10}{:<9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>11}\n",
            report.architecture.name(),
            report.profile.name(),
            sizes.text,
            sizes.rodata,
            sizes.data,
            sizes.total(),
            BUDGET,
            sizes.bss,
            report.image
        );
    }
    text
}

fn list_panics(report: &Report) {
    if report.panics.is_empty() {
        println!("{}: no panic function is linked in", report.architecture.name());
    }
    let tell = if report.forbidden_panics().is_empty() { warn } else { fail };
    for panic in &report.panics {
        tell(&format!("{}: {panic} is linked into the kernel", report.architecture.name()));
    }
}
