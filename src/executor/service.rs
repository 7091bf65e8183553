//! Turns as jobs of another afk, or of the agent service, over `POST /execute`.
//!
//! Its API has no name that we could give a job, so what is asked is written down before, and its id
//! behind: where the answer was lost nobody knows whether it was taken, and it is not asked again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::interval;

use super::{Executor, Turn};
use crate::agent::{Control, Events};
use crate::config::executor::RemoteServiceConfig;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::capability::Capabilities;
use crate::core::model::untrusted::clean_line;
use crate::secrets::Secrets;

/// Longest time of one call.
const CALL: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// What is written down before it is asked.
const ASKING: &str = "asking";

/// See the module.
#[derive(Debug)]
pub struct Service {
    config: RemoteServiceConfig,
    secrets: Arc<Secrets>,
    client: reqwest::Client,
}

/// No answer came.
struct Away {
    why: String,
    /// What was asked can't have been taken.
    untaken: bool,
}

impl Service {
    /// As configured.
    ///
    /// # Errors
    /// A line for a person.
    pub fn new(config: RemoteServiceConfig, secrets: Arc<Secrets>) -> Result<Arc<Self>, String> {
        let client = reqwest::Client::builder().timeout(CALL).build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Arc::new(Self { config, secrets, client }))
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value), Away> {
        let token = self.secrets.get(&self.config.token).await;
        let token = token.map_err(|error| Away { why: error.to_string(), untaken: true })?;
        let tell = |error: reqwest::Error| Away {
            why: clean_line(&error.to_string()),
            // Without a connection nothing was sent.
            untaken: error.is_connect() || error.is_builder(),
        };
        let answer = request.bearer_auth(token.expose_secret()).send().await.map_err(tell)?;
        let status = answer.status().as_u16();
        let body = answer.text().await.map_err(tell)?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.config.address.trim_end_matches('/'))
    }

    /// The job's id: the one that is written down, or that of a new one.
    async fn job(&self, turn: &Turn, events: &Events) -> Result<String, TurnEnd> {
        let folder = turn.root.join(&turn.name);
        let file = folder.join("job");
        let not = |why: String| TurnEnd::NotStarted { why: why.into() };
        match std::fs::read_to_string(&file) {
            Ok(id) if id != ASKING => return Ok(id),
            Ok(_) => {
                let why = "nobody knows whether the other service took it; look there".to_owned();
                return Err(TurnEnd::Crashed { why: why.into() });
            }
            Err(_) => {}
        }
        let write = |text: &str| {
            std::fs::create_dir_all(&folder)?;
            let aside = folder.join("job.new");
            std::fs::write(&aside, text)?;
            std::fs::rename(aside, &file)
        };
        let io = |error: std::io::Error| not(format!("{}: {error}", file.display()));
        let mut body = json!({
            "prompt": turn.spec.prompt.as_received(),
            "agent": self.config.agent.as_ref().unwrap_or(&turn.agent),
            "timeout_seconds": turn.limit.as_secs().max(1),
            "metadata": {"afk": turn.name},
        });
        if let Some(budget) = turn.spec.budget {
            // Far below 2^52.
            #[allow(clippy::cast_precision_loss)]
            let usd = budget.0 as f64 / 1e6;
            body["max_budget_usd"] = json!(usd);
        }
        let (mut pause, mut said) = (LOOK, String::new());
        let until = tokio::time::Instant::now() + turn.limit;
        loop {
            write(ASKING).map_err(io)?;
            let request = self.client.post(self.address("/execute")).json(&body);
            match self.call(request).await {
                Ok((202, answer)) => {
                    let id = answer["job_id"].as_str().unwrap_or_default().to_owned();
                    write(&id).map_err(io)?;
                    return Ok(id);
                }
                Err(Away { why, untaken: false }) => {
                    let why = format!("{why}; nobody knows whether the other service took it");
                    return Err(TurnEnd::Crashed { why: why.into() });
                }
                Ok((status, answer)) if !matches!(status, 429 | 503) => {
                    std::fs::remove_file(&file).map_err(io)?;
                    let said: String = clean_line(&answer.to_string()).chars().take(200).collect();
                    return Err(not(format!("the other service answers {status}: {said}")));
                }
                // It was not taken: asking again is harmless.
                refused => {
                    std::fs::remove_file(&file).map_err(io)?;
                    let why = match refused {
                        Ok((status, _)) => format!("it answers {status}"),
                        Err(Away { why, .. }) => why,
                    };
                    if tokio::time::Instant::now() >= until {
                        return Err(not(format!("the other service can't be had: {why}")));
                    }
                    if said != why {
                        let text = format!("the other service can't be had ({why}); asks again");
                        let _ = events.send(AgentEvent::Notice { text: text.into() }).await;
                        said = why;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
            }
        }
    }

    async fn follow(&self, turn: &Turn, events: &Events) -> TurnEnd {
        let id = match self.job(turn, events).await {
            Ok(id) => id,
            Err(end) => return end,
        };
        let text = format!("job {id} at {}", clean_line(&self.config.address));
        let _ = events.send(AgentEvent::Notice { text: text.into() }).await;
        let (mut told, mut away) = (0, false);
        let mut every = interval(LOOK);
        loop {
            every.tick().await;
            let request = self.client.get(self.address(&format!("/jobs/{id}")));
            let job = match self.call(request).await {
                Ok((200, job)) => job,
                Ok((404, _)) => {
                    let why = format!("the other service knows job {id} no more");
                    return TurnEnd::Crashed { why: why.into() };
                }
                Ok((status, _)) => {
                    tracing::debug!(id, status, "no answer about a job");
                    continue;
                }
                Err(Away { why, .. }) => {
                    if !std::mem::replace(&mut away, true) {
                        let text = format!("the other service is away ({why}); looks again");
                        let _ = events.send(AgentEvent::Notice { text: text.into() }).await;
                    }
                    continue;
                }
            };
            away = false;
            let lines = job["output"].as_array().map(Vec::as_slice).unwrap_or_default();
            let new: Vec<&str> = lines.iter().skip(told).filter_map(Value::as_str).collect();
            if !new.is_empty() {
                told = lines.len();
                let _ = events.send(AgentEvent::Text { text: new.join("\n").into() }).await;
            }
            if let Some(end) = end(&job) {
                let code = job["exit_code"].as_i64().and_then(|code| i32::try_from(code).ok());
                let stderr = job["stderr"].as_str().unwrap_or_default().into();
                let _ = events.send(AgentEvent::Exited { code, stderr }).await;
                return end;
            }
        }
    }
}

/// How a job ended, where it has. A word that nobody knows is no end.
fn end(job: &Value) -> Option<TurnEnd> {
    let why = || job["error"].as_str().unwrap_or("it does not say why").into();
    Some(match job["status"].as_str()? {
        "completed" => TurnEnd::Done,
        "timeout" => TurnEnd::TimedOut,
        "failed" => TurnEnd::Crashed { why: why() },
        "error" => TurnEnd::NotStarted { why: why() },
        _ => return None,
    })
}

impl Executor for Service {
    fn capabilities(&self, _here: Capabilities) -> Capabilities {
        Capabilities::default()
    }

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async {
            // A job that nobody has: whoever may ask is told so.
            let request = self.client.get(self.address("/jobs/000000000000"));
            match self.call(request).await {
                Ok((200 | 404, _)) => Ok(format!("{} takes the token", self.config.address)),
                Ok((401 | 403, _)) => Err("it refuses the token".into()),
                Ok((status, _)) => Err(format!("it answers {status}")),
                Err(Away { why, .. }) => Err(why),
            }
        })
    }

    fn turn<'a>(
        &'a self,
        turn: &'a Turn,
        events: &'a Events,
        controls: &'a mut mpsc::Receiver<Control>,
    ) -> BoxFuture<'a, TurnEnd> {
        Box::pin(async move {
            let follow = self.follow(turn, events);
            tokio::pin!(follow);
            loop {
                tokio::select! {
                    end = &mut follow => return end,
                    Some(_) = controls.recv() => {
                        let text = "a job at another service takes no messages";
                        let _ = events.send(AgentEvent::Notice { text: text.into() }).await;
                    }
                }
            }
        })
    }

    fn stop<'a>(&'a self, run: &'a str, root: &'a Path) -> BoxFuture<'a, ()> {
        // Its API has no way to stop a job: it ends by its time.
        super::take_away(root, run);
        Box::pin(std::future::ready(()))
    }
}
