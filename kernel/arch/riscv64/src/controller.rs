//! Which interrupt controller serves the boot hart, among those that the devicetree lists, and where.

use anos_abi::PAGE_SIZE;
use anos_core::boot::Run;
use anos_core::bounds::MAX_INTERRUPTS;

use crate::devicetree::word;

/// The interrupt number of "supervisor external" at a hart, in `interrupts-extended`.
const SUPERVISOR_EXTERNAL: u32 = 9;
/// The same of "machine external".
pub const MACHINE_EXTERNAL: u32 = 11;

/// Platform-level interrupt controllers.
pub const PLICS: &[u8] = b"riscv,plic0\0sifive,plic-1.0.0\0thead,c900-plic";
/// Interrupt controllers: PLICs; the advanced ones for wires, and for messages.
pub const CONTROLLERS: [&[u8]; 3] = [PLICS, b"riscv,aplic", b"riscv,imsics"];

/// Bytes of registers of a PLIC in front of those of its contexts, and of those.
const PLIC_BYTES: u64 = 0x20_0000;
const PLIC_CONTEXT_BYTES: u64 = 0x1000;
/// The same of an APLIC and its harts.
const APLIC_BYTES: u64 = 0x4000;
const APLIC_HART_BYTES: u64 = 32;
/// The last line that the core can keep track of.
const MAX_LINE: u32 = 255;
const _: () = assert!(MAX_LINE as usize + 1 == MAX_INTERRUPTS);

/// What kind of interrupt controller a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// None that could interrupt the boot hart.
    None,
    /// A PLIC.
    Plic,
    /// An APLIC, with IMSICs or without.
    Aplic,
}

/// The interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller {
    /// What it is.
    pub kind: Kind,
    /// The pages with the registers that the kernel needs; none if there is no controller.
    pub registers: Run,
    /// The last line that is a wire.
    pub wires: u32,
    /// The last line; those above `wires` are messages.
    pub lines: u32,
    /// Which of the things that it can interrupt is the boot hart's supervisor mode: a PLIC's context, or the hart's
    /// number among those of an APLIC or of the IMSICs. It may be 0.
    pub context: u32,
    /// Physical address of the page where the boot hart takes messages, if wires come as messages too; else 0.
    pub messages: u64,
}

impl Controller {
    /// No controller.
    pub const NONE: Controller = Controller {
        kind: Kind::None,
        registers: Run { address: 0, bytes: 0 },
        wires: 0,
        lines: 0,
        context: 0,
        messages: 0,
    };
}

/// An interrupt controller, as the devicetree has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed<'a> {
    /// Its first run of registers.
    pub registers: Run,
    /// Lines of a PLIC or an APLIC, identities of an IMSIC.
    pub lines: u32,
    /// IMSICs: each takes 2 to the power of this pages.
    pub guest_bits: u32,
    /// What it interrupts: pairs of a hart's phandle and an interrupt number.
    pub contexts: &'a [u8],
}

/// The controller that interrupts the hart with this phandle; none if it ends before the registers that the kernel needs.
pub fn choose(phandle: u32, [plic, aplic, imsic]: &[Listed<'_>; CONTROLLERS.len()]) -> Controller {
    let found = |kind, listed: &Listed<'_>, context: u32, bytes: u64| {
        let registers = Run { bytes: bytes.next_multiple_of(PAGE_SIZE), ..listed.registers };
        let lines = listed.lines.min(MAX_LINE);
        let controller = Controller { kind, registers, wires: lines, lines, context, messages: 0 };
        if listed.registers.bytes < bytes { Controller::NONE } else { controller }
    };
    if let Some(context) = context_of(phandle, plic.contexts) {
        return found(Kind::Plic, plic, context, PLIC_BYTES + PLIC_CONTEXT_BYTES * (u64::from(context) + 1));
    }
    if let Some(hart) = context_of(phandle, aplic.contexts) {
        return found(Kind::Aplic, aplic, hart, APLIC_BYTES + APLIC_HART_BYTES * (u64::from(hart) + 1));
    }
    let Some(hart) = context_of(phandle, imsic.contexts) else { return Controller::NONE };
    let offset = u64::from(hart) << (12 + imsic.guest_bits.min(7));
    let lines = imsic.lines.min(MAX_LINE);
    let aplic = found(Kind::Aplic, aplic, hart, APLIC_BYTES);
    // More harts than the first run of pages has: they lie in groups, which nobody numbers for us.
    if imsic.registers.bytes < offset + PAGE_SIZE {
        return Controller::NONE;
    }
    Controller { wires: aplic.wires.min(lines), lines, messages: imsic.registers.address + offset, ..aplic }
}

/// The interrupt controller's context for a hart's supervisor mode: its place in the list of (hart, interrupt).
fn context_of(phandle: u32, contexts: &[u8]) -> Option<u32> {
    let place = (0..contexts.len() / 8).find(|&place| {
        word(contexts, 8 * place) == Some(phandle) && word(contexts, 8 * place + 4) == Some(SUPERVISOR_EXTERNAL)
    })?;
    u32::try_from(place).ok()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_controller_may_have_a_first_context_for_the_boot_hart_or_none() {
        let contexts = |list: &[u32]| {
            let bytes: Vec<u8> = list.iter().flat_map(|word| word.to_be_bytes()).collect();
            context_of(103, &bytes)
        };
        assert_eq!(contexts(&[103, 9, 107, 9]), Some(0));
        assert_eq!(contexts(&[103, 11, 107, 9]), None);
    }
}
