//! Git LFS: the commits of a run name large files by pointers, and the files themselves lie in the
//! agent's workspace. afk takes them out of the sandbox at the gate, each checked by its digest, and
//! uploads them before it pushes the commits, so that every pushed commit can be checked out.
//!
//! ```text
//! workspace/.git/lfs/objects ─ take, size and digest as the pointer says ─► base.git/lfs/objects
//! base.git/lfs/objects ─ git lfs push, with the credential on a pipe ─► remote
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use git2::{ObjectType, Oid, Repository};
use sha2::{Digest as _, Sha256};

use super::WorkspaceError;
use super::base::Base;
use super::change::globs;
use super::git::Git;
use super::leftovers::{argument, list};
use super::walled_git::WalledGit;
use crate::config::repository::GateConfig;
use crate::core::model::id::Sha;
use crate::redact::Redactor;

/// The first line of every pointer.
const VERSION: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// The largest pointer in bytes.
const POINTER_LIMIT: usize = 1024;
/// The most bytes of all files that are taken from a workspace at once.
const BYTES_LIMIT: u64 = 2 * 1024 * 1024 * 1024;
/// The largest file that is searched for secrets, which is read as a whole.
const SEARCH_LIMIT: u64 = 128 * 1024 * 1024;
/// The most paths or objects of one call.
const CHUNK: usize = 200;

/// The settings with which `git add` stores large files as the repository asks. They download
/// nothing.
pub(super) const CLEAN: [&str; 6] = [
    "-c",
    "filter.lfs.clean=git-lfs clean -- %f",
    "-c",
    "filter.lfs.process=git-lfs filter-process --skip",
    "-c",
    "filter.lfs.required=true",
];

/// A file in the store of Git LFS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pointer {
    /// The SHA-256 of the content in hexadecimal digits.
    oid: String,
    size: u64,
}

impl Pointer {
    fn parse(blob: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(blob.strip_prefix(VERSION)?).ok()?;
        let value =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        let oid = value("oid sha256:")?;
        let is_hex = oid.len() == 64
            && oid.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        Some(Self { oid, size: value("size ")?.parse().ok()? }).filter(|_| is_hex)
    }

    /// Its place below the folder of a repository.
    fn path(&self) -> String {
        let (first, second) = (self.oid.get(..2), self.oid.get(2..4));
        let folder = format!("{}/{}", first.unwrap_or_default(), second.unwrap_or_default());
        format!("lfs/objects/{folder}/{}", self.oid)
    }
}

/// Whether git finds the program `git-lfs`.
pub(crate) fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("git-lfs").is_file())
}

/// Whether attributes at a commit give files to Git LFS.
///
/// # Errors
/// git can't be started.
pub(crate) async fn in_use(git: &Git, sha: &Sha) -> Result<bool, WorkspaceError> {
    Ok(git.ask(&search(&sha.0)).await?.ok)
}

/// The call of git that succeeds if attributes at a commit give files to Git LFS.
pub(crate) const fn search(sha: &str) -> [&str; 7] {
    ["grep", "-q", "-e", "filter=lfs", sha, "--", ":(glob)**/.gitattributes"]
}

/// Takes the large files that the commits after `fork` name out of the workspace. Returns why the
/// agent must change its commits first; none if all files are there.
///
/// # Errors
/// git fails, or the base can't be written.
pub(crate) async fn take(
    base: &Base,
    workspace: &WalledGit,
    fork: &Sha,
    head: &Sha,
    gate: &GateConfig,
) -> Result<Option<String>, WorkspaceError> {
    if !in_use(base.git(), head).await? {
        return Ok(None);
    }
    let plain = plain(base, fork, head).await?;
    if !plain.is_empty() {
        return Ok(Some(format!(
            "Your commits hold files as they are that `.gitattributes` gives to Git LFS: {}. Take \
             them out of all of your commits (`git reset --soft {}`), and add them with `git-lfs` \
             installed, or leave them uncommitted: afk then adds them.",
            list(&plain),
            fork.short()
        )));
    }
    let (mut missing, mut secrets) = (Vec::new(), Vec::new());
    let mut left = BYTES_LIMIT;
    let exempt = globs(&gate.scan_exempt);
    for (path, pointer) in pointers(base, fork, head).await? {
        let to = base.dir().join(pointer.path());
        if !to.exists() {
            let Some(rest) = left.checked_sub(pointer.size) else {
                let why = "the files for Git LFS are larger than 2 GiB".to_owned();
                return Err(WorkspaceError::Refused { why });
            };
            left = rest;
            if !take_one(base, workspace, &pointer, &to).await? {
                missing.push(path);
                continue;
            }
        }
        if pointer.size <= SEARCH_LIMIT && !exempt.is_match(OsStr::from_bytes(&path)) {
            let bytes = std::fs::read(&to).map_err(WorkspaceError::io(&to))?;
            if !Redactor::default().revealed(&bytes).is_empty() {
                secrets.push(path);
            }
        }
    }
    let mut lines = Vec::new();
    if !missing.is_empty() {
        lines.push(format!(
            "Git LFS has no content for: {}. Add the files again with `git add`.",
            list(&missing)
        ));
    }
    if !secrets.is_empty() {
        lines.push(format!("Files for Git LFS hold secrets: {}. Take them out.", list(&secrets)));
    }
    Ok((!lines.is_empty()).then(|| lines.join("\n")))
}

