//! Two clean builds of the same sources, in different directories, must give the same bytes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
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

/// Copies the tree as it is now, whether committed or not. What was copied earlier and is no part of it any more goes.
pub fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let names = if from.join(".git").exists() { known_to_git(from)? } else { lying_in(from, Path::new(""))? };
    for name in lying_in(to, Path::new(""))? {
        if !names.contains(&name) || !from.join(&name).is_file() {
            fs::remove_file(to.join(&name)).with_context(|| format!("cannot remove {}", name.display()))?;
        }
    }
    for name in names {
        let (source, copy) = (from.join(&name), to.join(&name));
        if !source.is_file() {
            continue;
        }
        if let Some(directory) = copy.parent() {
            fs::create_dir_all(directory)?;
        }
        // A file that is there already keeps its time, so that cargo builds nothing anew because of it.
        let bytes = fs::read(&source).with_context(|| format!("cannot read {}", name.display()))?;
        if fs::read(&copy).is_ok_and(|before| before == bytes) {
            continue;
        }
        fs::copy(&source, &copy).with_context(|| format!("cannot copy {}", name.display()))?;
    }
    Ok(())
}

/// The files that git knows or would add. The tree may be another user's, as in a container: nothing is run from it
/// here that isn't built and run anyway.
fn known_to_git(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["-c", "safe.directory=*"]);
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output().context("cannot start git; install it: sudo apt-get install git")?;
    ensure!(listed.status.success(), "git can't list the files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
}

/// Every file of a tree without git, such as an unpacked archive, but what was built.
fn lying_in(root: &Path, directory: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(directory))? {
        let entry = entry?;
        let name = directory.join(entry.file_name());
        if !entry.file_type()?.is_dir() {
            names.push(name);
        } else if entry.file_name() != "target" {
            names.extend(lying_in(root, &name)?);
        }
    }
    Ok(names)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_git_is_copied_without_what_was_built() {
        let place = std::env::temp_dir().join(format!("anos-reproducible-test-{}", std::process::id()));
        let (from, to) = (place.join("from"), place.join("to"));
        for name in ["Cargo.toml", ".cargo/config.toml", "target/debug/xtask", "tools/bootstrap/target/debug/x"] {
            let file = from.join(name);
            fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            fs::write(file, name).expect("written");
        }
        // A former copy had a file more.
        fs::create_dir_all(&to).expect("made");
        fs::write(to.join("gone.rs"), "old").expect("written");
        copy_sources(&from, &to).expect("copied");
        let mut copied = lying_in(&to, Path::new("")).expect("listed");
        copied.sort();
        assert_eq!(copied, [".cargo/config.toml", "Cargo.toml"].map(PathBuf::from));
        assert!(!to.join("target").exists());
        fs::remove_dir_all(&place).expect("removed");
    }
}
