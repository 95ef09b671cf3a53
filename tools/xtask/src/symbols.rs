//! Names for the addresses in the kernel's backtraces, put in as the guest's output streams by.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol, SymbolKind};

/// What a line of a kernel backtrace starts with: the address of an instruction, or that behind a call.
const AT: &[u8] = b"  at 0x";
const FROM: &[u8] = b"  from 0x";
/// A longer line is none of ours.
const LONGEST_LINE: usize = 64;

/// The kernel's functions.
pub struct Symbols {
    /// Address, size and name, in the order of addresses.
    functions: Vec<(u64, u64, String)>,
}

impl Symbols {
    /// Reads them from an ELF file.
    pub fn read(path: &Path) -> Result<Self> {
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = object::File::parse(&*data)?;
        let mut functions: Vec<_> = file
            .symbols()
            .filter_map(|symbol| Some((symbol.kind(), symbol.address(), symbol.size(), symbol.name().ok()?)))
            .filter(|(kind, _, _, name)| *kind == SymbolKind::Text || is_assembly(*kind, name))
            .map(|(_, address, size, name)| (address, size, demangled(name)))
            .collect();
        functions.sort();
        Ok(Symbols { functions })
    }

    /// Every function's name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().map(|(_, _, name)| name.as_str())
    }

    /// Where a function, or a label in assembly, lies.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.functions.iter().find(|(_, _, known)| known == name).map(|(address, _, _)| *address)
    }

    /// Where the function whose name ends like this begins and ends.
    pub fn ending(&self, name: &str) -> Option<(u64, u64)> {
        let found = self.functions.iter().find(|(_, _, known)| known.ends_with(name));
        found.map(|(address, size, _)| (*address, address + size))
    }

    /// The function that an address lies in, and where that starts.
    pub fn function_at(&self, address: u64) -> Option<(u64, &str)> {
        let after = self.functions.partition_point(|(start, _, _)| *start <= address);
        let (start, size, name) = self.functions.get(after.checked_sub(1)?)?;
        // Assembly functions may have no size; what follows is theirs.
        (address - start < *size || *size == 0).then_some((*start, name))
    }

    /// The function that the instruction `back` bytes before an address lies in, and how far into it the address is.
    fn resolve(&self, address: u64, back: u64) -> Option<String> {
        let (start, name) = self.function_at(address.checked_sub(back)?)?;
        Some(format!("{name}+{:#x}", address - start))
    }
}

/// Whether this may be a function in assembly, which has neither type nor size: no mark of linker script or compiler.
fn is_assembly(kind: SymbolKind, name: &str) -> bool {
    matches!(kind, SymbolKind::Unknown | SymbolKind::Label) && !name.starts_with(['$', '.']) && !name.starts_with("__")
}

fn address(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?.trim_end(), 16).ok()
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// A filter for the guest's output: passes every byte on at once, and adds names at the ends of backtrace lines.
pub struct BacktraceFilter {
    symbols: Option<Symbols>,
    line: Vec<u8>,
}

impl BacktraceFilter {
    /// A filter that knows these symbols, or that only passes on.
    pub fn new(symbols: Option<Symbols>) -> Self {
        BacktraceFilter { symbols, line: Vec::new() }
    }

    /// What to show for what came.
    pub fn pass(&mut self, input: &[u8]) -> Vec<u8> {
        let mut output = Vec::with_capacity(input.len());
        for &byte in input {
            if byte == b'\r' || byte == b'\n' {
                if let Some(name) = self.name_of_line() {
                    output.extend_from_slice(b" ");
                    output.extend_from_slice(name.as_bytes());
                }
                self.line.clear();
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(byte);
            }
            output.push(byte);
        }
        output
    }

    fn name_of_line(&self) -> Option<String> {
        let symbols = self.symbols.as_ref()?;
        if let Some(digits) = self.line.strip_prefix(AT) {
            return symbols.resolve(address(digits)?, 0);
        }
        // A call that never returns may be a function's last instruction: what is behind it is another's.
        symbols.resolve(address(self.line.strip_prefix(FROM)?)?, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols() -> Symbols {
        let function = |start, size, name: &str| (start, size, name.to_string());
        Symbols { functions: vec![function(0x1000, 0x10, "first"), function(0x1010, 0, "entry")] }
    }

    #[test]
    fn addresses_resolve_to_the_function_they_lie_in() {
        let known = [(0x1000, Some("first+0x0")), (0x100f, Some("first+0xf")), (0x1014, Some("entry+0x4"))];
        for (address, name) in known {
            assert_eq!(symbols().resolve(address, 0).as_deref(), name);
        }
        assert_eq!(symbols().resolve(0xfff, 0), None);
    }

    #[test]
    fn a_call_that_ends_a_function_is_that_function_s() {
        assert_eq!(symbols().resolve(0x1010, 0).as_deref(), Some("entry+0x0"));
        assert_eq!(symbols().resolve(0x1010, 1).as_deref(), Some("first+0x10"));
        assert_eq!(symbols().resolve(0, 1), None);
    }

    #[test]
    fn backtrace_lines_get_names_and_all_else_passes_unchanged() {
        let mut filter = BacktraceFilter::new(Some(symbols()));
        assert_eq!(filter.pass(b"panic\r\n  at 0x00000000000010"), b"panic\r\n  at 0x00000000000010");
        assert_eq!(filter.pass(b"08\r\nat 0x1008\n$ "), b"08 first+0x8\r\nat 0x1008\n$ ");
        assert_eq!(filter.pass(b"\r\n  from 0x1010\n"), b"\r\n  from 0x1010 first+0x10\n");
    }
}
