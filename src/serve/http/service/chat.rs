//! `POST /v1/chat/completions`: the shape of `OpenAI`'s endpoint, answered by an agent without tools.
//!
//! The whole dialogue becomes one prompt. The answer goes back as one object, or as a stream of chunks
//! while the agent writes.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::super::{ApiState, KEEP_ALIVE};
use super::answer::{PendingAnswer, ServiceQuestion, ask};
use super::{ServiceCaller, ServiceRefusal, parse_body, service};
use crate::config::service::ServiceConfig;
use crate::core::model::budget::Spend;
use crate::core::model::job::JobKind;
use crate::runtime::clock;

#[derive(Debug, Deserialize)]
struct ChatRequest {
    messages: Vec<ChatMessage>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Debug, Deserialize)]
struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Option<MessageContent>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum MessageContent {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
struct ContentPart {
    #[serde(default)]
    text: Option<String>,
}

impl ChatMessage {
    fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(MessageContent::Text(text)) => text.clone(),
            Some(MessageContent::Parts(parts)) => {
                parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// The whole dialogue as one prompt: the system's messages first, then the others with their
/// speakers. `None` if there is no message to answer.
fn prompt(messages: &[ChatMessage]) -> Option<String> {
    let is_system =
        |message: &&ChatMessage| matches!(message.role.as_str(), "system" | "developer");
    let mut parts: Vec<String> = messages.iter().filter(is_system).map(ChatMessage::text).collect();
    let dialogue: Vec<&ChatMessage> =
        messages.iter().filter(|message| !is_system(message)).collect();
    match dialogue.as_slice() {
        [] => return None,
        [only] if only.role == "user" => parts.push(only.text()),
        all => {
            for message in all {
                let speaker = match message.role.as_str() {
                    "assistant" => "Assistant",
                    "user" => "User",
                    other => other,
                };
                parts.push(format!("{speaker}: {}", message.text()));
            }
            parts.push("Answer as the assistant, with what it says next and nothing else.".into());
        }
    }
    let all = parts.join("\n\n");
    (!all.trim().is_empty()).then_some(all)
}

/// The requested model if the configuration lists it, or the default model.
pub(super) fn model(
    service: &ServiceConfig,
    requested: Option<String>,
) -> Result<String, ServiceRefusal> {
    let model = requested.unwrap_or_else(|| service.model.clone());
    if service.models.contains(&model) {
        return Ok(model);
    }
    let body = json!({"error": "unsupported model", "supported": service.models});
    Err(ServiceRefusal { status: StatusCode::BAD_REQUEST, body })
}

/// The reason of an answer that took too long.
pub(super) fn no_answer(seconds: u32) -> String {
    format!("the agent gave no answer in {seconds} s")
}

/// Answers a dialogue, at once or as a stream.
pub(in super::super) async fn completions(
    State(state): State<ApiState>,
    caller: ServiceCaller,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, ServiceRefusal> {
    let (config, _) = service(&state)?;
    let chat: ChatRequest = parse_body(body)?;
    let model = model(config, chat.model)?;
    let prompt = prompt(&chat.messages)
        .ok_or_else(|| ServiceRefusal::field("messages", "must contain a message to answer"))?;
    let seconds = config.chat_seconds;
    let until = Instant::now() + Duration::from_secs(seconds.into());
    let question = ServiceQuestion { prompt, kind: JobKind::Chat, model: model.clone(), seconds };
    let mut pending = ask(&state, caller, question).await?;
    let late = move |_| no_answer(seconds);
    let header = CompletionHeader::new(&pending, model);
    if chat.stream.unwrap_or(false) {
        // A failure before the first part still has a status of its own.
        let first = timeout_at(until, pending.next()).await.map_err(late);
        let first = first.and_then(|next| next).map_err(|why| ServiceRefusal::failed(&why))?;
        let include_usage = chat.stream_options.is_some_and(|options| options.include_usage);
        let events = stream_chunks(header, pending, first, until, include_usage);
        let alive = KeepAlive::new().interval(KEEP_ALIVE);
        return Ok(Sse::new(events).keep_alive(alive).into_response());
    }
    let complete = timeout_at(until, pending.complete()).await.map_err(late);
    let text = complete.and_then(|text| text).map_err(|why| ServiceRefusal::failed(&why))?;
    let message = json!({"role": "assistant", "content": text});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let mut completion = header.object("chat.completion", &json!([choice]));
    completion["usage"] = usage(pending.spend);
    Ok(Json(completion).into_response())
}

/// The tokens of an answer; null if the agent reports none.
fn usage(spend: Spend) -> Value {
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

/// The fields that all objects of an answer share.
struct CompletionHeader {
    id: String,
    created: i64,
    model: String,
}

impl CompletionHeader {
    fn new(pending: &PendingAnswer, model: String) -> Self {
        Self { id: format!("chatcmpl-{}", pending.id), created: clock::wall().0 / 1000, model }
    }

    fn object(&self, object: &str, choices: &Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Event {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        data(&self.object("chat.completion.chunk", &json!([choice])))
    }
}

fn data(value: &Value) -> Event {
    Event::default().data(value.to_string())
}

/// Streams the role, each part of the answer as it arrives, and the end. Dropping the stream before its
/// end cancels the job.
fn stream_chunks(
    header: CompletionHeader,
    pending: PendingAnswer,
    first: Option<String>,
    until: Instant,
    include_usage: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let role = header.chunk(&json!({"role": "assistant", "content": ""}), None);
    let start = stream::once(async { vec![role] });
    let rest = stream::unfold(Some((header, pending, Some(first))), move |state| async move {
        let (header, mut pending, ready) = state?;
        let next = match ready {
            Some(first) => Ok(first),
            None => timeout_at(until, pending.next())
                .await
                .unwrap_or_else(|_| Err("the agent did not finish its answer in time".into())),
        };
        match next {
            Ok(Some(text)) => {
                let chunk = header.chunk(&json!({"content": text}), None);
                Some((vec![chunk], Some((header, pending, None))))
            }
            Ok(None) => {
                let mut last = vec![header.chunk(&json!({}), Some("stop"))];
                if include_usage {
                    let mut chunk = header.object("chat.completion.chunk", &json!([]));
                    chunk["usage"] = usage(pending.spend);
                    last.push(data(&chunk));
                }
                last.push(Event::default().data("[DONE]"));
                Some((last, None))
            }
            Err(why) => {
                // The status 200 is already sent; a client detects the failure by the missing [DONE].
                let ServiceRefusal { body, .. } = ServiceRefusal::failed(&why);
                Some((vec![data(&body)], None))
            }
        }
    });
    start.chain(rest).flat_map(|events| stream::iter(events.into_iter().map(Ok)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt_of(messages: &Value) -> Option<String> {
        let messages: Vec<ChatMessage> = serde_json::from_value(messages.clone()).unwrap();
        prompt(&messages)
    }

    #[test]
    fn prompt_contains_the_whole_dialogue() {
        let one = json!([{"role": "user", "content": "Wie spät?"}]);
        assert_eq!(prompt_of(&one).unwrap(), "Wie spät?");
        let parts = json!([
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "日本"}, {"type": "image_url"}]},
        ]);
        assert_eq!(prompt_of(&parts).unwrap(), "Be short.\n\n日本");
        let all = json!([
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": "2"},
            {"role": "developer", "content": "D"},
            {"role": "user", "content": "3"},
        ]);
        let prompt = prompt_of(&all).unwrap();
        assert!(prompt.starts_with("D\n\nUser: 1\n\nAssistant: 2\n\nUser: 3\n\n"), "{prompt}");
        for nothing in [json!([]), json!([{"role": "system", "content": "x"}])] {
            assert_eq!(prompt_of(&nothing), None);
        }
        assert_eq!(prompt_of(&json!([{"role": "user", "content": " "}])), None);
    }
}
