//! A Slack webhook.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Message, answer};
use crate::core::tables::sink::{self, SinkOutcome};
use crate::error::chain;
use crate::secrets::Secrets;

/// Longest section, in characters; Slack takes 3,000.
const SECTION: usize = 2_900;

/// The JSON of a message. What comes from outside is neither a link nor a mention.
#[must_use]
pub fn body(message: &Message) -> Value {
    let plain = |text: &str| -> String {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        text.chars().take(SECTION).collect()
    };
    let mut text = format!(
        "*{}*\n{}\n`{}`",
        plain(&message.title),
        plain(&message.text),
        plain(&message.open)
    );
    if let Some(link) = message.link.as_ref().filter(|link| link.starts_with("http")) {
        text = format!("{text}\n<{}|issue>", plain(link).replace('|', "%7C"));
    }
    let text: String = text.chars().take(SECTION).collect();
    json!({
        "text": plain(&format!("{} {}", message.title, message.text)),
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}],
    })
}

pub(super) async fn send(
    client: &reqwest::Client,
    secrets: &Secrets,
    webhook: &str,
    message: &Message,
) -> Result<(SinkOutcome, String), String> {
    let address = secrets.get(webhook).await.map_err(|error| chain(&error))?;
    let address = address.expose_secret();
    let request = client.post(address).json(&body(message));
    let (status, after, said) = answer(address, request).await?;
    Ok((sink::slack(status, after), format!("Slack answered {status} {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::notice::Severity;

    #[test]
    fn nothing_from_outside_mentions_anybody() {
        let message = Message {
            kind: "frozen",
            severity: Severity::Urgent,
            title: "frozen: acme/web#1".into(),
            text: "<!channel> & <https://evil|click>".into(),
            open: "afk attach --run r1".into(),
            link: Some("https://github.com/acme/web/issues/1".into()),
            run: "r1".into(),
        };
        let body = body(&message);
        let text = body["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt; &amp; &lt;https://evil|click&gt;"), "{text}");
        assert!(text.ends_with("<https://github.com/acme/web/issues/1|issue>"), "{text}");
        assert!(!body["text"].as_str().unwrap().contains('<'));
    }
}
