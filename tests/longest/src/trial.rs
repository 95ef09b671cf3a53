//! A trial: its steps, one after the other, on objects that are all made from one piece of memory, which is taken back in
//! the end. That is part of it: everything ends in the state that it is in.
//!
//! The trial's own thread is less urgent than those that it makes, and never waits for one for long; below it a thread
//! runs that does nothing, so that the core is never idle, and the meter always knows when the kernel was entered.
//!
//! - [`world`]: what stays from trial to trial;
//! - [`objects`], [`threads`], [`others`]: the steps.

mod objects;
mod others;
mod threads;
mod world;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use anos::abi::object::Method;
use anos::abi::syscall::{FOREVER, POLL};
use anos::abi::{MESSAGE_WORDS, SystemCall};
use anos::capability::Capability;
use anos::time::Instant;
use anos::{Error, Kind, env};

use crate::gene::{self, Gene};
use crate::marks::Mark;
use crate::meter::{self, Request};

pub use world::World;

/// Slots that a trial uses.
const SLOTS: core::ops::Range<u32> = 1600..4090;
/// Steps of a method, at most.
const STEPS: u32 = 100_000;
/// Where trials map, in this program's address space and in others.
const PLACE: u64 = 0x10_0000_0000;

/// The one of these that a number means.
fn of<T: Copy>(all: &[T], number: u8) -> T {
    all[usize::from(number) % all.len()]
}

/// A capability of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thing {
    slot: u32,
    kind: Kind,
    /// Whether it stays.
    lasting: bool,
    /// Whether it is a thread that runs in this program's address space.
    puppet: bool,
}

/// Whether timers come in a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// No deadline comes, and no budget ends: what the meter says is one visit.
    Calm,
    /// They do: when one timer follows another at once, the meter takes all of that for one visit.
    Wild,
}

/// A trial.
struct Trial<'a> {
    world: &'a World,
    weather: Weather,
    things: Vec<Thing>,
    next_slot: u32,
    /// The next free slot in tables that the trial has made.
    next_inside: u64,
    puppets: usize,
    started_ns: u64,
    /// What it does, if somebody wants to know.
    told: Option<Vec<String>>,
}

/// Makes a trial. Afterwards the meter says how long its visits were. Fails if not all could be taken back.
pub fn make(world: &World, genes: &[Gene], weather: Weather) -> Result<(), Error> {
    meter::reset();
    let mut trial = Trial::new(world, weather);
    genes.iter().for_each(|gene| trial.step(gene));
    trial.end()
}

/// Makes a trial, and says what it does up to the longest visit of this mark.
pub fn tell(world: &World, genes: &[Gene], weather: Weather, mark: Mark) -> Result<String, Error> {
    meter::reset();
    let mut trial = Trial::new(world, weather);
    trial.told = Some(Vec::new());
    let (mut longest, mut steps) = (0, 0);
    for gene in genes {
        trial.step(gene);
        if meter::longest(mark) > longest {
            (longest, steps) = (meter::longest(mark), trial.told.as_ref().map_or(0, Vec::len));
        }
    }
    let mut told = trial.told.take().unwrap_or_default();
    trial.end()?;
    if meter::longest(mark) > longest {
        told.push("all of it is taken back".into());
    } else {
        told.truncate(steps);
    }
    Ok(told.join("; "))
}

impl<'a> Trial<'a> {
    fn new(world: &'a World, weather: Weather) -> Trial<'a> {
        world.take_ports();
        let things = world.things().collect();
        let started_ns = Instant::now().nanoseconds();
        Trial { world, weather, things, next_slot: SLOTS.start, next_inside: 1, puppets: 0, started_ns, told: None }
    }

    fn step(&mut self, gene: &Gene) {
        let numbers = gene.numbers;
        match gene.kind {
            gene::Kind::Make => self.make_objects(numbers),
            gene::Kind::Copy => self.copy(numbers),
            gene::Kind::Map => self.map(numbers),
            gene::Kind::Unmap => self.unmap(numbers),
            gene::Kind::Threads => self.threads(numbers),
            gene::Kind::Chain => self.chain(numbers),
            gene::Kind::Part => self.part(numbers),
            gene::Kind::Control => self.control(numbers),
            gene::Kind::Limit => self.limit(numbers),
            gene::Kind::Slot => self.slot(numbers),
            gene::Kind::Store => self.store(numbers),
            gene::Kind::Inside => self.inside(numbers),
            gene::Kind::Message => self.message(numbers),
            gene::Kind::Any => self.any(numbers),
            gene::Kind::Pass => self.pass(numbers),
            gene::Kind::Lines => self.lines(numbers),
            gene::Kind::Raise => self.raise(),
            gene::Kind::Priority => self.priority(numbers),
        }
    }

    /// Takes everything back.
    fn end(mut self) -> Result<(), Error> {
        self.world.quieten();
        self.own_priority(world::PRIORITY);
        for slot in World::sources() {
            self.method(env::CAP_TABLE.number(), Method::CapTableRevoke, &[slot.into()], 0, 0)?;
        }
        Ok(())
    }

    /// What this step does.
    fn tell(&mut self, text: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(text());
        }
    }

