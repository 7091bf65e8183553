//! The way of this process's other parts to a runtime: commands in, snapshots and batches out.
//!
//! `serve` answers sockets, HTTP and SSH with it; [`client::Client::local`](super::client::Client)
//! wraps it for a screen. A handle of a follower has the same methods, and refuses every command.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::breakglass::console::Console;
use super::client::Attached;
use super::loop_message::LoopState;
use super::metrics::Metrics;
use super::refusals::{RefusalKind, Refusals};
use super::rights::Rights;
use super::side_state::ProblemSource;
use super::{Batch, Context, LoopMessage, Snapshot};
use crate::breakglass::key_file::{self, Passphrase};
use crate::config::Config;
use crate::core::model::breakglass::ShellId;
use crate::core::model::command::{Command, CommandEnvelope, Refusal, Reply, Role};
use crate::core::model::id::{Actor, Repo, RunId};
use crate::core::model::run::Outcome;
use crate::journal::transcript::Store;
use crate::notify::terminal::TerminalNotice;
use crate::process::Supervisor;
use crate::workspace::base;
use crate::workspace::git::Git;
use crate::workspace::pool::Sandboxes;
use crate::workspace::walled_git::WalledGit;

/// How long a probe waits for the event loop.
const PROBE: Duration = Duration::from_secs(5);

/// Commands and reads for one runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) inputs: mpsc::Sender<LoopMessage>,
    /// The newest published snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Grows with each write to a transcript.
    pub transcripts: watch::Receiver<u64>,
    /// The transcripts of runs.
    pub store: Arc<Store>,
    /// The configuration at the start; later changes don't show here.
    pub(crate) config: Arc<Config>,
    pub(super) notices: broadcast::Sender<TerminalNotice>,
    pub(super) supervisor: Supervisor,
    /// A description of the leader, if this runtime follows one.
    pub(super) leader: Option<watch::Receiver<String>>,
    pub(super) context: Arc<Context>,
}

/// A client's entry in the list of attached clients.
#[derive(Debug)]
pub(crate) struct Attachment {
    context: Arc<Context>,
    id: u64,
}

impl Attachment {
    /// Records the new size of the client's terminal.
    pub async fn resize(&mut self, columns: u16, rows: u16) {
        if let Some(known) = self.context.side_state.clients().get_mut(&self.id) {
            known.size = (columns, rows);
        }
        self.context.side_state_changed().await;
    }

    /// Records the new role of the client.
    pub(super) async fn set_role(&mut self, role: Role) {
        if let Some(known) = self.context.side_state.clients().get_mut(&self.id) {
            known.role = role;
        }
        self.context.side_state_changed().await;
    }

    /// Removes the entry from the list.
    pub async fn leave(self) {
        self.context.side_state.clients().remove(&self.id);
        self.context.side_state_changed().await;
    }
}

impl Handle {
    /// Lists a client as attached until its entry leaves.
    pub(crate) async fn attach(&self, attached: Attached) -> Attachment {
        let id = {
            let mut all = self.context.side_state.clients();
            let id = all.keys().next_back().map_or(1, |last| last + 1);
            all.insert(id, attached);
            id
        };
        self.context.side_state_changed().await;
        Attachment { context: self.context.clone(), id }
    }

    /// Subscribes to batches; a receiver that lags behind gets the number that it missed.
    pub(crate) fn batches(&self) -> broadcast::Receiver<Batch> {
        self.context.batches.subscribe()
    }

    /// A description of the leader, if this runtime follows one.
    pub(crate) fn leader(&self) -> Option<String> {
        self.leader.as_ref().map(|leader| leader.borrow().clone())
    }

    /// Resolves when the runtime has ended.
    pub(crate) async fn ended(&self) {
        self.context.cancel.cancelled().await;
    }

    /// The state of the event loop; none if it does not answer in time.
    pub(crate) async fn loop_state(&self) -> Option<LoopState> {
        let (reply, state) = oneshot::channel();
        let asked = async {
            self.context.urgent.send(LoopMessage::Probe(reply)).await.ok()?;
            state.await.ok()
        };
        timeout(PROBE, asked).await.ok().flatten()
    }

    /// How long ago the trackers were read; none if they were not yet.
    pub(crate) fn tracker_age(&self) -> Option<Duration> {
        self.context.side_state.tracker_age()
    }

    /// Reads the configuration file again, as after a change of it.
    pub(crate) fn reload(&self) {
        self.context.reload.notify_one();
    }

    /// Asks the owner of the runtime to stop it.
    pub(crate) fn request_stop(&self) {
        self.context.stop.cancel();
    }

    /// Resolves when a client has asked the runtime to stop.
    pub async fn stop_requested(&self) {
        self.context.stop.cancelled().await;
    }

    /// Sends a command and returns the reply once the events it led to are durable.
    ///
    /// # Errors
    /// The core's [`Refusal`], or [`Refusal::ShuttingDown`] if the runtime has ended.
    pub async fn command(&self, command: CommandEnvelope) -> Reply {
        let rights = Rights::fixed(command.role);
        self.command_with(command, rights).await
    }

    /// Sends a command of a session whose rights can shrink until it is applied.
    pub(crate) async fn command_with(&self, command: CommandEnvelope, rights: Rights) -> Reply {
        let who = format!("{} ({})", command.actor, command.origin);
        let reply = self.send(command, rights).await;
        if let Err(refusal) = &reply {
            self.context.refusals.record(RefusalKind::Command, &who, refusal);
        }
        reply
    }

