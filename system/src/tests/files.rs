//! Files for the tests: ELF programs and tar archives, made by hand.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use anos_manifest::host::{self, Architecture};

/// A loadable segment.
#[derive(Clone, Copy)]
pub struct Load {
    pub address: u64,
    pub file_bytes: u64,
    pub memory_bytes: u64,
    /// Read 4, write 2, execute 1.
    pub flags: u32,
}

/// Code, constants and data, as a linker would lay them out.
pub const USUAL: [Load; 3] = [
    Load { address: 0x40_0000, file_bytes: 0x1800, memory_bytes: 0x1800, flags: 5 },
    Load { address: 0x40_2000, file_bytes: 0x400, memory_bytes: 0x400, flags: 4 },
    Load { address: 0x40_3010, file_bytes: 0x80, memory_bytes: 0x9000, flags: 6 },
];

/// An executable for x86-64 (62) or RISC-V (243) with these segments.
pub fn elf(machine: u16, entry: u64, loads: &[Load]) -> Vec<u8> {
    let mut file = vec![0u8; 64 + 56 * loads.len()];
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put(&mut file, 16, &2u16.to_le_bytes());
    put(&mut file, 18, &machine.to_le_bytes());
    put(&mut file, 20, &1u32.to_le_bytes());
    put(&mut file, 24, &entry.to_le_bytes());
    put(&mut file, 32, &64u64.to_le_bytes());
    put(&mut file, 52, &64u16.to_le_bytes());
    put(&mut file, 54, &56u16.to_le_bytes());
    put(&mut file, 56, &u16::try_from(loads.len()).expect("few").to_le_bytes());
    for (index, load) in loads.iter().enumerate() {
        let (header, offset) = (64 + 56 * index, file.len() as u64);
        put(&mut file, header, &1u32.to_le_bytes());
        put(&mut file, header + 4, &load.flags.to_le_bytes());
        for (at, word) in [
            (8, offset),
            (16, load.address),
            (24, load.address),
            (32, load.file_bytes),
            (40, load.memory_bytes),
            (48, 4096),
        ] {
            put(&mut file, header + at, &word.to_le_bytes());
        }
        file.resize(file.len() + usize::try_from(load.file_bytes).expect("small"), 0xc3);
    }
    file
}

pub fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A tar archive.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in files {
        let mut header = [0u8; 512];
        put(&mut header, 0, name.as_bytes());
        put(&mut header, 100, b"0000644\0");
        put(&mut header, 108, b"0000000\0");
        put(&mut header, 116, b"0000000\0");
        put(&mut header, 124, format!("{:011o}\0", bytes.len()).as_bytes());
        put(&mut header, 136, b"00000000000\0");
        put(&mut header, 156, b"0");
        put(&mut header, 257, b"ustar\x0000");
        put(&mut header, 148, b"        ");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(*bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A whole boot archive: every program of the manifest is the same small file.
pub fn boot_archive(manifest: &str) -> Vec<u8> {
    let manifest =
        host::parse(std::path::Path::new("test.toml"), manifest, None).unwrap_or_else(|wrong| panic!("{wrong}"));
    let compiled = host::compile(&manifest, Architecture::X86_64);
    let program = elf(62, 0x40_0010, &USUAL);
    let names: Vec<String> = manifest.packages().into_iter().map(anos_manifest::program_file).collect();
    let mut files = vec![(anos_manifest::FILE, compiled.as_slice())];
    files.extend(names.iter().map(|name| (name.as_str(), program.as_slice())));
    tar(&files)
}
