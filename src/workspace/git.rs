//! afk's own git: in the base clone, in fresh trees that no other program has touched, and in
//! quarantines of imports. It never runs where an agent or a test can write; [`super::walled_git`]
//! does.
//!
//! Every call names its repository, so that git never searches for one, and has a deadline, an
//! environment of its own (`environment`) and settings that switch off hooks, monitors and
//! helpers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::sync::RwLock;
use tokio::time::timeout;

use super::WorkspaceError;
use super::call::{self, GitOutput, subcommand};
use super::credential::{Credentials, ServedLogin};
use super::environment::{self, SETTINGS};
use super::outage;
use super::walled_git::WalledGit;
use crate::config::repos::remote_name;
use crate::core::model::id::Sha;
use crate::core::model::outage::{OutageCause, OutageKind};
use crate::lock::LockExt;
use crate::process::Supervisor;
use crate::sandbox::Sandbox;

/// The longest wait for other calls to end before stale locks are removed.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

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

/// A remote that calls may reach.
#[derive(Debug, Clone)]
struct Remote {
    address: String,
    credentials: Arc<dyn Credentials>,
    /// A folder of ours for the configuration and the credential of a call.
    folder: PathBuf,
}

/// The git program in one repository of afk's own.
#[derive(Debug, Clone)]
pub struct Git {
    repository: PathBuf,
    /// The checked-out files, where the repository has any.
    work_tree: Option<PathBuf>,
    supervisor: Supervisor,
    owner: String,
    deadline: Duration,
    remote: Option<Remote>,
    /// Whether the end of afk ends a call at once. A push ends by itself.
    interruptible: bool,
    /// Whether git finds its repository in its folder, and not by an argument that it would pass on
    /// to its helpers.
    by_folder: bool,
    /// Held by each call in any repository that this git was made for, so that locks are removed
    /// only while no call runs.
    calls: Arc<RwLock<()>>,
}

impl Git {
    /// git in the bare repository `git_dir`. Its processes are marked as `owner`'s, and each call
    /// has a deadline.
    #[must_use]
    pub fn new(git_dir: &Path, supervisor: &Supervisor, owner: &str, deadline: Duration) -> Self {
        Self {
            repository: git_dir.to_owned(),
            work_tree: None,
            supervisor: supervisor.clone(),
            owner: owner.to_owned(),
            deadline,
            remote: None,
            interruptible: false,
            by_folder: false,
            calls: Arc::default(),
        }
    }

    /// The same git with credentials for calls to a remote. The configuration and the credential
    /// of such a call lie in `folder`, which only afk may enter.
    #[must_use]
    pub fn reaching(
        &self,
        address: &str,
        credentials: Arc<dyn Credentials>,
        folder: &Path,
    ) -> Self {
        let (address, folder) = (address.to_owned(), folder.to_owned());
        Self { remote: Some(Remote { address, credentials, folder }), ..self.clone() }
    }

    /// The same git with the credentials for another remote, if it reaches one.
    #[must_use]
    pub(crate) fn toward(&self, address: &str) -> Self {
        let remote = self.remote.clone();
        let remote = remote.map(|remote| Remote { address: address.to_owned(), ..remote });
        Self { remote, ..self.clone() }
    }

    /// The same git in another bare repository.
    #[must_use]
    pub fn at(&self, git_dir: &Path) -> Self {
        Self { repository: git_dir.to_owned(), work_tree: None, ..self.clone() }
    }

    /// The same git in a tree with a repository of its own, in which only afk's git has worked.
    #[must_use]
    pub fn in_tree(&self, tree: &Path) -> Self {
        Self { repository: tree.join(".git"), work_tree: Some(tree.to_owned()), ..self.clone() }
    }

    /// The same git with processes that are marked as another owner's.
    #[must_use]
    pub fn owned_by(&self, owner: &str) -> Self {
        Self { owner: owner.to_owned(), ..self.clone() }
    }

    /// The same git with another deadline for calls that the end of afk may interrupt.
    #[must_use]
    pub fn interruptible(&self, deadline: Duration) -> Self {
        Self { deadline, interruptible: true, ..self.clone() }
    }

    /// The same git, in a tree, without the variables that name the repository: git-lfs looks at two
    /// repositories, and they would name one for both.
    #[must_use]
    pub(super) fn by_folder(&self) -> Self {
        Self { by_folder: true, ..self.clone() }
    }

    /// git in a tree that others can write to: it runs in their sandbox.
    #[must_use]
    pub fn walled(&self, tree: &Path, sandbox: Result<Option<Sandbox>, String>) -> WalledGit {
        WalledGit::new(tree, &self.supervisor, &self.owner, self.deadline, sandbox)
    }

    /// The repository that git works in.
    #[must_use]
    pub fn git_dir(&self) -> &Path {
        &self.repository
    }

