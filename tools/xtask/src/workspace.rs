//! Where things are, and which cargo builds them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::target::{Architecture, Profile};

/// Where the Rust libraries for the targets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// rustup: prebuilt, with its own linker.
    Rustup,
    /// Debian's packages: built from source with `-Zbuild-std`, linked with Debian's lld.
    Debian,
}

/// The repository and its tools.
pub struct Workspace {
    /// The directory of the workspace's Cargo.toml.
    pub root: PathBuf,
    /// Where cargo and we build: `target`, or what CARGO_TARGET_DIR says.
    pub target: PathBuf,
    /// Which toolchain tools/bootstrap chose.
    pub toolchain: Toolchain,
    cargo: PathBuf,
}

impl Workspace {
    /// The workspace that the current directory lies in.
    pub fn find() -> Result<Self> {
        let here = env::current_dir().context("cannot tell the current directory")?;
        let root = here.ancestors().find(|directory| directory.join("tools/xtask/Cargo.toml").is_file());
        let root = root.context("not in the Anos repository: start this there, as `cargo xtask`")?.to_path_buf();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path));
        let toolchain = match env::var("ANOS_TOOLCHAIN").as_deref() {
            Ok("debian") => Toolchain::Debian,
            _ => Toolchain::Rustup,
        };
        let cargo = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        Ok(Workspace { root, target, toolchain, cargo })
    }

    /// The same tools on another copy of the sources.
    pub fn elsewhere(&self, root: &Path, target: &Path) -> Self {
        Workspace {
            root: root.to_path_buf(),
            target: target.to_path_buf(),
            toolchain: self.toolchain,
            cargo: self.cargo.clone(),
        }
    }

    /// Where the products for an architecture and profile go.
    pub fn products(&self, architecture: Architecture, profile: Profile) -> PathBuf {
        self.target.join("anos").join(architecture.name()).join(profile.name())
    }

    /// The manifest of a system.
    pub fn manifest(&self, system: &str) -> PathBuf {
        self.root.join("systems").join(system).with_extension("toml")
    }

    /// Every crate of ours: its name and directory.
    pub fn crates(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut command = self.cargo();
        command.args(["metadata", "--no-deps", "--format-version=1", "--offline"]);
        let output = command.output().context("cannot start cargo")?;
        ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cannot read cargo's metadata")?;
        let directory = |package: Package| Some((package.name, package.manifest_path.parent()?.to_path_buf()));
        let mut crates: Vec<_> = metadata.packages.into_iter().filter_map(directory).collect();
        crates.push(("anos-bootstrap".to_string(), self.root.join("tools/bootstrap")));
        crates.sort();
        Ok(crates)
    }

    /// Cargo, run in the workspace, without what the cargo that runs us left in the environment.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        for (key, _) in env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&key);
            }
        }
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "LD_LIBRARY_PATH"] {
            command.env_remove(name);
        }
        command
    }
}

/// What we read of `cargo metadata`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}
