//! Breakglass as the runtime carries it: verbs at the hypervisor, shells, pins, and what is kept.

pub mod console;
mod diagnosis;
pub mod live;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::{Shell, clock};
use crate::breakglass::pins::Pins;
use crate::breakglass::store::{self, Document};
use crate::breakglass::verb::{Report, Told};
use crate::breakglass::{recording, verb};
use crate::config::Config;
use crate::config::breakglass::BreakglassConfig;
use crate::core::model::breakglass::{
    BreakglassReport, BreakglassTask, Capture, Verb, VerbEnd, VerbId, VerbResult,
};
use crate::core::model::input::Input;
use crate::core::model::untrusted::Untrusted;

/// Between two looks for what is too old.
const PRUNE: Duration = Duration::from_secs(6 * 3600);

/// Begins what the core wants. Never waits.
pub(super) fn execute(shell: &Arc<Shell>, task: BreakglassTask) {
    let shell = shell.clone();
    match task {
        BreakglassTask::Verb { id, verb, known } => {
            tokio::spawn(async move {
                let end = run_verb(&shell, id, verb, known.as_ref()).await;
                shell.urgent(Input::Breakglass(BreakglassReport::Ended { verb: id, end })).await;
            });
        }
        BreakglassTask::Shell { id, host, by } => console::open(&shell, id, host, by),
        BreakglassTask::CloseShells { why } => console::close_all(&shell, &why),
        BreakglassTask::Trust { host, key } => {
            tokio::spawn(async move {
                let done = trust(&shell, &host, &key);
                shell.problem("pins", done.err().into_iter().collect()).await;
            });
        }
        BreakglassTask::Diagnose => {
            tokio::spawn(async move {
                let (text, proposes) = diagnosis::ask(&shell).await;
                shell
                    .urgent(Input::Breakglass(BreakglassReport::Diagnosed { text, proposes }))
                    .await;
            });
        }
    }
}

fn trust(shell: &Shell, host: &str, key: &str) -> Result<(), String> {
    let config = shell.config();
    let breakglass = config.breakglass.as_ref().ok_or("breakglass is not configured")?;
    let key = russh::keys::PublicKey::from_openssh(key).map_err(|error| error.to_string())?;
    let done = Pins::at(&breakglass.pins).set(host, &key, false);
    done.map_err(|error| crate::core::model::untrusted::clean_line(&error.to_string()))
}

/// What agents, tests and deploy commands must not reach.
#[must_use]
pub(super) fn hidden(config: &Config, state: &std::path::Path) -> Vec<PathBuf> {
    let Some(breakglass) = config.breakglass.as_ref().filter(|b| b.hide_from_agents) else {
        return Vec::new();
    };
    let mut paths = breakglass.secret_paths();
    paths.push(state.join("breakglass"));
    paths.push(state.join("afk.sock"));
    paths
}

/// Takes away what is older than the configuration keeps it.
pub(super) fn start(shell: &Arc<Shell>) {
    if shell.config().breakglass.is_some()
        && let Err(error) = store::private_folder(&shell.state.join("breakglass"))
    {
        // Told again by what can't be kept in it.
        tracing::warn!(%error, "the folder of captures and recordings can't be made");
    }
    let shell = shell.clone();
    tokio::spawn(async move {
        loop {
            if let Some(breakglass) = &shell.config().breakglass {
                let age = Duration::from_secs(u64::from(breakglass.keep_days) * 24 * 3600);
                let state = shell.state.clone();
                let look = move || {
                    let now = SystemTime::now();
                    store::prune(&store::folder(&state), age, now)
                        + store::prune(&recording::folder(&state), age, now)
                };
                if let Ok(gone @ 1..) = tokio::task::spawn_blocking(look).await {
                    tracing::info!(gone, "captures and recordings that were too old are gone");
                }
            }
            tokio::select! {
                () = sleep(PRUNE) => {}
                () = shell.cancel.cancelled() => return,
            }
        }
    });
}

async fn run_verb(
    shell: &Arc<Shell>,
    id: VerbId,
    verb: Verb,
    known: Option<&Untrusted>,
) -> VerbEnd {
    let config = shell.config();
    let Some(breakglass) = &config.breakglass else {
        let why = "breakglass is not configured any more".into();
        let result = VerbResult::NotBegun { why };
        return VerbEnd { result, reads: None, request: None, capture: None };
    };
    let began = clock::wall();
    shell.live().begin(id);
    let tell = |told: Told<'_>| {
        shell.live().hear(id, told);
        // One that waits already shows this as well.
        let _ = shell.urgent.try_send(super::Message::Aside);
    };
    let report = verb::run(breakglass, verb, known.map(Untrusted::as_received), tell).await;
    shell.live().end(id, &report.result.summary());
    let capture = keep(shell, breakglass, verb, began, &report).await;
    let Report { result, reads, request, .. } = report;
    VerbEnd { result, reads, request, capture }
}

/// Keeps what a verb wrote; a disk that is gone is told, and hinders nothing.
async fn keep(
    shell: &Arc<Shell>,
    breakglass: &BreakglassConfig,
    verb: Verb,
    began: crate::core::model::time::Timestamp,
    report: &Report,
) -> Option<Capture> {
    if report.out.bytes.is_empty() && report.err.bytes.is_empty() {
        return None;
    }
    let cut = report.out.cut || report.err.cut;
    let document = Document {
        verb,
        vm: breakglass.vm.clone(),
        began,
        ms: clock::wall().since(began),
        result: report.result.summary(),
        stdout: report.out.text(),
        stderr: report.err.text(),
        cut,
    };
    let state = shell.state.clone();
    let kept = tokio::task::spawn_blocking(move || document.keep(&state)).await.ok()?;
    let (digest, size, stored) = kept;
    let problem = stored.as_ref().err().map(|error| {
        format!("a capture of {} could not be kept ({error}); the host's log has it", verb.as_str())
    });
    shell.problem("captures", problem.into_iter().collect()).await;
    Some(Capture { digest, size, stored: stored.is_ok(), cut })
}

impl Shell {
    pub(super) fn live(&self) -> std::sync::MutexGuard<'_, live::Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
