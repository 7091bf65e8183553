//! Breakglass: how the VM stands, who may act, the verbs with what each does, shells, and what was
//! kept.

pub mod keys;
pub mod terminal;

use ratatui::text::Line;

use self::terminal::Terminal;
use super::super::act::Act;
use super::super::keymap::Context;
use super::super::theme::{Role, Theme};
use super::super::view::View;
use super::super::widgets::list::{Cursor, first_row};
use super::super::widgets::text::{age, fit, wrap};
use super::{piece, row};
use crate::core::fleet::breakglass::BreakglassState;
use crate::core::model::breakglass::{BreakglassRules, ShellId, Verb, VerbId, VerbResult, VerbRun};
use crate::core::model::time::Timestamp;
use crate::runtime::Snapshot;

/// Lines below the rows that say what the chosen one does.
const ABOUT: usize = 4;

/// A row that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A verb.
    Verb(Verb),
    /// A shell on a host.
    Host(String),
    /// A verb that was used.
    Run(VerbId),
    /// A shell that was kept.
    Recording(ShellId),
}

/// The pane's own state.
#[derive(Debug, Default)]
pub struct State {
    /// Which row.
    pub cursor: Cursor<Item>,
    /// Terminals that are open.
    pub terminals: Vec<Terminal>,
    /// The one that is shown in the place of the rows.
    pub shown: Option<usize>,
    /// The verb whose output is being read.
    pub reading: Option<VerbId>,
}

impl State {
    /// The terminal that is shown.
    #[must_use]
    pub fn front(&self) -> Option<&Terminal> {
        self.shown.and_then(|at| self.terminals.get(at))
    }

    /// The same, to be changed.
    pub fn front_mut(&mut self) -> Option<&mut Terminal> {
        self.shown.and_then(|at| self.terminals.get_mut(at))
    }

    /// Shows a terminal; one of the same host that is over makes room for it.
    pub fn show(&mut self, terminal: Terminal) {
        let over = |old: &Terminal| {
            old.name == terminal.name
                && matches!(old.behind, terminal::Behind::Shell { ended: Some(_), .. })
        };
        self.terminals.retain(|old| !over(old));
        self.terminals.push(terminal);
        self.shown = Some(self.terminals.len() - 1);
    }

    /// Takes the terminal that is shown away.
    pub fn close(&mut self) {
        if let Some(at) = self.shown.take()
            && at < self.terminals.len()
        {
            self.terminals.remove(at);
        }
    }
}

/// The rows, from above.
#[must_use]
pub fn rows(snapshot: &Snapshot) -> Vec<Item> {
    let Some(rules) = &snapshot.fleet.policy.breakglass else { return Vec::new() };
    let state = snapshot.breakglass();
    let verbs = Verb::ALL.map(Item::Verb).into_iter();
    let hosts = rules.hosts.iter().cloned().map(Item::Host);
    let runs = state.under_way.keys().rev().copied().map(Item::Run);
    let past = state.past.iter().rev().map(|run| Item::Run(run.id));
    let recordings = state.recordings.iter().rev().map(|kept| Item::Recording(kept.shell));
    verbs.chain(hosts).chain(runs).chain(past).chain(recordings).collect()
}

/// A verb's use by its number.
#[must_use]
pub fn run(state: &BreakglassState, id: VerbId) -> Option<&VerbRun> {
    state.under_way.get(&id).or_else(|| state.past.iter().find(|run| run.id == id))
}

/// The lines of the pane.
#[must_use]
pub fn lines(
    snapshot: &Snapshot,
    view: &View,
    focused: bool,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let theme = &view.theme;
    let Some(rules) = &snapshot.fleet.policy.breakglass else {
        let line = |text: &str, role| Line::from(piece(format!(" {text}"), theme, role));
        return vec![
            line("not configured: this afk has no VM and no hypervisor to reach", Role::Text),
            line("nothing here can start, stop or reset a machine", Role::Dim),
        ];
    };
    let mut head = standing(snapshot, view, rules, width);
    let items = rows(snapshot);
    let chosen = view.breakglass.cursor.place(&items);
    let roomy = height >= 16;
    let about = if roomy { about(snapshot, view, items.get(chosen), width) } else { Vec::new() };
    head.truncate(height.saturating_sub(2));
    let mut drawn = Vec::new();
    let mut chosen_at = 0;
    let mut group = None;
    for (at, item) in items.iter().enumerate() {
        let title = heading(item);
        if roomy && group != Some(title) {
            group = Some(title);
            drawn.push(Line::from(piece(format!(" {title}"), theme, Role::Title)));
        }
        if at == chosen {
            chosen_at = drawn.len();
        }
        drawn.push(item_row(snapshot, view, item, at == chosen, focused, width));
    }
    let room = height.saturating_sub(head.len() + about.len());
    let first = first_row(chosen_at, drawn.len(), room);
    head.extend(drawn.into_iter().skip(first).take(room));
    while head.len() + about.len() < height {
        head.push(Line::default());
    }
    head.extend(about);
    head
}

