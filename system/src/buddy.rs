//! Memory as power-of-two blocks of Untyped: split in halves when asked for, merged when both halves are free again.
//!
//! A block is a capability slot. Splitting retypes a block into two Untypeds, in a pair of slots; merging revokes the
//! parent, which empties both slots and gives the parent all its memory back. So the tree of blocks is the kernel's
//! tree of capabilities, and blocks can't overlap. Sizes count, not addresses: any two halves of a block are buddies.
//!
//! No allocation, no recursion. Finding a block looks at each once: there are few.

use anos_abi::{Error, PAGE_SIZE};

use crate::layout::{BLOCKS, MAX_PAIRS, number};

/// The smallest block, as a power of two of pages: 64 KiB.
pub const MIN_ORDER: u8 = 4;
/// The largest block: 1 GiB.
pub const MAX_ORDER: u8 = 18;

/// What splits and merges: the kernel, or a test.
pub trait Untypeds {
    /// Makes `count` Untypeds of `pages` each out of the one in slot `parent`, into slots from `into`.
    ///
    /// # Errors
    /// The kernel's; nothing has changed then.
    fn split(&mut self, parent: u32, pages: u64, count: u64, into: u32) -> Result<(), Error>;

    /// Deletes all that was made out of the Untyped in a slot.
    ///
    /// # Errors
    /// The kernel's.
    fn merge(&mut self, parent: u32) -> Result<(), Error>;
}

/// A block that somebody owns. Not `Copy`: it is given back once.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    node: u16,
    order: u8,
}

impl Block {
    /// Its slot.
    pub fn slot(&self) -> u32 {
        slot_of(self.node)
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        PAGE_SIZE << self.order
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The slot is empty.
    Absent,
    Free,
    Used,
    /// Its halves are this pair.
    Split(u16),
}

#[derive(Clone, Copy, Debug)]
struct Node {
    state: State,
    order: u8,
    /// Whose half it is; none for a whole.
    parent: Option<u16>,
}

/// The allocator.
#[derive(Debug)]
pub struct Buddy {
    nodes: [Node; 2 * MAX_PAIRS],
}

impl Default for Buddy {
    fn default() -> Self {
        Self::new()
    }
}

fn slot_of(node: u16) -> u32 {
    BLOCKS + u32::from(node)
}

impl Buddy {
    /// Without any memory.
    pub const fn new() -> Self {
        Buddy { nodes: [Node { state: State::Absent, order: 0, parent: None }; 2 * MAX_PAIRS] }
    }

    /// Takes in the run of memory in slot `run`, cut into the largest blocks that fit. What remains is less than the
    /// smallest block, or more than there are slots for; it stays unused.
    pub fn add<U: Untypeds>(&mut self, untypeds: &mut U, run: u32, pages: u64) -> Result<(), Error> {
        let mut rest = pages;
        while let Some(order) = order_within(rest) {
            let Some(pair) = self.free_pair() else { return Ok(()) };
            untypeds.split(run, 1 << order, 1, slot_of(pair))?;
            self.set(pair, Node { state: State::Free, order, parent: None });
            rest -= 1 << order;
        }
        Ok(())
    }

    /// A block of at least this size.
    ///
    /// # Errors
    /// `NotEnoughMemory` if none is free; the kernel's if it refuses.
    pub fn allocate<U: Untypeds>(&mut self, untypeds: &mut U, bytes: u64) -> Result<Block, Error> {
        let order = order_of(bytes).ok_or(Error::NotEnoughMemory)?;
        let mut node = self.smallest_free(order).ok_or(Error::NotEnoughMemory)?;
        while let Some(record) = self.node(node)
            && record.order > order
        {
            let pair = self.free_pair().ok_or(Error::NotEnoughMemory)?;
            let half = record.order - 1;
            untypeds.split(slot_of(node), 1 << half, 2, slot_of(pair))?;
            self.set(node, Node { state: State::Split(pair), ..record });
            for child in [pair, pair + 1] {
                self.set(child, Node { state: State::Free, order: half, parent: Some(node) });
            }
            node = pair;
        }
        let record = self.node(node).ok_or(Error::NotEnoughMemory)?;
        self.set(node, Node { state: State::Used, ..record });
        Ok(Block { node, order })
    }

    /// Takes a block back, out of which nothing is made any more.
    pub fn free<U: Untypeds>(&mut self, untypeds: &mut U, block: Block) {
        let mut node = block.node;
        let Some(record) = self.node(node) else { return };
        self.set(node, Node { state: State::Free, ..record });
        // Upwards as long as both halves are free: at most one round for each order.
        while let Some(parent) = self.node(node).and_then(|record| record.parent)
            && self.node(node ^ 1).is_some_and(|buddy| buddy.state == State::Free)
            && let Some(record) = self.node(parent)
        {
            // If the kernel refused, both halves would go on as they are.
            if untypeds.merge(slot_of(parent)).is_err() {
                return;
            }
            for child in [node, node ^ 1] {
                self.set(child, Node { state: State::Absent, order: 0, parent: None });
            }
            self.set(parent, Node { state: State::Free, ..record });
            node = parent;
        }
    }

    /// Bytes in free blocks.
    pub fn free_bytes(&self) -> u64 {
        let free = self.nodes.iter().filter(|node| node.state == State::Free);
        free.map(|node| PAGE_SIZE << node.order).sum()
    }

    /// The size of the largest free block.
    pub fn largest_free(&self) -> u64 {
        let free = self.nodes.iter().filter(|node| node.state == State::Free);
        free.map(|node| PAGE_SIZE << node.order).max().unwrap_or(0)
    }

    fn node(&self, node: u16) -> Option<Node> {
        self.nodes.get(usize::from(node)).copied()
    }

    fn set(&mut self, node: u16, record: Node) {
        if let Some(place) = self.nodes.get_mut(usize::from(node)) {
            *place = record;
        }
    }

    /// Two empty slots next to each other, the first even.
    fn free_pair(&self) -> Option<u16> {
        let absent = |node: &Node| node.state == State::Absent;
        let pair = self.nodes.chunks_exact(2).position(|pair| pair.iter().all(absent))?;
        u16::try_from(2 * pair).ok()
    }

    fn smallest_free(&self, order: u8) -> Option<u16> {
        let nodes = self.nodes.iter().zip(0u16..);
        let fitting = nodes.filter(|(node, _)| node.state == State::Free && node.order >= order);
        fitting.min_by_key(|(node, _)| node.order).map(|(_, index)| index)
    }
}

/// The order of the smallest block of at least this size.
fn order_of(bytes: u64) -> Option<u8> {
    (MIN_ORDER..=MAX_ORDER).find(|order| PAGE_SIZE << order >= bytes)
}

/// The order of the largest block of at most this many pages.
fn order_within(pages: u64) -> Option<u8> {
    (MIN_ORDER..=MAX_ORDER).rev().find(|order| 1 << order <= pages)
}

const _: () = assert!(number(2 * MAX_PAIRS) <= u16::MAX as u32, "a node's number fits 16 bits");
