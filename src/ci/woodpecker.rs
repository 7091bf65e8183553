//! Woodpecker's pipelines: table T5.

use std::time::Duration;

use base64::Engine;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::core::model::id::Sha;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::core::model::verdict::{Fact, FactKind, Judgement, Verdict};
use crate::core::tables::commit::Deadlines;
use crate::core::tables::pipeline::{Pipeline, PipelineState, is_of, state};

use super::github::Look;

/// Longest time of one call.
const CALL: Duration = Duration::from_secs(20);
/// Pages of a list that are read.
const PAGES: u32 = 10;
/// A page; the server gives no more.
const PAGE: u32 = 50;
/// The end of a failing step's log, in bytes.
const TAIL: usize = 4 * 1024;

/// A server.
#[derive(Debug)]
pub struct Woodpecker {
    client: reqwest::Client,
    address: String,
    token: SecretString,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Watched<'a> {
    /// The repository's full name there.
    pub repo: &'a str,
    /// The branch.
    pub branch: &'a str,
    /// `push`, or `manual` for a deploy pipeline.
    pub event: &'a str,
    /// The commit.
    pub sha: &'a Sha,
    /// When it was pushed.
    pub pushed: Timestamp,
    /// Our own deadlines.
    pub deadlines: Deadlines,
}

impl Woodpecker {
    /// A server with a token.
    ///
    /// # Errors
    /// A line for a person.
    pub fn new(address: &str, token: SecretString) -> Result<Self, String> {
        let client = reqwest::Client::builder().timeout(CALL).no_proxy().build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { client, address: address.trim_end_matches('/').to_owned(), token })
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let request = self.client.get(format!("{}/api{path}", self.address));
        let request = request.bearer_auth(self.token.expose_secret());
        let tell = |error: reqwest::Error| clean_line(&format!("woodpecker: {error}"));
        let answer = request.send().await.map_err(tell)?;
        let status = answer.status();
        let body = answer.text().await.map_err(tell)?;
        if !status.is_success() {
            // Errors are plain text.
            let said: String = body.chars().take(200).collect();
            return Err(clean_line(&format!("woodpecker answered {status} to {path}: {said}")));
        }
        serde_json::from_str(&body).map_err(|error| format!("woodpecker: {path}: {error}"))
    }

    /// Looks once; an error is UNKNOWN.
    ///
    /// # Errors
    /// A line for a person.
    pub async fn look(&self, watched: &Watched<'_>, now: Timestamp) -> Result<Look, String> {
        let found = self.get(&format!("/repos/lookup/{}", watched.repo)).await?;
        let id = found["id"].as_u64().ok_or("woodpecker: the repository has no number")?;
        let (all, complete) = self.pipelines(id, watched).await?;
        let matching = |p: &&Value| {
            let text = |key: &str| p[key].as_str().unwrap_or_default();
            let image_tag = p["variables"]["IMAGE_TAG"].as_str();
            let (event, commit) = (text("event"), text("commit"));
            is_of(Pipeline { event, commit, image_tag }, &watched.sha.0)
        };
        let number = |p: &Value| p["number"].as_u64().unwrap_or_default();
        let age = now.since(watched.pushed);
        let Some(found) = all.iter().filter(matching).max_by_key(|p| number(p)) else {
            if !complete {
                return Err("woodpecker: too many pipelines to look through".into());
            }
            if age < watched.deadlines.appear {
                return Ok(Look::Pending(format!("a {} pipeline", watched.event)));
            }
            let detail = format!("a {} pipeline never came", watched.event);
            return Ok(Look::Decided(Judgement::new(Verdict::NoCi, detail)));
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
            Ok(Look::Decided(Judgement { facts, ..Judgement::new(verdict, detail) }))
        };
        match state(found["status"].as_str().unwrap_or_default(), replaced) {
            PipelineState::Pending | PipelineState::NeedsApproval
                if age >= watched.deadlines.run =>
            {
                decided(Verdict::Stuck, format!("pipeline {which} never ended"))
            }
            PipelineState::Pending => Ok(Look::Pending(format!("pipeline {which}"))),
            PipelineState::NeedsApproval => {
                Ok(Look::Pending(format!("pipeline {which}: needs approval")))
            }
            PipelineState::Pass => decided(Verdict::Green, format!("pipeline {which} succeeded")),
            PipelineState::Superseded => Ok(Look::Superseded),
            PipelineState::NotRun => {
                decided(Verdict::NoCi, format!("pipeline {which} ran nothing"))
            }
            PipelineState::Red => {
                let (names, log) = self.failures(id, which).await;
                let detail = format!("pipeline {which} failed: {}", clean_line(&names.join(", ")));
                let judgement = Judgement::new(Verdict::Red, detail);
                Ok(Look::Decided(Judgement { log, facts: vec![fact], ..judgement }))
            }
        }
    }

    /// Pages by branch and event, newest first, until those from before the push; whether that
    /// was reached.
    async fn pipelines(
        &self,
        id: u64,
        watched: &Watched<'_>,
    ) -> Result<(Vec<Value>, bool), String> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let Watched { branch, event, .. } = watched;
            let path = format!(
                "/repos/{id}/pipelines?page={page}&perPage={PAGE}&branch={branch}&event={event}"
            );
            let told = self.get(&path).await?;
            // An empty list of Go's is null.
            let part = match told {
                Value::Null => Vec::new(),
                Value::Array(part) => part,
                _ => return Err("woodpecker: a list of pipelines is no list".into()),
            };
            let whole = part.len() < PAGE as usize;
            // A minute's grace for clocks that differ.
            let before = |p: &Value| {
                p["created"].as_i64().unwrap_or_default() * 1000 + 60_000 < watched.pushed.0
            };
            let reached = part.iter().any(before);
            all.extend(part);
            if whole || reached {
                return Ok((all, true));
            }
        }
        Ok((all, false))
    }

    /// The failing steps' names, and the ends of their logs.
    async fn failures(&self, id: u64, number: u64) -> (Vec<String>, Untrusted) {
        let whole = match self.get(&format!("/repos/{id}/pipelines/{number}")).await {
            Ok(whole) => whole,
            Err(error) => return (Vec::new(), error.into()),
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
                Err(error) => log.push_str(&format!("(its log can't be read: {error})\n")),
            }
            names.push(name);
        }
        (names, log.into())
    }
}

/// A log line, whose bytes are base64.
fn line(entry: &Value) -> String {
    let data = entry["data"].as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default();
    format!("{}\n", String::from_utf8_lossy(&bytes).trim_end())
}
