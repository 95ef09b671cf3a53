//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::target::{Architecture, Baseline, Machine, Profile, Suite};

/// Builds, runs, tests and measures Anos.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What `cargo xtask` can do.
#[derive(Subcommand)]
pub enum Verb {
    /// Boot Anos in QEMU and talk to it (Ctrl-A X leaves)
    Run(RunOptions),
    /// Build programs, kernel and boot image into target/anos/ARCH/PROFILE/
    Build(BuildOptions),
    /// Build, and say where the bootable image lies and what is in it
    Image(BuildOptions),
    /// Test everything: on the host, in QEMU, through the shell
    Test(TestOptions),
    /// Check formatting, lints, style, unsafe code, README and book
    Check(CheckOptions),
    /// Show the size of the kernel; fails if a release kernel is over its budget or can panic
    Size(SizeOptions),
    /// Show how deep the release kernel's stacks get; fails if one is too small, or at recursion or an indirect call
    Depth(DepthOptions),
    /// Count the instructions of what the kernel does, beside those that others need
    Bench(BenchOptions),
    /// Show where the instructions of a figure go, step by step
    Trace(TraceOptions),
    /// Search for the longest time, in instructions, for which interrupts stay off
    Longest(LongestOptions),
    /// Boot under GDB, stopped before the first instruction
    Debug(RunOptions),
    /// Put faults into the kernel, one at a time; fails if there is one that no test notices
    Mutants(MutantsOptions),
    /// Boot many times on every kind of machine; fails if one boot hangs
    Boots(BootsOptions),
    /// Run the README's commands on a clean Debian 12 in a chroot (as root, with debootstrap)
    FreshMachine(FreshMachineOptions),
}

/// What to test.
#[derive(Args, Clone)]
pub struct TestOptions {
    /// Architecture [default: both]
    #[arg(long, value_enum)]
    pub arch: Option<Architecture>,
    /// Profile of the systems that are tested in QEMU
    #[arg(long, value_enum, default_value_t = Profile::Test)]
    pub profile: Profile,
    /// Number of cores in QEMU [default: 1 and 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cores: Option<u32>,
    /// Run only this suite; can be given several times
    #[arg(long, value_enum, value_name = "SUITE")]
    pub only: Vec<Suite>,
    /// How often the suite "boots" boots
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub boots: u32,
}

/// What to check.
#[derive(Args, Clone)]
pub struct CheckOptions {
    /// Architecture whose kernel and programs are linted [default: both]
    #[arg(long, value_enum)]
    pub arch: Option<Architecture>,
    /// Write the unsafe blocks that are there now into tools/unsafe.toml
    #[arg(long)]
    pub update_unsafe: bool,
    /// Write the generated tables of README and book anew
    #[arg(long)]
    pub update_book: bool,
}

/// Which faults to try.
#[derive(Args, Clone)]
pub struct MutantsOptions {
    /// Say which there are
    #[arg(long)]
    pub list: bool,
    /// Try only this one; can be given several times
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// How many to try at once, each in a copy of the tree
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: u32,
}

/// How often to boot.
#[derive(Args, Clone)]
pub struct BootsOptions {
    /// How many boots
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Architecture [default: both]
    #[arg(long, value_enum)]
    pub arch: Option<Architecture>,
    /// Profile
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    pub profile: Profile,
}

/// Where to make the fresh machine.
#[derive(Args, Clone)]
pub struct FreshMachineOptions {
    /// Directory for the chroot: an empty one, or one of a former run, which is removed
    #[arg(long, value_name = "DIR", default_value = "/var/tmp/anos-fresh-machine")]
    pub directory: PathBuf,
    /// Run only the README's first command, not the tests
    #[arg(long)]
    pub only_run: bool,
}

/// What to build.
#[derive(Args, Clone)]
pub struct BuildOptions {
    /// Architecture [default: both]
    #[arg(long, value_enum)]
    pub arch: Option<Architecture>,
    /// Profile
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    pub profile: Profile,
    /// System: the manifest systems/NAME.toml
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub system: String,
}

