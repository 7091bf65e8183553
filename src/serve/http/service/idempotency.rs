//! Requests that carry the header `Idempotency-Key`: a request with a key that afk has already taken
//! gets the job of the first one, so that a caller who lost an answer may ask again. The key is part
//! of the job's identifier, which the journal keeps; a restart doesn't forget it.
//!
//! A question whose job was cancelled, because its caller went away, or failed may be asked again
//! under its key: it gets a job with the next number.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::ApiState;
use super::answer::{PendingAnswer, ServiceQuestion, ask, refused};
use super::{ServiceCaller, ServiceRefusal, VISIBLE, new_job_id, submitted_text};
use crate::core::model::budget::Spend;
use crate::core::model::command::Refusal;
use crate::core::model::job::JobId;
use crate::core::model::run::{Outcome, Run};
use crate::journal::job_output;

/// The longest key of a request, in bytes.
const LONGEST_KEY: usize = 255;
/// How often a question may be asked under one key while its jobs end without an answer.
const ATTEMPTS: u32 = 32;

/// The key of a request, by which its caller recognises it.
///
/// # Errors
/// The header has no visible characters, or too many.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<String>, ServiceRefusal> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let text = key.to_str().ok().filter(|key| !key.trim().is_empty() && key.len() <= LONGEST_KEY);
    text.map(|key| Some(key.to_owned())).ok_or_else(|| {
        let detail = "Idempotency-Key must have from 1 to 255 visible characters";
        ServiceRefusal::detail(StatusCode::BAD_REQUEST, detail)
    })
}

/// The identifier of the job that a caller's key stands for at `POST /execute`.
pub(super) fn job_of(caller: &ServiceCaller, key: &str) -> JobId {
    derived(&["idempotency-key", &caller.0.actor.0, key])
}

/// The identifier of a job that answers a question under a key; `attempt` counts from 0.
fn question_of(caller: &ServiceCaller, key: &str, attempt: u32) -> JobId {
    derived(&["idempotency-key of a question", &caller.0.actor.0, key, &attempt.to_string()])
}

fn derived(parts: &[&str]) -> JobId {
    let mut hash = Sha256::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(b"\0");
        }
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&digest[..6]);
    JobId::new(bytes)
}

/// The refusal of a key that belongs to another request.
pub(super) fn of_another_request() -> ServiceRefusal {
    let detail = "Idempotency-Key belongs to a job with another request";
    ServiceRefusal::detail(StatusCode::CONFLICT, detail)
}

/// The answer to a question: one that a new job gives, or the one that the key's job has given.
pub(super) enum Answered {
    /// A new job answers.
    Pending(Box<PendingAnswer>),
    /// The first request with the key was answered so.
    Repeated(RepeatedAnswer),
}

/// An answer that an earlier request with the same key got.
pub(super) struct RepeatedAnswer {
    pub(super) id: JobId,
    pub(super) text: String,
    pub(super) spend: Spend,
}

/// Submits a question, or finds the answer that its key stands for. Waits for the end of a job that
/// works for an earlier request with the key, until `until` at most.
///
/// # Errors
/// The core refuses the job, the key belongs to another request, or the time is over.
pub(super) async fn ask_once(
    state: &ApiState,
    caller: &ServiceCaller,
    question: ServiceQuestion,
    key: Option<&str>,
    until: Instant,
) -> Result<Answered, ServiceRefusal> {
    let Some(key) = key else {
        let asked = ask(state, caller, question, new_job_id()?).await;
        return asked.map(|pending| Answered::Pending(Box::new(pending))).map_err(|r| refused(&r));
    };
    for attempt in 0..ATTEMPTS {
        let id = question_of(caller, key, attempt);
        if run_of(state, id).is_none() {
            match ask(state, caller, question.clone(), id).await {
                Ok(pending) => return Ok(Answered::Pending(Box::new(pending))),
                // Another request with the key came at the same time.
                Err(Refusal::JobKnown { .. }) => {}
                Err(refusal) => return Err(refused(&refusal)),
            }
        }
        let run = timeout_at(until, ended(state, id)).await.map_err(|_| {
            let detail = "the first request with this Idempotency-Key is not answered yet";
            ServiceRefusal::detail(StatusCode::CONFLICT, detail)
        })?;
        let Some(run) = run else { continue };
        if !is_same(&run, &question) {
            return Err(of_another_request());
        }
        if run.progress.outcome == Some(Outcome::Done) {
            let reader = state.handle.store.reader(run.id);
            let read = tokio::task::spawn_blocking(move || job_output::read(reader)).await;
            let text = read.unwrap_or_default().result;
            if !text.trim().is_empty() {
                return Ok(Answered::Repeated(RepeatedAnswer { id, text, spend: run.spend.total }));
            }
        }
    }
    Err(ServiceRefusal::failed("every job under this Idempotency-Key ended without an answer"))
}

/// Whether a job answers the same question.
fn is_same(run: &Run, question: &ServiceQuestion) -> bool {
    let Some(job) = run.work.job() else { return false };
    let (asked, message) = (run.work.title().as_received(), submitted_text(&question.message));
    // A session's first question has the persona before it.
    let persona = question.settings.persona.as_ref();
    let after_persona =
        persona.map(|persona| submitted_text(&format!("{persona}\n\n{}", question.message)));
    job.kind == question.kind
        && job.model.as_ref() == Some(&question.settings.model)
        && (asked == message || after_persona.is_some_and(|text| asked == text))
}

fn run_of(state: &ApiState, id: JobId) -> Option<Arc<Run>> {
    let snapshot = state.snapshot();
    snapshot.fleet.jobs.run(id).and_then(|run| snapshot.fleet.runs.get(&run)).cloned()
}

/// Awaits the end of a job, which a snapshot may not show yet; none if it is forgotten.
async fn ended(state: &ApiState, id: JobId) -> Option<Arc<Run>> {
    let mut snapshots = state.handle.snapshots.clone();
    let visible = snapshots.wait_for(|now| now.fleet.jobs.run(id).is_some());
    // Without a bound, a job that was forgotten in this moment would be awaited for ever.
    let _ = timeout(VISIBLE, visible).await;
    let over = |now: &Arc<crate::runtime::Snapshot>| {
        let run = now.fleet.jobs.run(id).and_then(|run| now.fleet.runs.get(&run));
        run.is_none_or(|run| run.progress.outcome.is_some())
    };
    // Dropped before the next use of the state: a watcher's borrow holds its writer up.
    let _ = snapshots.wait_for(over).await.is_ok();
    run_of(state, id)
}
