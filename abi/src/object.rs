//! Kinds of kernel objects, rights, and the methods that each kind answers to.
//!
//! A method is called by sending its number as the label. Arguments are the message words; "pass" is the one
//! capability that travels along; "receive" is the caller's receive slot. The answer's label is 0 or an
//! [`Error`](crate::Error), and its words are the results.

use crate::Error;

/// The kinds of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An empty slot.
    Empty = 0,
    /// A run of physical memory that can be retyped.
    Untyped = 1,
    /// Contiguous pages that can be mapped.
    Frame = 2,
    /// One intermediate page-table level.
    PageTable = 3,
    /// A root page table.
    AddressSpace = 4,
    /// An array of capability slots.
    CapTable = 5,
    /// A thread of execution.
    Thread = 6,
    /// Where messages meet.
    Endpoint = 7,
    /// The right to answer one call, once at a time.
    Reply = 8,
    /// A word of signal bits.
    Notification = 9,
    /// CPU time: a core, a budget, a period.
    SchedContext = 10,
    /// The right to one interrupt line, or message-signalled interrupt.
    Interrupt = 11,
    /// The right to a range of I/O ports (x86-64).
    IoPort = 12,
    /// The right to make Interrupt capabilities.
    InterruptControl = 13,
    /// The right to make IoPort capabilities.
    IoPortControl = 14,
    /// The right to give out CPU time of one core.
    SchedControl = 15,
    /// The kernel's console, counters, and power switch.
    Debug = 16,
}

impl Kind {
    /// Every kind a capability can have.
    pub const ALL: [Kind; 16] = [
        Kind::Untyped,
        Kind::Frame,
        Kind::PageTable,
        Kind::AddressSpace,
        Kind::CapTable,
        Kind::Thread,
        Kind::Endpoint,
        Kind::Reply,
        Kind::Notification,
        Kind::SchedContext,
        Kind::Interrupt,
        Kind::IoPort,
        Kind::InterruptControl,
        Kind::IoPortControl,
        Kind::SchedControl,
        Kind::Debug,
    ];

    /// The kind's name, as the documentation spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Empty => "Empty",
            Kind::Untyped => "Untyped",
            Kind::Frame => "Frame",
            Kind::PageTable => "PageTable",
            Kind::AddressSpace => "AddressSpace",
            Kind::CapTable => "CapTable",
            Kind::Thread => "Thread",
            Kind::Endpoint => "Endpoint",
            Kind::Reply => "Reply",
            Kind::Notification => "Notification",
            Kind::SchedContext => "SchedContext",
            Kind::Interrupt => "Interrupt",
            Kind::IoPort => "IoPort",
            Kind::InterruptControl => "InterruptControl",
            Kind::IoPortControl => "IoPortControl",
            Kind::SchedControl => "SchedControl",
            Kind::Debug => "Debug",
        }
    }
}

impl TryFrom<u64> for Kind {
    type Error = Error;

    fn try_from(number: u64) -> Result<Self, Error> {
        Ok(match number {
            0 => Kind::Empty,
            1 => Kind::Untyped,
            2 => Kind::Frame,
            3 => Kind::PageTable,
            4 => Kind::AddressSpace,
            5 => Kind::CapTable,
            6 => Kind::Thread,
            7 => Kind::Endpoint,
            8 => Kind::Reply,
            9 => Kind::Notification,
            10 => Kind::SchedContext,
            11 => Kind::Interrupt,
            12 => Kind::IoPort,
            13 => Kind::InterruptControl,
            14 => Kind::IoPortControl,
            15 => Kind::SchedControl,
            16 => Kind::Debug,
            _ => return Err(Error::InvalidArgument),
        })
    }
}

/// What a capability allows. Copies can have fewer rights, never more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(pub u8);

impl Rights {
    /// Nothing.
    pub const NONE: Rights = Rights(0);
    /// Read a Frame; receive from an Endpoint; wait on a Notification; look into a CapTable; read a Thread.
    pub const READ: Rights = Rights(1);
    /// Write a Frame; send to an Endpoint; signal a Notification; change any other object.
    pub const WRITE: Rights = Rights(2);
    /// Pass capabilities along in messages to an Endpoint.
    pub const GRANT: Rights = Rights(4);
    /// Map a Frame executable.
    pub const EXECUTE: Rights = Rights(8);
    /// Everything.
    pub const ALL: Rights = Rights(15);

