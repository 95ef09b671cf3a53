//! Images and machines that can't boot: each must get one clear line, and switch itself off.

use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anos_abi::boot::{PAYLOAD_ALIGN, PAYLOAD_MAGIC, PayloadHeader};
use anos_abi::{MAX_CORES, PAGE_SIZE};
use anyhow::{Context, Result, ensure};

use crate::build::Products;
use crate::cli::{MachineOptions, TestOptions};
use crate::elf::Executable;
use crate::tally::Tally;
use crate::target::Architecture;
use crate::test;
use crate::workspace::Workspace;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where a RISC-V image begins: behind the firmware, so many bytes from the start of memory.
const FLAT_START: usize = 2 << 20;

/// What is wrong with an image.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Its payload ends in the middle.
    Truncated,
    /// It has no payload at all.
    Bare,
    /// The payload's first page is another version's.
    Header,
    /// The archive in it is garbage.
    Archive,
}

impl Damage {
    const ALL: [Damage; 4] = [Damage::Truncated, Damage::Bare, Damage::Header, Damage::Archive];

    /// The test's name, and what the guest must say.
    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Damage::Truncated => ("a truncated image", "truncated"),
            Damage::Bare => ("a kernel without payload", "no payload"),
            Damage::Header => ("a payload of another version", "another kernel version"),
            Damage::Archive => ("a garbled boot archive", "archive"),
        }
    }

    fn inflict(self, payload: &mut Vec<u8>) {
        match self {
            Damage::Truncated => payload.truncate(payload.len() / 2),
            Damage::Bare => payload.clear(),
            Damage::Header => payload[8] ^= 0xff,
            Damage::Archive => {
                let end = payload.len() - 8;
                let start = archive_offset(payload);
                payload[start..end].fill(0x5a);
            }
        }
    }
}

/// Where the archive starts: the last word but one of the header.
fn archive_offset(payload: &[u8]) -> usize {
    let place = size_of::<anos_abi::boot::PayloadHeader>() - 16;
    let word = payload.get(place..place + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    usize::try_from(word).unwrap_or(0)
}

/// Boots every bad image of an architecture.
pub fn tests(workspace: &Workspace, options: &TestOptions, architecture: Architecture, tally: &mut Tally) {
    let Some(products) = test::build_for(workspace, architecture, options.profile, "default", tally) else { return };
    for damage in Damage::ALL {
        let (what, says) = damage.texts();
        let name = format!("{what} is told in one line on {}", architecture.name());
        test::timed(tally, &name, || {
            let image = damaged(architecture, &products, damage)?;
            fails_with(architecture, &products, &image, &usual_machine(architecture), says)
        });
    }
    let name = format!("too little memory is told in one line on {}", architecture.name());
    test::timed(tally, &name, || {
        let (image, machine) = too_little_memory(architecture, &products)?;
        fails_with(architecture, &products, &image, &machine, "too little memory")
    });
}

fn usual_machine(architecture: Architecture) -> MachineOptions {
    test::test_machine(architecture.machines()[0], 2)
}

/// An image, and a machine that is too small for it.
fn too_little_memory(architecture: Architecture, products: &Products) -> Result<(PathBuf, MachineOptions)> {
    let usual = usual_machine(architecture);
    match architecture {
        Architecture::X86_64 => Ok((products.image.clone(), MachineOptions { memory: "4M".into(), ..usual })),
        Architecture::Riscv64 => {
            let (image, memory) = swollen(products)?;
            let cores = u32::try_from(MAX_CORES)?;
            // Without a letter QEMU takes MiB. With instructions counted as time, one thread of the host plays all the
            // cores: so many threads would take minutes on a busy machine.
            Ok((image, MachineOptions { cores, memory: format!("{memory}B"), icount: true, ..usual }))
        }
    }
}

/// A RISC-V image that takes up all it can of the smallest machine for which QEMU takes it, in bytes. QEMU puts the
/// devicetree, for which it sets aside 1 MiB at the end of memory, on a multiple of 2 MiB, and refuses an image that
/// overlaps it. So on any machine there is some memory left, and it takes many cores to use that up.
fn swollen(products: &Products) -> Result<(PathBuf, usize)> {
    let (mut image, mut payload) = flat_parts(products)?;
    let page = usize::try_from(PAGE_SIZE)?;
    let (start, end) = (FLAT_START + image.len(), FLAT_START + image.len() + payload.len());
    let devicetree = (end + page).next_multiple_of(2 << 20);
    let end_mark = payload.split_off(payload.len() - size_of::<u64>());
    payload.resize(devicetree - page - start - end_mark.len(), 0);
    payload.extend(end_mark);
    let total = u64::try_from(payload.len())?;
    let place = offset_of!(PayloadHeader, bytes);
    payload[place..place + size_of::<u64>()].copy_from_slice(&total.to_le_bytes());
    image.extend(payload);
    let path = products.image.with_extension("bad.img");
    fs::write(&path, image)?;
    Ok((path, devicetree + (1 << 20)))
}

/// The kernel in a RISC-V image, and the payload behind it.
fn flat_parts(products: &Products) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut image = fs::read(&products.image)?;
    let step = usize::try_from(PAYLOAD_ALIGN)?;
    let start = (0..image.len()).step_by(step).find(|&start| is_payload(&image[start..]));
    let payload = image.split_off(start.context("the image has no payload")?);
    Ok((image, payload))
}

/// A copy of the image with something wrong with it.
fn damaged(architecture: Architecture, products: &Products, damage: Damage) -> Result<PathBuf> {
    let path = products.image.with_extension("bad.img");
    let bytes = match architecture {
        Architecture::X86_64 => {
            let mut image = Executable::read(&products.image)?;
            let payload = image.segments.iter_mut().find(|segment| is_payload(&segment.bytes));
            let payload = payload.context("the image has no payload")?;
            damage.inflict(&mut payload.bytes);
            payload.memory_bytes = u64::try_from(payload.bytes.len())?;
            image.segments.retain(|segment| segment.memory_bytes > 0);
            image.write(architecture)?
        }
        Architecture::Riscv64 => {
            let (mut image, mut payload) = flat_parts(products)?;
            damage.inflict(&mut payload);
            image.extend(payload);
            image
        }
    };
    fs::write(&path, bytes)?;
    Ok(path)
}

fn is_payload(bytes: &[u8]) -> bool {
    bytes.starts_with(&PAYLOAD_MAGIC.to_le_bytes())
}

/// Boots; exactly one line of the kernel or root server comes, it says why, and the machine goes off.
fn fails_with(
    architecture: Architecture,
    products: &Products,
    image: &Path,
    machine: &MachineOptions,
    says: &str,
) -> Result<()> {
    let image = Products { kernel: products.kernel.clone(), image: image.to_path_buf() };
    let mut guest = test::boot(&image, architecture, machine)?;
    guest.expect("anos: ", PATIENCE)?;
    guest.expect(says, PATIENCE)?;
    guest.wait_for_end(PATIENCE)?;
    let lines = guest.transcript().lines().filter(|line| line.starts_with("anos: ")).count();
    ensure!(lines == 1, "{}", guest.report(&format!("{lines} lines instead of one")));
    Ok(())
}
