//! What the kernel hands to the first program.

use anos::abi::boot::{ARCHIVE_ADDRESS, BOOT_INFO_MAGIC, BootInfo, ROOT_TABLE_SLOTS, slot};
use anos::capability::{Capability, SchedControl, Slot, Untyped};
use anos::{Error, Kind, env};

use super::cases;
use crate::arch;
use crate::case::{Case, SPACE, TABLE, core, look, now, to_usize};
use crate::check::{Failure, Outcome, check, equal};

cases![
    boot_info_is_what_the_machine_is,
    control_capabilities_lie_in_their_slots,
    every_core_has_its_sched_control,
    untypeds_are_as_boot_info_lists_them,
    untypeds_do_not_overlap,
    the_archive_is_mapped,
    the_machine_describes_itself,
    the_clock_runs_and_never_goes_back,
    the_memory_is_accounted_for,
];

fn info() -> Outcome<&'static BootInfo> {
    env::boot_info().ok_or(Failure::new(format_args!("there is no BootInfo")))
}

fn boot_info_is_what_the_machine_is(_: &mut Case) -> Outcome {
    let info = info()?;
    equal!(info.magic, BOOT_INFO_MAGIC);
    equal!(info.architecture, arch::NUMBER);
    check!((1..=64).contains(&info.cores), "{} cores", info.cores);
    equal!(SPACE.info()?.0, info.paging_levels);
    if info.architecture == 2 {
        // QEMU's harts have Sv57, and its devicetree says Sv48.
        let asked = [("paging=sv39", 3), ("paging=sv57", 5)];
        let asked = asked.into_iter().find(|(asked, _)| env::command_line().any(|word| word == *asked));
        equal!(info.paging_levels, asked.map_or(4, |(_, levels)| levels));
    }
    check!(SPACE.info()?.1 >= 1 << 38, "user space ends at {:#x}", SPACE.info()?.1);
    check!(info.counter_frequency >= 1_000_000, "{} ticks per second", info.counter_frequency);
    check!(info.kernel_bytes != 0 && info.kernel_bytes < info.ram_bytes / 4, "the kernel keeps {}", info.kernel_bytes);
    Ok(())
}

fn control_capabilities_lie_in_their_slots(_: &mut Case) -> Outcome {
    let kinds = [
        (slot::CAP_TABLE, Kind::CapTable),
        (slot::ADDRESS_SPACE, Kind::AddressSpace),
        (slot::INTERRUPT_CONTROL, Kind::InterruptControl),
        (slot::DEBUG, Kind::Debug),
        (slot::IO_PORT_CONTROL, if arch::IS_PC { Kind::IoPortControl } else { Kind::Empty }),
    ];
    for (slot, kind) in kinds {
        equal!((slot, look(Slot::new(slot))?.kind), (slot, kind));
    }
    equal!(TABLE.size(), Ok(ROOT_TABLE_SLOTS));
    Ok(())
}

fn every_core_has_its_sched_control(_: &mut Case) -> Outcome {
    for number in 0..env::cores() {
        equal!(core(number).info()?.core, number);
    }
    if let Some(beyond) = Some(core(env::cores())).filter(|core| core.slot().number() < slot::UNTYPED) {
        equal!(SchedControl::info(beyond), Err(Error::EmptySlot));
    }
    Ok(())
}

fn untypeds_are_as_boot_info_lists_them(_: &mut Case) -> Outcome {
    let info = info()?;
    for (slot, run) in (slot::UNTYPED..).zip(info.untyped.iter().take(to_usize(info.untyped_count))) {
        let untyped = Untyped::at(Slot::new(slot)).info()?;
        equal!((untyped.address, untyped.pages, untyped.device), (run.address, run.pages, run.device == 1));
    }
    equal!(info.first_free_slot, u64::from(slot::UNTYPED) + info.untyped_count);
    let free = u32::try_from(info.first_free_slot).unwrap_or(0);
    equal!(look(Slot::new(free))?.kind, Kind::Empty);
    Ok(())
}

fn untypeds_do_not_overlap(_: &mut Case) -> Outcome {
    let info = info()?;
    let runs = info.untyped.get(..to_usize(info.untyped_count)).unwrap_or_default();
    for (n, a) in runs.iter().enumerate() {
        check!(a.pages > 0 && a.address % 4096 == 0, "run {n}: {a:x?}");
        for b in runs.iter().take(n) {
            let apart = a.address + a.pages * 4096 <= b.address || b.address + b.pages * 4096 <= a.address;
            check!(apart, "{a:x?} and {b:x?}");
        }
    }
    Ok(())
}

fn the_archive_is_mapped(_: &mut Case) -> Outcome {
    let info = info()?;
    equal!(info.archive_address, ARCHIVE_ADDRESS);
    check!(info.archive_bytes >= 1024 && info.archive_bytes % 512 == 0, "{} bytes", info.archive_bytes);
    let archive = core::ptr::with_exposed_provenance::<u8>(to_usize(info.archive_address));
    // SAFETY: the kernel has mapped that many bytes here for good, read-only.
    let archive = unsafe { core::slice::from_raw_parts(archive, to_usize(info.archive_bytes)) };
    // A tar file ends with two empty blocks.
    check!(archive.iter().rev().take(1024).all(|byte| *byte == 0));
    Ok(())
}

fn the_machine_describes_itself(_: &mut Case) -> Outcome {
    let info = info()?;
    if info.architecture == 2 {
        check!(info.devicetree_address != 0 && info.devicetree_bytes >= 40);
        let tree = core::ptr::with_exposed_provenance::<u32>(to_usize(info.devicetree_address));
        // SAFETY: the kernel has mapped the devicetree here for good, read-only.
        equal!(u32::from_be(unsafe { tree.read() }), 0xd00d_feed);
    } else {
        check!(info.acpi_rsdp != 0);
    }
    Ok(())
}

fn the_clock_runs_and_never_goes_back(_: &mut Case) -> Outcome {
    let (start, mut last) = (now(), now());
    while last < start + 2_000_000 {
        let next = now();
        check!(next >= last, "from {last} to {next}");
        last = next;
    }
    Ok(())
}

fn the_memory_is_accounted_for(_: &mut Case) -> Outcome {
    let info = info()?;
    let (all, kernel) = (info.ram_bytes / 4096, info.kernel_bytes / 4096);
    let runs = info.untyped.iter().take(to_usize(info.untyped_count)).filter(|run| run.device == 0);
    let free = runs.map(|run| run.pages).sum::<u64>();
    check!(free + kernel <= all, "{free} pages are free");
    // What is neither free nor the kernel's is the root server's, with archive and devicetree: not much.
    let rest = all - free - kernel;
    check!(rest < 4096, "{rest} pages are nowhere");
    Ok(())
}
