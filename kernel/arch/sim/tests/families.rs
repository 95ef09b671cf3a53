//! Families against a model: a plain tree in which every node knows its parent.
//!
//! Whatever is copied, minted, moved, deleted and revoked in whatever order: a capability stems from another in the
//! kernel's list exactly if it does in the tree.

use std::collections::BTreeMap;

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Error, Kind};
use anos_machine::CoreId;
use anos_sim::check::World;
use anos_sim::{Numbers, Sim};

/// Slots that the operations use.
const FIRST: u32 = 300;
const SLOTS: u64 = 40;

/// The parent of each capability, by slot; the root's is 0.
type Tree = BTreeMap<u32, u32>;

fn stems_from(tree: &Tree, node: u32, ancestor: u32) -> bool {
    let mut above = tree[&node];
    while above != 0 {
        if above == ancestor {
            return true;
        }
        above = tree[&above];
    }
    false
}

fn compare(sim: &Sim, tree: &Tree, table: u64) {
    let world = World::look(sim).expect("a sound list");
    let at = |slot: u32| table + u64::from(slot) * 64;
    for slot in FIRST..FIRST + u32::try_from(SLOTS).expect("small") {
        assert_eq!(world.slots.contains_key(&at(slot)), tree.contains_key(&slot), "slot {slot}");
    }
    for &node in tree.keys() {
        let mut above = Vec::new();
        let mut next = world.parents.get(&at(node));
        while let Some(parent) = next {
            above.push(*parent);
            next = world.parents.get(parent);
        }
        for &other in tree.keys() {
            let stems = above.contains(&at(other));
            assert_eq!(stems, stems_from(tree, node, other), "{node} from {other}: {tree:?}");
        }
    }
}

fn step(sim: &mut Sim, numbers: &mut Numbers, tree: &mut Tree, origin: u32) {
    let nodes: Vec<u32> = tree.keys().copied().collect();
    let node = numbers.pick(&nodes);
    let to = FIRST + u32::try_from(numbers.below(SLOTS)).expect("small");
    let free = !tree.contains_key(&to);
    let mut call = |method, words: &[u64], pass| {
        sim.call(CoreId::BOOT, slot::CAP_TABLE, method, words, pass, 0).result().map(|_| ())
    };
    match numbers.weighted(&[(10, 0), (2, 1), (4, 2), (5, 3), (1, 4)]) {
        0 | 1 => {
            let result = call(Method::CapTableCopy, &[to.into(), 15], node);
            assert_eq!(result, if free { Ok(()) } else { Err(Error::SlotOccupied) });
            if free {
                tree.insert(to, node);
            }
        }
        2 if free => {
            call(Method::CapTableMove, &[to.into()], node).expect("moved");
            let parent = tree.remove(&node).expect("a node");
            tree.values_mut().filter(|above| **above == node).for_each(|above| *above = to);
            tree.insert(to, parent);
        }
        3 if node != origin && tree[&node] != 0 => {
            call(Method::CapTableDelete, &[node.into()], 0).expect("deleted");
            let parent = tree.remove(&node).expect("a node");
            tree.values_mut().filter(|above| **above == node).for_each(|above| *above = parent);
        }
        4 => {
            while call(Method::CapTableRevoke, &[node.into()], 0) == Err(Error::Again) {}
            let gone: Vec<u32> = nodes.into_iter().filter(|&other| stems_from(tree, other, node)).collect();
            gone.iter().for_each(|other| assert!(tree.remove(other).is_some()));
        }
        _ => {}
    }
}

#[test]
fn the_list_is_the_tree_after_every_operation() {
    let mut largest = 0;
    for seed in 0..60 {
        let mut sim = Sim::boot(1);
        let table = sim.root_table();
        sim.next_slot = FIRST;
        let origin = sim.make(Kind::Endpoint, 0);
        let mut tree = Tree::from([(origin, 0)]);
        let mut numbers = Numbers(seed);
        for _ in 0..150 {
            step(&mut sim, &mut numbers, &mut tree, origin);
            compare(&sim, &tree, table);
            largest = largest.max(tree.len());
        }
    }
    assert!(largest > 20, "families stay small: {largest}");
}
