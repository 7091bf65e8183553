//! The state in which an agent leaves its workspace: the changes that it did not commit, and the
//! obstacles that only it can remove. Everything here runs inside the sandbox.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::droppings::{dropping, is_environment_file};
use super::leaks::leaves;
use super::lfs;
use super::walled_git::WalledGit;
use super::{WorkspaceError, shown};

/// The files of `.git` that exist while an operation is in progress, and the operation.
const OPERATIONS: [(&str, &str); 6] = [
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_START", "a bisection"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
];
/// The most paths that a message names.
const NAMED: usize = 20;
/// The largest new file in bytes that afk commits for an agent.
const LARGEST: u64 = 5 * 1024 * 1024;
/// The most paths of one call.
const CHUNK: usize = 200;

/// Prints the files among its words that are larger than the limit, an empty name, and each link
/// with its target. Every name ends with a zero byte.
const LARGE_AND_LINKS: &str = "limit=$1; shift; find \"$@\" -prune -type f -size \"+${limit}c\" -print0; \
    printf '\\0'; for f do if [ -L \"$f\" ]; then printf '%s\\0%s\\0' \"$f\" \"$(readlink \"$f\")\"; fi; done";

/// Commits the changes that the agent left uncommitted, with the title as the subject: changed
/// files, and new ones unless they are no part of a change.
///
/// # Errors
/// [`WorkspaceError::Unfit`] for a state that can't become a commit, with the paths; an error of
/// git.
pub(crate) async fn commit(git: &WalledGit, title: &str) -> Result<(), WorkspaceError> {
    git.break_locks().await?;
    refuse_operation(git).await?;
    let changed = status(git, &[]).await?;
    if !changed.nested.is_empty() {
        let (are, paths) = (folders(changed.nested.len()), list(&changed.nested));
        return Err(WorkspaceError::Unfit {
            why: format!(
                "{are}, so no commit of yours can contain the files: {paths}. Delete the `.git` \
                 inside to make them files of this repository, or delete them."
            ),
        });
    }
    if !changed.any {
        return Ok(());
    }
    let unwelcome = unwelcome(git, &changed.untracked).await?;
    if !unwelcome.is_empty() {
        let paths = list(&unwelcome);
        return Err(WorkspaceError::Unfit {
            why: format!(
                "You left files uncommitted that should be no part of the change: {paths}. Delete \
                 them or add them to `.gitignore`. Commit those yourself that do belong to it."
            ),
        });
    }
    let untouched = untouched(git).await?;
    git.call(&[&lfs::CLEAN[..], &["add", "--all"]].concat()).await?;
    for chunk in untouched.chunks(CHUNK) {
        let args = chunk.iter().flat_map(|entry| [OsStr::new("--cacheinfo"), argument(entry)]);
        let args: Vec<&OsStr> = [OsStr::new("update-index")].into_iter().chain(args).collect();
        git.call(&args).await?;
    }
    if git.ask(&["diff-index", "--cached", "--quiet", "HEAD"]).await?.ok {
        return Ok(());
    }
    let subject = if title.trim().is_empty() { "Work on the issue" } else { title };
    git.call(&["commit", "--quiet", "--no-verify", "-m", subject]).await?;
    Ok(())
}

