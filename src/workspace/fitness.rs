//! Whether the commits of a run may be proved and pushed at all, and the commit that they add to.
//! The gate calls it after the import and before any test; the push and the rebase ask again about
//! commits that somebody took away meanwhile.
//!
//! ```text
//!   head, not in the upstream ─┬▶ taken away by a rewrite of the branch ────▶ a human decides
//!                              ├▶ of another branch, or of another run ─────▶ a human decides
//!                              ├▶ history below the start was rewritten ────▶ the agent mends it
//!                              ├▶ undoes what others pushed meanwhile ──────▶ the agent mends it
//!                              └▶ conflict markers, droppings, loose links ─▶ the agent mends it
//! ```
//!
//! Everything here reads objects of the base. The names of files are those of the agent.

use std::collections::BTreeSet;

use super::base::{self, Base};
use super::import::loose_gitlinks;
use super::leftovers::list;
use super::{WorkspaceError, content, undone};
use crate::config::repository::GateConfig;
use crate::core::model::id::{RunId, Sha};
use crate::core::model::plural::plural;
use crate::core::model::untrusted::clean_line;

/// The most commits that are compared: more than an import takes.
const COMMITS_LISTED: usize = 20_000;
/// The most commits that a message names.
const NAMED: usize = 10;

/// The commits of a run, as far as the fleet knows them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunCommits<'a> {
    /// The run that made them.
    pub run: RunId,
    /// The upstream's commit that the run began from, or was rebased onto.
    pub base: &'a Sha,
    /// The last commit that afk has pushed.
    pub pushed: Option<&'a Sha>,
    /// The newest of them, before or after the seal.
    pub head: &'a Sha,
}

/// Whether the commits of a run may be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// They may be proved.
    Fit {
        /// The commit that they add to: the newest one that the upstream has, too. Once the run
        /// has pushed, it is the commit that the run began from, as in the proof.
        base: Sha,
    },
    /// They may not, and the agent can change that.
    Unfit {
        /// The reason, with the places, and what the agent can do.
        why: String,
    },
    /// They may not, and only a human can decide.
    Ask(Question),
}

/// A question about commits that only a human can decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The reason in a few words.
    pub line: String,
    /// The commits, and what the human can do.
    pub detail: String,
}

impl Question {
    /// A question that needs no detail.
    pub(crate) fn line(line: &str) -> Self {
        Self { line: line.to_owned(), detail: String::new() }
    }
}

/// Judges the commits of a run against the upstream as of the last fetch.
///
/// # Errors
/// git or libgit2 can't read the base.
pub(crate) async fn of_run(
    base: &Base,
    commits: RunCommits<'_>,
    gate: &GateConfig,
) -> Result<Fitness, WorkspaceError> {
    let upstream = base.head().await?;
    if let Some(question) = withdrawn(base, commits, &upstream).await? {
        return Ok(Fitness::Ask(question));
    }
    if let Some(question) = of_others(base, commits, &upstream).await? {
        return Ok(Fitness::Ask(question));
    }
    let fork = match fork(base, commits, &upstream).await? {
        Ok(fork) => fork,
        Err(why) => return Ok(Fitness::Unfit { why }),
    };
    // Others may have pushed since: the own commits of the run must keep their changes.
    let start = match commits.pushed {
        Some(pushed) if base.contains(pushed).await? => pushed,
        _ => commits.base,
    };
    let (dir, head) = (base.dir().to_owned(), commits.head.clone());
    let (start, forked) = (start.clone(), fork.clone());
    let own = base.git().added(&upstream, &head).await?;
    let gate = gate.clone();
    let search = tokio::task::spawn_blocking(move || {
        let undone = undone::find(&dir, &start, &forked, &upstream, &own, &head)?;
        let found = content::find(&dir, &forked, &own, &head, &gate)?;
        Ok::<_, WorkspaceError>((undone, found))
    });
    let (undone, mut lines) = search
        .await
        .map_err(|e| WorkspaceError::Io { path: base.dir().to_owned(), source: e.into() })??;
    if !undone.is_empty() {
        lines.push(format!(
            "Your commits undo what others have pushed meanwhile to {}, in: {}. Merge or rebase so \
             that their changes stay.",
            base.branch(),
            list(&undone)
        ));
    }
    let links = loose_gitlinks(base, &fork, commits.head).await?;
    if !links.is_empty() {
        lines.push(format!(
            "Your commits hold a link to another repository in place of files, and `.gitmodules` \
             doesn't name it: {}. Remove the link with `git rm --cached`, and the `.git` inside.",
            list(&links)
        ));
    }
    if !lines.is_empty() {
        return Ok(Fitness::Unfit { why: lines.join("\n") });
    }
    let base = if commits.pushed.is_some() { commits.base.clone() } else { fork };
    Ok(Fitness::Fit { base })
}