/// Takes one file. Returns whether the workspace has it as the pointer says.
async fn take_one(
    base: &Base,
    workspace: &WalledGit,
    pointer: &Pointer,
    to: &Path,
) -> Result<bool, WorkspaceError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = to.parent().unwrap_or(to);
    std::fs::create_dir_all(folder).map_err(WorkspaceError::io(folder))?;
    let new = PartialObject(base.dir().join(format!("lfs/new-{}-{number}", std::process::id())));
    // A process with our id may have crashed.
    super::trash::remove(&new.0).map_err(WorkspaceError::io(&new.0))?;
    let from = format!(".git/{}", pointer.path());
    if !workspace.copy(&from, &new.0, pointer.size).await? {
        return Ok(false);
    }
    let (path, wanted) = (new.0.clone(), pointer.clone());
    let fits = tokio::task::spawn_blocking(move || fits(&path, &wanted)).await;
    let fits = fits.map_err(|e| WorkspaceError::Io { path: new.0.clone(), source: e.into() })?;
    if fits.map_err(WorkspaceError::io(&new.0))? {
        std::fs::rename(&new.0, to).map_err(WorkspaceError::io(to))?;
        return Ok(true);
    }
    Ok(false)
}

/// A file that is deleted unless it was renamed.
struct PartialObject(PathBuf);

