//! Rules for capabilities: what may stem from what, and which memory belongs to whom.

use std::collections::BTreeMap;

use anos_abi::{Kind, PAGE_SIZE, Rights};
use anos_core::bounds::MAX_INTERRUPTS;
use anos_machine::{CoreId, CoreSet, Slot};

use super::{Broken, World, rule};
use crate::memory::index;
use crate::sim::{DEVICES, Sim};

/// Checks all of them.
pub fn check(sim: &Sim, world: &World) -> Result<(), Broken> {
    for (&at, slot) in &world.slots {
        shape(sim, at, slot)?;
        for page in pages(slot) {
            let (found, wanted) = (world.kind_of(page), slot.kind());
            rule!(found == Some(wanted), "page {page:#x} of {at:#x} {slot:x?} is one of {found:?}");
        }
        let Some(parent) = world.parents.get(&at) else { continue };
        let above = &world.slots[parent];
        let fine = may_stem(above, slot);
        rule!(fine, "{at:#x} {slot:x?}\nmust not stem from {parent:#x} {above:x?}");
    }
    held(sim, world)?;
    interrupts(sim, world)?;
    neighbours(world)?;
    apart(world)
}

/// Every capability lies in something that a capability leads to: a table or thread, or the kernel's own table. And a
/// table's slot 0, which nobody can name, holds nothing but the table's own.
fn held(sim: &Sim, world: &World) -> Result<(), Broken> {
    let containers: BTreeMap<u64, u64> = world
        .slots
        .values()
        .filter(|slot| matches!(slot.kind(), Kind::CapTable | Kind::Thread))
        .map(|slot| (slot.object, bytes(slot)))
        .collect();
    let own = interrupt_table(sim);
    for (&at, slot) in &world.slots {
        let (start, size) = containers.range(..=at).next_back().map_or((0, 0), |(start, size)| (*start, *size));
        let known = at < start + size || (own..own + (MAX_INTERRUPTS * 64) as u64).contains(&at);
        rule!(known, "{at:#x} {slot:x?} lies where no capability leads");
        let nameless = at == start && world.kind_of(at) == Some(Kind::CapTable) && at != own;
        let fine = !nameless || slot.kind() == Kind::CapTable && slot.object == at;
        rule!(fine, "{at:#x} {slot:x?} lies in a table's slot 0");
    }
    Ok(())
}

fn interrupt_table(sim: &Sim) -> u64 {
    let mut held = sim.kernel.hold(CoreId::BOOT, CoreSet::ALL, || unreachable!("one thread plays all cores"));
    held.global().expect("all locks are held").interrupt_table
}

/// A line is taken exactly if there is an Interrupt, and signals a Notification only then.
fn interrupts(sim: &Sim, world: &World) -> Result<(), Broken> {
    let taken = {
        let mut held = sim.kernel.hold(CoreId::BOOT, CoreSet::ALL, || unreachable!("one thread plays all cores"));
        held.global().expect("all locks are held").interrupts_taken
    };
    let table = interrupt_table(sim);
    for line in 0..MAX_INTERRUPTS as u64 {
        let is_taken = taken[index(line / 64)] >> (line % 64) & 1 == 1;
        let exists = world.has_capability(Kind::Interrupt, line);
        rule!(is_taken == exists, "line {line}: taken is {is_taken}, an Interrupt exists is {exists}");
        let bound = world.slots.get(&(table + line * 64));
        let fine = bound.is_none_or(|slot| exists && slot.kind() == Kind::Notification);
        rule!(fine, "line {line} signals {bound:x?}");
    }
    Ok(())
}

/// The bytes of memory that an object occupies; none for kinds that are no memory.
pub fn bytes(slot: &Slot) -> u64 {
    match slot.kind() {
        Kind::Untyped | Kind::Frame => slot.extent * PAGE_SIZE,
        Kind::PageTable | Kind::AddressSpace => PAGE_SIZE,
        Kind::CapTable => slot.extent * 64,
        Kind::Thread => PAGE_SIZE,
        Kind::Endpoint | Kind::Reply | Kind::Notification => 64,
        Kind::SchedContext => 128,
        _ => 0,
    }
}

/// The pages whose records must bear the object's kind.
fn pages(slot: &Slot) -> impl Iterator<Item = u64> {
    let typed = slot.kind() != Kind::Untyped && slot.device == 0 && bytes(slot) > 0;
    let end = if typed { slot.object + bytes(slot) } else { slot.object };
    let start = if typed { slot.object & !(PAGE_SIZE - 1) } else { end };
    (start..end).step_by(index(PAGE_SIZE))
}

