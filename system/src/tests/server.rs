//! The root server's behaviour: what it gives, what it answers, and that nothing is lost.

use std::string::String;
use std::vec;
use std::vec::Vec;

use anos_abi::fault::{self, FaultKind};
use anos_abi::{Error, Kind, Rights};
use anos_interfaces::process::{self, MANAGER, Request};
use anos_interfaces::start::{name, slot};
use anos_interfaces::{Badge, Failure, Message, Name, Refusal};

use super::fake::{Cap, Fake, runs};
use super::files::{self, boot_archive};
use crate::kernel::Received;
use crate::layout::{self, window};
use crate::root::{BootFailure, Facts, Root, take_memory};

pub const SYSTEM: &str = r#"
[system]
name = "test"

[device.serial]
x86_64 = { ports = "0x3f8-0x3ff", interrupt = 4, trigger = "edge" }
riscv64 = { registers = 0x1000_0000, size = 0x100, interrupt = 10, trigger = "level" }

[program.uart]
package = "uart"
start = "boot"
restart = "fault"
memory = "256 KiB"
devices = ["serial"]
provides = ["serial"]

[program.console]
package = "console"
start = "boot"
memory = "256 KiB"
provides = ["console"]
uses = ["serial"]

[program.shell]
package = "shell"
start = "boot"
restart = "always"
memory = "256 KiB"
uses = [{ service = "console", role = "controller", pass = true }]
process = ["see", "run", "kill", "power"]

[program.hello]
package = "hello"
memory = "256 KiB"
arguments = true
instances = 2
uses = ["console"]

[program.viewer]
package = "viewer"
memory = "128 KiB"
process = ["see"]
"#;

pub const FACTS: Facts = Facts {
    architecture: 1,
    cores: 2,
    counter_frequency: 1_000_000_000,
    counter_start: 0,
    ram_bytes: 64 << 20,
    kernel_bytes: 2 << 20,
    levels: 4,
};

pub const UART: u32 = 1;
pub const CONSOLE: u32 = 2;
pub const SHELL: u32 = 3;

pub fn start(archive: &[u8]) -> Root<'_, Fake> {
    let runs = runs(&[100, 8000]);
    let mut fake = Fake::new(&runs);
    let buddy = take_memory(&mut fake, &runs).expect("memory");
    let mut root = Root::new(fake, FACTS, &runs, archive, buddy).expect("starts");
    root.start_programs();
    root
}

/// Sends a message as a process; the answer, if there is one.
pub fn send(root: &mut Root<'_, Fake>, badge: Badge, message: Message, capability: bool) -> Option<Message> {
    root.kernel.inbox.push_back(Received { badge: badge.word(), message, answerable: true, capability });
    let before = root.kernel.answers.len();
    let reply = root.replies.last().copied();
    root.step(true).expect("a message");
    root.kernel.answers[before..].iter().find(|(to, _)| Some(*to) == reply).map(|(_, message)| *message)
}

/// Asks something as the shell.
pub fn ask(root: &mut Root<'_, Fake>, request: Request) -> Result<[u64; 8], Failure> {
    ask_as(root, SHELL, request)
}

pub fn ask_as(root: &mut Root<'_, Fake>, pid: u32, request: Request) -> Result<[u64; 8], Failure> {
    send(root, Badge { pid, role: MANAGER }, request.message(), false).expect("an answer").check()
}

pub fn run(root: &mut Root<'_, Fake>, program: &str) -> Result<u32, Failure> {
    let name = Name::new(program).expect("short");
    let words = ask(root, Request::Run { name, argument_bytes: 0 })?;
    Ok(u32::try_from(words[0]).expect("a number"))
}

pub fn fault(root: &mut Root<'_, Fake>, pid: u32) {
    let message = Message::new(fault::LABEL, &[FaultKind::Write as u64, 0x40_0123, 0xdead_0000, 7, 0, 0]);
    let answer = send(root, Badge { pid, role: 0 }, message, false).expect("the thread may be another process's");
    assert_ne!(answer.label, 0, "it stays stopped");
}

