//! `POST /execute` and `GET /jobs/{id}`: a job in the queue, and its status and output.

use std::path::Path;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path as PathOf, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::ApiState;
use super::numbers::{amount, seconds};
use super::{
    REPLAYED, ServiceCaller, ServiceRefusal, VISIBLE, idempotency, new_job_id, parse_body,
    require_text, service, submit, submitted_data, submitted_text,
};
use crate::config::answer::is_role;
use crate::core::model::activity::Activity;
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::command::Refusal;
use crate::core::model::job::{Job, JobCommits, JobId, JobKind, JobStatus, QuestionEquipment};
use crate::core::model::run::Run;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::Untrusted;
use crate::journal::job_output::{self, JobOutput};

/// The longest time limit of a job, in seconds.
pub(super) const LONGEST: u64 = 24 * 3600;

#[derive(Debug, Deserialize)]
pub(super) struct ExecuteRequest {
    prompt: String,
    agent: String,
    /// Null is no limit of the caller's.
    #[serde(default = "default_budget", deserialize_with = "amount")]
    max_budget_usd: Option<f64>,
    /// Null is the longest limit.
    #[serde(default = "default_seconds", deserialize_with = "seconds")]
    timeout_seconds: Option<u64>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

#[allow(clippy::unnecessary_wraps, reason = "serde takes the default of the field's type")]
const fn default_budget() -> Option<f64> {
    Some(5.0)
}

#[allow(clippy::unnecessary_wraps, reason = "serde takes the default of the field's type")]
const fn default_seconds() -> Option<u64> {
    Some(2700)
}

impl ExecuteRequest {
    /// Reads a body, and refuses the values that no job can have.
    pub(super) fn read(body: Result<Json<Value>, JsonRejection>) -> Result<Self, ServiceRefusal> {
        let request: Self = parse_body(body)?;
        require_text("prompt", &request.prompt)?;
        if !is_role(&request.agent) {
            let message =
                "must be a name of letters, digits, . _ : -, or a path below the repository";
            return Err(ServiceRefusal::field("agent", message));
        }
        if request.max_budget_usd.is_some_and(|usd| !(usd > 0.0 && usd <= 1e6)) {
            let message = "must be over 0 and at most 1000000";
            return Err(ServiceRefusal::field("max_budget_usd", message));
        }
        if !(1..=LONGEST).contains(&request.seconds()) {
            return Err(ServiceRefusal::field("timeout_seconds", "must be from 1 to 86400"));
        }
        Ok(request)
    }

    fn seconds(&self) -> u64 {
        self.timeout_seconds.unwrap_or(LONGEST)
    }

