//! The closed set of errors.
//!
//! The same numbers appear in two places: in [`Status`](crate::Status) when no message was exchanged, and as the
//! label of an answer when the called object (kernel or server) refuses. A call that a kernel object
//! refuses has changed nothing, but for `Again`, which has done part of the work. A message that got through stays
//! delivered, whatever becomes of the answer to it (`TimedOut`, `Cancelled`, `PeerDied`, `NoReply`); and a `reply_recv` that
//! fails to receive has given its answer.

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a call failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Error {
            $($(#[$doc])* $name = $number,)*
        }

        impl Error {
            /// Every error, in the order of its number.
            pub const ALL: &'static [Error] = &[$(Error::$name),*];

            /// A few words for people.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Error::$name => $text,)*
                }
            }
        }

        impl TryFrom<u16> for Error {
            type Error = ();

            fn try_from(number: u16) -> Result<Self, ()> {
                match number {
                    $($number => Ok(Error::$name),)*
                    _ => Err(()),
                }
            }
        }
    };
}

errors! {
    /// The number in the operation register is none of the five calls, or reserved bits are set.
    InvalidSystemCall = 1, "no such system call";
    /// A slot number lies outside the capability table.
    InvalidSlot = 2, "slot outside the capability table";
    /// There is no capability in that slot.
    EmptySlot = 3, "no capability in that slot";
    /// The capability is of another kind than the call needs.
    WrongKind = 4, "capability of the wrong kind";
    /// The capability lacks a right that the call needs.
    MissingRights = 5, "missing rights";
    /// The object has no such method.
    InvalidMethod = 6, "no such method";
    /// An argument is outside its range.
    InvalidArgument = 7, "invalid argument";
    /// A slot that should take a capability holds one already.
    SlotOccupied = 8, "slot occupied";
    /// The Untyped has not enough room left.
    NotEnoughMemory = 9, "not enough memory";
    /// The Frame, PageTable or position is mapped already.
    AlreadyMapped = 10, "already mapped";
    /// The Frame or PageTable is not mapped.
    NotMapped = 11, "not mapped";
    /// A page table on the way to this address is missing.
    MissingTable = 12, "page table missing";
    /// More is left to do: repeat the call.
    Again = 13, "more to do, call again";
    /// The deadline passed first. A call may have reached the receiver by then.
    TimedOut = 14, "timed out";
    /// The wait was called off: the thread was suspended or the object it waited on is gone.
    Cancelled = 15, "cancelled";
    /// Who was to answer is gone, or threw the call away.
    PeerDied = 16, "peer died";
    /// The receiver has no Reply capability, so this call can't be answered.
    NoReply = 17, "receiver can't answer calls";
    /// The object is in use: a Reply not yet answered, an interrupt bound elsewhere, a thread not stopped, a table that
    /// ends, a capability from which too many stem to be deleted before it is revoked.
    Busy = 18, "busy";
    /// This capability can be moved but not copied (Untyped, Reply, PageTable).
    NotCopyable = 19, "capability can't be copied";
    /// The thread lacks what it needs to run (table, address space, CPU time).
    NotRunnable = 20, "thread is not runnable";
    /// This machine has no such thing (I/O ports on RISC-V, say).
    Unsupported = 21, "not supported by this machine";
    /// Nothing more can stem from this capability: it stems from another through 2^32 - 1 others.
    TooDeep = 22, "capability derived through too many others";
}

impl Error {
    /// Reads a label or status code: 0 is success; an unknown code reads as [`Error::InvalidArgument`].
    pub fn check(code: u64) -> Result<(), Error> {
        if code == 0 {
            return Ok(());
        }
        Err(u16::try_from(code).ok().and_then(|code| Error::try_from(code).ok()).unwrap_or(Error::InvalidArgument))
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.text())
    }
}

impl core::error::Error for Error {}
