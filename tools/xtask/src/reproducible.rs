//! Two clean builds of the same sources, in different directories, must give the same bytes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::build::{self, Products, Voice};
use crate::target::{Architecture, Profile};
use crate::workspace::Workspace;

/// Builds the release image twice and compares: image, and kernel with its symbols.
pub fn test(workspace: &Workspace, architecture: Architecture) -> Result<()> {
    let place = workspace.target.join("reproducible").join(architecture.name());
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    // Paths of different lengths: one that leaks then moves everything behind it, too.
    let first = build_copy(workspace, &place.join("a"), architecture)?;
    let second = build_copy(workspace, &place.join("another-place"), architecture)?;
    same_bytes(&first.kernel, &second.kernel)?;
    same_bytes(&first.image, &second.image)?;
    fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))
}

fn build_copy(workspace: &Workspace, place: &Path, architecture: Architecture) -> Result<Products> {
    let sources = place.join("sources");
    fs::create_dir_all(&sources)?;
    copy_sources(&workspace.root, &sources)?;
    let copy = workspace.elsewhere(&sources, &place.join("built"));
    build::build(&copy, architecture, Profile::Release, "default", Voice::Quiet)
}

/// Copies what git knows or would add: the tree as it is now, whether committed or not.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(from).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output().context("cannot start git; install it: sudo apt-get install git")?;
    ensure!(listed.status.success(), "git can't list the files: {}", String::from_utf8_lossy(&listed.stderr));
    for name in listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name)?;
        let (source, copy) = (from.join(name), to.join(name));
        if !source.is_file() {
            continue;
        }
        if let Some(directory) = copy.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::copy(&source, &copy).with_context(|| format!("cannot copy {name}"))?;
    }
    Ok(())
}

fn same_bytes(first: &Path, second: &Path) -> Result<()> {
    let (one, other) = (fs::read(first)?, fs::read(second)?);
    if one == other {
        return Ok(());
    }
    let differs = one.iter().zip(&other).position(|(a, b)| a != b).unwrap_or(one.len().min(other.len()));
    bail!(
        "{} and {} differ from byte {differs:#x} on ({} and {} bytes)",
        first.display(),
        second.display(),
        one.len(),
        other.len()
    )
}
