//! Outages that outlast every try and ask a human, scaled from hours to seconds: in each phase of a
//! run there is one question for a cause at most, which withdraws itself, nothing is pushed or written twice, and
//! the run goes on by itself.

use std::os::unix::fs::PermissionsExt;

use afk::core::model::activity::Activity;
use afk::core::model::approval::EscalationKind;
use afk::core::model::outage::OutageKind;
use afk::core::model::outbox::{OutboxEntry, OutboxStep};
use afk::core::model::run::{Outcome, Run};
use afk::runtime::Runtime;
use serde_json::json;

use crate::support::api::Api;
use crate::support::cluster::{Cluster, Fault};
use crate::support::github::GitHub;
use crate::support::sinks::Sinks;
use crate::support::world::{END, WORK, World, ended, ended_within, run_of, until, until_within};
use crate::support::{git, log};

/// Tries once a second, and asks at once.
const LONG: &str = "[outages]\nlongest_pause_seconds = 1\nask_minutes = 0";

/// Tries once a second, and asks as late as afk does by itself.
const PATIENT: &str = "[outages]\nlongest_pause_seconds = 1";

/// Shell: waits until the test lets the agent work.
const WAIT: &str = "while ! test -e \"$OUT/go\"; do read -r -t 1 x; done 2>/dev/null";

fn held(run: &Run) -> Option<OutageKind> {
    match &run.progress.activity {
        Activity::Held { cause, .. } => Some(cause.kind),
        _ => None,
    }
}

/// Waits until an outage was tried often and a human was asked.
async fn lasts(runtime: &Runtime) {
    until(runtime, "a long outage", |s| {
        let tries = s.fleet.outages.all().map(|outage| outage.failures).max()?;
        let asked = s.fleet.inbox().iter().any(|e| e.kind == EscalationKind::Outage);
        (tries > 4 && asked).then_some(())
    })
    .await;
}

