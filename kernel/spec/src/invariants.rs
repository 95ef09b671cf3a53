//! What is true of every state that the rules lead to.
//!
//! Said of the specification, and so, as long as the two agree, of the kernel.

use std::collections::{BTreeMap, BTreeSet};

use anos_abi::{Kind, PAGE_SIZE, Rights};

use crate::state::{Address, Capability, Place, Spec, State};

/// A sentence that isn't true, in words.
pub type Broken = String;

/// Breaks an invariant unless it holds.
macro_rules! holds {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

impl Capability {
    /// The physical memory that its object takes up.
    fn memory(&self) -> Option<(Address, Address)> {
        let bytes = match self.kind {
            Kind::Untyped | Kind::Frame => self.size * PAGE_SIZE,
            Kind::PageTable | Kind::AddressSpace | Kind::Thread => PAGE_SIZE,
            Kind::CapTable => self.size * 64,
            Kind::Endpoint | Kind::Notification | Kind::Reply => 64,
            Kind::SchedContext => 128,
            _ => return None,
        };
        Some((self.object, self.object + bytes))
    }

    /// Whether this capability gives the authority that a child has: to the same object, no more rights and no other
    /// badge; or to something that was made with it.
    fn may_have(&self, child: &Capability) -> bool {
        if (self.kind, self.object) == (child.kind, child.object) && self.kind != Kind::Untyped {
            let badge = self.badge == 0 || self.badge == child.badge;
            return badge && self.rights.contains(child.rights) && self.size == child.size;
        }
        match self.kind {
            Kind::Untyped => {
                let (Some((start, _)), Some((first, end))) = (self.memory(), child.memory()) else { return false };
                start <= first && end <= start + self.used && self.device == child.device
            }
            Kind::InterruptControl => child.kind == Kind::Interrupt,
            Kind::IoPortControl => child.kind == Kind::IoPort,
            _ => false,
        }
    }
}

/// Checks all of them.
pub fn check(spec: &Spec) -> Result<(), Broken> {
    authority(spec)?;
    places(spec)?;
    objects(spec)?;
    memory(spec)?;
    mappings(spec)?;
    waits(spec)?;
    cores(spec)?;
    time(spec)
}

/// No capability without its parent's authority.
fn authority(spec: &Spec) -> Result<(), Broken> {
    for (id, capability) in &spec.capabilities {
        for child in &capability.children {
            let below = spec.capabilities.get(child);
            holds!(below.is_some_and(|below| below.parent == Some(*id)), "{id:?} has a child {below:x?}");
        }
        let Some(parent) = capability.parent else { continue };
        let above = spec.capabilities.get(&parent);
        holds!(above.is_some_and(|above| above.children.contains(id)), "{capability:x?} stems from {above:x?}");
        let fine = above.is_some_and(|above| above.kind == Kind::Empty || above.may_have(capability));
        holds!(fine, "{capability:x?}\nhas more authority than\n{above:x?}");
    }
    Ok(())
}

/// Each capability is in one place, and nothing else is. (A thread holds the kind that each part is for.)
fn places(spec: &Spec) -> Result<(), Broken> {
    let mut held = 0;
    for (id, capability) in &spec.capabilities {
        let known = matches!(capability.place, Place::Origin(_)) || spec.at(capability.place) == Some(*id);
        holds!(known, "{capability:x?} is not where it thinks");
        held += usize::from(!matches!(capability.place, Place::Origin(_)));
    }
    let in_tables: usize = spec.tables.values().map(|table| table.slots.len()).sum();
    let in_threads: usize = spec.threads.values().map(|thread| thread.parts.iter().flatten().count()).sum();
    let with_lines = spec.lines.values().filter(|line| line.signals.is_some()).count();
    holds!(in_tables + in_threads + with_lines == held, "{in_tables}, {in_threads}, {with_lines}, {held} capabilities");
    let kinds = [Kind::CapTable, Kind::AddressSpace, Kind::Endpoint, Kind::Notification, Kind::SchedContext];
    for (at, thread) in &spec.threads {
        for (part, kind) in thread.parts.iter().zip(kinds) {
            let fine = part.is_none_or(|id| spec.capabilities[&id].kind == kind);
            holds!(fine, "thread {at:#x} holds {part:?} as its {kind:?}");
        }
    }
    Ok(())
}

/// An object exists exactly as long as there is a capability to it.
fn objects(spec: &Spec) -> Result<(), Broken> {
    let of = |kind: Kind| {
        let all = spec.capabilities.values().filter(|capability| capability.kind == kind);
        all.map(|capability| capability.object).collect::<BTreeSet<_>>()
    };
    let lines = spec.lines.iter().filter(|(_, line)| line.taken).map(|(&line, _)| line).collect();
    let all: [(Kind, BTreeSet<u64>); 8] = [
        (Kind::CapTable, spec.tables.keys().copied().collect()),
        (Kind::AddressSpace, spec.spaces.keys().copied().collect()),
        (Kind::Thread, spec.threads.keys().copied().collect()),
        (Kind::Endpoint, spec.endpoints.keys().copied().collect()),
        (Kind::Notification, spec.notifications.keys().copied().collect()),
        (Kind::SchedContext, spec.contexts.keys().copied().collect()),
        (Kind::Reply, spec.replies.keys().copied().collect()),
        (Kind::Interrupt, lines),
    ];
    for (kind, exist) in all {
        let known = of(kind);
        holds!(known == exist, "there are capabilities to {kind:?} at {known:x?}, and such at {exist:x?}");
    }
    Ok(())
}

/// No two objects share memory; but what was made of an Untyped lies in it, below its watermark.
fn memory(spec: &Spec) -> Result<(), Broken> {
    let mut taken: BTreeMap<Address, (Address, Kind)> = BTreeMap::new();
    for capability in spec.capabilities.values() {
        let Some((start, end)) = capability.memory() else { continue };
        if capability.kind == Kind::Untyped {
            let fine = capability.device || capability.used <= capability.size * PAGE_SIZE;
            holds!(fine, "{capability:x?} has used more than it has");
        } else {
            let known = taken.insert(start, (end, capability.kind));
            let same = known.is_none_or(|known| known == (end, capability.kind));
            holds!(same, "{start:#x} is {known:x?} and {capability:x?}");
        }
    }
    let ends = taken.iter().zip(taken.iter().skip(1));
    for ((start, (end, kind)), (next, (_, other))) in ends {
        holds!(end <= next, "{kind:?} at {start:#x} reaches to {end:#x}, into {other:?} at {next:#x}");
    }
    Ok(())
}

/// No page of memory is both mapped and a kernel object; nothing is writable and executable.
fn mappings(spec: &Spec) -> Result<(), Broken> {
    let mut objects: BTreeMap<Address, Address> = BTreeMap::new();
    for capability in spec.capabilities.values() {
        if let Some((start, end)) = capability.memory()
            && !matches!(capability.kind, Kind::Untyped | Kind::Frame)
        {
            objects.insert(start, end);
        }
    }
    for (root, space) in &spec.spaces {
        for (address, page) in &space.pages {
            let bytes = if page.large { PAGE_SIZE << 9 } else { PAGE_SIZE };
            let inside = objects.range(..page.physical + bytes).next_back();
            let apart = inside.is_none_or(|(_, &end)| end <= page.physical);
            holds!(apart, "{address:#x} of {root:#x} maps {page:x?}, where there is an object: {inside:x?}");
            let both = page.rights.contains(Rights::WRITE.union(Rights::EXECUTE));
            holds!(!both, "{address:#x} of {root:#x} is writable code: {page:x?}");
        }
    }
    Ok(())
}

/// Each waiting thread stands in the queue that its state says, once; and nobody else does.
fn waits(spec: &Spec) -> Result<(), Broken> {
    let mut standing: BTreeMap<Address, &str> = BTreeMap::new();
    let mut stands = |thread: Address, fits: bool, queue: &'static str| {
        let before = standing.insert(thread, queue);
        if before.is_none() && fits { Ok(()) } else { Err(format!("{thread:#x} stands among {queue}, {before:?}")) }
    };
    let state = |thread: &Address| spec.threads.get(thread).map(|thread| thread.state);
    for (&at, endpoint) in &spec.endpoints {
        for thread in &endpoint.senders {
            let fits = matches!(state(thread), Some(State::Sending(on, _)) if on == at);
            stands(*thread, fits, "senders")?;
        }
        for thread in &endpoint.receivers {
            stands(*thread, state(thread) == Some(State::Receiving(at)), "receivers")?;
        }
        let one_kind = endpoint.senders.is_empty() || endpoint.receivers.is_empty();
        holds!(one_kind, "endpoint {at:#x} has senders and receivers: {endpoint:x?}");
    }
    for (&at, notification) in &spec.notifications {
        for thread in &notification.waiters {
            stands(*thread, state(thread) == Some(State::Waiting(at)), "waiters")?;
        }
        let quiet = notification.bits == 0;
        holds!(quiet || notification.waiters.is_empty(), "notification {at:#x} keeps signals: {notification:x?}");
        if let Some(bound) = notification.bound {
            holds!(spec.bound_to(bound) == Some(at), "{bound:#x} does not know that it is bound to {at:#x}");
            let receives = matches!(state(&bound), Some(State::Receiving(_))) && !spec.is_passive(bound);
            holds!(quiet || !receives, "{bound:#x} receives, and signals wait at {at:#x}");
        }
    }
    for (&at, caller) in &spec.replies {
        if let Some(caller) = caller {
            let fits = matches!(state(caller), Some(State::Calling(on) | State::Faulted(on)) if on == at);
            stands(*caller, fits, "callers")?;
        }
    }
    for (at, thread) in &spec.threads {
        let waiting = !matches!(thread.state, State::Stopped | State::Ready);
        holds!(waiting == standing.contains_key(at), "{at:#x} is {:?} and stands in no queue", thread.state);
        let timed = waiting || thread.state == State::Ready;
        holds!(timed || thread.deadline.is_none(), "{at:#x} does not wait, and has a deadline");
    }
    Ok(())
}

