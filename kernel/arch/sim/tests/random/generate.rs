//! What a program asks for next: mostly what makes sense, so that deep states are reached; sometimes nonsense.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::syscall::{FOREVER, POLL};
use anos_abi::{Kind, PAGE_SIZE, SystemCall};
use anos_machine::{CoreId, Ref, Slot, Thread};
use anos_sim::check::World;
use anos_sim::{Config, Message, Numbers, Payload, Sim};

/// The first slot of the root server's table that programs use; they use [`ARENA_SLOTS`].
pub const ARENA: u32 = 200;
const ARENA_SLOTS: u64 = 96;

/// A system call to be made.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Which of the five.
    pub call: SystemCall,
    /// The slot it names.
    pub target: u32,
    /// The message.
    pub message: Message,
    /// The method, if it goes to a kernel object.
    pub method: Option<Method>,
}

/// The slots of a table that are in use, and where programs find room.
struct Table<'a> {
    used: Vec<(u32, &'a Slot)>,
    first: u32,
    slots: u64,
}

impl<'a> Table<'a> {
    /// The table of a thread, or one that a capability names.
    fn of(world: &'a World, table: &Slot) -> Table<'a> {
        let (first, slots) = if table.extent > 256 { (ARENA, ARENA_SLOTS) } else { (1, table.extent.max(2) - 1) };
        let end = table.object + table.extent * 64;
        let index = |at: u64| u32::try_from((at - table.object) / 64).expect("small");
        let used = world.slots.range(table.object..end).map(|(&at, slot)| (index(at), slot)).collect();
        Table { used, first, slots }
    }

    /// A slot that holds this kind, if there is one.
    fn find(&self, numbers: &mut Numbers, kind: Kind) -> Option<u32> {
        let of_kind = self.used.iter().filter(|(_, slot)| slot.kind() == kind);
        // Not the root server's own thread, or too little would go on.
        let own = |at: u32| kind == Kind::Thread && at == slot::THREAD;
        let fitting: Vec<u32> = of_kind.map(|&(at, _)| at).filter(|&at| !own(at)).collect();
        if fitting.is_empty() { None } else { Some(numbers.pick(&fitting)) }
    }

    /// A slot that holds this kind, the first one mostly, so that programs meet; now and then any slot at all.
    fn some(&self, numbers: &mut Numbers, kind: Kind) -> u32 {
        if numbers.percent(4) {
            return self.any(numbers);
        }
        let meets = matches!(kind, Kind::Endpoint | Kind::Notification) && numbers.percent(60);
        let first = self.used.iter().find(|(at, slot)| slot.kind() == kind && *at >= self.first);
        if let (true, Some((at, _))) = (meets, first) {
            return *at;
        }
        self.find(numbers, kind).unwrap_or(0)
    }

    /// A capability that is a copy, if there is one.
    fn copied(&self, numbers: &mut Numbers) -> u32 {
        let copies: Vec<u32> = self.used.iter().filter(|(_, slot)| slot.depth > 1).map(|&(at, _)| at).collect();
        if copies.is_empty() { self.expendable(numbers) } else { numbers.pick(&copies) }
    }

    /// Any slot: used, unused, absurd.
    fn any(&self, numbers: &mut Numbers) -> u32 {
        match numbers.below(10) {
            0 => numbers.pick(&[0, 63, 64, 4095, 4096, u32::MAX]),
            1..=3 => self.room(numbers, 1),
            _ if self.used.is_empty() => 0,
            _ => numbers.pick(&self.used).0,
        }
    }

    /// Where `count` slots in a row are empty, mostly.
    fn room(&self, numbers: &mut Numbers, count: u64) -> u32 {
        let start = |numbers: &mut Numbers, table: &Self| {
            table.first + u32::try_from(numbers.below(table.slots)).expect("small")
        };
        for _ in 0..8 {
            let at = start(numbers, self);
            let last = at + u32::try_from(count).unwrap_or(64);
            if !self.used.iter().any(|(slot, _)| (at..last).contains(slot)) {
                return at;
            }
        }
        start(numbers, self)
    }

    /// A slot whose loss leaves the system going, mostly.
    fn expendable(&self, numbers: &mut Numbers) -> u32 {
        let candidates: Vec<u32> = self.used.iter().map(|&(at, _)| at).filter(|&at| at >= self.first).collect();
        if candidates.is_empty() || numbers.below(1000) == 0 { self.any(numbers) } else { numbers.pick(&candidates) }
    }
}

/// The capability in a slot of a thread's table.
pub fn slot_of(world: &World, thread: Ref<Thread>, index: u32) -> Option<Slot> {
    let table = world.threads.get(&thread.address())?.slots[0];
    if u64::from(index) >= table.extent {
        return None;
    }
    world.slots.get(&(table.object + u64::from(index) * 64)).copied()
}

/// A page that programs like to use.
pub fn address(numbers: &mut Numbers, sim: &Sim) -> u64 {
    let end = 1 << (11 + 9 * u64::from(sim.board.config.levels));
    match numbers.below(20) {
        0 => numbers.pick(&[0, end - PAGE_SIZE, end, 1 << 63, !(PAGE_SIZE - 1), 0x5f_f000]),
        1 => numbers.pick(&[0x40_0000, 0x40_1000, 0x3e_0000_0000, 0x3e_ffff_f000]),
        2..=3 => 0x20_0000_0000 + (numbers.below(6) << 21),
        _ => 0x20_0000_0000 + numbers.below(12) * PAGE_SIZE,
    }
}

/// An address, and the slot of an AddressSpace that has a table of this level for it, mostly.
fn covered(numbers: &mut Numbers, sim: &Sim, world: &World, table: &Table<'_>, level: u64) -> (u64, u32) {
    let fits = |slot: &&Slot| slot.kind() == Kind::PageTable && slot.space != 0 && slot.extent == level;
    let tables: Vec<&Slot> = world.slots.values().filter(fits).collect();
    if tables.is_empty() || numbers.percent(30) {
        return (address(numbers, sim), table.some(numbers, Kind::AddressSpace));
    }
    let around = numbers.pick(&tables);
    let below = 12 + 9 * (level - 1);
    let at = (around.badge >> (below + 9) << (below + 9)) + (numbers.below(8) << below);
    let same = |(_, slot): &&(u32, &Slot)| slot.kind() == Kind::AddressSpace && slot.object == around.root;
    (at, table.used.iter().find(same).map_or(0, |&(slot, _)| slot))
}

fn deadline(numbers: &mut Numbers, sim: &Sim) -> u64 {
    let now = sim.board.clock;
    match numbers.below(10) {
        0 => POLL,
        1 => now.saturating_sub(numbers.below(1000)),
        2..=5 => now + numbers.below(2_000_000),
        6 => now + numbers.below(1 << 40),
        7 => numbers.pick(&[FOREVER - 1, FOREVER >> 1, (FOREVER >> 1) - 1, 1, now]),
        _ => FOREVER,
    }
}

/// What a thread asks for next.
///
/// The keeper, which is more urgent than all others, mostly gets them going again, and sleeps a little in between.
pub fn request(numbers: &mut Numbers, sim: &Sim, world: &World, thread: Ref<Thread>, keeper: bool) -> Request {
    let table = Table::of(world, &world.threads[&thread.address()].slots[0]);
    let nothing = Request { call: SystemCall::Yield, target: 0, message: Message::new(0), method: None };
    if numbers.percent(3) {
        return nothing;
    }
    if keeper {
        match numbers.below(10) {
            0..=2 => {
                let until = sim.board.clock + numbers.below(200_000);
                let target = table.some(numbers, Kind::Notification);
                let message = Message::new(0).deadline(until);
                return Request { call: SystemCall::Recv, target, message, method: None };
            }
            3 if numbers.percent(30) => {
                // A process ends: all that was made of its memory goes.
                let memory = table.some(numbers, Kind::Untyped);
                let message = Message::new(Method::CapTableRevoke.label()).words(&[memory.max(ARENA).into()]);
                let method = Some(Method::CapTableRevoke);
                return Request { call: SystemCall::Call, target: slot::CAP_TABLE, message, method };
            }
            _ => {}
        }
    }
    let kind = numbers.weighted(&[
        (30, Kind::Endpoint),
        (8, Kind::Notification),
        (5, Kind::Reply),
        (16, Kind::Untyped),
        (9, Kind::Frame),
        (8, Kind::PageTable),
        (1, Kind::AddressSpace),
        (30, Kind::CapTable),
        (17, Kind::Thread),
        (3, Kind::Interrupt),
        (1, Kind::IoPort),
        (2, Kind::InterruptControl),
        (1, Kind::IoPortControl),
        (4, Kind::SchedControl),
        (2, Kind::SchedContext),
        (1, Kind::Debug),
    ]);
    let target = table.some(numbers, kind);
    let held = slot_of(world, thread, target);
    match held.map_or(Kind::Empty, |slot| slot.kind()) {
        Kind::Endpoint | Kind::Notification | Kind::Reply => {
            let mut request = exchange(numbers, sim, &table, target, kind);
            if keeper {
                request.message.deadline = sim.board.clock + numbers.below(100_000);
            }
            request
        }
        Kind::Empty => Request { target, call: SystemCall::Call, ..nothing },
        kind => method(numbers, sim, world, &table, target, kind, held.unwrap_or_default()),
    }
}

/// What it takes to get a thread going, whatever it does: a plan for the keeper.
pub fn revival(numbers: &mut Numbers, world: &World, keeper: Ref<Thread>) -> Vec<Request> {
    let Some(thread) = world.threads.get(&keeper.address()) else { return Vec::new() };
    let table = Table::of(world, &thread.slots[0]);
    let target = table.some(numbers, Kind::Thread);
    let space = if numbers.percent(50) { slot::ADDRESS_SPACE } else { table.some(numbers, Kind::AddressSpace) };
    let context = table.some(numbers, Kind::SchedContext);
    let all = [
        (Method::ThreadSuspend, 0),
        (Method::ThreadSetTable, slot::CAP_TABLE),
        (Method::ThreadSetSpace, space),
        (Method::ThreadSetContext, context),
        (Method::ThreadStart, 0),
    ];
    let request = |(method, pass): (Method, u32)| {
        let words = if method == Method::ThreadStart { [0x40_0000, 0x3f_0000_0000] } else { [0; 2] };
        let message = Message::new(method.label()).words(&words).pass(pass);
        Request { call: SystemCall::Call, target, message, method: Some(method) }
    };
    all.into_iter().filter(|_| numbers.percent(90)).map(request).collect()
}

/// A message to another thread, or the wait for one.
fn exchange(numbers: &mut Numbers, sim: &Sim, table: &Table<'_>, target: u32, kind: Kind) -> Request {
    let receives =
        [(30, SystemCall::Recv), (20, SystemCall::ReplyRecv), (30, SystemCall::Call), (15, SystemCall::Send)];
    let call = if kind == Kind::Reply { SystemCall::Send } else { numbers.weighted(&receives) };
    let label = if numbers.percent(50) { 0 } else { numbers.below(5) };
    let mut message = Message::new(label).words(&[numbers.next(), numbers.next()]).deadline(deadline(numbers, sim));
    if numbers.percent(30) {
        message = message.pass(table.expendable(numbers));
    }
    if numbers.percent(40) {
        message = message.receive(table.room(numbers, 1));
    }
    if numbers.percent(85) {
        message = message.reply(table.some(numbers, Kind::Reply));
    }
    Request { call, target, message, method: None }
}

/// A method of a kernel object, with arguments.
fn method(
    numbers: &mut Numbers,
    sim: &Sim,
    world: &World,
    table: &Table<'_>,
    target: u32,
    kind: Kind,
    held: Slot,
) -> Request {
    let fitting: Vec<(u64, Method)> =
        Method::ALL.iter().filter(|method| method.kind() == kind).map(|&method| (weight(method), method)).collect();
    let method = if numbers.percent(1) { numbers.pick(Method::ALL) } else { numbers.weighted(&fitting) };
    let mut message = arguments(numbers, sim, world, table, method, &held);
    message.label = method.label();
    if numbers.percent(2) {
        // One word is nonsense.
        let at = anos_sim::memory::index(numbers.below(4));
        message.words[at] = numbers.pick(&[0, 1, 2, 64, 4096, u64::MAX, 1 << 63, 1 << 32, u64::MAX - 4095]);
    }
    let call = if numbers.percent(5) { SystemCall::Send } else { SystemCall::Call };
    Request { call, target, message, method: if method.kind() == kind { Some(method) } else { None } }
}

fn weight(method: Method) -> u64 {
    match method {
        Method::UntypedRetype => 30,
        Method::FrameMap => 20,
        Method::PageTableMap => 12,
        Method::FrameUnmap | Method::PageTableUnmap => 4,
        Method::CapTableCopy => 10,
        Method::CapTableDelete => 9,
        Method::CapTableMint | Method::CapTableMove => 5,
        Method::CapTableRevoke => 3,
        Method::ThreadStart => 10,
        Method::ThreadResume => 8,
        Method::ThreadSuspend | Method::ThreadSetContext | Method::ThreadSetPriority => 4,
        Method::SchedControlLimit => 8,
        Method::ThreadSetTable | Method::ThreadSetSpace => 4,
        _ => 2,
    }
}

fn arguments(
    numbers: &mut Numbers,
    sim: &Sim,
    world: &World,
    table: &Table<'_>,
    method: Method,
    held: &Slot,
) -> Message {
    let message = Message::new(0).deadline(numbers.next());
    let rights = numbers.weighted(&[(8, 15), (2, 1), (2, 3), (1, 2), (1, 7), (1, 9), (1, 0)]);
    match method {
        Method::UntypedRetype => retype(numbers, table, held),
        Method::FrameMap => {
            let rights = numbers.weighted(&[(4, 1), (6, 3), (3, 9), (1, 11)]);
            let (address, pass) = covered(numbers, sim, world, table, 1);
            message.words(&[address, rights, u64::from(numbers.percent(10))]).pass(pass)
        }
        Method::PageTableMap => {
            let levels = u64::from(sim.board.config.levels);
            let level = if numbers.percent(90) { 1 + numbers.below(levels - 1) } else { numbers.below(levels + 1) };
            let (address, pass) = covered(numbers, sim, world, table, level + 1);
            message.words(&[address, level]).pass(pass)
        }
        Method::CapTableCopy | Method::CapTableMint | Method::CapTableMove => {
            let into = Table::of(world, held);
            let pass = match numbers.below(10) {
                0 => table.any(numbers),
                1..=5 => table.copied(numbers),
                _ => table.expendable(numbers),
            };
            let to = into.room(numbers, 1).into();
            let third = numbers.below(9);
            let words = if method == Method::CapTableMove { [to, third, third] } else { [to, rights, third] };
            let badged = numbers.pick(&[Kind::Endpoint, Kind::Notification]);
            let pass = if method == Method::CapTableMint { table.some(numbers, badged) } else { pass };
            message.words(&words).pass(pass)
        }
        Method::CapTableDelete | Method::CapTableRevoke | Method::CapTableLook | Method::CapTableCancel => {
            message.words(&[Table::of(world, held).expendable(numbers).into()])
        }
        Method::ThreadSetTable => message.pass(table.some(numbers, Kind::CapTable)),
        Method::ThreadSetSpace => message.pass(table.some(numbers, Kind::AddressSpace)),
        Method::ThreadSetFaultEndpoint if numbers.percent(80) => message.pass(table.some(numbers, Kind::Endpoint)),
        Method::ThreadBind if numbers.percent(80) => message.pass(table.some(numbers, Kind::Notification)),
        Method::ThreadSetPriority => message.words(&[100 + numbers.below(4), numbers.pick(&[100, 103, 255])]),
        Method::ThreadSetContext if numbers.percent(80) => message.pass(table.some(numbers, Kind::SchedContext)),
        Method::ThreadWriteRegisters => message.words(&[numbers.below(45), numbers.below(8), numbers.next()]),
        Method::ThreadSetFlags => message.words(&[numbers.pick(&[0, 0, 0, 0, 0, 0, 0, 1, 2, 4])]),
        Method::SchedControlLimit => {
            let budget = numbers.pick(&[0, 10_000, 20_000, 50_000]);
            let period = if budget == 0 { 0 } else { numbers.pick(&[10_000, 50_000, 200_000]) };
            message.words(&[budget, period, numbers.below(2)]).pass(table.some(numbers, Kind::SchedContext))
        }
        Method::DebugName => message.words(&[numbers.next()]).pass(table.some(numbers, Kind::Thread)),
        Method::DebugThread if numbers.percent(70) => {
            let threads: Vec<u64> = world.threads.keys().copied().collect();
            message.words(&[numbers.pick(&threads)])
        }
        Method::DebugPage | Method::DebugThread => {
            message.words(&[anos_sim::memory::RAM_BASE + numbers.below(sim.board.ram.pages()) * 4096])
        }
        Method::DebugCounters => message.words(&[numbers.below(5)]),
        Method::ThreadStart => message.words(&[0x40_0000, 0x3f_0000_0000, 0, numbers.next(), numbers.next()]),
        Method::InterruptBind => message.pass(table.some(numbers, Kind::Notification)),
        Method::InterruptControlGet => {
            let words = [numbers.below(18), numbers.below(2), numbers.below(2)];
            message.words(&words).receive(table.room(numbers, 1))
        }
        Method::IoPortControlGet => {
            let first = numbers.below(1 << 16);
            message.words(&[first, first + numbers.below(8)]).receive(table.room(numbers, 1))
        }
        Method::IoPortIn | Method::IoPortOut => {
            message.words(&[held.object + numbers.below(3), numbers.pick(&[1, 1, 2, 4, 3]), numbers.below(1 << 33)])
        }
        Method::DebugWrite => message.words(&[numbers.below(60), numbers.next()]),
        Method::DebugReset => message.words(&[numbers.below(3)]),
        _ => message,
    }
}

fn retype(numbers: &mut Numbers, table: &Table<'_>, held: &Slot) -> Message {
    let kind = numbers.weighted(&[
        (3, Kind::Untyped),
        (6, Kind::Frame),
        (6, Kind::PageTable),
        (3, Kind::AddressSpace),
        (2, Kind::CapTable),
        (5, Kind::Thread),
        (3, Kind::Endpoint),
        (3, Kind::Reply),
        (3, Kind::Notification),
        (3, Kind::SchedContext),
        (1, Kind::Debug),
    ]);
    let size = match kind {
        Kind::Untyped => numbers.below(held.extent.clamp(1, 16)) + 1,
        Kind::Frame => numbers.weighted(&[(20, 1), (10, 2), (5, 5), (1, 512), (1, 0)]),
        Kind::CapTable => numbers.weighted(&[(9, 64), (3, 128), (1, 65), (1, 1 << 16)]),
        _ => u64::from(numbers.percent(2)),
    };
    let count = numbers.weighted(&[(12, 1), (4, 2), (2, 3), (1, 0), (1, 64)]);
    let position = if held.device == 1 { numbers.below(held.extent + 1) } else { 0 };
    let pass = if kind == Kind::SchedContext { table.some(numbers, Kind::SchedControl) } else { 0 };
    Message::new(0).words(&[kind as u64, size, count, position]).pass(pass).receive(table.room(numbers, count))
}

/// How often each method was called (or anything else tried), and how often it succeeded.
pub type Tally = BTreeMap<String, (u64, u64)>;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A seed that is another one each time. Few digits: somebody may have to type it.
fn seed_from_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() % 1_000_000_000 + u64::from(since.subsec_nanos()))
}

