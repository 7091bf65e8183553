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

use super::WorkspaceError;
use super::droppings::CACHES;

/// The push address in a clone, where an agent's own `git push` fails with an error that explains
/// itself: afk alone pushes, once the gate is open.
const NO_PUSH: &str = "/nonexistent/agents-do-not-push--afk-does-once-the-gate-is-open";

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
