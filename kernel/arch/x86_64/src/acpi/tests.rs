//! Tables as firmware makes them, and as it shouldn't.

use super::*;

const RSDP: usize = 0x20;
const RSDT: usize = 0x100;
const MADT: usize = 0x200;
const FADT: usize = 0x400;
const DSDT: usize = 0x600;

/// A small physical memory.
struct Image([u8; 0x800]);

impl Reader for Image {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        self.0.get(start..start.checked_add(length)?)
    }
}

impl Image {
    fn put(&mut self, address: usize, bytes: &[u8]) {
        self.0[address..address + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&mut self, address: usize, value: usize) {
        self.put(address, &u32::try_from(value).unwrap().to_le_bytes());
    }

    /// Makes the bytes' sum 0 by way of the one at `place`.
    fn seal(&mut self, start: usize, length: usize, place: usize) {
        self.0[start + place] = 0;
        self.0[start + place] = 0_u8.wrapping_sub(sum(&self.0[start..start + length]));
    }

    fn table(&mut self, address: usize, signature: &[u8; 4], length: usize) {
        self.put(address, signature);
        self.word(address + 4, length);
        self.seal(address, length, 9);
    }

    fn seal_all(&mut self) {
        self.seal(RSDP, 20, 8);
        self.table(RSDT, b"RSDT", HEADER + 8);
        self.table(MADT, b"APIC", 44 + 8 + 8 + 8 + 12 + 10);
        self.table(FADT, b"FACP", 276);
        self.table(DSDT, b"DSDT", HEADER + 16);
    }
}

fn read(reader: &Image, rsdp: u64) -> Result<Platform, AcpiError> {
    let mut platform = Platform::EMPTY;
    platform.read(reader, rsdp).map(|()| platform)
}

fn image() -> Image {
    let mut image = Image([0; 0x800]);
    image.put(RSDP, b"RSD PTR ");
    image.word(RSDP + 16, RSDT);
    image.word(RSDT + HEADER, MADT);
    image.word(RSDT + HEADER + 4, FADT);
    image.word(MADT + 36, 0xfee0_0000);
    image.put(MADT + 44, &[0, 8, 0, 0, 1, 0, 0, 0]);
    image.put(MADT + 52, &[0, 8, 1, 4, 1, 0, 0, 0]);
    image.put(MADT + 60, &[0, 8, 2, 9, 0, 0, 0, 0]);
    image.put(MADT + 68, &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    image.put(MADT + 80, &[2, 10, 0, 9, 20, 0, 0, 0, 0b1101, 0]);
    image.word(FADT + 40, DSDT);
    image.word(FADT + 64, 0x604);
    image.word(FADT + 112, 1 << 10);
    image.put(FADT + 116, &[1, 8, 0, 1, 0xf9, 0x0c]);
    image.0[FADT + 128] = 0x0f;
    image.put(DSDT + HEADER, b"\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\0\0");
    image.seal_all();
    image
}

#[test]
fn cores_controllers_and_overrides_are_found() {
    let platform = read(&image(), RSDP as u64).unwrap();
    assert_eq!(platform.cores(), [0, 4], "a core that is not enabled does not count");
    assert_eq!(platform.ioapics(), [IoApic { address: 0xfec0_0000, first: 0 }]);
    assert_eq!(platform.isa[9], IsaLine { line: 20, level: Some(true), active_low: Some(false) });
    assert_eq!(platform.isa[4], IsaLine { line: 4, level: None, active_low: None });
}

#[test]
fn power_registers_are_found() {
    let power = read(&image(), RSDP as u64).unwrap().power;
    assert_eq!(power.pm1a_control, 0x604);
    assert_eq!((power.reset, power.reset_value), (Register::Port(0xcf9), 0x0f));
    assert_eq!(power.off_type, 5);
    assert_eq!(power.enable, (0, 0));
}

#[test]
fn reduced_hardware_has_a_sleep_register_in_memory() {
    let mut image = image();
    image.word(FADT + 112, 1 << 20);
    image.put(FADT + 244, &[0, 8, 0, 1, 0, 2, 0xa0, 0xfe]);
    image.seal_all();
    let power = read(&image, RSDP as u64).unwrap().power;
    assert_eq!(power.sleep_control, Register::Memory(0xfea0_0200));
    assert_eq!((power.pm1a_control, power.reset), (0, Register::None));
}

#[test]
fn damage_is_told() {
    let good = image();
    assert_eq!(read(&good, 0).unwrap_err(), AcpiError::BadRootPointer);
    assert_eq!(read(&good, u64::MAX - 3).unwrap_err(), AcpiError::BadRootPointer);
    for (place, error) in [
        (RSDP + 3, AcpiError::BadRootPointer),
        (RSDP + 12, AcpiError::BadRootPointer),
        (RSDT + 20, AcpiError::BadRootTable),
        (MADT + 20, AcpiError::NoCores),
    ] {
        let mut image = image();
        image.0[place] ^= 1;
        assert_eq!(read(&image, RSDP as u64).unwrap_err(), error, "byte {place:#x}");
    }
    let mut image = image();
    image.0[FADT + 20] ^= 1;
    assert_eq!(read(&image, RSDP as u64).unwrap().power, Power::default());
}

#[test]
fn lengths_that_lie_do_no_harm() {
    for entry in [44, 52, 68, 80] {
        for length in [0, 1, 3, 255] {
            let mut image = image();
            image.0[MADT + entry + 1] = length;
            image.seal_all();
            // Whatever comes out, it came out.
            let cores = read(&image, RSDP as u64).map(|platform| platform.core_count);
            assert!(matches!(cores, Ok(1 | 2) | Err(AcpiError::NoCores)), "{entry} {length} {cores:?}");
        }
    }
    let mut image = image();
    image.word(RSDT + 4, 0xffff_ffff);
    assert_eq!(read(&image, RSDP as u64).unwrap_err(), AcpiError::BadRootTable);
}

#[test]
fn no_more_cores_than_there_is_room_for() {
    let mut platform = read(&image(), RSDP as u64).unwrap();
    for id in 0..300 {
        platform.add_core(id);
    }
    assert_eq!(platform.cores().len(), MAX_CORES);
}
