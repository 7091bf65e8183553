//! Calls the git program in a way that keeps a repository from running its own commands.
//!
//! Every call has a deadline, a reduced environment (but for calls to a remote) and settings that
//! switch off hooks, monitors and helpers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::WorkspaceError;
use crate::core::model::id::Sha;
use crate::core::model::untrusted::clean_line;
use crate::lock::LockExt;
use crate::process::{Supervisor, inherited};

/// The settings of every call. Hooks, file-system monitors and `ext::` remotes would run commands
/// that a repository names; automatic maintenance would continue after the call.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "protocol.ext.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "commit.gpgSign=false",
    "submodule.recurse=false",
];

/// The subcommands that reach a remote. They get the user's whole environment, for an ssh-agent, a
/// proxy or a credential helper. All others get the environment of every child, so that a filter
/// that a repository names sees no secret of ours.
const REMOTE: &[&str] = &["fetch", "push", "ls-remote"];

/// The author and committer of afk's own commits, as environment names.
pub(super) static OUR_IDENTITY: LazyLock<[(&str, &OsStr); 4]> = LazyLock::new(|| {
    [
        ("GIT_AUTHOR_NAME", OsStr::new("afk")),
        ("GIT_AUTHOR_EMAIL", OsStr::new("afk@localhost")),
        ("GIT_COMMITTER_NAME", OsStr::new("afk")),
        ("GIT_COMMITTER_EMAIL", OsStr::new("afk@localhost")),
    ]
});

/// The author and committer of an agent's commits, as environment names: the user of git's
/// configuration, or afk.
#[must_use]
pub(crate) fn committer() -> [(&'static str, String); 4] {
    /// How long a name that was read from git's configuration is reused.
    const FRESH: Duration = Duration::from_secs(10);
    static LAST: Mutex<Option<(Instant, (String, String))>> = Mutex::new(None);
    let mut last = LAST.locked();
    let cached = last.take().filter(|(at, _)| at.elapsed() < FRESH);
    let (at, (name, email)) = cached.unwrap_or_else(|| (Instant::now(), configured()));
    *last = Some((at, (name.clone(), email.clone())));
    [
        ("GIT_AUTHOR_NAME", name.clone()),
        ("GIT_AUTHOR_EMAIL", email.clone()),
        ("GIT_COMMITTER_NAME", name),
        ("GIT_COMMITTER_EMAIL", email),
    ]
}

/// The user's name and address from git's configuration, or afk's.
fn configured() -> (String, String) {
    let config = git2::Config::open_default().and_then(|mut all| all.snapshot()).ok();
    let get = |key: &str| config.as_ref().and_then(|all| all.get_str(key).ok().map(str::to_owned));
    match (get("user.name"), get("user.email")) {
        (Some(name), Some(email)) => (name, email),
        _ => ("afk".into(), "afk@localhost".into()),
    }
}

/// The most bytes that are kept of each output stream.
const OUTPUT_LIMIT: u64 = 8 * 1024 * 1024;

/// The lines that git prints after every failure of ssh; the line before them has the cause.
const BOILERPLATE: [&str; 2] =
    ["Please make sure you have the correct access rights", "and the repository exists."];

/// The output of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitOutput {
    /// Whether git ended with 0.
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl GitOutput {
    /// The last lines of standard error, or of standard output where that is empty, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let text = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let has_cause =
            |line: &&str| !line.trim().is_empty() && !BOILERPLATE.contains(&line.trim());
        let last: Vec<&str> = text.lines().filter(has_cause).collect();
        let tail = last[last.len().saturating_sub(3)..].join("; ");
        clean_line(tail.get(tail.len().saturating_sub(400)..).unwrap_or(&tail))
    }
}

/// Supplies the credentials for a remote, before each call since tokens expire.
pub(crate) trait Credentials: std::fmt::Debug + Send + Sync {
    /// The environment names and values for a remote; an error is one line for a person.
    fn of<'a>(&'a self, remote: &'a str) -> BoxFuture<'a, Result<Vec<(String, String)>, String>>;
}

/// The git program in one folder.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    dir: PathBuf,
    supervisor: Supervisor,
    owner: String,
    deadline: Duration,
    /// The address of the remote, and the source of credentials for it.
    remote: Option<(String, Arc<dyn Credentials>)>,
}

impl Git {
    /// git in `dir`. Its processes are marked as `owner`'s, and each call has a deadline.
    #[must_use]
    pub fn new(dir: &Path, supervisor: &Supervisor, owner: &str, deadline: Duration) -> Self {
        Self {
            dir: dir.to_owned(),
            supervisor: supervisor.clone(),
            owner: owner.to_owned(),
            deadline,
            remote: None,
        }
    }

