//! A machine for explorations: each core is a thread of the explorer, and what cores tell each other without the kernel
//! (inter-core interrupts) goes through the explorer's atomics too.
//!
//! Programs are lists of steps. A thread's program counter says where in which list it is, so a thread that is moved goes
//! on elsewhere, and a system call that the kernel puts off is made again.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as PlainU64;

use anos_abi::{Error, Kind, PAGE_SIZE, SystemCall};
use anos_core::Kernel;
use anos_explore::atomic::{self, AtomicU8, AtomicU32, Ordering};
use anos_machine::{
    AddressSpace, CoreId, CoreSet, Endpoint, Entry, Event, Machine, Mapping, Next, Notification, Place, Ref, Registers,
    Reply, Reset, SchedContext, Slot, Thread,
};
use anos_sim::memory::{RAM_BASE, Ram};
use anos_sim::mmu::Tlb;
use anos_sim::{Answer, Message, Sim, core_id, mmu};

use crate::explorer::thread;

/// Where programs begin: each this far behind the last.
const CODE: u64 = 0x40_0000;
const PROGRAM_BYTES: u64 = 0x1000;
/// Bytes of each step.
const STEP_BYTES: u64 = 4;

/// An inter-core interrupt is pending.
const KICKED: u8 = 1;
/// The play is over.
const OVER: u8 = 2;

/// What is wrong with a machine, to see that a scene notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// `flush` keeps what the core knows.
    NoFlush,
    /// Inter-core interrupts are lost if the core is not in user mode.
    LostKick,
    /// The processor takes all of the kernel's memory orderings for relaxed ones.
    #[cfg(loom)]
    Weak,
}

/// What a program does next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A system call.
    Call(SystemCall, u32, Message),
    /// Looks at the answer.
    Expect(fn(&Answer)),
    /// Raises a flag that all programs see, or lowers it.
    Flag(usize, bool),
    /// While this flag is up, this thread may not run.
    NotWhile(usize),
    /// Uses the memory at an address; if the flag is up, nothing may be there.
    Use(u64, usize),
    /// Time passes.
    Pass(u64),
}

/// A play: what the threads do, and until when.
#[derive(Debug)]
pub struct Play {
    /// Each thread's steps.
    pub programs: Vec<Vec<Step>>,
    /// How many programs must come to their ends; or, if they begin anew then, how many system calls they make.
    pub ends: u32,
    /// Programs begin anew when they have ended.
    pub again: bool,
    pub flaw: Flaw,
    /// Nanoseconds that pass with each step of a core.
    pub tick: u64,
}

/// The program counter at which a program begins.
pub fn start_of(program: u64) -> u64 {
    CODE + program * PROGRAM_BYTES
}

/// What the cores share.
pub struct Wires {
    pub kernel: Box<Kernel>,
    pub ram: Ram,
    clock: PlainU64,
    signals: Vec<AtomicU8>,
    flags: [AtomicU8; 4],
    ended: AtomicU32,
    left: AtomicU32,
    play: Play,
}

/// One core.
pub struct Core {
    wires: Arc<Wires>,
    core: CoreId,
    timer: u64,
    root: u64,
    thread: Ref<Thread>,
    registers: Registers,
    tlb: RefCell<Tlb>,
}

impl Machine for Core {
    const CACHES_INVALID: bool = true;
    const SYSTEM_CALL_BYTES: u64 = STEP_BYTES;

    fn core(&self) -> CoreId {
        self.core
    }
    fn cores(&self) -> u64 {
        self.wires.signals.len() as u64
    }
    fn levels(&self) -> u8 {
        3
    }
    fn user_end(&self) -> u64 {
        mmu::user_end(3)
    }
    fn leaf(&self, mapping: Mapping) -> u64 {
        mmu::leaf(mapping)
    }
    fn table(&self, address: u64) -> u64 {
        mmu::table(address)
    }
    fn entry(&self, entry: u64, level: u8) -> Entry {
        mmu::entry(entry, level)
    }
    fn fill_root(&self, root: &mut [u64; 512]) {
        root[256..].fill(mmu::KERNEL_ENTRY);
    }
    fn tags(&self) -> u64 {
        0
    }
    fn load_root(&mut self, root: u64, _tag: u64, _flush: bool) {
        self.root = root;
        self.tlb.get_mut().flush();
    }
    fn flush(&mut self) {
        if self.wires.play.flaw != Flaw::NoFlush {
            self.tlb.get_mut().flush();
        }
    }
    fn synchronise_instructions(&mut self) {}
    fn shown(&self, _registers: &mut Registers) {}
    fn changed(&self, _thread: &mut Thread) {}
    fn frame_pointer(&self, registers: &Registers) -> u64 {
        registers.words[7]
    }
    fn foreign_call(&self, registers: &Registers) -> [u64; 7] {
        [registers.words[7], 0, 0, 0, 0, 0, 0]
    }
    fn set_foreign_result(&self, registers: &mut Registers, result: u64) {
        registers.words[0] = result;
    }
    fn now(&self) -> u64 {
        self.wires.clock.load(Ordering::Relaxed)
    }
    fn set_timer(&mut self, deadline: u64) {
        self.timer = deadline;
    }
    fn kick(&mut self, core: CoreId) {
        if self.wires.play.flaw == Flaw::LostKick && self.wires.kernel.presence.get(core) != Place::User {
            return;
        }
        self.wires.signals[core.index()].fetch_or(KICKED, Ordering::SeqCst);
    }
    fn relax(&self) {
        thread::yield_now();
    }
    fn interrupt_exists(&self, _line: u32) -> bool {
        false
    }
    fn interrupt_configure(&mut self, _line: u32, _level: bool, _active_low: bool) {}
    fn interrupt_message(&self, _line: u32) -> Result<(u64, u64), Error> {
        Err(Error::Unsupported)
    }
    fn interrupt_unmask(&mut self, _line: u32) {}
    fn interrupt_mask(&mut self, _line: u32) {}
    fn port_in(&mut self, _port: u16, _size: u8) -> Result<u32, Error> {
        Err(Error::Unsupported)
    }
    fn port_out(&mut self, _port: u16, _size: u8, _value: u32) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    fn console_write(&mut self, _bytes: &[u8]) {}
    fn reset(&mut self, _reset: Reset) {}
}

