//! What the kernel wants to know of the machine, gathered from its devicetree in one walk.

use anos_abi::MAX_CORES;
use anos_core::boot::Run;
use anos_core::boot::runs::{Full, RunList};

use crate::controller::{CONTROLLERS, Controller, Listed, MACHINE_EXTERNAL, PLICS, choose};
use crate::devicetree::{Devicetree, Malformed, Token, cells, strings, word};
use crate::paging::Mode;

/// Nodes inside each other; deeper ones are an error.
const DEPTH: usize = 12;
/// Bytes of command line that are kept.
const COMMAND_LINE_BYTES: usize = 512;
/// Devices that make timer and inter-core interrupts; the firmware's.
const CLINTS: &[u8] = b"riscv,clint0\0sifive,clint0\0riscv,aclint-mswi\0riscv,aclint-mtimer\0riscv,aclint-sswi";

/// Why there is no description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The blob is broken.
    Malformed,
    /// More runs of memory than the kernel's list holds.
    TooManyRuns,
    /// The hart that boots isn't among the processors with paging.
    NoBootHart,
    /// A processor with paging lacks double-precision floating point.
    NoFloatingPoint,
}

impl From<Malformed> for Unusable {
    fn from(_: Malformed) -> Self {
        Unusable::Malformed
    }
}

impl From<Full> for Unusable {
    fn from(_: Full) -> Self {
        Unusable::TooManyRuns
    }
}

/// A processor that can be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    /// SBI's name for it.
    pub hart_id: u64,
    /// The devicetree's name for its interrupt inputs.
    phandle: u32,
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Main memory, all of it.
    pub ram: RunList,
    /// Main memory that is neither the firmware's nor otherwise reserved.
    pub free: RunList,
    /// Registers of devices that stay the kernel's and the firmware's: interrupt controllers and timers.
    pub private: RunList,
    /// The processors.
    processors: [Processor; MAX_CORES],
    processor_count: usize,
    /// Ticks per second of the `time` register; 0 if nobody says.
    pub frequency: u64,
    /// Every processor has `stimecmp`.
    pub sstc: bool,
    /// Every processor has vectors (extension V).
    pub vectors: bool,
    /// Every processor has double-precision floating point.
    floating_point: bool,
    /// What every processor can do, if asked for.
    pub mode: Mode,
    /// The interrupt controller.
    pub controller: Controller,
    command_line: [u8; COMMAND_LINE_BYTES],
    command_line_bytes: usize,
}

/// The properties that matter here, in the order of [`Property`].
const PROPERTIES: &[u8] = b"#address-cells\0#size-cells\0reg\0compatible\0device_type\0status\0riscv,isa\0\
riscv,isa-extensions\0mmu-type\0interrupts-extended\0phandle\0riscv,ndev\0riscv,num-sources\0riscv,num-ids\0\
riscv,guest-index-bits\0riscv,children\0bootargs\0timebase-frequency";
/// How many there are.
const PROPERTY_COUNT: usize = Property::TimebaseFrequency as usize + 1;

/// A property that matters here.
#[derive(Clone, Copy, Debug)]
enum Property {
    AddressCells,
    SizeCells,
    Reg,
    Compatible,
    DeviceType,
    Status,
    Isa,
    IsaExtensions,
    Mmu,
    Interrupts,
    Phandle,
    Lines,
    Sources,
    Identities,
    GuestBits,
    Children,
    CommandLine,
    TimebaseFrequency,
}

/// A node: its name, and the values of its properties; one that it lacks is empty.
#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    name: &'a [u8],
    values: [&'a [u8]; PROPERTY_COUNT],
}

impl<'a> Node<'a> {
    const EMPTY: Node<'static> = Node { name: &[], values: [&[]; PROPERTY_COUNT] };

    fn set(&mut self, name: &[u8], value: &'a [u8]) {
        if let Some((_, place)) = strings(PROPERTIES).zip(&mut self.values).find(|(key, _)| *key == name) {
            *place = value;
        }
    }

