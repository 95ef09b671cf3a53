//! `cargo xtask debug`: the guest, stopped before its first instruction, and GDB beside it.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Error, Result};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::build::{self, Voice};
use crate::cli::RunOptions;
use crate::progress::{say, warn};
use crate::qemu::{self, OnReset, Parting};
use crate::workspace::Workspace;

/// Where QEMU listens for GDB, unless another guest is being debugged there.
const USUAL_PORT: u16 = 1234;

/// Starts QEMU in the background, its serial line in a file, and GDB in this terminal.
pub fn command(workspace: &Workspace, options: &RunOptions) -> Result<ExitCode> {
    let products = build::build(workspace, options.arch, options.profile, &options.system, Voice::Normal)?;
    let image = options.image.as_ref().unwrap_or(&products.image);
    let mut emulator = qemu::command(options.arch, &options.machine, image, OnReset::Exit)?;
    let door = Door::open()?;
    door.give_to(&mut emulator)?;
    if !has_gdb() {
        warn("gdb-multiarch is missing; install it: sudo apt-get install gdb-multiarch");
        emulator.args(["-serial", "mon:stdio"]);
        let connect = qemu::shown(&debugger(&products.kernel, &door.target));
        say("Waiting", &format!("for GDB; in another terminal: {connect}"));
        let status = emulator.status().with_context(|| format!("cannot start {}", options.arch.qemu()))?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let log = products.image.with_file_name("serial.log");
    emulator.arg("-serial").arg(format!("file:{}", log.display())).args(["-monitor", "none"]);
    let mut emulator = qemu::ends_with_us(emulator, Parting::Kill);
    // GDB's Ctrl-C must stop the guest, not QEMU.
    emulator.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    emulator.spawn().with_context(|| format!("cannot start {}", options.arch.qemu()))?;
    say("Debugging", &format!("at {}; the guest's serial output goes to {}", door.target, log.display()));
    let mut debugger = debugger(&products.kernel, &door.target);
    // From here on only QEMU answers at the door: if it has ended, GDB is refused.
    drop(door);
    // Replaces this process, so that Ctrl-C is GDB's alone, and QEMU, which ends with this process, ends with GDB.
    Err(Error::from(debugger.exec()).context("cannot start gdb-multiarch"))
}

/// A port that this process listens at already, and that QEMU takes over. So nobody has to wait until QEMU listens, and
/// GDB can't come to another guest's QEMU.
struct Door {
    listener: OwnedFd,
    /// What GDB calls it.
    target: String,
}

impl Door {
    fn open() -> Result<Self> {
        let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = listen(USUAL_PORT).or_else(|_| listen(0)).context("no port for GDB is free")?;
        let target = listener.local_addr()?.to_string();
        Ok(Door { listener: OwnedFd::from(listener), target })
    }

    /// Lets QEMU inherit it, and wait there with the guest stopped.
    fn give_to(&self, emulator: &mut Command) -> Result<()> {
        fcntl_setfd(&self.listener, FdFlags::empty())?;
        let descriptor = self.listener.as_raw_fd();
        emulator.arg("-chardev").arg(format!("socket,id=gdb,fd={descriptor},server=on,wait=off"));
        emulator.args(["-gdb", "chardev:gdb", "-S"]);
        Ok(())
    }
}

/// GDB, with the kernel's symbols, connected.
fn debugger(kernel: &Path, target: &str) -> Command {
    let mut command = Command::new("gdb-multiarch");
    command.arg(kernel).arg("-ex").arg(format!("target remote {target}"));
    command
}

fn has_gdb() -> bool {
    let mut command = Command::new("gdb-multiarch");
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
