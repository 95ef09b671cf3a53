//! What a system is made of: which programs run, and with which authority.
//!
//! - here: [`System`], the compiled form that lies in the boot archive as [`FILE`], and [`decode`], which the root
//!   server reads it with;
//! - `host` (with the feature of that name): the TOML form in `systems/*.toml`, and everything that is checked while
//!   an image is built.
//!
//! Service and device names exist on the host only; in the compiled form they are indices, checked once more by
//! [`decode`], so that the root server never meets one that leads nowhere.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "host"))]
extern crate std;

use alloc::string::String;
use alloc::vec::Vec;

use anos_abi::PAGE_SIZE;
use serde::{Deserialize, Serialize};

#[cfg(feature = "host")]
pub mod host;
#[cfg(test)]
mod tests;

/// The compiled manifest's name in the boot archive.
pub const FILE: &str = "manifest.bin";
/// The first bytes of a compiled manifest: what it is, and its version.
pub const MAGIC: [u8; 8] = *b"AnosMan2";

/// Longest name of a program, service or device, bytes: two message words.
pub const MAX_NAME: usize = 16;
/// Most programs in a system.
pub const MAX_PROGRAMS: usize = 64;
/// Most services in a system.
pub const MAX_SERVICES: usize = 32;
/// Most devices that one program can claim.
pub const MAX_DEVICES: usize = 4;
/// Most devices that all programs together can claim.
pub const MAX_CLAIMS: usize = 64;
/// Most pages of a device's registers: one Frame.
pub const MAX_REGISTER_PAGES: u64 = 512;
/// Bytes of a slot in a capability table, which a program's memory pays for.
pub const SLOT_BYTES: u64 = 64;
/// Most services that one program can provide: it finds its endpoint as "service".
pub const MAX_PROVIDES: usize = 1;
/// Most services that one program can use.
pub const MAX_USES: usize = 8;
/// Smallest memory quota of a program, bytes.
pub const MIN_MEMORY: u64 = 64 * 1024;
/// Largest memory quota of a program, bytes.
pub const MAX_MEMORY: u64 = 1 << 30;
/// Fewest slots in a program's capability table.
pub const MIN_SLOTS: u32 = 64;
/// Most slots in a program's capability table.
pub const MAX_SLOTS: u32 = 4096;
/// Highest priority of a program. Above is the root server alone, so that it can always end any of them.
pub const MAX_PRIORITY: u8 = 254;
/// Smallest budget of CPU time, ns: the kernel takes none below.
pub const MIN_BUDGET_NS: u64 = 10_000;
/// Longest period of CPU time, ns: the kernel takes none above.
pub const MAX_PERIOD_NS: u64 = 1 << 40;
/// Most processes that can run a manual program at the same time.
pub const MAX_INSTANCES: u8 = 32;

/// The archive name of the program that a package builds.
pub fn program_file(package: &str) -> String {
    let mut name = String::from("programs/");
    name.push_str(package);
    name.push_str(".elf");
    name
}

/// A whole system, compiled for one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Its name.
    pub name: String,
    /// The services' names; each is provided by just one program.
    pub services: Vec<String>,
    /// The programs, in the order in which they start.
    pub programs: Vec<Program>,
}

/// A program, and what each of its processes gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its file in the boot archive.
    pub file: String,
    /// When it starts.
    pub start: Start,
    /// Whether it starts again.
    pub restart: Restart,
    /// Processes that may run it at the same time.
    pub instances: u8,
    /// Whether whoever runs it may give it arguments.
    pub arguments: bool,
    /// Priority of its first thread.
    pub priority: u8,
    /// The highest priority its threads can give.
    pub ceiling: u8,
    /// The cores that its threads may use, as bits; 0 for all.
    pub cores: u64,
    /// The CPU time that each of its threads gets; none: as much as is left.
    pub cpu: Option<CpuTime>,
    /// Memory quota in bytes, a power of two.
    pub memory: u64,
    /// Slots of its capability table, a power of two.
    pub slots: u32,
    /// What it drives.
    pub devices: Vec<Device>,
    /// The services it provides, as indices into [`System::services`].
    pub provides: Vec<u16>,
    /// The services it may call.
    pub uses: Vec<Use>,
    /// What it may ask of the root server, as [`process_right`] bits.
    pub process: u8,
    /// Whether it holds the Debug capability.
    pub debug: bool,
    /// Whether it holds every core's SchedControl.
    pub sched: bool,
}

/// CPU time of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTime {
    /// How much in every period, ns.
    pub budget_ns: u64,
    /// The period, ns.
    pub period_ns: u64,
}

impl CpuTime {
    /// Whether the kernel takes it.
    pub fn is_in_range(self) -> bool {
        MIN_BUDGET_NS <= self.budget_ns && self.budget_ns <= self.period_ns && self.period_ns <= MAX_PERIOD_NS
    }
}

/// When a program starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// When the system does.
    Boot,
    /// When somebody runs it.
    Manual,
}

/// What happens after a program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Nothing.
    Never,
    /// It starts again if it faulted, failed or was killed.
    Fault,
    /// It starts again however it ended.
    Always,
}

