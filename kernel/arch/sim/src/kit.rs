//! What most tests need: slots, objects and threads, made by the root server as a program would.

use anos_abi::boot::slot;
use anos_abi::object::{Method, ThreadState};
use anos_abi::{Error, Kind, PAGE_SIZE, SystemCall};
use anos_machine::{CoreId, Ref, Slot, Thread};

use crate::check;
use crate::message::{Answer, Message};
use crate::sim::{Sim, core_id};

/// A thread that a test plays.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The slot of its Thread capability in the root server's table.
    pub slot: u32,
    /// The thread.
    pub thread: Ref<Thread>,
    /// The slot of its SchedContext there.
    pub context: u32,
    /// The core it was started on.
    pub core: CoreId,
}

/// The slot of a core's SchedControl in the root server's table.
pub fn sched_control(core: u64) -> u32 {
    slot::SCHED_CONTROL + u32::try_from(core).expect("few cores")
}

impl Sim {
    /// A slot of the root server's table that nobody used yet.
    pub fn slot(&mut self) -> u32 {
        self.slots(1)
    }

    /// The first of several such slots in a row.
    pub fn slots(&mut self, count: u32) -> u32 {
        self.next_slot += count;
        self.next_slot - count
    }

    /// Checks every rule.
    #[track_caller]
    pub fn check(&self) {
        if let Err(broken) = check::check(self) {
            panic!("{broken}");
        }
    }

