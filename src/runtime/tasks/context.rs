//! The context of one task: its run as it was when the task began, and the functions that all tasks
//! use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::TaskError;
use super::command_context::CommandContext;
use crate::config::Config;
use crate::config::repository::RepositoryRules;
use crate::core::fleet::Fleet;
use crate::core::model::brief::Brief;
use crate::core::model::id::{RunId, Sha};
use crate::core::model::input::{Input, RunFact};
use crate::core::model::issue::RepoIdentity;
use crate::core::model::job::JobKind;
use crate::core::model::run::Run;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::Untrusted;
use crate::error::chain;
use crate::redact::Redactor;
use crate::runtime::Context;
use crate::workspace::WorkspaceError;
use crate::workspace::base::Base;
use crate::workspace::fitness::{Question, RunCommits};
use crate::workspace::pool::Pool;

/// The input of a task. The fleet steps on while the task runs; this copy stays the same.
#[derive(Debug)]
pub(crate) struct TaskContext {
    pub runtime: Arc<Context>,
    pub run: Arc<Run>,
    /// The version of the issue that the run works on.
    pub brief: Option<Arc<Brief>>,
    /// The repository's identity in its tracker, where that has one.
    pub identity: Option<RepoIdentity>,
    /// The activity that the task belongs to; the core drops facts of an older one.
    pub epoch: u32,
    /// The core's time when the task began.
    began_at: Timestamp,
    /// The same moment on a clock that never jumps.
    began: Instant,
    /// The configuration in force when the task began.
    pub config: Arc<Config>,
    /// The repository's commands, as this run gives them.
    pub commands: CommandContext,
    /// The executor of the run's turns; none carries them out here.
    pub executor: Option<String>,
    /// Worktrees that ended runs of the same issue still have.
    pub older: Vec<(RunId, PathBuf)>,
    /// The earlier runs of the caller's session that the job continues, oldest first.
    pub earlier: Vec<RunId>,
}

impl TaskContext {
    /// None if the fleet has no such run.
    pub(in crate::runtime) fn new(
        runtime: &Arc<Context>,
        fleet: &Fleet,
        run: RunId,
        epoch: u32,
    ) -> Option<Self> {
        let run = fleet.runs.get(&run)?.clone();
        let key = run.work.issue();
        // A run from before runs kept a version works on the issue as it is.
        let present = || key.and_then(|key| fleet.issues.get(key)).map(|issue| Brief::of(issue));
        let brief = run.issue.brief.clone().or_else(|| present().map(Arc::new));
        let identity = fleet.identities.get(run.work.repo()).cloned();
        let others = key.map(|_| fleet.runs.values()).into_iter().flatten();
        let older = others
            .filter(|other| other.id != run.id && !other.live() && other.work.issue() == key)
            .filter_map(|other| Some((other.id, PathBuf::from(other.workspace.worktree.as_ref()?))))
            .collect();
        let session = run.work.job().and_then(|job| match &job.kind {
            JobKind::Converse { session } => fleet.jobs.conversation(session),
            _ => None,
        });
        let earlier = session.map(|known| known.runs.clone()).unwrap_or_default();
        let earlier = earlier.into_iter().filter(|known| *known != run.id).collect();
        let config = runtime.config();
        let executor = fleet.remote_executor(&run.work).map(|place| place.name.clone());
        let commands = CommandContext {
            runtime: runtime.clone(),
            config: config.clone(),
            repo: run.work.repo().clone(),
            owner: run.id.to_string(),
            trusted: run.workspace.base.clone(),
            log_name: format!("{}-{epoch}", run.id),
            variables: variables(&run),
            checkout: "prove",
            audience: Some((run.id, run.agent.turns)),
        };
        let (runtime, began_at, began) = (runtime.clone(), fleet.last_event, Instant::now());
        Some(Self {
            runtime,
            run,
            brief,
            identity,
            epoch,
            began_at,
            began,
            config,
            commands,
            executor,
            older,
            earlier,
        })
    }

    /// The milliseconds since a time of the core. A wall clock that is set meanwhile doesn't change it.
    pub(super) fn since(&self, at: Timestamp) -> i64 {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.began_at.since(at).saturating_add(passed)
    }

    /// The worktrees of the run's repository.
    pub(super) async fn pool(&self) -> Result<Arc<Pool>, TaskError> {
        self.commands.pool().await
    }

    /// The rules of a commit.
    pub(super) async fn rules(
        &self,
        pool: &Pool,
        base: &Sha,
    ) -> Result<Arc<RepositoryRules>, TaskError> {
        self.commands.rules(pool, base).await
    }

