//! Secrets are taken out of what agents print before it reaches the disk or a screen: known
//! values, and shapes that only keys have.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use regex::Regex;

use crate::core::model::agent_event::AgentEvent;
use crate::core::model::untrusted::Untrusted;

/// What stands in a secret's place.
const GONE: &str = "[redacted]";
/// A value that is shorter would take harmless words with it.
const SHORTEST: usize = 8;

/// Shapes of keys, from their makers' pages: Anthropic and `OpenAI`, GitHub, GitLab, AWS, Google,
/// Slack, npm, Vault, JSON web tokens, private key blocks, and passwords in addresses.
static SHAPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let shapes = [
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
    // They are constant; a test reads them all.
    Regex::new(&shapes.join("|")).ok()
});

/// Takes secrets out. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    values: Arc<Vec<String>>,
}

impl Redactor {
    /// Knows these values beside the shapes; each line of a longer one as well.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = values
            .into_iter()
            .flat_map(|value| {
                let lines: Vec<String> = value.lines().map(|l| l.trim().to_owned()).collect();
                lines.into_iter().chain([value.trim().to_owned()])
            })
            .filter(|value| value.len() >= SHORTEST)
            .collect();
        // The longest first, so that a part of a value does not leave the rest.
        all.sort_by_key(|value| std::cmp::Reverse(value.len()));
        all.dedup();
        Self { values: Arc::new(all) }
    }

    /// The text without secrets.
    #[must_use]
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for value in self.values.iter() {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), GONE));
            }
        }
        match SHAPES.as_ref() {
            Some(shapes) if shapes.is_match(&text) => {
                let clean = shapes.replace_all(&text, |found: &regex::Captures<'_>| {
                    if found[0].starts_with("://") {
                        format!("://{GONE}@")
                    } else {
                        GONE.to_owned()
                    }
                });
                Cow::Owned(clean.into_owned())
            }
            _ => text,
        }
    }

    /// A text of an event without secrets.
    pub fn text(&self, text: &mut Untrusted) {
        if let Cow::Owned(clean) = self.clean(text.as_received()) {
            *text = Untrusted::new(clean);
        }
    }

    /// An event without secrets.
    pub fn event(&self, event: &mut AgentEvent) {
        event.texts(&mut |text| self.text(text));
    }
}

/// Whether an environment name says that its value is secret.
#[must_use]
pub fn names_a_secret(name: &str) -> bool {
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"]
        .iter()
        .any(|word| name.to_ascii_uppercase().contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_by_value_and_by_shape() {
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
        assert!(SHAPES.is_some());
    }

    #[test]
    fn every_text_of_an_event_is_cleaned() {
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
    fn secrets_are_known_by_their_names() {
        assert!(
            ["API_KEY", "gh_token", "X_SECRET", "DB_PASSWORD"].iter().all(|n| names_a_secret(n))
        );
        assert!(!["PATH", "HOME", "LANG"].iter().any(|n| names_a_secret(n)));
    }
}
