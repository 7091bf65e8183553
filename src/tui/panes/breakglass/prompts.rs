//! The questions that the pane asks before it acts.

use super::actions::CONSOLE_PASTE;
use crate::breakglass::ssh::KeyChange;
use crate::core::model::breakglass::{
    AgentLevel, BreakglassRequest, BreakglassRules, Confirmation, Verb,
};
use crate::core::model::command;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::clean_line;
use crate::tui::component::Scene;
use crate::tui::request::Request;
use crate::tui::response::{Prompt, Reaction, Response};
use crate::tui::widgets::text::age;

/// The most characters of a pasted line that the question shows.
const MAX_FIRST_LINE: usize = 100;
/// The age from which on a reading says too little about locks, HA and quorum, in milliseconds.
const FRESH: i64 = 5 * 60_000;

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

/// Asks the agent for a diagnosis, or asks what it may do before it starts, as its level is.
pub(super) fn agent(scene: &Scene<'_>) -> Response {
    let rules = scene.snapshot.fleet.policy.breakglass.as_ref().and_then(|r| r.agent.as_ref());
    let Some((rules, host)) = rules
        .filter(|rules| rules.level != AgentLevel::Read)
        .and_then(|rules| Some((rules, rules.host.as_ref()?)))
    else {
        return command(BreakglassRequest::Diagnose);
    };
    let reads = "It reads the output of hosts, which untrusted programs wrote.";
    if rules.level == AgentLevel::Ask {
        let asks = format!("Each command on {host} and each verb becomes a question in the inbox.");
        let submit = |task: String| {
            command(BreakglassRequest::StartAgent { task: task.trim().into(), mutations: 0 })
        };
        let title = format!("Start the agent {}", rules.agent);
        let prompt = Prompt::line(title, "Start", submit).about(asks).about(reads);
        return Response::prompt(prompt.about("Say what it should do, or nothing."));
    }
    let most = rules.mutations;
    let acts = format!(
        "It runs commands on {host} and sends verbs BY ITSELF until the arming ends. {reads}"
    );
    let asks =
        format!("Type how many mutating verbs it may begin (0 to {most}), then what it should do.");
    let submit = |text: String| {
        let (count, task) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        match count.parse() {
            Ok(mutations) => {
                command(BreakglassRequest::StartAgent { task: task.trim().into(), mutations })
            }
            Err(_) => Response::message("that is no number of mutating verbs: nothing was started"),
        }
    };
    let title = format!("Start the agent {}", rules.agent);
    Response::prompt(Prompt::line(title, "Start", submit).about(acts).about(asks))
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
    // A lock, HA or a lost quorum changes how the verb ends, and each reading looks for them.
    let old = state.reads.as_ref().is_none_or(|(at, _)| scene.now.since(*at) > FRESH);
    let unknown = "Locks, HA and quorum were not read just now: run status first to see them.";
    let warnings =
        state.warnings.iter().map(|warning| format!("WARNING: {}.", warning.clean_line()));
    let about = [format!("{}: {}.", verb.as_str(), verb.explains()), reads]
        .into_iter()
        .chain(warnings)
        .chain(old.then(|| unknown.to_owned()))
        .chain([asks])
        .collect();
    let submit = move |text: String| {
        let mut words = text.split_whitespace().map(str::to_owned);
        let name = words.next().unwrap_or_default();
        let confirm = Some(Confirmation { name, seen, again: words.next() });
        command(BreakglassRequest::Verb { verb, confirm })
    };
    Prompt { about, ..Prompt::line(format!("{} {vm}", verb.as_str()), "Confirm", submit) }
}

/// Asks before pasted lines go to a shell: a program may run each of them as it comes.
pub(super) fn paste(host: &str, text: &str) -> Response {
    // Many terminals send a carriage return between the lines of a paste.
    let lines = text.split(['\n', '\r']).filter(|line| !line.trim().is_empty());
    let first = lines.clone().next().map(clean_line).unwrap_or_default();
    let first: String = first.chars().take(MAX_FIRST_LINE).collect();
    let count = plural(lines.count(), "line");
    let means =
        format!("The shell may run each line at once, without another key. The first one: {first}");
    Response::confirm(
        format!("Paste {count} into the shell on {host}?"),
        means,
        Reaction::Act(CONSOLE_PASTE),
    )
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
