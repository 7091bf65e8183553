//! Faults of GitHub: afk repeats no comment and no push, takes nothing for green by mistake, and
//! loses nothing.

use afk::core::model::run::Outcome;

use crate::support::github::{Fault, GitHub};
use crate::support::world::{END, WORK, World, ended, run_of, until, wait_until};
use crate::support::{afk, git, log, text};

fn world() -> (World, GitHub) {
    let world = World::new(&format!("{WORK}\n{END}")).rules("[ci]\ngithub = true\npoll_ms = 100");
    let github = GitHub::start(&world.remote());
    let world = world.on(&github);
    (world, github)
}

/// Runs the whole loop and checks what must hold after any fault.
async fn all_is_well(world: &World, github: &GitHub) {
    github.issue(1, "Do it", "Please.", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(
        run.progress.outcome,
        Some(Outcome::Done),
        "{:?}\n{}",
        run.progress.why,
        world.transcript(1)
    );
    assert!(github.closed(1) && github.labels(1).is_empty(), "{:?}", github.labels(1));
    let comments = github.comments(1);
    assert_eq!(comments.len(), 1, "{comments:?}");
    assert!(comments[0].contains("r1 is **done**"));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Rules", "Test it", "Do it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_or_malformed_answers_are_retried() {
    let (world, github) = world();
    for part in ["issues?", "issues", "timeline", "permission", "check-runs", "statuses", "rules"] {
        github.fault("GET", part, Fault::Cut, 1);
        github.fault("GET", part, Fault::Status(502, vec![], "Bad gateway"), 1);
    }
    github.fault("POST", "/graphql", Fault::Status(503, vec![], "unicorn"), 2);
    all_is_well(&world, &github).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_whose_answer_was_lost_is_not_repeated() {
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
async fn push_whose_answer_was_lost_is_read_back() {
    let (world, github) = world();
    github.fault("POST", "git-receive-pack", Fault::DroppedAfter, 1);
    all_is_well(&world, &github).await;
    // curl may repeat the request of a lost connection; the branch moves once all the same.
    let moved = git(&world.remote(), &["reflog", "show", "--format=%gs", "master"]);
    assert_eq!(moved.lines().count(), 3, "{moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_pauses_every_user_of_the_token() {
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
    // Nothing was sent during the pause, so each limit was met once.
    assert_eq!(github.count("GET", "check-runs", 403), 1);
    assert_eq!(github.count("PATCH", "/issues/comments/", 429), 1);
    assert_eq!(github.count("GET", "timeline", 403), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn secondary_limit_without_a_time_pauses_for_a_minute() {
    let (world, github) = world();
    let limit = Fault::Status(403, vec![], "You have exceeded a secondary rate limit");
    github.fault("GET", "timeline", limit, 1);
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let printed = until(&runtime, "the limit to be reported", |s| {
        s.problems.iter().find(|line| line.contains("GitHub's rate limit")).cloned()
    })
    .await;
    assert!(printed.contains("the next request is sent in"), "{printed}");
    let other = |than: String| {
        let runtime = &runtime;
        async move {
            until(runtime, "the time to count down", |s| {
                let line = s.problems.iter().find(|line| line.contains("GitHub's rate limit"))?;
                (*line != than).then(|| line.clone())
            })
            .await
        }
    };
    // Requests in flight have ended by the next poll; further polls send nothing.
    // The first change of the line may come at once, the second one a second later.
    let next = other(other(printed).await).await;
    let count = github.log().len();
    other(next).await;
    assert_eq!(github.log().len(), count);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_token_is_read_again_and_a_dead_one_is_not_used() {
    let (world, github) = world();
    github.issue(1, "Do it", "", "rita");
    let runtime = world.start().await;
    until(&runtime, "the issue", |s| (!s.fleet.issues.is_empty()).then_some(())).await;
    github.only_tokens(&[("tok-new", "afk-user")]);
    let printed = until(&runtime, "the alarm", |s| {
        s.problems.iter().find(|line| line.contains("refuses the token")).cloned()
    })
    .await;
    assert!(printed.contains("401"), "{printed}");
    let refused = github.log().iter().filter(|s| s.status == 401).count();
    assert!(refused <= 4, "it went on being used: {refused}");
    // The known issues stay, and none of them starts.
    until(&runtime, "the issue", |s| s.fleet.ledger.values().next().map(|_| ())).await;
    github.label(1, "ready-for-agent", "ana", true);
    std::fs::write(world.path("token"), "tok-new").unwrap();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_branch_and_forbidden_push_are_reported_differently() {
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
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
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
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(detail.contains("does not let us in"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn comment_with_a_copied_marker_is_ignored() {
    let (world, github) = world();
    github.issue(1, "Do it", "", "rita");
    // Another person copies the journal's id, which every comment of afk contains.
    let runtime = world.start().await;
    until(&runtime, "the issue", |s| (!s.fleet.issues.is_empty()).then_some(())).await;
    runtime.stop().await;
    let mark = format!("<!-- afk:{}:progress -->", crate::support::journal_id(&world.state()));
    github.comment(1, "mallory", &format!("mine {mark}"));
    github.label(1, "ready-for-agent", "ana", true);
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done));
    let comments = github.comments(1);
    assert_eq!(comments.len(), 2);
    assert_eq!(comments[0], format!("mine {mark}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_starts_no_issue_and_loses_none() {
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
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_that_is_refused_mid_run_is_read_again() {
    let (world, github) = world();
    for (method, part) in
        [("GET", "check-runs"), ("PATCH", "/issues/comments/"), ("POST", "/labels")]
    {
        github.fault(method, part, Fault::Status(401, vec![], "Bad credentials"), 1);
    }
    all_is_well(&world, &github).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_red_checks_freeze_the_run_with_its_evidence() {
    let fix = "case $prompt in *'went red'*) echo $RANDOM >> second; git add second; git $US commit -qm 'Fixes #1';;";
    let world = World::new(&format!("{fix} *) {WORK}\n;; esac\n{END}"))
        .rules("[ci]\ngithub = true\npoll_ms = 100");
    let github = GitHub::start(&world.remote());
    let world = world.on(&github);
    github.ci(&[&[("test", "failure")]]);
    github.issue(1, "Do it", "", "ana");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    let capsule =
        until(&runtime, "the capsule", |s| run_of(&s.fleet, 1)?.progress.capsule.clone()).await;
    runtime.stop().await;
    assert_eq!((run.progress.outcome, run.progress.attempts), (Some(Outcome::Frozen), 5));
    assert!(!github.closed(1), "nothing in a commit closed it");
    assert_eq!(github.labels(1), ["ready-for-agent", "ready-for-human"]);
    assert_eq!(github.comments(1).len(), 2, "the checklist, and that a human is needed");
    let names: Vec<String> = std::fs::read_dir(&capsule)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    for part in
        ["changes.diff", "staged.diff", "proof.json", "transcript.jsonl", "tree", "CI-said.log"]
    {
        assert!(names.iter().any(|name| name.ends_with(part)), "{part} is not in {names:?}");
    }
    let places = world.places();
    let to = world.path("exported");
    let mut args: Vec<&str> = places.iter().map(String::as_str).collect();
    args.extend(["capsule", "r1", "--to", to.to_str().unwrap()]);
    let out = afk(&args).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let checked = std::process::Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(&to)
        .status()
        .unwrap();
    assert!(checked.success());
    // A file changed since it was captured is reported and not exported.
    std::fs::write(std::path::Path::new(&capsule).join("changes.diff"), "other").unwrap();
    let out = afk(&args).output().unwrap();
    assert!(text(&out.stderr).contains("has changed since it was kept"), "{}", text(&out.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn app_token_is_issued_and_renewed() {
    let (world, github) = world();
    let key = world.path("app.pem");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    github.issue(1, "Do it", "Please.", "ana");
    let mut config = world.config();
    let section = config.github.as_mut().unwrap();
    section.token = None;
    section.app = Some(afk::config::services::GitHubAppConfig {
        id: "Iv1.x".into(),
        installation: 42,
        key: format!("file:{}", key.display()),
    });
    // The token expires in the middle of the run.
    github.fault("GET", "check-runs", Fault::Status(401, vec![], "Bad credentials"), 1);
    let runtime = world.try_start(config, None).await.unwrap();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert_eq!(github.count("POST", "/app/installations/42/access_tokens", 201), 2);
    assert_eq!(github.comments(1).len(), 1);
}

/// An OpenSSH server for git in a world's folder; none if OpenSSH isn't installed.
struct Sshd(std::process::Child, u16);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sshd(world: &World) -> Option<Sshd> {
    let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())?;
    let key = |name: &str| {
        let path = world.path(name);
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        path
    };
    let (host, user) = (key("host"), key("user"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}.pub\n\
         StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n",
        host.display(),
        user.display()
    );
    std::fs::write(world.path("sshd_config"), settings).unwrap();
    // sshd's privilege separation needs this folder when it runs as root.
    let _ = std::fs::create_dir_all("/run/sshd");
    let child = std::process::Command::new(program)
        .arg("-D")
        .arg("-f")
        .arg(world.path("sshd_config"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    Some(Sshd(child, port))
}

#[tokio::test(flavor = "multi_thread")]
async fn push_over_ssh_uses_its_own_key() {
    let (world, github) = world();
    let Some(server) = sshd(&world) else {
        eprintln!("SKIPPED: there is no sshd here; install openssh-server to run this test");
        return;
    };
    let port = server.1;
    wait_until("sshd", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    github.issue(1, "Do it", "Please.", "ana");
    let mut config = world.config();
    let user = std::env::var("USER").unwrap_or_else(|_| "root".into());
    let known = config.repos.values_mut().next().unwrap();
    known.remote = format!("ssh://{user}@127.0.0.1:{port}{}", world.remote().display());
    known.ssh_key = Some(world.path("user"));
    // An unknown host is refused at once, and the refusal is reported.
    let runtime = world.try_start(config.clone(), None).await.unwrap();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(
        run.progress.why.as_received().contains("Host key verification failed"),
        "{:?}",
        run.progress.why
    );
    let scanned = std::process::Command::new("ssh-keyscan")
        .args(["-p", &port.to_string(), "127.0.0.1"])
        .output()
        .unwrap();
    let hosts = world.path("known_hosts");
    std::fs::write(&hosts, scanned.stdout).unwrap();
    config.repos.values_mut().next().unwrap().ssh_known_hosts = Some(hosts);
    github.label(1, "ready-for-human", "ana", false);
    github.label(1, "ready-for-agent", "ana", false);
    github.now();
    github.label(1, "ready-for-agent", "ana", true);
    let runtime = world.try_start(config, None).await.unwrap();
    let run = until(&runtime, "the second run", |s| {
        let run = run_of(&s.fleet, 1)?;
        (run.id.0 == 2 && run.progress.outcome.is_some() && s.fleet.outbox.is_empty())
            .then(|| run.clone())
    })
    .await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
}
