//! What a run changed, and clean checkouts to prove it on: the head, or the base with the run's
//! tests laid over it.

use std::path::Path;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::WorkspaceError;
use super::base::refuse_link;
use super::git::Git;
use crate::config::repository::GateConfig;
use crate::core::model::id::Sha;

/// The files that differ between two commits, sorted by what the gate makes of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// New or changed test files.
    pub tests: Vec<String>,
    /// Files that may change without a test.
    pub exempt: Vec<String>,
    /// All others, and tests that were deleted.
    pub other: Vec<String>,
}

impl Changes {
    /// Nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tests.is_empty() && self.exempt.is_empty() && self.other.is_empty()
    }
}

/// What differs between `base` and `head`.
///
/// # Errors
/// [`WorkspaceError`].
pub async fn changes(
    git: &Git,
    base: &Sha,
    head: &Sha,
    gate: &GateConfig,
) -> Result<Changes, WorkspaceError> {
    let args = ["diff", "--no-renames", "--name-status", "-z", &base.0, &head.0];
    let listed = git.call(&args).await?;
    Ok(sort(&listed, &globs(&gate.tests), &globs(&gate.exempt)))
}

fn sort(listed: &str, tests: &GlobSet, exempt: &GlobSet) -> Changes {
    let mut changes = Changes::default();
    let mut fields = listed.split('\0').filter(|field| !field.is_empty());
    while let (Some(status), Some(path)) = (fields.next(), fields.next()) {
        let path = path.to_owned();
        if tests.is_match(&path) && status != "D" {
            changes.tests.push(path);
        } else if exempt.is_match(&path) {
            changes.exempt.push(path);
        } else {
            changes.other.push(path);
        }
    }
    changes
}

/// Globs were checked when the rules were read, so one that fails here matches nothing.
fn globs(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in patterns.iter().filter_map(|pattern| Glob::new(pattern).ok()) {
        set.add(glob);
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}

/// Brings the proving tree in `dir` to a commit, clean; makes it where it is missing. Ignored
/// files (build caches) stay.
///
/// # Errors
/// [`WorkspaceError`].
pub async fn check_out(base: &Git, dir: &Path, sha: &Sha) -> Result<Git, WorkspaceError> {
    refuse_link(dir)?;
    let git = base.at(dir);
    if dir.join(".git").exists() {
        let args = ["checkout", "--quiet", "--force", "--detach", &sha.0];
        if git.ask(&args).await?.ok {
            git.call(&["clean", "--quiet", "-ffd"]).await?;
            return Ok(git);
        }
        std::fs::remove_dir_all(dir).map_err(WorkspaceError::io(dir))?;
    }
    base.call(&["worktree", "prune"]).await?;
    base.add_worktree(dir, sha).await?;
    Ok(git)
}

/// Lays files of `head` over the checkout.
///
/// # Errors
/// [`WorkspaceError`].
pub async fn lay_over(git: &Git, head: &Sha, files: &[String]) -> Result<(), WorkspaceError> {
    for some in files.chunks(200) {
        let mut args = vec!["checkout", "--quiet", &head.0, "--"];
        args.extend(some.iter().map(String::as_str));
        git.call(&args).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_test_is_no_test() {
        let gate = GateConfig::default();
        let listed =
            "A\0tests/new.sh\0M\0src/lib.sh\0D\0tests/old.sh\0M\0README.md\0A\0a/b_test.go\0";
        let changes = sort(listed, &globs(&gate.tests), &globs(&gate.exempt));
        assert_eq!(changes.tests, ["tests/new.sh", "a/b_test.go"]);
        assert_eq!(changes.exempt, ["README.md"]);
        assert_eq!(changes.other, ["src/lib.sh", "tests/old.sh"]);
    }
}
