//! The payload's header, checked: nothing in it is believed before it was compared with what is there.
//!
//! Each way to be wrong has its own [`BootError`], so that one line on the console says what to look at.

use anos_abi::boot::{
    ARCHIVE_ADDRESS, BOOT_INFO_ADDRESS, DEVICETREE_ADDRESS, PAYLOAD_END, PAYLOAD_MAGIC, PAYLOAD_VERSION, PayloadHeader,
};
use anos_abi::{PAGE_SIZE, Rights};

use super::BootError;

/// What a checked header says, as in [`PayloadHeader`].
pub struct Payload<'a> {
    pub bytes: u64,
    pub entry: u64,
    /// The segments in use.
    pub segments: &'a [Segment],
    pub archive_offset: u64,
    pub archive_bytes: u64,
}

/// The words of a segment: address, bytes, offset, rights.
type Segment = [u64; 4];
/// Places in a [`Segment`].
const ADDRESS: usize = 0;
const OFFSET: usize = 2;

/// Words of a [`PayloadHeader`].
const HEADER_WORDS: usize = size_of::<PayloadHeader>() / 8;

/// Reads the header in place, and checks all it says.
pub fn check(words: &[u64]) -> Result<Payload<'_>, BootError> {
    let header = words.first_chunk::<HEADER_WORDS>().ok_or(BootError::NoPayload)?;
    let [magic, version, bytes, entry, count, segments @ .., archive_offset, archive_bytes] = header;
    let (&bytes, &entry, &archive_offset, &archive_bytes) = (bytes, entry, archive_offset, archive_bytes);
    if *magic != PAYLOAD_MAGIC {
        return Err(BootError::NoPayload);
    }
    if *version != PAYLOAD_VERSION {
        return Err(BootError::PayloadVersion);
    }
    if bytes == 0 || !on_page(bytes) {
        return Err(BootError::PayloadSize);
    }
    if word(words, bytes / 8 - 1) != Some(PAYLOAD_END) {
        return Err(BootError::TruncatedPayload);
    }
    let used = usize::try_from(*count).unwrap_or(usize::MAX);
    let segments = segments.as_chunks::<4>().0.get(..used).unwrap_or(&[]);
    if segments.is_empty() {
        return Err(BootError::SegmentCount);
    }
    let (mut rest, mut entered) = (segments, false);
    // bound: BOOT
    while let [segment, others @ ..] = rest {
        check_segment(segment, bytes)?;
        let &[address, size, offset, rights] = segment;
        if meets(others, ADDRESS, address, size) {
            return Err(BootError::SegmentAddress);
        }
        // A page under two addresses could be writable at one and executable at the other.
        if meets(others, OFFSET, offset, size) {
            return Err(BootError::SegmentPlace);
        }
        entered |= rights & u64::from(Rights::EXECUTE.0) != 0 && inside(entry, 1, address, size);
        rest = others;
    }
    if !entered {
        return Err(BootError::PayloadEntry);
    }
    // Whole pages are mapped; but segments start on a page: one in the archive's last page would overlap the archive.
    if !on_page(archive_offset)
        || archive_offset < PAGE_SIZE
        || !inside(archive_offset, archive_bytes, 0, bytes)
        || archive_bytes > DEVICETREE_ADDRESS - ARCHIVE_ADDRESS
        || meets(segments, OFFSET, archive_offset, archive_bytes)
    {
        return Err(BootError::PayloadArchive);
    }
    Ok(Payload { bytes, entry, segments, archive_offset, archive_bytes })
}

fn check_segment(&[address, bytes, offset, rights]: &Segment, payload_bytes: u64) -> Result<(), BootError> {
    const READ: u64 = Rights::READ.0 as u64;
    const READ_WRITE: u64 = READ | Rights::WRITE.0 as u64;
    const READ_EXECUTE: u64 = READ | Rights::EXECUTE.0 as u64;
    if !on_page(address | bytes | offset) || bytes == 0 {
        return Err(BootError::SegmentAlignment);
    }
    if offset < PAGE_SIZE || !inside(offset, bytes, 0, payload_bytes) {
        return Err(BootError::SegmentPlace);
    }
    if !matches!(rights, READ | READ_WRITE | READ_EXECUTE) {
        return Err(BootError::SegmentRights);
    }
    // The first page stays unmapped, and what the kernel maps lies from BootInfo upwards.
    if !inside(address, bytes, PAGE_SIZE, BOOT_INFO_ADDRESS - PAGE_SIZE) {
        return Err(BootError::SegmentAddress);
    }
    Ok(())
}

fn on_page(number: u64) -> bool {
    number.is_multiple_of(PAGE_SIZE)
}

/// Whether `bytes` bytes from `start` lie within the `size` bytes from `base`.
fn inside(start: u64, bytes: u64, base: u64, size: u64) -> bool {
    start >= base && start - base <= size && bytes <= size - (start - base)
}

/// Whether a run shares a byte with a segment, by the segments' addresses or by their offsets.
fn meets(segments: &[Segment], by: usize, start: u64, bytes: u64) -> bool {
    let end = start.saturating_add(bytes);
    segments.iter().any(|segment| {
        let (other, other_bytes) = (segment.get(by).copied().unwrap_or(0), segment[1]);
        start < other.saturating_add(other_bytes) && other < end
    })
}

fn word(words: &[u64], place: u64) -> Option<u64> {
    words.get(usize::try_from(place).ok()?).copied()
}
