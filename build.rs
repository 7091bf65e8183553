//! Puts the commit and its date into the version that `afk --version` prints.
//!
//! Both come from git, or from `AFK_COMMIT` and `AFK_COMMIT_DATE` where the sources are no checkout, as
//! in a package. Without either the version says so. The date is the commit's and not the build's, so
//! that two builds of one commit are the same file.
//!
//! A debug build says that it is one and keeps the commit that it first saw: otherwise each commit would
//! have everything compiled again.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=AFK_COMMIT");
    println!("cargo:rerun-if-env-changed=AFK_COMMIT_DATE");
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let of_env = |name: &str| std::env::var(name).ok().filter(|value| is_plain(value));
    let in_git =
        git(&root, &["log", "-1", "--format=%h %cs", "--abbrev=12"]).filter(|_| is_checkout(&root));
    let (commit, date) = match in_git.as_deref().and_then(|line| line.split_once(' ')) {
        Some((commit, date)) => (Some(commit.to_owned()), Some(date.to_owned())),
        None => (None, None),
    };
    let commit = of_env("AFK_COMMIT").or(commit).unwrap_or_else(|| "unknown".into());
    let date = of_env("AFK_COMMIT_DATE").or(date).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=AFK_COMMIT={commit}");
    println!("cargo:rustc-env=AFK_COMMIT_DATE={date}");
    println!("cargo:rustc-env=AFK_BUILD={}", if is_debug() { ", debug" } else { "" });
}

/// Whether these sources are the checkout itself, and not a folder in the checkout of something else.
fn is_checkout(root: &Path) -> bool {
    let top = git(root, &["rev-parse", "--show-toplevel"]).map(PathBuf::from);
    if top.and_then(|top| top.canonicalize().ok()) != root.canonicalize().ok() {
        return false;
    }
    if is_debug() {
        return true;
    }
    // A commit changes one of these. A path that doesn't exist would have the script run at each build.
    let branch = git(root, &["symbolic-ref", "-q", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(root, &["rev-parse", "--git-path", name]).map(|path| root.join(path));
        if let Some(path) = path.filter(|path| path.exists()) {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    true
}

fn is_debug() -> bool {
    std::env::var("PROFILE").is_ok_and(|profile| profile == "debug")
}

/// One line of git; none without git or without a repository.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "-.:+".contains(c))
}
