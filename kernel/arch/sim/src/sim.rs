//! The simulated machine with a kernel on it, and programs played by the test: one call is one step of one core.

use std::fmt;

use anos_abi::boot::BootInfo;
use anos_abi::fault::FaultKind;
use anos_abi::object::Method;
use anos_abi::{Kind, PAGE_SIZE, SystemCall};
use anos_core::boot::{BootError, Found, Run};
use anos_core::{Entry, Kernel};
use anos_machine::{CoreId, CoreSet, Event, Fault, Next, Place, Ref, Slot, Store, Thread};

use crate::board::{Board, Config, View};
use crate::memory::{RAM_BASE, index};
use crate::message::{Answer, Message};
use crate::mmu::Access;
use crate::payload::Payload;

/// Pages that the simulated kernel keeps for itself.
pub const KERNEL_PAGES: u64 = 16;
/// Devices that programs may own: a single page, and a run that isn't a power of two.
pub const DEVICES: [Run; 2] =
    [Run { address: 0x1000_0000, bytes: PAGE_SIZE }, Run { address: 0x3000_0000, bytes: 24 * PAGE_SIZE }];
/// Ticks per second of the counter that programs read.
pub const COUNTER_FREQUENCY: u64 = 10_000_000;

/// A machine with a kernel.
pub struct Sim {
    /// The kernel's state. Before the board: it goes first.
    pub kernel: Box<Kernel>,
    /// The machine.
    pub board: Board,
    /// The free runs that the kernel was told of.
    pub free: Vec<Run>,
    /// Slots handed out by [`Sim::slot`].
    pub next_slot: u32,
    /// System calls made.
    pub system_calls: u64,
    /// Visits to the kernel.
    visits: u64,
    /// Which of the messages that go the short way are also sent the general way, to compare: every `n`th visit's.
    pub compare_every: u64,
    /// Messages compared so.
    pub compared: u64,
    /// What the kernel did at the last step of each core.
    pub last: Vec<Next>,
    /// Pages that were typed at boot: the root server's own.
    boot_pages: Vec<bool>,
}

impl fmt::Debug for Sim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sim").field("processors", &self.board.processors).finish_non_exhaustive()
    }
}

/// Whether this word of a running thread's record means nothing while it runs: how its next wait or fault would look.
fn is_dead(running: Ref<Thread>, address: u64) -> bool {
    let Some(offset) = address.checked_sub(running.address()) else { return false };
    [
        std::mem::offset_of!(Thread, deadline),
        std::mem::offset_of!(Thread, badge),
        std::mem::offset_of!(Thread, fault),
        std::mem::offset_of!(Thread, fault) + 8,
        std::mem::offset_of!(Thread, fault) + 16,
        std::mem::offset_of!(Thread, sending) & !7,
    ]
    .contains(&index(offset))
}

/// Whether this word tells how far an Untyped has been cleared, or is one of those that were: what a retype has cleared
/// stays so, even if it then lacks a lock, and nobody can see it.
fn is_clearing(after: &[u64], changed: &[u64], address: u64) -> bool {
    let word = |address: u64| after[index((address - RAM_BASE) / 8)];
    let slot_of = |address: u64| {
        let (slot, offset) = (address & !63, index(address & 63));
        let progress = [std::mem::offset_of!(Slot, space), std::mem::offset_of!(Slot, root)].contains(&offset);
        if progress && word(slot) & 0xff == Kind::Untyped as u64 { Some(slot) } else { None }
    };
    let holds = |slot: u64| {
        let (start, pages) = (word(slot + 8), word(slot + 16));
        address.checked_sub(start).is_some_and(|offset| offset / PAGE_SIZE < pages)
    };
    let cleared = || changed.iter().filter_map(|at| slot_of(*at)).any(holds) && word(address) == 0;
    slot_of(address).is_some() || cleared()
}

/// The core with this number.
pub fn core_id(number: u64) -> CoreId {
    CoreId::new(number).expect("a core that could exist")
}

impl Sim {
    /// A machine with `cores` cores that has booted: the root server's first thread is about to run on core 0.
    pub fn boot(cores: u64) -> Sim {
        Sim::boot_with(Config::cores(cores), &Payload::default().bytes(), 1).expect("the machine boots")
    }

