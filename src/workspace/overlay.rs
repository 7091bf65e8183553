//! The gate's view of a run: its changes, and the proving tree, which is a clean checkout of the
//! head or of the base with the run's tests over it.

use std::path::Path;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::WorkspaceError;
use super::base::refuse_link;
use super::git::Git;
use crate::config::repository::GateConfig;
use crate::core::model::id::Sha;

/// The files that differ between two commits, by their meaning for the gate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// New or changed test files.
    pub tests: Vec<String>,
    /// Files that may change without a test, such as docs.
    pub exempt: Vec<String>,
    /// All other files, and deleted tests.
    pub other: Vec<String>,
}

impl Changes {
    /// Whether the commits have the same files.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tests.is_empty() && self.exempt.is_empty() && self.other.is_empty()
    }
}

/// Lists the changes between `base` and `head`.
pub(crate) async fn changes(
    git: &Git,
    base: &Sha,
    head: &Sha,
    gate: &GateConfig,
) -> Result<Changes, WorkspaceError> {
    let args = ["diff", "--no-renames", "--name-status", "-z", &base.0, &head.0];
    let listed = git.call(&args).await?;
    Ok(classify(&listed, &globs(&gate.tests), &globs(&gate.exempt)))
}

fn classify(listed: &str, tests: &GlobSet, exempt: &GlobSet) -> Changes {
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

/// Compiles globs. The configuration has validated them; an invalid one would match nothing.
pub(super) fn globs(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in patterns.iter().filter_map(|pattern| Glob::new(pattern).ok()) {
        set.add(glob);
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}

/// Checks a commit out into the proving tree in `dir`, and creates the tree where it is missing.
/// The result is clean, but ignored files (build caches) stay.
pub(crate) async fn check_out(base: &Git, dir: &Path, sha: &Sha) -> Result<Git, WorkspaceError> {
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

/// Overwrites files of the checkout by those of `head`.
pub(crate) async fn lay_over(
    git: &Git,
    head: &Sha,
    files: &[String],
) -> Result<(), WorkspaceError> {
    for chunk in files.chunks(200) {
        let mut args = vec!["checkout", "--quiet", &head.0, "--"];
        args.extend(chunk.iter().map(String::as_str));
        git.call(&args).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classify_counts_a_deleted_test_as_other() {
        let gate = GateConfig::default();
        let listed =
            "A\0tests/new.sh\0M\0src/lib.sh\0D\0tests/old.sh\0M\0README.md\0A\0a/b_test.go\0";
        let changes = classify(listed, &globs(&gate.tests), &globs(&gate.exempt));
        assert_eq!(changes.tests, ["tests/new.sh", "a/b_test.go"]);
        assert_eq!(changes.exempt, ["README.md"]);
        assert_eq!(changes.other, ["src/lib.sh", "tests/old.sh"]);
    }
}
