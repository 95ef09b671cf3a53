//! What a figure is made of: the ways between two stamps that it counts, and how often.
//!
//! This says of each figure what its file in `tests/bench/src/cases` says: which of the ways that its threads take, again
//! and again, are measured, and of how many parts it is the sum or the difference.

/// A part of a figure: threads that do the same again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How often the way counts that starts with the thread which was made last: the client's, the sender's.
    pub there: i64,
    /// How often the other one counts: from the server's answer on.
    pub back: i64,
}

const THERE: Part = Part { there: 1, back: 0 };
const BACK: Part = Part { there: 0, back: 1 };
const BOTH: Part = Part { there: 1, back: 1 };
const LESS: Part = Part { there: -1, back: 0 };
const TWICE: Part = Part { there: 2, back: 0 };

/// A figure's parts, in the order in which they are measured.
pub fn parts(name: &str) -> &'static [Part] {
    match name {
        "ipc/reply_recv/inter/w0" => &[BACK],
        "cap/revoke_per_child" | "mem/clear_page" => &[LESS, THERE],
        // One page, less what a page more takes.
        "mem/retype_frame" => &[TWICE, LESS],
        "mem/map_512" => &[THERE, THERE],
        _ if name.contains("round_trip") => &[BOTH],
        _ => &[THERE],
    }
}

/// Whether the program's own instruction that leads into the kernel is not executed, but faults (and isn't counted).
pub fn faults(name: &str) -> bool {
    name.starts_with("fault/")
}

/// Whether a figure can be traced: it is the length of ways between two stamps of the measuring code. (A new process has one
/// of its stamps in a program of its own.)
pub fn is_traced(name: &str, unit: &str) -> bool {
    let other = ["boot/", "process/"].iter().any(|category| name.starts_with(category)) || name == crate::longest::NAME;
    unit == crate::bench::figures::INSTRUCTIONS && !other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_counts_both_ways_and_a_call_one() {
        assert_eq!(parts("ipc/round_trip/inter/w8"), [BOTH]);
        assert_eq!(parts("fault/round_trip"), [BOTH]);
        assert_eq!(parts("ipc/call/inter/w0"), [THERE]);
        assert_eq!(parts("ipc/reply_recv/inter/w0"), [BACK]);
        assert_eq!(parts("mem/retype_frame"), [TWICE, LESS]);
    }

    #[test]
    fn boot_processes_and_bytes_are_not_traced() {
        assert!(is_traced("cap/copy", "instructions"));
        assert!(!is_traced("boot/root", "instructions"));
        assert!(!is_traced("boot/prompt", "instructions"));
        assert!(!is_traced("process/create_to_main", "instructions"));
        assert!(!is_traced("memory/idle", "bytes"));
        assert!(!is_traced("path/longest", "instructions"));
    }
}
