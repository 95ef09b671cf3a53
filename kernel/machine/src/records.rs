//! The layout of kernel objects in memory: flat records of integers, the same on every architecture.
//!
//! Every bit pattern is a valid record, and a record of zeros is a fresh object: that is what makes the store's
//! conversion sound. Links between objects are physical addresses ([`Ref`], [`SlotRef`]), 0 for none, never pointers.

use core::fmt;
use core::marker::PhantomData;

use anos_abi::{Kind, MESSAGE_WORDS, Rights};

use crate::atomic::{AtomicU32, AtomicU64, Ordering, Watch};
use crate::machine::{CoreId, CoreSet};

/// A link to an object: its physical address, or 0 for none.
#[repr(transparent)]
pub struct Ref<T>(u64, PhantomData<fn() -> T>);

impl<T> Ref<T> {
    /// No object.
    pub const NONE: Ref<T> = Ref(0, PhantomData);

    /// The object at this physical address. The store checks it when it is followed.
    pub const fn at(address: u64) -> Self {
        Ref(address, PhantomData)
    }

    /// Its physical address.
    pub const fn address(self) -> u64 {
        self.0
    }

    /// Whether there is no object.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// `None` if there is no object.
    pub const fn some(self) -> Option<Self> {
        if self.is_none() { None } else { Some(self) }
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ref<T> {}
impl<T> Default for Ref<T> {
    fn default() -> Self {
        Self::NONE
    }
}
impl<T> PartialEq for Ref<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Ref<T> {}
impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.0)
    }
}

/// A link to a capability slot, in a CapTable or in a Thread.
pub type SlotRef = Ref<Slot>;

/// One capability, 64 bytes. What the fields mean depends on the kind:
///
/// | kind | `object` | `extent` | `badge` | `space`, `root` |
/// |---|---|---|---|---|
/// | Untyped | address | pages | bytes used | end and start (in bytes) of what is known to be clear |
/// | Frame | address | pages | virtual address where mapped | id and root table of the space it is mapped in |
/// | PageTable | address | level where mapped | virtual address where mapped | the same |
/// | CapTable | address | slots | while it ends: slots done | |
/// | AddressSpace, Thread, Reply | address | | | |
/// | Endpoint, Notification | address | | badge | |
/// | Interrupt | line | | | |
/// | IoPort | first port | last port | | |
/// | SchedControl | core | | | |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// The capability's [`Kind`] as a number; 0: the slot is empty.
    pub kind: u8,
    /// Its [`Rights`].
    pub rights: u8,
    /// 1: device memory (Untyped, Frame).
    pub device: u8,
    /// Unused.
    pub reserved: u8,
    /// Its depth in the family.
    pub depth: u32,
    /// See the table above.
    pub object: u64,
    /// See the table above.
    pub extent: u64,
    /// See the table above.
    pub badge: u64,
    /// See the table above.
    pub space: u64,
    /// See the table above.
    pub root: u64,
    /// The capability behind this one in its family.
    pub next: SlotRef,
    /// The capability in front.
    pub previous: SlotRef,
}

impl Slot {
    /// The kind; a number that is none reads as empty.
    pub fn kind(&self) -> Kind {
        Kind::try_from(u64::from(self.kind)).unwrap_or(Kind::Empty)
    }

    /// The same. (As for [`copy`]: eight moves.)
    #[inline(never)]
    pub fn copy(&self) -> Slot {
        *self
    }

    /// Puts this here, as quickly.
    #[inline(never)]
    pub fn put(&mut self, slot: &Slot) {
        *self = *slot;
    }

    /// Empties the slot, as quickly.
    #[inline(never)]
    pub fn clear(&mut self) {
        *self = Slot::default();
    }

    /// The rights.
    pub fn rights(&self) -> Rights {
        Rights(self.rights)
    }

    /// Whether the slot is empty.
    pub fn is_empty(&self) -> bool {
        self.kind == Kind::Empty as u8
    }
}

/// A thread's saved registers. The roles of a system call come first, so that the core reads and writes messages
/// without knowing the architecture; `other` is the architecture's.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Registers {
    /// Message words.
    pub words: Words,
    /// Operation in, status out.
    pub operation: u64,
    /// Label.
    pub label: u64,
    /// Slots in, badge out.
    pub slots: u64,
    /// Reply slot.
    pub reply: u64,
    /// Deadline.
    pub deadline: u64,
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Thread pointer (`fs` base on x86-64, `tp` on RISC-V).
    pub tp: u64,
    /// Everything else, in the architecture's order; all zeros for a thread that starts, and for one that made a system
    /// call as good as that (see the port).
    pub other: [u64; 24],
}

/// A message's words.
pub type Words = [u64; MESSAGE_WORDS];

/// Eight moves. (Where the compiler is to save space, a copy in place is a loop in microcode.)
#[inline(never)]
pub fn copy(words: &Words) -> Words {
    *words
}

/// No words, as quickly.
#[inline(never)]
pub fn no_words() -> Words {
    [0; MESSAGE_WORDS]
}

