//! Methods of a Thread, and how a thread is stopped.

use anos_abi::object::{ThreadFlags, ThreadState};
use anos_abi::syscall::FOREVER;
use anos_abi::{Error, Kind, Rights, Status};
use anos_machine::{CoreId, Machine, Notification, Ref, Registers, Slot, SlotRef, Stop, Thread};

use crate::call::Request;
use crate::family::make_copy;
use crate::{Outcome, Visit};

/// The capabilities inside a Thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its capability table.
    Table = 0,
    /// Its address space.
    Space = 1,
    /// Where its faults go.
    FaultEndpoint = 2,
    /// The notification bound to it.
    Bound = 3,
    /// Its scheduling context.
    Context = 4,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 5] = [Part::Table, Part::Space, Part::FaultEndpoint, Part::Bound, Part::Context];

    /// Where this capability lies in a thread.
    pub fn of(self, thread: Ref<Thread>) -> SlotRef {
        let offset = core::mem::offset_of!(Thread, slots) + self as usize * size_of::<Slot>();
        SlotRef::at(thread.address().wrapping_add(offset as u64))
    }

    /// The thread whose part a slot is, if it is one in a page of threads.
    fn owner(self, at: SlotRef) -> Ref<Thread> {
        let start = at.address() & !(size_of::<Thread>() as u64 - 1);
        let thread = Ref::at(start);
        if self.of(thread) == at { thread } else { Ref::NONE }
    }
}

