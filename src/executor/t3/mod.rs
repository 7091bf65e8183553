//! Runs a turn in a thread of a T3 Code server, whose agent works in the run's own worktree.
//!
//! ```text
//!  TurnLoop <── AgentProtocol ──> thread.rs, activity.rs, commands.rs     translate JSON
//!     ^ │
//!     │ v  lines
//!  link.rs ── commands over HTTP, events over a websocket ──> T3 Code server
//!     └── seen_ids.rs                                         survives a restart of afk
//! ```
//!
//! The server's "completed" proves nothing about the work; the gate decides as for any agent.

mod activity;
mod commands;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod link;
mod seen_ids;
mod thread;

use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::link::Server;
use self::seen_ids::SeenIds;
use self::thread::{Thread, ThreadSetup};
use super::{Executor, ExecutorTurn};
use crate::agent::turn::{TO_READ, TO_WRITE, TurnHost, TurnLoop, TurnOutcome};
use crate::agent::{EventSender, TurnControl};
use crate::config::executor::T3Config as Config;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::capability::Capabilities;
use crate::core::model::digest::Digest;
use crate::secrets::Secrets;

#[derive(Debug)]
pub(crate) struct T3Executor {
    config: Config,
    server: Server,
}

/// Written to the turn's folder, so that a restarted afk can stop the thread.
#[derive(Debug, Serialize, Deserialize)]
struct ThreadRecord {
    thread: String,
    /// The worktree. The checkpoints that the server stores in its repository go away with it.
    cwd: std::path::PathBuf,
}

/// Derives a UUID (RFC 9562, version 8) from words. The same words always give the same id.
fn stable_id(words: &[&str]) -> String {
    let parts: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let hex = Digest::of(&parts).to_string();
    let part = |from: usize, to: usize| &hex[from..to];
    let (time, rest) = (format!("{}-{}", part(0, 8), part(8, 12)), part(20, 32));
    format!("{time}-8{}-a{}-{rest}", part(13, 16), part(17, 20))
}

/// The server's agents run in processes of its own.
struct Elsewhere;

impl TurnHost for Elsewhere {}

impl T3Executor {
    pub(crate) fn new(config: Config, secrets: Arc<Secrets>) -> Result<Arc<Self>, String> {
        let server = Server::new(config.clone(), secrets)?;
        Ok(Arc::new(Self { config, server }))
    }

    /// Starts or finds the turn's thread and follows it to the turn's end.
    async fn follow(
        &self,
        turn: &ExecutorTurn,
        events: &EventSender,
        controls: &mut mpsc::Receiver<TurnControl>,
    ) -> TurnEnd {
        let spec = &turn.spec;
        let Some(model) = self.config.model.clone().or_else(|| spec.model.clone()) else {
            let why = "a T3 thread needs a model: set `model` in the executor's section".into();
            return TurnEnd::NotStarted { why };
        };
        let folder = turn.root.join(&turn.name);
        let thread = spec.resume.clone().unwrap_or_else(|| thread::thread_id(&turn.name));
        let record = ThreadRecord { thread, cwd: spec.cwd.clone() };
        if let Err(error) = write_record(&folder, &record) {
            let why = format!("write to {}: {error}", folder.display()).into();
            return TurnEnd::NotStarted { why };
        }
        let seen_ids = SeenIds::open(folder.join("told"));
        let setup = ThreadSetup {
            name: turn.name.clone(),
            instance: self.config.instance.clone(),
            model,
            approvals: self.config.approvals,
            version: self.config.version.clone(),
            seen_ids: seen_ids.ids().clone(),
        };
        let (lines, commands) = mpsc::channel(TO_WRITE);
        let (from_server, to_read) = mpsc::channel(TO_READ);
        let protocol = Box::new(Thread::new(setup));
        let mut turn_loop = TurnLoop::new(protocol, spec, events, lines);
        let outcome = {
            let turn_end = turn_loop.run(&Elsewhere, to_read, controls);
            let link = link::run(&self.server, commands, from_server, seen_ids);
            tokio::pin!(turn_end, link);
            tokio::select! {
                outcome = &mut turn_end => outcome,
                () = &mut link => turn_end.await,
            }
        };
        let end = match outcome {
            TurnOutcome::Reported(end) => end,
            TurnOutcome::Stopped(end) => {
                self.stop_thread(&turn.name, &record).await;
                end
            }
            TurnOutcome::OutputClosed => TurnEnd::Crashed {
                why: "the link to the T3 server closed before the end of the turn".into(),
            },
        };
        if spec.stream_output {
            let code = (end == TurnEnd::Done).then_some(0);
            // The receiver is gone during a shutdown.
            let _ = events.send(AgentEvent::Exited { code, stderr: "".into() }).await;
        }
        end
    }

    /// Stops the agent of a thread and returns whether that worked. The thread stays readable.
    async fn stop_thread(&self, name: &str, record: &ThreadRecord) -> bool {
        let stopped = self.server.stop(name, &record.thread).await;
        if let Err(why) = &stopped {
            tracing::warn!(thread = record.thread, why, "a T3 thread can't be stopped");
        }
        stopped.is_ok()
    }
}

fn write_record(folder: &Path, record: &ThreadRecord) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let temporary = folder.join("thread.new");
    std::fs::write(&temporary, serde_json::to_vec(record)?)?;
    std::fs::rename(temporary, folder.join("thread.json"))
}

impl Executor for T3Executor {
    fn capabilities(&self, _local: Capabilities) -> Capabilities {
        thread::capabilities(self.config.approvals)
    }

    fn check(&self) -> BoxFuture<'_, Result<String, super::BoxError>> {
        Box::pin(self.server.check())
    }

    fn run_turn<'a>(
        &'a self,
        turn: &'a ExecutorTurn,
        events: &'a EventSender,
        controls: &'a mut mpsc::Receiver<TurnControl>,
    ) -> BoxFuture<'a, TurnEnd> {
        Box::pin(self.follow(turn, events, controls))
    }

    fn stop<'a>(&'a self, run: &'a str, root: &'a Path) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut all_stopped = true;
            for folder in super::turn_folders(root, run) {
                let bytes = std::fs::read(folder.join("thread.json")).ok();
                let Some(record) =
                    bytes.and_then(|bytes| serde_json::from_slice::<ThreadRecord>(&bytes).ok())
                else {
                    continue;
                };
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                all_stopped &= self.stop_thread(&name, &record).await;
            }
            if all_stopped {
                super::remove_turn_folders(root, run);
            }
        })
    }
}
