//! CPU time: every thread has some, of the core that it shall run on, and it comes back.

use std::string::String;
use std::vec::Vec;

use anos_abi::{Error, Kind, MAX_CORES};
use anos_interfaces::process::Request;
use anos_interfaces::{Badge, Name, Refusal};

use super::fake::{Fake, runs};
use super::files::boot_archive;
use super::server::{SHELL, SYSTEM, ask, fault, run, send, start};
use crate::contexts::{Contexts, NoTime, bytes};
use crate::kernel::retype;
use crate::layout::{self, MAX_CONTEXTS, SCRATCH, window};
use crate::root::{Halves, Root, take_memory};

/// A slot for a thread that no process has.
const THREAD: u32 = SCRATCH;

fn add(root: &mut Root<'_, Fake>, pid: u32, core: Option<u32>, name: &str) -> Result<(), anos_interfaces::Failure> {
    let request = Request::AddThread { core, name: Name::new(name).expect("short") };
    send(root, Badge { pid, role: 0 }, request.message(), true).expect("an answer").check().map(drop)
}

/// The first of a process's slots in the root server's table.
fn window_of(root: &Root<'_, Fake>, pid: u32) -> u32 {
    layout::process(root.processes.place_of(pid).expect("runs"))
}

#[test]
fn every_thread_gets_time_of_its_core_and_gives_it_back() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let before = root.contexts.taken();
    assert_eq!(before, 3, "one for each process's first thread");
    for _ in 0..100 {
        let pid = run(&mut root, "hello").expect("starts");
        add(&mut root, pid, Some(1), "worker").expect("taken");
        add(&mut root, pid, Some(0), "").expect("taken");
        assert_eq!(root.contexts.taken(), before + 3);
        let threads = window_of(&root, pid) + window::THREADS;
        assert_eq!(root.kernel.core_of(threads), Some(1));
        assert_eq!(root.kernel.core_of(threads + 1), Some(0));
        fault(&mut root, pid);
        assert_eq!(root.contexts.taken(), before);
        assert_eq!(root.kernel.contexts.len(), before);
    }
}

#[test]
fn a_thread_that_has_stopped_gives_its_time_back_before_the_next_gets_some() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let thread = window_of(&root, SHELL) + window::THREADS;
    let before = root.contexts.taken();
    for core in [0, 1, 1, 0] {
        add(&mut root, SHELL, Some(core), "worker").expect("taken");
        assert_eq!(root.contexts.taken(), before + 1);
        assert_eq!(root.kernel.core_of(thread), Some(core));
        root.kernel.stopped.insert(thread);
    }
}

#[test]
fn a_thread_that_is_refused_takes_no_time() {
    let system = SYSTEM.replace("arguments = true", "cores = [0]");
    let archive = boot_archive(&system);
    let mut root = start(&archive);
    let pid = run(&mut root, "hello").expect("starts");
    let before = root.contexts.taken();
    assert_eq!(add(&mut root, pid, Some(1), "worker"), Err(Refusal::NotPermitted.into()));
    assert_eq!(add(&mut root, pid, None, "worker"), Err(Refusal::NotPermitted.into()), "it was made on core 1");
    assert_eq!(add(&mut root, pid, Some(2), "worker"), Err(Error::InvalidArgument.into()));
    assert_eq!(root.contexts.taken(), before);
}

#[test]
fn a_limit_is_what_the_manifest_says_and_goes_with_the_process() {
    let limit = "arguments = true\ncpu = { budget_us = 2000, period_us = 10000 }\ncores = [0]";
    let archive = boot_archive(&SYSTEM.replace("arguments = true", limit));
    let mut root = start(&archive);
    for _ in 0..100 {
        let pid = run(&mut root, "hello").expect("starts");
        add(&mut root, pid, Some(0), "worker").expect("taken");
        let window = window_of(&root, pid);
        for thread in [window + window::THREAD, window + window::THREADS] {
            assert_eq!(root.kernel.limit_of(thread), Some((2_000_000, 10_000_000)));
        }
        fault(&mut root, pid);
        add(&mut root, SHELL, Some(0), "worker").expect("taken");
        let thread = window_of(&root, SHELL) + window::THREADS;
        assert_eq!(root.kernel.limit_of(thread), Some((0, 0)), "whoever had that context before");
        root.kernel.stopped.insert(thread);
    }
}

#[test]
fn all_contexts_can_be_given_and_then_no_more() {
    let runs = runs(&[64]);
    let mut fake = Fake::new(&runs);
    let mut buddy = take_memory(&mut fake, &runs).expect("memory");
    let memory = buddy.allocate(&mut Halves(&mut fake), bytes(2)).expect("room").slot();
    let threads = buddy.allocate(&mut Halves(&mut fake), 64 << 10).expect("room").slot();
    retype(&mut fake, threads, Kind::Thread, 0, 1, THREAD).expect("a thread");
    let mut contexts = Contexts::new(2);
    contexts.begin(&mut fake, memory, 2).expect("room for all");
    let mut given = Vec::new();
    // One thread, time and again: what it had before stays taken.
    let failure = loop {
        match contexts.give(&mut fake, THREAD, 1, None) {
            Ok(context) => given.push(context),
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure, NoTime::AllTaken);
    assert_eq!(given.len(), MAX_CONTEXTS - 32, "but those that were made for the other core");
    contexts.give(&mut fake, THREAD, 0, None).expect("still there");
    given.sort_by_key(|context| std::format!("{context:?}"));
    given.dedup();
    assert_eq!(given.len(), MAX_CONTEXTS - 32, "each once");
    contexts.take_back(&mut fake, given[0]);
    assert_eq!(contexts.give(&mut fake, THREAD, 1, None), Ok(given[0]));
}

#[test]
fn every_core_gets_contexts_and_their_memory_is_enough() {
    for cores in 1..=MAX_CORES as u64 {
        let batches = bytes(cores) / 4096;
        assert!(batches >= cores, "{cores} cores");
        assert!(batches <= MAX_CONTEXTS as u64);
    }
}

#[test]
fn threads_are_named_for_the_kernel() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    add(&mut root, SHELL, None, "worker").expect("taken");
    add(&mut root, SHELL, None, "").expect("taken");
    let names: Vec<_> = root.kernel.names.values().map(|name| String::from(name.as_str())).collect();
    assert_eq!(names, ["uart", "console", "shell", "worker", "shell"]);
}

#[test]
fn counters_are_the_sums_over_all_cores() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    // The kernel here counts 1 of everything on core 0, and 2 on core 1.
    assert_eq!(ask(&mut root, Request::Counters), Ok([3; 8]));
}
