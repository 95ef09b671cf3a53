//! The payload's header, checked: nothing in it is believed before it was compared with what is there.
//!
//! Each way to be wrong has its own [`BootError`], so that one line on the console says what to look at.

use anos_abi::boot::{
    ARCHIVE_ADDRESS, BOOT_INFO_ADDRESS, DEVICETREE_ADDRESS, MAX_SEGMENTS, PAYLOAD_END, PAYLOAD_MAGIC, PAYLOAD_VERSION,
    PayloadHeader, Segment,
};
use anos_abi::{PAGE_SIZE, Rights};

use super::BootError;

/// Reads the header and checks all it says.
pub fn check(bytes: &[u8]) -> Result<PayloadHeader, BootError> {
    let mut header = read(bytes).ok_or(BootError::NoPayload)?;
    if header.magic != PAYLOAD_MAGIC {
        return Err(BootError::NoPayload);
    }
    if header.version != PAYLOAD_VERSION {
        return Err(BootError::PayloadVersion);
    }
    if header.bytes < PAGE_SIZE || !on_page(header.bytes) {
        return Err(BootError::PayloadSize);
    }
    if word(bytes, header.bytes - 8) != Some(PAYLOAD_END) {
        return Err(BootError::TruncatedPayload);
    }
    let used = usize::try_from(header.segment_count).unwrap_or(usize::MAX);
    let segments =
        header.segments.get(..used).filter(|segments| !segments.is_empty()).ok_or(BootError::SegmentCount)?;
    for (position, segment) in segments.iter().enumerate() {
        check_segment(segment, header.bytes)?;
        let others = segments.get(position + 1..).unwrap_or(&[]);
        if others.iter().any(|other| overlap(segment.address, segment.bytes, other.address, other.bytes)) {
            return Err(BootError::SegmentAddress);
        }
        // A page under two addresses could be writable at one and executable at the other.
        if others.iter().any(|other| overlap(segment.offset, segment.bytes, other.offset, other.bytes)) {
            return Err(BootError::SegmentPlace);
        }
    }
    if !segments.iter().any(|segment| executable(segment) && inside(header.entry, 1, segment.address, segment.bytes)) {
        return Err(BootError::PayloadEntry);
    }
    let archive = (header.archive_offset, header.archive_bytes);
    let fits = on_page(archive.0)
        && archive.0 >= PAGE_SIZE
        && inside(archive.0, archive.1, 0, header.bytes)
        && archive.1 <= DEVICETREE_ADDRESS - ARCHIVE_ADDRESS;
    // Whole pages are mapped: the archive's last one counts in full.
    let pages = archive.1.checked_next_multiple_of(PAGE_SIZE).ok_or(BootError::PayloadArchive)?;
    if !fits || segments.iter().any(|segment| overlap(archive.0, pages, segment.offset, segment.bytes)) {
        return Err(BootError::PayloadArchive);
    }
    // What is behind the segments in use says nothing.
    for unused in header.segments.iter_mut().skip(used) {
        *unused = Segment::default();
    }
    Ok(header)
}

fn check_segment(segment: &Segment, payload_bytes: u64) -> Result<(), BootError> {
    if !(on_page(segment.address) && on_page(segment.bytes) && on_page(segment.offset)) || segment.bytes == 0 {
        return Err(BootError::SegmentAlignment);
    }
    if segment.offset < PAGE_SIZE || !inside(segment.offset, segment.bytes, 0, payload_bytes) {
        return Err(BootError::SegmentPlace);
    }
    let known = Rights::READ.union(Rights::WRITE).union(Rights::EXECUTE);
    let rights = u8::try_from(segment.rights).map(Rights).map_err(|_| BootError::SegmentRights)?;
    let both = rights.contains(Rights::WRITE.union(Rights::EXECUTE));
    if !known.contains(rights) || !rights.contains(Rights::READ) || both {
        return Err(BootError::SegmentRights);
    }
    // The first page stays unmapped, and what the kernel maps lies from BootInfo upwards.
    if !inside(segment.address, segment.bytes, PAGE_SIZE, BOOT_INFO_ADDRESS - PAGE_SIZE) {
        return Err(BootError::SegmentAddress);
    }
    Ok(())
}

fn executable(segment: &Segment) -> bool {
    segment.rights & u64::from(Rights::EXECUTE.0) != 0
}

fn on_page(number: u64) -> bool {
    number.is_multiple_of(PAGE_SIZE)
}

/// Whether `bytes` bytes from `start` lie within the `size` bytes from `base`.
fn inside(start: u64, bytes: u64, base: u64, size: u64) -> bool {
    start.checked_sub(base).and_then(|offset| offset.checked_add(bytes)).is_some_and(|end| end <= size)
}

/// Whether two runs share a byte. Both were found to lie inside something, so their ends don't overflow.
fn overlap(start: u64, bytes: u64, other: u64, other_bytes: u64) -> bool {
    start < other.saturating_add(other_bytes) && other < start.saturating_add(bytes)
}

fn word(bytes: &[u8], offset: u64) -> Option<u64> {
    let chunk = bytes.get(usize::try_from(offset).ok()?..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*chunk))
}

/// The header's fields, word by word; `None` if even they aren't all there.
fn read(bytes: &[u8]) -> Option<PayloadHeader> {
    let mut words = (0..).step_by(8).map(|offset| word(bytes, offset));
    let mut next = || words.next().flatten();
    let (magic, version, size, entry, segment_count) = (next()?, next()?, next()?, next()?, next()?);
    let mut segments = [Segment::default(); MAX_SEGMENTS];
    for segment in &mut segments {
        *segment = Segment { address: next()?, bytes: next()?, offset: next()?, rights: next()? };
    }
    let (archive_offset, archive_bytes) = (next()?, next()?);
    Some(PayloadHeader { magic, version, bytes: size, entry, segment_count, segments, archive_offset, archive_bytes })
}
