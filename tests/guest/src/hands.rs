//! Hands: a thread that does what the case tells it, one order at a time, and whose faults come to the case.
//!
//! Its code is a few instructions that work at any address, so it can live in an address space that holds nothing of
//! this program. It has a capability table of its own with one capability: the Endpoint it reports to.

use anos::abi::PAGE_SIZE;
use anos::abi::fault::{self, FaultKind};
use anos::capability::{
    AddressSpace, CapTable, Capability, Endpoint, Frame, Reply, SchedContext, Slot, StartState, Thread,
};
use anos::{Error, Message, Rights};

use crate::arch;
use crate::case::{Case, PATIENCE_MS, READ_EXECUTE, SPACE, in_ms};
use crate::check::{Failure, Outcome};
use crate::helper::NORMAL;

/// The slot of the Endpoint in the hands' own table.
pub const ENDPOINT_SLOT: u32 = 8;
/// Where the code lies in an address space of their own.
pub const CODE: u64 = 0x60_0000;
/// Badge of the hands' reports.
const REPORT: u64 = 1;
/// Badge of their faults.
const FAULT: u64 = 2;

/// What the hands can do. The numbers are known to the code in `arch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Order {
    /// Read a word.
    Read = 1,
    /// Write a word.
    Write = 2,
    /// Jump.
    Jump = 3,
    /// Read a word until it isn't 0.
    Await = 4,
    /// Push onto the stack for ever.
    Push = 5,
    /// Add 1 to a word for ever.
    Count = 6,
    /// Execute an illegal instruction.
    Illegal = 7,
    /// Execute a breakpoint.
    Breakpoint = 8,
    /// Divide one number by another.
    Divide = 9,
    /// Execute a privileged instruction.
    Privileged = 10,
    /// Read a word, and add a number that a floating-point register held meanwhile.
    Float = 11,
    /// Read a port (x86-64) or the interrupt-enable register (RISC-V).
    Machine = 12,
    /// Make a system call with the registers in memory, and store them there as they are afterwards.
    Call = 13,
    /// Read a counter of what the processor has done (`rdpmc`, `rdcycle`).
    Counter = 14,
}

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is done; what was read.
    Done(u64),
    /// The hands faulted.
    Fault(Fault),
}

/// A fault, as the message tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the hands did.
    pub kind: FaultKind,
    /// Where they were.
    pub program_counter: u64,
    /// The address they used.
    pub address: u64,
    /// Their stack pointer.
    pub stack_pointer: u64,
}

/// A thread that does what it is told.
#[derive(Clone, Copy)]
pub struct Hands {
    /// The thread.
    pub thread: Thread,
    /// Where it reports, and where its faults go.
    pub endpoint: Endpoint,
    /// What answers both.
    pub reply: Reply,
    /// Their capabilities.
    pub table: CapTable,
    /// Their CPU time.
    pub context: SchedContext,
    /// Where its code lies.
    pub code: u64,
}

impl Case {
    /// Hands in this program's address space, on a core.
    pub fn hands(&mut self, on: u64) -> Outcome<Hands> {
        let code = &raw const arch::hands_start as u64;
        self.hands_at(SPACE, code, on, 0)
    }

    /// Hands in another address space, at [`CODE`] there.
    pub fn hands_in(&mut self, space: AddressSpace, on: u64) -> Outcome<Hands> {
        let window = self.window(1)?;
        for (word, bytes) in (0..).zip(arch::hands_code().chunks(8)) {
            let mut padded = [0; 8];
            padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            window.write(word, u64::from_le_bytes(padded));
        }
        let code: Frame = self.copy(window.frame, Rights::ALL)?;
        self.map(code, space, CODE, READ_EXECUTE)?;
        self.hands_at(space, CODE, on, 0)
    }

