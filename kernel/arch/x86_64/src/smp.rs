//! Starting the other cores: one after the other, by INIT and start-up interrupts (SDM 3A, 8.4).

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anos_machine::CoreId;

use crate::apic;
use crate::entry;
use crate::paging::WINDOW;
use crate::patience;
use crate::percore::{self, CoreData};
use crate::time;
use crate::traps;

/// The data (and stack top) of the core that is being started; it takes the number, so that no other can. See `entry`.
pub static NEXT_CORE: AtomicU64 = AtomicU64::new(0);
/// How many cores run.
static RUNNING: AtomicU64 = AtomicU64::new(1);
/// Whether the root server is there, so that cores may enter the kernel.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Nanoseconds that the cores get to reset themselves.
const RESET_NS: u64 = 10_000_000;
/// Nanoseconds until the start-up interrupt is repeated.
const REPEAT_NS: u64 = 2_000_000;
/// Nanoseconds until a core counts as missing: long, because virtual cores share real ones.
const PATIENCE_NS: u64 = 5_000_000_000;

/// How many cores run.
pub fn running() -> u64 {
    RUNNING.load(Ordering::Acquire)
}

/// Copies the real-mode code to where cores start.
pub fn copy_trampoline() {
    let start = &raw const entry::trampoline_start;
    let bytes = &raw const entry::trampoline_end as usize - start as usize;
    let to = WINDOW + entry::TRAMPOLINE;
    // By hand: the library's function would be in the image for this alone.
    // SAFETY: the trampoline's page is low memory, mapped at the window and used for nothing else; the code is the
    // image's.
    unsafe {
        asm!("rep movsb", inout("rcx") bytes => _, inout("rsi") start => _, inout("rdi") to => _, options(nostack))
    };
}

/// Starts the cores but this one, in the order of their local APICs' ids; as many blocks are laid out and prepared. Answers
/// how many run; they wait in [`core_main`] until [`open`].
pub fn start_others(ids: &[u32], own: u32) -> u64 {
    let mut told_to_reset = false;
    for &id in ids {
        // There are blocks for as many as are listed, also if this one isn't among them.
        if id == own || running() == ids.len() as u64 {
            continue;
        }
        if !told_to_reset {
            told_to_reset = true;
            apic::send_init_to_others();
            time::delay(RESET_NS);
        }
        let Some(core) = CoreId::new(running()) else { break };
        NEXT_CORE.store(percore::data_address(core), Ordering::SeqCst);
        let before = running();
        // One that is missing: the next one gets its number. Should it wake up yet, it takes what is there: the number
        // of a core that is being started now, which stays out then, or nothing. If it just took it, it is on its way.
        if !start_one(id, before) && NEXT_CORE.swap(0, Ordering::SeqCst) == 0 {
            while running() == before {
                core::hint::spin_loop();
            }
        }
    }
    running()
}

fn start_one(id: u32, before: u64) -> bool {
    let begin = time::now();
    apic::send_start(id, entry::TRAMPOLINE);
    let mut repeated = false;
    while running() == before {
        let waited = time::now() - begin;
        if waited > PATIENCE_NS {
            return false;
        }
        if waited > REPEAT_NS && !repeated {
            repeated = true;
            apic::send_start(id, entry::TRAMPOLINE);
        }
        core::hint::spin_loop();
    }
    true
}

/// Stops every other core, whatever it does.
pub fn stop_others() {
    if running() > 1 {
        apic::stop_others();
    }
}

/// Lets the cores in.
pub fn open() {
    OPEN.store(true, Ordering::Release);
}

/// Where `entry` sends a new core, on its own stack.
pub extern "C" fn core_main(core: &'static CoreData) -> ! {
    traps::start_core(core);
    // Only now it is known which core has this number (see `start_others`).
    apic::set_id(core.id, apic::id());
    RUNNING.fetch_add(1, Ordering::AcqRel);
    while !OPEN.load(Ordering::Acquire) {
        patience::wait(core);
    }
    traps::begin(core)
}
