//! What QEMU calls.

use std::ffi::{c_char, c_int, c_uint};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::arguments::{Arguments, Mode};
use crate::code::Target;
use crate::cores::{Block, CORES};
use crate::interface::{self, Id, Information, Machine, RawBlock, Translation};
use crate::lines::{Lines, Store};
use crate::visits::Visits;

/// The version of the interface that this plugin is written for.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

/// What is known from the start.
struct Settings {
    target: Target,
    cores: usize,
    arguments: Arguments,
}

/// What is known from the start. Set before anything else is called.
static SETTINGS: OnceLock<Settings> = OnceLock::new();
/// Where reports go.
static OUTPUT: Mutex<Option<File>> = Mutex::new(None);
/// Whether to watch: from the first mark on, or between two.
static WATCHING: AtomicBool = AtomicBool::new(false);
/// Marks that were passed.
static MARKS: AtomicU64 = AtomicU64::new(0);
static VISITS: Mutex<Option<Visits>> = Mutex::new(None);
static LINES: Mutex<Option<Lines>> = Mutex::new(None);

/// The lowest address of the upper half.
const UPPER_HALF: u64 = 1 << 63;
/// In the number of a store: that the instruction is atomic. The rest is its address, without the highest bit.
const ATOMIC: usize = 1 << 63;

/// QEMU loads the plugin.
///
/// # Safety
/// Only QEMU calls it, with what its documentation says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    information: *const Information,
    count: c_int,
    values: *const *const c_char,
) -> c_int {
    // SAFETY: what QEMU passed.
    let machine = unsafe { interface::machine(information) };
    // SAFETY: what QEMU passed.
    let words = unsafe { interface::arguments(count, values) };
    match prepare(&machine, &words) {
        Ok(()) => {
            // SAFETY: QEMU's id; what it passes to the two is what they expect.
            unsafe { interface::register(id, translated, ended) };
            0
        }
        Err(error) => {
            // QEMU's log may be closed.
            eprintln!("anos-probe: {error}");
            -1
        }
    }
}

fn prepare(machine: &Machine, words: &[String]) -> Result<(), String> {
    let arguments = Arguments::read(words.iter().map(String::as_str))?;
    let target = machine.target.ok_or("not a machine that Anos runs on, or another version of QEMU's interface")?;
    let file = File::create(&arguments.output).map_err(|error| format!("{}: {error}", arguments.output.display()))?;
    set(&OUTPUT, file);
    set(&VISITS, Visits::default());
    set(&LINES, Lines::default());
    SETTINGS.set(Settings { target, cores: machine.cores, arguments }).map_err(|_| "loaded twice".to_string())
}

fn set<T>(place: &Mutex<Option<T>>, value: T) {
    if let Ok(mut place) = place.lock() {
        *place = Some(value);
    }
}

fn with<T>(place: &Mutex<Option<T>>, function: impl FnOnce(&mut T)) {
    // Nobody panics with such a lock held.
    if let Ok(mut place) = place.lock()
        && let Some(value) = place.as_mut()
    {
        function(value);
    }
}

fn write(text: &str) {
    with(&OUTPUT, |file| {
        if let Err(error) = file.write_all(text.as_bytes()) {
            interface::say(&format!("anos-probe: cannot write: {error}\n"));
        }
    });
}

/// QEMU translates a block.
extern "C" fn translated(_: Id, block: *mut RawBlock) {
    let Some(settings) = SETTINGS.get() else { return };
    // SAFETY: what QEMU passed to this call, and not kept.
    let block = unsafe { Translation::new(block) };
    let address = block.address();
    let in_firmware = settings.arguments.firmware.contains(&address);
    if address < UPPER_HALF && !in_firmware {
        block.when_executed(in_program, 0);
        for instruction in block.instructions() {
            if let Some(mark) = settings.target.mark(instruction.bytes()) {
                instruction.when_executed(passed_mark, usize::try_from(mark).unwrap_or(0));
            }
        }
        return;
    }
    let target = settings.target;
    let returns = !in_firmware && block.instructions().next_back().is_some_and(|last| target.returns(last.bytes()));
    // On RISC-V, QEMU translates on behind an instruction that waits, but never executes what is there: who has waited
    // comes back in a block of its own.
    let wait = block.instructions().position(|instruction| !in_firmware && target.waits(instruction.bytes()));
    let goes_on = block.instructions().next().is_some_and(|first| target.goes_on(first.bytes()));
    let number = Block::new(address, wait.map_or(block.instructions().len(), |wait| wait + 1))
        .waiting(wait.is_some())
        .returning(returns)
        .going_on(goes_on)
        .0;
    match settings.arguments.mode {
        Mode::Visits if in_firmware => block.when_executed(in_firmware_visit, number),
        Mode::Visits => block.when_executed(in_kernel_visit, number),
        Mode::Lines if in_firmware => {}
        Mode::Lines => {
            block.when_executed(in_kernel_lines, number);
            watch_writes(&block, settings.target);
        }
    }
}

