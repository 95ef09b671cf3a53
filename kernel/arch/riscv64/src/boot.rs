//! From the first line of Rust to the first thread.
//!
//! 1. [`boot_early`], on the boot stack and the early translation: reads the devicetree, decides what memory is whose,
//!    and builds the kernel's page tables.
//! 2. [`boot_late`], on the boot hart's own stack and those tables: starts the other harts, has the core build the root
//!    server, and runs.

use core::slice;

use anos_abi::boot::{PAYLOAD_ALIGN, PAYLOAD_MAGIC, PayloadHeader};
use anos_abi::{MAX_CORES, PAGE_SIZE};
use anos_core::boot::runs::{Full, RunList};
use anos_core::boot::{Found, Run};
use anos_machine::{CoreId, Memory, PageRecord};

use crate::description::{Description, Unusable, lists};
use crate::devicetree::{self, Devicetree};
use crate::entry::{self, Image};
use crate::hart::{self, Hart, STACK_BYTES};
use crate::interrupts::Interrupts;
use crate::machine::{KERNEL, PLATFORM, Platform, Port};
use crate::once::SetOnce;
use crate::paging::{self, KERNEL_DATA, KERNEL_RODATA, KERNEL_TEXT, Mode, Table, Tables};
use crate::report::boot_error;
use crate::time::Frequency;
use crate::{console, csr, harts, to_usize};

/// A devicetree longer than this is taken for a broken one.
const MAX_DEVICETREE_BYTES: usize = 2 << 20;
const MALFORMED: &str = "the devicetree is malformed";
const TOO_LITTLE_MEMORY: &str = anos_core::boot::BootError::TooLittleMemory.text();
const TOO_MANY_RUNS: &str = "the devicetree has more runs of memory than the kernel can list";

/// What [`boot_early`] hands to [`boot_late`].
#[derive(Debug)]
struct Plan {
    /// What its list of free memory has left is nobody's.
    description: Description,
    payload: Run,
    devicetree: Run,
    /// Physical address of the first page with a record, number of such pages, physical address of the records.
    records: (u64, u64, u64),
    /// What to subtract from a virtual address in the image for its physical one.
    load_offset: u64,
}

const NOWHERE: Run = Run { address: 0, bytes: 0 };

static PLAN: SetOnce<Plan> = SetOnce::new(Plan {
    description: Description::EMPTY,
    payload: NOWHERE,
    devicetree: NOWHERE,
    records: (0, 0, 0),
    load_offset: 0,
});

/// Memory through the early direct map, and pages for tables.
struct Early<'a> {
    free: &'a mut RunList,
}

impl Early<'_> {
    fn address(physical: u64) -> usize {
        to_usize(Mode::Sv39.window().wrapping_add(physical))
    }

    /// Takes whole pages and fills them with zeros: programs may come to see the last of them to its end.
    fn take(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.next_multiple_of(PAGE_SIZE);
        let Some(address) = self.free.take_from_top(bytes) else { boot_error(TOO_LITTLE_MEMORY) };
        let start = Early::address(address) as *mut u8;
        // SAFETY: free memory, which is now ours alone, in the early direct map.
        unsafe { start.write_bytes(0, to_usize(bytes)) };
        address
    }
}

impl Tables for Early<'_> {
    fn allocate(&mut self) -> Option<u64> {
        Some(self.take(PAGE_SIZE))
    }

    fn at(&mut self, address: u64) -> &mut Table {
        let table = Early::address(address) as *mut Table;
        // SAFETY: a page that `allocate` gave, and the borrow of `self` keeps this the only reference.
        unsafe { &mut *table }
    }
}

