//! `cargo xtask depth`: how deep the release kernel's stacks get, read from its machine code.
//!
//! The code of the linked image is followed, instruction by instruction, from every function's start. What comes out:
//!
//! - no recursion: the call graph has no cycle;
//! - no indirect call: each call and jump says where it goes. Exceptions are jump tables inside one function, calls
//!   through a word that is constant and can't be written to, and what [`known`] gives a reason for;
//! - constant stack frames: wherever two ways meet, the stack is equally deep on both;
//! - no code was overlooked: some way leads to each instruction;
//! - the worst depth of each stack, from [`known`]'s roots, and that it is less than the stack has.
//!
//! [`code`] is what is read; [`x86_64`] and [`riscv64`] decode it; [`trace`] follows one function, [`graph`] all.

mod code;
mod graph;
mod known;
mod riscv64;
#[cfg(test)]
mod tests;
mod trace;
mod x86_64;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::build::{self, Voice};
use crate::cli::DepthOptions;
use crate::progress::fail;
use crate::target::{Architecture, Profile};
use crate::workspace::Workspace;
use code::{Code, Decoder, Function};
use graph::Way;
use known::{Known, Root, Size};
use trace::{Base, Given, Trace};

/// Bytes of the longest instruction that never runs.
const LAST_INSTRUCTION: u64 = 4;

/// A kernel's stacks, measured.
pub struct Report {
    /// What is wrong.
    pub problems: Vec<String>,
    /// The table.
    pub table: String,
}