    /// Calls a method on the boot core until it no longer answers `Again`; other cores go on meanwhile.
    pub fn until_done(&mut self, slot: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> Answer {
        for _ in 0..100_000 {
            let answer = self.call(CoreId::BOOT, slot, method, words, pass, receive);
            self.check();
            self.settle();
            if answer.result() != Err(Error::Again) {
                return answer;
            }
        }
        panic!("{method:?} never ends");
    }

    /// A method that must succeed; its results.
    #[track_caller]
    pub fn ok(&mut self, slot: u32, method: Method, words: &[u64], pass: u32) -> [u64; 8] {
        let answer = self.until_done(slot, method, words, pass, 0);
        answer.result().unwrap_or_else(|error| panic!("{method:?} on slot {slot}: {error}"))
    }

    /// Makes objects from an Untyped, into new slots; the first.
    #[track_caller]
    pub fn make_from(&mut self, untyped: u32, kind: Kind, size: u64, count: u32) -> u32 {
        let receive = self.slots(count);
        let words = [kind as u64, size, count.into(), 0];
        let answer = self.until_done(untyped, Method::UntypedRetype, &words, 0, receive);
        answer.result().unwrap_or_else(|error| panic!("{count} {kind:?} of {size}: {error}"));
        assert!(answer.status.has_capability());
        receive
    }

    /// Makes an object from the root server's first Untyped.
    #[track_caller]
    pub fn make(&mut self, kind: Kind, size: u64) -> u32 {
        self.make_from(slot::UNTYPED, kind, size, 1)
    }

    /// Copies a capability to a new slot, with these rights.
    #[track_caller]
    pub fn copy(&mut self, from: u32, rights: u8) -> u32 {
        let to = self.slot();
        self.ok(slot::CAP_TABLE, Method::CapTableCopy, &[to.into(), rights.into()], from);
        to
    }

    /// Copies a capability to a new slot, with all rights and a badge.
    #[track_caller]
    pub fn mint(&mut self, from: u32, badge: u64) -> u32 {
        let to = self.slot();
        self.ok(slot::CAP_TABLE, Method::CapTableMint, &[to.into(), 15, badge], from);
        to
    }

    /// Deletes the capability in a slot.
    #[track_caller]
    pub fn delete(&mut self, at: u32) {
        self.ok(slot::CAP_TABLE, Method::CapTableDelete, &[at.into()], 0);
    }

    /// Deletes all that was derived from a capability.
    #[track_caller]
    pub fn revoke(&mut self, at: u32) {
        self.ok(slot::CAP_TABLE, Method::CapTableRevoke, &[at.into()], 0);
    }

    /// What a slot of the root server's table holds.
    pub fn look(&self, at: u32) -> Slot {
        let table = self.root_table();
        self.with_store(|store| *store.see::<Slot>(Ref::at(table + u64::from(at) * 64)).expect("a slot"))
    }

    /// Physical address of the root server's table.
    pub fn root_table(&self) -> u64 {
        let pages = (0..self.board.ram.pages()).map(|page| crate::memory::RAM_BASE + page * PAGE_SIZE);
        let own = |page: &u64| {
            self.with_store(|store| {
                let at = page + u64::from(slot::CAP_TABLE) * 64;
                store.see::<Slot>(Ref::at(at)).is_ok_and(|own| own.kind() == Kind::CapTable && own.object == *page)
            })
        };
        pages.into_iter().find(own).expect("the root server has a table")
    }

    /// A thread with the root server's table and space, not started.
    #[track_caller]
    pub fn new_thread(&mut self, core: u64, priority: u8) -> Program {
        let at = self.make(Kind::Thread, 0);
        self.ok(at, Method::ThreadSetTable, &[], slot::CAP_TABLE);
        self.ok(at, Method::ThreadSetSpace, &[], slot::ADDRESS_SPACE);
        self.ok(at, Method::ThreadSetPriority, &[priority.into(), priority.into()], 0);
        let context = self.make_context(core);
        self.ok(at, Method::ThreadSetContext, &[], context);
        Program { slot: at, thread: Ref::at(self.look(at).object), context, core: core_id(core) }
    }

    /// A scheduling context of a core, without a limit.
    #[track_caller]
    pub fn make_context(&mut self, core: u64) -> u32 {
        let receive = self.slot();
        let words = [Kind::SchedContext as u64, 0, 1, 0];
        let answer = self.until_done(slot::UNTYPED, Method::UntypedRetype, &words, sched_control(core), receive);
        answer.result().unwrap_or_else(|error| panic!("a context of core {core}: {error}"));
        receive
    }

    /// Moves a thread to a core: gives it a context of that core.
    #[track_caller]
    pub fn move_to(&mut self, program: Program, core: u64) -> u32 {
        let context = self.make_context(core);
        self.ok(program.slot, Method::ThreadSetContext, &[], context);
        context
    }

    /// Limits a context of a core.
    #[track_caller]
    pub fn limit(&mut self, core: u64, context: u32, budget: u64, period: u64, faults: bool) {
        self.ok(sched_control(core), Method::SchedControlLimit, &[budget, period, faults.into()], context);
    }

    /// A thread with the root server's table and space that runs, or is ready to.
    #[track_caller]
    pub fn spawn(&mut self, core: u64, priority: u8) -> Program {
        let program = self.new_thread(core, priority);
        self.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
        self.settle();
        program
    }

    /// The program makes a system call, which may make it wait.
    #[track_caller]
    pub fn run(&mut self, program: Program, call: SystemCall, target: u32, message: &Message) {
        assert_eq!(self.thread(program.core), Some(program.thread), "the program runs");
        self.system_call(program.core, call, target, message);
        self.check();
        self.settle();
        self.check();
    }

    /// What a thread does.
    pub fn state(&self, program: Program) -> ThreadState {
        self.with_store(|store| ThreadState::from_number(store.see(program.thread).expect("a thread").state.into()))
    }

    /// What the program's last system call answered.
    pub fn answer_of(&self, program: Program) -> Answer {
        self.answer(program.thread)
    }

    /// The words of a page of main memory.
    pub fn page(&self, address: u64) -> Vec<u64> {
        (0..512).map(|word| self.board.ram.read(address + word * 8)).collect()
    }

    /// The memory of a Frame in a slot of the root server's table, as words.
    pub fn frame(&self, at: u32) -> Vec<u64> {
        self.frame_words(&self.look(at)).collect()
    }

    /// The memory of a Frame, as words.
    pub fn frame_words(&self, frame: &Slot) -> impl Iterator<Item = u64> {
        let start = frame.object;
        (0..frame.extent * 512).map(move |word| self.board.ram.read(start + word * 8))
    }

    /// The root server's own thread.
    pub fn root(&self) -> Program {
        let thread = Ref::at(self.look(slot::THREAD).object);
        Program { slot: slot::THREAD, thread, context: slot::SCHED_CONTEXT, core: CoreId::BOOT }
    }
}