/// What lies in a process's table.
pub fn held(root: &Root<'_, Fake>, pid: u32) -> Vec<(u32, Cap)> {
    let place = root.processes.place_of(pid).expect("runs");
    let table = root.kernel.table_at(layout::process(place) + window::TABLE);
    root.kernel.slots.iter().filter(|((object, _), _)| *object == table).map(|((_, at), cap)| (*at, *cap)).collect()
}

#[test]
fn each_process_gets_exactly_what_the_manifest_says() {
    let archive = boot_archive(SYSTEM);
    let root = start(&archive);
    let own = [Kind::CapTable, Kind::AddressSpace, Kind::Thread, Kind::Untyped, Kind::Endpoint];
    for (pid, named) in [
        (UART, vec![Kind::Endpoint, Kind::IoPort, Kind::Interrupt]),
        (CONSOLE, vec![Kind::Endpoint, Kind::Endpoint]),
        (SHELL, vec![Kind::Endpoint, Kind::Endpoint]),
    ] {
        let expected: Vec<_> = (1..6).zip(own).chain((16..).zip(named)).collect();
        let got: Vec<_> = held(&root, pid).iter().map(|(at, cap)| (*at, cap.kind)).collect();
        assert_eq!(got, expected, "process {pid}");
    }
    let shell = held(&root, SHELL);
    let badge_at =
        |at| shell.iter().find(|entry| entry.0 == at).map(|(_, cap)| (Badge::from_word(cap.badge), cap.rights));
    let call = Rights::WRITE.union(Rights::GRANT);
    assert_eq!(badge_at(slot::SUPERVISOR), Some((Badge { pid: SHELL, role: 0 }, call)));
    assert_eq!(badge_at(16), Some((Badge { pid: SHELL, role: 1 }, call)), "the console, as its controller");
    assert_eq!(badge_at(17), Some((Badge { pid: SHELL, role: MANAGER }, call)));
    let console = held(&root, CONSOLE);
    let serial = console.iter().find(|entry| entry.0 == 17).expect("there").1;
    assert_eq!(serial.rights, Rights::WRITE, "nothing can be passed to a service unless the manifest says so");
}

#[test]
fn the_start_page_names_what_is_in_the_table() {
    let archive = boot_archive(SYSTEM);
    let root = start(&archive);
    let info = root.kernel.starts[2];
    assert_eq!((info.pid, info.name.as_str(), info.first_free_slot), (3, "shell", 18));
    assert_eq!(info.find(name::CONSOLE), Some((16, Kind::Endpoint)));
    assert_eq!(info.find(name::PROCESSES), Some((17, Kind::Endpoint)));
    let uart = root.kernel.starts[0];
    assert_eq!(uart.find(name::SERVICE), Some((16, Kind::Endpoint)));
    assert_eq!(uart.find(name::PORTS), Some((17, Kind::IoPort)));
    assert_eq!(uart.find(name::INTERRUPT), Some((18, Kind::Interrupt)));
}

#[test]
fn a_start_that_fails_half_way_leaves_nothing_behind() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let (memory, slots) = (root.memory(), root.kernel.slots.len());
    let mut failures = 0;
    loop {
        root.kernel.fail_after = Some(failures);
        match run(&mut root, "hello") {
            Ok(_) => break,
            Err(failure) => assert_eq!(failure, Failure::Kernel(Error::NotEnoughMemory)),
        }
        root.kernel.fail_after = None;
        assert_eq!((root.memory(), root.kernel.slots.len()), (memory, slots), "after {failures} retypes");
        failures += 1;
    }
    assert!(failures > 12, "a process is made from many objects");
}

#[test]
fn rights_are_what_the_manifest_says() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let viewer = run(&mut root, "viewer").expect("starts");
    ask_as(&mut root, viewer, Request::Memory).expect("may see");
    let name = Name::new("hello").expect("short");
    for request in [
        Request::Run { name, argument_bytes: 0 },
        Request::Kill { pid: SHELL },
        Request::Shutdown { reboot: false },
        Request::Wait { pid: 1 },
    ] {
        assert_eq!(ask_as(&mut root, viewer, request), Err(Refusal::NotPermitted.into()), "{request:?}");
    }
    let supervised = send(&mut root, Badge { pid: SHELL, role: 0 }, Request::Memory.message(), false);
    assert_eq!(supervised.expect("an answer").check(), Err(Refusal::NotPermitted.into()), "not through that one");
    assert!(root.kernel.resets.is_empty());
}