/// Checks that the run ended well, and that one question at most was asked and is withdrawn.
fn is_well(phase: &str, world: &World, runtime: &Runtime, run: &Run) {
    let why = run.progress.why.clean_line();
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{phase}: {why}");
    assert_eq!((run.progress.attempts, run.agent.turns), (0, 1), "{phase}");
    let fleet = &runtime.handle.snapshots.borrow().fleet;
    assert!(fleet.inbox().is_empty(), "{phase}: {:?}", fleet.inbox());
    // Where git is away too, it is a cause of its own.
    let most = if matches!(phase, "turn" | "ci") { 2 } else { 1 };
    assert!(fleet.escalations.len() <= most, "{phase}: {:?}", fleet.escalations);
    let commits = log(&world.remote(), "master", "%s");
    assert_eq!(commits.iter().filter(|subject| *subject == "Do it").count(), 1, "{phase}");
    let moved = git(&world.remote(), &["reflog", "show", "--format=%gs", "master"]);
    assert_eq!(moved.lines().count(), commits.len() - 1, "{phase}: {moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forge_that_is_away_in_any_phase_asks_once_and_everything_goes_on() {
    for phase in ["claim", "turn", "ci", "completion"] {
        let world = World::new(&format!("{WAIT}\n{WORK}\n{END}"))
            .rules("[ci]\ngithub = true\npoll_ms = 100\nquiet_seconds = 0")
            .with(if phase == "completion" { PATIENT } else { LONG });
        let github = GitHub::start(&world.remote());
        let world = world.on(&github);
        let go = || std::fs::write(world.path("go"), "").unwrap();
        github.ci(&[&[("test", "in_progress")]]);
        github.issue(1, "Do it", "", "ana");
        github.away(phase == "claim");
        let runtime = world.start().await;
        if phase != "claim" {
            until(&runtime, "the agent", |s| {
                let run = run_of(&s.fleet, 1)?;
                (run.agent.turns == 1 && s.fleet.outbox.is_empty()).then_some(())
            })
            .await;
        }
        if phase == "turn" {
            github.away(true);
            go();
        }
        let pushed = async {
            go();
            until(&runtime, "the push", |s| run_of(&s.fleet, 1)?.workspace.pushed.clone()).await.0
        };
        let sha = match phase {
            "claim" | "turn" => {
                lasts(&runtime).await;
                github.away(false);
                pushed.await
            }
            "ci" => {
                let sha = pushed.await;
                github.away(true);
                lasts(&runtime).await;
                github.away(false);
                sha
            }
            _ => {
                let sha = pushed.await;
                github.refuse_writes(true);
                github.conclude(&sha, "test", "success");
                // Reads go on, so that each try of the outage ends it: nobody is asked.
                until(&runtime, "steps that fail", |s| {
                    s.fleet.outbox.values().any(|entry| entry.failures >= 3).then_some(())
                })
                .await;
                github.refuse_writes(false);
                sha
            }
        };
        github.conclude(&sha, "test", "success");
        // After a write whose answer was lost, looks for copies follow for ten minutes.
        let run = until(&runtime, "the end of the run", |s| {
            let run = run_of(&s.fleet, 1).filter(|run| run.progress.outcome.is_some())?;
            let is_look = |e: &OutboxEntry| matches!(e.step, OutboxStep::Tidy { .. });
            s.fleet.outbox.values().all(is_look).then(|| run.clone())
        })
        .await;
        until(&runtime, "the end of the outage", |s| s.fleet.outages.is_empty().then_some(()))
            .await;
        is_well(phase, &world, &runtime, &run);
        runtime.stop().await;
        assert!(github.closed(1) && github.labels(1).is_empty(), "{phase}: {:?}", github.labels(1));
        assert_eq!(github.comments(1).len(), 1, "{phase}: {:?}", github.comments(1));
    }
}

fn secret_file(world: &World, name: &str, text: &str) -> String {
    let path = world.path(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy_server_that_is_away_asks_once_and_the_rollout_is_proved() {
    let world = World::new(&format!("{WORK}\n{END}"))
        .rules("[deploy]\nwoodpecker = 'acme/thing'")
        .with(LONG);
    let sinks = Sinks::start();
    let token = secret_file(&world, "wp-token", "wp-token");
    let section = format!("[woodpecker]\naddress = '{}/wp'\ntoken = 'file:{token}'", sinks.address);
    let world = world.with(&section);
    sinks.away(true);
    let runtime = world.start().await;
    let sha = until(&runtime, "the push", |s| run_of(&s.fleet, 1)?.workspace.pushed.clone()).await;
    lasts(&runtime).await;
    let waits = runtime.handle.snapshots.borrow().fleet.clone();
    assert!(run_of(&waits, 1).is_some_and(Run::live));
    let created = jiff::Timestamp::now().as_second();
    let pipeline = json!({
        "number": 8, "event": "manual", "commit": sha.0, "status": "success", "created": created,
        "branch": "master", "variables": {"IMAGE_TAG": sha.short()},
    });
    sinks.pipelines(&[pipeline]);
    sinks.away(false);
    let run = ended(&runtime).await;
    until(&runtime, "the end of the outage", |s| s.fleet.outages.is_empty().then_some(())).await;
    is_well("deploy", &world, &runtime, &run);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_that_is_sealed_holds_the_turn_and_it_goes_on() {
    let sinks = Sinks::start();
    sinks.secret("afk", &json!({"token": "s3cret-of-the-agent"}));
    sinks.seal(true);
    let world =
        World::new(&format!("test \"$KEY\" = s3cret-of-the-agent || exit 7\n{WORK}\n{END}"));
    let jwt = secret_file(&world, "jwt", "a.b.c\n");
    let section = format!("[vault]\naddress = '{}'\nrole = 'afk'\njwt = '{jwt}'", sinks.address);
    let world = world
        .with(&format!("{LONG}\n{section}"))
        .agent("secrets = { KEY = 'vault:secret/afk#token' }");
    let runtime = world.start().await;
    until(&runtime, "a run that waits", |s| {
        (run_of(&s.fleet, 1).and_then(held) == Some(OutageKind::Secrets)).then_some(())
    })
    .await;
    lasts(&runtime).await;
    sinks.seal(false);
    let run = ended(&runtime).await;
    is_well("turn", &world, &runtime, &run);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn executor_that_is_away_holds_the_turn_and_it_goes_on() {
    let far = World::new(&format!("printf '{{\"type\":\"text\",\"text\":\"far\"}}\\n'\n{END}"));
    std::fs::remove_file(far.path("issues/1.md")).unwrap();
    let (far, address) = {
        let http = crate::support::api::section(&far);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let http = http.replace("127.0.0.1:0", &port.to_string());
        let far = far.with("capacity = 1").with(&http);
        (far.with("[service]\nrepository = 'acme/thing'"), format!("http://{port}"))
    };
    let near = World::new("exit 9");
    std::fs::remove_file(near.path("issues/1.md")).unwrap();
    let token = far.path("operator-token").display().to_string();
    let other = format!(
        "{LONG}\n[executors.other]\nkind = 'service'\naddress = '{address}'\n\
         token = 'file:{token}'\nagent = 'shell'"
    );
    let near = near.with(&other).repo("executor = 'other'");
    let runtime = near.start().await;
    let repo = afk::core::model::id::Repo::parse("acme/thing").unwrap();
    let submit = afk::core::model::command::Command::Submit {
        repo,
        prompt: "look".into(),
        priority: None,
        job: None,
    };
    crate::support::world::command(&runtime, submit).await.unwrap();
    lasts(&runtime).await;
    let waits = runtime.handle.snapshots.borrow().fleet.clone();
    assert!(waits.runs.values().all(|run| held(run) == Some(OutageKind::Executor)));
    let _api = Api::start(&far);
    let run = until(&runtime, "its end", |s| {
        let run = s.fleet.runs.values().find(|run| run.progress.outcome.is_some())?;
        Some(run.as_ref().clone())
    })
    .await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
    assert_eq!(run.agent.turns, 1);
    assert!(runtime.handle.snapshots.borrow().fleet.inbox().is_empty());
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_that_refuses_afks_rights_is_asked_about_and_the_rollout_is_proved() {
    let cluster = Cluster::start();
    let rules =
        "[deploy]\nsoak_seconds = 1\n[[deploy.kubernetes]]\nnamespace = 'web'\nname = 'app'";
    let world = World::new(&format!("{WORK}\n{END}")).rules(rules);
    let section =
        format!("[kubernetes]\nkubeconfig = '{}'", cluster.kubeconfig(world.root()).display());
    let world = world.with(&format!("{LONG}\n{section}"));
    let none = json!({});
    cluster.deployed(1, "registry/app:old", &none);
    for watches in [true, false] {
        cluster.fault(watches, "deployments", Fault::Status(403), 10_000);
    }
    let runtime = world.start().await;
    let sha = until(&runtime, "the push", |s| run_of(&s.fleet, 1)?.workspace.pushed.clone()).await;
    let limit = std::time::Duration::from_secs(150);
    until_within(&runtime, "the question", limit, |s| {
        let held = run_of(&s.fleet, 1).and_then(held) == Some(OutageKind::ClusterLogin);
        (held && !s.fleet.inbox().is_empty()).then_some(())
    })
    .await;
    cluster.heal();
    let image = format!("registry/app:{}", sha.short());
    cluster.deployed(2, &image, &none);
    cluster.pod(2, &image, 0, &json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}));
    let run = ended_within(&runtime, limit).await;
    is_well("rollout", &world, &runtime, &run);
    runtime.stop().await;
}