/// The right to call a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Index into [`System::services`].
    pub service: u16,
    /// Whether capabilities can be passed along in calls.
    pub pass: bool,
    /// The role in which it calls: see [`ROLES`].
    pub role: u32,
}

/// Roles in which a program can call a service, as manifests write them: what a server lets some of its clients do
/// that others may not. 0 is everybody's.
pub const ROLES: [(&str, u32); 1] = [("controller", anos_interfaces::console::CONTROLLER)];

/// What a process may ask of the root server beyond its own affairs.
pub mod process_right {
    /// List processes, and look at what they hold; memory, cores, uptime.
    pub const SEE: u8 = 1;
    /// Run programs, and wait for their end.
    pub const RUN: u8 = 2;
    /// Kill processes.
    pub const KILL: u8 = 4;
    /// Power off and reboot.
    pub const POWER: u8 = 8;
    /// Everything.
    pub const ALL: u8 = 15;
    /// Names, as manifests write them.
    pub const NAMES: [(&str, u8); 4] = [("see", SEE), ("run", RUN), ("kill", KILL), ("power", POWER)];
}

/// A device as its driver gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its registers.
    pub registers: Registers,
    /// Its interrupt, if it has one.
    pub interrupt: Option<Interrupt>,
}

/// Where a device's registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Registers {
    /// I/O ports (x86-64).
    Ports {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// Device memory.
    Memory {
        /// Physical address.
        address: u64,
        /// Bytes.
        size: u64,
    },
}

/// An interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupt {
    /// Its number, as the interrupt controller counts.
    pub line: u32,
    /// Level-triggered rather than edge-triggered.
    pub level: bool,
    /// Active low rather than active high.
    pub active_low: bool,
}

/// Why a compiled manifest can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It does not start with [`MAGIC`]: not a manifest, or one of another version.
    NotAManifest,
    /// It ends early, or is garbled.
    Garbled,
    /// Something in it is outside its limits.
    OutOfRange,
}

impl DecodeError {
    /// A few words for people.
    pub const fn text(self) -> &'static str {
        match self {
            DecodeError::NotAManifest => "it is no manifest of this version",
            DecodeError::Garbled => "it is truncated or garbled",
            DecodeError::OutOfRange => "a value in it is out of range",
        }
    }
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.text())
    }
}

impl core::error::Error for DecodeError {}

/// Reads a compiled manifest, whatever the bytes.
pub fn decode(bytes: &[u8]) -> Result<System, DecodeError> {
    let body = bytes.strip_prefix(&MAGIC).ok_or(DecodeError::NotAManifest)?;
    let (system, rest) = postcard::take_from_bytes::<System>(body).map_err(|_| DecodeError::Garbled)?;
    if !rest.is_empty() {
        return Err(DecodeError::Garbled);
    }
    if in_range(&system) { Ok(system) } else { Err(DecodeError::OutOfRange) }
}

fn in_range(system: &System) -> bool {
    let services = system.services.len();
    services <= MAX_SERVICES
        && system.programs.len() <= MAX_PROGRAMS
        && system.programs.iter().map(|program| program.devices.len()).sum::<usize>() <= MAX_CLAIMS
        && is_name(&system.name)
        && system.services.iter().all(|name| is_name(name))
        && system.programs.iter().all(|program| program_in_range(program, services))
}

fn program_in_range(program: &Program, services: usize) -> bool {
    is_name(&program.name)
        && program.instances >= 1
        && program.instances <= MAX_INSTANCES
        && program.priority <= program.ceiling
        && program.ceiling <= MAX_PRIORITY
        && program.cpu.is_none_or(CpuTime::is_in_range)
        && program.memory.is_power_of_two()
        && (MIN_MEMORY..=MAX_MEMORY).contains(&program.memory)
        && program.slots.is_power_of_two()
        && (MIN_SLOTS..=MAX_SLOTS).contains(&program.slots)
        && u64::from(program.slots) * SLOT_BYTES < program.memory
        && program.devices.len() <= MAX_DEVICES
        && program.devices.iter().all(device_in_range)
        && program.provides.len() <= MAX_PROVIDES
        && program.provides.iter().all(|&service| usize::from(service) < services)
        && program.uses.len() <= MAX_USES
        && program.uses.iter().all(|used| usize::from(used.service) < services)
        && program.process & !process_right::ALL == 0
}

fn device_in_range(device: &Device) -> bool {
    is_name(&device.name)
        && match device.registers {
            Registers::Ports { first, last } => first <= last,
            Registers::Memory { address, size } => {
                size > 0 && register_pages(address, size).is_some_and(|pages| pages <= MAX_REGISTER_PAGES)
            }
        }
}

/// The pages that registers lie on; `None` if there are no such addresses.
pub fn register_pages(address: u64, size: u64) -> Option<u64> {
    let end = address.checked_add(size)?;
    Some(end.div_ceil(PAGE_SIZE) - address / PAGE_SIZE)
}

/// Whether this can name a program, a service or a device: 1 to [`MAX_NAME`] small letters, digits and `-`, a letter
/// first.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-')
}
