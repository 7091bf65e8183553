//! Carries out breakglass: verbs at the hypervisor, shells on hosts, pinned host keys, captures.
//!
//! ```text
//!   lanes ── BreakglassTask ───▶ execute ─┬─ Verb ────▶ run_verb ──▶ BreakglassReport::Ended, capture
//!                                          ├─ Shell ───▶ console ───▶ BreakglassReport::Closed, recording
//!                                          ├─ Trust ───▶ pins
//!                                          ├─ Diagnose ▶ diagnosis ─▶ BreakglassReport::Diagnosed
//!                                          └─ …Agent… ─▶ agent ─────▶ BreakglassReport::Agent…
//! ```
//!
//! Every report goes through the urgent queue, which the loop reads even without a journal.

pub(crate) mod agent;
pub mod console;
mod diagnosis;
pub mod verb_output;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::side_state::ProblemSource;
use super::{Context, LoopMessage, clock};
use crate::breakglass::pins::Pins;
use crate::breakglass::store::{self, Document};
use crate::breakglass::verb::{VerbProgress, VerbReport};
use crate::breakglass::{recording, verb};
use crate::config::Config;
use crate::config::breakglass::BreakglassConfig;
use crate::core::model::breakglass::{
    BreakglassReport, BreakglassTask, Capture, Verb, VerbEnd, VerbId, VerbResult,
};
use crate::core::model::input::Input;
use crate::core::model::untrusted::Untrusted;

/// The time between two deletions of old captures and recordings.
const PRUNE_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Begins a task of the core. Never waits.
pub(super) fn execute(context: &Arc<Context>, task: BreakglassTask) {
    let context = context.clone();
    match task {
        BreakglassTask::Verb { id, verb, known, agent } => {
            // At once, so that a stop that follows finds the verb.
            let stop = agent.map_or_else(
                || Some(CancellationToken::new()),
                |session| context.agent_desk.stop_token(session),
            );
            tokio::spawn(async move {
                let end = match stop {
                    Some(stop) => run_verb(&context, id, verb, known.as_ref(), &stop).await,
                    None => VerbEnd::of(VerbResult::NotBegun { why: verb::STOPPED.into() }),
                };
                context
                    .send_urgent(Input::Breakglass(BreakglassReport::Ended { verb: id, end }))
                    .await;
            });
        }
        BreakglassTask::Shell { id, host, by } => console::open(&context, id, host, by),
        BreakglassTask::CloseShells { why } => context.shells.close_all(&why),
        BreakglassTask::Trust { host, key } => {
            tokio::spawn(async move {
                let done = trust(&context, &host, &key);
                context
                    .report_problems(ProblemSource::Pins, done.err().into_iter().collect())
                    .await;
            });
        }
        BreakglassTask::StartAgent { terms, task, reason } => {
            agent::start(&context, terms, task, reason);
        }
        BreakglassTask::AgentCommand { session, call, host, command } => {
            agent::run_command(&context, session, call, host, command);
        }
        BreakglassTask::AgentReply { session, call, ok, text, verb } => {
            agent::reply(&context, session, call, ok, text, verb);
        }
        BreakglassTask::StopAgent { session, why } => context.agent_desk.stop(session, &why),
        BreakglassTask::Diagnose => {
            tokio::spawn(async move {
                let (text, proposes) = diagnosis::ask(&context).await;
                context
                    .send_urgent(Input::Breakglass(BreakglassReport::Diagnosed { text, proposes }))
                    .await;
            });
        }
    }
}

fn trust(context: &Context, host: &str, key: &str) -> Result<(), String> {
    let config = context.config();
    let breakglass = config.breakglass.as_ref().ok_or("breakglass is not configured")?;
    let key = russh::keys::PublicKey::from_openssh(key).map_err(|error| error.to_string())?;
    let done = Pins::at(&breakglass.pins).set(host, &key, false);
    done.map_err(|error| crate::core::model::untrusted::clean_line(&error.to_string()))
}

/// The paths that agents, tests and deploy commands must not reach: secrets, captures, the socket.
pub(super) fn hidden(config: &Config, state: &std::path::Path) -> Vec<PathBuf> {
    let Some(breakglass) = config.breakglass.as_ref().filter(|b| b.hide_from_agents) else {
        return Vec::new();
    };
    let mut paths = breakglass.secret_paths();
    paths.push(state.join("breakglass"));
    paths.push(state.join("afk.sock"));
    paths
}

/// Creates the private folder, and deletes captures and recordings that are older than configured
/// until the context is cancelled.
pub(super) fn start(context: &Arc<Context>) {
    if context.config().breakglass.is_some()
        && let Err(error) = store::private_folder(&context.state.join("breakglass"))
    {
        // A capture that can't be stored becomes a problem later.
        tracing::warn!(%error, "the folder of captures and recordings can't be created");
    }
    let context = context.clone();
    tokio::spawn(async move {
        loop {
            if let Some(breakglass) = &context.config().breakglass {
                let age = Duration::from_secs(u64::from(breakglass.keep_days) * 24 * 3600);
                let state = context.state.clone();
                let prune = move || {
                    let now = SystemTime::now();
                    store::prune(&store::folder(&state), age, now)
                        + store::prune(&recording::folder(&state), age, now)
                };
                if let Ok(deleted @ 1..) = tokio::task::spawn_blocking(prune).await {
                    tracing::info!(deleted, "deleted old captures and recordings");
                }
            }
            tokio::select! {
                () = sleep(PRUNE_INTERVAL) => {}
                () = context.cancel.cancelled() => return,
            }
        }
    });
}

/// Runs a verb, shows its output while it runs, and stores the output as a capture.
async fn run_verb(
    context: &Arc<Context>,
    id: VerbId,
    verb: Verb,
    known: Option<&Untrusted>,
    stop: &CancellationToken,
) -> VerbEnd {
    let config = context.config();
    let Some(breakglass) = &config.breakglass else {
        let why = "breakglass is no longer configured".into();
        return VerbEnd::of(VerbResult::NotBegun { why });
    };
    let began = clock::wall();
    context.side_state.verbs().begin(id);
    let on_output = |progress: VerbProgress<'_>| {
        context.side_state.verbs().add(id, progress);
        // If the queue is full, a message that waits in it shows this output too.
        let _ = context.urgent.try_send(LoopMessage::SideStateChanged);
    };
    let known = known.map(Untrusted::as_received);
    let report = verb::run(breakglass, verb, known, stop, on_output).await;
    context.side_state.verbs().end(id, &report.result.summary());
    let capture = store_capture(context, breakglass, verb, began, &report).await;
    let VerbReport { result, reads, request, warnings, .. } = report;
    VerbEnd { result, reads, request, capture, warnings }
}

/// Stores the output of a verb. A disk that can't be written becomes a problem and delays nothing.
async fn store_capture(
    context: &Arc<Context>,
    breakglass: &BreakglassConfig,
    verb: Verb,
    began: crate::core::model::time::Timestamp,
    report: &VerbReport,
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
    let state = context.state.clone();
    let kept = tokio::task::spawn_blocking(move || document.save(&state)).await.ok()?;
    let (digest, size, stored) = kept;
    let problem = stored.as_ref().err().map(|error| {
        format!("a capture of {} can't be stored ({error}); the host's log has it", verb.as_str())
    });
    context.report_problems(ProblemSource::Captures, problem.into_iter().collect()).await;
    Some(Capture { digest, size, stored: stored.is_ok(), cut })
}
