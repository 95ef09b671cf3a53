//! The kernel and its specification, side by side.

use anos_abi::object::Method;
use anos_abi::{Error, SystemCall};
use anos_machine::{CoreId, Event};
use anos_sim::memory::index;
use anos_sim::{Access, Message, Sim, core_id};
use anos_spec::difference::difference;
use anos_spec::{Choices, Spec, TIME_STEPS, invariants};

use crate::abstraction::{abstraction, event, registers};

/// A machine with the kernel, and the specification in the same state.
pub struct Pair {
    /// The machine.
    pub sim: Sim,
    /// The specification.
    pub spec: Spec,
}

impl Pair {
    /// Starts the specification in the state that the machine is in.
    pub fn new(sim: Sim) -> Pair {
        let spec = abstraction(&sim);
        Pair { sim, spec }
    }

    /// The program on a core makes a system call, and gets as far as the kernel's lock.
    pub fn trap_call(&mut self, core: CoreId, call: SystemCall, target: u32, message: &Message) {
        let thread = self.sim.trap_system_call(core, call, target, message);
        // What the program put into its registers, the trap has put into its record.
        let asked = registers(&self.sim.board.ram.restore(thread));
        self.spec.threads.get_mut(&thread.address()).expect("it exists").registers = asked;
        self.spec.trap(core.index(), anos_spec::Event::SystemCall);
    }

    /// A core leaves user mode, or wakes up, for something else.
    pub fn trap(&mut self, core: CoreId, event: Event) {
        self.sim.trap(core, event);
        self.spec.trap(core.index(), self::event(event));
    }

    /// A core that has trapped does what it came for, in both; then they must agree: for some choice that the kernel had.
    pub fn go_on(&mut self, core: CoreId) -> Result<(), String> {
        self.sim.go_on(core);
        let found = abstraction(&self.sim);
        let before = self.spec.clone();
        let mut first = None;
        let choices = self.choices(core, &found);
        // Each time it begins anew it has one lock more.
        let put_aside = 0..=TIME_STEPS * (self.spec.cores.len() - 1);
        let anew = |choices: &Choices, put_aside| Choices { forgot: true, put_aside, ..choices.clone() };
        let forgot = put_aside.flat_map(|put_aside| choices.iter().map(move |choices| anew(choices, put_aside)));
        for choices in choices.iter().cloned().chain(forgot) {
            self.spec.enter(core.index(), self.sim.board.clock, &choices);
            self.follow_kicks();
            let report = match self.compare(&found) {
                Ok(()) => return Ok(()),
                Err(report) => report,
            };
            first.get_or_insert(report);
            self.spec.clone_from(&before);
        }
        Err(first.expect("there is at least one choice"))
    }

    /// Both at once.
    pub fn event(&mut self, core: CoreId, event: Event) -> Result<(), String> {
        self.trap(core, event);
        self.go_on(core)
    }

    /// The same for a system call.
    pub fn call(&mut self, core: CoreId, call: SystemCall, target: u32, message: &Message) -> Result<(), String> {
        self.trap_call(core, call, target, message);
        self.go_on(core)
    }

    /// The program on a core uses memory: both must find the same there. Answers the fault, if it is one.
    pub fn access(&mut self, core: CoreId, access: Access, address: u64, value: u64) -> Result<Option<Event>, String> {
        let thread = self.sim.thread(core).expect("a program runs");
        let root = self.spec.cores[core.index()].loaded.ok_or("a program runs nowhere")?;
        let found = self.spec.spaces.get(&root).and_then(|space| space.translate(address));
        let allowed = found.filter(|(_, rights)| rights.contains(access.right()));
        if let Some((physical, _)) = allowed {
            self.sim.board.write(physical, value);
        }
        let read = match access {
            Access::Store => self.sim.access(core, access, address, value),
            Access::Load | Access::Fetch => self.sim.access(core, access, address, 0),
        };
        match (allowed, read) {
            (None, Err(fault)) => Ok(Some(Event::Fault(fault))),
            (Some(_), Ok(word)) if word == value => Ok(None),
            (allowed, read) => {
                Err(format!("{thread:?}: {access:?} of {address:#x} should find {allowed:x?}, and found {read:x?}"))
            }
        }
    }

    /// What the kernel may have chosen, the likeliest first.
    fn choices(&self, core: CoreId, found: &Spec) -> Vec<Choices> {
        let here = &self.spec.cores[core.index()];
        let mut choices = Choices::default();
        if here.trapped == Some(anos_spec::Event::Timer) {
            return self.who_timed_out(core).map(|timed_out| Choices { timed_out, ..Choices::default() }).collect();
        }
        if here.trapped == Some(anos_spec::Event::SystemCall)
            && let Some(caller) = here.current
            && let Some(answer) = found.threads.get(&caller)
        {
            let label = self.spec.threads[&caller].registers.label;
            let registers = answer.registers;
            choices.still_clearing = label == Method::UntypedRetype.label() && registers.label == Error::Again as u64;
            let [.., kicks, shootdowns, locks, waits] = registers.words;
            choices.effort = [kicks, shootdowns, locks, waits];
            choices.shown = (registers.label == 0).then_some(registers.words);
        }
        vec![choices]
    }

    /// In which order which of the waits that are due may have ended: all orders, as long as they are few; those of all
    /// the waits first.
    fn who_timed_out(&self, core: CoreId) -> impl Iterator<Item = Vec<u64>> {
        let here = |thread: &anos_spec::Thread| thread.core == core.index();
        let due = |thread: &anos_spec::Thread| thread.deadline.is_some_and(|deadline| deadline <= self.sim.board.clock);
        let all = self.spec.threads.iter().filter(|(_, thread)| here(thread) && due(thread)).map(|(&at, _)| at);
        let all: Vec<u64> = all.collect();
        let mut orders: Vec<Vec<u64>> = vec![vec![]];
        let mut number = 0;
        while number < orders.len() && orders.len() < 2_000 {
            let order = orders[number].clone();
            let further = all.iter().filter(|thread| !order.contains(thread));
            orders.extend(further.map(|&thread| order.iter().copied().chain([thread]).collect()));
            number += 1;
        }
        orders.into_iter().rev()
    }

    /// Cores that the kernel has interrupted wait to enter it now.
    fn follow_kicks(&mut self) {
        for number in 0..self.sim.board.config.cores {
            let trapped = self.sim.board.processors[index(number)].trapped;
            if trapped == Some(Event::Kick) && self.spec.cores[index(number)].trapped.is_none() {
                self.spec.trap(index(number), anos_spec::Event::Kick);
            }
        }
    }

    /// Both are in the same state, and in one that keeps every invariant.
    pub fn compare(&self, found: &Spec) -> Result<(), String> {
        match difference(&self.spec, found) {
            Some(difference) => Err(difference),
            None => invariants::check(&self.spec),
        }
    }

    /// Lets everything that is pending happen, on every core that isn't held back, until all is quiet.
    pub fn settle(&mut self, held_back: &[bool]) -> Result<(), String> {
        for _ in 0..1000 {
            let mut quiet = true;
            for core in (0..self.sim.board.config.cores).map(core_id).filter(|core| !held_back[core.index()]) {
                if self.sim.board.processors[core.index()].trapped.is_some() {
                    self.go_on(core)?;
                    quiet = false;
                } else if let Some(event) = self.sim.board.pending(core) {
                    self.event(core, event)?;
                    quiet = false;
                }
            }
            if quiet {
                return Ok(());
            }
        }
        Err(String::from("the machine does not come to rest"))
    }
}