#[test]
fn only_manual_programs_run_and_only_so_often() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    assert_eq!(run(&mut root, "uart"), Err(Refusal::NotStartable.into()));
    assert_eq!(run(&mut root, "nothing"), Err(Refusal::NoSuchProgram.into()));
    run(&mut root, "hello").expect("the first");
    run(&mut root, "hello").expect("the second");
    assert_eq!(run(&mut root, "hello"), Err(Refusal::TooMany.into()));
}

#[test]
fn arguments_arrive_whole_or_are_refused() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let bytes: Vec<u8> = (0..20).flat_map(|n| std::format!("argument-{n}\0").into_bytes()).collect();
    for piece in process::argument_pieces(&bytes) {
        ask(&mut root, piece).expect("taken");
    }
    let argument_bytes = u32::try_from(bytes.len()).expect("few");
    let name = Name::new("hello").expect("short");
    ask(&mut root, Request::Run { name, argument_bytes }).expect("starts");
    let info = root.kernel.starts.last().expect("one");
    assert_eq!(info.arguments().count(), 20);
    assert_eq!(info.arguments().last(), Some("argument-19"));
    let again = ask(&mut root, Request::Run { name, argument_bytes });
    assert_eq!(again, Err(Error::InvalidArgument.into()), "they are used once");
    let viewer = Name::new("viewer").expect("short");
    assert_eq!(ask(&mut root, Request::Run { name: viewer, argument_bytes: 1 }), Err(Refusal::NoArguments.into()));
}

#[test]
fn every_list_walks_to_its_end() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let (mut after, mut names) = (0, Vec::new());
    while let Ok(words) = ask(&mut root, Request::NextProcess { after }) {
        let process = process::Process::from_words(&words).expect("sound");
        after = process.pid;
        names.push(String::from(process.name.as_str()));
    }
    assert_eq!(names, ["uart", "console", "shell"]);
    let (mut from, mut slots) = (0, Vec::new());
    while let Ok(words) = ask(&mut root, Request::NextCapability { pid: SHELL, from }) {
        let capability = process::Capability::from_words(&words).expect("sound");
        from = capability.slot + 1;
        slots.push((capability.slot, String::from(capability.name.as_str())));
    }
    assert_eq!(slots.len(), 7);
    assert_eq!(slots[5], (16, String::from("console")));
    assert_eq!(ask(&mut root, Request::Program { index: 5 }), Err(Refusal::NothingThere.into()));
    assert_eq!(ask(&mut root, Request::Core { core: 2 }), Err(Refusal::NothingThere.into()));
    assert_eq!(ask(&mut root, Request::ThreadOf { pid: SHELL, index: 1 }), Err(Refusal::NothingThere.into()));
}

#[test]
fn threads_are_listed_and_their_number_is_bounded() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let badge = Badge { pid: SHELL, role: 0 };
    let add = |root: &mut Root<'_, Fake>, core, came| {
        let name = Name::new("worker").expect("short");
        send(root, badge, Request::AddThread { core, name }.message(), came).expect("an answer").check().map(drop)
    };
    assert_eq!(add(&mut root, None, false), Err(Error::WrongKind.into()));
    assert_eq!(add(&mut root, Some(9), true), Err(Error::InvalidArgument.into()));
    for _ in 0..layout::MAX_THREADS {
        assert_eq!(add(&mut root, Some(1), true), Ok(()));
    }
    assert_eq!(add(&mut root, None, true), Err(Refusal::TooMany.into()));
    let words = ask(&mut root, Request::ThreadOf { pid: SHELL, index: 1 }).expect("there");
    assert_eq!(process::Thread::from_words(&words).expect("sound").name.as_str(), "worker");
}

