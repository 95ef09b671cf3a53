//! A guest under test: QEMU on a pseudo-terminal, everything it said, and a way to type.
//!
//! The terminal is a real one (a pty), so what is tested is what a person would see. Whoever waits for a text that
//! doesn't come gets the whole transcript and the command that repeats the run.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::qemu::{self, Parting};
use crate::symbols::{BacktraceFilter, Symbols};

/// How long a guest may take to end once it was told to.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// A terminal's own line noise: not worth a new look at the whole transcript.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A running guest.
pub struct Guest {
    child: Child,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    filter: BacktraceFilter,
    transcript: String,
    /// What `expect` has looked at already.
    read_up_to: usize,
    started: Instant,
    /// How to repeat this run by hand.
    repeat: String,
}

impl Guest {
    /// Starts a command on a terminal of its own.
    pub fn start(command: Command, symbols: Option<Symbols>, repeat: &str) -> Result<Self> {
        let repeat = if repeat.is_empty() { qemu::shown(&command) } else { repeat.to_string() };
        let mut command = qemu::ends_with_us(command, Parting::Kill);
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("cannot open a pseudo-terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let terminal = File::from(rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?);
        // No echo, no line discipline: bytes as they are, both ways.
        let mut settings = tcgetattr(&terminal)?;
        settings.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &settings)?;
        let child = command
            .stdin(Stdio::from(terminal.try_clone()?))
            .stdout(Stdio::from(terminal.try_clone()?))
            .stderr(Stdio::from(terminal))
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        // The command holds the other end; it must close with the child.
        drop(command);
        let keyboard = File::from(master);
        let output = follow(keyboard.try_clone()?);
        Ok(Guest {
            child,
            keyboard,
            output,
            filter: BacktraceFilter::new(symbols),
            transcript: String::new(),
            read_up_to: 0,
            started: Instant::now(),
            repeat,
        })
    }

