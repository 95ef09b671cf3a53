//! `cargo xtask fresh-machine`: the README's two commands on a Debian 12 that has git and cargo, and nothing else.
//!
//! The clean Debian is a chroot made by debootstrap. It gets this machine's package sources and certificates, so that
//! it reaches the network in the same way.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::build::{self, Voice};
use crate::cli::FreshMachineOptions;
use crate::guest::Guest;
use crate::progress::{say, warn};
use crate::shell::PROMPT;
use crate::workspace::Workspace;

/// Installing everything and building it may take this long.
const RUN_PATIENCE: Duration = Duration::from_secs(1800);
const TEST_PATIENCE: Duration = Duration::from_secs(3600);
/// The chroot, in the directory that was asked for.
const ROOT: &str = "root";
/// A file that says that the directory is ours, and what lies in it may be removed.
const MARK: &str = "made-by-anos-fresh-machine";
/// Where the kernel lists what is mounted (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";
/// Where the repository is cloned to inside.
const CLONE: &str = "home/anos";
/// This machine's settings that lead to the network: copied where they exist.
const NETWORK_SETTINGS: [&str; 7] = [
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/apt/apt.conf.d",
    "etc/resolv.conf",
    "etc/hosts",
    "etc/ssl/certs/ca-certificates.crt",
    "usr/share/keyrings",
];

/// Makes the machine and runs both commands.
pub fn command(workspace: &Workspace, options: &FreshMachineOptions) -> Result<ExitCode> {
    ensure!(rustix::process::geteuid().is_root(), "this makes a chroot: run it as root");
    let machine = FreshMachine::make(workspace, &options.directory)?;
    say("Running", "cargo xtask run");
    let started = Instant::now();
    let mut guest = Guest::start(machine.inside("cargo xtask run"), None, "cargo xtask fresh-machine")?;
    guest.expect(PROMPT, RUN_PATIENCE)?;
    guest.send_line("poweroff")?;
    guest.expect_end()?;
    println!("ok cargo xtask run on a fresh machine ({} s)", started.elapsed().as_secs());
    if options.only_run {
        return Ok(ExitCode::SUCCESS);
    }
    say("Running", "cargo xtask test");
    let started = Instant::now();
    let mut tests = Guest::start(machine.inside("cargo xtask test"), None, "cargo xtask fresh-machine")?;
    let status = tests.wait_for_end(TEST_PATIENCE)?;
    if !status.success() {
        bail!("{}", tests.report("cargo xtask test failed on a fresh machine"));
    }
    println!("{}", tests.transcript().trim_end().lines().last().unwrap_or_default());
    println!("ok cargo xtask test on a fresh machine ({} s)", started.elapsed().as_secs());
    Ok(ExitCode::SUCCESS)
}

/// A chroot with file systems mounted into it, which go when it is dropped.
struct FreshMachine {
    root: PathBuf,
}

impl FreshMachine {
    fn make(workspace: &Workspace, directory: &Path) -> Result<Self> {
        let root = &empty_place(directory)?;
        say("Making", &format!("a clean Debian 12 in {}", root.display()));
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", "--include=ca-certificates", "bookworm"]).arg(root);
        build::run(debootstrap, Voice::Quiet).context("install it if it is missing: apt-get install debootstrap")?;
        for setting in NETWORK_SETTINGS {
            let from = Path::new("/").join(setting);
            if from.exists() {
                let mut copy = Command::new("cp");
                copy.args(["-a", "--dereference", "--remove-destination", "--no-target-directory"])
                    .arg(from)
                    .arg(root.join(setting));
                build::run(copy, Voice::Quiet)?;
            }
        }
        let machine = FreshMachine { root: root.clone() };
        for (kind, place) in [("proc", "proc"), ("sysfs", "sys"), ("devtmpfs", "dev"), ("devpts", "dev/pts")] {
            let mut mount = Command::new("mount");
            mount.args(["-t", kind, kind]).arg(root.join(place));
            build::run(mount, Voice::Quiet)?;
        }
        say("Making", "git and cargo, and a clone of the last commit");
        let install = "apt-get -qq update && apt-get -qq install --yes --no-install-recommends git cargo";
        build::run(machine.inside_at("/", install), Voice::Quiet)?;
        let mut clone = Command::new("git");
        clone.args(["clone", "--quiet", "--no-hardlinks"]).arg(&workspace.root).arg(root.join(CLONE));
        build::run(clone, Voice::Quiet)?;
        Ok(machine)
    }

