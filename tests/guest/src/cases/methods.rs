//! Every method of every kernel object, called in the wrong way: it always answers, and always an error.

use anos::abi::boot::slot;
use anos::abi::object::Method;
use anos::abi::syscall::FOREVER;
use anos::capability::{
    AddressSpace, CapTable, Capability, Frame, InterruptControl, IoPortControl, PageTable, Slot, Thread, Untyped,
    invoke_step,
};
use anos::{Error, Kind, Message, Rights, env, sys};

use super::cases;
use crate::arch;
use crate::case::{Case, MEMORY, TABLE, core, look};
use crate::check::{Outcome, check, equal};
use crate::supervisor::DEBUG;

cases![
    a_method_of_another_kind_is_no_method,
    unknown_labels_are_no_methods,
    methods_need_their_right,
    methods_refuse_absurd_words,
    methods_that_take_a_capability_refuse_another_kind,
    methods_that_take_a_capability_refuse_an_empty_slot,
    methods_answer_a_send_as_well,
    kernel_objects_ignore_the_deadline,
];

/// A capability of each kind that answers to methods, as this machine has them.
fn one_of_each(case: &mut Case) -> Outcome<[Option<(Kind, Slot)>; 13]> {
    let (memory, frame): (Untyped, Frame) = (case.make_small()?, case.make_small()?);
    let (table, space, thread): (PageTable, AddressSpace, Thread) = (case.make()?, case.make()?, case.make()?);
    let slots: CapTable = case.make_small()?;
    let line = case.slot();
    let (number, level) = arch::UART_LINE;
    let interrupts = InterruptControl::at(Slot::new(slot::INTERRUPT_CONTROL));
    interrupts.get(number, level, false, line)?;
    let mut all = [
        Some((Kind::Untyped, memory.slot())),
        Some((Kind::Frame, frame.slot())),
        Some((Kind::PageTable, table.slot())),
        Some((Kind::AddressSpace, space.slot())),
        Some((Kind::CapTable, slots.slot())),
        Some((Kind::Thread, thread.slot())),
        Some((Kind::SchedContext, case.context(0)?.slot())),
        Some((Kind::Interrupt, line)),
        Some((Kind::InterruptControl, interrupts.slot())),
        Some((Kind::SchedControl, core(0).slot())),
        Some((Kind::Debug, DEBUG.slot())),
        None,
        None,
    ];
    if arch::IS_PC {
        let (ports, control) = (case.slot(), IoPortControl::at(Slot::new(slot::IO_PORT_CONTROL)));
        control.get(0x3ff, 0x3ff, ports)?;
        all[11] = Some((Kind::IoPort, ports));
        all[12] = Some((Kind::IoPortControl, control.slot()));
    }
    Ok(all)
}

/// The one of a kind, if this machine has it.
fn of_kind(all: &[Option<(Kind, Slot)>], wanted: Kind) -> Option<Slot> {
    all.iter().flatten().find(|(kind, _)| *kind == wanted).map(|(_, slot)| *slot)
}

fn a_method_of_another_kind_is_no_method(case: &mut Case) -> Outcome {
    let all = one_of_each(case)?;
    for (kind, slot) in all.into_iter().flatten() {
        for method in Method::ALL.iter().filter(|method| method.kind() != kind) {
            let answer = invoke_step(slot, *method, &[], None, None);
            check!(answer == Err(Error::InvalidMethod), "{method:?} of {kind:?}: {answer:x?}");
        }
    }
    Ok(())
}

fn unknown_labels_are_no_methods(case: &mut Case) -> Outcome {
    let all = one_of_each(case)?;
    for (kind, slot) in all.into_iter().flatten() {
        let known = |label: u64| Method::ALL.iter().any(|method| method.label() == label);
        let own = (kind as u64) << 8;
        let labels = (own..own + 256).chain([0, 1, 0x1_0000 | own | 1, 1 << 63 | own | 1, u64::MAX]);
        for label in labels.filter(|label| !known(*label)) {
            let answer = sys::call(slot, &Message::new(label, &[1; 8]), None, None, FOREVER)?.message;
            check!(answer == Message::refusal(Error::InvalidMethod), "{label:#x} of {kind:?}: {answer:x?}");
        }
    }
    Ok(())
}

fn methods_need_their_right(case: &mut Case) -> Outcome {
    let all = one_of_each(case)?;
    let mut tried = 0;
    for (kind, slot) in all.into_iter().flatten() {
        let powerless = case.slot();
        match TABLE.copy(slot, powerless, Rights::NONE) {
            Err(Error::NotCopyable) => continue,
            other => other?,
        }
        for method in Method::ALL.iter().filter(|method| method.kind() == kind) {
            let answer = invoke_step(powerless, *method, &[], None, None);
            check!(answer == Err(Error::MissingRights), "{method:?} without rights: {answer:x?}");
            tried += 1;
        }
    }
    check!(tried >= 25, "only {tried} methods");
    Ok(())
}

