//! `cargo xtask mutants`: does some test notice if the kernel is wrong?
//!
//! tests/mutants.toml lists faults: a piece of the kernel's source, what to put in its place, and which tests should
//! notice. Each is put into a copy of the tree, alone; the copy is built, and the tests run. A fault that nobody
//! notices is a hole in the tests. One that doesn't compile, or whose piece isn't there exactly once, proves nothing,
//! and is an error.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::build::{self, Voice};
use crate::cli::MutantsOptions;
use crate::progress::{fail, say};
use crate::reproducible;
use crate::target::{Architecture, Profile, cores_shown};
use crate::test;
use crate::workspace::Workspace;

/// The list.
const FILE: &str = "tests/mutants.toml";
/// What runs on the host: the kernel's core, on the simulated machine.
const HOST_PACKAGES: [&str; 4] = ["-panos-abi", "-panos-machine", "-panos-core", "-panos-sim"];
/// The tests that play at random have this in their names. They take longest, and so run last.
const RANDOM: &str = "_every_rule";
/// Tests that take so many times longer than without a fault will never end.
const PATIENCE: u32 = 4;
/// The least that tests get.
const LEAST: Duration = Duration::from_secs(120);

/// A fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Mutant {
    name: String,
    /// What is wrong then, in a sentence.
    breaks: String,
    /// The file, from the tree's root.
    file: PathBuf,
    /// A piece of it that occurs once.
    find: String,
    /// What to put in its place.
    put: String,
    step: Step,
    /// On the host: the file of tests to start with. If it doesn't notice, all run.
    test: Option<String>,
    /// In QEMU: on how many cores.
    #[serde(default = "one")]
    cores: u32,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// Which tests should notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    /// Those on the simulated machine.
    Host,
    /// The suite in the guest.
    #[serde(rename = "x86_64")]
    X86_64,
    /// The same.
    Riscv64,
}

/// What the tests said.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// These failed, or something worse happened.
    Caught(String),
    /// Nothing.
    Survived,
}

