//! Writes repositories of afk's own making, file by file: with a known format whatever git's
//! defaults are, no template, no hook, and only the settings below.
//!
//! ```text
//! base.git ◄─ fetch, push                  wt-1/.git ─ objects/info/alternates ─► base.git/objects
//! ```
//!
//! A repository with borrowed objects has its own references, index and configuration, and adds
//! its own objects. It can't change those of the base, as long as the base is read-only for it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::WorkspaceError;
use super::droppings::CACHES;

/// The push address in a clone, where an agent's own `git push` fails with an error that explains
/// itself: afk alone pushes, once the gate is open.
const NO_PUSH: &str = "/nonexistent/agents-do-not-push--afk-does-once-the-gate-is-open";

/// A file with settings for libgit2 alone, in a repository of afk's own. The git program warns about this
/// key, so it can't be in the configuration that both read.
const LIBGIT2_FILE: &str = "libgit2.config";
const LIBGIT2_SETTINGS: &str = "[core]\n\tfsyncObjectFiles = true\n";

/// The content of a new repository.
#[derive(Debug)]
pub(super) struct NewRepository<'a> {
    /// Whether it has no checked-out files.
    pub bare: bool,
    /// The address that fetches go to; none has no remote.
    pub remote: Option<&'a str>,
    /// The folder of the repository whose objects it borrows.
    pub borrows: Option<&'a Path>,
}

impl NewRepository<'_> {
    /// Writes the repository into the new folder `git_dir`. Its `HEAD` names a branch that does
    /// not exist yet.
    pub(super) fn write(&self, git_dir: &Path) -> Result<(), WorkspaceError> {
        for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
            let path = git_dir.join(folder);
            std::fs::create_dir_all(&path).map_err(WorkspaceError::io(&path))?;
        }
        write(&git_dir.join("HEAD"), "ref: refs/heads/afk\n")?;
        write(&git_dir.join("config"), &self.configuration())?;
        if !self.bare {
            write(&git_dir.join("info/exclude"), CACHES)?;
        }
        match self.borrows {
            Some(base) => {
                let mut line = base.join("objects").into_os_string().into_encoded_bytes();
                line.push(b'\n');
                let path = git_dir.join("objects/info/alternates");
                std::fs::write(&path, line).map_err(WorkspaceError::io(&path))?;
                copy_shallow(base, git_dir)
            }
            None => Ok(()),
        }
    }

    /// The whole configuration. Version 0 means SHA-1 and references in files.
    pub(super) fn configuration(&self) -> String {
        let mut text = format!(
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = {}\n",
            self.bare
        );
        if !self.bare {
            text.push_str("\tlogallrefupdates = true\n");
        }
        if let Some(remote) = self.remote {
            let remote = remote.replace('\\', "\\\\").replace('"', "\\\"");
            text.push_str(&format!(
                "[remote \"origin\"]\n\turl = \"{remote}\"\n\tpushurl = {NO_PUSH}\n\t\
                 fetch = +refs/heads/*:refs/remotes/origin/*\n"
            ));
        }
        text
    }
}

/// Opens a bare repository of afk's own for libgit2 to write objects. libgit2 syncs none by itself, so
/// that a power cut could leave an empty object under a name that a synced reference or the journal has.
/// Here it syncs each object and its folder before it returns the name.
pub(super) fn open_for_writing(dir: &Path) -> Result<git2::Repository, WorkspaceError> {
    let file = dir.join(LIBGIT2_FILE);
    if std::fs::read(&file).ok().as_deref() != Some(LIBGIT2_SETTINGS.as_bytes()) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = dir.join(format!("{LIBGIT2_FILE}.{}-{number}", std::process::id()));
        write(&new, LIBGIT2_SETTINGS)?;
        // Another thread never reads half of it.
        std::fs::rename(&new, &file).map_err(WorkspaceError::io(&new))?;
    }
    let repository = git2::Repository::open_bare(dir)?;
    // Before the first use of the objects, which reads the setting once.
    repository.config()?.add_file(&file, git2::ConfigLevel::App, false)?;
    Ok(repository)
}

/// Copies the list of commits whose parents the base lacks, because its remote is shallow.
pub(super) fn copy_shallow(base: &Path, git_dir: &Path) -> Result<(), WorkspaceError> {
    let path = git_dir.join("shallow");
    match std::fs::read_to_string(base.join("shallow")) {
        Ok(list) => write(&path, &list),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(WorkspaceError::Io { path: base.join("shallow"), source }),
    }
}

/// Writes a file of a repository.
pub(super) fn write(path: &Path, text: &str) -> Result<(), WorkspaceError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(WorkspaceError::io(folder))?;
    }
    std::fs::write(path, text).map_err(WorkspaceError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libgit2_syncs_what_it_writes_and_git_warns_of_nothing() {
        let dir = tempfile::tempdir().unwrap();
        NewRepository { bare: true, remote: None, borrows: None }.write(dir.path()).unwrap();
        for _ in 0..2 {
            let repository = open_for_writing(dir.path()).unwrap();
            let config = repository.config().unwrap().snapshot().unwrap();
            assert!(config.get_bool("core.fsyncobjectfiles").unwrap());
            repository.blob(b"content").unwrap();
            // A power cut may empty the file.
            std::fs::write(dir.path().join(LIBGIT2_FILE), "").unwrap();
        }
        let mut git = std::process::Command::new("git");
        let listed = git.arg("--git-dir").arg(dir.path()).args(["count-objects"]).output().unwrap();
        assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
        assert!(listed.stdout.starts_with(b"1 objects"), "{listed:?}");
    }
}
