//! ELF files: good ones become a plan, bad ones a reason, and nothing a panic.

use std::vec::Vec;

use anos_abi::{PAGE_SIZE, Rights};
use anos_interfaces::start::{HEAP_START, PROGRAM_ADDRESS};
use proptest::prelude::*;

use super::files::{Load, USUAL, elf, put};
use crate::program::{BadProgram, Machine, Plan};

fn read(file: &[u8]) -> Result<Plan<'_>, BadProgram> {
    Plan::read(file, Machine::X86_64)
}

fn usual() -> Vec<u8> {
    elf(62, 0x40_0010, &USUAL)
}

fn with(change: impl FnOnce(&mut [Load; 3])) -> Vec<u8> {
    let mut loads = USUAL;
    change(&mut loads);
    elf(62, 0x40_0010, &loads)
}

#[test]
fn a_program_becomes_its_pages() {
    let file = usual();
    let plan = read(&file).expect("good");
    let segments: Vec<_> = plan.segments().map(|s| (s.address, s.pages, s.rights.0, s.offset, s.bytes.len())).collect();
    assert_eq!(segments, [(0x40_0000, 2, 9, 0, 0x1800), (0x40_2000, 1, 1, 0, 0x400), (0x40_3000, 10, 3, 0x10, 0x80)]);
    assert_eq!(plan.entry, 0x40_0010);
    assert!(Plan::read(&elf(243, 0x40_0010, &USUAL), Machine::RiscV).is_ok());
}

#[test]
fn each_mistake_has_its_reason() {
    let mut cases: Vec<(&str, Vec<u8>, BadProgram)> = std::vec![
        ("empty", Vec::new(), BadProgram::NotElf),
        ("text", b"#!/bin/sh\n".repeat(20), BadProgram::NotElf),
        ("other machine", elf(243, 0x40_0010, &USUAL), BadProgram::WrongMachine),
        ("no segments", elf(62, 0x40_0010, &[]), BadProgram::SegmentCount),
        ("entry in data", elf(62, 0x40_3010, &USUAL), BadProgram::BadEntry),
        ("entry nowhere", elf(62, 0, &USUAL), BadProgram::BadEntry),
        ("writable code", with(|loads| loads[0].flags = 7), BadProgram::BadRights),
        ("unreadable code", with(|loads| loads[0].flags = 1), BadProgram::BadRights),
        ("shared page", with(|loads| loads[1].address = 0x40_17ff), BadProgram::Overlap),
        ("the null page", with(|loads| loads[1].address = 0), BadProgram::OutOfBounds),
        ("in the heap", with(|loads| loads[2].address = HEAP_START - 8), BadProgram::OutOfBounds),
        ("in the kernel", with(|loads| loads[2].address = u64::MAX - 0x9000), BadProgram::OutOfBounds),
        ("wraps round", with(|loads| loads[2].memory_bytes = u64::MAX - 8), BadProgram::OutOfBounds),
        ("more bytes than memory", with(|loads| loads[1].memory_bytes = 0x3ff), BadProgram::Truncated),
        ("too many segments", elf(62, 0x40_0010, &many_loads()), BadProgram::SegmentCount),
    ];
    let mut shared = usual();
    put(&mut shared, 16, &3u16.to_le_bytes());
    cases.push(("position-independent", shared, BadProgram::NotStatic));
    let mut interpreted = usual();
    put(&mut interpreted, 64 + 56, &3u32.to_le_bytes());
    cases.push(("with an interpreter", interpreted, BadProgram::NotStatic));
    let mut offset = usual();
    put(&mut offset, 64 + 8, &u64::MAX.to_le_bytes());
    cases.push(("offset past the end", offset, BadProgram::Truncated));
    for (name, file, reason) in cases {
        assert_eq!(read(&file), Err(reason), "{name}");
    }
}

fn many_loads() -> Vec<Load> {
    (0..9).map(|n| Load { address: 0x40_0000 + n * 0x1000, file_bytes: 16, memory_bytes: 16, flags: 5 }).collect()
}

#[test]
fn every_truncation_is_refused() {
    let file = usual();
    for length in 0..file.len() {
        assert!(read(&file[..length]).is_err(), "{length} bytes");
    }
}

/// What every plan promises, whatever the file.
fn check(plan: &Plan<'_>) {
    let segments: Vec<_> = plan.segments().collect();
    let both = Rights::WRITE.union(Rights::EXECUTE);
    for (index, segment) in segments.iter().enumerate() {
        assert!(segment.address >= PROGRAM_ADDRESS && segment.end() <= HEAP_START && segment.pages > 0);
        assert!(segment.address.is_multiple_of(PAGE_SIZE) && !segment.rights.contains(both));
        assert!(segment.offset + segment.bytes.len() as u64 <= segment.pages * PAGE_SIZE);
        for other in &segments[..index] {
            assert!(segment.end() <= other.address || other.end() <= segment.address);
        }
    }
    assert!(
        segments.iter().any(|s| s.rights.contains(Rights::EXECUTE) && s.address <= plan.entry && plan.entry < s.end())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_garbled_program_is_refused_or_keeps_every_promise(
        changes in prop::collection::vec((0usize..64 + 3 * 56, any::<u8>()), 1..12),
        length in 0usize..0x1d00,
    ) {
        let mut file = usual();
        for (at, byte) in changes {
            file[at] = byte;
        }
        file.truncate(file.len().min(length));
        if let Ok(plan) = read(&file) {
            check(&plan);
        }
    }

    #[test]
    fn random_bytes_are_refused_or_keep_every_promise(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = bytes;
        file.splice(..0, *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
        if let Ok(plan) = read(&file) {
            check(&plan);
        }
    }
}
