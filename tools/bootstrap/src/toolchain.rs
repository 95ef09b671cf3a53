//! Which Rust builds Anos: rustup's with its prebuilt bare-metal libraries, or Debian's, which builds them from source.

use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::{find, find_rustup, install, output};
use crate::Outcome;

/// The oldest compiler that Anos builds with: 1.this.
const OLDEST_MINOR: u32 = 95;
/// The targets of kernel and programs for which libraries are needed.
const TARGETS: [&str; 3] = ["x86_64-unknown-none", "riscv64imac-unknown-none-elf", "riscv64gc-unknown-none-elf"];
/// How long rustup may take to download a target before we go on without it.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(120);
/// Says which toolchain to take (`rustup` or `debian`), and tells tools/xtask which was taken.
const CHOICE: &str = "ANOS_TOOLCHAIN";

/// A toolchain that is ready to use.
pub struct Toolchain {
    /// Whose it is, in the words of `ANOS_TOOLCHAIN`.
    source: &'static str,
    /// Its cargo.
    pub cargo: PathBuf,
    /// Its compiler, and beside that its rustdoc.
    compiler: PathBuf,
}

impl Toolchain {
    /// This toolchain's cargo, to be run in the repository, without what another cargo left in the environment.
    pub fn cargo(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(root).env_remove("LD_LIBRARY_PATH").env(CHOICE, self.source);
        // Cargo would take the first ones in PATH, which may be another toolchain's.
        command.env("RUSTC", &self.compiler).env("RUSTDOC", self.compiler.with_file_name("rustdoc"));
        if self.source == "debian" {
            command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTUP_TOOLCHAIN");
        }
        command
    }
}

/// Picks the toolchain, installing what is missing. `lints` asks for rustfmt and clippy too.
pub fn choose(target_directory: &Path, lints: bool) -> Outcome<Toolchain> {
    let wanted = env::var(CHOICE).unwrap_or_default();
    if wanted != "debian" {
        let unavailable = match rustup_toolchain() {
            Ok((rustup, toolchain)) => {
                let gave_up = target_directory.join("rustup-targets-unavailable");
                let may_download = wanted == "rustup" || !(gave_up.exists() && debian_is_ready(lints));
                if rustup_has_targets(&rustup) || (may_download && rustup_adds_targets(&rustup, &gave_up)) {
                    return Ok(toolchain);
                }
                format!("rustup lacks libraries; get them: rustup target add {}", TARGETS.join(" "))
            }
            Err(reason) => reason,
        };
        if wanted == "rustup" {
            return Err(unavailable);
        }
    }
    install_debian(lints)?;
    let [cargo, compiler] = ["/usr/bin/cargo", "/usr/bin/rustc"].map(PathBuf::from);
    Ok(Toolchain { source: "debian", cargo, compiler })
}

/// rustup and its active toolchain, if that is new enough.
fn rustup_toolchain() -> Outcome<(PathBuf, Toolchain)> {
    let rustup = find_rustup().ok_or("rustup is not here; install it: https://rustup.rs")?;
    let which = |name| output(Command::new(&rustup).args(["which", name])).map(|path| PathBuf::from(path.trim()));
    match (which("rustc"), which("cargo")) {
        (Some(compiler), Some(cargo)) if is_new_enough(&compiler) => {
            Ok((rustup, Toolchain { source: "rustup", cargo, compiler }))
        }
        _ => Err(format!("rustup has no Rust 1.{} or newer; get it: rustup update stable", OLDEST_MINOR)),
    }
}

fn rustup_has_targets(rustup: &Path) -> bool {
    let installed = output(Command::new(rustup).args(["target", "list", "--installed"])).unwrap_or_default();
    TARGETS.iter().all(|target| installed.lines().any(|line| line == *target))
}

/// Downloads the targets; if that fails, says why, and leaves a note so that the next start doesn't try again.
fn rustup_adds_targets(rustup: &Path, gave_up: &Path) -> bool {
    eprintln!("anos: adding bare-metal targets with rustup: {}", TARGETS.join(" "));
    let mut command = Command::new(rustup);
    command.args(["target", "add"]).args(TARGETS);
    match succeeds_within(&mut command, RUSTUP_PATIENCE) {
        Ok(()) => {
            // The note may be absent; either way nothing is left to do.
            let _ = fs::remove_file(gave_up);
            true
        }
        Err(reason) => {
            eprintln!("{}\nanos: rustup could not add them", reason.trim_end());
            if let Some(directory) = gave_up.parent() {
                // Without the note the next start merely tries again.
                let _ =
                    fs::create_dir_all(directory).and_then(|()| fs::write(gave_up, "remove this file to try again\n"));
            }
            false
        }
    }
}

/// Runs a command silently. If it fails, or takes too long, that is said, after what it said itself.
fn succeeds_within(command: &mut Command, patience: Duration) -> Outcome<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|reason| reason.to_string())?;
    let errors = child.stderr.take();
    // In a thread of its own: a command that nobody listens to may wait for that for ever.
    let listener = thread::spawn(move || {
        let mut text = Vec::new();
        // What could be read until an error is still worth showing.
        let _ = errors.map(|mut errors| errors.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let start = Instant::now();
    let ending = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => break status.to_string(),
            Ok(None) if start.elapsed() < patience => thread::sleep(Duration::from_millis(20)),
            _ => {
                // It may have ended in between: then there is nothing to kill.
                let _ = child.kill();
                let _ = child.wait();
                // What it has said so far is not waited for: what it has started may hold the line.
                return Err(format!("not done after {} s", patience.as_secs()));
            }
        }
    };
    Err(listener.join().unwrap_or_default() + &ending)
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
    use super::{minor_version, succeeds_within};
    use std::process::Command;
    use std::time::Duration;

    fn shell(script: &str, patience: Duration) -> Result<(), String> {
        succeeds_within(Command::new("sh").args(["-c", script]), patience)
    }

    #[test]
    fn a_command_that_fails_is_quoted() {
        let long = Duration::from_secs(60);
        assert_eq!(shell("echo fine >&2", long), Ok(()));
        assert_eq!(shell("echo no network >&2; exit 3", long), Err("no network\nexit status: 3".into()));
        let slow = shell("echo wait >&2; exec sleep 60", Duration::from_secs(1));
        assert_eq!(slow.map_err(|text| text.ends_with("not done after 1 s")), Err(true));
    }

    #[test]
    fn versions_of_rustc_and_cargo_are_read() {
        assert_eq!(minor_version("rustc 1.95.0 (59807616e 2026-04-14)"), Some(95));
        assert_eq!(minor_version("cargo 1.96.0 (30a34c682 2026-05-25) (built from a source tarball)"), Some(96));
        assert_eq!(minor_version("cargo 1.65.0"), Some(65));
        assert_eq!(minor_version("nonsense"), None);
    }
}
