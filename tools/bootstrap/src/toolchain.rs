//! Which Rust builds Anos: rustup's with its prebuilt bare-metal libraries, or Debian's, which builds them from source.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::{find, install, output};
use crate::Outcome;

/// The oldest compiler that Anos builds with: 1.this.
const OLDEST_MINOR: u32 = 95;
/// The targets of kernel and programs for which libraries are needed.
const TARGETS: [&str; 3] = ["x86_64-unknown-none", "riscv64imac-unknown-none-elf", "riscv64gc-unknown-none-elf"];
/// How long rustup may take to download a target before we go on without it.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(120);
/// Says which toolchain to take (`rustup` or `debian`), and tells tools/xtask which was taken.
const CHOICE: &str = "ANOS_TOOLCHAIN";

#[derive(Clone, Copy, PartialEq)]
enum Source {
    Rustup,
    Debian,
}

/// A toolchain that is ready to use.
pub struct Toolchain {
    source: Source,
    /// Its cargo.
    pub cargo: PathBuf,
}

impl Toolchain {
    /// This toolchain's cargo, to be run in the repository, without what another cargo left in the environment.
    pub fn cargo(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(root).env_remove("LD_LIBRARY_PATH");
        match self.source {
            Source::Rustup => command.env(CHOICE, "rustup"),
            Source::Debian => command
                .env(CHOICE, "debian")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTDOC", "/usr/bin/rustdoc")
                .env_remove("RUSTUP_TOOLCHAIN"),
        };
        command
    }
}

/// Picks the toolchain, installing what is missing. `lints` asks for rustfmt and clippy too.
pub fn choose(target_directory: &Path, lints: bool) -> Outcome<Toolchain> {
    let wanted = env::var(CHOICE).unwrap_or_default();
    if wanted != "debian" {
        if let Some(cargo) = rustup_cargo() {
            let gave_up = target_directory.join("rustup-targets-unavailable");
            let may_download = wanted == "rustup" || !(gave_up.exists() && debian_is_ready(lints));
            if rustup_has_targets() || (may_download && rustup_adds_targets(&gave_up)) {
                return Ok(Toolchain { source: Source::Rustup, cargo });
            }
        }
    }
    if wanted == "rustup" {
        return Err(format!(
            "rustup with Rust 1.{} or newer is not here; install it: https://rustup.rs, then: rustup target add {}",
            OLDEST_MINOR,
            TARGETS.join(" ")
        ));
    }
    install_debian(lints)?;
    Ok(Toolchain { source: Source::Debian, cargo: PathBuf::from("/usr/bin/cargo") })
}

/// rustup's cargo, if its active compiler is new enough.
fn rustup_cargo() -> Option<PathBuf> {
    find("rustup")?;
    let compiler = output(Command::new("rustup").args(["which", "rustc"]))?;
    if !is_new_enough(Path::new(compiler.trim())) {
        return None;
    }
    output(Command::new("rustup").args(["which", "cargo"])).map(|cargo| PathBuf::from(cargo.trim()))
}

fn rustup_has_targets() -> bool {
    let installed = output(Command::new("rustup").args(["target", "list", "--installed"])).unwrap_or_default();
    TARGETS.iter().all(|target| installed.lines().any(|line| line == *target))
}

/// Downloads the targets; if that fails, leaves a note so that the next start doesn't try again.
fn rustup_adds_targets(gave_up: &Path) -> bool {
    eprintln!("anos: adding bare-metal targets with rustup: {}", TARGETS.join(" "));
    let mut command = Command::new("rustup");
    command.args(["target", "add"]).args(TARGETS).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let added = command.spawn().map_or(false, |child| succeeds_within(child, RUSTUP_PATIENCE));
    if added {
        // The note may be absent; either way nothing is left to do.
        let _ = fs::remove_file(gave_up);
    } else {
        eprintln!("anos: rustup could not add them; taking Debian's toolchain instead");
        if let Some(directory) = gave_up.parent() {
            // Without the note the next start merely tries again.
            let _ = fs::create_dir_all(directory).and_then(|()| fs::write(gave_up, "remove this file to try again\n"));
        }
    }
    added
}

fn succeeds_within(mut child: Child, patience: Duration) -> bool {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if start.elapsed() < patience => thread::sleep(Duration::from_millis(20)),
            _ => {
                // It may have ended in between: then there is nothing to kill.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

fn debian_is_ready(lints: bool) -> bool {
    missing_in_debian(lints).is_empty()
}

/// Debian's packages that are still to be installed.
fn missing_in_debian(lints: bool) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let compiler = Path::new("/usr/bin/rustc");
    if !is_new_enough(compiler) {
        missing.push("rustc-web");
    }
    if !is_new_enough(Path::new("/usr/bin/cargo")) {
        missing.push("cargo-web");
    }
    let library = output(Command::new(compiler).args(["--print", "sysroot"]))
        .map(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs"));
    if !missing.is_empty() || !library.map_or(false, |file| file.exists()) {
        missing.push("rust-web-src");
    }
    if find("ld.lld-22").is_none() {
        missing.push("lld-22");
    }
    if lints && !Path::new("/usr/bin/rustfmt").exists() {
        missing.push("rustfmt-web");
    }
    if lints && !Path::new("/usr/bin/cargo-clippy").exists() {
        missing.push("rust-web-clippy");
    }
    missing
}

fn install_debian(lints: bool) -> Outcome<()> {
    let missing = missing_in_debian(lints);
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!(
        "anos: no Rust 1.{} with bare-metal targets here; taking Debian's (it replaces an older one)",
        OLDEST_MINOR
    );
    install(&missing)?;
    let still_missing = missing_in_debian(lints);
    if still_missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "apt's {} is too old: Anos needs Rust 1.{}; see https://rustup.rs",
        still_missing.join(" "),
        OLDEST_MINOR
    ))
}

/// Whether a `rustc` or `cargo` says that it is new enough.
fn is_new_enough(program: &Path) -> bool {
    output(Command::new(program).arg("--version")).map_or(false, |text| minor_version(&text) >= Some(OLDEST_MINOR))
}

/// The 95 in `rustc 1.95.0 (...)`.
fn minor_version(text: &str) -> Option<u32> {
    text.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::minor_version;

    #[test]
    fn versions_of_rustc_and_cargo_are_read() {
        assert_eq!(minor_version("rustc 1.95.0 (59807616e 2026-04-14)"), Some(95));
        assert_eq!(minor_version("cargo 1.96.0 (30a34c682 2026-05-25) (built from a source tarball)"), Some(96));
        assert_eq!(minor_version("cargo 1.65.0"), Some(65));
        assert_eq!(minor_version("nonsense"), None);
    }
}
