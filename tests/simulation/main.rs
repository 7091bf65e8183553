//! The whole core in a seeded world, with faults, crashes between any two steps, and several
//! operators.
//!
//! `AFK_SIM_SCHEDULES` sets how many schedules run (10,000 in release, 300 in debug);
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

use world::World;

fn schedules() -> u64 {
    let set = std::env::var("AFK_SIM_SCHEDULES").ok().and_then(|n| n.parse().ok());
    set.unwrap_or(if cfg!(debug_assertions) { 300 } else { 10_000 })
}

#[test]
fn every_schedule_keeps_every_invariant() {
    if let Some(seed) = std::env::var("AFK_SIM_SEED").ok().and_then(|s| s.parse().ok()) {
        World::new(seed).play();
        return;
    }
    let (mut done, mut frozen, mut crashes, mut pushes, mut held) = (0, 0, 0, 0, 0);
    for seed in 0..schedules() {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.play();
            world.tally()
        });
        match result {
            Ok(tally) => {
                done += tally.done;
                frozen += tally.frozen;
                crashes += tally.crashes;
                pushes += tally.pushes;
                held += tally.held;
            }
            Err(panic) => {
                eprintln!(
                    "replay with AFK_SIM_SEED={seed} cargo test -p afk-core --test simulation"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    // Schedules without endings, crashes and pushes would prove nothing.
    println!("{done} done, {frozen} frozen, {crashes} crashes, {pushes} pushes, {held} held");
    assert!(done > 0 && frozen > 0 && crashes > 0 && pushes >= done && held > 0);
}
