//! The context of one task: its run as it was when the task began, and the functions that all tasks
//! use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::TaskError;
use crate::config::Config;
use crate::config::repository::{FILE, RepositoryRules};
use crate::core::fleet::Fleet;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::id::{RunId, Sha};
use crate::core::model::input::{Input, RunFact};
use crate::core::model::issue::Issue;
use crate::core::model::run::Run;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::Untrusted;
use crate::journal::transcript::TranscriptEntry;
use crate::redact::Redactor;
use crate::runtime::pool_opening::OpeningStep;
use crate::runtime::wall::{Grants, Owner, borrowed_objects};
use crate::runtime::{Context, clock};
use crate::sandbox::Sandbox;
use crate::workspace::WorkspaceError;
use crate::workspace::base::Base;
use crate::workspace::caches::Caches;
use crate::workspace::fitness::{Question, RunCommits};
use crate::workspace::pool::Pool;

/// The input of a task. The fleet steps on while the task runs; this copy stays the same.
#[derive(Debug)]
pub(crate) struct TaskContext {
    pub runtime: Arc<Context>,
    pub run: Arc<Run>,
    pub issue: Option<Arc<Issue>>,
    /// The activity that the task belongs to; the core drops facts of an older one.
    pub epoch: u32,
    /// The core's time when the task began.
    began_at: Timestamp,
    /// The same moment on a clock that never jumps.
    began: Instant,
    /// The configuration in force when the task began.
    pub config: Arc<Config>,
    /// The executor of the run's turns; none carries them out here.
    pub executor: Option<String>,
    /// Worktrees that ended runs of the same issue still have.
    pub older: Vec<(RunId, PathBuf)>,
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
        let issue = key.and_then(|key| fleet.issues.get(key)).cloned();
        let others = key.map(|_| fleet.runs.values()).into_iter().flatten();
        let older = others
            .filter(|other| other.id != run.id && !other.live() && other.work.issue() == key)
            .filter_map(|other| Some((other.id, PathBuf::from(other.workspace.worktree.as_ref()?))))
            .collect();
        let config = runtime.config();
        let executor = fleet.remote_executor(&run.work).map(|place| place.name.clone());
        let (runtime, began_at, began) = (runtime.clone(), fleet.last_event, Instant::now());
        Some(Self { runtime, run, issue, epoch, began_at, began, config, executor, older })
    }

    /// The milliseconds since a time of the core. A wall clock that is set meanwhile doesn't change it.
    pub(super) fn since(&self, at: Timestamp) -> i64 {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.began_at.since(at).saturating_add(passed)
    }

    /// The name that marks the run's processes.
    pub(super) fn owner(&self) -> String {
        self.run.id.to_string()
    }

    /// The worktrees of the run's repository. Shows the progress of its first clone, if that is
    /// under way.
    pub(super) async fn pool(&self) -> Result<Arc<Pool>, TaskError> {
        let (repo, runtime) = (self.run.work.repo(), &self.runtime);
        let workspaces = &runtime.workspaces;
        let mut opening =
            workspaces.opening(repo, &self.config, &runtime.supervisor, &runtime.cancel);
        let mut shown = opening.progress();
        if let Some(progress) = shown {
            self.show(Some(&progress.to_string())).await;
        }
        let opened = loop {
            match opening.next().await {
                OpeningStep::Ended(opened) => break opened,
                OpeningStep::Progress(progress) => {
                    shown = Some(progress);
                    self.show(Some(&progress.to_string())).await;
                }
            }
        };
        if shown.is_some() {
            self.show(None).await;
        }
        opened.map_err(|error| error.to_string())
    }

    /// Shows on the run's row how far the task is; none shows the activity alone.
    pub(super) async fn show(&self, progress: Option<&str>) {
        if self.runtime.side_state.set_progress(self.run.id, progress) {
            self.runtime.side_state_changed().await;
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
            WorkspaceError::Upstream { why } => {
                Ok(self.ask_human(Question { line: why, detail: String::new() }))
            }
            error => Err(error.to_string()),
        }
    }

    /// The folder of the clean checkouts of gate, CI and deploy.
    pub(super) fn proving_tree(&self) -> PathBuf {
        self.runtime.workspaces.folder(self.run.work.repo()).join("prove")
    }

    pub(super) fn worktree(&self) -> Result<PathBuf, TaskError> {
        let path = self.run.workspace.worktree.as_ref().map(PathBuf::from);
        let path = path.ok_or("the run has no worktree")?;
        // Follows no link that the agent may have put there.
        if std::fs::symlink_metadata(path.join(".git")).is_ok() {
            Ok(path)
        } else {
            Err(format!("the worktree {} is gone: something deleted it", path.display()))
        }
    }

    pub(super) fn base(&self) -> Result<Sha, TaskError> {
        self.run.workspace.base.clone().ok_or_else(|| "the run has no base commit".into())
    }

    /// The rules of the commit that the run began from.
    pub(super) async fn rules(
        &self,
        pool: &Pool,
        base: &Sha,
    ) -> Result<Arc<RepositoryRules>, TaskError> {
        let (repo, workspaces) = (self.run.work.repo(), &self.runtime.workspaces);
        if let Some(known) = workspaces.rules(repo, base) {
            return Ok(known);
        }
        let git = pool.base().git();
        let name = format!("{base}:{FILE}");
        let shown = git.ask(&["show", &name]).await.map_err(|e| e.to_string())?;
        if !shown.ok {
            return Err(format!(
                "{repo} has no {FILE} at {}: write one with `test = \"…\"` and commit it",
                base.short()
            ));
        }
        let rules = RepositoryRules::parse(&shown.text()).map_err(|e| format!("{repo}: {e}"))?;
        let rules = Arc::new(rules);
        workspaces.remember(repo, base, &rules);
        Ok(rules)
    }

    /// The path of a log file of this task.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        let name = format!("{}-{}-{name}.log", self.run.id, self.epoch);
        self.runtime.state.join("logs").join(name)
    }

    /// The environment of the repository's commands and of agents: the caches of their tree, if they
    /// work in one, and `AFK_*` variables that describe the run.
    pub(super) fn environment(&self, tree: Option<&Path>) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let repo = self.run.work.repo();
        if let (Some(known), Some(tree)) = (self.config.repos.get(repo), tree) {
            let caches = Caches::of_tree(&self.runtime.workspaces.folder(repo), tree);
            for (name, folder) in &known.caches {
                let path = caches.join(folder);
                // The configuration may name one that it did not when the tree was made.
                if let Err(error) = std::fs::create_dir_all(&path) {
                    tracing::warn!(path = %path.display(), %error, "the cache can't be created");
                }
                env.insert(name.clone(), path.display().to_string());
            }
        }
        env.insert("AFK_REPO".into(), repo.to_string());
        env.insert("AFK_ATTEMPT".into(), self.run.progress.attempts.to_string());
        if let Some(job) = self.run.work.job() {
            env.insert("AFK_JOB".into(), job.id.to_string());
            env.extend(job.agent.iter().map(|agent| ("AFK_AGENT".to_owned(), agent.clone())));
        }
        if let Some(key) = self.run.work.issue() {
            env.insert("AFK_ISSUE".into(), key.number.to_string());
        }
        env
    }

    /// The sandbox of a command of the repository in a checkout of ours, with what that command
    /// alone needs. Its home and temporary files are new: what an agent or an earlier command left
    /// proves nothing.
    pub(super) fn command_sandbox(
        &self,
        folder: &Path,
        needs: Grants,
    ) -> Result<Option<Sandbox>, TaskError> {
        self.forget_command_home()?;
        self.next_command_sandbox(folder, needs)
    }

    /// Deletes the home and the temporary files that the last command left.
    pub(super) fn forget_command_home(&self) -> Result<(), TaskError> {
        let forgotten = self.runtime.wall.forget(&commands_owner(&self.owner()));
        forgotten.map_err(|error| format!("the home of the last command stays: {error}"))
    }

    /// [`TaskContext::command_sandbox`] with the home and the temporary files of the last command.
    pub(super) fn next_command_sandbox(
        &self,
        folder: &Path,
        needs: Grants,
    ) -> Result<Option<Sandbox>, TaskError> {
        let owner = commands_owner(&self.owner());
        let Grants { read, write, network, .. } = self.grants(folder);
        let needs = Grants {
            read: [read, needs.read].concat(),
            write: [write, needs.write].concat(),
            network: needs.network.or(needs.needs.network).or(network),
            ..needs
        };
        self.runtime.wall.sandbox(Owner::Named(&owner), needs)
    }

    /// What a program of this run may reach: its folder, the objects that this borrows, and the
    /// caches of its own.
    pub(super) fn grants(&self, folder: &Path) -> Grants {
        let repo = self.run.work.repo();
        let repository = self.runtime.workspaces.folder(repo);
        Grants {
            network: self.config.repos.get(repo).and_then(|known| known.network),
            read: borrowed_objects(&repository),
            write: vec![folder.to_owned(), Caches::of_tree(&repository, folder)],
            ..Grants::default()
        }
    }

    /// Adds a remark of afk to the run's transcript.
    pub(super) fn note(&self, text: impl Into<Untrusted>) {
        let mut event = AgentEvent::Notice { text: text.into() };
        Redactor::default().event(&mut event);
        let entry = TranscriptEntry { at: clock::wall(), turn: self.run.agent.turns, event };
        self.runtime.append_transcript(self.run.id, &[entry]);
    }

    /// Sends a fact to the core before the task has ended.
    pub(super) async fn report(&self, mut fact: RunFact) {
        Redactor::default().fact(&mut fact);
        let input = Input::Run { run: self.run.id, epoch: self.epoch, fact };
        self.runtime.send(input).await;
    }
}

/// The owner of the home and the temporary files of a run's commands.
pub(super) fn commands_owner(run: &str) -> String {
    format!("{run}.commands")
}
