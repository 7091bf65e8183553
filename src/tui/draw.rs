//! From a snapshot and a view to a picture: pure, so that one test of a picture serves every
//! kind of client.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::act::Act;
use super::keymap::Context;
use super::overlays;
use super::panes::breakglass::terminal::{Behind, Terminal};
use super::panes::{Pane, breakglass, deploy, piece, queue, worktrees};
use super::theme::Role;
use super::view::{Overlay, View};
use super::widgets::text::{fit, width as columns};
use crate::core::model::time::Timestamp;
use crate::runtime::Snapshot;

/// The least size that is drawn.
pub const LEAST: (u16, u16) = (40, 10);

/// Which panes are shown, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Each shown pane with its frame.
    pub panes: Vec<(Pane, Rect)>,
    /// The line that names all panes, where not all are shown.
    pub tabs: Option<Rect>,
    /// All that is not header, problems or footer.
    pub body: Rect,
}

impl Places {
    /// The inside of a pane, if it is shown.
    #[must_use]
    pub fn inside(&self, pane: Pane) -> Option<Rect> {
        let (_, area) = self.panes.iter().find(|(shown, _)| *shown == pane)?;
        Some(Block::bordered().inner(*area))
    }
}

/// Lays a screen out: 80x24 has one pane and a tab line, a wide one two, 200x50 all.
#[must_use]
pub fn places(view: &View, problems: usize) -> Places {
    let area = Rect::new(0, 0, view.width, view.height);
    let problems = u16::try_from(problems).unwrap_or(3).min(3);
    let [_, _, body, _] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(problems),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    let all = body.width >= 140 && body.height >= 32;
    let terminal = view.focus == Pane::Breakglass && view.breakglass.shown.is_some();
    let zoomed = view.zoomed || terminal;
    if zoomed || !all {
        let [tabs, rest] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(body);
        let two = !zoomed && rest.width >= 110 && rest.height >= 16;
        let panes = if two {
            let other = if view.focus == Pane::Queue { Pane::Transcript } else { Pane::Queue };
            let (left, right) =
                if view.focus == Pane::Queue { (Pane::Queue, other) } else { (other, view.focus) };
            let [a, b] =
                Layout::horizontal([Constraint::Percentage(45), Constraint::Fill(1)]).areas(rest);
            vec![(left, a), (right, b)]
        } else {
            vec![(view.focus, rest)]
        };
        return Places { panes, tabs: Some(tabs), body };
    }
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(46), Constraint::Fill(1)]).areas(body);
    let [a, b, c] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(8), Constraint::Length(8)])
            .areas(left);
    let [d, e] = Layout::vertical([Constraint::Fill(1), Constraint::Length(8)]).areas(right);
    let panes = vec![
        (Pane::Queue, a),
        (Pane::Worktrees, b),
        (Pane::Transcript, d),
        (Pane::Deploy, c),
        (Pane::Breakglass, e),
    ];
    Places { panes, tabs: None, body }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, view: &View) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text =
            format!("afk needs {}x{}, this is {}x{}", LEAST.0, LEAST.1, area.width, area.height);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let places = places(view, snapshot.problems.len());
    header(frame, Rect { height: 1, ..area }, snapshot, view);
    problems(frame, area, snapshot, view);
    if let Some(tabs) = places.tabs {
        tab_line(frame, tabs, view);
    }
    for (pane, area) in &places.panes {
        draw_pane(frame, *area, *pane, snapshot, view);
    }
    for overlay in &view.overlays {
        match overlay {
            Overlay::Inbox(inbox) => {
                overlays::inbox::draw(frame, places.body, inbox, snapshot, view);
            }
            Overlay::Help { scroll, context } => {
                overlays::help::draw(frame, places.body, *scroll, *context, view);
            }
            Overlay::Palette(palette) => overlays::palette::draw(frame, places.body, palette, view),
            Overlay::Confirm { question, .. } => {
                overlays::simple::confirm(frame, places.body, question, view);
            }
            Overlay::Input(input) => overlays::simple::input(frame, places.body, input, view),
            Overlay::Pager(pager) => overlays::simple::pager(frame, places.body, pager, view),
        }
    }
    footer(frame, Rect { y: area.bottom() - 1, height: 1, ..area }, snapshot, view);
}

