//! Whatever programs and devices do, the kernel's core and its specification stay in the same state, and answer the same.
//!
//! The first byte says how many cores there are. Each eight bytes behind it decide about one step: which core, whether its
//! program makes a system call (and which) or uses memory, whether an interrupt or time comes instead. So the fuzzer can
//! cut, repeat and put together steps, and follows what each made the kernel do. The oracle is that of the random tests.
#![no_main]
#![expect(dead_code, reason = "the random tests play in more ways than the fuzzer needs")]

use libfuzzer_sys::fuzz_target;

#[path = "../../kernel/spec/tests/refinement/abstraction.rs"]
mod abstraction;
#[path = "../../kernel/arch/sim/tests/random/generate.rs"]
mod generate;
#[path = "../../kernel/spec/tests/refinement/pair.rs"]
mod pair;
#[path = "../../kernel/spec/tests/refinement/random.rs"]
mod random;

fuzz_target!(|input: &[u8]| {
    let Some((cores, steps)) = input.split_first() else { return };
    let steps = steps.as_chunks::<8>().0.iter().map(|step| u64::from_le_bytes(*step));
    if let Err(difference) = random::follow(u64::from(cores % 3) + 1, steps) {
        panic!("{difference}");
    }
});