impl Core {
    /// Into the kernel, as trap code does it: first the registers, then everything else.
    pub fn enter(&mut self, event: Event) {
        let wires = self.wires.clone();
        if let Some(thread) = self.thread.some() {
            if event == Event::SystemCall {
                self.registers.other = [0; 24];
            }
            wires.ram.save(thread, &self.registers);
        }
        let short = match event {
            Event::SystemCall => anos_core::quick(&wires.kernel, self),
            _ => anos_core::quick_event(&wires.kernel, self, event),
        };
        let next = short.map_or_else(|| anos_core::enter(&wires.kernel, self, event), Next::Run);
        self.thread = match next {
            Next::Run(thread) => thread,
            Next::Idle => Ref::NONE,
        };
        if let Some(thread) = self.thread.some() {
            self.registers = wires.ram.restore(thread);
        }
    }

    /// Takes an interrupt, if one is pending; else answers whether the play is over.
    fn interrupts(&mut self) -> (bool, bool) {
        let signals = self.wires.signals[self.core.index()].load(Ordering::SeqCst);
        if signals & KICKED != 0 {
            self.wires.signals[self.core.index()].fetch_and(!KICKED, Ordering::SeqCst);
            self.enter(Event::Kick);
            return (true, false);
        }
        if self.timer <= self.now() {
            self.timer = u64::MAX;
            self.enter(Event::Timer);
            return (true, false);
        }
        (false, signals & OVER != 0)
    }

    fn end(&mut self) {
        if self.wires.ended.fetch_add(1, Ordering::SeqCst) + 1 == self.wires.play.ends {
            for signals in &self.wires.signals {
                signals.fetch_or(OVER, Ordering::SeqCst);
            }
        }
    }

    /// The running thread's next step. Answers whether it had one to make.
    fn step(&mut self) -> bool {
        let wires = self.wires.clone();
        let at = self.registers.pc - CODE;
        let program = &wires.play.programs[usize::try_from(at / PROGRAM_BYTES).expect("a program")];
        let number = usize::try_from(at % PROGRAM_BYTES / STEP_BYTES).expect("a step");
        let Some(step) = program.get(number) else {
            if wires.play.again {
                self.registers.pc -= at % PROGRAM_BYTES;
            } else if number == program.len() {
                self.registers.pc += STEP_BYTES;
                self.end();
            }
            return false;
        };
        self.registers.pc += STEP_BYTES;
        match *step {
            Step::Call(call, target, message) => {
                message.load(call, target, &mut self.registers);
                if wires.play.again {
                    self.end();
                }
                self.enter(Event::SystemCall);
            }
            Step::Expect(check) => check(&Answer::read(&self.registers)),
            Step::Flag(flag, up) => wires.flags[flag].store(up.into(), Ordering::SeqCst),
            Step::NotWhile(flag) => {
                assert_eq!(wires.flags[flag].load(Ordering::SeqCst), 0, "a stopped thread runs");
            }
            Step::Use(address, flag) => {
                let gone = wires.flags[flag].load(Ordering::SeqCst) != 0;
                let found = self.tlb.get_mut().translate(&wires.ram, self.root, 3, address, true);
                assert!(!gone || found.is_none(), "memory is used that has been unmapped");
            }
            Step::Pass(time) => {
                wires.clock.fetch_add(time, Ordering::Relaxed);
            }
        }
        true
    }

