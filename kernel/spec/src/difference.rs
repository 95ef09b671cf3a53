//! In what two states differ, in words.
//!
//! Two states are the same if the same is in the same places. What a capability is called is nobody's business: it is
//! known by where it is.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use anos_abi::{Kind, PAGE_SIZE};

use crate::state::{CapId, Capability, Place, Spec, Thread};

impl Spec {
    /// Something about each capability, by where it is.
    fn of_each<T>(&self, what: impl Fn(CapId, &Capability) -> T) -> BTreeMap<Place, T> {
        let held = self.capabilities.iter().filter(|(_, capability)| !matches!(capability.place, Place::Origin(_)));
        held.map(|(&id, capability)| (capability.place, what(id, capability))).collect()
    }

    /// What a capability is, apart from its family.
    fn itself(&self, _: CapId, capability: &Capability) -> Capability {
        let used = capability.watermark();
        let open = if used.is_multiple_of(PAGE_SIZE) { (Kind::Empty, 0) } else { capability.open };
        Capability { used, open, parent: None, children: VecDeque::new(), ..capability.clone() }
    }

    /// Where its parent is. (An origin is nowhere.)
    fn parent(&self, _: CapId, capability: &Capability) -> Option<Place> {
        let place = self.cap(capability.parent?).place;
        if matches!(place, Place::Origin(_)) { None } else { Some(place) }
    }

    /// Where the next newer one of its siblings is.
    fn newer(&self, id: CapId, capability: &Capability) -> Option<Place> {
        let siblings = &self.cap(capability.parent?).children;
        let position = siblings.iter().position(|&sibling| sibling == id)?;
        let newer = siblings.get(position.checked_sub(1)?)?;
        Some(self.cap(*newer).place)
    }
}

impl Thread {
    fn without_parts(&self) -> Thread {
        Thread { parts: [None; 5], ..self.clone() }
    }
}

/// The first line in which two things differ when they are written down, with the names of what it is in.
fn first_line<T: Debug>(said: &T, found: &T) -> String {
    let (said, found) = (format!("{said:#x?}"), format!("{found:#x?}"));
    let mut within: Vec<&str> = Vec::new();
    let mut others = found.lines();
    for line in said.lines() {
        let other = others.next().unwrap_or_default();
        if line != other {
            return format!("{} should be {} and is {}", within.join(" "), line.trim(), other.trim());
        }
        let depth = (line.len() - line.trim_start().len()) / 4;
        within.truncate(depth);
        within.push(line.trim().trim_end_matches(['{', '[', '(', ',']).trim_end());
    }
    format!("{} should end and goes on with {}", within.join(" "), others.next().unwrap_or_default().trim())
}

/// The first entry in which two maps differ.
fn first<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    said: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) -> Option<String> {
    for (key, value) in said {
        match found.get(key) {
            None => return Some(format!("{what} {key:x?} should be {value:x?}, and there is none")),
            Some(other) if other != value => return Some(format!("{what} {key:x?}: {}", first_line(value, other))),
            Some(_) => {}
        }
    }
    let (key, value) = found.iter().find(|(key, _)| !said.contains_key(key))?;
    Some(format!("{what} {key:x?} should not exist, and is {value:x?}"))
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
    let itself = |spec: &Spec| spec.of_each(|id, capability| spec.itself(id, capability));
    let parent = |spec: &Spec| spec.of_each(|id, capability| spec.parent(id, capability));
    let newer = |spec: &Spec| spec.of_each(|id, capability| spec.newer(id, capability));
    first("the capability in", &itself(said), &itself(found))
        .or_else(|| first("the parent of the capability in", &parent(said), &parent(found)))
        .or_else(|| first("the next newer sibling of the capability in", &newer(said), &newer(found)))
        .or_else(|| first("thread", &threads(said), &threads(found)))
        .or_else(|| first("endpoint", &said.endpoints, &found.endpoints))
        .or_else(|| first("notification", &said.notifications, &found.notifications))
        .or_else(|| first("scheduling context", &said.contexts, &found.contexts))
        .or_else(|| first("reply", &said.replies, &found.replies))
        .or_else(|| first("table", &tables(said), &tables(found)))
        .or_else(|| first("address space", &said.spaces, &found.spaces))
        .or_else(|| first("core", &numbered(&said.cores), &numbered(&found.cores)))
        .or_else(|| first("line", &lines(said), &lines(found)))
        .or_else(|| one("the machine", &said.machine, &found.machine))
        .or_else(|| one("the last address space", &said.last_space, &found.last_space))
}

fn one<T: PartialEq + Debug>(what: &str, said: &T, found: &T) -> Option<String> {
    (said != found).then(|| format!("{what}: {}", first_line(said, found)))
}
