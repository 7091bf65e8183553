//! Woodpecker's pipelines as CI and as the deploy stage.

use afk::core::model::run::Outcome;
use afk::core::model::stage::ProofLink;
use serde_json::{Value, json};

use crate::support::sinks::Sinks;
use crate::support::world::{END, WORK, World, ended, run_of, until};

fn world(script: &str, rules: &str) -> (World, Sinks) {
    let sinks = Sinks::start();
    let world = World::new(script).rules(rules);
    let token = world.path("wp-token");
    std::fs::write(&token, "wp-token").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let section = format!(
        "[woodpecker]\naddress = '{}/wp'\ntoken = 'file:{}'",
        sinks.address,
        token.display()
    );
    (world.with(&section), sinks)
}

fn pipeline(number: u64, event: &str, commit: &str, status: &str, tag: &str) -> Value {
    let created = jiff::Timestamp::now().as_second();
    json!({"number": number, "event": event, "commit": commit, "status": status, "created": created,
           "branch": "master", "variables": {"IMAGE_TAG": tag}})
}

async fn pushed(runtime: &afk::runtime::Runtime, before: &str) -> String {
    until(runtime, "the push", |s| {
        let sha = run_of(&s.fleet, 1)?.workspace.pushed.as_ref()?.0.clone();
        (sha != before).then_some(sha)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn pipeline_decides_and_its_failing_step_is_reported() {
    let fix = "case $prompt in *'went red'*'== test'*'the widget is blue'*) echo x > second; git add second; git $US commit -qm Second;;";
    let (world, sinks) = world(
        &format!("{fix} *) {WORK}\n;; esac\n{END}"),
        "[ci]\nwoodpecker = 'acme/thing'\npoll_ms = 100",
    );
    let runtime = world.start().await;
    let first = pushed(&runtime, "").await;
    let older = pipeline(3, "push", "0000", "success", "");
    sinks.pipelines(&[pipeline(4, "push", &first, "running", ""), older.clone()]);
    sinks.pipelines(&[pipeline(4, "push", &first, "failure", ""), older.clone()]);
    let second = pushed(&runtime, &first).await;
    sinks.pipelines(&[pipeline(5, "push", &second, "success", ""), older]);
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(
        (run.progress.outcome, run.progress.attempts),
        (Some(Outcome::Done), 1),
        "{:?}",
        run.progress.why
    );
    let fact = &run.proof.get(ProofLink::Ci).unwrap().facts[0];
    assert_eq!(fact.value.as_received(), "pipeline 5: success");
    assert!(fact.link.as_ref().unwrap().as_received().ends_with("/repos/7/pipeline/5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy_pipeline_is_found_by_its_image_tag() {
    let (world, sinks) = world(&format!("{WORK}\n{END}"), "[deploy]\nwoodpecker = 'acme/thing'");
    let runtime = world.start().await;
    let sha = pushed(&runtime, "").await;
    sinks.pipelines(&[
        pipeline(9, "manual", &sha, "failure", "ffffffff"),
        pipeline(8, "manual", "0000", "success", &sha[..8]),
    ]);
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
}
