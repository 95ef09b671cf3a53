//! What is needed of QEMU's plugin interface ("QEMU TCG Plugins", version 1 of the interface). All of QEMU's functions are
//! wrapped here, so that what they ask of their callers is in one place.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::code::Target;

/// The plugin, as QEMU knows it.
pub type Id = u64;

/// A block of instructions that is being translated.
#[repr(C)]
pub struct RawBlock {
    _opaque: [u8; 0],
}

/// An instruction of it.
#[repr(C)]
pub struct RawInstruction {
    _opaque: [u8; 0],
}

/// A physical address.
#[repr(C)]
pub struct RawPhysical {
    _opaque: [u8; 0],
}

/// What QEMU says about the machine.
#[repr(C)]
pub struct Information {
    target: *const c_char,
    versions: [c_int; 2],
    is_system: bool,
    cores: c_int,
    most_cores: c_int,
}

/// Called with a block that is being translated.
pub type Translated = extern "C" fn(Id, *mut RawBlock);
/// Called when code is executed: the core's number, and the number that was registered with the code.
pub type Executed = extern "C" fn(c_uint, usize);
/// Called when an instruction accesses memory: core, what kind of access, virtual address, registered number.
pub type Accessed = extern "C" fn(c_uint, u32, u64, usize);
/// Called at the end.
pub type Ended = extern "C" fn(Id, usize);

/// QEMU_PLUGIN_CB_NO_REGS: the callback looks at no registers.
const NO_REGISTERS: c_uint = 0;
/// QEMU_PLUGIN_MEM_W: tells of writes.
const WRITES: c_uint = 2;

// In C each of these callbacks gets a `void *` of the plugin's choice: here it is a number of the same size, that is never
// followed.
unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, callback: Translated);
    fn qemu_plugin_register_atexit_cb(id: Id, callback: Ended, data: usize);
    fn qemu_plugin_register_vcpu_syscall_cb(id: Id, callback: Option<extern "C" fn()>);
    fn qemu_plugin_register_vcpu_tb_exec_cb(block: *mut RawBlock, callback: Executed, flags: c_uint, data: usize);
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut RawInstruction,
        callback: Executed,
        flags: c_uint,
        data: usize,
    );
    fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut RawInstruction,
        callback: Accessed,
        flags: c_uint,
        accesses: c_uint,
        data: usize,
    );
    fn qemu_plugin_tb_n_insns(block: *const RawBlock) -> usize;
    fn qemu_plugin_tb_vaddr(block: *const RawBlock) -> u64;
    fn qemu_plugin_tb_get_insn(block: *const RawBlock, index: usize) -> *mut RawInstruction;
    fn qemu_plugin_insn_data(instruction: *const RawInstruction) -> *const c_void;
    fn qemu_plugin_insn_size(instruction: *const RawInstruction) -> usize;
    fn qemu_plugin_insn_vaddr(instruction: *const RawInstruction) -> u64;
    fn qemu_plugin_mem_is_store(access: u32) -> bool;
    fn qemu_plugin_get_hwaddr(access: u32, address: u64) -> *mut RawPhysical;
    fn qemu_plugin_hwaddr_is_io(physical: *const RawPhysical) -> bool;
    fn qemu_plugin_hwaddr_phys_addr(physical: *const RawPhysical) -> u64;
    fn qemu_plugin_outs(text: *const c_char);
}

/// What QEMU says about the machine, safe to look at.
pub struct Machine {
    /// Its instruction set, if it is one of ours.
    pub target: Option<Target>,
    /// How many cores it has.
    pub cores: usize,
}

/// Reads what QEMU passes to `qemu_plugin_install`.
///
/// # Safety
/// `information` must be what QEMU passed.
pub unsafe fn machine(information: *const Information) -> Machine {
    // SAFETY: QEMU passes a structure that lives as long as the call (the caller's promise).
    let information = unsafe { &*information };
    // SAFETY: its first field is a C string that lives as long.
    let name = unsafe { CStr::from_ptr(information.target) };
    let is_ours = information.is_system && information.versions[0] <= 1 && 1 <= information.versions[1];
    let target = name.to_str().ok().and_then(Target::named).filter(|_| is_ours);
    Machine { target, cores: usize::try_from(information.cores).unwrap_or(0) }
}

/// Reads the arguments that QEMU passes to `qemu_plugin_install`.
///
/// # Safety
/// `count` and `values` must be what QEMU passed.
pub unsafe fn arguments(count: c_int, values: *const *const c_char) -> Vec<String> {
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 {
        return Vec::new();
    }
    // SAFETY: QEMU passes so many pointers there (the caller's promise).
    let values = unsafe { std::slice::from_raw_parts(values, count) };
    // SAFETY: and each is to a C string that lives as long as the call.
    let text = |&value: &*const c_char| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned();
    values.iter().map(text).collect()
}

/// Has QEMU call `translated` for each block that it translates, and `ended` at the end.
///
/// # Safety
/// `id` must be the one that QEMU passed; both functions must be safe to call with what QEMU passes.
pub unsafe fn register(id: Id, translated: Translated, ended: Ended) {
    // SAFETY: the caller's promise.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    // SAFETY: the caller's promise.
    unsafe { qemu_plugin_register_atexit_cb(id, ended, 0) };
}

