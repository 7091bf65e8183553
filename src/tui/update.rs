//! From keys to changes of the view and requests. Nothing waits in here.

use std::path::PathBuf;

use crossterm::event::{Event, KeyEvent, KeyEventKind};

use super::act::Act;
use super::draw::places;
use super::keymap::{Context, Match};
use super::mouse;
use super::overlays::inbox;
use super::panes::{Pane, breakglass, deploy, queue, worktrees};
use super::theme::{SHIPPED, Theme};
use super::typing;
use super::view::{Inbox, Input, Overlay, Pager, Palette, Purpose, View};
use crate::core::model::approval::{Answer, EscalationKind};
use crate::core::model::capability::Steer;
use crate::core::model::command::{Command, Role as CommandRole};
use crate::core::model::digest::Digest;
use crate::core::model::id::RunId;
use crate::core::model::permission::Grant;
use crate::runtime::Snapshot;
use crate::runtime::client::Attached;
use crate::term::key::Key;

/// What the session is asked to do.
#[derive(Debug, Clone)]
pub enum Request {
    /// Send a command.
    Act(Command),
    /// Leave the cockpit.
    Quit,
    /// A shell in a folder.
    Shell(PathBuf),
    /// Fetch a run's diff and show it.
    Diff(RunId),
    /// A shell on a host.
    OpenShell(String),
    /// Show what a verb wrote.
    Capture(Digest),
    /// Show what differs between two captures.
    CaptureDiff(Digest, Digest),
    /// Play a recording.
    Replay(String),
    /// Put text into the terminal's clipboard.
    Copy(String),
    /// Take or leave the mouse.
    Mouse(bool),
    /// Draw everything anew.
    Redraw,
}

