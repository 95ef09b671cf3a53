//! `cargo xtask fresh-machine`: the README's two commands on a Debian 12 that has git and cargo, and nothing else.
//!
//! The clean Debian is a chroot made by debootstrap. It gets this machine's package sources and certificates, so that
//! it reaches the network in the same way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::build::{self, Voice};
use crate::cli::FreshMachineOptions;
use crate::guest::Guest;
use crate::progress::say;
use crate::shell::PROMPT;
use crate::workspace::Workspace;

/// Installing everything and building it may take this long.
const RUN_PATIENCE: Duration = Duration::from_secs(1800);
const TEST_PATIENCE: Duration = Duration::from_secs(3600);
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
    fn make(workspace: &Workspace, root: &Path) -> Result<Self> {
        unmount(root);
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
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
        let machine = FreshMachine { root: root.to_path_buf() };
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
        unmount(&self.root);
    }
}

/// Unmounts what is mounted inside; nothing may be.
fn unmount(root: &Path) {
    for place in ["dev/pts", "dev", "sys", "proc"] {
        let path = root.join(place);
        let mut command = Command::new("umount");
        command.arg("--lazy").arg(path).stderr(std::process::Stdio::null());
        // Not mounted is as good as unmounted.
        let _ = command.status();
    }
}
