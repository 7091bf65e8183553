//! A question before something that can't be taken back: `y` is yes, any other key is no.

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::term::key::Key;
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::response::{Reaction, Response};
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::{Heading, centred, framed};
use crate::tui::widgets::lines;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::wrap;

/// The question, the effect of yes, and the request that yes makes.
#[derive(Debug)]
pub(super) struct ConfirmDialog {
    question: String,
    means: String,
    yes: Response,
}

impl ConfirmDialog {
    pub(super) const fn new(question: String, means: String, yes: Response) -> Self {
        Self { question, means, yes }
    }
}

impl Component for ConfirmDialog {
    fn typed(&mut self, event: &KeyEvent, _: &Scene<'_>) -> Option<Response> {
        let close = Response::from(Reaction::Close);
        Some(if Key::from(*event).typed() == Some('y') {
            close.followed_by(std::mem::take(&mut self.yes))
        } else {
            close.then(Reaction::Message("nothing was changed".into()))
        })
    }

    /// No line of a pasted text is an answer.
    fn paste(&mut self, _: &str) -> Response {
        Response::message("a paste answers nothing here")
    }
}

impl Overlay for ConfirmDialog {
    fn is_input(&self) -> bool {
        true
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let theme = scene.theme;
        let width = area.width.min(64);
        let room = usize::from(width.saturating_sub(4));
        let heading = Heading::of(&self.question, room, theme);
        let lines = wrap(&self.means, room);
        let height = u16::try_from(heading.lines.len() + lines.len() + 4).unwrap_or(u16::MAX);
        let inner = framed(frame, centred(area, width, height), &heading.title, theme);
        let text = |line| Line::from(piece(format!(" {line}"), theme, Tone::Text));
        let mut shown = heading.lines;
        shown.extend(lines.into_iter().map(text));
        shown.push(Line::default());
        shown.push(Line::from(piece(" y Yes  any other key No", theme, Tone::Accent)));
        lines::draw(frame, inner, shown);
    }
}
