//! Threads of this program.
//!
//! A thread that was joined leaves its kernel objects and stack to the next one that is spawned. (Memory that was
//! retyped comes back only as a whole, so they are kept.) A panic in any thread ends the program.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use anos_abi::syscall::FOREVER;
use anos_abi::{Error, PAGE_SIZE, boot};
use anos_interfaces::process::Request;
use anos_interfaces::start::STACKS_START;
use anos_interfaces::{Failure, Name};

use crate::capability::{Capability, Notification, SchedContext, SchedControl, Slot, StartState, Thread};
use crate::sync::{Mutex, Turn};
use crate::{arch, env, memory, slots, sys};

pub use crate::sys::yield_now;

/// Bytes of stack of every thread but the first.
const STACK_BYTES: u64 = 32 * 1024;
/// From one stack to the next: what is not stack stays unmapped, and is the guard.
const STACK_STRIDE: u64 = 2 * STACK_BYTES;

const _: () = assert!(STACK_BYTES <= memory::FRAME_PAGES * PAGE_SIZE, "a stack is one Frame");

/// The bit that says that a thread is done.
const DONE: u64 = 1;

/// What a thread needs of the kernel.
#[derive(Clone, Copy)]
struct Worker {
    thread: Thread,
    /// Signalled when the thread is done: to wait on.
    done: Notification,
    /// The same with a badge: a signal without one leaves no bit for who comes to wait later.
    signal: Notification,
    stack_top: u64,
    /// In the root server: the CPU time that the thread has, and of which core.
    context: Option<(u32, SchedContext)>,
}

/// Workers without work.
static SPARE: Mutex<Vec<Worker>> = Mutex::new(Vec::new());
/// The next worker, as far as it could be made. What has been made stays for the next attempt.
static NEXT: Mutex<Unfinished> = Mutex::new(Unfinished { thread: None, done: None, signal: None, stack: STACKS_START });
/// Taken from a thread's announcement to its start, since the root server forgets announced threads that don't run when
/// the next one comes, and takes their CPU time back.
static STARTS: Turn = Turn::new();

/// What there is of a worker that isn't finished.
struct Unfinished {
    thread: Option<Thread>,
    done: Option<Notification>,
    signal: Option<Notification>,
    /// Where the stack's guard starts.
    stack: u64,
}

/// What lies in this place; if nothing does, it is made.
fn part<T: Copy>(place: &mut Option<T>, make: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    match *place {
        Some(part) => Ok(part),
        None => Ok(*place.insert(make()?)),
    }
}

impl Unfinished {
    /// Makes what is missing, and begins the next one.
    fn finish(&mut self) -> Result<Worker, Error> {
        let thread = part(&mut self.thread, || memory::make(0))?;
        let done = part(&mut self.done, || memory::make(0))?;
        let signal = part(&mut self.signal, || done.badged(DONE))?;
        let worker = Worker { thread, done, signal, stack_top: self.stack + STACK_STRIDE, context: None };
        worker.set_up()?;
        // Last, because it is one Frame: it is made whole or not at all, and then nothing can fail any more.
        memory::populate(worker.stack_top - STACK_BYTES, STACK_BYTES)?;
        *self = Unfinished { thread: None, done: None, signal: None, stack: worker.stack_top };
        Ok(worker)
    }
}

impl Worker {
    /// A spare one, or a new one.
    fn get() -> Result<Self, Error> {
        if let Some(worker) = SPARE.lock().pop() {
            return Ok(worker);
        }
        NEXT.lock().finish()
    }

    /// Makes it a thread like the program's first one.
    fn set_up(&self) -> Result<(), Error> {
        self.thread.set_table(env::OWN_TABLE)?;
        self.thread.set_space(env::OWN_SPACE)?;
        if let Some(supervisor) = env::supervisor() {
            self.thread.set_fault_endpoint(Some(supervisor))?;
        }
        let info = env::FIRST_THREAD.info()?;
        self.thread.set_priority(info.priority, info.ceiling)
    }

    /// In the root server, CPU time comes from itself: from the core asked for, or the one that the thread is on.
    fn take_time(&mut self, core: Option<u32>) -> Result<(), Error> {
        let core = core.map_or_else(|| self.thread.info().map(|info| info.core), Ok)?;
        if u64::from(core) >= env::cores() {
            return Err(Error::InvalidArgument);
        }
        let context = match self.context {
            Some((on, context)) if on == core => context,
            _ => {
                let control = SchedControl::at(Slot::new(boot::slot::SCHED_CONTROL + core));
                let slot = slots::allocate()?;
                let made = memory::quota().and_then(|memory| control.make_context(memory, slot));
                made.inspect_err(|_| slots::free(slot))?
            }
        };
        self.thread.set_context(Some(context))?;
        self.context = Some((core, context));
        Ok(())
    }

