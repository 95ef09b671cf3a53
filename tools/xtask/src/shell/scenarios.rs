//! What people do at the shell.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{FRESH_PROMPT, PATIENCE, PROMPT, Session};
use crate::build::Products;
use crate::guest::Guest;
use crate::qemu::{self, OnReset};
use crate::symbols::Symbols;
use crate::tally::Tally;
use crate::target::Architecture;
use crate::test;

/// A scenario starts with the shell waiting, and ends so.
type Scenario = fn(&mut Session) -> Result<()>;

/// Keys as a terminal sends them.
const UP: &str = "\x1b[A";
const DOWN: &str = "\x1b[B";
const LEFT: &str = "\x1b[D";
const HOME: &str = "\x1b[H";
const DELETE: &str = "\x1b[3~";
const BACKSPACE: &str = "\x7f";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// Long work in the guest, on a busy machine.
const LONG_PATIENCE: Duration = Duration::from_secs(400);
/// Guest time until the prompt may take this long.
const BOOT_SECONDS: f64 = 2.0;

/// Scenarios that share a guest, in this order.
pub const ALL: &[(&str, Scenario)] = &[
    ("help lists the commands", help),
    ("ps lists the processes of the manifest", processes),
    ("mem adds up", memory),
    ("cores lists every core", cores),
    ("caps lists what a process holds", capabilities),
    ("run gives a program its arguments", run_hello),
    ("threads spread over the cores", threads),
    ("mistakes get a clear error, and the shell goes on", mistakes),
    ("arrows and backspace edit the line", editing),
    ("arrows recall lines", history),
    ("Tab completes commands and programs", completion),
    ("Ctrl-C throws a line away", interrupted_line),
    ("Ctrl-C ends the program in the foreground", interrupted_program),
    ("Ctrl-D says how to leave", end_of_input),
    ("kill ends a program in the background", kill),
    ("a program that crashes dies alone", crashes),
    ("a thousand crashes give all memory back", thousand_crashes),
    ("Ctrl-C ends a repetition", interrupted_repetition),
    ("Ctrl-C that is typed ahead ends the program", interrupted_early),
    ("a killed serial driver starts again", driver_restarts),
    ("a killed console server starts again", console_restarts),
    ("a killed shell starts again", shell_restarts),
];

/// Scenarios that need a guest of their own.
pub fn alone(products: &Products, architecture: Architecture, tally: &mut Tally) {
    let name = format!("shell, {}: prompt within {BOOT_SECONDS} s of guest time", architecture.name());
    test::timed(tally, &name, || boots_quickly(products, architecture));
    let name = format!("shell, {}: reboot boots again", architecture.name());
    test::timed(tally, &name, || reboots(products, architecture));
}

fn help(session: &mut Session) -> Result<()> {
    let commands =
        ["help", "ps", "mem", "caps PID", "run PROGRAM", "kill PID", "uptime", "cores", "reboot", "poweroff"];
    session.expect("help", &commands)
}

fn processes(session: &mut Session) -> Result<()> {
    session.expect("ps", &["PID", "PRIO", "CORE", "STATE", "CPU TIME", "uart", "console", "shell"])
}

fn memory(session: &mut Session) -> Result<()> {
    let output = session.command("mem")?;
    let parts = ["free", "kernel", "system", "processes"].map(|word| session.number(&output, word));
    let sum = parts.into_iter().sum::<Result<u64>>()?;
    let total = session.number(&output, "total")?;
    // Each line is rounded to whole KiB.
    ensure!(sum.abs_diff(total) <= 4, "{}", session.guest.report(&format!("the parts sum to {sum} of {total} KiB")));
    Ok(())
}

fn cores(session: &mut Session) -> Result<()> {
    let output = session.command("cores")?;
    for core in 0..session.cores {
        let listed = output.lines().any(|line| line.split_whitespace().next() == Some(&core.to_string()));
        ensure!(listed, "{}", session.guest.report(&format!("core {core} is not listed")));
    }
    let lines = u32::try_from(output.lines().filter(|line| !line.is_empty()).count())?;
    ensure!(lines == session.cores + 1, "{}", session.guest.report("the number of lines is wrong"));
    Ok(())
}

fn capabilities(session: &mut Session) -> Result<()> {
    session.expect("caps 1", &["SLOT", "CapTable", "AddressSpace", "Thread", "Untyped", "Interrupt"])
}

fn run_hello(session: &mut Session) -> Result<()> {
    session.expect("run hello one \"two three\"", &["Hello from process", "You said: one two three", "9.810"])
}

fn threads(session: &mut Session) -> Result<()> {
    let cores = session.cores.min(8);
    session.expect("run threads", &["1 thread:  17984 primes", &format!("17984 primes on {cores} cores")])
}

