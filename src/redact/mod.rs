//! Keeps secrets out of everything that afk stores, shows and sends.
//!
//! ```text
//!  secrets, github, cluster, http ─ remember ─┐
//!  runtime (environment, key files) ──────────┴▶ the values of this process
//!                                                        │ forms: base64, hex, percent, JSON
//!    events, lines, logs, reports, comments ─▶ Redactor ◀┘ shapes: patterns of keys
//!                                                 ├▶ clean     a whole text
//!                                                 ├▶ stream    output in chunks (`stream`)
//!                                                 ├▶ pieces    texts that belong together (`split`)
//!                                                 └▶ revealed  what a push must not have
//! ```
//!
//! The set of values belongs to the process: a secret is one wherever it was read and wherever it
//! turns up, and a part of afk that was handed no set could leak without anybody noticing.

mod address;
mod forms;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod needles;
mod shapes;
mod split;
mod stream;
mod writer;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex};

use crate::core::model::agent_event::AgentEvent;
use crate::core::model::input::RunFact;
use crate::core::model::untrusted::Untrusted;
use crate::lock::LockExt;
pub(crate) use address::without_credentials;
use needles::{Certainty, Needles};
pub(crate) use split::{Split, SplitGuard};
pub(crate) use stream::StreamRedactor;
pub(crate) use writer::RedactingWriter;

/// Replaces a secret.
const REDACTED: &str = "[redacted]";
/// The most values that are remembered; more than any configuration names.
const MOST_VALUES: usize = 4096;
/// The most tokens that are remembered of those that expire by themselves.
const MOST_TOKENS: usize = 64;
/// Marks a text that `bounded` of `agent` has cut.
const CUT_MARK: &str = "\n… afk cut ";

/// The values that this process knows, and their forms.
#[derive(Default)]
struct Known {
    values: Vec<(String, Certainty)>,
    /// Values that expire, the latest last.
    tokens: VecDeque<String>,
    /// None until somebody asks, after a change.
    compiled: Option<Arc<Needles>>,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Redacts a value everywhere from now on. Values of fewer than eight bytes are ignored: they would
/// match harmless words.
pub(crate) fn remember(value: &str) {
    add(value, Certainty::Secret);
}

/// Like [`remember`], for a value of which only its name suggests that it is a secret. The path of
/// a file that exists is none. A value that may be a word is redacted and keeps no commit from being
/// pushed.
pub(crate) fn remember_likely(value: &str) {
    if !(value.starts_with('/') && std::path::Path::new(value).exists()) {
        add(value, if looks_random(value) { Certainty::Likely } else { Certainty::Named });
    }
}

/// Whether a value has the length and the characters of a generated key.
fn looks_random(value: &str) -> bool {
    value.len() >= 16
        && !value.contains(char::is_whitespace)
        && value.contains(|c: char| c.is_ascii_digit())
        && value.contains(|c: char| c.is_ascii_alphabetic())
}

/// Like [`remember`], for a value that expires within hours: only the latest are kept.
pub(crate) fn remember_token(value: &str) {
    let mut known = KNOWN.locked();
    if known.tokens.iter().any(|token| token == value) {
        return;
    }
    if known.tokens.len() == MOST_TOKENS {
        known.tokens.pop_front();
    }
    known.tokens.push_back(value.to_owned());
    known.compiled = None;
}

fn add(value: &str, certainty: Certainty) {
    let mut known = KNOWN.locked();
    match known.values.iter().position(|(value_before, _)| value_before == value) {
        Some(at) if known.values[at].1 >= certainty => return,
        Some(at) => known.values[at].1 = certainty,
        None if known.values.len() >= MOST_VALUES => {
            tracing::error!("too many secrets: the next one is not redacted");
            return;
        }
        None => known.values.push((value.to_owned(), certainty)),
    }
    known.compiled = None;
}

fn compiled() -> Arc<Needles> {
    let mut known = KNOWN.locked();
    if let Some(compiled) = &known.compiled {
        return compiled.clone();
    }
    let values = known.values.iter().map(|(value, certainty)| (value.as_str(), *certainty));
    let tokens = known.tokens.iter().map(|token| (token.as_str(), Certainty::Secret));
    let compiled = Arc::new(Needles::new(values.chain(tokens)));
    known.compiled = Some(compiled.clone());
    compiled
}

/// Replaces secrets. The default redacts the values of this process, with those that it learns
/// later. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    /// None for the values of this process.
    own: Option<Arc<Needles>>,
}

