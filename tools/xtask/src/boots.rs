//! `cargo xtask boots`: many boots in a row, on every kind of machine, none of which may hang.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::build::Products;
use crate::cli::{BootsOptions, MachineOptions};
use crate::progress::{fail, say};
use crate::shell::PROMPT;
use crate::tally::Tally;
use crate::target::{Architecture, Profile, cores_shown};
use crate::test::{self, machine_shown};
use crate::workspace::Workspace;

/// Guests that run at the same time.
const PARALLEL: usize = 2;
/// Without a terminal, a line comes after so many boots.
const SAY_EVERY: u64 = 50;
/// How long a boot may take on a busy machine, and how long powering off.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to boot.
pub struct Plan {
    /// How many times.
    pub count: u32,
    /// One architecture, or both.
    pub architecture: Option<Architecture>,
    /// Built like this.
    pub profile: Profile,
}

/// `cargo xtask boots`.
pub fn command(workspace: &Workspace, options: &BootsOptions) -> Result<ExitCode> {
    let plan = Plan { count: options.count, architecture: options.arch, profile: options.profile };
    let tally = run(workspace, &plan);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Boots as often as planned, spread over machines and numbers of cores.
pub fn run(workspace: &Workspace, plan: &Plan) -> Tally {
    let mut tally = Tally::default();
    let mut built = Vec::new();
    for architecture in Architecture::selected(plan.architecture) {
        match test::build_for(workspace, architecture, plan.profile, "default", &mut tally) {
            Some(products) => built.push((architecture, products)),
            None => return tally,
        }
    }
    let kinds = kinds(&built);
    let bar = bar(plan.count);
    let next = AtomicU32::new(0);
    let result = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let kind = &kinds[usize::try_from(number).unwrap_or(0) % kinds.len()];
                    if number >= plan.count {
                        break;
                    }
                    let outcome = boot_once(kind);
                    // A thread that panicked has counted nothing wrong.
                    let mut result = result.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match outcome {
                        Ok(()) => result.passed += 1,
                        Err(error) => {
                            result.failed += 1;
                            let name = format!("boot {number}, {}", machine_shown(&kind.machine));
                            bar.suspend(|| fail(&format!("{name}: {error:#}")));
                        }
                    }
                    bar.inc(1);
                    let done = result.passed + result.failed;
                    if bar.is_hidden() && done % SAY_EVERY == 0 {
                        say("Booted", &format!("{done} of {} times", plan.count));
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let counted = result.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("boots: {} passed, {} failed", counted.passed, counted.failed);
    tally.add(counted);
    tally
}

/// A machine to boot on.
struct Kind<'a> {
    architecture: Architecture,
    products: &'a Products,
    machine: MachineOptions,
}

/// Every machine and number of cores, so ordered that few boots already meet many kinds.
fn kinds(built: &[(Architecture, Products)]) -> Vec<Kind<'_>> {
    let mut kinds = Vec::new();
    for cores in [1, 2, 4, 16] {
        for (architecture, products) in built {
            let usual = architecture.machines().iter().map(|&machine| test::test_machine(machine, cores));
            // One number of cores is enough for these: what they lack, or have more, has little to do with it.
            let others = match (architecture, cores) {
                (Architecture::Riscv64, 2) => vec![
                    test::with_sv39(cores),
                    test::without_sstc(cores),
                    test::with_everything(cores),
                    test::with_aplic(cores),
                    // More than the kernel can save: it does without.
                    test::with_vectors(1024, cores),
                ],
                _ => Vec::new(),
            };
            let machines = usual.chain(others);
            kinds.extend(machines.map(|machine| Kind { architecture: *architecture, products, machine }));
        }
    }
    kinds
}

fn boot_once(kind: &Kind<'_>) -> Result<()> {
    let mut guest = test::boot(kind.products, kind.architecture, &kind.machine)?;
    let greeting = guest.expect(PROMPT, PATIENCE)?;
    let cores = cores_shown(kind.machine.cores);
    let all_run = greeting.contains(&format!(", {cores}, "));
    ensure!(all_run, "{}", guest.report(&format!("the greeting does not speak of {cores}")));
    guest.send_line("poweroff")?;
    let status = guest.wait_for_end(PATIENCE)?;
    ensure!(status.success(), "{}", guest.report(&format!("QEMU ended with {status}")));
    Ok(())
}

fn bar(count: u32) -> ProgressBar {
    let bar = ProgressBar::new(u64::from(count));
    if let Ok(style) = ProgressStyle::with_template("{prefix:>12.green.bold} {bar:40} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.set_prefix("Booting");
    bar
}
