//! The system calls of Linux that the cases need, by their names in its manual (section 2).
//!
//! Files stay open and memory stays mapped until the program ends, which is soon.

use core::ffi::CStr;
use core::fmt;
use core::ptr::{null, null_mut};
use core::sync::atomic::AtomicU64;

use crate::arch::{self, number};

/// A call that Linux refused, and its number for the reason (errno(3)).
#[derive(Debug)]
pub struct Failure {
    call: &'static str,
    error: usize,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} answers error {}", self.call, self.error)
    }
}

/// What a call gives, or why not.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Linux answers with small negative numbers where it refuses.
#[inline(always)]
fn outcome(call: &'static str, answer: isize) -> Outcome<usize> {
    usize::try_from(answer).map_err(|_| Failure { call, error: answer.unsigned_abs() })
}

/// A call that has nothing to do with this process's memory.
macro_rules! call {
    ($name:literal, $number:ident $(, $argument:expr)*) => {{
        let mut arguments = [0; 6];
        let given: &[usize] = &[$($argument),*];
        arguments[..given.len()].copy_from_slice(given);
        // SAFETY: this call is given no address.
        outcome($name, unsafe { arch::system_call(number::$number, arguments) })
    }};
}

/// An open file.
#[derive(Clone, Copy)]
pub struct File(usize);

impl File {
    /// The console.
    pub const OUTPUT: File = File(1);
}

/// The parent's number: a call that does nothing else.
#[inline(always)]
pub fn getppid() -> Outcome<usize> {
    call!("getppid", GETPPID)
}

/// What [`getppid`] costs outside of Linux.
#[inline(always)]
pub fn like_getppid() -> Outcome<usize> {
    outcome("nothing", arch::like_system_call(number::GETPPID, [0; 6]))
}

/// Lets others run.
#[inline(always)]
pub fn sched_yield() -> Outcome {
    call!("sched_yield", SCHED_YIELD).map(drop)
}

/// Writes; answers how much.
#[inline(always)]
pub fn write(file: File, bytes: &[u8]) -> Outcome<usize> {
    let arguments = [file.0, bytes.as_ptr().addr(), bytes.len(), 0, 0, 0];
    // SAFETY: Linux reads what was lent, and nothing else.
    outcome("write", unsafe { arch::system_call(number::WRITE, arguments) })
}

/// Reads; answers how much.
#[inline(always)]
pub fn read(file: File, bytes: &mut [u8]) -> Outcome<usize> {
    let arguments = [file.0, bytes.as_mut_ptr().addr(), bytes.len(), 0, 0, 0];
    // SAFETY: Linux writes what was lent, and nothing else.
    outcome("read", unsafe { arch::system_call(number::READ, arguments) })
}

/// A pipe: the end to read from, and the end to write to.
pub fn pipe() -> Outcome<[File; 2]> {
    let mut files = [0_u32; 2];
    let arguments = [files.as_mut_ptr().addr(), 0, 0, 0, 0, 0];
    // SAFETY: Linux writes two numbers of 32 bits.
    outcome("pipe2", unsafe { arch::system_call(number::PIPE2, arguments) })?;
    Ok(files.map(|file| File(file as usize)))
}

/// Two sockets that are connected, for messages whose ends are kept (`AF_UNIX`, `SOCK_SEQPACKET`).
pub fn socketpair() -> Outcome<[File; 2]> {
    const AF_UNIX: usize = 1;
    const SOCK_SEQPACKET: usize = 5;
    let mut files = [0_u32; 2];
    let arguments = [AF_UNIX, SOCK_SEQPACKET, 0, files.as_mut_ptr().addr(), 0, 0];
    // SAFETY: Linux writes two numbers of 32 bits.
    outcome("socketpair", unsafe { arch::system_call(number::SOCKETPAIR, arguments) })?;
    Ok(files.map(|file| File(file as usize)))
}

/// A counter that can be waited for.
pub fn eventfd() -> Outcome<File> {
    call!("eventfd2", EVENTFD2).map(File)
}

/// Which of the two processes goes on.
pub enum Fork {
    /// The new one.
    Child,
    /// The one that asked, with the number of the new one.
    Parent(usize),
}

/// A second process that goes on from here.
#[inline(always)]
pub fn fork() -> Outcome<Fork> {
    const SIGCHLD: usize = 17;
    // No memory is shared, so the new process may go on on its copy of this stack.
    Ok(match call!("clone", CLONE, SIGCHLD)? {
        0 => Fork::Child,
        child => Fork::Parent(child),
    })
}

/// Another program instead of this one, with these arguments; it has no environment.
pub fn execve<const N: usize>(path: &CStr, arguments: [&CStr; N]) -> Failure {
    const MOST: usize = 8;
    const { assert!(N < MOST, "the list ends with an empty one") };
    let mut list = [null(); MOST];
    for (entry, argument) in list.iter_mut().zip(arguments) {
        *entry = argument.as_ptr();
    }
    let environment = list[MOST - 1..].as_ptr();
    let arguments = [path.as_ptr().addr(), list.as_ptr().addr(), environment.addr(), 0, 0, 0];
    // SAFETY: strings and lists end with 0; Linux only reads them. If it does what is asked, this process's memory is gone,
    // and so is whoever could look at it.
    let answer = unsafe { arch::system_call(number::EXECVE, arguments) };
    Failure { call: "execve", error: answer.unsigned_abs() }
}

