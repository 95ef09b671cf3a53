//! The kernel's own page tables, built once by the boot core and the same for every address space from then on.
//!
//! While they are built, the early tables (`entry`) show the first 4 GiB at the window.

use core::sync::atomic::{AtomicU64, Ordering};

use anos_abi::PAGE_SIZE;
use anos_core::boot::Run;
use anos_core::boot::runs::RunList;

use crate::cpu;
use crate::paging::{self, DEVICES, GLOBAL, IMAGE, LARGE, NO_EXECUTE, PRESENT, UNCACHED, WINDOW, WRITE};
use crate::pvh::Reader;

/// Physical address of the kernel's root table; starting cores read it (`entry`).
pub static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);

/// What the early tables show of physical memory.
pub const EARLY_LIMIT: u64 = 1 << 32;

/// Pages of the kernel's own devices, so far.
static DEVICE_PAGES: AtomicU64 = AtomicU64::new(0);
/// How many there can be.
const MAX_DEVICES: u64 = 16;

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __kernel_end: u8;
    static early_stack_guard: u8;
    static early_stack: u8;
}

/// The kernel's image: physical addresses of its first byte and of the first one behind it, bss included.
pub fn image() -> Run {
    let start = &raw const __text_start as u64 - IMAGE;
    Run { address: start, bytes: &raw const __kernel_end as u64 - IMAGE - start }
}

/// Whether an address lies in the kernel's code, behind a call as compilers make them: its operation, and four bytes that
/// say where to, or where that stands (checks that fail are called so).
pub fn is_behind_call(address: u64) -> bool {
    const CALL: u8 = 0xe8;
    const CALL_THROUGH: u8 = 0x15; // the second byte of two
    if !(&raw const __text_start as u64 + 5..&raw const __text_end as u64).contains(&address) {
        return false;
    }
    // SAFETY: it lies in the kernel's code, which is mapped and never written to.
    let operation = unsafe { *((address - 5) as *const u8) };
    operation == CALL || operation == CALL_THROUGH
}

/// Physical memory as the early tables show it, to read firmware tables.
pub struct EarlyMemory;

impl Reader for EarlyMemory {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let end = address.checked_add(u64::try_from(length).ok()?)?;
        if end > EARLY_LIMIT {
            return None;
        }
        // SAFETY: the early tables map all of this; what lies there is what the loader and the firmware left, which
        // nobody changes while the boot core reads it.
        Some(unsafe { core::slice::from_raw_parts((WINDOW + address) as *const u8, length) })
    }
}

/// The tables under construction.
pub struct Tables<'a> {
    root: u64,
    /// Where pages for tables come from.
    free: &'a mut RunList,
    /// The largest page: 3 for 1 GiB, 2 for 2 MiB.
    largest: u8,
}

impl<'a> Tables<'a> {
    /// Empty tables. `None` if there is no memory.
    pub fn new(free: &'a mut RunList) -> Option<Self> {
        const GIGABYTE_PAGES: u32 = 1 << 26;
        let largest = if cpu::cpuid(0x8000_0001, 0).edx & GIGABYTE_PAGES != 0 { 3 } else { 2 };
        let root = take_clear(free, PAGE_SIZE)?;
        Some(Tables { root, free, largest })
    }

    /// Takes clear memory that the early tables show: its physical address.
    pub fn take(&mut self, bytes: u64) -> Option<u64> {
        take_clear(self.free, bytes)
    }

    /// Takes memory anywhere, as it is.
    pub fn take_anywhere(&mut self, bytes: u64) -> Option<u64> {
        self.free.take_below(bytes, u64::MAX)
    }

    /// Maps a run of pages with the largest pages that fit.
    pub fn map(&mut self, virtual_address: u64, run: Run, flags: u64) -> Option<()> {
        let mut done = 0;
        while done < run.bytes {
            let (to, from) = (virtual_address + done, run.address + done);
            let mut level = self.largest;
            while level > 1 && ((to | from) % paging::span(level) != 0 || run.bytes - done < paging::span(level)) {
                level -= 1;
            }
            self.map_one(to, from, level, flags)?;
            done += paging::span(level);
        }
        Some(())
    }

