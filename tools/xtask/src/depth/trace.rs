//! Follows every way through one function, with the depth of its stack.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{Code, Decoder, Effect, Flow, Function, Instruction};

/// What the depth of a stack counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// Where the stack stood when the function was entered.
    Entry,
    /// The top of another stack, which the function changed to.
    Fresh,
}

/// A stack's depth in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Counted from where.
    pub base: Base,
    /// Can be below 0: assembly takes off what the processor put there.
    pub bytes: i64,
}

/// A function that another one goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which: its place in [`Code::functions`].
    pub callee: usize,
    /// What is on the stack then, the return address included.
    pub depth: Depth,
    /// Whether it comes back; if not, it is a jump, or the code just goes on there.
    pub returns: bool,
}

/// What came of following a function.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The deepest that it comes by itself, counted from its entry.
    pub own: i64,
    /// Where it goes.
    pub calls: Vec<Call>,
    /// Words in memory that it calls through.
    pub through: BTreeSet<u64>,
    /// Calls and jumps through nobody knows what.
    pub indirect: usize,
    /// Whether a way through it ends in a return.
    pub returns: bool,
    /// What can't be said, or shouldn't be.
    pub problems: Vec<String>,
    /// Addresses and lengths of the instructions that were seen.
    pub seen: BTreeMap<u64, u64>,
}

/// What is known of a function before it is followed.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Addresses that something else jumps to, besides its start.
    pub entries: &'a [u64],
    /// Targets of its jump tables.
    pub switches: &'a [u64],
    /// Which functions never return: nothing leads to what stands behind a call to one.
    pub endless: &'a BTreeSet<usize>,
}

/// Follows a function.
pub fn follow<D: Decoder>(code: &Code, index: usize, given: Given<'_>, decoder: &mut D) -> Trace {
    let function = &code.functions[index];
    let start = Depth { base: Base::Entry, bytes: 0 };
    let mut walk = Walk { code, function, given, trace: Trace::default(), depths: BTreeMap::new(), ahead: Vec::new() };
    for &entry in given.entries.iter().chain([&function.start]) {
        walk.reach(entry, start);
    }
    while let Some((address, depth)) = walk.ahead.pop() {
        decoder.forget();
        walk.run(decoder, address, depth);
    }
    walk.trace
}

struct Walk<'a> {
    code: &'a Code,
    function: &'a Function,
    given: Given<'a>,
    trace: Trace,
    /// The depth in front of each instruction that was reached. Hand-written code may come to one on two stacks.
    depths: BTreeMap<(u64, Base), i64>,
    /// What was reached, but not yet followed.
    ahead: Vec<(u64, Depth)>,
}

