//! One lane a run: what is done for it is done one after the other, and can be stopped whole.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ready::Ready;
use super::tasks::{self, Job};
use super::{Shell, clock};
use crate::agent::TurnControl;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::effect::Task;
use crate::core::model::id::{Repo, RunId};
use crate::core::model::input::{Input, RunFact};
use crate::journal::transcript::Entry;

/// Messages that may wait for an agent.
const CONTROLS: usize = 32;

#[derive(Debug, Default)]
struct Lane {
    cancel: CancellationToken,
    /// The last task; the next one waits for it.
    last: Option<JoinHandle<()>>,
    control: Option<mpsc::Sender<TurnControl>>,
}

/// All lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    shell: Arc<Shell>,
    by_run: HashMap<RunId, Lane>,
    /// The last giving back in each repository: a worktree is taken after it, so that the slot
    /// that becomes free is the one that is used.
    given_back: HashMap<Repo, Shared<BoxFuture<'static, ()>>>,
}

impl Lanes {
    pub(super) fn new(shell: Arc<Shell>) -> Self {
        Self { shell, by_run: HashMap::new(), given_back: HashMap::new() }
    }

    /// Begins an effect. Never waits.
    pub(super) fn begin(&mut self, ready: Ready) {
        let shell = self.shell.clone();
        match ready {
            Ready::Begin { job, task } => self.carry_out(job, task),
            Ready::Stop { run, asked, place, warm } => {
                let _new = self.cancel(run);
                self.chain(run, async move {
                    if asked {
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
            Ready::GiveBack(job) => {
                let repo = job.run.work.repo().clone();
                let (done, waits) = tokio::sync::oneshot::channel::<()>();
                // An end without a word, too, lets those that wait go on.
                self.given_back.insert(repo, waits.map(|_| ()).boxed().shared());
                self.chain(job.run.id, async move {
                    tasks::worktree::give_back(&job).await;
                    drop(done);
                });
            }
            Ready::Capsule(job) => {
                self.chain(job.run.id, async move { tasks::capsule::keep(&job).await });
            }
            Ready::Deliver(delivery) => {
                tokio::spawn(async move { delivery.carry_out(&shell).await });
            }
            Ready::Forget(run) => {
                self.by_run.remove(&run);
                tokio::task::spawn_blocking(move || shell.forget(run));
            }
            Ready::Breakglass(task) => super::breakglass::execute(&shell, task),
            Ready::Tell { run, control } => self.tell(run, control),
            Ready::Note { run, text } => {
                let at = clock::wall();
                let entry = Entry { at, turn: 0, event: AgentEvent::Notice { text } };
                shell.transcribe(run, &[entry]);
            }
        }
    }

    fn carry_out(&mut self, job: Job, task: Task) {
        let run = job.run.id;
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

    fn tell(&self, run: RunId, control: TurnControl) {
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
    controls: mpsc::Receiver<TurnControl>,
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
