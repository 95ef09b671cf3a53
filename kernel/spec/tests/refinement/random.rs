//! Random programs, seeded.

use std::collections::VecDeque;

use anos_abi::fault::FaultKind;
use anos_abi::object::Method;
use anos_abi::{Kind, SystemCall};
use anos_machine::{Event, Fault, Ref, Slot, Thread};
use anos_sim::check::World;
use anos_sim::{Access, Message, Numbers, core_id};

use crate::generate::{self, Request, Tally};
use crate::pair::Pair;

/// Steps of one episode; then a fresh machine.
const EPISODE: u64 = 1000;
/// Steps of each test, unless `ANOS_STEPS` says otherwise.
const STEPS: u64 = 8_000;

/// What happened at a step, for the report of a failure.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "read only by Debug, in the report of a failure")]
enum Step {
    Call { core: u64, thread: u64, call: SystemCall, target: u32, method: Option<Method>, message: Message },
    Memory { core: u64, access: Access, address: u64 },
    Event { core: u64, event: Event },
    GoOn { core: u64 },
    Clock { to: u64 },
    Line { line: u32, raised: bool },
}

/// One run of one machine.
struct Episode {
    cores: u64,
    numbers: Numbers,
    pair: Pair,
    /// The root server's thread: it gets the others going again.
    keeper: Ref<Thread>,
    /// What it is about to do.
    plan: VecDeque<Request>,
    steps: Vec<Step>,
    tally: Tally,
}

/// Plays the steps that these numbers decide about, one each: for the fuzzer (`fuzz/`).
#[cfg(fuzzing)]
pub fn follow(cores: u64, steps: impl Iterator<Item = u64>) -> Result<(), String> {
    let mut episode = Episode::new(cores, 1);
    for seed in steps {
        episode.numbers = Numbers(seed);
        episode.step()?;
    }
    Ok(())
}

impl Episode {
    fn new(cores: u64, seed: u64) -> Episode {
        let (numbers, sim) = generate::start(cores, seed);
        let keeper = sim.root().thread;
        let pair = Pair::new(sim);
        Episode { cores, numbers, pair, keeper, plan: VecDeque::new(), steps: Vec::new(), tally: Tally::new() }
    }

    /// So many steps, or until nothing happens any more.
    fn play(&mut self, steps: u64) -> Result<(), String> {
        let mut quiet = 0;
        while (self.steps.len() as u64) < steps && quiet < 400 {
            if self.step()? {
                quiet = 0;
                continue;
            }
            quiet += 1;
            if quiet % 5 == 0 {
                // Nothing moves: on to the next thing that is due.
                let board = &mut self.pair.sim.board;
                let due = board.processors.iter().map(|processor| processor.timer).min().unwrap_or(0);
                if due < u64::MAX >> 1 {
                    board.clock = board.clock.max(due);
                }
            }
        }
        Ok(())
    }

    /// A core on which something can happen, mostly.
    fn core(&mut self) -> u64 {
        let sim = &self.pair.sim;
        let busy = |core: &u64| {
            let processor = &sim.board.processors[core_id(*core).index()];
            let at_rest = processor.thread.is_none() && processor.trapped.is_none();
            !at_rest || sim.board.pending(core_id(*core)).is_some()
        };
        let busy: Vec<u64> = (0..self.cores).filter(busy).collect();
        if busy.is_empty() { self.numbers.below(self.cores) } else { self.numbers.pick(&busy) }
    }

    /// Something happens; answers whether it was anything.
    fn step(&mut self) -> Result<bool, String> {
        if self.numbers.percent(8) {
            self.outside();
            return Ok(false);
        }
        let number = self.core();
        let core = core_id(number);
        let processor = &self.pair.sim.board.processors[core.index()];
        let (trapped, thread) = (processor.trapped.is_some(), processor.thread.some());
        if trapped {
            // Now and then others go first.
            return if self.numbers.percent(60) { self.go_on(number).map(|()| true) } else { Ok(false) };
        }
        if let Some(event) = self.pair.sim.board.pending(core)
            && self.numbers.percent(70)
        {
            return self.event(number, event);
        }
        if self.numbers.percent(2) {
            let event = self.stray(number);
            return self.event(number, event);
        }
        let Some(thread) = thread else { return Ok(false) };
        match self.numbers.below(100) {
            0..=7 if thread != self.keeper => self.memory(number),
            8 if thread != self.keeper => {
                let kind = FaultKind::from_number(self.numbers.below(9));
                let (address, cause) = (self.numbers.below(1 << 40), self.numbers.below(99));
                self.event(number, Event::Fault(Fault { kind, address, cause }))
            }
            _ => self.system_call(number, thread),
        }
    }

    /// Time passes, or a device does something.
    fn outside(&mut self) {
        let board = &mut self.pair.sim.board;
        if self.numbers.percent(60) {
            let passed = self.numbers.weighted(&[(5, 1), (5, 100), (5, 10_000), (2, 1_000_000), (1, 30_000_000)]);
            board.clock += self.numbers.below(passed) + 1;
            self.steps.push(Step::Clock { to: board.clock });
        } else {
            let line = u32::try_from(self.numbers.below(16) + 1).expect("small");
            let raised = self.numbers.percent(60);
            board.lines[line as usize].raised = raised;
            self.steps.push(Step::Line { line, raised });
        }
    }