/// Waits for a child to end.
#[inline(always)]
pub fn wait(child: usize) -> Outcome {
    call!("wait4", WAIT4, child).map(drop)
}

/// Ends a child, whatever it does.
pub fn kill(child: usize) -> Outcome {
    const SIGKILL: usize = 9;
    call!("kill", KILL, child, SIGKILL).map(drop)
}

/// Ends this process.
pub fn exit(code: usize) -> ! {
    loop {
        // It does not come back.
        let _ = call!("exit_group", EXIT_GROUP, code);
    }
}

/// How processes are scheduled.
#[derive(Clone, Copy)]
pub enum Policy {
    /// As is usual: each gets its share.
    Shares = 0,
    /// By priority, and within that in turn (`SCHED_FIFO`): who yields is behind all others of its priority.
    InTurn = 1,
}

/// Schedules this process, and those that it starts, otherwise than before.
pub fn sched_setscheduler(policy: Policy) -> Outcome {
    let priority = match policy {
        Policy::Shares => 0_u32,
        Policy::InTurn => 1,
    };
    let arguments = [0, policy as usize, (&raw const priority).addr(), 0, 0, 0];
    // SAFETY: Linux reads one number of 32 bits.
    outcome("sched_setscheduler", unsafe { arch::system_call(number::SCHED_SETSCHEDULER, arguments) }).map(drop)
}

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Pages that stay mapped until the program ends.
pub struct Region {
    start: *mut u8,
    pages: usize,
}

/// Who sees what is written to a region.
#[derive(Clone, Copy)]
pub enum Sharing {
    /// Those that this process starts from now on.
    Shared = 1,
    /// This process.
    Private = 2,
}

impl Region {
    /// Anonymous memory: nothing but zeroes.
    pub fn new(pages: usize, sharing: Sharing) -> Outcome<Region> {
        const READ_AND_WRITE: usize = 3;
        const ANONYMOUS: usize = 0x20;
        let no_file = usize::MAX;
        let arguments =
            [null_mut::<u8>().addr(), pages * PAGE, READ_AND_WRITE, sharing as usize | ANONYMOUS, no_file, 0];
        // SAFETY: Linux chooses a place where nothing is.
        let start = outcome("mmap", unsafe { arch::system_call(number::MMAP, arguments) })?;
        Ok(Region { start: core::ptr::with_exposed_provenance_mut(start), pages })
    }

    /// Writes to each page.
    #[inline(always)]
    pub fn touch(&self) {
        for page in 0..self.pages {
            let place = self.start.wrapping_add(page * PAGE);
            // SAFETY: inside the region, which is mapped, and which nobody has a reference to.
            unsafe { place.write_volatile(1) };
        }
    }

    /// Gives the pages back; what is there next is zeroes.
    pub fn forget(&self) -> Outcome {
        const MADV_DONTNEED: usize = 4;
        let arguments = [self.start.addr(), self.pages * PAGE, MADV_DONTNEED, 0, 0, 0];
        // SAFETY: the region stays mapped, and nobody has a reference to what it holds.
        outcome("madvise", unsafe { arch::system_call(number::MADVISE, arguments) }).map(drop)
    }

    /// The region as a number; it is not touched or forgotten any more.
    pub fn into_number(self) -> &'static AtomicU64 {
        // SAFETY: the region stays mapped, starts a page, and holds zeroes, which are a number; nobody writes it otherwise:
        // it isn't a region any more.
        unsafe { AtomicU64::from_ptr(self.start.cast()) }
    }
}

/// Which Linux this is: its release.
pub struct Name([u8; Name::BYTES]);

impl Name {
    const FIELD: usize = 65;
    const BYTES: usize = 6 * Self::FIELD;
    const RELEASE: usize = 2;

    /// Asks.
    pub fn of_this() -> Outcome<Name> {
        let mut name = Name([0; Name::BYTES]);
        let arguments = [name.0.as_mut_ptr().addr(), 0, 0, 0, 0, 0];
        // SAFETY: Linux writes six fields of 65 bytes.
        outcome("uname", unsafe { arch::system_call(number::UNAME, arguments) })?;
        Ok(name)
    }

    /// The release, as `uname --kernel-release` shows it.
    pub fn release(&self) -> &str {
        let field = &self.0[Self::RELEASE * Self::FIELD..][..Self::FIELD];
        CStr::from_bytes_until_nul(field).ok().and_then(|text| text.to_str().ok()).unwrap_or("of an unknown release")
    }
}

/// Ends everything.
pub fn power_off() -> ! {
    const MAGIC: [usize; 3] = [0xfee1_dead, 672_274_793, 0x4321_fedc];
    let _ = call!("reboot", REBOOT, MAGIC[0], MAGIC[1], MAGIC[2]);
    // Linux is not amused when its first program ends, and stops: the host hears that.
    exit(1)
}
