//! `GET /health`, without a token.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::Shared;

/// How busy it is; that it answers is its health. One that follows is not the one to ask.
pub(in super::super) async fn health(State(shared): State<Shared>) -> (StatusCode, Json<Value>) {
    if let Some(leader) = shared.handle.leader() {
        let body = json!({"status": "standby", "leader": leader});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    }
    let snapshot = shared.handle.snapshots.borrow().clone();
    let fleet = &snapshot.fleet;
    let (active, capacity) = (fleet.permits_used(), fleet.capacity() as usize);
    let body = json!({
        "status": "ok",
        "busy": active >= capacity,
        "active": active,
        "queued": fleet.live.len() - active,
        "capacity": capacity,
    });
    (StatusCode::OK, Json(body))
}