/// The new files that afk does not commit for an agent, each with the reason: environments of
/// programs, files that programs leave behind, large files, and links out of the repository.
async fn unwelcome(git: &WalledGit, untracked: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, WorkspaceError> {
    let mut found: BTreeSet<(Vec<u8>, String)> = BTreeSet::new();
    let mut left: BTreeSet<(&[u8], &str)> = BTreeSet::new();
    for path in untracked {
        if let Some(dropping) = dropping(path) {
            left.insert(dropping);
        } else if is_environment_file(path) {
            found.insert((path.clone(), "an environment of a program".into()));
        }
    }
    // Some projects keep their packages in the repository.
    let parts: Vec<&[u8]> = left.iter().map(|(part, _)| *part).collect();
    let mut known: BTreeSet<Vec<u8>> = BTreeSet::new();
    for chunk in parts.chunks(CHUNK) {
        let mut args = ["ls-tree", "-z", "--name-only", "HEAD", "--"].map(OsStr::new).to_vec();
        args.extend(chunk.iter().map(|part| argument(part)));
        let listed = git.ask(&args).await?.out;
        known.extend(listed.split(|byte| *byte == 0).map(<[u8]>::to_vec));
    }
    let left = left.into_iter().filter(|(part, _)| !known.contains(*part));
    found.extend(left.map(|(part, what)| (part.to_vec(), what.to_owned())));
    let mut large: Vec<Vec<u8>> = Vec::new();
    for chunk in untracked.chunks(CHUNK) {
        let limit = LARGEST.to_string();
        let paths: Vec<Vec<u8>> =
            chunk.iter().map(|path| [b"./", path.as_slice()].concat()).collect();
        let words = paths.iter().map(|path| argument(path));
        let words: Vec<&OsStr> = [OsStr::new(&limit)].into_iter().chain(words).collect();
        let listed = git.shell(LARGE_AND_LINKS, &words, &[]).await?.out;
        let found_here = large_and_links(&listed);
        large.extend(found_here.large);
        for (path, target) in found_here.links {
            if leaves(std::path::Path::new(argument(&path)), &target) {
                found.insert((path, "a link to a place outside of the repository".into()));
            }
        }
    }
    for path in without_lfs(git, large).await? {
        let mib = LARGEST / (1024 * 1024);
        found.insert((path, format!("larger than {mib} MiB")));
    }
    Ok(found
        .into_iter()
        .map(|(path, what)| [&path, format!(" ({what})").as_bytes()].concat())
        .collect())
}

/// The output of [`LARGE_AND_LINKS`].
#[derive(Debug, PartialEq, Eq)]
struct LargeAndLinks {
    large: Vec<Vec<u8>>,
    /// Each with its target.
    links: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads the output of [`LARGE_AND_LINKS`]; the names lose their `./`.
fn large_and_links(listed: &[u8]) -> LargeAndLinks {
    let name = |field: &[u8]| field.strip_prefix(b"./").unwrap_or(field).to_vec();
    let mut fields = listed.split(|byte| *byte == 0);
    let large = fields.by_ref().take_while(|field| !field.is_empty()).map(name).collect();
    let mut links = Vec::new();
    while let (Some(path), Some(target)) = (fields.next(), fields.next()) {
        links.push((name(path), target.to_vec()));
    }
    LargeAndLinks { large, links }
}

/// The paths whose content git stores itself, and not Git LFS.
async fn without_lfs(git: &WalledGit, paths: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, WorkspaceError> {
    let mut stored = BTreeSet::new();
    for chunk in paths.chunks(CHUNK) {
        let mut args = ["check-attr", "-z", "filter", "--"].map(OsStr::new).to_vec();
        args.extend(chunk.iter().map(|path| argument(path)));
        let listed = git.ask(&args).await?.out;
        let mut fields = listed.split(|byte| *byte == 0);
        while let (Some(path), Some(_), Some(value)) = (fields.next(), fields.next(), fields.next())
        {
            if value == b"lfs" {
                stored.insert(path.to_vec());
            }
        }
    }
    Ok(paths.into_iter().filter(|path| !stored.contains(path)).collect())
}

/// The files whose bytes are those that git has, although git counts them as changed: it would
/// convert their line endings, which the agent didn't ask for. Each is a mode, an object and a path,
/// as `update-index --cacheinfo` reads them.
async fn untouched(git: &WalledGit) -> Result<Vec<Vec<u8>>, WorkspaceError> {
    let listed = git.call_bytes(&["diff-files", "--raw", "-z", "--no-abbrev"], &[]).await?;
    let mut untouched = Vec::new();
    for chunk in same_modes(&listed).chunks(CHUNK) {
        let mut args = ["hash-object", "--no-filters", "--"].map(OsStr::new).to_vec();
        args.extend(chunk.iter().map(|(_, _, path)| argument(path)));
        let hashes = git.ask(&args).await?;
        if !hashes.ok {
            // A file that can't be read can't be added either, which git reports then.
            continue;
        }
        for ((mode, id, path), hash) in chunk.iter().zip(hashes.text().lines()) {
            if id == hash {
                untouched.push([format!("{mode},{id},").as_bytes(), path].concat());
            }
        }
    }
    Ok(untouched)
}

/// The mode, object and path of each regular file with other content and the same mode, in the output
/// of `diff-files --raw -z`.
fn same_modes(listed: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let mut fields = listed.split(|byte| *byte == 0);
    let mut files = Vec::new();
    while let (Some(change), Some(path)) = (fields.next(), fields.next()) {
        let change = String::from_utf8_lossy(change).into_owned();
        let words: Vec<&str> = change.trim_start_matches(':').split(' ').collect();
        if let [old, new, id, _, "M"] = words[..]
            && old == new
            && old.starts_with("100")
        {
            files.push((old.to_owned(), id.to_owned(), path.to_vec()));
        }
    }
    files
}

fn folders(count: usize) -> &'static str {
    if count == 1 {
        "A folder is a git repository of its own"
    } else {
        "Folders are git repositories of their own"
    }
}

/// Refuses an index with conflicts, and an operation that the agent has begun and not finished.
async fn refuse_operation(git: &WalledGit) -> Result<(), WorkspaceError> {
    let listed = git.call_bytes(&["ls-files", "--unmerged", "-z"], &[]).await?;
    let path = |entry: &[u8]| entry.split(|byte| *byte == b'\t').nth(1).map(<[u8]>::to_vec);
    let unmerged: BTreeSet<Vec<u8>> = listed.split(|byte| *byte == 0).filter_map(path).collect();
    if !unmerged.is_empty() {
        let paths = list(&unmerged.into_iter().collect::<Vec<_>>());
        let why = format!("Conflicts are not resolved in: {paths}. Resolve them and commit.");
        return Err(WorkspaceError::Unfit { why });
    }
    let line = "for name do if [ -e \".git/$name\" ]; then echo \"$name\"; fi; done";
    let names = OPERATIONS.map(|(name, _)| OsStr::new(name));
    let found = git.shell(line, &names, &[]).await?.text();
    let found = OPERATIONS.iter().find(|(name, _)| found.lines().any(|line| line == *name));
    match found {
        Some((_, operation)) => Err(WorkspaceError::Unfit {
            why: format!("You have begun {operation} and not finished it. Finish or abort it."),
        }),
        None => Ok(()),
    }
}

/// The result of `git status`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Whether anything differs from `HEAD`.
    pub any: bool,
    /// The number of changed paths.
    pub count: usize,
    /// Untracked files.
    pub untracked: Vec<Vec<u8>>,
    /// Untracked folders that are repositories of their own, without a slash at the end.
    pub nested: Vec<Vec<u8>>,
}

/// Lists the changes of a workspace. Untracked files count one by one, ignored ones don't.
pub(super) async fn status(
    git: &WalledGit,
    env: &[(&str, String)],
) -> Result<Status, WorkspaceError> {
    let args = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"];
    Ok(parse(&git.call_bytes(&args, env).await?))
}

fn parse(listed: &[u8]) -> Status {
    let mut status = Status::default();
    for entry in listed.split(|byte| *byte == 0).filter(|entry| entry.len() > 3) {
        status.any = true;
        status.count += 1;
        // With all untracked files listed one by one, only a repository is listed as a folder.
        let Some(path) = entry.strip_prefix(b"?? ") else { continue };
        match path.strip_suffix(b"/") {
            Some(folder) => status.nested.push(folder.to_vec()),
            None => status.untracked.push(path.to_vec()),
        }
    }
    status
}

/// Paths for a message.
pub(crate) fn list(paths: &[Vec<u8>]) -> String {
    let mut names: Vec<String> = paths.iter().take(NAMED).map(|path| shown(path)).collect();
    if paths.len() > NAMED {
        names.push(format!("and {} more", paths.len() - NAMED));
    }
    names.join(", ")
}

/// The number of changed files, and of commits that the remote's branch lacks, for the screen.
///
/// # Errors
/// git fails, or the repository lacks the branch.
pub(crate) async fn counts(
    git: &WalledGit,
    upstream: &str,
) -> Result<(usize, usize), WorkspaceError> {
    // A lock of ours would make the agent's own git fail.
    let dirty = status(git, &[("GIT_OPTIONAL_LOCKS", "0".into())]).await?.count;
    let ahead = git.call(&["rev-list", "--count", &format!("{upstream}..HEAD")]).await?;
    Ok((dirty, ahead.parse().unwrap_or(0)))
}

/// A path of a repository as an argument.
pub(super) fn argument(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_tells_nested_repositories_from_files() {
        let status = parse(b"?? sub/\0?? new\nline\0 M caf\xe9\0A  sub/\0");
        assert_eq!(status.nested, [b"sub".to_vec()]);
        assert_eq!(status.untracked, [b"new\nline".to_vec()]);
        assert_eq!((status.any, status.count), (true, 4));
        assert_eq!(parse(b""), Status::default());
    }

    #[test]
    fn same_modes_takes_changed_regular_files() {
        let listed = b":100644 100644 a1 00 M\0caf\xe9\0:100644 100755 b1 00 M\0x\0\
            :120000 120000 c1 00 M\0link\0:100644 000000 d1 00 D\0gone\0";
        let file = ("100644".to_owned(), "a1".to_owned(), b"caf\xe9".to_vec());
        assert_eq!(same_modes(listed), [file]);
        assert!(same_modes(b"").is_empty());
    }

    #[test]
    fn large_and_links_reads_both_lists() {
        let found = large_and_links(b"./a\0./b\nc\0\0./link\0../x\0");
        assert_eq!(found.large, [b"a".to_vec(), b"b\nc".to_vec()]);
        assert_eq!(found.links, [(b"link".to_vec(), b"../x".to_vec())]);
        assert_eq!(large_and_links(b"\0"), LargeAndLinks { large: vec![], links: vec![] });
    }

    #[test]
    fn list_escapes_bytes_and_bounds_its_length() {
        assert_eq!(list(&[b"caf\xe9".to_vec(), b"a\nb".to_vec()]), "caf\\xe9, a\\nb");
        assert!(list(&vec![b"x".to_vec(); 30]).ends_with("x, and 10 more"));
    }
}
