//! Who may act, and who not any more: tokens, processes of afk's own, and files of other users.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::api::{Api, OPERATOR, VIEWER, section};
use crate::support::pve::Pve;
use crate::support::world::{World, wait_until};
use crate::support::{afk, text};

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A request with a token, as its status; 0 if there was no answer.
async fn status(api: &Api, token: &str) -> u16 {
    api.get("/v1/fleet", Some(token)).await.0
}

/// The refusals of a kind that `/metrics` counts.
async fn refusals(api: &Api, kind: &str) -> u64 {
    let request = api.client.get(format!("{}/metrics", api.address)).bearer_auth(VIEWER);
    let text = request.send().await.unwrap().text().await.unwrap();
    let name = format!("afk_refusals_total{{kind=\"{kind}\"}} ");
    let found = text.lines().find_map(|line| line.strip_prefix(&name));
    found.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_or_demoted_token_loses_its_rights_without_a_restart() {
    let world = World::new("").with_kill_switch();
    let section = section(&world);
    let world = world.with(&section);
    let api = Api::start(&world);
    let throw = || json!({"action": "set_capacity", "permits": 2});
    assert_eq!(api.act(OPERATOR, throw()).await.0, 200);
    let stream = api.client.get(format!("{}/v1/events?since=0", api.address)).bearer_auth(OPERATOR);
    let mut stream = stream.send().await.unwrap();
    let file = world.path("afk.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    // Demoted.
    std::fs::write(&file, config.replace("role = 'operator'", "role = 'viewer'")).unwrap();
    let demoted = async { while api.act(OPERATOR, throw()).await.0 != 403 {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), demoted).await.unwrap();
    assert_eq!(status(&api, OPERATOR).await, 200);
    // Removed: also from a stream that is open.
    let (before, after) = config.split_once("[http.tokens.deployer]").unwrap();
    let after = &after[after.find("[http.tokens.wall]").unwrap()..];
    std::fs::write(&file, format!("{before}{after}")).unwrap();
    let ended = async { while stream.chunk().await.is_ok_and(|chunk| chunk.is_some()) {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.unwrap();
    assert_eq!(status(&api, OPERATOR).await, 401);
    assert_eq!(status(&api, VIEWER).await, 200);
    // A token that others can change is not known, and the problem names the file.
    let token = world.path("viewer-token");
    std::fs::write(&file, &config).unwrap();
    let back = async { while status(&api, OPERATOR).await != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), back).await.unwrap();
    mode(&token, 0o622);
    std::fs::write(&file, format!("{config}\n# read again\n")).unwrap();
    let gone = async { while status(&api, VIEWER).await != 401 {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.unwrap();
    let named = |fleet: &Value| fleet["problems"].to_string().contains("viewer-token");
    let told = async { while !named(&api.get("/v1/fleet", Some(OPERATOR)).await.1) {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), told).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn arming_ends_with_the_last_way_in_of_its_operator() {
    let world = World::new("").with_kill_switch();
    let Some(pve) = Pve::start(world.root()) else { return };
    // The operator at this machine has the name of the token.
    let sections = format!("{}\n{}", pve.section(world.root(), ""), section(&world));
    let world = world.with(&format!("operator = 'deployer'\n{sections}"));
    let api = Api::start(&world);
    let file = world.path("afk.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let demoted = config.replace("role = 'operator'", "role = 'viewer'");
    let write = |local: &str, text: &str| {
        let named = format!("operator = '{local}'\n");
        std::fs::write(&file, text.replace("operator = 'deployer'\n", &named)).unwrap();
    };
    let arm = json!({"action": "breakglass", "ask": {"ask": "arm", "reason": "it hangs"}});
    assert_eq!(api.act(OPERATOR, arm).await.0, 200);
    let armed_by = async || {
        let (_, seen) = api.get("/v1/breakglass", Some(OPERATOR)).await;
        seen["state"]["armed"]["by"].as_str().map(str::to_owned)
    };
    // The problem with the other token is reported after the names of operators were compared.
    let limit = std::time::Duration::from_secs(30);
    mode(&world.path("viewer-token"), 0o622);
    write("deployer", &demoted);
    let named = |fleet: &Value| fleet["problems"].to_string().contains("viewer-token");
    let compared = async { while !named(&api.get("/v1/fleet", Some(OPERATOR)).await.1) {} };
    tokio::time::timeout(limit, compared).await.unwrap();
    let throw = || json!({"action": "set_capacity", "permits": 2});
    assert_eq!(api.act(OPERATOR, throw()).await.0, 403);
    assert_eq!(armed_by().await.as_deref(), Some("deployer"));
    // The token is an operator's again, and the operator at this machine has another name.
    write("somebody", &config);
    let back = async { while api.act(OPERATOR, throw()).await.0 != 200 {} };
    tokio::time::timeout(limit, back).await.unwrap();
    assert_eq!(armed_by().await.as_deref(), Some("deployer"));
    write("somebody", &demoted);
    let ended = async { while armed_by().await.is_some() {} };
    tokio::time::timeout(limit, ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_by_kind() {
    let world = World::new("").with_kill_switch();
    let section = section(&world);
    let world = world.with(&section);
    let api = Api::start(&world);
    for kind in ["ssh-login", "http-unauthenticated", "http-forbidden", "command", "own-process"] {
        assert_eq!(refusals(&api, kind).await, 0, "{kind}");
    }
    for _ in 0..20 {
        assert_eq!(status(&api, "wrong-token-0123456789").await, 401);
    }
    let throw = json!({"action": "set_kill_switch", "on": true});
    assert_eq!(api.act(VIEWER, throw).await.0, 403);
    assert_eq!(refusals(&api, "http-unauthenticated").await, 20);
    assert_eq!((refusals(&api, "http-forbidden").await, refusals(&api, "command").await), (1, 1));
    // The log names them, up to a bound.
    let log = || {
        let files = std::fs::read_dir(world.state()).unwrap().flatten();
        let logs = files.filter(|file| file.file_name().to_string_lossy().ends_with(".log"));
        logs.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect::<String>()
    };
    wait_until("the refusals in the log", || log().contains("wall (http)")).await;
    let lines = log().lines().filter(|line| line.contains("http-unauthenticated")).count();
    assert!((1..=10).contains(&lines), "{lines} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_gets_no_way_in_over_http_or_ssh() {
    // The agent has found an operator's token and the addresses.
    let world = World::without_agent();
    let (asks, answer) = (world.path("asks"), world.path("answer"));
    let root = world.root().display();
    let script = format!(
        "read -r prompt\nuntil [ -s {root}/asks ]; do sleep 0.05; done\n. {root}/asks > {root}/part 2>&1\n\
         mv {root}/part {root}/answer\nread -r steer\n"
    );
    std::fs::write(world.path("agent.sh"), script).unwrap();
    let section = section(&world);
    std::fs::write(world.path("authorized_keys"), "").unwrap();
    let world = world.with(&section).with("[ssh]\nenabled = true\nlisten = '127.0.0.1:0'");
    let (_up, lines) = world.up_with_lines(3);
    let port = |at: usize| lines[at].rsplit(':').next().unwrap().trim().to_owned();
    let (ssh, http) = (port(0), port(1));
    let say = |port: &str, line: &str| {
        format!(
            "bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; printf \"{line}\" >&3; timeout 20 cat <&3'\n"
        )
    };
    let request = format!(
        "GET /v1/fleet HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\
         authorization: Bearer {OPERATOR}\\r\\n\\r\\n"
    );
    let text = format!(
        "{}echo; echo -- ssh; {}echo -- end\n",
        say(&http, &request),
        say(&ssh, "SSH-2.0-x\\r\\n")
    );
    std::fs::write(world.path("asks.new"), text).unwrap();
    std::fs::rename(world.path("asks.new"), &asks).unwrap();
    wait_until("the agent's answer", || answer.exists()).await;
    let said = std::fs::read_to_string(&answer).unwrap();
    assert!(said.contains("403 Forbidden") && said.contains("own-process"), "{said}");
    let of_ssh = said.split("-- ssh").nth(1).unwrap();
    assert!(!of_ssh.contains("SSH-2.0") && of_ssh.contains("-- end"), "{said}");
    // A program that afk did not start is served, and sees the count.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let request = client.get(format!("http://127.0.0.1:{http}/metrics")).bearer_auth(VIEWER);
    let metrics = request.send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("afk_refusals_total{kind=\"own-process\"} 2"), "{metrics}");
}

/// Runs a command of afk on a configuration and a state folder.
fn run(config: &Path, state: &Path, word: &str) -> Output {
    let paths = [config, state].map(|path| path.display().to_string());
    afk(&["--config", &paths[0], "--state", &paths[1], word]).output().unwrap()
}

#[test]
fn configuration_and_state_that_others_can_change_are_refused() {
    let world = World::new("").with_kill_switch();
    world.config();
    let (config, state) = (world.path("open/afk.toml"), world.path("state"));
    std::fs::create_dir(world.path("open")).unwrap();
    std::fs::copy(world.path("afk.toml"), &config).unwrap();
    mode(&world.path("open"), 0o777);
    let out = run(&config, &state, "up");
    let why = format!("chmod go-w {}", world.path("open").display());
    assert!(!out.status.success() && text(&out.stderr).contains(&why), "{}", text(&out.stderr));
    mode(&world.path("open"), 0o1777);
    std::fs::create_dir(&state).unwrap();
    mode(&state, 0o770);
    let out = run(&config, &state, "up");
    let why = format!("can be changed by its group (mode 770): chmod go-w {}", state.display());
    assert!(!out.status.success() && text(&out.stderr).contains(&why), "{}", text(&out.stderr));
    assert!(!state.join("journal.sqlite").exists());
}

#[test]
fn files_that_another_user_planted_are_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("!!! SKIPPED: only root can act as another user");
        return;
    }
    let world = World::new("").with_kill_switch();
    world.config();
    let (open, state) = (world.path("open"), world.path("state"));
    std::fs::create_dir(&open).unwrap();
    mode(world.root(), 0o755);
    mode(&open, 0o1777);
    let other = |line: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", line]);
        assert!(command.current_dir(&open).status().unwrap().success(), "{line}");
    };
    other("printf 'kill_switch = false' > own.toml; ln -s ../afk.toml link.toml; mkfifo fifo.toml");
    other("mkdir folder && chmod 755 folder && ln -s ../../afk.toml folder/afk.toml");
    for name in ["own.toml", "link.toml", "fifo.toml", "folder/afk.toml"] {
        let began = std::time::Instant::now();
        let out = run(&open.join(name), &state, "up");
        let printed = text(&out.stderr);
        assert!(!out.status.success(), "{name}");
        assert!(printed.contains("belongs to another user (uid 65534)"), "{name}: {printed}");
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{name}");
    }
    other("mkdir -m 700 state");
    let out = run(&world.path("afk.toml"), &open.join("state"), "up");
    assert!(text(&out.stderr).contains("belongs to another user"), "{}", text(&out.stderr));
    // Our own file in the same folder is as good as ever: nobody else can replace it.
    std::fs::copy(world.path("afk.toml"), open.join("afk.toml")).unwrap();
    let stolen = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "mv", "own.toml", "afk.toml"])
        .current_dir(&open)
        .output()
        .unwrap();
    assert!(!stolen.status.success());
    let out = run(&open.join("afk.toml"), &state, "verify");
    assert!(!text(&out.stderr).contains("another user"), "{}", text(&out.stderr));
}