    /// Types.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.keyboard.write_all(text.as_bytes()).map_err(|error| anyhow!("cannot type {text:?}: {error}"))
    }

    /// Types a line and presses Enter.
    pub fn send_line(&mut self, line: &str) -> Result<()> {
        self.send(&format!("{line}\r"))
    }

    /// Waits for a text to appear after what was read so far; returns what came before it.
    pub fn expect(&mut self, text: &str, patience: Duration) -> Result<String> {
        let (_, before) = self.expect_any(&[text], patience)?;
        Ok(before)
    }

    /// Waits for the first of several texts; returns which, and what came before it.
    pub fn expect_any(&mut self, texts: &[&str], patience: Duration) -> Result<(usize, String)> {
        let deadline = Instant::now() + patience;
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let mut from = self.read_up_to;
        loop {
            if let Some(found) = self.look_for(texts, from) {
                return Ok(found);
            }
            // What was looked at may end with the beginning of a text.
            let looked_at = self.transcript.len().saturating_sub(longest);
            from = self.transcript.floor_char_boundary(looked_at).max(from);
            let left = deadline.saturating_duration_since(Instant::now());
            // A guest that never stops speaking must not be listened to for ever: there is always more to hear.
            let heard = if left.is_zero() { Err(RecvTimeoutError::Timeout) } else { self.output.recv_timeout(left) };
            match heard {
                Ok(bytes) => self.hear(&bytes),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{}", self.report(&format!("waited {} s for {}", patience.as_secs(), quoted(texts))))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{}", self.report(&format!("QEMU ended before the guest said {}", quoted(texts))))
                }
            }
        }
    }

    /// Waits for enough to tell whether a text comes next, and says so. It stays unread.
    pub fn continues_with(&mut self, text: &str, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let unread = &self.transcript[self.read_up_to..];
            let unread = unread.trim_start_matches('\r');
            if unread.len() >= text.len() || !text.starts_with(unread) {
                return Ok(unread.starts_with(text));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.hear(&bytes),
                Err(_) => bail!("{}", self.report(&format!("waited {} s for {text:?}", patience.as_secs()))),
            }
        }
    }

    /// Waits until QEMU ends by itself, with success.
    pub fn expect_end(&mut self) -> Result<()> {
        let status = self.wait_for_end(END_PATIENCE)?;
        if status.success() { Ok(()) } else { bail!("{}", self.report(&format!("QEMU ended with {status}"))) }
    }

    /// Waits until the command ends, whatever its status.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                while let Ok(bytes) = self.output.recv_timeout(LOOK_AGAIN) {
                    self.hear(&bytes);
                }
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{}", self.report(&format!("QEMU was still running after {} s", patience.as_secs())));
            }
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.hear(&bytes);
            }
        }
    }

    /// Everything the guest said so far.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// An error's text: what happened, everything the guest said, and how to see it again.
    pub fn report(&self, what: &str) -> String {
        let mut text = format!("{what} (after {:.1} s)\n", self.started.elapsed().as_secs_f64());
        for line in self.transcript.lines() {
            // Writing to a string can't fail.
            let _ = writeln!(text, "    | {}", readable(line.trim_end_matches('\r')));
        }
        let _ = write!(text, "    repeat with: {}", self.repeat);
        text
    }

    fn hear(&mut self, bytes: &[u8]) {
        let shown = self.filter.pass(bytes);
        self.transcript.push_str(&String::from_utf8_lossy(&shown));
    }

    /// Looks for the first of several texts in what is unread, from a place on.
    fn look_for(&mut self, texts: &[&str], from: usize) -> Option<(usize, String)> {
        let unseen = &self.transcript[from..];
        let found = texts.iter().enumerate().filter_map(|(which, text)| Some((unseen.find(text)?, which)));
        let (at, which) = found.min()?;
        let before = self.transcript[self.read_up_to..from + at].to_string();
        self.read_up_to = from + at + texts[which].len();
        Some((which, before))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill, and `wait` answers at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a terminal to its end in a thread, so that waiting can have a limit.
fn follow(mut terminal: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        // A pty answers with an error when its other end is closed.
        while let Ok(count) = terminal.read(&mut buffer) {
            if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A line without colours, and with other control characters spelled out.
fn readable(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\x1b') {
        shown.extend(rest[..at].chars().flat_map(spelled_out));
        let sequence = &rest[at..];
        let end = sequence.find(|char: char| char.is_ascii_alphabetic()).unwrap_or(0);
        let is_colour = sequence[end..].starts_with('m');
        if !is_colour {
            shown.push_str("\\e");
        }
        rest = &sequence[if is_colour { end + 1 } else { 1 }..];
    }
    shown.extend(rest.chars().flat_map(spelled_out));
    shown
}

fn spelled_out(char: char) -> Box<dyn Iterator<Item = char>> {
    if char.is_control() { Box::new(char.escape_default()) } else { Box::new(std::iter::once(char)) }
}

fn quoted(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine may be busy with something else.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Guest {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Guest::start(command, None, "").expect("sh starts")
    }

    #[test]
    fn what_is_typed_arrives_and_what_is_said_is_read_in_order() {
        let mut guest = shell("printf 'ready\\n'; IFS= read -r line; printf 'got <%s> then\\n' \"$line\"");
        assert_eq!(guest.expect("ready", PATIENCE).expect("ready"), "");
        guest.send("a b\n").expect("typed");
        assert_eq!(guest.expect("then", PATIENCE).expect("answered"), "\ngot <a b> ");
        assert!(guest.expect_end().is_ok());
    }

    #[test]
    fn a_text_that_does_not_come_is_reported_with_the_transcript() {
        let mut guest = shell("echo something else; exec sleep 60");
        guest.expect("else", PATIENCE).expect("said");
        let error = guest.expect("ready", Duration::from_secs(1)).expect_err("never said").to_string();
        assert!(error.contains("waited 1 s for \"ready\"") && error.contains("| something else"), "{error}");
    }

    #[test]
    fn a_guest_that_never_stops_speaking_is_not_listened_to_for_ever() {
        let mut guest = shell("while :; do echo again; done");
        guest.expect("again", PATIENCE).expect("said");
        let error = guest.expect("ready", Duration::from_millis(200)).expect_err("never said").to_string();
        assert!(error.contains("for \"ready\""), "{error}");
    }

    #[test]
    fn a_text_that_comes_in_pieces_is_found() {
        let mut guest = shell("printf 'a re'; read -r line; printf 'ad'; read -r line; printf 'y b\\n'");
        guest.expect("a", PATIENCE).expect("said");
        for key in ["1\n", "2\n"] {
            assert!(guest.expect("ready", Duration::from_millis(50)).is_err());
            guest.send(key).expect("typed");
        }
        assert_eq!(guest.expect("ready", PATIENCE).expect("said"), " ");
    }

    #[test]
    fn transcripts_show_control_characters_but_no_colours() {
        assert_eq!(readable("\x1b[1;32mok\x1b[0m\x07 \x1b[Kx \"q\""), "ok\\u{7} \\e[Kx \"q\"");
    }

    #[test]
    fn an_early_end_and_a_bad_status_are_told_apart() {
        let mut early = shell("echo bye");
        assert!(early.expect("ready", PATIENCE).expect_err("never said").to_string().contains("ended before"));
        let mut bad = shell("exit 3");
        assert!(bad.expect_end().expect_err("failed").to_string().contains("exit status: 3"));
    }
}
