//! What the root server does for programs.
//!
//! Every program reaches it through the capability in [`slot::SUPERVISOR`](crate::start::slot::SUPERVISOR), with its
//! process number as the badge: it may end itself and announce its threads. A program that the manifest lets manage
//! others has a second one, by the name [`PROCESSES`](crate::start::name::PROCESSES) and with the role [`MANAGER`]:
//! everything else asks for it, and is else refused with [`NotPermitted`](crate::Refusal::NotPermitted).
//!
//! Requests and answers are words; names are four words (see [`Name`]); lists are walked by index or by "the next
//! after this one", so that a list that changes meanwhile does no harm.

use anos_abi::fault::FaultKind;
use anos_abi::object::ThreadState;
use anos_abi::{Error, Kind, Rights};

use crate::text::INLINE_BYTES;
use crate::{Bytes, Message, Name};

/// The role (see [`Badge`](crate::Badge)) of a client that may manage processes.
pub const MANAGER: u32 = 1;
/// The exit code of a program that panicked.
pub const PANIC_CODE: u64 = 101;

/// The methods' numbers. What they carry is described at [`Request`].
pub mod method {
    /// See [`Request::Exit`](super::Request::Exit).
    pub const EXIT: u64 = 3 << 16 | 1;
    /// See [`Request::AddThread`](super::Request::AddThread).
    pub const ADD_THREAD: u64 = 3 << 16 | 2;
    /// See [`Request::NextProcess`](super::Request::NextProcess).
    pub const NEXT_PROCESS: u64 = 3 << 16 | 3;
    /// See [`Request::ThreadOf`](super::Request::ThreadOf).
    pub const THREAD_OF: u64 = 3 << 16 | 4;
    /// See [`Request::Memory`](super::Request::Memory).
    pub const MEMORY: u64 = 3 << 16 | 5;
    /// See [`Request::NextCapability`](super::Request::NextCapability).
    pub const NEXT_CAPABILITY: u64 = 3 << 16 | 6;
    /// See [`Request::Program`](super::Request::Program).
    pub const PROGRAM: u64 = 3 << 16 | 7;
    /// See [`Request::Arguments`](super::Request::Arguments).
    pub const ARGUMENTS: u64 = 3 << 16 | 8;
    /// See [`Request::Run`](super::Request::Run).
    pub const RUN: u64 = 3 << 16 | 9;
    /// See [`Request::Wait`](super::Request::Wait).
    pub const WAIT: u64 = 3 << 16 | 10;
    /// See [`Request::Kill`](super::Request::Kill).
    pub const KILL: u64 = 3 << 16 | 11;
    /// See [`Request::Core`](super::Request::Core).
    pub const CORE: u64 = 3 << 16 | 12;
    /// See [`Request::Counters`](super::Request::Counters).
    pub const COUNTERS: u64 = 3 << 16 | 13;
    /// See [`Request::Shutdown`](super::Request::Shutdown).
    pub const SHUTDOWN: u64 = 3 << 16 | 14;
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The sender ends. Words: exit code. There is no answer.
    Exit {
        /// 0 for success.
        code: u64,
    },
    /// The sender has made a thread. Passes the Thread, so that the root server can give it CPU time, and say what it
    /// does. Threads that were announced before and are stopped are forgotten, and their CPU time is taken back: start
    /// each before you announce the next. Words: the core it shall run on, or all ones for the one it is on; name.
    AddThread {
        /// Where it shall run. Only a core that the manifest lets the program use.
        core: Option<u32>,
        /// What `ps` shows.
        name: Name,
    },
    /// Answer: [`Process`], of the next greater number. Words: the number before it, 0 to begin.
    NextProcess {
        /// The process before it.
        after: u32,
    },
    /// Answer: [`Thread`]. Words: process; index.
    ThreadOf {
        /// Whose thread.
        pid: u32,
        /// Which: 0 is the first.
        index: u32,
    },
    /// Answer: [`Memory`].
    Memory,
    /// Answer: [`Capability`]: what lies in the next filled slot. Words: process; first slot to look at.
    NextCapability {
        /// Whose.
        pid: u32,
        /// First slot to look at.
        from: u32,
    },
    /// Answer: [`Program`]. Words: index.
    Program {
        /// Which: 0 is the first.
        index: u32,
    },
    /// A piece of the arguments for the sender's next [`Request::Run`]; each argument ends with a zero byte. A piece
    /// at offset 0 starts afresh. Words: [`Bytes`], the offset in the upper half of word 0.
    Arguments {
        /// Where the piece belongs.
        offset: u32,
        /// The piece.
        bytes: Bytes,
    },
    /// Starts a program; answer: its process number. Words: name; bytes of arguments that were sent before.
    Run {
        /// The program.
        name: Name,
        /// Bytes of its arguments, 0 for none.
        argument_bytes: u32,
    },
    /// Waits until a process that the sender started ends; answer: [`End`]. The end is kept until it was asked for,
    /// the sender is gone, or many more processes have ended. Words: process.
    Wait {
        /// The process.
        pid: u32,
    },
    /// Ends a process; answered when it is gone and its memory is back. Words: process.
    Kill {
        /// The process.
        pid: u32,
    },
    /// Answer: [`Core`]. Words: its number.
    Core {
        /// Which: 0 is the first.
        core: u32,
    },
    /// The kernel's counters; answer: as the kernel's `DebugCounters`, the sums over all cores.
    Counters,
    /// Ends everything. Words: 0 to power off, 1 to reboot. Answered only if the machine can't.
    Shutdown {
        /// To start again.
        reboot: bool,
    },
}