    /// Whether all of `other` is in `self`.
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// What both have.
    pub const fn intersection(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// What either has.
    pub const fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

/// A method, as the kernel looks it up.
struct Entry {
    method: Method,
    kind: Kind,
    number: u8,
    right: Rights,
}

impl TryFrom<u64> for Method {
    type Error = Error;

    /// The method with this label. A kind's methods stand together, and count from 1.
    fn try_from(label: u64) -> Result<Self, Error> {
        let [number, kind, ..] = label.to_le_bytes();
        let first = FIRST.get(usize::from(kind)).copied().unwrap_or(0);
        let entry = LIST.get((usize::from(first) + usize::from(number)).wrapping_sub(1)).ok_or(Error::InvalidMethod)?;
        let found = u64::from_le_bytes([entry.number, entry.kind as u8, 0, 0, 0, 0, 0, 0]);
        if found == label { Ok(entry.method) } else { Err(Error::InvalidMethod) }
    }
}

// Each line says: the method and its number, the right that it takes, its errors, what bounds its work.
macro_rules! methods {
    ($(
        $(#[$doc:meta])*
        $kind:ident . $name:ident = $number:literal, $right:ident, [$($error:ident),*], [$($bound:ident),*];
    )*) => {
        /// Every method of every kernel object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Method {
            $($(#[$doc])* $name,)*
        }

        /// The methods in their order, for the kernel: a table is smaller than comparisons, and as fast for every method.
        static LIST: &[Entry] = &[$(
            Entry { method: Method::$name, kind: Kind::$kind, number: $number, right: Rights::$right },
        )*];

        impl Method {
            /// Every method.
            pub const ALL: &'static [Method] = &[$(Method::$name),*];

            /// The label that calls it: the kind in bits 8..16, so a method of another kind is never taken for one of this.
            pub const fn label(self) -> u64 {
                match self {
                    $(Method::$name => (Kind::$kind as u64) << 8 | $number,)*
                }
            }

            /// The kind of object that answers to this method.
            pub fn kind(self) -> Kind {
                LIST[self as usize].kind
            }

            /// The right that the capability must have, apart from what a method's own text says.
            pub fn right(self) -> Rights {
                LIST[self as usize].right
            }

            /// What it can answer besides success, [`Error::MissingRights`], and, if the call wasn't one of this object's
            /// methods, [`Error::InvalidMethod`].
            pub const fn errors(self) -> &'static [Error] {
                match self {
                    $(Method::$name => &[$(Error::$error),*],)*
                }
            }

            /// The names of the constants that bound its work, apart from a handful of steps that every call takes.
            pub const fn bounds(self) -> &'static [&'static str] {
                match self {
                    $(Method::$name => &[$(stringify!($bound)),*],)*
                }
            }
        }

        /// Where each kind's methods begin in the list, by the kind's number.
        static FIRST: [u8; Kind::ALL.len() + 1] = {
            let mut first = [0; Kind::ALL.len() + 1];
            let mut place = 0;
            $(
                if $number == 1 {
                    first[Kind::$kind as usize] = place;
                }
                place += 1;
            )*
            assert!(place as usize == Method::ALL.len());
            first
        };
    };
}

methods! {
    /// Makes objects in this memory. Words: kind; size (pages for Untyped and Frame, slots for CapTable, else 0);
    /// count; position (pages from the start; device memory only). Pass: for SchedContexts, the SchedControl of their
    /// core. Receive: slot of the first new capability, the others follow. New memory is clear; clearing goes in bounded
    /// steps, so the answer may be `Again`.
    Untyped.UntypedRetype = 1, WRITE, [InvalidArgument, NotEnoughMemory, SlotOccupied, InvalidSlot, EmptySlot, WrongKind, TooDeep, Again], [RETYPE_COUNT, RETYPE_SPACES, RETYPE_FEW, RETYPE_PAGES, CLEAR_PAGES];
    /// Words out: physical address; pages; pages used; 1 if device memory.
    Untyped.UntypedInfo = 2, READ, [], [];

    /// Maps the Frame. Words: virtual address; rights (as [`Rights`]: read, write, execute, never the last two
    /// together); 1 for uncached. Pass: the AddressSpace.
    Frame.FrameMap = 1, READ, [InvalidSlot, EmptySlot, WrongKind, AlreadyMapped, InvalidArgument, MissingTable], [RETYPE_PAGES, MAX_LEVELS, MAX_CORES];
    /// Takes the mapping away, on every core.
    Frame.FrameUnmap = 2, READ, [NotMapped], [RETYPE_PAGES, MAX_LEVELS, MAX_CORES];
    /// Words out: physical address; pages; virtual address where mapped, or 0.
    Frame.FrameInfo = 3, READ, [], [];

    /// Puts the table into an AddressSpace. Words: any virtual address it shall cover; its level (1 holds pages, 2
    /// holds level-1 tables, and so on). Pass: the AddressSpace.
    PageTable.PageTableMap = 1, WRITE, [InvalidSlot, EmptySlot, WrongKind, AlreadyMapped, InvalidArgument, MissingTable], [MAX_LEVELS, MAX_CORES];
    /// Takes the table, with all it maps, out of its AddressSpace.
    PageTable.PageTableUnmap = 2, WRITE, [NotMapped], [MAX_LEVELS, MAX_CORES];

    /// Words out: levels of page tables; first address past user space.
    AddressSpace.AddressSpaceInfo = 1, READ, [], [];

    /// Copies the passed capability. Words: slot in this table; rights to keep (as [`Rights`]). The badge stays.
    CapTable.CapTableCopy = 1, WRITE, [InvalidSlot, EmptySlot, SlotOccupied, InvalidArgument, NotCopyable, TooDeep, Busy], [];
    /// Copies the passed capability and gives it a badge (Endpoint and Notification, while the badge is 0). Words:
    /// slot in this table; rights to keep; badge.
    CapTable.CapTableMint = 2, WRITE, [InvalidSlot, EmptySlot, SlotOccupied, InvalidArgument, NotCopyable, TooDeep, Busy], [];
    /// Moves the passed capability. Words: slot in this table.
    CapTable.CapTableMove = 3, WRITE, [InvalidSlot, EmptySlot, SlotOccupied, Busy], [];
    /// Deletes one capability; what was derived from it stays. Words: slot in this table. A large object ends in
    /// steps: `Again`. `Busy` if more than 32 capabilities stem from it and a newer one from its parent: revoke first.
    CapTable.CapTableDelete = 4, WRITE, [InvalidSlot, Busy, Again], [HEIRS, TABLE_SLOTS, DELETE_STEPS, WAKE_STEPS, RETYPE_PAGES, MAX_CORES];
    /// Deletes all that was derived from a capability. Words: slot in this table. `Again` until nothing is left.
    CapTable.CapTableRevoke = 5, WRITE, [InvalidSlot, Again], [DELETE_STEPS, TABLE_SLOTS, WAKE_STEPS, RETYPE_PAGES, MAX_CORES];
    /// Words: slot in this table. Words out: kind; rights; badge; size (as for retype); 1 if it is mapped or bound.
    CapTable.CapTableLook = 6, READ, [InvalidSlot], [];
    /// Words out: number of slots.
    CapTable.CapTableInfo = 7, READ, [], [];
    /// Calls off every wait to send through an Endpoint with the badge of this capability to it: sends and calls not yet
    /// taken end with `Cancelled`, faults stop their threads. Words: slot in this table; that capability must have the right
    /// to read. `Again` until nothing is left.
    CapTable.CapTableCancel = 8, WRITE, [InvalidSlot, EmptySlot, WrongKind, Again], [WAKE_STEPS, MAX_CORES];

    /// Gives the thread its capability table. Pass: the CapTable.
    Thread.ThreadSetTable = 1, WRITE, [InvalidSlot, EmptySlot, WrongKind, TooDeep, Busy, Again], [HEIRS, MAX_CORES];
    /// Gives the thread its address space. Pass: the AddressSpace.
    Thread.ThreadSetSpace = 2, WRITE, [InvalidSlot, EmptySlot, WrongKind, TooDeep, Busy, Again], [HEIRS, MAX_CORES];
    /// Says where its faults go. Pass: an Endpoint with its badge (write and grant), or none to have it stop.
    Thread.ThreadSetFaultEndpoint = 3, WRITE, [InvalidSlot, EmptySlot, WrongKind, TooDeep, Again], [HEIRS, WAKE_STEPS, MAX_CORES];
    /// Binds a Notification, so that receiving on any Endpoint also takes its signals. Pass: the Notification (read),
    /// or none to unbind.
    Thread.ThreadBind = 4, WRITE, [InvalidSlot, EmptySlot, WrongKind, TooDeep, Busy, Again], [HEIRS, WAKE_STEPS, MAX_CORES];
    /// Words: priority (0 to 255); ceiling that the thread may itself give. Neither above the caller's ceiling.
    Thread.ThreadSetPriority = 5, WRITE, [InvalidArgument], [];
    /// Gives the thread CPU time, and with it a core. Pass: a SchedContext (write) that no other thread has; or none:
    /// then the thread is passive, and runs only on what callers lend it. What it had lent comes back first.
    Thread.ThreadSetContext = 6, WRITE, [InvalidSlot, EmptySlot, WrongKind, TooDeep, Busy], [HEIRS, LENDINGS, MAX_CORES];
    /// Starts a stopped thread afresh. Words: program counter; stack pointer; thread pointer; argument, which the
    /// thread finds in word 0; a second argument, which it finds in word 1.
    Thread.ThreadStart = 7, WRITE, [InvalidArgument, Busy, NotRunnable], [];
    /// Stops the thread; a wait is called off.
    Thread.ThreadSuspend = 8, WRITE, [], [LENDINGS];
    /// Lets a suspended thread go on where it stopped.
    Thread.ThreadResume = 9, WRITE, [Busy, NotRunnable], [];
    /// Words out: state (as [`ThreadState`]); priority; core; CPU time in ns; program counter; stack pointer; frame
    /// pointer; ceiling.
    Thread.ThreadInfo = 10, READ, [], [];
    /// Words: number of the first register. Words out: eight registers from there; 0 past the last. The order is that of
    /// the system call's roles: words 0 to 7, operation, label, slots, reply, deadline, program counter,
    /// stack pointer, thread pointer, then the architecture's others. `Busy` while the thread is ready.
    Thread.ThreadReadRegisters = 11, READ, [Busy], [MESSAGE_WORDS];
    /// Words: number of the first register; how many (1 to 6); their values. `Busy` unless it is stopped or waits for its
    /// fault handler.
    Thread.ThreadWriteRegisters = 12, WRITE, [InvalidArgument, Busy], [MESSAGE_WORDS];
    /// Words: what is special about the thread, as [`ThreadFlags`]. `Busy` unless it is stopped.
    Thread.ThreadSetFlags = 13, WRITE, [InvalidArgument, Busy], [];

    /// Words out: core; budget, ns; period, ns; what is left of the budget, ns; CPU time used so far, ns; 1 if it is a
    /// thread's.
    SchedContext.SchedContextInfo = 1, READ, [], [REFILLS];

    /// Connects the interrupt to a Notification. Pass: the Notification (write), whose badge (not 0) will be
    /// signalled. Unmasks the line.
    Interrupt.InterruptBind = 1, WRITE, [InvalidSlot, EmptySlot, WrongKind, InvalidArgument, TooDeep, Busy], [MAX_CORES];
    /// The driver is done: the line may interrupt again.
    Interrupt.InterruptAck = 2, WRITE, [NotMapped], [];
    /// Disconnects and masks the line.
    Interrupt.InterruptUnbind = 3, WRITE, [Again], [WAKE_STEPS, MAX_CORES];
    /// Words out: the physical address that a device writes to, and the value that it writes, to raise a
    /// message-signalled interrupt. `Unsupported` if it is a wire.
    Interrupt.InterruptMessage = 4, READ, [Unsupported], [];

    /// Words: port; size in bytes (1, 2, 4). Words out: value.
    IoPort.IoPortIn = 1, READ, [InvalidArgument, Unsupported], [];
    /// Words: port; size in bytes (1, 2, 4); value.
    IoPort.IoPortOut = 2, WRITE, [InvalidArgument, Unsupported], [];

    /// Makes the capability for a line. Words: line; 1 if level-triggered; 1 if active low. Receive: its slot.
    InterruptControl.InterruptControlGet = 1, WRITE, [InvalidArgument, InvalidSlot, SlotOccupied, TooDeep, Busy], [MAX_CORES];
    /// Makes the capability for a range. Words: first port; last port. Receive: its slot.
    IoPortControl.IoPortControlGet = 1, WRITE, [InvalidArgument, InvalidSlot, SlotOccupied, TooDeep], [];
    /// Words out: the core; CPU time spent idle, in ns; threads ready; context switches so far.
    SchedControl.SchedControlInfo = 1, READ, [], [];
    /// Limits a scheduling context of this core. Words: budget, ns; period, ns (both 0: no limit; else 10,000 to 2^40, and
    /// the budget at most the period); 1 if the end of the budget is a fault. Pass: the SchedContext (write).
    SchedControl.SchedControlLimit = 2, WRITE, [InvalidArgument, InvalidSlot, EmptySlot, WrongKind], [];

    /// Writes to the kernel's console. Words: number of bytes (at most 16); the bytes.
    Debug.DebugWrite = 1, WRITE, [InvalidArgument], [];
    /// Words: 0 to power off, 1 to reboot. Does not come back; `Unsupported` where the machine can't.
    Debug.DebugReset = 2, WRITE, [InvalidArgument, Unsupported], [];
    /// What a core has done. Words: core. Words out: system calls; interrupts; faults; context switches; inter-core kicks;
    /// TLB shootdowns; locks taken; locks waited for.
    Debug.DebugCounters = 3, READ, [InvalidArgument], [];
    /// Names a thread for people. Words: 32 bytes, UTF-8, filled up with zeros. Pass: the Thread.
    Debug.DebugName = 4, WRITE, [InvalidSlot, EmptySlot, WrongKind], [];
    /// What the kernel knows of a page of memory. Words: physical address. Words out: kind of the objects in it, or 0;
    /// cores at home there, as bits; cores on which it is loaded as an AddressSpace, as bits.
    Debug.DebugPage = 5, READ, [InvalidArgument], [];
    /// What the kernel knows of the thread in a page. Words: physical address. Words out: name (four words); state,
    /// priority, core (bits 0..8, 8..16, 16..24); physical address of what it waits on, or 0; program counter; CPU time, ns.
    Debug.DebugThread = 6, READ, [InvalidArgument], [];
}

/// What a thread is doing. (As wide as a register: so the kernel's functions answer it in one.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ThreadState {
    /// Not started, or suspended.
    Stopped = 0,
    /// Ready to run, or running.
    Ready = 1,
    /// Waits for somebody to take its message.
    Sending = 2,
    /// Waits for the answer to its call.
    Calling = 3,
    /// Waits for a message or a signal.
    Receiving = 4,
    /// Waits for its fault handler.
    Faulted = 5,
}

/// What can be special about a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadFlags(pub u64);

impl ThreadFlags {
    /// Its system calls are another system's: each becomes a message to its fault endpoint (see [`crate::fault`]).
    pub const FOREIGN: u64 = 1;
    /// Floating-point and vector instructions are illegal for it.
    pub const NO_FPU: u64 = 2;
    /// All that are known.
    pub const ALL: u64 = 3;
}

impl ThreadState {
    /// The state with this number; an unknown one reads as stopped.
    pub const fn from_number(number: u64) -> Self {
        match number {
            1 => ThreadState::Ready,
            2 => ThreadState::Sending,
            3 => ThreadState::Calling,
            4 => ThreadState::Receiving,
            5 => ThreadState::Faulted,
            _ => ThreadState::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    #[test]
    fn every_method_label_reads_back_and_names_its_kind() {
        for &method in Method::ALL {
            assert_eq!(Method::try_from(method.label()), Ok(method));
            assert_eq!(Kind::try_from(method.label() >> 8), Ok(method.kind()));
        }
    }

    #[test]
    fn a_label_that_is_no_methods_is_refused() {
        let known: Vec<u64> = Method::ALL.iter().map(|method| method.label()).collect();
        for label in (0..0x2_0000).chain(known.iter().map(|label| label | 1 << 63)) {
            assert_eq!(Method::try_from(label).is_ok(), known.contains(&label), "{label:#x}");
        }
    }
}