impl Registers {
    /// Puts the answer of a system call there; what is no part of it is cleared. (`other` is clear already: see there.)
    #[inline(never)]
    pub fn answer(&mut self, status: u64, label: u64, badge: u64, words: &Words) {
        (self.operation, self.label, self.slots, self.reply, self.deadline) = (status, label, badge, 0, 0);
        self.words = *words;
    }

    /// The same of an answer without a message.
    #[inline(never)]
    pub fn answer_plainly(&mut self, status: u64, badge: u64) {
        (self.operation, self.label, self.slots, self.reply, self.deadline) = (status, 0, badge, 0, 0);
        self.words = [0; MESSAGE_WORDS];
    }
}

/// Bytes for floating-point and vector state: what XSAVE needs with AVX-512, or RISC-V's F and D registers with V
/// registers of up to 512 bits.
pub const FPU_BYTES: usize = 3008;

/// A link in a queue of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Links {
    /// The thread behind.
    pub next: Ref<Thread>,
    /// The thread in front.
    pub previous: Ref<Thread>,
}

/// A first-in, first-out queue of threads, linked through [`Thread::links`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Queue {
    /// The first thread.
    pub head: Ref<Thread>,
    /// The last.
    pub tail: Ref<Thread>,
}

/// Number of capability slots inside a Thread.
pub const THREAD_SLOTS: usize = 5;
/// Words of a thread's name.
pub const NAME_WORDS: usize = 4;

/// A thread: a page, because what threads on two cores write must not lie on one.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Thread {
    /// Registers, at offset 0: the trap entry saves here.
    pub registers: Registers,
    /// Floating-point and vector state, in the architecture's own layout, at offset 320 (a multiple of 64).
    pub fpu: [u8; FPU_BYTES],
    /// Its capabilities: table, address space, fault endpoint, bound notification, scheduling context. See
    /// `anos_core::thread`.
    pub slots: [Slot; THREAD_SLOTS],
    /// Its place in the queue it stands in.
    pub links: Links,
    /// The object it waits on (Endpoint or Notification), or whose answer it waits for (Reply); 0 if none.
    pub waits_on: u64,
    /// Its place in its core's list of deadlines.
    pub timer: Links,
    /// When its wait ends, ns; [`anos_abi::syscall::FOREVER`] if never.
    pub deadline: u64,
    /// CPU time used, ns.
    pub cpu_time: u64,
    /// The badge that the receiver will see (while it waits to send).
    pub badge: u64,
    /// Pending fault, while `Faulted` or sending a fault: kind, address, cause.
    pub fault: [u64; 3],
    /// Priority.
    pub priority: u8,
    /// The highest priority it may give.
    pub ceiling: u8,
    /// Its [`anos_abi::object::ThreadState`] as a number.
    pub state: u8,
    /// The core it runs on.
    pub core: u8,
    /// 1: stands in a ready queue.
    pub queued: u8,
    /// Sending: 1 if it waits for an answer afterwards (call or fault), 2 if it carries a fault.
    pub sending: u8,
    /// 1: its system calls and faults go to its fault endpoint: it is a program of another system.
    pub foreign: u8,
    /// Its bucket in its core's deadlines, plus one; 0: none.
    pub bucket: u8,
    /// 1: floating-point and vector instructions are illegal for it.
    pub no_fpu: u8,
    /// Its own priority: what it goes back to with CPU time of its own, after it ran on a caller's.
    pub own_priority: u8,
    /// Unused.
    pub reserved: [u8; 6],
    /// What is left of its turn, ns, if it was interrupted in it by a more urgent thread; else 0.
    pub turn_left: u64,
    /// For the architecture: nonzero once the thread has used floating point, and so on.
    pub machine: [u64; 4],
    /// What people call it, UTF-8, filled up with zeros.
    pub name: [u64; NAME_WORDS],
    /// The scheduling context that it runs on, or has lent; none: it gets no CPU time.
    pub context: Ref<SchedContext>,
    /// The thread that lent it the scheduling context, for a call.
    pub lender: Ref<Thread>,
    /// The thread to which it has lent the scheduling context.
    pub borrower: Ref<Thread>,
}

/// CPU time that is to come back to a scheduling context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Refill {
    /// When, ns.
    pub time: u64,
    /// How much, ns; 0: none.
    pub amount: u64,
}

/// Refills that a scheduling context can have waiting.
pub const REFILLS: usize = 4;

/// A scheduling context, 128 bytes. All in one page are of the same core.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SchedContext {
    /// CPU time in every period, ns.
    pub budget: u64,
    /// The period, ns; 0: it may run for ever.
    pub period: u64,
    /// What is left now, ns; negative if the last run was longer than the rest.
    pub left: i64,
    /// What will come back, in the order of time.
    pub refills: [Refill; REFILLS],
    /// CPU time used so far, ns.
    pub used: u64,
    /// The thread that it is bound to.
    pub owner: Ref<Thread>,
    /// The thread that runs on it: the owner, or the last of those to whom it was lent.
    pub user: Ref<Thread>,
    /// The core.
    pub core: u8,
    /// 1: running out of budget is a fault.
    pub faults: u8,
    /// To how many threads in a row it has been lent.
    pub lent: u8,
    /// Unused.
    pub reserved: [u8; 5],
    /// Keeps the stride a power of two.
    pub padding: u64,
}

