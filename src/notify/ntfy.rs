//! ntfy as a sink, over its JSON interface: its headers would limit a title to ASCII.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{OutgoingNotice, answer};
use crate::core::model::notice::Severity;
use crate::core::tables::sink::{self, SinkOutcome};
use crate::error::chain;
use crate::secrets::Secrets;

/// The longest message, in bytes; ntfy turns a longer one into an attachment.
const LONGEST: usize = 3_500;

/// The JSON that publishes a notice.
pub(super) fn body(topic: &str, notice: &OutgoingNotice) -> Value {
    let priority = match notice.severity {
        Severity::Info => 2,
        Severity::Warning => 4,
        Severity::Urgent => 5,
    };
    let mut text = format!("{}\n{}", notice.text, notice.open);
    while text.len() > LONGEST {
        text.pop();
    }
    let mut body = json!({
        "topic": topic,
        "title": notice.title,
        "message": text,
        "priority": priority,
        "tags": ["afk", notice.kind],
    });
    if let Some(link) = &notice.link {
        body["click"] = json!(link);
    }
    if let Some(url) = &notice.url {
        body["actions"] = json!([{ "action": "view", "label": "Open the run", "url": url }]);
    }
    body
}

pub(super) async fn send(
    client: &reqwest::Client,
    secrets: &Secrets,
    address: &str,
    topic: &str,
    token: Option<&str>,
    notice: &OutgoingNotice,
) -> Result<(SinkOutcome, String), String> {
    let mut request = client.post(address).json(&body(topic, notice));
    if let Some(reference) = token {
        let token = secrets.get(reference).await.map_err(|error| chain(&error))?;
        request = request.bearer_auth(token.expose_secret());
    }
    let (status, after, text) = answer(address, request).await?;
    let code = serde_json::from_str::<Value>(&text).ok().and_then(|body| body["code"].as_u64());
    let code = code.and_then(|code| u32::try_from(code).ok());
    Ok((sink::ntfy(status, code, after), format!("ntfy answered {status} {text}")))
}
