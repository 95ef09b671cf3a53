//! What the root server answers: the process protocol, and faults. See [`anos_interfaces::process`].

use anos_abi::boot::slot as boot_slot;
use anos_abi::fault::{self, FaultKind};
use anos_abi::object::{Method, ThreadState};
use anos_abi::{Error, Kind, MESSAGE_WORDS, Rights};
use anos_interfaces::process::{self, End, MANAGER, Request};
use anos_interfaces::{Badge, Bytes, Failure, Message, Name, Refusal};
use anos_manifest::{Start, process_right};

use crate::contexts::Context;
use crate::end::GONE;
use crate::kernel::{self, Kernel, Received};
use crate::layout::{self, MAX_PROCESSES, MAX_WAITERS, RECEIVED, window};
use crate::process::{Arguments, Known, Waiter};
use crate::report::{self, Address};
use crate::root::Root;

/// Requests of one process that can wait at the same time: one for each other process.
const MAX_WAITERS_EACH: usize = MAX_PROCESSES - 1;
const _: () = assert!(MAX_WAITERS_EACH < MAX_WAITERS, "one process can't keep all others from waiting");

/// What a request leads to: an answer, or none (yet).
type Served = Result<Option<Message>, Failure>;

/// What a thread did wrong, and where.
struct Fault {
    kind: FaultKind,
    address: u64,
    program_counter: u64,
    cause: u64,
}

fn answer(words: &[u64]) -> Served {
    Ok(Some(Message::answer(words)))
}

/// What a sender must be allowed for a request: bits of [`process_right`].
fn right_for(request: &Request) -> u8 {
    match request {
        Request::Exit { .. } | Request::AddThread { .. } => 0,
        Request::NextProcess { .. }
        | Request::ThreadOf { .. }
        | Request::Memory
        | Request::NextCapability { .. }
        | Request::Program { .. }
        | Request::Core { .. }
        | Request::Counters => process_right::SEE,
        Request::Arguments { .. } | Request::Run { .. } | Request::Wait { .. } => process_right::RUN,
        Request::Kill { .. } => process_right::KILL,
        Request::Shutdown { .. } => process_right::POWER,
    }
}