/// Takes what the terminal sent.
pub fn event(view: &mut View, snapshot: &Snapshot, event: &Event) -> Vec<Request> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => self::key(view, snapshot, *key),
        Event::Mouse(event) => mouse::event(view, snapshot, *event),
        Event::Paste(text) => {
            if view.context() == Context::Console {
                breakglass::keys::pasted(view, text);
                return Vec::new();
            }
            match view.overlays.last_mut() {
                Some(Overlay::Input(input)) => {
                    input.area.insert_str(crate::core::model::untrusted::clean(text));
                }
                Some(Overlay::Palette(palette)) => {
                    palette.text.push_str(&crate::core::model::untrusted::clean_line(text));
                }
                _ => {}
            }
            Vec::new()
        }
        Event::Resize(width, height) => {
            (view.width, view.height) = (*width, *height);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn key(view: &mut View, snapshot: &Snapshot, event: KeyEvent) -> Vec<Request> {
    view.message = None;
    let key = Key::from(event);
    match view.overlays.last_mut() {
        Some(Overlay::Input(_)) => return typing::text(view, event),
        Some(Overlay::Palette(_)) => return typing::palette(view, snapshot, event, key),
        Some(Overlay::Confirm { .. }) => {
            let Some(Overlay::Confirm { yes, .. }) = view.overlays.pop() else { return Vec::new() };
            if key.typed() == Some('y') {
                return vec![*yes];
            }
            view.message = Some("left as it is".into());
            return Vec::new();
        }
        _ => {}
    }
    if view.context() == Context::Console {
        match view.keymap.find(Context::Console, &[key]) {
            Match::Act(act) => return self::act(view, snapshot, act),
            _ => breakglass::keys::typed(view, &event),
        }
        return Vec::new();
    }
    view.pending.push(key);
    match view.keymap.find(view.context(), &view.pending) {
        Match::Act(act) => {
            view.pending.clear();
            self::act(view, snapshot, act)
        }
        Match::Pending => Vec::new(),
        Match::None => {
            view.pending.clear();
            Vec::new()
        }
    }
}

/// The run that an action is about: the selected one of the focused pane, or the one whose
/// transcript is shown.
fn subject(view: &View, snapshot: &Snapshot) -> Option<RunId> {
    match view.focus {
        Pane::Queue => {
            let rows = queue::rows(snapshot, &view.theme);
            let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
            rows.get(view.queue.place(&ids)).and_then(|row| row.run)
        }
        Pane::Worktrees => {
            let rows = worktrees::rows(snapshot);
            rows.get(view.worktrees.place(&rows)).copied()
        }
        _ => view.run(snapshot),
    }
}

/// Carries an action out.
#[allow(clippy::too_many_lines)] // One arm an action; each is short.
pub fn act(view: &mut View, snapshot: &Snapshot, act: Act) -> Vec<Request> {
    match act {
        Act::PaneQueue => focus(view, Pane::Queue),
        Act::PaneWorktrees => focus(view, Pane::Worktrees),
        Act::PaneTranscript => focus(view, Pane::Transcript),
        Act::PaneDeploy => focus(view, Pane::Deploy),
        Act::PaneBreakglass => focus(view, Pane::Breakglass),
        Act::NextPane => focus(view, Pane::ALL[(view.focus.index() + 1) % Pane::ALL.len()]),
        Act::PreviousPane => {
            focus(view, Pane::ALL[(view.focus.index() + Pane::ALL.len() - 1) % Pane::ALL.len()]);
        }
        Act::Zoom => view.zoomed = !view.zoomed,
        Act::Inbox => {
            if matches!(view.overlays.last(), Some(Overlay::Inbox(_))) {
                view.overlays.pop();
            } else {
                view.overlays.push(Overlay::Inbox(Inbox::default()));
            }
        }
        Act::Help => {
            let context = view.context();
            view.overlays.push(Overlay::Help { scroll: 0, context });
        }
        Act::Palette => view.overlays.push(Overlay::Palette(Palette::default())),
        Act::Next => step(view, snapshot, 1),
        Act::Previous => step(view, snapshot, -1),
        Act::PageDown => page(view, snapshot, 1),
        Act::PageUp => page(view, snapshot, -1),
        Act::Top => page(view, snapshot, isize::MIN / 1024),
        Act::Bottom => page(view, snapshot, isize::MAX / 1024),
        Act::Open if view.overlays.is_empty() && view.focus == Pane::Breakglass => {
            return breakglass::keys::open(view, snapshot);
        }
        Act::Open => open(view, snapshot),
        Act::Back => {
            if view.overlays.pop().is_none() {
                if view.focus == Pane::Breakglass && view.breakglass.shown.take().is_some() {
                    return Vec::new();
                }
                view.zoomed = false;
                view.transcript.hit = None;
            }
        }
        Act::Approve | Act::ApproveRun | Act::Edit | Act::Deny | Act::Answer => {
            return answer(view, snapshot, act);
        }
        Act::Acknowledge => match view.overlays.last() {
            Some(Overlay::Inbox(state)) => {
                let escalation = inbox::selected(snapshot, state).map(|known| known.id);
                let act = |escalation| Request::Act(Command::Acknowledge { escalation });
                return escalation.map(act).into_iter().collect();
            }
            _ => view.message = Some("what was seen is said in the inbox".into()),
        },
        Act::Steer => match subject(view, snapshot) {
            Some(run) => steer(view, snapshot, run),
            None => view.message = Some("no run is selected".into()),
        },
        Act::Interrupt => match subject(view, snapshot) {
            Some(run) => {
                let question = format!(
                    "Interrupt {run}? Its agent's turn ends; its conversation and worktree stay, \
                     and it waits for what you tell it."
                );
                confirm(view, question, Request::Act(Command::Interrupt { run }));
            }
            None => view.message = Some("no run is selected".into()),
        },
        Act::Attached => view.overlays.push(Overlay::Pager(Pager {
            title: "Who is attached".into(),
            lines: attached(snapshot, view),
            scroll: 0,
            live: Some(attached),
        })),
        Act::Spend => view.overlays.push(Overlay::Pager(Pager {
            title: "What was spent".into(),
            lines: spent(snapshot, view),
            scroll: 0,
            live: Some(spent),
        })),
        Act::Retry => match subject(view, snapshot) {
            Some(run) => {
                let title = format!("Retry {run}: guidance for the agent, or nothing");
                input(view, title, Purpose::Retry(run));
            }
            None => view.message = Some("no run is selected".into()),
        },
        Act::Cancel => match subject(view, snapshot) {
            Some(run) => {
                let question = format!(
                    "Cancel {run}? Its agent is stopped; what it has not pushed is kept as a commit."
                );
                confirm(view, question, Request::Act(Command::Cancel { run }));
            }
            None => view.message = Some("no run is selected".into()),
        },
        Act::KillSwitch => {
            let on = !snapshot.fleet.kill_switch();
            let question = if on {
                "Throw the kill switch? Nothing new is picked up; what runs goes on."
            } else {
                "Lift the kill switch? What is ready is picked up at once."
            };
            confirm(view, question.into(), Request::Act(Command::SetKillSwitch { on }));
        }
        Act::Diff => match subject(view, snapshot) {
            Some(run) => return vec![Request::Diff(run)],
            None => view.message = Some("no run is selected".into()),
        },
        Act::Shell => {
            let run = subject(view, snapshot).and_then(|id| snapshot.fleet.runs.get(&id));
            match run.and_then(|run| run.worktree.clone()) {
                Some(path) => return vec![Request::Shell(path.into())],
                None => view.message = Some("the selected run has no worktree".into()),
            }
        }
        Act::Copy => return copy(view, snapshot).into_iter().collect(),
        Act::Search if view.context() == Context::Terminal => {
            input(view, "Search".into(), Purpose::Search);
        }
        Act::SearchNext | Act::SearchPrevious if view.context() == Context::Terminal => {
            breakglass::keys::search(view, None, act == Act::SearchNext);
        }
        Act::Search => {
            focus(view, Pane::Transcript);
            input(view, "Search".into(), Purpose::Search);
        }
        Act::SearchNext => return search(view, false),
        Act::SearchPrevious => return search(view, true),
        Act::Follow => view.transcript.follow = !view.transcript.follow,
        Act::Fold => view.transcript.unfolded = !view.transcript.unfolded,
        Act::PermitMore | Act::PermitLess => {
            let now = snapshot.fleet.capacity();
            let permits =
                if act == Act::PermitMore { now.saturating_add(1) } else { now.saturating_sub(1) };
            return vec![Request::Act(Command::SetCapacity { permits })];
        }
        Act::Theme => {
            view.theme_at = (view.theme_at + 1) % SHIPPED.len();
            match Theme::load(SHIPPED[view.theme_at], view.ascii, view.colour) {
                Ok(theme) => view.theme = theme,
                Err(error) => view.message = Some(error.to_string()),
            }
        }
        Act::Mouse => {
            view.mouse = !view.mouse;
            view.message = Some(if view.mouse { "mouse on" } else { "mouse off" }.into());
            return vec![Request::Mouse(view.mouse)];
        }
        Act::Redraw => return vec![Request::Redraw],
        Act::Arm
        | Act::Disarm
        | Act::Diagnose
        | Act::CaptureDiff
        | Act::ConsoleLeave
        | Act::ConsoleType
        | Act::ConsoleClose
        | Act::Mark
        | Act::ReplayPause
        | Act::ReplayFaster
        | Act::ReplaySlower => return breakglass::keys::act(view, snapshot, act),
        Act::Quit => return quit(view, snapshot),
    }
    Vec::new()
}

fn spent(snapshot: &Snapshot, _: &View) -> Vec<String> {
    crate::core::query::explain::spend(&snapshot.fleet, snapshot.fleet.last_event)
}

/// Everybody who looks at this fleet, a line each.
fn attached(snapshot: &Snapshot, view: &View) -> Vec<String> {
    let line = |client: &Attached| {
        let role = match client.role {
            CommandRole::Operator => "operator",
            CommandRole::Viewer => "viewer",
        };
        let (columns, rows) = client.size;
        let text = format!(
            "{:<16} {role:<9} {:<20} {columns:>3}x{rows:<3} {:>4}",
            client.actor.0,
            client.origin,
            super::widgets::text::age(view.now, client.since),
        );
        crate::core::model::untrusted::clean_line(&text)
    };
    snapshot.clients.iter().map(line).collect()
}

/// What a message to a run's agent would do, said where it is typed: an ended run goes on with
/// it, and an agent that takes none is not asked.
fn steer(view: &mut View, snapshot: &Snapshot, run: RunId) {
    let Some(known) = snapshot.fleet.runs.get(&run) else { return };
    if !known.live() {
        let title = format!("Send {run} on, in the same conversation");
        return input(view, title, Purpose::Retry(run));
    }
    let steer = known.equipment.as_ref().map(|agent| agent.can.steer);
    match steer {
        Some(Steer::Unsupported) => {
            view.message = Some(format!("the agent of {run} takes no messages"))
        }
        Some(Steer::AfterTurn) => {
            let title = format!("Steer {run}: taken once this turn is over");
            input(view, title, Purpose::Steer(run));
        }
        Some(Steer::MidTurn) | None => {
            input(view, format!("Steer {run}: taken at the next step"), Purpose::Steer(run));
        }
    }
}

pub(super) fn focus(view: &mut View, pane: Pane) {
    // Overlays belong to what was looked at before.
    view.overlays.clear();
    view.focus = pane;
}

fn input(view: &mut View, title: String, purpose: Purpose) {
    view.overlays.push(Overlay::Input(Box::new(Input::new(title, purpose))));
}

fn confirm(view: &mut View, question: String, yes: Request) {
    view.overlays.push(Overlay::Confirm { question, yes: Box::new(yes) });
}

fn quit(view: &mut View, snapshot: &Snapshot) -> Vec<Request> {
    if view.overlays.pop().is_some() {
        return Vec::new();
    }
    if view.detaches {
        return vec![Request::Quit];
    }
    let working: Vec<String> =
        snapshot.fleet.live_runs().filter(|run| run.busy()).map(|run| run.id.to_string()).collect();
    if working.is_empty() {
        return vec![Request::Quit];
    }
    let question =
        format!("Quit? {} stop now and go on at the next start of afk.", working.join(", "));
    confirm(view, question, Request::Quit);
    Vec::new()
}

fn page_height(view: &View, pane: Pane, problems: usize) -> isize {
    let inside = places(view, problems).inside(pane);
    isize::try_from(inside.map_or(10, |area| area.height.max(2)) - 1).unwrap_or(1)
}

pub(super) fn step(view: &mut View, snapshot: &Snapshot, by: isize) {
    match view.overlays.last_mut() {
        Some(Overlay::Inbox(state)) => {
            state.cursor.step(&inbox::rows(snapshot), by);
            state.scroll = 0;
            return;
        }
        Some(Overlay::Help { scroll, .. }) => return scroll_by(scroll, by, 100),
        Some(Overlay::Pager(pager)) => {
            let most = pager.lines.len();
            return scroll_by(&mut pager.scroll, by, most);
        }
        Some(_) => return,
        None => {}
    }
    match view.focus {
        Pane::Queue => {
            let rows = queue::rows(snapshot, &view.theme);
            let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
            view.queue.step(&ids, by);
            // The transcript goes with the selection, where the row has one.
            if let Some(run) = rows.get(view.queue.place(&ids)).and_then(|row| row.run) {
                view.chosen = Some(run);
            }
        }
        Pane::Worktrees => {
            let rows = worktrees::rows(snapshot);
            view.worktrees.step(&rows, by);
            view.chosen = view.worktrees.selected;
        }
        Pane::Deploy => view.deploy.step(&deploy::rows(snapshot), by),
        Pane::Transcript => scroll_transcript(view, by),
        Pane::Breakglass => breakglass::keys::step(view, snapshot, by),
    }
}

fn scroll_transcript(view: &mut View, by: isize) {
    let theme = view.theme.clone();
    if let Err(error) = view.transcript.scroll(by, &theme) {
        view.message = Some(format!("the transcript can't be read: {error}"));
    }
}

fn scroll_by(scroll: &mut usize, by: isize, most: usize) {
    *scroll = scroll.saturating_add_signed(by).min(most);
}

fn page(view: &mut View, snapshot: &Snapshot, by: isize) {
    let height = page_height(view, view.focus, snapshot.problems.len());
    match view.overlays.last_mut() {
        Some(Overlay::Inbox(state)) => {
            return scroll_by(&mut state.scroll, by.saturating_mul(8), 100_000);
        }
        Some(Overlay::Pager(pager)) => {
            let most = pager.lines.len();
            return scroll_by(&mut pager.scroll, by.saturating_mul(height), most);
        }
        Some(_) => return step(view, snapshot, by.saturating_mul(8)),
        None => {}
    }
    if view.focus == Pane::Breakglass {
        return breakglass::keys::page(view, snapshot, by, height);
    }
    if view.focus == Pane::Transcript {
        match by {
            ..=-1024 => view.transcript.show_top(),
            1024.. => view.transcript.follow = true,
            _ => {
                let theme = view.theme.clone();
                if let Err(error) = view.transcript.page(by, &theme) {
                    view.message = Some(format!("the transcript can't be read: {error}"));
                }
            }
        }
        return;
    }
    step(view, snapshot, by.saturating_mul(height));
}

pub(super) fn search(view: &mut View, backwards: bool) -> Vec<Request> {
    let Some(text) = view.search.clone() else {
        view.message = Some("nothing was searched for yet".into());
        return Vec::new();
    };
    view.message = match view.transcript.search(&text, backwards) {
        Ok(true) => None,
        Ok(false) => Some(format!("no more {text:?} that way")),
        Err(error) => Some(format!("the transcript can't be read: {error}")),
    };
    Vec::new()
}

fn open(view: &mut View, snapshot: &Snapshot) {
    if !view.overlays.is_empty() {
        return;
    }
    match view.focus {
        Pane::Queue => {
            let rows = queue::rows(snapshot, &view.theme);
            let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
            if let Some(id) = ids.get(view.queue.place(&ids)) {
                view.overlays.push(Overlay::Pager(explain(snapshot, id)));
            }
        }
        Pane::Deploy => view.overlays.push(Overlay::Pager(Pager {
            title: "Proof".into(),
            lines: deploy::details(snapshot, view),
            scroll: 0,
            live: Some(deploy::details),
        })),
        Pane::Worktrees => {
            if let Some(run) = subject(view, snapshot) {
                view.chosen = Some(run);
                focus(view, Pane::Transcript);
            }
        }
        Pane::Transcript | Pane::Breakglass => {}
    }
}

/// All that is known of a row, to read.
fn explain(snapshot: &Snapshot, id: &queue::RowId) -> Pager {
    let fleet = &snapshot.fleet;
    let (title, lines) = match id {
        queue::RowId::Issue(key) => {
            (key.to_string(), crate::core::query::explain::issue(fleet, key))
        }
        queue::RowId::Job(run) => (run.to_string(), crate::core::query::explain::run(fleet, *run)),
    };
    Pager { title, lines, scroll: 0, live: None }
}

fn answer(view: &mut View, snapshot: &Snapshot, act: Act) -> Vec<Request> {
    let Some(Overlay::Inbox(state)) = view.overlays.last() else {
        view.overlays.push(Overlay::Inbox(Inbox::default()));
        return Vec::new();
    };
    let Some(escalation) = inbox::selected(snapshot, state) else { return Vec::new() };
    let (id, digest, kind) = (escalation.id, escalation.digest, escalation.kind);
    if state.read != Some(id) {
        view.message = Some("read it to its end first: PageDown".into());
        return Vec::new();
    }
    let grant = escalation.grant();
    let editable = escalation.editable().map(crate::core::model::untrusted::Untrusted::clean);
    let means = match act {
        Act::ApproveRun => grant.as_ref().map(Grant::means),
        Act::Edit => editable.as_ref().map(|_| "run another command instead"),
        Act::Approve => kind.approve_means(),
        Act::Deny => kind.deny_means(),
        _ => kind.text_means(),
    };
    let Some(means) = means else {
        view.message = Some(format!("a {} escalation has no such answer", kind.as_str()));
        return Vec::new();
    };
    match act {
        Act::Approve => {
            let yes = Command::Answer { escalation: id, digest, answer: Answer::Approve };
            if kind == EscalationKind::Permission {
                return vec![Request::Act(yes)];
            }
            confirm(view, format!("{id}: {means}?"), Request::Act(yes));
        }
        Act::ApproveRun => {
            let answer = Answer::ApproveRun;
            let yes = Command::Answer { escalation: id, digest, answer };
            confirm(view, format!("{id}: {means}?"), Request::Act(yes));
        }
        Act::Edit => {
            let title = format!("Edit {id}: what the agent runs instead");
            let command = editable.unwrap_or_default();
            let input = Input::with(title, Purpose::Edit(id, digest), &command);
            view.overlays.push(Overlay::Input(Box::new(input)));
        }
        Act::Deny => input(view, format!("Deny {id}: why"), Purpose::Deny(id, digest)),
        _ => input(view, format!("Answer {id}: {means}"), Purpose::Answer(id, digest)),
    }
    Vec::new()
}

fn copy(view: &mut View, snapshot: &Snapshot) -> Option<Request> {
    let text = match view.overlays.last() {
        Some(Overlay::Inbox(state)) => inbox::selected(snapshot, state)?.detail.clean(),
        Some(Overlay::Pager(pager)) => pager.lines.join("\n"),
        _ => match view.focus {
            Pane::Transcript => view.transcript.text(),
            Pane::Breakglass => breakglass::keys::copied(view.breakglass.front()?),
            Pane::Queue => {
                let rows = queue::rows(snapshot, &view.theme);
                let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
                match ids.get(view.queue.place(&ids))? {
                    queue::RowId::Issue(key) => key.to_string(),
                    queue::RowId::Job(run) => run.to_string(),
                }
            }
            _ => {
                let run = snapshot.fleet.runs.get(&subject(view, snapshot)?)?;
                run.worktree.clone()?
            }
        },
    };
    view.message = Some(format!("copied {} characters", text.chars().count()));
    Some(Request::Copy(text))
}
