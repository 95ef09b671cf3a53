//! The steps of a figure: which source function belongs to which, in one place.

use super::source::{Chain, FIRMWARE, Frame, PROGRAM};

/// Steps, and what belongs to them: a function's name without its module, `module::*`, or `module::function`. Of an
/// instruction's functions, the innermost that is listed here says which step it belongs to.
const STEPS: &[(&str, &[&str])] = &[
    ("the program's own instruction", &[PROGRAM]),
    ("below the kernel: firmware", &[FIRMWARE]),
    (
        "entry and exit: registers",
        &["system_call_entry", "leave_kernel", "trap_entry", "other_trap", "run_thread", "*::traps::*", "*::entry::*"],
    ),
    ("floating point", &["*::fpu::*"]),
    ("time", &["*::time::*", "*::machine::now"]),
    ("take and give back locks", &["machine::lock::*"]),
    ("find objects and check references", &["machine::store::*"]),
    ("find the capability", &["core::table::*", "core::quick::slot", "core::quick::reply_in"]),
    ("families of capabilities", &["core::family::*"]),
    ("budget and priority", &["core::context::*", "core::quick::charge", "core::quick::turns::time_of"]),
    ("scheduling", &["core::schedule::*", "core::state::*", "core::quick::turns::*"]),
    ("timer and deadlines", &["core::deadline::*", "*::set_timer"]),
    (
        "switch the address space",
        &["core::quick::load", "core::quick::enter_space", "*::machine::load_root", "*::load_root"],
    ),
    ("mappings", &["core::memory::*", "*::paging::*"]),
    ("signal", &["core::notification::*", "core::quick::signal::*"]),
    ("interrupt", &["core::interrupt::*", "*::apic::*", "*::ioapic::*", "*::plic::*", "*::controller::*"]),
    ("fault", &["core::fault::*"]),
    ("memory for objects", &["core::untyped::*", "*::bytes::*", "memset", "memcpy"]),
    ("threads", &["core::thread::*"]),
    ("which call it is", &["core::call::*", "core::invoke::*", "core::enter"]),
    // Behind those that are part of it.
    ("message", &["core::quick::*", "core::ipc::*"]),
];

/// The step that an instruction belongs to; one in functions without a step is `other`, with the innermost one's name.
pub fn step(chain: &Chain) -> String {
    let ours = || chain.iter().filter(|frame| frame.ours);
    let of = |frame: &Frame, exact: bool| {
        let fits = |rule: &&str| is_exact(rule) == exact && matches(rule, &frame.name);
        STEPS.iter().find(|(_, rules)| rules.iter().any(&fits)).map(|(step, _)| (*step).to_owned())
    };
    let found = ours().find_map(|frame| of(frame, true).or_else(|| of(frame, false)));
    found.unwrap_or_else(|| format!("other: {}", ours().next().map_or("?", |frame| &frame.name)))
}

/// Whether a rule names a function.
fn is_exact(rule: &str) -> bool {
    !rule.ends_with("::*")
}

/// Whether a function's name is what a rule says: `*` at its start or end stands for anything.
fn matches(rule: &str, name: &str) -> bool {
    match (rule.strip_prefix('*'), rule.strip_suffix('*')) {
        (Some(_), Some(_)) => name.contains(rule.trim_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == rule,
    }
}

/// Steps with how many instructions each takes, in the order in which they begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub Vec<(String, i64)>);

impl Counts {
    /// One instruction, which counts so often.
    pub fn add(&mut self, step: String, times: i64) {
        match self.0.iter_mut().find(|(known, _)| *known == step) {
            Some((_, count)) => *count += times,
            None => self.0.push((step, times)),
        }
    }

    /// All of them.
    pub fn total(&self) -> i64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(names: &[&str]) -> Chain {
        names.iter().map(|name| Frame { name: (*name).into(), line: None, ours: true }).collect()
    }

    #[test]
    fn the_innermost_function_with_a_step_says_which() {
        let cases = [
            (
                &["machine::records::kind", "machine::store::know", "core::quick::call"][..],
                "find objects and check references",
            ),
            (&["core::quick::load", "core::quick::hop"], "switch the address space"),
            (&["core::quick::hop"], "message"),
            (&["x86_64::traps::resume"], "entry and exit: registers"),
            (&["x86_64::machine::core"], "other: x86_64::machine::core"),
        ];
        for (names, expected) in cases {
            assert_eq!(step(&chain(names)), expected);
        }
    }

    #[test]
    fn counts_add_up_and_may_be_taken_off() {
        let mut counts = Counts::default();
        [("a", 2), ("b", 1), ("a", -1)].into_iter().for_each(|(step, times)| counts.add(step.into(), times));
        assert_eq!(counts.0, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
        assert_eq!(counts.total(), 2);
    }
}
