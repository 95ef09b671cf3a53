//! Random system calls with random arguments, by programs that hold one of each kind of object, on all cores at once:
//! whatever they do, everything that is not theirs is as before.
//!
//! The numbers are the same in each run. `random=60` on the command line lets the last case run for so many seconds, with
//! other numbers each time.

use core::sync::atomic::Ordering;

use anos::abi::object::Method;
use anos::abi::{Operation, Slots, SystemCall};
use anos::capability::{
    AddressSpace, CapTable, Capability, Endpoint, Frame, Notification, PageTable, Reply, SchedContext, Slot, Thread,
    Untyped,
};
use anos::{Kind, Message, Rights, env};

use super::cases;
use super::ipc::server;
use crate::arch::{self, Registers};
use crate::case::{Case, SLOTS, TABLE, Window, core, count, in_ms, look, now, shared, shared_value, to_usize};
use crate::check::{Outcome, check, equal};
use crate::helper::{Helper, LOW};
use crate::supervisor::{random_seconds, say};

cases![
    random_calls_harm_nobody,
    random_calls_on_all_cores_harm_nobody on 2,
    random_calls_of_programs_that_share_harm_nobody on 2,
    random_calls_go_on_as_long_as_asked,
];

/// Numbers that look random: a xorshift generator (Marsaglia, 2003).
pub struct Random(u64);

impl Random {
    /// Other numbers for each seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 8) % end
    }

    /// A number below this one.
    pub fn small(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(end.into())).unwrap_or(0)
    }

    /// Any slot.
    pub fn slot(&mut self) -> u32 {
        self.small(u32::MAX)
    }

    /// A number that is often interesting.
    pub fn word(&mut self) -> u64 {
        match self.below(7) {
            0 => self.below(4),
            1 => self.below(64),
            2 => 1 << self.below(64),
            3 => self.below(1 << 20) << 12,
            4 => u64::MAX - self.below(3),
            5 => 10_000 << self.below(12),
            _ => self.next(),
        }
    }
}

/// Slots of a wild program's table that hold something at first, its own table in the first of them.
const HELD: u64 = 28;

/// A random system call on what lies in the first slots of a table.
fn random_call(random: &mut Random) -> Registers {
    let mut registers: Registers = core::array::from_fn(|_| random.word());
    let call = match random.below(8) {
        0 => SystemCall::Send,
        1 => SystemCall::Recv,
        2 => SystemCall::ReplyRecv,
        3 => SystemCall::Yield,
        _ => SystemCall::Call,
    };
    let slot = |random: &mut Random| u32::try_from(random.below(HELD + 4)).unwrap_or(0);
    registers[0] = Operation::new(call, slot(random)).0;
    if random.below(20) != 0
        && let Some(method) = Method::ALL.get(to_usize(random.below(Method::ALL.len() as u64)))
    {
        registers[1] = method.label();
    }
    registers[2] = Slots::new(slot(random), slot(random)).0;
    registers[3] = random.below(HELD + 4);
    // Never long.
    registers[4] = if random.below(2) == 0 { 0 } else { now() + random.below(200_000) };
    for word in registers.iter_mut().skip(5).take(3) {
        if random.below(2) == 0 {
            *word = random.below(HELD + 4);
        }
    }
    registers
}

/// A helper: makes random calls, in a table of its own, as many as word 2 says; word 0 counts them, word 1 registers that
/// are not clean.
fn run_wild(seed: u64) {
    let mut random = Random::new(seed);
    for _ in 0..shared_value(2) {
        let mut registers = random_call(&mut random);
        // SAFETY: nothing in this thread's table gives it power over memory that the program uses.
        unsafe { arch::raw_system_call(&raw mut registers) };
        count(0);
        let code = arch::raw_system_call as *const () as u64;
        if registers.iter().enumerate().skip(13).any(|(n, register)| !arch::is_clean(n, *register, code)) {
            count(1);
        }
    }
}

