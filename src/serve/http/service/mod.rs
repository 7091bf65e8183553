//! The API of the agent service that afk takes the place of: jobs, chats, conversations. Its
//! callers change an address, so shapes and codes are that service's, not those of our own routes.

mod answer;
mod chat;
mod converse;
mod execute;
mod health;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use ring::rand::{SecureRandom, SystemRandom};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::Shared;
use super::tokens::Caller;
use crate::config::service::ServiceConfig;
use crate::core::model::command::{Accepted, Command, CommandEnvelope, Refusal};
use crate::core::model::id::{Repo, RunId};
use crate::core::model::job::{Job, JobId};
use crate::core::model::untrusted::clean_line;

pub(super) use chat::completions;
pub(super) use converse::conversational;
pub(super) use execute::{execute, job};
pub(super) use health::health;

/// How long a submitted job is waited for until it is seen.
const SEEN: std::time::Duration = std::time::Duration::from_secs(2);

/// Sessions in which somebody waits for an answer: one answer at a time in each.
pub(super) type Sessions = Mutex<BTreeMap<String, Arc<Mutex<()>>>>;

/// Why a request of the service was not answered.
#[derive(Debug)]
pub(super) struct No {
    status: StatusCode,
    body: Value,
}

impl No {
    fn detail(status: StatusCode, detail: &str) -> Self {
        Self { status, body: json!({ "detail": detail }) }
    }

    /// A field of the body that is missing or no good, as the earlier service told it.
    fn field(field: &str, message: &str) -> Self {
        let at: Vec<&str> = std::iter::once("body").chain(field.split('.')).collect();
        let body = json!({"detail": [{"loc": at, "msg": message, "type": "value_error"}]});
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body }
    }

    /// An answer could not be had: one line of at most 200 characters.
    fn failed(why: &str) -> Self {
        let detail: String = clean_line(why).chars().take(200).collect();
        let body = json!({"error": "execution failed", "detail": detail});
        Self { status: StatusCode::SERVICE_UNAVAILABLE, body }
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.body)).into_response()
    }
}

impl From<&Refusal> for No {
    fn from(refusal: &Refusal) -> Self {
        let (status, detail) = match refusal {
            Refusal::QueueFull => (StatusCode::TOO_MANY_REQUESTS, "Queue full".to_owned()),
            Refusal::Viewer => (StatusCode::FORBIDDEN, refusal.to_string()),
            Refusal::Empty => return Self::field("prompt", "there is no text in it"),
            other => (StatusCode::SERVICE_UNAVAILABLE, other.to_string()),
        };
        Self::detail(status, &detail)
    }
}

/// Somebody whose token is known, told in the service's own way where it isn't.
#[derive(Debug)]
pub(super) struct Client(Caller);

impl FromRequestParts<Shared> for Client {
    type Rejection = No;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, No> {
        let detail = if shared.tokens.is_empty() {
            "Service unauthenticated"
        } else {
            "Missing or invalid token"
        };
        let caller = shared.tokens.caller(&parts.headers);
        caller.map(Self).ok_or_else(|| No::detail(StatusCode::UNAUTHORIZED, detail))
    }
}

/// A body, or which field of it is no good. Fields that nobody knows are let be.
fn body<T: DeserializeOwned>(bytes: Result<axum::Json<Value>, JsonRejection>) -> Result<T, No> {
    let axum::Json(value) = bytes.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            No::detail(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
        }
        _ => No::field("", &clean_line(&rejection.body_text())),
    })?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, said) = (error.path().to_string(), error.inner().to_string());
        // A field that is missing is named by the message alone.
        let missing = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match (path.as_str(), missing) {
            (".", Some(field)) => No::field(field, "Field required"),
            (path, Some(field)) => No::field(&format!("{path}.{field}"), "Field required"),
            (".", None) => No::field("", &clean_line(&said)),
            (path, None) => No::field(path, &clean_line(&said)),
        }
    })
}

fn service(shared: &Shared) -> Result<(&ServiceConfig, &Repo), No> {
    let service = shared.handle.config.service.as_ref();
    service.and_then(|service| Some((service, service.repository.as_ref()?))).ok_or_else(|| {
        No::detail(StatusCode::SERVICE_UNAVAILABLE, "[service] is not in the configuration")
    })
}

fn new_id() -> Result<JobId, No> {
    let mut bytes = [0; 6];
    SystemRandom::new().fill(&mut bytes).map_err(|_| No::failed("no random numbers can be had"))?;
    Ok(JobId::new(bytes))
}

/// Queues a job, and returns once it is durable and can be seen.
async fn submit(
    shared: &Shared,
    Client(caller): Client,
    prompt: &str,
    job: Job,
) -> Result<RunId, Refusal> {
    let repo = shared.handle.config.service.as_ref().and_then(|s| s.repository.clone());
    let Some(repo) = repo else { return Err(Refusal::Unreachable) };
    let id = job.id;
    let Caller { actor, role } = caller;
    let (prompt, job) = (prompt.into(), Some(Box::new(job)));
    let action = Command::Submit { repo, prompt, priority: None, job };
    let command = CommandEnvelope { id: 0, actor, role, origin: "http".into(), action };
    let accepted = shared.handle.command(command).await?;
    let Accepted::Queued { run, .. } = accepted else { return Err(Refusal::Unanswered) };
    let mut snapshots = shared.handle.snapshots.clone();
    let seen = snapshots.wait_for(|now| now.fleet.jobs.run(id).is_some());
    // It is durable; one that is very late is seen by the next look.
    let _ = tokio::time::timeout(SEEN, seen).await;
    Ok(run)
}