/// The header, in the longest of three forms that fits: nothing in it is ever cut.
fn header(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, view: &View) {
    let theme = &view.theme;
    let fleet = &snapshot.fleet;
    let inbox = fleet.inbox().len();
    let (used, all, waiting) = (fleet.permits_used(), fleet.capacity(), fleet.queue.len());
    let (spent, clock) = (fleet.books.day(fleet.last_event).summary(), time_of_day(view.now));
    let killed = fleet.kill_switch();
    let paused = fleet.breaker.open().is_some();
    let (live, short) = link(view);
    let several = match snapshot.clients.len() {
        0 | 1 => String::new(),
        count => format!("  {count} attached"),
    };
    let state = |armed: &'static str, off: &'static str| match (killed, paused) {
        (true, _) if fleet.draining => " DRAINING ",
        (true, _) => off,
        (false, true) => " PAUSED ",
        (false, false) => armed,
    };
    let forms: [[String; 4]; 3] = [
        [
            format!(" afk {} ", view.host),
            format!("{} permits {used}/{all}  queue {waiting} ", state(" ARMED ", " KILL SWITCH ")),
            format!(" inbox {inbox} "),
            format!(" {spent} today{several}  {live}  {clock} "),
        ],
        [
            " afk ".into(),
            format!("{} {used}/{all}  queue {waiting} ", state(" ARMED ", " KILL SWITCH ")),
            format!(" inbox {inbox} "),
            format!(" {spent}  {live}  {clock} "),
        ],
        [
            " ".into(),
            format!("{} {used}/{all} q{waiting} ", state("ARMED", "KILLED")),
            format!(" !{inbox} "),
            format!(" {spent} {short}{clock} "),
        ],
    ];
    let width = usize::from(area.width);
    let size = |form: &[String; 4]| form.iter().map(|part| columns(part)).sum::<usize>();
    let [_, _, least] = &forms;
    let form = forms.iter().find(|form| size(form) <= width).unwrap_or(least);
    let [host, standing, asked, tail] = form;
    let gap = " ".repeat(width.saturating_sub(size(form)));
    let alarm = |on| if on { Role::Alarm } else { Role::Header };
    let line = Line::from(vec![
        piece(host.clone(), theme, Role::Header),
        piece(standing.clone(), theme, alarm(killed || paused)),
        piece(asked.clone(), theme, alarm(inbox > 0)),
        piece(gap, theme, Role::Header),
        piece(tail.clone(), theme, alarm(view.lost.is_some())),
    ]);
    frame.render_widget(Paragraph::new(line), area);
}

/// Whether what is shown is fresh: `live`, or how old it is; and the same in few columns.
fn link(view: &View) -> (String, String) {
    match &view.lost {
        None if view.slow => ("slow link".into(), "slow ".into()),
        None => ("live".into(), String::new()),
        Some((since, _)) => {
            let old = super::widgets::text::age(view.now, *since);
            (format!("LOST, {old} old"), "LOST ".into())
        }
    }
}

/// Hours and minutes of this machine; the session draws anew when the minute changes.
#[must_use]
pub fn time_of_day(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(
        |_| String::new(),
        |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M").to_string(),
    )
}

fn problems(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, view: &View) {
    let cut = view.theme.marks.cut;
    let shown = snapshot.problems.iter().take(3).enumerate();
    let more = snapshot.problems.len().saturating_sub(3);
    for (at, problem) in shown {
        let more = if at == 2 && more > 0 { format!(" (and {more} more)") } else { String::new() };
        let room = usize::from(area.width).saturating_sub(2 + more.len());
        let text = format!(" {}{more} ", fit(problem, room, cut));
        let y = area.y + 1 + u16::try_from(at).unwrap_or(0);
        let spot = Rect { y, height: 1, ..area };
        let line = Line::styled(text, view.theme.style(Role::Alarm));
        frame.render_widget(Paragraph::new(line), spot);
    }
}

