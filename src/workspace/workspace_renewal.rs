//! Renews the damaged workspace of a run: sets it aside, and puts a fresh tree in its place.
//!
//! ```text
//! renewing/wt-1 ◄─ "aside"
//! wt-1 ─────────── rename ──▶ aside/wt-1-<time>
//! renewing/wt-1 ◄─ "fresh"
//! fresh/tree-<n> ─ rename ──▶ wt-1        the caller completes it and runs the setup of its repository
//! renewing/wt-1 ── removed, once all of it is on the disk
//! ```
//!
//! The marker lies where no agent can write, and is synced. After a crash or a power cut at any step it
//! leads to another renewal with another fresh tree: afk's git never works again in a tree where the setup
//! has begun, and no turn begins in one where it has not ended well.
//!
//! afk reads no file of a workspace, since its agent can put a link, a pipe or a file without an end in
//! place of any. git does in the sandbox, with a deadline.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::damage;
use super::durable::{sync_file_system, sync_folder};
use super::pool::{FreshTree, Pool};
use super::trash::Trash;
use super::walled_git::WalledGit;
use crate::core::model::id::Sha;

/// The folder of the markers, beside the workspaces.
const MARKERS: &str = "renewing";

/// The step that a renewal has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RenewalStep {
    /// The damaged workspace may still be in its place.
    SetAside,
    /// Nothing but the setup of a fresh tree has ever worked in the folder that is there, if any is.
    Fresh,
}

impl RenewalStep {
    const fn as_str(self) -> &'static str {
        match self {
            Self::SetAside => "aside",
            Self::Fresh => "fresh",
        }
    }
}

/// The commits of a renewed workspace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RenewalStart<'a> {
    /// The commit that is checked out: the newest one of the run that afk has.
    pub commit: &'a Sha,
    /// The commit that the run began from, which the agent sees as the remote's.
    pub base: &'a Sha,
}

