//! The little of ACPI that the kernel needs: cores and interrupt controllers (MADT), and how to switch the machine
//! off (FADT, and `\_S5` in the DSDT). Pure: every length and checksum is checked, every loop has a bound.
//!
//! Sections are those of the ACPI specification 6.4.

use crate::pvh::{Reader, word32, word64};

/// Cores that are taken note of.
pub const MAX_CORES: usize = anos_abi::MAX_CORES;
/// Interrupt controllers that are taken note of.
pub const MAX_IOAPICS: usize = 8;
/// Bytes of a table header (5.2.6).
const HEADER: usize = 36;
/// The longest table that is looked at; real ones have some kilobytes.
const MAX_TABLE: usize = 1 << 20;
/// Tables that are looked at.
const MAX_TABLES: usize = 64;

/// Why the tables are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiError {
    /// The root pointer is missing or damaged.
    BadRootPointer,
    /// The list of tables is missing or damaged.
    BadRootTable,
    /// The MADT is missing or damaged, or lists no core.
    NoCores,
}

/// One I/O interrupt controller (5.2.12.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// Its first line's number.
    pub first: u32,
}

/// Where an ISA interrupt arrives (5.2.12.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IsaLine {
    /// The line (global system interrupt).
    pub line: u32,
    /// Whether it is level-triggered; `None`: as the bus has it (edge).
    pub level: Option<bool>,
    /// Whether it is active low; `None`: as the bus has it (high).
    pub active_low: Option<bool>,
}

/// A register by address (5.2.3.2, Generic Address Structure).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Register {
    /// There is none.
    #[default]
    None,
    /// In memory.
    Memory(u64),
    /// An I/O port.
    Port(u16),
}

/// How to switch the machine off and start it again (5.2.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    /// PM1a control block: the port of a 16-bit register, or 0.
    pub pm1a_control: u16,
    /// Sleep control, on machines with reduced hardware: an 8-bit register.
    pub sleep_control: Register,
    /// What the sleep type for "off" is (`\_S5`).
    pub off_type: u8,
    /// The reset register: 8 bits.
    pub reset: Register,
    /// What to write to it.
    pub reset_value: u8,
    /// The port, and what to write to it, to make the firmware hand over the power registers; 0: they are ours already.
    pub enable: (u16, u8),
}

/// What the tables say.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    /// The cores' local interrupt controller ids.
    pub cores: [u32; MAX_CORES],
    /// How many there are.
    pub core_count: usize,
    /// Physical address of the local interrupt controllers' registers.
    pub local_apic: u64,
    /// The I/O interrupt controllers.
    pub ioapics: [IoApic; MAX_IOAPICS],
    /// How many there are.
    pub ioapic_count: usize,
    /// Where the 16 ISA interrupts arrive.
    pub isa: [IsaLine; 16],
    /// Power.
    pub power: Power,
}

/// The list of tables, and the width of its entries (5.2.5.3, 5.2.7, 5.2.8).
fn root_table(reader: &impl Reader, rsdp: u64) -> Result<(&[u8], usize), AcpiError> {
    let bad = AcpiError::BadRootPointer;
    let pointer = reader.bytes(rsdp, 20).filter(|_| rsdp != 0).and_then(<[u8]>::first_chunk::<20>).ok_or(bad)?;
    if !pointer.starts_with(b"RSD PTR ") || sum(pointer) != 0 {
        return Err(bad);
    }
    if pointer[15] >= 2
        && let Some(extended) = reader.bytes(rsdp, 36)
        && sum(extended) == 0
        && let Some(root) = table(reader, word64(extended, 24), *b"XSDT")
    {
        return Ok((root, 8));
    }
    let root = table(reader, word32(pointer, 16).into(), *b"RSDT").ok_or(AcpiError::BadRootTable)?;
    Ok((root, 4))
}

/// A table, if it is one with this signature, and its length and checksum hold.
fn table(reader: &impl Reader, address: u64, signature: [u8; 4]) -> Option<&[u8]> {
    let header = reader.bytes(address, HEADER)?;
    let length = word32(header, 4) as usize;
    if !header.starts_with(&signature) || !(HEADER..=MAX_TABLE).contains(&length) {
        return None;
    }
    reader.bytes(address, length).filter(|bytes| sum(bytes) == 0)
}

impl Platform {
    /// One that nothing is known of: all zeros. (Filled by [`Platform::read`] where it lies: it is large.)
    pub const EMPTY: Platform = Platform {
        cores: [0; MAX_CORES],
        core_count: 0,
        local_apic: 0,
        ioapics: [IoApic { address: 0, first: 0 }; MAX_IOAPICS],
        ioapic_count: 0,
        isa: [IsaLine { line: 0, level: Some(false), active_low: Some(false) }; 16],
        power: Power {
            pm1a_control: 0,
            sleep_control: Register::None,
            off_type: 0,
            reset: Register::None,
            reset_value: 0,
            enable: (0, 0),
        },
    };

    /// Reads what `rsdp` leads to. A machine without a usable FADT just can't be switched off.
    pub fn read(&mut self, reader: &impl Reader, rsdp: u64) -> Result<(), AcpiError> {
        let (root, width) = root_table(reader, rsdp)?;
        // What holds if no table says otherwise.
        self.local_apic = 0xfee0_0000;
        for (line, isa) in (0..).zip(&mut self.isa) {
            *isa = IsaLine { line, level: None, active_low: None };
        }
        let list = root.get(HEADER..).unwrap_or(&[]);
        for entry in list.chunks_exact(width).take(MAX_TABLES) {
            let address = if width == 8 { word64(entry, 0) } else { word32(entry, 0).into() };
            if let Some(madt) = table(reader, address, *b"APIC") {
                self.read_madt(madt);
            } else if let Some(fadt) = table(reader, address, *b"FACP") {
                self.power = read_fadt(reader, fadt);
            }
        }
        if self.core_count == 0 { Err(AcpiError::NoCores) } else { Ok(()) }
    }

