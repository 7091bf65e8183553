//! Real agent programs in pinned versions against a scripted model on loopback, with dummy keys and
//! a HOME of their own. `tests/agents.sh` installs them and runs this; without it every test here is
//! reported as ignored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by a panic, and says when it is skipped"
)]

mod breakglass;
mod conform;
mod hostile;
mod presets;
mod probe;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use presets::Make;
use support::model::{Model, ModelRequest, Reply};
use support::pty::Terminal;
use support::world::World;
use support::{journal_id, log, processes_with, repository_folder};

const TEST: &str = "mkdir -p tests && echo 'grep -q done state' > tests/state.sh; \
    sh tests/state.sh || git add tests && git commit -qm 'Test it'";
const WORK: &str = "echo done > state && git add state && git commit -qm 'Do it'";

/// Rules of a repository with every stage: CI, deploy and probe.
const STAGES: &str = "[ci]\ncommand = 'sh tests/state.sh'\n[deploy]\ncommand = 'cp state \"$HOME/deployed\"'\n\
    [probe]\ncommand = 'true'\ninterval_ms = 10\nsoak_ms = 20\n";

/// A script that writes the test first, then the change, and then ends the turn.
fn tdd(asked: &ModelRequest) -> Reply {
    match asked.spoken {
        0 => Reply::Run(TEST.into()),
        1 => Reply::Run(WORK.into()),
        _ => Reply::Say("Done: it is tested and committed.".into()),
    }
}

/// A world behind the wall: an agent reaches nothing of it but its own home and its workspace.
fn walled() -> World {
    World::without_agent().walled()
}

/// The `.git` of the workspace in which a tool left a file of this name there. It is the one place
/// that a program behind the wall and the test share, and that no commit contains.
fn shared(world: &World, name: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(repository_folder(&world.state(), "acme/thing")).ok()?;
    folders.flatten().map(|folder| folder.path().join(".git")).find(|git| git.join(name).exists())
}

/// The whole loop: failing test, fix, commit, gate, push, CI, deploy, healthy.
fn whole_loop(make: Make) {
    let model = Model::start(tdd);
    let world = make(&model, walled().rules(STAGES));
    let mut terminal = world.cockpit();
    terminal.shows("done: ");
    terminal.until("nothing at work", |s| s.contains("permits 0/3"));
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
    let subjects = log(&world.remote(), "master", "%s");
    assert_eq!(subjects[subjects.len() - 2..], ["Test it", "Do it"]);
    assert!(processes_with("AFK_STATE", &journal_id(&world.state())).is_empty());
    let transcript = world.transcript(1);
    assert!(transcript.contains("session_started") && transcript.contains("Done: it is tested"));
    assert!(model.requests().len() >= 3);
}

/// A failing CI is fixed forward by an agent that receives the end of the log: in the same
/// conversation, unless it can't resume one.
fn red_ci_is_fixed_forward(make: Make, conversations: usize) {
    const MEND: &str = "echo more > tests/more.sh; echo ok > ci && echo true > tests/more.sh && \
        git add ci tests && git commit -qm 'Mend the CI'";
    let model = Model::start(|asked| {
        let red = asked.whole.contains("the-log-of-the-ci");
        match asked.spoken {
            _ if asked.whole.contains("Mend the CI") => Reply::Say("Mended.".into()),
            _ if red => Reply::Run(MEND.into()),
            0 => Reply::Run(TEST.into()),
            1 => Reply::Run(WORK.into()),
            _ => Reply::Say("Done.".into()),
        }
    });
    let rules = "[ci]\ncommand = 'cat ci || { echo the-log-of-the-ci; exit 1; }'\n[gate]\nexempt = ['ci']\ntests = ['tests/**']\n";
    let world = make(&model, walled().rules(rules));
    let mut terminal = world.cockpit();
    terminal.shows("done: ");
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
    assert!(log(&world.remote(), "master", "%s").contains(&"Mend the CI".to_owned()));
    assert_eq!(sessions(&world).len(), conversations);
}

