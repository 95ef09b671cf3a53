//! The whole system, at random: several programs make plausible and absurd system calls, use memory, fault; interrupts
//! come, time passes; cores stop where it hurts. After every step all rules are checked.
//!
//! Every run plays the same episodes, and one more with a seed from the clock, so that many runs see more than one.
//!
//! A failing run prints its seed: `ANOS_SEED=n cargo test -p anos-sim --test random` plays exactly that one again.
//! `ANOS_STEPS=n` sets how many steps each test takes in all.

mod episode;
mod generate;
mod watch;

use anos_abi::object::Method;

use crate::episode::Episode;
use crate::generate::Tally;

/// Steps of one episode; then a fresh machine.
const EPISODE: u64 = 2500;
/// Steps of each test, unless `ANOS_STEPS` says otherwise.
const STEPS: u64 = 60_000;

fn play(cores: u64) {
    let episode = |seed, tally: &mut Tally| Episode::new(cores, seed).play(EPISODE, tally);
    let Some((tally, steps)) = generate::play(cores, EPISODE, STEPS, episode) else { return };
    // Power off and reboot never come back, and so never succeed; 50,000 steps reach everything else.
    let missing = |method: &&Method| {
        let name = format!("{method:?}");
        **method != Method::DebugReset && tally.get(&name).is_none_or(|&(_, successes)| successes == 0)
    };
    let missing: Vec<_> = Method::ALL.iter().filter(missing).collect();
    assert!(missing.is_empty() || steps < 50_000, "never succeeded: {missing:?}");
    for state in ["Stopped", "Ready", "Sending", "Calling", "Receiving", "Faulted"] {
        assert!(tally.contains_key(&format!("(became {state})")), "no thread ever was {state}");
    }
}

#[test]
fn one_core_keeps_every_rule() {
    play(1);
}

#[test]
fn two_cores_keep_every_rule() {
    play(2);
}

#[test]
fn three_cores_keep_every_rule() {
    play(3);
}

#[test]
fn four_cores_keep_every_rule() {
    play(4);
}
