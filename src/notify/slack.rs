//! A Slack webhook as a sink. Text from outside can neither mention anybody nor become a link.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{OutgoingNotice, answer};
use crate::core::tables::sink::{self, SinkOutcome};
use crate::error::chain;
use crate::secrets::Secrets;

/// The longest section, in characters; Slack takes 3,000.
const SECTION: usize = 2_900;

/// The JSON of a notice: `&`, `<` and `>` are escaped, which Slack reads as markup.
pub(super) fn body(notice: &OutgoingNotice) -> Value {
    let plain = |text: &str| -> String {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        text.chars().take(SECTION).collect()
    };
    let mut text =
        format!("*{}*\n{}\n`{}`", plain(&notice.title), plain(&notice.text), plain(&notice.open));
    if let Some(link) = notice.link.as_ref().filter(|link| link.starts_with("http")) {
        text = format!("{text}\n<{}|issue>", plain(link).replace('|', "%7C"));
    }
    let text: String = text.chars().take(SECTION).collect();
    json!({
        "text": plain(&format!("{} {}", notice.title, notice.text)),
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}],
    })
}

pub(super) async fn send(
    client: &reqwest::Client,
    secrets: &Secrets,
    webhook: &str,
    notice: &OutgoingNotice,
) -> Result<(SinkOutcome, String), String> {
    let address = secrets.get(webhook).await.map_err(|error| chain(&error))?;
    let address = address.expose_secret();
    let request = client.post(address).json(&body(notice));
    let (status, after, text) = answer(address, request).await?;
    Ok((sink::slack(status, after), format!("Slack answered {status} {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::notice::Severity;

    #[test]
    fn text_from_outside_mentions_nobody() {
        let notice = OutgoingNotice {
            kind: "frozen",
            severity: Severity::Urgent,
            title: "frozen: acme/web#1".into(),
            text: "<!channel> & <https://evil|click>".into(),
            open: "afk attach --run r1".into(),
            link: Some("https://github.com/acme/web/issues/1".into()),
            url: None,
            run: "r1".into(),
        };
        let body = body(&notice);
        let text = body["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt; &amp; &lt;https://evil|click&gt;"), "{text}");
        assert!(text.ends_with("<https://github.com/acme/web/issues/1|issue>"), "{text}");
        assert!(!body["text"].as_str().unwrap().contains('<'));
    }
}
