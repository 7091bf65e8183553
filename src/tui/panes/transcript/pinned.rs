//! The lines that stay in place beside a transcript: the agent's plan above it, and the tools that run
//! below it.

use ratatui::text::{Line, Span};

use super::index::{Index, ToolUse};
use crate::core::model::agent_event::PlanItem;
use crate::core::model::time::Timestamp;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, fit, width as columns};

/// Lines of a plan at most.
const PLAN: usize = 5;
/// Running tools that are named at most.
const TOOLS: usize = 3;
/// The height of a pane below which nothing is pinned.
const LEAST: usize = 10;

/// The plan in the lines that there is room for: the item that is next, and those around it.
pub(super) fn plan(
    index: &Index,
    width: usize,
    height: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let items = index.plan();
    if items.is_empty() || height < LEAST {
        return Vec::new();
    }
    let done = items.iter().filter(|item| item.done).count();
    let rows = (height / 6).clamp(1, PLAN);
    let next = items.iter().position(|item| !item.done);
    let mut head = format!(" Plan {done}/{} ", items.len());
    // A plan that is done needs no place.
    let Some(next) = next else { return Vec::new() };
    if rows == 1 {
        head.push_str(&format!("{} {}", theme.marks.dot, items[next].text.clean_line()));
        return vec![ruled(&head, width, theme)];
    }
    let rows = rows.min(items.len());
    let first = next.saturating_sub(1).min(items.len() - rows);
    let item = |(at, item): (usize, &PlanItem)| {
        let (mark, tone) = if item.done {
            (theme.marks.done, Tone::Good)
        } else if at == next {
            (theme.marks.busy, Tone::Busy)
        } else {
            (theme.marks.open, Tone::Dim)
        };
        let text = fit(&item.text.clean_line(), width.saturating_sub(3), theme.marks.cut);
        let role = if at == next { Tone::Title } else { Tone::Dim };
        Line::from(vec![piece(format!(" {mark} "), theme, tone), piece(text, theme, role)])
    };
    let shown = items.iter().enumerate().skip(first).take(rows).map(item);
    let rule = Line::from(piece(theme.marks.link.repeat(width), theme, Tone::Border));
    std::iter::once(ruled(&head, width, theme)).chain(shown).chain([rule]).collect()
}

/// A text with a rule behind it.
fn ruled(text: &str, width: usize, theme: &Theme) -> Line<'static> {
    let text = fit(text, width, theme.marks.cut);
    let rest = width.saturating_sub(columns(&text));
    let rule: Span<'static> = piece(theme.marks.link.repeat(rest), theme, Tone::Border);
    Line::from(vec![piece(text, theme, Tone::Title), rule])
}

/// The tools that run beside the one of the newest record, with the time since their start.
pub(super) fn running(
    index: &Index,
    newest: Option<usize>,
    now: Timestamp,
    (width, height): (usize, usize),
    theme: &Theme,
) -> Vec<Line<'static>> {
    if height < LEAST {
        return Vec::new();
    }
    let tools: Vec<_> = index.running(newest).collect();
    let line = |tool: &&ToolUse| {
        let text = format!("{} {} {}", tool.title, theme.marks.dot, age(now, tool.since));
        Line::from(vec![
            piece(format!("{} ", theme.marks.busy), theme, Tone::Busy),
            piece(fit(&text, width.saturating_sub(2), theme.marks.cut), theme, Tone::Text),
        ])
    };
    let last = tools.len().saturating_sub(TOOLS);
    tools[last..].iter().map(line).collect()
}
