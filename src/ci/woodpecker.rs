//! Woodpecker's pipelines of a commit, judged by table T5: push pipelines as CI, and manual ones as a
//! deploy.

use std::time::Duration;

use base64::Engine;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::CiStatus;
use crate::core::model::id::Sha;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::core::model::verdict::{Fact, FactKind, Judgement, Verdict};
use crate::core::tables::commit::Deadlines;
use crate::core::tables::pipeline::{Pipeline, PipelineState, is_of, state, whole};
use crate::error::chain;
use crate::network::{NetworkError, calls};
use crate::server_clock::ServerClock;

/// The time limit of one call.
const CALL: Duration = Duration::from_secs(20);
/// The pages of one list that are read at most.
const PAGES: u32 = 10;
/// The entries of a page, the server's maximum.
const PAGE: u32 = 50;
/// The end of a failing step's log, in bytes.
const TAIL: usize = 4 * 1024;

/// Why Woodpecker could not be asked about a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum WoodpeckerError {
    /// There is no TLS client for the server.
    #[error("no client for Woodpecker")]
    Client(#[source] reqwest::Error),
    /// The server was not reached, or the connection broke.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The server refuses the request.
    #[error("Woodpecker answered {status} to {path}: {message}")]
    Refused {
        /// The status code of HTTP.
        status: u16,
        /// The path below `/api`.
        path: String,
        /// The body of the answer, cleaned and cut at 200 characters.
        message: String,
    },
    /// The answer is not JSON.
    #[error("Woodpecker's answer to {path}")]
    Invalid {
        /// The path below `/api`.
        path: String,
        /// The place of the mistake.
        source: serde_json::Error,
    },
    /// The answer says nothing about the pipeline.
    #[error("Woodpecker: {0}")]
    Unusable(&'static str),
}

/// The client of one server.
#[derive(Debug)]
pub struct WoodpeckerClient {
    client: reqwest::Client,
    address: String,
    token: SecretString,
    /// The server's own clock, which the times of its pipelines are on.
    clock: ServerClock,
}

/// A pipeline that is awaited.
#[derive(Debug, Clone)]
pub struct WatchedPipeline<'a> {
    /// The full name of the repository at Woodpecker.
    pub repo: &'a str,
    /// The branch that the pipeline runs on.
    pub branch: &'a str,
    /// `push`, or `manual` for a deploy pipeline.
    pub event: &'a str,
    /// The commit that the pipeline builds.
    pub sha: &'a Sha,
    /// The time by afk's clock from which the deadlines count, in milliseconds ago.
    pub age: i64,
    /// The time since the push by afk's clock, in milliseconds: older pipelines are not read.
    pub back: i64,
    /// How long a pipeline may take to appear and to end.
    pub deadlines: Deadlines,
}

impl WoodpeckerClient {
    /// A client with a token; it sends nothing yet.
    ///
    /// # Errors
    /// [`WoodpeckerError::Client`].
    pub fn new(address: &str, token: SecretString) -> Result<Self, WoodpeckerError> {
        let client = reqwest::Client::builder().timeout(CALL).no_proxy().build();
        let client = client.map_err(WoodpeckerError::Client)?;
        Ok(Self {
            client,
            address: address.trim_end_matches('/').to_owned(),
            token,
            clock: ServerClock::default(),
        })
    }

    async fn get(&self, path: &str) -> Result<Value, WoodpeckerError> {
        let request = self.client.get(format!("{}/api{path}", self.address));
        let request = request.bearer_auth(self.token.expose_secret());
        let failed = |error: reqwest::Error| NetworkError::new(&self.address, error);
        let answer = calls::send("woodpecker", request).await.map_err(failed)?;
        self.clock.set(answer.headers());
        let status = answer.status();
        let body = answer.text().await.map_err(failed)?;
        if !status.is_success() {
            // The body of an error is plain text.
            let message = clean_line(&body.chars().take(200).collect::<String>());
            let (status, path) = (status.as_u16(), clean_line(path));
            return Err(WoodpeckerError::Refused { status, path, message });
        }
        serde_json::from_str(&body)
            .map_err(|source| WoodpeckerError::Invalid { path: clean_line(path), source })
    }

