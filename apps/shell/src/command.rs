//! Reading a command from a line.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Lists the commands.
    Help,
    /// Lists processes and threads.
    Processes,
    /// Says where memory is.
    Memory,
    /// Lists what a process holds.
    Capabilities(u32),
    /// Starts a program.
    Run(Run),
    /// Ends a process.
    Kill(u32),
    /// Says how long the system runs.
    Uptime,
    /// Says what the cores do.
    Cores,
    /// Shows the kernel's counters.
    Counters,
    /// Lists the programs.
    Programs,
    /// Prints its arguments.
    Echo(String),
    /// Clears the screen.
    Clear,
    /// Does a command several times.
    Repeat(u32, Vec<String>),
    /// Starts the machine again.
    Reboot,
    /// Switches the machine off.
    PowerOff,
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether the shell goes on meanwhile.
    pub background: bool,
}

/// Name, arguments, and what it does, of every command.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("help", "", "lists the commands"),
    ("ps", "", "lists processes and threads: priority, core, state, CPU time, memory"),
    ("mem", "", "says where memory is"),
    ("caps", "PID", "lists the capabilities that a process holds"),
    ("run", "PROGRAM [ARGUMENT...] [&]", "starts a program; with '&' in the background"),
    ("kill", "PID", "ends a process (Ctrl-C ends the one in the foreground)"),
    ("programs", "", "lists the programs (also: ls)"),
    ("uptime", "", "says how long the system has been running"),
    ("cores", "", "says what the cores do"),
    ("counters", "", "shows the kernel's counters"),
    ("echo", "[TEXT...]", "prints its arguments"),
    ("clear", "", "clears the screen"),
    ("repeat", "COUNT COMMAND", "does a command several times"),
    ("reboot", "", "starts the machine again"),
    ("poweroff", "", "switches the machine off"),
];

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// There is no such command.
    Unknown(String),
    /// Arguments are missing, or too many: how the command is used.
    Usage(&'static str),
    /// An argument should be a number.
    Number {
        /// The command.
        command: &'static str,
        /// What the number is of.
        expected: &'static str,
        /// What was found instead.
        found: String,
    },
    /// A quotation mark has no partner.
    Unclosed(char),
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mistake::Unknown(name) => write!(formatter, "unknown command '{name}'; 'help' lists the commands"),
            Mistake::Usage(name) => {
                let arguments = COMMANDS.iter().find(|(command, ..)| command == name).map_or("", |found| found.1);
                if arguments.is_empty() {
                    write!(formatter, "{name}: takes no arguments")
                } else {
                    write!(formatter, "{name}: expected: {name} {arguments}")
                }
            }
            Mistake::Number { command, expected, found } => {
                write!(formatter, "{command}: expected {expected}, found '{found}'")
            }
            Mistake::Unclosed(mark) => write!(formatter, "no closing {mark}"),
        }
    }
}

/// Splits a line into words at blanks. Between quotation marks (either kind) blanks are part of the word.
pub fn words(line: &str) -> Result<Vec<String>, Mistake> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(mark), _) if character == mark => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(mark) = quote {
        return Err(Mistake::Unclosed(mark));
    }
    words.extend(word);
    Ok(words)
}

/// The command that a line means; `None` if the line is empty.
pub fn parse(line: &str) -> Result<Option<Command>, Mistake> {
    from_words(&words(line)?)
}

/// The command that words mean; `None` if there are none.
pub fn from_words(words: &[String]) -> Result<Option<Command>, Mistake> {
    let Some((name, arguments)) = words.split_first() else { return Ok(None) };
    let name = if name == "ls" { "programs" } else { name };
    let Some(&(name, ..)) = COMMANDS.iter().find(|(command, ..)| *command == name) else {
        return Err(Mistake::Unknown(String::from(name)));
    };
    let alone = |command| if arguments.is_empty() { Ok(command) } else { Err(Mistake::Usage(name)) };
    let command = match name {
        "ps" => alone(Command::Processes)?,
        "mem" => alone(Command::Memory)?,
        "caps" => Command::Capabilities(pid(name, arguments)?),
        "run" => Command::Run(run(arguments)?),
        "kill" => Command::Kill(pid(name, arguments)?),
        "programs" => alone(Command::Programs)?,
        "uptime" => alone(Command::Uptime)?,
        "cores" => alone(Command::Cores)?,
        "counters" => alone(Command::Counters)?,
        "echo" => Command::Echo(arguments.join(" ")),
        "clear" => alone(Command::Clear)?,
        "repeat" => repeat(arguments)?,
        "reboot" => alone(Command::Reboot)?,
        "poweroff" => alone(Command::PowerOff)?,
        _ => alone(Command::Help)?,
    };
    Ok(Some(command))
}

/// The one argument, a process number.
fn pid(command: &'static str, arguments: &[String]) -> Result<u32, Mistake> {
    let [argument] = arguments else { return Err(Mistake::Usage(command)) };
    number(command, "a process number ('ps' lists them)", argument)
}

fn number(command: &'static str, expected: &'static str, argument: &str) -> Result<u32, Mistake> {
    argument.parse().map_err(|_| Mistake::Number { command, expected, found: String::from(argument) })
}

fn run(arguments: &[String]) -> Result<Run, Mistake> {
    let (arguments, background) = match arguments.split_last() {
        Some((last, rest)) if last == "&" => (rest, true),
        _ => (arguments, false),
    };
    let (program, arguments) = arguments.split_first().ok_or(Mistake::Usage("run"))?;
    Ok(Run { program: program.clone(), arguments: arguments.to_vec(), background })
}

/// The command to repeat is checked here, so that a mistake shows once.
fn repeat(arguments: &[String]) -> Result<Command, Mistake> {
    let (count, command) = arguments.split_first().ok_or(Mistake::Usage("repeat"))?;
    let count = number("repeat", "how many times", count)?;
    match from_words(command)? {
        // Repetitions of repetitions would need bounds of their own.
        None | Some(Command::Repeat(..)) => Err(Mistake::Usage("repeat")),
        Some(_) => Ok(Command::Repeat(count, command.to_vec())),
    }
}

/// What the last word of a line could become: a command, or, behind one that takes programs, a program.
pub fn complete(before: &str, programs: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let mut words: Vec<&str> = before.split(' ').filter(|word| !word.is_empty()).collect();
    let word = if before.ends_with(' ') { "" } else { words.pop().unwrap_or_default() };
    // Behind `repeat COUNT`, it starts anew.
    let rest = match words.as_slice() {
        ["repeat", _, rest @ ..] => rest,
        other => other,
    };
    match rest {
        [] => COMMANDS.iter().map(|(name, ..)| String::from(*name)).filter(|name| name.starts_with(word)).collect(),
        ["run"] => programs().into_iter().filter(|name| name.starts_with(word)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