const fn heading(item: &Item) -> &'static str {
    match item {
        Item::Verb(verb) if verb.mutates() => "DANGER: each asks for the VM's name",
        Item::Verb(_) => "READ: changes nothing",
        Item::Host(_) => "SHELL",
        Item::Run(_) => "WHAT WAS DONE",
        Item::Recording(_) => "RECORDINGS",
    }
}

/// How the VM stands, who is armed, and when the way to it was proved.
fn standing(
    snapshot: &Snapshot,
    view: &View,
    rules: &BreakglassRules,
    width: usize,
) -> Vec<Line<'static>> {
    let (theme, state, now) = (&view.theme, snapshot.breakglass(), view.now);
    let cut = theme.marks.cut;
    let line =
        |text: String, role| Line::from(piece(fit(&format!(" {text}"), width, cut), theme, role));
    let reads = match &state.reads {
        Some((at, word)) => format!(
            "{} reads {}, {} ago; \"running\" never proves health",
            rules.vm,
            word.clean_line(),
            age(now, *at)
        ),
        None => format!("{}: its state was not asked for yet", rules.vm),
    };
    let mut lines = vec![line(reads, Role::Text)];
    lines.push(if let Some(arming) = &state.armed {
        let left = arming.until.since(now) / 60_000 + 1;
        let (by, why) = (&arming.by, arming.reason.clean_line());
        line(format!("ARMED by {by} for {left} more min: {why}"), Role::Alarm)
    } else {
        let key = view.keymap.key_of(Context::Breakglass, Act::Arm).unwrap_or_default();
        line(format!("off: {key} arms it, with a reason"), Role::Dim)
    });
    let drill = match (state.drill_red(now, rules), state.drill.good) {
        (Some(_), Some(good)) => {
            (format!("DRILL OVERDUE: the last good one was {} ago", age(now, good)), Role::Bad)
        }
        (Some(_), None) => ("DRILL OVERDUE: none was ever good".into(), Role::Bad),
        (None, Some(good)) => (format!("drill good {} ago", age(now, good)), Role::Good),
        (None, None) if rules.drill_ms.is_none() => ("no drill is configured".into(), Role::Dim),
        (None, None) => ("no drill was good yet".into(), Role::Dim),
    };
    lines.push(line(format!("{} · No AI in the path", drill.0), drill.1));
    if let Some(unsaved) =
        snapshot.breakglass_ahead.as_ref().map(|_| "AUDIT DEGRADED: kept in memory and at the host")
    {
        lines.push(line(unsaved.into(), Role::Alarm));
    }
    lines
}

fn item_row(
    snapshot: &Snapshot,
    view: &View,
    item: &Item,
    chosen: bool,
    focused: bool,
    width: usize,
) -> Line<'static> {
    let (theme, state, now) = (&view.theme, snapshot.breakglass(), view.now);
    let (head, text, role) = match item {
        Item::Verb(verb) => {
            let role = if *verb == Verb::Cycle { Role::Warn } else { Role::Text };
            (format!("{:<10} ", verb.as_str()), verb.explains().to_owned(), role)
        }
        Item::Host(host) => (format!("{host:<10} "), shell_line(view, state, host), Role::Text),
        Item::Run(id) => match run(state, *id) {
            Some(run) => {
                let (text, role) = run_line(snapshot, run, now);
                (format!("{:<10} ", run.verb.as_str()), text, role)
            }
            None => (String::new(), String::new(), Role::Dim),
        },
        Item::Recording(shell) => {
            let kept = state.recordings.iter().find(|kept| kept.shell == *shell);
            let text = kept.map_or_else(String::new, |kept| {
                format!("{} s by {}, {} ago", kept.ms / 1000, kept.by, age(now, kept.at))
            });
            let host = kept.map(|kept| kept.host.clone()).unwrap_or_default();
            (format!("{host:<10} "), text, Role::Dim)
        }
    };
    let room = width.saturating_sub(2 + head.chars().count());
    let text = fit(&crate::core::model::untrusted::clean_line(&text), room, theme.marks.cut);
    let head = piece(format!(" {head}"), theme, if focused { Role::Accent } else { Role::Text });
    row(chosen, focused, theme, vec![head, piece(text, theme, role)])
}

