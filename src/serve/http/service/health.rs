//! `GET /health`: the load of this process, without a token. A probe of Kubernetes reads it, so that
//! callers reach the leader.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::ApiState;

/// Answers 200 with the load, or 503 while this process follows another one.
pub(in super::super) async fn health(State(state): State<ApiState>) -> (StatusCode, Json<Value>) {
    if let Some(leader) = state.handle.leader() {
        let body = json!({"status": "standby", "leader": leader});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    }
    let snapshot = state.snapshot();
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
