//! Verdicts of CI: checks that come late, names that mean nothing, sources that can't be read, and clocks
//! that differ.

use afk::core::model::run::{Outcome, Run};
use afk::core::model::stage::ProofLink;
use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::github::GitHub;
use crate::support::sinks::Sinks;
use crate::support::world::{END, WORK, World, ended, run_of, until, wait_until};
use crate::support::{afk, text};

/// The offsets of a service's clock from ours, in seconds.
const OFFSETS: [i64; 4] = [-9 * 3600, -120, 120, 9 * 3600];

/// A world on a GitHub double, without fix-forward attempts.
fn world(rules: &str) -> (World, GitHub) {
    let rules = format!("[ci]\ngithub = true\npoll_ms = 100\n{rules}");
    let world = World::new(&format!("{WORK}\n{END}")).rules(&rules);
    let github = GitHub::start(&world.remote());
    let world = world.on(&github).with("[fix_forward]\nattempts = 0");
    github.issue(1, "Do it", "", "ana");
    (world, github)
}

async fn pushed(runtime: &afk::runtime::Runtime) -> String {
    until(runtime, "the push", |s| Some(run_of(&s.fleet, 1)?.workspace.pushed.as_ref()?.0.clone()))
        .await
}

fn why(run: &Run) -> &str {
    run.progress.why.as_received()
}

#[tokio::test(flavor = "multi_thread")]
async fn green_job_waits_for_the_jobs_that_need_it() {
    let (world, github) = world("");
    github.ci(&[&[("build", "success")]]);
    github.with_ci(|ci| ci.held = Some("in_progress"));
    let runtime = world.start().await;
    let sha = pushed(&runtime).await;
    wait_until("the wait", || world.transcript(1).contains("waiting for the workflow ci")).await;
    github.with_ci(|ci| {
        let suite = ci.first_suite(&sha);
        ci.check(&sha, suite, "test", "failure");
        ci.says(&sha, "", None);
    });
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Frozen));
    assert!(why(&run).contains("CI is red (test failed)"), "{}", why(&run));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_apps_and_repeated_runs_hold_nothing_up() {
    let (world, github) = world("");
    github.ci(&[&[("test", "failure")]]);
    github.with_ci(|ci| {
        ci.idle_apps = vec!["renovate", "codecov"];
        // A newer run of the same workflow.
        ci.further = vec![("ci", 70, vec![("test", "success")])];
    });
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", why(&run));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workflows_of_one_name_are_two() {
    let (world, github) = world("");
    github.ci(&[&[("test", "failure")]]);
    github.with_ci(|ci| ci.further = vec![("ci", 71, vec![("test", "success")])]);
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Frozen));
    assert!(why(&run).contains("CI is red (test failed)"), "{}", why(&run));
}

