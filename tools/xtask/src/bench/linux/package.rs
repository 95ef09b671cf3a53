//! Debian's kernel: downloaded once as its package, of which the kernel is kept, in `target/linux/ARCH/kernel`.
//!
//! apt does it, as on a machine of that architecture that has nothing but Debian's archive for a source: with lists and
//! packages in a directory of ours, so that this machine's own are left alone. apt checks signatures and sums; whether the
//! file is a kernel for that architecture is checked here. No version is asked for, since archives keep only the last:
//! the kernel says which it is when it runs.

use std::fs::{self, File};
use std::io::{Read, copy};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::mirror;
use crate::progress::Spinner;
use crate::target::Architecture;
use crate::workspace::Workspace;

/// Debian's keys for all of its releases. Where this file is missing, apt trusts those that this machine trusts.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIB: u64 = 1 << 20;

/// What an architecture is to Debian.
struct Port {
    /// Its name.
    name: &'static str,
    /// The release with the kernel, under each of its names: a mirror in the middle of an update may have one of them in
    /// parts that don't fit together.
    releases: [&'static str; 2],
    /// Where in a kernel's file these bytes are.
    magic: (usize, &'static [u8]),
}

const fn port(architecture: Architecture) -> Port {
    match architecture {
        // Linux's boot protocol for x86: the header's magic number.
        Architecture::X86_64 => Port { name: "amd64", releases: ["bookworm", "oldstable"], magic: (0x202, b"HdrS") },
        // Debian 12 has no RISC-V. Linux's image header for RISC-V: the second magic number.
        Architecture::Riscv64 => Port { name: "riscv64", releases: ["trixie", "stable"], magic: (0x38, b"RSC\x05") },
    }
}

/// The kernel's file. Downloads its package, if that wasn't done before.
pub fn kernel(workspace: &Workspace, architecture: Architecture) -> Result<PathBuf> {
    let place = workspace.target.join("linux").join(architecture.name());
    let kernel = place.join("kernel");
    if !kernel.exists() {
        let port = port(architecture);
        let apt = Apt::new(&place.join("apt"), &port)?;
        download(&apt, &port, &kernel).with_context(|| format!("cannot get Debian's Linux for {}", port.name))?;
        fs::remove_dir_all(&apt.place).with_context(|| format!("cannot remove {}", apt.place.display()))?;
    }
    Ok(kernel)
}

/// Gets the newest package of the first release whose lists can be read, and takes the kernel out of it.
fn download(apt: &Apt, port: &Port, kernel: &Path) -> Result<()> {
    let mirror = mirror::find()?;
    let spinner = Spinner::new("Downloading", &format!("Debian's list of packages for {}", port.name));
    let mut reasons = Vec::new();
    let found = port.releases.iter().find_map(|release| match apt.newest(&mirror, release, port) {
        Ok(package) => Some(package),
        Err(reason) => {
            reasons.push(format!("{release}: {reason:#}"));
            None
        }
    });
    drop(spinner);
    let (package, bytes) = found.ok_or_else(|| anyhow!("{}", reasons.join("\n")))?;
    let spinner = Spinner::new("Downloading", &format!("Debian's {package} ({} MiB, once)", bytes / MIB));
    apt.run("apt-get", &["download", &package])?;
    let archive = apt.downloaded(&package)?;
    spinner.tell(&format!("Debian's {package}: unpacking the kernel"));
    // Under its own name only when it is all there.
    let unchecked = kernel.with_extension("part");
    unpack(&archive, &unchecked)?;
    ensure!(
        is_kernel(port, &fs::read(&unchecked)?),
        "{package} holds no kernel for {} that can be started directly",
        port.name
    );
    fs::rename(&unchecked, kernel).with_context(|| format!("cannot write {}", kernel.display()))
}

/// apt in a directory of its own, for another machine than this.
struct Apt {
    place: PathBuf,
    architecture: &'static str,
}

impl Apt {
    /// Starts with nothing: what an earlier download left half done is of no use.
    fn new(place: &Path, port: &Port) -> Result<Apt> {
        if place.exists() {
            fs::remove_dir_all(place).with_context(|| format!("cannot remove {}", place.display()))?;
        }
        for directory in ["lists/partial", "cache/archives/partial"] {
            let directory = place.join(directory);
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        fs::write(place.join("installed"), "")?;
        Ok(Apt { place: place.canonicalize()?, architecture: port.name })
    }

    /// The newest kernel of a release: its package, and how large that is.
    fn newest(&self, mirror: &str, release: &str, port: &Port) -> Result<(String, u64)> {
        let keys = if Path::new(KEYS).exists() { format!(" signed-by={KEYS}") } else { String::new() };
        let source = format!("deb [target=Packages lang=none{keys}] {mirror} {release} main\n");
        fs::write(self.place.join("sources.list"), source)?;
        self.run("apt-get", &["update"])?;
        let shown = self.show(&format!("linux-image-{}", port.name))?;
        let package = kernel_package(&shown).context("its package for the newest kernel depends on none")?;
        let bytes = field(&self.show(package)?, "Size").and_then(|size| size.parse().ok()).context("no size")?;
        Ok((package.to_string(), bytes))
    }

    fn show(&self, package: &str) -> Result<String> {
        self.run("apt-cache", &["show", "--no-all-versions", package]).with_context(|| format!("no {package}"))
    }

    /// The file of a package that was downloaded.
    fn downloaded(&self, package: &str) -> Result<PathBuf> {
        for entry in fs::read_dir(&self.place)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&format!("{package}_")) && name.ends_with(".deb") {
                return Ok(path);
            }
        }
        bail!("apt-get said nothing, but {package} is not there");
    }

    /// Runs one of apt's programs; answers what it prints.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.current_dir(&self.place).env("LC_ALL", "C").stdin(Stdio::null());
        command.arg("-q");
        let here = |name: &str| self.place.join(name).display().to_string();
        for (option, value) in [
            ("APT::Architecture", self.architecture.to_string()),
            ("APT::Architectures", self.architecture.to_string()),
            // This machine's choice among its own sources says nothing about ours.
            ("APT::Default-Release", String::new()),
            ("Dir::Etc::preferences", "/dev/null".into()),
            ("Dir::Etc::preferencesparts", "/dev/null".into()),
            ("Dir::Etc::sourcelist", here("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::State::lists", here("lists")),
            ("Dir::State::status", here("installed")),
            ("Dir::Cache", here("cache")),
            // apt's own user may not come into this directory.
            ("APT::Sandbox::User", "root".into()),
            // A list that could not be fetched is an error, not something to warn of.
            ("APT::Update::Error-Mode", "any".into()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        let output = command.args(arguments).output().with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            bail!("{}", complaints(&String::from_utf8_lossy(&output.stderr), program));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What apt calls errors, as one line; or that it failed.
fn complaints(text: &str, program: &str) -> String {
    let errors: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
    if errors.is_empty() { format!("{program} failed, and didn't say why") } else { errors.join("; ") }
}

/// The value of a field in what apt shows of a package.
fn field<'a>(shown: &'a str, name: &str) -> Option<&'a str> {
    shown.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The kernel's package, in what the package for the newest kernel depends on.
fn kernel_package(shown: &str) -> Option<&str> {
    let needed = field(shown, "Depends")?.split(',').filter_map(|package| package.split_ascii_whitespace().next());
    needed.into_iter().find(|package| package.starts_with("linux-image-"))
}

/// Takes the kernel out of a package.
fn unpack(package: &Path, kernel: &Path) -> Result<()> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--fsys-tarfile").arg(package).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut unpacker = command.spawn().context("cannot start dpkg-deb")?;
    let files = unpacker.stdout.take().context("dpkg-deb has no output")?;
    let unpacked = take_kernel(files, kernel);
    // The kernel stands in front; what follows is not read, and dpkg-deb stops at that.
    unpacker.wait()?;
    ensure!(unpacked?, "{} holds no kernel", package.display());
    Ok(())
}

/// Writes the kernel that is among these files; whether there is one.
fn take_kernel(files: impl Read, kernel: &Path) -> Result<bool> {
    for entry in tar::Archive::new(files).entries()? {
        let mut entry = entry?;
        let is_kernel = entry.path()?.to_string_lossy().trim_start_matches("./").starts_with("boot/vmlinu");
        if is_kernel {
            let mut file = File::create(kernel).with_context(|| format!("cannot write {}", kernel.display()))?;
            copy(&mut entry, &mut file)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a file is a kernel for this architecture, as an emulator can start it.
fn is_kernel(port: &Port, file: &[u8]) -> bool {
    let (place, magic) = port.magic;
    file.get(place..).is_some_and(|rest| rest.starts_with(magic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_found_in_what_depends_on_it() {
        let shown = "Package: linux-image-riscv64\nVersion: 7.2\nDepends: linux-base-riscv64 (= 7.2), \
                     linux-image-7.2+deb14-riscv64 (= 7.2)\nSize: 1652\n";
        assert_eq!(kernel_package(shown), Some("linux-image-7.2+deb14-riscv64"));
        assert_eq!(field(shown, "Size"), Some("1652"));
        assert_eq!(kernel_package("Package: linux-image-riscv64\nDepends: linux-base\n"), None);
        assert_eq!(kernel_package("Package: linux-image-riscv64\n"), None);
    }

    #[test]
    fn what_apt_calls_an_error_is_quoted() {
        let text = "Reading lists...\nW: old\nE: Failed to fetch it\nE: Some files failed\n";
        assert_eq!(complaints(text, "apt-get"), "Failed to fetch it; Some files failed");
        assert_eq!(complaints("W: old\n", "apt-get"), "apt-get failed, and didn't say why");
    }

    #[test]
    fn the_kernel_is_taken_out_of_a_package_s_files() {
        let mut files = tar::Builder::new(Vec::new());
        for (name, content) in [("./boot/config-6", "a"), ("./boot/vmlinuz-6", "kernel"), ("./lib/vmlinuz", "b")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            files.append_data(&mut header, name, content.as_bytes()).expect("in memory");
        }
        let files = files.into_inner().expect("in memory");
        let kernel = std::env::temp_dir().join(format!("anos-kernel-of-a-package-{}", std::process::id()));
        assert!(take_kernel(files.as_slice(), &kernel).expect("well formed"));
        assert_eq!(fs::read(&kernel).expect("written"), b"kernel");
        fs::remove_file(&kernel).expect("ours");
        let empty = tar::Builder::new(Vec::new()).into_inner().expect("in memory");
        assert!(!take_kernel(empty.as_slice(), &kernel).expect("well formed"));
    }

    #[test]
    fn a_kernel_is_one_of_the_right_architecture() {
        let mut file = vec![0; 0x202];
        file.extend_from_slice(b"HdrS");
        assert!(is_kernel(&port(Architecture::X86_64), &file));
        assert!(!is_kernel(&port(Architecture::Riscv64), &file));
        assert!(!is_kernel(&port(Architecture::X86_64), &file[..0x100]));
    }
}
