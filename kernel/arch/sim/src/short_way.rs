//! Messages that go the short way through the kernel's core, compared with the general way.

use std::fmt::Write;

use anos_core::{Counters, Kernel};
use anos_machine::{CoreId, CoreSet, Event, Place, Ref, Thread};

use crate::board::{Board, View};
use crate::sim::{Sim, core_id};

/// All that the kernel, the processors and the devices know.
#[derive(PartialEq, Eq)]
struct State {
    memory: Vec<u64>,
    kernel: String,
    board: String,
}

/// A kernel without what is counted differently: a message that goes the short way counts as what it stands for.
fn kernel_without_counters(kernel: &Kernel, cores: u64) -> String {
    let mut text = String::new();
    let mut held = kernel.hold(CoreId::BOOT, CoreSet::ALL, || unreachable!("one thread plays all cores"));
    for core in (0..cores).map(core_id) {
        let state = held.core(core).expect("all locks are held");
        let counters = Counters { quick: 0, ..state.counters.whole() };
        let before = std::mem::replace(&mut state.counters, counters);
        write!(text, "{state:?} at {:?}", kernel.presence.get(core)).expect("a string grows");
        state.counters = before;
    }
    write!(text, "{:?}", held.global().expect("all locks are held")).expect("a string grows");
    text
}

impl Sim {
    /// The thread that runs after an event which went the short way. `None`: it can't.
    pub(crate) fn short_way(&mut self, core: CoreId, event: Event) -> Option<Ref<Thread>> {
        let before = if self.is_compared() { Some(self.snapshot()) } else { None };
        let thread = if self.board.config.caches_invalid {
            self.send::<true>(core, event)
        } else {
            self.send::<false>(core, event)
        }?;
        // A core that goes this way never says that it left user mode; the simulated one did, when it trapped.
        self.kernel.presence.set(core, Place::User);
        if let Some(before) = before {
            let short = self.everything();
            self.restore(&before);
            let next = self.general_way(core, event);
            let general = self.everything();
            assert!(next == anos_machine::Next::Run(thread), "the general way leads to {next:x?}, not {thread:?}");
            short.compare(&general);
            self.compared += 1;
        }
        Some(thread)
    }

    fn send<const CACHES_INVALID: bool>(&mut self, core: CoreId, event: Event) -> Option<Ref<Thread>> {
        let mut view = View::<CACHES_INVALID> { board: &mut self.board, presence: &self.kernel.presence, core };
        match event {
            Event::SystemCall => anos_core::quick(&self.kernel, &mut view),
            _ => anos_core::quick_event(&self.kernel, &mut view, event),
        }
    }

    fn everything(&self) -> State {
        let Board { processors, lines, device, ports, console, reset, .. } = &self.board;
        State {
            memory: self.board.ram.image(),
            kernel: kernel_without_counters(&self.kernel, self.board.config.cores) + &self.page_records(),
            board: format!("{processors:?} {lines:?} {device:?} {ports:?} {console:?} {reset:?}"),
        }
    }

    fn page_records(&self) -> String {
        let mut text = String::new();
        self.with_store(|store| {
            for page in (0..self.board.ram.pages()).map(|page| crate::memory::RAM_BASE + page * anos_abi::PAGE_SIZE) {
                let record = store.record(page).expect("all locks are held");
                if record.kind() != 0 {
                    write!(text, "{record:?}").expect("a string grows");
                }
            }
        });
        text
    }
}

impl State {
    fn compare(&self, general: &State) {
        let words = self.memory.iter().zip(&general.memory).zip(0u64..);
        for ((short, general), word) in words {
            let at = crate::memory::RAM_BASE + word * 8;
            assert_eq!(short, general, "the short way (left) and the general way (right) leave another {at:#x}");
        }
        assert_eq!(self.kernel, general.kernel, "the short way (left) and the general way (right) differ");
        assert_eq!(self.board, general.board, "the short way (left) and the general way (right) differ");
    }
}