/// An endpoint, 64 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Endpoint {
    /// Threads that wait, all to send or all to receive.
    pub queue: Queue,
    /// 0: nobody waits; 1: senders wait; 2: receivers wait.
    pub waiting: u64,
    /// How far the waits of one badge have been called off: the next thread to look at; none: from the first.
    pub cursor: Ref<Thread>,
    /// Which badge that is.
    pub cursor_badge: u64,
}

/// A notification, 64 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Notification {
    /// Bits signalled and not yet taken.
    pub bits: u64,
    /// Threads that wait.
    pub queue: Queue,
    /// The thread that it is bound to.
    pub bound: Ref<Thread>,
}

/// A reply object, 64 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Reply {
    /// The thread that waits for the answer; none if free.
    pub caller: Ref<Thread>,
}

/// An address space: its root table's page, as 512 entries.
pub type AddressSpace = [u64; 512];

/// What the kernel knows of a physical page, 32 bytes.
///
/// A page has a set of homes. Who holds the lock of one of them may read what lies in the page; who holds all of them may
/// change it, and the set itself (to one whose locks it holds too). So a home whose lock is held stays one. The fields
/// are atomic, because several may read at once; only the store hands out references.
#[derive(Debug, Default)]
#[repr(C)]
pub struct PageRecord {
    label: AtomicU32,
    version: AtomicU32,
    /// With the boot core's bit turned over: a fresh page (zeros) is at home there.
    homes: AtomicU64,
    loaded: AtomicU64,
    space: AtomicU64,
    /// Nothing, but for explorations: who uses what lies in the page.
    pub(crate) watch: Watch,
}

/// What a page holds and whose it is, in one number to compare: its [`Kind`], and above that the number of the core that
/// alone is at home there. Zeros: nothing, on the boot core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Label(u32);

impl Label {
    /// In place of a core's number: not one core alone.
    const SEVERAL: u8 = 0xff;

    /// A page of this kind that is at home on this core alone.
    #[inline(always)]
    pub const fn of(kind: u8, core: CoreId) -> Label {
        Label::new(kind, core.number())
    }

    /// The same page with this kind, which had none.
    #[inline(always)]
    pub const fn with(self, kind: u8) -> Label {
        Label(self.0 | kind as u32)
    }

    const fn new(kind: u8, owner: u8) -> Label {
        Label(u32::from_le_bytes([kind, owner, 0, 0]))
    }

    const fn kind(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    const fn owner(self) -> u8 {
        self.0.to_le_bytes()[1]
    }
}

impl PageRecord {
    /// See there. It changes with the homes: so who holds the lock of a core, and reads here that this is the page's only
    /// home, can count on it.
    #[inline(always)]
    pub(crate) fn label(&self) -> Label {
        Label(self.label.load(Ordering::Relaxed))
    }

    fn set_label(&self, kind: u8, owner: u8) {
        self.label.store(Label::new(kind, owner).0, Ordering::Relaxed);
    }

    /// The [`Kind`] of object that the page holds; 0: none (free, or the kernel's own).
    #[inline]
    pub fn kind(&self) -> u8 {
        self.label().kind()
    }

    pub(crate) fn set_kind(&self, kind: Kind) {
        self.set_label(kind as u8, self.label().owner());
    }

    /// The cores at home here.
    #[inline]
    pub fn homes(&self) -> CoreSet {
        CoreSet(self.homes.load(Ordering::Relaxed) ^ CoreId::BOOT.bit())
    }

    pub(crate) fn set_homes(&self, homes: CoreSet) {
        self.homes.store(homes.0 ^ CoreId::BOOT.bit(), Ordering::Relaxed);
        let mut rest = homes;
        let owner = rest.pop().filter(|_| rest == CoreSet::NONE).map_or(Label::SEVERAL, CoreId::number);
        self.set_label(self.kind(), owner);
    }

    /// AddressSpace: the cores that have loaded it, some of which may have gone on to others. All are at home here.
    pub fn loaded(&self) -> CoreSet {
        CoreSet(self.loaded.load(Ordering::Relaxed))
    }

    /// A core loads it. Others may do the same at this moment.
    pub fn add_loaded(&self, core: CoreId) {
        self.loaded.fetch_or(core.bit(), Ordering::Relaxed);
    }

    /// Who has it loaded still. With the locks of all its homes.
    pub fn set_loaded(&self, cores: CoreSet) {
        self.loaded.store(cores.0, Ordering::Relaxed);
    }

    /// AddressSpace: its id, never used twice; 0 for what is none.
    pub fn space(&self) -> u64 {
        self.space.load(Ordering::Relaxed)
    }

    /// Gives it an id.
    pub fn set_space(&self, id: u64) {
        self.space.store(id, Ordering::Relaxed);
    }

    /// AddressSpace: how often translations of it have become void, modulo 2^32.
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }

    /// Translations become void.
    pub fn set_version(&self, version: u32) {
        self.version.store(version, Ordering::Relaxed);
    }
}
