//! Doubles and tools that several tests share.

#![allow(dead_code, reason = "each tier uses its own part")]

pub mod api;
pub mod api_types;
pub mod cluster;
pub mod github;
pub mod github_ci;
pub mod manifests;
pub mod model;
pub mod nginx;
pub mod pod_security;
pub mod pty;
pub mod pve;
pub mod server;
pub mod sinks;
pub mod slow_git;
pub mod small_disk;
pub mod t3;
pub mod world;
pub mod yaml;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
pub const AFK: &str = env!("CARGO_BIN_EXE_afk");

/// The afk command without this machine's configuration.
pub fn afk(args: &[&str]) -> Command {
    let mut command = Command::new(AFK);
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AFK_") {
            command.env_remove(name);
        }
    }
    command
}

/// The kind of a JSON value, as the recorded facts name it.
pub fn json_kind(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs git in a folder and returns its output; panics if it fails.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = try_git(dir, args);
    assert!(out.status.success(), "git {args:?} in {}: {}", dir.display(), text(&out.stderr));
    text(&out.stdout).trim().to_owned()
}

pub fn try_git(dir: &Path, args: &[&str]) -> Output {
    let us =
        ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgSign=false"];
    Command::new("git").arg("-C").arg(dir).args(us).args(args).output().unwrap()
}

/// The ids of the processes that have `name=value` in their environment.
pub fn processes_with(name: &str, value: &str) -> Vec<i32> {
    afk::process::procfs::processes()
        .filter(|p| p.state != b'Z' && p.has(name, value))
        .map(|p| p.pid)
        .collect()
}

/// The journal's id, which marks the child processes of its afk.
pub fn journal_id(state: &Path) -> String {
    afk::journal::Journal::open_read_only(state).unwrap().id().unwrap()
}

/// The folder of a repository inside a state folder.
pub fn repository_folder(state: &Path, repo: &str) -> PathBuf {
    let repo = afk::core::model::id::Repo::parse(repo).unwrap();
    state.join("workspaces").join(afk::workspace::name::folder(&repo))
}

/// The commits of a branch, oldest first.
pub fn log(dir: &Path, branch: &str, format: &str) -> Vec<String> {
    let format = format!("--format={format}");
    git(dir, &["log", "--reverse", &format, branch]).lines().map(str::to_owned).collect()
}
