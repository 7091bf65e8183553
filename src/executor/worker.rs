//! The worker: `afk worker FOLDER` in the pod of a Kubernetes Job.
//!
//! It reads the task from the shared folder, runs the agent driver, and writes every event and the
//! end of the turn back (see [`super::folder`]). It works on while no afk reads the folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{interval, sleep};

use super::folder::{TurnFolder, WorkerMessage};
use crate::agent::TurnControl;
use crate::agent::driver;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::process::Supervisor;
use crate::process::end_signals::EndSignals;
use crate::redact::{self, names_a_secret};

/// The interval between two reads of the controls.
const CONTROL_POLL: Duration = Duration::from_millis(200);
/// How long an interrupted agent may take before its processes are ended. The grace of a pod is longer.
const INTERRUPTED: Duration = Duration::from_secs(10);
/// Capacity of the channel of events that wait to be written.
const EVENT_QUEUE: usize = 256;

/// Runs the turn in a folder, unless it has ended already. Fails if the folder can't be read or
/// written.
pub(crate) async fn run(path: PathBuf, launcher: PathBuf) -> Result<(), String> {
    let folder = TurnFolder::at(path);
    let with_path = |error: std::io::Error| format!("{}: {error}", folder.path().display());
    let mut messages = folder.messages();
    loop {
        let lines = messages.next_batch(1000).map_err(with_path)?;
        if lines.iter().any(|line| matches!(line, WorkerMessage::End(_))) {
            return Ok(());
        }
        if lines.is_empty() {
            break;
        }
    }
    let mut spec = folder.read_task().map_err(with_path)?;
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let inherited = spec.inherit.iter().filter_map(|name| environment.get_key_value(name));
    spec.env.extend(inherited.map(|(name, value)| (name.clone(), value.clone())));
    for (name, value) in &environment {
        if spec.inherit.contains(name) {
            redact::remember(value);
        } else if names_a_secret(name) {
            redact::remember_likely(value);
        }
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    folder.append_message(&WorkerMessage::Begun { version }).map_err(with_path)?;
    let name = folder.path().file_name().map(|name| name.to_string_lossy().into_owned());
    let supervisor = Supervisor::new(launcher, name.unwrap_or_default(), Duration::from_secs(10));
    let (events, mut to_write) = mpsc::channel::<AgentEvent>(EVENT_QUEUE);
    let (control, mut controls) = mpsc::channel(32);
    let forwarding = tokio::spawn(forward_controls(folder.clone(), control.clone()));
    let mut signals = EndSignals::listen().map_err(|error| format!("signals: {error}"))?;
    let write = async {
        while let Some(event) = to_write.recv().await {
            folder.append_message(&WorkerMessage::Event(event)).map_err(with_path)?;
        }
        Ok::<(), String>(())
    };
    let work = async {
        let turn = driver::run(&supervisor, &spec, &events, &mut controls);
        let end = ended_by_signal(turn, &mut signals, &control, &supervisor, &spec.owner).await;
        drop(events);
        end
    };
    let (end, written) = tokio::join!(work, write);
    forwarding.abort();
    written?;
    folder.append_message(&WorkerMessage::End(end)).map_err(with_path)
}

/// Carries out a turn. A signal, as a rollout or an eviction of the pod sends it, interrupts the agent;
/// a second one, or an agent that doesn't end, ends its processes at once.
async fn ended_by_signal(
    turn: impl Future<Output = TurnEnd>,
    signals: &mut EndSignals,
    control: &mpsc::Sender<TurnControl>,
    supervisor: &Supervisor,
    owner: &str,
) -> TurnEnd {
    tokio::pin!(turn);
    let signal = tokio::select! {
        end = &mut turn => return end,
        signal = signals.next() => signal,
    };
    tracing::warn!(signal = signal.name(), "the worker must end: the agent is interrupted");
    // A full queue means that the agent takes no control; it is ended below.
    let _ = control.try_send(TurnControl::Interrupt);
    tokio::select! {
        end = &mut turn => match end {
            TurnEnd::Interrupted | TurnEnd::Crashed { .. } => {}
            end => return end,
        },
        () = sleep(INTERRUPTED) => {
            supervisor.end(owner).await;
        }
        _ = signals.next() => {
            supervisor.hasten();
            supervisor.end(owner).await;
        }
    }
    let name = signal.name();
    TurnEnd::Crashed {
        why: format!("its worker was ended by {name}, as by an eviction or a rollout").into(),
    }
}

/// Forwards the controls in the folder to the driver.
async fn forward_controls(folder: TurnFolder, to_driver: mpsc::Sender<TurnControl>) {
    let mut lines = folder.controls();
    let mut poll = interval(CONTROL_POLL);
    loop {
        poll.tick().await;
        // An unreachable share is read again at the next tick.
        for control in lines.next_batch(32).unwrap_or_default() {
            if to_driver.send(control).await.is_err() {
                return;
            }
        }
    }
}