fn mistakes(session: &mut Session) -> Result<()> {
    session.expect("frobnicate", &["unknown command 'frobnicate'; 'help' lists the commands"])?;
    session.expect("run", &["run: expected: run PROGRAM"])?;
    session.expect("run nonesuch", &["run nonesuch: "])?;
    session.expect("kill x", &["kill: expected a process number"])?;
    session.expect("kill 99999", &["kill 99999: "])?;
    session.expect("caps 99999", &["caps 99999: "])?;
    session.expect("uptime now", &["uptime: takes no arguments"])?;
    session.expect("echo \"open", &["no closing \""])?;
    session.expect("", &[])?;
    session.expect("echo still here", &["still here"])
}

fn editing(session: &mut Session) -> Result<()> {
    let line = format!("xecho hxllo{LEFT}{LEFT}{LEFT}{BACKSPACE}e{HOME}{DELETE}");
    let output = session.command(&line)?;
    session.must_contain("an edited line", &output, &["hello"])
}

fn history(session: &mut Session) -> Result<()> {
    session.expect("echo first", &["first"])?;
    session.expect("echo second", &["second"])?;
    let output = session.command(&format!("{UP}{UP}{UP}{DOWN}"))?;
    session.must_contain("up, up, up, down", &output, &["first"])?;
    ensure!(!output.contains("second"), "{}", session.guest.report("the wrong line was recalled"));
    Ok(())
}

fn completion(session: &mut Session) -> Result<()> {
    session.expect("upt\t", &["up "])?;
    session.expect("run hel\tthere", &["Hello from process", "You said: there"])
}

fn interrupted_line(session: &mut Session) -> Result<()> {
    session.guest.send(&format!("echo never{CTRL_C}"))?;
    session.guest.expect("^C", PATIENCE)?;
    let output = session.output()?;
    ensure!(!output.contains("never"), "{}", session.guest.report("the line was run"));
    session.expect("echo after", &["after"])
}

fn interrupted_program(session: &mut Session) -> Result<()> {
    session.guest.send_line("run spin")?;
    session.guest.expect("Spinning.", PATIENCE)?;
    session.guest.send(CTRL_C)?;
    let output = session.output()?;
    session.must_contain("Ctrl-C", &output, &["spin: killed"])?;
    let listed = session.command("ps")?;
    ensure!(row_of(&listed, "spin").is_none(), "{}", session.guest.report("spin still runs"));
    Ok(())
}

fn end_of_input(session: &mut Session) -> Result<()> {
    session.guest.send(CTRL_D)?;
    let output = session.output()?;
    session.must_contain("Ctrl-D", &output, &["'poweroff' switches the machine off"])
}

fn kill(session: &mut Session) -> Result<()> {
    let started = session.command("run spin &")?;
    // The program may speak before the shell does.
    let line = started.lines().find(|line| line.starts_with('[')).unwrap_or_default();
    let pid = session.number(&line.replace(['[', ']'], " "), "")?;
    let listed = session.command("ps")?;
    ensure!(row_of(&listed, "spin").is_some(), "{}", session.guest.report("spin does not run"));
    session.command(&format!("kill {pid}"))?;
    let listed = session.command("ps")?;
    ensure!(row_of(&listed, "spin").is_none(), "{}", session.guest.report("spin still runs"));
    Ok(())
}

fn crashes(session: &mut Session) -> Result<()> {
    let divide = match session.architecture {
        Architecture::X86_64 => "fault: arithmetic error at 0x0, program counter 0x4",
        // RISC-V defines the result.
        Architecture::Riscv64 => "did not fault",
    };
    let ways = [
        ("null", "fault: read of an unmapped address at 0x0, program counter 0x4"),
        ("illegal", "fault: illegal instruction at 0x"),
        ("stack", "fault: write to an unmapped or read-only address at 0x3ef"),
        ("kernel", "fault: jump to an address that is not executable at 0xffffffff80000000"),
        ("kernel-read", "fault: read of an unmapped address at 0xffffffff80000000, program counter 0x4"),
        ("text", "fault: write to an unmapped or read-only address at 0x400000, program counter 0x4"),
        ("data", "fault: jump to an address that is not executable at 0x4"),
        ("privileged", "fault: illegal instruction at 0x"),
        ("divide", divide),
        ("panic", "ended with code 101"),
    ];
    for (way, says) in ways {
        session.expect(&format!("run crash {way}"), &["crash", says])?;
    }
    let listed = session.command("ps")?;
    ensure!(row_of(&listed, "crash").is_none(), "{}", session.guest.report("a program that crashed is still listed"));
    session.expect("run hello", &["Hello from process"])
}

fn thousand_crashes(session: &mut Session) -> Result<()> {
    // What the servers keep for the first of its kind is no leak.
    session.command("run crash null")?;
    let before = session.command("mem")?;
    session.guest.send_line("repeat 1000 run crash null")?;
    let crashed = session.guest.expect(FRESH_PROMPT, LONG_PATIENCE)?;
    let times = crashed.matches("crash: ended by a fault: read of an unmapped address").count();
    ensure!(times == 1000, "{}", session.guest.report(&format!("{times} crashes instead of 1000")));
    let after = session.command("mem")?;
    ensure!(before == after, "{}", session.guest.report(&format!("mem said {before:?} before and {after:?} after")));
    Ok(())
}

