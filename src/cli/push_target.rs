//! Whether a remote on this machine accepts a push to a branch, as far as that shows without one. `afk init`
//! warns of an obstacle, and `afk doctor` reports it: otherwise the first run would meet it at its end.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::git_call::git;
use crate::core::model::id::Repo;

/// The reason for which a push would be refused, and the command that mends it.
#[derive(Debug)]
pub(super) struct Obstacle {
    pub why: String,
    pub hint: String,
}

/// The folder of a remote that lies on this machine.
pub(super) fn local_folder(remote: &str) -> Option<PathBuf> {
    let path = PathBuf::from(remote.strip_prefix("file://").unwrap_or(remote));
    path.is_dir().then_some(path)
}

/// The obstacle to a push to a branch; none for a remote on another machine.
pub(super) async fn obstacle(remote: &str, branch: &str, repo: &Repo) -> Option<Obstacle> {
    if Path::new(remote.strip_prefix("file://").unwrap_or(remote)).is_file() {
        return Some(Obstacle {
            why: format!("{remote} is a file, and nothing can be pushed to it"),
            hint: format!("name a repository as `remote` in [repos.\"{repo}\"]"),
        });
    }
    let folder = local_folder(remote)?;
    // Otherwise the folder is no repository, which the fetch reports.
    let listed = git(&["worktree", "list", "--porcelain"], Some(&folder)).await.ok()?;
    let objects = git(&["rev-parse", "--git-path", "objects"], Some(&folder)).await.ok()?;
    if access(folder.join(&objects), Access::WRITE_OK).is_err() {
        return Some(Obstacle {
            why: format!("{remote} can't be written by the user of afk"),
            hint: format!("give it the right: `chmod -R u+rwX {remote}`, by its owner"),
        });
    }
    let tree = checked_out(&listed, branch)?;
    match on_push(&folder).await.as_str() {
        "ignore" | "warn" | "false" | "no" | "off" | "0" => None,
        "updateinstead" => {
            let tracked = ["status", "--porcelain", "--untracked-files=no"];
            let changes = git(&tracked, Some(Path::new(&tree))).await.unwrap_or_default();
            (!changes.is_empty()).then(|| Obstacle {
                why: format!(
                    "{tree} has {branch} checked out with changes, so git refuses a push to it"
                ),
                hint: format!("commit them, or put them aside: `git -C {tree} stash`"),
            })
        }
        _ => Some(Obstacle {
            why: format!("{tree} has {branch} checked out, so git refuses a push to it"),
            hint: bare_hint(&tree, repo),
        }),
    }
}

/// How to get a remote that takes pushes. The other way keeps the one that is there.
fn bare_hint(tree: &str, repo: &Repo) -> String {
    format!(
        "run `git clone --bare {tree} {tree}.git` and write `remote = \"{tree}.git\"` into \
         [repos.\"{repo}\"] of afk.toml; or let a push change the files there: `git -C {tree} config \
         receive.denyCurrentBranch updateInstead`"
    )
}

/// The folder in which a branch is checked out, by git's list of worktrees. A bare repository may have some,
/// too.
fn checked_out(listed: &str, branch: &str) -> Option<String> {
    let line = format!("branch refs/heads/{branch}");
    listed
        .split("\n\n")
        .find_map(|entry| {
            let has_branch = entry.lines().any(|entry| entry == line);
            has_branch.then(|| entry.lines().find_map(|entry| entry.strip_prefix("worktree ")))?
        })
        .map(str::to_owned)
}

/// The setting of the repository about pushes to a branch that is checked out. afk's git obeys no setting
/// of the user or of the machine there.
async fn on_push(folder: &Path) -> String {
    let get = ["config", "--local", "--get", "receive.denyCurrentBranch"];
    git(&get, Some(folder)).await.unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_out_branch_is_found_in_any_worktree() {
        let listed = "worktree /r.git\nbare\n\nworktree /a\nHEAD 1\ndetached\n\n\
                      worktree /b c\nHEAD 2\nbranch refs/heads/main\n";
        assert_eq!(checked_out(listed, "main").as_deref(), Some("/b c"));
        assert_eq!(checked_out(listed, "mai"), None);
        assert_eq!(checked_out("worktree /r.git\nbare\n", "main"), None);
    }
}
