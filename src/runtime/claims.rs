//! Claims with a heartbeat: which issues the runs of this afk work on, in a file or at an address, so
//! that other tools leave them alone. `start` publishes them on each change and each heartbeat; a
//! reader takes a claim as void once its time is over, as after a crash of afk.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::presence::{self, Presence, PresentRun};
use super::side_state::ProblemSource;
use super::{Context, Snapshot, clock};
use crate::config::presence::PresenceConfig;
use crate::error::chain;
use crate::network::{NetworkError, calls};
use crate::whole_file;

/// Changes within this time share a publication.
const SETTLE: Duration = Duration::from_secs(1);
/// The longest that one publication may take.
const CALL: Duration = Duration::from_secs(15);
/// The heartbeats after which a claim is void without another one.
const VOID_AFTER: i64 = 3;

/// The published document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Claims {
    /// The version of the format.
    version: u32,
    /// The name of the machine.
    host: String,
    /// Distinguishes this afk from every other one.
    afk: String,
    /// When the claims were confirmed, in milliseconds of the Unix epoch.
    heartbeat: i64,
    /// When they are void without another heartbeat, in milliseconds of the Unix epoch.
    void_after: i64,
    /// One entry for each live run on an issue.
    #[serde(rename = "claims")]
    runs: Vec<PresentRun>,
}

/// Starts publishing until the context is cancelled. Follows changes of the configuration.
pub(super) fn start(context: &Arc<Context>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    tokio::spawn(follow(context.clone(), snapshots));
}

async fn follow(context: Arc<Context>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut published: Option<Vec<PresentRun>> = None;
    loop {
        let config = context.config().presence.clone();
        let heartbeat = Duration::from_secs(u64::from(config.heartbeat_seconds.max(1)));
        let now = presence::of(&snapshots.borrow_and_update().clone());
        let claims = claims_of(&now);
        if publishes(&config) {
            publish(&context, &config, &now, claims.clone()).await;
            published = Some(claims);
        }
        let due = tokio::time::Instant::now() + heartbeat;
        loop {
            let changed = tokio::select! {
                () = context.cancel.cancelled() => break,
                () = tokio::time::sleep_until(due) => break,
                changed = snapshots.changed() => changed,
            };
            if changed.is_err() {
                break;
            }
            let now = presence::of(&snapshots.borrow_and_update().clone());
            if published.as_ref().is_some_and(|known| *known != claims_of(&now)) {
                break;
            }
        }
        if context.cancel.is_cancelled() {
            break;
        }
        tokio::select! {
            () = sleep(SETTLE) => {}
            () = context.cancel.cancelled() => break,
        }
    }
    // The runs go on at the next start; until then nobody works on them.
    let config = context.config().presence.clone();
    if publishes(&config) {
        let last = presence::of(&snapshots.borrow().clone());
        publish(&context, &config, &last, Vec::new()).await;
    }
}

const fn publishes(config: &PresenceConfig) -> bool {
    config.file.is_some() || config.url.is_some()
}

/// The runs on issues, without what changes from second to second.
fn claims_of(presence: &Presence) -> Vec<PresentRun> {
    let on_issues = presence.at_work.iter().filter(|run| run.issue.is_some());
    on_issues.map(|run| PresentRun { pid: None, ..run.clone() }).collect()
}

async fn publish(
    context: &Context,
    config: &PresenceConfig,
    presence: &Presence,
    claims: Vec<PresentRun>,
) {
    let heartbeat = clock::wall();
    let claims = Claims {
        version: 1,
        host: presence.host.clone(),
        afk: context.journal_id.clone(),
        heartbeat: heartbeat.0,
        void_after: heartbeat.plus(VOID_AFTER * 1000 * i64::from(config.heartbeat_seconds)).0,
        runs: claims,
    };
    let text = serde_json::to_vec_pretty(&claims).unwrap_or_default();
    let mut problems = Vec::new();
    if let Some(path) = &config.file
        // Others may read it at any time.
        && let Err(error) = whole_file::replace(path, &text, 0o666)
    {
        problems.push(format!("presence.file {}: {error}", path.display()));
    }
    if let Some(url) = &config.url {
        let sent = timeout(CALL, put(context, config, url, text)).await;
        if let Err(why) = sent.unwrap_or_else(|_| Err("no answer in time".into())) {
            problems.push(format!("presence.url: {why}"));
        }
    }
    context.report_problems(ProblemSource::Presence, problems).await;
}

async fn put(
    context: &Context,
    config: &PresenceConfig,
    url: &str,
    body: Vec<u8>,
) -> Result<(), String> {
    let client = reqwest::Client::builder().timeout(CALL).build();
    let client = client.map_err(|error| format!("no client: {}", chain(&error)))?;
    let mut request = client.put(url).header("content-type", "application/json").body(body);
    if let Some(reference) = &config.token {
        let token = context.services().secrets.get(reference).await;
        request = request.bearer_auth(token.map_err(|error| chain(&error))?.expose_secret());
    }
    let answer = calls::send("presence", request).await;
    let answer = answer.map_err(|error| chain(&NetworkError::new(url, error)))?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(format!("the server answered {}", answer.status().as_u16()))
}
