//! `POST /v1/chat/completions`: the shape of `OpenAI`'s endpoint, answered by an agent. Its role, its
//! tools and its clone are those of `[service.chat]`, or of `[service.stream]`; by default it has none.
//!
//! The whole dialogue becomes one prompt. The answer goes back as one object, or as a stream of chunks
//! while the agent writes. A stream begins within [`PATIENCE`], so that no proxy gives up on it.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::super::{ApiState, KEEP_ALIVE, unbuffered};
use super::answer::{self, AnswerPart, PendingAnswer, ServiceQuestion};
use super::execute::usage;
use super::idempotency::{Answered, RepeatedAnswer, ask_once};
use super::openai::{OpenAiRefusal, check_parameters};
use super::{REPLAYED, ServiceCaller, ServiceRefusal, idempotency, parse_body, service};
use crate::config::service::ServiceConfig;
use crate::core::model::budget::Spend;
use crate::core::model::job::{JobId, JobKind};
use crate::core::model::untrusted::clean_line;
use crate::runtime::clock;

/// How long a stream waits for its first part: a failure within this time still has a status of its
/// own.
const PATIENCE: Duration = Duration::from_millis(1500);

#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest {
    pub(super) messages: Vec<ChatMessage>,
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
pub(super) struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Option<MessageContent>,
    /// The tools that an assistant called in an earlier turn, at another service.
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum MessageContent {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
struct ContentPart {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

impl ChatMessage {
    fn text(&self) -> String {
        let mut parts: Vec<String> = match &self.content {
            None => Vec::new(),
            Some(MessageContent::Text(text)) => vec![text.clone()],
            Some(MessageContent::Parts(parts)) => {
                let text = |part: &ContentPart| part.text.clone().or_else(|| part.refusal.clone());
                parts.iter().filter_map(text).collect()
            }
        };
        for call in self.tool_calls.iter().flatten() {
            let (name, arguments) = (&call["function"]["name"], &call["function"]["arguments"]);
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            parts.push(format!("(called {} with {})", word(name), word(arguments)));
        }
        parts.join("\n")
    }

    /// Refuses a role that no message has, and content that isn't text: an agent reads text alone.
    pub(super) fn check(&self, at: usize) -> Result<(), OpenAiRefusal> {
        let roles = ["system", "developer", "user", "assistant", "tool", "function"];
        if !roles.contains(&self.role.as_str()) {
            let role: String = clean_line(&self.role).chars().take(80).collect();
            let message = format!("{role:?} is not one of {}", roles.join(", "));
            return Err(OpenAiRefusal::unsupported(&format!("messages[{at}].role"), &message));
        }
        let Some(MessageContent::Parts(parts)) = &self.content else { return Ok(()) };
        for (number, part) in parts.iter().enumerate() {
            let kind = part.kind.as_deref().unwrap_or("text");
            if !matches!(kind, "text" | "input_text" | "output_text" | "refusal") {
                let kind: String = clean_line(kind).chars().take(80).collect();
                let message = format!("content of the type {kind:?} can't be read: send text");
                let param = format!("messages[{at}].content[{number}]");
                return Err(OpenAiRefusal::unsupported(&param, &message));
            }
        }
        Ok(())
    }
}

/// The whole dialogue as one prompt: the system's messages first, then the others with their
/// speakers. `None` if there is no message to answer.
pub(super) fn prompt(persona: Option<&str>, messages: &[ChatMessage]) -> Option<String> {
    let is_system =
        |message: &&ChatMessage| matches!(message.role.as_str(), "system" | "developer");
    let mut parts: Vec<String> = persona.into_iter().map(str::to_owned).collect();
    let system = parts.len();
    parts.extend(messages.iter().filter(is_system).map(ChatMessage::text));
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
    let is_empty = parts[system..].iter().all(|part| part.trim().is_empty());
    (!is_empty).then(|| parts.join("\n\n"))
}

/// The requested model if the configuration knows it, or the default model.
pub(super) fn model(
    service: &ServiceConfig,
    requested: Option<String>,
) -> Result<String, ServiceRefusal> {
    let model = requested.unwrap_or_else(|| service.model.clone());
    let known = service.known_models();
    if known.contains(&&model) {
        return Ok(model);
    }
    let body = json!({"error": "unsupported model", "supported": known});
    Err(ServiceRefusal { status: StatusCode::BAD_REQUEST, body })
}

/// Answers a dialogue, at once or as a stream.
pub(in super::super) async fn completions(
    State(state): State<ApiState>,
    caller: Result<ServiceCaller, ServiceRefusal>,
    headers: HeaderMap,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, OpenAiRefusal> {
    let caller = caller?;
    let key = idempotency::key_of(&headers)?;
    let (config, _) = service(&state)?;
    let body: Value = parse_body(body)?;
    let chat: ChatRequest = parse_body(Ok(Json(body.clone())))?;
    let requested = chat.model.clone();
    let model = model(config, chat.model).map_err(|refusal| {
        let name = requested.unwrap_or_default();
        OpenAiRefusal::unknown_model(refusal.status, &name, &config.known_models())
    })?;
    check_parameters(&body)?;
    for (at, message) in chat.messages.iter().enumerate() {
        message.check(at)?;
    }
    let streams = chat.stream.unwrap_or(false);
    let settings = config.chat_settings(&model, streams);
    let prompt = prompt(settings.persona.as_deref(), &chat.messages)
        .ok_or_else(|| ServiceRefusal::field("messages", "must contain a message to answer"))?;
    let seconds = settings.seconds;
    let until = Instant::now() + Duration::from_secs(seconds.into());
    let message = prompt.clone();
    let question = ServiceQuestion { prompt, message, kind: JobKind::Chat, settings };
    let include_usage = chat.stream_options.is_some_and(|options| options.include_usage);
    let mut pending = match ask_once(&state, &caller, question, key.as_deref(), until).await? {
        Answered::Pending(pending) => *pending,
        Answered::Repeated(first) => {
            let header = CompletionHeader::new(first.id, model);
            let answer = if streams {
                header.whole_stream(&first, include_usage)
            } else {
                Json(header.completion(&first.text, first.spend)).into_response()
            };
            return Ok((REPLAYED, answer).into_response());
        }
    };
    let id = pending.id;
    let header = CompletionHeader::new(id, model);
    if streams {
        let first = match timeout_at(until.min(Instant::now() + PATIENCE), pending.next()).await {
            Ok(first) => Some(first.map_err(|why| ServiceRefusal::failed(&why))?),
            Err(_) => None,
        };
        let events = stream_chunks(header, pending, first, until, include_usage);
        let alive = KeepAlive::new().interval(KEEP_ALIVE);
        return Ok(unbuffered(Sse::new(events).keep_alive(alive)));
    }
    let complete = timeout_at(until, pending.complete()).await;
    let late = |_| answer::late(&state.snapshot().fleet, |job| job.id == id, seconds);
    let complete = complete.map_err(late).and_then(|text| text);
    let text = complete.map_err(|why| ServiceRefusal::failed(&why))?;
    let mut completion = header.completion(&text, pending.spend);
    if !pending.warnings.is_empty() {
        completion["warnings"] = json!(pending.warnings);
    }
    Ok(Json(completion).into_response())
}

/// The next part of an answer; none at its end.
type NextPart = Option<AnswerPart>;

/// The fields that all objects of an answer share.
struct CompletionHeader {
    id: String,
    created: i64,
    model: String,
}

impl CompletionHeader {
    fn new(id: JobId, model: String) -> Self {
        Self { id: format!("chatcmpl-{id}"), created: clock::wall().0 / 1000, model }
    }

    /// The whole answer as one object.
    fn completion(&self, text: &str, spend: Spend) -> Value {
        let message = json!({"role": "assistant", "content": text});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        let mut completion = self.object("chat.completion", &json!([choice]));
        completion["usage"] = usage(spend);
        completion
    }

    /// A known answer as a stream.
    fn whole_stream(&self, answer: &RepeatedAnswer, include_usage: bool) -> Response {
        let delta = json!({"role": "assistant", "content": answer.text});
        let mut events = vec![self.chunk(&delta, None)];
        events.extend(self.end(answer.spend, include_usage));
        unbuffered(Sse::new(stream::iter(events.into_iter().map(Ok::<_, Infallible>))))
    }

    /// The last events of a stream.
    fn end(&self, spend: Spend, include_usage: bool) -> Vec<Event> {
        let mut last = vec![self.chunk(&json!({}), Some("stop"))];
        if include_usage {
            let mut chunk = self.object("chat.completion.chunk", &json!([]));
            chunk["usage"] = usage(spend);
            last.push(data(&chunk));
        }
        last.push(Event::default().data("[DONE]"));
        last
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

/// Streams a comment and the role at once, each part of the answer as it arrives, and the end.
/// `first` is the first part, if it has already arrived. Dropping the stream before its end cancels the
/// job.
fn stream_chunks(
    header: CompletionHeader,
    pending: PendingAnswer,
    first: Option<NextPart>,
    until: Instant,
    include_usage: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let role = header.chunk(&json!({"role": "assistant", "content": ""}), None);
    let start = stream::once(async { vec![Event::default().comment("the agent works"), role] });
    let rest = stream::unfold(Some((header, pending, first)), move |state| async move {
        let (header, mut pending, ready) = state?;
        let next = match ready {
            Some(first) => Ok(first),
            None => timeout_at(until, pending.next())
                .await
                .unwrap_or_else(|_| Err("the agent did not finish its answer in time".into())),
        };
        match next {
            Ok(Some(AnswerPart { text, is_after_tool })) => {
                // The text before a tool is a paragraph of its own.
                let text = if is_after_tool { format!("\n\n{text}") } else { text };
                let chunk = header.chunk(&json!({"content": text}), None);
                Some((vec![chunk], Some((header, pending, None))))
            }
            Ok(None) => Some((header.end(pending.spend, include_usage), None)),
            Err(why) => {
                // The status 200 is already sent. Clients show the error of such an event, and there
                // is no [DONE].
                let error = OpenAiRefusal::from(ServiceRefusal::failed(&why));
                Some((vec![data(error.body())], None))
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
        prompt(None, &messages)
    }

    fn checked(message: &Value) -> Result<(), Value> {
        let message: ChatMessage = serde_json::from_value(message.clone()).unwrap();
        message.check(1).map_err(|refusal| refusal.body()["error"]["param"].clone())
    }

    #[test]
    fn message_that_is_not_text_is_refused_by_its_place() {
        for kind in ["image_url", "input_audio", "file", "video_url"] {
            let text = json!({"type": "text", "text": "what is it?"});
            let message = json!({"role": "user", "content": [text, {"type": kind}]});
            assert_eq!(checked(&message), Err(json!("messages[1].content[1]")), "{kind}");
        }
        let stranger = json!({"role": "narrator", "content": "x"});
        assert_eq!(checked(&stranger), Err(json!("messages[1].role")));
        for message in [
            json!({"role": "user", "content": "x"}),
            json!({"role": "user", "content": [{"type": "text", "text": "x"}, {"text": "y"}]}),
            json!({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}),
            json!({"role": "tool", "content": "42", "tool_call_id": "c"}),
        ] {
            assert_eq!(checked(&message), Ok(()), "{message}");
        }
    }

    #[test]
    fn persona_stands_before_the_dialogue_and_is_no_message_by_itself() {
        let one: Vec<ChatMessage> =
            serde_json::from_value(json!([{"role": "user", "content": "hi"}])).unwrap();
        assert_eq!(prompt(Some("You are kind."), &one).unwrap(), "You are kind.\n\nhi");
        assert_eq!(prompt(Some("You are kind."), &[]), None);
    }

    #[test]
    fn prompt_contains_the_whole_dialogue() {
        let one = json!([{"role": "user", "content": "Wie spät?"}]);
        assert_eq!(prompt_of(&one).unwrap(), "Wie spät?");
        let parts = json!([
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "日本"}]},
        ]);
        assert_eq!(prompt_of(&parts).unwrap(), "Be short.\n\n日本");
        let all = json!([
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": "2", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            {"role": "developer", "content": "D"},
            {"role": "user", "content": "3"},
        ]);
        let prompt = prompt_of(&all).unwrap();
        assert!(
            prompt.starts_with("D\n\nUser: 1\n\nAssistant: 2\n(called f with {})\n\nUser: 3\n\n"),
            "{prompt}"
        );
        for nothing in [json!([]), json!([{"role": "system", "content": "x"}])] {
            assert_eq!(prompt_of(&nothing), None);
        }
        assert_eq!(prompt_of(&json!([{"role": "user", "content": " "}])), None);
    }
}
