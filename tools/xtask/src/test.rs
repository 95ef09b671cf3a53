//! `cargo xtask test`: everything that can be tested, from the cheapest to the dearest.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bad_boots;
use crate::bench;
use crate::boots::{self, Plan};
use crate::build::{self, Products, Voice};
use crate::cli::{MachineOptions, TestOptions};
use crate::depth;
use crate::guest::Guest;
use crate::last_words;
use crate::progress::{Spinner, fail, say};
use crate::qemu::{self, OnReset};
use crate::reproducible;
use crate::shell;
use crate::size::{self, Report};
use crate::symbols::Symbols;
use crate::tally::{Tally, read_counts};
use crate::target::{Architecture, Machine, Profile, Suite, cores_shown};
use crate::workspace::Workspace;

/// The in-guest suite's last line starts with this.
const SUITE_END: &str = "anos-test: ";
/// A case of the in-guest suite needs at most so many cores.
const MOST_CORES_NEEDED: u32 = 3;
/// How long the in-guest suite may take.
const SUITE_PATIENCE: Duration = Duration::from_secs(300);

/// Runs the suites; ends with a line that counts.
pub fn command(workspace: &Workspace, options: &TestOptions) -> Result<ExitCode> {
    let started = Instant::now();
    let mut tally = Tally::default();
    for suite in Suite::ALL {
        if options.only.is_empty() || options.only.contains(&suite) {
            perform(workspace, options, suite, &mut tally);
        }
    }
    say("Finished", &format!("testing in {} s", started.elapsed().as_secs()));
    println!("{} passed, {} failed", tally.passed, tally.failed);
    let good = tally.failed == 0 && tally.passed > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn perform(workspace: &Workspace, options: &TestOptions, suite: Suite, tally: &mut Tally) {
    let architectures = Architecture::selected(options.arch);
    match suite {
        Suite::Host => host_tests(workspace, tally),
        Suite::Size => {
            for architecture in architectures {
                let name =
                    format!("kernel for {} is within its budget, and without a path to a panic", architecture.name());
                timed(tally, &name, || size_test(workspace, architecture));
                let name = format!(
                    "kernel for {} fits its stacks, and calls directly, without recursion",
                    architecture.name()
                );
                timed(tally, &name, || depth_test(workspace, architecture));
            }
        }
        Suite::Reproducible => {
            for architecture in architectures {
                let name = format!("two clean builds for {} are byte-identical", architecture.name());
                timed(tally, &name, || reproducible::test(workspace, architecture));
            }
        }
        Suite::Guest => {
            for architecture in architectures {
                guest_tests(workspace, options, architecture, tally);
            }
        }
        Suite::Bench => {
            for architecture in architectures {
                let name = format!("no service of the kernel for {} costs more than it did", architecture.name());
                timed(tally, &name, || bench::test(workspace, architecture));
            }
        }
        Suite::BadBoots => {
            for architecture in architectures {
                bad_boots::tests(workspace, options, architecture, tally);
                last_words::tests(workspace, options, architecture, tally);
            }
        }
        Suite::Shell => {
            for architecture in architectures {
                shell::tests(workspace, options, architecture, tally);
            }
        }
        Suite::Boots => {
            let plan = Plan { count: options.boots, architecture: options.arch, profile: Profile::Release };
            tally.add(boots::run(workspace, &plan));
        }
    }
}

/// Runs one test, showing that it runs.
pub fn timed(tally: &mut Tally, name: &str, test: impl FnOnce() -> Result<()>) {
    let spinner = Spinner::new("Testing", name);
    let result = test();
    let seconds = spinner.seconds();
    drop(spinner);
    tally.record(name, seconds, result);
}

/// Unit, property and simulation tests on the host; also of crates that otherwise run in the guest.
fn host_tests(workspace: &Workspace, tally: &mut Tally) {
    let mut workspace_tests = workspace.cargo();
    workspace_tests.args(["test", "--workspace", "--no-fail-fast"]);
    let mut bootstrap = workspace.cargo();
    bootstrap.args(["test", "--manifest-path", "tools/bootstrap/Cargo.toml"]);
    for (name, command) in [("host tests", workspace_tests), ("host tests of the bootstrap", bootstrap)] {
        tally.add(cargo_tests(name, command));
    }
    for explorer in build::EXPLORERS {
        let mut command = build::cargo_for_explorer(workspace, "test", explorer);
        command.args(["--test", "explore", "--", "--test-threads=2"]);
        tally.add(cargo_tests(&format!("explorations with {explorer}"), command));
    }
}

/// Runs `cargo test` and adds up its counts.
fn cargo_tests(name: &str, mut command: Command) -> Tally {
    let spinner = Spinner::new("Testing", name);
    let output = command.output();
    let seconds = spinner.seconds();
    drop(spinner);
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            fail(&format!("{name}: cannot start cargo: {error}"));
            return Tally { passed: 0, failed: 1 };
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut tally = Tally::default();
    text.lines().filter(|line| line.starts_with("test result:")).filter_map(read_counts).for_each(|one| tally.add(one));
    if !output.status.success() {
        print!("{text}");
        fail(&format!("{name}\n{}", String::from_utf8_lossy(&output.stderr)));
        // It may not even have compiled.
        tally.failed = tally.failed.max(1);
    }
    println!("{name}: {} passed, {} failed ({seconds:.1} s)", tally.passed, tally.failed);
    tally
}

fn size_test(workspace: &Workspace, architecture: Architecture) -> Result<()> {
    let report = Report::new(workspace, architecture, Profile::Release, Voice::Quiet)?;
    let panics = report.forbidden_panics();
    ensure!(panics.is_empty(), "it can panic, by way of: {}", panics.join(", "));
    ensure!(!report.is_over_budget(), "it is over its budget\n{}", size::table(&[report]));
    Ok(())
}

fn depth_test(workspace: &Workspace, architecture: Architecture) -> Result<()> {
    let report = depth::Report::new(workspace, architecture, Voice::Quiet)?;
    ensure!(report.problems.is_empty(), "{}\n{}", report.problems.join("\n"), report.table);
    Ok(())
}

/// The suite that runs in the guest, on each machine and number of cores.
fn guest_tests(workspace: &Workspace, options: &TestOptions, architecture: Architecture, tally: &mut Tally) {
    let products = match build_for(workspace, architecture, options.profile, "test", tally) {
        Some(products) => products,
        None => return,
    };
    let mut machines = Vec::new();
    for &machine in architecture.machines() {
        let counts = options.cores.map_or_else(|| vec![1, 4], |cores| vec![cores]);
        machines.extend(counts.into_iter().map(|cores| test_machine(machine, cores)));
    }
    if options.cores.is_none() {
        machines.extend(other_machines(architecture));
        machines.extend(architecture.machines().first().map(|&machine| crowded(machine)));
    }
    for machine in machines {
        let name = format!("in-guest suite, {} {}", architecture.name(), machine_shown(&machine));
        let spinner = Spinner::new("Testing", &name);
        let result = run_suite(&products, architecture, &machine, SUITE_PATIENCE);
        let seconds = spinner.seconds();
        drop(spinner);
        match result {
            Ok(Outcome { counted, failures }) => {
                failures.iter().for_each(|failure| fail(&format!("FAILED {failure}")));
                println!("{name}: {} passed, {} failed ({seconds:.1} s)", counted.passed, counted.failed);
                tally.add(counted);
            }
            Err(error) => tally.record(&name, seconds, Err(error)),
        }
    }
}

/// Builds a system; counts it as a failed test if that fails.
pub fn build_for(
    workspace: &Workspace,
    architecture: Architecture,
    profile: Profile,
    system: &str,
    tally: &mut Tally,
) -> Option<Products> {
    let name = format!("build of systems/{system}.toml for {} ({})", architecture.name(), profile.name());
    let spinner = Spinner::new("Building", &name);
    let result = build::build(workspace, architecture, profile, system, Voice::Quiet);
    let seconds = spinner.seconds();
    drop(spinner);
    match result {
        Ok(products) => Some(products),
        Err(error) => {
            tally.record(&name, seconds, Err(error));
            None
        }
    }
}

/// A machine for tests.
pub fn test_machine(machine: Machine, cores: u32) -> MachineOptions {
    MachineOptions { cores, machine: Some(machine), memory: "256M".into(), cpu: None, append: None, icount: false }
}

/// A machine with more cores than the host is likely to have: for what they do to each other.
fn crowded(machine: Machine) -> MachineOptions {
    MachineOptions { append: Some("only=cores/".into()), ..test_machine(machine, 16) }
}

/// Machines that lack what the usual ones have and the kernel makes use of: page tables of four levels (Sv48), and the
/// supervisor's own timer (Sstc); on x86-64, whatever a processor can lack. And machines that have more.
fn other_machines(architecture: Architecture) -> Vec<MachineOptions> {
    if architecture == Architecture::X86_64 {
        return vec![with_oldest_processor(1)];
    }
    let deadlines = MachineOptions { append: Some("only=deadlines/".into()), ..without_sstc(4) };
    // A hart that waits for another can sleep meanwhile only with Sstc: where harts outnumber the host's processors,
    // cases with many of them take too long without it. What differs is the timer, so its cases do.
    let floats = MachineOptions { append: Some("only=floats/".into()), ..with_vectors(128, 4) };
    let interrupts = MachineOptions { append: Some("only=interrupts/".into()), ..with_aplic(2) };
    vec![with_sv39(4), without_sstc(1), deadlines, with_everything(4), floats, interrupts]
}

/// A RISC-V machine with all that the kernel can make use of: page tables of five levels (which the command line asks
/// for), vector registers as large as it can save, APLIC and IMSICs.
pub fn with_everything(cores: u32) -> MachineOptions {
    let machine = Some(Machine::VirtAia);
    MachineOptions { machine, append: Some("paging=sv57".into()), ..with_vectors(512, cores) }
}

/// A RISC-V machine with an APLIC, but no IMSICs.
pub fn with_aplic(cores: u32) -> MachineOptions {
    test_machine(Machine::VirtAplic, cores)
}

/// A RISC-V machine with vector registers of so many bits.
pub fn with_vectors(bits: u32, cores: u32) -> MachineOptions {
    let cpu = format!("rv64,v=true,vext_spec=v1.0,vlen={bits}");
    MachineOptions { cpu: Some(cpu), ..test_machine(Machine::Virt, cores) }
}

/// A RISC-V machine on which the kernel is told to do with page tables of three levels.
pub fn with_sv39(cores: u32) -> MachineOptions {
    MachineOptions { append: Some("paging=sv39".into()), ..test_machine(Machine::Virt, cores) }
}

/// A RISC-V machine on which only the firmware can set a timer.
pub fn without_sstc(cores: u32) -> MachineOptions {
    MachineOptions { cpu: Some("rv64,sstc=off".into()), ..test_machine(Machine::Virt, cores) }
}

/// A PC whose processor has nothing that came after the first ones with 64 bits: no XSAVE, SMEP, SMAP, UMIP.
pub fn with_oldest_processor(cores: u32) -> MachineOptions {
    MachineOptions { cpu: Some("qemu64".into()), ..test_machine(Machine::Q35, cores) }
}

/// A machine, as people say it: `virt (rv64,sstc=off), 4 cores`.
pub fn machine_shown(machine: &MachineOptions) -> String {
    let name = machine.machine.map_or("", Machine::name);
    let special: Vec<&str> = [&machine.cpu, &machine.append].into_iter().flatten().map(String::as_str).collect();
    let special = if special.is_empty() { String::new() } else { format!(" ({})", special.join("; ")) };
    format!("{name}{special}, {}", cores_shown(machine.cores))
}

/// Boots an image on a machine, with its serial line on a terminal of ours.
pub fn boot(products: &Products, architecture: Architecture, machine: &MachineOptions) -> Result<Guest> {
    let mut command = qemu::command(architecture, machine, &products.image, OnReset::Exit)?;
    command.args(["-serial", "stdio", "-monitor", "none"]);
    Guest::start(command, Symbols::read(&products.kernel).ok(), "")
}

/// What came of the suite in the guest.
pub struct Outcome {
    /// How many cases.
    counted: Tally,
    /// Those that failed, each with what it said.
    pub failures: Vec<String>,
}

/// Success is said by the guest: its last line counts the tests, and then it powers off.
pub fn run_suite(
    products: &Products,
    architecture: Architecture,
    machine: &MachineOptions,
    patience: Duration,
) -> Result<Outcome> {
    let mut guest = boot(products, architecture, machine)?;
    guest.expect(SUITE_END, patience)?;
    let counts = guest.expect("failed", Duration::from_secs(5))?;
    let counted = read_counts(&format!("{counts}failed")).context("the guest's last line makes no sense")?;
    guest.expect_end()?;
    let said = |word: &str| guest.transcript().lines().filter(|line| line.starts_with(word)).count();
    let said = Tally { passed: u64::try_from(said("ok "))?, failed: u64::try_from(said("FAILED "))? };
    ensure!(said == counted, "{}", guest.report(&format!("the guest counts {counted:?}, but said {said:?}")));
    ensure!(counted != Tally::default(), "{}", guest.report("the guest ran no tests"));
    // With fewer cores, cases that need more are left out; with as many as the most demanding case needs, none may be.
    let skips = guest.transcript().lines().any(|line| line.starts_with("skipped "));
    ensure!(!skips || machine.cores < MOST_CORES_NEEDED, "{}", guest.report("cases were skipped for lack of cores"));
    let failures = guest.transcript().lines().filter_map(|line| line.strip_prefix("FAILED "));
    Ok(Outcome { counted, failures: failures.map(|line| line.trim_end().to_string()).collect() })
}
