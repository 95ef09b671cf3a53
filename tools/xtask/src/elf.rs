//! Reading what the linker made, and writing the plain executables that the image is made of.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use object::elf::{FileHeader64, PF_W, PF_X, PT_LOAD, PT_NOTE};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol};

use crate::target::Architecture;

/// Size of the file header, and of one program header.
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Segments start at a file offset that equals their address modulo this, so that they can be mapped.
const PAGE: u64 = anos_abi::PAGE_SIZE;

/// A part of an executable as the loader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// PT_LOAD or PT_NOTE.
    pub kind: u32,
    /// PF_R, PF_W, PF_X.
    pub flags: u32,
    /// Virtual address.
    pub address: u64,
    /// Physical address.
    pub physical: u64,
    /// Bytes in memory; what the file doesn't have is zero.
    pub memory_bytes: u64,
    /// The bytes in the file.
    pub bytes: Vec<u8>,
}

impl Segment {
    /// Whether it holds code.
    pub fn is_executable(&self) -> bool {
        self.flags & PF_X.0 != 0
    }

    /// Whether it can be written to.
    pub fn is_writable(&self) -> bool {
        self.flags & PF_W.0 != 0
    }

    /// Whether it takes up memory, rather than describing the file.
    pub fn is_loaded(&self) -> bool {
        self.kind == PT_LOAD.0
    }
}

/// An executable: where it starts, and its segments in the order of their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// The entry point.
    pub entry: u64,
    /// LOAD and NOTE segments; empty ones are left out.
    pub segments: Vec<Segment>,
    kernel_end: Option<u64>,
}

impl Executable {
    /// Reads an ELF64 file.
    pub fn read(path: &Path) -> Result<Self> {
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&data).with_context(|| format!("{} is no executable that we know", path.display()))
    }

    fn parse(data: &[u8]) -> Result<Self> {
        let header = FileHeader64::<LittleEndian>::parse(data)?;
        let endian = header.endian()?;
        let mut segments = Vec::new();
        for program in header.program_headers(endian, data)? {
            let kind = program.p_type(endian);
            if (kind != PT_LOAD && kind != PT_NOTE) || program.p_memsz(endian) == 0 {
                continue;
            }
            let bytes = program.data(endian, data).map_err(|()| anyhow!("a segment lies outside the file"))?;
            segments.push(Segment {
                kind: kind.0,
                flags: program.p_flags(endian).0,
                address: program.p_vaddr(endian),
                physical: program.p_paddr(endian),
                memory_bytes: program.p_memsz(endian),
                bytes: bytes.to_vec(),
            });
        }
        segments.sort_by_key(|segment| (segment.kind, segment.address));
        let file = ElfFile64::<LittleEndian>::parse(data)?;
        let kernel_end = file.symbols().find(|symbol| symbol.name() == Ok("__kernel_end")).map(|end| end.address());
        Ok(Executable { entry: header.e_entry(endian), segments, kernel_end })
    }

    /// The segments that take up memory.
    pub fn loaded(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.is_loaded())
    }

    /// The physical address behind the kernel: what its linker script calls `__kernel_end`.
    pub fn physical_end(&self) -> Result<u64> {
        let end = self.kernel_end.context("the kernel has no symbol __kernel_end")?;
        let last = self.loaded().filter(|segment| segment.address < end).last();
        let last = last.context("the kernel's __kernel_end lies before its segments")?;
        let physical = end - last.address + last.physical;
        let highest = self.loaded().map(|segment| segment.physical + segment.memory_bytes).max();
        ensure!(highest <= Some(physical), "a segment of the kernel reaches past its __kernel_end");
        Ok(physical)
    }

    /// An ELF64 file with nothing but these segments: no symbols, no sections.
    pub fn write(&self, architecture: Architecture) -> Result<Vec<u8>> {
        let mut file = vec![0; FILE_HEADER + PROGRAM_HEADER * self.segments.len()];
        let mut headers = Vec::new();
        for segment in &self.segments {
            let start = u64::try_from(file.len())?;
            let offset = if segment.is_loaded() {
                start + segment.address.wrapping_sub(start) % PAGE
            } else {
                start.next_multiple_of(4)
            };
            file.resize(usize::try_from(offset)?, 0);
            file.extend_from_slice(&segment.bytes);
            headers.extend(program_header(segment, offset)?);
        }
        let count = u16::try_from(self.segments.len())?;
        file[..FILE_HEADER].copy_from_slice(&file_header(architecture, self.entry, count));
        file[FILE_HEADER..FILE_HEADER + headers.len()].copy_from_slice(&headers);
        Ok(file)
    }
}

fn file_header(architecture: Architecture, entry: u64, segments: u16) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    let mut put = |offset: usize, bytes: &[u8]| header[offset..offset + bytes.len()].copy_from_slice(bytes);
    // Magic, 64-bit, little-endian, version 1, System V.
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    put(16, &2_u16.to_le_bytes()); // e_type: executable
    put(18, &architecture.elf_machine().to_le_bytes());
    put(20, &1_u32.to_le_bytes()); // e_version
    put(24, &entry.to_le_bytes());
    put(32, &64_u64.to_le_bytes()); // e_phoff: right behind this header
    put(52, &64_u16.to_le_bytes()); // e_ehsize
    put(54, &56_u16.to_le_bytes()); // e_phentsize
    put(56, &segments.to_le_bytes());
    header
}

fn program_header(segment: &Segment, offset: u64) -> Result<Vec<u8>> {
    let mut header = Vec::with_capacity(PROGRAM_HEADER);
    header.extend(segment.kind.to_le_bytes());
    header.extend(segment.flags.to_le_bytes());
    let alignment = if segment.is_loaded() { PAGE } else { 4 };
    let bytes = u64::try_from(segment.bytes.len())?;
    for word in [offset, segment.address, segment.physical, bytes, segment.memory_bytes, alignment] {
        header.extend(word.to_le_bytes());
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(kind: u32, flags: u32, address: u64, bytes: &[u8], memory_bytes: u64) -> Segment {
        Segment { kind, flags, address, physical: address + 0x1000, memory_bytes, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_written_executable_reads_back_as_it_was() {
        let executable = Executable {
            entry: 0x40_0010,
            segments: vec![
                segment(PT_LOAD.0, 5, 0x40_0000, &[1; 300], 300),
                segment(PT_LOAD.0, 6, 0x40_1000, &[2; 5], 0x3000),
                segment(PT_NOTE.0, 4, 0x40_0020, &[3; 20], 20),
            ],
            kernel_end: None,
        };
        let file = executable.write(Architecture::Riscv64).expect("written");
        assert_eq!(Executable::parse(&file).expect("read"), executable);
    }
}