impl Pool {
    /// The damage of a run's workspace whose commits begin after `start`, in words; `None` for a sound one.
    /// A missing folder and a renewal that was cut off are damage, too.
    ///
    /// # Errors
    /// git can't be started, or doesn't end in time.
    pub(crate) async fn damage(
        &self,
        path: &Path,
        start: &Sha,
        owner: &str,
    ) -> Result<Option<String>, WorkspaceError> {
        if self.renewal_step(path)?.is_some() {
            return Ok(Some("its last renewal did not end".into()));
        }
        match path.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(Some("it is no folder".into())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some("its folder is gone".into()));
            }
            Err(error) => return Err(WorkspaceError::io(path)(error)),
        }
        let git = self.walled(path).owned_by(owner);
        let found = damage_of(&git, start).await;
        git.end_rest().await;
        found
    }

    /// Puts a fresh tree on the run's branch in place of a damaged workspace. Returns the tree, which its
    /// caller completes and then hands to [`Pool::end_renewal`], and the path of the damaged workspace,
    /// unless it was gone or an earlier renewal has set it aside.
    ///
    /// # Errors
    /// The damaged folder can't be moved, or no tree can be made.
    pub(crate) async fn renew(
        &self,
        path: &Path,
        branch: &str,
        start: RenewalStart<'_>,
        owner: &str,
    ) -> Result<(FreshTree, Option<PathBuf>), WorkspaceError> {
        let mut last = self.fresh.lock().await;
        let mut tree = self.fresh_tree(&mut last, start.commit).await?;
        tree.put_on(branch, start.commit, start.base, &self.base).await?;
        let mut aside = None;
        if self.renewal_step(path)? == Some(RenewalStep::Fresh) {
            self.trash.discard(path)?;
        } else {
            self.mark(path, RenewalStep::SetAside)?;
            if path.symlink_metadata().is_ok() {
                let folder = self.dir.join("aside");
                aside = Some(Trash::set_aside(path, &folder)?);
                sync_folder(&folder)?;
                sync_folder(&self.dir)?;
            }
            self.mark(path, RenewalStep::Fresh)?;
        }
        tree.move_to(path)?;
        Ok((tree.owned_by(owner), aside))
    }

    /// Ends the renewal of a workspace once its setup has ended well.
    ///
    /// # Errors
    /// The files can't be synced, or the marker can't be removed; the workspace is then renewed again.
    pub(crate) async fn end_renewal(&self, path: &Path) -> Result<(), WorkspaceError> {
        // Without the marker, a look finds an empty index, but no empty file that the setup has made.
        let dir = self.dir.clone();
        let synced = tokio::task::spawn_blocking(move || sync_file_system(&dir)).await;
        synced.unwrap_or_else(|error| Err(WorkspaceError::io(&self.dir)(error.into())))?;
        self.forget_renewal(path)
    }

    /// Forgets the renewal of a workspace that goes away, or that a new one takes the place of.
    pub(super) fn forget_renewal(&self, path: &Path) -> Result<(), WorkspaceError> {
        let marker = self.marker(path);
        match std::fs::remove_file(&marker) {
            // A marker that comes back after a power cut would discard the work of the next turn.
            Ok(()) => sync_folder(&self.dir.join(MARKERS)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(WorkspaceError::io(&marker)(error)),
        }
    }

    fn marker(&self, path: &Path) -> PathBuf {
        self.dir.join(MARKERS).join(path.file_name().unwrap_or_default())
    }

    /// The step that the renewal of a workspace has reached; `None` without one.
    fn renewal_step(&self, path: &Path) -> Result<Option<RenewalStep>, WorkspaceError> {
        let marker = self.marker(path);
        match std::fs::read(&marker) {
            Ok(text) if text == RenewalStep::Fresh.as_str().as_bytes() => {
                Ok(Some(RenewalStep::Fresh))
            }
            // An empty one, too: the workspace may hold work then.
            Ok(_) => Ok(Some(RenewalStep::SetAside)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(WorkspaceError::io(&marker)(error)),
        }
    }

    /// Writes the marker of a renewal, and returns once it is on the disk.
    fn mark(&self, path: &Path, step: RenewalStep) -> Result<(), WorkspaceError> {
        let (marker, folder) = (self.marker(path), self.dir.join(MARKERS));
        std::fs::create_dir_all(&folder).map_err(WorkspaceError::io(&folder))?;
        sync_folder(&self.dir)?;
        // A rename replaces the marker as a whole.
        let new = folder.join("new");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(step.as_str().as_bytes())?;
            file.sync_all()
        });
        written.map_err(WorkspaceError::io(&new))?;
        std::fs::rename(&new, &marker).map_err(WorkspaceError::io(&new))?;
        sync_folder(&folder)
    }
}