    /// Boots with this hardware, this payload, and `holes` holes in free memory.
    pub fn boot_with(config: Config, payload: &[u8], holes: u64) -> Result<Sim, BootError> {
        let mut board = Board::new(config);
        let payload_at = RAM_BASE + KERNEL_PAGES * PAGE_SIZE;
        let room = board.ram.end() - payload_at;
        let payload_bytes = &payload[..payload.len().min(index(room))];
        board.ram.fill(payload_at, payload_bytes);
        let payload_words: Vec<u64> =
            payload_bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let devicetree =
            Run { address: payload_at + (payload.len() as u64).next_multiple_of(PAGE_SIZE), bytes: PAGE_SIZE };
        let mut start = devicetree.address + devicetree.bytes;
        let mut free = Vec::new();
        let share = board.ram.end().saturating_sub(start) / PAGE_SIZE / (holes + 1);
        for hole in 0..=holes {
            let end = if hole == holes { board.ram.end() } else { start + share * PAGE_SIZE };
            // Old contents, so that what the kernel hands out unclean is seen.
            for word in (start..end).step_by(8) {
                board.ram.write(word, 0xdead_beef_dead_beef);
            }
            free.push(Run { address: start, bytes: end.saturating_sub(start) });
            start = end + PAGE_SIZE;
        }
        if devicetree.address < board.ram.end() {
            board.ram.write(devicetree.address, 0xd00d_feed);
        }
        let kernel = Box::new(Kernel::new());
        let memory = board.ram.memory();
        // SAFETY: nobody holds anything yet, and the machine's memory lives as long as the kernel (`Sim` owns both).
        unsafe { kernel.set_memory(memory) };
        let cores = board.config.cores;
        let found = Found {
            architecture: 3,
            counter_frequency: COUNTER_FREQUENCY,
            counter_start: 77,
            ram_bytes: board.ram.pages() * PAGE_SIZE,
            free: &free,
            devices: &DEVICES,
            payload: payload_at,
            payload_words: &payload_words,
            devicetree,
            acpi_rsdp: 0,
            command_line: b"console=simulated",
            io_ports: board.config.io_ports,
        };
        let mut view = View::<true> { board: &mut board, presence: &kernel.presence, core: CoreId::BOOT };
        anos_core::boot::start(&kernel, &mut view, &found)?;
        let last = vec![Next::Idle; index(cores)];
        let mut sim = Sim {
            kernel,
            board,
            free,
            next_slot: 1000,
            system_calls: 0,
            visits: 0,
            compare_every: 64,
            compared: 0,
            last,
            boot_pages: Vec::new(),
        };
        sim.boot_pages = sim.typed_pages();
        for core in 0..cores {
            sim.enter(core_id(core), Event::Start);
        }
        Ok(sim)
    }

    /// Looks at kernel memory. Not while a kernel runs, which a test can't.
    pub fn with_store<T>(&self, look: impl FnOnce(&mut Store) -> T) -> T {
        look(self.kernel.hold(CoreId::BOOT, CoreSet::ALL, || unreachable!("one thread plays all cores")).store)
    }

    /// The thread that the kernel takes for the running one on a core.
    pub fn current(&self, core: CoreId) -> Option<Ref<Thread>> {
        let mut held = self.kernel.hold(CoreId::BOOT, CoreSet::ALL, || unreachable!("one thread plays all cores"));
        held.core(core).expect("all locks are held").current.some()
    }

    fn typed_pages(&self) -> Vec<bool> {
        let pages = (0..self.board.ram.pages()).map(|page| RAM_BASE + page * PAGE_SIZE);
        self.with_store(|store| pages.map(|page| store.record(page).is_ok_and(|record| record.kind() != 0)).collect())
    }

    /// Whether the kernel took this page for the root server when it booted.
    pub fn is_boot_page(&self, address: u64) -> bool {
        let page = address.checked_sub(RAM_BASE).map(|offset| index(offset / PAGE_SIZE));
        page.and_then(|page| self.boot_pages.get(page)).copied().unwrap_or(false)
    }

    /// The thread that runs on a core.
    pub fn thread(&self, core: CoreId) -> Option<Ref<Thread>> {
        self.board.processors[core.index()].thread.some()
    }

    /// A core in user mode or idle takes an event and enters the kernel; then runs what the kernel says.
    pub fn enter(&mut self, core: CoreId, event: Event) -> Next {
        self.trap(core, event);
        self.go_on(core)
    }

