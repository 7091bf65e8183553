//! Parts of the environment that go away and come back: every run waits in its phase, nobody is
//! asked about a short outage, nothing is pushed twice, and everything goes on by itself.

use std::path::Path;
use std::time::Duration;

use afk::config::Config;
use afk::config::repos::RepositoryConfig;
use afk::core::model::activity::Activity;
use afk::core::model::id::Repo;
use afk::core::model::ledger::Reason;
use afk::core::model::outage::OutageKind;
use afk::core::model::run::{Outcome, Run};
use afk::runtime::{Runtime, Snapshot};

use crate::support::github::{Fault, GitHub};
use crate::support::world::{END, WORK, World, ended, ended_within, run_of, until, until_within};
use crate::support::{afk, git, log, repository_folder, text};

/// Tries once a second.
const OFTEN: &str = "[outages]\nlongest_pause_seconds = 1";

fn held(run: &Run) -> Option<OutageKind> {
    match &run.progress.activity {
        Activity::Held { cause, .. } => Some(cause.kind),
        _ => None,
    }
}

/// Waits until the first issue's run waits for the end of an outage that was tried several times.
async fn waits(runtime: &Runtime, kind: OutageKind) -> Snapshot {
    until(runtime, "a run that waits", |s| {
        let failures = s.fleet.outages.holding().map(|outage| outage.failures).max()?;
        let waits = run_of(&s.fleet, 1).and_then(held) == Some(kind) && failures > 2;
        waits.then(|| s.clone())
    })
    .await
}

/// Checks that the run ended well, at no cost and with no question.
fn is_well(world: &World, runtime: &Runtime, run: &Run) {
    assert_eq!(
        run.progress.outcome,
        Some(Outcome::Done),
        "{}\n{}",
        run.progress.why.clean(),
        world.transcript(1)
    );
    assert_eq!((run.progress.attempts, run.agent.turns), (0, 1));
    let snapshot = runtime.handle.snapshots.borrow();
    assert!(snapshot.fleet.escalations.is_empty(), "{:?}", snapshot.fleet.escalations);
    assert_eq!(log(&world.remote(), "master", "%s").last().unwrap(), "Do it");
    let moved = git(&world.remote(), &["reflog", "show", "--format=%gs", "master"]);
    let pushes = moved.lines().count();
    let commits = log(&world.remote(), "master", "%s").len();
    assert_eq!(pushes, commits - 1, "one push of two commits: {moved}");
}

fn take_away(path: &Path) {
    std::fs::rename(path, path.with_extension("away")).unwrap();
}

