//! A new process, made by the root server's own code (`system/`) out of the boot archive, as in every other system.

use alloc::vec::Vec;

use anos::abi::Error;
use anos::abi::object::Method;
use anos::capability::{Capability, Untyped};
use anos::interfaces::process::Request;
use anos::interfaces::start::StartInfo;
use anos::{Message, env};
use anos_bench_program::stamp;
use anos_system::buddy::Buddy;
use anos_system::kernel::{Kernel, Received, Words};
use anos_system::root::{BootFailure, Facts, Halves, Root};

use super::{ROUNDS, measurements};
use crate::calls::{System, archive};
use crate::figures::{Failure, Outcome};
use crate::stage::Stage;

measurements![
    "process/create_to_main": create,
];

/// Memory that the root server's code divides: so much that blocks of all sizes are split.
const MEMORY_PAGES: u64 = 2048;
/// The program, by its place in `systems/bench.toml`.
const PROGRAM: usize = 0;

/// The kernel, with an eye on the clock.
struct Watched {
    system: System,
    /// When the first call was made since this was 0.
    first_call: u64,
    /// The exit code of the last program that ended itself.
    code: Option<u64>,
}

impl Kernel for Watched {
    fn invoke(&mut self, target: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> Result<Words, Error> {
        if self.first_call == 0 {
            self.first_call = stamp();
        }
        self.system.invoke(target, method, words, pass, receive)
    }

    fn receive(&mut self, endpoint: u32, reply: u32, receive: u32, wait: bool) -> Result<Received, Error> {
        let received = self.system.receive(endpoint, reply, receive, wait)?;
        if let Ok(Request::Exit { code }) = Request::try_from(&received.message) {
            self.code = Some(code);
        }
        Ok(received)
    }

    fn answer(&mut self, reply: u32, message: &Message) -> bool {
        self.system.answer(reply, message)
    }

    fn fill(&mut self, address: u64, bytes: &[u8]) {
        self.system.fill(address, bytes);
    }

    fn fill_start(&mut self, address: u64, info: &StartInfo) {
        self.system.fill_start(address, info);
    }

    fn now_ns(&self) -> u64 {
        self.system.now_ns()
    }
}

impl From<BootFailure> for Failure {
    fn from(failure: BootFailure) -> Failure {
        Failure(alloc::format!("the root server: {failure}"))
    }
}

/// From the first system call that makes a process out of free memory to its `main`; in between are the root server's own
/// instructions. Then the process ends itself, and all that it had is free again.
fn create(stage: &mut Stage) -> Outcome {
    let info = env::boot_info().ok_or(Error::InvalidArgument)?;
    let memory: Untyped = stage.make(MEMORY_PAGES)?;
    let mut kernel = Watched { system: System, first_call: 0, code: None };
    let mut buddy = Buddy::new();
    buddy.add(&mut Halves(&mut kernel), memory.slot().number(), MEMORY_PAGES)?;
    let mut root = Root::new(kernel, Facts::from(info), &[], archive(info), buddy)?;
    let overhead = overhead();
    (0..ROUNDS).map(|_| Ok(create_once(&mut root)?.wrapping_sub(overhead))).collect::<Outcome<Vec<u64>>>()
}

fn create_once(root: &mut Root<'_, Watched>) -> Outcome<u64> {
    (root.kernel.first_call, root.kernel.code) = (0, None);
    if let Err(failure) = root.spawn(PROGRAM, 0, &[]) {
        return Err(Failure(alloc::format!("the process can't be made: {failure:?}")));
    }
    let start = root.kernel.first_call;
    while root.has_processes() {
        root.step(true)?;
    }
    let end = root.kernel.code.ok_or_else(|| Failure("the program did not end itself".into()))?;
    Ok(end.wrapping_sub(start))
}

/// What lies between two stamps with nothing to measure between them.
fn overhead() -> u64 {
    let start = stamp();
    stamp().wrapping_sub(start)
}