/// Ends the turn of the core that executes: at the next block of code the next core goes on. Only where one thread of the
/// host runs all cores; elsewhere nobody has a turn.
///
/// QEMU has no function for that, but it does so when there begins or ends to be anybody who wants to know of an event: each
/// core has to note that, and to do so it leaves the code that it executes. The event is one that never comes: programs'
/// system calls, where QEMU runs programs without a kernel.
///
/// # Safety
/// `id` must be the one that QEMU passed.
pub unsafe fn end_turn(id: Id) {
    static WANTED: AtomicBool = AtomicBool::new(false);
    extern "C" fn never() {}
    let callback = if WANTED.fetch_not(Ordering::Relaxed) { None } else { Some(never as extern "C" fn()) };
    // SAFETY: the caller's promise. The function is never called; no function takes the last one back.
    unsafe { qemu_plugin_register_vcpu_syscall_cb(id, callback) };
}

/// A block that is being translated; only while [`Translated`] is called with it.
pub struct Translation(*mut RawBlock);

impl Translation {
    /// The block that QEMU passed.
    ///
    /// # Safety
    /// It must be that of the call of [`Translated`] that goes on, and the result must not outlive the call.
    pub unsafe fn new(block: *mut RawBlock) -> Translation {
        Translation(block)
    }

    /// Its virtual address.
    pub fn address(&self) -> u64 {
        // SAFETY: the block is valid (`new`).
        unsafe { qemu_plugin_tb_vaddr(self.0) }
    }

    /// Its instructions, in order.
    pub fn instructions(&self) -> impl DoubleEndedIterator<Item = Instruction<'_>> + ExactSizeIterator {
        // SAFETY: the block is valid (`new`).
        let count = unsafe { qemu_plugin_tb_n_insns(self.0) };
        (0..count).map(|index| {
            // SAFETY: the block is valid (`new`), and has so many.
            let raw = unsafe { qemu_plugin_tb_get_insn(self.0, index) };
            Instruction { raw, _of: self }
        })
    }

    /// Has QEMU call a function with a number each time the block is executed.
    pub fn when_executed(&self, callback: Executed, number: usize) {
        // SAFETY: the block is valid (`new`); the function takes any number.
        unsafe { qemu_plugin_register_vcpu_tb_exec_cb(self.0, callback, NO_REGISTERS, number) };
    }
}

/// An instruction that is being translated.
pub struct Instruction<'a> {
    raw: *mut RawInstruction,
    _of: &'a Translation,
}

impl Instruction<'_> {
    /// Its virtual address.
    pub fn address(&self) -> u64 {
        // SAFETY: the instruction is valid as long as its block.
        unsafe { qemu_plugin_insn_vaddr(self.raw) }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the instruction is valid as long as its block.
        let size = unsafe { qemu_plugin_insn_size(self.raw) };
        // SAFETY: as above.
        let data = unsafe { qemu_plugin_insn_data(self.raw) };
        // SAFETY: there are so many bytes, as long as the block is valid.
        unsafe { std::slice::from_raw_parts(data.cast(), size) }
    }

    /// Has QEMU call a function with a number each time the instruction is executed.
    pub fn when_executed(&self, callback: Executed, number: usize) {
        // SAFETY: the instruction is valid as long as its block; the function takes any number.
        unsafe { qemu_plugin_register_vcpu_insn_exec_cb(self.raw, callback, NO_REGISTERS, number) };
    }

    /// Has QEMU call a function with a number each time the instruction writes to memory.
    pub fn when_writing(&self, callback: Accessed, number: usize) {
        // SAFETY: the instruction is valid as long as its block; the function takes any number.
        unsafe { qemu_plugin_register_vcpu_mem_cb(self.raw, callback, NO_REGISTERS, WRITES, number) };
    }
}

/// Whether an access is a write. (QEMU 7.2 tells of an instruction's reads, too, whatever it was asked for.)
///
/// # Safety
/// It must be what QEMU passed to [`Accessed`], in the call that goes on.
pub unsafe fn is_write(access: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe { qemu_plugin_mem_is_store(access) }
}

/// The physical address of an access, if it is one to memory.
///
/// # Safety
/// Both must be what QEMU passed to [`Accessed`], in the call that goes on.
pub unsafe fn physical(access: u32, address: u64) -> Option<u64> {
    // SAFETY: the caller's promise.
    let physical = unsafe { qemu_plugin_get_hwaddr(access, address) };
    if physical.is_null() {
        return None;
    }
    // SAFETY: not null, and valid until the next one is asked for on this core.
    if unsafe { qemu_plugin_hwaddr_is_io(physical) } {
        return None;
    }
    // SAFETY: as above.
    Some(unsafe { qemu_plugin_hwaddr_phys_addr(physical) })
}

/// Whether an access is one to a device.
///
/// # Safety
/// As for [`physical`].
pub unsafe fn is_device(access: u32, address: u64) -> bool {
    // SAFETY: the caller's promise.
    let physical = unsafe { qemu_plugin_get_hwaddr(access, address) };
    // SAFETY: if it is not null, it is valid until the next one is asked for on this core.
    !physical.is_null() && unsafe { qemu_plugin_hwaddr_is_io(physical) }
}

/// Says something in QEMU's log.
pub fn say(text: &str) {
    if let Ok(text) = CString::new(text) {
        // SAFETY: a C string.
        unsafe { qemu_plugin_outs(text.as_ptr()) };
    }
}
