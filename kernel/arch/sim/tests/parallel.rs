//! The kernel on real threads of the host, one for each core: locks, kicks, shootdowns and stops as they interleave.
//!
//! Nothing here can be played again, so it says less than the random runs; but no wait may be for ever, and when the
//! cores have come to rest, every rule holds.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Error, Kind, SystemCall};
use anos_core::Kernel;
use anos_machine::{CoreId, CoreSet, Entry, Event, Machine, Mapping, Next, Place, Ref, Registers, Reset, Thread};
use anos_sim::board::Processor;
use anos_sim::memory::Ram;
use anos_sim::{Message, Numbers, Sim, core_id, mmu};

/// System calls that each core makes.
const STEPS: u64 = 4_000;
/// Slots: of each kind a row of eight.
const ROW: u32 = 8;
const ENDPOINTS: u32 = 300;
const NOTIFICATIONS: u32 = 308;
const REPLIES: u32 = 316;
const FRAMES: u32 = 324;
const THREADS: u32 = 332;
const UNTYPEDS: u32 = 340;
const SPACES: u32 = 348;
const ANY: u32 = 356;
const CONTEXTS: u32 = 364;
const PLACE: u64 = 0x20_0000_0000;

/// What the cores share, apart from the kernel.
struct Wires<'a> {
    kernel: &'a Kernel,
    ram: &'a Ram,
    clock: AtomicU64,
    kicked: Vec<AtomicBool>,
    finished: AtomicUsize,
    /// When somebody waited for ever.
    hang: Instant,
}

/// One core.
struct Core<'a> {
    wires: &'a Wires<'a>,
    core: CoreId,
    timer: u64,
    root: u64,
    thread: Ref<Thread>,
    registers: Registers,
}

