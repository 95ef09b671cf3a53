//! What the kernel finds behind itself in memory: the root server, ready to be mapped, and the boot archive.

use std::path::Path;

use anos_abi::boot::{MAX_SEGMENTS, PAYLOAD_END, PAYLOAD_MAGIC, PAYLOAD_VERSION};
use anos_abi::{PAGE_SIZE, Rights};
use anyhow::{Context, Result, ensure};

use crate::elf::{Executable, Segment};

/// A file of the boot archive.
pub struct ArchiveFile {
    /// Its path in the archive.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// The boot archive: a tar file that depends on nothing but names and contents.
pub fn archive(files: &[ArchiveFile]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(file.bytes.len())?);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        builder
            .append_data(&mut header, Path::new(&file.name), file.bytes.as_slice())
            .with_context(|| format!("cannot put {} into the boot archive", file.name))?;
    }
    Ok(builder.into_inner()?)
}

/// The payload: header page, the root server's segments with their bss, archive, end mark.
pub fn payload(root: &Executable, archive: &[u8]) -> Result<Vec<u8>> {
    let segments: Vec<&Segment> = root.loaded().collect();
    ensure!(segments.len() <= MAX_SEGMENTS, "the root server has more than {MAX_SEGMENTS} segments");
    let mut body = vec![0; usize::try_from(PAGE_SIZE)?];
    let mut described = Vec::new();
    let mut mapped_up_to = 0;
    for segment in segments {
        let start = segment.address / PAGE_SIZE * PAGE_SIZE;
        let end = (segment.address + segment.memory_bytes).next_multiple_of(PAGE_SIZE);
        ensure!(start >= mapped_up_to, "two segments of the root server share the page at {start:#x}");
        mapped_up_to = end;
        let offset = body.len();
        body.resize(offset + usize::try_from(segment.address - start)?, 0);
        body.extend_from_slice(&segment.bytes);
        body.resize(offset + usize::try_from(end - start)?, 0);
        described.push([start, end - start, u64::try_from(offset)?, u64::from(rights(segment)?.0)]);
    }
    let archive_offset = u64::try_from(body.len())?;
    body.extend_from_slice(archive);
    let total = (body.len() + size_of::<u64>()).next_multiple_of(usize::try_from(PAGE_SIZE)?);
    body.resize(total - size_of::<u64>(), 0);
    body.extend(PAYLOAD_END.to_le_bytes());
    let count = u64::try_from(described.len())?;
    described.resize(MAX_SEGMENTS, [0; 4]);
    let head = [PAYLOAD_MAGIC, PAYLOAD_VERSION, u64::try_from(total)?, root.entry, count];
    let tail = [archive_offset, u64::try_from(archive.len())?];
    let words = head.iter().chain(described.iter().flatten()).chain(&tail);
    for (place, word) in body.chunks_exact_mut(size_of::<u64>()).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Ok(body)
}

/// What the root server may do with the pages of one of its segments.
fn rights(segment: &Segment) -> Result<Rights> {
    ensure!(
        !(segment.is_writable() && segment.is_executable()),
        "the root server's segment at {:#x} is both writable and executable",
        segment.address
    );
    let mut rights = Rights::READ;
    if segment.is_writable() {
        rights = rights.union(Rights::WRITE);
    }
    if segment.is_executable() {
        rights = rights.union(Rights::EXECUTE);
    }
    Ok(rights)
}
