//! git inside the sandbox, in a tree that an agent, a test or a job can write to.
//!
//! Such a repository decides which programs git runs: filters, hooks, monitors, helpers. Git
//! therefore has no right here that the agent doesn't have, and everything that it returns is as
//! untrusted as the agent's own output.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::WorkspaceError;
use super::call::{self, GitOutput, subcommand};
use super::environment::{self, SETTINGS};
use super::git::committer;
use crate::core::model::id::Sha;
use crate::process::{ChildHandle, Spec, StdinMode, Supervisor};
use crate::sandbox::Sandbox;

/// Removes the lock files that a killed git left. Links are not followed.
const BREAK_LOCKS: &str =
    "find .git -path .git/objects -prune -o -type f -name '*.lock' -exec rm -f {} +";

/// The git program in one tree of others.
#[derive(Debug, Clone)]
pub struct WalledGit {
    dir: PathBuf,
    supervisor: Supervisor,
    owner: String,
    deadline: Duration,
    /// The sandbox, or why it can't be built: git then doesn't start.
    sandbox: Result<Option<Sandbox>, String>,
}

impl WalledGit {
    /// git in `dir`. Its processes are marked as `owner`'s, and each call has a deadline.
    #[must_use]
    pub fn new(
        dir: &Path,
        supervisor: &Supervisor,
        owner: &str,
        deadline: Duration,
        sandbox: Result<Option<Sandbox>, String>,
    ) -> Self {
        let (dir, owner) = (dir.to_owned(), owner.to_owned());
        Self { dir, supervisor: supervisor.clone(), owner, deadline, sandbox }
    }

    /// The same git with processes that are marked as another owner's.
    #[must_use]
    pub fn owned_by(&self, owner: &str) -> Self {
        Self { owner: owner.to_owned(), ..self.clone() }
    }

    /// The tree that git works in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Calls git and returns its output, whatever its exit code.
    ///
    /// # Errors
    /// git can't be started, or the deadline has passed.
    pub async fn ask<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<GitOutput, WorkspaceError> {
        self.ask_with(args, &[]).await
    }

