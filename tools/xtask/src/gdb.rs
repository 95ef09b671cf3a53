//! A debugger's hand on a guest: stops it at a function and changes what is in registers.
//!
//! Speaks GDB's remote protocol ("Debugging with GDB", appendix E) with QEMU over a pair of sockets, one of which QEMU
//! inherits: no port, no file. A guest that is started so waits before its first instruction.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::{FdFlags, fcntl_setfd};

/// How long QEMU may take to answer, or the guest to get where it is stopped.
const PATIENCE: Duration = Duration::from_secs(90);

/// The debugger's end of the line.
pub struct Debugger {
    line: UnixStream,
    /// QEMU's end; it must stay open until QEMU has started.
    theirs: Option<OwnedFd>,
}

impl Debugger {
    /// Adds to QEMU's command line what lets us debug the guest.
    pub fn attach(command: &mut Command) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let theirs = OwnedFd::from(theirs);
        fcntl_setfd(&theirs, FdFlags::empty())?;
        command.arg("-chardev").arg(format!("socket,id=gdb,fd={}", theirs.as_raw_fd()));
        command.args(["-gdb", "chardev:gdb", "-S"]);
        Ok(Debugger { line: ours, theirs: Some(theirs) })
    }

    /// Lets the guest run until one of its cores comes to this address, which then is the one that is changed.
    pub fn run_to(&mut self, address: u64) -> Result<()> {
        self.run_to_any(&[address])
    }

    /// The same with several addresses: to the first that a core comes to.
    pub fn run_to_any(&mut self, addresses: &[u64]) -> Result<()> {
        // QEMU changes registers only for a debugger that has asked which there are.
        self.ask("qXfer:features:read:target.xml:0,1")?;
        for address in addresses {
            self.done(&format!("Z1,{address:x},1"))?;
        }
        let stopped = self.ask("vCont;c")?;
        ensure!(stopped.starts_with('T'), "the guest did not stop at {addresses:#x?}, but: {stopped}");
        addresses.iter().try_for_each(|address| self.done(&format!("z1,{address:x},1")))
    }

    /// Has QEMU's monitor carry out a command that says nothing.
    pub fn tell_monitor(&mut self, command: &str) -> Result<()> {
        let digits: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.done(&format!("qRcmd,{digits}"))
    }

    /// Changes a register, by GDB's number for it.
    pub fn set_register(&mut self, number: u32, value: u64) -> Result<()> {
        self.done(&format!("P{number:x}={:016x}", value.swap_bytes()))
    }

    /// What a register holds, by GDB's number for it.
    pub fn register(&mut self, number: u32) -> Result<u64> {
        let bytes = bytes(&self.ask(&format!("p{number:x}"))?)?;
        let mut value = [0; 8];
        value.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(u64::from_le_bytes(value))
    }

    /// Lets the core execute one instruction.
    pub fn step(&mut self) -> Result<()> {
        let stopped = self.ask("vCont;s")?;
        ensure!(stopped.starts_with('T'), "the guest did not stop behind an instruction, but: {stopped}");
        Ok(())
    }

    /// Lets the guest go on for good.
    pub fn let_go(mut self) -> Result<()> {
        self.done("D")
    }

    fn done(&mut self, packet: &str) -> Result<()> {
        let answer = self.ask(packet)?;
        ensure!(answer == "OK", "QEMU answers {answer:?} to {packet:?}");
        Ok(())
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        self.theirs = None;
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.line, "${packet}#{sum:02x}").context("QEMU does not listen to its debugger")?;
        let mut answer = String::new();
        // An acknowledgement, then `$`, the answer, `#` and two digits.
        while self.next()? != b'$' {}
        loop {
            match self.next()? {
                b'#' => break,
                byte => answer.push(char::from(byte)),
            }
        }
        self.next()?;
        self.next()?;
        // A guest that was let go may have switched itself off by now, and QEMU with it: the answer is here all the same.
        let _ = self.line.write_all(b"+");
        Ok(answer)
    }

    fn next(&mut self) -> Result<u8> {
        let mut byte = [0];
        match self.line.read(&mut byte) {
            Ok(1) => Ok(byte[0]),
            Ok(_) => bail!("QEMU has ended"),
            Err(error) => Err(error).context("QEMU does not answer its debugger"),
        }
    }
}

/// Bytes from their digits.
fn bytes(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>();
    bytes.with_context(|| format!("QEMU answers {digits:?} instead of bytes"))
}
