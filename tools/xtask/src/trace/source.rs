//! From an instruction's address to the functions of the source that it belongs to.
//!
//! A function that the compiler has put into another (inlined) has no symbol; the line tables of the kernel's debug
//! information know it. And a function that is called belongs to a step of its caller, unless it is a step of its own: so
//! the trace is followed with a stack of calls.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use addr2line::Context as Lines;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use anyhow::{Context, Result};
use object::{Object, ObjectSection};

use super::run::is_program;
use crate::symbols::Symbols;

/// What the measuring program itself executes.
pub const PROGRAM: &str = "program";
/// What lies below the kernel.
pub const FIRMWARE: &str = "firmware";
/// Addresses from here on are the kernel's.
const KERNEL: u64 = 1 << 63;
/// The paths of the repository's files in the debug information start with this.
const OURS: &str = "anos/";
/// The compiler has put what several functions have in common into one of its own.
const SHARED: &str = "OUTLINED_FUNCTION";

/// A function of the source that an instruction belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The file as a module, and the function: `core::quick::hop`. Libraries' functions by their name alone.
    pub name: String,
    /// The file, relative to the repository, and the line.
    pub line: Option<(String, u32)>,
    /// Whether the function is this repository's.
    pub ours: bool,
}

/// All functions that an instruction belongs to, the innermost first.
pub type Chain = Rc<[Frame]>;

/// The sources of a kernel.
pub struct Sources<'file> {
    lines: Lines<EndianSlice<'file, LittleEndian>>,
    symbols: Symbols,
    known: HashMap<u64, Rc<[Frame]>>,
}

impl<'file> Sources<'file> {
    /// Reads a kernel's debug information. `data` is what the file holds.
    pub fn read(kernel: &Path, data: &'file [u8]) -> Result<Self> {
        let file = object::File::parse(data)?;
        let section = |id: SectionId| -> Result<_> {
            let bytes = file.section_by_name(id.name()).map(|section| section.data()).transpose()?;
            Ok(EndianSlice::new(bytes.unwrap_or_default(), LittleEndian))
        };
        let lines = Lines::from_dwarf(Dwarf::load(section)?).context("the kernel's debug information is damaged")?;
        Ok(Sources { lines, symbols: Symbols::read(kernel)?, known: HashMap::new() })
    }

    /// The functions whose code an instruction is part of, by the line tables.
    fn frames(&mut self, address: u64) -> Result<Rc<[Frame]>> {
        if let Some(known) = self.known.get(&address) {
            return Ok(Rc::clone(known));
        }
        let mut found = Vec::new();
        let mut frames = self.lines.find_frames(address).skip_all_loads()?;
        while let Some(frame) = frames.next()? {
            let Some(function) = frame.function else { continue };
            let location = frame.location;
            let line = location.as_ref().and_then(|place| Some((place.file?, place.line.unwrap_or(0))));
            found.push(framed(&function.raw_name()?, line));
        }
        // Assembly has no lines, but labels.
        if found.is_empty() {
            let name = self.symbols.function_at(address).map_or("?", |(_, name)| name);
            found.push(Frame { name: name.to_owned(), line: None, ours: true });
        }
        let frames: Rc<[Frame]> = found.into();
        self.known.insert(address, Rc::clone(&frames));
        Ok(frames)
    }

    /// The chain of each instruction of a way.
    pub fn chains(&mut self, addresses: &[u64]) -> Result<Vec<Chain>> {
        let mut calls = Calls::default();
        addresses.iter().map(|address| self.chain(&mut calls, *address)).collect()
    }

    fn chain(&mut self, calls: &mut Calls, address: u64) -> Result<Chain> {
        if address < KERNEL {
            *calls = Calls::default();
            let name = if is_program(address) { PROGRAM } else { FIRMWARE };
            return Ok([Frame { name: name.into(), line: None, ours: true }].into());
        }
        let start = self.symbols.function_at(address).map_or(address, |(start, _)| start);
        let shared = self.symbols.function_at(address).is_some_and(|(_, name)| name.starts_with(SHARED));
        calls.at(address, start);
        let mut chain: Vec<Frame> = Vec::new();
        if !shared {
            chain.extend(self.frames(address)?.iter().cloned());
        }
        for call in calls.callers() {
            let is_shared = self.symbols.function_at(call).is_some_and(|(_, name)| name.starts_with(SHARED));
            if !is_shared {
                chain.extend(self.frames(call)?.iter().cloned());
            }
        }
        Ok(chain.into())
    }
}

