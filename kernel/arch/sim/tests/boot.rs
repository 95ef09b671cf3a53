//! From the payload to the root server's first instruction.

use anos_abi::boot::{
    ARCHIVE_ADDRESS, BOOT_INFO_ADDRESS, BOOT_INFO_MAGIC, DEVICETREE_ADDRESS, MAX_UNTYPED, ROOT_TABLE_SLOTS, STACK_SIZE,
    STACK_TOP, Segment, slot,
};
use anos_abi::object::Method;
use anos_abi::{Kind, PAGE_SIZE};
use anos_core::boot::BootError;
use anos_machine::{CoreId, Next};
use anos_sim::memory::RAM_BASE;
use anos_sim::payload::{CODE, CONSTANTS, DATA};
use anos_sim::sim::COUNTER_FREQUENCY;
use anos_sim::{Access, Config, Payload, Sim, check, core_id};

const BOOT: CoreId = CoreId::BOOT;

#[test]
fn the_root_server_runs_on_the_boot_core_and_the_others_idle() {
    for levels in [3, 4] {
        for cores in [1, 2, 4, 16] {
            let config = Config { levels, ..Config::cores(cores) };
            let sim = Sim::boot_with(config, &Payload::default().bytes(), 1).expect("boots");
            assert!(matches!(sim.last[0], Next::Run(_)));
            assert!(sim.last[1..].iter().all(|next| *next == Next::Idle));
            let registers = sim.board.processors[0].registers;
            assert_eq!((registers.pc, registers.sp), (CODE + 0x10, STACK_TOP));
            check::check(&sim).expect("a fresh system keeps every rule");
        }
    }
}

#[test]
fn the_payload_is_mapped_in_place_with_its_rights() {
    let mut sim = Sim::boot(1);
    let places = [(CODE, 1), (CONSTANTS, 2), (DATA, 3), (DATA + PAGE_SIZE, 4)];
    for (address, content) in places {
        assert_eq!(sim.access(BOOT, Access::Load, address, 0), Ok(content));
        let writable = address >= DATA;
        assert_eq!(sim.access(BOOT, Access::Store, address, content).is_ok(), writable);
        assert_eq!(sim.access(BOOT, Access::Fetch, address, 0).is_ok(), address == CODE);
    }
    assert_eq!(sim.access(BOOT, Access::Load, ARCHIVE_ADDRESS, 0), Ok(u64::from_le_bytes(*b"a boot a")));
    assert!(sim.access(BOOT, Access::Store, ARCHIVE_ADDRESS, 0).is_err());
    assert_eq!(sim.access(BOOT, Access::Load, DEVICETREE_ADDRESS, 0), Ok(0xd00d_feed));
    assert!(sim.access(BOOT, Access::Load, 0, 0).is_err(), "address 0 stays unmapped");
}

#[test]
fn the_stack_is_clear_writable_and_guarded() {
    let mut sim = Sim::boot(1);
    for address in (STACK_TOP - STACK_SIZE..STACK_TOP).step_by(8) {
        assert_eq!(sim.access(BOOT, Access::Load, address, 0), Ok(0));
    }
    assert!(sim.access(BOOT, Access::Store, STACK_TOP - 8, 1).is_ok());
    assert!(sim.access(BOOT, Access::Fetch, STACK_TOP - 8, 1).is_err());
    assert!(sim.access(BOOT, Access::Load, STACK_TOP - STACK_SIZE - 8, 0).is_err());
    assert!(sim.access(BOOT, Access::Load, STACK_TOP, 0).is_err());
}

#[test]
fn boot_info_lists_all_memory_and_every_device_and_the_slots_hold_it() {
    let mut sim = Sim::boot_with(Config::cores(2), &Payload::default().bytes(), 3).expect("boots");
    let info = sim.boot_info();
    assert_eq!((info.magic, info.architecture, info.cores, info.paging_levels), (BOOT_INFO_MAGIC, 3, 2, 3));
    assert_eq!((info.counter_frequency, info.counter_start), (COUNTER_FREQUENCY, 77));
    assert_eq!(info.ram_bytes, sim.board.ram.pages() * PAGE_SIZE);
    assert_eq!((info.devicetree_address, info.devicetree_bytes), (DEVICETREE_ADDRESS, PAGE_SIZE));
    assert_eq!((info.acpi_rsdp, info.untyped_count), (0, 6));
    assert_eq!(&info.command_line[..18], b"console=simulated\0");
    assert_eq!(info.command_line_bytes, 17);
    assert_eq!((info.archive_address, info.archive_bytes), (ARCHIVE_ADDRESS, 14));
    assert!(sim.access(BOOT, Access::Store, BOOT_INFO_ADDRESS, 0).is_err());
    let runs = &info.untyped[..usize::try_from(info.untyped_count).expect("few")];
    assert_eq!(runs.iter().map(|run| run.device).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1]);
    assert_eq!(runs[1].address, sim.free[1].address);
    assert_eq!(runs[0].address + runs[0].pages * PAGE_SIZE, sim.free[0].address + sim.free[0].bytes);
    assert_eq!(info.first_free_slot, u64::from(slot::UNTYPED) + 6);
    for (number, run) in (0..).zip(runs) {
        let words =
            sim.call(BOOT, slot::UNTYPED + number, Method::UntypedInfo, &[], 0, 0).result().expect("an Untyped");
        assert_eq!(words[..4], [run.address, run.pages, 0, run.device]);
    }
    assert!(info.kernel_bytes < info.ram_bytes);
}

