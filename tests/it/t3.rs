//! Turns at a T3 Code server: its agent works in the run's worktree and the gate judges what it did.

use afk::core::model::agent_event::TurnEnd;
use afk::core::model::approval::{Answer, Escalation, EscalationKind};
use afk::core::model::capability::Steer;
use afk::core::model::command::{Accepted, Command};
use afk::core::model::run::{Outcome, Run};
use afk::runtime::Runtime;
use serde_json::json;

use crate::support::t3::{Act, T3, TOKEN};
use crate::support::world::{Up, World, command, ended, run_of, so, until};
use crate::support::{afk, text};

const TEST: &str = "mkdir -p tests && echo 'grep -q done state' > tests/state.sh && git add tests && \
    git -c user.name=a -c user.email=a@localhost commit -qm 'Test it'";
const MEND: &str = "echo done > state && git add state && \
    git -c user.name=a -c user.email=a@localhost commit -qm 'Do it'";

/// All that an issue needs.
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
    let worktree = std::path::PathBuf::from(run.worktree.as_ref().unwrap());
    let mut git = std::process::Command::new("git");
    git.args(["for-each-ref", "refs/t3"]).current_dir(worktree.with_file_name("base.git"));
    let refs = git.output().unwrap();
    assert!(refs.status.success(), "{refs:?}");
    String::from_utf8(refs.stdout).unwrap()
}

