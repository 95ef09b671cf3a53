//! What each core is doing, and the blocks of code that it does it with.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The most cores that Anos runs on.
pub const MOST: usize = 64;

/// A block of kernel code, as the number that QEMU hands over each time that it is executed: nothing to look up, and no
/// pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(pub usize);

impl Block {
    const ADDRESS: usize = 17;
    const WAITS: usize = 1 << 16;
    const RETURNS: usize = 1 << 15;
    const GOES_ON: usize = 1 << 14;

    /// A block at an address in the upper half (whose upper 17 bits are all set) or of the firmware; it has at most 16,383
    /// instructions (QEMU's have 512).
    pub fn new(address: u64, instructions: usize) -> Block {
        Block(usize::try_from(address).unwrap_or(0) << Block::ADDRESS | instructions)
    }

    /// The same; its last instruction waits.
    pub fn waiting(self, waits: bool) -> Block {
        Block(self.0 | if waits { Block::WAITS } else { 0 })
    }

    /// The same; its last instruction returns from an exception or a system call.
    pub fn returning(self, returns: bool) -> Block {
        Block(self.0 | if returns { Block::RETURNS } else { 0 })
    }

    /// The same; its first instruction is what follows where the kernel itself was interrupted.
    pub fn going_on(self, goes_on: bool) -> Block {
        Block(self.0 | if goes_on { Block::GOES_ON } else { 0 })
    }

    /// The address, as far as it is known: the lower 47 bits.
    fn low_address(self) -> u64 {
        (self.0 >> Block::ADDRESS) as u64
    }

    /// The address of a block of the kernel.
    pub fn address(self) -> u64 {
        self.low_address() | !0 << 47
    }

    /// How many instructions it has.
    pub fn instructions(self) -> u64 {
        (self.0 & (Block::GOES_ON - 1)) as u64
    }

    /// Whether a visit that this block ended begins anew with the next: it has returned to a program, but an interrupt came
    /// before any of the program's instructions.
    pub fn is_parted_from(self, next: Block) -> bool {
        self.0 & Block::RETURNS != 0 && next.0 & Block::GOES_ON == 0
    }

    /// Whether the core waits when it has executed it.
    pub fn waits(self) -> bool {
        self.0 & Block::WAITS != 0
    }
}

/// A visit to the kernel: its blocks, in order.
#[derive(Debug, Default)]
pub struct Visit {
    /// What was executed.
    pub blocks: Vec<Block>,
    /// Instructions of all.
    pub instructions: u64,
}

/// A core.
#[derive(Debug)]
pub struct Core {
    /// Whether it is in the kernel.
    inside: AtomicBool,
    /// Its last mark.
    mark: AtomicU64,
    visit: Mutex<Visit>,
}

/// All cores.
pub static CORES: [Core; MOST] = [const { Core::new() }; MOST];

impl Core {
    const fn new() -> Core {
        let visit = Visit { blocks: Vec::new(), instructions: 0 };
        Core { inside: AtomicBool::new(false), mark: AtomicU64::new(0), visit: Mutex::new(visit) }
    }

    /// It passes a mark.
    pub fn pass(&self, mark: u64) {
        self.mark.store(mark, Ordering::Relaxed);
    }

    /// Its last mark.
    pub fn mark(&self) -> u64 {
        self.mark.load(Ordering::Relaxed)
    }

    /// Whether it is in the kernel.
    pub fn is_inside(&self) -> bool {
        self.inside.load(Ordering::Relaxed)
    }

    /// It is in the kernel, or no longer. Answers whether it was.
    pub fn set_inside(&self, inside: bool) -> bool {
        let was = self.is_inside();
        self.inside.store(inside, Ordering::Relaxed);
        was
    }

    /// Whether a visit must have ended before this block.
    pub fn is_parted_from(&self, next: Block) -> bool {
        let last = self.visit.lock().ok().and_then(|visit| visit.blocks.last().copied());
        last.is_some_and(|last| last.is_parted_from(next))
    }

    /// It executes a block in the kernel.
    pub fn add(&self, block: Block) {
        self.set_inside(true);
        // Nobody panics with this lock held.
        if let Ok(mut visit) = self.visit.lock() {
            visit.instructions += block.instructions();
            visit.blocks.push(block);
        }
    }

    /// Its visit is over; `look` sees it, and then it is forgotten.
    pub fn end(&self, look: impl FnOnce(&Visit)) {
        self.set_inside(false);
        if let Ok(mut visit) = self.visit.lock() {
            look(&visit);
            visit.blocks.clear();
            visit.instructions = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_what_it_is_made_of() {
        let block = Block::new(0xffff_ffff_8000_1234, 512).waiting(true);
        assert_eq!((block.address(), block.instructions(), block.waits()), (0xffff_ffff_8000_1234, 512, true));
        let other = Block::new(0xffff_8000_0000_0000, 1);
        assert!(!other.waits() && !other.is_parted_from(block));
        assert!(other.returning(true).is_parted_from(block));
        assert!(!other.returning(true).is_parted_from(block.going_on(true)));
    }

    #[test]
    fn a_visit_adds_up_and_the_next_begins_anew() {
        let core = Core::new();
        core.add(Block::new(0xffff_ffff_8000_0000, 3));
        core.add(Block::new(0xffff_ffff_8000_0010, 4).waiting(true));
        assert!(core.is_inside());
        core.end(|visit| assert_eq!((visit.instructions, visit.blocks.len()), (7, 2)));
        assert!(!core.is_inside());
        core.end(|visit| assert_eq!((visit.instructions, visit.blocks.len()), (0, 0)));
    }
}