/// A secret in a text that is to leave this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revealed {
    pub range: Range<usize>,
    pub kind: RevealedKind,
}

/// Why a place counts as a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RevealedKind {
    /// It is a value that afk knows as a secret, in some form.
    Known,
    /// It is a value of afk's environment whose name suggests a secret, in some form.
    Likely,
    /// It has the shape of a key; the name has an article.
    Shape(&'static str),
}

impl Redactor {
    /// Redacts these values alone, and everything that has the shape of a key.
    #[cfg(any(test, fuzzing))]
    #[must_use]
    pub(crate) fn new(values: impl IntoIterator<Item = String>) -> Self {
        let values: Vec<String> = values.into_iter().collect();
        let values = values.iter().map(|value| (value.as_str(), Certainty::Secret));
        let needles = Needles::new(values);
        Self { own: Some(Arc::new(needles)) }
    }

    fn needles(&self) -> Arc<Needles> {
        self.own.clone().unwrap_or_else(compiled)
    }

    /// Returns the bytes without secrets; borrowed if there are none.
    #[must_use]
    pub(crate) fn clean_bytes<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let mut places: Vec<_> =
            self.needles().find(text).into_iter().map(|found| found.range).collect();
        places.extend(shapes::wide(text));
        replaced(text, places)
    }

    /// Returns the text without secrets; borrowed if there are none.
    #[must_use]
    pub(crate) fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.clean_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(clean) => Cow::Owned(String::from_utf8_lossy(&clean).into_owned()),
        }
    }

    /// Like [`Redactor::clean`], for a text that was cut at one end or both: half of a secret at an
    /// end is removed as well.
    #[must_use]
    pub(crate) fn clean_cut(&self, text: &str) -> String {
        let edges = self.needles().edges(text.as_bytes()).into_iter().flatten();
        let whole = replaced(text.as_bytes(), edges.collect());
        let clean = self.clean_bytes(&whole);
        String::from_utf8_lossy(&clean).into_owned()
    }

    /// Replaces the secrets in a text from outside.
    pub(crate) fn text(&self, text: &mut Untrusted) {
        let received = text.as_received();
        if let Some(at) = received.rfind(CUT_MARK) {
            let (head, mark) = received.split_at(at);
            *text = Untrusted::new(self.clean_cut(head) + &self.clean(mark));
        } else if let Cow::Owned(clean) = self.clean(received) {
            *text = Untrusted::new(clean);
        }
    }

    /// Replaces the secrets in all texts of an event, and known values in the ids of the agent.
    pub(crate) fn event(&self, event: &mut AgentEvent) {
        event.texts(&mut |text| self.text(text));
        // An id may look like a key, and a resumed conversation needs it.
        event.ids(&mut |id| {
            let places = self.needles().find(id.as_bytes());
            if !places.is_empty() {
                let places = places.into_iter().map(|found| found.range).collect();
                *id = String::from_utf8_lossy(&replaced(id.as_bytes(), places)).into_owned();
            }
        });
    }

    /// Replaces the secrets in a report to the core.
    pub(crate) fn fact(&self, fact: &mut RunFact) {
        match fact {
            RunFact::Agent(event) => self.event(event),
            other => other.texts(&mut |text| self.text(text)),
        }
    }

    /// Replaces secrets that only several consecutive texts together hold. Returns whether there
    /// were any.
    pub(crate) fn clean_pieces(&self, pieces: &mut [&mut String]) -> bool {
        let needles = self.needles();
        if needles.is_empty() || pieces.len() < 2 {
            return false;
        }
        let whole: String = pieces.iter().map(|piece| piece.as_str()).collect();
        let found = needles.find(whole.as_bytes());
        let mut begin = 0;
        for piece in pieces.iter_mut() {
            let end = begin + piece.len();
            let here = found.iter().filter(|f| f.range.start < end && f.range.end > begin);
            let here = here.map(|f| f.range.start.max(begin) - begin..f.range.end.min(end) - begin);
            if let Cow::Owned(clean) = replaced(piece.as_bytes(), here.collect()) {
                **piece = String::from_utf8_lossy(&clean).into_owned();
            }
            begin = end;
        }
        !found.is_empty()
    }

    /// Whether the end of a text, of at least four bytes, may be the beginning of a secret. Fewer
    /// bytes reveal nothing, and a wait for every letter would delay all texts.
    #[must_use]
    pub(crate) fn is_pending(&self, text: &str) -> bool {
        self.needles().pending(text.as_bytes(), 4).is_some()
    }

    /// The secrets in a text that is to leave this machine.
    #[must_use]
    pub(crate) fn revealed(&self, text: &[u8]) -> Vec<Revealed> {
        let known = self.needles().find(text).into_iter().filter_map(|found| {
            let kind = match found.certainty {
                Certainty::Secret => RevealedKind::Known,
                Certainty::Likely => RevealedKind::Likely,
                Certainty::Named => return None,
            };
            Some(Revealed { range: found.range, kind })
        });
        let mut all: Vec<Revealed> = known.collect();
        for (name, range) in shapes::strict(text) {
            let overlaps =
                |other: &Revealed| other.range.start < range.end && range.start < other.range.end;
            if !all.iter().any(overlaps) {
                all.push(Revealed { range, kind: RevealedKind::Shape(name) });
            }
        }
        all.sort_by_key(|revealed| revealed.range.start);
        all
    }
}

