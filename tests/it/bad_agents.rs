//! Misbehaving agents: each run ends in the right state and leaves nothing behind.

use std::time::Duration;

use afk::core::model::run::Outcome;
use afk::process::{Spec, StdinMode, Supervisor};

use crate::support::world::{END, WORK, World, ended};
use crate::support::{git, journal_id, log, processes_with};

async fn outcome(world: &World) -> (Option<Outcome>, String) {
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    let left = processes_with("AFK_STATE", &journal_id(&world.state()));
    assert!(left.is_empty(), "processes are left: {left:?}");
    (run.progress.outcome, run.progress.why.clean())
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_agent_ends_done() {
    let world = World::new(&format!("{WORK}\n{END}"));
    assert_eq!(outcome(&world).await.0, Some(Outcome::Done));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Test it", "Do it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_agent_program_asks_a_human() {
    let world = World::new(END);
    let mut config = world.config();
    config.agents.get_mut("shell").unwrap().command = vec!["no-such-agent".into()];
    let runtime = world.try_start(config, None).await.unwrap();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(
        run.progress.why.clean().contains("no-such-agent can't be started"),
        "{:?}",
        run.progress.why
    );
    assert_eq!(run.agent.turns, 1, "it was tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn exiting_agent_is_retried_and_then_asks_a_human() {
    let world = World::new("echo 'no licence' >&2; exit 3");
    let (outcome, why) = outcome(&world).await;
    assert_eq!(outcome, Some(Outcome::NeedsHuman));
    assert!(why.contains("failed 3 times in a row") && why.contains("no licence"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gate_stays_closed_for_an_agent_that_did_nothing() {
    let world = World::new(END);
    let (outcome, why) = outcome(&world).await;
    assert_eq!(outcome, Some(Outcome::NeedsHuman));
    assert!(why.contains("the gate stayed closed 3 times"), "{why}");
    assert!(world.transcript(1).contains("There is no change to push"));
}

#[tokio::test(flavor = "multi_thread")]
async fn transcript_keeps_garbage_floods_and_long_lines() {
    let flood = r#"
printf 'not json\n\377\376\n{"type":"text"\n'
printf '{"type":"text","text":"\\u001b]52;c;eA==\\u0007\\u001b[2Jclean"}\n'
head -c 8388608 /dev/zero | tr '\0' x; echo
printf '{"type":"text","text":"'; head -c 8388608 /dev/zero | tr '\0' y; printf '"}\n'
"#;
    let world = World::new(&format!("{flood}{WORK}\n{END}"));
    assert_eq!(outcome(&world).await.0, Some(Outcome::Done));
    let transcript = world.transcript(1);
    assert!(transcript.contains("not json") && transcript.contains("bytes here"));
    assert!(transcript.len() < 2 * 1024 * 1024, "{} bytes were kept", transcript.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_agent_is_stopped() {
    let world = World::new("sleep 1000").with("[limits]\nsilence_seconds = 1\ngrace_seconds = 1");
    let (outcome, why) = outcome(&world).await;
    assert_eq!(outcome, Some(Outcome::NeedsHuman));
    assert!(why.contains("silent"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_the_program_is_the_end_although_its_output_stays_open() {
    // The daemon holds standard output, and its sleep time is unique to this test.
    let seconds = 300_000 + std::process::id();
    let world = World::new(&format!("setsid sleep {seconds} &\nexit 3"));
    let began = std::time::Instant::now();
    let (outcome, why) = outcome(&world).await;
    assert_eq!(outcome, Some(Outcome::NeedsHuman));
    assert!(why.contains("exit status: 3"), "{why}");
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn end_with_half_a_surrogate_pair_is_an_end() {
    let end = r#"printf '{"type":"text","text":"ok \\ud83d"}\n\357\273\277{"type":"end","status":"done","reason":"\\udc00"}\n'"#;
    let world = World::new(&format!("{WORK}\n{end}"));
    assert_eq!(outcome(&world).await.0, Some(Outcome::Done));
    assert!(world.transcript(1).contains("ok \u{fffd}"), "{}", world.transcript(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_of_an_agent_end_with_its_run() {
    // One daemon has its own session, one also clears its environment, one ignores signals.
    // Their sleep times are unique to this test, so that they identify its processes.
    let times = [0, 1, 2].map(|n| (100_000 + std::process::id() * 3 + n).to_string());
    let [a, b, c] = &times;
    let daemons = format!(
        "setsid sleep {a} & env -i setsid sleep {b} & (trap '' TERM; setsid sleep {c}) &\n"
    );
    let world = World::new(&format!("{daemons}{WORK}\n{END}")).with("[limits]\ngrace_seconds = 1");
    assert_eq!(outcome(&world).await.0, Some(Outcome::Done));
    let sleeping = afk::process::procfs::processes().filter(|p| {
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
        p.state != b'Z' && times.iter().any(|n| line == format!("sleep\0{n}\0"))
    });
    assert_eq!(sleeping.count(), 0, "a daemon lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_that_deletes_its_worktree_asks_a_human() {
    let world = World::new(&format!("here=$(pwd); cd /; rm -rf \"$here\"; {END}"));
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    let snapshot = runtime.handle.snapshots.borrow().clone();
    let asked = snapshot.fleet.inbox()[0].detail.clean();
    assert!(asked.contains("is gone: something deleted it"), "{asked}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn afk_commits_what_the_agent_left_uncommitted() {
    let world = World::new(&format!(
        "echo 'grep -q done state' > tests/state.sh; echo done > state; {END}"
    ));
    assert_eq!(outcome(&world).await.0, Some(Outcome::Done));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Do it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gate_rejects_a_test_that_passes_on_the_base() {
    let world = World::new(&format!(
        "echo true > tests/more.sh; echo done > state; git add --all; git $US commit -qm Cheat; {END}"
    ));
    assert_eq!(outcome(&world).await.0, Some(Outcome::NeedsHuman));
    assert!(world.transcript(1).contains("already pass on the commit you started from"));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_cannot_push() {
    let script = format!(
        "{WORK}\ngit push origin HEAD:master 2>&1 | grep -q 'agents-do-not-push' && git push origin HEAD || echo '{{\"type\":\"text\",\"text\":\"could not push\"}}'\nexit 1"
    );
    let world = World::new(&script);
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(world.transcript(1).contains("could not push"));
    assert_eq!(crate::support::log(&world.remote(), "--all", "%s"), ["Begin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_cannot_skip_ci() {
    let world =
        World::new(&format!("{WORK}\ngit $US commit --allow-empty -qm 'Done [ci skip]'\n{END}"));
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    assert!(world.transcript(1).contains("makes CI skip the commit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_cannot_loosen_its_gate() {
    let world = World::new(&format!(
        "echo 'test = \"true\"' > .afk.toml; {WORK}\nrm tests/first.sh; echo 'exit 1' > tests/zz.sh; git add --all; git $US commit -qm Loosen; {END}"
    ));
    assert_eq!(outcome(&world).await.0, Some(Outcome::NeedsHuman));
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_push_is_rebased_and_never_forced() {
    // Another person pushes while the agent works.
    let world = World::new("");
    let other = format!(
        "git clone -q '{0}' \"$TMPDIR/other\" && cd \"$TMPDIR/other\" && echo x > other && git add other && git $US commit -qm Other && git push -q '{0}' master; cd \"$here\"; rm -rf \"$TMPDIR/other\"\n",
        world.remote().display()
    );
    let script = format!(
        "#!/bin/sh\nUS='-c user.name=a -c user.email=a@localhost'\nread -r p\nhere=$(pwd); TMPDIR=$(mktemp -d)\n{other}{WORK}\n{END}\n"
    );
    std::fs::write(world.path("agent.sh"), script).unwrap();
    assert_eq!(outcome(&world).await.0, Some(Outcome::Done));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Other", "Test it", "Do it"]);
    let reflog = std::fs::read_to_string(world.remote().join("logs/refs/heads/master")).unwrap();
    assert_eq!(reflog.lines().count(), 3, "{reflog}");
}

#[tokio::test(flavor = "multi_thread")]
async fn afk_runs_no_hooks_of_a_repository() {
    let world = World::new(&format!(
        "common=$(git rev-parse --git-common-dir); mkdir -p \"$common/hooks\"; for h in post-checkout pre-push reference-transaction post-commit; do printf '#!/bin/sh\\ntouch \"%s/ran\"\\n' \"$AFK_TEST\" > \"$common/hooks/$h\"; chmod +x \"$common/hooks/$h\"; done; git config core.fsmonitor 'touch /tmp/never'; {WORK}\nrm -f \"$AFK_TEST/ran\"; {END}"
    ));
    let mut config = world.config();
    let agent = config.agents.get_mut("shell").unwrap();
    agent.set.insert("AFK_TEST".into(), world.root().display().to_string());
    let runtime = world.try_start(config, None).await.unwrap();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert!(!world.path("ran").exists(), "a hook was run");
    git(&world.remote(), &["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_environment_is_an_allow_list() {
    let world = World::new(&format!("env > \"$HOME_FOR_TEST/env\"; {WORK}\n{END}"));
    let mut config = world.config();
    let agent = config.agents.get_mut("shell").unwrap();
    agent.set.insert("HOME_FOR_TEST".into(), world.root().display().to_string());
    let runtime = world.try_start(config, None).await.unwrap();
    ended(&runtime).await;
    runtime.stop().await;
    let env = std::fs::read_to_string(world.path("env")).unwrap();
    // nextest and cargo set dozens of variables in our own environment; the agent gets none of
    // them.
    for name in ["CARGO_MANIFEST_DIR=", "CARGO_PKG_NAME=", "NEXTEST", "SSH_AUTH_SOCK=", "GIT_DIR="]
    {
        assert!(!env.contains(name), "{name} was passed on");
    }
    assert!(env.contains("AFK_RUN=r1") && env.contains("PATH="));
}

#[tokio::test]
async fn child_processes_have_lower_priority_than_afk() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let launcher = env!("CARGO_BIN_EXE_afk").into();
    let supervisor = Supervisor::new(launcher, "gives way".into(), Duration::from_secs(1));
    let spec = Spec::shell("r1", "read -r go; nice", std::path::Path::new("/"));
    let mut started = supervisor.start(&spec, StdinMode::Piped).unwrap();
    // Once it is started, and so once it has its place.
    started.child.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
    let mut reported = String::new();
    started.child.stdout.take().unwrap().read_to_string(&mut reported).await.unwrap();
    assert!(started.child.wait().await.unwrap().success());
    let ours = rustix::process::getpriority_process(None).unwrap();
    assert!(reported.trim().parse::<i32>().unwrap() > ours, "{reported} beside {ours}");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_conversation_is_continued_in_a_new_one_that_knows_the_work() {
    let script = format!(
        r#"case "$prompt" in
*'"session":"s1"'*) printf '{{"type":"end","status":"failed","code":400,"reason":"prompt is too long: 2 > 1 maximum"}}\n'; exit 0 ;;
*"What was done so far"*) {WORK}
{END}
exit 0 ;;
esac
printf '{{"type":"session","id":"s1"}}\n{{"type":"text","text":"Half of it is written."}}\n'
echo half > half && git add half && git $US commit -qm 'Begin it'
{END}"#
    );
    let world = World::new(&script);
    let (outcome, why) = outcome(&world).await;
    assert_eq!(outcome, Some(Outcome::Done), "{why}");
    let transcript = world.transcript(1);
    let prompts: Vec<&str> =
        transcript.lines().filter(|line| line.contains("\"type\":\"prompt\"")).collect();
    assert_eq!(prompts.len(), 3, "{transcript}");
    for part in ["Half of it is written.", "Begin it", "+half", "Do it"] {
        assert!(prompts[2].contains(part), "{part}: {}", prompts[2]);
    }
    assert!(transcript.contains("begins a new one"), "{transcript}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agent_goes_on_where_the_limit_of_one_ends_its_turn() {
    let limit = r#"printf '{"type":"session","id":"s1"}\n{"type":"text","text":"Half of it is written."}\n{"type":"end","status":"failed","code":429,"reason":"usage limit reached, try again in 2 hours"}\n'"#;
    let script = format!(
        "case \"$prompt\" in *'What was done so far'*) {WORK}\n{END}\nexit 0 ;; esac\n{limit}"
    );
    let world = World::new(&script);
    let mut config = world.config();
    config.agent = Some("shell".into());
    config.agents.insert("other".into(), config.agents["shell"].clone());
    config.agents.get_mut("shell").unwrap().fallback = vec!["other".into()];
    let runtime = world.try_start(config, None).await.unwrap();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert_eq!(run.agent.instead.as_deref(), Some("other"));
    let transcript = world.transcript(1);
    assert!(transcript.contains("other goes on with what was done so far"), "{transcript}");
}