    /// Reads the pipelines once and judges the newest one of the commit.
    ///
    /// # Errors
    /// [`WoodpeckerError`]; the pipeline is unknown, and the caller polls again.
    pub async fn poll(&self, watched: &WatchedPipeline<'_>) -> Result<CiStatus, WoodpeckerError> {
        let found = self.get(&format!("/repos/lookup/{}", watched.repo)).await?;
        let id =
            found["id"].as_u64().ok_or(WoodpeckerError::Unusable("the repository has no id"))?;
        let (all, complete) = self.pipelines(id, watched).await?;
        let matching = |p: &&Value| {
            let text = |key: &str| p[key].as_str().unwrap_or_default();
            let image_tag = p["variables"]["IMAGE_TAG"].as_str();
            let (event, commit) = (text("event"), text("commit"));
            is_of(Pipeline { event, commit, image_tag }, &watched.sha.0)
        };
        let number = |p: &Value| p["number"].as_u64().unwrap_or_default();
        let age = watched.age;
        let Some(found) = all.iter().filter(matching).max_by_key(|p| number(p)) else {
            if !complete {
                return Err(WoodpeckerError::Unusable(
                    "there are too many pipelines since the push",
                ));
            }
            if age < watched.deadlines.appear {
                return Ok(CiStatus::Pending(format!("a {} pipeline", watched.event)));
            }
            let detail = format!("a {} pipeline never came", watched.event);
            return Ok(CiStatus::Decided(Judgement::new(Verdict::NoCi, detail)));
        };
        let which = number(found);
        let replaced = all.iter().any(|p| number(p) > which);
        let fact = Fact {
            kind: FactKind::CiRun,
            value: format!("pipeline {which}: {}", found["status"].as_str().unwrap_or("?")).into(),
            link: Some(format!("{}/repos/{id}/pipeline/{which}", self.address).into()),
        };
        let decided = |verdict, detail: String| {
            let facts = vec![fact.clone()];
            Ok(CiStatus::Decided(Judgement { facts, ..Judgement::new(verdict, detail) }))
        };
        let status = found["status"].as_str().unwrap_or_default();
        let mut judged = state(status, replaced);
        if judged == PipelineState::Pass {
            let workflows = self.workflows(id, which).await?;
            let words: Vec<&str> = workflows.iter().map(String::as_str).collect();
            judged = whole(status, &words, replaced);
        }
        match judged {
            PipelineState::Pending | PipelineState::NeedsApproval
                if age >= watched.deadlines.run =>
            {
                decided(Verdict::Stuck, format!("pipeline {which} never ended"))
            }
            PipelineState::Pending => Ok(CiStatus::Pending(format!("pipeline {which}"))),
            PipelineState::NeedsApproval => {
                Ok(CiStatus::Pending(format!("pipeline {which}: needs approval")))
            }
            PipelineState::Pass => decided(Verdict::Green, format!("pipeline {which} succeeded")),
            PipelineState::Superseded => Ok(CiStatus::Superseded),
            PipelineState::NotRun => {
                decided(Verdict::NoCi, format!("pipeline {which} ran nothing"))
            }
            PipelineState::Red => {
                let (names, log) = self.failures(id, which).await;
                let detail = format!("pipeline {which} failed: {}", clean_line(&names.join(", ")));
                let judgement = Judgement::new(Verdict::Red, detail);
                Ok(CiStatus::Decided(Judgement { log, facts: vec![fact], ..judgement }))
            }
        }
    }

