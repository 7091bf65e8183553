//! The submodules of a fresh tree: repositories of their own whose objects are borrowed from mirrors
//! beside the base clone.
//!
//! ```text
//! .gitmodules of the run's base ─▶ address ─ fetch ─▶ modules/<digest>.git     afk's alone
//! gitlink of the tree's commit ──▶ commit                 │ objects, read-only
//!                                                         ▼
//!                                        <tree>/<path>/.git, checked out
//! ```
//!
//! An agent can change `.gitmodules`, so only that of the base names an address, and no address
//! leads to a program or, unless the repository itself lies on this machine, to a folder of it.
//! Submodules of submodules are left alone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::WorkspaceError;
use super::base::{Base, refuse_link};
use super::pool::FreshTree;
use super::repository::{self, NewRepository};
use crate::config::setup::is_inside;
use crate::core::model::digest::Digest;
use crate::core::model::id::Sha;

/// The folder of the mirrors, beside the base clone.
const MODULES: &str = "modules";
/// The most submodules of a repository.
const SUBMODULES_LIMIT: usize = 200;

/// A submodule as `.gitmodules` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Submodule {
    name: String,
    path: String,
    url: String,
}

/// The folder of the mirrors of a repository, which its trees read.
pub(crate) fn mirrors(repository: &Path) -> PathBuf {
    repository.join(MODULES)
}

/// Checks the submodules of a fresh tree out, which is at `commit`. `trusted` is the commit whose
/// `.gitmodules` counts. A fetch takes at most `limit`.
///
/// # Errors
/// [`WorkspaceError::Refused`] for an address that isn't allowed, or a commit that the submodule's
/// remote lacks; an error of git.
pub(crate) async fn check_out(
    base: &Base,
    tree: &FreshTree,
    commit: &Sha,
    trusted: &Sha,
    limit: Duration,
) -> Result<(), WorkspaceError> {
    for submodule in named(base, trusted).await? {
        let Some(wanted) = gitlink(base, commit, &submodule.path).await? else { continue };
        let refuse = |why: String| WorkspaceError::Refused {
            why: format!("the submodule {}: {why}", submodule.path),
        };
        let url = address(&submodule.url, base.remote()).map_err(refuse)?;
        let mirror = fetch(base, &url, &wanted, limit).await.map_err(|error| match error {
            WorkspaceError::Refused { why } => refuse(why),
            other => other,
        })?;
        borrow(tree, &submodule, &url, &mirror, &wanted).await?;
    }
    Ok(())
}

/// The submodules that `.gitmodules` of a commit names with a path and an address.
async fn named(base: &Base, commit: &Sha) -> Result<Vec<Submodule>, WorkspaceError> {
    let blob = format!("{commit}:.gitmodules");
    let keys = r"^submodule\..*\.(path|url)$";
    // Without the file, git fails and nothing is named.
    let listed =
        base.git().ask(&["config", "-z", "--blob", &blob, "--get-regexp", keys]).await?.out;
    Ok(parse(&String::from_utf8_lossy(&listed)))
}

fn parse(listed: &str) -> Vec<Submodule> {
    let mut found: Vec<Submodule> = Vec::new();
    for entry in listed.split('\0') {
        let Some((key, value)) = entry.split_once('\n') else { continue };
        let key = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.'));
        let Some((name, what)) = key else { continue };
        let at = found.iter().position(|known| known.name == name).unwrap_or_else(|| {
            found.push(Submodule { name: name.into(), path: String::new(), url: String::new() });
            found.len() - 1
        });
        match what {
            "path" => value.clone_into(&mut found[at].path),
            _ => value.clone_into(&mut found[at].url),
        }
    }
    found.retain(|known| is_inside(&known.path) && !known.url.is_empty());
    found.truncate(SUBMODULES_LIMIT);
    found
}

/// The commit that a tree has at a path, if it has a submodule there.
async fn gitlink(base: &Base, commit: &Sha, path: &str) -> Result<Option<Sha>, WorkspaceError> {
    let args = ["ls-tree", "-z", "--full-tree", &commit.0, "--", path];
    let literal = [("GIT_LITERAL_PATHSPECS", OsStr::new("1"))];
    let listed = base.git().call_with(&args, &literal).await?;
    let link = listed.strip_prefix("160000 commit ").and_then(|rest| rest.split('\t').next());
    Ok(link.map(|sha| Sha(sha.to_owned())))
}

/// The kinds of addresses that afk tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
    Ssh,
    Git,
    File,
}

fn scheme(url: &str) -> Option<Scheme> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if url.starts_with('-') || url.chars().any(char::is_control) {
        return None;
    }
    if let Some((name, _)) = url.split_once("::")
        && name.chars().all(word)
    {
        // It names a program that git would run.
        return None;
    }
    match url.split_once("://") {
        Some(("https", _)) => Some(Scheme::Https),
        Some(("http", _)) => Some(Scheme::Http),
        Some(("ssh" | "git+ssh" | "ssh+git", _)) => Some(Scheme::Ssh),
        Some(("git", _)) => Some(Scheme::Git),
        Some(("file", _)) => Some(Scheme::File),
        Some(_) => None,
        None if url.starts_with('/') => Some(Scheme::File),
        // `host:path`, as scp has it.
        None if url.split('/').next().is_some_and(|host| host.contains(':')) => Some(Scheme::Ssh),
        None => None,
    }
}

