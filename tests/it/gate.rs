//! The gate on whole runs: what a change may do, and whom it asks. The table of its decisions has
//! its own tests in the core; these hold that the runtime sees what the table decides on.

use afk::core::model::approval::{Answer, EscalationKind};
use afk::core::model::command::{Accepted, Command};
use afk::core::model::run::{Outcome, Run};
use afk::core::model::stage::ProofLink;
use afk::runtime::{Runtime, Snapshot};

use crate::support::world::{END, WORK, World, command, ended, until, wait_until};
use crate::support::{git, log};

/// A base with a program and an old test of it.
fn world(script: &str) -> World {
    let world = World::new(&format!("{script}\n{END}"));
    std::fs::write(world.path("work/state"), "begun\n").unwrap();
    std::fs::write(world.path("work/tests/old.sh"), "grep -q . state\n").unwrap();
    world.commit("Old test");
    world
}

/// Brings the commits that afk pushed to the folder from which the world commits.
fn pull(world: &World) {
    let remote = world.remote().display().to_string();
    git(&world.path("work"), &["pull", "-q", "--rebase", &remote, "master"]);
}

fn subjects(world: &World) -> Vec<String> {
    log(&world.remote(), "master", "%s")
}

async fn run(world: &World) -> Run {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    run
}

/// Asserts that the run ended with an approval to give, and returns what a human is shown.
fn question(runtime: &Runtime) -> String {
    let snapshot = runtime.handle.snapshots.borrow().clone();
    let asked = snapshot.fleet.inbox()[0].clone();
    assert_eq!(asked.kind, EscalationKind::Approval, "{}", asked.detail.clean());
    asked.detail.clean()
}

