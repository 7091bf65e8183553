//! One lane a run: what is done for it is done one after the other, and can be stopped whole.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::effects::Delivery;
use super::tasks::{self, Job};
use super::{Shell, clock};
use crate::agent::Control;
use crate::core::agent_event::AgentEvent;
use crate::core::effect::{Effect, Task};
use crate::core::id::{Repo, RunId};
use crate::core::input::{Input, RunFact};
use crate::core::run::Outcome;
use crate::core::state::Fleet;
use crate::journal::transcript::Entry;

/// Messages that may wait for an agent.
const CONTROLS: usize = 32;

#[derive(Debug, Default)]
struct Lane {
    cancel: CancellationToken,
    /// The last task; the next one waits for it.
    last: Option<JoinHandle<()>>,
    control: Option<mpsc::Sender<Control>>,
}

/// All lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    shell: Arc<Shell>,
    /// Breakglass is all that is carried out.
    alone: bool,
    by_run: HashMap<RunId, Lane>,
    /// The last giving back in each repository: a worktree is taken after it, so that the slot
    /// that becomes free is the one that is used.
    given_back: HashMap<Repo, Shared<BoxFuture<'static, ()>>>,
}

impl Lanes {
    pub(super) fn new(shell: Arc<Shell>, alone: bool) -> Self {
        Self { shell, alone, by_run: HashMap::new(), given_back: HashMap::new() }
    }

    /// Begins an effect. Never waits.
    pub(super) fn execute(&mut self, effect: Effect, fleet: &Fleet) {
        match effect {
            // Whatever is under way is begun at the next whole start.
            Effect::Begin { .. } if self.alone => {}
            Effect::Begin { run, epoch, task } => {
                let Some(job) = Job::new(&self.shell, fleet, run, epoch) else { return };
                let (control, controls) = mpsc::channel(CONTROLS);
                let cancel = self.cancel(run);
                let lane = self.by_run.entry(run).or_default();
                lane.control = matches!(task, Task::Turn { .. }).then_some(control);
                let shell = self.shell.clone();
                let before = lane.last.take();
                let free = match task {
                    Task::Worktree => self.given_back.get(job.run.work.repo()).cloned(),
                    _ => None,
                };
                lane.last = Some(tokio::spawn(async move {
                    finished(before).await;
                    if let Some(free) = free {
                        free.await;
                    }
                    carry_out(&shell, job, task, controls, cancel).await;
                }));
            }
            Effect::Stop { run } => {
                let _new = self.cancel(run);
                let shell = self.shell.clone();
                // One that keeps its worktree leaves none ready for the next run.
                let keeps = |outcome| matches!(outcome, Outcome::NeedsHuman | Outcome::Frozen);
                let known = fleet.runs.get(&run);
                let kept = known.filter(|r| r.outcome.is_some_and(keeps) && r.worktree.is_some());
                let warm = kept.map(|r| r.work.repo().clone());
                let job = known.is_some_and(|run| run.work.job().is_some());
                let place = known.and_then(|run| fleet.elsewhere(&run.work));
                let place = place.map(|place| place.name.clone());
                self.chain(run, async move {
                    if job {
                        shell.supervisor.end_rest(&run.to_string()).await;
                    } else {
                        shell.supervisor.end(&run.to_string()).await;
                    }
                    if let Some(place) = place {
                        shell.stop_elsewhere(run, &place).await;
                    }
                    shell.store.close(run);
                    if let Some(repo) = warm {
                        tasks::worktree::warm(&shell, &repo).await;
                    }
                });
            }
            Effect::GiveBack { run } => {
                if let Some(job) = Job::new(&self.shell, fleet, run, 0) {
                    let repo = job.run.work.repo().clone();
                    let (done, waits) = tokio::sync::oneshot::channel::<()>();
                    // An end without a word, too, lets those that wait go on.
                    self.given_back.insert(repo, waits.map(|_| ()).boxed().shared());
                    self.chain(run, async move {
                        tasks::worktree::give_back(&job).await;
                        drop(done);
                    });
                }
            }
            Effect::Forget { run } => {
                self.by_run.remove(&run);
                let shell = self.shell.clone();
                tokio::task::spawn_blocking(move || shell.forget(run));
            }
            Effect::Capsule { run } => {
                if let Some(job) = Job::new(&self.shell, fleet, run, 0) {
                    self.chain(run, async move { tasks::capsule::keep(&job).await });
                }
            }
            Effect::Breakglass(task) => super::breakglass::execute(&self.shell, task),
            Effect::Steer { run, text, by } => self.tell(run, Control::Steer { text, by }),
            Effect::Answer { run, request, answer, by } => {
                self.tell(run, Control::Answer { request, answer, by });
            }
            Effect::Interrupt { run } => self.tell(run, Control::Interrupt),
            Effect::Note { run, text } => {
                let at = clock::wall();
                let entry = Entry { at, turn: 0, event: AgentEvent::Notice { text } };
                self.shell.transcribe(run, &[entry]);
            }
            Effect::Deliver { entry, step } => {
                let shell = self.shell.clone();
                let delivery = Delivery::new(entry, step, fleet);
                tokio::spawn(async move { delivery.carry_out(&shell).await });
            }
        }
    }

