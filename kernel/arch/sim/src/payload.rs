//! A payload as the build would make it, small, and with every field open to tests that break it.

use anos_abi::boot::{MAX_SEGMENTS, PAYLOAD_END, PAYLOAD_MAGIC, PAYLOAD_VERSION, PayloadHeader, Segment};
use anos_abi::{PAGE_SIZE, Rights};

use crate::memory::index;

/// Where the root server's code lies.
pub const CODE: u64 = 0x40_0000;
/// Where its constants lie.
pub const CONSTANTS: u64 = 0x40_1000;
/// Where its data lies: two pages, in two last-level tables.
pub const DATA: u64 = 0x5f_f000;

/// A payload: header, one page of code, one of constants, two of data, and an archive.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The header.
    pub header: PayloadHeader,
    /// The archive's bytes.
    pub archive: Vec<u8>,
    /// The last word.
    pub end: u64,
}

impl Default for Payload {
    fn default() -> Self {
        let read_execute = u64::from(Rights::READ.union(Rights::EXECUTE).0);
        let read_write = u64::from(Rights::READ.union(Rights::WRITE).0);
        let mut segments = [Segment::default(); MAX_SEGMENTS];
        segments[0] = Segment { address: CODE, bytes: PAGE_SIZE, offset: PAGE_SIZE, rights: read_execute };
        segments[1] = Segment { address: CONSTANTS, bytes: PAGE_SIZE, offset: 2 * PAGE_SIZE, rights: 1 };
        segments[2] = Segment { address: DATA, bytes: 2 * PAGE_SIZE, offset: 3 * PAGE_SIZE, rights: read_write };
        let archive = b"a boot archive".to_vec();
        let header = PayloadHeader {
            magic: PAYLOAD_MAGIC,
            version: PAYLOAD_VERSION,
            bytes: 7 * PAGE_SIZE,
            entry: CODE + 0x10,
            segment_count: 3,
            segments,
            archive_offset: 5 * PAGE_SIZE,
            archive_bytes: archive.len() as u64,
        };
        Payload { header, archive, end: PAYLOAD_END }
    }
}

impl Payload {
    /// The payload as it lies in memory.
    pub fn bytes(&self) -> Vec<u8> {
        let header = &self.header;
        let mut words = vec![header.magic, header.version, header.bytes, header.entry, header.segment_count];
        for segment in &header.segments {
            words.extend([segment.address, segment.bytes, segment.offset, segment.rights]);
        }
        words.extend([header.archive_offset, header.archive_bytes]);
        assert_eq!(words.len() * 8, size_of::<PayloadHeader>(), "the header is plain words");
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        // Each page says in its first word which one it is, so that a test sees the right one mapped.
        for page in 1..7 {
            bytes.resize(index(page * PAGE_SIZE), 0);
            bytes.extend(page.to_le_bytes());
        }
        let archive = index(5 * PAGE_SIZE);
        bytes.resize(index(7 * PAGE_SIZE), 0);
        bytes[archive..archive + self.archive.len()].copy_from_slice(&self.archive);
        let last = bytes.len() - 8;
        bytes[last..].copy_from_slice(&self.end.to_le_bytes());
        bytes
    }
}
