//! What people change on a tracker while afk works: edits, labels, closings, transfers, renames, and
//! another afk on the same issues.

use std::path::Path;

use afk::core::model::approval::{Answer, EscalationKind};
use afk::core::model::command::Command;
use afk::core::model::id::IssueKey;
use afk::core::model::ledger::Reason;
use afk::core::model::run::Outcome;
use afk::runtime::Runtime;

use crate::support::github::{Fault, GitHub};
use crate::support::world::{END, WORK, World, command, ended, run_of, until, wait_until};
use crate::support::{AFK, log};

/// Shell: keeps the prompt for the test, and waits until the test lets it work.
const WAIT: &str = "printf '%s\\n' \"$prompt\" >> \"$OUT/prompts\"
while ! test -e \"$OUT/go\"; do read -r -t 1 x; done 2>/dev/null";

fn world(more: &str) -> (World, GitHub) {
    let world = World::new(&format!("{WAIT}\n{WORK}\n{END}"))
        .rules("[ci]\ngithub = true\npoll_ms = 100")
        .with(more);
    let github = GitHub::start(&world.remote());
    let world = world.on(&github);
    (world, github)
}

fn key(number: u64) -> IssueKey {
    IssueKey::parse(&format!("acme/thing#{number}")).unwrap()
}

fn go(world: &World) {
    std::fs::write(world.path("go"), "").unwrap();
}

fn prompts(world: &World) -> String {
    std::fs::read_to_string(world.path("prompts")).unwrap_or_default()
}

async fn reason(runtime: &Runtime, number: u64, what: &str, fits: impl Fn(&Reason) -> bool) {
    until(runtime, what, |s| fits(&s.fleet.ledger.get(&key(number))?.reason).then_some(())).await;
}

/// Waits until an agent works on the issue.
async fn at_work(runtime: &Runtime, world: &World) {
    until(runtime, "the claim to be delivered", |s| {
        let run = run_of(&s.fleet, 1)?;
        (run.agent.turns == 1 && s.fleet.outbox.is_empty()).then_some(())
    })
    .await;
    wait_until("the agent", || !prompts(world).is_empty()).await;
}

