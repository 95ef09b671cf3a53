//! Steps with messages, time, interrupts, and any method at all.

use alloc::format;

use anos::abi::object::Method;
use anos::abi::{CONSOLE_BYTES, SystemCall, boot};
use anos::{Kind, Rights, env};

use super::{PLACE, Trial, Weather, be, number, of, one, several};
use crate::gene::NUMBERS;
use crate::marks::{Mark, Party};
use crate::meter::{self, Request};

/// Numbers at the edge of something.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    3,
    8,
    15,
    56,
    63,
    64,
    255,
    511,
    512,
    4095,
    4096,
    PLACE,
    PLACE + 0x20_0000,
    1 << 47,
    (1 << 47) - 4096,
    1 << 63,
    u64::MAX,
];

impl Trial<'_> {
    /// Numbers: which system call; kind of whom it goes to, and which; until when; what is passed.
    pub fn message(&mut self, [call, kind, which, until, pass, reply]: [u8; NUMBERS]) {
        let calls = [SystemCall::Send, SystemCall::Call, SystemCall::Recv, SystemCall::ReplyRecv, SystemCall::Yield];
        let call = of(&calls, call);
        let parties = [
            (Kind::Endpoint, Party::Endpoint),
            (Kind::Endpoint, Party::Endpoint),
            (Kind::Notification, Party::Notification),
            (Kind::Reply, Party::Reply),
        ];
        let (kind, party) = of(&parties, kind);
        let Some(to) = self.pick(kind, which) else { return };
        let (passed, receive) = (self.pick_any(pass, pass), self.slots(1).unwrap_or(0));
        let pass = passed.filter(|thing| !thing.lasting && pass.is_multiple_of(2)).map_or(0, |thing| thing.slot);
        self.tell(|| format!("{call:?} on {}{}", one(kind), if pass == 0 { "" } else { ", with a capability" }));
        let request = Request::new(Mark::message(call, party), call, to.slot, &[1, 2, 3]).with_slots(pass, receive);
        let reply = self.slot_of(Kind::Reply, reply);
        meter::call(&Request { deadline: self.soon(until), reply: reply.into(), ..request });
    }

    /// Numbers: which method; of which object; what is passed; words.
    pub fn any(&mut self, [method, which, pass, word, second, third]: [u8; NUMBERS]) {
        let method = of(Method::ALL, method);
        let Some(to) = self.pick(method.kind(), which) else { return };
        let passed = self.pick_any(pass, pass / 16).map_or(0, |thing| thing.slot);
        let mut words = [of(&EDGES, word), of(&EDGES, second), of(&EDGES, third), 0];
        match method {
            // Not the end; not the end of threads that run here; what `make_objects` does better.
            Method::DebugReset | Method::ThreadStart | Method::ThreadWriteRegisters | Method::UntypedRetype => return,
            Method::DebugWrite => return self.lines_of_text(),
            // A register that nothing hangs on.
            Method::IoPortIn | Method::IoPortOut => words = [0x3ff, 1, 0, 0],
            _ => {}
        }
        let receive = self.slots(1).unwrap_or(0);
        self.tell(|| format!("{method:?} of {:#x}, {:#x}, {:#x}", words[0], words[1], words[2]));
        self.try_method(to.slot, method, &words, passed, receive);
    }

    /// As many ends of lines as the console takes at once: each takes two characters.
    fn lines_of_text(&mut self) {
        let ends = u64::from_le_bytes(*b"\n\n\n\n\n\n\n\n");
        self.tell(|| "DebugWrite of line ends".into());
        let words = [CONSOLE_BYTES as u64, ends, ends];
        self.try_method(boot::slot::DEBUG, Method::DebugWrite, &words, 0, 0);
    }

    /// Numbers: whether to wait or to run; how long.
    pub fn pass(&mut self, [how, until, rounds, ..]: [u8; NUMBERS]) {
        if how.is_multiple_of(2) || self.weather == Weather::Calm {
            let rounds = of(&[1, 100, 4000, 50_000], rounds);
            self.tell(|| "a program runs for a while".into());
            return meter::run(rounds);
        }
        let Some(on) = self.retype(Kind::Notification, 0, 1) else { return };
        self.tell(|| "a Thread waits for a deadline".into());
        let request = Request::new(Mark::message(SystemCall::Recv, Party::Notification), SystemCall::Recv, on, &[]);
        meter::call(&Request { deadline: self.soon(until), ..request });
    }

    /// Numbers: how many; the first; which Notification.
    pub fn lines(&mut self, [count, first, which, ..]: [u8; NUMBERS]) {
        let count = of(&[1, 1, 4, 16], count);
        let serial = if cfg!(target_arch = "x86_64") { 4 } else { 10 };
        let first = if first.is_multiple_of(2) { serial } else { 30 + u64::from(first % 32) };
        let Some(notification) = self.pick_or_make(Kind::Notification, which) else { return };
        self.tell(|| {
            format!(
                "{} {} bound to a Notification",
                several(count, Kind::Interrupt),
                be(u32::try_from(count).unwrap_or(2))
            )
        });
        for line in first..first + count {
            let (Some(slot), Some(badged)) = (self.slots(1), self.slots(1)) else { return };
            let words = [line, u64::from(line == 10), 0];
            if !self.try_method(boot::slot::INTERRUPT_CONTROL, Method::InterruptControlGet, &words, 0, slot) {
                continue;
            }
            self.add(slot, Kind::Interrupt);
            let words = [badged.into(), Rights::ALL.0.into(), 1];
            self.try_method(number(env::OWN_TABLE), Method::CapTableMint, &words, notification, 0);
            self.try_method(slot, Method::InterruptBind, &[], badged, 0);
        }
    }

    /// The serial port interrupts.
    pub fn raise(&mut self) {
        self.tell(|| "a device interrupts".into());
        if !self.world.raise() {
            let ports = self.slot_of(Kind::IoPort, 0);
            for value in [0, 2] {
                self.try_method(ports, Method::IoPortOut, &[0x3f9, 1, value], 0, 0);
            }
        }
        meter::run(4);
    }
}