    /// The same git with credentials for calls that reach a remote.
    #[must_use]
    pub fn reaching(&self, remote: &str, credentials: Arc<dyn Credentials>) -> Self {
        Self { remote: Some((remote.to_owned(), credentials)), ..self.clone() }
    }

    /// The same git in another folder.
    #[must_use]
    pub fn at(&self, dir: &Path) -> Self {
        Self { dir: dir.to_owned(), ..self.clone() }
    }

    /// The same git with processes that are marked as another owner's.
    #[must_use]
    pub fn owned_by(&self, owner: &str) -> Self {
        Self { owner: owner.to_owned(), ..self.clone() }
    }

    /// The folder that git works in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Calls git and returns its output, whatever its exit code.
    ///
    /// # Errors
    /// git can't be started, the credentials can't be supplied, or the deadline has passed.
    pub async fn ask<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<GitOutput, WorkspaceError> {
        self.ask_with(args, &[]).await
    }

    /// [`Git::ask`] with additional environment.
    pub async fn ask_with<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        env: &[(&str, &OsStr)],
    ) -> Result<GitOutput, WorkspaceError> {
        let subcommand = subcommand(args);
        let mut command = Command::new("git");
        if REMOTE.contains(&subcommand.as_str()) {
            if let Some((remote, credentials)) = &self.remote {
                let environment = credentials.of(remote).await;
                let failed =
                    |message| WorkspaceError::Git { subcommand: subcommand.clone(), message };
                command.envs(environment.map_err(failed)?);
            }
        } else {
            command.env_clear().envs(inherited());
        }
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        command.arg("-C").arg(&self.dir).args(args).envs(env.iter().copied());
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").env("GIT_EDITOR", "true");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"] {
            if !env.iter().any(|(set, _)| *set == name) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        let io = |source| WorkspaceError::Io { path: PathBuf::from("git"), source };
        let mut started = self.supervisor.start_own(&mut command, &self.owner).map_err(io)?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (started.child.stdout.take(), started.child.stderr.take());
        let work = async {
            let read_out = async {
                match stdout {
                    Some(pipe) => pipe.take(OUTPUT_LIMIT).read_to_end(&mut out).await.map(|_| ()),
                    None => Ok(()),
                }
            };
            let read_err = async {
                match stderr {
                    Some(pipe) => pipe.take(OUTPUT_LIMIT).read_to_end(&mut err).await.map(|_| ()),
                    None => Ok(()),
                }
            };
            let (a, b, status) = tokio::join!(read_out, read_err, started.child.wait());
            a?;
            b?;
            status
        };
        let Ok(status) = timeout(self.deadline, work).await else {
            let _ = started.child.kill().await;
            return Err(WorkspaceError::Deadline { subcommand, seconds: self.deadline.as_secs() });
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(GitOutput { ok: status.map_err(io)?.success(), out: text(out), err: text(err) })
    }

    /// Adds a worktree at `path`, detached at a commit.
    pub async fn add_worktree(&self, path: &Path, at: &Sha) -> Result<(), WorkspaceError> {
        let add = ["worktree", "add", "--quiet", "--force", "--detach"].map(OsStr::new);
        self.call(&[&add[..], &[path.as_os_str(), at.0.as_ref()]].concat()).await.map(|_| ())
    }

    /// afk's identity as environment, or nothing where the user has configured their own. Without
    /// an identity git refuses to commit and to rebase.
    pub async fn identity(
        &self,
    ) -> Result<&'static [(&'static str, &'static OsStr)], WorkspaceError> {
        let configured = self.ask(&["config", "user.email"]).await?.ok;
        Ok(if configured { &[] } else { &OUR_IDENTITY[..] })
    }

    /// Calls git and returns its standard output without the last line break.
    ///
    /// # Errors
    /// As [`Git::ask`]; a nonzero exit code is an error, too.
    pub async fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String, WorkspaceError> {
        self.call_with(args, &[]).await
    }

    /// [`Git::call`] with additional environment.
    pub async fn call_with<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        env: &[(&str, &OsStr)],
    ) -> Result<String, WorkspaceError> {
        let output = self.ask_with(args, env).await?;
        if output.ok {
            return Ok(output.out.strip_suffix('\n').unwrap_or(&output.out).to_owned());
        }
        Err(WorkspaceError::Git { subcommand: subcommand(args), message: output.summary() })
    }
}

fn subcommand<S: AsRef<OsStr>>(args: &[S]) -> String {
    let first = args.first().map(|word| word.as_ref().to_string_lossy().into_owned());
    first.unwrap_or_default()
}
