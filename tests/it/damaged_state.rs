//! State folders that a crash, a power cut or a person has damaged or copied: afk refuses them with the
//! ways forward, or makes anew what it can.

use std::path::{Path, PathBuf};
use std::process::Output;

use afk::core::model::id::RunId;
use afk::core::model::run::Outcome;

use crate::support::world::{END, WORK, World, ended, run_of, until, wait_until};
use crate::support::{afk, git, journal_id, processes_with, repository_folder, text};

fn run(world: &World, state: &Path, words: &[&str]) -> Output {
    let config = world.path("afk.toml");
    let places = ["--config", config.to_str().unwrap(), "--state", state.to_str().unwrap()];
    afk(&[&places[..], words].concat()).output().unwrap()
}

fn both(out: &Output) -> String {
    text(&out.stdout) + &text(&out.stderr)
}

/// A state folder after kill -9 in the first turn of a run, whose agent is still there.
async fn killed() -> (World, PathBuf, String) {
    let world = World::new("touch $OUT/began; sleep 1000");
    let mut up = world.up();
    wait_until("the agent", || world.path("began").exists()).await;
    up.kill();
    let state = world.state();
    let id = journal_id(&state);
    (world, state, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_write_ahead_log_is_refused_until_the_operator_chooses_a_way_forward() {
    let (world, state, id) = killed().await;
    std::fs::remove_file(state.join("journal.sqlite-wal")).unwrap();
    for (words, code) in [(["up"], 5), (["verify"], 1), (["status"], 5), (["doctor"], 1)] {
        let out = run(&world, &state, &words);
        assert_eq!(out.status.code(), Some(code), "{words:?}: {}", both(&out));
        let said = both(&out);
        assert!(said.contains("lacks records") && said.contains("salvage"), "{words:?}: {said}");
    }
    let out = run(&world, &state, &["journal", "salvage"]);
    assert!(out.status.success(), "{}", both(&out));
    assert!(both(&out).contains("the kill switch is on"), "{}", both(&out));
    assert!(run(&world, &state, &["verify"]).status.success());
    std::fs::remove_file(world.path("began")).unwrap();
    let runtime = world.start().await;
    assert!(processes_with("AFK_STATE", &id).is_empty(), "the earlier agent is gone");
    until(&runtime, "the issue", |s| (!s.fleet.issues.is_empty()).then_some(())).await;
    let fleet = runtime.handle.snapshots.borrow().fleet.clone();
    assert!(fleet.kill_switch() && run_of(&fleet, 1).is_none(), "nothing runs again by itself");
    runtime.stop().await;
    assert!(!world.path("began").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_alone_is_no_reason_to_refuse() {
    let (world, state, _) = killed().await;
    assert!(run(&world, &state, &["verify"]).status.success());
    assert!(run(&world, &state, &["status"]).status.success());
    std::fs::remove_file(world.path("began")).unwrap();
    let runtime = world.start().await;
    wait_until("the agent", || world.path("began").exists()).await;
    let fleet = runtime.handle.snapshots.borrow().fleet.clone();
    assert_eq!(run_of(&fleet, 1).unwrap().id, RunId(1), "the same run goes on");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_state_folder_ends_no_agent_of_the_original() {
    let world = World::new("touch $OUT/began; sleep 1000");
    let runtime = world.start().await;
    wait_until("the agent", || world.path("began").exists()).await;
    let id = journal_id(&world.state());
    // An agent that starts again says so again.
    std::fs::remove_file(world.path("began")).unwrap();
    let other = world.path("other");
    // A file that vanishes meanwhile is no matter.
    std::process::Command::new("cp").arg("-a").arg(world.state()).arg(&other).status().unwrap();
    assert!(other.join("journal.sqlite").exists());
    let out = run(&world, &other, &["up"]);
    assert_eq!(out.status.code(), Some(5), "{}", both(&out));
    assert!(both(&out).contains("is a copy of"), "{}", both(&out));
    assert!(!processes_with("AFK_STATE", &id).is_empty(), "the agent of the original goes on");
    assert!(!world.path("began").exists());
    let fleet = runtime.handle.snapshots.borrow().fleet.clone();
    assert!(run_of(&fleet, 1).unwrap().progress.outcome.is_none());
    // On purpose, the copy becomes an afk of its own.
    let out = run(&world, &other, &["journal", "begin-anew"]);
    assert!(out.status.success(), "{}", both(&out));
    assert_ne!(journal_id(&other), id);
    assert!(run(&world, &other, &["verify"]).status.success());
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_base_clone_is_set_aside_and_cloned_anew() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    runtime.stop().await;
    let folder = repository_folder(&world.state(), "acme/thing");
    let base = folder.join("base.git");
    git(&base, &["update-ref", "refs/afk/kept/work", "refs/remotes/origin/master"]);
    std::fs::write(base.join("HEAD"), "").unwrap();
    let doctor = both(&run(&world, &world.state(), &["doctor"]));
    assert!(
        doctor.contains("NO  base clone of acme/thing: HEAD is missing or damaged"),
        "{doctor}"
    );
    let said = both(&run(&world, &world.state(), &["journal", "--help"]));
    assert!(said.contains("salvage") && said.contains("begin-anew"), "{said}");
    // The second issue undoes the first one, so that the same agent has something to do.
    git(&world.path("work"), &["pull", "-q", world.remote().to_str().unwrap(), "master"]);
    std::fs::remove_file(world.path("work/tests/state.sh")).unwrap();
    std::fs::remove_file(world.path("work/state")).unwrap();
    world.commit("Undo it");
    world.issue(2, "Do it again", "armed_by = 'ana'");
    let runtime = world.start().await;
    let outcome = until(&runtime, "the second run", |s| {
        let run = run_of(&s.fleet, 2)?;
        run.progress.outcome.map(|outcome| (outcome, run.progress.why.clean_line()))
    })
    .await;
    assert_eq!(outcome.0, Outcome::Done, "{}", outcome.1);
    let problems = runtime.handle.snapshots.borrow().problems.join("\n");
    assert!(problems.contains("the base clone was damaged"), "{problems}");
    runtime.stop().await;
    assert_eq!(std::fs::read_dir(folder.join("aside")).unwrap().count(), 1);
    git(&base, &["rev-parse", "--verify", "refs/afk/kept/work"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_workspace_of_a_run_is_set_aside_and_its_run_lands() {
    for (what, damage, aside) in [
        ("objects", "for file in .git/objects/??/*; do chmod u+w $file; : > $file; done", 1),
        ("index", ": > .git/index", 1),
        ("HEAD", ": > .git/HEAD", 1),
        ("branch", ": > .git/$(cut -c6- .git/HEAD)", 1),
        ("endless files", "ln -sf /dev/zero .git/HEAD; ln -sf /dev/zero .git/packed-refs", 1),
        ("pipe", ": > .git/HEAD; mkfifo .git/refs/heads/pipe", 1),
        ("folder", "cd ..; rm -rf wt-1", 0),
    ] {
        let world = World::new(&format!(
            "{WORK}\n[ -e \"$OUT/again\" ] || {{ touch \"$OUT/again\"; echo '{{\"type\":\"text\",\"text\":\"worked\"}}'; exec sleep 1000; }}\n{END}"
        ))
        .with("[limits]\ngrace_seconds = 1");
        let runtime = world.start().await;
        wait_until("the work", || world.transcript(1).contains("worked")).await;
        runtime.stop().await;
        let folder = repository_folder(&world.state(), "acme/thing");
        let done = std::process::Command::new("sh")
            .args(["-ec", damage])
            .current_dir(folder.join("wt-1"))
            .status();
        assert!(done.unwrap().success(), "{what}");
        let runtime = world.start().await;
        let run = ended(&runtime).await;
        let (outcome, why) = (run.progress.outcome, run.progress.why.clean_line());
        assert_eq!(outcome, Some(Outcome::Done), "{what}: {why}");
        runtime.stop().await;
        assert!(world.transcript(1).contains("the workspace was damaged"), "{what}");
        assert_eq!(set_aside(&folder), aside, "{what}");
    }
}

/// The number of folders that were set aside.
fn set_aside(repository: &Path) -> usize {
    std::fs::read_dir(repository.join("aside")).into_iter().flatten().count()
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn renewal_whose_setup_was_cut_off_begins_again_with_a_fresh_tree() {
    let world = World::new(&format!(
        "[ -e \"$OUT/again\" ] || {{ touch \"$OUT/again\"; exec sleep 1000; }}\n\
         ls > \"$OUT/listing\"\n{WORK}\n{END}"
    ))
    .with("[limits]\ngrace_seconds = 1");
    std::fs::write(world.path("work/.gitignore"), "made\n").unwrap();
    let root = world.root().display().to_string();
    let world = world.rules(&format!(
        "[setup]\ncommand = '''case $PWD in */wt-1) echo begun >> {root}/setups; \
         [ ! -e {root}/hang ] || {{ touch half {root}/hangs; exec sleep 1000; }};; esac; \
         echo x > made'''"
    ));
    let runtime = world.start().await;
    wait_until("the agent", || world.path("again").exists()).await;
    runtime.stop().await;
    let folder = repository_folder(&world.state(), "acme/thing");
    std::fs::write(folder.join("wt-1/.git/HEAD"), "").unwrap();
    std::fs::write(world.path("hang"), "").unwrap();
    let runtime = world.start().await;
    wait_until("the setup of the renewed workspace", || world.path("hangs").exists()).await;
    runtime.stop().await;
    std::fs::remove_file(world.path("hang")).unwrap();
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    let (outcome, why) = (run.progress.outcome, run.progress.why.clean_line());
    assert_eq!(outcome, Some(Outcome::Done), "{why}");
    runtime.stop().await;
    // The first one, the one that was cut off, and the one after it.
    assert_eq!(lines(&world.path("setups")).len(), 3);
    let listing = lines(&world.path("listing"));
    assert!(listing.iter().any(|name| name == "made"), "the setup has ended: {listing:?}");
    assert!(!listing.iter().any(|name| name == "half"), "the tree is fresh: {listing:?}");
    assert_eq!(set_aside(&folder), 1, "a tree that only its setup used is nothing to keep");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_workspace_runs_the_setup_of_the_base_and_not_that_of_the_agents_commit() {
    let world = World::new(&format!(
        "sed -i 's/echo base/echo agents/' .afk.toml; git $US commit -qam 'Change the setup'\n\
         {WORK}\ntouch \"$OUT/worked\"\n{END}"
    ))
    .with("[limits]\ngrace_seconds = 1");
    let root = world.root().display().to_string();
    // The first tests after the agent's turn are the gate's, which has taken its commits in by then.
    let rules = format!(
        "test = '''[ ! -e {root}/worked ] || {{ touch {root}/testing; exec sleep 1000; }}'''\n\
         [setup]\ncommand = '''case $PWD in */wt-1) echo base >> {root}/setups;; esac'''\n"
    );
    std::fs::write(world.path("work/.afk.toml"), rules).unwrap();
    world.commit("Rules");
    let base = git(&world.remote(), &["rev-parse", "master"]);
    let runtime = world.start().await;
    wait_until("the tests of the gate", || world.path("testing").exists()).await;
    runtime.stop().await;
    let folder = repository_folder(&world.state(), "acme/thing");
    std::fs::write(folder.join("wt-1/.git/HEAD"), "").unwrap();
    std::fs::remove_file(world.path("testing")).unwrap();
    let runtime = world.start().await;
    wait_until("the tests of the next gate", || world.path("testing").exists()).await;
    runtime.stop().await;
    assert!(world.transcript(1).contains("the workspace was damaged"));
    assert_eq!(lines(&world.path("setups")), ["base", "base"]);
    let tree = folder.join("wt-1");
    let rules = std::fs::read_to_string(tree.join(".afk.toml")).unwrap();
    assert!(rules.contains("echo agents"), "the run's commits are there: {rules}");
    assert_eq!(git(&tree, &["rev-parse", "origin/master"]), base);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_sets_a_damaged_base_clone_aside_on_demand() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    let base = repository_folder(&world.state(), "acme/thing").join("base.git");
    std::fs::write(base.join("refs/remotes/origin/master"), "").unwrap();
    let running = both(&run(&world, &world.state(), &["doctor", "--fix"]));
    assert!(running.contains("end the running afk first") && base.exists(), "{running}");
    runtime.stop().await;
    let fixed = both(&run(&world, &world.state(), &["doctor", "--fix"]));
    assert!(fixed.contains("set aside as") && !base.exists(), "{fixed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_that_cleared_its_environment_is_gone_after_a_kill_and_a_start() {
    // Its sleep time is unique to this test, so that it identifies the process.
    let time = (1_000_000 + std::process::id()).to_string();
    let daemon = format!("(cd /; env -i setsid sleep {time} </dev/null >/dev/null 2>&1 &)");
    let script = format!("[ -e $OUT/began ] || {daemon}; touch $OUT/began; sleep 1000");
    // Without a wall and a control group nothing else holds it.
    let world = World::new(&script).sandbox("level = 'none'\ncgroup = 'off'");
    let sleeping = || {
        let line = format!("sleep\0{time}\0");
        let of = |pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        afk::process::procfs::processes().any(|p| p.state != b'Z' && of(p.pid) == line)
    };
    let mut up = world.up();
    wait_until("the daemon", || world.path("began").exists() && sleeping()).await;
    up.kill();
    assert!(sleeping(), "the daemon outlives a killed afk");
    let runtime = world.start().await;
    assert!(!sleeping(), "the next start ends it");
    runtime.stop().await;
}
