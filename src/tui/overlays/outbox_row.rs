//! A step of the outbox that failed, as a row of the inbox: its summary, its detail, and what an
//! operator can do about it. The inbox calls it for the rows that are no questions.

use ratatui::text::{Line, Span};

use super::inbox_keys::{APPROVE, CONTEXT, DENY, EDIT};
use crate::core::model::command::Command;
use crate::core::model::id::OutboxId;
use crate::core::model::outbox::{OutboxEntry, OutboxStep};
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::core::query::outbox;
use crate::tui::action::Action;
use crate::tui::component::Scene;
use crate::tui::request::Request;
use crate::tui::response::{Prompt, Response};
use crate::tui::theme::Tone;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, column, fit, wrap};

/// What an operator can do about a step, each with its effect.
pub(super) fn actions(entry: &OutboxEntry) -> impl Iterator<Item = (Action, &'static str)> {
    let edit = matches!(entry.step, OutboxStep::Comment { .. });
    [
        (APPROVE, Some("try it again now")),
        (DENY, Some("skip it: it is not done then")),
        (EDIT, edit.then_some("edit the comment, then try it again")),
    ]
    .into_iter()
    .filter_map(|(action, means)| Some((action, means?)))
}

/// Carries out an action on a step.
pub(super) fn act(action: Action, entry: &OutboxEntry) -> Response {
    let id = entry.id;
    let request = |command| Response::request(Request::Command(command));
    match (action, &entry.step) {
        (APPROVE, _) => request(Command::RetryStep { entry: id }),
        (DENY, step) => Response::confirm(
            format!("Skip {id}?"),
            format!("afk will not {}.", step.summary()),
            Request::Command(Command::SkipStep { entry: id }),
        ),
        (EDIT, OutboxStep::Comment { text, .. }) => {
            let text = Untrusted::new(text.clone()).clean();
            let edit =
                move |text: String| request(Command::EditStep { entry: id, text: text.into() });
            let title = format!("Edit {id}: the comment");
            Response::prompt(Prompt { text, ..Prompt::text(title, edit) })
        }
        _ => Response::message(format!("{id} can be retried and skipped")),
    }
}

/// The row of a step in the list.
pub(super) fn spans(id: OutboxId, width: usize, scene: &Scene<'_>) -> Vec<Span<'static>> {
    let Some(entry) = scene.snapshot.fleet.outbox.get(&id) else { return Vec::new() };
    let (theme, cut) = (scene.theme, scene.theme.marks.cut);
    let subject = entry.step.issue().map_or_else(|| "a notice".to_owned(), ToString::to_string);
    let state = if entry.held { "undelivered" } else { "retrying" };
    let room = width.saturating_sub(1 + 12 + 17 + 5);
    let why = entry.error.as_deref().map(clean_line).unwrap_or_default();
    let text = format!("{}: {why}", entry.step.summary());
    vec![
        piece(format!("{state:<12}"), theme, Tone::Warn),
        piece(format!("{} ", column(&subject, 16, cut)), theme, Tone::Text),
        piece(format!("{:>3}  ", age(scene.now, entry.not_before)), theme, Tone::Dim),
        piece(fit(&text, room, cut), theme, Tone::Text),
    ]
}

/// The detail of a step: its state, the text of a comment, and the effect of each action.
pub(super) fn detail(entry: &OutboxEntry, scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let mut lines = Vec::new();
    let mut add = |text: &str, tone| {
        for part in text.lines().flat_map(|line| wrap(line, width)) {
            lines.push(Line::from(piece(part, theme, tone)));
        }
    };
    add(&outbox::summary(entry), Tone::Title);
    if let OutboxStep::Comment { text, .. } = &entry.step {
        add(&Untrusted::new(text.clone()).revealed(), Tone::Text);
    }
    add(" ", Tone::Text);
    for (action, means) in actions(entry) {
        add(&format!("{:<8} {means}", scene.keymap.key_of(CONTEXT, action)), Tone::Accent);
    }
    lines
}