    /// Tells the root server about it, which gives it CPU time.
    fn announce(&mut self, name: Name, core: Option<u32>) -> Result<(), Failure> {
        let Some(supervisor) = env::supervisor() else { return Ok(self.take_time(core)?) };
        supervisor.call_with(&Request::AddThread { core, name }.message(), self.thread.slot()).map(|_| ())
    }
}

/// What a thread leaves behind.
struct Packet<T> {
    result: UnsafeCell<Option<T>>,
    done: AtomicBool,
}

// SAFETY: the thread writes the result before it sets `done`, the joiner reads it after it saw that; so a value goes
// from one thread to the other, once.
unsafe impl<T: Send> Sync for Packet<T> {}

/// What a new thread finds in its first register.
struct Work {
    worker: Worker,
    run: Box<dyn FnOnce() + Send>,
}

/// How a thread shall be made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Builder {
    name: Name,
    core: Option<u32>,
}

impl Builder {
    /// A thread like any other.
    pub fn new() -> Self {
        Builder::default()
    }

    /// Gives it a name, for people. One that is too long is left out.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Name::new(name).unwrap_or_default();
        self
    }

    /// Has it run on a given core. The manifest must let the program use it.
    pub fn core(mut self, core: u32) -> Self {
        self.core = Some(core);
        self
    }

    /// Starts it. The root server gives threads CPU time: [`Refusal::TooMany`](crate::Refusal::TooMany) if the program
    /// has too many of them, or the system.
    pub fn spawn<T: Send + 'static>(self, body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Failure> {
        let _turn = STARTS.take();
        let mut worker = Worker::get()?;
        if let Err(failure) = worker.announce(self.name, self.core) {
            SPARE.lock().push(worker);
            return Err(failure);
        }
        let packet = Arc::new(Packet { result: UnsafeCell::new(None), done: AtomicBool::new(false) });
        let theirs = Arc::clone(&packet);
        let run = Box::new(move || {
            let result = body();
            // SAFETY: `done` is not set, so the joiner does not look, and nobody else has this packet.
            unsafe { *theirs.result.get() = Some(result) };
            theirs.done.store(true, Ordering::Release);
        });
        let work = Box::into_raw(Box::new(Work { worker, run }));
        let state = StartState {
            program_counter: arch::thread_entry as *const () as u64,
            stack_pointer: worker.stack_top,
            thread_pointer: 0,
            arguments: [work.expose_provenance() as u64, 0],
        };
        if let Err(error) = worker.thread.start(&state) {
            // SAFETY: the thread did not start, so the box is still this function's alone.
            drop(unsafe { Box::from_raw(work) });
            SPARE.lock().push(worker);
            return Err(error.into());
        }
        Ok(JoinHandle { packet, worker })
    }
}

/// Starts a thread.
pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Failure> {
    Builder::new().spawn(body)
}

/// A thread that can be waited for. One that is not waited for runs on, but its stack is not used again.
pub struct JoinHandle<T> {
    packet: Arc<Packet<T>>,
    worker: Worker,
}

impl<T> JoinHandle<T> {
    /// Whether its function has returned.
    pub fn is_finished(&self) -> bool {
        self.packet.done.load(Ordering::Acquire)
    }

    /// Waits until its function returns: what it returned.
    pub fn join(self) -> Result<T, Error> {
        // The signal comes after `done`, so one wait is enough; it also leaves the Notification clear for the next.
        self.worker.done.wait(FOREVER)?;
        // It may still be on its way to stopping itself.
        self.worker.thread.suspend()?;
        // SAFETY: the thread has written its result and signalled since, and is stopped.
        let result = unsafe { (*self.packet.result.get()).take() };
        SPARE.lock().push(self.worker);
        result.ok_or(Error::Cancelled)
    }
}

/// A thread's life.
pub(crate) extern "C" fn run(work: u64) -> ! {
    let work = ptr::with_exposed_provenance_mut::<Work>(memory::address(work));
    // SAFETY: `Builder::spawn` made this box for this thread and gave it away.
    let Work { worker, run } = *unsafe { Box::from_raw(work) };
    run();
    // Nothing that owns memory is left on this stack from here on: the joiner may stop this thread at any point. If
    // the signal fails, there is nobody to wait for it.
    let _ = worker.signal.signal();
    loop {
        let _ = worker.thread.suspend();
        sys::yield_now();
    }
}
