//! `POST /v1/chat/completions`: the shape of `OpenAI`'s, answered by an agent without tools.

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

use super::super::{KEEP_ALIVE, Shared};
use super::answer::{Question, Waiting, ask};
use super::{Client, No, body, service};
use crate::config::service::ServiceConfig;
use crate::core::model::budget::Spend;
use crate::core::model::job::JobKind;
use crate::runtime::clock;

#[derive(Debug, Deserialize)]
struct Chat {
    messages: Vec<Message>,
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
struct Message {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// The whole dialogue as one prompt: what the system says first, then who said what.
fn prompt(messages: &[Message]) -> Option<String> {
    let is_system = |message: &&Message| matches!(message.role.as_str(), "system" | "developer");
    let mut parts: Vec<String> = messages.iter().filter(is_system).map(Message::text).collect();
    let said: Vec<&Message> = messages.iter().filter(|message| !is_system(message)).collect();
    match said.as_slice() {
        [] => return None,
        [only] if only.role == "user" => parts.push(only.text()),
        all => {
            for message in all {
                let who = match message.role.as_str() {
                    "assistant" => "Assistant",
                    "user" => "User",
                    other => other,
                };
                parts.push(format!("{who}: {}", message.text()));
            }
            parts.push("Answer as the assistant, with what it says next and nothing else.".into());
        }
    }
    let all = parts.join("\n\n");
    (!all.trim().is_empty()).then_some(all)
}

/// The model that is asked for, where it is one of the configuration's.
pub(super) fn model(service: &ServiceConfig, asked: Option<String>) -> Result<String, No> {
    let model = asked.unwrap_or_else(|| service.model.clone());
    if service.models.contains(&model) {
        return Ok(model);
    }
    let body = json!({"error": "unsupported model", "supported": service.models});
    Err(No { status: StatusCode::BAD_REQUEST, body })
}

/// Answers, whole or piece by piece.
pub(in super::super) async fn completions(
    State(shared): State<Shared>,
    client: Client,
    asked: Result<Json<Value>, JsonRejection>,
) -> Result<Response, No> {
    let (of, _) = service(&shared)?;
    let chat: Chat = body(asked)?;
    let model = model(of, chat.model)?;
    let prompt = prompt(&chat.messages)
        .ok_or_else(|| No::field("messages", "there is nothing to answer in them"))?;
    let seconds = of.chat_seconds;
    let until = Instant::now() + Duration::from_secs(seconds.into());
    let question = Question { prompt, kind: JobKind::Chat, model: model.clone(), seconds };
    let mut waiting = ask(&shared, client, question).await?;
    let late = move |_| format!("no answer in {seconds} s");
    let head = Head::new(&waiting, model);
    if chat.stream.unwrap_or(false) {
        // What fails before its first word is told by the status.
        let first = timeout_at(until, waiting.next()).await.map_err(late);
        let first = first.and_then(|next| next).map_err(|why| No::failed(&why))?;
        let usage = chat.stream_options.is_some_and(|options| options.include_usage);
        let events = events(head, waiting, first, until, usage);
        let alive = KeepAlive::new().interval(KEEP_ALIVE);
        return Ok(Sse::new(events).keep_alive(alive).into_response());
    }
    let whole = timeout_at(until, waiting.whole()).await.map_err(late);
    let text = whole.and_then(|whole| whole).map_err(|why| No::failed(&why))?;
    let message = json!({"role": "assistant", "content": text});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let mut told = head.object("chat.completion", &json!([choice]));
    told["usage"] = usage(waiting.spend);
    Ok(Json(told).into_response())
}

/// Tokens, where the agent tells them.
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

/// What every object of one answer begins with.
struct Head {
    id: String,
    created: i64,
    model: String,
}

impl Head {
    fn new(waiting: &Waiting, model: String) -> Self {
        Self { id: format!("chatcmpl-{}", waiting.id), created: clock::wall().0 / 1000, model }
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

/// The role first, then what is said as it comes, then the end. The job is stopped where the
/// stream is dropped before that.
fn events(
    head: Head,
    waiting: Waiting,
    first: Option<String>,
    until: Instant,
    include_usage: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let role = head.chunk(&json!({"role": "assistant", "content": ""}), None);
    let begin = stream::once(async { vec![role] });
    let rest = stream::unfold(Some((head, waiting, Some(first))), move |state| async move {
        let (head, mut waiting, ready) = state?;
        let next = match ready {
            Some(first) => Ok(first),
            None => timeout_at(until, waiting.next())
                .await
                .unwrap_or_else(|_| Err("the time for an answer is over".into())),
        };
        match next {
            Ok(Some(text)) => {
                let chunk = head.chunk(&json!({"content": text}), None);
                Some((vec![chunk], Some((head, waiting, None))))
            }
            Ok(None) => {
                let mut last = vec![head.chunk(&json!({}), Some("stop"))];
                if include_usage {
                    let mut told = head.object("chat.completion.chunk", &json!([]));
                    told["usage"] = usage(waiting.spend);
                    last.push(data(&told));
                }
                last.push(Event::default().data("[DONE]"));
                Some((last, None))
            }
            Err(why) => {
                // The status is told already: a stream without [DONE] is not whole.
                let No { body, .. } = No::failed(&why);
                Some((vec![data(&body)], None))
            }
        }
    });
    begin.chain(rest).flat_map(|events| stream::iter(events.into_iter().map(Ok)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(messages: &Value) -> Option<String> {
        let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
        prompt(&messages)
    }

    #[test]
    fn the_whole_dialogue_is_kept() {
        let one = json!([{"role": "user", "content": "Wie spät?"}]);
        assert_eq!(of(&one).unwrap(), "Wie spät?");
        let parts = json!([
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "日本"}, {"type": "image_url"}]},
        ]);
        assert_eq!(of(&parts).unwrap(), "Be short.\n\n日本");
        let all = json!([
            {"role": "user", "content": "1"},
            {"role": "assistant", "content": "2"},
            {"role": "developer", "content": "D"},
            {"role": "user", "content": "3"},
        ]);
        let told = of(&all).unwrap();
        assert!(told.starts_with("D\n\nUser: 1\n\nAssistant: 2\n\nUser: 3\n\n"), "{told}");
        for nothing in [json!([]), json!([{"role": "system", "content": "x"}])] {
            assert_eq!(of(&nothing), None);
        }
        assert_eq!(of(&json!([{"role": "user", "content": " "}])), None);
    }
}
