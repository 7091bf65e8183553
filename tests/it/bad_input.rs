//! Invalid input: a clear message, and no damage.

use afk::core::model::run::Outcome;
use afk::journal::Journal;

use crate::support::world::{END, WORK, World, ended, run_of, until};
use crate::support::{afk, git, text};

#[tokio::test(flavor = "multi_thread")]
async fn repository_without_rules_asks_a_human() {
    let world = World::new(END);
    git(&world.path("work"), &["rm", "-q", ".afk.toml"]);
    world.commit("Drop the rules");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!((run.progress.outcome, run.agent.turns), (Some(Outcome::NeedsHuman), 0));
    assert!(
        run.progress.why.clean().contains("acme/thing has no .afk.toml at"),
        "{:?}",
        run.progress.why
    );
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_test_command_is_reported() {
    let world = World::new(&format!("{WORK}\n{END}"));
    std::fs::write(world.path("work/.afk.toml"), "test = 'no-such-test'\n").unwrap();
    world.commit("Break the rules");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(
        run.progress.why.clean().starts_with("The tests can't be run on "),
        "{:?}",
        run.progress.why
    );
    assert_eq!(run.agent.turns, 0, "a turn is spent on a base that proves nothing");
    let snapshot = runtime.handle.snapshots.borrow().clone();
    assert!(snapshot.fleet.inbox()[0].detail.clean().contains("no-such-test"));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn low_disk_is_reported_and_creates_no_worktree() {
    let world = World::new(END).with("[limits]\ndisk_free_mib = 1000000000");
    let runtime = world.start().await;
    let problem = until(&runtime, "the outage", |s| {
        s.problems.iter().find(|line| line.contains("MiB are free")).cloned()
    })
    .await;
    assert!(problem.contains("1 run waits"), "{problem}");
    let run = run_of(&runtime.handle.snapshots.borrow().fleet, 1).cloned().unwrap();
    assert!(run.live() && run.workspace.worktree.is_none(), "{run:?}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_remote_is_reported() {
    let world = World::new(END);
    let config = world.config();
    std::fs::remove_dir_all(world.remote()).unwrap();
    let runtime = world.try_start(config, None).await.unwrap();
    let problem = until(&runtime, "the outage", |s| {
        s.problems.iter().find(|line| line.contains("can't be reached")).cloned()
    })
    .await;
    assert!(problem.contains("git fetch") && problem.contains("1 run waits"), "{problem}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_issue_is_reported_and_stays_unchanged() {
    let world = World::new(&format!("{WORK}\n{END}"));
    std::fs::write(world.path("issues/2.md"), "+++\nrepo = 'acme/thing'\nnumber = 'two'\n+++\n")
        .unwrap();
    std::fs::write(world.path("issues/3.md"), [0xff, 0x00]).unwrap();
    let runtime = world.start().await;
    ended(&runtime).await;
    let problems =
        until(&runtime, "the problems", |s| (s.problems.len() == 2).then(|| s.problems.clone()))
            .await;
    assert!(problems[0].starts_with("issue file 2.md: line 3, column 10: number:"), "{problems:?}");
    assert_eq!(problems[1], "issue file 3.md: is not UTF-8");
    // The issue is repaired while afk runs.
    std::fs::remove_file(world.path("issues/3.md")).unwrap();
    std::fs::remove_file(world.path("issues/2.md")).unwrap();
    until(&runtime, "no problems", |s| s.problems.is_empty().then_some(())).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_configuration_change_keeps_the_last_good_one() {
    let world = World::new("sleep 1000");
    world.config();
    let text = std::fs::read_to_string(world.path("afk.toml")).unwrap();
    let path = world.path("afk.toml");
    let config = afk::config::Config::load(&path, &|_| None).unwrap();
    let runtime = world.try_start(config, Some(path.clone())).await.unwrap();
    until(&runtime, "a run", |s| run_of(&s.fleet, 1).map(|_| ())).await;
    std::fs::write(&path, text.replace("kill_switch = false", "kill_swich = true")).unwrap();
    let problem = until(&runtime, "a problem", |s| s.problems.first().cloned()).await;
    assert!(
        problem.contains("kill_swich: unknown field") && problem.contains("last good"),
        "{problem}"
    );
    assert!(!runtime.handle.snapshots.borrow().fleet.kill_switch());
    std::fs::write(&path, text.replace("kill_switch = false", "kill_switch = true")).unwrap();
    until(&runtime, "the kill switch", |s| s.fleet.kill_switch().then_some(())).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_configuration_keeps_the_last_good_one_until_it_is_whole_again() {
    let world = World::new("sleep 1000");
    let config = world.config();
    let path = world.path("afk.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let runtime = world.try_start(config, Some(path.clone())).await.unwrap();
    until(&runtime, "a run", |s| run_of(&s.fleet, 1).map(|_| ())).await;
    std::fs::write(&path, "").unwrap();
    let problem = until(&runtime, "a problem", |s| s.problems.first().cloned()).await;
    assert!(problem.contains("is empty") && problem.contains("last good"), "{problem}");
    assert!(!runtime.handle.snapshots.borrow().fleet.kill_switch());
    // The first line alone would lift nothing and drop every repository.
    std::fs::write(&path, text.lines().next().unwrap()).unwrap();
    std::fs::write(&path, &text).unwrap();
    until(&runtime, "no problem", |s| s.problems.is_empty().then_some(())).await;
    let fleet = runtime.handle.snapshots.borrow().fleet.clone();
    assert!(!fleet.kill_switch() && !fleet.policy.allowlist.is_empty());
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_afk_reports_the_holder_of_the_state() {
    let world = World::new("sleep 1000");
    let runtime = world.start().await;
    let second = world.try_start(world.config(), None).await;
    let error = second.unwrap_err().to_string();
    assert!(error.ends_with(&format!("process {}", std::process::id())), "{error}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_from_the_future_blocks_no_run() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let mut journal = Journal::open(&world.state()).unwrap();
    let ahead = afk::runtime::clock::wall().plus(30 * 86_400_000);
    let by = afk::core::model::id::Actor("ana".into());
    journal
        .append(&[(ahead, afk::core::model::event::Event::Capacity { permits: 1, by })])
        .unwrap();
    drop(journal);
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    runtime.stop().await;
}

#[test]
fn command_line_errors_take_one_line_and_their_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("afk.toml");
    let (config, state) = (config.to_str().unwrap(), dir.path().join("state"));
    let state = state.to_str().unwrap();
    let fails = |args: &[&str], code: i32, says: &str| {
        let mut all = vec!["--config", config, "--state", state];
        all.extend(args);
        let out = afk(&all).output().unwrap();
        let err = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
        // The lines of a file that are shown begin with a number, a space or an arrow.
        let is_shown =
            |line: &str| line.starts_with([' ', '-']) || line.starts_with(char::is_numeric);
        let lines = err.lines().filter(|line| !line.starts_with("hint: ") && !is_shown(line));
        let lines: Vec<&str> = lines.collect();
        assert!(lines.len() <= 1 || args.is_empty(), "{args:?} says more than a line: {err}");
    };
    fails(&["doctor"], 1, "problem");
    fails(&[], 3, "there is no ");
    fails(&["proof", "r1"], 4, "has not started on");
    std::fs::write(config, "kill_swich = true").unwrap();
    fails(&["submit", "a/b", "do"], 3, "afk.toml:1:1: kill_swich: unknown field");
    std::fs::write(config, "kill_switch = ").unwrap();
    fails(&["submit", "a/b", "do"], 3, "afk.toml:1:");
    std::fs::write(config, "").unwrap();
    fails(&["submit", "a-b", "do"], 2, "is not a repository name");
    fails(&["submit", "a/b", "do"], 1, "a/b is not on the allowlist");
    fails(&["submit", "a/b", "do", "--priority", "soon"], 2, "is not a priority");
    fails(&["explain", "a/b#1"], 1, "afk has seen no issue a/b#1");
    fails(&["explain", "r9"], 1, "there is no run r9");
    fails(&[], 2, "is not a terminal");
    let out =
        afk(&["--config", config, "--state", "/proc/afk", "submit", "a/b", "do"]).output().unwrap();
    assert_eq!(out.status.code(), Some(5), "{}", text(&out.stderr));
}

#[test]
fn init_leads_to_a_clean_doctor() {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("thing");
    std::fs::create_dir_all(&repo).unwrap();
    git(&repo, &["init", "-q", "--initial-branch=trunk"]);
    std::fs::write(repo.join("test.sh"), "exit 0\n").unwrap();
    git(&repo, &["add", "--all"]);
    git(&repo, &["commit", "-q", "-m", "Begin"]);
    let config = dir.path().join("config/afk.toml");
    let state = dir.path().join("state");
    let call = |args: &[&str]| {
        let mut all =
            vec!["--config", config.to_str().unwrap(), "--state", state.to_str().unwrap()];
        all.extend(args);
        let out = afk(&all).current_dir(&repo).env("USER", "ana").output().unwrap();
        (out.status.code(), text(&out.stdout) + &text(&out.stderr))
    };
    let (code, printed) = call(&["init"]);
    assert_eq!(code, Some(0), "{printed}");
    let written = std::fs::read_to_string(&config).unwrap();
    assert!(written.contains("kill_switch = true") && written.contains("allowlist = []"));
    assert!(written.contains("branch = \"trunk\""), "{written}");
    let (code, printed) = call(&["init"]);
    assert_eq!(code, Some(2), "it was overwritten: {printed}");
    let (code, printed) = call(&["doctor"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("the kill switch is on") && printed.contains("no .afk.toml"),
        "{printed}"
    );
    git(&repo, &["add", "--all"]);
    git(&repo, &["commit", "-q", "-m", "Add the rules"]);
    let armed = written + "\n[agents.mine]\ncommand = [\"sh\"]\n";
    std::fs::write(&config, &armed).unwrap();
    let (code, printed) = call(&["doctor"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("has trunk checked out"), "{printed}");
    let here = repo.display().to_string();
    git(&repo, &["clone", "-q", "--bare", &here, &format!("{here}.git")]);
    std::fs::write(&config, armed.replace(&here, &format!("{here}.git"))).unwrap();
    let (code, printed) = call(&["doctor"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("tested by `sh ./test.sh`"), "{printed}");
}
