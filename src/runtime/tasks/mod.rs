//! The tasks of a run, one file each. Every one reports exactly one fact at its end.

pub mod capsule;
mod gate;
mod heard;
mod push;
pub(super) mod question;
mod stages;
mod turn;
pub mod worktree;

use crate::core::model::stage::Stage;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Shell;
use crate::agent::TurnControl;
use crate::config::Config;
use crate::config::repository::{FILE, RepositoryRules};
use crate::core::fleet::Fleet;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::effect::Task;
use crate::core::model::id::{RunId, Sha};
use crate::core::model::input::{Input, RunFact};
use crate::core::model::issue::Issue;
use crate::core::model::run::Run;
use crate::journal::transcript::Entry;
use crate::workspace::pool::Pool;

/// What a task works on: the run as it was when the task was begun.
#[derive(Debug)]
pub(crate) struct Job {
    pub shell: Arc<Shell>,
    pub run: Arc<Run>,
    pub issue: Option<Arc<Issue>>,
    pub epoch: u32,
    pub config: Arc<Config>,
    /// Where its turns are carried out, if not here.
    pub place: Option<String>,
    /// Worktrees that older runs of the same issue still have.
    pub older: Vec<(RunId, PathBuf)>,
}

/// Why a task could not be carried out: a line for a person.
pub(super) type Failure = String;

impl Job {
    pub(super) fn new(shell: &Arc<Shell>, fleet: &Fleet, run: RunId, epoch: u32) -> Option<Self> {
        let run = fleet.runs.get(&run)?.clone();
        let key = run.work.issue();
        let issue = key.and_then(|key| fleet.issues.get(key)).cloned();
        let others = key.map(|_| fleet.runs.values()).into_iter().flatten();
        let older = others
            .filter(|other| other.id != run.id && !other.live() && other.work.issue() == key)
            .filter_map(|other| Some((other.id, PathBuf::from(other.worktree.as_ref()?))))
            .collect();
        let config = shell.config();
        let place = fleet.elsewhere(&run.work).map(|place| place.name.clone());
        Some(Self { shell: shell.clone(), run, issue, epoch, config, place, older })
    }

    /// The name that the run's processes are marked with.
    fn owner(&self) -> String {
        self.run.id.to_string()
    }

    async fn pool(&self) -> Result<Arc<Pool>, Failure> {
        let workspaces = &self.shell.workspaces;
        let repo = self.run.work.repo();
        let pool = workspaces.pool(repo, &self.config, &self.shell.supervisor, "afk").await;
        pool.map_err(|error| error.to_string())
    }

    /// Where the gate, CI and deploy get their clean checkouts.
    fn proving_tree(&self) -> PathBuf {
        self.shell.workspaces.folder(self.run.work.repo()).join("prove")
    }

    fn worktree(&self) -> Result<PathBuf, Failure> {
        let path = self.run.worktree.as_ref().map(PathBuf::from);
        let path = path.ok_or("the run has no worktree")?;
        if path.join(".git").exists() {
            Ok(path)
        } else {
            Err(format!("the worktree {} is gone: something deleted it", path.display()))
        }
    }

    fn base(&self) -> Result<Sha, Failure> {
        self.run.base.clone().ok_or_else(|| "the run has no base commit".into())
    }

    /// The rules of the commit that the run began from.
    async fn rules(&self, pool: &Pool, base: &Sha) -> Result<Arc<RepositoryRules>, Failure> {
        let (repo, workspaces) = (self.run.work.repo(), &self.shell.workspaces);
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
        let rules = RepositoryRules::parse(&shown.out).map_err(|e| format!("{repo}: {e}"))?;
        let rules = Arc::new(rules);
        workspaces.remember(repo, base, &rules);
        Ok(rules)
    }

    /// A log file of this run.
    fn log(&self, what: &str) -> PathBuf {
        let name = format!("{}-{}-{what}.log", self.run.id, self.epoch);
        self.shell.state.join("logs").join(name)
    }

    /// Environment of the repository's commands and agents: shared caches and what the run is.
    fn environment(&self) -> std::collections::BTreeMap<String, String> {
        let mut env = std::collections::BTreeMap::new();
        let repo = self.run.work.repo();
        let caches = self.shell.workspaces.folder(repo).join("caches");
        if let Some(known) = self.config.repos.get(repo) {
            for (name, folder) in &known.caches {
                let path = caches.join(folder);
                if let Err(error) = std::fs::create_dir_all(&path) {
                    tracing::warn!(path = %path.display(), %error, "no cache");
                }
                env.insert(name.clone(), path.display().to_string());
            }
        }
        env.insert("AFK_REPO".into(), repo.to_string());
        env.insert("AFK_ATTEMPT".into(), self.run.attempts.to_string());
        if let Some(asked) = self.run.work.job() {
            env.insert("AFK_JOB".into(), asked.id.to_string());
            env.extend(asked.agent.iter().map(|agent| ("AFK_AGENT".to_owned(), agent.clone())));
        }
        if let Some(key) = self.run.work.issue() {
            env.insert("AFK_ISSUE".into(), key.number.to_string());
        }
        env
    }

    fn note(&self, text: impl Into<crate::core::model::untrusted::Untrusted>) {
        let event = AgentEvent::Notice { text: text.into() };
        let entry = Entry { at: super::clock::wall(), turn: self.run.turns, event };
        self.shell.transcribe(self.run.id, &[entry]);
    }

    async fn tell(&self, fact: RunFact) {
        let input = Input::Run { run: self.run.id, epoch: self.epoch, fact };
        self.shell.send(input).await;
    }
}

/// The longest that a task may take; each part has a limit of its own below it.
pub(super) fn deadline(job: &Job, task: &Task) -> Duration {
    let limits = &job.config.limits;
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let git = Duration::from_secs(limits.git_seconds);
    let slack = Duration::from_secs(120);
    slack
        + match task {
            Task::Worktree | Task::Rebase | Task::Push { .. } => git * 8,
            Task::Turn { .. } => turn::limit(job),
            Task::Gate => minutes(2 * limits.test_minutes) + git * 8,
            Task::Stage { stage: Stage::Ci, .. } => {
                minutes(limits.ci_minutes.max(24 * 60)) + git * 4
            }
            // Its own times may be the repository's.
            Task::Stage { stage: Stage::Deploy, .. } => {
                minutes(limits.deploy_minutes.max(24 * 60)) + git * 4
            }
            // Its settle and soak times are the repository's.
            Task::Stage { stage: Stage::Probe, .. } => minutes(24 * 60),
        }
}

/// Carries a task out.
pub(super) async fn carry_out(
    job: &Job,
    task: Task,
    controls: mpsc::Receiver<TurnControl>,
) -> RunFact {
    let done = match task {
        Task::Worktree => worktree::prepare(job).await,
        Task::Turn { prompt, turn, resume, budget } => {
            turn::run(job, &turn::Begin { prompt, turn, resume, budget }, controls).await
        }
        Task::Gate => gate::run(job).await,
        Task::Rebase => push::rebase(job).await,
        Task::Push { head } => push::push(job, &head).await,
        Task::Stage { stage: Stage::Ci, sha } => stages::ci(job, sha).await,
        Task::Stage { stage: Stage::Deploy, sha } => stages::deploy(job, sha).await,
        Task::Stage { stage: Stage::Probe, sha } => stages::probe(job, sha).await,
    };
    done.unwrap_or_else(|why| RunFact::Failed { why: why.into() })
}
