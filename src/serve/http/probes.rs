//! The probes of an orchestrator: whether the process works at all, and whether it may get requests.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::ApiState;

/// The reason if the loop hangs.
const SILENT: &str = "the event loop does not answer";
/// How many intervals of the tracker's poll may pass without a reading before afk isn't ready.
const POLLS: u64 = 3;
/// The time that a reading of a tracker may take besides, in seconds.
const READING: u64 = 120;

/// Answers 200 as long as the event loop answers, also while this process follows another one.
pub(super) async fn live(State(state): State<ApiState>) -> (StatusCode, Json<Value>) {
    if state.handle.loop_state().await.is_some() {
        return (StatusCode::OK, Json(json!({"live": true})));
    }
    let body = json!({"live": false, "reasons": [SILENT]});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body))
}

/// Answers 200 if this process leads, writes its journal, and reads its trackers.
pub(super) async fn ready(State(state): State<ApiState>) -> (StatusCode, Json<Value>) {
    let handle = &state.handle;
    let mut reasons = Vec::new();
    let leader = handle.leader();
    if let Some(leader) = &leader {
        reasons.push(format!("it follows: {leader}"));
    }
    match handle.loop_state().await {
        None => reasons.push(SILENT.into()),
        Some(state) if !state.writes_journal => {
            reasons.push("the journal can't be written".into());
        }
        Some(_) => {}
    }
    let age = handle.tracker_age();
    let seconds = age.map(|age| age.as_secs());
    let config = handle.present_config();
    if leader.is_none() && config.has_tracker() {
        let most = config.tracker.poll_seconds.max(1) * POLLS + READING;
        match seconds {
            None => reasons.push("the tracker was not read yet".into()),
            Some(seconds) if seconds > most => {
                reasons.push(format!("the tracker was last read {seconds} s ago"));
            }
            Some(_) => {}
        }
    }
    let is_ready = reasons.is_empty();
    let body = json!({
        "ready": is_ready,
        "leads": leader.is_none(),
        "tracker_age_seconds": seconds,
        "reasons": reasons,
    });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body))
}
