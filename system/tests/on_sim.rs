//! The root server on the real kernel core, on the simulated machine: the test plays the processes it starts.

use anos_abi::boot::BootInfo;
use anos_abi::fault::FaultKind;
use anos_abi::object::Method;
use anos_abi::{Error, Kind, PAGE_SIZE, Status, SystemCall};
use anos_interfaces::Message;
use anos_interfaces::process::{End, Request};
use anos_interfaces::start::{self, StartInfo, slot};
use anos_machine::{CoreId, Ref, Thread};
use anos_sim::{Access, Config, Payload, Sim, core_id};
use anos_system::kernel::{Kernel, Received, Words};
use anos_system::root::{Facts, Root, take_memory};

#[path = "../src/tests/files.rs"]
mod files;

/// Where its processes run; the root server itself is on core 0.
const WORK: u64 = 1;

const SYSTEM: &str = r#"
[system]
name = "sim"

[device.serial]
x86_64 = { ports = "0x3f8-0x3ff", interrupt = 4, trigger = "edge" }
riscv64 = { registers = 0x1000_0000, size = 0x100, interrupt = 10, trigger = "level" }

[program.server]
package = "server"
start = "boot"
cores = [1]
memory = "256 KiB"
priority = 150
devices = ["serial"]
provides = ["clock"]
process = ["run", "kill"]
restart = "fault"

[program.client]
package = "client"
instances = 2
cores = [1]
memory = "256 KiB"
uses = ["clock"]
"#;

/// The kernel's calls, made by the root server's thread on core 0.
struct OnSim {
    sim: Sim,
    /// A core on which nothing may run any more once capabilities are being revoked.
    quiet: Option<CoreId>,
}

impl OnSim {
    fn root_call(&mut self, call: SystemCall, target: u32, message: &anos_sim::Message) -> anos_sim::Answer {
        let thread = self.sim.system_call(CoreId::BOOT, call, target, message);
        self.sim.settle();
        self.sim.answer(thread)
    }
}

impl Kernel for OnSim {
    fn invoke(&mut self, target: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> Result<Words, Error> {
        let message = anos_sim::Message::new(method.label()).words(words).pass(pass).receive(receive);
        loop {
            let quiet = self.quiet.filter(|_| method == Method::CapTableRevoke);
            assert!(quiet.is_none_or(|core| self.sim.thread(core).is_none()), "it could make more than is revoked");
            let answer = self.root_call(SystemCall::Call, target, &message);
            if answer.result() != Err(Error::Again) {
                return answer.result();
            }
        }
    }

    fn receive(&mut self, endpoint: u32, reply: u32, receive: u32, _: bool) -> Result<Received, Error> {
        let message = anos_sim::Message::new(0).reply(reply).receive(receive).deadline(0);
        let answer = self.root_call(SystemCall::Recv, endpoint, &message);
        answer.status.result()?;
        Ok(Received {
            badge: answer.badge,
            message: Message { label: answer.label, words: answer.words },
            answerable: answer.status.is_answerable(),
            capability: answer.status.has_capability(),
        })
    }

    fn answer(&mut self, reply: u32, message: &Message) -> bool {
        let message = anos_sim::Message::new(message.label).words(&message.words).deadline(0);
        self.root_call(SystemCall::Send, reply, &message).status.result().is_ok()
    }

    fn fill(&mut self, address: u64, bytes: &[u8]) {
        for (at, byte) in (address..).zip(bytes) {
            let (word, shift) = (at & !7, 8 * (at & 7));
            let old = self.sim.access(CoreId::BOOT, Access::Load, word, 0).expect("mapped for filling");
            let new = old & !(0xff << shift) | u64::from(*byte) << shift;
            self.sim.access(CoreId::BOOT, Access::Store, word, new).expect("mapped for filling");
        }
    }

    fn fill_start(&mut self, address: u64, info: &StartInfo) {
        let start = std::ptr::from_ref(info).cast::<u8>();
        // SAFETY: StartInfo is plain integers and bytes without padding, and lives as long as the borrow of `info`.
        let bytes = unsafe { std::slice::from_raw_parts(start, size_of::<StartInfo>()) };
        self.fill(address, bytes);
    }

    fn now_ns(&self) -> u64 {
        // Half a minute between any two looks: nothing here fails soon after its start.
        30_000_000_000 * self.sim.system_calls
    }
}

fn boot(archive: &[u8], levels: u8) -> Root<'_, OnSim> {
    boot_on(2, archive, levels)
}

