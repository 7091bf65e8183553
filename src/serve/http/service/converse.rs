//! `POST /v1/conversational`: turn after turn in a caller's session.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Shared;
use super::answer::{Question, ask};
use super::{Client, No, body, chat, service};
use crate::core::model::job::JobKind;

/// The longest name of a session, in bytes.
const NAME: usize = 200;

#[derive(Debug, Deserialize)]
struct Converse {
    session_id: String,
    message: String,
    #[serde(default)]
    model: Option<String>,
}

/// Answers in a session, which one caller's message after the other has to itself.
pub(in super::super) async fn conversational(
    State(shared): State<Shared>,
    client: Client,
    asked: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Value>, No> {
    let (of, _) = service(&shared)?;
    let asked: Converse = body(asked)?;
    if asked.session_id.is_empty() || asked.session_id.len() > NAME {
        return Err(No::field("session_id", "should have from 1 to 200 bytes"));
    }
    if asked.message.trim().is_empty() {
        return Err(No::field("message", "the text is empty"));
    }
    let model = chat::model(of, asked.model)?;
    let seconds = of.converse_seconds;
    let session = asked.session_id;
    let answer = async {
        let one = shared.sessions.lock().await.entry(session.clone()).or_default().clone();
        let _turn = one.lock().await;
        let kind = JobKind::Converse { session: session.clone() };
        let question = Question { prompt: asked.message, kind, model, seconds };
        let mut waiting = ask(&shared, client, question).await?;
        waiting.whole().await.map_err(|why| No::failed(&why))
    };
    let answer = tokio::time::timeout(Duration::from_secs(seconds.into()), answer).await;
    // Nobody else waits in it: it needs no place.
    shared.sessions.lock().await.retain(|_, one| Arc::strong_count(one) > 1);
    let reply = answer.map_err(|_| No::failed(&format!("no answer in {seconds} s")))??;
    Ok(Json(json!({"session_id": session, "reply": reply})))
}
