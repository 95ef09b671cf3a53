//! What the kernel wants to know of the machine, gathered from its devicetree in one walk.

use anos_abi::MAX_CORES;
use anos_core::boot::Run;

use crate::devicetree::{Devicetree, Malformed, Token, cells, strings, word};
use crate::paging::Mode;
use crate::runs::{Full, RunList};

/// Nodes inside each other; deeper ones are an error.
const DEPTH: usize = 12;
/// Bytes of command line that are kept.
const COMMAND_LINE_BYTES: usize = 512;
/// The interrupt number of "supervisor external" at a hart, in `interrupts-extended`.
const SUPERVISOR_EXTERNAL: u32 = 9;

/// Platform-level interrupt controllers.
const PLICS: [&[u8]; 3] = [b"riscv,plic0", b"sifive,plic-1.0.0", b"thead,c900-plic"];
/// Devices that make timer and inter-core interrupts; the firmware's.
const CLINTS: [&[u8]; 5] =
    [b"riscv,clint0", b"sifive,clint0", b"riscv,aclint-mswi", b"riscv,aclint-mtimer", b"riscv,aclint-sswi"];

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

/// The platform-level interrupt controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// Its registers; 0 bytes if the machine has none.
    pub registers: Run,
    /// The highest interrupt line.
    pub lines: u32,
    /// The context that interrupts the boot hart in supervisor mode, if one does. It may be 0: a virtual machine's
    /// controller has no contexts for machine mode.
    pub context: Option<u32>,
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
    /// Every processor has double-precision floating point.
    floating_point: bool,
    /// What every processor can do, if asked for.
    pub mode: Mode,
    /// The interrupt controller.
    pub controller: Controller,
    command_line: [u8; COMMAND_LINE_BYTES],
    command_line_bytes: usize,
}

/// The properties of a node that matter here.
#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    name: &'a [u8],
    address_cells: u32,
    size_cells: u32,
    reg: &'a [u8],
    compatible: &'a [u8],
    device_type: &'a [u8],
    status: &'a [u8],
    isa: &'a [u8],
    isa_extensions: &'a [u8],
    mmu: &'a [u8],
    interrupts: &'a [u8],
    phandle: u32,
    lines: u32,
}