fn boot_on(cores: u64, archive: &[u8], levels: u8) -> Root<'_, OnSim> {
    let config = Config { pages: 2048, levels, ..Config::cores(cores) };
    let mut kernel = OnSim { sim: Sim::boot_with(config, &Payload::default().bytes(), 1).expect("boots"), quiet: None };
    let info: BootInfo = kernel.sim.boot_info();
    let runs = &info.untyped[..usize::try_from(info.untyped_count).expect("few")];
    let buddy = take_memory(&mut kernel, runs).expect("memory");
    let mut root = Root::new(kernel, Facts::from(&info), runs, archive, buddy).expect("starts");
    root.start_programs();
    root.kernel.sim.settle();
    root
}

/// The name in the start page of the process that runs on the work core.
fn running(root: &mut Root<'_, OnSim>) -> String {
    let core = core_id(WORK);
    let word = |root: &mut Root<'_, OnSim>, at| root.kernel.sim.access(core, Access::Load, at, 0).expect("mapped");
    assert_eq!(word(root, start::ADDRESS), start::MAGIC);
    let at = start::ADDRESS + std::mem::offset_of!(StartInfo, name) as u64;
    let words = [0, 8, 16, 24].map(|offset| word(root, at + offset));
    anos_interfaces::Name::from_words(&words).as_str().to_string()
}

/// The root server does what there is to do.
fn serve(root: &mut Root<'_, OnSim>) {
    root.kernel.sim.settle();
    while root.step(false).is_ok() {}
    root.kernel.sim.settle();
}

/// The process on the work core calls; the root server serves; the answer, if the caller runs again.
fn call(root: &mut Root<'_, OnSim>, target: u32, message: Message) -> Option<anos_sim::Answer> {
    let core = core_id(WORK);
    let message = anos_sim::Message::new(message.label).words(&message.words);
    let thread = root.kernel.sim.system_call(core, SystemCall::Call, target, &message);
    serve(root);
    (root.kernel.sim.thread(core) == Some(thread)).then(|| root.kernel.sim.answer(thread))
}

fn manager_slot() -> u32 {
    // The server's capabilities: its service, `processes`, registers, interrupt.
    slot::FIRST_NAMED + 1
}

/// The server has the root server run a client, which then waits for its turn on the same core.
fn run_client(root: &mut Root<'_, OnSim>) -> u32 {
    let name = anos_interfaces::Name::new("client").expect("short");
    let answer = call(root, manager_slot(), Request::Run { name, argument_bytes: 0 }.message()).expect("answered");
    u32::try_from(answer.result().expect("runs")[0]).expect("a number")
}

#[test]
fn a_process_sees_what_it_was_given_and_nothing_else() {
    for levels in [3, 4] {
        let archive = files::boot_archive(SYSTEM);
        let mut root = boot(&archive, levels);
        root.kernel.sim.check();
        assert_eq!(running(&mut root), "server");
        let core = core_id(WORK);
        let sim = &mut root.kernel.sim;
        assert_eq!(sim.access(core, Access::Fetch, 0x40_0010, 0), Ok(0xc3c3_c3c3_c3c3_c3c3), "its code");
        assert_eq!(sim.access(core, Access::Load, 0x40_2000, 0), Ok(0xc3c3_c3c3_c3c3_c3c3), "its constants");
        assert_eq!(sim.access(core, Access::Load, 0x40_3000, 0), Ok(0), "before its data in the page");
        assert_eq!(sim.access(core, Access::Load, 0x40_3090, 0), Ok(0), "behind its data: bss");
        assert!(sim.access(core, Access::Store, 0x40_3090, 1).is_ok());
        assert!(sim.access(core, Access::Store, start::STACK_TOP - 8, 1).is_ok());
        for (access, address) in [
            (Access::Store, 0x40_0010),
            (Access::Store, 0x40_2000),
            (Access::Fetch, 0x40_2000),
            (Access::Fetch, 0x40_3090),
            (Access::Store, start::ADDRESS),
            (Access::Load, 0),
            (Access::Load, start::STACK_TOP),
            (Access::Load, start::STACK_TOP - 8 * PAGE_SIZE - 8),
            (Access::Load, anos_system::layout::WINDOW_ADDRESS),
        ] {
            assert!(sim.access(core, access, address, 1).is_err(), "{access:?} at {address:#x}");
        }
    }
}