/// The boot hart, on the early translation.
///
/// # Safety
/// Called by `entry.rs` alone.
pub unsafe extern "C" fn boot_early(hart_id: u64, devicetree: u64, load_address: u64) -> ! {
    let image = entry::image();
    let block = hart::this();
    // SAFETY: this hart's own block, which nobody else uses.
    let hart = unsafe { &mut *block };
    hart.hart_id = hart_id;
    hart.stack_bottom = image.boot_stack;
    hart.stack_top = image.boot_stack + entry::BOOT_STACK_BYTES as u64;
    console::initialise();

    // SAFETY: nobody has looked at it, and no other hart runs.
    let plan = unsafe { PLAN.make() };
    let blob = blob(devicetree);
    match Devicetree::new(blob).map_err(Unusable::from).and_then(|tree| plan.description.read(&tree, hart_id)) {
        Ok(()) => {}
        Err(Unusable::Malformed) => boot_error(MALFORMED),
        Err(Unusable::TooManyRuns) => boot_error(TOO_MANY_RUNS),
        Err(Unusable::NoFloatingPoint) => boot_error("a hart has no floating point (extension D)"),
        Err(Unusable::NoBootHart) => boot_error("the devicetree does not list the hart that boots"),
    }
    let Some(frequency) = Frequency::new(plan.description.frequency) else {
        boot_error("the devicetree does not say how fast the clock ticks")
    };
    plan.load_offset = image.start.wrapping_sub(load_address);
    let mode = choose_mode(&plan.description, image.early_root.wrapping_sub(plan.load_offset));
    let place = Run { address: devicetree, bytes: blob.len() as u64 };
    let kernel = Run { address: load_address, bytes: image.end - image.start };
    let Ok(root) = lay_out(plan, mode, &image, kernel, (place, blob)) else { boot_error(TOO_MANY_RUNS) };
    // SAFETY: `lay_out` mapped the registers in the final direct map.
    let interrupts = unsafe { Interrupts::new(plan.description.controller, mode.window()) };
    let (sstc, vectors) = (plan.description.sstc, plan.description.vectors);
    let (counter_start, user_counters) = (csr::time(), user_counters(&plan.description));
    let platform = Platform {
        mode,
        window: mode.window(),
        translation: mode.satp(0, 0),
        root,
        frequency,
        counter_start,
        sstc,
        vectors,
        user_counters,
        interrupts,
    };
    hart.prepare(CoreId::BOOT, hart_id, &platform);
    // SAFETY: nobody has looked at it, and no other hart runs.
    unsafe { PLATFORM.set(platform) };
    // SAFETY: prepared just now; what lived in this function is not used any more.
    unsafe { entry::adopt(block) }
}

/// The devicetree's bytes, at a physical address, through the early direct map.
fn blob(address: u64) -> &'static [u8] {
    if address == 0 || !address.is_multiple_of(8) || address >= Mode::Sv39.window_bytes() - (1 << 30) {
        boot_error("the firmware passes no devicetree");
    }
    let start = Early::address(address) as *const u8;
    // SAFETY: the firmware says that a devicetree is here, so at least its header is; nobody writes to it.
    let header = unsafe { slice::from_raw_parts(start, devicetree::HEADER_BYTES) };
    match devicetree::total_bytes(header) {
        // SAFETY: as above, for as long as the header says.
        Ok(bytes) if bytes <= MAX_DEVICETREE_BYTES => unsafe { slice::from_raw_parts(start, bytes) },
        Ok(_) => boot_error("the devicetree is longer than 2 MiB"),
        Err(_) => boot_error(MALFORMED),
    }
}

/// Sv48 if the devicetree says so, or what the command line asks for: each level costs time whenever a translation is
/// looked up, so five of them are only for who wants that much address space. Of what the hart accepts, in any case.
fn choose_mode(description: &Description, early_root: u64) -> Mode {
    let has = |text| lists(description.command_line(), text, b' ');
    let wanted = if has(b"paging=sv57") {
        Mode::Sv57
    } else if has(b"paging=sv39") {
        Mode::Sv39
    } else {
        description.mode
    };
    // A root for more levels whose last entry is the early root: the addresses in use, all of them in the last 512 GiB,
    // mean the same in all modes. A hart that lacks one ignores the write.
    let page = Early::address(early_root) as *mut u64;
    // SAFETY: entry 511 of the early root table, which maps nothing so far: nothing translates through it.
    let last = unsafe { page.add(511) };
    // SAFETY: as above. The early root becomes its own first level.
    unsafe { last.write(paging::table(early_root)) };
    let before = csr::translation();
    let accepted = [Mode::Sv57, Mode::Sv48].into_iter().filter(|&mode| mode <= wanted).find(|mode| {
        let satp = mode.satp(early_root, 0);
        csr::flush_translations();
        // SAFETY: see above: all that is mapped now stays as it is.
        unsafe { csr::set_translation(satp) };
        csr::translation() == satp
    });
    // SAFETY: back to what was.
    unsafe { csr::set_translation(before) };
    csr::flush_translations();
    accepted.unwrap_or(Mode::Sv39)
}

