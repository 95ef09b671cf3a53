//! How a scene is explored: by loom in every order, by shuttle in orders drawn by lot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anos_explore::atomic;

#[cfg(loom)]
pub use loom::thread;
#[cfg(shuttle)]
pub use shuttle::thread;
#[cfg(shuttle)]
use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    scheduler::{PctScheduler, RandomScheduler, ReplayScheduler},
};

/// Orders of each scene and scheduler, unless ANOS_ORDERS says how many.
#[cfg(shuttle)]
const ORDERS: usize = 300;

/// How often a scene was played.
fn report(name: &str, count: &AtomicUsize) {
    println!("{name}: {} orders", count.load(Ordering::Relaxed));
}

/// Plays a scene in every order of its threads; if `preemptions` says so, only those in which they are interrupted at
/// most that often where they need not wait.
#[cfg(loom)]
pub fn explore(name: &str, preemptions: Option<usize>, scene: impl Fn() + Send + Sync + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let scene = Arc::new(scene);
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = preemptions;
    builder.check(move || {
        atomic::stop();
        counter.fetch_add(1, Ordering::Relaxed);
        let scene = scene.clone();
        // The whole kernel needs more of a stack than the first thread has.
        let stage = thread::Builder::new().stack_size(1 << 18).spawn(move || scene()).expect("a thread");
        stage.join().expect("the scene ends");
    });
    atomic::stop();
    report(name, &count);
}

/// The same, of all orders, and of everything from the start: for what is small.
#[cfg(loom)]
pub fn explore_all(name: &str, scene: impl Fn() + Send + Sync + 'static) {
    explore(name, None, move || {
        atomic::start();
        scene();
    });
}

/// Plays a scene in so many orders drawn by lot, and as many with few changes of priority (PCT: S. Burckhardt et al., "A
/// randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010). With ANOS_ORDER, only in the one
/// that lies in this file, where an earlier run left it when it failed.
#[cfg(shuttle)]
pub fn explore(name: &str, _preemptions: Option<usize>, scene: impl Fn() + Send + Sync + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let play = Arc::new(move || {
        atomic::stop();
        counter.fetch_add(1, Ordering::Relaxed);
        scene();
    });
    let mut config = Config::new();
    config.stack_size = 1 << 21;
    config.failure_persistence = FailurePersistence::File(Some(env!("CARGO_TARGET_TMPDIR").into()));
    config.max_steps = MaxSteps::FailAfter(200_000);
    config.silence_warnings = true;
    let again = play.clone();
    if let Ok(file) = std::env::var("ANOS_ORDER") {
        let replay = ReplayScheduler::new_from_file(file).expect("an order");
        Runner::new(replay, config).run(move || again());
    } else {
        let orders = std::env::var("ANOS_ORDERS").map_or(ORDERS, |orders| orders.parse().expect("a number"));
        Runner::new(RandomScheduler::new(orders), config.clone()).run(move || again());
        Runner::new(PctScheduler::new(4, orders), config).run(move || play());
    }
    atomic::stop();
    report(name, &count);
}