/// What a method answers when all words are as large as can be and no capability comes along.
fn answer_to_absurd_words(method: Method) -> Result<(), Error> {
    match method {
        // These take no words, or none of what they take is absurd to them.
        Method::UntypedInfo
        | Method::FrameInfo
        | Method::AddressSpaceInfo
        | Method::CapTableInfo
        | Method::ThreadSetFaultEndpoint
        | Method::ThreadBind
        | Method::ThreadSuspend
        | Method::ThreadInfo
        | Method::ThreadSetContext
        | Method::ThreadReadRegisters
        | Method::SchedContextInfo
        | Method::InterruptUnbind
        | Method::SchedControlInfo => Ok(()),
        Method::InterruptMessage => Err(Error::Unsupported),
        Method::FrameUnmap | Method::PageTableUnmap | Method::InterruptAck => Err(Error::NotMapped),
        Method::ThreadResume => Err(Error::NotRunnable),
        Method::CapTableCopy
        | Method::CapTableMint
        | Method::CapTableMove
        | Method::CapTableDelete
        | Method::CapTableRevoke
        | Method::CapTableLook
        | Method::PageTableMap
        | Method::ThreadSetTable
        | Method::ThreadSetSpace
        | Method::CapTableCancel
        | Method::SchedControlLimit
        | Method::DebugName
        | Method::InterruptBind => Err(Error::InvalidSlot),
        _ => Err(Error::InvalidArgument),
    }
}

fn methods_refuse_absurd_words(case: &mut Case) -> Outcome {
    let all = one_of_each(case)?;
    let used = MEMORY.info()?.pages_used;
    for method in Method::ALL {
        let Some(slot) = of_kind(&all, method.kind()) else { continue };
        let answer = invoke_step(slot, *method, &[u64::MAX; 8], None, None).map(|_| ());
        let expected = answer_to_absurd_words(*method);
        check!(answer == expected, "{method:?}: {answer:?}, expected {expected:?}");
    }
    equal!(MEMORY.info()?.pages_used, used);
    for (kind, slot) in all.into_iter().flatten() {
        equal!(look(slot)?.kind, kind);
    }
    Ok(())
}

/// Methods that take a capability along, and words that are all right otherwise.
const WITH_CAPABILITY: [(Method, [u64; 3]); 13] = [
    (Method::FrameMap, [0x40_0000, 3, 0]),
    (Method::PageTableMap, [0x40_0000, 1, 0]),
    (Method::CapTableCopy, [9, 15, 0]),
    (Method::CapTableMint, [9, 15, 1]),
    (Method::CapTableMove, [9, 0, 0]),
    (Method::ThreadSetTable, [0; 3]),
    (Method::ThreadSetSpace, [0; 3]),
    (Method::ThreadSetFaultEndpoint, [0; 3]),
    (Method::ThreadBind, [0; 3]),
    (Method::ThreadSetContext, [0; 3]),
    (Method::SchedControlLimit, [0; 3]),
    (Method::DebugName, [0; 3]),
    (Method::InterruptBind, [0; 3]),
];

fn methods_that_take_a_capability_refuse_another_kind(case: &mut Case) -> Outcome {
    let all = one_of_each(case)?;
    for (method, words) in WITH_CAPABILITY {
        if matches!(method, Method::CapTableCopy | Method::CapTableMint | Method::CapTableMove) {
            continue;
        }
        let Some(slot) = of_kind(&all, method.kind()) else { continue };
        let pass = Some(DEBUG.slot());
        let answer = invoke_step(slot, method, &words, pass, None);
        check!(answer == Err(Error::WrongKind), "{method:?}: {answer:x?}");
    }
    Ok(())
}

fn methods_that_take_a_capability_refuse_an_empty_slot(case: &mut Case) -> Outcome {
    let all = one_of_each(case)?;
    let empty = case.slot();
    for (method, words) in WITH_CAPABILITY {
        let Some(slot) = of_kind(&all, method.kind()) else { continue };
        for (pass, error) in [(empty, Error::EmptySlot), (Slot::new(4096), Error::InvalidSlot)] {
            let answer = invoke_step(slot, method, &words, Some(pass), None);
            check!(answer == Err(error), "{method:?}: {answer:x?}");
        }
    }
    Ok(())
}

fn methods_answer_a_send_as_well(case: &mut Case) -> Outcome {
    let (table, place): (CapTable, Slot) = (case.make_small()?, Slot::new(9));
    let copy = Message::new(Method::CapTableCopy.label(), &[9, 15]);
    sys::send(table.slot(), &copy, Some(DEBUG.slot()), FOREVER)?;
    equal!(table.look(place)?.kind, Kind::Debug);
    Ok(())
}

fn kernel_objects_ignore_the_deadline(_: &mut Case) -> Outcome {
    let look = Message::new(Method::SchedControlInfo.label(), &[]);
    for deadline in [0, 1, FOREVER] {
        let last = env::cores() - 1;
        let answer = sys::call(core(last).slot(), &look, None, None, deadline)?;
        equal!((answer.message.label, answer.message.words[0]), (0, last));
    }
    Ok(())
}
