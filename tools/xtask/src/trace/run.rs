//! A traced run: the guest of `cargo xtask bench` with one figure, under a debugger that switches QEMU's log on at a stamp
//! and off behind the next one.
//!
//! The guest is stopped only at stamps, and between two of them it runs as it does when nobody looks. So what the log
//! has is what the figure counts; [`Way::new`] leaves out what the stamps themselves cost, as the figure does.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection, ObjectSymbol};

use super::figure::{self, Part};
use super::log;
use crate::bench;
use crate::bench::figures::Figure;
use crate::build::Products;
use crate::gdb::Debugger;
use crate::guest::Guest;
use crate::qemu::{self, OnReset};
use crate::target::Architecture;

/// Stamps to let pass before anything is traced: until then, all is warm.
const WARM_UP: usize = 50;
/// How long the guest may take to end once it was let go.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where the measuring code lies in every address space: as in `tests/bench/src/stage.rs`.
const CODE: u64 = 0x8_0000_0000;

/// What must be known of an architecture.
struct Port {
    /// The instruction that reads the counter.
    stamp: &'static [u8],
    /// Instructions from a first stamp on to what is measured, and from there to the second one.
    overhead: (usize, usize),
    /// GDB's number of the stack pointer.
    stack_pointer: u32,
}

const fn port(architecture: Architecture) -> Port {
    match architecture {
        // rdtsc
        Architecture::X86_64 => Port { stamp: &[0x0f, 0x31], overhead: (5, 1), stack_pointer: 7 },
        // rdcycle t5
        Architecture::Riscv64 => Port { stamp: &[0x73, 0x2f, 0x00, 0xc0], overhead: (2, 0), stack_pointer: 2 },
    }
}

/// What was executed between two stamps, in its order, without what the stamps cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The instructions' addresses.
    pub addresses: Vec<u64>,
}

impl Way {
    /// From all that the log has up to the second stamp. If the program's instruction `faults`, it doesn't count.
    fn new(logged: &[u64], (before, behind): (usize, usize), faults: bool) -> Result<Way> {
        let end = logged.len().checked_sub(behind).context("there is nothing between two stamps")?;
        let mut addresses = logged.get(before..end).context("there is nothing between two stamps")?.to_vec();
        let of_program = logged[..before].iter().chain(&logged[end..]).all(|address| is_program(*address));
        ensure!(of_program, "the instructions at the stamps are not the program's");
        if faults {
            ensure!(addresses.first().is_some_and(|first| is_program(*first)), "no instruction of a program's faults");
            addresses.remove(0);
        }
        Ok(Way { addresses })
    }
}

/// Whether an address lies in the measuring code.
pub fn is_program(address: u64) -> bool {
    (CODE..CODE + 0x2000).contains(&address)
}

/// A part of a figure, traced.
pub struct Traced {
    /// How often each way counts.
    pub part: Part,
    /// That of the thread which was made last.
    pub there: Way,
    /// That of the other one, if there are two.
    pub back: Option<Way>,
}

/// A figure, traced.
pub struct Run {
    /// What the guest itself has measured, in the same run.
    pub figure: Figure,
    /// Its parts.
    pub parts: Vec<Traced>,
    /// Each executed instruction in words, by its address.
    pub words: HashMap<u64, String>,
}

/// Where the measuring code has its stamps, and where it starts.
struct Stamps {
    /// The first stamps.
    starts: Vec<u64>,
    /// Where the second stamps have been passed.
    passed: Vec<u64>,
    /// The second stamps.
    ends: Vec<u64>,
    /// Where threads start.
    entries: Vec<u64>,
}

impl Stamps {
    fn read(program: &Path, stamp: &[u8]) -> Result<Stamps> {
        let data = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        let file = object::File::parse(&*data)?;
        let symbol = |name: &str| {
            let found = file.symbols().find(|symbol| symbol.name() == Ok(name));
            found.map(|symbol| symbol.address()).with_context(|| format!("{} has no {name}", program.display()))
        };
        let base = symbol("bench_start")?;
        let mut stamps = Stamps { starts: vec![], passed: vec![], ends: vec![], entries: vec![] };
        let pieces = [
            ("bench_call", "bench_store", true, true),
            ("bench_store", "bench_nothing", true, true),
            ("bench_steps", "bench_arrive", true, false),
            ("bench_arrive", "bench_end", false, true),
        ];
        for (from, to, starts, ends) in pieces {
            let (from, to) = (symbol(from)?, symbol(to)?);
            let code = file.sections().find_map(|section| section.data_range(from, to - from).ok().flatten());
            let code = code.context("the measuring code lies in no section")?;
            let mut found = positions(code, stamp).map(|offset| CODE + from - base + offset);
            stamps.entries.push(CODE + from - base);
            if starts {
                stamps.starts.push(found.next().context("there is no first stamp")?);
            }
            if ends {
                let end = found.next().context("there is no second stamp")?;
                stamps.ends.push(end);
                stamps.passed.push(end + stamp.len() as u64);
            }
            ensure!(found.next().is_none(), "there are more stamps than two");
        }
        // A thread that only arrives is part of the measured way.
        stamps.entries.pop();
        Ok(stamps)
    }
}

/// Where an instruction's bytes stand.
fn positions(code: &[u8], instruction: &[u8]) -> impl Iterator<Item = u64> {
    (0..).zip(code.windows(instruction.len())).filter(move |(_, bytes)| *bytes == instruction).map(|(offset, _)| offset)
}