    /// The pipelines of the branch and event, newest first, back to the push; and whether the list
    /// reaches back that far.
    async fn pipelines(
        &self,
        id: u64,
        watched: &WatchedPipeline<'_>,
    ) -> Result<(Vec<Value>, bool), WoodpeckerError> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let WatchedPipeline { branch, event, .. } = watched;
            let path = format!(
                "/repos/{id}/pipelines?page={page}&perPage={PAGE}&branch={branch}&event={event}"
            );
            let found = self.get(&path).await?;
            // Go writes an empty list as null.
            let part = match found {
                Value::Null => Vec::new(),
                Value::Array(part) => part,
                _ => return Err(WoodpeckerError::Unusable("the list of pipelines is not a list")),
            };
            let last_page = part.len() < PAGE as usize;
            // Both ages end now: the pipeline's by the server's clock, the push's by ours. A minute of
            // grace for a push that was read back late.
            let before = |p: &Value| {
                let now = self.clock.now();
                now.is_some_and(|now| now.since(created(p)) > watched.back + 60_000)
            };
            let reached = part.iter().any(before);
            all.extend(part);
            if last_page || reached {
                return Ok((all, true));
            }
        }
        Ok((all, false))
    }

    /// The states of a pipeline's workflows; the list of pipelines doesn't have them.
    async fn workflows(&self, id: u64, number: u64) -> Result<Vec<String>, WoodpeckerError> {
        let whole = self.get(&format!("/repos/{id}/pipelines/{number}")).await?;
        let workflows = whole["workflows"].as_array().into_iter().flatten();
        Ok(workflows.filter_map(|w| w["state"].as_str().map(str::to_owned)).collect())
    }

    /// The names of the failing steps, and the ends of their logs.
    async fn failures(&self, id: u64, number: u64) -> (Vec<String>, Untrusted) {
        let whole = match self.get(&format!("/repos/{id}/pipelines/{number}")).await {
            Ok(whole) => whole,
            Err(error) => return (Vec::new(), chain(&error).into()),
        };
        let (mut names, mut log) = (Vec::new(), String::new());
        for error in whole["errors"].as_array().into_iter().flatten() {
            log.push_str(&format!("{}\n", error["message"].as_str().unwrap_or_default()));
        }
        let workflows = whole["workflows"].as_array().into_iter().flatten();
        let steps = workflows.flat_map(|w| w["children"].as_array().into_iter().flatten());
        let bad = |step: &&Value| {
            let state = step["state"].as_str().unwrap_or_default();
            matches!(state, "failure" | "error" | "killed")
        };
        for step in steps.filter(bad) {
            let name = step["name"].as_str().unwrap_or("a step").to_owned();
            log.push_str(&format!("== {name}\n{}\n", step["error"].as_str().unwrap_or_default()));
            let path =
                format!("/repos/{id}/logs/{number}/{}", step["id"].as_u64().unwrap_or_default());
            match self.get(&path).await {
                Ok(lines) => {
                    let text: String = lines.as_array().into_iter().flatten().map(line).collect();
                    log.push_str(Untrusted::new(text).tail(TAIL).as_received());
                }
                Err(error) => {
                    log.push_str(&format!("(its log can't be read: {})\n", chain(&error)));
                }
            }
            names.push(name);
        }
        (names, log.into())
    }
}

/// A line of a log, whose bytes are base64.
pub(super) fn line(entry: &Value) -> String {
    let data = entry["data"].as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default();
    format!("{}\n", String::from_utf8_lossy(&bytes).trim_end())
}

/// When a pipeline was created, by the server's clock.
pub(super) fn created(pipeline: &Value) -> Timestamp {
    Timestamp(pipeline["created"].as_i64().unwrap_or_default().saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn time_of_a_pipeline_saturates() {
        assert_eq!(created(&json!({"created": 1_767_225_601})), Timestamp(1_767_225_601_000));
        assert_eq!(created(&json!({"created": i64::MAX})), Timestamp(i64::MAX));
        assert_eq!(created(&json!({})), Timestamp(0));
    }
}
