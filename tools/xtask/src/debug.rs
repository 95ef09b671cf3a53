//! `cargo xtask debug`: the guest, stopped before its first instruction, and GDB beside it.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::build::{self, Voice};
use crate::cli::RunOptions;
use crate::progress::{say, warn};
use crate::qemu::{self, OnReset};
use crate::workspace::Workspace;

/// Where QEMU listens for GDB.
const PORT: &str = "localhost:1234";

/// Starts QEMU in the background, its serial line on a telnet port, and GDB in this terminal.
pub fn command(workspace: &Workspace, options: &RunOptions) -> Result<ExitCode> {
    let products = build::build(workspace, options.arch, options.profile, &options.system, Voice::Normal)?;
    let image = options.image.as_ref().unwrap_or(&products.image);
    let mut emulator = qemu::command(options.arch, &options.machine, image, OnReset::Exit)?;
    emulator.args(["-S", "-gdb", "tcp:localhost:1234"]);
    let connect = format!("gdb-multiarch {} -ex 'target remote {PORT}'", products.kernel.display());
    if !has_gdb() {
        warn("gdb-multiarch is missing; install it: sudo apt-get install gdb-multiarch");
        emulator.args(["-serial", "mon:stdio"]);
        say("Waiting", &format!("for GDB; in another terminal: {connect}"));
        let status = emulator.status().with_context(|| format!("cannot start {}", options.arch.qemu()))?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let log = products.image.with_file_name("serial.log");
    emulator.arg("-serial").arg(format!("file:{}", log.display())).args(["-monitor", "none"]);
    let mut emulator = qemu::ends_with_us(emulator);
    // GDB's Ctrl-C must stop the guest, not QEMU.
    emulator.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    let mut running = emulator.spawn().with_context(|| format!("cannot start {}", options.arch.qemu()))?;
    say("Debugging", &format!("with GDB; the guest's serial output goes to {}", log.display()));
    std::thread::sleep(Duration::from_millis(300));
    let mut debugger = Command::new("gdb-multiarch");
    debugger.arg(&products.kernel).args(["-ex", &format!("target remote {PORT}")]);
    let status = debugger.status().context("cannot start gdb-multiarch");
    // The guest may have powered off; either way it ends here.
    let _ = running.kill();
    let _ = running.wait();
    Ok(if status?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn has_gdb() -> bool {
    let mut command = Command::new("gdb-multiarch");
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
