//! The context in which afk runs the commands of a repository in trees of its own: setup, tests, CI,
//! deploys, probes. A run has one, and so has the look at an upstream that moved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TaskError;
use crate::config::Config;
use crate::config::repository::{FILE, RepositoryRules};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::id::{Repo, RunId, Sha};
use crate::core::model::untrusted::Untrusted;
use crate::journal::transcript::TranscriptEntry;
use crate::redact::Redactor;
use crate::runtime::wall::{Grants, Owner, borrowed_objects};
use crate::runtime::{Context, clock};
use crate::sandbox::Sandbox;
use crate::workspace::WorkspaceError;
use crate::workspace::caches::Caches;
use crate::workspace::name;
use crate::workspace::pool::Pool;

/// What the commands of a repository need, whoever asks for them.
#[derive(Debug, Clone)]
pub(crate) struct CommandContext {
    pub runtime: Arc<Context>,
    /// The configuration in force when the task began.
    pub config: Arc<Config>,
    pub repo: Repo,
    /// The name that marks the processes and owns the home of the commands.
    pub owner: String,
    /// The commit that decides where submodules and files of LFS come from; none is the commit that
    /// is checked out.
    pub trusted: Option<Sha>,
    /// The beginning of the names of the logs.
    pub log_name: String,
    /// Variables that describe the run.
    pub variables: BTreeMap<String, String>,
    /// The folder of the clean checkouts, below the repository's.
    pub checkout: &'static str,
    /// The run whose row and transcript tell how far the commands are, and its turn; none tells
    /// nobody.
    pub audience: Option<(RunId, u32)>,
}

impl CommandContext {
    /// The context of afk's own look at the upstream, for no run.
    pub(super) fn of_upstream(runtime: &Arc<Context>, repo: &Repo) -> Self {
        let owner = format!("baseline-{}", name::folder(repo));
        Self {
            runtime: runtime.clone(),
            config: runtime.config(),
            repo: repo.clone(),
            log_name: owner.clone(),
            owner,
            trusted: None,
            variables: BTreeMap::new(),
            checkout: "prove-upstream",
            audience: None,
        }
    }

    /// The worktrees of the run's repository. Shows the progress of its first clone, if that is
    /// under way.
    pub(super) async fn pool(&self) -> Result<Arc<Pool>, TaskError> {
        self.opened_pool().await.map_err(|error| TaskError::from(error.as_ref()))
    }

    /// [`CommandContext::pool`] with the error that everybody gets who waits for it.
    pub(super) async fn opened_pool(&self) -> Result<Arc<Pool>, Arc<WorkspaceError>> {
        let (repo, runtime) = (&self.repo, &self.runtime);
        let workspaces = &runtime.workspaces;
        // The remote and the branch that are in force now: a task may have begun before they changed.
        let config = runtime.config();
        let opening = workspaces.opening(repo, &config, &runtime.supervisor, &runtime.cancel);
        let show = |progress: Option<String>| async move { self.show(progress.as_deref()).await };
        let opened = opening.shown(show).await;
        runtime.report_renewals().await;
        opened
    }

    /// Shows on the run's row how far the task is; none shows the activity alone.
    pub(super) async fn show(&self, progress: Option<&str>) {
        let Some((run, _)) = self.audience else { return };
        self.runtime.show_progress(run, progress).await;
    }

    /// The folder of the clean checkouts of gate, CI and deploy.
    pub(super) fn proving_tree(&self) -> PathBuf {
        self.runtime.workspaces.folder(&self.repo).join(self.checkout)
    }

    /// The rules of the commit that the run began from.
    pub(super) async fn rules(
        &self,
        pool: &Pool,
        base: &Sha,
    ) -> Result<Arc<RepositoryRules>, TaskError> {
        let (repo, workspaces) = (&self.repo, &self.runtime.workspaces);
        if let Some(known) = workspaces.rules(repo, base) {
            return Ok(known);
        }
        let git = pool.base().git();
        let name = format!("{base}:{FILE}");
        let shown = git.ask(&["show", &name]).await?;
        if !shown.ok {
            return Err(format!(
                "{repo} has no {FILE} at {}: write one with `test = \"…\"` and commit it",
                base.short()
            )
            .into());
        }
        let rules = RepositoryRules::parse(&shown.text()).map_err(|e| format!("{repo}: {e}"))?;
        let rules = Arc::new(rules);
        workspaces.remember(repo, base, &rules);
        Ok(rules)
    }

    /// The path of a log file of this task.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        let name = format!("{}-{name}.log", self.log_name);
        self.runtime.state.join("logs").join(name)
    }

    /// The environment of the repository's commands and of agents: the caches of their tree, if they
    /// work in one, and `AFK_*` variables that describe the run.
    pub(super) fn environment(&self, tree: Option<&Path>) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let repo = &self.repo;
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
        env.extend(self.variables.clone());
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
        let forgotten = self.runtime.wall.forget(&commands_owner(&self.owner));
        forgotten.map_err(|error| format!("the home of the last command stays: {error}").into())
    }

    /// [`TaskContext::command_sandbox`] with the home and the temporary files of the last command.
    pub(super) fn next_command_sandbox(
        &self,
        folder: &Path,
        needs: Grants,
    ) -> Result<Option<Sandbox>, TaskError> {
        let owner = commands_owner(&self.owner);
        let Grants { read, write, network, .. } = self.grants(folder);
        let needs = Grants {
            read: [read, needs.read].concat(),
            write: [write, needs.write].concat(),
            network: needs.network.or(needs.needs.network).or(network),
            ..needs
        };
        Ok(self.runtime.wall.sandbox(Owner::Named(&owner), needs)?)
    }

    /// What a program of this run may reach: its folder, the objects that this borrows, and the
    /// caches of its own.
    pub(super) fn grants(&self, folder: &Path) -> Grants {
        let repo = &self.repo;
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
        let Some((run, turn)) = self.audience else { return };
        let mut event = AgentEvent::Notice { text: text.into() };
        Redactor::default().event(&mut event);
        let entry = TranscriptEntry { at: clock::wall(), turn, event };
        self.runtime.append_transcript(run, &[entry]);
    }
}

/// The owner of the home and the temporary files of a run's commands.
pub(super) fn commands_owner(owner: &str) -> String {
    format!("{owner}.commands")
}
