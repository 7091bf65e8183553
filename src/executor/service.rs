//! Runs a turn as a job of another afk, or of an agent service with the same API (`POST /execute`).
//!
//! The API accepts no name for a job, therefore afk can't find a job whose creation got no
//! response. The file `job` in the turn's folder contains [`SUBMITTING`] before the request and the
//! job's id after it. A restarted afk that finds [`SUBMITTING`] ends the turn instead of sending
//! the task a second time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::interval;

use super::{BoxError, Executor, ExecutorTurn};
use crate::agent::{EventSender, TurnControl};
use crate::config::executor::RemoteServiceConfig;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::capability::Capabilities;
use crate::core::model::untrusted::clean_line;
use crate::error::chain;
use crate::network::{NetworkError, calls, origin};
use crate::secrets::Secrets;

/// The timeout of one call to the service.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// The interval between two reads of the job.
const POLL: Duration = Duration::from_secs(1);
/// The content of the file `job` while the request is under way.
const SUBMITTING: &str = "asking";

#[derive(Debug)]
pub(crate) struct ServiceExecutor {
    config: RemoteServiceConfig,
    secrets: Arc<Secrets>,
    client: reqwest::Client,
}

/// A call without a response.
struct ServiceCallError {
    error: BoxError,
    /// The request never reached the service.
    not_sent: bool,
}

