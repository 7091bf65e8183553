//! The gate's view of a run: its changes, and the tests that are laid over the base.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::WorkspaceError;
use super::git::Git;
use super::pool::FreshTree;
use crate::config::repository::GateConfig;
use crate::core::model::id::Sha;

/// The files that differ between two commits, by their meaning for the gate. A path has any bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// New or changed test files.
    pub tests: Vec<Vec<u8>>,
    /// Files that may change without a test, such as docs.
    pub exempt: Vec<Vec<u8>>,
    /// All other files, and deleted tests.
    pub other: Vec<Vec<u8>>,
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
    let args = ["diff-tree", "-r", "--no-renames", "--name-status", "-z", &base.0, &head.0];
    let listed = git.call_bytes(&args).await?;
    Ok(classify(&listed, &globs(&gate.tests), &globs(&gate.exempt)))
}

fn classify(listed: &[u8], tests: &GlobSet, exempt: &GlobSet) -> Changes {
    let mut changes = Changes::default();
    let mut fields = listed.split(|byte| *byte == 0).filter(|field| !field.is_empty());
    while let (Some(status), Some(path)) = (fields.next(), fields.next()) {
        let name = OsStr::from_bytes(path);
        let path = path.to_owned();
        if tests.is_match(name) && status != b"D" {
            changes.tests.push(path);
        } else if exempt.is_match(name) {
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

/// Overwrites files of the checkout by those of `head`.
pub(crate) async fn lay_over(
    tree: &FreshTree,
    head: &Sha,
    files: &[Vec<u8>],
) -> Result<(), WorkspaceError> {
    // Tests may lie outside of the tree's sparse patterns.
    let words = ["checkout", "--quiet", "--ignore-skip-worktree-bits", &head.0, "--"];
    let words = words.map(OsStr::new);
    // A name such as `:(top)` is a name.
    let literal = [("GIT_LITERAL_PATHSPECS", OsStr::new("1"))];
    for chunk in files.chunks(200) {
        let mut args = words.to_vec();
        args.extend(chunk.iter().map(|path| OsStr::from_bytes(path)));
        tree.git().call_with(&args, &literal).await?;
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
            b"A\0tests/caf\xe9.sh\0M\0src/lib.sh\0D\0tests/old.sh\0M\0README.md\0A\0a/b_test.go\0";
        let changes = classify(listed, &globs(&gate.tests), &globs(&gate.exempt));
        assert_eq!(changes.tests, [&b"tests/caf\xe9.sh"[..], b"a/b_test.go"]);
        assert_eq!(changes.exempt, [b"README.md"]);
        assert_eq!(changes.other, [&b"src/lib.sh"[..], b"tests/old.sh"]);
    }
}
