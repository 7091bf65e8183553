//! Removes secrets from the output of agents before it reaches a disk or a screen.
//!
//! Two rules apply: the values of configured secrets, and patterns that only keys match. The turn
//! loop redacts every event, and the recorder every line.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use regex::Regex;

use crate::core::model::agent_event::AgentEvent;
use crate::core::model::untrusted::Untrusted;

/// Replaces a secret.
const REDACTED: &str = "[redacted]";
/// The shortest value to redact, in bytes; a shorter one would match harmless words.
const MIN_LENGTH: usize = 8;

/// Patterns of keys, as documented by their issuers: Anthropic and `OpenAI`, GitHub, GitLab, AWS,
/// Google, Slack, npm, Vault, JSON web tokens, private key blocks, and passwords in addresses.
static KEY_PATTERNS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let patterns = [
        r"sk-[A-Za-z0-9_-]{16,}",
        r"gh[pousr]_[A-Za-z0-9]{20,}",
        r"github_pat_[A-Za-z0-9_]{20,}",
        r"glpat-[A-Za-z0-9_-]{16,}",
        r"(?:AKIA|ASIA)[A-Z0-9]{16}",
        r"AIza[A-Za-z0-9_-]{30,}",
        r"xox[abprs]-[A-Za-z0-9-]{10,}",
        r"npm_[A-Za-z0-9]{30,}",
        r"hv[sbr]\.[A-Za-z0-9_-]{20,}",
        r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
        r"://[^/\s:@]{1,64}:[^/\s@]{3,}@",
    ];
    // The patterns are constant, and a test compiles them.
    Regex::new(&patterns.join("|")).ok()
});

/// Replaces secrets in texts and events. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    values: Arc<Vec<String>>,
}

impl Redactor {
    /// Redacts these values, each of their lines, and everything that matches a key pattern.
    #[must_use]
    pub(crate) fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = values
            .into_iter()
            .flat_map(|value| {
                let lines: Vec<String> = value.lines().map(|l| l.trim().to_owned()).collect();
                lines.into_iter().chain([value.trim().to_owned()])
            })
            .filter(|value| value.len() >= MIN_LENGTH)
            .collect();
        // Replace the longest first: replacing a part of a value first would leave the rest.
        all.sort_by_key(|value| std::cmp::Reverse(value.len()));
        all.dedup();
        Self { values: Arc::new(all) }
    }

    /// Returns the text without secrets; borrowed if there are none.
    #[must_use]
    pub(crate) fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for value in self.values.iter() {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), REDACTED));
            }
        }
        match KEY_PATTERNS.as_ref() {
            Some(patterns) if patterns.is_match(&text) => {
                let clean = patterns.replace_all(&text, |found: &regex::Captures<'_>| {
                    if found[0].starts_with("://") {
                        format!("://{REDACTED}@")
                    } else {
                        REDACTED.to_owned()
                    }
                });
                Cow::Owned(clean.into_owned())
            }
            _ => text,
        }
    }

    /// Replaces the secrets in a text of an agent.
    pub(crate) fn text(&self, text: &mut Untrusted) {
        if let Cow::Owned(clean) = self.clean(text.as_received()) {
            *text = Untrusted::new(clean);
        }
    }

    /// Replaces the secrets in all texts of an event.
    pub(crate) fn event(&self, event: &mut AgentEvent) {
        event.texts(&mut |text| self.text(text));
    }
}

/// Whether the name of an environment variable suggests that its value is secret.
#[must_use]
pub(crate) fn names_a_secret(name: &str) -> bool {
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"]
        .iter()
        .any(|word| name.to_ascii_uppercase().contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_removes_known_values_and_key_patterns() {
        let redactor = Redactor::new(["hunter2-hunter2".to_owned(), "a".to_owned()]);
        for (text, clean) in [
            ("the key is hunter2-hunter2.", "the key is [redacted]."),
            ("sk-ant-api03-AAAAAAAAAAAAAAAAAAAA!", "[redacted]!"),
            ("token ghp_0123456789abcdefghijABCDEFGHIJ", "token [redacted]"),
            ("https://ana:s3cret@git.example/x", "https://[redacted]@git.example/x"),
            ("AKIAABCDEFGHIJKLMNOP", "[redacted]"),
            (
                "x-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----y",
                "x[redacted]y",
            ),
            (
                "nothing in a sk-short one, and a task-list",
                "nothing in a sk-short one, and a task-list",
            ),
        ] {
            assert_eq!(redactor.clean(text), clean);
        }
        assert!(KEY_PATTERNS.is_some());
    }

    #[test]
    fn event_redacts_every_text() {
        let redactor = Redactor::new(["topsecret".to_owned()]);
        let secret = || Untrusted::from("a topsecret b");
        let mut event = AgentEvent::ToolEnd {
            id: "1".into(),
            title: secret(),
            ok: true,
            code: None,
            output: secret(),
        };
        redactor.event(&mut event);
        assert!(!format!("{event:?}").contains("topsecret"));
    }

    #[test]
    fn names_a_secret_matches_common_names() {
        assert!(
            ["API_KEY", "gh_token", "X_SECRET", "DB_PASSWORD"].iter().all(|n| names_a_secret(n))
        );
        assert!(!["PATH", "HOME", "LANG"].iter().any(|n| names_a_secret(n)));
    }
}