    /// The prompt and the job; `clone` is whether the job works in a clone.
    pub(super) fn into_job(self, id: JobId, clone: bool) -> (String, Job) {
        let limit_ms = i64::try_from(self.seconds() * 1000).unwrap_or(i64::MAX);
        let metadata = self.metadata.map(|all| submitted_data(Value::Object(all)).to_string());
        let job = Job {
            id,
            kind: JobKind::Execute { clone },
            agent: Some(self.agent),
            model: None,
            budget: self.max_budget_usd.map(MicroUsd::from_usd),
            limit_ms,
            metadata: metadata.map(Into::into),
            equipment: QuestionEquipment::default(),
        };
        (self.prompt, job)
    }
}

/// `POST /execute`: queues a job. A request with the header `Idempotency-Key` that afk has already
/// taken gets the job of the first one.
pub(in super::super) async fn execute(
    State(state): State<ApiState>,
    caller: ServiceCaller,
    headers: HeaderMap,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, ServiceRefusal> {
    let (config, _) = service(&state)?;
    let clone = config.workspace;
    let key = idempotency::key_of(&headers)?;
    let request = ExecuteRequest::read(body)?;
    let id = match &key {
        Some(key) => idempotency::job_of(&caller, key),
        None => new_job_id()?,
    };
    let (prompt, job) = request.into_job(id, clone);
    // Also while the queue is full, and while the kill switch is on: nothing begins.
    if key.is_some()
        && let Some(answer) = repeated(&state, &prompt, &job)
    {
        return answer;
    }
    match submit(&state, &caller, &prompt, job.clone()).await {
        Ok(_) => {
            let body = json!({"job_id": id, "status": JobStatus::Queued});
            Ok((StatusCode::ACCEPTED, Json(body)).into_response())
        }
        Err(refusal @ Refusal::JobKnown { .. }) => {
            // Another request with the same key came at the same time.
            let mut snapshots = state.handle.snapshots.clone();
            let visible = snapshots.wait_for(|now| now.fleet.jobs.run(id).is_some());
            let _ = tokio::time::timeout(VISIBLE, visible).await;
            let first = key.and_then(|_| repeated(&state, &prompt, &job));
            first.unwrap_or_else(|| Err(ServiceRefusal::failed(&refusal.to_string())))
        }
        Err(refusal) => Err(ServiceRefusal::from(&refusal)),
    }
}

/// The answer to a request whose key belongs to a known job: that job, if the request is the same.
fn repeated(state: &ApiState, prompt: &str, job: &Job) -> Option<Result<Response, ServiceRefusal>> {
    let snapshot = state.snapshot();
    let run = snapshot.fleet.jobs.run(job.id).and_then(|run| snapshot.fleet.runs.get(&run))?;
    let known = run.work.job()?;
    let same = |known: &Job| {
        (&known.agent, known.budget, known.limit_ms, &known.metadata)
            == (&job.agent, job.budget, job.limit_ms, &job.metadata)
    };
    if !same(known) || run.work.title().as_received() != submitted_text(prompt) {
        return Some(Err(idempotency::of_another_request()));
    }
    let body = Json(json!({"job_id": job.id, "status": run.job_status()}));
    Some(Ok((StatusCode::ACCEPTED, REPLAYED, body).into_response()))
}

/// `GET /jobs/{id}`: the status of a job, and its output so far.
pub(in super::super) async fn job(
    State(state): State<ApiState>,
    _: ServiceCaller,
    PathOf(id): PathOf<String>,
) -> Result<Json<Value>, ServiceRefusal> {
    let not_found = || ServiceRefusal::detail(StatusCode::NOT_FOUND, "Job not found");
    let id = JobId::parse(&id).map_err(|_| not_found())?;
    let snapshot = state.snapshot();
    let run = snapshot.fleet.jobs.run(id).and_then(|run| snapshot.fleet.runs.get(&run));
    let run = run.cloned().ok_or_else(not_found)?;
    let reader = state.handle.store.reader(run.id);
    let output = tokio::task::spawn_blocking(move || job_output::read(reader)).await;
    let repository = state.handle.base_clone(run.work.repo());
    let output = output.unwrap_or_default();
    describe(&run, output, &repository).map(Json).ok_or_else(not_found)
}

/// A time in RFC 3339 with milliseconds.
fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// The job of a run in the shape of the service; `None` if the run is not a job.
fn describe(run: &Run, output: JobOutput, repository: &Path) -> Option<Value> {
    let job = run.work.job()?;
    let status = run.job_status();
    let metadata = job
        .metadata
        .as_ref()
        .map(|text| serde_json::from_str::<Value>(text.as_received()).unwrap_or(Value::Null));
    let failed = matches!(status, JobStatus::Failed | JobStatus::Timeout | JobStatus::Error);
    let since = run.progress.reached.first().map_or(run.progress.claimed, |(_, at)| *at);
    Some(json!({
        "job_id": job.id,
        "status": status,
        "prompt": run.work.title().as_received(),
        "agent": job.agent,
        "metadata": metadata,
        "created_at": rfc3339(since),
        "started_at": run.started().map(rfc3339),
        "finished_at": run.progress.ended.map(rfc3339),
        "exit_code": output.code,
        "output": output.lines,
        "result": run.progress.outcome.map(|_| output.result),
        "cost_usd": cost(run.spend.total),
        "usage": usage(run.spend.total),
        "base": run.workspace.base,
        "commits": run.workspace.collected.as_ref().map(|commits| describe_commits(commits, repository)),
        "warnings": warnings(run),
        "stderr": output.stderr,
        "error": failed.then(|| run.progress.why.clean_line()),
    }))
}

/// Remarks on a job that its caller should know: an old base, another agent in place of the one that was
/// asked for, and what it waits for.
fn warnings(run: &Run) -> Vec<String> {
    let stale = run.workspace.stale_base.iter().map(Untrusted::clean_line);
    let waits = match &run.progress.activity {
        Activity::Held { cause, .. } => Some(format!("the job waits: {}", cause.summary())),
        _ => None,
    };
    stale.chain(run.agent.remarks()).chain(waits).collect()
}

/// The commits of a job, with the place where somebody finds those that the remote lacks.
fn describe_commits(commits: &JobCommits, repository: &Path) -> Value {
    json!({
        "head": commits.head,
        "count": commits.count,
        "pushed": commits.pushed,
        "kept": commits.kept,
        "repository": (!commits.kept.is_empty()).then(|| repository.display().to_string()),
        "problem": commits.problem.as_ref().map(Untrusted::clean_line),
    })
}

/// The cost in US dollars; null if the agent reports neither a cost nor tokens.
fn cost(spend: Spend) -> Value {
    if spend == Spend::default() {
        return Value::Null;
    }
    json!(spend.usd.dollars())
}

/// The tokens of an answer; null if the agent reports none.
pub(super) fn usage(spend: Spend) -> Value {
    let Spend { tokens_in, tokens_out, .. } = spend;
    if tokens_in + tokens_out == 0 {
        return Value::Null;
    }
    json!({
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    })
}
