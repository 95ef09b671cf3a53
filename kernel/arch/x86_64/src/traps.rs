//! How a core enters the kernel and leaves it.
//!
//! A trap from user mode saves the thread's registers straight into its record, which `CoreData::thread` points to,
//! and calls [`user_trap`] or [`system_call`]; these answer the record to continue with. A trap in kernel mode is
//! either the interrupt that an idle core waits for, or the end ([`report`](crate::report)).
//!
//! The kernel never uses `gs`, but for finding the stack in a system call; so traps need no `swapgs`, and one at a bad
//! moment (an NMI) does no harm.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use anos_abi::fault::FaultKind;
use anos_core::Kernel;
use anos_machine::{Event, Fault, Next, Ref, Registers, Thread};

use crate::machine::Processor;
use crate::paging::{USER_END, WINDOW};
use crate::percore::{self, CoreData, IST_DOUBLE_FAULT, IST_NMI, KERNEL_CODE, USER_CODE, USER_DATA};
use crate::{apic, cpu, fpu, ioapic, report, time};

/// Everything that the cores share.
pub static KERNEL: Kernel = Kernel::new();

/// Vectors: exceptions, then interrupts.
const VECTORS: usize = 256;
const EXCEPTIONS: u64 = 32;
/// Bytes of an exception's stub: two pushes, and a jump that may be long.
const EXCEPTION_STUB: u64 = 9;
/// Bytes of an interrupt's stub. So many of them share a long jump, as many as short ones reach; it takes as much as two.
const INTERRUPT_STUB: u64 = 4;
const GROUP: u64 = 32;

/// Flags that a thread may have; interrupts are always on.
const USER_FLAGS: u64 = 0x0025_0dd5;
const FLAGS: u64 = 0x202;
const INTERRUPT_FLAG: u64 = 1 << 9;

/// The word of [`Thread::machine`] that says which core has run the thread last ([`mark`]); 0: none has, since it was
/// started or changed. A record that is made anew at the same place is thus another thread, and what a core has of a thread
/// counts only if no other core has run it since.
const LOADED: usize = 1;

/// What a trap in kernel mode pushes.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// An interrupt's is extended by its sign.
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

unsafe extern "C" {
    static trap_stubs: u8;
    static system_call_entry: u8;
}