/// A function's name and place as a frame.
fn framed(function: &str, line: Option<(&str, u32)>) -> Frame {
    // Symbols of the compiler's are mangled; the line tables of inlined functions have plain names.
    let demangled = format!("{:#}", rustc_demangle::demangle(function));
    let short = last_part(&demangled);
    match line.and_then(|(file, line)| Some((file.split_once(OURS)?.1, line))) {
        Some((file, line)) => {
            Frame { name: format!("{}::{short}", module(file)), line: Some((file.to_owned(), line)), ours: true }
        }
        None => Frame { name: short, line: None, ours: false },
    }
}

/// A function's own name: without its path, and the types that it was made for.
fn last_part(name: &str) -> String {
    let mut depth = 0_usize;
    let mut plain = String::new();
    for letter in name.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    let parts = plain.split("::").map(str::trim).filter(|part| !part.is_empty());
    // A closure is part of the function that it stands in.
    parts.filter(|part| !part.starts_with('{')).last().unwrap_or(name).to_owned()
}

/// `kernel/core/src/quick.rs` is `core::quick`; `kernel/arch/x86_64/src/traps.rs` is `x86_64::traps`.
fn module(file: &str) -> String {
    let (package, inside) = file.split_once("/src/").unwrap_or(("", file));
    let package = package.rsplit('/').next().unwrap_or(package);
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    let parts = [package].into_iter().chain(inside.split('/')).filter(|part| !part.is_empty() && *part != "lib");
    parts.collect::<Vec<_>>().join("::")
}

/// The calls that have not returned yet, as far as addresses say.
#[derive(Default)]
struct Calls {
    /// Where each function starts that is being executed, the innermost last, and the last address in it.
    stack: Vec<(u64, u64)>,
}

impl Calls {
    /// The next instruction is here, in the function that starts there.
    fn at(&mut self, address: u64, start: u64) {
        let inside = self.stack.iter().rposition(|(function, _)| *function == start);
        match inside {
            // At a function's start again: another call of it, from itself or what it has called, is not possible.
            Some(index) => {
                self.stack.truncate(index + 1);
                self.stack[index].1 = address;
            }
            None => self.stack.push((start, address)),
        }
    }

    /// The addresses of the calls, the innermost first.
    fn callers(&self) -> impl Iterator<Item = u64> {
        self.stack.iter().rev().skip(1).map(|(_, address)| *address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_say_the_module() {
        let names = [
            ("get_mut<anos_core::boot::Run>", None, "get_mut"),
            ("{closure#0}", Some(("anos/kernel/core/src/quick.rs", 3)), "core::quick::{closure#0}"),
            (
                "anos_x86_64::traps::system_call",
                Some(("anos/kernel/arch/x86_64/src/traps.rs", 9)),
                "x86_64::traps::system_call",
            ),
            ("<anos_core::quick::Message>::hop", Some(("anos/kernel/core/src/quick.rs", 7)), "core::quick::hop"),
            ("enter<M>", Some(("anos/kernel/core/src/lib.rs", 7)), "core::enter"),
        ];
        for (function, line, name) in names {
            assert_eq!(framed(function, line).name, name);
        }
        assert!(!framed("copy", Some(("/library/core/src/ptr.rs", 1))).ours);
    }

    #[test]
    fn calls_are_followed_until_they_return() {
        let mut calls = Calls::default();
        let mut seen = Vec::new();
        for (address, start) in [(0x10, 0x10), (0x14, 0x10), (0x40, 0x40), (0x44, 0x40), (0x80, 0x80), (0x18, 0x10)] {
            calls.at(address, start);
            seen.push(calls.callers().collect::<Vec<_>>());
        }
        assert_eq!(seen, [vec![], vec![], vec![0x14], vec![0x14], vec![0x44, 0x14], vec![]]);
    }
}
