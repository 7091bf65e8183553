//! Errors keep their causes: each names the address that was called and why the call failed, never a
//! credential, and its hint fits the cause.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use afk::config::Config;
use afk::core::model::notice::Severity;
use afk::github::Api;
use afk::notify::{OutgoingNotice, SendOutcome, Sinks};
use afk::secrets::Secrets;

use crate::support::git;
use crate::support::pve::free_port;
use crate::support::world::World;

/// The value behind every reference of these tests; it must never be printed.
const CREDENTIAL: &str = "s3cret-value";

fn secret(world: &World, name: &str, value: &str) -> String {
    let path = world.path(name);
    std::fs::write(&path, value).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();
    format!("file:{}", path.display())
}

/// A kubeconfig whose only cluster has this address.
fn kubeconfig(path: &Path, server: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
         users: [{{name: u, user: {{token: {CREDENTIAL}}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
    );
    std::fs::write(path, text).unwrap();
}

fn doctor(world: &World) -> String {
    world.config();
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["doctor"]).collect();
    let out = crate::support::afk(&args).output().unwrap();
    let said = crate::support::text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}{}", crate::support::text(&out.stderr));
    said
}

/// The line of a check that failed, and the hint below it.
fn check<'a>(said: &'a str, name: &str) -> (&'a str, &'a str) {
    let mut lines = said.lines();
    let start = format!("NO  {name}: ");
    let line = lines.find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("no failed check of {name} in:\n{said}"));
    (line, lines.next().unwrap_or_default())
}

#[test]
fn doctor_names_the_address_and_the_cause_of_a_closed_port() {
    let world = World::new("").with_kill_switch();
    let address = format!("http://127.0.0.1:{}", free_port());
    let token = secret(&world, "credential", CREDENTIAL);
    let clusters = world.path("kubeconfig");
    kubeconfig(&clusters, &address);
    let world = world.with(&format!(
        "[github]\napi = '{address}'\ntoken = '{token}'\n\
         [vault]\naddress = '{address}'\ntoken = '{token}'\n\
         [kubernetes]\nkubeconfig = '{}'\n\
         [notify.sinks.phone]\nkind = 'ntfy'\naddress = '{address}'\ntopic = 't'\n\
         token = 'vault:secret/afk/ntfy#token'\n\
         [executors.other]\nkind = 'service'\naddress = '{address}'\ntoken = '{token}'\n\
         [executors.threads]\nkind = 't3'\naddress = '{address}'\ntoken = '{token}'",
        clusters.display(),
    ));
    let said = doctor(&world);
    let cause = format!("connect to {address}: connection refused");
    for name in
        ["github", "sink phone", "executor other", "executor threads", "kubernetes current context"]
    {
        let (line, hint) = check(&said, name);
        assert!(line.contains(&cause), "{line}");
        assert_eq!(line.matches("refused").count(), 1, "a cause is printed twice: {line}");
        assert!(!line.contains("os error"), "{line}");
        assert!(hint.contains("listens") && hint.contains(&address), "{name}: {hint}");
        assert!(!hint.contains("token") && !hint.contains("secret"), "{name}: {hint}");
    }
    assert!(!said.contains(CREDENTIAL), "{said}");
}

#[test]
fn doctor_tells_a_missing_secret_from_a_server_that_is_away() {
    let world = World::new("").with_kill_switch();
    let world = world.with(
        "[notify.sinks.unset]\nkind = 'slack'\nwebhook = 'env:AFK_NO_SUCH_NAME'\n\
         [notify.sinks.gone]\nkind = 'slack'\nwebhook = 'file:/no/such/file'\n\
         [notify.sinks.vaultless]\nkind = 'slack'\nwebhook = 'vault:secret/afk#hook'",
    );
    let said = doctor(&world);
    let (line, hint) = check(&said, "sink unset");
    assert!(line.ends_with("the environment has no AFK_NO_SUCH_NAME"), "{line}");
    assert!(hint.contains("set AFK_NO_SUCH_NAME"), "{hint}");
    let (line, hint) = check(&said, "sink gone");
    assert!(line.ends_with("read /no/such/file: no such file or directory"), "{line}");
    assert!(hint.contains("put the secret into /no/such/file"), "{hint}");
    let (line, hint) = check(&said, "sink vaultless");
    assert!(line.contains("needs [vault]"), "{line}");
    assert!(hint.contains("add [vault] with its address"), "{hint}");
}

