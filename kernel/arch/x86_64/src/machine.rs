//! What the kernel's core asks of this machine.

use anos_abi::Error;
use anos_machine::{CoreId, Entry, Machine, Mapping, Registers, Reset, Thread};

use crate::percore::{self, CoreData};
use crate::{apic, console, cpu, ioapic, paging, patience, power, smp, tables, time, traps};

/// The machine, as seen from one core.
#[derive(Debug)]
pub struct Processor<'a>(pub &'a CoreData);

impl Machine for Processor<'_> {
    const CACHES_INVALID: bool = false;
    /// `syscall`.
    const SYSTEM_CALL_BYTES: u64 = 2;

    fn core(&self) -> CoreId {
        self.0.id
    }

    fn cores(&self) -> u64 {
        smp::running()
    }

    fn levels(&self) -> u8 {
        paging::LEVELS
    }

    fn user_end(&self) -> u64 {
        paging::USER_END
    }

    fn leaf(&self, mapping: Mapping) -> u64 {
        paging::leaf(mapping)
    }

    fn table(&self, address: u64) -> u64 {
        paging::table(address)
    }

    fn entry(&self, entry: u64, level: u8) -> Entry {
        paging::entry(entry, level)
    }

    fn fill_root(&self, root: &mut [u64; 512]) {
        tables::fill_root(root);
    }

    fn tags(&self) -> u64 {
        /// Address spaces that a core soon comes back to are few, and the TLB has room for few.
        const TAGS: u64 = 15;
        if percore::enabled(percore::PCID) { TAGS } else { 0 }
    }

    fn load_root(&mut self, root: u64, tag: u64, flush: bool) {
        /// What the core knows of this tag stays (SDM 3A, 4.10.4.1).
        const KEEP: u64 = 1 << 63;
        let root = if root == 0 { tables::kernel_root() } else { root } | tag;
        // Nothing is kept of tag 0, which any address space may have if there are no others.
        let keep = if flush || tag == 0 { 0 } else { KEEP };
        // SAFETY: a root table whose upper half is the kernel's (`fill_root`), or the kernel's own; the tag is 0 unless
        // there are tags, and then fits into the low twelve bits.
        unsafe { cpu::load_root(root | keep) };
    }

    fn flush(&mut self) {
        // SAFETY: what is loaded already. Bit 63 reads as 0.
        unsafe { cpu::load_root(cpu::root()) };
    }

    fn synchronise_instructions(&mut self) {
        // The processor sees its own and others' writes to code by itself, and enters user mode through a
        // serialising instruction or a fresh fetch.
    }

    /// There are but `rcx` and `r11`, which count only beside flags.
    fn shown(&self, _registers: &mut Registers) {}

    fn changed(&self, thread: &mut Thread) {
        traps::changed(thread);
    }

    fn frame_pointer(&self, registers: &Registers) -> u64 {
        registers.words[7]
    }

    /// Linux's convention: number in rax; rdi, rsi, rdx, r10, r8, r9 (System V ABI, AMD64 supplement, A.2.1).
    fn foreign_call(&self, registers: &Registers) -> [u64; 7] {
        let Registers {
            words: [r8, r9, ..], operation: rax, label: rdi, slots: rsi, reply: rdx, deadline: r10, ..
        } = *registers;
        [rax, rdi, rsi, rdx, r10, r8, r9]
    }

    fn set_foreign_result(&self, registers: &mut Registers, result: u64) {
        registers.operation = result;
    }

    fn now(&self) -> u64 {
        time::now()
    }

    fn set_timer(&mut self, deadline: u64) {
        time::set_timer(self.0, deadline);
    }

    fn kick(&mut self, core: CoreId) {
        apic::send(core, apic::KICK);
    }

    fn relax(&self) {
        patience::wait(self.0);
    }

    fn interrupt_exists(&self, line: u32) -> bool {
        ioapic::exists(line)
    }

    fn interrupt_configure(&mut self, line: u32, level: bool, active_low: bool) {
        ioapic::configure(line, level, active_low);
    }

    fn interrupt_message(&self, line: u32) -> Result<(u64, u64), Error> {
        ioapic::message(line).ok_or(Error::Unsupported)
    }

    fn interrupt_unmask(&mut self, line: u32) {
        ioapic::unmask(line);
    }

    fn interrupt_mask(&mut self, line: u32) {
        ioapic::mask(line);
    }

    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, Error> {
        match size {
            1 => Ok(u32::from(cpu::in8(port))),
            2 => Ok(u32::from(cpu::in16(port))),
            4 => Ok(cpu::in32(port)),
            _ => Err(Error::InvalidArgument),
        }
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), Error> {
        let [a, b, _, _] = value.to_le_bytes();
        match size {
            1 => cpu::out8(port, a),
            2 => cpu::out16(port, u16::from_le_bytes([a, b])),
            4 => cpu::out32(port, value),
            _ => return Err(Error::InvalidArgument),
        }
        Ok(())
    }

    fn console_write(&mut self, bytes: &[u8]) {
        console::write(bytes);
    }

    fn reset(&mut self, reset: Reset) {
        match reset {
            Reset::PowerOff => power::off(),
            Reset::Reboot => {
                power::reboot();
                traps::triple_fault();
            }
        }
    }
}
