//! ntfy: JSON, so that a title can be more than ASCII.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Message, answer};
use crate::core::model::notice::Severity;
use crate::core::tables::sink::{self, SinkOutcome};
use crate::error::chain;
use crate::secrets::Secrets;

/// Longest message, in bytes; a longer one becomes an attachment.
const LONGEST: usize = 3_500;

/// The JSON of a message.
#[must_use]
pub fn body(topic: &str, message: &Message) -> Value {
    let priority = match message.severity {
        Severity::Info => 2,
        Severity::Warning => 4,
        Severity::Urgent => 5,
    };
    let mut text = format!("{}\n{}", message.text, message.open);
    while text.len() > LONGEST {
        text.pop();
    }
    let mut body = json!({
        "topic": topic,
        "title": message.title,
        "message": text,
        "priority": priority,
        "tags": ["afk", message.kind],
    });
    if let Some(link) = &message.link {
        body["click"] = json!(link);
    }
    body
}

pub(super) async fn send(
    client: &reqwest::Client,
    secrets: &Secrets,
    address: &str,
    topic: &str,
    token: Option<&str>,
    message: &Message,
) -> Result<(SinkOutcome, String), String> {
    let mut request = client.post(address).json(&body(topic, message));
    if let Some(reference) = token {
        let token = secrets.get(reference).await.map_err(|error| chain(&error))?;
        request = request.bearer_auth(token.expose_secret());
    }
    let (status, after, said) = answer(address, request).await?;
    let code = serde_json::from_str::<Value>(&said).ok().and_then(|body| body["code"].as_u64());
    let code = code.and_then(|code| u32::try_from(code).ok());
    Ok((sink::ntfy(status, code, after), format!("ntfy answered {status} {said}")))
}