    /// Cores and interrupt controllers (5.2.12).
    fn read_madt(&mut self, madt: &[u8]) {
        if madt.len() >= 40 {
            self.local_apic = word32(madt, 36).into();
        }
        let mut rest = madt.get(44..).unwrap_or(&[]);
        // Every entry has at least two bytes, so the table's length bounds this.
        while let [kind, length, ..] = rest {
            let Some((entry, next)) = rest.split_at_checked((*length).max(2).into()) else { break };
            self.read_entry(*kind, entry);
            rest = next;
        }
    }

    /// One entry; what is missing of it at its end counts as zeros, but a short one that would add something is none.
    fn read_entry(&mut self, kind: u8, told: &[u8]) {
        /// The core is there; one that is merely "online capable" has yet to be plugged in.
        const ENABLED: u32 = 1;
        let entry = &mut [0; 16];
        copy(entry, told);
        let (second, third) = (word32(entry, 4), word32(entry, 8));
        match (kind, told.len()) {
            (0, _) if second & ENABLED != 0 => self.add_core(entry[3].into()),
            (9, _) if third & ENABLED != 0 => self.add_core(second),
            (1, 12..) => {
                if let Some(place) = self.ioapics.get_mut(self.ioapic_count) {
                    *place = IoApic { address: second.into(), first: third };
                    self.ioapic_count += 1;
                }
            }
            (2, 10..) => {
                if let Some(isa) = self.isa.get_mut(usize::from(entry[3])) {
                    *isa = IsaLine { line: second, level: choice(third >> 2), active_low: choice(third) };
                }
            }
            (5, 12..) => self.local_apic = word64(entry, 4),
            _ => {}
        }
    }

    fn add_core(&mut self, id: u32) {
        // (`contains` would look at many at once, with many instructions.)
        if self.cores().iter().all(|&other| other != id)
            && let Some(place) = self.cores.get_mut(self.core_count)
        {
            *place = id;
            self.core_count += 1;
        }
    }

    /// The cores.
    pub fn cores(&self) -> &[u32] {
        self.cores.get(..self.core_count).unwrap_or(&[])
    }

    /// The I/O interrupt controllers.
    pub fn ioapics(&self) -> &[IoApic] {
        self.ioapics.get(..self.ioapic_count).unwrap_or(&[])
    }
}

/// Two bits of an override's flags: 1 is high or edge, 3 is low or level, 0 as the bus has it.
fn choice(bits: u32) -> Option<bool> {
    match bits & 3 {
        1 => Some(false),
        3 => Some(true),
        _ => None,
    }
}

/// Power registers (5.2.9).
#[inline(never)]
fn read_fadt(reader: &impl Reader, table: &[u8]) -> Power {
    const REDUCED_HARDWARE: u32 = 1 << 20;
    const RESET_SUPPORTED: u32 = 1 << 10;
    let fadt = &mut [0; 256];
    copy(fadt, table);
    let flags = word32(fadt, 112);
    let mut power = Power::default();
    let mut dsdt = word64(fadt, 140);
    if dsdt == 0 {
        dsdt = word32(fadt, 40).into();
    }
    if let Some(dsdt) = self::table(reader, dsdt, *b"DSDT") {
        power.off_type = off_type(dsdt).unwrap_or(0);
    }
    if flags & RESET_SUPPORTED != 0 {
        power.reset = generic_address(fadt[116], word64(fadt, 120));
        power.reset_value = fadt[128];
    }
    if flags & REDUCED_HARDWARE != 0 {
        power.sleep_control = generic_address(fadt[244], word64(fadt, 248));
        return power;
    }
    power.pm1a_control = match generic_address(fadt[172], word64(fadt, 176)) {
        Register::None => port(word32(fadt, 64).into()),
        Register::Port(port) => port,
        // No machine is known to have it there.
        Register::Memory(_) => 0,
    };
    power.enable = (port(word32(fadt, 48).into()), fadt[52]);
    power
}

#[inline(never)]
fn generic_address(space: u8, address: u64) -> Register {
    match space {
        0 if address != 0 => Register::Memory(address),
        1 if port(address) != 0 => Register::Port(port(address)),
        _ => Register::None,
    }
}

/// A port's number, or 0 if it is none.
fn port(address: u64) -> u16 {
    u16::try_from(address).unwrap_or(0)
}

/// The first number in the package `\_S5` (20.2.2, 20.2.5.4). Found by its name: the one thing that the kernel wants
/// of AML, whose interpreter belongs into a server.
fn off_type(dsdt: &[u8]) -> Option<u8> {
    const PACKAGE: u8 = 0x12;
    const BYTE_PREFIX: u8 = 0x0a;
    let name = dsdt.windows(5).position(|window| window == [b'_', b'S', b'5', b'_', PACKAGE])?;
    let length = name + 5;
    // The package's length has 1 to 4 bytes, as its first byte's highest two bits say; then comes the element count.
    let element = length + 1 + usize::from(dsdt.get(length)? >> 6) + 1;
    match *dsdt.get(element)? {
        BYTE_PREFIX => dsdt.get(element + 1).copied(),
        value @ (0 | 1) => Some(value),
        _ => None,
    }
    .filter(|&value| value < 8)
}

/// Copies as much as both have.
#[inline(never)]
fn copy(to: &mut [u8], from: &[u8]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
    }
}

#[inline(never)]
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

#[cfg(test)]
mod tests;
