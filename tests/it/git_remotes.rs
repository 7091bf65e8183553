//! Remotes of every kind: other formats, shallow, empty, with branches that become folders.

use std::path::Path;
use std::process::Command;

use afk::core::model::run::Outcome;

use crate::support::world::{END, WORK, World, ended, run_of, until};
use crate::support::{afk, git, log, text};

/// Replaces the remote by another one that `make` creates in its place.
fn replace_remote(world: &World, make: &[&str]) {
    std::fs::remove_dir_all(world.remote()).unwrap();
    git(world.root(), make);
}

fn push_to_remote(world: &World) {
    let work = world.path("work");
    git(&work, &["push", "-q", world.remote().to_str().unwrap(), "master"]);
}

fn doctor(world: &World) -> String {
    world.config();
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["doctor"]).collect();
    text(&afk(&args).output().unwrap().stdout)
}

/// Runs the first issue to its end for a human, and returns the reason.
async fn stops(world: &World) -> String {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(!world.transcript(1).contains("\"turn\":1"), "a turn began");
    run.progress.why.clean()
}

async fn is_done(world: &World) {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    let why = run.progress.why.clean();
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{why}: {}", world.transcript(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sha256_remote_is_refused_in_words() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let make =
        ["init", "-q", "--bare", "--object-format=sha256", "--initial-branch=master", "remote.git"];
    replace_remote(&world, &make);
    let work = world.path("work256");
    git(
        world.root(),
        &["init", "-q", "--object-format=sha256", "--initial-branch=master", "work256"],
    );
    std::fs::write(work.join(".afk.toml"), "test = 'true'\n").unwrap();
    git(&work, &["add", "--all"]);
    git(&work, &["commit", "-qm", "Begin"]);
    git(&work, &["push", "-q", world.remote().to_str().unwrap(), "master"]);
    assert!(doctor(&world).contains("uses SHA-256"), "{}", doctor(&world));
    let why = stops(&world).await;
    assert!(why.contains("the remote uses SHA-256"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reftable_remote_works() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let version = git(world.root(), &["--version"]);
    let out = Command::new("git")
        .args(["init", "-q", "--bare", "--ref-format=reftable"])
        .arg(world.path("try"))
        .output();
    if !out.unwrap().status.success() {
        println!("SKIPPED: {version} has no reftable");
        return;
    }
    let make =
        ["init", "-q", "--bare", "--ref-format=reftable", "--initial-branch=master", "remote.git"];
    replace_remote(&world, &make);
    push_to_remote(&world);
    is_done(&world).await;
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Test it", "Do it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shallow_remote_works() {
    let world = World::new(&format!("git log --format=%s > $OUT/log\n{WORK}\n{END}"));
    for name in ["a", "b"] {
        std::fs::write(world.path("work").join(name), name).unwrap();
        world.commit(name);
    }
    std::fs::rename(world.remote(), world.path("full.git")).unwrap();
    let full = format!("file://{}", world.path("full.git").display());
    git(world.root(), &["clone", "-q", "--bare", "--depth=2", &full, "remote.git"]);
    assert!(world.remote().join("shallow").exists());
    is_done(&world).await;
    assert_eq!(log(&world.remote(), "master", "%s"), ["a", "b", "Test it", "Do it"]);
    assert_eq!(std::fs::read_to_string(world.path("log")).unwrap(), "b\na\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_remote_is_refused_in_words() {
    let world = World::new(&format!("{WORK}\n{END}"));
    replace_remote(&world, &["init", "-q", "--bare", "--initial-branch=master", "remote.git"]);
    let why = stops(&world).await;
    assert!(why.contains("the remote has no commit yet"), "{why}");
    assert!(doctor(&world).contains("no commit yet"), "{}", doctor(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn branch_that_is_only_a_folder_is_named() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let remote = world.remote();
    let head = git(&remote, &["rev-parse", "master"]);
    git(&remote, &["update-ref", "-d", "refs/heads/master"]);
    git(&remote, &["update-ref", "refs/heads/master/x", &head]);
    let why = stops(&world).await;
    assert!(why.contains("the remote has no branch master"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_that_become_folders_and_collide_in_case_stop_no_run() {
    let world = World::new(&format!(
        "case $prompt in *'Two more'*) echo 'grep -q two state' > tests/two.sh; echo done two > state; git add --all; git $US commit -qm Two;;\n\
         *) {WORK};; esac\n{END}"
    ));
    let branch = |name: &str, remote: &Path| {
        git(remote, &["update-ref", &format!("refs/heads/{name}"), "refs/heads/master"]);
    };
    for name in ["topic", "Topic", "afk", "HEAD", "master-2"] {
        branch(name, &world.remote());
    }
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    git(&world.remote(), &["update-ref", "-d", "refs/heads/topic"]);
    git(&world.remote(), &["update-ref", "-d", "refs/heads/afk"]);
    branch("topic/x", &world.remote());
    branch("afk/2-two-more", &world.remote());
    world.issue(2, "Two more", "armed_by = 'ana'");
    until(&runtime, "the second run", |s| {
        (run_of(&s.fleet, 2)?.progress.outcome == Some(Outcome::Done)).then_some(())
    })
    .await;
    runtime.stop().await;
    assert_eq!(log(&world.remote(), "refs/heads/master", "%s").last().unwrap(), "Two");
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_submodule_is_pushed_and_a_loose_one_is_not() {
    let world = World::new(&format!(
        "{WORK}\ngit update-index --cacheinfo 160000,$(git rev-parse HEAD~1),lib; git $US commit -qm 'Move lib'\n{END}"
    ))
    .rules("[setup]\nsubmodules = false");
    let work = world.path("work");
    std::fs::write(
        work.join(".gitmodules"),
        "[submodule \"lib\"]\n\tpath = lib\n\turl = https://example.invalid/lib.git\n",
    )
    .unwrap();
    git(&work, &["add", "--all"]);
    let head = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},lib")]);
    git(&work, &["commit", "-qm", "Add lib"]);
    push_to_remote(&world);
    is_done(&world).await;
    let entry = git(&world.remote(), &["ls-tree", "master", "lib"]);
    assert!(entry.starts_with("160000") && !entry.contains(&head), "{entry}");
}

#[test]
fn doctor_checks_the_configured_repository_whatever_the_shell_names() {
    let world = World::new(&format!("{WORK}\n{END}"));
    world.config();
    let other = world.path("other.git");
    git(world.root(), &["init", "-q", "--bare", "other.git"]);
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["doctor"]).collect();
    let mut command = afk(&args);
    command.env("GIT_DIR", &other).env("GIT_NAMESPACE", "x").env("GIT_OBJECT_DIRECTORY", &other);
    let shown = text(&command.output().unwrap().stdout);
    assert!(shown.contains("ok  repository acme/thing: master at"), "{shown}");
}