impl Walk<'_> {
    fn problem(&mut self, address: u64, text: &str) {
        let offset = address - self.function.start;
        self.trace.problems.push(format!("{}+{offset:#x}: {text}", self.function.name));
    }

    /// Another way leads to an address in this function.
    fn reach(&mut self, address: u64, depth: Depth) {
        if self.arrive(address, depth) {
            self.ahead.push((address, depth));
        }
    }

    /// Whether this address is new; if it isn't, the stack must be as deep as the other time.
    fn arrive(&mut self, address: u64, depth: Depth) -> bool {
        let before = self.depths.insert((address, depth.base), depth.bytes);
        if let Some(before) = before.filter(|before| *before != depth.bytes) {
            self.problem(address, &format!("the stack is {before} or {} bytes deep here", depth.bytes));
        }
        before.is_none()
    }

    /// Follows instructions one after the other.
    fn run<D: Decoder>(&mut self, decoder: &mut D, mut address: u64, mut depth: Depth) {
        loop {
            let Some(bytes) = self.code.bytes(address) else { return self.problem(address, "there is no code") };
            let instruction = match decoder.decode(bytes, address) {
                Ok(instruction) => instruction,
                Err(error) => return self.problem(address, &error.to_string()),
            };
            self.trace.seen.insert(address, instruction.length);
            self.change(address, instruction.stack, &mut depth);
            // Hand-written code may go on at an address that it only computes, by way of a fault.
            if let Some(refers) = instruction.refers.filter(|refers| self.function.contains(*refers))
                && self.function.assembly
                && refers != self.function.start
            {
                self.reach(refers, Depth { base: Base::Entry, bytes: 0 });
            }
            if !self.leads_on(address, instruction, depth, D::RETURN_ADDRESS) {
                return;
            }
            address += instruction.length;
            if address >= self.function.end {
                return self.falls_out(address, depth);
            }
            if !self.arrive(address, depth) {
                return;
            }
        }
    }

    /// What an instruction does to the stack.
    fn change(&mut self, address: u64, effect: Effect, depth: &mut Depth) {
        match effect {
            Effect::None => {}
            Effect::Grow(bytes) => depth.bytes += bytes,
            Effect::Replace if self.function.assembly => *depth = Depth { base: Base::Fresh, bytes: 0 },
            Effect::Replace => self.problem(address, "the stack pointer changes by an amount that isn't constant"),
        }
        if depth.base == Base::Entry {
            self.trace.own = self.trace.own.max(depth.bytes);
        }
    }

    /// Where an instruction leads; whether also to the next one.
    fn leads_on(&mut self, address: u64, instruction: Instruction, depth: Depth, return_address: i64) -> bool {
        match instruction.flow {
            Flow::Next => true,
            Flow::Branch(target) => {
                self.jump(address, target, depth);
                true
            }
            Flow::Jump(target) => {
                self.jump(address, target, depth);
                false
            }
            Flow::Call(target) => {
                self.call(address, target, depth, return_address);
                self.comes_back(target)
            }
            Flow::CallThrough(word) => {
                let target = self.resolve(address, word);
                match target {
                    Some(target) => self.call(address, target, depth, return_address),
                    None => self.trace.indirect += 1,
                }
                target.is_none_or(|target| self.comes_back(target))
            }
            Flow::JumpThrough(word) => {
                if let Some(target) = self.resolve(address, word) {
                    self.jump(address, target, depth);
                } else if self.given.switches.is_empty() {
                    self.trace.indirect += 1;
                }
                if word.is_none() {
                    self.given.switches.iter().for_each(|target| self.reach(*target, depth));
                }
                false
            }
            Flow::Return => {
                self.trace.returns = true;
                if depth != (Depth { base: Base::Entry, bytes: 0 }) {
                    self.problem(address, "it returns with something left on the stack");
                }
                false
            }
            Flow::End => false,
        }
    }

    /// What a constant word in memory holds.
    fn resolve(&mut self, address: u64, word: Option<u64>) -> Option<u64> {
        let word = word?;
        let target = self.code.constant(word);
        match target {
            Some(_) => {
                self.trace.through.insert(word);
            }
            None => self.problem(address, &format!("it goes through the word at {word:#x}, which is no constant")),
        }
        target
    }

    fn jump(&mut self, address: u64, target: u64, depth: Depth) {
        if self.function.contains(target) {
            self.reach(target, depth);
            return;
        }
        self.leave(address, target, depth, false);
    }

    fn call(&mut self, address: u64, target: u64, depth: Depth, return_address: i64) {
        self.leave(address, target, Depth { bytes: depth.bytes + return_address, ..depth }, true);
    }

    /// Whether what is called returns, as far as is known.
    fn comes_back(&self, target: u64) -> bool {
        self.code.function_at(target).is_none_or(|callee| !self.given.endless.contains(&callee))
    }

    fn leave(&mut self, address: u64, target: u64, depth: Depth, returns: bool) {
        if depth.base == Base::Entry {
            self.trace.own = self.trace.own.max(depth.bytes);
        }
        match self.code.function_at(target) {
            Some(callee) => {
                let other = &self.code.functions[callee];
                if other.start != target {
                    self.problem(address, &format!("it goes to the middle of {}", other.name));
                } else if !returns && depth.bytes != 0 && !self.function.assembly && !other.assembly {
                    // A jump out of a function is its last act: by then the compiler has cleared its stack.
                    self.problem(address, "it jumps elsewhere with something left on the stack");
                }
                self.trace.calls.push(Call { callee, depth, returns });
            }
            None => self.problem(address, &format!("it goes to {target:#x}, where there is no function")),
        }
    }

    /// The code goes on behind the function's end: with the next label.
    fn falls_out(&mut self, next: u64, depth: Depth) {
        let label = self.code.function_at(next).filter(|index| self.code.functions[*index].assembly);
        match label {
            Some(callee) if self.function.assembly => self.trace.calls.push(Call { callee, depth, returns: false }),
            _ => self.problem(next - 1, "it goes on past its end"),
        }
    }
}