/// Builds, prints the tables, and fails if something is wrong.
pub fn command(workspace: &Workspace, options: &DepthOptions) -> Result<ExitCode> {
    let mut good = true;
    for architecture in Architecture::selected(options.arch) {
        let report = Report::new(workspace, architecture, Voice::Normal)?;
        println!("{}", report.table);
        report.problems.iter().for_each(|problem| fail(&format!("{}: {problem}", architecture.name())));
        good &= report.problems.is_empty();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    /// Builds a release kernel and measures it.
    pub fn new(workspace: &Workspace, architecture: Architecture, voice: Voice) -> Result<Self> {
        let products = build::build(workspace, architecture, Profile::Release, "default", voice)?;
        Self::of(&products.kernel, architecture)
    }

    fn of(kernel: &Path, architecture: Architecture) -> Result<Self> {
        let known = known::known(architecture);
        let code = Code::read(kernel, architecture, known.skipped)?;
        let traces = match architecture {
            Architecture::X86_64 => follow_all(&code, known, &mut x86_64::X86),
            Architecture::Riscv64 => follow_all(&code, known, &mut riscv64::RiscV::default()),
        };
        let mut problems = problems(&code, known, &traces);
        let table = if graph::cycles(&traces).is_empty() {
            table(&code, known, &traces, architecture, &mut problems)?
        } else {
            String::new()
        };
        Ok(Report { problems, table })
    }
}

/// Follows every function.
fn follow_all<D: Decoder>(code: &Code, known: &Known, decoder: &mut D) -> Vec<Trace> {
    let mut switches = vec![Vec::new(); code.functions.len()];
    for (_, value) in code.words() {
        if let Some(index) = code.function_at(value).filter(|index| code.functions[*index].start != value) {
            switches[index].push(value);
        }
    }
    let entries: Vec<Vec<u64>> = code.functions.iter().map(|function| entries(known, function)).collect();
    let mut endless = BTreeSet::new();
    // Which functions never return comes out of following them, and then shows more that don't.
    loop {
        let mut follow = |index: usize| {
            let given = Given { entries: &entries[index], switches: &switches[index], endless: &endless };
            trace::follow(code, index, given, decoder)
        };
        let traces: Vec<Trace> = (0..code.functions.len()).map(&mut follow).collect();
        let found = graph::endless(&traces);
        if found == endless {
            return traces;
        }
        endless = found;
    }
}

/// Where the processor enters a function, besides its start.
fn entries(known: &Known, function: &Function) -> Vec<u64> {
    let root = known.roots.iter().find(|root| root.function == function.name);
    let entries = root.map(|root| (root.entries)(function.end - function.start)).unwrap_or_default();
    entries.into_iter().map(|entry| function.start + entry).collect()
}

/// What is wrong with the code, depths aside.
fn problems(code: &Code, known: &Known, traces: &[Trace]) -> Vec<String> {
    let name = |index: usize| short(&code.functions[index].name);
    let mut problems: Vec<String> = traces.iter().flat_map(|trace| trace.problems.clone()).collect();
    for cycle in graph::cycles(traces) {
        let names: Vec<String> = cycle.into_iter().map(name).collect();
        problems.push(format!("recursion: {}", names.join(", ")));
    }
    for (function, trace) in code.functions.iter().zip(traces) {
        let reason = known.indirect.iter().find(|indirect| indirect.label == function.name);
        if trace.indirect > 0 && reason.is_none() {
            problems.push(format!("{} has {} indirect calls or jumps", short(&function.name), trace.indirect));
        }
    }
    for (function, trace) in code.functions.iter().zip(traces).filter(|(function, _)| !function.assembly) {
        let unseen = function.end - function.start - trace.seen.values().sum::<u64>();
        // The instruction behind a call that never returns stands there only to be an end.
        if unseen > LAST_INSTRUCTION {
            problems.push(format!("nothing leads to {unseen} bytes of {}", short(&function.name)));
        }
    }
    for indirect in known.indirect {
        let used = code.function_named(indirect.label).is_some_and(|index| traces[index].indirect > 0);
        if !used {
            problems
                .push(format!("{} has no indirect jump, but a reason for one: {}", indirect.label, indirect.reason));
        }
    }
    // Nothing could be called through such a word yet, but why is it there?
    let through: BTreeSet<u64> = traces.iter().flat_map(|trace| trace.through.clone()).collect();
    for (address, value) in code.words().filter(|(address, _)| !through.contains(address)) {
        if let Some(index) = code.function_at(value).filter(|index| code.functions[*index].start == value) {
            problems.push(format!("the word at {address:#x} points to {}", name(index)));
        }
    }
    problems
}

/// The depths, one root after the other.
fn table(
    code: &Code,
    known: &Known,
    traces: &[Trace],
    architecture: Architecture,
    problems: &mut Vec<String>,
) -> Result<String> {
    let ways = graph::ways(traces);
    unlisted_roots(code, known, traces, &ways, problems);
    let mut table = format!("{:<9}{:<43}{:>7}  {:<31}{:>6}\n", "kernel", "stack in use by", "bytes", "of", "bytes");
    for root in known.roots {
        let size = size_of(code, root.stack.size)?;
        let depth = depth(code, root, traces, &ways)?;
        let below = if root.on_top { deepest_below(code, known, root, traces, &ways)? } else { 0 };
        let bytes = below + depth;
        let (name, when, stack) = (architecture.name(), root.when, root.stack.name);
        writeln!(table, "{name:<9}{when:<43}{bytes:>7}  {stack:<31}{size:>6}")?;
        let below = if root.on_top { format!("{below} below, ") } else { String::new() };
        writeln!(table, "{:13}{below}{}", "", chain(code, root, traces, &ways)?)?;
        if bytes > size {
            problems.push(format!("{when}: {bytes} bytes of stack, but there are {size} ({stack})"));
        }
    }
    Ok(table)
}

/// Hand-written code changes to another stack and goes on in functions: each must be in the list.
fn unlisted_roots(code: &Code, known: &Known, traces: &[Trace], ways: &[Way], problems: &mut Vec<String>) {
    for call in traces.iter().flat_map(|trace| &trace.calls).filter(|call| call.depth.base == Base::Fresh) {
        let name = &code.functions[call.callee].name;
        let listed = known.roots.iter().any(|root| root.function == *name);
        if !listed && (call.returns || ways[call.callee].bytes > 0) {
            problems.push(format!("{} starts on a stack that nobody knows", short(name)));
        }
    }
}

fn find(code: &Code, root: &Root) -> Result<usize> {
    code.function_named(root.function).with_context(|| format!("the kernel has no function {}", root.function))
}

/// What a root needs, by itself.
fn depth(code: &Code, root: &Root, traces: &[Trace], ways: &[Way]) -> Result<i64> {
    let function = find(code, root)?;
    let to_it = traces.iter().flat_map(|trace| &trace.calls);
    let fresh = to_it.filter(|call| call.callee == function && call.depth.base == Base::Fresh);
    let before = fresh.map(|call| call.depth.bytes).max().unwrap_or(0);
    Ok(before.max(root.pushed) + ways[function].bytes)
}

/// The deepest of what a root can come on top of.
fn deepest_below(code: &Code, known: &Known, root: &Root, traces: &[Trace], ways: &[Way]) -> Result<i64> {
    let mut deepest = 0;
    for other in known.roots.iter().filter(|other| !other.on_top && std::ptr::eq(other.stack, root.stack)) {
        deepest = deepest.max(depth(code, other, traces, ways)?);
    }
    Ok(deepest)
}

/// The functions on the deepest way, each with what it puts on the stack.
fn chain(code: &Code, root: &Root, traces: &[Trace], ways: &[Way]) -> Result<String> {
    let mut function = find(code, root)?;
    let mut links = Vec::new();
    loop {
        let next = ways[function].next;
        let bytes = next.map_or(traces[function].own, |call| call.depth.bytes);
        links.push(format!("{} {bytes}", short(&code.functions[function].name)));
        match next {
            Some(call) if links.len() <= traces.len() => function = call.callee,
            _ => return Ok(links.join(" > ")),
        }
    }
}

fn size_of(code: &Code, size: Size) -> Result<i64> {
    let symbol = |name: &str| code.symbol(name).with_context(|| format!("the kernel has no symbol {name}"));
    let bytes = match size {
        Size::Value(name) => symbol(name)?,
        Size::Between(low, high) => {
            let (low, high) = (symbol(low)?, symbol(high)?);
            if high <= low {
                bail!("a stack ends before it starts");
            }
            high - low
        }
    };
    Ok(i64::try_from(bytes)?)
}

/// A function's name without what only the compiler needs: `<impl ...>::`, and the types that it was made for.
fn short(name: &str) -> String {
    let mut short = String::new();
    let mut rest = name;
    while let Some((before, inside)) = rest.split_once("<impl ") {
        short.push_str(before);
        rest = inside.split_once(">::").map_or(inside, |(_, behind)| behind);
    }
    short.push_str(rest);
    short
}