/// What to boot, and on what machine.
#[derive(Args, Clone)]
pub struct RunOptions {
    /// Architecture
    #[arg(long, value_enum, default_value_t = Architecture::X86_64)]
    pub arch: Architecture,
    /// Profile
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    pub profile: Profile,
    /// System: the manifest systems/NAME.toml
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub system: String,
    #[command(flatten)]
    /// The machine.
    pub machine: MachineOptions,
    /// Boot this image instead of building one
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
}

/// The emulated machine.
#[derive(Args, Clone)]
pub struct MachineOptions {
    /// Number of cores
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cores: u32,
    /// Machine: q35 or microvm (x86_64), virt, virt-aia or virt-aplic (riscv64) [default: q35, virt]
    #[arg(long, value_enum)]
    pub machine: Option<Machine>,
    /// Main memory, as QEMU takes it
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub memory: String,
    /// CPU model, as QEMU takes it [default: max, rv64]
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT")]
    pub append: Option<String>,
    /// Count instructions as time: the same run every time, but slower
    #[arg(long)]
    pub icount: bool,
}

/// What to measure.
#[derive(Args, Clone)]
pub struct SizeOptions {
    /// Architecture [default: both]
    #[arg(long, value_enum)]
    pub arch: Option<Architecture>,
    /// Profile
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    pub profile: Profile,
    /// List the panic functions that are linked into the kernel; fails if a release kernel has one
    #[arg(long)]
    pub check_panics: bool,
}

/// Which figures to measure, and what to do with them.
#[derive(Args, Clone)]
pub struct BenchOptions {
    /// Architecture [default: both]
    #[arg(long, value_enum)]
    pub arch: Option<Architecture>,
    /// Number of cores; the figures are of one of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cores: u32,
    /// Instead: clients and servers on 2, 4, 8 and 16 cores at once; locks taken and waited for, memory shared, throughput
    #[arg(long, conflicts_with_all = ["cores", "compare"])]
    pub scaling: bool,
    /// Measure only figures whose names have this in them
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,
    /// Write the figures into this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure this system, too, in the same emulator with the same flags
    #[arg(long, value_enum, value_name = "SYSTEM")]
    pub baseline: Option<Baseline>,
    /// Compare with the figures in this file; fails if one is more than 2 % and more than 2 instructions higher
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

/// Which figures to trace, and what to do with what comes out.
#[derive(Args, Clone)]
pub struct TraceOptions {
    /// Architecture [default: both]
    #[arg(long, value_enum)]
    pub arch: Option<Architecture>,
    /// The figure, as `cargo xtask bench` names it; can be given several times [default: all]
    #[arg(long, value_name = "NAME")]
    pub figure: Vec<String>,
    /// Write the steps into this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write each instruction into this file, with its step, function and line
    #[arg(long, value_name = "FILE")]
    pub listing: Option<PathBuf>,
    /// Write the steps of all figures into tests/bench/steps.json, for the book
    #[arg(long, conflicts_with_all = ["arch", "figure"])]
    pub update: bool,
}

/// How long to search.
#[derive(Args, Clone)]
pub struct LongestOptions {
    /// Architecture [default: both]
    #[arg(long, value_enum)]
    pub arch: Option<Architecture>,
    /// Go on with further searches until so many seconds have passed, for each architecture
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seconds: u64,
    /// The first number of the further searches; the same number, the same search
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub seed: u64,
    /// Add what they find to tests/longest/found.txt, with which every search begins
    #[arg(long)]
    pub keep: bool,
}

/// Whose stacks to measure.
#[derive(Args, Clone)]
pub struct DepthOptions {
    /// Architecture [default: both]
    #[arg(long, value_enum)]
    pub arch: Option<Architecture>,
}
