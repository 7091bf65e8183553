//! Look again: a frozen run whose CI or deploy is green after all is closed by a look, without a turn, a
//! push or an attempt.

use afk::core::model::command::{Command, Refusal, Role};
use afk::core::model::id::RunId;
use afk::core::model::run::{Outcome, Run};
use afk::runtime::Runtime;
use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::github::GitHub;
use crate::support::log;
use crate::support::world::{END, WORK, World, as_role, command, ended, run_of, until};

const LOOK: Command = Command::LookAgain { run: RunId(1) };

/// Has the runtime look again, and waits for the end of the look.
async fn look(runtime: &Runtime) -> Run {
    let before = run_of(&runtime.handle.snapshots.borrow().fleet, 1).unwrap().progress.epoch;
    assert!(command(runtime, LOOK).await.is_ok());
    until(runtime, "the end of the look", |s| {
        let run = run_of(&s.fleet, 1)?;
        let over = run.progress.outcome.is_some() && run.progress.epoch > before;
        (over && s.fleet.outbox.is_empty()).then(|| run.clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn look_closes_a_run_whose_ci_came_late() {
    let rules = "[ci]\ngithub = true\npoll_ms = 100\nappear_minutes = 0";
    let world = World::new(&format!("{WORK}\n{END}")).rules(rules);
    let github = GitHub::start(&world.remote());
    let world = world.on(&github);
    github.ci(&[&[]]);
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Frozen));
    assert!(run.progress.why.as_received().starts_with("CI: no CI"), "{:?}", run.progress.why);
    assert_eq!(as_role(&runtime, Role::Viewer, LOOK).await, Err(Refusal::Viewer));
    // Nothing has come yet: the look says so, and the run stays.
    let still = look(&runtime).await;
    assert_eq!(still.progress.outcome, Some(Outcome::Frozen));
    assert!(still.progress.why.as_received().starts_with("CI: no CI"), "{:?}", still.progress.why);
    let pushed = still.workspace.pushed.clone().unwrap();
    github.with_ci(|ci| ci.workflow(&pushed.0, "ci", 70, &[("test", "failure")]));
    let red = look(&runtime).await;
    assert_eq!(red.progress.outcome, Some(Outcome::Frozen));
    assert_eq!(red.progress.why.as_received(), "looked again: CI is red (test failed)");
    assert_eq!(github.labels(1), ["ready-for-agent", "ready-for-human"]);
    // A true re-run of the same workflow.
    github.with_ci(|ci| ci.workflow(&pushed.0, "ci", 70, &[("test", "success")]));
    let done = look(&runtime).await;
    runtime.stop().await;
    assert_eq!(done.progress.outcome, Some(Outcome::Done), "{:?}", done.progress.why);
    assert_eq!((done.agent.turns, done.progress.attempts), (1, 0));
    assert!(github.closed(1));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Rules", "Test it", "Do it"]);
    assert!(world.transcript(1).contains("ana has afk look again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn look_reads_a_rollout_and_runs_no_deploy_command_again() {
    let cluster = Cluster::start();
    let rules = "[deploy]\ncommand = 'echo deployed >> $COUNT'\nsoak_seconds = 1\n\
                 [[deploy.kubernetes]]\nnamespace = 'web'\nname = 'app'";
    let world = World::new(&format!("{WORK}\n{END}"));
    let count = world.path("count");
    let world = world.rules(&rules.replace("$COUNT", &count.display().to_string()));
    let section =
        format!("[kubernetes]\nkubeconfig = '{}'", cluster.kubeconfig(world.root()).display());
    let world = world.with(&section).with("[fix_forward]\nattempts = 0");
    cluster.deployed(1, "registry/app:old", &json!({}));
    let runtime = world.start().await;
    let sha = until(&runtime, "the push", |s| run_of(&s.fleet, 1)?.workspace.pushed.clone()).await;
    let image = format!("registry/app:{}", &sha.0[..8]);
    let late = json!({"availableReplicas": 0, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
    ]});
    cluster.deployed(2, &image, &late);
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Frozen));
    let why = run.progress.why.as_received();
    assert!(why.contains("its progress deadline has passed"), "{why}");
    // A person repairs it by hand.
    cluster.deployed(3, &image, &json!({}));
    let done = look(&runtime).await;
    runtime.stop().await;
    assert_eq!(done.progress.outcome, Some(Outcome::Done), "{:?}", done.progress.why);
    assert_eq!(done.agent.turns, 1);
    let deployed = std::fs::read_to_string(count).unwrap();
    assert_eq!(deployed.lines().count(), 1, "a look must not deploy");
}
