//! The whole core in a seeded world, with faults, crashes between any two steps, and several
//! operators.
//!
//! `AFK_SIM_SCHEDULES` sets how many schedules run (100,000 in release, 300 in debug);
//! `AFK_SIM_SEED` replays one. A failing seed is printed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by a panic, and prints what it counted"
)]
#![allow(clippy::unused_self, reason = "the methods of the world read alike")]

mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use world::{Tally, World};

fn schedules() -> u64 {
    let set = std::env::var("AFK_SIM_SCHEDULES").ok().and_then(|n| n.parse().ok());
    set.unwrap_or(if cfg!(debug_assertions) { 300 } else { 100_000 })
}

/// Plays one schedule; a panic names its seed.
fn play(seed: u64) -> Tally {
    let played = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        world.play();
        world.tally()
    });
    played.unwrap_or_else(|panic| {
        eprintln!("replay with AFK_SIM_SEED={seed} cargo test -p afk-core --test simulation");
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn every_schedule_keeps_every_invariant() {
    if let Some(seed) = std::env::var("AFK_SIM_SEED").ok().and_then(|s| s.parse().ok()) {
        World::new(seed).play();
        return;
    }
    let (next, schedules) = (AtomicU64::new(0), schedules());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sum = std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut sum = Tally::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= schedules {
                            return sum;
                        }
                        sum.add(&play(seed));
                    }
                })
            })
            .collect();
        let mut sum = Tally::default();
        for player in players {
            match player.join() {
                Ok(tally) => sum.add(&tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        sum
    });
    // Schedules without endings, crashes and pushes would prove nothing.
    let Tally { done, frozen, crashes, pushes, held } = sum;
    println!(
        "{schedules} schedules: {done} done, {frozen} frozen, {crashes} crashes, {pushes} pushes, \
         {held} held"
    );
    assert!(done > 0 && frozen > 0 && crashes > 0 && pushes >= done && held > 0);
}
