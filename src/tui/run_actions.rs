//! Actions on one run: steer, retry, look again, cancel, interrupt, show its diff, open its shell.
//!
//! The run is the one that the focused pane is about; `app` passes it in.

use super::action::{Action, CANCEL, DIFF, INTERRUPT, LOOK_AGAIN, ON_RUNS, RETRY, SHELL, STEER};
use super::component::Scene;
use super::request::Request;
use super::response::{Prompt, Response};
use crate::core::model::capability;
use crate::core::model::command;
use crate::core::model::id::RunId;
use crate::core::model::run::Outcome;
use crate::runtime::Snapshot;

/// Carries out an action on a run; none for actions that aren't about runs.
pub(crate) fn act(action: Action, subject: Option<RunId>, scene: &Scene<'_>) -> Option<Response> {
    if action == SHELL {
        let run = subject.and_then(|id| scene.snapshot.fleet.runs.get(&id));
        let path = run.and_then(|run| run.workspace.worktree.clone());
        return Some(path.map_or_else(
            || Response::message("the selected run has no worktree"),
            |path| Response::request(Request::Shell(path.into())),
        ));
    }
    let act = match action {
        STEER => steer,
        RETRY => |run, _: &Scene<'_>| {
            let title = format!("Retry {run}: guidance for the agent (optional)");
            retry(title, run)
        },
        LOOK_AGAIN => |run, _: &Scene<'_>| look_again(run),
        CANCEL => |run, _: &Scene<'_>| {
            let means = "This stops its agent and keeps unpushed changes as a commit.";
            Response::confirm(
                format!("Cancel {run}?"),
                means,
                Request::Command(command::Command::Cancel { run }),
            )
        },
        INTERRUPT => |run, _: &Scene<'_>| {
            let means = "This ends its agent's turn; its conversation and worktree stay, and it \
                         waits for your message.";
            Response::confirm(
                format!("Interrupt {run}?"),
                means,
                Request::Command(command::Command::Interrupt { run }),
            )
        },
        DIFF => |run, _: &Scene<'_>| Response::request(Request::Diff(run)),
        _ => return None,
    };
    Some(subject.map_or_else(|| Response::message("no run is selected"), |run| act(run, scene)))
}

/// The actions that a list of runs offers. A frozen run can also be looked at again.
pub(crate) fn offered(subject: Option<RunId>, snapshot: &Snapshot) -> Vec<Action> {
    let mut actions = ON_RUNS.to_vec();
    if subject.is_some_and(|run| is_frozen(run, snapshot)) {
        let after = actions.iter().position(|known| *known == RETRY).map_or(0, |at| at + 1);
        actions.insert(after, LOOK_AGAIN);
    }
    actions
}

/// Whether a run ended frozen, so that its verdicts can be read again.
pub(crate) fn is_frozen(run: RunId, snapshot: &Snapshot) -> bool {
    let known = snapshot.fleet.runs.get(&run);
    known.is_some_and(|run| run.progress.outcome == Some(Outcome::Frozen))
}

/// Asks nothing: to look changes nothing.
pub(crate) fn look_again(run: RunId) -> Response {
    Response::request(Request::Command(command::Command::LookAgain { run }))
}

fn retry(title: String, run: RunId) -> Response {
    Response::prompt(Prompt::text(title, move |text| {
        let guidance = text.into();
        Response::request(Request::Command(command::Command::Retry { run, guidance }))
    }))
}

/// Asks for a message to a run's agent; the title says when the agent takes it. An ended run continues
/// with it, and an agent that takes no messages isn't sent one.
fn steer(run: RunId, scene: &Scene<'_>) -> Response {
    let Some(known) = scene.snapshot.fleet.runs.get(&run) else { return Response::none() };
    if !known.live() {
        return retry(format!("Continue {run} in the same conversation"), run);
    }
    let taken = match known.agent.equipment.as_ref().map(|agent| agent.can.steer) {
        Some(capability::Steer::Unsupported) => {
            return Response::message(format!("the agent of {run} takes no messages"));
        }
        Some(capability::Steer::AfterTurn) => "once this turn is over",
        Some(capability::Steer::MidTurn) | None => "at the next step",
    };
    Response::prompt(Prompt::text(format!("Steer {run}: taken {taken}"), move |text| {
        let text = text.into();
        Response::request(Request::Command(command::Command::Steer { run, text }))
    }))
}