/// Plays episodes of so many steps: the one that `ANOS_SEED` names; else `ANOS_STEPS` steps in all (so many if it says
/// nothing), the same each time, and one more episode with a seed from the clock. Answers what was done, and how many
/// steps there were; nothing for a single episode, which can't have seen everything.
pub fn play(cores: u64, length: u64, steps: u64, mut episode: impl FnMut(u64, &mut Tally)) -> Option<(Tally, u64)> {
    let mut tally = Tally::new();
    if let Some(seed) = number("ANOS_SEED") {
        episode(seed, &mut tally);
        return None;
    }
    let steps = number("ANOS_STEPS").unwrap_or(steps);
    let fresh = seed_from_the_clock();
    println!("{cores} cores; the seed from the clock is ANOS_SEED={fresh}");
    for seed in (1..=steps.div_ceil(length)).chain([fresh]) {
        episode(seed, &mut tally);
    }
    for (name, (calls, successes)) in &tally {
        println!("{name:24} {successes:>8} of {calls:>8}");
    }
    Some((tally, steps))
}

/// A machine that has booted, with some objects and threads; and the numbers that go on deciding.
pub fn start(cores: u64, seed: u64) -> (Numbers, Sim) {
    let mut numbers = Numbers(seed.wrapping_mul(64).wrapping_add(cores));
    let config = Config {
        pages: 512,
        levels: numbers.pick(&[3, 4]),
        caches_invalid: numbers.percent(50),
        tags: numbers.pick(&[0, 8, 100]),
        ..Config::cores(cores)
    };
    let mut sim = Sim::boot_with(config, &Payload::default().bytes(), 1).expect("boots");
    sim.next_slot = ARENA;
    populate(&mut sim, &mut numbers);
    sim.settle();
    (numbers, sim)
}

