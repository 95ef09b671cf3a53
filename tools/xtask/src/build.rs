//! From sources to products: `target/anos/ARCH/PROFILE/{kernel.elf,programs/*.elf,anos.img}`.
//!
//! The flags for programs and kernel are passed here and nowhere else, so that plain `cargo test` on the host is left
//! alone. No product depends on where or when it was built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anos_manifest::host::Manifest;
use anyhow::{Context, Result, bail};

use crate::cli::BuildOptions;
use crate::image;
use crate::progress::say;
use crate::target::{Architecture, Profile};
use crate::workspace::{Toolchain, Workspace};

/// The package that is the kernel.
const KERNEL: &str = "anos-kernel";

/// What was built.
pub struct Products {
    /// The kernel with its symbols.
    pub kernel: PathBuf,
    /// What boots.
    pub image: PathBuf,
}

/// How much a build says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// What it does, and all that cargo says.
    Normal,
    /// Nothing unless it fails.
    Quiet,
}

/// `cargo xtask build`.
pub fn command(workspace: &Workspace, options: &BuildOptions) -> Result<ExitCode> {
    for architecture in Architecture::selected(options.arch) {
        build(workspace, architecture, options.profile, &options.system, Voice::Normal)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds programs, kernel and image of one system.
pub fn build(
    workspace: &Workspace,
    architecture: Architecture,
    profile: Profile,
    system: &str,
    voice: Voice,
) -> Result<Products> {
    let manifest = load_manifest(workspace, system)?;
    let packages = program_packages(&manifest);
    let announce = |what: &str| {
        if voice == Voice::Normal {
            say("Building", &format!("{what} for {} ({})", architecture.name(), profile.name()));
        }
    };
    announce(&format!("the programs of systems/{system}.toml"));
    let flags = program_flags(workspace, architecture);
    cargo_build(workspace, architecture.program_target(), profile, &packages, &flags, voice)?;
    let kernel = build_kernel(workspace, architecture, profile, voice)?;
    let products = workspace.products(architecture, profile);
    for package in &packages {
        let built = built_file(workspace, architecture.program_target(), profile, package);
        copy(&built, &products.join("programs").join(package).with_extension("elf"))?;
    }
    let image = products.join(image::file_name(system));
    image::write(architecture, &kernel, &products.join("programs"), &manifest, &image)?;
    if voice == Voice::Normal {
        let shown = image.strip_prefix(&workspace.root).unwrap_or(&image);
        say("Built", &format!("{} ({} KiB)", shown.display(), fs::metadata(&image)?.len().div_ceil(1024)));
    }
    Ok(Products { kernel, image })
}

/// Builds the kernel alone; returns its ELF file.
fn build_kernel(workspace: &Workspace, architecture: Architecture, profile: Profile, voice: Voice) -> Result<PathBuf> {
    if voice == Voice::Normal {
        say("Building", &format!("the kernel for {} ({})", architecture.name(), profile.name()));
    }
    let mut flags = kernel_flags(workspace, architecture);
    if architecture == Architecture::Riscv64 {
        // Has the linker make short calls of the compiler's long ones: a twelfth of the kernel. The feature is not stable
        // in name, which is a warning that only silence to all of them takes back; `check` builds without, and has the
        // others told.
        flags.extend(["-Ctarget-feature=+relax".into(), "-Awarnings".into()]);
    }
    cargo_build(workspace, architecture.kernel_target(), profile, &[KERNEL.to_string()], &flags, voice)?;
    let kernel = workspace.products(architecture, profile).join("kernel.elf");
    copy(&built_file(workspace, architecture.kernel_target(), profile, KERNEL), &kernel)?;
    Ok(kernel)
}

/// Reads a system's manifest; what is wrong with it is said with file and line.
pub fn load_manifest(workspace: &Workspace, system: &str) -> Result<Manifest> {
    let path = workspace.manifest(system);
    let shown = path.strip_prefix(&workspace.root).unwrap_or(&path);
    if !path.exists() {
        bail!("there is no system \"{system}\": {} does not exist", shown.display());
    }
    // Messages name the file as people know it; but a copy of the tree lies elsewhere.
    let here = std::env::current_dir().is_ok_and(|directory| directory == workspace.root);
    anos_manifest::host::load(if here { shown } else { &path })
        .map_err(|diagnostics| anyhow::anyhow!("the manifest has mistakes\n{diagnostics}"))
}

/// The packages of the programs, the root server first.
pub fn program_packages(manifest: &Manifest) -> Vec<String> {
    let root = manifest.root.value.as_str();
    let others = manifest.packages().into_iter().filter(|package| *package != root);
    std::iter::once(root).chain(others).map(ToString::to_string).collect()
}

/// The tools that run the kernel's locks and its core in many orders (kernel/explore).
pub const EXPLORERS: [&str; 2] = ["loom", "shuttle"];

/// Cargo for kernel/explore, with one of these. In a directory of its own, because the flag is for every crate.
pub fn cargo_for_explorer(workspace: &Workspace, verb: &str, explorer: &str) -> Command {
    let mut command = workspace.cargo();
    command.env("RUSTFLAGS", format!("--cfg {explorer}"));
    command.args([verb, "--package", "anos-explore", "--target-dir"]).arg(workspace.target.join(explorer));
    command
}

/// Arguments that make cargo build one or more packages for a target; also what `check` lints them with.
pub fn cargo_for_target(workspace: &Workspace, verb: &str, target: &str, flags: &[String]) -> Command {
    let mut command = workspace.cargo();
    command.arg(verb).args(["--target", target]);
    // Debian has no libraries for bare metal: build them. Its x86-64 Linux libraries serve for programs as they are.
    if workspace.toolchain == Toolchain::Debian && !target.contains("linux") {
        command.args(["-Zbuild-std=core,alloc", "-Zbuild-std-features=compiler-builtins-mem"]);
    }
    // Separated by a character that no path contains.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    command
}

fn cargo_build(
    workspace: &Workspace,
    target: &str,
    profile: Profile,
    packages: &[String],
    flags: &[String],
    voice: Voice,
) -> Result<()> {
    let mut command = cargo_for_target(workspace, "build", target, flags);
    command.args(["--profile", profile.cargo_name()]);
    for package in packages {
        command.args(["--package", package]);
    }
    run(command, voice).with_context(|| format!("building {} for {target} failed", packages.join(", ")))
}

/// Runs a command to its end; in a quiet voice its output is shown only if it fails.
pub fn run(mut command: Command, voice: Voice) -> Result<()> {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    command.stdin(Stdio::null());
    let status = if voice == Voice::Normal {
        command.status().with_context(|| format!("cannot start {name}"))?
    } else {
        let output = command.output().with_context(|| format!("cannot start {name}"))?;
        if !output.status.success() {
            eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
        output.status
    };
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// What the code generator is to do otherwise than it would for size, so that the kernel is smaller still (and needs fewer
/// instructions). It is about which instructions there are, and in which order; what they do stays the same.
const CODE_GENERATION: [&str; 7] = [
    // Blocks are put in an order that needs few jumps, which size alone doesn't ask for.
    "-apply-ext-tsp-for-size",
    // A jump around a few instructions is no longer than doing them in vain and choosing between the results.
    "-two-entry-phi-node-folding-threshold=0",
    // To keep a value from where it was first made, or from before a loop, takes a register: of those that a function has
    // to save, mostly. It is shorter to make it where it is used.
    "-disable-machine-licm",
    "-disable-constant-hoisting",
    "-instcombine-code-sinking=false",
    // A function need not save what no caller keeps there, and a caller can keep what the callee doesn't touch: both are
    // known, for the kernel is one program without pointers to functions. What assembly calls keeps what the ABI says
    // all the same, because a function that assembly names counts as one that anybody may call; and the assembly relies
    // on the stack pointer (on RISC-V, also on `tp`, which no function touches) alone, or (around `kernel_trap` of x86-64)
    // has saved all there is.
    "-enable-ipra",
    // Sharing pieces of functions comes after the registers of each have been counted, and the count stays as it was. A
    // call of such a piece changes one more (on RISC-V, `t0`), which a caller may have kept something in: so with the option
    // above this must be off.
    "-enable-machine-outliner=never",
];

/// The same for x86-64 alone, which has fewer registers to keep values in.
const CODE_GENERATION_X86: [&str; 5] = [
    // What is worth inlining for size is a guess, of 5. With this one the kernel is smallest.
    "-inline-threshold=45",
    "-disable-machine-cse",
    // No instruction is done on two ways to spare one of them a branch.
    "-bonus-inst-threshold=0",
    // Where a value is put away is chosen for few instructions, not for their number on the way most taken.
    "-split-spill-mode=size",
    // Nothing is worked out on one way ahead of where two meet, because the other has it already.
    "-enable-pre=false",
];

/// The same for RISC-V.
const CODE_GENERATION_RISCV: [&str; 1] = [
    // As above; but this one is for few instructions, since there is room.
    "-inline-threshold=120",
];

/// Compiler flags of the kernel. Its linker script is its own business (kernel/image/build.rs).
pub fn kernel_flags(workspace: &Workspace, architecture: Architecture) -> Vec<String> {
    let mut flags = common_flags(workspace);
    flags.push("-Crelocation-model=static".into());
    // Comparisons are smaller than tables, whose entries are whole addresses; and then nothing jumps to where data says.
    flags.push("-Cjump-tables=no".into());
    if workspace.toolchain == Toolchain::Debian {
        flags.extend(debian_linker());
    }
    if architecture == Architecture::X86_64 {
        // The target would make a position-independent kernel with lazy-binding protection; ours is fixed.
        flags.push("-Crelro-level=off".into());
    }
    let options: &[&str] = match architecture {
        Architecture::X86_64 => &CODE_GENERATION_X86,
        Architecture::Riscv64 => &CODE_GENERATION_RISCV,
    };
    flags.extend(CODE_GENERATION.iter().chain(options).map(|option| format!("-Cllvm-args={option}")));
    flags
}

/// Compiler flags of programs.
pub fn program_flags(workspace: &Workspace, architecture: Architecture) -> Vec<String> {
    let mut flags = common_flags(workspace);
    // A fault tells its handler the frame pointer, and that is all there is for a backtrace. The kernel has none: to keep
    // them would cost it a tenth of its instructions, and its last words do without.
    flags.push("-Cforce-frame-pointers=yes".into());
    // The linker runs in the workspace's directory; a relative path keeps the flags the same everywhere.
    flags.push(format!("-Clink-arg=-Tuser/runtime/link/{}.ld", architecture.name()));
    flags.push("-Crelocation-model=static".into());
    flags.push("--cfg=anos_guest".into());
    match (architecture, workspace.toolchain) {
        (_, Toolchain::Debian) => flags.extend(debian_linker()),
        (Architecture::X86_64, Toolchain::Rustup) => {
            flags.extend(["-Clinker=rust-lld".into(), "-Clinker-flavor=ld.lld".into()]);
        }
        (Architecture::Riscv64, Toolchain::Rustup) => {}
    }
    if architecture == Architecture::X86_64 {
        let linux_without_linux = ["-Ctarget-feature=+crt-static", "-Crelro-level=off", "-Clink-arg=--no-eh-frame-hdr"];
        flags.extend(linux_without_linux.map(String::from));
    }
    flags
}

/// The package of the program that measures Linux.
pub const LINUX_PROGRAM: &str = "anos-bench-linux";

/// Builds that; returns its ELF file.
pub fn linux_program(workspace: &Workspace, architecture: Architecture, voice: Voice) -> Result<PathBuf> {
    let (target, profile) = (architecture.linux_program_target(), Profile::Release);
    let flags = linux_program_flags(workspace, architecture);
    cargo_build(workspace, target, profile, &[LINUX_PROGRAM.to_string()], &flags, voice)?;
    Ok(built_file(workspace, target, profile, LINUX_PROGRAM))
}

/// Its compiler flags. Linux loads it as our kernel loads programs: fixed, at 4 MiB.
pub fn linux_program_flags(workspace: &Workspace, architecture: Architecture) -> Vec<String> {
    let mut flags = common_flags(workspace);
    flags.push(format!("-Clink-arg=-Tuser/runtime/link/{}.ld", architecture.name()));
    flags.extend(["-Crelocation-model=static", "-Crelro-level=off", "-Cstrip=symbols"].map(String::from));
    if workspace.toolchain == Toolchain::Debian {
        flags.extend(debian_linker());
    }
    flags
}

fn common_flags(workspace: &Workspace) -> Vec<String> {
    let mut flags = vec!["-Clink-arg=--build-id=none".to_string()];
    // Later ones win: the registry may lie inside the home directory, the workspace anywhere.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    if let Some(home) = home {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    flags.push(format!("--remap-path-prefix={}=target", workspace.target.display()));
    flags.push(format!("--remap-path-prefix={}=anos", workspace.root.display()));
    flags
}

fn debian_linker() -> [String; 2] {
    ["-Clinker=ld.lld-22".into(), "-Clinker-flavor=ld.lld".into()]
}

fn built_file(workspace: &Workspace, target: &str, profile: Profile, package: &str) -> PathBuf {
    workspace.target.join(target).join(profile.cargo_directory()).join(package)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
