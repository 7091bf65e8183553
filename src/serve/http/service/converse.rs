//! `POST /v1/conversational`: a caller's session, in which an agent remembers the earlier messages.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::ApiState;
use super::answer::{ServiceQuestion, ask};
use super::{ServiceCaller, ServiceRefusal, chat, parse_body, require_text, service};
use crate::core::model::job::JobKind;

/// The longest id of a session, in bytes.
const LONGEST_ID: usize = 200;

#[derive(Debug, Deserialize)]
struct ConverseRequest {
    session_id: String,
    message: String,
    #[serde(default)]
    model: Option<String>,
}

/// Answers a message in a session. Messages of the same session wait for each other.
pub(in super::super) async fn conversational(
    State(state): State<ApiState>,
    caller: ServiceCaller,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Value>, ServiceRefusal> {
    let (config, _) = service(&state)?;
    let request: ConverseRequest = parse_body(body)?;
    if request.session_id.is_empty() || request.session_id.len() > LONGEST_ID {
        return Err(ServiceRefusal::field("session_id", "must have from 1 to 200 bytes"));
    }
    require_text("message", &request.message)?;
    let name = chat::model(config, request.model)?;
    let settings = config.converse_settings(&name);
    let seconds = settings.seconds;
    let session = request.session_id;
    let message = request.message;
    let answer = async {
        let lock = state.sessions.lock().await.entry(session.clone()).or_default().clone();
        let _turn = lock.lock().await;
        // The agent remembers its persona.
        let is_new = state.snapshot().fleet.jobs.conversation(&session).is_none();
        let persona = settings.persona.as_ref().filter(|_| is_new);
        let prompt = persona.map_or_else(|| message.clone(), |text| format!("{text}\n\n{message}"));
        let kind = JobKind::Converse { session: session.clone() };
        let question = ServiceQuestion { prompt, kind, settings };
        let mut pending = ask(&state, caller, question).await?;
        pending.complete().await.map_err(|why| ServiceRefusal::failed(&why))
    };
    let answer = tokio::time::timeout(Duration::from_secs(seconds.into()), answer).await;
    // Forgets the locks that no other caller waits for.
    state.sessions.lock().await.retain(|_, lock| Arc::strong_count(lock) > 1);
    let reply = answer.map_err(|_| ServiceRefusal::failed(&chat::no_answer(seconds)))??;
    Ok(Json(json!({"session_id": session, "reply": reply})))
}
