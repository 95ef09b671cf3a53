//! Brings up the other harts. The boot hart is core 0, whatever its id; the others follow in the devicetree's order.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anos_machine::{CoreId, Event};

use crate::hart::{self, HARTS, Hart};
use crate::machine::{self, CORES, PLATFORM, Platform};
use crate::{console, csr, description, entry, fpu, report, sbi, time, trap_entry, traps};

/// How long a hart may take to come up, ns.
const PATIENCE_NS: u64 = 20_000_000_000;

/// How often to look whether it has, ns.
const LOOK_NS: u64 = 20_000;

/// Whose turn it is to come up: 0 at first, 1 once a hart boots, then the physical address of the block of the hart that
/// is being started, plus 1. A hart takes its block from here, not from the argument that the firmware passes, because
/// OpenSBI 1.1 lets a waiting hart go before it has written down where to and with what: now and then one arrives at the
/// start of the image, as if it were to boot. Among the initialised variables, since the boot hart clears the others.
#[unsafe(link_section = ".data.turn")]
pub static TURN: AtomicU64 = AtomicU64::new(0);

/// The root server is there: the other cores may enter the kernel.
static READY: AtomicBool = AtomicBool::new(false);

/// What each hart sets up for itself, and looks up in itself: which interrupts it wants, what user mode may read; the size
/// of its vector registers and its address-space ids.
pub fn set_up(platform: &Platform, hart: &Hart) {
    time::set_timer(platform, u64::MAX);
    csr::set_user_counters(platform.user_counters);
    fpu::set_up(platform.vectors, hart.core);
    machine::count_tags();
    csr::enable(csr::SOFTWARE | csr::TIMER);
    if hart.core == CoreId::BOOT {
        platform.interrupts.set_up();
        csr::enable(csr::EXTERNAL);
    }
}

/// Starts all harts but the boot hart, one after the other, so that core numbers stay dense if one can't be started.
/// `load_offset` is what to subtract from a virtual address in the image for its physical one.
pub fn start(processors: &[description::Processor], boot_hart: u64, load_offset: u64) {
    let platform = PLATFORM.get();
    for processor in processors.iter().filter(|processor| processor.hart_id != boot_hart) {
        let number = CORES.load(Ordering::Relaxed);
        let Some(core) = CoreId::new(number) else { return };
        let Some(cell) = HARTS.get(core.index()) else { return };
        let block = cell.0.get();
        // SAFETY: the block of a hart that doesn't run yet.
        unsafe { &mut *block }.prepare(core, processor.hart_id, platform);
        TURN.store((block as u64).wrapping_sub(load_offset) | 1, Ordering::Release);
        let address = entry::image().start_other.wrapping_sub(load_offset);
        if let Err(refused) = sbi::start_hart(processor.hart_id, address)
            && refused != sbi::ALREADY_STARTED
        {
            console::text("anos: the firmware does not start hart ");
            console::decimal(processor.hart_id);
            console::text("; going on without it\n");
            continue;
        }
        let deadline = time::now(platform).saturating_add(PATIENCE_NS);
        while CORES.load(Ordering::Acquire) == number {
            if time::now(platform) > deadline {
                report::boot_error("a hart was started but did not come up");
            }
            // Sleeps between two looks, so that the other hart gets the processor where both are virtual.
            time::set_timer(platform, time::now(platform).saturating_add(LOOK_NS));
            csr::wait();
            time::set_timer(platform, u64::MAX);
        }
    }
}

/// Lets the other cores into the kernel.
pub fn release() {
    READY.store(true, Ordering::Release);
    for number in 1..CORES.load(Ordering::Relaxed) {
        if let Some(core) = CoreId::new(number) {
            sbi::interrupt_hart(hart::hart_id(core));
        }
    }
}

/// Another hart has come up, on its own stack and with the kernel's translation.
///
/// # Safety
/// Called by `entry.rs` alone, with this hart's block.
pub unsafe extern "C" fn started(hart: *mut Hart) -> ! {
    // SAFETY: this hart's own block; the boot hart has left it alone since it started this one.
    let hart = unsafe { &mut *hart };
    set_up(PLATFORM.get(), hart);
    CORES.fetch_add(1, Ordering::AcqRel);
    while !READY.load(Ordering::Acquire) {
        csr::wait();
    }
    run(hart)
}

/// Enters the kernel for the first time, and runs what there is to run.
pub fn run(hart: &mut Hart) -> ! {
    // SAFETY: nothing else is ever put there.
    unsafe { csr::set_status(hart.user_status) };
    traps::proceed(hart, Event::Start);
    // SAFETY: `proceed` put a thread into the block and loaded its address space.
    unsafe { trap_entry::run() }
}
