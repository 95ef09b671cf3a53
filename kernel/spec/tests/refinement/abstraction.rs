//! The kernel's memory, read as a state of the specification.
//!
//! Records become maps, linked lists become queues, and depths become a tree. Nothing here changes anything, and nothing
//! is taken from the specification's own state: what was read is all that there is.

use std::collections::{BTreeMap, VecDeque};

use anos_abi::{Kind, PAGE_SIZE};
use anos_core::{CoreState, Global};
use anos_machine::records::THREAD_SLOTS;
use anos_machine::{
    AddressSpace, CoreId, CoreSet, Endpoint, Entry, Held, Notification, Queue, Ref, Reply, SchedContext, Slot, SlotRef,
    Store, Thread,
};
use anos_sim::board::MESSAGE_ADDRESS;
use anos_sim::memory::{RAM_BASE, index};
use anos_sim::{Sim, core_id, mmu};
use anos_spec::state::{Counters, Then};
use anos_spec::{
    Address, CapId, Capability, Context, Core, Event, Fault, Line, Mapped, Page, Part, Place, Registers, Sending,
    Space, Spec, State,
};

/// Bytes of a slot and of a small object.
const SMALL: u64 = 64;

/// The state of the machine, as the specification sees it.
pub fn abstraction(sim: &Sim) -> Spec {
    let mut held = sim.kernel.hold(CoreId::BOOT, CoreSet::ALL, || unreachable!("one thread plays all cores"));
    let mut spec = Spec::default();
    spec.now = sim.board.clock;
    let global = held.global().expect("all locks are held");
    spec.last_space = global.last_space;
    let interrupt_table = global.interrupt_table;
    lines(sim, global, &mut spec);
    machine(sim, global, &mut spec);
    let slots = slots(sim, held.store);
    families(&mut spec, &slots, interrupt_table, held.store);
    objects(sim, &mut spec, held.store);
    cores(sim, &mut held, &mut spec);
    spec
}

fn machine(sim: &Sim, global: &Global, spec: &mut Spec) {
    let config = &sim.board.config;
    let machine = &mut spec.machine;
    machine.levels = config.levels;
    machine.last_line = config.lines.into();
    machine.io_ports = config.io_ports;
    machine.first_message = u64::from(config.lines) * 3 / 4 + 1;
    machine.message_address = MESSAGE_ADDRESS;
    machine.root_thread = global.root_thread.address();
    machine.system_call_bytes = 4;
    machine.ports.clone_from(&sim.board.ports);
    machine.console.clone_from(&sim.board.console);
}

fn lines(sim: &Sim, global: &Global, spec: &mut Spec) {
    for (number, line) in (0..).zip(&sim.board.lines) {
        let is = |bits: &[u64]| bits[index(number / 64)] >> (number % 64) & 1 == 1;
        let (taken, level) = (is(&global.interrupts_taken), is(&global.interrupts_level));
        spec.lines.insert(number, Line { taken, level, unmasked: line.unmasked, signals: None });
    }
}

/// All slots that aren't empty, by where they lie.
fn slots(sim: &Sim, store: &mut Store) -> BTreeMap<u64, Slot> {
    let mut slots = BTreeMap::new();
    for page in (0..sim.board.ram.pages()).map(|page| RAM_BASE + page * PAGE_SIZE) {
        let kind = store.record(page).expect("a page of memory").kind();
        let places = if kind == Kind::CapTable as u8 {
            page..page + PAGE_SIZE
        } else if kind == Kind::Thread as u8 {
            let first = page + std::mem::offset_of!(Thread, slots) as u64;
            first..first + THREAD_SLOTS as u64 * SMALL
        } else {
            continue;
        };
        // (A look at the first word, the kind's, spares most of the work.)
        for at in places.step_by(index(SMALL)).filter(|&at| sim.board.ram.read(at) != 0) {
            let slot = store.see::<Slot>(Ref::at(at)).expect("a slot");
            if !slot.is_empty() {
                slots.insert(at, *slot);
            }
        }
    }
    slots
}