/// The counters that user mode may read: the clock. With `counters=user` on the command line also `cycle` and `instret`:
/// they tell a program how long other programs and the kernel took, down to the instruction, and with that what they were
/// doing. So that is only for a system that measures.
fn user_counters(description: &Description) -> u64 {
    let all = lists(description.command_line(), b"counters=user", b' ');
    if all { csr::ALL_COUNTERS } else { csr::TIME_COUNTER }
}

/// Decides what memory is whose, and builds the kernel's page tables. Gives the root table.
fn lay_out(plan: &mut Plan, mode: Mode, image: &Image, kernel: Run, (place, blob): (Run, &[u8])) -> Result<u64, Full> {
    let processors = plan.description.processors().len();
    let Description { ram, free, controller, .. } = &mut plan.description;
    let window_end = mode.window_bytes().min(Mode::Sv39.window_bytes());
    let beyond = Run { address: window_end, bytes: u64::MAX - window_end };
    ram.subtract(beyond)?;
    free.subtract(beyond)?;
    free.subtract(kernel)?;
    let visible = *free;
    plan.payload = payload(kernel.end(), free);
    free.subtract(plan.payload)?;
    // What the devicetree takes up becomes free once it is copied.
    let with_devicetree = *free;
    free.subtract(place)?;

    let (Some(first), Some(last)) = (ram.as_slice().first(), ram.as_slice().last()) else {
        boot_error("the devicetree shows no memory")
    };
    let (start, pages) = (first.address, (last.end() - first.address) / PAGE_SIZE);
    let mut early = Early { free };
    let records = early.take(pages * size_of::<PageRecord>() as u64);
    plan.records = (start, pages, records);
    let copy = Run { address: early.take(place.bytes), bytes: place.bytes.next_multiple_of(PAGE_SIZE) };
    let target = Early::address(copy.address) as *mut u8;
    // SAFETY: as many bytes as were just taken, apart from the original, which isn't free.
    unsafe { target.copy_from_nonoverlapping(blob.as_ptr(), blob.len()) };

    plan.devicetree = copy;

    let root = early.take(PAGE_SIZE);
    let segments = [
        (image.start, image.text_end, KERNEL_TEXT),
        (image.text_end, image.rodata_end, KERNEL_RODATA),
        (image.rodata_end, image.end, KERNEL_DATA),
    ];
    let mut map = |virtual_address: u64, run: Run, bits: u64| {
        if paging::map(&mut early, mode, root, virtual_address, run.address, run.bytes, bits).is_err() {
            boot_error(TOO_LITTLE_MEMORY);
        }
    };
    for (from, to, bits) in segments {
        map(from, Run { address: kernel.address + (from - image.start), bytes: to - from }, bits);
    }
    for &run in visible.as_slice() {
        map(mode.window().wrapping_add(run.address), run, KERNEL_DATA);
    }
    let registers = controller.registers;
    map(mode.window().wrapping_add(registers.address), registers, KERNEL_DATA);
    map_stacks(&mut early, mode, root, processors);

    for run in with_devicetree.as_slice() {
        let from = run.address.max(place.address & !(PAGE_SIZE - 1));
        let to = run.end().min(place.end().next_multiple_of(PAGE_SIZE));
        free.add(Run { address: from, bytes: to.saturating_sub(from) })?;
    }
    Ok(root)
}

