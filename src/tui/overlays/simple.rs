//! A question, a text being typed, a text to read.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::panes::piece;
use super::super::panes::transcript::diff_role;
use super::super::theme::Role;
use super::super::view::{Input, Pager, Purpose, View};
use super::super::widgets::text::wrap;
use super::{centred, framed, scrolled};

/// A question that is answered by `y` or anything else.
pub fn confirm(frame: &mut Frame<'_>, area: Rect, question: &str, view: &View) {
    let theme = &view.theme;
    let width = area.width.min(64);
    let lines = wrap(question, usize::from(width.saturating_sub(4)));
    let height = u16::try_from(lines.len() + 4).unwrap_or(u16::MAX);
    let inner = framed(frame, centred(area, width, height), "Sure?", theme);
    let mut shown: Vec<Line<'_>> =
        lines.into_iter().map(|l| Line::from(piece(format!(" {l}"), theme, Role::Text))).collect();
    shown.push(Line::default());
    shown.push(Line::from(piece(" y yes    any other key no", theme, Role::Accent)));
    frame.render_widget(Paragraph::new(shown), inner);
}

/// A text being typed.
pub fn input(frame: &mut Frame<'_>, area: Rect, input: &Input, view: &View) {
    let theme = &view.theme;
    let (one_line, help) = match input.purpose {
        Purpose::Search => (true, "<Enter> search   <Esc> back"),
        Purpose::Verb(..) | Purpose::Trust(_) => (true, "<Enter> do it   <Esc> back"),
        Purpose::Arm { .. } => (true, "<Enter> arm   <Esc> back"),
        _ => (false, "<Enter> send   <A-Enter> new line   <Esc> back"),
    };
    let width = area.width.min(72).saturating_sub(2);
    let about: Vec<Line<'_>> = input
        .about
        .iter()
        .flat_map(|line| wrap(line, usize::from(width)))
        .map(|part| Line::from(piece(part, theme, Role::Text)))
        .collect();
    let above = u16::try_from(about.len()).unwrap_or(0);
    let height = above + if one_line { 4 } else { 9 };
    let inner = framed(frame, centred(area, 72, height), &input.title, theme);
    let above = above.min(inner.height.saturating_sub(2));
    frame.render_widget(Paragraph::new(about), Rect { height: above, ..inner });
    let rest = inner.height.saturating_sub(above);
    let text = Rect { y: inner.y + above, height: rest.saturating_sub(1), ..inner };
    frame.render_widget(&input.area, text);
    let below = Rect { y: inner.bottom().saturating_sub(1), height: 1.min(inner.height), ..inner };
    frame.render_widget(Paragraph::new(Line::from(piece(help, theme, Role::Dim))), below);
}

/// A text to read.
pub fn pager(frame: &mut Frame<'_>, area: Rect, pager: &Pager, view: &View) {
    let theme = &view.theme;
    let inner = framed(frame, area, &pager.title, theme);
    let lines = pager_lines(pager, view, usize::from(inner.width));
    scrolled(frame, inner, lines, pager.scroll, theme);
}

/// The lines of a pager at a width.
#[must_use]
pub fn pager_lines(pager: &Pager, view: &View, width: usize) -> Vec<Line<'static>> {
    pager
        .lines
        .iter()
        .flat_map(|line| wrap(line, width).into_iter().map(move |part| (diff_role(line), part)))
        .map(|(role, part)| {
            let role = if role == Role::Dim { Role::Text } else { role };
            Line::from(piece(part, &view.theme, role))
        })
        .collect()
}
