//! Names for the addresses in the kernel's backtraces, put in as the guest's output streams by.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol, SymbolKind};

/// What a line of a kernel backtrace starts with.
const MARK: &[u8] = b"  at 0x";
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

    /// The function that an address lies in, and how far.
    pub fn resolve(&self, address: u64) -> Option<String> {
        let after = self.functions.partition_point(|(start, _, _)| *start <= address);
        let (start, size, name) = self.functions.get(after.checked_sub(1)?)?;
        let offset = address - start;
        // Assembly functions may have no size; what follows is theirs.
        (offset < *size || *size == 0).then(|| format!("{name}+{offset:#x}"))
    }
}

/// Whether this may be a function in assembly, which has neither type nor size: no mark of linker script or compiler.
fn is_assembly(kind: SymbolKind, name: &str) -> bool {
    matches!(kind, SymbolKind::Unknown | SymbolKind::Label) && !name.starts_with(['$', '.']) && !name.starts_with("__")
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
        let digits = std::str::from_utf8(self.line.strip_prefix(MARK)?).ok()?;
        let address = u64::from_str_radix(digits.trim_end(), 16).ok()?;
        let mut shown = String::new();
        // Writing to a string can't fail.
        let _ = write!(shown, "{}", self.symbols.as_ref()?.resolve(address)?);
        Some(shown)
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
            assert_eq!(symbols().resolve(address).as_deref(), name);
        }
        assert_eq!(symbols().resolve(0xfff), None);
    }

    #[test]
    fn backtrace_lines_get_names_and_all_else_passes_unchanged() {
        let mut filter = BacktraceFilter::new(Some(symbols()));
        assert_eq!(filter.pass(b"panic\r\n  at 0x00000000000010"), b"panic\r\n  at 0x00000000000010");
        assert_eq!(filter.pass(b"08\r\nat 0x1008\n$ "), b"08 first+0x8\r\nat 0x1008\n$ ");
    }
}
