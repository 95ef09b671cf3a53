//! From the first Rust instruction to the root server: what the boot core does, in order.

use core::mem::offset_of;

use anos_abi::PAGE_SIZE;
use anos_abi::boot::{PAYLOAD_ALIGN, PAYLOAD_MAGIC, PayloadHeader};
use anos_core::boot::runs::RunList;
use anos_core::boot::{Found, Run};
use anos_machine::{CoreId, Memory, PageRecord};

use crate::acpi::{AcpiError, Platform, Power, Register};
use crate::machine::Processor;
use crate::paging::WINDOW;
use crate::percore::{self, CoreData};
use crate::pvh::{self, DEVICES_END, Reader, StartInfo};
use crate::tables::{self, EARLY_LIMIT, EarlyMemory, Tables};
use crate::traps::{self, KERNEL};
use crate::{apic, console, cpu, ioapic, power, report, smp, time};

/// Low memory, which is kept back: cores start there, and firmware likes it.
const LOW_MEMORY: u64 = 1 << 20;
/// The command line's bytes that are kept.
const COMMAND_LINE: usize = 512;

/// The records of all pages, not clear yet.
struct Records {
    /// Physical address of the array.
    address: u64,
    /// How many.
    pages: u64,
}

/// Called by `entry`, on the early stack and in the early tables, with the physical address of the loader's message.
pub extern "C" fn main(start_info: u32) -> ! {
    traps::prepare();
    traps::load();
    ioapic::silence_old_controllers();
    let mut info = StartInfo::EMPTY;
    if info.read(&EarlyMemory, u64::from(start_info)).is_none() {
        report::boot_failed("the loader passed no memory map (PVH start info)");
    }
    let mut line = [0; COMMAND_LINE];
    let line = command_line(info.command_line, &mut line);
    let mut platform = Platform::EMPTY;
    if let Err(error) = platform.read(&EarlyMemory, info.rsdp) {
        report::boot_failed(match error {
            AcpiError::BadRootPointer => "ACPI: no root pointer, or a damaged one",
            AcpiError::BadRootTable => "ACPI: the list of tables is missing or damaged",
            AcpiError::NoCores => "ACPI: the MADT is missing or damaged, or lists no core",
        });
    }
    set_power(&platform.power, None);
    let payload = find_payload(&info.ram);
    if payload.bytes == 0 {
        too_little(&info.ram);
    }
    let mut free = find_free(&info.ram, payload);
    find_devices(&mut info.devices, info.ram.end(), &platform);
    let Some(records) = build(&info.ram, &mut free, &mut platform) else { too_little(&info.ram) };
    let core = boot_core();
    traps::start_core(core);
    // How fast the clock ticks shows while the records are cleared.
    let first = time::begin();
    let array = (WINDOW + records.address) as *mut PageRecord;
    // SAFETY: the memory that `build` took has room for so many and is mapped at the window; nobody uses it yet. Zeros make
    // a record.
    unsafe { array.write_bytes(0, length(records.pages)) };
    // SAFETY: every page of main memory but the image is mapped at the window; the records, fresh and clear, are
    // nobody else's.
    let memory = unsafe { Memory::new(WINDOW, 0, records.pages, array) };
    // SAFETY: only the boot core runs, and it holds nothing.
    unsafe { KERNEL.set_memory(memory) };
    // SAFETY: the boot core is alone.
    if !unsafe { time::start(first) } {
        report::boot_failed("nothing tells how fast the clock ticks");
    }
    start_cores(&platform);

    let clock = time::clock();
    let found = Found {
        architecture: 1,
        counter_frequency: clock.frequency,
        counter_start: clock.start,
        ram_bytes: info.ram.bytes(),
        free: free.as_slice(),
        devices: info.devices.as_slice(),
        payload: payload.address,
        payload_words: payload_words(payload),
        devicetree: Run::default(),
        acpi_rsdp: info.rsdp,
        command_line: line,
        io_ports: true,
    };
    if let Err(error) = anos_core::boot::start(&KERNEL, &mut Processor(core), &found) {
        report::boot_failed(error.text());
    }
    smp::open();
    traps::begin(core)
}

fn too_little(ram: &RunList) -> ! {
    report::boot_failed_with("too little memory to boot: ", Some((ram.bytes() / 1024, " KiB")))
}

/// Copies the command line, which ends with a zero, out of the loader's memory.
fn command_line(address: u64, buffer: &mut [u8; COMMAND_LINE]) -> &[u8] {
    let mut length = 0;
    if address != 0 {
        for (place, offset) in buffer.iter_mut().zip(0..) {
            match address.checked_add(offset).and_then(|address| EarlyMemory.bytes(address, 1)) {
                Some(&[byte]) if byte != 0 => *place = byte,
                _ => break,
            }
            length += 1;
        }
    }
    buffer.get(..length).unwrap_or(&[])
}

/// The payload: from its first byte to the end of the memory that it lies in, or of itself if it says so.
fn find_payload(ram: &RunList) -> Run {
    let start = tables::image().end().next_multiple_of(PAYLOAD_ALIGN);
    let mut payload = ram.from(start).unwrap_or(Run { address: start, bytes: 0 });
    payload.bytes = payload.bytes.min(payload_length(start));
    payload
}

