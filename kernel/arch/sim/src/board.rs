//! The simulated machine apart from the kernel's state: cores, clock, interrupt lines, devices; and each core's view
//! of it, which is the [`Machine`] that the kernel runs on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use anos_abi::{Error, PAGE_SIZE};
use anos_machine::{CoreId, Entry, Event, Machine, Mapping, Place, Presence, Ref, Registers, Reset, Thread};

use crate::memory::Ram;
use crate::mmu::{self, Tlb};

/// Where devices write the number of a message-signalled interrupt.
pub const MESSAGE_ADDRESS: u64 = 0x2000_0000;

/// What the machine is built of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of cores.
    pub cores: u64,
    /// Pages of main memory.
    pub pages: u64,
    /// Levels of page tables: 3 or 4.
    pub levels: u8,
    /// Whether processors remember that an address was not mapped.
    pub caches_invalid: bool,
    /// Whether there are I/O ports.
    pub io_ports: bool,
    /// Interrupt lines: 1 to this.
    pub lines: u32,
    /// Address spaces that a processor can tell apart in its translations.
    pub tags: u64,
}

impl Config {
    /// A small machine with this many cores.
    pub fn cores(cores: u64) -> Config {
        Config { cores, pages: 1024, levels: 3, caches_invalid: true, io_ports: true, lines: 16, tags: 8 }
    }
}

/// One processor.
#[derive(Clone, Debug)]
pub struct Processor {
    /// What its translation buffer knows of the loaded address space.
    pub tlb: RefCell<Tlb>,
    /// The tag of that.
    pub tag: u64,
    /// What the buffer knows of others, by tag.
    pub others: BTreeMap<u64, Tlb>,
    /// The loaded root table; 0 for the kernel's own.
    pub root: u64,
    /// The thread whose program it runs; none if idle.
    pub thread: Ref<Thread>,
    /// That thread's registers while it runs.
    pub registers: Registers,
    /// The processor has left user mode (or woken up) for this, saved its registers, and waits for the kernel's locks.
    pub trapped: Option<Event>,
    /// An inter-core interrupt is pending.
    pub kicked: bool,
    /// When its timer goes off; `u64::MAX` for never.
    pub timer: u64,
}

/// One interrupt line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// Set up as level-triggered.
    pub level: bool,
    /// Lets interrupts through.
    pub unmasked: bool,
    /// The device asks (level), or asked (edge).
    pub raised: bool,
}

/// How often the kernel used the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Flushes of a translation buffer.
    pub flushes: u64,
    /// Inter-core interrupts sent.
    pub kicks: u64,
    /// Root tables loaded.
    pub loads: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Board {
    /// What it is built of.
    pub config: Config,
    /// Main memory.
    pub ram: Ram,
    /// Device memory that programs wrote: words by physical address.
    pub device: BTreeMap<u64, u64>,
    /// I/O ports that programs wrote.
    pub ports: BTreeMap<u16, u32>,
    /// The clock, ns.
    pub clock: u64,
    /// The processors.
    pub processors: Vec<Processor>,
    /// The interrupt lines, from 0.
    pub lines: Vec<Line>,
    /// What the kernel wrote to its console.
    pub console: Vec<u8>,
    /// How the kernel left the machine, if it did.
    pub reset: Option<Reset>,
    /// How often the kernel used what.
    pub counts: Counts,
    /// Rounds of waiting since the last visit to the kernel began.
    pub waits: Cell<u32>,
}

impl Board {
    /// A machine that has just been switched on.
    pub fn new(config: Config) -> Board {
        let processor = Processor {
            tlb: RefCell::default(),
            tag: 0,
            others: BTreeMap::new(),
            root: 0,
            thread: Ref::NONE,
            registers: Registers::default(),
            trapped: None,
            kicked: false,
            timer: u64::MAX,
        };
        Board {
            ram: Ram::new(config.pages),
            device: BTreeMap::new(),
            ports: BTreeMap::new(),
            clock: 0,
            processors: (0..config.cores).map(|_| processor.clone()).collect(),
            lines: (0..=config.lines).map(|_| Line::default()).collect(),
            console: Vec::new(),
            reset: None,
            counts: Counts::default(),
            waits: Cell::new(0),
            config,
        }
    }

