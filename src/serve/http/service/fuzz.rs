//! Fuzz targets for the bodies of the API of the earlier agent service.

use axum::Json;
use serde_json::Value;

use super::chat::{ChatRequest, prompt};
use super::converse::{ConverseRequest, LONGEST_ID};
use super::execute::{ExecuteRequest, LONGEST};
use super::openai::check_parameters;
use super::{parse_body, submitted_data};
use crate::core::model::job::{Job, JobId};

/// Reads a chat: its prompt is not much longer than its messages.
pub(crate) fn chat(data: &[u8]) {
    let Ok(body) = parse_body::<Value>(Json::from_bytes(data)) else { return };
    let _ = check_parameters(&body);
    let Ok(chat) = parse_body::<ChatRequest>(Ok(Json(body))) else { return };
    let refused = (0..).zip(&chat.messages).any(|(at, message)| message.check(at).is_err());
    if let Some(prompt) = prompt(None, &chat.messages)
        && !refused
    {
        assert!(!prompt.trim().is_empty(), "an agent is asked nothing");
        assert!(prompt.len() <= 16 * data.len() + 256, "{} bytes of prompt", prompt.len());
    }
}

/// Reads a message of a conversation.
pub(crate) fn converse(data: &[u8]) {
    if let Ok(request) = ConverseRequest::read(Json::from_bytes(data)) {
        let id = &request.session_id;
        assert!(!id.is_empty() && id.len() <= LONGEST_ID, "{} bytes of session", id.len());
        assert!(!request.message.trim().is_empty(), "an agent is asked nothing");
    }
}

/// Reads a job: its limits are within what a caller may ask for, and it reads back.
pub(crate) fn execute(data: &[u8]) {
    if let Ok(body) = parse_body::<Value>(Json::from_bytes(data)) {
        assert_eq!(submitted_data(submitted_data(body.clone())), submitted_data(body));
    }
    let Ok(request) = ExecuteRequest::read(Json::from_bytes(data)) else { return };
    let (prompt, job) = request.into_job(JobId::new([1; 6]), true);
    assert!(!prompt.trim().is_empty(), "an agent is asked nothing");
    let longest = i64::try_from(LONGEST * 1000).unwrap_or(i64::MAX);
    assert!((1000..=longest).contains(&job.limit_ms), "a limit of {} ms", job.limit_ms);
    assert!(job.budget.is_none_or(|budget| (0..=1_000_000_000_000).contains(&budget.0)));
    let written = serde_json::to_vec(&job);
    let read = written.and_then(|bytes| serde_json::from_slice::<Job>(&bytes));
    assert!(read.is_ok_and(|read| read == job), "{job:?} does not read back");
}
