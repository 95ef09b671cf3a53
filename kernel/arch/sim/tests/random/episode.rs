//! One run of one machine from its seed: what happens at each step.

use std::collections::VecDeque;

use anos_abi::fault::FaultKind;
use anos_abi::object::Method;
use anos_abi::{Error, Kind, SystemCall};
use anos_machine::{Event, Fault, Ref, Slot, Thread};
use anos_sim::check::{self, World};
use anos_sim::{Access, Message, Numbers, Sim, core_id};

use crate::generate::{self, Request, Tally};
use crate::watch::Watch;

/// What happened at a step, for the report of a failure.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "read only by Debug, in the report of a failure")]
enum Step {
    Call { core: u64, thread: u64, call: SystemCall, target: u32, message: Message, waits: bool },
    Memory { core: u64, access: Access, address: u64 },
    Event { core: u64, event: Event, waits: bool },
    GoOn { core: u64 },
    Clock { to: u64 },
    Line { line: u32, raised: bool },
}

/// One run of one machine.
pub struct Episode {
    cores: u64,
    seed: u64,
    numbers: Numbers,
    sim: Sim,
    world: World,
    watch: Watch,
    /// The root server's thread: it gets the others going again.
    keeper: Ref<Thread>,
    /// What it is about to do.
    plan: VecDeque<Request>,
    steps: Vec<Step>,
    /// What the thread on each core asked for, if that was a system call.
    asked: Vec<Option<Request>>,
}

impl Drop for Episode {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let first = self.steps.len().saturating_sub(12);
        println!("the last of {} steps:", self.steps.len());
        for step in &self.steps[first..] {
            println!("  {step:x?}");
        }
        println!("{} cores; play it again with ANOS_SEED={}", self.cores, self.seed);
    }
}

impl Episode {
    /// A machine that has booted, with some objects and threads.
    pub fn new(cores: u64, seed: u64) -> Episode {
        let (numbers, sim) = generate::start(cores, seed);
        let world = check::check(&sim).expect("a fresh system keeps every rule");
        let asked = vec![None; anos_sim::memory::index(cores)];
        let keeper = sim.root().thread;
        Episode {
            cores,
            seed,
            numbers,
            sim,
            world,
            watch: Watch::default(),
            keeper,
            plan: VecDeque::new(),
            steps: Vec::new(),
            asked,
        }
    }

    /// So many steps, or until nothing happens any more.
    pub fn play(mut self, steps: u64, tally: &mut Tally) {
        let mut quiet = 0;
        while (self.steps.len() as u64) < steps {
            if self.step(tally) {
                quiet = 0;
                continue;
            }
            quiet += 1;
            if quiet % 5 == 0 {
                // Nothing moves: on to the next thing that is due.
                let due = self.sim.board.processors.iter().map(|processor| processor.timer).min().unwrap_or(0);
                if due < u64::MAX >> 1 {
                    self.sim.board.clock = self.sim.board.clock.max(due);
                }
            }
            if quiet > 400 {
                break;
            }
        }
        let entry = tally.entry(String::from("(steps)")).or_default();
        entry.0 += steps;
        entry.1 += self.steps.len() as u64;
    }

    /// A core on which something can happen, mostly.
    fn core(&mut self) -> u64 {
        let busy = |core: &u64| {
            let processor = &self.sim.board.processors[core_id(*core).index()];
            let at_rest = processor.thread.is_none() && processor.trapped.is_none();
            !at_rest || self.sim.board.pending(core_id(*core)).is_some()
        };
        let busy: Vec<u64> = (0..self.cores).filter(busy).collect();
        if busy.is_empty() || self.numbers.percent(3) {
            self.numbers.below(self.cores)
        } else {
            self.numbers.pick(&busy)
        }
    }

    fn step(&mut self, tally: &mut Tally) -> bool {
        if self.numbers.percent(8) {
            return self.outside();
        }
        let number = self.core();
        let core = core_id(number);
        let processor = &self.sim.board.processors[core.index()];
        let idle = processor.thread.is_none();
        if processor.trapped.is_some() {
            return self.numbers.percent(60) && self.go_on(number, tally);
        }
        if let Some(event) = self.sim.board.pending(core)
            && self.numbers.percent(70)
        {
            return self.event(number, event, tally);
        }
        if self.numbers.percent(if idle { 3 } else { 2 }) {
            let event = self.stray(number);
            return self.event(number, event, tally);
        }
        if idle {
            return false;
        }
        let keeper = processor.thread == self.keeper;
        match self.numbers.below(100) {
            0..=9 if !keeper => self.memory(number, tally),
            10 if !keeper => {
                let kind = FaultKind::from_number(self.numbers.below(9));
                self.event(number, Event::Fault(Fault { kind, address: 0, cause: 7 }), tally)
            }
            _ => self.system_call(number, tally),
        }
    }

    /// Time passes, or a device does something.
    fn outside(&mut self) -> bool {
        if self.numbers.percent(60) {
            let passed = self.numbers.weighted(&[(5, 1), (5, 100), (5, 10_000), (2, 1_000_000), (1, 30_000_000)]);
            self.sim.board.clock += self.numbers.below(passed) + 1;
            self.steps.push(Step::Clock { to: self.sim.board.clock });
        } else {
            let line = u32::try_from(self.numbers.below(16) + 1).expect("small");
            let raised = self.numbers.percent(60);
            self.sim.board.lines[line as usize].raised = raised;
            self.steps.push(Step::Line { line, raised });
        }
        false
    }