impl<M: Machine> Visit<'_, M> {
    /// A thread's own capability of this part.
    #[inline(always)]
    pub fn part(&self, thread: Ref<Thread>, part: Part) -> Outcome<&Slot> {
        self.held.store.see(thread)?.slots.get(part as usize).ok_or(Stop::STALE)
    }

    fn thread(&mut self, request: &Request) -> Ref<Thread> {
        Ref::at(request.target.object)
    }

    /// What a thread is doing.
    pub(crate) fn state_of(&mut self, thread: Ref<Thread>) -> Outcome<ThreadState> {
        Ok(ThreadState::from_number(self.held.store.get(thread)?.state.into()))
    }

    /// Replaces one of a thread's capabilities by a copy of another, or by none.
    pub(crate) fn set_part(&mut self, thread: Ref<Thread>, part: Part, from: SlotRef) -> Outcome {
        self.need_all()?;
        let to = part.of(thread);
        if from.is_none() {
            return self.delete_in_thread(to);
        }
        let mut copy = self.slot(from)?.copy();
        make_copy(&mut copy, Rights::ALL)?;
        self.delete_in_thread(to)?;
        self.derive(from, to, &copy)
    }

    pub(crate) fn thread_set_table(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        let table = request.passed_kind(self, Kind::CapTable, Rights::WRITE)?;
        self.set_part(thread, Part::Table, table)
    }

    pub(crate) fn thread_set_space(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        let space = request.passed_kind(self, Kind::AddressSpace, Rights::WRITE)?;
        if self.state_of(thread)? != ThreadState::Stopped {
            return Err(Error::Busy.into());
        }
        self.set_part(thread, Part::Space, space)
    }

    pub(crate) fn thread_set_fault_endpoint(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        let rights = Rights::WRITE.union(Rights::GRANT);
        let endpoint = request.passed_if_any(self, Kind::Endpoint, rights)?;
        self.set_part(thread, Part::FaultEndpoint, endpoint)
    }

    pub(crate) fn thread_bind(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        let from = request.passed_if_any(self, Kind::Notification, Rights::READ)?;
        if from.is_none() {
            return self.set_part(thread, Part::Bound, from);
        }
        let at = Ref::<Notification>::at(self.held.store.see(from)?.object);
        let bound = self.held.store.see(at)?.bound;
        if !bound.is_none() && bound != thread {
            return Err(Error::Busy.into());
        }
        self.set_part(thread, Part::Bound, from)?;
        let notification = self.held.store.get(at)?;
        notification.bound = thread;
        // What was signalled before must not wait for the next signal.
        if notification.bits != 0 { self.signal(at, 0) } else { Ok(()) }
    }

    /// An AddressSpace capability is about to go: if it is the one that a thread runs in, the thread stops.
    pub(crate) fn stop_owner(&mut self, at: SlotRef) -> Outcome {
        if self.held.store.record(at.address())?.kind() != Kind::Thread as u8 {
            return Ok(());
        }
        match Part::Space.owner(at).some() {
            Some(thread) => self.stop(thread),
            None => Ok(()),
        }
    }

    /// A capability is about to go: if it binds a notification or a scheduling context to a thread, so does that.
    pub(crate) fn before_unlink(&mut self, at: SlotRef, slot: &Slot) -> Outcome {
        if self.held.store.record(at.address())?.kind() != Kind::Thread as u8 {
            return Ok(());
        }
        if !Part::Bound.owner(at).is_none() {
            self.held.store.get(Ref::<Notification>::at(slot.object))?.bound = Ref::NONE;
        }
        match Part::Context.owner(at).some() {
            Some(thread) => self.detach(thread),
            None => Ok(()),
        }
    }

    pub(crate) fn thread_set_priority(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        let limit = self.held.store.get(request.caller)?.ceiling;
        let [priority, ceiling, ..] = *request.words;
        let priority = u8::try_from(priority).map_err(|_| Error::InvalidArgument)?;
        let ceiling = u8::try_from(ceiling).map_err(|_| Error::InvalidArgument)?;
        if priority > limit || ceiling > limit {
            return Err(Error::MissingRights.into());
        }
        self.set_priority(thread, priority)?;
        let record = self.held.store.get(thread)?;
        (record.own_priority, record.ceiling) = (priority, ceiling);
        Ok(())
    }

    fn is_runnable(&mut self, thread: Ref<Thread>) -> Outcome<bool> {
        let Thread { slots: [table, space, ..], context, .. } = self.held.store.see(thread)?;
        Ok(!table.is_empty() && !space.is_empty() && !context.is_none())
    }

    pub(crate) fn thread_start(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        let [pc, sp, tp, first, second, ..] = *request.words;
        let end = self.machine.user_end();
        if pc >= end || sp > end || tp >= end {
            return Err(Error::InvalidArgument.into());
        }
        self.check_startable(thread)?;
        let record = self.held.store.get(thread)?;
        record.registers = Registers { words: [first, second, 0, 0, 0, 0, 0, 0], pc, sp, tp, ..Registers::default() };
        // What the port keeps there of floating-point state is void, and so the area itself.
        record.machine = [0; 4];
        self.make_ready(thread)?;
        Ok(())
    }

    pub(crate) fn thread_resume(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        self.check_startable(thread)?;
        self.make_ready(thread)?;
        Ok(())
    }

    fn check_startable(&mut self, thread: Ref<Thread>) -> Outcome {
        if self.state_of(thread)? != ThreadState::Stopped {
            return Err(Error::Busy.into());
        }
        if !self.is_runnable(thread)? {
            return Err(Error::NotRunnable.into());
        }
        Ok(())
    }

    pub(crate) fn thread_suspend(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        self.stop(thread)?;
        Ok(())
    }

    pub(crate) fn thread_info(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        let core = self.held.store.get(thread)?.core;
        if let Some(core) = CoreId::new(core.into())
            && self.held.core(core)?.current == thread
        {
            self.charge(core)?;
        }
        let record = self.held.store.get(thread)?;
        self.answer.tell([
            record.state.into(),
            record.priority.into(),
            record.core.into(),
            record.cpu_time,
            record.registers.pc,
            record.registers.sp,
            self.machine.frame_pointer(&record.registers),
            record.ceiling.into(),
        ])
    }

    /// Gives a fresh (clear) record what a thread starts with.
    pub(crate) fn init_thread(&mut self, thread: Ref<Thread>) -> Outcome {
        let core = self.me.number();
        let record = self.held.store.get(thread)?;
        record.core = core;
        record.deadline = FOREVER;
        Ok(())
    }

    /// The register with this number, in the order of [`Registers`].
    fn register(registers: &mut Registers, number: u64) -> Option<&mut u64> {
        let number = usize::try_from(number).ok()?;
        Some(match number {
            0..=7 => registers.words.get_mut(number)?,
            8 => &mut registers.operation,
            9 => &mut registers.label,
            10 => &mut registers.slots,
            11 => &mut registers.reply,
            12 => &mut registers.deadline,
            13 => &mut registers.pc,
            14 => &mut registers.sp,
            15 => &mut registers.tp,
            _ => registers.other.get_mut(number - 16)?,
        })
    }

    pub(crate) fn thread_read_registers(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        if self.state_of(thread)? == ThreadState::Ready {
            return Err(Error::Busy.into());
        }
        let [first, ..] = *request.words;
        let registers = &mut self.held.store.get(thread)?.registers;
        self.machine.shown(registers);
        let mut words = [0; 8];
        // bound: ARRAY
        for (number, word) in (0..).zip(&mut words) {
            *word = Self::register(registers, first.saturating_add(number)).copied().unwrap_or(0);
        }
        self.answer.words = words;
        Ok(())
    }

    pub(crate) fn thread_write_registers(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        if !matches!(self.state_of(thread)?, ThreadState::Stopped | ThreadState::Faulted) {
            return Err(Error::Busy.into());
        }
        let [first, count, values @ ..] = *request.words;
        let record = self.held.store.get(thread)?;
        let end = first.checked_add(count).ok_or(Error::InvalidArgument)?;
        if !(1..=6).contains(&count) || end > size_of::<Registers>() as u64 / 8 {
            return Err(Error::InvalidArgument.into());
        }
        self.machine.shown(&mut record.registers);
        // bound: ARRAY
        for (number, value) in (first..end).zip(values) {
            if let Some(register) = Self::register(&mut record.registers, number) {
                *register = value;
            }
        }
        self.machine.changed(record);
        Ok(())
    }

    pub(crate) fn thread_set_flags(&mut self, request: &Request) -> Outcome {
        let thread = self.thread(request);
        let [flags, ..] = *request.words;
        if flags & !ThreadFlags::ALL != 0 {
            return Err(Error::InvalidArgument.into());
        }
        if self.state_of(thread)? != ThreadState::Stopped {
            return Err(Error::Busy.into());
        }
        let record = self.held.store.get(thread)?;
        record.foreign = u8::from(flags & ThreadFlags::FOREIGN != 0);
        record.no_fpu = u8::from(flags & ThreadFlags::NO_FPU != 0);
        self.machine.changed(record);
        Ok(())
    }

    /// Stops a thread, whatever it does and wherever; a wait answers `Cancelled`. When this returns, no core runs it.
    pub(crate) fn stop(&mut self, thread: Ref<Thread>) -> Outcome {
        match self.state_of(thread)? {
            ThreadState::Stopped => return Ok(()),
            ThreadState::Ready => {
                self.cancel_deadline(thread)?;
                if self.take_off(thread)? {
                    self.put_off_call(thread)?;
                }
            }
            ThreadState::Faulted => self.leave_wait(thread)?,
            ThreadState::Sending if self.held.store.get(thread)?.sending == crate::ipc::FAULT => {
                self.leave_wait(thread)?;
            }
            ThreadState::Sending | ThreadState::Calling | ThreadState::Receiving => {
                self.leave_wait(thread)?;
                self.finish(thread, Status::error(Error::Cancelled), 0)?;
            }
        }
        self.held.store.get(thread)?.state = ThreadState::Stopped as u8;
        Ok(())
    }

    /// A thread ends: no core remembers it, and nobody's CPU time is left with it. (It has been stopped.)
    pub(crate) fn forget(&mut self, thread: Ref<Thread>) -> Outcome {
        self.detach(thread)?;
        let core = self.held.store.get(thread)?.core;
        if let Some(core) = CoreId::new(core.into()) {
            let state = self.held.core(core)?;
            if state.current == thread {
                state.current = Ref::NONE;
            }
        }
        Ok(())
    }
}
