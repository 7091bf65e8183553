//! Turns at a T3 Code server: its agent works in the run's worktree, and the gate judges the
//! result.

use afk::core::model::agent_event::TurnEnd;
use afk::core::model::approval::{Answer, Escalation, EscalationKind};
use afk::core::model::capability::Steer;
use afk::core::model::command::{Accepted, Command};
use afk::core::model::run::{Outcome, Run};
use afk::runtime::Runtime;
use serde_json::json;

use crate::support::t3::{Act, T3, TOKEN};
use crate::support::world::{Up, World, command, ended, run_of, until, wait_until};
use crate::support::{afk, text};

const TEST: &str = "mkdir -p tests && echo 'grep -q done state' > tests/state.sh && git add tests && \
    git -c user.name=a -c user.email=a@localhost commit -qm 'Test it'";
const MEND: &str = "echo done > state && git add state && \
    git -c user.name=a -c user.email=a@localhost commit -qm 'Do it'";

/// The agent's actions that solve an issue.
fn work() -> Vec<Act> {
    vec![Act::Say("First the failing test."), Act::Run(TEST), Act::Run(MEND), Act::Say("Done.")]
}

fn world(server: &T3, more: &str) -> World {
    let world = World::new("exit 9");
    let token = world.path("t3-token");
    write_secret(&token, TOKEN);
    let section = format!(
        "[executors.t3]\nkind = 't3'\naddress = '{}'\nmodel = 'claude-sonnet-4-6'\n{more}",
        server.address
    );
    let token = if more.contains("issue =") {
        String::new()
    } else {
        format!("\ntoken = 'file:{}'", token.display())
    };
    world.with(&format!("{section}{token}")).repo("executor = 't3'")
}

