//! Measures durable jobs a second through `/execute`, and the memory of a thousand queued jobs.
//!
//! The agent of a no-op job is `/bin/true`. The floor is the rate at which this machine spawns the
//! same program under a semaphore of the same size.
//!
//! Run it with `cargo bench --bench service`. `AFK_BENCH_JOBS` sets the number of jobs (1000).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench may panic, and prints its figures"
)]
#![allow(dead_code, reason = "a bench uses a part of the tests' support")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use serde_json::json;
use support::api::{Api, OPERATOR, section};
use support::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The permits of afk, and of the floor's semaphore.
const PERMITS: usize = 10;
/// The number of measurements of each rate.
const ROUNDS: usize = 5;
/// The number of concurrent callers.
const CALLERS: usize = 32;

/// An agent that is `/bin/true`, and the smallest agent that writes a line of JSON.
const AGENTS: &str = r#"
[agents.nothing]
speaks = 'text'
command = ['/bin/true']
[agents.lines]
command = ['/bin/sh', '-c', '''echo '{"type":"end","status":"done"}' ''']
"#;

fn main() {
    // `cargo test --all-targets` and nextest start a bench to see that it runs.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let jobs = std::env::var("AFK_BENCH_JOBS").map_or(1000, |n| n.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("service                  spawn of /bin/true   no-op job   ratio");
        let mut ratios = Vec::new();
        // Deleting a world would slow the creation of files in the next round.
        let mut kept = Vec::new();
        for round in 1..=ROUNDS {
            // In pairs, since the speed of the machine varies.
            let (floor, rate) =
                (spawned(jobs).await, executed(jobs, "nothing", false, &mut kept).await);
            println!("round {round:<18} {floor:>11.0}/s {rate:>9.0}/s    {:.2}", rate / floor);
            ratios.push(rate / floor);
        }
        ratios.sort_by(f64::total_cmp);
        println!("median {:>49.2}", ratios[ROUNDS / 2]);
        let lines = executed(jobs, "lines", false, &mut kept).await;
        println!("no-op jobs that speak JSON lines {lines:>12.0}/s");
        let cloned = executed(jobs, "nothing", true, &mut kept).await;
        println!("no-op jobs in a clone {cloned:>23.0}/s");
        memory_of_queued_jobs().await;
    });
}

#[allow(clippy::cast_precision_loss, reason = "figures for people are rounded anyway")]
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
    let world = World::new("");
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let http = section(&world);
    world
        .with(&format!("capacity = {permits}\nmax_queue_depth = 100000"))
        .with(&http)
        .with(&format!("[service]\nrepository = 'acme/thing'\nworkspace = {workspace}"))
        .with(AGENTS)
}

#[allow(clippy::cast_precision_loss, reason = "figures for people are rounded anyway")]
async fn executed(
    count: usize,
    agent: &'static str,
    workspace: bool,
    kept: &mut Vec<World>,
) -> f64 {
    let world = world(PERMITS, workspace);
    let api = Api::start(&world);
    let began = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let address = api.address.trim_start_matches("http://").to_owned();
        let jobs = count / CALLERS + usize::from(caller < count % CALLERS);
        tokio::spawn(call(address, agent, jobs))
    });
    let ids = futures::future::join_all(callers.collect::<Vec<_>>()).await;
    let ids: Vec<String> = ids.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(ids.len(), count);
    let mut every = tokio::time::interval(std::time::Duration::from_millis(10));
    loop {
        every.tick().await;
        let (_, health) = api.get("/health", None).await;
        if health["active"] == 0 && health["queued"] == 0 {
            break;
        }
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    for id in ids.iter().step_by(97) {
        let (_, job) = api.get(&format!("/jobs/{id}"), Some(OPERATOR)).await;
        assert_eq!(job["status"], "completed", "{job}");
    }
    drop(api);
    kept.push(world);
    rate
}

/// One caller, which submits its jobs over one connection. It does as little work as possible,
/// since it shares the machine with the measured program.
async fn call(address: String, agent: &str, jobs: usize) -> Vec<String> {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let body = json!({"prompt": "nothing", "agent": agent}).to_string();
    let request = format!(
        "POST /execute HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {OPERATOR}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut ids = Vec::with_capacity(jobs);
    let mut answer = vec![0; 4096];
    for _ in 0..jobs {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = 0;
        let id = loop {
            let more = stream.read(&mut answer[read..]).await.unwrap();
            assert!(more > 0, "the connection was closed");
            read += more;
            let text = std::str::from_utf8(&answer[..read]).unwrap();
            assert!(text.starts_with("HTTP/1.1 202"), "{text}");
            // The answer is complete once it ends with its JSON object.
            if let Some(id) = text.split("\"job_id\":\"").nth(1).filter(|_| text.ends_with('}')) {
                break id[..12].to_owned();
            }
        };
        ids.push(id);
    }
    ids
}

async fn memory_of_queued_jobs() {
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
