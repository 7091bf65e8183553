//! Jobs a second through `/execute`, durable, beside the rate at which this machine spawns
//! `/bin/true` under a semaphore of the same size; and what a thousand queued jobs weigh.
//!
//! `cargo bench --bench service`; `AFK_BENCH_JOBS` sets how many (1000).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(dead_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use serde_json::json;
use support::api::{Api, OPERATOR, section};
use support::world::World;

/// Permits in both.
const PERMITS: usize = 10;
/// Callers at once.
const CALLERS: usize = 32;

fn main() {
    // `cargo test --all-targets` and nextest start a bench to see that it runs.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let jobs = std::env::var("AFK_BENCH_JOBS").map_or(1000, |n| n.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("service                                    a second");
        let floor = spawned(jobs).await;
        println!("{:<40} {floor:>9.0}", "spawn of /bin/true");
        for workspace in [false, true] {
            let rate = executed(jobs, workspace).await;
            let what = if workspace { "no-op job in a clone" } else { "no-op job without a clone" };
            println!("{what:<40} {rate:>9.0}   ratio {:.2}", rate / floor);
        }
        weight().await;
    });
}

#[allow(clippy::cast_precision_loss)]
async fn spawned(count: usize) -> f64 {
    let permits = Arc::new(tokio::sync::Semaphore::new(PERMITS));
    let began = Instant::now();
    let all = (0..count).map(|_| {
        let permits = permits.clone();
        tokio::spawn(async move {
            let _permit = permits.acquire().await.unwrap();
            let done = tokio::process::Command::new("/bin/true").status().await.unwrap();
            assert!(done.success());
        })
    });
    futures::future::join_all(all.collect::<Vec<_>>()).await;
    count as f64 / began.elapsed().as_secs_f64()
}

fn world(permits: usize, workspace: bool) -> World {
    let world =
        World::new("").plain(&["sh", "-c", "echo '{\"type\":\"end\",\"status\":\"done\"}'"]);
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let http = section(&world);
    world
        .with(&format!("capacity = {permits}\nmax_queue_depth = 100000"))
        .with(&http)
        .with(&format!("[service]\nrepository = 'acme/thing'\nworkspace = {workspace}"))
}

#[allow(clippy::cast_precision_loss)]
async fn executed(count: usize, workspace: bool) -> f64 {
    let world = world(PERMITS, workspace);
    let api = Api::start(&world);
    let body = json!({"prompt": "nothing", "agent": "a"});
    let began = Instant::now();
    let ids: Vec<String> = futures::stream::iter(0..count)
        .map(|_| async {
            let (status, answer) = api.post("/execute", OPERATOR, body.clone()).await;
            assert_eq!(status, 202);
            answer["job_id"].as_str().unwrap().to_owned()
        })
        .buffer_unordered(CALLERS)
        .collect()
        .await;
    loop {
        let (_, health) = api.get("/health", None).await;
        if health["active"] == 0 && health["queued"] == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    for id in ids.iter().step_by(97) {
        let (_, job) = api.get(&format!("/jobs/{id}"), Some(OPERATOR)).await;
        assert_eq!(job["status"], "completed", "{job}");
    }
    rate
}

async fn weight() {
    let world = world(0, false);
    let api = Api::start(&world);
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", api.up.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let before = memory();
    let body = json!({"prompt": "x".repeat(500), "agent": "a"});
    futures::stream::iter(0..1000)
        .map(|_| async { assert_eq!(api.post("/execute", OPERATOR, body.clone()).await.0, 202) })
        .buffer_unordered(CALLERS)
        .collect::<Vec<()>>()
        .await;
    println!("memory: {before} MiB at rest, {} MiB with 1,000 queued jobs", memory());
}