    fn inside(&self, script: &str) -> Command {
        self.inside_at(&format!("/{CLONE}"), script)
    }

    /// A command inside, with next to nothing in its environment.
    fn inside_at(&self, directory: &str, script: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["/usr/bin/env", "-i", "HOME=/root", "TERM=dumb", "LANG=C.UTF-8"]);
        command.arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin").arg("DEBIAN_FRONTEND=noninteractive");
        command.args(["/bin/sh", "-c", &format!("cd {directory} && exec sh -c '{script}'")]);
        command
    }
}

impl Drop for FreshMachine {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.root) {
            warn(&format!("{error:#}"));
        }
    }
}

/// A place for the chroot in a directory that is empty, or that a former run has marked; what that left is removed.
fn empty_place(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // As the kernel lists it among the mounts.
    let directory = directory.canonicalize()?;
    let mark = directory.join(MARK);
    if !mark.exists() {
        let is_empty = fs::read_dir(&directory)?.next().is_none();
        ensure!(
            is_empty,
            "{} is not empty, and no former run made it: name another with --directory, or empty it yourself",
            directory.display()
        );
        fs::write(&mark, "`cargo xtask fresh-machine` removes what lies beside this file.\n")?;
    }
    let root = directory.join(ROOT);
    unmount(&root)?;
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    Ok(root)
}

/// Unmounts what is mounted inside, and looks whether it is gone: what is removed there would be this machine's.
fn unmount(root: &Path) -> Result<()> {
    // The last one first: it may lie in an earlier one.
    for place in mounted_below(root, &fs::read(MOUNTS)?).iter().rev() {
        let mut command = Command::new("umount");
        command.arg("--lazy").arg(place);
        build::run(command, Voice::Quiet)?;
    }
    let left = mounted_below(root, &fs::read(MOUNTS)?);
    match left.first() {
        None => Ok(()),
        Some(place) => bail!("{} is still mounted; unmount it: sudo umount {0}", place.display()),
    }
}

/// The places at or below a directory at which something is mounted, in the order of mounting.
fn mounted_below(root: &Path, mounts: &[u8]) -> Vec<PathBuf> {
    let places = mounts.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    places.map(unescaped).filter(|place| place.starts_with(root)).collect()
}

/// A path in the list of mounts; blanks and the like stand there as `\040`.
fn unescaped(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &behind[3..] } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory_are_found_and_others_are_not() {
        let mounts = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 21 0:5 / /var/tmp/a\\040b/root/dev rw,nosuid shared:2 - devtmpfs udev rw\n\
            31 30 0:6 / /var/tmp/a\\040b/root/dev/pts rw - devpts devpts rw\n\
            32 21 0:7 / /var/tmp/a\\040b/rooted rw - tmpfs none rw\n";
        let found = mounted_below(Path::new("/var/tmp/a b/root"), mounts);
        assert_eq!(found, ["/var/tmp/a b/root/dev", "/var/tmp/a b/root/dev/pts"].map(PathBuf::from));
    }

    #[test]
    fn a_directory_with_something_else_in_it_is_left_alone() {
        let directory = std::env::temp_dir().join(format!("anos-fresh-machine-test-{}", std::process::id()));
        let precious = directory.join("root/precious");
        fs::create_dir_all(&precious).expect("made");
        let refused = empty_place(&directory).expect_err("not empty").to_string();
        assert!(refused.contains("is not empty") && precious.exists(), "{refused}");
        fs::write(directory.join(MARK), "").expect("marked");
        let place = empty_place(&directory).expect("a former run's");
        assert!(place.ends_with(ROOT) && !place.exists() && directory.join(MARK).exists());
        fs::remove_dir_all(&directory).expect("removed");
    }
}
