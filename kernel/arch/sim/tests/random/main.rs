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

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anos_abi::object::Method;

use crate::episode::Episode;

/// Steps of one episode; then a fresh machine.
const EPISODE: u64 = 2500;
/// Steps of each test, unless `ANOS_STEPS` says otherwise.
const STEPS: u64 = 60_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A seed that is another one each time. Few digits: somebody may have to type it.
fn seed_from_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() % 1_000_000_000 + u64::from(since.subsec_nanos()))
}

/// How often each method was called, and how often it succeeded.
type Tally = BTreeMap<String, (u64, u64)>;

fn play(cores: u64) {
    let mut tally = Tally::new();
    if let Some(seed) = number("ANOS_SEED") {
        Episode::new(cores, seed).play(EPISODE, &mut tally);
        return;
    }
    let steps = number("ANOS_STEPS").unwrap_or(STEPS);
    let episodes = steps.div_ceil(EPISODE);
    let fresh = seed_from_the_clock();
    println!("{cores} cores; the seed from the clock is ANOS_SEED={fresh}");
    for seed in (1..=episodes).chain([fresh]) {
        Episode::new(cores, seed).play(EPISODE, &mut tally);
    }
    for (name, (calls, successes)) in &tally {
        println!("{name:24} {successes:>8} of {calls:>8}");
    }
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