/// A capability by itself.
fn shape(sim: &Sim, at: u64, slot: &Slot) -> Result<(), Broken> {
    rule!(slot.kind() != Kind::Empty, "{at:#x} {slot:x?} is neither empty nor anything");
    rule!(Rights::ALL.contains(slot.rights()), "{at:#x} {slot:x?} has unknown rights");
    let size = bytes(slot);
    if size == 0 {
        return Ok(());
    }
    rule!(slot.extent > 0 || !matches!(slot.kind(), Kind::Untyped | Kind::Frame), "{at:#x} {slot:x?} is empty memory");
    let end = slot.object + size;
    let device = DEVICES.iter().any(|run| run.address <= slot.object && end <= run.address + run.bytes);
    let memory = sim.board.ram.contains(slot.object) && end <= sim.board.ram.end();
    rule!(if slot.device == 1 { device } else { memory }, "{at:#x} {slot:x?} is no memory of this machine");
    if slot.kind() == Kind::Untyped && slot.device == 0 {
        rule!(slot.badge <= size, "{at:#x} {slot:x?} used more than it has");
    }
    Ok(())
}

/// Whether one capability can have been derived, in steps, from another.
pub fn may_stem(parent: &Slot, child: &Slot) -> bool {
    let same = parent.kind == child.kind && parent.object == child.object;
    match parent.kind() {
        Kind::Untyped => {
            let inside = parent.object <= child.object && child.object + bytes(child) <= parent.object + bytes(parent);
            let used = parent.device == 1 || child.object + bytes(child) <= parent.object + parent.badge;
            bytes(child) > 0 && inside && used && parent.device == child.device
        }
        Kind::InterruptControl if !same => child.kind() == Kind::Interrupt,
        Kind::IoPortControl if !same => child.kind() == Kind::IoPort,
        Kind::Endpoint | Kind::Notification => {
            let badge = parent.badge == 0 || parent.badge == child.badge;
            same && badge && parent.rights().contains(child.rights())
        }
        _ => {
            let extent = parent.extent == child.extent || parent.kind() == Kind::PageTable;
            same && extent && parent.device == child.device && parent.rights().contains(child.rights())
        }
    }
}

/// All capabilities to one object stand next to each other, or the last one would not be known as such.
fn neighbours(world: &World) -> Result<(), Broken> {
    let mut firsts = std::collections::HashMap::new();
    for (&at, slot) in &world.slots {
        let memory = bytes(slot) > 0 && slot.kind() != Kind::Untyped && slot.kind() != Kind::Frame;
        if !memory && slot.kind() != Kind::Interrupt {
            continue;
        }
        let before = slot.previous.some().and_then(|previous| world.slots.get(&previous.address()));
        if before.is_some_and(|before| before.kind == slot.kind && before.object == slot.object) {
            continue;
        }
        let other = firsts.insert((slot.kind, slot.object), at);
        rule!(other.is_none(), "{at:#x} {slot:x?} is apart from others to the same object, at {other:x?}");
    }
    Ok(())
}

/// No two objects share memory, unless one is the Untyped that the other was made from.
fn apart(world: &World) -> Result<(), Broken> {
    let mut runs: Vec<(u64, u64, Kind, u64)> = Vec::new();
    for (&at, slot) in &world.slots {
        let size = bytes(slot);
        if size > 0 && slot.device == 0 {
            runs.push((slot.object, u64::MAX - size, slot.kind(), at));
        }
    }
    // Larger runs first where they start together, and Untypeds before what was made from them.
    runs.sort_by_key(|&(start, size, kind, at)| (start, size, kind != Kind::Untyped, world.slots[&at].depth));
    let mut around: Vec<(u64, Kind, u64)> = Vec::new();
    for (start, size, kind, at) in runs {
        let end = start + (u64::MAX - size);
        while around.last().is_some_and(|&(last, ..)| last <= start) {
            around.pop();
        }
        let Some(&(outer, outer_kind, outer_at)) = around.last() else {
            around.push((end, kind, at));
            continue;
        };
        let same = world.slots[&at].object == world.slots[&outer_at].object && kind == outer_kind && end == outer;
        if same && kind != Kind::Untyped {
            continue;
        }
        let (slot, other) = (&world.slots[&at], &world.slots[&outer_at]);
        rule!(outer_kind == Kind::Untyped && end <= outer, "{at:#x} {slot:x?}\nshares memory with {other:x?}");
        let mut ancestor = Some(&at);
        while ancestor.is_some_and(|&ancestor| ancestor != outer_at) {
            ancestor = ancestor.and_then(|ancestor| world.parents.get(ancestor));
        }
        rule!(ancestor.is_some(), "{at:#x} {slot:x?}\nlies in {other:x?}, but does not stem from it");
        around.push((end, kind, at));
    }
    Ok(())
}
