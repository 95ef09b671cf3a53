//! The emulated machines.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::cli::MachineOptions;
use crate::target::{Architecture, Machine};

/// What becomes of a guest's request to restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReset {
    /// It restarts.
    Restart,
    /// QEMU exits: a test that crashes must not start over.
    Exit,
}

/// QEMU's command line for one machine and image; the serial line is left to the caller.
pub fn command(
    architecture: Architecture,
    options: &MachineOptions,
    image: &Path,
    on_reset: OnReset,
) -> Result<Command> {
    let machine = chosen_machine(architecture, options.machine)?;
    let mut command = Command::new(architecture.qemu());
    command.args(["-machine", machine_arguments(machine)]);
    command.args(["-cpu", options.cpu.as_deref().unwrap_or(default_cpu(architecture))]);
    command.args(["-smp", &options.cores.to_string(), "-m", &options.memory]);
    // No devices but those that Anos drives, and no window.
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    // And some that send messages when a suite tells them to.
    match machine {
        Machine::Q35 => command.args(["-global", "hpet.msi=on", "-device", "edu,addr=4"]),
        Machine::VirtAia => command.args(["-device", "edu,addr=4"]),
        _ => &mut command,
    };
    command.arg("-kernel").arg(image);
    if let Some(text) = &options.append {
        command.args(["-append", text]);
    }
    if options.icount {
        command.args(["-icount", "shift=0"]);
    }
    if on_reset == OnReset::Exit {
        command.arg("-no-reboot");
    }
    Ok(command)
}

/// The machine that was asked for, or the architecture's usual one.
pub fn chosen_machine(architecture: Architecture, choice: Option<Machine>) -> Result<Machine> {
    match choice {
        None => Ok(architecture.machines()[0]),
        Some(machine) if machine.architecture() == architecture => Ok(machine),
        Some(machine) => {
            let known = Machine::value_variants().iter().filter(|machine| machine.architecture() == architecture);
            let names: Vec<&str> = known.map(|machine| machine.name()).collect();
            bail!("{} has no machine {}; it has: {}", architecture.name(), machine.name(), names.join(", "))
        }
    }
}

const fn machine_arguments(machine: Machine) -> &'static str {
    match machine {
        Machine::Q35 => "q35",
        Machine::Microvm => "microvm,isa-serial=on,rtc=on",
        Machine::Virt => "virt",
        Machine::VirtAia => "virt,aia=aplic-imsic",
        Machine::VirtAplic => "virt,aia=aplic",
    }
}

const fn default_cpu(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "max",
        Architecture::Riscv64 => "rv64",
    }
}

/// How an emulator ends when this tool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// At once: it holds nothing that it would have to put back.
    Kill,
    /// It first puts back how the terminal was.
    Terminate,
}

/// The same command, but one that ends when this tool does, so that no emulator is left behind.
pub fn ends_with_us(command: Command, parting: Parting) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return command;
    }
    let signal = match parting {
        Parting::Kill => "KILL",
        Parting::Terminate => "TERM",
    };
    let mut wrapped = Command::new(setpriv);
    wrapped.args(["--pdeathsig", signal, "--"]).arg(command.get_program()).args(command.get_args());
    wrapped
}

/// The command as it would be typed.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        if word.contains([' ', ';', '$', '"']) { format!("'{word}'") } else { word.into_owned() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
