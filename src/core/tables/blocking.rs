//! Decision table T2: the issues that block another one, and the parser for the references in an
//! issue's text. Called by the GitHub tracker.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::id::{IssueKey, Repo};
use crate::model::issue::{Blocker, BlockerState};

/// The state of a blocking issue, as its tracker reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockerStanding {
    /// Open, and not yet done.
    Open,
    /// Closed as completed, or without a reason.
    Completed,
    /// Closed as not planned.
    NotPlanned,
    /// Status 404 or 403: the token can't read it.
    Unreadable,
}

/// Applies the table to one issue. `edges` holds the blockers of each open issue, as far as they
/// are known, and `found` the state of each blocker. With `not_planned_blocks`, an issue closed as
/// not planned still blocks.
#[must_use]
pub fn blockers(
    issue: &IssueKey,
    edges: &BTreeMap<IssueKey, BTreeSet<IssueKey>>,
    found: &BTreeMap<IssueKey, BlockerStanding>,
    not_planned_blocks: bool,
) -> Vec<Blocker> {
    let none = BTreeSet::new();
    let state = |blocker: &IssueKey| match found.get(blocker) {
        _ if blocker == issue => BlockerState::Cycle,
        None | Some(BlockerStanding::Unreadable) => BlockerState::Unreadable,
        Some(BlockerStanding::Completed) => BlockerState::Closed,
        Some(BlockerStanding::NotPlanned) if !not_planned_blocks => BlockerState::Closed,
        Some(BlockerStanding::NotPlanned) => BlockerState::Open,
        Some(BlockerStanding::Open) if leads_to(blocker, issue, edges, found) => {
            BlockerState::Cycle
        }
        Some(BlockerStanding::Open) => BlockerState::Open,
    };
    let name = |blocker: &IssueKey| {
        if blocker.repo == issue.repo {
            format!("#{}", blocker.number)
        } else {
            blocker.to_string()
        }
    };
    let of = edges.get(issue).unwrap_or(&none).iter();
    of.map(|blocker| Blocker { reference: name(blocker).into(), state: state(blocker) }).collect()
}

/// Whether `from` waits for `to`, directly or through other open issues.
fn leads_to(
    from: &IssueKey,
    to: &IssueKey,
    edges: &BTreeMap<IssueKey, BTreeSet<IssueKey>>,
    found: &BTreeMap<IssueKey, BlockerStanding>,
) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(at) = next.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) && (at == from || found.get(at) == Some(&BlockerStanding::Open)) {
            next.extend(edges.get(at).into_iter().flatten());
        }
    }
    false
}

/// The phrases that turn the following references into blockers.
const PHRASES: [&str; 4] = ["blocked by", "depends on", "blocked-by", "depends-on"];

/// The issues that a text names as its blockers: `Blocked by #3, acme/lib#4` or `Depends on` with
/// an address; also as a list under such a line. Code and HTML comments are ignored.
#[must_use]
pub fn references(text: &str, repo: &Repo) -> BTreeSet<IssueKey> {
    let text = without_code(text);
    let mut found = BTreeSet::new();
    let mut in_list = false;
    for line in text.lines() {
        let lower = line.to_ascii_lowercase();
        let said = PHRASES.iter().filter_map(|p| lower.find(p).map(|at| at + p.len())).min();
        let is_item = line.trim_start().starts_with(['-', '*', '+']);
        let rest = match said {
            Some(at) => &line[at..],
            None if in_list && is_item => line,
            None => {
                in_list = in_list && line.trim().is_empty();
                continue;
            }
        };
        let before = found.len();
        found.extend(named(rest, repo));
        in_list = (said.is_some() && found.len() == before) || (said.is_none() && in_list);
    }
    found
}

/// The references at the start of a text, separated by commas or "and".
fn named(text: &str, repo: &Repo) -> Vec<IssueKey> {
    let mut keys = Vec::new();
    for word in text.split([' ', ',', '\t', ';']) {
        let word = word.trim_matches(|c: char| "()[]*_.:".contains(c));
        let skipped = ["", "-", "+", "and", "[", "x", "&"];
        if skipped.contains(&word.to_ascii_lowercase().as_str()) {
            continue;
        }
        match reference(word, repo) {
            Some(key) => keys.push(key),
            None => break,
        }
    }
    keys
}

