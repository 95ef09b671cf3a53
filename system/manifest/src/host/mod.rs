//! The manifest as people write it (TOML), and its checks: for the tool that builds images.
//!
//! [`load`] reads and checks a file, [`compile`] makes what goes into the boot archive. `read` turns TOML into
//! values with their lines, `check` looks at the whole.

use core::ops::RangeInclusive;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, fs};

use std::path::{Path, PathBuf};

use crate::{CpuTime, Device, MAGIC, Program, Restart, Start, System, Use, program_file};

pub use diagnostics::{Diagnostic, Diagnostics};

mod check;
mod diagnostics;
mod read;
mod values;
mod workspace;

/// The package that is the root server unless the manifest names another.
pub const DEFAULT_ROOT: &str = "anos-system";

/// An architecture that systems are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    X86_64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Riscv64];

    /// Its name in manifests and on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Riscv64 => "riscv64",
        }
    }

    /// Interrupt lines that the kernel gives to drivers: on x86-64 as many as it has vectors for, on RISC-V all that it
    /// keeps books of; the PLIC has no line 0.
    pub const fn interrupts(self) -> RangeInclusive<u64> {
        match self {
            Architecture::X86_64 => 0..=47,
            Architecture::Riscv64 => 1..=255,
        }
    }
}

/// A value and the line it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// The line, from 1.
    pub line: usize,
}

/// A system as its manifest describes it: read, and found to make sense.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The system's name.
    pub name: String,
    /// The package that is its root server.
    pub root: Located<String>,
    /// The devices.
    pub devices: Vec<DeviceEntry>,
    /// The programs, in the order of the file.
    pub programs: Vec<ProgramEntry>,
}

/// A device.
#[derive(Clone, Debug)]
pub struct DeviceEntry {
    /// Its name.
    pub name: Located<String>,
    /// What it is on x86-64, if it is there.
    pub x86_64: Option<Located<Device>>,
    /// What it is on RISC-V, if it is there.
    pub riscv64: Option<Located<Device>>,
}

impl DeviceEntry {
    /// What it is on an architecture.
    pub fn on(&self, architecture: Architecture) -> Option<&Located<Device>> {
        match architecture {
            Architecture::X86_64 => self.x86_64.as_ref(),
            Architecture::Riscv64 => self.riscv64.as_ref(),
        }
    }
}

/// A program, with names where the compiled form has indices.
#[derive(Clone, Debug)]
pub struct ProgramEntry {
    /// Its name.
    pub name: Located<String>,
    /// The cargo package that builds it.
    pub package: Located<String>,
    /// When it starts.
    pub start: Start,
    /// Whether it starts again.
    pub restart: Restart,
    /// Processes that may run it at the same time.
    pub instances: u8,
    /// Whether it takes arguments.
    pub arguments: bool,
    /// Priority of its first thread.
    pub priority: u8,
    /// The highest priority its threads can give.
    pub ceiling: u8,
    /// The cores that its threads may use, as bits; 0 for all.
    pub cores: u64,
    /// The CPU time that each of its threads gets, if that is limited.
    pub cpu: Option<CpuTime>,
    /// Memory quota in bytes.
    pub memory: u64,
    /// Slots of its capability table.
    pub slots: u32,
    /// Devices it drives.
    pub devices: Vec<Located<String>>,
    /// Services it provides.
    pub provides: Vec<Located<String>>,
    /// Services it may call.
    pub uses: Vec<UseEntry>,
    /// What it may ask of the root server.
    pub process: u8,
    /// Whether it holds Debug.
    pub debug: bool,
    /// Whether it holds every SchedControl.
    pub sched: bool,
}

/// The right to call a service.
#[derive(Clone, Debug)]
pub struct UseEntry {
    /// The service.
    pub service: Located<String>,
    /// Whether capabilities can be passed along in calls.
    pub pass: bool,
    /// The role in which it calls.
    pub role: u32,
}

impl Manifest {
    /// The packages to build for the programs, each once, in the order of the file; the root server's not among them.
    pub fn packages(&self) -> Vec<&str> {
        let mut packages = Vec::new();
        for program in &self.programs {
            if !packages.contains(&program.package.value.as_str()) {
                packages.push(program.package.value.as_str());
            }
        }
        packages
    }

    /// Every service, in the order in which the file provides them.
    fn services(&self) -> Vec<&str> {
        self.programs.iter().flat_map(|program| &program.provides).map(|service| service.value.as_str()).collect()
    }
}

/// Reads a manifest and checks it. If the file lies in a cargo workspace, the packages it names must be members.
///
/// # Errors
/// Everything that is wrong with it, with file and line and what to write instead.
pub fn load(path: &Path) -> Result<Manifest, Diagnostics> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Err(Diagnostics::one(path, 1, format!("cannot read this manifest: {error}"))),
    };
    let packages = match workspace::packages(path) {
        Ok(packages) => packages,
        Err(error) => return Err(Diagnostics::one(path, 1, error)),
    };
    parse(path, &text, packages.as_deref())
}

/// Reads and checks a manifest's text. `path` is for the messages; `packages` are those that exist, if that is known.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, packages: Option<&[String]>) -> Result<Manifest, Diagnostics> {
    let mut diagnostics = Diagnostics::new(path);
    let manifest = read::manifest(text, &mut diagnostics);
    if diagnostics.is_empty() {
        check::manifest(&manifest, packages, &mut diagnostics);
    }
    if diagnostics.is_empty() { Ok(manifest) } else { Err(diagnostics) }
}

/// The compiled form for one architecture: the boot archive's [`FILE`](crate::FILE).
pub fn compile(manifest: &Manifest, architecture: Architecture) -> Vec<u8> {
    let services = manifest.services();
    let system = System {
        name: manifest.name.clone(),
        services: services.iter().map(ToString::to_string).collect(),
        programs: manifest.programs.iter().map(|entry| program(manifest, &services, entry, architecture)).collect(),
    };
    // A `Vec` takes any number of bytes, so encoding can't fail.
    postcard::to_extend(&system, MAGIC.to_vec()).unwrap_or_default()
}

fn program(manifest: &Manifest, services: &[&str], entry: &ProgramEntry, architecture: Architecture) -> Program {
    // `check` has made sure that every name leads somewhere, and that there are few enough of them for 16 bits.
    let index = |name: &str| services.iter().position(|&service| service == name).map(u16::try_from);
    let index = |name: &str| index(name).and_then(Result::ok).unwrap_or(u16::MAX);
    let device = |name: &str| {
        let entry = manifest.devices.iter().find(|device| device.name.value == name)?;
        Some(entry.on(architecture)?.value.clone())
    };
    Program {
        name: entry.name.value.clone(),
        file: program_file(&entry.package.value),
        start: entry.start,
        restart: entry.restart,
        instances: entry.instances,
        arguments: entry.arguments,
        priority: entry.priority,
        ceiling: entry.ceiling,
        cores: entry.cores,
        cpu: entry.cpu,
        memory: entry.memory,
        slots: entry.slots,
        devices: entry.devices.iter().filter_map(|name| device(&name.value)).collect(),
        provides: entry.provides.iter().map(|name| index(&name.value)).collect(),
        uses: entry
            .uses
            .iter()
            .map(|used| Use { service: index(&used.service.value), pass: used.pass, role: used.role })
            .collect(),
        process: entry.process,
        debug: entry.debug,
        sched: entry.sched,
    }
}

/// The directory of the workspace that a file lies in, if any.
pub fn workspace_directory(path: &Path) -> Option<PathBuf> {
    workspace::directory(path)
}
