//! `cargo xtask run`: a terminal on the guest's serial line.

use std::io::{Read, Write, stdout};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::build::{self, Voice};
use crate::cli::RunOptions;
use crate::progress::{say, warn};
use crate::qemu::{self, OnReset};
use crate::symbols::{BacktraceFilter, Symbols};
use crate::workspace::Workspace;

/// Builds, boots, and ends when the guest powers off.
pub fn command(workspace: &Workspace, options: &RunOptions) -> Result<ExitCode> {
    qemu::chosen_machine(options.arch, options.machine.machine)?;
    let (image, kernel) = match &options.image {
        Some(image) => (image.clone(), workspace.products(options.arch, options.profile).join("kernel.elf")),
        None => {
            let products = build::build(workspace, options.arch, options.profile, &options.system, Voice::Normal)?;
            (products.image, products.kernel)
        }
    };
    let mut command = qemu::command(options.arch, &options.machine, &image, OnReset::Restart)?;
    command.args(["-serial", "mon:stdio"]);
    say("Running", "Anos in QEMU; Ctrl-A X leaves, Ctrl-A H shows QEMU's other keys");
    let _terminal = TerminalKeeper::new();
    let program = options.arch.qemu();
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {program}"))?;
    let mut filter = BacktraceFilter::new(Symbols::read(&kernel).ok());
    let mut output = child.stdout.take().context("QEMU has no output")?;
    let mut buffer = [0; 4096];
    loop {
        let count = output.read(&mut buffer).context("cannot read from QEMU")?;
        if count == 0 {
            break;
        }
        let mut terminal = stdout().lock();
        terminal.write_all(&filter.pass(&buffer[..count])).and_then(|()| terminal.flush())?;
    }
    let status = child.wait().context("cannot wait for QEMU")?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    warn(&format!("QEMU ended with {status}; its command was: {}", qemu::shown(&command)));
    Ok(ExitCode::FAILURE)
}

/// Puts the terminal back as it was, even if QEMU is killed before it can.
struct TerminalKeeper(Option<Termios>);

impl TerminalKeeper {
    fn new() -> Self {
        TerminalKeeper(tcgetattr(std::io::stdin()).ok())
    }
}

impl Drop for TerminalKeeper {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            // The terminal may be gone: then there is nothing to put back.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, state);
        }
    }
}
