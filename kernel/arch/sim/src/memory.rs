//! The simulated machine's main memory: one allocation of the host, and its page records.
//!
//! The kernel reaches it through its [`Store`](anos_machine::Store); the simulated processors (walking page tables,
//! loading, storing, saving registers) through [`Ram`], which stands for the wires between processor and memory.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::mem::MaybeUninit;

use anos_abi::PAGE_SIZE;
use anos_machine::{Memory, PageRecord, Ref, Registers, Thread};

/// Physical address of the first byte of main memory.
pub const RAM_BASE: u64 = 0x8000_0000;

/// Main memory and its page records.
#[derive(Debug)]
pub struct Ram {
    bytes: *mut u8,
    layout: Layout,
    records: *mut [PageRecord],
    pages: u64,
}

/// What main memory and its page records held at one moment.
#[derive(Debug)]
pub struct Contents {
    bytes: Vec<u8>,
    records: Vec<MaybeUninit<PageRecord>>,
}

/// A number of the simulated machine as one of the host: the same size wherever this runs.
pub fn index(number: u64) -> usize {
    usize::try_from(number).expect("a 64-bit host")
}

impl Ram {
    /// `pages` pages from [`RAM_BASE`].
    pub fn new(pages: u64) -> Ram {
        let layout = Layout::from_size_align(index(pages * PAGE_SIZE), index(PAGE_SIZE)).expect("a sensible size");
        assert!(layout.size() > 0, "a machine has memory");
        // SAFETY: the layout's size is not zero.
        let bytes = unsafe { alloc_zeroed(layout) };
        if bytes.is_null() {
            handle_alloc_error(layout);
        }
        let records = Box::into_raw((0..pages).map(|_| PageRecord::default()).collect::<Box<[_]>>());
        Ram { bytes, layout, records, pages }
    }

    /// Pages of main memory.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The first physical address past main memory.
    pub fn end(&self) -> u64 {
        RAM_BASE + self.pages * PAGE_SIZE
    }

    /// Whether this physical address is main memory.
    pub fn contains(&self, address: u64) -> bool {
        (RAM_BASE..self.end()).contains(&address)
    }

    /// What the kernel is told about this memory. Its stores must not outlive `self`.
    pub fn memory(&self) -> Memory {
        let window = (self.bytes.expose_provenance() as u64).wrapping_sub(RAM_BASE);
        // SAFETY: the records and the pages live as long as `self`, and `Ram`'s own accesses are those of a
        // processor: single words, while the kernel isn't looking.
        unsafe { Memory::new(window, RAM_BASE, self.pages, self.records.cast::<PageRecord>()) }
    }

    fn pointer<T>(&self, address: u64) -> *mut T {
        let offset = address.checked_sub(RAM_BASE).expect("an address in main memory");
        let size = size_of::<T>() as u64;
        assert!(offset + size <= self.pages * PAGE_SIZE, "{address:#x} lies past main memory");
        assert!(offset.is_multiple_of(align_of::<T>() as u64), "{address:#x} is misaligned");
        // SAFETY: the offset lies within the allocation (asserted above).
        unsafe { self.bytes.add(index(offset)) }.cast::<T>()
    }

    /// Reads an aligned word of main memory.
    pub fn read(&self, address: u64) -> u64 {
        // SAFETY: in bounds and aligned (`pointer`), and any bits are a word.
        unsafe { self.pointer::<u64>(address).read() }
    }

    /// Writes an aligned word of main memory.
    pub fn write(&mut self, address: u64, value: u64) {
        // SAFETY: in bounds and aligned (`pointer`); nobody holds a reference to it while a processor runs.
        unsafe { self.pointer::<u64>(address).write(value) }
    }

    /// Reads a page-table entry.
    pub fn entry(&self, table: u64, index: u64) -> u64 {
        self.read(table + (index & 511) * 8)
    }

    /// Copies bytes into main memory.
    pub fn fill(&mut self, address: u64, bytes: &[u8]) {
        for (position, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write(address + position as u64 * 8, u64::from_le_bytes(word));
        }
    }

    /// Main memory as bytes, for the boot loader's payload.
    pub fn bytes(&self, address: u64, bytes: u64) -> Vec<u8> {
        (0..bytes.div_ceil(8)).flat_map(|word| self.read(address + word * 8).to_le_bytes()).take(index(bytes)).collect()
    }

    /// All words of main memory.
    pub fn image(&self) -> Vec<u64> {
        // SAFETY: the whole allocation, which is aligned; the kernel isn't looking, and any bits are words.
        unsafe { std::slice::from_raw_parts(self.bytes.cast::<u64>(), self.layout.size() / 8) }.to_vec()
    }

    /// What it holds now, with its page records. (Not while a kernel runs, which a test can't.)
    pub fn contents(&self) -> Contents {
        let mut contents = Contents { bytes: vec![0; self.layout.size()], records: Vec::new() };
        contents.records.resize_with(index(self.pages), MaybeUninit::uninit);
        // SAFETY: as many bytes as were allocated, zeroed or written since.
        unsafe { contents.bytes.as_mut_ptr().copy_from_nonoverlapping(self.bytes, self.layout.size()) };
        let records = self.records.cast::<MaybeUninit<PageRecord>>();
        // SAFETY: there are as many records as pages: numbers only, and nobody refers to one while no kernel runs.
        unsafe { contents.records.as_mut_ptr().copy_from_nonoverlapping(records, index(self.pages)) };
        contents
    }

    /// Has it hold what it held when `contents` was taken.
    pub fn set_contents(&mut self, contents: &Contents) {
        assert_eq!(contents.bytes.len(), self.layout.size(), "contents of this memory");
        // SAFETY: as many bytes as are allocated (asserted); nobody holds a reference to them while no kernel runs.
        unsafe { self.bytes.copy_from_nonoverlapping(contents.bytes.as_ptr(), self.layout.size()) };
        let records = self.records.cast::<MaybeUninit<PageRecord>>();
        // SAFETY: as many records as pages, and so in `contents`, which are copies of records.
        unsafe { records.copy_from_nonoverlapping(contents.records.as_ptr(), index(self.pages)) };
    }

    /// Saves a thread's registers into its record, as trap code does.
    pub fn save(&self, thread: Ref<Thread>, registers: &Registers) {
        let record = self.pointer::<Thread>(thread.address()).cast::<Registers>();
        // SAFETY: in bounds and aligned (`pointer`), and the registers come first in the record (`repr(C)`).
        unsafe { record.write(*registers) }
    }

    /// Whether a thread belongs to another system, as trap code looks.
    pub fn is_foreign(&self, thread: Ref<Thread>) -> bool {
        const OFFSET: u64 = std::mem::offset_of!(Thread, foreign) as u64;
        self.read((thread.address() + OFFSET) & !7).to_le_bytes()[index(OFFSET % 8)] != 0
    }

    /// Restores a thread's registers from its record.
    pub fn restore(&self, thread: Ref<Thread>) -> Registers {
        let record = self.pointer::<Thread>(thread.address()).cast::<Registers>();
        // SAFETY: in bounds and aligned (`pointer`), integers only, and the registers come first in the record.
        unsafe { record.read() }
    }
}

// SAFETY: what `Ram` reads and writes is what a processor may: its own thread's registers, and words that the test
// itself keeps apart. The records and the kernel's objects are reached only through stores, under the kernel's locks.
unsafe impl Sync for Ram {}

// SAFETY: it owns what its pointers lead to.
unsafe impl Send for Ram {}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`, and the stores made from it are gone with the machine.
        drop(unsafe { Box::from_raw(self.records) });
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.bytes, self.layout) };
    }
}
