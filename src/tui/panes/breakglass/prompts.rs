//! The questions that the pane asks before it acts.

use crate::breakglass::ssh::KeyChange;
use crate::core::model::breakglass::{BreakglassRequest, BreakglassRules, Confirmation, Verb};
use crate::core::model::command;
use crate::core::model::plural::plural;
use crate::tui::component::Scene;
use crate::tui::request::Request;
use crate::tui::response::{Prompt, Response};
use crate::tui::widgets::text::age;

/// The request that a breakglass command is.
pub(super) fn command(request: BreakglassRequest) -> Response {
    Response::request(Request::Command(command::Command::Breakglass { request }))
}

/// Asks for the reason of an arming; the prompt names the operator whose arming it takes over.
pub(super) fn arm(scene: &Scene<'_>) -> Prompt {
    let armed = scene.snapshot.breakglass().armed.as_ref();
    let other = armed.filter(|arming| arming.by != *scene.actor);
    let rules = scene.snapshot.fleet.policy.breakglass.as_ref();
    let minutes = rules.map_or(0, |rules| rules.arm_ms / 60_000);
    let takes_over = other.map(|arming| {
        format!("{} has armed it: arming takes it over and ends their shells.", arming.by)
    });
    let allows =
        format!("You may act for {minutes} min. Every use is reported and recorded. Say why.");
    let take_over = other.is_some();
    let submit =
        move |reason: String| command(BreakglassRequest::Arm { reason: reason.into(), take_over });
    let prompt = Prompt::line("Arm breakglass".into(), "Arm", submit);
    Prompt { about: takes_over.into_iter().chain([allows]).collect(), ..prompt }
}

/// Asks for the VM's name before a verb that changes it; the answer holds for the state shown.
pub(super) fn confirm(verb: Verb, rules: &BreakglassRules, scene: &Scene<'_>) -> Prompt {
    let state = scene.snapshot.breakglass();
    let (vm, seen) = (&rules.vm, state.seen(verb, &rules.vm));
    let count = state.recent(scene.now);
    let reads = match &state.reads {
        None => format!("The state of {vm} was not read."),
        Some((at, word)) => {
            format!("Last state: {} ({} ago).", word.clean_line(), age(scene.now, *at))
        }
    };
    let asks = if count >= rules.mutations {
        let count = plural(count, "mutating verb");
        format!("{count} in ten minutes: type {vm} {vm} to go ahead anyway.")
    } else {
        format!("Type {vm} to go ahead. This can't be undone.")
    };
    let about = vec![format!("{}: {}.", verb.as_str(), verb.explains()), reads, asks];
    let submit = move |text: String| {
        let mut words = text.split_whitespace().map(str::to_owned);
        let name = words.next().unwrap_or_default();
        let confirm = Some(Confirmation { name, seen, again: words.next() });
        command(BreakglassRequest::Verb { verb, confirm })
    };
    Prompt { about, ..Prompt::line(format!("{} {vm}", verb.as_str()), "Confirm", submit) }
}

/// Asks for the host's name before its new key is trusted.
pub(super) fn trust(change: KeyChange) -> Prompt {
    // On a line of its own, so that it is whole at 80 columns.
    let print = |text: &str| format!(" {}", text.rsplit(' ').next().unwrap_or(text));
    let about = vec![
        format!("The key of {} is not the pinned one. Nothing was sent to it.", change.host),
        "pinned:".into(),
        print(change.old.as_deref().unwrap_or("none")),
        "offered:".into(),
        print(&change.new),
        "A rebuilt VM has a new key; so has an attacker in between.".into(),
        format!("Compare it on the console, and type {} to trust the new one.", change.host),
    ];
    let title = format!("{} has another key", change.host);
    let submit = move |text: String| {
        if text.trim() != change.host {
            return Response::message("that is not its name: nothing was done");
        }
        let KeyChange { host, key, old, new } = change;
        command(BreakglassRequest::Trust { host, key, old, new })
    };
    Prompt { about, ..Prompt::line(title, "Confirm", submit) }
}