async fn answer(runtime: &Runtime, answer: Answer) {
    let snapshot = runtime.handle.snapshots.borrow().clone();
    let asked = snapshot.fleet.inbox()[0].clone();
    let (escalation, digest) = (asked.id, asked.digest);
    let reply = command(runtime, Command::Answer { escalation, digest, answer }).await;
    assert_eq!(reply, Ok(Accepted::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn red_base_costs_no_turn_and_asks_a_human() {
    let world = world(WORK);
    std::fs::write(world.path("work/tests/broken.sh"), "echo it-is-broken; false\n").unwrap();
    world.commit("Break the suite");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!((run.progress.outcome, run.agent.turns), (Some(Outcome::NeedsHuman), 0));
    let why = run.progress.why.clean();
    assert!(
        why.starts_with("Your suite is red on ") && why.contains("without any change"),
        "{why}"
    );
    let snapshot = runtime.handle.snapshots.borrow().clone();
    assert!(snapshot.fleet.inbox()[0].detail.clean().contains("it-is-broken"));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flaky_base_is_repeated_and_noted_in_the_proof() {
    // The test fails in each tree whose sandbox is the first to look at the counter.
    let world = world(WORK);
    let counter = world.path("counter");
    let flaky = format!("test -e {0} || {{ touch {0}; exit 1; }}\n", counter.display());
    std::fs::write(world.path("work/tests/flaky.sh"), flaky).unwrap();
    world.commit("Add a flaky test");
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    let green = run.proof.get(ProofLink::TestsGreen).unwrap();
    let facts: Vec<String> = green.facts.iter().map(|fact| fact.value.clean_line()).collect();
    assert!(facts.iter().any(|fact| fact.contains("flaky")), "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_holds_durations_the_sandbox_and_its_reservation() {
    let world = world(WORK);
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    let facts: Vec<(String, String)> = [ProofLink::TestsRed, ProofLink::TestsGreen]
        .into_iter()
        .flat_map(|link| run.proof.get(link).unwrap().facts.clone())
        .map(|fact| (fact.kind.as_str().to_owned(), fact.value.clean_line()))
        .collect();
    let has = |kind: &str, words: &str| facts.iter().any(|(k, v)| k == kind && v.contains(words));
    assert!(has("duration", "the base as it is: "), "{facts:?}");
    assert!(has("duration", "the new tests on the base: "), "{facts:?}");
    assert!(has("reservation", "by exit code only"), "{facts:?}");
    assert!(has("sandbox", "network"), "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_old_test_is_shown_to_a_human_who_can_approve_it_once() {
    let world = world(
        "printf '' > state; : > tests/old.sh; echo 'test -e done' > tests/new.sh; touch done; \
         git add . && git $US commit -qm 'Empty the old test'",
    );
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert_eq!(subjects(&world), ["Begin", "Old test"]);
    let shown = question(&runtime);
    assert!(shown.contains("the head fails the old version of tests/old.sh"), "{shown}");
    assert!(shown.contains("-grep -q . state"), "{shown}");
    answer(&runtime, Answer::Approve).await;
    let run = until(&runtime, "the approved push", |s| {
        let run = s.fleet.runs.values().next()?;
        (run.progress.outcome == Some(Outcome::Done)).then(|| run.as_ref().clone())
    })
    .await;
    assert_eq!((run.agent.turns, run.progress.approved), (1, None), "an approval holds once");
    assert_eq!(subjects(&world).last().unwrap(), "Empty the old test");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_old_test_that_the_head_still_passes_asks_nobody() {
    let world = world(&format!(
        "{WORK}\necho 'test -e state' >> tests/old.sh; git add .; git $US commit -qm More"
    ));
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
}

/// A world whose test command is a script of its own.
fn world_with_script(script: &str) -> World {
    let world = world(script);
    let run = "for t in tests/*.sh; do sh $t || exit 1; done\n";
    std::fs::write(world.path("work/run.sh"), run).unwrap();
    std::fs::write(world.path("work/.afk.toml"), "test = 'sh run.sh'\n").unwrap();
    world.commit("Script");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_test_script_proves_nothing() {
    let world = world_with_script(&format!(
        "{WORK}\necho 'exit 0' > run.sh; git add .; git $US commit -qm Cheat"
    ));
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert_eq!(subjects(&world).last().unwrap(), "Script");
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_test_script_is_never_pushed_silently() {
    let world = world_with_script(&format!(
        "{WORK}\necho '# edited' >> run.sh; git add .; git $US commit -qm Edit"
    ));
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert_eq!(subjects(&world).last().unwrap(), "Script");
    let shown = question(&runtime);
    assert!(shown.contains("what decides how the tests run: run.sh"), "{shown}");
    assert!(shown.contains("+# edited"), "{shown}");
    // Guidance instead of the approval goes on with a turn, and the approval is not given.
    answer(&runtime, Answer::Text { text: "Restore run.sh.".into() }).await;
    let run = until(&runtime, "a second turn", |s| {
        let run = s.fleet.runs.values().next()?;
        (run.agent.turns > 1).then(|| run.as_ref().clone())
    })
    .await;
    assert_eq!(run.progress.approved, None);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_configuration_asks_a_human() {
    let world = world(&format!(
        "{WORK}\nmkdir -p .github/workflows; echo 'on: push' > .github/workflows/ci.yml; git add .; git $US commit -qm CI"
    ));
    let runtime = world.start().await;
    ended(&runtime).await;
    let shown = question(&runtime);
    assert!(shown.contains(".github/workflows/ci.yml") && shown.contains("+on: push"), "{shown}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_state_which_proof_is_asked_for() {
    let refactor = "git mv state moved; ln -s moved state; git add .; git $US commit -qm Move";
    for (label, outcome, asks) in [
        ("refactor", Outcome::Done, false),
        ("no-test", Outcome::NeedsHuman, true),
        ("bug", Outcome::NeedsHuman, false),
    ] {
        let world = world(refactor);
        let path = world.path("issues/1.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let labels = format!("labels = ['ready-for-agent', '{label}']");
        std::fs::write(&path, text.replace("labels = ['ready-for-agent']", &labels)).unwrap();
        let runtime = world.start().await;
        let run = ended(&runtime).await;
        assert_eq!(run.progress.outcome, Some(outcome), "{label}: {}", run.progress.why.clean());
        let inbox = runtime.handle.snapshots.borrow().clone();
        let kinds: Vec<EscalationKind> = inbox.fleet.inbox().iter().map(|e| e.kind).collect();
        assert_eq!(kinds.contains(&EscalationKind::Approval), asks, "{label}: {kinds:?}");
        runtime.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn test_that_needs_nothing_of_the_change_stays_closed() {
    let world = world(
        "echo 'test -e tests' > tests/trivial.sh; echo more >> state; git add .; git $US commit -qm Trivial",
    );
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(world.transcript(1).contains("already pass on the commit you started from"));
}

#[tokio::test(flavor = "multi_thread")]
async fn artefact_of_one_side_is_on_no_other() {
    // The red side leaves a file behind that would make the old test of the head pass.
    let world = world(
        "echo 'touch artefact; test -e artefact && grep -q done state' > tests/new.sh; echo done > state; \
         git add .; git $US commit -qm Work",
    );
    std::fs::write(world.path("work/tests/clean.sh"), "! test -e artefact\n").unwrap();
    std::fs::write(world.path("work/.gitignore"), "artefact\n").unwrap();
    world.commit("Want clean trees");
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_names_the_parts_that_no_test_needs() {
    let world =
        world(&format!("{WORK}\necho spare > a-spare; git add .; git $US commit -qm Spare"));
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    let green = run.proof.get(ProofLink::TestsGreen).unwrap();
    let spare = green.facts.iter().filter(|fact| fact.kind.as_str() == "not needed");
    let spare: Vec<String> = spare.map(|fact| fact.value.clean_line()).collect();
    assert_eq!(spare, ["a-spare:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn green_head_is_the_next_baseline() {
    let world = world(WORK);
    let count = world.path("count");
    let counts = format!("echo run >> {}\n", count.display());
    std::fs::write(world.path("work/tests/aa.sh"), counts).unwrap();
    world.commit("Count the runs");
    let runtime = world.start().await;
    ended(&runtime).await;
    let runs = || std::fs::read_to_string(&count).unwrap().lines().count();
    let first = runs();
    world.issue(2, "Again", "armed_by = 'ana'");
    until(&runtime, "the second run's first turn", |s| {
        s.fleet.runs.values().any(|run| run.id.0 == 2 && run.agent.turns > 0).then_some(())
    })
    .await;
    assert_eq!(runs(), first, "the base was tested again");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_that_moved_is_tested_before_a_claim() {
    let world = world(WORK).with("[limits]\nbaseline_seconds = 1\n");
    let count = world.path("count");
    let counts = format!("echo run >> {}\n", count.display());
    std::fs::write(world.path("work/tests/aa.sh"), &counts).unwrap();
    world.commit("Count the runs");
    let runtime = world.start().await;
    ended(&runtime).await;
    let runs = || std::fs::read_to_string(&count).unwrap().lines().count();
    let first = runs();
    pull(&world);
    std::fs::write(world.path("work/notes.txt"), "of somebody else\n").unwrap();
    world.commit("Push past afk");
    wait_until("a run of the tests without an issue", || runs() > first).await;
    let ahead = runs();
    world.issue(2, "Again", "armed_by = 'ana'");
    until(&runtime, "the second run's first turn", |s| {
        s.fleet.runs.values().any(|run| run.id.0 == 2 && run.agent.turns > 0).then_some(())
    })
    .await;
    assert_eq!(runs(), ahead, "the base was tested again");
    assert!(world.transcript(2).contains("is known"), "{}", world.transcript(2));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn red_upstream_is_told_before_anybody_waits_for_it() {
    let world = world(WORK).with("[limits]\nbaseline_seconds = 1\n");
    let runtime = world.start().await;
    ended(&runtime).await;
    pull(&world);
    std::fs::write(world.path("work/tests/red.sh"), "exit 1\n").unwrap();
    world.commit("Break the tests");
    let red = |s: &Snapshot| s.problems.iter().find(|line| line.contains("is red on")).cloned();
    let line = until(&runtime, "the problem", red).await;
    assert!(line.starts_with("acme/thing: ") && line.ends_with("can prove anything"), "{line}");
    std::fs::remove_file(world.path("work/tests/red.sh")).unwrap();
    world.commit("Mend the tests");
    until(&runtime, "the end of the problem", |s| red(s).is_none().then_some(())).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_test_file_is_shown_to_a_human_where_tests_have_no_names() {
    let world = world(&format!("{WORK}\ngit rm -q tests/old.sh; git commit -qm 'Drop a test'"));
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman), "{}", run.progress.why.clean());
    let shown = question(&runtime);
    assert!(shown.contains("deletes tests") && shown.contains("tests/old.sh"), "{shown}");
    answer(&runtime, Answer::Approve).await;
    until(&runtime, "the end", |s| {
        s.fleet.runs.values().find(|r| r.progress.outcome == Some(Outcome::Done)).cloned()
    })
    .await;
    assert!(subjects(&world).contains(&"Drop a test".to_owned()));
    runtime.stop().await;
}

/// A crate whose agent adds a module with these tests in its own file.
fn world_of_a_new_module(test: &str) -> World {
    let world = World::new(&format!(
        "printf 'pub mod greet;\\n' >> src/lib.rs\n\
         printf 'pub fn word() -> u8 {{\\n    7\\n}}\\n\\n#[cfg(test)]\\nmod tests {{\\n    use super::*;\\n\\n    \
         #[test]\\n    fn speaks() {{\\n        {test}\\n    }}\\n}}\\n' > src/greet.rs\n\
         git add -A; git commit -qm 'Add a module'\n{END}"
    ));
    std::fs::create_dir_all(world.path("work/src")).unwrap();
    let manifest =
        "[package]\nname = \"thing\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n";
    std::fs::write(world.path("work/Cargo.toml"), manifest).unwrap();
    std::fs::write(world.path("work/.gitignore"), "target\nCargo.lock\n").unwrap();
    std::fs::write(world.path("work/src/lib.rs"), "#[test]\nfn old() {}\n").unwrap();
    std::fs::write(world.path("work/.afk.toml"), "test = 'cargo test --offline'\n").unwrap();
    world.commit("A crate");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rust_file_with_its_own_tests_is_proven() {
    let run = run(&world_of_a_new_module("assert_eq!(word(), 7);")).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    assert_eq!(facts(&run, "fail to pass"), ["thing greet::tests::speaks"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rust_file_with_tests_of_nothing_asks_a_human() {
    let run = run(&world_of_a_new_module("assert!(true);")).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman), "{}", run.progress.why.clean());
}

/// A world whose tests report their names by the Test Anything Protocol.
fn world_with_names(script: &str) -> World {
    let world = world(script);
    let run = "n=0; s=0\nfor t in tests/*.sh; do n=$((n+1)); if grep -q '# SKIP' $t; then echo \"ok $n - $t # SKIP\"; \
               elif sh $t; then echo \"ok $n - $t\"; else echo \"not ok $n - $t\"; s=1; fi; done\necho 1..$n\nexit $s\n";
    std::fs::write(world.path("work/run.sh"), run).unwrap();
    std::fs::write(world.path("work/.afk.toml"), "test = 'sh run.sh'\n[gate]\nreport = 'tap'\n")
        .unwrap();
    world.commit("Names");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn row_counts_the_tests_that_are_done() {
    let world = world_with_names(WORK);
    let go = world.path("go");
    let waits = format!("until [ -e {} ]; do sleep 0.05; done\n", go.display());
    std::fs::write(world.path("work/tests/waits.sh"), waits).unwrap();
    world.commit("A slow test");
    let runtime = world.start().await;
    let counts = |s: &Snapshot| {
        let row = s.progress.values().next()?;
        row.starts_with("tested ").then(|| row.clone())
    };
    let row = until(&runtime, "a count on the row", counts).await;
    assert_eq!(row, "tested 2: the base as it is");
    std::fs::write(&go, "").unwrap();
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    runtime.stop().await;
}

/// The values of the facts of one kind in a run's proof.
fn facts(run: &Run, kind: &str) -> Vec<String> {
    let links = [ProofLink::TestsRed, ProofLink::TestsGreen];
    let facts = links.into_iter().flat_map(|link| run.proof.get(link).unwrap().facts.clone());
    facts.filter(|fact| fact.kind.as_str() == kind).map(|fact| fact.value.clean_line()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_names_the_tests_that_failed_before() {
    let world = world_with_names(WORK);
    let run = run(&world).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean());
    assert_eq!(facts(&run, "fail to pass"), ["tests/state.sh"]);
    assert_eq!(facts(&run, "pass to pass"), ["2"]);
    assert_eq!(facts(&run, "reservation"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_tests_are_named_to_the_agent_and_then_to_a_human() {
    for loss in ["git rm -q tests/old.sh", "echo '# SKIP' >> tests/old.sh; git add tests"] {
        let world = world_with_names(&format!("{WORK}\n{loss}; git $US commit -qm Lose"));
        let runtime = world.start().await;
        let run = ended(&runtime).await;
        assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman), "{loss}");
        assert!(run.agent.turns > 1, "the agent may restore it first");
        let transcript = world.transcript(1);
        assert!(transcript.contains("delete, skip or break 1 test that passed"), "{transcript}");
        let shown = question(&runtime);
        assert!(shown.contains("1 lost test that passed before: tests/old.sh"), "{shown}");
        runtime.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_test_is_not_lost() {
    let world = world_with_names(&format!(
        "{WORK}\nmkdir tests/more; git mv tests/old.sh tests/more/old.sh; \
         sed -i 's,tests/\\*.sh,tests/*.sh tests/*/*.sh,' run.sh; git add .; git $US commit -qm Move"
    ));
    let runtime = world.start().await;
    ended(&runtime).await;
    let shown = question(&runtime);
    assert!(shown.contains("run.sh") && !shown.contains("lost test"), "{shown}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn command_without_a_single_test_proves_nothing() {
    let world = world(WORK);
    let rules = "test = 'true'\n[gate]\nreport = 'tap'\n";
    std::fs::write(world.path("work/.afk.toml"), rules).unwrap();
    world.commit("Test nothing");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!((run.progress.outcome, run.agent.turns), (Some(Outcome::NeedsHuman), 0));
    assert!(run.progress.why.clean().contains("no test ran"), "{}", run.progress.why.clean());
    runtime.stop().await;
}
