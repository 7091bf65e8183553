//! `GET /v1/runs/{id}` and its transcript.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::tokens::Caller;
use super::{Refused, Shared};
use crate::core::model::id::RunId;

/// The most records of a transcript that are told at once.
const MOST: usize = 1000;

fn known(shared: &Shared, id: &str) -> Result<(RunId, Value), Refused> {
    let none = || Refused::new(StatusCode::NOT_FOUND, "no-run", "there is no such run");
    let number = id.strip_prefix('r').unwrap_or(id).parse().map_err(|_| none())?;
    let snapshot = shared.handle.snapshots.borrow().clone();
    let run = snapshot.fleet.runs.get(&RunId(number)).ok_or_else(none)?;
    let worktree = snapshot.worktrees.get(&run.id);
    Ok((run.id, json!({"run": run, "worktree": worktree, "seq": snapshot.seq})))
}

/// All that is known of a run, named `r7` or `7`.
pub(super) async fn run(
    State(shared): State<Shared>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    known(&shared, &id).map(|(_, told)| Json(told))
}

#[derive(Debug, Deserialize)]
pub(super) struct Range {
    /// The first record, from 0.
    #[serde(default)]
    from: usize,
    /// How many at most.
    #[serde(default = "usual")]
    count: usize,
}

const fn usual() -> usize {
    200
}

/// A window of a run's transcript, and how many records there are.
pub(super) async fn transcript(
    State(shared): State<Shared>,
    _: Caller,
    Path(id): Path<String>,
    range: Result<Query<Range>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let (run, _) = known(&shared, &id)?;
    let Query(Range { from, count }) = range.map_err(|rejection| {
        Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "query", rejection.body_text())
    })?;
    let mut reader = shared.handle.store.reader(run);
    let read = tokio::task::spawn_blocking(move || {
        reader.refresh()?;
        Ok::<_, std::io::Error>((reader.len(), reader.read(from, count.min(MOST))?))
    });
    let failed = |why: String| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "transcript", why);
    let read = read.await.map_err(|error| failed(error.to_string()))?;
    let (records, entries) = read.map_err(|error| failed(error.to_string()))?;
    Ok(Json(json!({"run": run, "from": from, "records": records, "entries": entries})))
}