#[tokio::test(flavor = "multi_thread")]
async fn workflow_that_cannot_start_is_red() {
    let (world, github) = world("");
    github.ci(&[&[("test", "success")]]);
    github.with_ci(|ci| {
        ci.further = vec![("broken", 71, vec![])];
        ci.held = Some("queued");
    });
    let runtime = world.start().await;
    let sha = pushed(&runtime).await;
    github.with_ci(|ci| ci.says(&sha, "completed", Some("startup_failure")));
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Frozen));
    assert!(why(&run).contains("the workflow broken failed"), "{}", why(&run));
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_statuses_are_said_and_the_rest_decides() {
    let (world, github) = world("");
    github.with_ci(|ci| ci.forbidden = ["statuses".to_owned()].into());
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", why(&run));
    let link = run.proof.get(ProofLink::Ci).unwrap();
    let facts: Vec<String> = link
        .facts
        .iter()
        .map(|fact| format!("{} {}", fact.kind.as_str(), fact.value.as_received()))
        .collect();
    let said = "reservation the token lacks the right to read Commit statuses";
    assert!(facts.iter().any(|fact| fact.starts_with(said)), "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_cannot_be_read_ask_a_human_at_once() {
    for (rules, forbidden, said) in [
        ("", &["check", "runs", "statuses"][..], "any check can't be seen"),
        (
            "required = ['jenkins']\nquiet_seconds = 0",
            &["statuses"][..],
            "the required check jenkins can't be seen",
        ),
    ] {
        let (world, github) = world(rules);
        github.with_ci(|ci| {
            ci.forbidden = forbidden.iter().map(|&part| part.to_owned()).collect();
        });
        let runtime = world.start().await;
        let run = ended(&runtime).await;
        runtime.stop().await;
        assert_eq!(run.progress.outcome, Some(Outcome::Frozen));
        assert!(why(&run).contains(said), "{}", why(&run));
        assert!(why(&run).contains("lacks the right to read"), "{}", why(&run));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn githubs_clock_changes_no_quiet_time() {
    for offset in OFFSETS {
        let (world, github) = world("");
        github.with_ci(|ci| (ci.offset, ci.age) = (offset, 5));
        let runtime = world.start().await;
        wait_until("the quiet time", || {
            world.transcript(1).contains("waiting for further checks that may appear")
        })
        .await;
        // Half a minute passes over there.
        github.with_ci(|ci| ci.offset += 30);
        let run = ended(&runtime).await;
        runtime.stop().await;
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{offset} s: {}", why(&run));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn githubs_clock_changes_no_deadline_and_no_repeat() {
    for offset in OFFSETS {
        let (world, github) = world("appear_minutes = 1\nrun_minutes = 1");
        github.ci(&[&[("test", "in_progress")]]);
        github.with_ci(|ci| (ci.offset, ci.age) = (offset, 3600));
        let runtime = world.start().await;
        let sha = pushed(&runtime).await;
        wait_until("the poll", || world.transcript(1).contains("waiting for test")).await;
        // The check is an hour old over there: it is not yet stuck. A later attempt then decides.
        github.with_ci(|ci| ci.workflow(&sha, "ci", 70, &[("test", "failure")]));
        let run = ended(&runtime).await;
        runtime.stop().await;
        assert_eq!(run.progress.outcome, Some(Outcome::Frozen));
        assert!(why(&run).contains("CI is red (test failed)"), "{offset} s: {}", why(&run));
    }
}

/// The output of `afk doctor`.
fn doctor(world: &World) -> String {
    world.config();
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["doctor"]).collect();
    text(&afk(&args).output().unwrap().stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_the_right_that_a_token_lacks() {
    let (world, github) = world("");
    let subject = "rights for the CI of acme/thing:";
    let said = doctor(&world);
    assert!(said.contains(&format!("ok  {subject} checks, workflow runs and")), "{said}");
    github.with_ci(|ci| ci.forbidden = ["statuses".to_owned()].into());
    let said = doctor(&world);
    let lacks = "the token lacks the right to read: Commit statuses";
    assert!(said.contains(&format!("NO  {subject} {lacks}")), "{said}");
    assert!(said.contains("hint: grant it Commit statuses: read"), "{said}");
    github.with_ci(|ci| ci.forbidden = ["check".to_owned()].into());
    let said = doctor(&world);
    assert!(said.contains(&format!("ok  {subject} no Checks: read")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_a_deploy_that_proves_nothing() {
    let cluster = Cluster::start();
    let rules = "[[deploy.kubernetes]]\nnamespace = 'web'\nname = 'app'\ntag = 'main'\n\
                 [[deploy.kubernetes]]\nnamespace = 'web'\nname = 'db'\nkind = 'statefulset'\n\
                 [[deploy.kubernetes]]\nnamespace = 'web'\nname = 'gone'\nkind = 'daemonset'";
    let world = World::new(END).rules(rules);
    let section =
        format!("[kubernetes]\nkubeconfig = '{}'", cluster.kubeconfig(world.root()).display());
    let world = world.with(&section);
    cluster.deployed(1, "registry/app:main", &json!({}));
    cluster.put(
        "statefulsets",
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {
                "replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 1}},
                "template": {"spec": {"containers": [{"name": "db", "image": "db:1"}]}},
            },
        }),
    );
    let said = doctor(&world);
    for line in [
        "NO  proof of acme/thing: deploy.kubernetes web/app: the tag main names no commit",
        "ok  workload web/app of acme/thing: a rollout of it can be proved",
        "NO  workload web/db of acme/thing: a rollout of it can't become green as it is: its partition 1",
        "NO  workload web/gone of acme/thing: a rollout of it can't become green as it is: it does not exist",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
}

/// A world whose CI is a Woodpecker double.
fn woodpecker() -> (World, Sinks) {
    let sinks = Sinks::start();
    let rules = "[ci]\nwoodpecker = 'acme/thing'\npoll_ms = 100";
    let world = World::new(&format!("{WORK}\n{END}")).rules(rules);
    let token = world.path("wp-token");
    std::fs::write(&token, "wp-token").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let section = format!(
        "[woodpecker]\naddress = '{}/wp'\ntoken = 'file:{}'",
        sinks.address,
        token.display()
    );
    (world.with(&section).with("[fix_forward]\nattempts = 0"), sinks)
}

fn pipeline(number: u64, commit: &str, created: i64, workflows: &[&str]) -> Value {
    let workflows: Vec<Value> =
        workflows.iter().map(|state| json!({"state": state, "children": []})).collect();
    let created = jiff::Timestamp::now().as_second() + created;
    json!({"number": number, "event": "push", "commit": commit, "status": "success",
           "created": created, "branch": "master", "workflows": workflows})
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_pipeline_waits_for_its_workflows() {
    for (end, outcome) in [("success", Outcome::Done), ("failure", Outcome::Frozen)] {
        let (world, sinks) = woodpecker();
        let runtime = world.start().await;
        let sha = pushed(&runtime).await;
        sinks.pipelines(&[pipeline(4, &sha, 0, &["success", "running"])]);
        wait_until("the wait", || world.transcript(1).contains("waiting for pipeline 4")).await;
        sinks.pipelines(&[pipeline(4, &sha, 0, &["success", end])]);
        let run = ended(&runtime).await;
        runtime.stop().await;
        assert_eq!(run.progress.outcome, Some(outcome), "{end}: {}", why(&run));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn woodpeckers_clock_loses_no_pipeline() {
    for offset in OFFSETS {
        let (world, sinks) = woodpecker();
        sinks.clock(offset);
        let runtime = world.start().await;
        let sha = pushed(&runtime).await;
        // A page of pipelines of others, all younger than the push, before the one of the commit.
        let mut all: Vec<Value> =
            (5..55).rev().map(|number| pipeline(number, "other", offset, &[])).collect();
        all.push(pipeline(4, &sha, offset, &["success"]));
        sinks.pipelines(&all);
        let run = ended(&runtime).await;
        runtime.stop().await;
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{offset} s: {}", why(&run));
    }
}