    /// [`WalledGit::ask`] with additional environment.
    ///
    /// # Errors
    /// As [`WalledGit::ask`].
    pub async fn ask_with<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        env: &[(&str, String)],
    ) -> Result<GitOutput, WorkspaceError> {
        let mut started = self.start(self.git(args, env), StdinMode::Null)?;
        call::collect(&mut started, &subcommand(args), self.deadline).await
    }

    /// Calls git and returns its standard output as text without the last line break.
    ///
    /// # Errors
    /// As [`WalledGit::ask`]; a nonzero exit code is an error, too.
    pub async fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String, WorkspaceError> {
        Ok(super::without_line_break(&self.call_bytes(args, &[]).await?))
    }

    /// Calls git with additional environment and returns the bytes of its standard output.
    ///
    /// # Errors
    /// As [`WalledGit::call`].
    pub async fn call_bytes<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        env: &[(&str, String)],
    ) -> Result<Vec<u8>, WorkspaceError> {
        self.ask_with(args, env).await?.success(&subcommand(args))
    }

    /// Runs a line of shell in the tree, with `words` as its positional parameters. `git` in it
    /// works in this repository.
    ///
    /// # Errors
    /// As [`WalledGit::ask`].
    pub(super) async fn shell(
        &self,
        line: &str,
        words: &[&OsStr],
        env: &[(&str, String)],
    ) -> Result<GitOutput, WorkspaceError> {
        let mut spec = Spec::shell(&self.owner, line, &self.dir);
        spec.args.push("sh".into());
        spec.args.extend(words.iter().map(|word| (*word).to_owned()));
        spec.env = self.environment(env);
        let mut started = self.start(spec, StdinMode::Null)?;
        call::collect(&mut started, "sh", self.deadline).await
    }

    /// Ends what git left behind, in a workspace where nothing else of its owner runs.
    pub(super) async fn end_rest(&self) {
        self.supervisor.end_rest(&self.owner).await;
    }

    /// Removes the locks that a killed git left in the repository. Call it only once the run's own
    /// processes have ended.
    ///
    /// # Errors
    /// As [`WalledGit::ask`].
    pub async fn break_locks(&self) -> Result<(), WorkspaceError> {
        // Without a repository there is no lock either.
        self.shell(BREAK_LOCKS, &[], &[]).await.map(|_| ())
    }

    /// The commit that a revision names; none if there is no such commit.
    ///
    /// # Errors
    /// As [`WalledGit::ask`], or git prints something else than the name of a commit.
    pub async fn commit(&self, revision: &str) -> Result<Option<Sha>, WorkspaceError> {
        let name = format!("{revision}^{{commit}}");
        let output = self.ask(&["rev-parse", "--verify", "--quiet", &name]).await?;
        if !output.ok {
            return Ok(None);
        }
        let sha = super::without_line_break(&output.out);
        if sha.len() == 40 && sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Some(Sha(sha.to_ascii_lowercase())));
        }
        let message = "it printed something else than the name of a commit".into();
        Err(WorkspaceError::Git { subcommand: "rev-parse".into(), message })
    }

    /// Puts the workspace on a branch at a commit with the same files.
    ///
    /// # Errors
    /// As [`WalledGit::call`].
    pub async fn move_branch(&self, branch: &str, to: &Sha) -> Result<(), WorkspaceError> {
        let name = format!("refs/heads/{branch}");
        self.call(&["update-ref", &name, &to.0]).await?;
        self.call(&["symbolic-ref", "HEAD", &name]).await.map(|_| ())
    }

    /// Points the remote-tracking reference of a branch at a commit, for the agent.
    ///
    /// # Errors
    /// As [`WalledGit::call`].
    pub async fn track(&self, branch: &str, at: &Sha) -> Result<(), WorkspaceError> {
        let name = format!("refs/remotes/origin/{branch}");
        self.call(&["update-ref", &name, &at.0]).await.map(|_| ())
    }

    /// Writes a pack with all objects of `head` that `known` does not reach into `file`.
    ///
    /// # Errors
    /// As [`WalledGit::call`], or the pack is larger than `limit` bytes.
    pub(super) async fn pack(
        &self,
        head: &Sha,
        known: &Sha,
        file: &Path,
        limit: u64,
    ) -> Result<(), WorkspaceError> {
        let args = ["pack-objects", "--revs", "--stdout", "--quiet", "--delta-base-offset"];
        let revisions = format!("{head}\n^{known}\n");
        let spec = self.git(&args, &[]);
        let (ok, err) = self.stream(spec, &revisions, file, limit).await?;
        GitOutput { ok, out: Vec::new(), err }.success("pack-objects").map(|_| ())
    }

    /// Copies a file of the tree into the new file `file`. Returns whether it could be read and has at
    /// most `limit` bytes.
    ///
    /// # Errors
    /// As [`WalledGit::ask`], or the new file can't be written.
    pub(super) async fn copy(
        &self,
        path: &str,
        file: &Path,
        limit: u64,
    ) -> Result<bool, WorkspaceError> {
        let mut spec = Spec::shell(&self.owner, "exec cat < \"$1\"", &self.dir);
        spec.args.extend(["sh".into(), path.into()]);
        spec.env = self.environment(&[]);
        match self.stream(spec, "", file, limit).await {
            Ok((ok, _)) => Ok(ok),
            Err(WorkspaceError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes the standard output of a program into the new file `file`. Returns whether it ended
    /// with 0, and its standard error.
    async fn stream(
        &self,
        spec: Spec,
        input: &str,
        file: &Path,
        limit: u64,
    ) -> Result<(bool, Vec<u8>), WorkspaceError> {
        let mut started = self.start(spec, StdinMode::Piped)?;
        let (stdin, stdout) = (started.child.stdin.take(), started.child.stdout.take());
        let stderr = started.child.stderr.take();
        let write = async {
            let mut pack = tokio::fs::File::create_new(file).await?;
            let mut written = 0;
            if let Some(pipe) = stdout {
                written =
                    tokio::io::copy(&mut pipe.take(limit.saturating_add(1)), &mut pack).await?;
            }
            pack.sync_all().await?;
            Ok::<_, std::io::Error>(written)
        };
        let ask = async {
            if let Some(mut pipe) = stdin {
                // It fails when git has already ended, which the exit code shows.
                let _ = pipe.write_all(input.as_bytes()).await;
            }
        };
        let work = async {
            let ((), written, err, status) =
                tokio::join!(ask, write, call::read(stderr), started.child.wait());
            Ok::<_, std::io::Error>((written, err?, status?))
        };
        let Ok(done) = timeout(self.deadline, work).await else {
            // It may have ended in this moment.
            let _ = started.child.kill().await;
            let (subcommand, seconds) = ("copy".into(), self.deadline.as_secs());
            return Err(WorkspaceError::Deadline { subcommand, seconds });
        };
        let (written, err, status) = done.map_err(call::failed)?;
        if written.map_err(WorkspaceError::io(file))? > limit {
            let mib = limit / (1024 * 1024);
            let why = format!("the commits or a file hold more than {mib} MiB");
            return Err(WorkspaceError::Refused { why });
        }
        Ok((status.success(), err))
    }

    fn git<S: AsRef<OsStr>>(&self, args: &[S], env: &[(&str, String)]) -> Spec {
        let settings = SETTINGS.iter().flat_map(|setting| ["-c".into(), OsString::from(*setting)]);
        let args = args.iter().map(|arg| arg.as_ref().to_owned());
        Spec {
            owner: self.owner.clone(),
            program: "git".into(),
            args: settings.chain(args).collect(),
            cwd: self.dir.clone(),
            env: self.environment(env),
            leaves_children: false,
            sandbox: None,
        }
    }

    /// The environment names their repository, so that git never searches for another one.
    fn environment(&self, more: &[(&str, String)]) -> BTreeMap<String, String> {
        let mut env: BTreeMap<String, String> =
            environment::set().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let path = |path: PathBuf| path.display().to_string();
        env.insert("GIT_CONFIG_GLOBAL".into(), "/dev/null".into());
        env.insert("GIT_DIR".into(), path(self.dir.join(".git")));
        env.insert("GIT_WORK_TREE".into(), path(self.dir.clone()));
        env.extend(committer().map(|(name, value)| (name.to_owned(), value)));
        env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        env
    }

    fn start(&self, mut spec: Spec, stdin: StdinMode) -> Result<ChildHandle, WorkspaceError> {
        let refused = |why: &String| WorkspaceError::Wall { why: why.clone() };
        spec.sandbox.clone_from(self.sandbox.as_ref().map_err(refused)?);
        self.supervisor.start(&spec, stdin).map_err(call::failed)
    }
}
