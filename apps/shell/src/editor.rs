//! Editing a line on a terminal: bytes in, text to show out.
//!
//! The editor knows the common keys and escape sequences (ECMA-48, as xterm sends them) and assumes a terminal of
//! [`COLUMNS`] columns; a longer line scrolls sideways. Every character counts as one column.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// Columns that prompt and line may take.
pub const COLUMNS: usize = 79;
/// Characters in a line.
const MOST_CHARACTERS: usize = 1000;
/// Lines that are remembered.
const HISTORY: usize = 50;

/// What a key led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The line is still being edited.
    Editing,
    /// The line is done.
    Line(String),
    /// Ctrl-C: the line is thrown away.
    Interrupted,
    /// Ctrl-D on an empty line.
    End,
}

/// Where an escape sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    /// ESC came.
    Started,
    /// ESC `[` and this number came.
    Sequence(u32),
    /// The same, and `;` or another byte that says more about the key: what counts is the number.
    Modified(u32),
    /// ESC `O` came.
    Single,
    /// ESC `[` `[` came: a function key of a Linux console, which one more byte tells.
    Function,
}

/// A key, however the terminal spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Left,
    Right,
    Home,
    End,
    Up,
    Down,
    Delete,
}

/// The editor: the line, and what came before it.
#[derive(Debug)]
pub struct Editor {
    prompt: String,
    line: Vec<char>,
    /// Characters before the cursor.
    cursor: usize,
    history: VecDeque<String>,
    /// The remembered line that is shown, counted from the newest; `None`: the line being typed.
    recalled: Option<usize>,
    /// The line being typed, while a remembered one is shown.
    typed: Vec<char>,
    escape: Escape,
    /// The bytes of a character that is not whole yet.
    partial: Vec<u8>,
    /// The last byte was CR: an LF right behind it is the same key.
    after_return: bool,
}

impl Editor {
    /// An empty line behind a prompt.
    pub fn new(prompt: &str) -> Self {
        Editor {
            prompt: String::from(prompt),
            line: Vec::new(),
            cursor: 0,
            history: VecDeque::new(),
            recalled: None,
            typed: Vec::new(),
            escape: Escape::None,
            partial: Vec::new(),
            after_return: false,
        }
    }

    /// Shows the prompt and the line afresh, at the left edge.
    pub fn show(&self, out: &mut String) {
        let room = COLUMNS.saturating_sub(self.prompt.chars().count()).max(2);
        // The window onto a long line ends at the cursor.
        let start = (self.cursor + 1).saturating_sub(room);
        let end = self.line.len().min(start + room - 1);
        out.push('\r');
        out.push_str(&self.prompt);
        out.extend(self.line.get(start..end).unwrap_or_default());
        out.push_str("\x1b[K");
        match end - self.cursor {
            0 => {}
            // Writing to a string can't fail.
            back => drop(write!(out, "\x1b[{back}D")),
        }
    }

    /// Takes one byte from the terminal. `complete` is given the text before the cursor and says what its last word
    /// could become.
    pub fn byte(&mut self, byte: u8, complete: impl FnOnce(&str) -> Vec<String>, out: &mut String) -> Outcome {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        if self.escape != Escape::None {
            // A control key in the middle of a sequence ends it, and means what it always means.
            if byte >= 0x20 {
                if let Some(key) = self.escape(byte) {
                    self.key(key);
                    self.show(out);
                }
                return Outcome::Editing;
            }
            self.escape = Escape::None;
        }
        match byte {
            b'\n' if after_return => {}
            b'\r' | b'\n' => return self.finish(out),
            0x03 => {
                self.clear();
                out.push_str("^C\n");
                return Outcome::Interrupted;
            }
            0x04 if self.line.is_empty() => {
                out.push('\n');
                return Outcome::End;
            }
            0x0c => {
                out.push_str("\x1b[H\x1b[2J");
                self.show(out);
            }
            b'\t' => self.complete(complete, out),
            0x1b => self.escape = Escape::Started,
            0x00..0x20 | 0x7f => {
                if self.control(byte) {
                    self.show(out);
                }
            }
            _ => self.character(byte, out),
        }
        Outcome::Editing
    }

    /// The line is done.
    fn finish(&mut self, out: &mut String) -> Outcome {
        if self.cursor != self.line.len() {
            self.cursor = self.line.len();
            self.show(out);
        }
        out.push('\n');
        let line: String = self.line.iter().collect();
        self.clear();
        if !line.trim().is_empty() && self.history.front() != Some(&line) {
            self.history.push_front(line.clone());
            self.history.truncate(HISTORY);
        }
        Outcome::Line(line)
    }

    fn clear(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.recalled = None;
        self.partial.clear();
    }

    /// The next byte of an escape sequence; the key, once it is known.
    fn escape(&mut self, byte: u8) -> Option<Key> {
        let state = core::mem::replace(&mut self.escape, Escape::None);
        match (state, byte) {
            (Escape::Started, b'[') => self.escape = Escape::Sequence(0),
            (Escape::Started, b'O') => self.escape = Escape::Single,
            (Escape::Sequence(0), b'[') => self.escape = Escape::Function,
            (Escape::Sequence(number), b'0'..=b'9') => {
                let number = number.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
                self.escape = Escape::Sequence(number);
            }
            // A key with a modifier is the plain key.
            (Escape::Sequence(number) | Escape::Modified(number), 0x20..=0x3f) => {
                self.escape = Escape::Modified(number);
            }
            (Escape::Sequence(number) | Escape::Modified(number), b'~') => {
                return match number {
                    1 | 7 => Some(Key::Home),
                    3 => Some(Key::Delete),
                    4 | 8 => Some(Key::End),
                    _ => None,
                };
            }
            (Escape::Sequence(_) | Escape::Modified(_) | Escape::Single, final_byte) => {
                return match final_byte {
                    b'A' => Some(Key::Up),
                    b'B' => Some(Key::Down),
                    b'C' => Some(Key::Right),
                    b'D' => Some(Key::Left),
                    b'H' => Some(Key::Home),
                    b'F' => Some(Key::End),
                    _ => None,
                };
            }
            (Escape::None | Escape::Started | Escape::Function, _) => {}
        }
        None
    }