#[test]
fn a_thread_that_works_again_is_listed_once() {
    let archive = boot_archive(SYSTEM);
    let mut root = start(&archive);
    let place = root.processes.place_of(SHELL).expect("runs");
    let first = layout::process(place) + window::THREADS;
    let names = |root: &mut Root<'_, Fake>| -> Vec<String> {
        let threads = (1..).map_while(|index| ask(root, Request::ThreadOf { pid: SHELL, index }).ok());
        threads.map(|words| String::from(process::Thread::from_words(&words).expect("sound").name.as_str())).collect()
    };
    let add = |root: &mut Root<'_, Fake>, name| {
        let request = Request::AddThread { core: None, name: Name::new(name).expect("short") };
        send(root, Badge { pid: SHELL, role: 0 }, request.message(), true).expect("an answer").check().expect("taken");
    };
    add(&mut root, "one");
    add(&mut root, "two");
    assert_eq!(names(&mut root), ["one", "two"]);
    // The first has done its work, and is announced with its next.
    root.kernel.stopped.insert(first);
    add(&mut root, "three");
    root.kernel.stopped.clear();
    assert_eq!(names(&mut root), ["three", "two"]);
}

#[test]
fn a_system_that_cannot_start_says_why() {
    let whole = boot_archive(SYSTEM);
    let runs = runs(&[8000]);
    let failure = |archive: &[u8]| {
        let mut fake = Fake::new(&runs);
        let buddy = take_memory(&mut fake, &runs).expect("memory");
        Root::new(fake, FACTS, &runs, archive, buddy).err()
    };
    assert_eq!(failure(&whole), None);
    assert_eq!(failure(&whole[..whole.len() - 512]), Some(BootFailure::BadArchive));
    assert_eq!(failure(&[]), Some(BootFailure::BadArchive));
    assert_eq!(failure(&files::tar(&[("other", b"")])), Some(BootFailure::NoManifest));
    let bad = files::tar(&[("manifest.bin", b"AnosMan2\xff\xff")]);
    assert!(matches!(failure(&bad), Some(BootFailure::BadManifest(_))));
}

#[test]
fn a_program_that_is_missing_or_bad_is_reported_and_the_rest_starts() {
    let manifest = anos_manifest::host::parse(std::path::Path::new("test.toml"), SYSTEM, None).expect("good");
    let compiled = anos_manifest::host::compile(&manifest, anos_manifest::host::Architecture::X86_64);
    let program = files::elf(62, 0x40_0010, &files::USUAL);
    let archive = files::tar(&[
        (anos_manifest::FILE, &compiled),
        ("programs/console.elf", &program[..1000]),
        ("programs/shell.elf", &program),
    ]);
    let mut root = start(&archive);
    assert_eq!(
        root.kernel.text(),
        "anos: uart: programs/uart.elf is missing from the boot archive\n\
         anos: console: programs/console.elf can't be run: a segment lies outside the file: is it truncated?\n"
    );
    assert_eq!(root.processes.iter().count(), 1);
}

#[test]
fn a_program_that_is_spread_too_far_is_said_to_be() {
    let manifest = anos_manifest::host::parse(std::path::Path::new("test.toml"), SYSTEM, None).expect("good");
    let compiled = anos_manifest::host::compile(&manifest, anos_manifest::host::Architecture::X86_64);
    // Each segment in a GiB of its own takes a page table of two levels.
    let segments = (0..8).map(|n| files::Load { address: 0x40_0000 + (n << 30), ..files::USUAL[0] });
    let program = files::elf(62, 0x40_0010, &segments.collect::<Vec<_>>());
    let archive = files::tar(&[(anos_manifest::FILE, &compiled), ("programs/uart.elf", &program)]);
    let text = start(&archive).kernel.text();
    let first = "anos: uart: programs/uart.elf can't be run: it takes more than 16 Frames or 16 page tables\n";
    assert!(text.starts_with(first), "{text}");
}

#[test]
fn too_little_memory_for_a_program_is_said_with_numbers() {
    let archive = boot_archive(SYSTEM);
    let runs = runs(&[16 + 64 + 16]);
    let mut fake = Fake::new(&runs);
    let buddy = take_memory(&mut fake, &runs).expect("memory");
    let mut root = Root::new(fake, FACTS, &runs, &archive, buddy).expect("starts");
    root.start_programs();
    let text = root.kernel.text();
    assert!(
        text.contains("anos: console: too little memory: its quota is 256 KiB, the largest free block 64 KiB\n"),
        "{text}"
    );
}
