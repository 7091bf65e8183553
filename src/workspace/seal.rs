//! Seals a run before the gate: adds trailers with the issue and the run to every commit of the run,
//! once these are in the base clone.

use std::path::Path;
use std::sync::LazyLock;

use git2::{ObjectType, Oid};
use regex::bytes::Regex;

use super::WorkspaceError;
use super::repository;
use crate::core::model::id::{IssueKey, RunId, Sha};

/// Rewrites the commits of a run, given parents first and the last of them `head`, so that each has
/// the trailers, and returns the new head. All of them are in the base clone `base`, and are synced there
/// before a reference names them. Trees, authors, dates and encodings stay byte by byte, so neither the
/// workspace's files nor its index change. A signature goes, since it no longer fits.
pub(crate) fn add_trailers(
    base: &Path,
    own: &[Sha],
    head: &Sha,
    issue: &IssueKey,
    run: RunId,
) -> Result<Sha, WorkspaceError> {
    let repo = repository::open_for_writing(base)?;
    let head = Oid::from_str(&head.0)?;
    let trailers = [format!("Refs #{}", issue.number), format!("Afk-Run: {run}")];
    let mut rewritten: std::collections::HashMap<Oid, Oid> = std::collections::HashMap::new();
    let mut newest = head;
    for sha in own {
        let id = Oid::from_str(&sha.0)?;
        let commit = repo.find_commit(id)?;
        let message = commit.message_raw_bytes().to_vec();
        let parents: Vec<Oid> =
            commit.parent_ids().map(|id| rewritten.get(&id).copied().unwrap_or(id)).collect();
        let sealed = with_trailers(&without_closing(&message), &trailers);
        let unchanged = sealed == message && parents.iter().copied().eq(commit.parent_ids());
        let new = if unchanged {
            id
        } else {
            let raw = rewritten_commit(commit.raw_header_bytes(), &parents, &sealed);
            repo.odb()?.write(ObjectType::Commit, &raw)?
        };
        rewritten.insert(id, new);
        if id == head {
            newest = new;
        }
    }
    Ok(Sha(newest.to_string()))
}

/// A commit with other parents and another message, and without a signature.
fn rewritten_commit(header: &[u8], parents: &[Oid], message: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(header.len() + message.len() + 64);
    let mut skips = false;
    for line in header.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        // A line that begins with a space continues the one before.
        if !line.starts_with(b" ") {
            skips = line.starts_with(b"parent ") || line.starts_with(b"gpgsig");
        }
        if skips {
            continue;
        }
        raw.extend_from_slice(line);
        raw.push(b'\n');
        if line.starts_with(b"tree ") {
            for parent in parents {
                raw.extend_from_slice(format!("parent {parent}\n").as_bytes());
            }
        }
    }
    raw.push(b'\n');
    raw.extend_from_slice(message);
    raw
}

/// The words that make GitHub close an issue at the push, before CI has run, with the reference
/// after them.
static CLOSING: LazyLock<Result<Regex, regex::Error>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b:?\s+((?:[\w.-]+/[\w.-]+)?#\d+|https?://\S+/issues/\d+)",
    )
});

/// Replaces the words that would close an issue by `Refs`.
fn without_closing(message: &[u8]) -> Vec<u8> {
    match &*CLOSING {
        Ok(closing) => closing.replace_all(message, b"Refs $1".as_slice()).into_owned(),
        Err(_) => message.to_owned(),
    }
}

/// Adds the missing trailers after a blank line, and a subject where there is none. A line of prose
/// is no trailer, so `Refs #7` in the text does not count.
fn with_trailers(message: &[u8], trailers: &[String]) -> Vec<u8> {
    let body = message.trim_ascii_end();
    let body = if body.trim_ascii_start().is_empty() { b"Work on the issue" } else { body };
    let paragraph = memchr::memmem::rfind(body, b"\n\n").map_or(0, |at| at + 2);
    let last = body.get(paragraph..).unwrap_or_default();
    let is_trailer =
        |line: &[u8]| memchr::memmem::find(line, b": ").is_some() || line.starts_with(b"Refs #");
    let lines = || last.split(|byte| *byte == b'\n');
    let has_block = paragraph > 0 && lines().all(is_trailer);
    let missing: Vec<&str> = trailers
        .iter()
        .map(String::as_str)
        .filter(|trailer| !(has_block && lines().any(|line| line == trailer.as_bytes())))
        .collect();
    if missing.is_empty() {
        return message.to_owned();
    }
    let gap: &[u8] = if has_block { b"\n" } else { b"\n\n" };
    [body, gap, missing.join("\n").as_bytes(), b"\n"].concat()
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
            assert_eq!(without_closing(message.as_bytes()), sealed.as_bytes());
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
            ("\n", "Work on the issue\n\nRefs #7\nAfk-Run: r3\n"),
        ] {
            assert_eq!(with_trailers(message.as_bytes(), &trailers), sealed.as_bytes());
            assert_eq!(with_trailers(sealed.as_bytes(), &trailers), sealed.as_bytes());
        }
    }

    #[test]
    fn rewritten_commit_keeps_the_header_but_for_parents_and_signature() {
        let header =
            b"tree 1\nparent 2\nauthor Ren\xe9 <a@b> 1 +0000\ncommitter c <d> 9999999999 -1200\n\
            encoding ISO-8859-1\ngpgsig -----BEGIN\n more\n end\nextra kept\n";
        let parent = Oid::from_bytes(&[7; 20]).unwrap();
        let raw = rewritten_commit(header, &[parent], b"caf\xe9\n");
        let expected = b"tree 1\nparent 0707070707070707070707070707070707070707\nauthor Ren\xe9 <a@b> 1 +0000\n\
            committer c <d> 9999999999 -1200\nencoding ISO-8859-1\nextra kept\n\ncaf\xe9\n";
        assert_eq!(raw, expected);
    }
}