    fn value(&self, property: Property) -> &'a [u8] {
        self.values[property as usize]
    }

    /// A property's first word.
    fn number(&self, property: Property, default: u32) -> u32 {
        word(self.value(property), 0).unwrap_or(default)
    }

    fn address_cells(&self) -> u32 {
        self.number(Property::AddressCells, 2)
    }

    /// Whether this is its name, but for the unit address.
    fn is_named(&self, name: &[u8]) -> bool {
        begins(self.name, name, b'@')
    }

    fn is(&self, device_type: &[u8]) -> bool {
        begins(self.value(Property::DeviceType), device_type, 0)
    }

    fn is_any(&self, kinds: &[u8]) -> bool {
        strings(self.value(Property::Compatible)).any(|kind| lists(kinds, kind, 0))
    }

    fn is_available(&self) -> bool {
        let status = self.value(Property::Status);
        status.is_empty() || begins(status, b"okay", 0) || begins(status, b"ok", 0)
    }

    fn has_extension(&self, name: &[u8]) -> bool {
        // The old property is one string with underscores, the new one a list of strings.
        lists(self.value(Property::Isa), name, b'_') || lists(self.value(Property::IsaExtensions), name, b'_')
    }

    /// An extension of one letter. The old property starts with these, `g` standing for several, D among them; the ones
    /// for longer names (s, x, z) end them.
    fn has_letter(&self, letter: u8) -> bool {
        let letters = self.value(Property::Isa).iter().take_while(|letter| !b"_sxz\0".contains(letter));
        letters.skip(b"rv64".len()).any(|&one| one == letter || letter == b'd' && one == b'g')
            || self.has_extension(&[letter])
    }

    /// Whether this is an APLIC or an IMSIC that serves machine mode alone: it hands its wires on to others, or interrupts
    /// no other mode.
    fn is_machine_mode_s(&self) -> bool {
        let serves = word(self.value(Property::Interrupts), 4);
        !self.is_any(PLICS) && (serves == Some(MACHINE_EXTERNAL) || !self.value(Property::Children).is_empty())
    }

    /// A run in `reg`, if there are so many. The addresses are taken for physical ones: no known machine translates them
    /// on the way from the root to what we look at.
    fn run(&self, parent: &Node<'_>, place: usize) -> Option<Run> {
        let (address_cells, size_cells) = (parent.address_cells().min(8), parent.number(Property::SizeCells, 1).min(8));
        let first = place * (address_cells + size_cells).max(1) as usize;
        let bytes = cells(self.value(Property::Reg), first + address_cells as usize, size_cells)?;
        Some(Run { address: cells(self.value(Property::Reg), first, address_cells)?, bytes })
    }
}

/// Whether a text is a word, or starts with it and a separator.
#[inline(never)]
fn begins(text: &[u8], word: &[u8], separator: u8) -> bool {
    text.strip_prefix(word).is_some_and(|rest| rest.first().is_none_or(|&byte| byte == separator))
}

/// Whether a list of strings, or of words with another separator, has this one.
#[inline(never)]
pub fn lists(list: &[u8], word: &[u8], separator: u8) -> bool {
    list.split(|&byte| byte == 0 || byte == separator).any(|part| part == word)
}

impl Description {
    /// A machine without anything. All zeros, so that it takes no space in the image.
    pub const EMPTY: Description = Description {
        ram: RunList::EMPTY,
        free: RunList::EMPTY,
        private: RunList::EMPTY,
        processors: [Processor { hart_id: 0, phandle: 0 }; MAX_CORES],
        processor_count: 0,
        frequency: 0,
        sstc: false,
        vectors: false,
        floating_point: false,
        mode: Mode::Sv39,
        controller: Controller::NONE,
        command_line: [0; COMMAND_LINE_BYTES],
        command_line_bytes: 0,
    };

    /// Reads the devicetree of a machine that was booted by this hart. `self` is [`EMPTY`](Self::EMPTY) before, and worth
    /// nothing after an error: it is too large to be handed around.
    pub fn read(&mut self, tree: &Devicetree<'_>, boot_hart: u64) -> Result<(), Unusable> {
        (self.sstc, self.vectors, self.floating_point, self.mode) = (true, true, true, Mode::Sv48);
        let mut reserved = RunList::EMPTY;
        let mut controllers = [Listed::default(); CONTROLLERS.len()];
        let mut path = [Node::EMPTY; DEPTH];
        let mut depth = 0;
        let mut tokens = tree.tokens();
        while let Some(token) = tokens.advance()? {
            match token {
                Token::Begin(name) => {
                    *path.get_mut(depth).ok_or(Malformed)? = Node { name, ..Node::EMPTY };
                    depth += 1;
                }
                Token::Property(name, value) => {
                    let path = path.get_mut(..depth).unwrap_or(&mut []);
                    if let Some(node) = path.last_mut() {
                        node.set(name, value);
                    }
                }
                Token::End => {
                    if let Some((node, above)) = path.get(..depth).unwrap_or(&[]).split_last() {
                        self.node(node, above, &mut reserved, &mut controllers)?;
                    }
                    depth -= 1;
                }
            }
        }
        for (address, bytes) in tree.reservations() {
            reserved.cover(Run { address, bytes })?;
        }
        self.free = self.ram;
        for &run in reserved.as_slice() {
            self.free.subtract(run)?;
        }
        let boot = self.processors().iter().find(|processor| processor.hart_id == boot_hart);
        let phandle = boot.ok_or(Unusable::NoBootHart)?.phandle;
        if !self.floating_point {
            return Err(Unusable::NoFloatingPoint);
        }
        self.controller = choose(phandle, &controllers);
        Ok(())
    }