fn write_secret(path: &std::path::Path, words: &str) {
    std::fs::write(path, words).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn strs<'a>(places: &'a [String], word: &'a str) -> Vec<&'a str> {
    places.iter().map(String::as_str).chain([word]).collect()
}

fn checkpoints(run: &Run) -> String {
    let worktree = std::path::PathBuf::from(run.workspace.worktree.as_ref().unwrap());
    let mut git = std::process::Command::new("git");
    git.args(["for-each-ref", "refs/t3"]).current_dir(worktree.with_file_name("base.git"));
    let refs = git.output().unwrap();
    assert!(refs.status.success(), "{refs:?}");
    String::from_utf8(refs.stdout).unwrap()
}

async fn wait_for_escalation(runtime: &Runtime, kind: EscalationKind, title: &str) -> Escalation {
    until(runtime, "an escalation", |s| {
        let mut all = s.fleet.escalations.values();
        let found =
            all.find(|e| e.open() && e.kind == kind && e.title.clean_line().contains(title));
        found.map(|escalation| escalation.as_ref().clone())
    })
    .await
}

async fn answer(runtime: &Runtime, escalation: &Escalation, answer: Answer) {
    let action = Command::Answer { escalation: escalation.id, digest: escalation.digest, answer };
    assert_eq!(command(runtime, action).await, Ok(Accepted::Ok));
}

fn run(runtime: &Runtime) -> Run {
    run_of(&runtime.handle.snapshots.borrow().fleet, 1).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_is_worked_on_at_a_t3_server_and_its_word_is_not_believed() {
    // A turn without work closes the gate; the next turn works in the same thread.
    let server = T3::start(|turn, _| match turn {
        0 => vec![Act::Say("All done — 日本."), Act::Run("echo looked; exit 3")],
        _ => work(),
    });
    let world = world(&server, "");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    let transcript = world.transcript(1);
    assert_eq!(
        run.progress.outcome,
        Some(Outcome::Done),
        "{}\n{transcript}",
        run.progress.why.clean_line()
    );
    assert_eq!((run.agent.turns, server.turns()), (2, 2));
    for words in ["All done — 日本.", "First the failing test.", "looked", "Do it"] {
        assert!(transcript.contains(words), "{words}: {transcript}");
    }
    let equipment = run.agent.equipment.clone().unwrap();
    assert_eq!(equipment.place.as_deref(), Some("t3"));
    assert_eq!(equipment.version.unwrap().as_received(), "0.0.27");
    assert_eq!((equipment.can.steer, equipment.can.permissions), (Steer::AfterTurn, false));
    // The tokens of both turns are counted.
    assert_eq!((run.spend.total.tokens_in, run.spend.total.tokens_out), (2800, 200));
    let threads = server.commands("thread.create");
    assert_eq!(threads.len(), 1);
    assert_eq!(threads[0]["runtimeMode"], "full-access");
    let model = json!({"instanceId": "claudeAgent", "model": "claude-sonnet-4-6"});
    assert_eq!(threads[0]["modelSelection"], model);
    for turn in server.commands("thread.turn.start") {
        assert_eq!(turn["threadId"], threads[0]["threadId"]);
    }
    wait_until("the end of its agent", || !server.commands("thread.session.stop").is_empty()).await;
    wait_until("its checkpoints are gone", || checkpoints(&run).is_empty()).await;
    let kept = world.state().join("elsewhere");
    wait_until("what is kept of it is gone", || std::fs::read_dir(&kept).unwrap().count() == 0)
        .await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t3_requests_and_questions_reach_a_human() {
    let server = T3::start(|turn, prompt| {
        let write = Act::Write("notes.md", "a\n");
        let again = Act::Write("more.md", "b\n");
        if turn == 0 {
            return [vec![write, again, Act::Ask("Which colour?")], work()].concat();
        }
        assert!(prompt.contains("one is enough"), "{prompt}");
        vec![Act::Say("I see.")]
    });
    let world = world(&server, "approvals = true").rules("[permissions]\nask = ['edit(*.md)']");
    let runtime = world.start().await;
    let first = wait_for_escalation(&runtime, EscalationKind::Permission, "Write notes.md").await;
    assert!(first.detail.as_received().contains("+a"), "{}", first.detail.as_received());
    answer(&runtime, &first, Answer::Approve).await;
    let second = wait_for_escalation(&runtime, EscalationKind::Permission, "Write more.md").await;
    answer(&runtime, &second, Answer::Deny { reason: "one is enough".into() }).await;
    let question = wait_for_escalation(&runtime, EscalationKind::Question, "Which colour?").await;
    answer(&runtime, &question, Answer::Text { text: "2".into() }).await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
    let decided = server.commands("thread.approval.respond");
    let decided: Vec<_> = decided.iter().map(|command| &command["decision"]).collect();
    assert_eq!(decided, ["accept", "decline"]);
    let answers = &server.commands("thread.user-input.respond")[0]["answers"];
    assert_eq!(answers, &json!({"Which colour?": "blue"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_and_a_person_at_the_server_answer_requests() {
    let server = T3::start(|_, _| {
        [vec![Act::Write("notes.md", "a\n"), Act::Ask("Which colour?")], work()].concat()
    });
    let world = world(&server, "approvals = true").rules("[permissions]\ndeny = ['edit(*.md)']");
    let runtime = world.start().await;
    let question = wait_for_escalation(&runtime, EscalationKind::Question, "Which colour?").await;
    let decided = server.commands("thread.approval.respond");
    assert_eq!(decided[0]["decision"], "decline");
    let request = question.request_id.clone().unwrap();
    let thread = server.commands("thread.create")[0]["threadId"].clone();
    server.act_as_person(&json!({
        "type": "thread.user-input.respond", "commandId": "there", "threadId": thread,
        "requestId": request, "answers": {"Which colour?": "red"}, "createdAt": "now",
    }));
    until(&runtime, "the question is withdrawn", |s| {
        (!s.fleet.escalations[&question.id].open()).then_some(())
    })
    .await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupt_keeps_the_thread_and_a_message_follows_its_turn() {
    let server = T3::start(|turn, prompt| match turn {
        0 => vec![Act::Say("working"), Act::Hang],
        1 => {
            assert!(prompt.contains("do it slowly"), "{prompt}");
            vec![Act::Say("at leisure"), Act::Hold]
        }
        _ => {
            assert!(prompt.contains("and well"), "{prompt}");
            work()
        }
    });
    let world = world(&server, "");
    let runtime = world.start().await;
    wait_until("its work", || world.transcript(1).contains("working")).await;
    let id = run(&runtime).id;
    assert_eq!(command(&runtime, Command::Interrupt { run: id }).await, Ok(Accepted::Ok));
    let stalled = wait_for_escalation(&runtime, EscalationKind::Stalled, "").await;
    assert_eq!(run(&runtime).agent.turn_end, Some(TurnEnd::Interrupted));
    answer(&runtime, &stalled, Answer::Text { text: "do it slowly".into() }).await;
    wait_until("its second turn", || world.transcript(1).contains("at leisure")).await;
    until(&runtime, "the turn", |s| run_of(&s.fleet, 1)?.live().then_some(())).await;
    wait_until("that turn is followed", || server.links() > 0).await;
    let steer = Command::Steer { run: id, text: "and well".into() };
    assert_eq!(command(&runtime, steer).await, Ok(Accepted::Ok));
    wait_until("the message waits", || world.transcript(1).contains("when this turn ends")).await;
    assert_eq!(server.turns(), 2);
    server.release();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
    assert_eq!((server.turns(), server.commands("thread.create").len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_afk_repeats_nothing_and_keeps_the_question_open() {
    let server = T3::start(|_, _| {
        let asks = vec![Act::Say("told once"), Act::Ask("Which colour?"), Act::Hold];
        [asks, work()].concat()
    });
    let world = world(&server, "");
    let mut up: Up = world.up();
    wait_until("the question", || world.transcript(1).contains("Which colour?")).await;
    up.kill();
    drop(up);
    let runtime = world.start().await;
    let question = wait_for_escalation(&runtime, EscalationKind::Question, "Which colour?").await;
    wait_until("it is followed again", || server.links() > 1).await;
    answer(&runtime, &question, Answer::Text { text: "red".into() }).await;
    wait_until("the answer", || !server.commands("thread.user-input.respond").is_empty()).await;
    // The connection is lost, but the events meanwhile are not.
    server.cut(true);
    server.release();
    wait_until("that is told", || world.transcript(1).contains("the T3 server is unavailable"))
        .await;
    server.cut(false);
    let run = ended(&runtime).await;
    let open = runtime.handle.snapshots.borrow().fleet.escalations.len();
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
    assert_eq!((run.agent.turns, server.turns(), open), (1, 1, 1), "it was repeated");
    let transcript = world.transcript(1);
    for (words, times) in [("told once", 1), ("First the failing test.", 1), ("\"Done.\"", 1)] {
        assert_eq!(transcript.matches(words).count(), times, "{words}: {transcript}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_token_is_reissued_and_another_version_is_refused() {
    let server = T3::start(|_, _| [vec![Act::Hold], work()].concat());
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("next");
    std::fs::write(&token, "first").unwrap();
    server.tokens(&["first"]);
    let world = world(&server, &format!("issue = ['cat', '{}']", token.display()));
    let runtime = world.start().await;
    wait_until("its work", || server.links() == 1).await;
    std::fs::write(&token, "second").unwrap();
    server.tokens(&["second"]);
    server.cut(false);
    wait_until("it is followed again", || server.links() == 1).await;
    server.release();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
    assert_eq!(server.turns(), 1);
    // `afk doctor` may ask before any thread exists.
    let doctor = || text(&afk(&strs(&world.places(), "doctor")).output().unwrap().stdout);
    world.config();
    assert!(doctor().contains("ok  executor t3: "), "{}", doctor());
    server.tokens(&[]);
    assert!(doctor().contains("NO  executor t3: it rejects the token"), "{}", doctor());
    // The version that afk needs, and another one.
    server.version(Some("0.1.0"));
    server.tokens(&[TOKEN]);
    let world = self::world(&server, "version = '0.0.27'");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(
        run.progress.why.clean_line().contains("is 0.1.0"),
        "{}",
        run.progress.why.clean_line()
    );
    assert_eq!(server.turns(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_turn_at_the_server_is_retried() {
    let server = T3::start(|turn, _| match turn {
        0 => vec![Act::Fail("the provider could not be started")],
        _ => work(),
    });
    let world = world(&server, "");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
    assert!(world.transcript(1).contains("the provider could not be started"));
}