impl<'a> Node<'a> {
    const EMPTY: Node<'static> = Node {
        name: &[],
        address_cells: 2,
        size_cells: 1,
        reg: &[],
        compatible: &[],
        device_type: &[],
        status: &[],
        isa: &[],
        isa_extensions: &[],
        mmu: &[],
        interrupts: &[],
        phandle: 0,
        lines: 0,
    };

    fn set(&mut self, name: &[u8], value: &'a [u8]) {
        let texts: [(&[u8], &mut &'a [u8]); 8] = [
            (b"reg", &mut self.reg),
            (b"compatible", &mut self.compatible),
            (b"device_type", &mut self.device_type),
            (b"status", &mut self.status),
            (b"riscv,isa", &mut self.isa),
            (b"riscv,isa-extensions", &mut self.isa_extensions),
            (b"mmu-type", &mut self.mmu),
            (b"interrupts-extended", &mut self.interrupts),
        ];
        for (key, field) in texts {
            if name == key {
                *field = value;
            }
        }
        let numbers: [(&[u8], &mut u32); 4] = [
            (b"#address-cells", &mut self.address_cells),
            (b"#size-cells", &mut self.size_cells),
            (b"phandle", &mut self.phandle),
            (b"riscv,ndev", &mut self.lines),
        ];
        for (key, field) in numbers {
            if name == key {
                *field = word(value, 0).unwrap_or(0);
            }
        }
    }

    /// The name without the unit address.
    fn base_name(&self) -> &[u8] {
        self.name.split(|&byte| byte == b'@').next().unwrap_or(self.name)
    }

    fn is(&self, device_type: &[u8]) -> bool {
        strings(self.device_type).next() == Some(device_type)
    }

    fn is_any(&self, kinds: &[&[u8]]) -> bool {
        strings(self.compatible).any(|name| kinds.contains(&name))
    }

    fn is_available(&self) -> bool {
        matches!(strings(self.status).next(), None | Some(b"okay" | b"ok"))
    }

    fn has_extension(&self, name: &[u8]) -> bool {
        // The old property is one string with underscores, the new one a list of strings.
        let has = |list: &[u8]| list.split(|&byte| byte == b'_' || byte == 0).any(|part| part == name);
        has(self.isa) || has(self.isa_extensions)
    }

    /// Extension D. The old property starts with single letters, `g` standing for several; the ones for longer names
    /// (s, x, z) end them.
    fn has_double_precision(&self) -> bool {
        let letters = self.isa.iter().take_while(|letter| !b"_sxz\0".contains(letter));
        letters.skip(b"rv64".len()).any(|letter| b"dg".contains(letter)) || self.has_extension(b"d")
    }

    /// The runs in `reg`. The addresses are taken for physical ones: no known machine translates them on the way from
    /// the root to what we look at.
    fn runs(&self, parent: &Node<'_>) -> impl Iterator<Item = Run> + use<'a> {
        let (reg, address_cells, size_cells) = (self.reg, parent.address_cells.min(8), parent.size_cells.min(8));
        let stride = (address_cells + size_cells).max(1) as usize;
        (0..reg.len() / (4 * stride)).map(move |place| Run {
            address: cells(reg, place * stride, address_cells).unwrap_or(0),
            bytes: cells(reg, place * stride + address_cells as usize, size_cells).unwrap_or(0),
        })
    }
}

impl Description {
    /// A machine without anything. All zeros, so that it takes no space in the image.
    pub const fn empty() -> Self {
        Description {
            ram: RunList::new(),
            free: RunList::new(),
            private: RunList::new(),
            processors: [Processor { hart_id: 0, phandle: 0 }; MAX_CORES],
            processor_count: 0,
            frequency: 0,
            sstc: false,
            floating_point: false,
            mode: Mode::Sv39,
            controller: Controller { registers: Run { address: 0, bytes: 0 }, lines: 0, context: None },
            command_line: [0; COMMAND_LINE_BYTES],
            command_line_bytes: 0,
        }
    }

    /// Reads the devicetree of a machine that was booted by this hart.
    pub fn read(tree: &Devicetree<'_>, boot_hart: u64) -> Result<Self, Unusable> {
        let mut found = Description { sstc: true, floating_point: true, mode: Mode::Sv48, ..Description::empty() };
        let mut reserved = RunList::new();
        let mut contexts: &[u8] = &[];
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
                    if let Some((node, above)) = path.split_last_mut() {
                        node.set(name, value);
                        found.property(node, above, name, value);
                    }
                }
                Token::End => {
                    if let Some((node, above)) = path.get(..depth).unwrap_or(&[]).split_last() {
                        found.node(node, above, &mut reserved, &mut contexts)?;
                    }
                    depth -= 1;
                }
            }
        }
        for (address, bytes) in tree.reservations() {
            reserved.add(whole_pages(Run { address, bytes }))?;
        }
        found.free = found.ram;
        for &run in reserved.as_slice() {
            found.free.subtract(run)?;
        }
        let boot = found.processors().iter().find(|processor| processor.hart_id == boot_hart);
        let phandle = boot.ok_or(Unusable::NoBootHart)?.phandle;
        if !found.floating_point {
            return Err(Unusable::NoFloatingPoint);
        }
        found.controller.context = context_of(phandle, contexts);
        Ok(found)
    }

    /// The processors, in the devicetree's order.
    pub fn processors(&self) -> &[Processor] {
        self.processors.get(..self.processor_count).unwrap_or(&[])
    }

    /// The command line.
    pub fn command_line(&self) -> &[u8] {
        self.command_line.get(..self.command_line_bytes).unwrap_or(&[])
    }

    /// What counts at once, with no need of the whole node.
    fn property(&mut self, node: &Node<'_>, above: &[Node<'_>], name: &[u8], value: &[u8]) {
        if above.len() != 1 {
            return;
        }
        if name == b"bootargs" && node.base_name() == b"chosen" {
            let text = strings(value).next().unwrap_or(&[]);
            self.command_line_bytes = text.len().min(COMMAND_LINE_BYTES);
            for (to, &from) in self.command_line.iter_mut().zip(text) {
                *to = from;
            }
        } else if name == b"timebase-frequency" && node.base_name() == b"cpus" {
            // One word or two, whatever #address-cells says.
            self.frequency = cells(value, 0, if value.len() < 8 { 1 } else { 2 }).unwrap_or(0);
        }
    }

    /// A node is complete. Its children came before it.
    fn node<'a>(
        &mut self,
        node: &Node<'a>,
        above: &[Node<'_>],
        reserved: &mut RunList,
        contexts: &mut &'a [u8],
    ) -> Result<(), Full> {
        let Some(parent) = above.last() else { return Ok(()) };
        let in_cpus = |node: Option<&Node<'_>>| node.is_some_and(|node| node.base_name() == b"cpus");
        if node.is(b"memory") && above.len() == 1 {
            node.runs(parent).try_for_each(|run| self.ram.add(run))?;
        } else if parent.base_name() == b"reserved-memory" {
            node.runs(parent).try_for_each(|run| reserved.add(whole_pages(run)))?;
        } else if node.is(b"cpu") && in_cpus(Some(parent)) {
            self.processor(node, parent);
        } else if node.base_name() == b"interrupt-controller" && parent.is(b"cpu") {
            // The processor itself ends later; its place in the list is the next.
            if let Some(processor) = self.processors.get_mut(self.processor_count) {
                processor.phandle = node.phandle;
            }
        }
        let is_plic = node.is_any(&PLICS);
        if is_plic || node.is_any(&CLINTS) {
            node.runs(parent).try_for_each(|run| self.private.add(whole_pages(run)))?;
        }
        if is_plic && let Some(registers) = node.runs(parent).next() {
            self.controller = Controller { registers, lines: node.lines.min(1023), context: None };
            *contexts = node.interrupts;
        }
        Ok(())
    }

    fn processor(&mut self, node: &Node<'_>, parent: &Node<'_>) {
        let mode = match strings(node.mmu).next() {
            Some(b"riscv,sv48" | b"riscv,sv57") => Mode::Sv48,
            Some(b"riscv,sv39") => Mode::Sv39,
            // Without paging (or with a kind that isn't known) there is no place for Anos on it.
            _ => return,
        };
        if !node.is_available() {
            return;
        }
        let Some(processor) = self.processors.get_mut(self.processor_count) else { return };
        let Some(hart_id) = cells(node.reg, 0, parent.address_cells) else { return };
        processor.hart_id = hart_id;
        self.processor_count += 1;
        self.sstc &= node.has_extension(b"sstc");
        self.floating_point &= node.has_double_precision();
        if mode == Mode::Sv39 {
            self.mode = Mode::Sv39;
        }
    }
}