    /// The folder of the checked-out files, or the bare repository.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.work_tree.as_ref().unwrap_or(&self.repository)
    }

    /// Calls git and returns its output, whatever its exit code.
    ///
    /// # Errors
    /// git can't be started, or the deadline has passed.
    pub async fn ask<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<GitOutput, WorkspaceError> {
        self.ask_with(args, &[]).await
    }

    /// [`Git::ask`] with additional environment.
    ///
    /// # Errors
    /// As [`Git::ask`].
    pub async fn ask_with<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        env: &[(&str, &OsStr)],
    ) -> Result<GitOutput, WorkspaceError> {
        let command = || {
            let mut command = self.command(&[]);
            command.args(args).env_clear().envs(environment::local()).envs(env.iter().copied());
            command
        };
        self.finish(command, &subcommand(args), &|_| {}).await
    }

    /// Calls git with what it needs to reach the remote: fetch, push.
    ///
    /// # Errors
    /// As [`Git::ask`]; [`WorkspaceError::Unavailable`] where the remote is away or doesn't accept the
    /// login.
    pub async fn reach<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<GitOutput, WorkspaceError> {
        self.reach_showing(args, &|_| {}).await
    }

    /// [`Git::reach`], which passes each line of git's progress on as soon as it is there.
    ///
    /// # Errors
    /// As [`Git::reach`].
    pub(super) async fn reach_showing<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        seen: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<GitOutput, WorkspaceError> {
        let subcommand = subcommand(args);
        let Some(remote) = &self.remote else { return self.ask(args).await };
        let unavailable = |kind, message| WorkspaceError::Unavailable {
            cause: OutageCause::new(kind, remote_name(&remote.address)),
            subcommand: subcommand.clone(),
            message,
        };
        let access = remote.credentials.of(&remote.address).await;
        let access = access.map_err(|why| unavailable(OutageKind::Credential, why))?;
        let config = remote.folder.join("remote.gitconfig");
        environment::write_remote_config(&config)?;
        let served = access.login.as_ref().map(|login| ServedLogin::serve(&remote.folder, login));
        let served = served.transpose()?;
        let settings = served.as_ref().map(ServedLogin::settings).map_or_else(Vec::new, Vec::from);
        let command = || {
            let mut command = self.command(&settings);
            command.args(args).env_clear().envs(environment::remote(&config));
            if let Some(ssh) = &access.ssh_command {
                command.env("GIT_SSH_COMMAND", ssh);
            }
            command
        };
        match self.finish(command, &subcommand, seen).await {
            // A call with a limit of its own, such as a first clone, is judged by its caller.
            Err(WorkspaceError::Deadline { seconds, .. }) if !self.interruptible => {
                let message = format!("no answer in {seconds} s");
                Err(unavailable(OutageKind::Remote, message))
            }
            Ok(output) => outage::reached(output, &subcommand, &remote.address),
            error => error,
        }
    }

    /// git with the settings of every call and with `more`, in its repository.
    fn command(&self, more: &[String]) -> Command {
        let mut command = Command::new("git");
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        for setting in more {
            command.arg("-c").arg(setting);
        }
        command.current_dir(self.dir());
        if self.by_folder {
            return command;
        }
        command.arg("--git-dir").arg(&self.repository);
        if let Some(tree) = &self.work_tree {
            command.arg("--work-tree").arg(tree);
        }
        command
    }

    /// Runs a command, and once more if a lock stopped it that a killed git left.
    async fn finish(
        &self,
        command: impl Fn() -> Command,
        subcommand: &str,
        seen: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<GitOutput, WorkspaceError> {
        let output = self.run(command(), subcommand, seen).await?;
        if output.ok || !self.stopped_by_lock(&output) || !self.break_locks().await {
            return Ok(output);
        }
        self.run(command(), subcommand, seen).await
    }

    /// Whether a call failed at a lock of this repository, and not at one of the remote's.
    fn stopped_by_lock(&self, output: &GitOutput) -> bool {
        let text = output.all_text();
        let ours = self.repository.display().to_string();
        text.lines().any(|line| line.contains(".lock': File exists") && line.contains(&ours))
    }

    /// Removes the locks of this repository if no call of ours runs. Nobody else works here, so a
    /// killed call has left them.
    async fn break_locks(&self) -> bool {
        let Ok(_alone) = timeout(LOCK_PATIENCE, self.calls.write()).await else { return false };
        super::base::remove_locks(&self.repository, 0);
        true
    }

    async fn run(
        &self,
        mut command: Command,
        subcommand: &str,
        seen: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<GitOutput, WorkspaceError> {
        let _running = self.calls.read().await;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        let started = if self.interruptible {
            self.supervisor.start_interruptible(&mut command, &self.owner)
        } else {
            self.supervisor.start_own(&mut command, &self.owner)
        };
        let mut started = started.map_err(call::failed)?;
        call::collect_showing(&mut started, subcommand, self.deadline, seen).await
    }

    /// Calls git and returns its standard output as text without the last line break.
    ///
    /// # Errors
    /// As [`Git::ask`]; a nonzero exit code is an error, too.
    pub async fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String, WorkspaceError> {
        self.call_with(args, &[]).await
    }

    /// [`Git::call`] with additional environment.
    ///
    /// # Errors
    /// As [`Git::call`].
    pub async fn call_with<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        env: &[(&str, &OsStr)],
    ) -> Result<String, WorkspaceError> {
        let output = self.ask_with(args, env).await?;
        let out = output.success(&subcommand(args)).map_err(outage::local)?;
        Ok(super::without_line_break(&out))
    }

    /// The commits that `head` has and `base` lacks, parents first. git lists them, because libgit2
    /// knows nothing of shallow repositories here.
    ///
    /// # Errors
    /// As [`Git::call`].
    pub(crate) async fn added(&self, base: &Sha, head: &Sha) -> Result<Vec<Sha>, WorkspaceError> {
        let args = ["rev-list", "--topo-order", "--reverse", &head.0, "--not", &base.0];
        let listed = self.call(&args).await?;
        Ok(listed.lines().map(|sha| Sha(sha.to_owned())).collect())
    }

    /// Calls git and returns the bytes of its standard output.
    ///
    /// # Errors
    /// As [`Git::call`].
    pub async fn call_bytes<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Vec<u8>, WorkspaceError> {
        self.ask(args).await?.success(&subcommand(args)).map_err(outage::local)
    }
}