impl Drop for PartialObject {
    fn drop(&mut self) {
        // It is gone once it was renamed.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a file has the size and the digest of a pointer.
fn fits(path: &Path, pointer: &Pointer) -> std::io::Result<bool> {
    let mut file = std::fs::File::open(path)?;
    if file.metadata()?.len() != pointer.size {
        return Ok(false);
    }
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(format!("{:x}", hash.finalize()) == pointer.oid)
}

/// Uploads the large files that the commits of `head` name and that the upstream lacks. Returns why
/// that failed; none if all are at the remote.
///
/// # Errors
/// git can't be started.
pub(super) async fn upload(
    base: &Base,
    head: &Sha,
    upstream: &Sha,
) -> Result<Option<String>, WorkspaceError> {
    if !in_use(base.git(), head).await? {
        return Ok(None);
    }
    let pointers = pointers(base, upstream, head).await?;
    let here = pointers.values().filter(|pointer| base.dir().join(pointer.path()).exists());
    let oids: Vec<&str> = here.map(|pointer| pointer.oid.as_str()).collect();
    if oids.is_empty() {
        return Ok(None);
    }
    if !is_installed() {
        return Ok(Some("the change has files for Git LFS, and git-lfs is not installed".into()));
    }
    let mut settings = vec![format!("remote.origin.pushurl={}", base.remote())];
    // Only the upstream's own configuration says where the files go; nobody has reviewed the run's.
    let blob = format!("{upstream}:.lfsconfig");
    let address = base.git().ask(&["config", "--blob", &blob, "lfs.url"]).await?;
    if address.ok {
        settings.push(format!("lfs.url={}", address.text().trim()));
    }
    for chunk in oids.chunks(CHUNK) {
        let mut args: Vec<&str> = settings.iter().flat_map(|setting| ["-c", setting]).collect();
        args.extend(["lfs", "push", "--object-id", "origin"]);
        args.extend(chunk);
        let pushed = base.git().reach(&args).await?;
        if !pushed.ok {
            return Ok(Some(format!("the upload to Git LFS failed: {}", pushed.summary())));
        }
    }
    Ok(None)
}

/// The pointers in the files that `head` has and `from` lacks, by path.
async fn pointers(
    base: &Base,
    from: &Sha,
    head: &Sha,
) -> Result<BTreeMap<Vec<u8>, Pointer>, WorkspaceError> {
    let args = ["rev-list", "--objects", &head.0, "--not", &from.0];
    let listed = base.git().call_bytes(&args).await?;
    let dir = base.dir().to_owned();
    let read = move || {
        let repo = Repository::open_bare(&dir)?;
        let odb = repo.odb()?;
        let mut found = BTreeMap::new();
        for line in listed.split(|byte| *byte == b'\n') {
            let Some((id, path)) = line.split_at_checked(40) else { continue };
            let id = Oid::from_str(&String::from_utf8_lossy(id))?;
            let (size, kind) = odb.read_header(id)?;
            if kind == ObjectType::Blob
                && size <= POINTER_LIMIT
                && let Some(pointer) = Pointer::parse(odb.read(id)?.data())
            {
                // Two commits may give one path two contents.
                let mut key = path.strip_prefix(b" ").unwrap_or(path).to_vec();
                while found.contains_key(&key) {
                    key.push(b' ');
                }
                found.insert(key, pointer);
            }
        }
        Ok(found)
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|e| WorkspaceError::Io { path: base.dir().to_owned(), source: e.into() })?
}

/// The files of `head` that differ from `fork`, that its attributes give to Git LFS, and that are no
/// pointers. git-lfs itself keeps empty files as they are.
async fn plain(base: &Base, fork: &Sha, head: &Sha) -> Result<Vec<Vec<u8>>, WorkspaceError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let git = base.git();
    let args = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=AM"];
    let changed = git.call_bytes(&[&args[..], &[&fork.0, &head.0]].concat()).await?;
    let changed: Vec<&[u8]> =
        changed.split(|byte| *byte == 0).filter(|path| !path.is_empty()).collect();
    let index =
        PartialObject(base.dir().join(format!("attributes-{}-{number}", std::process::id())));
    let env = [("GIT_INDEX_FILE", index.0.as_os_str())];
    git.call_with(&["read-tree", &head.0], &env).await?;
    let mut plain = Vec::new();
    for chunk in changed.chunks(CHUNK) {
        let mut args = ["check-attr", "--cached", "-z", "filter", "--"].map(OsStr::new).to_vec();
        args.extend(chunk.iter().map(|path| argument(path)));
        let listed = git.ask_with(&args, &env).await?.out;
        let mut fields = listed.split(|byte| *byte == 0);
        while let (Some(path), Some(_), Some(value)) = (fields.next(), fields.next(), fields.next())
        {
            if value == b"lfs" && !is_stored(base.dir(), head, path)? {
                plain.push(path.to_vec());
            }
        }
    }
    Ok(plain)
}

/// Whether a file of a commit is a pointer, empty, or no file.
fn is_stored(base: &Path, head: &Sha, path: &[u8]) -> Result<bool, WorkspaceError> {
    let repo = Repository::open_bare(base)?;
    let tree = repo.find_commit(Oid::from_str(&head.0)?)?.tree()?;
    let Ok(entry) = tree.get_path(Path::new(OsStr::from_bytes(path))) else { return Ok(true) };
    if entry.filemode() & 0o170_000 != 0o100_000 {
        return Ok(true);
    }
    let (size, _) = repo.odb()?.read_header(entry.id())?;
    if size == 0 || size > POINTER_LIMIT {
        return Ok(size == 0);
    }
    Ok(Pointer::parse(repo.find_blob(entry.id())?.content()).is_some())
}

/// The reason for which a run can't begin: its repository needs a program that is missing.
///
/// # Errors
/// git can't be started.
pub(crate) async fn missing(base: &Base, sha: &Sha) -> Result<Option<String>, WorkspaceError> {
    if is_installed() || !in_use(base.git(), sha).await? {
        return Ok(None);
    }
    Ok(Some("the repository uses Git LFS, and git-lfs is not installed on this machine".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_needs_version_digest_and_size() {
        let oid = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let version = "version https://git-lfs.github.com/spec/v1\n";
        let text = format!("{version}oid sha256:{oid}\nsize 5\n");
        let pointer = Pointer::parse(text.as_bytes()).unwrap();
        assert_eq!(pointer, Pointer { oid: oid.to_owned(), size: 5 });
        assert_eq!(pointer.path(), format!("lfs/objects/2c/f2/{oid}"));
        for wrong in [
            format!("oid sha256:{oid}\nsize 5\n"),
            format!("{version}oid sha256:{oid}\n"),
            format!("{version}oid sha256:../../../etc/passwd\nsize 5\n"),
            format!("{version}oid sha256:{}\nsize 5\n", oid.to_uppercase()),
        ] {
            assert_eq!(Pointer::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
