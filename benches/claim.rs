//! Measures the time from a claim to a program behind the wall at level strong, beside
//! `git worktree add` of the same commit by the git program: in pairs that alternate within one
//! process, since the speed of the machine varies.
//!
//! The first rows measure the claim of a warm workspace (`Pool::take`, the fetch included) and the
//! spawn of a program with the grants of an agent, up to the program's first byte. The others go
//! through a whole runtime, from the durable claim in the journal to the first action of the agent.
//!
//! Run it with `cargo bench --bench claim`. `AFK_BENCH_FILES` sets the sizes of the repositories
//! (100,20000), `AFK_BENCH_PAIRS` the number of pairs (11). Give it a folder of its own directly below
//! `/` (`TMPDIR`), as docs/performance.md explains.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench may panic, and prints its figures"
)]
#![allow(dead_code, reason = "a bench uses a part of the tests' support")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use afk::core::model::event::Event;
use afk::core::model::id::RunId;
use afk::journal::Journal;
use afk::process::level::strongest;
use afk::process::{Spec, StdinMode, Supervisor};
use afk::runtime::Runtime;
use afk::sandbox::{Level, Sandbox};
use afk::workspace::base::Base;
use afk::workspace::first_clone::FirstClone;
use afk::workspace::git::Git;
use afk::workspace::pool::{Pool, Sandboxes};
use support::world::{END, WORK, World, until};
use support::{AFK, git};
use tokio::io::AsyncReadExt;

fn main() {
    // `cargo test --all-targets` and nextest start a bench to see that it runs.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let level = strongest(Path::new(AFK)).level;
    assert_eq!(level, Level::Strong, "this machine allows less");
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{:<44} {:>9} {:>12} {:>7}", "medians", "afk", "git worktree", "ratio");
    for files in sizes() {
        tokio.block_on(claim_and_spawn(files));
    }
    for files in sizes() {
        tokio.block_on(claim_to_agent(files));
    }
}

fn sizes() -> Vec<usize> {
    let set = std::env::var("AFK_BENCH_FILES").unwrap_or_else(|_| "100,20000".into());
    set.split(',').map(|n| n.parse().unwrap()).collect()
}

fn pairs() -> u64 {
    std::env::var("AFK_BENCH_PAIRS").map_or(11, |n| n.parse().unwrap())
}

fn median(times: impl IntoIterator<Item = f64>) -> f64 {
    let mut times: Vec<f64> = times.into_iter().collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Prints the medians of pairs, and the median of their ratios.
fn row(what: &str, pairs: &[(f64, f64)]) {
    let (ours, theirs) = (pairs.iter().map(|pair| pair.0), pairs.iter().map(|pair| pair.1));
    let ratio = median(pairs.iter().map(|(ours, theirs)| ours / theirs));
    println!("{what:<44} {:>7.1}ms {:>10.1}ms {ratio:>7.3}", median(ours), median(theirs));
}

/// Writes `files` files into folders of 200.
fn fill(folder: &Path, files: usize) {
    for n in 0..files {
        let path = folder.join(format!("files/{}/{n}.txt", n / 200));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("file {n}\n")).unwrap();
    }
}

/// `git worktree add` in a repository, without a branch.
fn worktree_add(repository: &Path, path: &Path, commit: &str) -> f64 {
    let began = Instant::now();
    git(repository, &["worktree", "add", "-q", "--detach", path.to_str().unwrap(), commit]);
    ms(began.elapsed())
}

/// Lets what was written before not count as the time of what is measured next.
fn settle() {
    rustix::fs::sync();
}

#[derive(Debug)]
struct NoSandbox;

impl Sandboxes for NoSandbox {
    fn of(&self, _workspace: &Path) -> Result<Option<Sandbox>, String> {
        Ok(None)
    }
}

/// What an agent gets: the system, the folders of `PATH`, the borrowed objects; its workspace, its
/// caches, and a home and temporary files of its own.
fn sandbox(folder: &Path, workspace: &Path) -> Sandbox {
    let path = std::env::var_os("PATH").unwrap();
    let mut read: Vec<PathBuf> = std::env::split_paths(&path).collect();
    read.push(folder.join("pool/base.git/objects"));
    let own = |name: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    Sandbox {
        read,
        write: vec![workspace.to_owned(), own("caches")],
        hidden: vec![folder.join("pool")],
        home: Some(own("home")),
        temporary: Some(own("tmp")),
        ..Sandbox::granting_nothing(Level::Strong)
    }
}