global_asm!(
    // One stub per exception: pushes an error code where the processor doesn't, and the vector.
    ".balign 16",
    ".global trap_stubs",
    "trap_stubs:",
    ".set vector, 0",
    ".rept {exceptions}",
    // These push an error code themselves: 8, 10 to 14, 17, 21, 29, 30.
    ".if (0x60227d00 >> vector) & 1 == 0",
    "push 0",
    ".endif",
    "push vector",
    // These have stacks of their own, and are always the end.
    ".if vector == 2 || vector == 8 || vector == 18",
    "jmp trap_in_kernel",
    ".else",
    "jmp trap",
    ".endif",
    ".set vector, vector + 1",
    ".org trap_stubs + vector * {exception_stub}, 0x90", // filled with what does nothing
    ".endr",
    // One per interrupt: pushes the vector, as a byte whose sign is extended.
    ".rept ({vectors} - {exceptions}) / {group}",
    ".rept {group}",
    "push (vector ^ 0x80) - 0x80",
    "jmp 2f",
    ".set vector, vector + 1",
    ".endr",
    "2: jmp interrupt",
    ".org 2b + {interrupt_stub} * 2, 0x90",
    ".endr",
    // Fails if the stubs aren't as small as they should be.
    ".org trap_stubs + {stubs}",
    // There is no error code; what stands in its place is of no use to anybody.
    "interrupt:",
    "push [rsp]",
    "trap:",
    "test byte ptr [rsp + 24], 3",
    "jz trap_in_kernel",
    // From user mode: the stack was empty, so the core's data begins behind the seven words on it.
    "push rax",
    "mov rax, [rsp + 64 + {thread}]",
    "mov [rax + {words}], r8",
    "mov [rax + {words} + 8], r9",
    "mov [rax + {words} + 16], r12",
    "mov [rax + {words} + 24], r13",
    "mov [rax + {words} + 32], r14",
    "mov [rax + {words} + 40], r15",
    "mov [rax + {words} + 48], rbx",
    "mov [rax + {words} + 56], rbp",
    "mov [rax + {label}], rdi",
    "mov [rax + {slots}], rsi",
    "mov [rax + {reply}], rdx",
    "mov [rax + {deadline}], r10",
    "mov [rax + {other} + 8], rcx",
    "mov [rax + {other} + 16], r11",
    "pop [rax + {operation}]",
    "pop rdi",              // vector
    "pop rsi",              // error code
    "pop [rax + {pc}]",
    "add rsp, 8",           // code selector: there is only one (see `percore`)
    "pop [rax + {other}]",  // flags
    "pop [rax + {sp}]",
    "add rsp, 8",           // stack selector
    "mov rdx, rsp",         // the core's data
    // Clears what the user may have set and the gate has not cleared: direction, and alignment check (it would lift
    // SMAP).
    "push 2",
    "popfq",
    "call {user_trap}",
    // rax: the record to continue with.
    "leave_kernel:",
    "mov r8, [rax + {words}]",
    "mov r9, [rax + {words} + 8]",
    "mov r12, [rax + {words} + 16]",
    "mov r13, [rax + {words} + 24]",
    "mov r14, [rax + {words} + 32]",
    "mov r15, [rax + {words} + 40]",
    "mov rbx, [rax + {words} + 48]",
    "mov rbp, [rax + {words} + 56]",
    "mov rdi, [rax + {label}]",
    "mov rsi, [rax + {slots}]",
    "mov rdx, [rax + {reply}]",
    "mov r10, [rax + {deadline}]",
    "mov rcx, [rax + {pc}]",
    "cmp qword ptr [rax + {other}], 0",
    "jne 2f",
    // It starts, or made a system call: nothing but the roles' registers matters, and `sysret` does. It can't fault: see
    // `resume`.
    "mov r11d, {flags}",
    "mov rsp, [rax + {sp}]",
    "mov rax, [rax + {operation}]",
    "sysretq",
    "2:",
    "push {user_data}",
    "push [rax + {sp}]",
    "push [rax + {other}]",
    "push {user_code}",
    "push rcx",
    "mov rcx, [rax + {other} + 8]",
    "mov r11, [rax + {other} + 16]",
    "mov rax, [rax + {operation}]",
    "iretq",
    // System calls. All registers are the message's, but for r11, in which the processor has put the flags: nobody expects
    // them back. Interrupts are off, and what can't be off has stacks of its own.
    ".balign 16",
    ".global system_call_entry",
    "system_call_entry:",
    "swapgs",
    "mov r11, gs:[{thread}]",
    "mov [r11 + {sp}], rsp",
    "mov rsp, gs:[{this}]",
    "swapgs",
    "mov [r11 + {words}], r8",
    "mov [r11 + {words} + 8], r9",
    "mov [r11 + {words} + 16], r12",
    "mov [r11 + {words} + 24], r13",
    "mov [r11 + {words} + 32], r14",
    "mov [r11 + {words} + 40], r15",
    "mov [r11 + {words} + 48], rbx",
    "mov [r11 + {words} + 56], rbp",
    "mov [r11 + {operation}], rax",
    "mov [r11 + {label}], rdi",
    "mov [r11 + {slots}], rsi",
    "mov [r11 + {reply}], rdx",
    "mov [r11 + {deadline}], r10",
    "mov [r11 + {pc}], rcx",
    "mov qword ptr [r11 + {other}], 0",
    "mov rdi, rsp",
    "call {system_call}",
    "mov rdi, rsp",
    "mov rsi, rax",
    "call {go_on}",
    "jmp leave_kernel",
    "trap_in_kernel:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "call {kernel_trap}",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    // A core's first way out: rdi is its data, and the top of its stack.
    ".global first_leave",
    "first_leave:",
    "mov rsp, rdi",
    "call {first_event}",
    "jmp leave_kernel",
    // For `cargo xtask depth`.
    ".set kernel_stack_bytes, {kernel_stack_bytes}",
    ".set exception_stack_bytes, {exception_stack_bytes}",
    kernel_stack_bytes = const percore::KERNEL_STACK_BYTES,
    exception_stack_bytes = const percore::EXCEPTION_STACK_BYTES,
    vectors = const VECTORS,
    exceptions = const EXCEPTIONS,
    exception_stub = const EXCEPTION_STUB,
    interrupt_stub = const INTERRUPT_STUB,
    group = const GROUP,
    stubs = const stub(VECTORS as u64),
    thread = const percore::THREAD,
    this = const percore::THIS,
    words = const offset_of!(Registers, words),
    operation = const offset_of!(Registers, operation),
    label = const offset_of!(Registers, label),
    slots = const offset_of!(Registers, slots),
    reply = const offset_of!(Registers, reply),
    deadline = const offset_of!(Registers, deadline),
    pc = const offset_of!(Registers, pc),
    sp = const offset_of!(Registers, sp),
    other = const offset_of!(Registers, other),
    flags = const FLAGS,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    user_trap = sym user_trap,
    system_call = sym system_call,
    go_on = sym go_on,
    kernel_trap = sym kernel_trap,
    first_event = sym first_event,
);