fn bring_back(path: &Path) {
    std::fs::rename(path.with_extension("away"), path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_that_is_away_at_the_gate_holds_the_run_and_it_goes_on() {
    let script = format!("{WORK}\nmv $OUT/remote.git $OUT/remote.away\n{END}");
    let world = World::new(&script).with(OFTEN);
    let runtime = world.start().await;
    let snapshot = waits(&runtime, OutageKind::Remote).await;
    let line = snapshot.problems.iter().find(|line| line.contains("can't be reached"));
    assert!(line.is_some_and(|line| line.contains("1 run waits")), "{:?}", snapshot.problems);
    let row = snapshot.standing(run_of(&snapshot.fleet, 1).unwrap(), snapshot.fleet.last_event);
    assert!(row.contains("waiting: the remote"), "{row}");
    for words in [&["status"][..], &["explain", "r1"][..]] {
        let places = world.places();
        let args: Vec<&str> =
            places.iter().map(String::as_str).chain(words.iter().copied()).collect();
        let shown = text(&afk(&args).output().unwrap().stdout);
        assert!(shown.contains("can't be reached"), "{words:?}: {shown}");
    }
    bring_back(&world.remote());
    let run = ended(&runtime).await;
    is_well(&world, &runtime, &run);
    let left = runtime.handle.snapshots.borrow().fleet.outages.clone();
    assert!(left.is_empty(), "{left:?}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_survives_a_restart_and_the_run_goes_on() {
    let script = format!("{WORK}\nmv $OUT/remote.git $OUT/remote.away\n{END}");
    let world = World::new(&script).with(OFTEN);
    let runtime = world.start().await;
    waits(&runtime, OutageKind::Remote).await;
    runtime.stop().await;
    let runtime = world.start().await;
    until(&runtime, "the run", |s| {
        (run_of(&s.fleet, 1).and_then(held) == Some(OutageKind::Remote)).then_some(())
    })
    .await;
    bring_back(&world.remote());
    let run = ended(&runtime).await;
    is_well(&world, &runtime, &run);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_outage_asks_one_question_that_withdraws_itself() {
    let world = World::new(&format!("{WORK}\n{END}"))
        .with("[outages]\nlongest_pause_seconds = 1\nask_minutes = 0");
    let config = world.config();
    take_away(&world.remote());
    let runtime = world.try_start(config, None).await.unwrap();
    let snapshot = waits(&runtime, OutageKind::Remote).await;
    let inbox = snapshot.fleet.inbox();
    assert_eq!(inbox.len(), 1, "{inbox:?}");
    assert_eq!((inbox[0].kind.as_str(), inbox[0].run), ("outage", None));
    bring_back(&world.remote());
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", world.transcript(1));
    let all = runtime.handle.snapshots.borrow().fleet.clone();
    assert!(all.inbox().is_empty() && all.escalations.len() == 1, "{:?}", all.escalations);
    runtime.stop().await;
}

/// Gives the world two more repositories with three issues each.
fn nine_issues(world: &World) -> Config {
    let mut config = world.config();
    let first = std::fs::read_to_string(world.path("issues/1.md")).unwrap();
    for name in ["thing", "two", "three"] {
        let repo = format!("acme/{name}");
        for number in 1..=3 {
            let issue = first.replace("acme/thing", &repo);
            let issue = issue.replace("number = 1", &format!("number = {number}"));
            std::fs::write(world.path(&format!("issues/{name}-{number}.md")), issue).unwrap();
        }
        if name == "thing" {
            continue;
        }
        git(world.root(), &["clone", "-q", "--bare", "remote.git", &format!("{name}.git")]);
        let remote = world.path(&format!("{name}.git")).display().to_string();
        let repo = Repo::parse(&repo).unwrap();
        config
            .repos
            .insert(repo.clone(), RepositoryConfig { remote, ..RepositoryConfig::default() });
        config.allowlist.insert(repo);
    }
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_issues_in_three_repositories_outlast_their_remotes() {
    let work = "echo true > tests/$AFK_ISSUE.sh; echo \"grep -q done-$AFK_ISSUE state\" > tests/$AFK_ISSUE.sh\n\
                git add tests && git $US commit -qm 'Test it'\n\
                echo done-$AFK_ISSUE >> state && git add state && git $US commit -qm \"Do $AFK_ISSUE\"";
    let world = World::new(&format!("{work}\n{END}")).with(OFTEN);
    let config = nine_issues(&world);
    let remotes = ["remote.git", "two.git", "three.git"].map(|name| world.path(name));
    for path in &remotes {
        take_away(path);
    }
    let runtime = world.try_start(config, None).await.unwrap();
    let snapshot = until(&runtime, "three runs that wait", |s| {
        let waiting = s.fleet.live_runs().filter(|run| held(run).is_some()).count();
        let tries: u32 = s.fleet.outages.holding().map(|outage| outage.failures).sum();
        (waiting == 3 && tries > 6).then(|| s.clone())
    })
    .await;
    assert_eq!(snapshot.fleet.runs.len(), 3, "no other issue is picked up");
    assert!(snapshot.fleet.escalations.is_empty(), "{:?}", snapshot.fleet.escalations);
    for path in &remotes {
        bring_back(path);
    }
    let limit = Duration::from_secs(240);
    let fleet = until_within(&runtime, "nine ended runs", limit, |s| {
        let ended = s.fleet.runs.values().filter(|run| run.progress.outcome.is_some()).count();
        (ended == 9).then(|| s.fleet.clone())
    })
    .await;
    for run in fleet.runs.values() {
        let why = run.progress.why.clean();
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}: {why}", run.id);
        assert_eq!(run.agent.turns, 1, "{}", run.id);
    }
    assert!(fleet.escalations.is_empty());
    for remote in &remotes {
        let done = log(remote, "master", "%s").into_iter().filter(|line| line.starts_with("Do "));
        assert_eq!(done.count(), 3, "{}", remote.display());
    }
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_holds_runs_until_there_is_room() {
    const MIB: u64 = 1024 * 1024;
    let world = World::new(&format!("{WORK}\n{END}"));
    let stat = rustix::fs::statvfs(world.root()).unwrap();
    let free = stat.f_bavail * stat.f_frsize / MIB;
    if free < 8 * 1024 {
        println!("SKIPPED: the disk has too little room for this test");
        return;
    }
    let needed = free - 2 * 1024;
    let world = world.with(&format!("{OFTEN}\n[limits]\ndisk_free_mib = {needed}"));
    let large = world.path("large");
    let file = std::fs::File::create(&large).unwrap();
    let flags = rustix::fs::FallocateFlags::empty();
    if rustix::fs::fallocate(&file, flags, 0, 4 * 1024 * MIB).is_err() {
        println!("SKIPPED: this file system allocates nothing in advance");
        return;
    }
    let runtime = world.start().await;
    let snapshot = waits(&runtime, OutageKind::Disk).await;
    assert!(snapshot.fleet.escalations.is_empty());
    std::fs::remove_file(&large).unwrap();
    drop(file);
    let run = ended(&runtime).await;
    is_well(&world, &runtime, &run);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_limit_of_the_disk_holds_the_next_run_and_lets_it_go_on() {
    let world = World::new(&format!("{WORK}\n{END}")).with(OFTEN);
    let config = world.config();
    let file = world.path("afk.toml");
    let runtime = world.try_start(config, Some(file.clone())).await.unwrap();
    ended(&runtime).await;
    let usual = std::fs::read_to_string(&file).unwrap();
    let strict = "capacity = 2\n[limits]\ndisk_free_mib = 999999999\n[outages]";
    std::fs::write(&file, usual.replacen("[outages]", strict, 1)).unwrap();
    until(&runtime, "the new limit", |s| (s.fleet.policy.capacity == 2).then_some(())).await;
    // A tree that was made before needs no more room.
    let fresh = repository_folder(&world.state(), "acme/thing").join("fresh");
    for tree in std::fs::read_dir(fresh).unwrap().flatten() {
        std::fs::remove_dir_all(tree.path()).unwrap();
    }
    world.issue(2, "Do more", "armed_by = 'ana'");
    until(&runtime, "a run that waits", |s| {
        (run_of(&s.fleet, 2).and_then(held) == Some(OutageKind::Disk)).then_some(())
    })
    .await;
    std::fs::write(&file, usual).unwrap();
    until(&runtime, "the end of the second run", |s| {
        run_of(&s.fleet, 2).filter(|run| held(run).is_none() && run.agent.turns > 0).map(|_| ())
    })
    .await;
    assert!(runtime.handle.snapshots.borrow().fleet.inbox().is_empty());
    runtime.stop().await;
}

fn on_github() -> (World, GitHub) {
    let world = World::new(&format!("{WORK}\n{END}"))
        .rules("[ci]\ngithub = true\npoll_ms = 100")
        .with(OFTEN);
    let github = GitHub::start(&world.remote());
    let world = world.on(&github);
    (world, github)
}

#[tokio::test(flavor = "multi_thread")]
async fn login_that_is_refused_at_the_push_for_a_while_costs_nothing() {
    let (world, github) = on_github();
    github.fault("POST", "git-receive-pack", Fault::Status(401, vec![], "no"), 3);
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    is_well(&world, &runtime, &run);
    assert!(world.transcript(1).contains("doesn't accept the login"), "{}", world.transcript(1));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ci_that_is_away_holds_the_run_and_freezes_nothing() {
    let (world, github) = on_github();
    github.fault("GET", "check-runs", Fault::Status(503, vec![], "down"), 14);
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let snapshot = until(&runtime, "the outage of CI", |s| {
        (run_of(&s.fleet, 1).and_then(held) == Some(OutageKind::Forge)).then(|| s.clone())
    })
    .await;
    let run = run_of(&snapshot.fleet, 1).unwrap();
    assert!(run.workspace.pushed.is_some());
    let run = ended_within(&runtime, Duration::from_secs(120)).await;
    is_well(&world, &runtime, &run);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_of_one_host_keeps_no_other_repository_from_starting() {
    let world = World::new(&format!("{WORK}\n{END}")).with(OFTEN);
    let config = nine_issues(&world);
    take_away(&world.remote());
    let runtime = world.try_start(config, None).await.unwrap();
    let fleet = until(&runtime, "work in the other repositories", |s| {
        let done = s.fleet.runs.values().filter(|run| run.progress.outcome == Some(Outcome::Done));
        let others = done.filter(|run| run.work.repo().to_string() != "acme/thing").count();
        (others >= 2).then(|| s.fleet.clone())
    })
    .await;
    let waiting = fleet.ledger.iter().filter(|(key, _)| key.repo.to_string() == "acme/thing");
    let waiting: Vec<&Reason> = waiting.map(|(_, entry)| &entry.reason).collect();
    assert!(
        waiting.iter().all(|reason| matches!(
            reason,
            Reason::Running { .. } | Reason::RepoBusy { .. } | Reason::Outage { .. }
        )),
        "{waiting:?}"
    );
    runtime.stop().await;
}
