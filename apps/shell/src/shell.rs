//! The shell on Anos: reads lines from the console and does what they say.
//!
//! One thread reads and runs; another waits for the interrupt key and ends the program in the foreground. Each program
//! in the background has a thread that waits for it; how it ended is said before the next prompt.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

use anos::client::Processes;
use anos::console::Console;
use anos::interfaces::console::INTERRUPT_KEY;
use anos::interfaces::process::End;
use anos::thread::{Builder, JoinHandle};
use anos::{Error, Failure, env, print, println, time};
use anos_app_shell::command::{self, COMMANDS, Command, Run};
use anos_app_shell::editor::{Editor, Outcome};
use anos_app_shell::units::{Size, Time};

use crate::show;

extern crate alloc;

const PROMPT: &str = "anos> ";
/// How long to leave a console server alone that is gone, before asking for its successor.
const RETRY: Duration = Duration::from_millis(50);
/// How often to ask before giving up: the root server starts a dead server again, but not for ever.
const ATTEMPTS: u32 = 100;

/// Nobody in the foreground: the shell doesn't read, but wants to hear of the interrupt key.
const NOBODY: u32 = 0;

/// The process in the foreground: what a new console server must be told.
static FOREGROUND: AtomicU32 = AtomicU32::new(NOBODY);
/// The interrupt key was pressed, and nobody was there to be ended by it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Asks the console; again, if it dies over it and a new one comes.
fn ask<T>(console: Console, question: impl Fn(&Console) -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 0..ATTEMPTS {
        match question(&console) {
            Err(Failure::Kernel(Error::PeerDied)) => {
                time::sleep(RETRY)?;
                tell_foreground(console);
            }
            answered => return answered,
        }
    }
    Err(Error::PeerDied.into())
}

/// Tells a new console server who is in the foreground. Should that change meanwhile, the last word is right.
fn tell_foreground(console: Console) {
    let mut told = None;
    while told != Some(FOREGROUND.load(Ordering::Relaxed)) {
        let pid = FOREGROUND.load(Ordering::Relaxed);
        // If the server isn't there yet, the next attempt tells.
        let _ = console.foreground(pid);
        told = Some(pid);
    }
}

/// Says who gets the keys.
fn set_foreground(console: Console, pid: u32) -> Result<(), Failure> {
    FOREGROUND.store(pid, Ordering::SeqCst);
    ask(console, |console| console.foreground(pid))
}

/// The shell's world.
struct Shell {
    console: Console,
    processes: Processes,
    /// Programs in the background.
    jobs: Vec<JoinHandle<String>>,
    /// Who is in the foreground while no program is: the shell, or nobody while a command is repeated.
    behind: u32,
    /// Keys behind the end of the last line: typed ahead.
    ahead: VecDeque<u8>,
}

/// Greets, and does what it is told until the machine goes off.
pub fn main() -> Result<(), Failure> {
    let console = Console::get().ok_or(Error::EmptySlot)?;
    let processes = Processes::get().ok_or(Error::EmptySlot)?;
    set_foreground(console, env::pid())?;
    Builder::new().name("interrupt key").spawn(move || end_interrupted(console, processes))?;
    let mut shell = Shell { console, processes, jobs: Vec::new(), behind: env::pid(), ahead: VecDeque::new() };
    shell.greet();
    let mut editor = Editor::new(PROMPT);
    loop {
        shell.report_jobs();
        match shell.read_line(&mut editor)? {
            Outcome::Line(line) => match command::parse(&line) {
                Ok(Some(command)) => shell.execute(&command),
                Ok(None) => {}
                Err(mistake) => println!("{mistake}"),
            },
            Outcome::End => println!("'poweroff' switches the machine off"),
            Outcome::Interrupted | Outcome::Editing => {}
        }
    }
}

/// Ends what is in the foreground when the interrupt key is pressed.
fn end_interrupted(console: Console, processes: Processes) {
    while let Ok(pid) = ask(console, Console::interrupted) {
        INTERRUPTED.store(true, Ordering::SeqCst);
        // A program may have come into the foreground at this moment; or the one that was there has ended by itself.
        let pid = if pid == NOBODY { FOREGROUND.load(Ordering::SeqCst) } else { pid };
        if pid != NOBODY && pid != env::pid() {
            let _ = processes.kill(pid);
        }
    }
}

impl Shell {
    fn greet(&self) {
        let memory = self.processes.memory().map_or(0, |memory| memory.total);
        let cores = env::cores();
        println!(
            "\nAnos {} on {}, {cores} core{}, {} of memory. 'help' lists the commands.\n",
            env!("CARGO_PKG_VERSION"),
            env::architecture(),
            if cores == 1 { "" } else { "s" },
            Size(memory)
        );
    }

    /// Reads until a line is done or thrown away.
    fn read_line(&mut self, editor: &mut Editor) -> Result<Outcome, Failure> {
        let mut out = String::new();
        editor.show(&mut out);
        ask(self.console, |console| console.write(out.as_bytes()))?;
        loop {
            if self.ahead.is_empty() {
                self.ahead.extend(ask(self.console, Console::read)?.as_slice());
            }
            let mut out = String::new();
            let mut outcome = Outcome::Editing;
            while outcome == Outcome::Editing
                && let Some(key) = self.ahead.pop_front()
            {
                outcome = editor.byte(key, |before| command::complete(before, || self.startable()), &mut out);
            }
            ask(self.console, |console| console.write(out.as_bytes()))?;
            if outcome != Outcome::Editing {
                return Ok(outcome);
            }
        }
    }

