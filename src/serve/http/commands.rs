//! `GET /v1/fleet`, `GET /v1/breakglass` and `POST /v1/commands`: the current state, and commands with
//! the same checks, roles and records as a key press in the cockpit.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::tokens::Caller;
use super::{ApiRefusal, ApiState};
use crate::core::model::breakglass::Verb;
use crate::core::model::command::{Command, Refusal};

/// The longest time that a reply waits for the snapshot that shows its effect.
const EFFECT: std::time::Duration = std::time::Duration::from_millis(100);

/// `GET /v1/fleet`: everything that a cockpit shows.
pub(super) async fn fleet(State(state): State<ApiState>, _: Caller) -> Json<Value> {
    let snapshot = state.snapshot();
    Json(json!({
        "seq": snapshot.seq,
        "fleet": snapshot.fleet,
        "problems": snapshot.problems,
        "attached": snapshot.clients,
    }))
}

/// `GET /v1/breakglass`: its state, and the state that a confirmation of each verb must name.
pub(super) async fn breakglass(State(state): State<ApiState>, _: Caller) -> Json<Value> {
    let snapshot = state.snapshot();
    let breakglass = snapshot.breakglass();
    let vm = snapshot.fleet.policy.breakglass.as_ref().map(|rules| rules.vm.clone());
    let seen = |verb: Verb| Some(json!(breakglass.seen(verb, vm.as_ref()?)));
    let seen: serde_json::Map<String, Value> = Verb::ALL
        .into_iter()
        .filter(|verb| verb.mutates())
        .filter_map(|verb| Some((verb.as_str().to_owned(), seen(verb)?)))
        .collect();
    Json(json!({ "vm": vm, "state": breakglass, "live": snapshot.verb_output, "seen": seen }))
}

/// `POST /v1/commands`: executes a command, in the form that the journal records.
pub(super) async fn command(
    State(state): State<ApiState>,
    caller: Caller,
    body: Result<Json<Command>, JsonRejection>,
) -> Result<Json<Value>, ApiRefusal> {
    let Json(action) = body.map_err(|error| {
        let message = crate::core::model::untrusted::clean_line(&error.body_text());
        ApiRefusal::new(StatusCode::UNPROCESSABLE_ENTITY, "body", message)
    })?;
    let mut snapshots = state.handle.snapshots.clone();
    snapshots.mark_unchanged();
    let reply = {
        let rights = caller.rights.clone();
        state.handle.command_with(caller.command("http", action), rights).await
    };
    // A caller that reads the fleet next finds the effect of its command.
    let _ = tokio::time::timeout(EFFECT, snapshots.changed()).await;
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
            Err(ApiRefusal::new(status, kind, refusal.to_string()))
        }
    }
}