async fn claim_and_spawn(files: usize) {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("repo");
    fill(&repo, files);
    git(&repo, &["init", "-q", "--initial-branch=one"]);
    git(&repo, &["add", "--all"]);
    git(&repo, &["commit", "-q", "-m", "one"]);
    let supervisor = Supervisor::new(AFK.into(), "bench".into(), Duration::from_secs(1));
    let folder = dir.path().join("pool");
    let caller = Git::new(&folder, &supervisor, "bench", Duration::from_secs(60));
    let first_clone = FirstClone { limit: Duration::from_secs(60), seen: &|_| {} };
    let base =
        Base::open(&folder.join("base.git"), repo.to_str().unwrap(), "one", &caller, first_clone)
            .await
            .unwrap();
    let pool = Pool::open(base, &folder, 0, Arc::new(NoSandbox), BTreeSet::new()).await.unwrap();
    let (mut takes, mut spawns, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..pairs() {
        pool.warm().await.unwrap();
        settle();
        let added = dir.path().join(format!("added-{n}"));
        let add = || worktree_add(&folder.join("base.git"), &added, "refs/remotes/origin/one");
        let before = (n % 2 == 1).then(add);
        let began = Instant::now();
        let taken = pool.take(&format!("work-{n}"), None).await.unwrap();
        let took = began.elapsed();
        let line = "echo; cat .git/HEAD";
        let spec = Spec::shell("r1", line, &taken.path);
        let spec = Spec { sandbox: Some(sandbox(dir.path(), &taken.path)), ..spec };
        let mut started = supervisor.start(&spec, StdinMode::Null).unwrap();
        let mut stdout = started.child.stdout.take().unwrap();
        let mut first = [0];
        stdout.read_exact(&mut first).await.unwrap();
        let ours = began.elapsed();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest.trim(), format!("ref: refs/heads/work-{n}"));
        assert!(started.child.wait().await.unwrap().success());
        let theirs = before.unwrap_or_else(|| {
            settle();
            worktree_add(&folder.join("base.git"), &added, "refs/remotes/origin/one")
        });
        takes.push((ms(took), theirs));
        spawns.push((ms(ours.saturating_sub(took)), theirs));
        whole.push((ms(ours), theirs));
    }
    row(&format!("claim and spawn, {files} files"), &whole);
    row("  of it the claim", &takes);
    row("  of it the spawn", &spawns);
}

/// From the claim in the journal to the first action of the agent.
async fn claim_to_agent(files: usize) {
    let script =
        format!("date +%s%N >> \"$OUT/started\"; {}\n{END}", WORK.replace("state", "s$AFK_ISSUE"));
    let world = World::new(&script);
    fill(&world.path("work"), files);
    world.commit("Fill");
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let repository = support::repository_folder(&world.state(), "acme/thing");
    let base = repository.join("base.git");
    let is_warm = || {
        let fresh = std::fs::read_dir(repository.join("fresh")).into_iter().flatten().flatten();
        fresh.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("tree-"))
    };
    let mut added = Vec::new();
    let runtime = Runtime::start(world.config(), &world.state(), AFK.into(), None).await.unwrap();
    for n in 1..=pairs() + 1 {
        let add = || {
            settle();
            let path = world.path(&format!("added-{n}"));
            worktree_add(&base, &path, "refs/remotes/origin/master")
        };
        let before = (n % 2 == 0).then(add);
        settle();
        world.issue(n, "Do it", "armed_by = 'ana'");
        until(&runtime, "done", |s| {
            s.fleet.runs.get(&RunId(n)).and_then(|run| run.progress.outcome)
        })
        .await;
        support::world::wait_until("a warm workspace", is_warm).await;
        added.push(before.unwrap_or_else(add));
    }
    runtime.stop().await;
    let mut claims = Vec::new();
    let journal = Journal::open_read_only(&world.state()).unwrap();
    journal
        .read(1, |record| {
            if let Event::Claimed { .. } = record.event()? {
                claims.push(record.at.0);
            }
            Ok(true)
        })
        .unwrap();
    let started = std::fs::read_to_string(world.path("started")).unwrap();
    let started = started.lines().map(|ns| ns.parse::<i64>().unwrap() / 1000);
    let times = started.zip(&claims).map(|(started, claim)| {
        let us = u64::try_from(started - claim * 1000).unwrap_or(0);
        ms(Duration::from_micros(us))
    });
    let all: Vec<(f64, f64)> = times.zip(added).collect();
    row(&format!("claim to agent, {files} files, cold"), &all[..1]);
    row(&format!("claim to agent, {files} files, warm"), &all[1..]);
}
