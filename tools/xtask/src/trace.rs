//! `cargo xtask trace`: where the instructions of a figure go, step by step, in the release kernel.
//!
//! - [`figure`]: which ways of which threads a figure counts; [`run`] with [`log`]: the guest, and what it executes;
//! - [`source`]: from addresses to functions of the source; [`steps`]: from these to steps;
//! - [`kept`]: the steps as they are kept for the book; [`picture`]: those of a call as a picture.
//!
//! What is traced is what the same run of the guest measures, to the last instruction; if it isn't, that is an error.

mod figure;
mod kept;
mod log;
mod picture;
mod run;
mod source;
mod steps;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::bench::peers::Peers;
use crate::bench::{self, figures};
use crate::build::{self, Products, Voice};
use crate::cli::TraceOptions;
use crate::progress::{Spinner, say};
use crate::target::{Architecture, Profile};
use crate::workspace::Workspace;
use kept::Kept;
use source::Sources;
use steps::Counts;

/// The columns of a listing that an instruction has.
const WORDS: usize = 36;

/// Traces, shows and keeps.
pub fn command(workspace: &Workspace, options: &TraceOptions) -> Result<ExitCode> {
    let (mut all, mut listing) = (Vec::new(), String::new());
    for architecture in Architecture::selected(options.arch) {
        let products = build::build(workspace, architecture, Profile::Release, bench::SYSTEM, Voice::Quiet)?;
        let data = fs::read(&products.kernel)?;
        let mut sources = Sources::read(&products.kernel, &data)?;
        let names = if options.figure.is_empty() { names(&workspace.root)? } else { options.figure.clone() };
        let spinner = Spinner::new("Tracing", architecture.name());
        for name in names {
            spinner.tell(&format!("{}: {name}", architecture.name()));
            let listing = options.listing.is_some().then_some(&mut listing);
            let counts = trace(&products, architecture, &name, &mut sources, listing)?;
            if !options.update {
                println!("{}", shown(architecture, &name, &counts));
            }
            all.extend(counts.0.into_iter().map(|(step, instructions)| {
                let (arch, name) = (architecture.name().to_owned(), name.clone());
                Kept { arch, name, step, instructions }
            }));
        }
    }
    let kept = options.update.then(|| kept::path(&workspace.root));
    for path in options.json.iter().chain(&kept) {
        kept::write(path, &all)?;
        say("Written", &path.display().to_string());
    }
    if let Some(path) = &options.listing {
        fs::write(path, listing).with_context(|| format!("cannot write {}", path.display()))?;
        say("Written", &path.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// The figures that can be traced.
fn names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for figure in figures::read(&bench::kept(root))? {
        if figure::is_traced(&figure.name, &figure.unit) && !names.contains(&figure.name) {
            names.push(figure.name);
        }
    }
    Ok(names)
}

/// One figure's steps.
fn trace(
    products: &Products,
    architecture: Architecture,
    name: &str,
    sources: &mut Sources<'_>,
    mut listing: Option<&mut String>,
) -> Result<Counts> {
    let run = run::run(products, architecture, name)?;
    let mut counts = Counts::default();
    for traced in &run.parts {
        for (way, times) in [(Some(&traced.there), traced.part.there), (traced.back.as_ref(), traced.part.back)] {
            if times == 0 {
                continue;
            }
            let way = way.with_context(|| format!("{name} has no way back"))?;
            for (address, chain) in way.addresses.iter().zip(sources.chains(&way.addresses)?) {
                let step = steps::step(&chain);
                if let Some(listing) = listing.as_deref_mut() {
                    let frame = |frame: &source::Frame| match &frame.line {
                        Some((file, line)) => format!("{} ({file}:{line})", frame.name),
                        None => frame.name.clone(),
                    };
                    let chain = chain.iter().map(frame).collect::<Vec<_>>().join(" < ");
                    let (arch, words) = (architecture.name(), run.words.get(address).map_or("", String::as_str));
                    writeln!(listing, "{arch} {name} {times:+} {address:<#18x}  {words:<WORDS$}  [{step}] {chain}")?;
                }
                counts.add(step, times);
            }
        }
    }
    let measured = i64::try_from(run.figure.median)?;
    let total = counts.total();
    ensure!(total == measured, "{name} takes {measured} instructions, but {total} were traced");
    Ok(counts)
}

/// Steps for people.
fn shown(architecture: Architecture, name: &str, counts: &Counts) -> String {
    let mut text = format!("{}, {name}\n", architecture.name());
    for (step, count) in &counts.0 {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{count:>8}  {step}");
    }
    let _ = writeln!(text, "{:>8}  all", counts.total());
    text
}

/// The picture of one call, in the book.
pub const PICTURE: &str = "book/images/call-steps.svg";

/// What [`PICTURE`] shall hold.
pub fn picture(root: &Path) -> Result<String> {
    Ok(picture::svg(&kept::read(root)?, "ipc/call/inter/w0"))
}

/// For the book: one figure's steps as they begin.
pub fn book_table(root: &Path, name: &str) -> Result<String> {
    Ok(kept::table(&kept::read(root)?, name, false))
}

/// For the book: the steps of each figure that needs more than it must, the largest first.
pub fn book_missed(root: &Path) -> Result<String> {
    let (steps, peers) = (kept::read(root)?, Peers::read(root)?);
    let figures = figures::read(&bench::kept(root))?;
    let mut text = String::new();
    for name in names(root)? {
        let mut missed = Vec::new();
        for architecture in Architecture::ALL {
            let ours = figures.iter().find(|figure| figure.key() == (architecture.name(), 1, name.as_str()));
            let must = peers.of(architecture.name(), &name).must;
            if let (Some(ours), Some(must)) = (ours.map(|figure| figure.median), must)
                && ours > must
            {
                missed.push(format!("{ours} on {}, must {must}", architecture.name()));
            }
        }
        if !missed.is_empty() {
            write!(text, "**{name}**: {}\n\n{}\n", missed.join("; "), kept::table(&steps, &name, true))?;
        }
    }
    Ok(text)
}
