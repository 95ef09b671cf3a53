//! The boot archive: whole, truncated, garbled.

use super::files::tar;
use crate::archive::Archive;

#[test]
fn files_are_found_by_name() {
    let long = [7u8; 1000];
    let bytes = tar(&[("manifest.bin", b"abc"), ("programs/long.elf", &long), ("empty", b"")]);
    let archive = Archive::open(&bytes).expect("whole");
    assert_eq!(archive.find("manifest.bin"), Some(&b"abc"[..]));
    assert_eq!(archive.find("programs/long.elf"), Some(&long[..]));
    assert_eq!(archive.find("empty"), Some(&b""[..]));
    assert_eq!(archive.find("manifest"), None);
}

#[test]
fn a_truncated_archive_is_refused() {
    // A file of zeros, too: cut within it, an archive ends as if it were whole.
    let bytes = tar(&[("one", &[1; 700]), ("zeros", &[0; 4096]), ("two", &[2; 700]), ("bss", &[0; 3000])]);
    assert!(Archive::open(&bytes).is_some());
    for length in 0..bytes.len() {
        assert!(Archive::open(&bytes[..length]).is_none(), "{length} bytes");
    }
}

#[test]
fn a_changed_header_is_refused_or_harmless() {
    let bytes = tar(&[("one", &[1; 700]), ("two", &[2; 700])]);
    let mut refused = 0;
    for at in 0..512 {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x41;
        match Archive::open(&bytes) {
            Some(archive) => drop(archive.find("two")),
            None => refused += 1,
        }
    }
    assert!(refused > 0, "the checksum is looked at");
}