fn message() -> OutgoingNotice {
    OutgoingNotice {
        kind: "frozen",
        severity: Severity::Urgent,
        title: "frozen: acme/thing#1".into(),
        text: "look".into(),
        open: "afk attach --run r1".into(),
        link: None,
        url: None,
        run: "r1".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifiers_name_the_address_and_the_cause_without_the_secret_path() {
    // As `main` does; another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new("").with_kill_switch();
    let address = format!("http://127.0.0.1:{}", free_port());
    let webhook = secret(&world, "webhook", &format!("{address}/services/T0/{CREDENTIAL}?key=1"));
    let world = world.with(&format!(
        "[notify.sinks.chat]\nkind = 'slack'\nwebhook = '{webhook}'\n\
         [notify.sinks.phone]\nkind = 'ntfy'\naddress = '{address}'\ntopic = 't'"
    ));
    let sinks = Sinks::new(&world.config().notify, Arc::new(Secrets::new(None).unwrap())).unwrap();
    for name in ["chat", "phone"] {
        let SendOutcome::Retry(_, why) = sinks.send(name, &message()).await else {
            panic!("{name}")
        };
        assert_eq!(why, format!("connect to {address}: connection refused"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn github_tracker_reports_the_address_and_the_cause() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new("").with_kill_switch();
    let address = format!("http://127.0.0.1:{}", free_port());
    let token = secret(&world, "credential", CREDENTIAL);
    let world = world.with(&format!("[github]\napi = '{address}'\ntoken = '{token}'"));
    let runtime = world.start().await;
    let cause = format!("connect to {address}: connection refused");
    let mut snapshots = runtime.handle.snapshots.clone();
    let reported = async {
        loop {
            let problems = snapshots.borrow_and_update().problems.clone();
            if let Some(line) = problems.into_iter().find(|line| line.contains(&cause)) {
                return line;
            }
            snapshots.changed().await.unwrap();
        }
    };
    let reported = tokio::time::timeout(Duration::from_secs(30), reported).await;
    let line = reported.unwrap_or_else(|_| {
        panic!("{cause} is not in {:?}", runtime.handle.snapshots.borrow().problems)
    });
    assert!(!line.contains(CREDENTIAL), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unresolved_host_is_named_without_the_user_in_its_address() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new("").with_kill_switch();
    let token = secret(&world, "credential", CREDENTIAL);
    let world = world.with(&format!(
        "[github]\napi = 'https://ana:{CREDENTIAL}@no-such-host.invalid/api/v3'\ntoken = '{token}'"
    ));
    let config: Config = world.config();
    let secrets = Arc::new(Secrets::new(None).unwrap());
    let api = Api::new(config.github.as_ref().unwrap(), secrets).unwrap();
    let error = api.login().await.unwrap_err();
    let line = afk::error::chain(&error);
    assert!(line.contains("connect to https://no-such-host.invalid: "), "{line}");
    assert!(line.contains("failed to lookup address information"), "{line}");
    assert!(!line.contains(CREDENTIAL) && !line.contains("api/v3"), "{line}");
}

#[test]
fn doctor_refuses_a_repository_with_sha_256() {
    let world = World::new("");
    std::fs::remove_dir_all(world.remote()).unwrap();
    std::fs::remove_dir_all(world.path("work/.git")).unwrap();
    let sha256 = ["init", "-q", "--object-format=sha256", "--initial-branch=master"];
    git(world.root(), &[&sha256[..], &["--bare", "remote.git"]].concat());
    git(&world.path("work"), &sha256);
    world.commit("Begin");
    let said = doctor(&world);
    assert!(said.contains("uses SHA-256"), "{said}");
}

#[test]
fn doctor_tries_an_agent_as_a_run_will_use_it() {
    let account = |account: &str| {
        let response = format!(
            r#"{{"type":"control_response","response":{{"subtype":"success","request_id":"dry","response":{{"account":{account},"current_permission_mode":"default"}}}}}}"#
        );
        format!("read -r REQUEST || exit 0\nline '{response}'\nread -r REST; exit 0")
    };
    // The key is there, and the program doesn't use it.
    let none = account(r#"{"tokenSource":"none","apiProvider":"firstParty"}"#);
    let world = World::claude(&none).agent("set = { ANTHROPIC_API_KEY = 'sk-dummy' }");
    let said = doctor(&world);
    let (line, hint) = check(&said, "agent shell");
    assert!(
        line.contains("logs in by ANTHROPIC_API_KEY (key), but a turn without a prompt"),
        "{line}"
    );
    assert!(
        line.contains("claude is not logged in") && hint.contains("run `claude` once"),
        "{said}"
    );
    let key = account(r#"{"apiKeySource":"ANTHROPIC_API_KEY","apiProvider":"firstParty"}"#);
    let world = World::claude(&key).agent("set = { ANTHROPIC_API_KEY = 'sk-dummy' }");
    world.config();
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["doctor"]).collect();
    let said = crate::support::text(&crate::support::afk(&args).output().unwrap().stdout);
    assert!(said.contains("ok  agent shell: ") && said.contains("opens a conversation"), "{said}");
}
