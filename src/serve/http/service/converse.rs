//! `POST /v1/conversational`: a caller's session, in which an agent remembers the earlier messages.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::ApiState;
use super::answer::{self, ServiceQuestion};
use super::idempotency::{Answered, ask_once};
use super::{
    REPLAYED, ServiceCaller, ServiceRefusal, chat, idempotency, parse_body, require_text, service,
};
use crate::core::model::job::{Job, JobKind};

/// The longest id of a session, in bytes.
pub(super) const LONGEST_ID: usize = 200;

#[derive(Debug, Deserialize)]
pub(super) struct ConverseRequest {
    pub(super) session_id: String,
    pub(super) message: String,
    #[serde(default)]
    model: Option<String>,
}

impl ConverseRequest {
    /// Reads a body, and refuses the values that no conversation can have.
    pub(super) fn read(body: Result<Json<Value>, JsonRejection>) -> Result<Self, ServiceRefusal> {
        let request: Self = parse_body(body)?;
        if request.session_id.is_empty() || request.session_id.len() > LONGEST_ID {
            return Err(ServiceRefusal::field("session_id", "must have from 1 to 200 bytes"));
        }
        require_text("message", &request.message)?;
        Ok(request)
    }
}

/// Answers a message in a session. Messages of the same session wait for each other.
pub(in super::super) async fn conversational(
    State(state): State<ApiState>,
    caller: ServiceCaller,
    headers: HeaderMap,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, ServiceRefusal> {
    let (config, _) = service(&state)?;
    let key = idempotency::key_of(&headers)?;
    let request = ConverseRequest::read(body)?;
    let name = chat::model(config, request.model)?;
    let settings = config.converse_settings(&name);
    let seconds = settings.seconds;
    let session = request.session_id;
    let message = request.message;
    let until = Instant::now() + Duration::from_secs(seconds.into());
    let answer = async {
        let lock = state.sessions.lock().await.entry(session.clone()).or_default().clone();
        let _turn = lock.lock().await;
        // The agent remembers its persona.
        let is_new = state.snapshot().fleet.jobs.conversation(&session).is_none();
        let persona = settings.persona.as_ref().filter(|_| is_new);
        let prompt = persona.map_or_else(|| message.clone(), |text| format!("{text}\n\n{message}"));
        let kind = JobKind::Converse { session: session.clone() };
        let question = ServiceQuestion { prompt, message, kind, settings };
        match ask_once(&state, &caller, question, key.as_deref(), until).await? {
            Answered::Repeated(first) => Ok((first.text, Vec::new(), true)),
            Answered::Pending(mut pending) => {
                let text = pending.complete().await.map_err(|why| ServiceRefusal::failed(&why))?;
                Ok::<_, ServiceRefusal>((text, std::mem::take(&mut pending.warnings), false))
            }
        }
    };
    let answer = tokio::time::timeout_at(until, answer).await;
    // Forgets the locks that no other caller waits for.
    state.sessions.lock().await.retain(|_, lock| Arc::strong_count(lock) > 1);
    let of_session =
        |job: &Job| matches!(&job.kind, JobKind::Converse { session: of } if *of == session);
    let late = |_| answer::late(&state.snapshot().fleet, of_session, seconds);
    let (reply, warnings, is_repeated) =
        answer.map_err(late).map_err(|why| ServiceRefusal::failed(&why))??;
    let mut body = json!({"session_id": session, "reply": reply});
    if !warnings.is_empty() {
        body["warnings"] = json!(warnings);
    }
    let body = Json(body);
    Ok(if is_repeated { (REPLAYED, body).into_response() } else { body.into_response() })
}