    /// The processors, in the devicetree's order.
    pub fn processors(&self) -> &[Processor] {
        self.processors.get(..self.processor_count).unwrap_or(&[])
    }

    /// The command line.
    pub fn command_line(&self) -> &[u8] {
        self.command_line.get(..self.command_line_bytes).unwrap_or(&[])
    }

    /// A node is complete. Its children came before it.
    fn node<'a>(
        &mut self,
        node: &Node<'a>,
        above: &[Node<'_>],
        reserved: &mut RunList,
        controllers: &mut [Listed<'a>; CONTROLLERS.len()],
    ) -> Result<(), Full> {
        let Some(parent) = above.last() else { return Ok(()) };
        if above.len() == 1 {
            self.node_of_root(node);
        }
        if node.is(b"cpu") && parent.is_named(b"cpus") {
            self.processor(node, parent);
        } else if node.is_named(b"interrupt-controller") && parent.is(b"cpu") {
            // The processor itself ends later; its place in the list is the next.
            if let Some(processor) = self.processors.get_mut(self.processor_count) {
                processor.phandle = node.number(Property::Phandle, 0);
            }
        }
        let is_memory = node.is(b"memory") && above.len() == 1;
        let controller = CONTROLLERS.iter().zip(controllers).find(|(kinds, _)| node.is_any(kinds));
        let list = if is_memory {
            &mut self.ram
        } else if parent.is_named(b"reserved-memory") {
            reserved
        } else if controller.is_some() || node.is_any(CLINTS) {
            &mut self.private
        } else {
            return Ok(());
        };
        let mut place = 0;
        while let Some(run) = node.run(parent, place) {
            if is_memory { list.add(run) } else { list.cover(run) }?;
            place += 1;
        }
        if let Some((_, controller)) = controller
            && node.is_available()
            && !node.is_machine_mode_s()
        {
            *controller = Listed {
                registers: node.run(parent, 0).unwrap_or_default(),
                lines: [Property::Lines, Property::Sources, Property::Identities]
                    .iter()
                    .map(|&lines| node.number(lines, 0))
                    .fold(0, u32::max),
                guest_bits: node.number(Property::GuestBits, 0),
                contexts: node.value(Property::Interrupts),
            };
        }
        Ok(())
    }

    /// A child of the root is complete.
    fn node_of_root(&mut self, node: &Node<'_>) {
        if node.is_named(b"chosen") {
            let text = strings(node.value(Property::CommandLine)).next().unwrap_or(&[]);
            self.command_line_bytes = text.len().min(COMMAND_LINE_BYTES);
            for (to, &from) in self.command_line.iter_mut().zip(text) {
                *to = from;
            }
        } else if node.is_named(b"cpus") {
            // One word or two, whatever #address-cells says.
            let value = node.value(Property::TimebaseFrequency);
            self.frequency = cells(value, 0, if value.len() < 8 { 1 } else { 2 }).unwrap_or(0);
        }
    }

    fn processor(&mut self, node: &Node<'_>, parent: &Node<'_>) {
        let paging = node.value(Property::Mmu);
        let is_sv39 = begins(paging, b"riscv,sv39", 0);
        // Without paging (or with a kind that isn't known) there is no place for Anos on it.
        if !(is_sv39 || begins(paging, b"riscv,sv48", 0) || begins(paging, b"riscv,sv57", 0)) || !node.is_available() {
            return;
        }
        let Some(processor) = self.processors.get_mut(self.processor_count) else { return };
        let Some(hart_id) = cells(node.value(Property::Reg), 0, parent.address_cells()) else { return };
        processor.hart_id = hart_id;
        self.processor_count += 1;
        self.sstc &= node.has_extension(b"sstc");
        self.floating_point &= node.has_letter(b'd');
        self.vectors &= node.has_letter(b'v');
        if is_sv39 {
            self.mode = Mode::Sv39;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::controller::Kind;
    use crate::devicetree::tests::Writer;
    use std::vec::Vec;

    fn cpu(writer: &mut Writer, hart: u32, isa: &str, mmu: &str, status: &str) {
        writer.begin(&std::format!("cpu@{hart}")).property("device_type", b"cpu\0").words("reg", &[hart]);
        writer.property("status", status.as_bytes()).property("riscv,isa", isa.as_bytes());
        writer.property("mmu-type", mmu.as_bytes());
        writer.begin("interrupt-controller").words("phandle", &[100 + hart]).end().end();
    }

    fn machine(second_isa: &str, second_mmu: &str) -> Vec<u8> {
        machine_of(["rv64imafdch_zba_sstc\0", second_isa], second_mmu)
    }

    fn machine_of([first_isa, second_isa]: [&str; 2], second_mmu: &str) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.begin("").words("#address-cells", &[2]).words("#size-cells", &[2]);
        writer.begin("chosen").property("bootargs", b"paging=sv39 quiet\0").end();
        writer.begin("memory@80000000").property("device_type", b"memory\0");
        writer.words("reg", &[0, 0x8000_0000, 0, 0x800_0000]).end();
        writer.begin("reserved-memory").words("#address-cells", &[2]).words("#size-cells", &[2]);
        writer.begin("mmode_resv0@80001000").words("reg", &[0, 0x8000_1000, 0, 0x7_f000]).end().end();
        writer.begin("cpus").words("#address-cells", &[1]).words("#size-cells", &[0]);
        writer.words("timebase-frequency", &[10_000_000]);
        cpu(&mut writer, 3, first_isa, "riscv,sv48\0", "okay\0");
        cpu(&mut writer, 5, "rv64imac\0", "riscv,sv48\0", "disabled\0");
        cpu(&mut writer, 7, second_isa, second_mmu, "okay\0");
        cpu(&mut writer, 9, "rv64imac\0", "riscv,none\0", "okay\0");
        writer.end();
        writer.begin("soc").words("#address-cells", &[2]).words("#size-cells", &[2]);
        writer.begin("plic@c000000").property("compatible", b"sifive,plic-1.0.0\0riscv,plic0\0");
        writer.words("reg", &[0, 0xc00_0000, 0, 0x60_0000]).words("riscv,ndev", &[96]);
        writer.words("interrupts-extended", &[103, 11, 103, 9, 107, 11, 107, 9]).end();
        writer.begin("clint@2000000").property("compatible", b"riscv,clint0\0");
        writer.words("reg", &[0, 0x200_0000, 0, 0x1_0000]).end();
        writer.end().end();
        writer.finish()
    }

    fn read(blob: &[u8], boot_hart: u64) -> Result<Description, Unusable> {
        let mut found = Description::EMPTY;
        found.read(&Devicetree::new(blob)?, boot_hart)?;
        Ok(found)
    }

    #[test]
    fn a_machine_is_described() {
        let found = read(&machine("rv64gc_sstc\0", "riscv,sv57\0"), 7).unwrap();
        assert_eq!(found.ram.as_slice(), &[Run { address: 0x8000_0000, bytes: 0x800_0000 }]);
        // The first page is in the reservation block, the rest of the firmware in reserved-memory.
        assert_eq!(found.free.as_slice(), &[Run { address: 0x8008_0000, bytes: 0x7f8_0000 }]);
        assert_eq!(found.processors().iter().map(|cpu| cpu.hart_id).collect::<Vec<_>>(), [3, 7]);
        assert_eq!((found.frequency, found.sstc, found.mode), (10_000_000, true, Mode::Sv48));
        assert_eq!(found.command_line(), b"paging=sv39 quiet");
        let registers = Run { address: 0xc00_0000, bytes: 0x20_4000 };
        let plic = Controller { kind: Kind::Plic, registers, wires: 96, lines: 96, context: 3, messages: 0 };
        assert_eq!(found.controller, plic);
        assert_eq!(found.private.bytes(), 0x61_0000);
        assert_eq!(read(&machine("rv64gc_sstc\0", "riscv,sv57\0"), 3).unwrap().controller.context, 1);
    }

    /// A machine with an APLIC (and IMSICs) for each mode; machine mode's comes last. `imsic`: bytes of registers, bits.
    fn advanced(imsic: Option<[u32; 2]>, disabled: bool) -> Description {
        let mut writer = Writer::default();
        writer.begin("").words("#address-cells", &[2]).words("#size-cells", &[2]);
        writer.begin("cpus").words("#address-cells", &[1]).words("#size-cells", &[0]);
        for hart in [3, 7] {
            cpu(&mut writer, hart, "rv64gc\0", "riscv,sv39\0", "okay\0");
        }
        writer.end();
        for (base, external, children) in [(0xd00_0000, 9, false), (0xc00_0000, 11, true)] {
            writer.begin("aplic").property("compatible", b"riscv,aplic\0");
            writer.words("reg", &[0, base, 0, 0x8000]).words("riscv,num-sources", &[96]);
            if disabled && external == 11 {
                writer.property("status", b"disabled\0");
            } else if children {
                writer.words("riscv,children", &[1]);
            }
            if imsic.is_none() {
                writer.words("interrupts-extended", &[103, external, 107, external]);
            }
            writer.end();
            if let Some([bytes, bits]) = imsic {
                writer.begin("imsics").property("compatible", b"riscv,imsics\0");
                writer.words("reg", &[0, base << 1, 0, bytes]).words("riscv,num-ids", &[2047]);
                writer.words("riscv,guest-index-bits", &[bits]);
                writer.words("interrupts-extended", &[103, external, 107, external]).end();
            }
        }
        writer.end();
        read(&writer.finish(), 7).unwrap()
    }

    #[test]
    fn the_supervisor_s_aplic_and_imsics_are_told_from_machine_mode_s() {
        let registers = |bytes| Run { address: 0xd00_0000, bytes };
        let alone = Controller {
            kind: Kind::Aplic,
            registers: registers(0x5000),
            wires: 96,
            lines: 96,
            context: 1,
            messages: 0,
        };
        for disabled in [false, true] {
            let found = advanced(None, disabled);
            assert_eq!((found.controller, found.private.bytes()), (alone, 0x1_0000));
            let found = advanced(Some([0x2_0000, 2]), disabled);
            let messages = 0x1a00_0000 + 0x4000;
            let with = Controller { registers: registers(0x4000), lines: 255, messages, ..alone };
            assert_eq!((found.controller, found.private.bytes()), (with, 0x5_0000));
        }
        // The boot hart's page would lie past the first run.
        assert_eq!(advanced(Some([0x4000, 2]), false).controller, Controller::NONE);
    }

    #[test]
    fn the_weakest_processor_decides() {
        let found = read(&machine("rv64gc\0", "riscv,sv39\0"), 3).unwrap();
        assert_eq!((found.sstc, found.vectors, found.mode), (false, false, Mode::Sv39));
    }

    #[test]
    fn vectors_are_there_if_every_processor_has_them() {
        for (isa, vectors) in [
            ("rv64imafdcvh_sstc\0", true),
            ("rv64gcv\0", true),
            ("rv64gc_v\0", true),
            ("rv64gc_svinval_zvl128b\0", false),
            ("rv64gcsv\0", false),
        ] {
            let with = machine_of(["rv64gcv\0", isa], "riscv,sv39\0");
            assert_eq!(read(&with, 3).unwrap().vectors, vectors, "{isa}");
        }
        assert!(!read(&machine("rv64gcv\0", "riscv,sv39\0"), 3).unwrap().vectors);
    }

    #[test]
    fn a_processor_without_double_precision_is_an_error() {
        for isa in ["rv64imac\0", "rv64imafc_sstc_zfd\0", "rv64imafcsd\0", "\0"] {
            assert_eq!(read(&machine(isa, "riscv,sv39\0"), 3).err(), Some(Unusable::NoFloatingPoint), "{isa:?}");
        }
        for isa in ["rv64gc\0", "rv64imafdch_sstc\0", "rv64imafdcsu\0", "rv64imafc_d\0"] {
            assert!(read(&machine(isa, "riscv,sv39\0"), 3).is_ok(), "{isa:?}");
        }
    }

    #[test]
    fn a_boot_hart_that_is_not_listed_is_an_error() {
        assert_eq!(read(&machine("rv64gc\0", "riscv,sv39\0"), 5).err(), Some(Unusable::NoBootHart));
    }

    #[test]
    fn broken_trees_are_errors_and_never_panics() {
        let blob = machine("rv64gc\0", "riscv,sv39\0");
        for length in 0..blob.len() {
            assert_eq!(read(&blob[..length], 3).err(), Some(Unusable::Malformed));
        }
        for place in 0..blob.len() {
            for value in [0, 1, 3, 4, 9, 0x80, 0xff] {
                let mut changed = blob.clone();
                changed[place] = value;
                let _ = read(&changed, 3);
            }
        }
    }

    #[test]
    fn nodes_too_deep_inside_each_other_are_an_error() {
        let mut writer = Writer::default();
        for _ in 0..DEPTH + 1 {
            writer.begin("a").words("reg", &[0]);
        }
        for _ in 0..DEPTH + 1 {
            writer.end();
        }
        assert_eq!(read(&writer.finish(), 0).err(), Some(Unusable::Malformed));
    }
}
