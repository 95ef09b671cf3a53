//! What Linux unpacks into memory and starts from: a cpio archive in the "new ASCII" format, as Linux's documentation
//! describes it (driver-api/early-userspace/buffer-format).

use std::fmt::Write;

use anyhow::{Result, ensure};

/// The format's name, in front of each header.
const MAGIC: &str = "070701";
/// The name of what is behind the last entry.
const END: &str = "TRAILER!!!";
/// Headers and contents start at multiples of this.
const ALIGNMENT: usize = 4;

/// Types and permissions (stat(2)).
const DIRECTORY: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const PROGRAM: u32 = 0o100_755;
/// The console's device numbers.
const CONSOLE: [u32; 2] = [5, 1];

/// The archive with nothing but this program as `/init`, and the console for it to speak on.
pub fn with_init(program: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.add("dev", DIRECTORY, [0, 0], &[])?;
    archive.add("dev/console", CHARACTER_DEVICE, CONSOLE, &[])?;
    archive.add("init", PROGRAM, [0, 0], program)?;
    archive.finish()
}

/// An archive in the making.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: [u32; 2], content: &[u8]) -> Result<()> {
        self.entries += 1;
        self.entry(self.entries, name, mode, device, content)
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(0, END, 0, [0, 0], &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, number: u32, name: &str, mode: u32, device: [u32; 2], content: &[u8]) -> Result<()> {
        ensure!(u32::try_from(content.len()).is_ok(), "{name} is too large for a cpio archive");
        // Owner and group are root; the time and the device that it is on don't matter, and a checksum isn't in this format.
        let [owner, group, links, time, on_major, on_minor, checksum] = [0, 0, 1, 0, 0, 0, 0];
        let (size, name_size) = (content.len(), name.len() + 1);
        let mut header = MAGIC.to_string();
        for field in [number, mode, owner, group, links, time] {
            write!(header, "{field:08x}")?;
        }
        write!(header, "{size:08x}")?;
        for field in [on_major, on_minor, device[0], device[1]] {
            write!(header, "{field:08x}")?;
        }
        write!(header, "{name_size:08x}{checksum:08x}{name}\0")?;
        self.bytes.extend_from_slice(header.as_bytes());
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in an archive: name, mode, device, content. Reads the fields by their places in the format.
    fn entries(mut archive: &[u8]) -> Vec<(String, u32, [u32; 2], Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            let header = std::str::from_utf8(&archive[..110]).expect("digits");
            assert!(header.starts_with("070701"));
            let field = |index: usize| {
                let digits = &header[6 + 8 * index..][..8];
                u32::from_str_radix(digits, 16).expect("a number")
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&archive[110..110 + name_size - 1]).expect("a name").to_string();
            assert_eq!(archive[110 + name_size - 1], 0, "the name ends with 0");
            let start = (110 + name_size).next_multiple_of(4);
            let content = archive[start..start + size].to_vec();
            archive = &archive[(start + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(archive.is_empty());
                return entries;
            }
            entries.push((name, field(1), [field(9), field(10)], content));
        }
    }

    #[test]
    fn an_archive_holds_the_program_and_the_console() {
        // Lengths around a multiple of four.
        for program in ["", "x", "abc", "abcd", "abcde"] {
            let archive = with_init(program.as_bytes()).expect("small");
            assert_eq!(
                entries(&archive),
                [
                    ("dev".to_string(), 0o40755, [0, 0], vec![]),
                    ("dev/console".to_string(), 0o20600, [5, 1], vec![]),
                    ("init".to_string(), 0o100755, [0, 0], program.as_bytes().to_vec()),
                ]
            );
        }
    }
}