/// The names of the conversations in the run's transcript.
fn sessions(world: &World) -> BTreeSet<String> {
    let transcript = world.transcript(1);
    let names = transcript.lines().filter_map(|line| line.split("\"session\":\"").nth(1));
    names.filter_map(|rest| Some(rest.split('"').next()?.to_owned())).collect()
}

/// After a kill -9 of afk in the middle of a tool, the next start ends orphaned processes, resumes
/// the same conversation, and repeats nothing.
fn survives_a_kill(make: Make) {
    let model = Model::start(|asked| {
        if asked.whole.contains("You were stopped in the middle") {
            let done = asked.whole.contains("Do it now");
            let all = format!("{TEST}; {WORK}; echo Do it now");
            return if done { Reply::Say("Done.".into()) } else { Reply::Run(all) };
        }
        Reply::Run("touch .git/began; sleep 600".into())
    });
    let world = make(&model, walled());
    let mut terminal = world.cockpit();
    terminal.read_until("the tool runs", || shared(&world, "began").is_some());
    let pid = terminal.child.process_id().unwrap().cast_signed();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    terminal.child.wait().unwrap();
    let mut terminal = world.cockpit();
    terminal.shows("done: ");
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
    let subjects = log(&world.remote(), "master", "%s");
    assert_eq!(subjects.iter().filter(|s| *s == "Do it").count(), 1);
    assert!(processes_with("AFK_STATE", &journal_id(&world.state())).is_empty());
    assert_eq!(sessions(&world).len(), 1);
}

/// The agent is steered in the middle of a tool, and interrupted while its child runs.
fn operator_steers_and_interrupts(make: Make) {
    let model = Model::start(|asked| {
        if asked.whole.contains("now finish it") {
            return match asked.whole.matches("scripted-end").count() {
                0 => Reply::Run(format!("{TEST}; {WORK}; echo scripted-end")),
                _ => Reply::Say("Finished.".into()),
            };
        }
        if asked.whole.contains("the other way") {
            return Reply::Run("touch .git/second; sleep 600".into());
        }
        Reply::Run("touch .git/began; while ! [ -e .git/go ]; do sleep 0.1; done".into())
    });
    let world = make(&model, walled());
    let mut terminal = world.cockpit();
    terminal.read_until("the tool runs", || shared(&world, "began").is_some());
    terminal.keys("3s");
    terminal.shows("┌ Steer ");
    terminal.keys("go the other way\r");
    terminal.shows("go the other way");
    std::fs::write(shared(&world, "began").unwrap().join("go"), "").unwrap();
    terminal.shows("message taken");
    terminal.read_until("the second tool runs", || shared(&world, "second").is_some());
    terminal.keys("X");
    terminal.shows("┌ Interrupt ");
    terminal.keys("y");
    terminal.shows("an operator interrupted the turn");
    let id = journal_id(&world.state());
    terminal.until("the run waits", |s| s.contains("permits 0/3"));
    terminal.read_until("its children are gone", || processes_with("AFK_STATE", &id).is_empty());
    terminal.keys("s");
    terminal.shows("in the same conversation");
    terminal.keys("now finish it\r");
    terminal.shows("done: ");
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
}

/// A failing API is shown with its status, and the run never ends as done.
fn failing_model_is_shown(make: Make, status: u16, shows: &str) {
    let model = Model::start(move |_| Reply::Status(status));
    let world = make(&model, walled());
    let mut terminal = world.cockpit();
    terminal.shows(shows);
    assert!(!terminal.text().contains("done: "));
    terminal.keys("qy");
    terminal.end();
}

/// A model that never answers is stopped within the watchdog's bound.
fn hanging_model_is_stopped(make: Make) {
    let model = Model::start(|_| Reply::Hang);
    let world = make(&model, walled()).with("[limits]\nsilence_seconds = 3\ntool_minutes = 0");
    let mut terminal = world.cockpit();
    terminal.shows("it is interrupted");
    terminal.until("the end of the turn", |s| s.contains("tries again") || s.contains("inbox 1"));
    assert!(!terminal.text().contains("done: "));
    terminal.keys("qy");
    terminal.end();
}