    async fn send(&self, command: CommandEnvelope, rights: Rights) -> Reply {
        let (reply, answer) = oneshot::channel();
        let urgent = matches!(command.command, Command::Breakglass { .. });
        let queue = if urgent { &self.context.urgent } else { &self.inputs };
        let sent = queue.send(LoopMessage::Command(command, rights, reply)).await;
        match sent {
            Ok(()) => answer.await.unwrap_or(Err(Refusal::ShuttingDown)),
            Err(_) => Err(Refusal::ShuttingDown),
        }
    }

    /// A run's changes since its base commit as a unified diff: committed or not while it has its
    /// worktree, and its commits after that.
    ///
    /// # Errors
    /// A line that says why there is no diff.
    pub async fn diff(&self, run: RunId) -> Result<String, String> {
        let snapshot = self.snapshots.borrow().clone();
        let known = snapshot.fleet.runs.get(&run).cloned();
        let known = known.ok_or_else(|| format!("there is no run {run}"))?;
        let none = || format!("{run} has no worktree");
        let base = known.workspace.base.clone().ok_or_else(none)?;
        let deadline = Duration::from_secs(self.config.limits.git_seconds);
        let owner = run.to_string();
        let args = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", &base.0];
        let Some(worktree) = snapshot.fleet.own_worktree(&known).map(Path::new) else {
            let clone = self.base_clone(known.work.repo());
            let git = Git::new(&clone, &self.supervisor, &owner, deadline);
            let kept = base::kept(&owner);
            let find = ["rev-parse", "--verify", "--quiet", &format!("{kept}^{{commit}}")];
            let found = git.ask(&find).await.map_err(|error| error.to_string())?;
            let (pushed, gated) = (&known.workspace.pushed, &known.workspace.gated);
            let landed = pushed.as_ref().or(gated.as_ref()).map(|sha| sha.0.clone());
            let kept = found.ok.then_some(kept);
            // A run that was cancelled and then landed has left both.
            let head = match known.progress.outcome {
                Some(Outcome::Done) => landed.or(kept),
                _ => kept.or(landed),
            };
            let head = head.ok_or_else(|| format!("{run} has ended without a commit"))?;
            let args = [args.as_slice(), &[head.as_str(), "--"]].concat();
            return git.call(&args).await.map_err(|error| error.to_string());
        };
        let sandbox = self.context.wall.of(worktree);
        // The repository is the agent's, and so is the owner of whatever git starts there.
        let git = WalledGit::new(worktree, &self.supervisor, &owner, deadline, sandbox);
        let diff = git.call(&args).await.map_err(|error| error.to_string());
        if !known.live() {
            self.supervisor.end_rest(&owner).await;
        }
        diff
    }

    /// Resolves a secret's reference: `env:NAME`, `file:/path` or `vault:MOUNT/PATH#KEY`.
    ///
    /// # Errors
    /// A line that says why the secret can't be read.
    pub(crate) async fn secret(&self, reference: &str) -> Result<secrecy::SecretString, String> {
        self.context
            .services()
            .secrets
            .get(reference)
            .await
            .map_err(|error| crate::error::chain(&error))
    }

    /// The folder of afk's own clone of a repository, which keeps the commits of jobs.
    pub(crate) fn base_clone(&self, repo: &Repo) -> PathBuf {
        self.context.workspaces.base_clone(repo)
    }

    /// The configuration in force.
    pub(crate) fn present_config(&self) -> Arc<Config> {
        self.context.config()
    }

    /// Changes whenever the configuration was read again.
    pub(crate) fn config_changes(&self) -> watch::Receiver<()> {
        self.context.config_changes.subscribe()
    }

    /// Replaces the problems that clients see of one source.
    pub(crate) async fn report_problems(&self, source: ProblemSource, lines: Vec<String>) {
        self.context.report_problems(source, lines).await;
    }

    /// The count of everything that was refused.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.context.refusals
    }

    /// The counters of durable events.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    /// Whether a process belongs to a tree that this runtime started: agents get no way in.
    pub(crate) fn is_below(&self, pid: i32) -> bool {
        self.supervisor.is_below(pid)
    }

    /// Whether the socket at `client`, connected to `server` on this machine, belongs to such a process.
    pub(crate) fn is_socket_below(&self, client: SocketAddr, server: SocketAddr) -> bool {
        self.supervisor.is_socket_below(client, server)
    }

    /// Claims a shell that the core allowed to this actor.
    ///
    /// # Errors
    /// A line that says why the actor can't have it.
    pub(crate) async fn console(&self, shell: ShellId, by: &Actor) -> Result<Console, String> {
        self.context.shells.claim(shell, by).await
    }

    /// Closes a shell whose client may not have it any more.
    pub(super) fn close_shell(&self, shell: ShellId, why: &str) {
        self.context.shells.close(shell, why);
    }

    /// Decrypts the key files of breakglass that a passphrase fits; returns those that are still locked.
    ///
    /// # Errors
    /// A line that says why nothing can be decrypted.
    pub(crate) async fn unlock_keys(
        &self,
        passphrase: Option<Passphrase>,
    ) -> Result<Vec<PathBuf>, String> {
        let config = self.present_config();
        let unlock = move || {
            let breakglass = config.breakglass.as_ref();
            breakglass.map(|breakglass| key_file::unlock(breakglass, passphrase.as_ref()))
        };
        let done = tokio::task::spawn_blocking(unlock).await.map_err(|error| error.to_string())?;
        Ok(done.unwrap_or_default())
    }

    /// Counts and logs a shell that its client may not have.
    pub(crate) fn refuse_console(&self, actor: &Actor, origin: &str, why: &str) {
        let who = format!("{actor} ({origin})");
        self.context.refusals.record(RefusalKind::Command, &who, &why);
    }

    /// Subscribes to notices for terminals.
    pub(crate) fn notices(&self) -> broadcast::Receiver<TerminalNotice> {
        self.notices.subscribe()
    }
}
