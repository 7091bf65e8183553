//! Turns a worktree of an earlier afk, which shared the base's repository, into a workspace with a
//! repository of its own. Only the first start after the update finds any.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::WorkspaceError;
use super::base::{Base, refuse_link};
use super::repository::{self, NewRepository};
use super::walled_git::WalledGit;

/// The longest `HEAD` that is read.
const HEAD_LIMIT: u64 = 4096;

/// The folder of the records of worktrees in the base. A base that no agent could write to has
/// none.
pub(super) fn records(base: &Base) -> PathBuf {
    base.dir().join("worktrees")
}

/// Gives a worktree that the base has a record of a repository of its own, on the same commit and
/// branch. Its files stay as they are.
pub(super) async fn adopt(base: &Base, git: &WalledGit) -> Result<(), WorkspaceError> {
    let tree = git.dir();
    let record = records(base).join(tree.file_name().unwrap_or_default());
    let Ok(head) = read_head(&record.join("HEAD")) else { return Ok(()) };
    refuse_link(tree)?;
    let revision = head.trim().strip_prefix("ref: ").unwrap_or(head.trim());
    let revision = format!("{revision}^{{commit}}");
    let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &revision];
    let sha = base.git().call(&args).await?;
    let borrows = Some(base.dir());
    let new = NewRepository { bare: false, remote: Some(base.remote()), borrows };
    let unfinished = record.join("adopted");
    new.write(&unfinished)?;
    repository::write(&unfinished.join("HEAD"), &format!("{sha}\n"))?;
    let upstream = base.head().await?;
    let tracking = unfinished.join(base.upstream());
    repository::write(&tracking, &format!("{upstream}\n"))?;
    let link = tree.join(".git");
    std::fs::rename(&link, record.join("link")).map_err(WorkspaceError::io(&link))?;
    std::fs::rename(&unfinished, &link).map_err(WorkspaceError::io(&unfinished))?;
    // Writes the index; the files stay.
    git.call(&["reset", "--quiet"]).await?;
    if let Some(branch) = head.trim().strip_prefix("ref: refs/heads/") {
        git.call(&["checkout", "--quiet", "-B", branch]).await?;
    }
    Ok(())
}

fn read_head(path: &Path) -> std::io::Result<String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut head = String::new();
    file.take(HEAD_LIMIT).read_to_string(&mut head)?;
    Ok(head)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::first_clone::FirstClone;
    use super::super::git::Git;
    use super::super::pool::{Pool, Sandboxes};
    use super::*;
    use crate::process::Supervisor;
    use crate::sandbox::Sandbox;

    #[derive(Debug)]
    pub(in crate::workspace) struct NoSandbox;

    impl Sandboxes for NoSandbox {
        fn of(&self, _workspace: &Path) -> Result<Option<Sandbox>, String> {
            Ok(None)
        }
    }

    fn sh(dir: &Path, line: &str) -> String {
        let us = "git() { command git -c user.name=a -c user.email=a@localhost \"$@\"; }; set -e; ";
        let out = Command::new("sh").args(["-c", &format!("{us}{line}")]).current_dir(dir).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    async fn pool(dir: &Path, taken: &[&str]) -> Pool {
        let supervisor = Supervisor::new("afk".into(), "test".into(), Duration::from_secs(1));
        let git = Git::new(dir, &supervisor, "afk", Duration::from_secs(60));
        let remote = dir.with_file_name("remote");
        let base = dir.join("base.git");
        let clone = FirstClone { limit: Duration::from_secs(60), seen: &|_| {} };
        let base = Base::open(&base, remote.to_str().unwrap(), "main", &git, clone).await.unwrap();
        let taken: BTreeSet<PathBuf> = taken.iter().map(|name| dir.join(name)).collect();
        Pool::open(base, dir, 0, Arc::new(NoSandbox), taken).await.unwrap()
    }

    #[tokio::test]
    async fn worktrees_of_an_earlier_afk_keep_their_work_and_leave_the_base() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("pool");
        sh(
            root.path(),
            "git init -q -b main remote; cd remote; echo a > a; git add a; git commit -qm A",
        );
        drop(pool(&dir, &[]).await);
        sh(
            &dir,
            "git -C base.git worktree add -q -b afk/1 ../wt-1 origin/main 2>/dev/null; \
             cd wt-1; echo b > b; git add b; git commit -qm B; echo c > c; \
             git -C ../base.git worktree add -q --detach ../wt-2 origin/main; echo d > ../wt-2/d",
        );
        let pool = pool(&dir, &["wt-1"]).await;
        assert_eq!(pool.recover().await.unwrap(), 1);
        assert!(!dir.join("base.git/worktrees").exists());
        assert!(dir.join("wt-1/.git").is_dir() && !dir.join("wt-2").exists());
        assert_eq!(
            sh(
                &dir.join("wt-1"),
                "git log --format=%s; git status --short; git branch --show-current"
            ),
            "B\nA\n?? c\nafk/1\n"
        );
        assert_eq!(
            sh(&dir.join("base.git"), "git ls-tree --name-only refs/afk/kept/wt-2"),
            "a\nd\n"
        );
    }
}
