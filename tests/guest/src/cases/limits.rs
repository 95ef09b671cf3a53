//! What a program can do at worst: everything it holds, in any order, with any arguments.

use anos::abi::object::Method;
use anos::abi::{Operation, Slots, SystemCall};
use anos::capability::{
    AddressSpace, CapTable, Capability, Endpoint, Frame, Notification, PageTable, Reply, Slot, Thread, Untyped,
};
use anos::{Error, Kind, Rights, env};

use super::cases;
use crate::arch::{self, Registers};
use crate::case::{Case, MEMORY, SPACE, TABLE, count, look, now, shared_value};
use crate::check::{Outcome, check, equal};
use crate::helper::{Helper, LOW};

cases![
    memory_can_be_used_up_and_comes_back,
    a_full_table_takes_no_more,
    a_family_ten_thousand_deep_is_no_burden,
    random_calls_harm_nobody,
    random_calls_on_all_cores_harm_nobody on 2,
];

fn memory_can_be_used_up_and_comes_back(case: &mut Case) -> Outcome {
    let memory: Untyped = case.make_sized(256)?;
    for round in 0..3 {
        let mut made = 0;
        let first = case.slots(70);
        while let Ok(()) = memory.retype(Kind::Thread, 0, 8, first.offset(8 * made)) {
            made += 1;
            if made == 8 {
                break;
            }
        }
        check!(made == 8, "round {round}: {made} times 8 threads");
        let rest = memory.info()?;
        let frame = first.offset(64);
        memory.retype(Kind::Frame, rest.pages - rest.pages_used, 1, frame)?;
        equal!(memory.retype(Kind::Endpoint, 0, 1, first.offset(65)), Err(Error::NotEnoughMemory));
        TABLE.revoke(memory.slot())?;
        equal!(memory.info()?.pages_used, 0);
    }
    Ok(())
}

fn a_full_table_takes_no_more(case: &mut Case) -> Outcome {
    let table: CapTable = case.make_small()?;
    let endpoint: Endpoint = case.make()?;
    for place in 1..64 {
        table.copy(endpoint.slot(), Slot::new(place), Rights::ALL)?;
    }
    for place in 1..64 {
        equal!(table.copy(endpoint.slot(), Slot::new(place), Rights::ALL), Err(Error::SlotOccupied));
    }
    equal!(table.copy(endpoint.slot(), Slot::new(64), Rights::ALL), Err(Error::InvalidSlot));
    Ok(())
}

fn a_family_ten_thousand_deep_is_no_burden(case: &mut Case) -> Outcome {
    let table: CapTable = case.make_sized(16 * 1024)?;
    let endpoint: Endpoint = case.make()?;
    // Each is derived from the one before, by way of a slot in this table, from which it then moves.
    let mut last = endpoint.slot();
    let (a, b) = (case.slot(), case.slot());
    for place in 1..10_000 {
        let next = if place % 2 == 0 { a } else { b };
        TABLE.copy(last, next, Rights::ALL)?;
        if last != endpoint.slot() {
            table.take(last, Slot::new(place))?;
        }
        last = next;
    }
    equal!(table.look(Slot::new(9_999))?.kind, Kind::Endpoint);
    TABLE.revoke(endpoint.slot())?;
    for place in [2, 3, 5_000, 9_999] {
        equal!(table.look(Slot::new(place))?.kind, Kind::Empty);
    }
    equal!(look(last)?.kind, Kind::Empty);
    Ok(())
}

/// Numbers that look random: a xorshift generator (Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number that is often interesting.
    fn word(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(4),
            1 => self.below(64),
            2 => 1 << self.below(64),
            3 => self.below(1 << 20) << 12,
            4 => u64::MAX - self.below(3),
            _ => self.next(),
        }
    }
}

/// Slots of a wild thread's table that hold something at first.
const HELD: u64 = 20;