    fn key(&mut self, key: Key) {
        match key {
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = self.line.len().min(self.cursor + 1),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.line.len(),
            Key::Up => self.recall(self.recalled.map_or(0, |shown| shown + 1)),
            Key::Down => match self.recalled {
                None => {}
                Some(0) => {
                    self.recalled = None;
                    self.line = core::mem::take(&mut self.typed);
                    self.cursor = self.line.len();
                }
                Some(shown) => self.recall(shown - 1),
            },
            Key::Delete => self.remove(self.cursor, self.cursor + 1),
        }
    }

    /// A control key. False if it means nothing.
    fn control(&mut self, byte: u8) -> bool {
        match byte {
            0x01 => self.key(Key::Home),
            0x02 => self.key(Key::Left),
            0x04 => self.key(Key::Delete),
            0x05 => self.key(Key::End),
            0x06 => self.key(Key::Right),
            0x08 | 0x7f => self.remove(self.cursor.saturating_sub(1), self.cursor),
            0x0b => self.remove(self.cursor, self.line.len()),
            0x0e => self.key(Key::Down),
            0x10 => self.key(Key::Up),
            0x15 => self.remove(0, self.cursor),
            0x17 => self.remove(self.word_start(), self.cursor),
            _ => return false,
        }
        true
    }

    /// Where the word before the cursor starts.
    fn word_start(&self) -> usize {
        let before = self.line.get(..self.cursor).unwrap_or_default();
        let end = before.iter().rposition(|&character| character != ' ').map_or(0, |last| last + 1);
        let word = before.get(..end).unwrap_or_default();
        word.iter().rposition(|&character| character == ' ').map_or(0, |space| space + 1)
    }

    /// Removes characters, and leaves the cursor where they were.
    fn remove(&mut self, from: usize, to: usize) {
        let to = to.min(self.line.len());
        if from < to {
            self.line.drain(from..to);
            self.cursor = from;
        }
    }

    /// Shows a remembered line, if there is one so far back.
    fn recall(&mut self, back: usize) {
        let Some(line) = self.history.get(back) else { return };
        let line = line.chars().collect();
        let shown = core::mem::replace(&mut self.line, line);
        if self.recalled.is_none() {
            self.typed = shown;
        }
        self.recalled = Some(back);
        self.cursor = self.line.len();
    }

    /// A byte of a character. Bytes that are no UTF-8 are dropped, and so are control characters.
    fn character(&mut self, byte: u8, out: &mut String) {
        self.partial.push(byte);
        match core::str::from_utf8(&self.partial) {
            Ok(text) => {
                let character = text.chars().next().filter(|character| !character.is_control());
                self.partial.clear();
                if let Some(character) = character {
                    self.insert(character, out);
                }
            }
            // More bytes may make it whole.
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                let alone = self.partial.len() == 1;
                self.partial.clear();
                // What can't follow the bytes before it may start another character.
                if !alone {
                    self.character(byte, out);
                }
            }
        }
    }

    fn insert(&mut self, character: char, out: &mut String) {
        if self.line.len() >= MOST_CHARACTERS {
            out.push('\x07');
            return;
        }
        self.line.insert(self.cursor, character);
        self.cursor += 1;
        let at_end = self.cursor == self.line.len();
        if at_end && self.prompt.chars().count() + self.line.len() < COLUMNS {
            out.push(character);
        } else {
            self.show(out);
        }
    }

    /// Completes the last word before the cursor as far as it is clear; if it can't, shows the choices.
    fn complete(&mut self, complete: impl FnOnce(&str) -> Vec<String>, out: &mut String) {
        let before: String = self.line.iter().take(self.cursor).collect();
        let word = before.rsplit(' ').next().unwrap_or_default();
        let choices = complete(&before);
        let common = common_prefix(&choices);
        let added = common.strip_prefix(word).unwrap_or_default();
        let done = choices.len() == 1;
        if added.is_empty() && !done {
            if choices.is_empty() {
                out.push('\x07');
            } else {
                out.push('\n');
                out.push_str(&choices.join("  "));
                out.push('\n');
                self.show(out);
            }
            return;
        }
        for character in added.chars().chain(done.then_some(' ')) {
            self.insert(character, out);
        }
    }
}

/// What all words start with.
fn common_prefix(words: &[String]) -> &str {
    let Some((first, rest)) = words.split_first() else { return "" };
    let mut end = first.len();
    for word in rest {
        let same = first.char_indices().zip(word.chars()).find(|((_, a), b)| a != b);
        end = end.min(same.map_or(word.len(), |((index, _), _)| index));
    }
    first.get(..end).unwrap_or_default()
}

#[cfg(test)]
#[path = "editor_tests.rs"]
mod tests;
