//! A turn without a prompt, with which `afk doctor` tries an agent as a run would use it: its program
//! starts behind the wall with its login, and it opens a conversation in the configured mode and with
//! the configured model. No request to the model is made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::tasks::turn_spec::of_dry_turn;
use super::wall::Wall;
use crate::agent::driver;
use crate::config::Config;
use crate::config::agent::{AgentConfig, Protocol};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::process::Supervisor;
use crate::secrets::Secrets;

/// The capacity of the channel of events; an agent sends a handful before its prompt.
const EVENTS: usize = 64;
/// The time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(1);

/// What a dry turn showed.
#[derive(Debug, Default)]
pub(crate) struct DryTurn {
    /// The model that the agent chose, where it reports one.
    pub(crate) model: Option<String>,
    /// Remarks for a person, such as that a mode was rejected.
    pub(crate) notices: Vec<String>,
}

/// Whether a protocol can open a conversation without a prompt.
pub(crate) const fn allows(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Claude | Protocol::Codex | Protocol::Acp | Protocol::Pi => true,
        Protocol::Command | Protocol::Text => false,
    }
}

/// Tries an agent. `launcher` is the afk program, `folder` an empty folder for the agent's home and
/// worktree, which the caller removes.
///
/// # Errors
/// A line that says what a run of this agent would fail at.
pub(crate) async fn dry_turn(
    config: &Config,
    agent: &AgentConfig,
    launcher: PathBuf,
    folder: &Path,
    limit: Duration,
) -> Result<DryTurn, String> {
    let secrets =
        Secrets::new(config.vault.as_ref()).map_err(|error| crate::error::chain(&error))?;
    let id = format!("dry-turn-{}", std::process::id());
    let supervisor = Supervisor::new(launcher, id, GRACE);
    let wall = Wall::new(supervisor.clone(), folder.join("state"), &config.sandbox);
    let cwd = folder.join("work");
    std::fs::create_dir_all(&cwd).map_err(|error| format!("create {}: {error}", cwd.display()))?;
    let spec = of_dry_turn(config, &wall, &secrets, agent, cwd).await;
    let spec = spec.map_err(|error| error.to_string())?;
    let (events, mut received) = mpsc::channel(EVENTS);
    let (_controls, mut controlled) = mpsc::channel(1);
    let turn = driver::run(&supervisor, &spec, &events, &mut controlled);
    let mut shown = DryTurn::default();
    let watch = async {
        tokio::pin!(turn);
        loop {
            tokio::select! {
                end = &mut turn => return end,
                Some(event) = received.recv() => take(event, &mut shown),
            }
        }
    };
    let ended = timeout(limit, watch).await;
    supervisor.end(&spec.owner).await;
    drop(events);
    while let Ok(event) = received.try_recv() {
        take(event, &mut shown);
    }
    match ended {
        Err(_) => Err(format!("it opened no conversation within {} s", limit.as_secs())),
        Ok(TurnEnd::Done) => Ok(shown),
        Ok(end) => Err(end.summary()),
    }
}

fn take(event: AgentEvent, shown: &mut DryTurn) {
    match event {
        AgentEvent::SessionStarted { model, .. } => {
            shown.model = model.map(|model| model.clean_line());
        }
        AgentEvent::Notice { text } if shown.notices.len() < EVENTS => {
            shown.notices.push(text.clean_line());
        }
        _ => {}
    }
}