const _: () = assert!(offset_of!(Thread, registers) == 0);

/// The interrupt descriptor table, the same for all cores: four words of 32 bits for each vector (SDM 3A, figure 6-8).
/// Written by the boot core before any other runs.
static VECTOR_TABLE: [[AtomicU32; 4]; VECTORS] = [const { [const { AtomicU32::new(0) }; 4] }; VECTORS];

/// Where a vector's stub begins, behind `trap_stubs`.
const fn stub(vector: u64) -> u64 {
    match vector.checked_sub(EXCEPTIONS) {
        None => vector * EXCEPTION_STUB,
        Some(number) => EXCEPTIONS * EXCEPTION_STUB + (number + number / GROUP * 2) * INTERRUPT_STUB,
    }
}

/// Fills the table; the boot core, once.
pub fn prepare() {
    const PRESENT_INTERRUPT_GATE: u32 = 0x8e << 8;
    const FROM_USER_MODE: u32 = 3 << 13;
    for (vector, [first, second, third, _]) in (0..).zip(&VECTOR_TABLE) {
        let [low, high] = cpu::halves(&raw const trap_stubs as u64 + stub(vector));
        let stack = match vector {
            8 => IST_DOUBLE_FAULT,
            2 | 18 => IST_NMI,
            _ => 0,
        };
        let user = if vector == 3 { FROM_USER_MODE } else { 0 };
        first.store(u32::from(KERNEL_CODE) << 16 | low & 0xffff, Ordering::Relaxed);
        second.store(low & !0xffff | PRESENT_INTERRUPT_GATE | user | u32::from(stack), Ordering::Relaxed);
        third.store(high, Ordering::Relaxed);
    }
}

/// This core uses the table from now on.
pub fn load() {
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: *const [[AtomicU32; 4]; VECTORS],
    }
    let pointer = Pointer { limit: cpu::table_limit(VECTORS * 16), base: &raw const VECTOR_TABLE };
    // SAFETY: a static table whose entries are gates to the stubs above.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}

/// Sets this core up for traps and protection; it runs on its own stack, in the kernel's tables.
pub fn start_core(core: &CoreData) {
    percore::load(core, &raw const system_call_entry as u64);
    load();
    percore::protect();
    apic::start();
}

/// The core has nothing to run yet; what it is given, it runs.
pub fn begin(core: &'static CoreData) -> ! {
    // SAFETY: nothing on this stack is used again.
    unsafe { asm!("jmp first_leave", in("rdi") core, options(noreturn)) }
}

/// The machine starts anew: no gate can be used, not even the one for that.
pub fn triple_fault() -> ! {
    let pointer = [0_u8; 10];
    // SAFETY: the end of all memory safety: the processor resets at the next instruction.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) pointer.as_ptr(), options(noreturn)) }
}

extern "C" fn first_event(core: &CoreData) -> *mut Registers {
    run(core, Event::Start)
}