/// The names of all panes, in the longest of three forms that fits: whole, short, or the number
/// alone but for the one that has the keys.
fn tab_line(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let theme = &view.theme;
    let forms: [fn(Pane, bool) -> &'static str; 3] = [
        |pane, _| pane.title(),
        |pane, _| pane.short(),
        |pane, focused| {
            if focused { pane.short() } else { "" }
        },
    ];
    let tabs = |form: fn(Pane, bool) -> &'static str| {
        let tab = |(at, pane): (usize, &Pane)| {
            let focused = *pane == view.focus;
            let mark = if focused { ">" } else { " " };
            let name = form(*pane, focused);
            let gap = if name.is_empty() { "" } else { " " };
            (format!("{mark}{}{gap}{name} ", at + 1), focused)
        };
        Pane::ALL.iter().enumerate().map(tab).collect::<Vec<_>>()
    };
    let size = |tabs: &[(String, bool)]| tabs.iter().map(|(tab, _)| columns(tab)).sum::<usize>();
    let [_, _, least] = forms;
    let width = usize::from(area.width);
    let fitting = forms.into_iter().map(tabs).find(|tabs| size(tabs) <= width);
    let spans: Vec<Span<'_>> = fitting
        .unwrap_or_else(|| tabs(least))
        .into_iter()
        .map(|(tab, focused)| piece(tab, theme, if focused { Role::Selection } else { Role::Dim }))
        .collect();
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn draw_pane(frame: &mut Frame<'_>, area: Rect, pane: Pane, snapshot: &Snapshot, view: &View) {
    let theme = &view.theme;
    let focused = view.focus == pane;
    let border = if focused { Role::BorderFocus } else { Role::Border };
    let title = pane_title(pane, snapshot, view, usize::from(area.width).saturating_sub(4));
    let block = Block::new()
        .borders(Borders::ALL)
        .border_style(theme.style(border))
        .title(Line::styled(title, theme.style(if focused { Role::Title } else { Role::Dim })));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    if let (Pane::Breakglass, true, Some(shown)) = (pane, focused, view.breakglass.front()) {
        return terminal(frame, inner, shown, view);
    }
    let lines = match pane {
        Pane::Queue => queue::lines(snapshot, view, focused, width, height),
        Pane::Worktrees => worktrees::lines(snapshot, view, focused, width, height),
        Pane::Transcript if view.transcript.lines().is_empty() => {
            super::panes::empty("no run yet: its transcript comes here", theme)
        }
        Pane::Transcript => view.transcript.lines().to_vec(),
        Pane::Deploy => deploy::lines(snapshot, view, focused, width, height),
        Pane::Breakglass => breakglass::lines(snapshot, view, focused, width, height),
    };
    frame.render_widget(Paragraph::new(lines), inner);
}

/// A terminal of breakglass: what is on it, its cursor, and why it is over.
fn terminal(frame: &mut Frame<'_>, area: Rect, shown: &Terminal, view: &View) {
    let marked = shown.mark.map_or(shown.row, |mark| mark);
    let looks = !shown.typing() && matches!(shown.behind, Behind::Shell { .. });
    let marked = looks.then_some((marked, shown.row));
    shown.emulator.paint(frame.buffer_mut(), area, view.colour, marked);
    if shown.typing()
        && view.overlays.is_empty()
        && let Some(cursor) = shown.emulator.cursor(area)
    {
        frame.set_cursor_position(cursor);
    }
    if let Behind::Shell { ended: Some(end), .. } = &shown.behind {
        let key = view.keymap.key_of(Context::Terminal, Act::ConsoleType).unwrap_or_default();
        let text = format!(" {}; {key} connects again ", end.why.clean_line());
        let text = fit(&text, usize::from(area.width), view.theme.marks.cut);
        let spot = Rect { y: area.bottom().saturating_sub(1), height: 1, ..area };
        let line = Line::styled(text, view.theme.style(Role::Alarm));
        frame.render_widget(Paragraph::new(line), spot);
    }
}

fn pane_title(pane: Pane, snapshot: &Snapshot, view: &View, room: usize) -> String {
    let key = pane.index() + 1;
    let name = pane.title();
    let text = match pane {
        Pane::Transcript => match view.run(snapshot).and_then(|id| snapshot.fleet.runs.get(&id)) {
            Some(run) => {
                let subject = run
                    .work
                    .issue()
                    .map_or_else(|| run.work.repo().to_string(), ToString::to_string);
                let how = if view.transcript.follow {
                    "follows".to_owned()
                } else {
                    format!("{} of {}", view.transcript.at() + 1, view.transcript.len())
                };
                let standing = match run.outcome {
                    Some(outcome) => outcome.as_str().to_owned(),
                    None => {
                        format!("{} · {}", run.phase.as_str(), run.doing(snapshot.fleet.last_event))
                    }
                };
                format!(
                    " {key} {name} · {} {subject} · {standing} · {} · {how} ",
                    run.id,
                    run.spend.summary()
                )
            }
            None => format!(" {key} {name} "),
        },
        Pane::Queue => format!(" {key} {name} · {} issues ", snapshot.fleet.issues.len()),
        Pane::Breakglass if view.focus == pane && view.breakglass.front().is_some() => {
            let leave = view.keymap.key_of(Context::Console, Act::ConsoleLeave).unwrap_or_default();
            let title = view.breakglass.front().map(|shown| shown.title(&leave));
            format!(" {key} {} ", title.unwrap_or_default())
        }
        _ => format!(" {key} {name} "),
    };
    fit(&text, room, view.theme.marks.cut)
}