impl<K: Kernel> Root<'_, K> {
    /// Serves one message; the answer, if one is due now. `reply` is the Reply it came with.
    pub(crate) fn serve(&mut self, received: &Received, reply: u32) -> Option<Message> {
        let badge = Badge::from_word(received.badge);
        if badge.role == GONE {
            return Some(Self::gone());
        }
        let Some(place) = self.processes.place_of(badge.pid) else {
            return Some(Message::refusal(Refusal::NoSuchProcess));
        };
        if let Some(fault) = Self::fault_of(&received.message) {
            self.fault(place, fault);
            return None;
        }
        let served = match Request::try_from(&received.message) {
            Ok(request) => self.request(place, badge, &request, received, reply),
            Err(error) => Err(error.into()),
        };
        served.unwrap_or_else(|failure| Some(Message::refusal(failure)))
    }

    fn request(&mut self, place: usize, badge: Badge, request: &Request, received: &Received, reply: u32) -> Served {
        let right = right_for(request);
        if right != 0 && (badge.role != MANAGER || self.rights_at(place) & right == 0) {
            return Err(Refusal::NotPermitted.into());
        }
        match *request {
            Request::Exit { code } => {
                self.end_process(place, End::Exited { code });
                Ok(None)
            }
            Request::AddThread { core, name } => self.add_thread(place, core, name, received.capability),
            Request::NextProcess { after } => self.next_process(after),
            Request::ThreadOf { pid, index } => self.thread_of(pid, index),
            Request::Memory => answer(&self.memory().words()),
            Request::NextCapability { pid, from } => self.next_capability(pid, from),
            Request::Program { index } => self.program(index),
            Request::Arguments { offset, bytes } => self.arguments(place, offset, &bytes),
            Request::Run { name, argument_bytes } => self.run_program(place, &name, argument_bytes),
            Request::Wait { pid } => self.wait(badge.pid, pid, reply, received.answerable),
            Request::Kill { pid } => self.kill(badge.pid, pid),
            Request::Core { core } => self.core(core),
            Request::Counters => self.counters(),
            Request::Shutdown { reboot } => {
                self.kernel.invoke(boot_slot::DEBUG, Method::DebugReset, &[reboot.into()], 0, 0)?;
                answer(&[])
            }
        }
    }

    fn rights_at(&self, place: usize) -> u8 {
        let program = self.processes.get(place).map(|process| process.program);
        program.and_then(|program| self.system.programs.get(program)).map_or(0, |entry| entry.process)
    }

    // Faults.

    /// What this says that a thread did wrong, if it does.
    fn fault_of(message: &Message) -> Option<Fault> {
        match (message.label, message.words) {
            (fault::LABEL, [kind, program_counter, address, cause, ..]) => {
                Some(Fault { kind: FaultKind::from_number(kind), address, program_counter, cause })
            }
            // Nobody here knows what other systems' calls mean.
            (fault::SYSTEM_CALL_LABEL, [.., program_counter]) => {
                Some(Fault { kind: FaultKind::IllegalInstruction, address: 0, program_counter, cause: 0 })
            }
            _ => None,
        }
    }

    /// A thread of the process faulted: the process ends.
    fn fault(&mut self, place: usize, fault: Fault) {
        let Fault { kind, address, program_counter, cause } = fault;
        if let Some(process) = self.processes.get(place) {
            let name = self.system.programs.get(process.program).map_or("?", |entry| entry.name.as_str());
            report::line(
                &mut self.kernel,
                format_args!(
                    "{name} (pid {}) fault: {} at {}, program counter {}",
                    process.pid,
                    kind.text(),
                    Address(address),
                    Address(program_counter)
                ),
            );
        }
        self.end_process(place, End::Faulted { kind, address, program_counter, cause });
    }

    // What every process may ask.

    fn add_thread(&mut self, place: usize, core: Option<u32>, name: Name, came: bool) -> Served {
        if !came || kernel::kind_in(&mut self.kernel, boot_slot::CAP_TABLE, RECEIVED)? != Kind::Thread {
            return Err(Error::WrongKind.into());
        }
        self.forget_stopped(place);
        let process = self.processes.get(place).ok_or(Refusal::NoSuchProcess)?;
        let free = process.threads.iter().position(Option::is_none).ok_or(Refusal::TooMany)?;
        let context = self.give_time(place, core)?;
        let slot = layout::process(place) + window::THREADS + layout::number(free);
        if let Err(error) = kernel::move_to(&mut self.kernel, RECEIVED, boot_slot::CAP_TABLE, slot) {
            self.contexts.take_back(&mut self.kernel, context);
            return Err(error.into());
        }
        self.name_thread(place, slot, &name);
        let threads = self.processes.get_mut(place).map(|process| &mut process.threads);
        if let Some(thread) = threads.and_then(|threads| threads.get_mut(free)) {
            *thread = Some(Known { name, context });
        }
        answer(&[])
    }

    /// Gives the thread that came along time of a core, or of the one it is on, if its program may use that.
    fn give_time(&mut self, place: usize, core: Option<u32>) -> Result<Context, Failure> {
        let entry = self.processes.get(place).and_then(|process| self.system.programs.get(process.program));
        let entry = entry.ok_or(Refusal::NoSuchProcess)?;
        let core = match core {
            Some(core) => u64::from(core),
            None => {
                let [_, _, core, ..] = self.kernel.invoke(RECEIVED, Method::ThreadInfo, &[], 0, 0)?;
                core
            }
        };
        let core = u32::try_from(core).ok().filter(|_| core < self.facts.cores).ok_or(Error::InvalidArgument)?;
        if entry.cores != 0 && entry.cores >> core & 1 == 0 {
            return Err(Refusal::NotPermitted.into());
        }
        Ok(self.contexts.give(&mut self.kernel, RECEIVED, core, entry.cpu)?)
    }

    /// Tells the kernel what to call a thread in its dumps: by its own name, or its program's.
    fn name_thread(&mut self, place: usize, thread: u32, name: &Name) {
        let program = self.processes.get(place).and_then(|process| self.system.programs.get(process.program));
        let name = match program {
            Some(program) if name.is_empty() => Name::new(&program.name).unwrap_or_default(),
            _ => *name,
        };
        // It is for people only.
        let _ = self.kernel.invoke(boot_slot::DEBUG, Method::DebugName, &name.words(), thread, 0);
    }

    /// Places whose threads have stopped, or are gone, become free: who announces a thread has started those before,
    /// and a thread that has ended may be announced once more, with its next work.
    fn forget_stopped(&mut self, place: usize) {
        let first = layout::process(place) + window::THREADS;
        let Some(process) = self.processes.get_mut(place) else { return };
        for (thread, slot) in process.threads.iter_mut().zip(first..) {
            let Some(Known { context, .. }) = *thread else { continue };
            let info = self.kernel.invoke(slot, Method::ThreadInfo, &[], 0, 0);
            if info.is_ok_and(|[state, ..]| state != ThreadState::Stopped as u64) {
                continue;
            }
            self.contexts.take_back(&mut self.kernel, context);
            kernel::discard(&mut self.kernel, slot);
            *thread = None;
        }
    }

    // Looking.

    fn next_process(&self, after: u32) -> Served {
        let (_, process) = self.processes.after(after).ok_or(Refusal::NothingThere)?;
        let name = self.system.programs.get(process.program).map_or("", |entry| entry.name.as_str());
        let threads = 1 + process.threads.iter().flatten().count();
        let answered = process::Process {
            pid: process.pid,
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            memory_bytes: process.block.bytes(),
            name: Name::new(name).unwrap_or_default(),
        };
        answer(&answered.words())
    }

    fn thread_of(&mut self, pid: u32, index: u32) -> Served {
        let place = self.place_of(pid)?;
        let process = self.processes.get(place).ok_or(Refusal::NoSuchProcess)?;
        let mut left = index;
        for (slot, name) in process.thread_slots(place) {
            // A thread that its process has ended is no longer there.
            let Ok([state, priority, core, time, pc, sp, ..]) = self.kernel.invoke(slot, Method::ThreadInfo, &[], 0, 0)
            else {
                continue;
            };
            if left == 0 {
                let thread = process::Thread {
                    state: ThreadState::from_number(state),
                    priority: u8::try_from(priority).unwrap_or(u8::MAX),
                    core: u32::try_from(core).unwrap_or(u32::MAX),
                    cpu_time_ns: time,
                    program_counter: pc,
                    stack_pointer: sp,
                    name,
                };
                return answer(&thread.words());
            }
            left -= 1;
        }
        Err(Refusal::NothingThere.into())
    }

    /// Where main memory is.
    pub fn memory(&self) -> process::Memory {
        let (total, kernel) = (self.facts.ram_bytes, self.facts.kernel_bytes);
        let (free, processes) = (self.buddy.free_bytes(), self.processes.bytes());
        let system = total.saturating_sub(kernel).saturating_sub(free).saturating_sub(processes);
        process::Memory { total, free, kernel, system, processes }
    }

    fn next_capability(&mut self, pid: u32, from: u32) -> Served {
        let place = self.place_of(pid)?;
        let process = self.processes.get(place).ok_or(Refusal::NoSuchProcess)?;
        let slots = self.system.programs.get(process.program).map_or(0, |entry| entry.slots);
        let table = layout::process(place) + window::TABLE;
        for at in from.max(1)..slots {
            let [kind, rights, badge, size, ..] =
                self.kernel.invoke(table, Method::CapTableLook, &[at.into()], 0, 0)?;
            let kind = Kind::try_from(kind)?;
            if kind == Kind::Empty {
                continue;
            }
            let rights = Rights(u8::try_from(rights).unwrap_or(0));
            let found = process::Capability { slot: at, kind, rights, badge, size, name: process.name_of(at) };
            return answer(&found.words());
        }
        Err(Refusal::NothingThere.into())
    }

    fn program(&self, index: u32) -> Served {
        let index = usize::try_from(index).map_err(|_| Error::InvalidArgument)?;
        let entry = self.system.programs.get(index).ok_or(Refusal::NothingThere)?;
        let answered = process::Program {
            bytes: self.archive.find(&entry.file).map_or(0, |file| file.len() as u64),
            startable: entry.start == Start::Manual,
            name: Name::new(&entry.name).unwrap_or_default(),
        };
        answer(&answered.words())
    }

    fn core(&mut self, core: u32) -> Served {
        if u64::from(core) >= self.facts.cores {
            return Err(Refusal::NothingThere.into());
        }
        let control = boot_slot::SCHED_CONTROL + core;
        let [_, idle_ns, ready, switches, ..] = self.kernel.invoke(control, Method::SchedControlInfo, &[], 0, 0)?;
        answer(&process::Core { idle_ns, ready, switches }.words())
    }

    /// What all cores have done together.
    fn counters(&mut self) -> Served {
        let mut sums = [0u64; MESSAGE_WORDS];
        for core in 0..self.facts.cores {
            let words = self.kernel.invoke(boot_slot::DEBUG, Method::DebugCounters, &[core], 0, 0)?;
            sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
        }
        answer(&sums)
    }

    // Managing.

    fn arguments(&mut self, place: usize, offset: u32, bytes: &Bytes) -> Served {
        let process = self.processes.get_mut(place).ok_or(Refusal::NoSuchProcess)?;
        let offset = usize::try_from(offset).map_err(|_| Error::InvalidArgument)?;
        if process.arguments.put(offset, bytes) { answer(&[]) } else { Err(Refusal::ArgumentsTooLong.into()) }
    }

    fn run_program(&mut self, place: usize, name: &Name, argument_bytes: u32) -> Served {
        let program = self.system.programs.iter().position(|entry| entry.name == name.as_str());
        let program = program.ok_or(Refusal::NoSuchProgram)?;
        let entry = self.system.programs.get(program).ok_or(Refusal::NoSuchProgram)?;
        if entry.start != Start::Manual {
            return Err(Refusal::NotStartable.into());
        }
        if argument_bytes != 0 && !entry.arguments {
            return Err(Refusal::NoArguments.into());
        }
        let process = self.processes.get_mut(place).ok_or(Refusal::NoSuchProcess)?;
        let parent = process.pid;
        let mut arguments = core::mem::replace(&mut process.arguments, Arguments::EMPTY);
        let length = usize::try_from(argument_bytes).map_err(|_| Error::InvalidArgument)?;
        let bytes = if length == 0 { Some(&[][..]) } else { arguments.take(length) };
        let bytes = bytes.ok_or(Error::InvalidArgument)?;
        match self.spawn(program, parent, bytes) {
            Ok(pid) => answer(&[pid.into()]),
            Err(failure) => {
                self.report_failure(program, failure);
                Err(failure.into())
            }
        }
    }

    fn wait(&mut self, by: u32, pid: u32, reply: u32, answerable: bool) -> Served {
        if let Some(end) = self.ends.take(pid, by) {
            return answer(&end.words());
        }
        let place = self.place_of(pid)?;
        if self.processes.get(place).is_none_or(|process| process.parent != by) {
            return Err(Refusal::NoSuchProcess.into());
        }
        if !answerable {
            return Ok(None);
        }
        let mine = self.waiters.iter().filter(|waiter| waiter.by == by).count();
        if mine >= MAX_WAITERS_EACH || self.waiters.len() >= MAX_WAITERS {
            // Those that gave up waiting don't say so: the oldest makes room.
            let oldest = self.waiters.iter().find(|waiter| waiter.by == by).map(|waiter| waiter.reply);
            self.forget_waiter(|waiter| Some(waiter.reply) == oldest);
        }
        if self.waiters.len() >= MAX_WAITERS {
            return Err(Refusal::TooMany.into());
        }
        self.replies.retain(|&free| free != reply);
        self.waiters.push(Waiter { by, pid, reply });
        Ok(None)
    }

    fn kill(&mut self, by: u32, pid: u32) -> Served {
        let place = self.place_of(pid)?;
        self.end_process(place, End::Killed);
        // Who killed itself has nobody to tell.
        if by == pid { Ok(None) } else { answer(&[]) }
    }
}
