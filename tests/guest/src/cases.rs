//! The cases, by category. A case's name says what it proves.

use crate::case::Case;
use crate::check::Outcome;

mod attacks;
mod boot;
mod broken_loans;
mod budgets;
mod cancellation;
mod capabilities;
mod contexts;
mod cores;
mod deadlines;
mod endings;
mod faults;
mod floats;
mod foreign;
mod harm;
mod inspection;
mod interrupts;
mod ipc;
mod lending;
mod limits;
mod locks;
mod messages;
mod methods;
mod notifications;
mod ports;
mod random;
mod registers;
mod reply;
mod retype;
mod scheduling;
mod spaces;
mod threads;

/// One case.
pub struct TestCase {
    /// What it proves.
    pub name: &'static str,
    /// Cores it needs.
    pub cores: u64,
    /// Does it.
    pub function: fn(&mut Case) -> Outcome,
}

/// The cases of a category.
pub struct Group {
    /// The category.
    pub name: &'static str,
    /// Its cases.
    pub cases: &'static [TestCase],
}

/// The list of a category's cases; `name on 2` is a case for at least two cores.
macro_rules! cases {
    ($($name:ident $(on $cores:literal)?,)*) => {
        /// The cases of this category.
        pub const CASES: &[$crate::cases::TestCase] = &[$($crate::cases::TestCase {
            name: stringify!($name),
            cores: 1 $(- 1 + $cores)?,
            function: $name,
        }),*];
    };
}
pub(crate) use cases;

/// Every case, in the order in which they run: what later ones rest on comes first.
pub const GROUPS: &[Group] = &[
    Group { name: "boot", cases: boot::CASES },
    Group { name: "registers", cases: registers::CASES },
    Group { name: "retype", cases: retype::CASES },
    Group { name: "capabilities", cases: capabilities::CASES },
    Group { name: "threads", cases: threads::CASES },
    Group { name: "ipc", cases: ipc::CASES },
    Group { name: "messages", cases: messages::CASES },
    Group { name: "reply", cases: reply::CASES },
    Group { name: "notifications", cases: notifications::CASES },
    Group { name: "scheduling", cases: scheduling::CASES },
    Group { name: "deadlines", cases: deadlines::CASES },
    Group { name: "contexts", cases: contexts::CASES },
    Group { name: "budgets", cases: budgets::CASES },
    Group { name: "lending", cases: lending::CASES },
    Group { name: "broken_loans", cases: broken_loans::CASES },
    Group { name: "spaces", cases: spaces::CASES },
    Group { name: "faults", cases: faults::CASES },
    Group { name: "floats", cases: floats::CASES },
    Group { name: "foreign", cases: foreign::CASES },
    Group { name: "interrupts", cases: interrupts::CASES },
    Group { name: "ports", cases: ports::CASES },
    Group { name: "methods", cases: methods::CASES },
    Group { name: "cores", cases: cores::CASES },
    Group { name: "locks", cases: locks::CASES },
    Group { name: "inspection", cases: inspection::CASES },
    Group { name: "cancellation", cases: cancellation::CASES },
    Group { name: "endings", cases: endings::CASES },
    Group { name: "limits", cases: limits::CASES },
    Group { name: "attacks", cases: attacks::CASES },
    Group { name: "harm", cases: harm::CASES },
    Group { name: "random", cases: random::CASES },
];
