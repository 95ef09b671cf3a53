//! What the root server knows of processes, those that run and those that have ended.

use alloc::vec::Vec;

use anos_interfaces::process::End;
use anos_interfaces::start::{MAX_ARGUMENT_BYTES, slot};
use anos_interfaces::{Bytes, Name};

use crate::buddy::Block;
use crate::contexts::Context;
use crate::layout::{self, MAX_PROCESSES, MAX_THREADS, window};

/// Ends that are kept for whoever started the process.
pub const MAX_ENDS: usize = 64;

/// A capability that a process was given by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its name.
    pub name: Name,
    /// Its slot in the process's table.
    pub slot: u32,
    /// The service it calls, if it is one.
    pub service: Option<u16>,
}

/// A thread besides the first, as the root server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What `ps` shows.
    pub name: Name,
    /// The CPU time that it was given.
    pub context: Context,
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// Its number: never used twice.
    pub pid: u32,
    /// Its program's index in the manifest.
    pub program: usize,
    /// Who started it; 0 for the root server.
    pub parent: u32,
    /// All of its memory.
    pub block: Block,
    /// The CPU time of its first thread.
    pub context: Context,
    /// Its further threads, by their place in its window of slots.
    pub threads: [Option<Known>; MAX_THREADS],
    /// What the manifest gave it.
    pub given: Vec<Given>,
    /// Arguments for the next program that it runs.
    pub arguments: Arguments,
}

/// Arguments on their way, piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    bytes: [u8; MAX_ARGUMENT_BYTES],
    length: usize,
}

impl Arguments {
    /// None.
    pub const EMPTY: Arguments = Arguments { bytes: [0; MAX_ARGUMENT_BYTES], length: 0 };

    /// Puts in a piece. Pieces come in order; one at offset 0 starts afresh. False if it doesn't fit.
    pub fn put(&mut self, offset: usize, piece: &Bytes) -> bool {
        let piece = piece.as_slice();
        if offset != 0 && offset != self.length {
            return false;
        }
        let Some(place) = self.bytes.get_mut(offset..offset + piece.len()) else { return false };
        place.copy_from_slice(piece);
        self.length = offset + piece.len();
        true
    }

    /// The first bytes, if that many came, and if they end the last argument.
    pub fn take(&mut self, length: usize) -> Option<&[u8]> {
        let came = core::mem::take(&mut self.length);
        let bytes = self.bytes.get(..length).filter(|_| length == came)?;
        if bytes.last().is_none_or(|&last| last == 0) { Some(bytes) } else { None }
    }
}

/// The running processes, each at a place with a window of slots.
#[derive(Debug, Default)]
pub struct Processes {
    places: Vec<Option<Process>>,
}

impl Processes {
    /// None yet. This is the one time that the table takes memory.
    pub fn new() -> Self {
        let mut places = Vec::new();
        places.resize_with(MAX_PROCESSES, || None);
        Processes { places }
    }

    /// A place that is free.
    pub fn free_place(&self) -> Option<usize> {
        self.places.iter().position(Option::is_none)
    }

    /// Puts a process into its place.
    pub fn put(&mut self, place: usize, process: Process) {
        if let Some(empty) = self.places.get_mut(place) {
            *empty = Some(process);
        }
    }

    /// Takes a process out of its place.
    pub fn take(&mut self, place: usize) -> Option<Process> {
        self.places.get_mut(place)?.take()
    }

    /// Where the process with this number is.
    pub fn place_of(&self, pid: u32) -> Option<usize> {
        self.places.iter().position(|place| place.as_ref().is_some_and(|process| process.pid == pid))
    }

    /// The process at a place.
    pub fn get(&self, place: usize) -> Option<&Process> {
        self.places.get(place)?.as_ref()
    }

    /// The process at a place.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut Process> {
        self.places.get_mut(place)?.as_mut()
    }

    /// The running processes and their places.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Process)> {
        self.places.iter().enumerate().filter_map(|(place, process)| Some((place, process.as_ref()?)))
    }

    /// The process with the next greater number.
    pub fn after(&self, pid: u32) -> Option<(usize, &Process)> {
        self.iter().filter(|(_, process)| process.pid > pid).min_by_key(|(_, process)| process.pid)
    }

    /// Bytes that processes have.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|(_, process)| process.block.bytes()).sum()
    }
}

impl Process {
    /// What a slot of its table is called.
    pub fn name_of(&self, at: u32) -> Name {
        let fixed = match at {
            slot::CAP_TABLE => "own table",
            slot::ADDRESS_SPACE => "own address space",
            slot::THREAD => "first thread",
            slot::MEMORY => "memory",
            slot::SUPERVISOR => "supervisor",
            _ => return self.given.iter().find(|given| given.slot == at).map(|given| given.name).unwrap_or_default(),
        };
        Name::new(fixed).unwrap_or_default()
    }

    /// The slots of its threads in the root server's table, and their names; the first comes first.
    pub fn thread_slots(&self, place: usize) -> impl Iterator<Item = (u32, Name)> {
        let first = layout::process(place);
        let others = (first + window::THREADS..).zip(self.threads.iter());
        [(first + window::THREAD, Name::default())]
            .into_iter()
            .chain(others.filter_map(|(slot, thread)| Some((slot, thread.as_ref()?.name))))
    }

    /// The CPU time of all its threads.
    pub fn contexts(&self) -> impl Iterator<Item = Context> {
        [self.context].into_iter().chain(self.threads.iter().flatten().map(|thread| thread.context))
    }
}

/// How processes ended that nobody has asked for yet.
#[derive(Debug, Default)]
pub struct Ends {
    /// Oldest first.
    list: Vec<(u32, u32, End)>,
}

impl Ends {
    /// None yet. This is the one time that the list takes memory.
    pub fn new() -> Self {
        Ends { list: Vec::with_capacity(MAX_ENDS) }
    }

    /// Keeps an end for the process's parent. The oldest goes when there are too many.
    pub fn put(&mut self, pid: u32, parent: u32, end: End) {
        if self.list.len() >= MAX_ENDS {
            self.list.remove(0);
        }
        self.list.push((pid, parent, end));
    }

    /// The end of a process, for its parent.
    pub fn take(&mut self, pid: u32, parent: u32) -> Option<End> {
        let at = self.list.iter().position(|entry| (entry.0, entry.1) == (pid, parent))?;
        Some(self.list.remove(at).2)
    }

    /// Forgets what was kept for a process that has ended.
    pub fn forget(&mut self, parent: u32) {
        self.list.retain(|entry| entry.1 != parent);
    }
}

/// A request that waits for a process's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Who asked.
    pub by: u32,
    /// For whose end.
    pub pid: u32,
    /// The slot of the Reply that answers.
    pub reply: u32,
}