/// A few objects of every kind, and threads on every core.
fn populate(sim: &mut Sim, numbers: &mut Numbers) {
    for _ in 0..5 {
        sim.make(Kind::Untyped, numbers.below(10) + 6);
    }
    let endpoint = sim.make(Kind::Endpoint, 0);
    sim.mint(endpoint, 5);
    sim.make(Kind::Endpoint, 0);
    let notification = sim.make(Kind::Notification, 0);
    sim.mint(notification, 3);
    sim.make_from(slot::UNTYPED, Kind::Reply, 0, 3);
    sim.copy(slot::CAP_TABLE, 15);
    sim.copy(slot::ADDRESS_SPACE, 15);
    let other = sim.make(Kind::AddressSpace, 0);
    sim.make_from(slot::UNTYPED, Kind::Frame, 1, 3);
    sim.make_from(slot::UNTYPED, Kind::PageTable, 0, 4);
    // Tables for the pages that programs like to use: in the root server's space, and in the other.
    for (space, level) in
        [(slot::ADDRESS_SPACE, 3), (slot::ADDRESS_SPACE, 2), (slot::ADDRESS_SPACE, 1), (other, 3), (other, 2)]
    {
        let table = sim.make(Kind::PageTable, 0);
        // (With three levels there is no third to put in; with four, the root server has it.)
        let _ = sim.call(CoreId::BOOT, table, Method::PageTableMap, &[0x20_0000_0000, level], space, 0);
    }
    let table = sim.make(Kind::CapTable, 64);
    for number in 1..12 {
        let from = numbers.pick(&[endpoint, notification, slot::CAP_TABLE, table, slot::ADDRESS_SPACE, slot::DEBUG]);
        sim.ok(table, Method::CapTableCopy, &[number, 15], from);
    }
    let cores = sim.board.config.cores;
    for number in 0..cores * 2 + 1 {
        let priority = u8::try_from(numbers.below(3) + 100).expect("small");
        let program = sim.new_thread(number % cores, priority);
        if numbers.percent(25) {
            sim.ok(program.slot, Method::ThreadSetTable, &[], table);
        }
        if numbers.percent(50) {
            sim.ok(program.slot, Method::ThreadSetFaultEndpoint, &[], endpoint);
        }
        if numbers.percent(30) {
            sim.ok(program.slot, Method::ThreadSetSpace, &[], other);
        }
        sim.ok(program.slot, Method::ThreadStart, &[0x40_0000, 0x3f_0000_0000], 0);
        if numbers.percent(20) {
            sim.limit(number % cores, program.context, 20_000, 100_000, numbers.percent(50));
        } else if numbers.percent(15) {
            sim.ok(program.slot, Method::ThreadSetContext, &[], 0);
        }
    }
}
