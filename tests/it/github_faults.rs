//! What goes wrong with a GitHub: nothing is said twice, nothing pushed twice, nothing is green by
//! mistake, and nothing is lost.

use afk::core::run::Outcome;

use crate::support::github::{Fault, GitHub};
use crate::support::world::{END, WORK, World, ended, run_of, until};
use crate::support::{git, log};

fn world() -> (World, GitHub) {
    let world = World::new(&format!("{WORK}\n{END}")).rules("[ci]\ngithub = true\npoll_ms = 100");
    let github = GitHub::start(&world.remote());
    let world = world.on(&github);
    (world, github)
}

/// The whole loop, and what must hold after it whatever went wrong.
async fn all_is_well(world: &World, github: &GitHub) {
    github.issue(1, "Do it", "Please.", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{:?}\n{}", run.why, world.transcript(1));
    assert!(github.closed(1) && github.labels(1).is_empty(), "{:?}", github.labels(1));
    let comments = github.comments(1);
    assert_eq!(comments.len(), 1, "{comments:?}");
    assert!(comments[0].contains("r1 is **done**"));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Rules", "Test it", "Do it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_cut_or_bad_are_asked_again() {
    let (world, github) = world();
    for part in ["issues?", "issues", "timeline", "permission", "check-runs", "statuses", "rules"] {
        github.fault("GET", part, Fault::Cut, 1);
        github.fault("GET", part, Fault::Status(502, vec![], "Bad gateway"), 1);
    }
    github.fault("POST", "/graphql", Fault::Status(503, vec![], "unicorn"), 2);
    all_is_well(&world, &github).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_landed_is_not_written_again() {
    let (world, github) = world();
    github.fault("POST", "/comments", Fault::AppliedThen502, 1);
    github.fault("PATCH", "/issues/comments/", Fault::DroppedAfter, 2);
    github.fault("POST", "/labels", Fault::DroppedAfter, 1);
    github.fault("DELETE", "/labels/", Fault::AppliedThen502, 1);
    github.fault("PATCH", "/issues/1", Fault::AppliedThen502, 1);
    all_is_well(&world, &github).await;
    assert_eq!(github.count("POST", "/comments", 502), 1);
    assert_eq!(github.count("POST", "/comments", 201), 0, "it was found, and not written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_landed_and_lost_its_connection_is_read_back() {
    let (world, github) = world();
    github.fault("POST", "git-receive-pack", Fault::DroppedAfter, 1);
    all_is_well(&world, &github).await;
    // curl may send a request of a connection that died again: the branch moved once all the same.
    let moved = git(&world.remote(), &["reflog", "show", "--format=%gs", "master"]);
    assert_eq!(moved.lines().count(), 3, "{moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_make_everybody_with_the_token_wait() {
    let (world, github) = world();
    let after = vec![("retry-after", "2".to_owned())];
    github.fault(
        "GET",
        "check-runs",
        Fault::Status(403, after.clone(), "You have exceeded a secondary rate limit"),
        1,
    );
    github.fault("PATCH", "/issues/comments/", Fault::Status(429, after, "slow down"), 1);
    let reset = jiff::Timestamp::now().as_second() + 1;
    let used =
        vec![("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", reset.to_string())];
    github.fault("GET", "timeline", Fault::Status(403, used, "API rate limit exceeded"), 1);
    all_is_well(&world, &github).await;
    // Nothing was sent while the token had to wait: what met a limit was met once.
    assert_eq!(github.count("GET", "check-runs", 403), 1);
    assert_eq!(github.count("PATCH", "/issues/comments/", 429), 1);
    assert_eq!(github.count("GET", "timeline", 403), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_limit_without_a_time_holds_for_a_minute_and_says_so() {
    let (world, github) = world();
    let limit = Fault::Status(403, vec![], "You have exceeded a secondary rate limit");
    github.fault("GET", "timeline", limit, 1);
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let said = until(&runtime, "the limit to be told", |s| {
        s.problems.iter().find(|line| line.contains("GitHub's limit")).cloned()
    })
    .await;
    assert!(said.contains("asked again in"), "{said}");
    let other = |than: String| {
        let runtime = &runtime;
        async move {
            until(runtime, "the time to count down", |s| {
                let line = s.problems.iter().find(|line| line.contains("GitHub's limit"))?;
                (*line != than).then(|| line.clone())
            })
            .await
        }
    };
    // What was under way has ended with the next look; the looks go on, and send nothing.
    let next = other(said).await;
    let count = github.log().len();
    other(next).await;
    assert_eq!(github.log().len(), count);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_is_looked_for_anew_and_a_dead_one_is_not_used() {
    let (world, github) = world();
    github.issue(1, "Do it", "", "rita");
    let runtime = world.start().await;
    until(&runtime, "the issue", |s| (!s.fleet.issues.is_empty()).then_some(())).await;
    github.only_tokens(&[("tok-new", "afk-user")]);
    let said = until(&runtime, "the alarm", |s| {
        s.problems.iter().find(|line| line.contains("refuses the token")).cloned()
    })
    .await;
    assert!(said.contains("401"), "{said}");
    let refused = github.log().iter().filter(|s| s.status == 401).count();
    assert!(refused <= 4, "it went on being used: {refused}");
    // What was known stays, and none of it is started.
    until(&runtime, "the issue", |s| s.fleet.ledger.values().next().map(|_| ())).await;
    github.label(1, "ready-for-agent", "ana", true);
    std::fs::write(world.path("token"), "tok-new").unwrap();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{:?}", run.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_branch_and_a_forbidden_push_are_told_apart() {
    let (world, github) = world();
    let hook = world.remote().join("hooks/pre-receive");
    std::fs::write(
        &hook,
        "#!/bin/sh\necho 'error: GH006: Protected branch update failed' >&2\nexit 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.outcome, Some(Outcome::NeedsHuman));
    let detail = until(&runtime, "the escalation", |s| {
        s.fleet.escalations.values().next().map(|e| e.detail.as_received().to_owned())
    })
    .await;
    assert!(
        detail.contains("the branch's rules forbid it") && detail.contains("GH006"),
        "{detail}"
    );
    runtime.stop().await;
    assert_eq!(github.labels(1), ["ready-for-agent", "ready-for-human"]);

    let (world, github) = self::world();
    github.fault("GET", "service=git-receive-pack", Fault::Status(403, vec![], "no"), 0);
    github.fault("POST", "git-receive-pack", Fault::Status(403, vec![], "no"), 9);
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    let detail = until(&runtime, "the escalation", |s| {
        s.fleet.escalations.values().next().map(|e| e.detail.as_received().to_owned())
    })
    .await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::NeedsHuman));
    assert!(detail.contains("does not let us in"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_that_copies_our_mark_is_not_ours() {
    let (world, github) = world();
    github.issue(1, "Do it", "", "rita");
    // Somebody who knows the journal's name, which every comment of ours tells.
    let runtime = world.start().await;
    until(&runtime, "the issue", |s| (!s.fleet.issues.is_empty()).then_some(())).await;
    runtime.stop().await;
    let mark = format!("<!-- afk:{}:progress -->", crate::support::journal_id(&world.state()));
    github.comment(1, "mallory", &format!("mine {mark}"));
    github.label(1, "ready-for-agent", "ana", true);
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done));
    let comments = github.comments(1);
    assert_eq!(comments.len(), 2);
    assert_eq!(comments[0], format!("mine {mark}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_starts_nothing_and_loses_nothing() {
    let (world, github) = world();
    github.issue(1, "Do it", "", "rita");
    let runtime = world.start().await;
    until(&runtime, "the issue", |s| (!s.fleet.issues.is_empty()).then_some(())).await;
    github.fault("GET", "", Fault::Status(500, vec![], "down"), 40);
    until(&runtime, "the outage to be told", |s| {
        s.problems.iter().any(|line| line.contains("500")).then_some(())
    })
    .await;
    assert!(run_of(&runtime.handle.snapshots.borrow().fleet, 1).is_none());
    assert_eq!(runtime.handle.snapshots.borrow().fleet.issues.len(), 1, "never an empty list");
    github.label(1, "ready-for-agent", "ana", true);
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{:?}", run.why);
}
