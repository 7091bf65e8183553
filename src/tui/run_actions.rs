//! Actions on one run: steer, retry, look again, cancel, interrupt, show its diff, open its shell.
//!
//! The run is the subject's, which `app` passes in. Every dialog repeats the subject with its title,
//! and an action that the run can't take now is neither offered nor begun.

use super::action::{
    Action, CANCEL, DIFF, HELP, INBOX, INTERRUPT, KILL_SWITCH, LOOK_AGAIN, OPEN, PALETTE, QUIT,
    RETRY, SHELL, STEER, ZOOM,
};
use super::component::Scene;
use super::request::Request;
use super::response::{Prompt, Response};
use super::subject::Subject;
use crate::core::model::activity::Activity;
use crate::core::model::capability;
use crate::core::model::command;
use crate::core::model::id::RunId;
use crate::core::model::run::{Outcome, Run};
use crate::runtime::Snapshot;

/// The actions on a run, in the order in which they are offered.
const ON_RUN: [Action; 5] = [STEER, RETRY, LOOK_AGAIN, CANCEL, INTERRUPT];

/// Carries out an action on the subject's run; none for actions that aren't about runs.
pub(crate) fn act(
    action: Action,
    subject: Option<&Subject>,
    scene: &Scene<'_>,
) -> Option<Response> {
    if !ON_RUN.contains(&action) && action != DIFF && action != SHELL {
        return None;
    }
    let fleet = &scene.snapshot.fleet;
    let Some(subject) = subject else {
        return Some(Response::refusal(format!("{}: no run is selected", action.label())));
    };
    let Some(run) = subject.run(fleet) else {
        return Some(Response::refusal(format!("{} has no run yet", subject.name(fleet))));
    };
    if let Some(why) = refusal(action, run) {
        return Some(Response::refusal(format!("{}: {why}", subject.name(fleet))));
    }
    let (id, long) = (run.id, subject.long(fleet));
    Some(match action {
        STEER if run.live() => steer(run, &long),
        STEER => reopen(format!("Continue {long} in the same conversation"), run, &long),
        RETRY => reopen(format!("Retry {long}"), run, &long),
        LOOK_AGAIN => look_again(id),
        CANCEL => Response::confirm(
            format!("Cancel {long}?"),
            "This stops its agent and keeps unpushed changes as a commit.",
            Request::Command(command::Command::Cancel { run: id }),
        ),
        INTERRUPT => Response::confirm(
            format!("Interrupt {long}?"),
            "This ends its agent's turn; its conversation and worktree stay, and it waits for your \
             message.",
            Request::Command(command::Command::Interrupt { run: id }),
        ),
        SHELL => {
            let Some(path) = fleet.own_worktree(run) else {
                let name = subject.name(fleet);
                let why = format!("{name}: its run has no worktree of its own now");
                return Some(Response::refusal(why));
            };
            Response::request(Request::Shell(path.into()))
        }
        _ => Response::request(Request::Diff(id)),
    })
}

/// Why a run can't take an action now; none where it can.
fn refusal(action: Action, run: &Run) -> Option<&'static str> {
    let in_turn = matches!(run.progress.activity, Activity::Turn { .. });
    let agent = run.agent.equipment.as_ref();
    match action {
        STEER if run.live() && !in_turn => {
            Some("no turn is under way, and its agent takes messages only during one")
        }
        STEER if run.live() => {
            let takes_none =
                agent.is_some_and(|agent| agent.can.steer == capability::Steer::Unsupported);
            takes_none.then_some("its agent takes no messages")
        }
        RETRY if run.live() => Some("its run has not ended; steer or cancel it"),
        LOOK_AGAIN if run.progress.outcome != Some(Outcome::Frozen) => {
            Some("only a frozen run can be looked at again")
        }
        CANCEL if !run.live() => Some("its run has ended already"),
        INTERRUPT if !in_turn || !run.live() => Some("no turn is under way"),
        INTERRUPT if agent.is_some_and(|agent| !agent.can.interrupt) => {
            Some("its agent can't be interrupted; cancel the run instead")
        }
        _ => None,
    }
}

/// The actions that a list of issues or runs offers on its subject: only those that it can take.
pub(crate) fn offered(subject: Option<&Subject>, snapshot: &Snapshot) -> Vec<Action> {
    let mut actions = vec![HELP];
    if subject.is_some() {
        actions.push(OPEN);
    }
    actions.extend(offered_on(subject, snapshot));
    if subject.is_some_and(|subject| subject.run(&snapshot.fleet).is_some()) {
        actions.push(DIFF);
    }
    actions.extend([INBOX, KILL_SWITCH, ZOOM, PALETTE, QUIT]);
    actions
}

/// The actions on runs that the subject can take. To continue a run that is done would reopen it, so
/// that isn't suggested.
pub(crate) fn offered_on(subject: Option<&Subject>, snapshot: &Snapshot) -> Vec<Action> {
    let Some(run) = subject.and_then(|subject| subject.run(&snapshot.fleet)) else {
        return Vec::new();
    };
    let wanted = |action: &Action| match *action {
        STEER => run.live(),
        RETRY => run.progress.outcome != Some(Outcome::Done),
        _ => true,
    };
    ON_RUN.into_iter().filter(|action| wanted(action) && refusal(*action, run).is_none()).collect()
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

/// Asks for guidance and reopens a run with it; a run that is done is confirmed first.
fn reopen(title: String, run: &Run, long: &str) -> Response {
    let id = run.id;
    let prompt = Prompt::text(title, move |text| {
        let guidance = text.into();
        Response::request(Request::Command(command::Command::Retry { run: id, guidance }))
    });
    let prompt = Response::prompt(prompt.about("Guidance for its agent (optional)"));
    if run.progress.outcome != Some(Outcome::Done) {
        return prompt;
    }
    let means = "It is done. This reopens it: its agent begins a new turn, and its issue is worked on \
                 again, also where it is closed.";
    Response::confirm(format!("Reopen {long}?"), means, prompt)
}

/// The command that hands an agent a message: into its turn, or as the guidance of the next one where its
/// run has ended; with the effect in words.
///
/// # Errors
/// Why the agent can't take a message now.
pub(crate) fn guide(
    run: &Run,
    text: String,
) -> Result<(command::Command, &'static str), &'static str> {
    let (id, text) = (run.id, text.into());
    if !run.live() {
        let means =
            "Its run has ended. This reopens it: its agent begins a new turn with the comments.";
        return Ok((command::Command::Retry { run: id, guidance: text }, means));
    }
    if let Some(why) = refusal(STEER, run) {
        return Err(why);
    }
    Ok((command::Command::Steer { run: id, text }, "Its agent takes them as one message."))
}

/// Asks for a message to a live run's agent.
fn steer(run: &Run, long: &str) -> Response {
    let id = run.id;
    let taken = match run.agent.equipment.as_ref().map(|agent| agent.can.steer) {
        Some(capability::Steer::AfterTurn) => "once this turn is over",
        _ => "at the next step",
    };
    let prompt = Prompt::text(format!("Steer {long}"), move |text| {
        let text = text.into();
        Response::request(Request::Command(command::Command::Steer { run: id, text }))
    });
    Response::prompt(prompt.about(format!("Its agent takes the message {taken}.")))
}
