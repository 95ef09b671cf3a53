//! How processes end: who hears of it, what comes back, and what starts again.

use std::vec::Vec;

use anos_abi::fault::FaultKind;
use anos_abi::{Error, Kind};
use anos_interfaces::process::{End, MANAGER, Request};
use anos_interfaces::{Badge, Message, Name, Refusal};

use super::fake::Cap;
use super::files::boot_archive;
use super::server::{CONSOLE, SHELL, SYSTEM, UART, ask, ask_as, fault, held, run, send, start};
use crate::end::GONE;
use crate::kernel::Received;
use crate::layout::{self, SERVICES, window};

#[test]
fn a_thousand_processes_that_fault_leave_nothing_behind() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let (memory, slots) = (root.memory(), root.kernel.slots.len());
    for _ in 0..1000 {
        let pid = run(&mut root, "hello").expect("starts");
        assert_eq!(root.memory().processes, memory.processes + (256 << 10));
        fault(&mut root, pid);
        let words = ask(&mut root, Request::Wait { pid }).expect("ended");
        let end = End::Faulted { kind: FaultKind::Write, address: 0xdead_0000, program_counter: 0x40_0123, cause: 7 };
        assert_eq!(End::from_words(&words), Ok(end));
    }
    assert_eq!((root.memory(), root.kernel.slots.len()), (memory, slots));
    let text = root.kernel.text();
    assert!(text.starts_with(
        "anos: hello (pid 4) fault: write to an unmapped or read-only address at 0xdead0000, program counter 0x400123\n"
    ));
    assert_eq!(text.lines().count(), 1000);
}

#[test]
fn who_waits_hears_of_the_end_and_nobody_else_does() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let pid = run(&mut root, "hello").expect("starts");
    assert_eq!(ask_as(&mut root, UART, Request::Wait { pid }), Err(Refusal::NotPermitted.into()));
    let wait = Request::Wait { pid }.message();
    assert_eq!(send(&mut root, Badge { pid: SHELL, role: MANAGER }, wait, false), None, "not yet");
    send(&mut root, Badge { pid, role: 0 }, Request::Exit { code: 7 }.message(), false);
    let answered =
        root.kernel.answers.iter().any(|(_, answer)| *answer == Message::answer(&End::Exited { code: 7 }.words()));
    assert!(answered, "the shell");
    assert_eq!(ask(&mut root, Request::Wait { pid }), Err(Refusal::NoSuchProcess.into()), "told once");
}

#[test]
fn an_end_that_reaches_nobody_is_kept() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let pid = run(&mut root, "hello").expect("starts");
    let wait = Request::Wait { pid };
    assert_eq!(send(&mut root, Badge { pid: SHELL, role: MANAGER }, wait.message(), false), None, "not yet");
    // The shell's thread gives up waiting, or is gone.
    root.kernel.occupied.clear();
    send(&mut root, Badge { pid, role: 0 }, Request::Exit { code: 7 }.message(), false);
    let words = ask(&mut root, wait).expect("it is told when it asks again");
    assert_eq!(End::from_words(&words), Ok(End::Exited { code: 7 }));
}

#[test]
fn what_a_driver_passed_on_goes_with_it() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let elsewhere =
        root.kernel.table_at(layout::process(root.processes.place_of(SHELL).expect("runs")) + window::TABLE);
    let devices: Vec<u32> = root.devices.iter().flat_map(|slots| [slots.registers, slots.interrupt]).collect();
    for (&device, to) in devices.iter().zip(100..) {
        root.kernel.pass_on(device, (elsewhere, to));
    }
    fault(&mut root, UART);
    let kinds: Vec<Kind> = held(&root, SHELL).iter().map(|(_, cap)| cap.kind).collect();
    assert!(!kinds.contains(&Kind::IoPort) && !kinds.contains(&Kind::Interrupt), "{kinds:?}");
    let driver = root.processes.iter().find(|(_, process)| process.program == 0).expect("runs again").1.pid;
    assert_eq!(held(&root, driver).len(), 8, "its successor has them");
}

#[test]
fn a_foreign_thread_that_a_process_announced_does_not_outlive_it_in_its_place() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    for _ in 0..2 {
        let pid = run(&mut root, "hello").expect("starts");
        // What comes along in these tests was made by nobody whose memory is revoked here.
        let request = Request::AddThread { core: None, name: Name::default() };
        let answer = send(&mut root, Badge { pid, role: 0 }, request.message(), true).expect("an answer");
        assert_eq!(answer.check().map(drop), Ok(()));
        ask(&mut root, Request::Kill { pid }).expect("killed");
    }
}