fn interrupted_repetition(session: &mut Session) -> Result<()> {
    session.guest.send_line("repeat 4000000000 echo again")?;
    // How many carriage returns end a line is the terminal's business.
    for _ in 0..2 {
        session.guest.expect("\nagain", PATIENCE)?;
    }
    session.guest.send(CTRL_C)?;
    session.guest.expect(FRESH_PROMPT, PATIENCE)?;
    // Whenever the key comes: also while the first program is being started.
    session.guest.send(&format!("repeat 3 run spin\r{CTRL_C}"))?;
    session.guest.expect(FRESH_PROMPT, PATIENCE)?;
    session.expect("echo after", &["after"])
}

fn interrupted_early(session: &mut Session) -> Result<()> {
    session.guest.send(&format!("run spin\r{CTRL_C}"))?;
    session.guest.expect("spin: killed", PATIENCE)?;
    session.guest.expect(FRESH_PROMPT, PATIENCE)?;
    session.expect("echo after", &["after"])
}

/// The row of `ps` for the process with this name: no line such as `[5] spin: killed`, which may come in between.
fn row_of<'a>(listed: &'a str, name: &str) -> Option<&'a str> {
    listed.lines().find(|line| line.ends_with(&format!("  {name}")))
}

/// The number of the process with this name.
pub fn pid_of(session: &mut Session, name: &str) -> Result<String> {
    let listed = session.command("ps")?;
    let pid = row_of(&listed, name).and_then(|row| row.split_whitespace().next()).map(ToString::to_string);
    pid.with_context(|| session.guest.report(&format!("ps does not list {name}")))
}

fn driver_restarts(session: &mut Session) -> Result<()> {
    let pid = pid_of(session, "uart")?;
    session.command(&format!("kill {pid}"))?;
    session.expect("echo through the new driver", &["through the new driver"])?;
    ensure!(pid_of(session, "uart")? != pid, "{}", session.guest.report("it is still the old driver"));
    Ok(())
}

/// The prompt comes once or twice, according to whether the old one still took it. Keys that come before the new one has
/// been told who is to read them are lost, so they are typed again, each time others: the answer tells which arrived.
fn console_restarts(session: &mut Session) -> Result<()> {
    let pid = pid_of(session, "console")?;
    session.guest.send_line(&format!("kill {pid}"))?;
    session.guest.expect(PROMPT, PATIENCE)?;
    let mut answered = Ok(String::new());
    for round in 1..=6 {
        session.guest.send_line(&format!("echo new console, line {round}"))?;
        answered = session.guest.expect(&format!("\nnew console, line {round}"), PATIENCE / 6);
        if answered.is_ok() {
            break;
        }
    }
    answered?;
    session.guest.expect(FRESH_PROMPT, PATIENCE)?;
    ensure!(pid_of(session, "console")? != pid, "{}", session.guest.report("it is still the old server"));
    // Keys and Ctrl-C find their way as before.
    interrupted_program(session)
}

fn shell_restarts(session: &mut Session) -> Result<()> {
    let pid = pid_of(session, "shell")?;
    session.guest.send_line(&format!("kill {pid}"))?;
    session.guest.expect(concat!("Anos ", env!("CARGO_PKG_VERSION"), " on"), PATIENCE)?;
    session.guest.expect(FRESH_PROMPT, PATIENCE)?;
    session.expect("echo back", &["back"])
}

/// With instructions counted as time, a busy host doesn't matter.
fn boots_quickly(products: &Products, architecture: Architecture) -> Result<()> {
    let mut machine = test::test_machine(architecture.machines()[0], 4);
    machine.icount = true;
    let mut session = Session::start(products, architecture, &machine)?;
    let output = session.command("uptime")?;
    let seconds = output.trim().strip_prefix("up ").and_then(|rest| rest.strip_suffix(" s")?.parse::<f64>().ok());
    let late = || session.guest.report(&format!("the prompt took longer than {BOOT_SECONDS} s of guest time"));
    ensure!(seconds.is_some_and(|seconds| seconds < BOOT_SECONDS), "{}", late());
    Ok(())
}

fn reboots(products: &Products, architecture: Architecture) -> Result<()> {
    let machine = test::test_machine(architecture.machines()[0], 2);
    let mut command = qemu::command(architecture, &machine, &products.image, OnReset::Restart)?;
    command.args(["-serial", "stdio", "-monitor", "none"]);
    let guest = Guest::start(command, Symbols::read(&products.kernel).ok(), "")?;
    let mut session = Session { guest, architecture, cores: machine.cores };
    session.guest.expect(FRESH_PROMPT, PATIENCE)?;
    session.guest.send_line("reboot")?;
    session.guest.expect(concat!("Anos ", env!("CARGO_PKG_VERSION"), " on"), PATIENCE)?;
    session.guest.expect(FRESH_PROMPT, PATIENCE)?;
    session.expect("run hello", &["Hello from process"])?;
    session.guest.send_line("poweroff")?;
    session.guest.expect_end()
}