    /// A core leaves user mode, or wakes up, and gets as far as the kernel's lock.
    pub fn trap(&mut self, core: CoreId, event: Event) {
        self.board.trap(core, event, &self.kernel.presence);
    }

    /// A core that waits for the kernel's lock gets it.
    pub fn go_on(&mut self, core: CoreId) -> Next {
        let event = self.board.processors[core.index()].trapped.expect("the core waits to enter the kernel");
        self.board.waits.set(0);
        self.visits += 1;
        // What comes while a core is at rest finds no thread.
        let short =
            if self.board.processors[core.index()].thread.is_none() { None } else { self.short_way(core, event) };
        let next = short.map_or_else(|| self.general_way(core, event), Next::Run);
        if let Event::Interrupt(line) = event {
            let line = self.board.lines[line as usize];
            assert!(!(line.level && line.raised && line.unmasked), "{line:?} would interrupt for ever");
        }
        self.leave(core, next);
        self.last[core.index()] = next;
        next
    }

    /// Whether this visit is one that is compared.
    pub(crate) fn is_compared(&self) -> bool {
        self.visits.is_multiple_of(self.compare_every)
    }

    pub(crate) fn general_way(&mut self, core: CoreId, event: Event) -> Next {
        if self.board.config.caches_invalid {
            self.attempts::<true>(core, event)
        } else {
            self.attempts::<false>(core, event)
        }
    }

    /// A core's way through the kernel. Now and then, all memory is compared before and after an attempt that lacked a
    /// lock: nothing may have happened. (A timer may have ended some waits by then: whole ones.)
    fn attempts<const CACHES_INVALID: bool>(&mut self, core: CoreId, event: Event) -> Next {
        let presence = &self.kernel.presence;
        let mut view = View::<CACHES_INVALID> { board: &mut self.board, presence, core };
        let mut entry = Entry::new(&self.kernel, &view, event);
        let watched = view.board.config.cores > 1 && self.visits.is_multiple_of(16) && event != Event::Timer;
        for _ in 0..=anos_abi::MAX_CORES {
            let before = if watched && entry.is_pending() { Some(view.board.ram.image()) } else { None };
            if let Some(next) = entry.attempt(&self.kernel, &mut view) {
                return next;
            }
            if let Some(before) = before.filter(|_| entry.is_pending()) {
                let after = view.board.ram.image();
                let running = view.board.processors[core.index()].thread;
                let pairs = (0u64..).zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
                let changed: Vec<u64> = pairs.map(|(word, _)| RAM_BASE + word * 8).collect();
                let may_change = |at: &&u64| is_dead(running, **at) || is_clearing(&after, &changed, **at);
                let changed = changed.iter().find(|at| !may_change(at));
                assert!(changed.is_none(), "{event:?} on {core:?} lacked a lock, and had changed {changed:x?}");
            }
        }
        panic!("{event:?} on {core:?} never has the locks that it needs");
    }

    /// What trap code does with the kernel's answer.
    fn leave(&mut self, core: CoreId, next: Next) {
        let in_user = self.kernel.presence.get(core) == Place::User;
        let processor = &mut self.board.processors[core.index()];
        processor.trapped = None;
        let thread = match next {
            Next::Run(thread) => thread,
            Next::Idle => Ref::NONE,
        };
        assert_eq!(in_user, matches!(next, Next::Run(_)), "the kernel says where core {core:?} is: {next:?}");
        assert!(!self.kernel.presence.must_flush(core), "core {core:?} was asked to flush, and has not");
        processor.thread = thread;
        if let Some(thread) = thread.some() {
            processor.registers = self.board.ram.restore(thread);
        }
    }

