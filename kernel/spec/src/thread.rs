//! Methods of a Thread, and how a thread is stopped.

use anos_abi::object::{ThreadFlags, ThreadState};
use anos_abi::{Error, Kind, Rights, Status};

use crate::call::{Answer, Request};
use crate::state::{Address, CapId, Part, Place, Registers, State, Thread};
use crate::{Event, Outcome, Spec};

/// How many registers a thread has that can be read and written.
const REGISTERS: u64 = 40;

impl State {
    /// As `ThreadInfo` answers it.
    fn number(self) -> ThreadState {
        match self {
            State::Stopped => ThreadState::Stopped,
            State::Ready => ThreadState::Ready,
            State::Sending(..) => ThreadState::Sending,
            State::Calling(_) => ThreadState::Calling,
            State::Receiving(_) | State::Waiting(_) => ThreadState::Receiving,
            State::Faulted(_) => ThreadState::Faulted,
        }
    }
}

impl Spec {
    pub(crate) fn thread_mut(&mut self, thread: Address) -> &mut Thread {
        self.threads.get_mut(&thread).expect("the thread exists")
    }

    /// Replaces one of a thread's capabilities by a copy of `source`, or by none.
    pub(crate) fn set_part(&mut self, thread: Address, part: Part, source: Option<CapId>) -> Outcome {
        let copy = source.map(|source| self.copy_of(source, Rights::ALL)).transpose()?;
        let place = Place::Thread(thread, part);
        if let Some(old) = self.at(place) {
            self.delete(old)?;
        }
        if let (Some(source), Some(copy)) = (source, copy) {
            self.derive(source, place, copy);
        }
        Ok(())
    }

    pub(crate) fn thread_set_table(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        let table = self.passed_kind(request, Kind::CapTable, Rights::WRITE)?;
        self.set_part(thread, Part::Table, Some(table))?;
        Ok(Answer::OK)
    }

    pub(crate) fn thread_set_space(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        let space = self.passed_kind(request, Kind::AddressSpace, Rights::WRITE)?;
        if self.threads[&thread].state != State::Stopped {
            return Err(Error::Busy);
        }
        self.set_part(thread, Part::Space, Some(space))?;
        Ok(Answer::OK)
    }

    /// The passed capability, or `None` if none is passed.
    pub(crate) fn passed_or_none(&self, request: &Request, kind: Kind, rights: Rights) -> Outcome<Option<CapId>> {
        match request.slots.pass() {
            0 => Ok(None),
            _ => self.passed_kind(request, kind, rights).map(Some),
        }
    }

    pub(crate) fn thread_set_fault_endpoint(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        let endpoint = self.passed_or_none(request, Kind::Endpoint, Rights::WRITE.union(Rights::GRANT))?;
        self.set_part(thread, Part::FaultEndpoint, endpoint)?;
        Ok(Answer::OK)
    }

    /// A Notification is bound to one thread at most. What was signalled before must not wait for the next signal.
    pub(crate) fn thread_bind(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        let source = self.passed_or_none(request, Kind::Notification, Rights::READ)?;
        let notification = source.map(|source| self.cap(source).object);
        if let Some(notification) = notification
            && self.notifications[&notification].bound.is_some_and(|bound| bound != thread)
        {
            return Err(Error::Busy);
        }
        self.set_part(thread, Part::Bound, source)?;
        if let Some(notification) = notification {
            self.notifications.get_mut(&notification).expect("it exists").bound = Some(thread);
            self.signal(notification, 0);
        }
        Ok(Answer::OK)
    }

    pub(crate) fn thread_set_priority(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        let limit = self.threads[&request.caller].ceiling;
        let [priority, ceiling, ..] = request.words;
        let priority = u8::try_from(priority).map_err(|_| Error::InvalidArgument)?;
        let ceiling = u8::try_from(ceiling).map_err(|_| Error::InvalidArgument)?;
        if priority > limit || ceiling > limit {
            return Err(Error::MissingRights);
        }
        let record = self.thread_mut(thread);
        (record.own_priority, record.ceiling) = (priority, ceiling);
        self.set_priority(thread, priority);
        Ok(Answer::OK)
    }

    /// Whether these are registers, and not too many.
    fn check_registers(first: u64, count: u64) -> Outcome {
        let end = first.checked_add(count).ok_or(Error::InvalidArgument)?;
        if (1..=6).contains(&count) && end <= REGISTERS { Ok(()) } else { Err(Error::InvalidArgument) }
    }

    pub(crate) fn thread_read_registers(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        if self.threads[&thread].state == State::Ready {
            return Err(Error::Busy);
        }
        let mut words = [0; 8];
        let numbers = (0..8).map_while(|n| request.words[0].checked_add(n));
        for (word, number) in words.iter_mut().zip(numbers) {
            *word = self.thread_mut(thread).registers.by_number(number).copied().unwrap_or(0);
        }
        Ok(Answer::words(words))
    }

    pub(crate) fn thread_write_registers(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        if !matches!(self.threads[&thread].state, State::Stopped | State::Faulted(_)) {
            return Err(Error::Busy);
        }
        let [first, count, values @ ..] = request.words;
        Self::check_registers(first, count)?;
        for (number, value) in (first..first + count).zip(values) {
            *self.thread_mut(thread).registers.by_number(number).expect("checked") = value;
        }
        self.changed(thread);
        Ok(Answer::OK)
    }