/// A system call: the registers are in the thread's record. Answers the thread that runs next, if the call could go the
/// short way.
extern "C" fn system_call(core: &CoreData) -> Ref<Thread> {
    if core.fpu.get() {
        fpu::system_call(core);
    }
    anos_core::quick(&KERNEL, &mut Processor(core)).unwrap_or(Ref::NONE)
}

/// Goes on with this thread, or the general way. (A function of its own: so `system_call` keeps nothing in registers that
/// would have to be saved before.)
extern "C" fn go_on(core: &CoreData, thread: Ref<Thread>) -> *mut Registers {
    match thread.some() {
        Some(thread) => resume(core, at(thread)),
        None => run(core, Event::SystemCall),
    }
}

/// Where a thread's record is mapped.
fn at(thread: Ref<Thread>) -> *mut Thread {
    (WINDOW + thread.address()) as *mut Thread
}

/// Any other trap from user mode.
extern "C" fn user_trap(vector: u8, error: u64, core: &CoreData) -> *mut Registers {
    const FPU_OFF: u8 = 7;
    if vector == FPU_OFF && fpu::load(core) {
        return core.thread.get().cast();
    }
    fpu::save(core);
    let event = if u64::from(vector) < EXCEPTIONS { Some(fault(vector, error, core)) } else { interrupt(vector, core) };
    let Some(event) = event else { return core.thread.get().cast() };
    match anos_core::quick_event(&KERNEL, &mut Processor(core), event) {
        Some(thread) => resume(core, (WINDOW + thread.address()) as *mut Thread),
        None => run(core, event),
    }
}

/// What the kernel's core is told of an exception.
fn fault(vector: u8, error: u64, core: &CoreData) -> Event {
    const PAGE_FAULT: u8 = 14;
    const BREAKPOINT: u8 = 3;
    const WRITE: u64 = 1 << 1;
    const FETCH: u64 = 1 << 4;
    let kind = match vector {
        PAGE_FAULT if error & FETCH != 0 => FaultKind::Execute,
        PAGE_FAULT if error & WRITE != 0 => FaultKind::Write,
        PAGE_FAULT => FaultKind::Read,
        // What a thread must not do: floating point (7), or a privileged instruction (13, most of the time).
        6 | 7 | 13 => FaultKind::IllegalInstruction,
        0 | 4 | 16 | 19 => FaultKind::Arithmetic,
        1 | BREAKPOINT => FaultKind::Breakpoint,
        17 => FaultKind::Alignment,
        _ => FaultKind::Other,
    };
    if vector == BREAKPOINT {
        // The processor reports the address behind the instruction, which has one byte.
        // SAFETY: the record of the running thread, which this core alone writes now.
        let pc = unsafe { &mut (*core.thread.get()).registers.pc };
        *pc = pc.wrapping_sub(1);
    }
    let address = if vector == PAGE_FAULT { cpu::cr2() } else { 0 };
    Event::Fault(Fault { kind, address, cause: u64::from(vector) | error << 8 })
}

/// Takes an interrupt. `None`: nobody needs to hear of it.
fn interrupt(vector: u8, core: &CoreData) -> Option<Event> {
    let event = match vector {
        apic::TIMER => {
            time::timer_done(core);
            Some(Event::Timer)
        }
        apic::KICK => Some(Event::Kick),
        ioapic::FIRST_VECTOR..=ioapic::LAST_VECTOR => {
            let line = u32::from(vector - ioapic::FIRST_VECTOR);
            ioapic::arrived(line);
            Some(Event::Interrupt(line))
        }
        // The alarm; or spurious, left over from the old interrupt controller, or a message that nobody was told to send.
        _ => None,
    };
    // Some of these want no answer. But it does no harm: interrupts don't nest, so there is no other that it could end.
    apic::end_of_interrupt();
    event
}