/// The damage that git finds in a workspace whose commits begin after `start`, in words.
async fn damage_of(git: &WalledGit, start: &Sha) -> Result<Option<String>, WorkspaceError> {
    let commits = format!("{}..HEAD", start.0);
    let reads = [
        // The index.
        &["status", "--porcelain", "--untracked-files=no"][..],
        // The references: git lists the sound ones, and warns about the others.
        &["for-each-ref", "--format="],
        // The objects of the run's commits.
        &["rev-list", "--objects", "--quiet", &commits],
        // The objects that no commit has yet. An agent that adds the same file again would get them.
        &["fsck", "--no-full", "--no-reflogs", "--no-dangling", "--no-progress"],
    ];
    for args in reads {
        let read = match git.ask(args).await {
            // A workspace of very many objects is not damaged by that.
            Err(WorkspaceError::Deadline { .. }) if args[0] == "fsck" => return Ok(None),
            read => read?,
        };
        let errors = String::from_utf8_lossy(&read.err);
        // A broken reference is only a warning.
        let fails = !read.ok || args[0] == "for-each-ref";
        if fails && damage::is_reported(&errors) {
            return Ok(Some(read.summary()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::process::Supervisor;
    use crate::workspace::adopt::tests::NoSandbox;
    use crate::workspace::base::Base;
    use crate::workspace::first_clone::FirstClone;
    use crate::workspace::git::Git;
    use crate::workspace::renewal::tests::sh;

    /// Opens the pool of a repository with one commit, as a life of afk does.
    async fn open(root: &Path, taken: &[&Path]) -> Pool {
        if !root.join("remote").exists() {
            sh(
                root,
                "git init -q -b main remote; cd remote; mkdir d; echo a > a; echo b > d/b; \
                 git add .; git commit -qm A",
            );
        }
        let (dir, remote) = (root.join("pool"), root.join("remote"));
        let supervisor = Supervisor::new("afk".into(), "test".into(), Duration::from_secs(1));
        let git = Git::new(&dir, &supervisor, "afk", Duration::from_secs(60));
        let clone = FirstClone { limit: Duration::from_secs(60), seen: &|_| {} };
        let (base, remote) = (dir.join("base.git"), remote.to_str().unwrap());
        let base = Base::open(&base, remote, "main", &git, clone).await.unwrap();
        let taken: BTreeSet<PathBuf> = taken.iter().map(|path| (*path).to_owned()).collect();
        Pool::open(base, &dir, 0, Arc::new(NoSandbox), taken).await.unwrap()
    }

    fn set_aside(pool: &Pool) -> usize {
        std::fs::read_dir(pool.dir.join("aside")).into_iter().flatten().count()
    }

    #[tokio::test]
    async fn each_kind_of_damage_in_a_workspace_is_found_by_git() {
        let staged = "file=.git/objects/$(git rev-parse :s | sed 's,..,&/,'); chmod u+w $file; ";
        for (harm, part) in [
            ("", None),
            // The agent's own doing, and no damage.
            ("git checkout -q --orphan other", None),
            ("echo x > a; git rm -q --cached d/b; mkfifo pipe .git/refs/heads/pipe", None),
            (": > .git/HEAD", Some("not a git repository")),
            ("ln -sf /dev/zero .git/HEAD", Some("not a git repository")),
            ("rm -rf .git", Some("not a git repository")),
            (": > .git/refs/heads/afk/1", Some("broken ref")),
            (": > .git/refs/remotes/origin/main", Some("broken ref")),
            ("head -c 90 /dev/zero > .git/packed-refs", Some("packed-refs")),
            (": > .git/index", Some("index file")),
            (": > .git/objects/info/alternates", Some("Invalid revision range")),
            ("for file in .git/objects/??/*; do chmod u+w $file; : > $file; done", Some("object")),
            (&format!("{staged}: > $file"), Some("object corrupt or missing")),
            (&format!("{staged}head -c 40 /dev/zero > $file"), Some("object corrupt or missing")),
            ("cd ..; rm -rf wt-1", Some("its folder is gone")),
            ("cd ..; rm -rf wt-1; ln -s base.git wt-1", Some("it is no folder")),
        ] {
            let root = tempfile::tempdir().unwrap();
            let pool = open(root.path(), &[]).await;
            let taken = pool.take("afk/1", None).await.unwrap();
            sh(&taken.path, "echo c > c; git add c; git commit -qm C; echo s > s; git add s");
            sh(&taken.path, harm);
            let found = pool.damage(&taken.path, &taken.base, "r1").await.unwrap();
            match (&found, part) {
                (None, None) => {}
                (Some(found), Some(part)) => assert!(found.contains(part), "{harm}: {found}"),
                _ => panic!("{harm}: {found:?}"),
            }
        }
    }

    #[tokio::test]
    async fn renewed_workspace_begins_at_the_runs_commit_and_shows_the_base_as_the_remotes() {
        let root = tempfile::tempdir().unwrap();
        let pool = open(root.path(), &[]).await;
        let taken = pool.take("afk/1", None).await.unwrap();
        sh(&taken.path, "echo c > c; git add c; git commit -qm C; echo left > left");
        let commit = Sha(sh(&taken.path, "git rev-parse HEAD"));
        sh(
            pool.base.dir(),
            &format!("git fetch -q {} HEAD:refs/afk/imports/r1", taken.path.display()),
        );
        sh(&taken.path, ": > .git/HEAD");
        let start = RenewalStart { commit: &commit, base: &taken.base };
        let (tree, aside) = pool.renew(&taken.path, "afk/1", start, "r1").await.unwrap();
        assert_eq!(tree.path(), taken.path);
        assert!(aside.unwrap().join("left").exists());
        let state = "git status --porcelain; git branch --show-current; \
                     git log -1 --format=%s; git rev-parse origin/main";
        let shown = sh(&taken.path, state);
        assert_eq!(shown, format!("afk/1\nC\n{}", taken.base));
        pool.end_renewal(&taken.path).await.unwrap();
        assert_eq!(pool.damage(&taken.path, &taken.base, "r1").await.unwrap(), None);
    }

    #[tokio::test]
    async fn renewal_that_is_cut_off_anywhere_leads_to_another_one() {
        let root = tempfile::tempdir().unwrap();
        let pool = open(root.path(), &[]).await;
        let taken = pool.take("afk/1", None).await.unwrap();
        let (path, base) = (taken.path.as_path(), &taken.base);
        let start = RenewalStart { commit: base, base };
        sh(path, "echo work > work; : > .git/HEAD");
        drop(pool);

        // The marker is written, and nothing has moved: the work is set aside.
        let pool = open(root.path(), &[path]).await;
        pool.mark(path, RenewalStep::SetAside).unwrap();
        let (_, aside) = pool.renew(path, "afk/1", start, "r1").await.unwrap();
        assert!(aside.unwrap().join("work").exists());
        drop(pool);

        // The setup has begun in the fresh tree: it is no work, and is not completed.
        std::fs::write(path.join("half"), "").unwrap();
        let pool = open(root.path(), &[path]).await;
        let found = pool.damage(path, base, "r1").await.unwrap();
        assert_eq!(found.as_deref(), Some("its last renewal did not end"));
        let (tree, aside) = pool.renew(path, "afk/1", start, "r1").await.unwrap();
        assert!(aside.is_none() && tree.path() == path && !path.join("half").exists());
        drop(pool);

        // The damaged folder has moved, and no other has come.
        std::fs::remove_dir_all(path).unwrap();
        let pool = open(root.path(), &[path]).await;
        assert!(pool.damage(path, base, "r1").await.unwrap().is_some());
        let (_, aside) = pool.renew(path, "afk/1", start, "r1").await.unwrap();
        assert!(aside.is_none() && path.join("a").exists());
        assert_eq!(set_aside(&pool), 1);

        // Nor does a marker of a run that has ended concern the next one in the same place.
        pool.give_back(path, None, "r1").await.unwrap();
        let taken = pool.take("afk/2", None).await.unwrap();
        assert_eq!(taken.path, path);
        assert_eq!(pool.damage(path, base, "r2").await.unwrap(), None);
    }

    #[tokio::test]
    async fn damaged_folder_stays_while_no_fresh_tree_can_be_made() {
        let root = tempfile::tempdir().unwrap();
        let pool = open(root.path(), &[]).await;
        let taken = pool.take("afk/1", None).await.unwrap();
        let unknown = Sha("1".repeat(40));
        let start = RenewalStart { commit: &unknown, base: &taken.base };
        assert!(pool.renew(&taken.path, "afk/1", start, "r1").await.is_err());
        assert!(taken.path.join("a").exists() && set_aside(&pool) == 0);
        assert_eq!(pool.damage(&taken.path, &taken.base, "r1").await.unwrap(), None);
    }

    #[tokio::test]
    async fn trees_of_an_earlier_life_are_not_used() {
        let root = tempfile::tempdir().unwrap();
        let pool = open(root.path(), &[]).await;
        pool.warm().await.unwrap();
        sh(&pool.dir, ": > fresh/tree-1/a");
        drop(pool);
        let pool = open(root.path(), &[]).await;
        let taken = pool.take("afk/1", None).await.unwrap();
        assert_eq!(sh(&taken.path, "git status --porcelain; cat a"), "a");
    }
}
