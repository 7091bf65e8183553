//! Renews a damaged base clone: sets it aside, and takes afk's own references out of it once the remote
//! is cloned anew. They name work that runs left and that no remote has.
//!
//! ```text
//! base.git ── rename ──▶ aside/base.git-<time> ─ fetch of refs/afk/* ─▶ base.git, cloned anew
//!                             └─ afk-adopted, once each reference was tried
//! ```
//!
//! A crash, or a remote that is away, in between leaves the references for the next opening.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::base::{Base, SHALLOW};
use super::damage;
use super::git::Git;
use super::repository::{self, NewRepository};
use super::trash::Trash;
use crate::core::model::plural::plural;

/// The file that says that a clone's references were taken out of it.
const ADOPTED: &str = "afk-adopted";
/// The references that no remote has.
const OURS: &str = "refs/afk";

/// The damage of a base clone, in words; `None` for a sound one, and without a clone.
///
/// # Errors
/// git can't be started.
pub(crate) async fn damage_of(base: &Path, git: &Git) -> Result<Option<String>, WorkspaceError> {
    let dir = base.to_owned();
    let found = tokio::task::spawn_blocking(move || damage::of(&dir)).await;
    if let Ok(Some(why)) = found {
        return Ok(Some(why));
    }
    if !super::base::is_clone(base) {
        return Ok(None);
    }
    // Reads the commit of every reference.
    let list = ["for-each-ref", "--format=%(objecttype)"];
    let listed = git.at(base).ask(&list).await?;
    let summary = listed.summary();
    Ok((!listed.ok && damage::is_reported(&summary)).then_some(summary))
}

/// Moves a damaged base clone into the folder `aside` beside it. Returns its new path.
///
/// # Errors
/// It can't be moved.
pub(crate) fn set_aside(base: &Path) -> Result<PathBuf, WorkspaceError> {
    let folder = base.parent().unwrap_or(base).join("aside");
    Trash::set_aside(base, &folder)
}

/// Takes afk's references out of the clones that were set aside. Returns a line about each for a person.
///
/// # Errors
/// git can't be started, or a file can't be written.
pub(crate) async fn adopt_references(base: &Base) -> Result<Vec<String>, WorkspaceError> {
    let folder = base.dir().parent().unwrap_or(base.dir()).join("aside");
    let mut lines = Vec::new();
    for clone in waiting(&folder) {
        let (kept, lost) = adopt(base, &clone).await?;
        repository::write(&clone.join(ADOPTED), "")?;
        let path = clone.display();
        let mut line = format!(
            "the base clone was damaged: it was set aside as {path} and cloned anew, with {} of \
             afk's",
            plural(kept, "reference")
        );
        if !lost.is_empty() {
            line.push_str(&format!("; {} can't be read", lost.join(", ")));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// The clones whose references nobody has taken yet.
fn waiting(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("base.git-"))
        .map(|entry| entry.path())
        .filter(|path| !path.join(ADOPTED).exists())
        .collect();
    found.sort();
    found
}

/// Fetches the references of a damaged clone, each by itself where not all can be read. Returns the number
/// of those that came, and the names of the others.
async fn adopt(base: &Base, clone: &Path) -> Result<(usize, Vec<String>), WorkspaceError> {
    // Without these two, git takes the folder for no repository.
    let new = NewRepository { bare: true, remote: None, borrows: None };
    repository::write(&clone.join("config"), &new.configuration())?;
    if !damage::has_head(clone) {
        repository::write(&clone.join("HEAD"), "ref: refs/heads/afk\n")?;
    }
    let names = references(clone);
    if names.is_empty() {
        return Ok((0, names));
    }
    fetch(base, clone, &format!("+{OURS}/*:{OURS}/*")).await?;
    for name in missing(base, &names).await? {
        fetch(base, clone, &format!("+{name}:{name}")).await?;
    }
    let lost = missing(base, &names).await?;
    Ok((names.len() - lost.len(), lost))
}

/// The names of `names` that the base has no reference of.
async fn missing(base: &Base, names: &[String]) -> Result<Vec<String>, WorkspaceError> {
    let listed = base.git().call(&["for-each-ref", "--format=%(refname)", OURS]).await?;
    let has: BTreeSet<&str> = listed.lines().collect();
    Ok(names.iter().filter(|name| !has.contains(name.as_str())).cloned().collect())
}

/// Fetches what can be read. [`missing`] shows what came.
async fn fetch(base: &Base, clone: &Path, refspec: &str) -> Result<(), WorkspaceError> {
    let path = clone.display().to_string();
    let args = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", SHALLOW, "--"];
    let args = [&args[..], &[path.as_str(), refspec]].concat();
    base.git().ask(&args).await.map(|_| ())
}

/// The names of afk's references in a clone. git itself lists none where one of them is damaged.
fn references(clone: &Path) -> Vec<String> {
    let packed = std::fs::read(clone.join("packed-refs")).unwrap_or_default();
    let packed = String::from_utf8_lossy(&packed).into_owned();
    let prefix = format!("{OURS}/");
    let mut names: Vec<String> = packed
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(_, name)| name.to_owned()))
        .filter(|name| name.starts_with(&prefix))
        .collect();
    loose(&clone.join(OURS), OURS, &mut names);
    names.sort();
    names.dedup();
    names
}