/// A table with one of each kind of object, made of this memory.
fn possessions(case: &mut Case, memory: Untyped, on: u64) -> Outcome<CapTable> {
    let table: CapTable = memory.make(64, case.slot())?;
    let first = case.slots(24);
    let mut made = 0;
    let mut next = || {
        made += 1;
        first.offset(made - 1)
    };
    let own: Untyped = memory.make(16, next())?;
    let (frame, large): (Frame, Frame) = (memory.make(2, next())?, memory.make(3, next())?);
    let (one, two, three): (PageTable, PageTable, PageTable) =
        (memory.make(0, next())?, memory.make(0, next())?, memory.make(0, next())?);
    let (space, second_space): (AddressSpace, AddressSpace) = (memory.make(0, next())?, memory.make(0, next())?);
    let (thread, second): (Thread, Thread) = (memory.make(0, next())?, memory.make(0, next())?);
    let (endpoint, another): (Endpoint, Endpoint) = (memory.make(0, next())?, memory.make(0, next())?);
    let (reply, spare): (Reply, Reply) = (memory.make(0, next())?, memory.make(0, next())?);
    let notification: Notification = memory.make(0, next())?;
    let other: CapTable = memory.make(64, next())?;
    let context: SchedContext = core(on).make_context(memory, next())?;
    let limited: SchedContext = core(on).make_context(memory, next())?;
    core(on).limit(limited, 50_000, 1_000_000, on % 2 == 1)?;
    let (badged, bit) = (next(), next());
    TABLE.mint(endpoint.slot(), badged, Rights::ALL, 9)?;
    TABLE.mint(notification.slot(), bit, Rights::ALL, 3)?;
    // Threads that nearly run, at nothing: there is no code in their spaces.
    for (thread, space) in [(thread, space), (second, second_space)] {
        thread.set_table(other)?;
        thread.set_space(space)?;
        thread.set_fault_endpoint(Some(another))?;
        thread.set_priority(LOW, LOW)?;
    }
    thread.set_context(Some(context))?;
    let all = [own.slot(), frame.slot(), large.slot(), one.slot(), two.slot(), three.slot(), space.slot()];
    let more = [second_space.slot(), thread.slot(), second.slot(), endpoint.slot(), another.slot(), reply.slot()];
    let rest = [spare.slot(), notification.slot(), other.slot(), context.slot(), limited.slot(), badged, bit];
    for (place, slot) in (2..).zip(all.into_iter().chain(more).chain(rest)) {
        table.take(slot, Slot::new(place))?;
    }
    table.copy(table.slot(), Slot::new(1), Rights::ALL)?;
    Ok(table)
}

/// What is not theirs, and how it was.
struct Bystanders {
    window: Window,
    endpoint: Endpoint,
    counter: Helper,
    slots: u64,
}

/// A helper: counts in word 3, until word 4 is set.
fn count_beside(_: u64) {
    while shared_value(4) == 0 {
        count(3);
        anos::sys::yield_now();
    }
}

/// What lies in this program's slots, as one number.
pub fn slots() -> Outcome<u64> {
    let mut sum = 0_u64;
    for slot in (1..1024).chain(SLOTS).map(Slot::new) {
        let found = look(slot)?;
        let words = [found.kind as u64, found.rights.0.into(), found.badge, found.size, found.in_use.into()];
        sum = words.iter().fold(sum, |sum, word| (sum ^ word).wrapping_mul(0x0100_0000_01b3));
    }
    Ok(sum)
}

/// What a word of the bystanders' memory holds.
const fn secret(word: u64) -> u64 {
    0x5ec2_e700_0000_0000 + word * 0x1_0003
}

impl Bystanders {
    fn new(case: &mut Case) -> Outcome<Bystanders> {
        let window = case.window(8)?;
        (0..8 * 512).for_each(|word| window.write(word, secret(word)));
        let (endpoint, ..) = server(case, 0)?;
        let counter = case.helper(env::cores() - 1, LOW, count_beside, 0)?;
        // What a sleep needs is made now, before the slots are looked at.
        case.sleep(1)?;
        Ok(Bystanders { window, endpoint, counter, slots: 0 })
    }

