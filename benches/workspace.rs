//! Compares the git program with git2 for the operations of a workspace, in repositories of 100 and
//! 20,000 files, and measures a claim from the pool against them.
//! docs/adr/0003-git-program-and-git2.md has the figures and the decision.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a bench may panic, and uses a part of the support"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use afk::process::Supervisor;
use afk::sandbox::Sandbox;
use afk::workspace::base::Base;
use afk::workspace::first_clone::FirstClone;
use afk::workspace::git::Git;
use afk::workspace::pool::{Pool, Sandboxes};
use divan::{Bencher, counter::ItemsCount};
use support::git;

const FILES: [usize; 2] = [100, 20_000];

fn main() {
    divan::main();
}

/// A repository with the branches `one` and `two`, whose commits differ in one file.
fn repository(files: usize) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("repo");
    for n in 0..files {
        let path = repo.join(format!("d{}/{n}.txt", n / 200));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("file {n}\n")).unwrap();
    }
    git(&repo, &["init", "-q", "--initial-branch=one"]);
    git(&repo, &["add", "--all"]);
    git(&repo, &["commit", "-q", "-m", "one"]);
    git(&repo, &["checkout", "-q", "-b", "two"]);
    std::fs::write(repo.join("d0/0.txt"), "changed\n").unwrap();
    git(&repo, &["commit", "-q", "-a", "-m", "two"]);
    (dir, repo)
}

#[divan::bench(args = FILES, sample_count = 20)]
fn status_by_program(bencher: Bencher<'_, '_>, files: usize) {
    let (_dir, repo) = repository(files);
    bencher.counter(ItemsCount::new(files)).bench_local(|| git(&repo, &["status", "--porcelain"]));
}

#[divan::bench(args = FILES, sample_count = 20)]
fn status_by_git2(bencher: Bencher<'_, '_>, files: usize) {
    let (_dir, repo) = repository(files);
    bencher.counter(ItemsCount::new(files)).bench_local(|| {
        let repo = git2::Repository::open(&repo).unwrap();
        let mut options = git2::StatusOptions::new();
        options.include_untracked(true).update_index(false);
        repo.statuses(Some(&mut options)).unwrap().len()
    });
}

#[divan::bench(args = FILES, sample_count = 20)]
fn ahead_by_program(bencher: Bencher<'_, '_>, files: usize) {
    let (_dir, repo) = repository(files);
    bencher.bench_local(|| git(&repo, &["rev-list", "--count", "one..two"]));
}

#[divan::bench(args = FILES, sample_count = 20)]
fn ahead_by_git2(bencher: Bencher<'_, '_>, files: usize) {
    let (_dir, repo) = repository(files);
    bencher.bench_local(|| {
        let repo = git2::Repository::open(&repo).unwrap();
        let id = |name: &str| repo.revparse_single(name).unwrap().id();
        repo.graph_ahead_behind(id("two"), id("one")).unwrap()
    });
}

#[divan::bench(args = FILES, sample_count = 20)]
fn switch_by_program(bencher: Bencher<'_, '_>, files: usize) {
    let (_dir, repo) = repository(files);
    let mut odd = false;
    bencher.bench_local(|| {
        odd = !odd;
        let to = if odd { "one" } else { "two" };
        git(&repo, &["checkout", "-q", "-f", "-B", "work", to])
    });
}

#[divan::bench(args = FILES, sample_count = 20)]
fn switch_by_git2(bencher: Bencher<'_, '_>, files: usize) {
    let (_dir, repo) = repository(files);
    let mut odd = false;
    bencher.bench_local(|| {
        odd = !odd;
        let repo = git2::Repository::open(&repo).unwrap();
        let to = repo.revparse_single(if odd { "one" } else { "two" }).unwrap();
        let mut options = git2::build::CheckoutBuilder::new();
        options.force();
        repo.checkout_tree(&to, Some(&mut options)).unwrap();
        repo.set_head_detached(to.id()).unwrap();
    });
}

#[divan::bench(args = FILES, sample_count = 5, sample_size = 1)]
fn worktree_by_program(bencher: Bencher<'_, '_>, files: usize) {
    let (dir, repo) = repository(files);
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        let path = dir.path().join(format!("w{n}"));
        git(&repo, &["worktree", "add", "-q", "--detach", text(&path), "one"]);
    });
}

#[divan::bench(args = FILES, sample_count = 5, sample_size = 1)]
fn worktree_by_git2(bencher: Bencher<'_, '_>, files: usize) {
    let (dir, repo) = repository(files);
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        let repo = git2::Repository::open(&repo).unwrap();
        let name = format!("w{n}");
        repo.worktree(&name, &dir.path().join(&name), None).unwrap();
    });
}

#[derive(Debug)]
struct NoSandbox;

impl Sandboxes for NoSandbox {
    fn of(&self, _workspace: &Path) -> Result<Option<Sandbox>, String> {
        Ok(None)
    }
}

/// From the claim to a workspace on its branch, the fetch before it included.
#[divan::bench(args = FILES, sample_count = 10, sample_size = 1)]
fn claim_from_the_pool(bencher: Bencher<'_, '_>, files: usize) {
    let (dir, repo) = repository(files);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = dir.path().join("pool");
    let pool = runtime.block_on(async {
        let state = "bench".to_owned();
        let supervisor = Supervisor::new(support::AFK.into(), state, Duration::from_secs(1));
        let git = Git::new(&folder, &supervisor, "bench", Duration::from_secs(60));
        let base = folder.join("base.git");
        let first_clone = FirstClone { limit: Duration::from_secs(60), seen: &|_| {} };
        let base = Base::open(&base, text(&repo), "one", &git, first_clone).await.unwrap();
        Pool::open(base, &folder, 0, Arc::new(NoSandbox), BTreeSet::new()).await.unwrap()
    });
    bencher
        .with_inputs(|| runtime.block_on(pool.warm()).unwrap())
        .bench_local_values(|()| runtime.block_on(pool.take("work", None)).unwrap());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
