//! Tables about the system.

use alloc::format;
use alloc::string::String;

use anos::abi::Rights;
use anos::abi::object::ThreadState;
use anos::client::Processes;
use anos::interfaces::process::{Capability, End};
use anos::{Badge, Failure, Kind, Name, println, time};
use anos_app_shell::units::{Size, Time};

extern crate alloc;

/// How a process ended.
pub fn end(end: &End) -> String {
    match end {
        End::Exited { code: 0 } => String::from("done"),
        End::Exited { code } => format!("ended with code {code}"),
        // Address and program counter are in the root server's report.
        End::Faulted { kind, .. } => format!("ended by a fault: {}", kind.text()),
        End::Killed => String::from("killed"),
    }
}

/// All processes, a line for each thread.
pub fn processes(processes: &Processes) -> Result<(), Failure> {
    println!("{:>5} {:>4} {:>4}  {:10} {:>14} {:>9}  NAME", "PID", "PRIO", "CORE", "STATE", "CPU TIME", "MEMORY");
    for process in processes.list() {
        for (index, thread) in processes.threads(process.pid).enumerate() {
            let (pid, memory) = if index == 0 {
                (format!("{}", process.pid), format!("{}", Size(process.memory_bytes)))
            } else {
                (String::new(), String::new())
            };
            let name = if thread.name.is_empty() {
                format!("{}", process.name)
            } else {
                format!("{}: {}", process.name, thread.name)
            };
            println!(
                "{pid:>5} {:>4} {:>4}  {:10} {:>14} {memory:>9}  {name}",
                thread.priority,
                thread.core,
                state(thread.state),
                format!("{}", Time(thread.cpu_time_ns)),
            );
        }
    }
    Ok(())
}

fn state(state: ThreadState) -> &'static str {
    match state {
        ThreadState::Stopped => "stopped",
        ThreadState::Ready => "ready",
        ThreadState::Sending => "sending",
        ThreadState::Calling => "calling",
        ThreadState::Receiving => "receiving",
        ThreadState::Faulted => "faulted",
    }
}

/// Where memory is.
pub fn memory(processes: &Processes) -> Result<(), Failure> {
    let memory = processes.memory()?;
    for (name, bytes) in [
        ("total", memory.total),
        ("free", memory.free),
        ("kernel", memory.kernel),
        ("system", memory.system),
        ("processes", memory.processes),
    ] {
        println!("{name:10} {:>9} KiB", bytes / 1024);
    }
    for process in processes.list() {
        println!("{:>5} {:>9} KiB  {}", process.pid, process.memory_bytes / 1024, process.name);
    }
    Ok(())
}

/// What a process holds.
pub fn capabilities(processes: &Processes, pid: u32) -> Result<(), Failure> {
    let mut title = Some("SLOT  KIND          RIGHTS  DETAIL                      NAME");
    for capability in processes.capabilities(pid) {
        let capability = capability?;
        title.take().into_iter().for_each(|title| println!("{title}"));
        println!(
            "{:>4}  {:13} {:6}  {:26}  {}",
            capability.slot,
            capability.kind.name(),
            rights(capability.rights),
            detail(&capability),
            capability.name
        );
    }
    Ok(())
}

fn rights(rights: Rights) -> String {
    [(Rights::READ, 'r'), (Rights::WRITE, 'w'), (Rights::GRANT, 'g'), (Rights::EXECUTE, 'x')]
        .map(|(right, letter)| if rights.contains(right) { letter } else { '-' })
        .iter()
        .collect()
}

/// What sets this capability apart from others of its kind.
fn detail(capability: &Capability) -> String {
    match capability.kind {
        Kind::Untyped | Kind::Frame => {
            format!("{} page{}", capability.size, if capability.size == 1 { "" } else { "s" })
        }
        Kind::CapTable => format!("{} slots", capability.size),
        // A program's own, for an endpoint of its own; no process has that number.
        Kind::Endpoint if capability.badge == u64::MAX => "badged by its owner".into(),
        Kind::Endpoint if capability.badge != 0 => {
            let badge = Badge::from_word(capability.badge);
            format!("as process {}, role {}", badge.pid, badge.role)
        }
        Kind::Notification => format!("bits {:#x}", capability.badge),
        Kind::Interrupt => format!("line {}", capability.badge),
        Kind::IoPort => format!("from port {:#x}", capability.badge),
        Kind::SchedControl => format!("core {}", capability.badge),
        _ => String::new(),
    }
}

/// What the cores do.
pub fn cores(processes: &Processes) -> Result<(), Failure> {
    println!("{:>4} {:>14} {:>6} {:>8} {:>6}", "CORE", "IDLE", "", "SWITCHES", "READY");
    for (number, core) in processes.cores().enumerate() {
        let percent = core.idle_ns.saturating_mul(100) / time::Instant::now().nanoseconds().max(1);
        println!(
            "{number:>4} {:>14} {:>5}% {:>8} {:>6}",
            format!("{}", Time(core.idle_ns)),
            percent.min(100),
            core.switches,
            core.ready
        );
    }
    Ok(())
}

/// The kernel's counters.
pub fn counters(processes: &Processes) -> Result<(), Failure> {
    let counters = processes.counters()?;
    for (name, value) in [
        ("system calls", counters.system_calls),
        ("interrupts", counters.interrupts),
        ("faults", counters.faults),
        ("context switches", counters.switches),
        ("kicks between cores", counters.kicks),
        ("TLB shootdowns", counters.shootdowns),
        ("locks taken", counters.locks_taken),
        ("locks waited for", counters.locks_waited),
    ] {
        println!("{name:20} {value:>12}");
    }
    Ok(())
}

/// The programs.
pub fn programs(processes: &Processes) -> Result<(), Failure> {
    for program in processes.programs() {
        let how = if program.startable { Name::new("run").unwrap_or_default() } else { Name::default() };
        println!("{:>5} KiB  {how:4} {}", program.bytes.div_ceil(1024), program.name);
    }
    Ok(())
}