fn watch_writes(block: &Translation, target: Target) {
    for instruction in block.instructions() {
        let address = usize::try_from(instruction.address() & !UPPER_HALF).unwrap_or(0);
        let atomic = if target.is_atomic(instruction.bytes()) { ATOMIC } else { 0 };
        instruction.when_writing(kernel_writes, address | atomic);
    }
}

/// A core executes a program's block: its visit to the kernel is over.
extern "C" fn in_program(core: c_uint, _: usize) {
    leave(core as usize);
}

/// A core executes a block of the kernel.
extern "C" fn in_kernel_visit(core: c_uint, number: usize) {
    let block = Block(number);
    let Some(here) = CORES.get(core as usize) else { return };
    if here.is_parted_from(block) {
        leave(core as usize);
    }
    here.add(block);
    if block.waits() {
        leave(core as usize);
    }
}

/// A core executes a block of the firmware: it counts if the kernel has called it.
extern "C" fn in_firmware_visit(core: c_uint, number: usize) {
    if let Some(core) = CORES.get(core as usize)
        && core.is_inside()
    {
        core.add(Block(number));
    }
}

/// A core leaves the kernel, if it was there.
fn leave(core: usize) {
    let (Some(here), Some(settings)) = (CORES.get(core), SETTINGS.get()) else { return };
    if !here.is_inside() {
        return;
    }
    here.end(|visit| {
        if WATCHING.load(Ordering::Relaxed) && settings.arguments.mode == Mode::Visits {
            let marks = MARKS.load(Ordering::Relaxed);
            with(&VISITS, |visits| visits.note(visit, core, here.mark(), marks, &settings.arguments.passes));
        }
    });
}

/// A core executes a block of the kernel, and only writes are of interest.
extern "C" fn in_kernel_lines(core: c_uint, number: usize) {
    let core = core as usize;
    let Some(here) = CORES.get(core) else { return };
    let was_inside = here.set_inside(!Block(number).waits());
    if !was_inside && WATCHING.load(Ordering::Relaxed) {
        with(&LINES, |lines| lines.enter(core));
    }
}

/// The kernel writes to memory.
extern "C" fn kernel_writes(core: c_uint, access: u32, address: u64, number: usize) {
    if !WATCHING.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: what QEMU passed to this call.
    if !unsafe { interface::is_write(access) } {
        return;
    }
    // SAFETY: what QEMU passed to this call.
    let Some(physical) = (unsafe { interface::physical(access, address) }) else { return };
    let place = (number & !ATOMIC) as u64 | UPPER_HALF;
    let store = Store { core: core as usize, place, address, physical, atomic: number & ATOMIC != 0 };
    with(&LINES, |lines| lines.write(store));
}

/// A program passes a mark.
extern "C" fn passed_mark(core: c_uint, number: usize) {
    let (Some(core), Some(settings)) = (CORES.get(core as usize), SETTINGS.get()) else { return };
    let mark = number as u64;
    core.pass(mark);
    MARKS.fetch_add(1, Ordering::Relaxed);
    let arguments = &settings.arguments;
    match arguments.mode {
        Mode::Visits => WATCHING.store(true, Ordering::Relaxed),
        Mode::Lines if mark == arguments.start => {
            with(&LINES, |lines| lines.begin(settings.cores));
            WATCHING.store(true, Ordering::Relaxed);
        }
        Mode::Lines if mark == arguments.stop && WATCHING.swap(false, Ordering::Relaxed) => {
            with(&LINES, |lines| write(&lines.report()));
        }
        Mode::Lines => {}
    }
}

/// QEMU ends.
extern "C" fn ended(_: Id, _: usize) {
    if let Some(settings) = SETTINGS.get()
        && settings.arguments.mode == Mode::Visits
    {
        with(&VISITS, |visits| write(&visits.report(settings.arguments.most)));
    }
}
