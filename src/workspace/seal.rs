//! Sealing a run's commits before the gate: what was left over is committed, and every commit of
//! the run gets the trailers that name its issue and run.

use std::path::Path;
use std::sync::LazyLock;

use git2::{Oid, Repository, Sort};
use regex::Regex;

use super::WorkspaceError;
use super::git::Git;
use crate::core::model::id::{IssueKey, RunId, Sha};

/// Commits what the agent left uncommitted, with the issue's title as the subject.
///
/// # Errors
/// [`WorkspaceError`].
pub async fn commit_leftovers(git: &Git, title: &str) -> Result<(), WorkspaceError> {
    if git.call(&["status", "--porcelain"]).await?.is_empty() {
        return Ok(());
    }
    git.call(&["add", "--all"]).await?;
    let env = git.identity().await?;
    let subject = if title.trim().is_empty() { "Work on the issue" } else { title };
    git.call_with(&["commit", "--quiet", "--no-verify", "-m", subject], env).await?;
    Ok(())
}

/// Writes the commits that are on `HEAD` and not on `upstream` anew with the trailers, where one
/// of them lacks them, and gives the head. Trees, authors and dates stay. Reads and writes with
/// git2; the worktree and its index are not touched, since no tree changes.
///
/// # Errors
/// [`WorkspaceError::Git2`].
pub fn add_trailers(
    worktree: &Path,
    upstream: &str,
    branch: &str,
    issue: &IssueKey,
    run: RunId,
) -> Result<Sha, WorkspaceError> {
    let repo = Repository::open(worktree)?;
    let head = repo.head()?.peel_to_commit()?.id();
    let upstream = repo.find_reference(upstream)?.peel_to_commit()?.id();
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
    walk.push(head)?;
    walk.hide(upstream)?;
    let trailers = [format!("Refs #{}", issue.number), format!("Afk-Run: {run}")];
    let mut renamed: std::collections::HashMap<Oid, Oid> = std::collections::HashMap::new();
    let mut newest = head;
    for id in walk {
        let id = id?;
        let commit = repo.find_commit(id)?;
        let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
        let parents: Vec<Oid> =
            commit.parent_ids().map(|id| renamed.get(&id).copied().unwrap_or(id)).collect();
        let sealed = with_trailers(&without_closing(&message), &trailers);
        let same = sealed == message && parents.iter().copied().eq(commit.parent_ids());
        let new = if same {
            id
        } else {
            let parents =
                parents.iter().map(|id| repo.find_commit(*id)).collect::<Result<Vec<_>, _>>()?;
            let parents: Vec<_> = parents.iter().collect();
            let tree = commit.tree()?;
            repo.commit(None, &commit.author(), &commit.committer(), &sealed, &tree, &parents)?
        };
        renamed.insert(id, new);
        if id == head {
            newest = new;
        }
    }
    let name = format!("refs/heads/{branch}");
    repo.reference(&name, newest, true, "afk: add trailers")?;
    repo.set_head(&name)?;
    Ok(Sha(newest.to_string()))
}

/// Words before a reference that make GitHub close the issue at the push, before CI has run; with
/// what they refer to.
static CLOSING: LazyLock<Result<Regex, regex::Error>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b:?\s+((?:[\w.-]+/[\w.-]+)?#\d+|https?://\S+/issues/\d+)",
    )
});

/// The message with `Refs` in the place of words that would close an issue.
fn without_closing(message: &str) -> String {
    match &*CLOSING {
        Ok(closing) => closing.replace_all(message, "Refs $1").into_owned(),
        Err(_) => message.to_owned(),
    }
}

/// The message with each trailer that it lacks, after a blank line. A line of prose is no
/// trailer, so `Refs #7` in the text does not count.
fn with_trailers(message: &str, trailers: &[String]) -> String {
    let body = message.trim_end();
    let last = body.rsplit("\n\n").next().unwrap_or_default();
    let is_trailer = |line: &str| line.contains(": ") || line.starts_with("Refs #");
    let has_block = last.len() < body.len() && last.lines().all(is_trailer);
    let lacks: Vec<&str> = trailers
        .iter()
        .map(String::as_str)
        .filter(|trailer| !(has_block && last.lines().any(|line| line == *trailer)))
        .collect();
    if lacks.is_empty() {
        return message.to_owned();
    }
    let gap = if has_block { "\n" } else { "\n\n" };
    format!("{body}{gap}{}\n", lacks.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_closes_an_issue_at_the_push() {
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
    fn trailers_are_added_once() {
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
