//! The filter of the queue: words that a row must have, and `repo:`, `label:`, `state:`, `by:` and
//! `blocked-by:` for one field.

use super::columns::RowText;
use super::rows::Row;

/// The words that ask for one field, for people.
pub(super) const FIELDS: &str =
    "Words, and repo:api label:bug state:held by:ana blocked-by:api#7; all of them count.";

/// The typed filter, in lower case.
#[derive(Debug, Default)]
pub(super) struct Filter {
    text: String,
    words: Vec<String>,
}

impl Filter {
    pub(super) fn new(text: &str) -> Self {
        let words = text.split_whitespace().map(str::to_lowercase).collect();
        Self { text: text.trim().to_owned(), words }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a row has every word. `text` is made for the rows that are asked about, `why` says in one
    /// or two words why the row is held.
    pub(super) fn takes(&self, row: &Row, why: &str, text: impl FnOnce() -> RowText) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let RowText { key, title, reason, actor, labels, blockers, .. } = text();
        let section = row.section.title().to_lowercase();
        let (key, actor, reason) =
            (key.to_lowercase(), actor.to_lowercase(), reason.to_lowercase());
        let all = format!("{key} {} {reason} {section}", title.to_lowercase());
        let one_of = |names: &[String], part: &str| {
            names.iter().any(|name| name.to_lowercase().contains(part))
        };
        self.words.iter().all(|word| match word.split_once(':') {
            Some(("repo", part)) => key.split('#').next().unwrap_or_default().contains(part),
            Some(("label", part)) => one_of(&labels, part),
            Some(("state", part)) => {
                section.contains(part) || reason.starts_with(part) || why.starts_with(part)
            }
            Some(("by", part)) => actor.contains(part),
            Some(("blocked-by", part)) => blockers.iter().any(|name| waits_for(name, part)),
            _ => all.contains(word.as_str()),
        })
    }
}

/// Whether a blocker is the one that was typed: a number or an id must be whole, so that `#1` isn't
/// `#12`.
fn waits_for(blocker: &str, typed: &str) -> bool {
    let blocker = blocker.to_lowercase();
    if typed.contains('#') || typed.starts_with('r') && typed[1..].parse::<u64>().is_ok() {
        return blocker == typed
            || (blocker.contains('#')
                && blocker
                    .strip_suffix(typed)
                    .is_some_and(|rest| rest.ends_with('/') || typed.starts_with('#')));
    }
    blocker.contains(typed)
}

#[cfg(test)]
mod tests {
    use super::waits_for;

    #[test]
    fn blocker_is_named_by_its_whole_number() {
        for typed in ["#7", "api#7", "acme/api#7", "api", ""] {
            assert!(waits_for("Acme/api#7", typed), "{typed}");
        }
        for typed in ["#17", "#", "pi#7", "r7", "web"] {
            assert!(!waits_for("acme/api#7", typed), "{typed}");
        }
        assert!(waits_for("r12", "r12") && !waits_for("r12", "r1"));
    }
}
