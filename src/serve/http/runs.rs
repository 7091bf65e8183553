//! `GET /v1/runs/{id}` and `GET /v1/runs/{id}/transcript`: one run, and a window of its transcript.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::tokens::Caller;
use super::{ApiRefusal, ApiState};
use crate::core::model::id::RunId;

/// The largest window of a transcript, in records.
const LARGEST_WINDOW: usize = 1000;

/// Finds a run by `r7` or `7`, and describes it.
fn find(state: &ApiState, id: &str) -> Result<(RunId, Value), ApiRefusal> {
    let unknown = || ApiRefusal::new(StatusCode::NOT_FOUND, "no-run", "there is no such run");
    let number = id.strip_prefix('r').unwrap_or(id).parse().map_err(|_| unknown())?;
    let snapshot = state.snapshot();
    let run = snapshot.fleet.runs.get(&RunId(number)).ok_or_else(unknown)?;
    let worktree = snapshot.worktrees.get(&run.id);
    Ok((run.id, json!({"run": run, "worktree": worktree, "seq": snapshot.seq})))
}

/// `GET /v1/runs/{id}`: the run and the state of its worktree.
pub(super) async fn run(
    State(state): State<ApiState>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiRefusal> {
    find(&state, &id).map(|(_, run)| Json(run))
}

#[derive(Debug, Deserialize)]
pub(super) struct TranscriptQuery {
    /// The first record of the window, counted from 0.
    #[serde(default)]
    from: usize,
    /// The size of the window, at most 1000 records.
    #[serde(default = "default_count")]
    count: usize,
}

const fn default_count() -> usize {
    200
}

/// `GET /v1/runs/{id}/transcript`: a window of the transcript, and its length in all.
pub(super) async fn transcript(
    State(state): State<ApiState>,
    _: Caller,
    Path(id): Path<String>,
    range: Result<Query<TranscriptQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiRefusal> {
    let (run, _) = find(&state, &id)?;
    let Query(TranscriptQuery { from, count }) = range.map_err(|rejection| {
        ApiRefusal::new(StatusCode::UNPROCESSABLE_ENTITY, "query", rejection.body_text())
    })?;
    let mut reader = state.handle.store.reader(run);
    let read = tokio::task::spawn_blocking(move || {
        reader.refresh()?;
        Ok::<_, std::io::Error>((reader.len(), reader.read(from, count.min(LARGEST_WINDOW))?))
    });
    let failed =
        |why: String| ApiRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, "transcript", why);
    let read = read.await.map_err(|error| failed(error.to_string()))?;
    let (records, entries) = read.map_err(|error| failed(error.to_string()))?;
    Ok(Json(json!({"run": run, "from": from, "records": records, "entries": entries})))
}
