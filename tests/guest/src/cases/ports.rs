//! I/O ports on x86-64, and the kernel's own Debug object.

use anos::abi::boot::slot;
use anos::abi::object::Method;
use anos::capability::{Capability, Debug, IoPort, IoPortControl, Slot, invoke};
use anos::{Error, Kind, Rights, env, sys};

use super::cases;
use crate::arch;
use crate::case::{Case, core, counters, look};
use crate::check::{Outcome, check, equal};
use crate::supervisor::DEBUG;

cases![
    ports_are_as_the_architecture_has_them,
    a_port_holds_what_is_written,
    a_port_capability_reaches_its_range_only,
    a_port_range_is_checked,
    ports_take_read_to_read_and_write_to_write,
    writing_text_is_limited,
    an_unknown_reset_is_refused,
    counters_take_read_and_console_takes_write,
    system_calls_are_counted,
    switches_are_counted,
];

const CONTROL: IoPortControl = IoPortControl::at(Slot::new(slot::IO_PORT_CONTROL));
/// The serial port's scratch register: a byte that does nothing.
const SCRATCH: u16 = 0x3ff;
const HAS_PORTS: bool = arch::IS_PC;

/// The ports of the serial interface, where there are ports.
fn ports(case: &mut Case, first: u16, last: u16) -> Result<IoPort, Error> {
    let slot = case.slot();
    CONTROL.get(first, last, slot)
}

fn ports_are_as_the_architecture_has_them(case: &mut Case) -> Outcome {
    let made = ports(case, 0x3f8, SCRATCH);
    if HAS_PORTS {
        equal!(look(made?.slot())?.kind, Kind::IoPort);
    } else {
        equal!(made, Err(Error::EmptySlot));
    }
    Ok(())
}

fn a_port_holds_what_is_written(case: &mut Case) -> Outcome {
    if !HAS_PORTS {
        return no_ports(case);
    }
    let ports = ports(case, 0x3f8, SCRATCH)?;
    for value in [0x5a, 0xa5, 0, 0xff] {
        ports.write_byte(SCRATCH, value)?;
        equal!(ports.read_byte(SCRATCH), Ok(value));
    }
    Ok(())
}

/// Where there are no ports, every call says so.
fn no_ports(case: &mut Case) -> Outcome {
    equal!(ports(case, SCRATCH, SCRATCH), Err(Error::EmptySlot));
    equal!(IoPort::at(case.slot()).read_byte(SCRATCH), Err(Error::EmptySlot));
    Ok(())
}

fn a_port_capability_reaches_its_range_only(case: &mut Case) -> Outcome {
    if !HAS_PORTS {
        return no_ports(case);
    }
    let ports = ports(case, 0x3fa, SCRATCH)?;
    for (port, size) in [(0x3f9, 1), (0x400, 1), (0x3ff, 2), (0x3fe, 4), (0x3fa, 0), (0x3fa, 3), (0x3fa, 8)] {
        let input = invoke(ports.slot(), Method::IoPortIn, &[port, size], None, None);
        check!(input == Err(Error::InvalidArgument), "in {port:#x}, {size}: {input:?}");
        let output = invoke(ports.slot(), Method::IoPortOut, &[port, size, 0], None, None);
        check!(output == Err(Error::InvalidArgument), "out {port:#x}, {size}: {output:?}");
    }
    for [port, size] in [[u64::MAX, 1], [u64::MAX, 2], [1 << 16 | 0x3fa, 1], [0x3fa, u64::MAX]] {
        let input = invoke(ports.slot(), Method::IoPortIn, &[port, size], None, None);
        check!(input == Err(Error::InvalidArgument), "in {port:#x}, {size:#x}: {input:?}");
    }
    let large = invoke(ports.slot(), Method::IoPortOut, &[0x3ff, 1, 1 << 32], None, None);
    equal!(large, Err(Error::InvalidArgument));
    Ok(())
}

fn a_port_range_is_checked(case: &mut Case) -> Outcome {
    if !HAS_PORTS {
        return no_ports(case);
    }
    let slot = case.slot();
    for words in [[2, 1], [0, 1 << 16], [1 << 32, 1 << 32], [0xffff, 0x1_0000], [u64::MAX, u64::MAX]] {
        let answer = invoke(CONTROL.slot(), Method::IoPortControlGet, &words, None, Some(slot));
        check!(answer == Err(Error::InvalidArgument), "{words:x?}: {answer:?}");
    }
    equal!(look(slot)?.kind, Kind::Empty);
    Ok(())
}

fn ports_take_read_to_read_and_write_to_write(case: &mut Case) -> Outcome {
    if !HAS_PORTS {
        return no_ports(case);
    }
    let ports = ports(case, 0x3f8, SCRATCH)?;
    let (reader, writer) = (case.copy(ports, Rights::READ)?, case.copy(ports, Rights::WRITE)?);
    equal!(reader.write_byte(SCRATCH, 1), Err(Error::MissingRights));
    equal!(writer.read_byte(SCRATCH), Err(Error::MissingRights));
    equal!(writer.write_byte(SCRATCH, 7), Ok(()));
    equal!(reader.read_byte(SCRATCH), Ok(7));
    Ok(())
}

fn writing_text_is_limited(_: &mut Case) -> Outcome {
    for length in [17, 18, 56, 1 << 32, u64::MAX] {
        let answer = invoke(DEBUG.slot(), Method::DebugWrite, &[length], None, None);
        equal!(answer, Err(Error::InvalidArgument));
    }
    equal!(invoke(DEBUG.slot(), Method::DebugWrite, &[0, 0x41], None, None), Ok([0; 8]));
    Ok(())
}

fn an_unknown_reset_is_refused(case: &mut Case) -> Outcome {
    for how in [2, 3, 1 << 32, u64::MAX] {
        let answer = invoke(DEBUG.slot(), Method::DebugReset, &[how], None, None);
        equal!(answer, Err(Error::InvalidArgument));
    }
    let reader = case.copy(DEBUG, Rights::READ)?;
    equal!(Debug::reset(reader, false), Error::MissingRights);
    Ok(())
}

fn counters_take_read_and_console_takes_write(case: &mut Case) -> Outcome {
    let (reader, writer) = (case.copy(DEBUG, Rights::READ)?, case.copy(DEBUG, Rights::WRITE)?);
    equal!(reader.write(b"no"), Err(Error::MissingRights));
    equal!(writer.counters(0), Err(Error::MissingRights));
    check!(reader.counters(0)?.system_calls > 0);
    Ok(())
}

fn system_calls_are_counted(_: &mut Case) -> Outcome {
    let before = DEBUG.counters(0)?.system_calls;
    for _ in 0..100 {
        sys::yield_now();
    }
    let counted = DEBUG.counters(0)?.system_calls - before;
    // Nobody else runs; the second look at the counters is the 101st.
    equal!(counted, 101);
    Ok(())
}

fn switches_are_counted(case: &mut Case) -> Outcome {
    let (endpoint, ..) = super::ipc::server(case, env::cores() - 1)?;
    let server = core(env::cores() - 1);
    // From now on it waits.
    endpoint.call(&anos::Message::OK)?;
    let before = (counters()?.switches, server.info()?.switches);
    for _ in 0..10 {
        endpoint.call(&anos::Message::OK)?;
    }
    let after = (counters()?.switches, server.info()?.switches);
    check!(after.0 - before.0 >= 20, "{} switches in all", after.0 - before.0);
    check!(after.1 - before.1 >= 10, "{} switches of the server's core", after.1 - before.1);
    Ok(())
}