/// The last answer, or the chord that is not finished, or the keys that are most wanted here.
fn footer(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, view: &View) {
    let theme = &view.theme;
    let width = usize::from(area.width);
    let cut = theme.marks.cut;
    if let Some(message) = &view.message {
        let text = fit(&format!(" {message}"), width, cut);
        let line = Line::styled(text, theme.style(Role::Warn));
        frame.render_widget(Paragraph::new(line), area);
        return;
    }
    let context = view.context();
    if !view.pending.is_empty() {
        let typed: Vec<String> = view.pending.iter().map(ToString::to_string).collect();
        let mut text = format!(" {}", typed.join(" "));
        for binding in view.keymap.active(context) {
            if binding.on.starts_with(&view.pending) {
                let next = binding.on.get(view.pending.len()).map(ToString::to_string);
                text.push_str(&format!("   {} {}", next.unwrap_or_default(), binding.desc));
            }
        }
        let line = Line::styled(fit(&text, width, cut), theme.style(Role::Accent));
        frame.render_widget(Paragraph::new(line), area);
        return;
    }
    let mut spans = Vec::new();
    let mut used = 0;
    for act in wanted(snapshot, view) {
        let Some(binding) = view.keymap.active(context).find(|b| b.run == act) else { continue };
        let (key, desc) = (binding.keys(), &binding.desc);
        let size = 3 + columns(&key) + columns(desc);
        if used + size > width {
            break;
        }
        used += size;
        spans.push(piece(format!(" {key}"), theme, Role::Accent));
        spans.push(piece(format!(" {desc} "), theme, Role::Dim));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

/// The actions that the footer offers here; in the inbox only answers that the question takes.
fn wanted(snapshot: &Snapshot, view: &View) -> Vec<Act> {
    use Act::{
        Answer, Approve, Arm, Back, Cancel, CaptureDiff, ConsoleClose, ConsoleLeave, ConsoleType,
        Copy, Deny, Diff, Disarm, Fold, Follow, Help, Inbox, KillSwitch, Mark, Open, PageDown,
        Palette, Quit, ReplayFaster, ReplayPause, ReplaySlower, Retry, Search, Steer, Zoom,
    };
    match (view.overlays.last(), view.context()) {
        (Some(Overlay::Inbox(state)), _) => {
            let kind = overlays::inbox::selected(snapshot, state).map(|e| e.kind);
            let takes = |act, means: Option<_>| means.map(|_: &str| act);
            let answers = kind.into_iter().flat_map(|kind| {
                [
                    takes(Approve, kind.approve_means()),
                    takes(Deny, kind.deny_means()),
                    takes(Answer, kind.text_means()),
                ]
            });
            answers.flatten().chain([PageDown, Back, Help]).collect()
        }
        (Some(_), _) => vec![Back],
        (None, Context::Transcript) => {
            vec![Help, Follow, Fold, Search, Steer, Inbox, Zoom, Diff, Quit]
        }
        (None, Context::Console) => vec![ConsoleLeave],
        (None, Context::Terminal) => match view.breakglass.front().map(|shown| &shown.behind) {
            Some(Behind::Replay(_)) => {
                vec![Help, ReplayPause, ReplayFaster, ReplaySlower, Search, ConsoleClose, Back]
            }
            _ => vec![Help, ConsoleType, Back, Search, Mark, Copy, ConsoleClose],
        },
        (None, Context::Breakglass) => {
            vec![Help, Arm, Open, Inbox, Disarm, CaptureDiff, Zoom, Quit]
        }
        (None, _) => {
            vec![Help, Inbox, Open, Steer, Retry, Cancel, KillSwitch, Zoom, Palette, Quit]
        }
    }
}