/// A random system call on what lies in the first slots of a table.
fn random_call(random: &mut Random) -> Registers {
    let mut registers: Registers = core::array::from_fn(|_| random.word());
    let call = match random.below(8) {
        0 => SystemCall::Send,
        1 => SystemCall::Recv,
        2 => SystemCall::ReplyRecv,
        3 => SystemCall::Yield,
        _ => SystemCall::Call,
    };
    let slot = |random: &mut Random| u32::try_from(random.below(HELD + 4)).unwrap_or(0);
    registers[0] = Operation::new(call, slot(random)).0;
    if random.below(20) != 0
        && let Some(method) = usize::try_from(random.below(64)).ok().and_then(|n| Method::ALL.get(n))
    {
        registers[1] = method.label();
    }
    registers[2] = Slots::new(slot(random), slot(random)).0;
    registers[3] = random.below(HELD + 4);
    // Never long.
    registers[4] = if random.below(2) == 0 { 0 } else { now() + random.below(200_000) };
    for word in registers.iter_mut().skip(5).take(3) {
        if random.below(2) == 0 {
            *word = random.below(HELD + 4);
        }
    }
    registers
}

/// Random calls that a wild thread makes.
const CALLS: u64 = 500;

/// A helper: makes random calls, in a table of its own; word 0 counts them.
fn run_wild(seed: u64) {
    let mut random = Random(seed | 1 << 40);
    for _ in 0..CALLS {
        let mut registers = random_call(&mut random);
        // SAFETY: nothing in this thread's table gives it power over memory that the program uses.
        unsafe { arch::raw_system_call(&raw mut registers) };
        count(0);
        let code = arch::raw_system_call as *const () as u64;
        if registers.iter().enumerate().skip(13).any(|(n, register)| !arch::is_clean(n, *register, code)) {
            count(1);
        }
    }
}

/// A helper that runs wild with one of each kind of object out of its own memory, on a core.
fn wild(case: &mut Case, on: u64, seed: u64) -> Outcome<Helper> {
    let helper = case.prepare(on, LOW, run_wild, seed)?;
    let table: CapTable = case.make_small()?;
    let mut objects = [None; 16];
    let memory: Untyped = case.make_sized(16)?;
    let (frame, large): (Frame, Frame) = (case.make_sized(2)?, case.make_sized(3)?);
    let (first, second): (PageTable, PageTable) = (case.make()?, case.make()?);
    let (space, thread): (AddressSpace, Thread) = (case.make()?, case.make()?);
    let (endpoint, reply, notification): (Endpoint, Reply, Notification) = (case.make()?, case.make()?, case.make()?);
    let (other, another): (CapTable, Endpoint) = (case.make_small()?, case.make()?);
    let held = [
        memory.slot(),
        frame.slot(),
        large.slot(),
        first.slot(),
        second.slot(),
        space.slot(),
        thread.slot(),
        endpoint.slot(),
        reply.slot(),
        notification.slot(),
        other.slot(),
        another.slot(),
    ];
    objects.iter_mut().zip(held).for_each(|(place, slot)| *place = Some(slot));
    let badged = case.mint(notification, Rights::ALL, 3)?;
    thread.set_table(other)?;
    thread.set_space(space)?;
    thread.set_fault_endpoint(Some(another))?;
    for (place, slot) in (2..).zip(objects.into_iter().flatten()) {
        table.take(slot, Slot::new(place))?;
    }
    table.take(badged.slot(), Slot::new(14))?;
    let own = case.copy(table, Rights::ALL)?;
    table.take(own.slot(), Slot::new(1))?;
    helper.thread.set_table(table)?;
    helper.thread.set_priority(LOW, LOW)?;
    Ok(helper)
}

fn let_wild(case: &mut Case, cores: u64, rounds: u64) -> Outcome {
    equal!(SPACE.info()?.0, env::boot_info().map_or(0, |info| info.paging_levels));
    for round in 0..rounds {
        let mut helpers = [None; 4];
        for (on, helper) in (0..cores).zip(&mut helpers) {
            *helper = Some(wild(case, on, round << 4 | on)?);
        }
        for helper in helpers.into_iter().flatten() {
            case.start(helper)?;
        }
        case.eventually(|| shared_value(0) == (round + 1) * cores * CALLS)?;
        for helper in helpers.into_iter().flatten() {
            helper.thread.suspend()?;
        }
    }
    check!(shared_value(1) == 0, "{} calls left something in a register", shared_value(1));
    // What is not theirs is as it was.
    check!(MEMORY.info()?.pages_used != 0 && look(TABLE.slot())?.kind == Kind::CapTable);
    Ok(())
}

fn random_calls_harm_nobody(case: &mut Case) -> Outcome {
    let_wild(case, 1, 10)
}

fn random_calls_on_all_cores_harm_nobody(case: &mut Case) -> Outcome {
    let_wild(case, env::cores().min(4), 5)
}
