//! A question before something that can't be taken back: `y` is yes, any other key is no.

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use crate::term::key::Key;
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::request::Request;
use crate::tui::response::{Reaction, Response};
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::{centred, framed};
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::wrap;

/// The question, the effect of yes, and the request that yes makes.
#[derive(Debug)]
pub(super) struct ConfirmDialog {
    question: String,
    means: String,
    yes: Request,
}

impl ConfirmDialog {
    pub(super) const fn new(question: String, means: String, yes: Request) -> Self {
        Self { question, means, yes }
    }
}

impl Component for ConfirmDialog {
    fn typed(&mut self, event: &KeyEvent, _: &Scene<'_>) -> Option<Response> {
        let answer = if Key::from(*event).typed() == Some('y') {
            Reaction::Request(self.yes.clone())
        } else {
            Reaction::Message("nothing was changed".into())
        };
        Some(Response::from(Reaction::Close).then(answer))
    }
}

impl Overlay for ConfirmDialog {
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let theme = scene.theme;
        let width = area.width.min(64);
        let lines = wrap(&self.means, usize::from(width.saturating_sub(4)));
        let height = u16::try_from(lines.len() + 4).unwrap_or(u16::MAX);
        let inner = framed(frame, centred(area, width, height), &self.question, theme);
        let text = |line| Line::from(piece(format!(" {line}"), theme, Tone::Text));
        let mut shown: Vec<Line<'_>> = lines.into_iter().map(text).collect();
        shown.push(Line::default());
        shown.push(Line::from(piece(" y Yes  any other key No", theme, Tone::Accent)));
        frame.render_widget(Paragraph::new(shown), inner);
    }
}
