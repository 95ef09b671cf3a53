//! The port behind the core's trait.

use core::sync::atomic::{AtomicU64, Ordering};

use anos_abi::Error;
use anos_core::Kernel;
use anos_machine::{CoreId, Entry, Machine, Mapping, Registers, Reset, Shared, Thread};

use crate::hart::{self, Hart};
use crate::interrupts::Interrupts;
use crate::once::SetOnce;
use crate::paging::{self, MAX_ID, Mode, SATP_ID_SHIFT, Table};
use crate::time::Frequency;
use crate::{console, csr, patience, sbi, time, to_usize, trap_entry};

/// What the cores share.
pub static KERNEL: Kernel = Shared::new();

/// What the boot hart found out about the machine.
pub static PLATFORM: SetOnce<Platform> = SetOnce::new(Platform {
    mode: Mode::Sv39,
    window: Mode::Sv39.window(),
    translation: Mode::Sv39.satp(0, 0),
    root: 0,
    frequency: Frequency::USUAL,
    counter_start: 0,
    sstc: false,
    vectors: false,
    user_counters: 0,
    interrupts: Interrupts::NONE,
});

/// How many cores run.
pub static CORES: AtomicU64 = AtomicU64::new(1);

/// How many address spaces every hart can tell apart, besides the kernel's own; at most what the core makes use of.
static TAGS: AtomicU64 = AtomicU64::new(15);

/// How often executable pages have been mapped.
static CODE_CHANGES: AtomicU64 = AtomicU64::new(0);

/// Facts about the machine that never change.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    /// How addresses are translated.
    pub mode: Mode,
    /// Where the direct map starts.
    pub window: u64,
    /// The value of `satp` for root table 0, with the kernel's own address-space id.
    pub translation: u64,
    /// Physical address of the kernel's own root table: its user half is empty.
    pub root: u64,
    /// How fast `time` ticks.
    pub frequency: Frequency,
    /// `time` when the kernel's clock was 0.
    pub counter_start: u64,
    /// Every hart has `stimecmp`.
    pub sstc: bool,
    /// Every hart has a vector unit.
    pub vectors: bool,
    /// Which counters user mode may read, as in `scounteren`.
    pub user_counters: u64,
    /// The interrupt controller.
    pub interrupts: Interrupts,
}

/// The machine as seen from one hart.
#[derive(Debug)]
pub struct Port<'a> {
    /// This hart.
    pub hart: &'a mut Hart,
    /// The machine.
    pub platform: &'static Platform,
}

/// Looks how many bits of address-space ids this hart has: it keeps those that it knows. No id but 0 is in use yet.
pub fn count_tags() {
    let before = csr::translation();
    // SAFETY: the same tables.
    unsafe { csr::set_translation(before | MAX_ID << SATP_ID_SHIFT) };
    TAGS.fetch_min(csr::translation() >> SATP_ID_SHIFT & MAX_ID, Ordering::Relaxed);
    // SAFETY: as it was.
    unsafe { csr::set_translation(before) };
}

impl Port<'_> {
    /// Fetches instructions anew if code was mapped since this hart did so last.
    fn fence_new_code(&mut self) {
        let changes = CODE_CHANGES.load(Ordering::Acquire);
        if self.hart.code_changes != changes {
            csr::fence_instructions();
            self.hart.code_changes = changes;
        }
    }
}

