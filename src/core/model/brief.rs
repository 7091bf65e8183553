//! The version of an issue that a run works on. A tracker's text can change at any time, and not
//! only by people who may arm an issue; so a claim keeps the version that was judged, and every
//! turn and the gate use that one.
//!
//! ```text
//! claim, a trusted edit ─▶ Event::Briefed (the digest) ─▶ Run::issue.brief ─▶ prompt, gate
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::gate_report::ChangeClass;
use crate::model::issue::Issue;
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// The lines that a difference shows of each side at most.
const SHOWN: usize = 80;

/// The parts of an issue that a run obeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// The title in one line.
    pub title: Untrusted,
    /// The text, which becomes the prompt.
    pub body: Untrusted,
    /// The class of the work, which decides the proof that the gate asks for.
    pub class: ChangeClass,
}

impl Brief {
    /// The parts of an issue as its tracker reports it.
    #[must_use]
    pub fn of(issue: &Issue) -> Self {
        Self { title: issue.title.clone(), body: issue.body.clone(), class: issue.class }
    }

    /// The digest of all parts, by which the journal names the version.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let class = self.class.as_str();
        let text = |text: &Untrusted| text.as_received().as_bytes().to_vec();
        Digest::of(&[&text(&self.title), &text(&self.body), class.as_bytes()])
    }

    /// The difference to another version by lines, as `diff` marks them. Lines that both begin or
    /// end with are left out.
    #[must_use]
    pub fn difference(&self, other: &Self) -> String {
        let mut out = String::new();
        if self.title != other.title {
            out.push_str(&format!(
                "-title: {}\n+title: {}\n",
                self.title.clean_line(),
                other.title.clean_line()
            ));
        }
        if self.class != other.class {
            let (was, is) = (self.class.as_str(), other.class.as_str());
            out.push_str(&format!("-class: {was}\n+class: {is}\n"));
        }
        let (was, is) = (self.body.revealed(), other.body.revealed());
        let (was, is): (Vec<&str>, Vec<&str>) = (was.lines().collect(), is.lines().collect());
        let alike = was.iter().zip(&is).take_while(|(a, b)| a == b).count();
        let (was, is) = (&was[alike..], &is[alike..]);
        let tail = was.iter().rev().zip(is.iter().rev()).take_while(|(a, b)| a == b).count();
        for (mark, lines) in [('-', &was[..was.len() - tail]), ('+', &is[..is.len() - tail])] {
            for line in lines.iter().take(SHOWN) {
                out.push_str(&format!("{mark}{line}\n"));
            }
            if lines.len() > SHOWN {
                out.push_str(&format!("{mark}… {} more lines\n", lines.len() - SHOWN));
            }
        }
        out
    }
}

/// An edit of an issue whose editor its tracker does not name yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnjudgedEdit {
    /// The digest of the edited version.
    pub digest: Digest,
    /// The time from which the push waits.
    pub since: Timestamp,
}

/// What a run knows of its issue, beside the key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunIssue {
    /// The version that the run works on. Records from before this field have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brief: Option<Arc<Brief>>,
    /// The first turn that gets an edit of the issue which came after the first turn began; none
    /// once a turn with it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_for: Option<u32>,
    /// The version that the run does not work on, because its editor may not arm issues, or because
    /// it came after the push. afk asks about each such version once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declined: Option<Digest>,
    /// The edit whose editor the push waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unjudged: Option<UnjudgedEdit>,
    /// Why its tracker no longer asks for the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// Whether an operator reopened it although its issue was closed or not armed, so that this
    /// state of the issue doesn't end it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub detached: bool,
}

impl RunIssue {
    /// Replaces the version. `turns` is the number of turns that have begun with the one before.
    pub(crate) fn take(&mut self, brief: Brief, turns: u32) {
        if self.brief.is_some() && turns > 0 {
            self.edited_for = Some(turns + 1);
        }
        self.brief = Some(Arc::new(brief));
        self.declined = None;
    }

    /// Whether the turn with this number must be shown the edited version.
    #[must_use]
    pub fn shows_edit(&self, turn: u32) -> bool {
        self.edited_for.is_some_and(|first| turn >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(body: &str) -> Brief {
        Brief { title: "t".into(), body: body.into(), class: ChangeClass::default() }
    }

    #[test]
    fn difference_shows_changed_lines_of_both_versions() {
        let (old, new) = (brief("a\nb\nc\nd"), brief("a\nx\ny\nd"));
        assert_eq!(old.difference(&new), "-b\n-c\n+x\n+y\n");
        assert_eq!(old.difference(&old), "");
        let renamed = Brief { title: "u\u{1b}[2J".into(), ..brief("a\nb\nc\nd\ne") };
        assert_eq!(old.difference(&renamed), "-title: t\n+title: u\n+e\n");
        let class = Brief { class: ChangeClass::NoTest, ..old.clone() };
        assert!(old.difference(&class).contains("+class: no-test\n"));
        let hidden = brief("a\nb\u{202e}\nc\nd");
        assert!(old.difference(&hidden).contains("+b\\u{202e}\n"), "it hides nothing");
        let long = brief(&"z\n".repeat(500));
        assert!(old.difference(&long).lines().count() < 100);
    }

    #[test]
    fn digest_differs_for_each_part() {
        let old = brief("a");
        let title = Brief { title: "u".into(), ..old.clone() };
        let class = Brief { class: ChangeClass::NoTest, ..old.clone() };
        let all = [old.digest(), title.digest(), class.digest(), brief("b").digest()];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), 4);
    }

    #[test]
    fn edit_is_shown_from_the_next_turn_on() {
        let mut issue = RunIssue::default();
        issue.take(brief("a"), 0);
        assert!(!issue.shows_edit(1));
        issue.take(brief("b"), 2);
        assert!(!issue.shows_edit(2) && issue.shows_edit(3) && issue.shows_edit(4));
    }
}
