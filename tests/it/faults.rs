//! Failing models and agents, each as Claude Code reports it: the screen shows the right state within
//! its bound, and never "done".

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use afk::core::model::approval::EscalationKind;
use afk::core::model::run::Outcome;

use crate::support::world::{World, ended, until};
use crate::support::{AFK, journal_id, processes_with};

/// Starts a cockpit on an agent's script and waits for texts in their order.
fn shows_in_order(world: &World, shows: &[&str], within: Duration) {
    let began = Instant::now();
    let mut terminal = world.cockpit();
    for text in shows {
        terminal.shows(text);
    }
    let took = began.elapsed();
    assert!(took < within, "{shows:?} took {took:?}");
    terminal.keys("q");
    // The cockpit asks for confirmation while a run is active.
    terminal.keys("y");
    terminal.end();
    assert!(!terminal.text().contains("done: "));
    assert!(processes_with("AFK_STATE", &journal_id(&world.state())).is_empty());
}

const BOUND: Duration = Duration::from_secs(20);

#[test]
fn overloaded_model_is_shown_with_its_delay_and_retried() {
    let world = World::claude("init; taken; retry 1 500 529; retry 2 4000 529; read -r wait");
    shows_in_order(&world, &["529: retry 2 in 4 s"], BOUND);
    let world = World::claude("init; taken; retry 1 1 529; failed 529");
    shows_in_order(&world, &["retrying soon", "the model's API answers 529"], BOUND);
}

#[test]
fn wrong_request_asks_a_human_at_once() {
    for status in ["403", "400"] {
        let world = World::claude(&format!("init; taken; failed {status}"));
        let line = format!("needs-human: the model's API answers {status}");
        shows_in_order(&world, &[&line, "inbox 1"], BOUND);
    }
}

/// A silent agent is shown after one second, interrupted after two, and stopped after three.
const SILENCE: &str = "[limits]\nsilence_seconds = 1\ntool_minutes = 0";

#[test]
fn hanging_agent_is_shown_then_interrupted_then_stopped() {
    // The hang comes before the first byte of an answer, or in the middle of a text.
    for script in ["read -r x; read -r x; read -r x", "init; taken; say half; read -r x; read -r x"]
    {
        let world = World::claude(script).with(SILENCE);
        let shows = [
            "silent for 1 s",
            "it is interrupted",
            "the agent was silent for too long, so afk stopped it",
            "inbox 1",
        ];
        shows_in_order(&world, &shows, BOUND);
    }
}

