//! In what two states differ, in words.
//!
//! Two states are the same if the same is in the same places. What a capability is called is nobody's business: it is
//! known by where it is.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::state::{CapId, Capability, Place, Spec, Thread};

/// What counts of a capability: what it is, what it stems from, and which of its siblings is the next newer one.
#[derive(Debug, PartialEq)]
struct Seen {
    capability: Capability,
    parent: Option<Place>,
    newer: Option<Place>,
}

impl Spec {
    fn seen(&self, id: CapId) -> Seen {
        let capability = self.cap(id);
        let parent = capability.parent.map(|parent| self.cap(parent));
        let before = parent.and_then(|parent| {
            let position = parent.children.iter().position(|&child| child == id)?;
            parent.children.get(position.checked_sub(1)?)
        });
        let named = |parent: &Capability| match parent.place {
            Place::Origin(_) => None,
            place => Some(place),
        };
        let mut plain = Capability { used: capability.watermark(), parent: None, ..capability.clone() };
        if plain.used % anos_abi::PAGE_SIZE == 0 {
            plain.open = anos_abi::Kind::Empty;
        }
        plain.children.clear();
        Seen { capability: plain, parent: parent.and_then(named), newer: before.map(|&id| self.cap(id).place) }
    }

    fn all_seen(&self) -> BTreeMap<Place, Seen> {
        let held = self.capabilities.iter().filter(|(_, capability)| !matches!(capability.place, Place::Origin(_)));
        held.map(|(&id, capability)| (capability.place, self.seen(id))).collect()
    }
}

impl Thread {
    fn without_parts(&self) -> Thread {
        Thread { parts: [None; 4], ..self.clone() }
    }
}

/// The first entry in which two maps differ.
fn first<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    said: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) -> Option<String> {
    for (key, value) in said {
        match found.get(key) {
            None => return Some(format!("{what} {key:x?} should be\n  {value:x?}\nand there is none")),
            Some(other) if other != value => {
                return Some(format!("{what} {key:x?} should be\n  {value:x?}\nand is\n  {other:x?}"));
            }
            Some(_) => {}
        }
    }
    let more = found.iter().find(|(key, _)| !said.contains_key(key))?;
    Some(format!("{what} {:x?} should not exist, and is\n  {:x?}", more.0, more.1))
}

fn numbered<T: Clone>(all: &[T]) -> BTreeMap<usize, T> {
    all.iter().cloned().enumerate().collect()
}

/// The first difference between what should be, and what was found.
pub fn difference(said: &Spec, found: &Spec) -> Option<String> {
    let threads = |spec: &Spec| spec.threads.iter().map(|(&at, thread)| (at, thread.without_parts())).collect();
    let lines = |spec: &Spec| {
        let settings = spec.lines.iter().map(|(&line, &is)| (line, (is.taken, is.level, is.unmasked)));
        settings.filter(|(_, is)| *is != (false, false, false)).collect()
    };
    let tables = |spec: &Spec| spec.tables.keys().map(|&at| (at, ())).collect();
    first("the capability in", &said.all_seen(), &found.all_seen())
        .or_else(|| first("thread", &threads(said), &threads(found)))
        .or_else(|| first("endpoint", &said.endpoints, &found.endpoints))
        .or_else(|| first("notification", &said.notifications, &found.notifications))
        .or_else(|| first("reply", &said.replies, &found.replies))
        .or_else(|| first("table", &tables(said), &tables(found)))
        .or_else(|| first("address space", &said.spaces, &found.spaces))
        .or_else(|| first("core", &numbered(&said.cores), &numbered(&found.cores)))
        .or_else(|| first("line", &lines(said), &lines(found)))
        .or_else(|| one("the machine", &said.machine, &found.machine))
        .or_else(|| one("the counters", &said.counters, &found.counters))
        .or_else(|| one("the last address space", &said.last_space, &found.last_space))
}

fn one<T: PartialEq + Debug>(what: &str, said: &T, found: &T) -> Option<String> {
    (said != found).then(|| format!("{what} should be\n  {said:x?}\nand is\n  {found:x?}"))
}
