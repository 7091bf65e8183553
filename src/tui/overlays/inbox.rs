//! The inbox: every question to a human, readable in full before it can be answered.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::act::Act;
use super::super::keymap::Context;
use super::super::panes::transcript::diff_role;
use super::super::panes::{piece, row};
use super::super::theme::Role;
use super::super::view::{Inbox, View};
use super::super::widgets::list::first_row;
use super::super::widgets::text::{age, column, fit, wrap};
use super::framed;
use crate::core::model::approval::Escalation;
use crate::core::model::id::EscalationId;
use crate::core::model::permission::Grant;
use crate::runtime::Snapshot;

/// The open escalations, most severe and newest first.
#[must_use]
pub fn rows(snapshot: &Snapshot) -> Vec<EscalationId> {
    snapshot.fleet.inbox().iter().map(|e| e.id).collect()
}

/// The selected one.
#[must_use]
pub fn selected<'a>(snapshot: &'a Snapshot, inbox: &Inbox) -> Option<&'a Escalation> {
    let rows = rows(snapshot);
    let id = rows.get(inbox.cursor.place(&rows))?;
    snapshot.fleet.escalations.get(id).map(AsRef::as_ref)
}

/// Where the inbox lies on a screen, its list and its detail.
fn areas(area: Rect, count: usize) -> (Rect, Rect, Rect) {
    let width = if area.width >= 120 { area.width * 3 / 5 } else { area.width };
    let whole = Rect { x: area.right() - width, width, ..area };
    let inner = Rect {
        x: whole.x + 1,
        y: whole.y + 1,
        width: whole.width.saturating_sub(2),
        height: whole.height.saturating_sub(2),
    };
    let list = u16::try_from(count).unwrap_or(u16::MAX).clamp(1, (inner.height / 4).max(1));
    let list = Rect { height: list.min(inner.height), ..inner };
    let rest = inner.height.saturating_sub(list.height + 1);
    let detail = Rect { y: list.bottom() + 1, height: rest, ..inner };
    (whole, list, detail)
}

/// The detail as lines: all that an answer is bound to, and what each answer does.
fn detail(
    escalation: &Escalation,
    snapshot: &Snapshot,
    view: &View,
    width: usize,
) -> Vec<Line<'static>> {
    let theme = &view.theme;
    let mut lines = Vec::new();
    let mut say = |text: &str, role| {
        for part in text.lines().flat_map(|line| wrap(line, width)) {
            lines.push(Line::from(piece(part, theme, role)));
        }
    };
    let subject = escalation.issue.as_ref().map_or_else(String::new, |key| format!(" · {key}"));
    let (id, kind) = (escalation.id, escalation.kind.as_str());
    say(&format!("{id} · {kind} · {}{subject}", escalation.subject()), Role::Title);
    let detail = escalation.detail.clean();
    for line in detail.lines() {
        let role = diff_role(line);
        say(line, if role == Role::Dim { Role::Text } else { role });
        if line.is_empty() {
            say(" ", Role::Text);
        }
    }
    for (at, option) in escalation.options.iter().enumerate() {
        say(&format!("  {}. {}", at + 1, option.clean_line()), Role::Text);
    }
    say(" ", Role::Text);
    let key = |act| view.keymap.key_of(Context::Inbox, act).unwrap_or_default();
    let kind = escalation.kind;
    let grant = escalation.grant();
    for (act, means) in [
        (Act::Approve, kind.approve_means()),
        (Act::ApproveRun, grant.as_ref().map(Grant::means)),
        (Act::Edit, escalation.editable().map(|_| "run another command instead")),
        (Act::Deny, kind.deny_means()),
        (Act::Answer, kind.text_means()),
    ] {
        if let Some(means) = means {
            say(&format!("{:<8} {means}", key(act)), Role::Accent);
        }
    }
    if escalation.acknowledged.is_none() {
        let key = key(Act::Acknowledge);
        say(&format!("{key:<8} seen: it is told no more, and waits for an answer"), Role::Accent);
    }
    let run = escalation.run.and_then(|run| snapshot.fleet.runs.get(&run));
    if let Some(capsule) = run.and_then(|run| run.capsule.as_ref()) {
        let capsule = crate::core::model::untrusted::clean_line(capsule);
        say(&format!("evidence: {capsule} (afk capsule {})", escalation.subject()), Role::Dim);
    }
    match (&escalation.acknowledged, escalation.reminded) {
        (Some((by, at)), _) => {
            say(&format!("seen by {by} {} ago", age(view.now, *at)), Role::Dim);
        }
        (None, 0) => {}
        (None, times) => say(&format!("told again {times} times"), Role::Dim),
    }
    say(&format!("an answer is bound to {}", escalation.digest.short()), Role::Dim);
    lines
}

/// Brings the scroll into its bounds and notes whether the end is on the screen. Told before each
/// frame, since it depends on the size.
pub fn settle(inbox: &mut Inbox, snapshot: &Snapshot, view: &View, area: Rect) {
    let rows = rows(snapshot);
    let Some(escalation) = selected(snapshot, inbox) else { return };
    let (_, _, room) = areas(area, rows.len());
    let lines = detail(escalation, snapshot, view, usize::from(room.width)).len();
    let most = lines.saturating_sub(usize::from(room.height));
    inbox.scroll = inbox.scroll.min(most);
    if inbox.scroll == most {
        inbox.read = Some(escalation.id);
    }
}

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, inbox: &Inbox, snapshot: &Snapshot, view: &View) {
    let theme = &view.theme;
    let rows = rows(snapshot);
    let (whole, list, room) = areas(area, rows.len());
    framed(frame, whole, &format!("Inbox · {} open", rows.len()), theme);
    if rows.is_empty() {
        let line = Line::styled(" nobody asks anything", theme.style(Role::Dim));
        frame.render_widget(Paragraph::new(line), list);
        return;
    }
    let at = inbox.cursor.place(&rows);
    let height = usize::from(list.height);
    let first = first_row(at, rows.len(), height);
    let width = usize::from(list.width);
    let lines: Vec<Line<'_>> = rows
        .iter()
        .enumerate()
        .skip(first)
        .take(height)
        .filter_map(|(place, id)| {
            let escalation = snapshot.fleet.escalations.get(id)?;
            let subject =
                escalation.issue.as_ref().map_or_else(|| escalation.subject(), ToString::to_string);
            let head = format!("{:<12}", escalation.kind.as_str());
            let title = fit(
                &escalation.title.clean_line(),
                width.saturating_sub(1 + 12 + 17 + 5),
                theme.marks.cut,
            );
            let spans = vec![
                piece(head, theme, Role::Warn),
                piece(format!("{} ", column(&subject, 16, theme.marks.cut)), theme, Role::Text),
                piece(format!("{:>3}  ", age(view.now, escalation.raised)), theme, Role::Dim),
                piece(title, theme, Role::Text),
            ];
            Some(row(place == at, true, theme, spans))
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), list);
    let rule =
        Rect { y: list.bottom(), height: 1.min(room.y.saturating_sub(list.bottom())), ..list };
    let line = theme.marks.link.repeat(usize::from(rule.width));
    frame.render_widget(Paragraph::new(Line::styled(line, theme.style(Role::Border))), rule);
    if let Some(escalation) = selected(snapshot, inbox) {
        let lines = detail(escalation, snapshot, view, usize::from(room.width));
        super::scrolled(frame, room, lines, inbox.scroll, theme);
    }
}
