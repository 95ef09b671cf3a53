//! A kernel's code as the analysis sees it: functions, and what an instruction does to the flow and to the stack.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::elf::{PF_W, PF_X, PT_LOAD};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol, SymbolKind};

use crate::target::Architecture;

/// An instruction, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Bytes.
    pub length: u64,
    /// Where it leads.
    pub flow: Flow,
    /// What it does to the stack pointer.
    pub stack: Effect,
    /// An address that it computes.
    pub refers: Option<u64>,
}

/// Where an instruction leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next one.
    Next,
    /// To the next one or to another.
    Branch(u64),
    /// To another.
    Jump(u64),
    /// To a function, and back.
    Call(u64),
    /// To a function, and back; which one, the code alone doesn't say. The word in memory that says it, if that has a
    /// constant address.
    CallThrough(Option<u64>),
    /// The same without a way back.
    JumpThrough(Option<u64>),
    /// Back to the caller.
    Return,
    /// Out of the kernel, or nowhere.
    End,
}

/// What an instruction does to the stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The stack grows by a constant, or shrinks by one that is below 0. What a call or return itself does is left out.
    Grow(i64),
    /// It gets a value that has nothing to do with the former one: another stack.
    Replace,
}

/// Decodes instructions of one architecture, one after the other.
pub trait Decoder {
    /// Bytes that a call puts on the stack.
    const RETURN_ADDRESS: i64;

    /// What came before says nothing about what comes now.
    fn forget(&mut self);

    /// The instruction at the start of `bytes`, which lies at `address`.
    fn decode(&mut self, bytes: &[u8], address: u64) -> Result<Instruction>;
}

/// A function, or a piece of assembly from one label to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, demangled.
    pub name: String,
    /// Its first address.
    pub start: u64,
    /// The first one behind it.
    pub end: u64,
    /// Written by hand: may change stacks, and fall through to what follows.
    pub assembly: bool,
}

impl Function {
    /// Whether an address lies in it.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// A piece of memory as the file has it.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where it lies.
    pub address: u64,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Whether it holds code.
    pub executable: bool,
    /// Whether the kernel can write to it.
    pub writable: bool,
}

/// A kernel.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// In the order of their addresses; none overlap.
    pub functions: Vec<Function>,
    /// What is loaded.
    pub pieces: Vec<Piece>,
    /// Every symbol's name and value.
    symbols: Vec<(String, u64)>,
}

impl Code {
    /// Reads an ELF file. `skipped` are labels that are no part of the architecture's 64-bit code.
    pub fn read(path: &Path, architecture: Architecture, skipped: &[&str]) -> Result<Self> {
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = ElfFile64::<LittleEndian>::parse(&*data)?;
        let machine = file.elf_header().e_machine.get(LittleEndian);
        ensure!(machine.0 == architecture.elf_machine(), "{} is of another architecture", path.display());
        let mut pieces = Vec::new();
        for header in file.elf_program_headers() {
            let endian = LittleEndian;
            if header.p_type(endian) != PT_LOAD {
                continue;
            }
            let Ok(bytes) = header.data(endian, &*data) else { bail!("a segment lies outside the file") };
            let flags = header.p_flags(endian).0;
            let address = header.p_vaddr(endian);
            let (executable, writable) = (flags & PF_X.0 != 0, flags & PF_W.0 != 0);
            pieces.push(Piece { address, bytes: bytes.to_vec(), executable, writable });
        }
        let mut code = Code { functions: Vec::new(), pieces, symbols: Vec::new() };
        let mut starts = Vec::new();
        for symbol in file.symbols() {
            let Ok(name) = symbol.name() else { continue };
            let (address, size) = (symbol.address(), symbol.size());
            code.symbols.push((name.to_owned(), address));
            let in_code = code.pieces.iter().any(|piece| piece.executable && piece.covers(address));
            let compiled = symbol.kind() == SymbolKind::Text && size > 0;
            if skipped.contains(&name) {
                continue;
            }
            let label = !name.is_empty() && !name.starts_with(['$', '.']) && !name.starts_with("__");
            let label = label && matches!(symbol.kind(), SymbolKind::Unknown | SymbolKind::Label | SymbolKind::Text);
            if in_code && symbol.section_index().is_some() && (compiled || label) {
                starts.push((
                    address,
                    if compiled { size } else { 0 },
                    format!("{:#}", rustc_demangle::demangle(name)),
                ));
            }
        }
        code.functions = lay_out(starts, &code.pieces);
        ensure!(!code.functions.is_empty(), "{} has no symbols", path.display());
        Ok(code)
    }

    /// What lies at an address, up to the end of its piece.
    pub fn bytes(&self, address: u64) -> Option<&[u8]> {
        let piece = self.pieces.iter().find(|piece| piece.covers(address))?;
        piece.bytes.get(usize::try_from(address - piece.address).ok()?..)
    }

    /// The word at an address that nobody can write to.
    pub fn constant(&self, address: u64) -> Option<u64> {
        let piece = self.pieces.iter().find(|piece| piece.covers(address))?;
        if piece.writable { None } else { self.bytes(address)?.first_chunk().map(|word| u64::from_le_bytes(*word)) }
    }

    /// Addresses and values of the aligned words of all data.
    pub fn words(&self) -> impl Iterator<Item = (u64, u64)> {
        let data = self.pieces.iter().filter(|piece| !piece.executable);
        data.flat_map(|piece| {
            let (words, _) = piece.bytes.as_chunks();
            (piece.address..).step_by(8).zip(words.iter().map(|word| u64::from_le_bytes(*word)))
        })
    }

    /// The function that an address lies in.
    pub fn function_at(&self, address: u64) -> Option<usize> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let index = after.checked_sub(1)?;
        self.functions[index].contains(address).then_some(index)
    }

    /// The function with a name.
    pub fn function_named(&self, name: &str) -> Option<usize> {
        self.functions.iter().position(|function| function.name == name)
    }

    /// The same with one symbol more.
    #[cfg(test)]
    pub fn with_symbol(mut self, name: &str, value: u64) -> Self {
        self.symbols.push((name.to_owned(), value));
        self
    }

    /// A symbol's value.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

impl Piece {
    fn covers(&self, address: u64) -> bool {
        address.checked_sub(self.address).is_some_and(|offset| offset < self.bytes.len() as u64)
    }
}

/// Functions from addresses, sizes (0: assembly, up to what follows) and names.
fn lay_out(mut starts: Vec<(u64, u64, String)>, pieces: &[Piece]) -> Vec<Function> {
    // Of names for one address, that with a size counts: the compiler's.
    starts.sort_by(|a, b| (a.0, std::cmp::Reverse(a.1), &a.2).cmp(&(b.0, std::cmp::Reverse(b.1), &b.2)));
    starts.dedup_by_key(|start| start.0);
    let mut functions: Vec<Function> = Vec::new();
    for (index, (start, size, name)) in starts.iter().enumerate() {
        if functions.last().is_some_and(|before| before.end > *start) {
            continue;
        }
        let piece_end = pieces
            .iter()
            .find(|piece| piece.covers(*start))
            .map_or(*start, |piece| piece.address + piece.bytes.len() as u64);
        let next = starts.get(index + 1).map_or(piece_end, |next| next.0.min(piece_end));
        let end = if *size == 0 { next } else { start + size };
        functions.push(Function { name: name.clone(), start: *start, end, assembly: *size == 0 });
    }
    functions
}