    /// An event that nobody expects, as hardware sometimes has it.
    fn stray(&mut self, core: u64) -> Event {
        let line = u32::try_from(self.numbers.below(16) + 1).expect("small");
        match self.numbers.below(3) {
            0 => Event::Timer,
            1 if core == 0 && !self.pair.sim.board.lines[line as usize].raised => Event::Interrupt(line),
            _ => Event::Kick,
        }
    }

    /// A core traps, and goes on at once or later.
    fn event(&mut self, number: u64, event: Event) -> Result<bool, String> {
        self.steps.push(Step::Event { core: number, event });
        self.pair.trap(core_id(number), event);
        self.or_wait(number, 15)
    }

    fn or_wait(&mut self, number: u64, percent: u64) -> Result<bool, String> {
        if !self.numbers.percent(percent) {
            self.go_on(number)?;
        }
        Ok(true)
    }

    fn go_on(&mut self, number: u64) -> Result<(), String> {
        let core = core_id(number);
        self.steps.push(Step::GoOn { core: number });
        let caller = self.pair.spec.cores[core.index()].current;
        let called = self.pair.spec.cores[core.index()].trapped == Some(anos_spec::Event::SystemCall);
        let label = caller.map(|caller| self.pair.spec.threads[&caller].registers.label);
        self.pair.go_on(core)?;
        if let (true, Some(Ok(method)), Some(caller)) = (called, label.map(Method::try_from), caller)
            && let Some(thread) = self.pair.spec.threads.get(&caller)
        {
            let entry = self.tally.entry(format!("{method:?}")).or_default();
            entry.0 += 1;
            entry.1 += u64::from((thread.registers.operation & 0xffff, thread.registers.label) == (0, 0));
        }
        for thread in self.pair.spec.threads.values() {
            let state = format!("{:?}", thread.state);
            let name = state.split('(').next().unwrap_or_default();
            self.tally.entry(format!("({name})")).or_default().1 += 1;
        }
        Ok(())
    }

    fn memory(&mut self, number: u64) -> Result<bool, String> {
        let access = self.numbers.pick(&Access::ALL);
        let mut address = generate::address(&mut self.numbers, &self.pair.sim) + 8 * self.numbers.below(512);
        if self.numbers.percent(70) {
            // Mostly where something is mapped, or was.
            let world = World::look(&self.pair.sim)?;
            let mapped = |slot: &&Slot| slot.kind() == Kind::Frame && slot.space != 0;
            let pages: Vec<u64> = world.slots.values().filter(mapped).map(|slot| slot.badge).collect();
            address = if pages.is_empty() { 0x5f_f000 } else { self.numbers.pick(&pages) };
        }
        self.steps.push(Step::Memory { core: number, access, address });
        let value = self.numbers.next();
        match self.pair.access(core_id(number), access, address, value)? {
            None => Ok(true),
            Some(fault) => self.event(number, fault),
        }
    }

    fn system_call(&mut self, number: u64, thread: Ref<Thread>) -> Result<bool, String> {
        let world = World::look(&self.pair.sim)?;
        let keeper = thread == self.keeper;
        let (numbers, sim) = (&mut self.numbers, &self.pair.sim);
        if keeper && self.plan.is_empty() && numbers.percent(20) {
            self.plan = generate::revival(numbers, &world, thread).into();
        }
        let planned = if keeper { self.plan.pop_front() } else { None };
        let request = planned.unwrap_or_else(|| generate::request(numbers, sim, &world, thread, keeper));
        let Request { call, target, method, message } = request;
        self.steps.push(Step::Call { core: number, thread: thread.address(), call, target, method, message });
        self.pair.trap_call(core_id(number), call, target, &message);
        self.or_wait(number, 12)
    }
}

fn episode(cores: u64, seed: u64, tally: &mut Tally) {
    let mut episode = Episode::new(cores, seed);
    if let Err(difference) = episode.play(EPISODE) {
        let first = episode.steps.len().saturating_sub(12);
        println!("the last of {} steps:", episode.steps.len());
        for step in &episode.steps[first..] {
            println!("  {step:x?}");
        }
        panic!("{difference}\n{cores} cores; play it again with ANOS_SEED={seed}");
    }
    let steps = tally.entry(String::from("(steps)")).or_default();
    steps.0 += EPISODE;
    steps.1 += episode.steps.len() as u64;
    for (name, (calls, successes)) in episode.tally {
        let entry = tally.entry(name).or_default();
        entry.0 += calls;
        entry.1 += successes;
    }
}

fn play(cores: u64) {
    let played = generate::play(cores, EPISODE, STEPS, |seed, tally| episode(cores, seed, tally));
    let Some((tally, _)) = played else { return };
    for state in ["Stopped", "Ready", "Sending", "Calling", "Receiving", "Waiting", "Faulted"] {
        assert!(tally.contains_key(&format!("({state})")), "no thread ever was {state}");
    }
}

#[test]
fn one_core_does_what_the_specification_says() {
    play(1);
}

#[test]
fn two_cores_do_what_the_specification_says() {
    play(2);
}

#[test]
fn three_cores_do_what_the_specification_says() {
    play(3);
}
