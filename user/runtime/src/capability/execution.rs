//! Threads, and the CPU time that they run on.

use anos_abi::object::{Method, ThreadFlags, ThreadState};
use anos_abi::{Error, Kind, MESSAGE_WORDS};

use super::{AddressSpace, CapTable, Endpoint, Notification, Slot, Untyped, capabilities, invoke};

capabilities! {
    /// A thread of execution.
    Thread;
    /// CPU time: a core, a budget, a period.
    SchedContext;
    /// The right to give out CPU time of one core.
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

/// Registers that one call of [`Method::ThreadWriteRegisters`] sets: the message has two more words.
const WRITTEN_AT_ONCE: usize = MESSAGE_WORDS - 2;

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

    /// Gives it CPU time that no other thread has, and with it a core; or takes it away: then the thread runs only on
    /// what callers lend it.
    pub fn set_context(self, context: Option<SchedContext>) -> Result<(), Error> {
        self.invoke(Method::ThreadSetContext, &[], context.map(|context| context.0))
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

    /// Eight of its registers from this one on, 0 past the last. The order is that of [`Method::ThreadReadRegisters`].
    pub fn read_registers(self, first: u64) -> Result<[u64; MESSAGE_WORDS], Error> {
        invoke(self.0, Method::ThreadReadRegisters, &[first], None, None)
    }

    /// Sets its registers from this one on. What the kernel refuses in the middle leaves those before it set.
    pub fn write_registers(self, first: u64, values: &[u64]) -> Result<(), Error> {
        for (values, first) in values.chunks(WRITTEN_AT_ONCE).zip((first..).step_by(WRITTEN_AT_ONCE)) {
            let mut words = [0; MESSAGE_WORDS];
            let head = [first, values.len() as u64];
            words.iter_mut().zip(head.iter().chain(values)).for_each(|(to, from)| *to = *from);
            self.invoke(Method::ThreadWriteRegisters, &words, None)?;
        }
        Ok(())
    }

    /// Says what is special about it; it must be stopped.
    pub fn set_flags(self, flags: ThreadFlags) -> Result<(), Error> {
        self.invoke(Method::ThreadSetFlags, &[flags.0], None)
    }

    fn invoke(self, method: Method, words: &[u64], pass: Option<Slot>) -> Result<(), Error> {
        invoke(self.0, method, words, pass, None).map(|_| ())
    }
}

/// What a SchedContext says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedContextInfo {
    /// The core whose time it is.
    pub core: u64,
    /// CPU time in every period, in ns; 0 for no limit.
    pub budget_ns: u64,
    /// The period, in ns; 0 for no limit.
    pub period_ns: u64,
    /// What is left of the budget now, in ns.
    pub left_ns: u64,
    /// CPU time used so far, in ns.
    pub used_ns: u64,
    /// Whether it is a thread's.
    pub bound: bool,
}

impl SchedContext {
    /// Whose time it is, and how much of it.
    pub fn info(self) -> Result<SchedContextInfo, Error> {
        let [core, budget_ns, period_ns, left_ns, used_ns, bound, ..] =
            invoke(self.0, Method::SchedContextInfo, &[], None, None)?;
        Ok(SchedContextInfo { core, budget_ns, period_ns, left_ns, used_ns, bound: bound != 0 })
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

    /// Makes a context of this core's time, without a limit, out of this memory, in an empty slot.
    pub fn make_context(self, memory: Untyped, slot: Slot) -> Result<SchedContext, Error> {
        self.make_contexts(memory, 1, slot)?;
        Ok(SchedContext(slot))
    }

    /// Makes `count` of them in the slots from `first` on.
    pub fn make_contexts(self, memory: Untyped, count: u64, first: Slot) -> Result<(), Error> {
        let words = [Kind::SchedContext as u64, 0, count];
        invoke(memory.0, Method::UntypedRetype, &words, Some(self.0), Some(first)).map(|_| ())
    }

    /// Limits a context of this core to a budget in every period; both 0: no limit. `faults`: the end of the budget is a
    /// fault; else the thread waits for the next period.
    pub fn limit(self, context: SchedContext, budget_ns: u64, period_ns: u64, faults: bool) -> Result<(), Error> {
        let words = [budget_ns, period_ns, faults.into()];
        invoke(self.0, Method::SchedControlLimit, &words, Some(context.0), None).map(|_| ())
    }
}
