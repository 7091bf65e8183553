//! The git program, called so that a repository can't make it run anything.

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

/// Settings on every call. Hooks, file-system monitors and `ext::` remotes would
/// run what a repository names; automatic maintenance would go on after the call.
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

/// Subcommands that talk to a remote and need the user's whole environment for it: an ssh agent,
/// a proxy, a credential helper's own. All others get what every child gets, so that a filter that
/// a repository names sees none of ours.
const REMOTE: &[&str] = &["fetch", "push", "ls-remote"];

/// What afk commits as.
pub static OUR_IDENTITY: LazyLock<[(&str, &OsStr); 4]> = LazyLock::new(|| {
    [
        ("GIT_AUTHOR_NAME", OsStr::new("afk")),
        ("GIT_AUTHOR_EMAIL", OsStr::new("afk@localhost")),
        ("GIT_COMMITTER_NAME", OsStr::new("afk")),
        ("GIT_COMMITTER_EMAIL", OsStr::new("afk@localhost")),
    ]
});

/// Who an agent commits as: the user, as their git knows them, or afk. As environment names.
#[must_use]
pub fn committer() -> [(&'static str, String); 4] {
    /// For how long what git's configuration says is taken to be so.
    const KNOWN: Duration = Duration::from_secs(10);
    static LAST: Mutex<Option<(Instant, (String, String))>> = Mutex::new(None);
    let mut last = LAST.locked();
    let known = last.take().filter(|(at, _)| at.elapsed() < KNOWN);
    let (at, (name, email)) = known.unwrap_or_else(|| (Instant::now(), configured()));
    *last = Some((at, (name.clone(), email.clone())));
    [
        ("GIT_AUTHOR_NAME", name.clone()),
        ("GIT_AUTHOR_EMAIL", email.clone()),
        ("GIT_COMMITTER_NAME", name),
        ("GIT_COMMITTER_EMAIL", email),
    ]
}

/// The name and address of git's configuration, or ours.
fn configured() -> (String, String) {
    let known = git2::Config::open_default().and_then(|mut all| all.snapshot()).ok();
    let of = |key: &str| known.as_ref().and_then(|all| all.get_str(key).ok().map(str::to_owned));
    match (of("user.name"), of("user.email")) {
        (Some(name), Some(email)) => (name, email),
        _ => ("afk".into(), "afk@localhost".into()),
    }
}

/// Most that is kept of an answer, in bytes.
const ANSWER_LIMIT: u64 = 8 * 1024 * 1024;

/// What git says after every failure of ssh, whatever it was: the line before tells.
const BOILERPLATE: [&str; 2] =
    ["Please make sure you have the correct access rights", "and the repository exists."];

/// What git answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Ended with 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// The end of what was said, in a line.
    #[must_use]
    pub fn said(&self) -> String {
        let text = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let tells = |line: &&str| !line.trim().is_empty() && !BOILERPLATE.contains(&line.trim());
        let last: Vec<&str> = text.lines().filter(tells).collect();
        let tail = last[last.len().saturating_sub(3)..].join("; ");
        clean_line(tail.get(tail.len().saturating_sub(400)..).unwrap_or(&tail))
    }
}

/// What git is given in its environment to reach a remote: asked anew before each call, since
/// tokens end.
pub trait Credentials: std::fmt::Debug + Send + Sync {
    /// Names and values for a remote; an error is a line for a person.
    fn of<'a>(&'a self, remote: &'a str) -> BoxFuture<'a, Result<Vec<(String, String)>, String>>;
}

/// git in one folder.
#[derive(Debug, Clone)]
pub struct Git {
    dir: PathBuf,
    supervisor: Supervisor,
    owner: String,
    deadline: Duration,
    /// The remote, and what reaching it needs.
    remote: Option<(String, Arc<dyn Credentials>)>,
}

impl Git {
    /// Calls of git in `dir`, marked as `owner`'s, each with a deadline.
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

    /// The same, for calls that talk to a remote.
    #[must_use]
    pub fn reaching(&self, remote: &str, credentials: Arc<dyn Credentials>) -> Self {
        Self { remote: Some((remote.to_owned(), credentials)), ..self.clone() }
    }

    /// The same in another folder.
    #[must_use]
    pub fn at(&self, dir: &Path) -> Self {
        Self { dir: dir.to_owned(), ..self.clone() }
    }

    /// The same, marked as another's.
    #[must_use]
    pub fn owned_by(&self, owner: &str) -> Self {
        Self { owner: owner.to_owned(), ..self.clone() }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Calls git and gives what it answered, also when it says no.
    ///
    /// # Errors
    /// Where git can't be started, or the deadline passes.
    pub async fn ask<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Answer, WorkspaceError> {
        self.ask_with(args, &[]).await
    }

    /// The same with environment names set.
    ///
    /// # Errors
    /// As [`Git::ask`].
    pub async fn ask_with<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        env: &[(&str, &OsStr)],
    ) -> Result<Answer, WorkspaceError> {
        let what = args.first().map(|word| word.as_ref().to_string_lossy().into_owned());
        let what = what.unwrap_or_default();
        let mut command = Command::new("git");
        if REMOTE.contains(&what.as_str()) {
            if let Some((remote, credentials)) = &self.remote {
                let given = credentials.of(remote).await;
                let refused = |said| WorkspaceError::Git { what: what.clone(), said };
                command.envs(given.map_err(refused)?);
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
                    Some(pipe) => pipe.take(ANSWER_LIMIT).read_to_end(&mut out).await.map(|_| ()),
                    None => Ok(()),
                }
            };
            let read_err = async {
                match stderr {
                    Some(pipe) => pipe.take(ANSWER_LIMIT).read_to_end(&mut err).await.map(|_| ()),
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
            return Err(WorkspaceError::Deadline { what, seconds: self.deadline.as_secs() });
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { ok: status.map_err(io)?.success(), out: text(out), err: text(err) })
    }

    /// Adds a worktree, detached at a commit.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn add_worktree(&self, path: &Path, at: &Sha) -> Result<(), WorkspaceError> {
        let add = ["worktree", "add", "--quiet", "--force", "--detach"].map(OsStr::new);
        self.call(&[&add[..], &[path.as_os_str(), at.0.as_ref()]].concat()).await.map(|_| ())
    }

    /// A committer where the user has configured none: without one git refuses to commit, and to
    /// rebase.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn identity(
        &self,
    ) -> Result<&'static [(&'static str, &'static OsStr)], WorkspaceError> {
        let known = self.ask(&["config", "user.email"]).await?.ok;
        Ok(if known { &[] } else { &OUR_IDENTITY[..] })
    }

    /// Calls git and gives its output without the last line break; a "no" is an error.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String, WorkspaceError> {
        self.call_with(args, &[]).await
    }

    /// The same with environment names set.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn call_with<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        env: &[(&str, &OsStr)],
    ) -> Result<String, WorkspaceError> {
        let answer = self.ask_with(args, env).await?;
        if answer.ok {
            return Ok(answer.out.strip_suffix('\n').unwrap_or(&answer.out).to_owned());
        }
        let what = args.first().map(|word| word.as_ref().to_string_lossy().into_owned());
        Err(WorkspaceError::Git { what: what.unwrap_or_default(), said: answer.said() })
    }
}
