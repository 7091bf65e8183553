//! Issues and checks on a GitHub double: the whole loop, arming, blockers, and the reading of CI.

use afk::core::model::ledger::Reason;
use afk::core::model::run::Outcome;
use afk::core::model::stage::ProofLink;
use afk::core::model::verdict::Verdict;

use crate::support::github::GitHub;
use crate::support::world::{END, WORK, World, ended, run_of, until, wait_until};
use crate::support::{git, log};

/// A world on a GitHub double whose CI gives the verdict.
fn world(script: &str) -> (World, GitHub) {
    let world = World::new(script).rules("[ci]\ngithub = true\npoll_ms = 100");
    let github = GitHub::start(&world.remote());
    let world = world.on(&github);
    (world, github)
}

#[tokio::test(flavor = "multi_thread")]
async fn armed_issue_is_implemented_and_closed() {
    let (world, github) = world(&format!("{WORK}\n{END}"));
    github.issue(1, "Do it", "Please.", "ana");
    let runtime = world.start().await;
    wait_until("the claim to show", || github.labels(1).len() == 2 || github.closed(1)).await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert_eq!(run.proof.get(ProofLink::Ci).unwrap().verdict, Verdict::Green);
    assert!(github.closed(1) && github.labels(1).is_empty(), "{:?}", github.labels(1));
    let comments = github.comments(1);
    assert_eq!(comments.len(), 1, "{comments:?}");
    for part in ["r1 is **done**", "- [x] tests-red", "- [x] ci", "- [x] healthy", "<!-- afk:"] {
        assert!(comments[0].contains(part), "{part} is not in {}", comments[0]);
    }
    assert!(github.count("PATCH", "/issues/comments/", 200) >= 1, "it was edited in place");
    assert_eq!(github.count("POST", "/comments", 201), 1);
    // The push used the token, which no file contains.
    assert_eq!(log(&world.remote(), "master", "%s")[3], "Do it");
    let message = git(&world.remote(), &["log", "-1", "--format=%B", "master"]);
    assert!(message.contains("Refs #1") && !message.to_lowercase().contains("closes"), "{message}");
    for place in ["workspaces", "transcripts", "logs"] {
        let found = std::process::Command::new("grep")
            .args(["-rl", "tok-afk"])
            .arg(world.state().join(place))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn red_check_is_fixed_forward_with_its_log() {
    let fix = "case $prompt in *'went red'*'the widget is blue'*) echo x > second; git add second; git $US commit -qm Second;;";
    let (world, github) = world(&format!("{fix} *) {WORK}\n;; esac\n{END}"));
    let red: &[(&str, &str)] = &[("test", "failure"), ("lint", "success")];
    github.ci(&[red, &[("test", "success")]]);
    github.issue(1, "Do it", "Please.", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(
        (run.progress.outcome, run.progress.attempts),
        (Some(Outcome::Done), 1),
        "{:?}",
        run.progress.why
    );
    assert!(github.comments(1)[0].contains("Fix-forward attempts: 1"));
    assert!(world.transcript(1).contains("test failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn arming_actor_and_blockers_decide_pickup() {
    let (world, github) = world(END);
    let world = world.with_kill_switch();
    github.issue(1, "By a reader", "", "rita");
    github.issue(2, "By a stranger", "", "mallory");
    github.issue(3, "By a bot", "", "renovate[bot]");
    github.issue(4, "By ourselves", "", "afk-user");
    github.issue(5, "Changed afterwards", "x", "ana");
    github.edit(5, "Do something else.", "rita");
    github.issue(6, "Waits for two", "Blocked by #7, #99", "ana");
    github.issue(7, "Waits back", "Depends on #6", "ana");
    github.issue(8, "Waits natively", "", "ana");
    github.block(8, 7);
    github.pull_request(9, "ana");
    github.issue(10, "Armed", "Blocked by #11", "ana");
    github.issue(11, "Was done", "", "ana");
    github.close(11);
    github.issue(12, "For a human", "", "ana");
    github.label(12, "ready-for-human", "ana", true);
    github.issue(13, "Another label", "", "ana");
    github.label(13, "ready-for-agent", "ana", false);
    github.label(13, "ready-for-agent\u{200b}", "ana", true);
    let runtime = world.start().await;
    let reasons = until(&runtime, "the ledger", |s| {
        let of = |n: u64| {
            let key = afk::core::model::id::IssueKey::parse(&format!("acme/thing#{n}")).unwrap();
            s.fleet.ledger.get(&key).map(|entry| entry.reason.clone())
        };
        of(12)?;
        Some((1..=13).map(of).collect::<Vec<_>>())
    })
    .await;
    // The issue gets one comment about its wait.
    until(&runtime, "the comments", |s| s.fleet.outbox.is_empty().then_some(())).await;
    runtime.stop().await;
    let at = |n: usize| reasons[n - 1].clone();
    for n in [1, 2, 3, 4] {
        assert!(matches!(at(n), Some(Reason::Untrusted { .. })), "{n}: {:?}", at(n));
    }
    assert!(matches!(at(5), Some(Reason::Hold { .. })), "{:?}", at(5));
    let blocked = |n| match at(n) {
        Some(Reason::Blocked { by }) => by.join(" "),
        other => panic!("{n}: {other:?}"),
    };
    assert_eq!(blocked(6), "#7 (a cycle) #99 (unreadable)");
    assert_eq!(blocked(8), "#7");
    assert_eq!((at(9), at(11), at(13)), (None, None, None), "no issues for us");
    assert_eq!(at(10), Some(Reason::KillSwitch), "all but the switch is well");
    assert_eq!(at(12), Some(Reason::NeedsHuman));
    assert_eq!(github.comments(8).len(), 1);
    assert!(github.comments(8)[0].starts_with("Waits for `#7`."));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_repository_spends_no_rate_limit() {
    let (world, github) = world(END);
    let world = world.with_kill_switch();
    github.issue(1, "Waits", "Blocked by #2", "ana");
    github.issue(2, "Waits too", "", "rita");
    let runtime = world.start().await;
    let polls = |status| github.count("GET", "issues?labels=", status);
    // The first poll reads everything; afk's comment about the wait changes the issue once.
    wait_until("the looks", || polls(304) >= 3).await;
    let paid =
        |log: Vec<crate::support::github::Seen>| log.iter().filter(|s| s.status != 304).count();
    let before = (paid(github.log()), polls(304));
    wait_until("the looks", || polls(304) >= before.1 + 4).await;
    assert_eq!(paid(github.log()), before.0, "{:#?}", &github.log()[github.log().len() - 12..]);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_manual_checks_ask_a_human() {
    for (plan, more, printed) in [
        (&[][..], "appear_minutes = 0", "CI: no CI: any check never came"),
        (&[("test", "skipped")][..], "appear_minutes = 0", "CI: no CI: a successful check"),
        (&[("test", "in_progress")][..], "run_minutes = 0", "CI: stuck: test never ended"),
        (&[("test", "action_required")][..], "", "CI: stuck: test needs a person"),
        (
            &[("lint", "success")][..],
            "required = ['test']\nappear_minutes = 0",
            "the required check test",
        ),
    ] {
        let rules = format!("[ci]\ngithub = true\npoll_ms = 100\n{more}");
        let world = World::new(&format!("{WORK}\n{END}")).rules(&rules);
        let github = GitHub::start(&world.remote());
        let world = world.on(&github);
        github.ci(&[plan]);
        github.issue(1, "Do it", "", "ana");
        let runtime = world.start().await;
        let run = ended(&runtime).await;
        runtime.stop().await;
        assert_eq!(run.progress.outcome, Some(Outcome::Frozen), "{plan:?}: {:?}", run.progress.why);
        assert!(run.progress.why.as_received().contains(printed), "{:?}", run.progress.why);
        assert!(!github.closed(1));
        assert_eq!(github.labels(1), ["ready-for-agent", "ready-for-human"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn branch_rules_decide_which_checks_count() {
    let (world, github) = world(&format!("{WORK}\n{END}"));
    github.ci(&[&[("test", "success"), ("flaky", "failure")]]);
    github.require(&["test"]);
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_without_checks_permission_reads_workflow_runs() {
    let (world, github) = world(&format!("{WORK}\n{END}"));
    github.forbid_checks();
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    let facts = &run.proof.get(ProofLink::Ci).unwrap().facts;
    assert!(facts[0].link.as_ref().unwrap().as_received().contains("/actions/runs/"), "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn later_push_that_cancels_ci_is_not_red() {
    let (world, github) = world(&format!("{WORK}\n{END}"));
    github.ci(&[&[("test", "in_progress")], &[("test", "success")]]);
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let pushed =
        until(&runtime, "the push", |s| run_of(&s.fleet, 1)?.workspace.pushed.clone()).await;
    // Another person's push cancels CI, as GitHub's concurrency groups do.
    let work = world.path("work");
    git(&work, &["pull", "-q", world.remote().to_str().unwrap(), "master"]);
    std::fs::write(work.join("other"), "x").unwrap();
    world.commit("Somebody else's");
    github.conclude(&pushed.0, "test", "cancelled");
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    let detail = run.proof.get(ProofLink::Ci).unwrap().detail.clean_line();
    assert!(detail.starts_with("superseded by ") && detail.ends_with("1 check passed"), "{detail}");
}