/// Where a slot is, in the specification's terms.
struct Places {
    interrupt_table: u64,
    /// Where tables begin and end.
    tables: BTreeMap<u64, u64>,
}

impl Places {
    fn of(&self, at: u64, store: &Store) -> Place {
        let page = at & !(PAGE_SIZE - 1);
        if store.record(page).expect("a page of memory").kind() == Kind::Thread as u8 {
            let first = std::mem::offset_of!(Thread, slots) as u64;
            return Place::Thread(page, Part::ALL[index((at - page - first) / SMALL)]);
        }
        match self.tables.range(..=at).next_back() {
            Some((start, end)) if at < *end => Place::Table(*start, (at - start) / SMALL),
            // (Where no table is, it has no business to be.)
            _ => Place::Line(at.wrapping_sub(self.interrupt_table) / SMALL),
        }
    }
}

/// Walks each family's list from its head: the parent is the nearest in front that is less deep.
fn families(spec: &mut Spec, slots: &BTreeMap<u64, Slot>, interrupt_table: u64, store: &Store) {
    let of_tables = slots.values().filter(|slot| slot.kind() == Kind::CapTable);
    let tables = of_tables.map(|slot| (slot.object, slot.object + slot.extent * SMALL)).collect();
    let places = Places { interrupt_table, tables };
    for (&head, _) in slots.iter().filter(|(_, slot)| slot.previous.is_none()) {
        let origin = CapId(head | 1);
        let mut above = Capability::new(Kind::Empty, 0, 0);
        above.place = Place::Origin(head);
        spec.capabilities.insert(origin, above);
        let mut path: Vec<(CapId, u32)> = Vec::new();
        let mut next = SlotRef::at(head).some();
        while let Some(at) = next {
            let slot = slots.get(&at.address()).expect("a list goes on with a capability");
            let id = CapId(at.address());
            while path.last().is_some_and(|&(_, depth)| depth >= slot.depth) {
                path.pop();
            }
            let parent = path.last().map_or(origin, |&(parent, _)| parent);
            let place = places.of(at.address(), store);
            let capability = Capability { place, parent: Some(parent), ..capability(slot, store) };
            assert!(spec.capabilities.insert(id, capability).is_none(), "a list runs in a circle");
            // The newest stands in front.
            spec.capabilities.get_mut(&parent).expect("it was in front").children.push_back(id);
            path.push((id, slot.depth));
            next = slot.next.some();
        }
    }
    for (&id, capability) in &spec.capabilities {
        match capability.place {
            Place::Table(table, number) => {
                spec.tables.entry(table).or_default().slots.insert(number, id);
            }
            Place::Line(line) => spec.lines.entry(line).or_default().signals = Some(id),
            Place::Thread(..) | Place::Origin(_) => {}
        }
    }
}

/// What a slot holds, apart from its place in the family.
fn capability(slot: &Slot, store: &Store) -> Capability {
    let kind = slot.kind();
    let has_size = matches!(kind, Kind::Untyped | Kind::Frame | Kind::CapTable | Kind::IoPort);
    let can_be_mapped = matches!(kind, Kind::Frame | Kind::PageTable);
    let mut capability = Capability::new(kind, slot.object, if has_size { slot.extent } else { 0 });
    capability.rights = slot.rights();
    capability.device = slot.device != 0;
    if can_be_mapped && slot.space != 0 {
        let level = if kind == Kind::PageTable { slot.extent.to_le_bytes()[0] } else { 0 };
        capability.mapped = Some(Mapped { space: slot.space, root: slot.root, address: slot.badge, level });
    }
    match kind {
        Kind::Endpoint | Kind::Notification => capability.badge = slot.badge,
        Kind::CapTable => capability.emptied = slot.badge,
        Kind::Untyped => {
            capability.used = slot.badge;
            if !slot.badge.is_multiple_of(PAGE_SIZE) {
                let page = store.record(slot.object + slot.badge).expect("a page of memory");
                let kind = Kind::try_from(u64::from(page.kind())).expect("a kind");
                // (A context's page is at home on its core alone.)
                let core = if kind == Kind::SchedContext { page.homes().0.trailing_zeros().into() } else { 0 };
                capability.open = (kind, core);
            }
        }
        _ => {}
    }
    capability
}

