//! Makes a machine ready for Anos, then runs the real `cargo xtask` (tools/xtask).
//!
//! What a fresh machine lacks is installed with apt, without questions, and with a line that says what and why. On a
//! machine that is ready this costs a few process starts. Anything can be the cargo that starts this program, down to
//! Debian 12's own, so it has no dependencies and keeps to Rust 1.63.
//!
//! - [`machine`]: what is installed, and apt;
//! - [`toolchain`]: which Rust builds Anos.

mod machine;
mod toolchain;

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why the machine can't be made ready: a sentence for people, with the command that helps.
pub type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match prepare_and_run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("anos: {}", reason);
            ExitCode::FAILURE
        }
    }
}

fn prepare_and_run(arguments: &[String]) -> Outcome<()> {
    let root = repository_root()?;
    if env::consts::ARCH != "x86_64" {
        return Err(format!(
            "this machine is {}, and Anos is built on Debian amd64: its x86-64 programs take that compiler's own target",
            env::consts::ARCH
        ));
    }
    machine::install_missing(&machine::programs_for(arguments))?;
    let chosen = toolchain::choose(&target_directory(&root), machine::lints_for(arguments))?;
    let mut command = chosen.cargo(&root);
    command.arg("run").args(["--package", "xtask"]);
    if built_before(&target_directory(&root)) {
        command.arg("--quiet");
    } else {
        eprintln!("anos: building the build tool (once)");
    }
    if env::var_os("CI").is_some() {
        // A Cargo.lock that is not up to date must not pass. It is the whole workspace's, so looking once is enough.
        command.arg("--locked");
    }
    // Replaces this process: the terminal and its signals belong to the real tool alone.
    let reason = command.arg("--").args(arguments).exec();
    Err(format!("cannot start {}: {}", chosen.cargo.display(), reason))
}

/// The directory with the workspace's Cargo.toml: two above this crate's own.
fn repository_root() -> Outcome<PathBuf> {
    let own = env::var_os("CARGO_MANIFEST_DIR").ok_or("start this as `cargo xtask`")?;
    let root = Path::new(&own).ancestors().nth(2).ok_or("tools/bootstrap is not where it belongs")?;
    Ok(root.to_path_buf())
}

fn target_directory(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn built_before(target: &Path) -> bool {
    target.join("debug/xtask").exists()
}
