//! How a process goes, whatever it is doing: its block is revoked, and with it all that it had and made.

use anos_abi::Error;
use anos_abi::object::Method;
use anos_interfaces::process::End;
use anos_interfaces::{Message, Refusal};
use anos_manifest::{Restart, Start};

use crate::buddy::Block;
use crate::kernel::{self, Kernel};
use crate::layout::{self, DRAIN_REPLY, SERVICES, window};
use crate::process::Waiter;
use crate::report;
use crate::root::{Halves, Root};
use crate::spawn::give_service;

/// The role in the badge of those who call a service that nobody provides any more: the root server answers.
pub const GONE: u32 = u32::MAX;
/// A program that ends sooner than this after its start has failed.
const SOON_NS: u64 = 2_000_000_000;
/// Failures in a row after which a program is left alone.
const MAX_FAILURES: u32 = 5;

impl<K: Kernel> Root<'_, K> {
    /// Ends the process at a place. When this returns it is gone, its memory is free, and who waited for it knows.
    pub(crate) fn end_process(&mut self, place: usize, end: End) {
        self.stop_threads(place);
        let Some(process) = self.processes.take(place) else { return };
        let (pid, program, parent) = (process.pid, process.program, process.parent);
        self.take_back_devices(program);
        for (slot, _) in process.thread_slots(place).skip(1) {
            // A thread that isn't the process's own would stay in the way of the next one's.
            kernel::discard(&mut self.kernel, slot);
        }
        for context in process.contexts() {
            self.contexts.take_back(&mut self.kernel, context);
        }
        self.release(process.block);
        self.forget_waiter(|waiter| waiter.by == pid);
        self.ends.forget(pid);
        if !self.answer_waiters(pid, end) && self.processes.place_of(parent).is_some() {
            self.ends.put(pid, parent, end);
        }
        self.start_again(program, end);
    }

    /// Stops a process's threads before it is taken apart: on another core, one could make capabilities as fast as they
    /// are revoked.
    fn stop_threads(&mut self, place: usize) {
        let Some(process) = self.processes.get(place) else { return };
        for (slot, _) in process.thread_slots(place) {
            // One that is gone has stopped.
            let _ = self.kernel.invoke(slot, Method::ThreadSuspend, &[], 0, 0);
        }
        // Those that it never announced stop as they lose their address space.
        let _ = kernel::revoke(&mut self.kernel, layout::process(place) + window::SPACE);
    }

    /// Takes a program's devices from all who have them: a driver may have passed them on.
    fn take_back_devices(&mut self, program: usize) {
        for slots in self.devices.iter().filter(|slots| slots.owner.0 == program) {
            if slots.interrupt != 0 {
                // Not bound is as good.
                let _ = self.kernel.invoke(slots.interrupt, Method::InterruptUnbind, &[], 0, 0);
            }
            for device in [slots.registers, slots.interrupt] {
                // Slot 0 (none) is refused; nothing else is.
                let _ = kernel::revoke(&mut self.kernel, device);
            }
        }
    }

    /// Gives back a block and all that was made from it.
    pub(crate) fn release(&mut self, block: Block) {
        // The kernel has no reason to refuse; if it did, the block would stay out of use rather than be used twice.
        match kernel::revoke(&mut self.kernel, block.slot()) {
            Ok(()) => self.buddy.free(&mut Halves(&mut self.kernel), block),
            Err(error) => report::line(&mut self.kernel, format_args!("memory is lost: {error}")),
        }
    }

    /// Tells those who wait for a process's end: threads of its parent. Whether any of them heard it; some may have
    /// given up.
    fn answer_waiters(&mut self, pid: u32, end: End) -> bool {
        let mut any = false;
        while let Some(at) = self.waiters.iter().position(|waiter| waiter.pid == pid) {
            let waiter = self.waiters.remove(at);
            any |= self.kernel.answer(waiter.reply, &Message::answer(&end.words()));
            self.replies.push(waiter.reply);
        }
        any
    }

    /// Drops requests that wait; their Replies are free again.
    pub(crate) fn forget_waiter(&mut self, mut which: impl FnMut(&Waiter) -> bool) {
        while let Some(at) = self.waiters.iter().position(&mut which) {
            let waiter = self.waiters.remove(at);
            self.kernel.answer(waiter.reply, &Message::refusal(Error::Cancelled));
            self.replies.push(waiter.reply);
        }
    }

    /// Starts a program again that shall not stay away, unless it keeps failing.
    fn start_again(&mut self, program: usize, end: End) {
        let Some(entry) = self.system.programs.get(program) else { return };
        let again = match entry.restart {
            Restart::Never => false,
            Restart::Fault => !matches!(end, End::Exited { code: 0 }),
            Restart::Always => true,
        };
        if !again || entry.start != Start::Boot {
            return self.lose_services(program);
        }
        let now = self.kernel.now_ns();
        if let Some(failures) = self.failures.get_mut(program) {
            let soon = now.saturating_sub(failures.started_ns) < SOON_NS;
            failures.soon = match end {
                // That is somebody's wish, and says nothing of the program.
                End::Killed => failures.soon,
                _ if soon => failures.soon + 1,
                _ => 0,
            };
            if failures.soon >= MAX_FAILURES {
                report::line(&mut self.kernel, format_args!("{} keeps ending: it is not started again", entry.name));
                return self.lose_services(program);
            }
        }
        self.start_program(program);
    }

    /// Nobody provides a program's services any more: who calls them learns that the peer died, now and later.
    pub(crate) fn lose_services(&mut self, program: usize) {
        self.turn_services(program, false);
    }

    /// A program's services are there (again).
    pub(crate) fn regain_services(&mut self, program: usize) {
        self.turn_services(program, true);
    }

    fn turn_services(&mut self, program: usize, alive: bool) {
        let services = self.system.programs.get(program).map(|entry| entry.provides.clone()).unwrap_or_default();
        for service in services {
            let Some(state) = self.services.get_mut(usize::from(service)) else { continue };
            if core::mem::replace(&mut state.alive, alive) == alive {
                continue;
            }
            if !alive {
                self.drain(service);
            }
            self.redirect(service, alive);
        }
    }

    /// Takes everybody's capability to a service away, and tells those who wait in its queue.
    fn drain(&mut self, service: u16) {
        let endpoint = SERVICES + u32::from(service);
        let _ = kernel::revoke(&mut self.kernel, endpoint);
        // Nobody can send any more, so this ends. The request that is being served has the other Reply, and maybe a
        // capability that came along: what comes along here is not taken.
        while let Ok(received) = self.kernel.receive(endpoint, DRAIN_REPLY, 0, false) {
            if received.answerable {
                self.kernel.answer(DRAIN_REPLY, &Message::refusal(Error::PeerDied));
            }
        }
    }

    /// Gives every client of a service the capability that serves it now.
    fn redirect(&mut self, service: u16, alive: bool) {
        for (place, process) in self.processes.iter() {
            let uses = self.system.programs.get(process.program).map(|entry| entry.uses.as_slice()).unwrap_or_default();
            let Some(used) = uses.iter().find(|used| used.service == service) else { continue };
            let Some(given) = process.given.iter().find(|given| given.service == Some(service)) else { continue };
            let table = layout::process(place) + window::TABLE;
            // The client may have moved or deleted its capability, and put another there: that is its own affair.
            let words = [given.slot.into()];
            if alive {
                let _ = self.kernel.invoke(table, Method::CapTableDelete, &words, 0, 0);
            }
            let _ = give_service(&mut self.kernel, used, alive, process.pid, table, given.slot);
        }
    }

    /// What to tell somebody who calls a service that is gone.
    pub(crate) fn gone() -> Message {
        Message::refusal(Error::PeerDied)
    }

    /// The place of a process, or the refusal that there is none.
    pub(crate) fn place_of(&self, pid: u32) -> Result<usize, Refusal> {
        self.processes.place_of(pid).ok_or(Refusal::NoSuchProcess)
    }
}