async fn asked(runtime: &Runtime, kind: EscalationKind, title: &str) -> Escalation {
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
    // It says that it is done and did nothing; told so, it works in the same thread.
    let server = T3::start(|turn, _| match turn {
        0 => vec![Act::Say("All done — 日本."), Act::Run("echo looked; exit 3")],
        _ => work(),
    });
    let world = world(&server, "");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    let told = world.transcript(1);
    assert_eq!(run.outcome, Some(Outcome::Done), "{}\n{told}", run.why.clean_line());
    assert_eq!((run.turns, server.turns()), (2, 2));
    for words in ["All done — 日本.", "First the failing test.", "looked", "Do it"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let equipment = run.equipment.clone().unwrap();
    assert_eq!(equipment.place.as_deref(), Some("t3"));
    assert_eq!(equipment.version.unwrap().as_received(), "0.0.27");
    assert_eq!((equipment.can.steer, equipment.can.permissions), (Steer::AfterTurn, false));
    // Tokens of both turns.
    assert_eq!((run.spend.tokens_in, run.spend.tokens_out), (2800, 200));
    let threads = server.commands("thread.create");
    assert_eq!(threads.len(), 1);
    assert_eq!(threads[0]["runtimeMode"], "full-access");
    let model = json!({"instanceId": "claudeAgent", "model": "claude-sonnet-4-6"});
    assert_eq!(threads[0]["modelSelection"], model);
    for turn in server.commands("thread.turn.start") {
        assert_eq!(turn["threadId"], threads[0]["threadId"]);
    }
    so("the end of its agent", || !server.commands("thread.session.stop").is_empty()).await;
    so("its checkpoints are gone", || checkpoints(&run).is_empty()).await;
    let kept = world.state().join("elsewhere");
    so("what is kept of it is gone", || std::fs::read_dir(&kept).unwrap().count() == 0).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_requests_and_questions_reach_a_human() {
    let server = T3::start(|turn, said| {
        let write = Act::Write("notes.md", "a\n");
        let again = Act::Write("more.md", "b\n");
        if turn == 0 {
            return [vec![write, again, Act::Ask("Which colour?")], work()].concat();
        }
        assert!(said.contains("one is enough"), "{said}");
        vec![Act::Say("I see.")]
    });
    let world = world(&server, "approvals = true").rules("[permissions]\nask = ['edit(*.md)']");
    let runtime = world.start().await;
    let first = asked(&runtime, EscalationKind::Permission, "Write notes.md").await;
    assert!(first.detail.as_received().contains("+a"), "{}", first.detail.as_received());
    answer(&runtime, &first, Answer::Approve).await;
    let second = asked(&runtime, EscalationKind::Permission, "Write more.md").await;
    answer(&runtime, &second, Answer::Deny { reason: "one is enough".into() }).await;
    let question = asked(&runtime, EscalationKind::Question, "Which colour?").await;
    answer(&runtime, &question, Answer::Text { text: "2".into() }).await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{}", run.why.clean_line());
    let decided = server.commands("thread.approval.respond");
    let decided: Vec<_> = decided.iter().map(|command| &command["decision"]).collect();
    assert_eq!(decided, ["accept", "decline"]);
    let answers = &server.commands("thread.user-input.respond")[0]["answers"];
    assert_eq!(answers, &json!({"Which colour?": "blue"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_answers_and_so_does_a_person_at_the_server() {
    let server = T3::start(|_, _| {
        [vec![Act::Write("notes.md", "a\n"), Act::Ask("Which colour?")], work()].concat()
    });
    let world = world(&server, "approvals = true").rules("[permissions]\ndeny = ['edit(*.md)']");
    let runtime = world.start().await;
    let question = asked(&runtime, EscalationKind::Question, "Which colour?").await;
    let decided = server.commands("thread.approval.respond");
    assert_eq!(decided[0]["decision"], "decline");
    let request = question.request.clone().unwrap();
    let thread = server.commands("thread.create")[0]["threadId"].clone();
    server.there(&json!({
        "type": "thread.user-input.respond", "commandId": "there", "threadId": thread,
        "requestId": request, "answers": {"Which colour?": "red"}, "createdAt": "now",
    }));
    until(&runtime, "the question is withdrawn", |s| {
        (!s.fleet.escalations[&question.id].open()).then_some(())
    })
    .await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{}", run.why.clean_line());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_keeps_the_thread_and_a_message_follows_its_turn() {
    let server = T3::start(|turn, said| match turn {
        0 => vec![Act::Say("working"), Act::Hang],
        1 => {
            assert!(said.contains("do it slowly"), "{said}");
            vec![Act::Say("at leisure"), Act::Hold]
        }
        _ => {
            assert!(said.contains("and well"), "{said}");
            work()
        }
    });
    let world = world(&server, "");
    let runtime = world.start().await;
    so("its work", || world.transcript(1).contains("working")).await;
    let id = run(&runtime).id;
    assert_eq!(command(&runtime, Command::Interrupt { run: id }).await, Ok(Accepted::Ok));
    let stalled = asked(&runtime, EscalationKind::Stalled, "").await;
    assert_eq!(run(&runtime).turn_end, Some(TurnEnd::Interrupted));
    answer(&runtime, &stalled, Answer::Text { text: "do it slowly".into() }).await;
    so("its second turn", || world.transcript(1).contains("at leisure")).await;
    until(&runtime, "the turn", |s| run_of(&s.fleet, 1)?.live().then_some(())).await;
    so("that turn is followed", || server.links() > 0).await;
    let steer = Command::Steer { run: id, text: "and well".into() };
    assert_eq!(command(&runtime, steer).await, Ok(Accepted::Ok));
    so("the message waits", || world.transcript(1).contains("when this turn ends")).await;
    assert_eq!(server.turns(), 2);
    server.let_go();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{}", run.why.clean_line());
    assert_eq!((server.turns(), server.commands("thread.create").len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_repeats_nothing_and_a_question_stays_open() {
    let server = T3::start(|_, _| {
        let asks = vec![Act::Say("told once"), Act::Ask("Which colour?"), Act::Hold];
        [asks, work()].concat()
    });
    let world = world(&server, "");
    let mut up: Up = world.up();
    so("the question", || world.transcript(1).contains("Which colour?")).await;
    up.kill();
    drop(up);
    let runtime = world.start().await;
    let question = asked(&runtime, EscalationKind::Question, "Which colour?").await;
    so("it is followed again", || server.links() > 1).await;
    answer(&runtime, &question, Answer::Text { text: "red".into() }).await;
    so("the answer", || !server.commands("thread.user-input.respond").is_empty()).await;
    // The way there is lost, and what comes meanwhile is not.
    server.cut(true);
    server.let_go();
    so("that is told", || world.transcript(1).contains("the T3 server is unavailable")).await;
    server.cut(false);
    let run = ended(&runtime).await;
    let open = runtime.handle.snapshots.borrow().fleet.escalations.len();
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{}", run.why.clean_line());
    assert_eq!((run.turns, server.turns(), open), (1, 1, 1), "it was repeated");
    let told = world.transcript(1);
    for (words, times) in [("told once", 1), ("First the failing test.", 1), ("\"Done.\"", 1)] {
        assert_eq!(told.matches(words).count(), times, "{words}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ran_out_is_issued_anew_and_another_version_is_refused() {
    let server = T3::start(|_, _| [vec![Act::Hold], work()].concat());
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("next");
    std::fs::write(&token, "first").unwrap();
    server.tokens(&["first"]);
    let world = world(&server, &format!("issue = ['cat', '{}']", token.display()));
    let runtime = world.start().await;
    so("its work", || server.links() == 1).await;
    std::fs::write(&token, "second").unwrap();
    server.tokens(&["second"]);
    server.cut(false);
    so("it is followed again", || server.links() == 1).await;
    server.let_go();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{}", run.why.clean_line());
    assert_eq!(server.turns(), 1);
    // Before anything is begun, somebody may ask.
    let doctor = || text(&afk(&strs(&world.places(), "doctor")).output().unwrap().stdout);
    world.config();
    assert!(doctor().contains("ok  executor t3: "), "{}", doctor());
    server.tokens(&[]);
    assert!(doctor().contains("NO  executor t3: it rejects the token"), "{}", doctor());
    // What it must be, and is not.
    server.version(Some("0.1.0"));
    server.tokens(&[TOKEN]);
    let world = self::world(&server, "version = '0.0.27'");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::NeedsHuman));
    assert!(run.why.clean_line().contains("is 0.1.0"), "{}", run.why.clean_line());
    assert_eq!(server.turns(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_at_the_server_is_none_of_ours_and_a_lost_thread_is_begun_anew() {
    let server = T3::start(|turn, _| match turn {
        0 => vec![Act::Fail("the provider could not be started")],
        _ => work(),
    });
    let world = world(&server, "");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{}", run.why.clean_line());
    assert!(world.transcript(1).contains("the provider could not be started"));
}
