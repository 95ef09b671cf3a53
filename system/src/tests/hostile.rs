//! Whatever processes send, the root server answers, and its books stay in order.

use std::vec::Vec;

use anos_interfaces::process::method;
use anos_interfaces::{Badge, Message};
use proptest::prelude::*;

use super::files::boot_archive;
use super::server::{SHELL, SYSTEM, send, start};
use crate::end::GONE;

fn labels() -> impl Strategy<Value = u64> {
    let known: Vec<u64> = (method::EXIT..=method::SHUTDOWN).filter(|&label| label != method::EXIT).collect();
    prop_oneof![8 => prop::sample::select(known), 1 => any::<u64>(), 1 => prop::sample::select(Vec::from([anos_abi::fault::LABEL, anos_abi::fault::SYSTEM_CALL_LABEL])), 1 => Just(method::EXIT)]
}

fn words() -> impl Strategy<Value = [u64; 8]> {
    let hello = anos_interfaces::Name::new("hello").expect("short").words();
    let word = prop_oneof![4 => 0u64..8, 1 => any::<u64>(), 1 => Just(u64::MAX)];
    prop_oneof![prop::array::uniform8(word), Just([hello[0], hello[1], hello[2], hello[3], 0, 0, 0, 0]),]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_message_upsets_the_root_server(
        messages in prop::collection::vec((0u32..12, prop_oneof![Just(0), Just(1), Just(GONE)], labels(), words(), any::<bool>()), 1..120)
    ) {
        let archive = boot_archive(SYSTEM);
        let mut root = start(&archive);
        let total = root.memory();
        let sum = total.free + total.processes;
        let replies = root.replies.len();
        for (pid, role, label, words, capability) in messages {
            let pid = if pid > 6 { SHELL } else { pid };
            let waiters = root.waiters.clone();
            let answer = send(&mut root, Badge { pid, role }, Message { label, words }, capability);
            let waits = root.waiters.last().is_some_and(|last| !waiters.contains(last));
            prop_assert_eq!(answer.is_none(), waits, "who isn't kept waiting is answered");
            prop_assert_eq!(root.kernel.occupied.len(), root.waiters.len(), "and no other Reply is occupied");
            let now = root.memory();
            prop_assert_eq!(now.free + now.processes, sum, "memory is in one place or the other");
            prop_assert_eq!(root.replies.len() + root.waiters.len(), replies, "no Reply is lost");
            let block_bytes: u64 = root.processes.iter().map(|(_, process)| process.block.bytes()).sum();
            prop_assert_eq!(block_bytes, now.processes);
        }
    }
}