/// Answers the one open question.
async fn answer(runtime: &Runtime, kind: EscalationKind, answer: Answer) {
    let (escalation, digest) = until(runtime, "the question", |s| {
        let asked = s.fleet.inbox().into_iter().find(|asked| asked.kind == kind)?;
        Some((asked.id, asked.digest))
    })
    .await;
    command(runtime, Command::Answer { escalation, digest, answer }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn text_edited_by_a_stranger_after_the_claim_never_reaches_the_agent() {
    let (world, github) = world("capacity = 0");
    github.issue(1, "Do it", "Say hello.", "ana");
    let runtime = world.start().await;
    until(&runtime, "the claim", |s| run_of(&s.fleet, 1).map(|_| ())).await;
    github.edit(1, "Say goodbye.", "rita");
    let asked = until(&runtime, "the question", |s| {
        s.fleet.inbox().into_iter().find(|e| e.kind == EscalationKind::Edited).cloned()
    })
    .await;
    let detail = asked.detail.as_received();
    assert!(detail.contains("rita") && detail.contains("-Say hello.\n+Say goodbye."), "{detail}");
    answer(&runtime, EscalationKind::Edited, Answer::Approve).await;
    command(&runtime, Command::SetCapacity { permits: 1 }).await.unwrap();
    wait_until("the agent", || !prompts(&world).is_empty()).await;
    go(&world);
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    let prompts = prompts(&world);
    assert!(prompts.contains("Say hello.") && !prompts.contains("goodbye"), "{prompts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn edit_by_a_trusted_person_reaches_the_agent() {
    let (world, github) = world("");
    github.issue(1, "Do it", "Say hello.", "ana");
    let runtime = world.start().await;
    at_work(&runtime, &world).await;
    github.edit(1, "Say hello twice.", "ana");
    until(&runtime, "the edit", |s| run_of(&s.fleet, 1)?.issue.edited_for.map(|_| ())).await;
    go(&world);
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.agent.turns, 2, "the turn that was under way is followed by one with the edit");
    assert!(prompts(&world).contains("Say hello twice."), "{}", prompts(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn arming_is_judged_by_all_edits_from_its_second_on() {
    let (world, github) = world("");
    let world = world.with_kill_switch();
    github.issue(1, "Edited in the same second", "x", "ana");
    github.edit_in_the_same_second(1, "y", "rita");
    github.issue(2, "Edited back", "x", "ana");
    github.edit(2, "y", "rita");
    github.edit(2, "x", "ana");
    github.issue(3, "Renamed", "x", "ana");
    github.rename_issue(3, "Renamed to another", "rita");
    github.issue(4, "Another class", "x", "ana");
    github.label(4, "no-test", "rita", true);
    github.issue(5, "Labelled again", "x", "ana");
    github.label(5, "ready-for-agent", "ana", false);
    github.label(5, "ready-for-agent", "rita", true);
    github.issue(6, "Edited by its trusted author", "x", "ana");
    github.edit(6, "y", "ana");
    github.label(6, "bug", "rita", true);
    let runtime = world.start().await;
    for number in 1..=4 {
        reason(&runtime, number, "the hold", |r| matches!(r, Reason::Hold { .. })).await;
    }
    reason(&runtime, 5, "the stranger", |r| matches!(r, Reason::Untrusted { .. })).await;
    reason(&runtime, 6, "the armed one", |r| *r == Reason::KillSwitch).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issue_newer_than_its_events_waits_for_them() {
    let (world, github) = world("");
    github.issue(1, "Do it", "x", "ana");
    github.label(1, "ready-for-agent", "ana", false);
    github.label(1, "ready-for-agent", "rita", true);
    github.issue(2, "Do it", "x", "ana");
    // The first timeline still ends with ana's label, and the second one is empty.
    github.hide_events(2);
    let runtime = world.start().await;
    let lags = |reason: &Reason| match reason {
        Reason::ArmingUnknown { why } => why.contains("lag"),
        _ => false,
    };
    for number in [1, 2] {
        reason(&runtime, number, "the lag", lags).await;
    }
    github.hide_events(0);
    reason(&runtime, 1, "the stranger", |r| matches!(r, Reason::Untrusted { .. })).await;
    reason(&runtime, 2, "the claim", |r| matches!(r, Reason::Running { .. })).await;
    assert_eq!(runtime.handle.snapshots.borrow().fleet.runs.len(), 1);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_waits_for_an_edit_that_the_timeline_does_not_show_yet() {
    let (world, github) = world("");
    github.issue(1, "Do it", "Say hello.", "ana");
    let runtime = world.start().await;
    at_work(&runtime, &world).await;
    github.lag_edits(true);
    github.edit(1, "Say goodbye.", "rita");
    until(&runtime, "the edit", |s| {
        let issue = s.fleet.issues.get(&key(1))?;
        issue.body.as_received().contains("goodbye").then_some(())
    })
    .await;
    go(&world);
    until(&runtime, "the wait", |s| run_of(&s.fleet, 1)?.issue.unjudged.map(|_| ())).await;
    github.lag_edits(false);
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman), "{:?}", run.progress.why);
    assert!(run.progress.why.clean().contains("rita"), "{:?}", run.progress.why);
    let commits = log(&world.remote(), "master", "%s");
    assert_eq!(commits, ["Begin", "Rules"], "nothing was pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ends_without_a_human_when_its_issue_is_taken_back() {
    for change in ["unlabelled", "closed", "deleted", "transferred"] {
        let (world, github) = world("");
        github.issue(1, "Do it", "x", "ana");
        let runtime = world.start().await;
        at_work(&runtime, &world).await;
        match change {
            "unlabelled" => github.label(1, "ready-for-agent", "ana", false),
            "closed" => github.close(1),
            "deleted" => github.delete(1),
            _ => github.transfer(1, "acme/other/issues/9"),
        }
        let run = ended(&runtime).await;
        assert_eq!(run.progress.outcome, Some(Outcome::Cancelled), "{change}");
        assert!(runtime.handle.snapshots.borrow().fleet.inbox().is_empty(), "{change}");
        runtime.stop().await;
        let commits = log(&world.remote(), "master", "%s");
        assert_eq!(commits, ["Begin", "Rules"], "{change}: nothing was pushed");
        match change {
            "unlabelled" | "closed" => {
                assert!(github.labels(1).is_empty(), "{change}: {:?}", github.labels(1));
                assert!(github.comments(1)[0].contains("taken back"), "{:?}", github.comments(1));
            }
            "transferred" => {
                let written = github.log().into_iter().filter(|seen| seen.method != "GET");
                let other: Vec<_> = written.filter(|seen| seen.path.contains("other")).collect();
                assert!(other.is_empty(), "{other:?}");
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn issue_closed_after_the_push_is_finished() {
    let (world, github) = world("");
    github.ci(&[&[("test", "in_progress")]]);
    github.issue(1, "Do it", "x", "ana");
    go(&world);
    let runtime = world.start().await;
    let pushed =
        until(&runtime, "the push", |s| run_of(&s.fleet, 1)?.workspace.pushed.clone()).await;
    github.close(1);
    until(&runtime, "the closing", |s| run_of(&s.fleet, 1)?.issue.withdrawn.clone()).await;
    github.conclude(&pushed.0, "test", "success");
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    let comment = &github.comments(1)[0];
    assert!(comment.contains("After the push: `its issue was closed`"), "{comment}");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_on_an_archived_repository_ask_once_and_are_done_later() {
    let (world, github) = world("");
    github.issue(1, "Do it", "x", "ana");
    let runtime = world.start().await;
    at_work(&runtime, &world).await;
    github.archive(true);
    go(&world);
    let asked = until(&runtime, "the question", |s| {
        let asked = s.fleet.inbox().first().copied().cloned()?;
        (asked.kind == EscalationKind::Undelivered
            && run_of(&s.fleet, 1)?.progress.outcome == Some(Outcome::Done))
        .then_some(asked)
    })
    .await;
    let detail = asked.detail.as_received();
    assert!(detail.contains("403") && detail.contains("read-only"), "{detail}");
    github.archive(false);
    answer(&runtime, EscalationKind::Undelivered, Answer::Approve).await;
    wait_until("the closing", || github.closed(1)).await;
    ended(&runtime).await;
    let open = runtime.handle.snapshots.borrow().fleet.inbox().len();
    runtime.stop().await;
    assert_eq!(open, 0, "the question is answered");
    assert!(github.labels(1).is_empty(), "{:?}", github.labels(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn held_steps_are_listed_and_skipped_on_the_command_line() {
    let (world, github) = world("");
    github.issue(1, "Do it", "x", "ana");
    let runtime = world.start().await;
    at_work(&runtime, &world).await;
    github.archive(true);
    go(&world);
    until(&runtime, "the held steps", |s| {
        let held = s.fleet.outbox.values().filter(|entry| entry.held).count();
        (run_of(&s.fleet, 1)?.progress.outcome.is_some() && held == 3).then_some(())
    })
    .await;
    runtime.stop().await;
    let call = |words: &[&str]| {
        let places = world.places();
        let args: Vec<&str> =
            places.iter().map(String::as_str).chain(words.iter().copied()).collect();
        let out = crate::support::afk(&args).output().unwrap();
        let both = [out.stdout, out.stderr].concat();
        (out.status.code(), crate::support::text(&both))
    };
    let (code, listed) = call(&["outbox"]);
    assert_eq!(code, Some(0), "{listed}");
    let held: Vec<&str> = listed.lines().filter(|line| line.contains("can't be done")).collect();
    assert!(held.len() == 3 && listed.contains("403"), "{listed}");
    for line in held {
        let step = line.split(' ').next().unwrap();
        let (code, printed) = call(&["outbox", "edit", step, "another text"]);
        assert!(code == Some(1) && printed.contains("is no comment"), "{printed}");
        assert_eq!(call(&["outbox", "skip", step]).0, Some(0));
        assert_eq!(call(&["outbox", "retry", step]).0, Some(1), "it is gone");
    }
    assert!(!call(&["outbox"]).1.contains("can't be done"));
    let (_, explained) = call(&["explain", "acme/thing#1"]);
    assert!(explained.contains("r1 ended as done"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn comment_that_arrives_late_is_left_once() {
    let (world, github) = world("");
    github.fault("POST", "/comments", Fault::AppliedLater(4_000), 1);
    github.issue(1, "Do it", "x", "ana");
    go(&world);
    let runtime = world.start().await;
    wait_until("both comments", || github.comments(1).len() == 2).await;
    wait_until("one comment", || github.comments(1).len() == 1).await;
    until(&runtime, "the end", |s| run_of(&s.fleet, 1)?.progress.outcome).await;
    wait_until("the closing", || github.closed(1)).await;
    runtime.stop().await;
    let comments = github.comments(1);
    assert!(comments.len() == 1 && comments[0].contains("is **done**"), "{comments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_repository_is_followed_and_its_name_announced() {
    let (world, github) = world("");
    github.rename("acme/renamed");
    github.issue(1, "Do it", "x", "ana");
    go(&world);
    let runtime = world.start().await;
    let line = until(&runtime, "the new name", |s| {
        s.problems.iter().find(|line| line.contains("acme/renamed")).cloned()
    })
    .await;
    assert!(line.contains("acme/thing has another name now"), "{line}");
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert!(github.closed(1) && github.comments(1).len() == 1);
    let mut places = world.places();
    places.push("doctor".into());
    let args: Vec<&str> = places.iter().map(String::as_str).collect();
    let out = crate::support::afk(&args).output().unwrap();
    let printed = crate::support::text(&out.stdout);
    assert!(printed.contains("write acme/renamed in place of acme/thing"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_under_the_name_is_not_touched() {
    let (world, github) = world("");
    github.issue(1, "Do it", "x", "rita");
    let runtime = world.start().await;
    until(&runtime, "the identity", |s| (!s.fleet.identities.is_empty()).then_some(())).await;
    github.replace_repository();
    until(&runtime, "the question", |s| {
        s.fleet.inbox().into_iter().find(|e| e.kind == EscalationKind::Replaced).map(|_| ())
    })
    .await;
    runtime.stop().await;
    let writes =
        |github: &GitHub| github.log().iter().filter(|seen| seen.method == "PATCH").count();
    let before = writes(&github);
    github.label(1, "ready-for-agent", "ana", true);
    // The journal remembers the number through a restart.
    let runtime = world.start().await;
    reason(&runtime, 1, "the refusal", |r| {
        matches!(r, Reason::Untrusted { .. } | Reason::ArmingUnknown { .. })
    })
    .await;
    until(&runtime, "the problem", |s| {
        s.problems.iter().any(|line| line.contains("another repository")).then_some(())
    })
    .await;
    assert!(runtime.handle.snapshots.borrow().fleet.runs.is_empty());
    assert_eq!(writes(&github), before);
    go(&world);
    answer(&runtime, EscalationKind::Replaced, Answer::Approve).await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
}

/// Starts another afk on the same tracker and repository.
async fn second(world: &World, state: &Path) -> Runtime {
    Runtime::start(world.config(), state, AFK.into(), None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn claim_of_another_afk_is_respected() {
    let (on_github, github) = world("");
    github.issue(1, "Do it", "x", "ana");
    let in_folder = World::new(&format!("{WAIT}\n{WORK}\n{END}"));
    for world in [on_github, in_folder] {
        let first = world.start().await;
        at_work(&first, &world).await;
        let other = second(&world, &world.path("other-state")).await;
        reason(&other, 1, "the claim to be seen", |r| *r == Reason::ClaimedElsewhere).await;
        go(&world);
        let run = ended(&first).await;
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
        assert!(other.handle.snapshots.borrow().fleet.runs.is_empty());
        other.stop().await;
        first.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_afks_that_claim_an_issue_at_once_one_works_on_it() {
    let (world, github) = world("");
    github.hide_label("agent-in-progress");
    github.issue(1, "Do it", "x", "ana");
    let state = world.path("other-state");
    let (first, other) = tokio::join!(world.start(), second(&world, &state));
    let lost = |runtime: &Runtime| {
        let fleet = runtime.handle.snapshots.borrow().fleet.clone();
        let run = run_of(&fleet, 1)?.clone();
        (run.progress.outcome == Some(Outcome::Cancelled)).then_some(run)
    };
    wait_until("one of them to leave the issue", || {
        lost(&first).is_some() || lost(&other).is_some()
    })
    .await;
    let (winner, loser) = if lost(&first).is_some() { (other, first) } else { (first, other) };
    let run = lost(&loser).unwrap();
    assert!(run.progress.why.clean().contains("another afk"), "{:?}", run.progress.why);
    go(&world);
    let run = ended(&winner).await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    loser.stop().await;
    winner.stop().await;
    let commits = log(&world.remote(), "master", "%s");
    assert_eq!(commits.iter().filter(|subject| *subject == "Do it").count(), 1, "{commits:?}");
    assert_eq!(github.comments(1).len(), 1, "{:?}", github.comments(1));
}