/// A stack for every core, with nothing mapped below it.
fn map_stacks(early: &mut Early<'_>, mode: Mode, root: u64, processors: usize) {
    for number in 0..processors.clamp(1, MAX_CORES) as u64 {
        let Some(core) = CoreId::new(number) else { return };
        let stack = early.take(STACK_BYTES);
        let bottom = hart::stack_bottom(core);
        if paging::map(early, mode, root, bottom, stack, STACK_BYTES, KERNEL_DATA).is_err() {
            boot_error(TOO_LITTLE_MEMORY);
        }
    }
}

/// Where the payload lies: as long as its header says and memory goes on; one page if there is none; nothing if there
/// is no memory where it should be.
fn payload(kernel_end: u64, free: &RunList) -> Run {
    let address = kernel_end.next_multiple_of(PAYLOAD_ALIGN);
    let Some(rest) = free.from(address) else { return Run { address, bytes: 0 } };
    let header = Early::address(address) as *const PayloadHeader;
    // SAFETY: a whole page of memory, in the early direct map; any bytes make a header.
    let header = unsafe { header.read() };
    let bytes = if header.magic == PAYLOAD_MAGIC { header.bytes } else { PAGE_SIZE };
    Run { address, bytes: bytes.max(PAGE_SIZE).min(rest.bytes) & !(PAGE_SIZE - 1) }
}

/// The boot hart, on its own stack and the final translation.
///
/// # Safety
/// Called by `entry.rs` alone, with this hart's block.
pub unsafe extern "C" fn boot_late(hart: *mut Hart) -> ! {
    // SAFETY: this hart's own block; `boot_early` is over.
    let hart = unsafe { &mut *hart };
    let plan = PLAN.get();
    let platform = PLATFORM.get();
    let description = &plan.description;
    let (start, pages, records) = plan.records;
    let window = platform.window;
    let records = to_usize(window.wrapping_add(records)) as *mut PageRecord;
    // SAFETY: so many records were taken and cleared, and only memory from the list of free memory and the payload, all of it in
    // the direct map, is handed to the core.
    let memory = unsafe { Memory::new(window, start, pages, records) };
    // SAFETY: the other harts aren't started yet, and nothing is held.
    unsafe { KERNEL.set_memory(memory) };
    harts::set_up(platform, hart);
    harts::start(description.processors(), hart.hart_id, plan.load_offset);

    let mut devices = RunList::EMPTY;
    let free = description.free.as_slice();
    if devices_below(&mut devices, description).is_err() {
        boot_error(TOO_MANY_RUNS);
    }
    let payload = to_usize(window.wrapping_add(plan.payload.address)) as *const u64;
    let found = Found {
        architecture: 2,
        counter_frequency: platform.frequency.get(),
        counter_start: platform.counter_start,
        ram_bytes: description.ram.bytes(),
        free,
        devices: devices.as_slice(),
        payload: plan.payload.address,
        // SAFETY: memory that is in no list of free memory, in the direct map.
        payload_words: unsafe { slice::from_raw_parts(payload, to_usize(plan.payload.bytes / 8)) },
        devicetree: plan.devicetree,
        acpi_rsdp: 0,
        command_line: description.command_line(),
        io_ports: false,
    };
    if let Err(error) = anos_core::boot::start(&KERNEL, &mut Port { hart, platform }, &found) {
        boot_error(error.text());
    }
    harts::release();
    harts::run(hart)
}

/// Device addresses that programs may own: what lies below memory, but for page 0 (whose address means "none") and the
/// kernel's and the firmware's own devices.
fn devices_below(devices: &mut RunList, description: &Description) -> Result<(), Full> {
    let end = description.ram.as_slice().first().map_or(0, |run| run.address);
    devices.add(Run { address: PAGE_SIZE, bytes: end.saturating_sub(PAGE_SIZE) })?;
    description.private.as_slice().iter().try_for_each(|&run| devices.subtract(run))
}