fn loose(folder: &Path, name: &str, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            loose(&entry.path(), &name, names);
        } else if entry.path().extension().is_none_or(|end| end != "lock") {
            names.push(name);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::process::Supervisor;
    use crate::workspace::first_clone::FirstClone;

    pub(in crate::workspace) fn sh(dir: &Path, line: &str) -> String {
        let us = "git() { command git -c user.name=a -c user.email=a@localhost \"$@\"; }; set -e; ";
        let out = Command::new("sh").args(["-c", &format!("{us}{line}")]).current_dir(dir).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    async fn open(dir: &Path) -> (Base, Vec<String>) {
        let supervisor = Supervisor::new("afk".into(), "test".into(), Duration::from_secs(1));
        let (base, remote) = (dir.join("pool/base.git"), dir.join("remote"));
        std::fs::create_dir_all(dir.join("pool")).unwrap();
        let git = Git::new(&base, &supervisor, "afk", Duration::from_secs(60));
        if damage_of(&base, &git).await.unwrap().is_some() {
            set_aside(&base).unwrap();
        }
        let clone = FirstClone { limit: Duration::from_secs(60), seen: &|_| {} };
        let base = Base::open(&base, remote.to_str().unwrap(), "main", &git, clone).await.unwrap();
        let lines = adopt_references(&base).await.unwrap();
        (base, lines)
    }

    #[tokio::test]
    async fn damaged_clone_is_made_anew_with_the_work_that_no_remote_has() {
        // The path of a file that is emptied, and the references that survive it.
        for (harm, kept) in [
            ("HEAD", "one two"),
            ("refs/remotes/origin/main", "one two"),
            ("objects/$(git rev-parse refs/afk/kept/two | sed 's,..,&/,')", "one"),
            ("refs/afk/kept/one", "two"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path();
            sh(
                dir,
                "git init -q -b main remote; cd remote; echo a > a; git add a; git commit -qm A",
            );
            let (base, lines) = open(dir).await;
            assert!(lines.is_empty(), "a sound clone: {lines:?}");
            sh(
                base.dir(),
                "for name in one two; do git update-ref refs/afk/kept/$name \
                 $(git commit-tree -p origin/main -m $name origin/main^{tree}); done",
            );
            sh(base.dir(), &format!("file={harm}; chmod u+w $file; : > $file"));
            let (base, lines) = open(dir).await;
            let names = sh(
                base.dir(),
                "git rev-list --objects --all >/dev/null; \
                 git for-each-ref --format='%(refname:lstrip=3) %(subject)' refs/afk/kept",
            );
            let expected: Vec<String> =
                kept.split(' ').map(|name| format!("{name} {name}")).collect();
            assert_eq!(names, expected.join("\n"), "{harm}");
            assert!(lines[0].contains("set aside as") && lines.len() == 1, "{lines:?}");
            let all = kept.contains(' ');
            assert_eq!(lines[0].ends_with("can't be read"), !all, "{harm}: {lines:?}");
            assert_eq!(base.head().await.unwrap().0, sh(&dir.join("remote"), "git rev-parse main"));
            // The next opening has nothing left to do.
            assert!(open(dir).await.1.is_empty());
        }
    }
}
