//! Threads, and where they run.

use anos_abi::Error;
use anos_abi::object::{Method, ThreadState};

use super::{AddressSpace, CapTable, Endpoint, Notification, Slot, capabilities, invoke};

capabilities! {
    /// A thread of execution.
    Thread;
    /// The right to place threads on one core.
    SchedControl;
}

/// What a thread starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartState {
    /// Its first instruction.
    pub program_counter: u64,
    /// Its stack pointer.
    pub stack_pointer: u64,
    /// Its thread pointer.
    pub thread_pointer: u64,
    /// What it finds in message words 0 and 1; all other registers are 0.
    pub arguments: [u64; 2],
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadInfo {
    /// Whether it runs, or on what it waits.
    pub state: ThreadState,
    /// Its priority.
    pub priority: u8,
    /// The core it runs on.
    pub core: u32,
    /// CPU time it has used, in ns.
    pub cpu_time_ns: u64,
    /// Where it was when it last entered the kernel.
    pub program_counter: u64,
    /// Its stack pointer then.
    pub stack_pointer: u64,
    /// Its frame pointer then.
    pub frame_pointer: u64,
    /// The highest priority it may give.
    pub ceiling: u8,
}

impl Thread {
    /// Gives it its capability table.
    pub fn set_table(self, table: CapTable) -> Result<(), Error> {
        self.invoke(Method::ThreadSetTable, &[], Some(table.0))
    }

    /// Gives it its address space.
    pub fn set_space(self, space: AddressSpace) -> Result<(), Error> {
        self.invoke(Method::ThreadSetSpace, &[], Some(space.0))
    }

    /// Says where its faults go; nowhere: a fault stops it.
    pub fn set_fault_endpoint(self, endpoint: Option<Endpoint>) -> Result<(), Error> {
        self.invoke(Method::ThreadSetFaultEndpoint, &[], endpoint.map(|endpoint| endpoint.0))
    }

    /// Binds a Notification, so that receiving on any Endpoint also takes its signals; or unbinds.
    pub fn bind(self, notification: Option<Notification>) -> Result<(), Error> {
        self.invoke(Method::ThreadBind, &[], notification.map(|notification| notification.0))
    }

    /// Sets its priority, and the ceiling that it may itself give.
    pub fn set_priority(self, priority: u8, ceiling: u8) -> Result<(), Error> {
        self.invoke(Method::ThreadSetPriority, &[priority.into(), ceiling.into()], None)
    }

    /// Moves it to a core.
    pub fn set_core(self, core: SchedControl) -> Result<(), Error> {
        self.invoke(Method::ThreadSetCore, &[], Some(core.0))
    }

    /// Starts it afresh; it must be stopped.
    pub fn start(self, state: &StartState) -> Result<(), Error> {
        let [first, second] = state.arguments;
        let words = [state.program_counter, state.stack_pointer, state.thread_pointer, first, second];
        self.invoke(Method::ThreadStart, &words, None)
    }

    /// Stops it; a wait is called off.
    pub fn suspend(self) -> Result<(), Error> {
        self.invoke(Method::ThreadSuspend, &[], None)
    }

    /// Lets it go on where it stopped.
    pub fn resume(self) -> Result<(), Error> {
        self.invoke(Method::ThreadResume, &[], None)
    }

    /// What it is doing.
    pub fn info(self) -> Result<ThreadInfo, Error> {
        let words = invoke(self.0, Method::ThreadInfo, &[], None, None)?;
        let [state, priority, core, cpu_time_ns, program_counter, stack_pointer, frame_pointer, ceiling] = words;
        let [priority, ..] = priority.to_le_bytes();
        let [ceiling, ..] = ceiling.to_le_bytes();
        let core = u32::try_from(core).map_err(|_| Error::InvalidArgument)?;
        let state = ThreadState::from_number(state);
        Ok(ThreadInfo { state, priority, core, cpu_time_ns, program_counter, stack_pointer, frame_pointer, ceiling })
    }

    fn invoke(self, method: Method, words: &[u64], pass: Option<Slot>) -> Result<(), Error> {
        invoke(self.0, method, words, pass, None).map(|_| ())
    }
}

/// What a core has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreInfo {
    /// Which core.
    pub core: u64,
    /// Time it had nothing to do, in ns.
    pub idle_ns: u64,
    /// Threads that wait for it.
    pub ready: u64,
    /// Times it turned from one thread to another.
    pub switches: u64,
}

impl SchedControl {
    /// What the core has done.
    pub fn info(self) -> Result<CoreInfo, Error> {
        let [core, idle_ns, ready, switches, ..] = invoke(self.0, Method::SchedControlInfo, &[], None, None)?;
        Ok(CoreInfo { core, idle_ns, ready, switches })
    }
}