#[test]
fn everything_comes_back_however_processes_end() {
    let archive = files::boot_archive(SYSTEM);
    let mut root = boot(&archive, 3);
    let core = core_id(WORK);
    let memory = root.memory();
    for round in 0..200u64 {
        let pid = run_client(&mut root);
        assert_eq!(root.memory().processes, memory.processes + (256 << 10));
        let wait = Request::Wait { pid }.message();
        let ended = if round % 4 == 0 {
            // It stands in a ready queue, and never ran.
            call(&mut root, manager_slot(), Request::Kill { pid }.message())
                .expect("answered")
                .result()
                .expect("killed");
            call(&mut root, manager_slot(), wait).expect("it has ended already")
        } else {
            let server = root.kernel.sim.thread(core).expect("runs");
            assert!(call(&mut root, manager_slot(), wait).is_none(), "it waits, so the client runs");
            assert_eq!(running(&mut root), "client");
            match round % 4 {
                1 => drop(call(&mut root, slot::SUPERVISOR, Request::Exit { code: round }.message())),
                2 => drop(root.kernel.sim.fault(core, FaultKind::IllegalInstruction)),
                _ => assert_eq!(root.kernel.sim.load(core, 8), None, "nothing is mapped there"),
            }
            serve(&mut root);
            assert_eq!(root.kernel.sim.thread(core), Some(server));
            root.kernel.sim.answer(server)
        };
        let end = End::from_words(&ended.words).expect("an end");
        match (round % 4, end) {
            (0, End::Killed) => {}
            (1, End::Exited { code }) => assert_eq!(code, round),
            (2, End::Faulted { kind, .. }) => assert_eq!(kind, FaultKind::IllegalInstruction),
            (3, End::Faulted { kind, address, .. }) => assert_eq!((kind, address), (FaultKind::Read, 8)),
            other => panic!("{other:?}"),
        }
        root.kernel.sim.check();
        assert_eq!(root.memory(), memory, "round {round}");
    }
}

/// The process on the work core makes an object in a slot of its own.
fn make(root: &mut Root<'_, OnSim>, untyped: u32, kind: Kind, size: u64, count: u64, into: u32) {
    let words = [kind as u64, size, count];
    loop {
        let made = root.kernel.sim.call(core_id(WORK), untyped, Method::UntypedRetype, &words, 0, into);
        if made.result() != Err(Error::Again) {
            made.result().expect("a process can use its memory");
            return;
        }
    }
}

/// The process on the work core announces a thread, or what it passes as one.
fn announce(root: &mut Root<'_, OnSim>, passed: u32, core: Option<u32>) -> Result<[u64; 8], Error> {
    let request = Request::AddThread { core, name: anos_interfaces::Name::default() }.message();
    let message = anos_sim::Message::new(request.label).words(&request.words).pass(passed);
    let thread = root.kernel.sim.system_call(core_id(WORK), SystemCall::Call, slot::SUPERVISOR, &message);
    serve(root);
    root.kernel.sim.answer(thread).result()
}

#[test]
fn what_a_process_passes_never_stays_in_the_way() {
    const FAMILY: u32 = 60;
    const SIBLING: u32 = 61;
    const THREAD: u32 = 62;
    const CHILDREN: u32 = 100;
    let archive = files::boot_archive(SYSTEM);
    let mut root = boot(&archive, 3);
    // An Untyped with many children and a newer sibling: it goes along as it is, and can't just be deleted.
    make(&mut root, slot::MEMORY, Kind::Untyped, 2, 1, FAMILY);
    make(&mut root, FAMILY, Kind::Notification, 0, 64, CHILDREN);
    make(&mut root, FAMILY, Kind::Notification, 0, 1, CHILDREN + 64);
    make(&mut root, slot::MEMORY, Kind::Notification, 0, 1, SIBLING);
    make(&mut root, slot::MEMORY, Kind::Thread, 0, 1, THREAD);
    assert_eq!(announce(&mut root, FAMILY, None), Err(Error::WrongKind));
    assert_eq!(announce(&mut root, THREAD, None), Ok([0; 8]), "the next one is taken");
    root.kernel.sim.check();
}