#[test]
fn interrupted_hang_resumes_its_conversation() {
    let world = World::claude(
        "init; taken
if [ -z \"$RESUMED\" ]; then
    read -r CONTROL
    line '{\"type\":\"result\",\"subtype\":\"error_during_execution\",\"terminal_reason\":\"aborted_streaming\",\"total_cost_usd\":0,\"usage\":{}}'
    exit 0
fi
work; result",
    )
    .with(SILENCE);
    let mut terminal = world.cockpit();
    terminal.shows("done: ");
    terminal.keys("q");
    terminal.end();
    assert!(world.transcript(1).contains("nudged"));
}

#[test]
fn running_tool_is_not_a_silent_agent() {
    let world = World::claude(
        "init; taken
line '{\"type\":\"assistant\",\"message\":{\"id\":\"m\",\"content\":[{\"type\":\"tool_use\",\"id\":\"tool-t\",\"name\":\"Bash\",\"input\":{\"command\":\"make world\"}}]}}'
sleep 4; tool_result t built; work; result",
    )
    .with("[limits]\nsilence_seconds = 1\ntool_minutes = 1");
    let mut terminal = world.cockpit();
    terminal.shows("running make world");
    terminal.shows("done: ");
    terminal.keys("q");
    terminal.end();
    assert!(!world.transcript(1).contains("quiet"), "{}", world.transcript(1));
}

#[test]
fn transcript_keeps_long_and_broken_lines() {
    let world = World::claude(
        "init; taken
printf '{\"type\":\"assistant\",\"message\":{\"id\":\"big\",\"content\":[{\"type\":\"text\",\"text\":\"'
head -c 8400000 /dev/zero | tr '\\0' x
printf '\"}]}}\\n'
line '{\"type\":\"assistant\",\"mess'
printf '\\377\\376\\n'
say after; work; result",
    );
    let mut terminal = world.cockpit();
    terminal.keys("3");
    terminal.shows("after");
    terminal.shows("the agent reports that it is done");
    terminal.shows("landed ");
    terminal.keys("q");
    terminal.end();
    let transcript = world.transcript(1);
    assert!(transcript.contains("bytes here") && transcript.len() < 2 * 1024 * 1024);
    assert_eq!(transcript.matches("\"raw\"").count(), 2);
    // The lines as received, with their lengths.
    let raw = std::fs::read_to_string(world.state().join("raw/r1.jsonl")).unwrap();
    assert!(raw.contains("\"cut\":83"), "{}", raw.len());
}

#[test]
fn cut_stream_does_not_end_the_turn() {
    let world = World::claude("init; taken; say half; printf '{\"type\":\"assist'; exit 0");
    let shows = ["without reporting the end of the turn", "retrying soon"];
    shows_in_order(&world, &shows, BOUND);
}

#[test]
fn exit_0_with_a_failure_inside_is_a_failure() {
    let result = "line '{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"terminal_reason\":\"api_error\",\"api_error_status\":500,\"result\":\"API Error\",\"total_cost_usd\":0,\"usage\":{}}'; exit 0";
    let world = World::claude(&format!("init; taken; {result}"));
    shows_in_order(&world, &["the model's API answers 500", "retrying soon"], BOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn process_tree_over_its_memory_limit_is_stopped() {
    let script = "init; taken; head -c 300000000 /dev/zero | tail -c 300000000 | sleep 100";
    let world = World::claude(script).with("[limits]\nmemory_mib = 64");
    let runtime = world.start().await;
    let found = until(&runtime, "the end of the turn", |s| {
        let run = crate::support::world::run_of(&s.fleet, 1)?;
        (run.progress.failures > 0).then_some(())
    });
    found.await;
    runtime.stop().await;
    assert!(world.transcript(1).contains("the limit is 64 MiB"));
}

#[tokio::test(flavor = "multi_thread")]
async fn afk_enforces_the_budget_itself() {
    let world =
        World::claude("init; taken; result 0.70; read -r x").with("[budget]\nrun_usd = 0.5");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    let kind = runtime.handle.snapshots.borrow().fleet.inbox()[0].kind;
    assert_eq!(kind, EscalationKind::OverBudget);
    assert_eq!(run.spend.total.usd.to_string(), "$0.70");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flat_plan_counts_tokens_and_estimates_the_price() {
    for (agent, shown) in
        [("plan = 'flat'", "127 tok"), ("price = { input = 1000.0, output = 0.0 }", "~$0.12")]
    {
        let world = World::claude("init; taken; work; result 0").agent(agent);
        let runtime = world.start().await;
        assert_eq!(ended(&runtime).await.spend.total.summary(), shown);
        runtime.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_conversation_begins_a_new_one() {
    let world = World::claude(
        "init; taken
[ -n \"$RESUMED\" ] && { echo \"No conversation found with session ID: $RESUMED\" >&2; exit 1; }
if ! [ -e $HOME/once ]; then : > $HOME/once; exit 3; fi
work; result",
    );
    let runtime = world.start().await;
    assert_eq!(ended(&runtime).await.progress.outcome, Some(Outcome::Done));
    assert!(world.transcript(1).contains("no_session"));
    runtime.stop().await;
}

/// Secrets of afk's environment never reach an agent, and the agent's own key never reaches the
/// disk.
#[test]
fn agent_gets_only_its_own_secret_and_no_secret_reaches_the_disk() {
    let world = World::claude(
        "init; taken
env | tr '\\n' ' ' > $OUT/env.txt
tr '\\0' ' ' < /proc/self/environ > $OUT/proc.txt
say \"my key is $ANTHROPIC_API_KEY\"; work; result",
    );
    let key = world.path("key");
    std::fs::write(&key, "a-key-that-has-no-known-shape\n").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let world =
        world.agent(&format!("secrets = {{ ANTHROPIC_API_KEY = 'file:{}' }}", key.display()));
    let set = format!("set = {{ OUT = '{}' }}", world.root().display());
    let world = world.agent(&set);
    world.config();
    let secrets = [
        ("GITHUB_TOKEN", "ghp_not-for-agents"),
        ("GH_TOKEN", "gh-not-for-agents"),
        ("KUBECONFIG", "/kube-not-for-agents"),
        ("VAULT_TOKEN", "hvs.not-for-agents"),
        ("VAULT_ADDR", "http://vault-not-for-agents"),
        ("SSH_AUTH_SOCK", "/ssh-not-for-agents"),
        ("AWS_SECRET_ACCESS_KEY", "aws-not-for-agents"),
    ];
    let (config, state) = (world.path("afk.toml"), world.state());
    let places = ["--config", config.to_str().unwrap(), "--state", state.to_str().unwrap()];
    let args = [&places[..], &["up", "--cockpit"]].concat();
    let mut terminal = crate::support::pty::Terminal::with_env(AFK, &args, world.root(), &secrets);
    terminal.shows("done: ");
    terminal.keys("q");
    terminal.end();
    let pool = crate::support::repository_folder(&state, "acme/thing");
    let mut read = 0;
    for name in ["env.txt", "proc.txt"] {
        for entry in walk(world.root()).into_iter().filter(|path| path.ends_with(name)) {
            let text = std::fs::read_to_string(entry).unwrap();
            assert!(!text.contains("not-for-agents"), "{text}");
            assert!(text.contains("ANTHROPIC_API_KEY=a-key-that-has-no-known-shape"));
            read += 1;
        }
    }
    assert_eq!(read, 2);
    assert!(!terminal.text().contains("a-key-that-has-no-known-shape"));
    for path in walk(&state).into_iter().filter(|path| !path.starts_with(&pool)) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(29).any(|w| w == b"a-key-that-has-no-known-shape");
        assert!(!found, "the key is in {}", path.display());
    }
    assert!(world.transcript(1).contains("my key is [redacted]"));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(walk(&path)) } else { all.push(path) }
    }
    all
}
