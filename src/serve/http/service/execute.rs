//! `POST /execute` and `GET /jobs/{id}`: a job in the queue, and its status and output.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::ApiState;
use super::{ServiceCaller, ServiceRefusal, new_job_id, parse_body, require_text, service, submit};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::budget::MicroUsd;
use crate::core::model::command::Refusal;
use crate::core::model::job::{Job, JobId, JobKind, JobStatus};
use crate::core::model::run::Run;
use crate::core::model::time::Timestamp;
use crate::journal::transcript::Reader;

/// The longest time limit of a job, in seconds.
const LONGEST: u64 = 24 * 3600;
/// The number of lines of output that an answer holds: the last ones.
const LINES: usize = 10_000;

#[derive(Debug, Deserialize)]
struct ExecuteRequest {
    prompt: String,
    agent: String,
    #[serde(default = "default_budget")]
    max_budget_usd: f64,
    #[serde(default = "default_seconds")]
    timeout_seconds: u64,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

const fn default_budget() -> f64 {
    5.0
}

const fn default_seconds() -> u64 {
    2700
}

/// `POST /execute`: queues a job.
pub(in super::super) async fn execute(
    State(state): State<ApiState>,
    caller: ServiceCaller,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), ServiceRefusal> {
    let (config, _) = service(&state)?;
    let clone = config.workspace;
    let request: ExecuteRequest = parse_body(body)?;
    require_text("prompt", &request.prompt)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    let has_name = !request.agent.is_empty() && !request.agent.starts_with('-');
    if !has_name || request.agent.len() > 100 || !request.agent.bytes().all(plain) {
        return Err(ServiceRefusal::field("agent", "must be a name of letters, digits, . _ : -"));
    }
    if !(request.max_budget_usd > 0.0 && request.max_budget_usd <= 1e6) {
        return Err(ServiceRefusal::field("max_budget_usd", "must be over 0 and at most 1000000"));
    }
    if !(1..=LONGEST).contains(&request.timeout_seconds) {
        return Err(ServiceRefusal::field("timeout_seconds", "must be from 1 to 86400"));
    }
    let id = new_job_id()?;
    let job = Job {
        id,
        kind: JobKind::Execute { clone },
        agent: Some(request.agent),
        model: None,
        budget: Some(MicroUsd::from_usd(request.max_budget_usd)),
        limit_ms: i64::try_from(request.timeout_seconds * 1000).unwrap_or(i64::MAX),
        metadata: request.metadata.map(|all| Value::Object(all).to_string().into()),
    };
    match submit(&state, &caller, &request.prompt, job).await {
        Ok(_) => Ok((StatusCode::ACCEPTED, Json(json!({"job_id": id, "status": "queued"})))),
        Err(refusal @ Refusal::JobKnown { .. }) => {
            Err(ServiceRefusal::failed(&refusal.to_string()))
        }
        Err(refusal) => Err(ServiceRefusal::from(&refusal)),
    }
}

/// `GET /jobs/{id}`: the status of a job, and its output so far.
pub(in super::super) async fn job(
    State(state): State<ApiState>,
    _: ServiceCaller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ServiceRefusal> {
    let not_found = || ServiceRefusal::detail(StatusCode::NOT_FOUND, "Job not found");
    let id = JobId::parse(&id).map_err(|_| not_found())?;
    let snapshot = state.snapshot();
    let run = snapshot.fleet.jobs.run(id).and_then(|run| snapshot.fleet.runs.get(&run));
    let run = run.cloned().ok_or_else(not_found)?;
    let reader = state.handle.store.reader(run.id);
    let output = tokio::task::spawn_blocking(move || read_output(reader)).await;
    let output = output.unwrap_or_default();
    describe(&run, &output).map(Json).ok_or_else(not_found)
}

/// A time in RFC 3339 with milliseconds.
fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// The job of a run in the shape of the service; `None` if the run is not a job.
fn describe(run: &Run, output: &JobOutput) -> Option<Value> {
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
        "stderr": output.stderr,
        "error": failed.then(|| run.progress.why.clean_line()),
    }))
}

/// The output of a job so far.
#[derive(Debug, Default)]
struct JobOutput {
    lines: Vec<String>,
    code: Option<i32>,
    stderr: String,
}

/// Reads the output from the transcript; it is empty if the transcript can't be read.
fn read_output(mut reader: Reader) -> JobOutput {
    let mut output = JobOutput::default();
    if reader.refresh().is_err() {
        return output;
    }
    let mut from = 0;
    while let Ok(entries) = reader.read(from, 512) {
        if entries.is_empty() {
            break;
        }
        from += entries.len();
        for entry in entries {
            match entry.event {
                AgentEvent::Text { text } => {
                    output.lines.extend(text.clean().lines().map(str::to_owned));
                }
                AgentEvent::Exited { code, stderr } => {
                    (output.code, output.stderr) = (code, stderr.clean());
                }
                _ => {}
            }
        }
        let over = output.lines.len().saturating_sub(LINES);
        output.lines.drain(..over);
    }
    output
}
