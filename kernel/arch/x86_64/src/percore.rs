//! What each core has of its own: stacks, GDT, TSS, and what it is doing.
//!
//! The cores' blocks lie 64 KiB apart at [`paging::CORES`], each with unmapped pages between its stacks:
//!
//! | page | what |
//! |---|---|
//! | 1, 2 | stack for double faults |
//! | 4, 5 | stack for NMIs and machine checks |
//! | 7 to 10 | the kernel's stack |
//! | 11 | [`CoreData`]: right at the top of the stack, so that a trap finds it without any register |

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use anos_abi::PAGE_SIZE;
use anos_core::boot::Run;
use anos_machine::{CoreId, Event, Thread};

use crate::cpu::{self, Msr};
use crate::paging::{self, CORES, NO_EXECUTE, WRITE};
use crate::tables::Tables;

/// Bytes of a core's block.
const BLOCK: u64 = 16 * PAGE_SIZE;
/// First page and number of pages of what is mapped of it.
const PARTS: [(u64, u64); 3] = [(1, 2), (4, 2), (7, 5)];
/// Bytes of each stack for double faults, NMIs and machine checks.
pub const EXCEPTION_STACK_BYTES: u64 = 2 * PAGE_SIZE;
/// Bytes of the kernel's stack.
pub const KERNEL_STACK_BYTES: u64 = STACK_TOP - 7 * PAGE_SIZE;
const DOUBLE_FAULT_TOP: u64 = 3 * PAGE_SIZE;
const NMI_TOP: u64 = 6 * PAGE_SIZE;
const STACK_TOP: u64 = 11 * PAGE_SIZE;

/// Selectors in every core's GDT; `syscall` and `sysret` prescribe the order (SDM 3A, 5.8.8). The place before user data
/// is that of user code with 32 bits, and stays empty: `sysret` to 64-bit code looks at no descriptor, and in 32-bit
/// code `syscall` would go to IA32_CSTAR on AMD's processors.
pub const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
/// User data.
pub const USER_DATA: u16 = 0x20 | 3;
/// User code, 64 bits.
pub const USER_CODE: u16 = 0x28 | 3;
const TASK: u16 = 0x30;

/// Places in the TSS's table of stacks.
pub const IST_DOUBLE_FAULT: u8 = 1;
/// See [`IST_DOUBLE_FAULT`].
pub const IST_NMI: u8 = 2;

/// Task state segment: where a trap finds its stack (SDM 3A, 8.7).
#[derive(Debug)]
#[repr(C, packed(4))]
struct Task {
    reserved: u32,
    privileged_stacks: [u64; 3],
    reserved2: u64,
    interrupt_stacks: [u64; 7],
    reserved3: [u16; 5],
    io_map: u16,
}

/// A core's own data. Only that core uses it, in traps that don't nest, so plain cells do.
#[derive(Debug)]
#[repr(C)]
pub struct CoreData {
    /// The running thread's record, null if none: where a trap from user mode saves registers.
    pub thread: Cell<*mut Thread>,
    /// This structure's address.
    this: Cell<u64>,
    /// The `fs` base of the thread that ran last; or it is 0, where what a program loads into `fs` clears it.
    pub thread_pointer: Cell<u64>,
    /// Whether the FPU is on, and holds the running thread's state.
    pub fpu: Cell<bool>,
    /// What ended the wait for an interrupt.
    pub woken_by: Cell<Option<Event>>,
    /// Whether this core waits for an interrupt, and so may take one in the kernel.
    pub waits: Cell<bool>,
    /// The time for which the timer is set, ns.
    pub timer: Cell<u64>,
    /// Rounds that it has waited for another core since it entered the kernel's core.
    pub rounds: Cell<u32>,
    /// Its number.
    pub id: CoreId,
    /// The processor writes to it: `ltr` marks the TSS as busy.
    gdt: UnsafeCell<[u64; 8]>,
    task: Task,
}