    /// Checks that all is as it was: memory, slots, a server that answers, a thread that goes on.
    fn are_unharmed(&self, case: &mut Case) -> Outcome {
        for (word, found) in (0..).zip(self.window.words()) {
            check!(found == secret(word), "word {word} of a Frame is {found:#x}");
        }
        equal!(slots()?, self.slots);
        equal!(self.endpoint.call(&Message::new(0, &[41]))?[0], 42);
        let seen = shared_value(3);
        case.eventually(|| shared_value(3) > seen)?;
        equal!(u64::from(self.counter.thread.info()?.core), env::cores() - 1);
        Ok(())
    }
}

/// Memory for one wild program.
const PAGES: u64 = 48;
/// Wild programs at once, at most.
const MOST: usize = 4;

/// Lets programs run wild on these cores, each with `calls` calls; takes everything back, and looks whether that is all.
fn let_wild(
    case: &mut Case,
    wild: &[Option<(Helper, Untyped)>; MOST],
    bystanders: &mut Bystanders,
    calls: u64,
    seed: u64,
    share: bool,
) -> Outcome {
    let mut table = None;
    let start = case.slots(0);
    for (on, (helper, memory)) in (0..).zip(wild.iter().flatten()) {
        let fresh = possessions(case, *memory, on)?;
        let used = if share { *table.get_or_insert(fresh) } else { fresh };
        helper.thread.set_table(used)?;
        case.set_argument(*helper, seed << 8 | on)?;
    }
    bystanders.slots = slots()?;
    let all = wild.iter().flatten().count() as u64;
    shared(0).store(0, Ordering::SeqCst);
    shared(2).store(calls, Ordering::SeqCst);
    for (helper, _) in wild.iter().flatten() {
        case.start(*helper)?;
    }
    case.eventually(|| shared_value(0) == all * calls)?;
    bystanders.are_unharmed(case)?;
    for (helper, _) in wild.iter().flatten() {
        helper.thread.suspend()?;
        helper.thread.set_table(TABLE)?;
    }
    check!(shared_value(1) == 0, "{} calls left something in a register", shared_value(1));
    // All of it comes back, whatever state it is in.
    for (_, memory) in wild.iter().flatten() {
        TABLE.revoke(memory.slot())?;
        equal!(memory.info()?.pages_used, 0);
        memory.retype(Kind::Untyped, PAGES, 1, case.slot())?;
    }
    for slot in start.number()..case.slots(0).number() {
        TABLE.revoke(Slot::new(slot))?;
        TABLE.delete(Slot::new(slot))?;
    }
    case.give_back(start);
    Ok(())
}

/// Rounds of random calls on so many cores.
fn rounds(case: &mut Case, cores: u64, seeds: impl Iterator<Item = u64>, calls: u64, share: bool) -> Outcome {
    let mut bystanders = Bystanders::new(case)?;
    let mut wild = [None; MOST];
    for (on, place) in (0..cores).zip(&mut wild) {
        let helper = case.prepare(on, LOW, run_wild, 0)?;
        helper.thread.set_priority(LOW, LOW)?;
        *place = Some((helper, case.make_sized(PAGES)?));
    }
    for seed in seeds {
        let_wild(case, &wild, &mut bystanders, calls, seed, share)?;
    }
    shared(4).store(1, Ordering::SeqCst);
    case.join(bystanders.counter)?;
    shared(4).store(0, Ordering::SeqCst);
    Ok(())
}

fn random_calls_harm_nobody(case: &mut Case) -> Outcome {
    rounds(case, 1, 0..6, 800, false)
}

fn random_calls_on_all_cores_harm_nobody(case: &mut Case) -> Outcome {
    rounds(case, env::cores().min(4), 10..14, 600, false)
}

fn random_calls_of_programs_that_share_harm_nobody(case: &mut Case) -> Outcome {
    rounds(case, env::cores().min(4), 20..24, 600, true)
}

fn random_calls_go_on_as_long_as_asked(case: &mut Case) -> Outcome {
    let end = in_ms(random_seconds() * 1000);
    let first = if random_seconds() == 0 { 30 } else { now() >> 10 };
    let seeds = (first..).take_while(|seed| {
        let goes_on = *seed == first || now() < end;
        if goes_on && random_seconds() != 0 {
            say(format_args!("random: seed {seed}\n"));
        }
        goes_on
    });
    rounds(case, env::cores().min(4), seeds, 1000, false)
}