    /// Until the play is over, and no core needs this one any more.
    fn run(mut self) -> Self {
        let mut has_left = false;
        loop {
            self.wires.clock.fetch_add(self.wires.play.tick, Ordering::Relaxed);
            let (came, over) = self.interrupts();
            if over {
                if !has_left {
                    has_left = true;
                    self.wires.left.fetch_add(1, Ordering::SeqCst);
                }
                if u64::from(self.wires.left.load(Ordering::SeqCst)) == self.cores() {
                    return self;
                }
                thread::yield_now();
            } else if !came && (self.thread.is_none() || !self.step()) {
                thread::yield_now();
            }
        }
    }
}

/// Plays on a machine that has been set up; gives it back when all cores have come to rest.
pub fn play(mut sim: Sim, play: Play) -> Sim {
    let wires = Arc::new(Wires {
        kernel: sim.kernel,
        ram: sim.board.ram,
        clock: PlainU64::new(sim.board.clock),
        signals: sim.board.processors.iter().map(|core| AtomicU8::new(u8::from(core.kicked) * KICKED)).collect(),
        flags: Default::default(),
        ended: AtomicU32::new(0),
        left: AtomicU32::new(0),
        play,
    });
    let core = |(number, processor): (u64, &anos_sim::board::Processor)| Core {
        wires: wires.clone(),
        core: core_id(number),
        timer: processor.timer,
        root: processor.root,
        thread: processor.thread,
        registers: processor.registers,
        tlb: RefCell::new(processor.tlb.borrow().clone()),
    };
    let mut cores: Vec<Core> = (0..).zip(&sim.board.processors).map(core).collect();
    let typed = typed_pages(&wires);
    atomic::start();
    touch(&wires, &typed);
    #[cfg(loom)]
    if wires.play.flaw == Flaw::Weak {
        atomic::weaken();
    }
    let first = cores.remove(0);
    let others: Vec<_> = cores
        .into_iter()
        .map(|core| thread::Builder::new().stack_size(1 << 16).spawn(move || core.run()).expect("a thread"))
        .collect();
    let mut ends = vec![first.run()];
    ends.extend(others.into_iter().map(|other| other.join().expect("a core stopped")));
    atomic::stop();
    for (processor, end) in sim.board.processors.iter_mut().zip(ends) {
        (processor.timer, processor.root, processor.thread, processor.registers) =
            (end.timer, end.root, end.thread, end.registers);
        processor.kicked = wires.signals[end.core.index()].load(Ordering::SeqCst) & KICKED != 0;
        processor.tlb.get_mut().flush();
    }
    sim.board.clock = wires.clock.load(Ordering::Relaxed);
    let Some(wires) = Arc::into_inner(wires) else { panic!("all cores have stopped") };
    (sim.kernel, sim.board.ram) = (wires.kernel, wires.ram);
    sim
}

/// The pages that hold objects, by kind.
fn typed_pages(wires: &Wires) -> Vec<(Kind, u64)> {
    let held = wires.kernel.hold(CoreId::BOOT, CoreSet::ALL, || unreachable!("nobody else is there yet"));
    let pages = (0..wires.ram.pages()).map(|page| RAM_BASE + page * PAGE_SIZE);
    let kind_of = |page: u64| Kind::try_from(u64::from(held.store.record(page).ok()?.kind())).ok();
    pages.filter_map(|page| Some((kind_of(page).filter(|kind| *kind != Kind::Empty)?, page))).collect()
}

/// Shows the explorer what the cores share, before they do.
fn touch(wires: &Wires, typed: &[(Kind, u64)]) {
    for signals in wires.signals.iter().chain(&wires.flags) {
        signals.load(Ordering::SeqCst);
    }
    wires.ended.load(Ordering::SeqCst);
    wires.left.load(Ordering::SeqCst);
    let count = wires.signals.len() as u64;
    for core in (0..count).map(core_id) {
        wires.kernel.presence.get(core);
        wires.kernel.presence.must_flush(core);
    }
    let all = CoreSet((1 << count) - 1);
    let held = wires.kernel.hold(CoreId::BOOT, all, || unreachable!("nobody else is there yet"));
    for &(kind, page) in typed {
        let record = held.store.record(page).expect("a page of memory");
        record.loaded();
        record.space();
        record.version();
        let seen = match kind {
            Kind::CapTable => held.store.see::<Slot>(Ref::at(page)).is_ok(),
            Kind::AddressSpace | Kind::PageTable => held.store.see::<AddressSpace>(Ref::at(page)).is_ok(),
            Kind::Thread => held.store.see::<Thread>(Ref::at(page)).is_ok(),
            Kind::SchedContext => held.store.see::<SchedContext>(Ref::at(page)).is_ok(),
            Kind::Endpoint => held.store.see::<Endpoint>(Ref::at(page)).is_ok(),
            Kind::Notification => held.store.see::<Notification>(Ref::at(page)).is_ok(),
            Kind::Reply => held.store.see::<Reply>(Ref::at(page)).is_ok(),
            _ => true,
        };
        assert!(seen, "{kind:?} at {page:#x}");
    }
}
