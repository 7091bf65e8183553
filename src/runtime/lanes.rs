//! One lane a run: its effects are carried out one after the other, and can be stopped together.
//!
//! ```text
//!   event_loop ── PreparedEffect ──▶ Lanes::begin
//!        Begin, Stop, GiveBack, Capsule ──▶ the run's lane: each waits for the one before it
//!        Clone, Deliver, ReadIssue, Forget,
//!        Breakglass                     ──▶ a task of its own
//!        Control                        ──▶ the running agent, if the lane has one
//!   tasks::carry_out ── RunFact ──▶ event_loop
//! ```

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::prepared_effect::PreparedEffect;
use super::tasks::{self, TaskContext};
use super::{Context, breakglass, clock, first_clones, outages, tracker_watch};
use crate::agent::TurnControl;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::effect::Task;
use crate::core::model::id::{Repo, RunId};
use crate::core::model::input::{Input, RunFact, TryFailure};
use crate::core::model::outage::{OutageCause, OutageKind};
use crate::core::model::untrusted::Untrusted;
use crate::journal::transcript::TranscriptEntry;
use crate::process::descriptors;
use crate::redact::Redactor;
use crate::workspace::outage::MACHINE;

/// Messages that may wait for a running agent.
const CONTROL_QUEUE: usize = 32;

/// The work of one run.
#[derive(Debug, Default)]
struct Lane {
    /// Cancels the task that runs now.
    cancel: CancellationToken,
    /// The last task; the next one waits for it.
    last: Option<JoinHandle<()>>,
    /// The running agent's messages.
    control: Option<mpsc::Sender<TurnControl>>,
}

/// The lanes of all runs.
#[derive(Debug)]
pub(super) struct Lanes {
    context: Arc<Context>,
    by_run: HashMap<RunId, Lane>,
    /// The last giving back in each repository. A run takes its worktree only after it, so that it
    /// gets the slot that becomes free.
    given_back: HashMap<Repo, Shared<BoxFuture<'static, ()>>>,
}

