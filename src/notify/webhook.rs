//! Any HTTP endpoint as a sink: a body from a template of the owner, signed with a shared secret.
//!
//! The signature is the HMAC-SHA256 of the body's bytes in hexadecimal, as `sha256=…`, which is the
//! form that GitHub's own webhooks have, so that a receiver finds a verifier in every language.

use std::fmt::Write as _;

use reqwest::header::CONTENT_TYPE;
use ring::hmac;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{OutgoingNotice, answer, severity_name};
use crate::config::notify::WebhookConfig;
use crate::core::tables::sink::{self, SinkOutcome};
use crate::error::chain;
use crate::secrets::Secrets;

/// The places of a template, each with the value of a notice.
fn values(notice: &OutgoingNotice) -> [(&'static str, &str); 8] {
    [
        ("{kind}", notice.kind),
        ("{severity}", severity_name(notice.severity)),
        ("{title}", &notice.title),
        ("{text}", &notice.text),
        ("{run}", &notice.run),
        ("{open}", &notice.open),
        ("{link}", notice.link.as_deref().unwrap_or_default()),
        ("{url}", notice.url.as_deref().unwrap_or_default()),
    ]
}

/// The body of a notice: the template with its places filled, or every value as one JSON object.
/// A value is one pass of text: nothing in it is taken for a place or ends a JSON string.
pub(super) fn body(sink: &WebhookConfig, notice: &OutgoingNotice) -> String {
    let values = values(notice);
    let Some(template) = &sink.template else {
        let named = values.iter().map(|(place, value)| (place.trim_matches(['{', '}']), value));
        let object: serde_json::Map<String, Value> =
            named.map(|(name, value)| (name.to_owned(), json!(value))).collect();
        return Value::Object(object).to_string();
    };
    let is_json = sink.content_type.contains("json");
    let mut text = String::new();
    let mut rest = template.as_str();
    'next: while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        for (place, value) in &values {
            if let Some(after) = rest.strip_prefix(place) {
                if is_json {
                    // Without the quotation marks, which the template has.
                    let quoted = json!(value).to_string();
                    text.push_str(&quoted[1..quoted.len() - 1]);
                } else {
                    text.push_str(value);
                }
                rest = after;
                continue 'next;
            }
        }
        text.push('{');
        rest = &rest[1..];
    }
    text.push_str(rest);
    text
}

/// The signature of a body under a secret.
pub(super) fn signature(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.trim().as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    let mut text = "sha256=".to_owned();
    for byte in tag.as_ref() {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(super) async fn send(
    client: &reqwest::Client,
    secrets: &Secrets,
    sink: &WebhookConfig,
    notice: &OutgoingNotice,
) -> Result<(SinkOutcome, String), String> {
    let secret = async |reference: &str| {
        let found = secrets.get(reference).await;
        found.map_err(|error| chain(&error))
    };
    let address = secret(&sink.address).await?;
    let address = address.expose_secret().trim();
    let body = body(sink, notice);
    let mut request = client.post(address).header(CONTENT_TYPE, &sink.content_type);
    if let Some(reference) = &sink.secret {
        let key = secret(reference).await?;
        request = request.header(&sink.signature_header, signature(key.expose_secret(), &body));
    }
    let (status, after, text) = answer(address, request.body(body)).await?;
    Ok((sink::webhook(status, after), format!("the webhook answered {status} {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::notice::Severity;

    fn notice() -> OutgoingNotice {
        OutgoingNotice {
            kind: "frozen",
            severity: Severity::Urgent,
            title: "frozen: acme/web#1".into(),
            text: "a \"quoted\" {run} \\ text".into(),
            open: "afk attach --run r1".into(),
            link: None,
            url: Some("https://afk.acme.com/r1".into()),
            run: "r1".into(),
        }
    }

    fn sink(template: Option<&str>, content_type: &str) -> WebhookConfig {
        WebhookConfig {
            address: "env:HOOK".into(),
            template: template.map(str::to_owned),
            content_type: content_type.into(),
            secret: None,
            signature_header: "X-Hub-Signature-256".into(),
            notices: None,
        }
    }

    #[test]
    fn values_stay_inside_the_strings_of_a_json_template() {
        let sink = sink(Some(r#"{"msg": "{title}: {text}", "n": {"x": 1}}"#), "application/json");
        let body: Value = serde_json::from_str(&body(&sink, &notice())).unwrap();
        assert_eq!(body["msg"], "frozen: acme/web#1: a \"quoted\" {run} \\ text");
        assert_eq!(body["n"]["x"], 1);
    }

    #[test]
    fn body_without_a_template_has_every_value() {
        let body: Value =
            serde_json::from_str(&body(&sink(None, "application/json"), &notice())).unwrap();
        assert_eq!((&body["kind"], &body["run"]), (&json!("frozen"), &json!("r1")));
        assert_eq!((&body["severity"], &body["link"]), (&json!("urgent"), &json!("")));
        let plain = super::body(&sink(Some("{kind} {nothing} {run}"), "text/plain"), &notice());
        assert_eq!(plain, "frozen {nothing} r1");
    }

    #[test]
    fn signature_is_that_of_rfc_4231() {
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", "what do ya want for nothing?"), expected);
    }
}