/// The names in an environment file (`NAME=value`) that have a value which looks like a secret, and
/// the places of these values.
pub(crate) fn assignments(text: &[u8]) -> Vec<(String, Range<usize>)> {
    shapes::assignments(text)
}

/// Whether the name of an environment variable suggests that its value is secret.
#[must_use]
pub(crate) fn names_a_secret(name: &str) -> bool {
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"]
        .iter()
        .any(|word| name.to_ascii_uppercase().contains(word))
}

/// The text with each place replaced; places may overlap.
fn replaced(text: &[u8], mut places: Vec<Range<usize>>) -> Cow<'_, [u8]> {
    if places.is_empty() {
        return Cow::Borrowed(text);
    }
    places.sort_unstable_by_key(|place| (place.start, place.end));
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    let mut last_end = None;
    for place in places {
        // A place that touches the one before belongs to the same secret.
        if last_end.is_none_or(|end| place.start > end) {
            out.extend_from_slice(&text[at..place.start]);
            out.extend_from_slice(REDACTED.as_bytes());
        }
        at = at.max(place.end);
        last_end = Some(at);
    }
    out.extend_from_slice(&text[at..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    fn redactor(value: &str) -> Redactor {
        Redactor::new([value.to_owned()])
    }

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
                "nothing in a sk-short one, and a task-list-of-many-letters",
                "nothing in a sk-short one, and a task-list-of-many-letters",
            ),
        ] {
            assert_eq!(redactor.clean(text), clean);
        }
    }

    #[test]
    fn clean_removes_every_form_also_across_line_breaks_and_colours() {
        let secret = "pa/ss \"wörd\" +1 of the operator, which is long enough to be wrapped twice";
        let redactor = redactor(secret);
        let base64 = STANDARD.encode(format!("user:{secret}\n"));
        let wrapped: Vec<&str> = [&base64[..40], &base64[40..76], &base64[76..]].to_vec();
        let (one, two) = secret.split_at(10);
        let hex = secret.bytes().map(|b| format!("{b:02X}")).collect::<Vec<_>>().concat();
        for text in [
            secret.to_owned(),
            serde_json::json!({ "a": secret }).to_string(),
            serde_json::json!({ "a": format!("{one}\n{two}") }).to_string(),
            URL_SAFE_NO_PAD.encode(secret),
            wrapped.join("\n"),
            wrapped.join("\r\n    "),
            hex,
            format!("{one}\n{two}"),
            format!("{one}\u{1b}[31;1m{two}\u{1b}[0m"),
            secret.bytes().map(|b| format!("%{b:02x}")).collect::<Vec<_>>().concat(),
        ] {
            let clean = redactor.clean(&text);
            let left = clean.replace(REDACTED, "");
            assert!(clean.contains(REDACTED) && left.len() < 32, "{text:?} became {clean:?}");
        }
    }

    #[test]
    fn secret_behind_an_unfinished_escape_sequence_is_removed() {
        let value = "kX9-Qv27LmZp40TrWs81";
        for text in [
            format!("a\u{1b}[{value}b"),
            format!("a\u{1b}[: {value}b"),
            format!("a\u{1b}[1;{}\n{}b", &value[..9], &value[9..]),
        ] {
            let clean = redactor(value).clean(&text).into_owned();
            assert!(clean.contains("[redacted]b") && !clean.contains("X9"), "{clean:?}");
        }
    }

    #[test]
    fn clean_cut_removes_half_a_secret_at_either_end() {
        let redactor = redactor("0123456789abcdefghij");
        assert_eq!(redactor.clean_cut("x 0123456789abcd"), "x [redacted]");
        assert_eq!(redactor.clean_cut("456789abcdefghij x"), "[redacted] x");
        assert_eq!(redactor.clean_cut("x 01234567"), "x 01234567");
        let mut text = Untrusted::new("x 0123456789abcd\n… afk cut 7 bytes here");
        redactor.text(&mut text);
        assert_eq!(text.as_received(), "x [redacted]\n… afk cut 7 bytes here");
    }

    #[test]
    fn event_redacts_every_text_and_known_values_in_ids() {
        let redactor = redactor("topsecret");
        let secret = || Untrusted::from("a topsecret b");
        for mut event in [
            AgentEvent::ToolEnd {
                id: "tool-topsecret".into(),
                title: secret(),
                ok: true,
                code: None,
                output: secret(),
            },
            AgentEvent::SessionStarted {
                session: "topsecret".into(),
                model: Some(secret()),
                version: None,
            },
        ] {
            redactor.event(&mut event);
            assert!(!format!("{event:?}").contains("topsecret"), "{event:?}");
        }
        let session = "sk-0123456789abcdef0123";
        let mut event =
            AgentEvent::SessionStarted { session: session.into(), model: None, version: None };
        redactor.event(&mut event);
        assert!(format!("{event:?}").contains(session), "the conversation can't be resumed");
    }

    #[test]
    fn remembered_values_are_redacted_from_then_on() {
        let value = "a-value-that-no-other-test-knows-1";
        let redactor = Redactor::default();
        assert_eq!(redactor.clean(value), value);
        remember(value);
        remember_token("a-token-that-no-other-test-knows-2");
        assert_eq!(redactor.clean(value), REDACTED);
        assert_eq!(redactor.clean("a-token-that-no-other-test-knows-2"), REDACTED);
        let file = std::env::current_exe().unwrap().display().to_string();
        remember_likely(&file);
        assert_eq!(redactor.clean(&file), file);
    }

    #[test]
    fn likely_values_are_redacted_and_only_random_ones_are_revealed() {
        remember_likely("name-of-the-project");
        remember_likely("q8Zr2LkP0vYtX3n5");
        let redactor = Redactor::default();
        let text = "name-of-the-project q8Zr2LkP0vYtX3n5";
        assert_eq!(redactor.clean(text), "[redacted] [redacted]");
        let kinds: Vec<RevealedKind> =
            redactor.revealed(text.as_bytes()).into_iter().map(|revealed| revealed.kind).collect();
        assert_eq!(kinds, [RevealedKind::Likely]);
    }

    #[test]
    fn revealed_tells_known_values_from_shapes() {
        let redactor = redactor("ghp_0123456789abcdefghijABCDEFGHIJ123456");
        let text = b"a ghp_0123456789abcdefghijABCDEFGHIJ123456 and npm_0123456789abcdefghijABCDEFGHIJ123456";
        let kinds: Vec<RevealedKind> =
            redactor.revealed(text).into_iter().map(|revealed| revealed.kind).collect();
        assert_eq!(kinds, [RevealedKind::Known, RevealedKind::Shape("an npm token")]);
    }

    #[test]
    fn names_a_secret_matches_common_names() {
        assert!(
            ["API_KEY", "gh_token", "X_SECRET", "DB_PASSWORD"].iter().all(|n| names_a_secret(n))
        );
        assert!(!["PATH", "HOME", "LANG"].iter().any(|n| names_a_secret(n)));
    }
}