    fn map_one(&mut self, virtual_address: u64, physical: u64, level: u8, flags: u64) -> Option<()> {
        let mut table = self.root;
        for upper in (level + 1..=paging::LEVELS).rev() {
            // SAFETY: the root, or a table that the entry above it names: `take_clear` made both.
            let entry = unsafe { entry_mut(table, paging::index(virtual_address, upper)) };
            if *entry == 0 {
                *entry = take_clear(self.free, PAGE_SIZE)? | PRESENT | WRITE;
            }
            table = *entry & !(PAGE_SIZE - 1);
        }
        let large = if level > 1 { LARGE } else { 0 };
        // SAFETY: as above; the last reference is no longer used.
        let entry = unsafe { entry_mut(table, paging::index(virtual_address, level)) };
        *entry = physical | flags | large | PRESENT | GLOBAL;
        Some(())
    }

    /// Maps the kernel's image, each part with its own rights.
    pub fn map_image(&mut self) -> Option<()> {
        self.map_part(&raw const __text_start, &raw const __text_end, 0)?;
        self.map_part(&raw const __rodata_start, &raw const __rodata_end, NO_EXECUTE)?;
        // Between the two parts of the data lies the guard page of the boot core's first stack.
        self.map_part(&raw const __data_start, &raw const early_stack_guard, NO_EXECUTE | WRITE)?;
        self.map_part(&raw const early_stack, &raw const __kernel_end, NO_EXECUTE | WRITE)
    }

    #[inline(never)]
    fn map_part(&mut self, start: *const u8, end: *const u8, flags: u64) -> Option<()> {
        let (start, end) = (start as u64, end as u64);
        self.map(start, Run { address: start - IMAGE, bytes: end - start }, flags)
    }

    /// Maps main memory at the window, but for the kernel's image.
    pub fn map_window(&mut self, ram: &RunList) -> Option<()> {
        let image = image();
        for run in ram.as_slice() {
            self.show(run.address, run.end().min(image.address))?;
            self.show(run.address.max(image.end()), run.end())?;
        }
        Some(())
    }

    /// Maps what lies between two physical addresses, if anything does, at the window.
    #[inline(never)]
    fn show(&mut self, start: u64, end: u64) -> Option<()> {
        self.map(WINDOW + start, Run { address: start, bytes: end.saturating_sub(start) }, NO_EXECUTE | WRITE)
    }

    /// Maps the page of a device of the kernel's own; answers the virtual address that `physical` gets.
    pub fn map_device(&mut self, physical: u64) -> Option<u64> {
        let number = DEVICE_PAGES.load(Ordering::Relaxed);
        if number >= MAX_DEVICES {
            return None;
        }
        DEVICE_PAGES.store(number + 1, Ordering::Relaxed);
        let page = DEVICES + number * PAGE_SIZE;
        let offset = physical % PAGE_SIZE;
        self.map_one(page, physical - offset, 1, NO_EXECUTE | WRITE | UNCACHED)?;
        Some(page + offset)
    }

    /// Makes these the tables that the boot core uses, and the others will.
    pub fn load(&self) {
        KERNEL_ROOT.store(self.root, Ordering::Release);
        // SAFETY: they map the image that runs here and its data as the early ones do.
        unsafe { cpu::load_root(self.root) };
    }
}

/// Physical address of the kernel's root table.
pub fn kernel_root() -> u64 {
    KERNEL_ROOT.load(Ordering::Relaxed)
}

/// Copies the kernel's half of the root table, whose entries never change after boot.
pub fn fill_root(root: &mut [u64; 512]) {
    let kernel = (WINDOW + kernel_root()) as *const [u64; 512];
    // SAFETY: the kernel's root table is mapped at the window, and nobody writes it after boot.
    let kernel = unsafe { &*kernel };
    #[expect(clippy::manual_memcpy, reason = "the compiler would make that a string instruction, a loop in microcode")]
    for index in 256..512 {
        root[index] = kernel[index];
    }
}

/// Takes memory below the early limit and fills it with zeros.
fn take_clear(free: &mut RunList, bytes: u64) -> Option<u64> {
    let address = free.take_below(bytes, EARLY_LIMIT)?;
    #[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits here")]
    let length = bytes as usize;
    // SAFETY: it was free, so it is nobody's; and it is main memory that the early tables show.
    unsafe { ((WINDOW + address) as *mut u8).write_bytes(0, length) };
    Some(address)
}

/// An entry of a table.
///
/// # Safety
/// `table` is the physical address of a page that [`take_clear`] made a table of, `index` is below 512, and no other
/// reference to the entry is in use.
unsafe fn entry_mut<'a>(table: u64, index: u64) -> &'a mut u64 {
    let entry = (WINDOW + table + index * 8) as *mut u64;
    // SAFETY: the caller's promise: an aligned word of a mapped page, and only the boot core is there to use it.
    unsafe { &mut *entry }
}