    /// The path of a log file of this task.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.commands.log(name)
    }

    /// Adds a remark of afk to the run's transcript.
    pub(super) fn note(&self, text: impl Into<Untrusted>) {
        self.commands.note(text);
    }

    /// The name that marks the run's processes.
    pub(super) fn owner(&self) -> String {
        self.run.id.to_string()
    }

    /// Checks that the repository's name still leads to the repository that afk knows: after a
    /// rename another one can have it, with the same commits.
    pub(super) async fn confirm_repository(&self) -> Result<(), TaskError> {
        let Some(known) = &self.identity else { return Ok(()) };
        let repo = self.run.work.repo();
        match self.runtime.tracker().identity(repo).await {
            Ok(Some(now)) if now.id != known.id => {
                let (now, known) = (now.id, known.id);
                let why =
                    format!("{repo} is another repository now: number {now} in place of {known}");
                Err(why.into())
            }
            Ok(_) => Ok(()),
            // The last list confirmed it, and a tracker that is away must not stop a push.
            Err(error) => {
                tracing::warn!(%repo, error = chain(&error), "the identity can't be read");
                Ok(())
            }
        }
    }

    /// Raises an alarm if the remote has commits of this run that afk did not push.
    pub(super) async fn check_bypass(&self, pool: &Pool) {
        match pool.base().bypassed(self.run.id).await {
            Ok(None) => {}
            Ok(Some(sha)) => self.report_bypass(pool.base(), &sha).await,
            Err(error) => tracing::warn!(run = %self.run.id, %error, "who pushed is unknown"),
        }
    }

    /// Raises an alarm about a commit of this run that somebody pushed past afk.
    pub(super) async fn report_bypass(&self, base: &Base, sha: &Sha) {
        self.note(format!("{} has {}, which afk did not push", base.branch(), sha.short()));
        self.report(RunFact::GateBypassed { sha: sha.clone() }).await;
    }

    /// Shows the agent's git the upstream as it is now, for a run that a human may reopen.
    pub(super) async fn show_upstream(&self, pool: &Pool) {
        let base = pool.base();
        let (Ok(upstream), Ok(worktree)) = (base.head().await, self.worktree()) else { return };
        let git = pool.walled(&worktree).owned_by(&self.owner());
        if let Err(error) = git.track(base.branch(), &upstream).await {
            tracing::debug!(run = %self.run.id, %error, "the agent's view of the remote stays old");
        }
    }

    /// The commits of the run, with `head` as the sealed one.
    pub(super) fn commits<'a>(&'a self, base: &'a Sha, head: &'a Sha) -> RunCommits<'a> {
        RunCommits { run: self.run.id, base, pushed: self.run.workspace.pushed.as_ref(), head }
    }

    /// The report of commits about which only a human can decide.
    pub(super) fn ask_human(&self, question: Question) -> RunFact {
        let Question { line, detail } = question;
        self.note(format!("{line}; afk pushes nothing and asks a human"));
        RunFact::NeedsHuman { line, detail: detail.into() }
    }

    /// The report of a step that failed: where only a human can help, the run ends for one.
    pub(super) fn failed(&self, error: WorkspaceError) -> Result<RunFact, TaskError> {
        match error {
            WorkspaceError::Upstream { why } => Ok(self.ask_human(Question::line(&why))),
            error => Err(error.into()),
        }
    }

    pub(super) fn worktree(&self) -> Result<PathBuf, TaskError> {
        let path = self.run.workspace.worktree.as_ref().map(PathBuf::from);
        let path = path.ok_or("the run has no worktree")?;
        // Follows no link that the agent may have put there.
        if std::fs::symlink_metadata(path.join(".git")).is_ok() {
            Ok(path)
        } else {
            Err(format!("the worktree {} is gone: something deleted it", path.display()).into())
        }
    }

    pub(super) fn base(&self) -> Result<Sha, TaskError> {
        self.run.workspace.base.clone().ok_or_else(|| "the run has no base commit".into())
    }

    /// Sends a fact to the core before the task has ended.
    pub(super) async fn report(&self, mut fact: RunFact) {
        Redactor::default().fact(&mut fact);
        let input = Input::Run { run: self.run.id, epoch: self.epoch, fact };
        self.runtime.send(input).await;
    }
}

/// The variables that describe a run to the repository's commands and to agents.
fn variables(run: &Run) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    variables.insert("AFK_ATTEMPT".into(), run.progress.attempts.to_string());
    if let Some(job) = run.work.job() {
        variables.insert("AFK_JOB".into(), job.id.to_string());
        let role = job.equipment.role.as_ref().or(job.agent.as_ref());
        variables.extend(role.map(|role| ("AFK_AGENT".to_owned(), role.clone())));
    }
    if let Some(key) = run.work.issue() {
        variables.insert("AFK_ISSUE".into(), key.number.to_string());
    }
    variables
}
