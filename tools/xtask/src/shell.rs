//! End to end: types at the shell through a terminal, and reads what comes back.
//!
//! A session is a booted guest with the shell waiting. [`scenarios`] are what people do there; each is a test. A
//! scenario that fails may leave the guest in any state, so the next one gets a fresh guest.

mod scenarios;
mod shown;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::build::Products;
use crate::cli::{MachineOptions, TestOptions};
use crate::guest::Guest;
use crate::tally::Tally;
use crate::target::{Architecture, Machine, cores_shown};
use crate::test;
use crate::workspace::Workspace;

/// What the shell shows when it waits for a line.
pub const PROMPT: &str = "anos> ";
/// The same on a line of its own: while a line is edited, the prompt is shown again and again.
const FRESH_PROMPT: &str = "\n\ranos> ";
/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A guest whose shell waits for a line.
pub struct Session {
    guest: Guest,
    architecture: Architecture,
    cores: u32,
}

impl Session {
    fn start(products: &Products, architecture: Architecture, machine: &MachineOptions) -> Result<Self> {
        let mut guest = test::boot(products, architecture, machine)?;
        guest.expect(FRESH_PROMPT, PATIENCE)?;
        Ok(Session { guest, architecture, cores: machine.cores })
    }

    /// Types a line; returns what it printed, up to the next prompt.
    fn command(&mut self, line: &str) -> Result<String> {
        self.guest.send_line(line)?;
        self.output()
    }

    /// What comes before the next prompt, without the echo of the line.
    fn output(&mut self) -> Result<String> {
        self.guest.expect("\n", PATIENCE)?;
        // The line that starts the prompt may be the one that ends the echo.
        let output = if self.guest.continues_with(PROMPT, PATIENCE)? {
            self.guest.expect(PROMPT, PATIENCE)?
        } else {
            self.guest.expect(FRESH_PROMPT, PATIENCE)?
        };
        Ok(output.replace('\r', ""))
    }

    /// Types a line, and wants to read this.
    fn expect(&mut self, line: &str, says: &[&str]) -> Result<()> {
        let output = self.command(line)?;
        self.must_contain(line, &output, says)
    }

    fn must_contain(&self, line: &str, output: &str, says: &[&str]) -> Result<()> {
        for text in says {
            let report = || self.guest.report(&format!("{line:?} did not say {text:?} but {output:?}"));
            ensure!(output.contains(text), "{}", report());
        }
        Ok(())
    }

    /// The number behind a word at the start of one of the lines.
    fn number(&self, output: &str, word: &str) -> Result<u64> {
        let line = output.lines().find(|line| line.trim_start().starts_with(word));
        let number = line.and_then(|line| line.trim_start()[word.len()..].split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .with_context(|| self.guest.report(&format!("no number behind {word:?} in {output:?}")))
    }
}

/// All scenarios on one architecture: every machine, one core and several.
pub fn tests(workspace: &Workspace, options: &TestOptions, architecture: Architecture, tally: &mut Tally) {
    let Some(products) = test::build_for(workspace, architecture, options.profile, "default", tally) else { return };
    for &machine in architecture.machines() {
        // Minimal machines differ in how they boot, not in what runs on them: once is enough.
        let usual = if machine == Machine::Microvm { vec![2] } else { vec![1, 4] };
        for cores in options.cores.map_or(usual, |cores| vec![cores]) {
            session(&products, architecture, &test::test_machine(machine, cores), tally);
        }
    }
    scenarios::alone(&products, architecture, tally);
    if architecture == Architecture::X86_64 {
        shown(workspace, &products, tally);
    }
}

/// What README and book show comes. (They show it on this architecture.)
fn shown(workspace: &Workspace, products: &Products, tally: &mut Tally) {
    let machine = test::test_machine(Machine::Q35, 4);
    for page in shown::PAGES {
        test::timed(tally, &format!("shell, x86_64: what {page} shows is what comes"), || {
            let mut session = Session::start(products, Architecture::X86_64, &machine)?;
            shown::test(&mut session, &workspace.root, page)
        });
    }
}

/// The scenarios one after the other on one machine.
fn session(products: &Products, architecture: Architecture, machine: &MachineOptions, tally: &mut Tally) {
    let kind = machine.machine.map_or("", Machine::name);
    let place = format!("{} {kind}, {}", architecture.name(), cores_shown(machine.cores));
    let mut running = None;
    for (name, scenario) in scenarios::ALL {
        test::timed(tally, &format!("shell, {place}: {name}"), || {
            let mut session = match running.take() {
                Some(session) => session,
                None => Session::start(products, architecture, machine)?,
            };
            scenario(&mut session)?;
            running = Some(session);
            Ok(())
        });
    }
    let Some(mut session) = running else { return };
    test::timed(tally, &format!("shell, {place}: poweroff ends the machine"), || {
        session.guest.send_line("poweroff")?;
        session.guest.expect_end()
    });
}