const SAME_CORE: u64 = u64::MAX;

impl Request {
    /// As a message.
    pub fn message(&self) -> Message {
        use method::*;
        match *self {
            Request::Exit { code } => Message::new(EXIT, &[code]),
            Request::AddThread { core, name } => {
                let [a, b, c, d] = name.words();
                Message::new(ADD_THREAD, &[core.map_or(SAME_CORE, u64::from), a, b, c, d])
            }
            Request::NextProcess { after } => Message::new(NEXT_PROCESS, &[after.into()]),
            Request::ThreadOf { pid, index } => Message::new(THREAD_OF, &[pid.into(), index.into()]),
            Request::Memory => Message::new(MEMORY, &[]),
            Request::NextCapability { pid, from } => Message::new(NEXT_CAPABILITY, &[pid.into(), from.into()]),
            Request::Program { index } => Message::new(PROGRAM, &[index.into()]),
            Request::Arguments { offset, bytes } => {
                let mut message = Message { label: ARGUMENTS, words: bytes.words() };
                message.words[0] |= u64::from(offset) << 32;
                message
            }
            Request::Run { name, argument_bytes } => {
                let [a, b, c, d] = name.words();
                Message::new(RUN, &[a, b, c, d, argument_bytes.into()])
            }
            Request::Wait { pid } => Message::new(WAIT, &[pid.into()]),
            Request::Kill { pid } => Message::new(KILL, &[pid.into()]),
            Request::Core { core } => Message::new(CORE, &[core.into()]),
            Request::Counters => Message::new(COUNTERS, &[]),
            Request::Shutdown { reboot } => Message::new(SHUTDOWN, &[reboot.into()]),
        }
    }

    /// Whether only a [`MANAGER`] may ask this.
    pub const fn is_for_managers(&self) -> bool {
        !matches!(self, Request::Exit { .. } | Request::AddThread { .. })
    }
}

/// A word that must fit in 32 bits.
fn half(word: u64) -> Result<u32, Error> {
    u32::try_from(word).map_err(|_| Error::InvalidArgument)
}

impl TryFrom<&Message> for Request {
    type Error = Error;