/// Offsets for the trap code.
pub const THREAD: usize = offset_of!(CoreData, thread);
/// See [`THREAD`].
pub const THIS: usize = offset_of!(CoreData, this);

const _: () = assert!(size_of::<CoreData>() as u64 <= PAGE_SIZE && offset_of!(CoreData, task) % 4 == 0);

/// Virtual address of a core's data, and the top of its stack.
pub fn data_address(core: CoreId) -> u64 {
    CORES + core.index() as u64 * BLOCK + STACK_TOP
}

/// The core whose stacks an address lies in.
pub fn core_at(address: u64) -> Option<CoreId> {
    CoreId::new(address.checked_sub(CORES)? / BLOCK)
}

/// The data of the core whose block an address (of its stack) lies in. Null outside.
pub fn data_at(stack: u64) -> *const CoreData {
    core_at(stack).map_or(core::ptr::null(), |core| data_address(core) as *const CoreData)
}

/// Lays out a core's block: takes memory for it and maps it.
pub fn lay_out(tables: &mut Tables<'_>, core: CoreId) -> Option<()> {
    for (first, pages) in PARTS {
        let bytes = pages * PAGE_SIZE;
        let address = tables.take(bytes)?;
        let start = CORES + core.index() as u64 * BLOCK + first * PAGE_SIZE;
        tables.map(start, Run { address, bytes }, NO_EXECUTE | WRITE)?;
    }
    Some(())
}

/// Writes a core's data, in its mapped and clear block.
///
/// # Safety
/// Once for each core, before that core runs on its stack, with the kernel's tables loaded.
pub unsafe fn prepare(core: CoreId) {
    // SAFETY: `lay_out` mapped this page, writable and clear, and nobody uses it yet (the caller's promise). Zeros make a
    // core's data.
    let data = unsafe { &mut *(data_address(core) as *mut CoreData) };
    data.fill(core);
}

impl CoreData {
    /// Sets what isn't zero.
    #[inline(never)]
    fn fill(&mut self, core: CoreId) {
        let address = core::ptr::from_mut(self) as u64;
        let block = address - STACK_TOP;
        let task = address + offset_of!(CoreData, task) as u64;
        let limit = size_of::<Task>() as u64 - 1;
        // Available 64-bit TSS, present (SDM 3A, figure 8-4).
        let descriptor = limit | (task & 0xff_ffff) << 16 | 0x89 << 40 | (task >> 24 & 0xff) << 56;
        self.this.set(address);
        self.woken_by.set(None);
        self.timer.set(u64::MAX);
        self.id = core;
        *self.gdt.get_mut() = [
            0,
            0x00af_9b00_0000_ffff, // kernel code, 64 bits
            0x00cf_9300_0000_ffff, // kernel data
            0,                     // none: see the selectors
            0x00cf_f300_0000_ffff, // user data
            0x00af_fb00_0000_ffff, // user code, 64 bits
            descriptor,
            task >> 32,
        ];
        self.task.privileged_stacks[0] = address;
        self.task.interrupt_stacks[0] = block + DOUBLE_FAULT_TOP;
        self.task.interrupt_stacks[1] = block + NMI_TOP;
        // Past the limit: no I/O port is open to user mode.
        self.task.io_map = cpu::table_limit(size_of::<Task>()) + 1;
    }
}

