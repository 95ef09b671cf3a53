//! A confined program: a thread with an address space and a small capability table of its own, that makes any system
//! call the case wants. What it can do, it can do with what the table holds.

use anos::abi::object::Method;
use anos::abi::syscall::{FOREVER, POLL};
use anos::abi::{Operation, Slots, Status, SystemCall};
use anos::capability::{AddressSpace, Capability, Slot};
use anos::{Error, Rights};

use crate::arch::{self, Registers};
use crate::case::{Case, READ_WRITE, Window};
use crate::check::{Failure, Outcome};
use crate::hands::{CODE, ENDPOINT_SLOT, Event, Hands, Order};

/// Where the registers for its system calls lie in its address space.
pub const REGISTERS: u64 = 0x70_0000;
/// Slots of its table.
pub const TABLE_SLOTS: u32 = 64;
/// The slot of its own table.
pub const OWN_TABLE: u32 = 1;
/// The slot of its own address space.
pub const OWN_SPACE: u32 = 2;

/// A confined program.
#[derive(Clone, Copy)]
pub struct Confined {
    /// Its thread.
    pub hands: Hands,
    window: Window,
}

/// A system call as it is made, and what came back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// The number, by [`SystemCall`].
    pub call: u8,
    /// The capability that is called.
    pub target: u32,
    /// The label.
    pub label: u64,
    /// The slot to pass from.
    pub pass: u32,
    /// The slot to receive into.
    pub receive: u32,
    /// The slot of a Reply.
    pub reply: u64,
    /// Until when.
    pub deadline: u64,
    /// The words.
    pub words: [u64; 8],
}

impl Ask {
    /// A call of a kernel object's method.
    pub fn method(target: u32, method: Method, words: &[u64]) -> Ask {
        let mut ask = Ask { call: SystemCall::Call as u8, target, label: method.label(), ..Ask::default() };
        ask.deadline = FOREVER;
        ask.words.iter_mut().zip(words).for_each(|(to, from)| *to = *from);
        ask
    }

    /// The same, with a capability that goes along.
    pub fn with(self, pass: u32) -> Ask {
        Ask { pass, ..self }
    }

    /// The same, with a slot for what comes back.
    pub fn receive_into(self, receive: u32) -> Ask {
        Ask { receive, ..self }
    }

    /// Another system call, that doesn't wait.
    pub fn poll(call: SystemCall, target: u32) -> Ask {
        Ask { call: call as u8, target, deadline: POLL, ..Ask::default() }
    }

    /// What the registers hold: rubbish, where they have no role.
    pub fn registers(&self) -> Registers {
        let mut registers: Registers = core::array::from_fn(|n| 0xbad0_0000_0000_0000 + n as u64);
        registers[0] = Operation::new(SystemCall::Yield, self.target).0 & !0xff | u64::from(self.call);
        registers[1] = self.label;
        registers[2] = Slots::new(self.pass, self.receive).0;
        registers[3] = self.reply;
        registers[4] = self.deadline;
        registers[5..13].copy_from_slice(&self.words);
        registers
    }
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The status.
    pub status: Status,
    /// The label.
    pub label: u64,
    /// The words.
    pub words: [u64; 8],
    /// Every register.
    pub registers: Registers,
}

impl Told {
    /// A kernel object's answer, or why there is none.
    pub fn result(&self) -> Result<[u64; 8], Error> {
        self.status.result()?;
        Error::check(self.label)?;
        Ok(self.words)
    }
}

impl Case {
    /// A confined program on a core. Its table holds itself, its space, and the Endpoint it reports to.
    pub fn confined(&mut self, on: u64) -> Outcome<Confined> {
        let space: AddressSpace = self.make()?;
        let hands = self.hands_in(space, on)?;
        let window = self.window(1)?;
        let shared = self.copy(window.frame, READ_WRITE)?;
        self.map(shared, space, REGISTERS, READ_WRITE)?;
        let confined = Confined { hands, window };
        confined.give(hands.table, OWN_TABLE, Rights::ALL)?;
        confined.give(space, OWN_SPACE, Rights::ALL)?;
        Ok(confined)
    }
}

impl Confined {
    /// Puts a copy of a capability into its table.
    pub fn give<T: Capability>(self, capability: T, slot: u32, rights: Rights) -> Result<(), Error> {
        self.hands.table.copy(capability.slot(), Slot::new(slot), rights)
    }

    /// Puts the capability itself there: for those that can't be copied.
    pub fn hand_over<T: Capability>(self, capability: T, slot: u32) -> Result<(), Error> {
        self.hands.table.take(capability.slot(), Slot::new(slot))
    }

    /// Has it make a system call with these registers, and waits until it is back.
    pub fn exchange(self, registers: &Registers) -> Outcome<Registers> {
        self.begin(registers)?;
        match self.hands.event()? {
            Event::Done(_) => Ok(self.registers()),
            Event::Fault(fault) => Err(Failure::new(format_args!("a confined call faults: {fault:x?}"))),
        }
    }

    /// Has it make a system call, and doesn't wait.
    pub fn begin(self, registers: &Registers) -> Result<(), Error> {
        (0..).zip(registers).for_each(|(word, register)| self.window.write(word, *register));
        self.hands.order(Order::Call, REGISTERS, 0)
    }

    /// Its registers behind its last system call.
    pub fn registers(self) -> Registers {
        let mut registers = [0; arch::REGISTERS];
        (0..).zip(&mut registers).for_each(|(word, register)| *register = self.window.read(word));
        registers
    }

    /// Has it make a system call.
    #[track_caller]
    pub fn ask(self, ask: &Ask) -> Outcome<Told> {
        let registers = self.exchange(&ask.registers())?;
        let [status, label, _, _, _, words @ ..] = registers;
        let words = core::array::from_fn(|n| words.get(n).copied().unwrap_or(0));
        Ok(Told { status: Status(status), label, words, registers })
    }

    /// Has it call a kernel object's method until that is done.
    #[track_caller]
    pub fn invoke(self, ask: Ask) -> Outcome<Result<[u64; 8], Error>> {
        loop {
            match self.ask(&ask)?.result() {
                Err(Error::Again) => {}
                done => return Ok(done),
            }
        }
    }

    /// Whether a register that is no part of an answer holds what it should: nothing.
    pub fn is_clean(self, position: usize, value: u64) -> bool {
        arch::is_clean(position, value, CODE)
    }
}

/// Slots of a fresh confined program's table that hold something.
pub const HELD: [u32; 3] = [OWN_TABLE, OWN_SPACE, ENDPOINT_SLOT];