    /// Lets everything that is pending happen, on every core, until all is quiet.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let mut quiet = true;
            for core in (0..self.board.config.cores).map(core_id) {
                if self.board.processors[core.index()].trapped.is_some() {
                    self.go_on(core);
                    quiet = false;
                } else if let Some(event) = self.board.pending(core) {
                    self.enter(core, event);
                    quiet = false;
                }
            }
            if quiet {
                return;
            }
        }
        panic!("the machine does not come to rest");
    }

    /// Time passes, and what is due happens.
    pub fn pass(&mut self, nanoseconds: u64) {
        self.board.clock += nanoseconds;
        self.settle();
    }

    /// The program on a core sets its registers for a system call and traps; the kernel hasn't seen it yet.
    pub fn trap_system_call(&mut self, core: CoreId, call: SystemCall, target: u32, message: &Message) -> Ref<Thread> {
        let processor = &mut self.board.processors[core.index()];
        let thread = processor.thread.some().expect("a program runs on this core");
        assert!(processor.trapped.is_none(), "the program runs");
        message.load(call, target, &mut processor.registers);
        processor.registers.pc = processor.registers.pc.wrapping_add(4);
        self.system_calls += 1;
        self.trap(core, Event::SystemCall);
        thread
    }

    /// The program on a core makes a system call. Says which thread it was; [`Sim::answer`] has the answer once the
    /// thread runs again.
    pub fn system_call(&mut self, core: CoreId, call: SystemCall, target: u32, message: &Message) -> Ref<Thread> {
        let before = self.board.processors[core.index()].registers;
        let thread = self.trap_system_call(core, call, target, message);
        self.go_on(core);
        if self.thread(core) == Some(thread) {
            let after = &self.board.processors[core.index()].registers;
            let kept = (after.sp, after.tp, after.pc) == (before.sp, before.tp, before.pc.wrapping_add(4));
            let clear = after.reply == 0 && after.deadline == 0 && after.other == [0; 24];
            assert!(kept && clear, "a system call keeps sp, tp and pc, and clears what is no answer: {after:x?}");
        }
        thread
    }

    /// The program on a core calls a method of a kernel object, which answers at once.
    pub fn call(&mut self, core: CoreId, slot: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> Answer {
        let message = Message::new(method.label()).words(words).pass(pass).receive(receive);
        let thread = self.system_call(core, SystemCall::Call, slot, &message);
        self.answer(thread)
    }

    /// A thread's registers, wherever they are.
    pub fn answer(&self, thread: Ref<Thread>) -> Answer {
        let running = self.board.processors.iter().find(|processor| processor.thread == thread);
        Answer::read(&match running {
            Some(processor) if processor.trapped.is_none() => processor.registers,
            _ => self.board.ram.restore(thread),
        })
    }

    /// The program on a core uses memory; a word's content, or what faulted. The kernel hasn't seen the fault yet.
    pub fn access(&mut self, core: CoreId, access: Access, address: u64, value: u64) -> Result<u64, Fault> {
        let Board { processors, ram, config, .. } = &mut self.board;
        let processor = &mut processors[core.index()];
        assert!(processor.trapped.is_none() && !processor.thread.is_none(), "a program runs on this core");
        let found =
            processor.tlb.get_mut().translate(ram, processor.root, config.levels, address, config.caches_invalid);
        let Some(page) = found.filter(|found| found.rights.contains(access.right())) else {
            return Err(Fault { kind: access.fault(), address, cause: access.right().0.into() });
        };
        let physical = page.page + address % PAGE_SIZE;
        if access == Access::Store {
            self.board.write(physical, value);
        }
        Ok(self.board.read(physical))
    }

    /// The program on a core loads a word; `None` if it faulted, which the kernel has seen to.
    pub fn load(&mut self, core: CoreId, address: u64) -> Option<u64> {
        self.access(core, Access::Load, address, 0).map_err(|fault| self.enter(core, Event::Fault(fault))).ok()
    }

    /// The program on a core stores a word; false if it faulted, which the kernel has seen to.
    pub fn store(&mut self, core: CoreId, address: u64, value: u64) -> bool {
        self.access(core, Access::Store, address, value).map_err(|fault| self.enter(core, Event::Fault(fault))).is_ok()
    }

    /// The program on a core does something illegal.
    pub fn fault(&mut self, core: CoreId, kind: FaultKind) -> Next {
        self.enter(core, Event::Fault(Fault { kind, address: 0, cause: 0 }))
    }

    /// A device raises its line (an edge-triggered one: once).
    pub fn raise(&mut self, line: u32) {
        self.board.lines[line as usize].raised = true;
    }

    /// A device lets its level-triggered line go.
    pub fn lower(&mut self, line: u32) {
        self.board.lines[line as usize].raised = false;
    }

    /// BootInfo, as the root server reads it through its mapping.
    pub fn boot_info(&mut self) -> BootInfo {
        let words = std::array::from_fn(|word| {
            let address = anos_abi::boot::BOOT_INFO_ADDRESS + word as u64 * 8;
            self.access(CoreId::BOOT, Access::Load, address, 0).expect("BootInfo is mapped")
        });
        BootInfo::from_words(&words)
    }
}