/// Makes this core use its data: GDT, TSS, and what `syscall` needs.
pub fn load(data: &CoreData, syscall_entry: u64) {
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: u64,
    }
    let pointer = Pointer { limit: cpu::table_limit(size_of::<[u64; 8]>()), base: data.gdt.get() as u64 };
    // SAFETY: the table is valid for ever, and its first entries mean what the current ones do.
    unsafe { asm!("lgdt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
    // SAFETY: the selector names this core's own TSS, which no core has loaded.
    unsafe { asm!("ltr {:x}", in(reg) TASK, options(nostack, preserves_flags)) };
    // After a reset there is a local table: at address 0, where a program can put what it likes (SDM 3A, table 9-1).
    // SAFETY: there is none from now on, and the kernel needs none.
    unsafe { asm!("lldt {:x}", in(reg) 0, options(nomem, nostack, preserves_flags)) };
    let selectors = u64::from(KERNEL_CODE) << 32 | u64::from(KERNEL_DATA | 3) << 48 | 8 << 48;
    // SAFETY: selectors of the table just loaded: `sysret` adds 16 and 8 to 0x1b.
    unsafe { cpu::write_msr(Msr::STAR, selectors) };
    // SAFETY: the entry of system calls (`traps`).
    unsafe { cpu::write_msr(Msr::LSTAR, syscall_entry) };
    // No code can come here (there is no segment for it), but 0 would be an address of the user's.
    // SAFETY: as above. The entry and the way back do for such code too: it would go on in 64-bit mode.
    unsafe { cpu::write_msr(Msr::CSTAR, syscall_entry) };
    /// TF, IF, DF, IOPL, NT, AC: the kernel starts with all of them clear.
    const CLEARED: u64 = 0x4_7700;
    // SAFETY: no flag that the kernel relies on is left to the user.
    unsafe { cpu::write_msr(Msr::FMASK, CLEARED) };
    // SAFETY: what `swapgs` brings at a system call: this core's data.
    unsafe { cpu::write_msr(Msr::KERNEL_GS_BASE, data.this.get()) };
}

/// In CR4: address spaces have tags in the TLB (process-context identifiers: SDM 3A, 4.10.1).
pub const PCID: u64 = 1 << 17;
/// In CR4: threads have XSAVE, and with it AVX.
pub const OSXSAVE: u64 = 1 << 18;

/// CR4, the same on every core.
static FEATURES: AtomicU64 = AtomicU64::new(0);

/// Whether something is switched on in CR4.
pub fn enabled(feature: u64) -> bool {
    FEATURES.load(Ordering::Relaxed) & feature != 0
}

/// Switches on what protects the kernel, and what threads can use, as far as this processor has it.
///
/// Not FSGSBASE: with it, a program could set the bases of `fs` and `gs` itself, and the kernel would have to read both at
/// every entry and keep both for every thread. Without, the thread pointer that the record holds is the one there is, and
/// nobody can leave anything in `gs`.
pub fn protect() {
    const PAE: u64 = 1 << 5;
    const MACHINE_CHECK: u64 = 1 << 6;
    const GLOBAL_PAGES: u64 = 1 << 7;
    const FXSAVE: u64 = 1 << 9;
    const SIMD_EXCEPTIONS: u64 = 1 << 10;
    const UMIP: u64 = 1 << 11;
    const SMEP: u64 = 1 << 20;
    const SMAP: u64 = 1 << 21;
    let basic = cpu::cpuid(1, 0);
    let extended = cpu::cpuid(7, 0);
    // Where CPUID tells of it.
    let optional = |register: u32, bit: u32, feature: u64| if register >> bit & 1 != 0 { feature } else { 0 };
    let cr4 = PAE
        | MACHINE_CHECK
        | GLOBAL_PAGES
        | FXSAVE
        | SIMD_EXCEPTIONS
        | optional(basic.ecx, 17, PCID)
        | optional(basic.ecx, 26, OSXSAVE)
        | optional(extended.ecx, 2, UMIP)
        | optional(extended.ebx, 7, SMEP)
        | optional(extended.ebx, 20, SMAP);
    // SAFETY: PAE stays on; the first five come with every 64-bit processor, the others were asked for. PCID may go on
    // while the tag is 0 (SDM 3A, 4.10.1), and it is: a page's address is in CR3.
    unsafe { cpu::set_cr4(cr4) };
    FEATURES.store(cr4, Ordering::Relaxed);
    crate::fpu::start();
}

const _: () = assert!(paging::index(CORES, 4) == 511 && BLOCK * anos_abi::MAX_CORES as u64 <= 1 << 26);
