//! CPU time for threads: scheduling contexts, as many as the root server's table has slots for.
//!
//! Contexts that share a page are of one core, so they are made a page at a time, a *batch*: one for every core at the
//! start, the others when a core runs out. They are never unmade. A context that comes back is revoked: wherever the
//! thread is that it was bound to, and whether it still is or not, it has the context no more.

use alloc::vec::Vec;

use anos_abi::boot::slot;
use anos_abi::object::Method;
use anos_abi::{Error, Kind, PAGE_SIZE};
use anos_interfaces::{Failure, Refusal};
use anos_manifest::CpuTime;

use crate::kernel::{self, Kernel};
use crate::layout::{CONTEXTS, MAX_CONTEXTS, number};

/// Contexts that fit in a page.
const PAGE_CONTEXTS: usize = 32;

/// A context, by its slot in the root server's table, and whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    slot: u32,
    core: u32,
}

/// Why a thread can't have CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTime {
    /// All contexts are taken.
    AllTaken,
    /// The kernel refused.
    Kernel(Error),
}

impl From<Error> for NoTime {
    fn from(error: Error) -> Self {
        NoTime::Kernel(error)
    }
}

impl From<NoTime> for Failure {
    fn from(failure: NoTime) -> Self {
        match failure {
            NoTime::AllTaken => Refusal::TooMany.into(),
            NoTime::Kernel(error) => error.into(),
        }
    }
}

/// The contexts that no thread has.
#[derive(Debug)]
pub struct Contexts {
    free: Vec<Context>,
    /// Contexts made at a time.
    batch: usize,
    /// Contexts made so far.
    made: usize,
    /// The slot of the memory that they are made from.
    memory: u32,
}

/// Contexts of each batch on a machine with this many cores: few enough that every core gets one.
fn batch(cores: u64) -> usize {
    usize::try_from(cores).map_or(1, |cores| (MAX_CONTEXTS / cores.max(1)).clamp(1, PAGE_CONTEXTS))
}

/// Bytes of memory for all the contexts.
pub fn bytes(cores: u64) -> u64 {
    (MAX_CONTEXTS / batch(cores)) as u64 * PAGE_SIZE
}

impl Contexts {
    /// Before the first is made. This is the one time that the list takes memory.
    pub fn new(cores: u64) -> Self {
        Contexts { free: Vec::with_capacity(MAX_CONTEXTS), batch: batch(cores), made: 0, memory: 0 }
    }

    /// Makes the first batch of every core. `memory` is the slot of an Untyped with [`bytes`] left.
    ///
    /// # Errors
    /// The kernel's.
    pub fn begin<K: Kernel>(&mut self, kernel: &mut K, memory: u32, cores: u64) -> Result<(), Error> {
        self.memory = memory;
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        (0..cores).try_for_each(|core| self.make(kernel, core))
    }

    /// Makes one more batch; none if there are all that there can be.
    fn make<K: Kernel>(&mut self, kernel: &mut K, core: u32) -> Result<(), Error> {
        if self.made + self.batch > MAX_CONTEXTS {
            return Ok(());
        }
        let first = CONTEXTS + number(self.made);
        let words = [Kind::SchedContext as u64, 0, self.batch as u64, 0];
        kernel.invoke(self.memory, Method::UntypedRetype, &words, slot::SCHED_CONTROL + core, first)?;
        self.made += self.batch;
        self.free.extend((first..).take(self.batch).map(|slot| Context { slot, core }));
        Ok(())
    }

    /// Gives a thread time of a core.
    ///
    /// # Errors
    /// Why it can't be. The thread is as it was then.
    pub fn give<K: Kernel>(
        &mut self,
        kernel: &mut K,
        thread: u32,
        core: u32,
        limit: Option<CpuTime>,
    ) -> Result<Context, NoTime> {
        let find = |free: &[Context]| free.iter().position(|context| context.core == core);
        let at = match find(&self.free) {
            Some(at) => at,
            None => {
                self.make(kernel, core)?;
                find(&self.free).ok_or(NoTime::AllTaken)?
            }
        };
        let context = self.free.swap_remove(at);
        // Who had it last may have had another limit.
        let (budget_ns, period_ns) = limit.map_or((0, 0), |limit| (limit.budget_ns, limit.period_ns));
        let control = slot::SCHED_CONTROL + core;
        let given = kernel
            .invoke(control, Method::SchedControlLimit, &[budget_ns, period_ns, 0], context.slot, 0)
            .and_then(|_| kernel.invoke(thread, Method::ThreadSetContext, &[], context.slot, 0));
        match given {
            Ok(_) => Ok(context),
            Err(error) => {
                self.take_back(kernel, context);
                Err(error.into())
            }
        }
    }

    /// Takes a context from whoever has it.
    pub fn take_back<K: Kernel>(&mut self, kernel: &mut K, context: Context) {
        // The kernel has no reason to refuse; if it did, the context would stay out of use rather than be used twice.
        if kernel::revoke(kernel, context.slot).is_ok() {
            self.free.push(context);
        }
    }

    /// Contexts that threads have.
    pub fn taken(&self) -> usize {
        self.made - self.free.len()
    }
}
