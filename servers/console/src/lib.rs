//! Shares the serial line among programs: what the server does, without the line.
//!
//! [`Console`] takes requests and keys, and hands out answers and output. A request comes with a token, and its answer
//! goes out with it: so an answer can wait for keys.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use anos_interfaces::console::{CONTROLLER, INTERRUPT_KEY, Request};
use anos_interfaces::text::INLINE_BYTES;
use anos_interfaces::{Badge, Bytes, Message, Refusal};

/// Bytes of one message that are collected before it is shown in parts, at line ends if it has any.
const MESSAGE_BYTES: usize = 1024;
/// Keys that wait for somebody to read them. More are lost, as on any terminal.
const INPUT_BYTES: usize = 4096;
/// Says that keys are lost.
const BELL: u8 = 0x07;
/// Programs with half a message, and programs that wait for keys. Some may be gone without a word: when there are
/// more, the oldest make room.
const MOST_CLIENTS: usize = 32;

/// An answer, and the token of the request it is for.
pub type Answer<T> = (T, Message);

/// The console.
pub struct Console<T> {
    /// The process that gets the keys.
    foreground: u32,
    /// The process that said so last; 0 for none.
    controller: u32,
    /// Keys that nobody has read yet.
    input: VecDeque<u8>,
    /// Who waits for keys.
    readers: VecDeque<(u32, T)>,
    /// Who waits for the interrupt key.
    watcher: Option<T>,
    /// A process that was interrupted before the controller asked.
    interrupted: Option<u32>,
    /// Half messages, by process.
    halves: VecDeque<(u32, Vec<u8>)>,
    /// What goes down the line.
    output: Vec<u8>,
    /// Whether the last line that was shown has no end yet.
    open_line: bool,
    answers: Vec<Answer<T>>,
}

impl<T> Default for Console<T> {
    fn default() -> Self {
        Console {
            foreground: 0,
            controller: 0,
            input: VecDeque::new(),
            readers: VecDeque::new(),
            watcher: None,
            interrupted: None,
            halves: VecDeque::new(),
            output: Vec::new(),
            open_line: false,
            answers: Vec::new(),
        }
    }
}

impl<T> Console<T> {
    /// The answers that have become due.
    pub fn take_answers(&mut self) -> Vec<Answer<T>> {
        core::mem::take(&mut self.answers)
    }

    /// What is to go down the line.
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// Takes a request.
    pub fn request(&mut self, message: &Message, sender: Badge, token: T) {
        match Request::try_from(message) {
            Ok(Request::Write { bytes, more }) => {
                self.write(sender.pid, bytes.as_slice(), more);
                self.answers.push((token, Message::OK));
            }
            Ok(Request::Read) => self.read(sender.pid, token),
            Ok(Request::Foreground { .. } | Request::Interrupted) if sender.role != CONTROLLER => {
                self.answers.push((token, Message::refusal(Refusal::NotPermitted)));
            }
            Ok(Request::Foreground { pid }) => {
                self.foreground = pid;
                self.controller = sender.pid;
                // Whoever takes over writes on a line of its own.
                if pid == sender.pid && self.open_line {
                    self.show(b"\n");
                }
                self.answers.push((token, Message::OK));
                // The program may have been interrupted before it was said to be in the foreground.
                if let Some(at) = self.input.iter().position(|&key| key == INTERRUPT_KEY)
                    && pid != sender.pid
                {
                    let later = self.input.split_off(at + 1);
                    self.interrupt();
                    self.input = later;
                }
                self.satisfy_reader();
            }
            Ok(Request::Interrupted) => match (self.interrupted.take(), &self.watcher) {
                (Some(pid), _) => self.answers.push((token, Message::answer(&[pid.into()]))),
                // The controller may have been started anew: who asked last is told.
                (None, _) => {
                    if let Some(earlier) = self.watcher.replace(token) {
                        self.answers.push((earlier, Message::refusal(Refusal::AlreadyReading)));
                    }
                }
            },
            Err(error) => self.answers.push((token, Message::refusal(error))),
        }
    }

    /// Takes keys from the line.
    pub fn keys(&mut self, keys: &[u8]) {
        for &key in keys {
            if key == INTERRUPT_KEY && self.foreground != self.controller {
                self.interrupt();
            } else if self.input.len() < INPUT_BYTES {
                self.input.push_back(key);
            } else {
                self.output.push(BELL);
            }
        }
        self.satisfy_reader();
    }

    /// The interrupt key was pressed for the program in the foreground. What was typed before it, was for that one.
    fn interrupt(&mut self) {
        self.input.clear();
        self.show(b"^C\n");
        match self.watcher.take() {
            Some(token) => self.answers.push((token, Message::answer(&[self.foreground.into()]))),
            None => self.interrupted = Some(self.foreground),
        }
    }

    fn read(&mut self, pid: u32, token: T) {
        if self.readers.iter().any(|(reader, _)| *reader == pid) {
            self.answers.push((token, Message::refusal(Refusal::AlreadyReading)));
            return;
        }
        if self.readers.len() >= MOST_CLIENTS
            && let Some((_, oldest)) = self.readers.pop_front()
        {
            self.answers.push((oldest, Message::refusal(Refusal::TooMany)));
        }
        self.readers.push_back((pid, token));
        self.satisfy_reader();
    }

    /// Gives the program in the foreground its keys, if it waits for any.
    fn satisfy_reader(&mut self) {
        if self.input.is_empty() {
            return;
        }
        let Some(place) = self.readers.iter().position(|(reader, _)| *reader == self.foreground) else { return };
        let Some((_, token)) = self.readers.remove(place) else { return };
        let count = self.input.len().min(INLINE_BYTES);
        let piece: Vec<u8> = self.input.drain(..count).collect();
        self.answers.push((token, Message { label: 0, words: Bytes::take(&piece).0.words() }));
    }

    /// Adds to a program's message, and shows it once it is whole.
    fn write(&mut self, pid: u32, bytes: &[u8], more: bool) {
        let place = self.halves.iter().position(|(writer, _)| *writer == pid);
        let mut text = place.and_then(|place| self.halves.remove(place)).map(|(_, text)| text).unwrap_or_default();
        text.extend_from_slice(bytes);
        if !more {
            self.show(&text);
            return;
        }
        if text.len() >= MESSAGE_BYTES {
            let shown = text.iter().rposition(|&byte| byte == b'\n').map_or(text.len(), |end| end + 1);
            let rest = text.split_off(shown);
            self.show(&text);
            text = rest;
        }
        if self.halves.len() >= MOST_CLIENTS
            && let Some((_, oldest)) = self.halves.pop_front()
        {
            self.show(&oldest);
        }
        self.halves.push_back((pid, text));
    }

    /// Puts text on the line. A terminal wants CR LF where programs write LF.
    fn show(&mut self, text: &[u8]) {
        for &byte in text {
            if byte == b'\n' && self.output.last() != Some(&b'\r') {
                self.output.push(b'\r');
            }
            self.output.push(byte);
            self.open_line = byte != b'\n';
        }
    }
}

#[cfg(test)]
mod tests;
