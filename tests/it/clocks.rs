//! Clocks that differ: GitHub's, and a deploy server's, minutes and hours before and behind ours. No
//! verdict, wait or claim may depend on the difference.

use std::os::unix::fs::PermissionsExt;

use afk::config::services::GitHubAppConfig;
use afk::core::model::approval::EscalationKind;
use afk::core::model::run::Outcome;
use serde_json::json;

use crate::support::github::{Fault, GitHub};
use crate::support::sinks::Sinks;
use crate::support::world::{END, WORK, World, ended, run_of, until};

/// The offsets of a service's clock from ours, in seconds.
const OFFSETS: [i64; 4] = [-9 * 3600, -120, 120, 9 * 3600];

/// Shell: works once; a second run has nothing left to do, and waits.
const ONCE: &str = "if grep -q done state 2>/dev/null; then sleep 600; fi";

#[tokio::test(flavor = "multi_thread")]
async fn githubs_clock_changes_no_claim_no_limit_and_no_arming() {
    for offset in OFFSETS {
        let world = World::new(&format!("{ONCE}\n{WORK}\n{END}"))
            .rules("[ci]\ngithub = true\npoll_ms = 100\nquiet_seconds = 0");
        let github = GitHub::start(&world.remote());
        let world = world.on(&github);
        github.clock(offset);
        github.issue(1, "Do it", "Please.", "ana");
        // A limit that ends in three seconds, by their clock.
        let reset = jiff::Timestamp::now().as_second() + offset + 3;
        let limit = vec![
            ("x-ratelimit-remaining", "0".to_owned()),
            ("x-ratelimit-reset", reset.to_string()),
        ];
        github.fault("GET", "/timeline", Fault::Status(403, limit, "rate limit exceeded"), 1);
        // The App's own authorization is valid for minutes, by their clock.
        let key = world.path("app.pem");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM", "-f"])
            .arg(&key)
            .status()
            .unwrap();
        assert!(made.success());
        let mut config = world.config();
        let section = config.github.as_mut().unwrap();
        section.token = None;
        let (id, key) = ("Iv1.x".into(), format!("file:{}", key.display()));
        section.app = Some(GitHubAppConfig { id, installation: 42, key });
        let runtime = world.try_start(config, None).await.unwrap();
        let run = ended(&runtime).await;
        let why = run.progress.why.clean_line();
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{offset} s: {why}");
        // A later arming starts it again, and an edit after that is a stranger's.
        github.reopen(1);
        github.label(1, "ready-for-agent", "ana", true);
        until(&runtime, "the second run", |s| {
            let again = run_of(&s.fleet, 1)?;
            (again.id != run.id && again.agent.turns == 1).then_some(())
        })
        .await;
        github.edit(1, "Something else.", "rita");
        until(&runtime, "the question", |s| {
            s.fleet.inbox().iter().any(|e| e.kind == EscalationKind::Edited).then_some(())
        })
        .await;
        runtime.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy_servers_clock_loses_no_pipeline() {
    for offset in OFFSETS {
        let world =
            World::new(&format!("{WORK}\n{END}")).rules("[deploy]\nwoodpecker = 'acme/thing'");
        let sinks = Sinks::start();
        sinks.clock(offset);
        let token = world.path("wp-token");
        std::fs::write(&token, "wp-token").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let world = world.with(&format!(
            "[woodpecker]\naddress = '{}/wp'\ntoken = 'file:{}'",
            sinks.address,
            token.display()
        ));
        let runtime = world.start().await;
        let sha =
            until(&runtime, "the push", |s| run_of(&s.fleet, 1)?.workspace.pushed.clone()).await;
        let now = jiff::Timestamp::now().as_second() + offset;
        let pipeline = |number: u64, status: &str, created: i64, tag: &str| {
            json!({"number": number, "event": "manual", "commit": sha.0, "status": status,
                   "created": created, "branch": "master", "variables": {"IMAGE_TAG": tag}})
        };
        sinks.pipelines(&[
            pipeline(9, "failure", now, "ffffffff"),
            pipeline(8, "success", now, sha.short()),
        ]);
        let run = ended(&runtime).await;
        runtime.stop().await;
        let why = run.progress.why.clean_line();
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{offset} s: {why}");
    }
}
