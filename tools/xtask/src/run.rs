//! `cargo xtask run`: a terminal on the guest's serial line.

use std::io::{ErrorKind, IsTerminal, Read, Write, stdin, stdout};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::build::{self, Voice};
use crate::cli::RunOptions;
use crate::progress::{say, warn};
use crate::qemu::{self, OnReset, Parting};
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
    let shown = qemu::shown(&command);
    let mut emulator = Emulator::start(qemu::ends_with_us(command, Parting::Terminate))?;
    match emulator.show(BacktraceFilter::new(Symbols::read(&kernel).ok())) {
        Ok(()) => {}
        // Whoever read along has seen enough, as in `cargo xtask run | head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        Err(error) => return Err(error).context("cannot show what the guest says"),
    }
    let status = emulator.child.wait().context("cannot wait for QEMU")?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    warn(&format!("QEMU ended with {status}; its command was: {shown}"));
    Ok(ExitCode::FAILURE)
}

/// QEMU with this terminal's keys. It ends when this is dropped.
struct Emulator {
    child: Child,
    /// Dropped after QEMU has ended.
    _terminal: TerminalKeeper,
}

impl Emulator {
    fn start(mut command: Command) -> Result<Self> {
        let terminal = TerminalKeeper::new();
        let child = command.stdin(keys()).stdout(Stdio::piped()).spawn();
        let child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Emulator { child, _terminal: terminal })
    }

    /// Passes on what the guest says, until QEMU ends.
    fn show(&mut self, mut filter: BacktraceFilter) -> std::io::Result<()> {
        let Some(output) = &mut self.child.stdout else { return Ok(()) };
        let mut buffer = [0; 4096];
        loop {
            let count = output.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let mut terminal = stdout().lock();
            terminal.write_all(&filter.pass(&buffer[..count]))?;
            terminal.flush()?;
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended: then its status is known, and nobody is told to end.
        if let Ok(None) = self.child.try_wait() {
            // It must not wait for us to read.
            drop(self.child.stdout.take());
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// QEMU's keyboard: this process's, but a terminal is opened anew. QEMU makes its keyboard non-blocking, and that holds
/// for all who share the opened file: what we print on the same terminal would get lost whenever it is slow.
fn keys() -> Stdio {
    if !stdin().is_terminal() {
        return Stdio::inherit();
    }
    // Not /dev/tty: that is another one where a test gives us a terminal to talk to.
    match rustix::fs::open("/proc/self/fd/0", OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) {
        Ok(terminal) => Stdio::from(terminal),
        // Another user's, as after `su`: then sharing has to do.
        Err(_) => Stdio::inherit(),
    }
}

/// Puts the terminal back as it was, even if QEMU is killed before it can.
struct TerminalKeeper(Option<Termios>);

impl TerminalKeeper {
    fn new() -> Self {
        TerminalKeeper(tcgetattr(stdin()).ok())
    }
}

impl Drop for TerminalKeeper {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            // The terminal may be gone: then there is nothing to put back.
            let _ = tcsetattr(stdin(), OptionalActions::Now, state);
        }
    }
}
