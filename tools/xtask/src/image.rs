//! `anos.img`: the kernel with its payload behind it, in the form that the machine's boot loader takes.
//!
//! x86-64: an ELF file with the PVH note. RISC-V: a flat binary; its header is in the kernel.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;

use anos_abi::boot::PAYLOAD_ALIGN;
use anos_manifest::host::Manifest;
use anos_manifest::program_file;
use anyhow::{Context, Result, ensure};
use object::elf::{PF_R, PT_LOAD};

use crate::build::{self, Voice};
use crate::cli::BuildOptions;
use crate::elf::{Executable, Segment};
use crate::payload::{self, ArchiveFile};
use crate::target::Architecture;
use crate::workspace::Workspace;

/// `cargo xtask image`: builds, and lists what is in the image.
pub fn command(workspace: &Workspace, options: &BuildOptions) -> Result<ExitCode> {
    for architecture in Architecture::selected(options.arch) {
        let products = build::build(workspace, architecture, options.profile, &options.system, Voice::Normal)?;
        let manifest = build::load_manifest(workspace, &options.system)?;
        let kernel = Executable::read(&products.kernel)?;
        println!("{}", products.image.display());
        println!("  kernel     {:>8} bytes", kernel.loaded().map(|segment| segment.bytes.len()).sum::<usize>());
        let programs = products.kernel.with_file_name("programs");
        let root = Executable::read(&program_path(&programs, &manifest.root.value))?;
        println!("  root       {:>8} bytes", payload::payload(&root, &[])?.len());
        for file in archive_files(architecture, &programs, &manifest)? {
            println!("  archive    {:>8} bytes  {}", file.bytes.len(), file.name);
        }
        println!("  image      {:>8} bytes", fs::metadata(&products.image)?.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// The image's name: the default system's is the one that documentation speaks of.
pub fn file_name(system: &str) -> String {
    if system == "default" { "anos.img".into() } else { format!("anos-{system}.img") }
}

/// Makes the image of a system whose kernel and programs are built.
pub fn write(
    architecture: Architecture,
    kernel: &Path,
    programs: &Path,
    manifest: &Manifest,
    image: &Path,
) -> Result<()> {
    let root = Executable::read(&program_path(programs, &manifest.root.value))?;
    let archive = payload::archive(&archive_files(architecture, programs, manifest)?)?;
    let payload = payload::payload(&root, &archive)?;
    let kernel = Executable::read(kernel)?;
    let bytes = match architecture {
        Architecture::X86_64 => pvh_image(kernel, payload)?,
        Architecture::Riscv64 => flat_image(&kernel, &payload)?,
    };
    fs::write(image, bytes).with_context(|| format!("cannot write {}", image.display()))
}

/// The compiled manifest, and every program but the root server.
fn archive_files(architecture: Architecture, programs: &Path, manifest: &Manifest) -> Result<Vec<ArchiveFile>> {
    let compiled = anos_manifest::host::compile(manifest, architecture.manifest());
    let mut files = vec![ArchiveFile { name: anos_manifest::FILE.to_string(), bytes: compiled }];
    for package in manifest.packages() {
        let bytes = Executable::read(&program_path(programs, package))?.write(architecture)?;
        files.push(ArchiveFile { name: program_file(package), bytes });
    }
    Ok(files)
}

fn program_path(programs: &Path, package: &str) -> std::path::PathBuf {
    programs.join(package).with_extension("elf")
}

/// The kernel's own ELF file, with the payload as one more segment.
fn pvh_image(mut kernel: Executable, payload: Vec<u8>) -> Result<Vec<u8>> {
    ensure!(kernel.segments.iter().any(|segment| !segment.is_loaded()), "the kernel has no PVH note");
    let address = kernel.physical_end()?.next_multiple_of(PAYLOAD_ALIGN);
    kernel.segments.push(Segment {
        kind: PT_LOAD.0,
        flags: PF_R.0,
        address,
        physical: address,
        memory_bytes: u64::try_from(payload.len())?,
        bytes: payload,
    });
    kernel.write(Architecture::X86_64)
}

/// Where the header in the kernel's first bytes says how much memory the image takes, in bytes, from where it is loaded
/// (`image_size` in Linux's `Documentation/arch/riscv/boot-image-header.rst`).
const HEADER_SIZE: Range<usize> = 16..24;

/// Memory as it is to look from the kernel's first byte on: the kernel with its cleared variables, and the payload.
fn flat_image(kernel: &Executable, payload: &[u8]) -> Result<Vec<u8>> {
    let start = kernel.loaded().map(|segment| segment.physical).min().context("the kernel has no segments")?;
    let payload_address = kernel.physical_end()?.next_multiple_of(PAYLOAD_ALIGN);
    let mut image = vec![0; usize::try_from(payload_address - start)?];
    for segment in kernel.loaded() {
        let offset = usize::try_from(segment.physical - start)?;
        let place = image.get_mut(offset..offset + segment.bytes.len());
        place.context("a segment of the kernel lies behind its end")?.copy_from_slice(&segment.bytes);
    }
    image.extend_from_slice(payload);
    say_size(&mut image)?;
    Ok(image)
}

/// The header tells the loader to keep clear of the whole image. The linker knew of the kernel's part alone.
fn say_size(image: &mut [u8]) -> Result<()> {
    let bytes = u64::try_from(image.len())?;
    let field = image.get_mut(HEADER_SIZE).context("the kernel has no image header")?;
    field.copy_from_slice(&bytes.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_counts_the_whole_image() {
        let mut image = vec![0xaa; 0x321];
        say_size(&mut image).expect("it has a header");
        assert_eq!(image[HEADER_SIZE], 0x321_u64.to_le_bytes());
        assert!(image[..16].iter().chain(&image[24..]).all(|&byte| byte == 0xaa), "nothing else changes");
        assert!(say_size(&mut [0; 20]).is_err());
    }
}
