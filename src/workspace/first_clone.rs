//! The first clone of a repository: it has a limit of its own, reports how far it is, and goes on
//! from what an interrupted one has finished.
//!
//! ```text
//! base.git.new   the repository, from its first moment on
//!      │ fetch of the branch that runs start from
//!      │ fetch of every other branch
//!      ▼ rename
//! base.git
//! ```
//!
//! git discards an interrupted fetch as a whole. The branch therefore has a fetch of its own, which a
//! retry need not repeat.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::WorkspaceError;
use super::base;
use super::damage;
use super::git::Git;
use super::repository::NewRepository;
use super::trash;

/// How far a first clone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneProgress {
    /// The remote has not sent anything yet.
    Waiting,
    /// The share of objects that have arrived, in percent.
    Receiving(u8),
    /// The share of objects that git has rebuilt from their differences, in percent.
    Resolving(u8),
}

impl fmt::Display for CloneProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("cloning"),
            Self::Receiving(percent) => write!(f, "cloning {percent} %"),
            Self::Resolving(percent) => write!(f, "cloning, resolving deltas {percent} %"),
        }
    }
}

/// The limit of a first clone, and the receiver of its progress.
pub struct FirstClone<'a> {
    /// The longest that it may take.
    pub limit: Duration,
    /// Called with each change of the progress.
    pub seen: &'a (dyn Fn(CloneProgress) + Send + Sync),
}

impl fmt::Debug for FirstClone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstClone").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl FirstClone<'_> {
    /// Clones into `dir`, which doesn't exist yet.
    pub(super) async fn run(
        &self,
        dir: &Path,
        new: &NewRepository<'_>,
        branch: &str,
        git: &Git,
    ) -> Result<(), WorkspaceError> {
        let unfinished = PathBuf::from(format!("{}.new", dir.display()));
        // The remote may have another address than in an earlier attempt.
        let known = std::fs::read_to_string(unfinished.join("config")).unwrap_or_default();
        let dir_now = unfinished.clone();
        let is_sound = tokio::task::spawn_blocking(move || damage::of(&dir_now).is_none()).await;
        let goes_on = known == new.configuration() && is_sound.unwrap_or(false);
        if goes_on && unfinished.join("HEAD").is_file() {
            base::remove_locks(&unfinished, 0);
            remove_partial_packs(&unfinished);
        } else {
            trash::remove(&unfinished).map_err(WorkspaceError::io(&unfinished))?;
            new.write(&unfinished)?;
        }
        (self.seen)(CloneProgress::Waiting);
        let work = async {
            let git = git.at(&unfinished).interruptible(self.limit);
            let refspec = format!("+refs/heads/{branch}:refs/remotes/origin/{branch}");
            let first = self.fetch(&git, &["origin", &refspec]).await;
            match first {
                // Without the branch, too, the clone is of use once somebody pushes it.
                Err(WorkspaceError::Git { message, .. })
                    if message.contains("couldn't find remote ref") => {}
                first => first?,
            }
            self.fetch(&git, &["--prune", "origin"]).await
        };
        let limit = self.limit.as_secs();
        let late = || WorkspaceError::CloneDeadline { minutes: limit / 60 };
        match tokio::time::timeout(self.limit, work).await {
            Ok(Err(WorkspaceError::Deadline { .. })) | Err(_) => return Err(late()),
            Ok(done) => done?,
        }
        // A rename at the end makes the clone appear as a whole.
        std::fs::rename(&unfinished, dir).map_err(WorkspaceError::io(dir))
    }

    async fn fetch(&self, git: &Git, what: &[&str]) -> Result<(), WorkspaceError> {
        let args = [&["fetch", "--progress", "--no-tags", base::SHALLOW], what].concat();
        let seen = |line: &str| {
            if let Some(progress) = parse(line) {
                (self.seen)(progress);
            }
        };
        base::fetched(git.reach_showing(&args, &seen).await?)
    }
}

/// The progress that a line of git's reports.
fn parse(line: &str) -> Option<CloneProgress> {
    let percent = |rest: &str| {
        let (number, _) = rest.trim_start_matches(':').trim_start().split_once('%')?;
        number.parse::<u8>().ok().filter(|percent| *percent <= 100)
    };
    if let Some(rest) = line.strip_prefix("Receiving objects") {
        percent(rest).map(CloneProgress::Receiving)
    } else if let Some(rest) = line.strip_prefix("Resolving deltas") {
        percent(rest).map(CloneProgress::Resolving)
    } else {
        None
    }
}

/// Removes what a killed git had received of a pack.
fn remove_partial_packs(git_dir: &Path) {
    let entries = std::fs::read_dir(git_dir.join("objects/pack"));
    for entry in entries.into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("tmp_") {
            // A file that stays costs only its room.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_the_percent_of_gits_progress() {
        for (line, shown) in [
            ("Receiving objects:  43% (430/1000), 1.20 MiB | 300.00 KiB/s", Some("cloning 43 %")),
            ("Receiving objects: 100% (1000/1000), done.", Some("cloning 100 %")),
            ("Resolving deltas:   7% (3/41)", Some("cloning, resolving deltas 7 %")),
            ("remote: Counting objects:  50% (1/2)", None),
            ("Receiving objects: 999% (1/2)", None),
            ("fatal: the remote end hung up", None),
        ] {
            assert_eq!(parse(line).map(|p| p.to_string()).as_deref(), shown, "{line}");
        }
    }
}