    pub(crate) fn thread_set_flags(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        let flags = request.words[0];
        if flags & !ThreadFlags::ALL != 0 {
            return Err(Error::InvalidArgument);
        }
        if self.threads[&thread].state != State::Stopped {
            return Err(Error::Busy);
        }
        let record = self.thread_mut(thread);
        record.foreign = flags & ThreadFlags::FOREIGN != 0;
        record.no_fpu = flags & ThreadFlags::NO_FPU != 0;
        self.changed(thread);
        Ok(Answer::OK)
    }

    /// No thread goes on outside user space because another program says so: at most, it faults at its end.
    fn changed(&mut self, thread: Address) {
        let end = self.user_end();
        let registers = &mut self.thread_mut(thread).registers;
        registers.pc = registers.pc.min(end);
    }

    /// A thread can go on if it is stopped, and has a table, an address space and CPU time.
    fn check_startable(&self, thread: Address) -> Outcome {
        if self.threads[&thread].state != State::Stopped {
            return Err(Error::Busy);
        }
        let has = |part| self.at(Place::Thread(thread, part)).is_some();
        if has(Part::Table) && has(Part::Space) && !self.is_passive(thread) { Ok(()) } else { Err(Error::NotRunnable) }
    }

    pub(crate) fn thread_start(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        let [pc, sp, tp, first, second, ..] = request.words;
        let end = self.user_end();
        if pc >= end || sp > end || tp >= end {
            return Err(Error::InvalidArgument);
        }
        self.check_startable(thread)?;
        let words = [first, second, 0, 0, 0, 0, 0, 0];
        self.thread_mut(thread).registers = Registers { words, pc, sp, tp, ..Default::default() };
        self.make_ready(thread);
        Ok(Answer::OK)
    }

    pub(crate) fn thread_resume(&mut self, request: &Request) -> Outcome<Answer> {
        let thread = self.cap(request.target).object;
        self.check_startable(thread)?;
        self.make_ready(thread);
        Ok(Answer::OK)
    }

    pub(crate) fn thread_suspend(&mut self, request: &Request) -> Outcome<Answer> {
        self.stop(self.cap(request.target).object);
        Ok(Answer::OK)
    }

    pub(crate) fn thread_info(&mut self, request: &Request) -> Answer {
        let at = self.cap(request.target).object;
        let core = self.threads[&at].core;
        if self.cores[core].current == Some(at) {
            self.charge(core);
        }
        let thread = &self.threads[&at];
        Answer::words([
            thread.state.number() as u64,
            thread.priority.into(),
            thread.core as u64,
            thread.cpu_time,
            thread.registers.pc,
            thread.registers.sp,
            thread.registers.frame_pointer(),
            thread.ceiling.into(),
        ])
    }

    /// Stops a thread, whatever it does and wherever. A wait is called off, which the thread finds out when it goes on;
    /// a system call that nobody has looked at yet has not happened, and the thread will make it then.
    pub(crate) fn stop(&mut self, thread: Address) {
        match self.threads[&thread].state {
            State::Stopped => {}
            State::Ready => {
                self.thread_mut(thread).deadline = None;
                if self.take_off(thread) {
                    self.put_off_call(thread);
                }
            }
            state => {
                self.leave_wait(thread);
                if !state.is_faulted() {
                    self.answer(thread, Status::error(Error::Cancelled), 0, 0, [0; 8]);
                }
            }
        }
        self.thread_mut(thread).state = State::Stopped;
    }

    /// Takes a ready thread off its core, whether it runs or waits for its turn. Answers whether it was about to make a
    /// system call there.
    pub(crate) fn take_off(&mut self, thread: Address) -> bool {
        let core = self.threads[&thread].core;
        if self.cores[core].current == Some(thread) {
            self.charge(core);
            self.cores[core].current = None;
            return core != self.me && self.cores[core].trapped == Some(Event::SystemCall);
        }
        self.leave_queue(thread);
        false
    }

    /// The thread's system call has not happened: its program counter goes back to the instruction that makes it.
    pub(crate) fn put_off_call(&mut self, thread: Address) {
        let bytes = self.machine.system_call_bytes;
        let registers = &mut self.thread_mut(thread).registers;
        registers.pc = registers.pc.wrapping_sub(bytes);
    }
}

impl Registers {
    /// The register with this number: the roles' in the order in which the ABI lists them, then the others.
    fn by_number(&mut self, number: u64) -> Option<&mut u64> {
        match number {
            0..=7 => self.words.get_mut(usize::try_from(number).ok()?),
            8 => Some(&mut self.operation),
            9 => Some(&mut self.label),
            10 => Some(&mut self.slots),
            11 => Some(&mut self.reply),
            12 => Some(&mut self.deadline),
            13 => Some(&mut self.pc),
            14 => Some(&mut self.sp),
            15 => Some(&mut self.tp),
            _ => self.others.get_mut(usize::try_from(number - 16).ok()?),
        }
    }

    /// The frame pointer: on the simulated machine, as on x86-64, it travels as word 7.
    pub(crate) fn frame_pointer(&self) -> u64 {
        self.words[7]
    }
}