impl Machine for Port<'_> {
    /// The manual allows it (chapter "Supervisor Memory-Management Fence Instruction").
    const CACHES_INVALID: bool = true;
    /// `ecall`, which has no compressed form.
    const SYSTEM_CALL_BYTES: u64 = 4;

    fn core(&self) -> CoreId {
        self.hart.core
    }

    fn cores(&self) -> u64 {
        CORES.load(Ordering::Relaxed)
    }

    fn levels(&self) -> u8 {
        self.platform.mode.levels()
    }

    fn user_end(&self) -> u64 {
        self.platform.mode.user_end()
    }

    fn leaf(&self, mapping: Mapping) -> u64 {
        paging::leaf(mapping)
    }

    fn table(&self, address: u64) -> u64 {
        paging::table(address)
    }

    fn entry(&self, entry: u64, _level: u8) -> Entry {
        paging::entry(entry)
    }

    fn fill_root(&self, root: &mut Table) {
        let kernel = to_usize(self.platform.window.wrapping_add(self.platform.root)) as *const Table;
        // SAFETY: the kernel's root table, in the direct map; nobody writes to it once the boot hart has made it.
        let kernel = unsafe { &*kernel };
        #[expect(clippy::manual_memcpy, reason = "that would be a call, which asks about alignment first")]
        for index in 256..512 {
            root[index] = kernel[index];
        }
        // The kernel must find itself through this root from the moment it is loaded. A fence for one address space, as
        // in `load_root`, doesn't order accesses to mappings that are the same in all.
        csr::flush_translations();
    }

    fn tags(&self) -> u64 {
        TAGS.load(Ordering::Relaxed)
    }

    /// The manual (chapter "Supervisor Memory-Management Fence Instruction") has an id that gets another root loaded
    /// first, and its old translations forgotten then: the fence orders all writes to the new tables, too. Tag 0 is whose
    /// ever it was last, if there are too few of the others.
    fn load_root(&mut self, root: u64, tag: u64, flush: bool) {
        let root = if root == 0 { self.platform.root } else { root };
        // SAFETY: the kernel's own, or one that the core keeps a root table while it is loaded; `fill_root` made the
        // upper half of every root table the same. Where it may be wrong, what is remembered of the tag goes at once.
        unsafe { csr::set_translation(self.platform.translation | Mode::place(root, tag)) };
        if flush || tag == 0 {
            csr::flush_translations_of(tag);
        }
        self.fence_new_code();
    }

    fn flush(&mut self) {
        csr::flush_translations_of(csr::translation() >> SATP_ID_SHIFT & MAX_ID);
        self.fence_new_code();
    }

    /// Here at once. Another hart needs the fence before it runs code that was mapped just now. Either it has that
    /// address space loaded: then the core has it flush before the mapping counts as done, because an invalid entry may
    /// be cached ([`Machine::CACHES_INVALID`]). Or it hasn't: then it will load it. Both look at the count.
    fn synchronise_instructions(&mut self) {
        CODE_CHANGES.fetch_add(1, Ordering::AcqRel);
        self.fence_new_code();
    }

    fn shown(&self, registers: &mut Registers) {
        trap_entry::keep_others(registers);
    }

    /// User mode takes any registers, and `fpu` looks at the flag whenever the thread is to run.
    fn changed(&self, _thread: &mut Thread) {}

    fn frame_pointer(&self, registers: &Registers) -> u64 {
        let [frame_pointer, ..] = registers.other;
        if trap_entry::are_others_left(registers) { 0 } else { frame_pointer }
    }

    /// Linux's convention: number in a7; a0 to a5.
    fn foreign_call(&self, registers: &Registers) -> [u64; 7] {
        let [a0, a1, a2, a3, a4, a5, _, a7] = registers.words;
        [a7, a0, a1, a2, a3, a4, a5]
    }

    fn set_foreign_result(&self, registers: &mut Registers, result: u64) {
        registers.words[0] = result;
    }

    fn now(&self) -> u64 {
        time::now(self.platform)
    }

    fn set_timer(&mut self, deadline: u64) {
        time::set_timer(self.platform, deadline);
    }

    fn kick(&mut self, core: CoreId) {
        sbi::interrupt_hart(hart::hart_id(core));
    }

    fn relax(&self) {
        patience::wait(self.hart, self.platform);
    }

    fn interrupt_exists(&self, line: u32) -> bool {
        self.platform.interrupts.exists(line)
    }

    fn interrupt_configure(&mut self, line: u32, level: bool, active_low: bool) {
        self.platform.interrupts.configure(line, level, active_low);
    }

    fn interrupt_message(&self, line: u32) -> Result<(u64, u64), Error> {
        self.platform.interrupts.message(line)
    }

    fn interrupt_unmask(&mut self, line: u32) {
        self.platform.interrupts.unmask(line);
    }

    fn interrupt_mask(&mut self, line: u32) {
        self.platform.interrupts.mask(line);
    }

    fn port_in(&mut self, _port: u16, _size: u8) -> Result<u32, Error> {
        Err(Error::Unsupported)
    }

    fn port_out(&mut self, _port: u16, _size: u8, _value: u32) -> Result<(), Error> {
        Err(Error::Unsupported)
    }

    fn console_write(&mut self, bytes: &[u8]) {
        console::write(bytes);
    }

    fn reset(&mut self, reset: Reset) {
        match reset {
            Reset::PowerOff => sbi::power_off(),
            Reset::Reboot => sbi::reboot(),
        }
    }
}
