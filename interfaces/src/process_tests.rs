//! Whatever goes into a message comes out of it, and nonsense is refused.

extern crate std;
use std::vec::Vec;

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).expect("fits")
}

#[test]
fn requests_survive_the_way_through_a_message() {
    for request in [
        Request::Exit { code: u64::MAX },
        Request::AddThread { core: None, name: name("worker") },
        Request::AddThread { core: Some(3), name: name("") },
        Request::NextProcess { after: 7 },
        Request::ThreadOf { pid: 7, index: 2 },
        Request::Memory,
        Request::NextCapability { pid: 7, from: 16 },
        Request::Program { index: 4 },
        Request::Arguments { offset: 112, bytes: Bytes::take(b"one\0two\0").0 },
        Request::Run { name: name("hello"), argument_bytes: 9 },
        Request::Wait { pid: 9 },
        Request::Kill { pid: 9 },
        Request::Core { core: 1 },
        Request::Counters,
        Request::Shutdown { reboot: true },
        Request::Shutdown { reboot: false },
    ] {
        assert_eq!(Request::try_from(&request.message()), Ok(request));
    }
}

#[test]
fn only_what_a_program_does_to_itself_needs_no_manager() {
    assert!(!Request::Exit { code: 0 }.is_for_managers());
    assert!(!Request::AddThread { core: None, name: name("x") }.is_for_managers());
    assert!(Request::Kill { pid: 1 }.is_for_managers());
    assert!(Request::Memory.is_for_managers());
}

#[test]
fn nonsense_is_refused() {
    assert_eq!(Request::try_from(&Message::new(0, &[])), Err(Error::InvalidMethod));
    assert_eq!(Request::try_from(&Message::new(method::KILL, &[1 << 32])), Err(Error::InvalidArgument));
    assert_eq!(End::from_words(&[0; 8]), Err(Error::InvalidArgument));
    assert_eq!(Capability::from_words(&[u64::MAX; 8]), Err(Error::InvalidArgument));
}

#[test]
fn answers_survive_the_way_through_words() {
    let process = Process { pid: 7, threads: 2, memory_bytes: 1 << 20, name: name("shell") };
    assert_eq!(Process::from_words(&process.words()), Ok(process));
    let thread = Thread {
        state: ThreadState::Receiving,
        priority: 200,
        core: 15,
        cpu_time_ns: u64::MAX,
        program_counter: 0x40_0000,
        stack_pointer: 0x3f_0000_0000,
        name: name("worker"),
    };
    assert_eq!(Thread::from_words(&thread.words()), Ok(thread));
    let capability = Capability {
        slot: u32::MAX,
        kind: Kind::Debug,
        rights: Rights::ALL,
        badge: u64::MAX,
        size: 512,
        name: name("console"),
    };
    assert_eq!(Capability::from_words(&capability.words()), Ok(capability));
    let memory = Memory { total: 5, free: 4, kernel: 3, system: 2, processes: 1 };
    assert_eq!(Memory::from_words(&memory.words()), memory);
    let program = Program { bytes: 12345, startable: true, name: name("hello") };
    assert_eq!(Program::from_words(&program.words()), program);
    let core = Core { idle_ns: 1, ready: 2, switches: 3 };
    assert_eq!(Core::from_words(&core.words()), core);
    for end in [
        End::Exited { code: 101 },
        End::Faulted { kind: FaultKind::Write, address: 1, program_counter: 2, cause: 3 },
        End::Killed,
    ] {
        assert_eq!(End::from_words(&end.words()), Ok(end));
    }
}

#[test]
fn arguments_in_pieces_put_together_are_the_arguments() {
    let all: Vec<u8> = (0..=200).collect();
    let mut together = Vec::new();
    for piece in argument_pieces(&all) {
        let Ok(Request::Arguments { offset, bytes }) = Request::try_from(&piece.message()) else {
            panic!("a piece of arguments");
        };
        assert_eq!(usize::try_from(offset), Ok(together.len()));
        together.extend_from_slice(bytes.as_slice());
    }
    assert_eq!(together, all);
}
