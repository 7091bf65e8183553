//! What an operator does with afk besides its work: version, configuration, log, metrics, backup, and the
//! reports to systemd.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::api::{Api, OPERATOR, VIEWER, section};
use crate::support::world::{END, WORK, World, wait_until};
use crate::support::{AFK, afk, text};

/// Runs afk with this world's configuration and state.
fn run(world: &World, args: &[&str]) -> Output {
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(args.iter().copied()).collect();
    afk(&args).output().unwrap()
}

fn ok(world: &World, args: &[&str]) -> String {
    let output = run(world, args);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{args:?}: {said}{}", text(&output.stderr));
    said
}

/// The text of all files of the log.
fn log(state: &Path) -> String {
    let files = std::fs::read_dir(state).into_iter().flatten().flatten();
    let logs = files.filter(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        name.starts_with("afk.") && file.path().extension().is_some_and(|end| end == "log")
    });
    logs.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
}

#[test]
fn version_names_commit_and_date() {
    let said = text(&afk(&["--version"]).output().unwrap().stdout);
    let rest = said.trim().strip_prefix("afk ").unwrap_or_else(|| panic!("{said}"));
    let (version, build) = rest.split_once(" (").unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let (commit, date) = build.strip_suffix(')').unwrap().split_once(' ').unwrap();
    let date = date.trim_end_matches(", debug");
    let is_commit = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_commit || commit == "unknown", "{said}");
    assert!(date == "unknown" || date.parse::<jiff::civil::Date>().is_ok(), "{said}");
}

#[test]
fn state_folder_without_a_journal_is_told_plainly() {
    let world = World::new("").with_kill_switch();
    world.config();
    let said = ok(&world, &["status"]);
    assert!(said.starts_with("afk has not started on ") && said.contains("`afk up`"), "{said}");
    let status: Value = serde_json::from_str(&ok(&world, &["status", "--json"])).unwrap();
    assert_eq!((&status["process"], &status["seq"]), (&Value::Null, &Value::from(0)));
    for command in [&["explain", "7"][..], &["proof", "r1"], &["verify"], &["inbox"]] {
        let output = run(&world, command);
        let why = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{command:?}: {why}");
        assert!(why.contains("has not started on") && why.contains("hint: "), "{command:?}: {why}");
        assert!(!why.contains("database"), "{command:?}: {why}");
    }
    assert!(!world.state().join("journal.sqlite").exists(), "a look creates nothing");
}