/// Everything that there is a capability to.
fn objects(sim: &Sim, spec: &mut Spec, store: &mut Store) {
    let all: Vec<(Kind, Address)> =
        spec.capabilities.values().map(|capability| (capability.kind, capability.object)).collect();
    for (kind, at) in all {
        match kind {
            Kind::CapTable => drop(spec.tables.entry(at).or_default()),
            Kind::AddressSpace => drop(spec.spaces.entry(at).or_insert_with(|| space(sim, at, store))),
            Kind::Thread => drop(spec.threads.entry(at).or_insert_with(|| thread(sim, at, store))),
            Kind::Endpoint => {
                let Endpoint { queue, waiting, cursor, cursor_badge } = *store.see(Ref::at(at)).expect("an endpoint");
                let all = members(&queue, store);
                let endpoint = spec.endpoints.entry(at).or_default();
                (endpoint.cancelled, endpoint.cursor) = (cursor_badge, cursor.some().map(Ref::address));
                *(if waiting == 1 { &mut endpoint.senders } else { &mut endpoint.receivers }) = all;
            }
            Kind::Notification => {
                let Notification { bits, queue, bound } = *store.see(Ref::at(at)).expect("a notification");
                let bound = bound.some().map(Ref::address);
                let notification = anos_spec::Notification { bits, waiters: members(&queue, store), bound };
                spec.notifications.insert(at, notification);
            }
            Kind::SchedContext => drop(spec.contexts.insert(at, context(at, store))),
            Kind::Reply => {
                let caller = store.see::<Reply>(Ref::at(at)).expect("a reply").caller;
                spec.replies.insert(at, caller.some().map(Ref::address));
            }
            _ => {}
        }
    }
    for (&id, capability) in &spec.capabilities {
        if let Place::Thread(thread, part) = capability.place
            && let Some(thread) = spec.threads.get_mut(&thread)
        {
            thread.parts[part as usize] = Some(id);
        }
    }
}

/// The threads of a queue, in order.
fn members(queue: &Queue, store: &mut Store) -> VecDeque<Address> {
    let mut all = VecDeque::new();
    let mut next = queue.head;
    while let Some(at) = next.some() {
        assert!(all.len() < 10_000, "a queue runs in a circle");
        all.push_back(at.address());
        next = store.see(at).expect("a thread").links.next;
    }
    all
}

/// Walks an address space's tables.
fn space(sim: &Sim, root: Address, store: &mut Store) -> Space {
    let id = store.record(root).expect("a page of memory").space();
    let mut space = Space { id, ..Space::default() };
    let mut tables = vec![(root, sim.board.config.levels, 0)];
    while let Some((table, level, base)) = tables.pop() {
        let size = PAGE_SIZE << (9 * (level - 1));
        let entries = *store.see::<AddressSpace>(Ref::at(table)).expect("a table");
        let users = if table == root { 256 } else { 512 };
        for (number, &entry) in (0..users).zip(&entries).filter(|(_, entry)| **entry != 0) {
            let address = base + number * size;
            match mmu::entry(entry, level) {
                Entry::Empty => panic!("a stray entry {entry:#x} at {address:#x} of {root:#x}"),
                Entry::Table(next) => {
                    space.tables.insert((level - 1, address), next);
                    tables.push((next, level - 1, address));
                }
                Entry::Leaf(physical) => {
                    let (rights, uncached) = (mmu::rights(entry), mmu::is_uncached(entry));
                    space.pages.insert(address, Page { physical, rights, uncached, large: level == 2 });
                }
            }
        }
    }
    space
}

/// Registers as the specification has them.
pub fn registers(found: &anos_machine::Registers) -> Registers {
    Registers {
        operation: found.operation,
        label: found.label,
        slots: found.slots,
        reply: found.reply,
        deadline: found.deadline,
        words: found.words,
        pc: found.pc,
        sp: found.sp,
        tp: found.tp,
        others: found.other,
    }
}