    /// Calls a method until it is done.
    fn method(
        &mut self,
        target: u32,
        method: Method,
        words: &[u64],
        pass: u32,
        receive: u32,
    ) -> Result<[u64; MESSAGE_WORDS], Error> {
        let request = Request::new(Mark::method(method), SystemCall::Call, target, words).with_slots(pass, receive);
        let request = Request { label: method.label(), ..request };
        for _ in 0..STEPS {
            match meter::call(&request).result() {
                Err(Error::Again) => {}
                done => return done,
            }
        }
        Err(Error::Again)
    }

    /// The same where it doesn't matter what comes of it.
    fn try_method(&mut self, target: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> bool {
        self.method(target, method, words, pass, receive).is_ok()
    }

    /// So many free slots in a row, if there are any left.
    fn slots(&mut self, count: u32) -> Option<u32> {
        let first = self.next_slot;
        if first + count > SLOTS.end {
            return None;
        }
        self.next_slot += count;
        Some(first)
    }

    /// A new capability in a slot.
    fn add(&mut self, slot: u32, kind: Kind) -> Thing {
        let thing = Thing { slot, kind, lasting: false, puppet: false };
        self.things.push(thing);
        thing
    }

    /// Objects from the trial's memory; the slot of the first.
    fn retype(&mut self, kind: Kind, size: u64, count: u32) -> Option<u32> {
        let first = self.slots(count)?;
        let pass = if kind == Kind::SchedContext { world::SCHED_CONTROL } else { 0 };
        let words = [kind as u64, size, count.into(), 0];
        self.method(world::ARENA, Method::UntypedRetype, &words, pass, first).ok()?;
        (first..first + count).for_each(|slot| _ = self.add(slot, kind));
        Some(first)
    }

    /// The thing of this kind that a number means.
    fn pick(&self, kind: Kind, number: u8) -> Option<Thing> {
        let all: Vec<&Thing> = self.things.iter().filter(|thing| thing.kind == kind).collect();
        if all.is_empty() { None } else { Some(*of(&all, number)) }
    }

    /// The thing that a number means: of one of the kinds there are, so that those of which there are few come up too.
    fn pick_any(&self, kind: u8, number: u8) -> Option<Thing> {
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| self.pick(*kind, 0).is_some()).collect();
        if kinds.is_empty() { None } else { self.pick(of(&kinds, kind), number) }
    }

    /// The slot of a thing of this kind; 0 if there is none.
    fn slot_of(&self, kind: Kind, number: u8) -> u32 {
        self.pick(kind, number).map_or(0, |thing| thing.slot)
    }

    /// An object of this kind, made if there is none.
    fn pick_or_make(&mut self, kind: Kind, number: u8) -> Option<u32> {
        match self.pick(kind, number) {
            Some(thing) => Some(thing.slot),
            None => self.retype(kind, if kind == Kind::CapTable { 64 } else { 0 }, 1),
        }
    }

    /// A point in time: never, at once, or one of a few that threads have in common.
    fn deadline(&self, number: u8) -> u64 {
        const TOGETHER_NS: u64 = 1_000_000;
        if self.weather == Weather::Calm {
            return if number.is_multiple_of(8) { POLL } else { FOREVER };
        }
        let now = Instant::now().nanoseconds();
        let next = self.started_ns + ((now - self.started_ns) / TOGETHER_NS + 1) * TOGETHER_NS;
        match number % 8 {
            0 => POLL,
            1 => now + 30_000,
            2 => next,
            3 => next + TOGETHER_NS,
            4 => next + 4 * TOGETHER_NS,
            5 => now + (1 << 40),
            _ => FOREVER,
        }
    }
}

/// A number of things, in words.
fn several(count: u64, kind: Kind) -> String {
    if count == 1 { one(kind) } else { format!("{count} {}s", kind.name()) }
}

/// A thing, in words.
fn one(kind: Kind) -> String {
    let article = if kind.name().starts_with(['A', 'E', 'I', 'U']) { "an" } else { "a" };
    format!("{article} {}", kind.name())
}

/// So many of them are.
fn be(count: u32) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// The slot of a capability.
fn number(capability: impl Capability) -> u32 {
    capability.slot().number()
}
