//! What drivers need, and the kernel's own console.

use anos_abi::object::{Method, ThreadState};
use anos_abi::{CONSOLE_BYTES, Error, Kind};
use anos_interfaces::{Bytes, Name};

use super::{Notification, Slot, Thread, capabilities, invoke};

capabilities! {
    /// The right to one interrupt line, or message-signalled interrupt.
    Interrupt;
    /// The right to a range of I/O ports (x86-64).
    IoPort;
    /// The right to make Interrupt capabilities.
    InterruptControl;
    /// The right to make IoPort capabilities.
    IoPortControl;
    /// The kernel's console, counters, and power switch.
    Debug;
}

/// What a device writes, and where, to raise a message-signalled interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptMessage {
    /// The physical address.
    pub address: u64,
    /// The value.
    pub value: u64,
}

impl Interrupt {
    /// Connects it to a Notification, whose badge will be signalled, and unmasks the line.
    pub fn bind(self, notification: Notification) -> Result<(), Error> {
        invoke(self.0, Method::InterruptBind, &[], Some(notification.0), None).map(|_| ())
    }

    /// The driver is done: the line may interrupt again.
    pub fn acknowledge(self) -> Result<(), Error> {
        invoke(self.0, Method::InterruptAck, &[], None, None).map(|_| ())
    }

    /// Disconnects and masks the line.
    pub fn unbind(self) -> Result<(), Error> {
        invoke(self.0, Method::InterruptUnbind, &[], None, None).map(|_| ())
    }

    /// How a device raises it; [`Error::Unsupported`] if it is a wire.
    pub fn message(self) -> Result<InterruptMessage, Error> {
        let [address, value, ..] = invoke(self.0, Method::InterruptMessage, &[], None, None)?;
        Ok(InterruptMessage { address, value })
    }
}

impl IoPort {
    /// The first port of the range.
    pub fn first(self) -> Result<u16, Error> {
        let first = crate::env::OWN_TABLE.look(self.0)?.badge;
        u16::try_from(first).map_err(|_| Error::InvalidArgument)
    }

    /// Reads a byte.
    pub fn read_byte(self, port: u16) -> Result<u8, Error> {
        let [value, ..] = invoke(self.0, Method::IoPortIn, &[port.into(), 1], None, None)?;
        let [byte, ..] = value.to_le_bytes();
        Ok(byte)
    }

    /// Writes a byte.
    pub fn write_byte(self, port: u16, value: u8) -> Result<(), Error> {
        invoke(self.0, Method::IoPortOut, &[port.into(), 1, value.into()], None, None).map(|_| ())
    }
}

impl InterruptControl {
    /// Makes the capability for a line, into an empty slot.
    pub fn get(self, line: u64, level_triggered: bool, active_low: bool, slot: Slot) -> Result<Interrupt, Error> {
        let words = [line, level_triggered.into(), active_low.into()];
        invoke(self.0, Method::InterruptControlGet, &words, None, Some(slot))?;
        Ok(Interrupt(slot))
    }
}

impl IoPortControl {
    /// Makes the capability for a range of ports, into an empty slot.
    pub fn get(self, first: u16, last: u16, slot: Slot) -> Result<IoPort, Error> {
        invoke(self.0, Method::IoPortControlGet, &[first.into(), last.into()], None, Some(slot))?;
        Ok(IoPort(slot))
    }
}

/// What a core has done since the kernel started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValues {
    /// System calls.
    pub system_calls: u64,
    /// Interrupts.
    pub interrupts: u64,
    /// Faults.
    pub faults: u64,
    /// Context switches.
    pub switches: u64,
    /// Kicks from core to core.
    pub kicks: u64,
    /// TLB shootdowns.
    pub shootdowns: u64,
    /// Locks taken.
    pub locks_taken: u64,
    /// Locks that another core held, so that it had to wait.
    pub locks_waited: u64,
}

impl CounterValues {
    /// From the words of the answer.
    pub fn from_words(words: &[u64; 8]) -> Self {
        let [system_calls, interrupts, faults, switches, kicks, shootdowns, locks_taken, locks_waited] = *words;
        CounterValues { system_calls, interrupts, faults, switches, kicks, shootdowns, locks_taken, locks_waited }
    }
}

/// What the kernel knows of a page of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageInfo {
    /// The kind of the objects in it; [`Kind::Empty`] if there are none.
    pub kind: Kind,
    /// The cores at home there, as bits.
    pub homes: u64,
    /// The cores on which it is loaded as an AddressSpace, as bits.
    pub loaded: u64,
}

/// What the kernel knows of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadRecord {
    /// Its name.
    pub name: Name,
    /// Whether it runs, or on what it waits.
    pub state: ThreadState,
    /// Its priority.
    pub priority: u8,
    /// The core it runs on.
    pub core: u8,
    /// The physical address of what it waits on, or 0.
    pub waits_on: u64,
    /// Where it was when it last entered the kernel.
    pub program_counter: u64,
    /// CPU time it has used, in ns.
    pub cpu_time_ns: u64,
}

impl Debug {
    /// Writes to the kernel's console.
    pub fn write(self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(rest.len().min(CONSOLE_BYTES));
            let (piece, _) = Bytes::take(piece);
            invoke(self.0, Method::DebugWrite, &piece.words(), None, None)?;
            rest = left;
        }
        Ok(())
    }

    /// Powers the machine off, or starts it again. Comes back only if the machine can't.
    pub fn reset(self, reboot: bool) -> Error {
        match invoke(self.0, Method::DebugReset, &[reboot.into()], None, None) {
            Ok(_) => Error::Unsupported,
            Err(error) => error,
        }
    }

    /// What a core has done.
    pub fn counters(self, core: u64) -> Result<CounterValues, Error> {
        invoke(self.0, Method::DebugCounters, &[core], None, None).map(|words| CounterValues::from_words(&words))
    }

    /// Names a thread for people: up to 32 bytes.
    pub fn name(self, thread: Thread, name: &str) -> Result<(), Error> {
        let words = Name::new(name).ok_or(Error::InvalidArgument)?.words();
        invoke(self.0, Method::DebugName, &words, Some(thread.0), None).map(|_| ())
    }

    /// What the kernel knows of the page at this physical address.
    pub fn page(self, address: u64) -> Result<PageInfo, Error> {
        let [kind, homes, loaded, ..] = invoke(self.0, Method::DebugPage, &[address], None, None)?;
        Ok(PageInfo { kind: Kind::try_from(kind)?, homes, loaded })
    }

    /// What the kernel knows of the thread in the page at this physical address.
    pub fn thread(self, address: u64) -> Result<ThreadRecord, Error> {
        let [name @ .., state, waits_on, program_counter, cpu_time_ns] =
            invoke(self.0, Method::DebugThread, &[address], None, None)?;
        let [state, priority, core, ..] = state.to_le_bytes();
        Ok(ThreadRecord {
            name: Name::from_words(&name),
            state: ThreadState::from_number(state.into()),
            priority,
            core,
            waits_on,
            program_counter,
            cpu_time_ns,
        })
    }
}
