//! Runs the cases, one after the other, in a thread of their own, and says how each ended.
//!
//! The supervisor is the first thread, at the highest priority. It waits for the worker to report, so nothing that a
//! case does goes unnoticed: a fault of the worker or a helper comes here as a message, a panic too (see
//! [`set_up`]), and a case that hangs runs into the deadline. Then the case's threads and memory are taken back, and
//! the next one begins.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};

use anos::abi::boot::slot;
use anos::abi::fault::{self, FaultKind};
use anos::abi::object::ThreadFlags;
use anos::capability::{Capability, Debug, Endpoint, Reply, SchedContext, Slot, StartState, Thread, Untyped};
use anos::sys::Received;
use anos::{Error, Kind, Message, Rights, env};

use crate::arch;
use crate::case::{self, Case, MEMORY, MEMORY_PAGES, SPACE, TABLE, core, in_ms};
use crate::cases::{GROUPS, Group, TestCase};
use crate::check::{Failure, Outcome};
use crate::helper::NORMAL;

/// The kernel's console.
pub const DEBUG: Debug = Debug::at(Slot::new(slot::DEBUG));
/// Where faults of the worker and of helpers go.
pub const FAULTS: Endpoint = Endpoint::at(Slot::new(517));
/// What the supervisor's own objects are made of.
const OWN_MEMORY: Untyped = Untyped::at(Slot::new(513));
const OWN_MEMORY_PAGES: u64 = 16;
const ENDPOINT: Endpoint = Endpoint::at(Slot::new(514));
const REPLY: Reply = Reply::at(Slot::new(515));
/// The thread that runs the cases.
pub const WORKER: Thread = Thread::at(Slot::new(516));
const REPORTS: Endpoint = Endpoint::at(Slot::new(518));
/// The first thread itself, out of its usual slot.
const SUPERVISOR: Thread = Thread::at(Slot::new(519));
/// The worker's CPU time.
pub const WORKER_CONTEXT: SchedContext = SchedContext::at(Slot::new(521));
/// Where the whole of a case's memory goes, to see that it is free.
const PROBE: Slot = Slot::new(520);

/// Badges of what comes to the supervisor.
const BADGE_FAULT: u64 = 1;
const BADGE_REPORT: u64 = 2;
const BADGE_PANIC: u64 = 3;

/// How long a case may take, ms.
const PATIENCE_MS: u64 = 60_000;
const STACK_BYTES: usize = 64 * 1024;

/// How a case that ran to its end ended, and the worker's stack. One thread at a time looks: the worker writes, then
/// reports; the supervisor reads after the report.
struct Shared<T>(UnsafeCell<T>);

// SAFETY: the worker and the supervisor take turns, ordered by messages.
unsafe impl<T> Sync for Shared<T> {}

/// Memory for a stack. Rust never looks at it.
#[repr(align(16))]
struct Stack {
    _bytes: [u8; STACK_BYTES],
}

static RESULT: Shared<Outcome> = Shared(UnsafeCell::new(Ok(())));
static STACK: Shared<Stack> = Shared(UnsafeCell::new(Stack { _bytes: [0; STACK_BYTES] }));

/// How many cases ended how.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

/// Runs everything, and switches the machine off.
pub fn main() {
    let mut tally = Tally::default();
    match set_up() {
        Ok(()) => run_all(&mut tally),
        Err(failure) => {
            tally.failed += 1;
            say(format_args!("FAILED suite/set_up: {failure}\n"));
        }
    }
    if tally.skipped != 0 {
        say(format_args!("skipped {}: they need more cores\n", tally.skipped));
    }
    say(format_args!("anos-test: {} passed, {} failed\n", tally.passed, tally.failed));
    let error = DEBUG.reset(false);
    say(format_args!("anos-test: power off: {error}\n"));
}

/// Writes to the kernel's console, in pieces that fill a message.
pub fn say(arguments: fmt::Arguments<'_>) {
    struct Pieces {
        bytes: [u8; 48],
        used: usize,
    }
    impl Pieces {
        fn flush(&mut self) {
            // Who could be told that the console fails?
            let _ = DEBUG.write(self.bytes.get(..self.used).unwrap_or_default());
            self.used = 0;
        }
    }
    impl Write for Pieces {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                if self.used == self.bytes.len() {
                    self.flush();
                }
                if let Some(place) = self.bytes.get_mut(self.used) {
                    *place = byte;
                    self.used += 1;
                }
            }
            Ok(())
        }
    }
    let mut pieces = Pieces { bytes: [0; 48], used: 0 };
    let _ = pieces.write_fmt(arguments);
    pieces.flush();
}

/// Makes the supervisor's objects.
fn set_up() -> Outcome {
    let memory = largest_memory()?;
    memory.retype(Kind::Untyped, MEMORY_PAGES, 1, MEMORY.slot())?;
    memory.retype(Kind::Untyped, OWN_MEMORY_PAGES, 1, OWN_MEMORY.slot())?;
    OWN_MEMORY.make::<Endpoint>(0, ENDPOINT.slot())?;
    OWN_MEMORY.make::<Reply>(0, REPLY.slot())?;
    OWN_MEMORY.make::<Thread>(0, WORKER.slot())?;
    core(0).make_context(OWN_MEMORY, WORKER_CONTEXT.slot())?;
    TABLE.mint(ENDPOINT.slot(), FAULTS.slot(), Rights::ALL, BADGE_FAULT)?;
    TABLE.mint(ENDPOINT.slot(), REPORTS.slot(), Rights::ALL, BADGE_REPORT)?;
    // A panic suspends the first thread by its usual slot. With an Endpoint there instead, it reports itself.
    TABLE.take(env::FIRST_THREAD.slot(), SUPERVISOR.slot())?;
    TABLE.mint(ENDPOINT.slot(), env::FIRST_THREAD.slot(), Rights::ALL, BADGE_PANIC)?;
    WORKER.set_table(TABLE)?;
    WORKER.set_space(SPACE)?;
    WORKER.set_fault_endpoint(Some(FAULTS))?;
    Ok(())
}