/// An agent without a home of its own works with the user's login and settings, and its tools read
/// nothing else of the user's home.
fn login_and_settings_suffice(make: fn(&Model, &Path, World) -> World) {
    let model = Model::start(|asked| match asked.spoken {
        0 => Reply::Run(format!("cat ~/.*/settings* ~/.*/config.toml ~/.*/private; {TEST}")),
        1 => Reply::Run(WORK.into()),
        _ => Reply::Say("Done.".into()),
    });
    let world = walled();
    let user = world.path("user");
    for folder in [".claude", ".codex", ".ssh"] {
        std::fs::create_dir_all(user.join(folder)).unwrap();
        std::fs::write(user.join(folder).join("private"), "the-secret-of-the-user").unwrap();
    }
    let world = make(&model, &user, world);
    world.config();
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["up", "--cockpit"]).collect();
    let home = [("HOME", user.to_str().unwrap())];
    let mut terminal = Terminal::with_env(support::AFK, &args, world.root(), &home);
    terminal.shows("done: ");
    terminal.keys("q");
    assert_eq!(terminal.end(), 0);
    let requests = model.requests();
    assert!(requests.iter().all(|asked| asked.login.contains("sk-of-the-user")), "{requests:?}");
    assert!(requests.iter().any(|asked| asked.whole.contains("the-settings-of-the-user")));
    assert!(!requests.iter().any(|asked| asked.whole.contains("the-secret-of-the-user")));
}

fn claude_of_the_user(model: &Model, user: &Path, world: World) -> World {
    let settings = serde_json::json!({"env": {
        "ANTHROPIC_BASE_URL": model.address, "ANTHROPIC_API_KEY": "sk-of-the-user-000000",
        "MARK": "the-settings-of-the-user"}});
    std::fs::write(user.join(".claude/settings.json"), settings.to_string()).unwrap();
    let program = presets::program("@anthropic-ai/claude-code-linux-x64/claude");
    world.preset("claude", &[program.to_str().unwrap()], "")
}

