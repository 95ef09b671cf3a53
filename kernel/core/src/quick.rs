//! The short way of what programs do most: `send` and `call` to a server that waits, `reply_recv` to a caller that waits,
//! signals and waiting for them (`signal`), `yield` (`turns`), methods that have nothing to do with who runs; and of faults
//! and interrupts (`event`).
//!
//! It does all of it, exactly as the general way would, or nothing: then it goes the general way. What it asks
//! for is the usual case: everybody is at home on this core, whose lock is free; the message passes no capability and waits
//! without a deadline; nobody else waits at the endpoint or notification; nobody's CPU time is limited; and who gets a
//! message runs next, whoever else is ready.
//!
//! It never waits for a lock. So it needn't say that this core is in the kernel: who holds the lock meanwhile finds that out
//! as soon as this core fails to get it, and nobody can hold it before this core is through.

use anos_abi::object::ThreadState;
use anos_abi::syscall::FOREVER;
use anos_abi::{Error, Kind, Operation, PAGE_SIZE, Rights, Slots, Status, SystemCall, fault};
use anos_machine::records::Words;
use anos_machine::{
    CoreId, Endpoint, Fixed, Known, Links, Machine, Notification, Queue, Ref, Registers, Reply, SchedContext, SlotRef,
    Thread,
};

use crate::bounds::{LENDINGS, TAGS, TURN_NS};
use crate::call::Answer;
use crate::context::spend;
use crate::ipc::{CALL, FAULT, RECEIVERS, SEND};
use crate::memory::tag_of;
use crate::state::{CoreState, Tag};
use crate::table::slot_of;
use crate::thread::Part;
use crate::{Kernel, Outcome, Visit};

mod event;
mod signal;
mod turns;

pub use event::quick_event;

/// The running thread has made a system call: if that can go the short way, it has gone it, and this thread is to run.
/// `None`: nothing has happened, and the call is for [`enter`](crate::enter).
#[inline(always)]
pub fn quick<M: Machine>(kernel: &Kernel, machine: &mut M) -> Option<Ref<Thread>> {
    let me = machine.core();
    let mut own = kernel.try_own(me)?;
    let (now, tags) = (machine.now(), machine.tags() >= TAGS as u64);
    let (core, store) = own.parts();
    let way = store.fixed(|memory| Message { core: &mut *core, memory, me, now, tags }.send())?;
    let next = core.current;
    match way {
        Way::Gone(space) => {
            core.counters.calls += 1;
            drop(own);
            load_space(machine, space);
        }
        Way::Method(at) => {
            let visit = Visit { held: own.held(), machine, kernel, me, short: true, answer: Answer::none(), woken: 0 };
            visit.short_method(next, at).ok()?;
        }
    }
    next.some()
}

/// What has become of a system call.
enum Way {
    /// It has been made. The address space to load: see [`FLUSH`].
    Gone(u64),
    /// Nothing yet: it is for the kernel object that this capability leads to.
    Method(SlotRef),
}

/// Has a machine load what a [`Way`] says.
#[inline(always)]
fn load_space<M: Machine>(machine: &mut M, space: u64) {
    if space != 0 {
        machine.load_root(space & !BITS, space >> 1 & BITS >> 1, space & FLUSH != 0);
    }
}

/// The address space to load, in one word: its root table, its tag from bit 1 on, and whether to flush. 0: it is loaded.
const FLUSH: u64 = 1;
/// The bits that are not the root table's address.
const BITS: u64 = PAGE_SIZE - 1;

/// Whether the methods of such an object have nothing to do with who runs, and until when. (Where one ends an object, it
/// needs all locks, and so goes the general way.)
const fn is_still(kind: u8) -> bool {
    const STILL: [Kind; 7] = [
        Kind::Untyped,
        Kind::Frame,
        Kind::PageTable,
        Kind::AddressSpace,
        Kind::CapTable,
        Kind::Interrupt,
        Kind::IoPort,
    ];
    let mut kinds = 0_u32;
    let mut place = 0;
    // bound: ARRAY
    while place < STILL.len() {
        kinds |= 1 << STILL[place] as u32;
        place += 1;
    }
    kinds >> (kind & 31) & 1 != 0
}