/// Each ready thread runs, or stands in its core's queue for its priority, once. A core outside the kernel runs the
/// most urgent it has, unless somebody has just sent it word. Who waits for CPU time stands nowhere.
fn cores(spec: &Spec) -> Result<(), Broken> {
    let mut ready = BTreeSet::new();
    for (number, core) in spec.cores.iter().enumerate() {
        for (&priority, queue) in &core.ready {
            holds!(!queue.is_empty(), "core {number} has an empty queue of priority {priority}");
            for at in queue {
                let thread = spec.threads.get(at);
                let fits = thread.is_some_and(|thread| {
                    (thread.core, thread.priority, thread.state) == (number, priority, State::Ready)
                });
                holds!(fits && ready.insert(*at), "{at:#x} stands in core {number}'s queue {priority}: {thread:x?}");
            }
        }
        if let Some(current) = core.current {
            holds!(!ready.contains(&current), "{current:#x} runs, and stands in a queue");
            if spec.threads.get(&current).is_some_and(|thread| thread.state == State::Ready) {
                ready.insert(current);
            }
        }
    }
    for (at, thread) in &spec.threads {
        let could = thread.state == State::Ready;
        let has_none = thread.context.is_none() || thread.borrower.is_some() || thread.deadline.is_some();
        let stands = ready.contains(at);
        holds!(could == stands || could && has_none, "{at:#x} is {:?}, and stands nowhere", thread.state);
        holds!(!stands || thread.deadline.is_none(), "{at:#x} waits for CPU time, and stands in a queue");
        let space = spec.at(Place::Thread(*at, crate::Part::Space));
        holds!(!could || space.is_some(), "{at:#x} is ready without an address space");
    }
    Ok(())
}

