//! A machine that really runs on the host.
//!
//! - [`Sim`]: a machine with a kernel on it, and programs that a test plays, one step of one core at a time;
//! - [`board`]: cores, clock, interrupt lines, and the kernel's [`Machine`](anos_machine::Machine);
//! - [`memory`], [`mmu`]: main memory, page tables, translation buffers that keep what they aren't told to forget;
//! - [`check`]: what must hold after every step;
//! - [`kit`]: objects and threads, as most tests need them;
//! - [`payload`]: what a build would have put behind the kernel;
//! - [`snapshot`]: a machine's state, to come back to;
//! - [`numbers`]: random ones, the same everywhere;
//! - [`message`]: what programs put into their registers, and find there;
//! - `short_way`: what goes the short way through the core, compared with the general way.
//!
//! All of it is deterministic and played by one thread of the host: the same steps always end in the same state. A
//! core that is interrupted while another is in the kernel gets as far as the kernel's lock, where a test can keep it
//! as long as it likes.

pub mod board;
pub mod check;
pub mod kit;
pub mod memory;
pub mod message;
pub mod mmu;
pub mod numbers;
pub mod payload;
mod short_way;
pub mod sim;
pub mod snapshot;

pub use board::Config;
pub use kit::Program;
pub use message::{Answer, Message};
pub use mmu::Access;
pub use numbers::Numbers;
pub use payload::Payload;
pub use sim::{Sim, core_id};
