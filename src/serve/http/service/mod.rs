//! The API of the agent service that afk replaces: jobs, chats and sessions. Its callers only change
//! an address, so that the shapes and status codes are those of that service, not those of the other
//! routes.
//!
//! ```text
//! POST /execute ─────────────┐
//! POST /v1/chat/completions ─┼─▶ submit ─▶ Command::Submit ─▶ a run in the queue
//! POST /v1/conversational ───┘       └─ answer.rs awaits the text of a chat or a session
//! GET /jobs/{id} ─▶ the run's status in the snapshot, its output in the transcript
//! GET /v1/models ─▶ openai.rs, which also gives the errors of chats their shape
//! ```

mod answer;
mod chat;
mod converse;
mod execute;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod health;
mod idempotency;
mod numbers;
mod openai;

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

use super::ApiState;
use super::tokens::{Caller, bearer};
use crate::config::service::ServiceConfig;
use crate::core::model::command::{Accepted, Command, Refusal};
use crate::core::model::id::{Repo, RunId};
use crate::core::model::job::{Job, JobId};
use crate::core::model::untrusted::clean_line;
use crate::redact::Redactor;

pub(super) use chat::completions;
pub(super) use converse::conversational;
pub(super) use execute::{execute, job};
pub(super) use health::health;
pub(super) use openai::{model, models};

/// The longest time that `submit` waits for the snapshot that shows its job.
const VISIBLE: std::time::Duration = std::time::Duration::from_secs(2);

/// The header of an answer that an earlier request with the same key got.
const REPLAYED: [(&str, &str); 1] = [("idempotent-replayed", "true")];

/// The sessions in which a caller waits for an answer; each lock admits one question at a time.
pub(super) type Sessions = Mutex<BTreeMap<String, Arc<Mutex<()>>>>;

/// An error in the shapes of the replaced service.
#[derive(Debug)]
pub(super) struct ServiceRefusal {
    status: StatusCode,
    body: Value,
}

impl ServiceRefusal {
    fn detail(status: StatusCode, detail: &str) -> Self {
        Self { status, body: json!({ "detail": detail }) }
    }

    /// A field of the body is missing or invalid.
    fn field(field: &str, message: &str) -> Self {
        let path: Vec<&str> = std::iter::once("body").chain(field.split('.')).collect();
        let body = json!({"detail": [{"loc": path, "msg": message, "type": "value_error"}]});
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body }
    }

    /// The agent gave no answer; `why` is cut to one line of 200 characters.
    fn failed(why: &str) -> Self {
        let detail: String = clean_line(why).chars().take(200).collect();
        let body = json!({"error": "execution failed", "detail": detail});
        Self { status: StatusCode::SERVICE_UNAVAILABLE, body }
    }
}

impl IntoResponse for ServiceRefusal {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.body)).into_response()
    }
}

impl From<&Refusal> for ServiceRefusal {
    fn from(refusal: &Refusal) -> Self {
        let (status, detail) = match refusal {
            Refusal::QueueFull => (StatusCode::TOO_MANY_REQUESTS, "Queue full".to_owned()),
            Refusal::Viewer => (StatusCode::FORBIDDEN, refusal.to_string()),
            Refusal::Empty => return Self::field("prompt", "must contain text"),
            other => (StatusCode::SERVICE_UNAVAILABLE, other.to_string()),
        };
        Self::detail(status, &detail)
    }
}

/// A [`Caller`] whose rejection has the shape of the replaced service.
#[derive(Debug, Clone)]
pub(super) struct ServiceCaller(Caller);

impl FromRequestParts<ApiState> for ServiceCaller {
    type Rejection = ServiceRefusal;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &ApiState,
    ) -> Result<Self, ServiceRefusal> {
        let has_token = bearer(&parts.headers).is_some();
        let detail = if state.tokens.is_empty() {
            "Service unauthenticated"
        } else if has_token {
            "Invalid token"
        } else {
            "Missing bearer token"
        };
        let caller = state.tokens.caller(&parts.headers);
        caller.map(Self).ok_or_else(|| ServiceRefusal::detail(StatusCode::UNAUTHORIZED, detail))
    }
}

/// Deserializes a body, or names the field that is missing or invalid. Ignores unknown fields.
fn parse_body<T: DeserializeOwned>(
    body: Result<axum::Json<Value>, JsonRejection>,
) -> Result<T, ServiceRefusal> {
    let axum::Json(value) = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ServiceRefusal::detail(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
        }
        _ => ServiceRefusal::field("", &clean_line(&rejection.body_text())),
    })?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, message) = (error.path().to_string(), error.inner().to_string());
        // serde names a missing field only in its message, not in the path.
        let missing =
            message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match (path.as_str(), missing) {
            (".", Some(field)) => ServiceRefusal::field(field, "Field required"),
            (path, Some(field)) => {
                ServiceRefusal::field(&format!("{path}.{field}"), "Field required")
            }
            (".", None) => ServiceRefusal::field("", &clean_line(&message)),
            (path, None) => ServiceRefusal::field(path, &clean_line(&message)),
        }
    })
}

/// Requires text in a field of the body.
fn require_text(field: &str, text: &str) -> Result<(), ServiceRefusal> {
    if text.trim().is_empty() {
        return Err(ServiceRefusal::field(field, "must contain text"));
    }
    Ok(())
}

/// The section `[service]` and its repository, which every job needs.
fn service(state: &ApiState) -> Result<(&ServiceConfig, &Repo), ServiceRefusal> {
    let service = state.handle.config.service.as_ref();
    service.and_then(|service| Some((service, service.repository.as_ref()?))).ok_or_else(|| {
        let detail = "[service] is not in the configuration";
        ServiceRefusal::detail(StatusCode::SERVICE_UNAVAILABLE, detail)
    })
}

fn new_job_id() -> Result<JobId, ServiceRefusal> {
    let mut bytes = [0; 6];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ServiceRefusal::failed("the system provides no random numbers"))?;
    Ok(JobId::new(bytes))
}

/// A caller's text as afk stores it: without the secrets that afk knows or recognises.
fn submitted_text(text: &str) -> String {
    Redactor::default().clean(text).into_owned()
}

/// A caller's data as afk stores it, each text in it as in [`submitted_text`].
fn submitted_data(data: Value) -> Value {
    match data {
        Value::String(text) => Value::String(submitted_text(&text)),
        Value::Array(items) => items.into_iter().map(submitted_data).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (submitted_text(&name), submitted_data(value)))
                .collect(),
        ),
        other => other,
    }
}

/// Queues a job, and returns once it is durable and `GET /jobs/{id}` finds it.
async fn submit(
    state: &ApiState,
    ServiceCaller(caller): &ServiceCaller,
    prompt: &str,
    job: Job,
) -> Result<RunId, Refusal> {
    let repo = state.handle.config.service.as_ref().and_then(|s| s.repository.clone());
    let Some(repo) = repo else { return Err(Refusal::Unreachable) };
    let id = job.id;
    let (prompt, job) = (submitted_text(prompt).into(), Some(Box::new(job)));
    let action = Command::Submit { repo, prompt, priority: None, job };
    let (command, rights) = (caller.command("http", action), caller.rights.clone());
    let accepted = state.handle.command_with(command, rights).await?;
    let Accepted::Queued { run, .. } = accepted else { return Err(Refusal::Unanswered) };
    let mut snapshots = state.handle.snapshots.clone();
    let visible = snapshots.wait_for(|now| now.fleet.jobs.run(id).is_some());
    // The job is durable; a caller that asks before a late snapshot has to ask again.
    let _ = tokio::time::timeout(VISIBLE, visible).await;
    Ok(run)
}