impl Lanes {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, by_run: HashMap::new(), given_back: HashMap::new() }
    }

    /// Begins an effect. Never waits.
    pub(super) fn begin(&mut self, effect: PreparedEffect) {
        let context = self.context.clone();
        match effect {
            PreparedEffect::Begin { context, task } => self.carry_out(context, task),
            PreparedEffect::Stop { run, is_job, executor, warm } => {
                let _next = self.cancel(run);
                self.chain(run, async move {
                    if is_job {
                        context.supervisor.end_rest(&run.to_string()).await;
                    } else {
                        context.supervisor.end(&run.to_string()).await;
                    }
                    if let Some(executor) = executor {
                        context.stop_remote(run, &executor).await;
                    }
                    context.store.close(run);
                    if let Some(repo) = warm {
                        tasks::worktree::warm(&context, &repo).await;
                    }
                });
            }
            PreparedEffect::GiveBack(task) => {
                let repo = task.run.work.repo().clone();
                let (done, waits) = oneshot::channel::<()>();
                // Dropping `done`, even on panic, releases the waiters.
                self.given_back.insert(repo, waits.map(|_| ()).boxed().shared());
                self.chain(task.run.id, async move {
                    tasks::worktree::give_back(&task).await;
                    drop(done);
                    tasks::worktree::warm_after(&task);
                });
            }
            PreparedEffect::Capsule(task) => {
                self.chain(task.run.id, async move { tasks::capsule::keep(&task).await });
            }
            PreparedEffect::Deliver(delivery) => {
                tokio::spawn(async move { delivery.carry_out(&context).await });
            }
            PreparedEffect::Clone { repo, run } => {
                tokio::spawn(first_clones::clone(context, repo, run));
            }
            PreparedEffect::ReadIssue(issue) => {
                tokio::spawn(async move { tracker_watch::read_issue(&context, issue).await });
            }
            PreparedEffect::Forget(run) => {
                self.by_run.remove(&run);
                tokio::task::spawn_blocking(move || context.forget(run));
            }
            PreparedEffect::ProbeOutage { cause, repo, holds_runs } => {
                tokio::spawn(outages::probe(context, cause, repo, holds_runs));
            }
            PreparedEffect::Breakglass(task) => breakglass::execute(&context, task),
            PreparedEffect::Control { run, control } => self.control(run, control),
            PreparedEffect::Note { run, text } => self.note(run, text),
        }
    }

    fn carry_out(&mut self, context: TaskContext, task: Task) {
        let run = context.run.id;
        let (control, controls) = mpsc::channel(CONTROL_QUEUE);
        let cancel = self.cancel(run);
        let lane = self.by_run.entry(run).or_default();
        lane.control = matches!(task, Task::Turn { .. }).then_some(control);
        let before = lane.last.take();
        let given_back = match task {
            Task::Worktree => self.given_back.get(context.run.work.repo()).cloned(),
            _ => None,
        };
        lane.last = Some(tokio::spawn(async move {
            finished(before).await;
            if let Some(given_back) = given_back {
                given_back.await;
            }
            carry_out(context, task, controls, cancel).await;
        }));
    }

    /// Cancels the task that runs now and returns the token of the next one.
    fn cancel(&mut self, run: RunId) -> CancellationToken {
        let lane = self.by_run.entry(run).or_default();
        lane.cancel.cancel();
        lane.cancel = self.context.cancel.child_token();
        lane.control = None;
        lane.cancel.clone()
    }

    /// Adds work to a lane that a cancellation does not stop.
    fn chain(&mut self, run: RunId, work: impl Future<Output = ()> + Send + 'static) {
        let lane = self.by_run.entry(run).or_default();
        let before = lane.last.take();
        lane.last = Some(tokio::spawn(async move {
            finished(before).await;
            work.await;
        }));
    }

    /// Sends a message to the running agent, or notes in the transcript that there is none.
    fn control(&self, run: RunId, control: TurnControl) {
        let sent = self
            .by_run
            .get(&run)
            .and_then(|lane| lane.control.as_ref())
            .is_some_and(|agent| agent.try_send(control).is_ok());
        if !sent {
            let text =
                "the message did not reach the agent: its turn has ended or its queue is full";
            self.note(run, text.into());
        }
    }

    fn note(&self, run: RunId, text: Untrusted) {
        let event = AgentEvent::Notice { text };
        self.context
            .append_transcript(run, &[TranscriptEntry { at: clock::wall(), turn: 0, event }]);
    }

    /// Waits until every lane is empty. The caller has cancelled the context before.
    pub(super) async fn stop_all(&mut self) {
        for (_, lane) in self.by_run.drain() {
            finished(lane.last).await;
        }
    }
}

async fn finished(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        // `carry_out` catches and reports the panic of a task.
        let _ = task.await;
    }
}

/// Runs a task and reports its fact; a cancelled task reports nothing.
async fn carry_out(
    context: TaskContext,
    task: Task,
    controls: mpsc::Receiver<TurnControl>,
    cancel: CancellationToken,
) {
    let (runtime, run, epoch) = (context.runtime.clone(), context.run.id, context.epoch);
    let work = async {
        match descriptors::wait_for_room().await {
            Ok(()) => tasks::carry_out(&context, task, controls).await,
            Err(why) => {
                let cause = OutageCause::new(OutageKind::Descriptors, MACHINE);
                RunFact::Unavailable { cause, failure: TryFailure { why: why.into(), wait_ms: 0 } }
            }
        }
    };
    let work = AssertUnwindSafe(work).catch_unwind();
    let fact = tokio::select! {
        () = cancel.cancelled() => None,
        done = work => Some(done.unwrap_or_else(|_| {
            RunFact::Failed { why: "an error inside afk; see its log".into() }
        })),
    };
    if runtime.side_state.set_progress(run, None) {
        runtime.side_state_changed().await;
    }
    if matches!(fact, None | Some(RunFact::Failed { .. } | RunFact::Unavailable { .. })) {
        runtime.supervisor.end(&run.to_string()).await;
    }
    if let Some(mut fact) = fact {
        Redactor::default().fact(&mut fact);
        runtime.send(Input::Run { run, epoch, fact }).await;
    }
}
