//! A machine's whole state, kept to come back to: so a test can try one thing after another from the same moment.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;

use anos_core::Kernel;
use anos_machine::{Next, Reset};

use crate::board::{Counts, Line, Processor};
use crate::memory::Contents;
use crate::sim::Sim;

/// What a machine was at one moment.
pub struct Snapshot {
    kernel: Box<MaybeUninit<Kernel>>,
    memory: Contents,
    device: BTreeMap<u64, u64>,
    ports: BTreeMap<u16, u32>,
    clock: u64,
    processors: Vec<Processor>,
    lines: Vec<Line>,
    console: Vec<u8>,
    reset: Option<Reset>,
    counts: Counts,
    next_slot: u32,
    system_calls: u64,
    last: Vec<Next>,
}

impl Sim {
    /// Keeps the state that the machine is in.
    pub fn snapshot(&self) -> Snapshot {
        let mut kernel = Box::new(MaybeUninit::<Kernel>::uninit());
        // SAFETY: one kernel is read and one written. It is numbers only, with no owner of anything among them, and
        // nobody is in it: whoever holds its locks has borrowed the machine.
        unsafe { kernel.as_mut_ptr().copy_from_nonoverlapping(&raw const *self.kernel, 1) };
        let board = &self.board;
        Snapshot {
            kernel,
            memory: board.ram.contents(),
            device: board.device.clone(),
            ports: board.ports.clone(),
            clock: board.clock,
            processors: board.processors.clone(),
            lines: board.lines.clone(),
            console: board.console.clone(),
            reset: board.reset,
            counts: board.counts,
            next_slot: self.next_slot,
            system_calls: self.system_calls,
            last: self.last.clone(),
        }
    }

    /// Goes back to a state that this machine was in.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        // SAFETY: one kernel is read and one written: numbers only, and `self` is borrowed by nobody else.
        unsafe { (&raw mut *self.kernel).copy_from_nonoverlapping(snapshot.kernel.as_ptr(), 1) };
        let board = &mut self.board;
        board.ram.set_contents(&snapshot.memory);
        // SAFETY: nobody holds anything, and this machine's memory lives as long as its kernel. (The snapshot may be of
        // another machine, so what it says of memory counts for nothing.)
        unsafe { self.kernel.set_memory(board.ram.memory()) };
        board.device.clone_from(&snapshot.device);
        board.ports.clone_from(&snapshot.ports);
        board.clock = snapshot.clock;
        board.processors.clone_from(&snapshot.processors);
        board.lines.clone_from(&snapshot.lines);
        board.console.clone_from(&snapshot.console);
        board.reset = snapshot.reset;
        board.counts = snapshot.counts;
        board.waits = Cell::new(0);
        self.next_slot = snapshot.next_slot;
        self.system_calls = snapshot.system_calls;
        self.last.clone_from(&snapshot.last);
    }
}
