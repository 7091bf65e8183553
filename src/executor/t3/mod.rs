//! Turns as those of a thread at a T3 Code server: the server works in the run's own worktree, and
//! what its agent says is heard over its websocket. That it says "completed" is worth what any
//! agent's word is: the gate decides.

mod activity;
mod link;
mod thread;
mod told;

use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::link::Server;
use self::thread::{Begin, Thread};
use self::told::Told;
use super::{Executor, Turn};
use crate::agent::turn::{self, Over, TO_READ, TO_WRITE};
use crate::agent::{Control, Events};
use crate::config::executor::T3Config as Config;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::capability::Capabilities;
use crate::core::model::digest::Digest;
use crate::secrets::Secrets;

/// See the module.
#[derive(Debug)]
pub struct T3 {
    config: Config,
    server: Server,
}

/// What is written down of a turn, to end it by.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    thread: String,
    /// The worktree, in whose repository the server keeps its checkpoints.
    cwd: std::path::PathBuf,
}

/// A UUID that is the same each time for the same words (RFC 9562, version 8).
fn command_id(words: &[&str]) -> String {
    let parts: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let hex = Digest::of(&parts).to_string();
    let part = |from: usize, to: usize| &hex[from..to];
    let (time, rest) = (format!("{}-{}", part(0, 8), part(8, 12)), part(20, 32));
    format!("{time}-8{}-a{}-{rest}", part(13, 16), part(17, 20))
}

impl T3 {
    /// As configured.
    ///
    /// # Errors
    /// A line for a person.
    pub fn new(config: Config, secrets: Arc<Secrets>) -> Result<Arc<Self>, String> {
        let server = Server::new(config.clone(), secrets)?;
        Ok(Arc::new(Self { config, server }))
    }

    async fn carry(
        &self,
        turn: &Turn,
        events: &Events,
        controls: &mut mpsc::Receiver<Control>,
    ) -> TurnEnd {
        let spec = &turn.spec;
        let Some(model) = self.config.model.clone().or_else(|| spec.model.clone()) else {
            let why = "a T3 thread needs a model: set `model` of the executor".into();
            return TurnEnd::NotStarted { why };
        };
        let folder = turn.root.join(&turn.name);
        let thread = spec.resume.clone().unwrap_or_else(|| thread::id(&turn.name));
        let kept = Kept { thread, cwd: spec.cwd.clone() };
        if let Err(error) = keep(&folder, &kept) {
            let why = format!("{}: {error}", folder.display()).into();
            return TurnEnd::NotStarted { why };
        }
        let told = Told::open(folder.join("told"));
        let begin = Begin {
            name: turn.name.clone(),
            instance: self.config.instance.clone(),
            model,
            approvals: self.config.approvals,
            version: self.config.version.clone(),
            told: told.ids().clone(),
        };
        let (lines, commands) = mpsc::channel(TO_WRITE);
        let (tell, to_read) = mpsc::channel(TO_READ);
        let conversation = Box::new(Thread::new(begin));
        let mut served = turn::Turn::new(conversation, spec, events, lines);
        let over = {
            let serve = served.serve(&|| 0, to_read, controls);
            let carry = link::carry(&self.server, commands, tell, told);
            tokio::pin!(serve, carry);
            tokio::select! {
                over = &mut serve => over,
                () = &mut carry => serve.await,
            }
        };
        let end = match over {
            Over::Said(end) => end,
            Over::Stopped(end) => {
                self.stop_thread(&turn.name, &kept).await;
                end
            }
            Over::Eof => TurnEnd::Crashed { why: "the way to the T3 server ended".into() },
        };
        if spec.heard {
            let code = (end == TurnEnd::Done).then_some(0);
            // Nobody may be listening any more.
            let _ = events.send(AgentEvent::Exited { code, stderr: "".into() }).await;
        }
        end
    }

    /// Ends the agent of a thread; the thread stays, to be read.
    async fn stop_thread(&self, name: &str, kept: &Kept) -> bool {
        let stopped = self.server.stop(name, &kept.thread).await;
        if let Err(why) = &stopped {
            tracing::warn!(thread = kept.thread, why, "a T3 thread could not be stopped");
        }
        stopped.is_ok()
    }
}

fn keep(folder: &Path, kept: &Kept) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let aside = folder.join("thread.new");
    std::fs::write(&aside, serde_json::to_vec(kept)?)?;
    std::fs::rename(aside, folder.join("thread.json"))
}

/// Takes the server's checkpoints of a thread out of the repository that it worked in.
fn drop_checkpoints(kept: &Kept) -> Result<(), git2::Error> {
    use base64::Engine;
    let repository = git2::Repository::open(&kept.cwd)?;
    let thread = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&kept.thread);
    for reference in repository.references_glob(&format!("refs/t3/checkpoints/{thread}/*"))? {
        reference?.delete()?;
    }
    Ok(())
}

impl Executor for T3 {
    fn capabilities(&self, _here: Capabilities) -> Capabilities {
        thread::capabilities(self.config.approvals)
    }

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(self.server.check())
    }

    fn turn<'a>(
        &'a self,
        turn: &'a Turn,
        events: &'a Events,
        controls: &'a mut mpsc::Receiver<Control>,
    ) -> BoxFuture<'a, TurnEnd> {
        Box::pin(self.carry(turn, events, controls))
    }

    fn stop<'a>(&'a self, run: &'a str, root: &'a Path) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut gone = true;
            for folder in super::folders(root, run) {
                let kept = std::fs::read(folder.join("thread.json")).ok();
                let Some(kept) = kept.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok())
                else {
                    continue;
                };
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                gone &= self.stop_thread(&name, &kept).await;
                if let Err(error) = drop_checkpoints(&kept) {
                    tracing::debug!(%error, "the T3 server's checkpoints are left");
                }
            }
            if gone {
                super::take_away(root, run);
            }
        })
    }
}
