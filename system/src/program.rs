//! What of an ELF file goes where: checked, before anything is built from it.
//!
//! A program is a static executable with up to [`MAX_SEGMENTS`] loadable segments, each on pages of its own between
//! the program address and the heap, none of them both writable and executable, and its entry in an executable one.

use anos_abi::{PAGE_SIZE, Rights};
use anos_interfaces::start::{HEAP_START, PROGRAM_ADDRESS};
use elf::ElfBytes;
use elf::abi::{EM_RISCV, EM_X86_64, ET_EXEC, PF_R, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;

/// Segments that a program can have.
pub const MAX_SEGMENTS: usize = 8;

/// A machine that programs are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    X86_64,
    /// 64-bit RISC-V.
    RiscV,
}

impl Machine {
    /// The machine with this number in BootInfo.
    pub const fn from_number(number: u64) -> Self {
        match number {
            2 => Machine::RiscV,
            _ => Machine::X86_64,
        }
    }
}

/// Why a file can't be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadProgram {
    /// No ELF file, or one whose headers lie outside of it.
    NotElf,
    /// For another machine, or another word size or byte order.
    WrongMachine,
    /// Not a static executable.
    NotStatic,
    /// More segments than [`MAX_SEGMENTS`], or none.
    SegmentCount,
    /// A segment's bytes lie outside the file.
    Truncated,
    /// A segment lies outside the memory for programs.
    OutOfBounds,
    /// Two segments share a page.
    Overlap,
    /// A segment can be both written and executed, or not be read.
    BadRights,
    /// The entry lies in no executable segment.
    BadEntry,
}

impl BadProgram {
    /// A few words for people.
    pub const fn text(self) -> &'static str {
        match self {
            BadProgram::NotElf => "it is no ELF file, or a truncated one",
            BadProgram::WrongMachine => "it is built for another machine",
            BadProgram::NotStatic => "it is no static executable",
            BadProgram::SegmentCount => "it has no segments, or too many",
            BadProgram::Truncated => "a segment lies outside the file: is it truncated?",
            BadProgram::OutOfBounds => "a segment lies outside the memory for programs",
            BadProgram::Overlap => "two segments share a page",
            BadProgram::BadRights => "a segment is writable and executable, or not readable",
            BadProgram::BadEntry => "its entry lies in no executable segment",
        }
    }
}

/// A run of pages, and the bytes that go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Address of the first page.
    pub address: u64,
    /// Pages.
    pub pages: u64,
    /// How it is mapped.
    pub rights: Rights,
    /// Where in the first page the bytes start.
    pub offset: u64,
    /// The bytes. The rest is zeros.
    pub bytes: &'a [u8],
}

impl Segment<'_> {
    /// The first address past its last page.
    pub const fn end(&self) -> u64 {
        self.address + self.pages * PAGE_SIZE
    }
}

/// What to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Where the program starts.
    pub entry: u64,
    segments: [Option<Segment<'a>>; MAX_SEGMENTS],
}

impl<'a> Plan<'a> {
    /// Reads a file, whatever the bytes.
    ///
    /// # Errors
    /// Why it can't be run.
    pub fn read(file: &'a [u8], machine: Machine) -> Result<Self, BadProgram> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| BadProgram::NotElf)?;
        let number = match machine {
            Machine::X86_64 => EM_X86_64,
            Machine::RiscV => EM_RISCV,
        };
        if elf.ehdr.class != Class::ELF64 || elf.ehdr.e_machine != number {
            return Err(BadProgram::WrongMachine);
        }
        if elf.ehdr.e_type != ET_EXEC {
            return Err(BadProgram::NotStatic);
        }
        let mut plan = Plan { entry: elf.ehdr.e_entry, segments: [None; MAX_SEGMENTS] };
        for header in elf.segments().ok_or(BadProgram::SegmentCount)?.iter() {
            match header.p_type {
                PT_INTERP | PT_DYNAMIC => return Err(BadProgram::NotStatic),
                PT_LOAD if header.p_memsz > 0 => plan.add(segment(file, &header)?)?,
                _ => {}
            }
        }
        plan.check_entry()?;
        Ok(plan)
    }

    /// The segments.
    pub fn segments(&self) -> impl Iterator<Item = &Segment<'a>> {
        self.segments.iter().flatten()
    }

    fn add(&mut self, segment: Segment<'a>) -> Result<(), BadProgram> {
        if self.segments().any(|other| segment.address < other.end() && other.address < segment.end()) {
            return Err(BadProgram::Overlap);
        }
        let place = self.segments.iter_mut().find(|place| place.is_none()).ok_or(BadProgram::SegmentCount)?;
        *place = Some(segment);
        Ok(())
    }

    fn check_entry(&self) -> Result<(), BadProgram> {
        if self.segments().count() == 0 {
            return Err(BadProgram::SegmentCount);
        }
        let holds_entry = |segment: &Segment<'_>| {
            segment.rights.contains(Rights::EXECUTE) && (segment.address..segment.end()).contains(&self.entry)
        };
        if self.segments().any(holds_entry) { Ok(()) } else { Err(BadProgram::BadEntry) }
    }
}

fn segment<'a>(file: &'a [u8], header: &ProgramHeader) -> Result<Segment<'a>, BadProgram> {
    if header.p_filesz > header.p_memsz {
        return Err(BadProgram::Truncated);
    }
    let start = usize::try_from(header.p_offset).map_err(|_| BadProgram::Truncated)?;
    let length = usize::try_from(header.p_filesz).map_err(|_| BadProgram::Truncated)?;
    let end = start.checked_add(length).ok_or(BadProgram::Truncated)?;
    let bytes = file.get(start..end).ok_or(BadProgram::Truncated)?;
    let memory_end = header.p_vaddr.checked_add(header.p_memsz).ok_or(BadProgram::OutOfBounds)?;
    if header.p_vaddr < PROGRAM_ADDRESS || memory_end > HEAP_START {
        return Err(BadProgram::OutOfBounds);
    }
    let (write, execute) = (header.p_flags & PF_W != 0, header.p_flags & PF_X != 0);
    let rights = match (write, execute) {
        (true, true) => return Err(BadProgram::BadRights),
        (true, false) => Rights::READ.union(Rights::WRITE),
        (false, true) => Rights::READ.union(Rights::EXECUTE),
        (false, false) => Rights::READ,
    };
    if header.p_flags & PF_R == 0 {
        return Err(BadProgram::BadRights);
    }
    let offset = header.p_vaddr % PAGE_SIZE;
    let address = header.p_vaddr - offset;
    Ok(Segment { address, pages: (memory_end - address).div_ceil(PAGE_SIZE), rights, offset, bytes })
}