/// What of main memory is free. With a list that is full, the last of memory is nobody's; so it is with devices.
fn find_free(ram: &RunList, payload: Run) -> RunList {
    let mut free = *ram;
    let _ = free.subtract(Run { address: 0, bytes: LOW_MEMORY });
    let _ = free.subtract(tables::image());
    let _ = free.subtract(payload);
    free
}

/// Where devices of programs can be: also above all memory, but not where those of the kernel are.
#[inline(never)]
fn find_devices(devices: &mut RunList, memory_end: u64, platform: &Platform) {
    let upper = memory_end.max(DEVICES_END).next_multiple_of(1 << 30);
    let width = cpu::cpuid(0x8000_0008, 0).eax & 0xff;
    let _ = devices.add(Run { address: upper, bytes: (1_u64 << width.clamp(36, 52)).saturating_sub(upper) });
    let mut keep = |address| _ = devices.subtract(Run { address, bytes: 1 });
    keep(platform.local_apic);
    for ioapic in platform.ioapics() {
        keep(ioapic.address);
    }
    for register in [&platform.power.sleep_control, &platform.power.reset] {
        if let Register::Memory(address) = *register {
            keep(address);
        }
    }
}

/// How long the payload says it is, in whole pages: at least its header, and no more than that if it is none.
fn payload_length(start: u64) -> u64 {
    let header = EarlyMemory.bytes(start, size_of::<PayloadHeader>()).unwrap_or(&[]);
    if pvh::word64(header, 0) != PAYLOAD_MAGIC {
        return PAGE_SIZE;
    }
    let told = pvh::word64(header, offset_of!(PayloadHeader, bytes));
    told.checked_next_multiple_of(PAGE_SIZE).map_or(PAGE_SIZE, |bytes| bytes.max(PAGE_SIZE))
}

/// Builds the kernel's tables and the cores' blocks and loads them; maps the kernel's devices. `None`: too little memory.
fn build(ram: &RunList, free: &mut RunList, platform: &mut Platform) -> Option<Records> {
    let mut tables = Tables::new(free)?;
    tables.map_image()?;
    tables.map_window(ram)?;
    for number in 0..platform.cores().len() as u64 {
        percore::lay_out(&mut tables, CoreId::new(number)?)?;
    }
    let pages = ram.end() / PAGE_SIZE;
    let bytes = (pages * size_of::<PageRecord>() as u64).next_multiple_of(PAGE_SIZE);
    let address = tables.take_anywhere(bytes)?;
    map_devices(&mut tables, platform)?;
    set_power(&platform.power, Some(&mut tables));
    tables.load();
    for number in 0..platform.cores().len() as u64 {
        // SAFETY: laid out above, and in the tables that are loaded; no core uses its block yet.
        unsafe { percore::prepare(CoreId::new(number)?) };
    }
    Some(Records { address, pages })
}

/// Says how the machine is switched off, with registers in memory where the final tables will show them, or for now the
/// early ones do.
#[inline(never)]
fn set_power(power: &Power, mut tables: Option<&mut Tables<'_>>) {
    let mut power = *power;
    for register in [&mut power.sleep_control, &mut power.reset] {
        let Register::Memory(physical) = *register else { continue };
        let address = match &mut tables {
            Some(tables) => tables.map_device(physical),
            None => (physical < EARLY_LIMIT).then_some(WINDOW + physical),
        };
        *register = address.map_or(Register::None, Register::Memory);
    }
    // SAFETY: the boot core is alone; registers are where they are mapped, or soon will be.
    unsafe { power::set(power) };
}

/// Maps the interrupt controllers; from then on, the addresses of those for I/O are virtual ones.
fn map_devices(tables: &mut Tables<'_>, platform: &mut Platform) -> Option<()> {
    let registers = if apic::has_x2apic() { 0 } else { tables.map_device(platform.local_apic)? };
    // SAFETY: the boot core is alone; the page is mapped uncached, from when these tables are loaded.
    unsafe { apic::set_access(registers) };
    for ioapic in platform.ioapics.iter_mut().take(platform.ioapic_count) {
        ioapic.address = tables.map_device(ioapic.address)?;
    }
    Some(())
}

/// Wires the interrupt controllers, and starts the other cores.
fn start_cores(platform: &Platform) {
    let id = apic::id();
    apic::set_id(CoreId::BOOT, id);
    // SAFETY: the boot core is alone; `build` mapped the controllers.
    unsafe { ioapic::set_wiring(platform.ioapics(), platform.isa, id) };
    smp::copy_trampoline();
    let listed = platform.cores().len() as u64;
    let running = smp::start_others(platform.cores(), id);
    if running < listed {
        console::text("anos: cores that did not start: ");
        console::decimal(listed - running);
        console::text("\n");
    }
}

/// The boot core's data.
fn boot_core() -> &'static CoreData {
    // SAFETY: `build` wrote it, and it stays for ever.
    unsafe { &*(percore::data_address(CoreId::BOOT) as *const CoreData) }
}

/// The payload, as far as there is memory.
fn payload_words(payload: Run) -> &'static [u64] {
    // SAFETY: main memory that is mapped at the window; `find_free` kept it out of what is free.
    unsafe { core::slice::from_raw_parts((WINDOW + payload.address) as *const u64, length(payload.bytes / 8)) }
}

/// A number of bytes or elements that are in memory.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits here")]
const fn length(number: u64) -> usize {
    number as usize
}