fn shell_line(view: &View, state: &BreakglassState, host: &str) -> String {
    let here = view.breakglass.terminals.iter().find(|terminal| terminal.name == host);
    match here.map(|terminal| &terminal.behind) {
        Some(terminal::Behind::Shell { ended: Some(end), .. }) => {
            format!("ended: {}; Enter opens another", end.why.clean_line())
        }
        Some(_) => "open here; Enter goes back to it".into(),
        None => match state.shells.values().find(|shell| shell.host == host) {
            Some(shell) => format!("{} has one open", shell.by),
            None => "a shell, recorded".into(),
        },
    }
}

fn run_line(snapshot: &Snapshot, run: &VerbRun, now: Timestamp) -> (String, Role) {
    match &run.end {
        None => {
            let link = snapshot.verb_output.get(&run.id).map(|seen| seen.link.clean_line());
            let link = link.unwrap_or_else(|| "under way".into());
            (format!("{} by {}: {link}", run.id, run.by), Role::Busy)
        }
        Some((at, end)) => {
            let role = match &end.result {
                result if result.good() => Role::Good,
                VerbResult::Unknown { .. } => Role::Warn,
                _ => Role::Bad,
            };
            let seconds = at.since(run.began) / 1000;
            let (id, by, ago) = (run.id, &run.by, age(now, *at));
            (format!("{id} by {by}: {} in {seconds} s, {ago} ago", end.result.summary()), role)
        }
    }
}

/// What the chosen row does, in full.
fn about(
    snapshot: &Snapshot,
    view: &View,
    item: Option<&Item>,
    width: usize,
) -> Vec<Line<'static>> {
    let text = match item {
        Some(Item::Verb(verb)) => format!("{}: {}", verb.as_str(), verb.explains()),
        Some(Item::Host(host)) => {
            let leave = view.keymap.key_of(Context::Console, Act::ConsoleLeave).unwrap_or_default();
            format!(
                "a shell on {host}; its output is kept, what you type is not. {leave} always comes back here"
            )
        }
        Some(Item::Run(_)) => {
            let key = view.keymap.key_of(Context::Breakglass, Act::CaptureDiff).unwrap_or_default();
            format!("Enter reads what it wrote; {key} what differs from the forensics before")
        }
        Some(Item::Recording(_)) => "Enter plays it".into(),
        None => String::new(),
    };
    let theme: &Theme = &view.theme;
    let mut parts = wrap(&text, width.saturating_sub(2));
    if parts.len() >= ABOUT {
        parts.truncate(ABOUT - 1);
        if let Some(last) = parts.last_mut() {
            *last = last.trim_end().to_owned() + theme.marks.cut;
        }
    }
    let mut lines: Vec<Line<'static>> = parts
        .into_iter()
        .map(|part| Line::from(piece(format!(" {part}"), theme, Role::Dim)))
        .collect();
    let cold = view.cold.as_deref().filter(|_| snapshot.fleet.policy.breakglass.is_some());
    if let Some(cold) = cold {
        let text = fit(&format!(" cold path: {cold}"), width, theme.marks.cut);
        lines.push(Line::from(piece(text, theme, Role::Dim)));
    }
    lines
}

/// What a verb wrote so far, for the pager.
#[must_use]
pub fn reading(snapshot: &Snapshot, view: &View) -> Vec<String> {
    let Some(id) = view.breakglass.reading else { return Vec::new() };
    let mut lines = Vec::new();
    if let Some(seen) = snapshot.verb_output.get(&id) {
        if seen.first > 0 {
            lines.push(format!("({} lines before are in the capture)", seen.first));
        }
        lines.extend(seen.lines.iter().map(|said| {
            let mark = if said.err { "stderr: " } else { "" };
            format!("{mark}{}", said.text.clean_line())
        }));
    }
    if let Some(run) = run(snapshot.breakglass(), id) {
        lines.push(String::new());
        lines.push(format!("{} {}", run.verb.as_str(), run_line(snapshot, run, view.now).0));
    }
    lines
}