/// Tries the faults; fails if one survives.
pub fn command(workspace: &Workspace, options: &MutantsOptions) -> Result<ExitCode> {
    let mut mutants = load(&workspace.root)?;
    if !options.only.is_empty() {
        for name in &options.only {
            ensure!(mutants.iter().any(|mutant| mutant.name == *name), "{FILE} has no mutant {name}");
        }
        mutants.retain(|mutant| options.only.contains(&mutant.name));
    }
    if options.list {
        mutants.iter().for_each(|mutant| println!("{:<44}{}", mutant.name, mutant.breaks));
        return Ok(ExitCode::SUCCESS);
    }
    for mutant in &mutants {
        mutant.applied(&workspace.root)?;
    }
    let (total, started) = (mutants.len(), Instant::now());
    let results = Mutex::new(Vec::new());
    let queue = Mutex::new(mutants.iter().enumerate());
    thread::scope(|scope| {
        for job in 1..=options.jobs {
            let (queue, results) = (&queue, &results);
            scope.spawn(move || {
                let mut place = Place::new(workspace, job);
                while let Some((number, mutant)) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    say("Trying", &format!("{}/{total} {}", number + 1, mutant.name));
                    let result = place.try_out(mutant);
                    show(mutant, &result);
                    if let Ok(mut results) = results.lock() {
                        results.push((mutant, result));
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_default();
    let names = |wanted: fn(&Result<Verdict>) -> bool| -> Vec<&str> {
        results.iter().filter(|(_, result)| wanted(result)).map(|(mutant, _)| mutant.name.as_str()).collect()
    };
    let survived = names(|result| matches!(result, Ok(Verdict::Survived)));
    let unclear = names(Result::is_err);
    say("Finished", &format!("{total} mutants in {} s", started.elapsed().as_secs()));
    println!(
        "{} caught, {} survived, {} unclear",
        total - survived.len() - unclear.len(),
        survived.len(),
        unclear.len()
    );
    survived.iter().for_each(|name| fail(&format!("{name} survived: no test notices")));
    unclear.iter().for_each(|name| fail(&format!("{name}: see above")));
    Ok(if survived.is_empty() && unclear.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(mutant: &Mutant, result: &Result<Verdict>) {
    match result {
        Ok(Verdict::Caught(by)) => println!("caught    {:<44}{by}", mutant.name),
        Ok(Verdict::Survived) => println!("SURVIVED  {:<44}{}", mutant.name, mutant.breaks),
        Err(error) => {
            println!("unclear   {}", mutant.name);
            fail(&format!("{}: {error:#}", mutant.name));
        }
    }
}

/// Reads the list.
fn load(root: &Path) -> Result<Vec<Mutant>> {
    let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    let list: List = toml::from_str(&text).with_context(|| format!("{FILE} makes no sense"))?;
    let mut names = BTreeSet::new();
    for mutant in &list.mutant {
        ensure!(names.insert(&mutant.name), "{FILE} has two mutants {}", mutant.name);
    }
    Ok(list.mutant)
}

impl Mutant {
    /// Its file with the fault.
    fn applied(&self, root: &Path) -> Result<String> {
        let shown = self.file.display();
        let text = fs::read_to_string(root.join(&self.file)).with_context(|| format!("{}: no {shown}", self.name))?;
        let (find, put) = (self.find.trim_end(), self.put.trim_end());
        ensure!(!find.is_empty() && find != put, "{}: it changes nothing", self.name);
        let count = text.matches(find).count();
        ensure!(count == 1, "{}: {shown} has what it replaces {count} times: the list is stale", self.name);
        Ok(text.replacen(find, put, 1))
    }
}

/// A copy of the tree, and what is built from it.
struct Place<'a> {
    original: &'a Workspace,
    copy: Workspace,
    /// The steps whose tests passed without a fault, and how long they took.
    sound: Vec<(Step, u32, Duration)>,
}

impl<'a> Place<'a> {
    fn new(original: &'a Workspace, job: u32) -> Self {
        let place = original.target.join("mutants").join(job.to_string());
        let copy = original.elsewhere(&place.join("sources"), &place.join("built"));
        Place { original, copy, sound: Vec::new() }
    }

    fn try_out(&mut self, mutant: &Mutant) -> Result<Verdict> {
        let without = self.time_without(mutant.step, mutant.cores)?;
        let file = self.copy.root.join(&mutant.file);
        let sound = fs::read_to_string(&file)?;
        fs::write(&file, mutant.applied(&self.copy.root)?)?;
        let verdict = self.with_fault(mutant, without);
        fs::write(&file, sound)?;
        verdict
    }

    fn with_fault(&self, mutant: &Mutant, without: Duration) -> Result<Verdict> {
        if let Some(test) = &mutant.test {
            let tests = ["--package", "anos-sim", "--test", test];
            self.build_host(&tests)?;
            // One file takes less than all.
            let verdict = self.run_host(&tests, &[], without.max(LEAST))?;
            if verdict != Verdict::Survived {
                return Ok(verdict);
            }
        }
        self.perform(mutant.step, mutant.cores, (without * PATIENCE).max(LEAST))
    }

    /// How long a step takes without a fault. It must pass: else it would "notice" every fault.
    fn time_without(&mut self, step: Step, cores: u32) -> Result<Duration> {
        if self.sound.is_empty() {
            fs::create_dir_all(&self.copy.root)?;
            reproducible::copy_sources(&self.original.root, &self.copy.root)?;
        }
        if let Some((.., time)) = self.sound.iter().find(|sound| (sound.0, sound.1) == (step, cores)) {
            return Ok(*time);
        }
        say("Trying", &format!("{step:?} on {} without a fault", cores_shown(cores)));
        // Built first, so that only the tests are timed.
        self.build(step)?;
        let started = Instant::now();
        match self.perform(step, cores, Duration::from_secs(1200))? {
            Verdict::Survived => {}
            Verdict::Caught(by) => bail!("the tests fail without a fault, too: {by}"),
        }
        let time = started.elapsed();
        self.sound.push((step, cores, time));
        Ok(time)
    }

    fn build(&self, step: Step) -> Result<()> {
        match step {
            Step::Host => self.build_host(&HOST_PACKAGES),
            Step::X86_64 => {
                build::build(&self.copy, Architecture::X86_64, Profile::Test, "test", Voice::Quiet).map(drop)
            }
            Step::Riscv64 => {
                build::build(&self.copy, Architecture::Riscv64, Profile::Test, "test", Voice::Quiet).map(drop)
            }
        }
    }

    fn build_host(&self, tests: &[&str]) -> Result<()> {
        let mut command = self.host_tests(tests);
        command.arg("--no-run");
        build::run(command, Voice::Quiet)
    }

    fn host_tests(&self, tests: &[&str]) -> Command {
        let mut command = self.copy.cargo();
        command.args(["test", "--quiet", "--no-fail-fast"]).args(tests);
        // Nobody debugs these. And a third of the usual random steps finds what they find.
        command.envs([("CARGO_PROFILE_DEV_DEBUG", "false"), ("ANOS_STEPS", "20000")]);
        command
    }

    /// Builds and runs a step.
    fn perform(&self, step: Step, cores: u32, patience: Duration) -> Result<Verdict> {
        let architecture = match step {
            Step::X86_64 => Architecture::X86_64,
            Step::Riscv64 => Architecture::Riscv64,
            Step::Host => {
                self.build(step)?;
                let quick = self.run_host(&HOST_PACKAGES, &["--skip", RANDOM], patience)?;
                return if quick == Verdict::Survived {
                    self.run_host(&HOST_PACKAGES, &[RANDOM], patience)
                } else {
                    Ok(quick)
                };
            }
        };
        let products = build::build(&self.copy, architecture, Profile::Test, "test", Voice::Quiet)?;
        let machine = test::test_machine(architecture.machines()[0], cores);
        Ok(match test::run_suite(&products, architecture, &machine, patience) {
            Ok(outcome) if outcome.failures.is_empty() => Verdict::Survived,
            Ok(outcome) => Verdict::Caught(listed(&outcome.failures)),
            Err(error) => Verdict::Caught(format!("{error}").lines().next().unwrap_or_default().to_string()),
        })
    }

    fn run_host(&self, tests: &[&str], arguments: &[&str], patience: Duration) -> Result<Verdict> {
        let output = self.copy.target.join("output.txt");
        let file = fs::File::create(&output)?;
        let mut command = self.host_tests(tests);
        command.arg("--").args(arguments);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let mut child = command.spawn().context("cannot start cargo")?;
        let Some(success) = wait(&mut child, patience)? else {
            return Ok(Verdict::Caught(format!("no end within {} s", patience.as_secs())));
        };
        let text = fs::read_to_string(&output).unwrap_or_default();
        let failures = failures(&text);
        Ok(match (success, failures.is_empty()) {
            (true, _) => Verdict::Survived,
            (false, false) => Verdict::Caught(listed(&failures)),
            (false, true) => Verdict::Caught("the tests broke off".into()),
        })
    }
}

/// Waits for a child; kills it and all that it started when that takes too long.
fn wait(child: &mut Child, patience: Duration) -> Result<Option<bool>> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        thread::sleep(Duration::from_millis(50));
    }
    if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
    }
    child.wait()?;
    Ok(None)
}

/// The names of the tests that failed: cargo lists them, indented, under a heading.
fn failures(text: &str) -> Vec<String> {
    let mut failures = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "failures:" {
            let names = lines.by_ref().skip_while(|line| line.is_empty()).map_while(|line| line.strip_prefix("    "));
            failures.extend(names.map(String::from));
        }
    }
    failures.sort();
    failures.dedup();
    failures
}

/// The first of several, and how many more there are.
fn listed(failures: &[String]) -> String {
    match failures {
        [] => "nothing".into(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The issue asks for so many.
    const LEAST_MUTANTS: usize = 40;

    #[test]
    fn every_mutant_of_the_list_applies_to_the_tree() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mutants = load(&root).expect("a list");
        let stale: Vec<String> =
            mutants.iter().filter_map(|mutant| mutant.applied(&root).err()).map(|error| error.to_string()).collect();
        assert!(stale.is_empty(), "{}", stale.join("\n"));
        assert!(mutants.len() >= LEAST_MUTANTS, "{} mutants", mutants.len());
    }

    #[test]
    fn a_mutant_that_does_not_fit_is_an_error() {
        let place = std::env::temp_dir().join(format!("anos-mutants-test-{}", std::process::id()));
        fs::create_dir_all(&place).expect("made");
        fs::write(place.join("file.rs"), "a + b;\nc + d;\n").expect("written");
        let mutant = |find: &str, put: &str| Mutant {
            name: "sum".into(),
            breaks: "Sums are differences.".into(),
            file: "file.rs".into(),
            find: find.into(),
            put: put.into(),
            step: Step::Host,
            test: None,
            cores: 1,
        };
        assert_eq!(mutant("a + b;\n", "a - b;\n").applied(&place).expect("fits"), "a - b;\nc + d;\n");
        for (find, put) in [("x + y", "x - y"), (" + ", " - "), ("a + b", "a + b"), ("", "x")] {
            assert!(mutant(find, put).applied(&place).is_err(), "{find}");
        }
        fs::remove_dir_all(&place).expect("removed");
    }

    #[test]
    fn the_names_of_failed_tests_are_read_from_cargo_s_output() {
        let text = "failures:\n\n---- a stdout ----\npanicked\n\n\nfailures:\n    b\n    a\n\ntest result: FAILED.\n";
        assert_eq!(failures(text), ["a", "b"]);
        assert_eq!(listed(&failures(text)), "a and 1 more");
        assert!(failures("test result: ok. 1 passed\n").is_empty());
    }

    #[test]
    fn what_takes_too_long_is_ended_with_all_that_it_started() {
        let started = Instant::now();
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", "sleep 100 & sleep 100"]).process_group(0).spawn().expect("started");
        assert_eq!(wait(&mut child, Duration::from_millis(200)).expect("waited"), None);
        assert!(started.elapsed() < Duration::from_secs(50));
        let mut child = Command::new("false").process_group(0).spawn().expect("started");
        assert_eq!(wait(&mut child, Duration::from_secs(50)).expect("waited"), Some(false));
    }
}