fn context(at: Address, store: &Store) -> Context {
    let found = store.see::<SchedContext>(Ref::at(at)).expect("a scheduling context");
    let refills = found.refills.iter().filter(|refill| refill.amount != 0);
    Context {
        core: found.core.into(),
        budget: found.budget,
        period: found.period,
        left: found.left,
        refills: refills.map(|refill| (refill.time, refill.amount)).collect(),
        faults: found.faults != 0,
        used: found.used,
        owner: found.owner.some().map(Ref::address),
        user: found.user.some().map(Ref::address),
        lent: found.lent,
    }
}

fn thread(sim: &Sim, at: Address, store: &mut Store) -> anos_spec::Thread {
    let here = Ref::<Thread>::at(at);
    let kind_waited_on = {
        let on = store.see(here).expect("a thread").waits_on;
        if on == 0 { 0 } else { store.record(on).expect("a page of memory").kind() }
    };
    let record = store.see(here).expect("a thread");
    let then = match record.sending {
        0 => Then::GoesOn,
        1 => Then::Calls,
        _ => Then::Faults,
    };
    let on = record.waits_on;
    let state = match record.state {
        1 => State::Ready,
        2 => State::Sending(on, Sending { badge: record.badge, then }),
        3 => State::Calling(on),
        4 if kind_waited_on == Kind::Notification as u8 => State::Waiting(on),
        4 => State::Receiving(on),
        5 => State::Faulted(on),
        _ => State::Stopped,
    };
    // Of a thread that runs, the processor has the registers.
    let running = sim.board.processors.iter().find(|processor| processor.thread == here && processor.trapped.is_none());
    anos_spec::Thread {
        registers: registers(running.map_or(&record.registers, |processor| &processor.registers)),
        parts: [None; 5],
        state,
        fault: record.fault,
        foreign: record.foreign != 0,
        no_fpu: record.no_fpu != 0,
        name: record.name,
        context: record.context.some().map(Ref::address),
        lender: record.lender.some().map(Ref::address),
        borrower: record.borrower.some().map(Ref::address),
        deadline: (record.bucket != 0).then_some(record.deadline),
        priority: record.priority,
        own_priority: record.own_priority,
        ceiling: record.ceiling,
        core: record.core.into(),
        cpu_time: record.cpu_time,
        turn_left: record.turn_left,
    }
}

/// An event as the specification has it.
pub fn event(event: anos_machine::Event) -> Event {
    match event {
        anos_machine::Event::SystemCall => Event::SystemCall,
        anos_machine::Event::Fault(fault) => {
            Event::Fault(Fault { kind: fault.kind, address: fault.address, cause: fault.cause })
        }
        anos_machine::Event::Interrupt(line) => Event::Interrupt(line.into()),
        anos_machine::Event::Timer => Event::Timer,
        anos_machine::Event::Kick | anos_machine::Event::Start => Event::Kick,
    }
}

fn cores(sim: &Sim, held: &mut Held<'_, CoreState, Global>, spec: &mut Spec) {
    for number in 0..sim.board.config.cores {
        let state = held.core(core_id(number)).expect("all locks are held");
        let queues: Vec<(u8, Queue)> =
            (0..=u8::MAX).zip(state.ready).filter(|(_, queue)| !queue.head.is_none()).collect();
        let counters = state.counters.whole();
        let mut core = Core {
            current: state.current.some().map(Ref::address),
            loaded: (state.loaded != 0).then_some(state.loaded),
            turn_end: state.turn_end,
            idle_time: state.idle_time,
            since: state.since,
            switches: counters.switches,
            counters: Counters { calls: counters.calls, interrupts: counters.interrupts, faults: counters.faults },
            trapped: sim.board.processors[index(number)].trapped.map(event),
            ..Core::default()
        };
        core.ready = queues.iter().map(|(priority, queue)| (*priority, members(queue, held.store))).collect();
        spec.cores.push(core);
    }
}
