//! Operators' commands on a live run, which viewers may not send.

use afk::core::model::activity::Activity;
use afk::core::model::approval::{Answer, EscalationKind};
use afk::core::model::command::{Accepted, Command, Refusal, Role};
use afk::core::model::id::{Repo, RunId};
use afk::core::model::run::Outcome;

use crate::support::world::{END, WORK, World, as_role, command, ended, until};
use crate::support::{git, journal_id, log, processes_with};

#[tokio::test(flavor = "multi_thread")]
async fn permission_is_answered_once_and_reaches_the_agent() {
    let world = World::new(&format!(
        "echo '{{\"type\":\"permission\",\"id\":\"p1\",\"title\":\"rm -r build\",\"detail\":\"rm -r build\"}}'\nread -r answer\ncase $answer in *'\"decision\":\"deny\"'*'not that'*) {WORK}\n;; esac\n{END}"
    ));
    let runtime = world.start().await;
    let asked = until(&runtime, "the permission", |s| {
        s.fleet.inbox().first().map(|e| (e.id, e.digest, e.kind))
    })
    .await;
    assert_eq!(asked.2, EscalationKind::Permission);
    let answer = |reason: &str| Command::Answer {
        escalation: asked.0,
        digest: asked.1,
        answer: Answer::Deny { reason: reason.into() },
    };
    // A viewer, a stale digest and a typed answer are refused; then the first answer counts.
    assert_eq!(as_role(&runtime, Role::Viewer, answer("x")).await, Err(Refusal::Viewer));
    let digest = afk::core::model::digest::Digest::of(&[b"else"]);
    let stale = Command::Answer { escalation: asked.0, digest, answer: Answer::Approve };
    assert_eq!(command(&runtime, stale).await, Err(Refusal::Stale { escalation: asked.0 }));
    let text = Answer::Text { text: "yes".into() };
    let words = Command::Answer { escalation: asked.0, digest: asked.1, answer: text };
    assert!(matches!(command(&runtime, words).await, Err(Refusal::WrongAnswer { .. })));
    assert_eq!(command(&runtime, answer("not that")).await, Ok(Accepted::Ok));
    let again = command(&runtime, answer("again")).await.unwrap_err().to_string();
    assert!(again.contains("ana answered first: denied: not that"), "{again}");
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_answer_reaches_the_agent() {
    let world = World::new(&format!(
        "echo '{{\"type\":\"question\",\"id\":\"q1\",\"text\":\"Which?\",\"options\":[\"red\",\"blue\"]}}'\nread -r answer\ncase $answer in *blue*) {WORK}\n;; esac\n{END}"
    ));
    let runtime = world.start().await;
    let (escalation, digest) =
        until(&runtime, "the question", |s| s.fleet.inbox().first().map(|e| (e.id, e.digest)))
            .await;
    let answer = Answer::Text { text: "blue".into() };
    let answered = command(&runtime, Command::Answer { escalation, digest, answer }).await;
    assert_eq!(answered, Ok(Accepted::Ok));
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_steers_a_live_agent() {
    let world = World::new(&format!(
        "echo '{{\"type\":\"text\",\"text\":\"ready\"}}'\nread -r steer\ncase $steer in *'the other way'*) echo '{{\"type\":\"steer_taken\"}}'; {WORK}\n;; esac\n{END}"
    ));
    let runtime = world.start().await;
    until(&runtime, "the turn", |s| {
        let run = crate::support::world::run_of(&s.fleet, 1)?;
        matches!(run.progress.activity, Activity::Turn { .. }).then_some(())
    })
    .await;
    let run = RunId(1);
    let steered = command(&runtime, Command::Steer { run, text: "the other way".into() }).await;
    assert_eq!(steered, Ok(Accepted::Ok));
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    assert!(world.transcript(1).contains("steer_taken"));
    let late = command(&runtime, Command::Steer { run, text: "back".into() }).await;
    assert_eq!(late, Err(Refusal::Ended { run }));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_run_leaves_no_process_and_keeps_its_work_as_a_commit() {
    let world = World::new(&format!(
        "{WORK}\necho x > loose\necho '{{\"type\":\"text\",\"text\":\"worked\"}}'\nsleep 1000"
    ))
    .with("[limits]\ngrace_seconds = 1");
    let runtime = world.start().await;
    let mut transcripts = runtime.handle.transcripts.clone();
    while !world.transcript(1).contains("worked") {
        transcripts.changed().await.unwrap();
    }
    let run = RunId(1);
    assert_eq!(command(&runtime, Command::Cancel { run }).await, Ok(Accepted::Ok));
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Cancelled));
    runtime.stop().await;
    assert!(processes_with("AFK_STATE", &journal_id(&world.state())).is_empty());
    let base = crate::support::repository_folder(&world.state(), "acme/thing").join("base.git");
    let kept = git(&base, &["ls-tree", "-r", "--name-only", "refs/afk/kept/r1"]);
    assert!(kept.contains("loose") && kept.contains("tests/state.sh"), "{kept}");
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guidance_reopens_a_run_that_needs_a_human() {
    let world = World::new(&format!(
        "case $prompt in *'use the force'*) {WORK}\n;; *) echo '{{\"type\":\"end\",\"status\":\"blocked\",\"reason\":\"no idea\"}}'; exit;; esac\n{END}"
    ));
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    let (escalation, digest) = {
        let snapshot = runtime.handle.snapshots.borrow();
        let open = snapshot.fleet.inbox();
        (open[0].id, open[0].digest)
    };
    let answer = Answer::Text { text: "use the force".into() };
    let sent = command(&runtime, Command::Answer { escalation, digest, answer }).await;
    assert_eq!(sent, Ok(Accepted::Ok));
    until(&runtime, "done", |s| {
        let run = crate::support::world::run_of(&s.fleet, 1)?;
        (run.progress.outcome == Some(Outcome::Done) && s.fleet.outbox.is_empty()).then_some(())
    })
    .await;
    runtime.stop().await;
    let issue = std::fs::read_to_string(world.path("issues/1.md")).unwrap();
    assert!(issue.contains("closed") && !issue.contains("\"ready-for-human\""), "{issue}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prompt_runs_in_a_temporary_clone_and_pushes_nothing() {
    let world =
        World::new(&format!("echo made > here; git remote get-url origin > $OUT/origin; {END}"));
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let runtime = world.start().await;
    let repo = Repo::parse("acme/thing").unwrap();
    let submit = Command::Submit {
        repo: repo.clone(),
        prompt: "look around".into(),
        priority: None,
        job: None,
    };
    assert!(matches!(command(&runtime, submit).await, Ok(Accepted::Queued { run: RunId(1), .. })));
    until(&runtime, "the end", |s| {
        s.fleet.runs.get(&RunId(1)).and_then(|run| run.progress.outcome)
    })
    .await;
    runtime.stop().await;
    let throwaway = world.state().join("workspaces/throwaway");
    assert!(!throwaway.join("r1").exists(), "the clone is left");
    let origin = std::fs::read_to_string(world.path("origin")).unwrap();
    assert_eq!(origin.trim(), world.remote().display().to_string());
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_resumes_the_conversation() {
    let world = World::new(&format!(
        "echo '{{\"type\":\"session\",\"id\":\"s-1\"}}'\ncase $prompt in *'\"session\":\"s-1\"'*) {WORK}\n;; *) sleep 1000;; esac\n{END}"
    ));
    let runtime = world.start().await;
    until(&runtime, "the session", |s| {
        crate::support::world::run_of(&s.fleet, 1)?.agent.session.clone()
    })
    .await;
    runtime.stop().await;
    assert!(processes_with("AFK_STATE", &journal_id(&world.state())).is_empty());
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    runtime.stop().await;
    assert!(world.transcript(1).contains("You were stopped in the middle"));
}