/// A trap in kernel mode.
extern "C" fn kernel_trap(frame: &mut Frame) {
    let stack = core::ptr::from_mut(frame) as u64;
    // SAFETY: null, or the data of the core that runs here, which was written before its stack was used.
    let core = unsafe { percore::data_at(stack).as_ref() };
    match core {
        Some(core) if frame.vector >= EXCEPTIONS && core.waits.get() => {
            let [vector, ..] = frame.vector.to_le_bytes();
            core.woken_by.set(interrupt(vector, core));
            // One interrupt at a time: the core looks at this one first.
            frame.rflags &= !INTERRUPT_FLAG;
        }
        _ => report::kernel_fault(frame),
    }
}

/// Enters the kernel's core until there is a thread to run; answers its record.
fn run(core: &CoreData, mut event: Event) -> *mut Registers {
    loop {
        core.rounds.set(0);
        match anos_core::enter(&KERNEL, &mut Processor(core), event) {
            Next::Run(thread) => return resume(core, at(thread)),
            Next::Idle => event = idle(core),
        }
    }
}

/// Waits for an interrupt, with no thread.
fn idle(core: &CoreData) -> Event {
    fpu::release(core);
    core.thread.set(core::ptr::null_mut());
    loop {
        core.waits.set(true);
        cpu::wait_for_interrupt();
        core.waits.set(false);
        if let Some(event) = core.woken_by.take() {
            return event;
        }
    }
}

/// Makes a thread the running one.
///
/// Its registers are such that the processor takes them: they are what the processor saved itself, or
/// [`changed`] has looked at them, or a thread was started with them, which the kernel's core checks. The processor saves
/// no program counter that `sysret` or `iretq` would refuse: user code ends before the hole of non-canonical addresses
/// ([`USER_END`](crate::paging::USER_END)), a jump into it faults where it is, and every canonical address will do. Nor
/// does it save flags that a program may not have: in user mode interrupts are on, the I/O privilege is 0, and no
/// instruction changes that. Of the stack pointer it asks nothing.
#[inline(always)]
fn resume(core: &CoreData, thread: *mut Thread) -> *mut Registers {
    // SAFETY: a thread that the kernel's core chose for this core: mapped, and written by this core alone until it
    // says again that it is in the kernel.
    if core.thread.get() != thread || unsafe { (*thread).machine[LOADED] } != mark(core) {
        switch(core, thread);
    }
    thread.cast()
}

/// What a core's own looks like in [`LOADED`]: never 0.
fn mark(core: &CoreData) -> u64 {
    core::ptr::from_ref(core) as u64
}

/// Nothing in this core is the last thread's from now on: not the FPU, no selector, no thread pointer.
#[inline(always)]
fn switch(core: &CoreData, thread: *mut Thread) {
    // SAFETY: as in `resume`.
    unsafe { (*thread).machine[LOADED] = mark(core) };
    fpu::release(core);
    core.thread.set(thread);
    clear_selectors();
    // SAFETY: as in `resume`.
    let thread_pointer = unsafe { (*thread).registers.tp };
    // Whatever the last thread loaded into `fs`, and whatever clearing that did: the base is the last one's, or 0.
    if core.thread_pointer.replace(thread_pointer) | thread_pointer != 0 {
        // SAFETY: a canonical address, for the user's `fs` alone.
        unsafe { cpu::write_msr(cpu::Msr::FS_BASE, thread_pointer) };
    }
}

/// See [`Machine::changed`](anos_machine::Machine::changed). Here the program counter and the thread pointer must be
/// canonical, and flags that are a program's; and the thread begins without what a core may hold of it.
pub fn changed(thread: &mut Thread) {
    let registers = &mut thread.registers;
    registers.pc = registers.pc.min(USER_END);
    registers.tp = registers.tp.min(USER_END);
    if registers.other[0] != 0 {
        registers.other[0] = registers.other[0] & USER_FLAGS | FLAGS;
    }
    thread.machine[LOADED] = 0;
}

/// No selector of the last thread is left. What that does to the base of `fs` depends on the processor, but [`switch`]
/// looks to it next; that of `gs` is 0 in any case, as in every segment that a program can load.
fn clear_selectors() {
    // SAFETY: the kernel uses none of these registers, and 64-bit code in user mode needs none loaded.
    unsafe {
        asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", "mov gs, {0:e}", in(reg) 0, options(nostack, preserves_flags));
    }
}
