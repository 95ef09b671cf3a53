//! Managing other processes, for programs that the manifest lets do so.

use alloc::vec::Vec;

use anos_interfaces::process::{Capability, Core, End, Memory, Process, Program, Request, Thread, argument_pieces};
use anos_interfaces::start::{MAX_ARGUMENT_BYTES, name};
use anos_interfaces::{Failure, Name, Refusal};

use crate::capability::{CounterValues, Endpoint};
use crate::env;

/// The root server, from the side of a program that manages others.
#[derive(Clone, Copy, Debug)]
pub struct Processes(Endpoint);

impl Processes {
    /// The one that the program was given.
    pub fn get() -> Option<Self> {
        env::capability(name::PROCESSES).map(Processes)
    }

    /// Starts a program: its process number.
    pub fn run<'a>(&self, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<u32, Failure> {
        let name = Name::new(program).ok_or(Refusal::NoSuchProgram)?;
        let mut bytes = Vec::new();
        for argument in arguments {
            bytes.extend_from_slice(argument.as_bytes());
            bytes.push(0);
        }
        if bytes.len() > MAX_ARGUMENT_BYTES {
            return Err(Refusal::ArgumentsTooLong.into());
        }
        for piece in argument_pieces(&bytes) {
            self.0.call(&piece.message())?;
        }
        let argument_bytes = u32::try_from(bytes.len()).map_err(|_| Refusal::ArgumentsTooLong)?;
        let [pid, ..] = self.ask(&Request::Run { name, argument_bytes })?;
        Ok(u32::try_from(pid).unwrap_or(0))
    }

    /// Waits until a process that this program started ends.
    pub fn wait(&self, pid: u32) -> Result<End, Failure> {
        Ok(End::from_words(&self.ask(&Request::Wait { pid })?)?)
    }

    /// Ends a process.
    pub fn kill(&self, pid: u32) -> Result<(), Failure> {
        self.ask(&Request::Kill { pid }).map(|_| ())
    }

    /// All processes.
    pub fn list(&self) -> impl Iterator<Item = Process> + '_ {
        let mut after = 0;
        core::iter::from_fn(move || {
            let process = Process::from_words(&self.ask(&Request::NextProcess { after }).ok()?).ok()?;
            // A server that does not move on is not asked for ever.
            (process.pid > after).then(|| after = process.pid)?;
            Some(process)
        })
    }

    /// A process's threads.
    pub fn threads(&self, pid: u32) -> impl Iterator<Item = Thread> + '_ {
        (0..).map_while(move |index| Thread::from_words(&self.ask(&Request::ThreadOf { pid, index }).ok()?).ok())
    }

    /// What a process holds. The first error is the last item.
    pub fn capabilities(&self, pid: u32) -> impl Iterator<Item = Result<Capability, Failure>> + '_ {
        let mut from = Some(0);
        core::iter::from_fn(move || {
            let words = match self.ask(&Request::NextCapability { pid, from: from? }) {
                Ok(words) => words,
                Err(Failure::Server(Refusal::NothingThere)) => return None,
                Err(failure) => {
                    from = None;
                    return Some(Err(failure));
                }
            };
            let capability = Capability::from_words(&words).map_err(Failure::from);
            from = capability.as_ref().ok().and_then(|capability| capability.slot.checked_add(1));
            Some(capability)
        })
    }

    /// The programs in the boot archive.
    pub fn programs(&self) -> impl Iterator<Item = Program> + '_ {
        (0..).map_while(move |index| Some(Program::from_words(&self.ask(&Request::Program { index }).ok()?)))
    }

    /// How much memory there is, and who has it.
    pub fn memory(&self) -> Result<Memory, Failure> {
        self.ask(&Request::Memory).map(|words| Memory::from_words(&words))
    }

    /// The cores.
    pub fn cores(&self) -> impl Iterator<Item = Core> + '_ {
        (0..).map_while(move |core| Some(Core::from_words(&self.ask(&Request::Core { core }).ok()?)))
    }

    /// The kernel's counters.
    pub fn counters(&self) -> Result<CounterValues, Failure> {
        self.ask(&Request::Counters).map(|words| CounterValues::from_words(&words))
    }

    /// Powers the machine off, or starts it again. Comes back only with the reason why not.
    pub fn shut_down(&self, reboot: bool) -> Failure {
        match self.ask(&Request::Shutdown { reboot }) {
            Ok(_) => anos_abi::Error::Unsupported.into(),
            Err(failure) => failure,
        }
    }

    fn ask(&self, request: &Request) -> Result<[u64; 8], Failure> {
        self.0.call(&request.message())
    }
}
