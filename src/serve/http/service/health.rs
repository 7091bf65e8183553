//! `GET /health`, without a token.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::Shared;

/// How busy it is; that it answers is its health.
pub(in super::super) async fn health(State(shared): State<Shared>) -> Json<Value> {
    let snapshot = shared.handle.snapshots.borrow().clone();
    let fleet = &snapshot.fleet;
    let (active, capacity) = (fleet.permits_used(), fleet.capacity() as usize);
    Json(json!({
        "status": "ok",
        "busy": active >= capacity,
        "active": active,
        "queued": fleet.live.len() - active,
        "capacity": capacity,
    }))
}