/// Budgets are conserved: what is left and what comes back is the budget. A context goes from its owner through as many
/// hands as it says to its user; each knows the one before and the one behind, and all but the last wait for an answer.
fn time(spec: &Spec) -> Result<(), Broken> {
    for (at, context) in &spec.contexts {
        let back: u64 = context.refills.iter().map(|(_, amount)| amount).sum();
        let all = i128::from(context.left) + i128::from(back);
        let conserved = context.period == 0 || all == i128::from(context.budget);
        holds!(conserved, "context {at:#x} has {all} ns of its budget: {context:x?}");
        let in_order = context.refills.iter().is_sorted_by_key(|(time, _)| time);
        holds!(in_order, "context {at:#x} gets its time back out of order: {context:x?}");
        let (mut before, mut next, mut lent) = (None, context.owner, 0);
        while let Some(thread) = next {
            let record = spec.threads.get(&thread);
            let knows = record.is_some_and(|thread| (thread.context, thread.lender) == (Some(*at), before));
            holds!(knows, "{thread:#x} does not know that it has context {at:#x} from {before:x?}: {record:x?}");
            next = record.and_then(|thread| thread.borrower);
            lent += u8::from(next.is_some());
            let waits = record.is_some_and(|thread| matches!(thread.state, State::Calling(_) | State::Faulted(_)));
            holds!(next.is_none() || waits, "{thread:#x} has lent its time, and does not wait for an answer");
            before = Some(thread);
        }
        holds!((before, lent) == (context.user, context.lent), "context {at:#x}, lent to {before:x?}: {context:x?}");
    }
    for (at, thread) in &spec.threads {
        let known = thread.context.is_none_or(|context| spec.contexts.contains_key(&context));
        holds!(known, "thread {at:#x} runs on a context that there isn't: {thread:x?}");
        let own = spec.at(Place::Thread(*at, crate::Part::Context)).map(|id| spec.capabilities[&id].object);
        let fits = own.is_none() || own == thread.context && thread.lender.is_none();
        holds!(fits, "thread {at:#x} has context {own:x?}, and runs on another: {thread:x?}");
    }
    Ok(())
}