/// The question about commits that the upstream once had and has no more: somebody took them away
/// on purpose, and a push would bring them back.
///
/// # Errors
/// git fails.
pub(crate) async fn withdrawn(
    base: &Base,
    commits: RunCommits<'_>,
    upstream: &Sha,
) -> Result<Option<Question>, WorkspaceError> {
    let mut known: Vec<&str> = vec![&commits.base.0];
    known.extend(commits.pushed.map(|sha| sha.0.as_str()));
    known.push("--glob=refs/afk/withdrawn");
    let taken = reached(base, commits.head, upstream, &known).await?;
    if taken.is_empty() {
        return Ok(None);
    }
    let branch = base.branch();
    let onto = commits.base.short();
    let detail = format!(
        "Somebody rewrote {branch}: {} of this run's history are no longer on it, and a push would \
         bring them back:\n{}\nTo go on without them, reopen the run and let the agent move only \
         its own commits: `git rebase --onto origin/{branch} {onto}`. If they were taken away by \
         mistake, push them again and reopen the run.",
        plural(taken.len(), "commit"),
        described(base, &taken).await?
    );
    Ok(Some(Question { line: format!("somebody rewrote {branch}"), detail }))
}

/// The commit after which a rebase replays the commits of a run: the newest one that they share with
/// the upstream, or the run's beginning where that is newer.
///
/// # Errors
/// git fails.
pub(crate) async fn replayed_after(
    base: &Base,
    commits: RunCommits<'_>,
    upstream: &Sha,
) -> Result<Sha, WorkspaceError> {
    let shared = base.git().ask(&["merge-base", &commits.head.0, &upstream.0]).await?;
    let fork = Sha(shared.text().trim().to_owned());
    let is_newer = shared.ok
        && (base.has(&fork, commits.base).await? || !base.has(commits.head, commits.base).await?);
    Ok(if is_newer { fork } else { commits.base.clone() })
}

/// The question about commits that come from another branch of the remote, or from another run.
async fn of_others(
    base: &Base,
    commits: RunCommits<'_>,
    upstream: &Sha,
) -> Result<Option<Question>, WorkspaceError> {
    let [imports, runs] = [base::imports(commits.run), base::runs(commits.run)];
    let known = [
        "--glob=refs/remotes/origin".to_owned(),
        format!("--exclude={imports}"),
        "--glob=refs/afk/imports".to_owned(),
        format!("--exclude={runs}"),
        "--glob=refs/afk/runs".to_owned(),
    ];
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let theirs = reached(base, commits.head, upstream, &known).await?;
    if theirs.is_empty() {
        return Ok(None);
    }
    let detail = format!(
        "The commits of this run contain work of others that {} lacks, from another branch or from \
         another run:\n{}\nPush it yourself once it is reviewed, or reopen the run and let the \
         agent take it out.",
        base.branch(),
        described(base, &theirs).await?
    );
    Ok(Some(Question { line: "the change contains work of others".into(), detail }))
}

/// The commits of `head` that the upstream lacks and that one of `known` reaches.
async fn reached(
    base: &Base,
    head: &Sha,
    upstream: &Sha,
    known: &[&str],
) -> Result<Vec<Sha>, WorkspaceError> {
    let most = format!("--max-count={COMMITS_LISTED}");
    let lacking = ["rev-list", &most, &head.0, "--not", &upstream.0];
    let all = base.git().call(&lacking).await?;
    let own = base.git().call(&[&lacking[..], known].concat()).await?;
    if all == own {
        return Ok(Vec::new());
    }
    let own: BTreeSet<&str> = own.lines().collect();
    let others = all.lines().filter(|sha| !own.contains(sha));
    Ok(others.map(|sha| Sha(sha.to_owned())).collect())
}

/// A line for each of the first commits, with its subject.
async fn described(base: &Base, commits: &[Sha]) -> Result<String, WorkspaceError> {
    let mut args = vec!["show", "--no-patch", "--no-notes", "--format=%h %an: %s"];
    args.extend(commits.iter().take(NAMED).map(|sha| sha.0.as_str()));
    let text = base.git().call(&args).await?;
    let mut lines: Vec<String> = text.lines().map(clean_line).collect();
    if commits.len() > NAMED {
        lines.push(format!("and {} more", commits.len() - NAMED));
    }
    Ok(lines.join("\n"))
}

/// The newest commit that the head and the upstream share, or why the agent must mend its history.
async fn fork(
    base: &Base,
    commits: RunCommits<'_>,
    upstream: &Sha,
) -> Result<Result<Sha, String>, WorkspaceError> {
    for (start, what) in [(Some(commits.base), "it began from"), (commits.pushed, "afk has pushed")]
    {
        let Some(start) = start else { continue };
        if base.contains(start).await? && !base.has(commits.head, start).await? {
            let short = start.short();
            return Ok(Err(format!(
                "Your branch no longer contains {short}, the commit that {what}: you amended or \
                 rebased commits that are not yours. Run `git reset --soft {short}` and commit only \
                 your own changes."
            )));
        }
    }
    let shared = base.git().ask(&["merge-base", &commits.head.0, &upstream.0]).await?;
    if !shared.ok {
        return Ok(Err(format!(
            "Your branch has no commit in common with {}. Put your changes on a branch that starts \
             at {}.",
            base.branch(),
            upstream.short()
        )));
    }
    Ok(Ok(Sha(shared.text().trim().to_owned())))
}