impl Machine for Core<'_> {
    const CACHES_INVALID: bool = true;
    const SYSTEM_CALL_BYTES: u64 = 4;

    fn core(&self) -> CoreId {
        self.core
    }
    fn cores(&self) -> u64 {
        self.wires.kicked.len() as u64
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
    }
    fn flush(&mut self) {}
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
        self.wires.kicked[core.index()].store(true, Ordering::SeqCst);
    }
    fn relax(&self) {
        std::thread::yield_now();
        assert!(Instant::now() < self.wires.hang, "core {:?} waits for ever", self.core);
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

impl<'a> Core<'a> {
    fn enter(&mut self, event: Event) {
        if let Some(thread) = self.thread.some() {
            if event == Event::SystemCall {
                self.registers.other = [0; 24];
            }
            self.wires.ram.save(thread, &self.registers);
        }
        let wires = self.wires;
        let short = match event {
            Event::SystemCall => anos_core::quick(wires.kernel, self),
            _ => anos_core::quick_event(wires.kernel, self, event),
        };
        let next = short.map_or_else(|| anos_core::enter(wires.kernel, self, event), Next::Run);
        self.thread = match next {
            Next::Run(thread) => thread,
            Next::Idle => Ref::NONE,
        };
        if let Some(thread) = self.thread.some() {
            self.registers = wires.ram.restore(thread);
        }
    }

    /// Takes what is pending, if anything is.
    fn interrupts(&mut self) -> bool {
        let event = if self.wires.kicked[self.core.index()].swap(false, Ordering::SeqCst) {
            Event::Kick
        } else if self.timer <= self.now() {
            self.timer = u64::MAX;
            Event::Timer
        } else {
            return false;
        };
        self.enter(event);
        true
    }

    /// Whether a program made a system call.
    fn step(&mut self, numbers: &mut Numbers) -> bool {
        self.wires.clock.fetch_add(numbers.below(2000), Ordering::Relaxed);
        if self.interrupts() {
            return false;
        }
        if self.thread.is_none() {
            std::thread::yield_now();
            return false;
        }
        let (call, target, message) = request(numbers, self.now());
        message.load(call, target, &mut self.registers);
        self.registers.pc = self.registers.pc.wrapping_add(4) & 0xff_ffff;
        self.enter(Event::SystemCall);
        true
    }

    /// So many steps; then it only takes interrupts, until all have finished.
    fn run(mut self, seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let mut calls = 0;
        for _ in 0..50 * STEPS {
            calls += u64::from(self.step(&mut numbers));
            if calls == STEPS {
                break;
            }
        }
        self.wires.finished.fetch_add(1, Ordering::SeqCst);
        while self.wires.finished.load(Ordering::SeqCst) < self.wires.kicked.len() {
            if !self.interrupts() {
                std::thread::yield_now();
            }
        }
        self
    }
}

/// A system call on the slots that all programs share; many fail, as others were there first.
fn request(numbers: &mut Numbers, now: u64) -> (SystemCall, u32, Message) {
    let mut slot = |row: u32| row + u32::try_from(numbers.below(ROW.into())).expect("small");
    let (endpoint, notification, reply) = (slot(ENDPOINTS), slot(NOTIFICATIONS), slot(REPLIES));
    let (frame, thread, untyped, space) = (slot(FRAMES), slot(THREADS), slot(UNTYPEDS), slot(SPACES));
    let (any, other, context) = (slot(ANY), slot(ANY), slot(CONTEXTS));
    let deadline = now + numbers.below(20_000);
    let message = Message::new(0).reply(reply).receive(any).deadline(deadline);
    let method = |target: u32, method: Method, words: &[u64], pass: u32| {
        (SystemCall::Call, target, Message::new(method.label()).words(words).pass(pass).receive(any))
    };
    let pages = numbers.below(20) * 4096;
    match numbers.below(30) {
        0..=1 => (SystemCall::Recv, endpoint, message),
        2..=3 => (SystemCall::Call, endpoint, message),
        4 => (SystemCall::ReplyRecv, endpoint, message),
        5 => (SystemCall::Send, endpoint, message.pass(other)),
        6 => (SystemCall::Recv, notification, message),
        7 => (SystemCall::Send, notification, message),
        8 => (SystemCall::Yield, 0, message),
        9..=10 => method(frame, Method::FrameMap, &[PLACE + pages, 3], slot::ADDRESS_SPACE),
        11 => method(frame, Method::FrameUnmap, &[], 0),
        12 => method(thread, Method::ThreadSuspend, &[], 0),
        13..=14 => method(thread, Method::ThreadStart, &[0x40_0000, 0x1000], 0),
        15 => method(thread, Method::ThreadSetContext, &[], if numbers.percent(20) { 0 } else { context }),
        16 => method(untyped, Method::UntypedRetype, &[numbers.pick(&[2, 4, 6, 7, 8]), 0, 1], 0),
        17 => method(slot::CAP_TABLE, Method::CapTableCopy, &[any.into(), 15], numbers.pick(&[endpoint, frame, other])),
        18 => method(slot::CAP_TABLE, Method::CapTableDelete, &[any.into()], 0),
        19 => method(slot::CAP_TABLE, Method::CapTableRevoke, &[numbers.pick(&[untyped, endpoint]).into()], 0),
        20 => method(thread, Method::ThreadSetSpace, &[], space),
        21 => method(thread, Method::ThreadSetPriority, &[100 + numbers.below(3), 255], 0),
        22..=25 => method(frame, Method::FrameMap, &[PLACE + pages, 1], slot::ADDRESS_SPACE),
        _ => method(frame, Method::FrameUnmap, &[], 0),
    }
}

/// Rows of objects, and threads of which each core runs some.
fn prepare(cores: u64) -> Sim {
    let mut sim = Sim::boot(cores);
    sim.next_slot = ENDPOINTS;
    sim.make_from(slot::UNTYPED, Kind::Endpoint, 0, ROW);
    sim.next_slot = REPLIES;
    sim.make_from(slot::UNTYPED, Kind::Reply, 0, ROW);
    sim.make_from(slot::UNTYPED, Kind::Frame, 1, ROW);
    sim.next_slot = 500;
    let notifications = sim.make_from(slot::UNTYPED, Kind::Notification, 0, ROW);
    sim.next_slot = NOTIFICATIONS;
    for number in 0..ROW {
        sim.mint(notifications + number, 1);
    }
    sim.next_slot = 500 + ROW;
    for level in [2, 1] {
        let table = sim.make(Kind::PageTable, 0);
        sim.ok(table, Method::PageTableMap, &[PLACE, level], slot::ADDRESS_SPACE);
    }
    sim.next_slot = CONTEXTS;
    for number in 0..u64::from(ROW) {
        sim.make_context(number % cores);
    }
    sim.next_slot = THREADS;
    let threads = sim.make_from(slot::UNTYPED, Kind::Thread, 0, ROW);
    for number in 0..ROW {
        let thread = threads + number;
        sim.ok(thread, Method::ThreadSetTable, &[], slot::CAP_TABLE);
        sim.ok(thread, Method::ThreadSetSpace, &[], slot::ADDRESS_SPACE);
        sim.ok(thread, Method::ThreadSetContext, &[], CONTEXTS + number);
        sim.ok(thread, Method::ThreadSetPriority, &[100, 255], 0);
        sim.ok(thread, Method::ThreadStart, &[0x40_0000, 0x1000], 0);
    }
    sim.make_from(slot::UNTYPED, Kind::Untyped, 6, ROW);
    for _ in 0..ROW {
        sim.copy(slot::ADDRESS_SPACE, 15);
    }
    sim.ok(slot::THREAD, Method::ThreadSetPriority, &[100, 255], 0);
    sim.settle();
    sim.check();
    sim
}

/// Plays once; how many kicks and shootdowns there were.
fn play(cores: u64, seed: u64) -> (u64, u64) {
    let mut sim = prepare(cores);
    let wires = Wires {
        kernel: &sim.kernel,
        ram: &sim.board.ram,
        clock: AtomicU64::new(sim.board.clock),
        kicked: sim.board.processors.iter().map(|processor| AtomicBool::new(processor.kicked)).collect(),
        finished: AtomicUsize::new(0),
        hang: Instant::now() + Duration::from_secs(300),
    };
    let start = |(number, processor): (u64, &Processor)| Core {
        wires: &wires,
        core: core_id(number),
        timer: processor.timer,
        root: processor.root,
        thread: processor.thread,
        registers: processor.registers,
    };
    let all: Vec<Core<'_>> = (0..).zip(&sim.board.processors).map(start).collect();
    let ends: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> =
            (0..).zip(all).map(|(number, core): (u64, _)| scope.spawn(move || core.run(seed * 64 + number))).collect();
        let ends = handles.into_iter().map(|handle| handle.join().expect("a core stopped"));
        ends.map(|core| (core.timer, core.root, core.thread, core.registers)).collect()
    });
    let clock = wires.clock.load(Ordering::SeqCst);
    let kicked: Vec<bool> = wires.kicked.iter().map(|kicked| kicked.load(Ordering::SeqCst)).collect();
    sim.board.clock = clock;
    for ((processor, end), kicked) in sim.board.processors.iter_mut().zip(ends).zip(kicked) {
        (processor.timer, processor.root, processor.thread, processor.registers) = end;
        processor.tlb.get_mut().flush();
        processor.kicked = kicked;
    }
    sim.check();
    sim.settle();
    sim.check();
    assert!((0..cores).all(|core| sim.kernel.presence.get(core_id(core)) != Place::KernelWithCall));
    let mut held = sim.kernel.hold(CoreId::BOOT, CoreSet::ALL, || unreachable!("all threads are joined"));
    let counters = (0..cores).map(|core| held.core(core_id(core)).expect("held").counters);
    counters.fold((0, 0), |sum, core| (sum.0 + core.kicks, sum.1 + core.shootdowns))
}

#[test]
fn cores_on_threads_of_their_own_keep_every_rule_and_never_hang() {
    let (mut kicks, mut shootdowns) = (0, 0);
    // How much the cores get into each other's way is up to the host.
    for seed in 0..20 {
        for cores in [2, 4] {
            let sum = play(cores, seed);
            (kicks, shootdowns) = (kicks + sum.0, shootdowns + sum.1);
        }
        if kicks > 200 && shootdowns > 200 {
            return;
        }
    }
    panic!("a walk in the park: {kicks} kicks, {shootdowns} shootdowns");
}
