//! The plugin with which QEMU looks into the running kernel (tools/probe, which says what it takes and writes): built when
//! it is needed, with what cargo builds for this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::build::{self, Voice};
use crate::target::Architecture;
use crate::workspace::Workspace;

/// Builds it; answers where it lies.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut command = workspace.cargo();
    command.args(["build", "--release", "--package", "anos-probe"]);
    build::run(command, Voice::Quiet)?;
    Ok(workspace.target.join("release/libanos_probe.so"))
}

/// The argument for the addresses of the firmware of QEMU's machines, if they have one.
pub fn firmware(architecture: Architecture) -> Option<String> {
    match architecture {
        Architecture::X86_64 => None,
        // The kernel's image begins 2 MiB behind the start of memory, which is where the firmware lies.
        Architecture::Riscv64 => Some("firmware=0x80000000:0x80200000".into()),
    }
}

/// Has QEMU load it with these arguments, `NAME=VALUE` each.
pub fn attach(command: &mut Command, plugin: &Path, output: &Path, arguments: &[String]) -> Result<()> {
    let output = format!("output={}", output.display());
    let mut option = plugin.display().to_string();
    for argument in std::iter::once(&output).chain(arguments) {
        // QEMU would take it apart.
        ensure!(!argument.contains(','), "{argument}: a comma can't be passed to a plugin");
        option = option + "," + argument;
    }
    command.args(["-plugin", &option]);
    Ok(())
}