fn reference(word: &str, repo: &Repo) -> Option<IssueKey> {
    if let Some(number) = word.strip_prefix('#') {
        return IssueKey::parse(&format!("{repo}#{number}")).ok();
    }
    if let Some((_, path)) = word.split_once("://") {
        let parts: Vec<&str> = path.split('/').collect();
        return match parts.as_slice() {
            [_, owner, name, "issues", number, ..] => {
                let number = number.split(['#', '?']).next().unwrap_or_default();
                IssueKey::parse(&format!("{owner}/{name}#{number}")).ok()
            }
            _ => None,
        };
    }
    IssueKey::parse(word).ok()
}

/// The text without code blocks, code spans and HTML comments.
fn without_code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("<!--") {
        out.push_str(&rest[..at]);
        rest = rest[at..].find("-->").map_or("", |end| &rest[at + end + 3..]);
    }
    out.push_str(rest);
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in out.lines() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced {
            lines.push(line.split('`').step_by(2).collect::<Vec<_>>().join(" "));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> IssueKey {
        let text =
            if text.starts_with('#') { format!("acme/widget{text}") } else { text.to_owned() };
        IssueKey::parse(&text).unwrap()
    }

    fn named_in(text: &str) -> Vec<String> {
        let repo = Repo::parse("acme/widget").unwrap();
        references(text, &repo).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn references_ignore_code_comments_and_prose() {
        for (text, keys) in [
            ("Blocked by #3", vec!["acme/widget#3"]),
            (
                "blocked by: #3, #4 and acme/lib#5.",
                vec!["acme/lib#5", "acme/widget#3", "acme/widget#4"],
            ),
            ("Depends on https://github.com/acme/lib/issues/7#issuecomment-1", vec!["acme/lib#7"]),
            ("## Blocked by\n\n- #3\n- [ ] #4\n\nSee #9", vec!["acme/widget#3", "acme/widget#4"]),
            ("**Blocked by** #3", vec!["acme/widget#3"]),
            ("`blocked by #3`", vec![]),
            ("```\nblocked by #3\n```", vec![]),
            ("<!-- blocked by #3 -->", vec![]),
            ("See #3. It is blocked by the weather, #4", vec![]),
            ("Refs #3", vec![]),
            ("blocked by #0", vec![]),
        ] {
            assert_eq!(named_in(text), keys, "{text:?}");
        }
    }

    fn states(
        edges: &[(&str, &[&str])],
        found: &[(&str, BlockerStanding)],
        option: bool,
    ) -> Vec<(String, BlockerState)> {
        let edges = edges.iter().map(|(a, to)| (key(a), to.iter().map(|t| key(t)).collect()));
        let found = found.iter().map(|(a, f)| (key(a), *f)).collect();
        let all = blockers(&key("#1"), &edges.collect(), &found, option);
        all.into_iter().map(|b| (b.reference.as_received().to_owned(), b.state)).collect()
    }

    #[test]
    fn blockers_follow_every_row() {
        use BlockerState::{Closed, Cycle, Open, Unreadable};
        let one = |found, option| states(&[("#1", &["#2"])], &[("#2", found)], option)[0].1;
        assert_eq!(one(BlockerStanding::Open, false), Open);
        assert_eq!(one(BlockerStanding::Completed, false), Closed);
        assert_eq!(one(BlockerStanding::NotPlanned, false), Closed);
        assert_eq!(one(BlockerStanding::NotPlanned, true), Open);
        assert_eq!(one(BlockerStanding::Unreadable, false), Unreadable);
        assert_eq!(states(&[("#1", &["#2"])], &[], false)[0].1, Unreadable, "never looked at");
        assert_eq!(states(&[("#1", &["#1"])], &[], false)[0].1, Cycle, "itself");
        let edges: &[(&str, &[&str])] =
            &[("#1", &["#2", "x/y#5"]), ("#2", &["#3"]), ("#3", &["#1"])];
        let open = [
            ("#2", BlockerStanding::Open),
            ("#3", BlockerStanding::Open),
            ("x/y#5", BlockerStanding::Open),
        ];
        let found = states(edges, &open, false);
        assert_eq!(found, [("#2".into(), Cycle), ("x/y#5".into(), Open)]);
        // With one of them done, there is no cycle.
        let open = [
            ("#2", BlockerStanding::Open),
            ("#3", BlockerStanding::Completed),
            ("x/y#5", BlockerStanding::Open),
        ];
        assert_eq!(states(edges, &open, false)[0].1, Open);
        assert_eq!(states(&[], &[], false), []);
    }
}