    fn try_from(message: &Message) -> Result<Self, Error> {
        use method::*;
        let [first, second, third, fourth, fifth, ..] = message.words;
        Ok(match message.label {
            EXIT => Request::Exit { code: first },
            ADD_THREAD => Request::AddThread {
                core: if first == SAME_CORE { None } else { Some(half(first)?) },
                name: Name::from_words(&[second, third, fourth, fifth]),
            },
            NEXT_PROCESS => Request::NextProcess { after: half(first)? },
            THREAD_OF => Request::ThreadOf { pid: half(first)?, index: half(second)? },
            MEMORY => Request::Memory,
            NEXT_CAPABILITY => Request::NextCapability { pid: half(first)?, from: half(second)? },
            PROGRAM => Request::Program { index: half(first)? },
            ARGUMENTS => Request::Arguments { offset: half(first >> 32)?, bytes: Bytes::from_words(&message.words) },
            RUN => {
                Request::Run { name: Name::from_words(&[first, second, third, fourth]), argument_bytes: half(fifth)? }
            }
            WAIT => Request::Wait { pid: half(first)? },
            KILL => Request::Kill { pid: half(first)? },
            CORE => Request::Core { core: half(first)? },
            COUNTERS => Request::Counters,
            SHUTDOWN => Request::Shutdown { reboot: first != 0 },
            _ => return Err(Error::InvalidMethod),
        })
    }
}

/// The arguments in pieces, as [`Request::Arguments`] carries them.
pub fn argument_pieces(bytes: &[u8]) -> impl Iterator<Item = Request> {
    bytes.chunks(INLINE_BYTES).zip((0u32..).step_by(INLINE_BYTES)).map(|(piece, offset)| {
        let (bytes, _) = Bytes::take(piece);
        Request::Arguments { offset, bytes }
    })
}

/// A process. Words: number; 0; threads; bytes of memory it was given; name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Threads known to the root server.
    pub threads: u32,
    /// Bytes of memory it was given, all included: program, stacks, tables, heap.
    pub memory_bytes: u64,
    /// The program's name.
    pub name: Name,
}

impl Process {
    /// As words.
    pub fn words(&self) -> [u64; 8] {
        let [a, b, c, d] = self.name.words();
        [self.pid.into(), 0, self.threads.into(), self.memory_bytes, a, b, c, d]
    }

    /// From words.
    pub fn from_words(words: &[u64; 8]) -> Result<Self, Error> {
        let [pid, _, threads, memory_bytes, name @ ..] = words;
        Ok(Process {
            pid: half(*pid)?,
            threads: half(*threads)?,
            memory_bytes: *memory_bytes,
            name: Name::from_words(name),
        })
    }
}

/// A thread. Words: state (bits 0 to 7), priority (8 to 15), core (32 to 63); CPU time in ns; program counter; stack
/// pointer; name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// What it is doing.
    pub state: ThreadState,
    /// Its priority: a greater one is more urgent.
    pub priority: u8,
    /// The core it runs on.
    pub core: u32,
    /// CPU time it has used, in ns.
    pub cpu_time_ns: u64,
    /// Where it is, as far as the kernel knows.
    pub program_counter: u64,
    /// Its stack pointer.
    pub stack_pointer: u64,
    /// Its name; empty for a program's first thread.
    pub name: Name,
}

impl Thread {
    /// As words.
    pub fn words(&self) -> [u64; 8] {
        let [a, b, c, d] = self.name.words();
        let first = self.state as u64 | u64::from(self.priority) << 8 | u64::from(self.core) << 32;
        [first, self.cpu_time_ns, self.program_counter, self.stack_pointer, a, b, c, d]
    }

    /// From words.
    pub fn from_words(words: &[u64; 8]) -> Result<Self, Error> {
        let [first, cpu_time_ns, program_counter, stack_pointer, name @ ..] = words;
        let [state, priority, ..] = first.to_le_bytes();
        Ok(Thread {
            state: ThreadState::from_number(state.into()),
            priority,
            core: half(first >> 32)?,
            cpu_time_ns: *cpu_time_ns,
            program_counter: *program_counter,
            stack_pointer: *stack_pointer,
            name: Name::from_words(name),
        })
    }
}

/// Memory, in bytes. Words in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All main memory.
    pub total: u64,
    /// What no process has.
    pub free: u64,
    /// What the kernel keeps: image, stacks, page records.
    pub kernel: u64,
    /// What the root server keeps: itself, its tables, the boot archive.
    pub system: u64,
    /// What processes were given.
    pub processes: u64,
}

impl Memory {
    /// As words.
    pub fn words(&self) -> [u64; 8] {
        [self.total, self.free, self.kernel, self.system, self.processes, 0, 0, 0]
    }

    /// From words.
    pub fn from_words(words: &[u64; 8]) -> Self {
        let [total, free, kernel, system, processes, ..] = *words;
        Memory { total, free, kernel, system, processes }
    }
}

