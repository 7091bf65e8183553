//! The first clone of a repository whose remote is slow: it delays no other repository, shows how
//! far it is, is shared by retries, and ends with afk.

use std::time::{Duration, Instant};

use afk::config::repos::RepositoryConfig;
use afk::core::model::activity::Activity;
use afk::core::model::command::{Accepted, Command};
use afk::core::model::id::{IssueKey, Repo};
use afk::core::model::run::{Outcome, Run};
use afk::runtime::Snapshot;

use crate::support::slow_git::{SlowGit, Transfer};
use crate::support::world::{END, WORK, World, command, ended, run_of, until, wait_until};
use crate::support::{git, journal_id, processes_with, try_git};

/// Commits a file that doesn't compress, and returns its size.
fn commit_large(world: &World, branch: &str) -> u64 {
    let work = world.path("work");
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let bytes: Vec<u8> = (0..1_000_000)
        .map(|_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise.to_le_bytes()[branch.len() % 8]
        })
        .collect();
    // Many objects, so that git counts them while they arrive.
    for (number, part) in bytes.chunks(10_000).enumerate() {
        std::fs::write(work.join(format!("{branch}-{number}")), part).unwrap();
    }
    git(&work, &["checkout", "-q", "-B", branch]);
    git(&work, &["add", "--all"]);
    git(&work, &["commit", "-q", "-m", branch]);
    git(&work, &["push", "-q", world.remote().to_str().unwrap(), branch]);
    bytes.len() as u64
}

fn other(snapshot: &Snapshot) -> Option<&Run> {
    let key = IssueKey::parse("acme/other#1").unwrap();
    let id = snapshot.fleet.last_run.get(&key)?;
    snapshot.fleet.runs.get(id).map(AsRef::as_ref)
}

/// Waits until the first issue's run shows a text that fits.
async fn shows(runtime: &afk::runtime::Runtime, fits: impl Fn(&str) -> bool) -> String {
    until(runtime, "the progress of the clone", |s| {
        let run = run_of(&s.fleet, 1)?;
        let shown = s.standing(run, s.fleet.last_event);
        fits(&shown).then_some(shown)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_first_clone_delays_no_other_repository_and_shows_its_percent() {
    let world = World::new(&format!("{WORK}\n{END}"));
    commit_large(&world, "master");
    git(world.root(), &["clone", "-q", "--bare", "remote.git", "other.git"]);
    let server = SlowGit::serve(world.root(), &[Transfer::Hold(400_000)]).await;
    let world = world
        .at(format!("{}/remote.git", server.address))
        .with("capacity = 1\n[limits]\ngit_seconds = 3");
    let mut config = world.config();
    let name = Repo::parse("acme/other").unwrap();
    let remote = world.path("other.git").display().to_string();
    let known = RepositoryConfig { remote, ..RepositoryConfig::default() };
    config.repos.insert(name.clone(), known);
    config.allowlist.insert(name);
    // Before afk labels the first issue as its own.
    let text = std::fs::read_to_string(world.path("issues/1.md")).unwrap();
    let text = text.replace("acme/thing", "acme/other");
    let runtime = world.try_start(config, None).await.unwrap();
    let begun = Instant::now();
    let shown = shows(&runtime, |text| text.contains('%')).await;
    assert!(shown.starts_with("queued · cloning ") && shown.ends_with(" %"), "{shown}");

    // The other repository is armed only now.
    std::fs::write(world.path("issues/other.md"), text).unwrap();
    until(&runtime, "the run of the other repository", |s| other(s).map(|_| ())).await;
    let armed = Instant::now();
    until(&runtime, "its first turn", |s| (other(s)?.agent.turns > 0).then_some(())).await;
    let waited = armed.elapsed();
    println!("the other repository's first turn began after {} ms", waited.as_millis());
    until(&runtime, "its end", |s| {
        (other(s)?.progress.outcome == Some(Outcome::Done)).then_some(())
    })
    .await;
    assert!(waited < Duration::from_secs(5), "{waited:?}");

    // The clone may take longer than any other call of git.
    wait_until("the limit of other calls", || begun.elapsed() > Duration::from_secs(4)).await;
    {
        let snapshot = runtime.handle.snapshots.borrow().clone();
        let run = run_of(&snapshot.fleet, 1).unwrap();
        assert_eq!((&run.progress.activity, run.progress.failures), (&Activity::Waiting, 0));
        assert!(snapshot.progress.contains_key(&run.id));
    }
    server.release();
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    assert!(runtime.handle.snapshots.borrow().progress.is_empty());
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_of_a_first_clone_keeps_the_branch_that_has_arrived() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let size = commit_large(&world, "master");
    git(&world.path("work"), &["checkout", "-q", "--orphan", "elsewhere"]);
    commit_large(&world, "elsewhere");
    let plan = [Transfer::Whole, Transfer::Cut(200_000)];
    let server = SlowGit::serve(world.root(), &plan).await;
    let world = world.at(format!("{}/remote.git", server.address));
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    runtime.stop().await;
    let sent = server.sent();
    assert!(sent[0] > size, "the branch arrives first: {sent:?}");
    assert!(sent[2] < size / 10, "the retry has the branch: {sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn first_clone_ends_with_afk_and_goes_on_at_its_next_start() {
    let world = World::new(&format!("{WORK}\n{END}"));
    commit_large(&world, "master");
    let server = SlowGit::serve(world.root(), &[Transfer::Hold(400_000)]).await;
    let world = world.at(format!("{}/remote.git", server.address));
    let runtime = world.start().await;
    shows(&runtime, |text| text.contains('%')).await;
    let begun = Instant::now();
    runtime.stop().await;
    // Without an end of its own, git is left ten seconds to end by itself.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let id = journal_id(&world.state());
    assert_eq!(processes_with("AFK_STATE", &id), Vec::<i32>::new());
    wait_until("the end of the connection", || server.open() == 0).await;

    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    runtime.stop().await;
    assert!(try_git(&world.remote(), &["fsck", "--strict"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn first_clone_of_a_run_that_ended_is_given_up() {
    let world = World::new(&format!("{WORK}\n{END}"));
    commit_large(&world, "master");
    let server = SlowGit::serve(world.root(), &[Transfer::Hold(400_000)]).await;
    let world = world.at(format!("{}/remote.git", server.address)).with("capacity = 1");
    let runtime = world.start().await;
    shows(&runtime, |text| text.contains("cloning")).await;
    let run = run_of(&runtime.handle.snapshots.borrow().fleet, 1).unwrap().id;
    assert_eq!(command(&runtime, Command::Cancel { run }).await, Ok(Accepted::Ok));
    wait_until("the end of the connection", || server.open() == 0).await;
    runtime.stop().await;
}
