//! What people see while they wait: lines in cargo's own style, and a spinner for work that prints nothing.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Says what happens next: a verb, and what it is done to.
pub fn say(verb: &str, text: &str) {
    line("1;32", verb, text);
}

/// Says what went wrong.
pub fn fail(text: &str) {
    line("1;31", "error", text);
}

/// Says what should be looked at some day.
pub fn warn(text: &str) {
    line("1;33", "warning", text);
}

fn line(colour: &str, verb: &str, text: &str) {
    if stderr().is_terminal() {
        eprintln!("\x1b[{colour}m{verb:>12}\x1b[0m {text}");
    } else {
        eprintln!("{verb:>12} {text}");
    }
}

/// Shows that something is going on until it is dropped; on a terminal as a spinner with the time, else as one line.
pub struct Spinner {
    bar: ProgressBar,
    started: Instant,
}

impl Spinner {
    /// Starts.
    pub fn new(verb: &str, text: &str) -> Self {
        let bar = if stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if bar.is_hidden() {
            say(verb, text);
        }
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12.green.bold} {msg} {spinner} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_prefix(verb.to_string());
        bar.set_message(text.to_string());
        bar.enable_steady_tick(Duration::from_millis(120));
        Spinner { bar, started: Instant::now() }
    }

    /// Says what it is at now; only a terminal shows it.
    pub fn tell(&self, text: &str) {
        self.bar.set_message(text.to_string());
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