#[test]
fn the_root_server_holds_every_control_capability() {
    let mut sim = Sim::boot(3);
    let mut look = |slot: u32| {
        let answer = sim.call(BOOT, slot::CAP_TABLE, Method::CapTableLook, &[slot.into()], 0, 0);
        answer.result().expect("a slot")[0]
    };
    let kinds = [
        (slot::CAP_TABLE, Kind::CapTable),
        (slot::ADDRESS_SPACE, Kind::AddressSpace),
        (slot::THREAD, Kind::Thread),
        (slot::INTERRUPT_CONTROL, Kind::InterruptControl),
        (slot::IO_PORT_CONTROL, Kind::IoPortControl),
        (slot::DEBUG, Kind::Debug),
        (slot::SCHED_CONTROL, Kind::SchedControl),
        (slot::SCHED_CONTROL + 2, Kind::SchedControl),
        (slot::SCHED_CONTROL + 3, Kind::Empty),
    ];
    for (slot, kind) in kinds {
        assert_eq!(look(slot), kind as u64, "slot {slot}");
    }
    let size = sim.call(BOOT, slot::CAP_TABLE, Method::CapTableInfo, &[], 0, 0).result().expect("a table")[0];
    assert_eq!(size, ROOT_TABLE_SLOTS);
}

#[test]
fn a_machine_without_ports_has_no_port_control() {
    let mut sim =
        Sim::boot_with(Config { io_ports: false, ..Config::cores(1) }, &Payload::default().bytes(), 1).expect("boots");
    let answer = sim.call(BOOT, slot::CAP_TABLE, Method::CapTableLook, &[slot::IO_PORT_CONTROL.into()], 0, 0);
    assert_eq!(answer.result().expect("a slot")[0], 0);
}

fn error_of(change: impl FnOnce(&mut Payload)) -> BootError {
    let mut payload = Payload::default();
    change(&mut payload);
    Sim::boot_with(Config::cores(1), &payload.bytes(), 1).expect_err("a payload that can't boot")
}

#[test]
fn each_damage_to_the_payload_has_its_own_error() {
    let word = PAGE_SIZE;
    assert_eq!(error_of(|payload| payload.header.magic ^= 1), BootError::NoPayload);
    assert_eq!(error_of(|payload| payload.header.version += 1), BootError::PayloadVersion);
    for bytes in [0, 1, word - 1, word + 8, u64::MAX] {
        assert_eq!(error_of(|payload| payload.header.bytes = bytes), BootError::PayloadSize, "{bytes:#x}");
    }
    for bytes in [6 * word, 8 * word, !(word - 1)] {
        assert_eq!(error_of(|payload| payload.header.bytes = bytes), BootError::TruncatedPayload, "{bytes:#x}");
    }
    assert_eq!(error_of(|payload| payload.end ^= 1), BootError::TruncatedPayload);
    for count in [0, 7, u64::MAX] {
        assert_eq!(error_of(|payload| payload.header.segment_count = count), BootError::SegmentCount);
    }
    let entries = [0, CODE - 1, CODE + word, DATA, u64::MAX];
    for entry in entries {
        assert_eq!(error_of(|payload| payload.header.entry = entry), BootError::PayloadEntry, "{entry:#x}");
    }
    let archives =
        [(0, 8), (5 * word + 8, 8), (5 * word, 3 * word), (4 * word, 8), (u64::MAX - 4095, 8), (5 * word, u64::MAX)];
    for (offset, bytes) in archives {
        let error = error_of(|payload| (payload.header.archive_offset, payload.header.archive_bytes) = (offset, bytes));
        assert_eq!(error, BootError::PayloadArchive, "{offset:#x} {bytes:#x}");
    }
}