    /// Reads a word of physical memory, main or device.
    pub fn read(&self, address: u64) -> u64 {
        if self.ram.contains(address) {
            self.ram.read(address & !7)
        } else {
            self.device.get(&(address & !7)).copied().unwrap_or(0)
        }
    }

    /// Writes a word of physical memory, main or device.
    pub fn write(&mut self, address: u64, value: u64) {
        if self.ram.contains(address) {
            self.ram.write(address & !7, value);
        } else {
            self.device.insert(address & !7, value);
        }
    }

    /// What would interrupt this core, if it were in user mode or idle.
    pub fn pending(&self, core: CoreId) -> Option<Event> {
        let processor = &self.processors[core.index()];
        if processor.kicked {
            return Some(Event::Kick);
        }
        if processor.timer <= self.clock {
            return Some(Event::Timer);
        }
        if core != CoreId::BOOT {
            return None;
        }
        let line = self.lines.iter().position(|line| line.unmasked && line.raised)?;
        Some(Event::Interrupt(u32::try_from(line).expect("few lines")))
    }

    /// The core leaves user mode, or wakes up: its registers go into its thread's record, as trap code does it.
    pub fn trap(&mut self, core: CoreId, event: Event, presence: &Presence) {
        let processor = &mut self.processors[core.index()];
        assert!(processor.trapped.is_none(), "core {core:?} is in the kernel already");
        processor.trapped = Some(event);
        match event {
            Event::Kick => processor.kicked = false,
            Event::Timer => processor.timer = u64::MAX,
            Event::Interrupt(line) => {
                let line = &mut self.lines[line as usize];
                line.raised &= line.level;
            }
            Event::SystemCall | Event::Fault(_) | Event::Start => {}
        }
        if let Some(thread) = processor.thread.some() {
            let mut registers = processor.registers;
            if event == Event::SystemCall && !self.ram.is_foreign(thread) {
                // Its caller expects nothing of these.
                registers.other = [0; 24];
            }
            self.ram.save(thread, &registers);
        }
        presence.set(core, if event == Event::SystemCall { Place::KernelWithCall } else { Place::Kernel });
    }
}

/// One core's view of the machine.
#[derive(Debug)]
pub struct View<'a, const CACHES_INVALID: bool> {
    /// The machine.
    pub board: &'a mut Board,
    /// Which cores run user code.
    pub presence: &'a Presence,
    /// The core that looks.
    pub core: CoreId,
}

impl<const CACHES_INVALID: bool> View<'_, CACHES_INVALID> {
    fn processor(&mut self) -> &mut Processor {
        &mut self.board.processors[self.core.index()]
    }

    fn line(&mut self, line: u32) -> &mut Line {
        assert!(self.interrupt_exists(line), "line {line} is none of a driver's");
        &mut self.board.lines[line as usize]
    }
}