    /// Cancels what is under way and gives the token of what comes next.
    fn cancel(&mut self, run: RunId) -> CancellationToken {
        let lane = self.by_run.entry(run).or_default();
        lane.cancel.cancel();
        lane.cancel = self.shell.cancel.child_token();
        lane.control = None;
        lane.cancel.clone()
    }

    fn chain(&mut self, run: RunId, work: impl Future<Output = ()> + Send + 'static) {
        let lane = self.by_run.entry(run).or_default();
        let before = lane.last.take();
        lane.last = Some(tokio::spawn(async move {
            finished(before).await;
            work.await;
        }));
    }

    fn tell(&self, run: RunId, control: Control) {
        let sent = self
            .by_run
            .get(&run)
            .and_then(|lane| lane.control.as_ref())
            .is_some_and(|agent| agent.try_send(control).is_ok());
        if !sent {
            let text = "the agent could not be told: its turn has ended or its queue is full";
            let event = AgentEvent::Notice { text: text.into() };
            self.shell.transcribe(run, &[Entry { at: clock::wall(), turn: 0, event }]);
        }
    }

    /// Waits until every lane is empty; what is under way has been cancelled by the runtime.
    pub(super) async fn stop_all(&mut self) {
        for (_, lane) in self.by_run.drain() {
            finished(lane.last).await;
        }
    }
}

async fn finished(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        // A panic was caught and reported inside.
        let _ = task.await;
    }
}

async fn carry_out(
    shell: &Shell,
    job: Job,
    task: Task,
    controls: mpsc::Receiver<Control>,
    cancel: CancellationToken,
) {
    let (run, epoch) = (job.run.id, job.epoch);
    let limit = tasks::deadline(&job, &task);
    let work = AssertUnwindSafe(tasks::carry_out(&job, task, controls)).catch_unwind();
    let fact = tokio::select! {
        () = cancel.cancelled() => None,
        done = tokio::time::timeout(limit, work) => Some(match done {
            Ok(Ok(fact)) => fact,
            Ok(Err(_)) => RunFact::Failed { why: "an error inside afk; see its log".into() },
            Err(_) => {
                let why = format!("took longer than {} s", limit.as_secs());
                RunFact::Failed { why: why.into() }
            }
        }),
    };
    match fact {
        Some(fact) => {
            if matches!(fact, RunFact::Failed { .. }) {
                shell.supervisor.end(&run.to_string()).await;
            }
            shell.send(Input::Run { run, epoch, fact }).await;
        }
        None => {
            shell.supervisor.end(&run.to_string()).await;
        }
    }
}
