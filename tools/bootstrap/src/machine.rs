//! What is installed on this machine, and how to install the rest.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;

/// A program that Anos needs, and where it comes from.
pub struct Program {
    /// Its file name in PATH.
    pub name: &'static str,
    /// The Debian package that holds it.
    pub package: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

const QEMU_X86_64: Program =
    Program { name: "qemu-system-x86_64", package: "qemu-system-x86", purpose: "emulates the x86-64 machine" };
const QEMU_RISCV64: Program =
    Program { name: "qemu-system-riscv64", package: "qemu-system-misc", purpose: "emulates the RISC-V machine" };
const GDB: Program = Program { name: "gdb-multiarch", package: "gdb-multiarch", purpose: "debugs both architectures" };

/// The programs that this command line will need. Help needs none.
pub fn programs_for(arguments: &[String]) -> Vec<Program> {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return Vec::new();
    }
    match arguments.first().map(String::as_str) {
        Some("run" | "test" | "boots" | "bench") => vec![QEMU_X86_64, QEMU_RISCV64],
        Some("debug") => vec![QEMU_X86_64, QEMU_RISCV64, GDB],
        _ => Vec::new(),
    }
}

/// Whether this command line formats and lints.
pub fn lints_for(arguments: &[String]) -> bool {
    arguments.first().map_or(false, |verb| verb == "check")
}

/// Installs those of `programs` that are missing.
pub fn install_missing(programs: &[Program]) -> Outcome<()> {
    let missing: Vec<&Program> = programs.iter().filter(|program| find(program.name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for program in &missing {
        eprintln!("anos: {} is missing (it {})", program.name, program.purpose);
    }
    let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    install(&packages)?;
    match missing.iter().find(|program| find(program.name).is_none()) {
        None => Ok(()),
        Some(program) => Err(format!("{} is still missing after installing {}", program.name, program.package)),
    }
}

/// The first executable of that name in PATH or where a package would put it.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = [PathBuf::from("/usr/local/bin"), PathBuf::from("/usr/bin"), PathBuf::from("/usr/sbin")];
    env::split_paths(&path).chain(usual).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// rustup, also where its installer has put it without PATH knowing yet.
pub fn find_rustup() -> Option<PathBuf> {
    find("rustup").or_else(|| {
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))?;
        Some(home.join("bin/rustup")).filter(|file| file.is_file())
    })
}

/// Installs Debian packages: as root, or through sudo where it asks for no password.
pub fn install(packages: &[&str]) -> Outcome<()> {
    let by_hand = format!("install it by hand: sudo apt-get install {}", packages.join(" "));
    let apt = match find("apt-get") {
        Some(apt) => apt,
        None => return Err(format!("this machine has no apt-get; install the equivalent of: {}", packages.join(" "))),
    };
    let elevate = match elevation() {
        Some(elevate) => elevate,
        None => return Err(format!("neither root nor a sudo that asks nothing; {}", by_hand)),
    };
    eprintln!("anos: installing {} with apt-get", packages.join(" "));
    let lists_are_old = !apt_get(&elevate, &apt, &["update"]);
    if apt_get(&elevate, &apt, &[&["install", "--yes", "--no-install-recommends"][..], packages].concat()) {
        return Ok(());
    }
    let hint = if lists_are_old { " (apt-get update failed too: is there a network?)" } else { "" };
    Err(format!("apt-get could not install {}{}; {}", packages.join(" "), hint, by_hand))
}

/// The words to put before a command so that it runs as root; `None` if there is no way without a question.
fn elevation() -> Option<Vec<&'static str>> {
    if output(Command::new("id").arg("-u")).map_or(false, |user| user.trim() == "0") {
        return Some(Vec::new());
    }
    let sudo_asks_nothing = find("sudo").is_some() && quietly(Command::new("sudo").args(["-n", "true"]));
    if sudo_asks_nothing {
        Some(vec!["sudo", "-n"])
    } else {
        None
    }
}

fn apt_get(elevate: &[&str], apt: &Path, arguments: &[&str]) -> bool {
    // `env` is what carries the variable through sudo.
    let mut words: Vec<&str> = elevate.to_vec();
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(apt).arg("-q").args(["-o", "Dpkg::Use-Pty=0"]);
    // A fresh machine may just be updating itself.
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    command.stdin(Stdio::null()).status().map_or(false, |status| status.success())
}

/// Runs a command with nothing on the screen; whether it succeeded.
pub fn quietly(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().map_or(false, |status| status.success())
}

/// What a command prints, if it succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    if output.status.success() {
        String::from_utf8(output.stdout).ok()
    } else {
        None
    }
}
