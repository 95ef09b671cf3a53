//! What README and book show of the shell must be what comes: their commands are typed, and every line that they show
//! must appear somewhere in the session, whatever its numbers are.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::scenarios::pid_of;
use super::{PROMPT, Session};

/// The pages that show the shell; both do so on the usual x86-64 machine.
pub const PAGES: [&str; 2] = ["README.md", "book/tour.md"];

/// A command and the lines shown below it.
type Shown = (String, Vec<String>);

/// Types what a page shows, in its order.
pub fn test(session: &mut Session, root: &Path, page: &str) -> Result<()> {
    let text = fs::read_to_string(root.join(page)).with_context(|| format!("cannot read {page}"))?;
    let commands = commands(&text);
    ensure!(!commands.is_empty(), "{page} shows no commands");
    for (command, _) in &commands {
        match command.as_str() {
            "" | "poweroff" => continue,
            // The process has another number, and another command said which.
            command if command.starts_with("kill ") => kill(session, command, &commands)?,
            command => session.command(command)?,
        };
    }
    // A program in the background speaks when it likes: below another command than the page shows, or behind a prompt.
    let come: Vec<String> = session.guest.transcript().lines().map(without_numbers).collect();
    for (command, lines) in &commands {
        for line in lines {
            let wanted = without_numbers(line);
            let there = come.iter().any(|line| line.ends_with(&wanted));
            let report = || format!("{page} shows, below {command:?}, what did not come: {line}");
            ensure!(there, "{}", session.guest.report(&report()));
        }
    }
    Ok(())
}

/// Ends the process that the page means, by its name: the one that a line of the page gives this number.
fn kill(session: &mut Session, command: &str, commands: &[Shown]) -> Result<String> {
    let number = command.trim_start_matches("kill ");
    let row = |line: &&String| line.split_whitespace().next() == Some(number);
    let known = commands.iter().flat_map(|(_, lines)| lines).find(row);
    let name = known.and_then(|line| line.split_whitespace().last()).unwrap_or_default();
    let pid = pid_of(session, name)?;
    session.command(&format!("kill {pid}"))
}

/// The commands in the blocks of a page that show the shell.
fn commands(text: &str) -> Vec<Shown> {
    let mut commands: Vec<Shown> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("\n```").next().unwrap_or_default();
        if !block.lines().any(|line| line.starts_with(PROMPT.trim_end())) {
            continue;
        }
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            let command = line.strip_prefix(PROMPT.trim_end());
            // What is shown before the first prompt comes by itself.
            if command.is_some() || commands.is_empty() {
                commands.push((command.unwrap_or_default().trim().to_string(), Vec::new()));
            }
            if let (None, Some((_, lines))) = (command, commands.last_mut()) {
                lines.push(line.to_string());
            }
        }
    }
    commands
}

/// A line with every number and every run of blanks made the same, and without what erases the rest of a line.
fn without_numbers(line: &str) -> String {
    let mut shown = String::new();
    let line = line.replace("\x1b[K", " ");
    let words = line.split_whitespace().map(|word| {
        let mut kept = String::new();
        let hexadecimal = word.contains("0x");
        for char in word.chars() {
            let digit = char.is_ascii_digit() || char == '.' || hexadecimal && char.is_ascii_hexdigit();
            match (digit, kept.ends_with('#')) {
                (true, true) => {}
                (true, false) => kept.push('#'),
                (false, _) => kept.push(char),
            }
        }
        kept
    });
    for word in words {
        shown.push_str(&word);
        shown.push(' ');
    }
    shown.replace("#% ", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_blanks_do_not_matter_and_words_do() {
        assert_eq!(without_numbers("  1  200 0.046 s   256 KiB  uart"), without_numbers("12 3 1.2 s 1 KiB uart"));
        assert_eq!(without_numbers("at 0x3effff7d80, then"), without_numbers("at 0x40, then"));
        assert_ne!(without_numbers("crash: killed"), without_numbers("crash: done"));
    }

    #[test]
    fn commands_are_read_with_what_is_shown_below_them() {
        let page = "```console\n$ cargo\n```\n```console\nHi\n\nanos>\n```\n```console\nanos> ps\nA\n\nB\nanos> poweroff\n```\n";
        let expected = [("", "Hi"), ("", ""), ("ps", "A B"), ("poweroff", "")];
        let found = commands(page).into_iter().map(|(command, lines)| (command, lines.join(" ")));
        let found: Vec<_> = found.collect();
        let expected = expected.map(|(command, lines)| (command.to_string(), lines.to_string()));
        assert_eq!(found, expected);
    }
}
