//! Helpers: threads of a case that run a function of this program.
//!
//! A case runs at [`NORMAL`] on core 0. A helper at [`HIGH`] there runs as soon as it can, one at [`LOW`] only while the
//! case waits: so most cases need neither luck nor sleep to have things happen in a certain order.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anos::capability::{Capability, Notification, SchedContext, Slot, StartState, Thread};
use anos::{Error, Rights};

use crate::arch;
use crate::case::{Case, PATIENCE_MS, SPACE, TABLE, in_ms, to_usize};
use crate::supervisor::FAULTS;

/// Below the case.
pub const LOW: u8 = 50;
/// As the case.
pub const NORMAL: u8 = 100;
/// Above the case.
pub const HIGH: u8 = 150;

/// The most helpers a case can have.
pub const MOST: usize = 32;
const STACK_BYTES: usize = 16 * 1024;

/// Memory for stacks. Rust never looks at it.
#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only ever used as the stack of the one helper that has this number.
unsafe impl Sync for Stack {}

static STACKS: [Stack; MOST] = [const { Stack(UnsafeCell::new([0; STACK_BYTES])) }; MOST];

/// What a helper shall do.
pub struct Task {
    function: AtomicU64,
    argument: AtomicU64,
    thread: AtomicU32,
    done: AtomicU32,
}

static TASKS: [Task; MOST] = [const {
    Task {
        function: AtomicU64::new(0),
        argument: AtomicU64::new(0),
        thread: AtomicU32::new(0),
        done: AtomicU32::new(0),
    }
}; MOST];

/// What a helper runs.
pub type Function = fn(u64);

/// Where every helper starts: does its task, says so, and stops.
pub extern "C" fn run(task: &Task) -> ! {
    let function = task.function.load(Ordering::SeqCst);
    // SAFETY: `Case::start` stored a `Function` here, as a number.
    let function = unsafe { core::mem::transmute::<usize, Function>(to_usize(function)) };
    function(task.argument.load(Ordering::SeqCst));
    // If this fails, the case waits in vain, and says so.
    let _ = Notification::at(Slot::new(task.done.load(Ordering::SeqCst))).signal();
    let thread = Thread::at(Slot::new(task.thread.load(Ordering::SeqCst)));
    loop {
        let _ = thread.suspend();
    }
}

/// A helper of a case.
#[derive(Clone, Copy)]
pub struct Helper {
    /// Its thread.
    pub thread: Thread,
    /// Its CPU time.
    pub context: SchedContext,
    index: usize,
}

impl Helper {
    /// The slot, as a number to tell other threads.
    pub fn number(self) -> u64 {
        self.thread.slot().number().into()
    }
}

impl Case {
    /// A helper that runs `function(argument)`, on a core, at a priority.
    pub fn helper(&mut self, on: u64, priority: u8, function: Function, argument: u64) -> Result<Helper, Error> {
        let helper = self.prepare(on, priority, function, argument)?;
        self.start(helper)?;
        Ok(helper)
    }

    /// A helper that is still to be started.
    pub fn prepare(&mut self, on: u64, priority: u8, function: Function, argument: u64) -> Result<Helper, Error> {
        let index = self.helpers;
        let task = TASKS.get(index).ok_or(Error::NotEnoughMemory)?;
        self.helpers += 1;
        let done = match self.done {
            Some(done) => done,
            None => self.make()?,
        };
        self.done = Some(done);
        let done = self.mint(done, Rights::ALL, 1 << index)?;
        let thread: Thread = self.make()?;
        thread.set_table(TABLE)?;
        thread.set_space(SPACE)?;
        thread.set_fault_endpoint(Some(FAULTS))?;
        let context = self.move_to(thread, on)?;
        thread.set_priority(priority, u8::MAX)?;
        task.function.store(function as usize as u64, Ordering::SeqCst);
        task.argument.store(argument, Ordering::SeqCst);
        task.thread.store(thread.slot().number(), Ordering::SeqCst);
        task.done.store(done.slot().number(), Ordering::SeqCst);
        Ok(Helper { thread, context, index })
    }

    /// Starts a helper.
    pub fn start(&mut self, helper: Helper) -> Result<(), Error> {
        self.start_at(helper, arch::helper_entry as *const () as u64, 0)
    }

    /// Tells a helper that is still to be started another argument.
    pub fn set_argument(&mut self, helper: Helper, argument: u64) -> Result<(), Error> {
        let task = TASKS.get(helper.index).ok_or(Error::InvalidArgument)?;
        task.argument.store(argument, Ordering::SeqCst);
        Ok(())
    }

    /// Starts a helper with a thread pointer of its own.
    pub fn start_with_pointer(&mut self, helper: Helper, thread_pointer: u64) -> Result<(), Error> {
        self.begin(helper, arch::helper_entry as *const () as u64, 0, thread_pointer)
    }

    /// Starts a helper somewhere else than usual; word 0 is the caller's, word 1 the helper's task.
    pub fn start_at(&mut self, helper: Helper, program_counter: u64, word: u64) -> Result<(), Error> {
        self.begin(helper, program_counter, word, 0)
    }

    fn begin(&mut self, helper: Helper, program_counter: u64, word: u64, thread_pointer: u64) -> Result<(), Error> {
        let (Some(stack), Some(task)) = (STACKS.get(helper.index), TASKS.get(helper.index)) else {
            return Err(Error::InvalidArgument);
        };
        helper.thread.start(&StartState {
            program_counter,
            stack_pointer: stack.0.get() as u64 + STACK_BYTES as u64,
            thread_pointer,
            arguments: [word, core::ptr::from_ref(task) as u64],
        })
    }

    /// Waits until a helper is done.
    pub fn join(&mut self, helper: Helper) -> Result<(), Error> {
        let end = in_ms(PATIENCE_MS);
        while self.finished >> helper.index & 1 == 0 {
            let done = self.done.ok_or(Error::InvalidArgument)?;
            self.finished |= done.wait(end)?;
        }
        Ok(())
    }

    /// Whether a helper is done.
    pub fn is_done(&mut self, helper: Helper) -> bool {
        if let Some(bits) = self.done.and_then(|done| done.wait(anos::abi::syscall::POLL).ok()) {
            self.finished |= bits;
        }
        self.finished >> helper.index & 1 == 1
    }

    /// Waits until all these helpers are done.
    pub fn join_all(&mut self, helpers: impl IntoIterator<Item = Helper>) -> Result<(), Error> {
        helpers.into_iter().try_for_each(|helper| self.join(helper))
    }
}
