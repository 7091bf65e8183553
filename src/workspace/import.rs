//! Takes the commits of a workspace into the base clone.
//!
//! ```text
//! workspace ── git pack-objects, in the sandbox ──▶ a pack of at most PACK_LIMIT bytes
//!                                                    │
//! quarantine ── index-pack --strict: every object is sound, every link leads somewhere
//!            ── rev-list: the one commit that we asked for is complete
//!                                                    │
//! base ◄── the pack moves in, and one reference of afk's names the commit
//! ```
//!
//! afk reads no file of the workspace: the pack comes through a pipe, and only afk's git, in a
//! repository of its own, parses it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::WorkspaceError;
use super::base::{self, Base};
use super::durable::sync_folder;
use super::repository::NewRepository;
use super::walled_git::WalledGit;
use crate::core::model::id::{RunId, Sha};

/// The largest pack that is taken from a workspace.
const PACK_LIMIT: u64 = 1024 * 1024 * 1024;
/// The most commits that are taken at once.
const COMMITS_LIMIT: u64 = 10_000;
/// The prefix of a quarantine's folder, beside the base.
pub(super) const QUARANTINE: &str = "import-";
/// A pack without objects: its header and its checksum.
const EMPTY_PACK: u64 = 32;

/// Takes `head`, a commit of the workspace, with everything that `upstream` lacks, and points
/// `reference` at it.
///
/// # Errors
/// [`WorkspaceError::Refused`] for commits that are not sound, not complete or too large; an error
/// of git in the workspace or in the base.
pub(crate) async fn import(
    base: &Base,
    workspace: &WalledGit,
    head: &Sha,
    upstream: &Sha,
    reference: &str,
) -> Result<(), WorkspaceError> {
    import_within(base, workspace, head, upstream, reference, PACK_LIMIT).await
}

/// Takes the commits of a run that `upstream` lacks into the base.
///
/// # Errors
/// As [`import`].
pub(crate) async fn of_run(
    base: &Base,
    workspace: &WalledGit,
    head: &Sha,
    upstream: &Sha,
    run: RunId,
) -> Result<(), WorkspaceError> {
    import(base, workspace, head, upstream, &base::imports(run)).await
}

/// Has `seal` rewrite the imported commits of a run (it gets the folder of the base, and the commits
/// that the upstream lacks, parents first), and returns the sealed commit. Every one of these commits
/// must be the run's own.
///
/// # Errors
/// The error of `seal`, or of git.
pub(crate) async fn seal(
    base: &Base,
    head: &Sha,
    run: RunId,
    seal: impl FnOnce(&Path, &[Sha]) -> Result<Sha, WorkspaceError> + Send + 'static,
) -> Result<Sha, WorkspaceError> {
    let own = base.git().added(&base.head().await?, head).await?;
    let dir = base.dir().to_owned();
    let sealed = tokio::task::spawn_blocking(move || seal(&dir, &own)).await;
    let sealed = sealed
        .map_err(|e| WorkspaceError::Io { path: base.dir().to_owned(), source: e.into() })??;
    base.keep(&base::runs(run), &sealed).await?;
    if base.contains(&sealed).await? {
        // It has no commit of its own beyond those that the remote has from us or from others.
        base.pushed(run).await?;
    }
    Ok(sealed)
}

async fn import_within(
    base: &Base,
    workspace: &WalledGit,
    head: &Sha,
    upstream: &Sha,
    reference: &str,
    limit: u64,
) -> Result<(), WorkspaceError> {
    let quarantine = Quarantine::create(base)?;
    let pack = quarantine.0.join("objects/pack/incoming.pack");
    workspace.pack(head, upstream, &pack, limit).await?;
    let size = std::fs::metadata(&pack).map_err(WorkspaceError::io(&pack))?.len();
    let git = base.git().at(&quarantine.0);
    let refuse = |why: String| WorkspaceError::Refused { why };
    let mut hash = None;
    if size > EMPTY_PACK {
        let args: [&OsStr; 3] = ["index-pack".as_ref(), "--strict".as_ref(), pack.as_os_str()];
        let indexed = git.ask(&args).await?;
        if !indexed.ok {
            return Err(refuse(format!("git finds an object unsound: {}", indexed.summary())));
        }
        hash = Some(indexed.text().trim().to_owned());
    }
    let range = ["rev-list", "--count", "--objects", &head.0, "--not", &upstream.0];
    let complete = git.ask(&range).await?;
    if !complete.ok {
        return Err(refuse(format!("the commits are not complete: {}", complete.summary())));
    }
    let range = ["rev-list", "--count", &head.0, "--not", &upstream.0];
    let commits: u64 = git.call(&range).await?.parse().unwrap_or(u64::MAX);
    if commits > COMMITS_LIMIT {
        return Err(refuse(format!("{commits} new commits are more than {COMMITS_LIMIT}")));
    }
    if let Some(hash) = hash {
        move_in(&pack, base, &hash)?;
    }
    base.keep(reference, head).await
}