/// The whole address of a submodule: a relative one starts from that of the repository.
fn address(url: &str, upstream: &str) -> Result<String, String> {
    let mut whole = url.to_owned();
    if url.starts_with("./") || url.starts_with("../") {
        let mut start = upstream.trim_end_matches('/');
        let mut rest = url;
        loop {
            if let Some(shorter) = rest.strip_prefix("./") {
                rest = shorter;
            } else if let Some(shorter) = rest.strip_prefix("../") {
                rest = shorter;
                let end =
                    start.rfind(['/', ':']).filter(|end| !start[..*end].ends_with([':', '/']));
                let end = end.ok_or_else(|| format!("{url} leads out of {upstream}"))?;
                // A colon belongs to the host before it.
                start = if start[end..].starts_with(':') { &start[..=end] } else { &start[..end] };
            } else {
                break;
            }
        }
        let between = if start.ends_with(':') { "" } else { "/" };
        whole = format!("{start}{between}{rest}");
    }
    let theirs = scheme(&whole).ok_or_else(|| format!("{url} is not an allowed address"))?;
    if matches!(theirs, Scheme::Https | Scheme::Ssh) || scheme(upstream) == Some(theirs) {
        return Ok(whole);
    }
    Err(format!("{url} is not an allowed address: only https, ssh, and the repository's own kind"))
}

/// Fetches a commit into the mirror of an address, and returns the mirror.
async fn fetch(
    base: &Base,
    url: &str,
    wanted: &Sha,
    limit: Duration,
) -> Result<PathBuf, WorkspaceError> {
    let folder = base.dir().parent().map(mirrors).unwrap_or_default();
    refuse_link(&folder)?;
    let mirror = folder.join(format!("{}.git", Digest::of(&[url.as_bytes()])));
    if !mirror.join("HEAD").exists() {
        let new = NewRepository { bare: true, remote: Some(url), borrows: None };
        new.write(&mirror)?;
    }
    let git = base.git().at(&mirror).toward(url).interruptible(limit);
    let commit = format!("{wanted}^{{commit}}");
    if git.ask(&["cat-file", "-e", &commit]).await?.ok {
        return Ok(mirror);
    }
    let one = ["fetch", "--quiet", "--no-tags", "--depth=1", "origin", &wanted.0];
    let fetched = git.reach(&one).await;
    if !fetched.as_ref().is_ok_and(|fetched| fetched.ok) {
        // The server may give whole branches only.
        let all = git.reach(&["fetch", "--quiet", "--no-tags", "origin"]).await?;
        all.success("fetch")?;
    }
    if git.ask(&["cat-file", "-e", &commit]).await?.ok {
        return Ok(mirror);
    }
    let why = format!("its remote has no commit {}: {}", wanted.short(), fetched?.summary());
    Err(WorkspaceError::Refused { why })
}

/// Makes the repository of a submodule in the tree and checks its commit out.
async fn borrow(
    tree: &FreshTree,
    submodule: &Submodule,
    url: &str,
    mirror: &Path,
    wanted: &Sha,
) -> Result<(), WorkspaceError> {
    let mut folder = tree.path().to_owned();
    for part in Path::new(&submodule.path).components() {
        folder.push(part);
        refuse_link(&folder)?;
    }
    let git_dir = folder.join(".git");
    let new = NewRepository { bare: false, remote: Some(url), borrows: Some(mirror) };
    new.write(&git_dir)?;
    repository::write(&git_dir.join("HEAD"), &format!("{wanted}\n"))?;
    // Without it git misses the parents of the one commit that was fetched.
    if let Ok(shallow) = std::fs::read_to_string(mirror.join("shallow")) {
        repository::write(&git_dir.join("shallow"), &shallow)?;
    }
    tree.git().in_tree(&folder).call(&["reset", "--quiet", "--hard", &wanted.0]).await?;
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    tree.configure(&format!(
        "[submodule \"{}\"]\n\tactive = true\n\turl = \"{}\"\n",
        quoted(&submodule.name),
        quoted(url)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_no_program_and_no_folder_of_this_machine() {
        let (hub, here) = ("https://hub.example/acme/app.git", "/srv/acme/app.git");
        let scp = "git@hub.example:acme/app.git";
        for (url, upstream, whole) in [
            ("https://other.example/lib", hub, Some("https://other.example/lib")),
            ("git@other.example:lib.git", hub, Some("git@other.example:lib.git")),
            ("../lib.git", hub, Some("https://hub.example/acme/lib.git")),
            ("../../lib.git", hub, Some("https://hub.example/lib.git")),
            ("../../../lib.git", hub, None),
            ("../lib.git", scp, Some("git@hub.example:acme/lib.git")),
            ("../../lib.git", scp, Some("git@hub.example:lib.git")),
            ("../lib.git", here, Some("/srv/acme/lib.git")),
            ("./lib", here, Some("/srv/acme/app.git/lib")),
            ("/srv/private", here, Some("/srv/private")),
            ("/srv/private", hub, None),
            ("file:///srv/private", hub, None),
            ("ext::sh -c whoami", hub, None),
            ("ext::sh -c whoami", here, None),
            ("-u./payload", here, None),
            ("http://other.example/lib", hub, None),
            ("git://other.example/lib", hub, None),
            ("lib", here, None),
            ("https://a.example/x\ny", hub, None),
        ] {
            assert_eq!(address(url, upstream).ok().as_deref(), whole, "{url} in {upstream}");
        }
    }

    #[test]
    fn parse_keeps_names_with_dots_and_drops_paths_out_of_the_tree() {
        let listed = "submodule.a.b.path\nvendor/a\0submodule.a.b.url\n../a.git\0\
                      submodule.evil.path\n../up\0submodule.evil.url\nhttps://x/y\0\
                      submodule.git.path\n.git/hooks\0submodule.git.url\nhttps://x/y\0\
                      submodule.half.path\nhalf\0";
        let found = parse(listed);
        assert_eq!(
            found,
            [Submodule { name: "a.b".into(), path: "vendor/a".into(), url: "../a.git".into() }]
        );
    }
}
