//! Our own routes: the fleet as it is, and commands with the checks, roles and record of keys.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::tokens::Caller;
use super::{Refused, Shared};
use crate::core::model::breakglass::Verb;
use crate::core::model::command::{Command, CommandEnvelope, Refusal};

/// How long an answer waits for the snapshot that shows it.
const SEEN: std::time::Duration = std::time::Duration::from_millis(100);

/// `GET /v1/fleet`: all that a cockpit shows.
pub(super) async fn fleet(State(shared): State<Shared>, _: Caller) -> Json<Value> {
    let snapshot = shared.handle.snapshots.borrow().clone();
    Json(json!({
        "seq": snapshot.seq,
        "fleet": snapshot.fleet,
        "problems": snapshot.problems,
        "attached": snapshot.clients,
    }))
}

/// `GET /v1/breakglass`: how it stands, and what a confirmation of each verb is bound to.
pub(super) async fn breakglass(State(shared): State<Shared>, _: Caller) -> Json<Value> {
    let snapshot = shared.handle.snapshots.borrow().clone();
    let state = snapshot.breakglass();
    let vm = snapshot.fleet.policy.breakglass.as_ref().map(|rules| rules.vm.clone());
    let seen: serde_json::Map<String, Value> = Verb::ALL
        .into_iter()
        .filter(|verb| verb.mutates())
        .filter_map(|verb| Some((verb.as_str().to_owned(), json!(state.seen(verb, vm.as_ref()?)))))
        .collect();
    Json(json!({ "vm": vm, "state": state, "live": snapshot.verb_output, "seen": seen }))
}

/// `POST /v1/commands`: an action as it stands in the journal.
pub(super) async fn command(
    State(shared): State<Shared>,
    caller: Caller,
    body: Result<Json<Command>, JsonRejection>,
) -> Result<Json<Value>, Refused> {
    let Json(action) = body.map_err(|error| {
        let message = crate::core::model::untrusted::clean_line(&error.body_text());
        Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "body", message)
    })?;
    let Caller { actor, role } = caller;
    let command = CommandEnvelope { id: 0, actor, role, origin: "http".into(), command: action };
    let mut snapshots = shared.handle.snapshots.clone();
    snapshots.mark_unchanged();
    let reply = shared.handle.command(command).await;
    // Whoever was answered sees what they did: the next snapshot has it.
    let _ = tokio::time::timeout(SEEN, snapshots.changed()).await;
    match reply {
        Ok(accepted) => Ok(Json(json!(accepted))),
        Err(refusal) => {
            let (status, kind) = match &refusal {
                Refusal::Viewer => (StatusCode::FORBIDDEN, "viewer"),
                Refusal::QueueFull => (StatusCode::TOO_MANY_REQUESTS, "queue-full"),
                Refusal::Follower { .. } => (StatusCode::SERVICE_UNAVAILABLE, "follows"),
                Refusal::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting-down"),
                _ => (StatusCode::CONFLICT, "refused"),
            };
            Err(Refused::new(status, kind, refusal.to_string()))
        }
    }
}
