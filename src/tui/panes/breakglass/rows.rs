//! The rows of the pane: verbs, hosts, verbs that ran, recordings of shells.

use ratatui::text::Span;

use super::agent;
use super::terminal::{Behind, Terminal};
use crate::core::fleet::breakglass::BreakglassState;
use crate::core::model::breakglass::{ShellId, Verb, VerbId, VerbResult, VerbRun};
use crate::core::model::plural::plural;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::runtime::Snapshot;
use crate::tui::component::Scene;
use crate::tui::theme::Tone;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, fit};

/// A row that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Verb(Verb),
    /// A shell on a host.
    Host(String),
    /// The breakglass agent's session, or the last one.
    Agent,
    /// A verb that ran, or runs.
    Run(VerbId),
    Recording(ShellId),
}

/// The rows from top to bottom.
pub(super) fn rows(snapshot: &Snapshot) -> Vec<Item> {
    let Some(rules) = &snapshot.fleet.policy.breakglass else { return Vec::new() };
    let state = snapshot.breakglass();
    let verbs = Verb::ALL.map(Item::Verb).into_iter();
    let hosts = rules.hosts.iter().cloned().map(Item::Host);
    let agent = (state.agent.is_some() || state.past_agent.is_some()).then_some(Item::Agent);
    let runs = state.under_way.keys().rev().copied().map(Item::Run);
    let past = state.past.iter().rev().map(|run| Item::Run(run.id));
    let recordings = state.recordings.iter().rev().map(|kept| Item::Recording(kept.shell));
    verbs.chain(hosts).chain(agent).chain(runs).chain(past).chain(recordings).collect()
}

/// The run of a verb by its number, past or under way.
pub(super) fn run(state: &BreakglassState, id: VerbId) -> Option<&VerbRun> {
    state.under_way.get(&id).or_else(|| state.past.iter().find(|run| run.id == id))
}

/// The heading of the group that a row belongs to.
pub(super) const fn heading(item: &Item) -> &'static str {
    match item {
        Item::Verb(verb) if verb.mutates() => "MUTATING: type the VM's name to confirm",
        Item::Verb(_) => "READING: these verbs change nothing",
        Item::Host(_) => "SHELL",
        Item::Agent => "AGENT",
        Item::Run(_) => "HISTORY",
        Item::Recording(_) => "RECORDINGS",
    }
}

/// The pieces of a row in `width` columns.
pub(super) fn spans(
    item: &Item,
    terminals: &[Terminal],
    scene: &Scene<'_>,
    width: usize,
) -> Vec<Span<'static>> {
    let (theme, state, now) = (scene.theme, scene.snapshot.breakglass(), scene.now);
    let (head, text, role) = match item {
        Item::Verb(verb) => {
            let role = if *verb == Verb::Cycle { Tone::Warn } else { Tone::Text };
            // The lines below the rows give the whole explanation of the chosen verb.
            let effect = verb.explains().split(';').next().unwrap_or_default();
            (format!("{:<10} ", verb.as_str()), effect.to_owned(), role)
        }
        Item::Host(host) => {
            (format!("{host:<10} "), shell_line(terminals, state, host), Tone::Text)
        }
        Item::Agent => {
            let (text, role) = agent::summary(state, now);
            (format!("{:<10} ", agent::name(state)), text, role)
        }
        Item::Run(id) => match run(state, *id) {
            Some(run) => {
                let (text, role) = run_line(scene.snapshot, run, now);
                (format!("{:<10} ", run.verb.as_str()), text, role)
            }
            None => (String::new(), String::new(), Tone::Dim),
        },
        Item::Recording(shell) => {
            let kept = state.recordings.iter().find(|kept| kept.shell == *shell);
            let text = kept.map_or_else(String::new, |kept| {
                format!("{} s by {}, {} ago", kept.ms / 1000, kept.by, age(now, kept.at))
            });
            let host = kept.map(|kept| kept.host.clone()).unwrap_or_default();
            (format!("{host:<10} "), text, Tone::Dim)
        }
    };
    let room = width.saturating_sub(2 + head.chars().count());
    let text = fit(&clean_line(&text), room, theme.marks.cut);
    let head_role = if scene.focused { Tone::Accent } else { Tone::Text };
    vec![piece(format!(" {head}"), theme, head_role), piece(text, theme, role)]
}

fn shell_line(terminals: &[Terminal], state: &BreakglassState, host: &str) -> String {
    let here = terminals.iter().find(|terminal| terminal.name == host);
    match here.map(|terminal| &terminal.behind) {
        Some(Behind::Shell { ended: Some(end), .. }) => {
            format!("ended: {}; Enter opens another", end.why.clean_line())
        }
        Some(_) => "open here; Enter goes back to it".into(),
        None => match state.shells.values().find(|shell| shell.host == host) {
            Some(shell) => format!("{} has one open", shell.by),
            None => "a shell, recorded".into(),
        },
    }
}

fn run_line(snapshot: &Snapshot, run: &VerbRun, now: Timestamp) -> (String, Tone) {
    match &run.end {
        None => {
            let link = snapshot.verb_output.get(&run.id).map(|seen| seen.link.clean_line());
            let link = link.unwrap_or_else(|| "running".into());
            (format!("{} by {}: {link}", run.id, run.by), Tone::Busy)
        }
        Some((at, end)) => {
            let role = match &end.result {
                result if result.good() => Tone::Good,
                VerbResult::Unknown { .. } => Tone::Warn,
                _ => Tone::Bad,
            };
            let seconds = at.since(run.began) / 1000;
            let (id, by, ago) = (run.id, &run.by, age(now, *at));
            (format!("{id} by {by}: {} in {seconds} s, {ago} ago", end.summary()), role)
        }
    }
}

/// The output of a verb so far, and its end.
pub(super) fn output(snapshot: &Snapshot, id: VerbId, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(seen) = snapshot.verb_output.get(&id) {
        if seen.first > 0 {
            lines.push(format!("({} before are in the capture)", plural(seen.first, "line")));
        }
        lines.extend(seen.lines.iter().map(|said| {
            let mark = if said.err { "stderr: " } else { "" };
            format!("{mark}{}", said.text.clean_line())
        }));
    }
    if let Some(run) = run(snapshot.breakglass(), id) {
        lines.push(String::new());
        lines.push(format!("{} {}", run.verb.as_str(), run_line(snapshot, run, now).0));
    }
    lines
}