#[test]
fn each_damage_to_a_segment_has_its_own_error() {
    let good = Payload::default().header.segments[2];
    let page = PAGE_SIZE;
    let cases = [
        (Segment { address: good.address + 8, ..good }, BootError::SegmentAlignment),
        (Segment { offset: good.offset + 8, ..good }, BootError::SegmentAlignment),
        (Segment { bytes: 8, ..good }, BootError::SegmentAlignment),
        (Segment { bytes: 0, ..good }, BootError::SegmentAlignment),
        (Segment { offset: 0, ..good }, BootError::SegmentPlace),
        (Segment { offset: 7 * page, ..good }, BootError::SegmentPlace),
        (Segment { bytes: !(page - 1), ..good }, BootError::SegmentPlace),
        (Segment { offset: page, ..good }, BootError::SegmentPlace),
        (Segment { rights: 0, ..good }, BootError::SegmentRights),
        (Segment { rights: 2, ..good }, BootError::SegmentRights),
        (Segment { rights: 1 | 2 | 8, ..good }, BootError::SegmentRights),
        (Segment { rights: 1 | 4, ..good }, BootError::SegmentRights),
        (Segment { rights: 1 | 256, ..good }, BootError::SegmentRights),
        (Segment { address: 0, ..good }, BootError::SegmentAddress),
        (Segment { address: CODE, ..good }, BootError::SegmentAddress),
        (Segment { address: BOOT_INFO_ADDRESS - page, ..good }, BootError::SegmentAddress),
        (Segment { address: STACK_TOP - page, ..good }, BootError::SegmentAddress),
        (Segment { address: 1 << 63, ..good }, BootError::SegmentAddress),
        (Segment { address: !(page - 1), ..good }, BootError::SegmentAddress),
    ];
    for (segment, error) in cases {
        assert_eq!(error_of(|payload| payload.header.segments[2] = segment), error, "{segment:x?}");
    }
}

#[test]
fn a_payload_cut_off_anywhere_is_truncated_or_none() {
    let whole = Payload::default().bytes();
    for bytes in [0, 8, 100, 248, 4096, 4097, 20480, whole.len() - 1] {
        let error = Sim::boot_with(Config::cores(1), &whole[..bytes], 1).expect_err("can't boot");
        let wanted = if bytes < 248 { BootError::NoPayload } else { BootError::TruncatedPayload };
        assert_eq!(error, wanted, "{bytes}");
    }
}

#[test]
fn too_little_memory_is_said_and_the_least_that_works_works() {
    let payload = Payload::default().bytes();
    let boots = |pages| Sim::boot_with(Config { pages, ..Config::cores(1) }, &payload, 0);
    let least = (30..400).find(|&pages| boots(pages).is_ok()).expect("some size works");
    for pages in 30..least {
        assert_eq!(boots(pages).expect_err("too small"), BootError::TooLittleMemory);
    }
    assert!((130..200).contains(&least), "the root server takes {least} pages");
    let sim = boots(least).expect("boots");
    check::check(&sim).expect("a full machine keeps every rule");
    assert!(sim.board.ram.end() > RAM_BASE && sim.thread(core_id(0)).is_some());
}

#[test]
fn more_runs_of_memory_than_boot_info_lists_are_said() {
    let boots = |holes| {
        let config = Config { pages: 16384, ..Config::cores(1) };
        Sim::boot_with(config, &Payload::default().bytes(), holes)
    };
    // With the two devices, 62 runs of memory fill the list.
    assert_eq!(boots(61).expect("fits").boot_info().untyped_count, MAX_UNTYPED as u64);
    assert_eq!(boots(62).expect_err("one too many"), BootError::TooManyRuns);
}

#[test]
fn every_boot_error_is_one_clear_line() {
    let all = [
        BootError::NoPayload,
        BootError::PayloadVersion,
        BootError::PayloadSize,
        BootError::TruncatedPayload,
        BootError::SegmentCount,
        BootError::SegmentAlignment,
        BootError::SegmentPlace,
        BootError::SegmentRights,
        BootError::SegmentAddress,
        BootError::PayloadEntry,
        BootError::PayloadArchive,
        BootError::Devicetree,
        BootError::TooLittleMemory,
        BootError::TooManyRuns,
    ];
    let texts: std::collections::BTreeSet<_> = all.iter().map(|error| error.text()).collect();
    assert_eq!(texts.len(), all.len(), "no two alike");
    assert!(texts.iter().all(|text| !text.is_empty() && !text.contains('\n')));
}
