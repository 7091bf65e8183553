//! One turn of the agent, here or at an executor.
//!
//! ```text
//!   TurnStart ──▶ turn_spec::of_run ──▶ agent::driver::run       (here)
//!                                  └──▶ Executor::turn           (elsewhere)
//!                                            │ AgentEvent
//!                                            ▼
//!                                       turn_events ──▶ core, transcript, the job's listener
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::turn_events::{self, TurnEvents};
use super::{TaskContext, TaskError, turn_spec};
use crate::agent::{TurnControl, TurnSpec, driver};
use crate::core::model::activity::TurnPrompt;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::budget::MicroUsd;
use crate::core::model::input::RunFact;
use crate::error::chain;
use crate::executor::{self, Executor};
use crate::runtime::outages;

/// The core's decisions about a turn.
pub(super) struct TurnStart {
    pub prompt: TurnPrompt,
    /// The number of the turn in its run, from 1.
    pub turn: u32,
    /// The conversation to continue.
    pub resume: Option<String>,
    /// The most that the turn may cost; none is no limit.
    pub budget: Option<MicroUsd>,
}

/// Runs a turn to its end and returns that end. The events before it have reached the core by then.
pub(super) async fn run(
    task: &TaskContext,
    start: &TurnStart,
    mut controls: mpsc::Receiver<TurnControl>,
) -> Result<RunFact, TaskError> {
    reach_executor(task).await?;
    let (spec, equipment) = match turn_spec::of_run(task, start).await {
        Ok(prepared) => prepared,
        Err(error) if error.is_outage() => return Err(error),
        Err(error) => {
            let end = TurnEnd::NotStarted { why: error.to_string().into() };
            return Ok(RunFact::Agent(AgentEvent::TurnEnd(end)));
        }
    };
    let turn = start.turn;
    let mut prompt = AgentEvent::Prompt { text: spec.prompt.clone() };
    spec.redactor.event(&mut prompt);
    let (sender, events) = mpsc::channel::<AgentEvent>(turn_events::BATCH * 2);
    let mut turn_events = TurnEvents::new(task, turn, equipment, prompt);
    let work = async {
        let end = match remote(task, turn, &spec) {
            Ok(None) => driver::run(&task.runtime.supervisor, &spec, &sender, &mut controls).await,
            Ok(Some((executor, turn))) => executor.run_turn(&turn, &sender, &mut controls).await,
            Err(end) => end,
        };
        drop(sender);
        end
    };
    let (end, ()) = tokio::join!(work, turn_events.pass(events));
    turn_events.end(end.clone()).await;
    Ok(RunFact::Agent(AgentEvent::TurnEnd(end)))
}

/// The longest time in which an executor must answer before a turn.
const REACH: Duration = Duration::from_secs(30);

/// Holds the run while its executor can't be reached. Any other error of the executor is the turn's.
async fn reach_executor(task: &TaskContext) -> Result<(), TaskError> {
    let Some(name) = &task.executor else { return Ok(()) };
    let executor = task.runtime.services().executors.get(name).cloned();
    let Some(executor) = executor else { return Ok(()) };
    let why = match timeout(REACH, executor.check()).await {
        Ok(Err(error)) if executor::is_away(&*error) => chain(&*error),
        Ok(_) => return Ok(()),
        Err(_) => format!("no answer in {} s", REACH.as_secs()),
    };
    Err(TaskError::outage(outages::of_executor(name), why, 0))
}

/// An executor and the turn that it gets.
type RemoteTurn = (Arc<dyn Executor>, executor::ExecutorTurn);

/// The executor of the run, if its turns are carried out elsewhere.
fn remote(task: &TaskContext, turn: u32, spec: &TurnSpec) -> Result<Option<RemoteTurn>, TurnEnd> {
    let Some(name) = &task.executor else { return Ok(None) };
    let Some(executor) = task.runtime.services().executors.get(name).cloned() else {
        let why = format!("there is no [executors.{name}]").into();
        return Err(TurnEnd::NotStarted { why });
    };
    let run = task.runtime.remote_name(task.run.id);
    let agent = task.run.work.job().and_then(|job| job.agent.clone());
    let turn = executor::ExecutorTurn {
        name: format!("{run}-t{turn}"),
        run,
        spec: spec.clone(),
        agent: agent.unwrap_or_else(|| "afk".into()),
        root: task.runtime.remote_root(),
        limit: turn_spec::limit(task),
    };
    Ok(Some((executor, turn)))
}