/// The process on the work core makes a thread of its own, without starting it.
fn make_thread(root: &mut Root<'_, OnSim>, at: u32) {
    let sim_call = |root: &mut Root<'_, OnSim>, method, words: &[u64], pass| {
        root.kernel.sim.call(core_id(WORK), at, method, words, pass, 0).result().expect("its own thread");
    };
    make(root, slot::MEMORY, Kind::Thread, 0, 1, at);
    sim_call(root, Method::ThreadSetTable, &[], slot::CAP_TABLE);
    sim_call(root, Method::ThreadSetSpace, &[], slot::ADDRESS_SPACE);
    sim_call(root, Method::ThreadSetPriority, &[100, 100], 0);
}

#[test]
fn no_thread_of_a_process_runs_while_it_is_taken_apart() {
    const THREAD: u32 = 60;
    let other = core_id(WORK + 1);
    let system = SYSTEM.replace("cores = [1]", "cores = [1, 2]");
    let archive = files::boot_archive(&system);
    let mut root = boot_on(3, &archive, 3);
    make_thread(&mut root, THREAD);
    announce(&mut root, THREAD, Some(2)).expect("it may use that core");
    let words = [start::PROGRAM_ADDRESS, start::STACK_TOP, 0, 0, 0];
    root.kernel.sim.call(core_id(WORK), THREAD, Method::ThreadStart, &words, 0, 0).result().expect("starts");
    root.kernel.sim.settle();
    assert!(root.kernel.sim.thread(other).is_some());
    root.kernel.quiet = Some(other);
    root.kernel.sim.fault(core_id(WORK), FaultKind::Breakpoint);
    serve(&mut root);
    root.kernel.sim.check();
    assert_eq!(root.kernel.sim.thread(other), None);
}

#[test]
fn a_thread_that_was_never_announced_has_no_time() {
    const THREAD: u32 = 60;
    let archive = files::boot_archive(SYSTEM);
    let mut root = boot(&archive, 3);
    make_thread(&mut root, THREAD);
    let words = [start::PROGRAM_ADDRESS, start::STACK_TOP, 0, 0, 0];
    let start = |root: &mut Root<'_, OnSim>| {
        root.kernel.sim.call(core_id(WORK), THREAD, Method::ThreadStart, &words, 0, 0).result().map(drop)
    };
    assert_eq!(start(&mut root), Err(Error::NotRunnable));
    announce(&mut root, THREAD, None).expect("there is a place");
    assert_eq!(start(&mut root), Ok(()));
}

#[test]
fn a_program_runs_as_long_as_its_budget_lasts_and_goes_on_in_the_next_period() {
    let limited = "instances = 2\ncpu = { budget_us = 2000, period_us = 10000 }";
    let archive = files::boot_archive(&SYSTEM.replace("instances = 2", limited));
    let mut root = boot(&archive, 3);
    let core = core_id(WORK);
    let pid = run_client(&mut root);
    assert!(call(&mut root, manager_slot(), Request::Wait { pid }.message()).is_none(), "it waits, so the client runs");
    for _ in 0..3 {
        assert_eq!(running(&mut root), "client");
        root.kernel.sim.pass(1_900_000);
        assert_eq!(running(&mut root), "client");
        root.kernel.sim.pass(100_000);
        assert_eq!(root.kernel.sim.thread(core), None, "its budget is used up");
        root.kernel.sim.pass(8_000_000);
    }
    root.kernel.sim.check();
}

#[test]
fn a_thread_that_was_never_announced_ends_with_its_process() {
    const THREADS: [u32; 3] = [60, 61, 62];
    const CONTEXTS: u32 = 70;
    // Behind the service, `processes`, registers and interrupt.
    const CONTROL: u32 = slot::FIRST_NAMED + 4;
    let archive = files::boot_archive(&SYSTEM.replace("restart = \"fault\"", "restart = \"fault\"\nsched = true"));
    let mut root = boot(&archive, 3);
    let memory = root.memory();
    let words = [Kind::SchedContext as u64, 0, THREADS.len() as u64];
    let made = root.kernel.sim.call(core_id(WORK), slot::MEMORY, Method::UntypedRetype, &words, CONTROL, CONTEXTS);
    made.result().expect("it may give out time of its core");
    for (thread, context) in THREADS.into_iter().zip(CONTEXTS..) {
        make_thread(&mut root, thread);
        let set = root.kernel.sim.call(core_id(WORK), thread, Method::ThreadSetContext, &[], context, 0);
        set.result().expect("its own");
        let words = [start::PROGRAM_ADDRESS, start::STACK_TOP, 0, 0, 0];
        root.kernel.sim.call(core_id(WORK), thread, Method::ThreadStart, &words, 0, 0).result().expect("starts");
    }
    root.kernel.sim.fault(core_id(WORK), FaultKind::Breakpoint);
    serve(&mut root);
    root.kernel.sim.check();
    assert_eq!(running(&mut root), "server", "it was started again, and is alone");
    assert_eq!(root.memory(), memory);
}

