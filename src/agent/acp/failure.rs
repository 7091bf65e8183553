//! Failures of the model behind an ACP agent: as an error of the protocol, or as nothing but words
//! before a normal end.

use serde_json::Value;

use super::super::fields::text;
use crate::agent::bounded;
use crate::core::model::agent_event::TurnEnd;

/// How much of the text of a prompt's answer is remembered, in bytes.
pub(super) const SAID_LIMIT: usize = 1024;

/// Finds the HTTP status of a failed API call, in the error's data or in a text like "API error
/// 529".
pub(super) fn api_status(error: &Value) -> Option<u16> {
    let fields = [&error["data"]["statusCode"], &error["data"]["status"], &error["data"]["code"]];
    let in_data = fields.into_iter().find_map(Value::as_u64).filter(is_failure);
    let message = format!("{} {}", text(error, "message"), text(&error["data"], "details"));
    in_data.and_then(|status| u16::try_from(status).ok()).or_else(|| status_in(&message))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "a filter passes a reference")]
const fn is_failure(status: &u64) -> bool {
    *status >= 400 && *status < 600
}

fn status_in(message: &str) -> Option<u16> {
    message
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| digits.len() == 3)
        .find_map(|digits| digits.parse::<u64>().ok().filter(is_failure))
        .and_then(|status| u16::try_from(status).ok())
}

/// The failure that an agent tells in words, as copilot and codex-acp do: a turn that did nothing,
/// told no tokens, and said that there was an error.
pub(super) fn in_words(said: &str) -> Option<TurnEnd> {
    let words = said.trim_start_matches(|c: char| !c.is_alphanumeric());
    let beginning: String = words.chars().take(160).collect::<String>().to_lowercase();
    let opens =
        ["error", "api error", "request failed", "execution failed", "failed to get response"];
    let tells = opens.iter().any(|open| beginning.starts_with(open))
        || beginning.contains("error") && status_in(&beginning).is_some()
        // The body of the API's answer, as it came.
        || said.trim_start().starts_with('{') && beginning.contains("\"error\"");
    tells.then(|| TurnEnd::ApiError { status: status_in(words), why: bounded(words.trim()) })
}

/// The failure that copilot tells with its last piece of text, whatever the turn did before.
pub(super) fn in_last_words(last: &str) -> Option<TurnEnd> {
    let words = last.trim_start_matches(|c: char| !c.is_alphanumeric());
    let is_failure =
        words.to_lowercase().starts_with("error: failed to get response from the ai model");
    is_failure.then(|| TurnEnd::ApiError { status: status_in(words), why: bounded(words.trim()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_in_words_has_its_status() {
        for (said, status) in [
            ("Error: 400 model not found", Some(Some(400))),
            ("✗ API Error 529: overloaded", Some(Some(529))),
            ("unexpected status 401 Unauthorized: error in the key", Some(Some(401))),
            ("Error: the stream ended", Some(None)),
            (r#"{"type":"error","error":{"type":"overloaded","message":"x"}}"#, Some(None)),
            (r#"{"error":{"code":429,"message":"slow down"}}"#, Some(Some(429))),
            (r#"{"answer": "no error"}"#, None),
            ("I fixed the error handling in 3 files.", None),
            ("Done.", None),
            ("", None),
        ] {
            let found = in_words(said).map(|end| match end {
                TurnEnd::ApiError { status, .. } => status,
                other => panic!("{other:?}"),
            });
            assert_eq!(found, status, "{said}");
        }
    }
}
