//! `POST /execute` and `GET /jobs/{id}`.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::Shared;
use super::{Client, No, body, new_id, service, submit};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::budget::MicroUsd;
use crate::core::model::command::Refusal;
use crate::core::model::job::{Job, JobId, JobKind, JobStatus};
use crate::core::model::run::Run;
use crate::core::model::time::Timestamp;
use crate::journal::transcript::Reader;

/// The longest time that a job may ask for, in seconds.
const LONGEST: u64 = 24 * 3600;
/// The most lines of output that are told: the last ones.
const LINES: usize = 10_000;

/// What is asked.
#[derive(Debug, Deserialize)]
struct Execute {
    prompt: String,
    agent: String,
    #[serde(default = "usual_budget")]
    max_budget_usd: f64,
    #[serde(default = "usual_seconds")]
    timeout_seconds: u64,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

const fn usual_budget() -> f64 {
    5.0
}

const fn usual_seconds() -> u64 {
    2700
}

/// Queues a job.
pub(in super::super) async fn execute(
    State(shared): State<Shared>,
    client: Client,
    asked: Result<Json<Value>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), No> {
    let (of, _) = service(&shared)?;
    let clone = of.workspace;
    let asked: Execute = body(asked)?;
    if asked.prompt.trim().is_empty() {
        return Err(No::field("prompt", "the text is empty"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    let named = !asked.agent.is_empty() && !asked.agent.starts_with('-');
    if !named || asked.agent.len() > 100 || !asked.agent.bytes().all(plain) {
        return Err(No::field("agent", "is no agent's name: letters, digits, . _ : -"));
    }
    if !(asked.max_budget_usd > 0.0 && asked.max_budget_usd <= 1e6) {
        return Err(No::field("max_budget_usd", "should be an amount over 0"));
    }
    if !(1..=LONGEST).contains(&asked.timeout_seconds) {
        return Err(No::field("timeout_seconds", "should be from 1 to 86400"));
    }
    let id = new_id()?;
    let job = Job {
        id,
        kind: JobKind::Execute { clone },
        agent: Some(asked.agent),
        model: None,
        budget: Some(MicroUsd::from_usd(asked.max_budget_usd)),
        limit_ms: i64::try_from(asked.timeout_seconds * 1000).unwrap_or(i64::MAX),
        metadata: asked.metadata.map(|all| Value::Object(all).to_string().into()),
    };
    match submit(&shared, client, &asked.prompt, job).await {
        Ok(_) => Ok((StatusCode::ACCEPTED, Json(json!({"job_id": id, "status": "queued"})))),
        Err(refusal @ Refusal::JobKnown { .. }) => Err(No::failed(&refusal.to_string())),
        Err(refusal) => Err(No::from(&refusal)),
    }
}

/// How a job stands.
pub(in super::super) async fn job(
    State(shared): State<Shared>,
    _: Client,
    Path(id): Path<String>,
) -> Result<Json<Value>, No> {
    let none = || No::detail(StatusCode::NOT_FOUND, "Job not found");
    let id = JobId::parse(&id).map_err(|_| none())?;
    let snapshot = shared.handle.snapshots.borrow().clone();
    let run = snapshot.fleet.jobs.run(id).and_then(|run| snapshot.fleet.runs.get(&run));
    let run = run.cloned().ok_or_else(none)?;
    let reader = shared.handle.store.reader(run.id);
    let written = tokio::task::spawn_blocking(move || read(reader)).await;
    let written = written.unwrap_or_default();
    told(&run, &written).map(Json).ok_or_else(none)
}

fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

fn told(run: &Run, written: &Written) -> Option<Value> {
    let job = run.work.job()?;
    let status = (run).job_status();
    let metadata = job
        .metadata
        .as_ref()
        .map(|text| serde_json::from_str::<Value>(text.as_received()).unwrap_or(Value::Null));
    let unhappy = matches!(status, JobStatus::Failed | JobStatus::Timeout | JobStatus::Error);
    let since = run.reached.first().map_or(run.claimed, |(_, at)| *at);
    Some(json!({
        "job_id": job.id,
        "status": status,
        "prompt": run.work.title().as_received(),
        "agent": job.agent,
        "metadata": metadata,
        "created_at": time(since),
        "started_at": run.started().map(time),
        "finished_at": run.ended.map(time),
        "exit_code": written.code,
        "output": written.lines,
        "stderr": written.stderr,
        "error": unhappy.then(|| run.why.clean_line()),
    }))
}

/// What a job wrote so far.
#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    code: Option<i32>,
    stderr: String,
}

/// Reads it from the transcript; one that can't be read says nothing.
fn read(mut reader: Reader) -> Written {
    let mut written = Written::default();
    if reader.refresh().is_err() {
        return written;
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
                    written.lines.extend(text.clean().lines().map(str::to_owned));
                }
                AgentEvent::Exited { code, stderr } => {
                    (written.code, written.stderr) = (code, stderr.clean());
                }
                _ => {}
            }
        }
        let over = written.lines.len().saturating_sub(LINES);
        written.lines.drain(..over);
    }
    written
}