impl ServiceExecutor {
    /// Prepares the HTTP client; connects to nothing.
    pub(crate) fn new(
        config: RemoteServiceConfig,
        secrets: Arc<Secrets>,
    ) -> Result<Arc<Self>, String> {
        let client = reqwest::Client::builder().timeout(CALL_TIMEOUT).build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Arc::new(Self { config, secrets, client }))
    }

    async fn call(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(u16, Value), ServiceCallError> {
        let token = self.secrets.get(&self.config.token).await;
        let token =
            token.map_err(|error| ServiceCallError { error: error.into(), not_sent: true })?;
        let failed = |error: reqwest::Error| ServiceCallError {
            // Without a connection, no request was sent.
            not_sent: error.is_connect() || error.is_builder(),
            error: NetworkError::new(&self.config.address, error).into(),
        };
        let request = request.bearer_auth(token.expose_secret());
        let response = calls::send("executor", request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = response.text().await.map_err(failed)?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.config.address.trim_end_matches('/'))
    }

    /// Returns the job's id from the turn's folder, or creates a job.
    async fn submit(&self, turn: &ExecutorTurn, events: &EventSender) -> Result<String, TurnEnd> {
        let folder = turn.root.join(&turn.name);
        let file = folder.join("job");
        let not_started = |why: String| TurnEnd::NotStarted { why: why.into() };
        match std::fs::read_to_string(&file) {
            Ok(id) if id != SUBMITTING => return Ok(id),
            Ok(_) => {
                let why =
                    "afk stopped while it sent the task; ask the service whether it has a job";
                return Err(TurnEnd::Crashed { why: why.into() });
            }
            Err(_) => {}
        }
        let write = |text: &str| {
            std::fs::create_dir_all(&folder)?;
            let temporary = folder.join("job.new");
            std::fs::write(&temporary, text)?;
            std::fs::rename(temporary, &file)
        };
        let io = |error: std::io::Error| not_started(format!("write {}: {error}", file.display()));
        let mut body = json!({
            "prompt": turn.spec.prompt.as_received(),
            "agent": self.config.agent.as_ref().unwrap_or(&turn.agent),
            "timeout_seconds": turn.limit.as_secs().max(1),
            "metadata": {"afk": turn.name},
        });
        if let Some(budget) = turn.spec.budget {
            body["max_budget_usd"] = json!(budget.dollars());
        }
        let (mut pause, mut last_notice) = (POLL, String::new());
        let deadline = tokio::time::Instant::now() + turn.limit;
        loop {
            write(SUBMITTING).map_err(io)?;
            let request = self.client.post(self.address("/execute")).json(&body);
            match self.call(request).await {
                Ok((202, response)) => {
                    let id = response["job_id"].as_str().unwrap_or_default().to_owned();
                    write(&id).map_err(io)?;
                    return Ok(id);
                }
                Err(ServiceCallError { error, not_sent: false }) => {
                    let why = chain(&*error);
                    let why = format!("{why}; ask the service whether it has a job for the task");
                    return Err(TurnEnd::Crashed { why: why.into() });
                }
                Ok((status, response)) if !matches!(status, 429 | 503) => {
                    std::fs::remove_file(&file).map_err(io)?;
                    let body: String =
                        clean_line(&response.to_string()).chars().take(200).collect();
                    return Err(not_started(format!(
                        "the service responded with status {status}: {body}"
                    )));
                }
                // The service has no job for the task: trying again is harmless.
                not_accepted => {
                    std::fs::remove_file(&file).map_err(io)?;
                    let why = match not_accepted {
                        Ok((status, _)) => format!("it responded with status {status}"),
                        Err(ServiceCallError { error, .. }) => chain(&*error),
                    };
                    if tokio::time::Instant::now() >= deadline {
                        return Err(not_started(format!(
                            "the service at {} is unavailable: {why}",
                            origin(&self.config.address)
                        )));
                    }
                    if last_notice != why {
                        let text = format!("the service is unavailable ({why}); afk retries");
                        let _ = events.send(AgentEvent::Notice { text: text.into() }).await;
                        last_notice = why;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
            }
        }
    }

    /// Creates or finds the job, and emits its output until it ends.
    async fn follow(&self, turn: &ExecutorTurn, events: &EventSender) -> TurnEnd {
        let id = match self.submit(turn, events).await {
            Ok(id) => id,
            Err(end) => return end,
        };
        let text = format!("job {id} at {}", origin(&self.config.address));
        let _ = events.send(AgentEvent::Notice { text: text.into() }).await;
        let (mut emitted, mut unavailable) = (0, false);
        let mut poll = interval(POLL);
        loop {
            poll.tick().await;
            let request = self.client.get(self.address(&format!("/jobs/{id}")));
            let job = match self.call(request).await {
                Ok((200, job)) => job,
                Ok((404, _)) => {
                    let why = format!("the service no longer has the job {id}");
                    return TurnEnd::Crashed { why: why.into() };
                }
                Ok((status, _)) => {
                    tracing::debug!(id, status, "the state of a job can't be read");
                    continue;
                }
                Err(ServiceCallError { error, .. }) => {
                    let why = chain(&*error);
                    if !std::mem::replace(&mut unavailable, true) {
                        let text = format!("the service is unavailable ({why}); afk retries");
                        let _ = events.send(AgentEvent::Notice { text: text.into() }).await;
                    }
                    continue;
                }
            };
            unavailable = false;
            let lines = job["output"].as_array().map(Vec::as_slice).unwrap_or_default();
            // The lines of some services end with their line breaks.
            let line =
                |line: &'_ Value| line.as_str().map(|line| line.trim_end_matches('\n').to_owned());
            let new: Vec<String> = lines.iter().skip(emitted).filter_map(line).collect();
            if !new.is_empty() {
                emitted = lines.len();
                let _ = events.send(AgentEvent::Text { text: new.join("\n").into() }).await;
            }
            if let Some(end) = turn_end(&job) {
                let code = job["exit_code"].as_i64().and_then(|code| i32::try_from(code).ok());
                let stderr = job["stderr"].as_str().unwrap_or_default().into();
                let _ = events.send(AgentEvent::Exited { code, stderr }).await;
                return end;
            }
        }
    }
}

/// Derives the turn's end from a job's status; `None` while it runs, and for an unknown status.
fn turn_end(job: &Value) -> Option<TurnEnd> {
    let why = || job["error"].as_str().unwrap_or("the service gave no reason").into();
    Some(match job["status"].as_str()? {
        "completed" => TurnEnd::Done,
        "timeout" => TurnEnd::TimedOut,
        "failed" => TurnEnd::Crashed { why: why() },
        "error" => TurnEnd::NotStarted { why: why() },
        _ => return None,
    })
}

impl Executor for ServiceExecutor {
    fn capabilities(&self, _local: Capabilities) -> Capabilities {
        Capabilities::default()
    }

    fn check(&self) -> BoxFuture<'_, Result<String, BoxError>> {
        Box::pin(async {
            // The job doesn't exist; a valid token gets 404 instead of 401.
            let request = self.client.get(self.address("/jobs/000000000000"));
            match self.call(request).await {
                Ok((200 | 404, _)) => {
                    Ok(format!("{} accepts the token", origin(&self.config.address)))
                }
                Ok((401 | 403, _)) => Err("it rejects the token".into()),
                Ok((status, _)) => Err(format!("it responded with status {status}").into()),
                Err(ServiceCallError { error, .. }) => Err(error),
            }
        })
    }

    fn run_turn<'a>(
        &'a self,
        turn: &'a ExecutorTurn,
        events: &'a EventSender,
        controls: &'a mut mpsc::Receiver<TurnControl>,
    ) -> BoxFuture<'a, TurnEnd> {
        Box::pin(async move {
            let follow = self.follow(turn, events);
            tokio::pin!(follow);
            loop {
                tokio::select! {
                    end = &mut follow => return end,
                    Some(_) = controls.recv() => {
                        let text = "a job of another service accepts no messages";
                        let _ = events.send(AgentEvent::Notice { text: text.into() }).await;
                    }
                }
            }
        })
    }

    fn stop<'a>(&'a self, run: &'a str, root: &'a Path) -> BoxFuture<'a, ()> {
        // The API can't stop a job; its own timeout ends it.
        super::remove_turn_folders(root, run);
        Box::pin(std::future::ready(()))
    }
}