#[test]
fn wrong_key_is_shown_in_its_line() {
    let world = World::new("").with_kill_switch();
    let path = world.path("afk.toml");
    std::fs::write(&path, "kill_switch = true\n[limits]\nturn_minute = 3\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let output = run(&world, &["config", "check"]);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("{}:3:1: limits.turn_minute: ", path.display())), "{said}");
    assert!(said.contains("did you mean `turn_minutes`?"), "{said}");
    assert!(said.contains("\n3 | turn_minute = 3\n") && said.contains("^^^^^^^^^^^"), "{said}");
}

#[test]
fn line_with_a_token_is_not_shown() {
    let world = World::new("").with_kill_switch();
    let path = world.path("afk.toml");
    let line = "remote = 'ext::https://bot:hunter2-hunter2@git.acme.com/a.git'";
    std::fs::write(&path, format!("[repos.'a/b']\n{line}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let said = text(&run(&world, &["config", "check"]).stderr);
    assert!(said.contains("is not an allowed remote") && !said.contains("hunter2"), "{said}");
}

#[test]
fn configuration_is_shown_checked_and_described() {
    let world = World::new("").with_kill_switch().with("[log]\nformat = 'json'");
    world.config();
    let path = world.path("afk.toml").display().to_string();
    assert_eq!(ok(&world, &["config", "path"]).trim(), path);
    assert_eq!(ok(&world, &["config", "check"]).trim(), format!("{path}: ok"));
    let rules = world.path("work/.afk.toml").display().to_string();
    assert_eq!(ok(&world, &["config", "check", &rules]).trim(), format!("{rules}: ok"));
    // What is shown has the defaults, and is a configuration by itself.
    let shown = ok(&world, &["config", "show"]);
    let table: toml::Table = shown.parse().unwrap();
    assert_eq!(table["log"]["format"].as_str(), Some("json"));
    assert_eq!(table["limits"]["turn_minutes"].as_integer(), Some(45));
    let again = world.path("again.toml");
    std::fs::write(&again, &shown).unwrap();
    std::fs::set_permissions(&again, PermissionsExt::from_mode(0o600)).unwrap();
    ok(&world, &["config", "check", again.to_str().unwrap()]);
    let json: Value = serde_json::from_str(&ok(&world, &["config", "show", "--json"])).unwrap();
    assert_eq!(json["kill_switch"], Value::Bool(true));
    for (args, key) in
        [(&["config", "schema"][..], "allowlist"), (&["config", "schema", "--repository"], "test")]
    {
        let schema: Value = serde_json::from_str(&ok(&world, args)).unwrap();
        assert!(schema["properties"][key].is_object(), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_is_in_the_log_and_in_the_metrics() {
    let world = World::new(&format!("{WORK}\n{END}"));
    let http = section(&world);
    let world = world.with(&http).with("[log]\nformat = 'json'\nkeep_days = 3");
    let api = Api::start(&world);
    world.issue(1, "Do it", "");
    let state = world.state();
    wait_until("the end of the run in the log", || log(&state).contains("\"event\":\"ended\""))
        .await;
    let lines: Vec<Value> = log(&state)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let of = |event: &str| {
        let found = lines.iter().find(|line| line["event"] == event);
        found.unwrap_or_else(|| panic!("no {event} in {lines:#?}"))
    };
    for event in
        ["claimed", "admitted", "turn-began", "turn-ended", "reached", "gate-opened", "pushed"]
    {
        let line = of(event);
        assert_eq!(line["run"], "r1", "{line}");
        assert_eq!(line["issue"], "acme/thing#1", "{line}");
        assert_eq!(line["repository"], "acme/thing", "{line}");
        assert_eq!(line["level"], "INFO", "{line}");
    }
    let scrape = async |accept: &str| {
        let request = api.client.get(format!("{}/metrics", api.address)).bearer_auth(VIEWER);
        let answer = request.header("accept", accept).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, answer.text().await.unwrap())
    };
    let (kind, metrics) = scrape("*/*").await;
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    for sample in [
        "afk_runs_claimed_total{repository=\"acme/thing\"} 1",
        "afk_runs_ended_total{repository=\"acme/thing\",outcome=\"done\"} 1",
        "afk_gate_runs_total{result=\"opened\"} 1",
        "afk_pushes_total{repository=\"acme/thing\"} 1",
        "afk_queue_wait_seconds_count 1",
        "afk_leads 1.0",
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample} is not in\n{metrics}");
    }
    let (kind, metrics) = scrape("application/openmetrics-text; version=1.0.0").await;
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    assert_eq!(api.get("/livez", None).await.0, 200);
    let doctor = text(&run(&world, &["doctor"]).stdout);
    let place = format!("ok  log: {}/afk.", world.state().display());
    assert!(doctor.contains(&place), "{doctor}");
    // The backup of the running afk is whole, and goes to another place.
    let (copy, other) = (world.path("copy"), world.path("other"));
    let said = ok(&world, &["backup", copy.to_str().unwrap()]);
    assert!(said.contains("records") && said.contains("verified"), "{said}");
    ok(&world, &["backup", "--check", copy.to_str().unwrap()]);
    let restore = ["--state", other.to_str().unwrap(), "restore", copy.to_str().unwrap()];
    let output = afk(&restore).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let verified = afk(&["--state", other.to_str().unwrap(), "verify"]).output().unwrap();
    assert!(text(&verified.stdout).contains("every link holds"), "{}", text(&verified.stderr));
    let status = afk(&["--state", other.to_str().unwrap(), "status"]).output().unwrap();
    assert!(text(&status.stdout).contains("KILL SWITCH"), "{}", text(&status.stdout));
    assert!(other.join("transcripts/r1.jsonl").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_names_the_keys_that_need_a_restart() {
    let world = World::new("").with_kill_switch();
    let http = section(&world);
    let world = world.with(&http);
    let api = Api::start(&world);
    let path = world.path("afk.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replace("[tracker]", "[log]\nkeep_days = 3\n[tracker]");
    assert_ne!(changed, text);
    let problems = async || api.get("/v1/fleet", Some(OPERATOR)).await.1["problems"].to_string();
    std::fs::write(&path, changed.replace("kill_switch", "capacity = 9\nkill_switch")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let line = "the change of log needs a restart";
    let mut seen = problems().await;
    while !seen.contains(line) {
        assert!(Instant::now() < deadline, "{seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = problems().await;
    }
    assert!(!seen.contains("capacity"), "{seen}");
    std::fs::write(&path, &text).unwrap();
    while problems().await.contains("needs a restart") {
        assert!(Instant::now() < deadline, "the line stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn service_manager_hears_of_start_life_and_end() {
    let world = World::new("").with_kill_switch();
    world.config();
    let socket = world.path("notify.sock");
    let reports = UnixDatagram::bind(&socket).unwrap();
    reports.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["up"]).collect();
    // As systemd does, the shell names the process that the watchdog is about.
    let mut command = Command::new("sh");
    command.args(["-c", "export WATCHDOG_PID=$$; exec \"$@\"", "sh", AFK]).args(&args);
    for (name, value) in afk(&args).get_envs() {
        assert!(value.is_none(), "{name:?} is only removed");
        command.env_remove(name);
    }
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "300000");
    let mut child = command.spawn().unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let length = reports.recv(&mut buffer).unwrap();
        text(&buffer[..length])
    };
    let until = |word: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let report = next();
            if report.contains(word) {
                return report;
            }
            assert!(Instant::now() < deadline, "no {word}");
        }
    };
    assert!(until("READY=1").contains("STATUS="));
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    assert!(until("RELOADING=1").contains("MONOTONIC_USEC="));
    until("READY=1");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until("STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn completions_and_man_pages_are_made() {
    let dir = tempfile::tempdir().unwrap();
    for (shell, check) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let output = afk(&["completions", shell]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let script = text(&output.stdout);
        assert!(script.contains("kill-switch") && script.contains("backup"), "{shell}");
        let path = dir.path().join(shell);
        std::fs::write(&path, script).unwrap();
        match Command::new(shell).args(check).arg(&path).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", text(&output.stderr)),
            Err(_) => eprintln!("!!! SKIPPED: {shell} is not installed"),
        }
    }
    let pages = dir.path().join("man");
    assert!(afk(&["man", pages.to_str().unwrap()]).status().unwrap().success());
    let page = std::fs::read_to_string(pages.join("afk.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("afk"), "{page}");
    assert!(pages.join("afk-backup.1").exists() && !pages.join("afk-__demo-agent.1").exists());
}

#[test]
fn wrong_filter_of_the_log_is_an_error() {
    let world = World::new("").with_kill_switch();
    world.config();
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["up"]).collect();
    let output = afk(&args).env("AFK_LOG", "afk=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("AFK_LOG=\"afk=loud\""), "{}", text(&output.stderr));
}