/// Boots the guest with one figure, and traces each part of it once.
pub fn run(products: &Products, architecture: Architecture, name: &str) -> Result<Run> {
    let program = products.kernel.with_file_name("programs").join("anos-bench.elf");
    let port = port(architecture);
    let stamps = Stamps::read(&program, port.stamp)?;
    let machine = bench::machine(architecture, 1, Some(name))?;
    let mut command = qemu::command(architecture, &machine, &products.image, OnReset::Exit)?;
    let log = Log::new(products.kernel.with_file_name("trace.log"))?;
    command.args(["-serial", "stdio", "-monitor", "none", "-D"]).arg(&log.path);
    let (debugger, words) = (Debugger::attach(&mut command)?, HashMap::new());
    let mut tracer = Tracer { debugger, log, stamps, port, faults: figure::faults(name), words };
    let mut guest = Guest::start(command, None, "")?;
    let parts = figure::parts(name).iter().map(|part| tracer.part(*part)).collect::<Result<Vec<_>>>();
    let parts = parts.with_context(|| format!("{name} on {}", architecture.name()))?;
    tracer.debugger.let_go()?;
    let (which, _) = guest.expect_any(&["figure ", "FAILED ", "anos-bench: "], PATIENCE)?;
    let line = guest.expect("\n", PATIENCE)?.trim_end().to_string();
    if which != 0 {
        bail!("{}", guest.report(&format!("{name} was not measured")));
    }
    let figure = Figure::parse(&line, architecture, 1).with_context(|| format!("figure {line}"))?;
    ensure!(figure.name == name, "the guest measures {}, but {name} was asked for", figure.name);
    Ok(Run { figure, parts, words: tracer.words })
}

/// The debugger, and what it must know.
struct Tracer {
    debugger: Debugger,
    log: Log,
    stamps: Stamps,
    port: Port,
    faults: bool,
    words: HashMap<u64, String>,
}

impl Tracer {
    /// Goes to where a part's threads start, lets them become warm, and traces a way of each.
    fn part(&mut self, part: Part) -> Result<Traced> {
        self.debugger.run_to_any(&self.stamps.entries)?;
        for _ in 0..WARM_UP {
            self.next_start()?;
        }
        let (one_place, one) = self.way()?;
        self.next_start()?;
        let (other_place, other) = self.way()?;
        // Each thread's stack pointer points to its record; those of later threads lie higher.
        let (there, back) = match one_place.cmp(&other_place) {
            std::cmp::Ordering::Greater => (one, Some(other)),
            std::cmp::Ordering::Less => (other, Some(one)),
            std::cmp::Ordering::Equal => (other, None),
        };
        Ok(Traced { part, there, back })
    }

    /// To the next first stamp. The guest may stand at one.
    fn next_start(&mut self) -> Result<()> {
        self.debugger.step()?;
        self.debugger.run_to_any(&self.stamps.starts)
    }

    /// The way from the first stamp that the guest stands at, and where its thread has its record.
    fn way(&mut self) -> Result<(u64, Way)> {
        let place = self.debugger.register(self.port.stack_pointer)?;
        self.debugger.tell_monitor("singlestep on")?;
        self.debugger.tell_monitor("log exec,nochain,in_asm")?;
        self.debugger.run_to_any(&self.stamps.passed)?;
        self.debugger.tell_monitor("log none")?;
        self.debugger.tell_monitor("singlestep off")?;
        let log = self.log.read_on()?;
        self.words.extend(log::disassembled(&log));
        let logged = log::executed(&log)?;
        let end = logged.iter().position(|address| self.stamps.ends.contains(address));
        let end = end.context("QEMU's log has no second stamp")?;
        Ok((place, Way::new(&logged[..end], self.port.overhead, self.faults && self.is_store(&logged))?))
    }

    /// Whether what was measured is a store.
    fn is_store(&self, logged: &[u64]) -> bool {
        logged.first() == self.stamps.starts.get(1)
    }
}

/// The file that QEMU's log goes to; gone when dropped.
struct Log {
    path: PathBuf,
    read: u64,
}

impl Log {
    fn new(path: PathBuf) -> Result<Log> {
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Log { path, read: 0 })
    }

    /// What has come since.
    fn read_on(&mut self) -> Result<String> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        self.read += u64::try_from(file.read_to_end(&mut bytes)?)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // It is in target/, and the next run writes it anew.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamps_cost_is_no_part_of_a_way() {
        let kernel = 0xffff_ffff_8020_0000;
        let logged = [CODE, CODE + 4, CODE + 8, kernel, kernel + 4, CODE + 12];
        let way = |faults| Way::new(&logged, (2, 1), faults).expect("between stamps").addresses;
        assert_eq!(way(false), [CODE + 8, kernel, kernel + 4]);
        assert_eq!(way(true), [kernel, kernel + 4]);
        assert!(Way::new(&logged[..2], (2, 1), false).is_err());
        assert!(Way::new(&[kernel; 8], (2, 1), false).is_err());
    }

    #[test]
    fn stamps_are_found_by_their_bytes() {
        assert_eq!(positions(&[0x90, 0x0f, 0x31, 0x0f, 0x0f, 0x31], &[0x0f, 0x31]).collect::<Vec<_>>(), [1, 4]);
    }
}