    /// An event that nobody expects, as hardware sometimes has it.
    fn stray(&mut self, core: u64) -> Event {
        let line = u32::try_from(self.numbers.below(16) + 1).expect("small");
        match self.numbers.below(3) {
            0 => Event::Timer,
            1 if core == 0 && !self.sim.board.lines[line as usize].raised => Event::Interrupt(line),
            _ => Event::Kick,
        }
    }

    fn event(&mut self, number: u64, event: Event, tally: &mut Tally) -> bool {
        let core = core_id(number);
        let waits = self.numbers.percent(15);
        self.steps.push(Step::Event { core: number, event, waits });
        self.watch.trapped(&self.sim, core);
        self.asked[core.index()] = None;
        self.sim.trap(core, event);
        waits || self.finish(number, tally)
    }

    fn memory(&mut self, number: u64, tally: &mut Tally) -> bool {
        let access = self.numbers.pick(&Access::ALL);
        let mut address = generate::address(&mut self.numbers, &self.sim) + 8 * self.numbers.below(512);
        if self.numbers.percent(70) {
            // Mostly where something is mapped, or was.
            let mapped = |slot: &&Slot| slot.kind() == Kind::Frame && slot.space != 0;
            let pages: Vec<u64> = self.world.slots.values().filter(mapped).map(|slot| slot.badge).collect();
            address = if pages.is_empty() { 0x5f_f000 } else { self.numbers.pick(&pages) };
        }
        self.steps.push(Step::Memory { core: number, access, address });
        let value = self.numbers.next();
        match self.sim.access(core_id(number), access, address, value) {
            Ok(_) => true,
            Err(fault) => self.event(number, Event::Fault(fault), tally),
        }
    }

    fn system_call(&mut self, number: u64, tally: &mut Tally) -> bool {
        let core = core_id(number);
        let thread = self.sim.thread(core).expect("a program runs");
        let keeper = thread == self.keeper;
        if keeper && self.plan.is_empty() && self.numbers.percent(20) {
            self.plan = generate::revival(&mut self.numbers, &self.world, thread).into();
        }
        let planned = if keeper { self.plan.pop_front() } else { None };
        let request =
            planned.unwrap_or_else(|| generate::request(&mut self.numbers, &self.sim, &self.world, thread, keeper));
        let waits = self.numbers.percent(12);
        let Request { call, target, message, .. } = request;
        self.steps.push(Step::Call { core: number, thread: thread.address(), call, target, message, waits });
        self.asked[core.index()] = Some(request);
        self.sim.trap_system_call(core, call, target, &message);
        waits || self.finish(number, tally)
    }

    fn go_on(&mut self, number: u64, tally: &mut Tally) -> bool {
        self.steps.push(Step::GoOn { core: number });
        self.finish(number, tally)
    }

    /// The core gets the locks; afterwards, everything is checked.
    fn finish(&mut self, number: u64, tally: &mut Tally) -> bool {
        let core = core_id(number);
        let thread = self.sim.thread(core);
        // A thread that was stopped or moved meanwhile makes its call later.
        let in_call = self.sim.board.processors[core.index()].trapped == Some(Event::SystemCall)
            && self.sim.current(core) == thread
            // A foreign thread's call is another's to answer.
            && thread.is_none_or(|thread| self.world.threads.get(&thread.address()).is_some_and(|thread| !thread.foreign));
        let before: Vec<bool> = self.sim.board.processors.iter().map(|processor| processor.trapped.is_some()).collect();
        self.sim.go_on(core);
        self.watch.interrupted(&self.sim, &before);
        let world = match check::check(&self.sim) {
            Ok(world) => world,
            Err(broken) => panic!("{broken}"),
        };
        let asked = self.asked[core.index()].take();
        let mut refused = None;
        if let (Some(thread), Some(request), true) = (thread, asked, in_call) {
            let answer = self.sim.answer(thread);
            refused = answer.result().err();
            // A wait has no answer yet; and a thread that is gone has none to be looked at.
            // The slot may hold something else by now.
            let held = generate::slot_of(&self.world, thread, request.target).map(|slot| slot.kind());
            let called = request.method.filter(|method| held == Some(method.kind()));
            let counted = called.is_some() && world.threads.contains_key(&thread.address());
            if counted {
                let entry = tally.entry(format!("{:?}", request.method.expect("a method"))).or_default();
                entry.0 += 1;
                entry.1 += u64::from(refused.is_none());
            }
            if counted && refused.is_some() {
                assert_eq!((answer.badge, answer.words), (0, [0; 8]), "a refusal says nothing else");
            }
            if let (true, Some(method), Some(error)) = (counted, request.method, refused) {
                // (The deadline and the operation of a call by `Send` or `Call` are never wrong here.)
                let known = method.errors().contains(&error) || error == Error::MissingRights;
                assert!(known, "{method:?} answers {error:?}, which its documentation doesn't say");
            }
            if counted && refused.is_some_and(|error| error != Error::Again) {
                self.watch.unchanged(&self.world, &world, request.method);
            }
            let writes = [Some(Method::ThreadStart), Some(Method::ThreadWriteRegisters)];
            if refused.is_none() && writes.contains(&request.method) {
                self.watch.started(&self.world, thread, request.target);
            }
        }
        for (at, thread) in &world.threads {
            if self.world.threads.get(at).is_none_or(|before| before.state != thread.state) {
                tally.entry(format!("(became {:?})", thread.state)).or_default().1 += 1;
            }
        }
        self.watch.step(&self.sim, &self.world, &world, asked.filter(|_| refused.is_none()));
        self.world = world;
        true
    }
}
