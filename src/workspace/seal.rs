//! Seals a run before the gate: adds trailers with the issue and the run to every commit of the run,
//! once these are in the base clone.

use std::path::Path;
use std::sync::LazyLock;

use git2::{Oid, Repository, Sort};
use regex::Regex;

use super::WorkspaceError;
use crate::core::model::id::{IssueKey, RunId, Sha};

/// Rewrites the commits of `head` that `upstream` lacks so that each has the trailers, and returns
/// the new head. All of them are in the base clone `base`. Trees, authors and dates stay, so neither
/// the workspace's files nor its index change.
pub(crate) fn add_trailers(
    base: &Path,
    upstream: &Sha,
    head: &Sha,
    issue: &IssueKey,
    run: RunId,
) -> Result<Sha, WorkspaceError> {
    let repo = Repository::open_bare(base)?;
    let (head, upstream) = (Oid::from_str(&head.0)?, Oid::from_str(&upstream.0)?);
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
    walk.push(head)?;
    walk.hide(upstream)?;
    let trailers = [format!("Refs #{}", issue.number), format!("Afk-Run: {run}")];
    let mut rewritten: std::collections::HashMap<Oid, Oid> = std::collections::HashMap::new();
    let mut newest = head;
    for id in walk {
        let id = id?;
        let commit = repo.find_commit(id)?;
        let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
        let parents: Vec<Oid> =
            commit.parent_ids().map(|id| rewritten.get(&id).copied().unwrap_or(id)).collect();
        let sealed = with_trailers(&without_closing(&message), &trailers);
        let unchanged = sealed == message && parents.iter().copied().eq(commit.parent_ids());
        let new = if unchanged {
            id
        } else {
            let parents =
                parents.iter().map(|id| repo.find_commit(*id)).collect::<Result<Vec<_>, _>>()?;
            let parents: Vec<_> = parents.iter().collect();
            let tree = commit.tree()?;
            repo.commit(None, &commit.author(), &commit.committer(), &sealed, &tree, &parents)?
        };
        rewritten.insert(id, new);
        if id == head {
            newest = new;
        }
    }
    Ok(Sha(newest.to_string()))
}

/// The words that make GitHub close an issue at the push, before CI has run, with the reference
/// after them.
static CLOSING: LazyLock<Result<Regex, regex::Error>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b:?\s+((?:[\w.-]+/[\w.-]+)?#\d+|https?://\S+/issues/\d+)",
    )
});

/// Replaces the words that would close an issue by `Refs`.
fn without_closing(message: &str) -> String {
    match &*CLOSING {
        Ok(closing) => closing.replace_all(message, "Refs $1").into_owned(),
        Err(_) => message.to_owned(),
    }
}

/// Adds the missing trailers after a blank line. A line of prose is no trailer, so `Refs #7` in the
/// text does not count.
fn with_trailers(message: &str, trailers: &[String]) -> String {
    let body = message.trim_end();
    let last = body.rsplit("\n\n").next().unwrap_or_default();
    let is_trailer = |line: &str| line.contains(": ") || line.starts_with("Refs #");
    let has_block = last.len() < body.len() && last.lines().all(is_trailer);
    let missing: Vec<&str> = trailers
        .iter()
        .map(String::as_str)
        .filter(|trailer| !(has_block && last.lines().any(|line| line == *trailer)))
        .collect();
    if missing.is_empty() {
        return message.to_owned();
    }
    let gap = if has_block { "\n" } else { "\n\n" };
    format!("{body}{gap}{}\n", missing.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_closing_replaces_words_that_close_issues() {
        for (message, sealed) in [
            ("Fix #3: it", "Refs #3: it"),
            ("Do it\n\nCloses: acme/web#12, resolves #4.", "Do it\n\nRefs acme/web#12, Refs #4."),
            ("fixes https://github.com/a/b/issues/7", "Refs https://github.com/a/b/issues/7"),
            ("Fix the door; see #3", "Fix the door; see #3"),
            ("Disclose #3", "Disclose #3"),
        ] {
            assert_eq!(without_closing(message), sealed);
        }
    }

    #[test]
    fn with_trailers_adds_missing_trailers_once() {
        let trailers = ["Refs #7".to_owned(), "Afk-Run: r3".to_owned()];
        for (message, sealed) in [
            ("Do it\n", "Do it\n\nRefs #7\nAfk-Run: r3\n"),
            (
                "Do it\n\nWhy: because\nof Refs #7\n",
                "Do it\n\nWhy: because\nof Refs #7\n\nRefs #7\nAfk-Run: r3\n",
            ),
            ("Do it\n\nSigned-off-by: A\n", "Do it\n\nSigned-off-by: A\nRefs #7\nAfk-Run: r3\n"),
            ("Do it\n\nRefs #7\n", "Do it\n\nRefs #7\nAfk-Run: r3\n"),
        ] {
            assert_eq!(with_trailers(message, &trailers), sealed);
            assert_eq!(with_trailers(sealed, &trailers), sealed);
        }
    }
}