    /// Hands whose code is already there, with this stack pointer.
    pub fn hands_at(&mut self, space: AddressSpace, code: u64, on: u64, stack_pointer: u64) -> Outcome<Hands> {
        let (endpoint, reply, thread): (Endpoint, Reply, Thread) = (self.make()?, self.make()?, self.make()?);
        let table: CapTable = self.make_small()?;
        table.mint(endpoint.slot(), Slot::new(ENDPOINT_SLOT), Rights::ALL, REPORT)?;
        let faults = self.mint(endpoint, Rights::ALL, FAULT)?;
        thread.set_table(table)?;
        thread.set_space(space)?;
        thread.set_fault_endpoint(Some(faults))?;
        let context = self.move_to(thread, on)?;
        thread.set_priority(NORMAL, NORMAL)?;
        let hands = Hands { thread, endpoint, reply, table, context, code };
        hands.start(stack_pointer)?;
        Ok(hands)
    }
}

impl Hands {
    /// Starts them (again), and waits until they report.
    pub fn start(self, stack_pointer: u64) -> Outcome {
        self.thread.start(&StartState { program_counter: self.code, stack_pointer, ..StartState::default() })?;
        match self.event()? {
            Event::Done(_) => Ok(()),
            Event::Fault(fault) => Err(Failure::new(format_args!("hands fault at their start: {fault:x?}"))),
        }
    }

    /// Tells them what to do next, and doesn't wait.
    pub fn order(self, order: Order, address: u64, value: u64) -> Result<(), Error> {
        self.reply.send(&Message::new(0, &[order as u64, address, value]), None)
    }

    /// What comes from them.
    #[track_caller]
    pub fn event(self) -> Outcome<Event> {
        match self.event_until(in_ms(PATIENCE_MS))? {
            Ok(event) => Ok(event),
            Err(error) => Err(Failure::new(format_args!("nothing comes from the hands: {error}"))),
        }
    }

    /// What comes from them, or that the deadline passed.
    pub fn event_until(self, deadline: u64) -> Outcome<Result<Event, Error>> {
        let received = match self.endpoint.recv(Some(self.reply), None, deadline) {
            Ok(received) => received,
            Err(error) => return Ok(Err(error)),
        };
        let [kind, program_counter, address, _, stack_pointer, ..] = received.message.words;
        let event = match (received.badge, received.message.label) {
            (REPORT, 0) => Event::Done(kind),
            (FAULT, fault::LABEL) => {
                let kind = FaultKind::from_number(kind);
                Event::Fault(Fault { kind, program_counter, address, stack_pointer })
            }
            (badge, label) => return Err(Failure::new(format_args!("badge {badge}, label {label:x} from the hands"))),
        };
        Ok(Ok(event))
    }

    /// Has them do something.
    #[track_caller]
    pub fn go(self, order: Order, address: u64, value: u64) -> Outcome<Event> {
        self.order(order, address, value)?;
        self.event()
    }

    /// Has them read a word.
    #[track_caller]
    pub fn read(self, address: u64) -> Outcome<Event> {
        self.go(Order::Read, address, 0)
    }

    /// Has them write a word.
    #[track_caller]
    pub fn write(self, address: u64, value: u64) -> Outcome<Event> {
        self.go(Order::Write, address, value)
    }

    /// Has them do something that must fault.
    #[track_caller]
    pub fn fault(self, order: Order, address: u64) -> Outcome<Fault> {
        match self.go(order, address, 0)? {
            Event::Fault(fault) => Ok(fault),
            Event::Done(value) => Err(Failure::new(format_args!("{order:?} of {address:#x} worked: {value:#x}"))),
        }
    }

    /// Lets them try again after a fault.
    pub fn retry(self) -> Result<(), Error> {
        self.reply.send(&Message::OK, None)
    }

    /// Leaves them stopped after a fault.
    pub fn leave(self) -> Result<(), Error> {
        self.reply.send(&Message::new(1, &[]), None)
    }

    /// Starts them again after a fault.
    pub fn again(self) -> Outcome {
        self.leave()?;
        self.start(0)
    }
}

/// The page that an address lies in.
pub const fn page(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}
