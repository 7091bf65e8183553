//! Notices, log lines and presence that leave this machine, and the sources of secrets and control.

use std::path::Path;
use std::time::{Duration, Instant};

use afk::config::services::VaultConfig;
use afk::core::model::approval::Answer;
use afk::core::model::command::Command;
use afk::core::model::run::Outcome;
use afk::error::chain;
use afk::secrets::Secrets;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::sinks::Sinks;
use crate::support::world::{END, WORK, World, command, ended, run_of, until, wait_until};

/// An agent that can't continue.
const STUCK: &str =
    "echo '{\"type\":\"end\",\"status\":\"blocked\",\"reason\":\"no <!channel> idea\"}'";

fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, mode).unwrap();
}

/// Configuration sections for all three kinds of sinks.
fn sections(world: &World, sinks: &Sinks, more: &str) -> String {
    let hook = world.path("hook");
    private(&hook, &format!("{}/slack", sinks.address));
    let reported = world.path("told");
    format!(
        "[notify]\nopen = 'ssh -t box afk attach --run {{run}}'\n{more}\n\
         [notify.sinks.phone]\nkind = 'ntfy'\naddress = '{}/ntfy'\ntopic = 'afk'\n\
         [notify.sinks.team]\nkind = 'slack'\nwebhook = 'file:{}'\nnotices = ['frozen', 'needs-human']\n\
         [notify.sinks.desk]\nkind = 'command'\ncommand = ['sh', '-c', 'echo \"$AFK_NOTICE $AFK_SEVERITY $AFK_RUN $AFK_TEXT\" >> {}']",
        sinks.address,
        hook.display(),
        reported.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sink_receives_its_kinds_once() {
    let sinks = Sinks::start();
    let world = World::new(STUCK);
    let sections = sections(&world, &sinks, "");
    let world = world.with(&sections);
    // A busy server is retried after the time that it names.
    sinks.answer("/slack", 429, Some(1), "slow down");
    sinks.answer("/ntfy", 502, None, "<html>");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman));
    let ntfy: Vec<_> =
        sinks.requests("/ntfy").into_iter().filter(|got| got.status == 200).collect();
    assert_eq!(ntfy.len(), 1, "{ntfy:?}");
    let body = &ntfy[0].body;
    assert_eq!(body["title"], "needs-human: acme/thing#1");
    assert_eq!((body["priority"].as_i64(), body["topic"].as_str()), (Some(4), Some("afk")));
    let message = body["message"].as_str().unwrap();
    assert!(message.ends_with("\nssh -t box afk attach --run r1"), "{message}");
    let slack: Vec<_> =
        sinks.requests("/slack").into_iter().filter(|got| got.status == 200).collect();
    assert_eq!(slack.len(), 1);
    assert!(!slack[0].body.to_string().contains("<!channel>"), "{}", slack[0].body);
    let reported = std::fs::read_to_string(world.path("told")).unwrap();
    assert_eq!(reported.lines().count(), 1, "{reported}");
    assert!(reported.starts_with("needs-human warning r1 Do it"), "{reported}");
    // A restart repeats no notice.
    let runtime = world.start().await;
    until(&runtime, "the start", |s| (s.fleet.outbox.is_empty() && s.seq > 0).then_some(())).await;
    runtime.stop().await;
    assert_eq!(sinks.requests("/slack").len(), 2);
    assert_eq!(std::fs::read_to_string(world.path("told")).unwrap(), reported);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_gets_the_body_of_its_template_with_a_signature() {
    let sinks = Sinks::start();
    let world = World::new(STUCK);
    let (hook, key) = (world.path("hook"), world.path("key"));
    private(&hook, &format!("{}/hook", sinks.address));
    private(&key, "shared-between-both\n");
    let sections = format!(
        "[notify]\nurl = 'https://afk.acme.com/{{run}}'\n\
         [notify.sinks.any]\nkind = 'webhook'\naddress = 'file:{}'\nsecret = 'file:{}'\n\
         template = '{{\"say\": \"{{kind}} {{text}}\", \"at\": \"{{url}}\"}}'\n\
         [notify.sinks.phone]\nkind = 'ntfy'\naddress = '{}/ntfy'\ntopic = 'afk'",
        hook.display(),
        key.display(),
        sinks.address
    );
    let world = world.with(&sections);
    sinks.answer("/hook", 503, None, "later");
    let runtime = world.start().await;
    ended(&runtime).await;
    runtime.stop().await;
    let got: Vec<_> = sinks.requests("/hook").into_iter().filter(|got| got.status == 200).collect();
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0].body["at"], "https://afk.acme.com/r1");
    let text = got[0].body["say"].as_str().unwrap();
    assert!(text.starts_with("needs-human Do it"), "{text}");
    let signed = &got[0].headers["x-hub-signature-256"];
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"shared-between-both");
    let body = format!("{{\"say\": {}, \"at\": \"https://afk.acme.com/r1\"}}", json!(text));
    let digits = signed.trim_start_matches("sha256=").as_bytes();
    let tag: Vec<u8> = digits
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect();
    assert!(ring::hmac::verify(&key, body.as_bytes(), &tag).is_ok(), "{signed}");
    let phone = sinks.requests("/ntfy");
    let action = &phone.last().unwrap().body["actions"][0];
    assert_eq!(
        (action["action"].as_str(), action["url"].as_str()),
        (Some("view"), Some("https://afk.acme.com/r1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_have_a_heartbeat_and_are_given_up_at_the_end() {
    let sinks = Sinks::start();
    let world = World::new("sleep 1000");
    let file = world.path("claims.json");
    let section = format!(
        "[presence]\nfile = '{}'\nurl = '{}/claims'\nheartbeat_seconds = 1",
        file.display(),
        sinks.address
    );
    let world = world.with(&section);
    let read = || -> Value {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    };
    let runtime = world.start().await;
    wait_until("a claim", || read()["claims"][0]["issue"] == 1).await;
    let first = read();
    assert_eq!(first["claims"][0]["repo"], "acme/thing");
    let void = first["void_after"].as_i64().unwrap() - first["heartbeat"].as_i64().unwrap();
    assert_eq!(void, 3_000);
    let beat = |value: &Value| value["heartbeat"].as_i64().unwrap_or_default();
    wait_until("two heartbeats", || beat(&read()) > beat(&first) + 1_500).await;
    assert_eq!(read()["claims"], first["claims"], "a heartbeat changes no claim");
    let sent = sinks.requests("/claims");
    assert_eq!(sent.last().unwrap().body["claims"][0]["run"], "r1");
    runtime.stop().await;
    wait_until("the end of the claims", || read()["claims"] == json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn done_notice_is_quiet_and_reaches_only_sinks_that_take_it() {
    let sinks = Sinks::start();
    let world = World::new(&format!("{WORK}\n{END}"));
    let sections = sections(&world, &sinks, "");
    let world = world.with(&sections);
    let runtime = world.start().await;
    ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(sinks.requests("/slack").len(), 0);
    assert_eq!(sinks.requests("/ntfy")[0].body["priority"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_refusal_of_a_sink_is_reported_and_not_retried() {
    let sinks = Sinks::start();
    let world = World::new(STUCK);
    let sections = sections(&world, &sinks, "");
    let world = world.with(&sections);
    sinks.answer("/slack", 404, None, "no_service");
    sinks.answer("/ntfy", 403, None, "{\"code\":40301,\"error\":\"forbidden\"}");
    let runtime = world.start().await;
    ended(&runtime).await;
    let problems = until(&runtime, "the problems", |s| {
        let about: Vec<String> =
            s.problems.iter().filter(|l| l.starts_with("notify.sinks.")).cloned().collect();
        (about.len() == 2).then_some(about)
    })
    .await;
    runtime.stop().await;
    assert!(problems[0].contains("phone: ntfy answered 403"), "{problems:?}");
    assert!(problems[1].contains("team: Slack answered 404 no_service"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_hold_back_all_but_urgent_notices() {
    let sinks = Sinks::start();
    let world = World::new(STUCK);
    // Quiet hours cover the day, except for the minute in one hour from now.
    let now = jiff::Zoned::now();
    let end = now.checked_add(jiff::Span::new().hours(1)).unwrap();
    let start = end.checked_add(jiff::Span::new().minutes(1)).unwrap();
    let quiet = format!("quiet = '{}-{}'", start.strftime("%H:%M"), end.strftime("%H:%M"));
    let sections = sections(&world, &sinks, &quiet);
    let world = world.with(&sections);
    let runtime = world.start().await;
    let waits = until(&runtime, "what waits", |s| {
        run_of(&s.fleet, 1)?.progress.outcome?;
        let sinks = s.fleet.outbox.values().filter(|e| e.step.once());
        let waits: Vec<i64> = sinks.map(|e| e.not_before.since(s.fleet.last_event)).collect();
        (s.fleet.outbox.len() == 3 && waits.len() == 3).then_some(waits)
    })
    .await;
    assert!(waits.iter().all(|ms| (58 * 60_000..=61 * 60_000).contains(ms)), "{waits:?}");
    runtime.stop().await;
    assert!(sinks.requests("/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_escalation_is_repeated_until_acknowledged() {
    let sinks = Sinks::start();
    let world = World::new(STUCK);
    let sections = sections(&world, &sinks, "");
    let world = world.with(&sections);
    let mut config = world.config();
    config.notify.remind_minutes = 1;
    let runtime = world.try_start(config, None).await.unwrap();
    let id = until(&runtime, "the escalation", |s| s.fleet.inbox().first().map(|e| e.id)).await;
    let due = until(&runtime, "the time of the reminder", |s| {
        let escalation = s.fleet.escalations.get(&id)?;
        s.fleet.policy.notices.next_reminder(escalation)
    })
    .await;
    assert!(due.since(runtime.handle.snapshots.borrow().fleet.last_event) <= 60_000);
    command(&runtime, Command::Acknowledge { escalation: id }).await.unwrap();
    let seen =
        until(&runtime, "the acknowledgement", |s| s.fleet.escalations[&id].acknowledged.clone())
            .await;
    assert_eq!(seen.0.0, "ana");
    let none = runtime.handle.snapshots.borrow().fleet.escalations[&id].clone();
    let notices = runtime.handle.snapshots.borrow().fleet.policy.notices.clone();
    assert_eq!(notices.next_reminder(&none), None);
    // The escalation is still open.
    let digest = none.digest;
    let answer = Command::Answer { escalation: id, digest, answer: Answer::Approve };
    command(&runtime, answer).await.unwrap();
    assert!(command(&runtime, Command::Acknowledge { escalation: id }).await.is_err());
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_events_are_pushed_to_loki_with_two_labels() {
    let sinks = Sinks::start();
    let section = format!("[loki]\naddress = '{}/loki/api/v1/push'\ntenant = 'me'", sinks.address);
    let world = World::new(&format!("{WORK}\n{END}")).with(&section);
    sinks.answer("/loki", 429, Some(1), "slow down");
    sinks.answer("/loki", 500, Some(1), "");
    let runtime = world.start().await;
    ended(&runtime).await;
    let pushed = || -> Vec<Value> {
        let all = sinks.requests("/loki").into_iter().filter(|got| got.status == 204);
        all.flat_map(|got| got.body["streams"].as_array().unwrap().clone()).collect()
    };
    wait_until("the last line", || {
        json!(pushed()).to_string().contains("\\\"outcome\\\":\\\"done\\\"")
    })
    .await;
    runtime.stop().await;
    let streams = pushed();
    let labels = json!({"app": "afk", "repo": "acme/thing", "issue": "1"});
    assert!(streams.iter().all(|stream| stream["stream"] == labels), "{streams:?}");
    let first = &streams[0]["values"][0];
    assert!(first[0].as_str().unwrap().ends_with("000000") && first[2]["run"] == "r1", "{first}");
    let lines: Vec<String> = streams
        .iter()
        .flat_map(|stream| stream["values"].as_array().unwrap())
        .map(|value| value[1].as_str().unwrap().to_owned())
        .collect();
    let claims = lines.iter().filter(|line| line.contains("\"event\":\"claimed\"")).count();
    assert_eq!(claims, 1, "what met a 429 or a 500 came once: {lines:?}");
    assert_eq!(sinks.requests("/loki")[0].headers["x-scope-orgid"], "me");
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_file_lists_the_active_runs() {
    let world = World::new(&format!(
        "while ! test -e \"$AFK_GO\"; do read -r -t 1 x; done 2>/dev/null; {WORK}\n{END}"
    ));
    let go = world.path("go");
    let world = world.agent(&format!("set = {{ AFK_GO = '{}' }}", go.display()));
    let runtime = world.start().await;
    let path = afk::runtime::presence::path(&world.state());
    let read = || -> Option<Value> { serde_json::from_slice(&std::fs::read(&path).ok()?).ok() };
    wait_until("the presence", || {
        read().is_some_and(|reported| reported["at_work"][0]["worktree"].is_string())
    })
    .await;
    let at_work = read().unwrap();
    let run = &at_work["at_work"][0];
    assert_eq!((run["repo"].as_str(), run["issue"].as_u64()), (Some("acme/thing"), Some(1)));
    std::fs::write(go, "").unwrap();
    ended(&runtime).await;
    runtime.stop().await;
    wait_until("the end", || read().is_some_and(|reported| reported["pid"] == 0)).await;
    assert_eq!(read().unwrap()["at_work"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_folder_controls_pickup_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let set = |name: &str, value: &str| std::fs::write(folder.path().join(name), value).unwrap();
    set("AFK_KILL_SWITCH", "true\n");
    let world = World::new(&format!("{WORK}\n{END}"))
        .with(&format!("[control]\nfolder = '{}'", folder.path().display()));
    let runtime = world.start().await;
    let switch = |on: bool| {
        let runtime = &runtime;
        async move {
            let began = Instant::now();
            until(runtime, "the kill switch", |s| (s.fleet.kill_switch() == on).then_some(()))
                .await;
            began.elapsed()
        }
    };
    switch(true).await;
    set("AFK_BUDGET_USD", "a lot");
    until(&runtime, "the error", |s| {
        s.problems.iter().any(|l| l.contains("AFK_BUDGET_USD=\"a lot\"")).then_some(())
    })
    .await;
    // The switch is off, but unreadable control still stops pickup.
    set("AFK_KILL_SWITCH", "false\n");
    set("AFK_BUDGET_USD", "2.5");
    set("AFK_DAY_BUDGET_USD", "12.5");
    let took = switch(false).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    until(&runtime, "the budget", |s| {
        let usd = afk::core::model::budget::MicroUsd::from_usd;
        let limits = (s.fleet.policy.run_limit, s.fleet.policy.day_limit);
        (limits == (Some(usd(2.5)), Some(usd(12.5)))).then_some(())
    })
    .await;
    set("AFK_KILL_SWITCH", "true\n");
    let took = switch(true).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn config_map_controls_pickup_within_a_second() {
    let cluster = Cluster::start();
    let map = |switch: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "afk"},
               "data": {"AFK_KILL_SWITCH": switch, "AFK_FIX_FORWARD_MAX_ATTEMPTS": "2"}})
    };
    let world = World::new(STUCK);
    let sections = format!(
        "[kubernetes]\nkubeconfig = '{}'\n[control]\nconfig_map = 'web/afk'",
        cluster.kubeconfig(world.root()).display()
    );
    let world = world.with(&sections);
    let runtime = world.start().await;
    // Nothing is picked up before control was read.
    until(&runtime, "the missing map", |s| {
        s.problems.iter().any(|l| l.contains("web/afk is not there")).then_some(())
    })
    .await;
    assert!(runtime.handle.snapshots.borrow().fleet.runs.is_empty());
    for (value, on) in [("true", true), ("false", false), ("true", true)] {
        cluster.put("configmaps", map(value));
        let began = Instant::now();
        until(&runtime, "the switch", |s| {
            let policy = &s.fleet.policy;
            (policy.kill_switch == on && policy.fix_forward_attempts == 2).then_some(())
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_vault_keeps_the_known_secrets() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sinks = Sinks::start();
    let folder = tempfile::tempdir().unwrap();
    let jwt = folder.path().join("jwt");
    std::fs::write(&jwt, "a.b.c\n").unwrap();
    sinks.secret("afk", &json!({"token": "s3cret"}));
    sinks.secret("gone", &Value::Null);
    let config = VaultConfig {
        address: sinks.address.clone(),
        token: None,
        role: Some("afk".into()),
        mount: "kubernetes".into(),
        jwt,
    };
    sinks.seal(true);
    let secrets = Secrets::new(Some(&config)).unwrap();
    let said = chain(&secrets.get("vault:secret/afk#token").await.unwrap_err());
    assert!(said.contains("503 Vault is sealed"), "{said}");
    sinks.seal(false);
    let token = secrets.get("vault:secret/afk#token").await.unwrap();
    assert_eq!(token.expose_secret(), "s3cret");
    sinks.seal(true);
    assert_eq!(secrets.get("vault:secret/afk#token").await.unwrap().expose_secret(), "s3cret");
    sinks.seal(false);
    // An expired token is replaced by another login.
    sinks.revoke();
    sinks.secret("other", &json!({"a": "b"}));
    assert_eq!(secrets.get("vault:secret/other#a").await.unwrap().expose_secret(), "b");
    for (reference, said) in [
        ("vault:secret/gone#a", "the secret was deleted"),
        ("vault:secret/none#a", "there is no secret at the path"),
        ("vault:secret/other#b", "no text under the key b"),
    ] {
        let error = chain(&secrets.get(reference).await.unwrap_err());
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_token_is_renewed_in_time() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sinks = Sinks::start();
    let folder = tempfile::tempdir().unwrap();
    let jwt = folder.path().join("jwt");
    std::fs::write(&jwt, "a.b.c").unwrap();
    sinks.lease(12);
    sinks.secret("afk", &json!({"token": "s3cret"}));
    let (address, mount) = (sinks.address.clone(), "kubernetes".to_owned());
    let config = VaultConfig { address, token: None, role: Some("afk".into()), mount, jwt };
    let secrets = Secrets::new(Some(&config)).unwrap();
    secrets.get("vault:secret/afk#token").await.unwrap();
    wait_until("the renewal", || !sinks.requests("/v1/auth/token/renew-self").is_empty()).await;
    assert_eq!(sinks.requests("/v1/auth/kubernetes/login").len(), 1);
}