#[test]
fn a_caller_that_outlives_the_process_it_speaks_for_is_sent_away() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let hello = run(&mut root, "hello").expect("starts");
    for (pid, request) in [(hello, Request::Exit { code: 7 }), (SHELL, Request::Kill { pid: SHELL })] {
        let answer = send(&mut root, Badge { pid, role: MANAGER }, request.message(), false);
        assert_eq!(answer, Some(Message::refusal(Error::Cancelled)), "{request:?}");
        assert!(root.kernel.occupied.is_empty(), "its Reply is free for the next one");
    }
}

#[test]
fn a_reply_that_is_somehow_occupied_does_not_end_the_system() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    root.kernel.occupied.extend(root.replies.last());
    let request = Received {
        badge: Badge { pid: SHELL, role: MANAGER }.word(),
        message: Request::Memory.message(),
        answerable: true,
        capability: false,
    };
    root.kernel.inbox.push_back(request);
    assert_eq!(root.run(), Error::TimedOut, "the test's inbox is empty at last");
    let labels: Vec<u64> = root.kernel.answers.iter().map(|(_, message)| message.label).collect();
    assert_eq!(labels, [Error::Cancelled as u64, 0]);
}

#[test]
fn waiting_takes_no_reply_for_ever() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let pid = run(&mut root, "hello").expect("starts");
    let replies = root.replies.len();
    for _ in 0..500 {
        let wait = Request::Wait { pid }.message();
        send(&mut root, Badge { pid: SHELL, role: MANAGER }, wait, false);
    }
    assert_eq!(root.waiters.len() + root.replies.len(), replies);
    ask(&mut root, Request::Kill { pid }).expect("killed");
    assert_eq!((root.waiters.len(), root.replies.len()), (0, replies));
}

#[test]
fn of_a_process_that_waits_too_often_the_oldest_request_makes_room() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let pid = run(&mut root, "hello").expect("starts");
    let wait = Request::Wait { pid }.message();
    for _ in 1..layout::MAX_PROCESSES {
        assert_eq!(send(&mut root, Badge { pid: SHELL, role: MANAGER }, wait, false), None, "one for each process");
    }
    let oldest = root.waiters[0].reply;
    let before = root.kernel.answers.len();
    assert_eq!(send(&mut root, Badge { pid: SHELL, role: MANAGER }, wait, false), None);
    assert_eq!(root.kernel.answers[before..], [(oldest, Message::refusal(Error::Cancelled))]);
    assert!(root.waiters.len() < layout::MAX_WAITERS, "others can wait, too");
}

#[test]
fn a_service_survives_its_servers_restart() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let before = held(&root, CONSOLE);
    fault(&mut root, UART);
    assert!(root.processes.place_of(UART).is_none());
    assert_eq!(root.processes.iter().filter(|(_, process)| process.program == 0).count(), 1, "it runs again");
    let badges = |held: &[(u32, Cap)]| held.iter().map(|(at, cap)| (*at, cap.object, cap.badge)).collect::<Vec<_>>();
    assert_eq!(badges(&held(&root, CONSOLE)), badges(&before), "its client noticed nothing");
}

#[test]
fn clients_of_a_dead_service_learn_that_it_died() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let queued = Received {
        badge: Badge { pid: SHELL, role: 1 }.word(),
        message: Message::OK,
        answerable: true,
        capability: false,
    };
    root.kernel.elsewhere.entry(SERVICES + 1).or_default().push_back(queued);
    ask(&mut root, Request::Kill { pid: CONSOLE }).expect("killed");
    assert!(root.kernel.answers.contains(&(layout::DRAIN_REPLY, Message::refusal(Error::PeerDied))), "the queued call");
    let console = held(&root, SHELL).into_iter().find(|entry| entry.0 == 16).expect("still has one").1;
    let badge = Badge::from_word(console.badge);
    assert_eq!(badge, Badge { pid: SHELL, role: GONE });
    assert_eq!(send(&mut root, badge, Message::new(1, &[]), false), Some(Message::refusal(Error::PeerDied)));
}

#[test]
fn a_program_that_keeps_failing_is_left_alone() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    for _ in 0..5 {
        let pid = root.processes.iter().find(|(_, process)| process.program == 0).expect("runs").1.pid;
        fault(&mut root, pid);
    }
    assert!(root.processes.iter().all(|(_, process)| process.program != 0));
    assert!(root.kernel.text().ends_with("anos: uart keeps ending: it is not started again\n"));
}

#[test]
fn a_program_that_is_killed_by_hand_has_not_failed() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    for _ in 0..20 {
        let pid = root.processes.iter().find(|(_, process)| process.program == 0).expect("runs again").1.pid;
        ask(&mut root, Request::Kill { pid }).expect("killed");
    }
}
