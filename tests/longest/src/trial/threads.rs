//! Steps with threads.

use alloc::format;
use alloc::vec::Vec;

use anos::abi::SystemCall;
use anos::abi::object::{Method, ThreadFlags};
use anos::abi::syscall::FOREVER;
use anos::{Kind, env};

use super::{Thing, Trial, Weather, be, number, of, several, world};
use crate::gene::NUMBERS;
use crate::marks::{Mark, Party};
use crate::meter::Request;
use crate::{arch, puppet};

/// What threads do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// They receive.
    Receive,
    /// They send.
    Send,
    /// They call.
    Call,
    /// They wait for a signal.
    Wait,
    /// They have a fault.
    Fault,
    /// They run.
    Run,
}

/// A thread that does something in this program's address space.
#[derive(Clone, Copy)]
struct Puppet {
    thread: u32,
    context: u32,
    number: usize,
}

impl Trial<'_> {
    /// Numbers: how many; what they do; to whom; until when; priority; what else.
    pub fn threads(&mut self, [count, deed, whom, until, priority, more]: [u8; NUMBERS]) {
        const DEEDS: [Deed; 8] =
            [Deed::Receive, Deed::Receive, Deed::Send, Deed::Call, Deed::Call, Deed::Wait, Deed::Fault, Deed::Run];
        let calm = self.weather == Weather::Calm;
        let more = if calm { more & !8 } else { more };
        let (count, deed) = (of(&[1u8, 1, 2, 4, 8, 16, 17, 24], count), of(&DEEDS, deed));
        let priority = of(&[90, 100, 120, 120, 140, 255], priority);
        let kind = if deed == Deed::Wait { Kind::Notification } else { Kind::Endpoint };
        let Some(to) = self.pick_or_make(kind, whom) else { return };
        let deadline = self.deadline(until);
        self.tell(|| {
            let what = match deed {
                Deed::Receive => "receiving on an Endpoint",
                Deed::Send => "sending to an Endpoint",
                Deed::Call => "calling an Endpoint",
                Deed::Wait => "waiting on a Notification",
                Deed::Fault => "having a fault",
                Deed::Run => "running",
            };
            let with = |bit: u8, text: &'static str| if more & bit != 0 { text } else { "" };
            format!(
                "there {} {} {what}{}{}{}{}{}",
                be(count.into()),
                several(count.into(), Kind::Thread),
                if calm || matches!(until % 8, 6 | 7) { "" } else { " up to a deadline" },
                with(1, ", their faults go to an Endpoint"),
                with(2, ", each bound to a Notification"),
                with(4, ", without SchedContexts from then on"),
                with(8, ", with the smallest budgets"),
            )
        });
        for _ in 0..count {
            let Some(puppet) = self.puppet(priority) else { return };
            self.prepare(puppet, to, deed, more);
            let request = self.deed(deed, to, deadline);
            let rounds = if deed == Deed::Run { of(&[1, 100, 2000], until) } else { 0 };
            self.start(puppet, rounds, request.as_slice());
            if more & 4 != 0 {
                self.try_method(puppet.thread, Method::ThreadSetContext, &[], 0, 0);
            }
        }
    }

    /// What a thread gets before it starts.
    fn prepare(&mut self, puppet: Puppet, to: u32, deed: Deed, more: u8) {
        if more & 1 != 0 || deed == Deed::Fault {
            let endpoint = if deed == Deed::Wait { self.slot_of(Kind::Endpoint, 0) } else { to };
            self.try_method(puppet.thread, Method::ThreadSetFaultEndpoint, &[], endpoint, 0);
        }
        if more & 2 != 0
            && let Some(bound) = self.retype(Kind::Notification, 0, 1)
        {
            self.try_method(puppet.thread, Method::ThreadBind, &[], bound, 0);
        }
        if more & 8 != 0 {
            let words = [10_000, of(&[100_000, 1_000_000, 1 << 40], more / 16), (more / 64 % 2).into()];
            self.try_method(world::SCHED_CONTROL, Method::SchedControlLimit, &words, puppet.context, 0);
        }
    }

    /// The system call that a thread makes.
    fn deed(&mut self, deed: Deed, to: u32, deadline: u64) -> Option<Request> {
        let (call, party) = match deed {
            Deed::Receive => (SystemCall::Recv, Party::Endpoint),
            Deed::Send => (SystemCall::Send, Party::Endpoint),
            Deed::Call => (SystemCall::Call, Party::Endpoint),
            Deed::Wait => (SystemCall::Recv, Party::Notification),
            Deed::Fault | Deed::Run => return None,
        };
        let reply = if deed == Deed::Receive { self.retype(Kind::Reply, 0, 1).unwrap_or(0) } else { 0 };
        let request = Request::new(Mark::message(call, party), call, to, &[]);
        Some(Request { deadline, reply: reply.into(), ..request })
    }

    /// A thread that is still to be started.
    fn puppet(&mut self, priority: u8) -> Option<Puppet> {
        // The last one is the lowest.
        let number = self.puppets;
        if number + 1 >= puppet::MOST {
            return None;
        }
        self.puppets += 1;
        let thread = self.retype(Kind::Thread, 0, 1)?;
        if let Some(thing) = self.things.last_mut() {
            thing.puppet = true;
        }
        let context = self.retype(Kind::SchedContext, 0, 1)?;
        self.try_method(thread, Method::ThreadSetTable, &[], super::number(env::OWN_TABLE), 0);
        self.try_method(thread, Method::ThreadSetSpace, &[], super::number(env::OWN_SPACE), 0);
        self.try_method(thread, Method::ThreadSetContext, &[], context, 0);
        self.try_method(thread, Method::ThreadSetPriority, &[priority.into(), priority.into()], 0, 0);
        Some(Puppet { thread, context, number })
    }

    fn start(&mut self, puppet: Puppet, rounds: u64, requests: &[Request]) {
        puppet::instruct(puppet.number, rounds, requests);
        let start = arch::longest_start as *const () as u64;
        let words = [start, puppet::stack_top(puppet.number), 0, puppet.number as u64];
        self.try_method(puppet.thread, Method::ThreadStart, &words, 0, 0);
    }

    /// Numbers: how many; until when; what becomes of the first.
    pub fn chain(&mut self, [length, until, first, ..]: [u8; NUMBERS]) {
        let length = of(&[2u32, 4, 8, 15, 16, 17, 20], length);
        let (deadline, after) = (self.deadline(until), of(&["waits", "is suspended", "is deleted"], first));
        self.tell(|| {
            format!("{length} Threads without SchedContexts call each other, on the time of a first, which {after}")
        });
        let Some(endpoint) = self.retype(Kind::Endpoint, 0, length + 1) else { return };
        let Some(reply) = self.retype(Kind::Reply, 0, length) else { return };
        for link in 0..length {
            let Some(puppet) = self.puppet(120) else { return };
            let (call, recv) = (SystemCall::Call, SystemCall::Recv);
            let received = Request::new(Mark::message(recv, Party::Endpoint), recv, endpoint + link, &[]);
            let called = Request::new(Mark::message(call, Party::Endpoint), call, endpoint + link + 1, &[]);
            self.start(puppet, 0, &[Request { reply: (reply + link).into(), ..received }, called]);
            self.try_method(puppet.thread, Method::ThreadSetContext, &[], 0, 0);
        }
        let Some(puppet) = self.puppet(120) else { return };
        let call = SystemCall::Call;
        let called = Request::new(Mark::message(call, Party::Endpoint), call, endpoint, &[]);
        self.start(puppet, 0, &[Request { deadline, ..called }]);
        match after {
            "is suspended" => _ = self.try_method(puppet.thread, Method::ThreadSuspend, &[], 0, 0),
            "is deleted" => {
                let own = number(env::OWN_TABLE);
                self.try_method(own, Method::CapTableDelete, &[puppet.thread.into()], 0, 0);
            }
            _ => {}
        }
    }

    /// Numbers: which thread; which part; what it gets.
    pub fn part(&mut self, [thread, part, what, some, ..]: [u8; NUMBERS]) {
        let parts = [
            (Method::ThreadSetTable, Kind::CapTable),
            (Method::ThreadSetSpace, Kind::AddressSpace),
            (Method::ThreadSetFaultEndpoint, Kind::Endpoint),
            (Method::ThreadBind, Kind::Notification),
            (Method::ThreadSetContext, Kind::SchedContext),
            (Method::ThreadSetContext, Kind::SchedContext),
        ];
        let (method, kind) = of(&parts, part);
        let Some(thread) = self.pick(Kind::Thread, thread) else { return };
        let pass = if some.is_multiple_of(4) { 0 } else { self.slot_of(kind, what) };
        self.tell(|| format!("{method:?} of a Thread{}", if pass == 0 { " to none" } else { "" }));
        self.try_method(thread.slot, method, &[], pass, 0);
    }

    /// Numbers: which thread; what is done to it; how much.
    pub fn control(&mut self, [thread, what, how, ..]: [u8; NUMBERS]) {
        let methods = [
            Method::ThreadSuspend,
            Method::ThreadSuspend,
            Method::ThreadResume,
            Method::ThreadStart,
            Method::ThreadInfo,
            Method::ThreadReadRegisters,
            Method::ThreadWriteRegisters,
            Method::ThreadSetFlags,
            Method::ThreadSetPriority,
        ];
        let method = of(&methods, what);
        let Some(thread) = self.pick(Kind::Thread, thread) else { return };
        let words = match method {
            // Those of this program's address space must stay where their code is.
            Method::ThreadStart | Method::ThreadWriteRegisters if thread.puppet => return,
            Method::ThreadReadRegisters => Vec::from([u64::from(how % 32)]),
            Method::ThreadWriteRegisters => Vec::from([u64::from(how % 32), 6, 1, 2, 3, 4, 5, 6]),
            Method::ThreadSetFlags => Vec::from([of(&[0, ThreadFlags::FOREIGN, ThreadFlags::ALL], how)]),
            Method::ThreadSetPriority => Vec::from([how.into(), how.into()]),
            _ => Vec::new(),
        };
        self.tell(|| format!("{method:?}"));
        self.try_method(thread.slot, method, &words, 0, 0);
    }

    /// Numbers: which SchedContext; budget; period; whether its end is a fault.
    pub fn limit(&mut self, [context, budget, period, faults, ..]: [u8; NUMBERS]) {
        let Some(Thing { slot, .. }) = self.pick(Kind::SchedContext, context) else { return };
        if self.weather == Weather::Calm {
            return;
        }
        let words = match of(&[0, 10_000, 50_000, 1_000_000], budget) {
            0 => [0; 3],
            budget => [budget, of(&[1_000_000, 2_000_000, 1 << 40], period), (faults % 2).into()],
        };
        self.tell(|| format!("a SchedContext is limited to {} of {} ns", words[0], words[1]));
        self.try_method(world::SCHED_CONTROL, Method::SchedControlLimit, &words, slot, 0);
    }

    /// Numbers: the priority.
    pub fn priority(&mut self, [priority, ..]: [u8; NUMBERS]) {
        let priority = of(&[90, world::PRIORITY, 130, 200], priority);
        self.tell(|| format!("the caller gets priority {priority}"));
        self.own_priority(priority);
    }

    /// This thread's own priority.
    pub fn own_priority(&mut self, priority: u8) {
        let words = [priority.into(), u8::MAX.into()];
        self.try_method(number(env::FIRST_THREAD), Method::ThreadSetPriority, &words, 0, 0);
    }

    /// A deadline that the trial's own thread can wait for.
    pub fn soon(&self, number: u8) -> u64 {
        match self.deadline(number) {
            FOREVER => 0,
            deadline => deadline.min(self.deadline(2)),
        }
    }
}