impl<const CACHES_INVALID: bool> Machine for View<'_, CACHES_INVALID> {
    const CACHES_INVALID: bool = CACHES_INVALID;
    const SYSTEM_CALL_BYTES: u64 = 4;

    fn core(&self) -> CoreId {
        self.core
    }

    fn cores(&self) -> u64 {
        self.board.config.cores
    }

    fn levels(&self) -> u8 {
        self.board.config.levels
    }

    fn user_end(&self) -> u64 {
        mmu::user_end(self.board.config.levels)
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
        assert!(root.iter().all(|&entry| entry == 0), "a fresh root table is clear");
        root[256..].fill(mmu::KERNEL_ENTRY);
    }

    fn flush(&mut self) {
        self.board.counts.flushes += 1;
        self.processor().tlb.get_mut().flush();
    }

    fn tags(&self) -> u64 {
        self.board.config.tags
    }

    fn load_root(&mut self, root: u64, tag: u64, flush: bool) {
        let tags = self.board.config.tags;
        assert!(tag <= tags && (root != 0 || tag == 0), "tag {tag} of {tags} for {root:#x}");
        self.board.counts.loads += 1;
        let processor = self.processor();
        processor.root = root;
        let before = core::mem::take(processor.tlb.get_mut());
        processor.others.insert(processor.tag, before);
        *processor.tlb.get_mut() = processor.others.remove(&tag).unwrap_or_default();
        processor.tag = tag;
        if flush || tags == 0 {
            processor.tlb.get_mut().flush();
        }
    }

    fn synchronise_instructions(&mut self) {}

    fn shown(&self, _registers: &mut Registers) {}

    /// As on a machine whose processor refuses to go on outside user space.
    fn changed(&self, thread: &mut Thread) {
        thread.registers.pc = thread.registers.pc.min(self.user_end());
    }

    fn frame_pointer(&self, registers: &Registers) -> u64 {
        registers.words[7]
    }

    fn foreign_call(&self, registers: &Registers) -> [u64; 7] {
        let [a, b, c, d, e, f, _, number] = registers.words;
        [number, a, b, c, d, e, f]
    }

    fn set_foreign_result(&self, registers: &mut Registers, result: u64) {
        registers.words[0] = result;
    }

    fn now(&self) -> u64 {
        self.board.clock
    }

    fn set_timer(&mut self, deadline: u64) {
        self.processor().timer = deadline;
    }

    fn kick(&mut self, core: CoreId) {
        assert!(core != self.core, "a core does not kick itself");
        assert!(core.index() < self.board.processors.len(), "kicked core {core:?}, which there isn't");
        self.board.counts.kicks += 1;
        self.board.processors[core.index()].kicked = true;
        // A core in user mode is interrupted at once, and then waits for the locks that this core holds.
        if self.presence.get(core) == Place::User {
            self.board.trap(core, Event::Kick, self.presence);
        }
    }

    fn relax(&self) {
        // A core that waits for the kernel's locks flushes when it is asked to.
        for (core, processor) in (0..).zip(&self.board.processors) {
            let core = CoreId::new(core).expect("few cores");
            if processor.trapped.is_some() && self.presence.must_flush(core) {
                processor.tlb.borrow_mut().flush();
                self.presence.flushed(core);
            }
        }
        // One host thread plays all cores: nobody else can end the wait.
        self.board.waits.set(self.board.waits.get() + 1);
        assert!(self.board.waits.get() < 1000, "core {:?} waits for ever", self.core);
    }

    fn interrupt_exists(&self, line: u32) -> bool {
        (1..=self.board.config.lines).contains(&line)
    }

    fn interrupt_configure(&mut self, line: u32, level: bool, _active_low: bool) {
        let line = self.line(line);
        line.level = level;
        line.unmasked = false;
    }

    fn interrupt_message(&self, line: u32) -> Result<(u64, u64), Error> {
        // The upper quarter of the lines are messages.
        let messages = self.board.config.lines * 3 / 4;
        if line > messages { Ok((MESSAGE_ADDRESS, line.into())) } else { Err(Error::Unsupported) }
    }

    fn interrupt_unmask(&mut self, line: u32) {
        self.line(line).unmasked = true;
    }

    fn interrupt_mask(&mut self, line: u32) {
        self.line(line).unmasked = false;
    }

    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, Error> {
        assert!(matches!(size, 1 | 2 | 4), "the kernel checks the size");
        if !self.board.config.io_ports {
            return Err(Error::Unsupported);
        }
        Ok(self.board.ports.get(&port).copied().unwrap_or(0))
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), Error> {
        assert!(matches!(size, 1 | 2 | 4), "the kernel checks the size");
        if !self.board.config.io_ports {
            return Err(Error::Unsupported);
        }
        self.board.ports.insert(port, value);
        Ok(())
    }

    fn console_write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() as u64 <= PAGE_SIZE, "the kernel writes short pieces");
        self.board.console.extend_from_slice(bytes);
    }

    fn reset(&mut self, reset: Reset) {
        self.board.reset = Some(reset);
    }
}