#[test]
fn a_thread_that_finds_no_place_stays_on_its_core() {
    const FIRST: u32 = 60;
    let system = SYSTEM.replace("cores = [1]", "cores = [1, 2]");
    let archive = files::boot_archive(&system);
    let mut root = boot_on(3, &archive, 3);
    let known = u32::try_from(anos_system::layout::MAX_THREADS).expect("few");
    let words = [start::PROGRAM_ADDRESS, start::STACK_TOP, 0, 0, 0];
    for thread in FIRST..FIRST + known {
        make_thread(&mut root, thread);
        announce(&mut root, thread, None).expect("there is a place");
        root.kernel.sim.call(core_id(WORK), thread, Method::ThreadStart, &words, 0, 0).result().expect("starts");
    }
    make_thread(&mut root, FIRST + known);
    assert!(announce(&mut root, FIRST + known, Some(2)).is_err());
    let info = root.kernel.sim.call(core_id(WORK), FIRST + known, Method::ThreadInfo, &[], 0, 0);
    let [_, _, core, ..] = info.result().expect("its own thread");
    assert_eq!(core, WORK);
}

/// The client calls the server, which isn't receiving.
fn client_calls_server(root: &mut Root<'_, OnSim>) -> Ref<Thread> {
    let core = core_id(WORK);
    let pid = run_client(root);
    // The server waits for something else, for a while.
    let wait = Request::Wait { pid }.message();
    let deadline = root.kernel.sim.board.clock + 1000;
    let message = anos_sim::Message::new(wait.label).words(&wait.words).deadline(deadline);
    root.kernel.sim.system_call(core, SystemCall::Call, manager_slot(), &message);
    serve(root);
    assert_eq!(running(root), "client");
    let client = root.kernel.sim.system_call(core, SystemCall::Call, slot::FIRST_NAMED, &anos_sim::Message::new(42));
    root.kernel.sim.pass(2000);
    assert_eq!(running(root), "server");
    client
}

/// The process on the work core receives a call on its service.
fn receive_call(root: &mut Root<'_, OnSim>) -> Status {
    const REPLY: u32 = 60;
    let core = core_id(WORK);
    make(root, slot::MEMORY, Kind::Reply, 0, 1, REPLY);
    let message = anos_sim::Message::new(0).reply(REPLY).deadline(0);
    let thread = root.kernel.sim.system_call(core, SystemCall::Recv, slot::FIRST_NAMED, &message);
    let answer = root.kernel.sim.answer(thread);
    assert_eq!(answer.label, 42);
    answer.status
}

#[test]
fn a_call_that_a_dead_server_had_not_taken_goes_to_its_successor() {
    let archive = files::boot_archive(SYSTEM);
    let mut root = boot(&archive, 4);
    client_calls_server(&mut root);
    root.kernel.sim.fault(core_id(WORK), FaultKind::Arithmetic);
    serve(&mut root);
    root.kernel.sim.check();
    assert_eq!(running(&mut root), "server");
    assert!(receive_call(&mut root).is_answerable());
}

#[test]
fn a_call_that_a_dead_server_had_taken_fails() {
    let archive = files::boot_archive(SYSTEM);
    let mut root = boot(&archive, 4);
    let client = client_calls_server(&mut root);
    assert!(receive_call(&mut root).is_answerable());
    root.kernel.sim.fault(core_id(WORK), FaultKind::Arithmetic);
    serve(&mut root);
    root.kernel.sim.check();
    assert_eq!(root.kernel.sim.answer(client).result(), Err(Error::PeerDied));
}