impl<M: Machine> Visit<'_, M> {
    /// The running thread calls a kernel object, and runs on. An error: nothing has happened.
    #[inline(never)]
    fn short_method(mut self, thread: Ref<Thread>, at: SlotRef) -> Outcome {
        let target = self.slot(at)?.copy();
        self.method(thread, at, &target)?;
        let counters = &mut self.mine()?.counters;
        counters.calls += 1;
        counters.locks += 1;
        Ok(())
    }
}

/// From a sender to the thread that runs next.
struct Hop<'id> {
    sender: Known<'id, Thread>,
    /// What the sender runs on.
    context: Known<'id, SchedContext>,
    next: Known<'id, Thread>,
    at: Ref<Thread>,
    /// At which that will run.
    priority: u8,
}

/// What goes the short way, and what it has to do with.
struct Message<'id, 's> {
    core: &'s mut CoreState,
    memory: Fixed<'id, 's>,
    me: CoreId,
    now: u64,
    tags: bool,
}

impl<'id> Message<'id, '_> {
    /// The running thread's system call.
    #[inline(always)]
    fn send(&mut self) -> Option<Way> {
        let sender = self.memory.know(self.core.current)?;
        let record = self.memory.see(sender);
        let registers = &record.registers;
        let operation = Operation(registers.operation);
        let reply = registers.reply;
        // A deadline is none from half of all time on: see `start_deadline`.
        const A_YIELD: u32 = SystemCall::Yield as u32;
        const AN_ANSWER: u32 = SystemCall::ReplyRecv as u32;
        const A_CALL: u32 = SystemCall::Call as u32;
        const A_SEND: u32 = SystemCall::Send as u32;
        if record.foreign != 0 {
            return None;
        }
        if operation.number() == A_YIELD {
            return self.yield_turn(sender).map(Way::Gone);
        }
        let plain = Slots(registers.slots).pass() == 0 && registers.deadline >= FOREVER >> 1;
        let at = self.slot_at(sender, operation.target().into())?;
        let target = self.memory.read(at)?;
        let (rights, object, badge) = (target.rights(), target.object, target.badge);
        let (kind, number) = (target.kind, operation.number());
        let space = if kind == Kind::Endpoint as u8 && plain {
            match number {
                AN_ANSWER if rights.contains(Rights::READ) => self.reply_recv(sender, object, reply),
                A_CALL if rights.contains(Rights::WRITE) => self.call(sender, object, badge, None),
                A_SEND if rights.contains(Rights::WRITE) => self.give(sender, object, badge),
                _ => None,
            }
        } else if kind == Kind::Notification as u8 && plain {
            self.send_or_wait(sender, rights, object, badge)
        } else if is_still(kind) && matches!(number, A_CALL | A_SEND) {
            self.stays(sender)?;
            return Some(Way::Method(at));
        } else if kind == Kind::Empty as u8 && matches!(number, A_CALL | A_SEND | AN_ANSWER) {
            self.stays(sender)?;
            self.answer(sender, Status::error(Error::EmptySlot).0, 0);
            self.goes_on()
        } else {
            None
        };
        space.map(Way::Gone)
    }

    /// The slot with this number of the table that a thread uses.
    #[inline(always)]
    fn slot_at(&self, thread: Known<'id, Thread>, index: u64) -> Option<SlotRef> {
        let table = &self.memory.see(thread).slots[Part::Table as usize];
        if table.kind == Kind::CapTable as u8 { slot_of(table, index).ok() } else { None }
    }

    /// The Reply in a slot of a thread's table.
    #[inline(always)]
    fn reply_in(&self, thread: Known<'id, Thread>, index: u64) -> Option<Ref<Reply>> {
        let slot = self.memory.read(self.slot_at(thread, index)?)?;
        if slot.kind == Kind::Reply as u8 { Some(Ref::at(slot.object)) } else { None }
    }

    /// The endpoint there, and the one thread that waits for a message on it, without a deadline.
    #[inline(always)]
    fn receiver(&self, object: u64) -> Option<(Known<'id, Endpoint>, Known<'id, Thread>, Ref<Thread>)> {
        let endpoint = self.memory.know(Ref::<Endpoint>::at(object))?;
        let Endpoint { queue, waiting, cursor, .. } = *self.memory.see(endpoint);
        if waiting != RECEIVERS || queue.head != queue.tail || !cursor.is_none() {
            return None;
        }
        let receiver = self.memory.know(queue.head)?;
        if self.memory.see(receiver).bucket == 0 { Some((endpoint, receiver, queue.head)) } else { None }
    }

    /// A thread calls, or tells how it faulted.
    #[inline(always)]
    fn call(&mut self, sender: Known<'id, Thread>, object: u64, badge: u64, fault: Option<&Words>) -> Option<u64> {
        let (endpoint, receiver, receiver_at) = self.receiver(object)?;
        let record = self.memory.see(receiver);
        let passive = record.context.is_none();
        let (priority, index) = (record.priority, record.registers.reply);
        let reply_at = self.reply_in(receiver, index)?;
        let reply = self.memory.know(reply_at)?;
        if !self.memory.see(reply).caller.is_none() {
            return None;
        }
        let (context_at, own_priority) = (self.memory.see(sender).context, self.memory.see(sender).priority);
        let context = self.memory.know(context_at)?;
        if passive {
            if usize::from(self.memory.see(context).lent) >= LENDINGS {
                return None;
            }
        } else {
            self.unlimited(context, receiver)?;
        }
        let caller_at = self.core.current;
        let priority = if passive { own_priority } else { priority };
        let next = self.hop(Hop { sender, context, next: receiver, at: receiver_at, priority })?;
        // It is decided.
        let (sending, state, deadline) = match fault {
            None => {
                self.hand(sender, receiver, Status::ANSWERABLE, badge);
                (CALL, ThreadState::Calling, self.memory.see(sender).registers.deadline)
            }
            Some(words) => {
                self.memory.get(receiver).registers.answer(Status::ANSWERABLE, fault::LABEL, badge, words);
                (FAULT, ThreadState::Faulted, FOREVER)
            }
        };
        let from = self.memory.get(sender);
        (from.sending, from.badge, from.deadline) = (sending, badge, deadline);
        (from.state, from.waits_on) = (state as u8, reply_at.address());
        self.memory.get(reply).caller = caller_at;
        let record = self.memory.get(endpoint);
        (record.queue, record.waiting) = (Queue::default(), 0);
        if passive {
            self.memory.get(sender).borrower = receiver_at;
            let record = self.memory.get(context);
            (record.lent, record.user) = (record.lent + 1, receiver_at);
            let record = self.memory.get(receiver);
            (record.context, record.lender, record.priority) = (context_at, caller_at, own_priority);
            record.fault[0] = 0;
        }
        Some(next)
    }

    /// A thread answers, and waits for the next message.
    #[inline(always)]
    fn reply_recv(&mut self, sender: Known<'id, Thread>, object: u64, index: u64) -> Option<u64> {
        let endpoint = self.memory.know(Ref::<Endpoint>::at(object))?;
        if self.memory.see(endpoint).waiting != 0 {
            return None;
        }
        let reply = self.memory.know(self.reply_in(sender, index)?)?;
        let caller_at = self.memory.see(reply).caller;
        let caller = self.memory.know(caller_at)?;
        let Thread { state, bucket, priority, borrower, .. } = *self.memory.see(caller);
        let calls = state == ThreadState::Calling as u8;
        if bucket != 0 || !calls && !self.resumes(sender, caller) {
            return None;
        }
        let server_at = self.core.current;
        let record = self.memory.see(sender);
        let (context_at, bound) = (record.context, record.slots[Part::Bound as usize].object);
        if bound != 0 && self.memory.see(self.memory.know(Ref::<Notification>::at(bound))?).bits != 0 {
            return None;
        }
        let context = self.memory.know(context_at)?;
        let lent = borrower == server_at;
        if !lent {
            if !borrower.is_none() {
                return None;
            }
            self.unlimited(context, caller)?;
        }
        let next = self.hop(Hop { sender, context, next: caller, at: caller_at, priority })?;
        // It is decided.
        if calls {
            self.hand(sender, caller, Status::OK.0, 0);
        }
        self.memory.get(reply).caller = Ref::NONE;
        if lent {
            self.memory.get(caller).borrower = Ref::NONE;
            let record = self.memory.get(context);
            (record.lent, record.user) = (record.lent - 1, caller_at);
            let record = self.memory.get(sender);
            (record.context, record.lender) = (Ref::NONE, Ref::NONE);
        }
        let from = self.memory.get(sender);
        (from.sending, from.deadline, from.links) = (SEND, from.registers.deadline, Links::default());
        (from.state, from.waits_on) = (ThreadState::Receiving as u8, object);
        let record = self.memory.get(endpoint);
        (record.queue, record.waiting) = (Queue { head: server_at, tail: server_at }, RECEIVERS);
        Some(next)
    }

    /// Whether neither this context nor that of a thread which is about to run has a limit: then the timer stays as it is.
    #[inline(always)]
    fn unlimited(&self, context: Known<'id, SchedContext>, next: Known<'id, Thread>) -> Option<()> {
        let other = self.memory.know(self.memory.see(next).context)?;
        if self.memory.see(context).period | self.memory.see(other).period == 0 { Some(()) } else { None }
    }

    /// The last that can stand in the way: somebody else ready, or an address space that others share. If nothing does,
    /// the message is sent: its receiver runs, in its own space, and the time until now was the sender's.
    #[inline(always)]
    fn hop(&mut self, hop: Hop<'id>) -> Option<u64> {
        if self.core.ready_count != 0 && self.core.best().is_none_or(|best| best >= hop.priority) {
            return None;
        }
        let space = self.change(hop.sender, hop.context, hop.next)?;
        let next = self.memory.get(hop.next);
        (next.state, next.waits_on) = (ThreadState::Ready as u8, 0);
        self.core.current = hop.at;
        self.core.turn_end = self.core.since.saturating_add(TURN_NS);
        self.core.counters.quick += 1;
        Some(space)
    }

    /// A message, from its sender's registers to its receiver's.
    #[inline(always)]
    fn hand(&mut self, sender: Known<'id, Thread>, receiver: Known<'id, Thread>, status: u64, badge: u64) {
        let Registers { label, words: [a, b, c, d, e, f, g, h], .. } = self.memory.get(sender).registers;
        let registers = &mut self.memory.get(receiver).registers;
        (registers.operation, registers.label, registers.slots) = (status, label, badge);
        (registers.reply, registers.deadline, registers.words) = (0, 0, [a, b, c, d, e, f, g, h]);
    }

    /// The time until now was the running thread's.
    #[inline(always)]
    fn charge(&mut self, thread: Known<'id, Thread>, context: Known<'id, SchedContext>) {
        let since = self.core.since;
        let spent = self.now.saturating_sub(since);
        self.core.since = since + spent;
        spend(self.memory.get(context), since, spent);
        let record = self.memory.get(thread);
        record.cpu_time = record.cpu_time.wrapping_add(spent);
    }

    /// This core is about to be in a thread's address space. If that can be, it is: so this is the last to ask.
    #[inline(always)]
    fn enter_space(&mut self, next: Known<'id, Thread>) -> Option<u64> {
        let root = self.memory.see(next).slots[Part::Space as usize].object;
        if root == self.core.loaded { Some(0) } else { self.load(root) }
    }

    /// This core is about to be in another address space.
    #[inline(always)]
    fn load(&mut self, root: u64) -> Option<u64> {
        let record = self.memory.page(root)?;
        if !record.loaded().contains(self.me) {
            record.add_loaded(self.me);
        }
        let now = Tag { space: record.space(), version: record.version() };
        let mut space = root | FLUSH;
        if self.tags {
            let known = tag_of(self.core, now.space)?;
            let flush = *known != now || now.version == u32::MAX;
            *known = now;
            space = root | (now.space % TAGS as u64 + 1) << 1 | u64::from(flush);
        }
        self.core.loaded = root;
        Some(space)
    }
}