/// A capability in a process's table. Words: slot (bits 0 to 31), kind (32 to 47), rights (48 to 55); badge; size as
/// the kernel tells it; 0; name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Where it lies.
    pub slot: u32,
    /// What it is to.
    pub kind: Kind,
    /// What it allows.
    pub rights: Rights,
    /// Its badge.
    pub badge: u64,
    /// Pages, slots, or 0, by its kind.
    pub size: u64,
    /// What the manifest calls it, or what the slot is for; may be empty.
    pub name: Name,
}

impl Capability {
    /// As words.
    pub fn words(&self) -> [u64; 8] {
        let [a, b, c, d] = self.name.words();
        let first = u64::from(self.slot) | (self.kind as u64) << 32 | u64::from(self.rights.0) << 48;
        [first, self.badge, self.size, 0, a, b, c, d]
    }

    /// From words.
    pub fn from_words(words: &[u64; 8]) -> Result<Self, Error> {
        let [first, badge, size, _, name @ ..] = words;
        let [_, _, _, _, kind_low, kind_high, rights, _] = first.to_le_bytes();
        Ok(Capability {
            slot: half(first & 0xffff_ffff)?,
            kind: Kind::try_from(u64::from(u16::from_le_bytes([kind_low, kind_high])))?,
            rights: Rights(rights),
            badge: *badge,
            size: *size,
            name: Name::from_words(name),
        })
    }
}

/// A program in the boot archive. Words: bytes; 1 if it can be run by hand; 0; 0; name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Bytes of its file.
    pub bytes: u64,
    /// Whether [`Request::Run`] starts it; else it is a server or driver that starts at boot.
    pub startable: bool,
    /// Its name.
    pub name: Name,
}

impl Program {
    /// As words.
    pub fn words(&self) -> [u64; 8] {
        let [a, b, c, d] = self.name.words();
        [self.bytes, self.startable.into(), 0, 0, a, b, c, d]
    }

    /// From words.
    pub fn from_words(words: &[u64; 8]) -> Self {
        let [bytes, startable, _, _, name @ ..] = words;
        Program { bytes: *bytes, startable: *startable != 0, name: Name::from_words(name) }
    }
}

/// How a process ended. Words: 1, exit code; or 2, kind of fault, address, program counter, the processor's cause;
/// or 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended itself.
    Exited {
        /// 0 for success.
        code: u64,
    },
    /// It faulted.
    Faulted {
        /// What it did wrong.
        kind: FaultKind,
        /// The address it used.
        address: u64,
        /// Where it did it.
        program_counter: u64,
        /// The architecture's cause.
        cause: u64,
    },
    /// Somebody ended it.
    Killed,
}

impl End {
    /// As words.
    pub fn words(&self) -> [u64; 8] {
        match *self {
            End::Exited { code } => [1, code, 0, 0, 0, 0, 0, 0],
            End::Faulted { kind, address, program_counter, cause } => {
                [2, kind as u64, address, program_counter, cause, 0, 0, 0]
            }
            End::Killed => [3, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    /// From words.
    pub fn from_words(words: &[u64; 8]) -> Result<Self, Error> {
        match *words {
            [1, code, ..] => Ok(End::Exited { code }),
            [2, kind, address, program_counter, cause, ..] => {
                Ok(End::Faulted { kind: FaultKind::from_number(kind), address, program_counter, cause })
            }
            [3, ..] => Ok(End::Killed),
            _ => Err(Error::InvalidArgument),
        }
    }
}

/// A core. Words in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Core {
    /// Time it had nothing to do, in ns.
    pub idle_ns: u64,
    /// Threads that wait for it.
    pub ready: u64,
    /// Times it turned from one thread to another.
    pub switches: u64,
}

impl Core {
    /// As words.
    pub fn words(&self) -> [u64; 8] {
        [self.idle_ns, self.ready, self.switches, 0, 0, 0, 0, 0]
    }

    /// From words.
    pub fn from_words(words: &[u64; 8]) -> Self {
        let [idle_ns, ready, switches, ..] = *words;
        Core { idle_ns, ready, switches }
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