/// Moves a pack and then its index into the base: git finds a pack by its index.
fn move_in(pack: &Path, base: &Base, hash: &str) -> Result<(), WorkspaceError> {
    let folder = base.git().git_dir().join("objects/pack");
    std::fs::create_dir_all(&folder).map_err(WorkspaceError::io(&folder))?;
    for end in ["pack", "rev", "idx"] {
        let from = pack.with_extension(end);
        let to = folder.join(format!("pack-{hash}.{end}"));
        if to.exists() || (end == "rev" && !from.exists()) {
            continue;
        }
        let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o444);
        std::fs::set_permissions(&from, read_only).map_err(WorkspaceError::io(&from))?;
        std::fs::rename(&from, &to).map_err(WorkspaceError::io(&from))?;
    }
    // Before a reference names a commit in the pack.
    sync_folder(&folder)
}

/// A repository for one import. It borrows the base's objects, and goes away afterwards.
struct Quarantine(PathBuf);

impl Quarantine {
    fn create(base: &Base) -> Result<Self, WorkspaceError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{QUARANTINE}{}-{number}", std::process::id());
        let path = base.dir().with_file_name(name);
        // A process with our id may have crashed.
        super::trash::remove(&path).map_err(WorkspaceError::io(&path))?;
        let this = Self(path);
        let new = NewRepository { bare: true, remote: None, borrows: Some(base.dir()) };
        new.write(&this.0).map(|()| this)
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        // The next start removes a folder that can't be removed now.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The paths of links to other repositories that `head` has, `from` has not, and `.gitmodules` in
/// `head` doesn't name: a checkout would have nothing there.
pub(crate) async fn loose_gitlinks(
    base: &Base,
    from: &Sha,
    head: &Sha,
) -> Result<Vec<Vec<u8>>, WorkspaceError> {
    let args = ["diff-tree", "-r", "-z", "--raw", "--no-renames", &from.0, &head.0];
    let links = added_gitlinks(&base.git().call_bytes(&args).await?);
    if links.is_empty() {
        return Ok(links);
    }
    let blob = format!("{head}:.gitmodules");
    let paths = r"^submodule\..*\.path$";
    let args = ["config", "-z", "--blob", &blob, "--get-regexp", paths];
    // Without the file, git fails and nothing is named.
    let named = base.git().ask(&args).await?.out;
    let path = |entry: &[u8]| entry.splitn(2, |byte| *byte == b'\n').nth(1).map(<[u8]>::to_vec);
    let named: BTreeSet<Vec<u8>> = named.split(|byte| *byte == 0).filter_map(path).collect();
    Ok(links.into_iter().filter(|link| !named.contains(link)).collect())
}

/// The paths whose new mode is that of a link to another repository, in the output of
/// `diff-tree --raw -z`.
fn added_gitlinks(listed: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = listed.split(|byte| *byte == 0);
    let mut links = Vec::new();
    while let (Some(modes), Some(path)) = (fields.next(), fields.next()) {
        if modes.split(|byte| *byte == b' ').nth(1) == Some(b"160000") {
            links.push(path.to_vec());
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_gitlinks_looks_at_the_new_mode() {
        let listed =
            b":000000 160000 0 a A\0sub\0:160000 100644 a b T\0was\0:100644 100755 a b M\0x\0";
        assert_eq!(added_gitlinks(listed), [b"sub".to_vec()]);
        assert!(added_gitlinks(b"").is_empty());
    }
}