/// The Untyped with the most memory.
fn largest_memory() -> Outcome<Untyped> {
    let memory = env::untyped().filter(|(_, run)| run.device == 0);
    let largest = memory.max_by_key(|(_, run)| run.pages).map(|(untyped, _)| untyped);
    largest.ok_or(Failure::new(format_args!("there is no memory")))
}

/// What the command line asks for: `only=ipc/` runs the cases whose names begin like that.
fn wanted() -> &'static str {
    env::command_line().find_map(|word| word.strip_prefix("only=")).unwrap_or_default()
}

/// How long random calls go on, in seconds, if the command line says so (`random=60`); else 0.
pub fn random_seconds() -> u64 {
    let asked = env::command_line().find_map(|word| word.strip_prefix("random="));
    asked.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn run_all(tally: &mut Tally) {
    let wanted = wanted();
    let (category, prefix) = wanted.split_once('/').unwrap_or((wanted, ""));
    for group in GROUPS.iter().filter(|group| group.name.starts_with(category)) {
        for case in group.cases.iter().filter(|case| case.name.starts_with(prefix)) {
            if env::cores() < case.cores {
                tally.skipped += 1;
                continue;
            }
            run_one(tally, group, case);
        }
    }
}

fn run_one(tally: &mut Tally, group: &Group, case: &'static TestCase) {
    say(format_args!("run {}/{}\n", group.name, case.name));
    let outcome = run(case);
    let clean = clean_up();
    match outcome.and(clean) {
        Ok(()) => {
            tally.passed += 1;
            say(format_args!("ok {}/{}\n", group.name, case.name));
        }
        Err(failure) => {
            tally.failed += 1;
            say(format_args!("FAILED {}/{}: {failure}\n", group.name, case.name));
        }
    }
}

/// Runs a case in the worker, and waits until it ends in one way or another.
fn run(case: &'static TestCase) -> Outcome {
    case::reset();
    WORKER.set_context(Some(WORKER_CONTEXT))?;
    core(0).limit(WORKER_CONTEXT, 0, 0, false)?;
    WORKER.set_flags(ThreadFlags(0))?;
    WORKER.set_priority(NORMAL, u8::MAX)?;
    WORKER.start(&StartState {
        program_counter: arch::worker_entry as *const () as u64,
        stack_pointer: STACK.0.get() as u64 + STACK_BYTES as u64,
        thread_pointer: 0,
        arguments: [0, core::ptr::from_ref(case) as u64],
    })?;
    let ended = ENDPOINT.recv(Some(REPLY), None, in_ms(PATIENCE_MS + 1000 * random_seconds()));
    let state = WORKER.info()?;
    WORKER.suspend()?;
    match ended {
        Ok(Received { badge: BADGE_REPORT, .. }) => {
            // SAFETY: the worker has written it and then reported; it is stopped.
            unsafe { *RESULT.0.get() }
        }
        Ok(Received { badge: BADGE_PANIC, .. }) => Err(Failure::new(format_args!("panicked (see above)"))),
        Ok(received) => Err(fault_of(&received)),
        Err(Error::TimedOut) => {
            Err(Failure::new(format_args!("hangs: {:?} at {:#x}", state.state, state.program_counter)))
        }
        Err(error) => Err(error.into()),
    }
}

fn fault_of(received: &Received) -> Failure {
    let [kind, program_counter, address, ..] = received.message.words;
    if received.message.label != fault::LABEL {
        return Failure::new(format_args!("stray message with badge {}", received.badge));
    }
    let kind = FaultKind::from_number(kind).text();
    Failure::new(format_args!("faults: {kind} {address:#x}, program counter {program_counter:#x}"))
}

/// What the worker runs.
pub extern "C" fn work(case: &TestCase) -> ! {
    let outcome = (case.function)(&mut Case::new());
    // SAFETY: the supervisor waits for the report, and doesn't look before.
    unsafe { *RESULT.0.get() = outcome };
    loop {
        // There is no answer: the supervisor starts this thread again, with another case.
        let _ = REPORTS.call(&Message::OK);
    }
}

/// Takes back what a case has made, and checks that it all came back.
fn clean_up() -> Outcome {
    TABLE.revoke(MEMORY.slot())?;
    for slot in [slot::INTERRUPT_CONTROL, slot::IO_PORT_CONTROL, slot::DEBUG].map(Slot::new) {
        TABLE.revoke(slot)?;
    }
    for number in 0..env::cores() {
        TABLE.revoke(core(number).slot())?;
    }
    for device in devices() {
        TABLE.revoke(device.slot())?;
    }
    WORKER.bind(None)?;
    WORKER.set_fault_endpoint(Some(FAULTS))?;
    for slot in case::used_slots().map(Slot::new) {
        TABLE.delete(slot)?;
        if TABLE.look(slot)?.kind != Kind::Empty {
            return Err(Failure::new(format_args!("slot {} is still in use", slot.number())));
        }
    }
    let used = MEMORY.info()?.pages_used;
    if used != 0 {
        return Err(Failure::new(format_args!("{used} pages have not come back")));
    }
    MEMORY.retype(Kind::Untyped, MEMORY_PAGES, 1, PROBE)?;
    TABLE.delete(PROBE)?;
    Ok(())
}

/// The Untypeds with device memory.
pub fn devices() -> impl Iterator<Item = Untyped> {
    env::untyped().filter(|(_, run)| run.device == 1).map(|(untyped, _)| untyped)
}