fn codex_of_the_user(model: &Model, user: &Path, world: World) -> World {
    let settings = format!(
        "# the-settings-of-the-user\nmodel = 'gpt-5.5'\nmodel_provider = 'fake'\n\
         [model_providers.fake]\nname = 'fake'\nbase_url = '{}/v1'\nwire_api = 'responses'\n\
         requires_openai_auth = true\n",
        model.address
    );
    std::fs::write(user.join(".codex/config.toml"), settings).unwrap();
    let login =
        serde_json::json!({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-of-the-user-000000"});
    std::fs::write(user.join(".codex/auth.json"), login.to_string()).unwrap();
    let program = presets::program(".bin/codex");
    world.preset("codex", &[program.to_str().unwrap()], "")
}

/// An agent that may reach only some hosts asks the egress proxy for its model, which refuses one that
/// no list names. (It never leads to loopback, where the scripted model is.)
fn agent_uses_the_egress_proxy(make: Make) {
    let model = Model::nowhere("https://model.invalid");
    let world = make(&model, walled().repo("network = 'proxy'"));
    let mut terminal = world.cockpit();
    let refused = || {
        let files = std::fs::read_dir(world.state()).into_iter().flatten().flatten();
        let logs = files.filter(|file| file.path().extension().is_some_and(|end| end == "log"));
        let text = logs.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default());
        text.collect::<String>().lines().any(|line| {
            line.contains("the egress proxy refused") && line.contains("model.invalid:443")
        })
    };
    terminal.read_until("the proxy refuses the model's host", refused);
    assert!(!terminal.text().contains("done: "));
    terminal.keys("qy");
    terminal.end();
}

fn denial_reaches_the_agent(make: Make) {
    let model = Model::start(|asked| match asked.spoken {
        0 => Reply::Run("touch forbidden-by-the-operator".into()),
        1 => Reply::Run(format!("{TEST}; {WORK}")),
        _ => Reply::Say("Done.".into()),
    });
    let world = make(&model, walled().rules("[permissions]\nask = ['shell(touch*)']"));
    let mut terminal: Terminal = world.cockpit();
    terminal.shows("inbox 1");
    terminal.keys("i");
    terminal.shows("touch forbidden-by-the-operator");
    terminal.shows("answers this version only");
    terminal.takes_answers();
    terminal.keys("d");
    terminal.shows("Deny e1 (thing#1): why");
    terminal.keys("do the work instead\r");
    terminal.keys("\u{1b}");
    terminal.shows("done: ");
    terminal.keys("q");
    terminal.end();
    assert!(model.requests().iter().any(|asked| asked.whole.contains("do the work instead")));
    let files = support::git(&world.remote(), &["ls-tree", "--name-only", "master"]);
    assert!(!files.contains("forbidden"), "{files}");
}

macro_rules! tests {
    ($agent:ident: $($name:ident = $call:expr;)*) => {
        mod $agent {
            $(
                #[test]
                #[ignore = "needs real agents: tests/agents.sh installs them and runs this"]
                fn $name() {
                    $call
                }
            )*
        }
    };
}

mod quick {
    tests! { claude_code:
        run_passes_the_whole_loop = crate::whole_loop(crate::presets::claude);
        red_ci_is_fixed_forward = crate::red_ci_is_fixed_forward(crate::presets::claude, 1);
        restart_after_a_kill_resumes_the_conversation = crate::survives_a_kill(crate::presets::claude);
        operator_steers_and_interrupts_the_agent = crate::operator_steers_and_interrupts(crate::presets::claude);
        agent_receives_the_reason_of_a_denial = crate::denial_reaches_the_agent(crate::presets::claude);
        overloaded_model_is_shown_and_retried = crate::failing_model_is_shown(crate::presets::claude, 529, "529: retry");
        bad_request_asks_a_human = crate::failing_model_is_shown(crate::presets::claude, 400, "the model's API answers 400");
        hanging_model_is_stopped = crate::hanging_model_is_stopped(crate::presets::claude);
        login_and_settings_suffice = crate::login_and_settings_suffice(crate::claude_of_the_user);
        agent_uses_the_egress_proxy = crate::agent_uses_the_egress_proxy(crate::presets::claude);
        breakglass_agent_asks_and_repairs = crate::breakglass::claude_asks();
        breakglass_agent_acts_and_repairs = crate::breakglass::claude_acts();
        breakglass_agent_is_stopped_by_an_operator = crate::breakglass::claude_is_stopped();
    }

    tests! { codex_app_server:
        run_passes_the_whole_loop = crate::whole_loop(crate::presets::codex);
        red_ci_is_fixed_forward = crate::red_ci_is_fixed_forward(crate::presets::codex, 1);
        restart_after_a_kill_resumes_the_conversation = crate::survives_a_kill(crate::presets::codex);
        operator_steers_and_interrupts_the_agent = crate::operator_steers_and_interrupts(crate::presets::codex);
        agent_receives_the_reason_of_a_denial = crate::denial_reaches_the_agent(crate::presets::codex);
        bad_request_asks_a_human = crate::failing_model_is_shown(crate::presets::codex, 400, "the model");
        hanging_model_is_stopped = crate::hanging_model_is_stopped(crate::presets::codex);
        login_and_settings_suffice = crate::login_and_settings_suffice(crate::codex_of_the_user);
        agent_uses_the_egress_proxy = crate::agent_uses_the_egress_proxy(crate::presets::codex);
        breakglass_agent_asks_and_repairs = crate::breakglass::codex_asks();
        breakglass_agent_acts_and_repairs = crate::breakglass::codex_acts();
        breakglass_agent_is_stopped_by_an_operator = crate::breakglass::codex_is_stopped();
    }
}

mod slow {
    tests! { claude_over_acp:
        run_passes_the_whole_loop = crate::whole_loop(crate::presets::claude_agent_acp);
        red_ci_is_fixed_forward = crate::red_ci_is_fixed_forward(crate::presets::claude_agent_acp, 1);
        agent_receives_the_reason_of_a_denial = crate::denial_reaches_the_agent(crate::presets::claude_agent_acp);
        agent_uses_the_egress_proxy = crate::agent_uses_the_egress_proxy(crate::presets::claude_agent_acp);
    }

    tests! { gemini_over_acp:
        run_passes_the_whole_loop = crate::whole_loop(crate::presets::gemini);
        red_ci_is_fixed_forward = crate::red_ci_is_fixed_forward(crate::presets::gemini, 2);
        agent_receives_the_reason_of_a_denial = crate::denial_reaches_the_agent(crate::presets::gemini);
        agent_uses_the_egress_proxy = crate::agent_uses_the_egress_proxy(crate::presets::gemini);
    }

    tests! { qwen_over_acp:
        run_passes_the_whole_loop = crate::whole_loop(crate::presets::qwen);
        red_ci_is_fixed_forward = crate::red_ci_is_fixed_forward(crate::presets::qwen, 1);
        agent_receives_the_reason_of_a_denial = crate::denial_reaches_the_agent(crate::presets::qwen);
        agent_uses_the_egress_proxy = crate::agent_uses_the_egress_proxy(crate::presets::qwen);
    }

    tests! { codex_over_acp:
        run_passes_the_whole_loop = crate::whole_loop(crate::presets::codex_acp);
        red_ci_is_fixed_forward = crate::red_ci_is_fixed_forward(crate::presets::codex_acp, 1);
        agent_receives_the_reason_of_a_denial = crate::denial_reaches_the_agent(crate::presets::codex_acp);
        agent_uses_the_egress_proxy = crate::agent_uses_the_egress_proxy(crate::presets::codex_acp);
        bad_request_is_no_normal_end = crate::failing_model_is_shown(crate::presets::codex_acp, 400, "the model");
    }

    tests! { copilot_over_acp:
        run_passes_the_whole_loop = crate::whole_loop(crate::presets::copilot);
        red_ci_is_fixed_forward = crate::red_ci_is_fixed_forward(crate::presets::copilot, 1);
        agent_receives_the_reason_of_a_denial = crate::denial_reaches_the_agent(crate::presets::copilot);
        agent_uses_the_egress_proxy = crate::agent_uses_the_egress_proxy(crate::presets::copilot);
        bad_request_is_no_normal_end = crate::failing_model_is_shown(crate::presets::copilot, 400, "the model");
    }

    tests! { pi_by_its_mode_rpc:
        run_passes_the_whole_loop = crate::whole_loop(crate::presets::pi);
        restart_after_a_kill_resumes_the_conversation = crate::survives_a_kill(crate::presets::pi);
        operator_steers_and_interrupts_the_agent = crate::operator_steers_and_interrupts(crate::presets::pi);
        agent_receives_the_reason_of_a_denial = crate::denial_reaches_the_agent(crate::presets::pi);
        bad_request_asks_a_human = crate::failing_model_is_shown(crate::presets::pi, 400, "the model");
        hanging_model_is_stopped = crate::hanging_model_is_stopped(crate::presets::pi);
        agent_uses_the_egress_proxy = crate::agent_uses_the_egress_proxy(crate::presets::pi);
    }

    tests! { opencode_over_acp:
        run_passes_the_whole_loop = crate::whole_loop(crate::presets::opencode);
        red_ci_is_fixed_forward = crate::red_ci_is_fixed_forward(crate::presets::opencode, 1);
        agent_receives_the_reason_of_a_denial = crate::denial_reaches_the_agent(crate::presets::opencode);
        agent_uses_the_egress_proxy = crate::agent_uses_the_egress_proxy(crate::presets::opencode);
    }
}

/// Third-party clients of the HTTP API.
mod clients {
    use super::support::api::{Api, OPERATOR, section};
    use super::support::nginx::Nginx;
    use super::support::text;
    use super::support::world::World;

    /// The part of Claude Code that a chat needs.
    const CLAUDE: &str = r#"
piece() { line '{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'"$1"'"}},"session_id":"'"$SESSION"'"}'; }
init
taken
case "$MESSAGE" in
*"late failure"*) sleep 3; failed 529 ;;
*fail*) failed 529 ;;
*"for ever"*) piece 'so '; sleep 600 ;;
*"silent for a while"*) sleep 70 ;;
esac
for part in 'Grüße' ', ' '日本\n\n' '— ' new; do piece "$part"; done
result
"#;

    fn served() -> (World, Api) {
        let world = World::claude(CLAUDE);
        std::fs::remove_file(world.path("issues/1.md")).unwrap();
        let http = section(&world);
        let world = world.with(&http).with("[service]\nrepository = 'acme/thing'");
        let api = Api::start(&world);
        (world, api)
    }

    /// Runs a client's script, which prints its last line only if everything was as expected.
    fn expect_all(script: &str, address: &str) {
        let python = std::env::var("AFK_CLIENTS").expect("tests/agents.sh sets AFK_CLIENTS");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clients");
        let out = std::process::Command::new(python)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(format!("{folder}/{script}"))
            .args([address, OPERATOR])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
        assert!(text(&out.stdout).contains("all as expected"));
    }

    #[test]
    #[ignore = "tests/agents.sh clients"]
    fn openai_client_gets_the_openai_format() {
        let (_world, api) = served();
        expect_all("openai_client.py", &api.address);
    }

    #[test]
    #[ignore = "tests/agents.sh clients"]
    fn litellm_client_gets_the_openai_format() {
        let (_world, api) = served();
        expect_all("litellm_client.py", &api.address);
    }

    #[test]
    #[ignore = "tests/agents.sh clients"]
    fn langchain_client_gets_the_openai_format() {
        let (_world, api) = served();
        expect_all("langchain_client.py", &api.address);
    }

    #[test]
    #[ignore = "tests/agents.sh clients"]
    fn clients_get_the_openai_format_behind_nginx() {
        let (world, api) = served();
        let nginx = Nginx::start(&world, &api.address).expect("tests/agents.sh looks for nginx");
        expect_all("openai_client.py", &nginx.address);
        // A silence that is longer than nginx's patience of 60 s.
        let bearer = format!("Authorization: Bearer {OPERATOR}");
        let body =
            r#"{"messages": [{"role": "user", "content": "silent for a while"}], "stream": true}"#;
        let out = std::process::Command::new("curl")
            .args(["-sS", "-N", "-w", "\n%{http_code}", "-H", &bearer, "-d", body])
            .args(["-H", "Content-Type: application/json"])
            .arg(format!("{}/v1/chat/completions", nginx.address))
            .output()
            .unwrap();
        let printed = text(&out.stdout);
        assert!(printed.contains("data: [DONE]") && printed.ends_with("200"), "{printed}");
    }

    #[test]
    #[ignore = "tests/agents.sh clients"]
    fn curl_submits_polls_and_streams() {
        let (_world, api) = served();
        let curl = |args: &[&str], path: &str| {
            let bearer = format!("Authorization: Bearer {OPERATOR}");
            let out = std::process::Command::new("curl")
                .args(["-sS", "-N", "-w", "\n%{http_code}", "-H", &bearer])
                .args(["-H", "Content-Type: application/json"])
                .args(args)
                .arg(format!("{}{path}", api.address))
                .output()
                .unwrap();
            assert!(out.status.success(), "{}", text(&out.stderr));
            text(&out.stdout)
        };
        let printed = curl(&["-d", r#"{"prompt": "x", "agent": "shell"}"#], "/execute");
        assert!(printed.ends_with("\n202"), "{printed}");
        let id = printed.split('"').find(|part| part.len() == 12).unwrap().to_owned();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let printed = curl(&[], &format!("/jobs/{id}"));
            assert!(printed.ends_with("\n200"), "{printed}");
            if printed.contains(r#""status":"completed""#) {
                break;
            }
            assert!(std::time::Instant::now() < end, "{printed}");
        }
        let body = r#"{"messages": [{"role": "user", "content": "hi"}], "stream": true}"#;
        let printed = curl(&["-d", body], "/v1/chat/completions");
        assert!(
            printed.contains("data: [DONE]")
                && printed.contains("日本")
                && printed.ends_with("200"),
            "{printed}"
        );
        assert!(curl(&[], "/health").contains(r#""status":"ok""#));
        assert!(curl(&[], "/metrics").contains("# TYPE afk_"));
    }
}