/// The interrupt controller's context for a hart's supervisor mode: its place in the list of (hart, interrupt).
fn context_of(phandle: u32, contexts: &[u8]) -> Option<u32> {
    let place = (0..contexts.len() / 8).find(|&place| {
        word(contexts, 8 * place) == Some(phandle) && word(contexts, 8 * place + 4) == Some(SUPERVISOR_EXTERNAL)
    })?;
    u32::try_from(place).ok()
}

/// Every page that a run touches.
fn whole_pages(run: Run) -> Run {
    let page = anos_abi::PAGE_SIZE;
    let start = run.address & !(page - 1);
    let end = crate::runs::end_of(run).checked_next_multiple_of(page).unwrap_or(u64::MAX);
    Run { address: start, bytes: end - start }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::devicetree::tests::Writer;
    use std::vec::Vec;

    fn cpu(writer: &mut Writer, hart: u32, isa: &str, mmu: &str, status: &str) {
        writer.begin(&std::format!("cpu@{hart}")).property("device_type", b"cpu\0").words("reg", &[hart]);
        writer.property("status", status.as_bytes()).property("riscv,isa", isa.as_bytes());
        writer.property("mmu-type", mmu.as_bytes());
        writer.begin("interrupt-controller").words("phandle", &[100 + hart]).end().end();
    }

    fn machine(second_isa: &str, second_mmu: &str) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.begin("").words("#address-cells", &[2]).words("#size-cells", &[2]);
        writer.begin("chosen").property("bootargs", b"paging=sv39 quiet\0").end();
        writer.begin("memory@80000000").property("device_type", b"memory\0");
        writer.words("reg", &[0, 0x8000_0000, 0, 0x800_0000]).end();
        writer.begin("reserved-memory").words("#address-cells", &[2]).words("#size-cells", &[2]);
        writer.begin("mmode_resv0@80001000").words("reg", &[0, 0x8000_1000, 0, 0x7_f000]).end().end();
        writer.begin("cpus").words("#address-cells", &[1]).words("#size-cells", &[0]);
        writer.words("timebase-frequency", &[10_000_000]);
        cpu(&mut writer, 3, "rv64imafdch_zba_sstc\0", "riscv,sv48\0", "okay\0");
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
        Description::read(&Devicetree::new(blob)?, boot_hart)
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
        assert_eq!(found.controller.lines, 96);
        assert_eq!(found.controller.context, Some(3));
        assert_eq!(found.private.bytes(), 0x61_0000);
        assert_eq!(read(&machine("rv64gc_sstc\0", "riscv,sv57\0"), 3).unwrap().controller.context, Some(1));
    }

    #[test]
    fn a_controller_may_have_a_first_context_for_the_boot_hart_or_none() {
        let contexts = |list: &[u32]| {
            let bytes: Vec<u8> = list.iter().flat_map(|word| word.to_be_bytes()).collect();
            context_of(103, &bytes)
        };
        assert_eq!(contexts(&[103, 9, 107, 9]), Some(0));
        assert_eq!(contexts(&[103, 11, 107, 9]), None);
    }

    #[test]
    fn the_weakest_processor_decides() {
        let found = read(&machine("rv64gc\0", "riscv,sv39\0"), 3).unwrap();
        assert_eq!((found.sstc, found.mode), (false, Mode::Sv39));
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