    fn startable(&self) -> Vec<String> {
        self.processes.programs().filter(|program| program.startable).map(|program| program.name.to_string()).collect()
    }

    fn execute(&mut self, command: &Command) {
        let done = match command {
            Command::Run(run) => self.run(run).map(|_| ()),
            Command::Repeat(count, words) => self.repeat(*count, words),
            Command::Kill(pid) => self.processes.kill(*pid),
            Command::Help => {
                for (name, arguments, meaning) in COMMANDS {
                    println!("  {:34}{meaning}", format!("{name} {arguments}"));
                }
                println!("Tab completes, arrows move and recall lines, Ctrl-C ends what runs.");
                Ok(())
            }
            Command::Echo(text) => {
                println!("{text}");
                Ok(())
            }
            Command::Clear => {
                print!("\x1b[H\x1b[2J");
                Ok(())
            }
            Command::Uptime => {
                println!("up {}", Time(time::Instant::now().nanoseconds()));
                Ok(())
            }
            Command::Processes => show::processes(&self.processes),
            Command::Memory => show::memory(&self.processes),
            Command::Capabilities(pid) => show::capabilities(&self.processes, *pid),
            Command::Cores => show::cores(&self.processes),
            Command::Counters => show::counters(&self.processes),
            Command::Programs => show::programs(&self.processes),
            Command::Reboot => Err(self.processes.shut_down(true)),
            Command::PowerOff => Err(self.processes.shut_down(false)),
        };
        if let Err(failure) = done {
            println!("{}: {failure}", subject(command));
        }
    }

    /// Starts a program, and waits for it unless it is for the background. True if it was killed.
    fn run(&mut self, run: &Run) -> Result<bool, Failure> {
        let pid = self.processes.run(&run.program, run.arguments.iter().map(String::as_str))?;
        if run.background {
            println!("[{pid}] {}", run.program);
            self.watch(pid, &run.program);
            return Ok(false);
        }
        set_foreground(self.console, pid)?;
        // Once it is in the foreground the key ends it; before, it was typed ahead, or nobody was there to be ended.
        if self.interrupted_ahead() || self.behind == NOBODY && INTERRUPTED.load(Ordering::SeqCst) {
            let _ = self.processes.kill(pid);
        }
        let end = self.processes.wait(pid);
        set_foreground(self.console, self.behind)?;
        let end = end?;
        if end != (End::Exited { code: 0 }) {
            println!("{}: {}", run.program, show::end(&end));
        }
        Ok(end == End::Killed)
    }

    /// Whether the interrupt key was typed ahead. What was typed before it goes with it.
    fn interrupted_ahead(&mut self) -> bool {
        let found = self.ahead.iter().position(|&key| key == INTERRUPT_KEY);
        if let Some(at) = found {
            self.ahead.drain(..=at);
        }
        found.is_some()
    }

    /// Has a thread wait for a program in the background.
    fn watch(&mut self, pid: u32, program: &str) {
        let (processes, name) = (self.processes, String::from(program));
        let waiting = Builder::new().name("job").spawn(move || match processes.wait(pid) {
            Ok(end) => format!("[{pid}] {name}: {}", show::end(&end)),
            Err(Failure::Kernel(Error::Cancelled)) => format!("[{pid}] {name}: nobody waits for its end any more"),
            Err(failure) => format!("[{pid}] {name}: {failure}"),
        });
        match waiting {
            Ok(handle) => self.jobs.push(handle),
            Err(failure) => println!("[{pid}] {program}: runs, but nobody will tell how it ends: {failure}"),
        }
    }

    /// Says how programs in the background have ended.
    fn report_jobs(&mut self) {
        let (ended, running) = self.jobs.drain(..).partition::<Vec<_>, _>(JoinHandle::is_finished);
        self.jobs = running;
        for text in ended.into_iter().filter_map(|job| job.join().ok()) {
            println!("{text}");
        }
    }

    /// Does a command several times; stops at the interrupt key, and when a program is killed or can't be started.
    fn repeat(&mut self, count: u32, words: &[String]) -> Result<(), Failure> {
        let Ok(Some(command)) = command::from_words(words) else { return Ok(()) };
        INTERRUPTED.store(self.interrupted_ahead(), Ordering::SeqCst);
        self.behind = NOBODY;
        let done = set_foreground(self.console, NOBODY).and_then(|()| self.repeat_command(count, &command));
        self.behind = env::pid();
        set_foreground(self.console, self.behind)?;
        done
    }

    fn repeat_command(&mut self, count: u32, command: &Command) -> Result<(), Failure> {
        for _ in 0..count {
            if INTERRUPTED.load(Ordering::SeqCst) {
                break;
            }
            match command {
                Command::Run(run) if self.run(run)? => break,
                Command::Run(_) => {}
                other => self.execute(other),
            }
        }
        Ok(())
    }
}

/// What a failure of a command is about.
fn subject(command: &Command) -> String {
    let words = match command {
        Command::Run(run) => vec!["run", &run.program],
        Command::Repeat(_, words) => words.iter().map(String::as_str).take(2).collect(),
        Command::Kill(pid) => return format!("kill {pid}"),
        Command::Capabilities(pid) => return format!("caps {pid}"),
        Command::Reboot => vec!["reboot"],
        Command::PowerOff => vec!["poweroff"],
        _ => vec!["shell"],
    };
    words.join(" ")
}
